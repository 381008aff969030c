//! Is a head the most usual request there is: a GET of a path by HTTP/1.1?
//!
//! [`read_plain`] reads what [`crate::read_request`] reads as the same, and allocates nothing. Of all else it says
//! nothing: it is read, or refused, by the other one.

/// As many fields are read at most.
pub const PLAIN_FIELDS_MAX: usize = 32;
/// And no longer targets.
const TARGET_MAX: usize = 8 * 1024;

/// The name of a field as it was sent, and its value.
pub type PlainField<'a> = (&'a str, &'a [u8]);

/// Where fields are put.
#[derive(Debug)]
pub struct PlainRoom<'a>([PlainField<'a>; PLAIN_FIELDS_MAX]);

impl Default for PlainRoom<'_> {
    #[inline]
    fn default() -> Self {
        PlainRoom([("", &[]); PLAIN_FIELDS_MAX])
    }
}

/// What a plain request says. Parts of the bytes that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct PlainHead<'a, 'b> {
    /// Begins with a slash, and has letters, digits and marks that every part of a URL may have.
    pub target: &'a str,
    pub fields: &'b [PlainField<'a>],
}

/// What stands in targets and needs no second look: all of RFC 3986 that stands for itself in a path, escapes, and `?`.
const IN_TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~!$&'()*+,;=:@%/?";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Reads a whole head, found by [`crate::Scan`], of at most so many fields.
#[inline]
pub fn read_plain<'a, 'b>(
    head: &'a [u8],
    fields_max: usize,
    room: &'b mut PlainRoom<'a>,
) -> Option<PlainHead<'a, 'b>> {
    let line = head.strip_prefix(b"GET ")?;
    let end = line.iter().position(|byte| !IN_TARGET[usize::from(*byte)])?;
    let (target, after) = line.split_at(end);
    let lines = after.strip_prefix(b" HTTP/1.1\r\n")?;
    if target.first() != Some(&b'/') || end > TARGET_MAX {
        return None;
    }
    let target = std::str::from_utf8(target).ok()?;
    let mut found = [httparse::EMPTY_HEADER; PLAIN_FIELDS_MAX];
    let Ok(httparse::Status::Complete((read, found))) = httparse::parse_headers(lines, &mut found) else {
        return None;
    };
    if read != lines.len() || found.len() > fields_max {
        return None;
    }
    for (field, found) in room.0.iter_mut().zip(found.iter()) {
        *field = (found.name, found.value);
    }
    Some(PlainHead { target, fields: room.0.get(..found.len())? })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::{Limits, read_request};

    /// Whether it is plain; then it must be what the other one reads.
    fn check(head: &str) -> bool {
        let limits = Limits { head_bytes: 65_536, fields: 100 };
        let mut room = PlainRoom::default();
        let Some(plain) = read_plain(head.as_bytes(), 100, &mut room) else { return false };
        let other = read_request(head.as_bytes(), limits, HeaderMap::new());
        let other = other.unwrap_or_else(|malformed| panic!("{head:?}: {malformed:?}"));
        let target = other.target.path_and_query().map(|target| target.as_str());
        assert_eq!((other.method.as_str(), target), ("GET", Some(plain.target)), "{head:?}");
        assert_eq!(other.version, http::Version::HTTP_11);
        let mut fields = HeaderMap::new();
        for (name, value) in plain.fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.append(name, http::HeaderValue::from_bytes(value).unwrap());
        }
        assert_eq!(fields, other.fields, "{head:?}");
        true
    }

    #[test]
    fn what_is_plain_is_read_as_the_other_one_reads_it() {
        for plain in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET //a/../%zz?b=c?d&e=%2f HTTP/1.1\r\nHost:a\r\nX-Y: \t b c \t\r\nx-y:\r\n\r\n",
            "GET /? HTTP/1.1\r\nhost: \u{e9}\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            assert!(check(plain), "{plain:?}");
        }
        for other in [
            "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
            "get / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /# HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\"<>^`{|}\\ HTTP/1.1\r\nhost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\u{1}\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n",
        ] {
            assert!(!check(other), "{other:?}");
        }
        let many = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(check(&many(PLAIN_FIELDS_MAX)) && !check(&many(PLAIN_FIELDS_MAX + 1)));
        assert!(read_plain(many(3).as_bytes(), 2, &mut PlainRoom::default()).is_none());
        let long = |length| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(length));
        assert!(check(&long(TARGET_MAX - 1)) && !check(&long(TARGET_MAX)));
    }
}
