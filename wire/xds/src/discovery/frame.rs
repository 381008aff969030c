//! Messages of gRPC on a stream, and responses whose resources are shared.
//!
//! A response is written around bytes that many proxies are sent: what it holds is not copied, but for what is so small
//! that a reference would cost more.

use bytes::{Buf as _, Bytes, BytesMut};

/// Of one message that a proxy sends: names of a hundred thousand resources fit.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// Smaller pieces are put together, up to [`JOINED_BYTES`].
const SHARED_BYTES_MIN: usize = 2 << 10;
const JOINED_BYTES: usize = 16 << 10;

/// One flag and a length stand before each message (gRPC over HTTP/2, "Length-Prefixed-Message").
const HEAD_BYTES: usize = 5;

/// What is wrong with the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// They are in a coding that was not agreed upon.
    Compressed,
    /// More than [`BODY_BYTES_MAX`].
    TooLarge,
}

/// Puts messages together of the bytes of a stream.
#[derive(Debug, Default)]
pub struct Unframer {
    buffer: BytesMut,
}

impl Unframer {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, where it is there as a whole.
    pub fn message(&mut self) -> Result<Option<Bytes>, Framed> {
        let Some((head, rest)) = self.buffer.split_at_checked(HEAD_BYTES) else { return Ok(None) };
        let [flag, a, b, c, d] = *head else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag != 0 {
            return Err(Framed::Compressed);
        }
        if length > BODY_BYTES_MAX {
            return Err(Framed::TooLarge);
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// A response as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    pub type_url: &'a str,
    pub version: &'a str,
    pub nonce: &'a str,
    /// Who says it, for people.
    pub control_plane: &'a str,
}

/// A `DiscoveryResponse` of these resources (the bytes of `google.protobuf.Any`), framed for gRPC, in pieces.
pub fn world<'a>(said: &Said<'_>, resources: impl Iterator<Item = &'a Bytes>) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    pieces.text(1, said.version);
    for any in resources {
        pieces.head(2, any.len());
        pieces.shared(any);
    }
    finish(pieces, said, 6)
}

/// A resource of a delta: its name, its version, and the bytes of its `google.protobuf.Any`.
pub type Changed<'a> = (&'a str, String, &'a Bytes);

/// A `DeltaDiscoveryResponse`, framed for gRPC, in pieces.
pub fn delta<'a>(
    said: &Said<'_>,
    resources: impl Iterator<Item = Changed<'a>>,
    removed: impl Iterator<Item = &'a str>,
) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    pieces.text(1, said.version);
    for (name, version, any) in resources {
        let fields = field_bytes(version.len()) + field_bytes(any.len()) + field_bytes(name.len());
        pieces.head(2, fields);
        pieces.text(1, &version);
        pieces.head(2, any.len());
        pieces.shared(any);
        pieces.text(3, name);
    }
    for name in removed {
        pieces.text(6, name);
    }
    finish(pieces, said, 7)
}

fn finish(mut pieces: Pieces, said: &Said<'_>, control_plane: u8) -> Vec<Bytes> {
    pieces.text(4, said.type_url);
    pieces.text(5, said.nonce);
    pieces.head(control_plane, field_bytes(said.control_plane.len()));
    pieces.text(1, said.control_plane);
    pieces.framed()
}

/// Of a field of bytes: its tag, its length and itself. Nothing is left out, be it empty.
fn field_bytes(length: usize) -> usize {
    1 + varint_bytes(length) + length
}

fn varint_bytes(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    (bits.max(1) as usize).div_ceil(7)
}

#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    open: BytesMut,
    bytes: usize,
}

impl Pieces {
    /// Of a field that holds so many bytes. Numbers of fields here are below 16.
    fn head(&mut self, field: u8, length: usize) {
        let mut head = Vec::with_capacity(11);
        head.push((field << 3) | 2);
        let mut rest = length;
        while rest >= 0x80 {
            head.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        head.push(rest as u8);
        self.copy(&head);
    }

    fn text(&mut self, field: u8, text: &str) {
        self.head(field, text.len());
        self.copy(text.as_bytes());
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.open.extend_from_slice(bytes);
        if self.open.len() >= JOINED_BYTES {
            self.close();
        }
    }

    fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.copy(bytes);
            return;
        }
        self.close();
        self.bytes += bytes.len();
        self.done.push(bytes.clone());
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
    }

    fn framed(mut self) -> Vec<Bytes> {
        self.close();
        let mut head = vec![0];
        let length = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        head.extend_from_slice(&length.to_be_bytes());
        let mut all = vec![Bytes::from(head)];
        all.append(&mut self.done);
        all
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BODY_BYTES_MAX, Framed, Said, Unframer, delta, world};
    use crate::discovery::{Any, DeltaDiscoveryResponse, DiscoveryResponse, read, write};

    const SAID: Said<'_> = Said { type_url: "kind", version: "7", nonce: "3", control_plane: "naru" };

    fn any(size: usize) -> (Any, Bytes) {
        let any = Any { type_url: "kind".to_owned(), value: vec![b'x'; size] };
        let bytes = Bytes::from(write(&any));
        (any, bytes)
    }

    fn unframed(pieces: &[Bytes]) -> Bytes {
        let mut unframer = Unframer::default();
        // Byte by byte: it comes as it likes.
        let all: Vec<u8> = pieces.iter().flatten().copied().collect();
        let mut found = None;
        for byte in all {
            assert_eq!(found, None);
            unframer.push(&[byte]);
            found = unframer.message().unwrap();
        }
        found.unwrap()
    }

    #[test]
    fn a_response_is_what_its_readers_read() {
        for sizes in [vec![], vec![0], vec![1, 200, 20_000], vec![127; 300], vec![3_000; 3]] {
            let (anys, bytes): (Vec<Any>, Vec<Bytes>) = sizes.iter().map(|size| any(*size)).unzip();
            let response: DiscoveryResponse = read(&unframed(&world(&SAID, bytes.iter()))).unwrap();
            assert_eq!(response.resources, anys);
            assert_eq!(
                (response.type_url.as_str(), response.version_info.as_str(), response.nonce.as_str()),
                ("kind", "7", "3")
            );
            assert_eq!(response.control_plane.unwrap().identifier, "naru");

            let names: Vec<String> = (0..anys.len()).map(|at| "n".repeat(at)).collect();
            let resources = names.iter().zip(&bytes).map(|(name, any)| (name.as_str(), "v1".to_owned(), any));
            let pieces = delta(&SAID, resources, ["gone", ""].into_iter());
            let response: DeltaDiscoveryResponse = read(&unframed(&pieces)).unwrap();
            let found: Vec<_> =
                response.resources.iter().map(|found| found.resource.clone().unwrap()).collect();
            assert_eq!(found, anys);
            assert!(response.resources.iter().zip(&names).all(|(found, name)| found.name == *name));
            assert!(response.resources.iter().all(|found| found.version == "v1"));
            assert_eq!(response.removed_resources, ["gone", ""]);
            assert_eq!((response.nonce.as_str(), response.system_version_info.as_str()), ("3", "7"));
            assert_eq!(response.control_plane.unwrap().identifier, "naru");
        }
    }

    #[test]
    fn large_resources_are_not_copied() {
        let (_, bytes) = any(100_000);
        let pieces = world(&SAID, std::iter::once(&bytes));
        assert!(pieces.iter().any(|piece| piece.as_ptr() == bytes.as_ptr()));
    }

    #[test]
    fn bytes_that_are_no_message_are_told() {
        let next = |bytes: &[u8]| {
            let mut unframer = Unframer::default();
            unframer.push(bytes);
            unframer.message()
        };
        assert_eq!(next(&[]), Ok(None));
        assert_eq!(next(&[0, 0, 0, 0]), Ok(None));
        assert_eq!(next(&[0, 0, 0, 0, 0]), Ok(Some(Bytes::new())));
        assert_eq!(next(&[0, 0, 0, 0, 2, 1]), Ok(None));
        assert_eq!(next(&[1, 0, 0, 0, 0]), Err(Framed::Compressed));
        let length = u32::try_from(BODY_BYTES_MAX + 1).unwrap().to_be_bytes();
        assert_eq!(next(&[&[0][..], &length[..]].concat()), Err(Framed::TooLarge));
    }
}
