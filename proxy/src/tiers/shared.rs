//! Answers in a Redis that gateways share: a thread with the connection, beside the workers.
//!
//! It asks what workers want to know, writes what waits to be written, and hears every so often what other gateways have
//! made worthless. What this gateway has made worthless is told until it was heard: until then nothing that it means is
//! read from the Redis here.
//!
//! A part of the store that does not answer is not asked (`naru_cache::Shards`): this thread tries it again, not a request.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use naru_base::{Chance, Instant};
use naru_cache::{Key, Object, Packed, Purge, Purges, Shards, choose, pack_choice};
use naru_redis::NoAnswer;
use naru_redis::answers::{Answers, Entry, NAME_KEPT, News, PAGE_MAX};
use naru_spec::CacheRedis;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::disk::Disk;
use super::{Seat, Tier, TierCounts, TierStatus, Waiting, millis, set_up};
use crate::clock::{self, Origin, wall_now};
use crate::shared_cache::{SharedCache, count};

/// For a connection, and for what nobody waits for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts to connect.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// So many questions are under way: who comes after them does without.
const ASKING_MAX: u32 = 4_096;
/// So many answers are written at a time.
const WRITING_MAX: usize = 32;
/// So many URLs are told of at once.
const TELLING_MAX: usize = 256;
/// So many URLs wait to be told; with more, everything is to be forgotten.
const UNTOLD_MAX: usize = 100_000;
/// What was told so short a while ago is told again to a store that has lost it.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
const TOLD_MAX: usize = 10_000;

#[derive(Debug)]
pub struct Shared {
    settings: CacheRedis,
    tasks_tx: mpsc::UnboundedSender<Task>,
    counts: Arc<TierCounts>,
    asking: Arc<Waiting>,
    waiting: Arc<Waiting>,
}

/// What was so when a fetch began.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What the URL was called.
    name: Vec<u8>,
    /// The last purge that was known.
    purges: u64,
    at: Instant,
}

type Answer = (Option<Object>, Option<Claim>);

#[derive(Debug)]
enum Task {
    Find { key: Key, request: HeaderMap, seat: Seat, done_tx: oneshot::Sender<Answer> },
    Keep(Writing),
    Forget(String),
    Purge(Purge, oneshot::Sender<()>),
}

#[derive(Debug)]
struct Writing {
    object: Arc<Object>,
    claim: Claim,
    seat: Seat,
    done_tx: Option<oneshot::Sender<()>>,
}

impl Shared {
    pub fn start(
        settings: &CacheRedis,
        memory: &Arc<SharedCache>,
        disk: Option<&Arc<Disk>>,
        origin: Origin,
    ) -> std::io::Result<Shared> {
        let (tasks_tx, tasks_rx) = mpsc::unbounded_channel();
        let counts = Arc::<TierCounts>::default();
        let seed = clock::seed();
        let of_thread = (settings.clone(), Arc::clone(memory), disk.map(Arc::clone), Arc::clone(&counts));
        std::thread::Builder::new().name("naru-cache".to_owned()).spawn(move || {
            let (settings, memory, disk, counts) = of_thread;
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let inner = Rc::new(Inner::new(settings, memory, disk, counts, origin, seed));
                tokio::task::LocalSet::new().block_on(&runtime, run(inner, tasks_rx));
            }
        })?;
        Ok(Shared {
            settings: settings.clone(),
            tasks_tx,
            counts,
            asking: Waiting::new(ASKING_MAX),
            waiting: Waiting::new(settings.queue_max),
        })
    }

    pub async fn find(&self, key: Key, request: HeaderMap) -> Answer {
        let (done_tx, done_rx) = oneshot::channel();
        let Some(seat) = self.asking.take(0) else {
            count(&self.counts.unanswered);
            return (None, None);
        };
        // The thread keeps to the timeout; without a thread there is no answer.
        let _ = self.tasks_tx.send(Task::Find { key, request, seat, done_tx });
        done_rx.await.unwrap_or_default()
    }

    pub fn keep(&self, object: &Arc<Object>, claim: &Claim, done_tx: Option<oneshot::Sender<()>>) {
        let Some(seat) = self.waiting.take(object.cost() as u64) else { return count(&self.counts.dropped) };
        let writing = Writing { object: Arc::clone(object), claim: claim.clone(), seat, done_tx };
        let _ = self.tasks_tx.send(Task::Keep(writing));
    }

    pub async fn keep_through(&self, object: &Arc<Object>, claim: &Claim) {
        let (done_tx, done_rx) = oneshot::channel();
        self.keep(object, claim, Some(done_tx));
        // Who does not hear of it in time goes on.
        let _ = tokio::time::timeout(self.settings.timeout, done_rx).await;
    }

    pub fn forget(&self, url: &str) {
        let _ = self.tasks_tx.send(Task::Forget(url.to_owned()));
    }

    /// Whether the others can hear of it.
    pub async fn purge(&self, purge: &Purge) -> bool {
        let (done_tx, done_rx) = oneshot::channel();
        let _ = self.tasks_tx.send(Task::Purge(purge.clone(), done_tx));
        tokio::time::timeout(PATIENCE, done_rx).await.is_ok_and(|told| told.is_ok())
    }

    pub fn status(&self) -> TierStatus {
        self.counts.status(Tier::Redis)
    }
}

/// What others have still to be told.
#[derive(Debug, Default)]
struct Untold {
    urls: BTreeMap<String, OfUrl>,
    /// Where those begin that are next.
    next: String,
    purges: Vec<(Purge, Vec<oneshot::Sender<()>>)>,
    counted: u64,
}

/// A URL that was made worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OfUrl {
    /// When it was, counted.
    at: u64,
    /// Others know. What stands in the store may still be there.
    is_told: bool,
}

impl Untold {
    /// Some of them, the same ones not before all others.
    fn some(&mut self) -> Vec<(String, OfUrl)> {
        let behind = self.urls.range(self.next.clone()..).chain(self.urls.range(..self.next.clone()));
        let some: Vec<_> = behind.take(TELLING_MAX).map(|(url, of)| (url.clone(), *of)).collect();
        // Nothing stands between a text and the same with a zero.
        self.next = some.last().map(|(url, _)| format!("{url}\0")).unwrap_or_default();
        some
    }
}

/// How far the logs were read.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    /// Which logs these are.
    began: u64,
    urls: u64,
    purges: u64,
    /// All purges up to this number are known.
    known: u64,
    /// All that there was has been read once.
    is_ready: bool,
}

struct Inner {
    settings: CacheRedis,
    memory: Arc<SharedCache>,
    disk: Option<Arc<Disk>>,
    counts: Arc<TierCounts>,
    origin: Origin,
    /// What tells this gateway's entries from those of others.
    by: u64,
    chance: RefCell<Chance>,
    connection: RefCell<Option<Answers>>,
    is_connecting: Cell<bool>,
    connected_at: Cell<Option<Instant>>,
    shards: RefCell<Shards>,
    is_told: AtomicBool,
    purges: RefCell<Purges>,
    read: Cell<Read>,
    is_reading: Cell<bool>,
    /// The disk has heard what was told before it was opened.
    is_disk_known: Cell<bool>,
    untold: RefCell<Untold>,
    is_telling: Cell<bool>,
    /// What was told, and when.
    told: RefCell<VecDeque<(Instant, Told)>>,
    queue: RefCell<VecDeque<Writing>>,
    writing: Cell<usize>,
}

#[derive(Clone, Debug)]
enum Told {
    Url(String),
    Purge(Purge),
}

/// All of the thread, until nobody can ask any more.
async fn run(inner: Rc<Inner>, mut tasks_rx: mpsc::UnboundedReceiver<Task>) {
    inner.tick();
    let every = inner.settings.poll.min(AGAIN_AFTER);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            task = tasks_rx.recv() => match task {
                Some(task) => inner.hear(task),
                None => return,
            },
            _ = ticks.tick() => inner.tick(),
        }
    }
}

impl Inner {
    fn new(
        settings: CacheRedis,
        memory: Arc<SharedCache>,
        disk: Option<Arc<Disk>>,
        counts: Arc<TierCounts>,
        origin: Origin,
        seed: u64,
    ) -> Inner {
        let mut chance = Chance::split(seed, "cache tier");
        Inner {
            shards: RefCell::new(Shards::new(Answers::parts(settings.redis.is_cluster))),
            settings,
            memory,
            disk,
            counts,
            origin,
            by: chance.draw(),
            chance: RefCell::new(chance),
            connection: RefCell::default(),
            is_connecting: Cell::default(),
            connected_at: Cell::default(),
            is_told: AtomicBool::default(),
            purges: RefCell::default(),
            read: Cell::default(),
            is_reading: Cell::default(),
            is_disk_known: Cell::default(),
            untold: RefCell::default(),
            is_telling: Cell::default(),
            told: RefCell::default(),
            queue: RefCell::default(),
            writing: Cell::default(),
        }
    }

    fn hear(self: &Rc<Self>, task: Task) {
        match task {
            Task::Find { key, request, seat, done_tx } => {
                let inner = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    // Who has asked may have gone.
                    let _ = done_tx.send(inner.find(&key, &request).await);
                    drop(seat);
                });
            }
            Task::Keep(writing) => {
                self.queue.borrow_mut().push_back(writing);
                self.write_more();
            }
            Task::Forget(url) => {
                self.add_untold(url);
                self.tell_more();
            }
            Task::Purge(Purge::Url(url), done_tx) => {
                self.add_untold(url);
                // Nobody waits for one URL: it is told as all are.
                let _ = done_tx.send(());
                self.tell_more();
            }
            Task::Purge(purge, done_tx) => {
                self.untold.borrow_mut().purges.push((purge, vec![done_tx]));
                self.tell_more();
            }
        }
    }

    fn add_untold(&self, url: String) {
        let mut untold = self.untold.borrow_mut();
        untold.counted += 1;
        let at = untold.counted;
        untold.urls.insert(url, OfUrl { at, is_told: false });
        if untold.urls.len() > UNTOLD_MAX {
            untold.urls.clear();
            if !untold.purges.iter().any(|(purge, _)| *purge == Purge::All) {
                untold.purges.push((Purge::All, Vec::new()));
            }
        }
        self.count_untold(&untold);
    }

    fn count_untold(&self, untold: &Untold) {
        let number = untold.urls.len() + untold.purges.len();
        self.counts.untold.store(number as u64, Ordering::Relaxed);
    }

    /// What is to be done every so often.
    fn tick(self: &Rc<Self>) {
        let now = self.origin.elapsed();
        if self.connection.borrow().is_none() {
            self.connect();
            return;
        }
        let due = self.shards.borrow_mut().due(now);
        for part in due {
            let inner = Rc::clone(self);
            tokio::task::spawn_local(async move { inner.probe(part).await });
        }
        self.read_more();
        self.tell_more();
    }

    fn read_more(self: &Rc<Self>) {
        if self.is_reading.replace(true) {
            return;
        }
        let inner = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while inner.read_news().await {}
            inner.catch_disk_up().await;
            inner.is_reading.set(false);
        });
    }

    fn connect(self: &Rc<Self>) {
        let now = self.origin.elapsed();
        let is_early = self.connected_at.get().is_some_and(|at| now < at + AGAIN_AFTER);
        if is_early || self.is_connecting.replace(true) {
            return;
        }
        self.connected_at.set(Some(now));
        let inner = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let connecting = Answers::connect(&inner.settings.redis, &inner.settings.prefix, PATIENCE);
            let connected = tokio::time::timeout(PATIENCE, connecting).await;
            inner.is_connecting.set(false);
            match connected {
                Ok(Ok(answers)) => {
                    *inner.connection.borrow_mut() = Some(answers);
                    inner.tick();
                }
                Ok(Err(error)) => inner.say_away(&error.text),
                Err(_) => inner.say_away(&format!("nobody answers within {}", millis(PATIENCE))),
            }
        });
    }

    fn say_away(&self, why: &str) {
        set_up(&self.counts, &self.is_told, &self.named(), Some(why));
    }

    fn named(&self) -> String {
        let kind = if self.settings.redis.is_cluster { "redis-cluster" } else { "redis" };
        format!("{kind}:{}", self.settings.redis.nodes.join(","))
    }

    fn on_answer(&self, part: usize) {
        let mut shards = self.shards.borrow_mut();
        shards.on_answer(part);
        if shards.is_whole() && self.read.get().is_ready {
            set_up(&self.counts, &self.is_told, &self.named(), None);
        }
    }

    /// There was no answer.
    fn on_silence(self: &Rc<Self>, part: usize, why: &str, is_lost: bool) {
        let now = self.origin.elapsed();
        let is_single = !self.settings.redis.is_cluster;
        let mut shards = self.shards.borrow_mut();
        if is_lost && is_single {
            shards.on_lost(now);
            *self.connection.borrow_mut() = None;
        } else {
            shards.on_silence(part, now);
        }
        let is_whole = shards.is_whole();
        drop(shards);
        if !is_whole {
            self.say_away(why);
        }
    }

    /// The connection, where a part is asked.
    fn asked(&self, part: impl FnOnce(&Answers) -> usize) -> Option<(Answers, usize)> {
        let connection = self.connection.borrow();
        let answers = connection.as_ref()?;
        let part = part(answers);
        self.shards.borrow().is_up(part).then(|| (answers.clone(), part))
    }

    /// Waits for an answer, and notes whether there was one.
    async fn hear_answer<T>(
        self: &Rc<Self>,
        part: usize,
        timeout: Duration,
        asked: impl Future<Output = Result<T, NoAnswer>>,
    ) -> Option<T> {
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(answer)) => {
                self.on_answer(part);
                Some(answer)
            }
            Ok(Err(error)) => {
                self.on_silence(part, &error.text, error.is_lost);
                None
            }
            Err(_) => {
                self.on_silence(part, &format!("no answer within {}", millis(timeout)), false);
                None
            }
        }
    }

    async fn probe(self: &Rc<Self>, part: usize) {
        let Some(answers) = self.connection.borrow().clone() else { return };
        if self.hear_answer(part, PATIENCE, answers.probe(part)).await.is_none() {
            // Nodes may have moved: whoever is asked anew knows where they are.
            self.connect();
        }
    }

    async fn find(self: &Rc<Self>, key: &Key, request: &HeaderMap) -> Answer {
        let asked = self.asked(|answers| answers.part_of_url(key.url()));
        let read = self.read.get();
        let (Some((answers, part)), true) = (asked, read.is_ready) else {
            count(&self.counts.unanswered);
            return (None, None);
        };
        if self.untold.borrow().urls.contains_key(key.url()) {
            count(&self.counts.misses);
            return (None, None);
        }
        let timeout = self.settings.timeout;
        let at = self.origin.elapsed();
        let asked = answers.find(key.url(), key.beside().as_bytes());
        let Some(found) = self.hear_answer(part, timeout, asked).await else {
            count(&self.counts.unanswered);
            return (None, None);
        };
        let claim = Claim { name: found.name, purges: read.known, at };
        let mut packed = found.value.and_then(|value| self.read_packed(value));
        if let Some(Packed::Choice(names)) = &packed {
            let field = choose(key, names, request);
            packed = match field {
                Some(field) => {
                    let asked = answers.find(key.url(), &field);
                    let Some(found) = self.hear_answer(part, timeout, asked).await else {
                        count(&self.counts.unanswered);
                        return (None, Some(claim));
                    };
                    found.value.and_then(|value| self.read_packed(value))
                }
                None => None,
            };
        }
        let object = packed.and_then(|packed| packed.into_object(key, request));
        let object = object.filter(|(object, known)| !self.is_void(object, *known)).map(|(object, _)| object);
        count(if object.is_some() { &self.counts.hits } else { &self.counts.misses });
        (object, Some(claim))
    }

    fn read_packed(&self, value: Vec<u8>) -> Option<Packed> {
        Packed::read(&Bytes::from(value), self.origin.elapsed(), wall_now())
    }

    fn is_void(&self, object: &Object, known: u64) -> bool {
        let untold = self.untold.borrow();
        self.purges.borrow().is_void(known, object)
            || untold.urls.contains_key(object.key.url())
            || untold.purges.iter().any(|(purge, _)| purge.means(object))
    }

    fn write_more(self: &Rc<Self>) {
        while self.writing.get() < WRITING_MAX {
            let Some(writing) = self.queue.borrow_mut().pop_front() else { return };
            self.writing.set(self.writing.get() + 1);
            let inner = Rc::clone(self);
            tokio::task::spawn_local(async move {
                inner.write(&writing.object, &writing.claim).await;
                if let Some(done_tx) = writing.done_tx {
                    let _ = done_tx.send(());
                }
                drop(writing.seat);
                inner.writing.set(inner.writing.get() - 1);
                inner.write_more();
            });
        }
    }

    async fn write(self: &Rc<Self>, object: &Object, claim: &Claim) {
        let url = object.key.url();
        let now = self.origin.elapsed();
        // The name that it was called by may be forgotten by then.
        let is_late = now.since(claim.at) > NAME_KEPT / 2;
        if is_late || self.is_void(object, claim.purges) {
            return count(&self.counts.superseded);
        }
        let Some((answers, part)) = self.asked(|answers| answers.part_of_url(url)) else {
            return count(&self.counts.failed);
        };
        let Some(life) = naru_cache::life(object, now) else { return count(&self.counts.superseded) };
        let mut fields = Vec::with_capacity(2);
        if let Some(choice) = pack_choice(object) {
            fields.push((object.key.beside().as_bytes().to_vec(), choice));
        }
        fields.push((object.field(), object.pack(claim.purges, now, wall_now())));
        let written = answers.keep(url, &claim.name, life, &fields);
        match self.hear_answer(part, PATIENCE, written).await {
            Some(true) => count(&self.counts.stored),
            Some(false) => count(&self.counts.superseded),
            None => count(&self.counts.failed),
        }
    }

    fn tell_more(self: &Rc<Self>) {
        let untold = self.untold.borrow();
        self.count_untold(&untold);
        if (untold.urls.is_empty() && untold.purges.is_empty()) || self.is_telling.replace(true) {
            return;
        }
        drop(untold);
        let inner = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while inner.tell().await {}
            inner.is_telling.set(false);
            // Until what was told is read again, nothing that is fetched is written.
            inner.read_more();
        });
    }

    /// Tells some. Whether there are more that can be told now.
    async fn tell(self: &Rc<Self>) -> bool {
        let Some((answers, part)) = self.asked(Answers::part_of_log) else { return false };
        let (urls, purges) = {
            let mut untold = self.untold.borrow_mut();
            let purges = untold.purges.iter().take(TELLING_MAX).map(|(purge, _)| purge.clone());
            let purges: Vec<Purge> = purges.collect();
            (untold.some(), purges)
        };
        // Who hears of it and looks must not find it any more.
        let mut forgetting = JoinSet::new();
        for (url, of) in &urls {
            let (inner, url, of) = (Rc::clone(self), url.clone(), *of);
            let name = self.chance.borrow_mut().draw();
            forgetting.spawn_local(async move {
                let (answers, part) = inner.asked(|answers| answers.part_of_url(&url))?;
                let done = inner.hear_answer(part, PATIENCE, answers.forget(&url, name)).await;
                done.map(|()| (url, of.at))
            });
        }
        let gone: BTreeMap<String, u64> = forgetting.join_all().await.into_iter().flatten().collect();
        let told = urls.iter().filter(|(_, of)| !of.is_told).map(|(url, _)| (false, url.clone()));
        let entries: Vec<_> = purges.iter().map(|purge| (true, written(purge))).chain(told).collect();
        let numbers = if entries.is_empty() {
            Vec::new()
        } else {
            let telling = answers.tell(self.by, &entries);
            let Some(numbers) = self.hear_answer(part, PATIENCE, telling).await else { return false };
            numbers
        };
        let now = self.origin.elapsed();
        let mut untold = self.untold.borrow_mut();
        let is_some = !gone.is_empty() || !purges.is_empty();
        for (url, of) in urls {
            if let Some(known) = untold.urls.get_mut(&url).filter(|known| known.at == of.at) {
                known.is_told = true;
                if gone.contains_key(&url) {
                    untold.urls.remove(&url);
                }
            }
            if !of.is_told {
                self.note_told(now, Told::Url(url));
            }
        }
        for (purge, number) in purges.into_iter().zip(numbers) {
            self.purges.borrow_mut().add(number, purge.clone());
            if let Some(at) = untold.purges.iter().position(|(known, _)| *known == purge) {
                untold.purges.remove(at).1.into_iter().for_each(|done_tx| {
                    let _ = done_tx.send(());
                });
            }
            self.note_told(now, Told::Purge(purge));
        }
        self.count_untold(&untold);
        is_some && !(untold.urls.is_empty() && untold.purges.is_empty())
    }

    fn note_told(&self, now: Instant, what: Told) {
        let mut told = self.told.borrow_mut();
        told.push_back((now, what));
        while told.len() > TOLD_MAX || told.front().is_some_and(|(at, _)| *at + TOLD_AGAIN < now) {
            told.pop_front();
        }
    }

    /// Hears what others have told. Whether there is more of it.
    async fn read_news(self: &Rc<Self>) -> bool {
        let Some((answers, part)) = self.asked(Answers::part_of_log) else { return false };
        let before = self.read.get();
        let asked = answers.news(before.urls, before.purges);
        let Some(news) = self.hear_answer(part, PATIENCE, asked).await else { return false };
        let is_more = news.urls.len() >= PAGE_MAX || news.purges.len() >= PAGE_MAX;
        self.hear_news(before, news, is_more).await;
        // That it is up is said once its logs are known.
        self.on_answer(part);
        is_more
    }

    async fn hear_news(self: &Rc<Self>, before: Read, news: News, is_more: bool) {
        let mut read = Read { began: news.began, ..before };
        let is_first = before.began == 0;
        let is_lost = !is_first && before.began != news.began;
        if is_lost {
            self.tell_again();
            (read.urls, read.purges, read.is_ready) = (0, 0, false);
        } else if !is_first && before.urls < news.urls_floor {
            // Some were missed.
            self.memory.purge(&Purge::All).await;
            self.forget_disk(&Purge::All);
        }
        for Entry { number, by, what } in news.urls {
            read.urls = read.urls.max(number);
            if by != self.by {
                self.memory.invalidate(&what);
                self.forget_disk(&Purge::Url(what));
            }
        }
        self.purges.borrow_mut().forget(news.purges_floor);
        for Entry { number, by, what } in news.purges {
            read.purges = read.purges.max(number);
            // What nobody here understands may mean anything.
            let purge = meant(&what).unwrap_or(Purge::All);
            if by != self.by {
                self.memory.purge(&purge).await;
                self.forget_disk(&purge);
            }
            self.purges.borrow_mut().add(number, purge);
        }
        read.urls = read.urls.max(news.urls_floor);
        read.purges = read.purges.max(news.purges_floor);
        if !is_more {
            read.is_ready = true;
            read.known = news.last;
            if let Some(disk) = self.disk.as_ref().filter(|_| self.is_disk_known.get()) {
                disk.note_cursor(news.last);
            }
        }
        self.read.set(read);
    }

    /// What is told before a disk is open it hears of when it is: see [`Inner::catch_disk_up`].
    fn forget_disk(&self, purge: &Purge) {
        if let Some(disk) = self.disk.as_ref().filter(|disk| disk.is_open()) {
            disk.purge(purge);
        }
    }

    /// A disk has been away: what others have told since it was last written is told to it.
    async fn catch_disk_up(self: &Rc<Self>) {
        let Some(disk) = self.disk.as_ref().filter(|disk| disk.is_open()) else { return };
        let asked = self.asked(Answers::part_of_log).filter(|_| self.read.get().is_ready);
        let (Some((answers, part)), false) = (asked, self.is_disk_known.get()) else { return };
        let cursor = disk.cursor();
        let (mut urls, mut purges) = (cursor, cursor);
        loop {
            let asked = answers.news(urls, purges);
            let Some(news) = self.hear_answer(part, PATIENCE, asked).await else { return };
            if cursor < news.urls_floor.max(news.purges_floor) {
                // Nobody knows any more. Some of it may be in memory by now.
                if !disk.is_empty() {
                    disk.purge(&Purge::All);
                    self.memory.purge(&Purge::All).await;
                }
                break;
            }
            let is_more = news.urls.len() >= PAGE_MAX || news.purges.len() >= PAGE_MAX;
            for Entry { number, what, .. } in news.urls {
                urls = urls.max(number);
                disk.forget(&what);
                self.memory.invalidate(&what);
            }
            for Entry { number, what, .. } in news.purges {
                purges = purges.max(number);
                let purge = meant(&what).unwrap_or(Purge::All);
                disk.purge(&purge);
                self.memory.purge(&purge).await;
            }
            if !is_more {
                break;
            }
        }
        self.is_disk_known.set(true);
    }

    /// The logs were lost: others may not have read what was told last.
    fn tell_again(self: &Rc<Self>) {
        let told: Vec<_> = self.told.borrow_mut().drain(..).collect();
        for (_, what) in told {
            match what {
                Told::Url(url) => self.add_untold(url),
                Told::Purge(purge) => self.untold.borrow_mut().purges.push((purge, Vec::new())),
            }
        }
    }
}

fn written(purge: &Purge) -> String {
    match purge {
        Purge::All => "all".to_owned(),
        Purge::Url(url) => format!("url {url}"),
        Purge::Prefix(prefix) => format!("prefix {prefix}"),
        Purge::Tag(tag) => format!("tag {tag}"),
    }
}

fn meant(what: &str) -> Option<Purge> {
    let (kind, value) = what.split_once(' ').unwrap_or((what, ""));
    match kind {
        "all" => Some(Purge::All),
        "url" => Some(Purge::Url(value.to_owned())),
        "prefix" => Some(Purge::Prefix(value.to_owned())),
        "tag" => Some(Purge::Tag(value.to_owned())),
        _ => None,
    }
}
