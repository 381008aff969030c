//! Attempts of one request: what becomes of each, and whether another is made.
//!
//! Whether an answer or a failure is retried is for `naru_recover::Recovery` to say, with what the cluster bears
//! ([`View::retry_load`]); what became of an attempt is reported to whoever guards the cluster.

use http::HeaderMap;
use naru_balance::Tried;
use naru_base::{AttemptId, EndpointId, Instant, Reason, WallTime};
use naru_guard::{AttemptResult, Grpc};
use naru_recover::{
    Circumstances, CompiledRetry, Done, FailureKind, Head, Recovery, Step, Verdict as Repeat,
};
use naru_route::RuleId;

use super::{Attempt, Journey, State, Watch};
use crate::worker::Chosen;
use crate::{Action, Admission, AttemptEvent, Cause, Failure, Observer, Snapshot, Stage, View, Worker};

impl Journey {
    /// An attempt has a connection: how long it takes is the endpoint's affair from here on.
    #[inline]
    pub fn on_connected(&mut self, now: Instant, id: AttemptId) {
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.id == id) {
            attempt.is_connected = true;
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
        let is_news = |attempt: &Attempt| attempt.id == id && attempt.is_under_way;
        let Some(current) = self.attempt.filter(is_news) else { return };
        if self.state != State::Trying {
            return;
        }
        self.clock.progress = now;
        match event {
            AttemptEvent::Head { status, has_ended, headers, is_replayable } => {
                if self.is_retried(now, snapshot, status, headers, is_replayable, worker, view) {
                    return;
                }
                self.state = State::Streaming;
                self.status = status;
                self.reason = Reason::Forwarded;
                self.clock.head.get_or_insert(now);
                if has_ended || !self.request.is_grpc || self.grpc_status.is_some() {
                    let watch = self.watch;
                    self.conclude_answered(now, status);
                    if !has_ended {
                        self.watch = watch.map(|watch| Watch { ticket: None, is_told: true, ..watch });
                    }
                }
                self.actions.push(Action::Forward { attempt: id });
                if has_ended {
                    self.end(now, Reason::Forwarded);
                }
            }
            AttemptEvent::Failed(failure) => {
                self.on_failure(now, snapshot, current.endpoint, &failure, worker, view);
            }
        }
    }

    #[inline]
    fn conclude_answered(&mut self, now: Instant, status: u16) {
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
        let (Some(attempt), Some(mut recovery)) = (self.attempt, self.recovery.take()) else { return false };
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
        let circumstances = || self.circumstances(snapshot, is_replayable, view);
        let verdict = recovery.on_head(now, attempt.id, policy, &head, circumstances, &mut worker.waits);
        self.recovery = Some(recovery);
        match verdict {
            Repeat::Done(done) => {
                self.done = Some(done);
                false
            }
            Repeat::RetryAfter(_) | Repeat::Replay | Repeat::Await => {
                self.conclude_answered(now, status);
                // Where there is nobody to try again.
                self.reason = Reason::NoHealthyUpstream;
                self.give_attempt_up();
                true
            }
        }
    }

    fn give_attempt_up(&mut self) {
        self.grpc_status = None;
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
        endpoint: EndpointId,
        failure: &Failure,
        worker: &mut Worker,
        view: &impl View,
    ) {
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
                self.done = Some(done);
                self.answer(failure.reason);
            }
            Repeat::Replay => self.admit_and_send(now, endpoint, Cause::Replay, worker, view),
            Repeat::RetryAfter(_) | Repeat::Await => {}
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
        let circumstances = self.circumstances(snapshot, failure.is_replayable, view);
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
        if self.state != State::Trying {
            return;
        }
        let Some(mut recovery) = self.recovery.take() else { return };
        let circumstances = self.circumstances(snapshot, is_replayable, view);
        let step = recovery.tick(now, self.policy(snapshot), &circumstances, &mut worker.waits);
        self.recovery = Some(recovery);
        match step {
            None => {}
            Some(Step::Try) => self.try_again(now, snapshot, worker, view, observer),
            Some(Step::TimedOut { verdict, .. }) => {
                self.conclude(now, |attempt| AttemptResult::TimedOut { is_connected: attempt.is_connected });
                self.reason = Reason::PerTryTimeout;
                self.give_attempt_up();
                if let Repeat::Done(done) = verdict {
                    self.done = Some(done);
                    self.answer(Reason::PerTryTimeout);
                }
            }
        }
    }

    fn try_again(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        let (Some(cluster), Some(recovery)) = (self.cluster, &self.recovery) else { return };
        let policy = self.policy(snapshot);
        let chosen = Chosen { tried: Tried::of_bits(recovery.avoided(policy)), ..self.chosen };
        let picked = recovery.choose(policy, || worker.pick(now, snapshot, cluster, &chosen, view));
        observer.picked(cluster, picked);
        match picked {
            Some(endpoint) => self.admit_and_send(now, endpoint, Cause::Retry, worker, view),
            // They are all gone meanwhile.
            None => self.answer(self.reason),
        }
    }

    fn admit_and_send(
        &mut self,
        now: Instant,
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
            Admission::Refused(_) => {
                self.done = Some(Done::BreakerOpen);
                return self.answer(self.reason);
            }
        }
        self.send(cluster, endpoint, cause);
    }

    /// What the rule says of retries.
    #[inline]
    pub(super) fn policy<'a>(&self, snapshot: &'a Snapshot) -> &'a CompiledRetry {
        let chain = snapshot.chain(self.chain);
        let rule = self.rule().map_or(RuleId(0), |(rule, _)| rule);
        &chain.recovery(rule).retry
    }

    #[cold]
    fn circumstances(&self, snapshot: &Snapshot, is_replayable: bool, view: &impl View) -> Circumstances {
        let deadline = match (self.clock.request_ended, self.clock.response_timeout) {
            (Some(ended), Some(timeout)) => Some(ended + timeout),
            _ => None,
        };
        let (load, limit) = match self.cluster {
            Some(cluster) => (view.retry_load(cluster), snapshot.cluster(cluster).limits.normal.retries),
            None => Default::default(),
        };
        // Whether a breaker is open is asked where the next attempt begins.
        let (wall, is_breaker_open) = (WallTime::default(), false);
        Circumstances { wall, deadline, is_replayable, is_breaker_open, load, limit }
    }

    /// Whether the request may be sent more than once.
    #[inline]
    pub fn may_retry(&self) -> bool {
        self.recovery
            .as_ref()
            .is_some_and(|recovery| recovery.retries_left() > 0 && !recovery.on().is_empty())
    }

    /// Whether one attempt is over, and the next has not begun.
    pub fn is_between_attempts(&self) -> bool {
        self.state == State::Trying && self.attempt.is_none_or(|attempt| !attempt.is_under_way)
    }

    /// How many more retries may be made.
    pub fn retries_left(&self) -> u32 {
        self.recovery.as_ref().map_or(0, Recovery::retries_left)
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
