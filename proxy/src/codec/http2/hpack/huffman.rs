//! The Huffman code of header fields: RFC 7541, section 5.2 and appendix B.
//!
//! The code is a canonical one, so that the lengths say all: codes of one length stand in the order of their
//! symbols, after all shorter ones.

/// Bits of the code of each byte.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The end of a string, which never stands in one. It is the last code, of 30 bits.
const END: u16 = 256;
const LONGEST: usize = 30;

struct Table {
    symbols: [u16; 257],
    /// For each length, the code after its last one, moved to the left of 32 bits; and what is to be added to a code
    /// to find its symbol.
    limits: [u64; LONGEST + 1],
    offsets: [i64; LONGEST + 1],
}

const TABLE: Table = {
    let mut table = Table { symbols: [0; 257], limits: [0; LONGEST + 1], offsets: [0; LONGEST + 1] };
    let (mut length, mut code, mut at) = (1, 0_i64, 0);
    while length <= LONGEST {
        code <<= 1;
        table.offsets[length] = at as i64 - code;
        let mut symbol = 0;
        while symbol < 257 {
            let bits = if symbol == 256 { LONGEST } else { LENGTHS[symbol] as usize };
            if bits == length {
                table.symbols[at] = symbol as u16;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        table.limits[length] = (code as u64) << (32 - length);
        length += 1;
    }
    table
};

/// Appends what is said. `None` where it is no such string.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut held, mut bits) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while bits <= 32
            && let Some(byte) = rest.next()
        {
            held = held << 8 | u64::from(*byte);
            bits += 8;
        }
        if bits == 0 {
            return Some(());
        }
        // The next 32 bits; ones where there are no more.
        let next = if bits >= 32 {
            held >> (bits - 32) & 0xffff_ffff
        } else {
            let missing = 32 - bits;
            (held << missing | ((1 << missing) - 1)) & 0xffff_ffff
        };
        let mut length = 5;
        while length < LONGEST && next >= TABLE.limits[length] {
            length += 1;
        }
        if length as u32 > bits {
            // What is left is the beginning of the end, and less than a byte.
            let padding = held & ((1 << bits) - 1);
            return (bits < 8 && padding == (1 << bits) - 1).then_some(());
        }
        let code = (next >> (32 - length)) as i64;
        let symbol = *TABLE.symbols.get(usize::try_from(code + TABLE.offsets[length]).ok()?)?;
        if symbol == END {
            return None;
        }
        out.push(symbol as u8);
        bits -= length as u32;
        held &= (1 << bits) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).map(|()| out)
    }

    /// By the definition, bit for bit.
    fn encode(plain: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in plain {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let at = TABLE.symbols.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            let code = at as i64 - TABLE.offsets[length];
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        bits.chunks(8).map(|chunk| chunk.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        // RFC 7541, appendix C.4 and C.6.
        let cases: [(&[u8], &str); 4] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
        ];
        for (coded, plain) in cases {
            assert_eq!(decoded(coded).as_deref(), Some(plain.as_bytes()));
            assert_eq!(encode(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), Some(all.clone()));
        for byte in all {
            assert_eq!(decoded(&encode(&[byte, byte])), Some(vec![byte, byte]));
        }
        assert_eq!(decoded(&[]), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_padding_is_refused() {
        // `0` is 00000: three bits are left, or eleven.
        assert_eq!(decoded(&[0b0000_0111]), Some(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), None, "padding of zeros");
        assert_eq!(decoded(&[0b0000_0111, 0xff]), None, "more than seven bits of padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end within a string");
        assert_eq!(decoded(&[0xff]), None);
    }
}
