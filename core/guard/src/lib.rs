//! Is the endpoint, or the whole service, fit?
//!
//! In come what became of attempts and of probes, in order, and time; out goes which endpoints may
//! be asked ([`Fitness`]), whether a call may go to the service at all ([`Gate`]), which probes are
//! due, and what changed. Each cluster has one owner of a [`Guard`], who tells it everything and
//! publishes what it says. Workers read a fitness and a gate, and share nothing else.
//!
//! Deliberately not here: which of the fit endpoints is taken (`balance`), whether a request is
//! repeated (`recover`), how a probe is sent, how many requests may wait. Semantics: Envoy's
//! outlier detection and health checks, Resilience4j's circuit breaker; each file names its source.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: the whole of a cluster, what it is told and says, then its three machines.
mod guard;
mod outcome;
mod fitness;
mod change;
mod outlier;
mod health;
mod breaker;
mod fallback;

pub use breaker::{Breaker, BreakerChange, Entry, Gate, Metrics, RefusedBy, Ticket, Transition};
pub use change::{Action, Change};
pub use fallback::{Failed, next};
pub use fitness::{Fitness, Health, is_in_panic};
pub use guard::{Due, Guard};
pub use health::{Checks, HealthStats, ProbeResult, bytes_match};
pub use outcome::{AttemptOutcome, AttemptResult, EndpointKey, Grpc};
pub use outlier::{Cause, Detector, OutlierStats};
