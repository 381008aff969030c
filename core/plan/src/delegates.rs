//! Routes that another VirtualService has: one level, narrowed by who delegates. Source: istiod's `virtualservice.go`,
//! `mergeVirtualServicesIfNeeded`. What Istio leaves out of it without a word is an error here.

use naru_resource::virtual_service::{HttpMatch, HttpRoute};
use naru_resource::{Place, Resources, StringMatch, Test, Text, VirtualService};
use naru_spec::{Path, code};

use crate::attached::{self, RouteKey};
use crate::findings::Findings;
use crate::mesh;
use crate::names::{gateway_name, is_exported};
use crate::registry::Registry;

/// A route as it is compiled.
#[derive(Clone, Debug)]
pub(crate) struct Expanded {
    pub route: HttpRoute,
    /// What it is called by, the most specific first: policies are attached to these.
    pub keys: Vec<RouteKey>,
}

impl Expanded {
    /// One that delegates to nobody.
    pub fn of(service: &VirtualService, route: &HttpRoute) -> Expanded {
        let keys = match &route.beyond {
            Some(beyond) => attached::keys_of_api(beyond, route.name.as_ref()),
            None => attached::keys(service, route.name.as_ref()),
        };
        Expanded { route: route.clone(), keys }
    }
}

/// The routes that stand in the place of one that delegates. What is wrong is told. What is attached to the delegate
/// goes before what is attached to who delegates.
pub(crate) fn expand(
    owner: &VirtualService,
    root: &HttpRoute,
    (resources, registry): (&Resources, &Registry),
    exports: &[Text],
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Expanded> {
    let Some(delegate) = &root.delegate else { return Vec::new() };
    let path = path.field("delegate");
    let namespace = delegate.namespace.as_ref().map_or(owner.meta.namespace(), |namespace| namespace);
    let service = resources.virtual_services.iter().find(|service| {
        service.meta.name.value == delegate.name.value && service.meta.namespace() == namespace
    });
    let Some(service) = service else {
        let message = format!("there is no VirtualService '{}' in {namespace}", delegate.name.value);
        findings.error(code::UNKNOWN_REFERENCE, delegate.name.place, &path.field("name"), message, "");
        return Vec::new();
    };
    if !is_delegate(service) {
        let message = format!("VirtualService '{}' has hosts of its own", delegate.name.value);
        let hint = "a delegate has no hosts, no gateways, no tls and no tcp";
        findings.error(code::INVALID_VALUE, delegate.name.place, &path.field("name"), message, hint);
        return Vec::new();
    }
    let exported = mesh::or(&service.spec.export_to, exports);
    if !is_exported(exported, namespace, owner.meta.namespace()) {
        let message = format!(
            "VirtualService '{}' in {namespace} is not exported to {}",
            delegate.name.value,
            owner.meta.namespace()
        );
        let hint = "name the namespace in its spec.exportTo";
        findings.error(code::UNKNOWN_REFERENCE, delegate.name.place, &path.field("name"), message, hint);
        return Vec::new();
    }
    let mut expanded = Vec::new();
    for leaf in &service.spec.http {
        if let Some(next) = &leaf.delegate {
            let message = format!("a delegate cannot delegate further, to '{}'", next.name.value);
            let hint = "one level is all there is: write the routes here";
            let path = Path::ROOT.field("spec.http");
            findings.error(code::INVALID_VALUE, next.name.place, &path, message, hint);
            continue;
        }
        let leaf = &named_from_anywhere(leaf, service, owner, registry);
        match matches(&root.matches, &leaf.matches) {
            Ok(matches) => {
                let mut keys = attached::keys(service, leaf.name.as_ref());
                keys.extend(attached::keys(owner, root.name.as_ref()));
                expanded.push(Expanded { route: merge(root, leaf, matches), keys });
            }
            Err(place) => {
                let message = "no request that the delegating route takes can match this";
                let hint = format!("the route that delegates is at {}", findings.locate(root.place));
                findings.error(code::CONFLICT, place, &Path::ROOT.field("spec.http"), message, hint);
            }
        }
    }
    expanded
}

/// A VirtualService that is only there for others.
pub(crate) fn is_delegate(service: &VirtualService) -> bool {
    let spec = &service.spec;
    spec.hosts.is_empty() && spec.gateways.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty()
}

/// A route of a delegate as a document of another namespace would write it: its names are those of its own.
fn named_from_anywhere(
    leaf: &HttpRoute,
    service: &VirtualService,
    owner: &VirtualService,
    registry: &Registry,
) -> HttpRoute {
    let mut leaf = leaf.clone();
    let namespace = service.meta.namespace();
    if namespace == owner.meta.namespace() {
        return leaf;
    }
    let to = leaf.route.iter_mut().map(|to| &mut to.destination);
    let copies = leaf.mirrors.iter_mut().map(|mirror| &mut mirror.destination);
    for destination in to.chain(leaf.mirror.as_mut()).chain(copies) {
        destination.host.value = registry.full_name(&destination.host, namespace);
    }
    for gateway in leaf.matches.iter_mut().flat_map(|block| &mut block.gateways) {
        gateway.value = gateway_name(gateway, namespace);
    }
    leaf
}

/// What the delegate does not say, the root says.
fn merge(root: &HttpRoute, leaf: &HttpRoute, matches: Vec<HttpMatch>) -> HttpRoute {
    HttpRoute {
        name: joined(&root.name, &leaf.name),
        matches,
        delegate: None,
        redirect: leaf.redirect.clone(),
        route: leaf.route.clone(),
        place: leaf.place,
        direct_response: leaf.direct_response.clone().or_else(|| root.direct_response.clone()),
        rewrite: leaf.rewrite.clone().or_else(|| root.rewrite.clone()),
        timeout: leaf.timeout.or(root.timeout),
        retries: leaf.retries.clone().or_else(|| root.retries.clone()),
        fault: leaf.fault.clone().or_else(|| root.fault.clone()),
        mirror: leaf.mirror.clone().or_else(|| root.mirror.clone()),
        mirrors: if leaf.mirrors.is_empty() { root.mirrors.clone() } else { leaf.mirrors.clone() },
        mirror_percent: leaf.mirror_percent.or(root.mirror_percent),
        mirror_percentage: leaf.mirror_percentage.clone().or_else(|| root.mirror_percentage.clone()),
        cors_policy: leaf.cors_policy.clone().or_else(|| root.cors_policy.clone()),
        headers: leaf.headers.clone().or_else(|| root.headers.clone()),
        beyond: None,
    }
}

/// Every pair of blocks that can hold together. A block of the leaf that is within none of the root's is an error, at
/// its place.
fn matches(root: &[HttpMatch], leaf: &[HttpMatch]) -> Result<Vec<HttpMatch>, Place> {
    match (root, leaf) {
        (only, []) | ([], only) => Ok(only.to_vec()),
        (root, leaf) => {
            let mut pairs = Vec::new();
            for leaf in leaf {
                let before = pairs.len();
                pairs.extend(root.iter().filter_map(|root| narrowed(root, leaf)));
                if pairs.len() == before {
                    return Err(leaf.place);
                }
            }
            Ok(pairs)
        }
    }
}

fn narrowed(root: &HttpMatch, leaf: &HttpMatch) -> Option<HttpMatch> {
    let ignores_case = |block: &HttpMatch| block.ignore_uri_case.is_some_and(|flag| flag.value);
    if ignores_case(root) != ignores_case(leaf) {
        return None;
    }
    let is_among = |gateway: &Text| root.gateways.iter().any(|of_root| of_root.value == gateway.value);
    if !root.gateways.is_empty() && !leaf.gateways.iter().all(is_among) {
        return None;
    }
    Some(HttpMatch {
        place: leaf.place,
        name: joined(&root.name, &leaf.name),
        uri: text(&root.uri, &leaf.uri)?,
        ignore_uri_case: leaf.ignore_uri_case.or(root.ignore_uri_case),
        scheme: text(&root.scheme, &leaf.scheme)?,
        method: text(&root.method, &leaf.method)?,
        authority: text(&root.authority, &leaf.authority)?,
        headers: mapping(&root.headers, &leaf.headers)?,
        without_headers: mapping(&root.without_headers, &leaf.without_headers)?,
        query_params: mapping(&root.query_params, &leaf.query_params)?,
        port: equal(&root.port, &leaf.port)?,
        source_labels: labels(&root.source_labels, &leaf.source_labels)?,
        source_namespace: equal(&root.source_namespace, &leaf.source_namespace)?,
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        stat_prefix: leaf.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
    })
}

/// The root's name, and behind it the leaf's.
fn joined(root: &Option<Text>, leaf: &Option<Text>) -> Option<Text> {
    match (root, leaf) {
        (Some(root), Some(leaf)) => {
            Some(Text { value: format!("{}-{}", root.value, leaf.value), place: leaf.place })
        }
        (root, leaf) => leaf.clone().or_else(|| root.clone()),
    }
}

/// Labels that both ask for; `None` where they ask for two values of one.
fn labels(root: &[(Text, Text)], leaf: &[(Text, Text)]) -> Option<Vec<(Text, Text)>> {
    let mut all = leaf.to_vec();
    for (key, wanted) in root {
        match leaf.iter().find(|(known, _)| known.value == key.value) {
            Some((_, other)) if other.value != wanted.value => return None,
            Some(_) => {}
            None => all.push((key.clone(), wanted.clone())),
        }
    }
    Some(all)
}

fn equal<T: Clone + PartialEq>(
    root: &Option<naru_resource::Placed<T>>,
    leaf: &Option<naru_resource::Placed<T>>,
) -> Option<Option<naru_resource::Placed<T>>> {
    match (root, leaf) {
        (Some(a), Some(b)) if a.value != b.value => None,
        (root, leaf) => Some(leaf.clone().or_else(|| root.clone())),
    }
}

/// The leaf's test, where everything that passes it passes the root's. An expression stands beside no
/// other test.
fn text(root: &Option<StringMatch>, leaf: &Option<StringMatch>) -> Option<Option<StringMatch>> {
    let (Some(outer), Some(inner)) = (root, leaf) else {
        return Some(leaf.clone().or_else(|| root.clone()));
    };
    let is_within = match (&outer.test, &inner.test) {
        (Test::Present, _) => true,
        (Test::Exact(a), Test::Exact(b)) => a == b,
        (Test::Prefix(a), Test::Exact(b) | Test::Prefix(b)) => b.starts_with(a.as_str()),
        _ => false,
    };
    is_within.then(|| leaf.clone())
}

fn mapping(root: &[(Text, StringMatch)], leaf: &[(Text, StringMatch)]) -> Option<Vec<(Text, StringMatch)>> {
    let mut all = leaf.to_vec();
    for (name, outer) in root {
        match all.iter().position(|(known, _)| known.value == name.value) {
            Some(at) => {
                text(&Some(outer.clone()), &Some(all[at].1.clone()))?;
            }
            None => all.push((name.clone(), outer.clone())),
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use naru_spec::{Action, Forward};

    const DOCUMENTS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [s]
  http:
  - {name: d, match: [{uri: {prefix: /a}}], delegate: {name: child}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: child}
spec:
  http:
  - {name: c, match: [{uri: {prefix: /a/c}}], route: [{destination: {host: s}}]}
  - {route: [{destination: {host: s}}]}
";

    /// The routes that stand where `root` delegates, with what these are for; nothing is told.
    fn expanded(policies: &[(&str, &str)]) -> Vec<Forward> {
        let mut text = DOCUMENTS.to_owned();
        for (at, (target, said)) in policies.iter().enumerate() {
            let (name, section) = target.split_once('/').unwrap_or((target, ""));
            let section =
                if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
            let target = format!("targetRef: {{kind: VirtualService, name: {name}{section}}}");
            let (kind, said) = said.split_once(' ').unwrap();
            text.push_str(&format!(
                "---\napiVersion: naru.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: p{at}}}\n\
                 spec: {{{target}, {said}}}\n"
            ));
        }
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", &text, &mut loaded);
        let planned = crate::plan(&loaded.resources, &crate::Surroundings::default());
        let told: Vec<String> =
            loaded.problems.iter().chain(&planned.problems).map(ToString::to_string).collect();
        assert_eq!(told, [""; 0]);
        let hosts = planned.config.listeners[0].chains[0].http.routes.virtual_hosts.iter();
        let host = hosts.into_iter().find(|host| host.name.starts_with("s.default")).unwrap();
        let forwards = host.rules.iter().map(|rule| match &rule.action {
            Action::Forward(forward) => (**forward).clone(),
            other => panic!("{other:?}"),
        });
        forwards.collect()
    }

    #[test]
    fn what_is_attached_to_a_delegate_or_to_who_delegates_acts_and_the_delegate_goes_first() {
        let timeout = |max: &str| format!("TrafficPolicy timeout: {{auto: {{max: {max}}}}}");
        let max = |forward: &Forward| forward.auto_timeout.as_ref().map(|auto| auto.max.as_secs());
        let in_order = ["child/c", "child", "root/d", "root"];
        for (at, target) in in_order.iter().enumerate() {
            let own = timeout("2s");
            let found = expanded(&[(target, &own)]);
            assert_eq!(max(&found[0]), Some(2), "{target}");
            assert_eq!(max(&found[1]), (at > 0).then_some(2), "{target}: the route without a name");
        }
        let (closest, second) = (timeout("1s"), timeout("2s"));
        let found = expanded(&[("child", &second), ("child/c", &closest)]);
        assert_eq!((max(&found[0]), max(&found[1])), (Some(1), Some(2)));
    }

    #[test]
    fn limits_breakers_fallbacks_and_groups_act_through_delegates() {
        let found = expanded(&[
            ("child", "Bulkhead maxConcurrent: 3"),
            ("child/c", "CircuitBreaker fallback: {steps: [{response: {status: 299}}]}"),
            ("root/d", "TrafficPolicy readWrite: {write: {host: s}}, outboundRate: {class: critical}"),
        ]);
        let names = |forward: &Forward| {
            let load = &forward.load;
            (
                load.bulkhead.as_ref().map(|of| of.name.clone()),
                load.breaker.as_ref().map(|of| of.name.clone()),
            )
        };
        let (bulkhead, breaker) = names(&found[0]);
        assert_eq!(bulkhead.as_deref(), Some("VirtualService/default/child"));
        assert_eq!(breaker.as_deref(), Some("VirtualService/default/child/c"));
        assert_eq!(names(&found[1]), (bulkhead, None));
        assert!(found[0].fallback.is_some() && found[1].fallback.is_none());
        assert!(found.iter().all(|forward| forward.groups.is_some() && forward.load.rate.is_some()));
    }
}
