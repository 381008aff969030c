//! May this call pass? The part of a breaker that every worker touches: one word.
//!
//! | bits  | 3     | 9     | 12             | 40                                   |
//! |-------|-------|-------|----------------|--------------------------------------|
//! | OPEN  | state | epoch | trial calls    | until, in ms                         |
//! | HALF_OPEN | state | epoch | left       | granted                              |
//! | ramp  | state | epoch | 15: its length, in steps of 20 ms; 37: its end, in the same  |
//! | other | state | epoch |                |                                      |
//!
//! The owner of a breaker stores words. A caller reads one, asks it [`Gate::enter`] and, where that
//! takes something, puts the next word in its place by compare-and-swap; where that fails it begins
//! again. So the first call after the wait turns OPEN into HALF_OPEN without the owner, as in
//! Resilience4j, and no more calls try than are permitted, whoever they are made by.
//!
//! An epoch is one state of a breaker. Callers make one more of it (OPEN to HALF_OPEN), the owner
//! two: what both do at the same time differs in its epoch, and the owner's word stands.

use std::fmt;
use std::time::Duration;

use naru_base::Instant;
use naru_base::chance::within;
use naru_spec::BreakerState;

/// The packed word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gate(pub u64);

/// What a call went in with; its outcome comes back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub epoch: u16,
    /// It is one of the calls that try in HALF_OPEN.
    pub is_trial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// With the ticket of the same word.
    Pass,
    /// Once this word stands in the place of the one that was asked; with its ticket.
    Take(Gate),
    Refuse {
        by: RefusedBy,
        retry_after: Option<Duration>,
    },
}

/// What keeps a call out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedBy {
    Open,
    /// All trial calls are on their way.
    HalfOpen,
    /// It has closed, and not all calls pass yet.
    Ramp,
    ForcedOpen,
}

const EPOCH_BITS: u32 = 9;
const EPOCHS: u16 = 1 << EPOCH_BITS;
const EPOCH_SHIFT: u32 = 52;
const STATE_SHIFT: u32 = EPOCH_SHIFT + EPOCH_BITS;
const TRIALS_SHIFT: u32 = 40;
const TRIALS_MAX: u64 = (1 << 12) - 1;
/// 34 years.
const UNTIL_MAX: u64 = (1 << TRIALS_SHIFT) - 1;
const MILLISECOND: u64 = 1_000_000;

const RAMP_STEP: u64 = 20 * MILLISECOND;
const RAMP_SHIFT: u32 = 37;
/// 10 minutes and more.
const RAMP_STEPS_MAX: u64 = (1 << 15) - 1;
/// 87 years.
const RAMP_END_MAX: u64 = (1 << RAMP_SHIFT) - 1;

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const RAMP: u64 = 3;
const DISABLED: u64 = 4;
const METRICS_ONLY: u64 = 5;
const FORCED_OPEN: u64 = 6;

impl Gate {
    /// The word of a breaker that is not there.
    pub const CLOSED: Gate = Gate(0);

    fn new(state: u64, epoch: u16, rest: u64) -> Gate {
        let epoch = u64::from(epoch % EPOCHS);
        Gate(state << STATE_SHIFT | epoch << EPOCH_SHIFT | rest & ((1 << EPOCH_SHIFT) - 1))
    }

    /// A state that needs no more than its name. OPEN and HALF_OPEN need more.
    pub(super) fn plain(state: BreakerState, epoch: u16) -> Gate {
        let state = match state {
            BreakerState::Closed => CLOSED,
            BreakerState::Disabled => DISABLED,
            BreakerState::MetricsOnly => METRICS_ONLY,
            BreakerState::ForcedOpen => FORCED_OPEN,
            BreakerState::Open => return Gate::open(epoch, Instant::ZERO, 0),
            BreakerState::HalfOpen => return Gate::half_open(epoch, 0, 0),
        };
        Gate::new(state, epoch, 0)
    }

    /// Until the first whole millisecond at or after `until`. With `trials` the first call then
    /// turns it to HALF_OPEN; without any it stays until the owner does so.
    pub(super) fn open(epoch: u16, until: Instant, trials: u32) -> Gate {
        let until = until.0.div_ceil(MILLISECOND).min(UNTIL_MAX);
        Gate::new(OPEN, epoch, u64::from(trials).min(TRIALS_MAX) << TRIALS_SHIFT | until)
    }

    pub(super) fn half_open(epoch: u16, left: u32, granted: u32) -> Gate {
        let granted = u64::from(granted).min(TRIALS_MAX);
        Gate::new(HALF_OPEN, epoch, u64::from(left).min(granted) << TRIALS_SHIFT | granted)
    }

    /// CLOSED, and a growing part of the calls passes until `now + length`.
    pub(super) fn ramp(epoch: u16, now: Instant, length: Duration) -> Gate {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let steps = nanos.div_ceil(RAMP_STEP).min(RAMP_STEPS_MAX);
        let end = (now.0 / RAMP_STEP).saturating_add(steps).min(RAMP_END_MAX);
        Gate::new(RAMP, epoch, steps << RAMP_SHIFT | end)
    }

    fn kind(self) -> u64 {
        self.0 >> STATE_SHIFT
    }

    fn low(self) -> u64 {
        self.0 & UNTIL_MAX
    }

    fn trials(self) -> u64 {
        self.0 >> TRIALS_SHIFT & TRIALS_MAX
    }

    pub fn state(self) -> BreakerState {
        match self.kind() {
            OPEN => BreakerState::Open,
            HALF_OPEN => BreakerState::HalfOpen,
            DISABLED => BreakerState::Disabled,
            METRICS_ONLY => BreakerState::MetricsOnly,
            FORCED_OPEN => BreakerState::ForcedOpen,
            // No other word is ever made.
            _ => BreakerState::Closed,
        }
    }

    pub fn epoch(self) -> u16 {
        (self.0 >> EPOCH_SHIFT) as u16 % EPOCHS
    }

    /// Of a call that entered by this word.
    pub fn ticket(self) -> Ticket {
        Ticket { epoch: self.epoch(), is_trial: self.kind() == HALF_OPEN }
    }

    /// Where it is OPEN: until then.
    pub fn until(self) -> Option<Instant> {
        (self.kind() == OPEN).then(|| Instant(self.low().saturating_mul(MILLISECOND)))
    }

    /// Where it is HALF_OPEN: how many more calls may try.
    pub fn trials_left(self) -> Option<u32> {
        (self.kind() == HALF_OPEN).then_some(self.trials() as u32)
    }

    /// May a call pass now? `draw` is a uniform number, for the ramp.
    #[inline]
    pub fn enter(self, now: Instant, draw: u64) -> Entry {
        match self.kind() {
            OPEN => self.enter_open(now),
            HALF_OPEN if self.trials() == 0 => Entry::Refuse { by: RefusedBy::HalfOpen, retry_after: None },
            HALF_OPEN => Entry::Take(Gate(self.0 - (1 << TRIALS_SHIFT))),
            RAMP => self.enter_ramp(now, draw),
            FORCED_OPEN => Entry::Refuse { by: RefusedBy::ForcedOpen, retry_after: None },
            _ => Entry::Pass,
        }
    }

    #[cold]
    fn enter_open(self, now: Instant) -> Entry {
        let until = Instant(self.low().saturating_mul(MILLISECOND));
        let trials = self.trials() as u32;
        if now < until || trials == 0 {
            let retry_after = Some(until.since(now));
            return Entry::Refuse { by: RefusedBy::Open, retry_after };
        }
        Entry::Take(Gate::half_open(next_epoch(self.epoch()), trials - 1, trials))
    }

    #[cold]
    fn enter_ramp(self, now: Instant, draw: u64) -> Entry {
        let steps = self.0 >> RAMP_SHIFT & RAMP_STEPS_MAX;
        let end = (self.0 & RAMP_END_MAX).saturating_mul(RAMP_STEP);
        let length = steps * RAMP_STEP;
        let left = end.saturating_sub(now.0).min(length);
        if within(draw, length) >= left {
            return Entry::Pass;
        }
        Entry::Refuse { by: RefusedBy::Ramp, retry_after: Some(Duration::from_nanos(left)) }
    }

    /// The word after a call came back without a verdict: another may try in its place. `None`
    /// where there is nothing to give back.
    pub fn give_back(self, ticket: Ticket) -> Option<Gate> {
        let is_its = self.kind() == HALF_OPEN && ticket.is_trial && ticket.epoch == self.epoch();
        (is_its && self.trials() < self.low()).then(|| Gate(self.0 + (1 << TRIALS_SHIFT)))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.state().name(), self.epoch())?;
        match self.kind() {
            OPEN => write!(f, "(until {} ms, {} trials)", self.low(), self.trials()),
            HALF_OPEN => write!(f, "({} of {} left)", self.trials(), self.low()),
            RAMP => write!(f, "(ramp until {} ms)", (self.0 & RAMP_END_MAX).saturating_mul(20)),
            _ => Ok(()),
        }
    }
}

/// The epoch that a caller makes of one.
pub(super) fn next_epoch(epoch: u16) -> u16 {
    (epoch + 1) % EPOCHS
}

/// The epoch that the owner makes of one.
pub(super) fn next_epoch_of_owner(epoch: u16) -> u16 {
    (epoch + 2) % EPOCHS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * MILLISECOND)
    }

    #[test]
    fn open_refuses_until_its_moment_and_then_takes_as_many_as_are_permitted() {
        let gate = Gate::open(EPOCHS - 1, at(30_000), 2);
        assert_eq!(gate.state(), BreakerState::Open);
        let Entry::Refuse { by, retry_after } = gate.enter(at(29_999), 0) else { panic!("passed") };
        assert_eq!((by, retry_after), (RefusedBy::Open, Some(Duration::from_millis(1))));
        let Entry::Take(first) = gate.enter(at(30_000), 0) else { panic!("refused") };
        assert_eq!(first.state(), BreakerState::HalfOpen);
        assert_eq!((first.epoch(), first.trials_left()), (0, Some(1)), "epochs go round");
        let Entry::Take(second) = first.enter(at(30_000), 0) else { panic!("refused") };
        let refused = Entry::Refuse { by: RefusedBy::HalfOpen, retry_after: None };
        assert_eq!(second.enter(at(90_000), 0), refused);
        assert_eq!(second.give_back(second.ticket()), Some(first));
        let late = Ticket { epoch: EPOCHS - 1, is_trial: false };
        assert_eq!(second.give_back(late), None, "a call of before had nothing to give back");
    }

    #[test]
    fn no_more_is_given_back_than_was_taken() {
        let gate = Gate::half_open(3, 5, 5);
        assert_eq!(gate.give_back(gate.ticket()), None);
    }

    #[test]
    fn an_owner_that_opens_the_door_itself_lets_nobody_in_before() {
        let gate = Gate::open(0, at(10), 0);
        let refused = Entry::Refuse { by: RefusedBy::Open, retry_after: Some(Duration::ZERO) };
        assert_eq!(gate.enter(at(11), 0), refused);
    }

    #[test]
    fn a_ramp_lets_a_growing_part_pass() {
        let gate = Gate::ramp(7, at(1_000), Duration::from_secs(10));
        assert_eq!((gate.state(), gate.epoch()), (BreakerState::Closed, 7));
        let passing = |now| {
            let draws = (0..1_000_u64).map(|n| n * (u64::MAX / 1_000));
            draws.filter(|draw| gate.enter(now, *draw) == Entry::Pass).count()
        };
        let shares: Vec<usize> = [0, 1_000, 3_500, 6_000, 8_500, 10_999, 11_000, 99_000]
            .into_iter()
            .map(|millis| passing(at(millis)))
            .collect();
        assert_eq!(shares, [0, 0, 249, 499, 749, 999, 1_000, 1_000]);
    }

    #[test]
    fn no_word_and_no_moment_confuses_a_gate() {
        let mut chance = naru_base::Chance::new(5);
        for _ in 0..100_000 {
            let gate = Gate(chance.draw() >> chance.below(64));
            let now = Instant(chance.draw() >> chance.below(64));
            if let Entry::Take(next) = gate.enter(now, chance.draw()) {
                assert_eq!(next.state(), BreakerState::HalfOpen);
            }
            let _ = (gate.give_back(Gate(chance.draw()).ticket()), gate.until(), format!("{gate:?}"));
        }
        for length in [Duration::ZERO, Duration::MAX] {
            let ramp = Gate::ramp(0, Instant(u64::MAX), length);
            assert_eq!(ramp.state(), BreakerState::Closed);
            let _ = ramp.enter(Instant(u64::MAX), u64::MAX);
        }
        assert_eq!(Gate::open(0, Instant(u64::MAX), u32::MAX).state(), BreakerState::Open);
    }
}
