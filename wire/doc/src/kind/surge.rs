//! What is given up while more comes than there is room for.

use naru_resource::surge;

use crate::kind::document;
use crate::read::record;

document!(surge::Surge { spec: "spec" });
record!(surge::SurgeSpec { every: "every", capacity: "capacity", levels: "levels" });
record!(surge::SurgeCapacity { requests_per_second: "requestsPerSecond" });
record!(surge::SurgeLevel {
    name: "name",
    enter: "enter",
    leave: "leave",
    enter_after: "enterAfter",
    leave_after: "leaveAfter",
    steps: "steps",
});
record!(surge::SurgeWhen {
    requests_percent: "requestsPercent",
    p95: "p95",
    p99: "p99",
    errors_percent: "errorsPercent",
    cpu_percent: "cpuPercent",
    memory_percent: "memoryPercent",
    queued: "queued",
    cache_miss_percent: "cacheMissPercent",
});
record!(surge::SurgeStep {
    cache_lifetime: "cacheLifetime",
    rate_limit: "rateLimit",
    shed: "shed",
    pause: "pause",
    replicas: "replicas",
});
record!(surge::SurgeCacheLifetime { class: "class", factor: "factor" });
record!(surge::SurgeRateLimit { name: "name", limit: "limit", factor: "factor" });
record!(surge::SurgeShed { matches: "match", percent: "percent", retry_after: "retryAfter" });
record!(surge::SurgePause { workload: "workload", priority: "priority" });
record!(surge::SurgeReplicas { workload: "workload", factor: "factor", max: "max" });
