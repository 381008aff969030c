//! What always holds of the reader of header blocks, whatever bytes it is given.

use bytes::BytesMut;

use super::{Broken, Decoder, ENTRY_OVERHEAD, Field, TABLE_BYTES_MAX, encode, integer};

/// Blocks of one connection, of which each is as long as the byte before it says: the table that a peer may fill never
/// holds more than it may, and what was read is, said again without a table, read as the same.
pub fn hpack(bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let mut rest = bytes;
    while let Some((length, more)) = rest.split_first() {
        let (block, others) = more.split_at(usize::from(*length).min(more.len()));
        rest = others;
        let read = fields(&mut decoder, block);
        decoder.check_invariants();
        let Ok(read) = read else { return };
        let mut again = BytesMut::new();
        for (name, value, is_sensitive) in &read {
            encode(&mut again, Field { name, value, is_sensitive: *is_sensitive });
        }
        let mut fresh = Decoder::new();
        assert_eq!(fields(&mut fresh, &again), Ok(read), "said again");
        assert_eq!((fresh.bytes, fresh.entries.len()), (0, 0), "we have nobody keep anything");
    }
    for prefix in 3..=8 {
        let mut rest = bytes;
        if let Ok(number) = integer(&mut rest, prefix) {
            assert!(number < 1 << 29 && bytes.len() - rest.len() <= 5);
        }
    }
}

type Fields = Vec<(Vec<u8>, Vec<u8>, bool)>;

fn fields(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Broken> {
    let mut all = Vec::new();
    decoder.decode(block, |field| {
        all.push((field.name.to_vec(), field.value.to_vec(), field.is_sensitive));
    })?;
    Ok(all)
}

impl Decoder {
    fn check_invariants(&self) {
        let held: usize = self.entries.iter().map(|entry| entry.both.len() + ENTRY_OVERHEAD).sum();
        assert_eq!(held, self.bytes);
        assert!(self.bytes <= self.bytes_max && self.bytes_max <= TABLE_BYTES_MAX);
    }
}
