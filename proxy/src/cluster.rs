//! The clusters as they are now: endpoints, and what all workers know of each.
//!
//! What is shared is a few atomics for each endpoint, owned by whoever discovers endpoints and read
//! by every worker. What a worker keeps for itself (connections, its place in the rotation) hangs on
//! its own [`EndpointHere`], and outlives a change of the set as long as the address stays.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use naru_base::{ClusterId, EndpointId, Weight};
use naru_journey::View;
use naru_tls::Connector;

use crate::pool::EndpointPool;

/// An endpoint, as all workers share it.
#[derive(Debug)]
pub struct EndpointShared {
    pub address: SocketAddr,
    /// What DNS was asked for; empty where it was not.
    pub host_name: Arc<str>,
    pub weight: Weight,
    /// Requests on their way.
    pub active: AtomicU32,
    /// Connections that stand.
    pub connections: AtomicU32,
    pub requests_total: AtomicU64,
    pub connections_total: AtomicU64,
    pub connect_failures_total: AtomicU64,
    /// Answers of 5xx, and answers that never came.
    pub errors_total: AtomicU64,
}

impl EndpointShared {
    pub fn new(address: SocketAddr, host_name: Arc<str>, weight: Weight) -> Arc<EndpointShared> {
        Arc::new(EndpointShared {
            address,
            host_name,
            weight,
            active: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            requests_total: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            connect_failures_total: AtomicU64::new(0),
            errors_total: AtomicU64::new(0),
        })
    }
}

/// A cluster's endpoints at one time; ids are indexes into it.
pub type EndpointSet = Arc<[Arc<EndpointShared>]>;

/// How a cluster is seen from outside.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    pub name: String,
    pub endpoints: Vec<EndpointStatus>,
}

#[derive(Clone, Debug)]
pub struct EndpointStatus {
    pub address: SocketAddr,
    pub host_name: String,
    pub weight: u32,
    pub active: u32,
    pub connections: u32,
    pub requests_total: u64,
    pub connections_total: u64,
    pub connect_failures_total: u64,
    pub errors_total: u64,
}

impl EndpointShared {
    pub fn status(&self) -> EndpointStatus {
        EndpointStatus {
            address: self.address,
            host_name: self.host_name.to_string(),
            weight: self.weight.0,
            active: self.active.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            requests_total: self.requests_total.load(Ordering::Relaxed),
            connections_total: self.connections_total.load(Ordering::Relaxed),
            connect_failures_total: self.connect_failures_total.load(Ordering::Relaxed),
            errors_total: self.errors_total.load(Ordering::Relaxed),
        }
    }
}

/// How connections to a cluster are secured, for each protocol that may be asked for.
#[derive(Clone, Debug)]
pub struct Connectors {
    pub http1: Connector,
    pub http2: Connector,
    pub either: Connector,
}

/// A cluster, as one worker has it.
#[derive(Debug)]
pub struct ClusterHere {
    endpoints: RefCell<Vec<Rc<EndpointHere>>>,
    pub connectors: Option<Connectors>,
    pub stats: ClusterStats,
}

/// Counts of one worker.
#[derive(Debug, Default)]
pub struct ClusterStats {
    pub connections_active: Cell<u64>,
    pub connections_total: Cell<u64>,
    pub connect_failures: Cell<u64>,
    pub connect_timeouts: Cell<u64>,
    pub requests_active: Cell<u64>,
    pub requests_total: Cell<u64>,
    pub replays: Cell<u64>,
    pub retries: Cell<u64>,
    pub retries_exceeded: Cell<u64>,
}

/// An endpoint, as one worker has it.
#[derive(Debug)]
pub struct EndpointHere {
    shared: RefCell<Arc<EndpointShared>>,
    pub pool: EndpointPool,
}

impl EndpointHere {
    pub fn shared(&self) -> Arc<EndpointShared> {
        Arc::clone(&self.shared.borrow())
    }

    pub fn address(&self) -> SocketAddr {
        self.shared.borrow().address
    }
}

impl ClusterHere {
    pub fn new(connectors: Option<Connectors>) -> ClusterHere {
        ClusterHere { endpoints: RefCell::default(), connectors, stats: ClusterStats::default() }
    }

    pub fn endpoint(&self, id: EndpointId) -> Option<Rc<EndpointHere>> {
        self.endpoints.borrow().get(id.index()).map(Rc::clone)
    }

    pub fn endpoints(&self) -> Vec<Rc<EndpointHere>> {
        self.endpoints.borrow().clone()
    }

    /// Takes a new set over. An endpoint whose address stays keeps its connections. With
    /// `is_logical` the only endpoint keeps them whatever its address becomes.
    pub fn set_endpoints(&self, set: &EndpointSet, is_logical: bool) {
        let mut endpoints = self.endpoints.borrow_mut();
        let mut old = std::mem::take(&mut *endpoints);
        for shared in set.iter() {
            let known = old.iter().position(|here| is_logical || here.address() == shared.address);
            match known {
                Some(at) => {
                    let here = old.swap_remove(at);
                    *here.shared.borrow_mut() = Arc::clone(shared);
                    endpoints.push(here);
                }
                None => endpoints.push(Rc::new(EndpointHere {
                    shared: RefCell::new(Arc::clone(shared)),
                    pool: EndpointPool::default(),
                })),
            }
        }
    }
}

/// What the core may see of the endpoints of all clusters.
#[derive(Debug)]
pub struct Clusters(pub Vec<ClusterHere>);

impl Clusters {
    pub fn get(&self, id: ClusterId) -> &ClusterHere {
        &self.0[id.index()]
    }
}

impl View for Clusters {
    #[inline]
    fn active(&self, cluster: ClusterId, endpoint: EndpointId) -> u32 {
        let endpoints = self.0[cluster.index()].endpoints.borrow();
        endpoints.get(endpoint.index()).map_or(0, |here| here.shared.borrow().active.load(Ordering::Relaxed))
    }
}

/// Adds to a count that only this worker writes.
#[inline]
pub fn add(count: &Cell<u64>, change: i64) {
    count.set(count.get().wrapping_add_signed(change));
}
