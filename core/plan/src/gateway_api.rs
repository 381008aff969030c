//! Kubernetes' Gateway API in Istio's words.
//!
//! Comes in: resources. Goes out: resources in which each Gateway of the API is one of Istio's and its routes are
//! VirtualServices, each for one listener and some of its hosts, in the order that the API asks for; so all that can be
//! attached to gateways acts there, too. Beside that what is wrong with them, and their statuses. Istio does the same.
//! How requests find a rule is the API's: the most specific host, the most specific match, the oldest route.
//!
//! Deliberately not here: what rules and servers do (`gateways`, `routes`).

mod attach;
mod backend_tls;
mod http;
mod status;
mod tell;

use std::borrow::Cow;

use naru_resource::gateway::{Port, Server, ServerTls, ServerTlsMode};
use naru_resource::gateway_api::{ApiAddress, ApiListener, BackendRef, FromNamespaces, ListenerTlsMode};
use naru_resource::virtual_service::{
    Bound as ForListener, Destination, HttpRoute, PortSelector, RouteDestination, TcpRoute, TlsMatch,
    TlsRoute, VirtualServiceSpec,
};
use naru_resource::{Gateway, Meta, Number, Place, Placed, Resources, Secret, Text, VirtualService};
use naru_spec::{Path, Severity, code};

use crate::findings::Findings;
use crate::names::{common, fits};

use attach::{Binding, Bound, Class, GatewayState, ListenerState, Route, RouteState, World, backend_of};
use http::Ranked;
use tell::Tell;

pub use status::{CONTROLLER, Condition, ListenerStatus, ParentName, ParentStatus, Status, statuses};

pub(crate) use backend_tls::BackendTls;
pub(crate) use http::escaped;

/// The label by which Istio's policies select a Gateway of the API.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The resources with everything of the Gateway API in Istio's words, and what is wrong with it.
pub(crate) fn expand<'a>(resources: &'a Resources, findings: &mut Findings<'_>) -> Cow<'a, Resources> {
    let has_routes = !resources.http_routes.is_empty()
        || !resources.grpc_routes.is_empty()
        || !resources.tls_routes.is_empty()
        || !resources.tcp_routes.is_empty();
    if !has_routes && resources.api_gateways.is_empty() {
        return Cow::Borrowed(resources);
    }
    for class in &resources.gateway_classes {
        if let Some(said) = class.spec.parameters_ref.as_ref() {
            let path = Path::ROOT.field("spec.parametersRef");
            let message = "naru has no parameters of a GatewayClass";
            findings.warning(
                code::NOT_YET,
                said.place,
                &path,
                message,
                "attach an EdgePolicy to the Gateway",
            );
        }
    }
    let world = World::of(resources);
    let mut expanded = resources.clone();
    for state in &world.gateways {
        check_gateway(state, findings);
        if state.class == Class::Ours {
            let gateway = gateway_of(state, resources, &mut expanded.secrets, findings);
            expanded.gateways.extend(gateway);
        }
    }
    let mut ruled: Vec<Ruled<'_>> = Vec::new();
    for state in &world.routes {
        check_route(state, resources, findings);
        let mut rules = http::routes(state.route, resources, &mut Tell(findings));
        // What is asked for in vain leads nowhere: it is not made, which was told.
        rules.sort_by_key(|(at, _)| *at);
        ruled.push(Ruled { state, rules });
    }
    let mut number = 0;
    for (at, gateway) in world.gateways.iter().enumerate() {
        if gateway.class != Class::Ours {
            continue;
        }
        for (listener_at, listener) in gateway.listeners.iter().enumerate() {
            if !listener.serves() {
                continue;
            }
            let spot = Spot { gateway, listener, at: (at, listener_at) };
            expanded.virtual_services.extend(of_http(&spot, &world, &ruled, &mut number));
            expanded.virtual_services.extend(of_streams(&spot, &world, resources, &mut number, findings));
        }
    }
    expanded.virtual_services.extend(in_mesh(&ruled, &mut number));
    Cow::Owned(expanded)
}

/// A route, and what its rules are in Istio's words.
struct Ruled<'a> {
    state: &'a RouteState<'a>,
    rules: Vec<(usize, Ranked)>,
}

/// A listener that is served.
struct Spot<'a> {
    gateway: &'a GatewayState<'a>,
    listener: &'a ListenerState<'a>,
    at: (usize, usize),
}

impl Spot<'_> {
    /// Whether another listener of the same port is closer to a host: then it is that one's, and this one is not asked.
    fn is_outdone(&self, host: &str, world: &World<'_>) -> bool {
        let values = |state: &GatewayState<'_>| -> Vec<String> {
            let addresses = state.gateway.spec.addresses.iter().filter(|address| attach::is_bound(address));
            addresses.filter_map(|address| Some(address.value.as_ref()?.value.clone())).collect()
        };
        let own = self.listener.hostname().to_ascii_lowercase();
        let beside = world
            .gateways
            .iter()
            .filter(|state| state.class == Class::Ours && values(state) == values(self.gateway));
        let mut others = beside
            .flat_map(|state| &state.listeners)
            .filter(|other| other.serves() && other.listener.port.value == self.listener.listener.port.value);
        others.any(|other| {
            let other = other.hostname().to_ascii_lowercase();
            covers(&other, host) && specificity(&other) > specificity(&own)
        })
    }

    fn bindings<'r>(&self, state: &'r RouteState<'_>) -> Vec<&'r Binding> {
        let bindings = state.parents.iter().filter_map(|parent| match &parent.outcome {
            Ok(Bound::Listeners(bindings)) => Some(bindings),
            _ => None,
        });
        bindings.flatten().filter(|binding| (binding.gateway, binding.listener) == self.at).collect()
    }

    /// A VirtualService for it and nobody else.
    fn service(&self, hosts: Vec<String>, number: &mut u32) -> VirtualService {
        *number += 1;
        let meta = &self.gateway.gateway.meta;
        let place = self.listener.listener.place;
        let listener = &self.listener.listener.name;
        let text = |value: String| Text { value, place };
        VirtualService {
            place,
            meta: Meta {
                name: text(format!("{}/{}/{number}", meta.name.value, listener.value)),
                labels: Vec::new(),
                created: None,
                generation: None,
                export_to: None,
                ..meta.clone()
            },
            spec: VirtualServiceSpec {
                place,
                hosts: hosts.into_iter().map(text).collect(),
                gateways: vec![text(format!("{}/{}", meta.namespace(), meta.name.value))],
                http: Vec::new(),
                tls: Vec::new(),
                tcp: Vec::new(),
                export_to: Vec::new(),
            },
            bound: Some(ForListener {
                place,
                namespace: meta.namespace().to_owned(),
                gateway: meta.name.value.clone(),
                listener: listener.value.clone(),
            }),
        }
    }
}

/// How far behind the most specific host, and which route.
type Taker = (usize, usize);

/// The HTTP and gRPC of a listener: for each host the rules of all routes that take it.
fn of_http(spot: &Spot<'_>, world: &World<'_>, ruled: &[Ruled<'_>], number: &mut u32) -> Vec<VirtualService> {
    let mut hosts: Vec<&str> = Vec::new();
    let mut taken: Vec<(&Ruled<'_>, Vec<&str>)> = Vec::new();
    for ruled in ruled.iter().filter(|ruled| matches!(ruled.state.route, Route::Http(_) | Route::Grpc(_))) {
        let bindings = spot.bindings(ruled.state);
        let own: Vec<&str> = bindings.iter().flat_map(|b| &b.hosts).map(String::as_str).collect();
        if !own.is_empty() {
            hosts.extend(&own);
            taken.push((ruled, own));
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts.retain(|host| !spot.is_outdone(host, world));
    // Hosts that the same routes take in the same order have one table.
    let mut tables: Vec<(Vec<Taker>, Vec<String>)> = Vec::new();
    for host in hosts {
        let mut takers: Vec<((usize, usize), usize)> = Vec::new();
        for (at, (_, own)) in taken.iter().enumerate() {
            // By the most specific of its hosts that has all of this one.
            let covering = own.iter().filter(|wide| common(wide, host) == Some(host) && covers(wide, host));
            let best = covering.map(|wide| specificity(wide)).max();
            takers.extend(best.map(|best| (best, at)));
        }
        takers.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        // Whether one host is more specific than another is all that counts.
        let mut level = 0;
        let mut before = None;
        let key: Vec<Taker> = takers
            .into_iter()
            .map(|(specific, at)| {
                if before.is_some_and(|before| before != specific) {
                    level += 1;
                }
                before = Some(specific);
                (level, at)
            })
            .collect();
        match tables.iter_mut().find(|(known, _)| *known == key) {
            Some((_, hosts)) => hosts.push(host.to_owned()),
            None => tables.push((key, vec![host.to_owned()])),
        }
    }
    let mut services = Vec::new();
    for (key, hosts) in tables {
        let entries = key.iter().flat_map(|(level, at)| {
            let rules = taken.get(*at).map_or(&[][..], |(ruled, _)| ruled.rules.as_slice());
            rules.iter().map(|(_, ranked)| (*level, ranked))
        });
        let mut service = spot.service(hosts, number);
        service.spec.http = ordered(entries.collect());
        services.push(service);
    }
    services
}

/// The more specific host first, then the more specific match, then the older route and the earlier rule, which is the
/// order that they come in.
fn ordered(mut entries: Vec<(usize, &Ranked)>) -> Vec<HttpRoute> {
    entries.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.rank.cmp(&a.1.rank)));
    entries.into_iter().map(|(_, ranked)| ranked.route.clone()).collect()
}

/// Whether a host, which may begin with a star, has all of another one.
fn covers(wide: &str, host: &str) -> bool {
    wide == host || (wide.starts_with('*') && fits(wide, host).is_some()) || wide == "*"
}

/// Characters of a host without a star, then of any.
fn specificity(host: &str) -> (usize, usize) {
    let exact = if host.starts_with('*') { 0 } else { host.len() };
    (exact, host.len())
}

/// What a listener passes through.
fn of_streams(
    spot: &Spot<'_>,
    world: &World<'_>,
    resources: &Resources,
    number: &mut u32,
    findings: &mut Findings<'_>,
) -> Vec<VirtualService> {
    let passes = attach::mode_of(spot.listener.listener) == ListenerTlsMode::Passthrough;
    let mut services = Vec::new();
    for state in &world.routes {
        let (Route::Tls(document) | Route::Tcp(document)) = state.route else { continue };
        let bindings = spot.bindings(state);
        let hosts: Vec<String> = bindings.iter().flat_map(|binding| binding.hosts.clone()).collect();
        if hosts.is_empty() {
            continue;
        }
        if let Some(second) = document.spec.rules.get(1) {
            let path = Path::ROOT.field("spec.rules");
            let message = "nobody gets to a second rule: there is nothing to tell connections apart by";
            findings.error(code::UNREACHABLE_RULE, second.place, &path.at(1), message, "write another route");
        }
        let Some(rule) = document.spec.rules.first() else { continue };
        let route = streams_to(state.route, &rule.backend_refs, resources);
        if route.is_empty() {
            continue;
        }
        let mut service = spot.service(hosts.clone(), number);
        service.place = document.place;
        if passes && spot.listener.listener.protocol.value == "TLS" {
            let text = |value: String| Text { value, place: document.place };
            let block = TlsMatch {
                place: rule.place,
                sni_hosts: hosts.into_iter().map(text).collect(),
                destination_subnets: Vec::new(),
                port: None,
                source_labels: Vec::new(),
                gateways: Vec::new(),
                source_namespace: None,
            };
            service.spec.tls = vec![TlsRoute { place: rule.place, matches: vec![block], route }];
        } else {
            service.spec.tcp = vec![TcpRoute { place: rule.place, matches: Vec::new(), route }];
        }
        services.push(service);
    }
    services
}

fn streams_to(route: Route<'_>, backends: &[BackendRef], resources: &Resources) -> Vec<RouteDestination> {
    let weight = |backend: &BackendRef| backend.weight.map_or(1, |said| said.value);
    if backends.iter().all(|backend| weight(backend) == 0) {
        return Vec::new();
    }
    let found = backends.iter().filter_map(|backend| {
        let (host, port) = backend_of(route.kind(), route.meta().namespace(), backend, resources).ok()?;
        let place = backend.name.place;
        let number = |value: i64, place: Place| Number { value, place };
        let port_place = backend.port.map_or(place, |port| port.place);
        Some(RouteDestination {
            place: backend.place,
            destination: Destination {
                place,
                host: Text { value: host, place },
                subset: None,
                port: port.map(|port| PortSelector {
                    place: port_place,
                    number: number(i64::from(port), port_place),
                }),
            },
            weight: Some(number(weight(backend), backend.weight.map_or(place, |said| said.place))),
        })
    });
    found.collect()
}

/// A host, the namespace of routes for it, and these with the port that they are for.
type OfService<'a> = (String, &'a str, Vec<(&'a Ruled<'a>, Option<u16>)>);

/// Routes whose parents are Services: for workloads that call these. One in the Service's own namespace is for all of
/// them, any other for those of its namespace.
fn in_mesh<'a>(ruled: &'a [Ruled<'a>], number: &mut u32) -> Vec<VirtualService> {
    let mut spots: Vec<OfService<'a>> = Vec::new();
    for ruled in ruled {
        let namespace = ruled.state.route.meta().namespace();
        for parent in &ruled.state.parents {
            let Ok(Bound::Service { host, port }) = &parent.outcome else { continue };
            match spots.iter_mut().find(|(known, of, _)| known == host && *of == namespace) {
                Some((_, _, list)) => list.push((ruled, *port)),
                None => spots.push((host.clone(), namespace, vec![(ruled, *port)])),
            }
        }
    }
    let mut services = Vec::new();
    for (host, namespace, list) in spots {
        let mut entries: Vec<(http::Rank, HttpRoute)> = Vec::new();
        for (ruled, port) in &list {
            for (_, ranked) in &ruled.rules {
                let mut route = ranked.route.clone();
                for block in &mut route.matches {
                    let place = block.place;
                    block.port = port.map(|port| Number { value: i64::from(port), place });
                }
                entries.push((ranked.rank, route));
            }
        }
        entries.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        let Some(first) = list.first() else { continue };
        *number += 1;
        let meta = first.0.state.route.meta();
        let place = meta.name.place;
        let text = |value: String| Text { value, place };
        let is_owner = host.split('.').nth(1) == Some(namespace);
        // A request that no rule takes is answered 404, as the API says.
        services.push(VirtualService {
            place,
            meta: Meta {
                name: text(format!("{}/{number}", meta.name.value)),
                labels: Vec::new(),
                created: None,
                generation: None,
                export_to: None,
                ..meta.clone()
            },
            spec: VirtualServiceSpec {
                place,
                hosts: vec![text(host)],
                gateways: Vec::new(),
                http: entries.into_iter().map(|(_, route)| route).collect(),
                tls: Vec::new(),
                tcp: Vec::new(),
                export_to: if is_owner { Vec::new() } else { vec![text(".".to_owned())] },
            },
            bound: None,
        });
    }
    services
}

/// Whether a VirtualService was made here.
pub(crate) fn is_made(service: &VirtualService) -> bool {
    service.bound.is_some() || service.spec.http.iter().any(|route| route.beyond.is_some())
}

/// What was found of a VirtualService that was made here, with the way to it in the document that it was made of.
pub(crate) fn retell(service: &VirtualService, told: Findings<'_>, findings: &mut Findings<'_>) {
    for mut problem in told.into_problems() {
        // Rules are ordered by what they match, and the last may well take all.
        let rest = problem.path.strip_prefix("spec.http[").and_then(|rest| rest.split_once(']'));
        if let Some((at, rest)) = rest {
            let route = at.parse::<usize>().ok().and_then(|at| service.spec.http.get(at));
            let Some(beyond) = route.and_then(|route| route.beyond.as_ref()) else { continue };
            let rest = rest
                .replace(".route[", ".backendRefs[")
                .replace(".destination.host", ".name")
                .replace(".destination.port.number", ".port")
                .replace(".match[", ".matches[")
                .replace(".retries.retryOn", ".retry.codes")
                .replace(".retries", ".retry");
            problem.path = format!("{}{rest}", beyond.path);
        } else if problem.path.starts_with("spec.tls[") || problem.path.starts_with("spec.tcp[") {
            problem.path = "spec.rules[0]".to_owned();
        }
        findings.adopt(problem);
    }
}

fn check_gateway(state: &GatewayState<'_>, findings: &mut Findings<'_>) {
    let gateway = state.gateway;
    let spec = Path::ROOT.field("spec");
    match state.class {
        Class::Ours => {}
        Class::Others => {
            let message = "the Gateway is another controller's: it is left out";
            let place = gateway.spec.gateway_class_name.place;
            let path = spec.field("gatewayClassName");
            findings.warning(code::NO_EFFECT, place, &path, message, "gatewayClassName: naru");
            return;
        }
        Class::Unknown => {
            let name = &gateway.spec.gateway_class_name;
            let message =
                format!("there is no GatewayClass '{}': nobody listens for the Gateway", name.value);
            let hint = "gatewayClassName: naru is always there";
            findings.error(
                code::UNKNOWN_REFERENCE,
                name.place,
                &spec.field("gatewayClassName"),
                message,
                hint,
            );
        }
    }
    if gateway.spec.listeners.is_empty() {
        let message = "a Gateway needs listeners";
        findings.error(code::MISSING_FIELD, gateway.spec.place, &spec.field("listeners"), message, "");
    }
    if let Some(failed) = &state.address {
        findings.error(code::UNSUPPORTED_FIELD, failed.place, &spec.field("addresses"), &failed.message, "");
    }
    let of_addresses = spec.field("addresses");
    let named = gateway.spec.addresses.iter().enumerate();
    for (at, address) in named.filter(|(_, address)| !attach::is_bound(address)) {
        let message = "nobody listens at a name: it has no effect here";
        let hint = "type: IPAddress, or say --gateway-address";
        findings.warning(code::NO_EFFECT, address.place, &of_addresses.at(at), message, hint);
    }
    if let Some(said) = gateway.spec.infrastructure.as_ref().and_then(|said| said.parameters_ref.as_ref()) {
        let path = spec.field("infrastructure.parametersRef");
        let message = "naru has no parameters of a Gateway there";
        findings.warning(code::NOT_YET, said.place, &path, message, "attach an EdgePolicy to the Gateway");
    }
    let listeners = spec.field("listeners");
    for (at, state) in state.listeners.iter().enumerate() {
        let path = listeners.at(at);
        let said = state.listener;
        let before =
            gateway.spec.listeners.iter().take(at).find(|before| before.name.value == said.name.value);
        if before.is_some() {
            let message = format!("the listener '{}' is there twice", said.name.value);
            findings.error(code::DUPLICATE, said.name.place, &path.field("name"), message, "");
        }
        for failed in [&state.conflicted, &state.unaccepted, &state.unresolved].into_iter().flatten() {
            let code = match failed.reason {
                "ProtocolConflict" | "HostnameConflict" => code::CONFLICT,
                "UnsupportedProtocol" => code::UNSUPPORTED_FIELD,
                _ => code::UNKNOWN_REFERENCE,
            };
            let message = format!("{} ({})", failed.message, failed.reason);
            findings.error(code, failed.place, &path, message, "");
        }
        check_listener(said, &path, findings);
    }
}

fn check_listener(said: &ApiListener, path: &Path<'_>, findings: &mut Findings<'_>) {
    if said.protocol.value == "HTTP"
        && let Some(tls) = &said.tls
    {
        let message = "a listener of HTTP has no TLS";
        findings.error(code::CONFLICTING_FIELDS, tls.place, &path.field("tls"), message, "protocol: HTTPS");
    }
    if said.protocol.value == "HTTPS" && attach::mode_of(said) == ListenerTlsMode::Passthrough {
        let message = "a listener of HTTPS ends TLS";
        let hint = "protocol: TLS passes it through";
        findings.error(code::CONFLICTING_FIELDS, said.protocol.place, &path.field("protocol"), message, hint);
    }
    if let Some(tls) = said.tls.as_ref().filter(|_| attach::mode_of(said) == ListenerTlsMode::Passthrough) {
        let of_refs = tls.certificate_refs.first().map(|first| (first.place, "tls.certificateRefs"));
        let of_clients = tls.frontend_validation.as_ref().map(|said| (said.place, "tls.frontendValidation"));
        for (place, field) in of_refs.into_iter().chain(of_clients) {
            let message = "TLS that is passed through ends elsewhere: nobody here has it";
            findings.warning(code::NO_EFFECT, place, &path.field(field), message, "mode: Terminate");
        }
    }
    let namespaces = said.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    if let Some(namespaces) = namespaces
        && let Some(selector) = &namespaces.selector
        && namespaces.from.is_none_or(|from| from.value != FromNamespaces::Selector)
    {
        let path = path.field("allowedRoutes.namespaces.selector");
        let message = "namespaces are not chosen by it";
        findings.warning(code::NO_EFFECT, selector.place, &path, message, "from: Selector");
    }
    for expression in namespaces.iter().flat_map(|n| &n.selector).flat_map(|s| &s.match_expressions) {
        if !matches!(expression.operator.as_str(), "In" | "NotIn" | "Exists" | "DoesNotExist") {
            let message = format!("'{}' is no operator of a selector", expression.operator.value);
            let path = path.field("allowedRoutes.namespaces.selector");
            let hint = "one of In, NotIn, Exists, DoesNotExist";
            findings.error(code::UNKNOWN_VALUE, expression.operator.place, &path, message, hint);
        }
    }
    for (key, value) in said.tls.iter().flat_map(|tls| &tls.options) {
        if !matches!(key.value.as_str(), MIN_VERSION | MAX_VERSION | CIPHERS) {
            let message = format!("naru does not know the option '{}' of TLS", key.value);
            let hint = format!("{MIN_VERSION}, {MAX_VERSION} and {CIPHERS} are there");
            findings.error(code::UNKNOWN_FIELD, value.place, &path.field("tls.options"), message, hint);
        }
    }
}

const MIN_VERSION: &str = "gateway.istio.io/tls-min-protocol-version";
const MAX_VERSION: &str = "gateway.istio.io/tls-max-protocol-version";
const CIPHERS: &str = "gateway.istio.io/tls-cipher-suites";

fn check_route(state: &RouteState<'_>, resources: &Resources, findings: &mut Findings<'_>) {
    let spec = Path::ROOT.field("spec");
    let parents = spec.field("parentRefs");
    if state.parents.is_empty() {
        let place = state.route.meta().name.place;
        let message = "it has no parent, and takes no request";
        findings.warning(code::NO_EFFECT, place, &parents, message, "parentRefs: [{name: GATEWAY}]");
    }
    for (at, parent) in state.parents.iter().enumerate() {
        let Err(failed) = &parent.outcome else { continue };
        let path = parents.at(at);
        let message = format!("the route is not attached: {} ({})", failed.message, failed.reason);
        // Where documents speak of routes only, the Gateway is elsewhere.
        let is_alone = resources.api_gateways.is_empty() && resources.services.is_empty();
        let (severity, code) = match parent.is_there {
            true => (Severity::Warning, code::NO_EFFECT),
            false if is_alone => (Severity::Note, code::UNKNOWN_REFERENCE),
            false => (Severity::Error, code::UNKNOWN_REFERENCE),
        };
        findings.tell(severity, code, failed.place, &path, message, "");
    }
    for (path, failed) in &state.unresolved {
        let message = format!("{} ({})", failed.message, failed.reason);
        let path = Path::ROOT.field(path);
        findings.error(code::UNKNOWN_REFERENCE, failed.place, &path, message, "");
    }
    for (at, host) in state.route.hostnames().iter().enumerate() {
        let listed = spec.field("hostnames");
        let inner = host.strip_prefix("*.").unwrap_or(host);
        let is_name = !inner.is_empty()
            && inner
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        if !is_name || host.parse::<std::net::IpAddr>().is_ok() {
            let message = format!("'{}' is no hostname", host.value);
            let hint = "a name, or *.example.com; no port and no address";
            findings.error(code::INVALID_VALUE, host.place, &listed.at(at), message, hint);
        }
    }
    if let Route::Tls(route) = state.route
        && route.spec.hostnames.is_empty()
        && state.parents.iter().any(|parent| parent.outcome.is_ok())
    {
        let place = route.meta.name.place;
        let message = "without hostnames it takes every server name of its listener";
        findings.tell(Severity::Note, code::DIFFERS, place, &spec.field("hostnames"), message, "");
    }
}

/// One of Istio's, with a server for each listener and address.
fn gateway_of(
    state: &GatewayState<'_>,
    resources: &Resources,
    secrets: &mut Vec<Secret>,
    findings: &mut Findings<'_>,
) -> Option<Gateway> {
    let gateway = state.gateway;
    let mut servers = Vec::new();
    let bound = gateway.spec.addresses.iter().filter(|address| attach::is_bound(address));
    let mut addresses: Vec<Option<&ApiAddress>> = bound.map(Some).collect();
    if addresses.is_empty() {
        addresses.push(None);
    }
    for (at, listener) in state.listeners.iter().enumerate() {
        if !listener.serves() {
            continue;
        }
        let listeners = Path::ROOT.field("spec.listeners");
        let path = listeners.at(at);
        let tls = server_tls(state, listener, resources, secrets, &path, findings);
        for address in &addresses {
            servers.push(server(listener, address.and_then(|address| address.value.clone()), tls.clone()));
        }
    }
    let name = &gateway.meta.name;
    let key = Text { value: GATEWAY_NAME.to_owned(), place: name.place };
    (!servers.is_empty()).then(|| Gateway {
        place: gateway.place,
        meta: gateway.meta.clone(),
        http3: None,
        is_api: true,
        spec: naru_resource::gateway::GatewaySpec {
            place: gateway.spec.place,
            servers,
            selector: vec![(key, name.clone())],
        },
    })
}

fn server(state: &ListenerState<'_>, bind: Option<Text>, tls: Option<ServerTls>) -> Server {
    let said = state.listener;
    let host = said.hostname.as_ref().map_or(said.place, |host| host.place);
    Server {
        place: said.place,
        port: Port {
            place: said.port.place,
            number: said.port,
            protocol: said.protocol.clone(),
            name: Some(said.name.clone()),
            target_port: None,
        },
        bind,
        hosts: vec![Text { value: state.hostname().to_owned(), place: host }],
        tls,
        default_endpoint: None,
        name: Some(said.name.clone()),
    }
}

fn server_tls(
    state: &GatewayState<'_>,
    listener: &ListenerState<'_>,
    resources: &Resources,
    secrets: &mut Vec<Secret>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<ServerTls> {
    let said = listener.listener;
    if !matches!(said.protocol.value.as_str(), "HTTPS" | "TLS") {
        return None;
    }
    let place = said.tls.as_ref().map_or(said.place, |tls| tls.place);
    let validation = said.tls.as_ref().and_then(|tls| tls.frontend_validation.as_ref());
    let insecure = validation.and_then(|said| said.mode.as_ref());
    let mode = match (attach::mode_of(said), validation) {
        (ListenerTlsMode::Passthrough, _) => ServerTlsMode::Passthrough,
        (ListenerTlsMode::Terminate, None) => ServerTlsMode::Simple,
        (ListenerTlsMode::Terminate, Some(_))
            if insecure.is_some_and(|m| m.value == "AllowInsecureFallback") =>
        {
            ServerTlsMode::OptionalMutual
        }
        (ListenerTlsMode::Terminate, Some(_)) => ServerTlsMode::Mutual,
    };
    let mut ca = None;
    if let Some(validation) = validation {
        let path = path.field("tls.frontendValidation.caCertificateRefs");
        let namespace = state.gateway.meta.namespace();
        ca = backend_tls::authorities(
            &validation.ca_certificate_refs,
            namespace,
            resources,
            secrets,
            &path,
            findings,
        )
        .map(|value| Text { value, place: validation.place });
        if let Some(mode) =
            insecure.filter(|mode| !matches!(mode.as_str(), "AllowValidOnly" | "AllowInsecureFallback"))
        {
            let message = format!("'{}' is not known here", mode.value);
            findings.error(
                code::UNKNOWN_VALUE,
                mode.place,
                &path,
                message,
                "AllowValidOnly or AllowInsecureFallback",
            );
        }
    }
    let option = |name: &str| {
        let options = said.tls.iter().flat_map(|tls| &tls.options);
        options.into_iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
    };
    let mut version = |name: &str| {
        let said = option(name)?;
        let value = match said.as_str() {
            "TLSV1_2" | "1.2" => naru_resource::gateway::TlsProtocol::V1_2,
            "TLSV1_3" | "1.3" => naru_resource::gateway::TlsProtocol::V1_3,
            other => {
                let message = format!("'{other}' is no version of TLS that naru speaks");
                findings.error(
                    code::UNKNOWN_VALUE,
                    said.place,
                    &path.field("tls.options"),
                    message,
                    "1.2 or 1.3",
                );
                return None;
            }
        };
        Some(Placed { value, place: said.place })
    };
    let (min_protocol_version, max_protocol_version) = (version(MIN_VERSION), version(MAX_VERSION));
    let suites = option(CIPHERS).map(|said| {
        let all = said.split(',').map(|suite| Text { value: suite.trim().to_owned(), place: said.place });
        all.collect()
    });
    Some(ServerTls {
        place,
        https_redirect: None,
        mode: Some(Placed { value: mode, place }),
        server_certificate: None,
        private_key: None,
        ca_certificates: None,
        ca_crl: None,
        credential_name: None,
        credential_names: listener.certificates.clone(),
        ca_cert_credential_name: ca,
        tls_certificates: Vec::new(),
        subject_alt_names: Vec::new(),
        verify_certificate_spki: Vec::new(),
        verify_certificate_hash: Vec::new(),
        min_protocol_version,
        max_protocol_version,
        cipher_suites: suites.unwrap_or_default(),
        insecure_skip_verify: None,
    })
}

/// Whether a rule for one listener is for a server.
pub(crate) fn is_for(bound: &ForListener, gateway: &Gateway, server: &Server) -> bool {
    gateway.is_api
        && gateway.meta.name.value == bound.gateway
        && gateway.meta.namespace() == bound.namespace
        && server.name.as_ref().is_some_and(|name| name.value == bound.listener)
}
