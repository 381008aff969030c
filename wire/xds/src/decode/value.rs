//! Values that many messages hold: durations, addresses, bytes, patterns.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use naru_spec::{Address, DataSource, Invalid, Pattern, Pipe, Upgrades};

use crate::findings::{Findings, code};
use crate::proto::{self, matcher};
use naru_spec::Path;

/// A negative one is told, and taken as zero.
pub(super) fn duration(said: &proto::Duration, path: &Path<'_>, findings: &mut Findings<'_>) -> Duration {
    match (u64::try_from(said.seconds), u32::try_from(said.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Duration::new(seconds, nanos),
        _ => {
            findings.invalid(path, Invalid::new("a duration may not be negative"));
            Duration::ZERO
        }
    }
}

/// Where zero means without limit.
pub(super) fn limit(
    said: &Option<proto::Duration>,
    default: Option<Duration>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Duration> {
    match said {
        None => default,
        Some(said) => Some(duration(said, path, findings)).filter(|d| !d.is_zero()),
    }
}

/// Protocols that may be changed to, each with whether it may.
pub(super) fn upgrades<'a>(
    said: impl Iterator<Item = (&'a str, Option<bool>)>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Upgrades {
    let mut all: Vec<(String, bool)> = Vec::new();
    for (at, (name, is_allowed)) in said.enumerate() {
        let is_allowed = is_allowed.unwrap_or(true);
        let path = path.at(at);
        let path = path.field("upgrade_type");
        if all.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            findings.error(&path, code::DUPLICATE, format!("'{name}' is said twice"), "join them");
        }
        if name.is_empty() {
            findings.invalid(&path, Invalid::new("a protocol needs a name").hint("websocket"));
        }
        all.push((name.to_owned(), is_allowed));
    }
    Upgrades::new(all)
}

/// A range of addresses; the bits behind its prefix are cleared.
pub(super) fn network(
    prefix: &str,
    length: u32,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<IpNet> {
    let address = prefix.parse().ok();
    let network = address.and_then(|ip| IpNet::new(ip, u8::try_from(length).unwrap_or(u8::MAX)).ok());
    if network.is_none() {
        let text = format!("'{prefix}/{length}' is not a range of addresses");
        findings.invalid(path, Invalid::new(text).hint("write address_prefix: 10.0.0.0, prefix_len: 8"));
    }
    network.map(|network| network.trunc())
}

/// An address where names are not allowed: to listen on.
pub(super) fn literal_address(
    said: &proto::core::Address,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> SocketAddr {
    match address(said, path, findings) {
        Address::Socket(address) => address,
        Address::Pipe(_) => {
            findings.unsupported(&path.field("pipe"), "a Unix socket cannot be used here", "");
            SocketAddr::from(([0, 0, 0, 0], 0))
        }
        Address::Name { host, port } => {
            // An empty one is told by the API's own rules.
            if !host.is_empty() {
                findings.invalid(
                    &path.field("socket_address.address"),
                    Invalid::new(format!("'{host}' is not an IP address"))
                        .hint("to listen on every address of this machine, write 0.0.0.0 or \"::\""),
                );
            }
            SocketAddr::from(([0, 0, 0, 0], port))
        }
    }
}

pub(super) fn address(said: &proto::core::Address, path: &Path<'_>, findings: &mut Findings<'_>) -> Address {
    use proto::core::address::Address as Said;
    use proto::core::socket_address::{PortSpecifier, Protocol};
    let said = match &said.address {
        Some(Said::SocketAddress(said)) => said,
        Some(Said::Pipe(said)) => {
            if said.mode != 0 {
                let text = "only a socket that is listened on has a mode";
                findings.unsupported(&path.field("pipe.mode"), text, "leave it out");
            }
            check_path(&said.path, &path.field("pipe.path"), findings);
            return Address::Pipe(said.path.clone());
        }
        _ => return Address::Name { host: String::new(), port: 0 },
    };
    if said.protocol() == Protocol::Udp {
        let path = path.field("socket_address.protocol");
        findings.unsupported_value(&path, "only the address of a listener may say UDP", "leave it out");
    }
    let port = match said.port_specifier {
        // More than that is told by the API's own rules.
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port).unwrap_or(u16::MAX),
        _ => 0,
    };
    match said.address.parse::<IpAddr>() {
        Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
        Err(_) => Address::Name { host: said.address.clone(), port },
    }
}

/// A Unix socket to listen on, where that is what is said.
pub(super) fn pipe(
    said: &proto::core::Address,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Pipe> {
    let Some(proto::core::address::Address::Pipe(said)) = &said.address else { return None };
    check_path(&said.path, &path.field("pipe.path"), findings);
    Some(Pipe { path: said.path.clone(), mode: said.mode })
}

/// `sockaddr_un` has room for 107 bytes and their end.
fn check_path(text: &str, path: &Path<'_>, findings: &mut Findings<'_>) {
    if text.len() > 107 || text.contains('\0') {
        let invalid = Invalid::new(format!("'{text}' cannot be the path of a Unix socket"))
            .hint("at most 107 bytes; one that begins with @ is of the abstract namespace");
        findings.invalid(path, invalid);
    }
}

pub(super) fn data_source(said: &proto::core::DataSource) -> DataSource {
    use proto::core::data_source::Specifier;
    match &said.specifier {
        Some(Specifier::Filename(name)) => DataSource::File(name.clone()),
        Some(Specifier::InlineBytes(bytes)) => DataSource::Inline(bytes.clone()),
        Some(Specifier::InlineString(text)) => DataSource::Inline(text.clone().into_bytes()),
        Some(Specifier::EnvironmentVariable(name)) => DataSource::Environment(name.clone()),
        None => DataSource::Inline(Vec::new()),
    }
}

/// An empty one is told by the API's own rules.
pub(super) fn pattern(
    said: Option<&matcher::RegexMatcher>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Pattern {
    let text = said.map(|s| s.regex.as_str()).unwrap_or_default();
    match Pattern::new(text) {
        Ok(pattern) => pattern,
        Err(invalid) => {
            if !text.is_empty() {
                findings.invalid(&path.field("regex"), invalid);
            }
            any_pattern()
        }
    }
}

pub(super) fn any_pattern() -> Pattern {
    Pattern::new(".*").expect("'.*' is short and not empty")
}
