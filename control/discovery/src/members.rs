//! Who has joined a group, until when, and may he be called?
//!
//! | what happens | what becomes of the member |
//! |---|---|
//! | a stream of its begins | it is there; new, it is ready where its group has no probe |
//! | its last stream ends | it is leaving, unless another control plane has it |
//! | another control plane has it, and this one has not | it is as ready as that says |
//! | no control plane has it any more | it is leaving |
//! | a stream begins while it is leaving | it stays as it was |
//! | it has been leaving for its grace period | it is gone, and all that was known of it |
//! | it was there in a process before this one | it is ready, and leaving, for longer |
//! | a probe has succeeded as often in a row as its group says | it is ready |
//! | a probe has failed as often in a row as its group says | it is not ready |
//! | its group has another probe, or is there again | it is as ready as it was, and asked at once |
//! | its group has no probe any more | it is ready |
//! | its group is gone | it is not called, and not asked, until the group is there again |
//!
//! `now` is an argument everywhere; whoever drives this calls [`Members::tick`] no later than [`Members::deadline`], and
//! takes [`Members::next_ask`] until there is none. One address of a group is one member, whoever says that he is it: what
//! the first of them says of himself holds for as long as he is connected. Source: istiod's `autoregistration`
//! (`QueueUnregisterWorkload`, `PILOT_WORKLOAD_ENTRY_GRACE_PERIOD`), and its agent's `PerformApplicationHealthCheck`.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use naru_base::Instant;
use naru_plan::{Group, GroupProbe, Member};

#[cfg(test)]
mod tests;

/// For so long somebody may be away.
pub const GRACE: Duration = Duration::from_secs(10);
/// And for so long, since a process began, who was there in the one before it: proxies look for their control plane again
/// with pauses that become longer, those of Envoy 30 s at most.
pub const GRACE_AT_START: Duration = Duration::from_secs(40);
/// As many at a time, with those who are leaving.
pub const MEMBERS_MAX: usize = 10_000;

/// Who is it?
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub namespace: String,
    pub group: String,
    pub address: IpAddr,
    pub network: String,
}

/// What somebody says of himself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub id: String,
    /// In the order of their names.
    pub labels: Vec<(String, String)>,
    pub locality: String,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody has said yet which groups there are.
    NotYet,
    NoGroup,
    TooMany,
}

/// Somebody is to be asked; [`Members::on_answer`] awaits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub key: Key,
    pub number: u64,
    pub probe: GroupProbe,
}

/// A member, as it is told to other control planes by the one that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    pub member: Member,
    pub is_ready: bool,
}

/// A member, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub member: Member,
    pub is_ready: bool,
    /// Why not, or what the last answer was.
    pub why: Option<String>,
    /// Ids of the nodes that are it.
    pub connected: Vec<String>,
    /// Other control planes that have it.
    pub elsewhere: Vec<String>,
    /// Where nobody is: until when it is a member.
    pub until: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Members {
    groups: Option<BTreeMap<(String, String), Group>>,
    all: BTreeMap<Key, State>,
    asks: VecDeque<Ask>,
    asked: u64,
    revision: u64,
    own_revision: u64,
}

#[derive(Debug)]
struct State {
    /// Those who are connected, the first first.
    streams: BTreeMap<u64, Own>,
    /// Other control planes that have it, and whether it is ready there.
    elsewhere: BTreeMap<String, (Own, bool)>,
    own: Own,
    /// Where nobody is: until when it stays.
    until: Option<Instant>,
    is_ready: bool,
    successes: u32,
    failures: u32,
    /// When it is asked next; nothing while an answer is awaited.
    due: Option<Instant>,
    awaited: Option<(u64, Instant)>,
    why: Option<String>,
}

impl State {
    fn new(own: Own, until: Option<Instant>, is_ready: bool) -> State {
        State {
            streams: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            own,
            until,
            is_ready,
            successes: 0,
            failures: 0,
            due: None,
            awaited: None,
            why: None,
        }
    }

    /// Somebody else has it now, or nobody.
    fn settle(&mut self, now: Instant, group: Option<&Group>) {
        if let Some(first) = self.streams.values().next() {
            self.own = first.clone();
            self.until = None;
            let probe = group.and_then(|group| group.probe.as_ref());
            self.is_ready |= group.is_some() && probe.is_none();
            if self.due.is_none() && self.awaited.is_none() {
                self.due = probe.map(|_| now);
            }
        } else if let Some((own, is_ready)) = self.elsewhere.values().next() {
            (self.own, self.is_ready, self.until) = (own.clone(), *is_ready, None);
            // It is asked there.
            (self.successes, self.failures, self.due, self.awaited, self.why) = (0, 0, None, None, None);
        } else if self.until.is_none() {
            self.until = Some(now + GRACE);
        }
    }

    /// Whether only others have it.
    fn is_elsewhere(&self) -> bool {
        self.streams.is_empty() && !self.elsewhere.is_empty()
    }

    /// What of it is told to proxies.
    fn shown(&self, is_known: bool) -> Option<(Vec<(String, String)>, String)> {
        (is_known && self.is_ready).then(|| (self.own.labels.clone(), self.own.locality.clone()))
    }
}

impl Members {
    /// These are the groups that there are from now on.
    pub fn on_groups(&mut self, now: Instant, groups: Vec<Group>) {
        let named = groups.into_iter().map(|group| ((group.namespace.clone(), group.name.clone()), group));
        let groups: BTreeMap<(String, String), Group> = named.collect();
        let before = self.groups.take().unwrap_or_default();
        for (key, state) in &mut self.all {
            let name = (key.namespace.clone(), key.group.clone());
            let (old, new) = (before.get(&name), groups.get(&name));
            if old.is_some() != new.is_some() {
                self.revision += u64::from(state.is_ready);
            }
            let probe = new.and_then(|group| group.probe.as_ref());
            if old.is_some() && new.is_some() && old.and_then(|group| group.probe.as_ref()) == probe {
                continue;
            }
            if state.is_elsewhere() {
                continue;
            }
            (state.successes, state.failures, state.awaited) = (0, 0, None);
            state.due = probe.map(|_| now);
            if new.is_some() && probe.is_none() {
                self.revision += u64::from(!state.is_ready);
                self.own_revision += u64::from(!state.is_ready);
                (state.is_ready, state.why) = (true, None);
            }
        }
        self.groups = Some(groups);
    }

    /// Whether somebody would be let in; and the labels that he has then.
    pub fn admits(&self, key: &Key, own: &[(String, String)]) -> Result<Vec<(String, String)>, Refused> {
        let groups = self.groups.as_ref().ok_or(Refused::NotYet)?;
        let group = groups.get(&(key.namespace.clone(), key.group.clone())).ok_or(Refused::NoGroup)?;
        if self.all.len() >= MEMBERS_MAX && !self.all.contains_key(key) {
            return Err(Refused::TooMany);
        }
        Ok(group.labels_of(own))
    }

    /// Who those are to others of the mesh who join a group, where it says it.
    pub fn account(&self, key: &Key) -> Option<String> {
        self.group(key)?.account.clone()
    }

    /// Namespaces that have a group of this name.
    pub fn homes_of(&self, group: &str) -> Vec<String> {
        let all = self.groups.iter().flat_map(BTreeMap::keys);
        all.filter(|(_, name)| name == group).map(|(namespace, _)| namespace.clone()).collect()
    }

    /// A stream of somebody begins. Numbers of streams grow.
    pub fn join(&mut self, now: Instant, stream: u64, key: &Key, own: Own) -> Result<(), Refused> {
        self.admits(key, &[])?;
        let group = self.group(key).cloned();
        let state = self.all.entry(key.clone()).or_insert_with(|| {
            let probe = group.as_ref().and_then(|group| group.probe.as_ref());
            let due = probe.map(|probe| now + probe.initial_delay);
            State { due, ..State::new(own.clone(), None, false) }
        });
        let before = state.shown(true);
        self.own_revision += u64::from(state.streams.is_empty());
        state.streams.insert(stream, own);
        state.settle(now, group.as_ref());
        self.revision += u64::from(before != state.shown(true));
        Ok(())
    }

    /// A stream of somebody has ended.
    pub fn leave(&mut self, now: Instant, stream: u64, key: &Key) {
        self.change(now, key, |state| {
            state.streams.remove(&stream);
        });
    }

    /// Other control planes have these now, by their names.
    pub fn on_others(&mut self, now: Instant, mut others: BTreeMap<String, Vec<Connected>>) {
        let mut all: BTreeMap<Key, BTreeMap<String, (Own, bool)>> = BTreeMap::new();
        for (plane, members) in &mut others {
            for Connected { member, is_ready } in members.drain(..) {
                let Member { namespace, group, address, network, labels, locality } = member;
                let key = Key { namespace, group, address, network };
                let own = Own { id: String::new(), labels, locality };
                all.entry(key).or_default().insert(plane.clone(), (own, is_ready));
            }
        }
        let before = self.all.iter().filter(|(_, state)| !state.elsewhere.is_empty());
        let gone: Vec<Key> =
            before.filter(|(key, _)| !all.contains_key(key)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.change(now, &key, |state| state.elsewhere.clear());
        }
        for (key, elsewhere) in all {
            if self.all.len() < MEMBERS_MAX && !self.all.contains_key(&key) {
                self.all.insert(key.clone(), State::new(Own::default(), None, false));
            }
            self.change(now, &key, |state| state.elsewhere = elsewhere);
        }
    }

    fn change(&mut self, now: Instant, key: &Key, change: impl FnOnce(&mut State)) {
        let group = self.group(key).cloned();
        let is_known = group.is_some();
        let Some(state) = self.all.get_mut(key) else { return };
        let (before, was_away) = (state.shown(is_known), state.streams.is_empty());
        change(state);
        state.settle(now, group.as_ref());
        self.own_revision += u64::from(was_away != state.streams.is_empty());
        self.revision += u64::from(before != state.shown(is_known));
    }

    /// Those who were called in a process before this one.
    pub fn restore(&mut self, now: Instant, members: Vec<Member>) {
        for member in members {
            let Member { namespace, group, address, network, labels, locality } = member;
            let key = Key { namespace, group, address, network };
            if self.all.len() < MEMBERS_MAX && !self.all.contains_key(&key) {
                let own = Own { id: String::new(), labels, locality };
                let due = self.probe(&key).map(|_| now);
                self.all.insert(key, State { due, ..State::new(own, Some(now + GRACE_AT_START), true) });
                self.revision += 1;
            }
        }
    }

    /// Somebody has been asked.
    pub fn on_answer(&mut self, now: Instant, key: &Key, number: u64, answer: Result<(), String>) {
        let Some(probe) = self.probe(key).cloned() else { return };
        let Some(state) = self.all.get_mut(key) else { return };
        // What was asked of somebody before, or by another probe, says nothing of this.
        let Some((_, at)) = state.awaited.filter(|(awaited, _)| *awaited == number) else { return };
        state.awaited = None;
        state.due = Some((at + probe.period).max(now));
        match answer {
            Ok(()) => {
                (state.successes, state.failures) = (state.successes.saturating_add(1), 0);
                state.why = None;
            }
            Err(why) => {
                (state.successes, state.failures) = (0, state.failures.saturating_add(1));
                state.why = Some(why);
            }
        }
        let is_ready = match state.is_ready {
            true => state.failures < probe.failure_threshold,
            false => state.successes >= probe.success_threshold,
        };
        if is_ready != state.is_ready {
            state.is_ready = is_ready;
            self.revision += 1;
            self.own_revision += 1;
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        let Members { groups, all, asks, asked, revision, .. } = self;
        all.retain(|key, state| {
            let stays = state.until.is_none_or(|until| until > now);
            *revision += u64::from(!stays && state.is_ready && group_of(groups.as_ref(), key).is_some());
            stays
        });
        for (key, state) in all.iter_mut().filter(|(_, state)| state.due.is_some_and(|due| due <= now)) {
            state.due = None;
            let probe = group_of(groups.as_ref(), key).and_then(|group| group.probe.as_ref());
            let Some(probe) = probe else { continue };
            *asked += 1;
            state.awaited = Some((*asked, now));
            asks.push_back(Ask { key: key.clone(), number: *asked, probe: probe.clone() });
        }
    }

    pub fn next_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// The next moment at which [`Members::tick`] would do something.
    pub fn deadline(&self) -> Option<Instant> {
        self.all.values().flat_map(|state| state.due.into_iter().chain(state.until)).min()
    }

    /// Another one each time that [`Members::called`] is.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Another one each time that [`Members::connected`] is.
    pub fn own_revision(&self) -> u64 {
        self.own_revision
    }

    /// Those who are connected here.
    pub fn connected(&self) -> Vec<Connected> {
        let here = self.all.iter().filter(|(_, state)| !state.streams.is_empty());
        let all = here.map(|(key, state)| Connected { member: member(key, state), is_ready: state.is_ready });
        all.collect()
    }

    /// Those who may be called, in the order of their names.
    pub fn called(&self) -> Vec<Member> {
        let ready = self.all.iter().filter(|(key, state)| state.is_ready && self.has_group(key));
        ready.map(|(key, state)| member(key, state)).collect()
    }

    pub fn standings(&self) -> Vec<Standing> {
        let all = self.all.iter().map(|(key, state)| {
            let is_known = self.has_group(key);
            let waits = || self.probe(key).map(|_| "it was not asked yet, or not often enough".to_owned());
            let why = match (is_known, state.is_ready) {
                (false, _) => Some("its group is not there".to_owned()),
                (true, true) => state.why.clone(),
                (true, false) => state.why.clone().or_else(waits),
            };
            Standing {
                member: member(key, state),
                is_ready: state.is_ready && is_known,
                why,
                connected: state.streams.values().map(|own| own.id.clone()).collect(),
                elsewhere: state.elsewhere.keys().cloned().collect(),
                until: state.until,
            }
        });
        all.collect()
    }

    fn has_group(&self, key: &Key) -> bool {
        self.group(key).is_some()
    }

    fn group(&self, key: &Key) -> Option<&Group> {
        group_of(self.groups.as_ref(), key)
    }

    fn probe(&self, key: &Key) -> Option<&GroupProbe> {
        self.group(key)?.probe.as_ref()
    }
}

fn group_of<'a>(groups: Option<&'a BTreeMap<(String, String), Group>>, key: &Key) -> Option<&'a Group> {
    groups?.get(&(key.namespace.clone(), key.group.clone()))
}

fn member(key: &Key, state: &State) -> Member {
    Member {
        namespace: key.namespace.clone(),
        group: key.group.clone(),
        address: key.address,
        network: key.network.clone(),
        locality: state.own.locality.clone(),
        labels: state.own.labels.clone(),
    }
}
