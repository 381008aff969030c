//! The filter `ext_authz`, of a listener and of a route.

use http::HeaderName;
use naru_base::Fraction;
use naru_spec::{
    BodyChange, External, ExternalBody, ExternalChange, ExternalGrpc, ExternalService, Rbac, RbacAction,
    RbacRules, StringMatch,
};

use super::{identity, matching, value};
use crate::proto::{Any, core, ext_authz, http_rbac, kinds, matcher};
use crate::schema::pack;

/// As Istio has it: policies that nobody is refused by say whether it is asked.
const SHADOW_PREFIX: &str = "istio_ext_authz_";

pub(super) fn write(said: &External) -> ext_authz::ExtAuthz {
    use ext_authz::ext_authz::Services;
    ext_authz::ExtAuthz {
        services: Some(match &said.service {
            ExternalService::Grpc(grpc) => Services::GrpcService(core::GrpcService {
                timeout: Some(value::duration(said.timeout)),
                ..grpc_service(grpc)
            }),
            ExternalService::Http(http) => Services::HttpService(ext_authz::HttpService {
                server_uri: Some(core::HttpUri {
                    uri: format!("http://{}", http.cluster),
                    timeout: Some(value::duration(said.timeout)),
                    http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(http.cluster.clone())),
                }),
                path_prefix: http.path_prefix.clone(),
                path_override: http.path.clone(),
                authorization_request: (!http.headers_to_add.is_empty()).then(|| {
                    ext_authz::AuthorizationRequest {
                        headers_to_add: literals(&http.headers_to_add),
                        ..Default::default()
                    }
                }),
                authorization_response: Some(ext_authz::AuthorizationResponse {
                    allowed_upstream_headers: patterns(&http.upstream_headers),
                    allowed_upstream_headers_to_append: patterns(&http.upstream_headers_to_append),
                    allowed_client_headers: patterns(&http.client_headers),
                    allowed_client_headers_on_success: patterns(&http.client_headers_on_success),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        }),
        transport_api_version: core::ApiVersion::V3.into(),
        failure_mode_allow: said.failure_allows,
        failure_mode_allow_header_add: said.tells_failure,
        status_on_error: Some(kinds::HttpStatus { code: said.status_on_error.into() }),
        clear_route_cache: said.reroutes,
        with_request_body: said.body.map(body),
        allowed_headers: said.allowed_headers.as_deref().and_then(patterns),
        disallowed_headers: patterns(&said.disallowed_headers),
        encode_raw_headers: said.raw_headers,
        include_peer_certificate: said.tells_certificate,
        include_tls_session: said.tells_server_name,
        validate_mutations: true,
        max_denied_response_body_bytes: said.denied_body_bytes_max.unwrap_or_default(),
        metadata_context_namespaces: if said.tells_claims {
            vec!["envoy.filters.http.jwt_authn".to_owned()]
        } else {
            Vec::new()
        },
        filter_enabled: (said.enabled != Fraction::ALL).then(|| matching::fraction(said.enabled)),
        deny_at_disable: said.denies_others.then(|| core::RuntimeFeatureFlag {
            default_value: Some(value::flag(true)),
            runtime_key: "ext_authz.deny_at_disable".to_owned(),
        }),
        filter_enabled_metadata: said.only_for.as_ref().map(|_| was_chosen()),
        ..Default::default()
    }
}

/// Who is asked by gRPC.
pub(super) fn grpc_service(grpc: &ExternalGrpc) -> core::GrpcService {
    let target = core::grpc_service::EnvoyGrpc {
        cluster_name: grpc.cluster.clone(),
        authority: grpc.authority.clone(),
        ..Default::default()
    };
    core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(target)),
        initial_metadata: literals(&grpc.metadata),
        ..Default::default()
    }
}

/// The policies that say for which requests it is asked, as a filter before it.
pub(super) fn chooser(said: &External) -> Option<http_rbac::Rbac> {
    let policies = said.only_for.as_ref()?.policies.clone();
    let shadow = Some(RbacRules { action: RbacAction::Deny, policies });
    Some(identity::policies(&Rbac { rules: None, shadow, shadow_prefix: SHADOW_PREFIX.to_owned() }))
}

fn was_chosen() -> matcher::MetadataMatcher {
    use matcher::metadata_matcher::{PathSegment, path_segment::Segment};
    let key = format!("{SHADOW_PREFIX}shadow_effective_policy_id");
    matcher::MetadataMatcher {
        filter: "envoy.filters.http.rbac".to_owned(),
        path: vec![PathSegment { segment: Some(Segment::Key(key)) }],
        value: Some(matcher::ValueMatcher {
            match_pattern: Some(matcher::value_matcher::MatchPattern::PresentMatch(true)),
        }),
        invert: false,
    }
}

fn literals(said: &[(HeaderName, String)]) -> Vec<core::HeaderValue> {
    let header = |(name, text): &(HeaderName, String)| core::HeaderValue {
        key: name.as_str().to_owned(),
        value: text.replace('%', "%%"),
        ..Default::default()
    };
    said.iter().map(header).collect()
}

fn patterns(said: &[StringMatch]) -> Option<matcher::ListStringMatcher> {
    let patterns = said.iter().map(matching::string_match).collect();
    (!said.is_empty()).then_some(matcher::ListStringMatcher { patterns })
}

fn body(said: ExternalBody) -> ext_authz::BufferSettings {
    ext_authz::BufferSettings {
        max_request_bytes: said.bytes_max,
        allow_partial_message: said.allows_partial,
        pack_as_bytes: said.is_raw,
    }
}

/// What a rule says to it.
pub(super) fn of_rule(change: &ExternalChange) -> Any {
    use ext_authz::ext_authz_per_route::Override;
    let settings = ext_authz::CheckSettings {
        context_extensions: change.context.iter().cloned().collect(),
        disable_request_body_buffering: change.body == BodyChange::Without,
        with_request_body: match change.body {
            BodyChange::Instead(said) => Some(body(said)),
            BodyChange::AsBefore | BodyChange::Without => None,
        },
        ..Default::default()
    };
    pack(&ext_authz::ExtAuthzPerRoute { r#override: Some(Override::CheckSettings(settings)) })
}

/// A rule of which it is not asked.
pub(super) fn disabled() -> Any {
    use ext_authz::ext_authz_per_route::Override;
    pack(&ext_authz::ExtAuthzPerRoute { r#override: Some(Override::Disabled(true)) })
}
