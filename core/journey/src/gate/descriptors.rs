//! What requests are called for those who count them: Envoy's `source/common/router/router_ratelimit.cc` and
//! `extensions/filters/common/ratelimit_config`.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use naru_admit::described::Described;
use naru_route::{Edits, HeaderTests, TextTest};
use naru_spec::{
    DescribedHeader, Descriptor, DescriptorPart, Format, HeaderMatch, HitCount, Hits, Invalid, NameMatch,
    Operator, Piece, PseudoHeader, defaults,
};

use super::{Head, Memory};
use crate::record;

/// What is said of descriptors, ready to be made of requests.
#[derive(Debug, Default)]
pub(crate) struct CompiledDescriptors(Box<[CompiledDescriptor]>);

#[derive(Debug)]
struct CompiledDescriptor {
    parts: Box<[CompiledPart]>,
    hits: Option<Hits>,
    limit: Option<(u32, u32)>,
    tells: Option<bool>,
}

#[derive(Debug)]
enum CompiledPart {
    DestinationCluster,
    Header { name: Named, key: Box<str>, skips: bool },
    QueryParameter { name: Box<str>, key: Box<str>, skips: bool },
    RemoteAddress,
    MaskedRemoteAddress { v4_bits: u8, v6_bits: u8 },
    Literal { key: Box<str>, value: Box<str> },
    Headers { key: Box<str>, value: Box<str>, expects: bool, tests: Box<[HeaderCheck]> },
    Query { key: Box<str>, value: Box<str>, expects: bool, tests: Box<[ParameterCheck]> },
    AddressMatch { key: Box<str>, value: Format, default: Box<str>, networks: Box<[IpNet]>, inverts: bool },
    Claim { key: Box<str>, path: Box<[String]>, default: Box<str>, skips: bool },
}

#[derive(Debug)]
enum Named {
    Own(HeaderName),
    Pseudo(PseudoHeader),
}

#[derive(Debug)]
enum HeaderCheck {
    /// `plain` asks for the opposite of what is asked where `inverts` is said.
    Own {
        name: HeaderName,
        whole: HeaderTests,
        plain: HeaderTests,
        inverts: bool,
    },
    Pseudo {
        which: PseudoHeader,
        test: Option<TextTest>,
        inverts: bool,
    },
}

#[derive(Debug)]
struct ParameterCheck {
    name: Box<str>,
    test: Option<TextTest>,
    inverts: bool,
}

/// What an action says.
enum Said {
    Entry(Box<str>, Box<str>),
    /// The descriptor goes on without it.
    Skipped,
    /// There is no descriptor.
    Nothing,
}

impl CompiledDescriptors {
    /// # Errors
    /// Every pattern that is none, every name that no header has.
    pub(crate) fn new(said: &[Descriptor]) -> Result<CompiledDescriptors, Vec<Invalid>> {
        let mut problems = Vec::new();
        let compiled = said.iter().map(|descriptor| CompiledDescriptor {
            parts: descriptor.parts.iter().filter_map(|part| compile(part, &mut problems)).collect(),
            hits: descriptor.hits.clone(),
            limit: descriptor.limit.map(|limit| (limit.requests, limit.unit)),
            tells: descriptor.tells,
        });
        let compiled = compiled.collect();
        if problems.is_empty() { Ok(CompiledDescriptors(compiled)) } else { Err(problems) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a request is called, of each descriptor that can be made of it.
    pub(crate) fn describe(
        &self,
        head: &Head<'_>,
        memory: &Memory,
        destination: Option<&str>,
    ) -> Vec<Described> {
        self.0.iter().filter_map(|descriptor| descriptor.describe(head, memory, destination)).collect()
    }
}

impl CompiledDescriptor {
    fn describe(&self, head: &Head<'_>, memory: &Memory, destination: Option<&str>) -> Option<Described> {
        let mut entries = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part.say(head, memory, destination) {
                Said::Entry(key, value) => entries.push((key, value)),
                Said::Skipped => {}
                Said::Nothing => return None,
            }
        }
        let hits = match &self.hits {
            None => None,
            Some(Hits { count: HitCount::Number(number), .. }) => Some(*number),
            Some(Hits { count: HitCount::Format(format), .. }) => Some(number(&fill(format, head))?),
        };
        Some(Described {
            entries,
            hits,
            gives_back: self.hits.as_ref().is_some_and(|hits| hits.gives_back),
            limit: self.limit,
            tells: self.tells,
        })
    }
}

fn compile(part: &DescriptorPart, problems: &mut Vec<Invalid>) -> Option<CompiledPart> {
    let text = |text: &String| -> Box<str> { text.as_str().into() };
    Some(match part {
        DescriptorPart::SourceCluster(name) => {
            CompiledPart::Literal { key: "source_cluster".into(), value: text(name) }
        }
        DescriptorPart::DestinationCluster => CompiledPart::DestinationCluster,
        DescriptorPart::Header { name, key, skips } => {
            let name = match PseudoHeader::of(name) {
                Some(which) => Named::Pseudo(which),
                None => match HeaderName::try_from(name.as_str()) {
                    Ok(name) => Named::Own(name),
                    Err(_) => {
                        problems.push(Invalid::new(format!("'{name}' is not the name of a header")));
                        return None;
                    }
                },
            };
            CompiledPart::Header { name, key: text(key), skips: *skips }
        }
        DescriptorPart::QueryParameter { name, key, skips } => {
            CompiledPart::QueryParameter { name: text(name), key: text(key), skips: *skips }
        }
        DescriptorPart::RemoteAddress => CompiledPart::RemoteAddress,
        DescriptorPart::MaskedRemoteAddress { v4_bits, v6_bits } => {
            CompiledPart::MaskedRemoteAddress { v4_bits: *v4_bits, v6_bits: *v6_bits }
        }
        DescriptorPart::Literal { key, value } => {
            CompiledPart::Literal { key: text(key), value: text(value) }
        }
        DescriptorPart::Headers { key, value, expects, tests } => {
            let tests = tests.iter().filter_map(|test| header_check(test, problems)).collect();
            CompiledPart::Headers { key: text(key), value: text(value), expects: *expects, tests }
        }
        DescriptorPart::Query { key, value, expects, tests } => {
            let tests = tests.iter().map(|test| parameter_check(test, problems)).collect();
            CompiledPart::Query { key: text(key), value: text(value), expects: *expects, tests }
        }
        DescriptorPart::AddressMatch { key, value, default, networks, inverts } => {
            CompiledPart::AddressMatch {
                key: text(key),
                value: value.clone(),
                default: text(default),
                networks: networks.as_slice().into(),
                inverts: *inverts,
            }
        }
        DescriptorPart::Claim { key, path, default, skips } => CompiledPart::Claim {
            key: text(key),
            path: path.as_slice().into(),
            default: text(default),
            skips: *skips,
        },
    })
}

fn header_check(test: &DescribedHeader, problems: &mut Vec<Invalid>) -> Option<HeaderCheck> {
    match test {
        DescribedHeader::Own(own) => {
            let plain = HeaderMatch { invert: false, ..own.clone() };
            let compile = |test: &HeaderMatch| HeaderTests::compile(std::slice::from_ref(test));
            match (compile(own), compile(&plain)) {
                (Ok(whole), Ok(plain)) => {
                    Some(HeaderCheck::Own { name: own.name.clone(), whole, plain, inverts: own.invert })
                }
                (Err(found), _) | (_, Err(found)) => {
                    problems.extend(found);
                    None
                }
            }
        }
        DescribedHeader::Pseudo { which, test, inverts } => {
            let test = test.as_ref().map(TextTest::compile).transpose();
            let test = test.map_err(|invalid| problems.push(invalid)).ok()?;
            Some(HeaderCheck::Pseudo { which: *which, test, inverts: *inverts })
        }
    }
}

fn parameter_check(said: &NameMatch, problems: &mut Vec<Invalid>) -> ParameterCheck {
    let test = said.test.as_ref().and_then(|test| match TextTest::compile(test) {
        Ok(test) => Some(test),
        Err(invalid) => {
            problems.push(invalid);
            None
        }
    });
    ParameterCheck { name: said.name.as_str().into(), test, inverts: said.invert }
}

impl CompiledPart {
    fn say(&self, head: &Head<'_>, memory: &Memory, destination: Option<&str>) -> Said {
        let entry = |key: &str, value: Option<Box<str>>, skips: bool| match value {
            Some(value) => Said::Entry(key.into(), value),
            None if skips => Said::Skipped,
            None => Said::Nothing,
        };
        match self {
            CompiledPart::DestinationCluster => {
                entry("destination_cluster", destination.map(Into::into), false)
            }
            CompiledPart::Header { name, key, skips } => {
                let value = match name {
                    Named::Own(name) => head.headers.get(name).map(|value| lossy(value.as_bytes())),
                    Named::Pseudo(which) => Some(pseudo(*which, head)),
                };
                entry(key, value, *skips)
            }
            CompiledPart::QueryParameter { name, key, skips } => {
                entry(key, parameter(head.line.path.query(), name).map(|value| lossy(&value)), *skips)
            }
            CompiledPart::RemoteAddress => {
                Said::Entry("remote_address".into(), address(head).to_string().into())
            }
            CompiledPart::MaskedRemoteAddress { v4_bits, v6_bits } => {
                let address = address(head);
                let bits = if address.is_ipv4() { *v4_bits } else { *v6_bits };
                let network = IpNet::new(address, bits).map(|network| network.trunc().to_string());
                entry("masked_remote_address", network.ok().map(Into::into), false)
            }
            CompiledPart::Literal { key, value } => Said::Entry(key.clone(), value.clone()),
            CompiledPart::Headers { key, value, expects, tests } => {
                let holds = tests.iter().all(|test| test.holds(head));
                entry(key, (holds == *expects).then(|| value.clone()), false)
            }
            CompiledPart::Query { key, value, expects, tests } => {
                let query = head.line.path.query();
                let holds = tests.iter().all(|test| test.holds(query));
                entry(key, (holds == *expects).then(|| value.clone()), false)
            }
            CompiledPart::AddressMatch { key, value, default, networks, inverts } => {
                let address = address(head);
                if networks.iter().any(|network| network.contains(&address)) == *inverts {
                    return Said::Nothing;
                }
                let value = Some(lossy(&fill(value, head))).filter(|value| !value.is_empty());
                let value = value.or_else(|| Some(default.clone()).filter(|value| !value.is_empty()));
                entry(key, value, false)
            }
            CompiledPart::Claim { key, path, default, skips } => {
                let claims = path.split_first().and_then(|(name, path)| {
                    let claims = memory.identified.claims(name)?;
                    claims.at(path.iter().map(String::as_str))?.as_text()
                });
                let value = claims.filter(|text| !text.is_empty()).map(Into::into);
                let value = value.or_else(|| Some(default.clone()).filter(|value| !value.is_empty()));
                entry(key, value, *skips)
            }
        }
    }
}

impl HeaderCheck {
    fn holds(&self, head: &Head<'_>) -> bool {
        match self {
            // As Envoy 1.40 has it: of several values one is enough.
            HeaderCheck::Own { name, plain, inverts, .. }
                if head.headers.get_all(name).iter().nth(1).is_some() =>
            {
                let mut values = head.headers.get_all(name).iter();
                let holds = values.any(|value| {
                    let one: HeaderMap = [(name.clone(), value.clone())].into_iter().collect();
                    plain.all(&one)
                });
                holds != *inverts
            }
            HeaderCheck::Own { whole, .. } => whole.all(head.headers),
            HeaderCheck::Pseudo { which, test, inverts } => {
                let value = pseudo(*which, head);
                test.as_ref().is_none_or(|test| test.is_match(value.as_bytes())) != *inverts
            }
        }
    }
}

impl ParameterCheck {
    fn holds(&self, query: Option<&str>) -> bool {
        let value = parameter(query, &self.name);
        let holds = value.is_some_and(|value| self.test.as_ref().is_none_or(|test| test.is_match(&value)));
        holds != self.inverts
    }
}

fn address(head: &Head<'_>) -> IpAddr {
    head.client.address.ip().to_canonical()
}

fn pseudo(which: PseudoHeader, head: &Head<'_>) -> Box<str> {
    match which {
        PseudoHeader::Method => head.line.method.as_str().into(),
        PseudoHeader::Scheme => head.line.scheme.as_str().into(),
        PseudoHeader::Authority => {
            head.line.authority.as_ref().map(|value| lossy(value.as_bytes())).unwrap_or_default()
        }
        PseudoHeader::Path => head.line.path.as_str().into(),
    }
}

/// Names and values of messages are texts.
fn lossy(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

/// The first value of a parameter, out of its percent-encoding, as Envoy's descriptors have it.
fn parameter(query: Option<&str>, name: &str) -> Option<Vec<u8>> {
    let all = query?.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
    let mut own = all.filter(|(own, _)| decoded(own.as_bytes()) == name.as_bytes());
    own.next().map(|(_, value)| decoded(value.as_bytes()))
}

/// A percent sign that begins no escape stays as it is.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escaped = match after {
            [high, low, tail @ ..] if *first == b'%' => {
                digit(high).zip(digit(low)).map(|(high, low)| ((high * 16 + low) as u8, tail))
            }
            _ => None,
        };
        match escaped {
            Some((byte, tail)) => {
                out.push(byte);
                rest = tail;
            }
            None => out.push(*first),
        }
    }
    out
}

/// What `absl::SimpleAtod` reads, in the range that hits have; what is behind the point is cut off.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let is_plain =
        unsigned.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    let number = unsigned.parse::<f64>().ok().filter(|number| is_plain && number.is_finite())?;
    (0.0..=defaults::DESCRIPTOR_HITS_MAX as f64).contains(&number).then_some(number as u64)
}

/// The value of a format of which [`naru_spec::descriptor::is_known_at_gate`] says that it is known; what is not there
/// is nothing.
pub(crate) fn fill(format: &Format, head: &Head<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in format.pieces() {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Operator { operator, length_max } => {
                let from = out.len();
                write(operator, head, &mut out);
                if let Some(length) = length_max {
                    out.truncate(from + length);
                }
            }
        }
    }
    out
}

fn write(operator: &Operator, head: &Head<'_>, out: &mut Vec<u8>) {
    let header = |name: &str, out: &mut Vec<u8>| match PseudoHeader::of(name) {
        Some(which) => {
            out.extend_from_slice(pseudo(which, head).as_bytes());
            true
        }
        None => head.headers.get(name).is_some_and(|value| {
            out.extend_from_slice(value.as_bytes());
            true
        }),
    };
    match operator {
        Operator::RequestHeader { name, alternative } => {
            if !header(name, out)
                && let Some(name) = alternative
            {
                header(name, out);
            }
        }
        Operator::Protocol => out.extend_from_slice(record::protocol(head.line.version).as_bytes()),
        Operator::DownstreamRemoteAddress { port } => {
            record::write_address(head.client.address, *port, out);
        }
        Operator::DownstreamDirectRemoteAddress { port } => {
            record::write_address(head.peer.remote, *port, out);
        }
        Operator::DownstreamLocalAddress { port } => {
            record::write_address(head.peer.local, *port, out);
        }
        Operator::DownstreamLocalPort => {
            out.extend_from_slice(head.peer.local.port().to_string().as_bytes());
        }
        Operator::RequestedServerName => {
            out.extend_from_slice(head.server_name.unwrap_or_default().as_bytes());
        }
        // Nobody is told of a format with one of these: `is_known_at_gate`.
        _ => {}
    }
}

/// The headers of a request as they are once more are added.
pub(crate) fn edited(edits: &Edits, head: &Head<'_>) -> HeaderMap {
    let mut headers = head.headers.clone();
    edits.apply(&mut headers, &mut |_, format, out| out.extend(fill(format, head)));
    headers
}

/// The headers that are added to a message which has none yet.
pub(crate) fn added(edits: &Edits, head: &Head<'_>) -> Vec<(HeaderName, http::HeaderValue)> {
    let mut headers = HeaderMap::new();
    edits.apply(&mut headers, &mut |_, format, out| out.extend(fill(format, head)));
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_read_as_envoy_1_40_reads_them() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        };
        for (text, hits) in [("3", 3), ("2.7", 2), ("1e2", 100), ("0", 0), ("+5", 5), (".5", 0), ("5.", 5)] {
            check(text, Some(hits));
        }
        for text in ["", "-1", "a", "1000000001", "inf", "nan", "3 4", "+-1", "++1"] {
            check(text, None);
        }
        check("1000000000", Some(1_000_000_000));
    }

    #[test]
    fn parameters_come_out_of_their_encoding() {
        let check = |query: Option<&str>, expected: Option<&str>| {
            let value = parameter(query, "p q");
            assert_eq!(value.as_deref(), expected.map(str::as_bytes), "{query:?}");
        };
        check(None, None);
        check(Some("p=1"), None);
        check(Some("p%20q=a%20b&p%20q=2"), Some("a b"));
        check(Some("p q"), Some(""));
        check(Some("x&p q=%"), Some("%"));
        check(Some("p q=%zz%4"), Some("%zz%4"));
    }
}
