//! The HTTP connection manager and its access logs.

use naru_spec::{
    AccessLog, Action, CheckKind, Codec, EscapedSlashes, HostPort, Http, Http2Settings, JsonField, LogFormat,
    LogSink, Rule, ServerHeader, defaults,
};

use super::recovery::FAULT_FILTER;
use super::{content, edge, external, identity, local_rate, rates, recovery, routes, tls, value};
use crate::extension::{list, text};
use crate::proto::{
    self, Any, Struct, Value, accesslog, buffer, core, file_log, grpc_web, hcm, router, stream_log,
    value as json,
};
use crate::schema::pack;

pub(super) fn write(http: &Http) -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::{
        CodecType, RouteSpecifier, ServerHeaderTransformation, StripPortMode,
    };
    let router = router::Router { suppress_envoy_headers: http.suppress_envoy_headers, ..Default::default() };
    hcm::HttpConnectionManager {
        codec_type: match http.codec {
            Codec::Auto => CodecType::Auto,
            Codec::Http1 => CodecType::Http1,
            Codec::Http2 => CodecType::Http2,
            Codec::Http3 => CodecType::Http3,
        }
        .into(),
        stat_prefix: http.stat_prefix.clone(),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes::write(&http.routes))),
        http_filters: grpc_web_filter(http)
            .into_iter()
            .chain(fault_filter(http))
            .chain(buffer_filter(http))
            .chain(checks(http))
            .chain([filter(ROUTER, pack(&router))])
            .collect(),
        access_log: access_logs(&http.access_log),
        server_name: http.server_name.clone(),
        server_header_transformation: match http.server_header {
            ServerHeader::Overwrite => ServerHeaderTransformation::Overwrite,
            ServerHeader::AppendIfAbsent => ServerHeaderTransformation::AppendIfAbsent,
            ServerHeader::PassThrough => ServerHeaderTransformation::PassThrough,
        }
        .into(),
        use_remote_address: Some(value::flag(http.use_remote_address)),
        xff_num_trusted_hops: http.xff_num_trusted_hops,
        skip_xff_append: http.skip_xff_append,
        internal_address_config: (!http.internal_networks.is_empty()).then(|| {
            let ranges = http.internal_networks.iter().map(|network| core::CidrRange {
                address_prefix: network.addr().to_string(),
                prefix_len: Some(value::number(network.prefix_len().into())),
            });
            hcm::http_connection_manager::InternalAddressConfig {
                cidr_ranges: ranges.collect(),
                ..Default::default()
            }
        }),
        via: http.via.clone(),
        generate_request_id: Some(value::flag(http.generate_request_id)),
        preserve_external_request_id: http.preserve_external_request_id,
        always_set_request_id_in_response: http.always_set_request_id_in_response,
        forward_client_cert_details: tls::forwarding(http.forward_client_cert),
        set_current_client_cert_details: tls::details(http.client_cert_details),
        scheme_header_transformation: http.scheme_to_overwrite.map(|scheme| {
            core::SchemeHeaderTransformation {
                transformation: Some(core::scheme_header_transformation::Transformation::SchemeToOverwrite(
                    scheme.as_str().to_owned(),
                )),
                ..Default::default()
            }
        }),
        strip_matching_host_port: http.host_port == HostPort::StripMatching,
        strip_port_mode: (http.host_port == HostPort::StripAny)
            .then_some(StripPortMode::StripAnyHostPort(true)),
        upgrade_configs: http
            .upgrades
            .iter()
            .map(|(name, is_allowed)| hcm::http_connection_manager::UpgradeConfig {
                upgrade_type: name.to_owned(),
                enabled: Some(value::flag(is_allowed)),
                ..Default::default()
            })
            .collect(),
        strip_trailing_host_dot: http.strip_trailing_host_dot,
        normalize_path: Some(value::flag(http.paths.normalize)),
        merge_slashes: http.paths.merge_slashes,
        path_with_escaped_slashes_action: escaped_slashes(http.paths.escaped_slashes).into(),
        max_request_headers_kb: Some(value::number(http.header_bytes_max.div_ceil(1_024).clamp(1, 8_192))),
        stream_idle_timeout: Some(value::limit(http.stream_idle_timeout)),
        request_timeout: Some(value::limit(http.request_timeout)),
        request_headers_timeout: Some(value::limit(http.request_headers_timeout)),
        drain_timeout: Some(value::duration(http.drain_timeout)),
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: Some(value::limit(http.connection_idle_timeout)),
            max_headers_count: Some(value::number(http.header_count_max)),
            max_requests_per_connection: http.max_requests_per_connection.map(value::number),
            ..Default::default()
        }),
        http2_protocol_options: http2_of_clients(http),
        ..Default::default()
    }
}

fn escaped_slashes(what: EscapedSlashes) -> hcm::http_connection_manager::PathWithEscapedSlashesAction {
    use hcm::http_connection_manager::PathWithEscapedSlashesAction as Said;
    match what {
        EscapedSlashes::Keep => Said::KeepUnchanged,
        EscapedSlashes::Reject => Said::RejectRequest,
        EscapedSlashes::Redirect => Said::UnescapeAndRedirect,
        EscapedSlashes::Forward => Said::UnescapeAndForward,
    }
}

pub(super) const ROUTER: &str = "envoy.filters.http.router";

pub(super) fn filter(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// What is ours alone has no spelling.
fn checks(http: &Http) -> impl Iterator<Item = hcm::HttpFilter> + '_ {
    let chooser = |check: &naru_spec::Check| match &check.kind {
        CheckKind::External(said) => external::chooser(said),
        _ => None,
    };
    let with_chooser = move |check| (check, chooser(check));
    http.gate.checks.iter().map(with_chooser).flat_map(move |(check, chooser)| {
        let before = chooser.map(|said| filter("envoy.filters.http.rbac", pack(&said)));
        before.into_iter().chain(of_check(check))
    })
}

fn of_check(check: &naru_spec::Check) -> Option<hcm::HttpFilter> {
    match &check.kind {
        CheckKind::Jwt(said) => Some(filter(&check.name, pack(&identity::jwt(said)))),
        CheckKind::External(said) => Some(filter(&check.name, pack(&external::write(said)))),
        CheckKind::Rbac(said) => Some(filter(&check.name, pack(&identity::policies(said)))),
        CheckKind::LocalRate(rate) => Some(filter(&check.name, pack(&local_rate::write(rate)))),
        CheckKind::RateService(said) => Some(filter(&check.name, pack(&rates::service(said)))),
        CheckKind::Quotas(_) | CheckKind::Shed(_) | CheckKind::Files(_) => None,
        CheckKind::Compress(_) | CheckKind::Decompress(_) | CheckKind::BodyLimit(_) => {
            content::filter(&check.kind).map(|said| filter(&check.name, said))
        }
        other => edge::filter(other).map(|said| filter(&check.name, said)),
    }
}

/// Whether there is a spelling of it.
pub(super) fn is_said(check: &naru_spec::Check) -> bool {
    of_check(check).is_some()
}

fn grpc_web_filter(http: &Http) -> Option<hcm::HttpFilter> {
    let name = "envoy.filters.http.grpc_web";
    http.grpc_web.then(|| filter(name, pack(&grpc_web::GrpcWeb::default())))
}

/// Where there is any fault: what routes say is said to the filter.
fn fault_filter(http: &Http) -> Option<hcm::HttpFilter> {
    let mut rules = http.routes.virtual_hosts.iter().flat_map(|host| &host.rules);
    let has_fault = |rule: &Rule| matches!(&rule.action, Action::Forward(forward) if forward.fault.is_some());
    let is_needed = http.fault.is_some() || rules.any(has_fault);
    let said = http.fault.as_ref().map(recovery::fault).unwrap_or_default();
    is_needed.then(|| filter(FAULT_FILTER, pack(&said)))
}

/// It says how large a body may be. What Envoy has no room for is its most.
fn buffer_filter(http: &Http) -> Option<hcm::HttpFilter> {
    let max = u32::try_from(http.body_bytes_max?).unwrap_or(u32::MAX);
    let said = buffer::Buffer { max_request_bytes: Some(value::number(max)) };
    Some(filter("envoy.filters.http.buffer", pack(&said)))
}

/// Clients may ask for whatever upgrades there are. Of what a client may have us do for nothing, Envoy has words for one
/// thing.
fn http2_of_clients(http: &Http) -> Option<core::Http2ProtocolOptions> {
    let mut said = http2(&http.http2, Http2Settings::edge());
    let mut rules = http.routes.virtual_hosts.iter().flat_map(|host| &host.rules);
    let upgrades =
        |rule: &Rule| matches!(&rule.action, Action::Forward(forward) if !forward.upgrades.is_empty());
    if !http.upgrades.is_empty() || rules.any(upgrades) {
        said.get_or_insert_default().allow_connect = true;
    }
    let per_useful = http.http2_limits.frames_per_useful;
    if per_useful != defaults::HTTP2_FRAMES_PER_USEFUL {
        said.get_or_insert_default().max_inbound_window_update_frames_per_data_frame_sent =
            Some(value::number(per_useful));
    }
    said
}

/// Nothing where all is by default.
pub(super) fn http2(settings: &Http2Settings, default: Http2Settings) -> Option<core::Http2ProtocolOptions> {
    let unless = |value: u32, default: u32| (value != default).then(|| value::number(value));
    (*settings != default).then(|| core::Http2ProtocolOptions {
        max_concurrent_streams: unless(settings.max_concurrent_streams, default.max_concurrent_streams),
        initial_stream_window_size: unless(settings.stream_window, default.stream_window),
        initial_connection_window_size: unless(settings.connection_window, default.connection_window),
        ..Default::default()
    })
}

/// What stays in memory is no word of Envoy's.
pub(super) fn access_logs(logs: &[AccessLog]) -> Vec<accesslog::AccessLog> {
    logs.iter().filter_map(access_log).collect()
}

fn access_log(log: &AccessLog) -> Option<accesslog::AccessLog> {
    let format = format(&log.format);
    let (name, any): (&str, Any) = match &log.sink {
        LogSink::File(path) => (
            "envoy.access_loggers.file",
            pack(&file_log::FileAccessLog {
                path: path.clone(),
                access_log_format: Some(file_log::file_access_log::AccessLogFormat::LogFormat(format)),
            }),
        ),
        LogSink::Stdout => (
            "envoy.access_loggers.stdout",
            pack(&stream_log::StdoutAccessLog {
                access_log_format: Some(stream_log::stdout_access_log::AccessLogFormat::LogFormat(format)),
            }),
        ),
        LogSink::Recent => return None,
        LogSink::Stderr => (
            "envoy.access_loggers.stderr",
            pack(&stream_log::StderrAccessLog {
                access_log_format: Some(stream_log::stderr_access_log::AccessLogFormat::LogFormat(format)),
            }),
        ),
    };
    Some(accesslog::AccessLog {
        name: name.to_owned(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(any)),
        ..Default::default()
    })
}

fn format(format: &LogFormat) -> core::SubstitutionFormatString {
    use core::substitution_format_string::Format;
    let format = match format {
        LogFormat::Text(format) => Format::TextFormatSource(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString(format.to_string())),
            ..Default::default()
        }),
        LogFormat::Json(fields) => Format::JsonFormat(object(fields)),
    };
    core::SubstitutionFormatString { format: Some(format), ..Default::default() }
}

fn object(fields: &[(String, JsonField)]) -> Struct {
    Struct { fields: fields.iter().map(|(key, field)| (key.clone(), json_field(field))).collect() }
}

fn json_field(field: &JsonField) -> Value {
    let kind = match field {
        JsonField::Value(format) => return text(&format.to_string()),
        JsonField::List(items) => return list(items.iter().map(json_field).collect()),
        JsonField::Object(fields) => json::Kind::StructValue(object(fields)),
        JsonField::Literal(literal) => match literal.as_str() {
            "true" => json::Kind::BoolValue(true),
            "false" => json::Kind::BoolValue(false),
            number => match number.parse() {
                Ok(number) => json::Kind::NumberValue(number),
                Err(_) => json::Kind::NullValue(0),
            },
        },
    };
    proto::Value { kind: Some(kind) }
}
