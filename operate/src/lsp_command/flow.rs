//! Where does somebody write, in a mapping or a list that is written in braces?
//!
//! YAML's flow style, `{ host: reviews, subset: v1 }`, has no lines and no indent to go by: brackets are counted from the
//! beginning of the document. Deliberately not here: whether it is right; half of it may not be written yet.

/// A place within brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the value that is written there, or of the list that it is in.
    pub key: String,
    /// What else the mapping has, before and behind.
    pairs: Vec<(String, String)>,
}

impl Place {
    pub fn value(&self, key: &str) -> Option<String> {
        let found = self.pairs.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }
}

/// What is open at some moment.
struct Open {
    is_list: bool,
    key: String,
    pairs: Vec<(String, String)>,
    /// What stands there since the last comma or colon.
    token: String,
    has_colon: bool,
}

impl Open {
    fn new(is_list: bool, key: String) -> Open {
        Open { is_list, key, pairs: Vec::new(), token: String::new(), has_colon: false }
    }

    fn colon(&mut self) {
        if !self.is_list && !self.has_colon {
            self.key = unquoted(&self.token);
            self.token.clear();
            self.has_colon = true;
        }
    }

    fn comma(&mut self) {
        if self.has_colon {
            self.pairs.push((std::mem::take(&mut self.key), unquoted(&self.token)));
        }
        self.token.clear();
        self.has_colon = false;
    }

    fn place(&self) -> Place {
        let key = if self.is_list || self.has_colon { self.key.clone() } else { String::new() };
        Place { key, pairs: Vec::new() }
    }
}

fn unquoted(token: &str) -> String {
    token.trim().trim_matches(['"', '\'']).to_owned()
}

/// The innermost brackets around a place: a line, and a column in the units of the protocol.
pub fn at(text: &str, line: usize, character: usize) -> Option<Place> {
    let mut open: Vec<Open> = Vec::new();
    let mut found: Option<(usize, Place)> = None;
    for (number, of) in text.lines().enumerate() {
        if of.starts_with("---") {
            if number > line {
                break;
            }
            open.clear();
        }
        let mut scan = Scan { before: String::new(), quote: None, column: 0 };
        for c in of.chars() {
            if number == line && scan.column >= character && found.is_none() {
                found = open.last().map(|last| (open.len(), last.place()));
                found.as_ref()?;
            }
            if scan.take(c, &mut open, &mut found) {
                return found.map(|(_, place)| place);
            }
            if scan.is_comment() {
                break;
            }
        }
        if number == line && found.is_none() {
            found = open.last().map(|last| (open.len(), last.place()));
            found.as_ref()?;
        }
        if let Some(last) = open.last_mut() {
            last.token.push(' ');
        }
    }
    // What is not closed yet ends with the document.
    let (depth, mut place) = found?;
    let own = open.get_mut(depth - 1)?;
    own.comma();
    place.pairs = std::mem::take(&mut own.pairs);
    Some(place)
}

/// One line as it is read.
struct Scan {
    before: String,
    quote: Option<char>,
    column: usize,
}

impl Scan {
    /// Whether the brackets that somebody writes in are closed by this.
    fn take(&mut self, c: char, open: &mut Vec<Open>, found: &mut Option<(usize, Place)>) -> bool {
        self.column += c.len_utf16();
        let is_free = self.quote.is_none();
        if Some(c) == self.quote {
            self.quote = None;
        } else if is_free && matches!(c, '"' | '\'') && self.ends_with(&[':', '-', ',', '{', '[', ' ']) {
            self.quote = Some(c);
        }
        let begins = !open.is_empty() || self.before.trim_end().is_empty() || self.ends_with(&[':', '-']);
        let mut is_mark = is_free && self.quote.is_none();
        match c {
            '{' | '[' if is_mark && begins => {
                let key = match open.last() {
                    Some(last) => last.key.clone(),
                    None => key_of(&self.before),
                };
                open.push(Open::new(c == '[', if c == '[' { key } else { String::new() }));
            }
            '}' | ']' if is_mark && !open.is_empty() => {
                if let Some((depth, place)) = found
                    && *depth == open.len()
                {
                    if let Some(own) = open.last_mut() {
                        own.comma();
                        place.pairs = std::mem::take(&mut own.pairs);
                    }
                    return true;
                }
                open.pop();
            }
            ',' if is_mark && !open.is_empty() => {
                if let Some(last) = open.last_mut() {
                    last.comma();
                }
            }
            ':' if is_mark && !open.is_empty() => {
                if let Some(last) = open.last_mut() {
                    last.colon();
                }
            }
            _ => is_mark = false,
        }
        if !is_mark && let Some(last) = open.last_mut() {
            last.token.push(c);
        }
        self.before.push(c);
        false
    }

    fn ends_with(&self, marks: &[char]) -> bool {
        self.before.trim_end().is_empty()
            || self.before.trim_end().ends_with(marks)
            || marks.contains(&' ') && self.before.ends_with(' ')
    }

    fn is_comment(&self) -> bool {
        self.quote.is_none() && (self.before == "#" || self.before.ends_with(" #"))
    }
}

/// The key before a list that begins in a line of block style.
fn key_of(before: &str) -> String {
    let before = before.trim_end().trim_end_matches(':');
    unquoted(before.rsplit([' ', '-']).next().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::at;

    /// `|` is where somebody writes.
    fn check(text: &str, key: Option<&str>, host: Option<&str>) {
        let place = text.find('|').unwrap();
        let before = &text[..place];
        let line = before.matches('\n').count();
        let character = before.rsplit('\n').next().unwrap().encode_utf16().count();
        let found = at(&text.replacen('|', "", 1), line, character);
        assert_eq!(found.as_ref().map(|place| place.key.as_str()), key, "{text}");
        assert_eq!(found.and_then(|place| place.value("host")).as_deref(), host, "{text}");
    }

    #[test]
    fn the_key_and_what_stands_beside_it_are_found_in_braces() {
        check("route: [{ destination: { host: reviews, subset: | } }]", Some("subset"), Some("reviews"));
        check("- route: [{ destination: { subset: v|, host: reviews } }]", Some("subset"), Some("reviews"));
        check("- { destination: { host: re|", Some("host"), Some("re"));
        check("spec: { host: 'a, b', hosts: [x, |] }", Some("hosts"), None);
        check("  gateways: [|]", Some("gateways"), None);
        check(
            "  - destination: {\n      host: 리뷰,\n      subset: v|\n    }\n---\n{ host: other }",
            Some("subset"),
            Some("리뷰"),
        );
        // A mapping before its first key.
        check("a: { | }", Some(""), None);
        for none in ["host: |", "regex: a{2}|", "a: { host: x }\nb: |", "# a: { host: |", "x: '{ host: |'"] {
            check(none, None, None);
        }
    }
}
