//! The listeners that workloads call others through: one for each, so that the caller is known.

use naru_resource::VirtualService;
use naru_spec::{
    Action, Domain, FilterChain, Forward, Http, Http2Settings, Listener, Match, Paths, Pattern, RouteTable,
    Rule, ServerHeader, StringMatch, TlsRequirement, Upgrades, ValueTest, VirtualHost, defaults,
};

use crate::names::{fqdn, is_exported};
use crate::registry::{Known, Protocol};
use crate::routes::{Context, MESH, Routes, is_bound};
use crate::{Client, Surroundings, outbound_name};

pub(crate) fn listeners(surroundings: &Surroundings, routes: &mut Routes<'_>, listeners: &mut Vec<Listener>) {
    for client in &surroundings.clients {
        let table = table(client, routes);
        let mut http = Http::new(defaults::MESH_STAT_PREFIX, table);
        // The client is the workload itself, which may have any number of calls under way.
        http.http2 = Http2Settings::default();
        http.access_log = surroundings.access_log.clone();
        http.server_header = ServerHeader::PassThrough;
        http.tunnels = true;
        http.paths = Paths::BASE;
        http.upgrades = Upgrades::websocket();
        http.grpc_web = routes.registry.has_grpc_web();
        // Its clients are workloads, which may stream as slowly as they like.
        http.request_pace = None;
        http.response_pace = None;
        let chain = FilterChain::of(http);
        listeners.push(Listener::new(outbound_name(client), client.address, vec![chain]));
    }
}

fn table(client: &Client, routes: &mut Routes<'_>) -> RouteTable {
    let registry = routes.registry;
    let mut virtual_hosts = Vec::new();
    for known in registry.services() {
        for port in &known.ports {
            // What speaks no HTTP is called through tunnels, and has no rules of HTTP.
            let is_http = port.protocol != Protocol::Tcp;
            let service = routes.for_host(&known.host, &client.namespace).filter(|_| is_http);
            let mut rules = match service {
                Some(service) => rules(service, client, port.number, routes),
                None => {
                    let context = Context::Mesh { client, port: port.number };
                    let said = routes.for_host(&known.host, &client.namespace).filter(|_| !is_http);
                    let rule = said.and_then(|said| routes.tunnel_rule(said, known, &context));
                    vec![rule.unwrap_or_else(|| routes.plain_rule(known, port.number, client))]
                }
            };
            if is_http {
                let changes = routes.rates.of_service(&known.host);
                rules.iter_mut().for_each(|rule| rule.gate.extend(changes.iter().cloned()));
            }
            let domains = names(known, client).into_iter().flat_map(|name| with_port(&name, port.number));
            virtual_hosts.push(host(&known.host, port.number, domains.collect(), rules));
        }
    }
    virtual_hosts.extend(of_no_service(client, routes));
    virtual_hosts.extend(of_addresses());
    RouteTable { name: outbound_name(client), virtual_hosts, ..RouteTable::default() }
}

fn rules(service: &VirtualService, client: &Client, port: u16, routes: &mut Routes<'_>) -> Vec<Rule> {
    let mut quiet = routes.quiet();
    routes.rules(service, &Context::Mesh { client, port }, &mut quiet)
}

/// Hosts of VirtualServices that no service is called by; they have no port of their own.
fn of_no_service(client: &Client, routes: &mut Routes<'_>) -> Vec<VirtualHost> {
    let registry = routes.registry;
    let mut ports: Vec<u16> =
        registry.services().flat_map(|known| known.ports.iter().map(|port| port.number)).collect();
    ports.push(80);
    ports.sort_unstable();
    ports.dedup();
    let resources = routes.resources;
    let mut virtual_hosts = Vec::new();
    for service in &resources.virtual_services {
        let owner = service.meta.namespace();
        if !is_bound(service, MESH) || !is_exported(&service.spec.export_to, owner, &client.namespace) {
            continue;
        }
        for name in &service.spec.hosts {
            if name.value == "*" || registry.find(name, owner).is_some() {
                continue;
            }
            let full = fqdn(name, owner);
            let mut names = vec![full.clone()];
            if full != name.value && owner == client.namespace {
                names.push(name.to_ascii_lowercase());
            }
            for port in &ports {
                let domains = names.iter().flat_map(|name| with_port(name, *port)).collect();
                let rules = rules(service, client, *port, routes);
                virtual_hosts.push(host(&full, *port, domains, rules));
            }
        }
    }
    virtual_hosts
}

/// What is asked for by an address that no rule knows goes there, as with Istio's `ALLOW_ANY`. A name that nobody
/// knows goes nowhere.
fn of_addresses() -> Option<VirtualHost> {
    const ADDRESS: &str = r"[0-9]+(\.[0-9]+){3}(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?";
    let test = ValueTest::Regex(Pattern::new(ADDRESS).ok()?);
    let authority = Some(StringMatch { test, ignore_case: false });
    let mut forward = Forward::to(defaults::ADDRESSES_CLUSTER);
    forward.timeout = None;
    let rule = Rule {
        gate: Vec::new(),
        name: "address".to_owned(),
        origin: String::new(),
        matches: vec![Match { authority, ..Match::default() }],
        action: Action::Forward(Box::new(forward)),
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

/// What a client may call a service: a service of Kubernetes by every part of its name that its
/// resolver would complete.
fn names(known: &Known, client: &Client) -> Vec<String> {
    let mut names = vec![known.host.clone()];
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
