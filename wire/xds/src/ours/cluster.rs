//! Clusters, as they are said: how they are found and balanced, what guards and limits them.

use naru_spec::{
    AdaptiveConcurrency, AdmissionControl, AfterHalfOpen, BreakerState, Bulkhead, CallFailures,
    CircuitBreaker, ClusterLimits, Discovery, DnsFamily, DnsSettings, Enforcing, FailurePercentage, Fallback,
    FallbackAnswer, FallbackOn, FallbackStep, GrpcCheck, GuardSettings, HealthCheck, Http2Keepalive,
    Http2Settings, HttpCheck, LoadLimits, MinRtt, OnDemand, OutlierDetection, PaceLimit, Probe, RateLimit,
    SuccessCriteria, SuccessRate, TcpCheck, TcpKeepalive, Thresholds, TokenBucket, UpstreamProtocol,
    WaitInOpen, Window,
};

structs! {
    Http2Settings { max_concurrent_streams, stream_window, connection_window }
    DnsSettings { family, refresh, failure_refresh }
    OnDemand { header, authority_port, port_override, cleanup_interval }
    GuardSettings { outlier_detection, health_check, circuit_breaker, panic_percent }
    OutlierDetection {
        consecutive_5xx, consecutive_gateway_failure, consecutive_local_origin_failure,
        split_external_local_origin_errors, error_statuses, interval, base_ejection_time, max_ejection_time,
        max_ejection_time_jitter, max_ejection_percent, always_eject_one_host, success_rate,
        failure_percentage, enforcing, successful_active_health_check_uneject_host,
    }
    SuccessRate { minimum_hosts, request_volume, stdev_factor }
    FailurePercentage { threshold, minimum_hosts, request_volume }
    Enforcing {
        consecutive_5xx, consecutive_gateway_failure, consecutive_local_origin_failure, success_rate,
        local_origin_success_rate, failure_percentage, local_origin_failure_percentage,
    }
    HealthCheck {
        probe, timeout, interval, initial_jitter, interval_jitter, interval_jitter_percent,
        unhealthy_threshold, healthy_threshold, no_traffic_interval, no_traffic_healthy_interval,
        unhealthy_interval, unhealthy_edge_interval, healthy_edge_interval, reuse_connection,
    }
    HttpCheck { path, host, method, headers, expected_statuses, retriable_statuses, is_http2 }
    TcpCheck { send, receive }
    GrpcCheck { service, authority }
    CircuitBreaker {
        window, minimum_calls, failure_rate, slow_call_rate, slow_call_duration, wait_in_open, trial_calls,
        max_wait_in_half_open, after_half_open, automatic_half_open, initial_state, failures, ramp,
        ignores_late_calls,
    }
    CallFailures {
        statuses, grpc_statuses, connect_failures, resets, timeouts, ignored_statuses,
        ignored_grpc_statuses,
    }
    Fallback { on, steps }
    FallbackOn { is_cut_off, has_no_endpoint, is_failed, is_limited, statuses }
    FallbackAnswer { status, headers, body }
    PaceLimit { bytes, window }
    ClusterLimits {
        normal, high, endpoint_connections_max, tcp_idle_timeout, tcp_keepalive, http2_keepalive,
        connection_duration_max, stream_duration_max,
    }
    LoadLimits { breaker, bulkhead, adaptive, admission, rate }
    Thresholds { connections_max, pending_max, requests_max, retries, connection_pools_max, track_remaining }
    TcpKeepalive { probes, time, interval }
    Http2Keepalive { interval, timeout }
    Bulkhead { concurrency_max, queue_max, wait_max }
    AdaptiveConcurrency {
        sample_percentile, concurrency_max, concurrency_min, update_interval, min_rtt, buffer,
        refused_status,
    }
    AdmissionControl { window, success_threshold, aggression_milli, rps_threshold, rejection_max, success }
    RateLimit { limit, period, wait_max }
    SuccessCriteria { http, grpc }
    TokenBucket { tokens_max, tokens_per_fill, fill_interval }
}

enums! {
    Discovery { Static, StrictDns(it), LogicalDns(it), OnDemand(it) }
    UpstreamProtocol { Http1, Http2, Alpn, Downstream }
    DnsFamily { Auto, V4Only, V6Only, V4Preferred, All }
    Probe { Http(it), Tcp(it), Grpc(it) }
    Window { Count(it), Seconds(it) }
    WaitInOpen { Fixed(it), Exponential { initial, multiplier, max, randomization } }
    AfterHalfOpen { Open, Closed }
    BreakerState { Closed, Open, HalfOpen, Disabled, MetricsOnly, ForcedOpen }
    FallbackStep { Cluster(it), StaleResponse, Answer(it) }
    MinRtt { Measured { interval, jitter, requests }, Fixed(it) }
}
