//! What is kept of answers: the counterpart of `proxy/src/shared_cache.rs`, of one proxy, on virtual time.
//!
//! Everything is decided by `naru_cache`. A body has a length here and no bytes: all objects share one piece of zeros, so
//! that a memory of a gigabyte is as full as the proxy's would be, and costs next to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use naru_base::{Chance, Instant};
use naru_cache::{Asked, FlightId, Given, Key as CacheKey, Object, Outcome, Purge, Shelf, Terms, Ticket};
use naru_journey::Snapshot;
use naru_spec::CachePolicy;
use serde::Serialize;

use crate::passage::Key;
use crate::tiers::Claim;

/// The memory of a proxy.
#[derive(Debug)]
pub struct Memory {
    shelves: Vec<Shelf<Key>>,
    seed: u64,
    classes: BTreeMap<String, ClassCounts>,
    zeros: Bytes,
}

/// What became of requests of a class. See `naru_proxy`'s of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    pub hits: u64,
    /// Found behind the memory.
    #[serde(skip_serializing_if = "is_none")]
    pub disk_hits: u64,
    #[serde(skip_serializing_if = "is_none")]
    pub redis_hits: u64,
    pub stale_hits: u64,
    pub validated: u64,
    pub instead: u64,
    pub misses: u64,
    /// Of the requests above: they waited for another that fetched the same.
    pub collapsed: u64,
    pub stored: u64,
    pub unstored: u64,
    /// Fetched anew while a stale answer was given.
    pub refreshed: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl ClassCounts {
    /// Answered from what is kept.
    pub fn answered(&self) -> u64 {
        self.hits + self.disk_hits + self.redis_hits + self.stale_hits + self.validated + self.instead
    }

    pub fn add(&mut self, other: &ClassCounts) {
        self.hits += other.hits;
        self.disk_hits += other.disk_hits;
        self.redis_hits += other.redis_hits;
        self.stale_hits += other.stale_hits;
        self.validated += other.validated;
        self.instead += other.instead;
        self.misses += other.misses;
        self.collapsed += other.collapsed;
        self.stored += other.stored;
        self.unstored += other.unstored;
        self.refreshed += other.refreshed;
    }
}

/// What a memory holds when a run is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub objects: u64,
    pub bytes: u64,
    pub evicted: u64,
}

impl Memory {
    /// `None` where nothing is kept.
    pub fn of(snapshot: &Snapshot, seed: u64) -> Option<Box<Memory>> {
        if snapshot.caches.is_empty() {
            return None;
        }
        let bytes_max = snapshot.cache.bytes_max;
        let number = naru_cache::shelves(bytes_max);
        let shelf = |at: u64| Shelf::new(bytes_max / number, Chance::split(seed, &format!("shelf {at}")));
        let classes = snapshot.caches.all().map(|policy| (policy.class.clone(), ClassCounts::default()));
        Some(Box::new(Memory {
            shelves: (0..number).map(shelf).collect(),
            seed,
            classes: classes.collect(),
            zeros: Bytes::new(),
        }))
    }

    /// The shelf of a URL.
    pub fn shelf(&mut self, url: &str) -> &mut Shelf<Key> {
        let hash =
            url.bytes().fold(self.seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let at = (hash >> 32) as usize % self.shelves.len();
        &mut self.shelves[at]
    }

    pub fn count(&mut self, class: &str) -> &mut ClassCounts {
        // Classes of the snapshot are there from the beginning.
        if !self.classes.contains_key(class) {
            self.classes.insert(class.to_owned(), ClassCounts::default());
        }
        self.classes.get_mut(class).expect("it is there by now")
    }

    /// A whole answer was to be kept.
    pub fn count_kept(&mut self, class: &str, is_background: bool, is_kept: bool) {
        let counts = self.count(class);
        *(match (is_background, is_kept) {
            (false, true) => &mut counts.stored,
            (true, true) => &mut counts.refreshed,
            (_, false) => &mut counts.unstored,
        }) += 1;
    }

    /// Forgets what is meant, and what is being fetched of it.
    pub fn purge(&mut self, purge: &Purge) {
        for shelf in &mut self.shelves {
            shelf.begin_purge(purge);
            shelf.purge(purge, 0, usize::MAX);
        }
    }

    pub fn classes(&self) -> &BTreeMap<String, ClassCounts> {
        &self.classes
    }

    /// A body of so many bytes.
    pub fn body(&mut self, bytes: u64) -> Bytes {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if self.zeros.len() < bytes {
            self.zeros = Bytes::from(vec![0; bytes]);
        }
        self.zeros.slice(..bytes)
    }

    /// A fetch is over. Who is to look again is returned.
    pub fn end(&mut self, now: Instant, flight: FlightId, key: &CacheKey, outcome: Outcome) -> Vec<Key> {
        self.shelf(key.url()).end(now, flight, key, outcome)
    }

    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for shelf in &self.shelves {
            let counts = shelf.counts();
            held.objects += counts.objects;
            held.bytes += counts.bytes;
            held.evicted += counts.evicted;
        }
        held
    }

    /// Fetches under way: none when nothing is.
    pub fn flights(&self) -> u64 {
        self.shelves.iter().map(|shelf| shelf.counts().flights).sum()
    }
}

/// What a request has to do with the memory.
#[derive(Debug)]
pub struct Cached {
    /// Of a rule that keeps answers.
    pub route: Option<OfRoute>,
    pub is_tls: bool,
    /// It may change something.
    pub is_unsafe: bool,
    /// As it is sent: with the conditions of what is asked about.
    pub request: HeaderMap,
    /// The revision that its upstream is asked about.
    pub known: Option<u64>,
    pub asked: Asked,
    pub flight: Option<FlightId>,
    pub ticket: Option<Ticket>,
    /// Until when it waits for another request.
    pub waits_until: Option<Instant>,
    /// What is there, and may not be given as it is.
    pub stale: Option<Arc<Object>>,
    /// What is given, and what of it.
    pub given: Option<(Arc<Object>, Given)>,
    /// What its origin says of it.
    pub news: Option<HeaderMap>,
    pub storing: Option<Storing>,
    /// So many percent of what they are else are lifetimes that routes say, at the level of a `Surge`.
    pub percent: u32,
    pub sent: Instant,
    /// Nobody waits for it but the cache.
    pub is_background: bool,
    pub is_identified: bool,
    pub is_collapsed: bool,
    /// What is behind the memory was asked, and said this of when the fetch began.
    pub claim: Option<Claim>,
    /// What is on its way from there.
    pub seeking: Option<crate::arena::Ticket>,
}

#[derive(Clone, Debug)]
pub struct OfRoute {
    pub policy: Arc<CachePolicy>,
    pub key: CacheKey,
}

/// An answer while it is passed on.
#[derive(Debug)]
pub struct Storing {
    pub status: u16,
    pub head: HeaderMap,
    pub terms: Terms,
}
