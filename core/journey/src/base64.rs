//! How are bytes written in base64 (RFC 4648, section 4)?

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
}
