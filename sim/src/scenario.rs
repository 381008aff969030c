//! A scenario as people write it. [`crate::bind`] makes sense of it beside a configuration.
//!
//! Lengths of time are `250ms`, `1.5s`, `2m`; rates `50/s`, `90/m`; shares `1%`, `0.05%`; factors
//! `3x`, `0.5x`. A length of time that is drawn is a constant (`5ms`) or one of
//! `{ uniform: { min: 5ms, max: 9ms } }`, `{ exponential: { mean: 5ms } }`,
//! `{ lognormal: { median: 5ms, p99: 40ms } }`, `{ pareto: { min: 5ms, p99: 40ms } }`,
//! `{ quantiles: { 50%: 5ms, 99%: 40ms, 100%: 90ms } }`.
//!
//! ```yaml
#![doc = include_str!("scenario/reference.yaml")]
//! ```

// In reading order: who asks, who answers, what happens meanwhile, what must come of it, and whether
// real processes may play it.
mod load;
mod service;
mod window;
mod around;
mod expect;
mod processes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use naru_spec::suggest::did_you_mean;
use naru_spec::{Problem, Severity};
use serde::Deserialize;
use serde_saphyr::Spanned;

pub use around::{GatewayState, LeaseWindow, Leases, PlaceOf, Store, StoreState, StoreWindow};
pub use expect::{ChangeKind, Expectation, Measure};
pub use load::{Arrivals, As, Herd, Load, Numbered, Protocol, RequestKind, Retry, SentBody, Step};
pub use processes::{Bounds, Processes};
pub use service::{
    Abandoned, Call, Deadline, FaultShare, GivenBody, Outbound, RetryHints, Service, Sharing, Version,
};
pub use window::{Fault, State, Window};

use crate::distribution::Distribution;
use crate::quantity::Span;

/// What is simulated, and for how long.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How problems name the file; not part of it.
    #[serde(skip)]
    pub(crate) file: String,
    /// The Envoy bootstrap of the simulated proxy, or a directory of documents, relative to the
    /// scenario. Whoever runs a scenario reads it. Without one, a mesh is made of the services.
    pub config: Option<String>,
    /// New requests come for so long; those under way are carried to their end.
    pub duration: Span,
    /// Threads of the proxy that loads come to, each with its own connections and rotations.
    #[serde(default = "one")]
    pub workers: NonZeroU32,
    /// Proxies that loads come to, side by side: each request comes to one of them.
    /// One where nothing is said.
    pub gateways: Option<Spanned<NonZeroU32>>,
    /// What DNS answers; a name that is not here has no answer.
    #[serde(default)]
    pub dns: BTreeMap<String, Vec<IpAddr>>,
    #[serde(default)]
    pub transcript: Detail,
    pub load: Vec<Load>,
    pub services: Vec<Service>,
    /// Where rate limits are counted, and answers kept, if not in a proxy.
    #[serde(default)]
    pub stores: Vec<Store>,
    /// How gateways that share limits by leases hear each other.
    pub leases: Option<Spanned<Leases>>,
    /// Where addresses are, as databases of the configuration would say it.
    #[serde(default)]
    pub places: Vec<PlaceOf>,
    /// The files of each directory that routes give: how many bytes each has.
    #[serde(default)]
    pub files: BTreeMap<String, u64>,
    /// Times when something is different, whichever service it is of.
    #[serde(default)]
    pub events: Vec<Window>,
    /// What must come of it.
    #[serde(default)]
    pub expect: Vec<Expectation>,
    /// Real processes may play it, too, and agree within these bounds.
    pub processes: Option<Processes>,
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

impl Default for Detail {
    fn default() -> Detail {
        Detail { interval: a_second(), sample_every: a_hundred() }
    }
}

pub(crate) fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn a_second() -> Span {
    Span(Duration::from_secs(1))
}

fn a_hundred() -> u32 {
    100
}

pub(crate) fn at_once() -> Distribution {
    Distribution::constant(Duration::ZERO)
}

impl Scenario {
    /// How many proxies loads come to.
    pub fn gateways(&self) -> u32 {
        self.gateways.as_ref().map_or(1, |said| said.value.get())
    }

    /// The configurations that it names, each once, in the order in which it does.
    pub fn configs(&self) -> Vec<&str> {
        let outbound = self.services.iter().filter_map(|service| {
            service.outbound.as_ref().and_then(|outbound| Some(outbound.config.as_ref()?.value.as_str()))
        });
        let mut names: Vec<&str> = Vec::new();
        for name in self.config.as_deref().into_iter().chain(outbound) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

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
                let hint = suggestion(&message);
                Err(vec![Problem {
                    severity: Severity::Error,
                    code: if message.starts_with("unknown field") { "unknown-field" } else { "syntax" },
                    message,
                    hint,
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

/// What the author of an unknown name may have meant, of the names that serde lists.
fn suggestion(message: &str) -> String {
    let Some((said, rest)) = message.strip_prefix("unknown ").and_then(|rest| rest.split_once(", expected "))
    else {
        return String::new();
    };
    let said = said.split('`').nth(1).unwrap_or_default();
    let names = rest.trim_start_matches("one of ").split([',', '`', ' ']).filter(|name| name.len() > 1);
    did_you_mean(said, names.filter(|name| *name != "or"))
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
        let places = [
            ("config:", ""),
            ("  - name: shoppers", "    "),
            ("      - weight: 3", "        "),
            ("    retry:", "      "),
            ("        body:", "          "),
            ("        as:", "          "),
            ("        numbered:", "          "),
            ("  - at: \"10.0.9.1:6379\"", "    "),
            ("leases:", "  "),
            ("    - gateways: [2]", "      "),
            ("  - networks: [192.0.2.0/24]", "    "),
            ("  - name: orders", "    "),
            ("      - from: 10s", "        "),
            ("      - host: stock.example", "        "),
            ("    outbound:", "      "),
            ("      - name: v1", "        "),
            ("  - measure: p99", "    "),
        ];
        for (place, indent) in places {
            let unknown = match place.trim_end().ends_with(':') {
                true if place != "config:" => format!("{place}\n{indent}nosuch: 1\n"),
                true => format!("nosuch: 1\n{place}"),
                false => format!("{place}\n{indent}nosuch: 1\n"),
            };
            assert!(reference.contains(place), "{place}");
            let (message, _) = problem(&reference.replacen(place, &unknown, 1));
            let known = message.split_once("expected one of ").map(|(_, names)| names);
            let known = known.unwrap_or_else(|| panic!("{place}: {message}"));
            for field in known.split(", ") {
                assert!(reference.contains(&format!("{field}:")), "{field}");
            }
        }
    }

    #[test]
    fn a_name_that_is_nearly_right_is_told() {
        let check = |from: &str, to: &str, expected: &str| {
            let text = LEAST.replace(from, to);
            let problems = Scenario::parse("s.yaml", &text).expect_err("it is not valid");
            assert_eq!(problems[0].hint, expected, "{}", problems[0]);
        };
        check("duration:", "durration:", "did you mean 'duration'?");
        check("serves: [a]", "serves: [a]\n    latancy: 5ms", "did you mean 'latency'?");
        check("poisson:", "poison:", "did you mean 'poisson'?");
        check("serves: [a]", "serves: [a]\n    colour: red", "");
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
                "unknown-field: unknown field `colour`, expected one of name, serves, versions, replicas, zones, \
                 connect, latency, servers, queue_max, status, body, headers, etag_for, grpc_status, faults, idle_close, \
                 close_notice, during, calls, fails_with, holds_server, deadline, abandoned, \
                 retry_hints, outbound",
                10,
            ),
        );
        let length = "is no length of time, which looks like '250ms', '1.5s' or '2m'";
        check("duration: 1s", "duration: 1", (&format!("syntax: '1' {length}"), 2));
        check(
            "poisson: 50/s",
            "poison: 50/s",
            (
                "syntax: unknown variant `poison`, expected one of poisson, constant, ramp, profile, herd, users",
                5,
            ),
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
