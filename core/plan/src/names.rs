//! Names of hosts, as Istio resolves them.

use naru_resource::Text;

/// What Kubernetes' services are called behind their namespace.
pub(crate) const DOMAIN: &str = "svc.cluster.local";

/// A name without a dot is a service of `namespace`; every other name is whole.
pub fn fqdn(host: &str, namespace: &str) -> String {
    if host.contains('.') || host.starts_with('*') || host.is_empty() {
        host.to_ascii_lowercase()
    } else {
        format!("{}.{namespace}.{DOMAIN}", host.to_ascii_lowercase())
    }
}

/// Whether a host is a pattern's, and how closely: an exact name most, then the longest `*.suffix`.
pub(crate) fn fits(pattern: &str, host: &str) -> Option<usize> {
    match pattern.strip_prefix('*') {
        None => (pattern == host).then_some(usize::MAX),
        Some("") => Some(0),
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len()),
    }
}

/// What two patterns have in common: the narrower of them, if one is within the other.
pub(crate) fn common<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(wide), Some(narrow)) if narrow.ends_with(wide) => Some(b),
        (Some(narrow), Some(wide)) if narrow.ends_with(wide) => Some(a),
        (Some(_), None) => fits(a, b).map(|_| b),
        (None, Some(_)) => fits(b, a).map(|_| a),
        (None, None) => (a == b).then_some(a),
        (Some(_), Some(_)) => None,
    }
}

/// Istio's `exportTo`: whether a document of `owner` is seen from a namespace.
pub(crate) fn is_exported(export_to: &[Text], owner: &str, seen_from: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|name| match name.as_str() {
            "*" => true,
            "." => owner == seen_from,
            "~" => false,
            namespace => namespace == seen_from,
        })
}

/// For whom a document is that somebody sees. Of two that say something of one host, the first of these goes first, as in
/// Istio: who is told something of his own listens to that, and not to what all are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Audience {
    /// For the document's own namespace, and not for all.
    Own,
    /// For a namespace that it names.
    Named,
    All,
}

/// Istio's `exportTo`: for whom a document of `owner` is that is seen from a namespace; `None` where it is not.
pub(crate) fn audience(export_to: &[Text], owner: &str, seen_from: &str) -> Option<Audience> {
    let is_for_all = export_to.is_empty() || export_to.iter().any(|name| name.value == "*");
    match is_exported(export_to, owner, seen_from) {
        false => None,
        true if is_for_all => Some(Audience::All),
        true if owner == seen_from => Some(Audience::Own),
        true => Some(Audience::Named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_dot_is_one_of_its_namespace() {
        assert_eq!(fqdn("Reviews", "shop"), "reviews.shop.svc.cluster.local");
        assert_eq!(fqdn("reviews.other", "shop"), "reviews.other");
        assert_eq!(fqdn("*.example.com", "shop"), "*.example.com");
    }

    #[test]
    fn the_narrower_of_two_patterns_is_what_they_share() {
        assert_eq!(common("*", "a.example.com"), Some("a.example.com"));
        assert_eq!(common("*.example.com", "*"), Some("*.example.com"));
        assert_eq!(common("*.example.com", "*.a.example.com"), Some("*.a.example.com"));
        assert_eq!(common("a.com", "a.com"), Some("a.com"));
        assert_eq!(common("a.com", "b.com"), None);
        assert_eq!(common("*.a.com", "*.b.com"), None);
        assert_eq!(common("*.a.com", "a.com"), None);
    }
}
