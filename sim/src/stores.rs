//! What stands around proxies and is no service: stores, files, and where addresses are.
//!
//! A store counts for all proxies of a world, by `naru_admit::quota` as the script in a Redis does. What a proxy knows of
//! one ([`StoreHere`]) is what `proxy/src/gate/stores.rs` has in its table; connections are not simulated beside that:
//! who is away refuses them, and who is silent has those that stand.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use naru_admit::quota::{Bid, Ledger, Meter, Room, Spent, meter_at, meters_at, spend};
use naru_base::{Chance, Instant};
use naru_content::given::Found;
use naru_journey::Snapshot;
use naru_journey::gate::Answer;
use naru_journey::gate::files::{FileAsked, FileSaid};
use naru_journey::gate::quotas::{Asked, Told};
use naru_spec::defaults::{STORE_AGAIN_AFTER, STORE_CONNECT_TIMEOUT, STORE_SILENT_MAX};
use serde::Serialize;

use crate::arena::Arena;
use crate::distribution::Distribution;
use crate::places::AllPlaces;
use crate::scenario::StoreState;
use crate::upstream::ProxyId;

/// A Redis keeps each key for as long as it means anything; here that ends with so many of a limit.
const KEYS_MAX: u32 = 1 << 20;

/// What is around the proxies of a world.
#[derive(Debug, Default)]
pub struct Around {
    pub stores: Vec<StoreSaid>,
    pub files: Files,
    /// What questions of checks will be answered.
    pub answers: Arena<Answer>,
    counts: BTreeMap<String, Counted>,
    told: BTreeMap<String, StoreTold>,
    /// What transcripts are to say, and of which proxy, if of one.
    pub noted: VecDeque<(Option<ProxyId>, String)>,
    pub places: Rc<AllPlaces>,
}

/// A store as a scenario has it.
#[derive(Clone, Debug)]
pub struct StoreSaid {
    /// A part of its name; whichever store where it is absent.
    pub at: Option<String>,
    pub latency: Distribution,
    /// The later one counts.
    pub windows: Vec<StoreWindow>,
    pub chance: Chance,
}

#[derive(Clone, Debug)]
pub struct StoreWindow {
    pub from: Instant,
    pub to: Instant,
    pub state: StoreState,
    pub latency: Option<Distribution>,
}

/// What became of the questions to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreTold {
    pub store: String,
    pub asked: u64,
    /// Without an answer, in time or at all.
    pub unanswered: u64,
    /// Of those that share limits among themselves: who waited for what others lend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<u64>,
    /// Workers that do without it.
    #[serde(skip)]
    without: u64,
}

#[derive(Debug)]
struct Counted {
    meter: Meter,
    /// What it is at the levels of a `Surge`.
    by_level: Box<[Meter]>,
    ledger: Ledger,
}

/// What a worker knows of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHere {
    state: Knows,
    /// It does without the store, until that has answered.
    is_missed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Knows {
    /// Questions without an answer since the last one with, by when they were given up.
    Up {
        silent: Vec<Instant>,
    },
    Away {
        again: Instant,
    },
}

impl Default for Knows {
    fn default() -> Knows {
        Knows::Up { silent: Vec::new() }
    }
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    After(Duration),
    /// At once, nobody.
    Nobody,
    /// At the end of its time, nobody.
    Silence,
}

impl StoreSaid {
    /// One of which nothing is said.
    fn usual() -> StoreSaid {
        let latency = Distribution::constant(Duration::from_micros(500));
        StoreSaid { at: None, latency, windows: Vec::new(), chance: Chance::new(0) }
    }

    fn draw(&mut self, now: Instant) -> (StoreState, Duration) {
        let windows = || self.windows.iter().rev().filter(|window| window.from <= now && now < window.to);
        let state = windows().map(|window| window.state).find(|state| *state != StoreState::Up);
        let latency = windows().find_map(|window| window.latency.clone());
        let latency = latency.unwrap_or_else(|| self.latency.clone()).sample(&mut self.chance);
        (state.unwrap_or_default(), latency)
    }
}

impl Around {
    pub fn new(stores: Vec<StoreSaid>, files: Files) -> Around {
        Around { stores, files, ..Around::default() }
    }

    pub fn note(&mut self, proxy: Option<ProxyId>, what: String) {
        self.noted.push_back((proxy, what));
    }

    /// How a store fares, and how long it takes for an answer.
    pub fn draw(&mut self, now: Instant, name: &str) -> (StoreState, Duration) {
        let at = self.stores.iter().position(|said| said.at.as_ref().is_none_or(|at| name.contains(at)));
        let at = at.unwrap_or_else(|| {
            self.stores.push(StoreSaid::usual());
            self.stores.len() - 1
        });
        self.stores[at].draw(now)
    }

    /// A request asks for what gateways share among themselves.
    pub fn count_leased(&mut self, name: &str, is_first: bool, is_answered: bool, waits: bool) {
        let told = self.told.entry(name.to_owned()).or_default();
        told.asked += u64::from(is_first);
        told.unanswered += u64::from(!is_answered);
        *told.waited.get_or_insert(0) += u64::from(is_first && waits);
    }

    /// A worker asks a store.
    pub fn ask(&mut self, now: Instant, name: &str, within: Duration, here: &mut StoreHere) -> Fate {
        let (state, latency) = self.draw(now, name);
        let told = self.told.entry(name.to_owned()).or_default();
        told.asked += 1;
        if let Knows::Up { silent } = &here.state {
            let mut over: Vec<Instant> = silent.iter().copied().filter(|end| *end <= now).collect();
            over.sort_unstable();
            if let Some(last) = over.get(STORE_SILENT_MAX as usize - 1) {
                here.state = Knows::Away { again: *last + STORE_AGAIN_AFTER };
                here.miss(told, &mut self.noted, name, "it takes too long");
            }
        }
        let fate = match &mut here.state {
            Knows::Up { silent } => match state {
                StoreState::Up if latency < within => {
                    silent.clear();
                    if std::mem::take(&mut here.is_missed) {
                        told.without = told.without.saturating_sub(1);
                        if told.without == 0 {
                            self.noted.push_back((None, format!("{name} answers again")));
                        }
                    }
                    return Fate::After(latency);
                }
                StoreState::Up | StoreState::Silent => {
                    silent.push(now + within);
                    Fate::Silence
                }
                StoreState::Away => {
                    here.state = Knows::Away { again: now + STORE_AGAIN_AFTER };
                    here.miss(told, &mut self.noted, name, "the connection is lost");
                    Fate::Nobody
                }
            },
            Knows::Away { again } => {
                // Whoever finds it again is told nothing yet. One that is silent greets nobody.
                if now >= *again {
                    match state {
                        StoreState::Up => here.state = Knows::default(),
                        StoreState::Away => *again = now + STORE_AGAIN_AFTER,
                        StoreState::Silent => *again = now + STORE_CONNECT_TIMEOUT + STORE_AGAIN_AFTER,
                    }
                }
                Fate::Nobody
            }
        };
        told.unanswered += 1;
        fate
    }

    /// Takes from counts that are kept in a store.
    pub fn spend(&mut self, now: Instant, snapshot: &Snapshot, level: u32, asked: &Asked) -> Told {
        let mut rooms = vec![Room::default(); asked.claims.len()];
        let mut taken: Vec<(String, Counted)> = Vec::new();
        for claim in &asked.claims {
            let Some(quota) = snapshot.quotas.get(claim.quota.index()) else { continue };
            let name = format!("{} {}", asked.store, quota.name);
            let counted = self.counts.remove(&name).unwrap_or_else(|| Counted {
                meter: Meter::new(quota.algorithm),
                by_level: meters_at(snapshot.surge.as_ref(), quota),
                ledger: Ledger::new(if quota.key.is_empty() { 1 } else { KEYS_MAX }),
            });
            taken.push((name, counted));
        }
        let is_whole = taken.len() == asked.claims.len();
        let bids = asked.claims.iter().zip(&mut taken).map(|(claim, (_, counted))| {
            let mut hasher = DefaultHasher::new();
            claim.key.hash(&mut hasher);
            Bid {
                meter: meter_at(&counted.meter, &counted.by_level, level),
                ledger: &mut counted.ledger,
                key: hasher.finish(),
                cost: claim.cost,
                is_shadow: claim.is_shadow,
            }
        });
        let mut bids: Vec<Bid<'_>> = bids.collect();
        let spent = if is_whole { spend(now, &mut bids, &mut rooms) } else { Spent::default() };
        drop(bids);
        self.counts.extend(taken);
        Told { spent, rooms }
    }

    /// What became of each store.
    pub fn told(&self) -> Vec<StoreTold> {
        self.told.iter().map(|(name, told)| StoreTold { store: name.clone(), ..told.clone() }).collect()
    }
}

impl StoreHere {
    fn miss(
        &mut self,
        told: &mut StoreTold,
        noted: &mut VecDeque<(Option<ProxyId>, String)>,
        name: &str,
        why: &str,
    ) {
        if !std::mem::replace(&mut self.is_missed, true) {
            told.without += 1;
            if told.without == 1 {
                let otherwise = "limits that are counted there do as they say for that";
                noted.push_back((None, format!("{name} gives no answer ({why}): {otherwise}")));
            }
        }
    }
}

/// Files by their path below the directory that they are in, with how long they are. A directory of a scenario stands for
/// each of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Files(pub BTreeMap<String, u64>);

/// Of every file, as nobody says when it was written: a day before a scenario begins.
const MODIFIED_SECONDS: u64 = 1_767_139_200;

impl Files {
    pub fn find(&self, asked: &FileAsked) -> FileSaid {
        for candidate in &asked.wanted.candidates {
            let Ok(path) = std::str::from_utf8(&candidate.path) else { continue };
            let found = |length: u64, coding| {
                FileSaid::Found(Found {
                    path: candidate.path.clone(),
                    status: candidate.status,
                    coding,
                    length,
                    modified_seconds: MODIFIED_SECONDS,
                    modified_nanos: 0,
                })
            };
            if let Some(length) = self.0.get(path) {
                let beside = asked.codings.iter().find_map(|coding| {
                    let beside = format!("{path}{}", coding.ending());
                    Some((*coding, *self.0.get(&beside)?))
                });
                return match beside {
                    Some((coding, length)) => found(length, Some(coding)),
                    None => found(*length, None),
                };
            }
            let below = format!("{path}/");
            if candidate.is_asked && self.0.keys().any(|known| known.starts_with(&below)) {
                return FileSaid::Directory;
            }
        }
        FileSaid::Missing
    }
}
