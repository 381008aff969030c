//! May an answer be stored, and on what terms (RFC 9111, sections 3, 4.2 and 5.2.2)?

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use naru_base::{Instant, WallTime};
use naru_spec::{CachePolicy, defaults};

use crate::control::{Asked, Control};
use crate::list::{SECONDS_MAX, members, seconds};

/// Fields of one hop, and those between a client and its next proxy, are not stored (RFC 9111, section 3.1).
const UNSTORED: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What holds of an answer that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it came.
    pub came: Instant,
    /// How old it was then, in seconds.
    pub age: u32,
    pub lifetime: u32,
    /// Its route says the lifetime, not the answer itself.
    pub is_by_route: bool,
    pub stale_while_revalidate: u32,
    pub stale_if_error: u32,
    /// It is given to nobody before its origin was asked.
    pub asks_first: bool,
    /// It is given to nobody once it is stale.
    pub is_strict: bool,
}

impl Terms {
    /// The same, where lifetimes that routes say are so many percent of what they are else.
    pub fn stretched(&self, percent: u32) -> Terms {
        if percent == 100 || !self.is_by_route {
            return *self;
        }
        let lifetime = u64::from(self.lifetime) * u64::from(percent) / 100;
        Terms { lifetime: u32::try_from(lifetime).unwrap_or(SECONDS_MAX).min(SECONDS_MAX), ..*self }
    }

    /// In seconds.
    pub fn age_at(&self, now: Instant) -> u32 {
        let resident = u32::try_from(now.since(self.came).as_secs()).unwrap_or(SECONDS_MAX);
        self.age.saturating_add(resident).min(SECONDS_MAX)
    }

    /// How long past its lifetime it is; nothing where it is fresh.
    pub fn staleness(&self, now: Instant) -> Option<u32> {
        let age = self.age_at(now);
        (age >= self.lifetime).then(|| age - self.lifetime)
    }

    pub fn is_fresh(&self, now: Instant) -> bool {
        self.staleness(now).is_none()
    }
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Method,
    Status,
    /// The answer says so, or the request does.
    NoStore,
    Private,
    /// It was asked for by somebody in particular.
    Authorization,
    /// It sets a cookie, and does not say that it is for others.
    SetCookie,
    /// It says how it was chosen by a star.
    Vary,
    /// Its request says what may make it another one, and no key has that: see `unkeyed.rs`.
    Unkeyed,
    /// It would never be given to anybody.
    Useless,
}

/// An answer as it came.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    pub method: &'a Method,
    /// Of the request.
    pub request: &'a HeaderMap,
    pub status: u16,
    /// With a `Date`: see [`stored_head`].
    pub response: &'a HeaderMap,
    /// When the request was sent.
    pub sent: Instant,
    /// When the head of the answer was there, by both clocks.
    pub came: Instant,
    pub wall: WallTime,
    /// The URL that `Content-Location` names is that of the request.
    pub is_own_location: bool,
    /// Whoever asks was found out by a token that may not be in `request` any more, be it that it was in another place.
    pub is_identified: bool,
}

/// Whether a request of this kind is answered from what is kept.
pub fn may_use(method: &Method, headers: &HeaderMap) -> bool {
    // What is done under these conditions is for the origin to say (RFC 9110, sections 13.1.1 and 13.1.4).
    let is_for_origin =
        headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_UNMODIFIED_SINCE);
    // What else it says in a body is in no key.
    let length = headers.get(header::CONTENT_LENGTH).map_or(&b"0"[..], HeaderValue::as_bytes);
    let has_body = length != b"0" || headers.contains_key(header::TRANSFER_ENCODING);
    matches!(*method, Method::GET | Method::HEAD) && !is_for_origin && !has_body
}

/// Whether others may wait for what comes of it.
pub fn may_lead(method: &Method, headers: &HeaderMap, asked: &Asked) -> bool {
    let own = [
        header::AUTHORIZATION,
        header::RANGE,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_RANGE,
    ];
    let is_own = own.iter().any(|name| headers.contains_key(name)) || crate::unkeyed::is_swayed(headers);
    *method == Method::GET && !asked.no_store && !is_own
}

/// The head as it is kept: without what is for one hop, what must not be stored and how old it was; with a date.
pub fn stored_head(response: &HeaderMap, wall: WallTime) -> HeaderMap {
    let control = Control::of(response);
    let of_connection = response.get_all(header::CONNECTION).iter();
    let listed: Vec<HeaderName> = of_connection
        .flat_map(|value| members(value.as_bytes()))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .chain(control.unstored)
        .collect();
    let mut head = response.clone();
    for name in UNSTORED.iter().map(|name| HeaderName::from_static(name)).chain(listed) {
        head.remove(name);
    }
    head.remove(header::AGE);
    if !head.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::try_from(wall.http_date())
    {
        head.insert(header::DATE, date);
    }
    head
}

/// # Errors
/// It must not be stored, or there is no use in it.
pub fn terms(policy: &CachePolicy, fetched: &Fetched<'_>) -> Result<Terms, Refused> {
    let Fetched { method, request, status, response, .. } = *fetched;
    let control = Control::of(response);
    let is_explicit = control.is_explicit(response);
    let is_of_post = *method == Method::POST && is_explicit && fetched.is_own_location;
    if *method != Method::GET && !is_of_post {
        return Err(Refused::Method);
    }
    // Parts of answers are not kept, nor what only says that something has not changed.
    if !is_stored_status(status) || response.contains_key("grpc-status") {
        return Err(Refused::Status);
    }
    if control.must_understand {
        if !is_understood(status) {
            return Err(Refused::Status);
        }
    } else if control.no_store {
        return Err(Refused::NoStore);
    }
    if Asked::of(request, policy.obeys_requests).no_store {
        return Err(Refused::NoStore);
    }
    if control.private {
        return Err(Refused::Private);
    }
    let is_shared = control.public || control.must_revalidate || control.s_maxage.is_some();
    let is_said = request.contains_key(header::AUTHORIZATION);
    let is_in_key = is_said && policy.key.headers.contains(&header::AUTHORIZATION);
    if (is_said || fetched.is_identified) && !is_shared && !is_in_key {
        return Err(Refused::Authorization);
    }
    if response.contains_key(header::SET_COOKIE) && !is_explicit {
        return Err(Refused::SetCookie);
    }
    if crate::vary::selecting(response, request).is_none() {
        return Err(Refused::Vary);
    }
    if crate::unkeyed::is_unkeyed(policy, request, response) {
        return Err(Refused::Unkeyed);
    }
    let now = seconds_of(fetched.wall);
    let date = response.get(header::DATE).and_then(|date| crate::date::parse(date.as_bytes(), fetched.wall));
    let date = date.unwrap_or(now);
    let (lifetime, is_by_route) = match lifetime(policy, fetched, &control, date) {
        Some((lifetime, is_by_route)) => (Some(lifetime), is_by_route),
        None => (None, false),
    };
    let has_validator = response.contains_key(header::ETAG) || response.contains_key(header::LAST_MODIFIED);
    let usual = |said: Option<u32>, usual: Option<Duration>| said.or(usual.map(whole)).unwrap_or(0);
    let stale_while_revalidate = usual(control.stale_while_revalidate, policy.stale_while_revalidate);
    let stale_if_error = usual(control.stale_if_error, policy.stale_if_error);
    let is_never_fresh = lifetime.is_none_or(|lifetime| lifetime == 0);
    let asks_first = control.no_cache || (is_never_fresh && may_be_somebodys(policy, fetched, &control));
    let may_be_stale = lifetime.is_some()
        && !asks_first
        && !control.is_strict()
        && (stale_while_revalidate > 0 || stale_if_error > 0);
    if is_never_fresh && !has_validator && !may_be_stale {
        return Err(Refused::Useless);
    }
    if !is_explicit && lifetime.is_none() && !is_heuristic(status) && !control.public {
        return Err(Refused::Status);
    }
    Ok(Terms {
        came: fetched.came,
        age: initial_age(fetched, date, now),
        lifetime: lifetime.unwrap_or(0),
        is_by_route,
        stale_while_revalidate,
        stale_if_error,
        asks_first,
        is_strict: control.is_strict(),
    })
}

/// Whether an answer may be about somebody whose cookies its request has. Neither does it say that it is for all, nor
/// that it may be given stale; and neither its key nor `Vary` tells who has other cookies. Of one that is never fresh
/// nobody has said, either, that others may have it without asking: that a route gives stale answers is no such word.
fn may_be_somebodys(policy: &CachePolicy, fetched: &Fetched<'_>, control: &Control) -> bool {
    let says_so =
        control.public || control.stale_while_revalidate.is_some() || control.stale_if_error.is_some();
    let is_in_key = !policy.key.cookies.is_empty() || policy.key.headers.contains(&header::COOKIE);
    fetched.request.contains_key(header::COOKIE)
        && !says_so
        && !is_in_key
        && !crate::unkeyed::is_chosen_by(fetched.response, "cookie")
}

/// RFC 9111, section 4.2.1; what the route says stands behind what the answer says, unless it overrides that. With
/// whether it is the route that says it.
fn lifetime(
    policy: &CachePolicy,
    fetched: &Fetched<'_>,
    control: &Control,
    date: u64,
) -> Option<(u32, bool)> {
    let Fetched { request, status, response, wall, .. } = *fetched;
    let of_status = policy.negative.iter().find(|(range, _)| range.has(status));
    let of_route = match of_status {
        Some((_, lifetime)) => Some(*lifetime),
        None => policy.lifetime.filter(|_| is_heuristic(status) && status < 400),
    };
    let said = control.lifetime(response, date, wall).filter(|_| !policy.overrides || of_route.is_none());
    let may_guess = (is_heuristic(status) || control.public) && !control.no_cache;
    let said = said.map(|said| (said, false));
    said.or(of_route.map(|lifetime| (whole(lifetime), true))).or_else(|| {
        // An answer to somebody in particular that does not say that it is for others is not guessed about.
        let is_guessed = may_guess && !request.contains_key(header::COOKIE);
        let guessed = is_guessed.then(|| heuristic(response, date, wall)).flatten();
        guessed.map(|lifetime| (lifetime, false))
    })
}

/// A tenth of how long it had not changed (RFC 9111, section 4.2.2).
fn heuristic(response: &HeaderMap, date: u64, wall: WallTime) -> Option<u32> {
    let changed = crate::date::parse(response.get(header::LAST_MODIFIED)?.as_bytes(), wall)?;
    let unchanged = date.saturating_sub(changed);
    let max = defaults::CACHE_HEURISTIC_MAX.as_secs();
    u32::try_from((unchanged / 10).min(max)).ok().filter(|lifetime| *lifetime > 0)
}

/// RFC 9111, section 4.2.3.
fn initial_age(fetched: &Fetched<'_>, date: u64, now: u64) -> u32 {
    let delay = fetched.came.since(fetched.sent).as_secs();
    let corrected = age_said(fetched.response).map_or(0, u64::from) + delay;
    let apparent = now.saturating_sub(date);
    u32::try_from(corrected.max(apparent)).unwrap_or(SECONDS_MAX).min(SECONDS_MAX)
}

/// The first member; what is no number says nothing (RFC 9111, section 5.1).
fn age_said(response: &HeaderMap) -> Option<u32> {
    seconds(members(response.get(header::AGE)?.as_bytes()).next()?)
}

pub(crate) fn is_stored_status(status: u16) -> bool {
    (200..1_000).contains(&status) && !matches!(status, 206 | 304 | 416)
}

/// Whether a field is never kept.
pub(crate) fn is_unstored_field(name: &str) -> bool {
    UNSTORED.contains(&name) || name == "age"
}

/// What may be kept that says nothing of it (RFC 9110, section 15.1); but for parts of answers.
fn is_heuristic(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether all that a status says about caching is known here.
fn is_understood(status: u16) -> bool {
    let is_known = StatusCode::from_u16(status).is_ok_and(|status| status.canonical_reason().is_some());
    is_known && !matches!(status, 206 | 304 | 416)
}

fn whole(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(SECONDS_MAX).min(SECONDS_MAX)
}

fn seconds_of(wall: WallTime) -> u64 {
    wall.0 / 1_000_000_000
}

#[cfg(test)]
mod tests;
