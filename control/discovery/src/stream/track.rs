//! One kind of resources on one stream: what is wanted, what the proxy has, what it has answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use naru_base::Instant;
use naru_xds::discovery::Kind;

use super::{Answered, Mode, NAMES_MAX, Nonce, Refusal, Standing, TooMuch};
use crate::set::{Item, Set};

/// The name that stands for all.
const ALL: &str = "*";

/// Resources and their names.
type Resources = Vec<(Arc<str>, Item)>;
type Names = Vec<Arc<str>>;

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub resources: Resources,
    pub removed: Names,
    /// Of the resources, those that the proxy did not have.
    pub changed: Names,
}

/// What the proxy has of a resource, where it is not what `Track::sent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    /// It waits for the first.
    Nothing,
    /// From an earlier stream; `None` where the version is none of ours.
    Version(Option<u64>),
}

#[derive(Debug)]
pub(super) struct Track {
    kind: Kind,
    is_asked: bool,
    takes_all: bool,
    /// All, because nothing was ever named.
    is_unnamed: bool,
    names: BTreeSet<Arc<str>>,
    /// As of this the proxy was told everything that it wants.
    sent: Arc<Set>,
    /// The same of the last response that it has accepted.
    accepted_set: Arc<Set>,
    accepted_lingering: BTreeMap<Arc<str>, Option<Item>>,
    otherwise: BTreeMap<Arc<str>, Has>,
    /// Gone, and not taken away yet. What is from an earlier stream is known by its name only.
    lingering: BTreeMap<Arc<str>, Option<Item>>,
    /// It waits for a response, whatever there is.
    must_answer: bool,
    /// When the response was sent that has no answer yet.
    in_flight: Option<Instant>,
    /// What the last response held, for as long as it is not accepted: nobody knows what a proxy has that refuses it.
    doubtful: Names,
    last_nonce: u64,
    last_version: u64,
    /// It had some on an earlier stream.
    had_before: bool,
    accepted: Option<(u64, Instant)>,
    refused: Option<Refusal>,
    responses: u64,
    pub(super) stale: u64,
}

impl Track {
    pub fn new(kind: Kind) -> Track {
        Track {
            kind,
            is_asked: false,
            takes_all: false,
            is_unnamed: false,
            names: BTreeSet::new(),
            sent: Arc::default(),
            accepted_set: Arc::default(),
            accepted_lingering: BTreeMap::new(),
            otherwise: BTreeMap::new(),
            lingering: BTreeMap::new(),
            must_answer: false,
            in_flight: None,
            doubtful: Vec::new(),
            had_before: false,
            last_nonce: 0,
            last_version: 0,
            accepted: None,
            refused: None,
            responses: 0,
            stale: 0,
        }
    }

    pub fn is_asked(&self) -> bool {
        self.is_asked
    }

    pub fn takes_all(&self) -> bool {
        self.takes_all
    }

    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    pub fn was_accepted(&self) -> bool {
        self.accepted.is_some() || self.had_before
    }

    pub fn unanswered_since(&self) -> Option<Instant> {
        self.in_flight
    }

    /// Whether it is wanted. Virtual hosts are named by the routes that they are of, a slash behind.
    pub fn wants(&self, name: &str) -> bool {
        self.takes_all || self.names.contains(name) || self.wants_group(name)
    }

    fn wants_group(&self, name: &str) -> bool {
        self.kind == Kind::VirtualHost
            && name.match_indices('/').any(|(at, _)| self.names.contains(&name[..at]))
    }

    pub fn answer(&mut self, nonce: Nonce, error: Option<String>, now: Instant) -> Answered {
        match nonce {
            Nonce::None => return Answered::Nothing,
            Nonce::Of(nonce) if nonce == self.last_nonce => {}
            Nonce::Of(_) | Nonce::Foreign => return Answered::Stale,
        }
        let is_new = self.in_flight.take().is_some();
        match error {
            Some(reason) => {
                self.refused = Some(Refusal { version: self.last_version, reason, at: now });
                Answered::Refused
            }
            None if is_new => {
                self.refused = None;
                self.doubtful = Vec::new();
                self.accepted_set = Arc::clone(&self.sent);
                self.accepted_lingering = self.lingering.clone();
                self.accepted = Some((self.last_version, now));
                Answered::Accepted
            }
            None => Answered::Nothing,
        }
    }

    /// Whether a nonce is that of the last response.
    #[cfg(test)]
    pub fn is_last(&self, nonce: &str) -> bool {
        nonce == self.last_nonce.to_string()
    }

    /// State of the world.
    pub fn want_all(&mut self, names: Vec<String>) -> Result<(), TooMuch> {
        if names.len() > NAMES_MAX {
            return Err(TooMuch);
        }
        let is_first = !std::mem::replace(&mut self.is_asked, true);
        if is_first && names.is_empty() && self.kind.is_whole() {
            (self.takes_all, self.is_unnamed, self.must_answer) = (true, true, true);
            return Ok(());
        }
        if names.is_empty() && self.is_unnamed {
            return Ok(());
        }
        self.is_unnamed = false;
        let took_all = self.takes_all;
        let named: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let takes_all = named.contains(ALL);
        let has_changed = took_all != takes_all
            || named.len() - usize::from(takes_all) != self.names.len()
            || self.names.iter().any(|name| !named.contains(&**name));
        if !has_changed && !is_first {
            return Ok(());
        }
        // What is wanted for the first time is owed.
        if takes_all && !took_all {
            self.owe_rest();
        }
        for name in named.iter().filter(|name| **name != ALL) {
            if !self.names.contains(*name) && !took_all {
                self.otherwise.insert(Arc::from(*name), Has::Nothing);
            }
        }
        self.names = named.iter().filter(|name| **name != ALL).map(|name| Arc::from(*name)).collect();
        self.takes_all = takes_all;
        self.forget_unwanted();
        self.must_answer |= self.kind.is_whole();
        Ok(())
    }

    /// Delta.
    pub fn want(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        known: Vec<(String, String)>,
    ) -> Result<(), TooMuch> {
        if self.names.len() + subscribe.len() > NAMES_MAX || known.len() > NAMES_MAX {
            return Err(TooMuch);
        }
        let is_first = !std::mem::replace(&mut self.is_asked, true);
        if is_first && subscribe.is_empty() && self.kind.is_whole() {
            (self.takes_all, self.must_answer) = (true, true);
        }
        for name in subscribe {
            if name == ALL {
                if !self.takes_all {
                    self.owe_rest();
                    self.must_answer = true;
                }
                self.takes_all = true;
                continue;
            }
            let name: Arc<str> = Arc::from(name);
            // Who subscribes once more is sent it once more.
            if self.kind == Kind::VirtualHost {
                self.must_answer |= self.owe_group(&name);
            }
            // Of a table there is no resource of this name: that is said once its virtual hosts are, so that a proxy
            // knows that it has all.
            self.otherwise.insert(Arc::clone(&name), Has::Nothing);
            self.names.insert(name);
        }
        self.had_before |= !known.is_empty();
        for (name, version) in known {
            let name: Arc<str> = Arc::from(name);
            if self.wants(&name) {
                let version = u64::from_str_radix(&version, 16).ok();
                self.otherwise.insert(name, Has::Version(version));
            }
        }
        for name in unsubscribe {
            if name == ALL {
                self.takes_all = false;
            } else {
                self.names.remove(&*name);
            }
        }
        self.forget_unwanted();
        Ok(())
    }

    /// Everything that there is and was not wanted by name.
    fn owe_rest(&mut self) {
        for name in self.sent.names() {
            if !self.names.contains(name) {
                self.otherwise.insert(Arc::clone(name), Has::Nothing);
            }
        }
    }

    /// All of one table of routes, or a single one. Whether it is new.
    fn owe_group(&mut self, group: &str) -> bool {
        for name in self.sent.names() {
            if name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                self.otherwise.insert(Arc::clone(name), Has::Nothing);
            }
        }
        !self.names.contains(group)
    }

    fn forget_unwanted(&mut self) {
        if self.takes_all {
            return;
        }
        let mut otherwise = std::mem::take(&mut self.otherwise);
        otherwise.retain(|name, _| self.wants(name));
        self.otherwise = otherwise;
        let mut lingering = std::mem::take(&mut self.lingering);
        lingering.retain(|name, _| self.wants(name));
        self.lingering = lingering;
        // A refusal of what nobody wants any more holds nothing back.
        if self.refused.is_some() && !self.doubtful.iter().any(|name| self.wants(name)) {
            self.refused = None;
        }
    }

    /// These are owed once more, where they are wanted.
    pub fn repeat<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>) {
        for name in names {
            if self.wants(name) && self.sent.get(name).is_some() {
                self.otherwise.insert(Arc::clone(name), Has::Nothing);
            }
        }
    }

    /// What is new or has changed. What is gone lingers, where something may still lead to it.
    pub fn offer(&mut self, set: &Arc<Set>, mode: Mode) -> Option<Offer> {
        if !self.is_asked || self.in_flight.is_some() || !self.must_answer && self.has_all(set) {
            return None;
        }
        for name in std::mem::take(&mut self.doubtful) {
            if self.wants(&name) {
                self.otherwise.entry(name).or_insert(Has::Version(None));
            }
        }
        let (changed, gone) = self.difference(set);
        let lingers = matches!(self.kind, Kind::Cluster | Kind::Endpoints | Kind::Secret);
        let mut removed = Vec::new();
        let mut has_lost = false;
        for name in gone {
            if lingers {
                // Also what it waits for: it may still have what was there before.
                let lingered = || self.accepted_lingering.get(&name)?.clone();
                let item = self.accepted_set.get(&name).cloned().or_else(lingered);
                if mode == Mode::Delta || item.is_some() {
                    self.lingering.insert(name, item);
                }
            } else {
                has_lost |= self.otherwise.get(&name) != Some(&Has::Nothing);
                removed.push(name);
            }
        }
        for (name, _) in &changed {
            self.lingering.remove(name);
        }
        self.sent = Arc::clone(set);
        self.otherwise.clear();
        let mut must_answer = std::mem::take(&mut self.must_answer);
        // What was refused is not there any more, or is sent again.
        let was_refused = self.refused.is_some();
        if was_refused && changed.is_empty() && removed.is_empty() && !must_answer {
            if mode == Mode::StateOfTheWorld && self.kind.is_whole() {
                must_answer = true;
            } else {
                self.refused = None;
            }
        }
        let names = changed.iter().map(|(name, _)| Arc::clone(name)).collect();
        match mode {
            Mode::Delta if must_answer || !changed.is_empty() || !removed.is_empty() => {
                Some(Offer { resources: changed, removed, changed: names })
            }
            Mode::StateOfTheWorld if !self.kind.is_whole() && !changed.is_empty() => {
                Some(Offer { resources: changed, removed: Vec::new(), changed: names })
            }
            Mode::StateOfTheWorld
                if self.kind.is_whole() && (must_answer || !changed.is_empty() || has_lost) =>
            {
                Some(Offer { resources: self.whole(), removed: Vec::new(), changed: names })
            }
            Mode::Delta | Mode::StateOfTheWorld => None,
        }
    }

    /// What lingers goes.
    pub fn remove(&mut self, set: &Set, mode: Mode) -> Option<Offer> {
        if self.in_flight.is_some() || self.lingering.is_empty() {
            return None;
        }
        // What was refused may be what would have taken its place.
        if self.refused.is_some() {
            return None;
        }
        let mut gone = std::mem::take(&mut self.lingering);
        gone.retain(|name, _| set.get(name).is_none());
        match mode {
            _ if gone.is_empty() => None,
            Mode::Delta => Some(Offer { removed: gone.into_keys().collect(), ..Offer::default() }),
            Mode::StateOfTheWorld => {
                let was_sent = self.kind.is_whole() && gone.values().any(Option::is_some);
                was_sent.then(|| Offer { resources: self.whole(), ..Offer::default() })
            }
        }
    }

    pub fn sent(&mut self, offer: &Offer, nonce: u64, version: u64, now: Instant) {
        let names = offer.resources.iter().map(|(name, _)| name).chain(&offer.removed);
        self.doubtful = names.cloned().collect();
        (self.last_nonce, self.last_version) = (nonce, version);
        self.in_flight = Some(now);
        self.responses += 1;
    }

    /// Whether it was told everything, and has taken it.
    pub fn is_settled(&self, set: &Arc<Set>, mode: Mode) -> bool {
        let owes = !self.has_all(set) && {
            let (changed, gone) = self.difference(set);
            !changed.is_empty() || !gone.is_empty() && (mode == Mode::Delta || self.kind.is_whole())
        };
        !owes && !self.must_answer && self.in_flight.is_none() && self.refused.is_none()
    }

    pub fn standing(&self, set: &Arc<Set>, mode: Mode) -> Standing {
        let resources = match self.takes_all {
            true => set.len(),
            false => set.names().filter(|name| self.wants(name)).count(),
        };
        Standing {
            kind: self.kind,
            subscribed: (!self.takes_all).then_some(self.names.len()),
            resources,
            wanted: set.version(),
            accepted: self.accepted,
            refused: self.refused.clone(),
            unanswered_since: self.in_flight,
            is_current: self.is_settled(set, mode) && self.lingering.is_empty(),
            responses: self.responses,
            stale: self.stale,
        }
    }

    /// Whether it was told of nothing else.
    fn has_all(&self, set: &Arc<Set>) -> bool {
        self.otherwise.is_empty() && (Arc::ptr_eq(&self.sent, set) || *self.sent == **set)
    }

    /// All that is wanted, with what lingers.
    fn whole(&self) -> Resources {
        let there = self.sent.iter().filter(|(name, _)| self.wants(name));
        let gone = self.lingering.iter().filter_map(|(name, item)| Some((name, item.as_ref()?)));
        there.chain(gone).map(|(name, item)| (Arc::clone(name), item.clone())).collect()
    }

    /// What the proxy has otherwise than `set` says, of what it wants.
    fn difference(&self, set: &Set) -> (Resources, Names) {
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        let mut look = |name: &Arc<str>| {
            let has = match self.otherwise.get(name) {
                Some(Has::Nothing) => None,
                Some(Has::Version(version)) => Some(*version),
                None => self.sent.get(name).map(|item| Some(item.version)),
            };
            match set.get(name) {
                Some(item) if has != Some(Some(item.version)) => {
                    changed.push((Arc::clone(name), item.clone()));
                }
                None if has.is_some() || self.otherwise.contains_key(name) => gone.push(Arc::clone(name)),
                _ => {}
            }
        };
        if self.takes_all || self.kind == Kind::VirtualHost {
            let mut names = set.differing(&self.sent);
            names.extend(self.otherwise.keys());
            names.sort();
            names.dedup();
            names.into_iter().filter(|name| self.wants(name)).for_each(&mut look);
        } else {
            self.names.iter().for_each(&mut look);
        }
        (changed, gone)
    }
}
