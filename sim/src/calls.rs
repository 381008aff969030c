//! What a client wants done, until it is done: one request, or several where it asks again.
//!
//! Clients are loads, and services that ask other services. Each try is a request of its own through
//! a proxy; only the last one counts for the client.

use std::time::Duration;

use naru_base::Instant;

use crate::arena::Ticket;
use crate::distribution::Distribution;
use crate::load::Kind;
use crate::passage::Key;
use crate::quantity::Share;

/// A call that a version of a service makes for each request.
#[derive(Debug)]
pub struct Callee {
    pub kind: Kind,
    pub share: Share,
    pub with_previous: bool,
    pub timeout: Option<Duration>,
    pub retry: Option<Again>,
    pub is_optional: bool,
}

/// How a client asks again.
#[derive(Clone, Debug)]
pub struct Again {
    pub tries_max: u32,
    pub wait: Distribution,
    pub timeout: Option<Duration>,
}

/// A call under way.
#[derive(Debug)]
pub struct Call {
    pub origin: Origin,
    /// Counted among those of its kind: calls of loads, calls of services.
    pub number: u64,
    /// The request that it is made for.
    pub parent: Option<u64>,
    pub began: Instant,
    pub tries: u32,
    /// Its client leaves then.
    pub leaves: Option<Instant>,
    /// Its client leaves then, and says so.
    pub deadline: Option<Instant>,
    /// The try that is under way.
    pub hop: Option<Key>,
}

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    Load {
        source: usize,
        kind: usize,
        user: Option<u32>,
    },
    /// `callee` is the place in the list of the group.
    Job {
        job: Ticket,
        group: usize,
        callee: usize,
    },
}

impl Call {
    /// Whether the client has no time left.
    pub fn is_over(&self, now: Instant) -> bool {
        [self.leaves, self.deadline].into_iter().flatten().any(|at| at <= now)
    }

    /// The last moment that the client waits for.
    pub fn ends(&self) -> Instant {
        [self.leaves, self.deadline].into_iter().flatten().min().unwrap_or(Instant(u64::MAX))
    }
}
