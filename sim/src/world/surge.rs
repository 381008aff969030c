//! How hard the load of a proxy is, and at which level it is for it: the counterpart of `proxy/src/surge`.
//!
//! What is measured of a machine (processors, memory) is not simulated: a `Surge` that asks for it is refused where a
//! scenario is bound.

use naru_base::Instant;
use naru_journey::{Outcome, Snapshot};
use naru_spec::{SurgeSignal, defaults};
use naru_surge::{Controller, Counts, Gauges, Meter};

use super::{Event, World};
use crate::kept::ClassCounts;
use crate::passage::Passage;
use crate::upstream::{ProxyId, Upstreams};

/// Of one proxy.
#[derive(Debug)]
pub(super) struct SurgeHere {
    controller: Controller,
    meter: Meter,
    counts: Counts,
}

/// A proxy is at another level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurgeNoted {
    pub at: Instant,
    pub proxy: ProxyId,
    pub what: String,
}

impl SurgeHere {
    pub fn of(now: Instant, snapshot: &Snapshot) -> Option<Box<SurgeHere>> {
        let surge = snapshot.surge.clone()?;
        let controller = Controller::new(now, surge);
        Some(Box::new(SurgeHere { controller, meter: Meter::default(), counts: Counts::default() }))
    }
}

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// A request is over.
    #[inline]
    pub(super) fn count_load(&mut self, passage: &Passage<T>, outcome: &Outcome) {
        let here = &mut self.proxies[passage.proxy.index()];
        let Some(surge) = &mut here.surge else { return };
        // Workloads that call each other are not what comes in.
        if here.snapshot.chain(passage.journey.chain()).http.stat_prefix == defaults::MESH_STAT_PREFIX {
            return;
        }
        surge.counts.requests += 1;
        if passage.journey.cluster().is_some() {
            let duration = outcome.ended.since(outcome.began);
            surge.counts.observe(outcome.reason, outcome.status, duration);
        }
    }

    pub(super) fn look_after_surge(&mut self, proxy: ProxyId) {
        let Some(surge) = &self.proxies[proxy.index()].surge else { return };
        let next = self.now + surge.controller.surge().every;
        self.background += 1;
        self.queue.push(next, Event::Surge(proxy));
    }

    pub(super) fn look_at_load(&mut self, proxy: ProxyId) {
        let now = self.now;
        let here = &mut self.proxies[proxy.index()];
        let Some(surge) = &mut here.surge else { return };
        let queued = surge.controller.surge().asks_for(SurgeSignal::Queued).then(|| here.fleet.waiting());
        let gauges = Gauges { queued, ..Gauges::default() };
        if let Some(memory) = &here.memory {
            let classes = || memory.classes().values();
            surge.counts.cache_hits = classes().map(ClassCounts::answered).sum();
            surge.counts.cache_misses = classes().map(|counts| counts.misses).sum();
        }
        let capacity = surge.controller.surge().capacity;
        let signals = surge.meter.on_look(now, surge.counts, gauges, capacity);
        if let Some(transition) = surge.controller.on_signals(now, signals).cloned() {
            here.fleet.surge_level.set(transition.to);
            let name = surge.controller.name_of(transition.to);
            let what = format!("level {} ({name}): {}", transition.to, transition.phrase());
            self.surged.push_back(SurgeNoted { at: now, proxy, what });
        }
        if let Err(what) = surge.controller.check_invariants() {
            self.broken = Some(what);
        }
        self.look_after_surge(proxy);
    }

    /// Other levels, the oldest first.
    #[inline]
    pub fn next_surged(&mut self) -> Option<SurgeNoted> {
        self.surged.pop_front()
    }
}
