//! Least request: the endpoint with the fewest requests in flight, roughly.
//!
//! With equal weights a few endpoints are drawn and the least loaded of them is taken (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 1996): nearly as even as looking at all,
//! and workers that do not know of each other's picks do not all run to the same endpoint. With
//! unequal weights it is a weighted rotation in which an endpoint's weight is divided by its
//! requests in flight plus one, each time that it was picked (Envoy's `active_request_bias` of 1).

use naru_base::{Chance, EndpointId};

use crate::schedule::Schedule;
use crate::{Loads, Taker, ids, is_even};

#[derive(Clone, Debug)]
pub(crate) enum LeastRequest {
    /// O(choices).
    Even { ids: Vec<EndpointId>, choices: u32 },
    /// O(log n).
    Weighted(Schedule),
}

impl LeastRequest {
    /// Fewer than one choice is one. The schedule starts as if nothing were in flight.
    pub(crate) fn new(takers: &[Taker], choices: u32, seed_draw: u64) -> LeastRequest {
        if is_even(takers) {
            LeastRequest::Even { ids: ids(takers), choices: choices.max(1) }
        } else {
            LeastRequest::Weighted(Schedule::new(takers, seed_draw))
        }
    }

    #[inline]
    pub(crate) fn pick<L: Loads + ?Sized>(&mut self, loads: &L, chance: &mut Chance) -> Option<EndpointId> {
        match self {
            LeastRequest::Even { ids, choices } => least_of(ids, *choices, loads, chance),
            LeastRequest::Weighted(schedule) => schedule.pick(|id| u64::from(loads.active(id)) + 1),
        }
    }
}

/// Draws with replacement, as Envoy does; the first drawn among equals.
#[inline]
fn least_of<L: Loads + ?Sized>(
    ids: &[EndpointId],
    choices: u32,
    loads: &L,
    chance: &mut Chance,
) -> Option<EndpointId> {
    if let [only] = ids {
        return Some(*only);
    }
    let count = ids.len() as u64;
    let mut least = ids.get(chance.below(count) as usize).copied()?;
    let mut load = loads.active(least);
    for _ in 1..choices {
        let other = ids.get(chance.below(count) as usize).copied()?;
        let other_load = loads.active(other);
        if other_load < load {
            (least, load) = (other, other_load);
        }
    }
    Some(least)
}
