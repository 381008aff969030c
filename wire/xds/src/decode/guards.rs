//! Outlier detection, health checks and the panic threshold of a cluster.

use http::{HeaderName, HeaderValue, Method};
use naru_spec::{
    GrpcCheck, GuardPart, HealthCheck, HttpCheck, Invalid, OutlierDetection, Path, Probe, StatusRange,
    TcpCheck, defaults,
};

use super::value;
use crate::findings::{Findings, code};
use crate::proto::{UInt32Value, cluster as proto, core, kinds};
use core::health_check as check;

pub(super) fn read(
    said: &proto::Cluster,
    cluster: &mut naru_spec::Cluster,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let guard = &mut cluster.guard;
    let lb = said.common_lb_config.as_ref();
    if let Some(threshold) = lb.and_then(|config| config.healthy_panic_threshold.as_ref()) {
        // Envoy leaves the fraction out. More than 100 is told by the API's own rules.
        guard.panic_percent = threshold.value.clamp(0.0, 100.0) as u32;
    }
    if let Some(said) = &said.outlier_detection {
        guard.outlier_detection = Some(detection(said, &path.field("outlier_detection"), findings));
    }
    let path = path.field("health_checks");
    if let [_, _, ..] = said.health_checks.as_slice() {
        let text = "a cluster has one health check, in Envoy too";
        findings.error(&path.at(1), code::CONFLICTING_FIELDS, text, "remove the others");
    }
    if let Some(said) = said.health_checks.first() {
        guard.health_check = health_check(said, &path.at(0), findings);
    }
}

/// Where a cluster says this part.
pub(super) fn path<'a>(cluster: &'a Path<'a>, part: GuardPart) -> Path<'a> {
    cluster.field(match part {
        GuardPart::Panic => "common_lb_config.healthy_panic_threshold",
        GuardPart::OutlierDetection => "outlier_detection",
        GuardPart::HealthCheck => "health_checks",
        // No document says one yet.
        GuardPart::CircuitBreaker => "name",
    })
}

fn detection(
    said: &proto::OutlierDetection,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> OutlierDetection {
    let mut read = OutlierDetection::default();
    let set = |to: &mut u32, said: &Option<UInt32Value>| {
        if let Some(said) = said {
            *to = said.value;
        }
    };
    set(&mut read.consecutive_5xx, &said.consecutive_5xx);
    set(&mut read.consecutive_gateway_failure, &said.consecutive_gateway_failure);
    set(&mut read.consecutive_local_origin_failure, &said.consecutive_local_origin_failure);
    set(&mut read.max_ejection_percent, &said.max_ejection_percent);
    set(&mut read.success_rate.minimum_hosts, &said.success_rate_minimum_hosts);
    set(&mut read.success_rate.request_volume, &said.success_rate_request_volume);
    set(&mut read.success_rate.stdev_factor, &said.success_rate_stdev_factor);
    set(&mut read.failure_percentage.threshold, &said.failure_percentage_threshold);
    set(&mut read.failure_percentage.minimum_hosts, &said.failure_percentage_minimum_hosts);
    set(&mut read.failure_percentage.request_volume, &said.failure_percentage_request_volume);
    let enforcing = &mut read.enforcing;
    set(&mut enforcing.consecutive_5xx, &said.enforcing_consecutive_5xx);
    set(&mut enforcing.consecutive_gateway_failure, &said.enforcing_consecutive_gateway_failure);
    set(&mut enforcing.consecutive_local_origin_failure, &said.enforcing_consecutive_local_origin_failure);
    set(&mut enforcing.success_rate, &said.enforcing_success_rate);
    set(&mut enforcing.local_origin_success_rate, &said.enforcing_local_origin_success_rate);
    set(&mut enforcing.failure_percentage, &said.enforcing_failure_percentage);
    set(&mut enforcing.local_origin_failure_percentage, &said.enforcing_failure_percentage_local_origin);
    read.split_external_local_origin_errors = said.split_external_local_origin_errors;
    read.always_eject_one_host = said.always_eject_one_host.is_some_and(|flag| flag.value);
    if let Some(flag) = said.successful_active_health_check_uneject_host {
        read.successful_active_health_check_uneject_host = flag.value;
    }
    let mut lasts = |said: &Option<crate::proto::Duration>, name: &'static str| {
        said.as_ref().map(|said| value::duration(said, &path.field(name), findings))
    };
    if let Some(interval) = lasts(&said.interval, "interval") {
        read.interval = interval;
    }
    if let Some(time) = lasts(&said.base_ejection_time, "base_ejection_time") {
        read.base_ejection_time = time;
    }
    let longest = read.base_ejection_time.max(defaults::MAX_EJECTION_TIME);
    read.max_ejection_time = lasts(&said.max_ejection_time, "max_ejection_time").unwrap_or(longest);
    read.max_ejection_time_jitter =
        lasts(&said.max_ejection_time_jitter, "max_ejection_time_jitter").unwrap_or_default();
    read
}

/// `None` where it is of a kind that is not supported, which is told.
fn health_check(
    said: &core::HealthCheck,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<HealthCheck> {
    use check::HealthChecker as Said;
    let probe = match said.health_checker.as_ref()? {
        Said::HttpHealthCheck(said) => Probe::Http(http(said, &path.field("http_health_check"), findings)),
        Said::TcpHealthCheck(said) => Probe::Tcp(tcp(said, &path.field("tcp_health_check"), findings)),
        Said::GrpcHealthCheck(said) => {
            Probe::Grpc(GrpcCheck { service: said.service_name.clone(), authority: said.authority.clone() })
        }
        // Told as a field that is not supported.
        Said::CustomHealthCheck(_) => return None,
    };
    let mut lasts = |said: &Option<crate::proto::Duration>, name: &'static str| {
        said.as_ref().map(|said| value::duration(said, &path.field(name), findings))
    };
    // What is required is told by the API's own rules.
    let timeout = lasts(&said.timeout, "timeout").unwrap_or_default();
    let interval = lasts(&said.interval, "interval").unwrap_or_default();
    let mut read = HealthCheck::new(timeout, interval, probe);
    read.initial_jitter = lasts(&said.initial_jitter, "initial_jitter").unwrap_or_default();
    read.interval_jitter = lasts(&said.interval_jitter, "interval_jitter").unwrap_or_default();
    read.interval_jitter_percent = said.interval_jitter_percent;
    let count = |said: &Option<UInt32Value>| said.as_ref().map_or(0, |said| said.value);
    read.unhealthy_threshold = count(&said.unhealthy_threshold);
    read.healthy_threshold = count(&said.healthy_threshold);
    if let Some(interval) = lasts(&said.no_traffic_interval, "no_traffic_interval") {
        read.no_traffic_interval = interval;
    }
    read.no_traffic_healthy_interval =
        lasts(&said.no_traffic_healthy_interval, "no_traffic_healthy_interval");
    read.unhealthy_interval = lasts(&said.unhealthy_interval, "unhealthy_interval");
    read.unhealthy_edge_interval = lasts(&said.unhealthy_edge_interval, "unhealthy_edge_interval");
    read.healthy_edge_interval = lasts(&said.healthy_edge_interval, "healthy_edge_interval");
    read.reuse_connection = said.reuse_connection.is_none_or(|flag| flag.value);
    Some(read)
}

fn http(said: &check::HttpHealthCheck, path: &Path<'_>, findings: &mut Findings<'_>) -> HttpCheck {
    let mut read = HttpCheck::new(said.path.clone());
    read.host = said.host.clone();
    read.method = match said.method() {
        core::RequestMethod::MethodUnspecified => Method::GET,
        method => Method::from_bytes(method.as_str_name().as_bytes()).unwrap_or(Method::GET),
    };
    read.is_http2 = match said.codec_client_type() {
        kinds::CodecClientType::Http1 => false,
        kinds::CodecClientType::Http2 => true,
        kinds::CodecClientType::Http3 => {
            let path = path.field("codec_client_type");
            findings.unsupported_value(&path, "naru does not speak HTTP/3", "one of HTTP1, HTTP2");
            false
        }
    };
    let headers = path.field("request_headers_to_add");
    for (at, option) in said.request_headers_to_add.iter().enumerate() {
        read.headers.extend(header(option, &headers.at(at), findings));
    }
    read.expected_statuses = statuses(&said.expected_statuses, &path.field("expected_statuses"), findings);
    read.retriable_statuses = statuses(&said.retriable_statuses, &path.field("retriable_statuses"), findings);
    read
}

/// A probe has no client: only what is the same each time can be said.
fn header(
    said: &core::HeaderValueOption,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<(HeaderName, HeaderValue)> {
    use core::header_value_option::HeaderAppendAction;
    if said.append_action() != HeaderAppendAction::AppendIfExistsOrAdd {
        let path = path.field("append_action");
        findings.unsupported_value(&path, "headers are added to a probe", "remove append_action");
    }
    let said = said.header.as_ref()?;
    if said.value.contains('%') {
        let path = path.field("header.value");
        findings.unsupported_value(&path, "the value of a probe's header cannot be computed", "");
    }
    let name = HeaderName::from_bytes(said.key.as_bytes()).ok();
    let value = HeaderValue::from_str(&said.value).ok();
    let header = name.zip(value);
    if header.is_none() {
        findings.invalid(&path.field("header"), Invalid::new("this is no header"));
    }
    header
}

fn statuses(said: &[kinds::Int64Range], path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<StatusRange> {
    let mut read = Vec::new();
    for (at, range) in said.iter().enumerate() {
        let bound = |bound: i64| u16::try_from(bound).unwrap_or(u16::MAX);
        match StatusRange::new(bound(range.start), bound(range.end)) {
            Ok(range) => read.push(range),
            Err(invalid) => findings.invalid(&path.at(at), invalid),
        }
    }
    read
}

fn tcp(said: &check::TcpHealthCheck, path: &Path<'_>, findings: &mut Findings<'_>) -> TcpCheck {
    let receive = path.field("receive");
    let blocks = said.receive.iter().enumerate();
    TcpCheck {
        send: said.send.as_ref().map(|said| payload(said, &path.field("send"), findings)).unwrap_or_default(),
        receive: blocks.map(|(at, said)| payload(said, &receive.at(at), findings)).collect(),
    }
}

/// As hexadecimal digits, or as they are.
fn payload(said: &check::Payload, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<u8> {
    use check::payload::Payload;
    match &said.payload {
        Some(Payload::Binary(bytes)) => bytes.clone(),
        Some(Payload::Text(text)) => unhex(text).unwrap_or_else(|| {
            let text = format!("'{text}' is not an even number of hexadecimal digits");
            findings.invalid(&path.field("text"), Invalid::new(text).hint("write \"50494e47\" for PING"));
            vec![0]
        }),
        None => Vec::new(),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect())
}
