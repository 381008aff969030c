//! Round robin: each endpoint in turn, as often as its weight says.

use naru_base::EndpointId;
use naru_base::chance::within;

use crate::schedule::Schedule;
use crate::{Taker, ids, is_even};

#[derive(Clone, Debug)]
pub(crate) enum RoundRobin {
    /// By id. O(1).
    Even { ids: Vec<EndpointId>, next: usize },
    /// O(log n).
    Weighted(Schedule),
}

impl RoundRobin {
    pub(crate) fn new(takers: &[Taker], seed_draw: u64) -> RoundRobin {
        if is_even(takers) {
            let next = within(seed_draw, takers.len() as u64) as usize;
            RoundRobin::Even { ids: ids(takers), next }
        } else {
            RoundRobin::Weighted(Schedule::new(takers, seed_draw))
        }
    }

    #[inline]
    pub(crate) fn pick(&mut self) -> Option<EndpointId> {
        match self {
            RoundRobin::Even { ids, next } => {
                let picked = ids.get(*next).copied()?;
                *next = if *next + 1 == ids.len() { 0 } else { *next + 1 };
                Some(picked)
            }
            RoundRobin::Weighted(schedule) => schedule.pick(|_| 1),
        }
    }
}
