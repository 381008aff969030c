//! Collects what is wrong with resources, each finding with its place.

use std::fmt::Display;

use naru_resource::{Files, Place};
use naru_spec::{Path, Problem, Severity};

#[derive(Debug)]
pub(crate) struct Findings<'a> {
    files: &'a Files,
    problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub fn new(files: &'a Files) -> Findings<'a> {
        Findings { files, problems: Vec::new() }
    }

    pub fn locate(&self, place: Place) -> String {
        self.files.locate(place)
    }

    /// Whether an error is told there.
    pub fn has_error_at(&self, place: Place) -> bool {
        let file = self.files.name(place.file);
        let is_there = |problem: &Problem| (problem.line, problem.column) == (place.line, place.column);
        self.problems.iter().any(|problem| problem.is_error() && is_there(problem) && problem.file == file)
    }

    pub fn error(
        &mut self,
        code: &'static str,
        place: Place,
        path: &Path<'_>,
        message: impl Display,
        hint: impl Display,
    ) {
        self.tell(Severity::Error, code, place, path, message, hint);
    }

    pub fn warning(
        &mut self,
        code: &'static str,
        place: Place,
        path: &Path<'_>,
        message: impl Display,
        hint: impl Display,
    ) {
        self.tell(Severity::Warning, code, place, path, message, hint);
    }

    pub fn tell(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Place,
        path: &Path<'_>,
        message: impl Display,
        hint: impl Display,
    ) {
        self.problems.push(Problem {
            severity,
            code,
            message: message.to_string(),
            hint: hint.to_string(),
            file: self.files.name(place.file).to_owned(),
            line: place.line,
            column: place.column,
            path: path.to_string(),
        });
    }

    /// What somebody else has found.
    pub fn adopt(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// In the order of files and lines, each told once.
    pub fn into_problems(mut self) -> Vec<Problem> {
        settle(&mut self.problems);
        self.problems
    }
}

pub(crate) fn settle(problems: &mut Vec<Problem>) {
    problems.sort_by(|a, b| {
        (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
    });
    problems.dedup();
}
