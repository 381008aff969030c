//! What all of Kubernetes' documents have: a head, and names of a certain form.

use std::collections::BTreeSet;

use naru_doc::tree::Position;

use crate::notes::{Notes, code};
use crate::yaml::Map;

pub(crate) const NETWORKING: &str = "networking.istio.io/v1";
pub(crate) const NARU: &str = "naru.dev/v1alpha1";

/// A name is a label of DNS.
const NAME_MAX: usize = 63;

pub(crate) fn document(api_version: &str, kind: &str, name: &str, spec: Map) -> Map {
    Map::new()
        .with("apiVersion", api_version)
        .with("kind", kind)
        .with("metadata", Map::new().with("name", name))
        .with("spec", spec)
}

/// Names that documents have already.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: BTreeSet<(String, String)>,
}

impl Names {
    /// A valid name that no other document of the kind has.
    pub fn claim(&mut self, kind: &str, wanted: &str) -> String {
        let base = valid(wanted);
        let mut name = base.clone();
        let mut number = 2_u32;
        while !self.taken.insert((kind.to_owned(), name.clone())) {
            let suffix = format!("-{number}");
            let kept: String = base.chars().take(NAME_MAX - suffix.len()).collect();
            name = format!("{}{suffix}", kept.trim_end_matches('-'));
            number += 1;
        }
        name
    }
}

/// Lower case, digits and hyphens; begins with a letter or digit.
pub(crate) fn valid(wanted: &str) -> String {
    let mut name = String::new();
    for c in wanted.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(NAME_MAX);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

/// Tells that a name had to change.
pub(crate) fn tell_renamed(said: &str, name: &str, at: Position, path: &str, notes: &mut Notes<'_>) {
    if said != name {
        let message = format!("'{said}' is called '{name}' here");
        let hint = "Kubernetes' names have lower case, digits and hyphens, and no two are the same";
        notes.note(code::RENAMED, at, path, message, hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_one_that_kubernetes_allows() {
        let check = |wanted: &str, expected: &str| assert_eq!(valid(wanted), expected, "{wanted}");
        check("user_service", "user-service");
        check("User.Service", "user-service");
        check("-a__b-", "a-b");
        check("사용자", "unnamed");
        check("", "unnamed");
        check("8080", "8080");
        assert_eq!(valid(&"a".repeat(80)).len(), NAME_MAX);
    }

    #[test]
    fn no_two_documents_of_a_kind_have_one_name() {
        let mut names = Names::default();
        assert_eq!(names.claim("Service", "a_b"), "a-b");
        assert_eq!(names.claim("Service", "a-b"), "a-b-2");
        assert_eq!(names.claim("Deployment", "a-b"), "a-b");
        let long = "a".repeat(70);
        assert_eq!(names.claim("Service", &long).len(), NAME_MAX);
        assert_eq!(names.claim("Service", &long).len(), NAME_MAX);
    }
}
