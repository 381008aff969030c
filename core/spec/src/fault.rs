//! Failures that are made on purpose, and requests that are sent twice to compare or to try.
//!
//! Semantics: Envoy's fault filter (`fault.proto`) and its `request_mirror_policies`. What is done by
//! these settings stands in `naru-recover`.

use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, StatusCode};
use naru_base::Fraction;
use naru_base::share::Denominator;

use crate::{HeaderMatch, Invalid, defaults};

/// A delay, an end, or both: they are rolled apart from each other, and a request that was delayed
/// may be ended after that.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
    /// All of these must match the request.
    pub headers: Vec<HeaderMatch>,
    /// Only requests for this cluster.
    pub cluster: Option<String>,
    /// Only requests whose `x-envoy-downstream-service-node` is one of these. Empty means any.
    pub nodes: Vec<String>,
    /// No more than so many requests are in a fault at a time.
    pub active_max: Option<u32>,
    pub scope: FaultScope,
}

/// What a fault stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FaultScope {
    /// Something before the router, as in Envoy and Istio: neither retries nor timeouts of the route
    /// see it.
    #[default]
    Client,
    /// The upstream: each attempt is rolled, a delay is part of the attempt, an end is an answer.
    Upstream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub by: DelayBy,
    pub share: Fraction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayBy {
    Fixed(Duration),
    /// What `x-envoy-fault-delay-request` says, in milliseconds.
    Header,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    pub by: AbortBy,
    pub share: Fraction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortBy {
    Status(StatusCode),
    /// With status 200, as gRPC answers.
    Grpc(u8),
    /// What `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request` says.
    Header,
}

impl Fault {
    pub fn new(delay: Option<Delay>, abort: Option<Abort>) -> Fault {
        Fault {
            delay,
            abort,
            headers: Vec::new(),
            cluster: None,
            nodes: Vec::new(),
            active_max: None,
            scope: FaultScope::Client,
        }
    }

    /// One of a route that does nothing stands in the place of the listener's.
    pub fn does_something(&self) -> bool {
        self.delay.is_some() || self.abort.is_some()
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if let Some(Delay { by: DelayBy::Fixed(wait), .. }) = self.delay
            && wait < defaults::FAULT_DELAY_MIN
        {
            found.push(Invalid::new(format!("a delay of {wait:?} is none")).hint("at least 1ms"));
        }
        match self.abort.map(|abort| abort.by) {
            Some(AbortBy::Status(status)) if !(200..=599).contains(&status.as_u16()) => {
                let text = format!("{} is not a status that can be answered", status.as_u16());
                found.push(Invalid::new(text).hint("200 to 599"));
            }
            Some(AbortBy::Grpc(status)) if status > 16 => {
                found.push(Invalid::new(format!("{status} is not a status of gRPC")).hint("0 to 16"));
            }
            _ => {}
        }
        found
    }
}

/// A part of all in percent, as fine as Istio takes it: 0.0001 % is one in a million. 0 is never.
pub fn fraction_of_percent(percent: f64) -> Result<Fraction, Invalid> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(Invalid::new(format!("{percent} is not a percentage")).hint("0 to 100"));
    }
    let millionths = (percent * 10_000.0).round() as u32;
    if millionths == 0 && percent > 0.0 {
        let text = format!("{percent}% would never happen");
        return Err(Invalid::new(text).hint("at least 0.0001"));
    }
    Ok(Fraction::new(millionths, Denominator::Million))
}

/// A status of gRPC by its name, as Istio's `grpcStatus` says it.
pub fn grpc_status_named(name: &str) -> Option<u8> {
    GRPC_STATUSES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok())
}

/// By number. Source: gRPC, "Status codes and their use in gRPC".
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A copy of requests that nobody waits for. Its answer is dropped, or compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    pub cluster: String,
    pub share: Fraction,
    pub host: MirrorHost,
    pub writes: MirrorWrites,
    pub comparison: Option<Comparison>,
}

impl Mirror {
    /// Every request, as Istio does it.
    pub fn to(cluster: impl Into<String>) -> Mirror {
        Mirror {
            cluster: cluster.into(),
            share: Fraction::ALL,
            host: MirrorHost::Shadow,
            writes: MirrorWrites::Sent,
            comparison: None,
        }
    }
}

/// What the Host of a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorHost {
    /// `-shadow` stands behind it, before its port.
    Shadow,
    Same,
    Literal(String),
}

/// What [`MirrorHost::Shadow`] makes of a host.
pub fn shadow_host(host: &str) -> String {
    let port =
        host.parse::<Authority>().ok().and_then(|authority| Some(authority.port()?.as_str().len() + 1));
    let (name, port) = host.split_at_checked(host.len() - port.unwrap_or(0)).unwrap_or((host, ""));
    format!("{name}-shadow{port}")
}

/// Whether requests that are not safe (RFC 9110, section 9.2.1) are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorWrites {
    /// As in Istio and Envoy.
    Sent,
    NotSent,
    /// With this header, by which the service knows that it must not act.
    Marked(HeaderName),
}

/// What of the answers is compared, and how much of it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Beside those that differ anyway, such as `date`.
    pub ignored_headers: Vec<HeaderName>,
    /// A larger body is not compared.
    pub body_bytes_max: usize,
}

impl Default for Comparison {
    fn default() -> Comparison {
        Comparison { ignored_headers: Vec::new(), body_bytes_max: defaults::COMPARED_BODY_BYTES_MAX }
    }
}

/// All that is wrong with the mirrors of one route.
pub fn mirror_problems(mirrors: &[Mirror]) -> Vec<Invalid> {
    let mut found = Vec::new();
    if mirrors.len() > defaults::MIRRORS_MAX {
        let text = format!("{} mirrors are too many for one route", mirrors.len());
        found.push(Invalid::new(text).hint(format!("at most {} are possible", defaults::MIRRORS_MAX)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_copies_end_in_shadow() {
        fn check(host: &str, expected: &str) {
            assert_eq!(shadow_host(host), expected);
        }
        check("reviews", "reviews-shadow");
        check("reviews:9080", "reviews-shadow:9080");
        check("reviews.default.svc.cluster.local", "reviews.default.svc.cluster.local-shadow");
        check("10.0.0.1:80", "10.0.0.1-shadow:80");
        check("[::1]", "[::1]-shadow");
        check("[::1]:80", "[::1]-shadow:80");
        check("", "-shadow");
        check("나루:80", "나루:80-shadow");
    }

    #[test]
    fn percentages_are_as_fine_as_one_in_a_million() {
        fn check(percent: f64, expected: Option<u32>) {
            assert_eq!(fraction_of_percent(percent).ok().map(Fraction::numerator), expected, "{percent}");
        }
        check(0.0, Some(0));
        check(0.0001, Some(1));
        // Not 2, as truncation of 2.9999999999999996 would have it.
        check(0.0003, Some(3));
        check(100.0, Some(1_000_000));
        check(0.00001, None);
        check(100.0001, None);
        check(-1.0, None);
        check(f64::NAN, None);
    }

    #[test]
    fn statuses_of_grpc_have_names() {
        assert_eq!(grpc_status_named("UNAVAILABLE"), Some(14));
        assert_eq!(grpc_status_named("OK"), Some(0));
        assert_eq!(grpc_status_named("unavailable"), None);
    }

    #[test]
    fn faults_that_cannot_be_are_told() {
        let all = Fraction::ALL;
        let abort = |by| Some(Abort { by, share: all });
        let delay = |ms| Some(Delay { by: DelayBy::Fixed(Duration::from_micros(ms)), share: all });
        assert!(Fault::new(delay(1_000), abort(AbortBy::Grpc(16))).problems().is_empty());
        assert_eq!(Fault::new(delay(999), abort(AbortBy::Grpc(17))).problems().len(), 2);
        let status = StatusCode::from_u16(199).unwrap();
        assert_eq!(Fault::new(None, abort(AbortBy::Status(status))).problems().len(), 1);
    }
}
