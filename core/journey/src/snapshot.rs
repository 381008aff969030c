//! A configuration, compiled: the tables that every step looks into.
//!
//! Built once, shared by all workers, never changed. A journey keeps the one it began with. Ids of
//! [`naru_base::id`] are indexes into it.

use std::collections::BTreeMap;

use naru_base::ClusterId;
use naru_recover::{CompiledRetry, RouteRecovery};
use naru_route::{CompiledAction, RuleId, Table};
use naru_spec::config::Place;
use naru_spec::{
    Action, Admin, BalancingPolicy, CacheStore, Cluster, Config, Credentials, Discovery, Fault, Forward,
    Http, Invalid, JwtKeys, Listener, LoadLimits, Overload, Quota, RouteTable, Store, Surge,
};

use crate::caches::Caches;
use crate::door::CompiledDoor;
use crate::fallbacks::Fallbacks;
use crate::gate::local_rate::KnownLocalRate;
use crate::gate::quotas::{Known, QuotaId};
use crate::gate::{CompiledGate, Distinct, Found};
use crate::limits::NamedLimits;
use crate::record::Plan;
use crate::upgrade;

/// A filter chain of a listener, counted over all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u32);

#[derive(Debug)]
pub struct Snapshot {
    pub admin: Option<Admin>,
    pub listeners: Vec<Listener>,
    pub clusters: Vec<Cluster>,
    pub overload: Option<Overload>,
    /// The named limits of routes and clusters.
    pub limits: NamedLimits,
    /// What is tried instead.
    pub fallbacks: Fallbacks,
    /// What is kept of answers.
    pub caches: Caches,
    /// Nothing stands between a rule and its endpoint, and nothing of a request but its rule chooses that.
    pub(crate) is_plain: bool,
    pub cache: CacheStore,
    /// Of a request that goes to another cluster than its own.
    no_retry: CompiledRetry,
    /// The limits of clients: see [`crate::gate::quotas::QuotaId`].
    pub quotas: Vec<Quota>,
    /// The buckets of local rate limits: see [`crate::gate::local_rate::LocalRateId`].
    pub local_rates: Vec<KnownLocalRate>,
    /// Those that are counted elsewhere, and the names of their stores.
    pub stored_quotas: Vec<(QuotaId, String)>,
    /// Where counts are kept that several proxies share.
    pub stores: Vec<Store>,
    /// What is given up while more comes than there is room for.
    pub surge: Option<Surge>,
    /// Where the keys of tokens are: see [`crate::gate::tokens::KeysId`].
    pub keys: Vec<JwtKeys>,
    /// What credentials are held against: see [`crate::gate::credentials::CredentialsId`].
    pub credentials: Vec<Credentials>,
    /// Databases of addresses, by their paths: see [`crate::door::GeoId`].
    pub geo: Vec<String>,
    chains: Vec<Chain>,
    /// The first chain of each listener.
    pub(crate) first_chains: Vec<u32>,
}

/// What a request that came in through one chain is decided by.
#[derive(Debug)]
pub struct Chain {
    /// The settings; its `routes` are empty here, they are in `table`. Of a chain of TCP as [`crate::tcp`] says.
    pub http: Http,
    /// Its clients' bytes are passed through.
    pub is_tcp: bool,
    /// Some of its requests may ask for another protocol.
    pub has_upgrades: bool,
    pub table: Table,
    /// What requests pass before anything is asked of them.
    pub door: Option<Box<CompiledDoor>>,
    /// What requests pass before they go anywhere.
    pub gate: Option<Box<CompiledGate>>,
    recoveries: Recoveries,
    /// What is kept of requests and responses for later.
    pub record: Plan,
}

impl Snapshot {
    /// Every problem is found before any is returned.
    pub fn compile(mut config: Config) -> Result<Snapshot, Vec<(Place, Invalid)>> {
        let mut problems = config.problems();
        let ids: BTreeMap<&str, ClusterId> = config
            .clusters
            .iter()
            .zip(0u32..)
            .map(|(cluster, id)| (cluster.name.as_str(), ClusterId(id)))
            .collect();
        let find = |name: &str| ids.get(name).copied();
        let mut chains = Vec::new();
        let mut quotas = Known::default();
        let mut local_rates = Vec::new();
        let mut keys = Distinct::default();
        let mut credentials = Distinct::default();
        let mut geo = Distinct::default();
        let mut first_chains = Vec::new();
        let mut fallbacks = Fallbacks::default();
        let mut caches = Caches::default();
        fallbacks.add_clusters(&config.clusters, &ids);
        for (listener_at, listener) in config.listeners.iter_mut().enumerate() {
            first_chains.push(chains.len() as u32);
            for (chain_at, chain) in listener.chains.iter_mut().enumerate() {
                // The routes are large and live on only as a table.
                let mut http = match &chain.tcp {
                    Some(tcp) => crate::tcp::lowered(tcp),
                    None => {
                        let routes = std::mem::take(&mut chain.http.routes);
                        Http { routes, ..chain.http.clone() }
                    }
                };
                let routes = std::mem::take(&mut http.routes);
                fallbacks.add_rules(&routes, &ids);
                caches.add_rules(&routes);
                match Table::compile(&routes, &find) {
                    Ok(table) => {
                        let record = Plan::of(&http.access_log, &routes);
                        let place = |virtual_host, rule| Place::Rule {
                            listener: listener_at,
                            chain: chain_at,
                            virtual_host,
                            rule,
                        };
                        let of_listener = http.fault.as_ref();
                        let recoveries =
                            Recoveries::compile(&routes, of_listener, &find, &place, &mut problems);
                        let is_tcp = chain.tcp.is_some();
                        let has_upgrades = upgrade::has_any(&http, &table);
                        let mut of_gate = Vec::new();
                        let mut known = Found {
                            quotas: &mut quotas,
                            local_rates: &mut local_rates,
                            keys: &mut keys,
                            credentials: &mut credentials,
                            problems: &mut of_gate,
                        };
                        let gate = CompiledGate::compile(&http.gate, &routes, &http.stat_prefix, &mut known);
                        problems.extend(
                            of_gate.into_iter().map(|invalid| (Place::Listener(listener_at), invalid)),
                        );
                        let door = http.door.as_ref();
                        let door = door.map(|door| Box::new(CompiledDoor::compile(door, &mut geo)));
                        chains.push(Chain {
                            http,
                            is_tcp,
                            has_upgrades,
                            table,
                            door,
                            gate,
                            recoveries,
                            record,
                        });
                    }
                    Err(found) => problems.extend(
                        found
                            .into_iter()
                            .map(|(place, invalid)| (outer(listener_at, chain_at, &place), invalid)),
                    ),
                }
            }
        }
        drop(ids);
        if problems.is_empty() {
            let Config { admin, listeners, clusters, overload, cache, stores, surge } = config;
            let limits = NamedLimits::of(
                clusters.iter().map(|cluster| &cluster.load),
                chains.iter().map(loads_of_rules),
            );
            let no_retry = CompiledRetry::default();
            let is_plain = limits.is_empty()
                && caches.is_empty()
                && fallbacks.is_empty()
                && !clusters.iter().any(is_chosen_by_requests);
            Ok(Snapshot {
                admin,
                listeners,
                clusters,
                overload,
                limits,
                is_plain,
                fallbacks,
                caches,
                cache: cache.unwrap_or_default(),
                quotas: quotas.all,
                local_rates,
                stored_quotas: quotas.stored,
                keys: keys.all,
                credentials: credentials.all,
                geo: geo.all,
                stores,
                surge,
                no_retry,
                chains,
                first_chains,
            })
        } else {
            Err(problems)
        }
    }

    /// Whether somebody must remember which sessions have written: see [`crate::RecentWrites`].
    pub fn has_sessions(&self) -> bool {
        let mut rules = self.chains.iter().flat_map(|chain| chain.table.rules());
        rules.any(|(_, rule)| match &rule.action {
            CompiledAction::Forward(forward) => {
                let sessions = forward.groups.as_ref().and_then(|groups| groups.read_your_writes());
                sessions.is_some_and(|sessions| sessions.cookie().is_none())
            }
            CompiledAction::Redirect(_) | CompiledAction::Direct(_) => false,
        })
    }

    /// The chain that is the `chain`-th of the `listener`-th listener.
    pub fn chain_id(&self, listener: usize, chain: usize) -> Option<ChainId> {
        let first = *self.first_chains.get(listener)?;
        (chain < self.listeners.get(listener)?.chains.len()).then_some(ChainId(first + chain as u32))
    }

    pub(crate) fn no_retry(&self) -> &CompiledRetry {
        &self.no_retry
    }

    /// Whether a gate has something become of bodies, or gives files.
    pub fn has_bodies(&self) -> bool {
        self.chains.iter().filter_map(|chain| chain.gate.as_ref()).any(|gate| gate.has_bodies())
    }

    #[inline]
    pub fn chain(&self, id: ChainId) -> &Chain {
        &self.chains[id.0 as usize]
    }

    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    #[inline]
    pub fn cluster(&self, id: ClusterId) -> &Cluster {
        &self.clusters[id.index()]
    }
}

impl Chain {
    /// What the rule says of failures.
    #[inline]
    pub fn recovery(&self, rule: RuleId) -> &RouteRecovery {
        &self.recoveries.of(rule).0
    }

    /// The clusters of its mirrors, in their order.
    pub fn mirrored(&self, rule: RuleId) -> &[Option<ClusterId>] {
        &self.recoveries.of(rule).1
    }
}

/// What rules say of failures. Most say the same, and share it.
#[derive(Debug)]
struct Recoveries {
    /// Each with the clusters of its mirrors. The first is that of rules that forward nothing.
    all: Vec<(RouteRecovery, Box<[Option<ClusterId>]>)>,
    /// By rule.
    of_rules: Vec<u32>,
}

impl Recoveries {
    fn compile(
        routes: &RouteTable,
        of_listener: Option<&Fault>,
        find: &dyn Fn(&str) -> Option<ClusterId>,
        place: &dyn Fn(usize, usize) -> Place,
        problems: &mut Vec<(Place, Invalid)>,
    ) -> Recoveries {
        let mut recoveries =
            Recoveries { all: vec![(RouteRecovery::default(), Box::default())], of_rules: Vec::new() };
        let mut last: Option<&Forward> = None;
        for (host_at, host) in routes.virtual_hosts.iter().enumerate() {
            for (rule_at, rule) in host.rules.iter().enumerate() {
                let Action::Forward(forward) = &rule.action else {
                    recoveries.of_rules.push(0);
                    continue;
                };
                if !last.is_some_and(|last| is_recovered_alike(last, forward)) {
                    match RouteRecovery::compile(forward, of_listener) {
                        Ok(recovery) => {
                            let mirrored = forward.mirrors.iter().map(|mirror| find(&mirror.cluster));
                            recoveries.all.push((recovery, mirrored.collect()));
                        }
                        Err(found) => {
                            problems
                                .extend(found.into_iter().map(|invalid| (place(host_at, rule_at), invalid)));
                        }
                    }
                    last = Some(forward);
                }
                recoveries.of_rules.push(recoveries.all.len() as u32 - 1);
            }
        }
        recoveries
    }

    #[inline]
    fn of(&self, rule: RuleId) -> &(RouteRecovery, Box<[Option<ClusterId>]>) {
        let at = self.of_rules.get(rule.index()).copied().unwrap_or(0);
        &self.all[at as usize]
    }
}

fn is_recovered_alike(a: &Forward, b: &Forward) -> bool {
    a.retry == b.retry
        && a.hedge == b.hedge
        && a.auto_timeout == b.auto_timeout
        && a.fault == b.fault
        && a.mirrors == b.mirrors
}

/// By rule.
/// Which endpoint of the cluster takes a request depends on what the request says.
pub(crate) fn is_chosen_by_requests(cluster: &Cluster) -> bool {
    let settings = &cluster.load_balancing;
    matches!(cluster.discovery, Discovery::OnDemand(_))
        || matches!(settings.policy, BalancingPolicy::ConsistentHash(_))
        || settings.sticky.is_some()
}

fn loads_of_rules(chain: &Chain) -> Vec<Option<&LoadLimits>> {
    let rules = chain.table.rules().map(|(_, rule)| match &rule.action {
        CompiledAction::Forward(forward) => forward.load.as_deref(),
        CompiledAction::Redirect(_) | CompiledAction::Direct(_) => None,
    });
    rules.collect()
}

fn outer(listener: usize, chain: usize, place: &naru_route::Place) -> Place {
    let virtual_host = place.virtual_host;
    match place.rule {
        Some(rule) => Place::Rule { listener, chain, virtual_host, rule },
        None => Place::VirtualHost { listener, chain, virtual_host },
    }
}
