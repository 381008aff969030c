//! Our own `TrafficPolicy`: what Istio has no spelling for, attached to what Istio says; and `Retry`, a class of
//! retries that policies name.

use crate::destination_rule::HttpCookie;
use crate::fallback::Fallback;
use crate::load::{AdaptiveConcurrency, AdmissionControl, OutboundRate};
use crate::virtual_service::PortSelector;
use crate::{Flag, Meta, Number, Place, Placed, Seconds, StringMatch, Text, Texts};

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
        /// Of a body.
        max_request_bytes: Option<Number>,
        adaptive_concurrency: Option<AdaptiveConcurrency>,
        admission_control: Option<AdmissionControl>,
        outbound_rate: Option<OutboundRate>,
        /// Of a service or a subset, as the two that follow.
        health_check: Option<HealthCheck>,
        fallback: Option<Fallback>,
        load_balancing: Option<PolicyLoadBalancing>,
        sticky_session: Option<StickySession>,
        retry: Option<PolicyRetry>,
        hedge: Option<PolicyHedge>,
        timeout: Option<PolicyTimeout>,
        fault: Option<PolicyFault>,
        mirror: Option<PolicyMirror>,
        /// Of a route, or of a service.
        read_write: Option<PolicyReadWrite>,
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

    PolicyRetry {
        /// `default`, `fast`, `conservative`, or the name of a [`Retry`].
        class: Option<Text>,
        unsafe_requests: Option<Placed<UnsafeRequests>>,
    }

    PolicyHedge {
        on_per_try_timeout: Option<Flag>,
        initial_requests: Option<Number>,
        /// In percent.
        additional_request_chance: Option<Placed<f64>>,
    }

    PolicyTimeout {
        auto: Option<PolicyAutoTimeout>,
    }

    PolicyAutoTimeout {
        /// In percent: 99 is p99.
        quantile: Option<Placed<f64>>,
        factor: Option<Placed<f64>>,
        min: Option<Seconds>,
        max: Option<Seconds>,
    }

    PolicyFault {
        scope: Option<Placed<PolicyFaultScope>>,
    }

    PolicyMirror {
        writes: Option<Placed<PolicyMirrorWrites>>,
        /// Marks requests that write; for [`PolicyMirrorWrites::Mark`].
        header: Option<Text>,
        compare: Option<PolicyComparison>,
    }

    PolicyComparison {
        ignore_headers: Texts,
        max_body_bytes: Option<Number>,
    }

    /// Two groups, of which each is scaled by itself. Where one is not said, the route leads where it leads.
    PolicyReadWrite {
        read: Option<PolicyGroup>,
        write: Option<PolicyGroup>,
        write_methods: Texts,
        write_paths: Vec<StringMatch>,
        read_paths: Vec<StringMatch>,
        read_your_writes: Option<PolicyReadYourWrites>,
    }

    /// What is not said of it is as the route has it.
    PolicyGroup {
        host: Option<Text>,
        subset: Option<Text>,
        port: Option<PortSelector>,
    }

    PolicyReadYourWrites {
        lasts: Seconds,
        session: PolicySession,
    }

    /// Exactly one of them.
    PolicySession {
        cookie: Option<Text>,
        header: Option<Text>,
    }

    Retry {
        meta: Meta,
        spec: RetrySpec,
    }

    /// Resilience4j's words: it counts calls, not retries.
    RetrySpec {
        max_attempts: Option<Number>,
        /// The same each time. One of this and the two that grow.
        wait_duration: Option<Seconds>,
        linear: Option<LinearBackoff>,
        exponential: Option<ExponentialBackoff>,
        /// In percent of the wait.
        jitter: Option<Number>,
        retry_on: Option<Text>,
        per_try_timeout: Option<Seconds>,
        /// Waits as long as `Retry-After` says.
        retry_after: Option<RetryAfter>,
    }

    RetryAfter {
        /// One that asks for more is not obeyed.
        max: Option<Seconds>,
    }

    LinearBackoff {
        step: Seconds,
        max: Option<Seconds>,
    }

    ExponentialBackoff {
        first: Seconds,
        factor: Option<Placed<f64>>,
        max: Option<Seconds>,
    }

    /// Names and values as after decoding.
    QueryOperations {
        remove: Texts,
        set: Vec<(Text, Text)>,
        add: Vec<(Text, Text)>,
    }

    /// What Istio's `loadBalancer` cannot say; words are Envoy's where it has them.
    PolicyLoadBalancing {
        /// One of this and `peak_ewma`.
        least_request: Option<PolicyLeastRequest>,
        peak_ewma: Option<PolicyPeakEwma>,
        /// Of a consistent hash: an endpoint takes at most this many percent of the mean.
        hash_balance_factor: Option<Number>,
        /// In percent.
        overprovisioning_factor: Option<Number>,
        /// In percent.
        healthy_panic_threshold: Option<Number>,
    }

    PolicyLeastRequest {
        choice_count: Option<Number>,
        active_request_bias: Option<Placed<f64>>,
    }

    PolicyPeakEwma {
        decay: Option<Seconds>,
        /// What an endpoint is taken to need that has not answered yet.
        default_rtt: Option<Seconds>,
    }

    /// Exactly one of `cookie` and `header`.
    StickySession {
        cookie: Option<HttpCookie>,
        header: Option<Text>,
        /// Where its endpoint cannot take a request, it is refused instead of sent elsewhere.
        strict: Option<Flag>,
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

/// Whether requests are retried that may have acted and are not idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsafeRequests {
    Refuse,
    Allow,
}

/// Whether retries and timeouts of the route see a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyFaultScope {
    Client,
    Upstream,
}

/// What becomes of requests that write where requests are mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyMirrorWrites {
    Send,
    Skip,
    Mark,
}
