//! What every source file looks like, and what stands in none.

use crate::workspace::{assert_none, files, text};

/// What separates code that is easy to read from code that is hard is its longest files.
const LINES_MAX: usize = 900;

/// The one place of the data plane where clocks are read, the tools that measure, and the service
/// that only pretends: it is measured itself.
const CLOCK_HOMES: &[&str] = &[
    "proxy/src/clock.rs",
    "control/workloads/src/clock.rs",
    "control/discovery/src/clock.rs",
    "xtask/",
    "bench/",
    "operate/workload/",
];

/// Where each of these libraries may be named within the data plane.
const CODEC: &str = "proxy/src/codec";
const CODEC_LIBRARIES: &[&str] = &["hyper::", "hyper_util::", "h2::"];

/// The same for QUIC, which is more than a codec.
const QUIC: &[&str] = &["proxy/src/quic", "proxy/src/codec/http3"];
const QUIC_LIBRARIES: &[&str] = &["quinn::", "quinn_proto::"];

/// A line of code that is neither a comment nor part of a test.
struct Line {
    file: String,
    number: usize,
    code: String,
}

impl Line {
    fn complain(&self, about: &str) -> String {
        format!("{}:{}: {about}: {}", self.file, self.number, self.code.trim())
    }
}

fn is_test(file: &str) -> bool {
    file.contains("/tests/") || file.starts_with("tests/") || file.ends_with("/tests.rs")
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for file in files(".", &["rs"]).into_iter().filter(|file| !is_test(file)) {
        let text = text(&file);
        // Tests of a module stand at its end.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in (1..).zip(code.lines()) {
            let code = line.split("//").next().unwrap_or_default();
            lines.push(Line { file: file.clone(), number, code: code.to_owned() });
        }
    }
    assert!(lines.len() > 5_000, "where are the sources?");
    lines
}

#[test]
fn no_file_is_too_long() {
    let mut complaints = Vec::new();
    for file in files(".", &["rs", "md", "toml", "yaml", "py"]) {
        let count = text(&file).lines().count();
        if count > LINES_MAX {
            complaints.push(format!("{file} has {count} lines; at most {LINES_MAX} are good to read"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let mut complaints = Vec::new();
    for file in files(".", &["rs"]) {
        let text = text(&file);
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if !first.starts_with("//!") {
            complaints.push(format!("{file} opens with '{first}', not with //!"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn a_folder_of_modules_stands_beside_its_file() {
    let in_sources = files(".", &["rs"]).into_iter().filter(|file| !is_test(file));
    let complaints: Vec<_> = in_sources
        .filter(|file| file.ends_with("/mod.rs"))
        .map(|file| format!("{file}: write foo.rs beside foo/ instead"))
        .collect();
    assert_none(&complaints);
}

#[test]
fn names_are_imported_one_by_one() {
    let globs = lines().into_iter().filter(|line| line.code.contains("use ") && line.code.contains("::*"));
    assert_none(&globs.map(|line| line.complain("a glob import")).collect::<Vec<_>>());
}

#[test]
fn nothing_unfinished_and_no_unwrap_is_left_outside_tests() {
    const WORDS: [&str; 5] = [".unwrap()", "todo!(", "unimplemented!(", "dbg!(", ".unwrap_unchecked()"];
    let mut complaints = Vec::new();
    for line in lines() {
        if let Some(word) = WORDS.iter().find(|word| line.code.contains(**word)) {
            complaints.push(line.complain(word));
        }
    }
    assert_none(&complaints);
}

#[test]
fn clocks_are_read_in_one_place() {
    let mut complaints = Vec::new();
    for line in lines() {
        let is_home = CLOCK_HOMES.iter().any(|home| line.file.starts_with(home));
        if !is_home && (line.code.contains("Instant::now(") || line.code.contains("SystemTime::now(")) {
            complaints.push(line.complain("a clock is read outside proxy/src/clock.rs"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn only_the_codec_names_the_library_that_it_stands_on() {
    let mut complaints = Vec::new();
    for line in lines().iter().filter(|line| line.file.starts_with("proxy/src/")) {
        let names = CODEC_LIBRARIES.iter().any(|library| names_crate(&line.code, library));
        if names && !line.file.starts_with(CODEC) {
            complaints.push(line.complain("outside proxy/src/codec"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn only_quic_names_the_library_that_it_stands_on() {
    let mut complaints = Vec::new();
    for line in lines().iter().filter(|line| line.file.starts_with("proxy/src/")) {
        let names = QUIC_LIBRARIES.iter().any(|library| names_crate(&line.code, library));
        if names && !QUIC.iter().any(|home| line.file.starts_with(home)) {
            complaints.push(line.complain("outside proxy/src/quic and proxy/src/codec/http3"));
        }
    }
    assert_none(&complaints);
}

/// Whether a path in `code` begins with `library`.
fn names_crate(code: &str, library: &str) -> bool {
    code.match_indices(library).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}
