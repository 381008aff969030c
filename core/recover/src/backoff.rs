//! How long before the next attempt?

use std::time::Duration;

use http::HeaderMap;
use naru_base::{Chance, WallTime};
use naru_spec::{Backoff, RateLimitedBackoff, ResetFormat};

const SECOND: u64 = 1_000_000_000;

/// Before the n-th retry, n from 1.
pub fn wait(backoff: &Backoff, nth: u32, chance: &mut Chance) -> Duration {
    match *backoff {
        Backoff::Jittered { base, max } => {
            let doubled = 1_u64.checked_shl(nth).unwrap_or(u64::MAX);
            let most = nanos(base).saturating_mul(doubled.saturating_sub(1)).min(nanos(max));
            Duration::from_nanos(chance.below(most))
        }
        Backoff::Fixed { wait, jitter_percent } => jittered(nanos(wait), jitter_percent, chance),
        Backoff::Linear { step, max, jitter_percent } => {
            let wait = nanos(step).saturating_mul(u64::from(nth)).min(nanos(max));
            jittered(wait, jitter_percent, chance)
        }
        Backoff::Exponential { first, factor_percent, max, jitter_percent } => {
            let max = nanos(max);
            let mut wait = u128::from(nanos(first));
            // A state has no more retries than that, however large `nth` is.
            for _ in 1..nth.min(naru_spec::defaults::RETRIES_MAX + 1) {
                if wait >= u128::from(max) {
                    break;
                }
                wait = wait * u128::from(factor_percent) / 100;
            }
            let wait = u64::try_from(wait).unwrap_or(u64::MAX).min(max);
            jittered(wait, jitter_percent, chance)
        }
    }
}

/// Uniform around `wait`, as Resilience4j's `randomizationFactor`.
fn jittered(wait: u64, percent: u8, chance: &mut Chance) -> Duration {
    let spread = u64::try_from(u128::from(wait) * u128::from(percent.min(100)) / 100).unwrap_or(u64::MAX);
    if spread == 0 {
        return Duration::from_nanos(wait);
    }
    let more = chance.below(spread.saturating_mul(2).saturating_add(1));
    Duration::from_nanos((wait - spread).saturating_add(more))
}

/// At least `said`, and at most half of it more: Envoy's `JitteredLowerBoundBackOffStrategy`.
pub(crate) fn at_least(said: Duration, chance: &mut Chance) -> Duration {
    said.saturating_add(Duration::from_nanos(chance.below(nanos(said) / 2)))
}

/// How long a response asks to wait: the first header that says something which is not too long.
pub(crate) fn said(settings: &RateLimitedBackoff, headers: &HeaderMap, wall: WallTime) -> Option<Duration> {
    settings.headers.iter().find_map(|header| {
        let number: u64 = headers.get(&header.name)?.to_str().ok()?.trim().parse().ok()?;
        let seconds = match header.format {
            ResetFormat::Seconds => number,
            ResetFormat::UnixTimestamp => number.checked_sub(wall.0 / SECOND)?,
        };
        let said = Duration::from_secs(seconds);
        (!said.is_zero() && said <= settings.max).then_some(said)
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use naru_spec::ResetHeader;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn waits(backoff: Backoff, count: u32) -> Vec<u64> {
        let mut chance = Chance::new(1);
        (1..=count).map(|nth| wait(&backoff, nth, &mut chance).as_millis() as u64).collect()
    }

    #[test]
    fn waits_without_jitter_are_those_of_the_books() {
        let max = MS(2_000);
        assert_eq!(waits(Backoff::Fixed { wait: MS(500), jitter_percent: 0 }, 3), [500, 500, 500]);
        let linear = Backoff::Linear { step: MS(100), max, jitter_percent: 0 };
        assert_eq!(waits(linear, 4), [100, 200, 300, 400]);
        let doubling = Backoff::Exponential { first: MS(100), factor_percent: 200, max, jitter_percent: 0 };
        assert_eq!(waits(doubling, 7), [100, 200, 400, 800, 1_600, 2_000, 2_000]);
        let half_more = Backoff::Exponential { first: MS(500), factor_percent: 150, max, jitter_percent: 0 };
        assert_eq!(waits(half_more, 5), [500, 750, 1_125, 1_687, 2_000]);
    }

    #[test]
    fn envoys_jitter_is_uniform_below_its_bound() {
        // The naive rule: double, take one, cap, draw.
        let backoff = Backoff::of_base(MS(25));
        let mut chance = Chance::new(2);
        for nth in 1..=64 {
            let mut steps = 0_u64;
            for _ in 0..nth.min(32) {
                steps = steps * 2 + 1;
            }
            let bound = (steps * 25).min(250);
            let drawn: Vec<Duration> = (0..2_000).map(|_| wait(&backoff, nth, &mut chance)).collect();
            assert!(drawn.iter().all(|wait| *wait < MS(bound)), "{nth}");
            let mean = drawn.iter().sum::<Duration>() / 2_000;
            assert!((MS(bound) * 45 / 100..MS(bound) * 55 / 100).contains(&mean), "{nth}: {mean:?}");
            assert!(drawn.iter().any(|wait| *wait > MS(bound) * 95 / 100), "{nth}");
        }
    }

    #[test]
    fn jitter_stays_around_its_wait() {
        let backoff = Backoff::Fixed { wait: MS(100), jitter_percent: 50 };
        let mut chance = Chance::new(3);
        let drawn: Vec<Duration> = (0..5_000).map(|_| wait(&backoff, 1, &mut chance)).collect();
        assert!(drawn.iter().all(|wait| (MS(50)..=MS(150)).contains(wait)));
        assert!(drawn.iter().any(|wait| *wait < MS(55)) && drawn.iter().any(|wait| *wait > MS(145)));
    }

    #[test]
    fn no_setting_panics_or_waits_longer_than_its_longest() {
        let mut chance = Chance::new(4);
        let lengths = [0, 1, 1_000, u64::MAX / 2, u64::MAX].map(Duration::from_nanos);
        for first in lengths {
            for max in lengths {
                for jitter_percent in [0, 1, 100] {
                    for backoff in [
                        Backoff::Jittered { base: first, max },
                        Backoff::Fixed { wait: max, jitter_percent },
                        Backoff::Linear { step: first, max, jitter_percent },
                        Backoff::Exponential { first, factor_percent: u32::MAX, max, jitter_percent },
                        Backoff::Exponential { first, factor_percent: 0, max, jitter_percent },
                    ] {
                        for nth in [0, 1, 2, 63, 64, 65, u32::MAX] {
                            let waited = wait(&backoff, nth, &mut chance);
                            assert!(waited <= backoff.longest(), "{backoff:?} {nth}: {waited:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_response_says_how_long_to_wait() {
        let header = |name: &'static str, format| ResetHeader { name: name.parse().unwrap(), format };
        let settings = RateLimitedBackoff {
            headers: vec![
                header("retry-after", ResetFormat::Seconds),
                header("x-ratelimit-reset", ResetFormat::UnixTimestamp),
            ],
            max: Duration::from_secs(300),
        };
        let now = WallTime(1_000_000 * SECOND + 5);
        let check = |list: &[(&'static str, &str)], expected: Option<u64>| {
            let headers: HeaderMap =
                list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            assert_eq!(said(&settings, &headers, now), expected.map(Duration::from_secs), "{list:?}");
        };
        check(&[], None);
        check(&[("retry-after", "3")], Some(3));
        check(&[("retry-after", "Fri, 07 Nov 2014 23:59:59 GMT")], None);
        check(&[("retry-after", "301"), ("x-ratelimit-reset", "1000010")], Some(10));
        check(&[("retry-after", "0"), ("x-ratelimit-reset", "999999")], None);
        check(&[("x-ratelimit-reset", "18446744073709551615")], None);
        let mut chance = Chance::new(5);
        for _ in 0..1_000 {
            let waited = at_least(MS(1_000), &mut chance);
            assert!((MS(1_000)..MS(1_500)).contains(&waited));
        }
    }
}
