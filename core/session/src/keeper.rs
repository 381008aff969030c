//! What one gateway knows of keys and of who has logged out, and what it asks the store.
//!
//! | what happens | then |
//! |---|---|
//! | it begins, time passes | the store is asked for news |
//! | there is a ring that is not older | it is adopted |
//! | there is none, or an older one | the store has lost it: the own ring is put back, or the first one made |
//! | the current key is old | a ring with another one is written; who is beaten to it adopts what is there |
//! | somebody has logged out here | it holds here at once; the store is told, again and again until it was |
//! | the store is another one (its epoch) | everything that is revoked is told once more |
//! | the store does not answer | keys and list stay as they are, and it is asked again a little later |
//!
//! One question is under way at a time. A question that is not answered is [`Keeper::on_away`].

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::{Instant, WallTime};

use crate::{Id, Revoked, Ring};

/// So many are told of at once.
pub const BATCH_MAX: usize = 256;

/// How a gateway keeps up with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks at the store.
    pub poll_every: Duration,
    /// The same, while the store is away.
    pub retry_every: Duration,
    /// How long a key signs.
    pub rotate_every: Duration,
}

/// How far the list of the store was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Drawn by the store when it was empty; 0 stands for none.
    pub epoch: u64,
    pub seq: u64,
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// How far this is.
    pub cursor: Cursor,
    /// Revoked since the cursor that was asked with; from the beginning where its epoch was another one.
    pub revoked: Vec<(Id, WallTime)>,
    /// There may be more.
    pub is_partial: bool,
    pub ring: Option<Ring>,
}

/// What is to be asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// News since then: [`Keeper::on_news`].
    Poll(Cursor),
    /// To write a ring where none is, or an older one: the own one. [`Keeper::on_written`].
    Restore(Ring),
    /// To make a key and write the ring that follows the last one that was read; two and the first ring where there is
    /// none. [`Keeper::on_written`].
    Rotate(Option<Ring>),
    /// To add these to the list: [`Keeper::on_told`].
    Tell(Vec<(Id, WallTime)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    News,
    Write,
    Tell,
}

/// One gateway.
#[derive(Clone, Debug)]
pub struct Keeper {
    pace: Pace,
    ring: Option<Ring>,
    /// The store was read, and had this one or none.
    is_restored: bool,
    cursor: Cursor,
    revoked: Revoked,
    /// Of those, the ones that the store was not told of.
    untold: BTreeMap<Id, WallTime>,
    untold_max: usize,
    asked: Option<Asked>,
    poll_at: Instant,
    away_since: Option<Instant>,
    was_read: bool,
}

impl Keeper {
    pub fn new(pace: Pace, revoked_max: usize) -> Keeper {
        Keeper {
            pace,
            ring: None,
            is_restored: true,
            cursor: Cursor::default(),
            revoked: Revoked::new(revoked_max),
            untold: BTreeMap::new(),
            untold_max: revoked_max.max(1),
            asked: None,
            poll_at: Instant::ZERO,
            away_since: None,
            was_read: false,
        }
    }

    /// The configuration has changed.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        self.poll_at = Instant::ZERO;
    }

    pub fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// Since when the store does not answer.
    pub fn away_since(&self) -> Option<Instant> {
        self.away_since
    }

    /// How many the store was not told of yet.
    pub fn untold(&self) -> usize {
        self.untold.len()
    }

    /// Somebody has logged out here, or a session was stolen.
    pub fn on_revoked(&mut self, id: Id, until: WallTime) {
        if self.revoked.add(id, until) {
            self.leave_untold(id, until);
        }
    }

    fn leave_untold(&mut self, id: Id, until: WallTime) {
        self.untold.insert(id, until);
        // The list forgets those that end first; what the store was not told of goes the same way.
        while self.untold.len() > self.untold_max
            && let Some(first) =
                self.untold.iter().min_by_key(|(id, until)| (**until, **id)).map(|(id, _)| *id)
        {
            self.untold.remove(&first);
        }
    }

    /// What is to be asked now, if anything.
    pub fn next_action(&mut self, now: Instant, wall: WallTime) -> Option<Action> {
        if self.asked.is_some() {
            return None;
        }
        if now >= self.poll_at {
            self.asked = Some(Asked::News);
            return Some(Action::Poll(self.cursor));
        }
        // What was not read is not written over, and who is away is only asked for news.
        if !self.was_read || self.away_since.is_some() {
            return None;
        }
        if !self.untold.is_empty() {
            self.asked = Some(Asked::Tell);
            return Some(Action::Tell(
                self.untold.iter().take(BATCH_MAX).map(|(id, until)| (*id, *until)).collect(),
            ));
        }
        match &self.ring {
            Some(ring) if !self.is_restored => {
                self.asked = Some(Asked::Write);
                Some(Action::Restore(ring.clone()))
            }
            Some(ring) if !ring.is_due(wall, self.pace.rotate_every) => None,
            ring => {
                self.asked = Some(Asked::Write);
                Some(Action::Rotate(ring.clone()))
            }
        }
    }

    /// When to look again. Nothing while something is under way.
    pub fn deadline(&self, now: Instant, wall: WallTime) -> Option<Instant> {
        if self.asked.is_some() {
            return None;
        }
        let is_silent = !self.was_read || self.away_since.is_some();
        let due = self.ring.as_ref().filter(|_| !is_silent).map(|ring| {
            let at = ring.current().began + self.pace.rotate_every;
            now + Duration::from_nanos(at.0.saturating_sub(wall.0))
        });
        let has_more = !is_silent && (!self.untold.is_empty() || !self.is_restored || self.ring.is_none());
        let more = has_more.then_some(now);
        Some([due, more].into_iter().flatten().fold(self.poll_at, Instant::min))
    }

    pub fn on_news(&mut self, now: Instant, wall: WallTime, news: News) {
        self.settle(Asked::News);
        self.away_since = None;
        self.was_read = true;
        let is_other = self.cursor.epoch != 0 && self.cursor.epoch != news.cursor.epoch;
        for (id, until) in &news.revoked {
            self.revoked.add(*id, *until);
        }
        self.revoked.sweep(wall);
        self.untold.retain(|_, until| *until > wall);
        if is_other {
            let all: Vec<_> = self.revoked.iter().collect();
            for (id, until) in all {
                self.leave_untold(id, until);
            }
        }
        self.cursor = news.cursor;
        self.adopt(news.ring);
        self.poll_at = if news.is_partial { now } else { now + self.pace.poll_every };
    }

    /// A ring that was read beside something else. Who issues a token reads it first: a key that another gateway has
    /// replaced meanwhile signs nothing.
    pub fn on_ring(&mut self, ring: Ring) {
        if self.ring.as_ref().is_none_or(|own| ring.version() > own.version()) {
            self.adopt(Some(ring));
        }
    }

    /// What came of a ring that was to be written: the one that is there now.
    pub fn on_written(&mut self, ring: Ring) {
        self.settle(Asked::Write);
        self.adopt(Some(ring));
    }

    /// These are on the list.
    pub fn on_told(&mut self, told: &[(Id, WallTime)]) {
        self.settle(Asked::Tell);
        self.on_heard(told);
    }

    /// The same, of what somebody else has told the store.
    pub fn on_heard(&mut self, told: &[(Id, WallTime)]) {
        for (id, until) in told {
            if self.untold.get(id).is_some_and(|known| known <= until) {
                self.untold.remove(id);
            }
        }
    }

    /// The store did not do what it was asked, or nobody knows.
    pub fn on_away(&mut self, now: Instant) {
        self.asked = None;
        self.away_since.get_or_insert(now);
        self.poll_at = now + self.pace.retry_every;
    }

    fn adopt(&mut self, ring: Option<Ring>) {
        let own = self.ring.as_ref().map_or(0, Ring::version);
        match ring {
            Some(ring) if ring.version() >= own => (self.ring, self.is_restored) = (Some(ring), true),
            // With no own one there is nothing to put back.
            _ => self.is_restored = self.ring.is_none(),
        }
    }

    fn settle(&mut self, asked: Asked) {
        debug_assert!(self.asked == Some(asked), "an answer to nothing");
        self.asked = None;
    }

    /// What holds at all times.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.revoked.check_invariants()?;
        if let Some(ring) = &self.ring {
            ring.check_invariants()?;
        }
        if self.untold.len() > self.untold_max {
            return Err("more are untold than are kept");
        }
        if self
            .untold
            .iter()
            .any(|(id, until)| !self.revoked.has(*id) && !self.revoked.may_have_forgotten(*until))
        {
            return Err("the store is to be told of one that is not known here");
        }
        if self.ring.is_none() && !self.is_restored {
            return Err("a ring is to be put back that is not there");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use super::*;

    const PACE: Pace = Pace {
        poll_every: Duration::from_millis(200),
        retry_every: Duration::from_millis(500),
        rotate_every: Duration::from_secs(3_600),
    };

    fn wall(seconds: u64) -> WallTime {
        WallTime(0) + Duration::from_secs(1_000_000 + seconds)
    }

    fn made(id: u128) -> (Id, Arc<[u8]>) {
        (Id(id), Arc::from([]))
    }

    fn news(seq: u64, ring: Option<Ring>) -> News {
        News { cursor: Cursor { epoch: 1, seq }, revoked: vec![], is_partial: false, ring }
    }

    /// One that has read a ring.
    fn keeper() -> Keeper {
        let mut own = Keeper::new(PACE, 100);
        assert_eq!(own.next_action(Instant(0), wall(0)), Some(Action::Poll(Cursor::default())));
        own.on_news(Instant(0), wall(0), news(0, Some(Ring::first(wall(0), made(1), made(2)))));
        own
    }

    #[test]
    fn the_first_gateway_makes_the_first_ring_and_the_second_adopts_it() {
        let mut first = Keeper::new(PACE, 100);
        first.next_action(Instant(0), wall(0));
        first.on_news(Instant(0), wall(0), news(0, None));
        assert_eq!(first.deadline(Instant(0), wall(0)), Some(Instant(0)));
        assert_eq!(first.next_action(Instant(0), wall(0)), Some(Action::Rotate(None)));
        assert_eq!(first.next_action(Instant(0), wall(0)), None, "one at a time");
        let there = Ring::first(wall(0), made(8), made(9));
        first.on_written(there.clone());
        assert_eq!(first.ring(), Some(&there), "another one was quicker");
        assert_eq!(first.next_action(Instant(0), wall(0)), None);
    }

    #[test]
    fn a_key_is_replaced_when_its_time_is_over() {
        let mut own = keeper();
        let poll = Instant::ZERO + PACE.poll_every;
        assert_eq!(own.deadline(Instant(0), wall(0)), Some(poll));
        let due = own.deadline(Instant(0), wall(3_600));
        assert_eq!(due, Some(Instant(0)));
        assert!(matches!(own.next_action(Instant(0), wall(3_600)), Some(Action::Rotate(Some(_)))));
    }

    #[test]
    fn who_logs_out_while_the_store_is_away_is_told_of_later() {
        let mut own = keeper();
        let poll = Instant::ZERO + PACE.poll_every;
        own.next_action(poll, wall(0));
        own.on_away(poll);
        own.on_revoked(Id(5), wall(900));
        assert!(own.revoked().has(Id(5)), "it holds here");
        assert_eq!(own.next_action(poll, wall(0)), None);
        let again = poll + PACE.retry_every;
        assert!(matches!(own.next_action(again, wall(0)), Some(Action::Poll(_))));
        let ring = own.ring().cloned();
        own.on_news(again, wall(0), news(0, ring));
        let Some(Action::Tell(told)) = own.next_action(again, wall(0)) else { panic!("it is untold") };
        assert_eq!(told, [(Id(5), wall(900))]);
        own.on_away(again);
        assert_eq!(own.untold(), 1, "nobody knows whether it was heard");
        let again = again + PACE.retry_every;
        own.next_action(again, wall(0));
        own.on_news(again, wall(0), news(0, own.ring().cloned()));
        own.next_action(again, wall(0));
        own.on_told(&told);
        assert_eq!(own.untold(), 0);
    }

    #[test]
    fn a_store_that_has_lost_everything_is_given_it_back() {
        let mut own = keeper();
        own.on_revoked(Id(5), wall(900));
        own.next_action(Instant(0), wall(0));
        own.on_told(&[(Id(5), wall(900))]);
        let poll = Instant::ZERO + PACE.poll_every;
        own.next_action(poll, wall(1));
        let empty =
            News { cursor: Cursor { epoch: 2, seq: 0 }, revoked: vec![], is_partial: false, ring: None };
        own.on_news(poll, wall(1), empty);
        assert_eq!(own.next_action(poll, wall(1)), Some(Action::Tell(vec![(Id(5), wall(900))])));
        own.on_told(&[(Id(5), wall(900))]);
        let Some(Action::Restore(ring)) = own.next_action(poll, wall(1)) else { panic!("it is lost") };
        assert_eq!(ring.current().id, Id(1));
        own.on_written(ring);
        assert_eq!(own.next_action(poll, wall(1)), None);
    }

    #[test]
    fn an_older_ring_is_replaced_by_the_newer_one() {
        let mut own = keeper();
        let newer = own.ring().unwrap().rotated(wall(10), made(3), Duration::ZERO);
        own.next_action(Instant::ZERO + PACE.poll_every, wall(10));
        let older = own.ring().cloned();
        own.on_news(Instant::ZERO + PACE.poll_every, wall(10), news(0, Some(newer.clone())));
        let next = Instant::ZERO + PACE.poll_every * 2;
        own.next_action(next, wall(10));
        own.on_news(next, wall(10), news(0, older));
        assert_eq!(own.next_action(next, wall(10)), Some(Action::Restore(newer)));
    }
}
