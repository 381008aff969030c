//! What must hold whatever happens: asked after every event, and once more at the end.

use std::fmt;

use naru_base::{Instant, Reason};
use naru_journey::Outcome;

use crate::ledger::Ledger;
use crate::passage::Passage;

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: Instant,
    /// The request's number, where one is concerned.
    pub request: Option<u64>,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}", self.at)?;
        if let Some(number) = self.request {
            write!(f, ", request {number}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Violation {}

/// Everything that is counted while it is active. All of it is zero when nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Active {
    pub requests: u64,
    /// Requests counted at endpoints.
    pub permits: u64,
    /// HTTP/1 connections that carry a request, and requests that HTTP/2 connections carry.
    pub connections: u64,
    /// Requests counted at limits of clusters, at those with a name, and as retries.
    pub limited: u64,
    /// Fetches that others may wait for, or whose answers are kept.
    pub fetches: u64,
    /// Calls of clients, and what instances have taken in, as far as whoever asks knows of them.
    pub work: u64,
}

/// After any event of a request.
pub fn check_request<T>(now: Instant, passage: &Passage<T>) -> Result<(), Violation> {
    let journey = &passage.journey;
    let check = || {
        journey.check_invariants()?;
        if passage.heads > 1 {
            return Err("a client was answered twice");
        }
        if u32::from(passage.sends) > passage.sends_max {
            return Err("a request was sent more often than it may be");
        }
        if passage.flight.is_some() && passage.permit.is_none() {
            return Err("an attempt is under way that is counted nowhere");
        }
        let is_waiting = journey.is_between_attempts()
            || passage.is_at_limit
            || passage.asking.is_some()
            || passage
                .cached
                .as_ref()
                .is_some_and(|cached| cached.ticket.is_some() || cached.seeking.is_some());
        let is_under_way = passage.flight.is_some() || !passage.beside.is_empty();
        if !journey.has_ended() && !is_waiting && !is_under_way && passage.heads == 0 {
            return Err("a request waits for nothing");
        }
        Ok(())
    };
    check().map_err(|what| violation(now, passage, what))
}

/// Of a request that is over.
pub fn check_outcome<T>(now: Instant, passage: &Passage<T>, outcome: &Outcome) -> Result<(), Violation> {
    let check = || {
        let moments = [outcome.request_ended, outcome.head];
        if outcome.ended != now || moments.iter().flatten().any(|at| *at < outcome.began || *at > now) {
            return Err("its moments are out of order");
        }
        if (outcome.status != 0) != (passage.heads == 1) {
            return Err("its status is not what the client saw");
        }
        // An attempt that a fault holds, or answers, is not sent.
        let is_sent =
            outcome.attempts == passage.sends || (passage.is_in_fault && outcome.attempts > passage.sends);
        if !is_sent || (outcome.attempts > 0) != outcome.endpoint.is_some() {
            return Err("its attempts are not those that were made");
        }
        if outcome.status == 0 && outcome.reason != Reason::ClientGone {
            return Err("a client that stayed was not answered");
        }
        if outcome.reason == Reason::Forwarded && outcome.attempts == 0 {
            return Err("an answer was forwarded that nobody gave");
        }
        Ok(())
    };
    check().map_err(|what| violation(now, passage, what))
}

/// When nothing is under way any more.
pub fn check_end(now: Instant, active: Active) -> Result<(), Violation> {
    if active == Active::default() {
        return Ok(());
    }
    Err(Violation { at: now, request: None, what: format!("nothing is under way, and yet {active:?}") })
}

/// Whatever reached a service has come to one end.
pub fn check_ledger(now: Instant, ledger: &Ledger) -> Result<(), Violation> {
    match ledger.counts.iter().position(|counts| counts.arrived != counts.ended()) {
        None => Ok(()),
        Some(group) => {
            let what =
                format!("what reached version {group} did not come to one end: {:?}", ledger.counts[group]);
            Err(Violation { at: now, request: None, what })
        }
    }
}

pub fn violation<T>(now: Instant, passage: &Passage<T>, what: &str) -> Violation {
    Violation {
        at: now,
        request: Some(passage.key.number()),
        what: format!("{what} ({:?})", passage.journey),
    }
}
