//! What is said of keeping answers: by a request, by its answer, and by one that says that nothing has changed.
//!
//! Three blocks of lines of headers, with an empty line between them; the first line of all is the target.

use bytes::Bytes;
use http::Method;
use http::header::HeaderMap;
use naru_base::{Instant, WallTime};
use naru_cache::{
    Asked, Fetched, Given, Judgement, Key, Object, Place, answer_to, freshen, invalidated, judge,
    may_be_given_instead, stored_head, terms, validate,
};
use naru_spec::{CacheKeyParts, CacheKeyQuery, CachePolicy};

use crate::edge::headers;

const BODY: &[u8] = b"0123456789";
/// A Sunday in 1994.
const WALL: WallTime = WallTime(784_111_777 * 1_000_000_000);

/// What is kept is for no hop, and is given only as long as it may be; parts are within the whole; what is brought up to
/// date is still the same thing; and what is made worthless is of the same origin.
pub fn kept(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let lines: Vec<&[u8]> = lines.collect();
    let mut blocks = lines.split(|line| line.is_empty()).map(headers);
    let mut next = || blocks.next().unwrap_or_default();
    let (request, response, news) = (next(), next(), next());
    let place = Place { is_tls: false, authority: "naru.test:80", target };
    for url in invalidated(place, 200, &response, &[]) {
        assert!(url.starts_with("http://naru.test"), "{url} is of another origin");
    }
    let query = CacheKeyQuery::Without(vec!["utm".to_owned()]);
    let key = CacheKeyParts { cookies: vec!["user".to_owned()], query, ..CacheKeyParts::default() };
    let policy = CachePolicy { key, ..CachePolicy::default() };
    let asked = Asked::of(&request, true);
    let fetched = Fetched {
        method: &Method::GET,
        request: &request,
        status: 200,
        response: &response,
        sent: Instant::ZERO,
        came: Instant(1_500_000_000),
        wall: WALL,
        is_own_location: false,
        is_identified: false,
    };
    let Ok(terms) = terms(&policy, &fetched) else { return };
    let head = stored_head(&response, WALL);
    assert!(head.contains_key("date") && !head.contains_key("age") && !head.contains_key("connection"));
    let key = Key::new(place, &policy.key, &request, &["rule", "cluster"]);
    let object = Object::new(key, &request, 200, &head, Bytes::from_static(BODY), terms)
        .expect("it was found to be like others");
    assert_eq!(object.head.unpack(), head, "a head is what it was");
    for seconds in [1, 2, 60, 3_600, u64::MAX / 1_000_000_000] {
        let now = Instant(seconds * 1_000_000_000);
        let is_fresh = terms.is_fresh(now);
        match judge(&terms, &asked, now) {
            Judgement::Fresh => assert!(is_fresh && !terms.asks_first && !asked.no_cache),
            Judgement::Stale | Judgement::StaleWhileRevalidate => assert!(!is_fresh && !terms.is_strict),
            Judgement::Validate => {}
        }
        let (left, is_there) = may_be_given_instead(&terms, &asked, now);
        assert!(!(terms.is_strict && (is_there || left.is_some())), "what is strict is given stale");
    }
    if let Given::Part(part) = answer_to(&Method::GET, &request, &object, WALL) {
        assert!(part.start < part.end && part.end <= BODY.len() as u64, "{part:?}");
    }
    check_validation(&object, &request);
    let (fresh, _) = freshen(&policy, &object, &Fetched { response: &news, status: 304, ..fetched });
    assert_eq!((fresh.status, &fresh.body[..]), (200, BODY));
    for name in ["etag", "content-length", "content-encoding", "content-range"] {
        assert_eq!(fresh.head.get(name), object.head.get(name), "{name} is about the body");
    }
}

/// The origin is asked by what it said, and by nothing of the client's.
fn check_validation(object: &Object, request: &HeaderMap) {
    let mut asks = request.clone();
    if validate(object, &mut asks) {
        let of = |name: &str| asks.get(name).map(http::HeaderValue::as_bytes);
        assert_eq!(of("if-none-match"), object.head.get("etag"));
        assert_eq!(of("if-modified-since"), object.head.get("last-modified"));
        assert!(of("range").is_none() && of("if-range").is_none());
    } else {
        assert_eq!(asks, *request);
    }
}
