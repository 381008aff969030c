//! What always holds of the readers of HTTP/3, whatever bytes they are given.

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};

use super::super::http2::hpack::{Broken, Field};
use super::control::{Instructions, Said};
use super::frame::{self, Code, FrameHead, Kind};
use super::message::{Limits, Wrong, read_request, read_trailers, write_response, write_trailers};
use super::qpack;

const LIMITS: Limits = Limits { bytes_max: 4_096, count_max: 100 };

/// A section of fields is read, and said again it is read as the same; a message of it has nothing in it that HTTP/1 would
/// read otherwise.
pub fn section(bytes: &[u8]) {
    let read = fields(bytes);
    if let Ok(read) = &read {
        let mut again = BytesMut::new();
        qpack::begin(&mut again);
        for (name, value, is_sensitive) in read {
            qpack::encode(&mut again, Field { name, value, is_sensitive: *is_sensitive });
        }
        assert_eq!(fields(&again).as_ref(), Ok(read), "said again");
    }
    let request = read_request(bytes, LIMITS);
    assert_eq!(is_broken(request.as_ref().err()), read.is_err());
    if let Ok((request, length)) = request {
        assert!(request.uri().authority().is_none_or(|authority| !authority.as_str().is_empty()));
        let said = request.headers().get("content-length").map(|said| said.as_bytes());
        assert_eq!(said.is_some(), length.is_some());
        check(request.headers(), false);
    }
    if let Ok(trailers) = read_trailers(bytes, LIMITS) {
        check(&trailers, true);
        let mut said = BytesMut::from(&write_trailers(&trailers)[..]);
        let head = FrameHead::take(&mut said);
        assert_eq!(head, Some(FrameHead { kind: Kind::Headers, length: said.len() as u64 }));
        assert_eq!(read_trailers(&said, Limits { bytes_max: usize::MAX, ..LIMITS }).as_ref(), Ok(&trailers));
        write_response(StatusCode::OK, &trailers);
    }
}

type Fields = Vec<(Vec<u8>, Vec<u8>, bool)>;

fn fields(bytes: &[u8]) -> Result<Fields, Broken> {
    let mut all = Vec::new();
    qpack::decode(bytes, |field| all.push((field.name.to_vec(), field.value.to_vec(), field.is_sensitive)))?;
    Ok(all)
}

fn is_broken(wrong: Option<&Wrong>) -> bool {
    wrong == Some(&Wrong::Connection(Code::QPACK_DECOMPRESSION_FAILED))
}

fn check(fields: &HeaderMap, is_behind: bool) {
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"] {
        assert!(!fields.contains_key(name), "{name}");
    }
    assert!(fields.get_all("content-length").iter().count() <= 1);
    assert!(!is_behind || !fields.contains_key("content-length") && !fields.contains_key("host"));
    assert!(fields.get_all("cookie").iter().count() <= 1, "one field of cookies");
    let is_clean = |value: &[u8]| !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    assert!(fields.values().all(|value| is_clean(value.as_bytes())));
}

/// Frames of a stream mean the same in pieces of any size; what is said on the control stream and on those of QPACK is taken
/// or refused by a code.
pub fn stream(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let step = usize::from(first % 16) + 1;
    let whole = frames(rest, rest.len().max(1));
    assert_eq!(whole, frames(rest, step), "in steps of {step}");
    let mut said = Said::default();
    for (head, payload) in &whole {
        let may_come = said.begin(*head);
        let Some(payload) = payload.as_ref().filter(|_| may_come.is_ok()) else { break };
        assert!(payload.len() <= 1_024);
        if said.take(head.kind, payload).is_err() {
            break;
        }
    }
    let mut number_of = rest;
    if let Some(number) = frame::number(&mut number_of) {
        let mut out = BytesMut::new();
        frame::put_number(&mut out, number);
        assert!(out.len() <= rest.len() - number_of.len(), "the shortest that there is");
        assert_eq!(frame::number(&mut &out[..]), Some(number));
    }
    for mut told in [Instructions::OfEncoder, Instructions::OfDecoder { is_within: false }] {
        let taken = rest.iter().take_while(|byte| told.take(**byte)).count();
        assert!(taken <= rest.len());
    }
}

/// As a stream is read: heads, and what is there of their payloads.
fn frames(bytes: &[u8], step: usize) -> Vec<(FrameHead, Option<Vec<u8>>)> {
    let mut input = BytesMut::new();
    let mut all: Vec<(FrameHead, Option<Vec<u8>>)> = Vec::new();
    let mut awaited: Option<FrameHead> = None;
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        loop {
            match awaited {
                None => awaited = FrameHead::take(&mut input),
                Some(head) if head.length <= input.len() as u64 => {
                    let payload = input.split_to(head.length as usize).to_vec();
                    all.push((head, Some(payload)));
                    awaited = FrameHead::take(&mut input);
                }
                Some(_) => break,
            }
            if awaited.is_none() {
                break;
            }
        }
    }
    all.extend(awaited.map(|head| (head, None)));
    all
}
