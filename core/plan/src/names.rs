//! Names of hosts, as Istio resolves them.

use naru_resource::Text;

use crate::routes::MESH;

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

/// The Gateway that a document of `owner` means, as `namespace/name`. Before there was that form Istio had names of hosts
/// for it: `edge.shop`, `edge.shop.svc.cluster.local`.
pub(crate) fn gateway_name(said: &str, owner: &str) -> String {
    match said.split_once('/') {
        Some((".", name)) => format!("{owner}/{name}"),
        Some(_) => said.to_owned(),
        None if said == MESH => said.to_owned(),
        None => {
            let mut parts = said.split('.');
            let name = parts.next().unwrap_or(said);
            format!("{}/{name}", parts.next().unwrap_or(owner))
        }
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
    fn a_gateway_is_named_with_its_namespace_or_as_a_host() {
        for (said, meant) in [
            ("edge", "shop/edge"),
            ("./edge", "shop/edge"),
            ("front/edge", "front/edge"),
            ("edge.front", "front/edge"),
            ("edge.front.svc.cluster.local", "front/edge"),
            ("mesh", "mesh"),
        ] {
            assert_eq!(gateway_name(said, "shop"), meant, "{said}");
        }
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
