//! A YAML (or JSON) document as a tree that knows where everything stands.
//!
//! Comes in: text. Goes out: [`Node`]s with the line and column of every key and value, or what is
//! wrong with the syntax. Size, depth and the expansion of aliases are bounded by `serde-saphyr`'s
//! budget, so that no text can exhaust memory or the stack. Names of fields mean nothing here.

use std::fmt;

use naru_spec::path::Step;
use naru_spec::{Path, Problem, Severity, code};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A bootstrap goes 21 levels deep, and a level costs some kilobytes of stack in a debug build.
const DEPTH_MAX: usize = 40;
/// Ten times what 10,000 routes take.
const NODES_MAX: usize = 4_000_000;
/// What aliases may add to a document.
const REPLAYED_MAX: usize = 100_000;

/// Line and column from 1; 0 where nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

#[derive(Debug)]
pub struct Node {
    pub position: Position,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub struct Entry {
    pub key: String,
    pub key_position: Position,
    pub node: Node,
}

/// A document that could not be read.
#[derive(Debug)]
pub struct SyntaxError {
    pub message: String,
    pub position: Position,
}

impl SyntaxError {
    pub fn into_problem(self, file: &str) -> Problem {
        Problem {
            severity: Severity::Error,
            code: code::SYNTAX,
            message: self.message,
            hint: String::new(),
            file: file.to_owned(),
            line: self.position.line,
            column: self.position.column,
            path: String::new(),
        }
    }
}

/// The only document of a text.
///
/// # Errors
/// It is no YAML, too much of it, or several documents.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let spanned: Spanned<Kind> = serde_saphyr::from_str_with_options(text, options()).map_err(syntax)?;
    Ok(spanned.into())
}

/// Every document of a text, in order. One that is empty is left out.
///
/// # Errors
/// The text is no YAML, or too much of it.
pub fn parse_all(text: &str) -> Result<Vec<Node>, SyntaxError> {
    let spanned: Vec<Spanned<Kind>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(syntax)?;
    Ok(spanned.into_iter().map(Node::from).filter(|node| !matches!(node.kind, Kind::Null)).collect())
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: REPLAYED_MAX },
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
    }
}

fn syntax(error: serde_saphyr::Error) -> SyntaxError {
    let message = error.without_snippet().to_string();
    let position = error.location().map_or_else(|| told_position(&message), position);
    SyntaxError { message: one_sentence(&message), position }
}

/// Errors of our own carry their place in their last words: [`misplaced`].
fn told_position(message: &str) -> Position {
    let told = message.lines().next().and_then(|line| line.rsplit_once(" at line "));
    let numbers = told.and_then(|(_, place)| place.split_once(" column "));
    let parse = |(line, column): (&str, &str)| Some((line.parse().ok()?, column.parse().ok()?));
    numbers.and_then(parse).map(|(line, column)| Position { line, column }).unwrap_or_default()
}

fn misplaced<E: serde::de::Error>(message: &str, Position { line, column }: Position) -> E {
    E::custom(format_args!("{message} at line {line} column {column}"))
}

/// The first line, without the place that serde-saphyr puts into it.
fn one_sentence(message: &str) -> String {
    if message.contains("multiple YAML documents") {
        return "there are several documents in the file, one is expected".to_owned();
    }
    let line = message.lines().next().unwrap_or_default();
    let line = match line.strip_prefix("error: ").unwrap_or(line) {
        placed if placed.starts_with("line ") => placed.split_once(": ").map_or(placed, |(_, rest)| rest),
        plain => plain,
    };
    if let Some(key) = line.strip_prefix("duplicate mapping key: ") {
        return format!("the key '{}' is there twice", key.split(", set Dup").next().unwrap_or(key));
    }
    let line = line.rfind(" at line ").map_or(line, |at| &line[..at]);
    line.trim_end_matches(['.', ' ']).to_owned()
}

fn position(location: serde_saphyr::Location) -> Position {
    Position {
        line: u32::try_from(location.line()).unwrap_or(u32::MAX),
        column: u32::try_from(location.column()).unwrap_or(u32::MAX),
    }
}

impl Node {
    /// Where to point for a value: at the value itself where it is a single one, at its key where
    /// it is a mapping or a list. Where the path leads nowhere, its deepest part that exists.
    pub fn position_of_value(&self, path: &Path<'_>) -> Position {
        let found = self.find(path);
        match (&found.node.kind, found.key) {
            (Kind::List(_) | Kind::Map(_) | Kind::Null, Some(key)) => key,
            _ => found.node.position,
        }
    }

    /// Where the key of a field stands; for an item of a list, the item.
    pub fn position_of_key(&self, path: &Path<'_>) -> Position {
        let found = self.find(path);
        found.key.unwrap_or(found.node.position)
    }

    fn find(&self, path: &Path<'_>) -> Found<'_> {
        let mut found = Found { node: self, key: None };
        for step in path.steps() {
            let next = match (step, &found.node.kind) {
                (Step::Field(name), Kind::Map(entries)) => {
                    entries.iter().find(|e| is_spelling(&e.key, name)).map(Found::of)
                }
                (Step::Key(key), Kind::Map(entries)) => entries.iter().find(|e| e.key == key).map(Found::of),
                (Step::Index(index), Kind::List(items)) => {
                    items.get(index).map(|node| Found { node, key: None })
                }
                _ => None,
            };
            match next {
                Some(next) => found = next,
                None => break,
            }
        }
        found
    }
}

struct Found<'a> {
    node: &'a Node,
    key: Option<Position>,
}

impl<'a> Found<'a> {
    fn of(entry: &'a Entry) -> Found<'a> {
        Found { node: &entry.node, key: Some(entry.key_position) }
    }
}

/// Whether a key is the field's proto name or its lowerCamelCase form.
fn is_spelling(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    let mut rest = key.chars();
    let mut after_underscore = false;
    for c in name.chars() {
        if c == '_' {
            after_underscore = true;
            continue;
        }
        let expected = if after_underscore { c.to_ascii_uppercase() } else { c };
        after_underscore = false;
        if rest.next() != Some(expected) {
            return false;
        }
    }
    rest.next().is_none()
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Node {
        Node { position: position(spanned.referenced), kind: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Kind, E> {
        Ok(Kind::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_bytes<E: serde::de::Error>(self, value: &[u8]) -> Result<Kind, E> {
        let text = std::str::from_utf8(value).map_err(|_| E::custom("the text is not UTF-8"))?;
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Kind>>()? {
            items.push(item.into());
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<Kind>>()? {
            let key_position = position(key.referenced);
            let key = match key.value {
                Kind::Text(text) => text,
                Kind::Integer(number) => number.to_string(),
                Kind::Bool(value) => value.to_string(),
                _ => return Err(misplaced("a key must be a plain text", key_position)),
            };
            let node = map.next_value::<Spanned<Kind>>()?.into();
            entries.push(Entry { key, key_position, node });
        }
        Ok(Kind::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_has_its_place() {
        let text = "a:\n  - b: 1\n    cD: two\n  - {x: [true, null], y: 1.5}\n";
        let node = parse(text).expect("valid");
        fn check(node: &Node, path: &Path<'_>, value: (u32, u32), key: (u32, u32)) {
            let found = node.position_of_value(path);
            assert_eq!((found.line, found.column), value, "value of {path}");
            let found = node.position_of_key(path);
            assert_eq!((found.line, found.column), key, "key of {path}");
        }
        let a = Path::ROOT.field("a");
        check(&node, &a, (1, 1), (1, 1));
        let first = a.at(0);
        check(&node, &first.field("b"), (2, 8), (2, 5));
        check(&node, &first.field("c_d"), (3, 9), (3, 5));
        let second = a.at(1);
        check(&node, &second, (4, 5), (4, 5));
        check(&node, &second.field("x"), (4, 6), (4, 6));
        check(&node, &second.field("x").at(0), (4, 10), (4, 10));
        check(&node, &second.field("y"), (4, 26), (4, 23));
        check(&node, &second.field("absent").at(3), (4, 5), (4, 5));
    }

    #[test]
    fn json_is_yaml_even_with_tabs_and_escapes() {
        let node =
            parse("{\n\t\"a\": \"\\u00e9\\/\\n\",\n\t\"b\": [1, -2, 1e3, true, null]\n}").expect("json");
        let Kind::Map(entries) = node.kind else { unreachable!() };
        assert!(matches!(&entries[0].node.kind, Kind::Text(t) if t == "é/\n"), "{entries:?}");
        let Kind::List(items) = &entries[1].node.kind else { unreachable!() };
        assert!(matches!(items[0].kind, Kind::Integer(1)));
        assert!(matches!(items[1].kind, Kind::Integer(-2)));
        assert!(matches!(items[2].kind, Kind::Float(f) if f == 1000.0), "{:?}", items[2]);
        assert!(matches!(items[3].kind, Kind::Bool(true)));
        assert!(matches!(items[4].kind, Kind::Null));
    }

    #[test]
    fn the_documents_of_a_text_have_the_lines_of_the_text() {
        let nodes = parse_all("# first\na: 1\n---\n# nothing\n---\nb:\n  c: 2\n---\n").expect("valid");
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].position, Position { line: 2, column: 1 });
        assert_eq!(nodes[1].position_of_value(&Path::ROOT.field("b.c")), Position { line: 7, column: 6 });
        assert!(parse_all("").expect("nothing").is_empty());
        assert_eq!(parse_all("a: 1\n---\nb: [\n").expect_err("broken").position.line, 3);
    }

    #[test]
    fn broken_texts_are_refused_with_their_place() {
        fn check(text: &str, message: &str, line: u32) {
            let error = parse(text).expect_err(text);
            assert!(error.message.contains(message), "{text}: {error:?}");
            assert_eq!(error.position.line, line, "{text}: {error:?}");
        }
        check("a: 1\na: 2\n", "the key 'a' is there twice", 2);
        check("a: [1\nb: 2\n", "", 2);
        check("a: *nope\n", "", 1);
        check("a: 1\n---\nb: 2\n", "several documents", 3);
        check(&format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)), "", 1);
        check(&"- ".repeat(5_000), "", 1);
        check("a:\n\tb: 1\n", "", 2);
        check("a: 1\n? [b]\n: 2\n", "a key must be a plain text", 2);
        check("a: 1\n: 2\n", "a key must be a plain text", 2);
    }

    #[test]
    fn the_deepest_document_is_read_on_an_ordinary_stack() {
        let nested = |depth: usize| format!("{}1{}", "{a: [".repeat(depth / 2), "]}".repeat(depth / 2));
        let text = nested(DEPTH_MAX);
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || parse(&text).is_ok());
        assert!(thread.expect("a thread").join().expect("no overflow"));
        assert!(parse(&nested(DEPTH_MAX + 2)).is_err());
    }

    #[test]
    fn a_bomb_of_aliases_is_bounded() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
        }
        assert!(parse(&text).is_err());
    }
}
