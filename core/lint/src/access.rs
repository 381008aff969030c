//! Whom policies of access are for, and whether they say what their author means.

use naru_resource::deployment::LabelSelector;
use naru_resource::security::{Operation, PolicyAction, Source};
use naru_resource::{AuthorizationPolicy, Place, Text};

use crate::world::{World, said};
use crate::{About, Found};

/// Policies of this namespace are for all.
const ROOT: &str = "istio-system";

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    for policy in &world.resources.authorization_policies {
        let about = About { kind: "AuthorizationPolicy", meta: &policy.meta };
        let Some(spec) = &policy.spec else { continue };
        if spec.target_ref.is_none() && spec.target_refs.is_empty() {
            workloads(world, spec.selector.as_ref(), policy.meta.name.place, about, found);
        }
        for (at, rule) in spec.rules.iter().enumerate() {
            for (of, from) in rule.from.iter().enumerate() {
                if let Some(source) = &from.source {
                    namespaces(world, source, &format!("spec.rules[{at}].from[{of}].source"), about, found);
                }
            }
            for (of, to) in rule.to.iter().enumerate() {
                if let Some(operation) = &to.operation {
                    operations(
                        world,
                        operation,
                        &format!("spec.rules[{at}].to[{of}].operation"),
                        about,
                        found,
                    );
                }
            }
        }
    }
    for authentication in &world.resources.request_authentications {
        let about = About { kind: "RequestAuthentication", meta: &authentication.meta };
        let spec = &authentication.spec;
        if spec.target_ref.is_none() && spec.target_refs.is_empty() {
            workloads(world, spec.selector.as_ref(), authentication.meta.name.place, about, found);
        }
        if !spec.jwt_rules.is_empty() && !world.resources.authorization_policies.iter().any(asks_who) {
            let message = "a request without any token is let in";
            let hint = "an AuthorizationPolicy that denies notRequestPrincipals: [\"*\"] asks for one";
            let place = authentication.meta.name.place;
            found.tell("token-not-asked-for", about, place, "spec.jwtRules", message, hint);
        }
    }
}

/// Whether it makes a difference to the policy who asks.
fn asks_who(policy: &AuthorizationPolicy) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let action = spec.action.as_ref().map_or(PolicyAction::Allow, |action| action.value);
    let of_source =
        |source: &Source| !source.request_principals.is_empty() || !source.not_request_principals.is_empty();
    let asks = spec.rules.iter().any(|rule| {
        rule.from.iter().filter_map(|from| from.source.as_ref()).any(of_source)
            || rule.when.iter().any(|when| when.key.value.starts_with("request.auth."))
    });
    asks && action != PolicyAction::Audit
}

/// IST0127.
fn workloads(
    world: &World<'_>,
    selector: Option<&LabelSelector>,
    place: Place,
    about: About<'_>,
    found: &mut Found,
) {
    let namespace = about.meta.namespace();
    let labels: &[(Text, Text)] = selector.map_or(&[], |selector| &selector.match_labels);
    let of_namespace = (namespace != ROOT).then_some(namespace);
    // Those of a gateway are naru itself.
    let is_gateway = world
        .resources
        .gateways
        .iter()
        .any(|gateway| naru_resource::meta::selects(labels, &gateway.spec.selector));
    if world.selects_any(of_namespace, labels) || (is_gateway && !labels.is_empty()) {
        return;
    }
    let (message, place, path) = match selector {
        Some(selector) => {
            (format!("nothing has the labels {}", said(labels)), selector.place, "spec.selector")
        }
        None => (format!("nothing runs in the namespace '{namespace}'"), place, "metadata.namespace"),
    };
    found.tell("IST0127", about, place, path, message, "it is for nobody; correct the labels, or remove it");
}

/// IST0101 of namespaces.
fn namespaces(world: &World<'_>, source: &Source, path: &str, about: About<'_>, found: &mut Found) {
    // Where no Namespace is written down, nobody says which there are.
    if world.resources.namespaces.is_empty() {
        return;
    }
    for (field, list) in [("namespaces", &source.namespaces), ("notNamespaces", &source.not_namespaces)] {
        for (at, name) in list.iter().enumerate() {
            if !world.namespaces.iter().any(|known| is_fit(&name.value, known)) {
                let message = format!("no namespace fits '{}'", name.value);
                let path = format!("{path}.{field}[{at}]");
                found.tell(
                    "IST0101",
                    about,
                    name.place,
                    path,
                    message,
                    "correct it, or define the Namespace",
                );
            }
        }
    }
}

/// A name, or one with `*` at one end.
fn is_fit(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(ending), _) => name.ends_with(ending),
        (_, Some(beginning)) => name.starts_with(beginning),
        _ => pattern == name,
    }
}

/// KIA0102, KIA0104.
fn operations(world: &World<'_>, operation: &Operation, path: &str, about: About<'_>, found: &mut Found) {
    const METHODS: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    for (field, list) in [("methods", &operation.methods), ("notMethods", &operation.not_methods)] {
        for (at, method) in list.iter().enumerate() {
            // A path of gRPC may stand here in old documents.
            if !METHODS.contains(&method.value.as_str()) && !method.value.contains('*') {
                let message = format!("'{}' is no method of HTTP", method.value);
                let path = format!("{path}.{field}[{at}]");
                found.tell(
                    "KIA0102",
                    about,
                    method.place,
                    path,
                    message,
                    "GET, POST, ..; they are case-sensitive",
                );
            }
        }
    }
    let namespace = about.meta.namespace();
    let gateways = world.resources.gateways.iter().flat_map(|gateway| &gateway.spec.servers);
    let at_edge: Vec<&str> = gateways
        .flat_map(|server| &server.hosts)
        .map(|host| host.value.split_once('/').map_or(host.value.as_str(), |(_, name)| name))
        .collect();
    for (at, host) in operation.hosts.iter().enumerate() {
        let name = host.value.split_once(':').map_or(host.value.as_str(), |(name, _)| name);
        let is_known = name.contains('*')
            || world.find(name, namespace).is_some()
            || at_edge.iter().any(|edge| crate::world::covers(edge, name));
        if !is_known && !world.known.is_empty() {
            let message = format!("nobody here has the host '{}'", host.value);
            let hint = "no request with it comes here; correct the name";
            found.tell("KIA0104", about, host.place, format!("{path}.hosts[{at}]"), message, hint);
        }
    }
}
