//! Attempts beside each other: the counterpart of `proxy/src/hedged.rs`.
//!
//! A passage has one flight that is worked on, the one that the last news was about, with its permit. Others wait in
//! `beside`, and come forward when there is news of them.

use naru_base::AttemptId;

use super::{News, World};
use crate::passage::{Beside, Passage};
use crate::upstream::Upstreams;

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// The attempt goes on while another one begins.
    pub(super) fn set_beside(&mut self, passage: &mut Passage<T>) {
        if let Some(flight) = passage.flight.take() {
            passage.beside.push(Beside { flight, permit: passage.permit.take() });
        }
    }

    /// What news is about is what is worked on.
    pub(super) fn bring_forward(&mut self, passage: &mut Passage<T>, attempt: AttemptId) {
        let Some(at) = passage.beside.iter().position(|other| other.flight.attempt == attempt) else {
            return;
        };
        let Beside { flight, permit } = passage.beside.swap_remove(at);
        if passage.flight.is_some() {
            self.set_beside(passage);
        } else {
            self.rest(passage);
        }
        passage.flight = Some(flight);
        passage.permit = permit;
    }

    /// All attempts are given up but the one that is worked on.
    pub(super) fn drop_beside(&mut self, passage: &mut Passage<T>) {
        while let Some(Beside { flight, permit }) = passage.beside.pop() {
            let (kept_flight, kept_permit) = (passage.flight.replace(flight), passage.permit.take());
            passage.permit = permit;
            self.drop_flight(passage);
            self.rest(passage);
            passage.flight = kept_flight;
            passage.permit = kept_permit;
        }
    }
}

/// Which attempt it is about, where it is about one.
pub(super) fn attempt_of(news: News) -> Option<AttemptId> {
    match news {
        News::First(attempt)
        | News::NotFirst(attempt, _)
        | News::Dialed(attempt, _)
        | News::Head(attempt)
        | News::Part(attempt)
        | News::BodyEnded(attempt)
        | News::Broken(attempt, _) => Some(attempt),
        News::Tick
        | News::ClientLeaves
        | News::Fed { .. }
        | News::Starved
        | News::Uploaded
        | News::UploadEnded
        | News::Turn
        | News::Looked
        | News::Sought(_)
        | News::Leased
        | News::Answered(_)
        | News::ReplyRead => None,
    }
}
