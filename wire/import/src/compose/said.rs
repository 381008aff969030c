//! Texts of a compose file: with variables of a shell, and commands in one line.

use naru_doc::tree::{Kind, Node, Position};

use crate::notes::{Notes, code};

/// Reads one service, and tells what is wrong with it.
pub(super) struct Reader<'a, 'n> {
    pub notes: &'a mut Notes<'n>,
    /// `services.app`
    pub path: String,
}

impl Reader<'_, '_> {
    pub fn note(&mut self, code: &'static str, at: Position, field: &str, message: String, hint: &str) {
        let path = format!("{}.{field}", self.path);
        self.notes.note(code, at, &path, message, hint);
    }

    pub fn warning(&mut self, code: &'static str, at: Position, field: &str, message: String, hint: &str) {
        let path = format!("{}.{field}", self.path);
        self.notes.warning(code, at, &path, message, hint);
    }

    /// A single value as text, its variables replaced by their defaults. None for nothing.
    pub fn text(&mut self, node: &Node, field: &str) -> Option<String> {
        let Some(text) = raw(node) else {
            if !matches!(node.kind, Kind::Null) {
                let message = "a single value is expected: it is left out".to_owned();
                self.warning(code::NOT_CARRIED_OVER, node.position, field, message, "");
            }
            return None;
        };
        let (text, variables) = interpolate(&text);
        for variable in variables {
            match variable {
                Variable::Default(name) => {
                    let message = format!("'{name}' has its default here");
                    self.note(code::ASSUMED, node.position, field, message, "");
                }
                Variable::Unknown(name) => {
                    let message =
                        format!("'{name}' is of the shell that starts compose, and stays as it stands");
                    self.warning(code::NOT_CARRIED_OVER, node.position, field, message, "write its value");
                }
            }
        }
        Some(text)
    }
}

/// A single value as text, its variables replaced where they have defaults.
pub(super) fn plain(node: &Node) -> Option<String> {
    raw(node).map(|text| interpolate(&text).0)
}

fn raw(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::Integer(number) => Some(number.to_string()),
        Kind::Float(number) => Some(number.to_string()),
        Kind::Bool(flag) => Some(flag.to_string()),
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Variable {
    /// Its default took its place.
    Default(String),
    /// It stands there still.
    Unknown(String),
}

/// `$$` is a dollar; `${NAME:-default}` and `${NAME-default}` are the default.
fn interpolate(text: &str) -> (String, Vec<Variable>) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut variables = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{').and_then(braced) {
            rest = &rest[inner.len() + 2..];
            let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
            let (name, operator) = inner.split_at(end);
            let default = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-'));
            match default {
                // A default with variables in it is one more text than is worth reading.
                Some(default) if !default.contains('$') => {
                    out.push_str(default);
                    variables.push(Variable::Default(name.to_owned()));
                }
                _ => {
                    out.push_str(&format!("${{{inner}}}"));
                    variables.push(Variable::Unknown(name.to_owned()));
                }
            }
        } else {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            out.push('$');
            out.push_str(&rest[..end]);
            if end > 0 {
                variables.push(Variable::Unknown(rest[..end].to_owned()));
            }
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    (out, variables)
}

/// What stands before the brace that closes.
fn braced(text: &str) -> Option<&str> {
    let mut depth = 1_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[..at]);
        }
    }
    None
}

/// A text that Kubernetes leaves as it is: it replaces `$(NAME)`, and makes one dollar of two.
pub(super) fn literal(text: &str) -> String {
    if text.contains("$(") || text.contains("$$") { text.replace('$', "$$") } else { text.to_owned() }
}

/// Words as a shell splits them.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_their_defaults_or_stay() {
        let check = |text: &str, expected: &str, defaults: &[&str], unknown: &[&str]| {
            let (found, variables) = interpolate(text);
            assert_eq!(found, expected, "{text}");
            let named = defaults.iter().map(|name| Variable::Default((*name).to_owned()));
            let named = named.chain(unknown.iter().map(|name| Variable::Unknown((*name).to_owned())));
            assert_eq!(variables, named.collect::<Vec<_>>(), "{text}");
        };
        check("plain", "plain", &[], &[]);
        check("a$$b", "a$b", &[], &[]);
        check("img:${TAG:-latest}", "img:latest", &["TAG"], &[]);
        check("${A-x}", "x", &["A"], &[]);
        check("${A:?it is needed}", "${A:?it is needed}", &[], &["A"]);
        check("${A:-${B}}c", "${A:-${B}}c", &[], &["A"]);
        check("$A/b", "$A/b", &[], &["A"]);
        check("${A", "${A", &[], &[]);
        check("5$", "5$", &[], &[]);
    }

    #[test]
    fn a_line_is_split_as_a_shell_does() {
        let check = |line: &str, expected: &[&str]| assert_eq!(words(line), expected, "{line}");
        check("postgres -c wal_level=replica", &["postgres", "-c", "wal_level=replica"]);
        check("sh -c 'a \"b\"' \"c d\"", &["sh", "-c", "a \"b\"", "c d"]);
        check(r#"a\ b "c\"d" '' "#, &["a b", "c\"d", ""]);
        check("  ", &[]);
        check("'open", &["open"]);
    }

    #[test]
    fn what_kubernetes_would_replace_is_kept() {
        let check = |text: &str, expected: &str| assert_eq!(literal(text), expected, "{text}");
        check("a$b", "a$b");
        check("$(A)", "$$(A)");
        check("$$", "$$$$");
    }
}
