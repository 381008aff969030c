//! Envoy's `local_ratelimit` (`extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto`): buckets of this
//! process, which all workers share, or of each connection. One is for all requests, others are for those that are called
//! so.

use naru_base::Fraction;

use crate::descriptor::is_known_at_gate;
use crate::{Descriptor, HeaderOps, HostRates, Invalid, TokenBucket};

#[derive(Clone, Debug, PartialEq)]
pub struct LocalRate {
    pub stat_prefix: String,
    /// For all requests. Without one only those are limited that a descriptor is for.
    pub bucket: Option<TokenBucket>,
    /// For requests that are called so.
    pub descriptors: Vec<LocalDescriptor>,
    /// What requests are called. Where it is empty, rules and virtual hosts say it.
    pub rates: Vec<Descriptor>,
    /// What rules say to it has this stage.
    pub stage: u32,
    pub host_rates: HostRates,
    /// A request that a descriptor is for takes of the bucket for all, too.
    pub always_takes_of_all: bool,
    /// Of a descriptor that leaves a value open, so many values are remembered.
    pub values_max: u32,
    /// Each connection of a client has buckets of its own.
    pub is_of_connection: bool,
    /// Said for a virtual host: all of its rules share it.
    pub is_of_host: bool,
    /// Of the requests, those that the bucket is asked for.
    pub enabled: Fraction,
    /// Of those that find it empty, those that are refused.
    pub enforced: Fraction,
    /// Of a refusal.
    pub status: u16,
    /// Of a refusal.
    pub response_headers: HeaderOps,
    /// Of a request that is not refused because refusals are not enforced.
    pub request_headers: HeaderOps,
    /// Responses say `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset`.
    pub tells: bool,
    /// A refusal with 429 says `retry-after`.
    pub tells_retry: bool,
    /// A call of gRPC is refused as RESOURCE_EXHAUSTED, and not as UNAVAILABLE.
    pub is_resource_exhausted: bool,
}

/// The bucket of requests that are called so.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalDescriptor {
    /// Keys and values; an empty value is any, each with a bucket of its own.
    pub entries: Vec<(String, String)>,
    pub bucket: TokenBucket,
    /// It refuses nobody.
    pub is_shadow: bool,
}

impl LocalDescriptor {
    /// Whether it leaves a value open.
    pub fn is_open(&self) -> bool {
        self.entries.iter().any(|(_, value)| value.is_empty())
    }
}

impl LocalRate {
    /// Envoy's defaults: nothing is asked, and nobody is refused, until fractions say so.
    pub fn new(stat_prefix: impl Into<String>, bucket: Option<TokenBucket>) -> LocalRate {
        LocalRate {
            stat_prefix: stat_prefix.into(),
            bucket,
            descriptors: Vec::new(),
            rates: Vec::new(),
            stage: 0,
            host_rates: HostRates::Override,
            always_takes_of_all: true,
            values_max: crate::defaults::LOCAL_RATE_VALUES_MAX,
            is_of_connection: false,
            is_of_host: false,
            enabled: Fraction::NONE,
            enforced: Fraction::NONE,
            status: 429,
            response_headers: HeaderOps::default(),
            request_headers: HeaderOps::default(),
            tells: false,
            tells_retry: false,
            is_resource_exhausted: false,
        }
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let buckets = self.bucket.iter().chain(self.descriptors.iter().map(|said| &said.bucket));
        let faults = buckets.flat_map(|bucket| bucket.problems());
        let mut found: Vec<Invalid> = faults.map(|(_, invalid)| invalid).collect();
        found.extend(self.rates.iter().flat_map(Descriptor::problems));
        for (at, said) in self.descriptors.iter().enumerate() {
            if said.entries.is_empty() {
                found.push(Invalid::new("a descriptor without entries is for no request"));
            }
            if self.descriptors.iter().take(at).any(|before| before.entries == said.entries) {
                found.push(Invalid::new("two descriptors have the same entries"));
            }
        }
        if self.values_max == 0 {
            found.push(Invalid::new("it can remember no value"));
        }
        let added = self.response_headers.add.iter().chain(&self.request_headers.add);
        if added.into_iter().any(|op| !is_known_at_gate(&op.value)) {
            found.push(Invalid::new("a header says what is known when a request comes"));
        }
        found
    }
}
