//! Texts at the limits of UTF-8 (RFC 3629), on both sides of them. The standard library says which are none.

/// A word whose letters have two and three bytes each.
pub const GREEK: &[u8] = "κόσμε".as_bytes();
/// With half a surrogate pair behind it.
pub const BROKEN_GREEK: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";

pub fn texts() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut add = |bytes: &[u8]| all.push(bytes.to_vec());
    // Letters of each length, and every beginning of a word.
    for letter in ['$', '¢', '€', '𤭢'] {
        add(format!("hello{letter}world").as_bytes());
    }
    (1..=GREEK.len()).for_each(|end| add(&GREEK[..end]));
    add(BROKEN_GREEK);
    // The first and the last of each length, what comes after the last, and what lies about the surrogates.
    for code in [0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xd800, 0xdfff, 0xe000, 0xfffd, 0xffff, 0x1_0000] {
        add(&encoded(code));
    }
    for code in [0x10_ffff, 0x11_0000, 0x1f_ffff, 0x20_0000, 0x3ff_ffff, 0x400_0000, 0x7fff_ffff] {
        add(&encoded(code));
    }
    // Code points that are no letters, and valid all the same.
    for plane in 0..=0x10 {
        add(&encoded(plane << 16 | 0xfffe));
        add(&encoded(plane << 16 | 0xffff));
    }
    (0xfff9..=0xfffd).for_each(|special| add(&encoded(special)));
    // Bytes that go on after nothing.
    for count in 1..=6 {
        add(&[0x80, 0xbf].repeat(3)[..count]);
    }
    add(&(0x80..=0xbf).collect::<Vec<u8>>());
    // Beginnings that nothing goes on after.
    for beginnings in [0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd] {
        add(&beginnings.flat_map(|first: u8| [first, b' ']).collect::<Vec<u8>>());
    }
    // The last byte is missing, in each of these and in all together.
    let mut together = Vec::new();
    for code in [0, 0x7ff, 0xffff, 0x1f_ffff, 0x3ff_ffff, 0x7fff_ffff] {
        for length in 2..=6 {
            let whole = encoded_in(code, length);
            if code == 0 || whole == encoded(code) {
                let cut = &whole[..length - 1];
                add(cut);
                together.extend_from_slice(cut);
            }
        }
    }
    add(&together);
    for impossible in [b"\xfe".as_slice(), b"\xff", b"\xfe\xfe\xff\xff"] {
        add(impossible);
    }
    // Longer than need be.
    for (code, shortest) in
        [(0x2f, 1), (0x7f, 1), (0x7ff, 2), (0xffff, 3), (0x1f_ffff, 4), (0x3ff_ffff, 5), (0, 1)]
    {
        (shortest + 1..=6).for_each(|length| add(&encoded_in(code, length)));
    }
    // Halves of surrogate pairs, alone and in pairs.
    let (highs, lows) = ([0xd800, 0xdb7f, 0xdb80, 0xdbff], [0xdc00, 0xdf80, 0xdfff]);
    highs.iter().chain(&lows).for_each(|half| add(&encoded(*half)));
    for high in highs {
        for low in lows {
            add(&[encoded(high), encoded(low)].concat());
        }
    }
    all
}

/// As short as can be, whatever it is.
fn encoded(code: u32) -> Vec<u8> {
    let length = match code {
        0..=0x7f => 1,
        0x80..=0x7ff => 2,
        0x800..=0xffff => 3,
        0x1_0000..=0x1f_ffff => 4,
        0x20_0000..=0x3ff_ffff => 5,
        _ => 6,
    };
    encoded_in(code, length)
}

/// In the pattern of so many bytes, which went up to six before RFC 3629.
fn encoded_in(code: u32, length: usize) -> Vec<u8> {
    if length == 1 {
        return vec![code as u8];
    }
    let mut bytes: Vec<u8> = (0..length).rev().map(|at| 0x80 | (code >> (6 * at)) as u8 & 0x3f).collect();
    bytes[0] = 0xff_u8 << (8 - length) | (code >> (6 * (length - 1))) as u8;
    bytes
}
