//! What is behind the memory of answers: a disk of this process, and a Redis that gateways share.
//!
//! A request that finds nothing fresh in memory asks here before it fetches, once for all who wait for the same; what it
//! finds goes into memory. What is fetched is written to both. What is made worthless is made so in all tiers, and told
//! to the gateways that share the Redis. A tier that does not answer is missed, and nothing else: who asks waits for no
//! longer than its timeout, and not at all while it is known to be away.
//!
//! Workers do none of it themselves: a thread has the connection to the Redis ([`shared`]), others have the files
//! ([`disk`]).

mod disk;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use naru_base::Instant;
use naru_cache::{Asked, Key, Object, Purge};
use naru_journey::Snapshot;
use naru_spec::{CacheDisk, CacheRedis, CacheWrite, defaults};

use crate::clock::Origin;
use crate::shared_cache::SharedCache;
use disk::Disk;
use shared::Shared;

#[derive(Debug)]
pub struct Tiers {
    settings: (Option<CacheDisk>, Option<CacheRedis>),
    memory: Arc<SharedCache>,
    origin: Origin,
    disk: Option<Arc<Disk>>,
    shared: Option<Shared>,
}

/// Where an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Disk,
    Redis,
}

impl Tier {
    pub fn name(self) -> &'static str {
        match self {
            Tier::Disk => "disk",
            Tier::Redis => "redis",
        }
    }
}

/// What was so when a fetch began, so that nothing is written that was made worthless meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// How many purges the disk knew.
    disk: Option<u64>,
    redis: Option<shared::Claim>,
}

#[derive(Debug, Default)]
pub struct Sought {
    pub found: Option<(Object, Tier)>,
    pub claim: Claim,
}

/// What is counted of a tier.
#[derive(Debug, Default)]
struct TierCounts {
    hits: AtomicU64,
    misses: AtomicU64,
    /// Who asked had to do without an answer.
    unanswered: AtomicU64,
    stored: AtomicU64,
    /// Made worthless before they were written.
    superseded: AtomicU64,
    failed: AtomicU64,
    /// There was no place to wait.
    dropped: AtomicU64,
    /// What others have still to be told to forget.
    untold: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    is_up: AtomicBool,
}

/// How a tier is seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierStatus {
    pub tier: &'static str,
    pub is_up: bool,
    /// Names of results, and how often each came about.
    pub requests: [(&'static str, u64); 3],
    pub writes: [(&'static str, u64); 4],
    /// Of a Redis: what others have still to be told to forget.
    pub untold: Option<u64>,
    /// Of a disk: how many answers, and in how many bytes.
    pub held: Option<(u64, u64)>,
}

impl TierCounts {
    fn status(&self, tier: Tier) -> TierStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TierStatus {
            tier: tier.name(),
            is_up: self.is_up.load(Ordering::Relaxed),
            requests: [
                ("hit", read(&self.hits)),
                ("miss", read(&self.misses)),
                ("unanswered", read(&self.unanswered)),
            ],
            writes: [
                ("stored", read(&self.stored)),
                ("superseded", read(&self.superseded)),
                ("failed", read(&self.failed)),
                ("dropped", read(&self.dropped)),
            ],
            untold: (tier == Tier::Redis).then(|| read(&self.untold)),
            held: (tier == Tier::Disk).then(|| (read(&self.objects), read(&self.bytes))),
        }
    }
}

/// Answers that wait to be written: so many, and so many bytes.
#[derive(Debug)]
struct Waiting {
    most: u64,
    number: AtomicU64,
    bytes: AtomicU64,
}

/// A place to wait; given back by being dropped.
#[derive(Debug)]
struct Seat {
    of: Arc<Waiting>,
    bytes: u64,
}

impl Waiting {
    fn new(most: u32) -> Arc<Waiting> {
        Arc::new(Waiting { most: u64::from(most), number: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }

    fn take(self: &Arc<Self>, bytes: u64) -> Option<Seat> {
        let seat = Seat { of: Arc::clone(self), bytes };
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One that is too many gives its place back by being dropped.
        (number < self.most && before + bytes <= defaults::CACHE_QUEUE_BYTES).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.of.number.fetch_sub(1, Ordering::Relaxed);
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Tiers {
    /// Those of a snapshot: the ones before, where nothing has changed.
    ///
    /// # Errors
    /// There are no threads any more.
    pub fn of(
        snapshot: &Snapshot,
        memory: Option<&Arc<SharedCache>>,
        older: Option<&Arc<Tiers>>,
        origin: Origin,
    ) -> std::io::Result<Option<Arc<Tiers>>> {
        let Some(memory) = memory else { return Ok(None) };
        let settings = (snapshot.cache.disk.clone(), snapshot.cache.redis.clone());
        if settings == (None, None) {
            return Ok(None);
        }
        let is_it = |older: &&Arc<Tiers>| older.settings == settings && Arc::ptr_eq(&older.memory, memory);
        if let Some(known) = older.filter(is_it) {
            return Ok(Some(Arc::clone(known)));
        }
        let disk = settings.0.as_ref().map(|disk| Disk::start(disk, origin)).transpose()?;
        let shared = settings.1.as_ref();
        let shared = shared.map(|redis| Shared::start(redis, memory, disk.as_ref(), origin)).transpose()?;
        Ok(Some(Arc::new(Tiers { settings, memory: Arc::clone(memory), origin, disk, shared })))
    }

    /// Looks for an answer. The nearest tier with one that is fresh has it; else the freshest one.
    pub async fn find(&self, key: Key, request: HeaderMap, asked: Asked) -> Sought {
        let mut sought = Sought::default();
        if let Some(disk) = &self.disk {
            let (found, claim) = disk.find(&key, &request).await;
            sought.claim.disk = claim;
            let now = self.origin.elapsed();
            let is_enough = found.as_ref().is_some_and(|object| naru_cache::is_enough(object, &asked, now));
            sought.found = found.map(|object| (object, Tier::Disk));
            if is_enough {
                return sought;
            }
        }
        if let Some(shared) = &self.shared {
            let (found, claim) = shared.find(key, request).await;
            sought.claim.redis = claim;
            let known = sought.found.as_ref().map(|(known, _)| known);
            if let Some(object) = found
                && naru_cache::is_newer(&object, known, self.origin.elapsed())
            {
                sought.found = Some((object, Tier::Redis));
            }
        }
        sought
    }

    /// Whether others wait until an answer is written.
    pub fn is_written_through(&self) -> bool {
        self.settings.1.as_ref().is_some_and(|redis| redis.write == CacheWrite::Through)
    }

    /// Writes an answer to all tiers, at some time.
    pub fn keep(&self, object: &Arc<Object>, claim: &Claim) {
        if let (Some(disk), Some(known)) = (&self.disk, claim.disk) {
            disk.keep(object, known);
        }
        if let (Some(shared), Some(claim)) = (&self.shared, &claim.redis) {
            shared.keep(object, claim, None);
        }
    }

    /// The same, and waits for the Redis to say that it has it, as long as that may take.
    pub async fn keep_through(&self, object: &Arc<Object>, claim: &Claim) {
        if let (Some(disk), Some(known)) = (&self.disk, claim.disk) {
            disk.keep(object, known);
        }
        if let (Some(shared), Some(claim)) = (&self.shared, &claim.redis) {
            shared.keep_through(object, claim).await;
        }
    }

    /// Nothing of a URL is worth anything, here and at the gateways that share the Redis.
    pub fn forget(&self, url: &str) {
        if let Some(disk) = &self.disk {
            disk.forget(url);
        }
        if let Some(shared) = &self.shared {
            shared.forget(url);
        }
    }

    /// The same of what is meant. Whether the others were told; `None` where there are none.
    pub async fn purge(&self, purge: &Purge) -> Option<bool> {
        if let Some(disk) = &self.disk {
            disk.purge(purge);
        }
        match &self.shared {
            Some(shared) => Some(shared.purge(purge).await),
            None => None,
        }
    }

    pub fn status(&self) -> Vec<TierStatus> {
        let disk = self.disk.iter().map(|disk| disk.status());
        disk.chain(self.shared.iter().map(Shared::status)).collect()
    }

    pub fn now(&self) -> Instant {
        self.origin.elapsed()
    }
}

/// Says once that a tier gives no answer, and once that it does.
fn set_up(counts: &TierCounts, is_told: &AtomicBool, what: &str, why: Option<&str>) {
    counts.is_up.store(why.is_none(), Ordering::Relaxed);
    if is_told.swap(why.is_some(), Ordering::Relaxed) == why.is_some() {
        return;
    }
    match why {
        Some(why) => naru_say::say!("naru: {what} gives no answer ({why}): the cache does without it"),
        None => naru_say::say!("naru: {what} answers again"),
    }
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
