//! Our own words for limits of load: the kind `Bulkhead`, and what a `TrafficPolicy` says of them.

use crate::traffic_policy::TargetRef;
use crate::{Meta, Number, Place, Placed, Seconds};

objects! {
    Bulkhead {
        meta: Meta,
        spec: BulkheadSpec,
    }

    BulkheadSpec {
        target_ref: TargetRef,
        max_concurrent: Option<Number>,
        max_queue: Option<Number>,
        max_wait: Option<Seconds>,
    }

    AdaptiveConcurrency {
        sample_percentile: Option<Placed<f64>>,
        max_concurrency: Option<Number>,
        min_concurrency: Option<Number>,
        update_interval: Option<Seconds>,
        min_rtt: Option<MinRtt>,
        buffer_percent: Option<Placed<f64>>,
        refused_status: Option<Number>,
    }

    /// Measured, unless it is fixed.
    MinRtt {
        interval: Option<Seconds>,
        jitter_percent: Option<Placed<f64>>,
        requests: Option<Number>,
        fixed: Option<Seconds>,
    }

    AdmissionControl {
        window: Option<Seconds>,
        success_threshold_percent: Option<Placed<f64>>,
        aggression: Option<Placed<f64>>,
        rps_threshold: Option<Number>,
        max_rejection_percent: Option<Placed<f64>>,
        success: Option<Success>,
    }

    /// What counts as a success.
    Success {
        http: Vec<StatusRange>,
        grpc: Vec<Number>,
    }

    /// The end is not part of it.
    StatusRange {
        from: Number,
        to: Number,
    }

    /// By its class, or by its numbers; Resilience4j's names.
    OutboundRate {
        class: Option<Placed<RateClass>>,
        limit_for_period: Option<Number>,
        limit_refresh_period: Option<Seconds>,
        timeout_duration: Option<Seconds>,
    }
}

/// The classes of the dailyfeed services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateClass {
    Critical,
    Default,
    Conservative,
}
