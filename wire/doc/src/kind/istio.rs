//! The networking kinds of Istio.

use naru_resource::destination_rule::{self as rule, ClientTlsMode, H2Upgrade, SimpleLoadBalancer};
use naru_resource::gateway::{self, ServerTlsMode, TlsProtocol};
use naru_resource::service_entry::{self as entry, Location, Resolution};
use naru_resource::virtual_service::{self as route, DerivePort};

use crate::kind::document;
use crate::read::{record, words};

document!(route::VirtualService { spec: "spec" }, with { bound: None });
document!(rule::DestinationRule { spec: "spec" });
document!(entry::ServiceEntry { spec: "spec" });
document!(entry::WorkloadEntry { spec: "spec" });

record!(route::VirtualServiceSpec {
    hosts: "hosts",
    gateways: "gateways",
    http: "http",
    tls: "tls",
    tcp: "tcp",
    export_to: "exportTo",
});
record!(route::HttpRoute {
    name: "name",
    matches: "match",
    route: "route",
    redirect: "redirect",
    direct_response: "directResponse",
    delegate: "delegate",
    rewrite: "rewrite",
    timeout: "timeout",
    retries: "retries",
    fault: "fault",
    mirror: "mirror",
    mirrors: "mirrors",
    mirror_percent: "mirrorPercent",
    mirror_percentage: "mirrorPercentage",
    cors_policy: "corsPolicy",
    headers: "headers",
} beside { beyond: None });
record!(route::HttpMatch {
    name: "name",
    uri: "uri",
    ignore_uri_case: "ignoreUriCase",
    scheme: "scheme",
    method: "method",
    authority: "authority",
    headers: "headers",
    without_headers: "withoutHeaders",
    query_params: "queryParams",
    port: "port",
    source_labels: "sourceLabels",
    source_namespace: "sourceNamespace",
    gateways: "gateways",
    stat_prefix: "statPrefix",
});
record!(route::HttpDestination { destination: "destination", weight: "weight", headers: "headers" });
record!(route::Destination { host: "host", subset: "subset", port: "port" });
record!(route::PortSelector { number: "number" });
record!(route::Headers { request: "request", response: "response" });
record!(route::HeaderOperations { set: "set", add: "add", remove: "remove" });
record!(route::HttpRedirect {
    uri: "uri",
    authority: "authority",
    port: "port",
    derive_port: "derivePort",
    scheme: "scheme",
    redirect_code: "redirectCode",
});
words!(DerivePort {
    "FROM_PROTOCOL_DEFAULT" => DerivePort::FromProtocolDefault,
    "FROM_REQUEST_PORT" => DerivePort::FromRequestPort,
});
record!(route::HttpDirectResponse { status: "status", body: "body" });
record!(route::HttpBody { string: "string", bytes: "bytes" });
record!(route::Delegate { name: "name", namespace: "namespace" });
record!(route::HttpRewrite { uri: "uri", authority: "authority", uri_regex_rewrite: "uriRegexRewrite" });
record!(route::RegexRewrite { pattern: "match", rewrite: "rewrite" });
record!(route::HttpRetry {
    attempts: "attempts",
    per_try_timeout: "perTryTimeout",
    retry_on: "retryOn",
    retry_remote_localities: "retryRemoteLocalities",
    retry_ignore_previous_hosts: "retryIgnorePreviousHosts",
    backoff: "backoff",
});
record!(route::HttpFault { delay: "delay", abort: "abort" });
record!(route::FaultDelay {
    percent: "percent",
    percentage: "percentage",
    fixed_delay: "fixedDelay",
    exponential_delay: "exponentialDelay",
});
record!(route::FaultAbort {
    percent: "percent",
    percentage: "percentage",
    http_status: "httpStatus",
    grpc_status: "grpcStatus",
    http2_error: "http2Error",
});
record!(route::Percent { value: "value" });
record!(route::HttpMirror { destination: "destination", percentage: "percentage" });
record!(route::CorsPolicy {
    allow_origin: "allowOrigin",
    allow_origins: "allowOrigins",
    allow_methods: "allowMethods",
    allow_headers: "allowHeaders",
    expose_headers: "exposeHeaders",
    max_age: "maxAge",
    allow_credentials: "allowCredentials",
    unmatched_preflights: "unmatchedPreflights",
});
record!(route::TlsRoute { matches: "match", route: "route" });
record!(route::TlsMatch {
    sni_hosts: "sniHosts",
    destination_subnets: "destinationSubnets",
    port: "port",
    source_labels: "sourceLabels",
    gateways: "gateways",
    source_namespace: "sourceNamespace",
});
record!(route::TcpRoute { matches: "match", route: "route" });
record!(route::TcpMatch {
    destination_subnets: "destinationSubnets",
    port: "port",
    source_subnet: "sourceSubnet",
    source_labels: "sourceLabels",
    gateways: "gateways",
    source_namespace: "sourceNamespace",
});
record!(route::RouteDestination { destination: "destination", weight: "weight" });

record!(rule::DestinationRuleSpec {
    host: "host",
    traffic_policy: "trafficPolicy",
    subsets: "subsets",
    export_to: "exportTo",
    workload_selector: "workloadSelector",
});
record!(rule::WorkloadSelector { match_labels: "matchLabels" });
record!(rule::Subset { name: "name", labels: "labels", traffic_policy: "trafficPolicy" });
record!(rule::TrafficPolicy {
    load_balancer: "loadBalancer",
    connection_pool: "connectionPool",
    outlier_detection: "outlierDetection" or "circuitBreaker",
        "Istio has no such field, and drops it without a word",
    tls: "tls",
    port_level_settings: "portLevelSettings",
    tunnel: "tunnel",
    proxy_protocol: "proxyProtocol",
    retry_budget: "retryBudget",
});
record!(rule::PortPolicy {
    port: "port",
    load_balancer: "loadBalancer",
    connection_pool: "connectionPool",
    outlier_detection: "outlierDetection" or "circuitBreaker",
        "Istio has no such field, and drops it without a word",
    tls: "tls",
});
record!(rule::LoadBalancer {
    simple: "simple",
    consistent_hash: "consistentHash",
    locality_lb_setting: "localityLbSetting",
    warmup_duration_secs: "warmupDurationSecs",
    warmup: "warmup",
});
words!(SimpleLoadBalancer {
    "UNSPECIFIED" => SimpleLoadBalancer::Unspecified,
    "LEAST_REQUEST" => SimpleLoadBalancer::LeastRequest,
    "ROUND_ROBIN" => SimpleLoadBalancer::RoundRobin,
    "RANDOM" => SimpleLoadBalancer::Random,
    "PASSTHROUGH" => SimpleLoadBalancer::Passthrough,
} or { "LEAST_CONN" => "LEAST_REQUEST" });
record!(rule::ConsistentHash {
    http_header_name: "httpHeaderName",
    http_cookie: "httpCookie",
    use_source_ip: "useSourceIp",
    http_query_parameter_name: "httpQueryParameterName",
    ring_hash: "ringHash",
    maglev: "maglev",
    minimum_ring_size: "minimumRingSize",
});
record!(rule::HttpCookie { name: "name", path: "path", ttl: "ttl", attributes: "attributes" });
record!(rule::CookieAttribute { name: "name", value: "value" });
record!(rule::RingHash { minimum_ring_size: "minimumRingSize" });
record!(rule::Maglev { table_size: "tableSize" });
record!(rule::LocalityLoadBalancer {
    enabled: "enabled",
    distribute: "distribute",
    failover: "failover",
    failover_priority: "failoverPriority",
});
record!(rule::Distribute { from: "from", to: "to" });
record!(rule::Failover { from: "from", to: "to" });
record!(rule::Warmup { duration: "duration", minimum_percent: "minimumPercent", aggression: "aggression" });
record!(rule::ConnectionPool { tcp: "tcp", http: "http" });
record!(rule::TcpPool {
    max_connections: "maxConnections",
    connect_timeout: "connectTimeout",
    tcp_keepalive: "tcpKeepalive",
    max_connection_duration: "maxConnectionDuration",
    idle_timeout: "idleTimeout",
});
record!(rule::TcpKeepalive { probes: "probes", time: "time", interval: "interval" });
record!(rule::HttpPool {
    http1_max_pending_requests: "http1MaxPendingRequests",
    http2_max_requests: "http2MaxRequests",
    max_requests_per_connection: "maxRequestsPerConnection",
    max_retries: "maxRetries",
    idle_timeout: "idleTimeout",
    h2_upgrade_policy: "h2UpgradePolicy",
    use_client_protocol: "useClientProtocol",
    max_concurrent_streams: "maxConcurrentStreams",
    http2_keep_alive: "http2KeepAlive",
});
record!(rule::Http2KeepAlive { interval: "interval", timeout: "timeout" });
words!(H2Upgrade {
    "DEFAULT" => H2Upgrade::Default,
    "DO_NOT_UPGRADE" => H2Upgrade::DoNotUpgrade,
    "UPGRADE" => H2Upgrade::Upgrade,
});
record!(rule::OutlierDetection {
    split_external_local_origin_errors: "splitExternalLocalOriginErrors",
    consecutive_local_origin_failures: "consecutiveLocalOriginFailures",
    consecutive_gateway_errors: "consecutiveGatewayErrors",
    consecutive_5xx_errors: "consecutive5xxErrors" or "consecutiveErrors",
        "Istio reads the old name, does nothing by it, and counts 5",
    interval: "interval",
    base_ejection_time: "baseEjectionTime",
    max_ejection_percent: "maxEjectionPercent",
    min_health_percent: "minHealthPercent",
    outlier_detection_http_error_codes: "outlierDetectionHttpErrorCodes",
});
record!(rule::ClientTls {
    mode: "mode",
    client_certificate: "clientCertificate",
    private_key: "privateKey",
    ca_certificates: "caCertificates",
    ca_crl: "caCrl",
    credential_name: "credentialName",
    subject_alt_names: "subjectAltNames",
    sni: "sni",
    insecure_skip_verify: "insecureSkipVerify",
});
words!(ClientTlsMode {
    "DISABLE" => ClientTlsMode::Disable,
    "SIMPLE" => ClientTlsMode::Simple,
    "MUTUAL" => ClientTlsMode::Mutual,
    "ISTIO_MUTUAL" => ClientTlsMode::IstioMutual,
});
record!(rule::Tunnel { protocol: "protocol", target_host: "targetHost", target_port: "targetPort" });
record!(rule::ProxyProtocol { version: "version" });
record!(rule::RetryBudget {
    percent: "percent",
    min_retry_concurrency: "minRetryConcurrency",
    budget_interval: "budgetInterval",
});

record!(gateway::GatewaySpec { servers: "servers", selector: "selector" });
record!(gateway::Server {
    port: "port",
    bind: "bind",
    hosts: "hosts",
    tls: "tls",
    default_endpoint: "defaultEndpoint",
    name: "name",
});
record!(gateway::Port { number: "number", protocol: "protocol", name: "name", target_port: "targetPort" });
record!(gateway::ServerTls {
    https_redirect: "httpsRedirect",
    mode: "mode",
    server_certificate: "serverCertificate",
    private_key: "privateKey",
    ca_certificates: "caCertificates",
    ca_crl: "caCrl",
    credential_name: "credentialName",
    credential_names: "credentialNames",
    ca_cert_credential_name: "caCertCredentialName",
    tls_certificates: "tlsCertificates",
    subject_alt_names: "subjectAltNames",
    verify_certificate_spki: "verifyCertificateSpki",
    verify_certificate_hash: "verifyCertificateHash",
    min_protocol_version: "minProtocolVersion",
    max_protocol_version: "maxProtocolVersion",
    cipher_suites: "cipherSuites",
    insecure_skip_verify: "insecureSkipVerify",
});
record!(gateway::TlsCertificate {
    server_certificate: "serverCertificate",
    private_key: "privateKey",
    ca_certificates: "caCertificates",
});
words!(ServerTlsMode {
    "PASSTHROUGH" => ServerTlsMode::Passthrough,
    "SIMPLE" => ServerTlsMode::Simple,
    "MUTUAL" => ServerTlsMode::Mutual,
    "AUTO_PASSTHROUGH" => ServerTlsMode::AutoPassthrough,
    "ISTIO_MUTUAL" => ServerTlsMode::IstioMutual,
    "OPTIONAL_MUTUAL" => ServerTlsMode::OptionalMutual,
});
words!(TlsProtocol {
    "TLS_AUTO" => TlsProtocol::Auto,
    "TLSV1_0" => TlsProtocol::V1_0,
    "TLSV1_1" => TlsProtocol::V1_1,
    "TLSV1_2" => TlsProtocol::V1_2,
    "TLSV1_3" => TlsProtocol::V1_3,
});

record!(entry::ServiceEntrySpec {
    hosts: "hosts",
    addresses: "addresses",
    ports: "ports",
    location: "location",
    resolution: "resolution",
    endpoints: "endpoints",
    workload_selector: "workloadSelector",
    export_to: "exportTo",
    subject_alt_names: "subjectAltNames",
});
record!(entry::LabelSelector { labels: "labels" });
record!(entry::ServicePort {
    number: "number",
    name: "name",
    protocol: "protocol",
    target_port: "targetPort",
});
record!(entry::WorkloadEntrySpec {
    address: "address",
    ports: "ports",
    labels: "labels",
    network: "network",
    locality: "locality",
    weight: "weight",
    service_account: "serviceAccount",
});
words!(Location {
    "MESH_EXTERNAL" => Location::External,
    "MESH_INTERNAL" => Location::Internal,
});
words!(Resolution {
    "NONE" => Resolution::None,
    "STATIC" => Resolution::Static,
    "DNS" => Resolution::Dns,
    "DNS_ROUND_ROBIN" => Resolution::DnsRoundRobin,
    "DYNAMIC_DNS" => Resolution::DynamicDns,
});
