//! Guards and limits drawn at random, for the walks.

use std::time::Duration;

use naru_base::Chance;
use naru_spec::{
    AdaptiveConcurrency, AdmissionControl, BreakerState, Bulkhead, CircuitBreaker, ClusterLimits, Enforcing,
    FailurePercentage, GrpcCheck, GuardSettings, HealthCheck, HttpCheck, LoadLimits, MinRtt, Named,
    OutlierDetection, Probe, RateLimit, RetryBudget, RetryLimit, SuccessRate, TcpCheck, Thresholds,
    WaitInOpen, Window,
};

fn ms(chance: &mut Chance, most: u64) -> Duration {
    Duration::from_millis(1 + chance.below(most))
}

fn one_in(chance: &mut Chance, count: u64) -> bool {
    chance.below(count) == 0
}

/// Up to so many.
fn upto(chance: &mut Chance, most: u64) -> u32 {
    chance.below(most + 1) as u32
}

pub fn draw_guard(chance: &mut Chance) -> GuardSettings {
    GuardSettings {
        outlier_detection: one_in(chance, 2).then(|| draw_detection(chance)),
        health_check: one_in(chance, 2).then(|| draw_check(chance)),
        circuit_breaker: one_in(chance, 2).then(|| draw_breaker(chance)),
        panic_percent: [0, 50, 100][chance.below(3) as usize],
    }
}

fn draw_detection(chance: &mut Chance) -> OutlierDetection {
    let standard = OutlierDetection::default();
    OutlierDetection {
        consecutive_5xx: upto(chance, 4),
        consecutive_gateway_failure: upto(chance, 4),
        consecutive_local_origin_failure: upto(chance, 4),
        split_external_local_origin_errors: one_in(chance, 2),
        interval: ms(chance, 300),
        base_ejection_time: ms(chance, 300),
        max_ejection_time: Duration::from_secs(1),
        max_ejection_time_jitter: ms(chance, 50),
        max_ejection_percent: upto(chance, 100),
        always_eject_one_host: one_in(chance, 2),
        success_rate: SuccessRate { minimum_hosts: 2, request_volume: 2, stdev_factor: 500 },
        failure_percentage: FailurePercentage { threshold: 50, minimum_hosts: 1, request_volume: 2 },
        enforcing: Enforcing {
            failure_percentage: 100,
            consecutive_gateway_failure: 70,
            ..standard.enforcing
        },
        ..standard
    }
}

fn draw_check(chance: &mut Chance) -> HealthCheck {
    let probe = match chance.below(4) {
        0 => Probe::Tcp(TcpCheck::default()),
        1 => Probe::Tcp(TcpCheck { send: b"ping".to_vec(), receive: vec![b"pong".to_vec()] }),
        2 => Probe::Grpc(GrpcCheck::default()),
        _ => Probe::Http(HttpCheck::new("/healthz")),
    };
    HealthCheck {
        initial_jitter: ms(chance, 20),
        interval_jitter: ms(chance, 20),
        no_traffic_interval: ms(chance, 100),
        reuse_connection: one_in(chance, 2),
        ..HealthCheck::new(ms(chance, 100), ms(chance, 100), probe)
    }
}

fn draw_breaker(chance: &mut Chance) -> CircuitBreaker {
    CircuitBreaker {
        window: match one_in(chance, 2) {
            true => Window::Count(1 + upto(chance, 10)),
            false => Window::Seconds(1 + upto(chance, 2)),
        },
        minimum_calls: 1 + upto(chance, 5),
        slow_call_duration: ms(chance, 100),
        wait_in_open: WaitInOpen::Fixed(ms(chance, 300)),
        trial_calls: 1 + upto(chance, 3),
        max_wait_in_half_open: one_in(chance, 2).then(|| ms(chance, 200)),
        automatic_half_open: one_in(chance, 2),
        initial_state: match chance.below(8) {
            0 => BreakerState::MetricsOnly,
            1 => BreakerState::Disabled,
            _ => BreakerState::Closed,
        },
        ramp: if one_in(chance, 2) { ms(chance, 300) } else { Duration::ZERO },
        ignores_late_calls: one_in(chance, 2),
        ..CircuitBreaker::default()
    }
}

pub fn draw_limits(chance: &mut Chance) -> ClusterLimits {
    let most = |chance: &mut Chance, most: u64| match chance.below(3) {
        0 => u32::MAX,
        _ => 1 + upto(chance, most),
    };
    ClusterLimits {
        normal: Thresholds {
            connections_max: most(chance, 6),
            pending_max: most(chance, 6),
            requests_max: most(chance, 10),
            retries: match one_in(chance, 2) {
                true => RetryLimit::Concurrent(upto(chance, 3)),
                false => RetryLimit::Budget(RetryBudget::default()),
            },
            ..Thresholds::envoy()
        },
        endpoint_connections_max: one_in(chance, 3).then(|| 1 + upto(chance, 3)),
        connection_duration_max: one_in(chance, 3).then(|| ms(chance, 200)),
        stream_duration_max: one_in(chance, 4).then(|| ms(chance, 300)),
        ..ClusterLimits::envoy()
    }
}

/// Limits of the same kind and name are one limit.
pub fn draw_load(chance: &mut Chance) -> LoadLimits {
    fn named<T>(chance: &mut Chance, settings: impl FnOnce(&mut Chance) -> T) -> Option<Named<T>> {
        one_in(chance, 3).then(|| Named {
            name: ["one", "two"][chance.below(2) as usize].to_owned(),
            settings: settings(chance),
        })
    }
    LoadLimits {
        breaker: named(chance, draw_breaker),
        bulkhead: named(chance, |chance| Bulkhead {
            concurrency_max: 1 + upto(chance, 5),
            queue_max: upto(chance, 5),
            wait_max: ms(chance, 100),
        }),
        adaptive: named(chance, |chance| AdaptiveConcurrency {
            concurrency_min: 1 + upto(chance, 2),
            concurrency_max: 10,
            update_interval: ms(chance, 50),
            min_rtt: match one_in(chance, 2) {
                true => MinRtt::Fixed(ms(chance, 50)),
                false => AdaptiveConcurrency::default().min_rtt,
            },
            ..AdaptiveConcurrency::default()
        }),
        admission: named(chance, |_| AdmissionControl::default()).filter(|_| one_in(chance, 2)),
        rate: named(chance, |chance| RateLimit {
            limit: 1 + upto(chance, 10),
            period: ms(chance, 200),
            wait_max: ms(chance, 200),
        }),
    }
}
