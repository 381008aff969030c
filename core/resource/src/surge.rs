//! Our own `Surge`: what is given up, step by step, while more comes than there is room for.

use crate::virtual_service::HttpMatch;
use crate::{Meta, Number, Place, Placed, Seconds, Text};

objects! {
    /// Of the process as a whole.
    Surge {
        meta: Meta,
        spec: SurgeSpec,
    }

    SurgeSpec {
        /// Between two looks.
        every: Option<Seconds>,
        capacity: Option<SurgeCapacity>,
        /// From the first one up.
        levels: Vec<SurgeLevel>,
    }

    SurgeCapacity {
        requests_per_second: Number,
    }

    SurgeLevel {
        name: Text,
        enter: SurgeWhen,
        /// Three quarters of `enter` where nothing is said.
        leave: Option<SurgeWhen>,
        enter_after: Option<Seconds>,
        leave_after: Option<Seconds>,
        steps: Vec<SurgeStep>,
    }

    /// One of them reached; all of them below.
    SurgeWhen {
        requests_percent: Option<Placed<f64>>,
        p95: Option<Seconds>,
        p99: Option<Seconds>,
        errors_percent: Option<Placed<f64>>,
        cpu_percent: Option<Placed<f64>>,
        memory_percent: Option<Placed<f64>>,
        queued: Option<Number>,
        cache_miss_percent: Option<Placed<f64>>,
    }

    /// One of them.
    SurgeStep {
        cache_lifetime: Option<SurgeCacheLifetime>,
        rate_limit: Option<SurgeRateLimit>,
        shed: Option<SurgeShed>,
        pause: Option<SurgePause>,
        replicas: Option<SurgeReplicas>,
    }

    SurgeCacheLifetime {
        /// All classes where nothing is said.
        class: Option<Text>,
        factor: Placed<f64>,
    }

    SurgeRateLimit {
        /// Of a RateLimit; all of them where nothing is said.
        name: Option<Text>,
        /// One of its limits.
        limit: Option<Text>,
        factor: Placed<f64>,
    }

    SurgeShed {
        matches: Vec<HttpMatch>,
        percent: Option<Placed<f64>>,
        retry_after: Option<Seconds>,
    }

    /// A Deployment by its name, or all that are marked.
    SurgePause {
        workload: Option<Text>,
        /// The value of their label `naru.dev/priority`.
        priority: Option<Text>,
    }

    SurgeReplicas {
        workload: Text,
        factor: Placed<f64>,
        max: Number,
    }
}
