//! `caching_strategy`: classes of data, and how long each is fresh.
//!
//! They become the classes of one `ResponseCache` of the process. Which routes give the data of a class the file says
//! in words only: that is told, with what to write.

use naru_doc::tree::{Entry, Kind, Node, Position};

use crate::kubernetes::{NARU, document};
use crate::notes::{Notes, code};
use crate::yaml::Map;
use crate::{Output, field};

/// `static_data` is the class `static`.
const SUFFIX: &str = "_data";

pub(crate) fn import(entry: &Entry, notes: &mut Notes<'_>, output: &mut Output) {
    let Kind::Map(said) = &entry.node.kind else {
        let message = "'caching_strategy' is no mapping: nothing can be made of it".to_owned();
        return notes.warning(code::NOT_CARRIED_OVER, entry.key_position, "caching_strategy", message, "");
    };
    let mut classes = Map::new();
    for class in said {
        let path = format!("caching_strategy.{}", class.key);
        let at = class.key_position;
        let Some(ttl) = field(&class.node, "ttl").and_then(duration) else {
            let message = format!("'{}' says no ttl, such as 300s: it is left out", class.key);
            notes.warning(code::NOT_CARRIED_OVER, at, &path, message, "");
            continue;
        };
        let name = class.key.strip_suffix(SUFFIX).unwrap_or(&class.key);
        classes = classes.with(name, Map::new().with("ttl", ttl.as_str()));
        tell_where(class, name, at, &path, notes);
    }
    if classes.is_empty() {
        return;
    }
    let name = output.names.claim("ResponseCache", "caching-strategy");
    let map = document(NARU, "ResponseCache", &name, Map::new().with("classes", classes));
    let origin = notes.origin(entry.key_position, "caching_strategy");
    output.add("ResponseCache", name, origin, map);
}

/// A class acts once a route names it.
fn tell_where(class: &Entry, name: &str, at: Position, path: &str, notes: &mut Notes<'_>) {
    let of = match field(&class.node, "examples").map(|node| &node.kind) {
        Some(Kind::List(items)) => {
            let words = items.iter().filter_map(|item| match &item.kind {
                Kind::Text(text) => Some(text.as_str()),
                _ => None,
            });
            words.collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    };
    let of = if of.is_empty() { String::new() } else { format!(" ({of})") };
    let message = format!("no route is named that gives what is in the class '{name}'{of}");
    let hint = format!("attach a ResponseCache with class: {name} to the routes that do: see docs/cache.md");
    notes.note(code::DIFFERS, at, path, message, &hint);
}

/// `300s`, or a number of seconds.
fn duration(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Integer(seconds) if *seconds > 0 => Some(format!("{seconds}s")),
        Kind::Text(text) => {
            let digits = text.strip_suffix(['s', 'm', 'h'])?;
            (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.clone())
        }
        _ => None,
    }
}
