//! A probe by `grpc.health.v1.Health/Check`: Envoy's `GrpcHealthCheckerImpl`.
//!
//! Two messages with one field each are written and read by hand. An answer that is no gRPC has the
//! status 13, as in Envoy.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use http_body::Body as _;
use naru_guard::ProbeResult;
use naru_spec::GrpcCheck;

use super::http::{Inquiry, exchange, next_frame};
use super::{Line, ProbeSettings, Speaks, Target};
use crate::settle::grpc_status;

const PATH: &str = "/grpc.health.v1.Health/Check";
const CONTENT_TYPE: &str = "application/grpc";
/// `INTERNAL`.
const NO_GRPC: u8 = 13;
/// The answer is a message of two bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// `None` where the connection or the stream broke, or could not be made.
pub async fn ask(
    settings: &ProbeSettings,
    check: &GrpcCheck,
    address: &Target,
    kept: Option<Line>,
) -> Option<(ProbeResult, Option<Line>)> {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
        (HeaderName::from_static("te"), HeaderValue::from_static("trailers")),
    ];
    let inquiry = Inquiry {
        method: &Method::POST,
        path: PathAndQuery::from_static(PATH),
        host: &check.authority,
        headers: &headers,
        body: question(&check.service),
    };
    let (response, line) = exchange(settings, inquiry, Speaks::Http2, address, kept).await?;
    let (head, mut body) = response.into_parts();
    let is_only_head = body.is_end_stream();
    let is_grpc = head.status == http::StatusCode::OK && has_grpc_content(&head.headers);
    if is_only_head || !is_grpc {
        // Without a body the status stands in the head, also where the head says no 200.
        let status = grpc_status(&head.headers).filter(|_| is_only_head).unwrap_or(NO_GRPC);
        let result = ProbeResult::Grpc { status, serving: None };
        return Some((result, Some(Line::Http(line))));
    }
    let mut received = BytesMut::new();
    let mut status = NO_GRPC;
    while let Some(frame) = next_frame(&mut body).await {
        let frame = frame.ok()?;
        if let Some(data) = frame.data_ref() {
            received.extend_from_slice(data);
            if received.len() > MESSAGE_BYTES_MAX {
                break;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            status = grpc_status(trailers).unwrap_or(NO_GRPC);
        }
    }
    let result = match answer(&received) {
        Ok(serving) => ProbeResult::Grpc { status, serving },
        Err(NotOurs) => ProbeResult::Grpc { status: NO_GRPC, serving: None },
    };
    Some((result, Some(Line::Http(line))))
}

/// `application/grpc`, or that with a suffix. Source: Envoy's `Common::hasGrpcContentType`.
fn has_grpc_content(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = said.and_then(|said| said.strip_prefix(CONTENT_TYPE.as_bytes()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A `HealthCheckRequest`, in its frame.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        const SERVICE: u8 = 1 << 3 | 2;
        message.put_u8(SERVICE);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

fn put_varint(bytes: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

/// These bytes are no answer to a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotOurs;

/// The status in the one message that may be here. As in Envoy, one without any bytes is none.
fn answer(mut framed: &[u8]) -> Result<Option<i32>, NotOurs> {
    let mut serving = None;
    while !framed.is_empty() {
        let (head, rest) = framed.split_first_chunk::<5>().ok_or(NotOurs)?;
        let [flags, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| NotOurs)?;
        let (message, rest) = rest.split_at_checked(length).ok_or(NotOurs)?;
        framed = rest;
        if message.is_empty() {
            continue;
        }
        if flags != 0 || serving.is_some() {
            return Err(NotOurs);
        }
        serving = Some(read_status(message)?);
    }
    Ok(serving)
}

/// The first field of a `HealthCheckResponse`; others are passed over.
fn read_status(mut message: &[u8]) -> Result<i32, NotOurs> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let (field, wire_type) = (tag >> 3, tag & 7);
        let skipped = match wire_type {
            0 => {
                let value = take_varint(&mut message)?;
                if field == 1 {
                    // An enumeration is an `int32`.
                    status = value as i32;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(take_varint(&mut message)?).map_err(|_| NotOurs)?,
            5 => 4,
            _ => return Err(NotOurs),
        };
        message = message.get(skipped..).ok_or(NotOurs)?;
        if field == 0 {
            return Err(NotOurs);
        }
    }
    Ok(status)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, NotOurs> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(NotOurs)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(NotOurs)
}

/// Whatever comes is an answer or none, and says the same however often it is read; for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let read = answer(bytes);
    // Messages without anything say nothing.
    let empty = [&[0; 5][..], bytes].concat();
    assert_eq!(answer(&empty), read);
    if let Ok(Some(_)) = read {
        assert!(bytes.len() > 5);
        assert_eq!(answer(&[bytes, bytes].concat()), Err(NotOurs), "two answers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(&question("")[..], b"\0\0\0\0\0");
        assert_eq!(&question("a.b")[..], b"\0\0\0\0\x05\x0a\x03a.b");
        let long = question(&"x".repeat(300));
        assert_eq!((&long[..8], long.len()), (&b"\0\0\0\x01\x2f\x0a\xac\x02"[..], 308));
    }

    #[test]
    fn an_answer_is_one_message_with_a_status() {
        let check = |framed: &[u8], expected| assert_eq!(answer(framed), expected, "{framed:?}");
        check(b"", Ok(None));
        check(b"\0\0\0\0\0", Ok(None));
        check(b"\0\0\0\0\x02\x08\x01", Ok(Some(1)));
        check(b"\0\0\0\0\0\0\0\0\0\x02\x08\x02", Ok(Some(2)));
        // Fields that nobody knows yet, of each kind.
        check(b"\0\0\0\0\x15\x10\x05\x1a\x01a\x21\0\0\0\0\0\0\0\0\x2d\0\0\0\0\x08\x01", Ok(Some(1)));
        check(b"\0\0\0\0\x02\x08\x01\0\0\0\0\x02\x08\x01", Err(NotOurs));
        check(b"\x01\0\0\0\x02\x08\x01", Err(NotOurs));
        check(b"\0\0\0\0\x03\x08\x01", Err(NotOurs));
        check(b"\0\0\0", Err(NotOurs));
        check(b"\0\0\0\0\x02\x08\x81", Err(NotOurs));
        check(b"\0\0\0\0\x02\x1a\x7f", Err(NotOurs));
        check(b"\0\0\0\0\x02\x0b\x01", Err(NotOurs));
        check(b"\0\0\0\0\x02\x00\x01", Err(NotOurs));
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_read() {
        const GOOD: &[u8] = b"\0\0\0\0\x0c\x1a\x01a\x2d\0\0\0\0\x08\x01\x08\x01";
        for seed in 0..256 {
            let mut chance = naru_base::Chance::new(seed);
            let mut bytes = GOOD.to_vec();
            for _ in 0..chance.below(4) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.below(256) as u8;
            }
            bytes.truncate(chance.below(GOOD.len() as u64 + 1) as usize);
            // Nothing but a whole message has a status.
            if let Ok(Some(_)) = answer(&bytes) {
                assert!(bytes.len() > 5, "{bytes:?}");
            }
        }
    }
}
