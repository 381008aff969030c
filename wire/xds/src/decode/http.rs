//! The HTTP connection manager.

use naru_spec::{
    Action, Check, CheckKind, Codec, EscapedSlashes, Fault, Gate, HostPort, Http, Http2Settings, Invalid,
    Paths, RouteTable, Scheme, ServerHeader, VirtualHost, defaults,
};

use super::listener::Ready;
use super::{
    access_log, content, edge, external, identity, local_rate, ours, per_filter, rates, recovery, routes,
    tls, value,
};
use crate::findings::{Findings, code};
use crate::proto::local_rate::LocalRateLimit;
use crate::proto::{
    Any, buffer, core, ext_authz, fault::HttpFault, grpc_web, hcm, http_rbac, jwt_authn, rate_service, router,
};
use crate::schema::{type_name, unpack};
use naru_spec::Path;

pub(super) fn read(
    said: &hcm::HttpConnectionManager,
    ready: &Ready<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Http {
    use hcm::http_connection_manager::{
        PathWithEscapedSlashesAction as Slashes, RouteSpecifier, StripPortMode,
    };
    let table = match &said.route_specifier {
        Some(RouteSpecifier::RouteConfig(table)) => {
            let mut read = routes::read(table, &path.field("route_config"), findings);
            let ready = ready.get(&table.name).into_iter().flatten();
            read.virtual_hosts.extend(ready.map(|host| VirtualHost::clone(host)));
            read
        }
        Some(RouteSpecifier::Rds(_)) => {
            findings.unsupported(
                &path.field("rds"),
                "routes by RDS come from a control plane",
                "route_config",
            );
            RouteTable::default()
        }
        _ => RouteTable::default(),
    };
    if let Some(http) = ours::http(said, path, findings) {
        let http = Http { routes: table, ..http };
        per_filter::check_names(&http, path, findings);
        return http;
    }
    let mut http = Http::new(said.stat_prefix.clone(), table);
    http.codec = codec(said);
    let filters = filters(said, path, findings);
    http.suppress_envoy_headers = filters.suppress_envoy_headers;
    http.fault = filters.fault;
    http.grpc_web = filters.grpc_web;
    http.body_bytes_max = filters.body_bytes_max;
    http.gate = filters.gate;
    content::settle_limit(&mut http, filters.buffer);
    per_filter::check_names(&http, path, findings);
    if !filters.has_fault {
        leave_out_faults(&mut http.routes, path, findings);
    }
    let logs = path.field("access_log");
    for (at, log) in said.access_log.iter().enumerate() {
        http.access_log.extend(access_log::read(log, &logs.at(at), findings));
    }
    if !said.server_name.is_empty() {
        http.server_name = said.server_name.clone();
    }
    http.server_header = match said.server_header_transformation() {
        hcm::http_connection_manager::ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
        hcm::http_connection_manager::ServerHeaderTransformation::AppendIfAbsent => {
            ServerHeader::AppendIfAbsent
        }
        hcm::http_connection_manager::ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
    };
    http.use_remote_address = said.use_remote_address.is_some_and(|v| v.value);
    http.xff_num_trusted_hops = said.xff_num_trusted_hops;
    http.skip_xff_append = said.skip_xff_append;
    if let Some(internal) = &said.internal_address_config {
        let path = path.field("internal_address_config.cidr_ranges");
        for (at, range) in internal.cidr_ranges.iter().enumerate() {
            let length = range.prefix_len.map_or(0, |v| v.value);
            http.internal_networks.extend(value::network(
                &range.address_prefix,
                length,
                &path.at(at),
                findings,
            ));
        }
    }
    http.via = said.via.clone();
    http.generate_request_id = said.generate_request_id.is_none_or(|v| v.value);
    http.preserve_external_request_id = said.preserve_external_request_id;
    http.always_set_request_id_in_response = said.always_set_request_id_in_response;
    (http.forward_client_cert, http.client_cert_details) = tls::forwarding(said);
    http.scheme_to_overwrite = scheme(said);
    http.host_port = match (said.strip_matching_host_port, said.strip_port_mode) {
        (true, Some(StripPortMode::StripAnyHostPort(true))) => {
            let path = path.field("strip_matching_host_port");
            let text = "only one of strip_matching_host_port and strip_any_host_port can be said";
            findings.error(&path, code::CONFLICTING_FIELDS, text, "remove one of them");
            HostPort::StripAny
        }
        (_, Some(StripPortMode::StripAnyHostPort(true))) => HostPort::StripAny,
        (true, _) => HostPort::StripMatching,
        _ => HostPort::Keep,
    };
    let upgrades = said.upgrade_configs.iter();
    let upgrades = upgrades.map(|said| (said.upgrade_type.as_str(), said.enabled.map(|v| v.value)));
    http.upgrades = value::upgrades(upgrades, &path.field("upgrade_configs"), findings);
    http.strip_trailing_host_dot = said.strip_trailing_host_dot;
    http.paths = Paths {
        normalize: said.normalize_path.is_some_and(|v| v.value),
        merge_slashes: said.merge_slashes,
        escaped_slashes: match said.path_with_escaped_slashes_action() {
            Slashes::ImplementationSpecificDefault | Slashes::KeepUnchanged => EscapedSlashes::Keep,
            Slashes::RejectRequest => EscapedSlashes::Reject,
            Slashes::UnescapeAndRedirect => EscapedSlashes::Redirect,
            Slashes::UnescapeAndForward => EscapedSlashes::Forward,
        },
    };
    if let Some(kilobytes) = &said.max_request_headers_kb {
        http.header_bytes_max = kilobytes.value.saturating_mul(1_024);
    }
    let mut limit = |said, default, field| value::limit(said, default, &path.field(field), findings);
    http.stream_idle_timeout =
        limit(&said.stream_idle_timeout, Some(defaults::STREAM_IDLE_TIMEOUT), "stream_idle_timeout");
    http.request_timeout = limit(&said.request_timeout, None, "request_timeout");
    http.request_headers_timeout = limit(
        &said.request_headers_timeout,
        Some(defaults::REQUEST_HEADERS_TIMEOUT),
        "request_headers_timeout",
    );
    if let Some(said) = &said.drain_timeout {
        http.drain_timeout = value::duration(said, &path.field("drain_timeout"), findings);
    }
    if let Some(common) = &said.common_http_protocol_options {
        let path = path.field("common_http_protocol_options");
        let default = Some(defaults::CONNECTION_IDLE_TIMEOUT);
        http.connection_idle_timeout =
            value::limit(&common.idle_timeout, default, &path.field("idle_timeout"), findings);
        http.max_requests_per_connection = requests_max(common);
        if let Some(count) = &common.max_headers_count {
            http.header_count_max = count.value;
        }
        for (field, is_said) in [
            ("max_connection_duration", common.max_connection_duration.is_some()),
            ("max_stream_duration", common.max_stream_duration.is_some()),
        ] {
            if is_said {
                let text = format!("naru does not act on {field} of a listener");
                findings.unsupported(&path.field(field), text, "it acts on that of a cluster");
            }
        }
    }
    if said.http2_protocol_options.as_ref().is_some_and(|options| options.connection_keepalive.is_some()) {
        let path = path.field("http2_protocol_options.connection_keepalive");
        let text = "naru does not act on connection_keepalive of a listener";
        findings.unsupported(&path, text, "it acts on that of a cluster");
    }
    http.http2 = http2(said.http2_protocol_options.as_ref(), Http2Settings::edge());
    let options = said.http2_protocol_options.as_ref();
    if let Some(frames) = options.and_then(|said| said.max_inbound_window_update_frames_per_data_frame_sent) {
        http.http2_limits.frames_per_useful = frames.value;
    }
    http
}

/// Zero is without limit.
pub(super) fn requests_max(said: &core::HttpProtocolOptions) -> Option<u32> {
    said.max_requests_per_connection.map(|v| v.value).filter(|count| *count > 0)
}

/// `settings` are those that hold where nothing is said.
pub(super) fn http2(said: Option<&core::Http2ProtocolOptions>, mut settings: Http2Settings) -> Http2Settings {
    let Some(said) = said else { return settings };
    let set = |setting: &mut u32, said: &Option<crate::proto::UInt32Value>| {
        if let Some(said) = said {
            *setting = said.value;
        }
    };
    set(&mut settings.max_concurrent_streams, &said.max_concurrent_streams);
    set(&mut settings.stream_window, &said.initial_stream_window_size);
    set(&mut settings.connection_window, &said.initial_connection_window_size);
    settings
}

fn codec(said: &hcm::HttpConnectionManager) -> Codec {
    use hcm::http_connection_manager::CodecType;
    match said.codec_type() {
        CodecType::Auto => Codec::Auto,
        CodecType::Http1 => Codec::Http1,
        CodecType::Http2 => Codec::Http2,
        CodecType::Http3 => Codec::Http3,
    }
}

/// Another value than these is told by the API's own rules.
fn scheme(said: &hcm::HttpConnectionManager) -> Option<Scheme> {
    use core::scheme_header_transformation::Transformation;
    let Transformation::SchemeToOverwrite(scheme) =
        said.scheme_header_transformation.as_ref()?.transformation.as_ref()?;
    match scheme.as_str() {
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        _ => None,
    }
}

/// What the chain of filters says.
#[derive(Default)]
struct Filters {
    suppress_envoy_headers: bool,
    fault: Option<Fault>,
    has_fault: bool,
    grpc_web: bool,
    body_bytes_max: Option<u64>,
    /// What the buffer filter is called.
    buffer: Option<String>,
    gate: Gate,
}

/// The router, and before it whatever other filters there are. The buffer filter says how large a body may be; it is not
/// gathered for that.
fn filters(said: &hcm::HttpConnectionManager, path: &Path<'_>, findings: &mut Findings<'_>) -> Filters {
    let path = path.field("http_filters");
    let mut found = Filters::default();
    let mut routers = 0;
    let mut unknown = 0;
    for (at, filter) in said.http_filters.iter().enumerate() {
        let path = path.at(at);
        let path = path.field("typed_config");
        let Some(hcm::http_filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            findings.missing(&path, "an HTTP filter needs a typed_config");
            continue;
        };
        if let Some(router) = unpack::<router::Router>(any) {
            routers += 1;
            found.suppress_envoy_headers = router.suppress_envoy_headers;
            if routers > 1 {
                let text = "the router ends the chain of filters, and can be there only once";
                findings.error(&path, code::DUPLICATE, text, "");
            }
        } else if let Some(said) = unpack::<HttpFault>(any) {
            if found.has_fault {
                findings.error(&path, code::DUPLICATE, "there is a fault filter already", "join them");
            }
            if routers > 0 {
                let text = "the router ends the chain of filters: the fault filter stands before it";
                findings.invalid(&path, Invalid::new(text));
            }
            found.has_fault = true;
            found.fault = Some(recovery::fault(&said, &path, findings)).filter(Fault::does_something);
        } else if unpack::<grpc_web::GrpcWeb>(any).is_some() {
            if std::mem::replace(&mut found.grpc_web, true) {
                findings.error(&path, code::DUPLICATE, "there is a filter for gRPC-Web already", "");
            }
            if routers > 0 {
                let text = "the router ends the chain of filters: that for gRPC-Web stands before it";
                findings.invalid(&path, Invalid::new(text));
            }
        } else if let Some(said) = unpack::<LocalRateLimit>(any) {
            if routers > 0 {
                let text = "the router ends the chain of filters: that for rate limits stands before it";
                findings.invalid(&path, Invalid::new(text));
            }
            let kind = CheckKind::LocalRate(Box::new(local_rate::read(&said, &path, findings)));
            found.gate.checks.push(Check { name: filter.name.clone(), kind });
        } else if let Some(said) = unpack::<rate_service::RateLimit>(any) {
            if routers > 0 {
                let text = "the router ends the chain of filters: that for rate limits stands before it";
                findings.invalid(&path, Invalid::new(text));
            }
            let kind = CheckKind::RateService(Box::new(rates::service(&said, &path, findings)));
            found.gate.checks.push(Check { name: filter.name.clone(), kind });
        } else if let Some(said) = unpack::<buffer::Buffer>(any) {
            // None at all, or 0, is told by the API's own rules.
            let max = said.max_request_bytes.map(|max| u64::from(max.value));
            if found.body_bytes_max.is_some() {
                findings.error(&path, code::DUPLICATE, "there is a buffer filter already", "join them");
            }
            found.body_bytes_max = max;
            found.buffer = Some(filter.name.clone());
        } else if content::is_one(any) {
            if routers > 0 {
                let text = "the router ends the chain of filters: this one stands before it";
                findings.invalid(&path, Invalid::new(text));
            }
            let kind = content::check(any, &path, findings);
            found.gate.checks.extend(kind.map(|kind| Check { name: filter.name.clone(), kind }));
        } else if let Some(kind) = check(any, &path, findings) {
            if routers > 0 {
                let text = "the router ends the chain of filters: this one stands before it";
                findings.invalid(&path, Invalid::new(text));
            }
            found.gate.checks.push(Check { name: filter.name.clone(), kind });
        } else {
            unknown += 1;
            let text = format!("the HTTP filter '{}' is not supported", type_name(&any.type_url));
            let hint = "only api_key_auth, basic_auth, cors, csrf, jwt_authn, ext_authz, rbac, local_ratelimit, ratelimit, fault, \
                        buffer, compressor, decompressor, grpc_web and the router are";
            findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
        }
    }
    // What is not known may stand in its place.
    if routers == 0 && unknown == 0 {
        findings.missing(&path, "the HTTP connection manager needs the router in http_filters");
    }
    found
}

/// What requests pass before they go anywhere, in the order of the filters.
fn check(any: &Any, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<CheckKind> {
    if let Some(said) = unpack::<jwt_authn::JwtAuthentication>(any) {
        return Some(CheckKind::Jwt(Box::new(identity::jwt(&said, path, findings))));
    }
    if let Some(said) = unpack::<ext_authz::ExtAuthz>(any) {
        return Some(CheckKind::External(Box::new(external::read(&said, path, findings))));
    }
    if let Some(said) = unpack::<http_rbac::Rbac>(any) {
        return Some(CheckKind::Rbac(Box::new(identity::policies(&said, path, findings))));
    }
    edge::check(any, path, findings)
}

/// Envoy asks the filter, and there is none.
fn leave_out_faults(table: &mut RouteTable, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut has_any = false;
    for rule in table.virtual_hosts.iter_mut().flat_map(|host| &mut host.rules) {
        if let Action::Forward(forward) = &mut rule.action {
            has_any |= forward.fault.take().is_some();
        }
    }
    if has_any {
        let text = "faults of routes have no effect where the fault filter is not among the filters";
        let hint = "put envoy.filters.http.fault before the router";
        findings.warning(&path.field("http_filters"), code::NO_EFFECT, text, hint);
    }
}
