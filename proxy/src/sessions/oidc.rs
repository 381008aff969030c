//! Logins at a provider of OpenID Connect, carried out: a browser is led there, comes back, and is logged in as if the
//! application had said who it is.
//!
//! What is believed is `naru_session::login`'s to say. Here an attempt is drawn, sealed into a cookie of its browser,
//! opened when it comes back, and ended in the store before its code is used, so that it ends once at all gateways.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{HOST, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use naru_base::Reason;
use naru_jose::secret;
use naru_session::login::{
    ATTEMPT_COOKIE, ATTEMPTS_MAX, Attempt, Callback, IdToken, LoginFault, accepts_a_page, identity,
};
use naru_session::{Family, Id};
use naru_spec::{OidcLogin, SessionAuth, defaults};

use super::cookie::{self, Found};
use super::{Note, give_cookies};
use crate::clock::wall_now;
use crate::loaded::Loaded;
use crate::worker::Worker;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What browsers keep of a cookie at most: its name and its value (RFC 6265, section 6.1).
const COOKIE_BYTES_MAX: usize = 4_096;

/// Somebody is to be led to the provider.
#[derive(Debug)]
pub struct Start {
    /// What his browser knows this gateway by.
    origin: Option<String>,
    back: String,
    /// Cookies of attempts that came to nothing, where there are too many.
    left: Vec<String>,
}

/// Somebody comes back.
#[derive(Debug)]
pub struct Back {
    query: String,
    /// The cookie of his attempt, and what it is called.
    sealed: Option<(String, Found)>,
    /// Of the session that he had before, if any.
    former: Vec<Id>,
}

/// Somebody has logged out with a form, and is led on.
#[derive(Debug)]
pub struct Out {
    origin: Option<String>,
}

impl Start {
    pub fn of(settings: &OidcLogin, headers: &HeaderMap, back: String) -> Start {
        let mut left = cookie::names(headers, ATTEMPT_COOKIE);
        if left.len() < ATTEMPTS_MAX {
            left.clear();
        }
        Start { origin: origin(settings, headers), back, left }
    }
}

impl Back {
    pub fn of(headers: &HeaderMap, query: &str, former: Vec<Id>) -> Back {
        let state = Callback::read(query).ok().filter(|read| read.state.parse::<Id>().is_ok());
        let sealed = state.map(|read| {
            let name = Attempt::cookie(&read.state);
            let found = cookie::find(headers, &name);
            (name, found)
        });
        Back { query: query.to_owned(), sealed, former }
    }
}

impl Out {
    /// `None` where a script has asked.
    pub fn of(settings: &OidcLogin, headers: &HeaderMap) -> Option<Out> {
        accepts_a_page(headers).then(|| Out { origin: origin(settings, headers) })
    }
}

/// What is said, or what the browser has asked for. The provider knows where it may send somebody back.
fn origin(settings: &OidcLogin, headers: &HeaderMap) -> Option<String> {
    if let Some(origin) = &settings.origin {
        return Some(origin.clone());
    }
    let host = headers.get(HOST)?.to_str().ok().filter(|host| !host.is_empty())?;
    let is_tls = headers.get(X_FORWARDED_PROTO).is_some_and(|scheme| scheme.as_bytes() == b"https");
    Some(format!("{}://{host}", if is_tls { "https" } else { "http" }))
}

fn lead(note: &mut Note, address: &str) -> Option<()> {
    let address = HeaderValue::from_str(address).ok()?;
    note.tell(LOCATION, address);
    note.answer = Some((StatusCode::FOUND, Bytes::new()));
    Some(())
}

fn fail(note: &mut Note, fault: &LoginFault) -> Reason {
    if matches!(fault, LoginFault::Away(_) | LoginFault::StoreAway) {
        note.tell(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    fault.reason()
}

/// Leads somebody to the provider.
pub async fn begin(note: &mut Note, start: Start, worker: &Rc<Worker>, loaded: &Rc<Loaded>) -> Reason {
    let here = Rc::clone(&note.here);
    let Some(provider) = &here.provider else { return Reason::SessionMissing };
    let metadata = match provider.metadata(worker, loaded).await {
        Ok(metadata) => metadata,
        Err(fault) => return fail(note, &fault),
    };
    let Some(origin) = start.origin else { return fail(note, &LoginFault::NoAnswer) };
    let drawn = || -> Option<Attempt> {
        let id = || secret::random().map(u128::from_be_bytes).map(Id).ok();
        let verifier = secret::random().ok()?;
        Some(Attempt { state: id()?, nonce: id()?, verifier, began: wall_now(), origin, back: start.back })
    };
    let Some(attempt) = drawn() else { return fail(note, &LoginFault::StoreAway) };
    let Some(sealed) = here.service.seal_attempt(&attempt.write()) else {
        return fail(note, &LoginFault::StoreAway);
    };
    // RFC 7636, section 4.2.
    let verifier = secret::to_text(&attempt.verifier);
    let challenge = secret::to_text(&secret::sha256(verifier.as_bytes()));
    let address = attempt.address(provider.settings(), &metadata, &challenge);
    for name in &start.left {
        forget(note, name);
    }
    let name = Attempt::cookie(&attempt.state.to_string());
    if let Some(value) = cookie::of_host(&name, &sealed, defaults::OIDC_ATTEMPT.as_secs()) {
        note.tell(SET_COOKIE, value);
    }
    if lead(note, &address).is_none() {
        return fail(note, &LoginFault::Away("it is at no address".to_owned()));
    }
    here.service.count_begun();
    Reason::SessionLogin
}

fn forget(note: &mut Note, name: &str) {
    if let Some(value) = cookie::of_host(name, "", 0) {
        note.tell(SET_COOKIE, value);
    }
}

/// Lets somebody in who comes back, or does not.
pub async fn finish(note: &mut Note, back: Back, worker: &Rc<Worker>, loaded: &Rc<Loaded>) -> Reason {
    let here = Rc::clone(&note.here);
    let Some(provider) = &here.provider else { return Reason::SessionMissing };
    // Whatever comes of it, it is over.
    if let Some((name, Found::One(_) | Found::Several)) = &back.sealed {
        forget(note, name);
    }
    match let_in(note, back, worker, loaded).await {
        Ok(address) => {
            provider.note(None);
            here.service.count_login();
            match lead(note, &address) {
                Some(()) => Reason::SessionAnswered,
                None => fail(note, &LoginFault::NoAnswer),
            }
        }
        Err(fault) => {
            provider.note(Some(&fault));
            here.service.count_refused_login();
            fail(note, &fault)
        }
    }
}

/// Where he goes on.
async fn let_in(
    note: &mut Note,
    back: Back,
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
) -> Result<String, LoginFault> {
    let here = Rc::clone(&note.here);
    let auth = &here.auth;
    let provider = here.provider.as_ref().ok_or(LoginFault::NoAnswer)?;
    let settings = provider.settings();
    let callback = Callback::read(&back.query)?;
    let Some((_, Found::One(sealed))) = &back.sealed else { return Err(LoginFault::OtherBrowser) };
    let attempt = here.service.open_attempt(sealed).ok_or(LoginFault::OtherBrowser)?;
    let metadata = provider.metadata(worker, loaded).await?;
    let code = attempt.accept(wall_now(), settings, &metadata, &callback, secret::is_equal)?;
    // Whoever is first uses the code, at whichever gateway.
    let until = attempt.began + defaults::OIDC_ATTEMPT;
    match here.service.end_attempt(attempt.state, until).await {
        Some(true) => {}
        Some(false) => return Err(LoginFault::Used),
        None => return Err(LoginFault::StoreAway),
    }
    let redeemed = provider.redeem(worker, loaded, &metadata, &attempt, &code).await?;
    let token = IdToken {
        typ: redeemed.typ.as_deref(),
        claims: &redeemed.claims,
        at_hash: redeemed.at_hash.as_deref(),
    };
    let skew = auth.access.skew;
    let (subject, claims) = identity(settings, &token, attempt.nonce, wall_now(), skew, secret::is_equal)?;
    let family = Family::begin(wall_now(), subject, claims, auth.refresh.lifetime);
    let pair = here.service.log_in(auth, family).await.ok_or(LoginFault::StoreAway)?;
    if !fits(auth, &pair.access) {
        return Err(LoginFault::Unbelievable(
            "what it says of somebody is too long for a cookie: take fewer claims",
        ));
    }
    give_cookies(auth, &pair, &mut note.told);
    // A browser has one session: who logs in again leaves none behind.
    if !back.former.is_empty() {
        here.service.log_out(auth, back.former, None).await;
    }
    Ok(attempt.way_back())
}

fn fits(auth: &SessionAuth, token: &str) -> bool {
    auth.access.cookie.as_ref().is_none_or(|name| name.len() + token.len() <= COOKIE_BYTES_MAX)
}

/// Leads on who has logged out: to the provider, or to where it is said.
pub async fn lead_out(note: &mut Note, out: Out, worker: &Rc<Worker>, loaded: &Rc<Loaded>) {
    let here = Rc::clone(&note.here);
    let Some(provider) = &here.provider else { return };
    let settings = provider.settings();
    let after = out
        .origin
        .map_or(settings.after_logout.clone(), |origin| format!("{origin}{}", settings.after_logout));
    let mut address = after.clone();
    if settings.logs_out_there
        // While the provider is away he is logged out here all the same.
        && let Ok(metadata) = provider.metadata(worker, loaded).await
        && let Some(there) = metadata.logout(settings, &after)
    {
        address = there;
    }
    if lead(note, &address).is_some() {
        // What follows a form is a page, whatever the form was (RFC 9110, section 15.4.4).
        note.answer = Some((StatusCode::SEE_OTHER, Bytes::new()));
    }
}
