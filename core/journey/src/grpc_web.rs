//! What is a call of gRPC-Web to a server of gRPC, and what is its answer to a client of gRPC-Web?
//!
//! Browsers cannot read trailers. So the last frame of a body has them (its first byte has the highest bit set), and
//! where a client asks for text all of it is base64, frame for frame. The messages themselves are the same.
//! gRPC's `PROTOCOL-WEB.md`; Envoy's `grpc_web_filter.cc` for what headers become, whose choices are kept: a kind of
//! content is known by its whole value, an answer is text where `accept` says so, and an answer that is no gRPC
//! becomes a status with what it said.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_base::reason::grpc_status_of;

use crate::base64;

const KIND: HeaderValue = HeaderValue::from_static("application/grpc-web+proto");
const TEXT_KIND: HeaderValue = HeaderValue::from_static("application/grpc-web-text+proto");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The first byte of the frame that has trailers.
const TRAILERS: u8 = 0x80;
/// What stands before each message: a byte of flags and its length.
const HEAD_BYTES: usize = 5;
/// So much of an answer that is no gRPC becomes a message.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// A call, as its client wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it sends is base64.
    pub is_text: bool,
    /// What it is answered shall be.
    pub wants_text: bool,
}

impl Call {
    /// `None` where a request is no call of gRPC-Web.
    pub fn of(headers: &HeaderMap) -> Option<Call> {
        let is_text = match headers.get(header::CONTENT_TYPE)?.as_bytes() {
            b"application/grpc-web" | b"application/grpc-web+proto" => false,
            kind if is_text_kind(kind) => true,
            _ => return None,
        };
        let wants_text = headers.get(header::ACCEPT).is_some_and(|kind| is_text_kind(kind.as_bytes()));
        Some(Call { is_text, wants_text })
    }

    /// What an answer's content is.
    fn kind(self) -> HeaderValue {
        if self.wants_text { TEXT_KIND } else { KIND }
    }

    /// Makes a head of gRPC of an answer that is one of gRPC-Web from here on.
    pub fn answer(self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_TYPE, self.kind());
        headers.remove(header::CONTENT_LENGTH);
    }

    /// The same of an answer that is no gRPC: its status, and what it said, are those of the call. Says the status.
    pub fn answer_without(self, status: u16, said: &[u8], headers: &mut HeaderMap) -> u8 {
        self.answer(headers);
        let grpc_status = grpc_status_of(status);
        headers.insert(STATUS, HeaderValue::from(u16::from(grpc_status)));
        let said = said.get(..MESSAGE_BYTES_MAX).unwrap_or(said);
        if !said.is_empty()
            && let Ok(message) = HeaderValue::from_maybe_shared(crate::reply::percent_encoded(said))
        {
            headers.insert(MESSAGE, message);
        }
        grpc_status
    }
}

fn is_text_kind(kind: &[u8]) -> bool {
    matches!(kind, b"application/grpc-web-text" | b"application/grpc-web-text+proto")
}

/// Makes the head of a call one of gRPC.
pub fn ask(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(header::CONTENT_LENGTH);
}

/// Whether what an upstream answers is gRPC.
pub fn is_answer(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Trailers, as the last frame of a body.
pub fn trailers(trailers: &HeaderMap) -> Bytes {
    let lines = |out: &mut BytesMut| {
        for (name, value) in trailers {
            for part in [name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    };
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(TRAILERS);
    out.put_u32(0);
    lines(&mut out);
    let length = u32::try_from(out.len() - HEAD_BYTES).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(1..HEAD_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    out.freeze()
}

/// It is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoText;

/// Base64 that comes in pieces. Each group of four may have its padding: whole pieces were put together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    group: u32,
    letters: u8,
    padding: u8,
}

impl Decoder {
    /// Adds what a piece says to `out`.
    ///
    /// # Errors
    /// It says nothing.
    pub fn decode(&mut self, piece: &[u8], out: &mut BytesMut) -> Result<(), NoText> {
        out.reserve(piece.len() / 4 * 3 + 3);
        for byte in piece {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.letters >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return Err(NoText),
            };
            if self.padding > 0 && *byte != b'=' {
                return Err(NoText);
            }
            self.group = self.group << 6 | u32::from(value);
            self.letters += 1;
            if self.letters == 4 {
                let [_, bytes @ ..] = self.group.to_be_bytes();
                let (said, nothing) = bytes.split_at(3 - usize::from(self.padding));
                if nothing.iter().any(|byte| *byte != 0) {
                    return Err(NoText);
                }
                out.extend_from_slice(said);
                *self = Decoder::default();
            }
        }
        Ok(())
    }

    /// Whether a text may end here.
    pub fn is_whole(&self) -> bool {
        self.letters == 0
    }
}

/// Frames that become base64, each by itself, whatever the pieces are that they come in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Of the frame.
    left: u32,
    /// What is no whole group yet.
    rest: [u8; 3],
    rest_bytes: usize,
}

impl Encoder {
    /// Adds the letters of a piece to `out`.
    pub fn encode(&mut self, piece: &[u8], out: &mut BytesMut) {
        out.reserve(piece.len() / 3 * 4 + 16);
        for byte in piece {
            if let Some(place) = self.head.get_mut(self.head_bytes) {
                *place = *byte;
                self.head_bytes += 1;
                if self.head_bytes == HEAD_BYTES {
                    let [_, length @ ..] = self.head;
                    self.left = u32::from_be_bytes(length);
                }
            } else {
                self.left -= 1;
            }
            self.put(*byte, out);
            if self.head_bytes == HEAD_BYTES && self.left == 0 {
                self.finish(out);
            }
        }
    }

    fn put(&mut self, byte: u8, out: &mut BytesMut) {
        if let Some(place) = self.rest.get_mut(self.rest_bytes) {
            *place = byte;
            self.rest_bytes += 1;
        }
        if self.rest_bytes == 3 {
            self.flush(out);
        }
    }

    /// A frame is over, or breaks off.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if self.rest_bytes > 0 {
            self.flush(out);
        }
        self.head_bytes = 0;
        self.left = 0;
    }

    fn flush(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&base64::group(self.rest, self.rest_bytes));
        self.rest = [0; 3];
        self.rest_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        fields.collect()
    }

    #[test]
    fn a_call_is_known_by_all_of_its_kind() {
        let check = |kind: &'static str, accept: &'static str, expected: Option<(bool, bool)>| {
            let call = Call::of(&headers(&[("content-type", kind), ("accept", accept)]));
            assert_eq!(call.map(|call| (call.is_text, call.wants_text)), expected, "{kind} {accept}");
        };
        check("application/grpc-web", "*/*", Some((false, false)));
        check("application/grpc-web+proto", "application/grpc-web-text", Some((false, true)));
        check("application/grpc-web-text", "*/*", Some((true, false)));
        check("application/grpc-web-text+proto", "application/grpc-web-text+proto", Some((true, true)));
        check("application/grpc-web; a=b", "*/*", None);
        check("application/grpc", "application/grpc-web-text", None);
        assert_eq!(Call::of(&HeaderMap::new()), None);
    }

    #[test]
    fn heads_become_those_of_grpc_and_back() {
        let mut asked = headers(&[("content-type", "application/grpc-web"), ("content-length", "7")]);
        ask(&mut asked);
        let expected =
            [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-accept-encoding", "identity")];
        assert_eq!(asked, headers(&expected));
        let call = Call { is_text: false, wants_text: true };
        let mut answered = headers(&[("content-type", "application/grpc+proto"), ("content-length", "7")]);
        assert!(is_answer(&answered));
        call.answer(&mut answered);
        assert_eq!(answered, headers(&[("content-type", "application/grpc-web-text+proto")]));
        let mut other = headers(&[("content-type", "text/plain")]);
        assert!(!is_answer(&other));
        assert_eq!(call.answer_without(503, "50% \u{fc}".as_bytes(), &mut other), 14);
        let expected = [
            ("content-type", "application/grpc-web-text+proto"),
            ("grpc-status", "14"),
            ("grpc-message", "50%25 %C3%BC"),
        ];
        assert_eq!(other, headers(&expected));
    }

    #[test]
    fn trailers_are_a_frame() {
        let frame = trailers(&headers(&[("grpc-status", "0"), ("x-a", "b c")]));
        assert_eq!(frame, &b"\x80\0\0\0\x18grpc-status:0\r\nx-a:b c\r\n"[..]);
        assert_eq!(trailers(&HeaderMap::new()), &b"\x80\0\0\0\0"[..]);
    }

    fn encoded(pieces: &[&[u8]]) -> String {
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        pieces.iter().for_each(|piece| encoder.encode(piece, &mut out));
        encoder.finish(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, NoText> {
        let (mut decoder, mut out) = (Decoder::default(), BytesMut::new());
        pieces.iter().try_for_each(|piece| decoder.decode(piece, &mut out))?;
        if decoder.is_whole() { Ok(out.to_vec()) } else { Err(NoText) }
    }

    #[test]
    fn each_frame_is_a_text_of_its_own() {
        // As of Envoy 1.40.
        let frames = b"\0\0\0\0\x05hello\0\0\0\0\x02ok\x80\0\0\0\x18grpc-status:0\r\nx-a:b c\r\n";
        let text = "AAAAAAVoZWxsbw==AAAAAAJvaw==gAAAABhncnBjLXN0YXR1czowDQp4LWE6YiBjDQo=";
        assert_eq!(encoded(&[frames]), text);
        assert_eq!(decoded(&[text.as_bytes()]).unwrap(), frames);
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for bad in ["A", "AAA", "A=AA", "=AAA", "AA=A", "AAA!", "AAAA\n", "AAB=", "AB==", "====", "-_AA"] {
            assert_eq!(decoded(&[bad.as_bytes()]), Err(NoText), "{bad}");
        }
        assert_eq!(decoded(&[b"AA==AAE=", b"AAEC"]).unwrap(), [0, 0, 1, 0, 1, 2]);
        assert_eq!(decoded(&[]).unwrap(), []);
    }

    #[test]
    fn pieces_make_no_difference() {
        for seed in 0..256 {
            let mut chance = Chance::split(seed, "grpc-web");
            let mut frames = Vec::new();
            for _ in 0..chance.below(5) {
                let length = chance.below(70) as usize;
                frames.push(if chance.below(4) == 0 { TRAILERS } else { 0 });
                frames.extend_from_slice(&(length as u32).to_be_bytes());
                frames.extend((0..length).map(|_| chance.draw() as u8));
            }
            let mut cut = |bytes: &[u8]| {
                let mut pieces = Vec::new();
                let mut rest = bytes;
                while !rest.is_empty() {
                    let (piece, later) = rest.split_at((1 + chance.below(9) as usize).min(rest.len()));
                    pieces.push(piece.to_vec());
                    rest = later;
                }
                pieces
            };
            let whole = encoded(&[&frames]);
            let pieces = cut(&frames);
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            assert_eq!(encoded(&pieces), whole, "seed {seed}");
            let pieces = cut(whole.as_bytes());
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            assert_eq!(decoded(&pieces).unwrap(), frames, "seed {seed}");
        }
    }
}
