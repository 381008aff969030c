//! Cookies, as far as balancing reads and writes them.
//!
//! Source: Envoy, `parseCookieValue` and `makeSetCookieValue` in `http/utility.cc`.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, header};
use naru_spec::Cookie;

/// The first cookie of this name; quotes around its value are not part of it.
pub(crate) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (found == name.as_bytes()).then_some(bare.unwrap_or(value))
    })
}

/// The value of a `Set-Cookie`. A lifetime of zero, or none, is that of the client's session.
pub(crate) fn set(cookie: &Cookie, value: &Hex) -> Option<HeaderValue> {
    let mut text = String::with_capacity(96);
    // A string takes all that is written to it.
    let _ = write!(text, "{}=\"{}\"", cookie.name(), value.as_str());
    if let Some(seconds) = cookie.ttl().map(|ttl| ttl.as_secs()).filter(|seconds| *seconds > 0) {
        let _ = write!(text, "; Max-Age={seconds}");
    }
    if !cookie.path().is_empty() {
        let _ = write!(text, "; Path={}", cookie.path());
    }
    for (name, value) in cookie.attributes() {
        let _ = if value.is_empty() { write!(text, "; {name}") } else { write!(text, "; {name}={value}") };
    }
    text.push_str("; HttpOnly");
    HeaderValue::try_from(text).ok()
}

/// A number in sixteen digits, as cookies carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hex([u8; 16]);

impl Hex {
    pub(crate) fn of(number: u64) -> Hex {
        let mut digits = [0; 16];
        for (at, digit) in (0_u32..).zip(digits.iter_mut().rev()) {
            let value = (number >> (4 * at)) as u8 & 0xf;
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        }
        Hex(digits)
    }

    /// Only what [`Hex::of`] gives.
    pub(crate) fn read(text: &[u8]) -> Option<u64> {
        if text.len() != 16 {
            return None;
        }
        text.iter().try_fold(0, |number, digit| match digit {
            b'0'..=b'9' => Some(number << 4 | u64::from(digit - b'0')),
            b'a'..=b'f' => Some(number << 4 | u64::from(digit - b'a' + 10)),
            _ => None,
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    fn found(lines: &[&str], name: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        find(&headers, name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn the_first_of_a_name_is_found_in_any_line() {
        assert_eq!(found(&["a=1; b=2", "b=3; c=\"4\""], "b").as_deref(), Some("2"));
        assert_eq!(found(&["a=1; b=2", "b=3; c=\"4\""], "c").as_deref(), Some("4"));
        assert_eq!(found(&["a=1;b=x=y"], "b").as_deref(), Some("x=y"));
        assert_eq!(found(&["b; bb=1; =2"], "b"), None);
        assert_eq!(found(&["b=\""], "b").as_deref(), Some("\""));
        assert_eq!(found(&[], "b"), None);
    }

    #[test]
    fn a_number_in_hexadecimal_digits_is_read_back_and_nothing_else() {
        let mut chance = Chance::new(2);
        for number in [0, 1, u64::MAX].into_iter().chain((0..256).map(|_| chance.draw())) {
            assert_eq!(Hex::of(number).as_str(), format!("{number:016x}"));
            assert_eq!(Hex::read(Hex::of(number).as_bytes()), Some(number));
        }
        for text in ["", "0", "00000000000000000", "000000000000000G", "000000000000000A", "+00000000000000f"]
        {
            assert_eq!(Hex::read(text.as_bytes()), None, "{text}");
        }
    }
}
