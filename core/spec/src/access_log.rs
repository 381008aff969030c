//! Where a line for each request goes, and what stands in it.

use crate::Format;

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    pub sink: LogSink,
    pub format: LogFormat,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogSink {
    File(String),
    Stdout,
    Stderr,
    /// The memory of the process: the last of them, as many as there is room for. No document says it.
    Recent,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LogFormat {
    /// As written; a line end is part of the format.
    Text(Format),
    /// One object a line, keys in order.
    Json(Vec<(String, JsonField)>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum JsonField {
    /// A lone operator keeps its type (a number stays a number); an absent value is `null`.
    Value(Format),
    Object(Vec<(String, JsonField)>),
    List(Vec<JsonField>),
    /// A number, a boolean or null, in JSON spelling.
    Literal(String),
}
