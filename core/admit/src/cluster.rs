//! May a connection be made, may a request wait for one, may it be sent?
//!
//! Envoy's circuit breakers (`resource_manager_impl.h`, `conn_pool_base.cc`). A cluster has a count for each thing and
//! priority, shared by all workers; each function here takes such a count and gives what it becomes. Envoy looks first
//! and adds then, so that workers overshoot; here a count is never above its limit, but for connections: one is always
//! allowed to a pool that has none, or its requests would wait for ever because of the connections of others.
//!
//! What is taken is given back with [`give_back`], once. A refusal is final: Envoy never retries an overflow.

use naru_base::Reason;
use naru_spec::{ClusterLimits, Thresholds};

/// What one worker sees when it wants a connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections to this endpoint, of all workers.
    pub of_endpoint: u32,
    /// This worker has none to it, in use, idle or being made.
    pub is_pool_empty: bool,
}

/// The cluster's connections with one more, or `None`: then what wants it goes on waiting, and takes the next
/// connection that is free.
#[inline]
pub fn connect(connections: u64, limits: &ClusterLimits, thresholds: &Thresholds, room: Room) -> Option<u64> {
    let is_endpoint_full = limits.endpoint_connections_max.is_some_and(|max| room.of_endpoint >= max);
    let has_room = connections < u64::from(thresholds.connections_max) && !is_endpoint_full;
    (has_room || room.is_pool_empty).then(|| connections.saturating_add(1))
}

/// The requests that wait for a connection with one more. One that finds a connection ready does not wait.
///
/// # Errors
/// [`Reason::Overflow`] where as many wait as may.
#[inline]
pub fn wait(pending: u64, thresholds: &Thresholds) -> Result<u64, Reason> {
    take(pending, thresholds.pending_max)
}

/// The requests on their way with one more: asked when a connection is there, of whichever protocol.
///
/// # Errors
/// [`Reason::Overflow`] where as many are on their way as may.
#[inline]
pub fn send(requests: u64, thresholds: &Thresholds) -> Result<u64, Reason> {
    take(requests, thresholds.requests_max)
}

/// The pools with one more.
///
/// # Errors
/// [`Reason::Overflow`] where there are as many as may be.
#[inline]
pub fn open_pool(pools: u64, thresholds: &Thresholds) -> Result<u64, Reason> {
    take(pools, thresholds.connection_pools_max)
}

/// A count with one less.
#[inline]
pub fn give_back(count: u64) -> u64 {
    count.saturating_sub(1)
}

#[inline]
fn take(count: u64, max: u32) -> Result<u64, Reason> {
    if count < u64::from(max) { Ok(count + 1) } else { Err(Reason::Overflow) }
}

/// What statistics show of one count: Envoy's `cx_open` and `remaining_cx`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// The limit is reached.
    pub is_open: bool,
    /// Where [`Thresholds::track_remaining`] asks for it.
    pub remaining: Option<u64>,
}

pub fn gauges(count: u64, max: u32, thresholds: &Thresholds) -> Gauges {
    let remaining = u64::from(max).saturating_sub(count);
    Gauges { is_open: remaining == 0, remaining: thresholds.track_remaining.then_some(remaining) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use naru_base::Chance;

    use super::*;
    use crate::Word;

    fn thresholds(connections_max: u32, pending_max: u32, requests_max: u32) -> Thresholds {
        Thresholds { connections_max, pending_max, requests_max, ..Thresholds::envoy() }
    }

    const BUSY: Room = Room { of_endpoint: 1, is_pool_empty: false };

    #[test]
    fn the_last_place_is_taken_and_the_next_refused() {
        let seed = thresholds(100, 50, u32::MAX);
        assert_eq!(wait(49, &seed), Ok(50));
        assert_eq!(wait(50, &seed), Err(Reason::Overflow));
        assert_eq!(send(u64::from(u32::MAX) - 1, &seed), Ok(u64::from(u32::MAX)));
        assert_eq!(send(u64::from(u32::MAX), &seed), Err(Reason::Overflow));
        let limits = ClusterLimits::envoy();
        assert_eq!(connect(99, &limits, &seed, BUSY), Some(100));
        assert_eq!(connect(100, &limits, &seed, BUSY), None);
    }

    #[test]
    fn zeros_shut_a_cluster_off() {
        let none = thresholds(0, 0, 0);
        assert_eq!((wait(0, &none), send(0, &none)), (Err(Reason::Overflow), Err(Reason::Overflow)));
        assert_eq!(connect(0, &ClusterLimits::envoy(), &none, BUSY), None);
    }

    #[test]
    fn an_empty_pool_has_a_connection_whatever_others_have() {
        let room = Room { of_endpoint: 9, is_pool_empty: true };
        let limits = ClusterLimits { endpoint_connections_max: Some(2), ..ClusterLimits::envoy() };
        assert_eq!(connect(7, &limits, &thresholds(3, 1, 1), room), Some(8));
        assert_eq!(connect(0, &limits, &thresholds(3, 1, 1), Room { is_pool_empty: false, ..room }), None);
        assert_eq!(connect(0, &limits, &thresholds(3, 1, 1), BUSY), Some(1));
    }

    #[test]
    fn an_overflow_says_so_to_the_client() {
        assert_eq!(Reason::Overflow.overload_header(), Some("x-envoy-overloaded"));
        assert_eq!((Reason::Overflow.flag(), Reason::Overflow.status()), ("UO", 503));
        assert!(Reason::Overflow.body(false).ends_with("reset reason: overflow"));
    }

    #[test]
    fn statistics_show_what_is_left() {
        let quiet = thresholds(2, 1, 1);
        assert_eq!(gauges(2, 2, &quiet), Gauges { is_open: true, remaining: None });
        let tracked = Thresholds { track_remaining: true, ..quiet };
        assert_eq!(gauges(1, 2, &tracked), Gauges { is_open: false, remaining: Some(1) });
        assert_eq!(gauges(3, 2, &tracked), Gauges { is_open: true, remaining: Some(0) });
    }

    #[test]
    fn a_walk_never_counts_above_the_limit_and_loses_nothing() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let limits = thresholds(1, 1 + chance.below(4) as u32, 1 + chance.below(8) as u32);
            let (pending, requests) = (Cell::new(0), Cell::new(0));
            let give = |word: &Cell<u64>| word.change(|count| Some(give_back(count))).unwrap();
            // Each is a request: waiting, or on its way.
            let (mut waiting, mut sent) = (0_u64, 0_u64);
            for _ in 0..500 {
                match chance.below(4) {
                    0 => {
                        let is_in = pending.change(|count| wait(count, &limits).ok()).is_ok();
                        assert_eq!(is_in, waiting < u64::from(limits.pending_max));
                        waiting += u64::from(is_in);
                    }
                    // A connection is there: whoever waits is sent, or refused.
                    1 if waiting > 0 => {
                        give(&pending);
                        waiting -= 1;
                        let is_sent = requests.change(|count| send(count, &limits).ok()).is_ok();
                        assert_eq!(is_sent, sent < u64::from(limits.requests_max));
                        sent += u64::from(is_sent);
                    }
                    // Cancelled while it waits.
                    2 if waiting > 0 => {
                        give(&pending);
                        waiting -= 1;
                    }
                    // Done, or cancelled on its way.
                    _ if sent > 0 => {
                        give(&requests);
                        sent -= 1;
                    }
                    _ => {}
                }
                assert_eq!((pending.get(), requests.get()), (waiting, sent), "seed {seed}");
            }
        }
    }
}
