//! What somebody else is told of a request, and what becomes of it by what they say: Envoy's `ext_authz`.
//!
//! In come settings, a request and an answer; out goes who is told what ([`Shown`]), and what is done
//! ([`Judgement`]). Deliberately not here: who asks over which connection, and how gRPC writes it (`wire/authz`).
//!
//! Source: Envoy's `filters/http/ext_authz/ext_authz.cc` and `filters/common/ext_authz`.

mod changes;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_route::{Subject, TextTest};
use naru_spec::{External, ExternalHttp, ExternalService, Invalid, RbacAction, RbacRules, StringMatch};

use crate::authorization::Rules;
use crate::test::Asker;
pub use changes::{Changes, Edit, How, apply};

/// What a client itself says of these is not told, and not passed on where naru says it.
pub const PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");
pub const FAILURE_ALLOWED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// What is said about whom, ready to be asked.
#[derive(Debug)]
pub struct Externals {
    allowed: Option<Tests>,
    disallowed: Tests,
    http: Option<OfHttp>,
    only_for: Option<Rules>,
    settings: External,
}

#[derive(Debug)]
struct OfHttp {
    said: ExternalHttp,
    upstream: Tests,
    upstream_append: Tests,
    client: Tests,
    client_on_success: Tests,
}

/// Names of headers.
#[derive(Debug)]
struct Tests(Box<[TextTest]>);

impl Tests {
    fn compile(said: &[StringMatch], problems: &mut Vec<Invalid>) -> Tests {
        let mut tests = Vec::new();
        for test in said {
            match TextTest::compile(test) {
                Ok(test) => tests.push(test),
                Err(invalid) => problems.push(invalid),
            }
        }
        Tests(tests.into())
    }

    fn any(&self, name: &str) -> bool {
        self.0.iter().any(|test| test.is_match(name.as_bytes()))
    }
}

/// One header that somebody is told. Names of HTTP/2 begin with a colon.
pub type Told = (Box<str>, Bytes);

/// What is told of a request, whichever way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub headers: Vec<Told>,
    pub body: Option<Bytes>,
}

/// A body that was read ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    pub bytes: Bytes,
    /// Of the body, as far as it was read.
    pub read: u64,
}

impl Beginning {
    pub fn is_partial(&self) -> bool {
        self.read > self.bytes.len() as u64
    }
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    Pass(Box<Changes>),
    Deny(Box<Denied>),
    /// They could not say, but how that is to be told to the client.
    Fail(Option<Box<Denied>>),
    /// What they say cannot be done.
    Invalid,
}

/// An answer to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// 0 where they say nothing of it.
    pub status: u16,
    pub headers: Vec<Edit>,
    pub body: Bytes,
}

/// An answer by gRPC, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckResponse {
    /// Of gRPC; 0 lets the request pass.
    pub code: i32,
    pub ok: Option<Changes>,
    pub denied: Option<Denied>,
    pub error: Option<Denied>,
}

impl Externals {
    /// # Errors
    /// Every pattern that is none.
    pub fn compile(said: &External) -> Result<Externals, Vec<Invalid>> {
        let mut problems = said.problems();
        let compile = |said: &[StringMatch], problems: &mut Vec<Invalid>| Tests::compile(said, problems);
        let http = match &said.service {
            ExternalService::Grpc(_) => None,
            ExternalService::Http(http) => Some(OfHttp {
                upstream: compile(&http.upstream_headers, &mut problems),
                upstream_append: compile(&http.upstream_headers_to_append, &mut problems),
                client: compile(&http.client_headers, &mut problems),
                client_on_success: compile(&http.client_headers_on_success, &mut problems),
                said: http.clone(),
            }),
        };
        let allowed = said.allowed_headers.as_deref().map(|said| compile(said, &mut problems));
        let disallowed = compile(&said.disallowed_headers, &mut problems);
        let only_for = said.only_for.as_ref().map(|said| {
            // Who a policy is for is asked about.
            let rules = RbacRules { action: RbacAction::Deny, policies: said.policies.clone() };
            Rules::compile(&rules, &mut problems)
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Externals { allowed, disallowed, http, only_for, settings: said.clone() })
    }

    pub fn settings(&self) -> &External {
        &self.settings
    }

    /// Whether it is asked about this one at all.
    pub fn is_for(&self, asker: &Asker<'_>) -> bool {
        self.only_for.as_ref().is_none_or(|rules| !rules.decide(asker).is_allowed)
    }

    /// What they are told of a request.
    pub fn show(&self, subject: &Subject<'_>, body: Option<&Beginning>) -> Shown {
        let path = match subject.query {
            Some(query) => format!("{}?{query}", subject.path),
            None => subject.path.to_owned(),
        };
        let mut told: Vec<Told> = Vec::new();
        let scheme = subject.scheme.as_str();
        let method = subject.method.as_str();
        let pseudo =
            [(":authority", subject.authority), (":path", &path), (":method", method), (":scheme", scheme)];
        for (name, value) in pseudo {
            // A request of HTTP has them anyway.
            if self.http.is_none() && self.tells(name) {
                told.push((name.into(), Bytes::copy_from_slice(value.as_bytes())));
            }
        }
        for (name, value) in subject.headers {
            if *name == HOST || *name == PARTIAL_BODY || !self.tells(name.as_str()) {
                continue;
            }
            if self.http.is_some() && (*name == CONTENT_LENGTH || changes::is_of_connection(name)) {
                continue;
            }
            let bytes = if self.settings.raw_headers {
                Bytes::copy_from_slice(value.as_bytes())
            } else {
                as_text(value.as_bytes())
            };
            let before = told.iter_mut().find(|(known, _)| **known == *name.as_str());
            match before.filter(|_| !self.settings.raw_headers) {
                Some((_, before)) => *before = [before, &b","[..], &bytes].concat().into(),
                None => told.push((name.as_str().into(), bytes)),
            }
        }
        if let Some(body) = body {
            let is_partial = if body.is_partial() { "true" } else { "false" };
            told.push((PARTIAL_BODY.as_str().into(), Bytes::from_static(is_partial.as_bytes())));
        }
        if let Some(http) = &self.http {
            for (name, value) in &http.said.headers_to_add {
                told.retain(|(known, _)| **known != *name.as_str());
                told.push((name.as_str().into(), Bytes::copy_from_slice(value.as_bytes())));
            }
        }
        let is_text = self.http.is_none() && self.settings.body.is_some_and(|body| !body.is_raw);
        let body = body.map(|body| if is_text { as_text(&body.bytes) } else { body.bytes.clone() });
        Shown { headers: told, body }
    }

    /// The path that they are asked for by HTTP.
    pub fn path(&self, subject: &Subject<'_>) -> String {
        let Some(http) = &self.http else { return String::new() };
        if !http.said.path.is_empty() {
            return http.said.path.clone();
        }
        let query = subject.query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{}{query}", http.said.path_prefix, subject.path)
    }

    fn tells(&self, name: &str) -> bool {
        if self.disallowed.any(name) {
            return false;
        }
        match (&self.allowed, &self.http) {
            (Some(allowed), None) => allowed.any(name),
            (None, None) => true,
            (allowed, Some(_)) => {
                name == AUTHORIZATION.as_str() || allowed.as_ref().is_some_and(|allowed| allowed.any(name))
            }
        }
    }

    /// What an answer of HTTP says.
    pub fn judge_http(&self, status: u16, headers: &HeaderMap, body: Bytes) -> Judgement {
        let Some(http) = &self.http else { return Judgement::Fail(None) };
        let edit = |name: &HeaderName, value: &HeaderValue, how| Edit {
            name: name.as_str().into(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            how,
        };
        let said = headers.iter().filter(|(name, _)| **name != TO_REMOVE);
        match status {
            200 => {
                let mut changes = Changes::default();
                for (name, value) in said {
                    if http.upstream.any(name.as_str()) {
                        changes.request.push(edit(name, value, How::Set));
                    }
                    if http.upstream_append.any(name.as_str()) {
                        changes.request.push(edit(name, value, How::Add));
                    }
                    if http.client_on_success.any(name.as_str()) {
                        changes.response.push(edit(name, value, How::Add));
                    }
                }
                // What is set comes before what is added.
                changes.request.sort_by_key(|edit| edit.how != How::Set);
                for value in headers.get_all(TO_REMOVE) {
                    let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    let names = names.filter(|name| !name.is_empty());
                    changes.remove.extend(names.map(|name| String::from_utf8_lossy(name).into()));
                }
                Judgement::Pass(Box::new(changes))
            }
            500.. => Judgement::Fail(None),
            _ => {
                let own = [WWW_AUTHENTICATE, LOCATION];
                let is_told = |name: &HeaderName| {
                    if http.client.0.is_empty() {
                        return *name != HOST;
                    }
                    own.contains(name) || http.client.any(name.as_str())
                };
                let told = said.filter(|(name, _)| is_told(name));
                let headers = told.map(|(name, value)| edit(name, value, How::Add)).collect();
                Judgement::Deny(Box::new(Denied { status, headers, body }))
            }
        }
    }

    /// What an answer of gRPC says.
    pub fn judge_grpc(&self, answer: CheckResponse) -> Judgement {
        match answer {
            CheckResponse { code: 0, ok, .. } => Judgement::Pass(Box::new(ok.unwrap_or_default())),
            CheckResponse { error: Some(error), .. } => Judgement::Fail(Some(Box::new(error))),
            CheckResponse { denied, .. } => {
                let mut denied = denied.unwrap_or_default();
                if denied.status == 0 {
                    denied.status = 403;
                }
                Judgement::Deny(Box::new(denied))
            }
        }
    }

    /// What a refusal says to the client.
    pub fn denial(&self, denied: &Denied) -> (Vec<(HeaderName, HeaderValue)>, Bytes) {
        let mut headers = HeaderMap::new();
        // What cannot be a header is none of a refusal, which holds all the same.
        changes::apply(&denied.headers, &mut headers, &[]);
        let mut body = denied.body.clone();
        if let Some(max) = self.settings.denied_body_bytes_max {
            body.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        }
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        (headers.collect(), body)
    }

    /// Changes a request as they say; `false` where that cannot be, and nothing is to be done with it then: what is left
    /// out could be who the upstream takes the client for.
    pub fn change(&self, changes: &Changes, headers: &mut HeaderMap, query: &mut Option<String>) -> bool {
        changes.apply(headers, query)
    }
}

/// What is no UTF-8 is `!`, byte for byte. Envoy's `sanitizeUtf8String`.
fn as_text(bytes: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.extend(chunk.invalid().iter().map(|_| b'!'));
    }
    text.into()
}
