//! The bounds of an edge, who may come in, and what browsers are told.

use naru_resource::edge_policy as edge;

use crate::kind::document;
use crate::read::record;

document!(edge::EdgePolicy { spec: "spec" });
record!(edge::EdgePolicySpec {
    target_ref: "targetRef",
    connections: "connections",
    requests: "requests",
    http2: "http2",
    overload: "overload",
    addresses: "addresses",
    conditions: "conditions",
    geo: "geo",
    csrf: "csrf",
    api_keys: "apiKeys",
    basic_auth: "basicAuth",
    security_headers: "securityHeaders",
});
record!(edge::EdgeAddresses { allow: "allow", deny: "deny" });
record!(edge::EdgeConditions { allow: "allow", deny: "deny", shadow: "shadow" });
record!(edge::EdgeCondition { name: "name", when: "when" });
record!(edge::EdgeGeo { database: "database", headers: "headers" });
record!(edge::EdgeGeoHeaders {
    country: "country",
    continent: "continent",
    region: "region",
    city: "city",
    asn: "asn",
});
record!(edge::EdgeCsrf { disabled: "disabled", shadow: "shadow", additional_origins: "additionalOrigins" });
record!(edge::EdgeKeys {
    disabled: "disabled",
    from: "from",
    keys: "keys",
    file: "file",
    secret: "secret",
    client_header: "clientHeader",
    forward: "forward",
    clients: "clients",
});
record!(edge::EdgeKeyPlace { header: "header", query: "query", cookie: "cookie" });
record!(edge::EdgeKey { client: "client", sha256: "sha256" });
record!(edge::EdgeBasicAuth {
    disabled: "disabled",
    file: "file",
    secret: "secret",
    realm: "realm",
    client_header: "clientHeader",
    forward: "forward",
});
record!(edge::EdgeSecurityHeaders {
    disabled: "disabled",
    strict_transport_security: "strictTransportSecurity",
    content_type_options: "contentTypeOptions",
    referrer_policy: "referrerPolicy",
    frame_ancestors: "frameAncestors",
    content_security_policy: "contentSecurityPolicy",
    permissions_policy: "permissionsPolicy",
    overrides: "override",
});
record!(edge::EdgeConnections {
    max: "max",
    max_per_source: "maxPerSource",
    handshake_timeout: "handshakeTimeout",
    idle_timeout: "idleTimeout",
    max_requests: "maxRequests",
});
record!(edge::EdgeRequests {
    max_header_bytes: "maxHeaderBytes",
    max_header_count: "maxHeaderCount",
    max_body_bytes: "maxBodyBytes",
    headers_timeout: "headersTimeout",
    timeout: "timeout",
    idle_timeout: "idleTimeout",
    body_pace: "bodyPace",
    response_pace: "responsePace",
    trusted_hops: "trustedHops",
});
record!(edge::EdgePace { bytes: "bytes", window: "window" });
record!(edge::EdgeHttp2 {
    max_concurrent_streams: "maxConcurrentStreams",
    resets: "resets",
    mistakes: "mistakes",
    frames: "frames",
    frames_per_useful: "framesPerUseful",
    max_block_frames: "maxBlockFrames",
    frame_timeout: "frameTimeout",
});
record!(edge::EdgeAllowance { burst: "burst", per_second: "perSecond" });
record!(edge::EdgeOverload {
    disabled: "disabled",
    refresh_interval: "refreshInterval",
    memory: "memory",
    cpu: "cpu",
    keep_paths: "keepPaths",
});
record!(edge::EdgeMemory {
    disabled: "disabled",
    limit_bytes: "limitBytes",
    shed_at_percent: "shedAtPercent",
    until_percent: "untilPercent",
});
record!(edge::EdgeCpu {
    disabled: "disabled",
    shed_from_percent: "shedFromPercent",
    shed_all_at_percent: "shedAllAtPercent",
});
