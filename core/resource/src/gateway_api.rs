//! Kubernetes' Gateway API: who may have gateways, where clients come in, which requests go where, who may speak of
//! what stands in another namespace, and how backends are called.
//!
//! Source: the CRDs of sigs.k8s.io/gateway-api, v1; what is experimental there is named where it stands.

use crate::{Flag, Meta, Number, Place, Placed, Seconds, Text, Texts};

objects! {
    GatewayClass {
        meta: Meta,
        spec: GatewayClassSpec,
    }

    GatewayClassSpec {
        controller_name: Text,
        description: Option<Text>,
        parameters_ref: Option<ObjectRef>,
    }

    /// What the API calls a Gateway; Istio has another one.
    ApiGateway {
        meta: Meta,
        spec: ApiGatewaySpec,
    }

    ApiGatewaySpec {
        gateway_class_name: Text,
        listeners: Vec<ApiListener>,
        addresses: Vec<ApiAddress>,
        /// Labels and annotations of what a cloud makes of it.
        infrastructure: Option<Infrastructure>,
    }

    Infrastructure {
        labels: Vec<(Text, Text)>,
        annotations: Vec<(Text, Text)>,
        parameters_ref: Option<ObjectRef>,
    }

    ApiAddress {
        kind: Option<Text>,
        value: Option<Text>,
    }

    ApiListener {
        name: Text,
        hostname: Option<Text>,
        port: Number,
        protocol: Text,
        tls: Option<ListenerTls>,
        allowed_routes: Option<AllowedRoutes>,
    }

    ListenerTls {
        mode: Option<Placed<ListenerTlsMode>>,
        certificate_refs: Vec<ObjectRef>,
        frontend_validation: Option<FrontendValidation>,
        options: Vec<(Text, Text)>,
    }

    /// Whose certificates clients have to show.
    FrontendValidation {
        ca_certificate_refs: Vec<ObjectRef>,
        mode: Option<Text>,
    }

    AllowedRoutes {
        namespaces: Option<RouteNamespaces>,
        kinds: Vec<RouteKind>,
    }

    RouteNamespaces {
        from: Option<Placed<FromNamespaces>>,
        selector: Option<Selector>,
    }

    RouteKind {
        group: Option<Text>,
        kind: Text,
    }

    Selector {
        match_labels: Vec<(Text, Text)>,
        match_expressions: Vec<Expression>,
    }

    Expression {
        key: Text,
        operator: Text,
        values: Texts,
    }

    /// A reference to a document, of the referring one's namespace where it names none.
    ObjectRef {
        group: Option<Text>,
        kind: Option<Text>,
        name: Text,
        namespace: Option<Text>,
    }

    ParentRef {
        group: Option<Text>,
        kind: Option<Text>,
        namespace: Option<Text>,
        name: Text,
        section_name: Option<Text>,
        port: Option<Number>,
    }

    ApiHttpRoute {
        meta: Meta,
        spec: ApiHttpRouteSpec,
    }

    ApiHttpRouteSpec {
        parent_refs: Vec<ParentRef>,
        hostnames: Texts,
        rules: Vec<ApiHttpRule>,
    }

    ApiHttpRule {
        name: Option<Text>,
        matches: Vec<ApiHttpMatch>,
        filters: Vec<Filter>,
        backend_refs: Vec<BackendRef>,
        timeouts: Option<RuleTimeouts>,
        /// Experimental.
        retry: Option<RuleRetry>,
        /// Experimental.
        session_persistence: Option<SessionPersistence>,
    }

    ApiHttpMatch {
        path: Option<PathTest>,
        headers: Vec<NamedTest>,
        query_params: Vec<NamedTest>,
        method: Option<Text>,
    }

    PathTest {
        kind: Option<Placed<PathKind>>,
        value: Option<Text>,
    }

    NamedTest {
        kind: Option<Placed<TestKind>>,
        name: Text,
        value: Text,
    }

    BackendRef {
        group: Option<Text>,
        kind: Option<Text>,
        name: Text,
        namespace: Option<Text>,
        port: Option<Number>,
        weight: Option<Number>,
        filters: Vec<Filter>,
    }

    RuleTimeouts {
        request: Option<Seconds>,
        backend_request: Option<Seconds>,
    }

    RuleRetry {
        codes: Vec<Number>,
        attempts: Option<Number>,
        backoff: Option<Seconds>,
    }

    SessionPersistence {
        session_name: Option<Text>,
        absolute_timeout: Option<Seconds>,
        idle_timeout: Option<Seconds>,
        kind: Option<Text>,
        cookie_config: Option<PersistenceCookie>,
    }

    PersistenceCookie {
        lifetime_type: Option<Text>,
    }

    /// One of them, as `kind` says.
    Filter {
        kind: Placed<FilterKind>,
        request_header_modifier: Option<HeaderModifier>,
        response_header_modifier: Option<HeaderModifier>,
        request_mirror: Option<RequestMirror>,
        request_redirect: Option<RequestRedirect>,
        url_rewrite: Option<UrlRewrite>,
        cors: Option<CorsFilter>,
        extension_ref: Option<ObjectRef>,
    }

    HeaderModifier {
        set: Vec<HeaderValue>,
        add: Vec<HeaderValue>,
        remove: Texts,
    }

    HeaderValue {
        name: Text,
        value: Text,
    }

    RequestMirror {
        backend_ref: BackendRef,
        percent: Option<Number>,
        fraction: Option<MirrorFraction>,
    }

    MirrorFraction {
        numerator: Number,
        denominator: Option<Number>,
    }

    RequestRedirect {
        scheme: Option<Text>,
        hostname: Option<Text>,
        path: Option<PathModifier>,
        port: Option<Number>,
        status_code: Option<Number>,
    }

    UrlRewrite {
        hostname: Option<Text>,
        path: Option<PathModifier>,
    }

    PathModifier {
        kind: Placed<PathModifierKind>,
        replace_full_path: Option<Text>,
        replace_prefix_match: Option<Text>,
    }

    CorsFilter {
        allow_origins: Texts,
        allow_credentials: Option<Flag>,
        allow_methods: Texts,
        allow_headers: Texts,
        expose_headers: Texts,
        max_age: Option<Number>,
    }

    ApiGrpcRoute {
        meta: Meta,
        spec: ApiGrpcRouteSpec,
    }

    ApiGrpcRouteSpec {
        parent_refs: Vec<ParentRef>,
        hostnames: Texts,
        rules: Vec<ApiGrpcRule>,
    }

    ApiGrpcRule {
        name: Option<Text>,
        matches: Vec<ApiGrpcMatch>,
        filters: Vec<Filter>,
        backend_refs: Vec<BackendRef>,
        /// Experimental.
        session_persistence: Option<SessionPersistence>,
    }

    ApiGrpcMatch {
        method: Option<GrpcMethod>,
        headers: Vec<NamedTest>,
    }

    GrpcMethod {
        kind: Option<Placed<TestKind>>,
        service: Option<Text>,
        method: Option<Text>,
    }

    /// A `TLSRoute`; a `TCPRoute` is one without names.
    ApiStreamRoute {
        meta: Meta,
        spec: ApiStreamRouteSpec,
    }

    ApiStreamRouteSpec {
        parent_refs: Vec<ParentRef>,
        hostnames: Texts,
        rules: Vec<ApiStreamRule>,
    }

    ApiStreamRule {
        name: Option<Text>,
        backend_refs: Vec<BackendRef>,
    }

    ReferenceGrant {
        meta: Meta,
        spec: ReferenceGrantSpec,
    }

    ReferenceGrantSpec {
        from: Vec<GrantFrom>,
        to: Vec<GrantTo>,
    }

    GrantFrom {
        group: Text,
        kind: Text,
        namespace: Text,
    }

    GrantTo {
        group: Text,
        kind: Text,
        name: Option<Text>,
    }

    BackendTlsPolicy {
        meta: Meta,
        spec: BackendTlsPolicySpec,
    }

    BackendTlsPolicySpec {
        target_refs: Vec<PolicyTarget>,
        validation: BackendValidation,
        options: Vec<(Text, Text)>,
    }

    PolicyTarget {
        group: Text,
        kind: Text,
        name: Text,
        section_name: Option<Text>,
    }

    BackendValidation {
        ca_certificate_refs: Vec<ObjectRef>,
        well_known_ca_certificates: Option<Text>,
        hostname: Text,
        subject_alt_names: Vec<BackendName>,
    }

    BackendName {
        kind: Text,
        hostname: Option<Text>,
        uri: Option<Text>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTlsMode {
    Terminate,
    Passthrough,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromNamespaces {
    Same,
    All,
    Selector,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    Exact,
    /// By whole segments.
    Prefix,
    Regex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestKind {
    Exact,
    Regex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestMirror,
    RequestRedirect,
    UrlRewrite,
    Cors,
    ExtensionRef,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathModifierKind {
    Full,
    Prefix,
}
