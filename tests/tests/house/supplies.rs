//! What the project is built on, held against `deny.toml`.
//!
//! The part of `cargo deny check bans licenses sources` that needs no other program, so that the gate
//! can hold it anywhere.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::workspace::{assert_none, cargo, host, text};

fn rules() -> toml::Table {
    text("deny.toml").parse().expect("deny.toml")
}

fn list(rules: &toml::Table, table: &str, name: &str) -> Vec<toml::Value> {
    rules[table][name].as_array().unwrap_or_else(|| panic!("{table}.{name} is a list")).clone()
}

/// Everything that is compiled into anything here, as `name version`.
fn compiled() -> BTreeSet<String> {
    let tree =
        cargo(&["tree", "--workspace", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"]);
    let lines = tree.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().expect("a name");
            let version = words.next().and_then(|version| version.strip_prefix('v')).expect("a version");
            format!("{name} {version}")
        })
        .collect()
}

#[test]
fn nothing_banned_is_compiled_in() {
    let banned = list(&rules(), "bans", "deny");
    let mut complaints = Vec::new();
    for package in compiled() {
        let name = package.split(' ').next().unwrap_or_default();
        if let Some(ban) = banned.iter().find(|ban| ban["crate"].as_str() == Some(name)) {
            complaints.push(format!("{package} is banned: {}", ban["reason"].as_str().unwrap_or_default()));
        }
    }
    assert_none(&complaints);
}

#[test]
fn everything_comes_from_the_public_registry_or_from_here() {
    let lock: toml::Table = text("Cargo.lock").parse().expect("Cargo.lock");
    let allowed = list(&rules(), "sources", "allow-registry");
    for package in lock["package"].as_array().expect("packages") {
        let Some(source) = package.get("source").and_then(toml::Value::as_str) else { continue };
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        assert!(allowed.iter().any(|url| url.as_str() == Some(registry)), "{package}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--filter-platform", &host()]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    let allowed = list(&rules(), "licenses", "allow");
    let allowed: Vec<&str> = allowed.iter().filter_map(toml::Value::as_str).collect();
    let compiled = compiled();
    let mut complaints = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let text = |field| package[field].as_str().unwrap_or_default();
        let (name, version, licence) = (text("name"), text("version"), text("license"));
        if compiled.contains(&format!("{name} {version}")) && !is_allowed(licence, &allowed) {
            complaints.push(format!("{name} {version} is under '{licence}'"));
        }
    }
    assert_none(&complaints);
}

/// Whether an SPDX expression can be satisfied. `/` is how older manifests say OR.
fn is_allowed(licence: &str, allowed: &[&str]) -> bool {
    let spaced = licence.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let is_satisfied = any(&mut rest, allowed);
    is_satisfied && rest.is_empty()
}

fn any(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut is_satisfied = all(rest, allowed);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        is_satisfied |= all(rest, allowed);
    }
    is_satisfied
}

fn all(rest: &mut &[&str], allowed: &[&str]) -> bool {
    let mut is_satisfied = one(rest, allowed);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        is_satisfied &= one(rest, allowed);
    }
    is_satisfied
}

fn one(rest: &mut &[&str], allowed: &[&str]) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let is_satisfied = any(rest, allowed);
            let [")", after @ ..] = *rest else { return false };
            *rest = after;
            is_satisfied
        }
        [name, "WITH", exception, after @ ..] => {
            *rest = after;
            allowed.contains(&format!("{name} WITH {exception}").as_str())
        }
        [name, after @ ..] => {
            *rest = after;
            allowed.contains(name)
        }
        [] => false,
    }
}

#[test]
fn a_licence_is_an_expression() {
    fn check(licence: &str, expected: bool) {
        assert_eq!(is_allowed(licence, &["MIT", "ISC", "Apache-2.0"]), expected, "{licence}");
    }
    check("MIT", true);
    check("GPL-3.0-only", false);
    check("GPL-3.0-only OR MIT", true);
    check("GPL-3.0-only/MIT", true);
    check("MIT AND GPL-3.0-only", false);
    check("ISC AND (Apache-2.0 OR GPL-3.0-only)", true);
    check("(MIT OR Apache-2.0) AND Unicode-3.0", false);
    check("Apache-2.0 WITH LLVM-exception", false);
    check("", false);
}
