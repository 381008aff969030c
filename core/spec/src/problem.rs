//! What is wrong with a configuration, where, and what to do.

use std::fmt;

/// A value that cannot be. The reader of the document adds the place and makes a [`Problem`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it; empty where the message says it.
    pub hint: String,
}

impl Invalid {
    pub fn new(message: impl Into<String>) -> Invalid {
        Invalid { message: message.into(), hint: String::new() }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Invalid {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Invalid {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration does not take effect.
    Error,
    /// It takes effect; the author should know what it means.
    Warning,
    /// Worth knowing.
    Note,
}

/// One finding about a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// A stable name to search for, in kebab case: `unknown-field`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The file, as the user named it.
    pub file: String,
    /// Line and column from 1; 0 where the document gives no place.
    pub line: u32,
    pub column: u32,
    /// The way to the value: `static_resources.clusters[0].lb_policy`.
    pub path: String,
}

/// The codes of problems: stable names, also for people who search.
pub mod code {
    /// The text is not YAML or JSON, or is too large or too deep.
    pub const SYNTAX: &str = "syntax";
    /// No such field where it stands.
    pub const UNKNOWN_FIELD: &str = "unknown-field";
    /// A number where there should be text, a list where there should be a mapping.
    pub const WRONG_TYPE: &str = "wrong-type";
    /// Not one of the enum's values.
    pub const UNKNOWN_VALUE: &str = "unknown-value";
    /// A value that cannot be.
    pub const INVALID_VALUE: &str = "invalid-value";
    /// Something that must be said and is not.
    pub const MISSING_FIELD: &str = "missing-field";
    /// Two members of one choice, or two spellings of one field.
    pub const CONFLICTING_FIELDS: &str = "conflicting-fields";
    /// A field or value that naru does not act on.
    pub const UNSUPPORTED_FIELD: &str = "unsupported-field";
    /// An extension of Envoy's that naru does not have.
    pub const UNSUPPORTED_EXTENSION: &str = "unsupported-extension";
    /// A route leads to a cluster that is not there.
    pub const UNKNOWN_CLUSTER: &str = "unknown-cluster";
    /// Two things that must differ do not.
    pub const DUPLICATE: &str = "duplicate";
    /// An old name for what has another one now; it is read as that.
    pub const LEGACY_NAME: &str = "legacy-name";
    /// A document of a kind that is not known.
    pub const UNKNOWN_KIND: &str = "unknown-kind";
    /// A warning: a document of a kind that naru does not act on.
    pub const UNSUPPORTED_KIND: &str = "unsupported-kind";
    /// A warning: a field that is read and checked, and does not act yet.
    pub const NOT_YET: &str = "not-yet";
    /// A host that nobody defines.
    pub const UNKNOWN_HOST: &str = "unknown-host";
    /// A route leads to a subset that no DestinationRule defines.
    pub const UNKNOWN_SUBSET: &str = "unknown-subset";
    /// A reference to a document that is not there.
    pub const UNKNOWN_REFERENCE: &str = "unknown-reference";
    /// A port that a service does not have.
    pub const UNKNOWN_PORT: &str = "unknown-port";
    /// A warning: nothing has the labels of a subset.
    pub const EMPTY_SUBSET: &str = "empty-subset";
    /// A warning: no request can get to the rule.
    pub const UNREACHABLE_RULE: &str = "unreachable-rule";
    /// A note: requests for a host go to others.
    pub const ELSEWHERE: &str = "elsewhere";
    /// A note: a Deployment whose containers have no command does not run on this machine.
    pub const NO_COMMAND: &str = "no-command";
    /// Two documents ask for different things.
    pub const CONFLICT: &str = "conflict";
    /// There are more problems than are told.
    pub const MORE: &str = "more-problems";
    /// A warning: an upstream's certificate is accepted whatever it says.
    pub const CERTIFICATE_NOT_VERIFIED: &str = "certificate-not-verified";
    /// A warning: the field means nothing where it stands.
    pub const NO_EFFECT: &str = "no-effect";
    /// A note: it does what it says, and costs more than its author may think.
    pub const COSTLY: &str = "costly";
}

impl Problem {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `error[unknown-field]: message`, then the place, the path and the hint on lines of their own.
/// What a message repeats of a document is shown without what would end a line or move a cursor.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{severity}[{}]: {}", self.code, Visible(&self.message))?;
        if self.line > 0 {
            write!(f, "\n  --> {}:{}:{}", Visible(&self.file), self.line, self.column)?;
        } else if !self.file.is_empty() {
            write!(f, "\n  --> {}", Visible(&self.file))?;
        }
        if !self.path.is_empty() {
            write!(f, "\n  at {}", Visible(&self.path))?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n  help: {}", Visible(&self.hint))?;
        }
        Ok(())
    }
}

/// A text with its control characters written out: `\n`, `\u{1b}`.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            match part.chars().next_back().filter(|last| last.is_control()) {
                Some(last) => {
                    write!(f, "{}{}", &part[..part.len() - last.len_utf8()], last.escape_default())?
                }
                None => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_says_cannot_end_a_line_or_move_the_cursor() {
        let problem = Problem {
            severity: Severity::Error,
            code: "wrong-type",
            message: "found the text 'a\nb\u{1b}[2J나루'".into(),
            hint: String::new(),
            file: "f.yaml".into(),
            line: 1,
            column: 2,
            path: "a.\r".into(),
        };
        let expected =
            "error[wrong-type]: found the text 'a\\nb\\u{1b}[2J나루'\n  --> f.yaml:1:2\n  at a.\\r";
        assert_eq!(problem.to_string(), expected);
    }
}
