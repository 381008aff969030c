//! What one limit allows one key.

use std::time::Duration;

use naru_base::Instant;
use naru_spec::{QuotaAlgorithm, TokenBucket};

use crate::Bucket;

/// What is remembered of one key. It belongs to its meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cell {
    /// Of a bucket: when it will be full again, in [`Bucket`]'s measure. Of windows: which one.
    pub at: u64,
    /// Taken in that window.
    pub used: u32,
    /// Taken in the one before.
    pub before: u32,
}

/// How much is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Room {
    /// So many in a window.
    pub limit: u32,
    pub remaining: u32,
    /// Until all of it is there again.
    pub reset: Duration,
    /// Until a request that was refused may come again.
    pub retry_after: Option<Duration>,
}

/// A limit, ready to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    kind: Kind,
    requests: u32,
    /// Nanoseconds.
    window: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bucket(Bucket),
    Fixed,
    Sliding,
}

impl Meter {
    pub fn new(algorithm: QuotaAlgorithm) -> Meter {
        let (requests, window) = algorithm.policy();
        let kind = match algorithm {
            QuotaAlgorithm::TokenBucket { requests, window, burst } => {
                Kind::Bucket(Bucket::new(TokenBucket {
                    tokens_max: burst,
                    tokens_per_fill: requests,
                    fill_interval: window,
                }))
            }
            QuotaAlgorithm::FixedWindow { .. } => Kind::Fixed,
            QuotaAlgorithm::SlidingWindow { .. } => Kind::Sliding,
        };
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX).max(1);
        Meter { kind, requests, window }
    }

    /// What the cell becomes.
    ///
    /// # Errors
    /// How long until there is so much; [`Duration::MAX`] where there never is.
    pub fn take(&self, now: Instant, cell: Cell, cost: u32) -> Result<Cell, Duration> {
        match self.kind {
            Kind::Bucket(bucket) => {
                let at = bucket.take_several(now, cell.at, u64::from(cost))?;
                Ok(Cell { at, used: 0, before: 0 })
            }
            Kind::Fixed | Kind::Sliding => {
                let cell = self.turned(now, cell);
                let after = cell.used.saturating_add(cost);
                if u64::from(after).saturating_add(self.carried(now, cell)) <= u64::from(self.requests) {
                    return Ok(Cell { used: after, ..cell });
                }
                Err(self.wait(now, cell, cost))
            }
        }
    }

    pub fn room(&self, now: Instant, cell: Cell) -> Room {
        let (remaining, reset) = match self.kind {
            Kind::Bucket(bucket) => (bucket.remaining(now, cell.at), bucket.until_full(now, cell.at)),
            Kind::Fixed | Kind::Sliding => {
                let cell = self.turned(now, cell);
                let used = u64::from(cell.used).saturating_add(self.carried(now, cell));
                let left = u64::from(self.requests).saturating_sub(used);
                (left, Duration::from_nanos(self.window - now.0 % self.window))
            }
        };
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        Room { limit: self.requests, remaining, reset, retry_after: None }
    }

    /// Nothing of it matters any more: it is as good as a cell of a key that nobody has heard of.
    pub fn is_blank(&self, now: Instant, cell: Cell) -> bool {
        match self.kind {
            Kind::Bucket(bucket) => bucket.until_full(now, cell.at).is_zero(),
            Kind::Fixed => self.turned(now, cell).used == 0,
            Kind::Sliding => {
                let cell = self.turned(now, cell);
                cell.used == 0 && cell.before == 0
            }
        }
    }

    /// How much of it is taken, to tell who has taken least.
    pub fn weight(&self, now: Instant, cell: Cell) -> u64 {
        match self.kind {
            Kind::Bucket(_) => cell.at,
            Kind::Fixed | Kind::Sliding => {
                let cell = self.turned(now, cell);
                u64::from(cell.used).saturating_add(u64::from(cell.before))
            }
        }
    }

    /// A cell that allows no more than either of both.
    pub fn join(&self, now: Instant, one: Cell, other: Cell) -> Cell {
        let (one, other) = match self.kind {
            Kind::Bucket(_) => (one, other),
            Kind::Fixed | Kind::Sliding => (self.turned(now, one), self.turned(now, other)),
        };
        Cell {
            at: one.at.max(other.at),
            used: one.used.max(other.used),
            before: one.before.max(other.before),
        }
    }

    /// The cell in the window of now.
    fn turned(&self, now: Instant, cell: Cell) -> Cell {
        let at = now.0 / self.window;
        match at.checked_sub(cell.at) {
            // It is told of moments in their order, but by several: one may be a little behind.
            None | Some(0) => cell,
            Some(1) => Cell { at, used: 0, before: cell.used },
            Some(_) => Cell { at, used: 0, before: 0 },
        }
    }

    /// What the last window still counts for.
    fn carried(&self, now: Instant, cell: Cell) -> u64 {
        if self.kind != Kind::Sliding {
            return 0;
        }
        // One that is a little behind sees all of it.
        let into = now.0.saturating_sub(cell.at.saturating_mul(self.window)).min(self.window);
        share(cell.before, self.window - into, self.window)
    }

    fn wait(&self, now: Instant, cell: Cell, cost: u32) -> Duration {
        let Some(most) = self.requests.checked_sub(cost) else { return Duration::MAX };
        let into = now.0.saturating_sub(cell.at.saturating_mul(self.window)).min(self.window);
        let to_next = self.window - into;
        let wait = match self.kind {
            Kind::Bucket(_) | Kind::Fixed => to_next,
            // Within this window, where what the last one counts for gets small enough.
            Kind::Sliding if cell.used <= most => {
                fading(cell.before, most - cell.used, self.window).saturating_sub(into)
            }
            // Within the next one, of which this is the last.
            Kind::Sliding => to_next.saturating_add(fading(cell.used, most, self.window)),
        };
        Duration::from_nanos(wait.max(1))
    }

    /// What a request costs in parts of what is counted, where a key has so many: of a bucket in time, of windows in
    /// requests.
    pub fn price(&self, cost: u32, parts: u32) -> u64 {
        let one = match self.kind {
            Kind::Bucket(bucket) => bucket.parts().0,
            Kind::Fixed | Kind::Sliding => 1,
        };
        one.saturating_mul(cost.into()).saturating_mul(parts.into())
    }

    /// All that a key can hold, in the measure of [`Meter::price`].
    pub fn whole(&self) -> u64 {
        match self.kind {
            Kind::Bucket(bucket) => bucket.parts().1,
            Kind::Fixed | Kind::Sliding => self.requests.into(),
        }
    }

    /// What is left of it.
    pub fn left(&self, now: Instant, cell: Cell) -> u64 {
        match self.kind {
            Kind::Bucket(bucket) => bucket.left(now, cell.at),
            Kind::Fixed | Kind::Sliding => {
                let cell = self.turned(now, cell);
                let used = u64::from(cell.used).saturating_add(self.carried(now, cell));
                u64::from(self.requests).saturating_sub(used)
            }
        }
    }

    /// The cell once so much more is taken: all there is at most.
    pub fn drawn(&self, now: Instant, cell: Cell, units: u64) -> Cell {
        match self.kind {
            Kind::Bucket(bucket) => Cell { at: bucket.drawn(now, cell.at, units), used: 0, before: 0 },
            Kind::Fixed | Kind::Sliding => {
                let cell = self.turned(now, cell);
                let units = u32::try_from(units.min(self.left(now, cell))).unwrap_or(u32::MAX);
                Cell { used: cell.used.saturating_add(units), ..cell }
            }
        }
    }

    /// How long until so much is left.
    pub fn until_left(&self, now: Instant, cell: Cell, units: u64) -> Duration {
        match self.kind {
            Kind::Bucket(bucket) => bucket.until_left(now, cell.at, units),
            Kind::Fixed | Kind::Sliding if self.left(now, cell) >= units => Duration::ZERO,
            Kind::Fixed | Kind::Sliding => {
                let units = u32::try_from(units).unwrap_or(u32::MAX).min(self.requests);
                self.wait(now, self.turned(now, cell), units)
            }
        }
    }

    /// Whether something comes back before a window ends.
    pub fn refills(&self) -> bool {
        self.kind != Kind::Fixed
    }

    /// When the window of a moment ends; a bucket has none.
    pub fn window_end(&self, at: Instant) -> Option<Instant> {
        match self.kind {
            Kind::Bucket(_) => None,
            Kind::Fixed | Kind::Sliding => {
                Some(Instant((at.0 / self.window + 1).saturating_mul(self.window)))
            }
        }
    }

    /// What a limit is counted over.
    pub fn window(&self) -> Duration {
        Duration::from_nanos(self.window)
    }

    /// Whether a cell can be what requests until `now` have made of it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_invariants(&self, now: Instant, cell: Cell) -> Result<(), &'static str> {
        match self.kind {
            Kind::Bucket(bucket) => bucket.check_invariants(now, cell.at),
            Kind::Fixed | Kind::Sliding if cell.used > self.requests || cell.before > self.requests => {
                Err("more was taken in a window than it allows")
            }
            Kind::Fixed | Kind::Sliding if cell.at > now.0 / self.window => Err("a window of the future"),
            Kind::Fixed | Kind::Sliding => Ok(()),
        }
    }
}

/// So many, by a share of a window, rounded up.
fn share(count: u32, part: u64, window: u64) -> u64 {
    let product = u128::from(count) * u128::from(part);
    u64::try_from(product.div_ceil(u128::from(window))).unwrap_or(u64::MAX)
}

/// How far into a window the one before counts for no more than `most`.
fn fading(count: u32, most: u32, window: u64) -> u64 {
    if count <= most {
        return 0;
    }
    // ceil(count * (window - into) / window) <= most
    let kept = u128::from(most) * u128::from(window) / u128::from(count);
    window.saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX))
}
