//! Heads and trailers as lists of fields: RFC 9113, section 8.
//!
//! Whatever is malformed there is refused here, and never seen by anything behind: HTTP/1 has no such lists, and
//! what is harmless in one (a line feed, a space before a colon, a second length) is another request in the other.

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use naru_base::Reason;
use naru_journey::upgrade;

use super::frame::{self, HEAD_BYTES};
use super::hpack::{self, ENTRY_OVERHEAD, Field};

/// What a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Request,
    Response,
    Trailers,
}

/// Reads a list, field for field.
#[derive(Debug)]
pub struct Reading {
    message: Message,
    bytes_max: usize,
    /// A client may ask for another protocol (RFC 8441).
    takes_extended: bool,
    bytes: usize,
    has_regular: bool,
    method: Option<Method>,
    protocol: Option<HeaderValue>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    status: Option<StatusCode>,
    length: Option<u64>,
    cookies: BytesMut,
    cookies_are_sensitive: bool,
    headers: HeaderMap,
    fault: Option<Reason>,
}

impl Reading {
    pub fn new(message: Message, bytes_max: usize, takes_extended: bool) -> Reading {
        Reading {
            message,
            bytes_max,
            takes_extended,
            bytes: 0,
            has_regular: false,
            method: None,
            protocol: None,
            scheme: None,
            authority: None,
            path: None,
            status: None,
            length: None,
            cookies: BytesMut::new(),
            cookies_are_sensitive: false,
            headers: HeaderMap::new(),
            fault: None,
        }
    }

    /// All of the list, uncompressed, as its limit counts it (section 6.5.2).
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn length(&self) -> Option<u64> {
        self.length
    }

    pub fn take(&mut self, field: Field<'_>) {
        self.bytes += field.name.len() + field.value.len() + ENTRY_OVERHEAD;
        if self.bytes > self.bytes_max {
            self.fault = self.fault.or(Some(Reason::HeadTooLarge));
        }
        if self.fault.is_some() {
            return;
        }
        let taken = match field.name.split_first() {
            Some((b':', name)) => self.take_pseudo(name, field.value),
            Some(_) => self.take_regular(field),
            None => None,
        };
        if taken.is_none() {
            self.fault = Some(Reason::ClientProtocol);
        }
    }

    /// `None` where it must not stand here.
    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if self.has_regular {
            return None;
        }
        match (self.message, name) {
            (Message::Request, b"method") => once(&mut self.method, Method::from_bytes(value).ok()?),
            (Message::Request, b"scheme") => {
                // Of what else could be meant nothing is served here.
                let scheme = match value {
                    b"https" => Scheme::HTTPS,
                    b"http" => Scheme::HTTP,
                    _ => return None,
                };
                once(&mut self.scheme, scheme)
            }
            (Message::Request, b"authority") => once(&mut self.authority, Authority::try_from(value).ok()?),
            (Message::Request, b"path") => {
                // The parser of targets forgets a fragment, and what is no character of one is for us to find.
                let begins = matches!(value.first(), Some(b'/')) || value == b"*";
                if !begins || value.iter().any(|byte| matches!(byte, b'#' | ..=b' ' | 0x7f)) {
                    return None;
                }
                once(&mut self.path, PathAndQuery::try_from(value).ok()?)
            }
            (Message::Request, b"protocol") if self.takes_extended => {
                let name = HeaderName::from_bytes(value).ok().and(HeaderValue::from_bytes(value).ok());
                once(&mut self.protocol, name?)
            }
            (Message::Response, b"status") => {
                let is_code = value.len() == 3 && value.iter().all(u8::is_ascii_digit);
                once(&mut self.status, StatusCode::from_bytes(value).ok().filter(|_| is_code)?)
            }
            _ => None,
        }
    }

    fn take_regular(&mut self, field: Field<'_>) -> Option<()> {
        self.has_regular = true;
        // No upper case, no space, no colon: only tokens (section 8.2.1).
        let name = HeaderName::from_lowercase(field.name).ok()?;
        // No line feed, no carriage return, no zero; and no space at either end.
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_space(field.value.first()) || is_space(field.value.last()) {
            return None;
        }
        let mut value = HeaderValue::from_bytes(field.value).ok()?;
        value.set_sensitive(field.is_sensitive);
        match name {
            // What belongs to one connection of HTTP/1 (section 8.2.2).
            header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => return None,
            header::TE if field.value != b"trailers" => return None,
            header::CONTENT_LENGTH => {
                // A second one is refused whatever it says, and no sign or list is a number.
                once(&mut self.length, number(field.value)?)?;
            }
            header::COOKIE => {
                // One field for all that are not of HTTP/2 (section 8.2.3).
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(field.value);
                self.cookies_are_sensitive |= field.is_sensitive;
                return Some(());
            }
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => return None,
            // To those who know headers as variables they are what frames a message of HTTP/1.
            _ if matches!(name.as_str(), "transfer_encoding" | "content_length") => return None,
            _ => {}
        }
        if self.message == Message::Trailers && is_of_heads(&name) {
            return None;
        }
        self.headers.try_append(name, value).ok().map(drop)
    }

    fn finish(&mut self) -> Result<(), Reason> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if !self.cookies.is_empty() {
            let cookies = std::mem::take(&mut self.cookies).freeze();
            let mut value = HeaderValue::from_maybe_shared(cookies).map_err(|_| Reason::ClientProtocol)?;
            value.set_sensitive(self.cookies_are_sensitive);
            self.headers.insert(header::COOKIE, value);
        }
        Ok(())
    }

    /// # Errors
    /// It is none, or one that is too large.
    pub fn into_request(mut self) -> Result<Request<()>, Reason> {
        self.finish()?;
        let malformed = Reason::ClientProtocol;
        let mut method = self.method.ok_or(malformed)?;
        let mut target = http::uri::Parts::default();
        if let Some(protocol) = &self.protocol {
            // Only with this method (RFC 8441, section 4), which then stands for another.
            if method != Method::CONNECT {
                return Err(malformed);
            }
            method = upgrade::from_extended_connect(protocol, &mut self.headers);
        }
        if method == Method::CONNECT {
            // Section 8.5.
            if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() {
                return Err(malformed);
            }
        } else {
            let path = self.path.ok_or(malformed)?;
            if path.as_str() == "*" && method != Method::OPTIONS {
                return Err(malformed);
            }
            let scheme = self.scheme.ok_or(malformed)?;
            target.scheme = self.authority.is_some().then_some(scheme);
            target.path_and_query = Some(path);
        }
        target.authority = self.authority;
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_parts(target).map_err(|_| malformed)?;
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        Ok(request)
    }

    /// # Errors
    /// As [`Reading::into_request`].
    pub fn into_response(mut self) -> Result<Response<()>, Reason> {
        self.finish()?;
        let mut response = Response::new(());
        *response.status_mut() = self.status.ok_or(Reason::ClientProtocol)?;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.headers;
        Ok(response)
    }

    /// # Errors
    /// As [`Reading::into_request`].
    pub fn into_trailers(mut self) -> Result<HeaderMap, Reason> {
        self.finish()?;
        Ok(self.headers)
    }
}

/// `None` where it stood there already.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// Digits only.
pub fn number(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_number)?.parse().ok()
}

/// Fields that say how a message is framed, or where it goes: not in trailers (RFC 9110, section 6.5.1).
fn is_of_heads(name: &HeaderName) -> bool {
    matches!(*name, header::CONTENT_LENGTH | header::HOST | header::TE | header::TRAILER)
}

/// Headers that are of one connection of HTTP/1 (RFC 9113, section 8.2.2). Those that `connection` names are gone.
pub fn is_of_connection(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// What a CONNECT to an upstream asks for (RFC 8441), where it asks for a protocol.
#[derive(Clone, Debug)]
pub struct Protocol(pub HeaderValue);

/// Writes blocks.
#[derive(Debug)]
pub struct Writing<'a> {
    pub out: &'a mut BytesMut,
    pub stream: u32,
    pub frame_max: usize,
    pub ends_stream: bool,
    /// The peer wants to hear that we keep no table.
    pub tells_table: bool,
}

impl Writing<'_> {
    pub fn request(self, request: &Request<()>) {
        let uri = request.uri();
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let is_connect = *request.method() == Method::CONNECT;
        let protocol = request.extensions().get::<Protocol>().filter(|_| is_connect);
        self.block(request.headers(), |out| {
            put(out, b":method", request.method().as_str().as_bytes());
            if let Some(Protocol(protocol)) = protocol {
                put(out, b":protocol", protocol.as_bytes());
            }
            if !is_connect || protocol.is_some() {
                put(out, b":scheme", uri.scheme_str().unwrap_or("http").as_bytes());
                put(out, b":path", path.as_bytes());
            }
            if let Some(authority) = uri.authority() {
                put(out, b":authority", authority.as_str().as_bytes());
            }
        });
    }

    pub fn response(self, status: StatusCode, headers: &HeaderMap) {
        self.block(headers, |out| put(out, b":status", status.as_str().as_bytes()));
    }

    pub fn trailers(self, trailers: &HeaderMap) {
        self.block(trailers, |_| {});
    }

    fn block(self, headers: &HeaderMap, pseudo: impl FnOnce(&mut BytesMut)) {
        let out = self.out;
        out.extend_from_slice(&[0; HEAD_BYTES]);
        let begin = out.len();
        if self.tells_table {
            hpack::encode_no_table(out);
        }
        pseudo(out);
        for (name, value) in headers {
            if is_of_connection(name) || *name == header::TE && value != "trailers" {
                continue;
            }
            let is_sensitive = value.is_sensitive();
            hpack::encode(
                out,
                Field { name: name.as_str().as_bytes(), value: value.as_bytes(), is_sensitive },
            );
        }
        frame::finish_headers(out, begin, self.stream, self.ends_stream, self.frame_max);
    }
}

fn put(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    hpack::encode(out, Field { name, value, is_sensitive: false });
}
