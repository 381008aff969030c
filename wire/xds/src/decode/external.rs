//! The filter `ext_authz`, of a listener and of a route.

use http::HeaderName;
use naru_base::Fraction;
use naru_spec::{
    BodyChange, External, ExternalBody, ExternalChange, ExternalGrpc, ExternalHttp, ExternalService, Format,
    GateChange, Invalid, Path, StringMatch, defaults,
};

use super::{headers, matching, value};
use crate::findings::Findings;
use crate::proto::{core, ext_authz, kinds, matcher};

/// The filter whose metadata is known.
pub(super) const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";

pub(super) fn read(said: &ext_authz::ExtAuthz, path: &Path<'_>, findings: &mut Findings<'_>) -> External {
    use ext_authz::ext_authz::Services;
    if said.transport_api_version() != core::ApiVersion::V3 {
        let text = "the messages of another version than V3 are not known";
        findings.unsupported_value(&path.field("transport_api_version"), text, "write V3");
    }
    let mut external = match &said.services {
        Some(Services::GrpcService(said)) => grpc(said, &path.field("grpc_service"), findings),
        Some(Services::HttpService(said)) => http(said, &path.field("http_service"), findings),
        None => {
            findings.missing(path, "it needs a grpc_service or an http_service");
            External::new(ExternalService::Grpc(ExternalGrpc::default()))
        }
    };
    let names = |list: &Option<matcher::ListStringMatcher>, path: &Path<'_>, findings: &mut Findings<'_>| {
        list.as_ref().map(|list| patterns(list, path, findings))
    };
    if let Some(allowed) = names(&said.allowed_headers, &path.field("allowed_headers"), findings) {
        if external.allowed_headers.is_some() {
            let text = "the headers that are allowed are said twice";
            findings.invalid(&path.field("allowed_headers"), Invalid::new(text));
        }
        external.allowed_headers = Some(allowed);
    }
    let disallowed = names(&said.disallowed_headers, &path.field("disallowed_headers"), findings);
    external.disallowed_headers = disallowed.unwrap_or_default();
    external.failure_allows = said.failure_mode_allow;
    external.tells_failure = said.failure_mode_allow_header_add;
    external.status_on_error = status(said.status_on_error.as_ref()).unwrap_or(403);
    external.reroutes = said.clear_route_cache;
    external.body = said.with_request_body.as_ref().map(body);
    external.raw_headers = said.encode_raw_headers;
    external.tells_certificate = said.include_peer_certificate;
    external.tells_server_name = said.include_tls_session;
    external.denied_body_bytes_max = Some(said.max_denied_response_body_bytes).filter(|max| *max > 0);
    let listed = path.field("metadata_context_namespaces");
    for (at, name) in said.metadata_context_namespaces.iter().enumerate() {
        if name == JWT_FILTER {
            external.tells_claims = true;
        } else {
            let text = format!("metadata of the filter '{name}' is not known");
            findings.unsupported_value(&listed.at(at), text, format!("only that of {JWT_FILTER} is"));
        }
    }
    external.enabled = said.filter_enabled.as_ref().and_then(matching::fraction).unwrap_or(Fraction::ALL);
    let denies = said.deny_at_disable.as_ref().and_then(|flag| flag.default_value);
    external.denies_others = denies.is_some_and(|flag| flag.value);
    for invalid in external.problems() {
        findings.invalid(path, invalid);
    }
    external
}

fn grpc(said: &core::GrpcService, path: &Path<'_>, findings: &mut Findings<'_>) -> External {
    let mut external = External::new(ExternalService::Grpc(grpc_service(said, path, findings)));
    if let Some(timeout) = &said.timeout {
        external.timeout = value::duration(timeout, &path.field("timeout"), findings);
    }
    external
}

/// Who is asked by gRPC.
pub(super) fn grpc_service(
    said: &core::GrpcService,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> ExternalGrpc {
    use core::grpc_service::TargetSpecifier;
    let mut grpc = ExternalGrpc::default();
    // Another way to reach it is told as a field that is not supported.
    if let Some(TargetSpecifier::EnvoyGrpc(said)) = &said.target_specifier {
        grpc.cluster.clone_from(&said.cluster_name);
        grpc.authority.clone_from(&said.authority);
    }
    grpc.metadata = literals(&said.initial_metadata, &path.field("initial_metadata"), findings);
    grpc
}

#[expect(deprecated, reason = "the older spelling is still read")]
fn http(said: &ext_authz::HttpService, path: &Path<'_>, findings: &mut Findings<'_>) -> External {
    let uri = said.server_uri.clone().unwrap_or_default();
    if said.server_uri.is_none() {
        findings.missing(path, "server_uri says who is asked");
    }
    let core::http_uri::HttpUpstreamType::Cluster(cluster) =
        uri.http_upstream_type.clone().unwrap_or(core::http_uri::HttpUpstreamType::Cluster(String::new()));
    let asked = said.authorization_request.clone().unwrap_or_default();
    let told = said.authorization_response.clone().unwrap_or_default();
    let of_request = path.field("authorization_request");
    let of_answer = path.field("authorization_response");
    let list = |list: &Option<matcher::ListStringMatcher>, field: &str, findings: &mut Findings<'_>| {
        list.as_ref().map(|list| patterns(list, &of_answer.field(field), findings)).unwrap_or_default()
    };
    let http = ExternalHttp {
        cluster,
        path_prefix: said.path_prefix.clone(),
        path: said.path_override.clone(),
        headers_to_add: literals(&asked.headers_to_add, &of_request.field("headers_to_add"), findings),
        upstream_headers: list(&told.allowed_upstream_headers, "allowed_upstream_headers", findings),
        upstream_headers_to_append: list(
            &told.allowed_upstream_headers_to_append,
            "allowed_upstream_headers_to_append",
            findings,
        ),
        client_headers: list(&told.allowed_client_headers, "allowed_client_headers", findings),
        client_headers_on_success: list(
            &told.allowed_client_headers_on_success,
            "allowed_client_headers_on_success",
            findings,
        ),
    };
    let mut external = External::new(ExternalService::Http(http));
    external.allowed_headers = asked
        .allowed_headers
        .as_ref()
        .map(|list| patterns(list, &of_request.field("allowed_headers"), findings));
    external.timeout = uri.timeout.as_ref().map_or(defaults::EXTERNAL_TIMEOUT, |said| {
        value::duration(said, &path.field("server_uri.timeout"), findings)
    });
    external
}

fn patterns(
    said: &matcher::ListStringMatcher,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<StringMatch> {
    let listed = path.field("patterns");
    let all = said.patterns.iter().enumerate();
    all.map(|(at, said)| matching::string_match(said, &listed.at(at), findings)).collect()
}

/// Headers with values that are written out.
fn literals(
    said: &[core::HeaderValue],
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<(HeaderName, String)> {
    let mut all = Vec::new();
    for (at, said) in said.iter().enumerate() {
        let path = path.at(at);
        let Some(name) = headers::name(&said.key, &path.field("key"), findings) else { continue };
        match Format::parse(&said.value).ok().and_then(|format| format.as_literal().map(str::to_owned)) {
            Some(value) => all.push((name, value)),
            None => {
                let text = "a header of a question has a value that is written out";
                findings.unsupported_value(&path.field("value"), text, "write it out, without %");
            }
        }
    }
    all
}

fn body(said: &ext_authz::BufferSettings) -> ExternalBody {
    ExternalBody {
        bytes_max: said.max_request_bytes,
        allows_partial: said.allow_partial_message,
        is_raw: said.pack_as_bytes,
    }
}

fn status(said: Option<&kinds::HttpStatus>) -> Option<u16> {
    u16::try_from(said?.code).ok().filter(|code| *code > 0)
}

/// What a route says to it.
pub(super) fn of_route(name: &str, said: &ext_authz::ExtAuthzPerRoute) -> Option<GateChange> {
    use ext_authz::ext_authz_per_route::Override;
    match said.r#override.as_ref()? {
        Override::Disabled(true) => Some(GateChange::Without(name.to_owned())),
        Override::Disabled(false) => None,
        Override::CheckSettings(said) => {
            let mut context: Vec<_> =
                said.context_extensions.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            context.sort();
            let body = match &said.with_request_body {
                _ if said.disable_request_body_buffering => BodyChange::Without,
                Some(said) => BodyChange::Instead(body(said)),
                None => BodyChange::AsBefore,
            };
            Some(GateChange::Ask(name.to_owned(), Box::new(ExternalChange { context, body })))
        }
    }
}
