//! What belongs to one worker: its chance, and its place in each cluster's rotation.

use std::collections::BTreeMap;

use naru_admit::Claim;
use naru_balance::{Balancer, Loads};
use naru_base::{Chance, ClusterId, EndpointId, Instant, Weight};
use naru_guard::{Fitness, RefusedBy, Ticket, is_in_panic};

use crate::Snapshot;
use crate::limits::{Leaving, LimitId, Pass, Queued};

/// How busy endpoints are, wherever that is counted: atomics in the proxy, cells in the simulator.
pub trait View {
    /// Requests on their way at this endpoint, from all workers.
    fn active(&self, cluster: ClusterId, endpoint: EndpointId) -> u32;

    /// Another number whenever the fitness of one of its endpoints is another one.
    fn generation(&self, _cluster: ClusterId) -> u64 {
        0
    }

    fn fitness(&self, _cluster: ClusterId, _endpoint: EndpointId) -> Fitness {
        Fitness::FIT
    }

    /// May a call go to this cluster now? Whoever is admitted says what became of it: see [`crate::Report`].
    fn enter(&self, _now: Instant, _cluster: ClusterId, _chance: &mut Chance) -> Admission {
        Admission::Unguarded
    }

    /// May a request pass this limit? Whoever was admitted or waits in line leaves it by [`View::leave`].
    fn pass(&self, _now: Instant, _limit: LimitId, _chance: &mut Chance) -> Pass {
        Pass::Admitted
    }

    /// Has the turn of one that waits in line come?
    fn claim(&self, _now: Instant, _limit: LimitId, _place: Queued) -> Claim {
        Claim::Admitted
    }

    fn leave(&self, _now: Instant, _limit: LimitId, _leaving: Leaving) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nobody wants to know what becomes of it.
    Unguarded,
    /// With a ticket where there is a breaker.
    Admitted(Option<Ticket>),
    Refused(RefusedBy),
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
    clusters: Vec<InTurn>,
}

/// A cluster, as one worker picks from it.
#[derive(Clone, Debug)]
struct InTurn {
    balancer: Balancer,
    weights: Vec<Weight>,
    /// Whose fitness the balancer knows.
    generation: u64,
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
            clusters: Vec::with_capacity(snapshot.clusters.len()),
        };
        worker.clusters.extend(snapshot.clusters.iter().map(InTurn::empty));
        worker
    }

    /// What a worker goes on with when `new` takes the place of `old`: its chance continues, and so does the
    /// rotation of a cluster that is there by name and balances alike; its endpoints are the same until
    /// [`Worker::set_endpoints`]. `self` stays for the requests that began with `old`, with chance of its own.
    pub fn succeed(&mut self, old: &Snapshot, new: &Snapshot) -> Worker {
        let known: BTreeMap<&str, usize> =
            (0..).zip(&old.clusters).map(|(at, cluster)| (cluster.name.as_str(), at)).collect();
        let clusters = new.clusters.iter().map(|cluster| {
            let before = known.get(cluster.name.as_str()).copied().filter(|at| {
                old.clusters.get(*at).is_some_and(|old| old.load_balancing == cluster.load_balancing)
            });
            before.and_then(|at| self.clusters.get(at).cloned()).unwrap_or_else(|| InTurn::empty(cluster))
        });
        let clusters = clusters.collect();
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
            clusters,
        }
    }

    /// The endpoints of a cluster are these now; ids are indexes into `weights`.
    pub fn set_endpoints(&mut self, snapshot: &Snapshot, cluster: ClusterId, weights: &[Weight]) {
        let start = self.start(snapshot, cluster);
        if let Some(here) = self.clusters.get_mut(cluster.index()) {
            here.weights = weights.to_vec();
            here.balancer = Balancer::new(snapshot.cluster(cluster).load_balancing, weights, start);
            here.generation = 0;
        }
    }

    /// Workers start at different places of a rotation, or all would begin at the first endpoint.
    fn start(&self, snapshot: &Snapshot, cluster: ClusterId) -> u64 {
        Chance::split(self.seed, &snapshot.cluster(cluster).name).draw()
    }

    /// The draw of the next request.
    #[inline]
    pub fn draw_request(&mut self) -> u64 {
        self.requests.draw()
    }

    // Forced: a retry calls it as well, and seldom.
    #[inline(always)]
    pub(crate) fn pick(
        &mut self,
        snapshot: &Snapshot,
        cluster: ClusterId,
        view: &impl View,
    ) -> Option<EndpointId> {
        let generation = view.generation(cluster);
        if self.clusters.get(cluster.index())?.generation != generation {
            self.look_at_fitness(snapshot, cluster, generation, view);
        }
        let here = self.clusters.get_mut(cluster.index())?;
        here.balancer.pick(&OfCluster { cluster, view }, &mut self.picks)
    }

    /// The endpoints that are not fit are not picked, but where so few are fit that all are asked.
    #[cold]
    fn look_at_fitness(
        &mut self,
        snapshot: &Snapshot,
        cluster: ClusterId,
        generation: u64,
        view: &impl View,
    ) {
        let start = self.start(snapshot, cluster);
        let Some(here) = self.clusters.get_mut(cluster.index()) else { return };
        let settings = snapshot.cluster(cluster);
        let all: Vec<Fitness> =
            (0..here.weights.len() as u32).map(|at| view.fitness(cluster, EndpointId(at))).collect();
        let (fit, counted) = all.iter().fold((0, 0), |(fit, counted), fitness| {
            (fit + u32::from(fitness.is_fit()), counted + u32::from(fitness.is_counted()))
        });
        let is_panic = is_in_panic(settings.guard.panic_percent, fit, counted);
        let weights = here.weights.iter().zip(&all).map(|(weight, fitness)| {
            let may_be_asked = if is_panic { fitness.is_counted() } else { fitness.is_fit() };
            if may_be_asked { *weight } else { Weight(0) }
        });
        let weights: Vec<Weight> = weights.collect();
        here.balancer = Balancer::new(settings.load_balancing, &weights, start);
        here.generation = generation;
    }

    /// May a call go to this cluster now?
    #[inline]
    pub(crate) fn enter(&mut self, now: Instant, cluster: ClusterId, view: &impl View) -> Admission {
        view.enter(now, cluster, &mut self.picks)
    }

    /// May a request pass this limit?
    pub(crate) fn pass(&mut self, now: Instant, limit: LimitId, view: &impl View) -> Pass {
        view.pass(now, limit, &mut self.picks)
    }
}

impl InTurn {
    fn empty(cluster: &naru_spec::Cluster) -> InTurn {
        let balancer = Balancer::new(cluster.load_balancing, &[], 0);
        InTurn { balancer, weights: Vec::new(), generation: 0 }
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
            load_balancing: *load_balancing,
            ..Cluster::new(*name, Discovery::Static, Vec::new())
        });
        Snapshot::compile(Config { clusters: clusters.collect(), ..Config::default() }).unwrap()
    }

    #[test]
    fn a_rotation_goes_on_under_a_new_snapshot_and_chance_is_never_drawn_twice() {
        let old = snapshot(&[("gone", LoadBalancing::RoundRobin), ("stays", LoadBalancing::RoundRobin)]);
        let new = snapshot(&[("stays", LoadBalancing::RoundRobin), ("gone", LoadBalancing::Random)]);
        let mut first = Worker::new(&old, 7);
        first.set_endpoints(&old, ClusterId(0), &[Weight(1); 3]);
        first.set_endpoints(&old, ClusterId(1), &[Weight(1); 3]);
        let picked = first.pick(&old, ClusterId(1), &Idle).unwrap();
        let mut second = first.succeed(&old, &new);
        let next = EndpointId((picked.0 + 1) % 3);
        assert_eq!(second.pick(&new, ClusterId(0), &Idle), Some(next));
        assert_eq!(
            first.pick(&old, ClusterId(1), &Idle),
            Some(next),
            "what began before sees its own rotation"
        );
        assert_eq!(second.pick(&new, ClusterId(1), &Idle), None, "it balances otherwise, and is built anew");
        let of_first: Vec<u64> = (0..1_000).map(|_| first.names.draw()).collect();
        assert!((0..1_000).all(|_| !of_first.contains(&second.names.draw())));
    }
}
