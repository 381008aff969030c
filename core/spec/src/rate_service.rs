//! A rate limit service counts: Envoy's `ratelimit` (`extensions/filters/http/ratelimit/v3/rate_limit.proto`).

use std::time::Duration;

use naru_base::Fraction;

use crate::descriptor::is_known_at_gate;
use crate::{Descriptor, ExternalGrpc, HeaderOps, HostRates, Invalid, defaults};

/// Who is asked, about what, and what is done with what they say.
#[derive(Clone, Debug, PartialEq)]
pub struct RateService {
    pub service: ExternalGrpc,
    /// What they call all of these limits.
    pub domain: String,
    /// What rules say to it has this stage.
    pub stage: u32,
    /// What requests are called. Where it is empty, rules and virtual hosts say it.
    pub rates: Vec<Descriptor>,
    /// What its rule says to it instead, whatever else is said.
    pub rule_rates: Vec<Descriptor>,
    pub host_rates: HostRates,
    pub only: Option<RateRequests>,
    /// For an answer. `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Of the requests that nobody answers for, those that are refused.
    pub denies_failed: Fraction,
    pub status_on_error: u16,
    /// Of a refusal.
    pub status: u16,
    /// Of a refusal.
    pub response_headers: HeaderOps,
    /// Of the requests, those that are asked about.
    pub enabled: Fraction,
    /// Of those beyond a limit, those that are refused.
    pub enforced: Fraction,
    /// Responses say `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset`.
    pub tells: bool,
    /// A refusal with 429 says `retry-after`.
    pub tells_retry: bool,
    /// A response to a request beyond a limit says `x-envoy-ratelimited`.
    pub marks: bool,
    /// A call of gRPC is refused as RESOURCE_EXHAUSTED, and not as UNAVAILABLE.
    pub is_resource_exhausted: bool,
}

/// Which requests are asked about: by `x-envoy-internal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateRequests {
    Internal,
    External,
}

/// What a rule says otherwise than its listener.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RateServiceChange {
    pub host_rates: HostRates,
    pub rates: Vec<Descriptor>,
    /// Where it is not empty.
    pub domain: String,
}

impl RateService {
    pub fn new(service: ExternalGrpc, domain: impl Into<String>) -> RateService {
        RateService {
            service,
            domain: domain.into(),
            stage: 0,
            rates: Vec::new(),
            rule_rates: Vec::new(),
            host_rates: HostRates::Override,
            only: None,
            timeout: Some(defaults::RATE_SERVICE_TIMEOUT),
            denies_failed: Fraction::NONE,
            status_on_error: 500,
            status: 429,
            response_headers: HeaderOps::default(),
            enabled: Fraction::ALL,
            enforced: Fraction::ALL,
            tells: false,
            tells_retry: false,
            marks: true,
            is_resource_exhausted: false,
        }
    }

    /// With what a rule says.
    pub fn changed(&self, change: &RateServiceChange) -> RateService {
        let mut changed = self.clone();
        changed.host_rates = change.host_rates;
        changed.rule_rates.clone_from(&change.rates);
        if !change.domain.is_empty() {
            changed.domain.clone_from(&change.domain);
        }
        changed
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        found.extend(self.rates.iter().chain(&self.rule_rates).flat_map(Descriptor::problems));
        if self.service.cluster.is_empty() {
            found.push(Invalid::new("without a cluster nobody can be asked"));
        }
        if self.domain.is_empty() {
            found.push(Invalid::new("a rate limit service is asked about a domain"));
        }
        for status in [self.status, self.status_on_error] {
            if !(200..=599).contains(&status) {
                found.push(Invalid::new(format!("{status} is no status of an answer")));
            }
        }
        if self.response_headers.add.iter().any(|op| !is_known_at_gate(&op.value)) {
            found.push(Invalid::new("a header says what is known when a request comes"));
        }
        found
    }
}
