//! Local rate limits in Envoy's words.

use naru_spec::LocalRate;

use super::{matching, value};
use crate::proto::kinds;
use crate::proto::local_rate::LocalRateLimit;

pub(super) fn write(rate: &LocalRate) -> LocalRateLimit {
    LocalRateLimit {
        stat_prefix: rate.stat_prefix.clone(),
        status: Some(kinds::HttpStatus { code: i32::from(rate.status) }),
        token_bucket: rate.bucket.map(|bucket| kinds::TokenBucket {
            max_tokens: bucket.tokens_max,
            tokens_per_fill: Some(value::number(bucket.tokens_per_fill)),
            fill_interval: Some(value::duration(bucket.fill_interval)),
        }),
        filter_enabled: Some(matching::fraction(rate.enabled)),
        filter_enforced: Some(matching::fraction(rate.enforced)),
        response_headers_to_add: value::additions(&rate.response_headers),
        enable_x_ratelimit_headers: rate.tells.into(),
        rate_limited_as_resource_exhausted: rate.is_resource_exhausted,
        ..Default::default()
    }
}
