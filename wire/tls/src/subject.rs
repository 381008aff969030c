//! Which names does a certificate carry, and does one fit?
//!
//! It takes any bytes: what it cannot read carries no names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use naru_spec::{Invalid, SanKind, SanMatch, ValueTest};
use regex::Regex;

use crate::der::{Der, SEQUENCE, X509};

/// A subject alternative name of a kind that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Dns(&'a str),
    Uri(&'a str),
    Email(&'a str),
    Ip(IpAddr),
}

impl Name<'_> {
    fn kind(&self) -> SanKind {
        match self {
            Name::Dns(_) => SanKind::Dns,
            Name::Uri(_) => SanKind::Uri,
            Name::Email(_) => SanKind::Email,
            Name::Ip(_) => SanKind::Ip,
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Dns(text) | Name::Uri(text) | Name::Email(text) => f.write_str(text),
            Name::Ip(address) => address.fmt(f),
        }
    }
}

/// One wanted name, compiled.
#[derive(Debug)]
pub(crate) struct NameTest {
    kind: Option<SanKind>,
    test: Test,
    ignore_case: bool,
}

#[derive(Debug)]
enum Test {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl NameTest {
    pub(crate) fn compile(wanted: &SanMatch) -> Result<NameTest, Invalid> {
        let SanMatch { kind, test: wanted } = wanted;
        // Both sides are put in lower case, so that the tests themselves need not know.
        let fold = |text: &String| if wanted.ignore_case { text.to_ascii_lowercase() } else { text.clone() };
        let test = match &wanted.test {
            ValueTest::Exact(text) => Test::Exact(fold(text)),
            ValueTest::Prefix(text) => Test::Prefix(fold(text)),
            ValueTest::Suffix(text) => Test::Suffix(fold(text)),
            ValueTest::Contains(text) => Test::Contains(fold(text)),
            ValueTest::Regex(pattern) => Test::Regex(compile_whole(pattern.as_str())?),
        };
        Ok(NameTest { kind: *kind, test, ignore_case: wanted.ignore_case })
    }

    /// An exact test of a DNS name goes by the rules for DNS names, as in Envoy: case does not
    /// matter, and the certificate's `*.example.com` covers `www.example.com`.
    pub(crate) fn takes(&self, carried: &Name<'_>) -> bool {
        if self.kind.is_some_and(|kind| kind != carried.kind()) {
            return false;
        }
        if let (Test::Exact(wanted), Name::Dns(pattern)) = (&self.test, carried) {
            return is_dns_name_covered(wanted, pattern);
        }
        let text = carried.to_string();
        let folded = if self.ignore_case { text.to_ascii_lowercase() } else { text.clone() };
        match &self.test {
            Test::Exact(wanted) => folded == *wanted,
            Test::Prefix(wanted) => folded.starts_with(wanted),
            Test::Suffix(wanted) => folded.ends_with(wanted),
            Test::Contains(wanted) => folded.contains(wanted),
            Test::Regex(regex) => regex.is_match(&text),
        }
    }
}

/// The whole text must match. The pattern is compiled alone first, so that `a)|(b` is refused and a
/// message speaks of what the user wrote.
fn compile_whole(pattern: &str) -> Result<Regex, Invalid> {
    Regex::new(pattern)
        .and_then(|_| Regex::new(&format!("\\A(?:{pattern})\\z")))
        .map_err(|error| Invalid::new(format!("the regular expression '{pattern}' cannot be used: {error}")))
}

/// Whether a certificate's DNS name stands for `asked`. A star stands for the whole first label and
/// for nothing else (RFC 9525; Envoy also takes `w*.example.com`).
pub(crate) fn is_dns_name_covered(asked: &str, pattern: &str) -> bool {
    if let Some(parent) = pattern.strip_prefix("*.") {
        return asked
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent));
    }
    asked.eq_ignore_ascii_case(pattern)
}

/// The names in a certificate (DER), in its order. Names of other kinds, and those with anything but
/// visible ASCII in them, are left out.
pub(crate) fn names(certificate: &[u8]) -> Vec<Name<'_>> {
    alternative_names(certificate).unwrap_or_default()
}

/// 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// `[1]`, `[2]`, `[6]` and `[7]` of GeneralName.
const EMAIL: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;

fn alternative_names(certificate: &[u8]) -> Option<Vec<Name<'_>>> {
    let value = X509::read(certificate)?.extension(SUBJECT_ALT_NAME)?;
    general_names(Der(Der(value).expect(SEQUENCE)?))
}

fn general_names(mut list: Der<'_>) -> Option<Vec<Name<'_>>> {
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = match list.next()? {
            (DNS_NAME, text) => visible(text).map(Name::Dns),
            (EMAIL, text) => visible(text).map(Name::Email),
            (URI, text) => visible(text).map(Name::Uri),
            (IP_ADDRESS, octets) => address(octets).map(Name::Ip),
            _ => None,
        };
        names.extend(name);
    }
    Some(names)
}

/// A NUL or a line break in a name is somebody's trick.
fn visible(text: &[u8]) -> Option<&str> {
    if text.iter().all(u8::is_ascii_graphic) { str::from_utf8(text).ok() } else { None }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;
    use naru_spec::{Pattern, StringMatch};
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn many_names() -> Vec<u8> {
        certificate(vec![
            SanType::DnsName("*.example.com".try_into().unwrap()),
            SanType::Rfc822Name("someone@example.com".try_into().unwrap()),
            SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap()),
            SanType::IpAddress("10.1.2.3".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ])
    }

    #[test]
    fn reads_names_of_every_kind_in_order() {
        let expected = [
            Name::Dns("*.example.com"),
            Name::Email("someone@example.com"),
            Name::Uri("spiffe://cluster.local/ns/a/sa/b"),
            Name::Ip("10.1.2.3".parse().unwrap()),
            Name::Ip("2001:db8::7".parse().unwrap()),
        ];
        assert_eq!(names(&many_names()), expected);
        assert_eq!(names(&certificate(vec![])), []);
    }

    #[test]
    fn a_name_with_a_nul_in_it_is_left_out() {
        let hostile = SanType::DnsName("good.com\0.evil.com".try_into().unwrap());
        let plain = SanType::DnsName("plain.com".try_into().unwrap());
        assert_eq!(names(&certificate(vec![hostile, plain])), [Name::Dns("plain.com")]);
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let whole = many_names();
        for end in 0..whole.len() {
            names(&whole[..end]);
        }
        let mut chance = Chance::new(11);
        for _ in 0..20_000 {
            let mut broken = whole.clone();
            for _ in 0..=chance.below(4) {
                let at = chance.below(broken.len() as u64) as usize;
                broken[at] = chance.draw() as u8;
            }
            names(&broken);
        }
        names(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]);
        names(&[0x30, 0x80]);
    }

    #[test]
    fn a_test_goes_by_its_kind_and_by_the_kind_of_name() {
        fn check(test: ValueTest, ignore_case: bool, carried: Name<'_>, expected: bool) {
            let compiled =
                NameTest::compile(&SanMatch::any_kind(StringMatch { test: test.clone(), ignore_case }))
                    .unwrap();
            assert_eq!(compiled.takes(&carried), expected, "{test:?} of {carried:?}");
        }
        let exact = |text: &str| ValueTest::Exact(text.to_owned());
        let regex = |text: &str| ValueTest::Regex(Pattern::new(text).unwrap());
        let spiffe = Name::Uri("spiffe://td/ns/a/sa/b");
        check(exact("www.example.com"), false, Name::Dns("*.example.com"), true);
        check(exact("WWW.example.com"), false, Name::Dns("www.EXAMPLE.com"), true);
        check(exact("a.b.example.com"), false, Name::Dns("*.example.com"), false);
        check(exact("example.com"), false, Name::Dns("*.example.com"), false);
        check(exact(".example.com"), false, Name::Dns("*.example.com"), false);
        check(exact("spiffe://td/ns/a/sa/b"), false, spiffe, true);
        check(exact("spiffe://TD/ns/a/sa/b"), false, spiffe, false);
        check(exact("spiffe://TD/ns/a/sa/b"), true, spiffe, true);
        check(exact("10.0.0.1"), false, Name::Ip("10.0.0.1".parse().unwrap()), true);
        check(ValueTest::Prefix("spiffe://td/".to_owned()), false, spiffe, true);
        check(ValueTest::Prefix("SPIFFE://td/".to_owned()), true, spiffe, true);
        check(ValueTest::Suffix(".svc".to_owned()), false, Name::Dns("a.b.svc"), true);
        check(ValueTest::Suffix(".svc".to_owned()), false, Name::Dns("a.b.svc.evil"), false);
        check(ValueTest::Contains("/sa/".to_owned()), false, spiffe, true);
        check(regex("spiffe://[^/]+/ns/a/.*"), false, spiffe, true);
        check(regex("ns/a"), false, spiffe, false);
        check(regex("x|spiffe"), false, spiffe, false);
    }

    #[test]
    fn a_kind_that_is_asked_for_is_the_only_one_that_fits() {
        let carried = [
            Name::Dns("same"),
            Name::Uri("same"),
            Name::Email("same"),
            Name::Ip("10.0.0.1".parse().unwrap()),
        ];
        for (at, kind) in [SanKind::Dns, SanKind::Uri, SanKind::Email, SanKind::Ip].into_iter().enumerate() {
            let test = StringMatch { test: ValueTest::Contains(String::new()), ignore_case: false };
            let test = NameTest::compile(&SanMatch { kind: Some(kind), test }).unwrap();
            let fits: Vec<usize> = (0..4).filter(|at| test.takes(&carried[*at])).collect();
            assert_eq!(fits, [at], "{kind:?}");
        }
    }

    #[test]
    fn a_pattern_that_would_break_out_of_its_brackets_is_refused() {
        for broken in ["a)|(b", "(", "a{99999999}"] {
            let test = ValueTest::Regex(Pattern::new(broken).unwrap());
            let invalid =
                NameTest::compile(&SanMatch::any_kind(StringMatch { test, ignore_case: false })).unwrap_err();
            assert!(invalid.message.contains(broken), "{invalid}");
        }
    }
}
