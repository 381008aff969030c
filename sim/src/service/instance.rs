//! One process behind one address: what it draws, and what is different about it when.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use naru_base::chance::within;
use naru_base::{Chance, Instant};

use crate::arena::Ticket;
use crate::body::{Body, BodyEnd};
use crate::distribution::{Distribution, SAMPLE_MAX};
use crate::quantity::Factor;
use crate::scenario::{Abandoned, Deadline, Fault, GivenBody, State};
use crate::upstream::{Answer, Break, Dial, IdleClose, ProxyId};

/// Of all.
const MILLIONTHS: u64 = 1_000_000;

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
    pub grpc_status: Option<u8>,
    pub faults: Faults,
    pub idle_close: Option<IdleClose>,
    pub holds_server: bool,
    pub deadline: Deadline,
    pub abandoned: Abandoned,
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
    latency: Chance,
    extra: Chance,
    fault: Chance,
    body: Chance,
    calls: Chance,
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
            latency: chance("latency"),
            extra: chance("extra latency"),
            fault: chance("fault"),
            body: chance("body"),
            calls: chance("calls"),
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
        match self.state(now) {
            State::Up | State::Stuck => Dial::Accepted { after },
            State::Down | State::Refuse => Dial::Refused { after },
            State::TlsBroken => Dial::TlsFailed { after },
            State::Unreachable => Dial::Silent,
        }
    }

    /// Always drawn, so that a fault here does not change what happens elsewhere.
    pub fn draw(&mut self, now: Instant) -> Work {
        let Instance { behaviour, latency, extra, body, fault, .. } = self;
        let here = behaviour.windows(now).find_map(|window| window.latency.as_ref());
        let mut time = here.unwrap_or(&behaviour.latency).sample(latency);
        for window in behaviour.windows(now) {
            if let Some(distribution) = &window.extra_latency {
                time += distribution.sample(extra);
            }
            for factor in [window.slower, window.slow_start.map(|factor| fading(factor, window, now))] {
                time = factor.map_or(time, |factor| factor.of(time));
            }
        }
        let body_over = behaviour.body.over.sample(body);
        let draw = fault.draw();
        let faults = behaviour.windows(now).find_map(|window| window.faults.as_ref());
        let fault = faults.unwrap_or(&behaviour.faults).of(draw);
        Work { time: time.min(SAMPLE_MAX), fault, body_over }
    }

    /// Whether a call is made that so many requests make.
    pub fn draw_call(&mut self) -> u64 {
        self.calls.draw()
    }

    /// What is answered to a request that was worked on.
    pub fn answer(&self, after: Duration, work: &Work) -> Answer {
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
