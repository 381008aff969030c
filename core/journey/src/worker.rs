//! What belongs to one worker: its chance, and its place in each cluster's rotation.

use std::collections::BTreeMap;

use naru_balance::{Balancer, EndpointFacts, Loads, PickContext};
use naru_base::{Chance, ClusterId, EndpointId};

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
            worker.balancers.push(Balancer::new(&cluster.load_balancing, &[], 0));
        }
        worker
    }

    /// What a worker goes on with when `new` takes the place of `old`: its chance continues, and so does the
    /// rotation of a cluster that is there by name and balances alike; its endpoints are the same until
    /// [`Worker::set_endpoints`]. `self` stays for the requests that began with `old`, with chance of its own.
    pub fn succeed(&mut self, old: &Snapshot, new: &Snapshot) -> Worker {
        let known: BTreeMap<&str, usize> =
            (0..).zip(&old.clusters).map(|(at, cluster)| (cluster.name.as_str(), at)).collect();
        let balancers = new.clusters.iter().map(|cluster| {
            let before = known.get(cluster.name.as_str()).copied().filter(|at| {
                old.clusters.get(*at).is_some_and(|old| old.load_balancing == cluster.load_balancing)
            });
            before
                .and_then(|at| self.balancers.get(at).cloned())
                .unwrap_or_else(|| Balancer::new(&cluster.load_balancing, &[], 0))
        });
        let balancers = balancers.collect();
        // Two that drew the same numbers would give two requests the same identity.
        let hand_over = |chance: &mut Chance| {
            let apart = Chance::new(chance.draw());
            std::mem::replace(chance, apart)
        };
        Worker {
            seed: self.seed,
            requests: hand_over(&mut self.requests),
            picks: hand_over(&mut self.picks),
            names: hand_over(&mut self.names),
            balancers,
        }
    }

    /// The endpoints of a cluster are these now; ids are indexes into `endpoints`.
    pub fn set_endpoints(
        &mut self,
        snapshot: &Snapshot,
        cluster: ClusterId,
        endpoints: &[EndpointFacts<'_>],
    ) {
        // Workers start at different places of a rotation, or all would begin at the first endpoint.
        let name = &snapshot.cluster(cluster).name;
        let start = Chance::split(self.seed, name).draw();
        if let Some(balancer) = self.balancers.get_mut(cluster.index()) {
            *balancer = Balancer::new(&snapshot.cluster(cluster).load_balancing, endpoints, start);
        }
    }

    /// The draw of the next request.
    #[inline]
    pub fn draw_request(&mut self) -> u64 {
        self.requests.draw()
    }

    // Forced: a retry calls it as well, and seldom.
    #[inline(always)]
    pub(crate) fn pick(&mut self, cluster: ClusterId, view: &impl View) -> Option<EndpointId> {
        let balancer = self.balancers.get_mut(cluster.index())?;
        balancer.pick(&PickContext::default(), &OfCluster { cluster, view }, &mut self.picks)
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

#[cfg(test)]
mod tests {
    use naru_base::Weight;
    use naru_spec::{Cluster, Config, Discovery, LoadBalancing};

    use super::*;

    struct Idle;

    impl View for Idle {
        fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
            0
        }
    }

    fn snapshot(clusters: &[(&str, LoadBalancing)]) -> Snapshot {
        let clusters = clusters.iter().map(|(name, load_balancing)| Cluster {
            load_balancing: load_balancing.clone(),
            ..Cluster::new(*name, Discovery::Static, Vec::new())
        });
        Snapshot::compile(Config { clusters: clusters.collect(), ..Config::default() }).unwrap()
    }

    #[test]
    fn a_rotation_goes_on_under_a_new_snapshot_and_chance_is_never_drawn_twice() {
        let old =
            snapshot(&[("gone", LoadBalancing::round_robin()), ("stays", LoadBalancing::round_robin())]);
        let new = snapshot(&[("stays", LoadBalancing::round_robin()), ("gone", LoadBalancing::random())]);
        let mut first = Worker::new(&old, 7);
        first.set_endpoints(&old, ClusterId(0), &[EndpointFacts::of_weight(Weight(1)); 3]);
        first.set_endpoints(&old, ClusterId(1), &[EndpointFacts::of_weight(Weight(1)); 3]);
        let picked = first.pick(ClusterId(1), &Idle).unwrap();
        let mut second = first.succeed(&old, &new);
        let next = EndpointId((picked.0 + 1) % 3);
        assert_eq!(second.pick(ClusterId(0), &Idle), Some(next));
        assert_eq!(first.pick(ClusterId(1), &Idle), Some(next), "what began before sees its own rotation");
        assert_eq!(second.pick(ClusterId(1), &Idle), None, "it balances otherwise, and is built anew");
        let of_first: Vec<u64> = (0..1_000).map(|_| first.names.draw()).collect();
        assert!((0..1_000).all(|_| !of_first.contains(&second.names.draw())));
    }
}
