//! What fields are for, in a sentence or two: those that people ask about.

/// By the end of the way to it, the longest first.
const FIELDS: &[(&str, &str, &str)] = &[
    (
        "VirtualService",
        "spec.hosts",
        "Whom clients address: names of services, hosts at a gateway, or `*.example.com`. Where requests go is `http.route.destination.host`.",
    ),
    (
        "VirtualService",
        "spec.gateways",
        "The gateways, as `NAMESPACE/NAME`, at which these rules are for requests that come in; `mesh` for calls of workloads, which is the default.",
    ),
    (
        "VirtualService",
        "spec.exportTo",
        "Namespaces whose workloads see these rules: `.` for its own, `*` for all, which is the default.",
    ),
    (
        "VirtualService",
        "http.match",
        "Blocks of which one has to fit, whole. Without any, the rule takes every request. Rules are asked in order, and the first that fits takes the request.",
    ),
    (
        "VirtualService",
        "match.uri",
        "A test of the path without its query: `exact`, `prefix` (of the text: `/api` takes `/apix`) or `regex` (RE2, of the whole path).",
    ),
    (
        "VirtualService",
        "match.headers",
        "Tests of headers by their names in lower case; `{}` asks only that it is there.",
    ),
    ("VirtualService", "match.withoutHeaders", "Tests that must not hold."),
    ("VirtualService", "match.sourceLabels", "Labels that the calling workload must have."),
    (
        "VirtualService",
        "route.weight",
        "A share of the sum of all weights. An only destination takes everything.",
    ),
    (
        "VirtualService",
        "destination.host",
        "The service that requests go to: a short name is one of the document's own namespace.",
    ),
    ("VirtualService", "destination.subset", "A part of the service that a DestinationRule names."),
    ("VirtualService", "destination.port.number", "The port of the service; needed where it has several."),
    ("VirtualService", "http.timeout", "Of the whole, with all tries; off by default, and by `0s`."),
    ("VirtualService", "retries.attempts", "How often more than once it is tried."),
    ("VirtualService", "retries.perTryTimeout", "Of each try; the timeout of the whole by default."),
    (
        "VirtualService",
        "retries.retryOn",
        "After what it is tried again: `connect-failure`, `refused-stream`, `5xx`, `503`, .. A request that may have acted is not sent twice.",
    ),
    (
        "VirtualService",
        "fault.delay",
        "So many of the requests wait before they are sent on: `percentage.value` and `fixedDelay`. Without a percentage none does.",
    ),
    (
        "VirtualService",
        "fault.abort",
        "So many of the requests are answered `httpStatus` instead. Without a percentage none is.",
    ),
    ("VirtualService", "http.mirror", "A copy of each request goes there, too; nobody waits for its answer."),
    (
        "VirtualService",
        "http.rewrite",
        "What is sent on has another path or host: `uri` takes the place of what the prefix has matched.",
    ),
    (
        "VirtualService",
        "http.redirect",
        "The client is sent elsewhere, with 301 unless `redirectCode` says otherwise.",
    ),
    (
        "VirtualService",
        "corsPolicy.allowCredentials",
        "Browsers send cookies along. Not together with origins that fit any site.",
    ),
    ("DestinationRule", "spec.host", "The service that this is for."),
    ("DestinationRule", "spec.subsets", "Parts of the service by the labels of their workloads."),
    (
        "DestinationRule",
        "loadBalancer.simple",
        "`LEAST_REQUEST` (default), `ROUND_ROBIN`, `RANDOM`, `PASSTHROUGH`.",
    ),
    (
        "DestinationRule",
        "loadBalancer.consistentHash",
        "Requests that are alike go to one endpoint: by a header, a cookie, the source address or a query parameter.",
    ),
    ("DestinationRule", "connectionPool.tcp.connectTimeout", "10 s by default."),
    (
        "DestinationRule",
        "http.http1MaxPendingRequests",
        "As many requests wait for a connection; more are answered 503 (UO).",
    ),
    (
        "DestinationRule",
        "outlierDetection.consecutive5xxErrors",
        "After as many answers of 500 to 599 in a row an endpoint is ejected; 5 by default.",
    ),
    (
        "DestinationRule",
        "outlierDetection.baseEjectionTime",
        "How long the first time; 30 s by default. Each further time it is longer.",
    ),
    (
        "DestinationRule",
        "outlierDetection.maxEjectionPercent",
        "No more of the endpoints are ejected at a time; 10 by default, and at least one.",
    ),
    ("DestinationRule", "outlierDetection", "Endpoints that fail are left out for a while."),
    (
        "DestinationRule",
        "tls.mode",
        "`DISABLE`, `SIMPLE` (TLS), `MUTUAL` (with a certificate of our own), `ISTIO_MUTUAL` (with certificates of the mesh).",
    ),
    (
        "DestinationRule",
        "portLevelSettings",
        "For a port, instead of what stands beside it: nothing is inherited.",
    ),
    (
        "Gateway",
        "servers.hosts",
        "Hosts that come in here, as `HOST` or `NAMESPACE/HOST` (`.` is its own): VirtualServices of that namespace may have them.",
    ),
    (
        "Gateway",
        "tls.mode",
        "`SIMPLE`, `MUTUAL` (clients need certificates), `PASSTHROUGH` (by the server name alone), ..",
    ),
    (
        "Gateway",
        "tls.credentialName",
        "The Secret with tls.crt and tls.key, in the namespace of the Gateway.",
    ),
    ("Gateway", "tls.httpsRedirect", "Requests without TLS are redirected to https, with 301."),
    (
        "ServiceEntry",
        "spec.resolution",
        "Where its endpoints are from: `NONE` (the address that was asked for), `STATIC`, `DNS`, `DNS_ROUND_ROBIN`.",
    ),
    ("ServiceEntry", "spec.location", "`MESH_EXTERNAL` (default) or `MESH_INTERNAL`."),
    (
        "AuthorizationPolicy",
        "spec.action",
        "`ALLOW` (default: what fits no rule of any such policy is refused), `DENY` (comes first), `AUDIT`, `CUSTOM`.",
    ),
];

/// What the field of a document of this kind is for.
pub fn of(kind: &str, path: &str) -> Option<&'static str> {
    let is_it = |end: &str| path == end || path.ends_with(&format!(".{end}"));
    let fitting = FIELDS.iter().filter(|(of, end, _)| *of == kind && is_it(end));
    fitting.max_by_key(|(_, end, _)| end.len()).map(|(.., text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_way_that_fits_is_meant() {
        assert!(of("VirtualService", "spec.http.route.weight").is_some_and(|text| text.contains("share")));
        assert!(of("DestinationRule", "spec.trafficPolicy.outlierDetection").is_some());
        assert_eq!(of("Service", "spec.hosts"), None);
        assert_eq!(of("VirtualService", "spec.http.name"), None);
    }
}
