//! Our own `TrafficPolicy`: what Istio has no spelling for, attached to what Istio says.

use crate::load::{AdaptiveConcurrency, AdmissionControl, OutboundRate};
use crate::{Flag, Meta, Number, Place, Seconds, StringMatch, Text, Texts};

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
        /// Of a service or a subset.
        health_check: Option<HealthCheck>,
    }

    /// The document that a policy is for (a VirtualService, a Service, a DestinationRule), or one of its HTTP routes or
    /// subsets.
    TargetRef {
        group: Option<Text>,
        kind: Text,
        name: Text,
        /// The `name` of an HTTP route or subset; all of them where nothing is said.
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

    /// Exactly one of `http`, `tcp` and `grpc`.
    HealthCheck {
        http: Option<HttpCheck>,
        tcp: Option<TcpCheck>,
        grpc: Option<GrpcCheck>,
        interval: Option<Seconds>,
        timeout: Option<Seconds>,
        initial_jitter: Option<Seconds>,
        interval_jitter: Option<Seconds>,
        unhealthy_threshold: Option<Number>,
        healthy_threshold: Option<Number>,
        no_traffic_interval: Option<Seconds>,
        unhealthy_interval: Option<Seconds>,
        unhealthy_edge_interval: Option<Seconds>,
        healthy_edge_interval: Option<Seconds>,
        reuse_connection: Option<Flag>,
    }

    HttpCheck {
        path: Text,
        host: Option<Text>,
        method: Option<Text>,
        headers: Vec<(Text, Text)>,
        /// `200-299`, `"204"`
        expected_statuses: Texts,
        retriable_statuses: Texts,
        http2: Option<Flag>,
    }

    /// Texts, as they are.
    TcpCheck {
        send: Option<Text>,
        receive: Texts,
    }

    GrpcCheck {
        service: Option<Text>,
        authority: Option<Text>,
    }
}
