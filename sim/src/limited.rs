//! What all workers of a proxy count of a cluster together: the counterpart of `proxy/src/limited.rs`.
//!
//! `naru_admit::cluster` says what a count becomes. Who waits for a connection stands in the line of its worker's
//! [`crate::pool::Pool`].

use naru_admit::Room;
use naru_admit::cluster::{connect, give_back, send, wait};
use naru_base::{Instant, Reason};
use naru_spec::ClusterLimits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limited {
    /// That stand, or are being made.
    pub connections: u64,
    /// Requests that need a connection and have none yet.
    pub pending: u64,
    /// Requests on their way, where their number is limited.
    pub requests: u64,
    /// When connections were last looked through for those that do not stand any more.
    pub swept: Instant,
}

impl Limited {
    /// Counts a request that has its connection. Says whether it is counted: then it is to be given back.
    ///
    /// # Errors
    /// [`Reason::Overflow`] where as many are on their way as may be.
    #[inline]
    pub fn send(&mut self, limits: &ClusterLimits) -> Result<bool, Reason> {
        if limits.normal.requests_max == u32::MAX {
            return Ok(false);
        }
        self.requests = send(self.requests, &limits.normal)?;
        Ok(true)
    }

    pub fn give_request_back(&mut self) {
        self.requests = give_back(self.requests);
    }

    /// Counts a request that needs a connection, until it has one.
    ///
    /// # Errors
    /// [`Reason::Overflow`] where as many wait as may.
    pub fn wait(&mut self, limits: &ClusterLimits) -> Result<(), Reason> {
        self.pending = wait(self.pending, &limits.normal)?;
        Ok(())
    }

    pub fn give_wait_back(&mut self) {
        self.pending = give_back(self.pending);
    }

    /// Leave to make one more connection to an endpoint that has `of_endpoint`.
    pub fn connect(&mut self, limits: &ClusterLimits, of_endpoint: u32, is_pool_empty: bool) -> bool {
        let room = Room { of_endpoint, is_pool_empty };
        let with_one_more = connect(self.connections, limits, &limits.normal, room);
        if let Some(connections) = with_one_more {
            self.connections = connections;
        }
        with_one_more.is_some()
    }

    pub fn give_connections_back(&mut self, count: u32) {
        self.connections = self.connections.saturating_sub(u64::from(count));
    }
}
