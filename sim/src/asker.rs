//! Who asks, as it is said instead of found out.
//!
//! A simulated request, and one that is only thought of (`naru explain`), shows no secret: its [`Asker`] says whose
//! token, key, password or session it would show, and whether that holds. Here it is put where the checks of a chain
//! look for it, and their questions about it are answered. Everything else is decided as of a request that was sent:
//! where a token stands, who may have issued it, whether what it claims is accepted, what is made of that.
//!
//! | what is asked                     | what is answered                                                   |
//! |-----------------------------------|--------------------------------------------------------------------|
//! | what a token claims               | what is said; refused as it would be where it is none of that kind |
//! | whose a key is                    | the client that is said, nobody where there is none of that name    |
//! | whether a password is right       | what is said of it                                                 |
//! | what a login session is worth     | what is said of it, judged as `naru_session` judges tokens          |
//!
//! Deliberately not here: cryptography, cookies that clients keep, logins.

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, header::COOKIE};
use naru_base::{Json, Reason};
use naru_identity::{Denial, Token, TokenPlace};
use naru_journey::Snapshot;
use naru_journey::arrival::Wish;
use naru_journey::gate::credentials::{Shown, Who, basic};
use naru_journey::gate::tokens::{Read, Reading};
use naru_journey::gate::{Answer, CompiledCheck, CompiledGate, Question};
use naru_session::{Verdict, Way, way};
use naru_spec::{Credentials, KeyPlace, KeySource, SessionAuth, SessionClaim};
use serde::Deserialize;

/// What stands in a request for a token, a key, a password. Nobody else writes these by accident.
const TOKEN: &str = "naru.said.token";
const KEY: &str = "naru-said-key";
const PASSWORD: &str = "naru-said-password";
const ANOTHER: &str = "naru-said-another";

/// Whether what a request shows stands for what was said.
pub fn is_said(shown: &[u8]) -> bool {
    [TOKEN, KEY, PASSWORD, ANOTHER].iter().any(|said| said.as_bytes() == shown)
}

/// Whoever asks, and what he shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asker {
    pub token: Option<SaidToken>,
    /// Whose key is shown.
    pub key: Option<String>,
    pub user: Option<String>,
    /// His password is another one.
    pub has_wrong_password: bool,
    pub session: Option<SaidSession>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SaidToken {
    pub claims: Json,
    pub is: TokenIs,
}

/// What a token is worth before anybody looks at what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenIs {
    /// Signed by its issuer.
    #[default]
    Signed,
    /// Signed by its issuer, and its time is over.
    Expired,
    /// Signed by its issuer, and its time has not come.
    Early,
    /// Signed by somebody else.
    Forged,
    /// No token at all.
    Garbled,
    /// Signed by a key that nobody can fetch.
    KeysAway,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SaidSession {
    pub claims: Json,
    pub is: SessionIs,
}

/// What the token of a session is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionIs {
    #[default]
    Live,
    /// It is served, and to be refreshed.
    Stale,
    Expired,
    /// Its key was replaced, and is not served any more.
    KeyRotated,
    /// He has logged out.
    LoggedOut,
    Forged,
}

/// Where the checks of a chain look for what is shown.
#[derive(Clone, Debug, Default)]
pub struct Places {
    tokens: Vec<TokenPlace>,
    keys: Vec<KeyPlace>,
    passwords: Vec<HeaderName>,
}

impl Places {
    pub fn of(gate: Option<&CompiledGate>) -> Places {
        let mut places = Places::default();
        for check in gate.into_iter().flat_map(CompiledGate::all) {
            match check {
                CompiledCheck::Tokens(tokens) => places.tokens.extend(tokens.places()),
                CompiledCheck::Keys(keys) => places.keys.extend(keys.places().iter().cloned()),
                CompiledCheck::Passwords(passwords) => places.passwords.push(passwords.place().clone()),
                _ => {}
            }
        }
        places.tokens.sort();
        places.tokens.dedup();
        places
    }

    /// What is said of somebody and looked for nowhere.
    pub fn unused(&self, asker: &Asker) -> Option<&'static str> {
        let unused = [
            (asker.token.is_some() && self.tokens.is_empty(), "token"),
            (asker.key.is_some() && self.keys.is_empty(), "key"),
            (asker.user.is_some() && self.passwords.is_empty(), "user"),
        ];
        unused.into_iter().find(|(is_unused, _)| *is_unused).map(|(_, name)| name)
    }
}

impl Asker {
    /// Puts what is shown where it is looked for. What stands there already stays.
    pub fn dress(&self, places: &Places, headers: &mut HeaderMap, path: &mut PathAndQuery) {
        if let Some(user) = &self.user {
            let password = if self.has_wrong_password { ANOTHER } else { PASSWORD };
            for name in &places.passwords {
                if let Some(value) = basic(user, password).filter(|_| !headers.contains_key(name)) {
                    headers.insert(name, value);
                }
            }
        }
        if self.token.is_some() {
            show_token(&places.tokens, headers, path);
        }
        if self.key.is_some() {
            // Each check looks at its places in turn: the first that is free is looked at by all that have it.
            for place in &places.keys {
                if show_key(place, headers, path) {
                    break;
                }
            }
        }
    }

    /// Writes another text in the place of a part of names and claims.
    pub fn put(&mut self, part: &str, text: &str) {
        let names = [&mut self.key, &mut self.user];
        names.into_iter().flatten().for_each(|name| *name = name.replace(part, text));
        let claims = [
            self.token.as_mut().map(|said| &mut said.claims),
            self.session.as_mut().map(|said| &mut said.claims),
        ];
        claims.into_iter().flatten().for_each(|claims| put(claims, part, text));
    }

    /// What is said to a question of a check. `None` where it is about something else.
    pub fn answer(
        asker: Option<&Asker>,
        question: &Question,
        snapshot: &Snapshot,
        now: i64,
    ) -> Option<Answer> {
        match question {
            Question::Read(reading) => Some(Answer::Read(read(asker, reading, now))),
            Question::Who(shown) => Some(Answer::Who(who(asker, shown, snapshot))),
            _ => None,
        }
    }

    /// Whom a login session makes of a request, before any rule is asked: the counterpart of the proxy's
    /// `SessionsHere::meet`. What naru answers itself (a refresh, a logout) it answers well.
    pub fn meet(
        asker: Option<&Asker>,
        auth: &SessionAuth,
        method: &Method,
        path: &str,
        headers: &mut HeaderMap,
        wish: Wish,
    ) -> (Wish, Option<Arc<Token>>) {
        if !matches!(wish, Wish::Route | Wish::Upgrade) {
            return (wish, None);
        }
        for SessionClaim { header, .. } in &auth.access.to_headers {
            headers.remove(header);
        }
        let is_preflight = headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let way = way::way(auth, method, path, is_preflight);
        match way {
            Way::Protected | Way::Public => {
                let said = asker.and_then(|asker| asker.session.as_ref());
                let refusal = match said {
                    Some(said) => said.is.verdict().refusal(),
                    None => Some(Reason::SessionMissing),
                };
                match refusal {
                    Some(reason) if way == Way::Protected => (Wish::Refuse(reason), None),
                    Some(_) => (wish, None),
                    None => {
                        let claims = said.map_or(Json::Null, |said| said.claims.clone());
                        for SessionClaim { claim, header } in &auth.access.to_headers {
                            let value = claims.get(claim).and_then(as_header);
                            value.into_iter().for_each(|value| drop(headers.insert(header, value)));
                        }
                        (wish, Some(Arc::new(Token { claims, payload: "".into() })))
                    }
                }
            }
            Way::Login => (wish, None),
            Way::Start => (Wish::Refuse(Reason::SessionLogin), None),
            Way::Callback
            | Way::Refresh
            | Way::Logout
            | Way::Keys
            | Way::Preflight
            | Way::MethodNotAllowed => (Wish::Refuse(Reason::SessionAnswered), None),
        }
    }
}

impl SessionIs {
    /// As whoever had looked at the token would have judged it.
    pub fn verdict(self) -> Verdict {
        match self {
            SessionIs::Live => Verdict::Served,
            SessionIs::Stale => Verdict::ServedAndStale,
            SessionIs::Expired => Verdict::Expired,
            SessionIs::KeyRotated => Verdict::KeyRotated,
            SessionIs::LoggedOut => Verdict::Revoked,
            SessionIs::Forged => Verdict::Invalid,
        }
    }
}

fn put(claims: &mut Json, part: &str, text: &str) {
    match claims {
        Json::Text(said) => *said = said.replace(part, text),
        Json::List(values) => values.iter_mut().for_each(|value| put(value, part, text)),
        Json::Map(members) => members.iter_mut().for_each(|(_, value)| put(value, part, text)),
        Json::Null | Json::Bool(_) | Json::Whole(_) | Json::Real(_) => {}
    }
}

fn as_header(value: &Json) -> Option<HeaderValue> {
    let text = match value {
        Json::Text(text) => text.clone(),
        Json::Whole(whole) => whole.to_string(),
        Json::Bool(is) => is.to_string(),
        Json::Real(real) => real.to_string(),
        Json::Null | Json::List(_) | Json::Map(_) => return None,
    };
    HeaderValue::try_from(text).ok()
}

/// In the first place that is free: of one provider all tokens have to be good, so that one is enough.
fn show_token(places: &[TokenPlace], headers: &mut HeaderMap, path: &mut PathAndQuery) {
    for place in places {
        match place {
            TokenPlace::Header { name, prefix } => {
                let Ok(name) = HeaderName::try_from(name) else { continue };
                let value = HeaderValue::try_from(format!("{prefix}{TOKEN}")).ok();
                if let Some(value) = value.filter(|_| !headers.contains_key(&name)) {
                    headers.insert(name, value);
                    return;
                }
            }
            TokenPlace::Param(name) => return add_parameter(path, name, TOKEN),
            TokenPlace::Cookie(name) => return add_cookie(headers, name, TOKEN),
        }
    }
}

/// Whether it found a place.
fn show_key(place: &KeyPlace, headers: &mut HeaderMap, path: &mut PathAndQuery) -> bool {
    match place {
        KeyPlace::Header(name) if headers.contains_key(name) => return false,
        KeyPlace::Header(name) => drop(headers.insert(name, HeaderValue::from_static(KEY))),
        KeyPlace::Query(name) => add_parameter(path, name, KEY),
        KeyPlace::Cookie(name) => add_cookie(headers, name, KEY),
    }
    true
}

fn add_parameter(path: &mut PathAndQuery, name: &str, value: &str) {
    let mut text = path.as_str().to_owned();
    text.push(if path.query().is_some() { '&' } else { '?' });
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(char::from(byte)),
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text.push('=');
    text.push_str(value);
    if let Ok(changed) = PathAndQuery::try_from(text) {
        *path = changed;
    }
}

fn add_cookie(headers: &mut HeaderMap, name: &str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("{name}={value}")) {
        headers.append(COOKIE, value);
    }
}

/// What a token is found to be. What is in a request and was not said is no token.
fn read(asker: Option<&Asker>, reading: &Reading, now: i64) -> Read {
    let wanted = reading.wanted.clone();
    let said = asker.and_then(|asker| asker.token.as_ref()).filter(|_| wanted.token == TOKEN);
    let garbled =
        Denial::Unreadable("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
    let Some(said) = said else { return Read { wanted, answer: Err(garbled) } };
    let authentication = &reading.of.authentication;
    let claims = || {
        let mut claims = said.claims.clone();
        set_unless_there(&mut claims, "iss", || Some(authentication.issuer_of(&wanted)?.into()));
        match said.is {
            // Longer ago than clocks differ.
            TokenIs::Expired => set(&mut claims, "exp", Json::Whole(now - 86_400)),
            TokenIs::Early => set(&mut claims, "nbf", Json::Whole(now + 86_400)),
            _ => {}
        }
        set_unless_there(&mut claims, "exp", || Some(Json::Whole(now + 60)));
        claims
    };
    let answer = match said.is {
        TokenIs::Garbled => Err(garbled),
        is => {
            let claims = claims();
            authentication.accept(&wanted, &claims, now).and_then(|accepted| match is {
                TokenIs::Forged => Err(Denial::Unreadable("Jwt verification fails")),
                TokenIs::KeysAway => Err(Denial::Fetch),
                _ => Ok((accepted, Arc::new(Token { claims, payload: "".into() }))),
            })
        }
    };
    Read { wanted, answer }
}

fn set(claims: &mut Json, name: &str, value: Json) {
    if let Json::Map(members) = claims {
        members.retain(|(known, _)| known != name);
        members.push((name.to_owned(), value));
    }
}

fn set_unless_there(claims: &mut Json, name: &str, value: impl FnOnce() -> Option<Json>) {
    if claims.get(name).is_none()
        && let Some(value) = value()
    {
        set(claims, name, value);
    }
}

/// Whose what is shown is.
fn who(asker: Option<&Asker>, shown: &Shown, snapshot: &Snapshot) -> Who {
    let Some(asker) = asker else { return Who::Unknown };
    let known = snapshot.credentials.get(shown.of.index());
    match (&shown.name, &asker.key, &asker.user) {
        (None, Some(client), _) if shown.secret.bytes() == KEY.as_bytes() => {
            if known.is_some_and(|known| knows(known, client)) {
                return Who::Client(client.as_str().into());
            }
            Who::Unknown
        }
        (Some(name), _, Some(user)) if **name == **user && shown.secret.bytes() == PASSWORD.as_bytes() => {
            Who::Client(user.as_str().into())
        }
        _ => Who::Unknown,
    }
}

/// Whether a client of that name has a key. What stands in a file nobody has read: there it is as it is said.
fn knows(known: &Credentials, client: &str) -> bool {
    match known {
        Credentials::Keys(sources) => sources.iter().any(|source| match source {
            KeySource::File(_) => true,
            KeySource::Sha256 { client: known, .. } | KeySource::Key { client: known, .. } => known == client,
        }),
        Credentials::Passwords { .. } => true,
    }
}

/// Plain values of JSON or YAML as claims.
pub fn claims_of(value: &serde_json::Value) -> Json {
    use serde_json::Value;
    match value {
        Value::Null => Json::Null,
        Value::Bool(is) => Json::Bool(*is),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Json::Whole(whole),
            None => Json::Real(number.as_f64().unwrap_or(0.0)),
        },
        Value::String(text) => Json::Text(text.clone()),
        Value::Array(values) => Json::List(values.iter().map(claims_of).collect()),
        Value::Object(members) => {
            Json::Map(members.iter().map(|(name, value)| (name.clone(), claims_of(value))).collect())
        }
    }
}
