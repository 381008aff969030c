//! What a trusted caller asks for in headers, beside what the route says.
//!
//! Source: Envoy, "HTTP header manipulation" of the router, and `RetryStateImpl`. What cannot be read
//! is passed over, as Envoy does.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use naru_spec::{RetryOn, defaults};

/// What does not fit into a state of a few bytes, and is seldom asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) statuses: Vec<u16>,
    /// Their presence in a response.
    pub(crate) headers: Vec<HeaderName>,
    /// `Some(None)` is without limit.
    pub(crate) per_try_timeout: Option<Option<Duration>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) on: RetryOn,
    pub(crate) retries: Option<u8>,
    pub(crate) hedges: Option<bool>,
    pub(crate) rest: Option<Asked>,
}

const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const RETRIABLE_STATUSES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const RETRIABLE_HEADERS: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
const HEDGE: HeaderName = HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");
const PER_TRY: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");

/// Of a list; more are passed over.
const LISTED_MAX: usize = 32;

/// Takes everything out of a request that is not for its upstream.
pub fn consume(headers: &mut HeaderMap) {
    for name in [RETRY_ON, RETRY_GRPC_ON, MAX_RETRIES, RETRIABLE_STATUSES, RETRIABLE_HEADERS, HEDGE, PER_TRY]
    {
        headers.remove(name);
    }
}

pub(crate) fn read(headers: &HeaderMap) -> Wishes {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let conditions = |name| text(name).map_or(RetryOn::NONE, |list| RetryOn::parse(list, |_| {}));
    let number = |name| text(name).and_then(|text| text.trim().parse::<u64>().ok());
    let statuses = text(RETRIABLE_STATUSES).map(|list| {
        let known = list.split(',').filter_map(|word| word.trim().parse::<u16>().ok());
        known.take(LISTED_MAX).collect::<Vec<_>>()
    });
    let names = text(RETRIABLE_HEADERS).map(|list| {
        let known = list.split(',').filter_map(|word| HeaderName::from_bytes(word.trim().as_bytes()).ok());
        known.take(LISTED_MAX).collect::<Vec<_>>()
    });
    let per_try = number(PER_TRY).map(|ms| (ms > 0).then(|| Duration::from_millis(ms)));
    let rest = Asked {
        statuses: statuses.unwrap_or_default(),
        headers: names.unwrap_or_default(),
        per_try_timeout: per_try,
    };
    Wishes {
        on: conditions(RETRY_ON).of_http().and(conditions(RETRY_GRPC_ON).of_grpc()),
        retries: number(MAX_RETRIES)
            .map(|most| u8::try_from(most.min(u64::from(defaults::RETRIES_MAX))).unwrap_or(u8::MAX)),
        hedges: match text(HEDGE) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        },
        rest: (rest != Asked::default()).then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_asked_for_is_read_as_envoy_reads_it() {
        let asks = headers(&[
            ("x-envoy-retry-on", "5xx, unavailable, nonsense"),
            ("x-envoy-retry-grpc-on", "cancelled,5xx"),
            ("x-envoy-max-retries", "1000"),
            ("x-envoy-retriable-status-codes", "404, x, 418"),
            ("x-envoy-retriable-header-names", "x-again, not a name"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "0"),
        ]);
        let wishes = read(&asks);
        // Each header has its own words.
        assert_eq!(wishes.on, RetryOn::SERVER_ERROR.and(RetryOn::CANCELLED));
        assert_eq!((wishes.retries, wishes.hedges), (Some(64), Some(true)));
        let rest = wishes.rest.unwrap();
        assert_eq!(rest.statuses, [404, 418]);
        assert_eq!(rest.headers, [HeaderName::from_static("x-again")]);
        assert_eq!(rest.per_try_timeout, Some(None));
        let mut asks = asks;
        consume(&mut asks);
        assert!(asks.is_empty());
    }

    #[test]
    fn who_asks_for_nothing_gets_no_memory() {
        let plain = [("x-envoy-retry-on", "reset"), ("x-envoy-max-retries", "-1")];
        let wishes = read(&headers(&plain));
        assert_eq!(wishes, Wishes { on: RetryOn::RESET, ..Wishes::default() });
    }
}
