//! Conditions of requests: those of clients, answered from what is kept, and our own (RFC 9110, section 13; RFC 9111,
//! section 4.3).

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use naru_base::WallTime;

use crate::list::members;
use crate::range::{Part, part_of};
use crate::{Object, date};

/// What of an object a client is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Whole,
    /// It has it already: 304.
    NotModified,
    /// 206.
    Part(Part),
    /// It asks for what is not there: 416.
    NoPart,
}

pub fn answer_to(method: &Method, request: &HeaderMap, object: &Object, wall: WallTime) -> Given {
    if object.status != 200 {
        return Given::Whole;
    }
    if has_it(request, object, wall) {
        return Given::NotModified;
    }
    let is_asked = *method == Method::GET && request.contains_key(header::RANGE);
    match request.get(header::RANGE).filter(|_| is_asked && is_same_range(request, object, wall)) {
        Some(range) => part_of(range.as_bytes(), object.body.len() as u64),
        None => Given::Whole,
    }
}

fn has_it(request: &HeaderMap, object: &Object, wall: WallTime) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let etag = object.head.get("etag");
        let all = request.get_all(header::IF_NONE_MATCH).iter();
        return all.flat_map(|value| members(value.as_bytes())).any(|asked| match (asked, etag) {
            (b"*", _) => true,
            (asked, Some(etag)) => opaque(asked) == opaque(etag),
            (_, None) => false,
        });
    }
    let Some(since) = request.get(header::IF_MODIFIED_SINCE) else { return false };
    let Some(since) = date::parse(since.as_bytes(), wall) else { return false };
    let changed = object.head.get("last-modified").or(object.head.get("date"));
    changed.and_then(|changed| date::parse(changed, wall)).is_some_and(|changed| changed <= since)
}

/// For a comparison that is weak (RFC 9110, section 8.8.3.2).
fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// Whether what the client has a part of is this (RFC 9110, section 13.1.5).
fn is_same_range(request: &HeaderMap, object: &Object, wall: WallTime) -> bool {
    let Some(condition) = request.get(header::IF_RANGE).map(HeaderValue::as_bytes) else { return true };
    if condition.contains(&b'"') {
        return !condition.starts_with(b"W/") && object.head.get("etag") == Some(condition);
    }
    let date = |name: &str| date::parse(object.head.get(name)?, wall);
    let Some(changed) = date("last-modified") else { return false };
    // A date is strong where nothing was written in that second any more (section 8.8.2.2).
    date::parse(condition, wall) == Some(changed) && date("date").is_some_and(|date| date > changed)
}

/// Asks the origin whether an object is still what it has, in place of what the client asked. `false` where there is
/// nothing to ask by.
pub fn validate(object: &Object, headers: &mut HeaderMap) -> bool {
    let conditions = [("etag", header::IF_NONE_MATCH), ("last-modified", header::IF_MODIFIED_SINCE)];
    let own: Vec<(HeaderName, HeaderValue)> = conditions
        .into_iter()
        .filter_map(|(name, condition)| {
            Some((condition, HeaderValue::from_bytes(object.head.get(name)?).ok()?))
        })
        .collect();
    if own.is_empty() {
        return false;
    }
    for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE, header::RANGE] {
        headers.remove(name);
    }
    headers.extend(own);
    true
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use naru_spec::CacheKeyParts;

    use super::*;
    use crate::headers;
    use crate::{Key, Place, Terms};

    const NOW: WallTime = WallTime(1_700_000_000 * 1_000_000_000);
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn object() -> Object {
        let place = Place { is_tls: false, authority: "a", target: "/" };
        let key = Key::new(place, &CacheKeyParts::default(), &HeaderMap::new(), &[]);
        let terms = Terms {
            came: naru_base::Instant::ZERO,
            age: 0,
            lifetime: 1,
            is_by_route: false,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            asks_first: false,
            is_strict: false,
        };
        let head = headers(&[
            ("etag", "\"x\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("date", LATER),
        ]);
        Object::new(key, &HeaderMap::new(), 200, &head, Bytes::from_static(b"0123456789"), terms)
            .expect("no star")
    }

    fn check(asked: &[(&'static str, &'static str)], expected: Given) {
        assert_eq!(answer_to(&Method::GET, &headers(asked), &object(), NOW), expected, "{asked:?}");
    }

    #[test]
    fn who_has_it_is_told_so() {
        check(&[("if-none-match", "\"a\", W/\"x\"")], Given::NotModified);
        check(&[("if-none-match", "*")], Given::NotModified);
        check(&[("if-none-match", "\"y\""), ("if-modified-since", LATER)], Given::Whole);
        check(&[("if-modified-since", LATER)], Given::NotModified);
        check(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], Given::Whole);
        check(&[("if-modified-since", "yesterday")], Given::Whole);
    }

    #[test]
    fn parts_are_given_of_what_the_client_means() {
        let part = Given::Part(Part { start: 0, end: 2 });
        check(&[("range", "bytes=0-1")], part);
        check(&[("range", "bytes=0-1"), ("if-range", "\"x\"")], part);
        check(&[("range", "bytes=0-1"), ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT")], part);
        check(&[("range", "bytes=0-1"), ("if-range", LATER)], Given::Whole);
        check(&[("range", "bytes=0-1"), ("if-range", "W/\"x\"")], Given::Whole);
        check(&[("range", "bytes=10-")], Given::NoPart);
        let head = answer_to(&Method::HEAD, &headers(&[("range", "bytes=0-1")]), &object(), NOW);
        assert_eq!(head, Given::Whole);
    }

    #[test]
    fn a_date_of_a_second_that_was_not_over_is_no_proof_of_the_same_bytes() {
        let then = "Sun, 06 Nov 1994 08:49:37 GMT";
        let young = Object {
            head: crate::Head::pack(&headers(&[("last-modified", then), ("date", then)])),
            ..object()
        };
        let asked = headers(&[("range", "bytes=0-1"), ("if-range", then)]);
        assert_eq!(answer_to(&Method::GET, &asked, &young, NOW), Given::Whole);
    }

    #[test]
    fn our_own_conditions_take_the_place_of_the_clients() {
        let mut asked = headers(&[("if-none-match", "\"mine\""), ("range", "bytes=0-1"), ("x", "1")]);
        assert!(validate(&object(), &mut asked));
        let own = headers(&[
            ("if-none-match", "\"x\""),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("x", "1"),
        ]);
        assert_eq!(asked, own);
    }
}
