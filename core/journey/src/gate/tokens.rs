//! Tokens that a request has to show.
//!
//! Which ones, and whether what they claim is accepted, is `naru-identity`'s to say. To read one and to hold it against
//! keys takes who has keys: that is asked ([`Reading`]), and answered at once where the keys are at hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{HOST, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use naru_base::Reason;
use naru_identity::{Accepted, Authentication, Denial, Token, TokenPlace, Verdict, Wanted};
use naru_spec::{Invalid, Jwt, JwtKeys, defaults};

use super::{Answer, CheckCount, Distinct, Head, Memory, Question, Refusal, Step};
use crate::View;

/// An index into [`crate::Snapshot::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeysId(pub u32);

impl KeysId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What tokens are to be shown, ready to be asked.
#[derive(Debug)]
pub struct CompiledTokens {
    said: Arc<Tokens>,
    /// For an answer, of keys that have to be fetched.
    timeout: Duration,
}

/// What whoever reads tokens has to know.
#[derive(Debug)]
pub struct Tokens {
    pub authentication: Authentication,
    /// By provider.
    pub keys: Box<[KeysId]>,
}

/// A token that is to be read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub of: Arc<Tokens>,
    pub wanted: Box<Wanted>,
}

impl PartialEq for Reading {
    fn eq(&self, other: &Reading) -> bool {
        Arc::ptr_eq(&self.of, &other.of) && self.wanted == other.wanted
    }
}

impl Eq for Reading {}

/// A token that was read: what it claims was accepted, and it is signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    pub wanted: Box<Wanted>,
    pub answer: Result<(Accepted, Arc<Token>), Denial>,
}

impl CompiledTokens {
    pub(crate) fn new(said: &Jwt, keys: &mut Distinct<JwtKeys>) -> Result<CompiledTokens, Vec<Invalid>> {
        let authentication = Authentication::compile(said)?;
        let timeouts = said.providers.iter().filter_map(|provider| match &provider.keys {
            JwtKeys::Remote(remote) => Some(remote.timeout),
            JwtKeys::Local(_) => None,
        });
        let timeout = timeouts.max().unwrap_or(defaults::JWKS_TIMEOUT);
        let keys = said.providers.iter().map(|provider| KeysId(keys.id(&provider.keys))).collect();
        Ok(CompiledTokens { said: Arc::new(Tokens { authentication, keys }), timeout })
    }

    /// Where tokens are looked for.
    pub fn places(&self) -> Vec<TokenPlace> {
        self.said.authentication.places()
    }

    pub(crate) fn decide(
        &self,
        head: &mut Head<'_>,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        let authentication = &self.said.authentication;
        let Some(rule) = authentication.rule(&head.subject(0)) else {
            if authentication.is_bypassed(&head.subject(0)) {
                authentication.sanitize(head.headers);
            }
            return Step::Pass;
        };
        match answer {
            Some(Answer::Read(read)) => memory.tokens.learn(&read.wanted, read.answer),
            // Its keys were not there in time.
            Some(_) => return self.refuse(head, Denial::Fetch, view),
            None => {}
        }
        let mut query = head.line.path.query().map(str::to_owned);
        match authentication.decide(rule, &memory.tokens, head.headers, &mut query) {
            Verdict::Pass(identified) => {
                view.count_check(CheckCount::TokenAllowed);
                if query.as_deref() != head.line.path.query() {
                    put_query(&mut head.line.path, query.as_deref().unwrap_or(""));
                }
                // Who has shown a key as well is somebody without a token, too.
                let is_somebody = memory.identified.is_somebody;
                memory.reroutes |= identified.reroutes;
                memory.identified = identified;
                memory.identified.is_somebody |= is_somebody;
                Step::Pass
            }
            Verdict::Deny(denial) => self.refuse(head, denial, view),
            Verdict::Ask(wanted) => {
                Step::Ask(Question::Read(Reading { of: Arc::clone(&self.said), wanted }), self.timeout)
            }
        }
    }

    fn refuse(&self, head: &mut Head<'_>, denial: Denial, view: &impl View) -> Step {
        view.count_check(CheckCount::TokenDenied);
        let mut refusal = Refusal {
            status: denial.status(),
            details: Some(denial.details().into()),
            body: Bytes::new(),
            ..Refusal::of(Reason::TokenDenied)
        };
        if !self.said.authentication.strip_failure_response {
            let authority = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
            let path = head.line.path.as_str();
            let challenge = denial.challenge(head.line.scheme.as_str(), authority, path);
            refusal
                .headers
                .extend(HeaderValue::try_from(challenge).ok().map(|value| (WWW_AUTHENTICATE, value)));
            refusal.body = Bytes::from_static(denial.text().as_bytes());
        }
        // It goes nowhere but into logs.
        let hidden = head.line.path.query().map(|query| self.said.authentication.hidden(query));
        if let Some(hidden) = hidden.filter(|hidden| Some(hidden.as_str()) != head.line.path.query()) {
            put_query(&mut head.line.path, &hidden);
        }
        Step::Refuse(Box::new(refusal))
    }
}

pub(super) fn put_query(path: &mut PathAndQuery, query: &str) {
    let text = if query.is_empty() { path.path().to_owned() } else { format!("{}?{query}", path.path()) };
    if let Ok(changed) = PathAndQuery::try_from(text) {
        *path = changed;
    }
}
