//! What does one proxy need to know?
//!
//! Comes in: [`Resources`], and what is around them: who calls, which processes run. Goes out: the
//! [`Config`] of one proxy, and every problem that only shows when resources are seen together, each
//! with its place. What Istio says decides what resources mean.
//!
//! Deliberately not here: documents (`wire/doc`), how a rule is found (`route`), any state.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: the whole, listeners, routes, clusters; then what they look things up in.
mod gateways;
mod gateway_api;
mod mesh;
mod http3;
mod edge;
mod identity;
mod outbound;
mod sidecars;
mod routes;
mod speakers;
mod tcp;
mod hosts;
mod actions;
mod recovery;
mod delegates;
mod beside;
mod matching;
mod unmet;
mod headers;
mod attached;
mod account;
mod load;
mod rates;
mod contents;
mod conditions;
mod doors;
mod fallbacks;
mod caches;
mod classes;
mod surge;
mod groups;
mod clusters;
mod balancing;
mod localities;
mod guards;
mod reach;
mod policies;
mod mutual;
mod tls;
mod acme;
mod sessions;
mod credentials;
mod registry;
mod entries;
mod joined;
mod auto_passthrough;
mod inbound;
mod process;
mod pretended;
mod by_host;
mod teller;
mod names;
mod findings;
mod again;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use naru_resource::{Files, Repeated, Resources};
use naru_spec::config::Place;
use naru_spec::{AccessLog, Admin, Config, Invalid, Overload, Path, Problem, Severity, code};

use crate::edge::Edges;
use crate::findings::Findings;
use crate::identity::Guards;
use crate::mesh::Mesh;
use crate::policies::Policies;
use crate::registry::Registry;
use crate::routes::{Context, Routes};
use crate::sidecars::Sidecars;

pub use acme::{AcmeAnswer, AcmeIssued, AcmeOrder, AcmeSays, acme_orders};
pub use again::{Change, ChangedHost, Known, Part, led_to};
pub use gateway_api::{CONTROLLER, Condition, ListenerStatus, ParentName, ParentStatus, Status, statuses};
pub use identity::file_of;
pub use joined::{Group, GroupProbe, GroupProbeKind, Member, groups};
pub use mutual::{GivenAuthority, MeshAuthority, MeshIdentity, mesh_authority, mesh_authority_place};
pub use names::fqdn;
pub use pretended::pretended;
pub use process::{Limits, Probe, ProbeKind, Process, ProcessPort, processes};

/// What is around the resources.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    pub admin: Option<Admin>,
    /// Where gateways listen that do not say it.
    pub gateway_address: IpAddr,
    /// Who calls through a listener of its own.
    pub clients: Vec<Client>,
    /// Processes that are ready to be called.
    pub instances: Vec<Instance>,
    /// Who has joined a WorkloadGroup by himself.
    pub members: Vec<Member>,
    /// Of every listener.
    pub access_log: Vec<AccessLog>,
    /// Certificates that were issued to us.
    pub issued: Vec<AcmeIssued>,
    /// What is shown to other proxies of the mesh.
    pub identity: Option<MeshIdentity>,
    /// What is proved to issuers right now.
    pub answers: Vec<AcmeAnswer>,
    /// A host that nobody defines is an error also where nothing defines any.
    pub is_strict: bool,
    /// What is given up when the process runs short, unless documents say otherwise.
    pub overload: Option<Overload>,
}

impl Default for Surroundings {
    /// Nothing runs, and one unnamed workload of the default namespace calls.
    fn default() -> Surroundings {
        Surroundings {
            admin: None,
            gateway_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            clients: vec![Client::unnamed()],
            instances: Vec::new(),
            members: Vec::new(),
            access_log: Vec::new(),
            issued: Vec::new(),
            identity: None,
            answers: Vec::new(),
            is_strict: false,
            overload: None,
        }
    }
}

/// A workload that calls others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub name: String,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    /// Where its calls come in.
    pub address: SocketAddr,
    /// A proxy stands before it, and listens for who calls it: here, where its Sidecar does not say where.
    pub inbound: Option<IpAddr>,
}

impl Client {
    pub fn unnamed() -> Client {
        Client {
            name: String::new(),
            namespace: naru_resource::meta::DEFAULT_NAMESPACE.to_owned(),
            labels: Vec::new(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            inbound: None,
        }
    }
}

/// A running process of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    pub address: IpAddr,
    pub ports: Vec<InstancePort>,
}

/// A port that a container names, and where it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstancePort {
    pub name: Option<String>,
    pub container_port: u16,
    pub port: u16,
}

/// The configuration of one proxy, and what its authors should know.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Meaningful where no problem is an error.
    pub config: Config,
    /// In the order of files and lines.
    pub problems: Vec<Problem>,
}

impl Planned {
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

/// Name of the listener of a workload's calls.
pub fn outbound_name(client: &Client) -> String {
    format!("outbound/{}.{}", client.name, client.namespace)
}

/// Whether a listener is a workload's: of its calls, or of who calls it.
pub fn is_of_workload(listener: &str, client: &Client) -> bool {
    listener == outbound_name(client) || listener.starts_with(&inbound::names_begin(client))
}

/// Makes one proxy of everything.
pub fn plan(resources: &Resources, surroundings: &Surroundings) -> Planned {
    let mut findings = Findings::new(&resources.files);
    let with_members = joined::with_members(resources, &surroundings.members);
    let settled = settled(&with_members);
    let repeated = settled.repeated();
    tell_repeated(&repeated, &mut findings);
    let once = settled.without(&repeated);
    let expanded = gateway_api::expand(&once, &mut findings);
    let of_domains = mutual::with_domains(&expanded);
    let resources: &Resources = &of_domains;
    let mesh = Mesh::of(resources, surroundings.identity.as_ref(), &mut findings);
    mutual::check(resources, &mut findings);
    let registry = Registry::of(resources, &mesh, &surroundings.instances, &mut findings);
    let policies = Policies::of(resources, &registry, mesh, surroundings.is_strict, &mut findings);
    process::check(resources, &mut findings);
    joined::check(resources, &mut findings);
    acme::check(resources, &mut findings);
    let mut routes = Routes::of(resources, &registry, &policies, surroundings.is_strict, &mut findings);
    for service in &resources.virtual_services {
        if gateway_api::is_made(service) {
            let mut quiet = routes.quiet();
            routes.rules(service, &Context::Any, &mut quiet);
            routes.check_streams(service, &mut quiet);
            gateway_api::retell(service, quiet, &mut findings);
        } else {
            routes.rules(service, &Context::Any, &mut findings);
            routes.check_streams(service, &mut findings);
        }
    }
    routes.check_groups(&mut findings);
    routes.check_fallbacks(&mut findings);
    routes.check_hosts(&mut findings);
    routes.check_reach(&mut findings);
    routes.account.tell(&mut findings);
    // What is wrong with a document has been told; the listeners say only what is wrong with them.
    let mut config = Config { admin: surroundings.admin.clone(), ..Config::default() };
    let edges = Edges::of(resources, &mut findings);
    let mut guards = Guards::of(resources, policies.mesh.root_namespace, &mut findings);
    guards.find_providers(resources, &mut routes, &mut findings);
    rates::check_keys(resources, &guards, &mut findings);
    let at_edge = (&edges, &guards);
    gateways::listeners(resources, surroundings, at_edge, &mut routes, &mut config.listeners, &mut findings);
    config.surge = surge::of(resources, &routes.caches, &mut config.listeners, &mut findings);
    acme::answer(&mut config.listeners, &surroundings.answers);
    config.stores = routes.rates.stores();
    config.overload = edges.overload(surroundings.overload.clone(), &mut findings);
    let sidecars = Sidecars::of(resources, &policies.mesh, &registry, &mut findings);
    outbound::listeners(surroundings, &sidecars, &mut routes, &mut config.listeners, &mut findings);
    let of_workloads = inbound::listeners(surroundings, &sidecars, &guards, &routes, &mut config.listeners);
    config.cache = routes.caches.store();
    config.clusters = routes.into_clusters();
    config.clusters.extend(of_workloads.into_values());
    config.clusters.extend(guards.into_clusters());
    config.clusters.extend(edges.clusters());
    config
        .clusters
        .extend((!surroundings.clients.is_empty()).then(|| clusters::of_addresses(&policies.mesh)));
    Planned { config, problems: findings.into_problems() }
}

/// The resources in an order that does not say in which they were read.
fn settled(resources: &Resources) -> Cow<'_, Resources> {
    if resources.is_settled() {
        return Cow::Borrowed(resources);
    }
    let mut settled = resources.clone();
    settled.settle();
    Cow::Owned(settled)
}

/// A name is that of one document of its kind. Nobody says which of two is meant, so that nothing is said of the second
/// but that.
fn tell_repeated(repeated: &[Repeated<'_>], findings: &mut Findings<'_>) {
    for again in repeated {
        let message = format!("{} '{}' is defined twice", again.kind, again.full_name());
        let hint = format!("the first is at {}", findings.locate(again.first));
        let path = Path::ROOT.field("metadata.name");
        findings.error(code::DUPLICATE, again.meta.name.place, &path, message, hint);
    }
}

/// Problems that were found when a planned configuration was compiled or prepared, with the places of
/// the rules that they are about.
pub fn locate(config: &Config, found: &[(Place, Invalid)], files: &Files) -> Vec<Problem> {
    let problems = found.iter().map(|(place, invalid)| {
        let origin = match place {
            Place::Rule { listener, chain, virtual_host, rule } => config
                .listeners
                .get(*listener)
                .and_then(|listener| listener.chains.get(*chain))
                .and_then(|chain| chain.http.routes.virtual_hosts.get(*virtual_host))
                .and_then(|host| host.rules.get(*rule))
                .map_or("", |rule| rule.origin.as_str()),
            Place::Tcp { listener, chain } => config
                .listeners
                .get(*listener)
                .and_then(|listener| listener.chains.get(*chain)?.tcp.as_ref())
                .map_or("", |tcp| tcp.origin.as_str()),
            _ => "",
        };
        let mut parts = origin.rsplitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        let (column, line) = (number(), number());
        Problem {
            severity: Severity::Error,
            code: code::INVALID_VALUE,
            message: invalid.message.clone(),
            hint: invalid.hint.clone(),
            file: parts.next().unwrap_or_else(|| files.name(naru_resource::FileId(0))).to_owned(),
            line,
            column,
            path: String::new(),
        }
    });
    let mut problems: Vec<Problem> = problems.collect();
    findings::settle(&mut problems);
    problems
}
