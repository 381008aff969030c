//! The rates of failed and slow calls over the last calls, or over the last seconds.
//!
//! Running totals: recording is O(1) by count, and by time O(seconds that passed, at most the
//! window). Sources: Resilience4j's `FixedSizeSlidingWindowMetrics` and `SlidingTimeWindowMetrics`.

use naru_base::Instant;
use naru_spec::{Percent, Window as Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

impl Totals {
    pub(super) fn reaches(&self, failure_rate: Percent, slow_call_rate: Percent) -> (bool, bool) {
        let has_failed = failure_rate.is_reached_by(self.failed, self.calls);
        (has_failed, slow_call_rate.is_reached_by(self.slow, self.calls))
    }

    fn add(&mut self, call: Call) {
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(u32::from(call.is_failed));
        self.slow = self.slow.saturating_add(u32::from(call.is_slow));
    }

    fn subtract(&mut self, other: Totals) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.failed = self.failed.saturating_sub(other.failed);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Call {
    pub(super) is_failed: bool,
    pub(super) is_slow: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Window {
    totals: Totals,
    ring: Ring,
}

#[derive(Clone, Debug)]
enum Ring {
    Calls {
        calls: Vec<Call>,
        /// Where the oldest stands, once it is full.
        oldest: usize,
        size: usize,
    },
    Seconds {
        seconds: Vec<Totals>,
        /// The newest second that something was recorded in or asked for.
        second: u64,
    },
}

const SECOND: u64 = 1_000_000_000;

impl Window {
    pub(super) fn new(kind: Kind, now: Instant) -> Window {
        let ring = match kind.bounded() {
            Kind::Count(size) => Ring::Calls { calls: Vec::new(), oldest: 0, size: size as usize },
            Kind::Seconds(seconds) => {
                Ring::Seconds { seconds: vec![Totals::default(); seconds as usize], second: now.0 / SECOND }
            }
        };
        Window { totals: Totals::default(), ring }
    }

    pub(super) fn record(&mut self, now: Instant, call: Call) -> Totals {
        self.expire(now);
        match &mut self.ring {
            Ring::Calls { calls, oldest, size } => {
                if calls.len() < *size {
                    calls.push(call);
                } else if let Some(place) = calls.get_mut(*oldest) {
                    let old = Totals {
                        calls: 1,
                        failed: u32::from(place.is_failed),
                        slow: u32::from(place.is_slow),
                    };
                    self.totals.subtract(old);
                    *place = call;
                    *oldest = (*oldest + 1) % *size;
                }
            }
            Ring::Seconds { seconds, second } => {
                let at = place(*second, seconds.len());
                if let Some(place) = seconds.get_mut(at) {
                    place.add(call);
                }
            }
        }
        self.totals.add(call);
        self.totals
    }

    pub(super) fn totals(&mut self, now: Instant) -> Totals {
        self.expire(now);
        self.totals
    }

    /// Without forgetting anything.
    pub(super) fn recorded(&self) -> Totals {
        self.totals
    }

    /// Seconds that are too long ago are forgotten. A moment before the newest counts as it.
    fn expire(&mut self, now: Instant) {
        let Ring::Seconds { seconds, second } = &mut self.ring else { return };
        let newest = now.0 / SECOND;
        let passed = newest.saturating_sub(*second).min(seconds.len() as u64);
        for ago in 0..passed {
            let at = place(newest - ago, seconds.len());
            if let Some(place) = seconds.get_mut(at) {
                self.totals.subtract(std::mem::take(place));
            }
        }
        *second = newest.max(*second);
    }

    pub(super) fn check_invariants(&self) -> Result<(), &'static str> {
        let mut sum = Totals::default();
        match &self.ring {
            Ring::Calls { calls, oldest, size } => {
                if calls.len() > *size || *oldest >= *size {
                    return Err("a window holds more than its size");
                }
                calls.iter().for_each(|call| sum.add(*call));
            }
            Ring::Seconds { seconds, .. } => {
                for part in seconds {
                    sum.calls += part.calls;
                    sum.failed += part.failed;
                    sum.slow += part.slow;
                }
            }
        }
        if sum == self.totals { Ok(()) } else { Err("the totals of a window are not the sum of it") }
    }
}

fn place(second: u64, len: usize) -> usize {
    (second % len.max(1) as u64) as usize
}
