//! When keys that somebody else publishes are fetched.
//!
//! | keys              | a token is to be verified | what is done                                     |
//! |-------------------|---------------------------|--------------------------------------------------|
//! | never fetched     | any                       | fetch, and wait for it                           |
//! | fetched           | with a key that is known  | use them                                         |
//! | fetched, too old  | with a key that is known  | use them, and fetch beside it                    |
//! | fetched           | with one that is not      | fetch, and wait; not sooner than [`JWKS_REFETCH_MIN`] after the last |
//! | being fetched     | any that has to wait      | wait for the same                                |
//! | fetching failed   | any that has to wait      | refuse it for [`JWKS_FAILED_REFETCH`]            |
//!
//! Keys that are not published any more go on verifying for [`JWKS_PREVIOUS`]: whoever rotates them lets tokens of the
//! one before live a while. Envoy fetches only what is too old, and has everybody wait for that.

use std::time::Duration;

use naru_base::Instant;
use naru_spec::defaults::{JWKS_FAILED_REFETCH, JWKS_PREVIOUS, JWKS_REFETCH_MIN};

/// How old keys are, and who fetches them.
#[derive(Clone, Debug)]
pub struct Freshness {
    cache: Duration,
    fetched: Option<Instant>,
    /// A fetch is under way, since then.
    began: Option<Instant>,
    /// The last one ended then.
    ended: Option<Instant>,
    has_failed: bool,
    /// How long a fetch may take: one that has not ended by then is over.
    timeout: Duration,
}

/// What somebody who wants keys does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Takes those that are there; they are all there is for now.
    Use,
    /// Takes those that are there, and fetches others for those who come later.
    UseAndFetch,
    /// Fetches them, and waits.
    Fetch,
    /// Waits for whoever fetches them.
    Wait,
}

impl Freshness {
    pub fn new(cache: Duration, timeout: Duration) -> Freshness {
        Freshness { cache, fetched: None, began: None, ended: None, has_failed: false, timeout }
    }

    /// Somebody wants to verify a token; with a key `is_unknown` among those that are there.
    pub fn on_wanted(&mut self, now: Instant, is_unknown: bool) -> Turn {
        let is_under_way = self.began.is_some_and(|began| now.since(began) < self.timeout);
        let pause = if self.has_failed { JWKS_FAILED_REFETCH } else { JWKS_REFETCH_MIN };
        let may_fetch = !is_under_way && self.ended.is_none_or(|ended| now.since(ended) >= pause);
        let is_old = self.fetched.is_none_or(|fetched| now.since(fetched) >= self.cache);
        if self.fetched.is_some() && !is_unknown {
            if is_old && may_fetch {
                self.began = Some(now);
                return Turn::UseAndFetch;
            }
            return Turn::Use;
        }
        if is_under_way {
            return Turn::Wait;
        }
        if may_fetch {
            self.began = Some(now);
            return Turn::Fetch;
        }
        Turn::Use
    }

    /// Other keys are there.
    pub fn on_fetched(&mut self, now: Instant) {
        self.began = None;
        self.fetched = Some(now);
        self.ended = Some(now);
        self.has_failed = false;
    }

    pub fn on_failed(&mut self, now: Instant) {
        self.began = None;
        self.ended = Some(now);
        self.has_failed = true;
    }

    /// From when on somebody who has no need of them asks all the same, so that others are fetched. `None`: never.
    pub fn due(&self) -> Option<Instant> {
        self.fetched.map(|fetched| fetched + self.cache)
    }

    /// Whether the last fetch failed.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Until when keys verify that were published until now.
    pub fn previous_until(now: Instant) -> Instant {
        now + JWKS_PREVIOUS
    }

    pub fn check_invariants(&self) -> Result<(), &'static str> {
        match (self.began, self.ended) {
            (Some(began), Some(ended)) if began < ended => Err("a fetch that has ended is under way"),
            _ if self.fetched > self.ended => Err("keys came by no fetch"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_base::Chance;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * SECOND)
    }

    fn fresh() -> Freshness {
        Freshness::new(Duration::from_secs(600), Duration::from_secs(5))
    }

    #[test]
    fn the_first_fetches_and_the_others_wait_for_it() {
        let mut keys = fresh();
        assert_eq!(keys.on_wanted(at(1), true), Turn::Fetch);
        assert_eq!(keys.on_wanted(at(2), true), Turn::Wait);
        keys.on_fetched(at(3));
        assert_eq!(keys.on_wanted(at(3), false), Turn::Use);
    }

    #[test]
    fn an_unknown_key_has_them_fetched_again_but_not_often() {
        let mut keys = fresh();
        keys.on_wanted(at(1), true);
        keys.on_fetched(at(1));
        assert_eq!(keys.on_wanted(at(10), true), Turn::Use);
        assert_eq!(keys.on_wanted(at(11), true), Turn::Fetch);
        assert_eq!(keys.on_wanted(at(11), true), Turn::Wait);
        assert_eq!(keys.on_wanted(at(11), false), Turn::Use);
    }

    #[test]
    fn keys_that_are_too_old_are_used_while_others_are_fetched() {
        let mut keys = fresh();
        keys.on_wanted(at(0), true);
        keys.on_fetched(at(1));
        assert_eq!(keys.due(), Some(at(601)));
        assert_eq!(keys.on_wanted(at(600), false), Turn::Use);
        assert_eq!(keys.on_wanted(at(601), false), Turn::UseAndFetch);
        assert_eq!(keys.on_wanted(at(601), false), Turn::Use);
        keys.on_failed(at(602));
        assert_eq!(keys.on_wanted(at(602), false), Turn::Use);
        assert_eq!(keys.on_wanted(at(603), false), Turn::UseAndFetch);
    }

    #[test]
    fn one_that_hangs_is_over_in_time() {
        let mut keys = fresh();
        assert_eq!(keys.on_wanted(at(0), true), Turn::Fetch);
        assert_eq!(keys.on_wanted(at(4), true), Turn::Wait);
        assert_eq!(keys.on_wanted(at(5), true), Turn::Fetch);
    }

    #[test]
    fn after_a_failure_nobody_fetches_for_a_moment() {
        let mut keys = fresh();
        keys.on_wanted(at(0), true);
        keys.on_failed(at(1));
        assert_eq!(keys.on_wanted(at(1), true), Turn::Use);
        assert!(keys.has_failed());
        assert_eq!(keys.on_wanted(at(2), true), Turn::Fetch);
    }

    /// Whatever happens in whatever order: never two fetches at a time, never more than may be.
    #[test]
    fn a_walk_never_fetches_twice_at_a_time_nor_too_often() {
        for seed in 0..256 {
            let mut chance = Chance::new(seed);
            let mut keys = fresh();
            let mut now = at(1);
            let mut under_way: Option<Instant> = None;
            let mut last_end: Option<Instant> = None;
            for _ in 0..300 {
                now = now + Duration::from_millis(chance.below(3_000));
                if under_way.is_some_and(|began| now.since(began) >= Duration::from_secs(5)) {
                    under_way = None;
                }
                match chance.below(5) {
                    0 if under_way.is_some() => {
                        keys.on_fetched(now);
                        (under_way, last_end) = (None, Some(now));
                    }
                    1 if under_way.is_some() => {
                        keys.on_failed(now);
                        (under_way, last_end) = (None, Some(now));
                    }
                    _ => match keys.on_wanted(now, chance.below(2) == 0) {
                        Turn::Fetch | Turn::UseAndFetch => {
                            assert_eq!(under_way, None, "seed {seed}");
                            let pause = last_end.map(|end| now.since(end));
                            assert!(pause.is_none_or(|pause| pause >= JWKS_FAILED_REFETCH), "seed {seed}");
                            under_way = Some(now);
                        }
                        Turn::Wait => assert!(under_way.is_some(), "seed {seed}"),
                        Turn::Use => {}
                    },
                }
                assert_eq!(keys.check_invariants(), Ok(()), "seed {seed}");
            }
        }
    }
}
