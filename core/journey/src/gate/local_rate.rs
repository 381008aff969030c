//! Envoy's local rate limit: `source/extensions/filters/http/local_ratelimit/local_ratelimit.cc`.
//!
//! Its bucket is a limit as others are ([`super::quotas`]), for all requests together; what is its own are the fractions
//! by which it acts, and what it says.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use naru_base::chance::mix;
use naru_base::{Instant, Reason};
use naru_spec::{Lacking, LocalRate, Quota, QuotaAlgorithm, TokenBucket};

use super::quotas::{Claim, Known, QuotaId};
use super::{Refusal, Step};
use crate::View;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// gRPC's status for one who asks too often.
const RESOURCE_EXHAUSTED: u8 = 8;

#[derive(Debug)]
pub struct CompiledLocalRate {
    /// Nothing is limited without one.
    bucket: Option<(QuotaId, TokenBucket)>,
    settings: LocalRate,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl CompiledLocalRate {
    /// `of` is what it stands in: each place has a bucket of its own.
    pub(crate) fn new(settings: &LocalRate, of: &str, known: &mut Known) -> CompiledLocalRate {
        let bucket = settings.bucket.map(|bucket| {
            let quota = Quota {
                name: format!("{of}/{}", settings.stat_prefix),
                algorithm: QuotaAlgorithm::TokenBucket {
                    requests: bucket.tokens_per_fill,
                    window: bucket.fill_interval,
                    burst: bucket.tokens_max,
                },
                key: Vec::new(),
                lacking: Lacking::Uncounted,
                cost: 1,
                is_shadow: false,
                keys_max: 1,
            };
            (known.id(&quota), bucket)
        });
        let headers =
            settings.response_headers.add.iter().filter_map(|op| {
                Some((op.name.clone(), HeaderValue::from_str(op.value.as_literal()?).ok()?))
            });
        CompiledLocalRate { bucket, settings: settings.clone(), headers: headers.collect() }
    }

    pub(crate) fn decide(
        &self,
        now: Instant,
        draw: u64,
        told: &mut Vec<(HeaderName, HeaderValue)>,
        view: &impl View,
    ) -> Step {
        let Some((quota, bucket)) = &self.bucket else { return Step::Pass };
        if !self.settings.enabled.takes(mix(draw ^ 0x0065_6e61_626c_6564)) {
            return Step::Pass;
        }
        let claim = Claim { quota: *quota, key: Box::default(), cost: 1, is_shadow: false };
        let said = view.spend(now, &[claim]);
        if self.settings.tells
            && let Some(room) = said.rooms.first()
        {
            // Until there is a token.
            let beyond = bucket.fill_interval / bucket.tokens_per_fill.max(1);
            let full = beyond.saturating_mul(bucket.tokens_max.saturating_sub(1));
            let reset = if room.remaining > 0 { Duration::ZERO } else { room.reset.saturating_sub(full) };
            let reset = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
            told.push((LIMIT, HeaderValue::from(bucket.tokens_max)));
            told.push((REMAINING, HeaderValue::from(room.remaining)));
            told.push((RESET, HeaderValue::from(reset)));
        }
        let is_refused = said.spent.refused_by.is_some();
        if !is_refused || !self.settings.enforced.takes(mix(draw ^ 0x656e_666f_7263_6564)) {
            return Step::Pass;
        }
        let mut refusal = Refusal::of(Reason::RateLimited);
        refusal.status = self.settings.status;
        refusal.headers.clone_from(&self.headers);
        refusal.grpc_status = self.settings.is_resource_exhausted.then_some(RESOURCE_EXHAUSTED);
        Step::Refuse(Box::new(refusal))
    }
}
