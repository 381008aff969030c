//! What the author should know of an import, with its place.

use std::collections::BTreeSet;

use naru_doc::tree::Position;
use naru_spec::{Problem, Severity};

/// The codes of an import's notes: stable names.
pub mod code {
    /// A warning: it is not in what was made.
    pub const NOT_CARRIED_OVER: &str = "not-carried-over";
    /// It is there, and means something else in part.
    pub const DIFFERS: &str = "differs";
    /// A note: naru does so unasked, or has nothing that it could be said of.
    pub const BY_DEFAULT: &str = "by-default";
    /// A note: Kubernetes does not allow the name.
    pub const RENAMED: &str = "renamed";
    /// A note: something is left to do by hand.
    pub const TO_DO: &str = "to-do";
    /// Something was filled in that the file does not say.
    pub const ASSUMED: &str = "assumed";
}

/// Notes on one file.
pub(crate) struct Notes<'a> {
    pub file: &'a str,
    problems: Vec<Problem>,
    told: BTreeSet<(u32, u32, &'static str, String)>,
}

impl<'a> Notes<'a> {
    pub fn new(file: &'a str) -> Notes<'a> {
        Notes { file, problems: Vec::new(), told: BTreeSet::new() }
    }

    /// `nginx.conf:12: upstream users`
    pub fn origin(&self, at: Position, what: &str) -> String {
        let plain = |text: &str| text.replace(char::is_control, " ");
        format!("{}:{}: {}", plain(self.file), at.line, plain(what))
    }

    pub fn warning(&mut self, code: &'static str, at: Position, path: &str, message: String, hint: &str) {
        self.tell(Severity::Warning, code, at, path, message, hint);
    }

    pub fn note(&mut self, code: &'static str, at: Position, path: &str, message: String, hint: &str) {
        self.tell(Severity::Note, code, at, path, message, hint);
    }

    fn tell(
        &mut self,
        severity: Severity,
        code: &'static str,
        at: Position,
        path: &str,
        message: String,
        hint: &str,
    ) {
        // What several locations inherit is told once.
        if at.line > 0 && !self.told.insert((at.line, at.column, code, message.clone())) {
            return;
        }
        self.problems.push(Problem {
            severity,
            code,
            message,
            hint: hint.to_owned(),
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
        });
    }

    pub fn extend(&mut self, problems: Vec<Problem>) {
        self.problems.extend(problems);
    }

    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }
}
