//! Who answers, how, and whom it asks itself.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Fault, Protocol, Retry, SentBody, Window, at_once, one};
use crate::distribution::Distribution;
use crate::quantity::{Share, Span};

/// What stands behind some endpoints; each of them is an instance of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: Spanned<String>,
    /// Clusters, by name, or endpoints, by address as the configuration writes it. An address goes
    /// before a cluster. Where there is no configuration, nothing.
    #[serde(default)]
    pub serves: Vec<Spanned<String>>,
    /// One without a name where there are none.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// Instances of each version, where there is no configuration that has their addresses.
    pub replicas: Option<Spanned<NonZeroU32>>,
    /// Instances of a version stand in these by turns.
    #[serde(default)]
    pub zones: Vec<String>,
    /// To a connection.
    #[serde(default = "connect_time")]
    pub connect: Distribution,
    /// From the whole request to the head of the response, without any wait for a server or for
    /// what is called.
    #[serde(default = "service_time")]
    pub latency: Distribution,
    /// Requests that one instance works on at a time; others wait. Without a limit where absent.
    pub servers: Option<NonZeroU32>,
    /// More than so many waiting requests are answered 503 at once.
    pub queue_max: Option<u32>,
    pub status: Option<Spanned<u16>>,
    #[serde(default)]
    pub body: GivenBody,
    /// What answers say: those with `status`, and those that say that nothing has changed.
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<String>>,
    /// Answers have an `ETag`, which is another one every so long. Who asks by it is answered 304.
    pub etag_for: Option<Spanned<Span>>,
    /// Responses end with trailers that hold this.
    pub grpc_status: Option<u8>,
    #[serde(default)]
    pub faults: Vec<FaultShare>,
    /// A connection that carried no request for so long is closed.
    pub idle_close: Option<Span>,
    /// How long the proxy does not know of a connection that was closed.
    #[serde(default = "notice_time")]
    pub close_notice: Span,
    /// Times when something is different. Where they overlap, what is written later goes first.
    #[serde(default)]
    pub during: Vec<Window>,
    /// Whom it asks for each request, after its own work, one after the other.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// What is answered where a call fails.
    pub fails_with: Option<Spanned<u16>>,
    /// A server is held while calls are under way.
    #[serde(default = "yes")]
    pub holds_server: bool,
    #[serde(default)]
    pub deadline: Deadline,
    #[serde(default)]
    pub abandoned: Abandoned,
    #[serde(default)]
    pub retry_hints: RetryHints,
    /// The proxy that its calls go through.
    pub outbound: Option<Outbound>,
}

/// Some instances of a service that differ from its others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub name: Spanned<String>,
    /// As for the service.
    #[serde(default)]
    pub serves: Vec<Spanned<String>>,
    pub replicas: Option<Spanned<NonZeroU32>>,
    /// Its share of the sum of all weights, where there is no configuration that says it.
    pub weight: Option<Spanned<u32>>,
    pub zones: Option<Vec<String>>,
    /// What follows is the service's where it is absent.
    pub latency: Option<Distribution>,
    pub servers: Option<NonZeroU32>,
    pub queue_max: Option<u32>,
    pub status: Option<Spanned<u16>>,
    pub faults: Option<Vec<FaultShare>>,
    pub calls: Option<Vec<Call>>,
}

/// One service asks another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub method: Option<Spanned<String>>,
    /// `/` where it is absent.
    pub path: Option<Spanned<String>>,
    pub host: Spanned<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<String>>,
    pub body: Option<SentBody>,
    #[serde(default)]
    pub protocol: Protocol,
    /// So many requests make it.
    #[serde(default = "all")]
    pub share: Share,
    /// At the same time as the call before it.
    #[serde(default)]
    pub with_previous: bool,
    /// It is given up after so long, and those who are asked know of it.
    pub timeout: Option<Span>,
    pub retry: Option<Retry>,
    /// The request goes on where it fails.
    #[serde(default)]
    pub optional: bool,
}

/// What an instance makes of the deadline that a request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    #[default]
    Ignored,
    /// What it is too late for is not begun, and those who are called know of it.
    Obeyed,
}

/// What an instance does when nobody waits for its answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abandoned {
    #[default]
    Finished,
    Stopped,
}

/// Whether a service hands on what proxies tell each other of retries: that a request was sent before
/// (`x-naru-attempt`), to those it calls; that an answer was retried already (`x-naru-retries`), to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryHints {
    #[default]
    Passed,
    Dropped,
}

/// The proxy that a service calls through.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// As of the scenario, whose own it is where it is absent.
    pub config: Option<Spanned<String>>,
    /// The first whose name begins with `outbound`, or the first, where none is named.
    pub listener: Option<Spanned<String>>,
    pub chain: Option<Spanned<String>>,
    #[serde(default = "one")]
    pub workers: NonZeroU32,
    #[serde(default)]
    pub of: Sharing,
}

/// Whose a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Each instance has one.
    #[default]
    Instance,
    /// All instances of the service share one.
    Service,
}

/// The body of a response.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenBody {
    #[serde(default = "response_bytes")]
    pub bytes: u64,
    /// From the head to the last byte.
    #[serde(default = "at_once")]
    pub over: Distribution,
}

/// So many requests meet this instead of the ordinary answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultShare {
    pub share: Spanned<Share>,
    pub fault: Fault,
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound { config: None, listener: None, chain: None, workers: one(), of: Sharing::default() }
    }
}

impl Default for GivenBody {
    fn default() -> GivenBody {
        GivenBody { bytes: response_bytes(), over: at_once() }
    }
}

fn all() -> Share {
    Share::ALL
}

fn yes() -> bool {
    true
}

fn connect_time() -> Distribution {
    Distribution::constant(Duration::from_micros(500))
}

fn service_time() -> Distribution {
    Distribution::constant(Duration::from_millis(5))
}

fn notice_time() -> Span {
    Span(Duration::from_millis(1))
}

fn response_bytes() -> u64 {
    1_024
}
