//! Whose sessions are over, all of them, in a list of numbers that knows no names?
//!
//! The list of what is revoked is read by everybody who may read the store. So a subject stands there as a keyed digest
//! (the shell makes it), and beside it, in the same number, the second up to which its sessions are over: 80 bits of the
//! one, 48 of the other. Sessions that begin later count, so that whoever is thrown out may log in again. All that holds
//! of ids of tokens and sessions holds of these: how they are told to others, kept, bounded and forgotten.
//!
//! Nobody draws an id that looks like one of a subject by chance more often than once in 2^80 times, and nobody who
//! chooses his name can: he does not have the key.

use std::ops::RangeInclusive;
use std::time::Duration;

use naru_base::WallTime;

use crate::Id;

/// So many bits say when.
const WHEN: u32 = 48;
const WHEN_MAX: u128 = (1 << WHEN) - 1;
const SECOND: u64 = 1_000_000_000;

/// Somebody, where a list speaks of him. What says when is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject(u128);

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020x}", self.0 >> WHEN)
    }
}

impl Subject {
    /// From a keyed digest of the name.
    pub fn of(digest: &[u8; 32]) -> Subject {
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Subject(u128::from_be_bytes(first) & !WHEN_MAX)
    }

    /// What stands on the list for "all sessions that began by this second are over".
    pub fn over_by(self, second: u64) -> Id {
        Id(self.0 | u128::from(second).min(WHEN_MAX))
    }

    /// All that can stand there of this one.
    pub(crate) fn ids(self) -> RangeInclusive<Id> {
        Id(self.0)..=Id(self.0 | WHEN_MAX)
    }
}

/// The second that an id of a subject speaks of.
pub(crate) fn second_of(id: Id) -> u64 {
    u64::try_from(id.0 & WHEN_MAX).unwrap_or(u64::MAX)
}

/// The second in which a session began, as tokens say it.
pub fn second(at: WallTime) -> u64 {
    at.0 / SECOND
}

/// The second up to which sessions are over, of somebody who is thrown out now. Those that another gateway has begun, whose
/// clock is ahead by no more than `skew`, are among them; and those that began after he was thrown out `last`, which begin
/// a second later than that whatever the clock says.
pub fn over_from_now(now: WallTime, skew: Duration, last: Option<u64>) -> u64 {
    let by_clock = second(now + skew).saturating_add(1);
    by_clock.max(last.map_or(0, |last| last.saturating_add(1)))
}

/// When a session of somebody begins who was thrown out up to `last`: never in what is over.
pub fn begins(now: WallTime, last: Option<u64>) -> WallTime {
    let least = last.map_or(0, |last| last.saturating_add(1).saturating_mul(SECOND));
    WallTime(now.0.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Revoked;

    fn at(seconds: u64) -> WallTime {
        WallTime(seconds * SECOND + 500)
    }

    #[test]
    fn a_number_says_who_and_when() {
        let (one, other) = (Subject::of(&[7; 32]), Subject::of(&[8; 32]));
        let id = one.over_by(1_700_000_000);
        assert_eq!(second_of(id), 1_700_000_000);
        assert!(one.ids().contains(&id) && !other.ids().contains(&id));
        assert_eq!(second_of(one.over_by(u64::MAX)), (1 << 48) - 1);
        assert!(one.ids().contains(&one.over_by(u64::MAX)));
        let only_by_time = Subject::of(&{
            let mut digest = [7; 32];
            digest[10..].fill(0);
            digest
        });
        assert_eq!(only_by_time, one, "what says when is no part of who it is");
    }

    #[test]
    fn sessions_of_before_are_over_and_those_of_after_are_not() {
        let (one, other) = (Subject::of(&[7; 32]), Subject::of(&[8; 32]));
        let mut revoked = Revoked::new(10);
        assert_eq!(revoked.over(one), None);
        revoked.add(one.over_by(200), WallTime(u64::MAX));
        revoked.add(one.over_by(100), WallTime(u64::MAX));
        assert_eq!(revoked.over(one), Some(200), "the last one holds");
        assert_eq!(revoked.over(other), None);
        assert!(revoked.is_over(one, at(200)) && revoked.is_over(one, at(3)));
        assert!(!revoked.is_over(one, at(201)) && !revoked.is_over(other, at(3)));
    }

    #[test]
    fn who_is_thrown_out_may_log_in_again_at_once_and_be_thrown_out_again_at_once() {
        let (skew, now) = (Duration::from_secs(60), at(1_000));
        let first = over_from_now(now, skew, None);
        assert!(first > 1_060, "clocks may be apart");
        let began = begins(now, Some(first));
        assert!(second(began) > first);
        let again = over_from_now(now, skew, Some(first));
        assert!(second(began) <= again, "that session is over as well");
        assert!(second(begins(now, Some(again))) > again);
        assert_eq!(begins(at(5_000), Some(again)), at(5_000), "later on the clock says it");
        assert_eq!(begins(now, None), now);
    }
}
