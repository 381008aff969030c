//! Who may come in, and what browsers are told.

use naru_spec::{
    Addresses, ApiKeys, BasicAuth, Cors, Csrf, Door, KeyPlace, SecurityHeaders, StringMatch, ValueTest,
};
use serde_json::json;

use super::{Policy, counted, in_percent, percent};

/// What is done before sessions, routes and checks.
pub fn door(door: &Door) -> Vec<Policy> {
    let addresses = (!door.addresses.is_empty()).then(|| addresses(&door.addresses));
    let geo = door.geo.as_ref().map(|geo| {
        let headers: Vec<String> = geo.headers.iter().map(|(_, name)| name.to_string()).collect();
        let text = format!("{} says in {} where its client is", geo.database, headers.join(", "));
        Policy::new("geo", text, json!({ "database": geo.database, "headers": headers }), None)
    });
    addresses.into_iter().chain(geo).collect()
}

pub fn addresses(said: &Addresses) -> Policy {
    let mut parts = Vec::new();
    if !said.allow.is_empty() {
        parts.push(format!("only {} may ask", counted(said.allow.len() as u32, "network", "networks")));
    }
    if !said.deny.is_empty() {
        parts.push(format!("{} may not", counted(said.deny.len() as u32, "network", "networks")));
    }
    let values = json!({ "allow": list(&said.allow), "deny": list(&said.deny) });
    Policy::new("addresses", parts.join("; "), values, None)
}

fn list(all: &[impl ToString]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn origin(test: &StringMatch) -> String {
    match &test.test {
        ValueTest::Exact(text) => text.clone(),
        ValueTest::Prefix(text) => format!("{text}*"),
        ValueTest::Suffix(text) => format!("*{text}"),
        ValueTest::Contains(text) => format!("*{text}*"),
        ValueTest::Regex(pattern) => format!("/{}/", pattern.as_str()),
    }
}

/// Nothing where it does nothing.
pub fn cors(said: &Cors) -> Option<Policy> {
    if said.enabled.is_none() && said.shadow.is_none() {
        return None;
    }
    let origins: Vec<String> = said.origins.iter().map(origin).collect();
    let text = match origins.as_slice() {
        [] => "pages of no other origin may read answers".to_owned(),
        _ => format!("pages of {} may read answers", origins.join(", ")),
    };
    let values = json!({
        "origins": origins,
        "methods": said.methods,
        "headers": said.headers,
        "exposed": said.exposed,
        "max_age": said.max_age,
        "credentials": said.credentials,
        "forward_unmatched": said.forwards_unmatched,
        "enabled_percent": in_percent(said.enabled),
    });
    Some(Policy::new("cors", text, values, None))
}

/// Nothing where it does nothing.
pub fn csrf(said: &Csrf) -> Option<Policy> {
    if said.enabled.is_none() && said.shadow.is_none() {
        return None;
    }
    let origins: Vec<String> = said.origins.iter().map(origin).collect();
    let others = if origins.is_empty() { String::new() } else { format!(" or of {}", origins.join(", ")) };
    let text = format!(
        "what changes something comes of pages of its own host{others}: {} of the requests are refused else",
        percent(said.enabled)
    );
    let values = json!({ "origins": origins, "enabled_percent": in_percent(said.enabled) });
    Some(Policy::new("csrf", text, values, None))
}

pub fn keys(said: &ApiKeys) -> Policy {
    let places = said.places.iter().map(|place| match place {
        KeyPlace::Header(name) => format!("header {name}"),
        KeyPlace::Query(name) => format!("parameter {name}"),
        KeyPlace::Cookie(name) => format!("cookie {name}"),
    });
    let places: Vec<String> = places.collect();
    let text = format!("a key in the {} has to be shown", places.join(" or the "));
    let header = said.client_header.as_ref().map(ToString::to_string);
    let values = json!({
        "from": places,
        "client_header": header,
        "forward": said.forwards,
        "clients": said.clients,
    });
    Policy::new("apiKeys", text, values, None)
}

pub fn passwords(said: &BasicAuth) -> Policy {
    let header = said.client_header.as_ref().map(ToString::to_string);
    let values = json!({ "realm": said.realm, "client_header": header, "forward": said.forwards });
    Policy::new("basicAuth", "a name and a password have to be shown".to_owned(), values, None)
}

pub fn headers(said: &SecurityHeaders) -> Policy {
    let all = said.headers.iter().map(|(name, value)| (name.as_str(), value));
    let transport = said.transport.iter().map(|value| ("strict-transport-security", value));
    let all: Vec<(&str, String)> = all
        .chain(transport)
        .map(|(name, value)| (name, value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let how = if said.overrides { "in the place of what they say" } else { "where they do not say it" };
    let values = json!({ "headers": all, "override": said.overrides });
    Policy::new("securityHeaders", format!("answers say {} {how}", names.join(", ")), values, None)
}
