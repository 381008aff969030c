//! Limits of load.

use naru_resource::load::{self, RateClass};

use crate::kind::document;
use crate::read::{record, words};

document!(load::Bulkhead { spec: "spec" });
record!(load::BulkheadSpec {
    target_ref: "targetRef",
    max_concurrent: "maxConcurrent",
    max_queue: "maxQueue",
    max_wait: "maxWait",
});
record!(load::AdaptiveConcurrency {
    sample_percentile: "samplePercentile",
    max_concurrency: "maxConcurrency",
    min_concurrency: "minConcurrency",
    update_interval: "updateInterval",
    min_rtt: "minRtt",
    buffer_percent: "bufferPercent",
    refused_status: "refusedStatus",
});
record!(load::MinRtt {
    interval: "interval",
    jitter_percent: "jitterPercent",
    requests: "requests",
    fixed: "fixed",
});
record!(load::AdmissionControl {
    window: "window",
    success_threshold_percent: "successThresholdPercent",
    aggression: "aggression",
    rps_threshold: "rpsThreshold",
    max_rejection_percent: "maxRejectionPercent",
    success: "success",
});
record!(load::Success { http: "http", grpc: "grpc" });
record!(load::StatusRange { from: "from", to: "to" });
record!(load::OutboundRate {
    class: "class",
    limit_for_period: "limitForPeriod",
    limit_refresh_period: "limitRefreshPeriod",
    timeout_duration: "timeoutDuration",
});
words!(RateClass {
    "critical" => RateClass::Critical,
    "default" => RateClass::Default,
    "conservative" => RateClass::Conservative,
});
