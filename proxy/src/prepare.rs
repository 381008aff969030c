//! What is made of a snapshot once, for all workers: certificates are read, logs opened, names numbered.
//!
//! What is the same as in the snapshot before is taken over from it: a terminator with its sessions, a log that is
//! open, a name's number. Whatever is wrong is found here, before anything changes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use naru_base::ClusterId;
use naru_journey::{ChainId, RecentWrites, Retried, Snapshot};
use naru_spec::config::Place;
use naru_spec::defaults::HANDSHAKE_TIMEOUT;
use naru_spec::{
    Check, CheckKind, Cluster, CountPlace, DownstreamTls, FilterChain, Invalid, Listener, UpstreamTls,
};
use naru_tls::{Connector, Terminator};

use crate::clock::{self, Origin};
use crate::cluster::Connectors;
use crate::gate::{
    AllCredentials, AllKeys, CheckCounts, Circled, Desk, SharedKeys, SharedLocalRates, SharedQuotas,
    SharedStore, share_credentials,
};
use crate::geo::{self, AllGeo};
use crate::guarded::Guarded;
use crate::limited::Limited;
use crate::log::{LogWriter, Sink};
use crate::names::{NameId, Names};
use crate::packed::CodingCounts;
use crate::prober::ProbeSettings;
use crate::proxy::StartError;
use crate::seats::{Counted, Sources, Tally};
use crate::sessions::{Provider, Service, SessionStatus};
use crate::shared_cache::{ClassCounts, SharedCache};
use crate::shared_limits::{self, SharedLimit};
use crate::surge::Surged;
use crate::tiers::Tiers;
use crate::word::SharedWord;

/// A snapshot, and what was made of it once for all workers.
#[derive(Debug)]
pub struct Prepared {
    pub snapshot: Snapshot,
    pub origin: Origin,
    /// By chain.
    terminators: Vec<Option<Stamped<Terminator>>>,
    /// By cluster.
    connectors: Vec<Option<Stamped<Connectors>>>,
    /// By chain, in the order of its access logs.
    pub sinks: Vec<Vec<Arc<Sink>>>,
    /// By cluster; of those that are guarded.
    pub guards: Vec<Option<Arc<Guarded>>>,
    /// By cluster: how many requests to it are retries right now.
    pub retrying: Vec<Arc<AtomicU32>>,
    /// By cluster.
    pub limits: Vec<Arc<Limited>>,
    /// How many requests are in a fault, at all workers.
    pub faults: Arc<AtomicU32>,
    pub retried: Arc<Retried<SharedWord>>,
    /// By limit.
    pub named_limits: Vec<SharedLimit>,
    /// By quota.
    pub quotas: SharedQuotas,
    pub local_rates: SharedLocalRates,
    /// What is otherwise at the level of a `Surge`.
    pub surged: Surged,
    /// Of tokens.
    pub keys: AllKeys,
    pub credentials: AllCredentials,
    /// Where passwords are held against hashes; all snapshots have the same.
    pub desk: Arc<Desk>,
    /// Databases of addresses.
    pub geo: AllGeo,
    /// What checks have said; all snapshots have the same.
    pub checks: Arc<CheckCounts>,
    /// What was compressed; all snapshots have the same.
    pub codings: Arc<CodingCounts>,
    /// By name.
    pub stores: BTreeMap<String, Arc<SharedStore>>,
    /// Once a snapshot has asked for it, all that follow have the same.
    pub recent_writes: Option<Arc<RecentWrites<SharedWord>>>,
    /// Where answers are kept.
    pub cache: Option<Arc<SharedCache>>,
    /// What is counted there, by class: a request takes no lock for that.
    pub cache_classes: BTreeMap<String, Arc<ClassCounts>>,
    /// What of it may be given without asking anybody else.
    pub short: crate::short::OfRules,
    /// And what is behind that.
    pub tiers: Option<Arc<Tiers>>,
    /// All snapshots have the same.
    #[cfg(feature = "http3")]
    pub crossings: Arc<crate::quic::crossing::Crossings>,
    /// By listener.
    crowds: Vec<Crowd>,
    /// By chain; of those that have a limit.
    tallies: Vec<Option<Arc<Tally>>>,
    /// By chain, as its settings have them.
    pub sessions: Vec<Vec<Arc<Service>>>,
    /// By chain; of those whose people log in at one.
    pub providers: Vec<Vec<Option<Arc<Provider>>>>,
    /// By cluster.
    cluster_names: Vec<NameId>,
    /// By chain.
    stat_prefixes: Vec<NameId>,
    /// Every name that is counted for, by number.
    pub names: Arc<[Arc<str>]>,
}

/// A side of TLS, and what its sources held when it was made.
#[derive(Clone, Debug)]
struct Stamped<T> {
    side: Arc<T>,
    stamp: u64,
    /// Of what peers are checked against.
    trust: u64,
}

/// Reads like the snapshot itself, and keeps it for as long as somebody looks.
#[derive(Clone, Debug)]
pub struct SnapshotRef(pub(crate) Arc<Prepared>);

impl Deref for SnapshotRef {
    type Target = Snapshot;
    #[inline]
    fn deref(&self) -> &Snapshot {
        &self.0.snapshot
    }
}

impl Prepared {
    /// `older` is the snapshot that this one is to follow.
    pub fn new(
        snapshot: Snapshot,
        older: Option<&Prepared>,
        log: &LogWriter,
        names: &mut Names,
        origin: Origin,
    ) -> Result<Prepared, StartError> {
        let Sides { terminators, connectors } = Sides::build(&snapshot, older).map_err(StartError::Config)?;
        let chains = snapshot.chains().iter();
        let sinks = chains
            .map(|chain| chain.http.access_log.iter().map(|access| log.open(&access.sink)).collect())
            .collect::<Result<_, _>>()
            .map_err(StartError::Log)?;
        let cluster_names = snapshot.clusters.iter().map(|cluster| names.id(&cluster.name)).collect();
        let stat_prefixes = snapshot.chains().iter().map(|chain| names.id(&chain.http.stat_prefix)).collect();
        let names = names.all();
        let guards = guards(&snapshot, older, origin);
        let retrying = retrying(&snapshot, older);
        let (crowds, tallies) = crowds(&snapshot, older);
        let limits = limits(&snapshot, older);
        let retried = older.map(|older| Arc::clone(&older.retried)).unwrap_or_default();
        let checks = older.map(|older| Arc::clone(&older.checks)).unwrap_or_default();
        let codings = older.map(|older| Arc::clone(&older.codings)).unwrap_or_default();
        let faults = older.map(|older| Arc::clone(&older.faults)).unwrap_or_default();
        let known = older.map(|older| (&older.snapshot.limits, &*older.named_limits));
        let named_limits = shared_limits::share(&snapshot.limits, known, origin);
        let quotas = older.map(|older| (&*older.snapshot.quotas, &older.quotas));
        let local_rates = older.map(|older| (&*older.snapshot.local_rates, &older.local_rates));
        let local_rates = SharedLocalRates::share(&snapshot.local_rates, local_rates);
        let surged = Surged::of(&snapshot, older.map(|older| &older.surged));
        let quotas = SharedQuotas::share(&snapshot.quotas, &surged, quotas);
        let keys = keys(&snapshot, older.map(|older| &older.keys))?;
        let credentials = credentials(&snapshot, older.map(|older| &older.credentials), true)?;
        let geo = geo(&snapshot, older.map(|older| &older.geo), true)?;
        let desk = match older {
            Some(older) => Arc::clone(&older.desk),
            None => {
                let desk = Desk::new();
                Arc::new(desk.map_err(|why| StartError::Config(vec![(Place::Listener(0), why)]))?)
            }
        };
        let stores = stores(&snapshot, older, origin)?;
        let recent_writes = older.and_then(|older| older.recent_writes.clone());
        let recent_writes = recent_writes.or_else(|| snapshot.has_sessions().then(Arc::default));
        let kept = older.and_then(|older| older.cache.as_ref());
        let cache = SharedCache::of(&snapshot, kept, clock::seed());
        let tiers = older.and_then(|older| older.tiers.as_ref());
        let tiers = Tiers::of(&snapshot, cache.as_ref(), tiers, origin).map_err(StartError::Thread)?;
        // One whose secret cannot be read starts nothing.
        let providers = providers(&snapshot, older)?;
        let sessions = sessions(&snapshot, older, origin)?;
        let cache_classes = cache.as_ref().map(|cache| cache.classes()).unwrap_or_default();
        let short = crate::short::of(&snapshot, &cache_classes);
        Ok(Prepared {
            cache,
            cache_classes,
            short,
            tiers,
            snapshot,
            origin,
            terminators,
            connectors,
            sinks,
            guards,
            retrying,
            limits,
            faults,
            retried,
            named_limits,
            quotas,
            local_rates,
            surged,
            keys,
            credentials,
            desk,
            geo,
            checks,
            codings,
            stores,
            recent_writes,
            #[cfg(feature = "http3")]
            crossings: older.map(|older| Arc::clone(&older.crossings)).unwrap_or_default(),
            crowds,
            tallies,
            sessions,
            providers,
            cluster_names,
            stat_prefixes,
            names,
        })
    }

    pub fn crowd(&self, listener: usize) -> Option<&Crowd> {
        self.crowds.get(listener)
    }

    /// Counts a connection in its chain, where that has a limit.
    ///
    /// # Errors
    /// It has as many as it may: how long one too many is kept waiting.
    pub fn count_in_chain(&self, listener: usize, chain: ChainId) -> Result<Option<Counted>, Duration> {
        let Some(tally) = self.tallies.get(chain.0 as usize).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let Some(limit) =
            self.chain_settings(listener, chain).and_then(|chain| chain.connection_limit.as_ref())
        else {
            return Ok(None);
        };
        tally.take(limit.max).map(Some).ok_or(limit.delay)
    }

    /// How long a client's handshake with a chain may take.
    pub fn handshake_timeout(&self, listener: usize, chain: ChainId) -> Duration {
        let said = self.chain_settings(listener, chain).and_then(|chain| chain.handshake_timeout);
        said.unwrap_or(HANDSHAKE_TIMEOUT)
    }

    fn chain_settings(&self, listener: usize, chain: ChainId) -> Option<&FilterChain> {
        let first = self.snapshot.chain_id(listener, 0)?;
        self.snapshot.listeners.get(listener)?.chains.get(chain.0.checked_sub(first.0)? as usize)
    }

    /// Prefix, connections and those that were turned away, of each chain with a limit.
    pub fn connection_limits(&self) -> Vec<(String, u64, u64)> {
        let chains = self.snapshot.listeners.iter().flat_map(|listener| &listener.chains);
        let all = chains.zip(&self.tallies).filter_map(|(chain, tally)| {
            let (active, limited) = tally.as_ref()?.counts();
            Some((chain.connection_limit.as_ref()?.stat_prefix.clone(), active, limited))
        });
        all.collect()
    }

    /// Who keeps the sessions with this name.
    pub fn sessions_named(&self, name: &str) -> Option<&Arc<Service>> {
        self.sessions.iter().flatten().find(|service| service.name() == name)
    }

    /// Of all chains, each once.
    pub fn session_statuses(&self) -> Vec<SessionStatus> {
        let mut known: Vec<(&Arc<Service>, &Option<Arc<Provider>>)> = Vec::new();
        let all = self.sessions.iter().flatten().zip(self.providers.iter().flatten());
        for (service, provider) in all {
            if !known.iter().any(|(known, _)| Arc::ptr_eq(known, service)) {
                known.push((service, provider));
            }
        }
        let told = |(service, provider): (&Arc<Service>, &Option<Arc<Provider>>)| SessionStatus {
            provider: provider.as_ref().map(|provider| provider.status()),
            ..service.status()
        };
        known.into_iter().map(told).collect()
    }

    pub fn terminator(&self, chain: ChainId) -> Option<&Terminator> {
        self.terminators.get(chain.0 as usize)?.as_ref().map(|stamped| &*stamped.side)
    }

    pub fn connectors(&self, cluster: ClusterId) -> Option<&Arc<Connectors>> {
        self.connectors.get(cluster.index())?.as_ref().map(|stamped| &stamped.side)
    }

    /// Tells whoever guards a cluster what its settings are.
    pub fn tell_guard(&self, cluster: ClusterId, guarded: &Guarded) {
        guarded.set_settings(&self.snapshot.cluster(cluster).guard, self.probing(cluster));
    }

    /// How endpoints are probed, where they are.
    pub fn probing(&self, cluster: ClusterId) -> Option<ProbeSettings> {
        let settings = self.snapshot.cluster(cluster);
        let check = settings.guard.health_check.clone()?;
        let connectors = self.connectors(cluster).map(Arc::clone);
        let (http2, proxy_protocol) = (settings.http2, settings.proxy_protocol);
        Some(ProbeSettings { check, cluster: settings.name.clone(), connectors, http2, proxy_protocol })
    }

    #[inline]
    pub fn cluster_name(&self, cluster: ClusterId) -> NameId {
        self.cluster_names[cluster.index()]
    }

    #[inline]
    pub fn stat_prefix(&self, chain: ChainId) -> NameId {
        self.stat_prefixes[chain.0 as usize]
    }

    pub fn names_used(&self) -> BTreeSet<NameId> {
        self.cluster_names.iter().chain(&self.stat_prefixes).copied().collect()
    }

    /// Whether connections that were made for a cluster of `older` may carry the requests of this one.
    pub fn is_dialled_alike(&self, cluster: ClusterId, older: &Prepared, before: ClusterId) -> bool {
        let (new, old) = (self.snapshot.cluster(cluster), older.snapshot.cluster(before));
        let is_secured_alike = match (self.connectors(cluster), older.connectors(before)) {
            (None, None) => true,
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            (Some(_), None) | (None, Some(_)) => false,
        };
        is_secured_alike
            && new.protocol == old.protocol
            && new.http2 == old.http2
            && new.proxy_protocol == old.proxy_protocol
    }
}

/// What is known of a provider stays known, for the snapshot before, or for another chain.
fn providers(
    snapshot: &Snapshot,
    older: Option<&Prepared>,
) -> Result<Vec<Vec<Option<Arc<Provider>>>>, StartError> {
    let mut all: Vec<Vec<Option<Arc<Provider>>>> = Vec::new();
    let before = older.map(|older| older.providers.as_slice()).unwrap_or_default();
    let listeners = snapshot.listeners.iter().enumerate();
    let listeners = listeners.flat_map(|(at, listener)| listener.chains.iter().map(move |_| at));
    for (chain, listener) in snapshot.chains().iter().zip(listeners) {
        let mut of_chain: Vec<Option<Arc<Provider>>> = Vec::new();
        for auth in &chain.http.sessions {
            let Some(oidc) = &auth.oidc else {
                of_chain.push(None);
                continue;
            };
            let mut known = of_chain.iter().chain(all.iter().chain(before).flatten()).flatten();
            let known = known.find(|known| *known.settings().as_ref() == **oidc).cloned();
            let provider = Provider::new(&auth.name, oidc, known.as_ref());
            let told = |invalid| StartError::Config(vec![(Place::Listener(listener), invalid)]);
            of_chain.push(Some(provider.map_err(told)?));
        }
        all.push(of_chain);
    }
    Ok(all)
}

/// Who keeps sessions already keeps them on: for the snapshot before, or for another chain.
fn sessions(
    snapshot: &Snapshot,
    older: Option<&Prepared>,
    origin: Origin,
) -> Result<Vec<Vec<Arc<Service>>>, StartError> {
    let mut all: Vec<Vec<Arc<Service>>> = Vec::new();
    for chain in snapshot.chains() {
        let mut of_chain: Vec<Arc<Service>> = Vec::new();
        for auth in &chain.http.sessions {
            let before = older.iter().flat_map(|older| &older.sessions);
            let mut known = of_chain.iter().chain(all.iter().chain(before).flatten());
            let service = match known.find(|service| service.is_for(auth)).cloned() {
                Some(known) => {
                    known.configure(auth);
                    known
                }
                None => Service::start(auth, origin).map_err(StartError::Thread)?,
            };
            of_chain.push(service);
        }
        all.push(of_chain);
    }
    Ok(all)
}

/// What all workers know of stores of counts. Who shares limits goes on under its name, as long as it is the same.
fn stores(
    snapshot: &Snapshot,
    older: Option<&Prepared>,
    origin: Origin,
) -> Result<BTreeMap<String, Arc<SharedStore>>, StartError> {
    let mut all = BTreeMap::new();
    for store in &snapshot.stores {
        let known = older.and_then(|older| older.stores.get(&store.name)).cloned();
        let shared = match &store.place {
            CountPlace::Redis(_) => known.unwrap_or_default(),
            CountPlace::Leases(leases) => {
                let is_it = |known: &Arc<SharedStore>| known.circled().is_some_and(|it| it.is_of(leases));
                let shared = match known.filter(is_it) {
                    Some(known) => known,
                    None => {
                        let circled =
                            Circled::start(&store.name, leases, origin).map_err(StartError::Thread)?;
                        Arc::new(SharedStore::of_circle(circled))
                    }
                };
                let own = snapshot.stored_quotas.iter().filter(|(_, name)| *name == store.name);
                let quotas: Vec<_> = own.filter_map(|(id, _)| snapshot.quotas.get(id.index())).collect();
                shared.circled().iter().for_each(|circled| circled.configure(&quotas));
                shared
            }
        };
        all.insert(store.name.clone(), shared);
    }
    Ok(all)
}

/// That of a cluster that is known already is the same.
fn retrying(snapshot: &Snapshot, older: Option<&Prepared>) -> Vec<Arc<AtomicU32>> {
    let known = older.map(|older| clusters_of(&older.snapshot)).unwrap_or_default();
    let counts = snapshot.clusters.iter().map(|cluster| {
        let known = older.zip(known.get(cluster.name.as_str()));
        known.and_then(|(older, id)| older.retrying.get(id.index()).cloned()).unwrap_or_default()
    });
    counts.collect()
}

/// What is counted of a listener's connections; where there is no limit, nothing.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    pub tally: Option<Arc<Tally>>,
    pub sources: Option<Arc<Sources>>,
    /// For the handshakes of all of its chains.
    pub handshake_max: Duration,
}

/// A listener is the same for as long as its address and name are, and a chain for as long as its place is.
fn crowds(snapshot: &Snapshot, older: Option<&Prepared>) -> (Vec<Crowd>, Vec<Option<Arc<Tally>>>) {
    let mut all = Vec::new();
    let mut tallies = Vec::new();
    for listener in &snapshot.listeners {
        let is_it = |known: &Listener| known.address == listener.address && known.name == listener.name;
        let before = older.and_then(|older| Some((older, older.snapshot.listeners.iter().position(is_it)?)));
        let known = before.and_then(|(older, at)| older.crowds.get(at).cloned()).unwrap_or_default();
        let limits = &listener.connections;
        let timeouts =
            listener.chains.iter().map(|chain| chain.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT));
        all.push(Crowd {
            tally: limits.max.map(|_| known.tally.unwrap_or_default()),
            sources: limits.max_per_source.map(|_| known.sources.unwrap_or_default()),
            handshake_max: timeouts.max().unwrap_or(HANDSHAKE_TIMEOUT),
        });
        for (nth, chain) in listener.chains.iter().enumerate() {
            let known = before.and_then(|(older, before)| {
                let id = older.snapshot.chain_id(before, nth)?;
                older.tallies.get(id.0 as usize)?.clone()
            });
            tallies.push(chain.connection_limit.as_ref().map(|_| known.unwrap_or_default()));
        }
    }
    (all, tallies)
}

/// That of a cluster that is guarded already is the same; but where health checks begin, nothing is known of endpoints
/// until they have been probed, and so another one finds that out before it is in force. What it guards besides begins
/// anew, as all does in Envoy where a cluster changes.
fn guards(snapshot: &Snapshot, older: Option<&Prepared>, origin: Origin) -> Vec<Option<Arc<Guarded>>> {
    let known = older.map(|older| clusters_of(&older.snapshot)).unwrap_or_default();
    let guards = snapshot.clusters.iter().map(|cluster| {
        let known = older.zip(known.get(cluster.name.as_str()));
        let known = known.and_then(|(older, id)| older.guards.get(id.index())?.as_ref());
        let known = known.filter(|known| known.has_checks() || cluster.guard.health_check.is_none());
        cluster
            .guard
            .is_active()
            .then(|| known.map_or_else(|| Guarded::new(origin, &cluster.guard, clock::seed()), Arc::clone))
    });
    guards.collect()
}

/// What is counted of a cluster goes on under its name.
fn limits(snapshot: &Snapshot, older: Option<&Prepared>) -> Vec<Arc<Limited>> {
    let known = older.map(|older| clusters_of(&older.snapshot)).unwrap_or_default();
    let limits = snapshot.clusters.iter().map(|cluster| {
        let known = older.zip(known.get(cluster.name.as_str()));
        let known = known.and_then(|(older, id)| older.limits.get(id.index()));
        known.map_or_else(Arc::default, Arc::clone)
    });
    limits.collect()
}

/// Whose requests are held against keys.
fn of_keys(snapshot: &Snapshot, keys: usize) -> Place {
    let is_it = |check: &Check| match &check.kind {
        CheckKind::Jwt(jwt) => {
            jwt.providers.iter().any(|provider| snapshot.keys.get(keys) == Some(&provider.keys))
        }
        _ => false,
    };
    of_listener(snapshot, is_it)
}

/// The first that has such a check.
fn of_listener(snapshot: &Snapshot, is_it: impl Fn(&Check) -> bool) -> Place {
    let has_it =
        |listener: &Listener| listener.chains.iter().flat_map(|chain| &chain.http.gate.checks).any(&is_it);
    Place::Listener(snapshot.listeners.iter().position(has_it).unwrap_or(0))
}

/// Says what [`Prepared::new`] would say of certificates and TLS settings.
pub fn check(snapshot: &Snapshot) -> Result<(), StartError> {
    Sides::build(snapshot, None).map(|_| ()).map_err(StartError::Config)?;
    keys(snapshot, None)?;
    credentials(snapshot, None, false)?;
    geo(snapshot, None, false).map(|_| ())
}

fn credentials(
    snapshot: &Snapshot,
    older: Option<&AllCredentials>,
    is_kept: bool,
) -> Result<AllCredentials, StartError> {
    share_credentials(&snapshot.credentials, older, is_kept).map_err(|found| {
        let problems = found.into_iter().map(|(at, why)| {
            let said = snapshot.credentials.get(at);
            let is_it = |check: &Check| match &check.kind {
                CheckKind::ApiKeys(keys) => Some(&keys.keys) == said,
                CheckKind::BasicAuth(basic) => Some(&basic.passwords) == said,
                _ => false,
            };
            (of_listener(snapshot, is_it), why)
        });
        StartError::Config(problems.collect())
    })
}

fn geo(snapshot: &Snapshot, older: Option<&AllGeo>, is_kept: bool) -> Result<AllGeo, StartError> {
    geo::share(&snapshot.geo, older, is_kept).map_err(|found| {
        StartError::Config(found.into_iter().map(|(_, why)| (Place::Listener(0), why)).collect())
    })
}

fn keys(snapshot: &Snapshot, older: Option<&AllKeys>) -> Result<AllKeys, StartError> {
    let shared = SharedKeys::share(&snapshot.keys, older);
    shared.map_err(|found| {
        StartError::Config(found.into_iter().map(|(at, why)| (of_keys(snapshot, at), why)).collect())
    })
}

/// Listeners that this build cannot serve.
fn without_quic(snapshot: &Snapshot) -> Vec<(Place, Invalid)> {
    let listeners = snapshot.listeners.iter().enumerate();
    let quic = listeners.filter(|(_, listener)| listener.quic.is_some() && !cfg!(feature = "http3"));
    quic.map(|(at, listener)| {
        let text = format!("listener '{}' is of QUIC, and this naru was built without it", listener.name);
        (Place::Listener(at), Invalid::new(text).hint("build it with the feature http3"))
    })
    .collect()
}

/// By name.
pub fn clusters_of(snapshot: &Snapshot) -> BTreeMap<&str, ClusterId> {
    (0u32..).zip(&snapshot.clusters).map(|(id, cluster)| (cluster.name.as_str(), ClusterId(id))).collect()
}

/// Both sides of TLS.
struct Sides {
    terminators: Vec<Option<Stamped<Terminator>>>,
    connectors: Vec<Option<Stamped<Connectors>>>,
}

impl Sides {
    /// Every problem is found before any is returned.
    fn build(snapshot: &Snapshot, older: Option<&Prepared>) -> Result<Sides, Vec<(Place, Invalid)>> {
        let mut problems = without_quic(snapshot);
        let mut found = |place, owner: String, mut invalid: Invalid| {
            invalid.message = format!("TLS of {owner}: {}", invalid.message);
            problems.push((place, invalid));
        };
        let mut terminators = Vec::new();
        for (listener_at, listener) in snapshot.listeners.iter().enumerate() {
            for (chain_at, chain) in listener.chains.iter().enumerate() {
                let terminate = |tls: &DownstreamTls| {
                    let (stamp, trust) = (Terminator::stamp(tls), Terminator::trust_stamp(tls));
                    let known = older.and_then(|older| older.known_terminator(listener, chain, tls));
                    let built = match known {
                        Some((known, true)) if known.stamp == stamp => return Ok(known.clone()),
                        // Certificates have changed, and nothing that would keep a client out.
                        Some((known, _)) if known.trust == trust => Terminator::build_after(tls, &known.side),
                        Some(_) | None => Terminator::build(tls),
                    };
                    built.map(|side| Stamped { side: Arc::new(side), stamp, trust })
                };
                match chain.tls.as_ref().map(terminate).transpose() {
                    Ok(built) => terminators.push(built),
                    Err(invalid) => found(
                        Place::ChainTls { listener: listener_at, chain: chain_at },
                        format!("listener '{}'", listener.name),
                        invalid,
                    ),
                }
            }
        }
        let known_clusters = older.map(|older| clusters_of(&older.snapshot)).unwrap_or_default();
        let mut connectors = Vec::new();
        for (at, cluster) in snapshot.clusters.iter().enumerate() {
            let connect = |tls: &UpstreamTls| {
                let stamp = Connector::stamp(tls);
                let known = older.zip(known_clusters.get(cluster.name.as_str()));
                let known = known.and_then(|(older, id)| older.known_connectors(*id, cluster, stamp));
                known.map_or_else(
                    || connect_with(tls).map(|side| Stamped { side: Arc::new(side), stamp, trust: stamp }),
                    Ok,
                )
            };
            match cluster.tls.as_ref().map(connect).transpose() {
                Ok(built) => connectors.push(built),
                Err(invalid) => {
                    found(Place::ClusterTls(at), format!("cluster '{}'", cluster.name), invalid);
                }
            }
        }
        if problems.is_empty() { Ok(Sides { terminators, connectors }) } else { Err(problems) }
    }
}

impl Prepared {
    /// The same chain's, if it lets clients in alike; and whether it is made by the same settings.
    fn known_terminator(
        &self,
        listener: &Listener,
        chain: &FilterChain,
        tls: &DownstreamTls,
    ) -> Option<(&Stamped<Terminator>, bool)> {
        let listener_at = self.snapshot.listeners.iter().position(|known| known.name == listener.name)?;
        let chains = &self.snapshot.listeners.get(listener_at)?.chains;
        let is_same = |known: &FilterChain| {
            known.name == chain.name
                && known.server_names == chain.server_names
                && known.tls.as_ref().is_some_and(|known| Terminator::trusts_alike(known, tls))
        };
        let at = chains.iter().position(is_same)?;
        let id = self.snapshot.chain_id(listener_at, at)?;
        let known = self.terminators.get(id.0 as usize)?.as_ref()?;
        Some((known, chains.get(at)?.tls.as_ref() == Some(tls)))
    }

    fn known_connectors(&self, id: ClusterId, cluster: &Cluster, stamp: u64) -> Option<Stamped<Connectors>> {
        let known = self.connectors.get(id.index())?.as_ref()?;
        let is_same = known.stamp == stamp && self.snapshot.cluster(id).tls == cluster.tls;
        is_same.then(|| known.clone())
    }
}

/// The protocol that a cluster speaks decides what is offered; what the context itself lists is
/// offered where the protocol leaves it open.
fn connect_with(tls: &UpstreamTls) -> Result<Connectors, Invalid> {
    let own = Connector::build(tls)?;
    Ok(Connectors {
        http1: if tls.alpn.is_empty() { own.clone() } else { own.with_alpn(&["http/1.1"])? },
        http2: own.with_alpn(&["h2"])?,
        either: own.with_alpn(&["h2", "http/1.1"])?,
    })
}
