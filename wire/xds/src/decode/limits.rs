//! Limits of a cluster: `circuit_breakers`, keep-alives, how long connections and requests may last.

use std::time::Duration;

use naru_spec::{ClusterLimits, Http2Keepalive, Path, RetryBudget, RetryLimit, TcpKeepalive, Thresholds};

use super::value;
use crate::findings::{Findings, code};
use crate::proto::{UInt32Value, cluster as proto, core};

pub(super) fn read(
    said: &proto::Cluster,
    limits: &mut ClusterLimits,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if let Some(breakers) = &said.circuit_breakers {
        let path = path.field("circuit_breakers");
        let all = path.field("thresholds");
        for (at, said) in breakers.thresholds.iter().enumerate() {
            let path = all.at(at);
            if is_repeated(&breakers.thresholds, at) {
                let text = "the thresholds of this priority are said twice";
                findings.error(&path, code::DUPLICATE, text, "join them");
            }
            let thresholds = thresholds(said, &path, findings);
            match said.priority() {
                core::RoutingPriority::Default => limits.normal = thresholds,
                core::RoutingPriority::High => limits.high = thresholds,
            }
        }
        endpoint_thresholds(breakers, limits, &path, findings);
    }
    let options = said.upstream_connection_options.as_ref();
    if let Some(keepalive) = options.and_then(|options| options.tcp_keepalive.as_ref()) {
        limits.tcp_keepalive = Some(tcp_keepalive(keepalive));
    }
}

fn is_repeated(all: &[proto::circuit_breakers::Thresholds], at: usize) -> bool {
    let priority = |said: &proto::circuit_breakers::Thresholds| said.priority;
    all.get(at).is_some_and(|said| all.iter().take(at).any(|before| priority(before) == priority(said)))
}

fn number(said: &Option<UInt32Value>, default: u32) -> u32 {
    said.map_or(default, |said| said.value)
}

fn thresholds(
    said: &proto::circuit_breakers::Thresholds,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Thresholds {
    let default = Thresholds::envoy();
    let retries = match &said.retry_budget {
        Some(budget) => {
            let default = RetryBudget::default();
            let percent = budget.budget_percent.map_or(default.percent(), |percent| percent.value);
            let least = number(&budget.min_retry_concurrency, default.concurrency_min);
            let mut read = RetryBudget::of_percent(percent, least).unwrap_or_else(|invalid| {
                // What is out of range is told by the API's own rules.
                if percent.is_nan() {
                    findings.invalid(&path.field("retry_budget.budget_percent"), invalid);
                }
                default
            });
            if let Some(interval) = &budget.budget_interval {
                let path = path.field("retry_budget.budget_interval");
                read.interval = value::duration(interval, &path, findings);
            }
            RetryLimit::Budget(read)
        }
        None => said.max_retries.map_or(default.retries, |count| RetryLimit::Concurrent(count.value)),
    };
    if said.max_connection_pools.is_some_and(|max| max.value < u32::MAX) {
        let text = "the number of connection pools is not limited: each worker has one for each endpoint";
        findings.unsupported(&path.field("max_connection_pools"), text, "limit max_connections");
    }
    Thresholds {
        connections_max: number(&said.max_connections, default.connections_max),
        pending_max: number(&said.max_pending_requests, default.pending_max),
        requests_max: number(&said.max_requests, default.requests_max),
        retries,
        connection_pools_max: number(&said.max_connection_pools, default.connection_pools_max),
        track_remaining: said.track_remaining,
    }
}

/// Envoy acts on the connections of the default priority, and on nothing else.
fn endpoint_thresholds(
    said: &proto::CircuitBreakers,
    limits: &mut ClusterLimits,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let all = path.field("per_host_thresholds");
    for (at, said) in said.per_host_thresholds.iter().enumerate() {
        let path = all.at(at);
        let fields = [
            ("priority", said.priority() == core::RoutingPriority::High),
            ("max_pending_requests", said.max_pending_requests.is_some()),
            ("max_requests", said.max_requests.is_some()),
            ("max_retries", said.max_retries.is_some()),
            ("retry_budget", said.retry_budget.is_some()),
            ("track_remaining", said.track_remaining),
            ("max_connection_pools", said.max_connection_pools.is_some()),
        ];
        for (field, is_said) in fields {
            if is_said {
                let text = "of one endpoint, only the connections are limited";
                findings.unsupported(&path.field(field), text, "");
            }
        }
        if at > 0 {
            findings.error(
                &path,
                code::DUPLICATE,
                "the thresholds of an endpoint are said twice",
                "join them",
            );
        }
        limits.endpoint_connections_max = said.max_connections.map(|count| count.value);
    }
}

fn tcp_keepalive(said: &core::TcpKeepalive) -> TcpKeepalive {
    let default = TcpKeepalive::default();
    let seconds = |said: &Option<UInt32Value>, default: Duration| {
        said.map_or(default, |said| Duration::from_secs(u64::from(said.value)))
    };
    TcpKeepalive {
        probes: number(&said.keepalive_probes, default.probes),
        time: seconds(&said.keepalive_time, default.time),
        interval: seconds(&said.keepalive_interval, default.interval),
    }
}

pub(super) fn durations(
    said: &core::HttpProtocolOptions,
    limits: &mut ClusterLimits,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let path_of = path.field("max_connection_duration");
    limits.connection_duration_max = value::limit(&said.max_connection_duration, None, &path_of, findings);
    let path_of = path.field("max_stream_duration");
    limits.stream_duration_max = value::limit(&said.max_stream_duration, None, &path_of, findings);
}

/// Without an interval there are no PINGs.
pub(super) fn http2_keepalive(
    said: Option<&core::Http2ProtocolOptions>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Http2Keepalive> {
    if said.is_some_and(|said| said.max_inbound_window_update_frames_per_data_frame_sent.is_some()) {
        let path = path.field("max_inbound_window_update_frames_per_data_frame_sent");
        findings.unsupported(&path, "what upstreams may send is not set", "it acts on that of a listener");
    }
    let said = said?.connection_keepalive.as_ref()?;
    let path = path.field("connection_keepalive");
    let interval = said.interval.as_ref()?;
    let timeout = said.timeout.as_ref();
    Some(Http2Keepalive {
        interval: value::duration(interval, &path.field("interval"), findings),
        // One that is missing is told by the API's own rules.
        timeout: timeout
            .map_or(Duration::ZERO, |said| value::duration(said, &path.field("timeout"), findings)),
    })
}
