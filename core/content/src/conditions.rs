//! Does a client want a content that it may have already? RFC 9110, section 13.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_base::WallTime;
use naru_cache::parse_date;

/// What tells one state of a content from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// A strong one, with its quotes.
    pub etag: String,
    /// Seconds since 1970.
    pub modified: u64,
}

/// What the conditions of a request come to, in the order of RFC 9110, section 13.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// It is given; its parts are, where it asks for some.
    Yes { parts: bool },
    /// 304.
    HasIt,
    /// 412.
    No,
}

pub fn met(method: &Method, headers: &HeaderMap, own: &Validators, now: WallTime) -> Met {
    let date = |name: HeaderName| parse_date(headers.get(name)?.as_bytes(), now);
    if headers.contains_key(header::IF_MATCH) {
        if !names(headers, &header::IF_MATCH, |tag| tag == "*" || tag == own.etag) {
            return Met::No;
        }
    } else if date(header::IF_UNMODIFIED_SINCE).is_some_and(|since| own.modified > since) {
        return Met::No;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        let is_it = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own.etag;
        if names(headers, &header::IF_NONE_MATCH, is_it) {
            return Met::HasIt;
        }
    } else if date(header::IF_MODIFIED_SINCE).is_some_and(|since| own.modified <= since) {
        return Met::HasIt;
    }
    let parts = *method == Method::GET && headers.contains_key(header::RANGE);
    Met::Yes { parts: parts && is_same(headers.get(header::IF_RANGE), own, now) }
}

/// Whether what a client has a part of is this (RFC 9110, section 13.1.5).
fn is_same(condition: Option<&HeaderValue>, own: &Validators, now: WallTime) -> bool {
    let Some(condition) = condition.map(HeaderValue::as_bytes) else { return true };
    if condition.contains(&b'"') {
        return condition == own.etag.as_bytes();
    }
    // A date is strong where nothing was written in that second any more (section 8.8.2.2).
    let is_past = own.modified < now.0 / 1_000_000_000;
    is_past && parse_date(condition, now) == Some(own.modified)
}

/// Whether a list of tags has one. A comma may stand in a tag.
fn names(headers: &HeaderMap, name: &HeaderName, is_it: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        let mut is_quoted = false;
        let tags = value.split(|character| {
            is_quoted ^= character == '"';
            character == ',' && !is_quoted
        });
        tags.map(|tag| tag.trim_matches([' ', '\t'])).any(&is_it)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_700_000_000 * 1_000_000_000);
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const ALL: Met = Met::Yes { parts: false };
    const PARTS: Met = Met::Yes { parts: true };

    fn check(fields: &[(&str, &str)], expected: Met) {
        let own = Validators { etag: "\"a,b\"".to_owned(), modified: 784_111_777 };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        assert_eq!(met(&Method::GET, &headers, &own, NOW), expected, "{fields:?}");
        if expected == PARTS {
            assert_eq!(met(&Method::HEAD, &headers, &own, NOW), ALL, "{fields:?}");
        }
    }

    #[test]
    fn tags_are_compared() {
        check(&[], ALL);
        check(&[("if-none-match", "\"a,b\"")], Met::HasIt);
        check(&[("if-none-match", "W/\"a,b\"")], Met::HasIt);
        check(&[("if-none-match", "\"a\" , \"a,b\"")], Met::HasIt);
        check(&[("if-none-match", "\"a\""), ("if-none-match", "*")], Met::HasIt);
        check(&[("if-none-match", "\"a\", \"b\"")], ALL);
        check(&[("if-match", "\"a,b\"")], ALL);
        check(&[("if-match", "*")], ALL);
        check(&[("if-match", "W/\"a,b\"")], Met::No);
        check(&[("if-match", "\"c\"")], Met::No);
    }

    #[test]
    fn dates_are_compared() {
        check(&[("if-modified-since", BEFORE)], ALL);
        check(&[("if-modified-since", THEN)], Met::HasIt);
        check(&[("if-modified-since", AFTER)], Met::HasIt);
        check(&[("if-modified-since", "yesterday")], ALL);
        check(&[("if-unmodified-since", BEFORE)], Met::No);
        check(&[("if-unmodified-since", THEN)], ALL);
        check(&[("if-unmodified-since", "yesterday")], ALL);
    }

    #[test]
    fn tags_go_before_dates() {
        check(&[("if-none-match", "\"c\""), ("if-modified-since", AFTER)], ALL);
        check(&[("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)], ALL);
        check(&[("if-match", "\"c\""), ("if-none-match", "\"a,b\"")], Met::No);
        check(&[("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], Met::HasIt);
    }

    #[test]
    fn parts_are_of_what_the_client_has() {
        let range = ("range", "bytes=0-0");
        check(&[range], PARTS);
        check(&[range, ("if-range", "\"a,b\"")], PARTS);
        check(&[range, ("if-range", "W/\"a,b\"")], ALL);
        check(&[range, ("if-range", "\"c\"")], ALL);
        check(&[range, ("if-range", THEN)], PARTS);
        check(&[range, ("if-range", AFTER)], ALL);
        check(&[range, ("if-none-match", "\"a,b\"")], Met::HasIt);
        check(&[range, ("if-match", "\"c\"")], Met::No);
    }
}
