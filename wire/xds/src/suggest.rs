//! What became of names that are no longer there.

/// What became of a field of Envoy's older APIs.
pub(crate) fn successor(message: &str, field: &str) -> Option<&'static str> {
    let message = message.rsplit('.').next()?;
    Some(match (message, field) {
        ("Cluster" | "FilterChain", "tls_context") => {
            "tls_context was removed in v3: use transport_socket with envoy.transport_sockets.tls"
        }
        ("Cluster", "hosts") => "hosts was removed in v3: use load_assignment",
        ("Filter" | "HttpFilter" | "ListenerFilter" | "TransportSocket" | "AccessLog", "config") => {
            "config was removed in v3: use typed_config with an @type"
        }
        ("RouteMatch", "regex") => "regex was removed in v3: use safe_regex",
        ("HeaderMatcher", "regex_match") => "regex_match was removed in v3: use string_match.safe_regex",
        ("QueryParameterMatcher", "value" | "regex") => "value was removed in v3: use string_match",
        ("RouteAction", "request_mirror_policy") => "use request_mirror_policies",
        ("VirtualHost" | "Route" | "ClusterWeight", "per_filter_config") => "use typed_per_filter_config",
        ("Bootstrap", "runtime") => "runtime was removed in v3: use layered_runtime",
        ("HttpConnectionManager", "idle_timeout") => "use common_http_protocol_options.idle_timeout",
        _ => return None,
    })
}
