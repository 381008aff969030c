//! Limits that several proxies share without a store: who counts for the workers, and who speaks with the others.
//!
//! `naru_admit::lease` decides. Workers take from [`Pot`]s that they share, as they do of limits of this process alone
//! ([`super::quotas`]); who lacks something waits until it has come, for three quarters of the time that his question
//! may take at most, and is told then what this proxy knows. One thread for each circle has its socket: it tells the
//! others that this proxy is there, lends and borrows. It changes prices under the locks of the pots, so that no worker
//! counts by a share that has ended: what a share is good for ends by the clock, also where that thread stands still.
//!
//! Which member this proxy is, is found out: the first of the addresses that can be listened at.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::task::Poll;
use std::time::Duration;

use naru_admit::lease::{Change, Circle, Lent, Pot, PotBid, Reception, Spend, Wish, spend};
use naru_admit::quota::{Meter, Room, Spent};
use naru_base::Instant;
use naru_journey::gate::quotas::{Asked, Claim, Told};
use naru_lease::{BYTES_MAX, ITEMS_MAX, Item, Message, What, Words};
use naru_spec::{DataSource, Leases, Quota, WithoutStore};
use tokio::net::UdpSocket;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};

use crate::clock::{Origin, wall_now};

const SHARDS: usize = 64;
/// So many questions wait for the thread; who comes then has his own part.
const QUESTIONS_MAX: usize = 4_096;
/// Between two tries to listen.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// 2020-01-01: windows of all members begin together, and moments stay small.
const EPOCH_NANOS: u64 = 1_577_836_800_000_000_000;
const SECRET_BYTES_MIN: usize = 32;

/// One limit of a circle.
#[derive(Debug)]
pub struct LeasedLimit {
    /// What members call it.
    number: u64,
    meter: Meter,
    settings: Quota,
    shards: Box<[Mutex<Pot>]>,
    /// Something has come for a key of a shard.
    came: Box<[Notify]>,
}

/// A circle, as all workers see it.
#[derive(Debug)]
pub struct Circled {
    settings: Leases,
    origin: Origin,
    /// From the process's clock to that of the circle.
    offset: u64,
    limits: RwLock<BTreeMap<String, Arc<LeasedLimit>>>,
    /// There where the secret could be read.
    words: RwLock<Option<Arc<Words>>>,
    /// Until when this member has its share; 0 where it has none.
    active_until: AtomicU64,
    parts: AtomicU32,
    empty_since: AtomicU64,
    others: AtomicU32,
    questions_tx: mpsc::Sender<Item>,
    is_told: AtomicBool,
}

/// What is told of a circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircleStatus {
    pub is_active: bool,
    /// A limit has so many parts.
    pub parts: u32,
    /// Members that are heard, this one too.
    pub present: u32,
}

fn lock(pot: &Mutex<Pot>) -> MutexGuard<'_, Pot> {
    // Whoever panicked while he held it has left a table as good as any.
    pot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LeasedLimit {
    fn new(number: u64, quota: &Quota, parts: u32) -> LeasedLimit {
        let shards = if quota.key.is_empty() { 1 } else { SHARDS };
        let keys = if quota.key.is_empty() { 1 } else { quota.keys_max.div_ceil(SHARDS as u32) };
        LeasedLimit {
            number,
            meter: Meter::new(quota.algorithm),
            settings: quota.clone(),
            shards: (0..shards).map(|_| Mutex::new(Pot::new(keys, parts))).collect(),
            came: (0..shards).map(|_| Notify::new()).collect(),
        }
    }

    fn is_of(&self, quota: &Quota) -> bool {
        let own = &self.settings;
        own.algorithm == quota.algorithm && own.key == quota.key && own.keys_max == quota.keys_max
    }

    fn at(&self, key: u64) -> usize {
        key as usize % self.shards.len()
    }
}

/// What a limit and its settings are called: who means another one by the name shares nothing.
fn number_of(words: &Words, quota: &Quota) -> u64 {
    words.name(format!("{} {:?} {:?} {:?}", quota.name, quota.algorithm, quota.key, quota.lacking).as_bytes())
}

impl Circled {
    /// Starts the thread of a circle. It ends when nobody has the circle any more.
    pub fn start(name: &str, settings: &Leases, origin: Origin) -> std::io::Result<Arc<Circled>> {
        let (questions_tx, questions_rx) = mpsc::channel(QUESTIONS_MAX);
        let now = wall_now().0.saturating_sub(EPOCH_NANOS);
        let circled = Arc::new(Circled {
            settings: settings.clone(),
            origin,
            offset: now.saturating_sub(origin.elapsed().0),
            limits: RwLock::default(),
            words: RwLock::default(),
            active_until: AtomicU64::new(0),
            parts: AtomicU32::new(settings.members.len() as u32),
            empty_since: AtomicU64::new(0),
            others: AtomicU32::new(0),
            questions_tx,
            is_told: AtomicBool::new(false),
        });
        circled.read_secret(name);
        let weak = Arc::downgrade(&circled);
        let of_thread = (name.to_owned(), settings.clone());
        std::thread::Builder::new().name("naru-leases".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let (name, settings) = of_thread;
                runtime.block_on(run(&name, &settings, &weak, questions_rx));
            }
        })?;
        Ok(circled)
    }

    /// Whether it is the circle of these settings.
    pub fn is_of(&self, settings: &Leases) -> bool {
        self.settings == *settings
    }

    /// What it counts from now on. What it has counted already goes on.
    pub fn configure(&self, quotas: &[&Quota]) {
        let mut limits = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        let words = self.words.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (now, parts) = (self.now(), self.parts.load(Ordering::Relaxed));
        let empty = Some(self.empty_since.load(Ordering::Relaxed)).filter(|since| *since > 0).map(Instant);
        let mut next = BTreeMap::new();
        for quota in quotas {
            let known = limits.get(&quota.name).filter(|known| known.is_of(quota));
            let limit = known.cloned().unwrap_or_else(|| {
                let number = words.as_ref().map_or(0, |words| number_of(words, quota));
                let limit = LeasedLimit::new(number, quota, parts);
                if let Some(since) = empty {
                    limit.shards.iter().for_each(|pot| lock(pot).empty(now, &limit.meter, since));
                }
                Arc::new(limit)
            });
            next.insert(quota.name.clone(), limit);
        }
        *limits = next;
    }

    pub fn status(&self) -> CircleStatus {
        CircleStatus {
            is_active: self.is_active(self.now()),
            parts: self.parts.load(Ordering::Relaxed),
            present: self.others.load(Ordering::Relaxed) + 1,
        }
    }

    fn now(&self) -> Instant {
        Instant(self.origin.elapsed().0.saturating_add(self.offset))
    }

    fn is_active(&self, now: Instant) -> bool {
        now.0 < self.active_until.load(Ordering::Acquire)
    }

    fn words(&self) -> Option<Arc<Words>> {
        self.words.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it cannot be read, this is said once, and it is tried again by the thread.
    fn read_secret(&self, name: &str) -> bool {
        if self.words().is_some() {
            return true;
        }
        match secret(&self.settings.secret) {
            Ok(secret) => {
                let members: Vec<String> = self.settings.members.iter().map(ToString::to_string).collect();
                let circle = format!("{} {:?}", members.join(","), self.settings.lease);
                let words = Arc::new(Words::new(&secret, &circle));
                let mut limits = self.limits.write().unwrap_or_else(PoisonError::into_inner);
                *limits = std::mem::take(&mut *limits)
                    .into_iter()
                    .map(|(name, limit)| {
                        let parts = self.parts.load(Ordering::Relaxed);
                        let number = number_of(&words, &limit.settings);
                        (name, Arc::new(LeasedLimit::new(number, &limit.settings, parts)))
                    })
                    .collect();
                *self.words.write().unwrap_or_else(PoisonError::into_inner) = Some(words);
                true
            }
            Err(why) => {
                self.tell(&format!("naru: {name} has no secret ({why}): this proxy counts by itself"));
                false
            }
        }
    }

    /// Once, until it is well again.
    fn tell(&self, text: &str) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            naru_say::say!("{text}");
        }
    }

    fn limit(&self, quota: &Quota) -> Option<Arc<LeasedLimit>> {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.get(&quota.name).filter(|limit| limit.is_of(quota)).cloned()
    }

    /// Takes from the limits of a request: from all, or from none. `None` where this proxy has no share, and is not to
    /// count by itself.
    pub async fn spend(&self, quotas: &[Quota], asked: &Asked) -> Option<Told> {
        let words = self.words();
        let claims = asked.claims.iter().map(|claim| {
            let quota = quotas.get(claim.quota.index())?;
            let key = match &words {
                Some(words) => {
                    let mut name = quota.name.clone().into_bytes();
                    name.push(0);
                    name.extend(&claim.key);
                    words.name(&name)
                }
                // Nobody else is there to whom it would have to mean the same.
                None => naru_jose::secret::sha256(&claim.key)
                    .first_chunk()
                    .map(|first| u64::from_be_bytes(*first))?,
            };
            Some(Taken { claim, limit: self.limit(quota)?, key })
        });
        let taken: Vec<Taken<'_>> = claims.collect::<Option<_>>()?;
        let until = self.now() + asked.within * 3 / 4;
        let mut came: Vec<Pin<Box<Notified<'_>>>> = Vec::new();
        loop {
            let now = self.now();
            let is_active = self.is_active(now);
            if !is_active && asked.otherwise != WithoutStore::Local {
                return None;
            }
            let mut rooms = vec![Room::default(); taken.len()];
            match self.take(now, is_active, now >= until, &taken, &mut rooms) {
                Spend::Said(spent) => return Some(Told { spent, rooms }),
                Spend::Wait(wishes) => self.ask(&taken, &wishes),
            }
            if came.is_empty() {
                // Whoever waits looks once more after he has begun to listen: something may have come between.
                let of_limit = |taken: &Taken<'_>| taken.limit.at(taken.key);
                let of_limits = taken.iter().filter_map(|taken| taken.limit.came.get(of_limit(taken)));
                came.extend(of_limits.map(|came| Box::pin(came.notified())));
                came.iter_mut().for_each(|came| {
                    came.as_mut().enable();
                });
                continue;
            }
            let any = poll_fn(|cx| {
                let is_there = came.iter_mut().any(|came| came.as_mut().poll(cx).is_ready());
                if is_there { Poll::Ready(()) } else { Poll::Pending }
            });
            // At the end of its time it is told what there is.
            let _ = tokio::time::timeout(until.since(now), any).await;
            came.clear();
        }
    }

    /// Locks the limits of a request, always in the order of their numbers.
    fn take(
        &self,
        now: Instant,
        is_active: bool,
        is_last: bool,
        taken: &[Taken<'_>],
        rooms: &mut [Room],
    ) -> Spend {
        let mut order: Vec<usize> = (0..taken.len()).collect();
        order.sort_unstable_by_key(|at| taken.get(*at).map(|taken| taken.limit.number));
        let mut guards: Vec<(usize, MutexGuard<'_, Pot>)> = Vec::with_capacity(taken.len());
        let mut known = BTreeSet::new();
        for at in order {
            let Some(Taken { limit, key, .. }) = taken.get(at) else { continue };
            // Each is asked once: `Quotas::problems`. To lock one twice would wait for ever.
            let Some(pot) = limit.shards.get(limit.at(*key)).filter(|_| known.insert(Arc::as_ptr(limit)))
            else {
                return Spend::Said(Spent::default());
            };
            guards.push((at, lock(pot)));
        }
        guards.sort_unstable_by_key(|(at, _)| *at);
        let bids = taken.iter().zip(&mut guards).map(|(taken, (_, pot))| PotBid {
            meter: &taken.limit.meter,
            pot,
            key: taken.key,
            cost: taken.claim.cost,
            is_shadow: taken.claim.is_shadow,
        });
        // A share that has ended is what everybody has.
        let parts_min = if is_active { 1 } else { self.settings.members.len() as u32 };
        let others = self.others.load(Ordering::Relaxed) as usize;
        spend(now, parts_min, others, is_last, &mut bids.collect::<Vec<_>>(), rooms)
    }

    fn ask(&self, taken: &[Taken<'_>], wishes: &[Wish]) {
        for wish in wishes {
            let Some(Taken { limit, key, .. }) = taken.get(wish.bid) else { continue };
            let parts = limit.shards.get(limit.at(*key)).map_or(1, |pot| lock(pot).parts());
            let what = What::Asked { units: wish.units };
            let item = Item { limit: limit.number, key: *key, asked_at: wish.asked_at, parts, what };
            // Where too many ask already, his own part is what there is.
            let _ = self.questions_tx.try_send(item);
        }
    }

    fn all(&self) -> Vec<Arc<LeasedLimit>> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn by_number(&self, number: u64) -> Option<Arc<LeasedLimit>> {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.values().find(|limit| limit.number == number).cloned()
    }
}

/// One limit of a request, and who is counted.
struct Taken<'a> {
    claim: &'a Claim,
    limit: Arc<LeasedLimit>,
    key: u64,
}

/// At least so long that nobody can guess it. The text of a failure names the place and never what is there.
fn secret(source: &DataSource) -> Result<Vec<u8>, String> {
    let bytes = match source {
        DataSource::File(path) => std::fs::read(path).map_err(|error| format!("{path}: {error}"))?,
        DataSource::Inline(bytes) => bytes.clone(),
        DataSource::Environment(name) => std::env::var_os(name)
            .ok_or_else(|| format!("{name} is not in the environment"))?
            .into_encoded_bytes(),
    };
    let bytes = bytes.trim_ascii_end();
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(format!("it has less than {SECRET_BYTES_MIN} bytes"));
    }
    Ok(bytes.to_vec())
}

/// All of the thread.
async fn run(name: &str, settings: &Leases, weak: &Weak<Circled>, mut questions_rx: mpsc::Receiver<Item>) {
    let (own, socket) = loop {
        let Some(circled) = weak.upgrade() else { return };
        if circled.read_secret(name) {
            match listen(&settings.members).await {
                Ok(found) => break found,
                Err(why) => circled.tell(&format!(
                    "naru: {name} is heard at none of its addresses ({why}): this proxy counts by itself"
                )),
            }
        }
        drop(circled);
        tokio::time::sleep(AGAIN_AFTER).await;
    };
    let Some(words) = weak.upgrade().and_then(|circled| circled.words()) else { return };
    let Some(began) = weak.upgrade().map(|circled| circled.now()) else { return };
    let circle = Circle::new(own, settings.members.len(), wall_now().0, settings.lease, began);
    let mut member = Member { name, settings, words, socket, circle, was_active: false, parts: 0 };
    member.parts = settings.members.len() as u32;
    let mut beat = tokio::time::interval(member.circle.beat_every());
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut bytes = vec![0; BYTES_MAX + 1];
    loop {
        let event = tokio::select! {
            received = member.socket.recv_from(&mut bytes) => Event::Heard(received.ok().map(|(length, _)| length)),
            question = questions_rx.recv() => match question {
                Some(question) => Event::Asked(question),
                None => return,
            },
            _ = beat.tick() => Event::Beat,
        };
        let Some(circled) = weak.upgrade() else { return };
        match event {
            // What somebody's machine says of a datagram that did not arrive is no news.
            Event::Heard(None) => {}
            Event::Heard(Some(length)) => {
                member.hear(&circled, bytes.get(..length).unwrap_or_default()).await;
            }
            Event::Beat => {
                member.turn(&circled);
                for to in (0..settings.members.len()).filter(|to| *to != own) {
                    member.send(&circled, to, Vec::new()).await;
                }
            }
            Event::Asked(first) => {
                let mut items = vec![first];
                while items.len() < ITEMS_MAX
                    && let Ok(next) = questions_rx.try_recv()
                {
                    items.push(next);
                }
                let others: Vec<usize> = member.circle.present(circled.now()).collect();
                for to in others {
                    member.send(&circled, to, items.clone()).await;
                }
            }
        }
    }
}

enum Event {
    /// So many bytes.
    Heard(Option<usize>),
    Asked(Item),
    Beat,
}

/// The first address that is one of this machine's, and free.
async fn listen(members: &[SocketAddr]) -> Result<(usize, UdpSocket), String> {
    let mut why = String::new();
    for (at, address) in members.iter().enumerate() {
        match UdpSocket::bind(address).await {
            Ok(socket) => return Ok((at, socket)),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

struct Member<'a> {
    name: &'a str,
    settings: &'a Leases,
    words: Arc<Words>,
    socket: UdpSocket,
    circle: Circle,
    was_active: bool,
    parts: u32,
}

impl Member<'_> {
    /// Looks at what follows for counts.
    fn turn(&mut self, circled: &Circled) {
        let now = circled.now();
        let Change { right, parts_before, empty_since } = self.circle.turn(now);
        if right.parts != self.parts || parts_before != self.parts {
            // Before anybody counts by them.
            circled.parts.store(right.parts, Ordering::Relaxed);
            for limit in circled.all() {
                limit
                    .shards
                    .iter()
                    .for_each(|pot| lock(pot).cut(now, &limit.meter, parts_before, right.parts));
            }
            self.parts = right.parts;
        }
        if let Some(since) = empty_since {
            circled.empty_since.fetch_max(since.0, Ordering::Relaxed);
            for limit in circled.all() {
                limit.shards.iter().for_each(|pot| lock(pot).empty(now, &limit.meter, since));
            }
        }
        let others = self.circle.present(now).count() as u32;
        circled.others.store(others, Ordering::Relaxed);
        circled.active_until.store(if right.is_active { right.until.0 } else { 0 }, Ordering::Release);
        if right.is_active != self.was_active {
            self.was_active = right.is_active;
            circled.is_told.store(!right.is_active, Ordering::Relaxed);
            if right.is_active {
                naru_say::say!("naru: {}: this proxy has its share, one of {}", self.name, right.parts);
            } else {
                naru_say::say!(
                    "naru: {}: too few of the others are heard: limits that are shared there do as they say for that",
                    self.name
                );
            }
        }
    }

    async fn send(&mut self, circled: &Circled, to: usize, items: Vec<Item>) {
        let Some(address) = self.settings.members.get(to) else { return };
        let beat = self.circle.beat(circled.now(), to);
        let bytes = self.words.write(&Message { beat, items });
        // What does not arrive is lost, as anything may be.
        let _ = self.socket.send_to(&bytes, address).await;
    }

    async fn hear(&mut self, circled: &Circled, bytes: &[u8]) {
        let Some(message) = self.words.read(bytes) else { return };
        let from = usize::from(message.beat.from);
        let now = circled.now();
        let reception = self.circle.on_beat(now, &message.beat);
        match reception {
            Reception::Ignored => return,
            Reception::Strange => return self.send(circled, from, Vec::new()).await,
            Reception::Taken => self.turn(circled),
        }
        let mut lent = Vec::new();
        for item in &message.items {
            let Some(limit) = circled.by_number(item.limit) else {
                if let What::Asked { .. } = item.what {
                    lent.push(Item { what: What::Lent(Lent::default()), ..*item });
                }
                continue;
            };
            let at = limit.at(item.key);
            let Some(pot) = limit.shards.get(at) else { continue };
            let mut pot = lock(pot);
            let parts = pot.parts();
            match item.what {
                What::Asked { units } => {
                    let wanted = (u128::from(units) * u128::from(parts)).div_ceil(item.parts.into());
                    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
                    let comes_first = usize::from(message.beat.to) < from;
                    let what = What::Lent(pot.lend(now, &limit.meter, item.key, wanted, comes_first));
                    lent.push(Item { parts, what, ..*item });
                }
                What::Lent(lent) => {
                    let units = u128::from(lent.units) * u128::from(parts) / u128::from(item.parts);
                    let units = u64::try_from(units).unwrap_or(u64::MAX).min(limit.meter.whole());
                    pot.receive(now, &limit.meter, item.key, item.asked_at, Lent { units, ..lent });
                    drop(pot);
                    if let Some(came) = limit.came.get(at) {
                        came.notify_waiters();
                    }
                }
            }
        }
        if !lent.is_empty() {
            self.send(circled, from, lent).await;
        }
    }
}
