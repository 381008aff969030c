//! What is tried instead, in order.

use http::{HeaderName, HeaderValue, StatusCode};

use super::StatusRange;
use crate::{Invalid, defaults};

/// A chain: each step is tried where the one before failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Fallback {
    pub on: FallbackOn,
    pub steps: Vec<FallbackStep>,
}

/// What counts as a failure that the next step is for. Once a chain has begun, a step that brings no answer leads to the
/// next, whatever the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackOn {
    /// The circuit breaker let no call through.
    pub is_cut_off: bool,
    /// No endpoint was fit.
    pub has_no_endpoint: bool,
    /// The attempt failed or took too long.
    pub is_failed: bool,
    /// Another limit had no room for it.
    pub is_limited: bool,
    /// These answers.
    pub statuses: Vec<StatusRange>,
}

impl Default for FallbackOn {
    /// Whatever means that there is no answer. An answer is one, even a bad one; and who is limited is not sent
    /// elsewhere unless that is said.
    fn default() -> FallbackOn {
        FallbackOn {
            is_cut_off: true,
            has_no_endpoint: true,
            is_failed: true,
            is_limited: false,
            statuses: Vec::new(),
        }
    }
}

impl FallbackOn {
    pub const NOTHING: FallbackOn = FallbackOn {
        is_cut_off: false,
        has_no_endpoint: false,
        is_failed: false,
        is_limited: false,
        statuses: Vec::new(),
    };

    /// As documents say them.
    pub fn words(&self) -> Vec<String> {
        let named = [
            ("breakerOpen", self.is_cut_off),
            ("noHealthyUpstream", self.has_no_endpoint),
            ("failure", self.is_failed),
            ("limited", self.is_limited),
        ];
        let named = named.into_iter().filter(|(_, is_said)| *is_said).map(|(word, _)| word.to_owned());
        let statuses = self.statuses.iter().map(|range| match (range.start(), range.end() - 1) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
        named.chain(statuses).collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum FallbackStep {
    /// Another subset, or another service.
    Cluster(String),
    /// A cached response, though it is stale. Where there is none, the next step.
    StaleResponse,
    /// It cannot fail.
    Answer(FallbackAnswer),
}

/// An answer that stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackAnswer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// At most [`defaults::DIRECT_BODY_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

impl Fallback {
    /// The clusters that it leads to.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            FallbackStep::Cluster(name) => Some(name.as_str()),
            FallbackStep::StaleResponse | FallbackStep::Answer(_) => None,
        })
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.steps.is_empty() {
            found.push(Invalid::new("a fallback has no steps").hint("say at least one"));
        }
        if self.steps.len() > defaults::FALLBACK_STEPS_MAX {
            let most = defaults::FALLBACK_STEPS_MAX;
            found.push(
                Invalid::new(format!("a fallback has {} steps", self.steps.len()))
                    .hint(format!("at most {most}")),
            );
        }
        if self.on == FallbackOn::NOTHING {
            found.push(
                Invalid::new("nothing leads to the fallback").hint("say what it is for, or leave 'on' out"),
            );
        }
        for step in &self.steps {
            if let FallbackStep::Answer(answer) = step
                && answer.body.len() > defaults::DIRECT_BODY_BYTES_MAX
            {
                let most = defaults::DIRECT_BODY_BYTES_MAX;
                found.push(
                    Invalid::new(format!("the body of an answer has {} bytes", answer.body.len()))
                        .hint(format!("at most {most} are allowed")),
                );
            }
        }
        found
    }
}
