//! Local rate limits in Envoy's words.

use naru_spec::{LocalDescriptor, LocalRate, TokenBucket, defaults};

use super::{matching, rates, value};
use crate::proto::local_rate::LocalRateLimit;
use crate::proto::ratelimit_common::{LocalRateLimitDescriptor, rate_limit_descriptor};
use crate::proto::{UInt32Value, kinds};

pub(super) fn write(rate: &LocalRate) -> LocalRateLimit {
    LocalRateLimit {
        stat_prefix: rate.stat_prefix.clone(),
        status: Some(kinds::HttpStatus { code: i32::from(rate.status) }),
        token_bucket: rate.bucket.map(bucket),
        filter_enabled: Some(matching::fraction(rate.enabled)),
        filter_enforced: Some(matching::fraction(rate.enforced)),
        request_headers_to_add_when_not_enforced: value::additions(&rate.request_headers),
        response_headers_to_add: value::additions(&rate.response_headers),
        descriptors: rate.descriptors.iter().map(descriptor).collect(),
        rate_limits: rates::descriptors(&rate.rates),
        stage: rate.stage,
        local_rate_limit_per_downstream_connection: rate.is_of_connection,
        vh_rate_limits: rates::host_rates(rate.host_rates),
        always_consume_default_token_bucket: (!rate.always_takes_of_all).then(|| value::flag(false)),
        max_dynamic_descriptors: (rate.values_max != defaults::LOCAL_RATE_VALUES_MAX)
            .then_some(UInt32Value { value: rate.values_max }),
        enable_x_ratelimit_headers: rate.tells.into(),
        enable_retry_after_header: rate.tells_retry,
        rate_limited_as_resource_exhausted: rate.is_resource_exhausted,
        ..Default::default()
    }
}

fn descriptor(said: &LocalDescriptor) -> LocalRateLimitDescriptor {
    let entry = |(key, value): &(String, String)| rate_limit_descriptor::Entry {
        key: key.clone(),
        value: value.clone(),
    };
    LocalRateLimitDescriptor {
        entries: said.entries.iter().map(entry).collect(),
        token_bucket: Some(bucket(said.bucket)),
        shadow_mode: said.is_shadow,
    }
}

fn bucket(bucket: TokenBucket) -> kinds::TokenBucket {
    kinds::TokenBucket {
        max_tokens: bucket.tokens_max,
        tokens_per_fill: Some(value::number(bucket.tokens_per_fill)),
        fill_interval: Some(value::duration(bucket.fill_interval)),
    }
}
