//! What a journey does where answers are kept.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use http::{HeaderMap, Method};
use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_journey::{
    Action, AttemptEvent, Failure, Journey, Looked, Sent, Snapshot, Stage, Stale, View, Worker,
};
use naru_spec::{CachePolicy, Fallback, FallbackAnswer, FallbackOn, FallbackStep};

/// Nobody is busy.
struct Idle;

impl View for Idle {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }
}

struct Case {
    snapshot: Snapshot,
    worker: Worker,
    journey: Journey,
}

fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

impl Case {
    fn begin(method: &Method, is_kept: bool, fallback: Option<Fallback>) -> Case {
        let snapshot = common::snapshot(|_, forward, _| {
            forward.cache = is_kept.then(|| Box::new(CachePolicy::default()));
            forward.fallback = fallback;
            forward.timeout = Some(Duration::from_secs(1));
        });
        let mut worker = common::worker(&snapshot, 1, 1);
        let asked = common::Asked { method, headers: &HeaderMap::new(), facts: common::facts(method, true) };
        let journey = common::begin(at(0), &snapshot, &asked, &mut worker, &Idle);
        Case { snapshot, worker, journey }
    }

    fn looked(&mut self, looked: Looked) -> Option<Action> {
        self.journey.on_looked(at(1), &self.snapshot, looked, &mut self.worker, &Idle, &mut ());
        self.journey.next_action()
    }

    fn hear(&mut self, now: Instant, event: AttemptEvent<'_>) -> Vec<Action> {
        self.journey.on_attempt(now, &self.snapshot, AttemptId(0), event, &mut self.worker, &Idle);
        assert_eq!(self.journey.check_invariants(), Ok(()));
        std::iter::from_fn(|| self.journey.next_action()).collect()
    }

    fn head(&mut self, now: Instant, status: u16) -> Vec<Action> {
        self.hear(now, AttemptEvent::Head { status, has_ended: true, headers: None, is_replayable: true })
    }

    fn fail(&mut self, now: Instant) -> Vec<Action> {
        let failure = Failure {
            stage: Stage::Exchange,
            reason: Reason::UpstreamClosed,
            sent: Sent::Maybe,
            is_reused: false,
            is_replayable: true,
        };
        self.hear(now, AttemptEvent::Failed(failure))
    }
}

const ASKED: Stale = Stale { is_asked_about: true, until: None, is_there: true };

#[test]
fn a_request_is_looked_up_where_its_answer_may_be_kept_or_changes_something() {
    for (method, is_kept, expected) in [
        (Method::GET, true, true),
        (Method::HEAD, true, true),
        (Method::OPTIONS, true, false),
        (Method::POST, true, true),
        (Method::GET, false, false),
        (Method::POST, false, false),
    ] {
        let mut case = Case::begin(&method, is_kept, None);
        assert_eq!(case.journey.peek_action() == Some(Action::Lookup), expected, "{method} {is_kept}");
        assert_eq!(case.journey.check_invariants(), Ok(()));
        case.journey.on_abandoned(at(2));
        assert!(case.journey.has_ended());
    }
}

#[test]
fn what_is_there_is_the_answer_and_else_it_goes_on() {
    for (looked, expected) in
        [(Looked::Found, Action::Reply(Reason::CacheHit)), (Looked::Absent, Action::Reply(Reason::NotCached))]
    {
        let mut case = Case::begin(&Method::GET, true, None);
        case.journey.next_action();
        assert_eq!(case.looked(looked), Some(expected));
    }
    let mut case = Case::begin(&Method::GET, true, None);
    case.journey.next_action();
    assert!(matches!(case.looked(Looked::Fetch(Stale::default())), Some(Action::Send { .. })));
    assert!(matches!(case.head(at(2), 200)[..], [Action::Forward { .. }]));
}

#[test]
fn nobody_waits_longer_than_the_route_allows() {
    let mut case = Case::begin(&Method::GET, true, None);
    assert_eq!(case.journey.next_action(), Some(Action::Lookup));
    case.journey.tick(at(1_000));
    assert_eq!(case.journey.next_action(), Some(Action::Reply(Reason::RouteTimeout)));
    assert_eq!(case.looked(Looked::Found), None, "it comes too late");
}

#[test]
fn what_has_not_changed_is_given_and_a_304_that_nobody_asked_for_goes_on() {
    for (stale, expected) in [(ASKED, Some(Reason::CacheValidated)), (Stale::default(), None)] {
        let mut case = Case::begin(&Method::GET, true, None);
        case.journey.next_action();
        case.looked(Looked::Fetch(stale));
        let last = case.head(at(2), 304).pop().unwrap();
        match expected {
            Some(reason) => assert_eq!(last, Action::Reply(reason)),
            None => assert!(matches!(last, Action::Forward { .. })),
        }
    }
}

#[test]
fn a_failure_is_replaced_for_as_long_as_it_may_be() {
    let stale = Stale { until: Some(at(100)), ..ASKED };
    for (now, is_given) in [(100, true), (101, false)] {
        let begin = || {
            let mut case = Case::begin(&Method::GET, true, None);
            case.journey.next_action();
            case.looked(Looked::Fetch(stale));
            case
        };
        let is_stale = |actions: Vec<Action>| actions.last() == Some(&Action::Reply(Reason::CacheStale));
        assert_eq!(is_stale(begin().fail(at(now))), is_given);
        assert_eq!(is_stale(begin().head(at(now), 503)), is_given);
        assert!(!is_stale(begin().head(at(now), 404)));
    }
}

#[test]
fn a_fallback_gives_what_is_kept_before_what_it_says_itself() {
    let said = FallbackAnswer { status: http::StatusCode::OK, headers: Vec::new(), body: Vec::new() };
    let chain = Fallback {
        on: FallbackOn::default(),
        steps: vec![FallbackStep::StaleResponse, FallbackStep::Answer(said)],
    };
    for (stale, expected) in [(ASKED, Reason::CacheStale), (Stale::default(), Reason::UpstreamClosed)] {
        let mut case = Case::begin(&Method::GET, true, Some(chain.clone()));
        case.journey.next_action();
        case.looked(Looked::Fetch(stale));
        assert_eq!(case.fail(at(2)).last(), Some(&Action::Reply(expected)));
        let is_said = case.journey.fallback_answer(&case.snapshot).is_some();
        assert_eq!(is_said, expected == Reason::UpstreamClosed);
    }
    let mut case = Case::begin(&Method::GET, true, Some(chain));
    case.journey.next_action();
    case.looked(Looked::Fetch(ASKED));
    case.journey.tick(at(1_000));
    let last = std::iter::from_fn(|| case.journey.next_action()).last();
    assert_eq!(last, Some(Action::Reply(Reason::CacheStale)), "also where all time has passed");
}
