//! Where does a head end?
//!
//! Looks at each byte once, however slowly they come, and says at once what no further byte could make right: a client
//! that means to end its lines otherwise would wait for an answer for ever.

use crate::Malformed;

/// How far the search for an empty line has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    looked_at: usize,
    /// Where the line begins that is not over yet.
    line: usize,
    skips_empty_lines: bool,
    is_request: bool,
}

/// No method is as long (RFC 9110, section 16.1.1, and what else is registered).
const METHOD_BYTES_MAX: usize = 64;
/// So many empty lines may stand before a request (RFC 9112, section 2.2, asks for one at least).
const EMPTY_LINES_MAX: usize = 4;

impl Scan {
    /// For a head that may have empty lines before it, which end nothing.
    pub fn of_request() -> Scan {
        Scan { skips_empty_lines: true, is_request: true, ..Scan::default() }
    }

    /// Goes on in `bytes`, which begin with those that were looked at before. The head is as long as is returned, with
    /// the empty line that ends it.
    ///
    /// # Errors
    /// It is none, or longer than `bytes_max`.
    #[inline]
    pub fn go_on(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Malformed> {
        while let Some(at) = memchr::memchr2(b'\n', 0, &bytes[self.looked_at..]) {
            let at = self.looked_at + at;
            if bytes[at] == 0 {
                return Err(Malformed::ControlCharacter);
            }
            if at == self.line || bytes[at - 1] != b'\r' {
                return Err(Malformed::BareLineFeed);
            }
            let is_empty = at - 1 == self.line;
            self.looked_at = at + 1;
            self.line = self.looked_at;
            if !is_empty {
                self.skips_empty_lines = false;
            } else if !self.skips_empty_lines {
                let is_small = self.looked_at <= bytes_max;
                return if is_small { Ok(Some(self.looked_at)) } else { Err(self.too_large(bytes)) };
            } else if self.looked_at > 2 * EMPTY_LINES_MAX {
                return Err(Malformed::RequestLine);
            }
        }
        self.looked_at = bytes.len();
        if bytes.len() > bytes_max { Err(self.too_large(bytes)) } else { Ok(None) }
    }

    /// What is all method is none, however much of it may come.
    #[cold]
    fn too_large(&self, bytes: &[u8]) -> Malformed {
        let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or_default();
        let mut method = bytes[begin..].iter().take(METHOD_BYTES_MAX + 1);
        let is_long = method.len() > METHOD_BYTES_MAX && !method.any(|byte| *byte == b' ');
        if self.is_request && is_long { Malformed::RequestLine } else { Malformed::HeadTooLarge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_its_empty_line_in_pieces_of_any_size() {
        let head = b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\nbody\n";
        let end = head.len() - 5;
        for step in 1..head.len() {
            let mut scan = Scan::of_request();
            let found = (0..=head.len()).step_by(step).find_map(|n| scan.go_on(&head[..n], 100).unwrap());
            let found = found.or_else(|| scan.go_on(head, 100).unwrap());
            assert_eq!(found, Some(end), "in steps of {step}");
        }
    }

    #[test]
    fn what_cannot_become_a_head_is_told_at_once() {
        fn check(bytes: &[u8], expected: Result<Option<usize>, Malformed>) {
            assert_eq!(
                Scan::of_request().go_on(bytes, 40),
                expected,
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
        check(b"", Ok(None));
        check(b"GET / HTTP/1.1\r\nhost: a\r\n", Ok(None));
        check(b"\n", Err(Malformed::BareLineFeed));
        check(b"GET / HTTP/1.1\n", Err(Malformed::BareLineFeed));
        check(b"GET / HTTP/1.1\r\n\n", Err(Malformed::BareLineFeed));
        check(b"\x16\x03\x01\x02\x00", Err(Malformed::ControlCharacter));
        check(b"\r\n\r\n\r\n\r\n", Ok(None));
        check(b"\r\n\r\n\r\n\r\n\r\n", Err(Malformed::RequestLine));
        check(&[b'a'; 41], Err(Malformed::HeadTooLarge));
        check(&[b'a'; 64], Err(Malformed::HeadTooLarge));
        check(&[b'a'; 65], Err(Malformed::RequestLine));
        check(&[b"\r\n\r\n".as_slice(), &[b'a'; 65]].concat(), Err(Malformed::RequestLine));
        let long_target = [b"GET /".as_slice(), &[b'a'; 100]].concat();
        check(&long_target, Err(Malformed::HeadTooLarge));
        assert_eq!(Scan::default().go_on(&[b'a'; 65], 40), Err(Malformed::HeadTooLarge), "a response");
        check(b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n", Err(Malformed::HeadTooLarge));
    }

    #[test]
    fn trailers_may_be_none() {
        assert_eq!(Scan::default().go_on(b"\r\nGET", 10), Ok(Some(2)));
    }
}
