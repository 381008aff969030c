//! Istio's `Gateway` as listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use naru_resource::gateway::{Server, ServerTlsMode};
use naru_resource::{Gateway, Resources, Text, VirtualService, meta};
use naru_spec::{
    Domain, DownstreamTls, FilterChain, Http, Listener, Path, RouteTable, Rule, TlsRequirement, Upgrades,
    VirtualHost, code,
};

use crate::Surroundings;
use crate::acme;
use crate::edge::Edges;
use crate::findings::Findings;
use crate::gateway_api;
use crate::http3;
use crate::identity::Guards;
use crate::mesh;
use crate::mutual::Mutual;
use crate::names::{common, is_exported};
use crate::registry::{Known, plain, port_number};
use crate::routes::{Context, Routes, catches_all, is_for_all};
use crate::tls;

/// One server of a gateway, ready to become a chain.
struct Ready<'a> {
    gateway: &'a Gateway,
    server: &'a Server,
    port: u16,
    /// Host patterns, without their namespaces.
    hosts: Vec<String>,
    speaks: Speaks,
    tls: Option<DownstreamTls>,
}

/// What is spoken at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http,
    /// TLS that does not end here.
    Passthrough,
    /// The same, and the server names say where it goes.
    AutoPassthrough,
    /// Anything, in TLS that ends here or in none.
    Tcp,
}

impl Ready<'_> {
    fn is_tls(&self) -> bool {
        self.tls.is_some() || matches!(self.speaks, Speaks::Passthrough | Speaks::AutoPassthrough)
    }

    /// Whether everything that it has without TLS is sent to TLS.
    fn is_redirected(&self) -> bool {
        let redirect = self.server.tls.as_ref().and_then(|tls| tls.https_redirect.as_ref());
        self.tls.is_none() && redirect.is_some_and(|flag| flag.value)
    }

    fn context<'c>(&'c self, labels: &'c [(String, String)]) -> Context<'c> {
        Context::Gateway {
            namespace: self.gateway.meta.namespace(),
            name: &self.gateway.meta.name,
            labels,
            port: self.port,
            is_tls: self.tls.is_some(),
        }
    }
}

/// A listener for each address, a chain for each server with TLS, one for those without.
pub(crate) fn listeners(
    resources: &Resources,
    surroundings: &Surroundings,
    (edges, guards): (&Edges<'_>, &Guards<'_>),
    routes: &mut Routes<'_>,
    listeners: &mut Vec<Listener>,
    findings: &mut Findings<'_>,
) {
    let mut by_address: BTreeMap<SocketAddr, Vec<Ready<'_>>> = BTreeMap::new();
    let mutual = routes.mesh().clusters.mutual;
    for gateway in &resources.gateways {
        let servers = Path::ROOT.field("spec.servers");
        if gateway.spec.servers.is_empty() {
            findings.error(code::MISSING_FIELD, gateway.place, &servers, "a Gateway needs servers", "");
        }
        let mut has_https = false;
        for (at, server) in gateway.spec.servers.iter().enumerate() {
            let path = servers.at(at);
            let Some((address, ready)) =
                read(gateway, server, surroundings, mutual, resources, &path, findings)
            else {
                continue;
            };
            let known = by_address.entry(address).or_default();
            if !fits_beside(&ready, known, address, &path, findings) {
                continue;
            }
            has_https |= ready.speaks == Speaks::Http && ready.tls.is_some();
            known.push(ready);
        }
        http3::check_effect(gateway, has_https, findings);
    }
    check_bindings(resources, routes, findings);
    for (address, servers) in by_address {
        let gateways: Vec<&Gateway> = servers.iter().map(|ready| ready.gateway).collect();
        let (streams, servers): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|ready| ready.speaks != Speaks::Http);
        let (with_tls, without): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|ready| ready.tls.is_some());
        let (mut chains, mut over_quic) = (Vec::new(), Vec::new());
        if !without.is_empty() {
            let mut chain = chain(&without, surroundings, routes);
            let gateways: Vec<&Gateway> = without.iter().map(|ready| ready.gateway).collect();
            chain.http.gate = guards.gate(&gateways, findings);
            chains.push(chain);
        }
        for ready in with_tls {
            let mut chain = chain(std::slice::from_ref(&ready), surroundings, routes);
            chain.name = format!("{}/{}", ready.gateway.meta.full_name(), chains.len());
            chain.server_names = ready.hosts.iter().filter_map(|host| Domain::parse(host).ok()).collect();
            chain.http.gate = guards.gate(&[ready.gateway], findings);
            chain.tls = ready.tls;
            if http3::is_asked_for(ready.gateway, chain.tls.as_ref(), findings) {
                over_quic.push(http3::beside(&mut chain, address.port()));
            }
            chains.push(chain);
        }
        for ready in streams {
            add_streams(ready, surroundings, routes, &mut chains, findings);
        }
        // Nobody listens where nothing leads on.
        if !chains.is_empty() {
            let mut listener = Listener::new(format!("gateway/{address}"), address, chains);
            edges.change(&gateways, &mut listener, findings);
            routes.rates.change(&gateways, &mut listener);
            routes.doors.change(&gateways, &mut listener, findings);
            routes.contents.change(&gateways, &mut listener);
            listeners.push(listener);
        }
        if !over_quic.is_empty() {
            let mut listener = http3::listener(address, over_quic);
            // What is wrong with them was told of the listener beside it.
            edges.change(&gateways, &mut listener, &mut routes.quiet());
            routes.rates.change(&gateways, &mut listener);
            routes.doors.change(&gateways, &mut listener, &mut routes.quiet());
            routes.contents.change(&gateways, &mut listener);
            listeners.push(listener);
        }
    }
}

/// Chains of a server whose bytes are passed through. Of two that take the same the first has it.
fn add_streams(
    ready: Ready<'_>,
    surroundings: &Surroundings,
    routes: &mut Routes<'_>,
    chains: &mut Vec<FilterChain>,
    findings: &mut Findings<'_>,
) {
    let labels = labels_of(ready.gateway, routes.resources);
    let services: Vec<&VirtualService> = routes
        .resources
        .virtual_services
        .iter()
        .filter(|service| is_bound(service, &ready, routes))
        .collect();
    let before = chains.len();
    let passes_by_name = ready.speaks == Speaks::AutoPassthrough;
    if passes_by_name {
        add_named(&ready, &services, &labels, surroundings, routes, chains, findings);
    }
    for service in services.into_iter().filter(|_| !passes_by_name) {
        let context = ready.context(&labels);
        let owner = service.meta.namespace();
        let shared = |name: &str| -> Vec<String> {
            let name = name.to_ascii_lowercase();
            let written = ready.server.hosts.iter();
            let written = written.filter(|written| is_shared(written, owner, ready.gateway, &name));
            let hosts = written.filter_map(|written| {
                let host = written.rsplit('/').next().unwrap_or("").to_ascii_lowercase();
                common(&host, &name).map(str::to_owned)
            });
            hosts.collect()
        };
        let found = match ready.speaks {
            Speaks::Passthrough => routes.passing_chains(service, &context, &shared, surroundings),
            Speaks::Tcp | Speaks::Http | Speaks::AutoPassthrough => {
                routes.tcp_chains(service, &context, surroundings)
            }
        };
        for mut chain in found {
            chain.name = format!("{}/{}", ready.gateway.meta.full_name(), chain.name);
            if let Some(tls) = &ready.tls {
                let domains = ready.hosts.iter().filter_map(|host| Domain::parse(host).ok());
                chain.server_names = domains.filter(|domain| *domain != Domain::Any).collect();
                chain.tls = Some(tls.clone());
            }
            let takes_same = |known: &FilterChain| {
                known.networks == chain.networks
                    && (known.server_names == chain.server_names
                        || known.server_names.iter().any(|name| chain.server_names.contains(name)))
            };
            if !chains.iter().any(takes_same) {
                chains.push(chain);
            }
        }
    }
    if chains.len() == before {
        let message = "no route leads on from this server: nobody listens for it";
        let hint = match ready.speaks {
            Speaks::Passthrough => "a VirtualService with this gateway and tls routes for its hosts",
            Speaks::AutoPassthrough => {
                "a Service that its hosts fit ('*.local' is all of them), or a ServiceEntry with location: MESH_INTERNAL"
            }
            Speaks::Tcp | Speaks::Http => "a VirtualService with this gateway and tcp routes",
        };
        let path = Path::ROOT.field("spec.servers");
        findings.warning(code::NO_EFFECT, ready.server.place, &path, message, hint);
    }
}

/// Chains of a server that passes by name. Routes that are bound to it are asked for nothing, which is told.
fn add_named(
    ready: &Ready<'_>,
    bound: &[&VirtualService],
    labels: &[(String, String)],
    surroundings: &Surroundings,
    routes: &mut Routes<'_>,
    chains: &mut Vec<FilterChain>,
    findings: &mut Findings<'_>,
) {
    let has = |known: &Known| {
        let mut written = ready.server.hosts.iter();
        written.any(|written| is_shared(written, &known.namespace, ready.gateway, &known.host))
    };
    let mut named = routes.named_chains(ready.server.place, &ready.context(labels), &has, surroundings);
    let mut taken: BTreeSet<Domain> =
        chains.iter().flat_map(|chain| chain.server_names.iter().cloned()).collect();
    named.retain(|chain| chain.server_names.iter().all(|name| taken.insert(name.clone())));
    chains.extend(named);
    for service in bound {
        let message = format!(
            "no route is asked at the Gateway '{}': server names say where its TLS goes on",
            ready.gateway.meta.name.value
        );
        let path = Path::ROOT.field("spec.gateways");
        findings.warning(code::NO_EFFECT, service.meta.name.place, &path, message, "");
    }
}

/// Whether a VirtualService is for a server: it names the gateway, may be seen there and shares a host with it.
fn is_bound(service: &VirtualService, ready: &Ready<'_>, routes: &Routes<'_>) -> bool {
    if let Some(bound) = &service.bound {
        return gateway_api::is_for(bound, ready.gateway, ready.server);
    }
    let (owner, gateway) = (service.meta.namespace(), ready.gateway);
    let shares = |host: &Text| {
        let host = host.to_ascii_lowercase();
        ready.server.hosts.iter().any(|written| is_shared(written, owner, gateway, &host))
    };
    is_seen_by(service, gateway, routes) && service.spec.hosts.iter().any(shares)
}

/// Whether a VirtualService names a gateway, and is exported to it.
fn is_seen_by(service: &VirtualService, gateway: &Gateway, routes: &Routes<'_>) -> bool {
    let owner = service.meta.namespace();
    let names = |name: &Text| {
        routes.gateway(name, owner).is_some_and(|found| found.meta.name.place == gateway.meta.name.place)
    };
    service.spec.gateways.iter().any(names)
        && is_exported(
            mesh::or(&service.spec.export_to, routes.mesh().exports.virtual_services),
            owner,
            gateway.meta.namespace(),
        )
}

fn read<'a>(
    gateway: &'a Gateway,
    server: &'a Server,
    surroundings: &Surroundings,
    mutual: Mutual<'_>,
    resources: &Resources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<(SocketAddr, Ready<'a>)> {
    let number = &server.port.number;
    let port = port_number(number.value, number.place, &path.field("port.number"), findings)?;
    let protocol = server.port.protocol.to_ascii_uppercase();
    let passes = server.tls.as_ref().is_some_and(|tls| {
        tls.mode.is_none_or(|mode| mode.value == ServerTlsMode::Passthrough) && tls.https_redirect.is_none()
    });
    let mode = server.tls.as_ref().and_then(|tls| tls.mode);
    let names_services = mode.is_some_and(|mode| mode.value == ServerTlsMode::AutoPassthrough);
    let (speaks, is_tls) = match protocol.as_str() {
        "HTTPS" | "TLS" | "TCP" | "MONGO" | "MYSQL" | "REDIS" if names_services => {
            (Speaks::AutoPassthrough, false)
        }
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => (Speaks::Http, false),
        "HTTPS" | "TLS" if passes => (Speaks::Passthrough, false),
        "HTTPS" => (Speaks::Http, true),
        "TLS" => (Speaks::Tcp, true),
        "TCP" | "MONGO" | "MYSQL" | "REDIS" if passes => (Speaks::Passthrough, false),
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => (Speaks::Tcp, server.tls.is_some()),
        _ => {
            let message = format!("'{}' is not a protocol", server.port.protocol.value);
            let place = server.port.protocol.place;
            let hint = "one of HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TLS, TCP, MONGO";
            findings.error(code::UNKNOWN_VALUE, place, &path.field("port.protocol"), message, hint);
            return None;
        }
    };
    if server.hosts.is_empty() {
        findings.error(code::MISSING_FIELD, server.place, path, "a server needs hosts", "'*' is any host");
        return None;
    }
    let mut hosts = Vec::new();
    let of_hosts = path.field("hosts");
    for (at, host) in server.hosts.iter().enumerate() {
        let name = host.rsplit('/').next().unwrap_or("");
        match Domain::parse(name) {
            Ok(Domain::Prefix(_)) | Err(_) => {
                let message = format!("'{}' cannot be a host of a gateway", host.value);
                let hint = "write a name, *.example.com, or *; with a namespace before it: shop/*";
                findings.error(code::INVALID_VALUE, host.place, &of_hosts.at(at), message, hint);
            }
            Ok(_) => hosts.push(name.to_ascii_lowercase()),
        }
    }
    if let Some(said) = &server.default_endpoint {
        let message = "'defaultEndpoint' has no effect, as in Istio";
        let hint = "a VirtualService for this gateway says where requests go";
        findings.warning(code::NO_EFFECT, said.place, &path.field("defaultEndpoint"), message, hint);
    }
    if let Some(said) = server.tls.as_ref().and_then(|tls| tls.insecure_skip_verify.as_ref()) {
        let message =
            "naru does not act on 'insecureSkipVerify' of a server: certificates of clients are verified";
        findings.warning(code::NOT_YET, said.place, &path.field("tls.insecureSkipVerify"), message, "");
    }
    check_plain(server, speaks, is_tls, path, findings);
    let ip = match &server.bind {
        None => surroundings.gateway_address,
        Some(bind) => match bind.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => {
                let message = format!("naru cannot bind a gateway to '{}'", bind.value);
                findings.error(
                    code::INVALID_VALUE,
                    bind.place,
                    &path.field("bind"),
                    message,
                    "an IP address",
                );
                return None;
            }
        },
    };
    let tls = match (&server.tls, is_tls) {
        (Some(tls), true) => {
            let issuer = acme::issuer_of(gateway, resources);
            let issued = issuer.map(|issuer| acme::certificate(issuer, surroundings));
            let namespace = gateway.meta.namespace();
            let path = path.field("tls");
            Some(tls::downstream(tls, namespace, issued, mutual, resources, &path, findings)?)
        }
        (None, true) => {
            let message =
                format!("{} {protocol} server needs tls", if speaks == Speaks::Http { "an" } else { "a" });
            findings.error(code::MISSING_FIELD, server.place, path, message, "");
            return None;
        }
        (_, false) => None,
    };
    // Nobody knows what is spoken inside.
    let tls =
        tls.map(|tls| if speaks == Speaks::Tcp { DownstreamTls { alpn: Vec::new(), ..tls } } else { tls });
    Some((SocketAddr::new(ip, port), Ready { gateway, server, port, hosts, speaks, tls }))
}

/// What a server says that its protocol has no use for. TLS that would not be there is an error, as in Istio.
fn check_plain(server: &Server, speaks: Speaks, is_tls: bool, path: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(port) = &server.port.target_port {
        let message = "'targetPort' has no effect on a Gateway, as in Istio";
        findings.warning(code::NO_EFFECT, port.place, &path.field("port.targetPort"), message, "");
    }
    let Some(tls) = &server.tls else { return };
    if speaks != Speaks::Http || is_tls {
        if let Some(redirect) = tls.https_redirect.as_ref().filter(|redirect| redirect.value) {
            let message = "'httpsRedirect' is for servers of plain HTTP";
            let path = path.field("tls.httpsRedirect");
            findings.warning(code::NO_EFFECT, redirect.place, &path, message, "leave it out");
        }
        return;
    }
    let mode = tls.mode.as_ref().filter(|mode| mode.value != ServerTlsMode::Passthrough);
    let names = [&tls.credential_name, &tls.server_certificate, &tls.private_key, &tls.ca_certificates];
    let place = mode.map(|mode| mode.place).or(names.into_iter().flatten().next().map(|name| name.place));
    if let Some(place) = place {
        let message = format!("a server of {} has no TLS", server.port.protocol.value);
        let hint = "protocol: HTTPS, or nothing in tls but httpsRedirect";
        findings.error(code::CONFLICTING_FIELDS, place, &path.field("tls"), message, hint);
    }
}

/// Whether a server can be beside those that have its address already. As in Istio plain HTTP is joined, TLS is told
/// apart by the names that clients ask for, and of whatever cannot be told apart the first has the address. IST0145.
fn fits_beside(
    ready: &Ready<'_>,
    known: &[Ready<'_>],
    address: SocketAddr,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> bool {
    let mut place = ready.server.place;
    for before in known {
        let (message, is_joined) = if before.is_tls() != ready.is_tls() {
            (format!("{address} cannot be with TLS and without"), false)
        } else if !ready.is_tls() && before.speaks != ready.speaks {
            (format!("{address} cannot be HTTP and TCP"), false)
        } else if let Some(host) = ready.hosts.iter().find(|host| before.hosts.contains(host)) {
            let is_it = |written: &&Text| {
                written.rsplit('/').next().is_some_and(|name| name.eq_ignore_ascii_case(host))
            };
            place = ready.server.hosts.iter().find(is_it).map_or(place, |written| written.place);
            let is_joined = !ready.is_tls() && ready.speaks == Speaks::Http;
            (format!("two servers have port {} and host '{host}'", ready.port), is_joined)
        } else {
            continue;
        };
        let hint = format!("the other is at {}", findings.locate(before.server.place));
        if std::ptr::eq(before.gateway, ready.gateway) {
            findings.error(code::CONFLICT, place, path, message, hint);
            return true;
        }
        let (one, other) = (&before.gateway.spec.selector, &ready.gateway.spec.selector);
        let are_alike = meta::selects(one, other) || meta::selects(other, one);
        let whose = if are_alike { "" } else { " (in Istio they are of different workloads)" };
        let becomes = if is_joined { "their routes are joined" } else { "this one is left out" };
        let message = format!("{message}: {becomes}{whose}");
        findings.warning(code::CONFLICT, place, path, message, hint);
        return is_joined;
    }
    true
}

/// IST0132: a VirtualService whose hosts its gateway does not have.
fn check_bindings(resources: &Resources, routes: &Routes<'_>, findings: &mut Findings<'_>) {
    for service in resources.virtual_services.iter().filter(|service| service.bound.is_none()) {
        let owner = service.meta.namespace();
        for name in &service.spec.gateways {
            let Some(gateway) = routes.gateway(name, owner) else { continue };
            for (at, host) in service.spec.hosts.iter().enumerate() {
                let host_name = host.to_ascii_lowercase();
                let has = |server: &Server| {
                    server.hosts.iter().any(|written| is_shared(written, owner, gateway, &host_name))
                };
                if !gateway.spec.servers.iter().any(has) {
                    let message = format!("the Gateway '{}' has no server for '{}'", name.value, host.value);
                    let hosts = Path::ROOT.field("spec.hosts");
                    let hint = "add the host to the Gateway, or it gets no requests from there";
                    findings.warning(code::UNKNOWN_REFERENCE, host.place, &hosts.at(at), message, hint);
                }
            }
        }
    }
}

/// Whether a server's host, which may name a namespace, lets a host of a VirtualService through.
fn is_shared(written: &Text, owner: &str, gateway: &Gateway, host: &str) -> bool {
    let (namespace, name) = written.split_once('/').unwrap_or(("*", written));
    let is_namespace = match namespace {
        "*" => true,
        "." => owner == gateway.meta.namespace(),
        namespace => owner == namespace,
    };
    is_namespace && common(&name.to_ascii_lowercase(), host).is_some()
}

/// What all of these servers answer; they share an address.
fn chain(servers: &[Ready<'_>], surroundings: &Surroundings, routes: &mut Routes<'_>) -> FilterChain {
    let resources = routes.resources;
    let labels: Vec<_> = servers.iter().map(|ready| labels_of(ready.gateway, resources)).collect();
    let groups = groups(servers, routes);
    let mut taken: BTreeSet<Domain> = groups.iter().flat_map(|group| group.domains.clone()).collect();
    let mut virtual_hosts: Vec<VirtualHost> = Vec::new();
    for (at, ready) in servers.iter().enumerate() {
        for group in groups.iter().filter(|group| group.of.first().is_some_and(|(first, _)| *first == at)) {
            let mut rules: Vec<Rule> = Vec::new();
            let mut known: BTreeSet<usize> = BTreeSet::new();
            for (at, number) in &group.of {
                let (Some(ready), Some(labels)) = (servers.get(*at), labels.get(*at)) else { continue };
                let Some(service) = resources.virtual_services.get(*number) else { continue };
                let mut quiet = routes.quiet();
                let mut own = routes.rules(service, &ready.context(labels), &mut quiet);
                if group.of.len() > 1 {
                    // What stands behind a rule that takes all takes nothing, also where others stand before it.
                    own.truncate(own.iter().position(catches_all).map_or(own.len(), |last| last + 1));
                }
                if !known.insert(*number) {
                    // By two gateways the same is said twice.
                    own.retain(|rule| !rules.contains(rule));
                }
                rules.extend(own);
            }
            if group.of.len() > 1 {
                // Several documents for one host: what takes all is asked last.
                rules = rules.into_iter().flat_map(parted).collect();
                rules.sort_by_key(catches_all);
            }
            virtual_hosts.push(host(group.domains.clone(), rules, ready.port, group.is_redirected));
        }
        // Of a host that a listener of the Gateway API has, no other one answers; and hosts that nobody has routes for
        // are sent to TLS all the same.
        if ready.gateway.is_api || ready.is_redirected() {
            let left = ready.hosts.iter().filter_map(|host| Domain::parse(host).ok());
            let left = left.filter(|domain| ready.is_redirected() || *domain != Domain::Any);
            let left: Vec<Domain> = left.filter(|domain| taken.insert(domain.clone())).collect();
            if !left.is_empty() {
                virtual_hosts.push(host(left, Vec::new(), ready.port, ready.is_redirected()));
            }
        }
    }
    let mut table = RouteTable { virtual_hosts, ignores_port: true, ..RouteTable::default() };
    table.name = servers.first().map_or(String::new(), |ready| format!("gateway/{}", ready.port));
    let mut http = Http::new("gateway", table);
    http.upgrades = Upgrades::websocket();
    let is_web = |ready: &Ready<'_>| ready.server.port.protocol.eq_ignore_ascii_case("GRPC-WEB");
    http.grpc_web = servers.iter().any(is_web) || routes.registry.has_grpc_web();
    http.access_log.clone_from(&surroundings.access_log);
    routes.mesh().at_gateway(&mut http);
    // Clients come from outside: nobody in front of a gateway is believed.
    http.use_remote_address = true;
    FilterChain::of(http)
}

/// A rule that takes all, and by other blocks less, as two: each has its own place among the rules of others.
fn parted(rule: Rule) -> Vec<Rule> {
    match rule.matches.iter().position(is_for_all) {
        Some(at) if at > 0 => {
            let (before, all) = rule.matches.split_at(at);
            let narrow = Rule { matches: before.to_vec(), ..rule.clone() };
            let wide = Rule { matches: all.iter().take(1).cloned().collect(), ..rule.clone() };
            vec![narrow, wide]
        }
        _ => vec![rule],
    }
}

/// Of the Deployment that a gateway selects, in its own namespace first; where none is there, of the Gateway itself.
/// They say where it stands, as the labels of any caller do.
fn labels_of(gateway: &Gateway, resources: &Resources) -> Vec<(String, String)> {
    let selector = &gateway.spec.selector;
    let selected = resources.deployments.iter().filter(|_| !selector.is_empty()).filter_map(|deployment| {
        let labels = &deployment.spec.template.meta.as_ref()?.labels;
        meta::selects(selector, labels).then_some((deployment.meta.namespace(), labels))
    });
    let selected: Vec<_> = selected.collect();
    let own = selected.iter().find(|(namespace, _)| *namespace == gateway.meta.namespace());
    let labels = own.or(selected.first()).map_or(&gateway.meta.labels, |(_, labels)| *labels);
    plain(labels)
}

fn host(domains: Vec<Domain>, rules: Vec<Rule>, port: u16, is_redirected: bool) -> VirtualHost {
    let name = domains.first().map_or(String::new(), |domain| format!("{domain}:{port}"));
    VirtualHost {
        name,
        domains,
        rules,
        tls: if is_redirected { TlsRequirement::All } else { TlsRequirement::None },
        request_headers: Default::default(),
        response_headers: Default::default(),
    }
}

/// Hosts that the same VirtualServices speak of at the same servers.
struct Group {
    domains: Vec<Domain>,
    /// Servers and VirtualServices, by their numbers.
    of: Vec<(usize, usize)>,
    is_redirected: bool,
}

/// The hosts of servers that share an address, in the order of the servers; a host that several have is there once.
fn groups(servers: &[Ready<'_>], routes: &Routes<'_>) -> Vec<Group> {
    let mut hosts: Vec<(String, Vec<(usize, usize)>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (at, ready) in servers.iter().enumerate() {
        for (host, services) in shared_hosts(ready, routes) {
            let of = services.into_iter().map(|service| (at, service));
            match places.get(&host).and_then(|place| hosts.get_mut(*place)) {
                Some((_, known)) => known.extend(of),
                None => {
                    places.insert(host.clone(), hosts.len());
                    hosts.push((host, of.collect()));
                }
            }
        }
    }
    let redirecting = servers.iter().filter(|ready| ready.is_redirected());
    let redirected: BTreeSet<&str> = redirecting.flat_map(|ready| &ready.hosts).map(String::as_str).collect();
    let mut groups: Vec<Group> = Vec::new();
    let mut known: BTreeMap<(Vec<(usize, usize)>, bool), usize> = BTreeMap::new();
    for (host, of) in hosts {
        let Ok(domain) = Domain::parse(&host) else { continue };
        let at_one = of.iter().any(|(server, _)| servers.get(*server).is_some_and(Ready::is_redirected));
        let is_redirected = at_one || redirected.contains(host.as_str());
        let key = (of, is_redirected);
        match known.get(&key).and_then(|at| groups.get_mut(*at)) {
            Some(group) => group.domains.push(domain),
            None => {
                groups.push(Group { domains: vec![domain], of: key.0.clone(), is_redirected });
                known.insert(key, groups.len() - 1);
            }
        }
    }
    groups
}

/// The hosts that a server and VirtualServices share, with those that speak of each.
fn shared_hosts(ready: &Ready<'_>, routes: &Routes<'_>) -> BTreeMap<String, Vec<usize>> {
    let mut by_host: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let gateway = ready.gateway;
    for (at, service) in routes.resources.virtual_services.iter().enumerate() {
        let owner = service.meta.namespace();
        let is_for = match &service.bound {
            Some(bound) => gateway_api::is_for(bound, gateway, ready.server),
            None => is_seen_by(service, gateway, routes),
        };
        if !is_for {
            continue;
        }
        for host in &service.spec.hosts {
            let host = host.to_ascii_lowercase();
            for written in &ready.server.hosts {
                if !is_shared(written, owner, gateway, &host) {
                    continue;
                }
                let name = written.rsplit('/').next().unwrap_or("").to_ascii_lowercase();
                let Some(shared) = common(&name, &host) else { continue };
                let services = by_host.entry(shared.to_owned()).or_default();
                if !services.contains(&at) {
                    services.push(at);
                }
            }
        }
    }
    by_host
}
