//! Which codings does a client accept, and how gladly? RFC 9110, section 12.5.3, read as Envoy reads it.

use http::HeaderMap;
use http::header;
use naru_spec::ContentCoding;

use crate::members;

/// What `Accept-Encoding` says: names as they are written, and how much each is wanted, in thousandths.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Accepted {
    /// `None` without the field: then nothing is compressed, as in Envoy.
    said: Option<Vec<(String, u16)>>,
}

/// A name that stands for any.
const ANY: &str = "*";
const IDENTITY: &str = "identity";

impl Accepted {
    pub fn of(headers: &HeaderMap) -> Accepted {
        let mut values = headers.get_all(header::ACCEPT_ENCODING).iter().peekable();
        if values.peek().is_none() {
            return Accepted::default();
        }
        let mut said = Vec::new();
        for value in values.filter_map(|value| value.to_str().ok()) {
            said.extend(members(value).filter_map(wish));
        }
        Accepted { said: Some(said) }
    }

    /// The one that is wanted most of those that are there, each with whether it goes before others that are wanted as
    /// much. Without a wish for any of them, none: the content goes as it is.
    ///
    /// As in Envoy, what the client names first goes first among equals; of several that go before others, it is the
    /// last.
    pub fn choose(&self, there: &[(ContentCoding, bool)]) -> Option<ContentCoding> {
        let said = self.said.as_deref()?;
        let is_refused =
            |coding: ContentCoding| said.iter().any(|(name, wish)| *wish == 0 && is_named(name, coding));
        let allowed = || {
            let ranked = there.iter().zip(1_usize..).map(|((coding, is_first), at)| {
                let rank = if *is_first { at } else { 0 };
                (*coding, rank)
            });
            ranked.filter(|(coding, _)| !is_refused(*coding))
        };
        let first = || allowed().reduce(|best, next| if next.1 > best.1 { next } else { best });
        let mut best: Option<(Option<ContentCoding>, u16, usize)> = None;
        for (name, wish) in said.iter().filter(|(_, wish)| *wish > 0) {
            let (coding, rank) = match allowed().find(|(coding, _)| is_named(name, *coding)) {
                Some((coding, rank)) => (Some(coding), rank),
                None if name == ANY => (first().map(|(coding, _)| coding), 0),
                None if name.eq_ignore_ascii_case(IDENTITY) => (None, 0),
                None => continue,
            };
            let (wish_before, rank_before) = best.map_or((0, 0), |(_, wish, rank)| (wish, rank));
            if (*wish, rank) > (wish_before, rank_before) {
                best = Some((coding, *wish, rank));
            }
        }
        best?.0
    }
}

fn is_named(name: &str, coding: ContentCoding) -> bool {
    name.eq_ignore_ascii_case(coding.name())
        // RFC 9110, section 8.4.1.3.
        || (coding == ContentCoding::Gzip && name.eq_ignore_ascii_case("x-gzip"))
}

/// Nothing of one whose weight is none.
fn wish(member: &str) -> Option<(String, u16)> {
    let mut parts = member.split(';').map(|part| part.trim_matches([' ', '\t']));
    let name = parts.next()?;
    let mut wish = 1_000;
    for part in parts {
        if let Some((key, value)) = part.split_once('=')
            && key.trim_end_matches([' ', '\t']).eq_ignore_ascii_case("q")
        {
            wish = weight(value.trim_start_matches([' ', '\t']))?;
        }
    }
    Some((name.to_owned(), wish))
}

/// In thousandths; what is more than 1 is 1.
fn weight(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || !is_number(whole) || !is_number(rest) || whole.len() > 3 {
        return None;
    }
    if whole.bytes().any(|byte| byte != b'0') {
        return Some(1_000);
    }
    let digits = rest.bytes().chain(std::iter::repeat(b'0')).take(3);
    Some(digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use ContentCoding::{Brotli, Gzip, Zstd};

    use super::*;

    fn chosen(said: Option<&str>, there: &[(ContentCoding, bool)]) -> Option<ContentCoding> {
        let mut headers = HeaderMap::new();
        if let Some(said) = said {
            headers.insert(header::ACCEPT_ENCODING, said.parse().unwrap());
        }
        Accepted::of(&headers).choose(there)
    }

    #[test]
    fn the_one_that_is_wanted_most_is_chosen() {
        let all = [(Gzip, false), (Brotli, false), (Zstd, false)];
        let check = |said: &str, expected| assert_eq!(chosen(Some(said), &all), expected, "{said}");
        check("gzip", Some(Gzip));
        check("br, gzip", Some(Brotli));
        check("gzip, br", Some(Gzip));
        check("gzip;q=0.5, br;q=0.8, zstd;q=0.1", Some(Brotli));
        check("gzip; Q = 0.5 ,BR;q=0.501", Some(Brotli));
        check("x-gzip", Some(Gzip));
        check("deflate", None);
        check("", None);
        check("*", Some(Gzip));
        check("*, gzip;q=0", Some(Brotli));
        check("gzip;q=0", None);
        check("gzip;q=0.000", None);
        check("gzip;q=0.001", Some(Gzip));
        check("identity", None);
        check("identity, gzip;q=0.5", None);
        check("identity;q=0.5, gzip;q=0.5", None);
        check("gzip;q=1.0", Some(Gzip));
        check("gzip;q=nothing, br;q=0.1", Some(Brotli));
        check("gzip;q=-1", None);
        check("*;q=0", None);
        check("deflate, gzip;q=0.3, *;q=0.1", Some(Gzip));
    }

    #[test]
    fn without_the_field_nothing_is_compressed() {
        assert_eq!(chosen(None, &[(Gzip, true)]), None);
    }

    #[test]
    fn one_that_goes_first_does_so_among_equals() {
        let there = [(Gzip, false), (Brotli, true)];
        assert_eq!(chosen(Some("gzip, br"), &there), Some(Brotli));
        assert_eq!(chosen(Some("gzip;q=0.9, br;q=0.9"), &there), Some(Brotli));
        assert_eq!(chosen(Some("gzip, br;q=0.9"), &there), Some(Gzip));
        assert_eq!(chosen(Some("gzip"), &there), Some(Gzip));
        assert_eq!(chosen(Some("br;q=0"), &there), None);
        let ranked = [(Gzip, true), (Brotli, true), (Zstd, true)];
        for (said, expected) in [
            ("gzip, deflate, br, zstd", Zstd),
            ("gzip, deflate, br", Brotli),
            ("br, gzip", Brotli),
            ("*", Zstd),
            ("zstd;q=0, *", Brotli),
            ("gzip, br;q=0.9", Gzip),
        ] {
            assert_eq!(chosen(Some(said), &ranked), Some(expected), "{said}");
        }
    }
}
