//! A retry policy as decisions need it.

use std::time::Duration;

use http::HeaderMap;
use naru_base::{Chance, WallTime};
use naru_route::HeaderTests;
use naru_spec::{Backoff, Hedge, Invalid, RateLimitedBackoff, Repeats, RetryOn, RetryPolicy, defaults};

use crate::backoff;

/// Built once for each route that has one; [`CompiledRetry::default`] for those that have none, since a
/// trusted caller may ask for retries all the same.
#[derive(Clone, Debug)]
pub struct CompiledRetry {
    pub(crate) on: RetryOn,
    pub(crate) retries_max: u8,
    pub(crate) statuses: Statuses,
    pub(crate) response_headers: HeaderTests,
    request_headers: HeaderTests,
    pub(crate) per_try_timeout: Option<Duration>,
    /// Without a byte in either direction; who sees bytes measures it.
    pub per_try_idle_timeout: Option<Duration>,
    pub(crate) backoff: Backoff,
    rate_limited: Option<Box<RateLimitedBackoff>>,
    pub(crate) avoids_tried: bool,
    pub(crate) picks_max: u32,
    pub(crate) avoids_priorities_after: Option<u32>,
    pub(crate) repeats: Repeats,
    pub(crate) hedge: Hedge,
}

impl Default for CompiledRetry {
    fn default() -> CompiledRetry {
        let spec = RetryPolicy::new(RetryOn::NONE);
        CompiledRetry::with(&spec, Hedge::default(), HeaderTests::default(), HeaderTests::default())
    }
}

impl CompiledRetry {
    /// # Errors
    /// Everything that is wrong with the policy and the hedge.
    pub fn compile(spec: &RetryPolicy, hedge: Option<Hedge>) -> Result<CompiledRetry, Vec<Invalid>> {
        let found = spec.problems(None).into_iter();
        let mut problems: Vec<Invalid> = found
            .filter(|(_, severity, _)| *severity == naru_spec::Severity::Error)
            .map(|(_, _, invalid)| invalid)
            .collect();
        let hedge = hedge.unwrap_or_default();
        if hedge.initial == 0 || hedge.initial > defaults::ATTEMPTS_AT_ONCE_MAX {
            problems.extend(hedge.problems(Some(spec)));
        }
        let mut compile = |tests| match HeaderTests::compile(tests) {
            Ok(tests) => tests,
            Err(found) => {
                problems.extend(found);
                HeaderTests::default()
            }
        };
        let (response, request) = (compile(&spec.response_headers), compile(&spec.request_headers));
        if problems.is_empty() {
            Ok(CompiledRetry::with(spec, hedge, response, request))
        } else {
            Err(problems)
        }
    }

    /// Of a route without a policy: only what a trusted caller asks for.
    pub(crate) fn none(hedge: Option<Hedge>) -> Result<CompiledRetry, Vec<Invalid>> {
        CompiledRetry::compile(&RetryPolicy::new(RetryOn::NONE), hedge)
    }

    fn with(spec: &RetryPolicy, hedge: Hedge, response: HeaderTests, request: HeaderTests) -> CompiledRetry {
        let retries_max = spec.retries_max.min(defaults::RETRIES_MAX);
        CompiledRetry {
            on: spec.on,
            retries_max: u8::try_from(retries_max).unwrap_or(u8::MAX),
            statuses: Statuses::of(&spec.statuses),
            response_headers: response,
            request_headers: request,
            per_try_timeout: spec.per_try_timeout,
            per_try_idle_timeout: spec.per_try_idle_timeout,
            backoff: spec.backoff,
            rate_limited: spec.rate_limited.clone().map(Box::new),
            avoids_tried: spec.avoids_tried,
            picks_max: spec.picks_max.min(defaults::RETRIES_MAX),
            avoids_priorities_after: spec.avoids_priorities_after,
            repeats: spec.repeats,
            hedge,
        }
    }

    /// Whether some requests begin with more attempts than one.
    pub fn begins_with_several(&self) -> bool {
        self.hedge.initial > 1 || !self.hedge.additional.is_none()
    }

    /// Whether the request is one of those that are retried at all.
    #[inline]
    pub(crate) fn may_retry(&self, headers: &HeaderMap) -> bool {
        self.request_headers.is_empty() || self.request_headers.any(headers)
    }

    /// How long the response asks to wait, and half of that again at most.
    pub(crate) fn said_wait(
        &self,
        headers: &HeaderMap,
        wall: WallTime,
        chance: &mut Chance,
    ) -> Option<Duration> {
        let said = backoff::said(self.rate_limited.as_deref()?, headers, wall)?;
        Some(backoff::at_least(said, chance))
    }
}

/// A set of statuses, 100 to 611.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Statuses([u64; 8]);

const FIRST: u16 = 100;

impl Statuses {
    fn of(list: &[u16]) -> Statuses {
        let mut statuses = Statuses::default();
        for status in list {
            let at = usize::from(status.wrapping_sub(FIRST));
            if let Some(word) = statuses.0.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
        }
        statuses
    }

    #[inline]
    pub(crate) fn contains(&self, status: u16) -> bool {
        let at = usize::from(status.wrapping_sub(FIRST));
        self.0.get(at / 64).is_some_and(|word| word & 1 << (at % 64) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_statuses_holds_what_was_put_into_it() {
        let list = [100, 409, 503, 599, 611, 99, 0, u16::MAX];
        let set = Statuses::of(&list);
        for status in 0..=u16::MAX {
            let expected = (100..=611).contains(&status) && list.contains(&status);
            assert_eq!(set.contains(status), expected, "{status}");
        }
    }
}
