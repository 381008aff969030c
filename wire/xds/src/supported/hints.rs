//! What is said to who sets a field that is not supported.

/// What to do instead of setting a field that is not supported.
pub(super) const HINTS: &[(&str, &str, &str)] = &[
    ("ConfigSource", "path_config_source", "resources come over one stream of gRPC: ads: {}"),
    ("ConfigSource", "path", "resources come over one stream of gRPC: ads: {}"),
    ("ConfigSource", "api_config_source", "resources come over one stream of gRPC: ads: {}, and ads_config"),
    ("HttpConnectionManager", "scoped_routes", "write the routes inline as route_config"),
    ("HttpFilter", "config_discovery", "it needs a control plane: use typed_config"),
    ("Filter", "config_discovery", "it needs a control plane: use typed_config"),
    ("WeightedCluster", "total_weight", "remove it: a weight is a share of the sum"),
    ("FileAccessLog", "json_format", "use log_format.json_format"),
    ("FileAccessLog", "typed_json_format", "use log_format.json_format"),
    ("HeaderValue", "raw_value", "use value"),
    (
        "Http2ProtocolOptions",
        "max_outbound_frames",
        "what waits for a client is bounded in bytes: docs/limits.md",
    ),
    ("Http2ProtocolOptions", "max_outbound_control_frames", "what waits is bounded in bytes: docs/limits.md"),
    (
        "Http2ProtocolOptions",
        "max_consecutive_inbound_frames_with_empty_payload",
        "frames that carry nothing are counted together: docs/limits.md",
    ),
    (
        "Http2ProtocolOptions",
        "max_inbound_priority_frames_per_stream",
        "frames that carry nothing are counted together: docs/limits.md",
    ),
    ("ConnectionLimit", "runtime_enabled", "leave it out: the limit holds"),
];
