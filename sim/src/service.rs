//! The upstreams of a scenario: when they answer, and what.
//!
//! An instance is a queue before some servers. As it is served in order, the end of a request is
//! known when it comes in: at the earliest moment at which a server is free, plus its own time. A
//! client that leaves meanwhile changes nothing of that; neither do most services notice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use naru_base::chance::within;
use naru_base::{AttemptId, Chance, Instant};

use crate::body::{Body, BodyEnd};
use crate::distribution::Distribution;
use crate::passage::Key;
use crate::scenario::{Fault, GivenBody, State};
use crate::upstream::{Answer, Break, Caller, Dial, IdleClose, Place, Upstreams};

/// Of all.
const MILLIONTHS: u64 = 1_000_000;

/// How instances of a service behave.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub connect: Distribution,
    pub latency: Distribution,
    pub servers: Option<usize>,
    pub queue_max: Option<usize>,
    pub status: u16,
    pub body: GivenBody,
    pub grpc_status: Option<u8>,
    pub faults: Faults,
    pub idle_close: Option<IdleClose>,
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
    pub faults: Option<Faults>,
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

/// One process behind one address.
#[derive(Debug)]
pub struct Instance {
    address: SocketAddr,
    behaviour: Behaviour,
    connect: Chance,
    latency: Chance,
    fault: Chance,
    body: Chance,
    servers: Servers,
}

/// The servers of an instance, by when they will be free.
#[derive(Debug, Default)]
struct Servers {
    busy: BinaryHeap<Reverse<Instant>>,
    /// When the work on those who wait will begin.
    waiting: VecDeque<Instant>,
}

impl Servers {
    /// How many wait now.
    fn queue(&mut self, now: Instant) -> usize {
        while self.waiting.front().is_some_and(|begins| *begins <= now) {
            self.waiting.pop_front();
        }
        self.waiting.len()
    }

    /// When work that takes `time` will be done, if it joins the queue now.
    fn join(&mut self, now: Instant, time: Duration, servers: usize) -> Instant {
        let begins = if self.busy.len() < servers {
            now
        } else {
            self.busy.pop().map_or(now, |Reverse(free)| free.max(now))
        };
        if begins > now {
            self.waiting.push_back(begins);
        }
        self.busy.push(Reverse(begins + time));
        begins + time
    }
}

impl Instance {
    /// Chance is split by the address, so that another instance does not shift it.
    pub fn new(address: SocketAddr, behaviour: Behaviour, seed: u64) -> Instance {
        let chance = |what: &str| Chance::split(seed, &format!("{what} at {address}"));
        Instance {
            address,
            behaviour,
            connect: chance("connect"),
            latency: chance("latency"),
            fault: chance("fault"),
            body: chance("body"),
            servers: Servers::default(),
        }
    }

    fn windows(&self, now: Instant) -> impl Iterator<Item = &Different> {
        self.behaviour.windows.iter().rev().filter(move |window| window.from <= now && now < window.to)
    }

    fn state(&self, now: Instant) -> State {
        self.windows(now).map(|window| window.state).find(|state| *state != State::Up).unwrap_or_default()
    }

    fn dial(&mut self, now: Instant) -> Dial {
        let after = self.behaviour.connect.sample(&mut self.connect);
        match self.state(now) {
            State::Up | State::Stuck => Dial::Accepted { after },
            State::Down | State::Refuse => Dial::Refused { after },
            State::TlsBroken => Dial::TlsFailed { after },
            State::Unreachable => Dial::Silent,
        }
    }

    fn answer(&mut self, now: Instant) -> Answer {
        let window = self.windows(now).find_map(|window| window.latency);
        // Always drawn, so that a fault here does not change what happens elsewhere.
        let time = window.unwrap_or(self.behaviour.latency).sample(&mut self.latency);
        let over = self.behaviour.body.over.sample(&mut self.body);
        let draw = self.fault.draw();
        match self.state(now) {
            State::Down => return Answer::Broken { after: Duration::ZERO, how: Break::Closed },
            State::Stuck => return Answer::Silent,
            State::Up | State::Refuse | State::Unreachable | State::TlsBroken => {}
        }
        let faults = self.windows(now).find_map(|window| window.faults.as_ref());
        let fault = faults.unwrap_or(&self.behaviour.faults).of(draw);
        if fault == Some(Fault::Hang) {
            return Answer::Silent;
        }
        if let (Some(_), Some(max)) = (self.behaviour.servers, self.behaviour.queue_max)
            && self.is_busy(now)
            && self.servers.queue(now) >= max
        {
            return self.response(Duration::ZERO, 503, Body::EMPTY);
        }
        let after = match self.behaviour.servers {
            Some(servers) => self.servers.join(now, time, servers).since(now),
            None => time,
        };
        let body = Body::new(self.behaviour.body.bytes, over);
        match fault {
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

    fn is_busy(&self, now: Instant) -> bool {
        let servers = self.behaviour.servers.unwrap_or(usize::MAX);
        self.servers.busy.len() >= servers
            && self.servers.busy.peek().is_some_and(|Reverse(free)| *free > now)
    }

    fn broken(&self, after: Duration, body: Body) -> Answer {
        Answer::Response { after, status: self.behaviour.status, grpc_status: None, body }
    }

    fn response(&self, after: Duration, status: u16, body: Body) -> Answer {
        let grpc_status = self.behaviour.grpc_status;
        let body = match grpc_status {
            Some(_) if body.parts > 0 => body.ending(BodyEnd::Trailers { grpc_status }),
            _ => body,
        };
        Answer::Response { after, status, grpc_status, body }
    }
}

/// All instances, and which endpoint leads to which.
#[derive(Debug)]
pub struct Services {
    pub instances: Vec<Instance>,
    /// By cluster and endpoint.
    pub places: Vec<Vec<usize>>,
}

impl Services {
    fn at(&self, place: Place) -> Option<&Instance> {
        self.instances.get(*self.places.get(place.cluster.index())?.get(place.endpoint.index())?)
    }

    fn at_mut(&mut self, place: Place) -> Option<&mut Instance> {
        let at = *self.places.get(place.cluster.index())?.get(place.endpoint.index())?;
        self.instances.get_mut(at)
    }

    /// The process behind an address is gone, and what it worked on with it.
    pub fn on_down(&mut self, address: SocketAddr) {
        for instance in self.instances.iter_mut().filter(|instance| instance.address == address) {
            instance.servers = Servers::default();
        }
    }
}

impl Upstreams for Services {
    fn dial(&mut self, now: Instant, place: Place) -> Dial {
        self.at_mut(place).map_or(Dial::Silent, |instance| instance.dial(now))
    }

    fn is_early(&mut self, _place: Place) -> bool {
        false
    }

    fn answer(&mut self, now: Instant, place: Place, _caller: Caller) -> Answer {
        self.at_mut(place).map_or(Answer::Silent, |instance| instance.answer(now))
    }

    fn on_abandoned(&mut self, _place: Place, _key: Key, _attempt: AttemptId) {}

    fn idle_close(&self, place: Place) -> Option<IdleClose> {
        self.at(place)?.behaviour.idle_close
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn requests_wait_for_a_server_in_order() {
        let mut servers = Servers::default();
        let mut check = |now: u64, time: u64, waiting: usize, done: u64| {
            assert_eq!(servers.queue(ms(now)), waiting, "at {now} ms");
            assert_eq!(servers.join(ms(now), Duration::from_millis(time), 2), ms(done), "at {now} ms");
        };
        check(0, 10, 0, 10);
        check(1, 20, 0, 21);
        check(2, 5, 0, 15);
        check(3, 5, 1, 20);
        check(12, 1, 1, 21);
        check(50, 7, 0, 57);
    }

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
