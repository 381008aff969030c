//! Which rule of a virtual host takes this path?
//!
//! Exact paths are looked up by hash, prefixes in a radix tree, and a regular expression stands in
//! that tree at what all of its matches begin with. Paths that ignore case have a second table and a
//! second tree, in lower case, which cost nothing where they are not used.

use std::collections::BTreeMap;

use naru_spec::{Match, PathMatch, Pattern};
use regex::bytes::Regex;

use crate::condition::Condition;
use crate::dictionary::Dictionary;
use crate::group::{Groups, GroupsBuilder, Order, PathKind, Pending, Search};
use crate::host::Buffer;
use crate::radix::{NONE, Radix};
use crate::{Observer, Subject, re2};

/// The paths of all virtual hosts.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    exact: Dictionary,
    trees: Radix,
    groups: Groups,
}

/// Where in the index the paths of one virtual host are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paths {
    tree: u32,
    folded_tree: u32,
    /// The scope of its exact paths, or [`NONE`].
    exact: u32,
    folded_exact: u32,
}

impl Paths {
    pub(crate) const NONE: Paths = Paths { tree: NONE, folded_tree: NONE, exact: NONE, folded_exact: NONE };
}

impl Index {
    /// The first rule that holds and how many bytes of the path it matched.
    #[inline]
    pub(crate) fn find<O: Observer>(
        &self,
        paths: &Paths,
        subject: &Subject<'_>,
        observer: &mut O,
    ) -> Option<(u32, u32)> {
        let mut search = Search { subject, observer, best: Order::NONE, matched: 0 };
        self.find_in(paths.exact, paths.tree, subject.path.as_bytes(), &mut search);
        if paths.folded_exact != NONE || paths.folded_tree != NONE {
            let mut buffer = Buffer::new();
            let path = buffer.fill(subject.path.bytes().map(|b| b.to_ascii_lowercase()));
            self.find_in(paths.folded_exact, paths.folded_tree, path, &mut search);
        }
        (search.best != Order::NONE).then_some((search.best.rule(), search.matched as u32))
    }

    #[inline]
    fn find_in<O: Observer>(&self, exact: u32, tree: u32, path: &[u8], search: &mut Search<'_, O>) {
        if exact != NONE
            && let Some(group) = self.exact.get(exact, path)
        {
            self.groups.visit(group, path.len(), search);
        }
        self.trees.walk(tree, path, |group, depth| self.groups.visit(group, depth, search));
    }
}

/// Collects the rules of one virtual host after the other.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    exact: Vec<(u32, Vec<u8>, u32)>,
    scopes: u32,
    trees: Radix,
    groups: GroupsBuilder,
}

/// The paths of one virtual host, each with what shares it.
#[derive(Default)]
pub(crate) struct Shelf {
    exact: ByPath,
    folded_exact: ByPath,
    prefixes: ByPath,
    folded_prefixes: ByPath,
}

type ByPath = BTreeMap<Vec<u8>, Vec<Pending>>;

impl Shelf {
    /// Adds a block. Rules and blocks come in their order. `expression` is that of the path.
    pub(crate) fn put(
        &mut self,
        order: Order,
        spec: &Match,
        expression: Option<(Pattern, Regex)>,
        conditions: Vec<Condition>,
    ) {
        let (path, text) = match &spec.path {
            PathMatch::Exact(text) | PathMatch::Prefix(text) => (PathKind::Plain, text.clone().into_bytes()),
            PathMatch::SegmentPrefix(text) => (PathKind::Segment, text.clone().into_bytes()),
            PathMatch::Regex(pattern) => (PathKind::Regex, re2::literal_prefix(pattern)),
            // It stands on a shelf of its own, where every path is taken.
            PathMatch::Connect => (PathKind::Plain, Vec::new()),
        };
        let is_exact = matches!(spec.path, PathMatch::Exact(_));
        let is_folded = spec.ignore_path_case && path != PathKind::Regex;
        let text = if is_folded { text.to_ascii_lowercase() } else { text };
        let shelf = match (is_exact, is_folded) {
            (true, false) => &mut self.exact,
            (true, true) => &mut self.folded_exact,
            (false, false) => &mut self.prefixes,
            (false, true) => &mut self.folded_prefixes,
        };
        shelf.entry(text).or_default().push(Pending { order, path, expression, conditions });
    }
}

impl IndexBuilder {
    pub(crate) fn add(&mut self, shelf: Shelf) -> Paths {
        Paths {
            tree: self.add_tree(shelf.prefixes),
            folded_tree: self.add_tree(shelf.folded_prefixes),
            exact: self.add_exact(shelf.exact),
            folded_exact: self.add_exact(shelf.folded_exact),
        }
    }

    pub(crate) fn build(mut self) -> Index {
        self.trees.shrink();
        Index { exact: Dictionary::build(&self.exact), trees: self.trees, groups: self.groups.build() }
    }

    fn add_tree(&mut self, paths: ByPath) -> u32 {
        let entries: Vec<(Vec<u8>, u32)> =
            paths.into_iter().map(|(path, pending)| (path, self.groups.add(pending))).collect();
        self.trees.add(&entries)
    }

    fn add_exact(&mut self, paths: ByPath) -> u32 {
        if paths.is_empty() {
            return NONE;
        }
        let scope = self.scopes;
        self.scopes += 1;
        for (path, pending) in paths {
            let group = self.groups.add(pending);
            self.exact.push((scope, path, group));
        }
        scope
    }
}
