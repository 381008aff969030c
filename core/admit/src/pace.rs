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

    /// # Errors
    /// What is wrong.
    pub fn check_invariants(&self, now: Instant, limit: &PaceLimit) -> Result<(), &'static str> {
        if self.moved >= limit.bytes.max(1) {
            Err("a window goes on although enough has moved in it")
        } else if self.since.is_some_and(|since| since > now) {
            Err("is waited for from a later time on")
        } else {
            Ok(())
        }
    }

    pub fn is_too_slow(&self, now: Instant, limit: &PaceLimit) -> bool {
        self.deadline(limit).is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    /// Every wait and every byte of a window, written down.
    #[derive(Default)]
    struct RefPace {
        waits: Vec<(u64, u64)>,
        bytes: Vec<u64>,
        since: Option<u64>,
    }

    impl RefPace {
        fn rest(&mut self, now: u64) {
            let since = self.since.take();
            self.waits.extend(since.map(|since| (since, now)));
        }

        fn progress(&mut self, now: u64, bytes: u64) {
            self.rest(now);
            self.bytes.push(bytes);
            if self.bytes.iter().sum::<u64>() >= LIMIT.bytes {
                *self = RefPace::default();
            }
        }

        fn is_too_slow(&self, now: u64) -> bool {
            let waited: u64 = self.waits.iter().map(|(from, to)| to - from).sum();
            self.since.is_some_and(|since| waited + now - since >= LIMIT.window.as_secs())
        }
    }

    #[test]
    fn a_walk_lets_go_whom_the_written_down_waits_let_go() {
        let mut slow = 0;
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let (mut pace, mut reference, mut now) = (Pace::default(), RefPace::default(), 0);
            for _ in 0..500 {
                now += chance.below(4);
                match chance.below(4) {
                    0 | 1 => {
                        pace.on_wait(at(now));
                        reference.since.get_or_insert(now);
                    }
                    2 => {
                        let bytes = chance.below(60);
                        pace.on_progress(at(now), &LIMIT, bytes);
                        reference.progress(now, bytes);
                    }
                    _ => {
                        pace.on_rest(at(now));
                        reference.rest(now);
                    }
                }
                assert_eq!(pace.check_invariants(at(now), &LIMIT), Ok(()), "seed {seed}");
                let later = now + chance.below(6);
                let is_slow = pace.is_too_slow(at(later), &LIMIT);
                assert_eq!(is_slow, reference.is_too_slow(later), "seed {seed} at {later}");
                slow += u32::from(is_slow);
            }
        }
        assert!(slow > 1_000, "{slow}: the walk says nothing of slow ones");
        let done = Pace { moved: LIMIT.bytes, ..Pace::default() };
        assert!(done.check_invariants(at(0), &LIMIT).is_err());
    }

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
