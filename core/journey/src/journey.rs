//! The machine of one request.
//!
//! | state     | event                                   | next      | action                      |
//! |-----------|-----------------------------------------|-----------|-----------------------------|
//! | (begin)   | a rule forwards, an endpoint is there   | Trying    | Send                        |
//! | (begin)   | there are checks to be passed           | Gated     | Check                       |
//! | (begin)   | a fault holds it                        | Held      |                             |
//! | (begin)   | its answer may be kept                  | Looking   | Lookup                      |
//! | (begin)   | a limit has it wait                     | Waiting   | Wait                        |
//! | (begin)   | a name that it brings is to be found    | Trying    | Locate                      |
//! | (begin)   | anything else                           | Answering | Reply                       |
//! | Gated     | check: one must know something          | Gated     | Ask                         |
//! | Gated     | answer, deadline of the question        | Gated     | Check                       |
//! | Gated     | check: refused                          | Answering | Reply                       |
//! | Gated     | check: passed, as from the beginning    | as there  |                             |
//! | Held      | the delay is over                       | Held      | Due                         |
//! | Held      | due: as from the beginning              | as there  |                             |
//! | Looking   | looked: it is there, or must be         | Answering | Reply                       |
//! | Looking   | looked: it is not there: as without it  | as there  |                             |
//! | Looking   | request aborted, deadline               | Answering | Reply                       |
//! | Waiting   | turn: it may pass all limits            | Trying    | Send                        |
//! | Waiting   | turn: not yet, or at the next limit     | Waiting   | Wait                        |
//! | Waiting   | turn: refused                           | Answering | Reply                       |
//! | Waiting   | deadline of the limit                   | Waiting   | Look                        |
//! | Waiting   | request aborted, deadline               | Answering | Reply                       |
//! | Trying    | located                                 | Trying    | Send                        |
//! | Trying    | attempt: head                           | Streaming | Forward                     |
//! | Trying    | attempt: 101 to one who asked for it    | Streaming | Forward                     |
//! | Trying    | attempt: 2xx to a CONNECT               | Streaming | Forward                     |
//! | Trying    | attempt failed, may be replayed         | Trying    | Send, on a fresh connection |
//! | Trying    | attempt failed or head, may be retried  | Trying    | (Cancel; waits)             |
//! | Trying    | the wait is over                        | Trying    | Due, then Send, elsewhere   |
//! | Trying    | a try takes too long, or nothing moves  | Trying    | Due, then Cancel; waits     |
//! | Trying    | the same, where hedges are made         | Trying    | Due, then Send beside it    |
//! | Trying    | attempt failed                          | Answering | Reply                       |
//! | Trying    | attempt: 304 to what is kept            | Answering | (Cancel,) Reply             |
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
//! | (tcp)     | as of a tunnel that is not HTTP         | as there  | as there                    |
//! | any       | abandoned                               | Ended     |                             |
//! | Ended     | anything                                | Ended     |                             |
//!
//! The client of a tunnel has seen its head from the beginning: where others answer, it breaks off.
//!
//! Whoever drives it calls one `on_...`, then takes [`Journey::next_action`] until there is none, and
//! calls [`Journey::tick`] no later than [`Journey::deadline`].

mod attempts;
mod binding;
mod bringing;
mod caching;
mod copies;
mod ending;
mod falling_back;
mod gating;
mod grouping;
mod invariants;
mod passing;
mod passing_through;
mod policed;
mod rare;
mod sessions;
mod timing;
mod upgrading;

use std::time::Duration;

use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason, RetryEnd};
use naru_guard::{AttemptResult, Grpc, Ticket};
use naru_recover::deadline;
use naru_recover::{Done, Recovery, RouteRecovery};
use naru_route::{Choice, CompiledAction, CompiledForward, RuleId, Subject, Verdict};

pub use caching::{Looked, Stale};
pub use copies::Copies;
use policed::Policed;

use crate::gate::Answer;
use crate::worker::Chosen;
use crate::{
    Action, Admission, Cause, Chain, ChainId, Milestone, Observer, Report, RequestFacts, Snapshot, View,
    Wait, Worker,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// By a fault: see [`rare`].
    Held,
    /// Whether its answer is kept: see [`caching`].
    Looking,
    /// By a check: see [`gating`].
    Gated,
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
    /// A tunnel that nobody has asked for: see [`Journey::tcp`].
    is_tcp: bool,
    /// Its route says more of failures than retries.
    has_more: bool,
    actions: Actions,
    verdict: Verdict,
    /// The draw that fractions and the choice of a cluster came from.
    draw: u64,
    cluster: Option<ClusterId>,
    /// Which of a rule's clusters was chosen.
    choice: Option<Choice>,
    /// What the request says of its endpoint.
    chosen: Chosen,
    /// Of the few who meet any: see [`Policed`].
    policed: Option<Box<Policed>>,
    attempt: Option<Attempt>,
    /// What became of it is still to be told to whoever guards its cluster.
    watch: Option<Watch>,
    report: Option<Report>,
    next_attempt: u16,
    /// Of a request that is forwarded.
    recovery: Option<Recovery>,
    rare: Option<Box<rare::Rare>>,
    /// Of a request that may be retried: see [`naru_recover::layer::trace`].
    trace: u64,
    /// Why no other attempt is made.
    done: Option<Done>,
    request: RequestFacts,
    clock: Clock,
    reason: Reason,
    /// What the breaker said that let it not through.
    retry_after: Option<Duration>,
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
    /// That there is an answer was told; what is left to tell is that it broke off.
    is_told: bool,
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
    /// When its caller waits no longer.
    caller_end: Option<Instant>,
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
    /// Why the last attempt was not retried, where it would have been.
    pub retry_end: RetryEnd,
    /// A fault held it, or an attempt of it.
    pub is_delayed: bool,
    pub began: Instant,
    pub request_ended: Option<Instant>,
    pub head: Option<Instant>,
    pub ended: Instant,
}

impl Outcome {
    /// Envoy's short response flags.
    pub fn flags(&self) -> &'static str {
        self.reason.flags(self.is_delayed, self.retry_end)
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
        let verdict = chain.table.find_for(request.is_connect, subject, observer);
        observer.routed(verdict);
        let mut journey = Journey {
            chain: chain_id,
            state: State::Trying,
            is_tunnel: false,
            is_tcp: false,
            has_more: false,
            actions: Actions::default(),
            verdict,
            draw: subject.draw,
            cluster: None,
            choice: None,
            chosen: Chosen::default(),
            policed: None,
            attempt: None,
            watch: None,
            report: None,
            next_attempt: 0,
            recovery: None,
            rare: None,
            trace: 0,
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
                caller_end: None,
                stream_end: None,
            },
            reason: Reason::NoRoute,
            retry_after: None,
            status: 0,
            grpc_status: None,
        };
        if request.is_upgrade && !journey.may_upgrade(snapshot, subject) {
            journey.answer(Reason::UpgradeRefused);
            return journey;
        }
        if chain.gate.is_some() && journey.enter_gate(snapshot) {
            return journey;
        }
        journey.set_off(now, snapshot, chain, subject, worker, view, observer);
        journey
    }

    /// Where its rule says.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "as of begin")]
    fn set_off(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        chain: &Chain,
        subject: &Subject<'_>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        match self.verdict {
            Verdict::Rule { rule, .. } => match &chain.table.rule(rule).action {
                CompiledAction::Forward(forward) => {
                    let of_route = chain.recovery(rule);
                    self.forward(now, snapshot, forward, of_route, subject, worker, view, observer);
                }
                CompiledAction::Redirect(_) => self.answer(Reason::Redirect),
                CompiledAction::Direct(_) => self.answer(Reason::DirectResponse),
            },
            Verdict::RequiresTls { .. } => self.answer(Reason::Redirect),
            Verdict::NoVirtualHost | Verdict::NoRule { .. } => self.answer(Reason::NoRoute),
            Verdict::ServerOptions { .. } => self.answer(Reason::ServerOptions),
        }
    }

    /// A request whose head cannot be routed at all: it is answered with `reason`.
    pub fn refuse(now: Instant, chain: ChainId, reason: Reason) -> Journey {
        let mut journey = Journey::unrouted(now, chain, State::Answering);
        journey.answer(reason);
        journey
    }

    fn unrouted(now: Instant, chain: ChainId, state: State) -> Journey {
        Journey {
            chain,
            state,
            is_tunnel: false,
            is_tcp: false,
            has_more: false,
            actions: Actions::default(),
            verdict: Verdict::NoVirtualHost,
            draw: 0,
            cluster: None,
            choice: None,
            chosen: Chosen::default(),
            policed: None,
            attempt: None,
            watch: None,
            report: None,
            next_attempt: 0,
            recovery: None,
            rare: None,
            trace: 0,
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
                caller_end: None,
                stream_end: None,
            },
            reason: Reason::NoRoute,
            retry_after: None,
            status: 0,
            grpc_status: None,
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
        of_route: &RouteRecovery,
        subject: &Subject<'_>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        let asked = self.request.timeout_ms.map(Duration::from_millis);
        self.clock.response_timeout = deadline::total(forward.timeout, asked);
        self.clock.caller_end = self.request.caller_timeout.map(|timeout| now + timeout);
        if let Some(own) = forward.idle_timeout {
            self.clock.idle_timeout = own;
        }
        let choice = match &forward.groups {
            None => forward.choose(self.draw),
            Some(groups) => self.choose_in_group(now, forward, groups, subject, view),
        };
        self.choice = Some(choice);
        let Some(cluster) = choice.cluster else {
            return self.answer(Reason::NoCluster);
        };
        self.cluster = Some(cluster);
        if !snapshot.is_plain {
            self.look_around(snapshot, cluster, forward, subject, worker);
        }
        self.has_more = of_route.has_more;
        if of_route.has_more
            && let Some(settings) = of_route.auto_timeout
            && asked.is_none()
            && let Some((rule, _)) = self.rule()
        {
            self.clock.response_timeout = Some(worker.timeouts.timeout(now, (self.chain, rule), settings));
        }
        let policy = &of_route.retry;
        let (repeats, asks) = (self.request.repeats, self.request.asks);
        let recovery = self.recovery.insert(Recovery::begin(policy, repeats, subject.headers, asks));
        if self.is_tunnel {
            recovery.go_alone();
        }
        if !recovery.on().is_empty() {
            let said = self.request.trace;
            self.trace = if said == 0 { naru_recover::layer::trace(subject.headers) } else { said };
        }
        self.clock.per_try_timeout = recovery.per_try_timeout(policy, self.clock.response_timeout);
        if of_route.has_more && !self.is_tunnel {
            let name = forward.cluster_name(choice);
            if !self.begin_more(now, of_route, name, subject, worker, view) {
                return;
            }
        }
        self.enter_cluster(now, snapshot, worker, view, observer);
    }

    /// Past the cache and its limits, to an endpoint.
    #[inline(always)]
    fn enter_cluster(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        if snapshot.is_plain
            && let Some(cluster) = self.cluster
        {
            let endpoint = worker.pick(now, snapshot, cluster, &self.chosen, view);
            return self.dispatch_to(now, snapshot, cluster, endpoint, worker, view, observer);
        }
        if self.is_looked_up() {
            return self.look_up();
        }
        self.enter_limits(now, snapshot, worker, view, observer);
    }

    /// Past its limits, to an endpoint.
    #[cold]
    fn enter_limits(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
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
        if self.brings_address() {
            return self.dispatch_brought(now, snapshot, cluster, worker, view, observer);
        }
        let endpoint = worker.pick(now, snapshot, cluster, &self.chosen, view);
        self.dispatch_to(now, snapshot, cluster, endpoint, worker, view, observer);
    }

    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "as of begin")]
    fn dispatch_to(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        endpoint: Option<EndpointId>,
        worker: &mut Worker,
        view: &impl View,
        observer: &mut impl Observer,
    ) {
        observer.picked(cluster, endpoint);
        let Some(endpoint) = endpoint else {
            return self.answer_failed(now, snapshot, Reason::NoHealthyUpstream, true, worker, view);
        };
        match worker.enter(now, cluster, view) {
            Admission::Unguarded => {}
            Admission::Admitted(ticket) => self.watch(now, ticket),
            Admission::Refused { retry_after, .. } => {
                self.retry_after = retry_after;
                return self.answer_failed(now, snapshot, Reason::BreakerOpen, true, worker, view);
            }
        }
        self.send(now, cluster, endpoint, Cause::First, worker);
        if self.rare.is_some() {
            self.ask_for_extra();
        }
    }

    #[inline]
    fn send(
        &mut self,
        now: Instant,
        cluster: ClusterId,
        endpoint: EndpointId,
        cause: Cause,
        worker: &mut Worker,
    ) {
        let attempt = self.next_attempt(endpoint);
        let send = Action::Send { attempt, cluster, endpoint, cause };
        if self.rare.is_none() || !self.is_held_back(now, send, worker) {
            self.actions.push(send);
        }
    }

    fn watch(&mut self, now: Instant, ticket: Option<Ticket>) {
        self.watch = Some(Watch { began: now, ticket, is_told: false });
    }

    /// What became of the attempt is known, as far as its endpoint is concerned.
    #[inline]
    fn conclude(&mut self, now: Instant, result: impl FnOnce(&Attempt) -> AttemptResult) {
        let Some(watch) = self.watch.take() else { return };
        let (Some(cluster), Some(attempt)) = (self.cluster, self.attempt) else { return };
        let head = self.clock.head;
        self.report = Some(rare::report_of(cluster, &attempt, watch, result(&attempt), head, now));
    }

    /// What became of an attempt, once for each; and once more where its answer was told of and then broke off. It is
    /// there after [`Journey::on_attempt`], where the attempt is over for its endpoint, and else when the request has
    /// ended. There are several where attempts went on beside each other.
    #[inline]
    pub fn take_report(&mut self) -> Option<Report> {
        match (self.report.take(), &mut self.rare) {
            (None, Some(rare)) => rare.take_report(),
            (report, _) => report,
        }
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
        if self.rare.is_some() {
            self.leave_others(self.clock.progress);
        }
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
                if self.rare.is_some() {
                    self.ask_for_extra();
                }
            }
            Milestone::Aborted => self.give_up(now, Reason::ClientAborted),
            Milestone::Malformed => self.give_up(now, Reason::ClientProtocol),
            Milestone::TooSlow => self.give_up(now, Reason::RequestTimeout),
            Milestone::TooLarge => self.give_up(now, Reason::BodyTooLarge),
            Milestone::Refused(reason) => self.give_up(now, reason),
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
            Milestone::Aborted | Milestone::Malformed | Milestone::TooSlow | Milestone::TooLarge => {
                self.end(now, Reason::UpstreamAborted);
                self.actions.push(Action::Break(Reason::UpstreamAborted));
            }
            Milestone::Refused(reason) => {
                self.end(now, reason);
                self.actions.push(Action::Break(reason));
            }
        }
    }

    /// The answer cannot be passed on to its end. All of it may have come by then.
    #[cold]
    pub fn spoil(&mut self, now: Instant, reason: Reason) {
        if self.state == State::Ended {
            self.reason = reason;
        } else {
            self.on_response_body(now, Milestone::Refused(reason));
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
            match wait {
                Wait::PerTryIdle if self.state == State::Streaming => self.give_up(now, wait.reason()),
                Wait::PerTry | Wait::PerTryIdle | Wait::Backoff | Wait::Fault => {
                    self.actions.set_due();
                }
                Wait::Question => self.on_answer(now, Answer::Nobody),
                Wait::Turn => {
                    self.passing_mut().set_due();
                    self.actions.push(Action::Look);
                }
                Wait::Request | Wait::Response | Wait::Progress | Wait::Stream => {
                    self.give_up(now, self.reason_of(wait));
                }
            }
        }
    }

    fn give_up(&mut self, now: Instant, reason: Reason) {
        match self.state {
            State::Held | State::Looking | State::Gated | State::Waiting | State::Trying => {
                self.clock.progress = now;
                if self.watch.is_some() {
                    self.conclude_at_end(now, reason);
                }
                self.actions = Actions::default();
                if let Some(attempt) = self.attempt.filter(|attempt| attempt.is_under_way) {
                    self.actions.push(Action::Cancel { attempt: attempt.id });
                }
                self.answer_late(reason);
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
        if self.rare.is_some() {
            self.leave_others(now);
        }
        self.state = State::Ended;
        self.reason = reason;
        self.clock.ended = Some(now);
    }

    /// The call went as its end says, or was given up.
    #[cold]
    fn conclude_at_end(&mut self, now: Instant, reason: Reason) {
        let is_told = self.watch.is_some_and(|watch| watch.is_told);
        if is_told && reason != Reason::UpstreamAborted {
            self.watch = None;
            return;
        }
        let (status, grpc) = (self.status, self.grpc_status.map_or(Grpc::None, Grpc::Trailers));
        self.conclude(now, |attempt| match reason {
            Reason::Forwarded => AttemptResult::Answered { status, grpc },
            Reason::UpstreamAborted if is_told => AttemptResult::Aborted,
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
        self.actions.peek()
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

    pub fn is_grpc(&self) -> bool {
        self.request.is_grpc
    }

    /// How many attempts were made after the first, without replays.
    #[inline]
    pub fn retries(&self) -> u32 {
        self.recovery.as_ref().map_or(0, Recovery::retries)
    }

    /// Whether the timeout of its route follows what is observed.
    #[inline]
    pub fn is_timed_automatically(&self, snapshot: &Snapshot) -> bool {
        self.has_more && self.of_route(snapshot).auto_timeout.is_some()
    }

    /// Has `worker` learn from a request that has ended, where [`Journey::is_timed_automatically`].
    #[cold]
    pub fn teach(&self, worker: &mut Worker) {
        if let (Reason::Forwarded | Reason::RouteTimeout, Some(ended)) = (self.reason, self.clock.ended)
            && let (Some((rule, _)), Some(began)) = (self.rule(), self.span().began)
        {
            worker.timeouts.learn((self.chain, rule), ended.since(began));
        }
    }

    #[inline]
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Why it ended; meaningful once it has.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// When the breaker that let it not through may do so, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
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
            status: if self.is_tcp { 0 } else { self.status },
            grpc_status: self.grpc_status,
            verdict: self.verdict,
            cluster: self.cluster,
            endpoint: self.cluster.and(self.attempt).map(|attempt| attempt.endpoint),
            attempts: self.next_attempt,
            is_delayed: self.is_delayed(),
            retry_end: self.recovery.as_ref().map_or(RetryEnd::Open, Recovery::end),
            began: self.clock.began,
            request_ended: self.clock.request_ended,
            head: self.clock.head,
            ended: now,
        }
    }
}

/// Actions that wait to be taken. One event asks for two at most, and for time to be looked at, which is asked for once
/// however often it is.
#[derive(Clone, Copy, Debug, Default)]
struct Actions {
    first: Option<Action>,
    second: Option<Action>,
    is_due: bool,
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

    fn set_due(&mut self) {
        self.is_due = true;
    }

    fn peek(&self) -> Option<Action> {
        self.first.or(self.is_due.then_some(Action::Due))
    }

    #[inline]
    fn take(&mut self) -> Option<Action> {
        let Some(action) = self.first.take() else {
            return std::mem::take(&mut self.is_due).then_some(Action::Due);
        };
        if self.second.is_some() {
            self.first = self.second.take();
        }
        Some(action)
    }
}
