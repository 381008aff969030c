//! Is there a token left, and when is there one again?
//!
//! Envoy's local rate limit: a bucket that is full at first, from which requests take tokens, and that fills steadily
//! (`AtomicTokenBucketImpl`: `tokens_per_fill` over `fill_interval`, looked up when it is asked, not by a timer).
//!
//! The word is the moment at which the bucket will be full again, in sixteenths of a nanosecond: to take a token moves
//! it on by what one token takes to come. So zero is a full bucket, and one word is all there is to it. What a token
//! takes is rounded down to a sixteenth: a bucket is never stricter than it says, and less than a part in ten thousand
//! more generous for rates up to 100,000 a second. The word belongs to its settings.

use std::time::Duration;

use naru_base::Instant;
use naru_spec::TokenBucket;

const PER_NANO: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    tokens_max: u64,
    /// For one token to come.
    cost: u64,
    /// From empty to full.
    span: u64,
}

impl Bucket {
    pub fn new(settings: TokenBucket) -> Bucket {
        let fills = u128::from(settings.tokens_per_fill.max(1));
        let of = |tokens: u128| {
            let span =
                settings.fill_interval.as_nanos().saturating_mul(u128::from(PER_NANO)).saturating_mul(tokens);
            u64::try_from(span / fills).unwrap_or(u64::MAX)
        };
        let tokens_max = u64::from(settings.tokens_max);
        let cost = of(1).max(1);
        Bucket { tokens_max, cost, span: of(u128::from(tokens_max)).max(cost) }
    }

    /// What the word becomes when one token is taken.
    ///
    /// # Errors
    /// How long until there is one; [`crate::rate::REFUSED`] is why.
    #[inline]
    pub fn take(&self, now: Instant, word: u64) -> Result<u64, Duration> {
        let now = now.0.saturating_mul(PER_NANO);
        let after = word.max(now).saturating_add(self.cost);
        let over = (after - now).saturating_sub(self.span);
        if self.tokens_max == 0 {
            return Err(Duration::MAX);
        }
        if over > 0 { Err(Duration::from_nanos(over.div_ceil(PER_NANO))) } else { Ok(after) }
    }

    /// The same for several tokens at once.
    ///
    /// # Errors
    /// As of [`Bucket::take`]; [`Duration::MAX`] where the bucket never holds so many.
    pub fn take_several(&self, now: Instant, word: u64, tokens: u64) -> Result<u64, Duration> {
        if tokens > self.tokens_max {
            return Err(Duration::MAX);
        }
        let now = now.0.saturating_mul(PER_NANO);
        let after = word.max(now).saturating_add(self.cost.saturating_mul(tokens));
        let over = (after - now).saturating_sub(self.span);
        if over > 0 { Err(Duration::from_nanos(over.div_ceil(PER_NANO))) } else { Ok(after) }
    }

    /// What the word becomes when so many tokens are put back: a bucket is full at most.
    pub fn give_back(&self, now: Instant, word: u64, tokens: u64) -> u64 {
        let now = now.0.saturating_mul(PER_NANO);
        word.saturating_sub(self.cost.saturating_mul(tokens)).max(now)
    }

    /// What one token is, and what a full bucket holds, in the measure of the word.
    pub fn parts(&self) -> (u64, u64) {
        (self.cost, self.span)
    }

    /// What is left, in the measure of the word.
    pub fn left(&self, now: Instant, word: u64) -> u64 {
        self.span.saturating_sub(word.saturating_sub(now.0.saturating_mul(PER_NANO)))
    }

    /// The word once so much more is taken, in its own measure: all there is at most.
    pub fn drawn(&self, now: Instant, word: u64, units: u64) -> u64 {
        let now = now.0.saturating_mul(PER_NANO);
        word.max(now).saturating_add(units).min(now.saturating_add(self.span))
    }

    /// How long it takes until so much is left, in the measure of the word.
    pub fn until_left(&self, now: Instant, word: u64, units: u64) -> Duration {
        Duration::from_nanos(units.saturating_sub(self.left(now, word)).div_ceil(PER_NANO))
    }

    /// Whether a word can be what was taken until `now` has made of it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_invariants(&self, now: Instant, word: u64) -> Result<(), &'static str> {
        let missing = word.saturating_sub(now.0.saturating_mul(PER_NANO));
        if missing > self.span { Err("more is missing than a bucket holds") } else { Ok(()) }
    }

    /// Whole tokens that are left: `RateLimit-Remaining`.
    pub fn remaining(&self, now: Instant, word: u64) -> u64 {
        let missing = word.saturating_sub(now.0.saturating_mul(PER_NANO));
        (self.span.saturating_sub(missing) / self.cost).min(self.tokens_max)
    }

    /// Until the bucket is full: `RateLimit-Reset`.
    pub fn until_full(&self, now: Instant, word: u64) -> Duration {
        let missing = word.saturating_sub(now.0.saturating_mul(PER_NANO));
        Duration::from_nanos(missing.div_ceil(PER_NANO))
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    fn settings(tokens_max: u32, tokens_per_fill: u32, interval: Duration) -> TokenBucket {
        TokenBucket { tokens_max, tokens_per_fill, fill_interval: interval }
    }

    /// Parts of a token, of which `fill_interval` nanoseconds make one: nothing is ever rounded.
    struct RefBucket {
        settings: TokenBucket,
        parts: u128,
        at: Instant,
    }

    impl RefBucket {
        fn new(settings: TokenBucket) -> RefBucket {
            let parts = u128::from(settings.tokens_max) * settings.fill_interval.as_nanos();
            RefBucket { settings, parts, at: Instant::ZERO }
        }

        fn take(&mut self, now: Instant) -> bool {
            let one = self.settings.fill_interval.as_nanos();
            let came = now.since(self.at).as_nanos() * u128::from(self.settings.tokens_per_fill);
            self.parts = (self.parts + came).min(u128::from(self.settings.tokens_max) * one);
            self.at = now;
            let is_there = self.parts >= one;
            self.parts -= if is_there { one } else { 0 };
            is_there
        }
    }

    #[test]
    fn the_buckets_of_the_traffic_guide() {
        for (requests, window) in [(100, 60), (200, 60), (1_000, 1)] {
            let bucket = Bucket::new(settings(requests, requests, Duration::from_secs(window)));
            let mut word = 0;
            for left in (0..requests).rev() {
                word = bucket.take(Instant(5), word).unwrap();
                assert_eq!(bucket.remaining(Instant(5), word), u64::from(left));
            }
            let wait = bucket.take(Instant(5), word).unwrap_err();
            assert_eq!(wait, Duration::from_secs(window) / requests);
            assert_eq!(bucket.until_full(Instant(5), word), Duration::from_secs(window));
            assert!(
                bucket.check_invariants(Instant(4), word).is_err(),
                "as yet nobody can have taken so much"
            );
            let now = Instant(5) + wait;
            assert!(bucket.take(now - Duration::from_nanos(1), word).is_err());
            assert!(bucket.take(now, word).is_ok());
        }
    }

    #[test]
    fn thirds_of_a_second_do_not_add_up_to_less() {
        let bucket = Bucket::new(settings(3, 3, Duration::from_secs(1)));
        let mut word = 0;
        for second in 0..100_000_u64 {
            let now = Instant(second * 1_000_000_000);
            for _ in 0..3 {
                word = bucket.take(now, word).unwrap();
            }
            assert!(bucket.take(now, word).is_err());
        }
    }

    #[test]
    fn impossible_settings_refuse_and_do_not_fail() {
        assert_eq!(Bucket::new(settings(0, 0, Duration::ZERO)).take(Instant(1), 0), Err(Duration::MAX));
        let most = Bucket::new(settings(u32::MAX, 1, Duration::MAX));
        assert!(most.take(Instant(u64::MAX), u64::MAX).is_ok());
        let fast = Bucket::new(settings(1, u32::MAX, Duration::from_millis(50)));
        assert!(fast.take(Instant(0), 0).is_ok());
    }

    #[test]
    fn a_walk_does_as_the_exact_bucket_does() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            // A sixteenth of a nanosecond measures the first exactly.
            let is_exact = seed % 2 == 0;
            let fills = if is_exact { 1 << chance.below(5) } else { 1 + chance.below(50) as u32 };
            let interval = Duration::from_millis(50 + chance.below(2_000));
            let settings = settings(1 + chance.below(20) as u32, fills, interval);
            let (bucket, mut reference) = (Bucket::new(settings), RefBucket::new(settings));
            let (mut now, mut word, mut taken) = (Instant::ZERO, 0, 0_i64);
            for _ in 0..1_000 {
                now = now + Duration::from_nanos(chance.below(interval.as_nanos() as u64 / 4));
                let token = bucket.take(now, word);
                word = token.unwrap_or(word);
                assert_eq!(bucket.check_invariants(now, word), Ok(()), "seed {seed}");
                taken += i64::from(token.is_ok()) - i64::from(reference.take(now));
                assert!(if is_exact { taken == 0 } else { (0..=1).contains(&taken) }, "{taken}, seed {seed}");
                if let Err(wait) = token {
                    assert!(bucket.take(now + wait, word).is_ok());
                    assert!(bucket.take(now + wait - Duration::from_nanos(1), word).is_err());
                }
            }
        }
    }
}
