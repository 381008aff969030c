//! What is in force, and whoever is told when that changes: all of them everything, and in the same order.
//!
//! Whoever changes it holds it while the others are told. Nobody hears of one change after a later one, so that the last that
//! each has heard of is what is in force. After the end there are no changes.

use crate::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub struct Bulletin<S, E> {
    ears: Vec<E>,
    state: Mutex<Posted<S>>,
}

#[derive(Debug)]
struct Posted<S> {
    state: S,
    has_ended: bool,
}

/// What is in force, for as long as nobody else changes it.
#[derive(Debug)]
pub struct Held<'a, S, E> {
    posted: MutexGuard<'a, Posted<S>>,
    ears: &'a [E],
}

impl<S, E> Bulletin<S, E> {
    pub fn new(ears: Vec<E>, state: S) -> Bulletin<S, E> {
        Bulletin { ears, state: Mutex::new(Posted { state, has_ended: false }) }
    }

    pub fn ears(&self) -> &[E] {
        &self.ears
    }

    pub fn hold(&self) -> Held<'_, S, E> {
        let posted = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Held { posted, ears: &self.ears }
    }

    /// As [`Bulletin::hold`], to change it. `None` after the end.
    pub fn change(&self) -> Option<Held<'_, S, E>> {
        Some(self.hold()).filter(|held| !held.posted.has_ended)
    }

    /// There are no changes any more, and all are told.
    pub fn end(&self, tell: impl FnMut(&E)) {
        let mut held = self.hold();
        held.posted.has_ended = true;
        held.tell(tell);
    }
}

impl<S, E> Held<'_, S, E> {
    /// Each in turn.
    pub fn tell(&self, tell: impl FnMut(&E)) {
        self.ears.iter().for_each(tell);
    }
}

impl<S, E> std::ops::Deref for Held<'_, S, E> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.posted.state
    }
}

impl<S, E> std::ops::DerefMut for Held<'_, S, E> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.posted.state
    }
}
