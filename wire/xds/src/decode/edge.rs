//! The filters `cors`, `csrf`, `api_key_auth` and `basic_auth`: of a listener, of virtual hosts and of routes.

use http::HeaderName;
use naru_base::Fraction;
use naru_spec::{
    ApiKeys, ApiKeysChange, BasicAuth, CheckKind, Cors, Credentials, Csrf, DataSource, Hashes, Invalid,
    KeyForwarding, KeyPlace, KeySource, Path,
};

use super::{matching, value};
use crate::findings::Findings;
use crate::proto::api_key_auth::{ApiKeyAuth, ApiKeyAuthPerRoute, Credential, KeySource as Place};
use crate::proto::{Any, basic_auth, core, http_cors, http_csrf};
use crate::schema::unpack;

/// Of one of these filters what it asks for.
pub(super) fn check(any: &Any, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<CheckKind> {
    if unpack::<http_cors::Cors>(any).is_some() {
        // What it does is said by routes and virtual hosts.
        return Some(CheckKind::Cors(Box::new(Cors::none())));
    }
    if let Some(said) = unpack::<http_csrf::CsrfPolicy>(any) {
        return Some(CheckKind::Csrf(Box::new(csrf(&said, path, findings))));
    }
    if let Some(said) = unpack::<ApiKeyAuth>(any) {
        return Some(CheckKind::ApiKeys(Box::new(keys(&said, path, findings))));
    }
    let said = unpack::<basic_auth::BasicAuth>(any)?;
    Some(CheckKind::BasicAuth(Box::new(basic(&said, path, findings))))
}

/// What is said to one of these filters for a route, the most specific first. Of CORS each field is said by the first who
/// says it.
pub(super) fn of_route(said: &[&Any], path: &Path<'_>, findings: &mut Findings<'_>) -> Option<CheckKind> {
    let policies: Vec<http_cors::CorsPolicy> =
        said.iter().map_while(|any| unpack::<http_cors::CorsPolicy>(any)).collect();
    if !policies.is_empty() {
        return Some(CheckKind::Cors(Box::new(cors(&policies, path, findings))));
    }
    let said = unpack::<http_csrf::CsrfPolicy>(said.first()?)?;
    Some(CheckKind::Csrf(Box::new(csrf(&said, path, findings))))
}

/// What a route says of keys beside its listener, or instead.
pub(super) fn keys_of_route(
    said: &ApiKeyAuthPerRoute,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> ApiKeysChange {
    let listed = path.field("key_sources");
    let places = said.key_sources.iter().enumerate();
    let places: Vec<_> =
        places.filter_map(|(at, place)| key_place(place, &listed.at(at), findings)).collect();
    let forwarding = said.forwarding.as_ref().map(|said| KeyForwarding {
        client_header: header(&said.header, &path.field("forwarding.header"), findings),
        forwards: !said.hide_credentials,
    });
    ApiKeysChange {
        keys: (!said.credentials.is_empty()).then(|| credentials(&said.credentials)),
        places: (!places.is_empty()).then_some(places),
        clients: said.allowed_clients.clone(),
        forwarding: forwarding.unwrap_or_default(),
    }
}

fn credentials(said: &[Credential]) -> Credentials {
    let keys = said.iter().map(|said| KeySource::Key {
        client: said.client.clone(),
        key: DataSource::Inline(said.key.clone().into_bytes()),
    });
    Credentials::Keys(keys.collect())
}

/// That there are users is one of the API's own rules.
pub(super) fn users(said: Option<&core::DataSource>) -> Credentials {
    let file = said.map(value::data_source).unwrap_or(DataSource::Inline(Vec::new()));
    Credentials::Passwords { file, hashes: Hashes::Sha1 }
}

fn fraction(said: Option<&core::RuntimeFractionalPercent>) -> Option<Fraction> {
    said.and_then(matching::fraction)
}

fn cors(policies: &[http_cors::CorsPolicy], path: &Path<'_>, findings: &mut Findings<'_>) -> Cors {
    let origins = policies.iter().map(|policy| &policy.allow_origin_string_match);
    let origins = origins.clone().find(|all| !all.is_empty()).into_iter().flatten().enumerate();
    let listed = path.field("allow_origin_string_match");
    let origins = origins.map(|(at, said)| matching::string_match(said, &listed.at(at), findings)).collect();
    let text = |of: fn(&http_cors::CorsPolicy) -> &String| {
        policies.iter().map(of).find(|text| !text.is_empty()).cloned().unwrap_or_default()
    };
    let flag = |of: fn(&http_cors::CorsPolicy) -> Option<bool>| policies.iter().find_map(of);
    let first = policies.first();
    Cors {
        methods: text(|policy| &policy.allow_methods),
        headers: text(|policy| &policy.allow_headers),
        exposed: text(|policy| &policy.expose_headers),
        max_age: text(|policy| &policy.max_age),
        credentials: flag(|policy| policy.allow_credentials.map(|v| v.value)).unwrap_or(false),
        private_network: flag(|policy| policy.allow_private_network_access.map(|v| v.value)).unwrap_or(false),
        forwards_unmatched: flag(|policy| policy.forward_not_matching_preflights.map(|v| v.value))
            .unwrap_or(true),
        enabled: fraction(first.and_then(|policy| policy.filter_enabled.as_ref())).unwrap_or(Fraction::ALL),
        shadow: fraction(first.and_then(|policy| policy.shadow_enabled.as_ref())).unwrap_or(Fraction::NONE),
        ..Cors::new(origins)
    }
}

fn csrf(said: &http_csrf::CsrfPolicy, path: &Path<'_>, findings: &mut Findings<'_>) -> Csrf {
    let listed = path.field("additional_origins");
    let origins = said.additional_origins.iter().enumerate();
    Csrf {
        // That it is said is one of the API's own rules.
        enabled: fraction(said.filter_enabled.as_ref()).unwrap_or(Fraction::ALL),
        shadow: fraction(said.shadow_enabled.as_ref()).unwrap_or(Fraction::NONE),
        origins: origins.map(|(at, said)| matching::string_match(said, &listed.at(at), findings)).collect(),
    }
}

fn header(name: &str, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<HeaderName> {
    if name.is_empty() {
        return None;
    }
    let header = name.parse().ok();
    if header.is_none() {
        findings.invalid(path, Invalid::new(format!("'{name}' is no name of a header")));
    }
    header
}

fn keys(said: &ApiKeyAuth, path: &Path<'_>, findings: &mut Findings<'_>) -> ApiKeys {
    let listed = path.field("key_sources");
    let places = said.key_sources.iter().enumerate();
    let places = places.filter_map(|(at, place)| key_place(place, &listed.at(at), findings)).collect();
    let forwarding = said.forwarding.as_ref();
    ApiKeys {
        places,
        keys: credentials(&said.credentials),
        client_header: forwarding
            .and_then(|said| header(&said.header, &path.field("forwarding.header"), findings)),
        forwards: !forwarding.is_some_and(|said| said.hide_credentials),
        clients: Vec::new(),
    }
}

/// Of several the first is the one, as in Envoy.
fn key_place(said: &Place, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<KeyPlace> {
    if !said.header.is_empty() {
        return header(&said.header, &path.field("header"), findings).map(KeyPlace::Header);
    }
    match (said.query.as_str(), said.cookie.as_str()) {
        ("", "") => {
            findings.missing(path, "a place of keys is a header, a query or a cookie");
            None
        }
        ("", cookie) => Some(KeyPlace::Cookie(cookie.to_owned())),
        (query, _) => Some(KeyPlace::Query(query.to_owned())),
    }
}

fn basic(said: &basic_auth::BasicAuth, path: &Path<'_>, findings: &mut Findings<'_>) -> BasicAuth {
    BasicAuth {
        passwords: users(said.users.as_ref()),
        realm: None,
        header: header(&said.authentication_header, &path.field("authentication_header"), findings),
        client_header: header(
            &said.forward_username_header,
            &path.field("forward_username_header"),
            findings,
        ),
        // As Envoy: it stays.
        forwards: true,
    }
}
