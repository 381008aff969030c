//! Our own policies: what each adds to a route.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use naru_resource::traffic_policy::TargetRef;
use naru_resource::virtual_service::{Beyond, HttpRoute};
use naru_resource::{Place, Resources, Text, TrafficPolicy, VirtualService};
use naru_spec::{Check, CheckKind, Forward, GateChange, Match, Path, QueryOps, code};

use crate::account::{Account, Idle, Said};
use crate::classes::{self, Classes};
use crate::findings::Findings;
use crate::guards;
use crate::matching;
use crate::registry::Registry;

/// Namespace, VirtualService, and the name of a route or nothing.
pub(crate) type RouteKey = (String, String, Option<String>);

/// What a policy is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Route(RouteKey),
    /// Its host.
    Service(String),
}

/// Policies by the routes that they are attached to.
#[derive(Debug, Default)]
pub(crate) struct Attached<'a> {
    policies: BTreeMap<RouteKey, Vec<&'a TrafficPolicy>>,
    pub classes: Classes,
}

/// What all policies of one route say together.
#[derive(Debug, Default)]
pub(crate) struct Additions<'a> {
    pub parts: Vec<&'a TrafficPolicy>,
}

impl<'a> Attached<'a> {
    pub fn of(
        resources: &'a Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Attached<'a> {
        let mut attached = Attached { classes: Classes::of(resources, findings), ..Attached::default() };
        for policy in &resources.traffic_policies {
            let target = &policy.spec.target_ref;
            let spec = Path::ROOT.field("spec");
            check_group(target, findings);
            if guards::is_of_services(&target.kind) {
                for (field, place) in fields(policy) {
                    let message = format!("'{field}' is for routes: attach it to a VirtualService");
                    findings.error(code::NO_EFFECT, place, &spec.field(field), message, "");
                }
            } else {
                for (field, place) in endpoint_fields(policy) {
                    let message =
                        format!("'{field}' is for endpoints: attach it to a Service or a DestinationRule");
                    findings.error(code::NO_EFFECT, place, &spec.field(field), message, "");
                }
            }
            if target.kind.value == "DestinationRule" {
                for (field, place) in shared_fields(policy) {
                    let message = format!("'{field}' is for all of a service, or for routes");
                    let hint = "attach it to a Service or a VirtualService";
                    findings.error(code::NO_EFFECT, place, &spec.field(field), message, hint);
                }
                // What else it says is told where it is read.
                continue;
            }
            let namespace = policy.meta.namespace();
            if let Some(Target::Route(key)) =
                Target::of(target, "TrafficPolicy", namespace, resources, registry, findings)
            {
                expect(policy, &key, account, findings);
                attached.add(key, policy, findings);
            }
        }
        attached
    }

    fn add(&mut self, key: RouteKey, policy: &'a TrafficPolicy, findings: &mut Findings<'_>) {
        let known = self.policies.entry(key).or_default();
        for before in known.iter() {
            for (field, place) in fields(policy) {
                if fields(before).iter().any(|(other, _)| *other == field) {
                    let message = format!(
                        "two policies for the same route say '{field}': the other is {}",
                        findings.locate(before.meta.name.place)
                    );
                    let spec = Path::ROOT.field("spec");
                    findings.error(code::CONFLICT, place, &spec.field(field), message, "join them");
                }
            }
        }
        known.push(policy);
    }

    /// The policies of a route, the most specific first.
    pub fn of_route(&self, keys: &[RouteKey]) -> Additions<'a> {
        Additions { parts: keys.iter().filter_map(|key| self.policies.get(key)).flatten().copied().collect() }
    }
}

/// What a route is called by, the most specific first: its own name, then that of its document.
pub(crate) fn keys(service: &VirtualService, route: Option<&Text>) -> Vec<RouteKey> {
    let (namespace, name) = (service.meta.namespace(), &service.meta.name.value);
    let key = |section| (namespace.to_owned(), name.clone(), section);
    route.map(|route| key(Some(route.value.clone()))).into_iter().chain([key(None)]).collect()
}

/// Of a route of the Gateway API: that of its rule, then that of its document.
pub(crate) fn keys_of_api(beyond: &Beyond, rule: Option<&Text>) -> Vec<RouteKey> {
    let name = api_name(beyond.kind, &beyond.name);
    let key = |section| (beyond.namespace.clone(), name.clone(), section);
    rule.map(|rule| key(Some(rule.value.clone()))).into_iter().chain([key(None)]).collect()
}

/// Whether a kind is one of routes.
pub(crate) fn is_of_routes(kind: &Text) -> bool {
    matches!(kind.as_str(), "VirtualService" | "HTTPRoute" | "GRPCRoute")
}

/// A name that no VirtualService has.
fn api_name(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

/// Whether there is such a route, and its rules' names.
fn api_route<'r>(kind: &str, name: &str, namespace: &str, resources: &'r Resources) -> Option<Vec<&'r Text>> {
    let is_it = |meta: &naru_resource::Meta| meta.name.value == name && meta.namespace() == namespace;
    match kind {
        "HTTPRoute" => {
            let found = resources.http_routes.iter().find(|route| is_it(&route.meta))?;
            Some(found.spec.rules.iter().filter_map(|rule| rule.name.as_ref()).collect())
        }
        _ => {
            let found = resources.grpc_routes.iter().find(|route| is_it(&route.meta))?;
            Some(found.spec.rules.iter().filter_map(|rule| rule.name.as_ref()).collect())
        }
    }
}

impl Target {
    /// What a reference means, in a document of this kind and namespace. `None` where it means nothing, which is told.
    pub fn of(
        said: &TargetRef,
        kind: &str,
        namespace: &str,
        resources: &Resources,
        registry: &Registry,
        findings: &mut Findings<'_>,
    ) -> Option<Target> {
        let path = Path::ROOT.field("spec.targetRef");
        let mut unknown = |place: Place, field: &'static str, message: String| {
            findings.error(code::UNKNOWN_REFERENCE, place, &path.field(field), message, "");
        };
        match said.kind.value.as_str() {
            "VirtualService" => {
                let service = resources.virtual_services.iter().find(|service| {
                    service.meta.name.value == said.name.value && service.meta.namespace() == namespace
                });
                let Some(service) = service else {
                    let message = format!("there is no VirtualService '{}' in {namespace}", said.name.value);
                    unknown(said.name.place, "name", message);
                    return None;
                };
                if let Some(section) = said.section_name.as_ref().filter(|name| !has_route(service, name)) {
                    let name = &said.name.value;
                    let message =
                        format!("VirtualService '{name}' has no HTTP route named '{}'", section.value);
                    unknown(section.place, "sectionName", message);
                    return None;
                }
                let section = said.section_name.as_ref().map(|section| section.value.clone());
                Some(Target::Route((namespace.to_owned(), said.name.value.clone(), section)))
            }
            kind @ ("HTTPRoute" | "GRPCRoute") => {
                let Some(names) = api_route(kind, &said.name, namespace, resources) else {
                    let message = format!("there is no {kind} '{}' in {namespace}", said.name.value);
                    unknown(said.name.place, "name", message);
                    return None;
                };
                if let Some(section) = said
                    .section_name
                    .as_ref()
                    .filter(|section| names.iter().all(|name| name.value != section.value))
                {
                    let message =
                        format!("{kind} '{}' has no rule named '{}'", said.name.value, section.value);
                    unknown(section.place, "sectionName", message);
                    return None;
                }
                let section = said.section_name.as_ref().map(|section| section.value.clone());
                Some(Target::Route((namespace.to_owned(), api_name(kind, &said.name), section)))
            }
            "Service" if said.section_name.is_some() => {
                let place = said.section_name.as_ref().map_or(said.name.place, |section| section.place);
                unknown(
                    place,
                    "sectionName",
                    "a Service has no subsets: name its DestinationRule".to_owned(),
                );
                None
            }
            "Service" => {
                registry.named(&said.name, namespace, &path.field("name"), findings).map(Target::Service)
            }
            other => {
                let message = format!("a {kind} cannot be attached to a {other}");
                let of_routes = "it can be attached to a VirtualService, to one of its routes by sectionName, or to a Service";
                let hint = match kind {
                    // It has no fields that a DestinationRule could have.
                    "Bulkhead" => of_routes.to_owned(),
                    _ => format!("{of_routes}; what is for endpoints to a Service or a DestinationRule"),
                };
                findings.error(code::UNKNOWN_VALUE, said.kind.place, &path.field("kind"), message, hint);
                None
            }
        }
    }
}

/// A reference that names a group means the kind of that group.
pub(crate) fn check_group(target: &TargetRef, findings: &mut Findings<'_>) {
    let Some(group) = &target.group else { return };
    let right = match target.kind.value.as_str() {
        "VirtualService" | "DestinationRule" => "networking.istio.io",
        "HTTPRoute" | "GRPCRoute" => "gateway.networking.k8s.io",
        "Service" => "",
        // It is told that nothing can be attached to these.
        _ => return,
    };
    if group.value != right {
        let message = format!("there is no {} of group '{}'", target.kind.value, group.value);
        let hint = match right {
            "" => "a Service has no group: leave it out".to_owned(),
            right => format!("write {right}, or leave it out"),
        };
        let path = Path::ROOT.field("spec.targetRef.group");
        findings.error(code::UNKNOWN_VALUE, group.place, &path, message, hint);
    }
}

fn has_route(service: &VirtualService, name: &str) -> bool {
    service.spec.http.iter().any(|route| route.name.as_ref().is_some_and(|known| known.value == name))
}

/// Expects each field that a policy says of routes to act at one of them.
fn expect(policy: &TrafficPolicy, route: &RouteKey, account: &mut Account, findings: &mut Findings<'_>) {
    let parts = parts(policy);
    for (field, place) in &parts {
        let (path, route) = (format!("spec.{field}"), Some(route.clone()));
        account.expect(Said { place: *place, field, path, route, otherwise: Idle::SendsNothing });
    }
    let spec = &policy.spec;
    let mappings = [
        ("match", spec.matches.as_ref().map(|said| said.place)),
        ("retry", spec.retry.as_ref().map(|said| said.place)),
        ("timeout", spec.timeout.as_ref().map(|said| said.place)),
        ("fault", spec.fault.as_ref().map(|said| said.place)),
    ];
    for (name, place) in mappings {
        let is_of = |field: &str| field.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        if let Some(place) = place.filter(|_| !parts.iter().any(|(field, _)| is_of(field))) {
            let spec = Path::ROOT.field("spec");
            let message = format!("'{name}' says nothing");
            findings.warning(code::NO_EFFECT, place, &spec.field(name), message, "leave it out");
        }
    }
}

/// What a policy says of routes, each part that may act without the others.
fn parts(policy: &TrafficPolicy) -> Vec<(&'static str, Place)> {
    let spec = &policy.spec;
    let whole = [
        "match.cookies",
        "match.sourceAddresses",
        "query",
        "idleTimeout",
        "maxRequestBytes",
        "hedge",
        "mirror",
    ];
    let mut parts = fields(policy);
    parts.retain(|(field, _)| whole.contains(field));
    parts.extend(spec.retry.iter().flat_map(classes::retry_parts));
    let said = [
        ("timeout.auto", spec.timeout.as_ref().and_then(|timeout| Some(timeout.auto.as_ref()?.place))),
        ("fault.scope", spec.fault.as_ref().and_then(|fault| Some(fault.scope.as_ref()?.place))),
        ("fallback", spec.fallback.as_ref().map(|fallback| fallback.place)),
    ];
    parts.extend(said.into_iter().filter_map(|(field, place)| Some((field, place?))));
    parts.extend(shared_fields(policy));
    parts
}

/// What a policy says, with its places.
fn fields(policy: &TrafficPolicy) -> Vec<(&'static str, Place)> {
    let spec = &policy.spec;
    let said = [
        ("match.cookies", spec.matches.as_ref().filter(|m| !m.cookies.is_empty()).map(|m| m.place)),
        (
            "match.sourceAddresses",
            spec.matches.as_ref().filter(|m| !m.source_addresses.is_empty()).map(|m| m.place),
        ),
        ("query", spec.query.as_ref().map(|query| query.place)),
        ("idleTimeout", spec.idle_timeout.as_ref().map(|timeout| timeout.place)),
        ("maxRequestBytes", spec.max_request_bytes.map(|max| max.place)),
        ("retry", spec.retry.as_ref().map(|retry| retry.place)),
        ("hedge", spec.hedge.as_ref().map(|hedge| hedge.place)),
        ("timeout", spec.timeout.as_ref().map(|timeout| timeout.place)),
        ("fault", spec.fault.as_ref().map(|fault| fault.place)),
        ("mirror", spec.mirror.as_ref().map(|mirror| mirror.place)),
    ];
    said.into_iter().filter_map(|(field, place)| Some((field, place?))).collect()
}

/// What a policy says of endpoints, with its places.
fn endpoint_fields(policy: &TrafficPolicy) -> Vec<(&'static str, Place)> {
    let spec = &policy.spec;
    let said = [
        ("healthCheck", spec.health_check.as_ref().map(|said| said.place)),
        ("loadBalancing", spec.load_balancing.as_ref().map(|said| said.place)),
        ("stickySession", spec.sticky_session.as_ref().map(|said| said.place)),
    ];
    said.into_iter().filter_map(|(field, place)| Some((field, place?))).collect()
}

/// What a policy may say of all of a service, and of routes, with its places.
fn shared_fields(policy: &TrafficPolicy) -> Vec<(&'static str, Place)> {
    let spec = &policy.spec;
    let said = [
        ("adaptiveConcurrency", spec.adaptive_concurrency.as_ref().map(|said| said.place)),
        ("admissionControl", spec.admission_control.as_ref().map(|said| said.place)),
        ("outboundRate", spec.outbound_rate.as_ref().map(|said| said.place)),
        ("readWrite", spec.read_write.as_ref().map(|said| said.place)),
    ];
    said.into_iter().filter_map(|(field, place)| Some((field, place?))).collect()
}

impl<'a> Additions<'a> {
    /// What the first policy that says a field says of it. It acts, unless there is a reason why it does not; what the
    /// others say does not.
    pub fn first<T>(
        &self,
        field: &'static str,
        idle: Option<Idle>,
        said: impl Fn(&'a TrafficPolicy) -> Option<(T, Place)>,
        account: &mut Account,
    ) -> Option<T> {
        let mut found = self.parts.iter().filter_map(|policy| said(policy));
        let first = found.next();
        for (_, place) in found {
            account.pass(place, field, Idle::Outdone);
        }
        let (first, place) = first?;
        match idle {
            Some(why) => account.pass(place, field, why),
            None => account.take(place, field),
        }
        Some(first)
    }

    /// Asks of every block what the policies ask.
    pub fn narrow(&self, blocks: &mut [Match], account: &mut Account, findings: &mut Findings<'_>) {
        let path = Path::ROOT.field("spec.match");
        let asked =
            |policy: &'a TrafficPolicy| policy.spec.matches.as_ref().map(|asked| (asked, asked.place));
        let of_cookies = |policy| asked(policy).filter(|(asked, _)| !asked.cookies.is_empty());
        if let Some(asked) = self.first("match.cookies", None, of_cookies, account) {
            let path = path.field("cookies");
            for (name, test) in &asked.cookies {
                let cookie = matching::cookie(name, test, &path.key(name), findings);
                blocks.iter_mut().for_each(|block| block.cookies.push(cookie.clone()));
            }
        }
        let of_addresses = |policy| asked(policy).filter(|(asked, _)| !asked.source_addresses.is_empty());
        if let Some(asked) = self.first("match.sourceAddresses", None, of_addresses, account) {
            let path = path.field("sourceAddresses");
            for (at, text) in asked.source_addresses.iter().enumerate() {
                let network = text.parse::<IpNet>().ok();
                let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
                match network {
                    Some(network) => blocks.iter_mut().for_each(|block| block.sources.push(network.trunc())),
                    None => {
                        let message = format!("'{}' is not a range of addresses", text.value);
                        let hint = "write 10.0.0.0/8, or one address";
                        findings.error(code::INVALID_VALUE, text.place, &path.at(at), message, hint);
                    }
                }
            }
        }
    }

    /// How large the body of a request may be, beside what its listener says.
    pub fn body_limit(&self, account: &mut Account, findings: &mut Findings<'_>) -> Option<GateChange> {
        let said = |policy: &'a TrafficPolicy| policy.spec.max_request_bytes.map(|max| (max, max.place));
        let max = self.first("maxRequestBytes", None, said, account)?;
        match u64::try_from(max.value) {
            Ok(bytes) => {
                let name = "TrafficPolicy/maxRequestBytes".to_owned();
                Some(GateChange::Also(Check { name, kind: CheckKind::BodyLimit(bytes) }))
            }
            Err(_) => {
                let message = format!("{} is no number of bytes", max.value);
                let path = Path::ROOT.field("spec.maxRequestBytes");
                findings.error(code::INVALID_VALUE, max.place, &path, message, "0 or more");
                None
            }
        }
    }

    pub fn change(
        &self,
        classes: &Classes,
        route: &HttpRoute,
        forward: &mut Forward,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) {
        classes::change(self, classes, route, forward, account, findings);
        let query = |policy: &'a TrafficPolicy| policy.spec.query.as_ref().map(|said| (said, said.place));
        if let Some(query) = self.first("query", None, query, account) {
            let pairs = |list: &[(naru_resource::Text, naru_resource::Text)]| {
                list.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
            };
            forward.query = QueryOps {
                remove: query.remove.iter().map(|name| name.value.clone()).collect(),
                set: pairs(&query.set),
                add: pairs(&query.add),
            };
        }
        let timeout =
            |policy: &'a TrafficPolicy| policy.spec.idle_timeout.as_ref().map(|said| (said, said.place));
        if let Some(timeout) = self.first("idleTimeout", None, timeout, account) {
            forward.idle_timeout = Some(Some(timeout.value).filter(|timeout| !timeout.is_zero()));
        }
    }
}
