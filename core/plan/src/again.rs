//! What of a plan is another where only VirtualServices are?
//!
//! Comes in: resources, one state after another. Goes out: for a change that reaches little, two small plans, of what it
//! reaches before and after; the difference of the two is the difference of the two whole plans. Where a change can reach
//! everything there is no answer, and the whole is planned anew.
//!
//! Why that holds: a virtual host of a plan is made of everything beside VirtualServices, which is the same in all of
//! these plans, and of the VirtualServices that speak of its domains. Which these are is told by [`keys`]: two that may
//! meet in a host have one in common. A change is taken with all that meet it, and with all that meet those, since domains
//! that the same ones speak of are one virtual host. So what differs between the two small plans is whole in them, and
//! what does not differ is not touched. `core/plan/tests/again.rs` walks it against whole plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use naru_resource::{Gateway, Resources, Shared, VirtualService};
use naru_spec::{Action, CheckKind, Cluster, Config, GateChange, Problem, VirtualHost};

use crate::findings::settle;
use crate::names::{DOMAIN, common, fqdn};
use crate::registry::alias_of;
use crate::routes::{MESH, is_bound};
use crate::{Planned, Surroundings, plan};

/// So many VirtualServices at once are not looked at one by one.
const CHANGED_MAX: usize = 64;
/// So many that a change may reach.
const REACHED_MAX: usize = 1_000;
/// Hosts of servers with which each VirtualService is compared.
const SERVERS_MAX: usize = 100;

/// Resources that were planned, to say what is another in those that follow.
#[derive(Debug, Default)]
pub struct Known {
    /// Everything but VirtualServices.
    rest: Resources,
    services: Shared<VirtualService>,
    /// By VirtualService, once they were asked for; with the hosts of servers that they were made for.
    keys: Option<(BTreeSet<String>, Vec<Keys>)>,
}

/// See [`keys`].
type Keys = Arc<[String]>;

/// What a change reaches, before and after it.
#[derive(Debug)]
pub struct Change<'a> {
    rest: &'a mut Resources,
    before: Shared<VirtualService>,
    after: Shared<VirtualService>,
    /// How many of these are others.
    changed: usize,
}

impl Known {
    pub fn new(mut resources: Resources) -> Known {
        resources.settle();
        let services = std::mem::take(&mut resources.virtual_services);
        Known { rest: resources, services, keys: None }
    }

    /// These are known from now on. `None` where all of it is to be planned anew.
    pub fn follow(&mut self, resources: Resources) -> Option<Change<'_>> {
        let next = Known::new(resources);
        let mut older = std::mem::replace(self, next);
        let agrees = self.rest.files.agrees(&older.rest.files);
        older.rest.files.clone_from(&self.rest.files);
        if !agrees || older.rest != self.rest {
            return None;
        }
        let (same, new) = differing(older.services.as_slice(), self.services.as_slice());
        let old: Vec<&VirtualService> =
            older.services.iter().zip(&same).filter(|(_, same)| same.is_none()).map(|(one, _)| one).collect();
        let changed = old.len().max(new.len());
        let servers: BTreeSet<String> = self.rest.gateways.iter().flat_map(hosts_of).collect();
        let mut others = old.iter().copied().chain(new.iter().filter_map(|at| self.services.get(*at)));
        if changed > CHANGED_MAX || servers.len() > SERVERS_MAX || others.any(is_wide) {
            return None;
        }
        // What is said of a service holds for each name that it has.
        if changed > 0 && has_names_of_names(&self.rest) {
            return None;
        }
        let of_old: Vec<Keys> = old.iter().map(|service| keys(service, &servers)).collect();
        let of_after = keys_of_all(&self.services, older.keys.take(), &same, &servers);
        let of_new = new.iter().filter_map(|at| of_after.get(*at));
        let mut met: BTreeSet<&str> = BTreeSet::new();
        of_old.iter().chain(of_new).for_each(|keys| met.extend(keys.iter().map(String::as_str)));
        let meets = |keys: &Keys, met: &BTreeSet<&str>| keys.iter().any(|key| met.contains(key.as_str()));
        let beside: Vec<&Keys> = of_after.iter().filter(|keys| meets(keys, &met)).collect();
        beside.into_iter().for_each(|keys| met.extend(keys.iter().map(String::as_str)));
        // What is wide speaks of every host that nobody is closer to.
        let is_reached: Vec<bool> = (self.services.iter().zip(&of_after))
            .map(|(service, keys)| is_wide(service) || meets(keys, &met))
            .collect();
        self.keys = Some((servers, of_after));
        let is_reached = |at: usize| is_reached.get(at).copied().unwrap_or(false);
        let before = older.services.as_slice().iter().zip(&same);
        let before = before.filter(|(_, same)| same.is_none_or(is_reached)).map(|(one, _)| Arc::clone(one));
        let before: Shared<VirtualService> = before.collect();
        let after = self.services.as_slice().iter().enumerate().filter(|(at, _)| is_reached(*at));
        let after: Shared<VirtualService> = after.map(|(_, one)| Arc::clone(one)).collect();
        // Chains of bytes are not told apart by hosts alone.
        let has_streams =
            |service: &VirtualService| !service.spec.tls.is_empty() || !service.spec.tcp.is_empty();
        if before.len().max(after.len()) > REACHED_MAX || before.iter().chain(&after).any(has_streams) {
            return None;
        }
        Some(Change { rest: &mut self.rest, before, after, changed })
    }
}

impl Known {
    /// All of them, in the order that [`Resources::settle`] gives them.
    pub fn with_all<T>(&mut self, look: impl FnOnce(&mut Resources) -> T) -> T {
        self.rest.virtual_services = std::mem::take(&mut self.services);
        let seen = look(&mut self.rest);
        self.services = std::mem::take(&mut self.rest.virtual_services);
        seen
    }
}

impl Change<'_> {
    /// How many VirtualServices are others, and with how many they are planned.
    pub fn size(&self) -> (usize, usize) {
        (self.changed, self.before.len().max(self.after.len()))
    }

    /// What is another for a proxy with these surroundings, with which the whole was planned before. `is_its` says which
    /// gateways it has. `None` where the whole is to be planned anew.
    pub fn plan(&mut self, surroundings: &Surroundings, is_its: &dyn Fn(&Gateway) -> bool) -> Option<Part> {
        // Of hosts that nobody defines the first that is spoken of is told.
        let defines_none = self.rest.services.is_empty() && self.rest.service_entries.is_empty();
        if defines_none && !surroundings.is_strict {
            return None;
        }
        let all = self.rest.gateways.clone();
        self.rest.gateways.retain(is_its);
        let before = self.of(surroundings, |change| &mut change.before);
        let after = self.of(surroundings, |change| &mut change.after);
        let redirects = self.rest.gateways.iter().flat_map(|gateway| &gateway.spec.servers).any(|server| {
            server.tls.as_ref().and_then(|tls| tls.https_redirect.as_ref()).is_some_and(|flag| flag.value)
        });
        self.rest.gateways = all;
        let files = self.rest.files_of_others();
        let of_others: BTreeSet<&str> = files.into_iter().map(|file| self.rest.files.name(file)).collect();
        Part::of(before, after, redirects, &of_others)
    }

    fn of(
        &mut self,
        surroundings: &Surroundings,
        services: impl Fn(&mut Self) -> &mut Shared<VirtualService>,
    ) -> Planned {
        self.rest.virtual_services = std::mem::take(services(self));
        let planned = plan(self.rest, surroundings);
        *services(self) = std::mem::take(&mut self.rest.virtual_services);
        planned
    }
}

/// What is another in a plan.
#[derive(Debug)]
pub struct Part {
    /// Plans of what the change reaches; but for virtual hosts and clusters they say the same.
    pub before: Config,
    pub after: Config,
    pub hosts: Vec<ChangedHost>,
    /// Problems that are there no longer, and that are new.
    pub gone: Vec<Problem>,
    pub new: Vec<Problem>,
}

/// A virtual host that is new, gone or another.
#[derive(Clone, Debug)]
pub struct ChangedHost {
    /// The name of its listener, and which of its chains.
    pub listener: String,
    pub chain: usize,
    pub before: Option<VirtualHost>,
    pub after: Option<VirtualHost>,
}

impl Part {
    fn of(before: Planned, after: Planned, redirects: bool, of_others: &BTreeSet<&str>) -> Option<Part> {
        let (gone, new) =
            (without(&before.problems, &after.problems), without(&after.problems, &before.problems));
        // What is told of another document may depend on all VirtualServices.
        if gone.iter().chain(&new).any(|problem| of_others.contains(problem.file.as_str())) {
            return None;
        }
        if shell(&before.config) != shell(&after.config) {
            return None;
        }
        let mut hosts = Vec::new();
        for (listener, (old, new)) in before.config.listeners.iter().zip(&after.config.listeners).enumerate()
        {
            for (chain, (old, new)) in old.chains.iter().zip(&new.chains).enumerate() {
                let old = by_name(&old.http.routes.virtual_hosts)?;
                let new = by_name(&new.http.routes.virtual_hosts)?;
                let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
                for name in names {
                    let (old, new) = (old.get(name).copied(), new.get(name).copied());
                    if old == new {
                        continue;
                    }
                    let domains = |host: Option<&VirtualHost>| host.map(|host| host.domains.clone());
                    // Which hosts are left over there depends on all that are not.
                    let is_for_all = redirects && domains(old) != domains(new);
                    if is_for_all || old.into_iter().chain(new).any(asks_clusters) {
                        return None;
                    }
                    let listener = before.config.listeners.get(listener)?.name.clone();
                    hosts.push(ChangedHost { listener, chain, before: old.cloned(), after: new.cloned() });
                }
            }
        }
        Some(Part { before: before.config, after: after.config, hosts, gone, new })
    }

    /// The names of clusters that the changed hosts lead to, before and after.
    pub fn led_to(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let before = self.hosts.iter().filter_map(|changed| changed.before.as_ref());
        let after = self.hosts.iter().filter_map(|changed| changed.after.as_ref());
        (before.flat_map(led_to).collect(), after.flat_map(led_to).collect())
    }

    /// Changes the whole plan of the resources before into that of those after. Where it says `false`, nothing is changed
    /// and the whole is to be planned anew: a host is new or gone, which changes the order of others, or a cluster is.
    pub fn apply(self, whole: &mut Planned) -> bool {
        let mut places = Vec::new();
        for changed in &self.hosts {
            let (Some(before), Some(_)) = (&changed.before, &changed.after) else { return false };
            let Some(at) = place(&whole.config, changed, before) else { return false };
            places.push(at);
        }
        let (led_before, led_after) = self.led_to();
        let named = |clusters: &[Cluster], name: &str| -> Option<Cluster> {
            clusters.iter().find(|cluster| cluster.name == name).cloned()
        };
        if led_after.iter().any(|name| {
            let wanted = named(&self.after.clusters, name);
            wanted.is_none() || named(&whole.config.clusters, name) != wanted
        }) {
            return false;
        }
        let Some(problems) = self.problems(&whole.problems) else { return false };
        let mut lost: BTreeSet<String> =
            led_before.difference(&led_after).map(|name| (*name).to_owned()).collect();
        let mut swapped = Vec::new();
        for (changed, at) in self.hosts.into_iter().zip(places) {
            let (Some(host), Some(after)) = (host_at(&mut whole.config, at), changed.after) else { continue };
            swapped.push((at, std::mem::replace(host, after)));
        }
        if !lost.is_empty() {
            let chains = whole.config.listeners.iter().flat_map(|listener| &listener.chains);
            let hosts = chains.flat_map(|chain| &chain.http.routes.virtual_hosts);
            hosts.flat_map(led_to).for_each(|name| {
                lost.remove(name);
            });
        }
        if !lost.is_empty() {
            for (at, before) in swapped {
                if let Some(host) = host_at(&mut whole.config, at) {
                    *host = before;
                }
            }
            return false;
        }
        whole.problems = problems;
        true
    }

    /// The problems of the whole, where these were there before.
    pub fn problems(&self, before: &[Problem]) -> Option<Vec<Problem>> {
        let mut problems = before.to_vec();
        for gone in &self.gone {
            let at = problems.iter().position(|problem| problem == gone)?;
            problems.remove(at);
        }
        problems.extend_from_slice(&self.new);
        settle(&mut problems);
        Some(problems)
    }
}

/// The names of clusters that a host leads to.
pub fn led_to(host: &VirtualHost) -> impl Iterator<Item = &str> {
    let forwards = host.rules.iter().filter_map(|rule| match &rule.action {
        Action::Forward(forward) => Some(&**forward),
        Action::Redirect(_) | Action::Direct(_) => None,
    });
    forwards.flat_map(|forward| {
        let mirrors = forward.mirrors.iter().map(|mirror| mirror.cluster.as_str());
        let fallback = forward.fallback.iter().flat_map(|fallback| fallback.clusters());
        forward.cluster_names().chain(mirrors).chain(fallback)
    })
}

/// Whether one of its checks asks a cluster, which then is there for that.
fn asks_clusters(host: &VirtualHost) -> bool {
    let changes = host.rules.iter().flat_map(|rule| rule.changes());
    let mut checks = changes.filter_map(|change| match change {
        GateChange::Instead(check) | GateChange::Also(check) => Some(&check.kind),
        _ => None,
    });
    checks.any(|kind| matches!(kind, CheckKind::External(_) | CheckKind::Jwt(_) | CheckKind::RateService(_)))
}

/// Listener, chain and virtual host.
type At = (usize, usize, usize);

/// Where a host is, that is as it was before and has a name of its own.
fn place(config: &Config, changed: &ChangedHost, before: &VirtualHost) -> Option<At> {
    let listener = config.listeners.iter().position(|listener| listener.name == changed.listener)?;
    let hosts = &config.listeners.get(listener)?.chains.get(changed.chain)?.http.routes.virtual_hosts;
    let mut named = hosts.iter().enumerate().filter(|(_, host)| host.name == before.name);
    let (at, host) = named.next()?;
    (named.next().is_none() && host == before).then_some((listener, changed.chain, at))
}

fn host_at(config: &mut Config, (listener, chain, host): At) -> Option<&mut VirtualHost> {
    config.listeners.get_mut(listener)?.chains.get_mut(chain)?.http.routes.virtual_hosts.get_mut(host)
}

/// All but virtual hosts and clusters.
fn shell(config: &Config) -> Config {
    let mut shell = Config { clusters: Vec::new(), ..config.clone() };
    for chain in shell.listeners.iter_mut().flat_map(|listener| &mut listener.chains) {
        chain.http.routes.virtual_hosts.clear();
    }
    shell
}

/// `None` where two have one name.
fn by_name(hosts: &[VirtualHost]) -> Option<BTreeMap<&str, &VirtualHost>> {
    let all: BTreeMap<&str, &VirtualHost> = hosts.iter().map(|host| (host.name.as_str(), host)).collect();
    (all.len() == hosts.len()).then_some(all)
}

/// Each as often as there are more of it.
fn without(all: &[Problem], others: &[Problem]) -> Vec<Problem> {
    let mut others: Vec<&Problem> = others.iter().collect();
    let mut left = Vec::new();
    for problem in all {
        match others.iter().position(|other| *other == problem) {
            Some(at) => {
                others.swap_remove(at);
            }
            None => left.push(problem.clone()),
        }
    }
    left
}

/// For each of `before` its place in `after` where it is the same there, and the places of what is new in `after`. Both
/// are in the order of [`Meta::precedence`](naru_resource::Meta::precedence).
fn differing(
    before: &[Arc<VirtualService>],
    after: &[Arc<VirtualService>],
) -> (Vec<Option<usize>>, Vec<usize>) {
    let (mut same, mut new) = (Vec::with_capacity(before.len()), Vec::new());
    let mut rest = after.iter().enumerate().peekable();
    for old in before {
        let of_old = old.meta.precedence();
        while let Some((at, _)) = rest.next_if(|(_, one)| one.meta.precedence() < of_old) {
            new.push(at);
        }
        match rest.next_if(|(_, one)| one.meta.precedence() == of_old) {
            Some((at, one)) if Arc::ptr_eq(one, old) || one == old => same.push(Some(at)),
            Some((at, _)) => {
                new.push(at);
                same.push(None);
            }
            None => same.push(None),
        }
    }
    new.extend(rest.map(|(at, _)| at));
    (same, new)
}

/// What a VirtualService meets others by: its own name and those that it delegates to, the hosts that it has at servers,
/// and the hosts that it speaks of to workloads, under each name that may be theirs.
fn keys(service: &VirtualService, servers: &BTreeSet<String>) -> Keys {
    let owner = service.meta.namespace();
    let mut keys = vec![format!("name {owner}/{}", service.meta.name.value)];
    for delegate in service.spec.http.iter().filter_map(|route| route.delegate.as_ref()) {
        let namespace = delegate.namespace.as_ref().map_or(owner, |namespace| namespace);
        keys.push(format!("name {namespace}/{}", delegate.name.value));
    }
    let is_in_mesh = is_bound(service, MESH);
    for host in &service.spec.hosts {
        let lower = host.to_ascii_lowercase();
        let shared = servers.iter().filter_map(|server| common(server, &lower));
        keys.extend(shared.map(|shared| format!("host {shared}")));
        if is_in_mesh {
            keys.push(format!("mesh {}", fqdn(host, owner)));
            // One that is written with a port has domains in common with others of its name.
            keys.extend(lower.split_once(':').map(|(name, _)| format!("mesh {name}")));
            keys.push(format!("mesh {lower}"));
        }
    }
    keys.into()
}

/// The keys of all VirtualServices; those of one that is the same as before are known.
fn keys_of_all(
    services: &Shared<VirtualService>,
    older: Option<(BTreeSet<String>, Vec<Keys>)>,
    same: &[Option<usize>],
    servers: &BTreeSet<String>,
) -> Vec<Keys> {
    let mut known: Vec<Option<Keys>> = vec![None; services.len()];
    if let Some((_, older)) = older.filter(|(of, _)| of == servers) {
        for (at, keys) in same.iter().zip(older) {
            if let Some(place) = at.and_then(|at| known.get_mut(at)) {
                *place = Some(keys);
            }
        }
    }
    let all = known.into_iter().zip(services);
    all.map(|(known, service)| known.unwrap_or_else(|| keys(service, servers))).collect()
}

/// Whether it speaks to workloads of whatever fits a pattern.
fn is_wide(service: &VirtualService) -> bool {
    is_bound(service, MESH) && service.spec.hosts.iter().any(|host| host.starts_with('*'))
}

/// Whether a Service is another name of what is defined here.
fn has_names_of_names(rest: &Resources) -> bool {
    let mut aliases = rest.services.iter().filter_map(alias_of).peekable();
    if aliases.peek().is_none() {
        return false;
    }
    let services = rest.services.iter().map(|service| format!("{}.{DOMAIN}", service.meta.full_name()));
    let entries = rest.service_entries.iter().flat_map(|entry| &entry.spec.hosts);
    let defined: BTreeSet<String> = services.chain(entries.map(|host| host.to_ascii_lowercase())).collect();
    aliases.any(|alias| defined.contains(&alias))
}

fn hosts_of(gateway: &Gateway) -> impl Iterator<Item = String> {
    let hosts = gateway.spec.servers.iter().flat_map(|server| &server.hosts);
    hosts.map(|written| written.rsplit('/').next().unwrap_or("").to_ascii_lowercase())
}
