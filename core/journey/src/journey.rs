//! The machine of one request.
//!
//! | state     | event                                   | next      | action                      |
//! |-----------|-----------------------------------------|-----------|-----------------------------|
//! | (begin)   | a rule forwards, an endpoint is there   | Trying    | Send                        |
//! | (begin)   | a limit has it wait                     | Waiting   | Wait                        |
//! | (begin)   | anything else                           | Answering | Reply                       |
//! | Waiting   | turn: it may pass all limits            | Trying    | Send                        |
//! | Waiting   | turn: not yet, or at the next limit     | Waiting   | Wait                        |
//! | Waiting   | turn: refused                           | Answering | Reply                       |
//! | Waiting   | deadline of the limit                   | Waiting   | Look                        |
//! | Waiting   | request aborted, deadline               | Answering | Reply                       |
//! | Trying    | attempt: head                           | Streaming | Forward                     |
//! | Trying    | attempt failed, may be replayed         | Trying    | Send, on a fresh connection |
//! | Trying    | attempt failed or head, may be retried  | Trying    | (Cancel; waits)             |
//! | Trying    | the wait is over                        | Trying    | Due, then Send, elsewhere   |
//! | Trying    | a try takes too long                    | Trying    | Due, then Cancel; waits     |
//! | Trying    | attempt failed                          | Answering | Reply                       |
//! | Trying    | request aborted                         | Answering | Cancel, Reply               |
//! | Trying    | deadline                                | Answering | Cancel, Reply               |
//! | Streaming | response: end, trailers                 | Ended     |                             |
//! | Streaming | response aborted                        | Ended     | Break                       |
//! | Streaming | request aborted, deadline               | Ended     | Cancel, Break               |
//! | Answering | response: end                           | Ended     |                             |
//! | (tunnel)  | a client asks for a tunnel              | Open      | Open                        |
//! | Open      | it is not; a rule forwards to endpoints | Trying    | Send                        |
//! | Open      | it is not; no rule knows where it leads | Trying    | Reach                       |
//! | Open      | it is not; a rule says something else   | Ended     | Break                       |
//! | Open      | response: end                           | Ended     |                             |
//! | Open      | drained                                 | Ended     | Break                       |
//! | any       | abandoned                               | Ended     |                             |
//! | Ended     | anything                                | Ended     |                             |
//!
//! The client of a tunnel has seen its head from the beginning: where others answer, it breaks off.
//!
//! Whoever drives it calls one `on_...`, then takes [`Journey::next_action`] until there is none, and
//! calls [`Journey::tick`] no later than [`Journey::deadline`].

mod attempts;
mod binding;
mod copies;
mod passing;

use std::time::Duration;

use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_guard::{AttemptResult, Grpc, Ticket};
use naru_recover::{Done, Recovery};
use naru_route::{Choice, CompiledAction, CompiledForward, RuleId, Subject, Verdict};

pub use copies::Copies;

use crate::worker::Chosen;
use crate::{
    Action, Admission, Cause, ChainId, Milestone, Observer, Report, RequestFacts, Snapshot, View, Wait,
    Worker,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// At a limit: see [`passing`].
    Waiting,
    Trying,
    Streaming,
    Answering,
    Ended,
}

#[derive(Debug)]
pub struct Journey {
    chain: ChainId,
    state: State,
    is_tunnel: bool,
    actions: Actions,
    verdict: Verdict,
    /// The draw that fractions and the choice of a cluster came from.
    draw: u64,
    cluster: Option<ClusterId>,
    /// Which of a rule's clusters was chosen.
    choice: Option<Choice>,
    /// What the request says of its endpoint.
    chosen: Chosen,
    passing: passing::Passing,
    attempt: Option<Attempt>,
    /// What became of it is still to be told to whoever guards its cluster.
    watch: Option<Watch>,
    report: Option<Report>,
    next_attempt: u16,
    /// Of a request that is forwarded.
    recovery: Option<Recovery>,
    /// Why no other attempt is made.
    done: Option<Done>,
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
    /// Of the journey's cluster. Without one, where a tunnel leads to its own address, it means nothing.
    endpoint: EndpointId,
    is_connected: bool,
    /// The shell has it in hand.
    is_under_way: bool,
}

/// An attempt at a cluster that is guarded.
#[derive(Clone, Copy, Debug)]
struct Watch {
    began: Instant,
    ticket: Option<Ticket>,
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
    per_try_timeout: Option<Duration>,
    /// When the attempt that was sent must be over.
    stream_end: Option<Instant>,
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
    /// The last attempt would have been retried, but all retries that are allowed had been made.
    pub is_retry_limit_exceeded: bool,
    pub began: Instant,
    pub request_ended: Option<Instant>,
    pub head: Option<Instant>,
    pub ended: Instant,
}

impl Outcome {
    /// Envoy's short response flags.
    pub fn flags(&self) -> &'static str {
        if self.is_retry_limit_exceeded { self.reason.flags_after_retries() } else { self.reason.flag() }
    }
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
            is_tunnel: false,
            actions: Actions::default(),
            verdict,
            draw: subject.draw,
            cluster: None,
            choice: None,
            chosen: Chosen::default(),
            passing: passing::Passing::default(),
            attempt: None,
            watch: None,
            report: None,
            next_attempt: 0,
            recovery: None,
            done: None,
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
                per_try_timeout: None,
                stream_end: None,
            },
            reason: Reason::NoRoute,
            status: 0,
            grpc_status: None,
        };
        match verdict {
            Verdict::Rule { rule, .. } => match &chain.table.rule(rule).action {
                CompiledAction::Forward(forward) => {
                    journey.forward(now, snapshot, forward, subject, worker, view, observer)
                }
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
        let mut journey = Journey::unrouted(now, chain, State::Answering);
        journey.answer(reason);
        journey
    }

    /// A client asks for a tunnel, and gets one. HTTP that is in it makes requests of its own; for all else see
    /// [`Journey::pass_through`].
    pub fn tunnel(now: Instant, chain: ChainId) -> Journey {
        let mut journey = Journey::unrouted(now, chain, State::Open);
        journey.is_tunnel = true;
        journey.status = 200;
        journey.clock.head = Some(now);
        journey.reason = Reason::TunnelServed;
        journey.actions.push(Action::Open);
        journey
    }

    fn unrouted(now: Instant, chain: ChainId, state: State) -> Journey {
        Journey {
            chain,
            state,
            is_tunnel: false,
            actions: Actions::default(),
            verdict: Verdict::NoVirtualHost,
            draw: 0,
            cluster: None,
            choice: None,
            chosen: Chosen::default(),
            passing: passing::Passing::default(),
            attempt: None,
            watch: None,
            report: None,
            next_attempt: 0,
            recovery: None,
            done: None,
            request: RequestFacts::NONE,
            clock: Clock {
                began: now,
                request_ended: None,
                head: None,
                progress: now,
                ended: None,
                request_timeout: None,
                response_timeout: None,
                idle_timeout: None,
                per_try_timeout: None,
                stream_end: None,
            },
            reason: Reason::NoRoute,
            status: 0,
            grpc_status: None,
        }
    }

    /// An open tunnel, of which a snapshot says nothing but the chain, goes on by that of another one. `false` where
    /// there is more to it.
    pub fn go_on(&mut self, chain: ChainId) -> bool {
        let is_open = self.state == State::Open;
        if is_open {
            self.chain = chain;
        }
        is_open
    }

    /// What is in a tunnel is not HTTP: it goes to the endpoint that the rules choose for `subject`, or, where no rule
    /// forwards it, to where the tunnel says. A rule that answers by itself holds here too: nothing goes past it.
    #[cold]
    pub fn pass_through(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        subject: &Subject<'_>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        if self.state != State::Open {
            return;
        }
        let chain = snapshot.chain(self.chain);
        self.state = State::Trying;
        self.clock.progress = now;
        self.clock.idle_timeout = chain.http.stream_idle_timeout;
        self.draw = subject.draw;
        self.verdict = chain.table.find(subject, observer);
        observer.routed(self.verdict);
        match self.rule().map(|(id, _)| &chain.table.rule(id).action) {
            Some(CompiledAction::Forward(forward)) => {
                self.forward(now, snapshot, forward, subject, worker, view, observer);
                // It is for a response, and a tunnel has none.
                self.clock.response_timeout = None;
                let of_cluster = self.cluster.and_then(|id| snapshot.cluster(id).limits.tcp_idle_timeout);
                self.clock.idle_timeout = match (self.clock.idle_timeout, of_cluster) {
                    (Some(timeout), Some(of_cluster)) => Some(timeout.min(of_cluster)),
                    (timeout, of_cluster) => timeout.or(of_cluster),
                };
            }
            Some(CompiledAction::Direct(_)) => self.answer(Reason::DirectResponse),
            Some(CompiledAction::Redirect(_)) | None => {
                let attempt = self.next_attempt(EndpointId(0));
                self.actions.push(Action::Reach { attempt });
            }
        }
    }

    // Forced where it is called twice, but only once on the way of a request.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "as of begin")]
    fn forward(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        forward: &CompiledForward,
        subject: &Subject<'_>,
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
        let policy = self.policy(snapshot);
        let recovery = Recovery::begin(policy, self.request.repeats, subject.headers, self.request.asks);
        self.clock.per_try_timeout = recovery.per_try_timeout(policy, self.clock.response_timeout);
        self.recovery = Some(recovery);
        self.chosen = worker.choose(snapshot, cluster, &forward.hash, subject);
        // What is limited are requests, and a tunnel is none.
        if !snapshot.limits.is_empty() && !self.is_tunnel {
            return self.pass(now, snapshot, worker, view, observer);
        }
        self.dispatch(now, snapshot, worker, view, observer);
    }

    /// To an endpoint of its cluster, where there is one.
    #[inline(always)]
    fn dispatch(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        let Some(cluster) = self.cluster else { return self.answer(Reason::NoCluster) };
        let endpoint = worker.pick(now, snapshot, cluster, &self.chosen, view);
        observer.picked(cluster, endpoint);
        let Some(endpoint) = endpoint else { return self.answer(Reason::NoHealthyUpstream) };
        match worker.enter(now, cluster, view) {
            Admission::Unguarded => self.send(cluster, endpoint, Cause::First),
            Admission::Admitted(ticket) => {
                self.watch(now, ticket);
                self.send(cluster, endpoint, Cause::First);
            }
            Admission::Refused(_) => self.answer(Reason::BreakerOpen),
        }
    }

    #[inline]
    fn send(&mut self, cluster: ClusterId, endpoint: EndpointId, cause: Cause) {
        let attempt = self.next_attempt(endpoint);
        self.actions.push(Action::Send { attempt, cluster, endpoint, cause });
    }

    fn watch(&mut self, now: Instant, ticket: Option<Ticket>) {
        self.watch = Some(Watch { began: now, ticket });
    }

    /// What became of the attempt is known, as far as its endpoint is concerned.
    #[inline]
    fn conclude(&mut self, now: Instant, result: impl FnOnce(&Attempt) -> AttemptResult) {
        let Some(watch) = self.watch.take() else { return };
        let (Some(cluster), Some(attempt)) = (self.cluster, self.attempt) else { return };
        self.report = Some(Report {
            cluster,
            endpoint: attempt.endpoint,
            result: result(&attempt),
            duration: now.since(watch.began),
            ticket: watch.ticket,
        });
    }

    /// What became of an attempt, once for each. It is there after [`Journey::on_attempt`], where the attempt is
    /// over for its endpoint, and else when the request has ended.
    #[inline]
    pub fn take_report(&mut self) -> Option<Report> {
        self.report.take()
    }

    #[inline]
    fn next_attempt(&mut self, endpoint: EndpointId) -> AttemptId {
        let id = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.clock.stream_end = None;
        self.attempt = Some(Attempt { id, endpoint, is_connected: false, is_under_way: true });
        if let Some(recovery) = &mut self.recovery {
            recovery.begin_attempt(id, endpoint, 0);
        }
        id
    }

    fn answer(&mut self, reason: Reason) {
        if self.is_tunnel {
            self.end(self.clock.progress, reason);
            self.actions.push(Action::Break(reason));
            return;
        }
        self.reason = reason;
        self.state = State::Answering;
        self.actions.push(Action::Reply(reason));
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
                if self.clock.per_try_timeout.is_some() {
                    self.start_try(now);
                }
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

    /// The proxy ends, and a tunnel was given its time to end by itself.
    pub fn on_drained(&mut self, now: Instant) {
        if self.is_tunnel {
            self.give_up(now, Reason::Drained);
        }
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
            match wait {
                Wait::PerTry | Wait::Backoff => self.actions.push_once(Action::Due),
                Wait::Turn => {
                    self.passing.set_due();
                    self.actions.push(Action::Look);
                }
                Wait::Request | Wait::Response | Wait::Progress | Wait::Stream => {
                    self.give_up(now, wait.reason());
                }
            }
        }
    }

    fn give_up(&mut self, now: Instant, reason: Reason) {
        match self.state {
            State::Waiting | State::Trying => {
                self.clock.progress = now;
                if self.watch.is_some() {
                    self.conclude_at_end(now, reason);
                }
                self.actions = Actions::default();
                if let Some(attempt) = self.attempt.filter(|attempt| attempt.is_under_way) {
                    self.actions.push(Action::Cancel { attempt: attempt.id });
                }
                self.answer(reason);
            }
            State::Open | State::Streaming | State::Answering => {
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
        if self.watch.is_some() {
            self.conclude_at_end(now, reason);
        }
        self.state = State::Ended;
        self.reason = reason;
        self.clock.ended = Some(now);
    }

    /// The call went as its end says, or was given up.
    #[cold]
    fn conclude_at_end(&mut self, now: Instant, reason: Reason) {
        let (status, grpc) = (self.status, self.grpc_status.map_or(Grpc::None, Grpc::Trailers));
        self.conclude(now, |attempt| match reason {
            Reason::Forwarded => AttemptResult::Answered { status, grpc },
            Reason::UpstreamAborted => AttemptResult::Reset,
            Reason::RouteTimeout => AttemptResult::TimedOut { is_connected: attempt.is_connected },
            _ => AttemptResult::Abandoned,
        });
    }

    /// What is to be done next; `None` when it is somebody else's turn.
    #[inline]
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.take()
    }

    /// The same, and leaves it there.
    pub fn peek_action(&self) -> Option<Action> {
        self.actions.first
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
        if self.state == State::Waiting
            && let Some(at) = self.passing.deadline()
        {
            consider(at, Wait::Turn);
        }
        if let Some(end) = clock.stream_end.filter(|_| self.state != State::Answering) {
            consider(end, Wait::Stream);
        }
        if let Some(timeout) = clock.idle_timeout {
            consider(clock.progress + timeout, Wait::Progress);
        }
        if self.state == State::Trying
            && let Some((at, wait)) = self.recovery.as_ref().and_then(Recovery::deadline)
        {
            consider(at, if wait == naru_recover::Wait::PerTry { Wait::PerTry } else { Wait::Backoff });
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

    /// How many attempts were made after the first, without replays.
    #[inline]
    pub fn retries(&self) -> u32 {
        self.recovery.as_ref().map_or(0, Recovery::retries)
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
            endpoint: self.cluster.and(self.attempt).map(|attempt| attempt.endpoint),
            attempts: self.next_attempt,
            is_retry_limit_exceeded: self.recovery.as_ref().is_some_and(Recovery::is_limit_reached),
            began: self.clock.began,
            request_ended: self.clock.request_ended,
            head: self.clock.head,
            ended: now,
        }
    }

    fn waits_for_something(&self) -> bool {
        let is_under_way = self.attempt.is_some_and(|attempt| attempt.is_under_way);
        is_under_way || self.recovery.as_ref().is_some_and(|recovery| recovery.deadline().is_some())
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let has_head = self.clock.head.is_some();
        match self.state {
            State::Waiting if !self.passing.is_waiting() => Err("waits for nothing"),
            State::Waiting if self.attempt.is_some() || has_head => Err("waits after an attempt"),
            State::Trying if self.attempt.is_none() => Err("tries without an attempt"),
            State::Trying if !self.waits_for_something() => Err("tries, and waits for nothing"),
            State::Open if !self.is_tunnel || self.attempt.is_some() => Err("stands open and is no tunnel"),
            State::Trying if !self.is_tunnel && (has_head || self.status != 0) => Err("tries after a head"),
            State::Answering if self.is_tunnel => Err("answers in a tunnel"),
            State::Streaming if !has_head => Err("streams without a head"),
            State::Ended if self.clock.ended.is_none() => Err("ended without a moment"),
            State::Ended if self.deadline().is_some() => Err("ended and still waits"),
            State::Open | State::Waiting | State::Trying | State::Streaming | State::Answering
                if self.clock.ended.is_some() =>
            {
                Err("has an end and goes on")
            }
            State::Answering | State::Ended if self.watch.is_some() => {
                Err("an attempt is over, and nobody is told")
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

    /// Unless it waits already.
    fn push_once(&mut self, action: Action) {
        if self.first != Some(action) && self.second != Some(action) {
            self.push(action);
        }
    }

    #[inline]
    fn take(&mut self) -> Option<Action> {
        let action = self.first.take();
        self.first = self.second.take();
        action
    }
}
