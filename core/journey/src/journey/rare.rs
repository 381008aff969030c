//! What few requests have: a failure that is made on purpose, attempts beside each other, a limit for tries on which
//! nothing moves.
//!
//! A fault of the client's scope holds the request before it is sent ([`super::State::Held`]) or answers it. One of the
//! upstream's scope is rolled for each attempt: the attempt is held before the shell hears of it, or answered in its
//! endpoint's place, and retries, hedges and timeouts see that as they see anything else.
//!
//! Where several attempts are under way, the journey's own `attempt` is the one that the last news was about, and the
//! others stand in [`Rare::beside`].

use std::time::Duration;

use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_guard::AttemptResult;
use naru_recover::RouteRecovery;
use naru_recover::fault::{Injected, Injection, Odds};
use naru_route::Subject;
use naru_spec::{FaultScope, defaults};

use super::{Attempt, Journey, State, Watch};
use crate::{Action, Cause, Observer, Report, Snapshot, View, Worker};

const BESIDE_MAX: usize = defaults::ATTEMPTS_AT_ONCE_MAX as usize - 1;

#[derive(Debug, Default)]
pub(super) struct Rare {
    /// For each attempt.
    odds: Option<Odds>,
    /// The request, or its attempt, is held.
    held: Option<Held>,
    is_delayed: bool,
    /// When a request was held no longer: its time runs from there.
    released: Option<Instant>,
    /// What is answered in the place of an upstream.
    injected: Option<Injected>,
    pub idle_per_try: Option<Duration>,
    /// Attempts to be made as soon as the request is there as a whole.
    extra: u32,
    beside: [Option<Beside>; BESIDE_MAX],
    /// Of attempts that were given up together.
    reports: [Option<Report>; BESIDE_MAX],
}

/// What becomes of an attempt that was held.
pub(super) enum Released {
    Sent,
    Answered(Injected),
}

#[derive(Clone, Copy, Debug)]
struct Held {
    until: Instant,
    /// Then.
    abort: Option<Injected>,
    /// What is held, where it is an attempt.
    send: Option<Action>,
}

/// An attempt that goes on while the last news is about another one.
#[derive(Clone, Copy, Debug)]
struct Beside {
    attempt: Attempt,
    watch: Option<Watch>,
    held: Option<Held>,
}

impl Rare {
    /// When something that is held is to go on.
    pub fn held_until(&self) -> Option<Instant> {
        let beside = self.beside.iter().flatten().filter_map(|other| other.held);
        self.held.iter().copied().chain(beside).map(|held| held.until).min()
    }

    pub fn released(&self) -> Option<Instant> {
        self.released
    }

    /// What is held is given up.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    pub fn take_report(&mut self) -> Option<Report> {
        self.reports.iter_mut().find_map(Option::take)
    }
}

impl Journey {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }

    /// What a route says beside retries. Whether the request goes on is told: it may be held, or answered.
    #[cold]
    pub(super) fn begin_more(
        &mut self,
        now: Instant,
        of_route: &RouteRecovery,
        cluster: &str,
        subject: &Subject<'_>,
        worker: &mut Worker,
        view: &impl View,
    ) -> bool {
        if of_route.retry.begins_with_several()
            && let Some(recovery) = &self.recovery
        {
            let attempts = recovery.initial_attempts(&of_route.retry, &mut worker.waits);
            self.rare().extra = attempts - 1;
        }
        if let Some(idle) = of_route.retry.per_try_idle_timeout {
            self.rare().idle_per_try = Some(idle);
        }
        let Some(fault) = &of_route.fault else { return true };
        let Some(odds) = fault.odds(subject.headers, cluster, view.faults_active()) else { return true };
        match fault.scope() {
            FaultScope::Upstream => {
                self.rare().odds = Some(odds);
                true
            }
            FaultScope::Client => self.meet(now, odds.roll(&mut worker.faults)),
        }
    }

    fn meet(&mut self, now: Instant, injection: Injection) -> bool {
        match injection {
            Injection { delay: None, abort: None } => true,
            Injection { delay: None, abort: Some(injected) } => {
                self.answer_injected(injected);
                false
            }
            Injection { delay: Some(wait), abort } => {
                let rare = self.rare();
                rare.is_delayed = true;
                rare.held = Some(Held { until: now + wait, abort, send: None });
                self.state = State::Held;
                false
            }
        }
    }

    fn answer_injected(&mut self, injected: Injected) {
        self.rare().injected = Some(injected);
        self.answer(Reason::FaultInjected);
    }

    /// A request was held for as long as it was to be.
    pub(super) fn release(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        let Some(rare) = &mut self.rare else { return };
        let Some(held) = rare.held.take_if(|held| now >= held.until) else { return };
        rare.released = Some(now);
        self.clock.progress = now;
        match held.abort {
            Some(injected) => self.answer_injected(injected),
            None => {
                self.state = State::Trying;
                self.enter_cluster(now, snapshot, worker, view, observer);
            }
        }
    }

    /// Whether a fault holds the attempt that begins: it is sent, or answered, when that is over.
    #[cold]
    pub(super) fn is_held_back(&mut self, now: Instant, send: Action, worker: &mut Worker) -> bool {
        let Some(rare) = &mut self.rare else { return false };
        // A replay is the same attempt, and a fallback goes to somebody else.
        let is_rolled = !matches!(send, Action::Send { cause: Cause::Replay | Cause::Fallback, .. });
        let Some(odds) = rare.odds.filter(|_| is_rolled) else { return false };
        let Injection { delay, abort } = odds.roll(&mut worker.faults);
        if delay.is_none() && abort.is_none() {
            return false;
        }
        rare.is_delayed |= delay.is_some();
        rare.held = Some(Held { until: now + delay.unwrap_or_default(), abort, send: Some(send) });
        // To the request it looks as if an upstream had it.
        if let Some(attempt) = &mut self.attempt {
            attempt.is_connected = true;
        }
        if self.clock.per_try_timeout.is_some() {
            self.start_try(now);
        }
        if delay.is_none() {
            self.actions.set_due();
        }
        true
    }

    /// An attempt that was held for as long as it was to be. What answers it is told, where it is not to be sent.
    pub(super) fn release_attempt(&mut self, now: Instant) -> Option<Released> {
        let is_due = |held: &Held| now >= held.until;
        let rare = self.rare.as_mut()?;
        if !rare.held.as_ref().is_some_and(is_due) {
            let other = rare.beside.iter().flatten().find(|other| other.held.as_ref().is_some_and(is_due));
            let id = other?.attempt.id;
            self.bring_forward(id);
        }
        let held = self.rare.as_mut()?.held.take()?;
        match (held.abort, held.send) {
            (Some(injected), _) => Some(Released::Answered(injected)),
            (None, send) => {
                self.actions.push(send?);
                Some(Released::Sent)
            }
        }
    }

    /// An answer in the place of an upstream's is the answer.
    pub(super) fn end_injected(&mut self, now: Instant, injected: Injected) {
        self.conclude_answered(now, injected.status);
        if let Some(attempt) = &mut self.attempt {
            attempt.is_under_way = false;
        }
        self.answer_injected(injected);
    }

    /// Whether another attempt is to be made beside the first.
    pub(super) fn take_extra(&mut self) -> bool {
        let is_asked = self.clock.request_ended.is_some() && !self.falling().has_begun();
        match &mut self.rare {
            Some(rare) if rare.extra > 0 && is_asked => {
                rare.extra -= 1;
                true
            }
            _ => false,
        }
    }

    /// More attempts than one are wanted from the beginning, and can be made.
    pub(super) fn ask_for_extra(&mut self) {
        // What is tried instead is tried once.
        if self.state == State::Trying
            && !self.falling().has_begun()
            && self.clock.request_ended.is_some()
            && self.rare.as_ref().is_some_and(|rare| rare.extra > 0)
        {
            self.actions.set_due();
        }
    }

    /// The attempt that is under way goes on beside the one that begins.
    pub(super) fn set_beside(&mut self) {
        let Some(attempt) = self.attempt.filter(|attempt| attempt.is_under_way) else { return };
        let watch = self.watch.take();
        let rare = self.rare();
        let other = Beside { attempt, watch, held: rare.held.take() };
        if let Some(place) = rare.beside.iter_mut().find(|place| place.is_none()) {
            *place = Some(other);
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.is_under_way = false;
        }
    }

    /// News is about this attempt. `false` where it is not under way.
    #[inline]
    pub(super) fn has_news(&mut self, id: AttemptId) -> bool {
        self.attempt.is_some_and(|attempt| attempt.id == id && attempt.is_under_way)
            || (self.rare.is_some() && self.bring_forward(id))
    }

    #[cold]
    pub(super) fn bring_forward(&mut self, id: AttemptId) -> bool {
        if self.attempt.is_some_and(|attempt| attempt.id == id && attempt.is_under_way) {
            return true;
        }
        let Some(rare) = &mut self.rare else { return false };
        let is_it = |other: &&mut Option<Beside>| other.is_some_and(|other| other.attempt.id == id);
        let Some(Beside { attempt, watch, held }) = rare.beside.iter_mut().find(is_it).and_then(Option::take)
        else {
            return false;
        };
        self.set_beside();
        self.attempt = Some(attempt);
        self.watch = watch;
        self.rare().held = held;
        true
    }

    /// Where the attempt is over, others decide.
    #[cold]
    pub(super) fn go_on_with_another(&mut self) {
        if self.attempt.is_some_and(|attempt| attempt.is_under_way) {
            return;
        }
        let others = self.rare.iter().flat_map(|rare| rare.beside.iter().flatten());
        if let Some(newest) = others.map(|other| other.attempt.id).max() {
            self.bring_forward(newest);
        }
    }

    /// Every attempt but the one that the last news was about is given up.
    #[cold]
    pub(super) fn leave_others(&mut self, now: Instant) {
        let (Some(rare), Some(cluster)) = (&mut self.rare, self.cluster) else { return };
        rare.held = None;
        for (other, report) in rare.beside.iter_mut().zip(&mut rare.reports) {
            let Some(Beside { attempt, watch: Some(watch), .. }) = other.take() else { continue };
            *report = Some(report_of(cluster, &attempt, watch, AttemptResult::Abandoned, None, now));
        }
    }

    /// The answer that is given in an upstream's place.
    pub fn injected(&self) -> Option<Injected> {
        self.rare.as_ref().and_then(|rare| rare.injected)
    }

    /// Whether a fault has done anything to it, or may still.
    #[inline]
    pub fn is_in_fault(&self) -> bool {
        self.rare
            .as_ref()
            .is_some_and(|rare| rare.odds.is_some() || rare.is_delayed || rare.injected.is_some())
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_delayed)
    }

    /// Whether more attempts than one may be under way at a time.
    #[inline]
    pub fn may_hedge(&self) -> bool {
        let is_rare = self.rare.as_ref().is_some_and(|rare| rare.extra > 0);
        is_rare || self.recovery.as_ref().is_some_and(|it| it.hedges() && it.retries_left() > 0)
    }

    /// The attempts under way beside the one that the last news was about.
    pub fn beside(&self) -> impl Iterator<Item = (AttemptId, EndpointId)> {
        let others = self.rare.iter().flat_map(|rare| rare.beside.iter().flatten());
        others.map(|other| (other.attempt.id, other.attempt.endpoint))
    }
}

pub(super) fn report_of(
    cluster: ClusterId,
    attempt: &Attempt,
    watch: Watch,
    result: AttemptResult,
    head: Option<Instant>,
    now: Instant,
) -> Report {
    let head = head.filter(|head| *head >= watch.began);
    Report {
        cluster,
        endpoint: attempt.endpoint,
        result,
        duration: now.since(watch.began),
        until_head: head.unwrap_or(now).since(watch.began),
        ticket: watch.ticket,
    }
}
