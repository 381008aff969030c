//! Heads that are read.
//!
//! `httparse` finds the parts; what it takes and RFC 9112 does not is refused here or before ([`crate::Scan`]).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};

use crate::framing::Said;
use crate::{Framing, Malformed};

/// How much a head may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From its first byte to its empty line.
    pub head_bytes: usize,
    pub fields: usize,
}

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    pub target: Uri,
    pub version: Version,
    pub fields: HeaderMap,
    pub framing: Framing,
    /// The connection may carry another one after it.
    pub persists: bool,
    /// It waits for leave before it sends its body (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    /// It understands trailers (RFC 9110, section 10.1.4).
    pub takes_trailers: bool,
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub framing: Framing,
    /// The connection may carry another one after it.
    pub persists: bool,
}

/// So many fields need no room but that of the call.
const FIELDS_ON_STACK: usize = 64;

/// Reads a whole head, found by [`crate::Scan`]. `spare` is a map whose room is used.
///
/// # Errors
/// The first rule that it breaks.
#[inline]
pub fn read_request(head: &[u8], limits: Limits, spare: HeaderMap) -> Result<RequestHead, Malformed> {
    // Values are slices of one copy: what is kept of a head outlives the buffer that it came by.
    let mut head = Bytes::copy_from_slice(head);
    while head.starts_with(b"\r\n") {
        head = head.slice(2..);
    }
    check_request_line(&head)?;
    let mut found = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&head, &mut found) {
        Err(httparse::Error::TooManyHeaders) if limits.fields > FIELDS_ON_STACK => {
            read_long_request(&head, limits, spare)
        }
        result => request_of(&head, &request, result, limits, spare),
    }
}

#[cold]
fn read_long_request(head: &Bytes, limits: Limits, spare: HeaderMap) -> Result<RequestHead, Malformed> {
    let mut found = vec![httparse::EMPTY_HEADER; limits.fields];
    let mut request = httparse::Request::new(&mut found);
    let result = request.parse(head);
    request_of(head, &request, result, limits, spare)
}

#[inline]
fn request_of(
    head: &Bytes,
    request: &httparse::Request<'_, '_>,
    result: httparse::Result<usize>,
    limits: Limits,
    spare: HeaderMap,
) -> Result<RequestHead, Malformed> {
    check_whole(result, head.len(), Malformed::RequestLine)?;
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(Malformed::RequestLine);
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::RequestLine)?;
    let is_http10 = request.version == Some(0);
    let target = read_target(head, target, &method)?;
    let mut fields = Fields::read(head, request.headers, limits, spare)?;
    // Upstreams may pad theirs: nobody but naru reads them.
    if fields.said.is_padded {
        return Err(Malformed::ContentLength);
    }
    let framing = fields.said.framing(is_http10)?.unwrap_or(Framing::Empty);
    Ok(RequestHead {
        target,
        method,
        version: if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 },
        persists: fields.persists(is_http10),
        expects_continue: fields.expects_continue && !is_http10 && framing != Framing::Empty,
        takes_trailers: fields.takes_trailers,
        fields: std::mem::take(&mut fields.map),
        framing,
    })
}

/// Reads a whole head of the response to a request of this method. `spare` is a map whose room is used.
///
/// # Errors
/// The first rule that it breaks.
#[inline]
pub fn read_response(
    head: &[u8],
    limits: Limits,
    method: &Method,
    spare: HeaderMap,
) -> Result<ResponseHead, Malformed> {
    let head = Bytes::copy_from_slice(head);
    let mut found = [const { MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, &head, &mut found) {
        Err(httparse::Error::TooManyHeaders) if limits.fields > FIELDS_ON_STACK => {
            read_long_response(&head, limits, method, spare)
        }
        result => response_of(&head, &response, result, limits, method, spare),
    }
}

#[cold]
fn read_long_response(
    head: &Bytes,
    limits: Limits,
    method: &Method,
    spare: HeaderMap,
) -> Result<ResponseHead, Malformed> {
    let mut found = vec![httparse::EMPTY_HEADER; limits.fields];
    let mut response = httparse::Response::new(&mut found);
    let result = response.parse(head);
    response_of(head, &response, result, limits, method, spare)
}

#[inline]
fn response_of(
    head: &Bytes,
    response: &httparse::Response<'_, '_>,
    result: httparse::Result<usize>,
    limits: Limits,
    method: &Method,
    spare: HeaderMap,
) -> Result<ResponseHead, Malformed> {
    check_whole(result, head.len(), Malformed::StatusLine)?;
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::StatusLine)?;
    let is_http10 = response.version == Some(0);
    let mut fields = Fields::read(head, response.headers, limits, spare)?;
    let said = fields.said.framing(is_http10)?;
    let has_none = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || *method == Method::HEAD
        || (*method == Method::CONNECT && status.is_success());
    let framing = if has_none { Framing::Empty } else { said.unwrap_or(Framing::UntilClose) };
    Ok(ResponseHead {
        status,
        persists: fields.persists(is_http10) && framing != Framing::UntilClose,
        fields: std::mem::take(&mut fields.map),
        framing,
    })
}

/// Trailers: fields like others, of which some must not be there.
pub(crate) fn read_trailers(lines: &[u8], limits: Limits) -> Result<HeaderMap, Malformed> {
    let lines = Bytes::copy_from_slice(lines);
    let mut found = vec![httparse::EMPTY_HEADER; limits.fields];
    let (result, found) = match httparse::parse_headers(&lines, &mut found) {
        Ok(httparse::Status::Complete((end, found))) => (Ok(httparse::Status::Complete(end)), found),
        Ok(httparse::Status::Partial) => (Ok(httparse::Status::Partial), &[][..]),
        Err(error) => (Err(error), &[][..]),
    };
    check_whole(result, lines.len(), Malformed::FieldName)?;
    let fields = Fields::read(&lines, found, limits, HeaderMap::new())?;
    let is_misplaced = |name: &HeaderName| NOT_IN_TRAILERS.contains(name);
    if fields.map.keys().any(is_misplaced) { Err(Malformed::TrailerField) } else { Ok(fields.map) }
}

/// RFC 9110, section 6.5.1: framing, routing, and what a receiver must know before the body.
pub(crate) const NOT_IN_TRAILERS: [HeaderName; 14] = [
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::HOST,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::AUTHORIZATION,
    header::SET_COOKIE,
    header::COOKIE,
];

fn check_whole(result: httparse::Result<usize>, length: usize, line: Malformed) -> Result<(), Malformed> {
    use httparse::Error;
    match result {
        Ok(httparse::Status::Complete(read)) if read == length => Ok(()),
        // The empty line that was found is not the one that ends it.
        Ok(_) => Err(Malformed::FieldName),
        Err(Error::HeaderName) => Err(Malformed::FieldName),
        Err(Error::HeaderValue | Error::NewLine) => Err(Malformed::FieldValue),
        Err(Error::TooManyHeaders) => Err(Malformed::TooManyFields),
        Err(Error::Version) => Err(Malformed::Version),
        Err(Error::Token | Error::Status) => Err(line),
    }
}

/// One space between each of three parts (RFC 9112, section 3), and a version that has the form of one.
fn check_request_line(head: &[u8]) -> Result<(), Malformed> {
    let end = memchr::memchr(b'\r', head).ok_or(Malformed::RequestLine)?;
    let line = &head[..end];
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let is_version = matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit());
    let spaces = memchr::memchr_iter(b' ', line).count();
    if spaces != 2 || !is_version || line.iter().any(|byte| !(0x20..0x7f).contains(byte)) {
        return Err(Malformed::RequestLine);
    }
    if matches!(version, b"HTTP/1.1" | b"HTTP/1.0") { Ok(()) } else { Err(Malformed::Version) }
}

/// One of the four forms of RFC 9112, section 3.2. A fragment is none of its parts.
fn read_target(head: &Bytes, target: &str, method: &Method) -> Result<Uri, Malformed> {
    let first = target.as_bytes().first().copied().unwrap_or_default();
    let is_authority = *method == Method::CONNECT;
    if target.contains('#') || (first == b'/' || target == "*") && is_authority {
        return Err(Malformed::Target);
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes())).map_err(|_| Malformed::Target)?;
    let has_form = match (uri.scheme(), uri.authority()) {
        (None, None) => first == b'/' || target == "*" && *method == Method::OPTIONS,
        (None, Some(_)) => is_authority,
        (Some(scheme), Some(_)) => {
            (*scheme == http::uri::Scheme::HTTP || *scheme == http::uri::Scheme::HTTPS) && !is_authority
        }
        (Some(_), None) => false,
    };
    if has_form { Ok(uri) } else { Err(Malformed::Target) }
}

/// The fields of a head, and what they say about the message as a whole.
struct Fields {
    map: HeaderMap,
    said: Said,
    closes: bool,
    keeps_alive: bool,
    expects_continue: bool,
    takes_trailers: bool,
}

impl Fields {
    #[inline]
    fn read(
        head: &Bytes,
        found: &[httparse::Header<'_>],
        limits: Limits,
        spare: HeaderMap,
    ) -> Result<Fields, Malformed> {
        if found.len() > limits.fields {
            return Err(Malformed::TooManyFields);
        }
        let mut fields = Fields {
            map: spare,
            said: Said::default(),
            closes: false,
            keeps_alive: false,
            expects_continue: false,
            takes_trailers: false,
        };
        for field in found {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::FieldName)?;
            let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
                .map_err(|_| Malformed::FieldValue)?;
            fields.hear(&name, &value)?;
            fields.map.append(name, value);
        }
        Ok(fields)
    }

    #[inline]
    fn hear(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Malformed> {
        match *name {
            header::CONTENT_LENGTH => self.said.length(value)?,
            header::TRANSFER_ENCODING => self.said.coding(value)?,
            header::CONNECTION => {
                self.closes |= has_token(value, b"close");
                self.keeps_alive |= has_token(value, b"keep-alive");
            }
            header::EXPECT => self.expects_continue |= has_token(value, b"100-continue"),
            header::TE => self.takes_trailers |= has_token(value, b"trailers"),
            // To those who know headers as variables, it is one of the two (RFC 3875, section 4.1.18).
            _ if matches!(name.as_str(), "content_length" | "transfer_encoding") => {
                return Err(Malformed::FieldName);
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112, section 9.3.
    fn persists(&self, is_http10: bool) -> bool {
        !self.closes && (!is_http10 || self.keeps_alive)
    }
}

fn has_token(value: &HeaderValue, token: &[u8]) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}
