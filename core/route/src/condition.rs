//! What is left to ask once host and path have been looked up.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use naru_base::Fraction;
use naru_spec::{HeaderMatch, HeaderTest, Invalid, Match, NameMatch, StringMatch, ValueTest};
use regex::bytes::Regex;

use crate::re2::Expressions;
use crate::{ClaimTest, Field, Subject};

/// One thing that must hold. Small, because there is one for each rule and more.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Grpc,
    Fraction(Fraction),
    Scheme(Box<Text>),
    Method(Box<Text>),
    Authority(Box<Text>),
    Sources(Box<Nets>),
    Header(Box<HeaderCheck>),
    Query(Box<NameCheck>),
    Cookie(Box<NameCheck>),
    PathRegex(Box<Regex>),
    Claim(Box<ClaimTest>),
}

/// A test of one text.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    kind: TextKind,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum TextKind {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
}

#[derive(Clone, Debug)]
pub(crate) struct HeaderCheck {
    name: HeaderName,
    test: HeaderKind,
    invert: bool,
    missing_as_empty: bool,
}

#[derive(Clone, Debug)]
enum HeaderKind {
    Present(bool),
    Value(Text),
    Range { start: i64, end: i64 },
}

#[derive(Clone, Debug)]
pub(crate) struct NameCheck {
    name: Box<str>,
    test: Option<Text>,
    invert: bool,
}

/// Compiles everything that a block says besides its path: the cheap first, the fraction last.
pub(crate) fn compile(
    block: &Match,
    expressions: &mut Expressions,
    problems: &mut Vec<Invalid>,
) -> Vec<Condition> {
    let mut list = Vec::new();
    let mut push = |condition: Result<Condition, Invalid>| match condition {
        Ok(condition) => list.push(condition),
        Err(invalid) => problems.push(invalid),
    };
    if let Some(test) = &block.method {
        push(Text::compile(test, expressions).map(Condition::Method));
    }
    if let Some(test) = &block.scheme {
        push(Text::compile(test, expressions).map(Condition::Scheme));
    }
    if block.grpc {
        push(Ok(Condition::Grpc));
    }
    if let Some(test) = &block.authority {
        push(Text::compile(test, expressions).map(Condition::Authority));
    }
    if !block.sources.is_empty() {
        push(Ok(Condition::Sources(Box::new(Nets::compile(&block.sources)))));
    }
    for header in &block.headers {
        push(HeaderCheck::compile(header, expressions).map(Condition::Header));
    }
    for query in &block.query {
        push(NameCheck::compile(query, expressions).map(Condition::Query));
    }
    for cookie in &block.cookies {
        push(NameCheck::compile(cookie, expressions).map(Condition::Cookie));
    }
    for claim in &block.claims {
        match ClaimTest::compile(claim) {
            Ok(test) => list.push(Condition::Claim(Box::new(test))),
            Err(found) => problems.extend(found),
        }
    }
    list.sort_by_key(Condition::is_costly);
    if let Some(fraction) = block.fraction {
        list.push(Condition::Fraction(fraction));
    }
    list
}

/// A property of a request whose exact value can tell rules apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Method,
    Header(Box<str>),
    Query(Box<str>),
    Cookie(Box<str>),
}

impl Condition {
    /// Whether it is about fields of the request or about chance.
    pub(crate) fn is_of_more(&self) -> bool {
        match self {
            Condition::Grpc
            | Condition::Fraction(_)
            | Condition::Header(_)
            | Condition::Cookie(_)
            | Condition::Claim(_) => true,
            Condition::Scheme(_)
            | Condition::Method(_)
            | Condition::Authority(_)
            | Condition::Sources(_)
            | Condition::Query(_)
            | Condition::PathRegex(_) => false,
        }
    }

    /// The property and the value, where the condition asks for one exact value and nothing else.
    pub(crate) fn key(&self) -> Option<(Key, &[u8])> {
        match self {
            Condition::Method(text) => Some((Key::Method, text.exact()?)),
            Condition::Header(check) if !check.invert => {
                let HeaderKind::Value(text) = &check.test else { return None };
                let value = text.exact()?;
                // An absent header that counts as empty is found by no value.
                let is_about_absence = check.missing_as_empty && value.is_empty();
                (!is_about_absence).then(|| (Key::Header(check.name.as_str().into()), value))
            }
            Condition::Query(check) => Some((Key::Query(check.name.clone()), check.exact()?)),
            Condition::Cookie(check) => Some((Key::Cookie(check.name.clone()), check.exact()?)),
            _ => None,
        }
    }

    /// Whether it is asked after a regular expression for the path: another one, or the draw.
    pub(crate) fn is_costly(&self) -> bool {
        match self {
            Condition::Fraction(_) => true,
            Condition::Method(text) | Condition::Scheme(text) | Condition::Authority(text) => text.is_regex(),
            Condition::Header(check) => matches!(&check.test, HeaderKind::Value(text) if text.is_regex()),
            Condition::Query(check) | Condition::Cookie(check) => {
                check.test.as_ref().is_some_and(Text::is_regex)
            }
            Condition::Claim(_) => true,
            Condition::Sources(_) | Condition::Grpc | Condition::PathRegex(_) => false,
        }
    }

    #[inline]
    pub(crate) fn holds(&self, subject: &Subject<'_>) -> bool {
        match self {
            Condition::Method(text) => text.holds(subject.method.as_str().as_bytes()),
            Condition::Header(check) => check.holds(subject.headers),
            Condition::Scheme(text) => text.holds(subject.scheme.as_str().as_bytes()),
            Condition::Authority(text) => text.holds(subject.authority.as_bytes()),
            Condition::Query(check) => check.holds(query_value(subject.query, check.name.as_bytes())),
            Condition::Cookie(check) => check.holds(cookie_value(subject.headers, check.name.as_bytes())),
            Condition::Sources(nets) => nets.contain(subject.source),
            Condition::Grpc => is_grpc(subject.headers),
            Condition::PathRegex(regex) => regex.is_match(subject.path.as_bytes()),
            Condition::Claim(test) => test.holds(subject.claims),
            Condition::Fraction(fraction) => fraction.takes(subject.fraction_draw()),
        }
    }

    pub(crate) fn field(&self) -> Field {
        match self {
            Condition::Method(_) => Field::Method,
            Condition::Header(_) => Field::Header,
            Condition::Scheme(_) => Field::Scheme,
            Condition::Authority(_) => Field::Authority,
            Condition::Query(_) => Field::Query,
            Condition::Cookie(_) => Field::Cookie,
            Condition::Sources(_) => Field::Source,
            Condition::Grpc => Field::Grpc,
            Condition::PathRegex(_) => Field::Path,
            Condition::Claim(_) => Field::Claim,
            Condition::Fraction(_) => Field::Fraction,
        }
    }
}

impl Text {
    pub(crate) fn compile(spec: &StringMatch, expressions: &mut Expressions) -> Result<Box<Text>, Invalid> {
        let bytes = |text: &str| -> Box<[u8]> { text.as_bytes().into() };
        let kind = match &spec.test {
            ValueTest::Exact(text) => TextKind::Exact(bytes(text)),
            ValueTest::Prefix(text) => TextKind::Prefix(bytes(text)),
            ValueTest::Suffix(text) => TextKind::Suffix(bytes(text)),
            ValueTest::Contains(text) => TextKind::Contains(bytes(text)),
            ValueTest::Regex(pattern) => TextKind::Regex(expressions.whole(pattern)?),
        };
        Ok(Box::new(Text { kind, ignore_case: spec.ignore_case }))
    }

    fn exact(&self) -> Option<&[u8]> {
        match &self.kind {
            TextKind::Exact(value) if !self.ignore_case => Some(value),
            _ => None,
        }
    }

    fn is_regex(&self) -> bool {
        matches!(self.kind, TextKind::Regex(_))
    }

    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        let equal = |part: Option<&[u8]>, expected: &[u8]| {
            part.is_some_and(|part| {
                if self.ignore_case { part.eq_ignore_ascii_case(expected) } else { part == expected }
            })
        };
        match &self.kind {
            TextKind::Exact(expected) => equal(Some(value), expected),
            TextKind::Prefix(expected) => equal(value.get(..expected.len()), expected),
            TextKind::Suffix(expected) => {
                equal(value.len().checked_sub(expected.len()).map(|at| &value[at..]), expected)
            }
            TextKind::Contains(expected) => {
                expected.is_empty() || value.windows(expected.len()).any(|part| equal(Some(part), expected))
            }
            TextKind::Regex(regex) => regex.is_match(value),
        }
    }
}

impl HeaderCheck {
    fn compile(spec: &HeaderMatch, expressions: &mut Expressions) -> Result<Box<HeaderCheck>, Invalid> {
        let test = match &spec.test {
            HeaderTest::Present(present) => HeaderKind::Present(*present),
            HeaderTest::Value(test) => HeaderKind::Value(*Text::compile(test, expressions)?),
            HeaderTest::Range { start, end } => HeaderKind::Range { start: *start, end: *end },
        };
        Ok(Box::new(HeaderCheck {
            name: spec.name.clone(),
            test,
            invert: spec.invert,
            missing_as_empty: spec.missing_as_empty,
        }))
    }

    fn holds(&self, headers: &HeaderMap) -> bool {
        if let HeaderKind::Present(present) = self.test {
            let is_present = self.missing_as_empty || headers.contains_key(&self.name);
            return (is_present == present) != self.invert;
        }
        let value = match header_value(headers, &self.name) {
            Some(value) => value,
            None if self.missing_as_empty => Cow::Borrowed(&[][..]),
            None => return false,
        };
        let holds = match &self.test {
            HeaderKind::Value(text) => text.holds(&value),
            HeaderKind::Range { start, end } => {
                decimal(&value).is_some_and(|number| (*start..*end).contains(&number))
            }
            HeaderKind::Present(_) => true,
        };
        holds != self.invert
    }
}

/// Tests of headers for those who ask about messages, not about rules.
#[derive(Clone, Debug, Default)]
pub struct HeaderTests(Box<[HeaderCheck]>);

impl HeaderTests {
    /// # Errors
    /// Every pattern that is no expression.
    pub fn compile(spec: &[HeaderMatch]) -> Result<HeaderTests, Vec<Invalid>> {
        let mut expressions = Expressions::default();
        let mut problems = Vec::new();
        let mut checks = Vec::with_capacity(spec.len());
        for test in spec {
            match HeaderCheck::compile(test, &mut expressions) {
                Ok(check) => checks.push(*check),
                Err(invalid) => problems.push(invalid),
            }
        }
        if problems.is_empty() { Ok(HeaderTests(checks.into())) } else { Err(problems) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them holds.
    pub fn any(&self, headers: &HeaderMap) -> bool {
        self.0.iter().any(|check| check.holds(headers))
    }

    /// Whether all of them hold; none of them always does.
    pub fn all(&self, headers: &HeaderMap) -> bool {
        self.0.iter().all(|check| check.holds(headers))
    }
}

/// A test of a text for those who ask about other things than rules.
#[derive(Clone, Debug)]
pub struct TextTest(Box<Text>);

impl TextTest {
    /// # Errors
    /// A pattern that is no expression.
    pub fn compile(spec: &StringMatch) -> Result<TextTest, Invalid> {
        Text::compile(spec, &mut Expressions::default()).map(TextTest)
    }

    pub fn is_match(&self, text: &[u8]) -> bool {
        self.0.holds(text)
    }
}

impl NameCheck {
    fn compile(spec: &NameMatch, expressions: &mut Expressions) -> Result<Box<NameCheck>, Invalid> {
        let test = match &spec.test {
            Some(test) => Some(*Text::compile(test, expressions)?),
            None => None,
        };
        Ok(Box::new(NameCheck { name: spec.name.as_str().into(), test, invert: spec.invert }))
    }

    fn exact(&self) -> Option<&[u8]> {
        if self.invert { None } else { self.test.as_ref()?.exact() }
    }

    fn holds(&self, value: Option<&[u8]>) -> bool {
        let holds = value.is_some_and(|value| self.test.as_ref().is_none_or(|test| test.holds(value)));
        holds != self.invert
    }
}

/// All values of a header, joined by commas. Copies only where there are several.
pub(crate) fn header_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut joined = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(joined))
}

/// The first value of a query parameter, as sent. `a` and `a=` are both there and empty.
pub(crate) fn query_value<'a>(query: Option<&'a str>, name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = query?.as_bytes();
    loop {
        let (parameter, after) = match rest.iter().position(|&b| b == b'&') {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        if let Some(tail) = parameter.strip_prefix(name) {
            match tail {
                [] if !parameter.is_empty() => return Some(tail),
                [b'=', value @ ..] => return Some(value),
                _ => {}
            }
        }
        rest = after?;
    }
}

/// The first cookie of that name in all Cookie headers, without the quotes around its value.
pub(crate) fn cookie_value<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    for header in headers.get_all(COOKIE) {
        for pair in header.as_bytes().split(|&b| b == b';') {
            let pair = pair.trim_ascii();
            if let Some([b'=', value @ ..]) = pair.strip_prefix(name) {
                return Some(match value {
                    [b'"', inner @ .., b'"'] => inner,
                    _ => value,
                });
            }
        }
    }
    None
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        matches!(value.as_bytes().strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
    })
}

/// A decimal number with spaces around it, as `absl::SimpleAtoi` reads it.
fn decimal(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
}

/// Sets of addresses as sorted ranges, so that a long list costs a binary search.
#[derive(Clone, Debug)]
pub(crate) struct Nets {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Nets {
    pub(crate) fn compile(nets: &[IpNet]) -> Nets {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for net in nets {
            match (net.network(), net.broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((u32::from(first), u32::from(last))),
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                        (Some(first), Some(last)) => v4.push((u32::from(first), u32::from(last))),
                        _ => v6.push((u128::from(first), u128::from(last))),
                    }
                }
                _ => {}
            }
        }
        Nets { v4: merge(v4), v6: merge(v6) }
    }

    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_within(&self.v4, u32::from(address)),
            IpAddr::V6(address) => is_within(&self.v6, u128::from(address)),
        }
    }
}

fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn is_within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after > 0 && address <= ranges[after - 1].1
}
