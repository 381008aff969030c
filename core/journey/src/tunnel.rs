//! Where does a tunnel lead, and what is in it?
//!
//! `CONNECT host:port` (RFC 9110, section 9.3.6) says where; the first bytes that the client sends
//! through say what. HTTP is served here, request by request, as if it had come without a tunnel. All
//! else is none of ours to read and is passed through; what becomes of it is decided by
//! [`crate::Journey::pass_through`].

use http::Uri;
use naru_spec::defaults::TUNNEL_FIRST_BYTES_MAX;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A method that is longer is none (the longest that is registered has 17 letters).
const METHOD_BYTES_MAX: usize = 32;

/// The host and the port that a tunnel leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// A name, or an address; one of IPv6 without its brackets.
    pub host: Box<str>,
    pub port: u16,
}

/// What the bytes in a tunnel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    Http1,
    Http2,
    /// TLS: nobody but its two ends can read it.
    Tls,
    Other,
}

impl Destination {
    /// Of the target of a CONNECT: nothing but a host and a port, which must be there.
    pub fn of(target: &Uri) -> Option<Destination> {
        let authority = target.authority().filter(|_| target.scheme().is_none())?;
        let port = authority.port_u16().filter(|port| *port != 0)?;
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_alone = !authority.as_str().contains('@');
        (is_alone && !host.is_empty()).then(|| Destination { host: host.into(), port })
    }
}

impl Inside {
    /// What these first bytes say; `None` while more of them are needed.
    pub fn of(start: &[u8]) -> Option<Inside> {
        let first = *start.first()?;
        if first == 0x16 {
            // A handshake record; its version begins with 3 in all versions (RFC 8446, section 5.1).
            return start.get(1).map(|major| if *major == 3 { Inside::Tls } else { Inside::Other });
        }
        let compared = start.len().min(HTTP2_PREFACE.len());
        if start[..compared] == HTTP2_PREFACE[..compared] {
            return (compared == HTTP2_PREFACE.len()).then_some(Inside::Http2);
        }
        request_line(start)
    }
}

/// `GET /a HTTP/1.1`: no other protocol begins with such a line.
fn request_line(start: &[u8]) -> Option<Inside> {
    let method = start.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    if method > METHOD_BYTES_MAX {
        return Some(Inside::Other);
    }
    match start.get(method) {
        None => return None,
        Some(b' ') if method > 0 => {}
        Some(_) => return Some(Inside::Other),
    }
    let rest = &start[method + 1..];
    let end = rest.iter().position(|byte| *byte == b'\n');
    // Whether the line has come to its end or not: pieces of any size say the same.
    let line = &rest[..end.unwrap_or(rest.len())];
    if line.iter().any(|byte| *byte != b'\r' && byte.is_ascii_control()) {
        return Some(Inside::Other);
    }
    if end.is_none() {
        // Too long for us, but nothing else looks like that: the codec answers it.
        return (start.len() >= TUNNEL_FIRST_BYTES_MAX).then_some(Inside::Http1);
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_http = [&b" HTTP/1.1"[..], b" HTTP/1.0"].iter().any(|version| line.ends_with(version));
    Some(if is_http { Inside::Http1 } else { Inside::Other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_is_inside() {
        let check = |start: &[u8], expected: Option<Inside>| {
            assert_eq!(Inside::of(start), expected, "{}", String::from_utf8_lossy(start));
        };
        check(b"", None);
        check(b"G", None);
        check(b"GET", None);
        check(b"GET /", None);
        check(b"GET / HTTP/1.1", None);
        check(b"GET / HTTP/1.1\r\n", Some(Inside::Http1));
        check(b"M-SEARCH * HTTP/1.1\r\n", Some(Inside::Http1));
        check(b"POST http://a.example/b HTTP/1.0\nx", Some(Inside::Http1));
        check(b"GET key\r\n", Some(Inside::Other));
        check(b"OPTIONS rtsp://a RTSP/1.0\r\n", Some(Inside::Other));
        check(b"GET /\0", Some(Inside::Other));
        check(b"GET /\0 HTTP/1.1\r\n", Some(Inside::Other));
        check(b"get / HTTP/1.1\r\n", Some(Inside::Other));
        check(b" GET / HTTP/1.1\r\n", Some(Inside::Other));
        check(b"SSH-2.0-x\r\n", Some(Inside::Other));
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None);
        check(HTTP2_PREFACE, Some(Inside::Http2));
        check(b"PRI * HTTP/2.0\r\n\r\nXX", Some(Inside::Other));
        check(&[0x16], None);
        check(&[0x16, 3], Some(Inside::Tls));
        check(&[0x16, 3, 1, 2, 0, 1], Some(Inside::Tls));
        check(&[0x16, 9], Some(Inside::Other));
        check(&[0x80], Some(Inside::Other));
        check(&[b'A'; METHOD_BYTES_MAX], None);
        check(&[b'A'; METHOD_BYTES_MAX + 1], Some(Inside::Other));
        let long = [&b"GET /"[..], &[b'a'; TUNNEL_FIRST_BYTES_MAX]].concat();
        check(&long[..TUNNEL_FIRST_BYTES_MAX - 1], None);
        check(&long[..TUNNEL_FIRST_BYTES_MAX], Some(Inside::Http1));
    }

    #[test]
    fn a_destination_is_a_host_and_a_port() {
        let check = |target: &str, expected: Option<(&str, u16)>| {
            let found = target.parse().ok().and_then(|target| Destination::of(&target));
            let expected = expected.map(|(host, port)| Destination { host: host.into(), port });
            assert_eq!(found, expected, "{target}");
        };
        check("a.example:443", Some(("a.example", 443)));
        check("127.0.0.1:80", Some(("127.0.0.1", 80)));
        check("[::1]:80", Some(("::1", 80)));
        check("a.example", None);
        check("a.example:0", None);
        check("a.example:70000", None);
        check("[]:80", None);
        check("u@a.example:80", None);
        check("http://a.example:80/", None);
        check("/a", None);
    }
}
