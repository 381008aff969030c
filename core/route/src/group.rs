//! The rules that share a path: which of them is the first whose other conditions hold?
//!
//! A group lists its candidates in the order of the rules. Where many ask for one exact value of the
//! same property (a header, the method, a query parameter, a cookie), they are split by that value
//! into groups of their own, so that a lookup takes the place of asking each. Regular expressions
//! for the path are asked together.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use http::HeaderName;
use naru_spec::Pattern;
use regex::bytes::{Regex, RegexSet};

use crate::condition::{Condition, Key, cookie_value, header_value, query_value};
use crate::dictionary::Dictionary;
use crate::{Field, Observer, Outcome, RuleId, Subject, re2};

/// All groups of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    candidates: Vec<Candidate>,
    conditions: Vec<Condition>,
    splits: Vec<Split>,
    /// By the index of a split and the value: the index of a group.
    values: Dictionary,
    sets: Vec<PathSet>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    candidates: u32,
    candidate_count: u32,
    splits: u32,
    split_count: u32,
    sets: u32,
    set_count: u32,
}

/// A block of a rule, once its path is known to match.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    order: Order,
    conditions: u32,
    condition_count: u16,
    path: PathKind,
}

/// The place of a block among all blocks: by rule, then inside the rule. The first block that holds
/// says what part of the path was matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order(u64);

impl Order {
    /// After every block.
    pub(crate) const NONE: Order = Order(u64::MAX);

    pub(crate) fn new(rule: u32, block: u16) -> Order {
        Order(u64::from(rule) << 16 | u64::from(block))
    }

    #[inline]
    pub(crate) fn rule(self) -> u32 {
        (self.0 >> 16) as u32
    }

    fn block(self) -> usize {
        usize::from(self.0 as u16)
    }
}

/// What is left to know of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    /// Nothing.
    Plain,
    /// That the prefix ends where a segment ends.
    Segment,
    /// That the expression matches, which is then a match of all of the path.
    Regex,
}

#[derive(Clone, Debug)]
struct Split {
    first: Order,
    by: By,
}

#[derive(Clone, Debug)]
enum By {
    Method,
    Header(HeaderName),
    Query(Box<str>),
    Cookie(Box<str>),
}

/// Candidates whose expressions are asked together, the first's first.
#[derive(Clone, Debug)]
struct PathSet {
    set: RegexSet,
    first: Order,
    candidates: u32,
}

/// The state of one search: the first block found so far.
pub(crate) struct Search<'a, O> {
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) observer: &'a mut O,
    pub(crate) best: Order,
    pub(crate) matched: usize,
}

/// A candidate that is not yet in a group.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) order: Order,
    pub(crate) path: PathKind,
    /// Where the path is a regular expression.
    pub(crate) expression: Option<(Pattern, Regex)>,
    pub(crate) conditions: Vec<Condition>,
}

/// So few candidates are asked one by one.
const LINEAR_MAX: usize = 8;
/// A property is worth a lookup where it has so many values.
const VALUES_MIN: usize = 4;
const SPLITS_MAX: usize = 4;
const DEPTH_MAX: usize = 4;
/// So many expressions are asked together; fewer than the minimum one by one.
const SET_MIN: usize = 8;
const SET_MAX: usize = 64;

impl Groups {
    /// Looks through a group whose candidates' paths match `matched` bytes of the path.
    #[inline]
    pub(crate) fn visit<O: Observer>(&self, group: u32, matched: usize, search: &mut Search<'_, O>) {
        let group = &self.groups[group as usize];
        let candidates = &self.candidates[group.candidates as usize..][..group.candidate_count as usize];
        for candidate in candidates {
            if candidate.order >= search.best {
                break;
            }
            if self.holds(candidate, matched, search) {
                search.take(candidate, matched);
                break;
            }
        }
        if group.split_count != 0 || group.set_count != 0 {
            self.visit_more(group, matched, search);
        }
    }

    fn visit_more<O: Observer>(&self, group: &Group, matched: usize, search: &mut Search<'_, O>) {
        for at in group.splits..group.splits + group.split_count {
            let split = &self.splits[at as usize];
            if split.first >= search.best {
                continue;
            }
            let subject = search.subject;
            let value = match &split.by {
                By::Method => Some(Cow::Borrowed(subject.method.as_str().as_bytes())),
                By::Header(name) => header_value(subject.headers, name),
                By::Query(name) => query_value(subject.query, name.as_bytes()).map(Cow::Borrowed),
                By::Cookie(name) => cookie_value(subject.headers, name.as_bytes()).map(Cow::Borrowed),
            };
            if let Some(inner) = value.and_then(|value| self.values.get(at, &value)) {
                self.visit(inner, matched, search);
            }
        }
        let path = search.subject.path.as_bytes();
        for set in &self.sets[group.sets as usize..][..group.set_count as usize] {
            if set.first >= search.best {
                break;
            }
            for at in &set.set.matches(path) {
                let candidate = &self.candidates[set.candidates as usize + at];
                if candidate.order >= search.best {
                    break;
                }
                if self.holds(candidate, matched, search) {
                    search.take(candidate, matched);
                    break;
                }
            }
        }
    }

    #[inline]
    fn holds<O: Observer>(&self, candidate: &Candidate, matched: usize, search: &mut Search<'_, O>) -> bool {
        let failed = self.failed(candidate, matched, search.subject);
        let outcome = failed.map_or(Outcome::Matched, Outcome::Failed);
        search.observer.considered(RuleId(candidate.order.rule()), candidate.order.block(), outcome);
        failed.is_none()
    }

    #[inline]
    fn failed(&self, candidate: &Candidate, matched: usize, subject: &Subject<'_>) -> Option<Field> {
        if candidate.path == PathKind::Segment
            && !matches!(subject.path.as_bytes().get(matched), None | Some(b'/'))
        {
            return Some(Field::Path);
        }
        if candidate.condition_count == 0 {
            return None;
        }
        self.conditions[candidate.conditions as usize..][..usize::from(candidate.condition_count)]
            .iter()
            .find(|condition| !condition.holds(subject))
            .map(Condition::field)
    }
}

impl<O> Search<'_, O> {
    #[inline]
    fn take(&mut self, candidate: &Candidate, matched: usize) {
        self.best = candidate.order;
        self.matched = if candidate.path == PathKind::Regex { self.subject.path.len() } else { matched };
    }
}

/// Collects groups; [`build`](GroupsBuilder::build) freezes them.
#[derive(Default)]
pub(crate) struct GroupsBuilder {
    groups: Groups,
    values: Vec<(u32, Vec<u8>, u32)>,
}

impl GroupsBuilder {
    pub(crate) fn build(mut self) -> Groups {
        self.groups.values = Dictionary::build(&self.values);
        self.groups.groups.shrink_to_fit();
        self.groups.candidates.shrink_to_fit();
        self.groups.conditions.shrink_to_fit();
        self.groups
    }

    /// Adds a group of candidates in the order of their rules and blocks.
    pub(crate) fn add(&mut self, pending: Vec<Pending>) -> u32 {
        self.add_at_depth(pending, 0)
    }

    fn add_at_depth(&mut self, mut pending: Vec<Pending>, depth: usize) -> u32 {
        let mut parts = Vec::new();
        while pending.len() > LINEAR_MAX && parts.len() < SPLITS_MAX && depth < DEPTH_MAX {
            let Some(key) = most_telling(&pending) else { break };
            let (by_value, rest) = part(pending, &key);
            parts.push((key, by_value));
            pending = rest;
        }
        // The inner groups come first: the splits of one group must lie beside each other.
        let mut splits = Vec::new();
        for (key, by_value) in parts {
            let first = by_value.values().filter_map(|inner| Some(inner.first()?.order)).min();
            let inner: Vec<(Vec<u8>, u32)> = by_value
                .into_iter()
                .map(|(value, inner)| (value, self.add_at_depth(inner, depth + 1)))
                .collect();
            let by = match key {
                Key::Method => By::Method,
                Key::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(name) => By::Header(name),
                    // It came from a header name.
                    Err(_) => continue,
                },
                Key::Query(name) => By::Query(name),
                Key::Cookie(name) => By::Cookie(name),
            };
            splits.push((Split { first: first.unwrap_or(Order::NONE), by }, inner));
        }
        let first_split = self.groups.splits.len() as u32;
        let split_count = splits.len() as u32;
        for (split, inner) in splits {
            let at = self.groups.splits.len() as u32;
            self.groups.splits.push(split);
            self.values.extend(inner.into_iter().map(|(value, group)| (at, value, group)));
        }
        let first_set = self.groups.sets.len() as u32;
        let plain = self.add_sets(pending);
        let candidates = self.groups.candidates.len() as u32;
        let candidate_count = plain.len() as u32;
        for candidate in plain {
            self.add_candidate(candidate, true);
        }
        let group = self.groups.groups.len() as u32;
        self.groups.groups.push(Group {
            candidates,
            candidate_count,
            splits: first_split,
            split_count,
            sets: first_set,
            set_count: self.groups.sets.len() as u32 - first_set,
        });
        group
    }

    /// Takes out the regular expressions where they are many; returns what is left.
    fn add_sets(&mut self, pending: Vec<Pending>) -> Vec<Pending> {
        if pending.iter().filter(|candidate| candidate.expression.is_some()).count() < SET_MIN {
            return pending;
        }
        let (expressions, mut plain): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|candidate| candidate.expression.is_some());
        for chunk in expressions.chunks(SET_MAX) {
            let patterns = chunk.iter().filter_map(|candidate| Some(&candidate.expression.as_ref()?.0));
            match (re2::whole_set(patterns), chunk.first()) {
                (Some(set), Some(first)) => {
                    let candidates = self.groups.candidates.len() as u32;
                    let first = first.order;
                    for candidate in chunk {
                        self.add_candidate(candidate.clone(), false);
                    }
                    self.groups.sets.push(PathSet { set, first, candidates });
                }
                _ => plain.extend_from_slice(chunk),
            }
        }
        plain.sort_by_key(|candidate| candidate.order);
        plain
    }

    /// `asks_path`: the candidate's own expression is asked, because no set asks it.
    fn add_candidate(&mut self, pending: Pending, asks_path: bool) {
        let conditions = self.groups.conditions.len() as u32;
        let mut list = pending.conditions;
        if asks_path && let Some((_, regex)) = pending.expression {
            // After the cheap ones, before the draw.
            let at = list.iter().position(Condition::is_costly).unwrap_or(list.len());
            list.insert(at, Condition::PathRegex(Box::new(regex)));
        }
        self.groups.candidates.push(Candidate {
            order: pending.order,
            conditions,
            condition_count: list.len() as u16,
            path: pending.path,
        });
        self.groups.conditions.append(&mut list);
    }
}

/// The property that tells most candidates apart, if it is worth it.
fn most_telling(pending: &[Pending]) -> Option<Key> {
    let mut values: BTreeMap<Key, BTreeSet<&[u8]>> = BTreeMap::new();
    for (key, value) in pending.iter().flat_map(|candidate| &candidate.conditions).filter_map(Condition::key)
    {
        values.entry(key).or_default().insert(value);
    }
    let (key, values) = values.into_iter().max_by_key(|(_, values)| values.len())?;
    (values.len() >= VALUES_MIN).then_some(key)
}

/// Those that ask for a value of the property, by that value and without the question; and the rest.
fn part(pending: Vec<Pending>, key: &Key) -> (BTreeMap<Vec<u8>, Vec<Pending>>, Vec<Pending>) {
    let mut by_value: BTreeMap<Vec<u8>, Vec<Pending>> = BTreeMap::new();
    let mut rest = Vec::new();
    for mut candidate in pending {
        let asks = |condition: &Condition| condition.key().is_some_and(|(asked, _)| asked == *key);
        match candidate.conditions.iter().position(asks) {
            Some(at) => {
                let condition = candidate.conditions.remove(at);
                let value = condition.key().map(|(_, value)| value.to_vec()).unwrap_or_default();
                by_value.entry(value).or_default().push(candidate);
            }
            None => rest.push(candidate),
        }
    }
    (by_value, rest)
}
