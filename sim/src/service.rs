//! The upstreams of a scenario: when they answer, and what.
//!
//! An instance is a queue before some servers. A request that has a server is worked on for a time
//! that is drawn; then its instance makes the calls that its version makes, through a proxy of its
//! own, and answers. Services do not do that themselves: what they want done, a wake, a call, an
//! answer, waits as an [`Errand`] for the runner, who knows the proxies.
//!
//! | a request  | event                        | next      | errand                     |
//! |------------|------------------------------|-----------|----------------------------|
//! | arrives    | a server is free             | working   | Wake                       |
//! | arrives    | none is                      | waiting   |                            |
//! | arrives    | the queue is full            | over      | (it is answered at once)   |
//! | waiting    | a server becomes free        | working   | Wake                       |
//! | working    | its time is over             | calling   | Call                       |
//! | working    | ... and there are no calls   | over      | Respond                    |
//! | calling    | all calls of a step are over | calling   | Call                       |
//! | calling    | ... and it was the last step | over      | Respond                    |
//! | any        | nobody waits, and it stops   | over      | Leave, for each call       |
//! | any        | its instance dies            | over      | Leave, for each call       |

pub mod instance;

use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use naru_base::Instant;
use naru_guard::ProbeResult;
use naru_spec::Probe;

use crate::arena::{Arena, Ticket};
use crate::body::Body;
use crate::calls::Callee;
use crate::ledger::{End, Ledger};
use crate::scenario::{Abandoned, Deadline, Fault, RetryHints, State};
use crate::upstream::{Answer, Break, Caller, Dial, IdleClose, Place, Probed, ProxyId, Upstreams};

pub use instance::{Behaviour, Different, Faults, Instance, Work};

const SERVICE_UNAVAILABLE: u16 = 503;
const GATEWAY_TIMEOUT: u16 = 504;

/// A version of a service.
#[derive(Debug)]
pub struct Group {
    /// Its place in the scenario.
    pub service_at: usize,
    pub service: String,
    /// Empty where the service has only one.
    pub version: String,
    /// Made for each request, in this order.
    pub calls: Rc<[Callee]>,
}

/// All instances, and which endpoint leads to which.
#[derive(Debug)]
pub struct Services {
    pub instances: Vec<Instance>,
    pub groups: Vec<Group>,
    /// By proxy, cluster and endpoint.
    pub places: Vec<Vec<Vec<usize>>>,
    pub ledger: Ledger,
    jobs: Arena<Job>,
    errands: Vec<Errand>,
    circle: Option<Circle>,
}

/// A service is asked on behalf of a request that it works on itself: that would never end.
#[derive(Clone, Debug)]
pub struct Circle {
    /// Its place in the scenario.
    pub service_at: usize,
    /// `a > b > a`.
    pub path: String,
}

/// A request that an instance has taken in.
#[derive(Debug)]
struct Job {
    instance: usize,
    caller: Caller,
    arrived: Instant,
    work: Work,
    phase: Phase,
    /// The call that is made next.
    next: usize,
    /// Calls under way, and all that were begun.
    pending: usize,
    begun: Vec<Ticket>,
    has_failed: bool,
    /// A call that failed says that it was retried already.
    is_exhausted: bool,
    is_abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Working,
    Calling,
}

/// What is to be done for the services.
#[derive(Clone, Copy, Debug)]
pub enum Errand {
    /// Tell [`Services::on_worked`] of a job at a moment.
    Wake { at: Instant, job: Ticket },
    /// Begin the calls of [`Services::next_calls`].
    Call { job: Ticket },
    Respond {
        caller: Caller,
        answer: Answer,
        /// It says that it is of no use to ask again.
        says_exhausted: bool,
    },
    /// Give a call up.
    Leave { call: Ticket },
}

impl Services {
    pub fn new(
        instances: Vec<Instance>,
        groups: Vec<Group>,
        places: Vec<Vec<Vec<usize>>>,
        ledger: Ledger,
    ) -> Services {
        Services {
            instances,
            groups,
            places,
            ledger,
            jobs: Arena::default(),
            errands: Vec::new(),
            circle: None,
        }
    }

    /// The last one first; the order among those of one moment is of no account but always the same.
    #[inline]
    pub fn next_errand(&mut self) -> Option<Errand> {
        self.errands.pop()
    }

    /// Requests that instances have taken in.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Where services ask each other in a circle.
    #[inline]
    pub fn circle(&mut self) -> Option<Circle> {
        self.circle.take()
    }

    /// Looks for the service of a group among those on whose behalf it is asked.
    fn look_for_circle(&mut self, group: usize, origin: Option<Ticket>) {
        let (mut next, mut path) = (origin, vec![group]);
        while let Some(job) = next.and_then(|ticket| self.jobs.get(ticket)) {
            let above = self.instances[job.instance].group;
            path.push(above);
            let service_at = self.groups[group].service_at;
            if self.groups[above].service_at == service_at {
                let names = path.iter().rev().map(|group| self.groups[*group].service.as_str());
                self.circle = Some(Circle { service_at, path: names.collect::<Vec<_>>().join(" > ") });
                return;
            }
            next = job.caller.origin;
        }
    }

    fn take_in(&mut self, now: Instant, at: usize, caller: Caller) -> Answer {
        let instance = &mut self.instances[at];
        let group = instance.group;
        let has_calls = !self.groups[group].calls.is_empty();
        if has_calls && caller.origin.is_some() {
            self.look_for_circle(group, caller.origin);
        }
        let instance = &mut self.instances[at];
        self.ledger.on_arrived(now, group);
        let work = instance.draw(now);
        match instance.state(now) {
            State::Down => {
                self.ledger.on_ended(now, now, group, End::Lost);
                return Answer::Broken { after: Duration::ZERO, how: Break::Closed };
            }
            State::Stuck => {
                self.ledger.on_ended(now, now, group, End::Lost);
                return Answer::Silent;
            }
            State::Up | State::Refuse | State::Unreachable | State::TlsBroken => {}
        }
        if work.fault == Some(Fault::Hang) {
            self.ledger.on_ended(now, now, group, End::Lost);
            return Answer::Silent;
        }
        let servers = instance.servers(now);
        let is_finished = instance.behaviour.abandoned == Abandoned::Finished;
        if servers.is_none() && !has_calls && is_finished {
            // Nothing can change it any more: the answer is known now.
            let answer = instance.answer(now + work.time, work.time, &work, caller.known);
            self.ledger.on_ended(now, now + work.time, group, end_of(&answer));
            return answer;
        }
        let is_free = servers.is_none_or(|servers| instance.working < servers);
        if !is_free && instance.waiting >= instance.queue_max(now) {
            self.ledger.on_ended(now, now, group, End::Refused);
            return instance.response(Duration::ZERO, SERVICE_UNAVAILABLE, Body::EMPTY);
        }
        let job = self.jobs.insert(Job {
            instance: at,
            caller,
            arrived: now,
            work,
            phase: Phase::Waiting,
            next: 0,
            pending: 0,
            begun: Vec::new(),
            has_failed: false,
            is_exhausted: false,
            is_abandoned: false,
        });
        if is_free {
            instance.working += 1;
            self.work_on(now, job);
        } else {
            instance.queue.push_back(job);
            instance.waiting += 1;
        }
        let instance = &self.instances[at];
        self.ledger.on_busy(group, instance.working, instance.waiting);
        Answer::Later(job)
    }

    /// The job has a server.
    fn work_on(&mut self, now: Instant, ticket: Ticket) {
        let Some(job) = self.jobs.get_mut(ticket) else { return };
        job.phase = Phase::Working;
        let is_obeyed = self.instances[job.instance].behaviour.deadline == Deadline::Obeyed;
        let is_late = is_obeyed && job.caller.deadline.is_some_and(|deadline| deadline <= now);
        let time = if is_late { Duration::ZERO } else { job.work.time };
        self.errands.push(Errand::Wake { at: now + time, job: ticket });
    }

    /// The own work of a job is done.
    pub fn on_worked(&mut self, now: Instant, ticket: Ticket) {
        let Some(job) = self.jobs.get_mut(ticket) else { return };
        let at = job.instance;
        if self.groups[self.instances[at].group].calls.is_empty() {
            return self.finish(now, ticket);
        }
        job.phase = Phase::Calling;
        if !self.instances[at].behaviour.holds_server {
            self.free_server(now, at);
        }
        self.errands.push(Errand::Call { job: ticket });
    }

    /// The calls that a job makes next, as places in the list of its group; none where it is over.
    /// Each must be begun, and its end told to [`Services::on_called`].
    pub fn next_calls(&mut self, now: Instant, ticket: Ticket, found: &mut Vec<usize>) {
        found.clear();
        let Some(job) = self.jobs.get_mut(ticket) else { return };
        let instance = &mut self.instances[job.instance];
        let calls = &self.groups[instance.group].calls;
        let is_obeyed = instance.behaviour.deadline == Deadline::Obeyed;
        let is_late = is_obeyed && job.caller.deadline.is_some_and(|deadline| deadline <= now);
        while !is_late && !job.has_failed && found.is_empty() && job.next < calls.len() {
            let mut is_first = true;
            while let Some(call) = calls.get(job.next).filter(|call| is_first || call.with_previous) {
                if call.share.takes(instance.draw_call()) {
                    found.push(job.next);
                }
                job.next += 1;
                is_first = false;
            }
        }
        job.pending = found.len();
        if found.is_empty() {
            self.finish(now, ticket);
        }
    }

    /// Who makes a call for a job; until when its own client waits, and whether that one has asked before, where the
    /// service hands that on.
    pub fn calling(&self, ticket: Ticket) -> Option<(ProxyId, usize, Caller)> {
        let job = self.jobs.get(ticket)?;
        let instance = &self.instances[job.instance];
        let is_obeyed = instance.behaviour.deadline == Deadline::Obeyed;
        let deadline = job.caller.deadline.filter(|_| is_obeyed);
        let is_passed = instance.behaviour.retry_hints == RetryHints::Passed;
        let is_repeat = job.caller.is_repeat && is_passed;
        let trace = if is_passed { job.caller.trace } else { 0 };
        Some((instance.outbound, instance.group, Caller { deadline, is_repeat, trace, ..job.caller }))
    }

    /// A call was begun for a job.
    pub fn on_calling(&mut self, ticket: Ticket, call: Ticket) {
        if let Some(job) = self.jobs.get_mut(ticket) {
            job.begun.push(call);
        }
    }

    /// A call of a job is over. `is_exhausted` says whether its answer said that it was retried already.
    pub fn on_called(&mut self, ticket: Ticket, is_failed: bool, is_exhausted: bool) {
        let Some(job) = self.jobs.get_mut(ticket) else { return };
        job.has_failed |= is_failed;
        job.is_exhausted |= is_failed && is_exhausted;
        job.pending = job.pending.saturating_sub(1);
        if job.pending == 0 {
            job.begun.clear();
            self.errands.push(Errand::Call { job: ticket });
        }
    }

    fn finish(&mut self, now: Instant, ticket: Ticket) {
        let Some(job) = self.jobs.remove(ticket) else { return };
        let instance = &self.instances[job.instance];
        let Behaviour { fails_with, deadline, retry_hints, .. } = instance.behaviour;
        let is_late =
            deadline == Deadline::Obeyed && job.caller.deadline.is_some_and(|deadline| deadline <= now);
        let (answer, end) = if is_late {
            (instance.response(Duration::ZERO, GATEWAY_TIMEOUT, Body::EMPTY), End::Late)
        } else if job.has_failed {
            (instance.response(Duration::ZERO, fails_with, Body::EMPTY), End::Answered(fails_with))
        } else {
            let answer = instance.answer(now, Duration::ZERO, &job.work, job.caller.known);
            (answer, end_of(&answer))
        };
        self.ledger.on_ended(job.arrived, now, instance.group, end);
        let has_server = job.phase == Phase::Working || instance.behaviour.holds_server;
        if has_server {
            self.free_server(now, job.instance);
        }
        if !job.is_abandoned {
            let says_exhausted = job.is_exhausted && retry_hints == RetryHints::Passed;
            self.errands.push(Errand::Respond { caller: job.caller, answer, says_exhausted });
        }
    }

    fn free_server(&mut self, now: Instant, at: usize) {
        let instance = &mut self.instances[at];
        instance.working = instance.working.saturating_sub(1);
        self.begin_waiting(now, at);
    }

    /// As many of those who wait as there are free servers.
    pub fn begin_waiting(&mut self, now: Instant, at: usize) {
        let servers = self.instances[at].servers(now).unwrap_or(usize::MAX);
        while self.instances[at].working < servers {
            let Some(job) = self.instances[at].queue.pop_front() else { break };
            // It may have been given up.
            if self.jobs.get(job).is_none() {
                continue;
            }
            let instance = &mut self.instances[at];
            instance.waiting = instance.waiting.saturating_sub(1);
            instance.working += 1;
            self.work_on(now, job);
        }
    }

    /// The process is gone, and what it worked on with it.
    pub fn on_down(&mut self, at: usize) {
        let of_this: Vec<Ticket> =
            self.jobs.iter().filter(|(_, job)| job.instance == at).map(|(ticket, _)| ticket).collect();
        let group = self.instances[at].group;
        for ticket in of_this {
            if let Some(job) = self.jobs.remove(ticket) {
                self.ledger.on_ended(job.arrived, job.arrived, group, End::Lost);
                self.errands.extend(job.begun.into_iter().map(|call| Errand::Leave { call }));
            }
        }
        let instance = &mut self.instances[at];
        instance.queue.clear();
        (instance.working, instance.waiting) = (0, 0);
    }

    fn stop(&mut self, now: Instant, ticket: Ticket) {
        let Some(job) = self.jobs.remove(ticket) else { return };
        let instance = &mut self.instances[job.instance];
        self.ledger.on_ended(job.arrived, now, instance.group, End::Stopped);
        self.errands.extend(job.begun.into_iter().map(|call| Errand::Leave { call }));
        match job.phase {
            Phase::Waiting => instance.waiting = instance.waiting.saturating_sub(1),
            Phase::Calling if !instance.behaviour.holds_server => {}
            Phase::Working | Phase::Calling => self.free_server(now, job.instance),
        }
    }

    fn instance_of(&self, place: Place) -> Option<usize> {
        let clusters = self.places.get(place.proxy.index())?;
        let at = *clusters.get(place.cluster.index())?.get(place.endpoint.index())?;
        (at < self.instances.len()).then_some(at)
    }
}

fn end_of(answer: &Answer) -> End {
    match answer {
        Answer::Response { status, .. } => End::Answered(*status),
        Answer::Broken { .. } | Answer::Silent | Answer::Later(_) => End::Lost,
    }
}

impl Upstreams for Services {
    fn dial(&mut self, now: Instant, place: Place) -> Dial {
        self.instance_of(place).map_or(Dial::Silent, |at| self.instances[at].dial(now))
    }

    fn is_early(&mut self, _place: Place) -> bool {
        false
    }

    fn answer(&mut self, now: Instant, place: Place, caller: Caller) -> Answer {
        self.instance_of(place).map_or(Answer::Silent, |at| self.take_in(now, at, caller))
    }

    fn on_abandoned(&mut self, now: Instant, job: Ticket) {
        let Some(here) = self.jobs.get_mut(job) else { return };
        here.is_abandoned = true;
        if self.instances[here.instance].behaviour.abandoned == Abandoned::Stopped {
            self.stop(now, job);
        }
    }

    fn probe(&mut self, now: Instant, place: Place, probe: &Probe, is_connected: bool) -> Probed {
        let nobody = Probed { after: Duration::ZERO, result: Some(ProbeResult::Broken), stays: false };
        self.instance_of(place).map_or(nobody, |at| self.instances[at].probe(now, probe, is_connected))
    }

    fn says_anything(&self) -> bool {
        self.instances.iter().any(|instance| instance.behaviour.says_anything())
    }

    fn head(&self, now: Instant, place: Place, status: u16) -> Option<HeaderMap> {
        self.instances[self.instance_of(place)?].behaviour.head(now, status)
    }

    fn idle_close(&self, place: Place) -> Option<IdleClose> {
        self.instances[self.instance_of(place)?].behaviour.idle_close
    }
}
