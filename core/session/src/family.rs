//! One session, and the refresh tokens that follow each other in it.
//!
//! A refresh token names its family and its generation, and is sealed by the shell: nobody else can make one, so that
//! one that comes here was issued. What is left to decide is whether it is the last one.
//!
//! | generation presented | then |
//! |---|---|
//! | the last | the next one is issued |
//! | the one before, soon after it was replaced | the same next one again: two tabs at once, or an answer that was lost |
//! | any older, or that one later | somebody has a copy: the whole family is revoked |
//! | one that is not known yet | the store has lost its last writes: the next one after it is issued |
//!
//! The same next one again is safe as it is the same: whoever has a copy of the token before it learns nothing that its
//! owner does not have, and both are found out when the next but one is asked for by the older.
//!
//! Source: RFC 9700, section 4.14.2 (refresh token rotation); Okta's "grace period for token rotation".

use std::time::Duration;

use naru_base::{Json, WallTime};

use crate::since;

#[derive(Clone, PartialEq)]
pub struct Family {
    /// Who it is, as the application has said.
    pub subject: String,
    /// What else the application has said, or the provider.
    pub claims: Vec<(String, Said)>,
    /// When he logged in.
    pub began: WallTime,
    pub expires: WallTime,
    /// Of the last token.
    pub generation: u64,
    /// When the last token was issued.
    pub rotated: WallTime,
    pub is_revoked: bool,
}

/// A claim of somebody.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Text(String),
    /// Anything but a text.
    Value(Json),
}

/// Who it is is nobody's business who reads logs.
impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family")
            .field("generation", &self.generation)
            .field("rotated", &self.rotated)
            .field("expires", &self.expires)
            .field("is_revoked", &self.is_revoked)
            .finish_non_exhaustive()
    }
}

/// What comes of a refresh token.
#[derive(Clone, Debug, PartialEq)]
pub enum Presented {
    /// The family as it is to be written; its generation is that of the token to issue.
    Rotated(Family),
    /// The token of the last generation is issued once more. Nothing is written.
    Repeated,
    /// The family as it is to be written: it is revoked.
    Reused(Family),
    Revoked,
    Expired,
}

impl Family {
    /// Somebody has logged in. Whatever he was before, this is another session (OWASP: session fixation).
    pub fn begin(now: WallTime, subject: String, claims: Vec<(String, Said)>, lifetime: Duration) -> Family {
        Family {
            subject,
            claims,
            began: now,
            expires: now + lifetime,
            generation: 1,
            rotated: now,
            is_revoked: false,
        }
    }

    pub fn present(&self, now: WallTime, generation: u64, reuse_interval: Duration) -> Presented {
        if self.is_revoked {
            return Presented::Revoked;
        }
        if now >= self.expires {
            return Presented::Expired;
        }
        if generation >= self.generation {
            let generation = generation.saturating_add(1);
            return Presented::Rotated(Family { generation, rotated: now, ..self.clone() });
        }
        let is_one_before = generation.saturating_add(1) == self.generation;
        if is_one_before && since(now, self.rotated) < reuse_interval {
            return Presented::Repeated;
        }
        Presented::Reused(self.revoked())
    }

    /// He has logged out, or somebody has a copy of a token.
    #[must_use]
    pub fn revoked(&self) -> Family {
        Family { is_revoked: true, ..self.clone() }
    }

    /// What holds at all times.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        if self.generation == 0 {
            return Err("a family without a token");
        }
        if self.expires < self.began {
            return Err("it expires before it began");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> WallTime {
        WallTime(0) + Duration::from_secs(1_000_000 + seconds)
    }

    fn family() -> Family {
        Family::begin(at(0), "han".to_owned(), vec![], Duration::from_secs(1_000))
    }

    fn rotated(family: &Family, seconds: u64, generation: u64) -> Family {
        match family.present(at(seconds), generation, INTERVAL) {
            Presented::Rotated(next) => next,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_token_is_used_once() {
        let second = rotated(&family(), 100, 1);
        assert_eq!(second.generation, 2);
        let third = rotated(&second, 200, 2);
        assert_eq!(third.generation, 3);
        let Presented::Reused(revoked) = third.present(at(201), 1, INTERVAL) else { panic!("it is old") };
        assert_eq!(revoked.present(at(202), 3, INTERVAL), Presented::Revoked, "the thief and the owner both");
    }

    #[test]
    fn two_at_once_get_the_same_token() {
        let second = rotated(&family(), 100, 1);
        assert_eq!(second.present(at(100), 1, INTERVAL), Presented::Repeated);
        assert_eq!(second.present(at(129), 1, INTERVAL), Presented::Repeated);
        assert!(matches!(second.present(at(130), 1, INTERVAL), Presented::Reused(_)));
        assert!(matches!(second.present(at(100), 1, Duration::ZERO), Presented::Reused(_)), "to the letter");
    }

    #[test]
    fn a_session_ends() {
        assert!(matches!(family().present(at(999), 1, INTERVAL), Presented::Rotated(_)));
        assert_eq!(family().present(at(1_000), 1, INTERVAL), Presented::Expired);
        assert_eq!(rotated(&family(), 999, 1).expires, at(1_000), "however often it is refreshed");
        assert_eq!(family().revoked().present(at(1), 1, INTERVAL), Presented::Revoked);
    }

    #[test]
    fn a_store_that_lost_its_last_writes_logs_nobody_out() {
        let next = rotated(&family(), 10, 7);
        assert_eq!(next.generation, 8);
        next.check_invariants().unwrap();
    }

    #[test]
    fn who_it_is_is_not_printed() {
        assert!(!format!("{:?}", family()).contains("han"));
    }
}
