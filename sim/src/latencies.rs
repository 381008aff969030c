//! How long many things took: counted in buckets, in whole microseconds.
//!
//! A few thousand are kept as they are, and their quantiles are values that occurred. Beyond, they
//! fall into buckets whose width is a thousandth of their value at most, as in HdrHistogram (Tene,
//! 2012): an hour needs 23,000 counters, whatever happened in it.

/// So many are kept as they are.
pub const EXACT_MAX: usize = 4_096;

/// A value and its bucket differ in less than one of so many parts.
const PARTS_BITS: u32 = 10;

#[derive(Clone, Debug, Default)]
pub struct Latencies {
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
    /// All of them, while they are few.
    exact: Vec<u64>,
    /// All of them, when they are many; up to the largest that occurred.
    buckets: Vec<u64>,
}

impl Latencies {
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += u128::from(value);
        if self.buckets.is_empty() && self.exact.len() < EXACT_MAX {
            self.exact.push(value);
            return;
        }
        for few in std::mem::take(&mut self.exact) {
            self.fill(few);
        }
        self.fill(value);
    }

    /// Records what others have recorded.
    pub fn add(&mut self, others: &Latencies) {
        for value in &others.exact {
            self.record(*value);
        }
        if others.buckets.is_empty() {
            return;
        }
        self.min = if self.count == 0 { others.min } else { self.min.min(others.min) };
        self.max = self.max.max(others.max);
        self.count += others.count;
        self.sum += others.sum;
        for few in std::mem::take(&mut self.exact) {
            self.fill(few);
        }
        for (at, count) in others.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.fill_at(at, *count);
        }
    }

    fn fill(&mut self, value: u64) {
        self.fill_at(bucket(value), 1);
    }

    #[inline]
    fn fill_at(&mut self, bucket: usize, count: u64) {
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += count;
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.exact.clear();
        self.buckets.clear();
        (self.count, self.sum, self.min, self.max) = (0, 0, 0, 0);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// 0 where there are none; so are the others.
    pub fn min(&self) -> u64 {
        self.min
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// Rounded down.
    pub fn mean(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }

    /// The smallest value that at least so many do not exceed, in millionths; of many, the largest of
    /// its bucket.
    pub fn quantile(&mut self, millionths: u32) -> u64 {
        let rank = u128::from(self.count) * u128::from(millionths);
        let rank = u64::try_from(rank.div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1);
        if self.buckets.is_empty() {
            self.exact.sort_unstable();
            return self.exact.get(rank as usize - 1).copied().unwrap_or(0);
        }
        let mut upto = 0;
        let at = self.buckets.iter().position(|count| {
            upto += count;
            upto >= rank
        });
        at.map_or(self.max, |at| largest_of(at).min(self.max))
    }
}

/// Values below 2^11 have buckets of their own; each power of two above shares 2^10.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(PARTS_BITS + 1);
    ((shift as usize) << PARTS_BITS) + (value >> shift) as usize
}

fn largest_of(bucket: usize) -> u64 {
    let shift = (bucket >> PARTS_BITS).saturating_sub(1);
    let parts = (bucket - (shift << PARTS_BITS)) as u64;
    (parts << shift) | ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    const QUANTILES: [u32; 6] = [1, 500_000, 900_000, 990_000, 999_000, 1_000_000];

    fn of(values: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        values.into_iter().for_each(|value| latencies.record(value));
        latencies
    }

    #[test]
    fn quantiles_of_few_are_values_that_occurred() {
        let mut latencies = of((1..=1_000).rev());
        assert_eq!([500_000, 900_000, 990_000, 999_000].map(|q| latencies.quantile(q)), [500, 900, 990, 999]);
        let mut two = of([9, 7]);
        assert_eq!([1, 500_000, 990_000, 1_000_000].map(|q| two.quantile(q)), [7, 7, 9, 9]);
        assert_eq!(of([]).quantile(500_000), 0);
        let three = of([6, 1, 2]);
        assert_eq!((three.min(), three.mean(), three.max(), three.count()), (1, 3, 6, 3));
    }

    #[test]
    fn a_bucket_holds_what_falls_into_it() {
        for value in (0..5_000).chain((11..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let at = bucket(value);
            assert!(value <= largest_of(at), "{value}");
            assert!(largest_of(at) - value <= value >> PARTS_BITS, "{value} in {at}");
            assert!(at == 0 || largest_of(at - 1) < value, "{value} in {at}");
        }
        assert_eq!(largest_of(bucket(u64::MAX)), u64::MAX);
    }

    /// Few to few, few to many, many to few.
    #[test]
    fn added_are_as_recorded_together() {
        for (first, second) in [(10, 20), (0, 5_000), (5_000, 3), (3, 5_000), (5_000, 5_000), (3_000, 3_000)]
        {
            let values: Vec<u64> = (0..first + second).map(|at| (at * 7_919) % 100_003).collect();
            let (before, behind) = values.split_at(first as usize);
            let mut added = of(before.iter().copied());
            added.add(&of(behind.iter().copied()));
            let mut together = of(values.iter().copied());
            assert_eq!(QUANTILES.map(|q| added.quantile(q)), QUANTILES.map(|q| together.quantile(q)));
            let told = |of: &Latencies| (of.count(), of.min(), of.max(), of.mean());
            assert_eq!(told(&added), told(&together));
        }
    }

    /// The reference sorts all values.
    #[test]
    fn quantiles_of_many_are_off_by_a_thousandth_at_most() {
        for seed in 0..32 {
            let mut chance = Chance::split(seed, "latencies");
            let magnitude = 1 + chance.below(40);
            let mut values: Vec<u64> = (0..20_000).map(|_| chance.below(1 << magnitude)).collect();
            let mut latencies = of(values.iter().copied());
            values.sort_unstable();
            for q in QUANTILES {
                let rank = (values.len() as u64 * u64::from(q)).div_ceil(1_000_000).max(1);
                let expected = values[rank as usize - 1];
                let found = latencies.quantile(q);
                assert!(found >= expected && found - expected <= expected / 1_000, "{found} for {expected}");
            }
            assert_eq!((latencies.min(), latencies.max()), (values[0], values[19_999]));
            assert_eq!(latencies.mean(), values.iter().sum::<u64>() / 20_000);
            latencies.clear();
            assert_eq!((latencies.count(), latencies.quantile(500_000)), (0, 0));
        }
    }
}
