//! The filters `jwt_authn` and `rbac`.

use ipnet::IpNet;
use naru_spec::{
    AuthTest, ClaimMatch, HeaderTest, Jwt, JwtKeys, JwtProvider, JwtRequirement, Rbac, RbacAction,
    RbacPolicy, RbacRules, StringMatch, ValueMatch,
};

use super::{condition, matching, value};
use crate::proto::{core, http_rbac, jwt_authn, kinds, matcher, rbac, route, uri_template};
use crate::schema::pack;

pub(super) fn jwt(said: &Jwt) -> jwt_authn::JwtAuthentication {
    use jwt_authn::requirement_rule::RequirementType;
    jwt_authn::JwtAuthentication {
        providers: said.providers.iter().map(|said| (said.name.clone(), provider(said))).collect(),
        rules: said
            .rules
            .iter()
            .map(|rule| jwt_authn::RequirementRule {
                r#match: Some(matching::write(&rule.matches)),
                requirement_type: requirement(&rule.requires).map(RequirementType::Requires),
            })
            .collect(),
        requirement_map: said
            .named
            .iter()
            .map(|(name, said)| (name.clone(), requirement(said).unwrap_or_default()))
            .collect(),
        bypass_cors_preflight: said.bypass_cors_preflight,
        strip_failure_response: said.strip_failure_response,
        ..Default::default()
    }
}

fn provider(said: &JwtProvider) -> jwt_authn::JwtProvider {
    use jwt_authn::jwt_provider::{JwksSourceSpecifier, NormalizePayload};
    jwt_authn::JwtProvider {
        issuer: said.issuer.clone().unwrap_or_default(),
        audiences: said.audiences.clone(),
        require_expiration: said.requires_expiry,
        max_lifetime: said.lifetime_max.map(value::duration),
        clear_route_cache: said.reroutes,
        forward: said.forward,
        from_headers: said
            .from_headers
            .iter()
            .map(|header| jwt_authn::JwtHeader {
                name: header.name.as_str().to_owned(),
                value_prefix: header.prefix.clone(),
            })
            .collect(),
        from_params: said.from_params.clone(),
        from_cookies: said.from_cookies.clone(),
        forward_payload_header: said.payload_header.as_ref().map(|name| name.to_string()).unwrap_or_default(),
        pad_forward_payload_header: said.pads_payload,
        payload_in_metadata: said.claims_name.clone(),
        normalize_payload_in_metadata: (!said.spaced_claims.is_empty())
            .then(|| NormalizePayload { space_delimited_claims: said.spaced_claims.clone() }),
        clock_skew_seconds: u32::try_from(said.clock_skew.as_secs()).unwrap_or(u32::MAX),
        claim_to_headers: said
            .claim_headers
            .iter()
            .map(|claim| jwt_authn::JwtClaimToHeader {
                header_name: claim.header.as_str().to_owned(),
                claim_name: claim.claim.clone(),
                ..Default::default()
            })
            .collect(),
        jwks_source_specifier: Some(match &said.keys {
            JwtKeys::Local(source) => JwksSourceSpecifier::LocalJwks(value::data_source(source)),
            JwtKeys::Remote(remote) => JwksSourceSpecifier::RemoteJwks(jwt_authn::RemoteJwks {
                http_uri: Some(core::HttpUri {
                    uri: remote.uri.clone(),
                    timeout: Some(value::duration(remote.timeout)),
                    http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(
                        remote.cluster.clone(),
                    )),
                }),
                cache_duration: Some(value::duration(remote.cache)),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// Nothing is how nothing is said.
fn requirement(said: &JwtRequirement) -> Option<jwt_authn::JwtRequirement> {
    use jwt_authn::jwt_requirement::RequiresType;
    let all =
        |list: &[JwtRequirement]| list.iter().map(|said| requirement(said).unwrap_or_default()).collect();
    let requires_type = match said {
        JwtRequirement::Nothing => return None,
        JwtRequirement::Provider { name, audiences } if audiences.is_empty() => {
            RequiresType::ProviderName(name.clone())
        }
        JwtRequirement::Provider { name, audiences } => {
            RequiresType::ProviderAndAudiences(jwt_authn::ProviderWithAudiences {
                provider_name: name.clone(),
                audiences: audiences.clone(),
            })
        }
        JwtRequirement::Any(list) => {
            RequiresType::RequiresAny(jwt_authn::JwtRequirementOrList { requirements: all(list) })
        }
        JwtRequirement::All(list) => {
            RequiresType::RequiresAll(jwt_authn::JwtRequirementAndList { requirements: all(list) })
        }
        JwtRequirement::AllowMissing => RequiresType::AllowMissing(Default::default()),
        JwtRequirement::AllowMissingOrFailed => RequiresType::AllowMissingOrFailed(Default::default()),
    };
    Some(jwt_authn::JwtRequirement { requires_type: Some(requires_type) })
}

pub(super) fn policies(said: &Rbac) -> http_rbac::Rbac {
    http_rbac::Rbac {
        rules: said.rules.as_ref().map(rules),
        shadow_rules: said.shadow.as_ref().map(rules),
        shadow_rules_stat_prefix: said.shadow_prefix.clone(),
        ..Default::default()
    }
}

fn rules(said: &RbacRules) -> rbac::Rbac {
    let policy = |said: &RbacPolicy| rbac::Policy {
        permissions: said.permissions.iter().map(permission).collect(),
        principals: said.principals.iter().map(principal).collect(),
        condition: said.condition.as_ref().map(condition::write),
        ..Default::default()
    };
    rbac::Rbac {
        action: match said.action {
            RbacAction::Allow => rbac::rbac::Action::Allow,
            RbacAction::Deny => rbac::rbac::Action::Deny,
            RbacAction::Log => rbac::rbac::Action::Log,
        }
        .into(),
        policies: said.policies.iter().map(|said| (said.name.clone(), policy(said))).collect(),
        ..Default::default()
    }
}

fn permission(said: &AuthTest) -> rbac::Permission {
    use rbac::permission::{Rule, Set};
    let all = |list: &[AuthTest]| Set { rules: list.iter().map(permission).collect() };
    let rule = match said {
        AuthTest::Always => Rule::Any(true),
        AuthTest::All(list) => Rule::AndRules(all(list)),
        AuthTest::Any(list) => Rule::OrRules(all(list)),
        AuthTest::Not(said) => Rule::NotRule(Box::new(permission(said))),
        AuthTest::Header(said) => Rule::Header(matching::header(said)),
        AuthTest::Method(said) => Rule::Header(pseudo(":method", said)),
        AuthTest::Authority(said) => Rule::Header(pseudo(":authority", said)),
        AuthTest::Path(said) => Rule::UrlPath(url_path(said)),
        AuthTest::PathTemplate(template) => Rule::UriTemplate(core::TypedExtensionConfig {
            name: "envoy.path.match.uri_template.uri_template_matcher".to_owned(),
            typed_config: Some(pack(&uri_template::UriTemplateMatchConfig {
                path_template: template.clone(),
            })),
        }),
        AuthTest::DestinationIp(net) => Rule::DestinationIp(network(net)),
        AuthTest::DestinationPorts(first, end) if first + 1 == *end => Rule::DestinationPort(*first),
        AuthTest::DestinationPorts(first, end) => Rule::DestinationPortRange(kinds::Int32Range {
            start: i32::try_from(*first).unwrap_or(i32::MAX),
            end: i32::try_from(*end).unwrap_or(i32::MAX),
        }),
        AuthTest::ServerName(said) => Rule::RequestedServerName(matching::string_match(said)),
        AuthTest::Claim(said) => Rule::SourcedMetadata(sourced(said)),
        // Of who asks, not of what: there is no such permission, and no policy of documents has one.
        AuthTest::Authenticated(_) | AuthTest::PeerIp(_) | AuthTest::RemoteIp(_) => {
            Rule::NotRule(Box::new(rbac::Permission { rule: Some(Rule::Any(true)) }))
        }
    };
    rbac::Permission { rule: Some(rule) }
}

fn principal(said: &AuthTest) -> rbac::Principal {
    use rbac::principal::{Authenticated, Identifier, Set};
    let all = |list: &[AuthTest]| Set { ids: list.iter().map(principal).collect() };
    let identifier = match said {
        AuthTest::Always => Identifier::Any(true),
        AuthTest::All(list) => Identifier::AndIds(all(list)),
        AuthTest::Any(list) => Identifier::OrIds(all(list)),
        AuthTest::Not(said) => Identifier::NotId(Box::new(principal(said))),
        AuthTest::Header(said) => Identifier::Header(matching::header(said)),
        AuthTest::Method(said) => Identifier::Header(pseudo(":method", said)),
        AuthTest::Authority(said) => Identifier::Header(pseudo(":authority", said)),
        AuthTest::Path(said) => Identifier::UrlPath(url_path(said)),
        AuthTest::Authenticated(said) => Identifier::Authenticated(Authenticated {
            principal_name: said.as_ref().map(matching::string_match),
        }),
        AuthTest::PeerIp(net) => Identifier::DirectRemoteIp(network(net)),
        AuthTest::RemoteIp(net) => Identifier::RemoteIp(network(net)),
        AuthTest::Claim(said) => Identifier::SourcedMetadata(sourced(said)),
        // As above, the other way round.
        AuthTest::PathTemplate(_)
        | AuthTest::DestinationIp(_)
        | AuthTest::DestinationPorts(..)
        | AuthTest::ServerName(_) => {
            Identifier::NotId(Box::new(rbac::Principal { identifier: Some(Identifier::Any(true)) }))
        }
    };
    rbac::Principal { identifier: Some(identifier) }
}

fn pseudo(name: &str, said: &StringMatch) -> route::HeaderMatcher {
    matching::header_matcher(name, HeaderTest::Value(said.clone()), false, false)
}

fn url_path(said: &StringMatch) -> matcher::PathMatcher {
    matcher::PathMatcher { rule: Some(matcher::path_matcher::Rule::Path(matching::string_match(said))) }
}

fn network(net: &IpNet) -> core::CidrRange {
    core::CidrRange {
        address_prefix: net.addr().to_string(),
        prefix_len: Some(value::number(net.prefix_len().into())),
    }
}

fn sourced(said: &ClaimMatch) -> rbac::SourcedMetadata {
    rbac::SourcedMetadata {
        metadata_matcher: Some(claim(said)),
        metadata_source: rbac::MetadataSource::Dynamic.into(),
    }
}

pub(super) fn claim(said: &ClaimMatch) -> matcher::MetadataMatcher {
    use matcher::metadata_matcher::{PathSegment, path_segment::Segment};
    let names = std::iter::once(&said.claims_name).chain(&said.path);
    matcher::MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".to_owned(),
        path: names.map(|name| PathSegment { segment: Some(Segment::Key(name.clone())) }).collect(),
        value: Some(claim_value(&said.test)),
        invert: said.invert,
    }
}

fn claim_value(said: &ValueMatch) -> matcher::ValueMatcher {
    use matcher::value_matcher::MatchPattern;
    use matcher::{double_matcher, list_matcher};
    let double = |pattern| MatchPattern::DoubleMatch(matcher::DoubleMatcher { match_pattern: Some(pattern) });
    let pattern = match said {
        ValueMatch::Null => MatchPattern::NullMatch(Default::default()),
        ValueMatch::Present(present) => MatchPattern::PresentMatch(*present),
        ValueMatch::Bool(is_true) => MatchPattern::BoolMatch(*is_true),
        ValueMatch::Text(said) => MatchPattern::StringMatch(matching::string_match(said)),
        ValueMatch::Number(number) => double(double_matcher::MatchPattern::Exact(*number)),
        ValueMatch::Range(start, end) => {
            double(double_matcher::MatchPattern::Range(kinds::DoubleRange { start: *start, end: *end }))
        }
        ValueMatch::OneOf(said) => MatchPattern::ListMatch(Box::new(matcher::ListMatcher {
            match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(claim_value(said)))),
        })),
        ValueMatch::Any(list) => MatchPattern::OrMatch(matcher::OrMatcher {
            value_matchers: list.iter().map(claim_value).collect(),
        }),
    };
    matcher::ValueMatcher { match_pattern: Some(pattern) }
}
