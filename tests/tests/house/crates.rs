//! Arrows point one way: who may know whom.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::workspace::{assert_none, cargo, root, text};

/// Each crate by its folder, and the folders that it may know: one crate, or all crates below. The
/// questions (`route`, `balance`) do not know each other; the journey carries a value from one to
/// the next.
const ARROWS: &[(&str, &[&str])] = &[
    ("core/base", &[]),
    ("core/spec", &["core/base"]),
    ("core/resource", &["core/base", "core/spec"]),
    ("core/route", &["core/base", "core/spec"]),
    ("core/balance", &["core/base", "core/spec"]),
    ("core/guard", &["core/base", "core/spec"]),
    ("core/admit", &["core/base", "core/spec"]),
    ("core/cache", &["core/base", "core/spec"]),
    // Dates of HTTP are read in one place.
    ("core/content", &["core/base", "core/spec", "core/cache"]),
    ("core/renew", &["core/base"]),
    ("core/session", &["core/base", "core/spec"]),
    ("core/surge", &["core/base", "core/spec"]),
    // What of a request a policy asks for is matched as rules match it.
    ("core/identity", &["core/base", "core/spec", "core/route", "core/condition"]),
    ("core/condition", &["core/base", "core/spec"]),
    // A policy may ask for headers of requests and responses: there is one matcher of headers, and it is the rules'.
    ("core/recover", &["core/base", "core/spec", "core/route"]),
    (
        "core/journey",
        &[
            "core/base",
            "core/spec",
            "core/route",
            "core/balance",
            "core/guard",
            "core/recover",
            "core/admit",
            "core/content",
            "core/identity",
        ],
    ),
    ("core/plan", &["core/base", "core/spec", "core/resource", "core/condition"]),
    ("core/lint", &["core/spec", "core/resource"]),
    ("wire/doc", &["core/base", "core/spec", "core/resource"]),
    ("wire/import", &["core/spec", "wire/doc"]),
    ("wire/xds", &["core/base", "core/spec", "core/condition", "wire/doc"]),
    ("wire/tls", &["core/base", "core/spec"]),
    ("wire/store", &["core/base", "core/spec", "core/session"]),
    ("wire/http1", &[]),
    ("wire/jose", &["core/base"]),
    // What is hashed, and compared in the same time whatever it is, is its.
    ("wire/known", &["wire/jose"]),
    ("wire/redis", &["core/spec", "core/admit"]),
    ("wire/lease", &["core/base", "core/admit", "wire/jose"]),
    ("wire/etcd", &[]),
    ("wire/grpc", &[]),
    ("wire/probe", &["core/spec", "wire/tls"]),
    ("wire/say", &[]),
    // What is told of a request, and what an answer means, is said in the core's words.
    ("wire/authz", &["core/admit", "core/base", "core/identity"]),
    ("wire/coding", &[]),
    ("proxy", &["core", "wire"]),
    ("control/sources", &["core", "wire"]),
    ("control/workloads", &["core/base", "wire/probe"]),
    ("control/discovery", &["core", "wire"]),
    ("sim", &["core", "wire"]),
    ("operate", &["core", "wire", "proxy", "control", "sim", "operate"]),
    ("operate/memory", &[]),
    ("operate/workload", &["core/base"]),
    // Tools stand beside the house and know it only as a program.
    ("bench", &[]),
    ("xtask", &[]),
    ("tests", &["core", "wire", "proxy", "control", "sim", "operate"]),
    ("fuzz/bodies", &["core", "wire", "proxy", "sim", "tests"]),
];

/// The only foreign crates that the core is built on.
const CORE_USES: &[&str] = &["http", "bytes", "regex", "regex-syntax", "ipnet", "sfv"];

/// Foreign crates that only some may name. Benches compare with the bare libraries.
const RESERVED: &[(&str, &[&str])] = &[
    ("rustls", &["wire/tls", "bench"]),
    ("tokio-rustls", &["wire/tls", "bench"]),
    ("rustls-pki-types", &["wire/tls", "bench"]),
    ("aws-lc-rs", &["wire/jose"]),
    ("envoy-types", &["wire/xds"]),
    ("prost", &["wire/xds", "wire/etcd"]),
    ("prost-reflect", &["wire/xds"]),
    ("redb", &["wire/store"]),
    ("argon2", &["wire/known"]),
    ("bcrypt", &["wire/known"]),
    ("maxminddb", &["wire/known"]),
    ("redis", &["wire/redis", "wire/store"]),
    ("hickory-resolver", &["proxy"]),
    ("redis", &["wire/redis"]),
    ("brotli", &["wire/coding"]),
    ("flate2", &["wire/coding"]),
    ("zstd", &["wire/coding"]),
    ("quinn", &["proxy"]),
    ("quinn-proto", &["proxy", "wire/tls"]),
];

/// A member of the workspace.
struct Member {
    folder: String,
    /// What it is built on: names, and the folder of those that are ours.
    uses: Vec<(String, Option<String>)>,
}

fn members() -> Vec<Member> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    let folder_of = |path: &str| {
        let folder = std::path::Path::new(path).strip_prefix(root()).expect("members are below the root");
        folder.to_str().expect("our names are text").to_owned()
    };
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let members = packages.map(|package| {
        let manifest = package["manifest_path"].as_str().expect("a manifest");
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        // What only tests use makes no arrow.
        let dependencies = dependencies.filter(|dependency| dependency["kind"] != "dev");
        Member {
            folder: folder_of(manifest.strip_suffix("/Cargo.toml").expect("a manifest")),
            uses: dependencies
                .map(|dependency| {
                    let name = dependency["name"].as_str().expect("a name").to_owned();
                    (name, dependency["path"].as_str().map(folder_of))
                })
                .collect(),
        }
    });
    members.collect()
}

#[test]
fn arrows_point_one_way() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut complaints = Vec::new();
    for member in members() {
        let Some(allowed) = arrows.get(member.folder.as_str()) else {
            complaints.push(format!("{} has no row in ARROWS: whom may it know?", member.folder));
            continue;
        };
        for folder in member.uses.iter().filter_map(|(_, folder)| folder.as_deref()) {
            let is_allowed = allowed.iter().any(|known| {
                folder == *known || folder.strip_prefix(known).is_some_and(|rest| rest.starts_with('/'))
            });
            if !is_allowed {
                complaints.push(format!("{} may not know {folder}", member.folder));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn every_arrow_is_of_a_crate_that_exists() {
    let folders: BTreeSet<_> = members().into_iter().map(|member| member.folder).collect();
    for (folder, _) in ARROWS {
        assert!(folders.contains(*folder), "{folder} is in ARROWS, but not in the workspace");
    }
}

#[test]
fn the_core_is_built_on_little() {
    let mut complaints = Vec::new();
    for member in members().iter().filter(|member| member.folder.starts_with("core/")) {
        for (name, folder) in &member.uses {
            if folder.is_none() && !CORE_USES.contains(&name.as_str()) {
                complaints.push(format!("{} may not use {name}", member.folder));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn a_foreign_crate_is_named_where_it_belongs() {
    let mut complaints = Vec::new();
    for member in members() {
        for (name, _) in &member.uses {
            let reserved = RESERVED.iter().find(|(reserved, _)| reserved == name);
            if reserved.is_some_and(|(_, homes)| !homes.contains(&member.folder.as_str())) {
                complaints.push(format!("{} may not use {name}", member.folder));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn versions_and_lints_stand_in_the_root_manifest() {
    let mut complaints = Vec::new();
    for member in members() {
        let path = format!("{}/Cargo.toml", member.folder);
        let manifest: toml::Table = text(&path).parse().expect(&path);
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = manifest.get(table).and_then(toml::Value::as_table);
            for (name, dependency) in dependencies.into_iter().flatten() {
                if dependency.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    complaints.push(format!("{path}: {name} is not `workspace = true`"));
                }
            }
        }
        let lints = manifest.get("lints");
        let inherits = lints.and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        // The allocator's crate is the one that may say `unsafe`.
        if inherits != Some(true) && member.folder != "operate/memory" {
            complaints.push(format!("{path}: the lints of the workspace are not inherited"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn the_core_denies_what_its_clippy_toml_lists() {
    for (folder, _) in ARROWS.iter().filter(|(folder, _)| folder.starts_with("core/")) {
        let lib = text(&format!("{folder}/src/lib.rs"));
        for lint in ["disallowed_macros", "disallowed_methods", "disallowed_types", "iter_over_hash_type"] {
            let opening = lib.split("#![deny(").nth(1).and_then(|rest| rest.split(")]").next());
            let is_denied = opening.is_some_and(|denied| denied.contains(&format!("clippy::{lint}")));
            assert!(is_denied, "{folder}/src/lib.rs must deny clippy::{lint}");
        }
    }
    let bans: toml::Table = text("core/clippy.toml").parse().expect("core/clippy.toml");
    for list in ["disallowed-macros", "disallowed-methods", "disallowed-types"] {
        for ban in bans[list].as_array().expect(list) {
            let reason = ban.get("reason").and_then(toml::Value::as_str).unwrap_or_default();
            assert!(!reason.is_empty(), "core/clippy.toml: {ban} needs a reason");
        }
    }
}

#[test]
fn the_core_says_about_tests_what_the_workspace_says() {
    let of = |path| text(path).parse::<toml::Table>().expect(path);
    let of_core = of("core/clippy.toml");
    for (name, value) in of("clippy.toml") {
        assert_eq!(of_core.get(&name), Some(&value), "core/clippy.toml hides clippy.toml: repeat {name}");
    }
}
