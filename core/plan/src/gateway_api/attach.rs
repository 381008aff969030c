//! Which routes are for which listeners, and what keeps the others away.
//!
//! Comes in: resources. Goes out: for every Gateway and listener whether it serves, for every route and parent where it
//! is attached and by which hosts, and whether all that it refers to is there. Source: `apis/v1` of
//! sigs.k8s.io/gateway-api. Everything is in the order of documents, and whoever comes first where several ask for the
//! same is the older, then by namespace and name.

use naru_resource::gateway_api::{
    ApiAddress, ApiListener, BackendRef, Filter, FromNamespaces, ListenerTlsMode, ObjectRef, ParentRef,
    Selector,
};
use naru_resource::{
    ApiGateway, ApiGrpcRoute, ApiHttpRoute, ApiStreamRoute, Meta, Place, Resources, Text, Texts,
};

use super::status::{Condition, Failed, ListenerStatus, ParentName, ParentStatus, Status};
use crate::names::{DOMAIN, common};
use crate::registry::plain;

pub(super) const GROUP: &str = "gateway.networking.k8s.io";
/// Controllers whose classes are served: our own, and Istio's, whose documents naru reads.
const CONTROLLERS: [&str; 2] = [super::status::CONTROLLER, "istio.io/gateway-controller"];
/// Classes that are there without a document.
const CLASSES: [&str; 2] = ["naru", "istio"];
/// Istio's own, for proxies of other kinds.
const OTHERS: [&str; 3] = ["istio-waypoint", "istio-east-west", "istio-remote"];

/// An address of this kind names what stands before a Gateway in a cluster, and nowhere to listen.
const HOSTNAME: &str = "Hostname";

/// Whether a Gateway listens at it.
pub(super) fn is_bound(address: &ApiAddress) -> bool {
    address.kind.as_ref().is_none_or(|kind| kind.value != HOSTNAME)
}

pub(super) fn is_ours(controller: &str) -> bool {
    CONTROLLERS.contains(&controller)
}

/// A route of any kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route<'a> {
    Http(&'a ApiHttpRoute),
    Grpc(&'a ApiGrpcRoute),
    Tls(&'a ApiStreamRoute),
    Tcp(&'a ApiStreamRoute),
}

impl<'a> Route<'a> {
    pub fn kind(self) -> &'static str {
        match self {
            Route::Http(_) => "HTTPRoute",
            Route::Grpc(_) => "GRPCRoute",
            Route::Tls(_) => "TLSRoute",
            Route::Tcp(_) => "TCPRoute",
        }
    }

    pub fn meta(self) -> &'a Meta {
        match self {
            Route::Http(route) => &route.meta,
            Route::Grpc(route) => &route.meta,
            Route::Tls(route) | Route::Tcp(route) => &route.meta,
        }
    }

    pub fn place(self) -> Place {
        match self {
            Route::Http(route) => route.place,
            Route::Grpc(route) => route.place,
            Route::Tls(route) | Route::Tcp(route) => route.place,
        }
    }

    pub fn parents(self) -> &'a [ParentRef] {
        match self {
            Route::Http(route) => &route.spec.parent_refs,
            Route::Grpc(route) => &route.spec.parent_refs,
            Route::Tls(route) | Route::Tcp(route) => &route.spec.parent_refs,
        }
    }

    pub fn hostnames(self) -> &'a Texts {
        match self {
            Route::Http(route) => &route.spec.hostnames,
            Route::Grpc(route) => &route.spec.hostnames,
            Route::Tls(route) | Route::Tcp(route) => &route.spec.hostnames,
        }
    }

    /// Everybody that it sends to, with the way there.
    pub fn backends(self) -> Vec<(String, &'a BackendRef)> {
        let mut found = Vec::new();
        let mut add = |rule: usize, refs: &'a [BackendRef], filters: &'a [Filter]| {
            let path = format!("spec.rules[{rule}]");
            found.extend(
                refs.iter().enumerate().map(|(at, backend)| (format!("{path}.backendRefs[{at}]"), backend)),
            );
            let own = refs.iter().flat_map(|backend| &backend.filters);
            for (at, filter) in filters.iter().chain(own).enumerate() {
                let mirror = filter.request_mirror.as_ref();
                found.extend(mirror.map(|mirror| {
                    (format!("{path}.filters[{at}].requestMirror.backendRef"), &mirror.backend_ref)
                }));
            }
        };
        match self {
            Route::Http(route) => {
                for (at, rule) in route.spec.rules.iter().enumerate() {
                    add(at, &rule.backend_refs, &rule.filters);
                }
            }
            Route::Grpc(route) => {
                for (at, rule) in route.spec.rules.iter().enumerate() {
                    add(at, &rule.backend_refs, &rule.filters);
                }
            }
            Route::Tls(route) | Route::Tcp(route) => {
                for (at, rule) in route.spec.rules.iter().enumerate() {
                    add(at, &rule.backend_refs, &[]);
                }
            }
        }
        found
    }

    fn is_http(self) -> bool {
        matches!(self, Route::Http(_) | Route::Grpc(_))
    }
}

/// Who comes first: the older, then by namespace and name.
pub(super) fn precedence(meta: &Meta) -> (bool, &str, &str, &str) {
    let created = meta.created.as_ref().map_or("", |created| created.as_str());
    (meta.created.is_none(), created, meta.namespace(), &meta.name)
}

#[derive(Debug)]
pub(super) struct World<'a> {
    pub gateways: Vec<GatewayState<'a>>,
    pub routes: Vec<RouteState<'a>>,
}

#[derive(Debug)]
pub(super) struct GatewayState<'a> {
    pub gateway: &'a ApiGateway,
    pub class: Class,
    pub listeners: Vec<ListenerState<'a>>,
    /// An address that cannot be bound.
    pub address: Option<Failed>,
}

/// Whose a Gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Ours,
    /// Another controller's.
    Others,
    Unknown,
}

#[derive(Debug)]
pub(super) struct ListenerState<'a> {
    pub listener: &'a ApiListener,
    /// What may be attached: of what the protocol takes, what is allowed.
    pub kinds: Vec<&'static str>,
    /// Another listener has the port, or port and name.
    pub conflicted: Option<Failed>,
    pub unaccepted: Option<Failed>,
    pub unresolved: Option<Failed>,
    /// `namespace/name` of Secrets.
    pub certificates: Vec<Text>,
    pub attached: u32,
}

impl ListenerState<'_> {
    /// Whether anybody listens for it.
    pub fn serves(&self) -> bool {
        self.conflicted.is_none() && self.unaccepted.is_none() && self.unresolved.is_none()
    }

    /// Without one it is for all.
    pub fn hostname(&self) -> &str {
        let said = self.listener.hostname.as_ref().map(|host| host.as_str());
        said.filter(|host| !host.is_empty()).unwrap_or("*")
    }

    fn status(&self) -> ListenerStatus {
        let mut conditions = Vec::new();
        match &self.unaccepted {
            None => conditions.push(Condition::yes("Accepted", "Accepted")),
            Some(failed) => conditions.push(Condition::no("Accepted", failed)),
        }
        match &self.conflicted {
            None => conditions.push(Condition {
                kind: "Conflicted",
                status: false,
                reason: "NoConflicts",
                message: String::new(),
            }),
            Some(failed) => {
                conditions.push(Condition { status: true, ..Condition::no("Conflicted", failed) })
            }
        }
        match &self.unresolved {
            None => conditions.push(Condition::yes("ResolvedRefs", "ResolvedRefs")),
            Some(failed) => conditions.push(Condition::no("ResolvedRefs", failed)),
        }
        conditions.push(Condition {
            kind: "Programmed",
            status: self.serves(),
            reason: if self.serves() { "Programmed" } else { "Invalid" },
            message: String::new(),
        });
        ListenerStatus {
            name: self.listener.name.value.clone(),
            attached_routes: self.attached,
            supported_kinds: self.kinds.clone(),
            conditions,
        }
    }
}

impl GatewayState<'_> {
    /// Nothing for those of other controllers.
    pub fn status(&self) -> Option<Status> {
        if self.class == Class::Others {
            return None;
        }
        let is_whole = self.listeners.iter().all(ListenerState::serves);
        let is_served = self.listeners.iter().any(ListenerState::serves) && self.class == Class::Ours;
        let condition = |kind, status, reason: &'static str, message: &str| Condition {
            kind,
            status,
            reason,
            message: message.to_owned(),
        };
        let accepted = match (&self.class, &self.address) {
            (Class::Unknown, _) => condition("Accepted", false, "Pending", "there is no such GatewayClass"),
            (_, Some(failed)) => Condition::no("Accepted", failed),
            _ if !is_whole => {
                condition("Accepted", true, "ListenersNotValid", "some of its listeners are not served")
            }
            _ => condition("Accepted", true, "Accepted", ""),
        };
        let programmed = match &self.address {
            Some(failed) => Condition { reason: "AddressNotUsable", ..Condition::no("Programmed", failed) },
            None if is_served => condition("Programmed", true, "Programmed", ""),
            None => condition("Programmed", false, "Invalid", "nobody listens for it"),
        };
        Some(Status {
            kind: "Gateway",
            namespace: self.gateway.meta.namespace().to_owned(),
            name: self.gateway.meta.name.value.clone(),
            place: self.gateway.place,
            generation: self.gateway.meta.generation.map(|said| said.value),
            conditions: vec![accepted, programmed],
            listeners: self.listeners.iter().map(ListenerState::status).collect(),
            parents: Vec::new(),
        })
    }
}

#[derive(Debug)]
pub(super) struct RouteState<'a> {
    pub route: Route<'a>,
    pub parents: Vec<ParentState<'a>>,
    /// Backends that are not there, or may not be spoken of, with the way to each.
    pub unresolved: Vec<(String, Failed)>,
}

#[derive(Debug)]
pub(super) struct ParentState<'a> {
    pub parent: &'a ParentRef,
    pub outcome: Result<Bound, Failed>,
    /// Nobody knows of such a parent; the status of a route says nothing of those.
    pub is_there: bool,
}

/// Where a route is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Listeners(Vec<Binding>),
    /// In the mesh, to who calls this host, at this port or at all.
    Service {
        host: String,
        port: Option<u16>,
    },
}

/// A listener, and the hosts by which a route is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub gateway: usize,
    pub listener: usize,
    pub hosts: Vec<String>,
}

impl RouteState<'_> {
    pub fn status(&self) -> Status {
        let meta = self.route.meta();
        let parents = self.parents.iter().filter(|parent| parent.is_there).map(|state| {
            let accepted = match &state.outcome {
                Ok(_) => Condition::yes("Accepted", "Accepted"),
                Err(failed) => Condition::no("Accepted", failed),
            };
            let resolved = match self.unresolved.first() {
                None => Condition::yes("ResolvedRefs", "ResolvedRefs"),
                Some((_, failed)) => Condition::no("ResolvedRefs", failed),
            };
            let of = state.parent;
            let text = |said: &Option<Text>, usual: &str| {
                said.as_ref().map_or_else(|| usual.to_owned(), |said| said.value.clone())
            };
            let parent = ParentName {
                group: text(&of.group, GROUP),
                kind: text(&of.kind, "Gateway"),
                namespace: text(&of.namespace, meta.namespace()),
                name: of.name.value.clone(),
                section: of.section_name.as_ref().map(|said| said.value.clone()),
                port: of.port.map(|said| said.value),
            };
            ParentStatus { parent, conditions: vec![accepted, resolved] }
        });
        Status {
            kind: self.route.kind(),
            namespace: meta.namespace().to_owned(),
            name: meta.name.value.clone(),
            place: self.route.place(),
            generation: meta.generation.map(|said| said.value),
            conditions: Vec::new(),
            listeners: Vec::new(),
            parents: parents.collect(),
        }
    }
}

impl<'a> World<'a> {
    pub fn of(resources: &'a Resources) -> World<'a> {
        let gateways = resources.api_gateways.iter().map(|gateway| gateway_of(gateway, resources));
        let mut world = World { gateways: gateways.collect(), routes: Vec::new() };
        let mut routes: Vec<Route<'a>> = Vec::new();
        routes.extend(resources.http_routes.iter().map(Route::Http));
        routes.extend(resources.grpc_routes.iter().map(Route::Grpc));
        routes.extend(resources.tls_routes.iter().map(Route::Tls));
        routes.extend(resources.tcp_routes.iter().map(Route::Tcp));
        routes.sort_by(|a, b| precedence(a.meta()).cmp(&precedence(b.meta())));
        for route in routes {
            let parents = route.parents().iter().map(|parent| world.parent(route, parent, resources));
            let parents: Vec<ParentState<'a>> = parents.collect();
            for state in &parents {
                if let Ok(Bound::Listeners(bindings)) = &state.outcome {
                    for binding in bindings {
                        let gateway = world.gateways.get_mut(binding.gateway);
                        if let Some(listener) =
                            gateway.and_then(|found| found.listeners.get_mut(binding.listener))
                        {
                            listener.attached += 1;
                        }
                    }
                }
            }
            let unresolved = route.backends().into_iter().filter_map(|(path, backend)| {
                backend_of(route.kind(), route.meta().namespace(), backend, resources)
                    .err()
                    .map(|failed| (path, failed))
            });
            let unresolved = unresolved.collect();
            world.routes.push(RouteState { route, parents, unresolved });
        }
        world
    }

    fn parent(&self, route: Route<'a>, parent: &'a ParentRef, resources: &Resources) -> ParentState<'a> {
        let namespace = parent.namespace.as_ref().map_or(route.meta().namespace(), |said| said.as_str());
        let kind = parent.kind.as_ref().map_or("Gateway", |kind| kind.as_str());
        let group = parent.group.as_ref().map_or(GROUP, |group| group.as_str());
        let failed = |reason, message: String| Failed { reason, message, place: parent.place };
        let state = |outcome, is_there| ParentState { parent, outcome, is_there };
        match (group, kind) {
            ("" | "core", "Service") => {
                if !route.is_http() {
                    let message = format!("naru attaches a {} to Gateways only", route.kind());
                    return state(Err(failed("InvalidKind", message)), true);
                }
                let known = resources.services.iter().find(|service| {
                    service.meta.name.value == parent.name.value && service.meta.namespace() == namespace
                });
                let Some(known) = known else {
                    let message = format!("there is no Service '{}' in {namespace}", parent.name.value);
                    return state(Err(failed("NoMatchingParent", message)), false);
                };
                let port = parent.port.as_ref().and_then(|port| u16::try_from(port.value).ok());
                let has = |port: u16| known.spec.ports.iter().any(|own| own.port.value == i64::from(port));
                if parent.port.is_some() && !port.is_some_and(has) {
                    let message = format!("the Service '{}' has no such port", parent.name.value);
                    return state(Err(failed("NoMatchingParent", message)), true);
                }
                let host = format!("{}.{namespace}.{DOMAIN}", parent.name.value);
                state(Ok(Bound::Service { host, port }), true)
            }
            (GROUP, "Gateway") => {
                let found = self.gateways.iter().position(|state| {
                    state.gateway.meta.name.value == parent.name.value
                        && state.gateway.meta.namespace() == namespace
                });
                let Some(at) = found else {
                    let message = format!("there is no Gateway '{}' in {namespace}", parent.name.value);
                    return state(Err(failed("NoMatchingParent", message)), false);
                };
                if self.gateways[at].class == Class::Others {
                    let message = format!("the Gateway '{}' is another controller's", parent.name.value);
                    return state(Err(failed("NoMatchingParent", message)), false);
                }
                let outcome = self.bindings(at, route, parent, resources);
                state(outcome.map(Bound::Listeners), true)
            }
            _ => {
                let message = format!("naru attaches no route to a {kind} of group '{group}'");
                state(Err(failed("InvalidKind", message)), true)
            }
        }
    }

    fn bindings(
        &self,
        at: usize,
        route: Route<'a>,
        parent: &ParentRef,
        resources: &Resources,
    ) -> Result<Vec<Binding>, Failed> {
        let state = &self.gateways[at];
        let failed =
            |reason, message: &str| Failed { reason, message: message.to_owned(), place: parent.place };
        let is_meant = |listener: &&(usize, &ListenerState<'_>)| {
            let said = listener.1.listener;
            parent.section_name.as_ref().is_none_or(|section| section.value == said.name.value)
                && parent.port.as_ref().is_none_or(|port| port.value == said.port.value)
        };
        let all: Vec<(usize, &ListenerState<'_>)> = state.listeners.iter().enumerate().collect();
        let meant: Vec<_> = all.iter().filter(is_meant).collect();
        if meant.is_empty() {
            return Err(failed("NoMatchingParent", "the Gateway has no listener of this name and port"));
        }
        let owner = state.gateway.meta.namespace();
        let allowed: Vec<_> = meant
            .into_iter()
            .filter(|(_, listener)| {
                listener.kinds.contains(&route.kind())
                    && admits(listener.listener, owner, route.meta().namespace(), resources)
            })
            .collect();
        if allowed.is_empty() {
            let message = "no listener allows routes of this kind from this namespace";
            return Err(failed("NotAllowedByListeners", message));
        }
        let mut bindings = Vec::new();
        for (number, listener) in allowed {
            let hosts = shared(listener.hostname(), route.hostnames());
            if !hosts.is_empty() && listener.serves() {
                bindings.push(Binding { gateway: at, listener: *number, hosts });
            } else if !hosts.is_empty() {
                // It is attached; that nobody listens is the listener's matter.
                bindings.push(Binding { gateway: at, listener: *number, hosts: Vec::new() });
            }
        }
        if bindings.is_empty() {
            let message = "no listener has a hostname that the route's hostnames fit";
            return Err(failed("NoMatchingListenerHostname", message));
        }
        self.check_other_kind(route, &bindings, parent.place)?;
        Ok(bindings)
    }

    /// Of an HTTPRoute and a GRPCRoute at one listener whose hosts meet, only the one that comes first is there.
    fn check_other_kind(&self, route: Route<'a>, bindings: &[Binding], place: Place) -> Result<(), Failed> {
        if !route.is_http() {
            return Ok(());
        }
        for other in self.routes.iter().filter(|other| other.route.is_http()) {
            if other.route.kind() == route.kind() {
                continue;
            }
            let theirs = other.parents.iter().filter_map(|parent| match &parent.outcome {
                Ok(Bound::Listeners(bindings)) => Some(bindings),
                _ => None,
            });
            for theirs in theirs.flatten() {
                let meets = |ours: &&Binding| {
                    (ours.gateway, ours.listener) == (theirs.gateway, theirs.listener)
                        && ours
                            .hosts
                            .iter()
                            .any(|one| theirs.hosts.iter().any(|host| common(one, host).is_some()))
                };
                if bindings.iter().any(|ours| meets(&ours)) {
                    let meta = other.route.meta();
                    let message = format!(
                        "the {} '{}' in {} has hosts of it already, and they cannot be of both kinds",
                        other.route.kind(),
                        meta.name.value,
                        meta.namespace(),
                    );
                    return Err(Failed { reason: "Conflicted", message, place });
                }
            }
        }
        Ok(())
    }
}

/// The hosts that a listener and a route have in common; all of the listener's where the route names none.
fn shared(listener: &str, hostnames: &Texts) -> Vec<String> {
    let listener = listener.to_ascii_lowercase();
    if hostnames.is_empty() {
        return vec![listener];
    }
    let mut found: Vec<String> = Vec::new();
    for host in hostnames {
        let host = host.to_ascii_lowercase();
        if let Some(both) = common(&listener, &host)
            && !found.iter().any(|known| known == both)
        {
            found.push(both.to_owned());
        }
    }
    found
}

/// Whether a listener lets routes of a namespace in.
fn admits(listener: &ApiListener, owner: &str, namespace: &str, resources: &Resources) -> bool {
    let said = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    match said.and_then(|said| said.from.as_ref()).map_or(FromNamespaces::Same, |from| from.value) {
        FromNamespaces::All => true,
        FromNamespaces::Same => owner == namespace,
        FromNamespaces::None => false,
        FromNamespaces::Selector => {
            let Some(selector) = said.and_then(|said| said.selector.as_ref()) else { return false };
            let document = resources.namespaces.iter().find(|known| known.meta.name.value == namespace);
            let mut labels = document.map(|document| plain(&document.meta.labels)).unwrap_or_default();
            // Kubernetes gives every namespace this label.
            labels.push(("kubernetes.io/metadata.name".to_owned(), namespace.to_owned()));
            selects(selector, &labels)
        }
    }
}

/// Kubernetes' label selector.
fn selects(selector: &Selector, labels: &[(String, String)]) -> bool {
    let value = |key: &str| labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    selector.match_labels.iter().all(|(key, wanted)| value(key) == Some(wanted.as_str()))
        && selector.match_expressions.iter().all(|said| {
            let found = value(&said.key);
            let is_among = found.is_some_and(|found| said.values.iter().any(|wanted| wanted.value == found));
            match said.operator.as_str() {
                "In" => is_among,
                "NotIn" => !is_among,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                // Told of where the Gateway is read.
                _ => false,
            }
        })
}

fn gateway_of<'a>(gateway: &'a ApiGateway, resources: &'a Resources) -> GatewayState<'a> {
    let name = gateway.spec.gateway_class_name.as_str();
    let document = resources.gateway_classes.iter().find(|class| class.meta.name.value == name);
    let class = match document {
        Some(class) if is_ours(&class.spec.controller_name) => Class::Ours,
        Some(_) => Class::Others,
        None if CLASSES.contains(&name) => Class::Ours,
        None if OTHERS.contains(&name) => Class::Others,
        None => Class::Unknown,
    };
    let listeners = gateway.spec.listeners.iter().enumerate();
    let listeners = listeners.map(|(at, listener)| listener_of(gateway, at, listener, resources)).collect();
    let address = gateway.spec.addresses.iter().find_map(|address| {
        let failed = |reason, message: String| Some(Failed { reason, message, place: address.place });
        let kind = address.kind.as_ref().map_or("IPAddress", |kind| kind.as_str());
        let value = address.value.as_ref().map_or("", |value| value.as_str());
        if kind == HOSTNAME {
            return None;
        }
        if kind != "IPAddress" {
            return failed("UnsupportedAddress", format!("naru binds addresses, and no {kind}"));
        }
        match value.parse::<std::net::IpAddr>() {
            Ok(_) => None,
            Err(_) => failed("UnsupportedAddress", format!("'{value}' is not an IP address")),
        }
    });
    GatewayState { gateway, class, listeners, address }
}

fn listener_of<'a>(
    gateway: &'a ApiGateway,
    at: usize,
    listener: &'a ApiListener,
    resources: &'a Resources,
) -> ListenerState<'a> {
    let passes = mode_of(listener) == ListenerTlsMode::Passthrough;
    let protocol = listener.protocol.as_str();
    let of_protocol: &[&'static str] = match protocol {
        "HTTP" | "HTTPS" => &["HTTPRoute", "GRPCRoute"],
        "TLS" if passes => &["TLSRoute"],
        "TLS" => &["TCPRoute", "TLSRoute"],
        "TCP" => &["TCPRoute"],
        _ => &[],
    };
    let mut state = ListenerState {
        listener,
        kinds: of_protocol.to_vec(),
        conflicted: conflict(gateway, at, listener),
        unaccepted: None,
        unresolved: None,
        certificates: Vec::new(),
        attached: 0,
    };
    if of_protocol.is_empty() {
        let message = format!("naru serves no '{protocol}' of a Gateway");
        state.unaccepted =
            Some(Failed { reason: "UnsupportedProtocol", message, place: listener.protocol.place });
    }
    let said = listener.allowed_routes.iter().flat_map(|allowed| &allowed.kinds).collect::<Vec<_>>();
    if !said.is_empty() {
        let is_group = |group: Option<&Text>| group.is_none_or(|group| group.value == GROUP);
        let is_known = |kind: &&&naru_resource::gateway_api::RouteKind| {
            is_group(kind.group.as_ref()) && of_protocol.contains(&kind.kind.as_str())
        };
        state.kinds.retain(|own| said.iter().filter(is_known).any(|kind| kind.kind.value == *own));
        if let Some(kind) = said.iter().find(|kind| !is_known(kind)) {
            let message = format!("a listener of {protocol} takes no {}", kind.kind.value);
            state.unresolved = Some(Failed { reason: "InvalidRouteKinds", message, place: kind.place });
        }
    }
    if matches!(protocol, "HTTPS" | "TLS") && !passes {
        certify(gateway, listener, resources, &mut state);
    }
    state
}

pub(super) fn mode_of(listener: &ApiListener) -> ListenerTlsMode {
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode.as_ref());
    mode.map_or(ListenerTlsMode::Terminate, |mode| mode.value)
}

/// Finds what a listener shows of itself.
fn certify<'a>(
    gateway: &'a ApiGateway,
    listener: &'a ApiListener,
    resources: &Resources,
    state: &mut ListenerState<'a>,
) {
    let fail = |reason, message: String, place| Some(Failed { reason, message, place });
    let owner = gateway.meta.namespace();
    let refs = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
    for said in refs {
        let kind = said.kind.as_ref().map_or("Secret", |kind| kind.as_str());
        let group = said.group.as_ref().map_or("", |group| group.as_str());
        let namespace = said.namespace.as_ref().map_or(owner, |said| said.as_str());
        let found = resources
            .secrets
            .iter()
            .find(|secret| secret.meta.name.value == said.name.value && secret.meta.namespace() == namespace);
        let has_pair = found.is_some_and(|secret| {
            ["tls.crt", "tls.key"]
                .iter()
                .all(|wanted| secret.data.iter().any(|(key, _)| key.value == **wanted))
        });
        let failed = if kind != "Secret" || !group.is_empty() {
            fail(
                "InvalidCertificateRef",
                format!("a certificate stands in a Secret, and in no {kind}"),
                said.place,
            )
        } else if !is_granted(resources, (GROUP, "Gateway", owner), ("", "Secret", namespace, &said.name)) {
            let message =
                format!("no ReferenceGrant in {namespace} lets Gateways of {owner} use its Secrets");
            fail("RefNotPermitted", message, said.place)
        } else if found.is_none() {
            let message = format!("there is no Secret '{}' in {namespace}", said.name.value);
            fail("InvalidCertificateRef", message, said.place)
        } else if !has_pair {
            let message = format!("the Secret '{}' has no tls.crt and tls.key", said.name.value);
            fail("InvalidCertificateRef", message, said.place)
        } else {
            let value = format!("{namespace}/{}", said.name.value);
            state.certificates.push(Text { value, place: said.name.place });
            None
        };
        if failed.is_some() && state.unresolved.is_none() {
            state.unresolved = failed;
        }
    }
    let is_issued = crate::acme::has_issuer(&gateway.meta, resources);
    if state.certificates.is_empty() && state.unresolved.is_none() && !is_issued {
        let message = "TLS that ends here needs a certificate: tls.certificateRefs".to_owned();
        state.unresolved = fail("InvalidCertificateRef", message, listener.place);
    }
}

/// Another listener of the same Gateway that has the port for something else, or port and name.
fn conflict(gateway: &ApiGateway, at: usize, listener: &ApiListener) -> Option<Failed> {
    let family = |listener: &ApiListener| match listener.protocol.as_str() {
        "HTTPS" | "TLS" => "TLS".to_owned(),
        other => other.to_owned(),
    };
    let host = |listener: &ApiListener| {
        let said = listener.hostname.as_ref().map(|host| host.to_ascii_lowercase());
        said.filter(|host| !host.is_empty() && host != "*")
    };
    let others = gateway.spec.listeners.iter().enumerate().filter(|(number, _)| *number != at);
    for (_, other) in others.filter(|(_, other)| other.port.value == listener.port.value) {
        let failed = |reason, message| Some(Failed { reason, message, place: listener.place });
        if family(other) != family(listener)
            && listener.protocol.value != "UDP"
            && other.protocol.value != "UDP"
        {
            let message = format!(
                "the listener '{}' has port {} for {}",
                other.name.value, other.port.value, other.protocol.value
            );
            return failed("ProtocolConflict", message);
        }
        if host(other) == host(listener) && family(other) == family(listener) {
            let message = format!("the listener '{}' has the same port and hostname", other.name.value);
            return failed("HostnameConflict", message);
        }
    }
    None
}

/// Whether documents of `from` (group, kind, namespace) may speak of one of another namespace: group, kind, namespace
/// and name.
pub(super) fn is_granted(
    resources: &Resources,
    (group, kind, from): (&str, &str, &str),
    (to_group, to_kind, to, name): (&str, &str, &str, &str),
) -> bool {
    from == to
        || resources.reference_grants.iter().filter(|grant| grant.meta.namespace() == to).any(|grant| {
            let is_from = grant.spec.from.iter().any(|said| {
                said.group.value == group && said.kind.value == kind && said.namespace.value == from
            });
            is_from
                && grant.spec.to.iter().any(|said| {
                    said.group.value == to_group
                        && said.kind.value == to_kind
                        && said.name.as_ref().is_none_or(|said| said.value == name)
                })
        })
}

/// The host and the port of a backend.
pub(super) fn backend_of(
    route_kind: &str,
    namespace: &str,
    backend: &BackendRef,
    resources: &Resources,
) -> Result<(String, Option<u16>), Failed> {
    let failed = |reason, message: String| Failed { reason, message, place: backend.name.place };
    let group = backend.group.as_ref().map_or("", |group| group.as_str());
    let kind = backend.kind.as_ref().map_or("Service", |kind| kind.as_str());
    let name = backend.name.as_str();
    let to = backend.namespace.as_ref().map_or(namespace, |said| said.as_str());
    let port = match &backend.port {
        None => None,
        Some(said) => match u16::try_from(said.value).ok().filter(|port| *port > 0) {
            Some(port) => Some(port),
            None => return Err(failed("BackendNotFound", format!("{} is not a port", said.value))),
        },
    };
    match (group, kind) {
        ("" | "core", "Service") => {
            if !is_granted(resources, (GROUP, route_kind, namespace), ("", "Service", to, name)) {
                let message = format!(
                    "no ReferenceGrant in {to} lets a {route_kind} of {namespace} send to its Services"
                );
                return Err(failed("RefNotPermitted", message));
            }
            let Some(port) = port else {
                return Err(failed(
                    "BackendNotFound",
                    format!("the port of the Service '{name}' is not said"),
                ));
            };
            let host = format!("{name}.{to}.{DOMAIN}");
            // Where nothing is defined, it may be elsewhere.
            if resources.services.is_empty() && resources.service_entries.is_empty() {
                return Ok((host, Some(port)));
            }
            let known = resources
                .services
                .iter()
                .find(|service| service.meta.name.value == name && service.meta.namespace() == to);
            let Some(known) = known else {
                return Err(failed("BackendNotFound", format!("there is no Service '{name}' in {to}")));
            };
            if !known.spec.ports.iter().any(|own| own.port.value == i64::from(port)) {
                let ports: Vec<String> =
                    known.spec.ports.iter().map(|own| own.port.value.to_string()).collect();
                let message = format!("the Service '{name}' has no port {port}: it has {}", ports.join(", "));
                return Err(failed("BackendNotFound", message));
            }
            Ok((host, Some(port)))
        }
        // Istio's own: a host as VirtualServices name it.
        ("networking.istio.io", "Hostname") => {
            let is_known = resources
                .service_entries
                .iter()
                .any(|entry| entry.spec.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)));
            let is_service = resources
                .services
                .iter()
                .any(|service| format!("{}.{DOMAIN}", service.meta.full_name()).eq_ignore_ascii_case(name));
            let is_nothing_defined = resources.services.is_empty() && resources.service_entries.is_empty();
            if !is_known && !is_service && !is_nothing_defined {
                return Err(failed("BackendNotFound", format!("no ServiceEntry has the host '{name}'")));
            }
            Ok((name.to_ascii_lowercase(), port))
        }
        _ => Err(failed("InvalidKind", format!("naru sends to no {kind} of group '{group}'"))),
    }
}

/// What a reference means that is no backend.
pub(super) fn is_config_map(said: &ObjectRef) -> bool {
    said.kind.as_ref().is_none_or(|kind| kind.value == "ConfigMap")
        && said.group.as_ref().is_none_or(|group| group.value.is_empty())
}
