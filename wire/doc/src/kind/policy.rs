//! Our own kinds.

use naru_resource::traffic_policy as policy;

use crate::kind::document;
use crate::read::{record, words};

document!(policy::TrafficPolicy { spec: "spec" });
record!(policy::TrafficPolicySpec {
    target_ref: "targetRef",
    matches: "match",
    query: "query",
    idle_timeout: "idleTimeout",
    retry: "retry",
    hedge: "hedge",
    timeout: "timeout",
    fault: "fault",
    mirror: "mirror",
});
record!(policy::TargetRef { group: "group", kind: "kind", name: "name", section_name: "sectionName" });
record!(policy::PolicyMatch { cookies: "cookies", source_addresses: "sourceAddresses" });
record!(policy::QueryOperations { remove: "remove", set: "set", add: "add" });
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

document!(policy::Retry { spec: "spec" });
record!(policy::RetrySpec {
    max_attempts: "maxAttempts",
    wait_duration: "waitDuration",
    linear: "linear",
    exponential: "exponential",
    jitter: "jitter",
    retry_on: "retryOn",
    per_try_timeout: "perTryTimeout",
});
record!(policy::LinearBackoff { step: "step", max: "max" });
record!(policy::ExponentialBackoff { first: "first", factor: "factor", max: "max" });
