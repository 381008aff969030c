//! The obvious search: what is right, and why.
//!
//! Reads the spec rule by rule and shares nothing with the compiled tables but the translation of
//! regular expressions. Slow: for `explain`, for one request at a time, and for the tests that hold
//! the tables to it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use naru_spec::{
    ClaimMatch, Domain, HeaderMatch, HeaderTest, Match, NameMatch, PathMatch, Pattern, RouteTable, Scheme,
    StringMatch, TlsRequirement, ValueTest, VirtualHost,
};
use regex::bytes::Regex;

use crate::{ClaimTest, Field, RuleId, Subject, Verdict, re2};

/// The first rule that holds for a request.
pub fn find(routes: &RouteTable, subject: &Subject<'_>) -> Verdict {
    RefTable::new(routes).find(subject)
}

/// Every block that was considered, in order, up to the one that matched.
pub fn explain(routes: &RouteTable, subject: &Subject<'_>) -> Vec<Considered> {
    RefTable::new(routes).explain(subject)
}

/// A block of a rule, and what decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    pub virtual_host: u32,
    pub rule: RuleId,
    /// Of the rule's blocks, from 0.
    pub block: usize,
    pub decided_by: Decision,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything the block says holds: the rule takes the request.
    Matched,
    /// The first thing that does not hold.
    Failed {
        field: Field,
        /// Of the header, the query parameter or the cookie; empty for other fields.
        name: String,
        /// In words: `is 'GET'`, `begins with '/api'`.
        expected: String,
        /// `None` where the request has no such thing.
        actual: Option<String>,
    },
}

/// A table with its expressions at hand, for many searches.
#[derive(Debug)]
pub struct RefTable<'a> {
    routes: &'a RouteTable,
    expressions: BTreeMap<&'a str, Regex>,
}

impl<'a> RefTable<'a> {
    /// An expression that is not valid matches nothing here.
    pub fn new(routes: &'a RouteTable) -> RefTable<'a> {
        let mut expressions = BTreeMap::new();
        for pattern in blocks(routes).flat_map(patterns) {
            if let Ok(regex) = re2::whole(pattern) {
                expressions.insert(pattern.as_str(), regex);
            }
        }
        RefTable { routes, expressions }
    }

    pub fn find(&self, subject: &Subject<'_>) -> Verdict {
        self.find_among(subject, false)
    }

    /// Of a CONNECT.
    pub fn find_connect(&self, subject: &Subject<'_>) -> Verdict {
        self.find_among(subject, true)
    }

    fn find_among(&self, subject: &Subject<'_>, is_connect: bool) -> Verdict {
        let Some((virtual_host, host)) = self.virtual_host(subject.authority) else {
            return Verdict::NoVirtualHost;
        };
        let must_be_tls = match host.tls {
            TlsRequirement::None => false,
            TlsRequirement::ExternalOnly => !subject.is_internal,
            TlsRequirement::All => true,
        };
        if must_be_tls && subject.scheme != Scheme::Https {
            return Verdict::RequiresTls { virtual_host };
        }
        for (rule, number) in host.rules.iter().zip(self.first_rule(virtual_host)..) {
            for block in &rule.matches {
                if self.failure(block, subject, is_connect).is_none() {
                    let matched = match &block.path {
                        PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::SegmentPrefix(text) => {
                            text.len()
                        }
                        PathMatch::Regex(_) => subject.path.len(),
                        PathMatch::Connect => 0,
                    };
                    return Verdict::Rule { rule: RuleId(number), matched: matched as u32 };
                }
            }
        }
        Verdict::of_nobody(virtual_host, subject)
    }

    /// As [`explain`]. Empty where no virtual host takes the request, or where it requires TLS.
    pub fn explain(&self, subject: &Subject<'_>) -> Vec<Considered> {
        self.explain_among(subject, false)
    }

    /// Of a CONNECT.
    pub fn explain_connect(&self, subject: &Subject<'_>) -> Vec<Considered> {
        self.explain_among(subject, true)
    }

    fn explain_among(&self, subject: &Subject<'_>, is_connect: bool) -> Vec<Considered> {
        let mut all = Vec::new();
        let is_routed = !matches!(
            self.find_among(subject, is_connect),
            Verdict::NoVirtualHost | Verdict::RequiresTls { .. }
        );
        let Some((virtual_host, host)) = self.virtual_host(subject.authority).filter(|_| is_routed) else {
            return all;
        };
        for (rule, number) in host.rules.iter().zip(self.first_rule(virtual_host)..) {
            for (block, spec) in rule.matches.iter().enumerate() {
                let failure = self.failure(spec, subject, is_connect);
                let is_match = failure.is_none();
                let decided_by = failure.unwrap_or(Decision::Matched);
                all.push(Considered { virtual_host, rule: RuleId(number), block, decided_by });
                if is_match {
                    return all;
                }
            }
        }
        all
    }

    /// Rules are numbered through all virtual hosts.
    fn first_rule(&self, virtual_host: u32) -> u32 {
        let before = self.routes.virtual_hosts.iter().take(virtual_host as usize);
        before.map(|host| host.rules.len() as u32).sum()
    }

    fn virtual_host(&self, authority: &str) -> Option<(u32, &'a VirtualHost)> {
        let mut authority = authority.to_ascii_lowercase();
        if self.routes.ignores_port
            && let Some(colon) = authority.rfind(':')
            && authority[colon + 1..].chars().all(|c| c.is_ascii_digit())
        {
            authority.truncate(colon);
        }
        // How good the best domain so far is, and whose it is. The first of equals stays.
        let mut best: Option<((u8, usize), u32, &'a VirtualHost)> = None;
        for (host, at) in self.routes.virtual_hosts.iter().zip(0..) {
            for domain in &host.domains {
                let has_room = |part: &str| authority.len() > part.len();
                let rank = match domain {
                    Domain::Exact(name) if name.to_ascii_lowercase() == authority => (3, 0),
                    Domain::Suffix(part)
                        if has_room(part) && authority.ends_with(&part.to_ascii_lowercase()) =>
                    {
                        (2, part.len())
                    }
                    Domain::Prefix(part)
                        if has_room(part) && authority.starts_with(&part.to_ascii_lowercase()) =>
                    {
                        (1, part.len())
                    }
                    Domain::Any => (0, 0),
                    _ => continue,
                };
                if best.is_none_or(|(before, ..)| rank > before) {
                    best = Some((rank, at, host));
                }
            }
        }
        best.map(|(_, at, host)| (at, host))
    }

    /// The first thing in a block that does not hold.
    fn failure(&self, block: &Match, subject: &Subject<'_>, is_connect: bool) -> Option<Decision> {
        let is_for_connect = block.path == PathMatch::Connect;
        if is_for_connect != is_connect || !self.path_holds(block, subject.path) {
            let (verb, text) = match &block.path {
                PathMatch::Exact(text) => ("is", text.as_str()),
                PathMatch::Prefix(text) => ("begins with", text.as_str()),
                PathMatch::SegmentPrefix(text) => ("begins with the segments", text.as_str()),
                PathMatch::Regex(pattern) => ("matches", pattern.as_str()),
                PathMatch::Connect => ("is none, as of", "CONNECT"),
            };
            let case = if block.ignore_path_case { ", in any case" } else { "" };
            return failed(Field::Path, "", format!("{verb} '{text}'{case}"), Some(subject.path));
        }
        for (field, test, actual) in [
            (Field::Method, &block.method, subject.method.as_str()),
            (Field::Scheme, &block.scheme, subject.scheme.as_str()),
            (Field::Authority, &block.authority, subject.authority),
        ] {
            if let Some(test) = test
                && !self.text_holds(test, actual.as_bytes())
            {
                return failed(field, "", words(test), Some(actual));
            }
        }
        if block.grpc {
            let actual = subject.headers.get("content-type").map(|value| lossy(value.as_bytes()));
            let is_grpc = actual
                .as_deref()
                .is_some_and(|text| text == "application/grpc" || text.starts_with("application/grpc+"));
            if !is_grpc {
                return failed(
                    Field::Grpc,
                    "",
                    "content-type is 'application/grpc'".into(),
                    actual.as_deref(),
                );
            }
        }
        if !block.sources.is_empty() && !block.sources.iter().any(|net| is_inside(subject.source, *net)) {
            let nets: Vec<String> = block.sources.iter().map(ToString::to_string).collect();
            let expected = format!("is one of {}", nets.join(", "));
            return failed(Field::Source, "", expected, Some(&subject.source.to_string()));
        }
        self.header_failure(block, subject)
            .or_else(|| self.query_failure(block, subject))
            .or_else(|| self.cookie_failure(block, subject))
            .or_else(|| claim_failure(block, subject))
            .or_else(|| {
                let fraction = block.fraction?;
                if fraction.takes(subject.fraction_draw()) {
                    return None;
                }
                failed(Field::Fraction, "", format!("is one of {fraction} of all"), None)
            })
    }

    fn path_holds(&self, block: &Match, path: &str) -> bool {
        let fold = |text: &str| {
            if block.ignore_path_case { text.to_ascii_lowercase() } else { text.to_owned() }
        };
        match &block.path {
            PathMatch::Exact(text) => fold(path) == fold(text),
            PathMatch::Prefix(text) => fold(path).starts_with(&fold(text)),
            PathMatch::SegmentPrefix(text) => fold(path)
                .strip_prefix(&fold(text))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            // An expression says itself whether case matters.
            PathMatch::Regex(pattern) => self.matches(pattern, path.as_bytes()),
            PathMatch::Connect => true,
        }
    }

    fn header_failure(&self, block: &Match, subject: &Subject<'_>) -> Option<Decision> {
        for header in &block.headers {
            let values: Vec<&[u8]> =
                subject.headers.get_all(&header.name).iter().map(|value| value.as_bytes()).collect();
            let value = if values.is_empty() { None } else { Some(values.join(&b","[..])) };
            if !self.header_holds(header, value.as_deref()) {
                let expected = match &header.test {
                    HeaderTest::Present(true) => "is present".to_owned(),
                    HeaderTest::Present(false) => "is absent".to_owned(),
                    HeaderTest::Value(test) => words(test),
                    HeaderTest::Range { start, end } => format!("is a number from {start} to below {end}"),
                };
                let expected = inverted(header.invert, expected);
                return failed(
                    Field::Header,
                    header.name.as_str(),
                    expected,
                    value.as_deref().map(lossy).as_deref(),
                );
            }
        }
        None
    }

    fn header_holds(&self, header: &HeaderMatch, value: Option<&[u8]>) -> bool {
        let value = if header.missing_as_empty { Some(value.unwrap_or_default()) } else { value };
        match (&header.test, value) {
            (HeaderTest::Present(present), value) => (value.is_some() == *present) != header.invert,
            (_, None) => false,
            (HeaderTest::Value(test), Some(value)) => self.text_holds(test, value) != header.invert,
            (HeaderTest::Range { start, end }, Some(value)) => {
                let number = lossy(value).trim_matches(|c: char| c.is_ascii_whitespace()).parse::<i64>();
                number.is_ok_and(|number| *start <= number && number < *end) != header.invert
            }
        }
    }

    fn query_failure(&self, block: &Match, subject: &Subject<'_>) -> Option<Decision> {
        let parameters: Vec<(&str, &str)> = subject
            .query
            .unwrap_or("")
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
            .collect();
        block.query.iter().find_map(|test| {
            let value = parameters.iter().find(|(name, _)| *name == test.name).map(|(_, value)| *value);
            self.name_failure(Field::Query, test, value.map(str::as_bytes))
        })
    }

    fn cookie_failure(&self, block: &Match, subject: &Subject<'_>) -> Option<Decision> {
        let mut cookies: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for header in subject.headers.get_all("cookie") {
            for pair in header.as_bytes().split(|b| *b == b';') {
                let pair = pair.trim_ascii();
                if let Some(equals) = pair.iter().position(|b| *b == b'=') {
                    let mut value = &pair[equals + 1..];
                    if value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"") {
                        value = &value[1..value.len() - 1];
                    }
                    cookies.push((pair[..equals].to_vec(), value.to_vec()));
                }
            }
        }
        block.cookies.iter().find_map(|test| {
            let found = cookies.iter().find(|(name, _)| name == test.name.as_bytes());
            self.name_failure(Field::Cookie, test, found.map(|(_, value)| value.as_slice()))
        })
    }

    fn name_failure(&self, field: Field, spec: &NameMatch, value: Option<&[u8]>) -> Option<Decision> {
        let holds = match (value, &spec.test) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(value), Some(test)) => self.text_holds(test, value),
        };
        if holds != spec.invert {
            return None;
        }
        let expected = spec.test.as_ref().map_or("is present".to_owned(), words);
        failed(field, &spec.name, inverted(spec.invert, expected), value.map(lossy).as_deref())
    }

    fn text_holds(&self, spec: &StringMatch, value: &[u8]) -> bool {
        let fold = |text: &[u8]| if spec.ignore_case { text.to_ascii_lowercase() } else { text.to_vec() };
        let folded = fold(value);
        match &spec.test {
            ValueTest::Exact(text) => folded == fold(text.as_bytes()),
            ValueTest::Prefix(text) => folded.starts_with(&fold(text.as_bytes())),
            ValueTest::Suffix(text) => folded.ends_with(&fold(text.as_bytes())),
            ValueTest::Contains(text) => {
                let text = fold(text.as_bytes());
                (0..=folded.len()).any(|at| folded[at..].starts_with(&text))
            }
            ValueTest::Regex(pattern) => self.matches(pattern, value),
        }
    }

    fn matches(&self, pattern: &Pattern, value: &[u8]) -> bool {
        self.expressions.get(pattern.as_str()).is_some_and(|regex| regex.is_match(value))
    }
}

fn blocks(routes: &RouteTable) -> impl Iterator<Item = &Match> {
    routes.virtual_hosts.iter().flat_map(|host| &host.rules).flat_map(|rule| &rule.matches)
}

fn patterns(block: &Match) -> Vec<&Pattern> {
    let mut found = Vec::new();
    if let PathMatch::Regex(pattern) = &block.path {
        found.push(pattern);
    }
    let headers = block.headers.iter().filter_map(|header| match &header.test {
        HeaderTest::Value(test) => Some(test),
        HeaderTest::Present(_) | HeaderTest::Range { .. } => None,
    });
    let names = block.query.iter().chain(&block.cookies).filter_map(|name| name.test.as_ref());
    let own = [&block.scheme, &block.method, &block.authority].into_iter().flatten();
    for test in headers.chain(names).chain(own) {
        if let ValueTest::Regex(pattern) = &test.test {
            found.push(pattern);
        }
    }
    found
}

/// What a claim is, is asked the same way by all.
fn claim_failure(block: &Match, subject: &Subject<'_>) -> Option<Decision> {
    let holds = |said: &ClaimMatch| ClaimTest::compile(said).is_ok_and(|test| test.holds(subject.claims));
    let said = block.claims.iter().find(|said| !holds(said))?;
    let claim = subject.claims.and_then(|claims| claims.claim(&said.claims_name, &said.path));
    let expected = inverted(said.invert, "is a claim of a token that is as the rule says".to_owned());
    failed(Field::Claim, &said.path.join("."), expected, claim.map(|claim| format!("{claim:?}")).as_deref())
}

fn failed(field: Field, name: &str, expected: String, actual: Option<&str>) -> Option<Decision> {
    Some(Decision::Failed { field, name: name.to_owned(), expected, actual: actual.map(str::to_owned) })
}

fn words(test: &StringMatch) -> String {
    let (verb, text) = match &test.test {
        ValueTest::Exact(text) => ("is", text.as_str()),
        ValueTest::Prefix(text) => ("begins with", text.as_str()),
        ValueTest::Suffix(text) => ("ends with", text.as_str()),
        ValueTest::Contains(text) => ("contains", text.as_str()),
        ValueTest::Regex(pattern) => ("matches", pattern.as_str()),
    };
    let case = if test.ignore_case { ", in any case" } else { "" };
    format!("{verb} '{text}'{case}")
}

fn inverted(is_inverted: bool, expected: String) -> String {
    if is_inverted { format!("not: {expected}") } else { expected }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// IPv4 addresses that are written as IPv6 ones (`::ffff:10.0.0.1`) are IPv4 addresses.
fn is_inside(address: IpAddr, net: ipnet::IpNet) -> bool {
    let bits = |address: IpAddr| -> Vec<u8> {
        match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    };
    let mut length = usize::from(net.prefix_len());
    let mut network = net.addr();
    if let IpAddr::V6(inner) = network
        && let Some(mapped) = inner.to_ipv4_mapped()
        && length >= 96
    {
        network = IpAddr::V4(mapped);
        length -= 96;
    }
    let (address, network) = (bits(address.to_canonical()), bits(network));
    address.len() == network.len()
        && (0..length).all(|bit| {
            let mask = 0x80 >> (bit % 8);
            address[bit / 8] & mask == network[bit / 8] & mask
        })
}
