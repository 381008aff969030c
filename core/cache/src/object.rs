//! An answer that is kept.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::vary::Said;
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

    #[inline]
    pub fn is_for(&self, request: &impl Said) -> bool {
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

/// A head as HTTP/1 says it: the line of each field, with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub(crate) bytes: Bytes,
    marks: Marks,
}

/// What is known of a head without looking through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    length: Line,
    server: Line,
    has_date: bool,
    /// More is to be done with some field than to say it, or to say another in its place.
    is_odd: bool,
}

/// Where a line begins and ends; one that is not there ends where all begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Line {
    start: u32,
    end: u32,
}

impl Line {
    /// Says whether there was none yet.
    fn set(&mut self, line: Line) -> bool {
        std::mem::replace(self, line).end == 0
    }
}

/// What stands among the lines of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    pub has_date: bool,
    pub has_server: bool,
}

impl Marks {
    fn hear(&mut self, name: &str, line: Line) {
        match name {
            "content-length" => self.is_odd |= !self.length.set(line),
            "server" => self.is_odd |= !self.server.set(line),
            "date" => self.has_date = true,
            // Others are put beside the first, and taken away with the second.
            "cache-status" | "surrogate-control" => self.is_odd = true,
            name => self.is_odd |= name.starts_with("x-naru-"),
        }
    }
}

impl Head {
    pub fn pack(headers: &HeaderMap) -> Head {
        Head::of(|| headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }

    /// Names are written small, and no value has a line's end.
    pub(crate) fn of<'a, I: Iterator<Item = (&'a str, &'a [u8])>>(fields: impl Fn() -> I) -> Head {
        let length = fields().map(|(name, value)| name.len() + value.len() + 4).sum();
        let (mut bytes, mut marks) = (Vec::with_capacity(length), Marks::default());
        for (name, value) in fields() {
            // No head is longer than a number of this size says.
            let start = bytes.len() as u32;
            write_line(name, value, &mut bytes);
            marks.hear(name, Line { start, end: bytes.len() as u32 });
        }
        Head { bytes: Bytes::from(bytes), marks }
    }

    /// Appends its lines as they go to a client who is given all of the object, but for its length, which is said anew
    /// at the end; `server` is said in the place of what it says there itself. `None`: more is to be done with it, and
    /// nothing is appended.
    #[inline]
    pub fn write(&self, server: Option<&str>, out: &mut Vec<u8>) -> Option<Lines> {
        let Marks { length, server: own, has_date, is_odd } = self.marks;
        if is_odd {
            return None;
        }
        let has_server = own.end > 0;
        let replaced = if server.is_some() { own } else { Line::default() };
        let mut left_out = [(length, None), (replaced, server)];
        if length.start > replaced.start {
            left_out.swap(0, 1);
        }
        let part = |from: u32, to: u32| self.bytes.get(from as usize..to as usize).unwrap_or_default();
        let mut from = 0;
        for (line, instead) in left_out {
            if line.end > 0 {
                out.extend_from_slice(part(from, line.start));
                if let Some(server) = instead {
                    write_line("server", server.as_bytes(), out);
                }
                from = line.end;
            }
        }
        out.extend_from_slice(part(from, self.bytes.len() as u32));
        Some(Lines { has_date, has_server })
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
            let line = self.bytes.get(at..)?;
            let colon = line.iter().position(|byte| *byte == b':')?;
            let value = line.get(colon + 2..)?;
            let length = value.iter().position(|byte| *byte == b'\r')?;
            let start = at + colon + 2;
            at = start + length + 2;
            Some((line.get(..colon)?, start, start + length))
        })
    }
}

fn write_line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
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
        assert_eq!(Head::pack(&HeaderMap::new()).unpack(), HeaderMap::new());
    }

    #[test]
    fn lines_are_said_as_they_are_but_for_those_that_are_said_anew() {
        let lines = |fields: &[(&'static str, &'static str)], server| {
            let head = Head::of(|| fields.iter().map(|(name, value)| (*name, value.as_bytes())));
            let mut out = Vec::new();
            let said = head.write(server, &mut out);
            said.map(|said| (said.has_date, said.has_server, String::from_utf8(out).expect("text")))
        };
        let said = |date, server, text: &str| Some((date, server, text.to_owned()));
        assert_eq!(lines(&[], Some("n")), said(false, false, ""));
        let both = [("a", "1"), ("content-length", "5"), ("b", ""), ("server", "s"), ("date", "d")];
        assert_eq!(lines(&both, None), said(true, true, "a: 1\r\nb: \r\nserver: s\r\ndate: d\r\n"));
        assert_eq!(lines(&both, Some("n")), said(true, true, "a: 1\r\nb: \r\nserver: n\r\ndate: d\r\n"));
        let turned = [("server", "s"), ("content-length", "5"), ("a", "1")];
        assert_eq!(lines(&turned, Some("n")), said(false, true, "server: n\r\na: 1\r\n"));
        assert_eq!(lines(&turned, None), said(false, true, "server: s\r\na: 1\r\n"));
        assert_eq!(lines(&[("content-length", "5")], Some("n")), said(false, false, ""));
        for odd in [
            &[("server", "a"), ("server", "b")][..],
            &[("content-length", "1"), ("content-length", "1")],
            &[("cache-status", "x")],
            &[("surrogate-control", "x")],
            &[("x-naru-retries", "no")],
        ] {
            assert_eq!(lines(odd, None), None, "{odd:?}");
        }
    }
}
