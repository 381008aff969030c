//! One process behind one address: what it draws, and what is different about it when.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use http::header::{ETAG, HeaderMap, HeaderValue};
use naru_base::chance::within;
use naru_base::{Chance, Instant};
use naru_guard::ProbeResult;
use naru_spec::Probe;

use crate::arena::Ticket;
use crate::body::{Body, BodyEnd};
use crate::distribution::{Distribution, SAMPLE_MAX};
use crate::quantity::Factor;
use crate::scenario::{Abandoned, Deadline, Fault, GivenBody, RetryHints, State};
use crate::upstream::{Answer, Break, Dial, IdleClose, Probed, ProxyId, SERVING};
use crate::world::etag_of;

/// Of all.
const MILLIONTHS: u64 = 1_000_000;
const NOT_MODIFIED: u16 = 304;

/// How instances of a version behave.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub connect: Distribution,
    pub latency: Distribution,
    pub servers: Option<usize>,
    pub queue_max: Option<usize>,
    pub status: u16,
    pub fails_with: u16,
    pub body: GivenBody,
    /// Of answers as they should be.
    pub headers: HeaderMap,
    /// What is given is another one every so long, and has an ETag.
    pub etag_for: Option<Duration>,
    pub grpc_status: Option<u8>,
    pub faults: Faults,
    pub idle_close: Option<IdleClose>,
    pub holds_server: bool,
    pub deadline: Deadline,
    pub abandoned: Abandoned,
    pub retry_hints: RetryHints,
    /// In the order in which they are written.
    pub windows: Vec<Different>,
}

/// A time when an instance is different.
#[derive(Clone, Debug)]
pub struct Different {
    pub from: Instant,
    pub to: Instant,
    pub state: State,
    pub latency: Option<Distribution>,
    pub extra_latency: Option<Distribution>,
    pub slower: Option<Factor>,
    pub slow_start: Option<Factor>,
    pub faults: Option<Faults>,
    pub servers: Option<usize>,
    pub queue_max: Option<usize>,
}

/// Faults by their shares of all requests, in millionths; together at most all.
#[derive(Clone, Debug, Default)]
pub struct Faults(pub Vec<(u32, Fault)>);

impl Faults {
    fn of(&self, draw: u64) -> Option<Fault> {
        let point = within(draw, MILLIONTHS);
        let mut upto = 0;
        self.0.iter().find_map(|(share, fault)| {
            upto += u64::from(*share);
            (point < upto).then_some(*fault)
        })
    }
}

impl Behaviour {
    fn draw(&self, now: Instant, chances: &mut Chances) -> Work {
        let here = self.windows(now).find_map(|window| window.latency.as_ref());
        let mut time = here.unwrap_or(&self.latency).sample(&mut chances.latency);
        for window in self.windows(now) {
            if let Some(distribution) = &window.extra_latency {
                time += distribution.sample(&mut chances.extra);
            }
            for factor in [window.slower, window.slow_start.map(|factor| fading(factor, window, now))] {
                time = factor.map_or(time, |factor| factor.of(time));
            }
        }
        let body_over = self.body.over.sample(&mut chances.body);
        let draw = chances.fault.draw();
        let faults = self.windows(now).find_map(|window| window.faults.as_ref());
        let fault = faults.unwrap_or(&self.faults).of(draw);
        Work { time: time.min(SAMPLE_MAX), fault, body_over }
    }

    /// Which state of what it gives it is in.
    fn revision(&self, now: Instant) -> Option<u64> {
        let lasts = self.etag_for?;
        Some(u64::try_from(u128::from(now.0) / lasts.as_nanos().max(1)).unwrap_or(u64::MAX))
    }

    pub fn says_anything(&self) -> bool {
        !self.headers.is_empty() || self.etag_for.is_some()
    }

    /// What the head of an answer says. An error says nothing of what is else given.
    pub fn head(&self, now: Instant, status: u16) -> Option<HeaderMap> {
        if !self.says_anything() || !(status == self.status || status == NOT_MODIFIED) {
            return None;
        }
        let mut headers = self.headers.clone();
        let etag = self.revision(now).and_then(|revision| HeaderValue::try_from(etag_of(revision)).ok());
        etag.into_iter().for_each(|etag| drop(headers.insert(ETAG, etag)));
        Some(headers)
    }

    /// What is different now, the last written first.
    fn windows(&self, now: Instant) -> impl Iterator<Item = &Different> {
        self.windows.iter().rev().filter(move |window| window.from <= now && now < window.to)
    }
}

#[derive(Debug)]
pub struct Instance {
    pub address: SocketAddr,
    /// Its version.
    pub group: usize,
    pub behaviour: Behaviour,
    /// The proxy that it calls through.
    pub outbound: ProxyId,
    /// Requests that hold a server.
    pub working: usize,
    /// Those that do not yet, in order; some may be gone.
    pub queue: VecDeque<Ticket>,
    /// How many of these are not.
    pub waiting: usize,
    connect: Chance,
    requests: Chances,
    calls: Chance,
    /// Of its own, so that who is probed answers requests as if he were not.
    probe_connects: Chance,
    probes: Chances,
}

/// What is drawn from for each request.
#[derive(Debug)]
struct Chances {
    latency: Chance,
    extra: Chance,
    fault: Chance,
    body: Chance,
}

/// What was drawn for one request.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub time: Duration,
    pub fault: Option<Fault>,
    pub body_over: Duration,
}

impl Instance {
    /// Chance is split by the address, so that another instance does not shift it.
    pub fn new(
        address: SocketAddr,
        group: usize,
        behaviour: Behaviour,
        outbound: ProxyId,
        seed: u64,
    ) -> Instance {
        let chance = |what: &str| Chance::split(seed, &format!("{what} at {address}"));
        Instance {
            address,
            group,
            behaviour,
            outbound,
            working: 0,
            queue: VecDeque::new(),
            waiting: 0,
            connect: chance("connect"),
            requests: Chances {
                latency: chance("latency"),
                extra: chance("extra latency"),
                fault: chance("fault"),
                body: chance("body"),
            },
            calls: chance("calls"),
            probe_connects: chance("connect of a probe"),
            probes: Chances {
                latency: chance("latency of a probe"),
                extra: chance("extra latency of a probe"),
                fault: chance("fault of a probe"),
                body: chance("body of a probe"),
            },
        }
    }

    pub fn state(&self, now: Instant) -> State {
        self.behaviour
            .windows(now)
            .map(|window| window.state)
            .find(|state| *state != State::Up)
            .unwrap_or_default()
    }

    /// Without a limit where there is none.
    pub fn servers(&self, now: Instant) -> Option<usize> {
        self.behaviour.windows(now).find_map(|window| window.servers).or(self.behaviour.servers)
    }

    pub fn queue_max(&self, now: Instant) -> usize {
        let max =
            self.behaviour.windows(now).find_map(|window| window.queue_max).or(self.behaviour.queue_max);
        max.unwrap_or(usize::MAX)
    }

    pub fn dial(&mut self, now: Instant) -> Dial {
        let after = self.behaviour.connect.sample(&mut self.connect);
        self.dialled(now, after)
    }

    fn dialled(&self, now: Instant, after: Duration) -> Dial {
        match self.state(now) {
            State::Up | State::Stuck => Dial::Accepted { after },
            State::Down | State::Refuse => Dial::Refused { after },
            State::TlsBroken => Dial::TlsFailed { after },
            State::Unreachable => Dial::Silent,
        }
    }

    /// Always drawn, so that a fault here does not change what happens elsewhere.
    pub fn draw(&mut self, now: Instant) -> Work {
        self.behaviour.draw(now, &mut self.requests)
    }

    /// It is asked how it is: it answers as it answers requests, but takes no server for it and calls nobody.
    pub fn probe(&mut self, now: Instant, probe: &Probe, is_connected: bool) -> Probed {
        let connect = self.behaviour.connect.sample(&mut self.probe_connects);
        let work = self.behaviour.draw(now, &mut self.probes);
        let broken = |after| Probed { after, result: Some(ProbeResult::Broken), stays: false };
        let silent = Probed { after: Duration::ZERO, result: None, stays: false };
        let connected = match self.dialled(now, connect) {
            _ if is_connected => Duration::ZERO,
            Dial::Accepted { after } => after,
            Dial::Refused { after } | Dial::TlsFailed { after } => return broken(after),
            Dial::Silent => return silent,
        };
        let answered = |after, result| Probed { after, result: Some(result), stays: true };
        if matches!(probe, Probe::Tcp(check) if check.receive.is_empty()) {
            return answered(connected, ProbeResult::Connected);
        }
        let status = match work.fault {
            _ if self.state(now) == State::Stuck => return silent,
            Some(Fault::Hang) => return silent,
            Some(Fault::Reset | Fault::Close | Fault::Garbage | Fault::BreakBody | Fault::BreakEnd) => {
                return broken(connected + work.time);
            }
            Some(Fault::Status(status)) => status,
            None => self.behaviour.status,
        };
        let result = match probe {
            Probe::Http(_) => ProbeResult::Http { status, is_degraded: false, has_immediate_fail: false },
            Probe::Tcp(_) => ProbeResult::Connected,
            // What is no answer of gRPC is read as INTERNAL.
            Probe::Grpc(_) => match self.behaviour.grpc_status.unwrap_or(0) {
                grpc_status if status == 200 => {
                    ProbeResult::Grpc { status: grpc_status, serving: Some(SERVING) }
                }
                _ => ProbeResult::Grpc { status: 13, serving: None },
            },
        };
        answered(connected + work.time, result)
    }

    /// Whether a call is made that so many requests make.
    pub fn draw_call(&mut self) -> u64 {
        self.calls.draw()
    }

    /// What is answered to a request that was worked on.
    /// `known` is the state of it that whoever asks has already; `now` is when it is answered.
    pub fn answer(&self, now: Instant, after: Duration, work: &Work, known: Option<u64>) -> Answer {
        if known.is_some() && work.fault.is_none() && self.behaviour.revision(now) == known {
            return self.response(after, NOT_MODIFIED, Body::EMPTY);
        }
        let body = Body::new(self.behaviour.body.bytes, work.body_over);
        match work.fault {
            None | Some(Fault::Hang) => self.response(after, self.behaviour.status, body),
            Some(Fault::Status(status)) => self.response(after, status, body),
            Some(Fault::Reset) => Answer::Broken { after, how: Break::Reset },
            Some(Fault::Close) => Answer::Broken { after, how: Break::Closed },
            Some(Fault::Garbage) => Answer::Broken { after, how: Break::Garbage },
            Some(Fault::BreakBody) => {
                let body = body.in_parts(body.parts.max(2));
                self.broken(after, body.cut(body.parts / 2, BodyEnd::Broken))
            }
            Some(Fault::BreakEnd) => self.broken(after, body.ending(BodyEnd::Broken)),
        }
    }

    fn broken(&self, after: Duration, body: Body) -> Answer {
        Answer::Response { after, status: self.behaviour.status, grpc_status: None, body }
    }

    pub fn response(&self, after: Duration, status: u16, body: Body) -> Answer {
        let grpc_status = self.behaviour.grpc_status;
        let body = match grpc_status {
            Some(_) if body.parts > 0 => body.ending(BodyEnd::Trailers { grpc_status }),
            _ => body,
        };
        Answer::Response { after, status, grpc_status, body }
    }
}

fn fading(factor: Factor, window: &Different, now: Instant) -> Factor {
    factor.fading(now.0.saturating_sub(window.from.0), window.to.0.saturating_sub(window.from.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_by_their_shares() {
        let faults = Faults(vec![(10_000, Fault::Reset), (20_000, Fault::Status(500))]);
        let mut chance = Chance::new(9);
        let mut counts = [0; 3];
        for _ in 0..100_000 {
            match faults.of(chance.draw()) {
                Some(Fault::Reset) => counts[0] += 1,
                Some(_) => counts[1] += 1,
                None => counts[2] += 1,
            }
        }
        assert!((900..1_100).contains(&counts[0]) && (1_850..2_150).contains(&counts[1]), "{counts:?}");
    }
}
