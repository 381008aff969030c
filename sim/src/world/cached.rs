//! Requests whose answers are kept: the counterpart of `proxy/src/cached.rs`.
//!
//! What waits there for a waker waits here for an event of the same moment. A refresh is a passage beside that of its
//! client, which nobody hears of when it is over.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use naru_base::{Instant, Reason};
use naru_cache::{
    Asked, Fetched, FlightId, Given, Judgement, Key as CacheKey, Look, Object, Outcome, Place as UrlPlace,
    Turn,
};
use naru_journey::{Journey, Looked, Milestone, RequestFacts, Stale};
use naru_spec::Scheme;

use super::{Event, News, World};
use crate::kept::{Cached, ClassCounts, OfRoute, Storing};
use crate::passage::{KeptHead, Key, Passage};
use crate::upstream::Upstreams;
use crate::wall::wall;

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// Carries [`naru_journey::Action::Lookup`] out.
    #[cold]
    pub(super) fn look_up(&mut self, passage: &mut Passage<T>) {
        // A refresh has looked already, but not behind the memory: another proxy may have fetched it.
        let looked = if passage.cached.is_some() {
            self.search_or_fetch(passage)
        } else {
            passage.cached = self.begin_cached(passage);
            self.look_kept(passage)
        };
        self.hear_looked(passage, looked);
    }

    /// It was woken, or has waited long enough.
    #[cold]
    pub(super) fn look_again(&mut self, passage: &mut Passage<T>) {
        let now = self.now;
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return };
        let Some(cached) = &mut passage.cached else { return };
        let (Some(ticket), Some(route)) = (cached.ticket, &cached.route) else { return };
        let shelf = memory.shelf(route.key.url());
        let looked = match shelf.turn(ticket, passage.key) {
            Turn::Wait if cached.waits_until.is_none_or(|until| now < until) => return,
            Turn::Wait => {
                cached.ticket = None;
                let woken = shelf.leave(ticket);
                let flight = shelf.go_alone(&route.key);
                self.wake(woken);
                self.lead(passage, flight);
                self.search_or_fetch(passage)
            }
            Turn::Over => {
                cached.ticket = None;
                if !std::mem::replace(&mut cached.is_collapsed, true) {
                    memory.count(&route.policy.class).collapsed += 1;
                }
                self.look_kept(passage)
            }
            Turn::Lead(flight) => {
                cached.ticket = None;
                self.lead(passage, flight);
                self.search_or_fetch(passage)
            }
        };
        self.hear_looked(passage, looked);
    }

    pub(super) fn hear_looked(&mut self, passage: &mut Passage<T>, looked: Option<Looked>) {
        let Some(looked) = looked else { return };
        let here = &mut self.proxies[passage.proxy.index()];
        let core = &mut here.workers[passage.worker].core;
        let view = here.fleet.seen_by(passage.worker);
        passage.journey.on_looked(self.now, here.snapshot, looked, core, &view, &mut ());
    }

    pub(super) fn wake(&mut self, woken: impl IntoIterator<Item = Key>) {
        for key in woken {
            self.queue.push(self.now, Event::Request(key, News::Looked));
        }
    }

    /// What the request has to do with the memory, if it has.
    fn begin_cached(&self, passage: &Passage<T>) -> Option<Box<Cached>> {
        let here = &self.proxies[passage.proxy.index()];
        here.memory.as_ref()?;
        let head = passage.head.as_deref()?;
        let (snapshot, journey) = (here.snapshot, &passage.journey);
        let is_unsafe = naru_cache::is_unsafe(&head.line.method);
        let is_tls = head.client.scheme == Scheme::Https;
        let policy = journey.cache(snapshot).map(Arc::clone);
        let is_used = is_unsafe || naru_cache::may_use(&head.line.method, &head.headers);
        let route = policy.filter(|_| is_used).map(|policy| {
            let table = &snapshot.chain(journey.chain()).table;
            let rule = journey.rule().map_or("", |(rule, _)| table.rule(rule).name.as_ref());
            let cluster = journey.cluster().map_or("", |cluster| snapshot.cluster(cluster).name.as_str());
            let key = CacheKey::new(place(head, is_tls), &policy.key, &head.headers, &[rule, cluster]);
            OfRoute { policy, key }
        });
        if route.is_none() && !is_unsafe {
            return None;
        }
        let level = here.fleet.surge_level.get();
        let percent = |class: &str| {
            snapshot.surge.as_ref().filter(|_| level > 0).map(|surge| surge.cache_percent(class, level))
        };
        let obeys = route.as_ref().is_some_and(|route| route.policy.obeys_requests);
        Some(Box::new(Cached {
            asked: Asked::of(&head.headers, obeys),
            percent: route.as_ref().and_then(|route| percent(&route.policy.class)).unwrap_or(100),
            route,
            is_tls,
            is_unsafe,
            request: HeaderMap::new(),
            known: None,
            flight: None,
            ticket: None,
            waits_until: None,
            stale: None,
            given: None,
            news: None,
            storing: None,
            sent: self.now,
            is_background: false,
            is_identified: passage.has_session || journey.is_identified(),
            is_collapsed: false,
            claim: None,
            seeking: None,
        }))
    }

    /// `None` where it waits for another request.
    pub(super) fn look_kept(&mut self, passage: &mut Passage<T>) -> Option<Looked> {
        let goes_on = Some(Looked::Fetch(Stale::default()));
        let now = self.now;
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return goes_on };
        let (Some(cached), Some(head)) = (&mut passage.cached, &passage.head) else { return goes_on };
        let Some(route) = cached.route.clone() else { return goes_on };
        let (method, headers) = (&head.line.method, &head.headers);
        if cached.is_unsafe {
            // Whether it is kept is known by the answer.
            cached.request = headers.clone();
            return goes_on;
        }
        let may_lead =
            route.policy.coalesce.is_some() && naru_cache::may_lead(method, headers, &cached.asked);
        let shelf = memory.shelf(route.key.url());
        match shelf.look(now, &route.key, headers, &cached.asked, cached.percent, may_lead) {
            Look::Given { object, judgement, refresh } => {
                let given = naru_cache::answer_to(method, headers, &object, wall(now));
                cached.given = Some((Arc::clone(&object), given));
                let counts = memory.count(&route.policy.class);
                *(if judgement == Judgement::Fresh { &mut counts.hits } else { &mut counts.stale_hits }) += 1;
                if let Some(flight) = refresh {
                    self.refresh(passage, flight, object);
                }
                Some(Looked::Found)
            }
            Look::Absent => Some(Looked::Absent),
            Look::Wait(flight) => {
                let Some(ticket) = shelf.wait(flight, passage.key) else { return self.look_kept(passage) };
                cached.ticket = Some(ticket);
                if cached.waits_until.is_none() {
                    let until = now + route.policy.coalesce.unwrap_or(Duration::ZERO);
                    cached.waits_until = Some(until);
                    self.queue.push(until, Event::Request(passage.key, News::Looked));
                }
                None
            }
            Look::Fetch { flight, stale, .. } => {
                cached.flight = Some(flight);
                cached.stale = stale;
                self.search_or_fetch(passage)
            }
        }
    }

    /// It is to fetch, unless what it wants is behind the memory. `None` where it waits for that, or for another request.
    fn search_or_fetch(&mut self, passage: &mut Passage<T>) -> Option<Looked> {
        let searched = self.search(passage)?;
        self.go_on(passage, &searched)
    }

    /// It was its turn to fetch what it has waited for.
    fn lead(&mut self, passage: &mut Passage<T>, flight: FlightId) {
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return };
        if let (Some(cached), Some(head)) = (&mut passage.cached, &passage.head) {
            cached.flight = Some(flight);
            let found = cached
                .route
                .as_ref()
                .map(|route| memory.shelf(route.key.url()).stale(&route.key, &head.headers));
            cached.stale = found.flatten();
        }
    }

    /// The request goes on: what is there is asked about, and may be given where nothing else comes.
    pub(super) fn fetch_kept(&mut self, passage: &mut Passage<T>) -> Looked {
        let now = self.now;
        let goes_on = Looked::Fetch(Stale::default());
        let (Some(cached), Some(head)) = (&mut passage.cached, &passage.head) else { return goes_on };
        cached.request = head.headers.clone();
        let Some(object) = &cached.stale else {
            cached.known = revision(&head.headers);
            return goes_on;
        };
        let terms = object.terms.stretched(cached.percent);
        let (left, is_there) = naru_cache::may_be_given_instead(&terms, &cached.asked, now);
        let mut sent = head.headers.clone();
        let is_asked_about = head.line.method == Method::GET && naru_cache::validate(object, &mut sent);
        cached.known = revision(&sent);
        let until = left.map(|left| now + Duration::from_secs(u64::from(left)));
        Looked::Fetch(Stale { is_asked_about, until, is_there })
    }

    /// The head of an answer is passed on.
    #[cold]
    pub(super) fn keep_head(&mut self, passage: &mut Passage<T>, status: u16, bytes: u64) {
        let now = self.now;
        self.forget_invalid(passage, status);
        let queries = self.proxies[passage.proxy.index()].snapshot.caches.queries();
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return };
        let (Some(cached), Some(head)) = (&mut passage.cached, &passage.head) else { return };
        let nothing = HeaderMap::new();
        let said = passage.flight.as_ref().and_then(|flight| flight.said.as_deref()).unwrap_or(&nothing);
        let mut is_own_location = false;
        if cached.is_unsafe {
            let place = place(head, cached.is_tls);
            for url in naru_cache::invalidated(place, status, said, queries) {
                memory.shelf(&url).invalidate(&url);
            }
            is_own_location = naru_cache::is_own_location(place, said);
            if let Some(route) = cached.route.as_ref().filter(|_| is_own_location) {
                cached.flight = Some(memory.shelf(route.key.url()).go_alone(&route.key));
            }
        } else if let Some(route) = cached.route.as_ref().filter(|_| !cached.is_background) {
            memory.count(&route.policy.class).misses += 1;
        }
        let (Some(flight), Some(route)) = (cached.flight, cached.route.clone()) else { return };
        let fetched = Fetched {
            method: &head.line.method,
            request: &cached.request,
            status,
            response: said,
            sent: cached.sent,
            came: now,
            wall: wall(now),
            is_own_location,
            is_identified: cached.is_identified,
        };
        if head.line.method == Method::HEAD {
            if let Some(stale) = cached.stale.as_ref().filter(|_| status < 500) {
                let is_same = naru_cache::is_same_by_head(stale, status, said);
                let after = is_same.then(|| {
                    let (object, terms) = naru_cache::freshen(&route.policy, stale, &fetched);
                    terms.ok().map(|_| Arc::new(object))
                });
                memory.shelf(route.key.url()).replace(flight, stale, after.flatten());
            }
            return self.end_flight(passage, Outcome::Unshared);
        }
        let terms = naru_cache::terms(&route.policy, &fetched);
        match terms.ok().filter(|_| bytes <= route.policy.object_bytes_max) {
            Some(terms) => {
                let head = naru_cache::stored_head(said, wall(now));
                cached.storing = Some(Storing { status, head, terms });
            }
            None => {
                if !cached.is_background {
                    memory.count(&route.policy.class).unstored += 1;
                }
                // Another answer stands now in the place of what is there.
                if let Some(stale) = cached.stale.as_ref().filter(|_| status < 500 && status != 304) {
                    memory.shelf(route.key.url()).replace(flight, stale, None);
                    if cached.claim.is_some() {
                        self.forget_behind(passage.proxy, route.key.url());
                    }
                }
                self.end_flight(passage, Outcome::Unshared);
            }
        }
    }

    /// What an answer makes worthless is so behind the memory first: what is found there from here on is not taken in.
    fn forget_invalid(&mut self, passage: &Passage<T>, status: u16) {
        let here = &self.proxies[passage.proxy.index()];
        let (has_tiers, queries) = (here.tiers.is_some(), here.snapshot.caches.queries());
        let (Some(cached), Some(head)) = (&passage.cached, &passage.head) else { return };
        if !has_tiers || !cached.is_unsafe {
            return;
        }
        let nothing = HeaderMap::new();
        let said = passage.flight.as_ref().and_then(|flight| flight.said.as_deref()).unwrap_or(&nothing);
        for url in naru_cache::invalidated(place(head, cached.is_tls), status, said, queries) {
            self.forget_behind(passage.proxy, &url);
        }
    }

    /// An answer was passed on to its end: it is kept, where it is to be.
    #[cold]
    pub(super) fn keep(&mut self, passage: &mut Passage<T>) {
        let now = self.now;
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return };
        let Some(cached) = &mut passage.cached else { return };
        let (Some(Storing { status, head, terms }), Some(route), Some(flight)) =
            (cached.storing.take(), cached.route.clone(), cached.flight)
        else {
            return;
        };
        let body = memory.body(passage.bytes_sent);
        let object =
            Object::new(route.key.clone(), &cached.request, status, &head, body, terms).map(Arc::new);
        // Who waits must find something that may be given.
        let is_for_others = naru_cache::may_be_shared(&terms, now);
        if let Some(object) = &object
            && self.keep_through(passage, object, is_for_others)
        {
            return;
        }
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return };
        let Some(cached) = &mut passage.cached else { return };
        let variants_max = route.policy.variants_max;
        let shelf = memory.shelf(route.key.url());
        let is_kept = object
            .as_ref()
            .is_some_and(|object| shelf.keep(now, flight, Arc::clone(object), &cached.request, variants_max));
        memory.count_kept(&route.policy.class, cached.is_background, is_kept);
        if let (true, Some(object), Some(claim)) = (is_kept, &object, cached.claim.take()) {
            self.keep_behind(passage.proxy, object, &claim, None);
        }
        let is_shared = is_kept && is_for_others;
        self.end_flight(passage, if is_shared { Outcome::Kept } else { Outcome::Unshared });
    }

    pub(super) fn end_flight(&mut self, passage: &mut Passage<T>, outcome: Outcome) {
        let now = self.now;
        let Some(memory) = &mut self.proxies[passage.proxy.index()].memory else { return };
        let Some(cached) = &mut passage.cached else { return };
        if let (Some(flight), Some(route)) = (cached.flight.take(), &cached.route) {
            let woken = memory.end(now, flight, &route.key, outcome);
            self.wake(woken);
        }
    }

    /// Its request is over, whatever has come of it.
    #[cold]
    pub(super) fn leave_cached(&mut self, passage: &mut Passage<T>) {
        self.stop_seeking(passage);
        if let Some(memory) = &mut self.proxies[passage.proxy.index()].memory
            && let Some(cached) = &mut passage.cached
            && let (Some(ticket), Some(route)) = (cached.ticket.take(), &cached.route)
        {
            let woken = memory.shelf(route.key.url()).leave(ticket);
            self.wake(woken);
        }
        // Nothing came of it: another may.
        self.end_flight(passage, Outcome::Nothing);
        passage.cached = None;
    }

    /// Gives what is kept. `false` where there is nothing, which the journey was not told.
    #[cold]
    pub(super) fn answer_kept(&mut self, passage: &mut Passage<T>, reason: Reason) -> bool {
        let Some((object, given)) = self.choose(passage, reason) else { return false };
        let length = object.body.len() as u64;
        let (status, bytes) = match given {
            Given::Whole => (object.status, length),
            Given::NotModified => (StatusCode::NOT_MODIFIED.as_u16(), 0),
            Given::Part(part) => (StatusCode::PARTIAL_CONTENT.as_u16(), part.end - part.start),
            Given::NoPart => (StatusCode::RANGE_NOT_SATISFIABLE.as_u16(), 0),
        };
        passage.journey.on_reply(self.now, status, None);
        if bytes == 0 || passage.is_head {
            passage.journey.on_response_body(self.now, Milestone::End);
        } else {
            passage.bytes_sent = bytes;
            self.queue.push(self.now, Event::Request(passage.key, News::ReplyRead));
        }
        true
    }

    /// Which object is given, and what of it.
    fn choose(&mut self, passage: &mut Passage<T>, reason: Reason) -> Option<(Arc<Object>, Given)> {
        let now = self.now;
        let memory = self.proxies[passage.proxy.index()].memory.as_mut()?;
        let (cached, head) = (passage.cached.as_mut()?, passage.head.as_ref()?);
        if reason == Reason::CacheHit {
            return cached.given.take();
        }
        let (stale, route) = (cached.stale.take()?, cached.route.clone()?);
        let is_background = cached.is_background;
        let mut count = |which: fn(&mut ClassCounts) -> &mut u64| {
            if !is_background {
                *which(memory.count(&route.policy.class)) += 1;
            }
        };
        let (object, outcome) = if reason == Reason::CacheValidated {
            count(|counts| &mut counts.validated);
            let news = cached.news.take().unwrap_or_default();
            let fetched = Fetched {
                method: &head.line.method,
                request: &cached.request,
                status: StatusCode::NOT_MODIFIED.as_u16(),
                response: &news,
                sent: cached.sent,
                came: now,
                wall: wall(now),
                is_own_location: false,
                is_identified: cached.is_identified,
            };
            let (fresh, terms) = naru_cache::freshen(&route.policy, &stale, &fetched);
            let fresh = Arc::new(fresh);
            let after = terms.is_ok().then(|| Arc::clone(&fresh));
            let is_for_others = terms.is_ok_and(|terms| naru_cache::may_be_shared(&terms, now));
            let shelf = memory.shelf(route.key.url());
            let is_kept = cached.flight.is_some_and(|flight| shelf.replace(flight, &stale, after));
            if let (true, Some(claim)) = (is_kept, cached.claim.clone()) {
                self.keep_behind(passage.proxy, &fresh, &claim, None);
            }
            (fresh, if is_kept && is_for_others { Outcome::Kept } else { Outcome::Unshared })
        } else {
            count(|counts| &mut counts.instead);
            (stale, Outcome::Nothing)
        };
        let given = naru_cache::answer_to(&head.line.method, &cached.request, &object, wall(now));
        self.end_flight(passage, outcome);
        Some((object, given))
    }

    /// Fetches anew what a client is given stale.
    fn refresh(&mut self, passage: &Passage<T>, flight: FlightId, object: Arc<Object>) {
        let (Some(cached), Some(head)) = (&passage.cached, &passage.head) else { return };
        let mut headers = head.headers.clone();
        for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            headers.remove(name);
        }
        let of_refresh = Cached {
            route: cached.route.clone(),
            is_tls: cached.is_tls,
            is_unsafe: false,
            request: headers.clone(),
            known: None,
            asked: Asked::default(),
            flight: Some(flight),
            ticket: None,
            waits_until: None,
            stale: Some(object),
            given: None,
            news: None,
            storing: None,
            percent: cached.percent,
            sent: self.now,
            is_background: true,
            is_identified: cached.is_identified,
            is_collapsed: false,
            claim: None,
            seeking: None,
        };
        let mut line = head.line.clone();
        line.method = Method::GET;
        let here = &mut self.proxies[passage.proxy.index()];
        let core = &mut here.workers[passage.worker].core;
        let draw = core.draw_request();
        let facts = RequestFacts::of(&Method::GET, &headers, &head.client, true);
        let subject = line.subject(&headers, &head.client, draw);
        let (snapshot, chain) = (here.snapshot, passage.journey.chain());
        let view = here.fleet.seen_by(passage.worker);
        let journey = Journey::begin(self.now, snapshot, chain, &subject, facts, core, &view, &mut ());
        let sends_max = super::sends_max(snapshot, &journey);
        let key = self.passages.reserve();
        let head = KeptHead { line, client: head.client, headers, peer: head.peer };
        let beside = Box::new(Passage {
            deadline: None,
            origin: None,
            head: Some(Box::new(head)),
            asker: passage.asker.clone(),
            is_head: false,
            is_idempotent: true,
            method: Method::GET,
            is_repeat: false,
            trace: super::name_of(key),
            cached: Some(Box::new(of_refresh)),
            sends_max,
            ..passage.another(key, journey)
        });
        self.passages.put(beside);
        // Its client goes first.
        self.queue.push(self.now, Event::Request(key, News::Looked));
    }

    /// When an attempt was sent.
    #[inline]
    pub(super) fn note_sent(passage: &mut Passage<T>, now: Instant) -> Option<u64> {
        let cached = passage.cached.as_mut()?;
        cached.sent = now;
        cached.known
    }
}

fn place(head: &KeptHead, is_tls: bool) -> UrlPlace<'_> {
    let authority = head.line.authority.as_ref().and_then(|authority| authority.to_str().ok());
    UrlPlace { is_tls, authority: authority.unwrap_or_default(), target: head.line.path.as_str() }
}

/// Which state of what a simulated service gives a request asks about; see [`etag_of`].
fn revision(headers: &HeaderMap) -> Option<u64> {
    let asked = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    asked.strip_prefix("\"r")?.strip_suffix('"')?.parse().ok()
}

/// What a simulated service calls a state of what it gives.
pub(crate) fn etag_of(revision: u64) -> String {
    format!("\"r{revision}\"")
}
