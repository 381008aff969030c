//! Of the filter `ext_authz`: who else is asked.

pub(super) const SUPPORTED: &[(&str, &[&str])] = &[
    (
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        &[
            "grpc_service",
            "http_service",
            "transport_api_version",
            "failure_mode_allow",
            "failure_mode_allow_header_add",
            "with_request_body",
            "clear_route_cache",
            "status_on_error",
            // Whatever it says: what cannot be done is an error.
            "validate_mutations*",
            "metadata_context_namespaces",
            "filter_enabled",
            "deny_at_disable",
            "include_peer_certificate",
            "include_tls_session",
            "allowed_headers",
            "disallowed_headers",
            "encode_raw_headers",
            "max_denied_response_body_bytes",
            // No filter behind it is told anything.
            "enable_dynamic_metadata_ingestion=false",
        ],
    ),
    (
        "envoy.extensions.filters.http.ext_authz.v3.BufferSettings",
        &["max_request_bytes", "allow_partial_message", "pack_as_bytes"],
    ),
    (
        "envoy.extensions.filters.http.ext_authz.v3.HttpService",
        &["server_uri", "path_prefix", "path_override", "authorization_request", "authorization_response"],
    ),
    (
        "envoy.extensions.filters.http.ext_authz.v3.AuthorizationRequest",
        &["allowed_headers", "headers_to_add"],
    ),
    (
        "envoy.extensions.filters.http.ext_authz.v3.AuthorizationResponse",
        &[
            "allowed_upstream_headers",
            "allowed_upstream_headers_to_append",
            "allowed_client_headers",
            "allowed_client_headers_on_success",
        ],
    ),
    ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", &["disabled", "check_settings"]),
    (
        "envoy.extensions.filters.http.ext_authz.v3.CheckSettings",
        &["context_extensions", "disable_request_body_buffering", "with_request_body"],
    ),
    ("envoy.config.core.v3.GrpcService", &["envoy_grpc", "timeout", "initial_metadata"]),
    ("envoy.config.core.v3.GrpcService.EnvoyGrpc", &["cluster_name", "authority"]),
    // There is no runtime that could say otherwise.
    ("envoy.config.core.v3.RuntimeFeatureFlag", &["default_value", "runtime_key*"]),
    ("envoy.type.matcher.v3.ListStringMatcher", &["patterns"]),
];
