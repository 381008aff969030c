//! A head as it came in, brought into the one form that everything behind works on.
//!
//! Whatever the protocol, the authority is in the Host header afterwards and the target is a path
//! with its query.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use naru_base::Reason;
use naru_route::Subject;
use naru_spec::{HostPort, Http};

use crate::Worker;
use crate::edge::{self, Client, Peer, Upgrade};
use crate::path::{self, Normalized};
use crate::record::RequestLine;
use crate::tunnel::Destination;

/// A request, ready to be decided about.
#[derive(Debug)]
pub struct Arrival {
    pub line: RequestLine,
    pub client: Client,
    pub wish: Wish,
}

/// What is to be done for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The rules say it.
    Route,
    /// It must be refused before any rule is asked.
    Refuse(Reason),
    /// The rules say it, of a change of protocol as well: [`RequestFacts::is_upgrade`](crate::RequestFacts).
    Upgrade,
    /// It is for a tunnel, which it may have. There is a [`crate::tunnel::Destination`] in its target.
    Tunnel,
}

/// Takes a head in. Chance is taken from `worker`.
#[inline]
pub fn receive(parts: &mut Parts, http: &Http, peer: &Peer, worker: &mut Worker) -> Arrival {
    let mut path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let has_too_many = parts.headers.len() > http.header_count_max as usize;
    let mut refusal = check_target(parts).and_then(|()| put_authority(parts, http, peer)).err();
    if http.paths.is_active() && refusal.is_none() {
        refusal = normalize(&mut path, http).err();
    }
    let mut client = edge::receive(&mut parts.headers, http, peer, worker).unwrap_or_else(|reason| {
        refusal = Some(reason);
        Client::unknown(peer)
    });
    if has_too_many {
        refusal = Some(Reason::HeadTooLarge);
    }
    let mut wish = refusal.map_or(Wish::Route, Wish::Refuse);
    if wish == Wish::Route && (client.upgrade == Upgrade::Asked || parts.method == Method::CONNECT) {
        wish = change(parts, http, peer, &mut client);
        if parts.method == Method::CONNECT {
            // It has none.
            path = PathAndQuery::from_static("*");
        }
    }
    let line = RequestLine {
        method: parts.method.clone(),
        path,
        authority: parts.headers.get(header::HOST).cloned(),
        scheme: client.scheme,
        version: parts.version,
    };
    Arrival { line, client, wish }
}

fn normalize(path: &mut PathAndQuery, http: &Http) -> Result<(), Reason> {
    match path::normalize(path, &http.paths) {
        Normalized::Same => Ok(()),
        Normalized::Changed(other) => {
            *path = other;
            Ok(())
        }
        Normalized::Elsewhere(other) => {
            *path = other;
            Err(Reason::PathRedirected)
        }
        Normalized::Refused => Err(Reason::PathRefused),
    }
}

/// A request that wants something else than HTTP.
#[cold]
fn change(parts: &mut Parts, http: &Http, peer: &Peer, client: &mut Client) -> Wish {
    if client.upgrade == Upgrade::Asked && parts.version < Version::HTTP_11 {
        // It knows of no such thing, whatever it sends (RFC 9110, section 7.8).
        client.upgrade = Upgrade::None;
        crate::upgrade::forget(&mut parts.headers);
        if parts.method != Method::CONNECT {
            return Wish::Route;
        }
    }
    // Later than HTTP/1 a tunnel would be a stream among others; and there is none in a tunnel.
    let has_tunnels = http.tunnels && !peer.is_in_tunnel && parts.version < Version::HTTP_2;
    if client.upgrade == Upgrade::Asked && parts.method != Method::CONNECT {
        return Wish::Upgrade;
    }
    if client.upgrade == Upgrade::Asked {
        return Wish::Refuse(Reason::UpgradeRefused);
    }
    if parts.version == Version::HTTP_3 {
        return Wish::Refuse(Reason::UpgradeRefused);
    }
    match Destination::of(&parts.uri) {
        Some(_) if has_tunnels => Wish::Tunnel,
        Some(_) => {
            client.upgrade = Upgrade::Connect;
            Wish::Upgrade
        }
        None if has_tunnels => Wish::Refuse(Reason::ClientProtocol),
        None => Wish::Refuse(Reason::UpgradeRefused),
    }
}

impl RequestLine {
    /// Of a request that could not be read: its method is `-` and its path `*`.
    pub fn unreadable(peer: &Peer) -> RequestLine {
        RequestLine {
            method: Method::from_bytes(b"-").unwrap_or_default(),
            path: PathAndQuery::from_static("*"),
            authority: None,
            scheme: peer.scheme(),
            version: Version::HTTP_11,
        }
    }

    /// What rules look at.
    #[inline]
    pub fn subject<'a>(&'a self, headers: &'a HeaderMap, client: &Client, draw: u64) -> Subject<'a> {
        Subject {
            method: &self.method,
            authority: self.authority.as_ref().and_then(|value| value.to_str().ok()).unwrap_or(""),
            path: self.path.path(),
            query: self.path.query(),
            scheme: self.scheme,
            headers,
            source: client.address.ip(),
            is_internal: client.is_internal,
            draw,
            claims: None,
        }
    }
}

/// A target that is only a host belongs to CONNECT, an asterisk to OPTIONS (RFC 9112, section 3.2).
fn check_target(parts: &Parts) -> Result<(), Reason> {
    let is_host = parts.uri.authority().is_some() && parts.uri.scheme().is_none();
    let is_asterisk = parts.uri.path() == "*";
    if is_host && parts.method != Method::CONNECT || is_asterisk && parts.method != Method::OPTIONS {
        return Err(Reason::ClientProtocol);
    }
    Ok(())
}

/// Sees to it that the Host header is the one authority (RFC 9112, section 3.2; RFC 9113, 8.3.1).
fn put_authority(parts: &mut Parts, http: &Http, peer: &Peer) -> Result<(), Reason> {
    match parts.uri.authority() {
        // That there is one alone is seen by `edge::receive`.
        None => {
            if !parts.headers.get(header::HOST).is_some_and(|host| is_host(host.as_bytes())) {
                return Err(Reason::BadHost);
            }
        }
        Some(authority) => {
            // Counted before it is replaced.
            let mut all = parts.headers.get_all(header::HOST).iter();
            let (said, other) = (all.next(), all.next());
            if other.is_some() {
                return Err(Reason::BadHost);
            }
            let authority = authority.as_str();
            // HTTP/1 ignores the Host beside an absolute target; the later ones have no reason to send another.
            let is_other = parts.version >= Version::HTTP_2 && said.is_some_and(|said| said != authority);
            // It ignores what it says, not whether it is there; clients of tunnels leave it out, and nobody reads it there.
            let is_missing = parts.version == Version::HTTP_11
                && parts.method != Method::CONNECT
                && !said.is_some_and(|said| is_host(said.as_bytes()));
            // Others read a target up to such a mark, or not at all.
            let is_odd = parts.version <= Version::HTTP_11
                && authority.bytes().any(|byte| b"!$&'()*+,;=".contains(&byte));
            if is_other || is_missing || is_odd || !is_host(authority.as_bytes()) {
                return Err(Reason::BadHost);
            }
            let value = HeaderValue::from_str(authority).map_err(|_| Reason::BadHost)?;
            parts.headers.insert(header::HOST, value);
        }
    }
    if http.strip_trailing_host_dot || http.host_port != HostPort::Keep {
        strip_host(parts, http, peer)?;
    }
    Ok(())
}

#[cold]
fn strip_host(parts: &mut Parts, http: &Http, peer: &Peer) -> Result<(), Reason> {
    // Counted before it is replaced.
    if parts.headers.get_all(header::HOST).iter().count() > 1 {
        return Err(Reason::BadHost);
    }
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).ok_or(Reason::BadHost)?;
    let mut host = std::borrow::Cow::Borrowed(host);
    if http.strip_trailing_host_dot
        && let Some(stripped) = without_dot(&host)
    {
        host = stripped.into();
    }
    let stripped = match http.host_port {
        HostPort::Keep => None,
        // The port is what a tunnel leads to. Envoy's `HeaderUtility::stripPortFromHost`.
        HostPort::StripAny if parts.method == Method::CONNECT => None,
        what => without_port(&host, what, peer.local.port()),
    };
    let value = HeaderValue::from_str(stripped.unwrap_or(&host)).map_err(|_| Reason::BadHost)?;
    parts.headers.insert(header::HOST, value);
    Ok(())
}

/// Whether it is a host, perhaps with a port (RFC 9110, section 7.2; RFC 3986, section 3.2.2).
#[inline]
pub(crate) fn is_host(host: &[u8]) -> bool {
    // Most have letters, digits, dots and hyphens alone, and perhaps a port.
    match host.iter().position(|byte| !IN_NAME[usize::from(*byte)]) {
        None => !host.is_empty(),
        Some(at) if at > 0 && host[at] == b':' => is_port(&host[at + 1..]),
        Some(_) => has_form(host),
    }
}

#[inline]
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// What stands in a name but a percent sign.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~!$&'()*+,;=";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Of a host with something encoded in it, or an address of IPv6.
#[cold]
fn has_form(host: &[u8]) -> bool {
    if let Some(literal) = host.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
        let (address, port) = (&literal[..end], &literal[end + 1..]);
        let is_address =
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        return is_address && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port));
    }
    let (name, port) = match host.iter().position(|byte| *byte == b':') {
        Some(at) => (&host[..at], &host[at + 1..]),
        None => (host, &[][..]),
    };
    let is_plain = |part: &[u8]| part.iter().all(|byte| IN_NAME[usize::from(*byte)]);
    let is_encoded = |part: &[u8]| part.len() > 1 && part[..2].iter().all(u8::is_ascii_hexdigit);
    // In the first part nothing is encoded; each of the others begins with what a percent sign is followed by.
    let mut parts = name.split(|byte| *byte == b'%');
    let is_name = !name.is_empty()
        && parts.next().is_some_and(is_plain)
        && parts.all(|part| is_encoded(part) && is_plain(part));
    is_name && is_port(port)
}

/// The host without the dot at its end, which stands before its port, if it has one. Envoy's `stripTrailingHostDot`.
fn without_dot(host: &str) -> Option<String> {
    let (name, after) = host.rsplit_once('.')?;
    (after.is_empty() || after.starts_with(':')).then(|| format!("{name}{after}"))
}

/// The host without its port, where that is to be removed.
fn without_port(host: &str, what: HostPort, local: u16) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    // A colon inside an IPv6 literal is no port.
    let is_whole = !name.contains(':') || name.ends_with(']');
    let is_meant = what == HostPort::StripAny || port.parse() == Ok(local);
    (is_port && is_whole && is_meant && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_perhaps() {
        let hosts = [
            "a",
            "A.Test",
            "a_b",
            "a:80",
            "a:",
            "1.2.3.4:5",
            "[::1]",
            "[::1]:80",
            "a%20b",
            "a,b",
            "xn--bcher-kva.test",
        ];
        for host in hosts {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        let others = [
            "", ":80", "a:b", "a:1:2", "a:123456", "u@a", "a b", "a/b", "a?b", "a#b", "[::1", "::1", "[a]",
            "[::1]x", "[::1]:x",
        ];
        let more = ["a%2", "a%zz", "a[", "]", "\u{e9}", "a\\b", "a\"b", "<a>", "%", "a:80%20"];
        for host in others.into_iter().chain(more) {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_port_is_stripped_where_it_is_one() {
        fn check(host: &str, what: HostPort, expected: Option<&str>) {
            assert_eq!(without_port(host, what, 8080), expected, "{host}");
        }
        check("a.example:8080", HostPort::StripMatching, Some("a.example"));
        check("a.example:81", HostPort::StripMatching, None);
        check("a.example:81", HostPort::StripAny, Some("a.example"));
        check("[::1]:81", HostPort::StripAny, Some("[::1]"));
        check("::1", HostPort::StripAny, None);
        check("a.example", HostPort::StripAny, None);
        check("a.example:", HostPort::StripAny, None);
        check(":80", HostPort::StripAny, None);
    }

    #[test]
    fn a_dot_is_stripped_where_it_ends_the_host() {
        fn check(host: &str, expected: Option<&str>) {
            assert_eq!(without_dot(host).as_deref(), expected, "{host}");
        }
        check("a.example.", Some("a.example"));
        check("a.example.:80", Some("a.example:80"));
        check("a.example", None);
        check("a.example:80", None);
        check("[::1]:80", None);
        check("a..", Some("a."));
        check("localhost", None);
    }
}
