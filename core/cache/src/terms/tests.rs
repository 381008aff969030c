//! What is kept, and for how long: a table for each rule.

use naru_spec::{CacheKeyParts, StatusRange};

use super::*;

const WALL: WallTime = WallTime(784_111_777 * 1_000_000_000);
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

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
