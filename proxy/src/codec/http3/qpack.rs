//! Lists of header fields, compressed: RFC 9204, with the static table only.
//!
//! We tell a peer that there is no other table (`SETTINGS_QPACK_MAX_TABLE_CAPACITY` is 0, its default), so that no list
//! has to wait for another stream, and nothing is kept for a connection.

mod table;

use bytes::{BufMut, BytesMut};

use super::super::http2::hpack::{Broken, Field, encode_integer, huffman, integer};
use table::STATIC;

/// Reads a whole list.
///
/// # Errors
/// It is broken, and so is the connection.
pub fn decode(section: &[u8], mut each: impl FnMut(Field<'_>)) -> Result<(), Broken> {
    let mut rest = section;
    // Nothing that a list could wait for is ever inserted; its base is then unused (section 4.5.1).
    if integer(&mut rest, 8)? != 0 {
        return Err(Broken);
    }
    integer(&mut rest, 7)?;
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(first) = rest.first().copied() {
        let is_static = |bit: u8| if first & bit == 0 { Err(Broken) } else { Ok(()) };
        let is_sensitive = match first {
            0x80.. => {
                is_static(0x40)?;
                let (name, value) = entry(integer(&mut rest, 6)?)?;
                each(Field { name: name.as_bytes(), value: value.as_bytes(), is_sensitive: false });
                continue;
            }
            0x40..0x80 => {
                is_static(0x10)?;
                name.clear();
                name.extend_from_slice(entry(integer(&mut rest, 4)?)?.0.as_bytes());
                first & 0x20 != 0
            }
            0x20..0x40 => {
                string(&mut rest, 3, &mut name)?;
                first & 0x10 != 0
            }
            // Of the table that there is not.
            0x00..0x20 => return Err(Broken),
        };
        string(&mut rest, 7, &mut value)?;
        each(Field { name: &name, value: &value, is_sensitive });
    }
    Ok(())
}

fn entry(index: usize) -> Result<(&'static str, &'static str), Broken> {
    STATIC.get(index).copied().ok_or(Broken)
}

/// The bit before its length says whether it is coded (section 4.1.2).
fn string(rest: &mut &[u8], prefix: u8, out: &mut Vec<u8>) -> Result<(), Broken> {
    let is_coded = rest.first().ok_or(Broken)? & (1 << prefix) != 0;
    let length = integer(rest, prefix)?;
    let (string, others) = rest.split_at_checked(length).ok_or(Broken)?;
    *rest = others;
    out.clear();
    if is_coded {
        return huffman::decode(string, out).ok_or(Broken);
    }
    out.extend_from_slice(string);
    Ok(())
}

/// What each list begins with: nothing is needed to read it.
pub fn begin(out: &mut BytesMut) {
    out.put_slice(&[0, 0]);
}

/// `name` in lower case.
pub fn encode(out: &mut BytesMut, field: Field<'_>) {
    let never = u8::from(field.is_sensitive);
    match table::find(field.name, field.value) {
        Some((index, true)) if !field.is_sensitive => return encode_integer(out, 0xc0, 6, index),
        Some((index, _)) => encode_integer(out, 0x50 | never << 5, 4, index),
        None => {
            encode_integer(out, 0x20 | never << 4, 3, field.name.len());
            out.put_slice(field.name);
        }
    }
    encode_integer(out, 0, 7, field.value.len());
    out.put_slice(field.value);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Vec<(String, String)>;

    fn decoded(section: &[u8]) -> Result<Pairs, Broken> {
        let mut all = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decode(section, |field| all.push((text(field.name), text(field.value))))?;
        Ok(all)
    }

    #[test]
    fn the_request_of_the_standard_is_read() {
        // RFC 9204, appendix B.1.
        let section = [&[0, 0, 0x51, 0x0b][..], b"/index.html"].concat();
        assert_eq!(decoded(&section), Ok(vec![(":path".to_owned(), "/index.html".to_owned())]));
        // The value with Huffman's code, as of RFC 7541, appendix C.4.1.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        let section = [&[0, 0, 0xd1, 0x50, 0x8c][..], &coded].concat();
        let expected = [(":method", "GET"), (":authority", "www.example.com")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(decoded(&section), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for section in [
            &[][..],
            &[0],                      // no base
            &[1, 0],                   // it waits for an insertion
            &[0, 0, 0x80],             // indexed, of the other table
            &[0, 0, 0xff, 0x24],       // 99
            &[0, 0, 0x40, 0x00],       // a name of the other table
            &[0, 0, 0x10],             // indexed, beyond the base
            &[0, 0, 0x00, 0x00],       // a name beyond the base
            &[0, 0, 0x51],             // no value
            &[0, 0, 0x51, 0x05, b'a'], // shorter than it says
            &[0, 0, 0x27, 0x00],       // a name of 7, and nothing of it
            &[0, 0, 0x51, 0x81, 0x00], // no code of Huffman's that ends so
            &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert_eq!(decoded(section), Err(Broken), "{section:x?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = "v".repeat(70_000);
        let fields = [
            (":status", "200", false),
            (":status", "418", false),
            (":path", "/somewhere/else", false),
            ("content-type", "text/plain", false),
            ("x-of-mine", "", false),
            ("x-of-mine-with-a-long-name", "1", false),
            ("authorization", "Bearer of news", true),
            ("x-secret", "of mine", true),
            ("x-long", &*long, false),
        ];
        let mut section = BytesMut::new();
        begin(&mut section);
        for (name, value, is_sensitive) in fields {
            encode(&mut section, Field { name: name.as_bytes(), value: value.as_bytes(), is_sensitive });
        }
        let mut at = 0;
        decode(&section, |field| {
            let (name, value, is_sensitive) = fields[at];
            assert_eq!(field, Field { name: name.as_bytes(), value: value.as_bytes(), is_sensitive });
            at += 1;
        })
        .unwrap();
        assert_eq!(at, fields.len());
    }

    #[test]
    fn no_bytes_break_it() {
        for seed in 0..256 {
            let mut chance = naru_base::Chance::new(seed);
            let length = chance.below(64);
            let mut section = vec![0, 0];
            section.extend((0..length).map(|_| chance.below(256) as u8));
            let _ = decoded(&section);
        }
    }
}
