//! How problems with documents are printed.

use naru_spec::{Problem, Severity};

use crate::cli::{Failure, Output};
use crate::say::say;

/// Prints problems to where errors go; as JSON to where answers go, one array.
pub fn print(problems: &[Problem], output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => {
            for problem in problems {
                eprintln!("{problem}\n");
            }
            Ok(())
        }
        Output::Json => {
            let all: Vec<_> = problems.iter().map(to_json).collect();
            say(&format!("{}\n", serde_json::Value::Array(all)))
        }
    }
}

/// Prints them as the reason to do nothing.
pub fn refuse(problems: &[Problem], output: Output) -> Failure {
    match print(problems, output) {
        Ok(()) => Failure::Told,
        Err(error) => error.into(),
    }
}

fn to_json(problem: &Problem) -> serde_json::Value {
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
