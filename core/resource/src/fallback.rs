//! Our own words for what is tried instead: of a `CircuitBreaker` and a `TrafficPolicy`.

use crate::virtual_service::Destination;
use crate::{Number, Place, Text, Texts};

objects! {
    Fallback {
        /// `breakerOpen`, `noHealthyUpstream`, `failure`, `limited`, `"503"`, `500-599`
        on: Texts,
        steps: Vec<FallbackStep>,
    }

    /// Exactly one of them.
    FallbackStep {
        destination: Option<Destination>,
        stale_response: Option<StaleResponse>,
        response: Option<FallbackResponse>,
    }

    StaleResponse {
    }

    FallbackResponse {
        status: Number,
        headers: Vec<(Text, Text)>,
        body: Option<Text>,
        content_type: Option<Text>,
    }
}
