//! How are bytes written in base64, and read (RFC 4648, section 4)?

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The letters of so many bytes of a group, padded.
pub(crate) fn group(bytes: [u8; 3], count: usize) -> [u8; 4] {
    let [a, b, c] = bytes;
    let all = u32::from_be_bytes([0, a, b, c]);
    let mut out = [b'='; 4];
    for (place, shift) in out.iter_mut().take(count + 1).zip([18, 12, 6, 0]) {
        *place = LETTERS.get((all >> shift & 63) as usize).copied().unwrap_or(b'=');
    }
    out
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let at = |place: usize| part.get(place).copied().unwrap_or(0);
        out.extend(group([at(0), at(1), at(2)], part.len()).map(char::from));
    }
    out
}

/// With padding or without; `None` where it is none.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let letters = text.get(..text.len() - padding)?;
    let is_padded = padding == 0 || text.len().is_multiple_of(4);
    if padding > 2 || !is_padded || letters.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for part in letters.chunks(4) {
        let mut all = 0;
        for letter in part {
            all = all << 6 | LETTERS.iter().position(|known| known == letter)? as u32;
        }
        all <<= 6 * (4 - part.len());
        let [_, bytes @ ..] = all.to_be_bytes();
        out.extend(bytes.iter().take(part.len() - 1));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_group_is_padded() {
        for (bytes, expected) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd", "//79")]
        {
            assert_eq!(encode(bytes), expected);
        }
    }

    #[test]
    fn what_was_written_is_read_with_padding_or_without() {
        for bytes in [&b""[..], b"f", b"fo", b"foo", b"\xff\xfe\xfd\xfc"] {
            let text = encode(bytes);
            assert_eq!(decode(&text).as_deref(), Some(bytes));
            assert_eq!(decode(text.trim_end_matches('=')).as_deref(), Some(bytes));
        }
        for text in ["Z", "Zg=", "Zg===", "Z=g=", "Zm9v!", "Zm 9", "===="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
