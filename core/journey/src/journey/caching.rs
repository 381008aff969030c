//! Answers from memory.
//!
//! A request whose rule keeps answers is looked up before it goes to the limits of its cluster ([`Action::Lookup`]), and
//! goes on where there is nothing for it ([`Journey::on_looked`]). What is there and stale may be what it ends with all
//! the same: where its origin says that it has not changed, where its origin fails, and as a step of a fallback. What
//! is kept, whose it is and how old it may be is for `naru_cache` to say; the journey is told moments.
//!
//! A request that may change something is looked up, too, where anything is kept at all: what it makes worthless is
//! known by its answer.

use std::sync::Arc;

use http::Method;
use naru_base::{Instant, Reason};
use naru_route::Subject;
use naru_spec::CachePolicy;

use super::{Journey, State};
use crate::{Action, Observer, Snapshot, View, Worker};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caching {
    is_wanted: bool,
    /// It went on, and is asked about, or fetched.
    fetched: Option<Stale>,
}

/// What is kept for a request that goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Its origin is asked whether it has changed.
    pub is_asked_about: bool,
    /// It may be given in the place of a failure until then.
    pub until: Option<Instant>,
    /// It may be given by a fallback.
    pub is_there: bool,
}

/// What [`Action::Lookup`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It is there.
    Found,
    /// Its client wants nothing else, and it is not there.
    Absent,
    /// The request goes on.
    Fetch(Stale),
}

/// RFC 5861, section 4.
fn is_error(status: u16) -> bool {
    matches!(status, 500 | 502..=504)
}

impl Journey {
    /// What there may be in the place of an answer of its cluster.
    #[cold]
    pub(super) fn find_instead(&mut self, snapshot: &Snapshot, subject: &Subject<'_>) {
        if !snapshot.fallbacks.is_empty() {
            self.find_fallback(snapshot);
        }
        if !snapshot.caches.is_empty() {
            self.find_cache(snapshot, subject);
        }
    }

    /// Whether the request is to be looked up first.
    fn find_cache(&mut self, snapshot: &Snapshot, subject: &Subject<'_>) {
        if self.is_tunnel || self.request.is_upgrade || self.request.is_grpc {
            return;
        }
        let is_wanted = match *subject.method {
            Method::GET | Method::HEAD => self.cache(snapshot).is_some(),
            Method::OPTIONS | Method::TRACE => false,
            _ => true,
        };
        if is_wanted {
            self.policed().caching.is_wanted = true;
        }
    }

    #[inline]
    pub(super) fn is_looked_up(&self) -> bool {
        self.policed.as_ref().is_some_and(|policed| policed.caching.is_wanted)
    }

    pub(super) fn look_up(&mut self) {
        self.state = State::Looking;
        self.actions.push(Action::Lookup);
    }

    /// What its rule says of the cache.
    pub fn cache<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Arc<CachePolicy>> {
        snapshot.caches.of(self.chain, self.rule()?.0)
    }

    /// After [`Action::Lookup`].
    #[cold]
    pub fn on_looked(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        looked: Looked,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        if self.state != State::Looking {
            return;
        }
        self.clock.progress = now;
        match looked {
            Looked::Found => self.answer(Reason::CacheHit),
            Looked::Absent => self.answer(Reason::NotCached),
            Looked::Fetch(stale) => {
                if stale != Stale::default() {
                    self.policed().caching.fetched = Some(stale);
                }
                self.state = State::Trying;
                self.enter_limits(now, snapshot, worker, view, observer);
            }
        }
    }

    fn stale(&self) -> Option<Stale> {
        self.policed.as_ref()?.caching.fetched
    }

    /// Whether what is kept is given in the place of an answer with this status.
    pub(super) fn is_answered_from_cache(&mut self, now: Instant, status: u16) -> bool {
        let Some(stale) = self.stale() else { return false };
        let reason = match status {
            304 if stale.is_asked_about => Reason::CacheValidated,
            _ if is_error(status) && stale.until.is_some_and(|until| now <= until) => Reason::CacheStale,
            _ => return false,
        };
        self.conclude_answered(now, status);
        self.give_attempt_up();
        self.answer(reason);
        true
    }

    /// What is given in the place of no answer at all.
    pub(super) fn stale_reason(&self, now: Instant) -> Option<Reason> {
        let until = self.stale()?.until?;
        (now <= until).then_some(Reason::CacheStale)
    }

    /// Whether a fallback has something to give.
    pub(super) fn has_stale(&self) -> bool {
        self.stale().is_some_and(|stale| stale.is_there)
    }
}
