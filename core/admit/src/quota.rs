//! Has somebody asked too often?
//!
//! Limits by key: in come what a limit allows ([`Meter`]), what is remembered of keys ([`Ledger`]) and the keys of one
//! request, as [`Bid`]s; out comes whether it may pass, and how much is left of each limit ([`Room`]). A request passes
//! all of its limits or none: where one refuses, no other has counted it.
//!
//! - The token bucket is the generic cell rate algorithm (ITU-T I.371, and `token_bucket` here): one moment a key.
//! - A fixed window counts what came since it began; all windows of a limit begin together, at multiples of their length.
//! - A sliding window counts, beside its own, the share of the last window that is still within one length of now
//!   (Cloudflare, "How we built rate limiting capable of scaling to millions of domains", 2017). Shares are rounded up.
//!
//! Deliberately not here: what of a request makes its key, what is shared with other processes, and what is answered.

mod ledger;
mod meter;

pub use ledger::Ledger;
pub use meter::{Cell, Meter, Room};

use naru_base::Instant;
use naru_spec::{Quota, Surge};

/// One limit that a request has to pass, with where its key is remembered.
#[derive(Debug)]
pub struct Bid<'a> {
    pub meter: &'a Meter,
    pub ledger: &'a mut Ledger,
    /// A hash of the key that nobody outside can foresee. Keys that share it share their count.
    pub key: u64,
    pub cost: u32,
    /// It refuses nothing.
    pub is_shadow: bool,
}

/// What limits say to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Spent {
    /// The first that refuses.
    pub refused_by: Option<usize>,
    /// A bit for each in shadow that would have refused.
    pub shadowed: u32,
}

/// What a limit is at each level of a `Surge`, from the first one up; nothing where it is the same at all.
pub fn meters_at(surge: Option<&Surge>, quota: &Quota) -> Box<[Meter]> {
    let levels = surge.map_or(0, |surge| surge.levels.len() as u32);
    let percent = |level| surge.map_or(100, |surge| surge.quota_percent(&quota.name, level));
    if (1..=levels).all(|level| percent(level) == 100) {
        return Box::default();
    }
    (1..=levels).map(|level| Meter::new(quota.algorithm.tightened(percent(level), quota.cost))).collect()
}

/// That of a level. What is counted is counted by one as by the other.
pub fn meter_at<'a>(usual: &'a Meter, levels: &'a [Meter], level: u32) -> &'a Meter {
    let Some(at) = level.checked_sub(1) else { return usual };
    levels.get(at as usize).or(levels.last()).unwrap_or(usual)
}

/// Takes from all limits, or from none. `rooms` are what is left of each then, in the order of `bids`.
pub fn spend(now: Instant, bids: &mut [Bid<'_>], rooms: &mut [Room]) -> Spent {
    let mut spent = Spent::default();
    for (at, (bid, room)) in bids.iter_mut().zip(rooms.iter_mut()).enumerate() {
        let cell = bid.ledger.look(now, bid.meter, bid.key);
        let taken = bid.meter.take(now, cell, bid.cost);
        *room = bid.meter.room(now, cell);
        if let Err(wait) = taken {
            room.retry_after = Some(wait);
            if bid.is_shadow {
                spent.shadowed |= 1u32.checked_shl(at as u32).unwrap_or(0);
            } else if spent.refused_by.is_none() {
                spent.refused_by = Some(at);
            }
        }
    }
    if spent.refused_by.is_some() {
        return spent;
    }
    for (bid, room) in bids.iter_mut().zip(rooms.iter_mut()) {
        let cell = bid.ledger.look(now, bid.meter, bid.key);
        if let Ok(cell) = bid.meter.take(now, cell, bid.cost) {
            bid.ledger.keep(now, bid.meter, bid.key, cell);
            *room = bid.meter.room(now, cell);
        }
    }
    spent
}

#[cfg(test)]
mod tests;
