//! The group of a request, where its rule has one for reads and one for writes; and what a write leaves for the reads
//! after it.
//!
//! The time in which a session reads what it wrote begins with the head of the answer, before the client sees it, and
//! only where that is below 400: until then the client knows of no write. A write that failed, or was never answered,
//! begins nothing: reads would follow it to a group that may be in trouble, for something that nobody was promised.

use naru_base::Instant;
use naru_route::{Choice, CompiledAction, CompiledForward, CompiledGroups, CompiledReadYourWrites};
use naru_route::{Grouped, SessionId, Subject};

use super::Journey;
use crate::{Snapshot, View};

/// What a request that has a group is to be remembered for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grouping {
    state: State,
    session: Option<SessionId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Its session is not told of anything.
    #[default]
    Plain,
    /// A write whose session is to read it.
    Writing,
    /// Its answer gives the session a cookie.
    Marked,
}

impl Journey {
    /// The cluster of a request whose rule has groups. What is in a tunnel is no request: it goes to the rule's own.
    #[cold]
    pub(super) fn choose_in_group(
        &mut self,
        now: Instant,
        forward: &CompiledForward,
        groups: &CompiledGroups,
        subject: &Subject<'_>,
        view: &impl View,
    ) -> Choice {
        if self.is_tunnel {
            return forward.choose(self.draw);
        }
        let grouped: Grouped = groups.group(subject, |session| view.has_written(now, session));
        if grouped.is_write() && groups.read_your_writes().is_some() {
            *self.grouping_mut() = Grouping { state: State::Writing, session: grouped.session };
        }
        forward.choose_in(grouped.group(), self.draw)
    }

    /// The head of the answer is here. One that is all head says how a gRPC call went.
    #[inline]
    pub(super) fn remember_write(&mut self, now: Instant, snapshot: &Snapshot, view: &impl View) {
        if self.grouping().state == State::Writing {
            self.remember(now, snapshot, view);
        }
    }

    #[cold]
    fn remember(&mut self, now: Instant, snapshot: &Snapshot, view: &impl View) {
        let Some(sessions) = self.sessions(snapshot) else { return };
        let has_failed = self.status >= 400 || self.grpc_status.is_some_and(|status| status != 0);
        self.grouping_mut().state = State::Plain;
        if has_failed {
            return;
        }
        if let Some(session) = self.grouping().session {
            view.wrote(now + sessions.lasts, session);
        }
        if sessions.cookie().is_some() {
            self.grouping_mut().state = State::Marked;
        }
    }

    /// What the client's session is told apart by, where this answer begins its time.
    pub(super) fn mark<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a http::HeaderValue> {
        if !self.has_mark() {
            return None;
        }
        self.sessions(snapshot)?.cookie()
    }

    #[inline]
    pub(super) fn has_mark(&self) -> bool {
        self.grouping().state == State::Marked
    }

    fn sessions<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a CompiledReadYourWrites> {
        let (rule, _) = self.rule()?;
        match &snapshot.chain(self.chain).table.rule(rule).action {
            CompiledAction::Forward(forward) => forward.groups.as_ref()?.read_your_writes(),
            CompiledAction::Redirect(_) | CompiledAction::Direct(_) => None,
        }
    }
}
