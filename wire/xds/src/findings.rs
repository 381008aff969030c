//! Collects what is wrong with a document, each finding with its place.

use std::fmt::Display;

use naru_doc::tree::{Node, Position};
pub use naru_spec::code;
use naru_spec::{Invalid, Path, Problem, Severity};

#[derive(Debug, Default)]
pub(crate) struct Findings<'a> {
    file: String,
    document: Option<&'a Node>,
    problems: Vec<Problem>,
    /// Paths of values that could not be read, so that what follows from that is not told too.
    broken: Vec<String>,
    /// How many problems came after the last that is kept.
    left_out: usize,
}

/// Nobody reads more of them, and a document of a million mistakes should not take a gigabyte.
const PROBLEMS_MAX: usize = 1_000;

impl<'a> Findings<'a> {
    pub fn in_document(file: &str, document: &'a Node) -> Findings<'a> {
        Findings { file: file.to_owned(), document: Some(document), ..Findings::default() }
    }

    pub fn has_errors(&self) -> bool {
        self.left_out > 0 || self.problems.iter().any(Problem::is_error)
    }

    /// In the order of the document.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|p| (p.line, p.column));
        self.problems.dedup();
        if self.left_out > 0 {
            self.problems.push(Problem {
                severity: Severity::Error,
                code: code::MORE,
                message: format!("{} more problems are left out", self.left_out),
                hint: String::new(),
                file: self.file,
                line: 0,
                column: 0,
                path: String::new(),
            });
        }
        self.problems
    }

    /// A value that could not be read at all, or a key that means nothing.
    pub fn unreadable(
        &mut self,
        path: &Path<'_>,
        position: Position,
        code: &'static str,
        message: impl Display,
        hint: impl Display,
    ) {
        let path = path.to_string();
        if self.problems.len() < PROBLEMS_MAX {
            self.broken.push(path.clone());
        }
        self.record(Severity::Error, path, position, code, message, hint);
    }

    pub fn invalid(&mut self, path: &Path<'_>, invalid: Invalid) {
        self.error(path, code::INVALID_VALUE, invalid.message, invalid.hint);
    }

    pub fn missing(&mut self, path: &Path<'_>, message: impl Display) {
        self.error(path, code::MISSING_FIELD, message, "");
    }

    pub fn error(&mut self, path: &Path<'_>, code: &'static str, message: impl Display, hint: impl Display) {
        let position = self.document.map(|d| d.position_of_value(path)).unwrap_or_default();
        self.push(Severity::Error, path, position, code, message, hint);
    }

    /// A field that naru does not act on; points at its key.
    pub fn unsupported(&mut self, path: &Path<'_>, message: impl Display, hint: impl Display) {
        let position = self.document.map(|d| d.position_of_key(path)).unwrap_or_default();
        self.push(Severity::Error, path, position, code::UNSUPPORTED_FIELD, message, hint);
    }

    /// A value of a field that naru does not act on; points at the value.
    pub fn unsupported_value(&mut self, path: &Path<'_>, message: impl Display, hint: impl Display) {
        self.error(path, code::UNSUPPORTED_FIELD, message, hint);
    }

    pub fn warning(
        &mut self,
        path: &Path<'_>,
        code: &'static str,
        message: impl Display,
        hint: impl Display,
    ) {
        let position = self.document.map(|d| d.position_of_key(path)).unwrap_or_default();
        self.push(Severity::Warning, path, position, code, message, hint);
    }

    fn push(
        &mut self,
        severity: Severity,
        path: &Path<'_>,
        position: Position,
        code: &'static str,
        message: impl Display,
        hint: impl Display,
    ) {
        let path = path.to_string();
        if self.follows_from_broken(&path, code) {
            return;
        }
        self.record(severity, path, position, code, message, hint);
    }

    fn record(
        &mut self,
        severity: Severity,
        path: String,
        position: Position,
        code: &'static str,
        message: impl Display,
        hint: impl Display,
    ) {
        if self.problems.len() >= PROBLEMS_MAX {
            self.left_out += 1;
            return;
        }
        self.problems.push(Problem {
            severity,
            code,
            message: message.to_string(),
            hint: hint.to_string(),
            file: self.file.clone(),
            line: position.line,
            column: position.column,
            path,
        });
    }

    /// A value that could not be read is missing everywhere else; that is told once.
    fn follows_from_broken(&self, path: &str, code: &str) -> bool {
        self.broken
            .iter()
            .any(|broken| is_within(path, broken) || (code == code::MISSING_FIELD && is_within(broken, path)))
    }
}

/// Whether `inner` is `outer` or lies below it.
fn is_within(inner: &str, outer: &str) -> bool {
    match inner.strip_prefix(outer) {
        Some(rest) => rest.is_empty() || outer.is_empty() || rest.starts_with(['.', '[']),
        None => false,
    }
}
