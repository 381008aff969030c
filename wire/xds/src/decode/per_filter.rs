//! What a route, its virtual host and its table say to filters: `typed_per_filter_config`. The most specific wins.
//!
//! Of most filters that is the whole message of who is nearest to the route. Of CORS each field is said by the first who
//! says it, and what others are told who are asked (`ext_authz`) is of all of them together, as in Envoy.

use std::collections::HashMap;

use naru_spec::{Check, CheckKind, Fault, GateChange, Http, Path};

use super::{content, edge, external, identity, local_rate, rates, recovery};
use crate::findings::{Findings, code};
use crate::proto::api_key_auth::ApiKeyAuthPerRoute;
use crate::proto::basic_auth::BasicAuthPerRoute;
use crate::proto::ext_authz::{ExtAuthzPerRoute, ext_authz_per_route::Override};
use crate::proto::http_rbac::RbacPerRoute;
use crate::proto::jwt_authn::{PerRouteConfig, per_route_config::RequirementSpecifier};
use crate::proto::local_rate::LocalRateLimit;
use crate::proto::rate_service::RateLimitPerRoute;
use crate::proto::{Any, fault::HttpFault, route};
use crate::schema::{type_name, unpack};

type Said = HashMap<String, Any>;

const ROUTE: &str = "route";

/// What stands above a route, the nearest first.
#[derive(Clone, Copy)]
pub(super) struct Above<'a> {
    pub host: &'a Said,
    pub table: &'a Said,
}

/// What one of them says to a filter.
enum Layer {
    Off,
    Settings(Any),
}

impl Layer {
    /// A `FilterConfig` is what is in it, or turns the filter off.
    fn of(any: &Any) -> Layer {
        let Some(wrapped) = unpack::<route::FilterConfig>(any) else { return Layer::Settings(any.clone()) };
        if wrapped.disabled { Layer::Off } else { Layer::Settings(wrapped.config.unwrap_or_default()) }
    }

    fn settings(&self) -> Option<&Any> {
        match self {
            Layer::Off => None,
            Layer::Settings(any) => Some(any),
        }
    }
}

/// Tells what is wrong with what a virtual host or a table says, once for all of its routes.
pub(super) fn check(said: &Said, of_whom: &str, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut names: Vec<&String> = said.keys().collect();
    names.sort();
    for name in names {
        let path = path.key(name);
        let Some(any) = said.get(name) else { continue };
        change(name, &[Layer::of(any)], of_whom, &path, findings);
    }
}

/// What a route is to do otherwise than its listener.
pub(super) fn of_route(
    said: &Said,
    above: Above<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> (Option<Fault>, Vec<GateChange>) {
    of_layers(&[said, above.host, above.table], path, findings)
}

/// What requests for one cluster of a route pass, where that is something of its own. A fault holds a request before it
/// is known for whom it is.
pub(super) fn of_cluster(
    said: &Said,
    route: &Said,
    above: Above<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Vec<GateChange>> {
    if said.is_empty() {
        return None;
    }
    let mut names: Vec<&String> = said.keys().collect();
    names.sort();
    for name in names {
        let Some(Layer::Settings(any)) = said.get(name).map(Layer::of) else { continue };
        if unpack::<HttpFault>(&any).is_some() {
            let text = "faults of one of several clusters are not supported".to_owned();
            findings.unsupported(&path.key(name), text, "say them at the route");
        }
    }
    Some(of_layers(&[said, route, above.host, above.table], path, findings).1)
}

/// The nearest first.
fn of_layers(
    all: &[&Said],
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> (Option<Fault>, Vec<GateChange>) {
    let Some(said) = all.first() else { return (None, Vec::new()) };
    let mut names: Vec<&String> = all.iter().flat_map(|said| said.keys()).collect();
    names.sort();
    names.dedup();
    let (mut fault, mut gate) = (None, Vec::new());
    for name in names {
        let path = path.key(name);
        let layers: Vec<Layer> = all.iter().filter_map(|said| said.get(name)).map(Layer::of).collect();
        // What is wrong with what others say was told there.
        let mut quiet = Findings::default();
        let hears = if said.contains_key(name) { &mut *findings } else { &mut quiet };
        // Who is nearest says whose bucket it is.
        let of_whom = if said.contains_key(name) { ROUTE } else { "virtual host" };
        for change in change(name, &layers, of_whom, &path, hears) {
            match change {
                Change::Gate(change) => gate.push(change),
                Change::Fault(said) => fault = Some(said),
            }
        }
    }
    (fault, gate)
}

enum Change {
    Gate(GateChange),
    Fault(Fault),
}

fn change(
    name: &str,
    layers: &[Layer],
    of_whom: &str,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Change> {
    let Some(first) = layers.first() else { return Vec::new() };
    let one = |change: GateChange| vec![Change::Gate(change)];
    let instead =
        |kind: CheckKind| vec![Change::Gate(GateChange::Instead(Check { name: name.to_owned(), kind }))];
    let without = || vec![Change::Gate(GateChange::Without(name.to_owned()))];
    let Some(any) = first.settings() else { return without() };
    if unpack::<ExtAuthzPerRoute>(any).is_some() {
        return asking(name, layers).into_iter().map(Change::Gate).collect();
    }
    let settings: Vec<&Any> = layers.iter().map_while(Layer::settings).collect();
    if let Some(kind) = edge::of_route(&settings, path, findings) {
        return instead(kind);
    }
    if let Some(said) = unpack::<LocalRateLimit>(any) {
        let rate = local_rate::of_route(&said, of_whom != ROUTE, path, findings);
        return instead(CheckKind::LocalRate(Box::new(rate)));
    }
    if let Some(said) = unpack::<RateLimitPerRoute>(any) {
        let change = rates::service_of_route(&said, path, findings);
        return one(GateChange::Count(name.to_owned(), Box::new(change)));
    }
    if let Some(said) = unpack::<RbacPerRoute>(any) {
        return match said.rbac {
            None => without(),
            Some(said) => {
                let policies = identity::policies(&said, &path.field("rbac"), findings);
                instead(CheckKind::Rbac(Box::new(policies)))
            }
        };
    }
    if let Some(said) = unpack::<PerRouteConfig>(any) {
        return match said.requirement_specifier {
            Some(RequirementSpecifier::RequirementName(requirement)) => {
                one(GateChange::Require(name.to_owned(), requirement))
            }
            Some(RequirementSpecifier::Disabled(true)) => without(),
            // That one of them is said is one of the API's own rules.
            Some(RequirementSpecifier::Disabled(false)) | None => Vec::new(),
        };
    }
    if let Some(said) = unpack::<ApiKeyAuthPerRoute>(any) {
        return one(GateChange::Keys(name.to_owned(), Box::new(edge::keys_of_route(&said, path, findings))));
    }
    if let Some(said) = unpack::<BasicAuthPerRoute>(any) {
        return one(GateChange::Passwords(name.to_owned(), edge::users(said.users.as_ref())));
    }
    if let Some(change) = content::change(name, any, path, findings) {
        return one(change);
    }
    if let Some(said) = unpack::<HttpFault>(any) {
        return vec![Change::Fault(recovery::fault(&said, path, findings))];
    }
    let text = format!("settings of '{}' for one {of_whom} are not supported", type_name(&any.type_url));
    let hint = "only those of the filters for CORS, CSRF, keys, passwords, tokens, policies, ext_authz, faults, rate \
                limits, compression and buffers are";
    findings.error(path, code::UNSUPPORTED_EXTENSION, text, hint);
    Vec::new()
}

/// Whoever is nearest says whether anybody is asked; what they are told is what all say, the nearest last.
fn asking(name: &str, layers: &[Layer]) -> Vec<GateChange> {
    let said = |layer: &Layer| layer.settings().and_then(unpack::<ExtAuthzPerRoute>);
    let Some(first) = layers.first().and_then(said) else { return Vec::new() };
    if matches!(first.r#override, Some(Override::Disabled(_))) {
        return external::of_route(name, &first).into_iter().collect();
    }
    let settings = layers.iter().rev().filter_map(said);
    let asks = settings.filter(|said| matches!(said.r#override, Some(Override::CheckSettings(_))));
    asks.filter_map(|said| external::of_route(name, &said)).collect()
}

/// Tells of requirements that routes name and the listener does not have.
pub(super) fn check_names(http: &Http, path: &Path<'_>, findings: &mut Findings<'_>) {
    let hosts = path.field("route_config.virtual_hosts");
    for (of_host, host) in http.routes.virtual_hosts.iter().enumerate() {
        let path = hosts.at(of_host);
        let routes = path.field("routes");
        for (at, rule) in host.rules.iter().enumerate() {
            let path = routes.at(at);
            let path = path.field("typed_per_filter_config");
            for change in rule.changes() {
                let GateChange::Require(filter, requirement) = change else { continue };
                let is_known = http.gate.checks.iter().all(|check| match &check.kind {
                    CheckKind::Jwt(jwt) if check.name == *filter => {
                        jwt.named.iter().any(|(name, _)| name == requirement)
                    }
                    _ => true,
                });
                if !is_known {
                    let text = format!("there is no requirement '{requirement}' in requirement_map");
                    findings.error(&path.key(filter), code::UNKNOWN_REFERENCE, text, "");
                }
            }
        }
    }
}
