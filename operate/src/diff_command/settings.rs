//! Which listeners, routes and clusters differ?

use std::collections::BTreeMap;
use std::fmt::Write as _;

use naru_spec::{Cluster, Config, Rule};
use serde_json::{Value, json};

/// What is in one of two configurations only, or in both and not the same.
#[derive(Debug, Default)]
pub struct Differences {
    listeners: Vec<Difference>,
    routes: Vec<Difference>,
    clusters: Vec<Difference>,
}

#[derive(Debug)]
struct Difference {
    change: Change,
    name: String,
    /// Where it is written: before, after.
    origins: [String; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Changed,
    /// Its place among the rules of its host.
    Moved,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
            Change::Moved => "moved",
        }
    }
}

pub fn between(old: &Config, new: &Config) -> Differences {
    let listeners = |config: &Config| -> BTreeMap<String, String> {
        let all = config.listeners.iter();
        all.map(|listener| (listener.name.clone(), format!("{:?}", listener.address))).collect()
    };
    let (before, after) = (rules(old), rules(new));
    let mut routes = pairs(
        &before,
        &after,
        |rule| rule.rule.origin.clone(),
        |a, b| {
            if without_origin(a.rule) != without_origin(b.rule) { Some(Change::Changed) } else { None }
        },
    );
    routes.extend(moved(&before, &after));
    let clusters = |config: &Config| -> BTreeMap<String, Cluster> {
        config.clusters.iter().map(|cluster| (cluster.name.clone(), cluster.clone())).collect()
    };
    Differences {
        listeners: pairs(
            &listeners(old),
            &listeners(new),
            |_| String::new(),
            |a, b| (a != b).then_some(Change::Changed),
        ),
        routes,
        clusters: pairs(
            &clusters(old),
            &clusters(new),
            |_| String::new(),
            |a, b| (a != b).then_some(Change::Changed),
        ),
    }
}

/// A rule, and the how manieth it is of its host.
struct Placed<'a> {
    rule: &'a Rule,
    host: String,
    at: usize,
}

fn rules(config: &Config) -> BTreeMap<String, Placed<'_>> {
    let mut all = BTreeMap::new();
    for listener in &config.listeners {
        for host in listener.chains.iter().flat_map(|chain| &chain.http.routes.virtual_hosts) {
            for (at, rule) in host.rules.iter().enumerate() {
                let host = format!("{} {}", listener.name, host.name);
                let mut name = format!("{host} '{}'", rule.name);
                let mut number = 1;
                while all.contains_key(&name) {
                    number += 1;
                    name = format!("{host} '{}' ({number})", rule.name);
                }
                all.insert(name, Placed { rule, host, at });
            }
        }
    }
    all
}

/// Where it is written changes with every line above it.
fn without_origin(rule: &Rule) -> Rule {
    Rule { origin: String::new(), ..rule.clone() }
}

/// Rules that are asked in another order than before.
fn moved(before: &BTreeMap<String, Placed<'_>>, after: &BTreeMap<String, Placed<'_>>) -> Vec<Difference> {
    let order = |all: &BTreeMap<String, Placed<'_>>, other: &BTreeMap<String, Placed<'_>>| {
        let mut by_host: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
        for (name, placed) in all.iter().filter(|(name, _)| other.contains_key(*name)) {
            by_host.entry(placed.host.clone()).or_default().push((placed.at, name.clone()));
        }
        by_host.values_mut().for_each(|list| list.sort());
        by_host
    };
    let (old, new) = (order(before, after), order(after, before));
    let mut all = Vec::new();
    for (host, list) in &old {
        let Some(now) = new.get(host) else { continue };
        for ((_, name), (_, other)) in list.iter().zip(now) {
            if name != other {
                let origin = |all: &BTreeMap<String, Placed<'_>>| {
                    all.get(name).map_or_else(String::new, |placed| placed.rule.origin.clone())
                };
                let origins = [origin(before), origin(after)];
                all.push(Difference { change: Change::Moved, name: name.clone(), origins });
            }
        }
    }
    all
}

fn pairs<T>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    origin: impl Fn(&T) -> String,
    compare: impl Fn(&T, &T) -> Option<Change>,
) -> Vec<Difference> {
    let mut all = Vec::new();
    for (name, before) in old {
        let (change, after) = match new.get(name) {
            None => (Some(Change::Removed), String::new()),
            Some(after) => (compare(before, after), origin(after)),
        };
        if let Some(change) = change {
            all.push(Difference { change, name: name.clone(), origins: [origin(before), after] });
        }
    }
    for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        let origins = [String::new(), origin(after)];
        all.push(Difference { change: Change::Added, name: name.clone(), origins });
    }
    all
}

impl Differences {
    fn lists(&self) -> [(&'static str, &[Difference]); 3] {
        [("listeners", &self.listeners), ("routes", &self.routes), ("clusters", &self.clusters)]
    }

    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for (what, list) in self.lists() {
            for difference in list {
                let Difference { change, name, origins: [before, after] } = difference;
                let _ = write!(out, "{what:<9} {:<8} {name}", change.name());
                let origins: Vec<&str> = [before, after]
                    .into_iter()
                    .map(String::as_str)
                    .filter(|origin| !origin.is_empty())
                    .collect();
                if !origins.is_empty() {
                    let _ = write!(out, "  ({})", origins.join(" -> "));
                }
                out.push('\n');
            }
        }
        if out.is_empty() { "no listener, route or cluster differs\n".to_owned() } else { out }
    }

    pub fn to_json(&self) -> Value {
        let of = |list: &[Difference]| -> Vec<Value> {
            let one = |difference: &Difference| {
                let [before, after] = &difference.origins;
                json!({
                    "change": difference.change.name(),
                    "name": difference.name,
                    "before": before,
                    "after": after,
                })
            };
            list.iter().map(one).collect()
        };
        json!({
            "listeners": of(&self.listeners),
            "routes": of(&self.routes),
            "clusters": of(&self.clusters),
        })
    }
}
