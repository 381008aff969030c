//! How many requests may be under way, judged by how long they take?
//!
//! Envoy's gradient controller (`gradient_controller.cc`). From time to time the limit is lowered to its least, so that
//! the latency without load is measured. Between two of these windows the limit follows the latency: `limit * g +
//! sqrt(limit * g)`, where `g`, from 0.5 to 2, is the latency without load and its buffer over the latency now. Where
//! the limit is at its least for five intervals in a row, what was measured is doubted and measured again.
//!
//! | state     | event                              | next      | limit                     |
//! |-----------|------------------------------------|-----------|---------------------------|
//! | (new)     |                                    | Measuring | the least                 |
//! | Measuring | enough samples                     | Following | what it was before        |
//! | Following | tick, the interval is over         | Following | what the gradient says    |
//! | Following | tick, it is time, or five times min | Measuring | the least                 |
//!
//! Requests count themselves in a word ([`take`], [`give_back`]) that holds the limit as well: one step each, and never
//! more than the limit at the moment of taking. The [`Gradient`] has one owner, who is sent the latencies; a latency
//! that is dropped on the way is only one sample less. After each call the owner writes [`Gradient::limit`] into the
//! word with [`with_limit`].

use std::time::Duration;

use naru_base::{Chance, Instant, Reason};
use naru_spec::limits::millionths;
use naru_spec::{AdaptiveConcurrency, MinRtt};

use crate::Histogram;
use crate::word::Pair;

/// So many intervals at the least limit in a row, and the latency without load is measured again.
const LEAST_IN_A_ROW: u32 = 5;

/// The word with one more under way.
///
/// # Errors
/// [`Reason::ConcurrencyLimit`] where as many are as may be.
#[inline]
pub fn take(word: u64) -> Result<u64, Reason> {
    let Pair { low: active, high: limit } = Pair::of(word);
    if active < limit { Ok(word + 1) } else { Err(Reason::ConcurrencyLimit) }
}

/// The word with one less under way.
#[inline]
pub fn give_back(word: u64) -> u64 {
    let Pair { low: active, high } = Pair::of(word);
    Pair { low: active.saturating_sub(1), high }.word()
}

/// The word with another limit. Those that are under way stay, even if they are more.
#[inline]
pub fn with_limit(word: u64, limit: u32) -> u64 {
    Pair { high: limit, ..Pair::of(word) }.word()
}

/// How many are under way, for statistics.
#[inline]
pub fn active(word: u64) -> u32 {
    Pair::of(word).low
}

#[derive(Clone, Debug)]
pub struct Gradient {
    settings: AdaptiveConcurrency,
    limit: u32,
    phase: Phase,
    samples: Histogram,
    /// Without load, in microseconds.
    min_rtt: u64,
    /// What was sent before the last measurement began says nothing.
    epoch: Instant,
    least_in_a_row: u32,
    next_update: Option<Instant>,
    next_measurement: Option<Instant>,
    chance: Chance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Measuring { limit_before: u32 },
    Following,
}

impl Gradient {
    /// `chance` is for the moments of measurements, so that proxies do not all measure at once.
    pub fn new(now: Instant, settings: AdaptiveConcurrency, chance: Chance) -> Gradient {
        let mut gradient = Gradient {
            settings,
            limit: settings.concurrency_min.max(1),
            phase: Phase::Following,
            samples: Histogram::default(),
            min_rtt: 0,
            epoch: now,
            least_in_a_row: 0,
            next_update: Some(now + gradient_interval(&settings)),
            next_measurement: None,
            chance,
        };
        match settings.min_rtt {
            MinRtt::Measured { .. } => gradient.begin_measurement(now),
            MinRtt::Fixed(latency) => gradient.min_rtt = micros(latency),
        }
        gradient
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Without load, as it was measured last.
    pub fn min_rtt(&self) -> Duration {
        Duration::from_micros(self.min_rtt)
    }

    pub fn is_measuring(&self) -> bool {
        self.phase != Phase::Following
    }

    /// A request that was sent then is over: answered or not.
    pub fn on_sample(&mut self, now: Instant, sent: Instant) {
        if sent < self.epoch {
            return;
        }
        self.samples.add(now.since(sent));
        if let (Phase::Measuring { limit_before }, MinRtt::Measured { requests, .. }) =
            (self.phase, self.settings.min_rtt)
            && self.samples.count() >= u64::from(requests)
        {
            self.end_measurement(now, limit_before);
        }
    }

    pub fn tick(&mut self, now: Instant) {
        if self.next_update.is_some_and(|at| at <= now) {
            // A measurement that is under way sets it anew when it ends.
            self.next_update = None;
            if self.phase == Phase::Following {
                self.update(now);
                self.next_update = Some(now + gradient_interval(&self.settings));
            }
        }
        if self.next_measurement.is_some_and(|at| at <= now) {
            self.next_measurement = None;
            self.begin_measurement(now);
        }
    }

    /// When [`Gradient::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.next_update, self.next_measurement) {
            (Some(update), Some(measurement)) => Some(update.min(measurement)),
            (update, measurement) => update.or(measurement),
        }
    }

    fn begin_measurement(&mut self, now: Instant) {
        if self.phase != Phase::Following {
            return;
        }
        self.phase = Phase::Measuring { limit_before: self.limit };
        self.set_limit(now, self.settings.concurrency_min.max(1));
        self.samples.clear();
        self.epoch = now;
    }

    fn end_measurement(&mut self, now: Instant, limit_before: u32) {
        if let Some(latency) = self.aggregate() {
            self.min_rtt = latency;
        }
        self.set_limit(now, limit_before);
        self.phase = Phase::Following;
        if let MinRtt::Measured { interval, jitter, .. } = self.settings.min_rtt {
            let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            let range = u128::from(interval) * u128::from(millionths(jitter));
            let range = u64::try_from(range.div_ceil(1_000_000)).unwrap_or(u64::MAX);
            let wait = interval.saturating_add(self.chance.below(range));
            self.next_measurement = Some(now + Duration::from_millis(wait));
        }
        self.next_update = Some(now + gradient_interval(&self.settings));
    }

    /// The latencies of one interval change the limit; none change nothing.
    fn update(&mut self, now: Instant) {
        let Some(latency) = self.aggregate() else { return };
        // As in Envoy, doubles.
        let buffer = f64::from(millionths(self.settings.buffer)) / 1e6;
        let without_load = self.min_rtt as f64 + self.min_rtt as f64 * buffer;
        let gradient = (without_load / latency.max(1) as f64).clamp(0.5, 2.0);
        let limit = f64::from(self.limit) * gradient;
        // A cast saturates.
        let limit = (limit + limit.sqrt()) as u32;
        let least = self.settings.concurrency_min.max(1);
        self.set_limit(now, limit.min(self.settings.concurrency_max).max(least));
    }

    fn set_limit(&mut self, now: Instant, limit: u32) {
        let least = self.settings.concurrency_min.max(1);
        let is_stuck = self.phase == Phase::Following && self.limit == least && limit == least;
        self.least_in_a_row = if is_stuck { self.least_in_a_row.saturating_add(1) } else { 0 };
        self.limit = limit;
        if self.least_in_a_row >= LEAST_IN_A_ROW && matches!(self.settings.min_rtt, MinRtt::Measured { .. }) {
            self.next_measurement = Some(now);
        }
    }

    fn aggregate(&mut self) -> Option<u64> {
        let latency = self.samples.percentile(self.settings.sample_percentile);
        self.samples.clear();
        latency
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let least = self.settings.concurrency_min.max(1);
        if self.limit < least {
            return Err("the limit is below the least");
        }
        if self.limit > self.settings.concurrency_max.max(least) {
            return Err("the limit is above the most");
        }
        if self.is_measuring() && self.limit != least {
            return Err("it measures with load");
        }
        if !self.is_measuring() && self.next_update.is_none() {
            return Err("it follows, and never looks");
        }
        Ok(())
    }
}

/// At least a millisecond, or ticks would never end.
fn gradient_interval(settings: &AdaptiveConcurrency) -> Duration {
    settings.update_interval.max(Duration::from_millis(1))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
