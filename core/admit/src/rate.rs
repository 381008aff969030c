//! May this call be made now, or when?
//!
//! Resilience4j's `AtomicRateLimiter`: time is cut into cycles since the driver started, each brings so many permits,
//! and none is kept for the next. A call that finds none reserves one of a later cycle, if that begins soon enough.
//! A reservation is not given back: a call that is cancelled while it waits has used its turn up, as there.
//!
//! All permits that there will ever be are numbered: cycle `c` has those from `c * limit` on. The word is the number
//! of the next one, so that one addition takes a permit of this cycle or reserves one of a later cycle. It belongs to
//! its settings: where they change, begin with 0 again.

use std::time::Duration;

use naru_base::{Instant, Reason};
use naru_spec::RateLimit;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimiter {
    limit: u64,
    /// Nanoseconds.
    period: u64,
    wait_max: Duration,
}

/// A call's permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the word becomes.
    pub word: u64,
    /// Until the call may be made; zero is now.
    pub wait: Duration,
}

impl RateLimiter {
    pub fn new(settings: RateLimit) -> RateLimiter {
        RateLimiter {
            limit: u64::from(settings.limit),
            period: u64::try_from(settings.period.as_nanos()).unwrap_or(u64::MAX).max(1),
            wait_max: settings.wait_max,
        }
    }

    /// Takes a permit, or reserves one.
    ///
    /// # Errors
    /// How long the call would have to wait, which is longer than it may; the word stays. [`Reason::RateLimited`] is
    /// why.
    #[inline]
    pub fn reserve(&self, now: Instant, word: u64) -> Result<Turn, Duration> {
        let cycle = now.0 / self.period;
        let next = word.max(cycle.saturating_mul(self.limit));
        let of_cycle = next.checked_div(self.limit).ok_or(Duration::MAX)?;
        let wait = if of_cycle <= cycle {
            Duration::ZERO
        } else {
            Duration::from_nanos(of_cycle.saturating_mul(self.period).saturating_sub(now.0))
        };
        if wait > self.wait_max {
            return Err(wait);
        }
        Ok(Turn { word: next.saturating_add(1), wait })
    }

    /// Whether a word can be what calls until `now` have made of it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_invariants(&self, now: Instant, word: u64) -> Result<(), &'static str> {
        // The last turn that was given.
        let Some(last) = word.checked_sub(1) else { return Ok(()) };
        let Some(cycle) = last.checked_div(self.limit) else {
            return Err("a turn where there is none");
        };
        let wait = cycle.saturating_mul(self.period).saturating_sub(now.0);
        if Duration::from_nanos(wait) > self.wait_max {
            return Err("a turn later than a call may wait");
        }
        Ok(())
    }

    /// Permits that are left of this cycle; below zero are those reserved of later ones.
    pub fn available(&self, now: Instant, word: u64) -> i64 {
        let end = (now.0 / self.period).saturating_add(1).saturating_mul(self.limit);
        let left = i128::from(end) - i128::from(word);
        left.clamp(i128::from(i64::MIN), i128::from(self.limit)) as i64
    }
}

/// Why a call without a turn is refused.
pub const REFUSED: Reason = Reason::RateLimited;

#[cfg(test)]
mod tests {
    use naru_base::Chance;
    use naru_spec::RateClass;

    use super::*;

    /// `AtomicRateLimiter.calculateNextState`, as it is written there.
    struct RefLimiter {
        settings: RateLimit,
        cycle: i128,
        permits: i128,
    }

    impl RefLimiter {
        fn reserve(&mut self, now: Instant) -> Result<i128, i128> {
            let (period, limit) = (self.settings.period.as_nanos() as i128, i128::from(self.settings.limit));
            let now = i128::from(now.0);
            let cycle = now / period;
            if self.cycle != cycle {
                self.permits = (self.permits + (cycle - self.cycle) * limit).min(limit);
                self.cycle = cycle;
            }
            let wait = if self.permits >= 1 {
                0
            } else {
                let to_next = (cycle + 1) * period - now;
                let at_next = self.permits + limit;
                (1 - at_next + limit - 1) / limit * period + to_next
            };
            if wait > self.settings.wait_max.as_nanos() as i128 {
                return Err(wait);
            }
            self.permits -= 1;
            Ok(wait)
        }
    }

    fn limit(limit: u32, period: Duration, wait_max: Duration) -> RateLimit {
        RateLimit { limit, period, wait_max }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_cycle_brings_its_permits_and_keeps_none() {
        let limiter = RateLimiter::new(limit(2, SECOND, Duration::ZERO));
        let at = |ms: u64| Instant(ms * 1_000_000);
        let first = limiter.reserve(at(0), 0).unwrap();
        let second = limiter.reserve(at(1), first.word).unwrap();
        assert_eq!(limiter.reserve(at(999), second.word), Err(Duration::from_millis(1)));
        assert_eq!(limiter.available(at(1_000), second.word), 2);
        assert_eq!(limiter.available(at(60_000), second.word), 2, "not the sum of a minute");
        assert_eq!(limiter.reserve(at(60_000), second.word).map(|turn| turn.wait), Ok(Duration::ZERO));
    }

    #[test]
    fn who_may_wait_has_a_turn_of_a_later_cycle() {
        let limiter = RateLimiter::new(limit(1, SECOND, Duration::from_millis(1_500)));
        let now = Instant(500_000_000);
        let mut word = 0;
        let waits: Vec<_> = (0..4)
            .map(|_| {
                let turn = limiter.reserve(now, word);
                word = turn.map_or(word, |turn| turn.word);
                turn.map(|turn| turn.wait.as_millis()).map_err(|wait| wait.as_millis())
            })
            .collect();
        assert_eq!(waits, [Ok(0), Ok(500), Ok(1_500), Err(2_500)]);
        assert_eq!(limiter.available(now, word), -2);
        assert_eq!(limiter.check_invariants(now, word), Ok(()));
        assert!(limiter.check_invariants(now, word + 1).is_err(), "it would have waited too long");
        assert_eq!(REFUSED.status(), 429);
    }

    #[test]
    fn impossible_settings_refuse_and_do_not_fail() {
        let never = RateLimiter::new(limit(0, Duration::ZERO, Duration::ZERO));
        assert_eq!(never.reserve(Instant(7), 0), Err(Duration::MAX));
        let fast = RateLimiter::new(limit(u32::MAX, Duration::ZERO, Duration::MAX));
        assert!(fast.reserve(Instant(u64::MAX), u64::MAX).is_ok());
        let slow = RateLimiter::new(limit(1, Duration::MAX, Duration::ZERO));
        assert!(slow.reserve(Instant(u64::MAX), 0).is_ok());
    }

    #[test]
    fn a_walk_does_as_resilience4j_does() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let settings = match chance.below(5) {
                0 => RateClass::ALL[chance.below(3) as usize].limit(),
                // Its own defaults.
                1 => limit(50, Duration::from_nanos(500), Duration::from_secs(5)),
                _ => limit(
                    1 + chance.below(5) as u32,
                    Duration::from_nanos(5 + chance.below(100)),
                    Duration::from_nanos(chance.below(400)),
                ),
            };
            let limiter = RateLimiter::new(settings);
            let mut reference = RefLimiter { settings, cycle: 0, permits: i128::from(settings.limit) };
            let (mut now, mut word) = (Instant::ZERO, 0);
            for _ in 0..1_000 {
                if chance.below(4) == 0 {
                    let most = u64::try_from(settings.period.as_nanos()).unwrap() * 3 / 2;
                    now = now + Duration::from_nanos(chance.below(most));
                }
                let wait = |wait: Duration| wait.as_nanos() as i128;
                let turn = limiter.reserve(now, word);
                word = turn.map_or(word, |turn| turn.word);
                assert_eq!(
                    turn.map(|turn| wait(turn.wait)).map_err(wait),
                    reference.reserve(now),
                    "seed {seed}"
                );
                assert_eq!(i128::from(limiter.available(now, word)), reference.permits, "seed {seed}");
                assert_eq!(limiter.check_invariants(now, word), Ok(()), "seed {seed}");
            }
        }
    }
}
