//! A `healthCheck`, made of what is written.

use http::{HeaderName, HeaderValue, Method};
use naru_resource::traffic_policy as said;
use naru_resource::{Place, Seconds, Text};
use naru_spec::{GrpcCheck, HealthCheck, HttpCheck, Path, Probe, TcpCheck, code, defaults};

use super::{count, statuses};
use crate::findings::Findings;
use crate::reach::Cell;
use crate::registry::{Known, KnownPort, Protocol};

/// `None` where nobody can tell what is asked, which is told.
pub(super) fn read(said: &said::HealthCheck, findings: &mut Findings<'_>) -> Option<HealthCheck> {
    let spec = Path::ROOT.field("spec");
    let path = spec.field("healthCheck");
    let probe = match (&said.http, &said.tcp, &said.grpc) {
        (Some(http), None, None) => Probe::Http(self::http(http, &path.field("http"), findings)),
        (None, Some(tcp), None) => Probe::Tcp(TcpCheck {
            send: tcp.send.as_ref().map(|send| send.value.clone().into_bytes()).unwrap_or_default(),
            receive: tcp.receive.iter().map(|block| block.value.clone().into_bytes()).collect(),
        }),
        (None, None, Some(grpc)) => {
            Probe::Grpc(GrpcCheck { service: text(&grpc.service), authority: text(&grpc.authority) })
        }
        _ => {
            let message = "exactly one of http, tcp and grpc is needed";
            findings.error(code::CONFLICTING_FIELDS, said.place, &path, message, "");
            return None;
        }
    };
    let lasts = |said: &Option<Seconds>| said.as_ref().map(|said| said.value);
    let timeout = lasts(&said.timeout).unwrap_or(defaults::HEALTH_CHECK_TIMEOUT);
    let interval = lasts(&said.interval).unwrap_or(defaults::HEALTH_CHECK_INTERVAL);
    let mut read = HealthCheck::new(timeout, interval, probe);
    read.initial_jitter = lasts(&said.initial_jitter).unwrap_or_default();
    read.interval_jitter = lasts(&said.interval_jitter).unwrap_or_default();
    if let Some(threshold) = count(&said.unhealthy_threshold, &path, "unhealthyThreshold", findings) {
        read.unhealthy_threshold = threshold;
    }
    if let Some(threshold) = count(&said.healthy_threshold, &path, "healthyThreshold", findings) {
        read.healthy_threshold = threshold;
    }
    if let Some(interval) = lasts(&said.no_traffic_interval) {
        read.no_traffic_interval = interval;
    }
    read.unhealthy_interval = lasts(&said.unhealthy_interval);
    read.unhealthy_edge_interval = lasts(&said.unhealthy_edge_interval);
    read.healthy_edge_interval = lasts(&said.healthy_edge_interval);
    read.reuse_connection = said.reuse_connection.as_ref().is_none_or(|flag| flag.value);
    for problem in read.problems() {
        findings.error(code::INVALID_VALUE, said.place, &path, problem.message, problem.hint);
    }
    Some(read)
}

/// Whether a port is asked: one that speaks as the question does, or else one that may. What speaks no HTTP is asked
/// by TCP only, unless it is spoken to in TLS: then nobody knows what is in it.
pub(super) fn is_for(check: &HealthCheck, known: &Known, port: u16, has_tls: bool) -> bool {
    let rank = |port: &KnownPort| match (&check.probe, port.protocol) {
        (Probe::Tcp(_), _) => Some(0),
        (_, Protocol::Tcp) => None,
        (_, Protocol::Auto) => Some(0),
        (Probe::Http(http), Protocol::Http) if !http.is_http2 => Some(0),
        (Probe::Http(http), Protocol::Http2) if http.is_http2 => Some(0),
        (Probe::Grpc(_), Protocol::Http2) => Some(0),
        (Probe::Http(_) | Probe::Grpc(_), Protocol::Http | Protocol::Http2) => Some(1),
    };
    let Some(own) = known.port(port) else { return true };
    let best = known.ports.iter().filter_map(rank).min();
    if own.protocol == Protocol::Tcp && has_tls {
        return true;
    }
    rank(own).is_some_and(|own| Some(own) == best)
}

/// Tells where a port is not asked.
pub(super) fn check_port(check: &HealthCheck, place: Place, cell: &Cell<'_>, findings: &mut Findings<'_>) {
    let Some(port) = cell.known.port(cell.port) else { return };
    if is_for(check, cell.known, cell.port, cell.has_tls) {
        return;
    }
    let speaks = match port.protocol {
        Protocol::Http => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2",
        Protocol::Auto | Protocol::Tcp => "no HTTP",
    };
    let message = format!(
        "it does not ask port {} of {}, which speaks {speaks}: its endpoints are taken to be well",
        cell.port, cell.known.host
    );
    let path = Path::ROOT.field("spec.healthCheck");
    findings.warning(code::NO_EFFECT, place, &path, message, "a check by tcp asks every port");
}

fn http(said: &said::HttpCheck, path: &Path<'_>, findings: &mut Findings<'_>) -> HttpCheck {
    let mut read = HttpCheck::new(said.path.value.clone());
    read.host = text(&said.host);
    if let Some(method) = &said.method {
        match Method::from_bytes(method.value.as_bytes()) {
            Ok(known) => read.method = known,
            Err(_) => {
                let message = format!("'{}' is no method", method.value);
                findings.error(code::INVALID_VALUE, method.place, &path.field("method"), message, "");
            }
        }
    }
    for (name, value) in &said.headers {
        let header = HeaderName::from_bytes(name.value.as_bytes()).ok();
        match header.zip(HeaderValue::from_str(&value.value).ok()) {
            Some(header) => read.headers.push(header),
            None => {
                let message = format!("'{}: {}' is no header", name.value, value.value);
                findings.error(code::INVALID_VALUE, name.place, &path.field("headers"), message, "");
            }
        }
    }
    read.expected_statuses = statuses(&said.expected_statuses, &path.field("expectedStatuses"), findings);
    read.retriable_statuses = statuses(&said.retriable_statuses, &path.field("retriableStatuses"), findings);
    read.is_http2 = said.http2.as_ref().is_some_and(|flag| flag.value);
    read
}

fn text(said: &Option<Text>) -> String {
    said.as_ref().map(|said| said.value.clone()).unwrap_or_default()
}
