//! What stands around the proxies and is no service: stores of counts.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::distribution::Distribution;
use crate::quantity::Span;

/// A store of counts of rate limits, as a Redis is one. One of which nothing is said answers within 500us.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// An address of it as the configuration writes it; whichever store where it is absent.
    pub at: Option<Spanned<String>>,
    /// From a question to its answer.
    pub latency: Option<Distribution>,
    /// Times when it is different; the later one in the list counts.
    #[serde(default)]
    pub during: Vec<StoreWindow>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreWindow {
    pub from: Spanned<Span>,
    /// For ever where it is absent.
    pub to: Option<Span>,
    #[serde(default)]
    pub state: StoreState,
    pub latency: Option<Distribution>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    #[default]
    Up,
    /// Its connections break, and new ones are refused.
    Away,
    /// Connections are taken, and nothing is answered.
    Silent,
}
