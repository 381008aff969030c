//! YAML that is neither compose's nor Kubernetes': small pieces of settings, told by their keys.

use naru_doc::tree::{Entry, Kind, Node};
use naru_spec::defaults;

use crate::kubernetes::{NARU, document, tell_renamed};
use crate::notes::{Notes, code};
use crate::yaml::{Map, Value};
use crate::{Output, field};

/// What comes closest to a piece that cannot be carried over.
const HINTS: &[(&str, &str)] = &[
    ("caching_strategy", "naru caches no responses: cache in the service"),
    ("spring", "it is the program's own: give it as env of its container"),
    ("scrape_configs", "Prometheus reads it: naru has /metrics"),
    ("static_resources", "it is Envoy's: naru proxy -c reads it as it is"),
];

pub(crate) fn import(node: &Node, notes: &mut Notes<'_>, output: &mut Output) {
    let Kind::Map(entries) = &node.kind else {
        let message = "it is no mapping: nothing can be made of it".to_owned();
        return notes.warning(code::NOT_CARRIED_OVER, node.position, "", message, "");
    };
    if field(node, "apiVersion").is_some() && field(node, "kind").is_some() {
        let message = "it is a document that naru reads as it is: it needs no import".to_owned();
        return notes.note(code::BY_DEFAULT, node.position, "", message, "see naru check");
    }
    for entry in entries {
        match (entry.key.as_str(), &entry.node.kind) {
            ("throttling", Kind::Map(services)) => {
                services.iter().for_each(|service| throttle(service, notes, output));
            }
            ("rate_limiting", Kind::Map(limits)) => rates(entry, limits, notes, output),
            (key, _) => {
                let hint = HINTS.iter().find(|(known, _)| *known == key).map_or("", |(_, hint)| *hint);
                let message = format!("'{key}' is not carried over");
                notes.warning(code::NOT_CARRIED_OVER, entry.key_position, key, message, hint);
            }
        }
    }
}

/// How long a request may wait for its turn: longer than most answers take, and shorter than clients wait.
const WAIT: &str = "1s";

/// `max_concurrent` of a service: requests beyond it wait, not many and not for long.
fn throttle(service: &Entry, notes: &mut Notes<'_>, output: &mut Output) {
    let path = format!("throttling.{}", service.key);
    let at = service.key_position;
    let said = match field(&service.node, "max_concurrent").map(|node| &node.kind) {
        Some(Kind::Integer(number)) => u32::try_from(*number).ok().filter(|number| *number > 0),
        _ => None,
    };
    let Some(most) = said else {
        let message = format!("'{}' says no max_concurrent above zero: it is left out", service.key);
        return notes.warning(code::NOT_CARRIED_OVER, at, &path, message, "");
    };
    let name = output.names.claim("Bulkhead", &service.key);
    tell_renamed(&service.key, &name, at, &path, notes);
    // As many as are let through: then each waits for about one answer.
    let queue = most.min(defaults::BULKHEAD_QUEUE_BOUND);
    let message = format!("{queue} more requests may wait for {WAIT}, and others are refused with 503");
    let hint = "maxQueue and maxWait say so; each proxy counts for itself";
    notes.note(code::DIFFERS, at, &path, message, hint);
    let known = output.host_of(&service.key);
    if known.is_none() {
        let message = format!("no file here has a service '{name}'");
        let hint = "import the file that has it beside this one, or correct targetRef";
        notes.note(code::DIFFERS, at, &path, message, hint);
    }
    let host = known.unwrap_or_else(|| name.clone());
    let target = Map::new().with("kind", "Service").with("name", host.as_str());
    let spec = Map::new()
        .with("targetRef", target)
        .with("maxConcurrent", most)
        .with("maxQueue", queue)
        .with("maxWait", WAIT);
    let map = document(NARU, "Bulkhead", &name, spec);
    let origin = notes.origin(at, &format!("throttling {}", service.key));
    output.add("Bulkhead", name, origin, map);
}

/// Limits of callers: `requests` in a `window`, for whom the key says. The widest comes first, as it is the cheapest.
const CALLERS: &[(&str, &str)] = &[("global", "global"), ("per_ip", "ip"), ("per_user", "user")];

fn rates(entry: &Entry, limits: &[Entry], notes: &mut Notes<'_>, output: &mut Output) {
    let at = entry.key_position;
    for other in limits.iter().filter(|limit| CALLERS.iter().all(|(known, _)| *known != limit.key)) {
        let path = format!("rate_limiting.{}", other.key);
        let message = format!("nobody knows whom '{}' is for: it is left out", other.key);
        notes.warning(code::NOT_CARRIED_OVER, other.key_position, &path, message, "");
    }
    let mut made = Vec::new();
    for (key, name) in CALLERS {
        let Some(limit) = limits.iter().find(|limit| limit.key == *key) else { continue };
        let path = format!("rate_limiting.{key}");
        let requests = match field(&limit.node, "requests").map(|node| &node.kind) {
            Some(Kind::Integer(number)) => u32::try_from(*number).ok().filter(|number| *number > 0),
            _ => None,
        };
        let window = field(&limit.node, "window").and_then(window);
        let (Some(requests), Some(window)) = (requests, window) else {
            let message = format!("'{key}' says no requests above zero in a window: it is left out");
            let hint = "requests: 100, window: 60s";
            notes.warning(code::NOT_CARRIED_OVER, limit.key_position, &path, message, hint);
            continue;
        };
        let part = match *name {
            "ip" => Some(Map::new().with("from", "address")),
            "user" => {
                let message = "a user is whoever sends the same Authorization header".to_owned();
                let hint = "nothing says what a user is known by: correct key, and trust no header that clients \
                            can make up";
                notes.note(code::ASSUMED, limit.key_position, &path, message, hint);
                Some(Map::new().with("from", "header").with("name", "authorization"))
            }
            _ => None,
        };
        let map = Map::new().with("name", *name).with("requests", requests).with("window", window.as_str());
        made.push(Value::Map(map.with_some("key", part.map(|part| vec![Value::Map(part)]))));
    }
    if made.is_empty() {
        return;
    }
    let message =
        "requests come back steadily, and are refused with 429; each proxy counts for itself".to_owned();
    let hint = "algorithm: fixedWindow gives all of them at the beginning of each window; redis has proxies share counts";
    notes.note(code::DIFFERS, at, "rate_limiting", message, hint);
    let name = output.names.claim("RateLimit", "callers");
    let map = document(NARU, "RateLimit", &name, Map::new().with("limits", made));
    let origin = notes.origin(at, "rate_limiting");
    output.add("RateLimit", name, origin, map);
}

/// A length of time as it is written; a number is one of seconds.
fn window(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Integer(seconds) if *seconds > 0 => Some(format!("{seconds}s")),
        Kind::Text(text) => {
            let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
            let number: u64 = text.strip_suffix(digits)?.parse().ok()?;
            (number > 0 && matches!(digits, "ms" | "s" | "m" | "h")).then(|| text.clone())
        }
        _ => None,
    }
}
