//! How long may a request take, and how long are those behind told that it may?
//!
//! A hop never outlives its caller: what a caller says shortens the route's timeout and never makes
//! it longer, so that it may be believed of anybody. Only `x-envoy-upstream-rq-timeout-ms`, which
//! replaces the route's, needs a caller that is trusted.
//!
//! Sources: Envoy's `FilterUtility::finalTimeout` and `setTimeoutHeaders`; gRPC, "gRPC over HTTP2",
//! for `grpc-timeout`.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Instant;

/// Milliseconds that the caller still waits. Our own, between naru and naru, also for calls that are
/// not gRPC.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static("x-naru-deadline-ms");
pub const EXPECTED_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How long the caller says that it waits from now on: the shortest that is said.
pub fn of_caller(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = |name| {
        let text = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let number = text.and_then(|text| text.trim().parse::<u64>().ok());
        // 0 is without limit in Envoy's words.
        number.filter(|ms| *ms > 0).map(Duration::from_millis)
    };
    let grpc = headers.get(GRPC_TIMEOUT).and_then(|value| GrpcTimeout::parse(value.as_bytes()));
    [milliseconds(DEADLINE_MS), milliseconds(EXPECTED_TIMEOUT_MS), grpc.map(|timeout| timeout.0)]
        .into_iter()
        .flatten()
        .min()
}

/// From the end of the request to the end of the response. `asked` is what a trusted caller wants instead of what the
/// `route` says, where 0 is without limit.
#[inline]
pub fn total(route: Option<Duration>, asked: Option<Duration>) -> Option<Duration> {
    match asked {
        Some(asked) => (!asked.is_zero()).then_some(asked),
        None => route,
    }
}

/// What a request's time is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When the request had arrived as a whole; `None` where it has not.
    pub began: Option<Instant>,
    /// See [`total`].
    pub total: Option<Duration>,
    /// When the caller waits no longer.
    pub caller_end: Option<Instant>,
}

impl Span {
    /// When the response must have ended.
    #[inline]
    pub fn end(&self) -> Option<Instant> {
        let own = self.began.zip(self.total).map(|(began, total)| began + total);
        shorter(own, self.caller_end)
    }

    /// How long an upstream is told that it may take for an attempt that begins `now`: what is left, or a try's
    /// timeout where the attempt ends with it. `None` is without limit. Never 0, which would be without limit, too.
    #[inline]
    pub fn for_upstream(&self, now: Instant, of_try: Option<Duration>) -> Option<Duration> {
        const LEAST: Duration = Duration::from_millis(1);
        let own = match self.began {
            Some(_) => None,
            None => self.total,
        };
        let left = self.end().map(|end| end.since(now));
        shorter(shorter(own, left), of_try).map(|told| told.max(LEAST))
    }
}

#[inline]
fn shorter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Tells an upstream, in Envoy's words where `says_envoy`. The deadline of a gRPC call is told as such.
#[inline]
pub fn tell_upstream(headers: &mut HeaderMap, told: Duration, is_grpc: bool, says_envoy: bool) {
    let milliseconds = HeaderValue::from(u64::try_from(told.as_millis()).unwrap_or(u64::MAX));
    if says_envoy {
        headers.insert(EXPECTED_TIMEOUT_MS, milliseconds.clone());
    }
    headers.insert(DEADLINE_MS, milliseconds);
    if is_grpc && let Ok(value) = HeaderValue::from_str(&GrpcTimeout(told).to_string()) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// The value of `grpc-timeout`: at most eight digits and a unit. Prints rounded down, but never as 0:
/// nobody is told more time than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcTimeout(pub Duration);

const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

const DIGITS_MAX: usize = 8;
const NUMBER_MAX: u128 = 99_999_999;

impl GrpcTimeout {
    pub fn parse(text: &[u8]) -> Option<GrpcTimeout> {
        let (unit, digits) = text.split_last()?;
        if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let (_, nanos) = UNITS.iter().find(|(known, _)| known == unit)?;
        let nanos = u128::from(number) * nanos;
        let whole = Duration::from_secs(u64::try_from(nanos / 1_000_000_000).ok()?);
        let timeout = whole + Duration::from_nanos((nanos % 1_000_000_000) as u64);
        (!timeout.is_zero()).then_some(GrpcTimeout(timeout))
    }
}

impl fmt::Display for GrpcTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos().max(1);
        let (unit, size) = UNITS
            .iter()
            .find(|(_, size)| nanos / size <= NUMBER_MAX)
            .copied()
            .unwrap_or((b'H', 3_600_000_000_000));
        write!(f, "{}{}", (nanos / size).min(NUMBER_MAX), char::from(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn grpc_timeouts_are_read_and_written() {
        fn check(text: &str, expected: Option<Duration>) {
            assert_eq!(GrpcTimeout::parse(text.as_bytes()).map(|t| t.0), expected, "{text}");
        }
        check("1H", Some(Duration::from_secs(3_600)));
        check("99999999H", Some(Duration::from_secs(359_999_996_400)));
        check("2M", Some(Duration::from_secs(120)));
        check("3S", Some(Duration::from_secs(3)));
        check("100m", Some(MS(100)));
        check("7u", Some(Duration::from_micros(7)));
        check("1n", Some(Duration::from_nanos(1)));
        for nonsense in ["", "5", "S", "123456789m", "-1S", "1.5S", "1s", "0S", "1 S", "１S"] {
            check(nonsense, None);
        }
        fn write(timeout: Duration, expected: &str) {
            assert_eq!(GrpcTimeout(timeout).to_string(), expected);
        }
        write(MS(99), "99000000n");
        write(MS(100), "100000u");
        write(Duration::from_secs(100), "100000m");
        write(Duration::from_nanos(100_000_000_999), "100000m");
        write(Duration::ZERO, "1n");
        write(Duration::MAX, "99999999H");
    }

    #[test]
    fn what_is_written_is_read_and_never_longer() {
        let mut chance = naru_base::Chance::new(1);
        for _ in 0..20_000 {
            let timeout = Duration::from_nanos(chance.draw() >> chance.below(64));
            let read = GrpcTimeout::parse(GrpcTimeout(timeout).to_string().as_bytes()).unwrap().0;
            assert!(read <= timeout.max(Duration::from_nanos(1)), "{timeout:?} became {read:?}");
            assert!(read >= timeout * 9 / 10, "{timeout:?} became {read:?}");
        }
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + MS(ms)
    }

    #[test]
    fn a_hop_never_outlives_its_caller() {
        let all = [None, Some(0), Some(5), Some(10), Some(20)].map(|ms| ms.map(MS));
        for route in all.into_iter().filter(|route| *route != Some(Duration::ZERO)) {
            for asked in all {
                for caller_end in [None, Some(at(100)), Some(at(107)), Some(at(115))] {
                    let total = total(route, asked);
                    let span = Span { began: Some(at(100)), total, caller_end };
                    let own = asked.map_or(route, |asked| (!asked.is_zero()).then_some(asked));
                    assert_eq!(total, own);
                    assert!(caller_end.is_none_or(|caller| span.end().is_some_and(|end| end <= caller)));
                    assert!(own.is_none_or(|own| span.end().is_some_and(|end| end <= at(100) + own)));
                    assert_eq!(span.end().is_none(), own.is_none() && caller_end.is_none());
                }
            }
        }
    }

    #[test]
    fn upstreams_are_told_what_is_left() {
        let span = |total: Option<u64>| Span { began: Some(at(100)), total: total.map(MS), caller_end: None };
        let told = |now, total, per_try: Option<u64>| span(total).for_upstream(at(now), per_try.map(MS));
        assert_eq!(told(100, None, None), None);
        assert_eq!(told(100, Some(50), None), Some(MS(50)));
        assert_eq!(told(130, Some(50), None), Some(MS(20)));
        assert_eq!(told(130, Some(50), Some(10)), Some(MS(10)));
        assert_eq!(told(145, Some(50), Some(10)), Some(MS(5)), "less than a try is left");
        assert_eq!(told(900, Some(50), None), Some(MS(1)), "0 would be without limit");
        assert_eq!(told(900, None, Some(10)), Some(MS(10)));
        let begun = Span { began: None, ..span(Some(50)) };
        assert_eq!(begun.for_upstream(at(9), None), Some(MS(50)), "not yet whole");
        let hurried = Span { caller_end: Some(at(29)), ..begun };
        assert_eq!(hurried.for_upstream(at(9), None), Some(MS(20)), "its caller waits no longer");
    }

    /// Chains of hops with timeouts of their own, each of which takes some time before it asks the next.
    #[test]
    fn a_walk_from_hop_to_hop_outlives_no_caller() {
        for seed in 0..256 {
            let mut chance = naru_base::Chance::new(seed);
            for _ in 0..20 {
                let (mut headers, mut now, mut ends) = (HeaderMap::new(), at(1_000), None::<Instant>);
                for hop in 0..8 {
                    let caller_end = of_caller(&headers).map(|left| now + left);
                    // What is told is whole milliseconds, and never less than one.
                    if let (Some(end), Some(told)) = (ends, caller_end) {
                        assert!(told <= end.max(now + MS(1)), "seed {seed}, hop {hop}: {told:?} {end:?}");
                    }
                    assert_eq!(ends.is_some(), caller_end.is_some(), "seed {seed}, hop {hop}");
                    let route = (chance.below(3) > 0).then(|| MS(1 + chance.below(500)));
                    let span = Span { began: Some(now), total: total(route, None), caller_end };
                    let end = span.end();
                    assert!(caller_end.is_none_or(|caller| end.is_some_and(|end| end <= caller)));
                    now = now + MS(chance.below(100));
                    let of_try = (chance.below(4) == 0).then(|| MS(1 + chance.below(300)));
                    headers = HeaderMap::new();
                    let told = span.for_upstream(now, of_try);
                    if let Some(told) = told {
                        tell_upstream(&mut headers, told, chance.below(2) == 0, chance.below(2) == 0);
                    }
                    let of_try = of_try.map(|of_try| now + of_try);
                    ends = shorter(end, of_try);
                }
            }
        }
    }

    #[test]
    fn headers_carry_a_deadline_from_hop_to_hop() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_caller(&headers), None);
        tell_upstream(&mut headers, MS(250), true, true);
        assert_eq!(headers.get(EXPECTED_TIMEOUT_MS).unwrap(), "250");
        assert_eq!(headers.get(GRPC_TIMEOUT).unwrap(), "250000u");
        assert_eq!(of_caller(&headers), Some(MS(250)));
        headers.insert(EXPECTED_TIMEOUT_MS, HeaderValue::from_static("0"));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("90m"));
        assert_eq!(of_caller(&headers), Some(MS(90)));
        let mut quiet = HeaderMap::new();
        tell_upstream(&mut quiet, MS(7), false, false);
        assert_eq!((quiet.len(), of_caller(&quiet)), (1, Some(MS(7))));
    }
}
