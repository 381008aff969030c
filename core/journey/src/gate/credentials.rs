//! What was given to somebody, and is shown again: API keys, and names with passwords.
//!
//! Here is where they stand in a request, and what becomes of it. Who has the hashes that they are held against is
//! asked ([`Shown`]). What goes on has the name in a header that no client can write, and not the secret, unless that
//! is asked for. Texts and details are those of Envoy's `api_key_auth` and `basic_auth`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Reason;
use naru_base::text::percent_decoded;
use naru_spec::{ApiKeys, BasicAuth, Credentials, KeyPlace, defaults};

use super::{Answer, CheckCount, Distinct, Head, Memory, Question, Refusal, Step};
use crate::{View, base64};

/// An index into [`crate::Snapshot::credentials`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialsId(pub u32);

impl CredentialsId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What nobody is to read in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub of: CredentialsId,
    /// Of a password; a key is its own name.
    pub name: Option<Box<str>>,
    pub secret: Secret,
    /// Of the client.
    pub address: IpAddr,
}

/// What was found of what was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    Client(Arc<str>),
    Unknown,
    /// Too many wait to be looked at.
    Busy,
}

#[derive(Debug)]
pub struct CompiledKeys {
    of: CredentialsId,
    settings: ApiKeys,
}

#[derive(Debug)]
pub struct CompiledPasswords {
    of: CredentialsId,
    settings: BasicAuth,
}

impl CompiledKeys {
    pub(crate) fn new(settings: &ApiKeys, known: &mut Distinct<Credentials>) -> CompiledKeys {
        CompiledKeys { of: CredentialsId(known.id(&settings.keys)), settings: settings.clone() }
    }

    pub(crate) fn decide(
        &self,
        head: &mut Head<'_>,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        forget(head.headers, self.settings.client_header.as_ref());
        let refused = match answer {
            None => match self.shown(head) {
                Some(shown) => return Step::Ask(Question::Who(shown), defaults::PASSWORD_TIMEOUT),
                None => key_denied("missing_api_key"),
            },
            Some(Answer::Who(Who::Client(client))) => {
                let clients = &self.settings.clients;
                if clients.is_empty() || clients.iter().any(|allowed| **allowed == *client) {
                    view.count_check(CheckCount::KeyAllowed);
                    if !self.settings.forwards {
                        self.remove(head);
                    }
                    tell(head.headers, self.settings.client_header.as_ref(), &client);
                    memory.identified.is_somebody = true;
                    return Step::Pass;
                }
                Refusal {
                    status: 403,
                    body: Bytes::from_static(b"Client is forbidden."),
                    ..key_denied("client_not_allowed")
                }
            }
            Some(Answer::Who(Who::Unknown)) => key_denied("unknown_api_key"),
            Some(_) => busy(),
        };
        view.count_check(CheckCount::KeyDenied);
        // It goes nowhere but into logs.
        self.remove(head);
        Step::Refuse(Box::new(refused))
    }

    /// Where a key may stand.
    pub fn places(&self) -> &[KeyPlace] {
        &self.settings.places
    }

    fn shown(&self, head: &Head<'_>) -> Option<Shown> {
        let query = head.line.path.query();
        let key = self.settings.places.iter().find_map(|place| {
            let key: Cow<'_, [u8]> = match place {
                KeyPlace::Header(name) => {
                    let value = head.headers.get(name)?.as_bytes();
                    value.strip_prefix(b"Bearer ").unwrap_or(value).into()
                }
                KeyPlace::Query(name) => parameter(query?, name)?,
                KeyPlace::Cookie(name) => cookie(head.headers, name)?.into(),
            };
            (!key.is_empty()).then_some(key)
        })?;
        let secret = Secret(key.into_owned().into());
        Some(Shown { of: self.of, name: None, secret, address: head.client.address.ip() })
    }

    /// Wherever one could stand: another one would tell as much.
    fn remove(&self, head: &mut Head<'_>) {
        for place in &self.settings.places {
            match place {
                KeyPlace::Header(name) => forget(head.headers, Some(name)),
                KeyPlace::Query(name) => {
                    let Some(query) = head.line.path.query() else { continue };
                    if parameter(query, name).is_some() {
                        let kept = query.split('&').filter(|pair| *name_of(pair) != *name.as_bytes());
                        let kept = kept.collect::<Vec<_>>().join("&");
                        super::tokens::put_query(&mut head.line.path, &kept);
                    }
                }
                KeyPlace::Cookie(name) => remove_cookie(head.headers, name),
            }
        }
    }
}

/// A name and its password, as they are shown (RFC 7617, section 2).
pub fn basic(name: &str, password: &str) -> Option<HeaderValue> {
    let said = base64::encode(format!("{name}:{password}").as_bytes());
    HeaderValue::try_from(format!("Basic {said}")).ok()
}

fn key_denied(details: &str) -> Refusal {
    Refusal { details: Some(details.into()), ..Refusal::of(Reason::KeyDenied) }
}

/// Nobody knows, and nobody passes for that.
fn busy() -> Refusal {
    Refusal {
        headers: vec![(RETRY_AFTER, HeaderValue::from_static("1"))],
        ..Refusal::of(Reason::PasswordsBusy)
    }
}

impl CompiledPasswords {
    pub(crate) fn new(settings: &BasicAuth, known: &mut Distinct<Credentials>) -> CompiledPasswords {
        CompiledPasswords { of: CredentialsId(known.id(&settings.passwords)), settings: settings.clone() }
    }

    pub(crate) fn decide(
        &self,
        head: &mut Head<'_>,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        forget(head.headers, self.settings.client_header.as_ref());
        let refused = match answer {
            None => match self.shown(head) {
                Ok(shown) => return Step::Ask(Question::Who(shown), defaults::PASSWORD_TIMEOUT),
                Err((details, why)) => self.denied(head, details, why),
            },
            Some(Answer::Who(Who::Client(name))) => {
                view.count_check(CheckCount::PasswordAllowed);
                if !self.settings.forwards {
                    forget(head.headers, Some(self.place()));
                }
                tell(head.headers, self.settings.client_header.as_ref(), &name);
                memory.identified.is_somebody = true;
                return Step::Pass;
            }
            Some(Answer::Who(Who::Unknown)) => self.denied(
                head,
                "invalid_credential_for_basic_auth",
                "User authentication failed. Invalid username/password combination.",
            ),
            Some(_) => busy(),
        };
        view.count_check(CheckCount::PasswordDenied);
        Step::Refuse(Box::new(refused))
    }

    /// In which header names and passwords stand.
    pub fn place(&self) -> &HeaderName {
        self.settings.header.as_ref().unwrap_or(&AUTHORIZATION)
    }

    /// Or what is wrong with it: for the log, and for whoever asks.
    fn shown(&self, head: &Head<'_>) -> Result<Shown, (&'static str, &'static str)> {
        let value = head.headers.get(self.place()).ok_or((
            "no_credential_for_basic_auth",
            "User authentication failed. Missing username and password.",
        ))?;
        let text = value.to_str().unwrap_or_default();
        let basic = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Basic"));
        let (_, text) = basic.ok_or((
            "invalid_scheme_for_basic_auth",
            "User authentication failed. Expected 'Basic' authentication scheme.",
        ))?;
        let format =
            ("invalid_format_for_basic_auth", "User authentication failed. Invalid basic credential format.");
        let decoded = base64::decode(text.trim_start()).ok_or(format)?;
        let colon = decoded.iter().position(|byte| *byte == b':').ok_or(format)?;
        let (name, password) = decoded.split_at(colon);
        let name = std::str::from_utf8(name).map_err(|_| format)?;
        let secret = Secret(password.strip_prefix(b":").unwrap_or(password).into());
        Ok(Shown { of: self.of, name: Some(name.into()), secret, address: head.client.address.ip() })
    }

    /// RFC 7617, section 2.
    fn denied(&self, head: &Head<'_>, details: &str, why: &'static str) -> Refusal {
        let realm = match &self.settings.realm {
            Some(realm) => realm.clone(),
            None => {
                let authority = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
                let mut path = head.line.path.as_str();
                // As long as Envoy says it.
                path = path.get(..256).unwrap_or(path);
                format!("{}://{authority}{path}", head.line.scheme.as_str())
            }
        };
        let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\""));
        Refusal {
            details: Some(details.into()),
            body: Bytes::from_static(why.as_bytes()),
            headers: challenge.into_iter().map(|value| (WWW_AUTHENTICATE, value)).collect(),
            ..Refusal::of(Reason::PasswordDenied)
        }
    }
}

/// What only naru may say is not for a client to say.
fn forget(headers: &mut HeaderMap, name: Option<&HeaderName>) {
    if let Some(name) = name {
        headers.remove(name);
    }
}

fn tell(headers: &mut HeaderMap, name: Option<&HeaderName>, client: &str) {
    if let Some(name) = name
        // A name may have letters of any language.
        && let Ok(value) = HeaderValue::from_bytes(client.as_bytes())
    {
        headers.insert(name, value);
    }
}

fn name_of(pair: &str) -> Cow<'_, [u8]> {
    percent_decoded(pair.split_once('=').map_or(pair, |(name, _)| name).as_bytes())
}

/// The first parameter of that name.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    let pair = query.split('&').find(|pair| *name_of(pair) == *name.as_bytes())?;
    Some(percent_decoded(pair.split_once('=').map_or("", |(_, value)| value).as_bytes()))
}

fn is_cookie(pair: &[u8], name: &str) -> bool {
    pair.trim_ascii().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

/// The first cookie of that name, without the quotes around its value.
fn cookie(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let lines = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    let mut pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    let pair = pairs.find(|pair| is_cookie(pair, name))?.trim_ascii();
    let value = pair.get(name.len() + 1..)?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value).to_vec())
}

/// The others stay as they are.
fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    let has_any =
        lines.iter().any(|line| line.as_bytes().split(|byte| *byte == b';').any(|p| is_cookie(p, name)));
    if !has_any {
        return;
    }
    headers.remove(COOKIE);
    for line in lines {
        let kept = line.as_bytes().split(|byte| *byte == b';').filter(|pair| !is_cookie(pair, name));
        let kept: Vec<&[u8]> = kept.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect();
        if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_bytes(&kept.join(&b"; "[..]))) {
            headers.append(COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};
    use naru_base::{ClusterId, EndpointId};
    use naru_spec::{Hashes, Scheme};

    use super::*;
    use crate::edge::{Client, Peer};
    use crate::record::RequestLine;

    struct Nobody;

    impl View for Nobody {
        fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
            0
        }
    }

    fn with_head<T>(
        target: &str,
        headers: &mut HeaderMap,
        act: impl FnOnce(&mut Head<'_>) -> T,
    ) -> (T, String) {
        let peer = Peer {
            remote: ([192, 0, 2, 1], 5).into(),
            local: ([192, 0, 2, 2], 80).into(),
            is_tls: false,
            is_certified: false,
            is_in_tunnel: false,
        };
        let mut line = RequestLine {
            method: Method::GET,
            path: target.parse().unwrap(),
            authority: None,
            scheme: Scheme::Http,
            version: Version::HTTP_11,
        };
        let client = Client::unknown(&peer);
        let mut head = Head {
            line: &mut line,
            client: &client,
            headers,
            peer: &peer,
            server_name: None,
            names: None,
            rates: None,
        };
        let came = act(&mut head);
        (came, line.path.to_string())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn keys() -> CompiledKeys {
        let settings = ApiKeys {
            places: vec![
                KeyPlace::Header(HeaderName::from_static("x-key")),
                KeyPlace::Query("key".into()),
                KeyPlace::Cookie("key".into()),
            ],
            keys: Credentials::Keys(Vec::new()),
            client_header: Some(HeaderName::from_static("x-client")),
            forwards: false,
            clients: vec!["ann".into()],
        };
        CompiledKeys::new(&settings, &mut Distinct::default())
    }

    #[track_caller]
    fn shows(target: &str, pairs: &[(&'static str, &str)], expected: Option<&str>) {
        let mut headers = headers(pairs);
        let (shown, _) = with_head(target, &mut headers, |head| keys().shown(head));
        let shown = shown.map(|shown| String::from_utf8_lossy(shown.secret.bytes()).into_owned());
        assert_eq!(shown.as_deref(), expected, "{target} {pairs:?}");
    }

    #[test]
    fn a_key_stands_in_the_first_place_that_has_one() {
        shows("/", &[], None);
        shows("/?key=a", &[("x-key", "b"), ("cookie", "key=c")], Some("b"));
        shows("/?key=a", &[("x-key", ""), ("cookie", "key=c")], Some("a"));
        shows("/?key=&x=1", &[("cookie", "a=1; key=\"c\"; b")], Some("c"));
        shows("/?keys=a&key=%61%2", &[], Some("a%2"));
        shows("/", &[("x-key", "Bearer b")], Some("b"));
        shows("/", &[("cookie", "xkey=c; keyx=d")], None);
    }

    #[test]
    fn a_key_is_taken_out_wherever_it_could_stand_and_its_client_is_told() {
        let mut headers = headers(&[
            ("x-key", "a"),
            ("x-client", "root"),
            ("cookie", "a=1; key=b;c=2"),
            ("x-other", "key=a"),
        ]);
        let mut memory = Memory::default();
        let known = |client: &str| Some(Answer::Who(Who::Client(client.into())));
        let (step, target) = with_head("/p?a=1&key=b&%6bey=c&b=key", &mut headers, |head| {
            keys().decide(head, known("ann"), &mut memory, &Nobody)
        });
        assert!(matches!(step, Step::Pass) && memory.identified.is_somebody);
        assert_eq!(target, "/p?a=1&b=key");
        assert_eq!(
            (headers.get("x-key"), &headers["x-client"], &headers["cookie"]),
            (None, &HeaderValue::from_static("ann"), &HeaderValue::from_static("a=1; c=2"))
        );
        let mut of_korea = HeaderMap::new();
        tell(&mut of_korea, Some(&HeaderName::from_static("x-client")), "철수");
        assert_eq!(of_korea["x-client"].as_bytes(), "철수".as_bytes());
        let mut memory = Memory::default();
        let (step, _) =
            with_head("/", &mut headers, |head| keys().decide(head, known("bob"), &mut memory, &Nobody));
        assert!(matches!(step, Step::Refuse(refusal) if refusal.status == 403));
        assert!(!memory.identified.is_somebody && !headers.contains_key("x-client"));
        let (step, target) = with_head("/p?a=1&key=b", &mut headers, |head| {
            keys().decide(head, Some(Answer::Who(Who::Unknown)), &mut memory, &Nobody)
        });
        assert!(matches!(step, Step::Refuse(_)));
        assert_eq!(target, "/p?a=1", "whoever reads of it does not read what was tried");
    }

    #[test]
    fn what_is_no_name_with_a_password_is_told_apart() {
        let settings = BasicAuth {
            passwords: Credentials::Passwords {
                file: naru_spec::DataSource::Inline(Vec::new()),
                hashes: Hashes::All,
            },
            realm: Some("a \"b\"".into()),
            header: None,
            client_header: None,
            forwards: false,
        };
        let passwords = CompiledPasswords::new(&settings, &mut Distinct::default());
        let check = |value: &str, expected: Result<(&str, &str), &str>| {
            let mut headers = headers(&[("authorization", value)]);
            let (shown, _) = with_head("/", &mut headers, |head| passwords.shown(head));
            let shown = shown.map(|shown| {
                (
                    shown.name.unwrap().into_string(),
                    String::from_utf8_lossy(shown.secret.bytes()).into_owned(),
                )
            });
            let shown = shown.as_ref().map(|(name, secret)| (name.as_str(), secret.as_str()));
            assert_eq!(shown.map_err(|(details, _)| *details), expected, "{value}");
        };
        check("Basic YW5uOnBhc3N3b3Jk", Ok(("ann", "password")));
        check("basic  YW5uOnBhOnM", Ok(("ann", "pa:s")));
        check("Basic YW5uOg==", Ok(("ann", "")));
        check("Basic YW5u", Err("invalid_format_for_basic_auth"));
        check("Basic !", Err("invalid_format_for_basic_auth"));
        check("Basic /zo6", Err("invalid_format_for_basic_auth"));
        check("Basic", Err("invalid_scheme_for_basic_auth"));
        check("Bearer YW5uOnBhc3N3b3Jk", Err("invalid_scheme_for_basic_auth"));
        let mut headers = HeaderMap::new();
        let (step, _) = with_head("/", &mut headers, |head| {
            passwords.decide(head, None, &mut Memory::default(), &Nobody)
        });
        let Step::Refuse(refusal) = step else { panic!("{step:?}") };
        assert_eq!(
            refusal.headers,
            [(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"a \\\"b\\\"\""))]
        );
    }

    #[test]
    fn no_secret_is_printed() {
        let mut headers = headers(&[("x-key", "hunter2")]);
        let (shown, _) = with_head("/", &mut headers, |head| keys().shown(head));
        assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
    }
}
