//! Envoy's `local_ratelimit` (`extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto`): one bucket, which all
//! workers share.

use naru_base::Fraction;

use crate::{HeaderOps, Invalid, TokenBucket};

#[derive(Clone, Debug, PartialEq)]
pub struct LocalRate {
    pub stat_prefix: String,
    /// Without one nothing is limited.
    pub bucket: Option<TokenBucket>,
    /// Of the requests, those that the bucket is asked for.
    pub enabled: Fraction,
    /// Of those that find it empty, those that are refused.
    pub enforced: Fraction,
    /// Of a refusal.
    pub status: u16,
    /// Of a refusal; values are literal.
    pub response_headers: HeaderOps,
    /// Responses say `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset`.
    pub tells: bool,
    /// A call of gRPC is refused as RESOURCE_EXHAUSTED, and not as UNAVAILABLE.
    pub is_resource_exhausted: bool,
}

impl LocalRate {
    /// Envoy's defaults: nothing is asked, and nobody is refused, until fractions say so.
    pub fn new(stat_prefix: impl Into<String>, bucket: Option<TokenBucket>) -> LocalRate {
        LocalRate {
            stat_prefix: stat_prefix.into(),
            bucket,
            enabled: Fraction::NONE,
            enforced: Fraction::NONE,
            status: 429,
            response_headers: HeaderOps::default(),
            tells: false,
            is_resource_exhausted: false,
        }
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let faults = self.bucket.iter().flat_map(|bucket| bucket.problems());
        let mut found: Vec<Invalid> = faults.map(|(_, invalid)| invalid).collect();
        if self.response_headers.add.iter().any(|op| op.value.as_literal().is_none()) {
            found.push(Invalid::new("a header of a refusal has a value that is written out"));
        }
        found
    }
}
