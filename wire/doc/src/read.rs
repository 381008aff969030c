//! From the tree of a document to plain data.
//!
//! Every field that is there and is known is read, so that all problems are told at once; one that
//! nobody knows is an error with a suggestion.

use std::fmt::Display;
use std::time::Duration;

use base64::Engine as _;
use naru_resource::{FileId, Place, Placed};
use naru_spec::{Path, Problem, Severity, code};

use crate::tree::{Entry, Kind, Node, Position};
use naru_spec::suggest::did_you_mean;

/// Nobody reads more of them.
const PROBLEMS_MAX: usize = 1_000;

/// Something that can be read from a value.
pub(crate) trait Read: Sized {
    /// Whether it is a text and nothing else.
    const IS_TEXT: bool = false;

    /// `None` where it cannot be; the reason has been told.
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    /// What it is where nothing is written; `None` where something must be.
    fn absent() -> Option<Self> {
        None
    }
}

/// Reads one file, and collects what is wrong with it.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub file: FileId,
    pub file_name: &'a str,
    /// The document is one of protobuf's, where an empty text says as much as none.
    pub takes_empty_for_none: bool,
    problems: Vec<Problem>,
    left_out: usize,
}

impl<'a> Reader<'a> {
    pub fn new(file: FileId, file_name: &'a str) -> Reader<'a> {
        Reader { file, file_name, takes_empty_for_none: false, problems: Vec::new(), left_out: 0 }
    }

    pub fn place(&self, position: Position) -> Place {
        Place { file: self.file, line: position.line, column: position.column }
    }

    pub fn error(
        &mut self,
        code: &'static str,
        position: Position,
        path: &Path<'_>,
        message: impl Display,
        hint: impl Display,
    ) {
        self.tell(Severity::Error, code, position, path, message, hint);
    }

    pub fn tell(
        &mut self,
        severity: Severity,
        code: &'static str,
        position: Position,
        path: &Path<'_>,
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
            file: self.file_name.to_owned(),
            line: position.line,
            column: position.column,
            path: path.to_string(),
        });
    }

    pub fn wrong_type(&mut self, node: &Node, path: &Path<'_>, expected: &str) {
        let hint = match (&node.kind, expected) {
            (Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_), "text") => "write it in quotation marks",
            _ => "",
        };
        let message = format!("expected {expected}, found {}", found(node));
        self.error(code::WRONG_TYPE, node.position, path, message, hint);
    }

    pub fn into_problems(mut self) -> Vec<Problem> {
        if self.left_out > 0 {
            let message = format!("{} more problems are left out", self.left_out);
            self.problems.push(Problem {
                severity: Severity::Error,
                code: code::MORE,
                message,
                hint: String::new(),
                file: self.file_name.to_owned(),
                line: 0,
                column: 0,
                path: String::new(),
            });
        }
        self.problems
    }
}

/// A value in words.
fn found(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Integer(number) => format!("the number {number}"),
        Kind::Float(number) => format!("the number {number}"),
        Kind::Text(text) => format!("the text '{}'", text.chars().take(40).collect::<String>()),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
    }
}

/// The fields of a mapping, each to be taken once.
pub(crate) struct Fields<'n, 'p> {
    entries: &'n [Entry],
    taken: Vec<bool>,
    known: Vec<&'static str>,
    path: &'p Path<'p>,
    position: Position,
}

impl<'n, 'p> Fields<'n, 'p> {
    pub fn of(node: &'n Node, path: &'p Path<'p>, reader: &mut Reader<'_>) -> Option<Fields<'n, 'p>> {
        let entries = match &node.kind {
            Kind::Map(entries) => entries.as_slice(),
            _ => {
                reader.wrong_type(node, path, "a mapping");
                return None;
            }
        };
        let taken = vec![false; entries.len()];
        Some(Fields { entries, taken, known: Vec::new(), path, position: node.position })
    }

    pub fn place(&self, reader: &Reader<'_>) -> Place {
        reader.place(self.position)
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| is_spelling(&entry.key, name))
    }

    /// The entry of a field, which is known from now on.
    pub fn entry(&mut self, name: &'static str, reader: &mut Reader<'_>) -> Option<&'n Entry> {
        self.known.push(name);
        let mut found: Option<&'n Entry> = None;
        for (at, entry) in self.entries.iter().enumerate() {
            if !is_spelling(&entry.key, name) {
                continue;
            }
            if let Some(taken) = self.taken.get_mut(at) {
                *taken = true;
            }
            if found.is_some() {
                let message = format!("the field '{name}' is there twice, in two spellings");
                let path = self.path.field(name);
                reader.error(code::CONFLICTING_FIELDS, entry.key_position, &path, message, "");
            } else {
                found = Some(entry);
            }
        }
        found
    }

    pub fn take<T: Read>(&mut self, name: &'static str, reader: &mut Reader<'_>) -> Option<T> {
        let takes_empty = T::IS_TEXT && reader.takes_empty_for_none;
        let is_none = |kind: &Kind| match kind {
            Kind::Null => true,
            Kind::Text(text) => takes_empty && text.is_empty(),
            _ => false,
        };
        let is_said = |entry: &&Entry| !is_none(&entry.node.kind);
        match self.entry(name, reader).filter(is_said) {
            Some(entry) => T::read(&entry.node, &self.path.field(name), reader),
            None => T::absent().or_else(|| {
                let message = format!("the field '{name}' is missing");
                reader.error(code::MISSING_FIELD, self.position, self.path, message, "");
                None
            }),
        }
    }

    /// A field that was once written `old` is read all the same, and told.
    pub fn renamed(&mut self, old: &'static str, new: &'static str, why: &str, reader: &mut Reader<'_>) {
        let Some(at) = self.entries.iter().position(|entry| entry.key == old) else { return };
        let entry = &self.entries[at];
        let path = self.path.field(old);
        let (message, hint) = if self.has(new) {
            if let Some(taken) = self.taken.get_mut(at) {
                *taken = true;
            }
            (format!("'{old}' has no effect beside '{new}'"), "remove it".to_owned())
        } else {
            (format!("'{old}' is read as '{new}': {why}"), format!("write '{new}'"))
        };
        reader.tell(Severity::Warning, code::LEGACY_NAME, entry.key_position, &path, message, hint);
    }

    /// As [`Fields::take`], under the old name where the new one is not there.
    pub fn take_renamed<T: Read>(
        &mut self,
        new: &'static str,
        old: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<T> {
        if self.has(new) || !self.has(old) {
            return self.take(new, reader);
        }
        self.known.push(new);
        self.take(old, reader)
    }

    /// Fields that are known, and mean nothing here: the names of those that are there.
    pub fn pass_by(&mut self, names: &[&'static str], reader: &mut Reader<'_>) -> Vec<Placed<String>> {
        let mut found = Vec::new();
        for name in names {
            if let Some(entry) = self.entry(name, reader) {
                found.push(Placed { value: (*name).to_owned(), place: reader.place(entry.key_position) });
            }
        }
        found
    }

    /// Tells of every field that naru does not act on, and that its author may say all the same.
    pub fn leave(self, whose: &str, reader: &mut Reader<'_>) {
        for (entry, _) in self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            let message = format!("naru does not act on '{}' {whose}", entry.key);
            let path = self.path.field(&entry.key);
            reader.tell(Severity::Warning, code::NOT_YET, entry.key_position, &path, message, "");
        }
    }

    /// Tells of every field that nobody has asked for.
    pub fn finish(self, reader: &mut Reader<'_>) {
        for (entry, _) in self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            let message = format!("there is no field '{}' here", entry.key);
            let hint = did_you_mean(&entry.key, self.known.iter().copied());
            let path = self.path.field(&entry.key);
            reader.error(code::UNKNOWN_FIELD, entry.key_position, &path, message, hint);
        }
    }
}

/// Whether a key is a field's lowerCamelCase name, or its name in the proto.
fn is_spelling(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    if !key.contains('_') {
        return false;
    }
    let mut rest = name.chars();
    for c in key.chars().filter(|c| *c != '_') {
        match rest.next() {
            Some(expected) if expected.eq_ignore_ascii_case(&c) => {}
            _ => return false,
        }
    }
    rest.next().is_none() && !key.chars().any(|c| c.is_ascii_uppercase())
}

/// Reads plain data from a mapping: `Type { field: "key", .. }`. After `or`: old names of keys
/// that are read as others, and why. After `beside`: what is not written there.
macro_rules! record {
    ($type:ty { $($field:ident: $key:literal $(or $old:literal, $why:literal)?),* $(,)? }
        $(beside { $($extra:ident: $value:expr),* })?) => {
        impl $crate::read::Read for $type {
            fn read(
                node: &$crate::tree::Node,
                path: &naru_spec::Path<'_>,
                reader: &mut $crate::read::Reader<'_>,
            ) -> Option<Self> {
                #[allow(unused_mut, reason = "there are objects without fields")]
                let mut fields = $crate::read::Fields::of(node, path, reader)?;
                let place = fields.place(reader);
                $($(fields.renamed($old, $key, $why, reader);)?)*
                $(let $field = record!(@take fields, reader, $key $(, $old)?);)*
                fields.finish(reader);
                Some(Self { place, $($field: $field?,)* $($($extra: $value,)*)? })
            }
        }
    };
    (@take $fields:ident, $reader:ident, $key:literal) => { $fields.take($key, $reader) };
    (@take $fields:ident, $reader:ident, $key:literal, $old:literal) => {
        $fields.take_renamed($key, $old, $reader)
    };
}

/// Reads one of some words: `Type { "WORD" => Value, .. }`. After `or`: words of old.
macro_rules! words {
    ($type:ty { $($word:literal => $value:expr),* $(,)? } $(or { $($old:literal => $new:literal),* })?) => {
        impl $crate::read::Scalar for $type {
            fn scalar(
                node: &$crate::tree::Node,
                path: &naru_spec::Path<'_>,
                reader: &mut $crate::read::Reader<'_>,
            ) -> Option<Self> {
                let word = <String as $crate::read::Scalar>::scalar(node, path, reader)?;
                $($(
                    if word == $old {
                        let message = concat!("'", $old, "' is an old name of '", $new, "', and read as that");
                        let hint = concat!("write '", $new, "'");
                        let code = naru_spec::code::LEGACY_NAME;
                        reader.tell(naru_spec::Severity::Warning, code, node.position, path, message, hint);
                    }
                )*)?
                let word = match word.as_str() {
                    $($($old => $new,)*)?
                    word => word,
                };
                match word {
                    $($word => Some($value),)*
                    word => {
                        const WORDS: &[&str] = &[$($word),*];
                        $crate::read::unknown_word(word, WORDS, node, path, reader);
                        None
                    }
                }
            }
        }
    };
}

pub(crate) use {record, words};

pub(crate) fn unknown_word(
    word: &str,
    words: &[&'static str],
    node: &Node,
    path: &Path<'_>,
    reader: &mut Reader<'_>,
) {
    let suggestion = did_you_mean(word, words.iter().copied());
    let hint = if suggestion.is_empty() { format!("one of {}", words.join(", ")) } else { suggestion };
    reader.error(code::UNKNOWN_VALUE, node.position, path, format!("'{word}' is not known here"), hint);
}

/// A single value.
pub(crate) trait Scalar: Sized {
    const IS_TEXT: bool = false;

    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self>;
}

impl<T: Scalar> Read for Placed<T> {
    const IS_TEXT: bool = T::IS_TEXT;

    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Placed<T>> {
        let value = T::scalar(node, path, reader)?;
        Some(Placed { value, place: reader.place(node.position) })
    }
}

impl<T: Read> Read for Option<T> {
    const IS_TEXT: bool = T::IS_TEXT;

    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Option<T>> {
        T::read(node, path, reader).map(Some)
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Vec<T>> {
        let Kind::List(items) = &node.kind else {
            reader.wrong_type(node, path, "a list");
            return None;
        };
        let read: Vec<Option<T>> =
            items.iter().enumerate().map(|(at, item)| T::read(item, &path.at(at), reader)).collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Vec<T>> {
        Some(Vec::new())
    }
}

/// A mapping from names to values, in the order of the document.
impl<T: Read> Read for Vec<(Placed<String>, T)> {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Vec<(Placed<String>, T)>> {
        let Kind::Map(entries) = &node.kind else {
            reader.wrong_type(node, path, "a mapping");
            return None;
        };
        let read = entries.iter().map(|entry| {
            let key = Placed { value: entry.key.clone(), place: reader.place(entry.key_position) };
            Some((key, T::read(&entry.node, &path.key(&entry.key), reader)?))
        });
        let read: Vec<Option<_>> = read.collect();
        read.into_iter().collect()
    }

    fn absent() -> Option<Vec<(Placed<String>, T)>> {
        Some(Vec::new())
    }
}

impl Scalar for String {
    const IS_TEXT: bool = true;

    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<String> {
        match &node.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => {
                reader.wrong_type(node, path, "text");
                None
            }
        }
    }
}

impl Scalar for bool {
    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<bool> {
        match &node.kind {
            Kind::Bool(value) => Some(*value),
            _ => {
                reader.wrong_type(node, path, "true or false");
                None
            }
        }
    }
}

/// Base64.
impl Scalar for Vec<u8> {
    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Vec<u8>> {
        let text = String::scalar(node, path, reader)?;
        let joined: String = text.split_ascii_whitespace().collect();
        let decoded = base64::engine::general_purpose::STANDARD.decode(joined).ok();
        if decoded.is_none() {
            reader.error(code::INVALID_VALUE, node.position, path, "the value is not base64", "");
        }
        decoded
    }
}

impl Scalar for i64 {
    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<i64> {
        let number = match &node.kind {
            Kind::Integer(number) => i64::try_from(*number).ok(),
            // As protobuf's JSON takes them.
            Kind::Text(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            reader.wrong_type(node, path, "a whole number");
        }
        number
    }
}

impl Scalar for f64 {
    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<f64> {
        match &node.kind {
            Kind::Integer(number) => Some(*number as f64),
            Kind::Float(number) if number.is_finite() => Some(*number),
            _ => {
                reader.wrong_type(node, path, "a number");
                None
            }
        }
    }
}

impl Scalar for Duration {
    fn scalar(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
        let hint = "write 5s, 250ms, 1.5s, 1m30s";
        match &node.kind {
            Kind::Text(text) => {
                let duration = duration(text);
                if duration.is_none() {
                    let message = format!("'{text}' is not a length of time");
                    reader.error(code::INVALID_VALUE, node.position, path, message, hint);
                }
                duration
            }
            _ => {
                let message = format!("expected a length of time, found {}", found(node));
                reader.error(code::WRONG_TYPE, node.position, path, message, hint);
                None
            }
        }
    }
}

/// Go's spelling of durations, without a sign: `1h2m3.5s`, `250ms`. `0` needs no unit.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let of_fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(scale)?)?;
        nanos = nanos.checked_add(of_fraction * scale / 10_u128.pow(fraction.len() as u32))?;
        rest = next;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok().filter(|_| !text.is_empty())?;
    // Protobuf's own limit, 10,000 years.
    (seconds <= 315_576_000_000).then(|| Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text), expected.map(Duration::from_micros), "{text}");
        };
        check("5s", Some(5_000_000));
        check("1.5s", Some(1_500_000));
        check(".5s", Some(500_000));
        check("250ms", Some(250_000));
        check("1h2m3s", Some(3_723_000_000));
        check("1m30s", Some(90_000_000));
        check("10us", Some(10));
        check("0s", Some(0));
        check("0", Some(0));
        for wrong in ["", "5", "s", "5 s", "-5s", "5sec", "1.2.3s", "99999999999999999999999999s", "1s1"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_name_may_be_written_as_in_the_proto() {
        assert!(is_spelling("direct_response", "directResponse"));
        assert!(is_spelling("http1_max_pending_requests", "http1MaxPendingRequests"));
        assert!(is_spelling("consecutive_5xx_errors", "consecutive5xxErrors"));
        for wrong in ["Direct_Response", "direct_respons", "direct_responses", "directresponse", "_"] {
            assert!(!is_spelling(wrong, "directResponse"), "{wrong}");
        }
    }
}
