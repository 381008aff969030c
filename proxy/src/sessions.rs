//! Login sessions, carried out.
//!
//! `naru_session` decides what a request is to sessions and what its token is worth. [`SessionsHere::meet`] asks it when a
//! head has come, before any rule: what is refused there costs nothing else. What naru answers itself (another pair of
//! tokens, a logout) needs the store: [`carry_out`] waits for it. [`pass_on`] makes a session of the application's answer
//! to a login. What a client is to know stands in the [`Note`] of its request, and goes into whatever answer it gets.
//!
//! No token is in a text that is logged: headers with one are marked as sensitive.

mod cookie;
mod keys;
mod oidc;
mod provider;
mod service;
mod verify;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, AUTHORIZATION,
    CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, SET_COOKIE, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use naru_base::{Json, Reason, WallTime};
use naru_identity::Token;
use naru_journey::arrival::Wish;
use naru_journey::gate::cors;
use naru_journey::reply::Reply;
use naru_session::login::{self, ATTEMPT_COOKIE};
use naru_session::{Family, Id, Said, Verdict, Way, way};
use naru_spec::{SessionAuth, SessionClaim};

pub use provider::Provider;
pub use service::{Ended as SessionsEnded, Service, SessionStatus};

use crate::engine;
use crate::loaded::Loaded;
use crate::settle::{Broken, OutBody, Passage};
use crate::worker::Worker;
use cookie::Found;
use service::{Known, Pair, Refreshed};
use verify::Cache;

const REFRESH_NEEDED: HeaderName = HeaderName::from_static("x-token-refresh-needed");
const RELOGIN_REQUIRED: HeaderName = HeaderName::from_static("x-relogin-required");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const TRUE: HeaderValue = HeaderValue::from_static("true");
/// What pages of other origins may read.
const EXPOSED: &[&str] = &["X-Token-Refresh-Needed", "X-Relogin-Required", "Authorization"];
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// How long others may keep our keys.
const KEYS_AGE_MAX: Duration = Duration::from_secs(300);

/// The sessions of a chain, as one worker has them.
#[derive(Debug)]
pub struct SessionsHere {
    auth: Arc<SessionAuth>,
    service: Arc<Service>,
    /// Where people log in, if it is not the application.
    provider: Option<Arc<Provider>>,
    version: Cell<u64>,
    known: RefCell<Arc<Known>>,
    cache: Cache,
}

/// What is still to be done for a request.
#[derive(Debug)]
enum Pending {
    Nothing,
    /// The answer of the application says who it is.
    Login,
    Refresh(Found),
    /// The ids of the token, where it is ours; and the cookie; and where a page follows.
    Logout(Vec<Id>, Found, Option<oidc::Out>),
    /// To the provider.
    Start(oidc::Start),
    /// From the provider.
    Back(oidc::Back),
}

/// What sessions make of a request.
pub struct Met {
    /// What becomes of it.
    pub wish: Wish,
    pub note: Option<Box<Note>>,
    /// Its token, where that is good.
    pub token: Option<Arc<Token>>,
}

/// What sessions have to say to a request.
pub struct Note {
    here: Rc<SessionsHere>,
    pending: Pending,
    /// Its page stands somewhere else.
    origin: Option<HeaderValue>,
    told: Vec<(HeaderName, HeaderValue)>,
    /// naru's own answer.
    answer: Option<(StatusCode, Bytes)>,
}

impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Note").field("sessions", &self.here.auth.name).finish_non_exhaustive()
    }
}

/// A pair that a request was given before anybody looked at it.
#[derive(Clone)]
struct Renewed(Vec<(HeaderName, HeaderValue)>);

/// A head, as far as sessions look at it.
pub struct Head<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a mut HeaderMap,
    pub extensions: &'a http::Extensions,
}

impl SessionsHere {
    pub fn new(
        auth: &Arc<SessionAuth>,
        service: &Arc<Service>,
        provider: Option<&Arc<Provider>>,
    ) -> Rc<SessionsHere> {
        Rc::new(SessionsHere {
            auth: Arc::clone(auth),
            service: Arc::clone(service),
            provider: provider.cloned(),
            version: Cell::new(0),
            known: RefCell::default(),
            cache: Cache::default(),
        })
    }

    fn known(&self) -> Arc<Known> {
        let version = self.service.version();
        if self.version.replace(version) != version {
            *self.known.borrow_mut() = self.service.known();
        }
        Arc::clone(&self.known.borrow())
    }

    /// Says what becomes of a request, and what its answer is to say.
    #[cold]
    pub fn meet(self: &Rc<Self>, now: WallTime, head: &mut Head<'_>, wish: Wish) -> Met {
        if !matches!(wish, Wish::Route | Wish::Upgrade) {
            return Met { wish, note: None, token: None };
        }
        let auth = &*self.auth;
        let headers = &mut *head.headers;
        for SessionClaim { header, .. } in &auth.access.to_headers {
            headers.remove(header);
        }
        let origin = headers.get(ORIGIN).cloned();
        let is_preflight = origin.is_some() && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let way = way::way(auth, head.method, head.path, is_preflight);
        let mut note =
            Note { here: Rc::clone(self), pending: Pending::Nothing, origin, told: Vec::new(), answer: None };
        let mut token = None;
        let wish = match way {
            Way::Protected | Way::Public => {
                let is_asked = way == Way::Protected;
                if let Some(Renewed(told)) = head.extensions.get::<Renewed>() {
                    note.told.extend(told.iter().cloned());
                }
                // He is led somewhere only as long as what he has brought is still there.
                let start = (is_asked && wish == Wish::Route)
                    .then(|| self.start(head.method, headers, head.path, head.query));
                let judged = self.judged(now, head.method, headers, is_asked, &mut note);
                let refused = judged.as_ref().err().copied();
                token = judged.ok();
                match refused {
                    Some(Reason::SessionStoreAway) if is_asked => Wish::Refuse(Reason::SessionStoreAway),
                    Some(_) if let Some(Some(start)) = start => {
                        note.told.clear();
                        note.pending = Pending::Start(start);
                        Wish::Refuse(Reason::SessionLogin)
                    }
                    Some(reason) if is_asked => Wish::Refuse(reason),
                    Some(_) | None if note.told.is_empty() => return Met { wish, note: None, token },
                    _ => wish,
                }
            }
            Way::Login => {
                self.strip(headers);
                note.pending = Pending::Login;
                wish
            }
            Way::Start => {
                let back = login::wanted_back(head.query.unwrap_or_default());
                note.pending = self.provider.as_ref().map_or(Pending::Nothing, |provider| {
                    Pending::Start(oidc::Start::of(provider.settings(), headers, back))
                });
                Wish::Refuse(Reason::SessionLogin)
            }
            Way::Callback => {
                let former = self.ids(now, headers);
                note.pending = Pending::Back(oidc::Back::of(headers, head.query.unwrap_or_default(), former));
                Wish::Refuse(Reason::SessionAnswered)
            }
            Way::Refresh | Way::Logout if !may_ask(auth, headers) => Wish::Refuse(Reason::SessionOrigin),
            Way::Refresh => {
                note.pending = Pending::Refresh(cookie::find(headers, &auth.refresh.cookie));
                Wish::Refuse(Reason::SessionAnswered)
            }
            Way::Logout => {
                let ids = self.ids(now, headers);
                let settings = self.provider.as_ref().map(|provider| provider.settings());
                let out = settings.and_then(|settings| oidc::Out::of(settings, headers));
                note.pending = Pending::Logout(ids, cookie::find(headers, &auth.refresh.cookie), out);
                Wish::Refuse(Reason::SessionAnswered)
            }
            Way::Keys => Wish::Refuse(self.publish(now, &mut note)),
            Way::Preflight => {
                note.allow(head.path);
                Wish::Refuse(Reason::SessionAnswered)
            }
            Way::MethodNotAllowed => {
                let allowed = if head.path == auth.jwks_path { "GET, HEAD" } else { "POST" };
                note.tell(ALLOW, HeaderValue::from_static(allowed));
                note.answer = Some((StatusCode::METHOD_NOT_ALLOWED, Bytes::new()));
                Wish::Refuse(Reason::SessionAnswered)
            }
        };
        Met { wish, note: Some(Box::new(note)), token }
    }

    /// To the provider, where there is one and a person waits for this page.
    fn start(
        &self,
        method: &Method,
        headers: &HeaderMap,
        path: &str,
        query: Option<&str>,
    ) -> Option<oidc::Start> {
        let provider = self.provider.as_ref().filter(|_| login::is_navigation(method, headers))?;
        let wanted = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        Some(oidc::Start::of(provider.settings(), headers, login::way_back(&wanted)))
    }

    /// The token of a request, and whether its browser has brought it by itself. Two are none.
    fn shown(&self, headers: &HeaderMap) -> Result<Option<(String, bool)>, ()> {
        if let Some(token) = token_of(headers)? {
            return Ok(Some((token, false)));
        }
        let Some(name) = &self.auth.access.cookie else { return Ok(None) };
        match cookie::find(headers, name) {
            Found::One(token) if !token.is_empty() => Ok(Some((token, true))),
            Found::One(_) | Found::None => Ok(None),
            Found::Several => Err(()),
        }
    }

    /// Cookies that are between browsers and naru.
    fn strip(&self, headers: &mut HeaderMap) {
        if let Some(access) = &self.auth.access.cookie {
            let refresh = &self.auth.refresh.cookie;
            cookie::strip(headers, |name| {
                name == access || name == refresh || name.starts_with(ATTEMPT_COOKIE)
            });
        }
    }

    /// Looks at the token of a request.
    ///
    /// # Errors
    /// Why it is refused.
    fn judged(
        &self,
        now: WallTime,
        method: &Method,
        headers: &mut HeaderMap,
        is_asked: bool,
        note: &mut Note,
    ) -> Result<Arc<Token>, Reason> {
        let shown = self.shown(headers);
        // What a browser brings by itself, pages of others may have it bring.
        let may_act = (method.is_safe() && !headers.contains_key(UPGRADE)) || may_ask(&self.auth, headers);
        self.strip(headers);
        let (token, is_brought) = match shown {
            Ok(Some((_, true))) if !may_act => return Err(Reason::SessionOrigin),
            Ok(Some(shown)) => shown,
            Ok(None) => {
                if is_asked {
                    note.challenge(None);
                }
                return Err(Reason::SessionMissing);
            }
            Err(()) => {
                if is_asked {
                    note.challenge(Some("invalid_token"));
                }
                return Err(Reason::SessionInvalid);
            }
        };
        let known = self.known();
        let Some(keys) = &known.keys else {
            return Err(if is_asked { away(note) } else { Reason::SessionStoreAway });
        };
        let (verdict, verified) = verify::verdict(&self.cache, &known, keys, &self.auth, now, &token);
        if verdict.needs_refresh() {
            note.tell(REFRESH_NEEDED, TRUE);
        }
        if verdict.needs_login() {
            note.tell(RELOGIN_REQUIRED, TRUE);
        }
        // What is served has a signature that holds.
        let refusal = verdict.refusal().or(verified.is_none().then_some(Reason::SessionInvalid));
        let (None, Some(verified)) = (refusal, &verified) else {
            if is_asked {
                note.challenge(Some("invalid_token"));
            }
            // Whoever reads our keys would believe one of ours that does not count any more. Another's stays.
            if verified.is_some() && !is_brought {
                headers.remove(AUTHORIZATION);
            }
            return Err(refusal.unwrap_or(Reason::SessionInvalid));
        };
        for SessionClaim { claim, header } in &self.auth.access.to_headers {
            let value = verified.token.claims.get(claim).and_then(as_header);
            if let Some(value) = value {
                headers.insert(header, value);
            }
        }
        if !self.auth.access.is_forwarded {
            headers.remove(AUTHORIZATION);
        } else if is_brought
            && !headers.contains_key(AUTHORIZATION)
            && let Some(bearer) = bearer_of(&token)
        {
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(Arc::clone(&verified.token))
    }

    /// Of the token of who logs out. It may have expired meanwhile, or its key may have been replaced.
    fn ids(&self, now: WallTime, headers: &HeaderMap) -> Vec<Id> {
        let Ok(Some((token, _))) = self.shown(headers) else { return Vec::new() };
        let known = self.known();
        let Some(keys) = &known.keys else { return Vec::new() };
        let (_, verified) = verify::verdict(&self.cache, &known, keys, &self.auth, now, &token);
        verified.map_or(Vec::new(), |verified| vec![verified.claims.jti, verified.claims.sid])
    }

    fn publish(&self, now: WallTime, note: &mut Note) -> Reason {
        let known = self.known();
        let Some(keys) = &known.keys else { return Reason::SessionStoreAway };
        let age = KEYS_AGE_MAX.min(self.auth.keys.rotate_every / 2).as_secs();
        note.tell(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={age}")) {
            note.tell(CACHE_CONTROL, value);
        }
        note.answer = Some((StatusCode::OK, keys.published(now, &self.auth).into()));
        Reason::SessionAnswered
    }

    /// Whether requests of this chain may be given another pair on their way.
    pub fn renews(&self) -> bool {
        self.auth.is_transparent
    }

    /// Where a safe request has a token that is to be refreshed, and the cookie: has it refreshed, and gives the request
    /// the new one.
    pub async fn renew(&self, now: WallTime, parts: &mut http::request::Parts) {
        if !parts.method.is_safe() {
            return;
        }
        let Ok(Some((token, is_brought))) = self.shown(&parts.headers) else { return };
        if is_brought && parts.headers.contains_key(AUTHORIZATION) {
            return;
        }
        let Found::One(refresh) = cookie::find(&parts.headers, &self.auth.refresh.cookie) else { return };
        let verdict = {
            let known = self.known();
            let Some(keys) = &known.keys else { return };
            verify::verdict(&self.cache, &known, keys, &self.auth, now, &token).0
        };
        if !matches!(verdict, Verdict::Expired | Verdict::KeyRotated) || !may_ask(&self.auth, &parts.headers)
        {
            return;
        }
        if let Refreshed::Pair(pair) = self.service.refresh(&self.auth, refresh).await
            && let Some(bearer) = bearer(&pair)
        {
            let mut told = Vec::new();
            give(&self.auth, &pair, &mut told);
            parts.headers.insert(AUTHORIZATION, bearer);
            parts.extensions.insert(Renewed(told));
        }
    }
}

impl Note {
    fn tell(&mut self, name: HeaderName, value: HeaderValue) {
        self.told.push((name, value));
    }

    /// RFC 6750, section 3.
    fn challenge(&mut self, error: Option<&str>) {
        let realm = &self.here.auth.issuer;
        let text = match error {
            Some(error) => format!("Bearer realm=\"{realm}\", error=\"{error}\""),
            None => format!("Bearer realm=\"{realm}\""),
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            self.tell(WWW_AUTHENTICATE, value);
        }
    }

    /// The answer to a browser that asks whether it may ask.
    fn allow(&mut self, path: &str) {
        self.answer = Some((StatusCode::NO_CONTENT, Bytes::new()));
        if self.may_read() {
            let methods = if path == self.here.auth.jwks_path { "GET" } else { "POST" };
            self.tell(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
            self.tell(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Authorization, Content-Type"));
            self.tell(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }

    fn may_read(&self) -> bool {
        let origin = self.origin.as_ref().and_then(|origin| origin.to_str().ok());
        origin.is_some_and(|origin| way::is_named(&self.here.auth, origin))
    }

    pub fn is_login(&self) -> bool {
        matches!(self.pending, Pending::Login)
    }

    /// Whether the store is to be asked before the request is answered.
    pub fn is_pending(&self) -> bool {
        !matches!(self.pending, Pending::Nothing | Pending::Login)
    }

    /// Says in an answer of the application what is to be said.
    pub fn dress(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.told {
            if *name == AUTHORIZATION || *name == CACHE_CONTROL {
                headers.insert(name, value.clone());
            } else {
                headers.append(name, value.clone());
            }
        }
    }

    /// Whether a page may read the answer is said by who answers, or by a policy; of ours it may read these, beside what
    /// else is exposed. To be called when all others have spoken.
    pub fn expose(&self, headers: &mut HeaderMap) {
        if self.origin.is_some() && !self.told.is_empty() {
            cors::expose(headers, EXPOSED);
        }
    }

    /// The same, where naru answers: with what was decided, or why not.
    pub fn dress_reply(&mut self, reply: &mut Reply) {
        if let Some((status, body)) = self.answer.take() {
            (reply.status, reply.body) = (status, body);
            reply.headers.remove(CONTENT_TYPE);
        }
        for (name, value) in self.told.drain(..) {
            reply.headers.append(name, value);
        }
        if !reply.headers.contains_key(CACHE_CONTROL) {
            reply.headers.insert(CACHE_CONTROL, NO_STORE);
        }
        if self.origin.is_some() {
            cors::vary_by_origin(&mut reply.headers);
        }
        if self.may_read()
            && let Some(origin) = self.origin.take()
        {
            reply.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            reply.headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if reply.headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            cors::expose(&mut reply.headers, EXPOSED);
        }
    }

    fn forget_cookie(&mut self) {
        if let Some(value) = cookie::set(&self.here.auth.refresh, "", 0) {
            self.tell(SET_COOKIE, value);
        }
        let access = self.here.auth.access.cookie.as_ref();
        if let Some(value) = access.and_then(|name| cookie::of_host(name, "", 0)) {
            self.tell(SET_COOKIE, value);
        }
    }
}

/// Whose sessions a request is for.
pub enum Whose<'a> {
    /// Its host has none.
    Nobodys,
    /// They should be there, and are not.
    Missing,
    These(&'a Rc<SessionsHere>),
}

/// The sessions of the chain for requests to this host.
pub fn of<'a>(
    loaded: &'a Loaded,
    chain: naru_journey::ChainId,
    authority: Option<&HeaderValue>,
) -> Whose<'a> {
    let all = &loaded.snapshot.chain(chain).http.sessions;
    // What is no text is no host that anybody has named.
    let authority = authority.and_then(|authority| authority.to_str().ok()).unwrap_or("");
    let Some(at) = SessionAuth::of_host(all, authority) else { return Whose::Nobodys };
    let here = loaded.sessions.get(chain.0 as usize).and_then(|here| here.get(at));
    here.map_or(Whose::Missing, Whose::These)
}

/// Those that may replace the token of a request before anybody looks at it. Its head is as it came.
pub fn renewing<'a>(
    loaded: &'a Loaded,
    chain: naru_journey::ChainId,
    parts: &http::request::Parts,
) -> Option<&'a Rc<SessionsHere>> {
    let of_target = parts.uri.authority().and_then(|said| HeaderValue::from_str(said.as_str()).ok());
    match of(loaded, chain, of_target.as_ref().or_else(|| parts.headers.get(HOST))) {
        Whose::These(here) if here.renews() => Some(here),
        _ => None,
    }
}

/// Asks the store what a request needs that naru answers itself. Returns why it is answered.
pub async fn carry_out(note: &mut Note, worker: &Rc<Worker>, loaded: &Rc<Loaded>) -> Reason {
    let here = Rc::clone(&note.here);
    let auth = &here.auth;
    match std::mem::replace(&mut note.pending, Pending::Nothing) {
        Pending::Nothing | Pending::Login => Reason::SessionAnswered,
        Pending::Start(start) => oidc::begin(note, start, worker, loaded).await,
        Pending::Back(back) => oidc::finish(note, back, worker, loaded).await,
        Pending::Refresh(Found::One(token)) => match here.service.refresh(auth, token).await {
            Refreshed::Pair(pair) => {
                give(auth, &pair, &mut note.told);
                note.tell(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let said = Json::Map(vec![
                    ("accessToken".to_owned(), Json::from(pair.access.as_str())),
                    ("tokenType".to_owned(), Json::from("Bearer")),
                    ("expiresIn".to_owned(), Json::from(pair.access_lifetime.as_secs() as i64)),
                ]);
                note.answer = Some((StatusCode::OK, naru_jose::write_json(&said).into()));
                Reason::SessionAnswered
            }
            Refreshed::Refused => {
                note.forget_cookie();
                note.tell(RELOGIN_REQUIRED, TRUE);
                Reason::SessionRevoked
            }
            Refreshed::Away => away(note),
        },
        Pending::Refresh(Found::None | Found::Several) => {
            note.forget_cookie();
            note.tell(RELOGIN_REQUIRED, TRUE);
            Reason::SessionMissing
        }
        Pending::Logout(ids, found, out) => {
            let token = match found {
                Found::One(token) => Some(token),
                Found::None | Found::Several => None,
            };
            if ids.is_empty() && token.is_none() {
                note.tell(RELOGIN_REQUIRED, TRUE);
                note.challenge(None);
                return Reason::SessionMissing;
            }
            let is_everywhere = here.service.log_out(auth, ids, token).await;
            note.forget_cookie();
            // It holds here; elsewhere once the store is back.
            let status = if is_everywhere { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED };
            note.answer = Some((status, Bytes::new()));
            if let Some(out) = out {
                oidc::lead_out(note, out, worker, loaded).await;
            }
            Reason::SessionAnswered
        }
    }
}

fn away(note: &mut Note) -> Reason {
    note.tell(RETRY_AFTER, HeaderValue::from_static("1"));
    Reason::SessionStoreAway
}

/// Makes a session of an answer that says who has logged in, and passes it on.
pub async fn pass_on(mut passage: Box<Passage>) -> Result<Response<OutBody>, Broken> {
    let here = passage.session.as_ref().filter(|note| note.is_login()).map(|note| Rc::clone(&note.here));
    let (Some(here), Some(head)) =
        (here, passage.response.as_mut().and_then(|received| received.head.as_mut()))
    else {
        return engine::pass_on(passage);
    };
    let auth = &here.auth;
    let subject = text_of(head.headers.remove(&auth.subject_header));
    let said = auth.claims.iter().filter_map(|SessionClaim { claim, header }| {
        text_of(head.headers.remove(header)).map(|value| (claim.clone(), Said::Text(value)))
    });
    let claims: Vec<(String, Said)> = said.collect();
    let Some(subject) = subject.filter(|_| head.status.is_success()) else { return engine::pass_on(passage) };
    let family = Family::begin(crate::clock::wall_now(), subject, claims, auth.refresh.lifetime);
    match here.service.log_in(auth, family).await {
        Some(pair) => {
            here.service.count_login();
            if let Some(note) = &mut passage.session {
                give(auth, &pair, &mut note.told);
            }
            engine::pass_on(passage)
        }
        None => {
            if let Some(note) = &mut passage.session {
                away(note);
            }
            passage.leave_response();
            passage.journey.answer_instead(Reason::SessionStoreAway);
            let _ = passage.journey.next_action();
            Ok(engine::answer(passage, Reason::SessionStoreAway, None))
        }
    }
}

/// The pair as its owner gets it: one in a header, one in a cookie that no script reads.
fn give(auth: &SessionAuth, pair: &Pair, told: &mut Vec<(HeaderName, HeaderValue)>) {
    if let Some(bearer) = bearer(pair) {
        told.push((AUTHORIZATION, bearer));
    }
    give_cookies(auth, pair, told);
}

/// The same without the header: what a browser keeps.
fn give_cookies(auth: &SessionAuth, pair: &Pair, told: &mut Vec<(HeaderName, HeaderValue)>) {
    // It lasts as long as the session, so that one that has expired is there to be refreshed.
    let seconds = pair.refresh_lifetime.as_secs();
    let access = auth.access.cookie.as_ref();
    if let Some(value) = access.and_then(|name| cookie::of_host(name, &pair.access, seconds)) {
        told.push((SET_COOKIE, value));
    }
    if let Some(value) = cookie::set(&auth.refresh, &pair.refresh, pair.refresh_lifetime.as_secs()) {
        told.push((SET_COOKIE, value));
    }
    told.push((CACHE_CONTROL, NO_STORE));
}

fn bearer(pair: &Pair) -> Option<HeaderValue> {
    bearer_of(&pair.access)
}

fn bearer_of(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The bearer token of a request. Two are none.
fn token_of(headers: &HeaderMap) -> Result<Option<String>, ()> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(());
    }
    let Ok(text) = value.to_str() else { return Err(()) };
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim().to_owned())),
        // Another way to say who one is, which is none of ours.
        _ => Ok(None),
    }
}

fn may_ask(auth: &SessionAuth, headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    way::may_ask(auth, text(&ORIGIN), text(&SEC_FETCH_SITE), text(&HOST))
}

fn text_of(value: Option<HeaderValue>) -> Option<String> {
    let value = value?;
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn as_header(claim: &Json) -> Option<HeaderValue> {
    let text = match claim {
        Json::Text(text) => text.clone(),
        other => naru_jose::write_json(other),
    };
    HeaderValue::from_bytes(text.as_bytes()).ok()
}
