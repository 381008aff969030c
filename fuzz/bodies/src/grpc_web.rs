//! Bodies of gRPC-Web: base64 that comes in pieces, and trailers that become a frame.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use naru_journey::grpc_web::{Call, Decoder, Encoder, NoText, trailers};

use crate::edge::headers;

/// Lines of a head, an empty line, and a body. A text says the same in pieces of any size; what is made text is read back as
/// it was.
pub fn grpc_web(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((&[][..], bytes), |end| (&bytes[..end], &bytes[end + 2..]));
    let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
    let mut answer = headers(&lines);
    said_as_trailers(&answer);
    if let Some(call) = Call::of(&answer) {
        let status = call.answer_without(503, body, &mut answer);
        assert_eq!(
            answer.get("grpc-status").map(|said| said.as_bytes()),
            Some(status.to_string().as_bytes())
        );
    }
    let whole = decoded(body, body.len().max(1));
    for step in [1, 3, 4, 7] {
        // Where it is none, how much was understood before that is open.
        assert_eq!(decoded(body, step), whole, "in steps of {step}");
        let text = encoded(body, step);
        assert_eq!(decoded(&text, step).as_deref(), Ok(body), "made text in steps of {step}");
    }
}

fn decoded(text: &[u8], step: usize) -> Result<Bytes, NoText> {
    let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
    for piece in text.chunks(step) {
        decoder.decode(piece, &mut out)?;
    }
    if decoder.is_whole() { Ok(out.freeze()) } else { Err(NoText) }
}

fn encoded(body: &[u8], step: usize) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    for piece in body.chunks(step) {
        encoder.encode(piece, &mut out);
    }
    encoder.finish(&mut out);
    out
}

/// A frame, a line for each of them, and no line more.
fn said_as_trailers(fields: &HeaderMap) {
    let frame = trailers(fields);
    let (head, lines) = frame.split_at(5);
    assert_eq!(head, [&[0x80][..], &(lines.len() as u32).to_be_bytes()].concat());
    let ends = lines.windows(2).filter(|pair| *pair == b"\r\n").count();
    assert_eq!(ends, fields.len());
    assert!(!lines.windows(2).any(|pair| pair[0] != b'\r' && pair[1] == b'\n'));
}
