//! What of WebSocket's handshake does HTTP/2 not have, and how is it said for a side that speaks HTTP/1.1?
//!
//! Over HTTP/1.1 a client sends a key and its server proves by it that it knows WebSocket (RFC 6455, section 1.3). An
//! extended CONNECT needs no such proof, and has neither (RFC 8441, section 5): where one side speaks HTTP/2 and the
//! other HTTP/1.1, somebody has to say it. Envoy does not; then only its own kind can be at the other end.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::Worker;

pub const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
pub const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Gives a request that goes on over HTTP/1.1 the key that it needs, where it has none.
pub fn complete(headers: &mut HeaderMap, names: &mut Worker) {
    if !is_websocket(headers) || headers.contains_key(KEY) {
        return;
    }
    let mut nonce = [0; 16];
    let (first, second) = nonce.split_at_mut(8);
    first.copy_from_slice(&names.names.draw().to_be_bytes());
    second.copy_from_slice(&names.names.draw().to_be_bytes());
    if let Ok(key) = HeaderValue::from_str(&base64(&nonce)) {
        headers.insert(KEY, key);
    }
}

/// Answers a client's `key` in what was granted by an upstream of HTTP/2.
pub fn accept(status: StatusCode, key: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if status != StatusCode::SWITCHING_PROTOCOLS || !is_websocket(headers) || headers.contains_key(ACCEPT) {
        return;
    }
    let Some(key) = key else { return };
    let digest = sha1(&[key.as_bytes(), GUID].concat());
    if let Ok(value) = HeaderValue::from_str(&base64(&digest)) {
        headers.insert(ACCEPT, value);
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |place: usize| group.get(place).map_or(0, |byte| u32::from(*byte));
        let all = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = ALPHABET.get((all >> (18 - 6 * place)) as usize & 63).copied().unwrap_or(b'=');
            out.push(char::from(if place <= group.len() { letter } else { b'=' }));
        }
    }
    out
}

/// FIPS 180-4, section 6.1. It keeps no secret: what is shown by it is only that one has read RFC 6455.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((message.len() + 9).div_ceil(64) * 64 - 8, 0);
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in padded.chunks(64) {
        let mut words: Vec<u32> =
            block.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
        for at in 16..80 {
            let word =
                [3, 8, 14, 16].iter().filter_map(|back| words.get(at - back)).fold(0, |all, word| all ^ word);
            words.push(word.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match at / 20 {
                0 => (b & c | !b & d, 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let sum = a
                .rotate_left(5)
                .wrapping_add(mixed)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, sum);
        }
        for (kept, new) in state.iter_mut().zip([a, b, c, d, e]) {
            *kept = kept.wrapping_add(new);
        }
    }
    let mut digest = [0; 20];
    for (place, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *place = word.to_be_bytes();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_standard_has_it() {
        let mut headers = HeaderMap::new();
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        accept(StatusCode::OK, Some(&key), &mut headers);
        accept(StatusCode::SWITCHING_PROTOCOLS, None, &mut headers);
        assert_eq!(headers.len(), 1);
        accept(StatusCode::SWITCHING_PROTOCOLS, Some(&key), &mut headers);
        assert_eq!(headers[ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let other = HeaderValue::from_static("x");
        accept(StatusCode::SWITCHING_PROTOCOLS, Some(&other), &mut headers);
        assert_eq!(headers[ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "what the upstream says stays");
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        let check = |message: &[u8], expected: &str| {
            let found: String = sha1(message).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, expected);
        };
        check(b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        check(b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        check(two_blocks, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
        check(&[b'a'; 1_000], "291e9a6c66994949b57ba5e650361e98fc36b1ba");
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd", "//79")]
        {
            assert_eq!(base64(bytes), expected);
        }
    }
}
