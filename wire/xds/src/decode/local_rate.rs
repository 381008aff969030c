//! The filter for local rate limits, of a listener and of a route.

use std::time::Duration;

use naru_base::Fraction;
use naru_spec::{HeaderOps, Invalid, LocalRate, Path, TokenBucket, defaults};

use super::{headers, matching, value};
use crate::findings::Findings;
use crate::proto::local_rate::LocalRateLimit;
use crate::proto::{core, kinds};

pub(super) fn read(said: &LocalRateLimit, path: &Path<'_>, findings: &mut Findings<'_>) -> LocalRate {
    let bucket = said.token_bucket.as_ref().map(|said| bucket(said, &path.field("token_bucket"), findings));
    let fraction = |said: &Option<core::RuntimeFractionalPercent>| {
        said.as_ref().and_then(matching::fraction).unwrap_or(Fraction::NONE)
    };
    let response_headers =
        headers::ops(&said.response_headers_to_add, &[], headers::RESPONSE, path, findings);
    for (at, op) in response_headers.add.iter().enumerate() {
        if op.value.as_literal().is_none() {
            let text = "a header of a refusal has a value that is written out";
            let path = path.field("response_headers_to_add");
            findings.unsupported(&path.at(at), text.to_owned(), "write it out, without %");
        }
    }
    let status = said.status.as_ref().and_then(|said| u16::try_from(said.code).ok());
    // As in Envoy, what is no error is none of a refusal.
    let status = status.filter(|code| (400..=599).contains(code));
    LocalRate {
        enabled: fraction(&said.filter_enabled),
        enforced: fraction(&said.filter_enforced),
        status: status.unwrap_or(429),
        response_headers: HeaderOps { remove: Vec::new(), ..response_headers },
        tells: said.enable_x_ratelimit_headers == 1,
        is_resource_exhausted: said.rate_limited_as_resource_exhausted,
        ..LocalRate::new(said.stat_prefix.clone(), bucket)
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
