//! The endpoints of all clusters, and the counts that whoever owns a cluster keeps of them.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use naru_admit::Claim;
use naru_admit::described::Described;
use naru_admit::local_rate::LocalSaid;
use naru_balance::EndpointFacts;
use naru_base::{Chance, ClusterId, EndpointId, Instant, WallTime};
use naru_guard::Fitness;
use naru_journey::door::{GeoId, GeoPlace};
use naru_journey::gate::local_rate::LocalRateId;
use naru_journey::gate::quotas::{Claim as QuotaClaim, Told};
use naru_journey::limits::{Leaving, LimitId, Pass, Queued};
use naru_journey::{Admission, RecentRequests, RecentWrites, Retried, SessionId, Snapshot, View};
use naru_recover::RetryLoad;
use naru_spec::{Address, Cluster, Discovery, Endpoint, RetryLimit};

use crate::guarded::Guarded;
use crate::limited::Limited;
use crate::mirrors::Mirrors;
use crate::named_limits::NamedHere;
use crate::places::AllPlaces;
use crate::quotas::{LocalRatesHere, QuotasHere};
use crate::upstream::{Place, ProxyId};
use crate::wall::wall;

/// Finds the addresses of a name, as DNS would; `None` where there is no answer.
pub type Resolve<'a> = dyn Fn(&str) -> Option<Vec<IpAddr>> + 'a;

#[derive(Debug)]
pub struct EndpointHere {
    pub address: SocketAddr,
    /// The address as the configuration writes it, which may be a name.
    pub written: String,
    /// What the configuration says of it; it may stand for several addresses.
    pub settings: Endpoint,
    /// See [`naru_balance::key`].
    pub key: String,
    /// Requests on their way.
    pub active: u32,
    pub active_max: u32,
    /// Connections of all workers, from when they are made.
    pub connections: u32,
    pub requests_total: u64,
    pub connections_total: u64,
    pub connect_failures_total: u64,
}

impl EndpointHere {
    pub fn facts(&self) -> EndpointFacts<'_> {
        EndpointFacts::of(&self.settings, &self.key)
    }

    /// Whether `name` means this endpoint: its address, or how the configuration writes it.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.written || name.parse() == Ok(self.address)
    }
}

/// A cluster, as all workers of a proxy share it.
#[derive(Debug)]
pub struct ClusterHere {
    pub endpoints: Vec<EndpointHere>,
    pub guarded: Option<Box<Guarded>>,
    pub limited: Limited,
    /// Those that budgets of retries count.
    pub recent: RecentRequests<Cell<u64>>,
    /// How many of its requests are retries right now.
    pub retrying: u32,
}

/// All endpoints of a proxy, and what guards and limits them.
#[derive(Debug)]
pub struct Fleet {
    pub proxy: ProxyId,
    /// By [`ClusterId`].
    clusters: Vec<ClusterHere>,
    pub limits: NamedHere,
    quotas: QuotasHere,
    local_rates: LocalRatesHere,
    /// Of a `Surge`.
    pub surge_level: Cell<u32>,
    /// The date, as of the last time that somebody could ask for it.
    pub wall: Cell<WallTime>,
    /// What all proxies of a world know together, and its sessions.
    pub shared: Rc<Shared>,
    /// Where addresses are.
    pub places: Rc<AllPlaces>,
    /// A request has changed what a guard is to know of.
    has_news: Cell<bool>,
}

impl Fleet {
    /// Nothing is guarded until [`Fleet::start`].
    pub fn new(snapshot: &Snapshot, resolve: &Resolve<'_>) -> Fleet {
        let clusters = snapshot.clusters.iter().map(|cluster| ClusterHere {
            endpoints: endpoints(cluster, resolve),
            guarded: None,
            limited: Limited::default(),
            recent: RecentRequests::default(),
            retrying: 0,
        });
        Fleet {
            proxy: ProxyId::default(),
            clusters: clusters.collect(),
            limits: NamedHere::default(),
            quotas: QuotasHere::new(&snapshot.quotas, snapshot.surge.as_ref()),
            local_rates: LocalRatesHere::new(&snapshot.local_rates),
            surge_level: Cell::new(0),
            wall: Cell::new(wall(Instant::ZERO)),
            shared: Rc::default(),
            places: Rc::default(),
            has_news: Cell::new(false),
        }
    }

    /// Its proxy starts: all chance of guards and limits comes from `seed`.
    pub fn start(&mut self, now: Instant, snapshot: &Snapshot, workers: usize, seed: u64) {
        for (settings, here) in snapshot.clusters.iter().zip(&mut self.clusters) {
            let seed = Chance::split(seed, &format!("guard of {}", settings.name)).draw();
            here.guarded = Guarded::new(now, &settings.guard, &here.endpoints, seed).map(Box::new);
        }
        self.limits = NamedHere::new(now, &snapshot.limits, workers, seed);
    }

    /// Its process is another one: what it counted of clients is gone.
    pub fn forget_counts(&mut self, snapshot: &Snapshot) {
        self.quotas = QuotasHere::new(&snapshot.quotas, snapshot.surge.as_ref());
        self.local_rates = LocalRatesHere::new(&snapshot.local_rates);
    }

    /// Whether a guard is to hear of what requests did.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.has_news.get()
    }

    pub fn forget_news(&self) {
        self.has_news.set(false);
    }

    pub fn clusters(&self) -> impl Iterator<Item = (ClusterId, &[EndpointHere])> {
        (0u32..).zip(&self.clusters).map(|(id, here)| (ClusterId(id), here.endpoints.as_slice()))
    }

    pub fn cluster(&self, cluster: ClusterId) -> Option<&ClusterHere> {
        self.clusters.get(cluster.index())
    }

    #[inline]
    pub fn cluster_mut(&mut self, cluster: ClusterId) -> Option<&mut ClusterHere> {
        self.clusters.get_mut(cluster.index())
    }

    pub fn endpoints(&self, cluster: ClusterId) -> &[EndpointHere] {
        self.clusters.get(cluster.index()).map_or(&[], |here| here.endpoints.as_slice())
    }

    pub fn get_mut(&mut self, cluster: ClusterId, endpoint: EndpointId) -> Option<&mut EndpointHere> {
        self.clusters.get_mut(cluster.index())?.endpoints.get_mut(endpoint.index())
    }

    pub fn guarded_mut(&mut self, cluster: ClusterId) -> Option<&mut Guarded> {
        self.clusters.get_mut(cluster.index())?.guarded.as_deref_mut()
    }

    /// Those that are guarded.
    pub fn guarded(&self) -> impl Iterator<Item = (ClusterId, &Guarded)> {
        let all = (0u32..).zip(&self.clusters);
        all.filter_map(|(id, here)| Some((ClusterId(id), here.guarded.as_deref()?)))
    }

    /// All connections to an address broke.
    pub fn on_connections_lost(&mut self, address: SocketAddr) {
        for here in &mut self.clusters {
            let Some(guarded) = &mut here.guarded else { continue };
            for (at, _) in here.endpoints.iter().enumerate().filter(|(_, here)| here.address == address) {
                guarded.on_connections_lost(EndpointId(at as u32));
            }
        }
    }

    pub fn place(&self, cluster: ClusterId, endpoint: EndpointId) -> Option<Place> {
        let here = self.endpoints(cluster).get(endpoint.index())?;
        Some(Place { proxy: self.proxy, cluster, endpoint, address: here.address })
    }

    /// Requests on their way, at all endpoints.
    pub fn active(&self) -> u64 {
        let endpoints = self.clusters.iter().flat_map(|here| &here.endpoints);
        endpoints.map(|here| u64::from(here.active)).sum()
    }

    /// Requests that are counted at limits of clusters, at those with a name, and as retries.
    pub fn limited(&self) -> u64 {
        let of_cluster =
            |here: &ClusterHere| here.limited.pending + here.limited.requests + u64::from(here.retrying);
        self.clusters.iter().map(of_cluster).sum::<u64>() + self.limits.active()
    }

    /// Requests that wait at limits.
    pub fn waiting(&self) -> u64 {
        self.clusters.iter().map(|here| here.limited.pending).sum::<u64>() + self.limits.waiting()
    }

    /// What a worker sees of it.
    #[inline]
    pub fn seen_by(&self, worker: usize) -> Seen<'_> {
        Seen { fleet: self, worker }
    }
}

/// All that one worker sees of its proxy's clusters.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    fleet: &'a Fleet,
    worker: usize,
}

impl View for Seen<'_> {
    #[inline]
    fn active(&self, cluster: ClusterId, endpoint: EndpointId) -> u32 {
        self.fleet.endpoints(cluster).get(endpoint.index()).map_or(0, |here| here.active)
    }

    #[inline]
    fn generation(&self, cluster: ClusterId) -> u64 {
        let guarded = self.fleet.cluster(cluster).and_then(|here| here.guarded.as_ref());
        guarded.map_or(0, |guarded| guarded.generation())
    }

    fn retry_load(&self, now: Instant, cluster: ClusterId, limit: RetryLimit) -> RetryLoad {
        let active = self.fleet.endpoints(cluster).iter().map(|here| here.active);
        let here = self.fleet.cluster(cluster);
        let retries = here.map_or(0, |here| here.retrying);
        let recent = here.map_or(0, |here| here.recent.within(now, limit));
        RetryLoad { active: active.fold(0, u32::saturating_add), pending: 0, retries, recent }
    }

    fn fitness(&self, cluster: ClusterId, endpoint: EndpointId) -> Fitness {
        let guarded = self.fleet.cluster(cluster).and_then(|here| here.guarded.as_ref());
        let fitness = guarded.map_or(Fitness::FIT, |guarded| guarded.fitness(endpoint));
        let here = self.fleet.endpoints(cluster).get(endpoint.index());
        fitness.reported(here.map_or_else(Default::default, |here| here.settings.reported))
    }

    #[inline]
    fn enter(&self, now: Instant, cluster: ClusterId, chance: &mut Chance) -> Admission {
        match self.fleet.cluster(cluster).and_then(|here| here.guarded.as_ref()) {
            None => Admission::Unguarded,
            Some(guarded) => {
                let admission = guarded.enter(now, chance);
                if guarded.is_half_opened() {
                    self.fleet.has_news.set(true);
                }
                admission
            }
        }
    }

    fn pass(&self, now: Instant, limit: LimitId, chance: &mut Chance) -> Pass {
        self.fleet.limits.pass(now, self.worker, limit, chance)
    }

    fn spend(&self, now: Instant, claims: &[QuotaClaim]) -> Told {
        self.fleet.quotas.spend(now, self.fleet.surge_level.get(), claims)
    }

    fn local_rate(&self, now: Instant, rate: LocalRateId, asked: &[Described]) -> LocalSaid {
        self.fleet.local_rates.ask(now, rate, asked)
    }

    fn wall(&self) -> WallTime {
        self.fleet.wall.get()
    }

    fn surge_level(&self) -> u32 {
        self.fleet.surge_level.get()
    }

    fn claim(&self, now: Instant, limit: LimitId, queued: Queued) -> Claim {
        self.fleet.limits.claim(now, limit, queued)
    }

    fn leave(&self, now: Instant, limit: LimitId, leaving: Leaving) {
        self.fleet.limits.leave(now, self.worker, limit, leaving);
    }

    fn was_retried(&self, trace: u64, since: Instant) -> bool {
        self.fleet.shared.retried.was(trace, since)
    }

    fn tell_retried(&self, now: Instant, trace: u64) {
        self.fleet.shared.retried.tell(now, trace);
    }

    fn has_written(&self, now: Instant, session: SessionId) -> bool {
        self.fleet.shared.recent_writes.borrow().as_ref().is_some_and(|known| known.has_written(now, session))
    }

    fn wrote(&self, until: Instant, session: SessionId) {
        self.fleet.shared.recent_writes.borrow_mut().get_or_insert_default().wrote(until, session);
    }

    fn faults_active(&self) -> u32 {
        self.fleet.shared.faults.get()
    }

    /// All databases say the same.
    fn place(&self, _geo: GeoId, address: IpAddr) -> GeoPlace {
        self.fleet.places.find(address)
    }
}

/// As in one process that is the proxy of all of them.
#[derive(Debug, Default)]
pub struct Shared {
    retried: Retried<Cell<u64>>,
    /// Made with the first write: it is large.
    recent_writes: RefCell<Option<RecentWrites<Cell<u64>>>>,
    /// How many requests are in a fault.
    pub faults: Cell<u32>,
    pub mirrors: RefCell<Mirrors>,
}

/// In the order in which `proxy/src/discover.rs` finds them, as the order decides what is picked.
fn endpoints(cluster: &Cluster, resolve: &Resolve<'_>) -> Vec<EndpointHere> {
    let mut found: Vec<EndpointHere> = Vec::new();
    for endpoint in &cluster.endpoints {
        let (mut addresses, port) = match (&endpoint.address, &cluster.discovery) {
            (Address::Socket(address), _) => (vec![address.ip()], address.port()),
            (Address::Pipe(path), _) => {
                let identity = naru_spec::Pipe::identity(path);
                (vec![identity.ip()], identity.port())
            }
            // A static cluster looks no names up.
            (Address::Name { .. }, Discovery::Static) => continue,
            (Address::Name { host, port }, _) => match resolve(host) {
                Some(addresses) => (addresses, *port),
                None => return Vec::new(),
            },
        };
        if matches!(cluster.discovery, Discovery::LogicalDns(_)) {
            addresses.truncate(1);
        }
        for address in addresses {
            let address = SocketAddr::new(address, port);
            let is_known = found.iter().any(|here| here.address == address);
            if is_known && cluster.discovery != Discovery::Static {
                continue;
            }
            let host = match &endpoint.address {
                Address::Name { host, .. } => host.as_str(),
                Address::Socket(_) | Address::Pipe(_) => "",
            };
            let key = naru_balance::key(&cluster.load_balancing, address, host);
            found.push(EndpointHere {
                address,
                written: endpoint.address.to_string(),
                settings: endpoint.clone(),
                key,
                active: 0,
                active_max: 0,
                connections: 0,
                requests_total: 0,
                connections_total: 0,
                connect_failures_total: 0,
            });
        }
    }
    found
}
