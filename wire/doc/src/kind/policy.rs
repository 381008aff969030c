//! Our own kinds.

use naru_resource::circuit_breaker::{self as breaker, AfterWait, InitialState, WindowType};
use naru_resource::traffic_policy as policy;

use crate::kind::document;
use crate::read::{record, words};

document!(policy::TrafficPolicy { spec: "spec" });
record!(policy::TrafficPolicySpec {
    target_ref: "targetRef",
    matches: "match",
    query: "query",
    idle_timeout: "idleTimeout",
    max_request_bytes: "maxRequestBytes",
    adaptive_concurrency: "adaptiveConcurrency",
    admission_control: "admissionControl",
    outbound_rate: "outboundRate",
    health_check: "healthCheck",
    fallback: "fallback",
    load_balancing: "loadBalancing",
    sticky_session: "stickySession",
    retry: "retry",
    hedge: "hedge",
    timeout: "timeout",
    fault: "fault",
    mirror: "mirror",
    read_write: "readWrite",
});
record!(policy::TargetRef { group: "group", kind: "kind", name: "name", section_name: "sectionName" });
record!(policy::PolicyMatch { cookies: "cookies", source_addresses: "sourceAddresses" });
record!(policy::QueryOperations { remove: "remove", set: "set", add: "add" });
record!(policy::PolicyLoadBalancing {
    least_request: "leastRequest",
    peak_ewma: "peakEwma",
    hash_balance_factor: "hashBalanceFactor",
    overprovisioning_factor: "overprovisioningFactor",
    healthy_panic_threshold: "healthyPanicThreshold",
});
record!(policy::PolicyLeastRequest { choice_count: "choiceCount", active_request_bias: "activeRequestBias" });
record!(policy::PolicyPeakEwma { decay: "decay", default_rtt: "defaultRtt" });
record!(policy::StickySession { cookie: "cookie", header: "header", strict: "strict" });
record!(policy::HealthCheck {
    http: "http",
    tcp: "tcp",
    grpc: "grpc",
    interval: "interval",
    timeout: "timeout",
    initial_jitter: "initialJitter",
    interval_jitter: "intervalJitter",
    unhealthy_threshold: "unhealthyThreshold",
    healthy_threshold: "healthyThreshold",
    no_traffic_interval: "noTrafficInterval",
    unhealthy_interval: "unhealthyInterval",
    unhealthy_edge_interval: "unhealthyEdgeInterval",
    healthy_edge_interval: "healthyEdgeInterval",
    reuse_connection: "reuseConnection",
});
record!(policy::HttpCheck {
    path: "path",
    host: "host",
    method: "method",
    headers: "headers",
    expected_statuses: "expectedStatuses",
    retriable_statuses: "retriableStatuses",
    http2: "http2",
});
record!(policy::TcpCheck { send: "send", receive: "receive" });
record!(policy::GrpcCheck { service: "service", authority: "authority" });

document!(breaker::CircuitBreaker { spec: "spec" });
record!(breaker::CircuitBreakerSpec {
    target_ref: "targetRef",
    sliding_window_type: "slidingWindowType",
    sliding_window_size: "slidingWindowSize",
    minimum_number_of_calls: "minimumNumberOfCalls",
    failure_rate_threshold: "failureRateThreshold",
    slow_call_rate_threshold: "slowCallRateThreshold",
    slow_call_duration_threshold: "slowCallDurationThreshold",
    wait_duration_in_open_state: "waitDurationInOpenState",
    exponential_backoff: "exponentialBackoff",
    permitted_number_of_calls_in_half_open_state: "permittedNumberOfCallsInHalfOpenState",
    max_wait_duration_in_half_open_state: "maxWaitDurationInHalfOpenState",
    transition_to_state_after_wait_duration: "transitionToStateAfterWaitDuration",
    automatic_transition_from_open_to_half_open_enabled: "automaticTransitionFromOpenToHalfOpenEnabled",
    initial_state: "initialState",
    record: "record",
    ignore: "ignore",
    gradual_recovery: "gradualRecovery",
    ignore_late_calls: "ignoreLateCalls",
    fallback: "fallback",
});
record!(breaker::ExponentialBackoff {
    multiplier: "multiplier",
    max_wait_duration: "maxWaitDuration",
    randomized_wait_factor: "randomizedWaitFactor",
});
record!(breaker::RecordedFailures {
    statuses: "statuses",
    grpc_statuses: "grpcStatuses",
    connect_failures: "connectFailures",
    resets: "resets",
    timeouts: "timeouts",
});
record!(breaker::IgnoredOutcomes { statuses: "statuses", grpc_statuses: "grpcStatuses" });
words!(WindowType { "COUNT_BASED" => WindowType::CountBased, "TIME_BASED" => WindowType::TimeBased });
words!(AfterWait { "OPEN" => AfterWait::Open, "CLOSED" => AfterWait::Closed });
words!(InitialState {
    "CLOSED" => InitialState::Closed,
    "DISABLED" => InitialState::Disabled,
    "METRICS_ONLY" => InitialState::MetricsOnly,
    "FORCED_OPEN" => InitialState::ForcedOpen,
});
record!(policy::PolicyRetry { class: "class", unsafe_requests: "unsafeRequests" });
words!(policy::UnsafeRequests {
    "Refuse" => policy::UnsafeRequests::Refuse,
    "Allow" => policy::UnsafeRequests::Allow,
});
record!(policy::PolicyHedge {
    on_per_try_timeout: "onPerTryTimeout",
    initial_requests: "initialRequests",
    additional_request_chance: "additionalRequestChance",
});
record!(policy::PolicyTimeout { auto: "auto" });
record!(policy::PolicyAutoTimeout { quantile: "quantile", factor: "factor", min: "min", max: "max" });
record!(policy::PolicyFault { scope: "scope" });
words!(policy::PolicyFaultScope {
    "Client" => policy::PolicyFaultScope::Client,
    "Upstream" => policy::PolicyFaultScope::Upstream,
});
record!(policy::PolicyMirror { writes: "writes", header: "header", compare: "compare" });
words!(policy::PolicyMirrorWrites {
    "Send" => policy::PolicyMirrorWrites::Send,
    "Skip" => policy::PolicyMirrorWrites::Skip,
    "Mark" => policy::PolicyMirrorWrites::Mark,
});
record!(policy::PolicyComparison { ignore_headers: "ignoreHeaders", max_body_bytes: "maxBodyBytes" });
record!(policy::PolicyReadWrite {
    read: "read",
    write: "write",
    write_methods: "writeMethods",
    write_paths: "writePaths",
    read_paths: "readPaths",
    read_your_writes: "readYourWrites",
});
record!(policy::PolicyGroup { host: "host", subset: "subset", port: "port" });
record!(policy::PolicyReadYourWrites { lasts: "for", session: "session" });
record!(policy::PolicySession { cookie: "cookie", header: "header" });

document!(policy::Retry { spec: "spec" });
record!(policy::RetrySpec {
    max_attempts: "maxAttempts",
    wait_duration: "waitDuration",
    linear: "linear",
    exponential: "exponential",
    jitter: "jitter",
    retry_on: "retryOn",
    per_try_timeout: "perTryTimeout",
    retry_after: "retryAfter",
});
record!(policy::RetryAfter { max: "max" });
record!(policy::LinearBackoff { step: "step", max: "max" });
record!(policy::ExponentialBackoff { first: "first", factor: "factor", max: "max" });
