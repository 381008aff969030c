//! The filters `jwt_authn` and `rbac`.

use std::time::Duration;

use http::HeaderName;
use naru_spec::{
    AuthTest, ClaimHeader, ClaimMatch, HeaderTest, Jwt, JwtHeader, JwtKeys, JwtProvider, JwtRequirement,
    JwtRule, Path, Rbac, RbacAction, RbacPolicy, RbacRules, RemoteKeys, StringMatch, ValueMatch, defaults,
};

use super::{condition, headers, matching, value};
use crate::findings::{Findings, code};
use crate::proto::{core, http_rbac, jwt_authn, matcher, rbac, route, uri_template};
use crate::schema::unpack;

/// Maps have no order of their own: they are read by name.
pub(super) fn jwt(said: &jwt_authn::JwtAuthentication, path: &Path<'_>, findings: &mut Findings<'_>) -> Jwt {
    let mut providers: Vec<_> = said.providers.iter().collect();
    providers.sort_by_key(|(name, _)| *name);
    let listed = path.field("providers");
    let providers = providers
        .into_iter()
        .map(|(name, said)| provider(name, said, &listed.field(name), findings))
        .collect();
    let listed = path.field("rules");
    let mut rules = Vec::new();
    for (at, rule) in said.rules.iter().enumerate() {
        let path = listed.at(at);
        use jwt_authn::requirement_rule::RequirementType;
        let requires = match &rule.requirement_type {
            None => JwtRequirement::Nothing,
            Some(RequirementType::Requires(said)) => requirement(said),
            Some(RequirementType::RequirementName(name)) => {
                let path = path.field("requirement_name");
                match said.requirement_map.get(name) {
                    Some(said) => requirement(said),
                    None => {
                        let text = format!("there is no requirement '{name}' in requirement_map");
                        findings.error(&path, code::UNKNOWN_REFERENCE, text, "");
                        JwtRequirement::Nothing
                    }
                }
            }
        };
        let matches = rule.r#match.as_ref().map(|said| matching::read(said, &path.field("match"), findings));
        rules.push(JwtRule { matches: matches.unwrap_or_default(), requires });
    }
    let mut named: Vec<_> =
        said.requirement_map.iter().map(|(name, said)| (name.clone(), requirement(said))).collect();
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    let said = Jwt {
        providers,
        rules,
        named,
        bypass_cors_preflight: said.bypass_cors_preflight,
        strip_failure_response: said.strip_failure_response,
    };
    for invalid in said.problems() {
        findings.invalid(path, invalid);
    }
    said
}

fn provider(
    name: &str,
    said: &jwt_authn::JwtProvider,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> JwtProvider {
    use jwt_authn::jwt_provider::JwksSourceSpecifier as Source;
    let keys = match &said.jwks_source_specifier {
        Some(Source::LocalJwks(said)) => JwtKeys::Local(value::data_source(said)),
        Some(Source::RemoteJwks(said)) => JwtKeys::Remote(remote(said, &path.field("remote_jwks"), findings)),
        None => {
            findings.missing(path, "a provider needs local_jwks or remote_jwks");
            JwtKeys::Local(value::data_source(&core::DataSource::default()))
        }
    };
    let named = |text: &str, path: &Path<'_>, findings: &mut Findings<'_>| -> Option<HeaderName> {
        if text.is_empty() { None } else { headers::name(text, path, findings) }
    };
    let listed = path.field("from_headers");
    let mut from_headers = Vec::new();
    for (at, header) in said.from_headers.iter().enumerate() {
        let name = headers::name(&header.name, &listed.at(at).field("name"), findings);
        from_headers.extend(name.map(|name| JwtHeader { name, prefix: header.value_prefix.clone() }));
    }
    let listed = path.field("claim_to_headers");
    let mut claim_headers = Vec::new();
    for (at, claim) in said.claim_to_headers.iter().enumerate() {
        let path = listed.at(at);
        let header = headers::name(&claim.header_name, &path.field("header_name"), findings);
        if claim.claim_name.is_empty() {
            findings.missing(&path, "claim_name says which claim");
        }
        claim_headers.extend(header.map(|header| ClaimHeader { header, claim: claim.claim_name.clone() }));
    }
    let payload_header = named(&said.forward_payload_header, &path.field("forward_payload_header"), findings);
    let spaced = said.normalize_payload_in_metadata.as_ref();
    JwtProvider {
        name: name.to_owned(),
        issuer: Some(said.issuer.clone()).filter(|issuer| !issuer.is_empty()),
        audiences: said.audiences.clone(),
        keys,
        forward: said.forward,
        from_headers,
        from_params: said.from_params.clone(),
        from_cookies: said.from_cookies.clone(),
        payload_header,
        pads_payload: said.pad_forward_payload_header,
        claim_headers,
        clock_skew: match said.clock_skew_seconds {
            0 => defaults::JWT_CLOCK_SKEW,
            seconds => Duration::from_secs(seconds.into()),
        },
        claims_name: said.payload_in_metadata.clone(),
        spaced_claims: spaced.map(|said| said.space_delimited_claims.clone()).unwrap_or_default(),
        requires_expiry: said.require_expiration,
        lifetime_max: said
            .max_lifetime
            .as_ref()
            .map(|said| value::duration(said, &path.field("max_lifetime"), findings)),
        reroutes: said.clear_route_cache,
    }
}

fn remote(said: &jwt_authn::RemoteJwks, path: &Path<'_>, findings: &mut Findings<'_>) -> RemoteKeys {
    let uri = said.http_uri.clone().unwrap_or_default();
    let cache = said.cache_duration.as_ref();
    let timeout = uri.timeout.as_ref();
    let core::http_uri::HttpUpstreamType::Cluster(cluster) =
        uri.http_upstream_type.clone().unwrap_or(core::http_uri::HttpUpstreamType::Cluster(String::new()));
    RemoteKeys {
        uri: uri.uri.clone(),
        cluster,
        timeout: timeout.map_or(defaults::JWKS_TIMEOUT, |said| {
            value::duration(said, &path.field("http_uri.timeout"), findings)
        }),
        cache: cache.map_or(defaults::JWKS_CACHE, |said| {
            value::duration(said, &path.field("cache_duration"), findings)
        }),
    }
}

fn requirement(said: &jwt_authn::JwtRequirement) -> JwtRequirement {
    use jwt_authn::jwt_requirement::RequiresType;
    let list = |said: &[jwt_authn::JwtRequirement]| said.iter().map(requirement).collect();
    match &said.requires_type {
        None => JwtRequirement::Nothing,
        Some(RequiresType::ProviderName(name)) => {
            JwtRequirement::Provider { name: name.clone(), audiences: Vec::new() }
        }
        Some(RequiresType::ProviderAndAudiences(said)) => {
            JwtRequirement::Provider { name: said.provider_name.clone(), audiences: said.audiences.clone() }
        }
        Some(RequiresType::RequiresAny(said)) => JwtRequirement::Any(list(&said.requirements)),
        Some(RequiresType::RequiresAll(said)) => JwtRequirement::All(list(&said.requirements)),
        Some(RequiresType::AllowMissing(_)) => JwtRequirement::AllowMissing,
        Some(RequiresType::AllowMissingOrFailed(_)) => JwtRequirement::AllowMissingOrFailed,
        // Told as a field that is not supported.
        Some(RequiresType::ExtractOnlyWithoutValidation(_)) => JwtRequirement::Nothing,
    }
}

pub(super) fn policies(said: &http_rbac::Rbac, path: &Path<'_>, findings: &mut Findings<'_>) -> Rbac {
    Rbac {
        rules: said.rules.as_ref().map(|said| rules(said, &path.field("rules"), findings)),
        shadow: said.shadow_rules.as_ref().map(|said| rules(said, &path.field("shadow_rules"), findings)),
        shadow_prefix: said.shadow_rules_stat_prefix.clone(),
    }
}

fn rules(said: &rbac::Rbac, path: &Path<'_>, findings: &mut Findings<'_>) -> RbacRules {
    let mut policies: Vec<_> = said.policies.iter().collect();
    policies.sort_by_key(|(name, _)| *name);
    let listed = path.field("policies");
    let policies = policies.into_iter().map(|(name, said)| {
        let path = listed.field(name);
        let (permitted, named) = (path.field("permissions"), path.field("principals"));
        let permissions = said.permissions.iter().enumerate();
        let permissions =
            permissions.map(|(at, said)| permission(said, &permitted.at(at), findings)).collect();
        let principals = said.principals.iter().enumerate();
        let principals = principals.map(|(at, said)| principal(said, &named.at(at), findings)).collect();
        let of_condition = path.field("condition");
        let condition =
            said.condition.as_ref().and_then(|said| condition::read(said, &of_condition, findings));
        RbacPolicy { name: name.clone(), origin: String::new(), permissions, principals, condition }
    });
    RbacRules {
        policies: policies.collect(),
        action: match said.action() {
            rbac::rbac::Action::Allow => RbacAction::Allow,
            rbac::rbac::Action::Deny => RbacAction::Deny,
            rbac::rbac::Action::Log => RbacAction::Log,
        },
    }
}

fn permission(said: &rbac::Permission, path: &Path<'_>, findings: &mut Findings<'_>) -> AuthTest {
    use rbac::permission::Rule;
    let mut all = |said: &rbac::permission::Set, field: &str| -> Vec<AuthTest> {
        let path = path.field(field);
        let path = path.field("rules");
        said.rules.iter().enumerate().map(|(at, said)| permission(said, &path.at(at), findings)).collect()
    };
    match &said.rule {
        Some(Rule::AndRules(said)) => AuthTest::All(all(said, "and_rules")),
        Some(Rule::OrRules(said)) => AuthTest::Any(all(said, "or_rules")),
        Some(Rule::NotRule(said)) => {
            AuthTest::Not(Box::new(permission(said, &path.field("not_rule"), findings)))
        }
        Some(Rule::Any(_)) => AuthTest::Always,
        Some(Rule::Header(said)) => header(said, &path.field("header"), findings),
        Some(Rule::UrlPath(said)) => url_path(said, &path.field("url_path"), findings),
        Some(Rule::DestinationIp(said)) => {
            network(said, &path.field("destination_ip"), findings, AuthTest::DestinationIp)
        }
        Some(Rule::DestinationPort(port)) => AuthTest::DestinationPorts(*port, port.saturating_add(1)),
        Some(Rule::DestinationPortRange(said)) => {
            match (u32::try_from(said.start), u32::try_from(said.end)) {
                (Ok(first), Ok(end)) if first < end && end <= 65_536 => {
                    AuthTest::DestinationPorts(first, end)
                }
                _ => {
                    let invalid =
                        naru_spec::Invalid::new(format!("{} to {} are no ports", said.start, said.end));
                    findings.invalid(&path.field("destination_port_range"), invalid);
                    AuthTest::Always
                }
            }
        }
        #[expect(deprecated, reason = "the older spelling is still read")]
        Some(Rule::Metadata(said)) => metadata(said, &path.field("metadata"), findings),
        Some(Rule::SourcedMetadata(said)) => sourced(said, &path.field("sourced_metadata"), findings),
        Some(Rule::RequestedServerName(said)) => {
            AuthTest::ServerName(matching::string_match(said, &path.field("requested_server_name"), findings))
        }
        Some(Rule::UriTemplate(said)) => {
            let any = said.typed_config.as_ref();
            match any.and_then(unpack::<uri_template::UriTemplateMatchConfig>) {
                Some(said) => AuthTest::PathTemplate(said.path_template),
                None => {
                    let text = "only the templates of envoy.path.match.uri_template are supported";
                    findings.unsupported_value(&path.field("uri_template"), text, "");
                    AuthTest::Always
                }
            }
        }
        // Told as fields that are not supported.
        Some(Rule::Matcher(_)) => AuthTest::Always,
        None => unsaid(path, findings),
    }
}

fn principal(said: &rbac::Principal, path: &Path<'_>, findings: &mut Findings<'_>) -> AuthTest {
    use rbac::principal::Identifier;
    let mut all = |said: &rbac::principal::Set, field: &str| -> Vec<AuthTest> {
        let path = path.field(field);
        let path = path.field("ids");
        said.ids.iter().enumerate().map(|(at, said)| principal(said, &path.at(at), findings)).collect()
    };
    match &said.identifier {
        Some(Identifier::AndIds(said)) => AuthTest::All(all(said, "and_ids")),
        Some(Identifier::OrIds(said)) => AuthTest::Any(all(said, "or_ids")),
        Some(Identifier::NotId(said)) => {
            AuthTest::Not(Box::new(principal(said, &path.field("not_id"), findings)))
        }
        Some(Identifier::Any(_)) => AuthTest::Always,
        Some(Identifier::Authenticated(said)) => {
            let path = path.field("authenticated.principal_name");
            let name = said.principal_name.as_ref();
            AuthTest::Authenticated(name.map(|said| matching::string_match(said, &path, findings)))
        }
        #[expect(deprecated, reason = "the older spelling is still read")]
        Some(Identifier::SourceIp(said)) => {
            network(said, &path.field("source_ip"), findings, AuthTest::PeerIp)
        }
        Some(Identifier::DirectRemoteIp(said)) => {
            network(said, &path.field("direct_remote_ip"), findings, AuthTest::PeerIp)
        }
        Some(Identifier::RemoteIp(said)) => {
            network(said, &path.field("remote_ip"), findings, AuthTest::RemoteIp)
        }
        Some(Identifier::Header(said)) => header(said, &path.field("header"), findings),
        Some(Identifier::UrlPath(said)) => url_path(said, &path.field("url_path"), findings),
        #[expect(deprecated, reason = "the older spelling is still read")]
        Some(Identifier::Metadata(said)) => metadata(said, &path.field("metadata"), findings),
        Some(Identifier::SourcedMetadata(said)) => sourced(said, &path.field("sourced_metadata"), findings),
        // Told as fields that are not supported.
        Some(Identifier::FilterState(_) | Identifier::Custom(_)) => AuthTest::Always,
        None => unsaid(path, findings),
    }
}

fn unsaid(path: &Path<'_>, findings: &mut Findings<'_>) -> AuthTest {
    findings.missing(path, "it says nothing: 'any: true' takes all");
    AuthTest::Always
}

/// Pseudo headers are what they stand for. They are always there.
fn header(said: &route::HeaderMatcher, path: &Path<'_>, findings: &mut Findings<'_>) -> AuthTest {
    let make: fn(StringMatch) -> AuthTest = match said.name.as_str() {
        ":method" => AuthTest::Method,
        ":authority" => AuthTest::Authority,
        ":path" | ":scheme" => {
            let text = format!("the pseudo header '{}' cannot be matched as a header", said.name);
            findings.unsupported_value(&path.field("name"), text, "match url_path");
            return AuthTest::Always;
        }
        _ => return matching::header(said, path, findings).map_or(AuthTest::Always, AuthTest::Header),
    };
    let test = match matching::header_test(said, path, findings) {
        HeaderTest::Value(test) => make(test),
        HeaderTest::Present(true) => AuthTest::Always,
        HeaderTest::Present(false) => AuthTest::Not(Box::new(AuthTest::Always)),
        HeaderTest::Range { .. } => {
            findings.unsupported_value(path, format!("'{}' is no number", said.name), "use string_match");
            AuthTest::Always
        }
    };
    if said.invert_match { AuthTest::Not(Box::new(test)) } else { test }
}

fn url_path(said: &matcher::PathMatcher, path: &Path<'_>, findings: &mut Findings<'_>) -> AuthTest {
    match &said.rule {
        Some(matcher::path_matcher::Rule::Path(said)) => {
            AuthTest::Path(matching::string_match(said, &path.field("path"), findings))
        }
        None => unsaid(path, findings),
    }
}

fn network(
    said: &core::CidrRange,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
    make: fn(ipnet::IpNet) -> AuthTest,
) -> AuthTest {
    let length = said.prefix_len.map_or(0, |said| said.value);
    value::network(&said.address_prefix, length, path, findings).map_or(AuthTest::Always, make)
}

fn sourced(said: &rbac::SourcedMetadata, path: &Path<'_>, findings: &mut Findings<'_>) -> AuthTest {
    if said.metadata_source() != rbac::MetadataSource::Dynamic {
        let text = "the metadata of routes is not asked for";
        findings.unsupported_value(&path.field("metadata_source"), text, "DYNAMIC is that of filters");
        return AuthTest::Always;
    }
    let path = path.field("metadata_matcher");
    said.metadata_matcher.as_ref().map_or(AuthTest::Always, |said| metadata(said, &path, findings))
}

/// The filter whose metadata is known.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";

fn metadata(said: &matcher::MetadataMatcher, path: &Path<'_>, findings: &mut Findings<'_>) -> AuthTest {
    claim_of(said, path, findings).map_or(AuthTest::Always, AuthTest::Claim)
}

/// What is asked of a claim. What is wrong is told.
pub(super) fn claim_of(
    said: &matcher::MetadataMatcher,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<ClaimMatch> {
    let mut names = said.path.iter().filter_map(|segment| {
        let matcher::metadata_matcher::path_segment::Segment::Key(key) = segment.segment.as_ref()?;
        Some(key.clone())
    });
    if said.filter != JWT_FILTER {
        let text = format!("metadata of the filter '{}' is not known", said.filter);
        findings.unsupported_value(&path.field("filter"), text, format!("only that of {JWT_FILTER} is"));
        return None;
    }
    let Some(claims_name) = names.next() else {
        findings.missing(&path.field("path"), "the first name is the payload_in_metadata of a provider");
        return None;
    };
    let test = said.value.as_ref().map(|said| claim(said, &path.field("value"), findings));
    Some(ClaimMatch {
        claims_name,
        path: names.collect(),
        test: test.unwrap_or(ValueMatch::Present(true)),
        invert: said.invert,
    })
}

fn claim(said: &matcher::ValueMatcher, path: &Path<'_>, findings: &mut Findings<'_>) -> ValueMatch {
    use matcher::value_matcher::MatchPattern;
    use matcher::{double_matcher, list_matcher};
    match &said.match_pattern {
        Some(MatchPattern::NullMatch(_)) => ValueMatch::Null,
        Some(MatchPattern::BoolMatch(is_true)) => ValueMatch::Bool(*is_true),
        Some(MatchPattern::PresentMatch(present)) => ValueMatch::Present(*present),
        Some(MatchPattern::StringMatch(said)) => {
            ValueMatch::Text(matching::string_match(said, &path.field("string_match"), findings))
        }
        Some(MatchPattern::DoubleMatch(said)) => match &said.match_pattern {
            Some(double_matcher::MatchPattern::Exact(number)) => ValueMatch::Number(*number),
            Some(double_matcher::MatchPattern::Range(range)) => ValueMatch::Range(range.start, range.end),
            None => ValueMatch::Null,
        },
        Some(MatchPattern::ListMatch(said)) => match &said.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(said)) => {
                ValueMatch::OneOf(Box::new(claim(said, &path.field("list_match.one_of"), findings)))
            }
            None => ValueMatch::Any(Vec::new()),
        },
        Some(MatchPattern::OrMatch(said)) => {
            let path = path.field("or_match.value_matchers");
            let list = said.value_matchers.iter().enumerate();
            ValueMatch::Any(list.map(|(at, said)| claim(said, &path.at(at), findings)).collect())
        }
        None => {
            findings.missing(path, "it says no value");
            ValueMatch::Null
        }
    }
}
