//! What is there for one kind of proxy, by kind and name?
//!
//! Resources are encoded once and shared by everybody who is given them: what a connected proxy costs is what it has
//! asked for, not what it has got.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use naru_xds::discovery::{KINDS, Kind};

/// A resource as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Of its content: what is equal has the same, whoever has made it.
    pub version: u64,
    /// The bytes of a `google.protobuf.Any`.
    pub any: Bytes,
}

/// Resources of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Set {
    version: u64,
    items: BTreeMap<Arc<str>, Item>,
}

impl Set {
    pub fn of(items: BTreeMap<Arc<str>, Item>) -> Set {
        let mut hasher = DefaultHasher::new();
        for (name, item) in &items {
            (name, item.version).hash(&mut hasher);
        }
        Set { version: hasher.finish(), items }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, name: &str) -> Option<&Item> {
        self.items.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Item)> {
        self.items.iter()
    }

    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.items.keys()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The names of what is not the same in both, in their order. Both are gone through once, side by side.
    pub fn differing<'a>(&'a self, other: &'a Set) -> Vec<&'a Arc<str>> {
        let (mut ours, mut others) = (self.items.iter().peekable(), other.items.iter().peekable());
        let mut names = Vec::new();
        loop {
            let order = match (ours.peek(), others.peek()) {
                (None, None) => return names,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let one = if order.is_le() { ours.next() } else { None };
            let other = if order.is_ge() { others.next() } else { None };
            match (one, other) {
                (Some((_, one)), Some((_, other))) if one.version == other.version => {}
                (Some((name, _)), _) | (None, Some((name, _))) => names.push(name),
                (None, None) => {}
            }
        }
    }
}

/// Everything that there is for one kind of proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    sets: [Arc<Set>; KINDS.len()],
}

impl Default for View {
    fn default() -> View {
        View { sets: std::array::from_fn(|_| Arc::default()) }
    }
}

impl View {
    pub fn set(&self, kind: Kind) -> &Arc<Set> {
        // The array has a place for each kind, in their order.
        &self.sets[kind as usize]
    }

    /// One version of the whole, for people.
    pub fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for set in &self.sets {
            set.version.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Bytes of all resources.
    pub fn bytes(&self) -> usize {
        self.sets.iter().flat_map(|set| set.items.values()).map(|item| item.any.len()).sum()
    }
}

type Named = (Arc<str>, Item);

/// Makes views, and keeps what several of them hold once.
#[derive(Debug, Default)]
pub struct Shelf {
    /// By kind and version, which two may have in common.
    items: HashMap<(Kind, u64), Vec<Named>>,
}

impl Shelf {
    /// `before` is what the same proxies had: sets that are equal are the same.
    pub fn view(
        &mut self,
        resources: impl IntoIterator<Item = (Kind, String, Vec<u8>)>,
        before: Option<&View>,
    ) -> View {
        let mut sets: [BTreeMap<Arc<str>, Item>; KINDS.len()] = std::array::from_fn(|_| BTreeMap::new());
        for (kind, name, any) in resources {
            let (name, item) = self.share(kind, name, any);
            sets[kind as usize].insert(name, item);
        }
        let mut view = View { sets: sets.map(|items| Arc::new(Set::of(items))) };
        if let Some(before) = before {
            for (set, known) in view.sets.iter_mut().zip(&before.sets) {
                if **set == **known {
                    *set = Arc::clone(known);
                }
            }
        }
        view
    }

    /// `before` with other resources of one kind.
    pub fn changed(
        &mut self,
        before: &View,
        kind: Kind,
        there: impl IntoIterator<Item = (String, Vec<u8>)>,
        gone: impl IntoIterator<Item = String>,
    ) -> View {
        let mut items = before.set(kind).items.clone();
        for name in gone {
            items.remove(name.as_str());
        }
        for (name, any) in there {
            let (name, item) = self.share(kind, name, any);
            // The name goes with what it is the name of: so it is known when nobody has that any more.
            items.remove(&name);
            items.insert(name, item);
        }
        let mut view = before.clone();
        view.sets[kind as usize] = Arc::new(Set::of(items));
        view
    }

    fn share(&mut self, kind: Kind, name: String, any: Vec<u8>) -> Named {
        let mut hasher = DefaultHasher::new();
        (&name, &any).hash(&mut hasher);
        let version = hasher.finish();
        let known = self.items.entry((kind, version)).or_default();
        let found = known.iter().find(|(known, item)| **known == *name && item.any == any);
        if let Some((name, item)) = found {
            return (Arc::clone(name), item.clone());
        }
        let (name, item) = (Arc::from(name), Item { version, any: Bytes::from(any) });
        known.push((Arc::clone(&name), item.clone()));
        (name, item)
    }

    /// Forgets what nobody else holds any more.
    pub fn sweep(&mut self) {
        self.items.retain(|_, known| {
            known.retain(|(name, _)| Arc::strong_count(name) > 1);
            !known.is_empty()
        });
    }

    /// Different resources that are kept.
    pub fn len(&self) -> usize {
        self.items.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use naru_xds::discovery::Kind;

    use super::Shelf;

    fn said(name: &str, bytes: &[u8]) -> (Kind, String, Vec<u8>) {
        (Kind::Cluster, name.to_owned(), bytes.to_vec())
    }

    #[test]
    fn equal_resources_are_kept_once_and_forgotten_with_the_last_view() {
        let mut shelf = Shelf::default();
        let first = shelf.view([said("a", b"1"), said("b", b"2")], None);
        let second = shelf.view([said("a", b"1"), said("b", b"3")], None);
        assert_eq!(shelf.len(), 3);
        let any = |view: &super::View| view.set(Kind::Cluster).get("a").unwrap().any.as_ptr();
        assert_eq!(any(&first), any(&second));
        drop(second);
        shelf.sweep();
        assert_eq!(shelf.len(), 2);
        drop(first);
        shelf.sweep();
        assert!(shelf.is_empty());
    }

    #[test]
    fn what_is_changed_is_what_would_be_made_anew() {
        let mut shelf = Shelf::default();
        let first = shelf.view([said("a", b"1"), said("b", b"1"), said("d", b"1")], None);
        let there = [("b".to_owned(), b"2".to_vec()), ("c".to_owned(), b"1".to_vec())];
        let changed = shelf.changed(&first, Kind::Cluster, there, ["d".to_owned(), "none".to_owned()]);
        let whole = shelf.view([said("a", b"1"), said("b", b"2"), said("c", b"1")], None);
        assert_eq!(changed, whole);
        let of = |view: &super::View| Arc::clone(view.set(Kind::Cluster));
        let names: Vec<String> =
            of(&first).differing(&of(&changed)).into_iter().map(ToString::to_string).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert!(of(&changed).differing(&of(&whole)).is_empty());
        drop((first, whole));
        shelf.sweep();
        assert_eq!(shelf.len(), 3, "what nobody has any more is forgotten");
    }

    #[test]
    fn a_version_is_of_the_content() {
        let mut shelf = Shelf::default();
        let first = shelf.view([said("a", b"1")], None);
        let same = Shelf::default().view([said("a", b"1")], None);
        let other = shelf.view([said("a", b"2")], Some(&first));
        assert_eq!(first.version(), same.version());
        assert_ne!(first.version(), other.version());
        let again = shelf.view([said("a", b"1")], Some(&first));
        assert!(Arc::ptr_eq(first.set(Kind::Cluster), again.set(Kind::Cluster)));
    }
}
