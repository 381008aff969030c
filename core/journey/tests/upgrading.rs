//! Requests that ask for another protocol.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Asked, begin, facts, worker};
use http::{HeaderMap, HeaderValue, Method};
use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_journey::{Action, AttemptEvent, Journey, Milestone, RequestFacts, Snapshot, View, Wait, Worker};
use naru_spec::{Mirror, RetryOn, RetryPolicy, Upgrades};

struct Idle;

impl View for Idle {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }
}

const FIRST: AttemptId = AttemptId(0);

fn snapshot(of_listener: Upgrades, of_route: Upgrades) -> Snapshot {
    common::snapshot(|http, forward, _| {
        http.upgrades = of_listener;
        http.stream_idle_timeout = Some(Duration::from_millis(500));
        forward.upgrades = of_route;
        forward.timeout = Some(Duration::from_millis(100));
        forward.retry = Some(RetryPolicy { retries_max: 2, ..RetryPolicy::new(RetryOn::SERVER_ERROR) });
        forward.mirrors = vec![Mirror::to("service")];
    })
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn ask(snapshot: &Snapshot, worker: &mut Worker, protocol: &'static str) -> Journey {
    let mut headers = HeaderMap::new();
    headers.insert("upgrade", HeaderValue::from_static(protocol));
    let facts = RequestFacts { is_upgrade: true, ..facts(&Method::GET, true) };
    begin(at(0), snapshot, &Asked { method: &Method::GET, headers: &headers, facts }, worker, &Idle)
}

fn head(status: u16) -> AttemptEvent<'static> {
    AttemptEvent::Head { status, has_ended: false, headers: None, is_replayable: true }
}

fn says(name: &str, is_allowed: bool) -> Upgrades {
    Upgrades::new([(name.to_owned(), is_allowed)])
}

#[test]
fn only_what_is_allowed_may_be_asked_for() {
    let check = |listener: Upgrades, route: Upgrades, protocol: &'static str, is_allowed: bool| {
        let snapshot = snapshot(listener, route);
        let mut worker = worker(&snapshot, 1, 1);
        let first = ask(&snapshot, &mut worker, protocol).next_action();
        match is_allowed {
            true => assert!(matches!(first, Some(Action::Send { .. })), "{protocol}: {first:?}"),
            false => assert_eq!(first, Some(Action::Reply(Reason::UpgradeRefused)), "{protocol}"),
        }
    };
    let none = Upgrades::default;
    check(none(), none(), "websocket", false);
    check(Upgrades::websocket(), none(), "WebSocket", true);
    check(Upgrades::websocket(), none(), "foo", false);
    check(Upgrades::websocket(), none(), "websocket, foo", false);
    check(Upgrades::websocket(), says("websocket", false), "websocket", false);
    check(none(), says("foo", true), "foo", true);
}

#[test]
fn once_it_is_granted_only_what_does_not_move_ends_it() {
    let snapshot = snapshot(Upgrades::websocket(), Upgrades::default());
    let mut worker = worker(&snapshot, 2, 1);
    let mut journey = ask(&snapshot, &mut worker, "websocket");
    assert!(!journey.is_mirrored(&snapshot, FIRST), "what is in it is nobody else's");
    journey.next_action();
    assert_eq!(journey.deadline(), Some((at(100), Wait::Response)), "it has to be granted in time");
    journey.on_attempt(at(50), &snapshot, FIRST, head(101), &mut worker, &Idle);
    assert_eq!(journey.next_action(), Some(Action::Forward { attempt: FIRST }));
    assert!(journey.is_upgraded());
    assert_eq!(journey.deadline(), Some((at(550), Wait::Progress)));
    journey.on_progress(at(400));
    assert_eq!(journey.deadline(), Some((at(900), Wait::Progress)));
    journey.on_response_body(at(700), Milestone::End);
    let outcome = journey.outcome().unwrap();
    assert_eq!((outcome.reason, outcome.status, outcome.attempts), (Reason::Forwarded, 101, 1));
    assert_eq!(journey.check_invariants(), Ok(()));
}

#[test]
fn what_is_not_granted_is_an_answer_like_others() {
    let snapshot = snapshot(Upgrades::websocket(), Upgrades::default());
    let mut worker = worker(&snapshot, 2, 1);
    let mut journey = ask(&snapshot, &mut worker, "websocket");
    journey.next_action();
    journey.on_attempt(at(1), &snapshot, FIRST, head(503), &mut worker, &Idle);
    assert_eq!(journey.next_action(), Some(Action::Cancel { attempt: FIRST }), "it is tried again");
    let (due, _) = journey.deadline().unwrap();
    journey.tick(due);
    assert_eq!(journey.next_action(), Some(Action::Due));
    journey.on_due(due, &snapshot, true, &mut worker, &Idle, &mut ());
    let Some(Action::Send { attempt, .. }) = journey.next_action() else { panic!("{journey:?}") };
    journey.on_attempt(due, &snapshot, attempt, head(404), &mut worker, &Idle);
    assert_eq!(journey.next_action(), Some(Action::Forward { attempt }));
    assert!(!journey.is_upgraded());
    assert_eq!(journey.check_invariants(), Ok(()));
}

#[test]
fn a_grant_that_nobody_asked_for_is_no_answer() {
    let snapshot = snapshot(Upgrades::websocket(), Upgrades::default());
    let mut worker = worker(&snapshot, 1, 1);
    let headers = HeaderMap::new();
    let asked = Asked { method: &Method::GET, headers: &headers, facts: facts(&Method::GET, true) };
    let mut journey = begin(at(0), &snapshot, &asked, &mut worker, &Idle);
    journey.next_action();
    journey.on_attempt(at(1), &snapshot, FIRST, head(101), &mut worker, &Idle);
    assert_eq!(journey.next_action(), Some(Action::Reply(Reason::UpstreamProtocol)));
    assert_eq!(journey.check_invariants(), Ok(()));
}

#[test]
fn a_connect_that_is_answered_by_success_is_a_tunnel() {
    let snapshot = common::snapshot(|http, forward, _| {
        http.upgrades = says("connect", true);
        forward.timeout = Some(Duration::from_millis(100));
    });
    for status in [200, 204, 407, 101] {
        let mut worker = worker(&snapshot, 1, 1);
        let headers = HeaderMap::new();
        let facts = RequestFacts { is_upgrade: true, is_connect: true, ..facts(&Method::CONNECT, true) };
        let asked = Asked { method: &Method::CONNECT, headers: &headers, facts };
        let mut journey = begin(at(0), &snapshot, &asked, &mut worker, &Idle);
        assert!(matches!(journey.next_action(), Some(Action::Send { .. })));
        journey.on_attempt(at(1), &snapshot, FIRST, head(status), &mut worker, &Idle);
        // A change of protocol is no answer to it.
        let expected = match status {
            101 => Action::Reply(Reason::UpstreamProtocol),
            _ => Action::Forward { attempt: FIRST },
        };
        assert_eq!(journey.next_action(), Some(expected));
        assert_eq!(journey.is_upgraded(), status < 300 && status >= 200, "{status}");
        assert_eq!(
            journey.deadline().is_none_or(|(_, wait)| wait != Wait::Response),
            journey.is_upgraded() || status == 101
        );
        assert_eq!(journey.check_invariants(), Ok(()));
    }
}
