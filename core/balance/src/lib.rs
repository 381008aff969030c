//! Which endpoint?
//!
//! In come the weights of a cluster's endpoints, how many requests each of them has in flight
//! ([`Loads`]), and chance; out goes the id of one endpoint. A worker has its own [`Balancer`] for
//! each cluster, so that picking shares nothing; it is built anew when the endpoints change.
//!
//! Deliberately not here: which endpoints are fit to be picked (`guard`), what happens when the
//! picked one fails (`recover`), who counts the requests. Semantics: Envoy's load balancers of the
//! same names. Weights are integers and so are virtual times, so the same calls give the same picks
//! on every machine; endpoints that are equal otherwise go by id. A pick does not allocate.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: the kinds as `naru_spec::LoadBalancing` lists them, then what two of them use.
mod round_robin;
mod least_request;
mod random;
mod schedule;

use naru_base::{Chance, EndpointId, Weight};
use naru_spec::LoadBalancing;

use least_request::LeastRequest;
use random::Random;
use round_robin::RoundRobin;

/// How many requests each endpoint has in flight right now: atomics in the proxy, cells in the
/// simulator, numbers in a test.
pub trait Loads {
    fn active(&self, endpoint: EndpointId) -> u32;
}

impl<F: Fn(EndpointId) -> u32> Loads for F {
    #[inline]
    fn active(&self, endpoint: EndpointId) -> u32 {
        self(endpoint)
    }
}

/// By id; an endpoint beyond the end has none in flight.
impl Loads for [u32] {
    #[inline]
    fn active(&self, endpoint: EndpointId) -> u32 {
        self.get(endpoint.index()).copied().unwrap_or(0)
    }
}

/// Picks endpoints of one cluster by one policy.
#[derive(Clone, Debug)]
pub struct Balancer {
    kind: Kind,
    len: usize,
}

#[derive(Clone, Debug)]
enum Kind {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Random),
}

impl Balancer {
    /// The weight at position `i` is that of `EndpointId(i)`; one of zero is never picked.
    /// `seed_draw`, a uniform number, says where a rotation starts, so that workers and restarts do
    /// not all begin with the first endpoint.
    pub fn new(policy: LoadBalancing, weights: &[Weight], seed_draw: u64) -> Balancer {
        let takers = takers(weights);
        let kind = match policy {
            LoadBalancing::RoundRobin => Kind::RoundRobin(RoundRobin::new(&takers, seed_draw)),
            LoadBalancing::LeastRequest { choices } => {
                Kind::LeastRequest(LeastRequest::new(&takers, choices, seed_draw))
            }
            LoadBalancing::Random => Kind::Random(Random::new(&takers)),
        };
        Balancer { kind, len: weights.len() }
    }

    /// `None` only where there is no endpoint with a weight above zero.
    // Forced: a retry calls it as well, and seldom.
    #[inline(always)]
    pub fn pick<L: Loads + ?Sized>(&mut self, loads: &L, chance: &mut Chance) -> Option<EndpointId> {
        match &mut self.kind {
            Kind::RoundRobin(kind) => kind.pick(),
            Kind::LeastRequest(kind) => kind.pick(loads, chance),
            Kind::Random(kind) => kind.pick(chance),
        }
    }

    /// How many endpoints it was built with.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// An endpoint that takes a share: its weight is above zero.
#[derive(Clone, Copy, Debug)]
struct Taker {
    id: EndpointId,
    weight: u32,
}

fn takers(weights: &[Weight]) -> Vec<Taker> {
    let all = (0..).zip(weights).map(|(id, weight)| Taker { id: EndpointId(id), weight: weight.0 });
    all.filter(|taker| taker.weight > 0).collect()
}

fn ids(takers: &[Taker]) -> Vec<EndpointId> {
    takers.iter().map(|taker| taker.id).collect()
}

fn is_even(takers: &[Taker]) -> bool {
    takers.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight))
}

#[cfg(test)]
mod tests;
