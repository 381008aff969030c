//! The breaker of a recommendation service, by hand: a window of 10 calls, half of them may not
//! fail, 30 s of waiting, 5 calls that try, and 3 s that a call may take.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_guard::{AttemptResult, Breaker, BreakerChange, Entry, Gate, RefusedBy, Ticket};
use naru_spec::{AfterHalfOpen, BreakerState, CircuitBreaker, Percent, WaitInOpen, Window};

use BreakerState::{Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open};

fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

fn settings() -> CircuitBreaker {
    CircuitBreaker {
        window: Window::Count(10),
        failure_rate: Percent::whole(50),
        wait_in_open: WaitInOpen::Fixed(Duration::from_secs(30)),
        trial_calls: 5,
        slow_call_duration: Duration::from_secs(3),
        ..CircuitBreaker::default()
    }
}

/// A worker and the owner in one.
struct World {
    breaker: Breaker,
    word: Gate,
    changes: Vec<BreakerChange>,
}

impl World {
    fn new(settings: CircuitBreaker) -> World {
        let breaker = Breaker::new(at(0), settings, Chance::new(1));
        World { word: breaker.gate(), breaker, changes: Vec::new() }
    }

    fn enter(&mut self, millis: u64) -> Result<Ticket, RefusedBy> {
        match self.word.enter(at(millis), 0) {
            Entry::Pass => Ok(self.word.ticket()),
            Entry::Take(next) => {
                self.word = next;
                Ok(next.ticket())
            }
            Entry::Refuse { by, .. } => Err(by),
        }
    }

    fn end(&mut self, millis: u64, ticket: Ticket, result: AttemptResult, took: u64) {
        self.breaker.on_outcome(at(millis), ticket, result, Duration::from_millis(took), &mut self.changes);
        self.publish();
    }

    fn publish(&mut self) {
        for change in self.changes.drain(..) {
            match change {
                BreakerChange::Transition(transition) => {
                    self.word = transition.gate.unwrap_or(self.word);
                }
                BreakerChange::GiveBack(ticket) => {
                    self.word = self.word.give_back(ticket).expect("a trial was taken");
                }
                BreakerChange::WouldOpen { .. } => {}
            }
        }
        self.breaker.check_invariants().unwrap();
    }

    /// A call from beginning to end; whether it was let in.
    fn call(&mut self, millis: u64, result: AttemptResult, took: u64) -> Result<(), RefusedBy> {
        let ticket = self.enter(millis)?;
        self.end(millis + took, ticket, result, took);
        Ok(())
    }

    fn tick(&mut self, millis: u64) {
        self.breaker.tick(at(millis), &mut self.changes);
        self.publish();
    }

    /// Ten calls that fail.
    fn trip(&mut self, millis: u64) {
        for _ in 0..10 {
            self.call(millis, FAIL, 0).unwrap();
        }
        assert_eq!(self.word.state(), Open);
    }
}

const OK: AttemptResult = AttemptResult::Answered { status: 200, grpc: naru_guard::Grpc::None };
const FAIL: AttemptResult = AttemptResult::Answered { status: 503, grpc: naru_guard::Grpc::None };
const LATE: AttemptResult = AttemptResult::TimedOut { is_connected: true };

#[test]
fn the_table_of_the_seed() {
    // When, what, how long, whether it is let in, what the breaker is then, failures in the window.
    let shut = Err(RefusedBy::Open);
    #[rustfmt::skip]
    let table = [
        (     0, OK,   100, Ok(()), Closed,   0),
        (   100, OK,   100, Ok(()), Closed,   0),
        (   200, FAIL, 100, Ok(()), Closed,   1),
        (   300, FAIL, 100, Ok(()), Closed,   2),
        (   400, FAIL, 100, Ok(()), Closed,   3),
        (   500, LATE, 100, Ok(()), Closed,   4),
        // All of these are failures by now, but nine calls are not enough.
        (   600, OK,   100, Ok(()), Closed,   4),
        (   700, OK,   100, Ok(()), Closed,   4),
        (   800, OK,   100, Ok(()), Closed,   4),
        // The tenth: four of ten.
        (   900, OK,   100, Ok(()), Closed,   4),
        // The two oldest successes leave the window. Five of ten is at the threshold.
        ( 1_000, OK,   100, Ok(()), Closed,   4),
        ( 1_100, FAIL, 100, Ok(()), Open,     5),
        ( 1_200, OK,     0, shut,   Open,     5),
        (31_199, OK,     0, shut,   Open,     5),
        // It opened at 1,200, when the call came back. After 30 s the first call tries.
        (31_200, OK,   100, Ok(()), HalfOpen, 0),
        (31_300, FAIL, 100, Ok(()), HalfOpen, 1),
        (31_400, OK,   100, Ok(()), HalfOpen, 1),
        (31_500, LATE, 100, Ok(()), HalfOpen, 2),
        // Three of five.
        (31_600, FAIL, 100, Ok(()), Open,     3),
        (61_699, OK,     0, shut,   Open,     3),
        (61_700, OK,   100, Ok(()), HalfOpen, 0),
        (61_800, FAIL, 100, Ok(()), HalfOpen, 1),
        (61_900, FAIL, 100, Ok(()), HalfOpen, 2),
        (62_000, OK,   100, Ok(()), HalfOpen, 2),
        // Two of five: closed, with nothing remembered.
        (62_100, OK,   100, Ok(()), Closed,   0),
        (62_200, FAIL, 100, Ok(()), Closed,   1),
    ];
    let mut world = World::new(settings());
    for (row, (millis, result, took, entry, state, failed)) in table.into_iter().enumerate() {
        assert_eq!(world.call(millis, result, took), entry, "row {row}");
        assert_eq!(world.word.state(), state, "row {row}");
        assert_eq!(world.breaker.state(), state, "row {row}");
        assert_eq!(world.breaker.metrics(at(millis + took)).failed_calls, failed, "row {row}");
    }
}

#[test]
fn five_try_at_once_and_the_sixth_is_kept_out() {
    let mut world = World::new(settings());
    world.trip(0);
    let tickets: Vec<Ticket> = (0..5).map(|_| world.enter(30_000).unwrap()).collect();
    assert_eq!(world.enter(30_000), Err(RefusedBy::HalfOpen));
    assert_eq!(world.enter(90_000), Err(RefusedBy::HalfOpen), "as long as there is no verdict");
    for (nth, ticket) in tickets.into_iter().enumerate() {
        assert!(ticket.is_trial);
        world.end(31_000, ticket, OK, 1_000);
        assert_eq!(world.word.state(), if nth < 4 { HalfOpen } else { Closed });
    }
}

#[test]
fn a_trial_without_a_verdict_is_made_by_another() {
    let mut world = World::new(settings());
    world.trip(0);
    let gone = world.enter(30_000).unwrap();
    for _ in 0..4 {
        world.enter(30_000).unwrap();
    }
    assert_eq!(world.enter(30_000), Err(RefusedBy::HalfOpen));
    world.end(30_500, gone, AttemptResult::Abandoned, 500);
    assert!(world.enter(30_500).is_ok());
    assert_eq!(world.enter(30_500), Err(RefusedBy::HalfOpen));
}

#[test]
fn what_callers_and_the_owner_begin_at_once_is_told_apart() {
    let mut world = World::new(settings());
    world.trip(0);
    let of_callers = world.enter(30_000).unwrap();
    // The owner does not know of it, and lets others try.
    world.breaker.force(at(30_000), HalfOpen, &mut world.changes);
    world.publish();
    world.enter(30_001).unwrap();
    assert_eq!(world.word.give_back(of_callers), None, "it was not taken from these");
}

#[test]
fn slow_calls_count_in_both_classes() {
    let mut world = World::new(CircuitBreaker { slow_call_rate: Percent::whole(60), ..settings() });
    for (nth, took) in [3_001, 3_000, 3_001, 10, 3_001, 3_001, 10, 10, 10].into_iter().enumerate() {
        world.call(nth as u64, if took == 3_001 && nth == 0 { FAIL } else { OK }, took).unwrap();
    }
    let metrics = world.breaker.metrics(at(9_000));
    assert_eq!((metrics.slow_calls, metrics.failed_calls, metrics.failure_rate), (4, 1, None));
    world.call(10, OK, 3_001).unwrap();
    assert_eq!(world.word.state(), Closed, "five of ten");
    world.call(11, OK, 3_001).unwrap();
    assert_eq!(world.word.state(), Closed, "a slow one left the window as well");
    world.call(12, OK, 3_001).unwrap();
    assert_eq!(world.word.state(), Open, "a fast one left: six of ten");
    let metrics = world.breaker.metrics(at(20_000));
    assert_eq!((metrics.slow_call_rate, metrics.failure_rate), (Some(6_000), Some(0)));
}

#[test]
fn a_call_that_began_before_counts_in_the_state_that_it_finds() {
    for ignores_late_calls in [false, true] {
        let mut world = World::new(CircuitBreaker { ignores_late_calls, ..settings() });
        let late: Vec<Ticket> = (0..6).map(|_| world.enter(0).unwrap()).collect();
        world.trip(0);
        world.end(10_000, late[0], FAIL, 10_000);
        assert_eq!(world.word.state(), Open);
        world.call(30_000, OK, 0).unwrap();
        for ticket in &late[1..5] {
            world.end(31_000, *ticket, LATE, 31_000);
        }
        // Four of five failed, though only one of them tried anything.
        let expected = if ignores_late_calls { HalfOpen } else { Open };
        assert_eq!(world.word.state(), expected);
        world.end(31_000, late[5], AttemptResult::Abandoned, 31_000);
        assert_eq!(world.word.state(), expected, "it has no trial to give back");
    }
}

#[test]
fn a_timer_begins_half_open_where_it_is_asked_to() {
    let mut world = World::new(CircuitBreaker { automatic_half_open: true, ..settings() });
    world.trip(0);
    assert_eq!(world.breaker.deadline(), Some(at(30_000)));
    assert_eq!(world.enter(30_001), Err(RefusedBy::Open), "the timer is late, and it is its turn");
    world.tick(29_999);
    assert_eq!(world.word.state(), Open);
    world.tick(30_002);
    assert_eq!((world.word.state(), world.word.trials_left()), (HalfOpen, Some(5)));
    assert_eq!(world.breaker.deadline(), None);
}

#[test]
fn a_half_open_that_takes_too_long_ends_as_it_is_told_to() {
    for (after, expected) in [(AfterHalfOpen::Open, Open), (AfterHalfOpen::Closed, Closed)] {
        let mut world = World::new(CircuitBreaker {
            max_wait_in_half_open: Some(Duration::from_secs(2)),
            after_half_open: after,
            ..settings()
        });
        world.trip(0);
        world.enter(40_000).unwrap();
        assert_eq!(world.breaker.deadline(), None, "nobody has told the owner");
        world.breaker.on_half_open(at(40_000), world.word, &mut world.changes);
        world.publish();
        assert_eq!(world.word.trials_left(), Some(4), "what was taken stays taken");
        assert_eq!(world.breaker.deadline(), Some(at(42_000)));
        world.tick(41_999);
        assert_eq!(world.word.state(), HalfOpen);
        world.tick(42_000);
        assert_eq!(world.word.state(), expected);
    }
}

#[test]
fn each_opening_in_a_row_waits_longer_and_a_closing_begins_anew() {
    let (initial, max) = (Duration::from_secs(10), Duration::from_secs(35));
    let wait_in_open = WaitInOpen::Exponential { initial, multiplier: 2_000, max, randomization: 0 };
    let mut world = World::new(CircuitBreaker { wait_in_open, trial_calls: 1, ..settings() });
    world.trip(0);
    let mut now = 0;
    for wait in [10_000, 20_000, 35_000, 35_000] {
        assert_eq!(world.word.until(), Some(at(now + wait)));
        now += wait;
        world.call(now, FAIL, 0).unwrap();
    }
    now += 35_000;
    world.call(now, OK, 0).unwrap();
    assert_eq!(world.word.state(), Closed);
    world.trip(now);
    assert_eq!(world.word.until(), Some(at(now + 10_000)));
}

#[test]
fn what_has_closed_lets_a_growing_part_pass_and_opens_again_where_that_fails() {
    let mut world =
        World::new(CircuitBreaker { ramp: Duration::from_secs(10), trial_calls: 1, ..settings() });
    world.trip(0);
    world.call(30_000, OK, 0).unwrap();
    assert_eq!(world.word.state(), Closed);
    let passing = |world: &World, millis| {
        let mut chance = Chance::new(9);
        (0..1_000).filter(|_| world.word.enter(at(millis), chance.draw()) == Entry::Pass).count()
    };
    let shares = [30_000, 35_000, 39_000, 40_000].map(|millis| passing(&world, millis));
    assert!(shares[0] == 0 && shares[1].abs_diff(500) < 60 && shares[2].abs_diff(900) < 40);
    assert_eq!(shares[3], 1_000);
    let ticket = world.word.ticket();
    for _ in 0..10 {
        world.end(35_000, ticket, FAIL, 10);
    }
    assert_eq!(world.word.state(), Open);
}

#[test]
fn the_states_that_only_somebody_makes() {
    let mut world = World::new(settings());
    let force = |world: &mut World, state| {
        world.breaker.force(at(1), state, &mut world.changes);
        world.publish();
        assert_eq!((world.word.state(), world.breaker.state()), (state, state));
    };
    force(&mut world, ForcedOpen);
    assert_eq!(world.enter(1_000_000), Err(RefusedBy::ForcedOpen));
    force(&mut world, Disabled);
    for _ in 0..20 {
        world.call(2, FAIL, 0).unwrap();
    }
    assert_eq!(world.breaker.metrics(at(2)).buffered_calls, 0);
    force(&mut world, MetricsOnly);
    let mut told = 0;
    for _ in 0..20 {
        let ticket = world.enter(3).unwrap();
        world.breaker.on_outcome(at(3), ticket, FAIL, Duration::ZERO, &mut world.changes);
        let would_open = BreakerChange::WouldOpen { failure_rate: true, slow_call_rate: false };
        told += world.changes.drain(..).filter(|change| *change == would_open).count();
    }
    assert_eq!((told, world.word.state()), (1, MetricsOnly));
    assert_eq!(world.breaker.metrics(at(3)).failure_rate, Some(10_000));
    force(&mut world, HalfOpen);
    force(&mut world, Closed);
    assert_eq!(world.breaker.metrics(at(3)).buffered_calls, 0);
    force(&mut world, Open);
    assert_eq!(world.word.until(), Some(at(30_001)));
}

#[test]
fn what_is_open_stays_open_under_other_settings() {
    let mut world = World::new(settings());
    world.trip(0);
    let other = CircuitBreaker { trial_calls: 2, ..settings() };
    world.breaker.set_settings(at(5), other.clone(), &mut world.changes);
    world.publish();
    assert_eq!((world.word.state(), world.word.until()), (Open, Some(at(30_000))));
    world.enter(30_000).unwrap();
    world.enter(30_000).unwrap();
    assert_eq!(world.enter(30_000), Err(RefusedBy::HalfOpen));
    let fewer = CircuitBreaker { trial_calls: 1, ..settings() };
    world.breaker.on_half_open(at(30_000), world.word, &mut world.changes);
    world.breaker.set_settings(at(30_001), fewer, &mut world.changes);
    world.publish();
    world.call(30_002, OK, 0).unwrap();
    assert_eq!(world.word.state(), Closed);
}
