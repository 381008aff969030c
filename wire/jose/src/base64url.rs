//! base64url without padding (RFC 4648, section 5; RFC 7515, section 2): bytes have one text and no other.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The bytes, unless there is padding, a foreign letter, or a bit at the end that says nothing.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_text() {
        assert_eq!(decode("Zm9v").as_deref(), Some(&b"foo"[..]));
        assert_eq!(decode("").as_deref(), Some(&b""[..]));
        for text in ["Zg==", "Zh", "Zm9v\n", " Zm9v", "Zm+v", "Zm/v", "Zm9vA", "Zm.v"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for length in 0..70 {
            let bytes: Vec<u8> = (0..length).map(|at: u8| at.wrapping_mul(37).wrapping_add(201)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
