//! What a balancer is told of the endpoints of its cluster.

use std::net::SocketAddr;

use naru_base::{EndpointId, Instant, Weight};
use naru_spec::{BalancingPolicy, Endpoint, LoadBalancing, Locality};

/// Of whom nobody says where they stand.
static NOWHERE: Locality = Locality { region: String::new(), zone: String::new(), sub_zone: String::new() };

/// What does not change while an endpoint is there.
#[derive(Clone, Copy, Debug)]
pub struct EndpointFacts<'a> {
    /// One of zero is never picked, and not counted.
    pub weight: Weight,
    /// Zero first.
    pub priority: u32,
    pub locality: &'a Locality,
    /// Of its locality among those of its priority; the first endpoint of a locality says it for all.
    pub locality_weight: Weight,
    /// What its places in a consistent hash and its sticky sessions are made of: its address as text,
    /// or its host name where the settings say so. Only these two look at it.
    pub key: &'a str,
}

impl<'a> EndpointFacts<'a> {
    /// Of an address that the configuration's `endpoint` stands for.
    pub fn of(endpoint: &'a Endpoint, key: &'a str) -> EndpointFacts<'a> {
        EndpointFacts {
            weight: endpoint.weight,
            priority: endpoint.priority,
            locality: &endpoint.locality,
            locality_weight: endpoint.locality_weight,
            key,
        }
    }

    /// Of an endpoint that is like the others but for its weight.
    pub fn of_weight(weight: Weight) -> EndpointFacts<'a> {
        EndpointFacts { weight, priority: 0, locality: &NOWHERE, locality_weight: Weight(1), key: "" }
    }
}

/// The key of an endpoint at `address`; `host_name` is what DNS was asked for, empty where it was not.
pub fn key(settings: &LoadBalancing, address: SocketAddr, host_name: &str) -> String {
    match settings.policy {
        BalancingPolicy::ConsistentHash(hash) if hash.by_host_name && !host_name.is_empty() => {
            host_name.to_owned()
        }
        _ => address.to_string(),
    }
}

/// How good an endpoint is right now: what health checks, ejections and whoever takes it out of service
/// come to. One that is ejected is unfit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    Fit {
        /// When it was added, or became fit again: then it begins to warm up, if it does.
        since: Instant,
    },
    /// It takes what the fit ones cannot.
    Degraded,
    Unfit,
    /// It is neither picked nor counted, not even in panic: not checked yet, or out of service by its own word.
    Excluded,
}

impl Fitness {
    /// For as long as anybody knows.
    pub const FIT: Fitness = Fitness::Fit { since: Instant::ZERO };
}

/// An endpoint that takes a share: its weight is above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taker {
    pub(crate) id: EndpointId,
    pub(crate) weight: u32,
}

pub(crate) fn ids(takers: &[Taker]) -> Vec<EndpointId> {
    takers.iter().map(|taker| taker.id).collect()
}

pub(crate) fn is_even(takers: &[Taker]) -> bool {
    takers.windows(2).all(|pair| matches!(pair, [a, b] if a.weight == b.weight))
}

/// How many requests each endpoint has in flight right now: atomics in the proxy, cells in the
/// simulator, numbers in a test.
pub trait Loads {
    fn active(&self, endpoint: EndpointId) -> u32;

    /// At all of a cluster's `count` endpoints together. Asked for only where a consistent hash bounds
    /// loads; whoever counts this anyway says it cheaper.
    fn total(&self, count: usize) -> u64 {
        (0..count as u32).map(|id| u64::from(self.active(EndpointId(id)))).sum()
    }
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
