//! How problems with documents are printed.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use naru_spec::{Problem, Severity, code};

use crate::cli::{Failure, Output};
use crate::say::say;

/// The text of a document by its name, where it is at hand.
pub type Texts<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

/// Prints problems to where errors go; as JSON to where answers go, one array.
pub fn print(problems: &[Problem], texts: Texts<'_>, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => {
            let is_coloured = is_coloured();
            for problem in problems {
                naru_say::say!("{}", render(problem, texts, is_coloured));
            }
            Ok(())
        }
        Output::Json => {
            let all: Vec<_> = problems.iter().map(to_json).collect();
            say(&format!("{}\n", serde_json::Value::Array(all)))
        }
    }
}

/// Whether whoever reads errors sees colours.
pub fn is_coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Says of files that are no documents, as an Envoy bootstrap, that they are passed over.
pub fn tell_passed_over(problems: &[Problem]) {
    let is_none =
        |problem: &&Problem| problem.code == code::UNSUPPORTED_KIND && problem.severity == Severity::Note;
    for problem in problems.iter().filter(is_none) {
        naru_say::say!("naru: {}:{}: {}", problem.file, problem.line, problem.message);
    }
}

/// Prints them as the reason to do nothing.
pub fn refuse(problems: &[Problem], texts: Texts<'_>, output: Output) -> Failure {
    match print(problems, texts, output) {
        Ok(()) => Failure::Told,
        Err(error) => error.into(),
    }
}

/// `2 errors, 1 warning`; empty where there is nothing.
pub fn count(problems: &[Problem]) -> String {
    let of = |severity, one: &str| {
        let count = problems.iter().filter(|problem| problem.severity == severity).count();
        (count > 0).then(|| format!("{count} {one}{}", if count == 1 { "" } else { "s" }))
    };
    let parts = [of(Severity::Error, "error"), of(Severity::Warning, "warning"), of(Severity::Note, "note")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// In the style of rustc: the problem, the line that it is about, and what to do.
pub fn render(problem: &Problem, texts: Texts<'_>, is_coloured: bool) -> String {
    let plain = problem.to_string();
    let mut lines = plain.lines();
    let mut out = String::new();
    let head = lines.next().unwrap_or("");
    if is_coloured {
        let colour = match problem.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Note => "1;36",
        };
        let (severity, rest) = head.split_once(':').unwrap_or((head, ""));
        let _ = writeln!(out, "\x1b[{colour}m{severity}\x1b[0m\x1b[1m:{rest}\x1b[0m");
    } else {
        let _ = writeln!(out, "{head}");
    }
    for line in lines {
        let _ = writeln!(out, "{line}");
        if line.starts_with("  --> ") {
            out.push_str(&snippet(problem, texts).unwrap_or_default());
        }
    }
    out
}

/// The line of the document, with a mark below it.
fn snippet(problem: &Problem, texts: Texts<'_>) -> Option<String> {
    const WIDTH_MAX: usize = 160;
    let line = texts(&problem.file)?.lines().nth(usize::try_from(problem.line).ok()?.checked_sub(1)?)?;
    if line.chars().count() > WIDTH_MAX || line.chars().any(|c| c.is_control() && c != '\t') {
        return None;
    }
    let column = usize::try_from(problem.column).ok()?.saturating_sub(1);
    let number = problem.line.to_string();
    let margin = " ".repeat(number.len());
    // A tab stays a tab, so that the mark stands below its place.
    let before: String = line.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let marked = line.chars().skip(column).take_while(|c| !matches!(c, ' ' | ',' | '}' | ']' | '#')).count();
    let mark = "^".repeat(marked.max(1));
    Some(format!("   {margin} |\n   {number} | {line}\n   {margin} | {before}{mark}\n"))
}

pub fn to_json(problem: &Problem) -> serde_json::Value {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    serde_json::json!({
        "severity": severity,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
    })
}
