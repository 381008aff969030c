//! What a journey tells whoever guards its cluster: each attempt that was admitted, once, with what became of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "whoever runs a walk may name its seed")]

mod common;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method};
use naru_base::{AttemptId, Chance, ClusterId, EndpointId, Instant, Reason, Weight};
use naru_guard::{AttemptResult, Fitness, Gate, Grpc, Health, RefusedBy, Ticket};
use naru_journey::{
    Action, Admission, AttemptEvent, ChainId, EndpointFacts, Failure, Journey, Milestone, Report,
    RequestFacts, Sent, Snapshot, Stage, View, Wait, Worker,
};
use naru_recover::Facts;
use naru_route::Subject;
use naru_spec::Scheme;

const ENDPOINTS: u32 = 4;

/// A cluster with a breaker that admits so many calls more.
#[derive(Default)]
struct Guarded {
    admitted: Cell<u32>,
    left: Cell<u32>,
    generation: Cell<u64>,
    /// By endpoint, a bit for each that is ejected.
    ejected: Cell<u32>,
}

impl Guarded {
    fn admitting(left: u32) -> Guarded {
        Guarded { left: Cell::new(left), ..Guarded::default() }
    }

    fn eject(&self, bits: u32) {
        self.ejected.set(bits);
        self.generation.set(self.generation.get() + 1);
    }
}

impl View for Guarded {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn generation(&self, _: ClusterId) -> u64 {
        self.generation.get()
    }

    fn fitness(&self, _: ClusterId, endpoint: EndpointId) -> Fitness {
        Fitness::new(self.ejected.get() >> endpoint.0 & 1 == 1, Health::Unchecked)
    }

    fn enter(&self, _: Instant, _: ClusterId, _: &mut Chance) -> Admission {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Admission::Refused { by: RefusedBy::Open, retry_after: None };
        };
        self.left.set(left);
        self.admitted.set(self.admitted.get() + 1);
        Admission::Admitted(Some(ticket()))
    }
}

fn ticket() -> Ticket {
    Gate::CLOSED.ticket()
}

fn snapshot(panic_percent: u32) -> Snapshot {
    common::snapshot(|http, forward, cluster| {
        forward.timeout = Some(Duration::from_millis(100));
        forward.retry = Some(naru_spec::RetryPolicy {
            retries_max: 2,
            ..naru_spec::RetryPolicy::new(naru_spec::RetryOn::CONNECT_FAILURE)
        });
        http.stream_idle_timeout = Some(Duration::from_millis(60));
        cluster.guard.panic_percent = panic_percent;
    })
}

fn worker(snapshot: &Snapshot) -> Worker {
    let mut worker = Worker::new(snapshot, 1);
    worker.set_endpoints(snapshot, ClusterId(0), &[EndpointFacts::of_weight(Weight(1)); ENDPOINTS as usize]);
    worker
}

fn begin(snapshot: &Snapshot, worker: &mut Worker, now: Instant, is_grpc: bool, view: &Guarded) -> Journey {
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
        draw: worker.draw_request(),
        claims: None,
    };
    let facts =
        RequestFacts { repeats: Facts { may_repeat: true, is_repeat: false }, is_grpc, ..RequestFacts::NONE };
    Journey::begin(now, snapshot, ChainId(0), &subject, facts, worker, view, &mut ())
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn failed(stage: Stage, reason: Reason, is_reused: bool) -> AttemptEvent<'static> {
    AttemptEvent::Failed(Failure { stage, reason, sent: Sent::No, is_reused, is_replayable: true })
}

const FIRST: AttemptId = AttemptId(0);

/// Until it asks for something: the wait before the next attempt is over.
fn waited(journey: &mut Journey, snapshot: &Snapshot, worker: &mut Worker, view: &Guarded) -> Option<Action> {
    if journey.peek_action().is_none() {
        let (now, wait) = journey.deadline().unwrap();
        assert_eq!(wait, Wait::Backoff);
        journey.tick(now);
        assert_eq!(journey.next_action(), Some(Action::Due));
        journey.on_due(now, snapshot, true, worker, view, &mut ());
    }
    journey.next_action()
}

#[test]
fn what_became_of_an_attempt_is_told_as_soon_as_it_is_known() {
    /// The report that is there after `tell`, and whether one is there only once the request has ended.
    fn check(
        is_grpc: bool,
        expected: AttemptResult,
        is_late: bool,
        tell: impl Fn(&mut Journey, &mut dyn FnMut(&mut Journey, AttemptEvent<'static>)),
    ) {
        let (snapshot, view) = (snapshot(0), Guarded::admitting(1));
        let mut worker = worker(&snapshot);
        let mut journey = begin(&snapshot, &mut worker, at(0), is_grpc, &view);
        let Some(Action::Send { endpoint, .. }) = journey.next_action() else { panic!() };
        journey.on_connected(at(0), FIRST);
        assert_eq!(journey.take_report(), None);
        let mut attempt = |journey: &mut Journey, event: AttemptEvent<'static>| {
            journey.on_attempt(at(20), &snapshot, FIRST, event, &mut worker, &view);
        };
        tell(&mut journey, &mut attempt);
        assert_eq!(is_late, journey.has_ended(), "{expected:?}");
        let Some(report) = journey.take_report() else { panic!("no report: {expected:?}") };
        assert_eq!((report.result, report.ticket, report.endpoint), (expected, Some(ticket()), endpoint));
        assert_eq!(report.cluster, ClusterId(0));
        journey.on_abandoned(at(90));
        assert_eq!(journey.take_report(), None, "{expected:?} was told twice");
    }
    let head = |status| AttemptEvent::Head { status, has_ended: false, headers: None, is_replayable: true };
    let answered = |status, grpc| AttemptResult::Answered { status, grpc };
    check(false, answered(503, Grpc::None), false, |journey, tell| tell(journey, head(503)));
    check(true, answered(200, Grpc::Head(14)), false, |journey, tell| {
        journey.on_grpc_status(14);
        tell(journey, head(200));
    });
    check(true, answered(200, Grpc::Trailers(13)), true, |journey, tell| {
        tell(journey, head(200));
        assert_eq!(journey.take_report(), None, "how a call went is said at its end");
        journey.on_response_body(at(30), Milestone::Trailers { grpc_status: Some(13) });
    });
    check(true, AttemptResult::Reset, true, |journey, tell| {
        tell(journey, head(200));
        journey.on_response_body(at(30), Milestone::Aborted);
    });
    check(false, AttemptResult::Reset, false, |journey, tell| {
        tell(journey, failed(Stage::Exchange, Reason::UpstreamReset, false));
    });
    check(false, AttemptResult::ConnectFailed, false, |journey, tell| {
        tell(journey, failed(Stage::Secure, Reason::UpstreamTls, false));
    });
    check(false, AttemptResult::TimedOut { is_connected: false }, false, |journey, tell| {
        tell(journey, failed(Stage::Connect, Reason::ConnectTimeout, false));
    });
    check(false, AttemptResult::Abandoned, false, |journey, tell| {
        // It is sent once more on another connection, and that one is not admitted.
        tell(journey, failed(Stage::Exchange, Reason::UpstreamClosed, true));
    });
    check(false, AttemptResult::Abandoned, true, |journey, _| journey.on_abandoned(at(30)));
    check(false, AttemptResult::TimedOut { is_connected: true }, false, |journey, _| {
        journey.on_progress(at(90));
        journey.tick(at(100));
    });
}

#[test]
fn an_answer_that_breaks_off_is_told_of_once_more_and_asks_no_breaker_twice() {
    let (snapshot, view) = (snapshot(0), Guarded::admitting(1));
    let mut worker = worker(&snapshot);
    let mut journey = begin(&snapshot, &mut worker, at(0), false, &view);
    let id = match journey.next_action() {
        Some(Action::Send { attempt, .. }) => attempt,
        other => panic!("{other:?}"),
    };
    let head = AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true };
    journey.on_attempt(at(10), &snapshot, id, head, &mut worker, &view);
    assert_eq!(journey.take_report().map(|report| report.result), Some(AttemptResult::answered(200)));
    journey.on_response_body(at(30), Milestone::Aborted);
    let report = journey.take_report().unwrap();
    assert_eq!((report.result, report.ticket), (AttemptResult::Aborted, None));
    assert_eq!(journey.check_invariants(), Ok(()));
}

#[test]
fn a_cluster_that_may_not_be_called_is_not() {
    let (snapshot, view) = (snapshot(0), Guarded::admitting(0));
    let mut worker = worker(&snapshot);
    let mut journey = begin(&snapshot, &mut worker, at(0), false, &view);
    assert_eq!(journey.next_action(), Some(Action::Reply(Reason::BreakerOpen)));
    journey.on_abandoned(at(1));
    assert_eq!(journey.take_report(), None);
}

#[test]
fn a_breaker_that_opens_meanwhile_ends_retries() {
    let (snapshot, view) = (snapshot(0), Guarded::admitting(2));
    let mut worker = worker(&snapshot);
    let mut journey = begin(&snapshot, &mut worker, at(0), false, &view);
    journey.next_action();
    let refused = || failed(Stage::Connect, Reason::ConnectFailure, false);
    journey.on_attempt(at(1), &snapshot, FIRST, refused(), &mut worker, &view);
    assert!(journey.take_report().is_some());
    let sent = waited(&mut journey, &snapshot, &mut worker, &view);
    assert!(matches!(sent, Some(Action::Send { attempt: AttemptId(1), .. })), "{sent:?}");
    journey.on_attempt(at(2), &snapshot, AttemptId(1), refused(), &mut worker, &view);
    assert!(journey.take_report().is_some());
    let answered = waited(&mut journey, &snapshot, &mut worker, &view);
    assert_eq!(answered, Some(Action::Reply(Reason::ConnectFailure)));
}

/// Which endpoints so many requests go to.
fn picked(snapshot: &Snapshot, worker: &mut Worker, view: &Guarded, requests: u32) -> Vec<u32> {
    let mut picked = vec![0; ENDPOINTS as usize];
    view.left.set(requests);
    for _ in 0..requests {
        let mut journey = begin(snapshot, worker, at(0), false, view);
        match journey.next_action() {
            Some(Action::Send { endpoint, .. }) => picked[endpoint.index()] += 1,
            other => assert_eq!(other, Some(Action::Reply(Reason::NoHealthyUpstream))),
        }
    }
    picked
}

#[test]
fn what_is_ejected_is_not_picked_until_it_returns() {
    let (snapshot, view) = (snapshot(0), Guarded::default());
    let mut worker = worker(&snapshot);
    assert_eq!(picked(&snapshot, &mut worker, &view, 40), [10, 10, 10, 10]);
    view.eject(0b0101);
    assert_eq!(picked(&snapshot, &mut worker, &view, 40), [0, 20, 0, 20]);
    view.eject(0b1111);
    assert_eq!(picked(&snapshot, &mut worker, &view, 40), [0, 0, 0, 0], "nobody panics by 0 percent");
    view.eject(0);
    assert_eq!(picked(&snapshot, &mut worker, &view, 40), [10, 10, 10, 10]);
}

#[test]
fn where_few_are_fit_all_are_asked() {
    let (snapshot, view) = (snapshot(50), Guarded::default());
    let mut worker = worker(&snapshot);
    view.eject(0b0011);
    assert_eq!(picked(&snapshot, &mut worker, &view, 40), [0, 0, 20, 20]);
    view.eject(0b0111);
    assert_eq!(picked(&snapshot, &mut worker, &view, 40), [10, 10, 10, 10]);
}

#[test]
fn every_admission_comes_back_once() {
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..4_096, |seed| seed..seed + 1) {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut chance = Chance::split(seed, "guarded");
    let snapshot = snapshot(50);
    let view = Guarded::admitting(chance.below(4) as u32);
    let mut worker = worker(&snapshot);
    let mut now = at(1);
    let mut journey = begin(&snapshot, &mut worker, now, chance.below(2) == 0, &view);
    let (mut reports, mut last) = (0, FIRST);
    let mut hear = |journey: &mut Journey| {
        let report: Option<Report> = journey.take_report();
        // That an answer broke off is told beside what was told of it before.
        reports += u32::from(report.is_some_and(|report| report.result != AttemptResult::Aborted));
        assert!(reports <= view.admitted.get(), "NARU_SEED={seed}: {report:?} was not admitted");
    };
    for _ in 0..30 {
        while let Some(action) = journey.next_action() {
            hear(&mut journey);
            match action {
                Action::Send { attempt, .. } => last = attempt,
                Action::Reply(reason) => journey.on_reply(now, reason.status(), None),
                Action::Due => journey.on_due(now, &snapshot, true, &mut worker, &view, &mut ()),
                _ => {}
            }
        }
        now = Instant(now.0 + chance.below(15_000_000));
        let mut attempt = |journey: &mut Journey, event| {
            journey.on_attempt(now, &snapshot, last, event, &mut worker, &view);
        };
        match chance.below(12) {
            0 => attempt(
                &mut journey,
                AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
            ),
            1 => attempt(
                &mut journey,
                AttemptEvent::Head { status: 503, has_ended: true, headers: None, is_replayable: true },
            ),
            2 => attempt(&mut journey, failed(Stage::Exchange, Reason::UpstreamClosed, true)),
            3 => attempt(&mut journey, failed(Stage::Connect, Reason::ConnectFailure, false)),
            4 => journey.on_connected(now, last),
            5 => journey.on_request_body(now, Milestone::Aborted),
            6 => journey.on_response_body(now, Milestone::Trailers { grpc_status: Some(2) }),
            7 => journey.on_response_body(now, Milestone::Aborted),
            8 => journey.on_grpc_status(3),
            9 => view.eject(chance.below(16) as u32),
            10 => journey.tick(now),
            _ => journey.on_progress(now),
        }
        hear(&mut journey);
        if let Err(wrong) = journey.check_invariants() {
            panic!("NARU_SEED={seed}: {wrong}");
        }
    }
    hear(&mut journey);
    journey.on_abandoned(now);
    hear(&mut journey);
    assert_eq!(reports, view.admitted.get(), "NARU_SEED={seed}");
}
