//! The head of a request, brought into the one form that everything behind works on.
//!
//! Whatever the protocol, the authority is in the Host header afterwards and the target is a path
//! with its query.

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Version};
use naru_base::Reason;
use naru_journey::edge::{self, Client, Upgrade};
use naru_journey::record::RequestLine;
use naru_spec::{HostPort, Http, Scheme};

use crate::accept::Connection;

/// A request as it came in, ready to be decided about.
#[derive(Debug)]
pub struct Arrival {
    pub line: RequestLine,
    pub client: Client,
    /// Why it must be refused before any rule is asked.
    pub refusal: Option<Reason>,
}

#[inline]
pub fn receive(
    connection: &Connection,
    http: &Http,
    parts: &mut Parts,
    core: &mut naru_journey::Worker,
) -> Arrival {
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut refusal = put_authority(http, connection, parts).err();
    let client = match edge::receive(&mut parts.headers, http, &connection.peer, core) {
        Ok(client) => client,
        Err(reason) => {
            refusal = Some(reason);
            Client {
                address: connection.peer.remote,
                scheme: if connection.peer.is_tls { Scheme::Https } else { Scheme::Http },
                timeout_ms: None,
                is_grpc: false,
                upgrade: Upgrade::None,
            }
        }
    };
    if client.upgrade == Upgrade::Refused || parts.method == Method::CONNECT {
        refusal = refusal.or(Some(Reason::UpgradeRefused));
    }
    let line = RequestLine {
        method: parts.method.clone(),
        path,
        authority: parts.headers.get(header::HOST).cloned(),
        scheme: client.scheme,
        version: parts.version,
    };
    Arrival { line, client, refusal }
}

/// Sees to it that the Host header is the one authority (RFC 9112, section 3.2; RFC 9113, 8.3.1).
fn put_authority(http: &Http, connection: &Connection, parts: &mut Parts) -> Result<(), Reason> {
    if let Some(authority) = parts.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(Reason::BadHost);
        }
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadHost)?;
        let said = parts.headers.get(header::HOST);
        // HTTP/1 ignores the Host beside an absolute target; HTTP/2 has no reason to send another.
        if parts.version == Version::HTTP_2 && said.is_some_and(|said| *said != value) {
            return Err(Reason::BadHost);
        }
        if parts.headers.get_all(header::HOST).iter().count() <= 1 {
            parts.headers.insert(header::HOST, value);
        }
    }
    let host = parts.headers.get(header::HOST).ok_or(Reason::BadHost)?;
    let host = host.to_str().map_err(|_| Reason::BadHost)?;
    if host.is_empty() {
        return Err(Reason::BadHost);
    }
    if http.host_port != HostPort::Keep
        && let Some(stripped) = without_port(host, http.host_port, connection.peer.local.port())
    {
        let value = HeaderValue::from_str(stripped).map_err(|_| Reason::BadHost)?;
        parts.headers.insert(header::HOST, value);
    }
    Ok(())
}

/// The host without its port, where that is to be removed.
fn without_port(host: &str, what: HostPort, local: u16) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    // A colon inside an IPv6 literal is no port.
    let is_whole = !name.contains(':') || name.ends_with(']');
    let is_meant = what == HostPort::StripAny || port.parse() == Ok(local);
    (is_port && is_whole && is_meant).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
