//! Somebody logs in at a provider of OpenID Connect: what is he sent there with, and what is believed when he is back?
//!
//! | step | what is decided here |
//! |---|---|
//! | a request without a token that counts | whether a person waits for a page ([`is_navigation`]): he is led to the provider, a script is told 401 |
//! | he is led there | an [`Attempt`], which his browser keeps sealed, and the address ([`Attempt::address`]) |
//! | he comes back | whether it is what that browser was sent for ([`Attempt::accept`]) |
//! | the provider has changed the code for an ID token | whether that is for this attempt, and who it is ([`identity`]) |
//!
//! The shell brings chance, seals and comparisons that take the same time, says whether a signature holds, and sees to it
//! that an attempt ends once.
//!
//! Source: OpenID Connect Core 1.0, section 3.1; Discovery 1.0; RFC 7636 (PKCE); RFC 9207 (`iss`); RFC 9700, sections
//! 2.1, 4.2 to 4.5 and 4.7.

use std::time::Duration;

use http::{HeaderMap, Method, header};
use naru_base::{Json, Reason, WallTime};
use naru_spec::login::{is_trusted, parts_of};
use naru_spec::{ClientAuthentication, OidcEndpoints, OidcLogin, defaults};

use crate::family::Said;
use crate::written::{self, Reader};
use crate::{Id, since};

/// Longer ways back are forgotten: a cookie has room for this much.
const BACK_MAX: usize = 2_048;
/// OpenID Connect says 255.
const SUBJECT_MAX: usize = 1_024;
/// Cookies of other attempts that a request may bring.
pub const ATTEMPTS_MAX: usize = 8;

/// Why nobody is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFault {
    /// What came back is no answer of a provider.
    NoAnswer,
    /// It is not what this browser was sent for, or it was sent for nothing.
    OtherBrowser,
    /// It was answered already.
    Used,
    /// It took too long.
    TooLate,
    /// Another provider answers than the one that was asked (RFC 9207).
    OtherProvider,
    /// The provider says no; its word for it.
    Denied(String),
    /// What the provider says cannot be believed.
    Unbelievable(&'static str),
    /// The provider does not answer, or not as one does.
    Away(String),
    StoreAway,
}

impl LoginFault {
    pub fn reason(&self) -> Reason {
        match self {
            LoginFault::NoAnswer
            | LoginFault::OtherBrowser
            | LoginFault::Used
            | LoginFault::TooLate
            | LoginFault::OtherProvider => Reason::SessionLoginRefused,
            LoginFault::Denied(_) => Reason::SessionLoginDenied,
            LoginFault::Unbelievable(_) => Reason::SessionLoginInvalid,
            LoginFault::Away(_) => Reason::SessionProviderAway,
            LoginFault::StoreAway => Reason::SessionStoreAway,
        }
    }
}

/// For who keeps the gateway; who logs in is told less.
impl std::fmt::Display for LoginFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoginFault::NoAnswer => f.write_str("what came back is no answer of a provider"),
            LoginFault::OtherBrowser => {
                f.write_str("the browser that came back was not sent with this state")
            }
            LoginFault::Used => f.write_str("the answer was used before"),
            LoginFault::TooLate => f.write_str("the browser came back too late"),
            LoginFault::OtherProvider => f.write_str("another provider has answered"),
            LoginFault::Denied(word) => write!(f, "the provider says {word}"),
            LoginFault::Unbelievable(why) => f.write_str(why),
            LoginFault::Away(why) => f.write_str(why),
            LoginFault::StoreAway => f.write_str("the store of sessions is away"),
        }
    }
}

/// Where a provider is asked for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub endpoints: OidcEndpoints,
    /// It names itself whenever a browser comes back.
    pub names_itself: bool,
    /// It takes the secret in the body, and not in a header.
    pub takes_post_only: bool,
}

impl Metadata {
    /// What stands in the configuration.
    pub fn given(endpoints: &OidcEndpoints) -> Metadata {
        Metadata { endpoints: endpoints.clone(), names_itself: false, takes_post_only: false }
    }

    /// What the provider says of itself.
    ///
    /// # Errors
    /// It says nothing that can be used, and why.
    pub fn read(settings: &OidcLogin, said: &Json) -> Result<Metadata, String> {
        let text = |name: &str| said.get(name).and_then(Json::as_text);
        let needed = |name: &str| text(name).ok_or_else(|| format!("it does not say its {name}"));
        // Section 4.3 of Discovery: exactly that, lest one provider speaks for another.
        if needed("issuer")? != settings.issuer {
            return Err("it says that it is another issuer".to_owned());
        }
        let asked = |name: &str| {
            let address = needed(name)?;
            match settings.cluster_for(address) {
                Some(_) => Ok(address.to_owned()),
                None => {
                    let place = parts_of(address)
                        .map_or("nowhere".to_owned(), |(_, host, port)| format!("{host}:{port}"));
                    Err(format!("its {name} is at {place}: name that in login.oidc.hosts"))
                }
            }
        };
        let authorization = needed("authorization_endpoint")?.to_owned();
        let end_session = text("end_session_endpoint").map(str::to_owned);
        for address in [&authorization].into_iter().chain(&end_session) {
            is_trusted(address)?;
            if address.contains('#') {
                return Err(format!("'{address}' has a fragment"));
            }
        }
        if settings.logs_out_there && end_session.is_none() {
            return Err("it does not say its end_session_endpoint".to_owned());
        }
        let methods = said.get("token_endpoint_auth_methods_supported").map(Json::each).unwrap_or_default();
        let takes = |method: &str| methods.iter().any(|one| one.as_text() == Some(method));
        Ok(Metadata {
            endpoints: OidcEndpoints {
                authorization,
                token: asked("token_endpoint")?,
                jwks: asked("jwks_uri")?,
                end_session,
            },
            names_itself: said.get("authorization_response_iss_parameter_supported")
                == Some(&Json::Bool(true)),
            takes_post_only: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }

    /// Whether the secret stands in the body.
    pub fn is_secret_posted(&self, settings: &OidcLogin) -> bool {
        match settings.client_authentication {
            ClientAuthentication::Either => self.takes_post_only,
            ClientAuthentication::Basic => false,
            ClientAuthentication::Post => true,
        }
    }

    /// Where somebody logs out at the provider (RP-Initiated Logout 1.0); `back` is where he comes to then.
    pub fn logout(&self, settings: &OidcLogin, back: &str) -> Option<String> {
        let mut address = Query::of(self.endpoints.end_session.as_deref()?);
        address.add("client_id", &settings.client_id);
        address.add("post_logout_redirect_uri", back);
        Some(address.text)
    }
}

/// Whether a person waits for a page, and can be led elsewhere. Browsers say so (Fetch Metadata); of older ones it is told
/// by what they accept. Whoever brings a token, asks by a script or only in advance does not.
pub fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_in_advance =
        text("sec-purpose").or_else(|| text("purpose")).is_some_and(|said| said.contains("prefetch"));
    if *method != Method::GET
        || headers.contains_key(header::AUTHORIZATION)
        || headers.contains_key(header::UPGRADE)
        || headers.contains_key("x-requested-with")
        || is_in_advance
    {
        return false;
    }
    accepts_a_page(headers)
}

/// Whether the answer to a form may be another page.
pub fn accepts_a_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => text("accept").is_some_and(|accepted| accepted.contains("text/html")),
    }
}

/// Somebody who was sent to the provider. His browser keeps it sealed, and nobody else has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What he has to bring back.
    pub state: Id,
    /// What the ID token has to say.
    pub nonce: Id,
    /// What the code is bound to (RFC 7636); 256 bits of chance.
    pub verifier: [u8; 32],
    pub began: WallTime,
    /// What his browser knows this gateway by.
    pub origin: String,
    /// Where he wanted to go: a path of that origin.
    pub back: String,
}

/// It has secrets.
impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("began", &self.began).finish_non_exhaustive()
    }
}

/// Takes the same time wherever both differ.
pub type Same = fn(&[u8], &[u8]) -> bool;

/// What a browser brings back from a provider.
#[derive(Clone, PartialEq, Eq)]
pub struct Callback {
    pub state: String,
    pub code: Option<String>,
    pub error: Option<String>,
    issuer: Option<String>,
}

/// It has a code.
impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").field("error", &self.error).finish_non_exhaustive()
    }
}

impl Callback {
    /// # Errors
    /// It is no answer of a provider.
    pub fn read(query: &str) -> Result<Callback, LoginFault> {
        let pairs = pairs(query).ok_or(LoginFault::NoAnswer)?;
        // One who reads the first of two and one who reads the last would not see the same.
        let one = |wanted: &str| {
            let mut all = pairs.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            match (all.next(), all.next()) {
                (_, Some(_)) => Err(LoginFault::NoAnswer),
                (first, None) => Ok(first.filter(|value| !value.is_empty())),
            }
        };
        let (code, error) = (one("code")?, one("error")?);
        if code.is_some() == error.is_some() {
            return Err(LoginFault::NoAnswer);
        }
        Ok(Callback { state: one("state")?.ok_or(LoginFault::NoAnswer)?, code, error, issuer: one("iss")? })
    }
}

impl Attempt {
    /// The name of its cookie, beside others of other tabs. It is for this host alone and goes over TLS alone, so that no
    /// neighbour can lay one of his own in its place.
    pub fn cookie(state: &str) -> String {
        let some = state.get(..8).unwrap_or_default();
        format!("{ATTEMPT_COOKIE}{some}")
    }

    /// Where he is led: the provider's address, with what it is asked.
    pub fn address(&self, settings: &OidcLogin, metadata: &Metadata, challenge: &str) -> String {
        let mut address = Query::of(&metadata.endpoints.authorization);
        address.add("response_type", "code");
        address.add("client_id", &settings.client_id);
        address.add("redirect_uri", &self.redirect_uri(settings));
        address.add("scope", &settings.scopes.join(" "));
        address.add("state", &self.state.to_string());
        address.add("nonce", &self.nonce.to_string());
        address.add("code_challenge", challenge);
        address.add("code_challenge_method", "S256");
        for (name, value) in &settings.parameters {
            address.add(name, value);
        }
        address.text
    }

    pub fn redirect_uri(&self, settings: &OidcLogin) -> String {
        format!("{}{}", self.origin, settings.callback_path)
    }

    /// What the provider is told to change the code for tokens: a form. `secret` is one that stands in the body.
    pub fn exchange(&self, settings: &OidcLogin, code: &str, verifier: &str, secret: Option<&str>) -> String {
        let mut form = Query { text: String::new(), is_first: true };
        form.add("grant_type", "authorization_code");
        form.add("code", code);
        form.add("redirect_uri", &self.redirect_uri(settings));
        form.add("code_verifier", verifier);
        // With a secret in a header that says who it is.
        if settings.secret.is_none() || secret.is_some() {
            form.add("client_id", &settings.client_id);
        }
        if let Some(secret) = secret {
            form.add("client_secret", secret);
        }
        form.text
    }

    /// Where he goes on: of his own origin, whatever the path looks like.
    pub fn way_back(&self) -> String {
        format!("{}{}", self.origin, self.back)
    }

    /// Whether what he brings is what he was sent for.
    ///
    /// # Errors
    /// It is not, or the provider says no.
    pub fn accept(
        &self,
        now: WallTime,
        settings: &OidcLogin,
        metadata: &Metadata,
        callback: &Callback,
        same: Same,
    ) -> Result<String, LoginFault> {
        if !same(self.state.to_string().as_bytes(), callback.state.as_bytes()) {
            return Err(LoginFault::OtherBrowser);
        }
        match &callback.issuer {
            Some(issuer) if *issuer != settings.issuer => return Err(LoginFault::OtherProvider),
            None if metadata.names_itself => return Err(LoginFault::OtherProvider),
            _ => {}
        }
        // A clock that was set back makes nothing young.
        if since(now, self.began) >= defaults::OIDC_ATTEMPT || now < self.began {
            return Err(LoginFault::TooLate);
        }
        match (&callback.code, &callback.error) {
            (Some(code), None) => Ok(code.clone()),
            (_, Some(error)) => Err(LoginFault::Denied(plain_word(error))),
            (None, None) => Err(LoginFault::NoAnswer),
        }
    }

    /// As it is sealed.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![written::ATTEMPT];
        out.extend_from_slice(&self.state.0.to_be_bytes());
        out.extend_from_slice(&self.nonce.0.to_be_bytes());
        out.extend_from_slice(&self.verifier);
        written::put(&mut out, self.began.0);
        written::put_bytes(&mut out, self.origin.as_bytes());
        written::put_bytes(&mut out, self.back.as_bytes());
        out
    }

    /// # Errors
    /// It is none.
    pub fn read(bytes: &[u8]) -> Result<Attempt, &'static str> {
        let mut reader = Reader::of(bytes, written::ATTEMPT)?;
        let attempt = Attempt {
            state: Id(u128::from_be_bytes(reader.array()?)),
            nonce: Id(u128::from_be_bytes(reader.array()?)),
            verifier: reader.array()?,
            began: WallTime(reader.number()?),
            origin: reader.text()?,
            back: reader.text()?,
        };
        reader.end()?;
        Ok(attempt)
    }
}

/// Of all attempts; what follows is of one.
pub const ATTEMPT_COOKIE: &str = "__Host-oidc-";

/// A path to go back to, as it stood in a request or a parameter: one of this host, or its root.
pub fn way_back(path: &str) -> String {
    let is_of_host = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\");
    let is_plain = path.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    if is_of_host && is_plain && path.len() <= BACK_MAX { path.to_owned() } else { "/".to_owned() }
}

/// The parameter `return` of who wants to log in.
pub fn wanted_back(query: &str) -> String {
    let pairs = pairs(query).unwrap_or_default();
    let wanted = pairs.iter().find(|(name, _)| name == "return");
    wanted.map_or("/".to_owned(), |(_, path)| way_back(path))
}

/// An ID token whose signature holds, and what it is held against.
#[derive(Clone, Copy, Debug)]
pub struct IdToken<'a> {
    pub typ: Option<&'a str>,
    pub claims: &'a Json,
    /// What `at_hash` has to be, where it is there.
    pub at_hash: Option<&'a str>,
}

/// Who it is, and what is said of him (OpenID Connect Core 1.0, section 3.1.3.7).
///
/// # Errors
/// It is for somebody else, for another attempt, or over.
pub fn identity(
    settings: &OidcLogin,
    token: &IdToken<'_>,
    nonce: Id,
    now: WallTime,
    skew: Duration,
    same: Same,
) -> Result<(String, Vec<(String, Said)>), LoginFault> {
    let wrong = |why| Err(LoginFault::Unbelievable(why));
    let IdToken { typ, claims, at_hash } = *token;
    let text = |name: &str| claims.get(name).and_then(Json::as_text);
    // One that says that it is something else is that (RFC 8725, section 3.11).
    if typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt")) {
        return wrong("the ID token says that it is something else");
    }
    if text("iss") != Some(settings.issuer.as_str()) {
        return wrong("the ID token is of another issuer");
    }
    let audiences = claims.get("aud").map(Json::each).unwrap_or_default();
    if !audiences.iter().any(|one| one.as_text() == Some(settings.client_id.as_str())) {
        return wrong("the ID token is for another client");
    }
    let party = claims.get("azp");
    if party.is_none() && audiences.len() > 1 {
        return wrong("the ID token is for several clients, and does not say who asked for it");
    }
    if party.is_some_and(|party| party.as_text() != Some(settings.client_id.as_str())) {
        return wrong("another client asked for the ID token");
    }
    let seconds = |name: &str| match claims.get(name) {
        None => None,
        Some(Json::Whole(seconds)) => u64::try_from(*seconds).ok().or(Some(0)),
        // Beyond all times that come.
        Some(Json::Real(real)) if *real > 0.0 => Some(u64::MAX),
        Some(_) => Some(0),
    };
    let time = |name: &str| seconds(name).map(|seconds| WallTime(seconds.saturating_mul(1_000_000_000)));
    let Some(expires) = time("exp") else { return wrong("the ID token does not say when it ends") };
    if now.0 >= expires.0.saturating_add(nanos(skew)) {
        return wrong("the ID token is over");
    }
    let Some(issued) = time("iat") else { return wrong("the ID token does not say when it was issued") };
    let is_of_the_future = |at: WallTime| at.0 > now.0.saturating_add(nanos(skew));
    if is_of_the_future(issued) || time("nbf").is_some_and(is_of_the_future) {
        return wrong("the ID token is of the future");
    }
    let is_nonce = text("nonce").is_some_and(|said| same(said.as_bytes(), nonce.to_string().as_bytes()));
    if !is_nonce {
        return wrong("the ID token is for another login");
    }
    if let Some(said) = claims.get("at_hash")
        && !said.as_text().zip(at_hash).is_some_and(|(said, own)| same(said.as_bytes(), own.as_bytes()))
    {
        return wrong("the ID token is for another access token");
    }
    let Some(subject) = text(&settings.subject).filter(|subject| !subject.is_empty()) else {
        return wrong("the ID token does not say who it is");
    };
    if subject.len() > SUBJECT_MAX {
        return wrong("who it is is too long");
    }
    let mut said = Vec::new();
    for claim in &settings.claims {
        let value = match claims.get(&claim.claim) {
            None | Some(Json::Null) => continue,
            Some(Json::Text(text)) => Said::Text(text.clone()),
            Some(value) => Said::Value(value.clone()),
        };
        said.push((claim.name.clone(), value));
    }
    Ok((subject.to_owned(), said))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A word of RFC 6749, section 4.1.2.1, that may stand in a log; others may not.
fn plain_word(error: &str) -> String {
    let is_plain = error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_plain { error.to_owned() } else { "no".to_owned() }
}

/// What follows `?`, or a form: parameters one after another.
struct Query {
    text: String,
    is_first: bool,
}

impl Query {
    fn of(address: &str) -> Query {
        let mut text = address.to_owned();
        let has_one = address.contains('?');
        if !has_one {
            text.push('?');
        }
        let is_first = !has_one || text.ends_with(['?', '&']);
        Query { text, is_first }
    }

    fn add(&mut self, name: &str, value: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.text.push('&');
        }
        encode(name, &mut self.text);
        self.text.push('=');
        encode(value, &mut self.text);
    }
}

/// As in a form, where RFC 3986 and forms agree: all but unreserved characters as `%XX`.
pub fn encode(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.extend(DIGITS.get(usize::from(digit)).copied().map(char::from));
            }
        }
    }
}

/// The parameters of a query; `None` where an escape is none or what is escaped is no text.
fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(name)?, decoded(value)?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, following)) = rest.split_first() {
        rest = following;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let (digits, following) = rest.split_first_chunk::<2>()?;
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                out.push((high? * 16 + low?) as u8);
                rest = following;
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
#[path = "login/tests.rs"]
mod tests;
