//! The tokens and sessions that do not count any more, until they would have expired anyway.
//!
//! It has an end: where it is full, those that expire first are forgotten, and from then on all tokens that expire as
//! early are sent to be refreshed, where the store knows whose session is over. So a full list costs refreshes, and lets
//! nobody in.

use std::collections::{BTreeMap, BTreeSet};

use naru_base::WallTime;

use crate::subject::{second, second_of};
use crate::{Id, Subject};

#[derive(Clone, Debug)]
pub struct Revoked {
    until: BTreeMap<Id, WallTime>,
    by_end: BTreeSet<(WallTime, Id)>,
    max: usize,
    /// What ends at this moment or earlier may have been forgotten.
    floor: WallTime,
}

impl Revoked {
    pub fn new(max: usize) -> Revoked {
        Revoked { until: BTreeMap::new(), by_end: BTreeSet::new(), max: max.max(1), floor: WallTime(0) }
    }

    /// Until `until` this one does not count. Returns whether that is news.
    pub fn add(&mut self, id: Id, until: WallTime) -> bool {
        if until <= self.floor {
            return false;
        }
        match self.until.get(&id).copied() {
            Some(known) if known >= until => return false,
            Some(known) => {
                self.by_end.remove(&(known, id));
            }
            None => {}
        }
        self.until.insert(id, until);
        self.by_end.insert((until, id));
        while self.until.len() > self.max
            && let Some((end, first)) = self.by_end.pop_first()
        {
            self.until.remove(&first);
            self.floor = self.floor.max(end);
        }
        true
    }

    /// What has expired is forgotten.
    pub fn sweep(&mut self, now: WallTime) {
        while let Some((end, first)) = self.by_end.first().copied()
            && end <= now
        {
            self.by_end.pop_first();
            self.until.remove(&first);
        }
    }

    pub fn has(&self, id: Id) -> bool {
        self.until.contains_key(&id)
    }

    /// The second up to which all sessions of this one are over, if he was thrown out.
    pub fn over(&self, subject: Subject) -> Option<u64> {
        self.until.range(subject.ids()).next_back().map(|(id, _)| second_of(*id))
    }

    /// Whether that holds for a session that began then.
    pub fn is_over(&self, subject: Subject, began: WallTime) -> bool {
        self.over(subject).is_some_and(|over| second(began) <= over)
    }

    /// Whether one that ends then could have been on the list and was forgotten.
    pub fn may_have_forgotten(&self, until: WallTime) -> bool {
        until <= self.floor
    }

    pub fn len(&self) -> usize {
        self.until.len()
    }

    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// By id.
    pub fn iter(&self) -> impl Iterator<Item = (Id, WallTime)> {
        self.until.iter().map(|(id, until)| (*id, *until))
    }

    /// What holds at all times.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.until.len() > self.max {
            return Err("more are revoked than fit");
        }
        if self.until.len() != self.by_end.len() {
            return Err("both orders differ");
        }
        if self.until.iter().any(|(id, until)| !self.by_end.contains(&(*until, *id))) {
            return Err("one is in one order only");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    #[test]
    fn one_is_revoked_until_it_expires() {
        let mut revoked = Revoked::new(10);
        assert!(revoked.add(Id(1), WallTime(100)));
        assert!(!revoked.add(Id(1), WallTime(90)), "it is known");
        revoked.sweep(WallTime(99));
        assert!(revoked.has(Id(1)) && !revoked.has(Id(2)));
        assert!(revoked.add(Id(1), WallTime(120)));
        revoked.sweep(WallTime(100));
        assert!(revoked.has(Id(1)));
        revoked.sweep(WallTime(120));
        assert!(revoked.is_empty());
    }

    /// The list is bounded; the model beside it is not. What is revoked never passes.
    #[test]
    fn a_full_list_lets_nobody_in() {
        for seed in 0..256 {
            let mut chance = Chance::split(seed, "revoked");
            let mut own = Revoked::new(8);
            let mut all: BTreeMap<Id, WallTime> = BTreeMap::new();
            let mut now = 0;
            for _ in 0..200 {
                now += chance.below(10);
                let id = Id(u128::from(chance.below(40)));
                let until = WallTime(now + chance.below(200));
                own.add(id, until);
                let known = all.entry(id).or_insert(until);
                *known = (*known).max(until);
                own.sweep(WallTime(now));
                own.check_invariants().unwrap();
                for (id, until) in &all {
                    let is_over = *until <= WallTime(now);
                    assert!(is_over || own.has(*id) || own.may_have_forgotten(*until), "{seed}: {id}");
                }
                assert!(own.iter().all(|(id, until)| all.get(&id) == Some(&until)), "{seed}: nobody else is");
            }
        }
    }
}
