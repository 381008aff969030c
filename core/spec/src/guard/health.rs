//! Asking an endpoint whether it is well: Envoy's `HealthCheck`.

use std::time::Duration;

use http::header;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method};

use super::{StatusRange, lasts};
use crate::limits::Fault;
use crate::{Invalid, defaults};

#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub probe: Probe,
    /// For an answer.
    pub timeout: Duration,
    /// From one answer to the next probe.
    pub interval: Duration,
    /// The first probe waits up to this long.
    pub initial_jitter: Duration,
    /// Up to this much is added to each interval.
    pub interval_jitter: Duration,
    /// And up to this part of it, in percent.
    pub interval_jitter_percent: u32,
    /// Failures in a row until an endpoint is unhealthy.
    pub unhealthy_threshold: u32,
    /// Passes in a row until it is healthy again. At its first probe one is enough.
    pub healthy_threshold: u32,
    /// As long as no request was ever sent to the cluster.
    pub no_traffic_interval: Duration,
    /// The same, for an endpoint that is healthy; `None` is `no_traffic_interval`.
    pub no_traffic_healthy_interval: Option<Duration>,
    /// Of an unhealthy endpoint; `None` is `interval`.
    pub unhealthy_interval: Option<Duration>,
    /// While failures are counted that may make an endpoint unhealthy; `None` is the unhealthy interval.
    pub unhealthy_edge_interval: Option<Duration>,
    /// While passes are counted that may make it healthy; `None` is `interval`.
    pub healthy_edge_interval: Option<Duration>,
    /// The connection is kept for the next probe.
    pub reuse_connection: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    Http(HttpCheck),
    Tcp(TcpCheck),
    Grpc(GrpcCheck),
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// With its query.
    pub path: String,
    /// Empty is the name of the cluster.
    pub host: String,
    /// Not `CONNECT`.
    pub method: Method,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The endpoint passes with these; empty is 200.
    pub expected_statuses: Vec<StatusRange>,
    /// These are counted as failures; what is neither makes the endpoint unhealthy at once.
    pub retriable_statuses: Vec<StatusRange>,
    pub is_http2: bool,
}

impl HttpCheck {
    pub fn new(path: impl Into<String>) -> HttpCheck {
        HttpCheck {
            path: path.into(),
            host: String::new(),
            method: Method::GET,
            headers: Vec::new(),
            expected_statuses: Vec::new(),
            retriable_statuses: Vec::new(),
            is_http2: false,
        }
    }
}

/// Without bytes to receive, a connection that stands is enough.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TcpCheck {
    pub send: Vec<u8>,
    /// Found in this order, with anything in between.
    pub receive: Vec<Vec<u8>>,
}

/// `grpc.health.v1.Health/Check`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GrpcCheck {
    /// Empty asks for the server as a whole.
    pub service: String,
    /// Empty is the name of the cluster.
    pub authority: String,
}

impl HealthCheck {
    /// Envoy requires the thresholds to be said; these are Istio's for probes of workloads.
    pub fn new(timeout: Duration, interval: Duration, probe: Probe) -> HealthCheck {
        HealthCheck {
            probe,
            timeout,
            interval,
            initial_jitter: Duration::ZERO,
            interval_jitter: Duration::ZERO,
            interval_jitter_percent: 0,
            unhealthy_threshold: defaults::UNHEALTHY_THRESHOLD,
            healthy_threshold: defaults::HEALTHY_THRESHOLD,
            no_traffic_interval: defaults::NO_TRAFFIC_INTERVAL,
            no_traffic_healthy_interval: None,
            unhealthy_interval: None,
            unhealthy_edge_interval: None,
            healthy_edge_interval: None,
            reuse_connection: true,
        }
    }

    /// Each with the field that it is about.
    pub fn problems(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        for (field, name, time) in [
            ("timeout", "the timeout of a health check", Some(self.timeout)),
            ("interval", "the interval of health checks", Some(self.interval)),
            ("noTrafficInterval", "the interval without traffic", Some(self.no_traffic_interval)),
            (
                "noTrafficHealthyInterval",
                "the interval of healthy endpoints without traffic",
                self.no_traffic_healthy_interval,
            ),
            ("unhealthyInterval", "the interval of unhealthy endpoints", self.unhealthy_interval),
            ("unhealthyEdgeInterval", "the unhealthy edge interval", self.unhealthy_edge_interval),
            ("healthyEdgeInterval", "the healthy edge interval", self.healthy_edge_interval),
        ] {
            if let Some(time) = time {
                lasts(field, name, time, &mut found);
            }
        }
        for (field, name, threshold) in [
            ("unhealthyThreshold", "unhealthy", self.unhealthy_threshold),
            ("healthyThreshold", "healthy", self.healthy_threshold),
        ] {
            if threshold == 0 {
                let message = format!("the {name} threshold is zero, which is never reached");
                found.push((field, Invalid::new(message).hint("it is at least 1")));
            }
        }
        match &self.probe {
            Probe::Http(http) => {
                let path = &http.path;
                if !path.starts_with('/') {
                    let message = format!("the path of a health check is '{path}'");
                    found.push(("http.path", Invalid::new(message).hint("it begins with a slash")));
                } else if !PathAndQuery::try_from(path.as_str()).is_ok_and(|read| read.as_str() == path) {
                    let message = format!("the path of a health check, '{path}', cannot be sent");
                    found.push(("http.path", Invalid::new(message).hint("write other characters as %XX")));
                }
                if http.method == Method::CONNECT {
                    found.push(("http.method", Invalid::new("a health check cannot use CONNECT")));
                }
                authority("http.host", &http.host, &mut found);
                for (name, _) in http.headers.iter().filter(|(name, _)| NOT_ADDED.contains(name)) {
                    let message = format!("a health check cannot add the header '{name}'");
                    let hint = "host says who is asked; the others are the connection's";
                    found.push(("http.headers", Invalid::new(message).hint(hint)));
                }
            }
            Probe::Tcp(tcp) => {
                if tcp.receive.iter().any(Vec::is_empty) {
                    let invalid = Invalid::new("a health check waits for no bytes at all");
                    found.push(("tcp.receive", invalid));
                }
            }
            Probe::Grpc(grpc) => authority("grpc.authority", &grpc.authority, &mut found),
        }
        found
    }
}

/// What is no header of a request without a body, or said otherwise.
const NOT_ADDED: [HeaderName; 7] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn authority(field: &'static str, said: &str, found: &mut Vec<Fault>) {
    if !said.is_empty() && Authority::try_from(said).is_err() {
        let message = format!("a health check asks for the host '{said}', which is no host");
        found.push((field, Invalid::new(message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_sent_is_told() {
        let problems =
            |probe| HealthCheck::new(Duration::from_secs(1), Duration::from_secs(1), probe).problems().len();
        let http = |path: &str, host: &str, header: HeaderName| {
            let headers = vec![(header, HeaderValue::from_static("1"))];
            problems(Probe::Http(HttpCheck { host: host.to_owned(), headers, ..HttpCheck::new(path) }))
        };
        assert_eq!(http("/healthz?deep=1", "", header::ACCEPT), 0);
        assert_eq!(http("/", "well.test:8080", header::USER_AGENT), 0);
        assert_eq!(http("/a b", "", header::ACCEPT), 1);
        assert_eq!(http("/a#b", "", header::ACCEPT), 1);
        assert_eq!(http("/", "well test", header::ACCEPT), 1);
        assert_eq!(http("/", "", header::HOST), 1);
        assert_eq!(http("healthz", "a/b", header::TRANSFER_ENCODING), 3);
        let grpc = |authority: &str| {
            problems(Probe::Grpc(GrpcCheck { authority: authority.to_owned(), service: String::new() }))
        };
        assert_eq!((grpc(""), grpc("well.test"), grpc("a b")), (0, 0, 1));
    }
}
