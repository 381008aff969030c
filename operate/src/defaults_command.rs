//! `naru defaults`: what holds where nothing is said.

mod resilience;

use std::fmt::Write as _;
use std::time::Duration;

use naru_spec::PaceLimit;
use naru_spec::defaults as d;
use serde_json::json;

use crate::cli::{Failure, Output};
use crate::say::say;

/// Where a default holds, what it is called there, its value, and whose it is.
struct Default {
    at: &'static str,
    name: &'static str,
    value: String,
    source: &'static str,
}

pub fn run(output: Output) -> Result<(), Failure> {
    let all = defaults();
    let answer = match output {
        Output::Json => {
            let all: Vec<_> = all
                .iter()
                .map(|d| json!({ "at": d.at, "name": d.name, "value": d.value, "source": d.source }))
                .collect();
            format!("{}\n", serde_json::Value::Array(all))
        }
        Output::Text => table(&all),
    };
    Ok(say(&answer)?)
}

fn table(all: &[Default]) -> String {
    let mut out = String::new();
    for rows in all.chunk_by(|one, next| one.at == next.at) {
        let width = |of: fn(&Default) -> &str| rows.iter().map(|d| of(d).chars().count()).max().unwrap_or(0);
        let (names, values) = (width(|d| d.name), width(|d| &d.value));
        if let Some(first) = rows.first() {
            let _ = writeln!(out, "{}{}", if out.is_empty() { "" } else { "\n" }, first.at);
        }
        for Default { name, value, source, .. } in rows {
            let _ = writeln!(out, "  {name:names$}  {value:values$}  {source}");
        }
    }
    out
}

fn defaults() -> Vec<Default> {
    let row = |at, name, value: String, source| Default { at, name, value, source };
    let length = |length: Duration| format!("{length:?}");
    let number = |number: u32| number.to_string();
    let bytes = |bytes: u32| format!("{} KiB", bytes / 1_024);
    let pace = |pace: PaceLimit| format!("{} bytes in {:?}", pace.bytes, pace.window);
    let allowance = |burst: u32, per_second: u32| format!("{burst} at once, {per_second}/s");
    const LISTENERS: &str = "Listeners";
    const OVERLOAD: &str = "When naru runs short";
    const SURGE: &str = "Surge (kind Surge)";
    const ISTIO: &str = "Routes and clusters of Istio's documents";
    const ENVOY: &str = "Routes and clusters of Envoy's files";
    const PROCESSES: &str = "Processes of Deployments";
    let mut all = vec![
        row(LISTENERS, "max_request_headers_kb", bytes(d::HEADER_BYTES_MAX), "Envoy"),
        row(LISTENERS, "max_headers_count", number(d::HEADER_COUNT_MAX), "Envoy"),
        row(LISTENERS, "max_request_bytes (of a body)", "none".to_owned(), "Envoy"),
        row(LISTENERS, "max_requests_per_connection", "none".to_owned(), "Envoy"),
        row(LISTENERS, "connections, of all, a listener, an address", "none".to_owned(), "Envoy"),
        row(
            LISTENERS,
            "transport_socket_connect_timeout",
            length(d::HANDSHAKE_TIMEOUT),
            "naru (Envoy has none)",
        ),
        row(LISTENERS, "request_headers_timeout", length(d::REQUEST_HEADERS_TIMEOUT), "Envoy, at an edge"),
        row(LISTENERS, "request_timeout", "none".to_owned(), "Envoy"),
        row(LISTENERS, "a body that is waited for", pace(d::REQUEST_PACE), "Kestrel"),
        row(LISTENERS, "an answer that is taken", pace(d::RESPONSE_PACE), "Kestrel"),
        row(LISTENERS, "bytes that wait in the kernel", bytes(d::UNSENT_BYTES_MAX), "naru"),
        row(LISTENERS, "stream_idle_timeout", length(d::STREAM_IDLE_TIMEOUT), "Envoy"),
        row(LISTENERS, "idle_timeout (of connections)", length(d::CONNECTION_IDLE_TIMEOUT), "Envoy"),
        row(LISTENERS, "drain_timeout", length(d::DRAIN_TIMEOUT), "Envoy"),
        row(LISTENERS, "server_name", d::SERVER_NAME.to_owned(), "naru (Envoy says 'envoy')"),
        row(LISTENERS, "max_concurrent_streams", number(d::HTTP2_EDGE_STREAMS_MAX), "Envoy, at an edge"),
        row(
            LISTENERS,
            "initial_stream_window_size",
            number(d::HTTP2_EDGE_STREAM_WINDOW),
            "Envoy, at an edge",
        ),
        row(
            LISTENERS,
            "initial_connection_window_size",
            number(d::HTTP2_EDGE_CONNECTION_WINDOW),
            "Envoy, at an edge",
        ),
        row(LISTENERS, "frameTimeout (of HTTP/2)", length(d::HTTP2_FRAME_TIMEOUT), "naru"),
        row(
            LISTENERS,
            "frames (that carry nothing)",
            allowance(d::HTTP2_FRAMES_BURST, d::HTTP2_FRAMES_PER_SECOND),
            "naru",
        ),
        row(LISTENERS, "framesPerUseful", number(d::HTTP2_FRAMES_PER_USEFUL), "Envoy"),
        row(
            LISTENERS,
            "resets (of requests)",
            allowance(d::HTTP2_RESETS_BURST, d::HTTP2_RESETS_PER_SECOND),
            "naru",
        ),
        row(
            LISTENERS,
            "mistakes (streams to be reset)",
            allowance(d::HTTP2_MISTAKES_BURST, d::HTTP2_MISTAKES_PER_SECOND),
            "naru",
        ),
        row(LISTENERS, "maxBlockFrames (of a head)", number(d::HTTP2_BLOCK_FRAMES_MAX), "naru"),
        row(OVERLOAD, "refresh_interval", length(d::OVERLOAD_REFRESH), "Envoy"),
        row(OVERLOAD, "timer_interval of shrink_heap", length(d::SHRINK_HEAP_EVERY), "Envoy"),
        row(OVERLOAD, "requests are refused, of memory", "95 % until 90 %".to_owned(), "naru up"),
        row(OVERLOAD, "requests are refused, of processors", "96 % to 100 %".to_owned(), "naru up"),
        row(OVERLOAD, "keepPaths", d::SPARED_PATHS.join(" "), "naru up"),
        row(SURGE, "every", length(d::SURGE_EVERY), "naru"),
        row(SURGE, "enterAfter", length(d::SURGE_ENTER_AFTER), "naru"),
        row(SURGE, "leaveAfter", length(d::SURGE_LEAVE_AFTER), "naru"),
        row(SURGE, "leave (of enter)", format!("{} %", d::SURGE_LEAVE_PERCENT), "naru"),
        row(SURGE, "retryAfter of shed", length(d::SURGE_RETRY_AFTER), "naru"),
        row(ISTIO, "timeout", "none".to_owned(), "Istio"),
        row(ISTIO, "retries.attempts", number(d::MESH_RETRIES), "Istio"),
        row(ISTIO, "loadBalancer.simple", "LEAST_REQUEST".to_owned(), "Istio"),
        row(ISTIO, "choices of LEAST_REQUEST", number(d::LEAST_REQUEST_CHOICES), "Envoy"),
        row(ISTIO, "minimumRingSize", d::RING_SIZE_MIN.to_string(), "Istio"),
        row(ISTIO, "tableSize (of maglev)", d::MAGLEV_SIZE.to_string(), "Istio"),
        row(ISTIO, "minimumPercent (of a warmup)", number(d::WARM_UP_MIN_PERCENT), "Istio"),
        row(ISTIO, "connectTimeout", length(d::MESH_CONNECT_TIMEOUT), "Istio"),
        row(ISTIO, "idleTimeout (of connections)", length(d::UPSTREAM_IDLE_TIMEOUT), "Istio"),
        row(ISTIO, "redirectCode", "301".to_owned(), "Istio"),
        row(ISTIO, "minProtocolVersion", "TLSV1_2".to_owned(), "Istio"),
        row(ENVOY, "timeout", length(d::ROUTE_TIMEOUT), "Envoy"),
        row(ENVOY, "max_concurrent_streams", number(d::HTTP2_STREAMS_MAX), "Envoy 1.35"),
        row(ENVOY, "initial_stream_window_size", number(d::HTTP2_STREAM_WINDOW), "Envoy 1.35"),
        row(ENVOY, "initial_connection_window_size", number(d::HTTP2_CONNECTION_WINDOW), "Envoy 1.35"),
        row(ENVOY, "lb_policy", "ROUND_ROBIN".to_owned(), "Envoy"),
        row(ENVOY, "overprovisioning_factor", number(d::OVERPROVISIONING_PERCENT), "Envoy"),
        row(ENVOY, "connect_timeout", length(d::CONNECT_TIMEOUT), "Envoy"),
        row(ENVOY, "idle_timeout (of connections)", length(d::UPSTREAM_IDLE_TIMEOUT), "Envoy"),
        row(ENVOY, "dns_refresh_rate", length(d::DNS_REFRESH), "Envoy"),
        row(
            ENVOY,
            "request body that can be sent again",
            format!("{} KiB", d::REPLAY_BYTES_MAX / 1_024),
            "naru",
        ),
        row(ENVOY, "direct response, at most", format!("{} KiB", d::DIRECT_BODY_BYTES_MAX / 1_024), "Istio"),
    ];
    all.extend(resilience::defaults());
    all.extend([
        row(PROCESSES, "replicas", "1".to_owned(), "Kubernetes"),
        row(PROCESSES, "terminationGracePeriodSeconds", "30".to_owned(), "Kubernetes"),
        row(PROCESSES, "periodSeconds of probes", "10".to_owned(), "Kubernetes"),
        row(PROCESSES, "timeoutSeconds of probes", "1".to_owned(), "Kubernetes"),
        row(PROCESSES, "successThreshold of probes", "1".to_owned(), "Kubernetes"),
        row(PROCESSES, "failureThreshold of probes", "3".to_owned(), "Kubernetes"),
    ]);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_default_is_told_twice_and_what_belongs_together_stands_together() {
        let all = defaults();
        let names: BTreeSet<(&str, &str)> = all.iter().map(|default| (default.at, default.name)).collect();
        assert_eq!(names.len(), all.len());
        let places = all.chunk_by(|one, next| one.at == next.at).map(|rows| rows[0].at);
        let places: Vec<&str> = places.collect();
        assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), places.len(), "{places:?}");
        assert!(all.iter().all(|default| !default.value.is_empty() && !default.source.is_empty()));
    }

    #[test]
    fn everything_that_acts_by_itself_or_is_left_out_has_a_row() {
        let all = defaults();
        for place in [
            "Retries",
            "Classes of retries",
            "Automatic timeouts",
            "outlierDetection",
            "healthCheck",
            "CircuitBreaker",
            "connectionPool",
            "Bulkhead",
            "adaptiveConcurrency",
            "admissionControl",
            "outboundRate",
            "loadBalancing",
        ] {
            assert!(all.iter().any(|default| default.at.starts_with(place)), "{place}");
        }
    }
}
