//! The seam between the simulated proxy and what stands behind it.
//!
//! [`crate::service::Services`] are upstreams of a scenario, drawn from distributions;
//! [`crate::script::Script`] does what a test says.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use naru_base::{AttemptId, ClusterId, EndpointId, Instant};
use naru_guard::ProbeResult;
use naru_spec::Probe;

use crate::arena::Ticket;
use crate::body::Body;
use crate::passage::Key;

/// A proxy of a world, in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ProxyId(pub u32);

impl ProxyId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An endpoint, as whoever answers for it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub proxy: ProxyId,
    pub cluster: ClusterId,
    pub endpoint: EndpointId,
    pub address: SocketAddr,
}

/// How an attempt to connect goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    Accepted {
        after: Duration,
    },
    Refused {
        after: Duration,
    },
    TlsFailed {
        after: Duration,
    },
    /// No answer at all.
    Silent,
}

/// How a request on a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Response {
        /// To the head.
        after: Duration,
        status: u16,
        /// In the head of a response without a body.
        grpc_status: Option<u8>,
        body: Body,
    },
    /// The connection or the stream breaks before there is a head.
    Broken { after: Duration, how: Break },
    /// No answer at all.
    Silent,
    /// It is not known yet: [`crate::World::respond`] will tell it. The ticket is the upstream's own.
    Later(Ticket),
}

/// The attempt that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub key: Key,
    pub attempt: AttemptId,
    /// Nobody will wait for the answer any more, as far as those who ask have said.
    pub deadline: Option<Instant>,
    /// As in [`crate::Waits`].
    pub origin: Option<Ticket>,
    /// It was sent before, by whom it comes from or by one that is trusted.
    pub is_repeat: bool,
    /// What its request is known by on all of its way.
    pub trace: u64,
    /// Which state of what it asks for it knows already (`If-None-Match`).
    pub known: Option<u64>,
}

/// How a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    pub after: Duration,
    /// `None` where there is no answer at all.
    pub result: Option<ProbeResult>,
    /// The connection stands for the next probe.
    pub stays: bool,
}

impl Probed {
    /// What passes, whatever is expected of an answer.
    pub fn passing(probe: &Probe) -> ProbeResult {
        match probe {
            Probe::Http(check) => {
                let status = check.expected_statuses.first().map_or(200, |range| range.start());
                ProbeResult::Http { status, is_degraded: false, has_immediate_fail: false }
            }
            Probe::Tcp(_) => ProbeResult::Connected,
            Probe::Grpc(_) => ProbeResult::Grpc { status: 0, serving: Some(SERVING) },
        }
    }
}

/// Of `grpc.health.v1.HealthCheckResponse`.
pub const SERVING: i32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The connection is closed.
    Closed,
    /// The stream is reset; over HTTP/1 the connection is.
    Reset,
    /// What comes is not HTTP.
    Garbage,
}

/// When an upstream closes connections that carry no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleClose {
    pub after: Duration,
    /// How long the proxy does not know of it.
    pub notice: Duration,
}

/// What stands behind the proxy.
pub trait Upstreams {
    /// A connection is asked for.
    fn dial(&mut self, now: Instant, place: Place) -> Dial;

    /// Whether the next answer begins with the head of the request; else with its end.
    fn is_early(&mut self, place: Place) -> bool;

    /// A request is there, as far as [`Upstreams::is_early`] waits for it.
    fn answer(&mut self, now: Instant, place: Place, caller: Caller) -> Answer;

    /// Nobody waits any more for what was to come [`Answer::Later`].
    fn on_abandoned(&mut self, now: Instant, ticket: Ticket);

    /// An endpoint is asked how it is, by a connection that stands or by a new one.
    fn probe(&mut self, now: Instant, place: Place, probe: &Probe, is_connected: bool) -> Probed;

    /// Whether any answer says more than its status.
    fn says_anything(&self) -> bool {
        false
    }

    /// What the head of an answer with this status says, where it says anything.
    fn head(&self, _now: Instant, _place: Place, _status: u16) -> Option<HeaderMap> {
        None
    }

    /// `None` where connections are kept for ever.
    fn idle_close(&self, place: Place) -> Option<IdleClose>;
}
