//! The machine, event by event, and a seeded walk over all orders of events.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "whoever runs a walk may name its seed")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method};
use naru_base::{AttemptId, Chance, ClusterId, EndpointId, Instant, Reason, RetryEnd, Weight};
use naru_journey::{
    Action, AttemptEvent, Cause, ChainId, EndpointFacts, Failure, Journey, Milestone, RequestFacts, Sent,
    Snapshot, Stage, View, Wait, Worker,
};
use naru_recover::Facts;
use naru_route::Subject;
use naru_spec::{Forward, Http, RetryPolicy, Scheme};

struct Idle;

impl View for Idle {
    fn active(&self, _cluster: ClusterId, _endpoint: EndpointId) -> u32 {
        0
    }
}

fn snapshot(change: impl FnOnce(&mut Http, &mut Forward)) -> Snapshot {
    common::snapshot(|http, forward, _| change(http, forward))
}

fn worker(snapshot: &Snapshot, endpoints: usize) -> Worker {
    let mut worker = Worker::new(snapshot, 1);
    worker.set_endpoints(snapshot, ClusterId(0), &vec![EndpointFacts::of_weight(Weight(1)); endpoints]);
    worker
}

fn begin(
    snapshot: &Snapshot,
    worker: &mut Worker,
    now: Instant,
    method: &Method,
    has_ended: bool,
) -> Journey {
    let headers = HeaderMap::new();
    let subject = Subject {
        method,
        authority: "a",
        path: "/",
        query: None,
        scheme: Scheme::Http,
        headers: &headers,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_internal: false,
        draw: worker.draw_request(),
        claims: None,
    };
    let facts = RequestFacts {
        repeats: Facts::of(method, &HeaderMap::new(), false),
        has_ended,
        ..RequestFacts::NONE
    };
    Journey::begin(now, snapshot, ChainId(0), &subject, facts, worker, &Idle, &mut ())
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn failure(sent: Sent, is_reused: bool) -> AttemptEvent<'static> {
    AttemptEvent::Failed(Failure {
        stage: Stage::Exchange,
        reason: Reason::UpstreamClosed,
        sent,
        is_reused,
        is_replayable: true,
    })
}

const FIRST: AttemptId = AttemptId(0);

fn tell(
    snapshot: &Snapshot,
    journey: &mut Journey,
    worker: &mut Worker,
    now: Instant,
    id: AttemptId,
    event: AttemptEvent,
) {
    journey.on_attempt(now, snapshot, id, event, worker, &Idle);
    pass_wait(snapshot, journey, worker);
}

/// The wait before the next attempt, where there is one, is over at once.
fn pass_wait(snapshot: &Snapshot, journey: &mut Journey, worker: &mut Worker) {
    if let (None, Some((due, Wait::Backoff))) = (journey.peek_action(), journey.deadline()) {
        journey.tick(due);
        assert_eq!(journey.next_action(), Some(Action::Due));
        journey.on_due(due, snapshot, true, worker, &Idle, &mut ());
    }
}

#[test]
fn a_request_goes_out_and_its_response_comes_back() {
    let snapshot = snapshot(|_, _| {});
    let mut worker = worker(&snapshot, 1);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    let Some(Action::Send { attempt: FIRST, cause: Cause::First, .. }) = journey.next_action() else {
        panic!()
    };
    assert_eq!(journey.next_action(), None);
    assert_eq!(journey.deadline(), Some((at(15_000), Wait::Response)));
    tell(
        &snapshot,
        &mut journey,
        &mut worker,
        at(10),
        FIRST,
        AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
    );
    assert_eq!(journey.next_action(), Some(Action::Forward { attempt: FIRST }));
    journey.on_response_body(at(20), Milestone::Trailers { grpc_status: Some(5) });
    let outcome = journey.outcome().unwrap();
    assert_eq!((outcome.reason, outcome.status, outcome.grpc_status), (Reason::Forwarded, 200, Some(5)));
    assert_eq!((outcome.head, outcome.ended, outcome.attempts), (Some(at(10)), at(20), 1));
    assert_eq!(journey.deadline(), None);
}

#[test]
fn without_an_endpoint_the_answer_is_no_healthy_upstream() {
    let snapshot = snapshot(|_, _| {});
    let mut worker = worker(&snapshot, 0);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    assert_eq!(journey.next_action(), Some(Action::Reply(Reason::NoHealthyUpstream)));
}

#[test]
fn a_request_is_repeated_only_where_that_is_safe() {
    fn check(method: &Method, sent: Sent, is_reused: bool, is_repeated: bool) {
        let snapshot = snapshot(|_, _| {});
        let mut worker = worker(&snapshot, 1);
        let mut journey = begin(&snapshot, &mut worker, at(0), method, true);
        journey.next_action();
        tell(&snapshot, &mut journey, &mut worker, at(1), FIRST, failure(sent, is_reused));
        match journey.next_action() {
            Some(Action::Send { attempt: AttemptId(1), cause: Cause::Replay, .. }) => {
                assert!(is_repeated, "{sent:?}")
            }
            Some(Action::Reply(Reason::UpstreamClosed)) => assert!(!is_repeated, "{sent:?}"),
            other => panic!("{other:?}"),
        }
        journey.check_invariants().unwrap();
    }
    check(&Method::GET, Sent::No, true, true);
    check(&Method::GET, Sent::Maybe, true, true);
    check(&Method::GET, Sent::Yes, true, false);
    check(&Method::GET, Sent::Maybe, false, false);
    check(&Method::POST, Sent::No, true, true);
    check(&Method::POST, Sent::Maybe, true, false);
    check(&Method::PUT, Sent::Maybe, true, true);
}

/// No connection could be made.
fn unconnected(reason: Reason) -> AttemptEvent<'static> {
    let stage = if reason == Reason::UpstreamTls { Stage::Secure } else { Stage::Connect };
    AttemptEvent::Failed(Failure { stage, reason, sent: Sent::No, is_reused: false, is_replayable: true })
}

fn sent(journey: &mut Journey) -> (AttemptId, EndpointId, Cause) {
    match journey.next_action() {
        Some(Action::Send { attempt, endpoint, cause, .. }) => (attempt, endpoint, cause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_endpoint_is_tried_where_no_connection_can_be_made() {
    for method in [Method::GET, Method::POST] {
        for reason in [Reason::ConnectFailure, Reason::ConnectTimeout, Reason::UpstreamTls] {
            let snapshot = snapshot(|_, forward| forward.retry = Some(RetryPolicy::connects(2)));
            let mut worker = worker(&snapshot, 3);
            let mut journey = begin(&snapshot, &mut worker, at(0), &method, false);
            let mut tried = Vec::new();
            for id in 0..3 {
                let (attempt, endpoint, cause) = sent(&mut journey);
                let expected = if id == 0 { Cause::First } else { Cause::Retry };
                assert_eq!((attempt, cause), (AttemptId(id), expected));
                tried.push(endpoint.0);
                tell(&snapshot, &mut journey, &mut worker, at(1), attempt, unconnected(reason));
            }
            tried.sort();
            assert_eq!(tried, [0, 1, 2], "each of them once");
            assert_eq!(journey.next_action(), Some(Action::Reply(reason)));
            journey.on_reply(at(1), 503, None);
            journey.on_response_body(at(1), Milestone::End);
            let outcome = journey.outcome().unwrap();
            assert_eq!((outcome.reason, outcome.attempts), (reason, 3));
            assert_eq!((outcome.flags(), journey.retries() > 0), ("URX,UF", true));
        }
    }
}

#[test]
fn a_retry_goes_to_an_endpoint_that_was_tried_where_there_is_no_other() {
    let snapshot = snapshot(|_, forward| forward.retry = Some(RetryPolicy::connects(1)));
    let mut worker = worker(&snapshot, 1);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    sent(&mut journey);
    tell(&snapshot, &mut journey, &mut worker, at(1), FIRST, unconnected(Reason::ConnectFailure));
    assert_eq!(sent(&mut journey), (AttemptId(1), EndpointId(0), Cause::Retry));
    tell(
        &snapshot,
        &mut journey,
        &mut worker,
        at(2),
        AttemptId(1),
        AttemptEvent::Head { status: 204, has_ended: true, headers: None, is_replayable: true },
    );
    assert_eq!(journey.next_action(), Some(Action::Forward { attempt: AttemptId(1) }));
    assert_eq!(journey.outcome().unwrap().flags(), "-");
}

#[test]
fn a_retry_picks_again_where_the_picked_endpoint_was_tried() {
    // With weights, the heavy one comes up again and again.
    let snapshot = snapshot(|_, forward| forward.retry = Some(RetryPolicy::connects(1)));
    let mut worker = Worker::new(&snapshot, 1);
    worker.set_endpoints(
        &snapshot,
        ClusterId(0),
        &[1, 4].map(|weight| EndpointFacts::of_weight(Weight(weight))),
    );
    for _ in 0..20 {
        let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
        let (_, first, _) = sent(&mut journey);
        tell(&snapshot, &mut journey, &mut worker, at(1), FIRST, unconnected(Reason::ConnectFailure));
        let (_, second, _) = sent(&mut journey);
        assert_ne!(first, second);
    }
}

#[test]
fn a_request_is_not_retried_where_that_is_not_wanted_or_not_safe_or_too_late() {
    let snapshot = snapshot(|_, forward| {
        forward.retry = Some(RetryPolicy::connects(2));
        forward.timeout = Some(Duration::from_millis(10));
    });
    let mut worker = worker(&snapshot, 2);
    let mut check = |now: Instant, event: AttemptEvent| {
        let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
        sent(&mut journey);
        tell(&snapshot, &mut journey, &mut worker, now, FIRST, event);
        let action = journey.next_action();
        assert!(matches!(action, Some(Action::Reply(_))), "{action:?}");
        assert_eq!(journey.so_far(now).retry_end, RetryEnd::Open);
    };
    check(at(1), failure(Sent::No, false));
    check(at(10), unconnected(Reason::ConnectFailure));
    let AttemptEvent::Failed(unreplayable) = unconnected(Reason::ConnectFailure) else { panic!() };
    check(at(1), AttemptEvent::Failed(Failure { is_replayable: false, ..unreplayable }));
}

#[test]
fn a_replay_that_finds_no_connection_is_retried_elsewhere() {
    let snapshot = snapshot(|_, forward| forward.retry = Some(RetryPolicy::connects(1)));
    let mut worker = worker(&snapshot, 2);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    let (_, first, _) = sent(&mut journey);
    tell(&snapshot, &mut journey, &mut worker, at(1), FIRST, failure(Sent::No, true));
    assert_eq!(sent(&mut journey), (AttemptId(1), first, Cause::Replay));
    tell(&snapshot, &mut journey, &mut worker, at(2), AttemptId(1), unconnected(Reason::ConnectFailure));
    let (attempt, second, cause) = sent(&mut journey);
    assert_eq!((attempt, cause), (AttemptId(2), Cause::Retry));
    assert_ne!(first, second);
}

#[test]
fn the_route_timeout_runs_from_the_end_of_the_request() {
    let snapshot = snapshot(|http, forward| {
        forward.timeout = Some(Duration::from_secs(1));
        http.stream_idle_timeout = None;
    });
    let mut worker = worker(&snapshot, 1);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::POST, false);
    journey.next_action();
    assert_eq!(journey.deadline(), None);
    journey.on_request_body(at(5_000), Milestone::End);
    assert_eq!(journey.deadline(), Some((at(6_000), Wait::Response)));
    journey.tick(at(5_999));
    assert_eq!(journey.next_action(), None);
    journey.tick(at(6_000));
    assert_eq!(journey.next_action(), Some(Action::Cancel { attempt: FIRST }));
    assert_eq!(journey.next_action(), Some(Action::Reply(Reason::RouteTimeout)));
}

#[test]
fn a_timeout_after_the_head_breaks_the_response_off() {
    let snapshot = snapshot(|_, _| {});
    let mut worker = worker(&snapshot, 1);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    journey.next_action();
    tell(
        &snapshot,
        &mut journey,
        &mut worker,
        at(10),
        FIRST,
        AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
    );
    journey.next_action();
    journey.tick(at(15_000));
    assert_eq!(journey.next_action(), Some(Action::Cancel { attempt: FIRST }));
    assert_eq!(journey.next_action(), Some(Action::Break(Reason::RouteTimeout)));
    assert_eq!(journey.outcome().unwrap().status, 200);
}

#[test]
fn progress_puts_the_idle_timeout_off() {
    let snapshot = snapshot(|http, forward| {
        forward.timeout = None;
        http.stream_idle_timeout = Some(Duration::from_secs(2));
    });
    let mut worker = worker(&snapshot, 1);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    journey.next_action();
    journey.on_progress(at(1_500));
    journey.tick(at(2_500));
    assert_eq!(journey.next_action(), None);
    assert_eq!(journey.deadline(), Some((at(3_500), Wait::Progress)));
    journey.tick(at(3_500));
    assert_eq!(journey.next_action(), Some(Action::Cancel { attempt: FIRST }));
    assert_eq!(journey.next_action(), Some(Action::Reply(Reason::StreamIdle)));
}

#[test]
fn a_client_may_ask_for_a_timeout_of_its_own() {
    let snapshot = snapshot(|http, _| http.stream_idle_timeout = None);
    let mut worker = worker(&snapshot, 1);
    let headers = HeaderMap::new();
    let subject = Subject {
        method: &Method::GET,
        authority: "a",
        path: "/",
        query: None,
        scheme: Scheme::Http,
        headers: &headers,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_internal: false,
        draw: 0,
        claims: None,
    };
    for (timeout_ms, expected) in [(Some(250), Some((at(250), Wait::Response))), (Some(0), None)] {
        let facts = RequestFacts {
            repeats: Facts { may_repeat: true, is_repeat: false },
            timeout_ms,
            ..RequestFacts::NONE
        };
        let journey =
            Journey::begin(at(0), &snapshot, ChainId(0), &subject, facts, &mut worker, &Idle, &mut ());
        assert_eq!(journey.deadline(), expected);
    }
}

#[test]
fn news_of_an_attempt_that_was_given_up_is_not_news() {
    let snapshot = snapshot(|_, _| {});
    let mut worker = worker(&snapshot, 1);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    journey.next_action();
    tell(&snapshot, &mut journey, &mut worker, at(1), FIRST, failure(Sent::No, true));
    journey.next_action();
    tell(
        &snapshot,
        &mut journey,
        &mut worker,
        at(2),
        FIRST,
        AttemptEvent::Head { status: 500, has_ended: true, headers: None, is_replayable: true },
    );
    assert_eq!(journey.next_action(), None);
    tell(
        &snapshot,
        &mut journey,
        &mut worker,
        at(3),
        AttemptId(1),
        AttemptEvent::Head { status: 204, has_ended: true, headers: None, is_replayable: true },
    );
    assert_eq!(journey.next_action(), Some(Action::Forward { attempt: AttemptId(1) }));
    assert_eq!(journey.outcome().unwrap().attempts, 2);
}

/// Passes a tunnel through, of which the rules see `path`.
fn pass_through(journey: &mut Journey, snapshot: &Snapshot, worker: &mut Worker, now: Instant, path: &str) {
    let headers = HeaderMap::new();
    let subject = Subject {
        method: &Method::CONNECT,
        authority: "a:1",
        path,
        query: None,
        scheme: Scheme::Http,
        headers: &headers,
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_internal: false,
        draw: worker.draw_request(),
        claims: None,
    };
    journey.pass_through(now, snapshot, &subject, worker, &Idle, &mut ());
}

fn opened(now: Instant) -> Journey {
    let mut journey = Journey::tunnel(now, ChainId(0));
    assert_eq!(journey.next_action(), Some(Action::Open));
    assert_eq!(journey.deadline(), None);
    journey
}

#[test]
fn a_tunnel_with_http_in_it_ends_when_that_does() {
    let mut journey = opened(at(0));
    journey.on_response_body(at(9), Milestone::End);
    assert_eq!(journey.next_action(), None);
    let outcome = journey.outcome().unwrap();
    assert_eq!((outcome.reason, outcome.status, outcome.attempts), (Reason::TunnelServed, 200, 0));
    assert_eq!((outcome.head, outcome.ended), (Some(at(0)), at(9)));
}

#[test]
fn a_tunnel_is_passed_through_to_an_endpoint_and_has_no_time_limit_but_idleness() {
    let snapshot = snapshot(|http, forward| {
        http.stream_idle_timeout = Some(Duration::from_secs(60));
        forward.retry = Some(RetryPolicy::connects(1));
    });
    let mut worker = worker(&snapshot, 2);
    let mut journey = opened(at(0));
    pass_through(&mut journey, &snapshot, &mut worker, at(5), "/");
    let (_, first, _) = sent(&mut journey);
    tell(&snapshot, &mut journey, &mut worker, at(6), FIRST, unconnected(Reason::ConnectFailure));
    let (second_attempt, second, cause) = sent(&mut journey);
    assert_eq!(cause, Cause::Retry);
    assert_ne!(first, second);
    tell(
        &snapshot,
        &mut journey,
        &mut worker,
        at(7),
        second_attempt,
        AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
    );
    assert_eq!(journey.next_action(), Some(Action::Forward { attempt: second_attempt }));
    assert_eq!(journey.deadline(), Some((at(60_007), Wait::Progress)));
    journey.on_progress(at(30_000));
    journey.tick(at(89_999));
    assert_eq!(journey.next_action(), None);
    journey.tick(at(90_000));
    assert_eq!(journey.next_action(), Some(Action::Cancel { attempt: second_attempt }));
    assert_eq!(journey.next_action(), Some(Action::Break(Reason::StreamIdle)));
    let outcome = journey.outcome().unwrap();
    assert_eq!((outcome.status, outcome.attempts, outcome.endpoint), (200, 2, Some(second)));
}

#[test]
fn a_tunnel_that_no_rule_forwards_leads_to_its_own_address() {
    let snapshot = snapshot(|_, _| {});
    let mut worker = worker(&snapshot, 1);
    let mut journey = opened(at(0));
    // Every rule here wants a path.
    pass_through(&mut journey, &snapshot, &mut worker, at(1), "no path");
    assert_eq!(journey.next_action(), Some(Action::Reach { attempt: FIRST }));
    tell(&snapshot, &mut journey, &mut worker, at(2), FIRST, unconnected(Reason::NameNotFound));
    assert_eq!(journey.next_action(), Some(Action::Break(Reason::NameNotFound)));
    let outcome = journey.outcome().unwrap();
    assert_eq!((outcome.reason, outcome.status, outcome.flags()), (Reason::NameNotFound, 200, "DF"));
    assert_eq!((outcome.endpoint, outcome.ended), (None, at(2)));
}

#[test]
fn a_tunnel_is_broken_off_where_others_are_answered() {
    let check = |endpoints: usize, until: &dyn Fn(&mut Journey), reason: Reason| {
        let snapshot = snapshot(|_, _| {});
        let mut worker = worker(&snapshot, endpoints);
        let mut journey = opened(at(0));
        pass_through(&mut journey, &snapshot, &mut worker, at(1), "/");
        until(&mut journey);
        journey.check_invariants().unwrap();
        let mut last = None;
        while let Some(action) = journey.next_action() {
            last = Some(action);
        }
        assert_eq!(last, Some(Action::Break(reason)));
        assert_eq!(journey.outcome().unwrap().status, 200);
    };
    check(0, &|_| {}, Reason::NoHealthyUpstream);
    let drained = |journey: &mut Journey| {
        sent(journey);
        journey.on_drained(at(2));
    };
    check(1, &drained, Reason::Drained);
    let idle = |journey: &mut Journey| {
        sent(journey);
        journey.tick(at(400_000));
    };
    check(1, &idle, Reason::StreamIdle);
}

#[test]
fn a_request_is_not_ended_because_the_proxy_ends() {
    let snapshot = snapshot(|_, _| {});
    let mut worker = worker(&snapshot, 1);
    let mut journey = begin(&snapshot, &mut worker, at(0), &Method::GET, true);
    sent(&mut journey);
    journey.on_drained(at(1));
    assert_eq!(journey.next_action(), None);
    assert!(!journey.has_ended());
}

/// Any events in any order, many of them impossible: nothing panics, the invariants hold after each,
/// every journey ends, and it ends once. `NARU_SEED` replays one seed.
#[test]
fn no_order_of_events_confuses_the_machine() {
    let seeds = match std::env::var("NARU_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..4_096).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut chance = Chance::new(seed);
    let snapshot = snapshot(|http, forward| {
        http.request_timeout = (chance.below(2) == 0).then(|| Duration::from_millis(chance.below(50)));
        http.stream_idle_timeout = (chance.below(2) == 0).then(|| Duration::from_millis(chance.below(50)));
        forward.timeout = (chance.below(2) == 0).then(|| Duration::from_millis(chance.below(50)));
        forward.retry = Some(RetryPolicy::connects(chance.below(3) as u32));
    });
    let endpoints = chance.below(3) as usize;
    let mut worker = worker(&snapshot, endpoints);
    let method = if chance.below(2) == 0 { Method::GET } else { Method::POST };
    let has_ended = chance.below(2) == 0;
    let mut now = at(1);
    let mut journey = match chance.below(4) {
        0 => Journey::tunnel(now, ChainId(0)),
        _ => begin(&snapshot, &mut worker, now, &method, has_ended),
    };
    let mut answers = 0;
    for step in 0..40 {
        while let Some(action) = journey.next_action() {
            if let Action::Reply(_) | Action::Forward { .. } = action {
                answers += 1;
            }
            if let Action::Reply(reason) = action {
                journey.on_reply(now, reason.status(), None);
            }
        }
        let had_ended = journey.has_ended();
        now = Instant(now.0 + chance.below(20_000_000));
        let attempt = AttemptId(chance.below(3) as u16);
        match chance.below(12) {
            0 => tell(
                &snapshot,
                &mut journey,
                &mut worker,
                now,
                attempt,
                AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
            ),
            1 => tell(
                &snapshot,
                &mut journey,
                &mut worker,
                now,
                attempt,
                AttemptEvent::Head { status: 503, has_ended: true, headers: None, is_replayable: true },
            ),
            2 => tell(
                &snapshot,
                &mut journey,
                &mut worker,
                now,
                attempt,
                failure(Sent::No, chance.below(2) == 0),
            ),
            3 => journey.on_request_body(now, Milestone::End),
            4 => journey.on_request_body(now, Milestone::Aborted),
            5 => journey.on_response_body(now, Milestone::FirstByte),
            6 => journey.on_response_body(now, Milestone::Aborted),
            7 => journey.on_progress(now),
            8 => journey.on_drained(now),
            9 => {
                let path = if chance.below(2) == 0 { "/" } else { "no path" };
                pass_through(&mut journey, &snapshot, &mut worker, now, path);
            }
            10 => {
                tell(&snapshot, &mut journey, &mut worker, now, attempt, unconnected(Reason::ConnectFailure))
            }
            _ => journey.tick(now),
        }
        journey.check_invariants().unwrap_or_else(|what| panic!("seed {seed}, step {step}: {what}"));
        assert!(!had_ended || journey.has_ended(), "seed {seed}, step {step}: came back to life");
        if had_ended {
            assert_eq!(journey.next_action(), None, "seed {seed}, step {step}: asks after its end");
        }
    }
    while journey.next_action().is_some() {}
    journey.on_abandoned(now);
    assert!(journey.outcome().is_some(), "seed {seed}: has no end");
    assert!(answers <= 1, "seed {seed}: answered {answers} times");
}
