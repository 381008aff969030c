//! `/surge`: how hard the load is, at which level the process is for it, and why; and `POST /surge/hold`, by which an
//! operator says the level himself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{Method, Response, StatusCode};
use naru_proxy::{SurgeOrder, SurgeStatus};
use naru_surge::Hold;
use serde_json::json;

use super::{Admin, Query, Whole, json as json_page, text};

const NONE: &str = "there is no Surge\n";

pub fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    let Some(status) = admin.proxy.surge() else { return text(StatusCode::OK, NONE) };
    if query.get("format") == Some("json") {
        return json_page(&described(&status));
    }
    let name = |level: u32| status.names.get(level as usize).map_or("", String::as_str);
    let held = match status.hold {
        Hold::None => "",
        Hold::Frozen => ", held there",
        Hold::Forced => ", put there and held",
    };
    let mut out = format!(
        "level {} of {} ({}) for {:?}{held}\n",
        status.level,
        status.names.len().saturating_sub(1),
        name(status.level),
        whole_seconds(status.for_so_long)
    );
    for (signal, value) in &status.signals {
        let _ = writeln!(out, "{}: {}", signal.name(), signal.phrase(*value));
    }
    for transition in status.recent.iter().rev() {
        let (from, to) = (transition.from, transition.to);
        let ago = whole_seconds(transition.ago);
        let _ = writeln!(out, "{ago:?} ago: {from} -> {to} ({}): {}", name(to), transition.why);
    }
    text(StatusCode::OK, out)
}

fn whole_seconds(time: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(time.as_secs())
}

fn described(status: &SurgeStatus) -> serde_json::Value {
    let signals: BTreeMap<_, _> =
        status.signals.iter().map(|(signal, value)| (signal.name(), signal.phrase(*value))).collect();
    let recent = status.recent.iter().map(|transition| {
        json!({
            "ago_ms": transition.ago.as_millis() as u64,
            "from": transition.from,
            "to": transition.to,
            "why": transition.why,
        })
    });
    json!({
        "level": status.level,
        "name": status.names.get(status.level as usize),
        "levels": status.names,
        "held": match status.hold {
            Hold::None => None,
            Hold::Frozen => Some("frozen"),
            Hold::Forced => Some("forced"),
        },
        "for_ms": status.for_so_long.as_millis() as u64,
        "signals": signals,
        "transitions": status.transitions_total,
        "recent": recent.collect::<Vec<_>>(),
    })
}

/// One of `level`, `freeze` and `release`.
pub fn hold(admin: &Admin, method: &Method, query: &Query<'_>) -> Response<Whole> {
    if *method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Invalid request: use POST\n");
    }
    let order = match (query.get("level"), query.get("freeze"), query.get("release")) {
        (Some(level), None, None) => level.parse().ok().map(SurgeOrder::Force),
        (None, Some(_), None) => Some(SurgeOrder::Freeze),
        (None, None, Some(_)) => Some(SurgeOrder::Release),
        _ => None,
    };
    let Some(order) = order else {
        return text(StatusCode::BAD_REQUEST, "say one of ?level=N, ?freeze and ?release\n");
    };
    match (admin.proxy.order_surge(order), admin.proxy.surge()) {
        (Some(status), _) => json_page(&described(&status)),
        (None, Some(status)) => {
            let highest = status.names.len().saturating_sub(1);
            text(StatusCode::BAD_REQUEST, format!("levels are 0 to {highest}\n"))
        }
        (None, None) => text(StatusCode::NOT_FOUND, NONE),
    }
}

/// For `/stats`.
pub fn add_stats(status: Option<&SurgeStatus>, stats: &mut BTreeMap<String, u64>) {
    if let Some(status) = status {
        stats.insert("surge.level".to_owned(), u64::from(status.level));
        stats.insert("surge.transitions".to_owned(), status.transitions_total);
    }
}
