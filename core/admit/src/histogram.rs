//! Latencies, counted by size, and the one below which a share of them lies.
//!
//! Bins are two decimal digits wide, as in Envoy's circllhist, and a percentile is interpolated within its bin as there
//! (`hist_approx_quantile`), but in integers: the same latencies give the same microsecond. A latency costs one
//! addition; nothing is allocated after the beginning.

use std::time::Duration;

use naru_base::Fraction;
use naru_spec::limits::millionths;

/// One digit, then each of nine magnitudes with ninety bins: up to 10^10 microseconds, nearly three hours.
const MAGNITUDES: usize = 9;
const BINS: usize = 10 + 90 * MAGNITUDES;
const MILLION: u128 = 1_000_000;

/// In microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    bins: Box<[u32]>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { bins: vec![0; BINS].into_boxed_slice(), count: 0 }
    }
}

impl Histogram {
    #[inline]
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bin) = self.bins.get_mut(bin_of(micros)) {
            *bin = bin.saturating_add(1);
            self.count = self.count.saturating_add(1);
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn clear(&mut self) {
        self.bins.fill(0);
        self.count = 0;
    }

    /// The latency below which this share of them lies, in microseconds; `None` where there are none.
    pub fn percentile(&self, share: Fraction) -> Option<u64> {
        // In millionths of one latency, so that nothing is rounded before the end.
        let wanted = u128::from(self.count) * u128::from(millionths(share));
        let filled = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut below = 0_u128;
        let mut last = None;
        for (bin, &count) in filled {
            let (left, width) = edges(bin);
            let within = u128::from(count) * MILLION;
            last = Some(left + width);
            if below + within >= wanted {
                let part = (wanted - below) * u128::from(width) / within;
                return Some(left + part as u64);
            }
            below += within;
        }
        last
    }
}

fn bin_of(micros: u64) -> usize {
    if micros < 10 {
        return micros as usize;
    }
    let mut leading = micros;
    for magnitude in 0..MAGNITUDES {
        if leading < 100 {
            return 10 + 90 * magnitude + leading as usize - 10;
        }
        leading /= 10;
    }
    BINS - 1
}

/// Where a bin begins, and how wide it is. Those of one digit are narrower than a microsecond.
fn edges(bin: usize) -> (u64, u64) {
    if bin < 10 {
        return (bin as u64, 0);
    }
    let (magnitude, leading) = ((bin - 10) / 90, (bin - 10) % 90 + 10);
    let width = 10_u64.pow(magnitude as u32);
    (leading as u64 * width, width)
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;
    use naru_base::share::Denominator;

    use super::*;

    fn percent(part: u32) -> Fraction {
        Fraction::new(part, Denominator::Hundred)
    }

    fn of(latencies: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        latencies.iter().for_each(|micros| histogram.add(Duration::from_micros(*micros)));
        histogram
    }

    #[test]
    fn every_latency_lies_in_its_bin() {
        for micros in
            (0..100_000).chain((17..34).map(|bits| 1 << bits)).filter(|micros| *micros < 10_u64.pow(10))
        {
            let (left, width) = edges(bin_of(micros));
            assert!(left <= micros && micros < left + width.max(1), "{micros} in {left}+{width}");
            assert!(width <= micros.max(10) / 10, "two digits");
        }
        assert_eq!(bin_of(u64::MAX), BINS - 1);
        assert_eq!(edges(BINS - 1).0 + edges(BINS - 1).1, 10_u64.pow(10));
    }

    #[test]
    fn percentiles_are_interpolated_as_circllhist_does() {
        // hist_approx_quantile of these values, the fraction of a microsecond cut off.
        assert_eq!(of(&[]).percentile(percent(50)), None);
        assert_eq!(of(&[5]).percentile(percent(50)), Some(5));
        assert_eq!(of(&[1_000]).percentile(percent(50)), Some(1_050));
        assert_eq!(of(&[1_000, 1_099, 1_001, 1_002]).percentile(percent(25)), Some(1_025));
        assert_eq!(of(&[1_000, 2_000]).percentile(percent(50)), Some(1_100));
        assert_eq!(of(&[1_000, 2_000]).percentile(percent(75)), Some(2_050));
        assert_eq!(of(&[1_000, 2_000]).percentile(percent(100)), Some(2_100));
        assert_eq!(of(&[1_000, 2_000]).percentile(percent(0)), Some(1_000));
    }

    #[test]
    fn a_percentile_is_within_a_tenth_of_the_true_one() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let mut latencies: Vec<u64> =
                (0..1 + chance.below(200)).map(|_| 1 + (chance.draw() >> (35 + chance.below(20)))).collect();
            let histogram = of(&latencies);
            latencies.sort_unstable();
            for part in [1, 50, 99, 100] {
                let rank = (latencies.len() * part as usize).div_ceil(100).max(1) - 1;
                let (told, exact) = (histogram.percentile(percent(part)).unwrap(), latencies[rank]);
                assert!(told.abs_diff(exact) <= exact / 10 + 1, "p{part}: {told}, not {exact}; seed {seed}");
            }
        }
    }
}
