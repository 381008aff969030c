//! The kinds of Kubernetes' Gateway API.

use naru_resource::Resources;
use naru_resource::gateway_api::{
    self as api, FilterKind, FromNamespaces, ListenerTlsMode, PathKind, PathModifierKind, TestKind,
};
use naru_spec::{Path, code};

use crate::kind::document;
use crate::read::{Fields, Read, Reader, record, words};
use crate::tree::{Node, Position};

document!(api::GatewayClass { spec: "spec" });
document!(api::ApiGateway { spec: "spec" });
document!(api::ApiHttpRoute { spec: "spec" });
document!(api::ApiGrpcRoute { spec: "spec" });
document!(api::ApiStreamRoute { spec: "spec" });
document!(api::ReferenceGrant { spec: "spec" });
document!(api::BackendTlsPolicy { spec: "spec" });

record!(api::GatewayClassSpec {
    controller_name: "controllerName",
    description: "description",
    parameters_ref: "parametersRef",
});

impl Read for api::ApiGatewaySpec {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let gateway_class_name = fields.take("gatewayClassName", reader);
        let listeners = fields.take("listeners", reader);
        let addresses = fields.take("addresses", reader);
        let infrastructure = fields.take("infrastructure", reader);
        unsupported(&["tls", "backendTLS", "allowedListeners", "defaultScope"], &mut fields, path, reader);
        fields.finish(reader);
        Some(api::ApiGatewaySpec {
            place,
            gateway_class_name: gateway_class_name?,
            listeners: listeners?,
            addresses: addresses?,
            infrastructure: infrastructure?,
        })
    }
}

/// Fields that the API has and naru does not act on: what they ask for would be missing without a word.
fn unsupported(
    names: &[&'static str],
    fields: &mut Fields<'_, '_>,
    path: &Path<'_>,
    reader: &mut Reader<'_>,
) {
    for name in names {
        if let Some(entry) = fields.entry(name, reader) {
            let message = format!("naru does not act on '{name}'");
            reader.error(code::UNSUPPORTED_FIELD, entry.key_position, &path.field(name), message, "");
        }
    }
}

record!(api::Infrastructure {
    labels: "labels",
    annotations: "annotations",
    parameters_ref: "parametersRef",
});
record!(api::ApiAddress { kind: "type", value: "value" });
record!(api::ApiListener {
    name: "name",
    hostname: "hostname",
    port: "port",
    protocol: "protocol",
    tls: "tls",
    allowed_routes: "allowedRoutes",
});
record!(api::ListenerTls {
    mode: "mode",
    certificate_refs: "certificateRefs",
    frontend_validation: "frontendValidation",
    options: "options",
});
record!(api::FrontendValidation { ca_certificate_refs: "caCertificateRefs", mode: "mode" });
words!(ListenerTlsMode {
    "Terminate" => ListenerTlsMode::Terminate,
    "Passthrough" => ListenerTlsMode::Passthrough,
});
record!(api::AllowedRoutes { namespaces: "namespaces", kinds: "kinds" });
record!(api::RouteNamespaces { from: "from", selector: "selector" });
words!(FromNamespaces {
    "Same" => FromNamespaces::Same,
    "All" => FromNamespaces::All,
    "Selector" => FromNamespaces::Selector,
    "None" => FromNamespaces::None,
});
record!(api::RouteKind { group: "group", kind: "kind" });
record!(api::Selector { match_labels: "matchLabels", match_expressions: "matchExpressions" });
record!(api::Expression { key: "key", operator: "operator", values: "values" });
record!(api::ObjectRef { group: "group", kind: "kind", name: "name", namespace: "namespace" });
record!(api::ParentRef {
    group: "group",
    kind: "kind",
    namespace: "namespace",
    name: "name",
    section_name: "sectionName",
    port: "port",
});

/// The fields of a route, of whichever kind; `useDefaultGateways` names no Gateway that naru could find.
macro_rules! route {
    ($type:ty) => {
        impl Read for $type {
            fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                let mut fields = Fields::of(node, path, reader)?;
                let place = fields.place(reader);
                let parent_refs = fields.take("parentRefs", reader);
                let hostnames = fields.take("hostnames", reader);
                let rules = fields.take("rules", reader);
                unsupported(&["useDefaultGateways"], &mut fields, path, reader);
                fields.finish(reader);
                Some(Self { place, parent_refs: parent_refs?, hostnames: hostnames?, rules: rules? })
            }
        }
    };
}

route!(api::ApiHttpRouteSpec);
route!(api::ApiGrpcRouteSpec);
route!(api::ApiStreamRouteSpec);

record!(api::ApiHttpRule {
    name: "name",
    matches: "matches",
    filters: "filters",
    backend_refs: "backendRefs",
    timeouts: "timeouts",
    retry: "retry",
    session_persistence: "sessionPersistence",
});
record!(api::ApiHttpMatch {
    path: "path",
    headers: "headers",
    query_params: "queryParams",
    method: "method",
});
record!(api::PathTest { kind: "type", value: "value" });
words!(PathKind {
    "Exact" => PathKind::Exact,
    "PathPrefix" => PathKind::Prefix,
    "RegularExpression" => PathKind::Regex,
});
record!(api::NamedTest { kind: "type", name: "name", value: "value" });
words!(TestKind {
    "Exact" => TestKind::Exact,
    "RegularExpression" => TestKind::Regex,
});
record!(api::BackendRef {
    group: "group",
    kind: "kind",
    name: "name",
    namespace: "namespace",
    port: "port",
    weight: "weight",
    filters: "filters",
});
record!(api::RuleTimeouts { request: "request", backend_request: "backendRequest" });
record!(api::RuleRetry { codes: "codes", attempts: "attempts", backoff: "backoff" });
record!(api::SessionPersistence {
    session_name: "sessionName",
    absolute_timeout: "absoluteTimeout",
    idle_timeout: "idleTimeout",
    kind: "type",
    cookie_config: "cookieConfig",
});
record!(api::PersistenceCookie { lifetime_type: "lifetimeType" });

impl Read for api::Filter {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let kind = fields.take("type", reader);
        let request_header_modifier = fields.take("requestHeaderModifier", reader);
        let response_header_modifier = fields.take("responseHeaderModifier", reader);
        let request_mirror = fields.take("requestMirror", reader);
        let request_redirect = fields.take("requestRedirect", reader);
        let url_rewrite = fields.take("urlRewrite", reader);
        let cors = fields.take("cors", reader);
        let extension_ref = fields.take("extensionRef", reader);
        unsupported(&["externalAuth"], &mut fields, path, reader);
        fields.finish(reader);
        Some(api::Filter {
            place,
            kind: kind?,
            request_header_modifier: request_header_modifier?,
            response_header_modifier: response_header_modifier?,
            request_mirror: request_mirror?,
            request_redirect: request_redirect?,
            url_rewrite: url_rewrite?,
            cors: cors?,
            extension_ref: extension_ref?,
        })
    }
}

words!(FilterKind {
    "RequestHeaderModifier" => FilterKind::RequestHeaderModifier,
    "ResponseHeaderModifier" => FilterKind::ResponseHeaderModifier,
    "RequestMirror" => FilterKind::RequestMirror,
    "RequestRedirect" => FilterKind::RequestRedirect,
    "URLRewrite" => FilterKind::UrlRewrite,
    "CORS" => FilterKind::Cors,
    "ExtensionRef" => FilterKind::ExtensionRef,
});
record!(api::HeaderModifier { set: "set", add: "add", remove: "remove" });
record!(api::HeaderValue { name: "name", value: "value" });
record!(api::RequestMirror { backend_ref: "backendRef", percent: "percent", fraction: "fraction" });
record!(api::MirrorFraction { numerator: "numerator", denominator: "denominator" });
record!(api::RequestRedirect {
    scheme: "scheme",
    hostname: "hostname",
    path: "path",
    port: "port",
    status_code: "statusCode",
});
record!(api::UrlRewrite { hostname: "hostname", path: "path" });
record!(api::PathModifier {
    kind: "type",
    replace_full_path: "replaceFullPath",
    replace_prefix_match: "replacePrefixMatch",
});
words!(PathModifierKind {
    "ReplaceFullPath" => PathModifierKind::Full,
    "ReplacePrefixMatch" => PathModifierKind::Prefix,
});
record!(api::CorsFilter {
    allow_origins: "allowOrigins",
    allow_credentials: "allowCredentials",
    allow_methods: "allowMethods",
    allow_headers: "allowHeaders",
    expose_headers: "exposeHeaders",
    max_age: "maxAge",
});
record!(api::ApiGrpcRule {
    name: "name",
    matches: "matches",
    filters: "filters",
    backend_refs: "backendRefs",
    session_persistence: "sessionPersistence",
});
record!(api::ApiGrpcMatch { method: "method", headers: "headers" });
record!(api::GrpcMethod { kind: "type", service: "service", method: "method" });
record!(api::ApiStreamRule { name: "name", backend_refs: "backendRefs" });
record!(api::ReferenceGrantSpec { from: "from", to: "to" });
record!(api::GrantFrom { group: "group", kind: "kind", namespace: "namespace" });
record!(api::GrantTo { group: "group", kind: "kind", name: "name" });
record!(api::BackendTlsPolicySpec {
    target_refs: "targetRefs",
    validation: "validation",
    options: "options",
});
record!(api::PolicyTarget { group: "group", kind: "kind", name: "name", section_name: "sectionName" });
record!(api::BackendValidation {
    ca_certificate_refs: "caCertificateRefs",
    well_known_ca_certificates: "wellKnownCACertificates",
    hostname: "hostname",
    subject_alt_names: "subjectAltNames",
});
record!(api::BackendName { kind: "type", hostname: "hostname", uri: "uri" });

/// A `TCPRoute`, which has no names.
pub(super) fn tcp_route(node: &Node, reader: &mut Reader<'_>, resources: &mut Resources) {
    let Some(mut route) = <api::ApiStreamRoute as Read>::read(node, &Path::ROOT, reader) else { return };
    if let Some(name) = route.spec.hostnames.first() {
        let position = Position { line: name.place.line, column: name.place.column };
        let message = "there is no field 'hostnames' in a TCPRoute";
        let path = Path::ROOT.field("spec.hostnames");
        reader.error(code::UNKNOWN_FIELD, position, &path, message, "a TLSRoute has names");
        route.spec.hostnames.clear();
    }
    resources.tcp_routes.push(route);
}
