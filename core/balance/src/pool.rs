//! Endpoints that share requests by a policy: all of one fitness, priority and, perhaps, locality.

use std::sync::Arc;

use naru_base::{Chance, EndpointId, Instant};
use naru_spec::{BalancingPolicy, ConsistentHash};

use crate::Loads;
use crate::consistent::Consistent;
use crate::endpoint::Taker;
use crate::least_request::LeastRequest;
use crate::peak_ewma::{Latencies, PeakEwma};
use crate::random::Random;
use crate::round_robin::RoundRobin;
use crate::warm_up::Ramps;

#[derive(Clone, Debug)]
pub(crate) enum Pool {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Random),
    PeakEwma(Box<PeakEwma>),
    Consistent(Box<Consistent>),
    /// Where there is nobody to pick, or nobody is to be picked.
    Nobody,
}

/// What a pool is built of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) policy: &'a BalancingPolicy,
    pub(crate) ramps: Option<&'a Arc<Ramps>>,
    pub(crate) now: Instant,
}

/// What of a request a pool looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) now: Instant,
    pub(crate) hash: Option<u64>,
    /// How many were picked for it before, and not taken.
    pub(crate) attempt: u32,
}

impl Pool {
    /// `consistent` is asked for only where the policy hashes. Ids of takers rise.
    pub(crate) fn new(
        plan: Plan<'_>,
        takers: &[Taker],
        consistent: impl FnOnce(ConsistentHash) -> Option<Consistent>,
        seed_draw: u64,
    ) -> Pool {
        if takers.is_empty() {
            return Pool::Nobody;
        }
        match plan.policy {
            BalancingPolicy::RoundRobin => {
                Pool::RoundRobin(RoundRobin::new(takers, plan.ramps, plan.now, seed_draw))
            }
            BalancingPolicy::LeastRequest(settings) => {
                Pool::LeastRequest(LeastRequest::new(takers, *settings, plan.ramps, plan.now, seed_draw))
            }
            BalancingPolicy::Random => Pool::Random(Random::new(takers)),
            BalancingPolicy::PeakEwma(_) => Pool::PeakEwma(Box::new(PeakEwma::new(takers))),
            BalancingPolicy::ConsistentHash(settings) => {
                consistent(*settings).map_or(Pool::Nobody, |pool| Pool::Consistent(Box::new(pool)))
            }
            BalancingPolicy::Passthrough => Pool::Nobody,
        }
    }

    #[inline(always)]
    pub(crate) fn pick<L: Loads + ?Sized>(
        &mut self,
        asked: Asked,
        latencies: Option<&Latencies>,
        loads: &L,
        chance: &mut Chance,
    ) -> Option<EndpointId> {
        match self {
            Pool::RoundRobin(pool) => pool.pick(asked.now),
            Pool::LeastRequest(pool) => pool.pick(asked.now, loads, chance),
            Pool::Random(pool) => pool.pick(chance),
            Pool::PeakEwma(pool) => latencies.and_then(|known| pool.pick(asked.now, known, loads, chance)),
            Pool::Consistent(pool) => {
                // Without a hash it is chance.
                let hash = asked.hash.unwrap_or_else(|| chance.draw());
                pool.pick(hash, asked.attempt, loads)
            }
            Pool::Nobody => None,
        }
    }

    pub(crate) fn check_invariants(&self) -> Result<(), &'static str> {
        match self {
            Pool::RoundRobin(RoundRobin::Even { ids, next }) if *next >= ids.len() => {
                Err("a rotation is beyond its end")
            }
            Pool::RoundRobin(RoundRobin::Weighted(schedule))
            | Pool::LeastRequest(LeastRequest::Weighted(schedule)) => schedule.check_invariants(),
            Pool::RoundRobin(RoundRobin::Warming { schedule, ramps }) => {
                ramps.check_invariants()?;
                schedule.check_invariants()
            }
            Pool::LeastRequest(LeastRequest::Biased { schedule, ramps, .. }) => {
                ramps.as_ref().map_or(Ok(()), |ramps| ramps.check_invariants())?;
                schedule.check_invariants()
            }
            Pool::RoundRobin(RoundRobin::Even { .. })
            | Pool::LeastRequest(LeastRequest::Even { .. })
            | Pool::Consistent(_)
            | Pool::Random(_)
            | Pool::PeakEwma(_)
            | Pool::Nobody => Ok(()),
        }
    }
}
