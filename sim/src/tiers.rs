//! What is behind the memories of answers: the counterpart of `proxy/src/tiers`, on virtual time.
//!
//! Who may hold an answer, for how long, which one is taken and what a request does with it is decided by `naru_cache`.
//! Here is what is there: a [`DiskHere`] of one proxy, of which nothing takes time, and [`SharedAnswers`] that proxies
//! with one Redis and one prefix have together. Objects are there in the bytes that the proxy writes, without their
//! bodies: these have a length only. Who asks, and when, is in `world/tiers.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use naru_base::{Chance, Instant};
use naru_cache::{Catalog, Key as CacheKey, Name, Object, Packed, Shards, choose, hash, pack_choice};
use naru_journey::Snapshot;
use naru_spec::{CacheRedis, CacheWrite, Redis, defaults};
use serde::Serialize;

use crate::arena::Ticket;
use crate::kept::Memory;
use crate::wall::wall;

/// A URL has so many answers in a Redis, and its log so many entries: as `wire/redis` has it.
const FIELDS_MAX: usize = 1_024;
const LOG_MAX: usize = 10_000;
/// How long a URL that was made worthless has its name.
pub const NAME_KEPT: Duration = Duration::from_secs(900);
/// Files take whole blocks, and a file may be one of so many parts of the whole.
const BLOCK: u64 = 4_096;
const FILE_PART: u64 = 4;

/// As stores of counts are called.
pub fn name_of(redis: &Redis) -> String {
    let kind = if redis.is_cluster { "redis-cluster" } else { "redis" };
    format!("{kind}:{}", redis.nodes.join(","))
}

/// Where an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Disk,
    Redis,
}

/// The bytes of an object without its body, or what it is chosen by.
#[derive(Clone, Debug)]
pub struct Stored {
    bytes: Bytes,
    body: u64,
}

impl Stored {
    /// With what it is called among those of its URL.
    fn of(now: Instant, object: &Object) -> Vec<(Vec<u8>, Stored)> {
        let choice = pack_choice(object).map(|choice| {
            let stored = Stored { bytes: Bytes::from(choice), body: 0 };
            (object.key.beside().as_bytes().to_vec(), stored)
        });
        let mut bare = object.clone();
        bare.body = Bytes::new();
        // Nobody purges here.
        let bytes = Bytes::from(bare.pack(0, now, wall(now)));
        let whole = (object.field(), Stored { bytes, body: object.body.len() as u64 });
        choice.into_iter().chain([whole]).collect()
    }

    fn packed(&self, now: Instant) -> Option<Packed> {
        Packed::read(&self.bytes, now, wall(now))
    }

    /// The object of a key that is meant for a request.
    pub fn read(
        &self,
        now: Instant,
        key: &CacheKey,
        request: &HeaderMap,
        memory: &mut Memory,
    ) -> Option<Object> {
        let (mut object, _) = self.packed(now)?.into_object(key, request)?;
        object.body = memory.body(self.body);
        Some(object)
    }
}

/// What became of what a tier was asked, and of what was written there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TierCounts {
    pub hits: u64,
    pub misses: u64,
    /// Who asked had to do without an answer.
    pub unanswered: u64,
    pub stored: u64,
    /// Made worthless before they were written.
    pub superseded: u64,
    pub failed: u64,
    /// There was no place to wait.
    pub dropped: u64,
}

/// What a tier was for all proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierTold {
    pub tier: String,
    #[serde(flatten)]
    pub counts: TierCounts,
}

impl TierTold {
    pub fn of(tiers: &[Box<TiersHere>]) -> Vec<TierTold> {
        let mut sums: BTreeMap<String, TierCounts> = BTreeMap::new();
        let mut add = |tier: String, counts: &TierCounts| {
            let sum = sums.entry(tier).or_default();
            sum.hits += counts.hits;
            sum.misses += counts.misses;
            sum.unanswered += counts.unanswered;
            sum.stored += counts.stored;
            sum.superseded += counts.superseded;
            sum.failed += counts.failed;
            sum.dropped += counts.dropped;
        };
        for here in tiers {
            here.disk.iter().for_each(|disk| add("disk".to_owned(), &disk.counts));
            here.redis.iter().for_each(|redis| add(redis.name.clone(), &redis.counts));
        }
        sums.into_iter().map(|(tier, counts)| TierTold { tier, counts }).collect()
    }
}

/// What a proxy has behind its memory.
#[derive(Debug)]
pub struct TiersHere {
    pub disk: Option<DiskHere>,
    pub redis: Option<Box<RedisHere>>,
}

impl TiersHere {
    /// `None` where there is nothing, or nothing is kept.
    pub fn of(snapshot: &Snapshot, seed: u64) -> Option<Box<TiersHere>> {
        let settings = &snapshot.cache;
        if snapshot.caches.is_empty() || (settings.disk.is_none() && settings.redis.is_none()) {
            return None;
        }
        let disk = settings.disk.as_ref().map(|disk| {
            DiskHere::new(disk.bytes_max, Chance::split(seed, &format!("disk {}", disk.directory)).draw())
        });
        let redis = settings.redis.as_ref().map(|redis| Box::new(RedisHere::new(redis)));
        Some(Box::new(TiersHere { disk, redis }))
    }

    /// Whether others wait until an answer is written.
    pub fn is_written_through(&self) -> bool {
        self.redis.as_ref().is_some_and(|redis| redis.settings.write == CacheWrite::Through)
    }
}

/// What was so when a fetch began.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// There is a disk, and it was asked.
    pub disk: bool,
    pub redis: Option<SharedClaim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedClaim {
    /// What the URL was called.
    pub name: u64,
    pub at: Instant,
}

/// What was found behind a memory, so far.
#[derive(Debug, Default)]
pub struct Sought {
    pub found: Option<(Object, Tier)>,
    pub claim: Claim,
    /// What the Redis says, once it is there.
    pub shared: Option<SharedAnswer>,
}

/// `None` of both where it says nothing.
#[derive(Debug)]
pub struct SharedAnswer {
    pub is_there: bool,
    pub stored: Option<Stored>,
    pub claim: Option<SharedClaim>,
}

/// A disk of one proxy: a directory that is empty at first.
#[derive(Debug)]
pub struct DiskHere {
    catalog: Catalog,
    files: BTreeMap<Name, Stored>,
    seed: u64,
    pub counts: TierCounts,
}

impl DiskHere {
    fn new(bytes_max: u64, seed: u64) -> DiskHere {
        let catalog = Catalog::new(bytes_max);
        DiskHere { catalog, files: BTreeMap::new(), seed, counts: TierCounts::default() }
    }

    fn name(&self, url: &str, field: &[u8]) -> Name {
        Name { url: hash(self.seed, url.as_bytes()), object: hash(self.seed, field) }
    }

    pub fn find(
        &mut self,
        now: Instant,
        key: &CacheKey,
        request: &HeaderMap,
        memory: &mut Memory,
    ) -> Option<Object> {
        let found = self.look(now, key, request, memory);
        *(if found.is_some() { &mut self.counts.hits } else { &mut self.counts.misses }) += 1;
        found
    }

    fn look(
        &mut self,
        now: Instant,
        key: &CacheKey,
        request: &HeaderMap,
        memory: &mut Memory,
    ) -> Option<Object> {
        let mut field = key.beside().as_bytes().to_vec();
        // By way of the fields that it was chosen by, if it was.
        for _ in 0..2 {
            let name = self.name(key.url(), &field);
            if !self.catalog.touch(name) {
                return None;
            }
            let stored = self.files.get(&name)?;
            match stored.packed(now)? {
                Packed::Choice(names) => field = choose(key, &names, request)?,
                Packed::Object(..) => return stored.read(now, key, request, memory),
            }
        }
        None
    }

    pub fn keep(&mut self, now: Instant, object: &Object) {
        let url = object.key.url();
        let files = Stored::of(now, object);
        let bytes = |stored: &Stored| stored.bytes.len() as u64 + stored.body;
        if files.iter().any(|(_, stored)| bytes(stored) > self.catalog.bytes_max() / FILE_PART) {
            self.counts.dropped += 1;
            return;
        }
        for (field, stored) in files {
            let name = self.name(url, &field);
            let taken_up = bytes(&stored).div_ceil(BLOCK) * BLOCK;
            self.files.insert(name, stored);
            for gone in self.catalog.put(name, u32::try_from(taken_up).unwrap_or(u32::MAX)) {
                self.files.remove(&gone);
            }
        }
        self.counts.stored += 1;
    }

    pub fn forget(&mut self, url: &str) {
        for name in self.catalog.of_url(self.name(url, b"").url) {
            self.catalog.remove(name);
            self.files.remove(&name);
        }
    }

    pub fn forget_all(&mut self) {
        self.catalog = Catalog::new(self.catalog.bytes_max());
        self.files.clear();
    }
}

/// What stands in a Redis under one prefix.
#[derive(Debug, Default)]
pub struct SharedAnswers {
    urls: BTreeMap<String, OfUrl>,
    /// URLs that were made worthless: with their numbers, and by whom.
    log: VecDeque<(u64, u32, String)>,
    last: u64,
    /// Entries up to this number were thrown away.
    floor: u64,
    names: u64,
}

#[derive(Debug, Default)]
struct OfUrl {
    /// 0 where it was not made worthless lately.
    name: u64,
    fields: BTreeMap<Vec<u8>, Stored>,
    until: Instant,
}

/// What is new in the log.
#[derive(Debug)]
pub struct News {
    pub last: u64,
    /// Some are not there any more that were not read.
    pub is_missed: bool,
    /// Those of others.
    pub urls: Vec<String>,
}

impl SharedAnswers {
    fn of_url(&mut self, now: Instant, url: &str) -> Option<&mut OfUrl> {
        if self.urls.get(url).is_some_and(|known| known.until <= now) {
            self.urls.remove(url);
        }
        self.urls.get_mut(url)
    }

    /// What a URL is called, and what stands in one of its fields.
    pub fn find(&mut self, now: Instant, url: &str, field: &[u8]) -> (u64, Option<Stored>) {
        self.of_url(now, url).map_or((0, None), |known| (known.name, known.fields.get(field).cloned()))
    }

    /// The field in which a request may find its object, if that is chosen by what the request says.
    pub fn chosen(
        now: Instant,
        stored: &Stored,
        key: &CacheKey,
        request: &HeaderMap,
    ) -> Option<Option<Vec<u8>>> {
        match stored.packed(now)? {
            Packed::Choice(names) => Some(choose(key, &names, request)),
            Packed::Object(..) => None,
        }
    }

    /// `false` where the URL was made worthless since it had this name.
    pub fn keep(&mut self, now: Instant, object: &Object, name: u64, life: Duration) -> bool {
        let url = object.key.url();
        if self.of_url(now, url).map_or(0, |known| known.name) != name {
            return false;
        }
        let known = self.urls.entry(url.to_owned()).or_default();
        if known.fields.len() >= FIELDS_MAX {
            known.fields.clear();
        }
        known.fields.extend(Stored::of(now, object));
        known.until = known.until.max(now + life);
        true
    }

    /// Nothing of a URL is worth anything.
    pub fn forget(&mut self, now: Instant, url: &str) {
        self.names += 1;
        let known = OfUrl { name: self.names, fields: BTreeMap::new(), until: now + NAME_KEPT };
        self.urls.insert(url.to_owned(), known);
    }

    /// The others are to hear of it.
    pub fn tell(&mut self, by: u32, url: &str) {
        self.last += 1;
        self.log.push_back((self.last, by, url.to_owned()));
        if self.log.len() > LOG_MAX
            && let Some((number, ..)) = self.log.pop_front()
        {
            self.floor = number;
        }
    }

    pub fn news(&self, after: u64, by: u32) -> News {
        let new = self.log.iter().filter(|(number, whose, _)| *number > after && *whose != by);
        News {
            last: self.last,
            is_missed: after < self.floor,
            urls: new.map(|(_, _, url)| url.clone()).collect(),
        }
    }
}

/// An answer that waits to be written.
#[derive(Debug)]
pub struct Writing {
    pub object: Arc<Object>,
    pub claim: SharedClaim,
    /// Others wait for the write.
    pub keeping: Option<Ticket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    None,
    Connecting,
    Up,
}

/// What a proxy knows of the Redis.
#[derive(Debug)]
pub struct RedisHere {
    pub settings: CacheRedis,
    pub name: String,
    /// What it shares with whom: the Redis and the prefix.
    pub place: String,
    pub link: Link,
    /// When it was tried to connect.
    pub tried: Option<Instant>,
    /// One part: a cluster is here as a whole.
    pub shards: Shards,
    /// How far the log was read.
    pub read: u64,
    /// All that there was has been read once.
    pub is_ready: bool,
    pub is_reading: bool,
    pub is_telling: bool,
    /// What others have still to be told, and as which this was counted.
    pub untold: BTreeMap<String, u64>,
    pub counted: u64,
    pub waiting: VecDeque<Writing>,
    pub writing: usize,
    /// Of all that waits and is written.
    pub seats: u64,
    pub bytes: u64,
    /// It was said that it gives no answer.
    pub is_missed: bool,
    pub counts: TierCounts,
}

impl RedisHere {
    fn new(settings: &CacheRedis) -> RedisHere {
        let name = name_of(&settings.redis);
        RedisHere {
            settings: settings.clone(),
            place: format!("{name} {}", settings.prefix),
            name,
            link: Link::None,
            tried: None,
            shards: Shards::new(1),
            read: 0,
            is_ready: false,
            is_reading: false,
            is_telling: false,
            untold: BTreeMap::new(),
            counted: 0,
            waiting: VecDeque::new(),
            writing: 0,
            seats: 0,
            bytes: 0,
            is_missed: false,
            counts: TierCounts::default(),
        }
    }

    /// Its proxy is another process: nothing is connected yet, and what was to be told nobody knows.
    pub fn begin_anew(&mut self) {
        self.link = Link::None;
        self.is_ready = false;
        self.untold.clear();
    }

    /// Whether it is asked anything.
    pub fn is_up(&self) -> bool {
        self.link == Link::Up && self.shards.is_up(0)
    }

    /// Whether there is a place for one that waits; then it has it.
    pub fn take_seat(&mut self, bytes: u64) -> bool {
        let has_room = self.seats < u64::from(self.settings.queue_max)
            && self.bytes + bytes <= defaults::CACHE_QUEUE_BYTES;
        if has_room {
            self.seats += 1;
            self.bytes += bytes;
        }
        has_room
    }

    pub fn leave_seat(&mut self, bytes: u64) {
        self.seats -= 1;
        self.bytes -= bytes;
    }
}
