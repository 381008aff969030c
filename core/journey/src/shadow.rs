//! What happens to a copy of a request?
//!
//! An exchange of its own with the cluster of a mirror: it is admitted, sent once, answered or not, and nobody waits
//! for it. Its deadline is that of its request, counted from the end of what is copied, and what became of it is told
//! to whoever guards the cluster, as Envoy's `AsyncClient` does both by passing its router. There are no retries.
//!
//! | state   | event                             | next    | ends as                         |
//! |---------|-----------------------------------|---------|---------------------------------|
//! | (begin) | limits, breaker, no endpoint      |         | (is not begun)                  |
//! | Sent    | head                              | Heard   |                                 |
//! | Sent    | head that is all                  | Ended   | Answered                        |
//! | Sent    | failure                           | Ended   | Failed, Refused where none sent |
//! | Heard   | end                               | Ended   | Answered                        |
//! | Heard   | failure                           | Ended   | Failed                          |
//! | any     | deadline                          | Ended   | TimedOut                        |
//! | any     | overrun: too slow for the request | Ended   | Overrun                         |
//! | any     | abandoned: its request broke off  | Ended   | Abandoned                       |
//!
//! A limit with a name that belongs to the cluster holds for copies, too; one that would have the copy wait in a line
//! refuses it, for those who wait there are waited for. What a shadow holds is given back by [`Shadow::leave`].

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use naru_base::{ClusterId, EndpointId, Instant, Reason};
use naru_guard::{AttemptResult, Grpc, Ticket};
use naru_recover::mirror::address;
use naru_spec::{Mirror, defaults};

use crate::edge::{self, Peer};
use crate::limits::{Ending, KINDS, Leaving, LimitId, Pass};
use crate::worker::Chosen;
use crate::{Admission, Report, Snapshot, Stage, View, Worker};

/// What of a request its copies are decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowFacts {
    pub response_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub is_grpc: bool,
    /// The head is the whole request.
    pub has_ended: bool,
}

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShadowEnd {
    Answered,
    /// It was never sent.
    Refused(Reason),
    /// It may have been sent, and has no whole answer.
    Failed(Reason),
    TimedOut,
    /// Its body came faster than the mirror took it.
    Overrun,
    /// The request that it is a copy of broke off before it had said all.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sent,
    Heard,
    Ended,
}

/// A copy on its way.
#[derive(Debug)]
pub struct Shadow {
    cluster: ClusterId,
    endpoint: EndpointId,
    state: State,
    end: Option<ShadowEnd>,
    is_grpc: bool,
    is_connected: bool,
    /// A bit for each kind of limit that it holds.
    held: u8,
    began: Instant,
    /// What a breaker among them let it pass with.
    passed_with: Option<Ticket>,
    /// A limit lets it pass no earlier.
    not_before: Option<Instant>,
    /// What it went through the breaker with; absent where nobody wants to know what became of it, or does already.
    watch: Option<Option<Ticket>>,
    report: Option<Report>,
    heard: Option<Instant>,
    request_ended: Option<Instant>,
    progress: Instant,
    stream_end: Option<Instant>,
    response_timeout: Option<Duration>,
    idle_timeout: Duration,
    status: u16,
    grpc_status: Option<u8>,
}

impl Shadow {
    /// A copy to an endpoint of the cluster.
    ///
    /// # Errors
    /// Why it may not be sent; it holds nothing then.
    pub fn begin(
        now: Instant,
        snapshot: &Snapshot,
        cluster: ClusterId,
        facts: &ShadowFacts,
        worker: &mut Worker,
        view: &impl View,
    ) -> Result<Shadow, Reason> {
        let mut shadow = Shadow {
            cluster,
            endpoint: EndpointId(0),
            state: State::Sent,
            end: None,
            is_grpc: facts.is_grpc,
            is_connected: false,
            held: 0,
            passed_with: None,
            began: now,
            not_before: None,
            watch: None,
            report: None,
            heard: None,
            request_ended: facts.has_ended.then_some(now),
            progress: now,
            stream_end: None,
            response_timeout: facts.response_timeout,
            // Nobody waits for it, so that nobody would end it either.
            idle_timeout: facts.idle_timeout.unwrap_or(defaults::STREAM_IDLE_TIMEOUT),
            status: 0,
            grpc_status: None,
        };
        if let Err(reason) = shadow.admit(now, snapshot, worker, view) {
            shadow.end = Some(ShadowEnd::Refused(reason));
            shadow.leave(now, snapshot, view);
            return Err(reason);
        }
        Ok(shadow)
    }

    /// Through all limits, to an endpoint, through the breaker.
    fn admit(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        worker: &mut Worker,
        view: &impl View,
    ) -> Result<(), Reason> {
        for kind in 0..KINDS {
            let Some(limit) = self.limit(snapshot, kind) else { continue };
            match worker.pass(now, limit, view) {
                Pass::Admitted => {}
                Pass::Ticketed(ticket) => self.passed_with = Some(ticket),
                Pass::CutOff { .. } => return Err(Reason::BreakerOpen),
                Pass::Until(at) => self.not_before = self.not_before.max(Some(at)),
                Pass::InLine { queued, .. } => {
                    view.leave(now, limit, Leaving::Line(queued));
                    return Err(Reason::BulkheadFull);
                }
                Pass::Refused(reason) => return Err(reason),
            }
            self.held |= 1 << kind;
        }
        let endpoint = worker.pick(now, snapshot, self.cluster, &Chosen::default(), view);
        self.endpoint = endpoint.ok_or(Reason::NoHealthyUpstream)?;
        match worker.enter(now, self.cluster, view) {
            Admission::Unguarded => {}
            Admission::Admitted(ticket) => self.watch = Some(ticket),
            Admission::Refused { .. } => return Err(Reason::BreakerOpen),
        }
        Ok(())
    }

    /// The limits at which it is counted: for whoever checks the counts.
    pub fn counted_at<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = LimitId> + 'a {
        let held = (0..KINDS).filter(|kind| self.held & 1 << kind != 0);
        held.filter_map(|kind| self.limit(snapshot, kind))
    }

    fn limit(&self, snapshot: &Snapshot, kind: usize) -> Option<LimitId> {
        snapshot.limits.of_cluster(self.cluster, kind)
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// It may not be sent before, where a limit says when its turn is.
    pub fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// It has a connection. `stream_max` is what the cluster allows from here on.
    pub fn on_connected(&mut self, now: Instant, stream_max: Option<Duration>) {
        if self.state == State::Sent {
            self.is_connected = true;
            self.stream_end = stream_max.map(|max| now + max);
        }
    }

    /// What is copied has come to its end.
    pub fn on_request_end(&mut self, now: Instant) {
        self.progress = now;
        self.request_ended.get_or_insert(now);
    }

    /// Bytes moved.
    pub fn on_progress(&mut self, now: Instant) {
        self.progress = now;
    }

    /// The head of the answer, which may be all of it.
    pub fn on_head(&mut self, now: Instant, status: u16, has_ended: bool, grpc_status: Option<u8>) {
        if self.state != State::Sent {
            return;
        }
        self.progress = now;
        self.state = State::Heard;
        self.heard = Some(now);
        self.status = status;
        self.grpc_status = grpc_status;
        if has_ended || !self.is_grpc || grpc_status.is_some() {
            let grpc = grpc_status.map_or(Grpc::None, Grpc::Head);
            self.conclude(now, AttemptResult::Answered { status, grpc });
        }
        if has_ended {
            self.finish(now, ShadowEnd::Answered);
        }
    }

    /// The answer is whole, or enough of it was read.
    pub fn on_end(&mut self, now: Instant, grpc_status: Option<u8>) {
        if self.state == State::Heard {
            self.grpc_status = grpc_status.or(self.grpc_status);
            self.finish(now, ShadowEnd::Answered);
        }
    }

    /// There is no connection for it, or that broke.
    pub fn on_failure(&mut self, now: Instant, stage: Stage, reason: Reason) {
        if self.state == State::Ended {
            return;
        }
        let result = match (stage, reason) {
            // The endpoint was never asked.
            (_, Reason::Overflow) => AttemptResult::Abandoned,
            (Stage::Connect, Reason::ConnectTimeout) => AttemptResult::TimedOut { is_connected: false },
            (Stage::Connect | Stage::Secure, _) => AttemptResult::ConnectFailed,
            (Stage::Exchange, _) => AttemptResult::Reset,
        };
        self.conclude(now, result);
        let is_refused = reason == Reason::Overflow;
        self.finish(now, if is_refused { ShadowEnd::Refused(reason) } else { ShadowEnd::Failed(reason) });
    }

    /// More of its body waits than may.
    pub fn on_overrun(&mut self, now: Instant) {
        self.finish(now, ShadowEnd::Overrun);
    }

    /// Its request broke off, or whoever carries it ends.
    pub fn on_abandoned(&mut self, now: Instant) {
        self.finish(now, ShadowEnd::Abandoned);
    }

    /// Time passed. Does nothing before [`Shadow::deadline`].
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            // That its request stands still is not the endpoint's fault.
            if self.request_ended.is_some() {
                self.conclude(now, AttemptResult::TimedOut { is_connected: self.is_connected });
            }
            self.finish(now, ShadowEnd::TimedOut);
        }
    }

    /// The next moment at which [`Shadow::tick`] would do something.
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == State::Ended {
            return None;
        }
        let idle = self.progress.max(self.not_before.unwrap_or(self.progress)) + self.idle_timeout;
        let response = self.request_ended.zip(self.response_timeout).map(|(ended, timeout)| ended + timeout);
        [Some(idle), response, self.stream_end].into_iter().flatten().min()
    }

    fn finish(&mut self, now: Instant, end: ShadowEnd) {
        if self.state == State::Ended {
            return;
        }
        let answered = AttemptResult::Answered {
            status: self.status,
            grpc: self.grpc_status.map_or(Grpc::None, Grpc::Trailers),
        };
        self.conclude(now, if end == ShadowEnd::Answered { answered } else { AttemptResult::Abandoned });
        self.state = State::Ended;
        self.end = Some(end);
    }

    /// What became of it, as far as its endpoint is concerned: the first word counts.
    fn conclude(&mut self, now: Instant, result: AttemptResult) {
        if let Some(ticket) = self.watch.take() {
            let (cluster, endpoint, duration) = (self.cluster, self.endpoint, now.since(self.began));
            let until_head = self.heard.unwrap_or(now).since(self.began);
            self.report = Some(Report { cluster, endpoint, result, duration, until_head, ticket });
        }
    }

    /// What became of it, once, for whoever guards the cluster.
    pub fn take_report(&mut self) -> Option<Report> {
        self.report.take()
    }

    /// How it ended.
    pub fn end(&self) -> Option<ShadowEnd> {
        self.end
    }

    /// Of its answer; 0 where there is none.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Gives back what it holds of limits with a name: once is enough, more often does no harm.
    pub fn leave(&mut self, now: Instant, snapshot: &Snapshot, view: &impl View) {
        let ending = Ending {
            sent: Some(self.began).filter(|_| !matches!(self.end, Some(ShadowEnd::Refused(_)))),
            status: if self.status == 0 { 503 } else { self.status },
            grpc_status: self.grpc_status,
            is_cancelled: matches!(self.end, None | Some(ShadowEnd::Abandoned | ShadowEnd::Overrun)),
            result: match self.end {
                Some(ShadowEnd::Answered) => AttemptResult::answered(self.status),
                _ => AttemptResult::Abandoned,
            },
            duration: now.since(self.began),
            ticket: self.passed_with,
        };
        let held = std::mem::take(&mut self.held);
        for kind in (0..KINDS).rev().filter(|kind| held & 1 << kind != 0) {
            if let Some(limit) = self.limit(snapshot, kind) {
                view.leave(now, limit, Leaving::Done(ending));
            }
        }
    }

    /// What holds between any two events. Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        match self.state {
            State::Ended if self.end.is_none() => Err("ended without an end"),
            State::Ended if self.watch.is_some() => Err("is over, and nobody is told"),
            State::Ended if self.deadline().is_some() => Err("ended and still waits"),
            State::Sent | State::Heard if self.end.is_some() => Err("has an end and goes on"),
            State::Sent if self.status != 0 => Err("has an answer and waits for one"),
            State::Heard if self.status == 0 => Err("has heard nothing"),
            State::Sent | State::Heard if self.deadline().is_none() => Err("may go on for ever"),
            _ => Ok(()),
        }
    }
}

/// Makes the headers of a request, as it goes to its upstream, those of its copy. Beside what the mirror says, these are
/// the two that Envoy's `AsyncClient` adds: a copy comes from the proxy, which is one hop more, and is internal.
pub fn copy_headers(mirror: &Mirror, method: &Method, headers: &mut HeaderMap, peer: &Peer) {
    address(mirror, method, headers);
    edge::append_hop(headers, peer.local.ip());
    headers.insert(edge::X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
}
