//! A scenario as people write it. [`crate::bind`] makes sense of it beside a configuration.
//!
//! Lengths of time are `250ms`, `1.5s`, `2m`; rates `50/s`, `90/m`; shares `1%`, `0.05%`. A length of
//! time that is drawn is a constant (`5ms`) or one of
//! `{ uniform: { min: 5ms, max: 9ms } }`, `{ exponential: { mean: 5ms } }`,
//! `{ lognormal: { median: 5ms, p99: 40ms } }`, `{ pareto: { min: 5ms, p99: 40ms } }`.
//!
//! ```yaml
#![doc = include_str!("scenario/reference.yaml")]
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use naru_spec::{Problem, Severity};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::distribution::Distribution;
use crate::quantity::{Rate, Share, Span};

/// What is simulated, and for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How problems name the file; not part of it.
    #[serde(skip)]
    pub(crate) file: String,
    /// The Envoy bootstrap of the simulated proxy, relative to the scenario. Whoever runs a scenario
    /// reads it.
    pub config: String,
    /// New requests come for so long; those under way are carried to their end.
    pub duration: Span,
    /// Threads of the simulated proxy, each with its own connections and rotations.
    #[serde(default = "one")]
    pub workers: NonZeroU32,
    /// What DNS answers; a name that is not here has no answer.
    #[serde(default)]
    pub dns: BTreeMap<String, Vec<IpAddr>>,
    #[serde(default)]
    pub transcript: Detail,
    pub load: Vec<Load>,
    pub services: Vec<Service>,
}

/// How much a transcript tells.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// The width of the intervals that requests are counted in.
    #[serde(default = "a_second")]
    pub interval: Span,
    /// Every so many-th request is told in full; 0 tells none.
    #[serde(default = "a_hundred")]
    pub sample_every: u32,
}

/// Requests of one kind of client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub name: Spanned<String>,
    /// The first listener where none is named.
    pub listener: Option<Spanned<String>>,
    /// The filter chain, by name. Without it, the first that asks for no server name.
    pub chain: Option<Spanned<String>>,
    #[serde(default)]
    pub from: Span,
    /// Until the end of the scenario where it is absent.
    pub to: Option<Span>,
    pub arrivals: Arrivals,
    /// A client leaves when its request takes longer; without it, clients wait for ever.
    pub patience: Option<Distribution>,
    /// Where the clients are.
    #[serde(default = "a_client")]
    pub client: IpAddr,
    #[serde(default)]
    pub protocol: Protocol,
    pub requests: Vec<RequestKind>,
}

/// When requests come.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// Independently of each other, so many in the mean.
    Poisson(Rate),
    /// At equal distances.
    Constant(Rate),
    /// Independently, at a rate that grows or falls evenly from the load's beginning to its end.
    Ramp { from: Rate, to: Rate },
    /// So many users; each waits for its response, thinks, and asks again.
    Users { count: NonZeroU32, think: Distribution },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
}

/// One of the requests that a load is a mix of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestKind {
    /// Its share of the sum of all weights.
    #[serde(default = "one")]
    pub weight: NonZeroU32,
    pub method: Option<Spanned<String>>,
    /// With its query.
    pub path: Spanned<String>,
    pub host: Spanned<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Spanned<String>>,
    pub body: Option<SentBody>,
}

/// The body of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentBody {
    pub bytes: u64,
    /// From the head to the last byte.
    #[serde(default = "at_once")]
    pub over: Distribution,
    /// So many of these bodies break off halfway.
    #[serde(default = "none")]
    pub broken: Share,
}

/// What stands behind some endpoints; each of them is an instance of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: Spanned<String>,
    /// Clusters, by name, or endpoints, by address as the configuration writes it. An address goes
    /// before a cluster.
    pub serves: Vec<Spanned<String>>,
    /// To a connection.
    #[serde(default = "connect_time")]
    pub connect: Distribution,
    /// From the whole request to the head of the response, without any wait for a server.
    #[serde(default = "service_time")]
    pub latency: Distribution,
    /// Requests that one instance works on at a time; others wait. Without a limit where absent.
    pub servers: Option<NonZeroU32>,
    /// More than so many waiting requests are answered 503 at once.
    pub queue_max: Option<u32>,
    pub status: Option<Spanned<u16>>,
    #[serde(default)]
    pub body: GivenBody,
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
}

/// The body of a response.
#[derive(Clone, Copy, Debug, Deserialize)]
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

/// A time when a service, or some of its endpoints, is different.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub from: Spanned<Span>,
    pub to: Span,
    /// As in `serves`, addresses only; all of the service where it is empty.
    #[serde(default)]
    pub endpoints: Vec<Spanned<String>>,
    #[serde(default)]
    pub state: State,
    pub latency: Option<Distribution>,
    pub faults: Option<Vec<FaultShare>>,
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

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
            State::Refuse => "refuses connections",
            State::Unreachable => "unreachable",
            State::TlsBroken => "TLS broken",
            State::Stuck => "stuck",
        }
    }
}

impl Default for Detail {
    fn default() -> Detail {
        Detail { interval: a_second(), sample_every: a_hundred() }
    }
}

impl Default for GivenBody {
    fn default() -> GivenBody {
        GivenBody { bytes: response_bytes(), over: at_once() }
    }
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn none() -> Share {
    Share::NONE
}

fn a_second() -> Span {
    Span(Duration::from_secs(1))
}

fn a_hundred() -> u32 {
    100
}

/// Of the addresses that are kept for documents (RFC 5737).
fn a_client() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
}

fn at_once() -> Distribution {
    Distribution::constant(Duration::ZERO)
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

impl Scenario {
    /// Reads a scenario. `file` is how problems name it.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, Vec<Problem>> {
        let options = serde_saphyr::options! {
            strict_booleans: true,
            emit_comments: false,
            with_snippet: false,
        };
        match serde_saphyr::from_str_with_options::<Scenario>(text, options) {
            Ok(scenario) => Ok(Scenario { file: file.to_owned(), ..scenario }),
            Err(error) => {
                let place = error.location();
                let message = one_sentence(&error.without_snippet().to_string());
                Err(vec![Problem {
                    severity: Severity::Error,
                    code: if message.starts_with("unknown field") { "unknown-field" } else { "syntax" },
                    message,
                    hint: String::new(),
                    file: file.to_owned(),
                    line: place.map_or(0, |place| u32::try_from(place.line()).unwrap_or(u32::MAX)),
                    column: place.map_or(0, |place| u32::try_from(place.column()).unwrap_or(u32::MAX)),
                    path: String::new(),
                }])
            }
        }
    }
}

/// The first line, without the place that serde-saphyr puts around it.
fn one_sentence(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = match line.strip_prefix("error: ").unwrap_or(line) {
        placed if placed.starts_with("line ") => placed.split_once(": ").map_or(placed, |(_, rest)| rest),
        plain => plain,
    };
    let line = line.rfind(" at line ").map_or(line, |at| &line[..at]);
    line.trim_end_matches(['.', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "\
config: envoy.yaml
duration: 1s
load:
  - name: clients
    arrivals: { poisson: 50/s }
    requests: [{ path: /, host: a.example }]
services:
  - name: all
    serves: [a]
";

    fn problem(text: &str) -> (String, u32) {
        let problems = Scenario::parse("s.yaml", text).expect_err("it is not valid");
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        (format!("{}: {}", problem.code, problem.message), problem.line)
    }

    #[test]
    fn the_reference_names_every_field_and_is_valid() {
        let reference = include_str!("scenario/reference.yaml");
        let scenario = Scenario::parse("reference.yaml", reference).expect("it is valid");
        assert_eq!(scenario.services[0].during[0].state, State::Down);
        // Every field is told in the message about one that is not there.
        for (place, name) in [("config:", ""), ("  - name: shoppers", "    "), ("  - name: orders", "    ")] {
            let (message, _) = problem(&reference.replace(place, &format!("{place} x\n{name}nosuch: 1\n")));
            let known = message.split_once("expected one of ").map(|(_, names)| names).unwrap_or_default();
            for field in known.split(", ") {
                assert!(reference.contains(&format!("{field}:")), "{field}");
            }
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let scenario = Scenario::parse("s.yaml", LEAST).expect("it is valid");
        assert_eq!(scenario.workers.get(), 1);
        assert_eq!(scenario.services[0].latency, Distribution::constant(Duration::from_millis(5)));
        assert_eq!(scenario.load[0].client, IpAddr::from([192, 0, 2, 1]));
    }

    #[test]
    fn what_cannot_be_is_told_with_its_line() {
        let check = |from: &str, to: &str, expected: (&str, u32)| {
            let (message, line) = problem(&LEAST.replace(from, to));
            assert_eq!((message.as_str(), line), expected);
        };
        let serving = |more: &str| format!("serves: [a]\n    {more}");
        check(
            "serves: [a]",
            &serving("colour: red"),
            (
                "unknown-field: unknown field `colour`, expected one of name, serves, connect, latency, servers, \
                 queue_max, status, body, grpc_status, faults, idle_close, close_notice, during",
                10,
            ),
        );
        let length = "is no length of time, which looks like '250ms', '1.5s' or '2m'";
        check("duration: 1s", "duration: 1", (&format!("syntax: '1' {length}"), 2));
        check(
            "poisson: 50/s",
            "poison: 50/s",
            ("syntax: unknown variant `poison`, expected one of poisson, constant, ramp, users", 5),
        );
        check(
            "poisson: 50/s",
            "poisson: often",
            ("syntax: 'often' is no rate, which looks like '50/s', '90/m' or '1000/h'", 5),
        );
        check("path: /, ", "", ("syntax: missing field `path`", 6));
        check(
            "serves: [a]",
            &serving("latency: { exponential: { mean: soon } }"),
            (&format!("syntax: 'soon' {length}"), 10),
        );
        check(
            "serves: [a]",
            &serving("latency: { lognormal: { median: 2s, p99: 1s } }"),
            ("syntax: a lognormal distribution needs a median above zero and a p99 above the median", 10),
        );
        check(
            "serves: [a]",
            &serving("faults: [{ share: 1%, fault: { status: 503 } }, { share: 2%, fault: sleepy }]"),
            (
                "syntax: unknown variant `sleepy`, expected one of status, reset, close, garbage, hang, \
                 break_body, break_end",
                10,
            ),
        );
    }
}
