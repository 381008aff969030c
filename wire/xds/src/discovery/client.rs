//! What does a proxy say to its control plane, and what does it take from it?
//!
//! The client's side of ADS as a machine without a network: bytes and moments go in, bytes to be sent and plans to be
//! carried out come out. Whoever has the stream calls
//!
//! | when | call | then |
//! |---|---|---|
//! | a stream stands | [`Client::connected`] | send [`Client::take_requests`] |
//! | bytes of a response came | [`Client::receive`] | where [`Client::take_plan`] has a plan, carry it out and tell [`Client::settle`]; read no more before that; then send |
//! | the stream ended | [`Client::lost`] | connect again after the time that it says |
//! | [`Client::deadline`] is there | [`Client::tick`] | as after a response; end the stream where [`Client::takes_another_stream`] says so |
//!
//! A response is taken whole or not at all. One whose resources are wrong, or whose plan cannot be carried out, is
//! refused (NACK) with the first reason, and what was known of its kind before stays. One that is right is accepted
//! (ACK) once its plan is in force, or at once where it has to wait for others. Source: "xDS REST and gRPC protocol".

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use naru_base::chance::Chance;
use naru_base::{Instant, WallTime};
use naru_spec::Config;
use prost::Message;

use super::kept::{self, OfKind};
use super::known::{Came, Held, Known, Reader, Stamps};
use super::source::{Consulted, Dynamic};
use super::status::{KindStatus, Status as ClientStatus, Waiting};
use super::whole::{Parts, Plan, Whole};
use super::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, KINDS, Kind, Status,
};
use crate::Schema;
use crate::ours::may_hold_secrets;
use crate::supported::Check;

/// Between two tries to connect at first, and at most; each is drawn from nothing up to it. Envoy's.
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// What was refused is asked for again on another stream: after so long, then twice as long, up to the most. What it
/// lacked may be there then: an address that was in use, a file.
const AGAIN_BASE: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// Of a reason that a control plane is told.
const REASON_BYTES_MAX: usize = 4_096;
/// Of what nobody has asked for yet.
const EVENTS_MAX: usize = 256;
/// Names of what has to be kept; of more, all of it is kept anew.
const UNKEPT_MAX: usize = 100_000;
/// `INVALID_ARGUMENT` of gRPC.
const INVALID: i32 = 3;

/// The client's side of a control plane. See the words above.
#[derive(Debug)]
pub struct Client {
    dynamic: Dynamic,
    reader: Reader,
    chance: Chance,
    known: Known,
    in_force: Whole,
    subscriptions: BTreeMap<Kind, Subscription>,
    /// A stream stands.
    is_connected: bool,
    /// Nothing was said on this stream yet.
    is_first: bool,
    /// Tries since the last response.
    tries: u32,
    requests: VecDeque<Vec<u8>>,
    pending: Option<Pending>,
    /// What is waited for, until when; `None` is for ever.
    waits: BTreeMap<(Kind, String), Option<Instant>>,
    expired: BTreeSet<(Kind, String)>,
    /// Delta has said that it is not there.
    gone: BTreeSet<(Kind, String)>,
    events: VecDeque<Event>,
    /// What was accepted since it was last kept.
    has_news: bool,
    unkept: Option<Unkept>,
    counts: Counts,
    again: Again,
}

/// When what was refused is asked for again.
#[derive(Debug, Default)]
struct Again {
    at: Option<Instant>,
    /// Since everything was accepted last.
    times: u32,
    is_due: bool,
}

/// What may be another since it was last kept.
#[derive(Debug)]
struct Unkept {
    names: BTreeSet<(Kind, String)>,
    /// The tables without virtual hosts that were kept.
    gone: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    connects: u64,
    failures: u64,
}

/// What is asked of one kind.
#[derive(Debug, Default)]
struct Subscription {
    /// In the last request; of clusters and listeners none, which is all of them.
    names: BTreeSet<String>,
    /// Said on this stream.
    is_open: bool,
    /// Of the last response that was accepted.
    version: String,
    /// It was said to another process, and perhaps by another control plane, which may call something else so.
    is_kept: bool,
    nonce: String,
    answered: bool,
    attempts: u64,
    accepted: u64,
    rejected: u64,
    updated: Option<WallTime>,
    /// Why the last response was refused, where it was.
    refusal: Option<String>,
}

/// A response that is not settled.
#[derive(Debug)]
struct Pending {
    response: Option<OfResponse>,
    whole: Whole,
    plan: Option<Plan>,
}

#[derive(Debug)]
struct OfResponse {
    kind: Kind,
    version: String,
    nonce: String,
    before: BTreeMap<String, Arc<Held>>,
    gone_before: BTreeSet<(Kind, String)>,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A response was refused, and why.
    Refused { kind: Kind, version: String, why: String },
    /// What was refused before is right now.
    Recovered { kind: Kind, version: String },
    /// Something did not come in time, and is taken to be empty where nothing was there before.
    WaitedInVain { kind: Kind, name: String },
    /// A kind that was not asked for.
    Unasked { type_url: String },
    /// What is known cannot be put in force, and nobody can be told who sent it.
    NotInForce { why: String },
}

/// Bytes that are no response: the stream is worth nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Client {
    /// What the file says itself is in force; [`Client::config`] says what that is.
    pub fn new(schema: Schema, dynamic: Dynamic, seed: u64, now: Instant) -> Client {
        let secrets = dynamic.statics.secrets.keys().cloned().collect();
        let statics = &dynamic.statics;
        let stamps = Stamps::beyond(statics.clusters.iter().chain(&statics.listeners));
        let is_delta = dynamic.control_plane.as_ref().is_some_and(|one| one.is_delta);
        let mut client = Client {
            reader: Reader { schema, check: Check::new(), stamps, secrets, is_delta },
            dynamic,
            chance: Chance::split(seed, "control plane"),
            known: Known::default(),
            in_force: Whole::default(),
            subscriptions: BTreeMap::new(),
            is_connected: false,
            is_first: true,
            tries: 0,
            requests: VecDeque::new(),
            pending: None,
            waits: BTreeMap::new(),
            expired: BTreeSet::new(),
            gone: BTreeSet::new(),
            events: VecDeque::new(),
            has_news: false,
            unkept: None,
            counts: Counts::default(),
            again: Again::default(),
        };
        client.begin_waiting(now);
        client.take_over(now);
        client
    }

    fn begin_waiting(&mut self, now: Instant) {
        for (kind, source) in
            [(Kind::Cluster, self.dynamic.clusters), (Kind::Listener, self.dynamic.listeners)]
        {
            if let Some(timeout) = source {
                self.waits.insert((kind, String::new()), timeout.map(|timeout| now + timeout));
            }
        }
    }

    /// What can be put in force is, without anybody being asked: before anything runs by it.
    fn take_over(&mut self, now: Instant) {
        match self.assemble(now) {
            Ok((whole, _)) => self.in_force = whole,
            Err(why) => self.event(Event::NotInForce { why }),
        }
    }

    /// Another file with the same control plane, perhaps: what is known of the resources of the one before stays.
    pub fn succeed(&self, dynamic: Dynamic, seed: u64, now: Instant) -> Client {
        let mut client = Client::new(self.reader.schema.clone(), dynamic, seed, now);
        // What is kept of it can be read again by itself.
        let _ = client.restore(now, &self.keep(true));
        client
    }

    pub fn control_plane(&self) -> Option<&Consulted> {
        self.dynamic.control_plane.as_ref()
    }

    pub fn dynamic(&self) -> &Dynamic {
        &self.dynamic
    }

    /// What is in force.
    pub fn config(&self) -> Config {
        self.in_force.config(&self.dynamic)
    }

    /// Whether clusters and listeners that are asked for have come, be it from disk, or are waited for no longer and
    /// something is served all the same. What was refused has not come.
    pub fn is_initialized(&self) -> bool {
        let serves = self.in_force.serves();
        let is_refused = self.subscriptions.values().any(|one| one.refusal.is_some());
        // A listener may have come whose routes were refused.
        if is_refused && !serves {
            return false;
        }
        let has_come = |(kind, is_asked): (Kind, bool)| {
            !is_asked
                || self.subscriptions.get(&kind).is_some_and(|one| one.answered)
                || self.known.count(kind) > 0
                || serves && self.expired.contains(&(kind, String::new()))
        };
        [(Kind::Cluster, self.dynamic.clusters.is_some()), (Kind::Listener, self.dynamic.listeners.is_some())]
            .into_iter()
            .all(has_come)
    }

    /// A stream stands: what is wanted is asked for anew, with what is known of it.
    pub fn connected(&mut self, now: Instant) {
        self.counts.connects += 1;
        self.is_connected = true;
        self.is_first = true;
        self.again.at = None;
        self.requests.clear();
        for subscription in self.subscriptions.values_mut() {
            subscription.is_open = false;
            subscription.nonce.clear();
        }
        self.subscribe(now);
    }

    /// The stream ended, or there was none: how long to wait before the next.
    pub fn lost(&mut self) -> Duration {
        self.is_connected = false;
        self.requests.clear();
        self.counts.failures += 1;
        let span = BACKOFF_BASE.saturating_mul(1 << self.tries.min(10)).min(BACKOFF_MAX);
        self.tries = self.tries.saturating_add(1);
        Duration::from_nanos(self.chance.below(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    pub fn take_requests(&mut self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.requests)
    }

    pub fn take_events(&mut self) -> VecDeque<Event> {
        std::mem::take(&mut self.events)
    }

    /// What has to be put in force before anything else is received.
    pub fn take_plan(&mut self) -> Option<Plan> {
        self.pending.as_mut()?.plan.take()
    }

    /// The bytes of a response.
    pub fn receive(&mut self, now: Instant, wall: WallTime, bytes: &[u8]) -> Result<(), Broken> {
        debug_assert!(self.pending.is_none(), "what came before is settled first");
        let is_delta = self.dynamic.control_plane.as_ref().is_some_and(|one| one.is_delta);
        let response = if is_delta { Response::delta(bytes) } else { Response::state(bytes) };
        let response = response.ok_or(Broken)?;
        self.tries = 0;
        let kind = Kind::of_url(&response.type_url);
        let asked =
            kind.and_then(|kind| Some((kind, self.subscriptions.get_mut(&kind).filter(|one| one.is_open)?)));
        let Some((kind, subscription)) = asked else {
            self.event(Event::Unasked { type_url: response.type_url });
            return Ok(());
        };
        subscription.attempts += 1;
        subscription.nonce.clone_from(&response.nonce);
        let Response { version, nonce, came, removed, .. } = response;
        let read = came.and_then(|came| self.reader.read(kind, came, &self.known));
        let held = match read.and_then(|held| self.reads_statics(kind, held)) {
            Ok(held) => held,
            Err(why) => {
                self.refuse(now, kind, &version, &nonce, why);
                return Ok(());
            }
        };
        let gone_before = self.gone.clone();
        let before = self.take(kind, held, removed, is_delta);
        let response = OfResponse { kind, version, nonce, before, gone_before };
        self.plan(now, wall, Some(response));
        Ok(())
    }

    /// What of a response cannot be beside what the file says.
    fn reads_statics(&self, kind: Kind, held: Vec<Arc<Held>>) -> Result<Vec<Arc<Held>>, String> {
        let statics = &self.dynamic.statics;
        let of_file = match kind {
            Kind::Cluster => &statics.clusters,
            Kind::Listener => &statics.listeners,
            _ => return self.leads_somewhere(held),
        };
        if let Some(twice) = held.iter().find(|held| of_file.iter().any(|known| known.name == held.name)) {
            return Err(format!("{} '{}' stands in the bootstrap file already", kind.singular(), twice.name));
        }
        self.leads_somewhere(held)
    }

    /// Where clusters do not come by the control plane, those of the file are all there are.
    fn leads_somewhere(&self, held: Vec<Arc<Held>>) -> Result<Vec<Arc<Held>>, String> {
        if self.dynamic.clusters.is_some() {
            return Ok(held);
        }
        let is_known = |name: &String| self.dynamic.statics.clusters.iter().any(|known| known.name == *name);
        for one in &held {
            if let Some(unknown) = one.clusters.iter().find(|name| !is_known(name)) {
                return Err(format!("'{}' leads to cluster '{unknown}', which is not defined", one.name));
            }
        }
        Ok(held)
    }

    /// Takes resources in; says what there was of the kind before.
    fn take(
        &mut self,
        kind: Kind,
        held: Vec<Arc<Held>>,
        removed: Vec<String>,
        is_delta: bool,
    ) -> BTreeMap<String, Arc<Held>> {
        let before = self.known.of_kind(kind);
        if !is_delta && kind.is_whole() {
            self.known.set(kind, BTreeMap::new());
        }
        for name in removed {
            if kind.is_whole() || !self.in_force.has(kind, &name) {
                self.known.remove(kind, &name);
            }
            self.gone.insert((kind, name));
        }
        let wanted = self.subscriptions.get(&kind).map(|one| one.names.clone()).unwrap_or_default();
        for one in held {
            if kind.is_whole() || wanted.contains(one.asked_as()) {
                self.gone.remove(&(kind, one.name.clone()));
                self.expired.remove(&(kind, one.name.clone()));
                self.known.insert(kind, one);
            }
        }
        self.note(kind, &before);
        before
    }

    /// What of a kind is another than before has to be kept.
    fn note(&mut self, kind: Kind, before: &BTreeMap<String, Arc<Held>>) {
        let Some(unkept) = &mut self.unkept else { return };
        // Of a state of the world all have another version each time.
        let is_delta = self.reader.is_delta;
        let is_same = |one: &Held, other: &Held| {
            one.stamp == other.stamp && (!is_delta || one.version == other.version)
        };
        let others =
            self.known.all(kind).filter(|held| !before.get(&held.name).is_some_and(|old| is_same(old, held)));
        unkept.names.extend(others.map(|held| (kind, held.name.clone())));
        let gone = before.keys().filter(|name| self.known.get(kind, name).is_none());
        unkept.names.extend(gone.map(|name| (kind, name.clone())));
        if unkept.names.len() > UNKEPT_MAX {
            self.unkept = None;
        }
    }

    /// Puts together what is known, for whoever carries it out; settles what needs nobody.
    fn plan(&mut self, now: Instant, wall: WallTime, response: Option<OfResponse>) {
        let made = self.assemble(now).and_then(|(whole, missing)| {
            let plan = whole.plan(&self.in_force, &self.dynamic)?;
            Ok((whole, missing, plan))
        });
        match made {
            Ok((whole, missing, plan)) => {
                self.wait(now, missing);
                let is_done = plan.is_none();
                self.pending = Some(Pending { response, whole, plan });
                if is_done {
                    self.settle(now, wall, Ok(()));
                }
            }
            Err(why) => {
                self.pending = Some(Pending { response, whole: self.in_force.clone(), plan: None });
                self.settle(now, wall, Err(why));
            }
        }
    }

    fn assemble(&self, _now: Instant) -> Result<(Whole, super::whole::Missing), String> {
        let over = self.expired.union(&self.gone).cloned().collect();
        let Client { dynamic, known, gone, .. } = self;
        self.in_force.next(Parts { dynamic, known, expired: &over, gone })
    }

    fn wait(&mut self, now: Instant, missing: super::whole::Missing) {
        self.waits.retain(|key, _| key.1.is_empty() || missing.contains_key(key));
        self.expired.retain(|key| key.1.is_empty() || missing.contains_key(key));
        for (key, timeout) in missing {
            if !self.expired.contains(&key) {
                self.waits.entry(key).or_insert(timeout.map(|timeout| now + timeout));
            }
        }
    }

    /// The plan is in force, or cannot be, and why.
    pub fn settle(&mut self, now: Instant, wall: WallTime, result: Result<(), String>) {
        let Some(Pending { response, whole, .. }) = self.pending.take() else { return };
        match (result, response) {
            (Ok(()), response) => {
                self.in_force = whole;
                if let Some(response) = response {
                    self.accept(&response, wall);
                }
                self.subscribe(now);
            }
            (Err(why), Some(response)) => {
                let OfResponse { kind, version, nonce, before, gone_before } = response;
                self.known.set(kind, before);
                self.gone = gone_before;
                self.refuse(now, kind, &version, &nonce, why);
            }
            (Err(why), None) => self.event(Event::NotInForce { why }),
        }
    }

    fn accept(&mut self, response: &OfResponse, wall: WallTime) {
        let kind = response.kind;
        self.has_news = true;
        self.waits.remove(&(kind, String::new()));
        self.expired.remove(&(kind, String::new()));
        let names = self.wanted(kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        let was_refused = subscription.refusal.take().is_some();
        subscription.accepted += 1;
        subscription.answered = true;
        subscription.updated = Some(wall);
        subscription.version.clone_from(&response.version);
        subscription.is_kept = false;
        if was_refused {
            self.event(Event::Recovered { kind, version: response.version.clone() });
        }
        if self.subscriptions.values().all(|one| one.refusal.is_none()) {
            self.again = Again::default();
        }
        self.say(kind, names, Some((&response.nonce, None)));
    }

    fn refuse(&mut self, now: Instant, kind: Kind, version: &str, nonce: &str, why: String) {
        if self.again.at.is_none() {
            let wait = AGAIN_BASE.saturating_mul(1 << self.again.times.min(10)).min(AGAIN_MAX);
            self.again.at = Some(now + wait);
            self.again.times = self.again.times.saturating_add(1);
        }
        let names = self.wanted(kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        subscription.rejected += 1;
        let mut reason = why.clone();
        reason.truncate(why.floor_char_boundary(REASON_BYTES_MAX));
        let before = subscription.refusal.replace(reason.clone());
        let is_told = before.as_ref() == Some(&reason);
        self.say(kind, names, Some((nonce, Some(reason))));
        if !is_told {
            self.event(Event::Refused { kind, version: version.to_owned(), why });
        }
    }

    /// What of a kind is wanted now; of clusters and listeners nothing in particular.
    fn wanted(&self, kind: Kind) -> BTreeSet<String> {
        if kind == Kind::VirtualHost {
            // By their tables: all of each.
            let apart = self.known.all(Kind::Routes).filter(|held| held.hosts_apart().is_some());
            return apart.map(|held| held.name.clone()).collect();
        }
        let of = |held: &Arc<Held>| {
            let names = match kind {
                Kind::Endpoints => &held.names.endpoints,
                Kind::Routes => &held.names.routes,
                Kind::Secret => &held.names.secrets,
                Kind::Cluster | Kind::Listener | Kind::VirtualHost => return Vec::new(),
            };
            names.iter().filter(|one| one.is_by_ads).map(|one| one.name.clone()).collect()
        };
        let statics = &self.dynamic.statics;
        let files = statics.clusters.iter().chain(&statics.listeners);
        let known = self.known.all(Kind::Cluster).chain(self.known.all(Kind::Listener));
        files.chain(known).flat_map(of).collect()
    }

    /// Asks for what is wanted and was not asked for, and for nothing that is not wanted any more.
    fn subscribe(&mut self, _now: Instant) {
        for kind in KINDS {
            let is_asked = match kind {
                Kind::Cluster => self.dynamic.clusters.is_some(),
                Kind::Listener => self.dynamic.listeners.is_some(),
                Kind::VirtualHost => self.reader.is_delta,
                _ => true,
            };
            let names = self.wanted(kind);
            if !kind.is_whole() {
                if let Some(unkept) = &mut self.unkept {
                    let gone = self.known.all(kind).filter(|held| !names.contains(held.asked_as()));
                    unkept.names.extend(gone.map(|held| (kind, held.name.clone())));
                }
                self.known.retain(kind, |held| names.contains(held.asked_as()));
                self.gone.retain(|(of, name)| *of != kind || names.contains(name));
            }
            let subscription = self.subscriptions.entry(kind).or_default();
            let is_new = !subscription.is_open && (kind.is_whole() || !names.is_empty());
            let is_other = subscription.is_open && subscription.names != names;
            if is_asked && self.is_connected && (is_new || is_other) {
                self.say(kind, names, None);
            }
        }
    }

    /// Asks; with a nonce, and perhaps why it is refused, it answers.
    fn say(&mut self, kind: Kind, names: BTreeSet<String>, answer: Option<(&str, Option<String>)>) {
        if !self.is_connected {
            return;
        }
        let Some(control_plane) = &self.dynamic.control_plane else { return };
        let (is_delta, is_once) = (control_plane.is_delta, control_plane.is_node_said_once);
        let node = (!is_once || std::mem::take(&mut self.is_first)).then(|| self.dynamic.node.clone());
        let versions = self.known.all(kind).map(|held| (held.name.clone(), held.version.clone()));
        let versions: Vec<(String, String)> = if is_delta { versions.collect() } else { Vec::new() };
        let subscription = self.subscriptions.entry(kind).or_default();
        let error_detail =
            |why: Option<String>| why.map(|message| Status { code: INVALID, message, details: Vec::new() });
        let type_url = kind.type_url().to_owned();
        let bytes = if is_delta {
            let is_opening = !subscription.is_open;
            let (nonce, why) = answer.map_or((String::new(), None), |(nonce, why)| (nonce.to_owned(), why));
            let known = if is_opening { BTreeSet::new() } else { subscription.names.clone() };
            let request = DeltaDiscoveryRequest {
                node,
                type_url,
                resource_names_subscribe: names.difference(&known).cloned().collect(),
                resource_names_unsubscribe: known.difference(&names).cloned().collect(),
                initial_resource_versions: if is_opening {
                    versions.into_iter().collect()
                } else {
                    Default::default()
                },
                response_nonce: nonce,
                error_detail: error_detail(why),
                ..Default::default()
            };
            request.encode_to_vec()
        } else {
            let (nonce, why) =
                answer.map_or((subscription.nonce.clone(), None), |(nonce, why)| (nonce.to_owned(), why));
            let request = DiscoveryRequest {
                version_info: if subscription.is_kept { String::new() } else { subscription.version.clone() },
                node,
                resource_names: names.iter().cloned().collect(),
                type_url,
                response_nonce: nonce,
                error_detail: error_detail(why),
                ..Default::default()
            };
            request.encode_to_vec()
        };
        subscription.names = names;
        subscription.is_open = true;
        self.requests.push_back(bytes);
    }

    /// When something is waited for no longer, or asked for again.
    pub fn deadline(&self) -> Option<Instant> {
        let again = self.again.at.filter(|_| self.is_connected);
        self.waits.values().flatten().chain(&again).min().copied()
    }

    /// Whether what was refused is to be asked for again, on another stream: only there everything is said once more.
    pub fn takes_another_stream(&mut self) -> bool {
        std::mem::take(&mut self.again.is_due)
    }

    pub fn tick(&mut self, now: Instant, wall: WallTime) {
        if self.pending.is_some() {
            return;
        }
        if self.is_connected && self.again.at.is_some_and(|at| at <= now) {
            self.again.at = None;
            self.again.is_due = true;
        }
        let is_over = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
        let over: Vec<(Kind, String)> =
            self.waits.iter().filter(|(_, until)| is_over(until)).map(|(key, _)| key.clone()).collect();
        if over.is_empty() {
            return;
        }
        for key in over {
            self.waits.remove(&key);
            self.event(Event::WaitedInVain { kind: key.0, name: key.1.clone() });
            self.expired.insert(key);
        }
        self.plan(now, wall, None);
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    /// Whether anything was accepted since this was asked last.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Whether nothing that came has yet to be put in force: only then what is known was accepted.
    pub fn is_settled(&self) -> bool {
        self.pending.is_none()
    }

    /// What is known, for a process that begins while nobody answers. Secrets only where they may be kept.
    pub fn keep(&self, with_secrets: bool) -> Vec<u8> {
        let kinds = KINDS.into_iter().filter(|kind| *kind != Kind::Secret || with_secrets);
        let all = kinds.map(|kind| {
            let all = self.known.all(kind).filter(|held| may_keep(held, with_secrets));
            let resources = all.map(|held| (**held).as_resource()).collect();
            OfKind { kind, version: self.version(kind), resources, removed: Vec::new() }
        });
        kept::whole(all, self.without_hosts())
    }

    /// The same; from now on [`Client::changes`] says what is another.
    pub fn keep_from_now(&mut self, with_secrets: bool) -> Vec<u8> {
        self.unkept = Some(Unkept { names: BTreeSet::new(), gone: self.without_hosts() });
        self.keep(with_secrets)
    }

    /// What is another since this or [`Client::keep_from_now`] was asked last, to be added to what was kept then; empty
    /// where nothing is. `None` where all of it is to be kept anew.
    pub fn changes(&mut self, with_secrets: bool) -> Option<Vec<u8>> {
        let gone = self.without_hosts();
        let unkept = self.unkept.as_mut()?;
        let names = std::mem::take(&mut unkept.names);
        let before = std::mem::replace(&mut unkept.gone, gone.clone());
        let mut kinds = Vec::new();
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Secret || with_secrets) {
            let (mut resources, mut removed) = (Vec::new(), Vec::new());
            for (_, name) in names.iter().filter(|(of, _)| *of == kind) {
                match self.known.get(kind, name).filter(|held| may_keep(held, with_secrets)) {
                    Some(held) => resources.push((**held).as_resource()),
                    None => removed.push(name.clone()),
                }
            }
            if !resources.is_empty() || !removed.is_empty() {
                kinds.push(OfKind { kind, version: self.version(kind), resources, removed });
            }
        }
        let is_same = kinds.is_empty() && before == gone;
        Some(if is_same { Vec::new() } else { kept::record(kinds.into_iter(), gone) })
    }

    fn version(&self, kind: Kind) -> String {
        self.subscriptions.get(&kind).map(|one| one.version.clone()).unwrap_or_default()
    }

    /// Whoever reads what is kept would wait for the virtual hosts of a table that has none.
    fn without_hosts(&self) -> Vec<String> {
        let gone = self.gone.iter().filter(|(of, _)| *of == Kind::VirtualHost);
        gone.map(|(_, name)| name.clone()).collect()
    }

    /// Takes over what was kept, of the kinds of which a control plane has said nothing: all of it, or nothing. The plan
    /// is to be carried out as any other.
    ///
    /// # Errors
    /// It is not what [`Client::keep`] wrote, or it cannot be put in force any more.
    pub fn restore(&mut self, now: Instant, bytes: &[u8]) -> Result<(), String> {
        let kept = kept::read(bytes).ok_or("these are not the bytes of a configuration that was kept")?;
        // It is all that was kept, and may be less than is known then.
        self.unkept = None;
        let before = (self.known.clone(), self.gone.clone());
        let has_answered =
            |kind| self.subscriptions.get(&kind).is_some_and(|one: &Subscription| one.answered);
        if !has_answered(Kind::VirtualHost) {
            self.gone.extend(kept.gone.into_iter().map(|name| (Kind::VirtualHost, name)));
        }
        let kinds: Vec<_> = kept.kinds.into_iter().filter(|one| !has_answered(one.kind)).collect();
        for OfKind { kind, version, resources, .. } in kinds {
            let came: Result<Vec<Came>, String> = resources.into_iter().map(Came::of_delta).collect();
            let read = came.and_then(|came| self.reader.read(kind, came, &self.known));
            let held = match read.and_then(|held| self.reads_statics(kind, held)) {
                Ok(held) => held,
                Err(why) => {
                    (self.known, self.gone) = before;
                    return Err(why);
                }
            };
            if !held.is_empty() {
                self.waits.remove(&(kind, String::new()));
            }
            held.into_iter().for_each(|held| self.known.insert(kind, held));
            let subscription = self.subscriptions.entry(kind).or_default();
            (subscription.version, subscription.is_kept) = (version, true);
        }
        let made = self.assemble(now).and_then(|(whole, missing)| {
            let plan = whole.plan(&self.in_force, &self.dynamic)?;
            Ok((whole, missing, plan))
        });
        match made {
            Ok((whole, missing, plan)) => {
                self.wait(now, missing);
                self.pending = Some(Pending { response: None, whole, plan });
                Ok(())
            }
            Err(why) => {
                (self.known, self.gone) = before;
                Err(why)
            }
        }
    }

    /// What was restored is in force from the beginning: for before anything runs by it.
    pub fn begin_with_restored(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.in_force = pending.whole;
        }
    }

    pub fn status(&self) -> ClientStatus {
        let asked = |kind: &Kind| {
            self.known.count(*kind) > 0
                || self.subscriptions.get(kind).is_some_and(|one| one.attempts > 0 || one.is_open)
        };
        let kinds = KINDS.into_iter().filter(asked).map(|kind| {
            let none = Subscription::default();
            let one = self.subscriptions.get(&kind).unwrap_or(&none);
            KindStatus {
                kind,
                version: one.version.clone(),
                resources: self.known.count(kind),
                asked: if kind.is_whole() { None } else { Some(one.names.len()) },
                attempts: one.attempts,
                accepted: one.accepted,
                rejected: one.rejected,
                updated: one.updated,
                refusal: one.refusal.clone(),
            }
        });
        let waiting = self.waits.keys().chain(&self.expired).map(|(kind, name)| Waiting {
            kind: *kind,
            name: name.clone(),
            is_over: self.expired.contains(&(*kind, name.clone())),
        });
        ClientStatus {
            is_connected: self.is_connected,
            connects: self.counts.connects,
            failures: self.counts.failures,
            kinds: kinds.collect(),
            waiting: waiting.collect(),
        }
    }

    /// The names and versions of all resources of a kind.
    pub fn versions(&self, kind: Kind) -> Vec<(String, String)> {
        self.known.all(kind).map(|held| (held.name.clone(), held.version.clone())).collect()
    }
}

fn may_keep(held: &Held, with_secrets: bool) -> bool {
    with_secrets || !may_hold_secrets(&held.any.value)
}

/// A response of either method.
struct Response {
    type_url: String,
    version: String,
    nonce: String,
    came: Result<Vec<Came>, String>,
    removed: Vec<String>,
}

impl Response {
    fn state(bytes: &[u8]) -> Option<Response> {
        let said = DiscoveryResponse::decode(bytes).ok()?;
        let came = said.resources.into_iter().map(|any| Came::of_state(any, &said.version_info)).collect();
        let (version, nonce) = (said.version_info, said.nonce);
        Some(Response { type_url: said.type_url, version, nonce, came, removed: Vec::new() })
    }

    fn delta(bytes: &[u8]) -> Option<Response> {
        let said = DeltaDiscoveryResponse::decode(bytes).ok()?;
        let came = said.resources.into_iter().map(Came::of_delta).collect();
        let (version, nonce) = (said.system_version_info, said.nonce);
        Some(Response { type_url: said.type_url, version, nonce, came, removed: said.removed_resources })
    }
}
