//! The filters `cors`, `csrf`, `api_key_auth` and `basic_auth` in Envoy's words.

use naru_spec::{
    ApiKeys, ApiKeysChange, BasicAuth, CheckKind, Cors, Credentials, Csrf, DataSource, Hashes, KeyForwarding,
    KeyPlace, KeySource,
};

use super::{matching, value};
use crate::proto::api_key_auth::{
    ApiKeyAuth, ApiKeyAuthPerRoute, Credential, Forwarding, KeySource as Place,
};
use crate::proto::{Any, basic_auth, http_cors, http_csrf};
use crate::schema::pack;

/// Nothing for what Envoy has no words for.
pub(super) fn filter(kind: &CheckKind) -> Option<Any> {
    match kind {
        CheckKind::Cors(_) => Some(pack(&http_cors::Cors::default())),
        CheckKind::Csrf(said) => Some(pack(&csrf(said))),
        CheckKind::ApiKeys(said) => keys(said).map(|said| pack(&said)),
        CheckKind::BasicAuth(said) => basic(said).map(|said| pack(&said)),
        _ => None,
    }
}

/// What a route says to it.
pub(super) fn of_route(kind: &CheckKind) -> Option<Any> {
    match kind {
        CheckKind::Cors(said) => Some(pack(&cors(said))),
        CheckKind::Csrf(said) => Some(pack(&csrf(said))),
        _ => None,
    }
}

fn cors(said: &Cors) -> http_cors::CorsPolicy {
    http_cors::CorsPolicy {
        allow_origin_string_match: said.origins.iter().map(matching::string_match).collect(),
        allow_methods: said.methods.clone(),
        allow_headers: said.headers.clone(),
        expose_headers: said.exposed.clone(),
        max_age: said.max_age.clone(),
        allow_credentials: Some(value::flag(said.credentials)),
        filter_enabled: Some(matching::fraction(said.enabled)),
        shadow_enabled: Some(matching::fraction(said.shadow)),
        allow_private_network_access: Some(value::flag(said.private_network)),
        forward_not_matching_preflights: Some(value::flag(said.forwards_unmatched)),
    }
}

fn csrf(said: &Csrf) -> http_csrf::CsrfPolicy {
    http_csrf::CsrfPolicy {
        filter_enabled: Some(matching::fraction(said.enabled)),
        shadow_enabled: Some(matching::fraction(said.shadow)),
        additional_origins: said.origins.iter().map(matching::string_match).collect(),
    }
}

/// Nothing for keys that Envoy has no words for.
fn credentials(said: &Credentials) -> Option<Vec<Credential>> {
    let Credentials::Keys(sources) = said else { return None };
    let credentials = sources.iter().map(|source| match source {
        KeySource::Key { client, key: DataSource::Inline(key) } => {
            Some(Credential { key: String::from_utf8_lossy(key).into_owned(), client: client.clone() })
        }
        _ => None,
    });
    credentials.collect()
}

fn places(said: &[KeyPlace]) -> Vec<Place> {
    let places = said.iter().map(|place| match place {
        KeyPlace::Header(name) => Place { header: name.to_string(), ..Place::default() },
        KeyPlace::Query(name) => Place { query: name.clone(), ..Place::default() },
        KeyPlace::Cookie(name) => Place { cookie: name.clone(), ..Place::default() },
    });
    places.collect()
}

fn keys(said: &ApiKeys) -> Option<ApiKeyAuth> {
    let header = said.client_header.as_ref().map(ToString::to_string).unwrap_or_default();
    let has_forwarding = !header.is_empty() || !said.forwards;
    Some(ApiKeyAuth {
        credentials: credentials(&said.keys)?,
        key_sources: places(&said.places),
        forwarding: has_forwarding.then_some(Forwarding { header, hide_credentials: !said.forwards }),
    })
}

pub(super) fn keys_of_route(said: &ApiKeysChange) -> Option<ApiKeyAuthPerRoute> {
    let told = &said.forwarding;
    let forwarding = (*told != KeyForwarding::default()).then(|| Forwarding {
        header: told.client_header.as_ref().map(ToString::to_string).unwrap_or_default(),
        hide_credentials: !told.forwards,
    });
    Some(ApiKeyAuthPerRoute {
        credentials: said.keys.as_ref().map_or(Some(Vec::new()), credentials)?,
        key_sources: said.places.as_deref().map(places).unwrap_or_default(),
        allowed_clients: said.clients.clone(),
        forwarding,
    })
}

pub(super) fn users_of_route(said: &Credentials) -> Option<basic_auth::BasicAuthPerRoute> {
    let Credentials::Passwords { file, hashes: Hashes::Sha1 } = said else { return None };
    Some(basic_auth::BasicAuthPerRoute { users: Some(value::data_source(file)) })
}

fn basic(said: &BasicAuth) -> Option<basic_auth::BasicAuth> {
    let Credentials::Passwords { file, hashes: Hashes::Sha1 } = &said.passwords else { return None };
    let name =
        |header: &Option<http::HeaderName>| header.as_ref().map(ToString::to_string).unwrap_or_default();
    Some(basic_auth::BasicAuth {
        users: Some(value::data_source(file)),
        forward_username_header: name(&said.client_header),
        authentication_header: name(&said.header),
        ..Default::default()
    })
}
