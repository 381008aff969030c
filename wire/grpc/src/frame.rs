//! Messages on a stream: a flag and a length stand before each ("Length-Prefixed-Message").

use bytes::{Buf as _, Bytes, BytesMut};

const HEAD_BYTES: usize = 5;

/// A message as it goes onto a stream.
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + message.len());
    bytes.extend_from_slice(&[0]);
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// What is wrong with the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misframed {
    /// They are in a coding that was not agreed upon.
    Compressed,
    /// More than is allowed.
    TooLarge { bytes: usize },
}

/// Puts messages together of the bytes of a stream.
#[derive(Debug)]
pub struct Unframer {
    buffer: BytesMut,
    bytes_max: usize,
}

impl Unframer {
    /// For messages of so many bytes at most.
    pub fn new(bytes_max: usize) -> Unframer {
        Unframer { buffer: BytesMut::new(), bytes_max }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, where it is there as a whole. One that is too large is told as soon as its length is there.
    pub fn message(&mut self) -> Result<Option<Bytes>, Misframed> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [flag, length @ ..] = *head;
        let bytes = u32::from_be_bytes(length) as usize;
        if flag != 0 {
            return Err(Misframed::Compressed);
        }
        if bytes > self.bytes_max {
            return Err(Misframed::TooLarge { bytes });
        }
        if rest.len() < bytes {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Misframed, Unframer, framed};

    #[test]
    fn messages_are_put_together_byte_by_byte() {
        let all = [framed(b"one"), framed(b""), framed(b"three")].concat();
        let mut unframer = Unframer::new(5);
        let mut found = Vec::new();
        for byte in all {
            unframer.push(&[byte]);
            while let Some(message) = unframer.message().unwrap() {
                found.push(message);
            }
        }
        assert_eq!(found, [&b"one"[..], b"", b"three"].map(Bytes::from_static));
    }

    #[test]
    fn what_is_no_message_is_told_at_its_head() {
        let next = |bytes: &[u8]| {
            let mut unframer = Unframer::new(4);
            unframer.push(bytes);
            unframer.message()
        };
        assert_eq!(next(&[0, 0, 0, 0]), Ok(None));
        assert_eq!(next(&[1, 0, 0, 0, 0]), Err(Misframed::Compressed));
        assert_eq!(next(&[0, 0, 0, 0, 5]), Err(Misframed::TooLarge { bytes: 5 }));
    }
}
