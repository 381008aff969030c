//! Attempts of one request: what becomes of each, and whether another is made.
//!
//! Whether an answer or a failure is retried is for `naru_recover::Recovery` to say, with what the cluster bears
//! ([`View::retry_load`]); what became of an attempt is reported to whoever guards the cluster.

use http::HeaderMap;
use naru_balance::Tried;
use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_guard::{AttemptResult, Grpc};
use naru_recover::{
    Circumstances, CompiledRetry, Done, FailureKind, Head, Recovery, RouteRecovery, Step, Verdict as Repeat,
};
use naru_route::RuleId;

use super::rare::Released;
use super::{Attempt, Journey, State, Watch};
use crate::worker::Chosen;
use crate::{Action, Admission, AttemptEvent, Cause, Failure, Observer, Snapshot, Stage, View, Worker};

impl Journey {
    /// An attempt has a connection: how long it takes is the endpoint's affair from here on.
    #[inline]
    pub fn on_connected(&mut self, now: Instant, id: AttemptId) {
        if self.rare.is_some() {
            self.bring_forward(id);
        }
        let is_it = |attempt: &&mut Attempt| attempt.id == id && !attempt.is_connected;
        if let Some(attempt) = self.attempt.as_mut().filter(is_it) {
            attempt.is_connected = true;
            self.clock.progress = now;
            if self.clock.per_try_timeout.is_some() {
                self.start_try(now);
            }
        }
    }

    /// The time of one try runs once it has a connection and the whole request.
    #[cold]
    pub(super) fn start_try(&mut self, now: Instant) {
        let is_whole = self.clock.request_ended.is_some() && self.state == State::Trying;
        let is_connected = self.attempt.is_some_and(|attempt| attempt.is_connected && attempt.is_under_way);
        if let Some(recovery) = self.recovery.as_mut().filter(|_| is_whole && is_connected) {
            recovery.start_clock(now, self.clock.per_try_timeout);
        }
    }

    /// News of an attempt. News of one that was given up is not news. Where the request goes to another endpoint,
    /// `worker` picks it.
    #[inline(always)]
    pub fn on_attempt(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        id: AttemptId,
        event: AttemptEvent,
        worker: &mut Worker,
        view: &impl View,
    ) {
        if self.state != State::Trying || !self.has_news(id) {
            return;
        }
        self.clock.progress = now;
        match event {
            AttemptEvent::Head { status: 101, .. } => self.on_switched(now, snapshot, id, 101, worker, view),
            AttemptEvent::Head { status: status @ 200..=299, .. } if self.request.is_connect => {
                self.on_switched(now, snapshot, id, status, worker, view);
            }
            AttemptEvent::Head { status, has_ended, headers, is_replayable } => {
                if self.is_retried(now, snapshot, status, headers, is_replayable, worker, view) {
                    return;
                }
                let is_policed = self.policed.is_some();
                if is_policed
                    && (self.is_answered_from_cache(now, status)
                        || self.is_replaced(now, snapshot, status, is_replayable, worker, view))
                {
                    return;
                }
                self.state = State::Streaming;
                self.status = status;
                self.reason = Reason::Forwarded;
                self.clock.head.get_or_insert(now);
                let tells = has_ended || !self.request.is_grpc || self.grpc_status.is_some();
                if tells && let Some(watch) = self.watch {
                    self.conclude_answered(now, status);
                    if !has_ended {
                        self.watch = Some(Watch { ticket: None, is_told: true, ..watch });
                    }
                }
                if is_policed {
                    self.remember_write(now, snapshot, view);
                    if tells {
                        self.tell_breakers(now, snapshot, view);
                    }
                }
                if self.rare.is_some() {
                    self.leave_others(now);
                }
                self.actions.push(Action::Forward { attempt: id });
                if has_ended {
                    self.end(now, Reason::Forwarded);
                }
            }
            AttemptEvent::Failed(failure) => {
                self.on_failure(now, snapshot, &failure, worker, view);
            }
        }
    }

    #[inline]
    pub(super) fn conclude_answered(&mut self, now: Instant, status: u16) {
        // As in Envoy, it says something of its endpoint only where it was asked for by gRPC.
        let grpc = self.grpc_status.filter(|_| self.request.is_grpc).map_or(Grpc::None, Grpc::Head);
        self.conclude(now, |_| AttemptResult::Answered { status, grpc });
    }

    /// Whether another attempt takes the place of this answer.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "this is all that a retry is decided by")]
    fn is_retried(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        status: u16,
        headers: Option<&HeaderMap>,
        is_replayable: bool,
        worker: &mut Worker,
        view: &impl View,
    ) -> bool {
        let policy = self.policy(snapshot);
        let none;
        let headers = match headers {
            Some(headers) => headers,
            None => {
                none = HeaderMap::new();
                &none
            }
        };
        let head = Head { status, grpc_status: self.grpc_status, headers };
        let (Some(attempt), Some(recovery)) = (&self.attempt, &mut self.recovery) else { return false };
        let id = attempt.id;
        if recovery.is_settled_by(id, policy, &head) {
            self.done = Some(Done::NotRetriable);
            return false;
        }
        self.on_bad_head(now, snapshot, id, &head, is_replayable, worker, view)
    }

    #[cold]
    #[expect(clippy::too_many_arguments, reason = "as of is_retried")]
    fn on_bad_head(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        id: AttemptId,
        head: &Head<'_>,
        is_replayable: bool,
        worker: &mut Worker,
        view: &impl View,
    ) -> bool {
        let Some(mut recovery) = self.recovery.take() else { return false };
        let policy = self.policy(snapshot);
        let circumstances = || self.circumstances(now, snapshot, is_replayable, view);
        let verdict = recovery.on_head(now, id, policy, head, circumstances, &mut worker.waits);
        self.recovery = Some(recovery);
        match verdict {
            Repeat::Done(done) => {
                self.give_up_retrying(now, done, view);
                false
            }
            Repeat::RetryAfter(_) | Repeat::Replay | Repeat::Await => {
                self.conclude_answered(now, head.status);
                // Where there is nobody to try again.
                self.reason = Reason::NoHealthyUpstream;
                self.give_attempt_up();
                if verdict == Repeat::Await {
                    self.go_on_with_another();
                }
                true
            }
        }
    }

    /// No other attempt is made, which those who are further away from the failure need to know.
    fn give_up_retrying(&mut self, now: Instant, done: Done, view: &impl View) {
        self.done = Some(done);
        if done.is_told() && self.trace != 0 {
            view.tell_retried(now, self.trace);
        }
    }

    pub(super) fn give_attempt_up(&mut self) {
        self.grpc_status = None;
        if let Some(rare) = &mut self.rare {
            rare.let_go();
        }
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.is_under_way) {
            attempt.is_under_way = false;
            self.actions.push(Action::Cancel { attempt: attempt.id });
        }
    }

    #[cold]
    fn on_failure(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        failure: &Failure,
        worker: &mut Worker,
        view: &impl View,
    ) {
        let Some(Attempt { endpoint, .. }) = self.attempt else { return };
        let verdict = self.after_failure(now, snapshot, failure, worker, view);
        self.conclude(now, |_| match (verdict, failure.stage, failure.reason) {
            // That a connection was closed while it waited says nothing about the endpoint.
            (Repeat::Replay, ..) => AttemptResult::Abandoned,
            // It was never asked.
            (_, _, Reason::Overflow) => AttemptResult::Abandoned,
            (_, Stage::Connect, Reason::ConnectTimeout) => AttemptResult::TimedOut { is_connected: false },
            (_, Stage::Connect | Stage::Secure, _) => AttemptResult::ConnectFailed,
            (_, Stage::Exchange, _) => AttemptResult::Reset,
        });
        if let Some(attempt) = &mut self.attempt {
            attempt.is_under_way = false;
        }
        self.reason = failure.reason;
        match verdict {
            Repeat::Done(done) => {
                self.give_up_retrying(now, done, view);
                // What was not sent is still here.
                let is_unseen = failure.sent == naru_recover::Sent::No;
                let is_here = failure.is_replayable || failure.stage != Stage::Exchange;
                let may_send = is_here && (is_unseen || self.is_repeatable(snapshot));
                self.answer_failed(now, snapshot, failure.reason, may_send, worker, view);
            }
            Repeat::Replay => self.admit_and_send(now, snapshot, endpoint, Cause::Replay, worker, view),
            Repeat::RetryAfter(_) => {}
            Repeat::Await => self.go_on_with_another(),
        }
    }

    fn after_failure(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        failure: &Failure,
        worker: &mut Worker,
        view: &impl View,
    ) -> Repeat {
        let (Some(attempt), Some(mut recovery)) = (self.attempt, self.recovery.take()) else {
            return Repeat::Done(Done::NotRetriable);
        };
        let kind = match (failure.stage, failure.reason) {
            (_, Reason::Overflow) => FailureKind::Overflow,
            (Stage::Connect | Stage::Secure, _) => FailureKind::Connect,
            (Stage::Exchange, Reason::UpstreamRefused) => FailureKind::RefusedStream,
            (Stage::Exchange, _) => FailureKind::Reset,
        };
        // Who resets a stream has not closed its connection.
        let is_reused = failure.is_reused && failure.reason != Reason::UpstreamReset;
        let what = naru_recover::Failure { kind, sent: failure.sent, is_reused };
        let circumstances = self.circumstances(now, snapshot, failure.is_replayable, view);
        let policy = self.policy(snapshot);
        let verdict = recovery.on_failure(now, attempt.id, policy, what, &circumstances, &mut worker.waits);
        self.recovery = Some(recovery);
        verdict
    }

    /// After [`Action::Due`]: the next attempt begins, or one has taken too long. `is_replayable` says whether the
    /// shell still has all of the request.
    #[cold]
    pub fn on_due(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        is_replayable: bool,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        match self.state {
            State::Held => return self.release(now, snapshot, worker, view, observer),
            State::Trying => {}
            _ => return,
        }
        match self.release_attempt(now) {
            None => {}
            // Something else may be due as well.
            Some(Released::Sent) => return self.actions.set_due(),
            Some(Released::Answered(injected)) => {
                let status = injected.status;
                self.grpc_status = injected.grpc_status;
                if !self.is_retried(now, snapshot, status, None, is_replayable, worker, view)
                    && !self.is_replaced(now, snapshot, status, is_replayable, worker, view)
                {
                    self.end_injected(now, injected);
                }
                return self.ask_for_extra();
            }
        }
        if self.take_extra() {
            if is_replayable {
                self.try_again(now, snapshot, Cause::Hedge, worker, view, observer);
            }
            return self.ask_for_extra();
        }
        let Some(mut recovery) = self.recovery.take() else { return };
        let circumstances = self.circumstances(now, snapshot, is_replayable, view);
        let policy = self.policy(snapshot);
        let idle = self.rare.as_deref().and_then(|rare| self.idle_try_end(rare));
        let (step, reason) = match self.attempt.filter(|_| idle.is_some_and(|end| now >= end)) {
            Some(Attempt { id, .. }) => {
                self.clock.progress = now;
                let verdict = recovery.on_per_try_timeout(now, id, policy, &circumstances, &mut worker.waits);
                (Some(Step::TimedOut { attempt: id, verdict }), Reason::PerTryIdle)
            }
            None => (recovery.tick(now, policy, &circumstances, &mut worker.waits), Reason::PerTryTimeout),
        };
        self.recovery = Some(recovery);
        match step {
            None => {}
            Some(Step::Try) => self.try_again(now, snapshot, Cause::Retry, worker, view, observer),
            Some(Step::TimedOut { attempt, verdict }) => {
                let may_send = is_replayable && self.is_repeatable(snapshot);
                self.on_slow_try(now, snapshot, attempt, (verdict, reason), may_send, worker, view);
            }
        }
    }

    /// A try took too long. It may go on, with another one beside it.
    #[expect(clippy::too_many_arguments, reason = "this is all that is decided by")]
    fn on_slow_try(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        id: AttemptId,
        (verdict, reason): (Repeat, Reason),
        may_send: bool,
        worker: &mut Worker,
        view: &impl View,
    ) {
        if !self.has_news(id) {
            return;
        }
        self.conclude(now, |attempt| AttemptResult::TimedOut { is_connected: attempt.is_connected });
        let goes_on = self.recovery.as_ref().is_some_and(|recovery| recovery.is_under_way(id));
        if goes_on && !matches!(verdict, Repeat::Done(_)) {
            return;
        }
        self.reason = reason;
        self.give_attempt_up();
        match verdict {
            Repeat::Done(done) => {
                self.give_up_retrying(now, done, view);
                self.answer_failed(now, snapshot, reason, may_send, worker, view);
            }
            Repeat::Await => self.go_on_with_another(),
            Repeat::RetryAfter(_) | Repeat::Replay => {}
        }
    }

    fn try_again(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cause: Cause,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        let (Some(cluster), Some(recovery)) = (self.cluster, &self.recovery) else { return };
        let policy = self.policy(snapshot);
        let chosen = Chosen { tried: Tried::of_bits(recovery.avoided(policy)), ..self.chosen };
        let picked = recovery.choose(policy, || self.pick(now, snapshot, cluster, &chosen, worker, view));
        observer.picked(cluster, picked);
        match picked {
            Some(endpoint) => {
                self.set_beside();
                self.admit_and_send(now, snapshot, endpoint, cause, worker, view);
            }
            None => self.try_no_more(now, snapshot, None, worker, view),
        }
    }

    /// There is nobody to try, or nobody may be: where nothing else is under way, that is the end.
    fn try_no_more(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        done: Option<Done>,
        worker: &mut Worker,
        view: &impl View,
    ) {
        self.go_on_with_another();
        let is_under_way = self.attempt.is_some_and(|attempt| attempt.is_under_way);
        if let Some(recovery) = self.recovery.as_mut().filter(|_| is_under_way) {
            return recovery.withdraw();
        }
        self.done = done.or(self.done);
        self.answer_failed(now, snapshot, self.reason, true, worker, view);
    }

    fn admit_and_send(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        endpoint: EndpointId,
        cause: Cause,
        worker: &mut Worker,
        view: &impl View,
    ) {
        let Some(cluster) = self.cluster else { return };
        match worker.enter(now, cluster, view) {
            Admission::Unguarded => {}
            Admission::Admitted(ticket) => self.watch(now, ticket),
            // A breaker that has opened meanwhile ends retries.
            Admission::Refused { retry_after, .. } => {
                self.retry_after = retry_after;
                return self.try_no_more(now, snapshot, Some(Done::BreakerOpen), worker, view);
            }
        }
        self.send(now, cluster, endpoint, cause, worker);
    }

    /// What the rule says of failures.
    #[inline]
    pub(super) fn of_route<'a>(&self, snapshot: &'a Snapshot) -> &'a RouteRecovery {
        let chain = snapshot.chain(self.chain);
        let rule = self.rule().map_or(RuleId(0), |(rule, _)| rule);
        chain.recovery(rule)
    }

    #[inline]
    fn policy<'a>(&self, snapshot: &'a Snapshot) -> &'a CompiledRetry {
        if self.policed.is_some() && self.falling().has_begun() {
            return snapshot.no_retry();
        }
        &self.of_route(snapshot).retry
    }

    #[cold]
    fn circumstances(
        &self,
        now: Instant,
        snapshot: &Snapshot,
        is_replayable: bool,
        view: &impl View,
    ) -> Circumstances {
        let deadline = self.span().end();
        let (load, limit) = match self.cluster {
            Some(cluster) => {
                let limit = snapshot.cluster(cluster).limits.normal.retries;
                (view.retry_load(now, cluster, limit), limit)
            }
            None => Default::default(),
        };
        // Whether a breaker is open is asked where the next attempt begins.
        let (wall, is_breaker_open) = (view.wall(), false);
        let was_retried = self.trace != 0 && view.was_retried(self.trace, self.clock.began);
        Circumstances { wall, deadline, is_replayable, is_breaker_open, was_retried, load, limit }
    }

    /// Whether the request may be sent more than once.
    #[inline]
    pub fn may_retry(&self) -> bool {
        let may_retry = |recovery: &Recovery| recovery.retries_left() > 0 && !recovery.on().is_empty();
        self.falling().may_send() || self.recovery.as_ref().is_some_and(may_retry) || self.may_hedge()
    }

    /// Whether no attempt is in the shell's hands: one is over and the next has not begun, or a fault holds it.
    pub fn is_between_attempts(&self) -> bool {
        match self.state {
            State::Held => true,
            State::Trying => {
                let is_held = self.rare.as_ref().is_some_and(|rare| rare.held_until().is_some());
                is_held || self.attempt.is_none_or(|attempt| !attempt.is_under_way)
            }
            _ => false,
        }
    }

    /// How many more retries may be made.
    pub fn retries_left(&self) -> u32 {
        self.recovery.as_ref().map_or(0, Recovery::retries_left)
    }

    /// Where its attempts go, now or at last.
    #[inline]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Where a retry of it counts right now.
    pub fn retrying_at(&self) -> Option<ClusterId> {
        self.cluster.filter(|_| self.is_retrying())
    }

    /// Whether a retry of it counts at its cluster right now.
    #[inline]
    pub fn is_retrying(&self) -> bool {
        self.state != State::Ended && self.recovery.as_ref().is_some_and(Recovery::is_retrying)
    }

    /// A caller that is trusted is told not to retry, where that was done here or nearer to the failure; others are told
    /// nothing.
    #[inline]
    pub fn tell_caller(&self, headers: &mut HeaderMap) {
        if !self.request.is_trusted {
            headers.remove(naru_recover::layer::RETRIES);
        } else if self.done.is_some_and(Done::is_told) {
            naru_recover::layer::tell_caller(headers, true);
        }
    }

    /// Why no other attempt was made, where that was asked.
    pub fn done(&self) -> Option<Done> {
        self.done
    }
}
