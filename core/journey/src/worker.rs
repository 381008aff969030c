//! What belongs to one worker: its chance, and its place in each cluster's rotation.

use naru_balance::{Balancer, Loads};
use naru_base::{Chance, ClusterId, EndpointId, Weight};

use crate::Snapshot;

/// How busy endpoints are, wherever that is counted: atomics in the proxy, cells in the simulator.
pub trait View {
    /// Requests on their way at this endpoint, from all workers.
    fn active(&self, cluster: ClusterId, endpoint: EndpointId) -> u32;
}

#[derive(Debug)]
pub struct Worker {
    seed: u64,
    /// One draw a request, for fractions and weighted clusters; see [`naru_route::Subject::draw`].
    requests: Chance,
    /// For picks of endpoints.
    picks: Chance,
    /// For the identities that requests are given.
    pub(crate) names: Chance,
    /// By [`ClusterId`].
    balancers: Vec<Balancer>,
}

impl Worker {
    /// All chance of a worker comes from `seed`: the same requests in the same order are then
    /// decided alike. Clusters have no endpoints until [`Worker::set_endpoints`].
    pub fn new(snapshot: &Snapshot, seed: u64) -> Worker {
        let mut worker = Worker {
            seed,
            requests: Chance::split(seed, "requests"),
            picks: Chance::split(seed, "picks"),
            names: Chance::split(seed, "names"),
            balancers: Vec::with_capacity(snapshot.clusters.len()),
        };
        for cluster in &snapshot.clusters {
            worker.balancers.push(Balancer::new(cluster.load_balancing, &[], 0));
        }
        worker
    }

    /// The endpoints of a cluster are these now; ids are indexes into `weights`.
    pub fn set_endpoints(&mut self, snapshot: &Snapshot, cluster: ClusterId, weights: &[Weight]) {
        // Workers start at different places of a rotation, or all would begin at the first endpoint.
        let name = &snapshot.cluster(cluster).name;
        let start = Chance::split(self.seed, name).draw();
        if let Some(balancer) = self.balancers.get_mut(cluster.index()) {
            *balancer = Balancer::new(snapshot.cluster(cluster).load_balancing, weights, start);
        }
    }

    /// The draw of the next request.
    #[inline]
    pub fn draw_request(&mut self) -> u64 {
        self.requests.draw()
    }

    #[inline]
    pub(crate) fn pick(&mut self, cluster: ClusterId, view: &impl View) -> Option<EndpointId> {
        let balancer = self.balancers.get_mut(cluster.index())?;
        balancer.pick(&OfCluster { cluster, view }, &mut self.picks)
    }
}

/// The loads of one cluster.
struct OfCluster<'a, V> {
    cluster: ClusterId,
    view: &'a V,
}

impl<V: View> Loads for OfCluster<'_, V> {
    #[inline]
    fn active(&self, endpoint: EndpointId) -> u32 {
        self.view.active(self.cluster, endpoint)
    }
}
