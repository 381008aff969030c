//! What is kept, and for how long: a table for each rule.

use naru_spec::{CacheKeyParts, StatusRange};

use super::*;
use crate::headers;

const WALL: WallTime = WallTime(784_111_777 * 1_000_000_000);
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn ask(
    policy: &CachePolicy,
    status: u16,
    request: &[(&'static str, &'static str)],
    response: &[(&'static str, &'static str)],
) -> Result<Terms, Refused> {
    let (request, response) = (headers(request), headers(response));
    terms(policy, &fetched(&request, status, &response))
}

fn fetched<'a>(request: &'a HeaderMap, status: u16, response: &'a HeaderMap) -> Fetched<'a> {
    Fetched {
        method: &Method::GET,
        request,
        status,
        response,
        sent: Instant(0),
        came: Instant(2_000_000_000),
        wall: WALL,
        is_own_location: false,
        is_identified: false,
    }
}

/// Who asked was found out by a token that the request does not have any more.
fn ask_identified(response: &[(&'static str, &'static str)], policy: &CachePolicy) -> Result<Terms, Refused> {
    let (request, response) = (headers(&[]), headers(response));
    let fetched = Fetched { is_identified: true, ..fetched(&request, 200, &response) };
    terms(policy, &fetched)
}

fn lifetime_of(status: u16, response: &[(&'static str, &'static str)]) -> Result<u32, Refused> {
    ask(&CachePolicy::default(), status, &[], response).map(|terms| terms.lifetime)
}

#[test]
fn lifetimes_come_from_the_nearest_that_says_one() {
    let future = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
    assert_eq!(lifetime_of(200, &[("cache-control", "max-age=1, s-maxage=2"), future]), Ok(2));
    assert_eq!(lifetime_of(200, &[("cache-control", "max-age=1"), future]), Ok(1));
    assert_eq!(lifetime_of(200, &[("date", DATE), future]), Ok(60));
    assert_eq!(lifetime_of(200, &[("date", "nonsense"), future]), Ok(60));
    assert_eq!(lifetime_of(200, &[("cdn-cache-control", "max-age=9"), ("cache-control", "no-store")]), Ok(9));
    assert_eq!(lifetime_of(200, &[("expires", "0")]), Err(Refused::Useless));
    assert_eq!(lifetime_of(200, &[("expires", "0"), ("etag", "\"a\"")]), Ok(0));
    assert_eq!(lifetime_of(200, &[]), Err(Refused::Useless));
    assert_eq!(lifetime_of(200, &[("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT")]), Ok(100));
    assert_eq!(lifetime_of(200, &[("last-modified", "Sun, 06 Nov 1904 08:32:57 GMT")]), Ok(86_400));
    assert_eq!(lifetime_of(302, &[("last-modified", "Sun, 06 Nov 1994 08:32:57 GMT")]), Err(Refused::Status));
}

#[test]
fn what_is_not_for_all_is_not_kept() {
    let fresh = ("cache-control", "max-age=60");
    for (response, why) in [
        (("cache-control", "no-store"), Refused::NoStore),
        (("cache-control", "private"), Refused::Private),
        (("vary", "*"), Refused::Vary),
    ] {
        assert_eq!(lifetime_of(200, &[fresh, response]), Err(why));
    }
    let policy = CachePolicy::default();
    let mine = [("authorization", "x")];
    assert_eq!(ask(&policy, 200, &mine, &[fresh]), Err(Refused::Authorization));
    assert!(ask(&policy, 200, &mine, &[fresh, ("cache-control", "public")]).is_ok());
    assert_eq!(ask_identified(&[fresh], &policy), Err(Refused::Authorization));
    assert!(ask_identified(&[fresh, ("cache-control", "public")], &policy).is_ok());
    // A key of what is not there any more tells nobody from anybody.
    let key = CacheKeyParts { headers: vec![header::AUTHORIZATION], ..CacheKeyParts::default() };
    let by_token = CachePolicy { key, ..CachePolicy::default() };
    assert!(ask(&by_token, 200, &mine, &[fresh]).is_ok());
    assert_eq!(ask_identified(&[fresh], &by_token), Err(Refused::Authorization));
    assert_eq!(ask(&policy, 200, &[("cache-control", "no-store")], &[fresh]), Err(Refused::NoStore));
    for status in [206, 304, 416] {
        assert_eq!(lifetime_of(status, &[fresh]), Err(Refused::Status));
    }
    assert_eq!(lifetime_of(599, &[fresh]), Ok(60));
    assert_eq!(lifetime_of(599, &[("cache-control", "max-age=60, must-understand")]), Err(Refused::Status));
    assert_eq!(lifetime_of(200, &[("cache-control", "max-age=60, must-understand, no-store")]), Ok(60));
}

#[test]
fn what_a_route_says_stands_behind_what_the_answer_says() {
    let minute = Some(Duration::from_secs(60));
    let policy = CachePolicy { lifetime: minute, ..CachePolicy::default() };
    let lifetime = |policy: &CachePolicy, status, response: &[_]| {
        ask(policy, status, &[], response).map(|terms| terms.lifetime)
    };
    assert_eq!(lifetime(&policy, 200, &[]), Ok(60));
    assert_eq!(lifetime(&policy, 200, &[("cache-control", "max-age=5")]), Ok(5));
    assert_eq!(lifetime(&policy, 404, &[]), Err(Refused::Useless));
    assert_eq!(lifetime(&policy, 200, &[("set-cookie", "a=b")]), Err(Refused::SetCookie));
    assert_eq!(lifetime(&policy, 200, &[("cache-control", "no-store")]), Err(Refused::NoStore));
    let overriding = CachePolicy { overrides: true, ..policy.clone() };
    assert_eq!(lifetime(&overriding, 200, &[("cache-control", "max-age=5")]), Ok(60));
    assert_eq!(lifetime(&overriding, 200, &[("cache-control", "private")]), Err(Refused::Private));
    let missing = StatusRange::new(404, 405).expect("a range");
    let negative = CachePolicy { negative: vec![(missing, Duration::from_secs(7))], ..policy };
    assert_eq!(lifetime(&negative, 404, &[]), Ok(7));
    assert_eq!(lifetime(&negative, 503, &[]), Err(Refused::Useless));
}

#[test]
fn an_answer_is_as_old_as_the_most_that_anybody_says() {
    let age = |response: &[(&'static str, &'static str)]| {
        let all = [&[("cache-control", "max-age=60")], response].concat();
        ask(&CachePolicy::default(), 200, &[], &all).map(|terms| terms.age)
    };
    assert_eq!(age(&[]), Ok(2));
    assert_eq!(age(&[("age", "10")]), Ok(12));
    assert_eq!(age(&[("age", "10, 20")]), Ok(12));
    assert_eq!(age(&[("age", "x")]), Ok(2));
    assert_eq!(age(&[("age", "99999999999")]), Ok(SECONDS_MAX));
    assert_eq!(age(&[("date", "Sun, 06 Nov 1994 08:49:07 GMT")]), Ok(30));
    let terms = ask(&CachePolicy::default(), 200, &[], &[("cache-control", "max-age=60")]).expect("terms");
    assert!(terms.is_fresh(Instant(59_999_999_999)));
    assert!(!terms.is_fresh(Instant(60_000_000_000)));
}

#[test]
fn what_is_stored_is_for_no_hop_and_has_a_date() {
    let head = stored_head(
        &headers(&[
            ("connection", "a, close"),
            ("a", "1"),
            ("b", "2"),
            ("age", "3"),
            ("te", "x"),
            ("cache-control", "no-cache=\"c\""),
            ("c", "4"),
        ]),
        WALL,
    );
    assert_eq!(head, headers(&[("b", "2"), ("cache-control", "no-cache=\"c\""), ("date", DATE)]));
}

/// A route that gives stale answers and says nothing of lifetimes, to somebody with a cookie.
#[test]
fn an_answer_that_may_be_somebodys_is_given_to_nobody_without_asking() {
    let day = Some(Duration::from_secs(86_400));
    let policy = CachePolicy { stale_while_revalidate: day, stale_if_error: day, ..CachePolicy::default() };
    let cookie = [("cookie", "session=1"), ("host", "a")];
    let etag = ("etag", "W/\"a\"");
    let asks_first = |policy: &CachePolicy, request: &[_], response: &[_]| {
        ask(policy, 200, request, response).map(|terms| terms.asks_first)
    };
    assert_eq!(asks_first(&policy, &cookie, &[etag]), Ok(true));
    assert_eq!(asks_first(&policy, &cookie, &[etag, ("cache-control", "max-age=0")]), Ok(true));
    assert_eq!(asks_first(&policy, &cookie, &[("cache-control", "max-age=0")]), Err(Refused::Useless));
    assert_eq!(asks_first(&policy, &[], &[etag]), Ok(false));
    // Its origin says that others may have it.
    for said in [
        "max-age=60",
        "public, max-age=0",
        "max-age=0, stale-while-revalidate=5",
        "max-age=0, stale-if-error=5",
    ] {
        assert_eq!(asks_first(&policy, &cookie, &[etag, ("cache-control", said)]), Ok(false), "{said}");
    }
    // Who has other cookies is told apart.
    assert_eq!(asks_first(&policy, &cookie, &[etag, ("vary", "Cookie")]), Ok(false));
    let key = CacheKeyParts { cookies: vec!["session".to_owned()], ..CacheKeyParts::default() };
    assert_eq!(asks_first(&CachePolicy { key, ..policy.clone() }, &cookie, &[etag]), Ok(false));
    // The route says how long.
    let lifetime = Some(Duration::from_secs(60));
    assert_eq!(asks_first(&CachePolicy { lifetime, ..policy }, &cookie, &[etag]), Ok(false));
}

#[test]
fn what_is_never_fresh_is_kept_where_it_may_be_given_stale() {
    let kept = |policy: &CachePolicy, said: &'static str| {
        let terms = ask(policy, 200, &[], &[("cache-control", said)]);
        terms.map(|terms| (terms.lifetime, terms.stale_while_revalidate, terms.stale_if_error))
    };
    let policy = CachePolicy::default();
    assert_eq!(kept(&policy, "max-age=0, stale-while-revalidate=9"), Ok((0, 9, 0)));
    assert_eq!(kept(&policy, "max-age=0, stale-if-error=9"), Ok((0, 0, 9)));
    let lenient = CachePolicy { stale_if_error: Some(Duration::from_secs(5)), ..CachePolicy::default() };
    assert_eq!(kept(&lenient, "max-age=0"), Ok((0, 0, 5)));
    for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=0", "no-cache"] {
        let said = format!("max-age=0, stale-if-error=9, {strict}");
        let mut response = HeaderMap::new();
        response.insert("cache-control", HeaderValue::try_from(said).expect("a value"));
        let nothing = HeaderMap::new();
        assert_eq!(terms(&policy, &fetched(&nothing, 200, &response)), Err(Refused::Useless), "{strict}");
    }
    // Nobody has said anything.
    assert_eq!(ask(&lenient, 200, &[], &[]), Err(Refused::Useless));
}

#[test]
fn what_was_answered_to_what_no_key_has_is_not_kept() {
    let fresh = ("cache-control", "max-age=60");
    let evil = [("host", "a"), ("x-forwarded-host", "evil.example")];
    let policy = CachePolicy::default();
    assert_eq!(ask(&policy, 200, &evil, &[fresh]), Err(Refused::Unkeyed));
    assert!(ask(&policy, 200, &evil, &[fresh, ("vary", "x-forwarded-host")]).is_ok());
    assert!(ask(&policy, 200, &[("host", "a"), ("x-forwarded-host", "a")], &[fresh]).is_ok());
    let asked = Asked::default();
    assert!(!may_lead(&Method::GET, &headers(&evil), &asked), "nobody waits for it");
    assert!(may_lead(&Method::GET, &headers(&[("host", "a")]), &asked));
}

#[test]
fn who_asks_something_in_a_body_is_not_answered_from_memory() {
    for (said, expected) in [
        (&[][..], true),
        (&[("content-length", "0")], true),
        (&[("content-length", "1")], false),
        (&[("transfer-encoding", "chunked")], false),
    ] {
        assert_eq!(may_use(&Method::GET, &headers(said)), expected, "{said:?}");
    }
}
