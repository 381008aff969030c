//! Somebody else says whether a request passes: Envoy's `ext_authz`.
//!
//! | what is known                     | what is done                                             |
//! |-----------------------------------|----------------------------------------------------------|
//! | nothing; its body is to be told   | ask for the beginning of the body                        |
//! | nothing, or the body is there     | ask them                                                 |
//! | the body is longer than may be    | refuse, 413                                              |
//! | they let it pass                  | change it as they say; its rule may be another one now   |
//! | they refuse it                    | their status, headers and body                           |
//! | nobody has answered, or in vain   | let it pass where that is said, else refuse              |
//!
//! What they are told and what their answers mean is `naru_identity::external`'s to say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use naru_base::chance::mix;
use naru_base::{Json, Reason};
use naru_identity::external::{Beginning, Denied, Externals, FAILURE_ALLOWED, Judgement, Shown};
use naru_spec::{External, Invalid};

use super::{Answer, CheckCount, Head, Memory, Question, Refusal, Step};
use crate::View;

/// For the body of a request: as long as the request itself may take.
const BODY_TIME_MAX: Duration = Duration::from_secs(86_400);

const SERVICE: &str = "x-envoy-downstream-service-cluster";

/// Who is asked, ready to be.
#[derive(Debug)]
pub struct CompiledExternal {
    said: Arc<Externals>,
}

/// What somebody is asked about a request.
#[derive(Clone, Debug)]
pub struct Asking {
    pub of: Arc<Externals>,
    pub method: http::Method,
    pub authority: Box<str>,
    /// With its query.
    pub path: Box<str>,
    /// That they are asked for by HTTP.
    pub asked_path: Box<str>,
    pub scheme: &'static str,
    pub protocol: &'static str,
    pub shown: Shown,
    /// The client's certificate names it so.
    pub principal: Option<Box<str>>,
    pub server_name: Option<Box<str>>,
    /// What the client says that it is.
    pub service: Option<Box<str>>,
    /// By what their providers call them.
    pub claims: Vec<(Box<str>, Json)>,
    /// A number of the request.
    pub id: u64,
    /// Of the body, as far as it was read.
    pub size: u64,
}

impl PartialEq for Asking {
    fn eq(&self, other: &Asking) -> bool {
        Arc::ptr_eq(&self.of, &other.of) && self.id == other.id && self.shown == other.shown
    }
}

impl Eq for Asking {}

impl CompiledExternal {
    pub(crate) fn new(said: &External) -> Result<CompiledExternal, Vec<Invalid>> {
        Externals::compile(said).map(|said| CompiledExternal { said: Arc::new(said) })
    }

    pub(crate) fn decide(
        &self,
        head: &mut Head<'_>,
        draw: u64,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        let settings = self.said.settings();
        match answer {
            None => {
                if settings.tells_failure {
                    head.headers.remove(FAILURE_ALLOWED);
                }
                if !settings.enabled.takes(mix(draw ^ 0x0061_7574_685f_6f6e)) {
                    return if settings.denies_others { self.refuse_failed(None, view) } else { Step::Pass };
                }
                if !self.is_for(head, memory, view) {
                    return Step::Pass;
                }
                match settings.body {
                    Some(body) => Step::Ask(
                        Question::Gather { bytes_max: body.bytes_max, allows_partial: body.allows_partial },
                        BODY_TIME_MAX,
                    ),
                    None => self.ask(head, draw, None, memory),
                }
            }
            Some(Answer::Gathered(body)) => self.ask(head, draw, body.as_ref(), memory),
            Some(Answer::TooLong) => Step::Refuse(Box::new(Refusal::of(Reason::BodyTooLarge))),
            Some(Answer::Judged(judgement)) => self.judge(*judgement, head, memory, view),
            Some(_) => self.fail(None, head, view),
        }
    }

    fn is_for(&self, head: &Head<'_>, memory: &Memory, view: &impl View) -> bool {
        let subject = head.subject(0);
        self.said.is_for(&head.asker(&subject, &memory.identified, view.wall()))
    }

    fn ask(&self, head: &Head<'_>, draw: u64, body: Option<&Beginning>, memory: &Memory) -> Step {
        let settings = self.said.settings();
        let subject = head.subject(0);
        let principal = head.names.and_then(|names| {
            let named = names.uris.first().or(names.dns.first()).unwrap_or(&names.subject);
            (!named.is_empty()).then(|| named.as_str().into())
        });
        let server_name = head.server_name.filter(|_| settings.tells_server_name);
        let claims = memory.identified.all().filter(|_| settings.tells_claims);
        let asking = Asking {
            method: subject.method.clone(),
            authority: subject.authority.into(),
            path: head.line.path.as_str().into(),
            asked_path: self.said.path(&subject).into(),
            scheme: subject.scheme.as_str(),
            protocol: match head.line.version {
                http::Version::HTTP_10 => "HTTP/1.0",
                http::Version::HTTP_2 => "HTTP/2",
                http::Version::HTTP_3 => "HTTP/3",
                _ => "HTTP/1.1",
            },
            shown: self.said.show(&subject, body),
            principal,
            server_name: server_name.map(Into::into),
            service: head.headers.get(SERVICE).and_then(|value| Some(value.to_str().ok()?.into())),
            claims: claims.map(|(name, claims)| (name.into(), claims.clone())).collect(),
            size: body.map_or(0, |body| body.read),
            id: mix(draw ^ 0x0061_7574_685f_6964),
            of: Arc::clone(&self.said),
        };
        Step::Ask(Question::Judge(Box::new(asking)), settings.timeout)
    }

    fn judge(
        &self,
        judgement: Judgement,
        head: &mut Head<'_>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        match judgement {
            Judgement::Pass(changes) => {
                let mut query = head.line.path.query().map(str::to_owned);
                if changes.is_too_much() || !self.said.change(&changes, head.headers, &mut query) {
                    return self.refuse_invalid(view);
                }
                if query.as_deref() != head.line.path.query() {
                    super::tokens::put_query(&mut head.line.path, query.as_deref().unwrap_or(""));
                }
                memory.reroutes |= self.said.settings().reroutes && !changes.is_empty();
                // What they write into a request, or take out of it, may be who it is from.
                memory.identified.is_somebody |= !changes.request.is_empty() || !changes.remove.is_empty();
                memory.dressed.extend(changes.response);
                view.count_check(CheckCount::ExternalAllowed);
                Step::Pass
            }
            Judgement::Deny(denied) => {
                let (headers, body) = self.said.denial(&denied);
                view.count_check(CheckCount::ExternalDenied);
                let refusal = Refusal::of(Reason::ExternalDenied);
                // What is no answer at all is none of a refusal.
                let status =
                    if (200..=599).contains(&denied.status) { denied.status } else { refusal.status };
                Step::Refuse(Box::new(Refusal { status, headers, body, ..refusal }))
            }
            Judgement::Fail(said) => self.fail(said, head, view),
            Judgement::Invalid => self.refuse_invalid(view),
        }
    }

    /// Nobody has said anything that holds.
    fn fail(&self, said: Option<Box<Denied>>, head: &mut Head<'_>, view: &impl View) -> Step {
        let settings = self.said.settings();
        if !settings.failure_allows {
            return self.refuse_failed(said, view);
        }
        view.count_check(CheckCount::ExternalFailureAllowed);
        if settings.tells_failure {
            head.headers.insert(FAILURE_ALLOWED, HeaderValue::from_static("true"));
        }
        Step::Pass
    }

    fn refuse_failed(&self, said: Option<Box<Denied>>, view: &impl View) -> Step {
        view.count_check(CheckCount::ExternalFailed);
        let own = self.said.settings().status_on_error;
        let mut refusal = Refusal { status: own, body: Bytes::new(), ..Refusal::of(Reason::ExternalFailed) };
        if let Some(said) = said {
            let (headers, body) = self.said.denial(&said);
            if (200..=599).contains(&said.status) {
                refusal.status = said.status;
            }
            refusal.headers = headers;
            refusal.body = body;
        }
        Step::Refuse(Box::new(refusal))
    }

    fn refuse_invalid(&self, view: &impl View) -> Step {
        view.count_check(CheckCount::ExternalFailed);
        Step::Refuse(Box::new(Refusal {
            status: 500,
            details: Some("ext_authz_invalid".into()),
            ..Refusal::of(Reason::ExternalFailed)
        }))
    }
}
