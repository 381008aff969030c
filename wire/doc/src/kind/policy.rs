//! Our own kinds.

use naru_resource::traffic_policy as policy;

use crate::kind::document;
use crate::read::record;

document!(policy::TrafficPolicy { spec: "spec" });
record!(policy::TrafficPolicySpec {
    target_ref: "targetRef",
    matches: "match",
    query: "query",
    idle_timeout: "idleTimeout",
    adaptive_concurrency: "adaptiveConcurrency",
    admission_control: "admissionControl",
    outbound_rate: "outboundRate",
});
record!(policy::TargetRef { group: "group", kind: "kind", name: "name", section_name: "sectionName" });
record!(policy::PolicyMatch { cookies: "cookies", source_addresses: "sourceAddresses" });
record!(policy::QueryOperations { remove: "remove", set: "set", add: "add" });
