//! Which resources are known, and is one that comes right?

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use naru_spec::{
    Action, CheckKind, Forward, GateChange, JwtKeys, Listener, Path, Problem, RouteTable, VirtualHost,
};
use prost::{Message, Name};

use super::refer::{self, Gathered, Reference};
use super::source::check_source;
use super::{Any, Kind, Resource};
use crate::decode;
use crate::findings::{Findings, code};
use crate::proto::{cluster, endpoint, hcm, listener, route, tls};
use crate::schema::{type_name, unpack};
use crate::supported::Check;
use crate::{Schema, proto};

/// Numbers that tell apart what was accepted.
#[derive(Debug, Default)]
pub(crate) struct Stamps(u64);

impl Stamps {
    /// None of those that stand in the file.
    pub fn beyond<'a>(held: impl Iterator<Item = &'a Arc<Held>>) -> Stamps {
        Stamps(held.map(|held| held.stamp).max().unwrap_or(0))
    }

    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// A resource that was accepted.
#[derive(Debug)]
pub(crate) struct Held {
    pub name: String,
    pub version: String,
    pub body: Body,
    /// As it came; empty for what stands in the file.
    pub any: Any,
    /// Of nothing else.
    pub stamp: u64,
    /// The clusters that it leads to, as far as it says so itself.
    pub clusters: BTreeSet<String>,
    /// What it names that stands elsewhere.
    pub names: Gathered,
}

#[derive(Debug)]
pub(crate) enum Body {
    Cluster(Box<cluster::Cluster>),
    Endpoints(endpoint::ClusterLoadAssignment),
    Listener(Box<listener::Listener>),
    Routes(route::RouteConfiguration),
    Secret(tls::Secret),
    /// One that comes by itself, and the name of the table that it is of.
    VirtualHost {
        table: String,
        host: Box<VirtualHost>,
    },
}

impl Held {
    /// Of the file; it has been found to be right.
    pub fn cluster(said: &cluster::Cluster, stamps: &mut Stamps) -> Held {
        let mut names = Gathered::default();
        refer::cluster(said, &mut names);
        Held::of_file(
            said.name.clone(),
            Body::Cluster(Box::new(said.clone())),
            names,
            BTreeSet::new(),
            stamps,
        )
    }

    pub fn listener(said: &listener::Listener, stamps: &mut Stamps) -> Held {
        let mut names = Gathered::default();
        let filled = refer::listener(said, &mut names);
        let read = decode::read_listener(&filled, &Path::ROOT, &mut Findings::default());
        let clusters = clusters_of(&read);
        Held::of_file(said.name.clone(), Body::Listener(Box::new(said.clone())), names, clusters, stamps)
    }

    /// What is asked for so that this comes: the table of a virtual host, else what it is called.
    pub fn asked_as(&self) -> &str {
        match &self.body {
            Body::VirtualHost { table, .. } => table,
            _ => &self.name,
        }
    }

    /// Whether the virtual hosts of a table come by themselves, and how long they are waited for.
    pub fn hosts_apart(&self) -> Option<Option<Duration>> {
        let Body::Routes(said) = &self.body else { return None };
        said.vhds.as_ref().map(|said| refer::fetch_timeout(said.config_source.as_ref()))
    }

    fn of_file(
        name: String,
        body: Body,
        names: Gathered,
        clusters: BTreeSet<String>,
        stamps: &mut Stamps,
    ) -> Held {
        let (version, any, stamp) = (String::new(), Any::default(), stamps.next());
        Held { name, version, body, any, stamp, clusters, names }
    }
}

/// All that is known, by kind and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    of: BTreeMap<Kind, BTreeMap<String, Arc<Held>>>,
}

impl Known {
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Held>> {
        self.of.get(&kind)?.get(name)
    }

    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Held>> {
        self.of.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.of.get(&kind).map_or(0, BTreeMap::len)
    }

    /// For whoever may have to put it back.
    pub fn of_kind(&self, kind: Kind) -> BTreeMap<String, Arc<Held>> {
        self.of.get(&kind).cloned().unwrap_or_default()
    }

    pub fn set(&mut self, kind: Kind, all: BTreeMap<String, Arc<Held>>) {
        self.of.insert(kind, all);
    }

    pub fn insert(&mut self, kind: Kind, held: Arc<Held>) {
        self.of.entry(kind).or_default().insert(held.name.clone(), held);
    }

    pub fn remove(&mut self, kind: Kind, name: &str) {
        if let Some(all) = self.of.get_mut(&kind) {
            all.remove(name);
        }
    }

    pub fn retain(&mut self, kind: Kind, is_wanted: impl Fn(&Held) -> bool) {
        if let Some(all) = self.of.get_mut(&kind) {
            all.retain(|_, held| is_wanted(held));
        }
    }

    /// The virtual hosts of a table that have come by themselves.
    pub fn hosts_of(&self, table: &str) -> impl Iterator<Item = &Arc<Held>> {
        let all = self.of.get(&Kind::VirtualHost);
        let named = all
            .into_iter()
            .flat_map(move |all| all.range::<str, _>((Bound::Included(table), Bound::Unbounded)));
        let near = named.map(|(_, held)| held).take_while(move |held| held.name.starts_with(table));
        near.filter(move |held| held.asked_as() == table)
    }
}

/// What reads resources that come.
#[derive(Debug)]
pub(crate) struct Reader {
    pub schema: Schema,
    pub check: Check,
    pub stamps: Stamps,
    /// The secrets of the bootstrap file.
    pub secrets: BTreeSet<String>,
    /// What has changed is told, and not all that there is.
    pub is_delta: bool,
}

/// A resource as it came, before it was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    /// Said beside it by delta; empty in a state of the world.
    pub name: String,
    pub version: String,
    pub any: Any,
}

impl Came {
    /// Of a state of the world, in which a resource may be wrapped.
    pub fn of_state(any: Any, version: &str) -> Result<Came, String> {
        if type_name(&any.type_url) != Resource::full_name() {
            return Ok(Came { name: String::new(), version: version.to_owned(), any });
        }
        let Ok(wrapped) = Resource::decode(any.value.as_slice()) else {
            return Err("a resource has bytes that are not one".to_owned());
        };
        Came::of_delta(wrapped)
    }

    pub fn of_delta(said: Resource) -> Result<Came, String> {
        let Resource { name, version, resource, ttl, .. } = said;
        if ttl.is_some() {
            return Err(format!(
                "resource '{name}': naru keeps a resource until it is told otherwise: ttl is not supported"
            ));
        }
        let Some(any) = resource else { return Err(format!("resource '{name}' is empty")) };
        Ok(Came { name, version, any })
    }
}

impl Reader {
    /// Reads all of one response, or says the first thing that is wrong with it. What is the same as before stays what
    /// it was.
    pub fn read(&mut self, kind: Kind, came: Vec<Came>, known: &Known) -> Result<Vec<Arc<Held>>, String> {
        let mut names = BTreeSet::new();
        let mut all = Vec::with_capacity(came.len());
        for (at, came) in came.into_iter().enumerate() {
            let held = self.one(kind, came, at, known)?;
            if !names.insert(held.name.clone()) {
                return Err(format!("there are two {kind} with the name '{}'", held.name));
            }
            all.push(held);
        }
        Ok(all)
    }

    fn one(&mut self, kind: Kind, came: Came, at: usize, known: &Known) -> Result<Arc<Held>, String> {
        if Kind::of_url(&came.any.type_url) != Some(kind) {
            let (is, wanted) = (type_name(&came.any.type_url), type_name(kind.type_url()));
            return Err(format!("resource {at} is a '{is}', and not a '{wanted}'"));
        }
        let bytes = came.any.value.as_slice();
        let broken = || match came.name.as_str() {
            "" => format!("resource {at} has bytes that are not a {}", type_name(kind.type_url())),
            name => format!("'{name}' has bytes that are not a {}", type_name(kind.type_url())),
        };
        let mut findings = Findings::default();
        let (mut names, mut clusters) = (Gathered::default(), BTreeSet::new());
        let (name, body) = match kind {
            Kind::Cluster => {
                let said = cluster::Cluster::decode(bytes).map_err(|_| broken())?;
                (said.name.clone(), Body::Cluster(Box::new(said)))
            }
            Kind::Endpoints => {
                let said = endpoint::ClusterLoadAssignment::decode(bytes).map_err(|_| broken())?;
                (said.cluster_name.clone(), Body::Endpoints(said))
            }
            Kind::Listener => {
                let said = listener::Listener::decode(bytes).map_err(|_| broken())?;
                (said.name.clone(), Body::Listener(Box::new(said)))
            }
            Kind::Routes => {
                let said = route::RouteConfiguration::decode(bytes).map_err(|_| broken())?;
                (said.name.clone(), Body::Routes(said))
            }
            Kind::Secret => {
                let said = tls::Secret::decode(bytes).map_err(|_| broken())?;
                (said.name.clone(), Body::Secret(said))
            }
            Kind::VirtualHost => {
                let said = route::VirtualHost::decode(bytes).map_err(|_| broken())?;
                let Some(table) = table_of(&came.name, &said.name) else {
                    return Err(format!(
                        "the virtual host '{}' does not say of which table it is",
                        came.name
                    ));
                };
                self.check(&said, &mut findings);
                let any_table = route::RouteConfiguration::default();
                let host = decode::read_host(&said, &any_table, &Path::ROOT, &mut findings);
                clusters_of_host(&host, &mut clusters);
                (came.name.clone(), Body::VirtualHost { table: table.to_owned(), host: Box::new(host) })
            }
        };
        if name.is_empty() {
            return Err(format!("resource {at} has no name"));
        }
        if !came.name.is_empty() && came.name != name {
            return Err(format!("the resource '{}' calls itself '{name}'", came.name));
        }
        if let Some(same) = known.get(kind, &name)
            && same.any.value == came.any.value
        {
            if same.version == came.version {
                return Ok(Arc::clone(same));
            }
            // Another version of the same: nothing is made anew of it.
            let (names, clusters, stamp) = (same.names.clone(), same.clusters.clone(), same.stamp);
            let (version, any) = (came.version, came.any);
            return Ok(Arc::new(Held { name, version, body, any, stamp, clusters, names }));
        }
        let root = &Path::ROOT;
        match &body {
            Body::Cluster(said) => {
                self.check(&**said, &mut findings);
                let filled = refer::cluster(said, &mut names);
                check_discovery_at(said, root, &mut findings);
                decode::read_cluster(&filled, root, &mut findings);
            }
            Body::Endpoints(said) => {
                self.check(said, &mut findings);
                decode::read_endpoints(said, root, &mut findings);
            }
            Body::Listener(said) => {
                self.check(&**said, &mut findings);
                check_routes_at(said, root, &mut findings);
                let filled = refer::listener(said, &mut names);
                clusters = clusters_of(&decode::read_listener(&filled, root, &mut findings));
            }
            Body::Routes(said) => {
                self.check(said, &mut findings);
                let mut own = said.clone();
                if let Some(apart) = own.vhds.take() {
                    self.check_apart(&apart, &mut findings);
                }
                let table = decode::read_routes(&own, root, &mut findings);
                clusters_of_table(&table, &mut clusters);
            }
            // It was read above.
            Body::VirtualHost { .. } => {}
            Body::Secret(said) => {
                self.check(said, &mut findings);
                if !matches!(
                    said.r#type,
                    Some(tls::secret::Type::TlsCertificate(_) | tls::secret::Type::ValidationContext(_))
                ) {
                    let text = "a secret holds a tls_certificate or a validation_context";
                    findings.error(root, code::UNSUPPORTED_FIELD, text, "");
                }
            }
        }
        first_error(findings).map_or(Ok(()), |problem| Err(tell(kind, &name, &problem)))?;
        let is_missing = |one: &&Reference| !one.is_by_ads && !self.secrets.contains(&one.name);
        if let Some(missing) = names.secrets.iter().find(is_missing) {
            let what = kind.singular();
            let text = format!(
                "{what} '{name}' names the secret '{}', which the bootstrap file does not have",
                missing.name
            );
            return Err(format!("{text} (say where it comes from: sds_config)"));
        }
        let (version, any, stamp) = (came.version, came.any, self.stamps.next());
        Ok(Arc::new(Held { name, version, body, any, stamp, clusters, names }))
    }

    /// Only where changes are told can be told that one of them is gone.
    fn check_apart(&self, said: &route::Vhds, findings: &mut Findings<'_>) {
        let path = Path::ROOT.field("vhds");
        if !self.is_delta {
            findings.unsupported(
                &path,
                "virtual hosts come by themselves by delta only",
                "api_type: DELTA_GRPC",
            );
        }
        match &said.config_source {
            Some(source) => check_source(source, &path.field("config_source"), findings),
            None => findings.missing(&path.field("config_source"), "it is to be said where from: ads: {}"),
        }
    }

    fn check<M: Message + Name>(&mut self, said: &M, findings: &mut Findings<'_>) {
        match self.schema.reflect(said) {
            Some(dynamic) => self.check.message(&dynamic, &Path::ROOT, findings),
            None => findings.error(&Path::ROOT, code::SYNTAX, "the message is nested too deeply", ""),
        }
    }
}

/// The table of a virtual host, of the name of its resource and its own: `TABLE/HOST`. Others call it otherwise than the
/// resource does; a domain has no slash.
fn table_of<'a>(resource: &'a str, host: &str) -> Option<&'a str> {
    let own =
        resource.strip_suffix(host).and_then(|rest| rest.strip_suffix('/')).filter(|_| !host.is_empty());
    own.or_else(|| Some(resource.rsplit_once('/')?.0)).filter(|table| !table.is_empty())
}

/// A cluster whose type says that its endpoints are asked for says where, and no other does.
pub(crate) fn check_discovery_at(said: &cluster::Cluster, path: &Path<'_>, findings: &mut Findings<'_>) {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let is_eds = said.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    let path_of = path.field("eds_cluster_config");
    match (&said.eds_cluster_config, is_eds) {
        (None, true) => {
            findings.missing(&path_of, "a cluster of type EDS says where its endpoints come from")
        }
        (Some(_), false) => {
            findings.error(&path_of, code::CONFLICTING_FIELDS, "the cluster is not of type EDS", "type: EDS");
        }
        (Some(config), true) => {
            match &config.eds_config {
                Some(source) => check_source(source, &path_of.field("eds_config"), findings),
                None => {
                    findings.missing(&path_of.field("eds_config"), "it is to be said where from: ads: {}")
                }
            }
            if said.load_assignment.is_some() {
                let text = "a cluster of type EDS has no endpoints of its own";
                findings.error(&path.field("load_assignment"), code::CONFLICTING_FIELDS, text, "remove it");
            }
        }
        (None, false) => {}
    }
}

/// Where routes come by a control plane, it is said from where.
pub(crate) fn check_routes_at(said: &listener::Listener, path: &Path<'_>, findings: &mut Findings<'_>) {
    use hcm::http_connection_manager::RouteSpecifier;
    let chains = said.filter_chains.iter().chain(&said.default_filter_chain);
    for filter in chains.flat_map(|chain| &chain.filters) {
        let Some(listener::filter::ConfigType::TypedConfig(any)) = &filter.config_type else { continue };
        let Some(manager) = unpack::<hcm::HttpConnectionManager>(any) else { continue };
        if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
            let path = path.field("rds");
            if rds.route_config_name.is_empty() {
                findings.missing(&path.field("route_config_name"), "routes that are asked for have a name");
            }
            match &rds.config_source {
                Some(source) => check_source(source, &path.field("config_source"), findings),
                None => {
                    findings.missing(&path.field("config_source"), "it is to be said where from: ads: {}")
                }
            }
        }
    }
}

fn first_error(findings: Findings<'_>) -> Option<Problem> {
    findings.into_problems().into_iter().find(Problem::is_error)
}

/// A problem of a resource, in a line.
pub(crate) fn tell(kind: Kind, name: &str, problem: &Problem) -> String {
    let mut text = format!("{} '{name}'", kind.singular());
    if !problem.path.is_empty() {
        text.push_str(": ");
        text.push_str(&problem.path);
    }
    text.push_str(": ");
    text.push_str(&problem.message);
    if !problem.hint.is_empty() {
        text.push_str(" (");
        text.push_str(&problem.hint);
        text.push(')');
    }
    text
}

/// The first error of what was read.
pub(crate) fn refused(kind: Kind, name: &str, findings: Findings<'_>) -> Result<(), String> {
    first_error(findings).map_or(Ok(()), |problem| Err(tell(kind, name, &problem)))
}

/// The clusters that a listener leads to.
pub(crate) fn clusters_of(listener: &Listener) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for chain in &listener.chains {
        if let Some(tcp) = &chain.tcp {
            found.extend(tcp.clusters.names().map(str::to_owned));
        }
        chain.http.gate.checks.iter().for_each(|check| clusters_of_check(&check.kind, &mut found));
        let logins = chain.http.sessions.iter().filter_map(|session| session.oidc.as_ref());
        found.extend(logins.flat_map(|oidc| &oidc.sites).map(|site| site.cluster.clone()));
        clusters_of_table(&chain.http.routes, &mut found);
    }
    found
}

fn clusters_of_check(kind: &CheckKind, found: &mut BTreeSet<String>) {
    match kind {
        CheckKind::External(said) => {
            found.insert(said.cluster().to_owned());
        }
        CheckKind::RateService(said) => {
            found.insert(said.service.cluster.clone());
        }
        CheckKind::Jwt(said) => {
            for provider in &said.providers {
                if let JwtKeys::Remote(keys) = &provider.keys {
                    found.insert(keys.cluster.clone());
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn clusters_of_table(table: &RouteTable, found: &mut BTreeSet<String>) {
    table.virtual_hosts.iter().for_each(|host| clusters_of_host(host, found));
}

fn clusters_of_host(host: &VirtualHost, found: &mut BTreeSet<String>) {
    for rule in &host.rules {
        for change in rule.changes() {
            if let GateChange::Instead(check) | GateChange::Also(check) = change {
                clusters_of_check(&check.kind, found);
            }
        }
        if let Action::Forward(forward) = &rule.action {
            found.extend(of_forward(forward));
        }
    }
}

fn of_forward(forward: &Forward) -> impl Iterator<Item = String> {
    let mirrors = forward.mirrors.iter().map(|mirror| mirror.cluster.as_str());
    let fallback = forward.fallback.iter().flat_map(|fallback| fallback.clusters());
    forward.cluster_names().chain(mirrors).chain(fallback).map(str::to_owned)
}

/// A secret's certificate, or what peers are checked against; `None` where it holds the other.
pub(crate) fn certificate(secret: &tls::Secret) -> Option<&tls::TlsCertificate> {
    match &secret.r#type {
        Some(tls::secret::Type::TlsCertificate(said)) => Some(said),
        _ => None,
    }
}

pub(crate) fn validation(secret: &tls::Secret) -> Option<&proto::tls::CertificateValidationContext> {
    match &secret.r#type {
        Some(tls::secret::Type::ValidationContext(said)) => Some(said),
        _ => None,
    }
}
