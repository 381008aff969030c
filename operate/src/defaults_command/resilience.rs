//! Of what docs/resilience.md is about: retries, timeouts, ejection, health checks, breakers, limits.
//!
//! Values come from where they act: the settings that are made where nothing is said.

use std::time::Duration;

use naru_spec::{
    AdaptiveConcurrency, AdmissionControl, AutoTimeout, Backoff, Bulkhead, CircuitBreaker, ClusterLimits,
    Hedge, MinRtt, OutlierDetection, PeakEwma, RateClass, RetryBudget, RetryClass, RetryPolicy, TcpKeepalive,
    WaitInOpen, Window, defaults as d,
};

use super::Default;
use crate::policies::percent;

const RETRIES: &str = "Retries (of Istio's documents)";
const CLASSES: &str = "Classes of retries (naru.dev Retry, and 'retry' of a TrafficPolicy)";
const TIMEOUTS: &str = "Automatic timeouts and hedges (TrafficPolicy)";
const OUTLIERS: &str = "outlierDetection";
const CHECKS: &str = "healthCheck (TrafficPolicy)";
const BREAKERS: &str = "CircuitBreaker";
const POOLS: &str = "connectionPool";
const BULKHEADS: &str = "Bulkhead";
const ADAPTIVE: &str = "adaptiveConcurrency (TrafficPolicy)";
const ADMISSION: &str = "admissionControl (TrafficPolicy)";
const RATES: &str = "outboundRate (TrafficPolicy)";
const BALANCING: &str = "loadBalancing (TrafficPolicy)";

pub fn defaults() -> Vec<Default> {
    [retries(), ejection(), breakers(), limits()].into_iter().flatten().collect()
}

fn row(at: &'static str, name: &'static str, value: impl ToString, source: &'static str) -> Default {
    Default { at, name, value: value.to_string(), source }
}

fn length(length: Duration) -> String {
    if length.is_zero() { "none".to_owned() } else { format!("{length:?}") }
}

fn most(count: u32) -> String {
    if count == u32::MAX { "no limit".to_owned() } else { count.to_string() }
}

fn backoff(backoff: &Backoff) -> String {
    match *backoff {
        Backoff::Jittered { base, max } => format!("{base:?} to {max:?}, drawn"),
        Backoff::Fixed { wait, .. } => format!("{wait:?}"),
        Backoff::Linear { step, max, .. } => format!("{step:?} more each time, to {max:?}"),
        Backoff::Exponential { first, factor_percent, max, jitter_percent } => {
            let factor = f64::from(factor_percent) / 100.0;
            format!("{first:?} times {factor}, to {max:?}, {jitter_percent}% more or less")
        }
    }
}

fn retries() -> Vec<Default> {
    let (mesh, budget, auto, hedge) =
        (RetryPolicy::istio(false), RetryBudget::default(), AutoTimeout::default(), Hedge::default());
    let mut all = vec![
        row(RETRIES, "retryOn", mesh.on, "Istio"),
        row(RETRIES, "backoff", backoff(&mesh.backoff), "Envoy"),
        row(RETRIES, "perTryTimeout", "none", "Istio"),
        row(RETRIES, "retryBudget.percent", format!("{}%", budget.percent()), "Envoy (Istio: no budget)"),
        row(RETRIES, "retryBudget.minRetryConcurrency", budget.concurrency_min, "Envoy"),
        row(RETRIES, "unsafeRequests", "Refuse", "naru (Istio sends POST again)"),
    ];
    for (name, class) in RetryClass::ALL {
        let policy = RetryPolicy::of_class(class);
        let waits = backoff(&policy.backoff);
        let source = if name == "default" { "Resilience4j" } else { "naru" };
        all.push(row(CLASSES, name, format!("{} calls, {waits}", policy.calls_max()), source));
    }
    all.extend([
        row(CLASSES, "retryOn", RetryPolicy::of_class(RetryClass::Default).on, "naru"),
        row(CLASSES, "exponential.factor", 2, "naru"),
        row(TIMEOUTS, "auto.quantile", f64::from(auto.quantile_permille) / 10.0, "naru"),
        row(TIMEOUTS, "auto.factor", f64::from(auto.factor_percent) / 100.0, "naru"),
        row(TIMEOUTS, "auto.min", length(auto.min), "naru"),
        row(TIMEOUTS, "auto.max (and until enough is known)", length(auto.max), "naru"),
        row(TIMEOUTS, "answers that are enough", d::AUTO_TIMEOUT_SAMPLES_MIN, "naru"),
        row(TIMEOUTS, "hedge.initialRequests", hedge.initial, "Envoy"),
        row(TIMEOUTS, "attempts at a time, at most", d::ATTEMPTS_AT_ONCE_MAX, "naru"),
    ]);
    all
}

fn ejection() -> Vec<Default> {
    let of = OutlierDetection::default();
    vec![
        row(OUTLIERS, "consecutive5xxErrors", of.consecutive_5xx, "Envoy"),
        row(OUTLIERS, "consecutiveGatewayErrors", "off", "Envoy"),
        row(
            OUTLIERS,
            "consecutiveLocalOriginFailures (where split)",
            of.consecutive_local_origin_failure,
            "Envoy",
        ),
        row(OUTLIERS, "interval", length(of.interval), "Envoy"),
        row(OUTLIERS, "baseEjectionTime", length(of.base_ejection_time), "Envoy"),
        row(OUTLIERS, "the longest ejection", length(of.max_ejection_time), "Envoy"),
        row(OUTLIERS, "maxEjectionPercent", format!("{}%", of.max_ejection_percent), "Envoy"),
        row(OUTLIERS, "minHealthPercent (where there is a block)", "0%", "Istio"),
        row(CHECKS, "interval", length(d::HEALTH_CHECK_INTERVAL), "Kubernetes"),
        row(CHECKS, "timeout", length(d::HEALTH_CHECK_TIMEOUT), "Kubernetes"),
        row(CHECKS, "unhealthyThreshold", d::UNHEALTHY_THRESHOLD, "Kubernetes"),
        row(CHECKS, "healthyThreshold", d::HEALTHY_THRESHOLD, "Kubernetes"),
        row(CHECKS, "noTrafficInterval", length(d::NO_TRAFFIC_INTERVAL), "Envoy"),
        row(CHECKS, "unhealthyInterval, healthyEdgeInterval", "interval", "Envoy"),
        row(CHECKS, "unhealthyEdgeInterval", "unhealthyInterval", "Envoy"),
    ]
}

fn breakers() -> Vec<Default> {
    let of = CircuitBreaker::default();
    let percent = |percent: naru_spec::Percent| format!("{}%", f64::from(percent.hundredths()) / 100.0);
    let (window, kind) = match of.window {
        Window::Count(calls) => (calls, "COUNT_BASED"),
        Window::Seconds(seconds) => (seconds, "TIME_BASED"),
    };
    let wait = match of.wait_in_open {
        WaitInOpen::Fixed(wait) => wait,
        WaitInOpen::Exponential { initial, .. } => initial,
    };
    let source = "Resilience4j";
    vec![
        row(BREAKERS, "slidingWindowType", kind, source),
        row(BREAKERS, "slidingWindowSize", window, source),
        row(BREAKERS, "minimumNumberOfCalls", of.minimum_calls, source),
        row(BREAKERS, "failureRateThreshold", percent(of.failure_rate), source),
        row(BREAKERS, "slowCallRateThreshold", percent(of.slow_call_rate), source),
        row(BREAKERS, "slowCallDurationThreshold", length(of.slow_call_duration), source),
        row(BREAKERS, "waitDurationInOpenState", length(wait), source),
        row(
            BREAKERS,
            "exponentialBackoff.multiplier",
            f64::from(d::BREAKER_WAIT_MULTIPLIER) / 1_000.0,
            source,
        ),
        row(BREAKERS, "permittedNumberOfCallsInHalfOpenState", of.trial_calls, source),
        row(BREAKERS, "maxWaitDurationInHalfOpenState", "no limit", source),
        row(BREAKERS, "automaticTransitionFromOpenToHalfOpenEnabled", of.automatic_half_open, source),
        row(BREAKERS, "initialState", of.initial_state.name(), source),
        row(BREAKERS, "gradualRecovery", "none", "naru"),
    ]
}

fn limits() -> Vec<Default> {
    let (pool, keepalive, bulkhead) = (ClusterLimits::istio(), TcpKeepalive::default(), Bulkhead::default());
    let (adaptive, admission, ewma) =
        (AdaptiveConcurrency::default(), AdmissionControl::default(), PeakEwma::default());
    let source = "Istio";
    let mut all = vec![
        row(POOLS, "maxConnections", most(pool.normal.connections_max), source),
        row(POOLS, "http1MaxPendingRequests", most(pool.normal.pending_max), source),
        row(POOLS, "http2MaxRequests", most(pool.normal.requests_max), source),
        row(POOLS, "maxRequestsPerConnection", "no limit", source),
        row(POOLS, "maxConnectionDuration", "no limit", source),
        row(POOLS, "tcpKeepalive.probes", keepalive.probes, "Linux"),
        row(POOLS, "tcpKeepalive.time", length(keepalive.time), "Linux"),
        row(POOLS, "tcpKeepalive.interval", length(keepalive.interval), "Linux"),
        row(BULKHEADS, "maxConcurrent", bulkhead.concurrency_max, "Resilience4j"),
        row(BULKHEADS, "maxQueue (where there is a maxWait)", bulkhead.queue_max, "Resilience4j"),
        row(BULKHEADS, "maxWait", length(bulkhead.wait_max), "Resilience4j"),
        row(ADAPTIVE, "samplePercentile", percent(adaptive.sample_percentile), "Envoy"),
        row(ADAPTIVE, "minConcurrency", adaptive.concurrency_min, "Envoy"),
        row(ADAPTIVE, "maxConcurrency", adaptive.concurrency_max, "Envoy"),
        row(ADAPTIVE, "updateInterval", length(adaptive.update_interval), "Envoy's example"),
        row(ADAPTIVE, "bufferPercent", percent(adaptive.buffer), "Envoy"),
        row(ADAPTIVE, "refusedStatus", adaptive.refused_status, "Envoy"),
    ];
    if let MinRtt::Measured { interval, jitter, requests } = adaptive.min_rtt {
        all.extend([
            row(ADAPTIVE, "minRtt.interval", length(interval), "Envoy's example"),
            row(ADAPTIVE, "minRtt.jitterPercent", percent(jitter), "Envoy"),
            row(ADAPTIVE, "minRtt.requests", requests, "Envoy"),
        ]);
    }
    let aggression = f64::from(admission.aggression_milli) / 1_000.0;
    all.extend([
        row(ADMISSION, "window", length(admission.window), "Envoy"),
        row(ADMISSION, "successThresholdPercent", percent(admission.success_threshold), "Envoy"),
        row(ADMISSION, "aggression", aggression, "Envoy"),
        row(ADMISSION, "rpsThreshold", admission.rps_threshold, "Envoy"),
        row(ADMISSION, "maxRejectionPercent", percent(admission.rejection_max), "Envoy"),
    ]);
    for class in RateClass::ALL {
        let of = class.limit();
        let value = format!("{} each {:?}, wait up to {:?}", of.limit, of.period, of.wait_max);
        all.push(row(RATES, class.name(), value, "naru"));
    }
    all.extend([
        row(
            RATES,
            "timeoutDuration (where a limit is written out)",
            length(d::RATE_WAIT_MAX),
            "Resilience4j",
        ),
        row(BALANCING, "leastRequest.choiceCount", d::LEAST_REQUEST_CHOICES, "Envoy"),
        row(BALANCING, "peakEwma.decay", length(ewma.decay), "Linkerd"),
        row(BALANCING, "peakEwma.defaultRtt", length(ewma.first), "Linkerd"),
        row(BALANCING, "overprovisioningFactor", format!("{}%", d::OVERPROVISIONING_PERCENT), "Envoy"),
        row(BALANCING, "healthyPanicThreshold", format!("{}%", d::PANIC_PERCENT), "Envoy"),
    ]);
    all
}
