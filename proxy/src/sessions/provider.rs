//! A provider of OpenID Connect, as all workers know it: what it says of itself, its keys, whether it answers.
//!
//! Both are asked for by whoever needs them first, for all who wait; when again is `naru_identity::Freshness`'s to say.
//! Nobody waits longer than its timeout.

use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use naru_base::Json;
use naru_identity::{Freshness, Turn};
use naru_jose::{JWKS_BYTES_MAX, Jwks, Jwt, TokenFault, secret};
use naru_session::login::{Attempt, LoginFault, Metadata, encode};
use naru_spec::{DataSource, Invalid, OidcLogin, defaults};
use tokio::sync::Notify;

use crate::asking;
use crate::loaded::Loaded;
use crate::worker::Worker;

/// No answer of it is read further.
const ANSWER_MAX: usize = 256 * 1024;

pub struct Provider {
    /// Whose logins these are.
    name: String,
    settings: Arc<OidcLogin>,
    /// What naru shows that it is itself; not printed.
    secret: Option<String>,
    state: Mutex<State>,
    /// Whenever a question has ended.
    ended: Notify,
}

struct State {
    metadata: Known<Metadata>,
    keys: Known<Jwks>,
    questions: u64,
    /// What was wrong with it last; `None` once it is well again.
    fault: Option<String>,
}

struct Known<T> {
    value: Option<Arc<T>>,
    freshness: Freshness,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.settings.issuer).finish_non_exhaustive()
    }
}

/// Which of both is asked for.
#[derive(Clone, Copy)]
enum What {
    Metadata,
    Keys,
}

impl Provider {
    /// What is known of the same provider stays known.
    ///
    /// # Errors
    /// The secret cannot be read.
    pub fn new(
        name: &str,
        settings: &OidcLogin,
        older: Option<&Arc<Provider>>,
    ) -> Result<Arc<Provider>, Invalid> {
        let secret = settings.secret.as_ref().map(|source| read_secret(name, source)).transpose()?;
        if let Some(older) = older.filter(|older| *older.settings == *settings && older.secret == secret) {
            return Ok(Arc::clone(older));
        }
        let fresh = |cache| Freshness::new(cache, settings.timeout);
        let given = settings.endpoints.as_ref().map(|endpoints| Arc::new(Metadata::given(endpoints)));
        let state = State {
            metadata: Known { value: given, freshness: fresh(defaults::OIDC_METADATA_CACHE) },
            keys: Known { value: None, freshness: fresh(defaults::JWKS_CACHE) },
            questions: 0,
            fault: None,
        };
        Ok(Arc::new(Provider {
            name: name.to_owned(),
            settings: Arc::new(settings.clone()),
            secret,
            state: Mutex::new(state),
            ended: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn settings(&self) -> &Arc<OidcLogin> {
        &self.settings
    }

    /// Its issuer, and what is wrong with it.
    pub fn status(&self) -> (String, Option<String>) {
        (self.settings.issuer.clone(), self.state().fault.clone())
    }

    /// Says once what is wrong, and once that it is not any more.
    pub fn note(&self, fault: Option<&LoginFault>) {
        let fault = match fault {
            Some(fault @ (LoginFault::Away(_) | LoginFault::Unbelievable(_))) => Some(fault.to_string()),
            // These are between a browser and us.
            Some(_) => return,
            None => None,
        };
        let before = std::mem::replace(&mut self.state().fault, fault.clone());
        match (&before, &fault) {
            (_, Some(why)) if before != fault => {
                naru_say::say!(
                    "naru: sessions '{}': the login provider {}: {why}",
                    self.name,
                    self.settings.issuer
                );
            }
            (Some(_), None) => {
                naru_say::say!(
                    "naru: sessions '{}': the login provider {} answers",
                    self.name,
                    self.settings.issuer
                );
            }
            _ => {}
        }
    }

    /// Where it is asked for what.
    pub async fn metadata(
        self: &Arc<Self>,
        worker: &Rc<Worker>,
        loaded: &Rc<Loaded>,
    ) -> Result<Arc<Metadata>, LoginFault> {
        if self.settings.endpoints.is_some()
            && let Some(given) = &self.state().metadata.value
        {
            return Ok(Arc::clone(given));
        }
        loop {
            // Who waits must hear of an end that comes before it waits.
            let ended = self.ended.notified();
            let (turn, known) =
                self.want(worker, loaded, What::Metadata, |state| state.metadata.value.is_none());
            if let Some(metadata) = known.metadata {
                return Ok(metadata);
            }
            self.wait(turn, ended, What::Metadata).await?;
        }
    }

    /// Whether its keys signed a token.
    async fn verify(
        self: &Arc<Self>,
        worker: &Rc<Worker>,
        loaded: &Rc<Loaded>,
        token: &Jwt<'_>,
    ) -> Result<(), LoginFault> {
        let unbelievable = |fault: TokenFault| LoginFault::Unbelievable(fault.text());
        loop {
            let ended = self.ended.notified();
            let verified = |keys: &Jwks| keys.verify(&token.compact);
            let is_unknown = |state: &State| {
                state.keys.value.as_ref().is_none_or(|keys| verified(keys) == Err(TokenFault::NoKey))
            };
            let (turn, known) = self.want(worker, loaded, What::Keys, is_unknown);
            match known.keys.map(|keys| verified(&keys)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(fault)) if fault != TokenFault::NoKey => return Err(unbelievable(fault)),
                Some(Err(fault)) if turn == Turn::Use => return Err(unbelievable(fault)),
                Some(Err(fault)) => {
                    self.wait(turn, ended, What::Keys).await.map_err(|_| unbelievable(fault))?
                }
                None => self.wait(turn, ended, What::Keys).await?,
            }
        }
    }

    async fn wait(
        &self,
        turn: Turn,
        ended: tokio::sync::futures::Notified<'_>,
        what: What,
    ) -> Result<(), LoginFault> {
        if matches!(turn, Turn::Fetch | Turn::Wait) {
            // One that never ends is over for others after the same time.
            let _ = tokio::time::timeout(self.settings.timeout + Duration::from_millis(100), ended).await;
        }
        let state = self.state();
        let has_failed = match what {
            What::Metadata => state.metadata.freshness.has_failed(),
            What::Keys => state.keys.freshness.has_failed(),
        };
        if has_failed || turn == Turn::Use {
            let why = state.fault.clone().unwrap_or_else(|| "it does not answer".to_owned());
            return Err(LoginFault::Away(why));
        }
        Ok(())
    }

    /// What is there, and whether somebody who wants it takes that. Whoever is to ask has that done beside.
    fn want(
        self: &Arc<Self>,
        worker: &Rc<Worker>,
        loaded: &Rc<Loaded>,
        what: What,
        is_unknown: impl Fn(&State) -> bool,
    ) -> (Turn, Values) {
        let now = worker.clock.now();
        let (turn, values, nth, metadata) = {
            let mut state = self.state();
            let is_unknown = is_unknown(&state);
            let turn = match what {
                What::Metadata => state.metadata.freshness.on_wanted(now, is_unknown),
                What::Keys => state.keys.freshness.on_wanted(now, is_unknown),
            };
            let values = Values { metadata: state.metadata.value.clone(), keys: state.keys.value.clone() };
            (turn, values, state.questions, state.metadata.value.clone())
        };
        if matches!(turn, Turn::Fetch | Turn::UseAndFetch) {
            let (worker, loaded, provider) = (Rc::clone(worker), Rc::clone(loaded), Arc::clone(self));
            tokio::task::spawn_local(async move {
                let timeout = provider.settings.timeout;
                let asked = async {
                    match what {
                        What::Metadata => provider.ask_metadata(&loaded, nth).await.map(Fetched::Metadata),
                        What::Keys => {
                            provider.ask_keys(&loaded, metadata.as_deref(), nth).await.map(Fetched::Keys)
                        }
                    }
                };
                let fetched = tokio::time::timeout(timeout, asked).await;
                let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")));
                provider.put(worker.clock.now(), what, fetched);
            });
        }
        (turn, values)
    }

    fn put(&self, now: naru_base::Instant, what: What, fetched: Result<Fetched, String>) {
        let fault = {
            let mut state = self.state();
            state.questions += 1;
            match fetched {
                Ok(Fetched::Metadata(metadata)) => {
                    state.metadata.value = Some(Arc::new(metadata));
                    state.metadata.freshness.on_fetched(now);
                    None
                }
                Ok(Fetched::Keys(keys)) => {
                    state.keys.value = Some(Arc::new(keys));
                    state.keys.freshness.on_fetched(now);
                    None
                }
                Err(why) => {
                    match what {
                        What::Metadata => state.metadata.freshness.on_failed(now),
                        What::Keys => state.keys.freshness.on_failed(now),
                    }
                    Some(LoginFault::Away(why))
                }
            }
        };
        // That it says where it is does not say that logins succeed.
        if fault.is_some() {
            self.note(fault.as_ref());
        }
        self.ended.notify_waiters();
    }

    async fn ask_metadata(&self, loaded: &Loaded, nth: u64) -> Result<Metadata, String> {
        let said = self.get(loaded, &self.settings.discovery(), nth).await?;
        let said = naru_jose::object(&said).ok_or("what it says of itself is no JSON")?;
        Metadata::read(&self.settings, &said)
    }

    async fn ask_keys(&self, loaded: &Loaded, metadata: Option<&Metadata>, nth: u64) -> Result<Jwks, String> {
        let metadata = metadata.ok_or("it is not known where its keys are")?;
        let text = self.get(loaded, &metadata.endpoints.jwks, nth).await?;
        // Who is sent secrets by others could be made to sign with them.
        let keys = Jwks::parse(&text).map_err(|fault| fault.to_string())?.without_secrets();
        if keys.keys().is_empty() { Err("its keys are secrets".to_owned()) } else { Ok(keys) }
    }

    async fn get(&self, loaded: &Loaded, address: &str, nth: u64) -> Result<Bytes, String> {
        let cluster = self.settings.cluster_for(address).ok_or("it may not be asked there")?;
        let request = asking::request(Method::GET, address, Bytes::new()).ok_or("its address is none")?;
        let (status, text) = asking::ask(loaded, cluster, nth, request, JWKS_BYTES_MAX).await?;
        if status == StatusCode::OK {
            Ok(text)
        } else {
            Err(format!("it answers {address} with {}", status.as_u16()))
        }
    }

    /// Changes a code for an ID token whose signature holds, and for the access token beside it.
    pub async fn redeem(
        self: &Arc<Self>,
        worker: &Rc<Worker>,
        loaded: &Rc<Loaded>,
        metadata: &Metadata,
        attempt: &Attempt,
        code: &str,
    ) -> Result<Redeemed, LoginFault> {
        let asked = self.exchange(loaded, metadata, attempt, code);
        let late = |_| Err(LoginFault::Away(format!("no answer within {:?}", self.settings.timeout)));
        let said = tokio::time::timeout(self.settings.timeout, asked).await.unwrap_or_else(late)?;
        let text = |name: &str| said.get(name).and_then(Json::as_text);
        if !text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err(LoginFault::Unbelievable("its access token is of an unknown type"));
        }
        let Some(token) = text("id_token") else {
            return Err(LoginFault::Unbelievable("there is no ID token in its answer"));
        };
        let jwt = Jwt::parse(token).map_err(|fault| LoginFault::Unbelievable(fault.text()))?;
        self.verify(worker, loaded, &jwt).await?;
        let header = &jwt.compact.header;
        let at_hash =
            text("access_token").map(|token| secret::half_digest(header.algorithm, token.as_bytes()));
        Ok(Redeemed { typ: header.typ.clone(), claims: jwt.claims.clone(), at_hash })
    }

    async fn exchange(
        &self,
        loaded: &Loaded,
        metadata: &Metadata,
        attempt: &Attempt,
        code: &str,
    ) -> Result<Json, LoginFault> {
        let away = |why: &str| LoginFault::Away(why.to_owned());
        let is_posted = metadata.is_secret_posted(&self.settings);
        let posted = self.secret.as_deref().filter(|_| is_posted);
        let verifier = secret::to_text(&attempt.verifier);
        let form = attempt.exchange(&self.settings, code, &verifier, posted);
        let address = &metadata.endpoints.token;
        let cluster = self.settings.cluster_for(address).ok_or_else(|| away("it may not be asked there"))?;
        let request = asking::request(Method::POST, address, form.into());
        let mut request = request.ok_or_else(|| away("its address is none"))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(secret) = self.secret.as_deref().filter(|_| !is_posted) {
            let value = basic(&self.settings.client_id, secret);
            headers.insert(AUTHORIZATION, value.ok_or_else(|| away("the secret cannot be said"))?);
        }
        let nth = self.state().questions;
        let (status, body) = asking::ask(loaded, cluster, nth, request, ANSWER_MAX).await.map_err(away)?;
        let said = naru_jose::object(&body);
        if status == StatusCode::OK {
            return said.ok_or(LoginFault::Unbelievable("its answer is no JSON"));
        }
        let error = said.as_ref().and_then(|said| said.get("error")).and_then(Json::as_text);
        match error {
            // The code was used, is over, or was given for somebody else's verifier.
            Some("invalid_grant") => Err(LoginFault::Used),
            Some("invalid_client" | "unauthorized_client") => {
                Err(away("it does not know this client, or its secret"))
            }
            _ => Err(LoginFault::Away(format!("it answers a code with {}", status.as_u16()))),
        }
    }
}

/// What the provider says of somebody.
pub struct Redeemed {
    pub typ: Option<String>,
    pub claims: Json,
    pub at_hash: Option<String>,
}

struct Values {
    metadata: Option<Arc<Metadata>>,
    keys: Option<Arc<Jwks>>,
}

enum Fetched {
    Metadata(Metadata),
    Keys(Jwks),
}

/// RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
fn basic(id: &str, secret: &str) -> Option<HeaderValue> {
    let mut text = String::new();
    encode(id, &mut text);
    text.push(':');
    encode(secret, &mut text);
    let mut encoded = secret::to_text(text.as_bytes()).replace('-', "+").replace('_', "/");
    while !encoded.len().is_multiple_of(4) {
        encoded.push('=');
    }
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn read_secret(name: &str, source: &DataSource) -> Result<String, Invalid> {
    let told =
        |why: String| Invalid::new(format!("sessions '{name}': the client secret cannot be read: {why}"));
    let bytes = match source {
        DataSource::File(path) => std::fs::read(path).map_err(|error| told(format!("{path}: {error}")))?,
        DataSource::Inline(bytes) => bytes.clone(),
        DataSource::Environment(variable) => std::env::var_os(variable)
            .ok_or_else(|| told(format!("{variable} is not in the environment")))?
            .into_encoded_bytes(),
    };
    let text = std::str::from_utf8(bytes.trim_ascii()).map_err(|_| told("it is no text".to_owned()))?;
    if text.is_empty() { Err(told("it is empty".to_owned())) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_said_as_rfc_6749_has_it() {
        // Of "a b:c/d" and so on, base64 with the letters that headers have.
        let value = basic("1P6tWNUdTD", "ZXzlOJ0wlk/bd?").unwrap();
        assert!(value.is_sensitive());
        assert_eq!(value.to_str().unwrap(), "Basic MVA2dFdOVWRURDpaWHpsT0owd2xrJTJGYmQlM0Y=");
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told_and_the_secret_is_not() {
        let empty = read_secret("a", &DataSource::Inline(b" \n".to_vec())).unwrap_err();
        assert!(empty.message.contains("empty"), "{}", empty.message);
        assert!(
            read_secret("a", &DataSource::File("/nowhere/x".into()))
                .unwrap_err()
                .message
                .contains("/nowhere/x")
        );
        let mut settings = OidcLogin::new("https://id.example", "shop");
        settings.secret = Some(DataSource::Inline(b"hunter2\n".to_vec()));
        let provider = Provider::new("a", &settings, None).unwrap();
        assert_eq!(provider.secret.as_deref(), Some("hunter2"));
        assert!(!format!("{provider:?}{settings:?}").contains("hunter2"));
        let again = Provider::new("a", &settings, Some(&provider)).unwrap();
        assert!(Arc::ptr_eq(&provider, &again), "what is known of it stays");
        settings.secret = Some(DataSource::Inline(b"hunter3".to_vec()));
        assert!(!Arc::ptr_eq(&provider, &Provider::new("a", &settings, Some(&again)).unwrap()));
    }
}
