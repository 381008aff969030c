//! The kinds of documents, each read from its fields.

mod istio;
mod gateway;
mod gateway_api;
mod sidecar;
mod policy;
mod load;
mod rate_limit;
mod edge;
mod response_cache;
mod content;
mod security;
mod mesh_config;
mod fallback;
mod acme;
mod session;
mod surge;
mod kubernetes;
mod pod;

use naru_resource::{Meta, Placed, Resources, StringMatch, Test};
use naru_spec::{Path, Severity, code};

use crate::read::{Fields, Read, Reader, Scalar, record};
use crate::tree::{Kind, Node};
use naru_spec::suggest::did_you_mean;

/// A kind, the groups and versions it is written with, and where it goes.
struct Known {
    kind: &'static str,
    group: &'static str,
    versions: &'static [&'static str],
    read: fn(&Node, &mut Reader<'_>, &mut Resources),
}

/// It is read as a TLSRoute without names.
const TCP_ROUTE: Known =
    Known { kind: "TCPRoute", group: GATEWAY_API, versions: ROUTE_VERSIONS, read: gateway_api::tcp_route };

macro_rules! known {
    ($($kind:literal, $group:expr, $versions:expr => $list:ident;)*) => {
        const KNOWN: &[Known] = &[$(Known {
            kind: $kind,
            group: $group,
            versions: $versions,
            read: |node, reader, resources| resources.$list.extend(Read::read(node, &Path::ROOT, reader)),
        },)* TCP_ROUTE];
    };
}

const ISTIO_GROUP: &str = "networking.istio.io";
const ISTIO: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY: &[&str] = &["v1", "v1beta1"];
const GATEWAY_API: &str = "gateway.networking.k8s.io";
const GATEWAY_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha2"];
const ROUTE_VERSIONS: &[&str] = &["v1", "v1alpha3", "v1alpha2"];

known! {
    "VirtualService", "networking.istio.io", ISTIO => virtual_services;
    "DestinationRule", "networking.istio.io", ISTIO => destination_rules;
    "Gateway", "networking.istio.io", ISTIO => gateways;
    "ServiceEntry", "networking.istio.io", ISTIO => service_entries;
    "WorkloadEntry", "networking.istio.io", ISTIO => workload_entries;
    "WorkloadGroup", "networking.istio.io", ISTIO => workload_groups;
    "Sidecar", "networking.istio.io", ISTIO => sidecars;
    "GatewayClass", GATEWAY_API, GATEWAY_VERSIONS => gateway_classes;
    "Gateway", GATEWAY_API, GATEWAY_VERSIONS => api_gateways;
    "HTTPRoute", GATEWAY_API, GATEWAY_VERSIONS => http_routes;
    "GRPCRoute", GATEWAY_API, ROUTE_VERSIONS => grpc_routes;
    "TLSRoute", GATEWAY_API, ROUTE_VERSIONS => tls_routes;
    "ReferenceGrant", GATEWAY_API, GATEWAY_VERSIONS => reference_grants;
    "BackendTLSPolicy", GATEWAY_API, ROUTE_VERSIONS => backend_tls_policies;
    "RequestAuthentication", "security.istio.io", SECURITY => request_authentications;
    "AuthorizationPolicy", "security.istio.io", SECURITY => authorization_policies;
    "Service", "", &["v1"] => services;
    "Endpoints", "", &["v1"] => endpoints;
    "EndpointSlice", "discovery.k8s.io", &["v1", "v1beta1"] => endpoint_slices;
    "Deployment", "apps", &["v1"] => deployments;
    "Secret", "", &["v1"] => secrets;
    "ConfigMap", "", &["v1"] => config_maps;
    "Namespace", "", &["v1"] => namespaces;
    "Pod", "", &["v1"] => pods;
    "TrafficPolicy", "naru.dev", &["v1alpha1"] => traffic_policies;
    "Bulkhead", "naru.dev", &["v1alpha1"] => bulkheads;
    "RateLimit", "naru.dev", &["v1alpha1"] => rate_limits;
    "CircuitBreaker", "naru.dev", &["v1alpha1"] => circuit_breakers;
    "Retry", "naru.dev", &["v1alpha1"] => retries;
    "EdgePolicy", "naru.dev", &["v1alpha1"] => edge_policies;
    "ResponseCache", "naru.dev", &["v1alpha1"] => response_caches;
    "Compression", "naru.dev", &["v1alpha1"] => compressions;
    "StaticFiles", "naru.dev", &["v1alpha1"] => static_files;
    "AcmeIssuer", "naru.dev", &["v1alpha1"] => acme_issuers;
    "SessionAuth", "naru.dev", &["v1alpha1"] => session_auths;
    "Surge", "naru.dev", &["v1alpha1"] => surges;
    "MeshConfig", "naru.dev", &["v1alpha1"] => mesh_configs;
}

/// Reads one document, or a `List` of them.
pub(crate) fn read(node: &Node, reader: &mut Reader<'_>, resources: &mut Resources) {
    let Some((kind, api_version)) = envelope(node, reader) else { return };
    if kind == "List" && api_version == "v1" {
        if let Some(items) = field(node, "items")
            && let Kind::List(items) = &items.kind
        {
            items.iter().for_each(|item| read(item, reader, resources));
        }
        return;
    }
    match kind {
        "IstioOperator" => return mesh_config::operator(node, reader, resources),
        "ConfigMap" => mesh_config::config_map(node, reader, resources),
        _ if kubernetes::MAKERS.contains(&(kind, api_version)) => {
            return resources.pods.extend(kubernetes::made(kind, node, reader));
        }
        _ => {}
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let of_kind = KNOWN.iter().filter(|known| known.kind == kind).collect::<Vec<_>>();
    match of_kind.iter().find(|known| known.group == group) {
        Some(known) if known.versions.contains(&version) => {
            reader.takes_empty_for_none = group == ISTIO_GROUP;
            (known.read)(node, reader, resources);
            reader.takes_empty_for_none = false;
        }
        Some(known) => {
            let message = format!("{kind} has no version '{version}'");
            let hint = format!("one of {}", known.versions.join(", "));
            let position = field(node, "apiVersion").map_or(node.position, |value| value.position);
            reader.error(code::UNKNOWN_VALUE, position, &Path::ROOT.field("apiVersion"), message, hint);
        }
        None => unknown_kind(node, kind, api_version, reader),
    }
}

fn unknown_kind(node: &Node, kind: &str, api_version: &str, reader: &mut Reader<'_>) {
    let position = field(node, "kind").map_or(node.position, |value| value.position);
    let path = Path::ROOT.field("kind");
    let hint = did_you_mean(kind, KNOWN.iter().map(|known| known.kind));
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let is_our_group = KNOWN.iter().any(|known| known.group == group && !group.is_empty());
    if hint.is_empty() || (!is_our_group && KNOWN.iter().any(|known| known.kind == kind)) {
        let message = format!("naru does not act on {kind} ({api_version}): the document is left out");
        reader.tell(Severity::Warning, code::UNSUPPORTED_KIND, position, &path, message, "");
    } else {
        reader.error(code::UNKNOWN_KIND, position, &path, format!("there is no kind '{kind}'"), hint);
    }
}

/// The kind and the version; nothing where the document is no resource, which is told.
fn envelope<'n>(node: &'n Node, reader: &mut Reader<'_>) -> Option<(&'n str, &'n str)> {
    let text = |name| match field(node, name).map(|value| &value.kind) {
        Some(Kind::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    match (text("kind"), text("apiVersion")) {
        (Some(kind), Some(api_version)) => Some((kind, api_version)),
        // A scenario of the simulator may stand beside what it is about.
        (None, None) if ["config", "load", "services"].iter().all(|name| field(node, name).is_some()) => None,
        (None, None) => {
            let message = "this is no resource: it has no apiVersion and no kind; it is left out";
            reader.tell(Severity::Note, code::UNSUPPORTED_KIND, node.position, &Path::ROOT, message, "");
            None
        }
        (kind, _) => {
            let missing = if kind.is_some() { "apiVersion" } else { "kind" };
            let message = format!("the field '{missing}' is missing");
            reader.error(code::MISSING_FIELD, node.position, &Path::ROOT, message, "");
            None
        }
    }
}

pub(crate) fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node),
        _ => None,
    }
}

/// What every document may have beside its own fields.
const METADATA_BESIDE: &[&str] = &[
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

impl Read for Meta {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Meta> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let name: Option<Placed<String>> = fields.take("name", reader);
        let namespace = fields.take("namespace", reader);
        let labels = fields.take("labels", reader);
        let created = fields.entry("creationTimestamp", reader).map(|entry| &entry.node);
        let created = created.and_then(|node| text(node, reader));
        let generation = fields.entry("generation", reader).and_then(|entry| match &entry.node.kind {
            Kind::Integer(value) => {
                let value = i64::try_from(*value).ok()?;
                Some(Placed { value, place: reader.place(entry.node.position) })
            }
            _ => None,
        });
        let export_to = fields.entry("annotations", reader).and_then(|entry| field(&entry.node, EXPORT_TO));
        let export_to = export_to.and_then(|node| text(node, reader));
        fields.pass_by(METADATA_BESIDE, reader);
        fields.finish(reader);
        let name = name?;
        if !is_name(&name) {
            let message = format!("'{}' cannot be a name", name.value);
            let hint = "lower-case letters, digits, '-' and '.', at most 253, a letter or digit at both ends";
            let position = node_position(&name);
            reader.error(code::INVALID_VALUE, position, &path.field("name"), message, hint);
            return None;
        }
        Some(Meta { place, name, namespace: namespace?, labels: labels?, created, generation, export_to })
    }
}

/// The annotation by which a Service says who sees it.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// What is written by nobody who could be told: what is no text is left out.
fn text(node: &Node, reader: &Reader<'_>) -> Option<Placed<String>> {
    match &node.kind {
        Kind::Text(text) if !text.is_empty() => {
            Some(Placed { value: text.clone(), place: reader.place(node.position) })
        }
        _ => None,
    }
}

fn node_position(value: &Placed<String>) -> crate::tree::Position {
    crate::tree::Position { line: value.place.line, column: value.place.column }
}

/// RFC 1123, as Kubernetes takes it.
fn is_name(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253
        && is_end(name.chars().next())
        && is_end(name.chars().next_back())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
}

/// Reads `{apiVersion, kind, metadata, spec}`; other fields by their names.
macro_rules! document {
    ($type:ty { $($field:ident: $key:literal),* $(,)? }
        $(beside $beside:expr)? $(, with { $($extra:ident: $value:expr),* })?) => {
        impl $crate::read::Read for $type {
            fn read(
                node: &$crate::tree::Node,
                path: &naru_spec::Path<'_>,
                reader: &mut $crate::read::Reader<'_>,
            ) -> Option<Self> {
                let mut fields = $crate::read::Fields::of(node, path, reader)?;
                let place = fields.place(reader);
                fields.pass_by(&["apiVersion", "kind", "status"], reader);
                $(fields.pass_by($beside, reader);)?
                let meta = fields.take("metadata", reader);
                $(let $field = fields.take($key, reader);)*
                fields.finish(reader);
                Some(Self { place, meta: meta?, $($field: $field?,)* $($($extra: $value,)*)? })
            }
        }
    };
}
pub(crate) use document;

impl Read for StringMatch {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<StringMatch> {
        if let Kind::Text(text) = &node.kind {
            let message = format!("expected a mapping, found the text '{text}'");
            let hint = format!("write {{exact: {text}}}; also prefix and regex");
            reader.error(code::WRONG_TYPE, node.position, path, message, hint);
            return None;
        }
        // Of several tests an empty one is said, too.
        let mut fields = Fields::of(node, path, reader)?;
        let takes_empty = std::mem::replace(&mut reader.takes_empty_for_none, false);
        let place = fields.place(reader);
        let exact: Option<Option<Placed<String>>> = fields.take("exact", reader);
        let prefix: Option<Option<Placed<String>>> = fields.take("prefix", reader);
        let regex: Option<Option<Placed<String>>> = fields.take("regex", reader);
        fields.finish(reader);
        reader.takes_empty_for_none = takes_empty;
        let test = match (exact?, prefix?, regex?) {
            (None, None, None) => Test::Present,
            (Some(text), None, None) => Test::Exact(text.value),
            (None, Some(text), None) => Test::Prefix(text.value),
            (None, None, Some(text)) => Test::Regex(text.value),
            _ => {
                let message = "only one of exact, prefix and regex can be said";
                reader.error(code::CONFLICTING_FIELDS, node.position, path, message, "");
                return None;
            }
        };
        Some(StringMatch { place, test })
    }
}

record!(naru_resource::deployment::LabelSelector { match_labels: "matchLabels" });

/// A port by number or by name.
impl Scalar for naru_resource::service::PortRef {
    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        use naru_resource::service::PortRef;
        match &node.kind {
            Kind::Integer(number) => match u16::try_from(*number) {
                Ok(number) if number > 0 => Some(PortRef::Number(number)),
                _ => {
                    let message = format!("{number} is not a port");
                    reader.error(code::INVALID_VALUE, node.position, path, message, "1 to 65535");
                    None
                }
            },
            Kind::Text(text) => Some(PortRef::Name(text.clone())),
            _ => {
                reader.wrong_type(node, path, "a port's number or name");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for name in ["a", "reviews-v1", "a.b", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a_b", "a b", "é", &"a".repeat(254)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
