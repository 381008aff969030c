//! `/sessions`: keys by their ids, and how many logged in, refreshed, logged out. No key, no token, nobody's name.

use std::fmt::Write as _;

use http::{Method, Response, StatusCode};
use naru_proxy::{SessionStatus, SessionsEnded};
use serde_json::{Value, json};

use super::guards::Stat;
use super::{Admin, Query, Whole, json as json_page, text};
use crate::asking::decode;

pub fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let sessions = admin.proxy.sessions();
    if query.get("format") == Some("json") {
        return json_page(&json!({ "sessions": sessions.iter().map(described).collect::<Vec<_>>() }));
    }
    if sessions.is_empty() {
        return text(StatusCode::OK, "no gateway has sessions\n");
    }
    text(StatusCode::OK, sessions.iter().map(written).collect::<String>())
}

/// A name of somebody that is longer is nobody's.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// Ends a token by its `jti`, a session with all of its tokens by its `sid`, or all sessions of somebody by his `sub`.
pub async fn revoke(admin: &Admin, method: &Method, query: &Query<'_>) -> Response<Whole> {
    if *method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use POST\n");
    }
    let sessions = admin.proxy.sessions();
    let asked = query.get("name").map(decode);
    let name = match (&asked, sessions.as_slice()) {
        (_, []) => return text(StatusCode::NOT_FOUND, "no gateway has sessions\n"),
        (Some(name), _) => name.as_str(),
        (None, [one]) => one.name.as_str(),
        (None, _) => return text(StatusCode::BAD_REQUEST, "say which: ?name=, as /sessions lists them\n"),
    };
    let is_told = match (query.get("id"), query.get("user").map(decode)) {
        (Some(id), None) => match id.parse() {
            Ok(id) => admin.proxy.end_session(name, id).await,
            Err(()) => return text(StatusCode::BAD_REQUEST, WHOM),
        },
        (None, Some(user)) if !user.is_empty() && user.len() <= SUBJECT_BYTES_MAX => {
            match admin.proxy.end_subject(name, user).await {
                Some(SessionsEnded::Not) => {
                    let why = "too much waits for the store of sessions, which is away: ask again\n";
                    return text(StatusCode::SERVICE_UNAVAILABLE, why);
                }
                ended => ended.map(|ended| ended == SessionsEnded::Everywhere),
            }
        }
        _ => return text(StatusCode::BAD_REQUEST, WHOM),
    };
    match is_told {
        Some(is_told) => {
            json_page(&json!({ "revoked": 1, "others": if is_told { "told" } else { "told later" } }))
        }
        None => text(StatusCode::NOT_FOUND, format!("there are no sessions named '{name}'\n")),
    }
}

const WHOM: &str = "say ?id=, the jti of a token or the sid of a session, of 32 hexadecimal digits; or ?user=, the sub \
                    of whose sessions all end\n";

/// What is counted and measured, under names that are the same on every page.
pub fn stats(sessions: &SessionStatus) -> Vec<Stat> {
    let stat = |name: &str, is_gauge, value| Stat {
        name: name.to_owned(),
        is_gauge,
        help: "Login sessions: what was asked for, what is revoked, whether the store answers.",
        value,
    };
    let counts = sessions.counts.iter().map(|(name, value)| stat(&format!("{name}_total"), false, *value));
    let mut all: Vec<Stat> = counts.collect();
    all.push(stat("revoked", true, sessions.revoked));
    all.push(stat("store_away", true, u64::from(sessions.is_away)));
    all.push(stat("keys", true, sessions.keys.len() as u64));
    if let Some((_, fault)) = &sessions.provider {
        all.push(stat("provider_fault", true, u64::from(fault.is_some())));
    }
    all
}

fn written(sessions: &SessionStatus) -> String {
    let store = if sessions.is_away { "away" } else { "there" };
    let mut out = format!("{}: store {store}, ring {}\n", sessions.name, sessions.ring_version);
    let counts: Vec<String> =
        sessions.counts.iter().map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect();
    let _ = writeln!(out, "  {}, revoked {}", counts.join(", "), sessions.revoked);
    for (id, phase) in &sessions.keys {
        let _ = writeln!(out, "  key {id} {phase}");
    }
    if let Some((issuer, fault)) = &sessions.provider {
        let _ = writeln!(out, "  logins at {issuer}: {}", fault.as_deref().unwrap_or("well"));
    }
    out
}

fn described(sessions: &SessionStatus) -> Value {
    let keys: Vec<Value> =
        sessions.keys.iter().map(|(id, phase)| json!({ "id": id, "phase": phase })).collect();
    let counts: serde_json::Map<String, Value> =
        sessions.counts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let provider = sessions.provider.as_ref();
    let provider = provider.map(|(issuer, fault)| json!({ "issuer": issuer, "fault": fault }));
    json!({
        "name": sessions.name,
        "provider": provider,
        "store_is_away": sessions.is_away,
        "ring": sessions.ring_version,
        "revoked": sessions.revoked,
        "counts": counts,
        "keys": keys,
    })
}
