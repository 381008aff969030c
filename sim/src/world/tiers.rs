//! What is behind memories, asked and written: the counterpart of `proxy/src/tiers/shared.rs`, and of what
//! `proxy/src/cached.rs` does with it.
//!
//! | the proxy                                | here                                                             |
//! |------------------------------------------|------------------------------------------------------------------|
//! | its thread, its ticks, its tasks         | [`TierNews`], which no request waits for                         |
//! | `Tiers::find`, `take_in`                 | [`World::search`], [`World::hear_sought`]                        |
//! | `Keeping` that is written through        | [`Keeping`]: others wait for it, and so does the end of a run    |
//!
//! What a store is asked comes there at once, and its answer takes the time that the scenario says.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use naru_base::Instant;
use naru_cache::{FlightId, Judgement, Key as CacheKey, Object, Outcome, Purge, Use};
use naru_journey::Looked;

use super::{Event, News, World};
use crate::arena::{Arena, Ticket};
use crate::kept::OfRoute;
use crate::passage::Passage;
use crate::scenario::StoreState;
use crate::tiers::{
    Claim, Link, NAME_KEPT, News as LogNews, SharedAnswer, SharedAnswers, SharedClaim, Sought, Tier, Writing,
};
use crate::upstream::{ProxyId, Upstreams};

/// For a connection, and for what nobody waits for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts to connect.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
const WRITING_MAX: usize = 32;
const TELLING_MAX: usize = 256;

/// What all proxies of a world have behind their memories, and what is on its way.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// By Redis and prefix.
    stores: std::collections::BTreeMap<String, SharedAnswers>,
    news: Arena<TierNews>,
    sought: Arena<Sought>,
    keeping: Arena<Keeping>,
}

impl Behind {
    /// Whether an answer waits to be written before others are given it.
    pub fn is_keeping(&self) -> bool {
        !self.keeping.is_empty()
    }
}

/// News for a proxy of its Redis.
#[derive(Debug)]
enum TierNews {
    Tick,
    Connected(bool),
    /// An answer to a probe, or none.
    Probed(bool),
    Read(Option<LogNews>),
    /// These were told, with what they were counted as.
    Told(Option<Vec<(String, u64)>>),
    /// Somebody had no answer.
    Silence,
    Written(Writing, Option<bool>),
}

/// An answer that others are given once it is written.
#[derive(Debug)]
struct Keeping {
    route: OfRoute,
    object: Arc<Object>,
    request: HeaderMap,
    is_for_others: bool,
    is_background: bool,
    flight: FlightId,
}

/// What a look behind the memory has come to.
pub(super) enum Searched {
    /// It is there, and is given.
    Found,
    /// It is in memory now, and may be given while another is fetched.
    InMemory,
    /// At best something stale.
    Nothing,
}

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// Whether an answer waits to be written before others are given it.
    pub fn is_keeping(&self) -> bool {
        self.behind.is_keeping()
    }

    pub(super) fn look_after_tiers(&mut self, proxy: ProxyId) {
        let tiers = self.proxies[proxy.index()].tiers.as_ref();
        if tiers.is_some_and(|tiers| tiers.redis.is_some()) {
            self.tell_tier(proxy, Duration::ZERO, TierNews::Tick);
        }
    }

    /// A proxy hears of it after so long.
    fn tell_tier(&mut self, proxy: ProxyId, after: Duration, news: TierNews) {
        self.background += 1;
        let news = self.behind.news.insert(news);
        self.queue.push(self.now + after, Event::Tier(proxy, news));
    }

    pub(super) fn hear_tier(&mut self, proxy: ProxyId, news: Ticket) {
        let Some(news) = self.behind.news.remove(news) else { return };
        match news {
            TierNews::Tick => {
                let every = self.redis(proxy).settings.poll.min(AGAIN_AFTER);
                self.tell_tier(proxy, every, TierNews::Tick);
                self.tick_tier(proxy);
            }
            TierNews::Connected(is_there) => {
                self.redis(proxy).link = if is_there { Link::Up } else { Link::None };
                match is_there {
                    true => self.tick_tier(proxy),
                    false => self.miss_tier(proxy, "nobody answers in time"),
                }
            }
            TierNews::Probed(true) => self.on_tier_answer(proxy),
            TierNews::Probed(false) | TierNews::Silence => self.on_tier_silence(proxy),
            TierNews::Read(news) => {
                self.redis(proxy).is_reading = false;
                match news {
                    Some(news) => self.hear_log(proxy, news),
                    None => self.on_tier_silence(proxy),
                }
            }
            TierNews::Told(told) => {
                self.redis(proxy).is_telling = false;
                let Some(told) = told else { return self.on_tier_silence(proxy) };
                self.on_tier_answer(proxy);
                let redis = self.redis(proxy);
                for (url, counted) in told {
                    if redis.untold.get(&url) == Some(&counted) {
                        redis.untold.remove(&url);
                    }
                }
                self.tell_more(proxy);
                self.read_more(proxy);
            }
            TierNews::Written(writing, is_stored) => {
                match is_stored {
                    Some(_) => self.on_tier_answer(proxy),
                    None => self.on_tier_silence(proxy),
                }
                self.end_writing(proxy, &writing, is_stored);
                self.write_more(proxy);
            }
        }
    }

    /// Its process is another one: its memory is empty, and what is behind it is as it was.
    pub(super) fn forget_answers(&mut self, proxy: ProxyId) {
        let here = &mut self.proxies[proxy.index()];
        if let Some(memory) = &mut here.memory {
            memory.purge(&Purge::All);
        }
        if let Some(redis) = here.tiers.as_mut().and_then(|tiers| tiers.redis.as_mut()) {
            redis.begin_anew();
        }
    }

    /// Of a proxy that has one.
    fn redis(&mut self, proxy: ProxyId) -> &mut crate::tiers::RedisHere {
        let tiers = self.proxies[proxy.index()].tiers.as_mut();
        tiers.and_then(|tiers| tiers.redis.as_deref_mut()).expect("only who has a Redis hears of one")
    }

    /// What is to be done every so often.
    fn tick_tier(&mut self, proxy: ProxyId) {
        let now = self.now;
        if self.redis(proxy).link != Link::Up {
            return self.connect_tier(proxy);
        }
        for _ in self.redis(proxy).shards.due(now) {
            match self.draw_tier(proxy, PATIENCE) {
                Some(time) => self.tell_tier(proxy, time, TierNews::Probed(true)),
                None if self.redis(proxy).link == Link::Up => {
                    self.tell_tier(proxy, PATIENCE, TierNews::Probed(false));
                }
                None => {}
            }
        }
        self.read_more(proxy);
        self.tell_more(proxy);
    }

    fn connect_tier(&mut self, proxy: ProxyId) {
        let now = self.now;
        let redis = self.redis(proxy);
        let is_early = redis.tried.is_some_and(|at| now < at + AGAIN_AFTER);
        if is_early || redis.link != Link::None {
            return;
        }
        redis.tried = Some(now);
        let name = redis.name.clone();
        let (time, is_there) = match self.around.draw(now, &name) {
            (StoreState::Up, latency) if latency < PATIENCE => (latency, true),
            (StoreState::Up | StoreState::Silent, _) => (PATIENCE, false),
            (StoreState::Away, _) => return self.miss_tier(proxy, "connections are refused"),
        };
        self.redis(proxy).link = Link::Connecting;
        self.tell_tier(proxy, time, TierNews::Connected(is_there));
    }

    /// How long an answer takes; `None` where there is none in time. Where the connection breaks, it is lost.
    fn draw_tier(&mut self, proxy: ProxyId, within: Duration) -> Option<Duration> {
        let now = self.now;
        let name = self.redis(proxy).name.clone();
        match self.around.draw(now, &name) {
            (StoreState::Up, latency) => Some(latency).filter(|latency| *latency < within),
            (StoreState::Silent, _) => None,
            (StoreState::Away, _) => {
                let redis = self.redis(proxy);
                redis.shards.on_lost(now);
                redis.link = Link::None;
                self.miss_tier(proxy, "the connection is lost");
                None
            }
        }
    }

    fn is_lost(&mut self, proxy: ProxyId) -> bool {
        self.redis(proxy).link != Link::Up
    }

    fn on_tier_answer(&mut self, proxy: ProxyId) {
        let redis = self.redis(proxy);
        redis.shards.on_answer(0);
        if redis.is_ready && std::mem::take(&mut redis.is_missed) {
            let what = format!("{} answers again", redis.name);
            self.around.note(Some(proxy), what);
        }
    }

    fn on_tier_silence(&mut self, proxy: ProxyId) {
        let now = self.now;
        let redis = self.redis(proxy);
        redis.shards.on_silence(0, now);
        if !redis.shards.is_whole() {
            self.miss_tier(proxy, "no answer in time");
        }
    }

    fn miss_tier(&mut self, proxy: ProxyId, why: &str) {
        let redis = self.redis(proxy);
        if !std::mem::replace(&mut redis.is_missed, true) {
            let what = format!("{} gives no answer ({why}): the cache does without it", redis.name);
            self.around.note(Some(proxy), what);
        }
    }

    fn store_of(&mut self, proxy: ProxyId) -> &mut SharedAnswers {
        let place = self.redis(proxy).place.clone();
        self.behind.stores.entry(place).or_default()
    }

    /// Asks what others have made worthless.
    fn read_more(&mut self, proxy: ProxyId) {
        let redis = self.redis(proxy);
        if redis.is_reading || !redis.is_up() {
            return;
        }
        redis.is_reading = true;
        let after = redis.read;
        match self.draw_tier(proxy, PATIENCE) {
            Some(time) => {
                let news = self.store_of(proxy).news(after, proxy.0);
                self.tell_tier(proxy, time, TierNews::Read(Some(news)));
            }
            None if self.is_lost(proxy) => self.redis(proxy).is_reading = false,
            None => self.tell_tier(proxy, PATIENCE, TierNews::Read(None)),
        }
    }

    fn hear_log(&mut self, proxy: ProxyId, news: LogNews) {
        let here = &mut self.proxies[proxy.index()];
        let (Some(tiers), Some(memory)) = (&mut here.tiers, &mut here.memory) else { return };
        if news.is_missed {
            memory.purge(&Purge::All);
            tiers.disk.iter_mut().for_each(crate::tiers::DiskHere::forget_all);
        }
        for url in &news.urls {
            memory.shelf(url).invalidate(url);
            tiers.disk.iter_mut().for_each(|disk| disk.forget(url));
        }
        let redis = self.redis(proxy);
        redis.read = redis.read.max(news.last);
        redis.is_ready = true;
        self.on_tier_answer(proxy);
    }

    /// Tells others what was made worthless here.
    fn tell_more(&mut self, proxy: ProxyId) {
        let now = self.now;
        let redis = self.redis(proxy);
        if redis.untold.is_empty() || redis.is_telling || !redis.is_up() {
            return;
        }
        redis.is_telling = true;
        let some = redis.untold.iter().take(TELLING_MAX).map(|(url, counted)| (url.clone(), *counted));
        let some: Vec<(String, u64)> = some.collect();
        // What stands there is forgotten first: one way there and back, and another to tell of it.
        let times = self.draw_tier(proxy, PATIENCE).and_then(|first| {
            let second = self.draw_tier(proxy, PATIENCE)?;
            Some(first + second)
        });
        match times {
            Some(time) => {
                let store = self.store_of(proxy);
                for (url, _) in &some {
                    store.forget(now, url);
                    store.tell(proxy.0, url);
                }
                self.tell_tier(proxy, time, TierNews::Told(Some(some)));
            }
            None if self.is_lost(proxy) => self.redis(proxy).is_telling = false,
            None => self.tell_tier(proxy, PATIENCE, TierNews::Told(None)),
        }
    }

    /// Nothing of a URL is worth anything, here and at the proxies that share the Redis.
    pub(super) fn forget_behind(&mut self, proxy: ProxyId, url: &str) {
        let Some(tiers) = &mut self.proxies[proxy.index()].tiers else { return };
        if let Some(disk) = &mut tiers.disk {
            disk.forget(url);
        }
        if let Some(redis) = &mut tiers.redis {
            redis.counted += 1;
            redis.untold.insert(url.to_owned(), redis.counted);
            self.tell_more(proxy);
        }
    }

    /// Looks behind the memory, once. `None` where an answer is on its way.
    pub(super) fn search(&mut self, passage: &mut Passage<T>) -> Option<Searched> {
        let nothing = Some(Searched::Nothing);
        let now = self.now;
        let here = &mut self.proxies[passage.proxy.index()];
        let (Some(tiers), Some(memory)) = (&mut here.tiers, &mut here.memory) else { return nothing };
        let (Some(cached), Some(head)) = (&passage.cached, &passage.head) else { return nothing };
        let (Some(route), None) = (&cached.route, &cached.claim) else { return nothing };
        let is_for_one = memory.shelf(route.key.url()).is_for_one(now, &route.key);
        if is_for_one || cached.flight.is_none() || !naru_cache::may_hold(&route.policy) {
            return nothing;
        }
        let (key, asked) = (route.key.clone(), cached.asked);
        let request = head.headers.clone();
        let mut sought = Sought::default();
        if let Some(disk) = &mut tiers.disk {
            sought.claim.disk = true;
            sought.found = disk.find(now, &key, &request, memory).map(|object| (object, Tier::Disk));
            if sought.found.as_ref().is_some_and(|(object, _)| naru_cache::is_enough(object, &asked, now)) {
                return Some(self.take_in(passage, sought));
            }
        }
        if tiers.redis.is_some()
            && let Some((time, answer)) = self.find_shared(passage.proxy, &key, &request)
        {
            sought.shared = Some(answer);
            let ticket = self.behind.sought.insert(sought);
            if let Some(cached) = &mut passage.cached {
                cached.seeking = Some(ticket);
            }
            self.queue.push(now + time, Event::Request(passage.key, News::Sought(ticket)));
            return None;
        }
        Some(self.take_in(passage, sought))
    }

    /// Asks the Redis. `None` where it is not asked, or says at once that there is no answer.
    fn find_shared(
        &mut self,
        proxy: ProxyId,
        key: &CacheKey,
        request: &HeaderMap,
    ) -> Option<(Duration, SharedAnswer)> {
        let now = self.now;
        let redis = self.redis(proxy);
        if !redis.is_up() || !redis.is_ready {
            redis.counts.unanswered += 1;
            return None;
        }
        if redis.untold.contains_key(key.url()) {
            redis.counts.misses += 1;
            return None;
        }
        let within = redis.settings.timeout;
        let Some(mut time) = self.draw_tier(proxy, within) else {
            return self.silent(proxy, within, Duration::ZERO, None);
        };
        self.on_tier_answer(proxy);
        let (name, mut stored) = self.store_of(proxy).find(now, key.url(), key.beside().as_bytes());
        let claim = Some(SharedClaim { name, at: now });
        let chosen = stored.as_ref().and_then(|stored| SharedAnswers::chosen(now, stored, key, request));
        if let Some(field) = chosen {
            stored = match field {
                Some(field) => {
                    let Some(again) = self.draw_tier(proxy, within) else {
                        return self.silent(proxy, within, time, claim);
                    };
                    time += again;
                    self.store_of(proxy).find(now, key.url(), &field).1
                }
                None => None,
            };
        }
        Some((time, SharedAnswer { is_there: true, stored, claim }))
    }

    /// There is no answer to what is asked after so long.
    fn silent(
        &mut self,
        proxy: ProxyId,
        within: Duration,
        after: Duration,
        claim: Option<SharedClaim>,
    ) -> Option<(Duration, SharedAnswer)> {
        if self.is_lost(proxy) && claim.is_none() {
            self.redis(proxy).counts.unanswered += 1;
            return None;
        }
        let mut time = after;
        if !self.is_lost(proxy) {
            time += within;
            self.tell_tier(proxy, time, TierNews::Silence);
        }
        Some((time, SharedAnswer { is_there: false, stored: None, claim }))
    }

    /// What was looked for is found, or not.
    #[cold]
    pub(super) fn hear_sought(&mut self, passage: &mut Passage<T>, ticket: Ticket) {
        let now = self.now;
        let Some(cached) = passage.cached.as_mut().filter(|cached| cached.seeking == Some(ticket)) else {
            return;
        };
        cached.seeking = None;
        let Some(mut sought) = self.behind.sought.remove(ticket) else { return };
        let here = &mut self.proxies[passage.proxy.index()];
        if let (Some(answer), Some(route), Some(head)) = (sought.shared.take(), &cached.route, &passage.head)
            && let (Some(tiers), Some(memory)) = (&mut here.tiers, &mut here.memory)
            && let Some(redis) = &mut tiers.redis
        {
            sought.claim.redis = answer.claim;
            let is_void = redis.untold.contains_key(route.key.url());
            let stored = answer.stored.filter(|_| !is_void);
            let found = stored.and_then(|stored| stored.read(now, &route.key, &head.headers, memory));
            let counts = &mut redis.counts;
            *(match (answer.is_there, found.is_some()) {
                (false, _) => &mut counts.unanswered,
                (true, true) => &mut counts.hits,
                (true, false) => &mut counts.misses,
            }) += 1;
            let known = sought.found.as_ref().map(|(object, _)| object);
            if let Some(object) = found.filter(|object| naru_cache::is_newer(object, known, now)) {
                sought.found = Some((object, Tier::Redis));
            }
        }
        let searched = self.take_in(passage, sought);
        let looked = self.go_on(passage, &searched);
        self.hear_looked(passage, looked);
    }

    /// What was found behind the memory goes into it.
    fn take_in(&mut self, passage: &mut Passage<T>, sought: Sought) -> Searched {
        let now = self.now;
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return Searched::Nothing };
        let (Some(cached), Some(head)) = (&mut passage.cached, &passage.head) else {
            return Searched::Nothing;
        };
        cached.claim = Some(sought.claim);
        let (Some((object, tier)), Some(route), Some(flight)) =
            (sought.found, cached.route.clone(), cached.flight)
        else {
            return Searched::Nothing;
        };
        if !naru_cache::is_newer(&object, cached.stale.as_deref(), now) {
            return Searched::Nothing;
        }
        let object = Arc::new(object);
        let variants_max = route.policy.variants_max;
        let shelf = memory.shelf(route.key.url());
        if !shelf.adopt(now, flight, &object, &head.headers, variants_max) {
            // It was made worthless meanwhile.
            return Searched::Nothing;
        }
        let terms = object.terms.stretched(cached.percent);
        let found = match naru_cache::use_of(&terms, &cached.asked, now, cached.is_background) {
            Use::Ask => {
                cached.stale = Some(object);
                return Searched::Nothing;
            }
            Use::LookAgain => Searched::InMemory,
            Use::Give(judgement) => {
                let wall = crate::wall::wall(now);
                let given = naru_cache::answer_to(&head.line.method, &head.headers, &object, wall);
                cached.given = Some((object, given));
                if !cached.is_background {
                    let counts = memory.count(&route.policy.class);
                    *(match (judgement, tier) {
                        (Judgement::Fresh, Tier::Disk) => &mut counts.disk_hits,
                        (Judgement::Fresh, Tier::Redis) => &mut counts.redis_hits,
                        _ => &mut counts.stale_hits,
                    }) += 1;
                }
                Searched::Found
            }
        };
        self.end_flight(passage, Outcome::Kept);
        found
    }

    /// It looked behind the memory. `None` where it waits for another request.
    pub(super) fn go_on(&mut self, passage: &mut Passage<T>, searched: &Searched) -> Option<Looked> {
        let is_background = passage.cached.as_ref().is_some_and(|cached| cached.is_background);
        match searched {
            Searched::Found => Some(Looked::Found),
            Searched::InMemory if !is_background => self.look_kept(passage),
            Searched::InMemory | Searched::Nothing => Some(self.fetch_kept(passage)),
        }
    }

    /// Nobody waits for what was looked for.
    pub(super) fn stop_seeking(&mut self, passage: &mut Passage<T>) {
        if let Some(ticket) = passage.cached.as_mut().and_then(|cached| cached.seeking.take()) {
            self.behind.sought.remove(ticket);
        }
    }

    /// Writes an answer to all tiers. `false` where no write to the Redis has begun.
    pub(super) fn keep_behind(
        &mut self,
        proxy: ProxyId,
        object: &Arc<Object>,
        claim: &Claim,
        keeping: Option<Ticket>,
    ) -> bool {
        let now = self.now;
        let Some(tiers) = &mut self.proxies[proxy.index()].tiers else { return false };
        if let Some(disk) = tiers.disk.as_mut().filter(|_| claim.disk) {
            disk.keep(now, object);
        }
        let (Some(redis), Some(claim)) = (&mut tiers.redis, claim.redis) else { return false };
        if !redis.take_seat(object.cost() as u64) {
            redis.counts.dropped += 1;
            return false;
        }
        redis.waiting.push_back(Writing { object: Arc::clone(object), claim, keeping });
        self.write_more(proxy);
        true
    }

    fn write_more(&mut self, proxy: ProxyId) {
        while self.redis(proxy).writing < WRITING_MAX {
            let redis = self.redis(proxy);
            let Some(writing) = redis.waiting.pop_front() else { return };
            redis.writing += 1;
            self.write(proxy, writing);
        }
    }

    fn write(&mut self, proxy: ProxyId, writing: Writing) {
        let now = self.now;
        let redis = self.redis(proxy);
        // The name that it was called by may be forgotten by then.
        let is_late = now.since(writing.claim.at) > NAME_KEPT / 2;
        let is_void = is_late || redis.untold.contains_key(writing.object.key.url());
        let life = naru_cache::life(&writing.object, now);
        let is_up = redis.is_up();
        let (Some(life), false, true) = (life, is_void, is_up) else {
            let is_superseded = is_void || is_up;
            return self.end_writing(proxy, &writing, is_superseded.then_some(false));
        };
        match self.draw_tier(proxy, PATIENCE) {
            Some(time) => {
                let (object, name) = (Arc::clone(&writing.object), writing.claim.name);
                let is_stored = self.store_of(proxy).keep(now, &object, name, life);
                self.tell_tier(proxy, time, TierNews::Written(writing, Some(is_stored)));
            }
            None if self.is_lost(proxy) => self.end_writing(proxy, &writing, None),
            None => self.tell_tier(proxy, PATIENCE, TierNews::Written(writing, None)),
        }
    }

    /// It is written, or was worthless by then, or nobody says so.
    fn end_writing(&mut self, proxy: ProxyId, writing: &Writing, is_stored: Option<bool>) {
        let redis = self.redis(proxy);
        redis.writing -= 1;
        redis.leave_seat(writing.object.cost() as u64);
        *(match is_stored {
            Some(true) => &mut redis.counts.stored,
            Some(false) => &mut redis.counts.superseded,
            None => &mut redis.counts.failed,
        }) += 1;
        if let Some(keeping) = writing.keeping {
            self.queue.push(self.now, Event::Written(proxy, keeping));
        }
    }

    /// A whole answer: it is in memory once the Redis says that it has it, or after its timeout. What it cannot be kept by
    /// comes back.
    pub(super) fn keep_through(
        &mut self,
        passage: &mut Passage<T>,
        object: &Arc<Object>,
        is_for_others: bool,
    ) -> bool {
        let (now, proxy) = (self.now, passage.proxy);
        let here = &mut self.proxies[proxy.index()];
        let (Some(tiers), Some(memory)) = (&here.tiers, &mut here.memory) else { return false };
        let Some(cached) = &mut passage.cached else { return false };
        let (Some(route), Some(flight)) = (cached.route.clone(), cached.flight) else { return false };
        let Some(timeout) =
            tiers.redis.as_ref().map(|redis| redis.settings.timeout).filter(|_| tiers.is_written_through())
        else {
            return false;
        };
        if memory.shelf(route.key.url()).is_void(flight) {
            return false;
        }
        let Some(claim) = cached.claim.take() else { return false };
        cached.flight = None;
        let keeping = Keeping {
            route,
            object: Arc::clone(object),
            request: std::mem::take(&mut cached.request),
            is_for_others,
            is_background: cached.is_background,
            flight,
        };
        let ticket = self.behind.keeping.insert(keeping);
        let begins = self.keep_behind(proxy, object, &claim, Some(ticket));
        let ends = if begins { now + timeout } else { now };
        self.queue.push(ends, Event::Written(proxy, ticket));
        true
    }

    /// Others are given it now.
    pub(super) fn keep_written(&mut self, proxy: ProxyId, ticket: Ticket) {
        let now: Instant = self.now;
        let Some(keeping) = self.behind.keeping.remove(ticket) else { return };
        let Some(memory) = &mut self.proxies[proxy.index()].memory else { return };
        let Keeping { route, object, request, is_for_others, is_background, flight } = keeping;
        let variants_max = route.policy.variants_max;
        let is_kept = memory.shelf(route.key.url()).keep(now, flight, object, &request, variants_max);
        memory.count_kept(&route.policy.class, is_background, is_kept);
        let outcome = if is_kept && is_for_others { Outcome::Kept } else { Outcome::Unshared };
        let woken = memory.end(now, flight, &route.key, outcome);
        self.wake(woken);
    }
}
