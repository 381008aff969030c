//! YAML that is neither compose's nor Kubernetes': small pieces of settings, told by their keys.

use naru_doc::tree::{Entry, Kind, Node};
use naru_spec::defaults;

use crate::caching;
use crate::kubernetes::{NARU, document, tell_renamed};
use crate::notes::{Notes, code};
use crate::yaml::Map;
use crate::{Output, field};

/// What comes closest to a piece that cannot be carried over.
const HINTS: &[(&str, &str)] = &[
    ("rate_limiting", "nothing limits callers yet: see docs/gaps.md"),
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
            ("caching_strategy", _) => caching::import(entry, notes, output),
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
