//! Which fields of Envoy's API does naru act on? Every other field that is set is an error.
//!
//! The only list of them. An entry is the name of a field, or
//! - `name=value`: accepted where it says what holds anyway (`merge_slashes=false`); `{}` is a
//!   message with nothing set,
//! - `name*`: accepted whole, whatever is in it.
//!
//! A field that proto3 cannot tell from an absent one (a plain `false`, 0 or "") counts as absent.
//! Values of supported fields that naru cannot act on are told by `decode`.

mod content;
mod discovery;
mod external;
mod hints;
mod identity;
mod rates;

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use crate::findings::{Findings, code};
use crate::rules::Rules;
use crate::schema::unpack_dynamic;
use hints::HINTS;
use naru_spec::Path;

const SUPPORTED: &[(&str, &[&str])] = &[
    // The whole.
    (
        "envoy.config.bootstrap.v3.Bootstrap",
        &[
            "node*",
            "static_resources",
            "admin",
            "dynamic_resources",
            "layered_runtime={}",
            "cluster_manager={}",
            "overload_manager",
            "stats_config={}",
            "deferred_stat_options={}",
        ],
    ),
    ("envoy.config.bootstrap.v3.Bootstrap.StaticResources", &["listeners", "clusters", "secrets"]),
    // What is given up when naru runs short.
    (
        "envoy.config.overload.v3.OverloadManager",
        &["refresh_interval", "resource_monitors", "actions", "loadshed_points", "buffer_factory_config={}"],
    ),
    ("envoy.config.overload.v3.ResourceMonitor", &["name", "typed_config"]),
    ("envoy.config.overload.v3.OverloadAction", &["name", "triggers", "typed_config"]),
    ("envoy.config.overload.v3.LoadShedPoint", &["name", "triggers"]),
    ("envoy.config.overload.v3.Trigger", &["name", "threshold", "scaled"]),
    ("envoy.config.overload.v3.ThresholdTrigger", &["value"]),
    ("envoy.config.overload.v3.ScaledTrigger", &["scaling_threshold", "saturation_threshold"]),
    ("envoy.config.overload.v3.ShrinkHeapConfig", &["timer_interval"]),
    ("envoy.config.overload.v3.ScaleTimersOverloadActionConfig", &["timer_scale_factors"]),
    (
        "envoy.config.overload.v3.ScaleTimersOverloadActionConfig.ScaleTimer",
        &["timer", "min_timeout", "min_scale"],
    ),
    ("envoy.type.v3.Percent", &["value"]),
    ("envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", &["max_heap_size_bytes"]),
    ("envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig", &["max_memory_bytes"]),
    ("envoy.extensions.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig", &["mode"]),
    (
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        &["max_active_downstream_connections"],
    ),
    ("envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig", &["filename"]),
    // Nothing is written where the log goes to /dev/null, and nothing is profiled unasked.
    (
        "envoy.config.bootstrap.v3.Admin",
        &["address", "access_log_path=/dev/null", "ignore_global_conn_limit=true"],
    ),
    ("envoy.config.core.v3.Address", &["socket_address", "pipe"]),
    ("envoy.config.core.v3.Pipe", &["path", "mode"]),
    ("envoy.config.core.v3.SocketAddress", &["protocol", "address", "port_value"]),
    // Listeners.
    (
        "envoy.config.listener.v3.Listener",
        &[
            "name",
            "address",
            "filter_chains",
            "default_filter_chain",
            "listener_filters",
            "udp_listener_config",
            "enable_reuse_port=true",
            "ignore_global_conn_limit",
            "use_original_dst=false",
            "transparent=false",
            "freebind=false",
            "bind_to_port=true",
            "metadata={}",
        ],
    ),
    (
        "envoy.config.listener.v3.FilterChain",
        &[
            "name",
            "filter_chain_match",
            "filters",
            "transport_socket",
            "transport_socket_connect_timeout",
            "use_proxy_proto=false",
            "metadata={}",
        ],
    ),
    ("envoy.config.listener.v3.FilterChainMatch", &["server_names", "transport_protocol", "prefix_ranges"]),
    ("envoy.config.listener.v3.Filter", &["name", "typed_config"]),
    ("envoy.config.listener.v3.ListenerFilter", &["name", "typed_config"]),
    (
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        &["enable_ja3_fingerprinting=false", "enable_ja4_fingerprinting=false"],
    ),
    (
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        &["allow_requests_without_proxy_protocol"],
    ),
    (
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        &["stat_prefix", "max_connections", "delay"],
    ),
    // TCP.
    (
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        &[
            "stat_prefix",
            "cluster",
            "weighted_clusters",
            "idle_timeout",
            "max_downstream_connection_duration",
            "max_connect_attempts",
            "hash_policy",
            "access_log",
            "access_log_options={}",
        ],
    ),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster", &["clusters"]),
    (
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
        &["name", "weight"],
    ),
    (
        "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
        &[
            "stat_prefix",
            "cluster",
            "matcher",
            "idle_timeout",
            "hash_policies",
            "access_log",
            "access_log_options={}",
            "upstream_socket_config={}",
        ],
    ),
    ("envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.HashPolicy", &["source_ip"]),
    ("envoy.extensions.filters.udp.udp_proxy.v3.Route", &["cluster"]),
    ("xds.type.matcher.v3.Matcher", &["on_no_match"]),
    ("xds.type.matcher.v3.Matcher.OnMatch", &["action"]),
    ("xds.core.v3.TypedExtensionConfig", &["name", "typed_config"]),
    ("envoy.type.v3.HashPolicy", &["source_ip"]),
    ("envoy.type.v3.HashPolicy.SourceIp", &[]),
    // HTTP.
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        &[
            "codec_type",
            "stat_prefix",
            "route_config",
            "rds",
            "http_filters",
            "access_log",
            "server_name",
            "server_header_transformation",
            "scheme_header_transformation",
            "use_remote_address",
            "xff_num_trusted_hops",
            "internal_address_config",
            "skip_xff_append",
            "via",
            "generate_request_id",
            "preserve_external_request_id",
            "always_set_request_id_in_response",
            "strip_matching_host_port",
            "strip_any_host_port",
            "max_request_headers_kb",
            "stream_idle_timeout",
            "request_timeout",
            "request_headers_timeout",
            "drain_timeout",
            "common_http_protocol_options",
            "http2_protocol_options",
            "http3_protocol_options={}",
            "http_protocol_options",
            "add_user_agent=false",
            "normalize_path",
            "upgrade_configs",
            "merge_slashes",
            "path_with_escaped_slashes_action",
            "strip_trailing_host_dot",
            "stream_error_on_invalid_http_message=false",
            "add_proxy_protocol_connection_state=false",
            "local_reply_config={}",
            "access_log_options={}",
            "path_normalization_options={}",
            "forward_client_cert_details",
            "set_current_client_cert_details",
            "forward_proto_config={}",
        ],
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
        &["subject", "cert", "chain", "dns", "uri", "issuer=false"],
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
        &["upgrade_type", "enabled"],
    ),
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
        &["cidr_ranges", "unix_sockets=false"],
    ),
    ("envoy.config.core.v3.CidrRange", &["address_prefix", "prefix_len"]),
    (
        "envoy.config.core.v3.HttpProtocolOptions",
        &[
            "idle_timeout",
            "max_headers_count",
            "max_requests_per_connection",
            "max_connection_duration",
            "max_stream_duration",
        ],
    ),
    (
        "envoy.config.core.v3.Http1ProtocolOptions",
        &["allow_absolute_url=true", "override_stream_error_on_invalid_http_message=false"],
    ),
    ("envoy.config.listener.v3.UdpListenerConfig", &["quic_options"]),
    (
        "envoy.config.listener.v3.QuicProtocolOptions",
        &["quic_protocol_options", "idle_timeout", "crypto_handshake_timeout"],
    ),
    (
        "envoy.config.core.v3.QuicProtocolOptions",
        &["max_concurrent_streams", "initial_stream_window_size", "initial_connection_window_size"],
    ),
    (
        "envoy.config.core.v3.Http2ProtocolOptions",
        &[
            "max_concurrent_streams",
            "initial_stream_window_size",
            "initial_connection_window_size",
            "connection_keepalive",
            // Held wherever an upgrade is allowed, said or not.
            "allow_connect",
            "max_inbound_window_update_frames_per_data_frame_sent",
            "override_stream_error_on_invalid_http_message=false",
        ],
    ),
    ("envoy.config.core.v3.KeepaliveSettings", &["interval", "timeout"]),
    ("envoy.config.core.v3.SchemeHeaderTransformation", &["scheme_to_overwrite"]),
    ("envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter", &["name", "typed_config"]),
    ("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", &[]),
    (
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        &["delay", "abort", "upstream_cluster", "headers", "downstream_nodes", "max_active_faults"],
    ),
    (
        "envoy.extensions.filters.http.fault.v3.FaultAbort",
        &["http_status", "grpc_status", "header_abort", "percentage"],
    ),
    ("envoy.extensions.filters.http.fault.v3.FaultAbort.HeaderAbort", &[]),
    ("envoy.extensions.filters.common.fault.v3.FaultDelay", &["fixed_delay", "header_delay", "percentage"]),
    ("envoy.extensions.filters.common.fault.v3.FaultDelay.HeaderDelay", &[]),
    ("envoy.extensions.filters.http.buffer.v3.Buffer", &["max_request_bytes"]),
    (
        "envoy.extensions.filters.http.router.v3.Router",
        &["suppress_envoy_headers", "dynamic_stats=true", "upstream_log_options={}"],
    ),
    // Access logs.
    ("envoy.config.accesslog.v3.AccessLog", &["name", "typed_config"]),
    ("envoy.extensions.access_loggers.file.v3.FileAccessLog", &["path", "format", "log_format"]),
    ("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", &["log_format"]),
    ("envoy.extensions.access_loggers.stream.v3.StderrAccessLog", &["log_format"]),
    (
        "envoy.config.core.v3.SubstitutionFormatString",
        &["text_format", "text_format_source", "json_format*", "json_format_options*"],
    ),
    // Routes.
    (
        "envoy.config.route.v3.VirtualHost",
        &[
            "name",
            "domains",
            "routes",
            "require_tls",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "typed_per_filter_config",
            "rate_limits",
            "metadata={}",
        ],
    ),
    (
        "envoy.config.route.v3.Route",
        &[
            "name",
            "match",
            "route",
            "redirect",
            "direct_response",
            "metadata",
            "typed_per_filter_config",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
        ],
    ),
    // What is in it is told apart by `decode`: only naru's own keys are understood.
    ("envoy.config.core.v3.Metadata", &["filter_metadata*"]),
    (
        "envoy.config.route.v3.RouteMatch",
        &[
            "prefix",
            "path",
            "safe_regex",
            "path_separated_prefix",
            "connect_matcher",
            "case_sensitive",
            "runtime_fraction",
            "headers",
            "query_parameters",
            "cookies",
            "grpc",
            "filter_state",
            "dynamic_metadata",
            "tls_context={}",
        ],
    ),
    ("envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", &[]),
    ("envoy.config.core.v3.RuntimeFractionalPercent", &["default_value"]),
    ("envoy.type.v3.FractionalPercent", &["numerator", "denominator"]),
    (
        "envoy.config.route.v3.HeaderMatcher",
        &[
            "name",
            "exact_match",
            "safe_regex_match",
            "range_match",
            "present_match",
            "prefix_match",
            "suffix_match",
            "contains_match",
            "string_match",
            "invert_match",
            "treat_missing_header_as_empty",
        ],
    ),
    ("envoy.type.v3.Int64Range", &["start", "end"]),
    ("envoy.config.route.v3.QueryParameterMatcher", &["name", "string_match", "present_match"]),
    ("envoy.config.route.v3.CookieMatcher", &["name", "string_match", "invert_match"]),
    (
        "envoy.type.matcher.v3.StringMatcher",
        &["exact", "prefix", "suffix", "safe_regex", "contains", "ignore_case"],
    ),
    ("envoy.type.matcher.v3.RegexMatcher", &["regex", "google_re2={}"]),
    ("envoy.type.matcher.v3.RegexMatchAndSubstitute", &["pattern", "substitution"]),
    ("envoy.type.matcher.v3.FilterStateMatcher", &["key", "address_match"]),
    // Of a route, what is inverted is told where it is read.
    ("envoy.type.matcher.v3.AddressMatcher", &["ranges", "invert_match"]),
    ("xds.core.v3.CidrRange", &["address_prefix", "prefix_len"]),
    (
        "envoy.config.route.v3.RouteAction",
        &[
            "cluster",
            "weighted_clusters",
            "cluster_not_found_response_code",
            "prefix_rewrite",
            "regex_rewrite",
            "path_rewrite",
            "host_rewrite_literal",
            "auto_host_rewrite",
            "host_rewrite_header",
            "append_x_forwarded_host",
            "timeout",
            "idle_timeout",
            "retry_policy",
            "hedge_policy",
            "request_mirror_policies",
            "hash_policy",
            "upgrade_configs",
            "max_stream_duration={}",
            "rate_limits",
            "include_vh_rate_limits",
            "metadata_match={}",
        ],
    ),
    ("envoy.config.route.v3.RouteAction.UpgradeConfig", &["upgrade_type", "enabled", "connect_config"]),
    (
        "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig",
        &["proxy_protocol_config", "allow_post=false"],
    ),
    ("envoy.config.route.v3.RouteMatch.ConnectMatcher", &[]),
    (
        "envoy.config.route.v3.RouteAction.HashPolicy",
        &["header", "cookie", "connection_properties", "query_parameter", "terminal"],
    ),
    ("envoy.config.route.v3.RouteAction.HashPolicy.Header", &["header_name"]),
    ("envoy.config.route.v3.RouteAction.HashPolicy.Cookie", &["name", "ttl", "path", "attributes"]),
    ("envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute", &["name", "value"]),
    ("envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties", &["source_ip"]),
    ("envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter", &["name"]),
    (
        "envoy.config.route.v3.RetryPolicy",
        &[
            "retry_on",
            "num_retries",
            "per_try_timeout",
            "per_try_idle_timeout",
            "retry_priority",
            "retry_host_predicate",
            "host_selection_retry_max_attempts",
            "retriable_status_codes",
            "retry_back_off",
            "rate_limited_retry_back_off",
            "retriable_headers",
            "retriable_request_headers",
        ],
    ),
    ("envoy.config.route.v3.RetryPolicy.RetryPriority", &["name", "typed_config"]),
    ("envoy.config.route.v3.RetryPolicy.RetryHostPredicate", &["name", "typed_config"]),
    ("envoy.config.route.v3.RetryPolicy.RetryBackOff", &["base_interval", "max_interval"]),
    ("envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff", &["reset_headers", "max_interval"]),
    ("envoy.config.route.v3.RetryPolicy.ResetHeader", &["name", "format"]),
    ("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", &[]),
    (
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        &["update_frequency"],
    ),
    (
        "envoy.config.route.v3.HedgePolicy",
        &["initial_requests", "additional_request_chance", "hedge_on_per_try_timeout"],
    ),
    (
        "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
        &[
            "cluster",
            "runtime_fraction",
            "trace_sampled=false",
            "disable_shadow_host_suffix_append",
            "host_rewrite_literal",
        ],
    ),
    ("envoy.config.route.v3.WeightedCluster", &["clusters", "use_hash_policy=false"]),
    (
        "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        &[
            "name",
            "weight",
            "host_rewrite_literal",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "metadata_match={}",
            "typed_per_filter_config",
        ],
    ),
    (
        "envoy.config.route.v3.RedirectAction",
        &[
            "https_redirect",
            "scheme_redirect",
            "host_redirect",
            "port_redirect",
            "path_redirect",
            "prefix_rewrite",
            "regex_rewrite",
            "response_code",
            "strip_query",
        ],
    ),
    ("envoy.config.route.v3.DirectResponseAction", &["status", "body"]),
    ("envoy.config.core.v3.HeaderValueOption", &["header", "append", "append_action", "keep_empty_value"]),
    ("envoy.config.core.v3.HeaderValue", &["key", "value"]),
    (
        "envoy.config.core.v3.DataSource",
        &["filename", "inline_bytes", "inline_string", "environment_variable"],
    ),
    // Clusters.
    (
        "envoy.config.cluster.v3.Cluster",
        &[
            "name",
            "type",
            "connect_timeout",
            "lb_policy",
            "load_assignment",
            "eds_cluster_config",
            "dns_lookup_family",
            "dns_refresh_rate",
            "dns_failure_refresh_rate",
            "transport_socket",
            "http2_protocol_options",
            "http_protocol_options",
            "common_http_protocol_options",
            "max_requests_per_connection",
            "typed_extension_protocol_options",
            "least_request_lb_config",
            "round_robin_lb_config",
            "ring_hash_lb_config",
            "maglev_lb_config",
            "common_lb_config",
            "outlier_detection",
            "health_checks",
            "circuit_breakers",
            "upstream_connection_options",
            "original_dst_lb_config",
            "cleanup_interval",
            "track_cluster_stats={}",
            "preconnect_policy={}",
            "lb_subset_config={}",
            "metadata={}",
        ],
    ),
    (
        "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        // An ejection is known at once.
        &[
            "healthy_panic_threshold",
            "locality_weighted_lb_config",
            "consistent_hashing_lb_config",
            "update_merge_window={}",
        ],
    ),
    ("envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", &[]),
    (
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
        &["use_hostname_for_hashing", "hash_balance_factor"],
    ),
    (
        "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
        &["use_http_header", "http_header_name", "upstream_port_override"],
    ),
    ("envoy.config.cluster.v3.Cluster.RoundRobinLbConfig", &["slow_start_config"]),
    (
        "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
        &["minimum_ring_size", "maximum_ring_size", "hash_function=XX_HASH"],
    ),
    ("envoy.config.cluster.v3.Cluster.MaglevLbConfig", &["table_size"]),
    (
        "envoy.config.cluster.v3.Cluster.SlowStartConfig",
        &["slow_start_window", "aggression", "min_weight_percent"],
    ),
    // There is no runtime, so that a key of it changes nothing.
    ("envoy.config.core.v3.RuntimeDouble", &["default_value", "runtime_key"]),
    ("envoy.type.v3.Percent", &["value"]),
    (
        "envoy.config.cluster.v3.OutlierDetection",
        &[
            "consecutive_5xx",
            "interval",
            "base_ejection_time",
            "max_ejection_percent",
            "enforcing_consecutive_5xx",
            "enforcing_success_rate",
            "success_rate_minimum_hosts",
            "success_rate_request_volume",
            "success_rate_stdev_factor",
            "consecutive_gateway_failure",
            "enforcing_consecutive_gateway_failure",
            "split_external_local_origin_errors",
            "consecutive_local_origin_failure",
            "enforcing_consecutive_local_origin_failure",
            "enforcing_local_origin_success_rate",
            "failure_percentage_threshold",
            "enforcing_failure_percentage",
            "enforcing_failure_percentage_local_origin",
            "failure_percentage_minimum_hosts",
            "failure_percentage_request_volume",
            "max_ejection_time",
            "max_ejection_time_jitter",
            "successful_active_health_check_uneject_host",
            "always_eject_one_host",
        ],
    ),
    (
        "envoy.config.core.v3.HealthCheck",
        &[
            "timeout",
            "interval",
            "initial_jitter",
            "interval_jitter",
            "interval_jitter_percent",
            "unhealthy_threshold",
            "healthy_threshold",
            "reuse_connection",
            "http_health_check",
            "tcp_health_check",
            "grpc_health_check",
            "no_traffic_interval",
            "no_traffic_healthy_interval",
            "unhealthy_interval",
            "unhealthy_edge_interval",
            "healthy_edge_interval",
            "always_log_health_check_failures=false",
            "always_log_health_check_success=false",
        ],
    ),
    (
        "envoy.config.core.v3.HealthCheck.HttpHealthCheck",
        &[
            "host",
            "path",
            "request_headers_to_add",
            "expected_statuses",
            "retriable_statuses",
            "codec_client_type",
            "method",
        ],
    ),
    ("envoy.config.core.v3.HealthCheck.TcpHealthCheck", &["send", "receive"]),
    ("envoy.config.core.v3.HealthCheck.GrpcHealthCheck", &["service_name", "authority"]),
    ("envoy.config.core.v3.HealthCheck.Payload", &["text", "binary"]),
    ("envoy.config.cluster.v3.CircuitBreakers", &["thresholds", "per_host_thresholds"]),
    (
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        &[
            "priority",
            "max_connections",
            "max_pending_requests",
            "max_requests",
            "max_retries",
            "retry_budget",
            "track_remaining",
            "max_connection_pools",
        ],
    ),
    (
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
        &["budget_percent", "budget_interval", "min_retry_concurrency"],
    ),
    ("envoy.type.v3.Percent", &["value"]),
    ("envoy.config.cluster.v3.UpstreamConnectionOptions", &["tcp_keepalive"]),
    ("envoy.config.core.v3.TcpKeepalive", &["keepalive_probes", "keepalive_time", "keepalive_interval"]),
    ("envoy.config.cluster.v3.Cluster.RefreshRate", &["base_interval", "max_interval"]),
    (
        "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
        &["choice_count", "active_request_bias", "slow_start_config"],
    ),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment", &["cluster_name", "endpoints", "policy"]),
    ("envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", &["overprovisioning_factor"]),
    ("envoy.config.core.v3.Locality", &["region", "zone", "sub_zone"]),
    (
        "envoy.config.endpoint.v3.LocalityLbEndpoints",
        &["lb_endpoints", "locality", "load_balancing_weight", "priority", "metadata={}"],
    ),
    (
        "envoy.config.endpoint.v3.LbEndpoint",
        &["endpoint", "load_balancing_weight", "health_status", "metadata={}"],
    ),
    ("envoy.config.endpoint.v3.Endpoint", &["address", "additional_addresses", "health_check_config={}"]),
    ("envoy.config.endpoint.v3.Endpoint.AdditionalAddress", &["address"]),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        &[
            "explicit_http_config",
            "use_downstream_protocol_config",
            "auto_config",
            "common_http_protocol_options",
            "upstream_http_protocol_options={}",
        ],
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        &["http_protocol_options", "http2_protocol_options"],
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        &["http_protocol_options", "http2_protocol_options"],
    ),
    (
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
        &["http_protocol_options", "http2_protocol_options"],
    ),
    // TLS.
    ("envoy.config.core.v3.TransportSocket", &["name", "typed_config"]),
    ("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", &[]),
    (
        "envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
        &["downstream_tls_context", "enable_early_data=false", "enable_resumption=true"],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        &["common_tls_context", "sni", "enforce_rsa_key_usage=true"],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        &[
            "common_tls_context",
            "require_client_certificate",
            "require_sni=false",
            "ocsp_staple_policy",
            "full_scan_certs_on_sni_mismatch=false",
        ],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        &[
            "tls_params",
            "tls_certificates",
            "alpn_protocols",
            "validation_context",
            "tls_certificate_sds_secret_configs",
            "validation_context_sds_secret_config",
            "combined_validation_context",
        ],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        &["tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves"],
    ),
    (
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        &["config", "transport_socket"],
    ),
    ("envoy.config.core.v3.ProxyProtocolConfig", &["version"]),
    (
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        &["certificate_chain", "private_key", "ocsp_staple"],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        &[
            "trusted_ca",
            "verify_certificate_spki",
            "verify_certificate_hash",
            "crl",
            "only_verify_leaf_cert_crl",
            "match_typed_subject_alt_names",
            "match_subject_alt_names",
            "require_signed_certificate_timestamp=false",
        ],
    ),
    ("envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher", &["san_type", "matcher"]),
];

fn all() -> impl Iterator<Item = &'static (&'static str, &'static [&'static str])> {
    let others = [
        identity::SUPPORTED,
        external::SUPPORTED,
        content::SUPPORTED,
        discovery::SUPPORTED,
        rates::SUPPORTED,
    ];
    SUPPORTED.iter().chain(others.into_iter().flatten())
}

/// The messages that may stand where the API takes any.
pub(crate) fn extensions() -> impl Iterator<Item = &'static str> {
    all().map(|(name, _)| *name).filter(|name| name.starts_with("envoy.extensions."))
}

/// Tells every field that is set and not acted on, and everything that breaks a rule of the API.
#[derive(Debug)]
pub(crate) struct Check {
    supported: HashMap<&'static str, &'static [&'static str]>,
    rules: Rules,
}

impl Check {
    pub fn new() -> Check {
        Check { supported: all().copied().collect(), rules: Rules::default() }
    }

    pub fn message(&mut self, message: &DynamicMessage, path: &Path<'_>, findings: &mut Findings<'_>) {
        let descriptor = message.descriptor();
        let Some(supported) = self.supported.get(descriptor.full_name()).copied() else {
            return;
        };
        self.rules.check(message, path, findings);
        for (field, value) in message.fields() {
            let path = path.field(field.name());
            match standing(supported, &field, value) {
                Standing::Supported => self.value(value, &path, findings),
                Standing::Whole | Standing::NoOp => {}
                Standing::Unsupported => {
                    let hint = HINTS
                        .iter()
                        .find(|(message, name, _)| *message == descriptor.name() && *name == field.name())
                        .map_or("", |(_, _, hint)| hint);
                    let text = format!("naru does not act on {}.{}", descriptor.name(), field.name());
                    findings.unsupported(&path, text, hint);
                }
            }
        }
        for unknown in message.unknown_fields() {
            let text = format!("{} has a field {} that is not known", descriptor.name(), unknown.number());
            findings.error(path, code::UNKNOWN_FIELD, text, "");
        }
    }

    fn value(&mut self, value: &Value, path: &Path<'_>, findings: &mut Findings<'_>) {
        match value {
            Value::Message(message) if message.descriptor().full_name() == "google.protobuf.Any" => {
                self.any(message, path, findings);
            }
            Value::Message(message) => self.message(message, path, findings),
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.value(item, &path.at(at), findings);
                }
            }
            Value::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    if let MapKey::String(key) = key {
                        self.value(value, &path.key(key), findings);
                    }
                }
            }
            _ => {}
        }
    }

    /// An extension that is not supported is told by `decode`, which knows what belongs there.
    fn any(&mut self, any: &DynamicMessage, path: &Path<'_>, findings: &mut Findings<'_>) {
        if let Some(inner) = unpack_dynamic(any) {
            self.message(&inner, path, findings);
        }
    }
}

enum Standing {
    Supported,
    Whole,
    NoOp,
    Unsupported,
}

fn standing(supported: &[&str], field: &FieldDescriptor, value: &Value) -> Standing {
    for entry in supported {
        let Some(rest) = entry.strip_prefix(field.name()) else { continue };
        if rest.is_empty() {
            return Standing::Supported;
        }
        if rest == "*" {
            return Standing::Whole;
        }
        if rest.strip_prefix('=').is_some_and(|expected| is_said(expected, field, value)) {
            return Standing::NoOp;
        }
    }
    Standing::Unsupported
}

/// Whether a value is the one that an entry of the table says.
fn is_said(expected: &str, field: &FieldDescriptor, value: &Value) -> bool {
    match (value, field.kind()) {
        (Value::Message(message), _) if expected == "{}" => is_empty(message),
        (Value::Message(message), Kind::Message(descriptor)) => match descriptor.get_field_by_name("value") {
            Some(inner) => is_said(expected, &inner, &message.get_field(&inner)),
            None => false,
        },
        (Value::Bool(value), _) => expected == if *value { "true" } else { "false" },
        (Value::EnumNumber(number), Kind::Enum(descriptor)) => {
            descriptor.get_value(*number).is_some_and(|v| v.name() == expected)
        }
        (Value::String(text), _) => text == expected,
        _ => false,
    }
}

fn is_empty(message: &DynamicMessage) -> bool {
    message.fields().next().is_none() && message.unknown_fields().next().is_none()
}

#[cfg(test)]
mod tests;
