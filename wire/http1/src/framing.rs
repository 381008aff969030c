//! How long is a body?
//!
//! RFC 9112, section 6, at its strictest: a message that says its length in two ways, or in one that could be read in
//! two, has none.

use http::HeaderValue;

use crate::Malformed;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    Length(u64),
    Chunked,
    /// By the end of the connection: of responses alone.
    UntilClose,
}

/// What a head says about its body.
#[derive(Debug, Default)]
pub(crate) struct Said {
    length: Option<u64>,
    /// Zeros stand before the length, so that who knows octal numbers may read another one.
    pub(crate) is_padded: bool,
    is_chunked: bool,
}

impl Said {
    pub(crate) fn length(&mut self, value: &HeaderValue) -> Result<(), Malformed> {
        let said = digits(value.as_bytes()).filter(|_| self.length.is_none());
        self.length = Some(said.ok_or(Malformed::ContentLength)?);
        self.is_padded = value.len() > 1 && value.as_bytes().starts_with(b"0");
        Ok(())
    }

    pub(crate) fn coding(&mut self, value: &HeaderValue) -> Result<(), Malformed> {
        let value = value.as_bytes();
        if self.is_chunked {
            return Err(Malformed::TransferEncoding);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            // Without `chunked` at its end the body has no length (RFC 9112, section 6.3).
            return Err(if ends_chunked(value) {
                Malformed::TransferCoding
            } else {
                Malformed::TransferEncoding
            });
        }
        self.is_chunked = true;
        Ok(())
    }

    /// Nothing where nothing is said.
    pub(crate) fn framing(&self, is_http10: bool) -> Result<Option<Framing>, Malformed> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(Malformed::TwoFramings),
            (true, None) if is_http10 => Err(Malformed::TransferEncoding),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, Some(0)) => Ok(Some(Framing::Empty)),
            (false, Some(length)) => Ok(Some(Framing::Length(length))),
            (false, None) => Ok(None),
        }
    }
}

/// Whether other codings stand before a single `chunked`.
fn ends_chunked(value: &[u8]) -> bool {
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let is_token = |coding: &[u8]| {
        let coding = coding.trim_ascii();
        !coding.is_empty() && coding.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    let mut codings = value.rsplit(|byte| *byte == b',');
    codings.next().is_some_and(is_chunked) && codings.all(|coding| is_token(coding) && !is_chunked(coding))
}

fn digits(text: &[u8]) -> Option<u64> {
    // Longer ones are no lengths of anything, whatever zeros stand before them.
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_coding() {
        fn check(value: &str, expected: Result<(), Malformed>) {
            let value = HeaderValue::from_str(value).unwrap();
            assert_eq!(Said::default().coding(&value), expected, "{value:?}");
        }
        check("chunked", Ok(()));
        check("Chunked", Ok(()));
        check("gzip, chunked", Err(Malformed::TransferCoding));
        let broken = ["", "gzip", "identity", "chunked, gzip", "chunked, chunked", "chunked,", ", chunked"];
        let hidden = ["chunked;a=b", "xchunked", "\"chunked\"", "chunked chunked", "gzip\tx, chunked"];
        for value in broken.into_iter().chain(hidden) {
            check(value, Err(Malformed::TransferEncoding));
        }
    }

    #[test]
    fn a_length_is_a_number_of_digits() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(digits(text.as_bytes()), expected, "{text:?}");
        }
        check("0", Some(0));
        check("007", Some(7));
        check("9999999999999999999", Some(9_999_999_999_999_999_999));
        for wrong in ["", "+1", "-1", "1,1", "1 ", "0x10", "1_0", "10000000000000000000", "1.0", "١"] {
            check(wrong, None);
        }
    }
}
