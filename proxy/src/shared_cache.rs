//! The memory that workers keep answers in, together.
//!
//! It is a number of shelves, each behind a lock of its own that is held for one look or one object, and never while
//! anything is waited for. What is kept goes on when the configuration changes, for as long as the memory is as large.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use naru_base::{Chance, Instant};
use naru_cache::{Counts, FlightId, Key, Outcome, Purge, Shelf, Ticket};
use naru_journey::Snapshot;

use crate::tiers::TierStatus;

/// So many objects are looked at in a purge before somebody else may.
const PURGE_STEP: usize = 512;

#[derive(Debug)]
pub struct SharedCache {
    shelves: Box<[Mutex<Shelf<Waker>>]>,
    bytes_max: u64,
    seed: u64,
    classes: Mutex<BTreeMap<String, Arc<ClassCounts>>>,
}

/// What became of requests of a class.
#[derive(Debug, Default)]
pub struct ClassCounts {
    pub hits: AtomicU64,
    /// Of these: they were given the short way.
    pub short: AtomicU64,
    /// They were on the disk, or in a Redis.
    pub disk_hits: AtomicU64,
    pub redis_hits: AtomicU64,
    /// Stale, while another was fetched or as the client allowed.
    pub stale_hits: AtomicU64,
    /// Their origin said that nothing had changed.
    pub validated: AtomicU64,
    /// Stale, in the place of a failure.
    pub instead: AtomicU64,
    pub misses: AtomicU64,
    /// Of the requests above: they waited for another that fetched the same.
    pub collapsed: AtomicU64,
    /// Answers that were kept.
    pub stored: AtomicU64,
    /// And that were not, as they may not be, or are too large.
    pub unstored: AtomicU64,
}

/// How a class is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassStatus {
    pub class: String,
    /// Names of results, and how often each came about.
    pub results: [(&'static str, u64); 7],
    pub short: u64,
    pub collapsed: u64,
    pub stored: u64,
    pub unstored: u64,
}

/// How the memory is seen from outside.
#[derive(Clone, Debug, Default)]
pub struct CacheStatus {
    pub counts: Counts,
    pub classes: Vec<ClassStatus>,
    /// What is behind the memory.
    pub tiers: Vec<TierStatus>,
}

/// What has come of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// So many answers in memory.
    pub forgotten: u64,
    /// Gateways that share a Redis were told; `None` where there are none.
    pub is_told: Option<bool>,
}

impl SharedCache {
    /// That of a snapshot that keeps anything: the one before, where it is as large.
    pub fn of(snapshot: &Snapshot, older: Option<&Arc<SharedCache>>, seed: u64) -> Option<Arc<SharedCache>> {
        if snapshot.caches.is_empty() {
            return None;
        }
        let bytes_max = snapshot.cache.bytes_max;
        let cache = match older.filter(|older| older.bytes_max == bytes_max) {
            Some(older) => Arc::clone(older),
            None => Arc::new(SharedCache::new(bytes_max, seed)),
        };
        for policy in snapshot.caches.all() {
            cache.class(&policy.class);
        }
        Some(cache)
    }

    fn new(bytes_max: u64, seed: u64) -> SharedCache {
        let number = naru_cache::shelves(bytes_max);
        let shelf =
            |at: u64| Mutex::new(Shelf::new(bytes_max / number, Chance::split(seed, &format!("shelf {at}"))));
        SharedCache { shelves: (0..number).map(shelf).collect(), bytes_max, seed, classes: Mutex::default() }
    }

    /// What is counted for a class.
    pub fn class(&self, name: &str) -> Arc<ClassCounts> {
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        match classes.get(name) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(classes.entry(name.to_owned()).or_default()),
        }
    }

    /// All of them.
    pub fn classes(&self) -> BTreeMap<String, Arc<ClassCounts>> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shelf of a URL.
    pub fn shelf(&self, url: &str) -> MutexGuard<'_, Shelf<Waker>> {
        // Its upper half, spread over all of them.
        let hash = naru_cache::hash(self.seed, url.as_bytes()) >> 32;
        let at = ((hash * self.shelves.len() as u64) >> 32) as usize;
        // Whoever panicked with it has left it whole: nothing in it is done in parts that could panic.
        self.shelves[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn end(&self, now: Instant, flight: FlightId, key: &Key, outcome: Outcome) {
        let woken = self.shelf(key.url()).end(now, flight, key, outcome);
        woken.into_iter().for_each(Waker::wake);
    }

    pub fn leave(&self, ticket: Ticket, key: &Key) {
        let woken = self.shelf(key.url()).leave(ticket);
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    pub fn invalidate(&self, url: &str) -> u64 {
        self.shelf(url).invalidate(url)
    }

    /// Forgets what is meant. How many objects that were is returned.
    pub async fn purge(&self, purge: &Purge) -> u64 {
        if let Purge::Url(url) = purge {
            return self.invalidate(url);
        }
        let mut gone = 0;
        for shelf in &self.shelves {
            let lock = || shelf.lock().unwrap_or_else(PoisonError::into_inner);
            lock().begin_purge(purge);
            let mut from = Some(0);
            while let Some(at) = from {
                let (some, next) = lock().purge(purge, at, PURGE_STEP);
                gone += some;
                from = next;
                tokio::task::yield_now().await;
            }
        }
        gone
    }

    pub fn status(&self) -> CacheStatus {
        let mut counts = Counts::default();
        for shelf in &self.shelves {
            let of_shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner).counts();
            counts.objects += of_shelf.objects;
            counts.bytes += of_shelf.bytes;
            counts.bytes_max += of_shelf.bytes_max;
            counts.evicted += of_shelf.evicted;
            counts.flights += of_shelf.flights;
        }
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let classes = classes.iter().map(|(class, counts)| counts.status(class)).collect();
        CacheStatus { counts, classes, tiers: Vec::new() }
    }
}

impl ClassCounts {
    fn status(&self, class: &str) -> ClassStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ClassStatus {
            class: class.to_owned(),
            results: [
                ("hit", read(&self.hits)),
                ("disk", read(&self.disk_hits)),
                ("redis", read(&self.redis_hits)),
                ("stale", read(&self.stale_hits)),
                ("validated", read(&self.validated)),
                ("instead", read(&self.instead)),
                ("miss", read(&self.misses)),
            ],
            short: read(&self.short),
            collapsed: read(&self.collapsed),
            stored: read(&self.stored),
            unstored: read(&self.unstored),
        }
    }
}

pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
