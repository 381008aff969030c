//! Every problem that resources have together, with its place.
//!
//! `data/problems.txt` has cases: a title, documents, and what is found wrong with them, line by line.
//! To see what is found now, run with `NARU_WRITE=1`; then read the difference.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test may write down what it finds")]

use naru_plan::{Surroundings, plan};
use naru_spec::Severity;

const CASES: &str = include_str!("data/problems.txt");

fn found(text: &str) -> Vec<String> {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", text, &mut loaded);
    let planned = plan(&loaded.resources, &Surroundings::default());
    let mut problems = loaded.problems;
    problems.extend(planned.problems);
    problems.sort_by_key(|problem| (problem.line, problem.column));
    let lines = problems.iter().map(|problem| {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let hint = if problem.hint.is_empty() { String::new() } else { format!(" ({})", problem.hint) };
        format!(
            "> {severity} {} {}:{} {}: {}{hint}",
            problem.code, problem.line, problem.column, problem.path, problem.message
        )
    });
    lines.collect()
}

#[test]
fn every_problem_is_told_with_its_place() {
    let mut written = String::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in CASES.split("\n=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let documents: String =
            rest.lines().filter(|l| !l.starts_with("> ")).flat_map(|l| [l, "\n"]).collect();
        let expected: Vec<&str> = rest.lines().filter(|line| line.starts_with("> ")).collect();
        let found = found(&documents);
        if found != expected {
            wrong.push(format!("{title}\n{}", found.join("\n")));
        }
        written.push_str(&format!("\n=== {title}\n{}\n{}\n", documents.trim_end(), found.join("\n")));
        count += 1;
    }
    if std::env::var_os("NARU_WRITE").is_some() {
        let head = CASES.split("\n=== ").next().unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/problems.txt");
        std::fs::write(path, format!("{head}{written}")).unwrap();
    }
    assert!(count >= 25, "{count} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
