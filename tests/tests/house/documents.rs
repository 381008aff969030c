//! Documents that say what is there.

use std::collections::BTreeSet;
use std::path::Path;

use naru_spec::Format;

use crate::workspace::{assert_none, files, root, text};

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What stands in a document: its headings' levels, and its blocks of code.
#[derive(Debug, Default, PartialEq)]
struct Skeleton {
    headings: Vec<usize>,
    blocks: Vec<String>,
}

fn skeleton(document: &str) -> Skeleton {
    let mut skeleton = Skeleton::default();
    let mut block: Option<String> = None;
    for line in document.lines() {
        match &mut block {
            Some(_) if line.trim_start().starts_with("```") => skeleton.blocks.extend(block.take()),
            Some(block) => block.extend([line, "\n"]),
            None if line.trim_start().starts_with("```") => block = Some(format!("{}\n", line.trim())),
            None if line.starts_with('#') => {
                skeleton.headings.push(line.chars().take_while(|c| *c == '#').count());
            }
            None => {}
        }
    }
    skeleton
}

#[test]
fn the_readme_is_the_same_in_both_languages() {
    let english = skeleton(&text("README.md"));
    assert!(!english.headings.is_empty() && !english.blocks.is_empty());
    assert_eq!(english, skeleton(&text("README.ko.md")));
}

#[test]
fn every_decision_is_listed() {
    let index = text("docs/adr/README.md");
    let decisions = files("docs/adr", &["md"]);
    assert!(decisions.len() > 1, "where are the decisions?");
    for name in decisions.iter().map(|path| name_of(path)).filter(|name| *name != "README.md") {
        assert!(index.contains(&format!("]({name})")), "docs/adr/README.md does not link to {name}");
    }
}

#[test]
fn links_lead_to_files_that_exist() {
    let mut complaints = Vec::new();
    for file in files(".", &["md"]) {
        let text = text(&file);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_elsewhere =
                target.contains("://") || target.starts_with('#') || target.starts_with("mailto:");
            if is_elsewhere {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(&file).parent().expect("a file is in a folder");
            if !root().join(folder).join(path).exists() {
                complaints.push(format!("{file} links to {target}, which does not exist"));
            }
            if anchor.starts_with('L') && anchor[1..].starts_with(|c: char| c.is_ascii_digit()) {
                complaints.push(format!("{file} links to {target}: lines move, link to the file"));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn the_map_shows_every_crate() {
    let map = text("ARCHITECTURE.md");
    for manifest in files(".", &["toml"]).iter().filter(|path| name_of(path) == "Cargo.toml") {
        let Some((folder, _)) = manifest.rsplit_once('/') else { continue };
        // The fuzz targets are no member, but have their place.
        assert!(map.contains(&format!("`{folder}`")), "ARCHITECTURE.md does not show `{folder}`");
    }
}

#[test]
fn every_operator_of_the_access_log_is_explained() {
    let document = text("docs/access-log.md");
    let source = text("core/spec/src/format.rs");
    let listed = source.split("const PLAIN").nth(1).and_then(|rest| rest.split("];").next());
    let listed = listed.expect("format.rs lists the operators in PLAIN");
    let mut names: BTreeSet<&str> = listed.split('"').skip(1).step_by(2).collect();
    assert!(names.len() > 20, "{names:?}");
    names.extend(["REQ", "RESP", "TRAILER", "GRPC_STATUS"]);
    for name in names {
        let is_explained =
            document.contains(&format!("`%{name}%`")) || document.contains(&format!("`%{name}("));
        assert!(is_explained, "docs/access-log.md does not explain %{name}%");
    }
    // And nothing that is no operator.
    for code in document.split('`').skip(1).step_by(2).filter(|code| code.starts_with('%') && code.len() > 2)
    {
        assert!(Format::parse(code).is_ok(), "docs/access-log.md: {code}");
    }
}

#[test]
fn the_changelog_has_a_place_for_what_comes_next() {
    assert!(text("CHANGELOG.md").contains("## [Unreleased]"));
}
