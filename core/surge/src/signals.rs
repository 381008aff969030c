//! What is known of the load at a moment: one number for each signal.
//!
//! Counts grow for ever; a [`Meter`] keeps the last few of them, and what happened between the oldest and the newest is
//! what signals tell. A share of too few requests is not known: one failure of two says nothing.

use std::collections::VecDeque;
use std::time::Duration;

use naru_base::{Instant, Reason, Side};
use naru_spec::{SurgeSignal, defaults};

/// Upper bounds of the buckets of durations, in microseconds; one more bucket holds the rest. Those of the proxy's
/// histograms.
pub const BOUNDS_US: [u64; 20] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
    18_000_000_000,
];

/// Looks that are told of together.
const LOOKS: usize = 5;

/// What has happened until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that have come, whatever became of them.
    pub requests: u64,
    /// Of those that were forwarded and are over, how long they took: by [`BOUNDS_US`].
    pub durations: [u64; BOUNDS_US.len() + 1],
    /// How many of these were answered 500 to 599.
    pub errors: u64,
    /// Requests that were to be forwarded, and that a limit or a breaker refused.
    pub refused: u64,
    /// Requests that were answered from memory, and those that might have been and were not.
    pub cache_hits: u64,
    pub cache_misses: u64,
}

/// What is now. Nothing where it cannot be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Requests that wait at a limit.
    pub queued: Option<u64>,
    /// Of what there is, in thousandths.
    pub cpu: Option<u64>,
    pub memory: Option<u64>,
}

/// The last few counts.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    looks: VecDeque<(Instant, Counts)>,
}

/// A number for each signal, in its unit; nothing where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals([Option<u64>; SurgeSignal::ALL.len()]);

impl Counts {
    /// A request that was for a cluster is over.
    pub fn observe(&mut self, reason: Reason, status: u16, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let mut durations = [0; BOUNDS_US.len() + 1];
        if let Some(count) = durations.get_mut(BOUNDS_US.partition_point(|bound| *bound < micros)) {
            *count = 1;
        }
        self.observe_many(reason, status, &durations);
    }

    /// The same of several: by how long they took.
    pub fn observe_many(&mut self, reason: Reason, status: u16, durations: &[u64; BOUNDS_US.len() + 1]) {
        let all = durations.iter().sum::<u64>();
        if reason.is_cached() {
            return;
        }
        if reason.side() == Side::Proxy && !reason.is_success() {
            // It took no time, and says nothing of how fast anybody is.
            self.refused += if status >= 500 { all } else { 0 };
            return;
        }
        for (mine, theirs) in self.durations.iter_mut().zip(durations) {
            *mine += theirs;
        }
        self.errors += if status >= 500 { all } else { 0 };
    }

    /// Adds those of another worker.
    pub fn add(&mut self, other: &Counts) {
        self.requests += other.requests;
        for (mine, theirs) in self.durations.iter_mut().zip(other.durations) {
            *mine += theirs;
        }
        self.errors += other.errors;
        self.refused += other.refused;
        self.cache_hits += other.cache_hits;
        self.cache_misses += other.cache_misses;
    }

    /// What has happened since; a count that was begun anew has had nothing.
    fn since(&self, before: &Counts) -> Counts {
        let mut durations = self.durations;
        for (mine, before) in durations.iter_mut().zip(before.durations) {
            *mine = mine.saturating_sub(before);
        }
        Counts {
            requests: self.requests.saturating_sub(before.requests),
            durations,
            errors: self.errors.saturating_sub(before.errors),
            refused: self.refused.saturating_sub(before.refused),
            cache_hits: self.cache_hits.saturating_sub(before.cache_hits),
            cache_misses: self.cache_misses.saturating_sub(before.cache_misses),
        }
    }

    /// How long the slowest took that are no more than such a share, at least: in microseconds, by where it lies in its
    /// bucket (as Prometheus' `histogram_quantile` does). What is beyond all bounds is at the last of them.
    fn slowest(&self, share_percent: u64) -> Option<u64> {
        let all: u64 = self.durations.iter().sum();
        if all < defaults::SURGE_REQUESTS_MIN {
            return None;
        }
        // In hundredths of a request, so that the rank is exact.
        let rank = all * (100 - share_percent);
        let mut below = 0;
        let mut from = 0;
        for (count, bound) in self.durations.iter().zip(BOUNDS_US) {
            let here = count * 100;
            if here > 0 && below + here >= rank {
                return Some(from + (bound - from) * (rank - below) / here);
            }
            below += here;
            from = bound;
        }
        Some(from)
    }
}

impl Meter {
    /// One look.
    pub fn on_look(
        &mut self,
        now: Instant,
        counts: Counts,
        gauges: Gauges,
        capacity: Option<u32>,
    ) -> Signals {
        self.looks.push_back((now, counts));
        if self.looks.len() > LOOKS + 1 {
            self.looks.pop_front();
        }
        let mut signals = Signals::default();
        signals.set(SurgeSignal::Queued, gauges.queued);
        signals.set(SurgeSignal::Cpu, gauges.cpu);
        signals.set(SurgeSignal::Memory, gauges.memory);
        let Some((first, before)) = self.looks.front() else { return signals };
        let millis = u64::try_from(now.since(*first).as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return signals;
        }
        let happened = counts.since(before);
        let requests = capacity.filter(|capacity| *capacity > 0).map(|capacity| {
            let per_million_seconds = u128::from(happened.requests) * 1_000_000 / u128::from(millis);
            u64::try_from(per_million_seconds / u128::from(capacity)).unwrap_or(u64::MAX)
        });
        signals.set(SurgeSignal::Requests, requests);
        signals.set(SurgeSignal::P95, happened.slowest(5));
        signals.set(SurgeSignal::P99, happened.slowest(1));
        signals.set(
            SurgeSignal::Errors,
            share(
                happened.errors + happened.refused,
                happened.durations.iter().sum::<u64>() + happened.refused,
            ),
        );
        let looked_up = happened.cache_hits + happened.cache_misses;
        signals.set(SurgeSignal::CacheMisses, share(happened.cache_misses, looked_up));
        signals
    }
}

/// In thousandths.
fn share(part: u64, of: u64) -> Option<u64> {
    (of >= defaults::SURGE_REQUESTS_MIN).then(|| part * 1_000 / of)
}

impl Signals {
    pub fn get(&self, signal: SurgeSignal) -> Option<u64> {
        self.0.get(signal.index()).copied().flatten()
    }

    pub fn set(&mut self, signal: SurgeSignal, value: Option<u64>) {
        if let Some(place) = self.0.get_mut(signal.index()) {
            *place = value;
        }
    }

    /// Those that are known.
    pub fn known(&self) -> impl Iterator<Item = (SurgeSignal, u64)> + '_ {
        SurgeSignal::ALL.into_iter().filter_map(|signal| Some((signal, self.get(signal)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn requests_are_a_part_of_the_capacity_over_the_last_looks() {
        let mut meter = Meter::default();
        let mut counts = Counts::default();
        let mut look = |seconds, requests| {
            counts.requests += requests;
            meter.on_look(at(seconds), counts, Gauges::default(), Some(200)).get(SurgeSignal::Requests)
        };
        assert_eq!(look(0, 1_000), None, "nothing is known of one look");
        assert_eq!(look(1, 100), Some(500));
        assert_eq!(look(2, 300), Some(1_000));
        for second in 3..7 {
            look(second, 0);
        }
        // Five looks back there were 100 already.
        assert_eq!(look(7, 20), Some(20));
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut counts = Counts::default();
        for _ in 0..9 {
            counts.observe(Reason::Forwarded, 200, Duration::from_millis(7));
        }
        assert_eq!(counts.slowest(1), None, "too few");
        for _ in 0..91 {
            counts.observe(Reason::Forwarded, 200, Duration::from_millis(7));
        }
        // All of them are between 5 and 10 ms.
        assert_eq!(counts.slowest(1), Some(9_950));
        assert_eq!(counts.slowest(5), Some(9_750));
        for _ in 0..4 {
            counts.observe(Reason::Forwarded, 200, Duration::from_secs(40_000));
        }
        assert_eq!(counts.slowest(5), Some(5_000 + 5_000 * 9_880 / 10_000));
        assert_eq!(counts.slowest(1), Some(18_000_000_000), "beyond all bounds");
    }

    #[test]
    fn shares_of_few_requests_are_not_known() {
        let mut meter = Meter::default();
        meter.on_look(at(0), Counts::default(), Gauges::default(), None);
        let mut counts = Counts { cache_hits: 5, cache_misses: 15, ..Counts::default() };
        for at in 0..9 {
            let status = if at % 3 == 0 { 502 } else { 200 };
            counts.observe(Reason::Forwarded, status, Duration::from_millis(1));
        }
        let signals = meter.on_look(at(1), counts, Gauges::default(), None);
        assert_eq!(signals.get(SurgeSignal::Errors), None);
        assert_eq!(signals.get(SurgeSignal::CacheMisses), Some(750));
        counts.observe(Reason::Forwarded, 404, Duration::from_millis(1));
        let gauges = Gauges { queued: Some(3), cpu: Some(910), memory: None };
        let signals = meter.on_look(at(2), counts, gauges, None);
        let known: Vec<_> = signals.known().collect();
        assert_eq!(
            known,
            [
                (SurgeSignal::P95, 1_000 - 500 * 50 / 1_000),
                (SurgeSignal::P99, 1_000 - 500 * 10 / 1_000),
                (SurgeSignal::Errors, 300),
                (SurgeSignal::Cpu, 910),
                (SurgeSignal::Queued, 3),
                (SurgeSignal::CacheMisses, 750),
            ]
        );
    }

    #[test]
    fn what_is_refused_is_an_error_and_takes_no_time() {
        let mut counts = Counts::default();
        counts.observe(Reason::BulkheadFull, 503, Duration::ZERO);
        counts.observe(Reason::RateLimited, 429, Duration::ZERO);
        counts.observe(Reason::CacheHit, 200, Duration::ZERO);
        counts.observe(Reason::RouteTimeout, 504, Duration::from_secs(1));
        counts.observe(Reason::Forwarded, 404, Duration::from_secs(1));
        assert_eq!((counts.refused, counts.errors, counts.durations.iter().sum::<u64>()), (1, 1, 2));
    }

    #[test]
    fn a_count_that_was_begun_anew_has_had_nothing() {
        let mut meter = Meter::default();
        let many = Counts { requests: 500, ..Counts::default() };
        meter.on_look(at(0), many, Gauges::default(), Some(10));
        let signals = meter.on_look(at(1), Counts::default(), Gauges::default(), Some(10));
        assert_eq!(signals.get(SurgeSignal::Requests), Some(0));
    }
}
