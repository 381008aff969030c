//! Of all that is known, what can be put in force, so that nothing in it leads to what is not there?
//!
//! A cluster waits for its endpoints and secrets, a listener for its routes, its secrets and the clusters that these
//! lead to; routes whose virtual hosts come by themselves wait for these. While something waits, what was in force before stays in its place. A cluster that is gone stays for as
//! long as something in force leads to it. Where nothing was there before and the wait is over, what has not come is
//! taken to be empty: a cluster without endpoints (503), a table without routes (404).
//!
//! What is made is kept with the numbers of what it was made of, and made anew only where one of them is another.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use naru_spec::config::Place;
use naru_spec::{Cluster, Config, Discovery, Listener, Path, VirtualHost};
use prost::Message as _;

use super::Kind;
use super::known::{self, Body, Held, Known, clusters_of};
use super::refer::{self, Reference, Shelf};
use super::source::{Dynamic, Statics};
use crate::decode;
use crate::findings::Findings;
use crate::proto::{cluster as cluster_proto, endpoint, route, tls};

/// Something that is waited for, and for how long; `None` is for ever.
pub(crate) type Missing = BTreeMap<(Kind, String), Option<Duration>>;

/// What is in force, or is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole {
    clusters: BTreeMap<String, Arc<Made<Cluster>>>,
    /// Those of the file come first, under keys that no name has.
    listeners: BTreeMap<String, Arc<Made<Listener>>>,
    routes: BTreeMap<String, Arc<Table>>,
}

/// A table of routes.
#[derive(Debug)]
struct Table {
    held: Arc<Held>,
    /// Those that come by themselves.
    hosts: Vec<Arc<Held>>,
}

#[derive(Debug)]
struct Made<T> {
    /// The numbers of what it was made of.
    of: Vec<u64>,
    held: Option<Arc<Held>>,
    value: T,
    clusters: BTreeSet<String>,
}

/// What has to be done so that a whole is in force.
#[derive(Debug)]
pub enum Plan {
    /// Nothing but endpoints of these clusters is another.
    Endpoints(Vec<Cluster>),
    Whole(Box<Config>),
}

/// What a whole is put together of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub dynamic: &'a Dynamic,
    pub known: &'a Known,
    /// What is waited for no longer.
    pub expired: &'a BTreeSet<(Kind, String)>,
    /// What is said not to be there. Of a table, under the kind of its virtual hosts: all of them have been told.
    pub gone: &'a BTreeSet<(Kind, String)>,
}

/// Where no number is: nothing came for it.
const NONE: u64 = 0;

impl Whole {
    /// The next whole after `self`, and what it lacks.
    pub fn next(&self, parts: Parts<'_>) -> Result<(Whole, Missing), String> {
        let mut missing = Missing::new();
        let mut next = Whole::default();
        let statics = &parts.dynamic.statics;
        for held in statics.clusters.iter().chain(parts.known.all(Kind::Cluster)) {
            if let Some(made) = self.cluster(held, parts, &mut missing)? {
                next.clusters.insert(held.name.clone(), made);
            }
        }
        let of_file = (0..).zip(&statics.listeners).map(|(at, held): (u32, _)| (format!("\0{at:08}"), held));
        let known = parts.known.all(Kind::Listener).map(|held| (held.name.clone(), held));
        for (key, held) in of_file.chain(known) {
            let before = self.listeners.get(&key);
            let older = before.and_then(|made| made.held.as_ref()).filter(|older| older.stamp != held.stamp);
            let mut made = self.listener(&key, held, parts, &mut next, &mut missing)?;
            if let (None, Some(older)) = (&made, older) {
                // Its routes may be others meanwhile.
                made = self.listener(&key, older, parts, &mut next, &mut Missing::new())?;
            }
            if made.is_none() {
                let named = before.and_then(|made| made.held.as_ref()).into_iter();
                for name in named.flat_map(|held| &held.names.routes).map(|routes| &routes.name) {
                    if let Some(routes) = self.routes.get(name) {
                        next.routes.entry(name.clone()).or_insert_with(|| Arc::clone(routes));
                    }
                }
            }
            let made = made.or_else(|| before.cloned());
            next.listeners.extend(made.map(|made| (key, made)));
        }
        // What is gone, or has not come, and is led to all the same.
        loop {
            let of_clusters = next.clusters.values().flat_map(|made| &made.clusters);
            let led_to = next.listeners.values().flat_map(|made| &made.clusters).chain(of_clusters);
            let absent: BTreeSet<String> =
                led_to.filter(|name| !next.clusters.contains_key(*name)).cloned().collect();
            if absent.is_empty() {
                break;
            }
            next.clusters.extend(absent.into_iter().map(|name| {
                let stand_in = || Arc::new(Made::of(vec![NONE], None, empty(&name)));
                let stays = self.clusters.get(&name).cloned().unwrap_or_else(stand_in);
                (name, stays)
            }));
        }
        Ok((next, missing))
    }

    fn cluster(
        &self,
        held: &Arc<Held>,
        parts: Parts<'_>,
        missing: &mut Missing,
    ) -> Result<Option<Arc<Made<Cluster>>>, String> {
        let Body::Cluster(said) = &held.body else { return Ok(None) };
        let before = self.clusters.get(&held.name);
        let mut wants = Missing::new();
        let mut of = vec![held.stamp];
        of.extend(held.names.endpoints.iter().map(|name| parts.stamp(Kind::Endpoints, name, &mut wants)));
        of.extend(held.names.secrets.iter().map(|name| parts.stamp(Kind::Secret, name, &mut wants)));
        if let Some(same) = before.filter(|made| made.of == of && wants.is_empty()) {
            return Ok(Some(Arc::clone(same)));
        }
        let is_over = wants.keys().all(|one| parts.expired.contains(one));
        let lacks_secret = wants.keys().any(|(kind, _)| *kind == Kind::Secret);
        missing.append(&mut wants.clone());
        if !wants.is_empty() {
            // What stands in for another is no cluster that was there.
            let real = before.filter(|made| made.of != [NONE]);
            if real.is_some() || !is_over {
                return Ok(real.cloned());
            }
        }
        let mut shelf = Taken::of(parts);
        let mut filled = refer::cluster(said, &mut shelf);
        if lacks_secret {
            without_secrets(&mut filled);
        }
        shelf.refused(Kind::Cluster, &held.name)?;
        let mut findings = Findings::default();
        let cluster = decode::read_cluster(&filled, &Path::ROOT, &mut findings);
        known::refused(Kind::Cluster, &held.name, findings)?;
        // What is tried instead of it.
        let fallback = cluster.fallback.iter().flat_map(|fallback| fallback.clusters());
        let clusters = fallback.map(str::to_owned).collect();
        Ok(Some(Arc::new(Made { clusters, ..Made::of(of, Some(Arc::clone(held)), cluster) })))
    }

    fn listener(
        &self,
        key: &str,
        held: &Arc<Held>,
        parts: Parts<'_>,
        next: &mut Whole,
        missing: &mut Missing,
    ) -> Result<Option<Arc<Made<Listener>>>, String> {
        let Body::Listener(said) = &held.body else { return Ok(None) };
        let before = self.listeners.get(key);
        let mut of = vec![held.stamp];
        let mut wants = Missing::new();
        of.extend(held.names.secrets.iter().map(|name| parts.stamp(Kind::Secret, name, &mut wants)));
        // It cannot be without them: nobody could connect.
        let mut waits = !wants.is_empty();
        missing.append(&mut wants);
        let is_first = before.is_none();
        waits |= !next.reaches(held.clusters.iter(), parts, is_first, missing);
        let mut shelf = Taken::of(parts);
        for reference in &held.names.routes {
            match self.routes(reference, parts, next, is_first, missing) {
                Some(Some(routes)) => {
                    of.extend(routes.stamps());
                    shelf.routes.insert(reference.name.clone(), routes);
                }
                Some(None) => of.push(NONE),
                None => waits = true,
            }
        }
        if waits {
            return Ok(None);
        }
        next.routes.extend(shelf.routes.iter().map(|(name, table)| (name.clone(), Arc::clone(table))));
        if let Some(same) = before.filter(|made| made.of == of) {
            return Ok(Some(Arc::clone(same)));
        }
        let filled = refer::listener(said, &mut shelf);
        let tables = std::mem::take(&mut shelf.routes);
        shelf.refused(Kind::Listener, &held.name)?;
        let mut ready = decode::Ready::new();
        for (name, table) in &tables {
            ready.insert(name.clone(), table.read_hosts()?);
        }
        let mut findings = Findings::default();
        let listener = decode::read_listener_with(&filled, &ready, &Path::ROOT, &mut findings);
        known::refused(Kind::Listener, &held.name, findings)?;
        let clusters = clusters_of(&listener);
        Ok(Some(Arc::new(Made { clusters, ..Made::of(of, Some(Arc::clone(held)), listener) })))
    }

    /// The routes with a name that may be put in force: the latest, or those before; `Some(None)` where it is waited
    /// for them no longer, `None` where it is.
    fn routes(
        &self,
        reference: &Reference,
        parts: Parts<'_>,
        next: &Whole,
        is_first: bool,
        missing: &mut Missing,
    ) -> Option<Option<Arc<Table>>> {
        let before = self.routes.get(&reference.name);
        let Some(latest) = parts.known.get(Kind::Routes, &reference.name) else {
            if let Some(before) = before {
                return Some(Some(Arc::clone(before)));
            }
            let key = (Kind::Routes, reference.name.clone());
            let is_over = parts.expired.contains(&key);
            missing.insert(key, reference.timeout);
            return (is_over && is_first).then_some(None);
        };
        let latest = parts.table(latest, missing);
        let is_first = is_first && before.is_none();
        if let Some(latest) = latest.filter(|table| next.reaches(table.clusters(), parts, is_first, missing))
        {
            return Some(Some(Arc::new(latest)));
        }
        before.map(|before| Some(Arc::clone(before)))
    }

    /// Whether all of these clusters are there. What is the first of its kind may do without those that are waited for no
    /// longer.
    fn reaches<'a>(
        &self,
        clusters: impl Iterator<Item = &'a String>,
        parts: Parts<'_>,
        is_first: bool,
        missing: &mut Missing,
    ) -> bool {
        let mut reaches = true;
        for name in clusters.filter(|name| !self.clusters.contains_key(*name)) {
            let statics = &parts.dynamic.statics.clusters;
            if parts.known.get(Kind::Cluster, name).is_some()
                || statics.iter().any(|known| known.name == *name)
            {
                // It waits itself, and comes when that is over.
                reaches = false;
                continue;
            }
            let key = (Kind::Cluster, name.clone());
            reaches &= is_first && parts.expired.contains(&key);
            missing.insert(key, parts.dynamic.clusters.flatten().or(refer::fetch_timeout(None)));
        }
        reaches
    }

    /// All of it, for a proxy.
    pub fn config(&self, dynamic: &Dynamic) -> Config {
        let mut config = Config {
            admin: dynamic.admin.clone(),
            listeners: self.listeners.values().map(|made| made.value.clone()).collect(),
            clusters: self.clusters.values().map(|made| made.value.clone()).collect(),
            overload: dynamic.overload.clone(),
            ..Config::default()
        };
        let mut latest: Vec<&Arc<Held>> =
            self.listeners.values().filter_map(|made| made.held.as_ref()).collect();
        latest.sort_by_key(|held| Reverse(held.stamp));
        let said = latest.into_iter().filter_map(|held| match &held.body {
            Body::Listener(said) => Some(&**said),
            _ => None,
        });
        decode::take_process(&mut config, said);
        decode::name_source(&mut config, &dynamic.node.cluster);
        config
    }

    /// What is to be done where `older` is in force; `None` where it is the same.
    pub fn plan(&self, older: &Whole, dynamic: &Dynamic) -> Result<Option<Plan>, String> {
        let same_listeners = is_same(&self.listeners, &older.listeners);
        let same_names = self.clusters.len() == older.clusters.len()
            && self.clusters.keys().zip(older.clusters.keys()).all(|(a, b)| a == b);
        if same_listeners && same_names {
            let changed: Vec<_> = self
                .clusters
                .iter()
                .filter_map(|(name, made)| Some((made, older.clusters.get(name)?)))
                .filter(|(made, before)| !Arc::ptr_eq(made, before))
                .collect();
            if changed.is_empty() {
                return Ok(None);
            }
            if changed.iter().all(|(made, before)| differs_in_endpoints(&made.value, &before.value)) {
                let clusters = changed.iter().map(|(made, _)| made.value.clone());
                return Ok(Some(Plan::Endpoints(clusters.collect())));
            }
        }
        let config = self.config(dynamic);
        if let Some((place, invalid)) = config.problems().into_iter().next() {
            return Err(format!("{}{invalid}", place_name(&config, &place)));
        }
        Ok(Some(Plan::Whole(Box::new(config))))
    }

    /// Whether there is anybody who can be asked.
    pub fn serves(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Whether something of this name is in force.
    pub fn has(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Cluster => self.clusters.contains_key(name),
            Kind::Listener => self.listeners.contains_key(name),
            Kind::Routes => self.routes.contains_key(name),
            _ => false,
        }
    }
}

fn is_same<T>(new: &BTreeMap<String, Arc<Made<T>>>, old: &BTreeMap<String, Arc<Made<T>>>) -> bool {
    let pairs = new.iter().zip(old);
    new.len() == old.len() && pairs.into_iter().all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
}

fn differs_in_endpoints(new: &Cluster, old: &Cluster) -> bool {
    let mut apart = old.clone();
    apart.endpoints.clone_from(&new.endpoints);
    *new == apart
}

/// Where a problem of the whole is, in words that end with a colon; empty where it says so itself.
pub fn place_name(config: &Config, place: &Place) -> String {
    let listener = |at: &usize| config.listeners.get(*at).map(|one| format!("listener '{}': ", one.name));
    let cluster = |at: &usize| config.clusters.get(*at).map(|one| format!("cluster '{}': ", one.name));
    let found = match place {
        Place::Overload(_) | Place::Surge => None,
        Place::Listener(at) => listener(at),
        Place::Cluster(at) | Place::ClusterTls(at) | Place::Balancing(at) => cluster(at),
        Place::Guard { cluster: at, .. } => cluster(at),
        Place::ChainTls { listener: at, .. }
        | Place::Tcp { listener: at, .. }
        | Place::Rule { listener: at, .. }
        | Place::VirtualHost { listener: at, .. } => listener(at),
    };
    found.unwrap_or_default()
}

impl<T> Made<T> {
    fn of(of: Vec<u64>, held: Option<Arc<Held>>, value: T) -> Made<T> {
        Made { of, held, value, clusters: BTreeSet::new() }
    }
}

impl Parts<'_> {
    /// A table with its virtual hosts; `None` where these have not come. A table that comes to have none is told so.
    fn table(&self, held: &Arc<Held>, missing: &mut Missing) -> Option<Table> {
        let Some(timeout) = held.hosts_apart() else {
            return Some(Table { held: Arc::clone(held), hosts: Vec::new() });
        };
        let hosts: Vec<Arc<Held>> = self.known.hosts_of(&held.name).cloned().collect();
        let key = (Kind::VirtualHost, held.name.clone());
        if hosts.is_empty() && !self.gone.contains(&key) {
            let is_over = self.expired.contains(&key);
            missing.insert(key, timeout);
            if !is_over {
                return None;
            }
        }
        Some(Table { held: Arc::clone(held), hosts })
    }

    /// The number of what is named, where it is there.
    fn stamp(&self, kind: Kind, reference: &Reference, missing: &mut Missing) -> u64 {
        if !reference.is_by_ads {
            return NONE;
        }
        match self.known.get(kind, &reference.name) {
            Some(held) => held.stamp,
            None => {
                missing.insert((kind, reference.name.clone()), reference.timeout);
                NONE
            }
        }
    }
}

impl Table {
    fn clusters(&self) -> impl Iterator<Item = &String> {
        self.held.clusters.iter().chain(self.hosts.iter().flat_map(|host| &host.clusters))
    }

    /// The numbers of what it was made of.
    fn stamps(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.held.stamp).chain(self.hosts.iter().map(|host| host.stamp))
    }

    /// The virtual hosts that came by themselves. They were read when they came, for a table that says nothing to
    /// filters; for another they are read again.
    fn read_hosts(&self) -> Result<Vec<Cow<'_, VirtualHost>>, String> {
        let Body::Routes(table) = &self.held.body else { return Ok(Vec::new()) };
        let is_plain =
            table.typed_per_filter_config.is_empty() && table.max_direct_response_body_size_bytes.is_none();
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for held in &self.hosts {
            let Body::VirtualHost { host, .. } = &held.body else { continue };
            if is_plain {
                hosts.push(Cow::Borrowed(&**host));
                continue;
            }
            // These bytes have been read before.
            let said = route::VirtualHost::decode(held.any.value.as_slice()).unwrap_or_default();
            let mut findings = Findings::default();
            let host = decode::read_host(&said, table, &Path::ROOT, &mut findings);
            known::refused(Kind::VirtualHost, &held.name, findings)?;
            hosts.push(Cow::Owned(host));
        }
        Ok(hosts)
    }
}

/// Of which nobody says what it is.
fn empty(name: &str) -> Cluster {
    Cluster::new(name, Discovery::Static, Vec::new())
}

/// A cluster whose connections cannot be secured is asked nothing.
fn without_secrets(cluster: &mut cluster_proto::Cluster) {
    use cluster_proto::cluster::{ClusterDiscoveryType, DiscoveryType};
    cluster.transport_socket = None;
    cluster.typed_extension_protocol_options.remove(crate::ours::NAME);
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
    cluster.dns_lookup_family = 0;
    let name = cluster.name.clone();
    cluster.load_assignment =
        Some(endpoint::ClusterLoadAssignment { cluster_name: name, ..Default::default() });
}

/// What is known, for what names it.
struct Taken<'a> {
    known: &'a Known,
    statics: &'a Statics,
    routes: BTreeMap<String, Arc<Table>>,
    wrong: Option<String>,
}

impl<'a> Taken<'a> {
    fn of(parts: Parts<'a>) -> Taken<'a> {
        let (known, statics) = (parts.known, &parts.dynamic.statics);
        Taken { known, statics, routes: BTreeMap::new(), wrong: None }
    }

    fn refused(self, kind: Kind, name: &str) -> Result<(), String> {
        self.wrong.map_or(Ok(()), |wrong| Err(format!("{} '{name}': {wrong}", kind.singular())))
    }

    fn secret(&self, reference: &Reference) -> Option<&'a tls::Secret> {
        if !reference.is_by_ads {
            return self.statics.secrets.get(&reference.name);
        }
        match &self.known.get(Kind::Secret, &reference.name)?.body {
            Body::Secret(secret) => Some(secret),
            _ => None,
        }
    }
}

impl Shelf for Taken<'_> {
    fn routes(&mut self, reference: &Reference) -> Option<route::RouteConfiguration> {
        match &self.routes.get(&reference.name)?.held.body {
            Body::Routes(routes) => Some(route::RouteConfiguration { vhds: None, ..routes.clone() }),
            _ => None,
        }
    }

    fn endpoints(&mut self, reference: &Reference) -> Option<endpoint::ClusterLoadAssignment> {
        match &self.known.get(Kind::Endpoints, &reference.name)?.body {
            Body::Endpoints(endpoints) => Some(endpoints.clone()),
            _ => None,
        }
    }

    fn certificate(&mut self, reference: &Reference) -> Option<tls::TlsCertificate> {
        let secret = self.secret(reference)?;
        let found = known::certificate(secret).cloned();
        if found.is_none() {
            self.wrong = Some(format!("the secret '{}' holds no certificate", reference.name));
        }
        found
    }

    fn validation(&mut self, reference: &Reference) -> Option<tls::CertificateValidationContext> {
        let secret = self.secret(reference)?;
        let found = known::validation(secret).cloned();
        if found.is_none() {
            self.wrong =
                Some(format!("the secret '{}' does not say what peers are checked against", reference.name));
        }
        found
    }
}
