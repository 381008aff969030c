//! What one worker makes of a snapshot.
//!
//! A request keeps the one that it began with, so several may be in use for a while. They share what is kept by
//! name: connections to endpoints, counts, buffers of logs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use naru_base::{ClusterId, Instant};
use naru_journey::record::Form;
use naru_journey::{ChainId, short};
use naru_route::RuleId;
use naru_spec::Discovery;
use naru_tls::Terminator;

use crate::cluster::{Balanced, ClusterHere, Clusters};
use crate::gate::StoreHere;
use crate::gate::{CredentialsHere, TokensHere};
use crate::geo::GeoHere;
use crate::guarded::Guarded;
use crate::limited::Limited;
use crate::log::{Buffer, Logs};
use crate::metrics::Metrics;
use crate::mirrors::{MirrorHere, MirrorName, Mirrors};
use crate::on_demand::OnDemandHere;
use crate::prepare::{Prepared, SnapshotRef, clusters_of};
use crate::sessions::SessionsHere;
use crate::shared_limits::LimitsHere;

/// A snapshot, and what one worker has made of it.
#[derive(Debug)]
pub struct Loaded {
    pub prepared: Arc<Prepared>,
    pub snapshot: SnapshotRef,
    pub core: RefCell<naru_journey::Worker>,
    pub clusters: Clusters,
    pub tokens: TokensHere,
    pub credentials: CredentialsHere,
    /// By chain.
    logs: Vec<Vec<LoadedLog>>,
    /// Clusters with endpoints that warm up, whose end somebody waits for.
    warming: RefCell<BTreeSet<ClusterId>>,
    /// Of rules that have any, in their order.
    mirrors: BTreeMap<(ChainId, RuleId), Box<[Rc<MirrorHere>]>>,
    /// By chain.
    pub sessions: Vec<Vec<Rc<SessionsHere>>>,
    /// Some of them refresh requests on their way.
    pub renews: bool,
    /// By name.
    pub stores: BTreeMap<String, Rc<StoreHere>>,
}

#[derive(Debug)]
pub struct LoadedLog {
    pub buffer: Rc<Buffer>,
    pub form: Form,
    /// Of answers from memory that go the short way; empty where none does.
    pub short_form: Form,
}

impl Loaded {
    /// The first of a worker. `endpoints` are by cluster.
    pub fn new(
        prepared: &Arc<Prepared>,
        endpoints: &[Balanced],
        seed: u64,
        metrics: &Metrics,
        logs: &Logs,
    ) -> Rc<Loaded> {
        let core = naru_journey::Worker::new(&prepared.snapshot, seed);
        let loaded = Loaded::with(prepared, core, None, metrics, logs);
        for (id, endpoints) in loaded.cluster_ids().zip(endpoints) {
            loaded.set_endpoints(id, endpoints);
        }
        loaded
    }

    /// The one that follows another. What began with the older one goes on there; connections to
    /// endpoints belong to both.
    pub fn succeed(
        older: &Loaded,
        prepared: &Arc<Prepared>,
        endpoints: &[Balanced],
        metrics: &Metrics,
        logs: &Logs,
    ) -> Rc<Loaded> {
        let core = older.core.borrow_mut().succeed(&older.snapshot, &prepared.snapshot);
        let loaded = Loaded::with(prepared, core, Some(older), metrics, logs);
        let mut known = clusters_of(&older.snapshot);
        for (id, endpoints) in loaded.cluster_ids().zip(endpoints) {
            match known.remove(loaded.snapshot.cluster(id).name.as_str()) {
                Some(before) => loaded.inherit(id, endpoints, older, before),
                None => loaded.set_endpoints(id, endpoints),
            }
        }
        for gone in known.into_values() {
            older.clusters.get(gone).retire();
        }
        loaded
    }

    fn with(
        prepared: &Arc<Prepared>,
        core: naru_journey::Worker,
        older: Option<&Loaded>,
        metrics: &Metrics,
        logs: &Logs,
    ) -> Rc<Loaded> {
        let snapshot = SnapshotRef(Arc::clone(prepared));
        let clusters = (0u32..).zip(&snapshot.clusters).map(|(id, _)| {
            let stats = metrics.cluster(prepared.cluster_name(ClusterId(id)));
            let guarded = prepared.guards.get(id as usize).cloned().flatten();
            let retrying = prepared.retrying.get(id as usize).cloned().unwrap_or_default();
            let limited = Arc::clone(&prepared.limits[id as usize]);
            let connectors = prepared.connectors(ClusterId(id)).map(Arc::clone);
            let on_demand = on_demand(prepared, ClusterId(id), &limited, older);
            ClusterHere::new(connectors, guarded, retrying, limited, on_demand, stats)
        });
        let stores = snapshot.stores.iter().filter_map(|store| {
            let known =
                older.and_then(|older| older.stores.get(&store.name)).filter(|known| known.is_of(store));
            let shared = prepared.stores.get(&store.name)?;
            let here = known.map_or_else(|| StoreHere::new(store, shared, prepared.origin), Rc::clone);
            Some((store.name.clone(), here))
        });
        let stores = stores.collect();
        let older = older.map(|older| (&older.snapshot.limits, &older.clusters.limits));
        let limits = LimitsHere::new(&snapshot.limits, &prepared.named_limits, older);
        let logs_of_chains = (0..).zip(snapshot.chains()).zip(&prepared.sinks).map(|((at, chain), sinks)| {
            let is_short = prepared.short.get(at).is_some_and(|rules| !rules.is_empty());
            let all = chain.http.access_log.iter().zip(sinks).map(|(access, sink)| {
                let form = Form::of(&access.format);
                let short_form = if is_short { short::form_of(&form) } else { Form::default() };
                LoadedLog { buffer: logs.buffer(sink), form, short_form }
            });
            all.collect()
        });
        let of_chains = prepared.sessions.iter().zip(&prepared.providers).zip(snapshot.chains());
        let of_chains = of_chains.map(|((services, providers), chain)| {
            let all = chain.http.sessions.iter().zip(services).zip(providers);
            all.map(|((auth, service), provider)| SessionsHere::new(auth, service, provider.as_ref()))
                .collect()
        });
        let sessions: Vec<Vec<_>> = of_chains.collect();
        Rc::new(Loaded {
            prepared: Arc::clone(prepared),
            core: RefCell::new(core),
            clusters: Clusters {
                all: clusters.collect(),
                limits,
                quotas: prepared.quotas.clone(),
                local_rates: prepared.local_rates.clone(),
                surged: prepared.surged.clone(),
                checks: Arc::clone(&prepared.checks),
                geo: GeoHere::new(&prepared.geo),
                faults: Arc::clone(&prepared.faults),
                retried: Arc::clone(&prepared.retried),
                recent_writes: prepared.recent_writes.clone(),
            },
            tokens: TokensHere::new(&prepared.keys),
            credentials: CredentialsHere::new(&prepared.credentials, &prepared.desk),
            logs: logs_of_chains.collect(),
            warming: RefCell::default(),
            stores,
            mirrors: mirrors_of(&snapshot, &metrics.mirrors),
            renews: sessions.iter().flatten().any(|sessions| sessions.renews()),
            sessions,
            snapshot,
        })
    }

    #[inline]
    pub fn logs(&self, chain: ChainId) -> &[LoadedLog] {
        &self.logs[chain.0 as usize]
    }

    /// What is known of the mirrors of a rule, in their order.
    pub fn mirrors(&self, chain: ChainId, rule: RuleId) -> &[Rc<MirrorHere>] {
        self.mirrors.get(&(chain, rule)).map_or(&[], |mirrors| mirrors)
    }

    pub fn terminator(&self, chain: ChainId) -> Option<&Terminator> {
        self.prepared.terminator(chain)
    }

    pub fn set_endpoints(self: &Rc<Self>, cluster: ClusterId, endpoints: &Balanced) {
        self.clusters.get(cluster).set_endpoints(&endpoints.set, self.is_logical(cluster));
        self.balance(cluster, endpoints);
    }

    fn inherit(self: &Rc<Self>, cluster: ClusterId, endpoints: &Balanced, older: &Loaded, before: ClusterId) {
        let here = older.clusters.get(before);
        let is_dialled_alike = self.prepared.is_dialled_alike(cluster, &older.prepared, before);
        let is_logical = self.is_logical(cluster) && older.is_logical(before);
        self.clusters.get(cluster).inherit(here, &endpoints.set, is_logical, is_dialled_alike);
        self.balance(cluster, endpoints);
    }

    fn balance(self: &Rc<Self>, cluster: ClusterId, endpoints: &Balanced) {
        let mut core = self.core.borrow_mut();
        let now = self.prepared.origin.elapsed();
        let next = core.set_roster(now, &self.snapshot, cluster, &endpoints.roster, &self.clusters);
        drop(core);
        self.refresh_at(cluster, next);
    }

    /// The endpoints of clusters that this one guards are perhaps as fit as they were, perhaps not: what is picked by is
    /// built here, between requests. A pick builds nothing.
    pub fn hear_guard(self: &Rc<Self>, guarded: &Arc<Guarded>) {
        let of_guard =
            |here: &ClusterHere| here.guarded.as_ref().is_some_and(|known| Arc::ptr_eq(known, guarded));
        for (id, _) in self.cluster_ids().zip(&self.clusters.all).filter(|(_, here)| of_guard(here)) {
            self.refresh(id);
        }
    }

    fn refresh(self: &Rc<Self>, cluster: ClusterId) {
        let next = self.core.borrow_mut().refresh(
            self.prepared.origin.elapsed(),
            &self.snapshot,
            cluster,
            &self.clusters,
        );
        self.refresh_at(cluster, next);
    }

    /// Once a warm-up is over, picks are simple again. One task for each cluster waits for that.
    fn refresh_at(self: &Rc<Self>, cluster: ClusterId, next: Option<Instant>) {
        let Some(mut next) = next else { return };
        if !self.warming.borrow_mut().insert(cluster) {
            return;
        }
        let (weak, origin) = (Rc::downgrade(self), self.prepared.origin);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(next.since(origin.elapsed())).await;
                let Some(here) = weak.upgrade() else { return };
                let mut core = here.core.borrow_mut();
                match core.refresh(origin.elapsed(), &here.snapshot, cluster, &here.clusters) {
                    Some(later) => next = later,
                    None => {
                        here.warming.borrow_mut().remove(&cluster);
                        return;
                    }
                }
            }
        });
    }

    fn is_logical(&self, cluster: ClusterId) -> bool {
        matches!(self.snapshot.cluster(cluster).discovery, Discovery::LogicalDns(_))
    }

    /// An attempt has its connection.
    #[inline]
    pub fn count_recent(&self, now: Instant, cluster: ClusterId) {
        let limit = self.snapshot.cluster(cluster).limits.normal.retries;
        self.clusters.get(cluster).limited.recent.count(now, limit);
    }

    pub fn cluster_ids(&self) -> impl Iterator<Item = ClusterId> + use<> {
        (0..self.clusters.all.len() as u32).map(ClusterId)
    }
}

/// The table of a cluster whose endpoints come with requests: the same as before, where it is dialled alike.
fn on_demand(
    prepared: &Prepared,
    id: ClusterId,
    limited: &Limited,
    older: Option<&Loaded>,
) -> Option<Rc<OnDemandHere>> {
    let cluster = prepared.snapshot.cluster(id);
    let Discovery::OnDemand(settings) = &cluster.discovery else { return None };
    let known = older.and_then(|older| {
        let before = clusters_of(&older.snapshot).get(cluster.name.as_str()).copied()?;
        let is_alike = prepared.is_dialled_alike(id, &older.prepared, before);
        older.clusters.get(before).on_demand.clone().filter(|_| is_alike)
    });
    let here =
        known.unwrap_or_else(|| OnDemandHere::new(Arc::clone(&limited.on_demand), settings.cleanup_interval));
    here.set_cleanup_interval(settings.cleanup_interval);
    Some(here)
}

fn mirrors_of(snapshot: &SnapshotRef, known: &Mirrors) -> BTreeMap<(ChainId, RuleId), Box<[Rc<MirrorHere>]>> {
    let mut all = BTreeMap::new();
    for (id, chain) in (0u32..).map(ChainId).zip(snapshot.chains()) {
        let rules = chain.table.rules().filter(|(rule, _)| !chain.mirrored(*rule).is_empty());
        for (rule, compiled) in rules {
            let virtual_host = chain.table.virtual_host_name(compiled.virtual_host);
            let mirrors =
                chain.recovery(rule).mirrors.iter().map(|mirror| {
                    known.named(MirrorName::of(virtual_host, compiled, rule.0, &mirror.cluster))
                });
            all.insert((id, rule), mirrors.collect());
        }
    }
    all
}
