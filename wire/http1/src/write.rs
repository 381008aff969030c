//! Messages that are said.
//!
//! Whatever framing came in, what goes out has one of naru's own: fields that frame a message are written here alone.

use std::io::Write as _;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use crate::Framing;
use crate::read::NOT_IN_TRAILERS;

/// Leave to send a body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The end of a body in chunks without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes the head of a request with a body that is framed so.
#[inline]
pub fn write_request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    fields: &HeaderMap,
    framing: Framing,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, fields, |name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING);
    match framing {
        // RFC 9110, section 8.6: where a method gives a body a meaning, its absence is said.
        Framing::Empty if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            write_length(out, 0)
        }
        Framing::Empty | Framing::UntilClose => {}
        Framing::Length(length) => write_length(out, length),
        Framing::Chunked => write_chunked(out),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a response. A length that is not framed, as to HEAD, is the one in `fields`.
#[inline]
pub fn write_response_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
    framing: Option<Framing>,
    connection: Option<&str>,
) {
    write_status_line(out, status);
    let keeps_length = framing.is_none();
    write_fields(out, fields, |name| {
        (*name != header::CONTENT_LENGTH || keeps_length)
            && *name != header::TRANSFER_ENCODING
            && (*name != header::CONNECTION || connection.is_none())
    });
    match framing {
        None | Some(Framing::UntilClose) => {}
        Some(Framing::Empty) => write_length(out, 0),
        Some(Framing::Length(length)) => write_length(out, length),
        Some(Framing::Chunked) => write_chunked(out),
    }
    if let Some(connection) = connection {
        out.extend_from_slice(b"connection: ");
        out.extend_from_slice(connection.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the first line of a response.
#[inline]
pub fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk, which CRLF must follow.
#[inline]
pub fn write_chunk_size(out: &mut Vec<u8>, length: usize) {
    // A vector takes everything.
    let _ = write!(out, "{length:x}\r\n");
}

/// Writes the end of a body in chunks.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    let Some(trailers) = trailers else { return out.extend_from_slice(LAST_CHUNK) };
    out.extend_from_slice(b"0\r\n");
    write_fields(out, trailers, |name| !NOT_IN_TRAILERS.contains(name));
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap, is_written: impl Fn(&header::HeaderName) -> bool) {
    for (name, value) in fields {
        if is_written(name) {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            out.reserve(name.len() + value.len() + 4);
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"transfer-encoding: chunked\r\n");
}
