//! What a journey is told, and what it asks for.

use std::time::Duration;

use http::{HeaderMap, Method};
use naru_base::{AttemptId, ClusterId, EndpointId, Reason};
use naru_guard::{AttemptResult, Ticket};
use naru_recover::Facts;
pub use naru_recover::Sent;

use crate::edge::{Client, Upgrade};
use crate::limits::{LimitId, Queued};

/// What the machine needs to know of a request, beside what the rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Whether it may be sent twice.
    pub repeats: Facts,
    /// A trusted client says in headers how to retry.
    pub asks: bool,
    /// The client may know what was done about failures.
    pub is_trusted: bool,
    /// How the call went is said at the end of its response.
    pub is_grpc: bool,
    /// The head is the whole request.
    pub has_ended: bool,
    /// It asks for another protocol, which `Upgrade` says. Where it gets it, what follows is neither request nor
    /// response.
    pub is_upgrade: bool,
    /// It does so by CONNECT: what it asks for is a tunnel.
    pub is_connect: bool,
    /// The client asked for this timeout, and is trusted to (`x-envoy-upstream-rq-timeout-ms`).
    pub timeout_ms: Option<u64>,
    /// How long the client says that it waits.
    pub caller_timeout: Option<Duration>,
    /// What it is known by on all of its way, where that is not said by its headers: see
    /// [`naru_recover::layer::trace`].
    pub trace: u64,
}

impl RequestFacts {
    /// Of a request that `client` makes. `has_ended` says that its head is all of it.
    #[inline]
    pub fn of(method: &Method, headers: &HeaderMap, client: &Client, has_ended: bool) -> RequestFacts {
        RequestFacts {
            repeats: Facts::of(method, headers, client.is_internal),
            asks: client.asks,
            is_trusted: client.is_internal,
            is_grpc: client.is_grpc,
            has_ended,
            is_upgrade: client.upgrade != Upgrade::None,
            is_connect: client.upgrade == Upgrade::Connect,
            timeout_ms: client.timeout_ms,
            caller_timeout: client.caller_timeout,
            trace: 0,
        }
    }

    /// Of one that is not forwarded.
    pub const NONE: RequestFacts = RequestFacts {
        repeats: Facts { may_repeat: false, is_repeat: false },
        asks: false,
        is_trusted: false,
        is_grpc: false,
        has_ended: true,
        is_upgrade: false,
        is_connect: false,
        timeout_ms: None,
        caller_timeout: None,
        trace: 0,
    };
}

/// Where an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connect,
    Secure,
    /// While the request was sent or the response head awaited.
    Exchange,
}

/// Why an attempt failed, and whether it may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    pub reason: Reason,
    pub sent: Sent,
    /// The connection had served another request before: it may have been closed by an upstream
    /// that was tired of waiting, which says nothing about this request.
    pub is_reused: bool,
    /// The shell still has all of the request.
    pub is_replayable: bool,
}

/// News of an attempt. One of a tunnel has its head once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEvent<'a> {
    Head {
        status: u16,
        /// The head is the whole response.
        has_ended: bool,
        /// Where they may say something about retries.
        headers: Option<&'a HeaderMap>,
        /// The shell still has all of the request.
        is_replayable: bool,
    },
    Failed(Failure),
}

/// News of a body. Bytes themselves pass the machine by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    FirstByte,
    End,
    /// The end, with trailers; `grpc_status` where they hold one.
    Trailers {
        grpc_status: Option<u8>,
    },
    /// It broke off.
    Aborted,
    /// A request that is not framed as it said.
    Malformed,
    /// A request that is waited for, and is too slow.
    TooSlow,
    /// A request that is larger than it may be.
    TooLarge,
    /// A body that is not what it may be otherwise.
    Refused(Reason),
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the request to this endpoint.
    Send { attempt: AttemptId, cluster: ClusterId, endpoint: EndpointId, cause: Cause },
    /// Ask the checks of its gate: call [`crate::Journey::on_check`].
    Check,
    /// Have [`crate::Journey::question`] answered, then call [`crate::Journey::on_answer`].
    Ask,
    /// Wait at this limit: for its deadline, and in line also for being woken; then call [`crate::Journey::on_turn`].
    Wait { limit: LimitId, queued: Option<Queued> },
    /// The wait is over: call [`crate::Journey::on_turn`].
    Look,
    /// Look up what [`crate::Journey::sought`] says, as the cluster's endpoint: then call [`crate::Journey::on_located`].
    Locate { cluster: ClusterId },
    /// See whether its answer is kept, or wait for whoever fetches the same: then call [`crate::Journey::on_looked`].
    Lookup,
    /// Tell the client that it has its tunnel, and see what is in it.
    Open,
    /// The response of this attempt is the response: pass its head on, then its body. Where others are under way, they
    /// are given up; so they are by [`Action::Reply`] and [`Action::Break`].
    Forward { attempt: AttemptId },
    /// Connect to where a tunnel leads, which no rule knows; then [`Action::Forward`].
    Reach { attempt: AttemptId },
    /// Give this attempt up, or its response.
    Cancel { attempt: AttemptId },
    /// A wait is over: see [`crate::Journey::on_due`].
    Due,
    /// Answer in the proxy's own name; see [`crate::reply`].
    Reply(Reason),
    /// The head is gone out already: break the response off.
    Break(Reason),
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    First,
    /// The connection of the attempt before turned out closed: once more, on a connection that no request was sent
    /// on yet.
    Replay,
    /// The attempt before failed, or was answered badly, or takes long: to another endpoint, if there is one.
    Retry,
    /// Beside the first from the beginning.
    Hedge,
    /// To another cluster, in place of one that has not answered, or badly.
    Fallback,
}

/// What became of an attempt, for whoever guards its cluster, and for [`crate::Worker::on_report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub cluster: ClusterId,
    pub endpoint: EndpointId,
    pub result: AttemptResult,
    /// Since it was sent.
    pub duration: Duration,
    /// The same, but until the head of its answer where there was one.
    pub until_head: Duration,
    /// What it went through the breaker with.
    pub ticket: Option<Ticket>,
}

/// What a deadline stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The rest of the request.
    Request,
    /// The end of the response, from the end of the request.
    Response,
    /// An answer to a question of a check. What happens without one is the check's to say.
    Question,
    /// Its turn at a limit. What happens then is asked of the limit.
    Turn,
    /// The end of an attempt, from when it was sent: what the cluster allows.
    Stream,
    /// Any byte in either direction.
    Progress,
    /// The head of an attempt's response.
    PerTry,
    /// Any byte of an attempt, in either direction.
    PerTryIdle,
    /// The next attempt.
    Backoff,
    /// The end of a delay that is made on purpose.
    Fault,
}

impl Wait {
    /// Why a request ends when this wait is over.
    pub fn reason(self) -> Reason {
        match self {
            Wait::Request => Reason::RequestTimeout,
            Wait::Response => Reason::RouteTimeout,
            Wait::Question => Reason::QuotaUnknown,
            Wait::Turn => Reason::BulkheadTimeout,
            Wait::Stream => Reason::StreamDuration,
            Wait::Progress => Reason::StreamIdle,
            Wait::PerTry | Wait::Backoff => Reason::PerTryTimeout,
            Wait::PerTryIdle => Reason::PerTryIdle,
            Wait::Fault => Reason::FaultInjected,
        }
    }
}
