//! Labels: those that Kubernetes takes as such, and the others as annotations.

use naru_doc::tree::{Kind, Node, Position};

use super::said::Reader;
use crate::field;
use crate::notes::code;
use crate::yaml::Map;

#[derive(Default)]
pub(super) struct Labels {
    pub valid: Map,
    pub others: Map,
}

/// Of the service and of its `deploy`; of two with the same name the service's.
pub(super) fn of(service: &Node, reader: &mut Reader<'_, '_>) -> Labels {
    let mut labels = Labels::default();
    let mut seen = vec!["app".to_owned()];
    for node in [field(service, "labels"), field(service, "deploy").and_then(|node| field(node, "labels"))] {
        let Some(node) = node else { continue };
        for (key, value, at) in pairs(node, reader) {
            if seen.contains(&key) {
                if key == "app" {
                    let message = "the label 'app' is the name of the service here".to_owned();
                    reader.note(code::DIFFERS, at, "labels", message, "");
                }
                continue;
            }
            seen.push(key.clone());
            if !is_key(&key) {
                let message = format!("'{key}' cannot be the name of a label");
                reader.warning(code::NOT_CARRIED_OVER, at, "labels", message, "");
            } else if value.is_empty() || is_part(&value) {
                labels.valid = labels.valid.with(key, value);
            } else {
                labels.others = labels.others.with(key, value);
            }
        }
    }
    labels
}

/// A mapping, or `- key=value`.
fn pairs(node: &Node, reader: &mut Reader<'_, '_>) -> Vec<(String, String, Position)> {
    match &node.kind {
        Kind::Map(entries) => entries
            .iter()
            .map(|entry| {
                let value = reader.text(&entry.node, "labels").unwrap_or_default();
                (entry.key.clone(), value, entry.key_position)
            })
            .collect(),
        Kind::List(items) => items
            .iter()
            .filter_map(|item| {
                let text = reader.text(item, "labels")?;
                let (key, value) = text.split_once('=').unwrap_or((&text, ""));
                Some((key.to_owned(), value.to_owned(), item.position))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// `name`, or `example.com/name`
fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_domain = |prefix: &str| {
        let is_label = |label: &str| {
            is_part(label) && !label.contains('_') && !label.contains(|c: char| c.is_ascii_uppercase())
        };
        prefix.len() <= 253 && prefix.split('.').all(is_label)
    };
    is_part(name) && prefix.is_none_or(is_domain)
}

/// At most 63 letters, digits, `-`, `_` and `.`; a letter or digit at both ends.
fn is_part(text: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && is_end(text.chars().next())
        && is_end(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_kubernetes_takes_as_one() {
        let check = |key: &str, expected: bool| assert_eq!(is_key(key), expected, "{key}");
        check("team", true);
        check("example.com/team", true);
        check("com.example.team", true);
        check("traefik.http.routers.a.rule", true);
        check("a b", false);
        check("-a", false);
        check("a/b/c", false);
        check("A_b.com/x", false);
        check("", false);
        assert!(!is_part(&"a".repeat(64)));
    }
}
