//! A timeout that follows what is observed.
//!
//! One [`Observed`] for each cluster or route, owned and fed by one worker. It counts response times
//! in buckets that grow by an eighth, halves the counts again and again so that what is old fades,
//! and says a quantile times a factor between two bounds. A request that was given up counts as what
//! it had taken by then: the timeout then grows until such requests fit, or its bound holds it.

use std::time::Duration;

use naru_base::Instant;
use naru_spec::{AutoTimeout, defaults};

/// Buckets of a power of two.
const STEPS: usize = 8;
const STEPS_LOG: u32 = 3;
/// Microseconds below this are in the first bucket: 64 us.
const FIRST_LOG: u32 = 6;
/// The last bucket ends at 134 s, and has all that is longer.
const LAST_LOG: u32 = 27;
const BUCKETS: usize = (LAST_LOG - FIRST_LOG) as usize * STEPS + 1;

#[derive(Clone, Debug)]
pub struct Observed {
    settings: AutoTimeout,
    counts: [u32; BUCKETS],
    total: u64,
    timeout: Duration,
    refresh: Instant,
    fade: Instant,
}

impl Observed {
    pub fn new(now: Instant, settings: AutoTimeout) -> Observed {
        Observed {
            settings,
            counts: [0; BUCKETS],
            total: 0,
            timeout: settings.max,
            refresh: now + defaults::AUTO_TIMEOUT_REFRESH,
            fade: now + defaults::AUTO_TIMEOUT_HALF_LIFE,
        }
    }

    pub fn settings(&self) -> AutoTimeout {
        self.settings
    }

    /// A response took this long, or was given up after this long.
    #[inline]
    pub fn on_response(&mut self, took: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(took))
            && *count < u32::MAX
        {
            *count += 1;
            self.total += 1;
        }
    }

    /// What holds now.
    #[inline]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many responses it is computed of; what is old counts less.
    pub fn responses(&self) -> u64 {
        self.total
    }

    /// Time passed. Does nothing before [`Observed::deadline`].
    pub fn tick(&mut self, now: Instant) {
        if now < self.refresh {
            return;
        }
        while self.fade <= now && self.total > 0 {
            self.halve();
            self.fade = self.fade + defaults::AUTO_TIMEOUT_HALF_LIFE;
        }
        if self.fade <= now {
            self.fade = now + defaults::AUTO_TIMEOUT_HALF_LIFE;
        }
        self.refresh = now + defaults::AUTO_TIMEOUT_REFRESH;
        self.timeout = self.computed();
    }

    /// The next moment at which [`Observed::tick`] would do something.
    pub fn deadline(&self) -> Instant {
        self.refresh
    }

    /// At most 32 times until nothing is left.
    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.total = self.counts.iter().copied().map(u64::from).sum();
    }

    fn computed(&self) -> Duration {
        let AutoTimeout { quantile_permille, factor_percent, min, max } = self.settings;
        if self.total < u64::from(defaults::AUTO_TIMEOUT_SAMPLES_MIN) {
            return max;
        }
        self.quantile(quantile_permille).saturating_mul(factor_percent).checked_div(100).map_or(
            max,
            |wanted| {
                // Not `clamp`, which panics where the bounds are crossed.
                wanted.max(min).min(max)
            },
        )
    }

    /// No less than so many thousandths took, and at most an eighth more. Zero where nothing was observed.
    pub fn quantile(&self, permille: u32) -> Duration {
        let rank = (self.total * u64::from(permille.min(1_000))).div_ceil(1_000).max(1);
        let mut seen = 0_u64;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return upper_bound(at);
            }
        }
        Duration::ZERO
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let AutoTimeout { min, max, .. } = self.settings;
        let sum: u64 = self.counts.iter().copied().map(u64::from).sum();
        if sum != self.total {
            Err("the total is not the sum")
        } else if self.timeout > max || self.timeout < min.min(max) {
            Err("a timeout beyond its bounds")
        } else {
            Ok(())
        }
    }
}

/// Which bucket has this: those before it end below or at it.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let Some(log) = micros.checked_ilog2().filter(|log| *log >= FIRST_LOG) else { return 0 };
    if log >= LAST_LOG {
        return BUCKETS - 1;
    }
    let step = (micros >> (log - STEPS_LOG)) as usize % STEPS;
    1 + (log - FIRST_LOG) as usize * STEPS + step
}

fn upper_bound(bucket: usize) -> Duration {
    let Some(beyond) = bucket.checked_sub(1) else { return Duration::from_micros(1 << FIRST_LOG) };
    let log = FIRST_LOG + (beyond / STEPS) as u32;
    let step = (beyond % STEPS) as u64 + 1;
    Duration::from_micros((STEPS as u64 + step) << (log - STEPS_LOG))
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn every_time_has_a_bucket_that_is_an_eighth_wide() {
        let mut chance = Chance::new(1);
        for _ in 0..100_000 {
            let took = Duration::from_micros(chance.draw() >> chance.below(64));
            let bound = upper_bound(bucket(took));
            if took < Duration::from_micros(1 << LAST_LOG) {
                assert!(took < bound || bound == Duration::from_micros(64), "{took:?} {bound:?}");
                assert!(bound <= (took * 9 / 8).max(Duration::from_micros(64)) + Duration::from_micros(1));
            }
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert!((1..BUCKETS).all(|at| upper_bound(at) > upper_bound(at - 1)));
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list_but_for_an_eighth() {
        for seed in 0..64 {
            let mut chance = Chance::new(seed);
            let mut observed = Observed::new(at(0), AutoTimeout::default());
            let mut draw = || {
                let log = chance.below(24);
                Duration::from_micros(100 + chance.below(1 << log))
            };
            let mut list: Vec<Duration> = (0..500).map(|_| draw()).collect();
            list.iter().for_each(|took| observed.on_response(*took));
            list.sort_unstable();
            for permille in [1, 500, 900, 990, 999, 1_000] {
                let exact = list[(500 * permille as usize).div_ceil(1_000).max(1) - 1];
                let found = observed.quantile(permille);
                assert!(
                    found >= exact && found <= exact * 9 / 8 + Duration::from_micros(1),
                    "{exact:?} {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_timeout_is_three_times_p99_between_its_bounds() {
        let mut observed = Observed::new(at(0), AutoTimeout::default());
        assert_eq!(observed.timeout(), Duration::from_secs(5), "nothing is known yet");
        (0..99).for_each(|_| observed.on_response(MS(100)));
        observed.tick(at(1));
        assert_eq!(observed.timeout(), Duration::from_secs(5), "too little is known");
        (0..901).for_each(|_| observed.on_response(MS(100)));
        observed.tick(at(2));
        assert!((MS(300)..=MS(340)).contains(&observed.timeout()), "{:?}", observed.timeout());
        let mut fast = Observed::new(at(0), AutoTimeout::default());
        (0..1_000).for_each(|_| fast.on_response(MS(1)));
        fast.tick(at(1));
        assert_eq!(fast.timeout(), MS(100), "never below its least");
    }

    #[test]
    fn what_is_old_fades() {
        let mut observed = Observed::new(at(0), AutoTimeout::default());
        (0..1_000).for_each(|_| observed.on_response(MS(1_000)));
        observed.tick(at(1));
        assert!(observed.timeout() > MS(2_900));
        let mut half = observed.clone();
        half.tick(at(60));
        assert_eq!(half.total, 500);
        half.tick(at(180));
        assert_eq!(half.total, 125, "two half-lives at once");
        for minute in 1..=12 {
            (0..1_000).for_each(|_| observed.on_response(MS(100)));
            observed.tick(at(60 * minute));
        }
        assert!(observed.timeout() < MS(400), "{:?}", observed.timeout());
        observed.tick(at(1_000_000_000));
        assert_eq!(observed.timeout(), Duration::from_secs(5), "and all of it in the end");
        observed.check_invariants().unwrap();
    }

    #[test]
    fn a_service_that_becomes_slow_is_not_timed_out_for_ever() {
        let mut observed = Observed::new(at(0), AutoTimeout { min: MS(10), ..AutoTimeout::default() });
        (0..200).for_each(|_| observed.on_response(MS(10)));
        observed.tick(at(1));
        let before = observed.timeout();
        assert!(before < MS(40));
        let mut given_up = 0;
        for second in 2..=60 {
            for _ in 0..100 {
                let timeout = observed.timeout();
                given_up += u32::from(timeout < MS(400));
                observed.on_response(MS(400).min(timeout));
            }
            observed.tick(at(second));
        }
        assert!(observed.timeout() >= MS(400), "{:?}", observed.timeout());
        assert!(given_up <= 400, "{given_up} requests ended for nothing");
    }

    #[test]
    fn any_settings_and_any_times_hold_the_invariants() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let mut length = |log: u64| {
                let draw = chance.draw();
                Duration::from_nanos(draw >> chance.below(log))
            };
            let settings = AutoTimeout {
                quantile_permille: length(64).subsec_nanos() % 2_000,
                factor_percent: length(64).subsec_nanos(),
                min: length(64),
                max: length(64),
            };
            let mut observed = Observed::new(Instant::ZERO, settings);
            let mut now = Instant::ZERO;
            for _ in 0..100 {
                for _ in 0..chance.below(200) {
                    observed.on_response(Duration::from_nanos(chance.draw() >> chance.below(64)));
                }
                now = now + Duration::from_nanos(chance.draw() >> 20 >> chance.below(40));
                observed.tick(now);
                observed.check_invariants().unwrap();
            }
        }
    }
}
