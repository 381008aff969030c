//! Our own `CircuitBreaker`: Resilience4j's settings under its names, for a service or a subset.

use crate::fallback::Fallback;
use crate::traffic_policy::TargetRef;
use crate::{Flag, Meta, Number, Place, Placed, Seconds, Texts};

objects! {
    CircuitBreaker {
        meta: Meta,
        spec: CircuitBreakerSpec,
    }

    CircuitBreakerSpec {
        target_ref: TargetRef,
        sliding_window_type: Option<Placed<WindowType>>,
        /// Calls, or seconds.
        sliding_window_size: Option<Number>,
        minimum_number_of_calls: Option<Number>,
        /// Percent.
        failure_rate_threshold: Option<Placed<f64>>,
        slow_call_rate_threshold: Option<Placed<f64>>,
        slow_call_duration_threshold: Option<Seconds>,
        wait_duration_in_open_state: Option<Seconds>,
        exponential_backoff: Option<ExponentialBackoff>,
        permitted_number_of_calls_in_half_open_state: Option<Number>,
        max_wait_duration_in_half_open_state: Option<Seconds>,
        transition_to_state_after_wait_duration: Option<Placed<AfterWait>>,
        automatic_transition_from_open_to_half_open_enabled: Option<Flag>,
        initial_state: Option<Placed<InitialState>>,
        record: Option<RecordedFailures>,
        ignore: Option<IgnoredOutcomes>,
        /// Our own: a ramp after closing.
        gradual_recovery: Option<Seconds>,
        /// Our own.
        ignore_late_calls: Option<Flag>,
        /// Our own.
        fallback: Option<Fallback>,
    }

    /// Each wait in OPEN is longer than the one before.
    ExponentialBackoff {
        multiplier: Option<Placed<f64>>,
        max_wait_duration: Option<Seconds>,
        /// A part of the wait, below 1.
        randomized_wait_factor: Option<Placed<f64>>,
    }

    /// What is a failure.
    RecordedFailures {
        /// `500-599`, `"503"`
        statuses: Texts,
        grpc_statuses: Vec<Number>,
        connect_failures: Option<Flag>,
        resets: Option<Flag>,
        timeouts: Option<Flag>,
    }

    /// What is neither a failure nor a success.
    IgnoredOutcomes {
        statuses: Texts,
        grpc_statuses: Vec<Number>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowType {
    CountBased,
    TimeBased,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterWait {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    Closed,
    Disabled,
    MetricsOnly,
    ForcedOpen,
}
