//! Requests whose answers are kept.
//!
//! What is decided about them is decided by `naru_cache`; here it is carried out: a look at the memory that all workers
//! share ([`SharedCache`]), the wait for another request that fetches the same, the answer as it comes kept beside being
//! passed on, and the answer that is given from memory. What a request holds of the memory (its flight, its place among
//! those who wait) is given back when its [`Cached`] is dropped.
//!
//! An answer that is stale, and given while another is fetched, is fetched by a request of naru's own ([`refresh`]): a
//! passage beside that of the client, which is in no log.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, Response, StatusCode};
use http_body::{Body as _, Frame};
use naru_base::{Instant, Reason};
use naru_cache::{
    Asked, Fetched, FlightId, Given, Judgement, Key, Look, Object, Outcome, Place, Refused, Terms, Ticket,
    Told, Turn, Use, Way,
};
use naru_journey::outgoing::{self, Stamp};
use naru_journey::record::{Facts, fill_header};
use naru_journey::{Action, Journey, Looked, RequestFacts, Stale};
use naru_spec::{CachePolicy, Format, Scheme};

use crate::cluster::add;
use crate::codec::BodyBroken;
use crate::engine::{self, Outgoing};
use crate::settle::{OutBody, Passage};
use crate::shaped;
use crate::shared_cache::{ClassCounts, SharedCache, count};
use crate::tiers::{self, Claim, Tier, Tiers};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// For the next cache only (W3C, "Edge Architecture Specification").
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// What a request has to do with the memory.
#[derive(Debug)]
pub struct Cached {
    shared: Arc<SharedCache>,
    /// Of a rule that keeps answers.
    route: Option<OfRoute>,
    is_tls: bool,
    /// It may change something.
    is_unsafe: bool,
    /// The client's, where its answer may be kept.
    request: HeaderMap,
    asked: Asked,
    flight: Option<FlightId>,
    ticket: Option<Ticket>,
    /// What is there, and may not be given as it is.
    stale: Option<Arc<Object>>,
    /// What is given, and what of it.
    given: Option<(Arc<Object>, Given)>,
    /// What its origin says of it.
    news: Option<HeaderMap>,
    storing: Option<Storing>,
    told: Told,
    /// So many percent of what they are else are lifetimes that routes say, at the level of a `Surge`.
    percent: u32,
    /// The moment of the last look.
    at: Instant,
    is_background: bool,
    /// See [`Fetched::is_identified`].
    is_identified: bool,
    /// What is behind the memory, and was asked.
    tiers: Option<Arc<Tiers>>,
    /// What they said when the fetch began.
    claim: Option<Claim>,
}

#[derive(Clone, Debug)]
struct OfRoute {
    policy: Arc<CachePolicy>,
    key: Key,
    counts: Arc<ClassCounts>,
}

/// An answer while it is passed on.
#[derive(Debug)]
struct Storing {
    status: u16,
    head: HeaderMap,
    terms: Terms,
    body: Vec<u8>,
    bytes_max: usize,
    /// As its head says.
    length: Option<usize>,
}

/// A whole answer that is to be kept.
struct Keeping {
    shared: Arc<SharedCache>,
    route: OfRoute,
    object: Arc<Object>,
    request: HeaderMap,
    is_for_others: bool,
    is_background: bool,
    flight: Option<FlightId>,
}

impl Keeping {
    /// It may be old by now.
    fn is_void(&self) -> bool {
        let shelf = self.shared.shelf(self.route.key.url());
        self.flight.is_none_or(|flight| shelf.is_void(flight))
    }

    /// Keeps it in memory. Whether it is.
    fn keep(mut self, now: Instant) -> bool {
        let Some(flight) = self.flight.take() else { return false };
        let url = self.route.key.url();
        let variants_max = self.route.policy.variants_max;
        let object = Arc::clone(&self.object);
        let is_kept = self.shared.shelf(url).keep(now, flight, object, &self.request, variants_max);
        if !self.is_background {
            count(if is_kept { &self.route.counts.stored } else { &self.route.counts.unstored });
        }
        let is_for_others = is_kept && self.is_for_others;
        let outcome = if is_for_others { Outcome::Kept } else { Outcome::Unshared };
        self.shared.end(now, flight, &self.route.key, outcome);
        is_kept
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            // Nothing came of it: another may.
            self.shared.end(Instant::ZERO, flight, &self.route.key, Outcome::Nothing);
        }
    }
}

const FORWARDED: Told = Told {
    forwarded: Some(Way::UriMiss),
    forwarded_status: None,
    is_stored: false,
    is_collapsed: false,
    ttl: None,
    detail: None,
};

impl Cached {
    fn end_flight(&mut self, now: Instant, outcome: Outcome) {
        if let (Some(flight), Some(route)) = (self.flight.take(), &self.route) {
            self.shared.end(now, flight, &route.key, outcome);
        }
    }

    pub fn is_background(&self) -> bool {
        self.is_background
    }

    fn count(&self, which: impl FnOnce(&ClassCounts) -> &std::sync::atomic::AtomicU64) {
        if let Some(route) = self.route.as_ref().filter(|_| !self.is_background) {
            count(which(&route.counts));
        }
    }

    fn status(&self) -> Option<HeaderValue> {
        self.route.as_ref().filter(|route| route.policy.tells)?;
        self.told.value("naru")
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        if let (Some(ticket), Some(route)) = (self.ticket.take(), &self.route) {
            self.shared.leave(ticket, &route.key);
        }
        // Nothing came of it: another may.
        self.end_flight(self.at, Outcome::Nothing);
    }
}

/// Carries [`Action::Lookup`] out. Returns what the journey asks for meanwhile.
pub async fn look_up(passage: &mut Passage, outgoing: &mut Outgoing) -> Option<Action> {
    passage.cached = begin(passage, outgoing);
    let Some(cached) = &passage.cached else {
        hear_looked(passage, Looked::Fetch(Stale::default()));
        return None;
    };
    let wait_max = cached.route.as_ref().and_then(|route| route.policy.coalesce).unwrap_or(Duration::ZERO);
    let end = passage.worker.clock.now() + wait_max;
    loop {
        match look(passage, outgoing) {
            Looking::Done(looked) => {
                hear_looked(passage, looked);
                return None;
            }
            Looking::Fetch => {}
            Looking::Wait(flight) => match wait(passage, flight, end).await {
                Ok(Waited::Over) => continue,
                Ok(Waited::Lead(flight)) => lead(passage, outgoing, flight),
                Ok(Waited::TooLong) => go_alone(passage, outgoing),
                Err(action) => return Some(action),
            },
        }
        let looked = match search(passage, outgoing).await {
            Ok(Searched::Found) => Looked::Found,
            Ok(Searched::InMemory) => continue,
            Ok(Searched::Nothing) => fetch(passage, outgoing),
            Err(action) => return Some(action),
        };
        hear_looked(passage, looked);
        return None;
    }
}

fn hear_looked(passage: &mut Passage, looked: Looked) {
    let now = passage.worker.clock.now();
    let loaded = Rc::clone(&passage.loaded);
    let mut core = loaded.core.borrow_mut();
    passage.journey.on_looked(now, &loaded.snapshot, looked, &mut core, &loaded.clusters, &mut ());
}

/// What the request has to do with the memory, if it has.
fn begin(passage: &Passage, outgoing: &Outgoing) -> Option<Box<Cached>> {
    let shared = Arc::clone(passage.loaded.prepared.cache.as_ref()?);
    let snapshot = &passage.loaded.snapshot;
    let headers = outgoing.headers.as_ref()?;
    let is_unsafe = naru_cache::is_unsafe(&outgoing.method);
    let is_tls = passage.client.scheme == Scheme::Https;
    let policy = passage.journey.cache(snapshot).map(Arc::clone);
    let route =
        policy.filter(|_| is_unsafe || naru_cache::may_use(&outgoing.method, headers)).map(|policy| {
            let table = &snapshot.chain(passage.journey.chain()).table;
            let rule = passage.journey.rule().map_or("", |(rule, _)| table.rule(rule).name.as_ref());
            let cluster =
                passage.journey.cluster().map_or("", |cluster| snapshot.cluster(cluster).name.as_str());
            let key = Key::new(place(passage, is_tls), &policy.key, headers, &[rule, cluster]);
            let known = passage.loaded.prepared.cache_classes.get(&policy.class);
            let counts = known.map_or_else(|| shared.class(&policy.class), Arc::clone);
            OfRoute { counts, policy, key }
        });
    if route.is_none() && !is_unsafe {
        return None;
    }
    let class = route.as_ref().map(|route| route.policy.class.as_str());
    let percent = class.map_or(100, |class| passage.loaded.clusters.surged.cache_percent(class));
    let obeys = route.as_ref().is_some_and(|route| route.policy.obeys_requests);
    Some(Box::new(Cached {
        asked: Asked::of(headers, obeys),
        shared,
        route,
        is_tls,
        is_unsafe,
        request: HeaderMap::new(),
        flight: None,
        ticket: None,
        stale: None,
        given: None,
        news: None,
        storing: None,
        told: FORWARDED,
        percent,
        at: passage.worker.clock.now(),
        is_background: false,
        is_identified: passage.is_identified || passage.journey.is_identified(),
        tiers: passage.loaded.prepared.tiers.clone(),
        claim: None,
    }))
}

fn place(passage: &Passage, is_tls: bool) -> Place<'_> {
    let authority = passage.line.authority.as_ref().and_then(|authority| authority.to_str().ok());
    Place { is_tls, authority: authority.unwrap_or_default(), target: passage.line.path.as_str() }
}

enum Looking {
    Done(Looked),
    /// It has a flight.
    Fetch,
    Wait(FlightId),
}

fn look(passage: &mut Passage, outgoing: &mut Outgoing) -> Looking {
    let now = passage.worker.clock.now();
    let goes_on = Looking::Done(Looked::Fetch(Stale::default()));
    let (Some(cached), Some(headers)) = (&mut passage.cached, &outgoing.headers) else { return goes_on };
    cached.at = now;
    let Some(route) = &cached.route else { return goes_on };
    if cached.is_unsafe {
        // Whether it is kept is known by the answer: see `on_head`.
        cached.told.forwarded = Some(Way::Method);
        cached.request = headers.clone();
        return goes_on;
    }
    let may_lead =
        route.policy.coalesce.is_some() && naru_cache::may_lead(&outgoing.method, headers, &cached.asked);
    let look = cached.shared.shelf(route.key.url()).look(
        now,
        &route.key,
        headers,
        &cached.asked,
        cached.percent,
        may_lead,
    );
    match look {
        Look::Given { object, judgement, refresh } => {
            let given =
                naru_cache::answer_to(&outgoing.method, headers, &object, passage.worker.clock.wall(now));
            cached.told.forwarded = None;
            cached.told.ttl = Some(ttl(&object.terms.stretched(cached.percent), now));
            cached.given = Some((Arc::clone(&object), given));
            cached.count(
                |counts| if judgement == Judgement::Fresh { &counts.hits } else { &counts.stale_hits },
            );
            if let Some(flight) = refresh {
                refresh_by(passage, outgoing, flight, object);
            }
            Looking::Done(Looked::Found)
        }
        Look::Absent => Looking::Done(Looked::Absent),
        Look::Wait(flight) => Looking::Wait(flight),
        Look::Fetch { flight, stale, way } => {
            cached.told.forwarded = Some(way);
            cached.flight = Some(flight);
            cached.stale = stale;
            Looking::Fetch
        }
    }
}

/// What a look behind the memory has come to.
enum Searched {
    /// It is there, and is given.
    Found,
    /// It is in memory now, and may be given while another is fetched.
    InMemory,
    /// At best something stale.
    Nothing,
}

/// Looks behind the memory, once.
async fn search(passage: &mut Passage, outgoing: &Outgoing) -> Result<Searched, Action> {
    let nothing = Ok(Searched::Nothing);
    let (Some(cached), Some(headers)) = (&passage.cached, &outgoing.headers) else { return nothing };
    let (Some(tiers), Some(route), None) = (&cached.tiers, &cached.route, &cached.claim) else {
        return nothing;
    };
    let is_for_one = cached.shared.shelf(route.key.url()).is_for_one(cached.at, &route.key);
    if is_for_one || cached.flight.is_none() || !naru_cache::may_hold(&route.policy) {
        return nothing;
    }
    let (tiers, asked) = (Arc::clone(tiers), cached.asked);
    let (key, request) = (route.key.clone(), headers.clone());
    let mut searching = Box::pin(async move { tiers.find(key, request, asked).await });
    let sought = poll_fn(|cx| {
        if let Poll::Ready(sought) = searching.as_mut().poll(cx) {
            return Poll::Ready(Ok(sought));
        }
        passage.poll_watch(cx).map(Err)
    });
    let sought = sought.await?;
    Ok(take_in(passage, outgoing, sought))
}

/// What was found behind the memory goes into it.
fn take_in(passage: &mut Passage, outgoing: &Outgoing, sought: tiers::Sought) -> Searched {
    let now = passage.worker.clock.now();
    let (Some(cached), Some(headers)) = (&mut passage.cached, &outgoing.headers) else {
        return Searched::Nothing;
    };
    cached.at = now;
    cached.claim = Some(sought.claim);
    let (Some((object, tier)), Some(route), Some(flight)) = (sought.found, &cached.route, cached.flight)
    else {
        return Searched::Nothing;
    };
    if !naru_cache::is_newer(&object, cached.stale.as_deref(), now) {
        return Searched::Nothing;
    }
    let object = Arc::new(object);
    let variants_max = route.policy.variants_max;
    if !cached.shared.shelf(route.key.url()).adopt(now, flight, &object, headers, variants_max) {
        // It was made worthless meanwhile.
        return Searched::Nothing;
    }
    let terms = object.terms.stretched(cached.percent);
    let found = match naru_cache::use_of(&terms, &cached.asked, now, cached.is_background) {
        Use::Ask => {
            cached.told.forwarded = Some(Way::Stale);
            cached.stale = Some(object);
            return Searched::Nothing;
        }
        Use::LookAgain => Searched::InMemory,
        Use::Give(judgement) => {
            let wall = passage.worker.clock.wall(now);
            let given = naru_cache::answer_to(&outgoing.method, headers, &object, wall);
            cached.told.forwarded = None;
            cached.told.ttl = Some(ttl(&terms, now));
            cached.told.detail = Some(tier.name());
            cached.given = Some((Arc::clone(&object), given));
            cached.count(|counts| match (judgement, tier) {
                (Judgement::Fresh, Tier::Disk) => &counts.disk_hits,
                (Judgement::Fresh, Tier::Redis) => &counts.redis_hits,
                _ => &counts.stale_hits,
            });
            Searched::Found
        }
    };
    cached.end_flight(now, Outcome::Kept);
    found
}

/// The request goes on: what is there is asked about, and may be given where nothing else comes.
fn fetch(passage: &mut Passage, outgoing: &mut Outgoing) -> Looked {
    let now = passage.worker.clock.now();
    let (Some(cached), Some(headers)) = (&mut passage.cached, &mut outgoing.headers) else {
        return Looked::Fetch(Stale::default());
    };
    cached.request = headers.clone();
    let Some(object) = &cached.stale else { return Looked::Fetch(Stale::default()) };
    let terms = object.terms.stretched(cached.percent);
    let (left, is_there) = naru_cache::may_be_given_instead(&terms, &cached.asked, now);
    let is_asked_about = outgoing.method == Method::GET && naru_cache::validate(object, headers);
    let until = left.map(|left| now + Duration::from_secs(u64::from(left)));
    Looked::Fetch(Stale { is_asked_about, until, is_there })
}

/// It was its turn to fetch what it has waited for.
fn lead(passage: &mut Passage, outgoing: &Outgoing, flight: FlightId) {
    if let (Some(cached), Some(headers)) = (&mut passage.cached, &outgoing.headers) {
        cached.flight = Some(flight);
        let found = cached
            .route
            .as_ref()
            .map(|route| cached.shared.shelf(route.key.url()).stale(&route.key, headers));
        cached.stale = found.flatten();
        cached.told.forwarded = Some(if cached.stale.is_some() { Way::Stale } else { Way::UriMiss });
    }
}

fn go_alone(passage: &mut Passage, outgoing: &Outgoing) {
    let flight = passage.cached.as_ref().and_then(|cached| {
        let route = cached.route.as_ref()?;
        Some(cached.shared.shelf(route.key.url()).go_alone(&route.key))
    });
    if let Some(flight) = flight {
        lead(passage, outgoing, flight);
    }
}

enum Waited {
    Over,
    Lead(FlightId),
    TooLong,
}

/// Waits for another request.
async fn wait(passage: &mut Passage, flight: FlightId, end: Instant) -> Result<Waited, Action> {
    let mut timer = crate::timer::Timer::new(&passage.worker.timers);
    let waited = poll_fn(|cx| {
        let Some(cached) = &mut passage.cached else { return Poll::Ready(Ok(Waited::TooLong)) };
        let Some(route) = &cached.route else { return Poll::Ready(Ok(Waited::TooLong)) };
        let mut shelf = cached.shared.shelf(route.key.url());
        let turn = match cached.ticket {
            Some(ticket) => shelf.turn(ticket, cx.waker().clone()),
            None => match shelf.wait(flight, cx.waker().clone()) {
                Some(ticket) => {
                    cached.ticket = Some(ticket);
                    Turn::Wait
                }
                None => Turn::Over,
            },
        };
        drop(shelf);
        match turn {
            Turn::Wait => {}
            Turn::Over => return Poll::Ready(Ok(Waited::Over)),
            Turn::Lead(flight) => return Poll::Ready(Ok(Waited::Lead(flight))),
        }
        if let Poll::Ready(action) = passage.poll_watch(cx) {
            return Poll::Ready(Err(action));
        }
        timer.set(end);
        timer.poll(cx).map(|()| Ok(Waited::TooLong))
    })
    .await;
    let Some(cached) = &mut passage.cached else { return waited };
    if matches!(waited, Ok(Waited::Over)) && !cached.told.is_collapsed {
        cached.told.is_collapsed = true;
        cached.count(|counts| &counts.collapsed);
    }
    if let (Some(ticket), Some(route)) = (cached.ticket.take(), &cached.route)
        && !matches!(waited, Ok(Waited::Over | Waited::Lead(_)))
    {
        cached.shared.leave(ticket, &route.key);
    }
    waited
}

impl Cached {
    /// The head of an answer has come that the journey may take for news of what is kept.
    pub fn hear_answer(&mut self, status: u16, headers: &HeaderMap) {
        if status == 304 && self.stale.is_some() {
            self.news = Some(headers.clone());
        }
    }

    /// A frame of the answer passes; at the end the answer is kept.
    pub fn hear(&mut self, now: Instant, frame: Option<&Result<Frame<Bytes>, BodyBroken>>, is_end: bool) {
        let Some(storing) = &mut self.storing else { return };
        match frame {
            Some(Err(_)) => {
                self.storing = None;
                return self.end_flight(now, Outcome::Nothing);
            }
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                if storing.body.len() + data.len() > storing.bytes_max {
                    self.storing = None;
                    self.count(|counts| &counts.unstored);
                    return self.end_flight(now, Outcome::Unshared);
                }
                storing.body.extend_from_slice(data);
                if !is_end && !frame.is_trailers() {
                    return;
                }
            }
            None => {}
        }
        self.keep(now);
    }

    fn keep(&mut self, now: Instant) {
        let (Some(storing), Some(route)) = (self.storing.take(), &self.route) else { return };
        let Storing { status, head, terms, body, length, .. } = storing;
        let is_whole = length.is_none_or(|length| length == body.len());
        let body = Bytes::from(body.into_boxed_slice());
        let object = Object::new(route.key.clone(), &self.request, status, &head, body, terms);
        // Who waits must find something that may be given.
        let is_for_others = naru_cache::may_be_shared(&terms, now);
        let (Some(object), Some(flight)) = (object.filter(|_| is_whole).map(Arc::new), self.flight) else {
            self.count(|counts| &counts.unstored);
            return self.end_flight(now, Outcome::Unshared);
        };
        let keeping = Keeping {
            shared: Arc::clone(&self.shared),
            route: route.clone(),
            object,
            request: std::mem::take(&mut self.request),
            is_for_others,
            is_background: self.is_background,
            flight: Some(flight),
        };
        self.flight = None;
        match (self.tiers.clone(), self.claim.take()) {
            (Some(tiers), Some(claim)) if tiers.is_written_through() => {
                // The client has its answer: nobody but those who wait for the same waits for the write.
                tokio::task::spawn_local(async move {
                    let is_void = keeping.is_void();
                    if !is_void {
                        tiers.keep_through(&keeping.object, &claim).await;
                    }
                    keeping.keep(tiers.now());
                });
            }
            (Some(tiers), Some(claim)) => {
                let object = Arc::clone(&keeping.object);
                if keeping.keep(now) {
                    tiers.keep(&object, &claim);
                }
            }
            _ => {
                keeping.keep(now);
            }
        }
    }

    /// Whether an answer that is passed on is kept, and what becomes of what is there.
    fn begin_keep(&mut self, now: Instant, fetched: &Fetched<'_>, body: &impl http_body::Body) {
        let Some(route) = &self.route else { return };
        if *fetched.method == Method::HEAD {
            return self.hear_head_of_object(now, fetched);
        }
        let terms = naru_cache::terms(&route.policy, fetched);
        let too_large = body.size_hint().lower() > route.policy.object_bytes_max;
        match terms {
            Ok(terms) if !too_large => {
                let head = naru_cache::stored_head(fetched.response, fetched.wall);
                let exact = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
                let bytes_max = usize::try_from(route.policy.object_bytes_max).unwrap_or(usize::MAX);
                self.told.is_stored = true;
                self.told.ttl = Some(ttl(&terms.stretched(self.percent), now));
                let body = Vec::with_capacity(exact.unwrap_or(0).min(bytes_max));
                self.storing =
                    Some(Storing { status: fetched.status, head, terms, body, bytes_max, length: exact });
            }
            refused => {
                if refused == Err(Refused::Unkeyed) {
                    self.told.detail = Some("unkeyed");
                }
                // Another answer stands now in the place of what is there.
                if fetched.status < 500
                    && fetched.status != 304
                    && let (Some(stale), Some(flight)) = (&self.stale, self.flight)
                {
                    if let Some(tiers) = self.tiers.as_ref().filter(|_| self.claim.is_some()) {
                        tiers.forget(route.key.url());
                    }
                    self.shared.shelf(route.key.url()).replace(flight, stale, None);
                }
                self.count(|counts| &counts.unstored);
                self.end_flight(now, Outcome::Unshared);
            }
        }
    }

    /// What an answer to HEAD says of what is kept (RFC 9111, section 4.3.5).
    fn hear_head_of_object(&mut self, now: Instant, fetched: &Fetched<'_>) {
        let (Some(route), Some(stale), Some(flight)) = (&self.route, &self.stale, self.flight) else {
            return self.end_flight(now, Outcome::Unshared);
        };
        if fetched.status < 500 {
            let after = naru_cache::is_same_by_head(stale, fetched.status, fetched.response).then(|| {
                let (object, terms) = naru_cache::freshen(&route.policy, stale, fetched);
                terms.ok().map(|_| Arc::new(object))
            });
            self.shared.shelf(route.key.url()).replace(flight, stale, after.flatten());
        }
        self.end_flight(now, Outcome::Unshared);
    }
}

/// The head of an answer is about to be passed on. Says what its client is told of the cache.
#[cold]
pub fn on_head(passage: &mut Passage, parts: &Parts) -> Option<HeaderValue> {
    let now = passage.worker.clock.now();
    let wall = passage.worker.clock.wall(now);
    let sent = passage.sent_at.unwrap_or(now);
    let mut cached = passage.cached.take()?;
    let method = passage.line.method.clone();
    let mut is_own_location = false;
    if cached.is_unsafe {
        let place = place(passage, cached.is_tls);
        let queries = passage.loaded.snapshot.caches.queries();
        for url in naru_cache::invalidated(place, parts.status.as_u16(), &parts.headers, queries) {
            // Behind the memory first: what is found there from here on is not taken in.
            if let Some(tiers) = &cached.tiers {
                tiers.forget(&url);
            }
            cached.shared.invalidate(&url);
        }
        is_own_location = naru_cache::is_own_location(place, &parts.headers);
        if let Some(route) = cached.route.as_ref().filter(|_| is_own_location) {
            cached.flight = Some(cached.shared.shelf(route.key.url()).go_alone(&route.key));
        }
    } else {
        cached.count(|counts| &counts.misses);
    }
    if !cached.is_unsafe && has_body(passage) {
        // What it was asked in its body is in no key.
        cached.count(|counts| &counts.unstored);
        cached.end_flight(now, Outcome::Unshared);
    }
    if let Some(received) = passage.response.as_ref().filter(|_| cached.flight.is_some()) {
        let request = std::mem::take(&mut cached.request);
        let fetched = Fetched {
            method: &method,
            request: &request,
            status: parts.status.as_u16(),
            response: &parts.headers,
            sent,
            came: now,
            wall,
            is_own_location,
            is_identified: cached.is_identified,
        };
        cached.begin_keep(now, &fetched, &received.body);
        cached.request = request;
        if received.body.is_end_stream() {
            cached.keep(now);
        }
    }
    let status = cached.status();
    passage.cached = Some(cached);
    status
}

/// Whether a request has said something in its body, or may still do so.
fn has_body(passage: &Passage) -> bool {
    passage.upload.as_ref().is_some_and(|upload| upload.received() > 0 || !upload.is_over())
}

fn ttl(terms: &Terms, now: Instant) -> i64 {
    i64::from(terms.lifetime) - i64::from(terms.age_at(now))
}

/// Removes what an answer says to the nearest cache only, and says what became of it here.
pub fn tell(headers: &mut HeaderMap, status: Option<HeaderValue>) {
    headers.remove(SURROGATE_CONTROL);
    if let Some(status) = status {
        headers.append(CACHE_STATUS, status);
    }
}

/// Gives what is kept. The passage comes back where there is nothing, which the journey was not told.
pub fn answer(mut passage: Box<Passage>, reason: Reason) -> Result<Response<OutBody>, Box<Passage>> {
    let now = passage.worker.clock.now();
    // Its answer needs nothing that is limited.
    passage.leave(now);
    let chosen = choose(&mut passage, reason, now);
    let formed = chosen.and_then(|(object, given)| form(&object, given, now));
    let (Some((status, mut headers, body)), Some(cached)) = (formed, &passage.cached) else {
        return Err(passage);
    };
    tell(&mut headers, cached.status());
    if let Some(note) = &passage.session {
        note.dress(&mut headers);
    }
    let date = passage.worker.clock.date();
    passage.journey.on_reply(now, status.as_u16(), None);
    let mut fill_in = |response: &HeaderMap, format: &Format, out: &mut Vec<u8>| {
        let so_far = passage.journey.so_far(now);
        fill_header(format, &Facts { response, ..passage.facts(Some(&so_far)) }, out);
    };
    let stamp = Stamp { request_id: passage.request_id.as_ref(), date: &date };
    outgoing::kept(&passage.loaded.snapshot, &passage.journey, &mut headers, stamp, &mut fill_in);
    let record = &passage.loaded.snapshot.chain(passage.journey.chain()).record;
    passage.kept_response = record.keep_response(&headers);
    if passage.journey.bodies().is_some() {
        return Ok(shaped::answer(passage, status, headers, body));
    }
    let is_head = passage.line.method == Method::HEAD;
    let mut response = Response::new(OutBody::whole(if is_head { Bytes::new() } else { body }, passage));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn form(object: &Object, given: Given, now: Instant) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let mut headers = object.head.unpack();
    headers.insert(header::AGE, naru_cache::age_value(object.terms.age_at(now)));
    let length = object.body.len();
    let (status, body) = match given {
        Given::Whole => (StatusCode::from_u16(object.status).ok()?, object.body.clone()),
        Given::NotModified => {
            for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING] {
                headers.remove(name);
            }
            (StatusCode::NOT_MODIFIED, Bytes::new())
        }
        Given::Part(part) => {
            let range = format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1));
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(range).ok()?);
            // Its end is within the body, which is in memory.
            (StatusCode::PARTIAL_CONTENT, object.body.slice(part.start as usize..part.end as usize))
        }
        Given::NoPart => {
            headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(format!("bytes */{length}")).ok()?);
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
        }
    };
    if !matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    Some((status, headers, body))
}

/// Which object is given, and what of it.
fn choose(passage: &mut Passage, reason: Reason, now: Instant) -> Option<(Arc<Object>, Given)> {
    let wall = passage.worker.clock.wall(now);
    let sent = passage.sent_at.unwrap_or(now);
    let method = passage.line.method.clone();
    let cached = passage.cached.as_mut()?;
    cached.at = now;
    if reason == Reason::CacheHit {
        return cached.given.take();
    }
    let stale = cached.stale.take()?;
    let route = cached.route.clone()?;
    let object = if reason == Reason::CacheValidated {
        let news = cached.news.take().unwrap_or_default();
        let fetched = Fetched {
            method: &method,
            request: &cached.request,
            status: 304,
            response: &news,
            sent,
            came: now,
            wall,
            is_own_location: false,
            is_identified: cached.is_identified,
        };
        let (fresh, terms) = naru_cache::freshen(&route.policy, &stale, &fetched);
        let fresh = Arc::new(fresh);
        let after = terms.is_ok().then(|| Arc::clone(&fresh));
        let is_for_others = terms.is_ok_and(|terms| naru_cache::may_be_shared(&terms, now));
        let is_kept = cached
            .flight
            .is_some_and(|flight| cached.shared.shelf(route.key.url()).replace(flight, &stale, after));
        if let (true, Some(tiers), Some(claim)) = (is_kept, &cached.tiers, &cached.claim) {
            tiers.keep(&fresh, claim);
        }
        cached.told.forwarded_status = Some(304);
        cached.told.is_stored = is_kept;
        cached.count(|counts| &counts.validated);
        cached.end_flight(now, if is_kept && is_for_others { Outcome::Kept } else { Outcome::Unshared });
        fresh
    } else {
        cached.count(|counts| &counts.instead);
        cached.end_flight(now, Outcome::Nothing);
        stale
    };
    cached.told.ttl = Some(ttl(&object.terms.stretched(cached.percent), now));
    let given = naru_cache::answer_to(&method, &cached.request, &object, wall);
    Some((object, given))
}

/// Fetches anew what a client is given stale.
fn refresh_by(passage: &Passage, outgoing: &Outgoing, flight: FlightId, object: Arc<Object>) {
    let Some(cached) = &passage.cached else { return };
    let mut of_refresh = Box::new(Cached {
        shared: Arc::clone(&cached.shared),
        route: cached.route.clone(),
        is_tls: cached.is_tls,
        is_unsafe: false,
        request: HeaderMap::new(),
        asked: Asked::default(),
        flight: Some(flight),
        ticket: None,
        stale: Some(object),
        given: None,
        news: None,
        storing: None,
        told: FORWARDED,
        percent: cached.percent,
        at: cached.at,
        is_background: true,
        is_identified: cached.is_identified,
        tiers: cached.tiers.clone(),
        claim: None,
    });
    let Some(mut headers) = outgoing.headers.clone() else { return };
    for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
        headers.remove(name);
    }
    of_refresh.request = headers.clone();
    let (loaded, connection) = (Rc::clone(&passage.loaded), Rc::clone(&passage.connection));
    let (mut line, client) = (passage.line.clone(), passage.client);
    line.method = Method::GET;
    let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
        let now = connection.worker.clock.now();
        let journey = {
            let mut core = loaded.core.borrow_mut();
            let draw = core.draw_request();
            let facts = RequestFacts::of(&Method::GET, &headers, &client, true);
            let subject = line.subject(&headers, &client, draw);
            let (snapshot, chain) = (&loaded.snapshot, connection.chain());
            Journey::begin(now, snapshot, chain, &subject, facts, &mut core, &loaded.clusters, &mut ())
        };
        let mut passage = Passage::new(&connection, &loaded, journey, line, &client, None);
        // It is none of a client's.
        add(&connection.worker.metrics.downstream.requests_total, -1);
        passage.cached = Some(of_refresh);
        let outgoing = Outgoing::of_refresh(&passage, headers);
        engine::refresh(passage, outgoing).await;
    });
    tokio::task::spawn_local(future);
}

/// A refresh has looked already, but not behind the memory: another gateway may have fetched it.
pub async fn go_on(passage: &mut Passage, outgoing: &mut Outgoing) -> Option<Action> {
    let looked = match search(passage, outgoing).await {
        Ok(Searched::Found) => Looked::Found,
        Ok(Searched::InMemory | Searched::Nothing) => fetch(passage, outgoing),
        Err(action) => return Some(action),
    };
    hear_looked(passage, looked);
    None
}
