//! Documents as text: in the order in which they are built, quoted where it is needed.

use std::fmt::Write as _;

/// A mapping; its keys keep their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Map(Vec<(String, Value)>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<Value>),
    Map(Map),
}

impl Map {
    pub fn new() -> Map {
        Map::default()
    }

    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Map {
        self.0.push((key.into(), value.into()));
        self
    }

    /// Without what is not there, and without empty lists and mappings.
    pub fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Map {
        match value.map(Into::into) {
            None => self,
            Some(Value::List(list)) if list.is_empty() => self,
            Some(Value::Map(map)) if map.is_empty() => self,
            Some(value) => self.with(key, value),
        }
    }

    /// What the other says stands behind what this says.
    pub fn and(mut self, other: Map) -> Map {
        self.0.extend(other.0);
        self
    }

    /// Joins the value to that of the key, where there is one: a list of a header's values.
    pub fn with_one(mut self, key: impl Into<String>, value: impl Into<String>) -> Map {
        let (key, value) = (key.into(), value.into());
        if let Some((_, Value::Text(before))) = self.0.iter_mut().find(|(known, _)| *known == key) {
            before.push_str(", ");
            before.push_str(&value);
            return self;
        }
        self.with(key, value)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn print(&self) -> String {
        let mut out = String::new();
        self.write(0, &mut out);
        out
    }

    /// Begins where the first key stands; the others stand below it.
    fn write(&self, indent: usize, out: &mut String) {
        if self.is_empty() {
            out.push_str("{}\n");
        }
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                let _ = write!(out, "{:indent$}", "");
            }
            let _ = write!(out, "{}:", scalar(key));
            match value {
                Value::Map(map) if !map.is_empty() => {
                    let _ = write!(out, "\n{:width$}", "", width = indent + 2);
                    map.write(indent + 2, out);
                }
                Value::List(list) if !list.is_empty() => {
                    out.push('\n');
                    for item in list {
                        let _ = write!(out, "{:indent$}- ", "");
                        item.write(indent + 2, out);
                    }
                }
                value => {
                    out.push(' ');
                    value.write(indent, out);
                }
            }
        }
    }
}

impl Value {
    fn write(&self, indent: usize, out: &mut String) {
        let _ = match self {
            Value::Map(map) => return map.write(indent, out),
            Value::List(items) => {
                // A list within a list does not occur but as plain texts.
                let items: Vec<String> = items.iter().map(Value::inline).collect();
                writeln!(out, "[{}]", items.join(", "))
            }
            value => writeln!(out, "{}", value.inline()),
        };
    }

    fn inline(&self) -> String {
        match self {
            Value::Text(text) => scalar(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::List(items) => {
                format!("[{}]", items.iter().map(Value::inline).collect::<Vec<_>>().join(", "))
            }
            Value::Map(map) => {
                let pairs = map.0.iter().map(|(key, value)| format!("{}: {}", scalar(key), value.inline()));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Plain where every reader of YAML sees the same text, quoted otherwise.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let is_printable = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    if text.chars().all(is_printable) && (text.contains(['"', '\\']) || !text.contains('\'')) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\n' => write!(out, "\\n"),
            '\t' => write!(out, "\\t"),
            c if !is_printable(c) => write!(out, "\\u{:04x}", u32::from(c)),
            c => write!(out, "{c}"),
        };
    }
    out.push('"');
    out
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let lower = text.to_ascii_lowercase();
    let is_inner = |c: char| c.is_alphanumeric() || "/_.-+=@:() ".contains(c);
    text.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '_')
        && text.chars().all(is_inner)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !WORDS.contains(&lower.as_str())
        && !matches!(lower.as_str(), "inf" | "nan")
        || is_amount(text)
}

/// `500m`, `10s`, `1.2.3.4`: begins with a digit, and can be no number and no date.
fn is_amount(text: &str) -> bool {
    let is_address = text.split('.').count() == 4 && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let is_unit = ["s", "ms", "m", "h", "Ki", "Mi", "Gi"].contains(&unit);
    is_address || is_unit && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Number(number.into())
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Value {
        Value::Map(map)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Value {
        Value::List(list.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_doc::tree::{self, Kind};
    use proptest::prelude::{ProptestConfig, any, proptest};

    #[test]
    fn a_text_is_quoted_where_it_would_be_something_else() {
        let check = |text: &str, expected: &str| assert_eq!(scalar(text), expected);
        check("user-service", "user-service");
        check("/api/users", "/api/users");
        check("10s", "10s");
        check("500m", "500m");
        check("10.0.0.1", "10.0.0.1");
        check("*", "'*'");
        check("true", "'true'");
        check("No", "'No'");
        check("80", "'80'");
        check("1e3", "'1e3'");
        check("", "''");
        check("it's", "\"it's\"");
        check(r"^/a\.php$", r"'^/a\.php$'");
        check("a: b", "'a: b'");
        check("a\nb", "\"a\\nb\"");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn every_text_is_read_back_as_it_was(text in any::<String>()) {
            let printed = Map::new().with("a", text.as_str()).with("b", vec![text.as_str()]).print();
            let node = tree::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error:?}"));
            let Kind::Map(entries) = &node.kind else { panic!("{node:?}") };
            let Kind::Text(read) = &entries[0].node.kind else { panic!("{printed}: {node:?}") };
            assert_eq!(*read, text, "{printed}");
            let Kind::List(items) = &entries[1].node.kind else { panic!("{node:?}") };
            assert!(matches!(&items[0].kind, Kind::Text(read) if *read == text), "{printed}");
        }
    }
}
