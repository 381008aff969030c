//! The machine of one request.
//!
//! | state     | event                                   | next      | action                      |
//! |-----------|-----------------------------------------|-----------|-----------------------------|
//! | (begin)   | a rule forwards, an endpoint is there   | Trying    | Send                        |
//! | (begin)   | anything else                           | Answering | Reply                       |
//! | Trying    | attempt: head                           | Streaming | Forward                     |
//! | Trying    | attempt failed, may be repeated         | Trying    | Send, on a fresh connection |
//! | Trying    | attempt failed                          | Answering | Reply                       |
//! | Trying    | request aborted                         | Answering | Cancel, Reply               |
//! | Trying    | deadline                                | Answering | Cancel, Reply               |
//! | Streaming | response: end, trailers                 | Ended     |                             |
//! | Streaming | response aborted                        | Ended     | Break                       |
//! | Streaming | request aborted, deadline               | Ended     | Cancel, Break               |
//! | Answering | response: end                           | Ended     |                             |
//! | any       | abandoned                               | Ended     |                             |
//! | Ended     | anything                                | Ended     |                             |
//!
//! Whoever drives it calls one `on_...`, then takes [`Journey::next_action`] until there is none, and
//! calls [`Journey::tick`] no later than [`Journey::deadline`].

use std::time::Duration;

use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_route::{Choice, CompiledAction, CompiledForward, RuleId, Subject, Verdict};

use crate::{
    Action, AttemptEvent, ChainId, Failure, Milestone, Observer, RequestFacts, Sent, Snapshot, View, Wait,
    Worker,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Streaming,
    Answering,
    Ended,
}

#[derive(Debug)]
pub struct Journey {
    chain: ChainId,
    state: State,
    actions: Actions,
    verdict: Verdict,
    /// The draw that fractions and the choice of a cluster came from.
    draw: u64,
    cluster: Option<ClusterId>,
    /// Which of a rule's clusters was chosen.
    choice: Option<Choice>,
    attempt: Option<Attempt>,
    next_attempt: u16,
    request: RequestFacts,
    clock: Clock,
    reason: Reason,
    /// Of the response; 0 until there is one.
    status: u16,
    grpc_status: Option<u8>,
}

/// The attempt that is in flight.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    id: AttemptId,
    endpoint: EndpointId,
}

/// The moments of a request, and how long each wait may last.
#[derive(Clone, Copy, Debug)]
struct Clock {
    began: Instant,
    request_ended: Option<Instant>,
    head: Option<Instant>,
    progress: Instant,
    ended: Option<Instant>,
    request_timeout: Option<Duration>,
    response_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
}

/// What remains of a request: what is logged, counted and traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub reason: Reason,
    /// The status that the client saw; 0 where it saw none.
    pub status: u16,
    pub grpc_status: Option<u8>,
    pub verdict: Verdict,
    pub cluster: Option<ClusterId>,
    /// Of the last attempt.
    pub endpoint: Option<EndpointId>,
    /// How many attempts were made.
    pub attempts: u16,
    pub began: Instant,
    pub request_ended: Option<Instant>,
    pub head: Option<Instant>,
    pub ended: Instant,
}

impl Journey {
    /// Decides everything that a head decides. The subject's draw must come from
    /// [`Worker::draw_request`] of the same worker.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "this is all that one request is decided by")]
    pub fn begin(
        now: Instant,
        snapshot: &Snapshot,
        chain_id: ChainId,
        subject: &Subject<'_>,
        request: RequestFacts,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) -> Journey {
        let chain = snapshot.chain(chain_id);
        let verdict = chain.table.find(subject, observer);
        observer.routed(verdict);
        let mut journey = Journey {
            chain: chain_id,
            state: State::Trying,
            actions: Actions::default(),
            verdict,
            draw: subject.draw,
            cluster: None,
            choice: None,
            attempt: None,
            next_attempt: 0,
            request,
            clock: Clock {
                began: now,
                request_ended: request.has_ended.then_some(now),
                head: None,
                progress: now,
                ended: None,
                request_timeout: chain.http.request_timeout,
                response_timeout: None,
                idle_timeout: chain.http.stream_idle_timeout,
            },
            reason: Reason::NoRoute,
            status: 0,
            grpc_status: None,
        };
        match verdict {
            Verdict::Rule { rule, .. } => match &chain.table.rule(rule).action {
                CompiledAction::Forward(forward) => journey.forward(forward, worker, view, observer),
                CompiledAction::Redirect(_) => journey.answer(Reason::Redirect),
                CompiledAction::Direct(_) => journey.answer(Reason::DirectResponse),
            },
            Verdict::RequiresTls { .. } => journey.answer(Reason::Redirect),
            Verdict::NoVirtualHost | Verdict::NoRule { .. } => journey.answer(Reason::NoRoute),
        }
        journey
    }

    /// A request whose head cannot be routed at all: it is answered with `reason`.
    pub fn refuse(now: Instant, chain: ChainId, reason: Reason) -> Journey {
        let mut journey = Journey {
            chain,
            state: State::Answering,
            actions: Actions::default(),
            verdict: Verdict::NoVirtualHost,
            draw: 0,
            cluster: None,
            choice: None,
            attempt: None,
            next_attempt: 0,
            request: RequestFacts { is_idempotent: false, has_ended: true, timeout_ms: None },
            clock: Clock {
                began: now,
                request_ended: None,
                head: None,
                progress: now,
                ended: None,
                request_timeout: None,
                response_timeout: None,
                idle_timeout: None,
            },
            reason,
            status: 0,
            grpc_status: None,
        };
        journey.answer(reason);
        journey
    }

    #[inline]
    fn forward(
        &mut self,
        forward: &CompiledForward,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        self.clock.response_timeout = match self.request.timeout_ms {
            None => forward.timeout,
            Some(0) => None,
            Some(asked) => Some(Duration::from_millis(asked)),
        };
        if let Some(own) = forward.idle_timeout {
            self.clock.idle_timeout = own;
        }
        let choice = forward.choose(self.draw);
        self.choice = Some(choice);
        let Some(cluster) = choice.cluster else {
            return self.answer(Reason::NoCluster);
        };
        self.cluster = Some(cluster);
        let endpoint = worker.pick(cluster, view);
        observer.picked(cluster, endpoint);
        match endpoint {
            Some(endpoint) => self.send(cluster, endpoint, false),
            None => self.answer(Reason::NoHealthyUpstream),
        }
    }

    #[inline]
    fn send(&mut self, cluster: ClusterId, endpoint: EndpointId, is_fresh: bool) {
        let id = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.attempt = Some(Attempt { id, endpoint });
        self.actions.push(Action::Send { attempt: id, cluster, endpoint, is_fresh });
    }

    fn answer(&mut self, reason: Reason) {
        self.reason = reason;
        self.state = State::Answering;
        self.actions.push(Action::Reply(reason));
    }

    /// News of an attempt. News of one that was given up is not news.
    #[inline]
    pub fn on_attempt(&mut self, now: Instant, id: AttemptId, event: AttemptEvent) {
        let Some(current) = self.attempt.filter(|attempt| attempt.id == id) else { return };
        if self.state != State::Trying {
            return;
        }
        self.clock.progress = now;
        match event {
            AttemptEvent::Head { status, has_ended } => {
                self.state = State::Streaming;
                self.status = status;
                self.reason = Reason::Forwarded;
                self.clock.head = Some(now);
                self.actions.push(Action::Forward { attempt: id });
                if has_ended {
                    self.end(now, Reason::Forwarded);
                }
            }
            AttemptEvent::Failed(failure) => match self.cluster {
                Some(cluster) if self.may_repeat(&failure) => self.send(cluster, current.endpoint, true),
                _ => self.answer(failure.reason),
            },
        }
    }

    /// A connection that was closed while it waited says nothing about the endpoint, and an upstream
    /// that has not seen the request cannot have acted on it.
    fn may_repeat(&self, failure: &Failure) -> bool {
        let is_safe = match failure.sent {
            Sent::No => true,
            Sent::Maybe => self.request.is_idempotent,
            Sent::Yes => false,
        };
        failure.is_reused && failure.is_replayable && is_safe
    }

    /// News of the request's body.
    pub fn on_request_body(&mut self, now: Instant, milestone: Milestone) {
        if self.state == State::Ended {
            return;
        }
        self.clock.progress = now;
        match milestone {
            Milestone::FirstByte => {}
            Milestone::End | Milestone::Trailers { .. } => {
                self.clock.request_ended.get_or_insert(now);
            }
            Milestone::Aborted => self.give_up(now, Reason::ClientAborted),
        }
    }

    /// News of the body of the response, forwarded or the proxy's own.
    #[inline]
    pub fn on_response_body(&mut self, now: Instant, milestone: Milestone) {
        if self.state == State::Ended {
            return;
        }
        self.clock.progress = now;
        match milestone {
            Milestone::FirstByte => {}
            Milestone::End => self.end(now, self.reason),
            Milestone::Trailers { grpc_status } => {
                self.grpc_status = grpc_status;
                self.end(now, self.reason);
            }
            Milestone::Aborted => {
                self.end(now, Reason::UpstreamAborted);
                self.actions.push(Action::Break(Reason::UpstreamAborted));
            }
        }
    }

    /// The head of the proxy's own answer went out with this status.
    pub fn on_reply(&mut self, now: Instant, status: u16, grpc_status: Option<u8>) {
        if self.state == State::Answering {
            self.status = status;
            self.grpc_status = grpc_status;
            self.clock.head.get_or_insert(now);
        }
    }

    /// The head of the response says how the call went (a gRPC response without a body).
    pub fn on_grpc_status(&mut self, status: u8) {
        self.grpc_status = Some(status);
    }

    /// Bytes moved, in either direction.
    #[inline]
    pub fn on_progress(&mut self, now: Instant) {
        self.clock.progress = now;
    }

    /// Nobody waits for the response any more.
    pub fn on_abandoned(&mut self, now: Instant) {
        if self.state != State::Ended {
            self.actions = Actions::default();
            self.end(now, Reason::ClientGone);
        }
    }

    /// Time passed. Does nothing before [`Journey::deadline`].
    pub fn tick(&mut self, now: Instant) {
        let Some((deadline, wait)) = self.deadline() else { return };
        if now >= deadline {
            self.give_up(now, wait.reason());
        }
    }

    fn give_up(&mut self, now: Instant, reason: Reason) {
        match self.state {
            State::Trying => {
                self.clock.progress = now;
                if let Some(attempt) = self.attempt {
                    self.actions.push(Action::Cancel { attempt: attempt.id });
                }
                self.answer(reason);
            }
            State::Streaming | State::Answering => {
                if let Some(attempt) = self.attempt.filter(|_| self.state == State::Streaming) {
                    self.actions.push(Action::Cancel { attempt: attempt.id });
                }
                self.end(now, reason);
                self.actions.push(Action::Break(reason));
            }
            State::Ended => {}
        }
    }

    #[inline]
    fn end(&mut self, now: Instant, reason: Reason) {
        self.state = State::Ended;
        self.reason = reason;
        self.clock.ended = Some(now);
    }

    /// What is to be done next; `None` when it is somebody else's turn.
    #[inline]
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.take()
    }

    /// The next moment at which [`Journey::tick`] would do something, and what is waited for.
    #[inline]
    pub fn deadline(&self) -> Option<(Instant, Wait)> {
        if self.state == State::Ended {
            return None;
        }
        let clock = &self.clock;
        let mut next: Option<(Instant, Wait)> = None;
        let mut consider = |at: Instant, wait: Wait| {
            if next.is_none_or(|(earliest, _)| at < earliest) {
                next = Some((at, wait));
            }
        };
        match (clock.request_ended, clock.request_timeout, clock.response_timeout) {
            (Some(ended), _, Some(timeout)) if self.state != State::Answering => {
                consider(ended + timeout, Wait::Response);
            }
            (None, Some(timeout), _) if self.state != State::Answering => {
                consider(clock.began + timeout, Wait::Request);
            }
            _ => {}
        }
        if let Some(timeout) = clock.idle_timeout {
            consider(clock.progress + timeout, Wait::Progress);
        }
        next
    }

    pub fn chain(&self) -> ChainId {
        self.chain
    }

    pub fn began(&self) -> Instant {
        self.clock.began
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The rule that took the request, and how many bytes of the path it matched.
    #[inline]
    pub fn rule(&self) -> Option<(RuleId, u32)> {
        match self.verdict {
            Verdict::Rule { rule, matched } => Some((rule, matched)),
            _ => None,
        }
    }

    /// Which of the rule's clusters was chosen, where it forwards.
    #[inline]
    pub fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// How long the response may take, from the end of the request.
    pub fn response_timeout(&self) -> Option<Duration> {
        self.clock.response_timeout
    }

    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Why it ended; meaningful once it has.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the request had arrived whole.
    pub fn has_whole_request(&self) -> bool {
        self.clock.request_ended.is_some()
    }

    /// What remains, once it has ended.
    pub fn outcome(&self) -> Option<Outcome> {
        self.clock.ended.map(|ended| self.so_far(ended))
    }

    /// What would remain if it ended now, as far as it has come.
    pub fn so_far(&self, now: Instant) -> Outcome {
        Outcome {
            reason: self.reason,
            status: self.status,
            grpc_status: self.grpc_status,
            verdict: self.verdict,
            cluster: self.cluster,
            endpoint: self.attempt.map(|attempt| attempt.endpoint),
            attempts: self.next_attempt,
            began: self.clock.began,
            request_ended: self.clock.request_ended,
            head: self.clock.head,
            ended: now,
        }
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let has_head = self.clock.head.is_some();
        match self.state {
            State::Trying if self.attempt.is_none() => Err("tries without an attempt"),
            State::Trying if has_head || self.status != 0 => Err("tries after a head"),
            State::Streaming if !has_head => Err("streams without a head"),
            State::Ended if self.clock.ended.is_none() => Err("ended without a moment"),
            State::Ended if self.deadline().is_some() => Err("ended and still waits"),
            State::Trying | State::Streaming | State::Answering if self.clock.ended.is_some() => {
                Err("has an end and goes on")
            }
            _ if self.attempt.is_some_and(|attempt| attempt.id.0 >= self.next_attempt) => {
                Err("an attempt that was never begun")
            }
            _ => Ok(()),
        }
    }
}

/// Actions that wait to be taken. One event asks for two at most.
#[derive(Clone, Copy, Debug, Default)]
struct Actions {
    first: Option<Action>,
    second: Option<Action>,
}

impl Actions {
    #[inline]
    fn push(&mut self, action: Action) {
        if self.first.is_none() {
            self.first = Some(action);
        } else {
            debug_assert!(self.second.is_none(), "an action was not taken before the next event");
            self.second = Some(action);
        }
    }

    #[inline]
    fn take(&mut self) -> Option<Action> {
        let action = self.first.take();
        self.first = self.second.take();
        action
    }
}
