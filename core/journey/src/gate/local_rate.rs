//! Envoy's local rate limit: `source/extensions/filters/http/local_ratelimit/local_ratelimit.cc`.
//!
//! What the buckets say is `naru_admit::local_rate`'s to decide, for all workers or for a connection; what is here is what
//! a request is called, the fractions by which the filter acts, and what it says.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use naru_admit::local_rate::{LocalLimiter, LocalSaid, LocalState, LocalTold};
use naru_base::chance::mix;
use naru_base::{Instant, Reason};
use naru_route::Edits;
use naru_spec::{Invalid, LocalRate};

use super::descriptors::{self, CompiledDescriptors};
use super::{Head, Memory, Refusal, Step, Way};
use crate::View;

pub(super) const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
pub(super) const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
pub(super) const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// gRPC's status for one who asks too often.
pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
pub(super) const TOO_MANY_REQUESTS: u16 = 429;

/// An index into [`crate::Snapshot::local_rates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalRateId(pub u32);

impl LocalRateId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Buckets of a snapshot that somebody shares. Each place in which a filter stands has its own.
#[derive(Clone, Debug)]
pub struct KnownLocalRate {
    /// What its buckets are kept by.
    pub name: String,
    pub stat_prefix: String,
    pub limiter: Arc<LocalLimiter>,
}

/// What is counted of a filter, in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalRateCount {
    Enabled,
    Ok,
    RateLimited,
    Enforced,
    ShadowMode,
}

/// The buckets of one connection of a client.
#[derive(Debug, Default)]
pub struct ConnectionRates(RefCell<Vec<(LocalRateName, Arc<LocalLimiter>, LocalState)>>);

type LocalRateName = Arc<str>;

impl ConnectionRates {
    /// A filter that has changed begins anew.
    fn ask(
        &self,
        now: Instant,
        name: &LocalRateName,
        limiter: &Arc<LocalLimiter>,
        asked: &[naru_admit::described::Described],
    ) -> LocalSaid {
        let mut all = self.0.borrow_mut();
        let at = all.iter().position(|(known, ..)| known == name).unwrap_or_else(|| {
            all.push((Arc::clone(name), Arc::clone(limiter), limiter.full()));
            all.len() - 1
        });
        let Some((_, known, state)) = all.get_mut(at) else { return LocalSaid::PASSES };
        if !Arc::ptr_eq(known, limiter) && **known != **limiter {
            *known = Arc::clone(limiter);
            *state = limiter.full();
        }
        limiter.ask(now, state, asked)
    }
}

#[derive(Debug)]
pub struct CompiledLocalRate {
    id: LocalRateId,
    name: LocalRateName,
    limiter: Arc<LocalLimiter>,
    descriptors: CompiledDescriptors,
    settings: Box<LocalRate>,
    of_request: Edits,
    of_refusal: Edits,
}

impl CompiledLocalRate {
    /// `name` is what its buckets are kept by.
    ///
    /// # Errors
    /// What cannot be compiled of what requests are called.
    pub(crate) fn new(
        settings: &LocalRate,
        name: String,
        known: &mut Vec<KnownLocalRate>,
    ) -> Result<CompiledLocalRate, Vec<Invalid>> {
        let rates = if settings.descriptors.is_empty() { &[][..] } else { &settings.rates[..] };
        let descriptors = CompiledDescriptors::new(rates)?;
        let at = known.iter().position(|known| known.name == name).unwrap_or_else(|| {
            let limiter = Arc::new(LocalLimiter::new(settings));
            known.push(KnownLocalRate {
                name: name.clone(),
                stat_prefix: settings.stat_prefix.clone(),
                limiter,
            });
            known.len() - 1
        });
        let limiter = known.get(at).map(|known| Arc::clone(&known.limiter));
        Ok(CompiledLocalRate {
            id: LocalRateId(at as u32),
            name: name.into(),
            limiter: limiter.unwrap_or_else(|| Arc::new(LocalLimiter::new(settings))),
            descriptors,
            of_request: Edits::compile(&[&settings.request_headers]),
            of_refusal: Edits::compile(&[&settings.response_headers]),
            settings: Box::new(settings.clone()),
        })
    }

    /// Whether each connection has buckets of its own.
    pub(crate) fn is_of_connection(&self) -> bool {
        self.settings.is_of_connection
    }

    pub(crate) fn decide(
        &self,
        now: Instant,
        head: &mut Head<'_>,
        way: &Way<'_>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        let settings = &self.settings;
        if self.limiter.is_idle() || !settings.enabled.takes(mix(way.draw ^ 0x0065_6e61_626c_6564)) {
            return Step::Pass;
        }
        let count = |what| view.count_local_rate(self.id, what);
        count(LocalRateCount::Enabled);
        let asked = if self.descriptors.is_empty() {
            Vec::new()
        } else {
            self.descriptors.describe(head, memory, way.cluster())
        };
        let said = match head.rates.filter(|_| settings.is_of_connection) {
            Some(own) => own.ask(now, &self.name, &self.limiter, &asked),
            None => view.local_rate(now, self.id, &asked),
        };
        if let Some(told) = said.told.filter(|told| told.tells.unwrap_or(settings.tells)) {
            memory.told.push((LIMIT, HeaderValue::from(told.tokens_max)));
            memory.told.push((REMAINING, HeaderValue::from(told.remaining)));
            memory.told.push((RESET, HeaderValue::from(reset(&told))));
        }
        if !said.is_refused {
            count(if said.is_shadowed { LocalRateCount::RateLimited } else { LocalRateCount::Ok });
            if said.is_shadowed {
                count(LocalRateCount::ShadowMode);
            }
            return Step::Pass;
        }
        count(LocalRateCount::RateLimited);
        if !settings.enforced.takes(mix(way.draw ^ 0x656e_666f_7263_6564)) {
            if !self.of_request.is_empty() {
                let added = descriptors::edited(&self.of_request, head);
                *head.headers = added;
            }
            return Step::Pass;
        }
        count(LocalRateCount::Enforced);
        let mut refusal = Refusal::of(Reason::RateLimited);
        refusal.status = settings.status;
        refusal.headers = descriptors::added(&self.of_refusal, head);
        let says_retry = refusal.headers.iter().any(|(name, _)| name == RETRY_AFTER);
        if settings.tells_retry
            && settings.status == TOO_MANY_REQUESTS
            && !says_retry
            && let Some(told) = &said.told
        {
            refusal.headers.push((RETRY_AFTER, HeaderValue::from(reset(told).max(1))));
        }
        refusal.grpc_status = settings.is_resource_exhausted.then_some(RESOURCE_EXHAUSTED);
        Step::Refuse(Box::new(refusal))
    }
}

/// Seconds until there is a token, rounded up.
fn reset(told: &LocalTold) -> u64 {
    let reset = if told.remaining > 0 { Duration::ZERO } else { told.reset };
    reset.as_secs().saturating_add(u64::from(reset.subsec_nanos() > 0))
}
