//! How much of its share does an endpoint take that is new, or fit again?
//!
//! `max(min_percent, (time / window) ^ (1 / aggression))` of its weight, in whole milliseconds, the
//! first of which counts at once. Source: Envoy, `EdfLoadBalancerBase::applySlowStartFactor`. In a
//! schedule a smaller weight is a longer wait: what is given here multiplies a cost.

use std::time::Duration;

use naru_base::{EndpointId, Instant};
use naru_spec::WarmUp;

use crate::Fitness;
use crate::power::{Fixed, ONE, halved, log2};

/// No endpoint waits longer than this many times its turn.
const WAIT_MAX: u64 = 1 << 16;

/// The endpoints of a cluster that may be warming up.
#[derive(Clone, Debug)]
pub(crate) struct Ramps {
    settings: WarmUp,
    /// By id; `None` where an endpoint is not fit, and so does not warm up.
    since: Vec<Option<Instant>>,
}

impl Ramps {
    /// `None` where nobody is warming up at `now`.
    pub(crate) fn new(settings: WarmUp, fitness: &[Fitness], now: Instant) -> Option<Ramps> {
        let since = fitness.iter().map(|fitness| match fitness {
            Fitness::Fit { since } => Some(*since),
            Fitness::Degraded | Fitness::Unfit | Fitness::Excluded => None,
        });
        let ramps = Ramps { settings, since: since.collect() };
        ramps.end().is_some_and(|end| now < end).then_some(ramps)
    }

    /// When the last of them is warm.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.since.iter().flatten().max().map(|since| *since + self.settings.window)
    }

    pub(crate) fn check_invariants(&self) -> Result<(), &'static str> {
        if self.end().is_none() { Err("warms up, and nobody is fit") } else { Ok(()) }
    }

    /// How many times as long an endpoint waits as it would if it were warm; `unit` is once.
    pub(crate) fn wait(&self, endpoint: EndpointId, now: Instant, unit: u64) -> u64 {
        let since = self.since.get(endpoint.index()).copied().flatten();
        let part = since.map_or(ONE, |since| part(self.settings, now.since(since)));
        let wait = (u128::from(unit) << 32) / u128::from(part.max(ONE / WAIT_MAX));
        wait as u64
    }
}

/// The part of its weight that an endpoint has this long after it became fit.
fn part(settings: WarmUp, fit_for: Duration) -> Fixed {
    let (time, window) = (millis(fit_for).max(1), millis(settings.window));
    if time >= window || settings.aggression.0 == 0 {
        return ONE;
    }
    let grown = if settings.aggression.0 == 1_000 {
        ((u128::from(time) << 32) / u128::from(window)) as u64
    } else {
        let behind = u128::from(log2(window) - log2(time)) * 1_000 / u128::from(settings.aggression.0);
        halved(u64::try_from(behind).unwrap_or(u64::MAX))
    };
    let least = (u64::from(settings.min_percent.min(100)) << 32) / 100;
    grown.max(least)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;
    use naru_spec::Thousandths;

    use super::*;

    fn check(settings: WarmUp, fit_for_ms: u64, expected: f64) {
        let part = part(settings, Duration::from_millis(fit_for_ms)) as f64 / ONE as f64;
        assert!((part - expected).abs() < 1e-7, "{fit_for_ms} ms: {part}, not {expected}");
    }

    #[test]
    fn a_weight_grows_by_envoys_formula() {
        let even = WarmUp::over(Duration::from_secs(10));
        check(even, 0, 0.1);
        check(even, 500, 0.1);
        check(even, 1_500, 0.15);
        check(even, 9_999, 0.9999);
        check(even, 10_000, 1.0);
        check(even, u64::MAX / 2, 1.0);
        check(WarmUp { min_percent: 0, ..even }, 0, 0.0001);
        // Envoy's own example: a minute, an aggression of 1.5.
        let fast = WarmUp { aggression: Thousandths(1_500), ..WarmUp::over(Duration::from_secs(60)) };
        check(fast, 6_000, 0.1_f64.powf(1.0 / 1.5));
        check(WarmUp { aggression: Thousandths(500), ..even }, 5_000, 0.25);
        check(WarmUp { aggression: Thousandths(2_000), ..even }, 2_500, 0.5);
    }

    #[test]
    fn a_weight_never_shrinks_while_it_warms_up_and_no_wait_is_endless() {
        let mut chance = Chance::new(8);
        for _ in 0..256 {
            let settings = WarmUp {
                window: Duration::from_nanos(chance.draw() >> chance.below(64)),
                aggression: Thousandths((chance.draw() >> (32 + chance.below(32))) as u32),
                min_percent: chance.below(200) as u32,
            };
            let mut before = 0;
            for step in 0..50 {
                let now = part(settings, settings.window / 40 * step);
                assert!(now >= before, "{settings:?} at {step}");
                before = now;
            }
            assert_eq!(before, ONE);
            let fit = [Fitness::Fit { since: Instant(5) }];
            if let Some(ramps) = Ramps::new(settings, &fit, Instant(5)) {
                let wait = ramps.wait(EndpointId(0), Instant(5), 1 << 12);
                assert!((1 << 12..=1 << 28).contains(&wait), "{wait}");
            }
        }
    }

    #[test]
    fn warming_up_ends_with_the_last_that_became_fit() {
        let settings = WarmUp::over(Duration::from_secs(1));
        let since = |nanos| Fitness::Fit { since: Instant(nanos) };
        let fitness = [since(0), Fitness::Unfit, since(7), Fitness::Degraded];
        let ramps = Ramps::new(settings, &fitness, Instant(9)).unwrap();
        assert_eq!(ramps.end(), Some(Instant(1_000_000_007)));
        assert_eq!(ramps.check_invariants(), Ok(()));
        assert!(Ramps { settings, since: vec![None] }.check_invariants().is_err());
        for unheated in [1, 3, 99] {
            assert_eq!(ramps.wait(EndpointId(unheated), Instant(9), 100), 100);
        }
        assert_eq!(ramps.wait(EndpointId(0), Instant(9), 100), 1_000);
        assert!(Ramps::new(settings, &fitness, Instant(1_000_000_007)).is_none());
        assert!(Ramps::new(settings, &[Fitness::Unfit], Instant(9)).is_none());
    }
}
