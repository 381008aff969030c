//! A rate limit service counts: Envoy's `source/extensions/filters/http/ratelimit/ratelimit.cc`.
//!
//! | what is known                      | what is done                                                             |
//! |------------------------------------|--------------------------------------------------------------------------|
//! | it goes to no cluster, or nothing describes it | it passes                                                    |
//! | nothing yet                        | ask                                                                      |
//! | they say that it is beyond a limit | refuse it with what they say, where refusals are enforced                |
//! | they say anything else             | it passes, with their headers                                            |
//! | nobody has answered, or in vain    | it passes, but for the part that is refused then                         |

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};
use naru_admit::described::{Described, ServiceAnswer};
use naru_base::Reason;
use naru_base::chance::mix;
use naru_identity::external::{Edit, How, apply};
use naru_route::Edits;
use naru_spec::{Invalid, RateRequests, RateService};

use super::descriptors::{self, CompiledDescriptors};
use super::local_rate::{LIMIT, REMAINING, RESET, RESOURCE_EXHAUSTED, TOO_MANY_REQUESTS};
use super::{Answer, CheckCount, Head, Memory, Question, Refusal, Step, Way};
use crate::View;
use crate::edge::X_ENVOY_INTERNAL;

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
/// As long as a request itself may take.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// Who is asked, ready to be.
#[derive(Debug)]
pub struct CompiledRateService {
    settings: Arc<RateService>,
    descriptors: CompiledDescriptors,
    of_refusal: Edits,
}

/// What a rate limit service is asked about a request.
#[derive(Clone, Debug, PartialEq)]
pub struct RateAsking {
    pub of: Arc<RateService>,
    pub descriptors: Vec<Described>,
    /// For an answer.
    pub timeout: Duration,
}

/// It is told apart by what is asked, and settings are the same where they are at one place.
impl Eq for RateAsking {}

impl CompiledRateService {
    /// # Errors
    /// What cannot be compiled of what requests are called.
    pub(crate) fn new(settings: &RateService) -> Result<CompiledRateService, Vec<Invalid>> {
        // What a rule says to it goes before what the filter says, and that before what rules say to all.
        let own = if settings.rule_rates.is_empty() { &settings.rates } else { &settings.rule_rates };
        Ok(CompiledRateService {
            descriptors: CompiledDescriptors::new(own)?,
            of_refusal: Edits::compile(&[&settings.response_headers]),
            settings: Arc::new(settings.clone()),
        })
    }

    pub(crate) fn decide(
        &self,
        head: &mut Head<'_>,
        way: &Way<'_>,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        match answer {
            None => self.ask(head, way, memory),
            Some(Answer::Limited(answer)) => self.hear(&answer, head, way, memory, view),
            Some(_) => self.fail(way, view),
        }
    }

    fn ask(&self, head: &Head<'_>, way: &Way<'_>, memory: &Memory) -> Step {
        let settings = &self.settings;
        if self.descriptors.is_empty() || !settings.enabled.takes(mix(way.draw ^ 0x7261_7465_5f6f_6e21)) {
            return Step::Pass;
        }
        let is_internal = head.headers.get(X_ENVOY_INTERNAL).is_some_and(|value| value == "true");
        let is_meant = match settings.only {
            None => true,
            Some(RateRequests::Internal) => is_internal,
            Some(RateRequests::External) => !is_internal,
        };
        if !is_meant || !way.goes_somewhere() {
            return Step::Pass;
        }
        let descriptors = self.descriptors.describe(head, memory, way.cluster());
        if descriptors.is_empty() {
            return Step::Pass;
        }
        let timeout = settings.timeout.unwrap_or(TIME_MAX);
        let asking = RateAsking { of: Arc::clone(settings), descriptors, timeout };
        Step::Ask(Question::Limit(Box::new(asking)), timeout)
    }

    fn hear(
        &self,
        answer: &ServiceAnswer,
        head: &mut Head<'_>,
        way: &Way<'_>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        let settings = &self.settings;
        let mut told = HeaderMap::new();
        // What cannot be a header is left out: it says nothing of whether the request may pass.
        apply(&edits(&answer.response_headers), &mut told, &[]);
        let is_over = answer.is_over_limit;
        if is_over && settings.marks {
            told.insert(RATE_LIMITED, HeaderValue::from_static("true"));
        }
        // The same as was asked about: nothing has changed the request since.
        let asked = self.descriptors.describe(head, memory, way.cluster());
        let asked: Vec<Option<bool>> = asked.iter().map(|described| described.tells).collect();
        let tells = |at: usize| match asked.get(at) {
            Some(said) => said.unwrap_or(settings.tells),
            // More than was asked about: as the filter says, unless a descriptor says that nothing is told.
            None => settings.tells && !asked.contains(&Some(false)),
        };
        if let Some(left) = answer.left(tells)
            && let Ok(limit) = HeaderValue::try_from(left.limit)
        {
            told.append(LIMIT, limit);
            told.append(REMAINING, HeaderValue::from(left.remaining));
            told.append(RESET, HeaderValue::from(left.reset));
        }
        view.count_check(if is_over { CheckCount::RateServiceOver } else { CheckCount::RateServiceOk });
        if is_over && settings.enforced.takes(mix(way.draw ^ 0x7261_7465_5f69_6e21)) {
            let retry = answer.retry_after().filter(|_| {
                settings.tells_retry
                    && settings.status == TOO_MANY_REQUESTS
                    && !told.contains_key(RETRY_AFTER)
            });
            if let Some(retry) = retry {
                told.insert(RETRY_AFTER, HeaderValue::from(retry));
            }
            let mut headers = listed(&told);
            headers.extend(descriptors::added(&self.of_refusal, head));
            return Step::Refuse(Box::new(Refusal {
                status: settings.status,
                headers,
                body: answer.body.clone(),
                grpc_status: settings.is_resource_exhausted.then_some(RESOURCE_EXHAUSTED),
                ..Refusal::of(Reason::QuotaExceeded)
            }));
        }
        memory.told.extend(listed(&told));
        apply(&edits(&answer.request_headers), head.headers, &[HOST]);
        Step::Pass
    }

    /// Nobody has said anything that holds.
    fn fail(&self, way: &Way<'_>, view: &impl View) -> Step {
        let settings = &self.settings;
        if settings.denies_failed.takes(mix(way.draw ^ 0x7261_7465_5f64_6e21)) {
            view.count_check(CheckCount::RateServiceFailed);
            let refusal = Refusal::of(Reason::QuotaUnknown);
            return Step::Refuse(Box::new(Refusal {
                status: settings.status_on_error,
                body: Bytes::new(),
                ..refusal
            }));
        }
        view.count_check(CheckCount::RateServiceFailureAllowed);
        Step::Pass
    }
}

fn edits(said: &[(Box<str>, Bytes)]) -> Vec<Edit> {
    let edit =
        |(name, value): &(Box<str>, Bytes)| Edit { name: name.clone(), value: value.clone(), how: How::Add };
    said.iter().map(edit).collect()
}

fn listed(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
