//! May the service be called at all? The owner's side of a circuit breaker.
//!
//! | state        | what happens                                          | next state             |
//! |--------------|-------------------------------------------------------|------------------------|
//! | CLOSED       | an outcome, and enough calls: a rate is at or above its threshold | OPEN       |
//! | OPEN         | a call after the wait takes the first trial ([`Gate`]) | HALF_OPEN             |
//! | OPEN         | the wait is over, and HALF_OPEN begins by a timer     | HALF_OPEN              |
//! | HALF_OPEN    | enough trials: a rate is at or above its threshold    | OPEN, for the next wait |
//! | HALF_OPEN    | enough trials: none is                                | CLOSED, with a ramp    |
//! | HALF_OPEN    | it took too long                                      | OPEN or CLOSED         |
//! | METRICS_ONLY | a rate is at or above its threshold                   | (told once)            |
//! | DISABLED, FORCED_OPEN | an outcome                                   | (not recorded)         |
//! | any          | somebody says so                                      | any                    |
//!
//! Source: Resilience4j's `CircuitBreakerStateMachine`. As there, an outcome is recorded in the
//! state that it finds, whichever state its call began in: in OPEN it is only counted, in HALF_OPEN
//! it counts as a trial. `ignores_late_calls` leaves such outcomes out. Different from there: a call
//! without a verdict gives its trial back only if it had one.
//!
//! Every call that passed a gate must come back with [`Breaker::on_outcome`], if need be as
//! `Abandoned`: a trial that never comes back is one that nobody else can make.

mod gate;
mod wait;
mod window;

use std::time::Duration;

use naru_base::{Chance, Instant};
use naru_spec::{AfterHalfOpen, BreakerState, CircuitBreaker, Recorded, Window as WindowKind};

use crate::AttemptResult;
pub use gate::{Entry, Gate, RefusedBy, Ticket};
use gate::{next_epoch, next_epoch_of_owner};
use wait::Growth;
use window::{Call, Totals, Window};

#[derive(Clone, Debug)]
pub struct Breaker {
    settings: CircuitBreaker,
    chance: Chance,
    /// The word that was stored last, or that callers are known to have made of it. Of HALF_OPEN
    /// the callers know how many trials are left.
    gate: Gate,
    /// Of the state; in OPEN of the one that it came from.
    window: Window,
    /// Since when the state lasts.
    since: Instant,
    /// How often it was opened in a row.
    attempts: u32,
    growth: Growth,
    /// In METRICS_ONLY: which of the two rates was told.
    told: (bool, bool),
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    successful: u64,
    failed: u64,
    slow: u64,
    ignored: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    Transition(Transition),
    /// The call came back without a verdict: [`Gate::give_back`] its trial.
    GiveBack(Ticket),
    /// In METRICS_ONLY: it would have opened.
    WouldOpen {
        failure_rate: bool,
        slow_call_rate: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: BreakerState,
    pub to: BreakerState,
    /// The word to store; `None` where callers have done so themselves.
    pub gate: Option<Gate>,
}

/// What Resilience4j calls the metrics of a breaker. The shell counts the calls that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub state: BreakerState,
    /// In the window.
    pub buffered_calls: u32,
    pub failed_calls: u32,
    pub slow_calls: u32,
    /// Hundredths of a percent; `None` with too few calls.
    pub failure_rate: Option<u32>,
    pub slow_call_rate: Option<u32>,
    /// Of all time.
    pub successful_total: u64,
    pub failed_total: u64,
    pub slow_total: u64,
    pub ignored_total: u64,
}

impl Breaker {
    pub fn new(now: Instant, settings: CircuitBreaker, chance: Chance) -> Breaker {
        let window = Window::new(settings.window, now);
        let state = match settings.initial_state {
            // There is no wait to be over, and no trial.
            BreakerState::Open | BreakerState::HalfOpen => BreakerState::Closed,
            state => state,
        };
        Breaker {
            gate: Gate::plain(state, 0),
            window,
            since: now,
            attempts: 0,
            growth: Growth::default(),
            told: (false, false),
            counts: Counts::default(),
            settings,
            chance,
        }
    }

    /// What stands in the word: to store it at the beginning.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    pub fn state(&self) -> BreakerState {
        self.gate.state()
    }

    pub fn settings(&self) -> &CircuitBreaker {
        &self.settings
    }

    /// A call came back.
    pub fn on_outcome(
        &mut self,
        now: Instant,
        ticket: Ticket,
        result: AttemptResult,
        duration: Duration,
        changes: &mut Vec<BreakerChange>,
    ) {
        self.see(now, ticket.epoch, changes);
        let is_failed = match result.recorded(&self.settings.failures) {
            Recorded::Ignored => {
                self.counts.ignored = self.counts.ignored.saturating_add(1);
                if ticket.is_trial && self.state() == BreakerState::HalfOpen {
                    changes.push(BreakerChange::GiveBack(ticket));
                }
                return;
            }
            Recorded::Failure => true,
            Recorded::Success => false,
        };
        if self.settings.ignores_late_calls && ticket.epoch != self.gate.epoch() {
            return;
        }
        let is_slow = duration > self.settings.slow_call_duration;
        match self.state() {
            BreakerState::Disabled | BreakerState::ForcedOpen => {}
            BreakerState::Open => {
                self.record(now, Call { is_failed, is_slow });
            }
            BreakerState::Closed => {
                let totals = self.record(now, Call { is_failed, is_slow });
                if self.verdict(totals).is_some_and(|(failure, slow)| failure || slow) {
                    self.open(now, changes);
                }
            }
            BreakerState::HalfOpen => {
                let totals = self.record(now, Call { is_failed, is_slow });
                match self.verdict(totals) {
                    None => {}
                    Some((false, false)) => self.close(now, changes),
                    Some(_) => self.open(now, changes),
                }
            }
            BreakerState::MetricsOnly => {
                let totals = self.record(now, Call { is_failed, is_slow });
                self.tell(totals, changes);
            }
        }
    }

    /// A caller has turned OPEN into HALF_OPEN: the word that it stored. Without this it is learned
    /// from the first outcome of a trial, and a HALF_OPEN that is bounded lasts longer.
    pub fn on_half_open(&mut self, now: Instant, gate: Gate, changes: &mut Vec<BreakerChange>) {
        if gate.state() == BreakerState::HalfOpen {
            self.see(now, gate.epoch(), changes);
        }
    }

    pub fn tick(&mut self, now: Instant, changes: &mut Vec<BreakerChange>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.state() == BreakerState::Open {
            return self.half_open(now, changes);
        }
        match self.settings.after_half_open {
            AfterHalfOpen::Open => self.open(now, changes),
            AfterHalfOpen::Closed => self.close(now, changes),
        }
    }

    /// When to [`Breaker::tick`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state() {
            BreakerState::Open if self.settings.automatic_half_open => self.gate.until(),
            BreakerState::HalfOpen => self.settings.max_wait_in_half_open.map(|wait| self.since + wait),
            BreakerState::Open
            | BreakerState::Closed
            | BreakerState::Disabled
            | BreakerState::MetricsOnly
            | BreakerState::ForcedOpen => None,
        }
    }

    /// Somebody says which state it is in. CLOSED begins with nothing counted.
    pub fn force(&mut self, now: Instant, state: BreakerState, changes: &mut Vec<BreakerChange>) {
        match state {
            BreakerState::Open => self.open(now, changes),
            BreakerState::HalfOpen => self.half_open(now, changes),
            BreakerState::Closed
            | BreakerState::Disabled
            | BreakerState::MetricsOnly
            | BreakerState::ForcedOpen => {
                // As there, a forced opening counts as one.
                let is_forced = state == BreakerState::ForcedOpen;
                self.attempts = if is_forced { self.attempts.saturating_add(1) } else { 0 };
                let gate = Gate::plain(state, self.next_epoch());
                self.go(now, gate, Some(self.settings.window), changes);
            }
        }
    }

    /// The settings are others now. What is open stays open as long as it was to be; a trial and a
    /// window begin anew, unless the settings of a window are the same.
    pub fn set_settings(&mut self, now: Instant, settings: CircuitBreaker, changes: &mut Vec<BreakerChange>) {
        if settings == self.settings {
            return;
        }
        let is_same_window = settings.window == self.settings.window;
        self.settings = settings;
        match self.state() {
            BreakerState::Open => {
                let until = self.gate.until().unwrap_or(now);
                let gate = Gate::open(self.next_epoch(), until, self.trials_of_callers());
                self.go(now, gate, None, changes);
            }
            BreakerState::HalfOpen => self.half_open(now, changes),
            BreakerState::Closed if is_same_window => {}
            BreakerState::Closed | BreakerState::MetricsOnly => {
                self.window = Window::new(self.settings.window, now);
            }
            BreakerState::Disabled | BreakerState::ForcedOpen => {}
        }
    }

    pub fn metrics(&mut self, now: Instant) -> Metrics {
        let totals = self.window.totals(now);
        let is_decided = totals.calls >= self.minimum();
        let rate = |part: u32| {
            let hundredths = u64::from(part) * 10_000 / u64::from(totals.calls.max(1));
            is_decided.then_some(hundredths as u32)
        };
        Metrics {
            state: self.state(),
            buffered_calls: totals.calls,
            failed_calls: totals.failed,
            slow_calls: totals.slow,
            failure_rate: rate(totals.failed),
            slow_call_rate: rate(totals.slow),
            successful_total: self.counts.successful,
            failed_total: self.counts.failed,
            slow_total: self.counts.slow,
            ignored_total: self.counts.ignored,
        }
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.window.check_invariants()?;
        let totals = self.window.recorded();
        match self.state() {
            BreakerState::HalfOpen if totals.calls >= self.settings.effective_trials() => {
                Err("enough trials, and no decision")
            }
            BreakerState::Open if self.attempts == 0 => Err("open, and never opened"),
            BreakerState::Closed if self.attempts != 0 => Err("closed, and still counts openings"),
            BreakerState::Open if self.gate.until().is_none() => Err("open, and no end"),
            _ => Ok(()),
        }
    }

    /// Callers make one epoch of an open one without the owner; here it learns of it.
    fn see(&mut self, now: Instant, epoch: u16, changes: &mut Vec<BreakerChange>) {
        let is_open = self.state() == BreakerState::Open && self.trials_of_callers() > 0;
        if is_open && epoch == next_epoch(self.gate.epoch()) {
            let trials = self.settings.trials();
            let kind = WindowKind::Count(trials);
            let gate = Gate::half_open(epoch, trials, trials);
            self.go(now, gate, Some(kind), changes);
            if let Some(BreakerChange::Transition(transition)) = changes.last_mut() {
                transition.gate = None;
            }
        }
    }

    fn open(&mut self, now: Instant, changes: &mut Vec<BreakerChange>) {
        let is_first = self.attempts == 0;
        self.attempts = self.attempts.saturating_add(1);
        let wait = self.growth.next(self.settings.wait_in_open, is_first, &mut self.chance);
        let gate = Gate::open(self.next_epoch(), now + wait, self.trials_of_callers());
        self.go(now, gate, None, changes);
    }

    fn half_open(&mut self, now: Instant, changes: &mut Vec<BreakerChange>) {
        let trials = self.settings.trials();
        let gate = Gate::half_open(self.next_epoch(), trials, trials);
        self.go(now, gate, Some(WindowKind::Count(trials)), changes);
    }

    fn close(&mut self, now: Instant, changes: &mut Vec<BreakerChange>) {
        self.attempts = 0;
        let epoch = self.next_epoch();
        let gate = if self.settings.ramp.is_zero() {
            Gate::plain(BreakerState::Closed, epoch)
        } else {
            Gate::ramp(epoch, now, self.settings.ramp)
        };
        self.go(now, gate, Some(self.settings.window), changes);
    }

    fn go(&mut self, now: Instant, gate: Gate, window: Option<WindowKind>, changes: &mut Vec<BreakerChange>) {
        let from = self.state();
        self.gate = gate;
        self.since = now;
        self.told = (false, false);
        if let Some(kind) = window {
            self.window = Window::new(kind, now);
        }
        let transition = Transition { from, to: gate.state(), gate: Some(gate) };
        changes.push(BreakerChange::Transition(transition));
    }

    fn next_epoch(&self) -> u16 {
        next_epoch_of_owner(self.gate.epoch())
    }

    /// How many trials a caller may begin after the wait; none where a timer does.
    fn trials_of_callers(&self) -> u32 {
        if self.settings.automatic_half_open { 0 } else { self.settings.trials() }
    }

    fn record(&mut self, now: Instant, call: Call) -> Totals {
        let counts = &mut self.counts;
        let of_result = if call.is_failed { &mut counts.failed } else { &mut counts.successful };
        *of_result = of_result.saturating_add(1);
        counts.slow = counts.slow.saturating_add(u64::from(call.is_slow));
        self.window.record(now, call)
    }

    fn minimum(&self) -> u32 {
        match self.state() {
            BreakerState::HalfOpen => self.settings.effective_trials(),
            BreakerState::Closed
            | BreakerState::Open
            | BreakerState::Disabled
            | BreakerState::MetricsOnly
            | BreakerState::ForcedOpen => self.settings.effective_minimum(),
        }
    }

    /// Which of the two rates are reached; `None` with too few calls.
    fn verdict(&self, totals: Totals) -> Option<(bool, bool)> {
        let CircuitBreaker { failure_rate, slow_call_rate, .. } = self.settings;
        (totals.calls >= self.minimum()).then(|| totals.reaches(failure_rate, slow_call_rate))
    }

    fn tell(&mut self, totals: Totals, changes: &mut Vec<BreakerChange>) {
        let Some((failure, slow)) = self.verdict(totals) else { return };
        let (failure_rate, slow_call_rate) = (failure && !self.told.0, slow && !self.told.1);
        if failure_rate || slow_call_rate {
            self.told = (self.told.0 || failure_rate, self.told.1 || slow_call_rate);
            changes.push(BreakerChange::WouldOpen { failure_rate, slow_call_rate });
        }
    }
}
