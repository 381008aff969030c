//! What happens meanwhile: times when services, or some of their instances, are different.

use std::num::NonZeroU32;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::FaultShare;
use crate::distribution::Distribution;
use crate::quantity::{Factor, Span};

/// A time when instances are different. Which are meant is what `services` to `zones` leave; where
/// these say nothing, all.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How the transcript calls it.
    pub name: Option<String>,
    pub from: Spanned<Span>,
    /// For ever where it is absent.
    pub to: Option<Span>,
    /// By name. Only where it does not stand in a service already.
    #[serde(default)]
    pub services: Vec<Spanned<String>>,
    #[serde(default)]
    pub versions: Vec<Spanned<String>>,
    /// Instances of a version, counted from 1 in the order of their addresses.
    #[serde(default)]
    pub replicas: Vec<Spanned<NonZeroU32>>,
    #[serde(default)]
    pub zones: Vec<Spanned<String>>,
    /// As in `serves`, addresses only.
    #[serde(default)]
    pub endpoints: Vec<Spanned<String>>,
    #[serde(default)]
    pub state: State,
    pub latency: Option<Distribution>,
    /// On top of any latency.
    pub extra_latency: Option<Distribution>,
    /// Every latency, so many times.
    pub slower: Option<Factor>,
    /// Every latency, so many times at first, and evenly less until the end of the window.
    pub slow_start: Option<Factor>,
    pub faults: Option<Vec<FaultShare>>,
    pub servers: Option<NonZeroU32>,
    pub queue_max: Option<u32>,
    /// Every connection that stands breaks at the beginning.
    #[serde(default)]
    pub reset_connections: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Another status.
    Status(u16),
    /// The stream is reset instead of an answer.
    Reset,
    /// The connection is closed instead of an answer.
    Close,
    /// What comes is not HTTP.
    Garbage,
    /// No answer comes.
    Hang,
    /// The body breaks off halfway.
    BreakBody,
    /// It breaks off where its end or its trailers should come.
    BreakEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[default]
    Up,
    /// The process is gone: what stands breaks, new connections are refused.
    Down,
    /// New connections are refused, those that stand go on.
    Refuse,
    /// New connections are not answered, those that stand go on.
    Unreachable,
    /// New connections fail at TLS, those that stand go on.
    TlsBroken,
    /// Connections are accepted, and nothing is answered.
    Stuck,
}
