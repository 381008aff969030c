//! Round robin: each endpoint in turn, as often as its weight says.

use std::sync::Arc;

use naru_base::chance::within;
use naru_base::{EndpointId, Instant};

use crate::endpoint::{Taker, ids, is_even};
use crate::schedule::{Schedule, UNIT};
use crate::warm_up::Ramps;

#[derive(Clone, Debug)]
pub(crate) enum RoundRobin {
    /// By id. O(1).
    Even { ids: Vec<EndpointId>, next: usize },
    /// O(log n).
    Weighted(Schedule),
    /// As long as somebody is warming up. O(log n).
    Warming { schedule: Schedule, ramps: Arc<Ramps> },
}

impl RoundRobin {
    pub(crate) fn new(
        takers: &[Taker],
        ramps: Option<&Arc<Ramps>>,
        now: Instant,
        seed_draw: u64,
    ) -> RoundRobin {
        if let Some(ramps) = ramps {
            let schedule = Schedule::new(takers, UNIT, |id| ramps.wait(id, now, UNIT), seed_draw);
            RoundRobin::Warming { schedule, ramps: Arc::clone(ramps) }
        } else if is_even(takers) {
            let next = within(seed_draw, takers.len() as u64) as usize;
            RoundRobin::Even { ids: ids(takers), next }
        } else {
            RoundRobin::Weighted(Schedule::new(takers, 1, |_| 1, seed_draw))
        }
    }

    #[inline]
    pub(crate) fn pick(&mut self, now: Instant) -> Option<EndpointId> {
        match self {
            RoundRobin::Even { ids, next } => {
                let picked = ids.get(*next).copied()?;
                *next = if *next + 1 == ids.len() { 0 } else { *next + 1 };
                Some(picked)
            }
            RoundRobin::Weighted(schedule) => schedule.pick(|_| 1),
            RoundRobin::Warming { schedule, ramps } => schedule.pick(|id| ramps.wait(id, now, UNIT)),
        }
    }
}
