//! What headers ask for: retries, waits, endpoints, and a place in a session.
//!
//! Lines of headers, which are a request's, and an answer's, too.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use naru_balance::{Balancer, Bound, EndpointFacts, Hashable, hash};
use naru_base::{AttemptId, Chance, EndpointId, Instant, WallTime, Weight};
use naru_recover::{Circumstances, CompiledRetry, Facts, Head, Recovery, RetryLoad, Verdict, consume, layer};
use naru_spec::{
    Cookie, HashPolicy, HashSource, LoadBalancing, RateLimitedBackoff, ResetFormat, ResetHeader, RetryLimit,
    RetryOn, RetryPolicy, Sticky, StickyCarrier,
};

use crate::edge::headers;

const WAIT_MAX: Duration = Duration::from_secs(300);

/// A caller that is believed may ask for much, but not for more than there may be; what it has asked for is not passed on. A
/// session leads to an endpoint that there is, and a cookie that was given leads there again.
pub fn asked(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let request = headers(&lines);
    retried(&request);
    bound(&request);
    hashed(&request);
}

fn retried(said: &HeaderMap) {
    let reset = |name, format| ResetHeader { name: HeaderName::from_static(name), format };
    let headers =
        vec![reset("retry-after", ResetFormat::Seconds), reset("x-reset", ResetFormat::UnixTimestamp)];
    let policy = RetryPolicy {
        retries_max: 2,
        rate_limited: Some(RateLimitedBackoff { headers, max: WAIT_MAX }),
        ..RetryPolicy::new(RetryOn::SERVER_ERROR)
    };
    let policy = CompiledRetry::compile(&policy, None).expect("it is in order");
    let mut chance = Chance::new(1);
    let mut state = Recovery::begin(&policy, Facts::of(&Method::GET, said, true), said, true);
    assert!((1..=8).contains(&state.initial_attempts(&policy, &mut chance)));
    let around = Circumstances {
        wall: WallTime(1_000_000_000_000),
        deadline: None,
        is_replayable: true,
        is_breaker_open: false,
        was_retried: false,
        load: RetryLoad { active: 1, pending: 0, retries: 0, recent: 0 },
        limit: RetryLimit::Concurrent(1_000),
    };
    let mut attempts = 0;
    for id in 0..200 {
        let attempt = AttemptId(id);
        if !state.begin_attempt(attempt, EndpointId(0), 0) {
            break;
        }
        attempts += 1;
        let head = Head { status: 503, grpc_status: None, headers: said };
        let verdict = state.on_head(Instant(0), attempt, &policy, &head, || around, &mut chance);
        let Verdict::RetryAfter(wait) = verdict else { break };
        // What is said is obeyed, and half of it more at most.
        assert!(wait <= WAIT_MAX * 3 / 2, "{wait:?}");
    }
    assert!((1..=65).contains(&attempts), "{attempts} attempts");
    let mut passed = said.clone();
    consume(&mut passed);
    layer::tell_upstream(&mut passed, 3);
    assert!(layer::is_repeat(&passed));
    layer::forget(&mut passed);
    assert!(!layer::is_repeat(&passed) && !layer::is_exhausted(&passed));
    assert_eq!(layer::trace(said), layer::trace(&passed));
}

fn bound(request: &HeaderMap) {
    let cookie = Cookie::new("session", Some(Duration::ZERO), "/", Vec::new()).expect("it is a cookie");
    let carriers =
        [StickyCarrier::Cookie(cookie), StickyCarrier::Header(HeaderName::from_static("x-session"))];
    for (carrier, is_strict) in carriers.into_iter().zip([false, true]) {
        let is_cookie = matches!(carrier, StickyCarrier::Cookie(_));
        let settings =
            LoadBalancing { sticky: Some(Sticky { carrier, is_strict }), ..LoadBalancing::round_robin() };
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
            .map(|key| EndpointFacts { key, ..EndpointFacts::of_weight(Weight(1)) });
        let balancer = Balancer::new(&settings, &all, 1);
        let is_known = |endpoint: EndpointId| endpoint.index() < all.len();
        match balancer.bound(request) {
            Bound::Free => {}
            Bound::Preferring(endpoint) => assert!(!is_strict && is_known(endpoint)),
            Bound::Only(endpoint) => assert!(is_strict && endpoint.is_none_or(is_known)),
        }
        let (_, value) = balancer.session(EndpointId(1), Bound::Free).expect("a client is told");
        let mut again = HeaderMap::new();
        match is_cookie {
            true => again.insert("cookie", first_pair(&value)),
            false => again.insert("x-session", value),
        };
        let expected =
            if is_strict { Bound::Only(Some(EndpointId(1))) } else { Bound::Preferring(EndpointId(1)) };
        assert_eq!(balancer.bound(&again), expected);
    }
}

fn hashed(request: &HeaderMap) {
    let cookie = |name: &str| {
        let cookie = Cookie::new(name, Some(Duration::from_secs(60)), "", Vec::new());
        HashPolicy::of(HashSource::Cookie(cookie.expect("it is a cookie")))
    };
    let policies = [
        HashPolicy::of(HashSource::Header(HeaderName::from_static("x-key"))),
        cookie("a"),
        HashPolicy::of(HashSource::Query("q".to_owned())),
        cookie("b"),
    ];
    let query = request.get("x-query").and_then(|value| value.to_str().ok());
    let of = |headers| hash(&policies, &Hashable { headers, query, source: None }, &mut Chance::new(7));
    let first = of(request);
    assert!(first.hash.is_some(), "a client that has no cookie is given one");
    let mut again = request.clone();
    let new: Vec<HeaderValue> =
        first.new_cookies.into_iter().flat_map(|new| new.headers(&policies).collect::<Vec<_>>()).collect();
    let names: BTreeSet<_> = new.iter().map(|value| value.as_bytes().first().copied()).collect();
    assert_eq!(names.len(), new.len(), "two of one name");
    for value in &new {
        again.append("cookie", first_pair(value));
    }
    // One that a client has without a value is found first, and it is given another one each time.
    if of(&again).new_cookies.is_none() {
        assert_eq!(of(&again).hash, first.hash, "its cookies do not lead it there again");
    }
}

/// As a client says a `Set-Cookie` again.
fn first_pair(value: &HeaderValue) -> HeaderValue {
    let pair = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    HeaderValue::from_bytes(pair).expect("it was one")
}
