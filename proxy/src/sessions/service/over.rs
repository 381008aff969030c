//! Who was thrown out: how do all of somebody's sessions end at once?
//!
//! Sessions are kept by ids and cannot be found by names. So the store has, under a keyed digest of the name, the second up
//! to which somebody's sessions are over; who refreshes or logs in looks there first. Access tokens are judged without
//! asking the store: for as long as those of before live, the same stands on the list of what is revoked, which reaches
//! all gateways after a poll.
//!
//! What the store could not be told is kept, and told once it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use naru_jose::secret;
use naru_session::subject::{begins, over_from_now, second};
use naru_session::{Family, Id, Subject};
use naru_spec::SessionAuth;
use naru_store::{Away, Swapped, Write};

use super::{Inner, TRIES};
use crate::clock::wall_now;

/// So many are kept for a store that is away; who comes after them is to be asked for again, and the answer says so.
const LEFT_MAX: usize = 1_024;
/// The store keeps it longer than any refresh token by so much, whatever clocks say.
const LONGER: Duration = Duration::from_secs(3_600);

/// Makes numbers of names, so that who reads the list of what is revoked learns no names.
pub struct SubjectKey([u8; 32]);

/// It is not told.
impl std::fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SubjectKey")
    }
}

impl SubjectKey {
    /// From what seals the store: gateways that share one agree.
    pub fn of(sealing: &[u8; 32]) -> SubjectKey {
        SubjectKey(secret::keyed(sealing, &[b"naru", b"subjects"]))
    }

    pub fn subject(&self, name: &str) -> Subject {
        Subject::of(&secret::keyed(&self.0, &[name.as_bytes()]))
    }
}

/// What the store is to be told yet.
#[derive(Debug, Default)]
pub struct Left {
    sessions: BTreeSet<Id>,
    subjects: BTreeMap<Subject, u64>,
}

impl Left {
    fn has_room(&self) -> bool {
        self.sessions.len() + self.subjects.len() < LEFT_MAX
    }

    pub fn leave_session(&mut self, sid: Id) {
        if self.has_room() {
            self.sessions.insert(sid);
        }
    }

    fn leave_subject(&mut self, subject: Subject, second: u64) -> bool {
        let is_kept = self.subjects.contains_key(&subject) || self.has_room();
        if is_kept {
            let known = self.subjects.entry(subject).or_insert(second);
            *known = (*known).max(second);
        }
        is_kept
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All gateways know, or will after their next poll.
    Everywhere,
    /// It holds here, and the others are told once the store is back.
    Later,
    /// Too much waits for the store already: it is to be asked again.
    Not,
}

impl Inner {
    /// Ends all sessions of somebody.
    pub(super) async fn end_subject(&self, auth: &SessionAuth, name: &str) -> Ended {
        let subject = self.subjects.subject(name);
        let known = self.keeper.borrow().revoked().over(subject);
        let over = over_from_now(wall_now(), auth.access.skew, known);
        // It holds here before anybody else is asked.
        let listed = self.told(self.revoke(auth, &[subject.over_by(over)]).await);
        match self.told(self.write_over(auth, subject, over).await) {
            // Another gateway has thrown him out a moment before, and this one has not heard of it.
            Ok(there) if there > over => {
                match self.told(self.revoke(auth, &[subject.over_by(there)]).await) {
                    Ok(()) => Ended::Everywhere,
                    Err(_) => Ended::Later,
                }
            }
            Ok(_) if listed.is_ok() => Ended::Everywhere,
            Ok(_) => Ended::Later,
            Err(_) if self.left.borrow_mut().leave_subject(subject, over) => Ended::Later,
            Err(_) => Ended::Not,
        }
    }

    /// The second that is there afterwards: the one given, or a later one.
    async fn write_over(&self, auth: &SessionAuth, subject: Subject, over: u64) -> Result<u64, Away> {
        let name = over_name(subject);
        let mut over = over;
        for _ in 0..TRIES {
            let (_, there) = self.store.read(&name).await?;
            if let Some(sealed) = &there {
                // Who has logged in again since the last time began a second after that: he is among them now.
                over = over.max(self.read_over(&name, sealed)?.saturating_add(1));
            }
            let kept = auth.refresh.lifetime.max(auth.remembered()) + auth.access.skew + LONGER;
            let write = Write {
                name: name.clone(),
                expected: there,
                value: self.seal(&name, &over.to_be_bytes())?,
                until: Some(wall_now() + kept),
            };
            if self.store.swap(wall_now(), write).await? == Swapped::Done {
                return Ok(over);
            }
        }
        Err(Away("others end the same sessions again and again".to_owned()))
    }

    fn read_over(&self, name: &str, sealed: &[u8]) -> Result<u64, Away> {
        let plain = self.unseal(name, sealed)?;
        let bytes = plain.as_slice().try_into();
        bytes.map(u64::from_be_bytes).map_err(|_| Away("it has a moment that is none".to_owned()))
    }

    /// The second up to which all sessions of this name are over, as the store or this gateway knows it.
    async fn over(&self, name: &str) -> Result<Option<u64>, Away> {
        let subject = self.subjects.subject(name);
        let place = over_name(subject);
        let (_, there) = self.store.read(&place).await?;
        let there = there.map(|sealed| self.read_over(&place, &sealed)).transpose()?;
        Ok(there.max(self.keeper.borrow().revoked().over(subject)))
    }

    /// Whether this session ended with all others of its owner.
    pub(super) async fn is_over(&self, family: &Family) -> Result<bool, Away> {
        let over = self.over(&family.subject).await?;
        Ok(over.is_some_and(|over| second(family.began) <= over))
    }

    /// Somebody who was thrown out logs in again: his session counts.
    pub(super) async fn begun(&self, family: &Family) -> Result<Family, Away> {
        let over = self.over(&family.subject).await?;
        Ok(Family { began: begins(family.began, over), ..family.clone() })
    }

    /// Tells the store, which answers again, what it could not be told.
    pub(super) async fn tell_left(&self) {
        loop {
            let (session, subject) = {
                let left = self.left.borrow();
                (left.sessions.first().copied(), left.subjects.first_key_value().map(|(who, at)| (*who, *at)))
            };
            if let Some(sid) = session {
                if self.told(self.end(sid).await).is_err() {
                    return;
                }
                self.left.borrow_mut().sessions.remove(&sid);
            } else if let Some((subject, over)) = subject {
                let auth = Arc::clone(&self.auth.borrow());
                if self.told(self.write_over(&auth, subject, over).await).is_err() {
                    return;
                }
                let mut left = self.left.borrow_mut();
                // Somebody may have asked once more meanwhile.
                if left.subjects.get(&subject) == Some(&over) {
                    left.subjects.remove(&subject);
                }
            } else {
                return;
            }
        }
    }
}

fn over_name(subject: Subject) -> String {
    format!("over:{subject}")
}
