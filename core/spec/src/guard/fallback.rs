//! What is tried instead, in order.

use super::StatusRange;
use crate::DirectResponse;

/// A chain: each step is tried where the one before failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Fallback {
    pub on: FallbackOn,
    pub steps: Vec<FallbackStep>,
}

/// What counts as a failure that the next step is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackOn {
    /// The circuit breaker let no call through.
    pub is_cut_off: bool,
    /// No endpoint was fit.
    pub has_no_endpoint: bool,
    /// The attempt failed or took too long.
    pub is_failed: bool,
    /// These answers.
    pub statuses: Vec<StatusRange>,
}

impl Default for FallbackOn {
    /// Whatever means that there is no answer. An answer is one, even a bad one.
    fn default() -> FallbackOn {
        FallbackOn { is_cut_off: true, has_no_endpoint: true, is_failed: true, statuses: Vec::new() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum FallbackStep {
    /// Another subset, or another service.
    Cluster(String),
    /// A cached response, though it is stale. Where there is none, the next step.
    StaleResponse,
    /// It cannot fail.
    Answer(DirectResponse),
}
