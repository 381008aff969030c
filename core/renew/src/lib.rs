//! When is a certificate to be had anew?
//!
//! In comes what is known of the certificate that is there, when somebody began to get another one and what came of it;
//! out goes the moment of the next attempt. One [`Renewal`] is one certificate.
//!
//! | state | event | then |
//! |---|---|---|
//! | any | `on_certificate`, one that serves | waits until two thirds of its lifetime are over, and a little earlier |
//! | any | `on_certificate`, none that serves | due at once, unless it waits after a failure |
//! | due | `on_begun` | under way: nothing is due |
//! | under way | `on_failed` | waits: a minute, doubled each time up to six hours, half of it by chance |
//!
//! Two thirds is what Let's Encrypt asks for (of 90 days, 30 are left) and what holds for short lifetimes too. Earlier
//! by chance, up to a fiftieth of the lifetime, so that many that began together do not come together.
//!
//! Deliberately not here: how a certificate is got (`operate`), what stands in one (`wire/tls`). Moments are of the
//! calendar, as certificates and processes that are restarted have no other clock in common.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

use std::time::Duration;

use naru_base::{Chance, WallTime};

/// After the first failure.
pub const BACKOFF_MIN: Duration = Duration::from_secs(60);
/// Servers limit how often one may fail: Let's Encrypt five times an hour.
pub const BACKOFF_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Whatever a server says.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Of a lifetime, the last part in which chance has it renewed.
const SPREAD: u64 = 50;

/// What is known of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub from: WallTime,
    pub until: WallTime,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Get a certificate.
    Obtain,
    /// Nothing, until then.
    Wait(WallTime),
    /// Nothing, until what was begun is over.
    Await,
}

/// One certificate.
#[derive(Clone, Debug)]
pub struct Renewal {
    chance: Chance,
    /// When the certificate that is there is to be followed by another; `None` where none serves.
    due: Option<WallTime>,
    /// After a failure nothing is tried before this.
    not_before: WallTime,
    failures: u32,
    is_under_way: bool,
}

impl Renewal {
    pub fn new(chance: Chance) -> Renewal {
        Renewal { chance, due: None, not_before: WallTime(0), failures: 0, is_under_way: false }
    }

    /// What is there: `None` where there is none, or one that is for others or by nobody.
    pub fn on_certificate(&mut self, lifetime: Option<Lifetime>) {
        self.due = lifetime.map(|lifetime| {
            let whole = lifetime.until.0.saturating_sub(lifetime.from.0);
            let earlier = self.chance.below((whole / SPREAD).max(1));
            WallTime(lifetime.from.0.saturating_add(whole / 3 * 2).saturating_sub(earlier))
        });
    }

    /// Somebody gets one.
    pub fn on_begun(&mut self) {
        self.is_under_way = true;
    }

    /// There is another one.
    pub fn on_obtained(&mut self, lifetime: Lifetime) {
        (self.is_under_way, self.failures, self.not_before) = (false, 0, WallTime(0));
        self.on_certificate(Some(lifetime));
    }

    /// There is none. `retry_after` is what the server asks for.
    pub fn on_failed(&mut self, now: WallTime, retry_after: Option<Duration>) {
        self.is_under_way = false;
        let doubled = BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(self.failures)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        let half = u64::try_from(doubled.as_nanos() / 2).unwrap_or(u64::MAX);
        let own = Duration::from_nanos(half.saturating_add(self.chance.below(half.max(1))));
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.not_before = now + own.max(asked);
    }

    /// What was begun has been given up, through nobody's fault.
    pub fn on_given_up(&mut self) {
        self.is_under_way = false;
    }

    /// When something is to be done: now, where it is past.
    pub fn deadline(&self) -> Option<WallTime> {
        (!self.is_under_way).then(|| self.due.unwrap_or_default().max(self.not_before))
    }

    pub fn next_action(&self, now: WallTime) -> Action {
        match self.deadline() {
            None => Action::Await,
            Some(deadline) if deadline > now => Action::Wait(deadline),
            Some(_) => Action::Obtain,
        }
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What holds at all times.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.failures == 0 && self.not_before != WallTime(0) {
            return Err("it waits after a failure that there was not");
        }
        if self.is_under_way && self.deadline().is_some() {
            return Err("something is due while it is under way");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use super::*;

    const DAY: u64 = 86_400 * 1_000_000_000;

    fn days(count: u64) -> WallTime {
        WallTime(count * DAY)
    }

    fn renewal() -> Renewal {
        Renewal::new(Chance::new(7))
    }

    #[test]
    fn without_a_certificate_one_is_got_at_once() {
        let mut own = renewal();
        assert_eq!(own.next_action(days(1)), Action::Obtain);
        own.on_begun();
        assert_eq!((own.next_action(days(1)), own.deadline()), (Action::Await, None));
        own.on_given_up();
        assert_eq!(own.next_action(days(1)), Action::Obtain);
    }

    #[test]
    fn a_certificate_is_followed_when_two_thirds_of_its_lifetime_are_over() {
        let mut moments = Vec::new();
        for seed in 0..64 {
            let mut own = Renewal::new(Chance::new(seed));
            own.on_certificate(Some(Lifetime { from: days(100), until: days(190) }));
            let Action::Wait(at) = own.next_action(days(101)) else { panic!("it is new") };
            assert!(at <= days(160) && at.0 > days(158).0, "{at:?}");
            assert_eq!(own.next_action(days(160)), Action::Obtain);
            moments.push(at);
        }
        moments.sort_unstable();
        moments.dedup();
        assert!(moments.len() > 60, "they do not come together");
    }

    #[test]
    fn failures_wait_longer_each_time_and_a_success_forgets_them() {
        let mut own = renewal();
        let (mut now, mut waits) = (days(10), Vec::new());
        for _ in 0..12 {
            assert_eq!(own.next_action(now), Action::Obtain);
            own.on_begun();
            own.on_failed(now, None);
            let Action::Wait(until) = own.next_action(now) else { panic!("it waits") };
            waits.push(Duration::from_nanos(until.0 - now.0));
            now = until;
        }
        for (at, wait) in waits.iter().enumerate() {
            let doubled = BACKOFF_MIN.saturating_mul(1 << at).min(BACKOFF_MAX);
            assert!(*wait >= doubled / 2 && *wait < doubled, "{at}: {wait:?}");
        }
        own.on_begun();
        own.on_obtained(Lifetime { from: now, until: now + Duration::from_secs(90 * 86_400) });
        assert_eq!(own.failures(), 0);
        own.on_certificate(None);
        assert_eq!(own.next_action(now), Action::Obtain, "another name is wanted: at once");
    }

    #[test]
    fn a_server_that_asks_for_more_time_gets_it_within_reason() {
        let asked = |retry_after: Duration| {
            let mut own = renewal();
            own.on_begun();
            own.on_failed(days(1), Some(retry_after));
            own.deadline().unwrap().0 - days(1).0
        };
        assert_eq!(asked(Duration::from_secs(7_200)), 7_200 * 1_000_000_000);
        assert_eq!(asked(Duration::MAX), DAY);
        assert!(asked(Duration::ZERO) >= 30 * 1_000_000_000);
    }

    #[test]
    fn whatever_happens_it_never_asks_twice_at_once_and_never_stops_asking() {
        for seed in 0..256 {
            let mut chance = Chance::split(seed, "walk");
            let mut own = Renewal::new(Chance::new(seed));
            let mut now = WallTime(chance.draw() >> 2);
            let mut asked_at: Vec<WallTime> = Vec::new();
            let mut begun = false;
            for _ in 0..300 {
                own.check_invariants().unwrap();
                match own.next_action(now) {
                    Action::Obtain => {
                        assert!(!begun, "one at a time");
                        own.on_begun();
                        begun = true;
                        asked_at.push(now);
                    }
                    Action::Wait(until) => {
                        assert!(until > now && !begun);
                        now = if chance.below(2) == 0 { until } else { WallTime(now.0 + chance.below(DAY)) };
                    }
                    Action::Await => {
                        assert!(begun);
                        now = now + Duration::from_secs(chance.below(600));
                        begun = false;
                        match chance.below(4) {
                            0 => own.on_failed(now, None),
                            1 => own.on_failed(now, Some(Duration::from_nanos(chance.draw()))),
                            2 => own.on_given_up(),
                            _ => own.on_obtained(Lifetime {
                                from: WallTime(now.0 - chance.below(DAY).min(now.0)),
                                until: WallTime(now.0.saturating_add(chance.below(90 * DAY))),
                            }),
                        }
                    }
                }
                if chance.below(40) == 0 {
                    own.on_certificate(None);
                }
            }
            assert!(asked_at.len() > 20, "{seed}: {}", asked_at.len());
        }
    }

    #[test]
    fn lifetimes_that_cannot_be_are_survived() {
        for (from, until) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (5, 5), (0, 1)] {
            let mut own = renewal();
            own.on_certificate(Some(Lifetime { from: WallTime(from), until: WallTime(until) }));
            own.on_failed(WallTime(u64::MAX), Some(Duration::MAX));
            own.next_action(WallTime(1));
            own.check_invariants().unwrap();
        }
    }
}
