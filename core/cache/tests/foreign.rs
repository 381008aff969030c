//! Whatever stands in fields, nothing panics, and what is decided holds together.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::{Chance, Instant, WallTime};
use naru_cache::{
    Asked, Fetched, Given, Judgement, Key, Object, Place, answer_to, freshen, invalidated, judge,
    stored_head, terms,
};
use naru_spec::CachePolicy;

const NAMES: [&str; 18] = [
    "cache-control",
    "age",
    "date",
    "expires",
    "etag",
    "last-modified",
    "vary",
    "range",
    "if-range",
    "if-none-match",
    "if-modified-since",
    "cdn-cache-control",
    "surrogate-control",
    "connection",
    "cookie",
    "set-cookie",
    "location",
    "accept-language",
];
const PIECES: [&[u8]; 30] = [
    b"max-age=",
    b"0",
    b"60",
    b"99999999999999999999",
    b",",
    b";",
    b"=",
    b"\"",
    b"\\",
    b" ",
    b"no-cache",
    b"private",
    b"s-maxage=5",
    b"must-understand",
    b"*",
    b"W/",
    b"\"x\"",
    b"bytes=",
    b"-",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"stale-if-error=9",
    b"http://",
    b"/../..",
    b"?",
    b"#",
    b"\xff",
    b"x",
    b"q=0.5",
    b"age",
    b"public",
];

fn headers(chance: &mut Chance) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..chance.below(6) {
        let name = NAMES[chance.below(NAMES.len() as u64) as usize];
        let mut value = Vec::new();
        for _ in 0..chance.below(5) {
            value.extend_from_slice(PIECES[chance.below(PIECES.len() as u64) as usize]);
        }
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    headers
}

#[test]
fn whatever_is_said_is_decided() {
    let mut kept = 0;
    for seed in 0..20_000 {
        let mut chance = Chance::new(seed);
        let (request, response, news) = (headers(&mut chance), headers(&mut chance), headers(&mut chance));
        let place = Place { is_tls: false, authority: "a", target: "/x?y" };
        invalidated(place, 200, &response);
        let policy = CachePolicy::default();
        let came = Instant(chance.below(1 << 40));
        let wall = WallTime(784_111_777 * 1_000_000_000);
        let fetched = Fetched {
            method: &Method::GET,
            request: &request,
            status: 200,
            response: &response,
            sent: Instant::ZERO,
            came,
            wall,
            is_own_location: false,
        };
        let Ok(terms) = terms(&policy, &fetched) else { continue };
        kept += 1;
        let head = stored_head(&response, wall);
        assert!(!head.contains_key("age") && !head.contains_key("connection") && head.contains_key("date"));
        let key = Key::new(place, &policy.key, &request, &[]);
        let object =
            Object::new(key, &request, 200, &head, Bytes::from_static(b"0123456789"), terms).unwrap();
        let asked = Asked::of(&request, true);
        let later = Instant(came.0.saturating_add(chance.below(1 << 40)));
        match judge(&terms, &asked, later) {
            Judgement::Fresh => assert!(terms.is_fresh(later) && !terms.asks_first && !asked.no_cache),
            Judgement::Stale | Judgement::StaleWhileRevalidate => {
                assert!(!terms.is_fresh(later) && !terms.is_strict && !terms.asks_first && !asked.no_cache);
            }
            Judgement::Validate => {}
        }
        if let Given::Part(part) = answer_to(&Method::GET, &request, &object, wall) {
            assert!(part.start < part.end && part.end <= 10, "{part:?}");
        }
        let (fresh, _) = freshen(&policy, &object, &Fetched { response: &news, status: 304, ..fetched });
        assert_eq!((fresh.status, &fresh.body), (200, &object.body));
        assert_eq!(fresh.head.get("etag"), object.head.get("etag"));
    }
    assert!(kept > 2_000, "{kept}");
}
