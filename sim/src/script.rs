//! Upstreams that do what a test says, and a driver for single requests.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use naru_base::Instant;
use naru_guard::ProbeResult;
use naru_journey::{Observer, Snapshot};
use naru_spec::Probe;

use crate::arena::Ticket;
use crate::body::Body;
use crate::decision::Decision;
use crate::fleet::{Fleet, Resolve};
use crate::judge::Violation;
use crate::request::Request;
use crate::upstream::{Answer, Caller, Dial, IdleClose, Place, Probed, Upstreams};
use crate::world::{Settled, Turn, World};

/// What upstreams do, in order. When a list is used up, connections are accepted at once, and
/// requests answered at once with an empty 200.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub dials: VecDeque<Dial>,
    /// Connections to these are refused at once, whatever `dials` says; probes of all others pass.
    pub refusing: BTreeSet<SocketAddr>,
    pub answers: VecDeque<Answer>,
    /// Answers begin with the head of a request instead of its end.
    pub is_early: bool,
    pub idle_close: Option<IdleClose>,
}

impl Script {
    /// Every connection is accepted, and the next request is answered like this.
    pub fn answering(answer: Answer) -> Script {
        Script { answers: VecDeque::from([answer]), ..Script::default() }
    }

    /// An answer at once, without a body.
    pub fn status(status: u16) -> Script {
        Script::answering(at_once(status))
    }
}

fn at_once(status: u16) -> Answer {
    Answer::Response { after: Duration::ZERO, status, grpc_status: None, body: Body::EMPTY }
}

impl Upstreams for Script {
    fn dial(&mut self, _now: Instant, place: Place) -> Dial {
        if self.refusing.contains(&place.address) {
            return Dial::Refused { after: Duration::ZERO };
        }
        self.dials.pop_front().unwrap_or(Dial::Accepted { after: Duration::ZERO })
    }

    fn is_early(&mut self, _place: Place) -> bool {
        self.is_early
    }

    fn answer(&mut self, _now: Instant, _place: Place, _caller: Caller) -> Answer {
        self.answers.pop_front().unwrap_or_else(|| at_once(200))
    }

    fn on_abandoned(&mut self, _now: Instant, _ticket: Ticket) {}

    fn probe(&mut self, _now: Instant, place: Place, probe: &Probe, _is_connected: bool) -> Probed {
        let is_refused = self.refusing.contains(&place.address);
        let result = if is_refused { ProbeResult::Broken } else { Probed::passing(probe) };
        Probed { after: Duration::ZERO, result: Some(result), stays: !is_refused }
    }

    fn idle_close(&self, _place: Place) -> Option<IdleClose> {
        self.idle_close
    }
}

/// A proxy with one worker, asked one request after the other. Its connections and its chance live
/// on from one to the next, as those of `naru proxy --workers 1 --seed N` do: the same requests in
/// the same order are decided alike.
#[derive(Debug)]
pub struct Driver<'a> {
    world: World<'a, Script, ()>,
}

impl<'a> Driver<'a> {
    pub fn new(snapshot: &'a Snapshot, seed: u64) -> Driver<'a> {
        Driver::resolving(snapshot, seed, &|_| None)
    }

    /// With answers for names.
    pub fn resolving(snapshot: &'a Snapshot, seed: u64, resolve: &Resolve<'_>) -> Driver<'a> {
        Driver { world: World::new(snapshot, 1, seed, Fleet::new(snapshot, resolve), Script::default()) }
    }

    /// One request from its first byte to its end.
    ///
    /// # Errors
    /// What must hold and did not.
    pub fn drive_one(&mut self, request: &Request, script: Script) -> Result<Decision<'a>, Violation> {
        Ok(self.drive(request, script, None, &mut ())?.decision)
    }

    /// The same, with a client that leaves after `patience`, told in full and watched.
    ///
    /// # Errors
    /// What must hold and did not.
    pub fn drive(
        &mut self,
        request: &Request,
        script: Script,
        patience: Option<Duration>,
        observer: &mut impl Observer,
    ) -> Result<Settled<'a, ()>, Violation> {
        *self.world.upstreams() = script;
        let mut turn = self.world.begin(0, request, patience, (), observer)?;
        loop {
            if let Turn::Settled(settled) = turn {
                return Ok(settled);
            }
            turn = match self.world.step()? {
                Some(turn) => turn,
                // It would wait for ever, which no client does.
                None => {
                    self.world.abandon_all();
                    Turn::Moved
                }
            };
        }
    }

    /// Lets time pass between two requests.
    pub fn wait(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.world.now() + time;
        self.world.call_at(until, ());
        while !matches!(self.world.step()?, Some(Turn::Called(())) | None) {}
        Ok(())
    }

    pub fn world(&mut self) -> &mut World<'a, Script, ()> {
        &mut self.world
    }
}
