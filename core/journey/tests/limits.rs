//! A journey at the limits of its route and its cluster: it passes them in their order, waits where it has to, and gives
//! back whatever it took, once, wherever it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "whoever runs a walk may name its seed")]

mod common;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method};
use naru_admit::{Claim, Entry, Queue, Waiter, bulkhead};
use naru_base::{AttemptId, Chance, ClusterId, EndpointId, Instant, Reason, Weight};
use naru_guard::{AttemptResult, Ticket};
use naru_journey::limits::{Leaving, LimitId, Pass, Queued};
use naru_journey::{
    Action, AttemptEvent, ChainId, EndpointFacts, Failure, Journey, Limit, Milestone, RequestFacts, Sent,
    Snapshot, Stage, View, Wait, Worker,
};
use naru_recover::Facts;
use naru_route::Subject;
use naru_spec::{
    AdaptiveConcurrency, AdmissionControl, Bulkhead, CircuitBreaker, LoadLimits, Named, RateLimit, Scheme,
};

fn named<T>(name: &str, settings: T) -> Option<Named<T>> {
    Some(Named { name: name.into(), settings })
}

fn bulkhead_of(concurrency_max: u32, queue_max: u32, wait_ms: u64) -> Bulkhead {
    Bulkhead { concurrency_max, queue_max, wait_max: Duration::from_millis(wait_ms) }
}

/// All limits that there are, for a route and for its cluster.
fn all(owner: &str, bulkhead: Bulkhead) -> LoadLimits {
    let rate = RateLimit { limit: 1, period: Duration::from_secs(1), wait_max: Duration::from_secs(1) };
    LoadLimits {
        breaker: named(owner, CircuitBreaker::default()),
        bulkhead: named(owner, bulkhead),
        adaptive: named(owner, AdaptiveConcurrency { refused_status: 529, ..AdaptiveConcurrency::default() }),
        admission: named(owner, AdmissionControl::default()),
        rate: named(owner, rate),
    }
}

fn snapshot(route: LoadLimits, cluster_load: LoadLimits) -> Snapshot {
    common::snapshot(|http, forward, cluster| {
        forward.timeout = Some(Duration::from_millis(400));
        // At once: the walk has no time for a wait.
        let backoff = naru_spec::Backoff::Fixed { wait: Duration::ZERO, jitter_percent: 0 };
        forward.retry = Some(naru_spec::RetryPolicy { backoff, ..naru_spec::RetryPolicy::connects(1) });
        forward.load = route;
        http.stream_idle_timeout = Some(Duration::from_millis(300));
        cluster.load = cluster_load;
    })
}

/// What limits say is written down beforehand; what they are asked is written down here.
#[derive(Default)]
struct Scripted {
    says: RefCell<Vec<(LimitId, Pass)>>,
    claim: Cell<Option<Claim>>,
    passed: RefCell<Vec<LimitId>>,
    left: RefCell<Vec<(LimitId, Leaving)>>,
}

impl View for Scripted {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn pass(&self, _: Instant, limit: LimitId, _: &mut Chance) -> Pass {
        self.passed.borrow_mut().push(limit);
        let says = self.says.borrow();
        says.iter().find(|(id, _)| *id == limit).map_or(Pass::Admitted, |(_, pass)| *pass)
    }

    fn claim(&self, _: Instant, _: LimitId, _: Queued) -> Claim {
        self.claim.get().unwrap()
    }

    fn leave(&self, _: Instant, limit: LimitId, leaving: Leaving) {
        self.left.borrow_mut().push((limit, leaving));
    }
}

fn worker(snapshot: &Snapshot) -> Worker {
    let mut worker = Worker::new(snapshot, 1);
    worker.set_endpoints(snapshot, ClusterId(0), &[EndpointFacts::of_weight(Weight(1)); 2]);
    worker
}

fn begin(snapshot: &Snapshot, worker: &mut Worker, now: Instant, view: &impl View) -> Journey {
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
    let facts = RequestFacts { repeats: Facts { may_repeat: true, is_repeat: false }, ..RequestFacts::NONE };
    Journey::begin(now, snapshot, ChainId(0), &subject, facts, worker, view, &mut ())
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// A queued in a real line.
fn queued() -> Queued {
    let settings = bulkhead_of(0, 1, 10);
    let word = Cell::new(0);
    match Queue::new(settings).enter(at(0), Waiter(7), &word) {
        Entry::Queued { ticket, .. } => Queued { ticket, waiter: Waiter(7) },
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_are_passed_kind_by_kind_and_left_once() {
    let snapshot = snapshot(all("route", bulkhead_of(1, 0, 0)), all("cluster", bulkhead_of(1, 0, 0)));
    let name = |id: &LimitId| {
        let limit = snapshot.limits.get(*id).unwrap();
        format!("{} {}", limit.name, limit.limit.kind())
    };
    let view = Scripted::default();
    let mut worker = worker(&snapshot);
    let mut journey = begin(&snapshot, &mut worker, at(0), &view);
    assert!(matches!(journey.next_action(), Some(Action::Send { .. })));
    let passed: Vec<String> = view.passed.borrow().iter().map(name).collect();
    assert_eq!(
        passed,
        [
            "route circuit_breaker",
            "cluster circuit_breaker",
            "route admission_control",
            "cluster admission_control",
            "route bulkhead",
            "cluster bulkhead",
            "route rate_limit",
            "cluster rate_limit",
            "route adaptive_concurrency",
            "cluster adaptive_concurrency"
        ]
    );
    let head = AttemptEvent::Head { status: 201, has_ended: true, headers: None, is_replayable: true };
    journey.on_attempt(at(5), &snapshot, AttemptId(0), head, &mut worker, &view);
    journey.leave(at(5), &snapshot, &view);
    journey.leave(at(6), &snapshot, &view);
    let left = view.left.borrow();
    // Breakers as soon as the answer is known; the others when it has ended.
    let mut expected: Vec<String> = passed[2..].iter().rev().cloned().collect();
    expected.splice(0..0, passed[..2].iter().rev().cloned());
    assert_eq!(left.iter().map(|(id, _)| name(id)).collect::<Vec<_>>(), expected, "each of them once");
    for (_, leaving) in left.iter() {
        let Leaving::Done(ending) = leaving else { panic!("{leaving:?}") };
        assert_eq!((ending.status, ending.sent, ending.is_cancelled), (201, Some(at(0)), false));
    }
}

#[test]
fn what_has_the_same_name_is_one_limit() {
    let load = LoadLimits { bulkhead: named("same", bulkhead_of(1, 0, 0)), ..LoadLimits::default() };
    assert_eq!(snapshot(load.clone(), load.clone()).limits.all.len(), 1);
    let other = LoadLimits { bulkhead: named("other", bulkhead_of(1, 0, 0)), ..LoadLimits::default() };
    assert_eq!(snapshot(load, other).limits.all.len(), 2);
    assert!(snapshot(LoadLimits::default(), LoadLimits::default()).limits.is_empty());
}

#[test]
fn a_limit_that_refuses_is_the_last_that_is_asked() {
    let snapshot = snapshot(LoadLimits::default(), all("cluster", bulkhead_of(1, 0, 0)));
    let mut worker = worker(&snapshot);
    for (at_limit, reason) in [
        (1, Reason::AdmissionDenied),
        (2, Reason::BulkheadFull),
        (3, Reason::RateLimited),
        (4, Reason::ConcurrencyLimit),
    ] {
        let view = Scripted::default();
        view.says.borrow_mut().push((LimitId(at_limit), Pass::Refused(reason)));
        let mut journey = begin(&snapshot, &mut worker, at(0), &view);
        assert_eq!(journey.next_action(), Some(Action::Reply(reason)));
        assert_eq!(journey.refused_by(), Some(LimitId(at_limit)));
        journey.leave(at(0), &snapshot, &view);
        let left: Vec<u32> = view.left.borrow().iter().map(|(limit, _)| limit.0).collect();
        assert_eq!(left, (0..at_limit).rev().collect::<Vec<_>>(), "{reason:?}");
        if let Some((_, Leaving::Done(ending))) = view.left.borrow().first() {
            assert_eq!((ending.status, ending.sent), (reason.status(), None));
        }
        let reply = composed(&snapshot, &journey, reason);
        let status = if reason == Reason::ConcurrencyLimit { 529 } else { reason.status() };
        assert_eq!(reply.status.as_u16(), status);
        assert_eq!(reply.headers.contains_key("x-envoy-overloaded"), reason == Reason::BulkheadFull);
    }
}

/// What the breaker of a route is told of a request that this happens to; the first attempt is at 10 ms.
fn told(
    end: impl FnOnce(&mut Journey, &Snapshot, &mut Worker, &Scripted),
) -> Option<(AttemptResult, Duration, Option<Ticket>)> {
    let load = LoadLimits { breaker: named("route", CircuitBreaker::default()), ..LoadLimits::default() };
    let snapshot = snapshot(load, all("cluster", bulkhead_of(1, 0, 0)));
    let mut worker = worker(&snapshot);
    let view = Scripted::default();
    let ticket = naru_guard::Gate::CLOSED.ticket();
    let breaker = snapshot.limits.all.iter().position(|limit| limit.name == "route").unwrap();
    let breaker = LimitId(breaker as u32);
    view.says.borrow_mut().push((breaker, Pass::Ticketed(ticket)));
    let mut journey = begin(&snapshot, &mut worker, at(0), &view);
    drain(&mut journey);
    end(&mut journey, &snapshot, &mut worker, &view);
    drain(&mut journey);
    journey.on_abandoned(at(500));
    journey.leave(at(500), &snapshot, &view);
    assert_eq!(journey.check_invariants(), Ok(()));
    let left = view.left.borrow();
    let mut of_breaker = left.iter().filter(|(limit, _)| *limit == breaker);
    let first = of_breaker.next();
    assert!(of_breaker.next().is_none(), "it is told once");
    match first?.1 {
        Leaving::Done(ending) => Some((ending.result, ending.duration, ending.ticket)),
        leaving => panic!("{leaving:?}"),
    }
}

fn drain(journey: &mut Journey) {
    while journey.next_action().is_some() {}
}

fn head(status: u16, has_ended: bool) -> AttemptEvent<'static> {
    AttemptEvent::Head { status, has_ended, headers: None, is_replayable: true }
}

fn failed(stage: Stage, reason: Reason) -> AttemptEvent<'static> {
    let sent = if stage == Stage::Exchange { Sent::Maybe } else { Sent::No };
    AttemptEvent::Failed(Failure { stage, reason, sent, is_reused: false, is_replayable: true })
}

#[test]
fn the_breaker_of_a_route_is_told_what_the_caller_saw_after_all_attempts() {
    let ms = Duration::from_millis;
    let ticket = Some(naru_guard::Gate::CLOSED.ticket());
    // An answer counts from its head, however long its body is, or whoever breaks that off.
    let answered = told(|journey, snapshot, worker, view| {
        journey.on_attempt(at(20), snapshot, AttemptId(0), head(503, false), worker, view);
        drain(journey);
        journey.on_response_body(at(200), Milestone::Aborted);
    });
    assert_eq!(answered, Some((AttemptResult::answered(503), ms(20), ticket)));
    // One attempt fails, and the next is answered well: nothing has failed.
    let retried = told(|journey, snapshot, worker, view| {
        let refused = failed(Stage::Connect, Reason::ConnectFailure);
        journey.on_attempt(at(20), snapshot, AttemptId(0), refused, worker, view);
        drain(journey);
        assert!(view.left.borrow().is_empty(), "it is not over");
        journey.on_due(at(20), snapshot, true, worker, view, &mut ());
        drain(journey);
        journey.on_attempt(at(30), snapshot, AttemptId(1), head(200, true), worker, view);
        drain(journey);
    });
    assert_eq!(retried, Some((AttemptResult::answered(200), ms(30), ticket)));
    let check = |reason: Reason, expected: AttemptResult, last: AttemptEvent<'_>| {
        let found = told(|journey, snapshot, worker, view| {
            journey.on_attempt(at(20), snapshot, AttemptId(0), last, worker, view);
            drain(journey);
            if reason == Reason::ConnectFailure {
                journey.on_due(at(20), snapshot, true, worker, view, &mut ());
                drain(journey);
                journey.on_attempt(at(20), snapshot, AttemptId(1), last, worker, view);
                drain(journey);
            }
            assert_eq!(journey.reason(), reason);
            journey.leave(at(40), snapshot, view);
        });
        assert_eq!(found, Some((expected, ms(40), ticket)), "{reason:?}");
    };
    let failed_connect = failed(Stage::Connect, Reason::ConnectFailure);
    check(Reason::ConnectFailure, AttemptResult::ConnectFailed, failed_connect);
    check(Reason::UpstreamReset, AttemptResult::Reset, failed(Stage::Exchange, Reason::UpstreamReset));
    // A refusal by the cluster says nothing of the service.
    check(Reason::Overflow, AttemptResult::Abandoned, failed(Stage::Connect, Reason::Overflow));
    let timed_out = told(|journey, snapshot, _, view| {
        journey.next_action();
        journey.on_progress(at(350));
        journey.tick(at(400));
        assert_eq!(journey.reason(), Reason::RouteTimeout);
        journey.leave(at(400), snapshot, view);
    });
    assert_eq!(timed_out, Some((AttemptResult::TimedOut { is_connected: false }, ms(400), ticket)));
    let given_up = told(|_, _, _, _| {});
    assert_eq!(given_up.map(|(result, ..)| result), Some(AttemptResult::Abandoned));
}

#[test]
fn whoever_is_cut_off_is_told_when_to_come_again() {
    let load = LoadLimits { breaker: named("route", CircuitBreaker::default()), ..LoadLimits::default() };
    let snapshot = snapshot(load, all("cluster", bulkhead_of(1, 0, 0)));
    let mut worker = worker(&snapshot);
    let breaker = snapshot.limits.all.iter().position(|limit| limit.name == "route").unwrap();
    for (retry_after, expected) in [
        (None, None),
        (Some(Duration::ZERO), Some("1")),
        (Some(Duration::from_millis(1)), Some("1")),
        (Some(Duration::from_secs(30)), Some("30")),
        (Some(Duration::from_nanos(29_000_000_001)), Some("30")),
    ] {
        let view = Scripted::default();
        view.says.borrow_mut().push((LimitId(breaker as u32), Pass::CutOff { retry_after }));
        let mut journey = begin(&snapshot, &mut worker, at(0), &view);
        assert_eq!(journey.next_action(), Some(Action::Reply(Reason::BreakerOpen)));
        assert_eq!(view.passed.borrow().len(), 1, "it is the first that is asked");
        let reply = composed(&snapshot, &journey, Reason::BreakerOpen);
        assert_eq!(reply.status, 503);
        assert_eq!(reply.headers.get("retry-after").map(|value| value.to_str().unwrap()), expected);
    }
}

fn composed(snapshot: &Snapshot, journey: &Journey, reason: Reason) -> naru_journey::reply::Reply {
    let mut fill = |_: &HeaderMap, _: &naru_spec::Format, _: &mut Vec<u8>| {};
    let date = http::HeaderValue::from_static("now");
    let stamp = naru_journey::outgoing::Stamp { request_id: None, date: &date };
    naru_journey::reply::compose(snapshot, journey, reason, None, false, stamp, &mut fill)
}

#[test]
fn a_journey_waits_for_its_turn_and_looks_at_its_deadline() {
    let snapshot = snapshot(LoadLimits::default(), all("cluster", bulkhead_of(1, 1, 50)));
    let mut worker = worker(&snapshot);
    let view = Scripted::default();
    *view.says.borrow_mut() = vec![
        (LimitId(2), Pass::InLine { queued: queued(), deadline: at(50) }),
        (LimitId(3), Pass::Until(at(120))),
    ];
    let mut journey = begin(&snapshot, &mut worker, at(0), &view);
    let waits = Some(Action::Wait { limit: LimitId(2), queued: Some(queued()) });
    assert_eq!((journey.next_action(), journey.next_action()), (waits, None));
    assert_eq!(journey.deadline(), Some((at(50), Wait::Turn)));
    // Woken for nothing.
    view.claim.set(Some(Claim::Waiting));
    journey.on_turn(at(10), &snapshot, &mut worker, &view, &mut ());
    assert_eq!((journey.next_action(), journey.next_action()), (waits, None));
    journey.tick(at(49));
    assert_eq!(journey.next_action(), None);
    journey.tick(at(50));
    assert_eq!((journey.next_action(), journey.next_action()), (Some(Action::Look), None));
    assert_eq!(journey.deadline(), Some((at(300), Wait::Progress)), "it was told once");
    // A permit came at the last moment; and then it is its turn, later, at the next limit.
    view.claim.set(Some(Claim::Admitted));
    journey.on_turn(at(50), &snapshot, &mut worker, &view, &mut ());
    assert_eq!(journey.next_action(), Some(Action::Wait { limit: LimitId(3), queued: None }));
    assert_eq!(journey.deadline(), Some((at(120), Wait::Turn)));
    journey.on_turn(at(119), &snapshot, &mut worker, &view, &mut ());
    assert!(matches!(journey.next_action(), Some(Action::Wait { .. })));
    journey.tick(at(120));
    assert_eq!(journey.next_action(), Some(Action::Look));
    journey.on_turn(at(120), &snapshot, &mut worker, &view, &mut ());
    assert!(matches!(journey.next_action(), Some(Action::Send { .. })));
    assert_eq!(journey.check_invariants(), Ok(()));
}

#[test]
fn a_wait_that_is_over_or_given_up_leaves_the_line() {
    let snapshot = snapshot(LoadLimits::default(), all("cluster", bulkhead_of(1, 1, 1_000)));
    let mut worker = worker(&snapshot);
    let waiting = Pass::InLine { queued: queued(), deadline: at(1_000) };
    let mut check = |end: fn(&mut Journey, Instant), expected: Option<Action>, reason| {
        let view = Scripted::default();
        view.says.borrow_mut().push((LimitId(2), waiting));
        let mut journey = begin(&snapshot, &mut worker, at(0), &view);
        journey.next_action();
        end(&mut journey, at(400));
        assert_eq!(journey.next_action(), expected);
        assert_eq!(journey.reason(), reason);
        journey.leave(at(400), &snapshot, &view);
        let left = view.left.borrow();
        assert_eq!(left.len(), 3, "{left:?}");
        assert_eq!(left[0], (LimitId(2), Leaving::Line(queued())));
        assert!(matches!(left[1], (LimitId(1), Leaving::Done(_))), "{left:?}");
        assert_eq!(journey.check_invariants(), Ok(()));
    };
    check(|journey, now| journey.on_abandoned(now), None, Reason::ClientGone);
    check(
        |journey, now| journey.on_request_body(now, Milestone::Aborted),
        Some(Action::Reply(Reason::ClientAborted)),
        Reason::ClientAborted,
    );
    check(|journey, now| journey.tick(now), Some(Action::Reply(Reason::StreamIdle)), Reason::StreamIdle);

    let view = Scripted::default();
    view.says.borrow_mut().push((LimitId(2), waiting));
    let mut journey = begin(&snapshot, &mut worker, at(0), &view);
    journey.next_action();
    view.claim.set(Some(Claim::Refused(Reason::BulkheadTimeout)));
    journey.on_turn(at(100), &snapshot, &mut worker, &view, &mut ());
    assert_eq!(journey.next_action(), Some(Action::Reply(Reason::BulkheadTimeout)));
    journey.leave(at(100), &snapshot, &view);
    assert_eq!(view.left.borrow().len(), 2, "its queued had ended with the claim");
}

type Shared = (Bulkhead, Cell<u64>, RefCell<Queue>);

/// Bulkheads as the shell has them, in one thread.
struct Bulkheads {
    limits: Vec<Option<Shared>>,
    next: Cell<u64>,
    woken: RefCell<Vec<u64>>,
}

impl Bulkheads {
    fn of(snapshot: &Snapshot) -> Bulkheads {
        let limits = snapshot.limits.all.iter().map(|limit| match limit.limit {
            Limit::Bulkhead(settings) => Some((settings, Cell::new(0), RefCell::new(Queue::new(settings)))),
            _ => None,
        });
        Bulkheads { limits: limits.collect(), next: Cell::new(0), woken: RefCell::default() }
    }

    fn take_woken(&self, waiter: u64) -> bool {
        let mut woken = self.woken.borrow_mut();
        let before = woken.len();
        woken.retain(|known| *known != waiter);
        woken.len() < before
    }

    fn get(&self, limit: LimitId) -> Option<&Shared> {
        self.limits[limit.index()].as_ref()
    }
}

impl View for Bulkheads {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn pass(&self, now: Instant, limit: LimitId, _: &mut Chance) -> Pass {
        let Some((settings, word, queue)) = self.get(limit) else { return Pass::Admitted };
        match bulkhead::enter(word, settings) {
            Entry::Admitted => Pass::Admitted,
            Entry::Refused(reason) => Pass::Refused(reason),
            Entry::Ask | Entry::Queued { .. } => {
                let waiter = Waiter(self.next.replace(self.next.get() + 1));
                match queue.borrow_mut().enter(now, waiter, word) {
                    Entry::Queued { ticket, deadline } => {
                        Pass::InLine { queued: Queued { ticket, waiter }, deadline }
                    }
                    Entry::Refused(reason) => Pass::Refused(reason),
                    Entry::Admitted | Entry::Ask => Pass::Admitted,
                }
            }
        }
    }

    fn claim(&self, now: Instant, limit: LimitId, queued: Queued) -> Claim {
        let (_, word, queue) = self.get(limit).unwrap();
        queue.borrow_mut().claim(now, queued.ticket, word)
    }

    fn leave(&self, now: Instant, limit: LimitId, leaving: Leaving) {
        let Some((_, word, queue)) = self.get(limit) else { return };
        let woken = match leaving {
            Leaving::Done(_) if bulkhead::release(word) => None,
            Leaving::Done(_) => queue.borrow_mut().on_released(now, word),
            Leaving::Line(queued) => queue.borrow_mut().on_left(now, queued.ticket, word),
        };
        self.woken.borrow_mut().extend(woken.map(|waiter| waiter.0));
    }
}

struct Traveller {
    journey: Journey,
    waiter: Option<u64>,
    attempt: AttemptId,
    is_behind: bool,
}

#[test]
fn every_permit_comes_back_once_whatever_happens() {
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..512, |seed| seed..seed + 1) {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut chance = Chance::split(seed, "limits");
    let mut bulkhead =
        || bulkhead_of(1 + chance.below(3) as u32, chance.below(4) as u32, 1 + chance.below(120));
    let (route, cluster) = (bulkhead(), bulkhead());
    let snapshot = snapshot(all("route", route), all("cluster", cluster));
    let view = Bulkheads::of(&snapshot);
    let mut worker = worker(&snapshot);
    let mut now = at(1);
    let mut travellers: Vec<Traveller> = Vec::new();
    for _ in 0..160 {
        now = Instant(now.0 + chance.below(15_000_000));
        let count = travellers.len();
        if count > 0 {
            let Traveller { journey, attempt, .. } = &mut travellers[chance.below(count as u64) as usize];
            let failed = Failure {
                stage: Stage::Connect,
                reason: Reason::ConnectFailure,
                sent: Sent::No,
                is_reused: false,
                is_replayable: true,
            };
            let mut tell = |journey: &mut Journey, event| {
                journey.on_attempt(now, &snapshot, *attempt, event, &mut worker, &view);
            };
            match chance.below(10) {
                0 | 1 => tell(
                    journey,
                    AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true },
                ),
                2 => tell(
                    journey,
                    AttemptEvent::Head { status: 503, has_ended: true, headers: None, is_replayable: true },
                ),
                3 => tell(journey, AttemptEvent::Failed(failed)),
                4 => journey.on_request_body(now, Milestone::Aborted),
                5 | 6 => journey.on_response_body(now, Milestone::End),
                // Woken for nothing.
                7 => journey.on_turn(now, &snapshot, &mut worker, &view, &mut ()),
                8 => journey.on_abandoned(now),
                _ => journey.on_progress(now),
            }
        }
        if travellers.len() < 8 && chance.below(3) == 0 {
            let journey = begin(&snapshot, &mut worker, now, &view);
            travellers.push(Traveller { journey, waiter: None, attempt: AttemptId(0), is_behind: false });
        }
        // What is due, and what follows from it, until nothing does.
        let mut has_more = true;
        while has_more {
            has_more = false;
            for traveller in &mut travellers {
                let mut drain = |traveller: &mut Traveller| {
                    while let Some(action) = traveller.journey.next_action() {
                        has_more = true;
                        match action {
                            Action::Wait { queued, .. } => {
                                traveller.waiter = queued.map(|queued| queued.waiter.0);
                            }
                            Action::Look => {
                                traveller.journey.on_turn(now, &snapshot, &mut worker, &view, &mut ());
                            }
                            Action::Due => {
                                let journey = &mut traveller.journey;
                                journey.on_due(now, &snapshot, true, &mut worker, &view, &mut ());
                            }
                            Action::Send { attempt, .. } => {
                                traveller.attempt = attempt;
                                traveller.is_behind = true;
                            }
                            Action::Reply(reason) => {
                                traveller.journey.leave(now, &snapshot, &view);
                                traveller.is_behind = false;
                                traveller.journey.on_reply(now, reason.status(), None);
                            }
                            _ => {}
                        }
                    }
                };
                drain(traveller);
                traveller.journey.tick(now);
                drain(traveller);
                if traveller.waiter.is_some_and(|waiter| view.take_woken(waiter)) {
                    traveller.journey.on_turn(now, &snapshot, &mut worker, &view, &mut ());
                    has_more = true;
                }
                if let Err(wrong) = traveller.journey.check_invariants() {
                    panic!("NARU_SEED={seed}: {wrong}");
                }
            }
            travellers.retain_mut(|traveller| {
                if traveller.journey.has_ended() {
                    traveller.journey.leave(now, &snapshot, &view);
                    has_more = true;
                }
                !traveller.journey.has_ended()
            });
        }
        let behind = travellers.iter().filter(|traveller| traveller.is_behind).count() as u32;
        for (settings, word, queue) in view.limits.iter().flatten() {
            let active = bulkhead::active(word.get());
            assert!(active <= settings.concurrency_max, "NARU_SEED={seed}: {active} of {settings:?}");
            assert!(active >= behind, "NARU_SEED={seed}: {behind} have passed, {active} are counted");
            queue
                .borrow()
                .check_invariants(word.get())
                .unwrap_or_else(|wrong| panic!("NARU_SEED={seed}: {wrong}"));
        }
    }
    for traveller in &mut travellers {
        traveller.journey.on_abandoned(now);
        traveller.journey.leave(now, &snapshot, &view);
    }
    for (_, word, _) in view.limits.iter().flatten() {
        assert_eq!(word.get(), 0, "NARU_SEED={seed}: something was not given back");
    }
}
