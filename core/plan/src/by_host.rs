//! What is attached to hosts and their subsets, found for the host and the subset of a cluster.
//!
//! A DestinationRule may be for a pattern of hosts, and so is what is attached to it. A ServiceEntry may have such a
//! host, too; what is attached to that is for this one service.

use std::collections::BTreeMap;

use crate::names::fits;

/// What a reference is to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub host: String,
    /// Without one it is all of the host.
    pub subset: Option<String>,
    /// It is to every host that fits.
    pub is_pattern: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ByHost<T>(BTreeMap<Part, T>);

impl<T> Default for ByHost<T> {
    fn default() -> ByHost<T> {
        ByHost(BTreeMap::new())
    }
}

impl<T> ByHost<T> {
    /// What is there already for the same, or else nothing.
    pub fn insert(&mut self, part: Part, value: T) -> Option<&T> {
        match self.0.entry(part) {
            std::collections::btree_map::Entry::Occupied(before) => Some(before.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(value);
                None
            }
        }
    }

    /// All that is for a cluster, the first of which holds: of the closest host, and of that what is said of the subset
    /// before what is said of all.
    pub fn find(&self, host: &str, subset: Option<&str>) -> Vec<&T> {
        let own = [subset, None].into_iter().take(if subset.is_some() { 2 } else { 1 });
        let own = own.filter_map(|subset| {
            let subset = subset.map(str::to_owned);
            self.0.get(&Part { host: host.to_owned(), subset, is_pattern: false })
        });
        let patterns = self.0.iter().filter(|(part, _)| {
            part.is_pattern && part.subset.as_deref().is_none_or(|said| subset == Some(said))
        });
        let mut patterns: Vec<(usize, bool, &T)> = patterns
            .filter_map(|(part, value)| Some((fits(&part.host, host)?, part.subset.is_some(), value)))
            .collect();
        patterns.sort_by_key(|(closeness, is_of_subset, _)| std::cmp::Reverse((*closeness, *is_of_subset)));
        own.chain(patterns.into_iter().map(|(_, _, value)| value)).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Part, &T)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(host: &str, subset: Option<&str>, is_pattern: bool) -> Part {
        Part { host: host.to_owned(), subset: subset.map(str::to_owned), is_pattern }
    }

    #[test]
    fn the_closest_host_holds_and_of_that_the_subset() {
        let mut known = ByHost::default();
        for (host, subset, is_pattern, value) in [
            ("*", None, true, "any"),
            ("*.test", None, true, "wide"),
            ("*.a.test", Some("v1"), true, "subset"),
            ("*.a.test", None, true, "closer"),
            ("b.a.test", None, false, "host"),
            ("b.a.test", Some("v1"), false, "subset of host"),
            ("*.a.test", None, false, "a service with a star"),
        ] {
            assert_eq!(known.insert(part(host, subset, is_pattern), value), None);
        }
        let find = |host, subset| known.find(host, subset).into_iter().copied().collect::<Vec<_>>();
        assert_eq!(
            find("b.a.test", Some("v1")),
            ["subset of host", "host", "subset", "closer", "wide", "any"]
        );
        assert_eq!(find("b.a.test", Some("v2")), ["host", "closer", "wide", "any"]);
        assert_eq!(find("c.a.test", None), ["closer", "wide", "any"]);
        assert_eq!(find("*.a.test", None), ["a service with a star", "closer", "wide", "any"]);
        assert_eq!(find("other", None), ["any"]);
        assert_eq!(known.insert(part("*", None, true), "again"), Some(&"any"));
    }
}
