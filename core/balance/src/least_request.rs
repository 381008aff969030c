//! Least request: the endpoint with the fewest requests in flight, roughly.
//!
//! With equal weights a few endpoints are drawn and the least loaded of them is taken (Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", 1996): nearly as even as looking at all,
//! and workers that do not know of each other's picks do not all run to the same endpoint. With
//! unequal weights, or while somebody is warming up, it is a weighted rotation in which an endpoint's
//! weight is divided by `(requests in flight + 1) ^ bias` each time that it was picked. Source: Envoy,
//! `least_request_lb.cc`.

use std::sync::Arc;

use naru_base::{Chance, EndpointId, Instant};
use naru_spec::{LeastRequest as Settings, Thousandths};

use crate::Loads;
use crate::endpoint::{Taker, ids, is_even};
use crate::power::{doubled, log2};
use crate::schedule::{COST_MAX, Schedule, UNIT};
use crate::warm_up::Ramps;

/// More draws would cost more than they tell.
const CHOICES_MAX: u32 = 1_000;

#[derive(Clone, Debug)]
pub(crate) enum LeastRequest {
    /// O(choices).
    Even { ids: Vec<EndpointId>, choices: u32 },
    /// With a bias of one. O(log n).
    Weighted(Schedule),
    /// O(log n).
    Biased { schedule: Schedule, bias: Thousandths, ramps: Option<Arc<Ramps>> },
}

impl LeastRequest {
    /// Fewer than one choice is one. The schedule starts as if nothing were in flight.
    pub(crate) fn new(
        takers: &[Taker],
        settings: Settings,
        ramps: Option<&Arc<Ramps>>,
        now: Instant,
        seed_draw: u64,
    ) -> LeastRequest {
        let Settings { choices, bias } = settings;
        if let Some(ramps) = ramps {
            let schedule = Schedule::new(takers, UNIT, |id| ramps.wait(id, now, UNIT), seed_draw);
            LeastRequest::Biased { schedule, bias, ramps: Some(Arc::clone(ramps)) }
        } else if is_even(takers) {
            LeastRequest::Even { ids: ids(takers), choices: choices.clamp(1, CHOICES_MAX) }
        } else if bias == Thousandths::ONE {
            LeastRequest::Weighted(Schedule::new(takers, 1, |_| 1, seed_draw))
        } else {
            let schedule = Schedule::new(takers, UNIT, |_| UNIT, seed_draw);
            LeastRequest::Biased { schedule, bias, ramps: None }
        }
    }

    #[inline]
    pub(crate) fn pick<L: Loads + ?Sized>(
        &mut self,
        now: Instant,
        loads: &L,
        chance: &mut Chance,
    ) -> Option<EndpointId> {
        match self {
            LeastRequest::Even { ids, choices } => least_of(ids, *choices, loads, chance),
            LeastRequest::Weighted(schedule) => schedule.pick(|id| u64::from(loads.active(id)) + 1),
            LeastRequest::Biased { schedule, bias, ramps } => schedule.pick(|id| {
                let wait = ramps.as_ref().map_or(UNIT, |ramps| ramps.wait(id, now, UNIT));
                cost(loads.active(id), *bias, wait)
            }),
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

/// `(active + 1) ^ bias` waits, the power at most 2^31.
fn cost(active: u32, bias: Thousandths, wait: u64) -> u64 {
    let active = u64::from(active) + 1;
    let cost = match bias {
        Thousandths(0) => u128::from(wait),
        Thousandths::ONE => u128::from(wait) * u128::from(active),
        Thousandths(bias) => {
            let times = u128::from(log2(active)) * u128::from(bias) / 1_000;
            let power = doubled(u64::try_from(times).unwrap_or(u64::MAX));
            (u128::from(wait) * u128::from(power)) >> 32
        }
    };
    u64::try_from(cost).unwrap_or(u64::MAX).clamp(1, COST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_costs_the_load_to_the_power_of_the_bias() {
        for bias in [0, 1, 250, 500, 999, 1_000, 1_001, 1_500, 2_000, 10_000] {
            for active in (0..300).chain([65_535, u32::MAX]) {
                let exact = (f64::from(active) + 1.0).powf(f64::from(bias) / 1_000.0);
                let most = if bias == 1_000 { f64::from(u32::MAX) + 1.0 } else { f64::from(1_u32 << 31) };
                let found = cost(active, Thousandths(bias), UNIT) as f64 / UNIT as f64;
                let error = (found / exact.min(most) - 1.0).abs();
                assert!(error < 1.0 / UNIT as f64, "{active} to the power of {bias}: {found}");
            }
        }
        assert_eq!(cost(u32::MAX, Thousandths(u32::MAX), u64::MAX), COST_MAX);
        assert_eq!(cost(0, Thousandths(500), 0), 1);
    }
}
