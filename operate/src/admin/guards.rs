//! What guards clusters, in numbers and flags: under Envoy's names, and our own for breakers.

use naru_guard::{Cause, Fitness, Health};
use naru_proxy::{BreakerStatus, ClusterStatus, EndpointStatus};
use naru_spec::BreakerState;

/// Envoy's flags of a host, as `/clusters` writes them.
pub fn health_flags(fitness: Fitness) -> String {
    let mut flags = String::new();
    if matches!(fitness.health(), Health::Failed | Health::Pending) {
        flags.push_str("/failed_active_hc");
    }
    if fitness.is_ejected() {
        flags.push_str("/failed_outlier_check");
    }
    match fitness.health() {
        Health::Degraded => flags.push_str("/degraded_active_hc"),
        Health::Pending => flags.push_str("/pending_active_hc"),
        Health::Excluded => flags.push_str("/excluded_via_immediate_hc_fail"),
        Health::Unchecked | Health::Healthy | Health::Failed => {}
    }
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

/// The same as a message of Envoy's `HostHealthStatus`.
pub fn health_status(fitness: Fitness) -> serde_json::Value {
    let mut status = serde_json::json!({ "eds_health_status": "HEALTHY" });
    let health = fitness.health();
    for (name, is_set) in [
        ("failed_active_health_check", matches!(health, Health::Failed | Health::Pending)),
        ("failed_outlier_check", fitness.is_ejected()),
        ("failed_active_degraded_check", health == Health::Degraded),
        ("pending_active_hc", health == Health::Pending),
        ("excluded_via_immediate_hc_fail", health == Health::Excluded),
    ] {
        if is_set {
            status[name] = true.into();
        }
    }
    status
}

/// A number of a cluster.
pub struct Stat {
    pub name: String,
    pub is_gauge: bool,
    pub help: &'static str,
    pub value: u64,
}

/// How many endpoints there are, and how many of them are fit.
pub fn membership(cluster: &ClusterStatus) -> Vec<Stat> {
    let of = |is: fn(&EndpointStatus) -> bool| cluster.endpoints.iter().filter(|e| is(e)).count() as u64;
    let gauge = |name: &str, help, value| Stat { name: name.to_owned(), is_gauge: true, help, value };
    vec![
        gauge("membership_total", "Endpoints.", cluster.endpoints.len() as u64),
        gauge(
            "membership_healthy",
            "Endpoints that may be asked.",
            of(|e| e.fitness.is_fit() && !e.fitness.is_degraded()),
        ),
        gauge(
            "membership_degraded",
            "Endpoints that are asked where no other is fit.",
            of(|e| e.fitness.is_degraded()),
        ),
        gauge(
            "membership_excluded",
            "Endpoints that are not asked even in panic.",
            of(|e| !e.fitness.is_counted()),
        ),
    ]
}

/// Of outlier detection and health checks.
pub fn stats(cluster: &ClusterStatus) -> Vec<Stat> {
    let mut all = membership(cluster);
    let Some(guard) = &cluster.guard else { return all };
    let mut add = |name: String, is_gauge, help, value| all.push(Stat { name, is_gauge, help, value });
    if let Some(outlier) = &guard.outlier {
        let ejected = u64::from(outlier.ejections_active);
        add("outlier_detection.ejections_active".into(), true, "Endpoints that are ejected.", ejected);
        let total = outlier.ejections_enforced_total;
        add("outlier_detection.ejections_enforced_total".into(), false, "Ejections.", total);
        let overflow = outlier.ejections_overflow;
        let help = "Ejections that were left out because too many endpoints were ejected.";
        add("outlier_detection.ejections_overflow".into(), false, help, overflow);
        for cause in Cause::ALL {
            let name = cause.name();
            let enforced = format!("outlier_detection.ejections_enforced_{name}");
            add(enforced, false, "Ejections by this cause.", outlier.enforced(cause));
            let detected = format!("outlier_detection.ejections_detected_{name}");
            add(
                detected,
                false,
                "Causes of ejections, whether they were enforced or not.",
                outlier.detected(cause),
            );
        }
    }
    if let Some(health) = &guard.health {
        for (name, help, value) in [
            ("attempt", "Health checks.", health.attempt),
            ("success", "Health checks that were passed.", health.success),
            ("failure", "Health checks that were not passed.", health.failure),
            ("network_failure", "Health checks without an answer.", health.network_failure),
            (
                "passive_failure",
                "Answers to requests that said that the endpoint is not well.",
                health.passive_failure,
            ),
        ] {
            add(format!("health_check.{name}"), false, help, value);
        }
    }
    add(
        "guard.outcomes_lost".into(),
        false,
        "Outcomes that came too fast to be looked at.",
        guard.lost_total,
    );
    all
}

/// Of a circuit breaker: labels, without that of the cluster, and a value.
pub struct BreakerStats {
    pub states: Vec<(&'static str, u64)>,
    pub calls: [(&'static str, u64); 5],
    pub buffered: u64,
    /// In hundredths of a percent; without enough calls there is none.
    pub failure_rate: Option<u32>,
    pub slow_call_rate: Option<u32>,
}

/// That of a cluster, where it has one.
pub fn breaker(cluster: &ClusterStatus) -> Option<BreakerStats> {
    cluster.guard.as_ref()?.breaker.as_ref().map(of_breaker)
}

pub fn of_breaker(breaker: &BreakerStatus) -> BreakerStats {
    let metrics = &breaker.metrics;
    let states = [
        BreakerState::Closed,
        BreakerState::Open,
        BreakerState::HalfOpen,
        BreakerState::Disabled,
        BreakerState::MetricsOnly,
        BreakerState::ForcedOpen,
    ];
    BreakerStats {
        states: states.iter().map(|state| (state.name(), u64::from(*state == metrics.state))).collect(),
        calls: [
            ("successful", metrics.successful_total),
            ("failed", metrics.failed_total),
            ("slow", metrics.slow_total),
            ("ignored", metrics.ignored_total),
            ("not_permitted", breaker.refused_total),
        ],
        buffered: u64::from(metrics.buffered_calls),
        failure_rate: metrics.failure_rate,
        slow_call_rate: metrics.slow_call_rate,
    }
}
