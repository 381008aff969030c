//! YAML that is neither compose's nor Kubernetes': small pieces of settings, told by their keys.

use naru_doc::tree::{Entry, Kind, Node};

use crate::kubernetes::{NETWORKING, document, tell_renamed};
use crate::notes::{Notes, code};
use crate::yaml::Map;
use crate::{Output, field};

/// What comes closest to a piece that cannot be carried over.
const HINTS: &[(&str, &str)] = &[
    ("rate_limiting", "nothing limits callers yet: see docs/gaps.md"),
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
            (key, _) => {
                let hint = HINTS.iter().find(|(known, _)| *known == key).map_or("", |(_, hint)| *hint);
                let message = format!("'{key}' is not carried over");
                notes.warning(code::NOT_CARRIED_OVER, entry.key_position, key, message, hint);
            }
        }
    }
}

/// `max_concurrent` of a service: requests beyond it are refused.
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
    let name = output.names.claim("DestinationRule", &service.key);
    tell_renamed(&service.key, &name, at, &path, notes);
    let message = format!("each proxy lets {most} requests through at once, and refuses others with 503");
    notes.note(code::DIFFERS, at, &path, message, "all proxies together let through more");
    // In Istio's pool the number holds for HTTP/1.1, too; nobody waits beside it.
    let http = Map::new().with("http2MaxRequests", most).with("http1MaxPendingRequests", most);
    let policy = Map::new().with("connectionPool", Map::new().with("http", http));
    let spec = Map::new().with("host", name.as_str()).with("trafficPolicy", policy);
    let map = document(NETWORKING, "DestinationRule", &name, spec);
    let origin = notes.origin(at, &format!("throttling {}", service.key));
    output.add("DestinationRule", name, origin, map);
}
