//! Outlier detection, health checks and the panic threshold of a cluster. A circuit breaker is no
//! word of Envoy's, and is left out.

use naru_spec::{
    GuardSettings, HealthCheck, HttpCheck, OutlierDetection, Probe, StatusRange, TcpCheck, defaults,
};

use super::value;
use crate::proto::{cluster as proto, core, kinds};
use core::health_check as check;

pub(super) fn write(guard: &GuardSettings, message: &mut proto::Cluster) {
    if guard.panic_percent != defaults::PANIC_PERCENT {
        let value = f64::from(guard.panic_percent);
        message.common_lb_config = Some(proto::cluster::CommonLbConfig {
            healthy_panic_threshold: Some(kinds::Percent { value }),
            ..Default::default()
        });
    }
    message.outlier_detection = guard.outlier_detection.as_ref().map(detection);
    message.health_checks = guard.health_check.iter().map(health_check).collect();
}

/// All of it, so that nobody has to know a default.
fn detection(settings: &OutlierDetection) -> proto::OutlierDetection {
    let number = |value: u32| Some(value::number(value));
    let lasts = |duration| Some(value::duration(duration));
    let enforcing = &settings.enforcing;
    proto::OutlierDetection {
        consecutive_5xx: number(settings.consecutive_5xx),
        interval: lasts(settings.interval),
        base_ejection_time: lasts(settings.base_ejection_time),
        max_ejection_percent: number(settings.max_ejection_percent),
        enforcing_consecutive_5xx: number(enforcing.consecutive_5xx),
        enforcing_success_rate: number(enforcing.success_rate),
        success_rate_minimum_hosts: number(settings.success_rate.minimum_hosts),
        success_rate_request_volume: number(settings.success_rate.request_volume),
        success_rate_stdev_factor: number(settings.success_rate.stdev_factor),
        consecutive_gateway_failure: number(settings.consecutive_gateway_failure),
        enforcing_consecutive_gateway_failure: number(enforcing.consecutive_gateway_failure),
        split_external_local_origin_errors: settings.split_external_local_origin_errors,
        consecutive_local_origin_failure: number(settings.consecutive_local_origin_failure),
        enforcing_consecutive_local_origin_failure: number(enforcing.consecutive_local_origin_failure),
        enforcing_local_origin_success_rate: number(enforcing.local_origin_success_rate),
        failure_percentage_threshold: number(settings.failure_percentage.threshold),
        enforcing_failure_percentage: number(enforcing.failure_percentage),
        enforcing_failure_percentage_local_origin: number(enforcing.local_origin_failure_percentage),
        failure_percentage_minimum_hosts: number(settings.failure_percentage.minimum_hosts),
        failure_percentage_request_volume: number(settings.failure_percentage.request_volume),
        max_ejection_time: lasts(settings.max_ejection_time),
        max_ejection_time_jitter: lasts(settings.max_ejection_time_jitter),
        successful_active_health_check_uneject_host: Some(value::flag(
            settings.successful_active_health_check_uneject_host,
        )),
        always_eject_one_host: Some(value::flag(settings.always_eject_one_host)),
        ..Default::default()
    }
}

fn health_check(settings: &HealthCheck) -> core::HealthCheck {
    use check::HealthChecker;
    core::HealthCheck {
        timeout: Some(value::duration(settings.timeout)),
        interval: Some(value::duration(settings.interval)),
        initial_jitter: Some(value::duration(settings.initial_jitter)),
        interval_jitter: Some(value::duration(settings.interval_jitter)),
        interval_jitter_percent: settings.interval_jitter_percent,
        unhealthy_threshold: Some(value::number(settings.unhealthy_threshold)),
        healthy_threshold: Some(value::number(settings.healthy_threshold)),
        reuse_connection: Some(value::flag(settings.reuse_connection)),
        no_traffic_interval: Some(value::duration(settings.no_traffic_interval)),
        no_traffic_healthy_interval: settings.no_traffic_healthy_interval.map(value::duration),
        unhealthy_interval: settings.unhealthy_interval.map(value::duration),
        unhealthy_edge_interval: settings.unhealthy_edge_interval.map(value::duration),
        healthy_edge_interval: settings.healthy_edge_interval.map(value::duration),
        health_checker: Some(match &settings.probe {
            Probe::Http(settings) => HealthChecker::HttpHealthCheck(http(settings)),
            Probe::Tcp(settings) => HealthChecker::TcpHealthCheck(tcp(settings)),
            Probe::Grpc(settings) => HealthChecker::GrpcHealthCheck(check::GrpcHealthCheck {
                service_name: settings.service.clone(),
                authority: settings.authority.clone(),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

fn http(settings: &HttpCheck) -> check::HttpHealthCheck {
    let method = core::RequestMethod::from_str_name(settings.method.as_str());
    let codec = match settings.is_http2 {
        true => kinds::CodecClientType::Http2,
        false => kinds::CodecClientType::Http1,
    };
    let headers = settings.headers.iter().map(|(name, value)| core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ..Default::default()
        }),
        ..Default::default()
    });
    check::HttpHealthCheck {
        host: settings.host.clone(),
        path: settings.path.clone(),
        request_headers_to_add: headers.collect(),
        expected_statuses: statuses(&settings.expected_statuses),
        retriable_statuses: statuses(&settings.retriable_statuses),
        codec_client_type: codec.into(),
        method: method.unwrap_or_default().into(),
        ..Default::default()
    }
}

fn statuses(ranges: &[StatusRange]) -> Vec<kinds::Int64Range> {
    let range =
        |range: &StatusRange| kinds::Int64Range { start: range.start().into(), end: range.end().into() };
    ranges.iter().map(range).collect()
}

fn tcp(settings: &TcpCheck) -> check::TcpHealthCheck {
    let payload = |bytes: &Vec<u8>| {
        let text = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        check::Payload { payload: Some(check::payload::Payload::Text(text)) }
    };
    check::TcpHealthCheck {
        send: Some(&settings.send).filter(|send| !send.is_empty()).map(payload),
        receive: settings.receive.iter().map(payload).collect(),
        ..Default::default()
    }
}
