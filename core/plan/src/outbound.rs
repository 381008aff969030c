//! The listeners that workloads call others through: one for each, so that the caller is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use http::StatusCode;
use naru_resource::VirtualService;
use naru_resource::sidecar::OutboundMode;
use naru_spec::{
    Action, DirectResponse, Domain, FilterChain, Forward, Http, Http2Settings, Listener, Match, Path,
    RouteTable, Rule, ServerHeader, TlsRequirement, Upgrades, VirtualHost, defaults,
};

use crate::findings::Findings;
use crate::mesh;
use crate::names::{Audience, audience, fqdn};
use crate::registry::{Known, KnownPort, Protocol};
use crate::routes::{Context, MESH, Owner, Routes, is_bound};
use crate::sidecars::{Scope, Sidecars};
use crate::{Client, Surroundings, outbound_name};

pub(crate) fn listeners(
    surroundings: &Surroundings,
    sidecars: &Sidecars<'_>,
    routes: &mut Routes<'_>,
    listeners: &mut Vec<Listener>,
    findings: &mut Findings<'_>,
) {
    for client in &surroundings.clients {
        let scope = sidecars.scope(client);
        let table = table(client, &scope, routes, findings);
        let mut http = Http::new(defaults::MESH_STAT_PREFIX, table);
        // The client is the workload itself, which may have any number of calls under way.
        http.http2 = Http2Settings::default();
        http.access_log.clone_from(&surroundings.access_log);
        http.server_header = ServerHeader::PassThrough;
        http.tunnels = true;
        routes.mesh().at_listener(&mut http);
        http.upgrades = Upgrades::websocket();
        http.grpc_web = routes.registry.has_grpc_web();
        // Its clients are workloads, which may stream as slowly as they like.
        http.request_pace = None;
        http.response_pace = None;
        let chain = FilterChain::of(http);
        listeners.push(Listener::new(outbound_name(client), client.address, vec![chain]));
    }
}

fn table(
    client: &Client,
    scope: &Scope<'_>,
    routes: &mut Routes<'_>,
    findings: &mut Findings<'_>,
) -> RouteTable {
    let registry = routes.registry;
    let mut virtual_hosts = Vec::new();
    let mut taken: BTreeSet<Domain> = BTreeSet::new();
    let seen = registry.services().filter(|known| known.is_seen_from(&client.namespace));
    for known in seen.filter(|known| !registry.is_hidden(known, &client.namespace)) {
        let seen = |port: &&KnownPort| scope.sees(&known.namespace, &known.host, port.number);
        let meant = registry.meant(known, &client.namespace);
        let mut speakers = routes.for_host(&known.host, &client.namespace, scope);
        if speakers.is_empty() {
            speakers = routes.for_host(&meant.host, &client.namespace, scope);
        }
        for port in meant.ports.iter().filter(seen) {
            // What speaks no HTTP is called through tunnels, and has no rules of HTTP.
            let is_http = port.protocol != Protocol::Tcp;
            let mut rules = match is_http {
                true => first_rules(&speakers, client, port.number, routes),
                false => {
                    let context = Context::Mesh { client, port: port.number };
                    let rule = speakers.iter().find_map(|said| routes.tunnel_rule(said, meant, &context));
                    rule.into_iter().collect()
                }
            };
            if rules.is_empty() {
                rules.push(routes.plain_rule(meant, port.number, client));
            }
            if is_http {
                let changes = routes.rates.of_service(&meant.host);
                rules.iter_mut().for_each(|rule| rule.gate.extend(changes.iter().cloned()));
            }
            let domains = names(known, client).into_iter().flat_map(|name| with_port(&name, port.number));
            // Of two services with one address the first has it.
            let domains: Vec<Domain> = domains.filter(|domain| taken.insert(domain.clone())).collect();
            if !domains.is_empty() {
                virtual_hosts.push(host(&known.host, port.number, domains, rules));
            }
        }
    }
    virtual_hosts.extend(of_no_service(client, scope, routes));
    virtual_hosts.extend(of_others(client, scope, routes, findings));
    RouteTable { name: outbound_name(client), virtual_hosts, ..RouteTable::default() }
}

/// Of the first that has a route for this caller and port, as in Istio; empty where nobody has.
fn first_rules(
    speakers: &[&VirtualService],
    client: &Client,
    port: u16,
    routes: &mut Routes<'_>,
) -> Vec<Rule> {
    let mut quiet = routes.quiet();
    let context = Context::Mesh { client, port };
    let mut all = speakers.iter().map(|service| routes.rules(service, &context, &mut quiet));
    all.find(|rules| !rules.is_empty()).unwrap_or_default()
}

/// Those who speak of a host that no service is called by.
#[derive(Default)]
struct Speakers<'a> {
    services: Vec<(Audience, &'a VirtualService)>,
    /// What the client may call it.
    names: Vec<String>,
}

/// Hosts of VirtualServices that no service is called by; they have no port of their own. They stand in the order of their
/// names, whoever speaks of them.
fn of_no_service(client: &Client, scope: &Scope<'_>, routes: &mut Routes<'_>) -> Vec<VirtualHost> {
    let registry = routes.registry;
    let mut ports: Vec<u16> =
        registry.services().flat_map(|known| known.ports.iter().map(|port| port.number)).collect();
    ports.push(80);
    ports.sort_unstable();
    ports.dedup();
    let resources = routes.resources;
    let mut spoken_of: BTreeMap<String, Speakers<'_>> = BTreeMap::new();
    for service in resources.virtual_services.iter().filter(|service| is_bound(service, MESH)) {
        let owner = service.meta.namespace();
        let exports = mesh::or(&service.spec.export_to, routes.mesh().exports.virtual_services);
        let Some(audience) = audience(exports, owner, &client.namespace) else { continue };
        for name in &service.spec.hosts {
            if name.value == "*" || registry.find(name, owner).is_some() {
                continue;
            }
            let full = fqdn(name, owner);
            if !scope.hears(owner, &full) {
                continue;
            }
            let speakers = spoken_of.entry(full.clone()).or_default();
            speakers.services.push((audience, service));
            let short = (owner == client.namespace).then(|| name.to_ascii_lowercase());
            for name in [full].into_iter().chain(short) {
                if !speakers.names.contains(&name) {
                    speakers.names.push(name);
                }
            }
        }
    }
    let mut virtual_hosts = Vec::new();
    for (full, mut speakers) in spoken_of {
        speakers.services.sort_by_key(|(audience, _)| *audience);
        let services: Vec<&VirtualService> = speakers.services.iter().map(|(_, service)| *service).collect();
        for port in &ports {
            let rules = first_rules(&services, client, *port, routes);
            if !rules.is_empty() {
                let domains = speakers.names.iter().flat_map(|name| with_port(name, *port)).collect();
                virtual_hosts.push(host(&full, *port, domains, rules));
            }
        }
    }
    virtual_hosts
}

/// What no document knows. With Istio's `ALLOW_ANY` it goes where it says, or through the way out that a Sidecar names;
/// with `REGISTRY_ONLY` it goes nowhere, which is 502.
fn of_others(
    client: &Client,
    scope: &Scope<'_>,
    routes: &mut Routes<'_>,
    findings: &mut Findings<'_>,
) -> Option<VirtualHost> {
    let (name, action) = match scope.mode {
        OutboundMode::RegistryOnly => {
            let status = StatusCode::BAD_GATEWAY;
            (BLOCKED, Action::Direct(Box::new(DirectResponse { status, body: Vec::new() })))
        }
        OutboundMode::AllowAny => {
            let cluster = match scope.egress_proxy {
                None => defaults::ADDRESSES_CLUSTER.to_owned(),
                Some(proxy) => {
                    let owner = Owner { namespace: scope.namespace, is_mesh_only: true };
                    let context = Context::Mesh { client, port: 80 };
                    let path = Path::ROOT.field("spec.outboundTrafficPolicy.egressProxy");
                    let share = "every call to others";
                    routes.own_destination(owner, proxy, &context, share, &path, findings)?
                }
            };
            let mut forward = Forward::to(cluster);
            forward.timeout = None;
            (ALLOWED, Action::Forward(Box::new(forward)))
        }
    };
    let rule = Rule {
        gate: Vec::new(),
        name: name.to_owned(),
        origin: String::new(),
        matches: vec![Match::default()],
        action,
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    Some(VirtualHost {
        name: defaults::ADDRESSES_HOST.to_owned(),
        domains: vec![Domain::Any],
        rules: vec![rule],
        tls: TlsRequirement::None,
        request_headers: Default::default(),
        response_headers: Default::default(),
    })
}

/// Istio's names of the rules for what no document knows.
const ALLOWED: &str = "allow_any";
const BLOCKED: &str = "block_all";

/// What a client may call a service: a service of Kubernetes by every part of its name that its
/// resolver would complete.
fn names(known: &Known, client: &Client) -> Vec<String> {
    let mut names = vec![known.host.clone()];
    names.extend(known.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }));
    if let Some(name) = &known.name {
        let namespace = &known.namespace;
        if *namespace == client.namespace {
            names.push(name.clone());
        }
        names.push(format!("{name}.{namespace}"));
        names.push(format!("{name}.{namespace}.svc"));
    }
    names
}

/// A name with a port, and without where the port is HTTP's own.
fn with_port(name: &str, port: u16) -> Vec<Domain> {
    let own = (port == 80).then(|| Domain::parse(name));
    let with = Domain::parse(&format!("{name}:{port}"));
    own.into_iter().chain([with]).flatten().collect()
}

fn host(name: &str, port: u16, domains: Vec<Domain>, rules: Vec<Rule>) -> VirtualHost {
    VirtualHost {
        name: format!("{name}:{port}"),
        domains,
        rules,
        tls: TlsRequirement::None,
        request_headers: Default::default(),
        response_headers: Default::default(),
    }
}
