//! Heads and trailers: RFC 9114, section 4. What is malformed there is what it is in HTTP/2, and is found by the same code.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Version};
use naru_base::Reason;

use super::super::http2::fields::{Message, Reading, is_of_connection};
use super::super::http2::hpack::Field;
use super::frame::{self, Code, HEADERS};
use super::qpack;

/// What is wrong with a section of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// With this message.
    Message(Reason),
    /// With the connection.
    Connection(Code),
}

/// Of a client's messages.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes_max: usize,
    pub count_max: usize,
    /// Clients may ask for other protocols (RFC 9220).
    pub takes_extended: bool,
}

fn read(section: &[u8], message: Message, limits: Limits) -> Result<Reading, Wrong> {
    let mut reading = Reading::new(message, limits.bytes_max, limits.takes_extended);
    let mut count = 0;
    qpack::decode(section, |field| {
        count += usize::from(!field.name.starts_with(b":"));
        reading.take(field);
    })
    .map_err(|_| Wrong::Connection(Code::QPACK_DECOMPRESSION_FAILED))?;
    if count > limits.count_max { Err(Wrong::Message(Reason::HeadTooLarge)) } else { Ok(reading) }
}

/// A request, and how long its body says that it is.
pub fn read_request(section: &[u8], limits: Limits) -> Result<(Request<()>, Option<u64>), Wrong> {
    let reading = read(section, Message::Request, limits)?;
    let length = reading.length();
    let mut request = reading.into_request().map_err(Wrong::Message)?;
    *request.version_mut() = Version::HTTP_3;
    Ok((request, length))
}

pub fn read_trailers(section: &[u8], limits: Limits) -> Result<HeaderMap, Wrong> {
    read(section, Message::Trailers, limits)?.into_trailers().map_err(Wrong::Message)
}

/// A frame of fields.
fn write(status: Option<StatusCode>, fields: &HeaderMap) -> Bytes {
    let mut section = BytesMut::with_capacity(512);
    qpack::begin(&mut section);
    if let Some(status) = status {
        let value = status.as_str().as_bytes();
        qpack::encode(&mut section, Field { name: b":status", value, is_sensitive: false });
    }
    for (name, value) in fields.iter().filter(|(name, _)| !is_of_connection(name)) {
        let (name, is_sensitive) = (name.as_str().as_bytes(), value.is_sensitive());
        qpack::encode(&mut section, Field { name, value: value.as_bytes(), is_sensitive });
    }
    let mut out = BytesMut::with_capacity(section.len() + 8);
    frame::put_head(&mut out, HEADERS, section.len());
    out.extend_from_slice(&section);
    out.freeze()
}

pub fn write_response(status: StatusCode, fields: &HeaderMap) -> Bytes {
    write(Some(status), fields)
}

pub fn write_trailers(fields: &HeaderMap) -> Bytes {
    write(None, fields)
}
