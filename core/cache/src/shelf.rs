//! One part of the memory: what is kept in it, and what is being fetched for it.
//!
//! A request looks ([`Shelf::look`]). It is given an object, or waits for another request that fetches the same, or
//! fetches: it has a flight then, which it ends ([`Shelf::end`]) whatever comes of it. What may be old when it comes,
//! as something was changed or purged meanwhile, is not kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use naru_base::{Chance, Instant};
use naru_spec::{CacheKeyQuery, defaults};

use crate::control::Asked;
use crate::flights::{FlightId, Flights, Outcome, Ticket, Turn};
use crate::hash::{hash, step};
use crate::judge::{Judgement, judge};
use crate::key::{Key, KeyText, kept_as};
use crate::object::Object;
use crate::queue::{Queue, Slot};
use crate::vary::Said;

/// How many keys are remembered whose answers cannot be shared.
const UNSHARED_MAX: usize = 4_096;
/// An object may be one of so many parts of a shelf.
const OBJECT_PART: u64 = 4;

/// A shelf has at least so many bytes, and there are at most so many of them.
const SHELF_BYTES: u64 = 8 << 20;
const SHELVES_MAX: u64 = 16;

/// How many shelves a memory of so many bytes has.
pub fn shelves(bytes_max: u64) -> u64 {
    (bytes_max / SHELF_BYTES).clamp(1, SHELVES_MAX)
}

/// Why a request is forwarded (RFC 9211, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Stale,
    Request,
}

impl Way {
    pub fn token(self) -> &'static str {
        match self {
            Way::Bypass => "bypass",
            Way::Method => "method",
            Way::UriMiss => "uri-miss",
            Way::VaryMiss => "vary-miss",
            Way::Stale => "stale",
            Way::Request => "request",
        }
    }
}

/// What a request is to do.
#[derive(Debug)]
pub enum Look {
    /// With a flight, somebody is to fetch it anew, and this request is not to wait for that.
    Given { object: Arc<Object>, judgement: Judgement, refresh: Option<FlightId> },
    /// Fetch it. What is there is stale, and may be asked about, or given where nothing else comes.
    Fetch { flight: FlightId, stale: Option<Arc<Object>>, way: Way },
    /// Another fetches it.
    Wait(FlightId),
    /// The client wants nothing but what is kept, and there is nothing.
    Absent,
}

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    All,
    /// As it is kept: `https://example.com/path?query`.
    Url(String),
    Prefix(String),
    Tag(String),
}

impl Purge {
    /// The same, of a URL by all that it may be kept as, where keys have these parts of queries.
    pub fn of_queries(&self, queries: &[CacheKeyQuery]) -> Vec<Purge> {
        match self {
            Purge::Url(url) => kept_as(url, queries).into_iter().map(Purge::Url).collect(),
            Purge::All | Purge::Prefix(_) | Purge::Tag(_) => vec![self.clone()],
        }
    }

    /// Whether an object is to be forgotten.
    pub fn means(&self, object: &Object) -> bool {
        match self {
            Purge::All => true,
            Purge::Url(url) => object.key.url() == url,
            Purge::Prefix(prefix) => object.key.url().starts_with(prefix.as_str()),
            Purge::Tag(tag) => object.has_tag(tag),
        }
    }

    /// Of what is being fetched tags are not known yet.
    fn may_mean(&self, key: &Key) -> bool {
        match self {
            Purge::All | Purge::Tag(_) => true,
            Purge::Url(url) => key.url() == url,
            Purge::Prefix(prefix) => key.url().starts_with(prefix.as_str()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub objects: u64,
    pub bytes: u64,
    pub bytes_max: u64,
    pub evicted: u64,
    pub flights: u64,
}

#[derive(Debug)]
struct Kept {
    object: Arc<Object>,
    at: At,
    /// The next that is found by the same.
    next: Option<Slot>,
}

/// What an object is found by: hashes of its URL, and of what requests say in headers and cookies that its key has. So
/// however many of those there are, a look finds its own without going over the others.
type At = (u64, u64);

/// `W` is whatever wakes somebody who waits.
#[derive(Debug)]
pub struct Shelf<W> {
    queue: Queue,
    /// By slot.
    kept: Vec<Option<Kept>>,
    /// The newest of each.
    index: BTreeMap<At, Slot>,
    flights: Flights<W>,
    /// Keys whose answers cannot be shared, and until when that is believed.
    unshared: BTreeMap<u64, Instant>,
    /// None of them is forgotten before.
    unshared_until: Instant,
    seed: u64,
    objects: u64,
    evicted: u64,
}

impl<W> Shelf<W> {
    pub fn new(bytes_max: u64, mut chance: Chance) -> Shelf<W> {
        Shelf {
            queue: Queue::new(bytes_max),
            kept: Vec::new(),
            index: BTreeMap::new(),
            flights: Flights::default(),
            unshared: BTreeMap::new(),
            unshared_until: Instant::ZERO,
            seed: chance.draw(),
            objects: 0,
            evicted: 0,
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            objects: self.objects,
            bytes: self.queue.bytes(),
            bytes_max: self.queue.bytes_max(),
            evicted: self.evicted,
            flights: self.flights.len() as u64,
        }
    }

    /// Lifetimes that routes say are so many `percent` of what they are else. `may_lead` says whether others may wait
    /// for what comes of this request, and it for others.
    pub fn look(
        &mut self,
        now: Instant,
        key: &Key,
        request: &HeaderMap,
        asked: &Asked,
        percent: u32,
        may_lead: bool,
    ) -> Look {
        let hash = self.hash(key.url());
        let (found, is_known) = self.find(hash, key, request);
        let mut way = if is_known { Way::VaryMiss } else { Way::UriMiss };
        let mut stale = None;
        if let Some(slot) = found
            && let Some(object) = self.object(slot)
        {
            let terms = object.terms.stretched(percent);
            let judgement = judge(&terms, asked, now);
            if judgement != Judgement::Validate {
                self.queue.touch(slot);
                let is_late = judgement == Judgement::StaleWhileRevalidate;
                let refresh = (is_late && self.flights.led(hash, key).is_none())
                    .then(|| self.flights.begin(hash, key, true));
                return Look::Given { object, judgement, refresh };
            }
            way = if terms.is_fresh(now) && !terms.asks_first { Way::Request } else { Way::Stale };
            stale = Some(object);
        }
        if asked.only_if_cached {
            return Look::Absent;
        }
        let may_wait = may_lead && !asked.no_cache && !self.is_unshared(now, hash, key);
        if may_wait && let Some(flight) = self.flights.led(hash, key) {
            return Look::Wait(flight);
        }
        Look::Fetch { flight: self.flights.begin(hash, key, may_wait), stale, way }
    }

    /// What [`Shelf::look`] would give as it is to a request that asks nothing of caches. `None`: it is to look, and
    /// nothing has happened.
    #[inline]
    pub fn glance(
        &mut self,
        now: Instant,
        key: &KeyText,
        request: &impl Said,
        percent: u32,
    ) -> Option<Arc<Object>> {
        let hash = self.hash(key.url());
        let is_it = |object: &Object| key.is(&object.key) && object.is_for(request);
        // Nothing of a request is in such a key.
        let slot = self.slots((hash, 0)).find(|slot| {
            let kept = self.kept.get(*slot as usize).and_then(Option::as_ref);
            kept.is_some_and(|kept| is_it(&kept.object))
        })?;
        let object = &self.kept.get(slot as usize)?.as_ref()?.object;
        if judge(&object.terms.stretched(percent), &Asked::default(), now) != Judgement::Fresh {
            return None;
        }
        self.queue.touch(slot);
        Some(Arc::clone(object))
    }

    /// Waits for a flight; `None` where it is over, and it is time to look again.
    pub fn wait(&mut self, flight: FlightId, waker: W) -> Option<Ticket> {
        self.flights.wait(flight, waker)
    }

    pub fn turn(&mut self, ticket: Ticket, waker: W) -> Turn {
        self.flights.turn(ticket, waker)
    }

    /// What is there for somebody who is to fetch what it waited for.
    pub fn stale(&self, key: &Key, request: &HeaderMap) -> Option<Arc<Object>> {
        let (found, _) = self.find(self.hash(key.url()), key, request);
        found.and_then(|slot| self.object(slot))
    }

    /// Waits no longer. Who is to be woken is returned.
    pub fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.flights.leave(ticket)
    }

    /// A request fetches by itself what it has waited for too long.
    pub fn go_alone(&mut self, key: &Key) -> FlightId {
        let hash = self.hash(key.url());
        self.flights.begin(hash, key, false)
    }

    /// A fetch is over. Who is to be woken is returned.
    pub fn end(&mut self, now: Instant, flight: FlightId, key: &Key, outcome: Outcome) -> Vec<W> {
        // What somebody in particular was answered says nothing of others.
        let says_so = self.flights.is_led(flight) && !self.flights.is_void(flight);
        if outcome == Outcome::Unshared && says_so {
            self.note_unshared(now, key);
        }
        self.flights.end(flight, outcome)
    }

    /// Keeps an object in the place of the one that is like it. `false` where it may be old, or is too large.
    pub fn keep(
        &mut self,
        now: Instant,
        flight: FlightId,
        object: impl Into<Arc<Object>>,
        request: &HeaderMap,
        variants_max: u32,
    ) -> bool {
        let object = object.into();
        if self.flights.is_void(flight) || self.is_too_large(&object) {
            return false;
        }
        self.place(now, object, request, variants_max);
        true
    }

    /// Takes in what was kept elsewhere, and has room here or not. `false` where it may be old.
    pub fn adopt(
        &mut self,
        now: Instant,
        flight: FlightId,
        object: &Arc<Object>,
        request: &HeaderMap,
        variants_max: u32,
    ) -> bool {
        if self.flights.is_void(flight) {
            return false;
        }
        if !self.is_too_large(object) {
            self.place(now, Arc::clone(object), request, variants_max);
        }
        true
    }

    fn is_too_large(&self, object: &Object) -> bool {
        object.cost() as u64 > self.queue.bytes_max() / OBJECT_PART
    }

    fn place(&mut self, now: Instant, object: Arc<Object>, request: &HeaderMap, variants_max: u32) {
        let cost = object.cost();
        let hash = self.hash(object.key.url());
        if object.terms.is_fresh(now) {
            let mark = self.mark(hash, &object.key);
            self.unshared.remove(&mark);
        }
        let (mut variants, mut oldest, mut same) = (0, None, Vec::new());
        let at = self.at(hash, &object.key);
        for slot in self.slots(at).collect::<Vec<_>>() {
            let Some(known) = self.object(slot).filter(|known| known.key == object.key) else { continue };
            if known.is_for(request) {
                same.push(slot);
            } else {
                variants += 1;
                oldest = Some(slot);
            }
        }
        if variants >= variants_max {
            same.extend(oldest);
        }
        same.into_iter().for_each(|slot| self.remove(slot));
        let slot = self.queue.insert(hash, cost as u32);
        let next = self.index.insert(at, slot);
        let kept = Kept { object, at, next };
        let place = slot as usize;
        if self.kept.len() <= place {
            self.kept.resize_with(place + 1, || None);
        }
        if let Some(place) = self.kept.get_mut(place) {
            *place = Some(kept);
        }
        self.objects += 1;
        self.make_room();
    }

    /// Whether what a flight brings may be old.
    pub fn is_void(&self, flight: FlightId) -> bool {
        self.flights.is_void(flight)
    }

    /// Whether answers of this key are known to be for nobody else.
    pub fn is_for_one(&self, now: Instant, key: &Key) -> bool {
        self.is_unshared(now, self.hash(key.url()), key)
    }

    /// The same object with another head takes the place of one that is still there. `None` takes it away.
    pub fn replace(&mut self, flight: FlightId, before: &Arc<Object>, after: Option<Arc<Object>>) -> bool {
        let at = self.at(self.hash(before.key.url()), &before.key);
        let is_it = |object: Arc<Object>| Arc::ptr_eq(&object, before);
        let found = self.slots(at).find(|slot| self.object(*slot).is_some_and(is_it));
        let Some(slot) = found else { return false };
        let Some(after) = after.filter(|_| !self.flights.is_void(flight)) else {
            self.remove(slot);
            return false;
        };
        self.queue.resize(slot, after.cost() as u32);
        self.queue.touch(slot);
        if let Some(Some(kept)) = self.kept.get_mut(slot as usize) {
            kept.object = after;
        }
        self.make_room();
        true
    }

    /// Nothing of a URL is kept, nor what is being fetched of it. How many objects went is returned.
    pub fn invalidate(&mut self, url: &str) -> u64 {
        let hash = self.hash(url);
        self.flights.spoil_url(hash, url);
        let is_it = |object: Arc<Object>| object.key.url() == url;
        let of_url = self.index.range((hash, 0)..=(hash, u64::MAX));
        let meant = of_url.flat_map(|(at, _)| self.slots(*at));
        let meant: Vec<Slot> = meant.filter(|slot| self.object(*slot).is_some_and(is_it)).collect();
        meant.iter().for_each(|slot| self.remove(*slot));
        meant.len() as u64
    }

    /// What is being fetched is not kept, where it may be meant: the first step of a purge.
    pub fn begin_purge(&mut self, purge: &Purge) {
        self.flights.spoil(|key| purge.may_mean(key));
    }

    /// Looks at some places, and forgets what is meant. Where to go on, and how many went; `None` at the end.
    pub fn purge(&mut self, purge: &Purge, from: usize, places: usize) -> (u64, Option<usize>) {
        let end = from.saturating_add(places).min(self.kept.len());
        let mut gone = 0;
        for at in from..end {
            let is_meant =
                self.kept.get(at).and_then(Option::as_ref).is_some_and(|kept| purge.means(&kept.object));
            if is_meant {
                self.remove(at as Slot);
                gone += 1;
            }
        }
        (gone, (end < self.kept.len()).then_some(end))
    }

    fn find(&self, hash: u64, key: &Key, request: &HeaderMap) -> (Option<Slot>, bool) {
        let mut is_known = false;
        for slot in self.slots(self.at(hash, key)) {
            let Some(Some(kept)) = self.kept.get(slot as usize) else { continue };
            if kept.object.key == *key {
                is_known = true;
                if kept.object.is_for(request) {
                    return (Some(slot), true);
                }
            }
        }
        (None, is_known)
    }

    fn at(&self, hash: u64, key: &Key) -> At {
        let own = key.of_request();
        (hash, if own.is_empty() { 0 } else { crate::hash::hash(hash, own.as_bytes()) })
    }

    /// Those that are found there, the newest first.
    fn slots(&self, at: At) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.index.get(&at).copied(), |slot| {
            self.kept.get(*slot as usize)?.as_ref()?.next
        })
    }

    fn object(&self, slot: Slot) -> Option<Arc<Object>> {
        self.kept.get(slot as usize)?.as_ref().map(|kept| Arc::clone(&kept.object))
    }

    fn make_room(&mut self) {
        while let Some(slot) = self.queue.evict() {
            self.evicted += 1;
            self.forget(slot);
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.queue.remove(slot);
        self.forget(slot);
    }

    /// Takes it out of the index.
    fn forget(&mut self, slot: Slot) {
        let Some(gone) = self.kept.get_mut(slot as usize).and_then(Option::take) else { return };
        self.objects -= 1;
        if self.index.get(&gone.at) == Some(&slot) {
            match gone.next {
                Some(next) => self.index.insert(gone.at, next),
                None => self.index.remove(&gone.at),
            };
            return;
        }
        let before = self.slots(gone.at).find(|other| {
            self.kept
                .get(*other as usize)
                .and_then(Option::as_ref)
                .is_some_and(|kept| kept.next == Some(slot))
        });
        if let Some(before) = before
            && let Some(Some(kept)) = self.kept.get_mut(before as usize)
        {
            kept.next = gone.next;
        }
    }

    fn is_unshared(&self, now: Instant, hash: u64, key: &Key) -> bool {
        self.unshared.get(&self.mark(hash, key)).is_some_and(|until| now < *until)
    }

    fn note_unshared(&mut self, now: Instant, key: &Key) {
        if self.unshared.len() >= UNSHARED_MAX && now >= self.unshared_until {
            self.unshared.retain(|_, until| now < *until);
            // Whoever comes next does not look through all of them for nothing.
            self.unshared_until = self.unshared.values().copied().min().unwrap_or(now);
        }
        // Without room it is found out anew.
        if self.unshared.len() < UNSHARED_MAX {
            let mark = self.mark(self.hash(key.url()), key);
            self.unshared.insert(mark, now + defaults::CACHE_UNSHARED);
        }
    }

    fn mark(&self, hash: u64, key: &Key) -> u64 {
        key.beside().bytes().fold(hash, step)
    }

    /// Seeded, so that nobody can choose URLs that meet: where they do they are still told apart.
    fn hash(&self, url: &str) -> u64 {
        hash(self.seed, url.as_bytes())
    }

    /// What holds between any two calls.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        self.queue.check_invariants()?;
        self.flights.check_invariants()?;
        if self.queue.bytes() > self.queue.bytes_max() {
            return Err("more bytes are kept than may be");
        }
        let all = self.kept.iter().flatten();
        let (mut objects, mut bytes) = (0, 0);
        for kept in all {
            objects += 1;
            bytes += kept.object.cost() as u64;
            if !self.slots(kept.at).any(|slot| {
                self.kept
                    .get(slot as usize)
                    .and_then(Option::as_ref)
                    .is_some_and(|other| std::ptr::eq(other, kept))
            }) {
                return Err("an object that is not found by its URL");
            }
        }
        if objects != self.objects || bytes != self.queue.bytes() {
            return Err("objects or bytes that are not counted");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
