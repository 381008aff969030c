//! Resilience4j's machine as it is written there: an object for each state, here over a list of
//! outcomes.

use std::time::Duration;

use naru_base::Instant;
use naru_spec::{AfterHalfOpen, BreakerState, CircuitBreaker, WaitInOpen, Window};

#[derive(Clone, Copy, Debug)]
struct Call {
    second: u64,
    is_failed: bool,
    is_slow: bool,
}

#[derive(Debug)]
pub struct RefBreaker {
    settings: CircuitBreaker,
    pub state: BreakerState,
    /// Of the state, or in OPEN of the one before.
    calls: Vec<Call>,
    until: Instant,
    began: Instant,
    attempts: u32,
    pub left: u32,
    /// Which state of all that there were.
    pub nth: u64,
}

/// What a call went in with.
#[derive(Clone, Copy, Debug)]
pub struct RefTicket {
    nth: u64,
    is_trial: bool,
}

impl RefBreaker {
    pub fn new(settings: CircuitBreaker) -> RefBreaker {
        RefBreaker {
            state: settings.initial_state,
            settings,
            calls: Vec::new(),
            until: Instant::ZERO,
            began: Instant::ZERO,
            attempts: 0,
            left: 0,
            nth: 0,
        }
    }

    pub fn enter(&mut self, now: Instant) -> Option<RefTicket> {
        let is_over = now >= self.until && !self.settings.automatic_half_open;
        if self.state == BreakerState::Open && is_over {
            self.half_open(now);
        }
        match self.state {
            BreakerState::Open | BreakerState::ForcedOpen => None,
            BreakerState::HalfOpen if self.left == 0 => None,
            BreakerState::HalfOpen => {
                self.left -= 1;
                Some(RefTicket { nth: self.nth, is_trial: true })
            }
            BreakerState::Closed | BreakerState::Disabled | BreakerState::MetricsOnly => {
                Some(RefTicket { nth: self.nth, is_trial: false })
            }
        }
    }

    /// `is_failed`: `None` is no verdict.
    pub fn end(&mut self, now: Instant, ticket: RefTicket, is_failed: Option<bool>, took: Duration) {
        let is_late = ticket.nth != self.nth;
        let Some(is_failed) = is_failed else {
            if self.state == BreakerState::HalfOpen && ticket.is_trial && !is_late {
                self.left += 1;
            }
            return;
        };
        if is_late && self.settings.ignores_late_calls {
            return;
        }
        if let BreakerState::Disabled | BreakerState::ForcedOpen = self.state {
            return;
        }
        let is_slow = took > self.settings.slow_call_duration;
        self.calls.push(Call { second: now.0 / 1_000_000_000, is_failed, is_slow });
        let Some(is_bad) = self.is_bad(now) else { return };
        match (self.state, is_bad) {
            (BreakerState::Closed | BreakerState::HalfOpen, true) => self.open(now),
            (BreakerState::HalfOpen, false) => self.close(),
            _ => {}
        }
    }

    pub fn tick(&mut self, now: Instant) {
        match (self.state, self.settings.max_wait_in_half_open) {
            (BreakerState::Open, _) if self.settings.automatic_half_open && now >= self.until => {
                self.half_open(now);
            }
            (BreakerState::HalfOpen, Some(wait)) if now >= self.began + wait => {
                match self.settings.after_half_open {
                    AfterHalfOpen::Open => self.open(now),
                    AfterHalfOpen::Closed => self.close(),
                }
            }
            _ => {}
        }
    }

    fn half_open(&mut self, now: Instant) {
        self.go(BreakerState::HalfOpen);
        self.calls.clear();
        self.began = now;
        self.left = self.settings.trial_calls;
    }

    fn open(&mut self, now: Instant) {
        self.go(BreakerState::Open);
        self.attempts += 1;
        let wait = match self.settings.wait_in_open {
            WaitInOpen::Fixed(wait) => wait,
            WaitInOpen::Exponential { initial, multiplier, max, .. } => {
                let mut millis = initial.as_millis() as u64;
                for _ in 1..self.attempts {
                    millis = (millis * u64::from(multiplier) / 1_000).min(max.as_millis() as u64);
                }
                Duration::from_millis(millis)
            }
        };
        // A word counts in whole milliseconds.
        self.until = Instant((now + wait).0.div_ceil(1_000_000) * 1_000_000);
    }

    fn close(&mut self) {
        self.go(BreakerState::Closed);
        self.calls.clear();
        self.attempts = 0;
    }

    fn go(&mut self, state: BreakerState) {
        self.state = state;
        self.nth += 1;
    }

    /// The calls that are in the window.
    fn window(&self, now: Instant) -> Vec<Call> {
        let kind = match self.state {
            BreakerState::HalfOpen => Window::Count(self.settings.trial_calls),
            _ => self.settings.window,
        };
        match kind {
            Window::Count(size) => {
                let skipped = self.calls.len().saturating_sub(size as usize);
                self.calls[skipped..].to_vec()
            }
            Window::Seconds(seconds) => {
                let now = now.0 / 1_000_000_000;
                let is_in = |call: &&Call| call.second + u64::from(seconds) > now;
                self.calls.iter().filter(is_in).copied().collect()
            }
        }
    }

    fn is_bad(&self, now: Instant) -> Option<bool> {
        let calls = self.window(now);
        let minimum = match (self.state, self.settings.window) {
            (BreakerState::HalfOpen, _) => self.settings.minimum_calls.min(self.settings.trial_calls),
            (_, Window::Count(size)) => self.settings.minimum_calls.min(size),
            (_, Window::Seconds(_)) => self.settings.minimum_calls,
        };
        if calls.is_empty() || calls.len() < minimum as usize {
            return None;
        }
        let rate = |is: fn(&Call) -> bool| {
            calls.iter().filter(|call| is(call)).count() as f64 * 100.0 / calls.len() as f64
        };
        let threshold = |percent: naru_spec::Percent| f64::from(percent.hundredths()) / 100.0;
        let is_failing = rate(|call| call.is_failed) >= threshold(self.settings.failure_rate);
        Some(is_failing || rate(|call| call.is_slow) >= threshold(self.settings.slow_call_rate))
    }
}
