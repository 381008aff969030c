//! What can be said of a workload on its command line.

use std::net::IpAddr;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, StatusCode, Uri};

use crate::errors::Errors;
use crate::latency::{Latency, Length};

#[derive(Args, Clone, Debug)]
pub struct WorkloadArgs {
    /// What it calls itself
    #[arg(long, default_value = "workload")]
    pub name: String,
    /// Its version, beside the name in every answer
    #[arg(long, default_value = "")]
    pub version: String,
    /// Where it listens [default: the environment's PORT, else 8080]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// On which address; 0.0.0.0 is all of this machine
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub address: IpAddr,
    /// How long an answer takes: 20ms, 10ms..50ms, or p50=10ms,p99=200ms
    #[arg(long, default_value = "0ms", value_name = "TIME")]
    pub latency: Latency,
    /// The share of answers that fail, and how: 5%, 5%:500
    #[arg(long, default_value = "0%", value_name = "SHARE")]
    pub errors: Errors,
    /// The status of all other answers
    #[arg(long, default_value = "200", value_parser = parse_status)]
    pub status: StatusCode,
    /// The body of answers, or @FILE; JSON that tells the request where nothing is said
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// A header of answers: 'name: value'
    #[arg(long = "header", value_name = "HEADER", value_parser = parse_header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// An answer for one path: /path=404:body
    #[arg(long, value_name = "PATH=STATUS:BODY")]
    pub on: Vec<OnPath>,
    /// A URL that is called for every request, through http_proxy where the environment has it
    #[arg(long = "call", value_name = "URL", value_parser = parse_url)]
    pub calls: Vec<Uri>,
    /// A gRPC method that is called for every request: host:port/package.Service/Method
    #[arg(long = "call-grpc", value_name = "METHOD")]
    pub grpc_calls: Vec<GrpcMethod>,
    /// Answer 502 where a call fails
    #[arg(long)]
    pub strict: bool,
    /// How long a call may take
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub call_timeout: Length,
    /// A header that calls pass on, beside those that trace and identify
    #[arg(long = "forward-header", value_name = "NAME")]
    pub forward_headers: Vec<HeaderName>,
    /// Not ready before: /healthz answers 503
    #[arg(long, value_name = "TIME")]
    pub start_after: Option<Length>,
    /// Exit by itself after this time, whatever is under way
    #[arg(long, value_name = "TIME")]
    pub exit_after: Option<Length>,
    /// The code of that exit
    #[arg(long, default_value_t = 1, value_name = "CODE")]
    pub exit_code: u8,
    /// Where chance comes from: the same seed, the same latencies and errors
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Print a line for every request
    #[arg(long)]
    pub log: bool,
}

impl WorkloadArgs {
    /// # Errors
    /// The environment's PORT is no port.
    pub fn port(&self) -> anyhow::Result<u16> {
        match (self.port, std::env::var("PORT")) {
            (Some(port), _) => Ok(port),
            (None, Ok(text)) => text.parse().with_context(|| format!("PORT is '{text}', which is no port")),
            (None, Err(_)) => Ok(8_080),
        }
    }

    /// Name and version, with something between.
    pub fn full_name(&self, between: char) -> String {
        match self.version.as_str() {
            "" => self.name.clone(),
            version => format!("{}{between}{version}", self.name),
        }
    }
}

/// The status of a whole answer: 100 to 199 are none.
pub fn parse_status(text: &str) -> Result<StatusCode, String> {
    let number = text.parse().ok().filter(|number| (200..600).contains(number));
    number
        .and_then(|number| StatusCode::from_u16(number).ok())
        .ok_or_else(|| format!("'{text}' is no status: write 200 to 599"))
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = text
        .split_once(':')
        .and_then(|(name, value)| Some((name.trim().parse().ok()?, value.trim().parse().ok()?)));
    parsed.ok_or_else(|| format!("'{text}' is no header: write 'name: value'"))
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let url: Option<Uri> = text.parse().ok();
    url.filter(|url| url.scheme_str() == Some("http") && url.authority().is_some_and(is_place))
        .ok_or_else(|| format!("'{text}' cannot be called: write http://host:port/path"))
}

/// Whether it is a host, perhaps with a port, and nothing else: no user, no port above 65535.
pub fn is_place(authority: &Authority) -> bool {
    let host = authority.host();
    let rest = authority.as_str().strip_prefix(host).filter(|_| !host.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || authority.port_u16().is_some())
}

/// A method of gRPC at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcMethod {
    pub authority: Authority,
    /// `/package.Service/Method`
    pub path: String,
}

impl FromStr for GrpcMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<GrpcMethod, String> {
        let parsed = text.split_once('/').and_then(|(authority, method)| {
            let authority: Authority = authority.parse().ok().filter(is_place)?;
            authority.port_u16()?;
            let (service, method) = method.split_once('/')?;
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
            let is_named = is_word(service) && is_word(method) && !method.contains('/');
            is_named.then(|| GrpcMethod { authority, path: format!("/{service}/{method}") })
        });
        parsed.ok_or_else(|| format!("'{text}' is no gRPC method: write host:port/package.Service/Method"))
    }
}

/// The answer for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnPath {
    pub path: String,
    pub status: StatusCode,
    pub body: String,
}

impl FromStr for OnPath {
    type Err = String;

    fn from_str(text: &str) -> Result<OnPath, String> {
        let wrong = || format!("'{text}' is no answer for a path: write /path=404:body");
        let (path, answer) =
            text.split_once('=').filter(|(path, _)| path.starts_with('/')).ok_or_else(wrong)?;
        let (status, body) = answer.split_once(':').unwrap_or((answer, ""));
        Ok(OnPath { path: path.to_owned(), status: parse_status(status)?, body: body.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_that_of_a_whole_answer() {
        for (text, expected) in [("200", true), ("599", true), ("100", false), ("600", false), ("x", false)] {
            assert_eq!(parse_status(text).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_for_a_path_has_a_status_and_perhaps_a_body() {
        let check = |text: &str, expected: Option<(&str, u16, &str)>| {
            let found = text.parse::<OnPath>().ok();
            let found = found.as_ref().map(|on| (on.path.as_str(), on.status.as_u16(), on.body.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        check("/a=404:not here: gone", Some(("/a", 404, "not here: gone")));
        check("/a=204", Some(("/a", 204, "")));
        for wrong in ["", "/a", "a=404", "/a=", "/a=4:x", "/a=x:404"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_header_has_a_name_and_a_value() {
        for (text, expected) in [("x-a: b", true), ("x-a:", true), ("x-a", false), ("x a: b", false)] {
            assert_eq!(parse_header(text).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn only_plain_http_can_be_called() {
        let check = |text: &str, expected: bool| assert_eq!(parse_url(text).is_ok(), expected, "{text}");
        check("http://reviews:9080/reviews/0?a=b", true);
        check("http://reviews", true);
        check("http://[::1]:80/", true);
        for wrong in [
            "",
            "reviews",
            "reviews:9080",
            "/a",
            "https://reviews/",
            "http://",
            "http://a b/",
            "http://a:99999/",
            "http://u:p@a/",
        ] {
            check(wrong, false);
        }
    }

    #[test]
    fn a_grpc_method_is_named_with_its_place() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let found = text.parse::<GrpcMethod>().ok();
            let found = found.as_ref().map(|method| (method.authority.as_str(), method.path.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        check("ratings:9090/shop.Ratings/Get", Some(("ratings:9090", "/shop.Ratings/Get")));
        check("[::1]:9090/a.B/C", Some(("[::1]:9090", "/a.B/C")));
        for wrong in [
            "",
            "ratings:9090",
            "ratings/a.B/C",
            "ratings:1/a.B",
            "ratings:1/a.B/",
            "r:1/a.B/C/D",
            "r:99999/a.B/C",
        ] {
            check(wrong, None);
        }
    }
}
