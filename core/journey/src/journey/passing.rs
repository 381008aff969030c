//! A journey's way through the limits of its route and its cluster.
//!
//! It goes from limit to limit until one has it wait or refuses it. What it holds of each is given back by
//! [`Journey::leave`], which whoever drives it calls when nobody waits for an upstream any more: once is enough, more
//! often does no harm.

use std::time::Duration;

use naru_admit::Claim;
use naru_base::{Instant, Reason};
use naru_guard::{Failed, Ticket};

use super::{Journey, State};
use crate::limits::{KINDS, Leaving, LimitId, Pass, Queued};
use crate::{Action, Observer, Snapshot, View, Worker};

/// Those of the route and those of the cluster.
const STEPS: usize = 2 * KINDS;
/// Of these, the breakers: they come first.
const BREAKERS: usize = 2;

/// Where a request stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passing {
    /// The next limit to be looked at.
    step: usize,
    /// A bit for each step that was passed and not left.
    held: u16,
    /// What breakers want back.
    tickets: [Option<Ticket>; BREAKERS],
    waiting: Option<Waiting>,
    /// The deadline was told of.
    is_due: bool,
    /// When it had passed all.
    pub passed: Option<Instant>,
    pub refused_by: Option<LimitId>,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    InLine { queued: Queued, deadline: Instant },
    Until(Instant),
}

impl Passing {
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub fn holds_nothing(&self) -> bool {
        self.held == 0 && self.waiting.is_none()
    }

    /// When to look whether the wait is over; `None` once that was told.
    pub fn deadline(&self) -> Option<Instant> {
        match self.waiting? {
            _ if self.is_due => None,
            Waiting::InLine { deadline, .. } => Some(deadline),
            Waiting::Until(at) => Some(at),
        }
    }

    pub fn set_due(&mut self) {
        self.is_due = true;
    }

    /// Whether a breaker is to be told what becomes of it.
    #[inline]
    fn has_ticket(&self) -> bool {
        self.held & ((1 << BREAKERS) - 1) != 0
    }

    fn keep(&mut self, ticket: Ticket) {
        if let Some(place) = self.tickets.get_mut(self.step) {
            *place = Some(ticket);
        }
        self.admit();
    }

    fn admit(&mut self) {
        self.held |= 1 << self.step;
        self.waiting = None;
        self.step += 1;
    }
}

impl Journey {
    /// Passes limits, from where it stands, and goes on to an endpoint behind the last one.
    #[cold]
    pub(super) fn pass(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        while self.passing().step < STEPS {
            let Some(limit) = self.limit_at(snapshot, self.passing().step) else {
                self.passing_mut().step += 1;
                continue;
            };
            match worker.pass(now, limit, view) {
                Pass::Admitted => self.passing_mut().admit(),
                Pass::Ticketed(ticket) => self.passing_mut().keep(ticket),
                Pass::InLine { queued, deadline } => {
                    return self.wait(limit, Waiting::InLine { queued, deadline });
                }
                Pass::Until(at) => return self.wait(limit, Waiting::Until(at)),
                Pass::Refused(reason) => {
                    self.passing_mut().refused_by = Some(limit);
                    return self.answer_failed(now, snapshot, reason, true, worker, view);
                }
                Pass::CutOff { retry_after } => {
                    self.passing_mut().refused_by = Some(limit);
                    self.retry_after = retry_after;
                    return self.answer_failed(now, snapshot, Reason::BreakerOpen, true, worker, view);
                }
            }
        }
        self.passing_mut().passed = Some(now);
        self.state = State::Trying;
        self.dispatch(now, snapshot, worker, view, observer);
    }

    /// Passes those of a cluster that is asked in place of another: without waiting at any.
    pub(super) fn pass_at_once(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
    ) -> Result<(), Failed> {
        *self.passing_mut() = Passing { refused_by: self.passing().refused_by, ..Passing::default() };
        // Those of the route stand between them.
        for step in (1..STEPS).step_by(2) {
            let Some(limit) = self.limit_at(snapshot, step) else { continue };
            self.passing_mut().step = step;
            match worker.pass(now, limit, view) {
                Pass::Admitted => self.passing_mut().admit(),
                Pass::Ticketed(ticket) => self.passing_mut().keep(ticket),
                Pass::InLine { queued, .. } => {
                    view.leave(now, limit, Leaving::Line(queued));
                    return Err(Failed::Limited);
                }
                Pass::Until(_) | Pass::Refused(_) => return Err(Failed::Limited),
                Pass::CutOff { retry_after } => {
                    self.retry_after = retry_after;
                    return Err(Failed::CutOff);
                }
            }
        }
        self.passing_mut().passed = Some(now);
        Ok(())
    }

    fn limit_at(&self, snapshot: &Snapshot, step: usize) -> Option<LimitId> {
        let ((rule, _), cluster) = self.rule().zip(self.cluster)?;
        snapshot.limits.at(self.chain, rule, cluster, step)
    }

    fn wait(&mut self, limit: LimitId, waiting: Waiting) {
        self.state = State::Waiting;
        self.passing_mut().waiting = Some(waiting);
        self.passing_mut().is_due = false;
        let queued = match waiting {
            Waiting::InLine { queued, .. } => Some(queued),
            Waiting::Until(_) => None,
        };
        self.actions.push(Action::Wait { limit, queued });
    }

    /// Its turn at a limit may have come, or its wait is over: what [`Action::Wait`] and [`Action::Look`] ask for.
    #[cold]
    pub fn on_turn(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        let step = self.passing().step;
        let Some((waiting, limit)) = self.passing().waiting.zip(self.limit_at(snapshot, step)) else {
            return;
        };
        if self.state != State::Waiting {
            return;
        }
        match waiting {
            Waiting::Until(at) if now < at => return self.wait(limit, waiting),
            Waiting::Until(_) => self.passing_mut().admit(),
            Waiting::InLine { queued, .. } => match view.claim(now, limit, queued) {
                Claim::Waiting => return self.wait(limit, waiting),
                Claim::Admitted => self.passing_mut().admit(),
                Claim::Refused(reason) => {
                    self.passing_mut().waiting = None;
                    self.passing_mut().refused_by = Some(limit);
                    return self.answer_failed(now, snapshot, reason, true, worker, view);
                }
            },
        }
        self.clock.progress = now;
        self.pass(now, snapshot, worker, view, observer);
    }

    /// Leaves every limit, with what has become of the request so far.
    #[inline]
    pub fn leave(&mut self, now: Instant, snapshot: &Snapshot, view: &impl View) {
        if self.policed.as_ref().is_some_and(|policed| !policed.passing.holds_nothing()) {
            self.leave_all(now, snapshot, view);
        }
    }

    #[cold]
    fn leave_all(&mut self, now: Instant, snapshot: &Snapshot, view: &impl View) {
        if let Some(Waiting::InLine { queued, .. }) = self.passing_mut().waiting.take()
            && let Some(limit) = self.limit_at(snapshot, self.passing().step)
        {
            view.leave(now, limit, Leaving::Line(queued));
        }
        // The last one first.
        self.leave_steps(now, snapshot, STEPS, view);
    }

    /// The answer is known: breakers do not wait until its body has ended.
    #[inline]
    pub(super) fn tell_breakers(&mut self, now: Instant, snapshot: &Snapshot, view: &impl View) {
        if self.passing().has_ticket() {
            self.leave_steps(now, snapshot, BREAKERS, view);
        }
    }

    #[cold]
    fn leave_steps(&mut self, now: Instant, snapshot: &Snapshot, steps: usize, view: &impl View) {
        for step in (0..steps).rev() {
            if self.passing().held & 1 << step != 0
                && let Some(limit) = self.limit_at(snapshot, step)
            {
                let ticket = self.passing().tickets.get(step).copied().flatten();
                view.leave(now, limit, Leaving::Done(self.ending(now, ticket)));
            }
            self.passing_mut().held &= !(1 << step);
        }
    }

    /// The attempt is sent, and must not take longer than this: Envoy's `max_stream_duration` of a cluster.
    pub fn limit_stream(&mut self, now: Instant, max: Duration) {
        self.clock.stream_end = Some(now + max);
    }

    /// The limits at which it is counted, and whether it waits there in line: for whoever checks the counts.
    pub fn counted_at<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (LimitId, bool)> + 'a {
        let in_line = matches!(self.passing().waiting, Some(Waiting::InLine { .. }));
        (0..STEPS).filter_map(move |step| {
            let waits = in_line && step == self.passing().step;
            let is_counted = waits || self.passing().held & 1 << step != 0;
            Some((self.limit_at(snapshot, step).filter(|_| is_counted)?, waits))
        })
    }

    /// The limit that did not let it pass.
    pub fn refused_by(&self) -> Option<LimitId> {
        self.passing().refused_by
    }
}
