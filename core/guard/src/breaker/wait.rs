//! How long is it open this time? Source: Resilience4j's `IntervalFunction`: whole milliseconds,
//! each wait computed from the one before, randomized last and then capped.

use std::time::Duration;

use naru_base::Chance;
use naru_spec::WaitInOpen;

/// The wait before randomization, as it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Growth {
    millis: u64,
}

impl Growth {
    /// The next wait; `is_first` begins anew.
    pub(super) fn next(&mut self, wait: WaitInOpen, is_first: bool, chance: &mut Chance) -> Duration {
        match wait {
            WaitInOpen::Fixed(wait) => wait,
            WaitInOpen::Exponential { initial, multiplier, max, randomization } => {
                let max = millis(max).max(1);
                self.millis = if is_first || self.millis == 0 {
                    millis(initial).clamp(1, max)
                } else {
                    let grown = u128::from(self.millis) * u128::from(multiplier) / 1_000;
                    u64::try_from(grown).unwrap_or(u64::MAX).clamp(1, max)
                };
                let spread = u128::from(self.millis) * u128::from(randomization.min(1_000)) / 1_000;
                let spread = u64::try_from(spread).unwrap_or(u64::MAX);
                let lowest = self.millis.saturating_sub(spread);
                let drawn = chance.below(spread.saturating_mul(2).saturating_add(1));
                Duration::from_millis(lowest.saturating_add(drawn).clamp(1, max))
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(wait: WaitInOpen, count: usize) -> Vec<u64> {
        let (mut growth, mut chance) = (Growth::default(), Chance::new(1));
        (0..count).map(|nth| millis(growth.next(wait, nth == 0, &mut chance))).collect()
    }

    fn exponential(initial: u64, multiplier: u32, max: u64, randomization: u32) -> WaitInOpen {
        let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
        WaitInOpen::Exponential { initial, multiplier, max, randomization }
    }

    #[test]
    fn waits_grow_to_their_cap() {
        assert_eq!(waits(exponential(500, 1_500, 2_000, 0), 6), [500, 750, 1_125, 1_687, 2_000, 2_000]);
        assert_eq!(waits(exponential(2_000, 2_000, 300_000, 0), 3), [2_000, 4_000, 8_000]);
        assert_eq!(waits(WaitInOpen::Fixed(Duration::from_secs(30)), 2), [30_000, 30_000]);
        assert_eq!(waits(exponential(0, 0, 0, 5_000), 3), [1, 1, 1], "whatever was asked for");
    }

    #[test]
    fn a_randomized_wait_stays_in_its_part_and_below_the_cap() {
        let drawn = waits(exponential(1_000, 1_000, 1_200, 500), 2_000);
        assert!(drawn.iter().all(|wait| (500..=1_200).contains(wait)));
        assert!(drawn.iter().any(|wait| *wait < 550) && drawn.contains(&1_200));
    }
}
