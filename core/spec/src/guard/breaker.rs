//! Cutting a service off that fails too much: Resilience4j's `CircuitBreakerConfig`, and a ramp
//! afterwards.

use std::time::Duration;

use super::{Percent, StatusRange, lasts};
use crate::limits::Fault;
use crate::{Invalid, defaults};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// What rates are computed over.
    pub window: Window,
    /// With fewer calls in the window nothing is decided. More than a window by count can hold is
    /// what it can hold.
    pub minimum_calls: u32,
    /// At this rate of failures, or above, it opens.
    pub failure_rate: Percent,
    /// At this rate of slow calls, or above, it opens. Slow failures count in both.
    pub slow_call_rate: Percent,
    /// What takes longer is slow.
    pub slow_call_duration: Duration,
    pub wait_in_open: WaitInOpen,
    /// How many calls may try whether the service is well again.
    pub trial_calls: u32,
    /// HALF_OPEN ends after this long, whatever was tried; `None` waits.
    pub max_wait_in_half_open: Option<Duration>,
    pub after_half_open: AfterHalfOpen,
    /// HALF_OPEN begins by a timer, and not by the first call after the wait.
    pub automatic_half_open: bool,
    pub initial_state: BreakerState,
    /// What is a failure, and what is no verdict at all.
    pub failures: CallFailures,
    /// After it has closed, the part of the calls that passes grows from none to all in this time;
    /// zero lets all pass at once. Counted in steps of 20 ms. Our own.
    pub ramp: Duration,
    /// The outcome of a call that began in another state is not recorded. Resilience4j records it
    /// in the state that it finds. Our own.
    pub ignores_late_calls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last calls.
    Count(u32),
    /// The calls of the last seconds, the current one among them.
    Seconds(u32),
}

/// How long it stays open, for the first time and for each further one in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitInOpen {
    Fixed(Duration),
    Exponential {
        initial: Duration,
        /// Each wait is this much longer than the one before, in thousandths; at least 1,000.
        multiplier: u32,
        max: Duration,
        /// Each wait is drawn from this part of it below and above, in thousandths; below 1,000.
        randomization: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakerState {
    /// All calls pass.
    Closed,
    /// None does.
    Open,
    /// Some may try.
    HalfOpen,
    /// All pass, and nothing is recorded.
    Disabled,
    /// All pass; it is only told when it would have opened.
    MetricsOnly,
    /// None passes, until somebody says otherwise.
    ForcedOpen,
}

impl BreakerState {
    /// As Resilience4j says it.
    pub fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "CLOSED",
            BreakerState::Open => "OPEN",
            BreakerState::HalfOpen => "HALF_OPEN",
            BreakerState::Disabled => "DISABLED",
            BreakerState::MetricsOnly => "METRICS_ONLY",
            BreakerState::ForcedOpen => "FORCED_OPEN",
        }
    }
}

/// What follows on a HALF_OPEN that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterHalfOpen {
    Open,
    Closed,
}

/// Which outcomes are failures. What is ignored is so whatever else is said; all else is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailures {
    pub statuses: Vec<StatusRange>,
    /// gRPC status codes.
    pub grpc_statuses: Vec<u8>,
    /// No connection could be made.
    pub connect_failures: bool,
    /// It broke before the answer was there.
    pub resets: bool,
    pub timeouts: bool,
    /// Neither successes nor failures.
    pub ignored_statuses: Vec<StatusRange>,
    pub ignored_grpc_statuses: Vec<u8>,
}

impl Default for CallFailures {
    /// All that Envoy takes for a server's error.
    fn default() -> CallFailures {
        CallFailures {
            statuses: vec![StatusRange::SERVER_ERRORS],
            grpc_statuses: defaults::GRPC_FAILURES.to_vec(),
            connect_failures: true,
            resets: true,
            timeouts: true,
            ignored_statuses: Vec::new(),
            ignored_grpc_statuses: Vec::new(),
        }
    }
}

/// What an outcome is to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Success,
    Failure,
    Ignored,
}

impl CallFailures {
    /// An answer; `grpc_status` where it is one of gRPC, wherever it stood.
    pub fn of_answer(&self, status: u16, grpc_status: Option<u8>) -> Recorded {
        let has = |ranges: &[StatusRange]| ranges.iter().any(|range| range.has(status));
        let has_grpc = |codes: &[u8]| grpc_status.is_some_and(|code| codes.contains(&code));
        if has(&self.ignored_statuses) || has_grpc(&self.ignored_grpc_statuses) {
            Recorded::Ignored
        } else if has(&self.statuses) || has_grpc(&self.grpc_statuses) {
            Recorded::Failure
        } else {
            Recorded::Success
        }
    }
}

impl Default for CircuitBreaker {
    fn default() -> CircuitBreaker {
        CircuitBreaker {
            window: Window::Count(defaults::BREAKER_WINDOW),
            minimum_calls: defaults::BREAKER_MINIMUM_CALLS,
            failure_rate: defaults::BREAKER_FAILURE_RATE,
            slow_call_rate: Percent::ALL,
            slow_call_duration: defaults::SLOW_CALL_DURATION,
            wait_in_open: WaitInOpen::Fixed(defaults::BREAKER_WAIT_IN_OPEN),
            trial_calls: defaults::BREAKER_TRIAL_CALLS,
            max_wait_in_half_open: None,
            after_half_open: AfterHalfOpen::Open,
            automatic_half_open: false,
            initial_state: BreakerState::Closed,
            failures: CallFailures::default(),
            ramp: Duration::ZERO,
            ignores_late_calls: false,
        }
    }
}

impl Window {
    /// Within the bounds that are allowed.
    pub fn bounded(self) -> Window {
        match self {
            Window::Count(calls) => Window::Count(calls.clamp(1, defaults::BREAKER_WINDOW_CALLS_MAX)),
            Window::Seconds(seconds) => {
                Window::Seconds(seconds.clamp(1, defaults::BREAKER_WINDOW_SECONDS_MAX))
            }
        }
    }
}

impl CircuitBreaker {
    /// How many calls a decision in CLOSED needs.
    pub fn effective_minimum(&self) -> u32 {
        match self.window.bounded() {
            Window::Count(size) => self.minimum_calls.clamp(1, size),
            Window::Seconds(_) => self.minimum_calls.max(1),
        }
    }

    /// How many calls may try, within the bounds that are allowed.
    pub fn trials(&self) -> u32 {
        self.trial_calls.clamp(1, defaults::BREAKER_TRIAL_CALLS_MAX)
    }

    /// How many calls a decision in HALF_OPEN needs: Resilience4j clamps the same minimum to the
    /// trial calls (`CircuitBreakerMetrics.forHalfOpen`).
    pub fn effective_trials(&self) -> u32 {
        self.minimum_calls.clamp(1, self.trials())
    }

    /// Each with the field that it is about.
    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        let mut bounded = |field: &'static str, name: &str, value: u32, max: u32| {
            if value == 0 || value > max {
                let invalid =
                    Invalid::new(format!("{name} is {value}")).hint(format!("it is from 1 to {max}"));
                found.push((field, invalid));
            }
        };
        let (window, size, size_max) = match self.window {
            Window::Count(calls) => ("the window of calls", calls, defaults::BREAKER_WINDOW_CALLS_MAX),
            Window::Seconds(seconds) => {
                ("the window in seconds", seconds, defaults::BREAKER_WINDOW_SECONDS_MAX)
            }
        };
        let trials_max = defaults::BREAKER_TRIAL_CALLS_MAX;
        let (failures, slow) = (self.failure_rate.hundredths(), self.slow_call_rate.hundredths());
        bounded("slidingWindowSize", window, size, size_max);
        bounded(
            "permittedNumberOfCallsInHalfOpenState",
            "the number of trial calls",
            self.trial_calls,
            trials_max,
        );
        bounded("minimumNumberOfCalls", "the minimum number of calls", self.minimum_calls, u32::MAX);
        bounded("failureRateThreshold", "the failure rate in hundredths of a percent", failures, 10_000);
        bounded("slowCallRateThreshold", "the slow call rate in hundredths of a percent", slow, 10_000);
        let slow_call = self.slow_call_duration;
        lasts("slowCallDurationThreshold", "the duration of a slow call", slow_call, &mut found);
        self.wait_problems(&mut found);
        if self.ramp > defaults::BREAKER_RAMP_MAX {
            let most = defaults::BREAKER_RAMP_MAX.as_secs();
            let invalid = Invalid::new("the ramp is too long").hint(format!("at most {most} s are allowed"));
            found.push(("gradualRecovery", invalid));
        }
        if let BreakerState::Open | BreakerState::HalfOpen = self.initial_state {
            let message = format!("a breaker cannot begin {}", self.initial_state.name());
            let hint = "it begins CLOSED, DISABLED, METRICS_ONLY or FORCED_OPEN";
            found.push(("initialState", Invalid::new(message).hint(hint)));
        }
        let recorded = self.failures.grpc_statuses.iter().map(|code| ("record.grpcStatuses", code));
        let ignored = self.failures.ignored_grpc_statuses.iter().map(|code| ("ignore.grpcStatuses", code));
        for (field, code) in recorded.chain(ignored).filter(|(_, code)| **code > 16) {
            let message = format!("{code} is no status of gRPC");
            found.push((field, Invalid::new(message).hint("they are 0 to 16")));
        }
        found
    }

    fn wait_problems(&self, found: &mut Vec<Fault>) {
        let of_wait = "waitDurationInOpenState";
        match self.wait_in_open {
            WaitInOpen::Fixed(wait) => lasts(of_wait, "the wait in OPEN", wait, found),
            WaitInOpen::Exponential { initial, multiplier, max, randomization } => {
                lasts(of_wait, "the first wait in OPEN", initial, found);
                if multiplier < 1_000 {
                    let invalid = Invalid::new("the multiplier of the wait in OPEN is below 1");
                    found.push(("exponentialBackoff.multiplier", invalid));
                }
                if max < initial {
                    let invalid = Invalid::new("the longest wait in OPEN is shorter than the first one");
                    found.push(("exponentialBackoff.maxWaitDuration", invalid));
                }
                if randomization >= 1_000 {
                    let invalid = Invalid::new("the randomization of the wait in OPEN is 1 or more")
                        .hint("it is a part of the wait: 0.5 is half of it");
                    found.push(("exponentialBackoff.randomizedWaitFactor", invalid));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_so_whatever_else_is_said() {
        let failures = CallFailures {
            ignored_statuses: vec![StatusRange::new(503, 504).unwrap()],
            ignored_grpc_statuses: vec![1],
            ..CallFailures::default()
        };
        assert_eq!(failures.of_answer(503, None), Recorded::Ignored);
        assert_eq!(failures.of_answer(500, None), Recorded::Failure);
        assert_eq!(failures.of_answer(404, None), Recorded::Success);
        assert_eq!(failures.of_answer(200, Some(14)), Recorded::Failure);
        assert_eq!(failures.of_answer(200, Some(1)), Recorded::Ignored);
        assert_eq!(failures.of_answer(200, Some(5)), Recorded::Success);
    }

    #[test]
    fn a_window_of_ten_decides_at_ten_although_a_hundred_are_asked_for() {
        let breaker = |window| CircuitBreaker { window, trial_calls: 5, ..CircuitBreaker::default() };
        assert_eq!(breaker(Window::Count(10)).effective_minimum(), 10);
        assert_eq!(breaker(Window::Seconds(10)).effective_minimum(), 100);
        assert_eq!(breaker(Window::Count(10)).effective_trials(), 5);
    }
}
