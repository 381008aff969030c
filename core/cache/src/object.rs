//! An answer that is kept.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::{Key, Terms};

/// One whole answer. It never changes: another one takes its place.
#[derive(Clone, Debug)]
pub struct Object {
    pub key: Key,
    /// What its request said in the fields that it was chosen by; see [`crate::vary`].
    pub(crate) selecting: Box<[u8]>,
    pub status: u16,
    pub head: Head,
    pub body: Bytes,
    pub terms: Terms,
}

/// So much an object costs beside its bytes: its places in a shelf, with the room to grow that a list has, in the index,
/// what shares its bytes, and what an allocator adds to each.
const OVERHEAD: usize = 256;

impl Object {
    /// `None` where no other request can be known to be alike.
    pub fn new(
        key: Key,
        request: &HeaderMap,
        status: u16,
        response: &HeaderMap,
        body: Bytes,
        terms: Terms,
    ) -> Option<Object> {
        let selecting = crate::vary::selecting(response, request)?;
        Some(Object { key, selecting, status, head: Head::pack(response), body, terms })
    }

    /// The same with another head.
    pub(crate) fn with_head(&self, head: Head, terms: Terms) -> Object {
        Object { head, terms, ..self.clone() }
    }

    pub fn is_for(&self, request: &HeaderMap) -> bool {
        if self.selecting.is_empty() {
            return true;
        }
        crate::vary::is_alike(&self.selecting, self.head.get("content-language"), request)
    }

    /// In bytes.
    pub fn cost(&self) -> usize {
        let own = std::mem::size_of::<Object>() + OVERHEAD;
        own + self.key.len() + self.selecting.len() + self.head.bytes.len() + self.body.len()
    }

    /// Whether a tag stands in one of the fields that answers are tagged by.
    pub fn has_tag(&self, tag: &str) -> bool {
        ["cache-tag", "surrogate-key"].iter().any(|name| {
            self.head.get_all(name).any(|value| {
                let mut words = value.split(|byte| matches!(byte, b',' | b' '));
                words.any(|word| word == tag.as_bytes())
            })
        })
    }
}

/// A head in as few bytes as there are: for each field the lengths of name and value, and both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub(crate) bytes: Bytes,
}

impl Head {
    pub fn pack(headers: &HeaderMap) -> Head {
        let mut bytes = Vec::with_capacity(
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 6).sum(),
        );
        for (name, value) in headers {
            // Neither is longer than a head may be.
            bytes.extend_from_slice(&(name.as_str().len() as u16).to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        Head { bytes: Bytes::from(bytes) }
    }

    /// Values share the memory that they are kept in.
    pub fn unpack(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        for (name, start, end) in self.fields() {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(self.bytes.slice(start..end)))
            {
                headers.append(name, value);
            }
        }
        headers
    }

    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let (_, start, end) = self.fields().find(|(known, ..)| *known == name.as_bytes())?;
        self.bytes.get(start..end)
    }

    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.fields().filter(move |(known, ..)| *known == name.as_bytes());
        fields.filter_map(|(_, start, end)| self.bytes.get(start..end))
    }

    /// Names, and where values begin and end.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], usize, usize)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let name_len = usize::from(u16::from_le_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?));
            let value_len = u32::from_le_bytes(self.bytes.get(at + 2..at + 6)?.try_into().ok()?) as usize;
            let start = at + 6 + name_len;
            let name = self.bytes.get(at + 6..start)?;
            at = start + value_len;
            Some((name, start, at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_it_was() {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static("1"));
        headers.append("a", HeaderValue::from_static(""));
        headers.append("x-long-name", HeaderValue::from_bytes(b"\xff, \"b\"").expect("obs-text"));
        let head = Head::pack(&headers);
        assert_eq!(head.unpack(), headers);
        assert_eq!(head.get("x-long-name"), Some(&b"\xff, \"b\""[..]));
        assert_eq!(head.get_all("a").collect::<Vec<_>>(), [&b"1"[..], b""]);
        assert_eq!(head.get("b"), None);
    }
}
