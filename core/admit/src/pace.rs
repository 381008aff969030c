//! Does a peer move its message fast enough?
//!
//! Only the time counts in which the peer is waited for: one whose other side is slow is not slow itself. Within each
//! window of such time some bytes must move, however they are spread. Kestrel's `MinRequestBodyDataRate` and
//! `MinResponseDataRate`, whose rate of 240 bytes a second is the default here, too.

use std::time::Duration;

use naru_base::Instant;
use naru_spec::PaceLimit;

/// One message, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// In this window.
    waited: Duration,
    moved: u64,
    /// While the peer is waited for.
    since: Option<Instant>,
}

impl Pace {
    /// The peer is waited for, from now on if not yet.
    #[inline]
    pub fn on_wait(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// So many bytes have moved, and the peer is waited for no longer.
    #[inline]
    pub fn on_progress(&mut self, now: Instant, limit: &PaceLimit, bytes: u64) {
        self.on_rest(now);
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= limit.bytes {
            *self = Pace::default();
        }
    }

    /// It is somebody else's turn.
    #[inline]
    pub fn on_rest(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(now.since(since));
        }
    }

    /// When it is too slow, if nothing more moves.
    pub fn deadline(&self, limit: &PaceLimit) -> Option<Instant> {
        self.since.map(|since| since + limit.window.saturating_sub(self.waited))
    }

    pub fn is_too_slow(&self, now: Instant, limit: &PaceLimit) -> bool {
        self.deadline(limit).is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: PaceLimit = PaceLimit { bytes: 100, window: Duration::from_secs(10) };

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn what_trickles_is_too_slow_however_often_it_moves() {
        let mut pace = Pace::default();
        for second in 0..10 {
            assert!(!pace.is_too_slow(at(second), &LIMIT));
            pace.on_progress(at(second), &LIMIT, 9);
            pace.on_wait(at(second));
        }
        assert!(pace.is_too_slow(at(10), &LIMIT));
    }

    #[test]
    fn what_is_fast_enough_may_last() {
        let mut pace = Pace::default();
        for second in 0..1_000 {
            pace.on_wait(at(second));
            assert!(!pace.is_too_slow(at(second + 1), &LIMIT), "{second}");
            pace.on_progress(at(second + 1), &LIMIT, 12);
        }
    }

    #[test]
    fn only_waiting_counts() {
        let mut pace = Pace::default();
        for second in (0..900).step_by(100) {
            pace.on_wait(at(second));
            pace.on_progress(at(second + 1), &LIMIT, 1);
            assert_eq!(pace.deadline(&LIMIT), None);
        }
        pace.on_wait(at(1_000));
        assert_eq!(pace.deadline(&LIMIT), Some(at(1_001)), "nine seconds of ten were waited");
        // A peer that was waited for too long is not let off by a rest.
        pace.on_rest(at(1_005));
        pace.on_wait(at(2_000));
        assert!(pace.is_too_slow(at(2_000), &LIMIT));
    }
}
