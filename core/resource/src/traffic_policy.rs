//! Our own `TrafficPolicy`: what Istio has no spelling for, attached to what Istio says.

use crate::load::{AdaptiveConcurrency, AdmissionControl, OutboundRate};
use crate::{Meta, Place, Seconds, StringMatch, Text, Texts};

objects! {
    TrafficPolicy {
        meta: Meta,
        spec: TrafficPolicySpec,
    }

    TrafficPolicySpec {
        target_ref: TargetRef,
        matches: Option<PolicyMatch>,
        query: Option<QueryOperations>,
        idle_timeout: Option<Seconds>,
        adaptive_concurrency: Option<AdaptiveConcurrency>,
        admission_control: Option<AdmissionControl>,
        outbound_rate: Option<OutboundRate>,
    }

    /// The document that a policy is for: a VirtualService, one of its HTTP routes, or a Service.
    TargetRef {
        group: Option<Text>,
        kind: Text,
        name: Text,
        /// The `name` of an HTTP route; all of them where nothing is said.
        section_name: Option<Text>,
    }

    /// Asked beside what the route asks.
    PolicyMatch {
        cookies: Vec<(Text, StringMatch)>,
        /// `10.0.0.0/8`
        source_addresses: Texts,
    }

    /// Names and values as after decoding.
    QueryOperations {
        remove: Texts,
        set: Vec<(Text, Text)>,
        add: Vec<(Text, Text)>,
    }
}
