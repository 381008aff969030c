//! Policies that ask somebody else: `action: CUSTOM`, as Istio makes `ext_authz` of them
//! (`pilot/pkg/security/authz/builder/extauthz.go`).
//!
//! Whom a policy names stands in a `MeshConfig`. It is asked about requests for which one of the policy's rules holds,
//! before tokens are looked at: what it sets may be a token. So rules cannot ask for what tokens claim.

use std::collections::BTreeMap;

use http::HeaderName;
use naru_resource::mesh_config::{ExtAuthzBody, ExtensionProvider};
use naru_resource::security::{AuthorizationPolicy, PolicyAction};
use naru_resource::virtual_service::{Destination, PortSelector};
use naru_resource::{Flag, Number, Place, Placed, Resources, Seconds, Text};
use naru_spec::{
    Check, CheckKind, External, ExternalBody, ExternalGrpc, ExternalHttp, ExternalService, Path, RbacAction,
    RbacRules, StringMatch, ValueTest, code, defaults,
};

use super::authorization;
use crate::findings::Findings;
use crate::routes::{Context, Owner, Routes};

/// As the filter is called that asks them.
pub(super) const FILTER: &str = "envoy.filters.http.ext_authz";

/// Those whom policies name, by name.
pub(super) type Providers = BTreeMap<String, External>;

pub(super) fn is_custom(document: &AuthorizationPolicy) -> bool {
    let action = document.spec.as_ref().and_then(|spec| spec.action);
    action.is_some_and(|said| said.value == PolicyAction::Custom)
}

/// What policies say that cannot be.
pub(super) fn check(document: &AuthorizationPolicy, findings: &mut Findings<'_>) {
    let Some(spec) = &document.spec else { return };
    let path = Path::ROOT.field("spec");
    let mut unsupported = |place: Place, path: &Path<'_>, message: &str, hint: &str| {
        findings.error(code::UNSUPPORTED_FIELD, place, path, message, hint);
    };
    if let Some(flag) = document.dry_run.filter(|flag| flag.value) {
        let message = "who asks somebody else cannot do so dry";
        unsupported(flag.place, &Path::ROOT.field("metadata.annotations"), message, "remove the annotation");
    }
    if spec.rules.is_empty() {
        let message = "without rules nobody is asked about any request";
        unsupported(spec.place, &path.field("rules"), message, "rules: [{}] is for all");
    }
    let listed = path.field("rules");
    for (at, rule) in spec.rules.iter().enumerate() {
        let path = listed.at(at);
        let sources = rule.from.iter().filter_map(|from| from.source.as_ref());
        let principals =
            sources.flat_map(|source| source.request_principals.iter().chain(&source.not_request_principals));
        let keys = rule.when.iter().map(|condition| &condition.key);
        let keys = keys.filter(|key| key.starts_with("request.auth"));
        for text in principals.chain(keys) {
            let message = "CUSTOM is asked before tokens are looked at";
            unsupported(text.place, &path, message, "a policy that allows or denies asks for claims");
        }
    }
}

/// Those whom policies name, ready to be asked; what is wrong with them is told.
pub(super) fn providers(
    policies: &[&AuthorizationPolicy],
    resources: &Resources,
    routes: &mut Routes<'_>,
    findings: &mut Findings<'_>,
) -> Providers {
    let known: Vec<&ExtensionProvider> =
        resources.mesh_configs.iter().flat_map(|mesh| &mesh.extension_providers).collect();
    for (at, provider) in known.iter().enumerate() {
        if known.iter().take(at).any(|other| other.name.value == provider.name.value) {
            let message = format!("there are two providers called '{}'", provider.name.value);
            let path = Path::ROOT.field("extensionProviders");
            findings.error(code::DUPLICATE, provider.name.place, &path, message, "");
        }
    }
    let mut ready = Providers::new();
    for document in policies.iter().filter(|document| is_custom(document)) {
        let Some(spec) = &document.spec else { continue };
        let path = Path::ROOT.field("spec");
        let Some(named) = &spec.provider else {
            let place = spec.action.map_or(document.place, |said| said.place);
            let message = "CUSTOM needs to know whom to ask";
            let hint = "provider: { name: .. }, of the extensionProviders of a MeshConfig";
            findings.error(code::MISSING_FIELD, place, &path.field("provider"), message, hint);
            continue;
        };
        let name = &named.name;
        if ready.contains_key(&name.value) {
            continue;
        }
        let Some(provider) = known.iter().find(|provider| provider.name.value == name.value) else {
            let message = format!("there is no provider '{}'", name.value);
            let names: Vec<_> = known.iter().map(|provider| provider.name.value.as_str()).collect();
            let hint = match names.as_slice() {
                [] => "a document of the kind MeshConfig has extensionProviders".to_owned(),
                names => format!("there are {}", names.join(", ")),
            };
            findings.error(code::UNKNOWN_REFERENCE, name.place, &path.field("provider.name"), message, hint);
            continue;
        };
        if let Some(external) = external(provider, routes, findings) {
            ready.insert(name.value.clone(), external);
        }
    }
    ready
}

/// What policies of a chain ask whom about: each provider once.
pub(super) fn checks(
    policies: &[&AuthorizationPolicy],
    providers: &Providers,
    findings: &Findings<'_>,
) -> Vec<Check> {
    let of = |(name, external): (&String, &External)| {
        let names_it = |document: &&&AuthorizationPolicy| {
            let provider = document.spec.as_ref().and_then(|spec| spec.provider.as_ref());
            is_custom(document) && provider.is_some_and(|provider| provider.name.value == *name)
        };
        let documents: Vec<_> = policies.iter().filter(names_it).collect();
        if documents.is_empty() {
            return None;
        }
        let rules = documents.iter().flat_map(|document| authorization::rules_of(document, findings));
        let only_for = RbacRules { action: RbacAction::Deny, policies: rules.collect() };
        let kind = CheckKind::External(Box::new(External { only_for: Some(only_for), ..external.clone() }));
        // One that asks another one is another check.
        Some(Check { name: format!("{FILTER}/{name}"), kind })
    };
    providers.iter().filter_map(of).collect()
}

fn external(
    provider: &ExtensionProvider,
    routes: &mut Routes<'_>,
    findings: &mut Findings<'_>,
) -> Option<External> {
    let root = Path::ROOT.field("extensionProviders");
    let root = root.key(&provider.name);
    match (&provider.envoy_ext_authz_http, &provider.envoy_ext_authz_grpc) {
        (Some(http), None) => {
            let path = root.field("envoyExtAuthzHttp");
            let cluster = cluster(&http.service, http.port, routes, &path, findings)?;
            let mut names = |list: &[Text], field: &str| -> Vec<StringMatch> {
                list.iter().filter_map(|text| name(text, &path.field(field), findings)).collect()
            };
            let mut told = names(&http.include_headers_in_check, "includeHeadersInCheck");
            told.extend(names(&http.include_request_headers_in_check, "includeRequestHeadersInCheck"));
            let upstream_headers = names(&http.headers_to_upstream_on_allow, "headersToUpstreamOnAllow");
            let client_headers = names(&http.headers_to_downstream_on_deny, "headersToDownstreamOnDeny");
            let on_success = names(&http.headers_to_downstream_on_allow, "headersToDownstreamOnAllow");
            let mut headers_to_add = Vec::new();
            for (name, value) in &http.include_additional_headers_in_check {
                match HeaderName::try_from(name.value.as_str()) {
                    Ok(name) if http::HeaderValue::from_str(&value.value).is_ok() => {
                        headers_to_add.push((name, value.value.clone()));
                    }
                    _ => {
                        let path = path.field("includeAdditionalHeadersInCheck");
                        findings.error(code::INVALID_VALUE, name.place, &path, "it cannot be a header", "");
                    }
                }
            }
            let prefix = http.path_prefix.as_ref();
            if let Some(prefix) = prefix.filter(|prefix| !prefix.starts_with('/')) {
                let path = path.field("pathPrefix");
                findings.error(code::INVALID_VALUE, prefix.place, &path, "a path begins with /", "");
            }
            let service = ExternalService::Http(ExternalHttp {
                cluster,
                path_prefix: prefix.map(|prefix| prefix.value.clone()).unwrap_or_default(),
                path: String::new(),
                headers_to_add,
                upstream_headers,
                upstream_headers_to_append: Vec::new(),
                client_headers,
                client_headers_on_success: on_success,
            });
            let common = Common {
                timeout: http.timeout,
                fail_open: http.fail_open,
                status: http.status_on_error.as_ref(),
                body: http.include_request_body_in_check.as_ref(),
                clear: http.clear_route_cache,
            };
            Some(External { allowed_headers: Some(told), ..common.apply(service, &path, findings)? })
        }
        (None, Some(grpc)) => {
            let path = root.field("envoyExtAuthzGrpc");
            let cluster = cluster(&grpc.service, grpc.port, routes, &path, findings)?;
            let service = ExternalService::Grpc(ExternalGrpc { cluster, ..ExternalGrpc::default() });
            let common = Common {
                timeout: grpc.timeout,
                fail_open: grpc.fail_open,
                status: grpc.status_on_error.as_ref(),
                body: grpc.include_request_body_in_check.as_ref(),
                clear: grpc.clear_route_cache,
            };
            common.apply(service, &path, findings)
        }
        _ => {
            let message = "it needs one of envoyExtAuthzHttp and envoyExtAuthzGrpc to be asked";
            findings.error(code::MISSING_FIELD, provider.place, &root, message, "");
            None
        }
    }
}

/// What both ways of asking have.
struct Common<'a> {
    timeout: Option<Seconds>,
    fail_open: Option<Flag>,
    status: Option<&'a Text>,
    body: Option<&'a ExtAuthzBody>,
    clear: Option<Flag>,
}

impl Common<'_> {
    fn apply(
        self,
        service: ExternalService,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<External> {
        let mut external = External::new(service);
        external.timeout = self.timeout.map_or(defaults::PROVIDER_TIMEOUT, |timeout| timeout.value);
        if let Some(timeout) = self.timeout.filter(|timeout| timeout.value.is_zero()) {
            let message = "a timeout of 0 leaves no time to ask";
            findings.error(code::INVALID_VALUE, timeout.place, &path.field("timeout"), message, "");
            return None;
        }
        external.failure_allows = self.fail_open.is_some_and(|flag| flag.value);
        external.reroutes = self.clear.is_some_and(|flag| flag.value);
        if let Some(status) = self.status {
            match status.value.parse() {
                Ok(code) if (200..=599).contains(&code) => external.status_on_error = code,
                _ => {
                    let message = format!("'{}' is no status of an answer", status.value);
                    let path = path.field("statusOnError");
                    findings.error(code::INVALID_VALUE, status.place, &path, message, "200 to 599");
                }
            }
        }
        if let Some(body) = self.body {
            let bytes = body.max_request_bytes;
            match u32::try_from(bytes.value) {
                Ok(bytes_max) if bytes_max > 0 => {
                    external.body = Some(ExternalBody {
                        bytes_max,
                        allows_partial: body.allow_partial_message.is_some_and(|flag| flag.value),
                        is_raw: body.pack_as_bytes.is_some_and(|flag| flag.value),
                    });
                }
                _ => {
                    let path = path.field("includeRequestBodyInCheck.maxRequestBytes");
                    let message = format!("{} is no number of bytes", bytes.value);
                    findings.error(code::INVALID_VALUE, bytes.place, &path, message, "1 or more");
                }
            }
        }
        Some(external)
    }
}

/// `[NAMESPACE/]HOST` at a port.
fn cluster(
    service: &Text,
    port: Number,
    routes: &mut Routes<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let (namespace, host) =
        service.split_once('/').unwrap_or((naru_resource::meta::DEFAULT_NAMESPACE, service.as_str()));
    let destination = Destination {
        place: service.place,
        host: Placed { value: host.to_owned(), place: service.place },
        subset: None,
        port: Some(PortSelector { place: port.place, number: port }),
    };
    let owner = Owner { namespace, is_mesh_only: false };
    let context = Context::Gateway { namespace, name: "", labels: &[], port: 0, is_tls: false };
    let said = "who is asked";
    routes.own_destination(owner, &destination, &context, said, path, findings)
}

/// Exact, `prefix*`, `*suffix`, or `*` for all of them; names of headers have no case.
fn name(text: &Text, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<StringMatch> {
    let test = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text.value == "*" => ValueTest::Prefix(String::new()),
        (Some(suffix), _) => ValueTest::Suffix(suffix.to_owned()),
        (None, Some(prefix)) => ValueTest::Prefix(prefix.to_owned()),
        (None, None) => ValueTest::Exact(text.value.clone()),
    };
    let written = text.trim_matches('*');
    if text.is_empty() || (!written.is_empty() && HeaderName::try_from(written).is_err()) {
        let message = format!("'{}' cannot be the name of a header", text.value);
        findings.error(code::INVALID_VALUE, text.place, path, message, "name, prefix*, *suffix or *");
        return None;
    }
    Some(StringMatch { test, ignore_case: true })
}
