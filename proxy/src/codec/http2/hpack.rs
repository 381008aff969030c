//! Lists of header fields, compressed: RFC 7541.
//!
//! Read with all that a peer may use; written with the static table only. A table of our own for each connection
//! would save bytes that a response's head seldom has, and cost memory and a lookup for each field.

pub mod fuzz;
pub mod huffman;
mod table;

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use table::STATIC;

/// The table that a peer may have us keep: the default of RFC 9113, section 6.5.2, which we do not change.
pub const TABLE_BYTES_MAX: usize = 4_096;
/// A buffer that is larger is not kept while nothing is under way.
const BUFFER_BYTES_MAX: usize = 4 * 1024;
/// Of each entry, beside its name and value (section 4.1).
pub const ENTRY_OVERHEAD: usize = 32;

/// A block that cannot be read: the two tables are not the same any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// One field of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// No table may ever hold it.
    pub is_sensitive: bool,
}

/// What was told to be kept: the newest first.
#[derive(Debug)]
pub struct Decoder {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    name_len: usize,
    both: Bytes,
}

impl Entry {
    fn name(&self) -> &[u8] {
        self.both.get(..self.name_len).unwrap_or_default()
    }

    fn value(&self) -> &[u8] {
        self.both.get(self.name_len..).unwrap_or_default()
    }
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max: TABLE_BYTES_MAX,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Reads a whole block.
    ///
    /// # Errors
    /// It is broken, and so is the connection.
    pub fn decode(&mut self, block: &[u8], mut each: impl FnMut(Field<'_>)) -> Result<(), Broken> {
        let mut rest = block;
        let mut has_fields = false;
        while let Some(first) = rest.first().copied() {
            match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    let (name, value) = self.entry(index)?;
                    each(Field { name, value, is_sensitive: false });
                }
                0x40..0x80 => self.literal(&mut rest, 6, true, &mut each)?,
                0x20..0x40 => {
                    // Only before the first field (section 4.2).
                    let bytes_max = integer(&mut rest, 5)?;
                    if has_fields || bytes_max > TABLE_BYTES_MAX {
                        return Err(Broken);
                    }
                    self.bytes_max = bytes_max;
                    self.evict(0);
                    continue;
                }
                0x00..0x20 => self.literal(&mut rest, 4, false, &mut each)?,
            }
            has_fields = true;
        }
        Ok(())
    }

    /// The buffers of names and values stay for the next block, unless they grew large.
    pub fn rest(&mut self) {
        for buffer in [&mut self.name, &mut self.value] {
            if buffer.capacity() > BUFFER_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }

    fn literal(
        &mut self,
        rest: &mut &[u8],
        prefix: u8,
        is_kept: bool,
        each: &mut impl FnMut(Field<'_>),
    ) -> Result<(), Broken> {
        let is_sensitive = rest.first().is_some_and(|first| first & 0xf0 == 0x10);
        let index = integer(rest, prefix)?;
        let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
        name.clear();
        value.clear();
        let result = self.read_literal(rest, index, &mut name, &mut value);
        if result.is_ok() {
            if is_kept {
                self.keep(&name, &value);
            }
            each(Field { name: &name, value: &value, is_sensitive });
        }
        (self.name, self.value) = (name, value);
        result
    }

    fn read_literal(
        &self,
        rest: &mut &[u8],
        index: usize,
        name: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        if index == 0 {
            string(rest, name)?;
        } else {
            name.extend_from_slice(self.entry(index)?.0);
        }
        string(rest, value)
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Broken> {
        let index = index.checked_sub(1).ok_or(Broken)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(index - STATIC.len()).ok_or(Broken)?;
        Ok((entry.name(), entry.value()))
    }

    fn keep(&mut self, name: &[u8], value: &[u8]) {
        let bytes = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(bytes);
        // One that is larger than the table empties it, and that is no error (section 4.4).
        if bytes <= self.bytes_max {
            let both = Bytes::from([name, value].concat());
            self.entries.push_front(Entry { name_len: name.len(), both });
            self.bytes += bytes;
        }
    }

    /// Makes room.
    fn evict(&mut self, bytes: usize) {
        while self.bytes + bytes > self.bytes_max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.bytes -= oldest.both.len() + ENTRY_OVERHEAD;
        }
    }
}

/// A number whose first bits are the last `prefix` ones of a byte (section 5.1).
pub fn integer(rest: &mut &[u8], prefix: u8) -> Result<usize, Broken> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(byte(rest)?) & mask;
    if value < mask {
        return Ok(value);
    }
    // Nothing that is longer could be meant.
    for shift in [0, 7, 14, 21] {
        let next = usize::from(byte(rest)?);
        value += (next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Broken)
}

fn byte(rest: &mut &[u8]) -> Result<u8, Broken> {
    let (first, others) = rest.split_first().ok_or(Broken)?;
    *rest = others;
    Ok(*first)
}

fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let is_coded = rest.first().ok_or(Broken)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (string, others) = rest.split_at_checked(length).ok_or(Broken)?;
    *rest = others;
    if is_coded {
        return huffman::decode(string, out).ok_or(Broken);
    }
    out.extend_from_slice(string);
    Ok(())
}

/// A table that we do not use is one of no bytes: told where a peer has asked for a smaller one (section 4.2).
pub fn encode_no_table(out: &mut BytesMut) {
    out.put_u8(0x20);
}

/// `name` in lower case.
pub fn encode(out: &mut BytesMut, field: Field<'_>) {
    let kind = if field.is_sensitive { 0x10 } else { 0x00 };
    match table::find(field.name, field.value) {
        Some((index, true)) if !field.is_sensitive => return encode_integer(out, 0x80, 7, index),
        Some((index, _)) => encode_integer(out, kind, 4, index),
        None => {
            out.put_u8(kind);
            encode_string(out, field.name);
        }
    }
    encode_string(out, field.value);
}

fn encode_string(out: &mut BytesMut, string: &[u8]) {
    encode_integer(out, 0, 7, string.len());
    out.put_slice(string);
}

pub fn encode_integer(out: &mut BytesMut, kind: u8, prefix: u8, value: usize) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        return out.put_u8(kind | value as u8);
    }
    out.put_u8(kind | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Vec<(String, String)>;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Broken> {
        let mut all = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoder.decode(block, |field| all.push((text(field.name), text(field.value))))?;
        Ok(all)
    }

    fn pairs(all: &[(&str, &str)]) -> Pairs {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_connection_that_rests_keeps_no_large_buffer() {
        let mut decoder = Decoder::new();
        let mut block = BytesMut::new();
        let value = vec![b'v'; 100_000];
        encode(&mut block, Field { name: b"x", value: &value, is_sensitive: false });
        assert_eq!(decoded(&mut decoder, &block).unwrap().len(), 1);
        assert!(decoder.value.capacity() >= value.len());
        decoder.rest();
        assert!(decoder.value.capacity() <= BUFFER_BYTES_MAX && decoder.name.capacity() <= BUFFER_BYTES_MAX);
    }

    #[test]
    fn the_requests_of_the_standard_are_read() {
        // RFC 7541, appendix C.4: three requests of one connection, with Huffman's code.
        let mut decoder = Decoder::new();
        let first = [
            0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4,
            0xff,
        ];
        let common =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(decoded(&mut decoder, &first), Ok(pairs(&common)));
        assert_eq!(decoder.bytes, 57);
        let second = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        let mut expected = common.to_vec();
        expected.push(("cache-control", "no-cache"));
        assert_eq!(decoded(&mut decoder, &second), Ok(pairs(&expected)));
        let third = [
            0x82, 0x87, 0x85, 0xbf, 0x40, 0x88, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x89, 0x25,
            0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf,
        ];
        let expected = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(decoded(&mut decoder, &third), Ok(pairs(&expected)));
        assert_eq!((decoder.bytes, decoder.entries.len()), (164, 3));
    }

    #[test]
    fn what_is_not_in_a_table_is_refused() {
        for block in [
            &[0x80][..],                           // index 0
            &[0xbe],                               // nothing was kept yet
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], // no number that could be meant
            &[0x40, 0x01, b'a'],                   // no value
            &[0x40, 0x05, b'a'],                   // shorter than it says
            &[0x82, 0x20],                         // a size after a field
            &[0x3f, 0xe2, 0x1f],                   // 4,097
            &[0xff],
        ] {
            assert_eq!(decoded(&mut Decoder::new(), block), Err(Broken), "{block:x?}");
        }
    }

    #[test]
    fn a_table_never_holds_more_than_it_may() {
        let mut decoder = Decoder::new();
        let mut block = BytesMut::new();
        for number in 0..200_u8 {
            block.extend_from_slice(&[0x40, 0x01, number, 0x7f, 0x00]);
            block.extend_from_slice(&[b'x'; 127]);
        }
        decoded(&mut decoder, &block).unwrap();
        assert_eq!(decoder.entries.len(), TABLE_BYTES_MAX / 160);
        // A smaller table keeps the newest.
        decoded(&mut decoder, &[0x3f, 0x81, 0x02]).unwrap();
        assert_eq!((decoder.bytes_max, decoder.entries.len()), (288, 1));
        let large = [&[0x40, 0x01, b'n', 0x7f, 0x81, 0x01][..], &[b'x'; 256]].concat();
        assert_eq!(decoded(&mut decoder, &large).unwrap().len(), 1);
        assert_eq!((decoder.bytes, decoder.entries.len()), (0, 0));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let fields = [
            (":status", "200", false),
            (":status", "418", false),
            (":path", "/somewhere/else", false),
            ("content-type", "text/plain", false),
            ("x-of-mine", "", false),
            ("authorization", "Bearer of news", true),
            ("x-long", &*"v".repeat(70_000), false),
        ];
        let mut block = BytesMut::new();
        encode_no_table(&mut block);
        for (name, value, is_sensitive) in fields {
            encode(&mut block, Field { name: name.as_bytes(), value: value.as_bytes(), is_sensitive });
        }
        let mut at = 0;
        let mut decoder = Decoder::new();
        decoder
            .decode(&block, |field| {
                let (name, value, is_sensitive) = fields[at];
                assert_eq!(field, Field { name: name.as_bytes(), value: value.as_bytes(), is_sensitive });
                at += 1;
            })
            .unwrap();
        assert_eq!((at, decoder.bytes), (fields.len(), 0));
    }
}
