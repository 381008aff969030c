//! What must come of a scenario.

use naru_base::Reason;
use naru_spec::Invalid;
use naru_spec::suggest::did_you_mean;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::change::StateChange;
use crate::quantity::{Span, scaled};

/// Something that is measured, and its bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    pub measure: Spanned<Measure>,
    /// Requests of one load; of all where neither this nor a service is named.
    pub load: Option<Spanned<String>>,
    /// What reaches a service, from whomever.
    pub service: Option<Spanned<String>>,
    pub version: Option<Spanned<String>>,
    /// Which changes are counted.
    pub change: Option<Spanned<ChangeKind>>,
    /// Which ends are counted.
    pub reason: Option<Spanned<ReasonName>>,
    /// What began before does not count.
    #[serde(default)]
    pub from: Span,
    /// What begins at this moment or later does not count; everything does where it is absent.
    pub to: Option<Span>,
    /// In the words of what is measured: `250ms`, `1%`, `50/s`, `3x`, `100`.
    pub at_least: Option<Spanned<String>>,
    pub at_most: Option<Spanned<String>>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Measure {
    /// Of latencies, in millionths: `p50`, `p99`, `p99.9`.
    Quantile(u32),
    /// Of latencies: `mean`.
    Mean,
    /// Of latencies: `max`.
    Max,
    /// What share was answered with 5xx, or not at all: `errors`.
    Errors,
    /// How many there were: `requests`.
    Requests,
    /// How many there were each second: `rate`.
    Rate,
    /// How many reached a service for each that a client sent: `amplification`.
    Amplification,
    /// What share of a service's requests reached a version: `share`.
    Share,
    /// How often something changed its state: `changes`.
    Changes,
    /// What share of requests was answered from what is kept: `kept`.
    Kept,
    /// How many requests ended for a reason: `reasons`.
    Reasons,
}

/// Why a request ended, by its name in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ReasonName(pub Reason);

/// A change of state, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ChangeKind(pub StateChange);

const MEASURES: [(&str, Measure); 10] = [
    ("mean", Measure::Mean),
    ("max", Measure::Max),
    ("errors", Measure::Errors),
    ("requests", Measure::Requests),
    ("rate", Measure::Rate),
    ("amplification", Measure::Amplification),
    ("share", Measure::Share),
    ("changes", Measure::Changes),
    ("kept", Measure::Kept),
    ("reasons", Measure::Reasons),
];

impl TryFrom<String> for ReasonName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<ReasonName, Invalid> {
        let found = Reason::ALL.iter().find(|reason| reason.name() == text);
        found.map(|reason| ReasonName(*reason)).ok_or_else(|| {
            let near = did_you_mean(&text, Reason::ALL.iter().map(|reason| reason.name()));
            let near = if near.is_empty() { "as the access log calls it".to_owned() } else { near };
            Invalid::new(format!("'{text}' is no reason for which requests end; {near}"))
        })
    }
}

impl TryFrom<String> for Measure {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Measure, Invalid> {
        if let Some((_, measure)) = MEASURES.iter().find(|(name, _)| *name == text) {
            return Ok(*measure);
        }
        match text.strip_prefix('p').and_then(|number| scaled(number, 10_000)) {
            Some(millionths @ 1..=1_000_000) => Ok(Measure::Quantile(millionths as u32)),
            _ => {
                let names: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
                Err(Invalid::new(format!(
                    "'{text}' is not measured; a quantile such as 'p99' is, and {}",
                    names.join(", ")
                )))
            }
        }
    }
}

impl TryFrom<String> for ChangeKind {
    type Error = Invalid;

    fn try_from(text: String) -> Result<ChangeKind, Invalid> {
        let found = StateChange::ALL.into_iter().find(|change| change.name() == text);
        found.map(ChangeKind).ok_or_else(|| {
            let names: Vec<&str> = StateChange::ALL.iter().map(|change| change.name()).collect();
            Invalid::new(format!("'{text}' is no change of a state, which is one of {}", names.join(", ")))
        })
    }
}

impl Measure {
    /// As it is written.
    pub fn name(self) -> String {
        match self {
            Measure::Quantile(millionths) => {
                let (whole, part) = (millionths / 10_000, millionths % 10_000);
                let part = format!("{part:04}");
                match part.trim_end_matches('0') {
                    "" => format!("p{whole}"),
                    part => format!("p{whole}.{part}"),
                }
            }
            _ => {
                let found = MEASURES.iter().find(|(_, measure)| *measure == self);
                found.map_or_else(String::new, |(name, _)| (*name).to_owned())
            }
        }
    }
}
