//! What a guard says: what is to be done, and what has changed.

use naru_base::Instant;

use crate::{BreakerChange, Cause, EndpointKey, Health};

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask this endpoint; the answer comes back with the number.
    Probe { endpoint: EndpointKey, number: u32 },
    /// The answer is not waited for any longer.
    CancelProbe { endpoint: EndpointKey, number: u32 },
}

/// What has changed: to publish, count and tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `until` is the earliest moment: it returns at a sweep. `times` counts all its ejections.
    Ejected {
        endpoint: EndpointKey,
        cause: Cause,
        until: Instant,
        times: u32,
    },
    /// Detected, and spared by `enforcing`.
    Spared {
        endpoint: EndpointKey,
        cause: Cause,
    },
    /// An ejection is over.
    Returned {
        endpoint: EndpointKey,
    },
    Health {
        endpoint: EndpointKey,
        health: Health,
    },
    Breaker(BreakerChange),
}
