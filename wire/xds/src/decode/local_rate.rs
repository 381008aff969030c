//! The filter for local rate limits, of a listener, of a virtual host and of a route.

use std::time::Duration;

use naru_base::Fraction;
use naru_spec::{Invalid, LocalDescriptor, LocalRate, Path, TokenBucket, defaults};

use super::rates::{self, Said};
use super::{headers, matching, value};
use crate::findings::{Findings, code};
use crate::proto::local_rate::LocalRateLimit;
use crate::proto::{core, kinds, ratelimit_common};

pub(super) fn read(said: &LocalRateLimit, path: &Path<'_>, findings: &mut Findings<'_>) -> LocalRate {
    let bucket = said.token_bucket.as_ref().map(|said| bucket(said, &path.field("token_bucket"), findings));
    let fraction = |said: &Option<core::RuntimeFractionalPercent>| {
        said.as_ref().and_then(matching::fraction).unwrap_or(Fraction::NONE)
    };
    let listed = path.field("descriptors");
    let mut descriptors: Vec<LocalDescriptor> = Vec::new();
    for (at, said) in said.descriptors.iter().enumerate() {
        let path = listed.at(at);
        let descriptor = descriptor(said, &path, findings);
        if descriptors.iter().any(|known| known.entries == descriptor.entries) {
            let text = "another descriptor has the same entries";
            findings.error(&path.field("entries"), code::DUPLICATE, text, "");
        }
        descriptors.push(descriptor);
    }
    let rates = rates::descriptors(&said.rate_limits, Said::ByLocal, &path.field("rate_limits"), findings);
    if descriptors.is_empty() && !rates.is_empty() {
        let text = "no descriptor is for what requests are called here";
        findings.warning(&path.field("rate_limits"), code::NO_EFFECT, text, "say descriptors, too");
    }
    let unenforced = "request_headers_to_add_when_not_enforced";
    LocalRate {
        descriptors,
        rates,
        stage: said.stage,
        host_rates: rates::host_rates(said.vh_rate_limits),
        always_takes_of_all: said.always_consume_default_token_bucket.is_none_or(|said| said.value),
        values_max: said.max_dynamic_descriptors.map_or(defaults::LOCAL_RATE_VALUES_MAX, |said| said.value),
        is_of_connection: said.local_rate_limit_per_downstream_connection,
        enabled: fraction(&said.filter_enabled),
        enforced: fraction(&said.filter_enforced),
        status: rates::refusal_status(said.status.as_ref()),
        response_headers: rates::added(&said.response_headers_to_add, headers::RESPONSE.0, path, findings),
        request_headers: rates::added(
            &said.request_headers_to_add_when_not_enforced,
            unenforced,
            path,
            findings,
        ),
        tells: said.enable_x_ratelimit_headers == 1,
        tells_retry: said.enable_retry_after_header,
        is_resource_exhausted: said.rate_limited_as_resource_exhausted,
        ..LocalRate::new(said.stat_prefix.clone(), bucket)
    }
}

/// What a route or, with `is_of_host`, a virtual host says to it.
pub(super) fn of_route(
    said: &LocalRateLimit,
    is_of_host: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> LocalRate {
    if said.token_bucket.is_none() {
        findings.missing(&path.field("token_bucket"), "a route or a virtual host says its bucket itself");
    }
    LocalRate { is_of_host, ..read(said, path, findings) }
}

fn descriptor(
    said: &ratelimit_common::LocalRateLimitDescriptor,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> LocalDescriptor {
    let of_bucket = said.token_bucket.unwrap_or_default();
    LocalDescriptor {
        entries: said.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
        bucket: bucket(&of_bucket, &path.field("token_bucket"), findings),
        is_shadow: said.shadow_mode,
    }
}

fn bucket(said: &kinds::TokenBucket, path: &Path<'_>, findings: &mut Findings<'_>) -> TokenBucket {
    let fill_interval = said.fill_interval.as_ref();
    let fill_interval = fill_interval
        .map_or(Duration::ZERO, |said| value::duration(said, &path.field("fill_interval"), findings));
    if fill_interval < defaults::FILL_INTERVAL_MIN {
        let text = format!("a fill interval is {} ms or more", defaults::FILL_INTERVAL_MIN.as_millis());
        findings.invalid(&path.field("fill_interval"), Invalid::new(text));
    }
    TokenBucket {
        tokens_max: said.max_tokens,
        tokens_per_fill: said.tokens_per_fill.as_ref().map_or(1, |said| said.value),
        fill_interval,
    }
}
