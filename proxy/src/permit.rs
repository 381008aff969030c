//! A request, counted at an endpoint and its cluster while an attempt is there.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use naru_base::{ClusterId, EndpointId, Reason};
use naru_journey::Cause;

use crate::cluster::{EndpointHere, EndpointShared, add};
use crate::loaded::Loaded;

/// Given back by [`Permit::rest`], or by being dropped.
#[derive(Debug)]
pub struct Permit {
    loaded: Rc<Loaded>,
    pub cluster: ClusterId,
    pub id: EndpointId,
    pub endpoint: Arc<EndpointShared>,
    /// Between two attempts it is not.
    is_active: bool,
    /// It is one of the requests that the cluster limits.
    is_counted: bool,
}

impl Permit {
    #[inline]
    pub fn new(
        loaded: &Rc<Loaded>,
        cause: Cause,
        cluster: ClusterId,
        id: EndpointId,
        endpoint: &EndpointHere,
    ) -> Permit {
        let endpoint = endpoint.shared();
        endpoint.counts.active.fetch_add(1, Ordering::Relaxed);
        endpoint.counts.requests_total.fetch_add(1, Ordering::Relaxed);
        let stats = &loaded.clusters.get(cluster).stats;
        add(&stats.requests_active, 1);
        add(&stats.requests_total, 1);
        match cause {
            Cause::First => {}
            Cause::Replay => add(&stats.replays, 1),
            Cause::Retry | Cause::Hedge => add(&stats.retries, 1),
            Cause::Fallback => add(&stats.fallbacks, 1),
        }
        Permit { loaded: Rc::clone(loaded), cluster, id, endpoint, is_active: true, is_counted: false }
    }

    /// The attempt has its connection.
    ///
    /// # Errors
    /// As many are on their way to the cluster as may be.
    #[inline]
    pub fn count_sent(&mut self) -> Result<(), Reason> {
        let limits = &self.loaded.snapshot.cluster(self.cluster).limits;
        self.is_counted = self.loaded.clusters.get(self.cluster).limited.send(limits)?;
        Ok(())
    }

    /// It is at no endpoint any more, or for a while.
    #[inline]
    pub fn rest(&mut self) {
        if std::mem::take(&mut self.is_active) {
            self.endpoint.counts.active.fetch_sub(1, Ordering::Relaxed);
            let here = self.loaded.clusters.get(self.cluster);
            if std::mem::take(&mut self.is_counted) {
                here.limited.give_request_back();
            }
            add(&here.stats.requests_active, -1);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.rest();
    }
}
