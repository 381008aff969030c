//! What belongs to one worker: its chance, and its place in each cluster's rotation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use naru_admit::Claim;
use naru_admit::described::Described;
use naru_admit::local_rate::LocalSaid;
use naru_admit::quota::{Room, Spent};
use naru_balance::{
    Balancer, Bound, EndpointFacts, Fitness as InBalance, Hashable, Hashed, Loads, PickContext, Roster, Tried,
};
use naru_base::{Chance, ClusterId, EndpointId, Instant, WallTime};
use naru_guard::{AttemptResult, Fitness, RefusedBy, Ticket};
use naru_recover::RetryLoad;
use naru_route::{SessionId, Subject};
use naru_spec::{BalancingPolicy, HashPolicy, RetryLimit};

use crate::gate::local_rate::{LocalRateCount, LocalRateId};
use crate::gate::quotas::{Claim as QuotaClaim, Told};
use crate::limits::{Leaving, LimitId, Pass, Queued};
use crate::timeouts::{LearnedTimeout, Timeouts};
use crate::{Report, Snapshot};

/// How busy endpoints are, wherever that is counted: atomics in the proxy, cells in the simulator.
pub trait View {
    /// Whether a pick finds out for itself that fitness is another one, or that a warm-up is over, and builds what is to
    /// be built. Where somebody waits for a pick it must not, and the shell calls [`Worker::refresh`] instead.
    const PICKS_REFRESH: bool = true;

    /// Requests on their way at this endpoint, from all workers.
    fn active(&self, cluster: ClusterId, endpoint: EndpointId) -> u32;

    /// The endpoint at an address that a request brought, of a cluster that has no others; `None` where it has too many.
    fn endpoint_at(&self, _cluster: ClusterId, _address: SocketAddr) -> Option<EndpointId> {
        None
    }

    /// What is known of where an address is.
    fn place(&self, _geo: crate::door::GeoId, _address: std::net::IpAddr) -> crate::door::GeoPlace {
        crate::door::GeoPlace::default()
    }

    /// Counts what a check has said.
    fn count_check(&self, _what: crate::gate::CheckCount) {}

    /// Another number whenever the fitness of one of its endpoints is another one.
    fn generation(&self, _cluster: ClusterId) -> u64 {
        0
    }

    /// How many requests it has, how many of them are retries, and where `limit` counts them by time, how many there
    /// were. Asked only where a retry is wanted.
    fn retry_load(&self, _now: Instant, _cluster: ClusterId, _limit: RetryLimit) -> RetryLoad {
        RetryLoad::default()
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

    /// Takes from limits that this process counts by itself: from all, or from none.
    fn spend(&self, _now: Instant, claims: &[QuotaClaim]) -> Told {
        Told { spent: Spent::default(), rooms: vec![Room::default(); claims.len()] }
    }

    /// Takes of the buckets of a local rate limit that this process counts by itself.
    fn local_rate(&self, _now: Instant, _rate: LocalRateId, _asked: &[Described]) -> LocalSaid {
        LocalSaid::PASSES
    }

    /// Counts what a local rate limit has said.
    fn count_local_rate(&self, _rate: LocalRateId, _what: LocalRateCount) {}

    /// At which level of a `Surge` the process is; 0 is the ordinary one.
    fn surge_level(&self) -> u32 {
        0
    }

    /// Has the turn of one that waits in line come?
    fn claim(&self, _now: Instant, _limit: LimitId, _place: Queued) -> Claim {
        Claim::Admitted
    }

    fn leave(&self, _now: Instant, _limit: LimitId, _leaving: Leaving) {}

    /// Whether a request of this [`naru_recover::layer::trace`] was tried again by somebody else since then, for all
    /// that could be; see [`View::tell_retried`].
    fn was_retried(&self, _trace: u64, _since: Instant) -> bool {
        false
    }

    fn tell_retried(&self, _now: Instant, _trace: u64) {}

    /// The date and time; for waits until a date that a response says.
    fn wall(&self) -> WallTime {
        WallTime::default()
    }

    /// How many requests are in a fault; see [`crate::Journey::is_in_fault`].
    fn faults_active(&self) -> u32 {
        0
    }

    /// Has this session written so lately that it reads from the group for writes?
    fn has_written(&self, _now: Instant, _session: SessionId) -> bool {
        false
    }

    /// A write of this session is done: until then it reads from the group for writes.
    fn wrote(&self, _until: Instant, _session: SessionId) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nobody wants to know what becomes of it.
    Unguarded,
    /// With a ticket where there is a breaker.
    Admitted(Option<Ticket>),
    Refused {
        by: RefusedBy,
        /// When it may let one through, where that is known.
        retry_after: Option<Duration>,
    },
}

#[derive(Debug)]
pub struct Worker {
    seed: u64,
    /// One draw a request, for fractions and weighted clusters; see [`naru_route::Subject::draw`].
    requests: Chance,
    /// For picks of endpoints.
    picks: Chance,
    /// One draw a request whose rule has mirrors.
    pub(crate) copies: Chance,
    /// For how long retries wait.
    pub(crate) waits: Chance,
    /// For the identities that requests are given.
    pub(crate) names: Chance,
    /// For failures that are made on purpose.
    pub(crate) faults: Chance,
    pub(crate) timeouts: Timeouts,
    /// By [`ClusterId`].
    clusters: Vec<InTurn>,
}

/// What a request says of its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub hashed: Hashed,
    pub bound: Bound,
    /// Where it was tried already.
    pub tried: Tried,
}

/// A cluster, as one worker picks from it.
#[derive(Clone, Debug)]
struct InTurn {
    balancer: Balancer,
    /// Whose fitness the balancer knows, if it does.
    generation: Option<u64>,
    /// What another snapshot had, until this one has endpoints: it balanced otherwise.
    before: Option<Box<Balancer>>,
}

impl Worker {
    /// All chance of a worker comes from `seed`: the same requests in the same order are then
    /// decided alike. Clusters have no endpoints until [`Worker::set_endpoints`].
    pub fn new(snapshot: &Snapshot, seed: u64) -> Worker {
        let mut worker = Worker {
            seed,
            requests: Chance::split(seed, "requests"),
            picks: Chance::split(seed, "picks"),
            copies: Chance::split(seed, "copies"),
            waits: Chance::split(seed, "waits"),
            names: Chance::split(seed, "names"),
            faults: Chance::split(seed, "faults"),
            timeouts: Timeouts::default(),
            clusters: Vec::with_capacity(snapshot.clusters.len()),
        };
        worker.clusters.extend(snapshot.clusters.iter().map(InTurn::empty));
        worker
    }

    /// What a worker goes on with when `new` takes the place of `old`: its chance continues, and so does the
    /// rotation of a cluster that is there by name and balances alike; its endpoints are the same until
    /// [`Worker::set_endpoints`]. One that balances otherwise has none until then. `self` stays for the requests that began with `old`, with chance of its own.
    pub fn succeed(&mut self, old: &Snapshot, new: &Snapshot) -> Worker {
        let known: BTreeMap<&str, usize> =
            (0..).zip(&old.clusters).map(|(at, cluster)| (cluster.name.as_str(), at)).collect();
        let clusters = new.clusters.iter().map(|cluster| {
            let before = known.get(cluster.name.as_str()).copied();
            let Some((here, old)) = before.and_then(|at| self.clusters.get(at).zip(old.clusters.get(at)))
            else {
                return InTurn::empty(cluster);
            };
            if old.load_balancing == cluster.load_balancing {
                // Fitness may be looked at otherwise: by another guard, or with another share that panics.
                InTurn { generation: None, ..here.clone() }
            } else {
                InTurn { before: Some(Box::new(here.balancer.clone())), ..InTurn::empty(cluster) }
            }
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
            copies: hand_over(&mut self.copies),
            waits: hand_over(&mut self.waits),
            names: hand_over(&mut self.names),
            faults: hand_over(&mut self.faults),
            timeouts: self.timeouts.succeed(old, new),
            clusters,
        }
    }

    /// What automatic timeouts are now, at this worker.
    pub fn learned_timeouts(&self, snapshot: &Snapshot) -> Vec<LearnedTimeout> {
        self.timeouts.learned(snapshot)
    }

    /// The endpoints of a cluster are these from the beginning; ids are indexes into `endpoints`. For one worker by
    /// itself: [`Worker::set_roster`] is for later, and for several that share what is built.
    pub fn set_endpoints(
        &mut self,
        snapshot: &Snapshot,
        cluster: ClusterId,
        endpoints: &[EndpointFacts<'_>],
    ) {
        let roster = Roster::new(&snapshot.cluster(cluster).load_balancing, endpoints);
        self.follow(Instant::ZERO, snapshot, cluster, Arc::new(roster));
    }

    /// The endpoints of a cluster are these from now on, and `view` says how fit they are. As [`Worker::refresh`].
    pub fn set_roster(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        roster: &Arc<Roster>,
        view: &impl View,
    ) -> Option<Instant> {
        // What is the same goes on.
        if !self.roster(cluster).is_some_and(|known| Arc::ptr_eq(known, roster)) {
            self.follow(now, snapshot, cluster, Arc::clone(roster));
        }
        self.refresh(now, snapshot, cluster, view)
    }

    fn roster(&self, cluster: ClusterId) -> Option<&Arc<Roster>> {
        self.clusters.get(cluster.index()).map(|here| here.balancer.roster())
    }

    fn follow(&mut self, now: Instant, snapshot: &Snapshot, cluster: ClusterId, roster: Arc<Roster>) {
        // Workers start at different places of a rotation, or all would begin at the first endpoint.
        let start = Chance::split(self.seed, &snapshot.cluster(cluster).name).draw();
        if let Some(here) = self.clusters.get_mut(cluster.index()) {
            let before = here.before.take();
            let before = before.as_deref().unwrap_or(&here.balancer);
            here.balancer = Balancer::follow(before, now, roster, start);
            here.generation = None;
        }
    }

    /// Fitness is perhaps another one, or a warm-up over: builds what picks look into, off the path of a request.
    /// Says when to do so again where nothing else happens. The time that it takes grows with the number of endpoints.
    pub fn refresh(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        view: &impl View,
    ) -> Option<Instant> {
        let generation = view.generation(cluster);
        let here = self.clusters.get_mut(cluster.index())?;
        if here.generation != Some(generation) {
            let panic_percent = snapshot.cluster(cluster).guard.panic_percent;
            here.look_at_fitness(now, panic_percent, OfCluster { cluster, view }, generation);
        }
        here.balancer.tick(now);
        here.balancer.deadline()
    }

    /// The draw of the next request.
    #[inline]
    pub fn draw_request(&mut self) -> u64 {
        self.requests.draw()
    }

    // Forced: a retry calls it as well, and seldom.
    #[inline(always)]
    pub(crate) fn pick<V: View>(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        chosen: &Chosen,
        view: &V,
    ) -> Option<EndpointId> {
        if V::PICKS_REFRESH {
            self.refresh(now, snapshot, cluster, view);
        }
        let here = self.clusters.get_mut(cluster.index())?;
        let Chosen { hashed, bound, tried } = *chosen;
        let context = PickContext { now, hash: hashed.hash, bound, tried };
        here.balancer.pick(&context, &OfCluster { cluster, view }, &mut self.picks)
    }

    /// What of a request chooses its endpoint, where anything does.
    #[inline]
    pub(crate) fn choose(
        &mut self,
        snapshot: &Snapshot,
        cluster: ClusterId,
        of_route: &[HashPolicy],
        subject: &Subject<'_>,
    ) -> Option<Chosen> {
        let settings = &snapshot.cluster(cluster).load_balancing;
        let is_hashed = matches!(settings.policy, BalancingPolicy::ConsistentHash(_));
        if !is_hashed && settings.sticky.is_none() {
            return None;
        }
        Some(self.look_at_request(cluster, settings.hash_policies(of_route), subject))
    }

    #[cold]
    fn look_at_request(
        &mut self,
        cluster: ClusterId,
        policies: &[HashPolicy],
        subject: &Subject<'_>,
    ) -> Chosen {
        let request =
            Hashable { headers: subject.headers, query: subject.query, source: Some(subject.source) };
        let hashed = naru_balance::hash(policies, &request, &mut self.names);
        let here = self.clusters.get(cluster.index());
        let bound = here.map_or(Bound::Free, |here| here.balancer.bound(subject.headers));
        Chosen { hashed, bound, tried: Tried::default() }
    }

    /// What the response carries so that the next request comes to the same endpoint.
    pub(crate) fn session(
        &self,
        cluster: ClusterId,
        picked: EndpointId,
        bound: Bound,
    ) -> Option<(HeaderName, HeaderValue)> {
        self.clusters.get(cluster.index())?.balancer.session(picked, bound)
    }

    /// May a call go to this cluster now? Where nobody guards it, the balancer may want to know what becomes of it.
    #[inline]
    pub(crate) fn enter(&mut self, now: Instant, cluster: ClusterId, view: &impl View) -> Admission {
        match view.enter(now, cluster, &mut self.picks) {
            Admission::Unguarded if self.is_timed(cluster) => Admission::Admitted(None),
            admission => admission,
        }
    }

    #[inline]
    fn is_timed(&self, cluster: ClusterId) -> bool {
        self.clusters.get(cluster.index()).is_some_and(|here| here.balancer.is_timed())
    }

    /// What became of an attempt, for the balancer that picked its endpoint. Whoever guards the cluster is told by the
    /// shell.
    #[inline]
    pub fn on_report(&mut self, now: Instant, report: &Report) {
        if self.is_timed(report.cluster) {
            self.learn(now, report);
        }
    }

    /// An endpoint that has changed its id meanwhile is taken for another one, once.
    #[cold]
    fn learn(&mut self, now: Instant, report: &Report) {
        let Some(here) = self.clusters.get_mut(report.cluster.index()) else { return };
        match report.result {
            AttemptResult::Answered { .. } => {
                here.balancer.on_latency(now, report.endpoint, report.until_head);
            }
            // Its latency was told with its head.
            AttemptResult::Aborted => {}
            AttemptResult::ConnectFailed
            | AttemptResult::Reset
            | AttemptResult::TimedOut { .. }
            | AttemptResult::Abandoned => {
                here.balancer.on_no_answer(now, report.endpoint, report.until_head);
            }
        }
    }

    /// May a request pass this limit?
    pub(crate) fn pass(&mut self, now: Instant, limit: LimitId, view: &impl View) -> Pass {
        view.pass(now, limit, &mut self.picks)
    }
}

impl InTurn {
    fn empty(cluster: &naru_spec::Cluster) -> InTurn {
        let balancer = Balancer::new(&cluster.load_balancing, &[], 0);
        InTurn { balancer, generation: None, before: None }
    }

    /// An endpoint that is fit again begins to warm up when that is first seen here.
    #[cold]
    fn look_at_fitness(
        &mut self,
        now: Instant,
        panic_percent: u32,
        of: OfCluster<'_, impl View>,
        generation: u64,
    ) {
        let ids = (0..self.balancer.len() as u32).map(EndpointId);
        let fitness = ids.map(|id| {
            let seen = of.view.fitness(of.cluster, id);
            match self.balancer.fitness(id) {
                _ if !seen.is_counted() => InBalance::Excluded,
                _ if !seen.is_fit() => InBalance::Unfit,
                _ if seen.is_degraded() => InBalance::Degraded,
                before @ Some(InBalance::Fit { .. }) => before.unwrap_or(InBalance::FIT),
                _ => InBalance::Fit { since: now },
            }
        });
        let fitness: Vec<InBalance> = fitness.collect();
        self.balancer.set_fitness(now, panic_percent, &fitness);
        self.generation = Some(generation);
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
        let picked = first.pick(Instant::ZERO, &old, ClusterId(1), &Chosen::default(), &Idle).unwrap();
        let mut second = first.succeed(&old, &new);
        let next = EndpointId((picked.0 + 1) % 3);
        assert_eq!(second.pick(Instant::ZERO, &new, ClusterId(0), &Chosen::default(), &Idle), Some(next));
        assert_eq!(
            first.pick(Instant::ZERO, &old, ClusterId(1), &Chosen::default(), &Idle),
            Some(next),
            "what began before sees its own rotation"
        );
        assert_eq!(
            second.pick(Instant::ZERO, &new, ClusterId(1), &Chosen::default(), &Idle),
            None,
            "it balances otherwise, and is built anew"
        );
        let of_first: Vec<u64> = (0..1_000).map(|_| first.names.draw()).collect();
        assert!((0..1_000).all(|_| !of_first.contains(&second.names.draw())));
    }
}
