//! Proxies on virtual time: the same machine, told the same events in the same order.
//!
//! What `proxy/src/engine.rs` waits for with sockets and timers is here an event in a [`Queue`].
//! Time passes from one event to the next and never in between, so that an hour takes as long as
//! its events take to be told.
//!
//! | the proxy                            | here                                              |
//! |--------------------------------------|---------------------------------------------------|
//! | `engine::serve`                      | `arrive.rs`, [`World::begin`]                     |
//! | `engine::forward`, `attempt_once`    | `carry_out`, and `attempt.rs`                     |
//! | `Upload`                             | `client.rs`                                       |
//! | `Passage::poll_frame`                | the second half of `attempt.rs`                   |
//! | `Passage::poll_watch`, timers        | `News::Tick`                                      |
//! | `limited::Line`, `dial::dial`        | `connection.rs`                                   |
//! | `guarded`, `prober`, `shared_limits` | `guards.rs`                                       |
//! | `surge`                              | `surge.rs`                                        |
//! | `shadow`                             | `copies.rs`                                       |
//! | `cached`, `shared_cache`             | `cached.rs`                                       |
//! | `gate`                               | `gate.rs`                                         |
//! | `gate/leases`, `tiers`               | `leases.rs`, `tiers.rs`                           |
//! | `Drop for Passage`                   | `settle`: the one place where a permit is released |

mod arrive;
mod attempt;
mod connection;
mod client;
mod copies;
mod cached;
mod gate;
mod leases;
mod tiers;
mod guards;
mod surge;
mod audit;
mod beside;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use naru_base::{AttemptId, ClusterId, EndpointId, Instant, Reason};
use naru_journey::limits::LimitId;
use naru_journey::outgoing::Stamp;
use naru_journey::{Action, Journey, Outcome, Snapshot, Worker, reply};
use naru_recover::layer;
use naru_route::{CompiledAction, Subject};

use crate::arena::{Arena, Ticket};
use crate::asker::Places;
use crate::change::StateChange;
use crate::decision::Decision;
use crate::fleet::Fleet;
use crate::judge::{self, Active, Violation};
use crate::kept::Memory;
use crate::mirrors::OfRules;
use crate::passage::{Key, Passage, Passages, Permit, Upload};
use crate::pool::Pool;
use crate::queue::Queue;
use crate::stores::{Around, StoreHere};
use crate::tiers::TiersHere;
use crate::upstream::{Answer, Caller, ProxyId, Upstreams};
pub(crate) use cached::etag_of;
use guards::ProbeAnswer;
use leases::LeasesHere;
use surge::SurgeHere;
pub use surge::SurgeNoted;
use tiers::Behind;

/// Simulated proxies and what stands behind them. `T` is what their user marks requests and calls
/// with.
#[derive(Debug)]
pub struct World<'a, U, T> {
    now: Instant,
    queue: Queue<Event<T>>,
    proxies: Vec<ProxyHere<'a>>,
    upstreams: U,
    passages: Passages<T>,
    /// HTTP/1 connections that carry a request.
    connections_in_use: u64,
    /// How often nothing was under way.
    pauses: u64,
    /// Events that nothing waits for: guards that look, probes that are answered.
    background: usize,
    /// Answers to probes that are on their way: apart, so that events are small.
    probes: Arena<ProbeAnswer>,
    /// What was counted below zero, if anything was.
    miscount: Option<&'static str>,
    /// What does not hold of a guard or a limit, if anything does not.
    broken: Option<&'static str>,
    /// Events until a cluster is counted anew, where that is not done after each; and which one that is.
    audit_in: u32,
    audited: (ProxyId, ClusterId),
    /// Changes of state that nobody has taken yet.
    noted: VecDeque<Noted>,
    /// Other levels of a `Surge` that nobody has taken yet.
    surged: VecDeque<SurgeNoted>,
    /// Some service says more in its answers than a status.
    says_anything: bool,
    /// What gives counts and files.
    around: Around,
    /// Limits that gateways share among themselves.
    leases: Option<Box<LeasesHere>>,
    /// Answers that are kept behind memories, and what is on its way from and to there.
    behind: Behind,
}

/// A proxy sees an endpoint, or a whole cluster, in another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    pub at: Instant,
    pub proxy: ProxyId,
    pub cluster: ClusterId,
    pub endpoint: Option<EndpointId>,
    pub change: StateChange,
}

/// What is left of a world.
#[derive(Debug)]
pub struct Parts<U> {
    pub upstreams: U,
    pub fleets: Vec<Fleet>,
    pub memories: Vec<Option<Box<Memory>>>,
    pub tiers: Vec<Box<TiersHere>>,
    pub around: Around,
}

/// One proxy.
#[derive(Debug)]
struct ProxyHere<'a> {
    snapshot: &'a Snapshot,
    workers: Vec<WorkerHere>,
    fleet: Fleet,
    mirrors: OfRules,
    surge: Option<Box<SurgeHere>>,
    memory: Option<Box<Memory>>,
    /// Behind the memory.
    tiers: Option<Box<TiersHere>>,
    /// Where the checks of each chain look for what is shown.
    places: Vec<Places>,
}

/// One worker: its share of the core, and its connections by cluster and endpoint.
#[derive(Debug)]
struct WorkerHere {
    core: Worker,
    pools: Vec<Vec<Pool>>,
    /// Copies of requests under way.
    copies: usize,
    /// By the name of a store: what it knows of it.
    stores: BTreeMap<String, StoreHere>,
}

/// Who asks, as far as it matters: when it stops waiting, and why it asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// It leaves after so long.
    pub patience: Option<Duration>,
    /// It says that it will leave then; who works on the request may hand that on.
    pub deadline: Option<Instant>,
    /// What an upstream gave out for the request that it asks on behalf of.
    pub origin: Option<Ticket>,
    /// It says that the request was sent before (`x-naru-attempt`).
    pub is_repeat: bool,
    /// It hands a name on (`x-request-id`); 0 where it has none.
    pub trace: u64,
}

#[derive(Clone, Copy, Debug)]
enum Event<T> {
    Call(T),
    Request(Key, News),
    /// The end of a dial that several requests may wait for.
    SharedDial(SharedDial),
    /// The guard of a cluster is to know what time it is.
    Guard(ProxyId, ClusterId),
    /// A limit with a name is to know it.
    Limit(ProxyId, LimitId),
    /// The load of a proxy is looked at.
    Surge(ProxyId),
    /// The answer to a probe.
    Probed(Ticket),
    /// Gateways that share limits hear each other.
    Lease(Ticket),
    /// News of what is behind the memory of a proxy.
    Tier(ProxyId, Ticket),
    /// An answer that others wait for is written.
    Written(ProxyId, Ticket),
}

#[derive(Clone, Copy, Debug)]
struct SharedDial {
    proxy: ProxyId,
    worker: u32,
    cluster: ClusterId,
    endpoint: EndpointId,
    serial: u32,
    result: Result<(), Reason>,
}

/// News of one request.
#[derive(Clone, Copy, Debug)]
enum News {
    Tick,
    ClientLeaves,
    /// A part of its body came in.
    Uploaded,
    /// What follows the last part came in.
    UploadEnded,
    /// What is copied was read so far.
    Fed {
        parts: u32,
        has_end: bool,
    },
    /// The request that is copied is over.
    Starved,
    /// It was woken at a limit.
    Turn,
    /// What it waits for in memory may be there, or it has waited long enough.
    Looked,
    /// What was looked for behind the memory was found, or not.
    Sought(Ticket),
    /// What other gateways were asked for may be there, or it has waited long enough.
    Leased,
    /// A question of a check was answered by another one than a service.
    Answered(Ticket),
    /// It is the first of those who wait for a connection, and there may be one.
    First(AttemptId),
    /// A connection that it could have waited for could not be made.
    NotFirst(AttemptId, Reason),
    /// The client has read the proxy's own answer.
    ReplyRead,
    Dialed(AttemptId, Result<(), Reason>),
    Head(AttemptId),
    /// A part of the response came in.
    Part(AttemptId),
    /// What follows the last part came in.
    BodyEnded(AttemptId),
    /// The connection or the stream broke.
    Broken(AttemptId, Reason),
}

/// What one step was about.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is looked at where it is returned, and never kept")]
pub enum Turn<'a, T> {
    /// The moment that [`World::call_at`] asked for.
    Called(T),
    Settled(Settled<'a, T>),
    /// Something in between.
    Moved,
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a, T> {
    /// From 0, in the order in which requests began.
    pub number: u64,
    pub proxy: ProxyId,
    pub tag: T,
    pub decision: Decision<'a>,
    pub outcome: Outcome,
    pub endpoint: Option<(ClusterId, EndpointId)>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// The client was told that the request was retried already (`x-naru-retries`).
    pub is_exhausted: bool,
}

impl<'a, U: Upstreams, T: Copy> World<'a, U, T> {
    /// A proxy that has just started, with all its endpoints known. Worker `n` has the seed of the
    /// proxy's worker `n` under the same seed.
    pub fn new(
        snapshot: &'a Snapshot,
        workers: usize,
        seed: u64,
        fleet: Fleet,
        upstreams: U,
    ) -> World<'a, U, T> {
        let mut world = World::empty(upstreams);
        world.add_proxy(snapshot, workers, seed, fleet);
        world
    }

    /// No proxy yet.
    pub fn empty(upstreams: U) -> World<'a, U, T> {
        let says_anything = upstreams.says_anything();
        World {
            now: Instant::ZERO,
            queue: Queue::new(),
            proxies: Vec::new(),
            upstreams,
            passages: Passages::default(),
            connections_in_use: 0,
            pauses: 0,
            background: 0,
            probes: Arena::default(),
            miscount: None,
            broken: None,
            audit_in: 0,
            audited: (ProxyId(0), ClusterId(0)),
            noted: VecDeque::new(),
            surged: VecDeque::new(),
            says_anything,
            around: Around::default(),
            leases: None,
            behind: Behind::default(),
        }
    }

    /// What stood behind the proxies, and what each of them counted and keeps.
    pub fn into_parts(self) -> Parts<U> {
        let mut parts = Parts {
            upstreams: self.upstreams,
            fleets: Vec::new(),
            memories: Vec::new(),
            tiers: Vec::new(),
            around: self.around,
        };
        for proxy in self.proxies {
            parts.fleets.push(proxy.fleet);
            parts.memories.push(proxy.memory);
            parts.tiers.extend(proxy.tiers);
        }
        parts
    }

    /// Stores that answer, and files that are there.
    pub fn put_around(&mut self, around: Around) {
        self.around = around;
    }

    /// One more proxy that has just started.
    pub fn add_proxy(
        &mut self,
        snapshot: &'a Snapshot,
        workers: usize,
        seed: u64,
        mut fleet: Fleet,
    ) -> ProxyId {
        let proxy = ProxyId(self.proxies.len() as u32);
        fleet.proxy = proxy;
        fleet.places = Rc::clone(&self.around.places);
        if let Some(first) = self.proxies.first() {
            fleet.shared = Rc::clone(&first.fleet.shared);
        }
        fleet.start(self.now, snapshot, workers.max(1), seed);
        let workers = (0u64..)
            .take(workers.max(1))
            .map(|at| {
                let mut core = Worker::new(snapshot, seed.wrapping_add(at));
                let mut pools = Vec::with_capacity(snapshot.clusters.len());
                for (id, endpoints) in fleet.clusters() {
                    let facts: Vec<_> = endpoints.iter().map(|endpoint| endpoint.facts()).collect();
                    core.set_endpoints(snapshot, id, &facts);
                    pools.push(endpoints.iter().map(|_| Pool::default()).collect());
                }
                WorkerHere { core, pools, copies: 0, stores: BTreeMap::new() }
            })
            .collect();
        let mirrors = fleet.shared.mirrors.borrow_mut().of(snapshot);
        self.proxies.push(ProxyHere {
            snapshot,
            workers,
            fleet,
            mirrors,
            surge: SurgeHere::of(self.now, snapshot),
            memory: Memory::of(snapshot, seed),
            tiers: TiersHere::of(snapshot, seed),
            places: snapshot.chains().iter().map(|chain| Places::of(chain.gate.as_deref())).collect(),
        });
        self.start_guards(proxy);
        self.look_after_surge(proxy);
        self.look_after_tiers(proxy);
        proxy
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    /// Of the first proxy.
    pub fn fleet(&self) -> &Fleet {
        &self.proxies[0].fleet
    }

    pub fn fleet_of(&self, proxy: ProxyId) -> &Fleet {
        &self.proxies[proxy.index()].fleet
    }

    pub fn upstreams(&mut self) -> &mut U {
        &mut self.upstreams
    }

    pub fn workers(&self, proxy: ProxyId) -> usize {
        self.proxies[proxy.index()].workers.len()
    }

    /// Everything that is counted while it is active.
    pub fn active(&self) -> Active {
        let workers = self.proxies.iter().flat_map(|proxy| &proxy.workers);
        let pools = workers.flat_map(|worker| worker.pools.iter().flatten());
        Active {
            requests: self.passages.under_way(),
            permits: self.proxies.iter().map(|proxy| proxy.fleet.active()).sum(),
            connections: self.connections_in_use + pools.map(Pool::streams).sum::<u64>(),
            limited: self.proxies.iter().map(|proxy| proxy.fleet.limited()).sum(),
            fetches: self.proxies.iter().filter_map(|proxy| Some(proxy.memory.as_ref()?.flights())).sum(),
            work: 0,
        }
    }

    /// What a policy of a proxy did: for the transcript.
    pub fn note(
        &mut self,
        proxy: ProxyId,
        cluster: ClusterId,
        endpoint: Option<EndpointId>,
        change: StateChange,
    ) {
        self.noted.push_back(Noted { at: self.now, proxy, cluster, endpoint, change });
    }

    /// Changes of state, the oldest first.
    #[inline]
    pub fn next_noted(&mut self) -> Option<Noted> {
        self.noted.pop_front()
    }

    pub fn snapshot_of(&self, proxy: ProxyId) -> &'a Snapshot {
        self.proxies[proxy.index()].snapshot
    }

    /// Whether anything happens without requests: a cluster is guarded, a load is looked at.
    pub fn is_guarded(&self) -> bool {
        if self.leases.is_some() {
            return true;
        }
        self.proxies.iter().any(|proxy| proxy.surge.is_some() || proxy.fleet.guarded().next().is_some())
    }

    /// Asks to be told of a moment.
    pub fn call_at(&mut self, at: Instant, tag: T) {
        self.queue.push(at.max(self.now), Event::Call(tag));
    }

    /// The time of the next event.
    pub fn next_at(&self) -> Option<Instant> {
        self.queue.next_at()
    }

    /// The answer comes to a request whose upstream had said [`Answer::Later`]. Whoever does not wait
    /// for it any more does not hear it. `says_exhausted` where it says that it was retried already.
    pub fn respond(
        &mut self,
        caller: Caller,
        answer: Answer,
        says_exhausted: bool,
    ) -> Result<Turn<'a, T>, Violation> {
        let Some(mut passage) = self.passages.take(caller.key) else { return Ok(Turn::Moved) };
        self.bring_forward(&mut passage, caller.attempt);
        self.on_answer(&mut passage, caller.attempt, answer, says_exhausted);
        self.conclude(passage, None)
    }

    /// The client of a request leaves.
    pub fn abandon(&mut self, key: Key) -> Result<Turn<'a, T>, Violation> {
        match self.passages.take(key) {
            Some(passage) => self.end(passage),
            None => Ok(Turn::Moved),
        }
    }

    /// Takes the next event; `None` when nothing more will happen by itself.
    pub fn step(&mut self) -> Result<Option<Turn<'a, T>>, Violation> {
        // Guards look for ever, and no request waits for that.
        if self.queue.len() <= self.background {
            return Ok(None);
        }
        let Some((at, event)) = self.queue.pop() else { return Ok(None) };
        self.now = at;
        match event {
            Event::Call(tag) => Ok(Some(Turn::Called(tag))),
            Event::SharedDial(dial) => {
                self.end_shared_dial(&dial);
                self.audit(dial.proxy, Some(dial.cluster)).map(|()| Some(Turn::Moved))
            }
            Event::Guard(proxy, cluster) => {
                self.background -= 1;
                self.tick_guard(proxy, cluster);
                self.audit(proxy, Some(cluster)).map(|()| Some(Turn::Moved))
            }
            Event::Limit(proxy, limit) => {
                self.background -= 1;
                self.tick_limit(proxy, limit);
                self.audit(proxy, None).map(|()| Some(Turn::Moved))
            }
            Event::Surge(proxy) => {
                self.background -= 1;
                self.look_at_load(proxy);
                Ok(Some(Turn::Moved))
            }
            Event::Lease(news) => {
                self.background -= 1;
                self.hear_leases(news);
                self.audit(ProxyId(0), None).map(|()| Some(Turn::Moved))
            }
            Event::Tier(proxy, news) => {
                self.background -= 1;
                self.hear_tier(proxy, news);
                Ok(Some(Turn::Moved))
            }
            Event::Written(proxy, keeping) => {
                self.keep_written(proxy, keeping);
                self.check_pause().map(|()| Some(Turn::Moved))
            }
            Event::Probed(answer) => {
                self.background -= 1;
                let Some(answer) = self.probes.remove(answer) else { return Ok(Some(Turn::Moved)) };
                self.on_probed(&answer);
                self.audit(answer.proxy, Some(answer.cluster)).map(|()| Some(Turn::Moved))
            }
            Event::Request(key, news) => {
                // News may come after the end; there is nobody left to hear it.
                let Some(mut passage) = self.passages.take(key) else { return Ok(Some(Turn::Moved)) };
                if passage.copied.is_some() {
                    return self.hear_copy(passage, news).map(|()| Some(Turn::Moved));
                }
                if let News::ClientLeaves = news {
                    return self.end(passage).map(Some);
                }
                self.tell(&mut passage, news);
                self.conclude(passage, None).map(Some)
            }
        }
    }

    /// The clients of all requests leave, the oldest place first.
    pub fn abandon_all(&mut self) {
        let keys: Vec<Key> = self.passages.iter().map(|passage| passage.key).collect();
        for key in keys {
            self.queue.push(self.now, Event::Request(key, News::ClientLeaves));
        }
    }

    fn tell(&mut self, passage: &mut Passage<T>, news: News) {
        if !passage.beside.is_empty()
            && let Some(attempt) = beside::attempt_of(news)
        {
            self.bring_forward(passage, attempt);
        }
        match news {
            News::Tick => {
                passage.tick = None;
                passage.journey.tick(self.now);
                if passage.asking.is_some() {
                    self.look_at_question(passage);
                }
            }
            News::ClientLeaves | News::Fed { .. } | News::Starved => {}
            News::Uploaded => self.on_uploaded(passage),
            News::UploadEnded => self.on_upload_ended(passage),
            News::Turn => self.hear_turn(passage),
            News::Looked => self.look_again(passage),
            News::Sought(sought) => self.hear_sought(passage, sought),
            News::Leased => self.look_at_leases(passage),
            News::Answered(answer) => self.hear_answer(passage, answer),
            News::First(attempt) => self.on_first(passage, attempt),
            News::NotFirst(attempt, reason) => self.on_not_first(passage, attempt, reason),
            News::ReplyRead => {
                passage.journey.on_response_body(self.now, naru_journey::Milestone::End);
            }
            News::Dialed(attempt, result) => self.on_dialed(passage, attempt, result),
            News::Head(attempt) => self.on_head(passage, attempt),
            News::Part(attempt) => self.on_part(passage, attempt),
            News::BodyEnded(attempt) => self.on_body_ended(passage, attempt),
            News::Broken(attempt, reason) => self.on_broken(passage, attempt, reason),
        }
    }

    /// Does what the journey asks for, then looks whether it is over.
    fn conclude(
        &mut self,
        mut passage: Box<Passage<T>>,
        subject: Option<&Subject<'_>>,
    ) -> Result<Turn<'a, T>, Violation> {
        if passage.copied.is_some() {
            return self.conclude_copy(passage).map(|()| Turn::Moved);
        }
        while let Some(action) = passage.journey.next_action() {
            self.carry_out(&mut passage, action, subject);
        }
        judge::check_request(self.now, &passage)?;
        if passage.journey.has_ended() {
            return self.end(passage);
        }
        if let Some((deadline, _)) = passage.journey.deadline() {
            self.expect_tick(&mut passage, deadline);
        }
        let (proxy, cluster) = (passage.proxy, passage.cluster());
        self.passages.put(passage);
        self.hear_shared(proxy);
        self.audit(proxy, cluster).map(|()| Turn::Moved)
    }

    /// A request is over. Of one that nobody waits for but the cache nobody hears.
    fn end(&mut self, passage: Box<Passage<T>>) -> Result<Turn<'a, T>, Violation> {
        let is_background = passage.cached.as_ref().is_some_and(|cached| cached.is_background);
        let settled = self.settle(passage)?;
        Ok(if is_background { Turn::Moved } else { Turn::Settled(settled) })
    }

    fn carry_out(&mut self, passage: &mut Passage<T>, action: Action, subject: Option<&Subject<'_>>) {
        match action {
            Action::Send { attempt, cluster, endpoint, cause } => {
                passage.sends += 1;
                let snapshot = self.proxies[passage.proxy.index()].snapshot;
                if passage.journey.is_mirrored(snapshot, attempt) {
                    self.copy(passage);
                }
                self.send(passage, attempt, cluster, endpoint, cause);
            }
            Action::Forward { attempt } => {
                passage.heads += 1;
                self.drop_beside(passage);
                self.pass_on(passage, attempt);
            }
            Action::Check => self.hear_check(passage),
            Action::Ask => self.ask_about(passage),
            Action::Wait { limit, queued } => self.wait_at(passage, limit, queued),
            Action::Look => self.hear_turn(passage),
            Action::Lookup => self.look_up(passage),
            // A scenario has no endpoints that come with requests; that is told where it is read.
            Action::Locate { .. } => {
                let here = &mut self.proxies[passage.proxy.index()];
                let core = &mut here.workers[passage.worker].core;
                let view = here.fleet.seen_by(passage.worker);
                passage.journey.on_located(self.now, here.snapshot, None, core, &view, &mut ());
            }
            // Simulated clients ask for no tunnels.
            Action::Open | Action::Reach { .. } => {}
            Action::Cancel { attempt } => {
                self.bring_forward(passage, attempt);
                // One that a fault held was never sent.
                if passage.flight.as_ref().is_none_or(|flight| flight.attempt == attempt) {
                    self.leave_response(passage);
                }
            }
            Action::Due => self.hear_due(passage),
            Action::Reply(reason) => {
                passage.heads += 1;
                self.answer(passage, reason, subject);
            }
            Action::Break(_) => {
                self.drop_beside(passage);
                self.drop_flight(passage);
            }
        }
    }

    /// Answers in the proxy's own name.
    fn answer(&mut self, passage: &mut Passage<T>, reason: Reason, subject: Option<&Subject<'_>>) {
        // Its answer needs nothing that is limited.
        self.leave_limits(passage);
        self.drop_beside(passage);
        self.drop_flight(passage);
        if reason.is_cached() && self.answer_kept(passage, reason) {
            return;
        }
        let reason = if reason.is_cached() { Reason::NoHealthyUpstream } else { reason };
        // Of its headers only what is said of retries is read.
        let date = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
        let stamp = Stamp { request_id: None, date: &date };
        let mut fill = |_: &http::HeaderMap, _: &naru_spec::Format, _: &mut Vec<u8>| {};
        let is_grpc = passage.is_grpc;
        let snapshot = self.proxies[passage.proxy.index()].snapshot;
        let kept = passage.head.as_ref().map(|head| head.line.subject(&head.headers, &head.client, 0));
        let subject = subject.or(kept.as_ref());
        let reply = reply::compose(snapshot, &passage.journey, reason, subject, is_grpc, stamp, &mut fill);
        passage.says_exhausted = layer::is_exhausted(&reply.headers);
        passage.journey.on_reply(self.now, reply.status.as_u16(), reply.grpc_status);
        // Of a file the reply has the head only.
        let length = passage.journey.given().map_or(reply.body.len() as u64, |given| given.length());
        if length == 0 || passage.is_head {
            passage.journey.on_response_body(self.now, naru_journey::Milestone::End);
        } else {
            passage.bytes_sent = length;
            self.queue.push(self.now, Event::Request(passage.key, News::ReplyRead));
        }
    }

    /// Counts the request at an endpoint. A permit that it had for another attempt is returned.
    fn hold(&mut self, passage: &mut Passage<T>, cluster: ClusterId, endpoint: EndpointId) {
        self.release(passage);
        passage.permit = None;
        let fleet = &mut self.proxies[passage.proxy.index()].fleet;
        if let Some(here) = fleet.get_mut(cluster, endpoint) {
            here.active += 1;
            here.active_max = here.active_max.max(here.active);
            here.requests_total += 1;
            let address = here.address;
            passage.permit = Some(Permit { cluster, endpoint, address, is_counted: true, is_sent: false });
        }
    }

    fn release(&mut self, passage: &mut Passage<T>) {
        self.rest(passage);
    }

    /// It is at no endpoint for a while.
    fn rest(&mut self, passage: &mut Passage<T>) {
        let fleet = &mut self.proxies[passage.proxy.index()].fleet;
        if let Some(permit) = passage.permit.as_mut().filter(|permit| permit.is_counted)
            && let Some(cluster) = fleet.cluster_mut(permit.cluster)
            && let Some(here) = cluster.endpoints.get_mut(permit.endpoint.index())
        {
            permit.is_counted = false;
            match here.active.checked_sub(1) {
                Some(active) => here.active = active,
                None => self.miscount = Some("the requests at an endpoint"),
            }
        }
        self.give_sent_back(passage);
    }

    /// The cluster has room for another one.
    fn give_sent_back(&mut self, passage: &mut Passage<T>) {
        let fleet = &mut self.proxies[passage.proxy.index()].fleet;
        if let Some(permit) = passage.permit.as_mut().filter(|permit| permit.is_sent)
            && let Some(cluster) = fleet.cluster_mut(permit.cluster)
        {
            permit.is_sent = false;
            cluster.limited.give_request_back();
        }
    }

    /// The end of a request, whatever it was: what the proxy does when its passage is dropped.
    fn settle(&mut self, mut passage: Box<Passage<T>>) -> Result<Settled<'a, T>, Violation> {
        passage.journey.tick(self.now);
        passage.journey.on_abandoned(self.now);
        self.report(&mut passage);
        let here = &mut self.proxies[passage.proxy.index()];
        if passage.is_in_fault {
            here.fleet.shared.faults.update(|count| count - 1);
        }
        if passage.journey.is_timed_automatically(here.snapshot) {
            passage.journey.teach(&mut here.workers[passage.worker].core);
        }
        if passage.is_retrying {
            self.count_retry(&mut passage);
        }
        self.leave_limits(&mut passage);
        if passage.copies.is_some() {
            self.leave_copies(&mut passage);
        }
        if passage.asking.is_some() {
            self.stop_asking(&mut passage);
        }
        let is_background = passage.cached.as_ref().is_some_and(|cached| cached.is_background);
        if passage.cached.is_some() {
            self.leave_cached(&mut passage);
        }
        judge::check_request(self.now, &passage)?;
        let Some(outcome) = passage.journey.outcome() else {
            return Err(judge::violation(self.now, &passage, "it ended without an outcome"));
        };
        judge::check_outcome(self.now, &passage, &outcome)?;
        if !is_background {
            self.count_load(&passage, &outcome);
        }
        let address = passage.permit.map(|permit| permit.address);
        let snapshot = self.proxies[passage.proxy.index()].snapshot;
        let settled = Settled {
            number: passage.key.number(),
            proxy: passage.proxy,
            tag: passage.tag,
            decision: Decision::of(snapshot, &passage.journey, &outcome, address),
            outcome,
            endpoint: passage.permit.map(|permit| (permit.cluster, permit.endpoint)),
            bytes_received: passage.upload.as_ref().map_or(0, Upload::received),
            bytes_sent: passage.bytes_sent,
            is_exhausted: passage.says_exhausted,
        };
        let cluster = passage.cluster();
        self.drop_beside(&mut passage);
        self.drop_flight(&mut passage);
        self.release(&mut passage);
        self.forget(&passage);
        self.hear_shared(passage.proxy);
        self.audit(passage.proxy, cluster)?;
        self.check_pause()?;
        Ok(settled)
    }

    /// Time is to be told at a deadline, or before it.
    fn expect_tick(&mut self, passage: &mut Passage<T>, deadline: Instant) {
        if let Some((at, tick)) = passage.tick {
            if at <= deadline {
                return;
            }
            self.queue.cancel(tick);
        }
        let tick = self.queue.push(deadline, Event::Request(passage.key, News::Tick));
        passage.tick = Some((deadline, tick));
    }

    /// A request is over: what it waited for need not come.
    fn forget(&mut self, passage: &Passage<T>) {
        for awaited in passage.tick.map(|(_, tick)| tick).into_iter().chain(passage.leaves) {
            self.queue.cancel(awaited);
        }
        self.passages.remove(passage.key);
    }

    /// Something is over, and perhaps nothing is under way any more.
    fn check_pause(&mut self) -> Result<(), Violation> {
        if let Some(what) = self.miscount {
            let what = format!("{what} went below zero");
            return Err(Violation { at: self.now, request: None, what });
        }
        if self.passages.under_way() == 0 && !self.behind.is_keeping() {
            self.pauses += 1;
            // Adding up what thousands of pools carry takes longer than the request did.
            if self.pauses.is_multiple_of(self.proxies.len() as u64) {
                judge::check_end(self.now, self.active())?;
            }
        }
        Ok(())
    }
}

/// One attempt for each endpoint that may be tried, and each cluster that may be asked instead, and one more for each
/// whose connection turned out closed.
fn sends_max(snapshot: &Snapshot, journey: &Journey) -> u32 {
    let table = &snapshot.chain(journey.chain()).table;
    match journey.rule().map(|(id, _)| &table.rule(id).action) {
        Some(CompiledAction::Forward(_)) => {
            let beside = if journey.may_hedge() { naru_spec::defaults::ATTEMPTS_AT_ONCE_MAX } else { 0 };
            2 * (1 + journey.retries_left() + beside + journey.fallbacks_left(snapshot) as u32)
        }
        _ => 0,
    }
}

/// Numbers that follow each other would share the half of a word that says who it is.
fn name_of(key: Key) -> u64 {
    (key.number() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
