//! The machine of one request: its tables, its rules, and a walk.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::share::Denominator;
use naru_base::{AttemptId, Chance, EndpointId, Fraction, Instant, RetryEnd, WallTime};
use naru_spec::{
    Backoff, HeaderMatch, HeaderTest, Hedge, RateLimitedBackoff, Repeats, ResetFormat, ResetHeader,
    RetryBudget, RetryLimit, RetryOn, RetryPolicy,
};

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;
const A: AttemptId = AttemptId(0);
const B: AttemptId = AttemptId(1);
const C: AttemptId = AttemptId(2);
const E: fn(u32) -> EndpointId = EndpointId;

fn at(ms: u64) -> Instant {
    Instant::ZERO + MS(ms)
}

fn fixed(on: RetryOn, retries_max: u32) -> RetryPolicy {
    let backoff = Backoff::Fixed { wait: MS(10), jitter_percent: 0 };
    RetryPolicy { retries_max, backoff, ..RetryPolicy::new(on) }
}

fn compiled(policy: &RetryPolicy) -> CompiledRetry {
    CompiledRetry::compile(policy, None).unwrap()
}

const AROUND: Circumstances = Circumstances {
    wall: WallTime(0),
    deadline: None,
    is_replayable: true,
    is_breaker_open: false,
    was_retried: false,
    load: RetryLoad { active: 1, pending: 0, retries: 0, recent: 0 },
    limit: RetryLimit::Concurrent(3),
};

const GET: Facts = Facts { may_repeat: true, is_repeat: false };
const POST: Facts = Facts { may_repeat: false, is_repeat: false };

/// One request with its policy.
struct Request {
    policy: CompiledRetry,
    state: Recovery,
    chance: Chance,
    around: Circumstances,
}

impl Request {
    fn begin(policy: &RetryPolicy, facts: Facts) -> Request {
        Request::with(compiled(policy), facts)
    }

    fn hedged(policy: &RetryPolicy, hedge: Hedge) -> Request {
        Request::with(CompiledRetry::compile(policy, Some(hedge)).unwrap(), GET)
    }

    fn with(policy: CompiledRetry, facts: Facts) -> Request {
        let mut state = Recovery::begin(&policy, facts, &HeaderMap::new(), false);
        assert!(state.begin_attempt(A, E(0), 0));
        Request { policy, state, chance: Chance::new(1), around: AROUND }
    }

    fn head(&mut self, now: u64, attempt: AttemptId, status: u16) -> Verdict {
        self.head_with(now, attempt, status, &[])
    }

    fn head_with(
        &mut self,
        now: u64,
        attempt: AttemptId,
        status: u16,
        list: &[(&'static str, &'static str)],
    ) -> Verdict {
        let headers = headers(list);
        let head = Head { status, grpc_status: None, headers: &headers };
        let around = self.around;
        let verdict = self.state.on_head(at(now), attempt, &self.policy, &head, || around, &mut self.chance);
        self.state.check_invariants().unwrap();
        verdict
    }

    fn fail(&mut self, now: u64, attempt: AttemptId, kind: FailureKind, sent: Sent) -> Verdict {
        self.break_off(now, attempt, Failure { kind, sent, is_reused: false })
    }

    fn break_off(&mut self, now: u64, attempt: AttemptId, failure: Failure) -> Verdict {
        let (policy, around) = (&self.policy, &self.around);
        let verdict = self.state.on_failure(at(now), attempt, policy, failure, around, &mut self.chance);
        self.state.check_invariants().unwrap();
        verdict
    }

    fn tick(&mut self, now: u64) -> Option<Step> {
        let step = self.state.tick(at(now), &self.policy, &self.around, &mut self.chance);
        self.state.check_invariants().unwrap();
        step
    }

    fn try_again(&mut self, now: u64, attempt: AttemptId) {
        assert_eq!(self.tick(now), Some(Step::Try));
        assert!(self.state.begin_attempt(attempt, E(u32::from(attempt.0)), 0));
        self.state.check_invariants().unwrap();
    }
}

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    let all = list.iter();
    all.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

const AGAIN: Verdict = Verdict::RetryAfter(Duration::from_millis(10));

#[test]
fn the_state_of_a_request_is_small() {
    assert_eq!(size_of::<Recovery>(), 48);
    assert!(size_of::<Verdict>() <= 24);
}

#[test]
fn each_condition_holds_for_its_answers() {
    fn check(on: RetryOn, statuses: &[u16]) {
        let mut policy = fixed(on, 1);
        policy.statuses = vec![418, 200];
        for status in [100, 200, 404, 409, 418, 425, 429, 499, 500, 501, 502, 503, 504, 505, 599, 600] {
            let expected = if statuses.contains(&status) { AGAIN } else { Verdict::Done(Done::NotRetriable) };
            assert_eq!(Request::begin(&policy, GET).head(0, A, status), expected, "{on} {status}");
        }
    }
    check(RetryOn::NONE, &[]);
    check(RetryOn::SERVER_ERROR, &[500, 501, 502, 503, 504, 505, 599]);
    check(RetryOn::GATEWAY_ERROR, &[502, 503, 504]);
    check(RetryOn::RETRIABLE_4XX, &[409]);
    check(RetryOn::RETRIABLE_STATUS_CODES, &[200, 418]);
    check(RetryOn::ISTIO, &[200, 418]);
    check(RetryOn::CONNECT_FAILURE.and(RetryOn::RESET).and(RetryOn::REFUSED_STREAM), &[]);
    check(RetryOn::GRPC, &[]);
}

#[test]
fn each_condition_of_grpc_holds_for_its_status() {
    const TABLE: [(RetryOn, u8); 5] = [
        (RetryOn::CANCELLED, 1),
        (RetryOn::DEADLINE_EXCEEDED, 4),
        (RetryOn::RESOURCE_EXHAUSTED, 8),
        (RetryOn::INTERNAL, 13),
        (RetryOn::UNAVAILABLE, 14),
    ];
    for (on, own) in TABLE {
        for status in 0..=16 {
            let mut request = Request::begin(&fixed(on, 1), GET);
            let none = HeaderMap::new();
            let head = Head { status: 200, grpc_status: Some(status), headers: &none };
            let verdict =
                request.state.on_head(at(0), A, &request.policy, &head, || AROUND, &mut request.chance);
            let expected = if status == own { AGAIN } else { Verdict::Done(Done::NotRetriable) };
            assert_eq!(verdict, expected, "{on} {status}");
        }
    }
}

#[test]
fn each_condition_holds_for_its_failures() {
    use FailureKind::{Connect, Overflow, PerTryTimeout, RefusedStream, Reset};
    let all = [Connect, Reset, RefusedStream, Overflow, PerTryTimeout];
    let check = |on: RetryOn, started: &[FailureKind], fresh: &[FailureKind]| {
        for kind in all {
            assert_eq!(
                condition::holds_for_failure(on, kind, true),
                started.contains(&kind),
                "{on} {kind:?}"
            );
            assert_eq!(condition::holds_for_failure(on, kind, false), fresh.contains(&kind), "{on} {kind:?}");
        }
    };
    let any = [Connect, Reset, RefusedStream, PerTryTimeout];
    check(RetryOn::NONE, &[], &[]);
    check(RetryOn::SERVER_ERROR, &any, &any);
    check(RetryOn::GATEWAY_ERROR, &any, &any);
    check(RetryOn::RESET, &any, &any);
    check(RetryOn::RESET_BEFORE_REQUEST, &[], &any);
    check(RetryOn::CONNECT_FAILURE, &[Connect], &[Connect]);
    check(RetryOn::REFUSED_STREAM, &[RefusedStream], &[RefusedStream]);
    check(RetryOn::RETRIABLE_4XX.and(RetryOn::GRPC).and(RetryOn::HTTP3_POST_CONNECT_FAILURE), &[], &[]);
}

#[test]
fn an_answer_of_a_rate_limit_is_retried_only_where_that_is_said() {
    let limited = [("x-envoy-ratelimited", "true")];
    let mut plain = Request::begin(&fixed(RetryOn::SERVER_ERROR, 1), GET);
    assert_eq!(plain.head_with(0, A, 503, &limited), Verdict::Done(Done::NotRetriable));
    let mut limit = Request::begin(&fixed(RetryOn::ENVOY_RATELIMITED, 1), GET);
    assert_eq!(limit.head_with(0, A, 429, &limited), AGAIN);
    let mut limit = Request::begin(&fixed(RetryOn::ENVOY_RATELIMITED, 1), GET);
    assert_eq!(limit.head(0, A, 429), Verdict::Done(Done::NotRetriable));
}

#[test]
fn headers_of_responses_and_requests_are_asked() {
    let present = |name| HeaderMatch {
        name: HeaderName::from_static(name),
        test: HeaderTest::Present(true),
        invert: false,
        missing_as_empty: false,
    };
    let policy =
        RetryPolicy { response_headers: vec![present("x-again")], ..fixed(RetryOn::RETRIABLE_HEADERS, 1) };
    assert_eq!(Request::begin(&policy, GET).head_with(0, A, 200, &[("x-again", "")]), AGAIN);
    assert_eq!(Request::begin(&policy, GET).head(0, A, 500), Verdict::Done(Done::NotRetriable));
    let policy = RetryPolicy { request_headers: vec![present("x-mine")], ..fixed(RetryOn::SERVER_ERROR, 1) };
    let policy = compiled(&policy);
    for (list, expected) in [(&[("x-mine", "1")][..], AGAIN), (&[], Verdict::Done(Done::NotRetriable))] {
        let mut request = Request::with(policy.clone(), GET);
        request.state = Recovery::begin(&policy, GET, &headers(list), false);
        request.state.begin_attempt(A, E(0), 0);
        assert_eq!(request.head(0, A, 500), expected);
    }
}

#[test]
fn retries_end_where_the_policy_says() {
    let mut request = Request::begin(&fixed(RetryOn::SERVER_ERROR, 2), GET);
    assert_eq!(request.head(0, A, 500), AGAIN);
    assert!(request.state.is_retrying() && !request.state.is_under_way(A));
    assert_eq!(request.state.deadline(), Some((at(10), Wait::Backoff)));
    assert_eq!(request.tick(9), None);
    request.try_again(10, B);
    assert!(request.state.is_retrying(), "it is counted until its answer");
    assert_eq!(request.fail(20, B, FailureKind::Connect, Sent::No), AGAIN);
    request.try_again(30, C);
    assert_eq!(request.head(40, C, 500), Verdict::Done(Done::LimitReached));
    assert_eq!((request.state.end(), request.state.is_retrying()), (RetryEnd::LimitReached, false));
    assert_eq!((request.state.retries(), request.state.deadline()), (2, None));
    let mut fine = Request::begin(&fixed(RetryOn::SERVER_ERROR, 2), GET);
    assert_eq!(fine.head(0, A, 500), AGAIN);
    fine.try_again(10, B);
    assert_eq!(fine.head(20, B, 200), Verdict::Done(Done::NotRetriable));
    assert_eq!((fine.state.end(), fine.state.is_retrying()), (RetryEnd::Open, false));
}

#[test]
fn what_may_have_acted_is_repeated_only_where_it_is_harmless() {
    use FailureKind::{Connect, RefusedStream, Reset};
    let policy = fixed(RetryOn::SERVER_ERROR, 1);
    let unsafe_too = RetryPolicy { repeats: Repeats::Everything, ..policy.clone() };
    let check = |kind, sent, of_post| {
        let expected = if of_post { AGAIN } else { Verdict::Done(Done::Unsafe) };
        assert_eq!(Request::begin(&policy, POST).fail(0, A, kind, sent), expected, "{kind:?} {sent:?}");
        assert_eq!(Request::begin(&policy, GET).fail(0, A, kind, sent), AGAIN);
        assert_eq!(Request::begin(&unsafe_too, POST).fail(0, A, kind, sent), AGAIN);
    };
    check(Connect, Sent::No, true);
    check(Reset, Sent::No, true);
    check(Reset, Sent::Maybe, false);
    check(Reset, Sent::Yes, false);
    check(RefusedStream, Sent::Maybe, true);
    assert_eq!(Request::begin(&policy, POST).head(0, A, 503), Verdict::Done(Done::Unsafe));
    assert_eq!(Request::begin(&unsafe_too, POST).head(0, A, 503), AGAIN);
    let early = RetryPolicy { statuses: vec![425], ..fixed(RetryOn::RETRIABLE_STATUS_CODES, 1) };
    assert_eq!(Request::begin(&early, POST).head(0, A, 425), AGAIN, "it says that nothing was done");
}

#[test]
fn methods_and_a_key_say_what_is_idempotent() {
    let none = HeaderMap::new();
    for (method, expected) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::TRACE, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::POST, false),
        (Method::PATCH, false),
        (Method::CONNECT, false),
        (Method::from_bytes(b"PURGE").unwrap(), false),
    ] {
        assert_eq!(Facts::of(&method, &none, true).may_repeat, expected, "{method}");
        assert!(Facts::of(&method, &headers(&[("idempotency-key", "7")]), false).may_repeat);
    }
    let again = headers(&[("x-naru-attempt", "2")]);
    assert!(Facts::of(&Method::GET, &again, true).is_repeat);
    assert!(!Facts::of(&Method::GET, &again, false).is_repeat, "not everybody is believed");
}

#[test]
fn a_retry_that_cannot_be_says_why() {
    let policy = fixed(RetryOn::SERVER_ERROR, 1);
    let check = |change: &dyn Fn(&mut Circumstances), expected| {
        let mut request = Request::begin(&policy, GET);
        change(&mut request.around);
        assert_eq!(request.head(0, A, 500), Verdict::Done(expected));
        let has_overflowed = request.state.end() == RetryEnd::Overflow;
        assert_eq!(has_overflowed, expected == Done::BudgetExhausted);
        let mut request = Request::begin(&policy, GET);
        change(&mut request.around);
        assert_eq!(request.fail(0, A, FailureKind::Connect, Sent::No), Verdict::Done(expected));
    };
    check(&|around| around.is_replayable = false, Done::NotReplayable);
    check(&|around| around.is_breaker_open = true, Done::BreakerOpen);
    check(&|around| around.load.retries = 3, Done::BudgetExhausted);
    check(&|around| around.deadline = Some(at(10)), Done::DeadlineWouldPass);
    let budget = RetryLimit::Budget(RetryBudget::default());
    let load = RetryLoad { active: 19, pending: 0, retries: 3, recent: 0 };
    check(&|around| (around.limit, around.load) = (budget, load), Done::BudgetExhausted);
    let mut request = Request::begin(&policy, GET);
    request.around.deadline = Some(Instant(at(10).0 + 1));
    assert_eq!(request.head(0, A, 500), AGAIN, "there is a moment left");
}

#[test]
fn a_retry_that_is_over_does_not_stand_in_the_way_of_the_next() {
    let policy = fixed(RetryOn::SERVER_ERROR, 2);
    let mut request = Request::begin(&policy, GET);
    request.around.limit = RetryLimit::Concurrent(1);
    assert_eq!(request.head(0, A, 500), AGAIN);
    request.try_again(10, B);
    // It is counted at the cluster itself.
    request.around.load.retries = 1;
    assert_eq!(request.head(20, B, 500), AGAIN);
    request.try_again(30, C);
    request.around.load.retries = 2;
    let verdict = request.head(40, C, 500);
    assert_eq!(verdict, Verdict::Done(Done::LimitReached));
}

#[test]
fn a_stream_that_was_left_out_is_sent_again_on_another_connection() {
    let check = |kind, sent, is_reused, expected| {
        let mut request = Request::begin(&fixed(RetryOn::RESET.and(RetryOn::REFUSED_STREAM), 1), POST);
        assert_eq!(request.break_off(0, A, Failure { kind, sent, is_reused }), expected);
    };
    check(FailureKind::RefusedStream, Sent::No, true, Verdict::Replay);
    check(FailureKind::RefusedStream, Sent::No, false, AGAIN);
    check(FailureKind::RefusedStream, Sent::Maybe, true, AGAIN);
    check(FailureKind::Reset, Sent::Maybe, true, Verdict::Done(Done::Unsafe));
}

#[test]
fn only_the_nearest_layer_retries() {
    let policy = fixed(RetryOn::SERVER_ERROR.and(RetryOn::RETRIABLE_STATUS_CODES), 3);
    let exhausted = [("x-naru-retries", "exhausted")];
    let mut far = Request::begin(&policy, GET);
    assert_eq!(far.head_with(0, A, 503, &exhausted), Verdict::Done(Done::DeeperLayerRetried));
    let mut fine = Request::begin(&policy, GET);
    assert_eq!(fine.head_with(0, A, 200, &exhausted), Verdict::Done(Done::NotRetriable));
    let repeated = Facts { is_repeat: true, ..GET };
    assert_eq!(Request::begin(&policy, repeated).head(0, A, 503), Verdict::Done(Done::CallerRetries));
    let mut near = Request::begin(&policy, repeated);
    assert_eq!(near.fail(0, A, FailureKind::Reset, Sent::Maybe), Verdict::Done(Done::CallerRetries));
    let mut near = Request::begin(&policy, repeated);
    assert_eq!(near.fail(0, A, FailureKind::Connect, Sent::No), AGAIN, "no upstream has seen it");
    assert!(Done::LimitReached.is_told() && Done::BudgetExhausted.is_told() && !Done::Unsafe.is_told());
}

#[test]
fn a_connection_that_was_closed_while_it_waited_costs_no_retry() {
    let stale = |sent| Failure { kind: FailureKind::Reset, sent, is_reused: true };
    for policy in [fixed(RetryOn::NONE, 0), fixed(RetryOn::SERVER_ERROR, 1)] {
        let mut request = Request::begin(&policy, GET);
        assert_eq!(request.break_off(0, A, stale(Sent::Maybe)), Verdict::Replay);
        assert!(request.state.begin_attempt(B, E(0), 0));
        assert_eq!((request.state.retries(), request.state.is_retrying()), (0, false));
        assert_eq!(Request::begin(&policy, POST).break_off(0, A, stale(Sent::No)), Verdict::Replay);
        assert_ne!(Request::begin(&policy, POST).break_off(0, A, stale(Sent::Maybe)), Verdict::Replay);
        assert_ne!(Request::begin(&policy, GET).break_off(0, A, stale(Sent::Yes)), Verdict::Replay);
        let mut large = Request::begin(&policy, GET);
        large.around.is_replayable = false;
        assert_ne!(large.break_off(0, A, stale(Sent::Maybe)), Verdict::Replay);
        let connect = Failure { kind: FailureKind::Connect, ..stale(Sent::No) };
        assert_ne!(Request::begin(&policy, GET).break_off(0, A, connect), Verdict::Replay);
    }
    // What a policy allows is for failures that say something.
    let all = RetryPolicy { repeats: Repeats::Everything, ..fixed(RetryOn::RESET, 1) };
    assert_eq!(Request::begin(&all, POST).break_off(0, A, stale(Sent::Maybe)), AGAIN);
}

#[test]
fn reset_before_request_looks_at_all_attempts() {
    let policy = fixed(RetryOn::RESET_BEFORE_REQUEST.and(RetryOn::RETRIABLE_4XX), 5);
    let only = fixed(RetryOn::RESET_BEFORE_REQUEST, 5);
    let mut request = Request::begin(&only, POST);
    assert_eq!(request.fail(0, A, FailureKind::Reset, Sent::No), AGAIN);
    request.try_again(10, B);
    assert_eq!(request.fail(20, B, FailureKind::Reset, Sent::Maybe), Verdict::Done(Done::NotRetriable));
    let mut request = Request::begin(&policy, GET);
    assert_eq!(request.head(0, A, 409), AGAIN);
    request.try_again(10, B);
    assert_eq!(request.fail(20, B, FailureKind::Reset, Sent::No), Verdict::Done(Done::NotRetriable));
}

#[test]
fn a_response_that_says_how_long_to_wait_is_obeyed() {
    let header = |name, format| ResetHeader { name: HeaderName::from_static(name), format };
    let policy = RetryPolicy {
        rate_limited: Some(RateLimitedBackoff {
            headers: vec![header("retry-after", ResetFormat::Seconds)],
            max: Duration::from_secs(300),
        }),
        ..fixed(RetryOn::SERVER_ERROR, 3)
    };
    let mut request = Request::begin(&policy, GET);
    let Verdict::RetryAfter(wait) = request.head_with(0, A, 503, &[("retry-after", "2")]) else { panic!() };
    assert!((MS(2_000)..MS(3_000)).contains(&wait), "{wait:?}");
    assert_eq!(Request::begin(&policy, GET).head_with(0, A, 503, &[("retry-after", "301")]), AGAIN);
    let mut late = Request::begin(&policy, GET);
    late.around.deadline = Some(at(1_000));
    let verdict = late.head_with(0, A, 503, &[("retry-after", "2")]);
    assert_eq!(verdict, Verdict::Done(Done::DeadlineWouldPass), "an answer now beats a timeout later");
}

#[test]
fn a_try_that_takes_too_long_is_like_a_reset() {
    for (on, expected) in [
        (RetryOn::SERVER_ERROR, AGAIN),
        (RetryOn::GATEWAY_ERROR, AGAIN),
        (RetryOn::RESET, AGAIN),
        (RetryOn::CONNECT_FAILURE, Verdict::Done(Done::NotRetriable)),
        (RetryOn::RESET_BEFORE_REQUEST, Verdict::Done(Done::NotRetriable)),
    ] {
        let mut request = Request::begin(&fixed(on, 1), GET);
        assert_eq!(request.state.deadline(), None, "its clock has not begun");
        request.state.start_clock(at(5), Some(MS(20)));
        assert_eq!(request.state.deadline(), Some((at(25), Wait::PerTry)));
        assert_eq!(request.tick(24), None);
        assert_eq!(request.tick(25), Some(Step::TimedOut { attempt: A, verdict: expected }), "{on}");
    }
    let mut post = Request::begin(&fixed(RetryOn::SERVER_ERROR, 1), POST);
    post.state.start_clock(at(0), Some(MS(20)));
    assert_eq!(post.tick(20), Some(Step::TimedOut { attempt: A, verdict: Verdict::Done(Done::Unsafe) }));
}

#[test]
fn a_timeout_of_a_try_is_none_where_the_request_ends_before() {
    let policy = RetryPolicy { per_try_timeout: Some(MS(20)), ..fixed(RetryOn::RESET, 1) };
    let request = Request::begin(&policy, GET);
    let per_try = |total: Option<u64>| request.state.per_try_timeout(&request.policy, total.map(MS));
    assert_eq!((per_try(None), per_try(Some(21))), (Some(MS(20)), Some(MS(20))));
    assert_eq!((per_try(Some(20)), per_try(Some(1))), (None, None));
}

fn hedge() -> Hedge {
    Hedge { on_per_try_timeout: true, ..Hedge::default() }
}

#[test]
fn a_hedge_leaves_the_first_attempt_and_the_first_good_answer_wins() {
    let policy = fixed(RetryOn::SERVER_ERROR, 2);
    let timed_out = |request: &mut Request| {
        request.state.start_clock(at(0), Some(MS(20)));
        assert_eq!(request.tick(20), Some(Step::TimedOut { attempt: A, verdict: AGAIN }));
        assert!(request.state.is_under_way(A));
    };
    let mut first = Request::hedged(&policy, hedge());
    timed_out(&mut first);
    assert_eq!(first.head(25, A, 200), Verdict::Done(Done::NotRetriable), "before the second began");
    assert_eq!(first.state.deadline(), None);

    let mut second = Request::hedged(&policy, hedge());
    timed_out(&mut second);
    second.try_again(30, B);
    assert_eq!(second.head(40, B, 200), Verdict::Done(Done::NotRetriable));
    assert_eq!(second.state.under_way().collect::<Vec<_>>(), [A, B], "who drives gives the others up");

    let mut bad = Request::hedged(&policy, hedge());
    timed_out(&mut bad);
    bad.try_again(30, B);
    bad.state.start_clock(at(30), Some(MS(20)));
    assert_eq!(bad.head(40, A, 503), Verdict::Await, "the other goes on");
    assert!(!bad.state.is_under_way(A) && bad.state.is_under_way(B));
    assert_eq!(bad.head(45, B, 503), AGAIN, "one more is allowed");
    bad.try_again(55, C);
    assert_eq!(bad.head(60, C, 503), Verdict::Done(Done::LimitReached));

    let mut pending = Request::hedged(&policy, hedge());
    timed_out(&mut pending);
    assert_eq!(pending.fail(25, A, FailureKind::Reset, Sent::Maybe), Verdict::Await, "one is on its way");
    pending.try_again(30, B);
    assert_eq!(pending.state.retries(), 1);
}

#[test]
fn a_hedge_needs_no_condition_but_a_request_that_may_be_sent_twice() {
    let policy = fixed(RetryOn::CONNECT_FAILURE, 1);
    let mut request = Request::hedged(&policy, hedge());
    request.state.start_clock(at(0), Some(MS(20)));
    assert_eq!(request.tick(20), Some(Step::TimedOut { attempt: A, verdict: AGAIN }));
    let of_policy = CompiledRetry::compile(&policy, Some(hedge())).unwrap();
    let mut post = Request::with(of_policy, POST);
    post.state.start_clock(at(0), Some(MS(20)));
    assert_eq!(post.tick(20), Some(Step::TimedOut { attempt: A, verdict: Verdict::Await }));
    assert!(post.state.is_under_way(A), "it is waited for on");
    assert_eq!(post.state.deadline(), None);
    let mut spent = Request::hedged(&fixed(RetryOn::RESET, 0), hedge());
    spent.state.start_clock(at(0), Some(MS(20)));
    assert_eq!(spent.tick(20), Some(Step::TimedOut { attempt: A, verdict: Verdict::Await }));
    assert_eq!(spent.state.end(), RetryEnd::LimitReached);
    assert_eq!(spent.head(90, A, 200), Verdict::Done(Done::NotRetriable));
}

#[test]
fn a_hedge_that_fails_leaves_the_slow_one_to_answer() {
    let mut request = Request::hedged(&fixed(RetryOn::SERVER_ERROR, 1), hedge());
    request.state.start_clock(at(0), Some(MS(20)));
    request.tick(20);
    request.try_again(30, B);
    request.state.start_clock(at(30), Some(MS(20)));
    assert_eq!(request.head(35, B, 500), Verdict::Await, "no retry is left, but A may still answer");
    assert_eq!(request.state.deadline(), None);
    assert_eq!(request.head(99, A, 500), Verdict::Done(Done::AlreadyHedged));
}

#[test]
fn requests_may_begin_with_several_attempts() {
    let several = Hedge { initial: 2, ..Hedge::default() };
    let policy = fixed(RetryOn::SERVER_ERROR, 1);
    let mut request = Request::hedged(&policy, several);
    assert_eq!(request.state.initial_attempts(&request.policy, &mut request.chance), 2);
    assert!(request.state.begin_attempt(B, E(1), 0));
    assert_eq!(request.head(5, A, 500), Verdict::Await);
    assert_eq!(request.head(6, B, 500), AGAIN);
    request.try_again(16, C);
    assert_eq!(request.head(17, C, 500), Verdict::Done(Done::LimitReached));
    let post = Request::with(CompiledRetry::compile(&policy, Some(several)).unwrap(), POST);
    assert_eq!(post.state.initial_attempts(&post.policy, &mut Chance::new(1)), 1);
    let half = Hedge { additional: Fraction::new(50, Denominator::Hundred), ..Hedge::default() };
    let mut request = Request::hedged(&policy, half);
    let sum: u32 =
        (0..1_000).map(|_| request.state.initial_attempts(&request.policy, &mut request.chance)).sum();
    assert!((1_450..1_550).contains(&sum), "{sum}");
    let most = Hedge { initial: 4, additional: Fraction::ALL, ..Hedge::default() };
    let mut request = Request::hedged(&policy, most);
    assert_eq!(request.state.initial_attempts(&request.policy, &mut request.chance), 4);
}

#[test]
fn one_hedge_is_on_its_way_at_a_time() {
    let both = Hedge { initial: 2, ..hedge() };
    let mut request = Request::hedged(&fixed(RetryOn::SERVER_ERROR, 3), both);
    assert!(request.state.begin_attempt(B, E(1), 0));
    request.state.start_clock(at(0), Some(MS(20)));
    assert_eq!(request.tick(20), Some(Step::TimedOut { attempt: B, verdict: AGAIN }), "the newest");
    let (policy, around) = (&request.policy, request.around);
    let idle = request.state.on_per_try_timeout(at(25), A, policy, &around, &mut request.chance);
    assert_eq!(idle, Verdict::Await);
    assert_eq!(request.state.deadline(), Some((at(30), Wait::Backoff)), "not put off");
    assert_eq!(request.state.retries_left(), 2);
}

#[test]
fn what_a_trusted_caller_asks_for_is_merged_as_envoy_merges_it() {
    let policy = compiled(&fixed(RetryOn::CONNECT_FAILURE, 1));
    let begin = |policy: &CompiledRetry, list: &[(&'static str, &'static str)]| {
        let mut request = Request::with(policy.clone(), GET);
        request.state = Recovery::begin(policy, GET, &headers(list), true);
        request.state.begin_attempt(A, E(0), 0);
        request
    };
    let mut more = begin(&policy, &[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "3")]);
    assert_eq!(more.head(0, A, 500), AGAIN);
    assert_eq!(more.state.retries_left(), 2);
    assert_eq!(
        begin(&policy, &[("x-envoy-retry-on", "5xx")]).fail(0, A, FailureKind::Connect, Sent::No),
        AGAIN
    );
    let none = CompiledRetry::default();
    let statuses =
        [("x-envoy-retry-on", "retriable-status-codes"), ("x-envoy-retriable-status-codes", "418")];
    assert!(matches!(begin(&none, &statuses).head(0, A, 418), Verdict::RetryAfter(_)));
    let names = [("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "x-again")];
    assert!(matches!(begin(&none, &names).head_with(0, A, 200, &[("x-again", "")]), Verdict::RetryAfter(_)));
    let only_number = begin(&none, &[("x-envoy-max-retries", "9")]);
    assert_eq!(only_number.state.retries_left(), 1, "without a condition the number is nothing");
    let waits = begin(&none, &[("x-envoy-upstream-rq-per-try-timeout-ms", "7")]);
    assert_eq!(waits.state.per_try_timeout(&none, None), Some(MS(7)));
    assert!(begin(&none, &[("x-envoy-hedge-on-per-try-timeout", "true")]).state.hedges());
    let hedged = CompiledRetry::compile(&fixed(RetryOn::RESET, 1), Some(hedge())).unwrap();
    assert!(!begin(&hedged, &[("x-envoy-hedge-on-per-try-timeout", "false")]).state.hedges());
    let untrusted = Recovery::begin(&none, GET, &headers(&[("x-envoy-retry-on", "5xx")]), false);
    assert!(untrusted.on().is_empty());
}

#[test]
fn endpoints_that_were_tried_are_avoided_a_few_times() {
    let mut policy = fixed(RetryOn::SERVER_ERROR, 3);
    (policy.avoids_tried, policy.picks_max) = (true, 5);
    let request = Request::begin(&policy, GET);
    let choose = |request: &Request, list: &[u32]| {
        let mut list = list.iter();
        let mut picks = 0;
        let chosen = request.state.choose(&request.policy, || {
            picks += 1;
            list.next().map(|id| E(*id))
        });
        (chosen.map(|endpoint| endpoint.0), picks)
    };
    assert_eq!(choose(&request, &[0, 0, 2, 0]), (Some(2), 3));
    assert_eq!(choose(&request, &[0; 9]), (Some(0), 6), "better a tried one than none");
    assert_eq!(choose(&request, &[]), (None, 1));
    let plain = Request::begin(&fixed(RetryOn::SERVER_ERROR, 3), GET);
    assert_eq!(choose(&plain, &[0, 1]), (Some(0), 1));
}

#[test]
fn news_of_an_attempt_that_was_given_up_is_no_news() {
    let mut request = Request::begin(&fixed(RetryOn::SERVER_ERROR, 1), GET);
    assert_eq!(request.head(0, A, 500), AGAIN);
    for status in [200, 500] {
        assert_eq!(request.head(1, A, status), Verdict::Await);
    }
    assert_eq!(request.fail(1, A, FailureKind::Connect, Sent::No), Verdict::Await);
    assert_eq!(request.state.deadline(), Some((at(10), Wait::Backoff)), "and changes nothing");
}

#[test]
fn policies_that_cannot_be_are_refused() {
    let policy = RetryPolicy { retries_max: 65, statuses: vec![99], ..fixed(RetryOn::RESET, 1) };
    assert_eq!(CompiledRetry::compile(&policy, Some(Hedge { initial: 0, ..hedge() })).unwrap_err().len(), 4);
}

/// Requests that go every way there is, against what a plain reading of the rules allows.
#[test]
fn walks_keep_to_the_rules() {
    for seed in 0..256 {
        let mut chance = Chance::new(seed);
        for _ in 0..20 {
            walk(&mut chance).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        }
    }
}

fn walk(chance: &mut Chance) -> Result<(), String> {
    let on = RetryOn::WORDS.iter().filter(|_| chance.below(2) == 0);
    let on = on.fold(RetryOn::NONE, |on, (_, more)| on.and(*more));
    let retries_max = chance.below(5) as u32;
    let repeats = if chance.below(4) == 0 { Repeats::Everything } else { Repeats::Idempotent };
    let policy = RetryPolicy { repeats, avoids_tried: true, picks_max: 5, ..fixed(on, retries_max) };
    let spec = Hedge {
        initial: 1 + chance.below(4) as u32,
        on_per_try_timeout: chance.below(2) == 0,
        ..Hedge::default()
    };
    let policy = CompiledRetry::compile(&policy, Some(spec)).unwrap();
    let facts = Facts { may_repeat: chance.below(2) == 0, is_repeat: chance.below(8) == 0 };
    let may_repeat = facts.may_repeat || repeats == Repeats::Everything;
    let mut state = Recovery::begin(&policy, facts, &HeaderMap::new(), false);
    let deadline = (chance.below(2) == 0).then(|| at(chance.below(200)));
    let mut now = at(0);
    let mut next = 0_u16;
    let mut may_have_acted = false;
    let mut begin = |state: &mut Recovery, chance: &mut Chance| {
        let began = state.begin_attempt(AttemptId(next), E(chance.below(5) as u32), 0);
        next += 1;
        began
    };
    let initial = state.initial_attempts(&policy, chance);
    for _ in 0..initial {
        assert!(begin(&mut state, chance));
    }
    if initial > 1 && !may_repeat {
        return Err("sent twice at once what may not be".into());
    }
    let mut replays = 0;
    let mut connected = Vec::new();
    let statuses = [200, 404, 409, 425, 500, 503];
    let kinds = [FailureKind::Connect, FailureKind::Reset, FailureKind::RefusedStream, FailureKind::Overflow];
    for _ in 0..1_000 {
        now = now + MS(chance.below(8));
        let mut around = AROUND;
        around.deadline = deadline;
        around.is_replayable = chance.below(10) > 0;
        around.is_breaker_open = chance.below(20) == 0;
        // Its own is among those of the cluster.
        let others = chance.below(4) as u32;
        around.load.retries = others + u32::from(state.is_retrying());
        let flying: Vec<AttemptId> = state.under_way().collect();
        let was_waiting = state.deadline().is_some_and(|(_, wait)| wait == Wait::Backoff);
        if flying.is_empty() && !was_waiting {
            return Err("neither done nor doing anything".into());
        }
        let some = flying.get(chance.below(flying.len() as u64) as usize).copied();
        let mut news = None;
        let mut has_timed_out = false;
        match (chance.below(5), some) {
            (0, Some(id)) => {
                let (status, none) = (statuses[chance.below(6) as usize], HeaderMap::new());
                let head = Head { status, grpc_status: None, headers: &none };
                may_have_acted = status != 425;
                news = Some((id, state.on_head(now, id, &policy, &head, || around, chance)));
            }
            (1, Some(id)) => {
                let (mut kind, mut sent) = (kinds[chance.below(4) as usize], Sent::No);
                if connected.contains(&id) {
                    kind = [FailureKind::Reset, FailureKind::RefusedStream][chance.below(2) as usize];
                    sent = Sent::Maybe;
                } else if kind != FailureKind::Connect && chance.below(2) == 0 {
                    sent = Sent::Maybe;
                }
                may_have_acted = sent == Sent::Maybe && kind != FailureKind::RefusedStream;
                let failure = Failure { kind, sent, is_reused: replays < 3 && chance.below(4) == 0 };
                news = Some((id, state.on_failure(now, id, &policy, failure, &around, chance)));
            }
            (2, Some(_)) => {
                connected.extend(&flying);
                state.start_clock(now, Some(MS(1 + chance.below(20))));
            }
            _ => {
                has_timed_out = state.deadline().is_some_and(|(at, wait)| at <= now && wait == Wait::PerTry);
                may_have_acted |= has_timed_out;
                match state.tick(now, &policy, &around, chance) {
                    Some(Step::Try) if !begin(&mut state, chance) => {
                        return Err("a retry without a place".into());
                    }
                    Some(Step::TimedOut { attempt, verdict }) => news = Some((attempt, verdict)),
                    Some(Step::Try) | None => {}
                }
            }
        }
        state.check_invariants()?;
        if state.retries() > retries_max {
            return Err(format!("{} retries of {retries_max}", state.retries()));
        }
        let Some((id, verdict)) = news else { continue };
        match verdict {
            Verdict::Done(_) => {
                return if state.deadline().is_some() { Err("done, and waits".into()) } else { Ok(()) };
            }
            Verdict::RetryAfter(wait) => {
                if was_waiting {
                    return Err("two retries at once".into());
                }
                if deadline.is_some_and(|deadline| now + wait >= deadline) {
                    return Err("a retry after the end".into());
                }
                // One that may not be sent twice is under way once, and its last word on it counts.
                if may_have_acted && !may_repeat && initial == 1 {
                    return Err("repeats what may have acted".into());
                }
                if around.is_breaker_open || !around.is_replayable || others >= 3 {
                    return Err("a retry that the circumstances forbid".into());
                }
                if state.is_under_way(id) && !(spec.on_per_try_timeout && has_timed_out) {
                    return Err("goes on though it has failed".into());
                }
            }
            Verdict::Replay => {
                replays += 1;
                if !begin(&mut state, chance) {
                    return Err("a replay without a place".into());
                }
            }
            Verdict::Await => {
                let waits = state.deadline().is_some_and(|(_, wait)| wait == Wait::Backoff);
                if !waits && state.under_way().next().is_none() {
                    return Err("waits for nobody".into());
                }
            }
        }
    }
    Ok(())
}
