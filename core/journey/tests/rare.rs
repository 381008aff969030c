//! What few requests have: failures that are made on purpose, attempts beside each other, tries on which nothing
//! moves, timeouts that follow what is observed, deadlines of callers. And a seeded walk over all of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "whoever runs a walk may name its seed")]

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::{Asked, facts, worker};
use http::{HeaderMap, Method, StatusCode};
use naru_base::share::Denominator;
use naru_base::{AttemptId, Chance, ClusterId, EndpointId, Fraction, Instant, Reason};
use naru_guard::{AttemptResult, Gate};
use naru_journey::{
    Action, Admission, AttemptEvent, Cause, Failure, Journey, Milestone, Outcome, RequestFacts, Sent,
    Snapshot, Stage, View, Wait, Worker, outgoing,
};
use naru_spec::{
    Abort, AbortBy, AutoTimeout, Delay, DelayBy, Fault, FaultScope, Forward, Hedge, RetryOn, RetryPolicy,
};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// A cluster that is guarded, and how many of those it let in have been told of.
#[derive(Default)]
struct Watched {
    admitted: Cell<u32>,
    faults: Cell<u32>,
}

impl View for Watched {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn enter(&self, _: Instant, _: ClusterId, _: &mut Chance) -> Admission {
        self.admitted.set(self.admitted.get() + 1);
        Admission::Admitted(Some(Gate::CLOSED.ticket()))
    }

    fn faults_active(&self) -> u32 {
        self.faults.get()
    }
}

struct Ride {
    snapshot: Snapshot,
    worker: Worker,
    view: Watched,
    journey: Journey,
    now: Instant,
}

fn snapshot(change: impl FnOnce(&mut Forward)) -> Snapshot {
    common::snapshot(|_, forward, _| change(forward))
}

impl Ride {
    fn new(change: impl FnOnce(&mut Forward)) -> Ride {
        Ride::with(snapshot(change), &HeaderMap::new(), facts(&Method::GET, true))
    }

    fn with(snapshot: Snapshot, headers: &HeaderMap, facts: RequestFacts) -> Ride {
        let mut worker = worker(&snapshot, 3, 1);
        let view = Watched::default();
        let asked = Asked { method: &Method::GET, headers, facts };
        let journey = common::begin(at(0), &snapshot, &asked, &mut worker, &view);
        Ride { snapshot, worker, view, journey, now: at(0) }
    }

    fn sent(&mut self) -> (AttemptId, EndpointId, Cause) {
        match self.next() {
            Some(Action::Send { attempt, endpoint, cause, .. }) => (attempt, endpoint, cause),
            other => panic!("{other:?}"),
        }
    }

    /// The next action that is not only about time.
    fn next(&mut self) -> Option<Action> {
        let action = self.journey.next_action();
        self.journey.check_invariants().unwrap();
        if action != Some(Action::Due) {
            return action;
        }
        let Ride { snapshot, worker, view, now, .. } = self;
        self.journey.on_due(*now, snapshot, true, worker, view, &mut ());
        self.next()
    }

    /// Until the next deadline, which is for `wait`.
    fn pass(&mut self, wait: Wait) {
        let (at, waits) = self.journey.deadline().unwrap();
        assert_eq!(waits, wait);
        self.now = at;
        self.journey.tick(at);
    }

    fn hear(&mut self, id: AttemptId, event: AttemptEvent<'_>) {
        let Ride { snapshot, worker, view, now, .. } = self;
        self.journey.on_attempt(*now, snapshot, id, event, worker, view);
        self.journey.check_invariants().unwrap();
    }

    fn head(&mut self, id: AttemptId, status: u16) {
        let has_ended = true;
        self.hear(id, AttemptEvent::Head { status, has_ended, headers: None, is_replayable: true });
    }

    fn replied(&mut self, status: u16) -> Outcome {
        self.journey.on_reply(self.now, status, None);
        self.journey.on_response_body(self.now, Milestone::End);
        self.journey.outcome().unwrap()
    }

    fn results(&mut self) -> Vec<(u32, AttemptResult)> {
        std::iter::from_fn(|| self.journey.take_report()).map(|told| (told.endpoint.0, told.result)).collect()
    }
}

fn failed() -> AttemptEvent<'static> {
    AttemptEvent::Failed(Failure {
        stage: Stage::Exchange,
        reason: Reason::UpstreamReset,
        sent: Sent::Maybe,
        is_reused: false,
        is_replayable: true,
    })
}

fn fault(delay: Option<u64>, status: Option<u16>, scope: FaultScope) -> Fault {
    let delay = delay.map(|ms| Delay { by: DelayBy::Fixed(MS(ms)), share: Fraction::ALL });
    let by = |status| AbortBy::Status(StatusCode::from_u16(status).unwrap());
    let abort = status.map(|status| Abort { by: by(status), share: Fraction::ALL });
    Fault { scope, ..Fault::new(delay, abort) }
}

#[test]
fn a_delay_comes_before_everything_and_no_timeout_of_the_route_sees_it() {
    let mut ride = Ride::new(|forward| {
        forward.timeout = Some(MS(100));
        forward.fault = Some(fault(Some(400), None, FaultScope::Client));
    });
    assert!(ride.journey.is_in_fault());
    assert_eq!(ride.next(), None);
    assert_eq!(ride.journey.deadline(), Some((at(400), Wait::Fault)));
    ride.pass(Wait::Fault);
    let (attempt, _, Cause::First) = ride.sent() else { panic!() };
    assert_eq!(ride.journey.deadline(), Some((at(500), Wait::Response)), "it begins behind the delay");
    assert_eq!(ride.journey.time_for_upstream(at(410)), Some(MS(90)));
    ride.head(attempt, 200);
    assert_eq!(ride.next(), Some(Action::Forward { attempt }));
    assert_eq!(ride.journey.outcome().unwrap().flags(), "DI");
}

#[test]
fn an_end_answers_for_the_upstream_at_once_or_after_the_delay() {
    for delay in [None, Some(30)] {
        let mut ride = Ride::new(|forward| forward.fault = Some(fault(delay, Some(418), FaultScope::Client)));
        if delay.is_some() {
            assert_eq!(ride.next(), None);
            ride.pass(Wait::Fault);
        }
        assert_eq!(ride.next(), Some(Action::Reply(Reason::FaultInjected)));
        assert_eq!(ride.journey.injected().unwrap().status, 418);
        let outcome = ride.replied(418);
        assert_eq!((outcome.attempts, outcome.reason), (0, Reason::FaultInjected));
        assert_eq!(outcome.flags(), if delay.is_some() { "DI,FI" } else { "FI" });
        assert_eq!(ride.view.admitted.get(), 0, "nobody was asked");
    }
}

#[test]
fn a_client_that_leaves_while_it_is_held_costs_nothing() {
    let mut ride = Ride::new(|forward| forward.fault = Some(fault(Some(30), None, FaultScope::Client)));
    assert_eq!(ride.next(), None);
    ride.journey.on_abandoned(at(10));
    ride.journey.check_invariants().unwrap();
    assert_eq!(ride.journey.outcome().unwrap().reason, Reason::ClientGone);
}

#[test]
fn no_more_requests_than_allowed_are_in_a_fault() {
    let faulty = |forward: &mut Forward| {
        let only = fault(None, Some(500), FaultScope::Client);
        forward.fault = Some(Fault { active_max: Some(2), ..only });
    };
    let snapshot = snapshot(faulty);
    let mut worker = worker(&snapshot, 1, 1);
    let headers = HeaderMap::new();
    let asked = Asked { method: &Method::GET, headers: &headers, facts: facts(&Method::GET, true) };
    for (active, is_in_fault) in [(0, true), (1, true), (2, false)] {
        let view = Watched { faults: Cell::new(active), ..Watched::default() };
        let journey = common::begin(at(0), &snapshot, &asked, &mut worker, &view);
        assert_eq!(journey.is_in_fault(), is_in_fault, "{active}");
    }
}

fn hard(forward: &mut Forward) {
    forward.retry = Some(RetryPolicy { retries_max: 2, ..RetryPolicy::new(RetryOn::SERVER_ERROR) });
}

#[test]
fn a_fault_of_the_upstream_is_retried_like_an_answer_of_it() {
    let mut ride = Ride::new(|forward| {
        hard(forward);
        forward.fault = Some(fault(None, Some(503), FaultScope::Upstream));
    });
    for _ in 0..2 {
        assert!(matches!(ride.next(), Some(Action::Cancel { .. })), "no shell was asked to send it");
        assert_eq!(ride.next(), None);
        ride.pass(Wait::Backoff);
    }
    assert_eq!(ride.next(), Some(Action::Reply(Reason::FaultInjected)));
    let outcome = ride.replied(503);
    assert_eq!((outcome.attempts, outcome.flags()), (3, "URX,FI"));
    assert_eq!(ride.view.admitted.get(), 3);
    // Only the last is still to be told: the shell takes reports after each call.
    let told = ride.results();
    assert!(matches!(told[..], [(_, AttemptResult::Answered { status: 503, .. })]), "{told:?}");
}

#[test]
fn a_delay_of_the_upstream_counts_as_a_slow_try() {
    let mut ride = Ride::new(|forward| {
        let policy = RetryPolicy { retries_max: 1, ..RetryPolicy::new(RetryOn::SERVER_ERROR) };
        forward.retry = Some(RetryPolicy { per_try_timeout: Some(MS(20)), ..policy });
        forward.fault = Some(fault(Some(100), None, FaultScope::Upstream));
    });
    assert_eq!(ride.next(), None);
    ride.pass(Wait::PerTry);
    assert!(matches!(ride.next(), Some(Action::Cancel { .. })));
    assert_eq!(ride.results()[0].1, AttemptResult::TimedOut { is_connected: true });
    ride.pass(Wait::Backoff);
    assert_eq!(ride.next(), None);
    ride.pass(Wait::PerTry);
    assert!(matches!(ride.next(), Some(Action::Cancel { .. })));
    assert_eq!(ride.next(), Some(Action::Reply(Reason::PerTryTimeout)));
    assert_eq!(ride.replied(504).flags(), "DI,URX,UT");

    let mut short = Ride::new(|forward| forward.fault = Some(fault(Some(10), None, FaultScope::Upstream)));
    assert_eq!(short.next(), None);
    short.pass(Wait::Fault);
    let (attempt, _, cause) = short.sent();
    assert_eq!((attempt, cause), (AttemptId(0), Cause::First), "it goes out when the delay is over");
}

fn hedged(forward: &mut Forward) {
    let policy = RetryPolicy { retries_max: 2, ..RetryPolicy::new(RetryOn::SERVER_ERROR) };
    forward.retry = Some(RetryPolicy { per_try_timeout: Some(MS(20)), ..policy });
    forward.hedge = Some(Hedge { on_per_try_timeout: true, ..Hedge::default() });
}

/// The first attempt was slow, and a second is under way beside it.
fn two_beside_each_other() -> (Ride, AttemptId, AttemptId) {
    let mut ride = Ride::new(hedged);
    assert!(ride.journey.may_hedge());
    let (first, at_first, _) = ride.sent();
    ride.journey.on_connected(at(0), first);
    ride.pass(Wait::PerTry);
    assert_eq!(ride.next(), None, "it is not given up");
    let told = ride.results();
    assert_eq!(told, [(at_first.0, AttemptResult::TimedOut { is_connected: true })]);
    ride.pass(Wait::Backoff);
    let (second, at_second, cause) = ride.sent();
    assert_eq!(cause, Cause::Retry);
    assert_ne!(at_first, at_second);
    assert_eq!(ride.journey.beside().collect::<Vec<_>>(), [(first, at_first)]);
    (ride, first, second)
}

#[test]
fn the_first_answer_wins_and_the_other_attempt_is_given_up() {
    for late in [false, true] {
        let (mut ride, first, second) = two_beside_each_other();
        let winner = if late { second } else { first };
        ride.head(winner, 200);
        assert_eq!(ride.next(), Some(Action::Forward { attempt: winner }));
        assert_eq!(ride.journey.beside().count(), 0);
        let told = ride.results();
        let abandoned = told.iter().filter(|(_, result)| *result == AttemptResult::Abandoned).count();
        // What became of the first was told when it was slow.
        assert_eq!((told.len(), abandoned), (1, usize::from(!late)), "{told:?}");
        assert_eq!(ride.journey.outcome().unwrap().attempts, 2);
    }
}

#[test]
fn a_failure_beside_another_attempt_ends_nothing() {
    for late in [false, true] {
        let (mut ride, first, second) = two_beside_each_other();
        let (loser, winner) = if late { (second, first) } else { (first, second) };
        ride.hear(loser, failed());
        // The second may be tried once more; the first had its time.
        match (late, ride.journey.deadline()) {
            (true, Some((_, Wait::Backoff))) => {}
            (false, deadline) => assert!(!matches!(deadline, Some((_, Wait::Backoff))), "{deadline:?}"),
            (late, deadline) => panic!("{late} {deadline:?}"),
        }
        assert_eq!(ride.next(), None);
        ride.head(winner, 200);
        assert_eq!(ride.next(), Some(Action::Forward { attempt: winner }));
        assert_eq!(ride.journey.outcome().unwrap().reason, Reason::Forwarded);
    }
}

#[test]
fn the_last_failure_is_the_answer() {
    let mut ride = Ride::new(|forward| {
        hedged(forward);
        if let Some(retry) = &mut forward.retry {
            retry.retries_max = 1;
        }
    });
    let (first, ..) = ride.sent();
    ride.journey.on_connected(at(0), first);
    ride.pass(Wait::PerTry);
    assert_eq!(ride.next(), None);
    ride.pass(Wait::Backoff);
    let (second, ..) = ride.sent();
    ride.hear(second, failed());
    assert_eq!(ride.next(), None, "the first may still answer");
    ride.hear(first, failed());
    assert_eq!(ride.next(), Some(Action::Reply(Reason::UpstreamReset)));
}

#[test]
fn several_attempts_from_the_beginning_wait_for_the_whole_request() {
    for has_ended in [true, false] {
        let several = snapshot(|forward| forward.hedge = Some(Hedge { initial: 3, ..Hedge::default() }));
        let mut ride = Ride::with(several, &HeaderMap::new(), facts(&Method::GET, has_ended));
        let (first, ..) = ride.sent();
        if !has_ended {
            assert_eq!(ride.next(), None);
            ride.journey.on_request_body(at(5), Milestone::End);
        }
        let more = [ride.sent(), ride.sent()];
        assert_eq!(more.map(|(_, _, cause)| cause), [Cause::Hedge; 2]);
        assert_eq!(ride.next(), None);
        ride.hear(more[1].0, failed());
        ride.hear(first, failed());
        assert_eq!(ride.next(), None);
        ride.head(more[0].0, 503);
        assert_eq!(ride.next(), Some(Action::Forward { attempt: more[0].0 }));
        assert_eq!(ride.view.admitted.get(), 3);
    }
    let unsafe_one = snapshot(|forward| forward.hedge = Some(Hedge { initial: 3, ..Hedge::default() }));
    let mut ride = Ride::with(unsafe_one, &HeaderMap::new(), facts(&Method::POST, true));
    ride.sent();
    assert_eq!(ride.next(), None, "what is not idempotent is sent once");
}

#[test]
fn a_try_on_which_nothing_moves_is_given_up_and_a_response_is_broken_off() {
    let idle = |forward: &mut Forward| {
        let policy = RetryPolicy { retries_max: 1, ..RetryPolicy::new(RetryOn::SERVER_ERROR) };
        forward.retry = Some(RetryPolicy { per_try_idle_timeout: Some(MS(20)), ..policy });
    };
    let mut ride = Ride::new(idle);
    let (first, ..) = ride.sent();
    assert!(!matches!(ride.journey.deadline(), Some((_, Wait::PerTryIdle))), "not before it is connected");
    ride.now = at(7);
    ride.journey.on_connected(at(7), first);
    assert_eq!(ride.journey.deadline(), Some((at(27), Wait::PerTryIdle)));
    ride.pass(Wait::PerTryIdle);
    assert_eq!(ride.next(), Some(Action::Cancel { attempt: first }));
    ride.pass(Wait::Backoff);
    let (second, ..) = ride.sent();
    ride.journey.on_connected(ride.now, second);
    let head = AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable: true };
    ride.hear(second, head);
    assert_eq!(ride.next(), Some(Action::Forward { attempt: second }));
    ride.pass(Wait::PerTryIdle);
    assert_eq!(ride.next(), Some(Action::Cancel { attempt: second }));
    assert_eq!(ride.next(), Some(Action::Break(Reason::PerTryIdle)));
    assert_eq!(ride.journey.outcome().unwrap().flags(), "UT");
}

#[test]
fn an_automatic_timeout_follows_what_was_observed() {
    let auto = AutoTimeout { quantile_permille: 990, factor_percent: 200, min: MS(5), max: MS(1_000) };
    let snapshot = snapshot(|forward| {
        forward.timeout = Some(MS(15_000));
        forward.auto_timeout = Some(auto);
    });
    let mut worker = worker(&snapshot, 1, 1);
    let view = Watched::default();
    let headers = HeaderMap::new();
    let asked = Asked { method: &Method::GET, headers: &headers, facts: facts(&Method::GET, true) };
    let timeout = |journey: &Journey, now: Instant| journey.deadline().unwrap().0.since(now);
    let mut now = at(0);
    let first = common::begin(now, &snapshot, &asked, &mut worker, &view);
    assert_eq!(timeout(&first, now), MS(1_000), "while nothing is known");
    for _ in 0..2_000 {
        let mut journey = common::begin(now, &snapshot, &asked, &mut worker, &view);
        now = now + MS(10);
        let head = AttemptEvent::Head { status: 200, has_ended: true, headers: None, is_replayable: true };
        journey.on_attempt(now, &snapshot, AttemptId(0), head, &mut worker, &view);
        assert!(journey.is_timed_automatically(&snapshot));
        journey.teach(&mut worker);
    }
    let then = common::begin(now, &snapshot, &asked, &mut worker, &view);
    assert!((MS(20)..=MS(23)).contains(&timeout(&then, now)), "{:?}", timeout(&then, now));
    // It goes on where the configuration changes and says the same of it.
    let mut next = worker.succeed(&snapshot, &snapshot);
    let after = common::begin(now, &snapshot, &asked, &mut next, &view);
    assert_eq!(timeout(&after, now), timeout(&then, now));
}

#[test]
fn no_hop_outlives_its_caller_and_upstreams_are_told() {
    let patient = RequestFacts { caller_timeout: Some(MS(40)), ..facts(&Method::GET, true) };
    let mut ride = Ride::with(snapshot(|_| {}), &HeaderMap::new(), patient);
    ride.sent();
    assert_eq!(ride.journey.deadline(), Some((at(40), Wait::Response)));
    let mut headers = HeaderMap::new();
    outgoing::tell_time(at(15), &ride.snapshot, &ride.journey, &mut headers);
    assert_eq!(headers["x-naru-deadline-ms"], "25");
    assert_eq!(headers["x-envoy-expected-rq-timeout-ms"], "25");
    assert!(!headers.contains_key("grpc-timeout"));
    ride.pass(Wait::Response);
    assert!(matches!(ride.next(), Some(Action::Cancel { .. })));
    assert_eq!(ride.next(), Some(Action::Reply(Reason::RouteTimeout)));
}

/// Whoever carries actions out, as far as attempts go.
struct Shell {
    under_way: Vec<AttemptId>,
    answers: u32,
    told: u32,
}

impl Shell {
    fn act(&mut self, ride: &mut Ride, chance: &mut Chance) {
        while let Some(action) = ride.journey.next_action() {
            match action {
                Action::Send { attempt, .. } => {
                    assert!(!self.under_way.contains(&attempt));
                    self.under_way.push(attempt);
                }
                Action::Cancel { attempt } => self.under_way.retain(|id| *id != attempt),
                Action::Forward { attempt } => {
                    assert!(self.under_way.contains(&attempt), "an answer of nobody");
                    self.under_way = vec![attempt];
                    self.answers += 1;
                }
                Action::Reply(_) => {
                    self.under_way.clear();
                    self.answers += 1;
                    ride.replied(503);
                }
                Action::Break(_) => self.under_way.clear(),
                Action::Due => {
                    let Ride { snapshot, worker, view, now, .. } = ride;
                    let is_replayable = chance.below(8) > 0;
                    ride.journey.on_due(*now, snapshot, is_replayable, worker, view, &mut ());
                }
                other => panic!("{other:?}"),
            }
            self.listen(ride);
            ride.journey.check_invariants().unwrap();
        }
    }

    fn listen(&mut self, ride: &mut Ride) {
        self.told += std::iter::from_fn(|| ride.journey.take_report()).count() as u32;
    }
}

#[test]
fn every_attempt_ends_once_whatever_happens() {
    let (mut beside, mut delayed, mut injected, mut idle) = (0, 0, 0, 0);
    for seed in 0..1_024 {
        let mut chance = Chance::new(seed);
        let settings = random_route(&mut chance);
        let has_ended = chance.below(2) == 0;
        let mut ride = Ride::with(settings, &HeaderMap::new(), facts(&Method::GET, has_ended));
        let mut shell = Shell { under_way: Vec::new(), answers: 0, told: 0 };
        shell.listen(&mut ride);
        shell.act(&mut ride, &mut chance);
        for _ in 0..60 {
            if ride.journey.has_ended() {
                break;
            }
            random_event(&mut ride, &shell, &mut chance);
            ride.journey.check_invariants().unwrap();
            shell.listen(&mut ride);
            shell.act(&mut ride, &mut chance);
            beside += u32::from(ride.journey.beside().next().is_some());
        }
        ride.journey.on_abandoned(ride.now);
        shell.listen(&mut ride);
        ride.journey.check_invariants().unwrap();
        assert!(shell.answers <= 1, "seed {seed}: answered {} times", shell.answers);
        assert_eq!(shell.told, ride.view.admitted.get(), "seed {seed}: each is told once");
        let outcome = ride.journey.outcome().unwrap();
        delayed += u32::from(outcome.is_delayed);
        injected += u32::from(outcome.reason == Reason::FaultInjected);
        idle += u32::from(outcome.reason == Reason::PerTryIdle);
    }
    assert!(
        beside > 200 && delayed > 100 && injected > 50 && idle > 10,
        "{beside} {delayed} {injected} {idle}"
    );
}

fn random_route(chance: &mut Chance) -> Snapshot {
    let some = |chance: &mut Chance| chance.below(2) == 0;
    let share = |chance: &mut Chance| Fraction::new(chance.below(100) as u32, Denominator::Hundred);
    snapshot(|forward| {
        forward.timeout = some(chance).then_some(MS(200));
        let policy = RetryPolicy::new(RetryOn::SERVER_ERROR);
        forward.retry = Some(RetryPolicy {
            retries_max: chance.below(4) as u32,
            per_try_timeout: some(chance).then_some(MS(10)),
            per_try_idle_timeout: some(chance).then_some(MS(8)),
            ..policy
        });
        forward.hedge = some(chance).then(|| Hedge {
            initial: 1 + chance.below(4) as u32,
            on_per_try_timeout: some(chance),
            ..Hedge::default()
        });
        let delay = Delay { by: DelayBy::Fixed(MS(5)), share: share(chance) };
        let abort = Abort { by: AbortBy::Status(StatusCode::SERVICE_UNAVAILABLE), share: share(chance) };
        let scope = if some(chance) { FaultScope::Client } else { FaultScope::Upstream };
        forward.fault =
            some(chance).then(|| Fault { scope, ..Fault::new(Some(delay), some(chance).then_some(abort)) });
    })
}

fn random_event(ride: &mut Ride, shell: &Shell, chance: &mut Chance) {
    let which = (!shell.under_way.is_empty())
        .then(|| shell.under_way[chance.below(shell.under_way.len() as u64) as usize]);
    match (chance.below(8), which) {
        (0, Some(id)) => ride.journey.on_connected(ride.now, id),
        (1, Some(id)) => ride.hear(id, failed()),
        (2, Some(id)) => ride.head(id, 503),
        (3, Some(id)) if chance.below(4) == 0 => {
            let is_replayable = chance.below(2) == 0;
            ride.hear(id, AttemptEvent::Head { status: 200, has_ended: false, headers: None, is_replayable });
        }
        (4, _) if !ride.journey.has_whole_request() => {
            ride.journey.on_request_body(ride.now, Milestone::End);
        }
        _ => {
            if let Some((at, _)) = ride.journey.deadline() {
                ride.now = ride.now.max(at);
                ride.journey.tick(ride.now);
            }
        }
    }
}
