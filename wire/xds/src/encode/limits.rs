//! Limits of a cluster. What holds anyway is not said.

use naru_spec::{ClusterLimits, Http2Keepalive, RetryLimit, TcpKeepalive, Thresholds};

use super::value;
use crate::proto::{cluster as proto, core, kinds};

pub(super) fn circuit_breakers(limits: &ClusterLimits) -> Option<proto::CircuitBreakers> {
    let priorities =
        [(core::RoutingPriority::Default, &limits.normal), (core::RoutingPriority::High, &limits.high)];
    let said = priorities.into_iter().filter(|(_, said)| **said != Thresholds::envoy());
    let of_endpoint = limits.endpoint_connections_max.map(|max| proto::circuit_breakers::Thresholds {
        max_connections: Some(value::number(max)),
        ..Default::default()
    });
    let message = proto::CircuitBreakers {
        thresholds: said.map(|(priority, said)| thresholds(priority, said)).collect(),
        per_host_thresholds: of_endpoint.into_iter().collect(),
    };
    (!message.thresholds.is_empty() || !message.per_host_thresholds.is_empty()).then_some(message)
}

fn thresholds(priority: core::RoutingPriority, said: &Thresholds) -> proto::circuit_breakers::Thresholds {
    use proto::circuit_breakers::thresholds::RetryBudget;
    let (retries, budget) = match said.retries {
        RetryLimit::Concurrent(count) => (Some(count), None),
        RetryLimit::Budget(budget) => (
            None,
            Some(RetryBudget {
                budget_percent: Some(kinds::Percent { value: budget.percent() }),
                min_retry_concurrency: Some(value::number(budget.concurrency_min)),
                budget_interval: Some(budget.interval)
                    .filter(|interval| !interval.is_zero())
                    .map(value::duration),
            }),
        ),
    };
    proto::circuit_breakers::Thresholds {
        priority: priority.into(),
        max_connections: Some(value::number(said.connections_max)),
        max_pending_requests: Some(value::number(said.pending_max)),
        max_requests: Some(value::number(said.requests_max)),
        max_retries: retries.map(value::number),
        retry_budget: budget,
        track_remaining: said.track_remaining,
        max_connection_pools: Some(said.connection_pools_max)
            .filter(|max| *max < u32::MAX)
            .map(value::number),
    }
}

pub(super) fn connection_options(keepalive: &TcpKeepalive) -> proto::UpstreamConnectionOptions {
    let seconds =
        |time: std::time::Duration| value::number(u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    proto::UpstreamConnectionOptions {
        tcp_keepalive: Some(core::TcpKeepalive {
            keepalive_probes: Some(value::number(keepalive.probes)),
            keepalive_time: Some(seconds(keepalive.time)),
            keepalive_interval: Some(seconds(keepalive.interval)),
        }),
        ..Default::default()
    }
}

pub(super) fn http2_keepalive(keepalive: &Http2Keepalive) -> core::KeepaliveSettings {
    core::KeepaliveSettings {
        interval: Some(value::duration(keepalive.interval)),
        timeout: Some(value::duration(keepalive.timeout)),
        ..Default::default()
    }
}
