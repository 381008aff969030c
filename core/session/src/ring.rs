//! Which key signs, and what is a token of another one worth?
//!
//! | phase | since | its tokens |
//! |---|---|---|
//! | next | the key before it began to sign | pass: another gateway may sign with it already |
//! | current | it was promoted | pass |
//! | past, in grace | another one was promoted | pass, and are to be refreshed |
//! | past | the grace period is over | are to be refreshed, and do not pass |
//!
//! The next key is published for as long as the current one signs. So whoever verifies tokens, another gateway or an
//! application with a copy of the set that is minutes old, knows a key before it meets its first token (trap 18: a mesh
//! that looks for keys every 20 minutes refuses tokens for as long).
//!
//! A key is promoted by writing the ring, not by the time on a clock: gateways whose clocks are apart follow the same
//! ring, and only who writes it first depends on clocks.

use std::sync::Arc;
use std::time::Duration;

use naru_base::WallTime;

use crate::{Id, since};

/// More past keys than these are forgotten, oldest first: tokens of such a key are to be refreshed, as without it.
pub const PAST_MAX: usize = 62;

/// One key that signs, or did, or will.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub id: Id,
    /// When it began to sign; of the next one, when it was made.
    pub began: WallTime,
    pub ended: Option<WallTime>,
    /// The key itself, as the shell has written it. Never printed.
    pub material: Arc<[u8]>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("began", &self.began)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// All keys that count, shared by all gateways. There is always one that signs, and one that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    version: u64,
    /// Oldest first.
    past: Vec<Key>,
    current: Key,
    next: Key,
}

/// What a token is worth, by its key alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// Of a past key, in its grace period.
    InGrace,
    /// Of a past key.
    Past,
    Unknown,
}

impl Ring {
    /// The first ring there is.
    pub fn first(now: WallTime, current: (Id, Arc<[u8]>), next: (Id, Arc<[u8]>)) -> Ring {
        let key = |(id, material)| Key { id, began: now, ended: None, material };
        Ring { version: 1, past: Vec::new(), current: key(current), next: key(next) }
    }

    /// One that was written before.
    ///
    /// # Errors
    /// It cannot be one.
    pub fn of(version: u64, mut keys: Vec<Key>) -> Result<Ring, &'static str> {
        let (Some(next), Some(current)) = (keys.pop(), keys.pop()) else { return Err("too few keys") };
        let ring = Ring { version, past: keys, current, next };
        ring.check_invariants().map(|()| ring)
    }

    /// The next key signs, `made` follows it. Keys that ended longer ago than `keep` are forgotten.
    #[must_use]
    pub fn rotated(&self, now: WallTime, made: (Id, Arc<[u8]>), keep: Duration) -> Ring {
        let mut past = self.past.clone();
        past.push(Key { ended: Some(now), ..self.current.clone() });
        past.retain(|key| key.ended.is_some_and(|ended| since(now, ended) <= keep));
        let too_many = past.len().saturating_sub(PAST_MAX);
        past.drain(..too_many);
        let (id, material) = made;
        Ring {
            version: self.version.saturating_add(1),
            past,
            current: Key { began: now, ..self.next.clone() },
            next: Key { id, began: now, ended: None, material },
        }
    }

    /// When the next key is to sign. A ring from a future that is a whole period away comes of a wrong clock, and is
    /// not waited for.
    pub fn is_due(&self, now: WallTime, rotate_every: Duration) -> bool {
        now >= self.current.began + rotate_every || self.current.began > now + rotate_every
    }

    pub fn standing(&self, key: Id, now: WallTime, grace: Duration) -> Standing {
        if key == self.current.id || key == self.next.id {
            return Standing::Good;
        }
        match self.past.iter().find(|past| past.id == key).and_then(|past| past.ended) {
            Some(ended) if grace > Duration::ZERO && since(now, ended) < grace => Standing::InGrace,
            Some(_) => Standing::Past,
            None => Standing::Unknown,
        }
    }

    /// Counts up with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn current(&self) -> &Key {
        &self.current
    }

    pub fn next(&self) -> &Key {
        &self.next
    }

    /// All of them: past ones first, the next one last.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.past.iter().chain([&self.current, &self.next])
    }

    /// Those whose tokens pass.
    pub fn published(&self, now: WallTime, grace: Duration) -> impl Iterator<Item = &Key> {
        self.keys().filter(move |key| {
            matches!(self.standing(key.id, now, grace), Standing::Good | Standing::InGrace)
        })
    }

    /// What holds at all times.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.past.len() > PAST_MAX {
            return Err("more past keys than are kept");
        }
        if self.past.iter().any(|key| key.ended.is_none()) {
            return Err("a past key did not end");
        }
        if self.current.ended.is_some() || self.next.ended.is_some() {
            return Err("a key has ended that is not past");
        }
        let mut ids: Vec<Id> = self.keys().map(|key| key.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return Err("a key is there twice");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(minutes: u64) -> WallTime {
        WallTime(0) + Duration::from_secs(1_000_000_000 + minutes * 60)
    }

    fn made(id: u128) -> (Id, Arc<[u8]>) {
        (Id(id), Arc::from([0_u8; 4]))
    }

    fn ring() -> Ring {
        Ring::first(at(0), made(1), made(2))
    }

    #[test]
    fn a_key_is_known_before_it_signs_and_after_it_did() {
        let first = ring();
        assert_eq!(first.current().id, Id(1));
        assert_eq!(first.standing(Id(2), at(0), Duration::ZERO), Standing::Good, "the next one is known");
        assert_eq!(first.standing(Id(3), at(0), Duration::ZERO), Standing::Unknown);
        let second = first.rotated(at(60), made(3), HOUR);
        assert_eq!((second.current().id, second.next().id, second.version()), (Id(2), Id(3), 2));
        let grace = Duration::from_secs(600);
        assert_eq!(second.standing(Id(1), at(60), grace), Standing::InGrace);
        assert_eq!(second.standing(Id(1), at(69), grace), Standing::InGrace);
        assert_eq!(second.standing(Id(1), at(70), grace), Standing::Past);
        assert_eq!(second.standing(Id(1), at(60), Duration::ZERO), Standing::Past, "the letter of the seed");
        second.check_invariants().unwrap();
    }

    #[test]
    fn what_is_published_is_what_passes() {
        let second = ring().rotated(at(60), made(3), HOUR);
        let ids = |grace| second.published(at(61), grace).map(|key| key.id.0).collect::<Vec<_>>();
        assert_eq!(ids(HOUR), [1, 2, 3]);
        assert_eq!(ids(Duration::ZERO), [2, 3]);
    }

    #[test]
    fn it_is_due_once_an_hour_and_a_wrong_clock_stops_nobody() {
        let ring = ring();
        assert!(!ring.is_due(at(59), HOUR) && ring.is_due(at(60), HOUR));
        assert!(!ring.rotated(at(60), made(3), HOUR).is_due(at(61), HOUR));
        let of_the_future = ring.rotated(at(100_000), made(3), HOUR);
        assert!(of_the_future.is_due(at(60), HOUR), "else nobody would rotate for years");
        assert!(!ring.rotated(at(62), made(3), HOUR).is_due(at(60), HOUR), "a clock that is a little ahead");
    }

    #[test]
    fn past_keys_are_forgotten() {
        let mut ring = ring();
        for n in 0..200_u64 {
            ring = ring.rotated(at(60 + n), made(10 + u128::from(n)), Duration::from_secs(5 * 60));
            ring.check_invariants().unwrap();
            assert!(ring.keys().count() <= 8);
        }
        for n in 0..200_u64 {
            ring = ring.rotated(at(600 + n), made(1_000 + u128::from(n)), Duration::MAX);
            assert!(ring.keys().count() <= PAST_MAX + 2);
        }
    }

    #[test]
    fn no_key_is_printed() {
        let ring = Ring::first(at(0), (Id(1), Arc::from(*b"SECRET")), made(2));
        assert!(!format!("{ring:?}").contains("83, 69, 67"));
    }

    #[test]
    fn what_cannot_be_a_ring_is_refused() {
        let key = |id, ended| Key { id: Id(id), began: at(0), ended, material: Arc::from([]) };
        assert!(Ring::of(1, vec![key(1, None)]).is_err());
        assert!(Ring::of(1, vec![key(1, None), key(1, None)]).is_err());
        assert!(Ring::of(1, vec![key(1, None), key(2, Some(at(1)))]).is_err());
        assert!(Ring::of(1, vec![key(3, None), key(1, None), key(2, None)]).is_err());
        assert!(Ring::of(1, vec![key(3, Some(at(1))), key(1, None), key(2, None)]).is_ok());
    }
}
