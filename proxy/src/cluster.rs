//! The clusters as they are now: endpoints, and what all workers know of each.
//!
//! What is shared is a few atomics for each endpoint, owned by whoever discovers endpoints and read
//! by every worker. What a worker keeps for itself (connections) hangs on its own [`EndpointHere`].
//! Both outlive a change of the set, and of the whole configuration, as long as the cluster has its
//! name and the endpoint its address.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use naru_admit::Claim;
use naru_admit::described::Described;
use naru_admit::local_rate::LocalSaid;
use naru_balance::{EndpointFacts, Roster};
use naru_base::{Chance, ClusterId, EndpointId, Instant, WallTime};
use naru_guard::Fitness;
use naru_journey::door::{GeoId, GeoPlace};
use naru_journey::gate::CheckCount;
use naru_journey::gate::local_rate::{LocalRateCount, LocalRateId};
use naru_journey::gate::quotas::{Claim as QuotaClaim, Told};
use naru_journey::limits::{Leaving, LimitId, Pass, Queued};
use naru_journey::race::take_turns;
use naru_journey::{Admission, RecentWrites, Retried, SessionId, View};
use naru_recover::RetryLoad;
use naru_spec::{Address, BalancingPolicy, Endpoint, LoadBalancing, RetryLimit};
use naru_tls::Connector;

use crate::clock;
use crate::gate::{CheckCounts, SharedLocalRates, SharedQuotas};
use crate::geo::GeoHere;
use crate::guarded::{self, GuardStatus, Guarded};
use crate::limited::{Limited, LimitsStatus};
use crate::metrics::ClusterReport;
use crate::on_demand::OnDemandHere;
use crate::pool::EndpointPool;
use crate::shared_limits::LimitsHere;
use crate::surge::Surged;
use crate::word::SharedWord;

/// An endpoint, as all workers share it.
#[derive(Debug)]
pub struct EndpointShared {
    pub address: SocketAddr,
    /// All by which it is reached, in the order in which they are tried; none where there is but the one.
    pub addresses: Box<[SocketAddr]>,
    /// What DNS was asked for; empty where it was not.
    pub host_name: Arc<str>,
    /// What the configuration says of it; it may stand for several addresses.
    pub settings: Endpoint,
    pub counts: Arc<EndpointCounts>,
}

/// What is counted for a cluster at one address, whatever else becomes of it.
#[derive(Debug, Default)]
pub struct EndpointCounts {
    /// Requests on their way.
    pub active: AtomicU32,
    /// Connections that stand.
    pub connections: AtomicU32,
    /// Those that are being made, too.
    pub slots: SharedWord,
    pub requests_total: AtomicU64,
    pub connections_total: AtomicU64,
    pub connect_failures_total: AtomicU64,
    /// Answers of 5xx, and answers that never came.
    pub errors_total: AtomicU64,
    /// What whoever guards the cluster says of it: see [`Fitness`].
    pub fitness: AtomicU8,
}

impl EndpointShared {
    /// The endpoint as it is in `known`, as far as it is there. `others` are the addresses that it has beside its own.
    pub fn new(
        address: SocketAddr,
        others: &[SocketAddr],
        host_name: &str,
        settings: &Endpoint,
        known: &[Arc<EndpointShared>],
    ) -> Arc<EndpointShared> {
        let addresses: Box<[SocketAddr]> = if others.is_empty() {
            Box::default()
        } else {
            take_turns(&[&[address], others].concat()).into()
        };
        let Some(same) = known.iter().find(|known| known.address == address) else {
            return Arc::new(EndpointShared {
                address,
                addresses,
                host_name: host_name.into(),
                settings: settings.clone(),
                counts: Arc::default(),
            });
        };
        if same.settings == *settings && *same.host_name == *host_name && same.addresses == addresses {
            return Arc::clone(same);
        }
        let counts = Arc::clone(&same.counts);
        let host_name = host_name.into();
        Arc::new(EndpointShared { address, addresses, host_name, settings: settings.clone(), counts })
    }

    /// Of a Unix socket.
    pub fn path(&self) -> Option<&str> {
        match &self.settings.address {
            Address::Pipe(path) => Some(path),
            Address::Socket(_) | Address::Name { .. } => None,
        }
    }

    /// What whoever guards the cluster finds, and what is reported of it.
    pub fn fitness(&self) -> Fitness {
        guarded::fitness(&self.counts).reported(self.settings.reported)
    }

    pub fn status(&self) -> EndpointStatus {
        let counts = &self.counts;
        EndpointStatus {
            address: self.address,
            path: self.path().map(str::to_owned),
            host_name: self.host_name.to_string(),
            weight: self.settings.weight.0,
            active: counts.active.load(Ordering::Relaxed),
            connections: counts.connections.load(Ordering::Relaxed),
            requests_total: counts.requests_total.load(Ordering::Relaxed),
            connections_total: counts.connections_total.load(Ordering::Relaxed),
            connect_failures_total: counts.connect_failures_total.load(Ordering::Relaxed),
            errors_total: counts.errors_total.load(Ordering::Relaxed),
            fitness: self.fitness(),
        }
    }
}

/// A cluster's endpoints at one time; ids are indexes into it.
pub type EndpointSet = Arc<[Arc<EndpointShared>]>;

/// The endpoints of a cluster, and what balancers look into, built once for all workers.
#[derive(Clone, Debug)]
pub struct Balanced {
    pub set: EndpointSet,
    pub roster: Arc<Roster>,
}

impl Balanced {
    /// For a consistent hash of many places this takes milliseconds, or seconds: no worker does it, and who has other
    /// things to do meanwhile takes [`Balanced::begin`].
    pub fn new(settings: &LoadBalancing, set: EndpointSet) -> Balanced {
        let keys = set.iter().map(|one| naru_balance::key(settings, one.address, &one.host_name));
        let keys: Vec<String> = keys.collect();
        let facts = set.iter().zip(&keys).map(|(one, key)| EndpointFacts::of(&one.settings, key));
        let facts: Vec<EndpointFacts<'_>> = facts.collect();
        let roster = Arc::new(Roster::new(settings, &facts));
        Balanced { set, roster }
    }

    /// As [`Balanced::after`], on a thread of its own where it takes time.
    pub async fn begin(
        known: Option<(Balanced, LoadBalancing)>,
        settings: LoadBalancing,
        set: EndpointSet,
    ) -> Balanced {
        let hashes = matches!(settings.policy, BalancingPolicy::ConsistentHash(_));
        let build = move || {
            let known = known.as_ref().map(|(known, before)| (known, before));
            Balanced::after(known, &settings, set)
        };
        if !hashes {
            return build();
        }
        match tokio::task::spawn_blocking(build).await {
            Ok(built) => built,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and whoever waits here with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The same as `known`, where there is no difference to a balancer: a rotation goes on then.
    pub fn after(
        known: Option<(&Balanced, &LoadBalancing)>,
        settings: &LoadBalancing,
        set: EndpointSet,
    ) -> Balanced {
        let same = known.filter(|(known, before)| {
            let endpoints = known.set.iter().zip(set.iter());
            *before == settings
                && known.set.len() == set.len()
                && endpoints.into_iter().all(|(old, new)| {
                    old.address == new.address
                        && old.settings == new.settings
                        && old.host_name == new.host_name
                })
        });
        match same {
            Some((known, _)) => Balanced { set, roster: Arc::clone(&known.roster) },
            None => Balanced::new(settings, set),
        }
    }
}

/// How a cluster is seen from outside.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    pub name: String,
    pub endpoints: Vec<EndpointStatus>,
    /// Where it is guarded.
    pub guard: Option<GuardStatus>,
    pub limits: LimitsStatus,
}

#[derive(Clone, Debug)]
pub struct EndpointStatus {
    pub address: SocketAddr,
    /// Of a Unix socket.
    pub path: Option<String>,
    pub host_name: String,
    pub weight: u32,
    pub active: u32,
    pub connections: u32,
    pub requests_total: u64,
    pub connections_total: u64,
    pub connect_failures_total: u64,
    pub errors_total: u64,
    pub fitness: Fitness,
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
    /// Where they come with requests.
    pub on_demand: Option<Rc<OnDemandHere>>,
    pub connectors: Option<Arc<Connectors>>,
    pub guarded: Option<Arc<Guarded>>,
    /// How many requests are retries right now, at all workers.
    pub retrying: Arc<AtomicU32>,
    pub limited: Arc<Limited>,
    pub stats: Rc<ClusterStats>,
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
    pub fallbacks: Cell<u64>,
    pub retries_overflow: Cell<u64>,
}

impl ClusterStats {
    pub fn report(&self, name: Arc<str>) -> ClusterReport {
        ClusterReport {
            name,
            connections_active: self.connections_active.get(),
            connections_total: self.connections_total.get(),
            connect_failures: self.connect_failures.get(),
            connect_timeouts: self.connect_timeouts.get(),
            requests_active: self.requests_active.get(),
            requests_total: self.requests_total.get(),
            replays: self.replays.get(),
            retries: self.retries.get(),
            retries_exceeded: self.retries_exceeded.get(),
            fallbacks: self.fallbacks.get(),
            retries_overflow: self.retries_overflow.get(),
        }
    }
}

/// An endpoint, as one worker has it.
#[derive(Debug)]
pub struct EndpointHere {
    shared: RefCell<Arc<EndpointShared>>,
    pub pool: EndpointPool,
}

impl EndpointHere {
    pub fn new(shared: Arc<EndpointShared>) -> Rc<EndpointHere> {
        Rc::new(EndpointHere { shared: RefCell::new(shared), pool: EndpointPool::default() })
    }

    /// Requests are on their way, of whichever worker.
    pub fn is_active(&self) -> bool {
        self.shared.borrow().counts.active.load(Ordering::Relaxed) > 0
    }

    pub fn shared(&self) -> Arc<EndpointShared> {
        Arc::clone(&self.shared.borrow())
    }

    pub fn address(&self) -> SocketAddr {
        self.shared.borrow().address
    }
}

impl ClusterHere {
    pub fn new(
        connectors: Option<Arc<Connectors>>,
        guarded: Option<Arc<Guarded>>,
        retrying: Arc<AtomicU32>,
        limited: Arc<Limited>,
        on_demand: Option<Rc<OnDemandHere>>,
        stats: Rc<ClusterStats>,
    ) -> ClusterHere {
        let endpoints = RefCell::default();
        ClusterHere { endpoints, on_demand, connectors, guarded, retrying, limited, stats }
    }

    pub fn endpoint(&self, id: EndpointId) -> Option<Rc<EndpointHere>> {
        if let Some(on_demand) = &self.on_demand {
            return on_demand.get(id);
        }
        self.endpoints.borrow().get(id.index()).map(Rc::clone)
    }

    pub fn endpoints(&self) -> Vec<Rc<EndpointHere>> {
        if let Some(on_demand) = &self.on_demand {
            return on_demand.all();
        }
        self.endpoints.borrow().clone()
    }

    /// Takes a new set over. An endpoint whose address stays keeps its connections. With
    /// `is_logical` the only endpoint keeps them whatever its address becomes.
    pub fn set_endpoints(&self, set: &EndpointSet, is_logical: bool) {
        let mut known = self.endpoints.take();
        *self.endpoints.borrow_mut() = merged(&mut known, set, is_logical);
        retire(known);
    }

    /// Begins with what the same cluster has in the snapshot before; that one keeps it as well, for the
    /// requests that began there. Connections that this cluster would not make any more are let go.
    pub fn inherit(&self, older: &ClusterHere, set: &EndpointSet, is_logical: bool, is_dialled_alike: bool) {
        if let (Some(here), Some(older)) = (&self.on_demand, &older.on_demand)
            && Rc::ptr_eq(here, older)
        {
            return;
        }
        let mut known = older.endpoints();
        let mut none = Vec::new();
        *self.endpoints.borrow_mut() =
            merged(if is_dialled_alike { &mut known } else { &mut none }, set, is_logical);
        retire(known);
    }

    /// Closes every connection that carries no request, and keeps none that is given back.
    pub fn retire(&self) {
        retire(self.endpoints());
    }
}

/// What becomes of the endpoints that are known; those that are not taken over stay behind.
fn merged(known: &mut Vec<Rc<EndpointHere>>, set: &EndpointSet, is_logical: bool) -> Vec<Rc<EndpointHere>> {
    let is_logical = is_logical && set.len() == 1;
    let all = set.iter().map(|shared| {
        let same = known.iter().position(|here| is_logical || here.address() == shared.address);
        match same {
            Some(at) => {
                let here = known.swap_remove(at);
                *here.shared.borrow_mut() = Arc::clone(shared);
                here
            }
            None => EndpointHere::new(Arc::clone(shared)),
        }
    });
    all.collect()
}

fn retire(endpoints: Vec<Rc<EndpointHere>>) {
    for endpoint in endpoints {
        endpoint.pool.retire();
    }
}

/// What the core may see of the endpoints of all clusters.
#[derive(Debug)]
pub struct Clusters {
    pub all: Vec<ClusterHere>,
    pub limits: LimitsHere,
    pub quotas: SharedQuotas,
    pub local_rates: SharedLocalRates,
    /// What is otherwise at the level of a `Surge`.
    pub surged: Surged,
    pub geo: GeoHere,
    /// How many requests are in a fault, at all workers.
    pub checks: Arc<CheckCounts>,
    pub faults: Arc<AtomicU32>,
    pub retried: Arc<Retried<SharedWord>>,
    /// Shared by all workers.
    pub recent_writes: Option<Arc<RecentWrites<SharedWord>>>,
}

impl Clusters {
    pub fn get(&self, id: ClusterId) -> &ClusterHere {
        &self.all[id.index()]
    }
}

impl View for Clusters {
    /// See [`crate::loaded::Loaded::refresh`].
    const PICKS_REFRESH: bool = false;

    #[inline]
    fn active(&self, cluster: ClusterId, endpoint: EndpointId) -> u32 {
        let endpoints = self.all[cluster.index()].endpoints.borrow();
        endpoints
            .get(endpoint.index())
            .map_or(0, |here| here.shared.borrow().counts.active.load(Ordering::Relaxed))
    }

    fn retry_load(&self, now: Instant, cluster: ClusterId, limit: RetryLimit) -> RetryLoad {
        let here = &self.all[cluster.index()];
        let endpoints = here.endpoints();
        let active = endpoints.iter().map(|here| here.shared.borrow().counts.active.load(Ordering::Relaxed));
        let retries = here.retrying.load(Ordering::Relaxed);
        let recent = here.limited.recent.within(now, limit);
        RetryLoad { active: active.fold(0, u32::saturating_add), pending: 0, retries, recent }
    }

    #[inline]
    fn generation(&self, cluster: ClusterId) -> u64 {
        self.all[cluster.index()].guarded.as_ref().map_or(0, |guarded| guarded.generation())
    }

    fn fitness(&self, cluster: ClusterId, endpoint: EndpointId) -> Fitness {
        let here = self.all[cluster.index()].endpoint(endpoint);
        here.map_or(Fitness::FIT, |here| here.shared.borrow().fitness())
    }

    #[inline]
    fn enter(&self, now: Instant, cluster: ClusterId, chance: &mut Chance) -> Admission {
        match &self.all[cluster.index()].guarded {
            None => Admission::Unguarded,
            Some(guarded) => guarded.enter(now, chance),
        }
    }

    fn endpoint_at(&self, cluster: ClusterId, address: SocketAddr) -> Option<EndpointId> {
        self.all[cluster.index()].on_demand.as_ref()?.at(address)
    }

    fn pass(&self, now: Instant, limit: LimitId, chance: &mut Chance) -> Pass {
        self.limits.pass(now, limit, chance)
    }

    fn spend(&self, now: Instant, claims: &[QuotaClaim]) -> Told {
        self.quotas.spend(now, claims)
    }

    fn local_rate(&self, now: Instant, rate: LocalRateId, asked: &[Described]) -> LocalSaid {
        self.local_rates.ask(now, rate, asked)
    }

    fn count_local_rate(&self, rate: LocalRateId, what: LocalRateCount) {
        self.local_rates.count(rate, what);
    }

    fn surge_level(&self) -> u32 {
        self.surged.level()
    }

    fn claim(&self, now: Instant, limit: LimitId, queued: Queued) -> Claim {
        self.limits.claim(now, limit, queued)
    }

    fn leave(&self, now: Instant, limit: LimitId, leaving: Leaving) {
        self.limits.leave(now, limit, leaving);
    }

    fn was_retried(&self, trace: u64, since: Instant) -> bool {
        self.retried.was(trace, since)
    }

    fn tell_retried(&self, now: Instant, trace: u64) {
        self.retried.tell(now, trace);
    }

    fn wall(&self) -> WallTime {
        clock::wall_now()
    }

    fn place(&self, geo: GeoId, address: IpAddr) -> GeoPlace {
        self.geo.find(geo, address)
    }

    fn count_check(&self, what: CheckCount) {
        self.checks.add(what);
    }

    fn faults_active(&self) -> u32 {
        self.faults.load(Ordering::Relaxed)
    }

    fn has_written(&self, now: Instant, session: SessionId) -> bool {
        self.recent_writes.as_ref().is_some_and(|writes| writes.has_written(now, session))
    }

    fn wrote(&self, until: Instant, session: SessionId) {
        if let Some(writes) = &self.recent_writes {
            writes.wrote(until, session);
        }
    }
}

/// Adds to a count that only this worker writes.
#[inline]
pub fn add(count: &Cell<u64>, change: i64) {
    count.set(count.get().wrapping_add_signed(change));
}
