//! Reads RE2's syntax and writes the same expression for the `regex` crate.
//!
//! Envoy's and Istio's expressions are RE2's. Both engines are automata and share most of their
//! syntax, not all of it: `\d`, `\w`, `\s` and `\b` are of ASCII in RE2, a class has no operators
//! and no classes inside, a brace that counts nothing is a brace. What RE2 refuses is refused here.
//! Source: github.com/google/re2, `doc/syntax.txt` and `re2/parse.cc`.

use std::collections::BTreeMap;

use naru_spec::{Invalid, Pattern};
use regex::bytes::{Regex, RegexSet};
use regex_syntax::hir::literal::{ExtractKind, Extractor};

/// An expression that must match a whole text.
pub(crate) fn whole(pattern: &Pattern) -> Result<Regex, Invalid> {
    build(pattern, &format!("\\A(?:{})\\z", translate(pattern)?))
}

/// Expressions that must match a whole text, each compiled once however often it is asked for.
#[derive(Default)]
pub(crate) struct Expressions {
    known: BTreeMap<Pattern, Result<Regex, Invalid>>,
}

impl Expressions {
    pub(crate) fn whole(&mut self, pattern: &Pattern) -> Result<Regex, Invalid> {
        if let Some(known) = self.known.get(pattern) {
            return known.clone();
        }
        let made = whole(pattern);
        self.known.insert(pattern.clone(), made.clone());
        made
    }
}

/// Many expressions that must match a whole text, in one automaton. `None` where that grows too
/// large. The patterns are known to be valid.
pub(crate) fn whole_set<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Option<RegexSet> {
    let mut texts = Vec::new();
    for pattern in patterns {
        texts.push(format!("\\A(?:{})\\z", translate(pattern).ok()?));
    }
    RegexSet::new(texts).ok()
}

/// What every text that the pattern matches begins with; often empty.
pub(crate) fn literal_prefix(pattern: &Pattern) -> Vec<u8> {
    let Ok(text) = translate(pattern) else { return Vec::new() };
    let Ok(hir) = regex_syntax::ParserBuilder::new().utf8(false).build().parse(&text) else {
        return Vec::new();
    };
    let sequence = Extractor::new().kind(ExtractKind::Prefix).extract(&hir);
    sequence.longest_common_prefix().map(<[u8]>::to_vec).unwrap_or_default()
}

/// Substitutes every match of a pattern.
#[derive(Clone, Debug)]
pub(crate) struct Rewrite {
    regex: Regex,
    substitution: Box<[Part]>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

/// In the substitution `\1` is the first group, `\0` the whole match and `\\` a backslash.
pub(crate) fn rewrite(pattern: &Pattern, substitution: &str) -> Result<Rewrite, Invalid> {
    let regex = build(pattern, &translate(pattern)?)?;
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut chars = substitution.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('\\') => text.push('\\'),
            Some(digit @ '0'..='9') => {
                let group = digit as usize - '0' as usize;
                if group >= regex.captures_len() {
                    return Err(Invalid::new(format!(
                        "the substitution '{substitution}' asks for group {group}, but the pattern has {}",
                        regex.captures_len() - 1
                    )));
                }
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text).into()));
                }
                parts.push(Part::Group(group));
            }
            _ => {
                return Err(Invalid::new(format!(
                    "the substitution '{substitution}' has a backslash before neither a digit nor a backslash"
                ))
                .hint("write '\\1' for the first group, '\\\\' for a backslash"));
            }
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(Rewrite { regex, substitution: parts.into() })
}

impl Rewrite {
    /// Appends the rewritten text to `out`.
    pub(crate) fn write(&self, text: &str, out: &mut String) {
        let bytes = text.as_bytes();
        let mut result = Vec::with_capacity(bytes.len() + 16);
        let mut from = 0;
        for captures in self.regex.captures_iter(bytes) {
            let Some(all) = captures.get(0) else { continue };
            // Between two bytes of one character there is nothing, not even nothing.
            if all.is_empty() && !text.is_char_boundary(all.start()) {
                continue;
            }
            result.extend_from_slice(&bytes[from..all.start()]);
            for part in &self.substitution {
                match part {
                    Part::Text(text) => result.extend_from_slice(text.as_bytes()),
                    Part::Group(group) => {
                        result.extend_from_slice(captures.get(*group).map_or(&[], |found| found.as_bytes()));
                    }
                }
            }
            from = all.end();
        }
        result.extend_from_slice(&bytes[from..]);
        // Only `\C` can cut a character in two.
        out.push_str(&String::from_utf8_lossy(&result));
    }
}

fn build(pattern: &Pattern, text: &str) -> Result<Regex, Invalid> {
    Regex::new(text).map_err(|error| {
        // The crate draws the expression over several lines; its last line says what is wrong.
        let message = error.to_string();
        let last = message.lines().last().unwrap_or_default();
        refusal(pattern, last.strip_prefix("error: ").unwrap_or(last))
    })
}

fn refusal(pattern: &Pattern, what: &str) -> Invalid {
    Invalid::new(format!("the regular expression '{}' is not valid: {what}", pattern.as_str()))
}

fn translate(pattern: &Pattern) -> Result<String, Invalid> {
    let mut reader = Reader {
        rest: pattern.as_str(),
        out: String::with_capacity(pattern.as_str().len() + 16),
        before: Before::Nothing,
        depth: 0,
        names: Vec::new(),
    };
    match reader.read() {
        Ok(()) => Ok(reader.out),
        Err(Refused { what, hint }) => Err(refusal(pattern, &what).hint(hint)),
    }
}

struct Refused {
    what: String,
    hint: &'static str,
}

fn refused<T>(what: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { what: what.into(), hint: "expressions are written in RE2's syntax" })
}

/// What a repetition would repeat.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Item,
    Repetition,
}

/// RE2's own bound.
const REPEAT_MAX: u32 = 1_000;

struct Reader<'a> {
    rest: &'a str,
    out: String,
    before: Before,
    depth: usize,
    names: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), Refused> {
        while let Some(c) = self.next() {
            let mut before = Before::Item;
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => {
                    self.group()?;
                    before = Before::Nothing;
                }
                ')' => {
                    self.depth = match self.depth.checked_sub(1) {
                        Some(depth) => depth,
                        None => return refused("a ')' closes no group"),
                    };
                    self.out.push(')');
                }
                '|' => {
                    self.out.push('|');
                    before = Before::Nothing;
                }
                '*' | '+' | '?' => {
                    self.repetition(c.encode_utf8(&mut [0; 4]))?;
                    before = Before::Repetition;
                }
                '{' => match count(self.rest) {
                    Some((low, high, length)) => {
                        if low > REPEAT_MAX || high.is_some_and(|high| high > REPEAT_MAX || high < low) {
                            return refused(format!("'{{{}' is not a possible count", &self.rest[..length]));
                        }
                        let text = format!("{{{}", &self.rest[..length]);
                        self.rest = &self.rest[length..];
                        self.repetition(&text)?;
                        before = Before::Repetition;
                    }
                    None => self.literal('{'),
                },
                '^' | '$' | '.' => self.out.push(c),
                literal => self.literal(literal),
            }
            self.before = before;
        }
        if self.depth > 0 { refused("a '(' is never closed") } else { Ok(()) }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
    }

    fn repetition(&mut self, text: &str) -> Result<(), Refused> {
        match self.before {
            Before::Nothing => return refused(format!("'{text}' repeats nothing")),
            Before::Repetition => return refused(format!("'{text}' repeats a repetition")),
            Before::Item => {}
        }
        self.out.push_str(text);
        if self.eat("?") {
            self.out.push('?');
        }
        Ok(())
    }

    /// After `(`.
    fn group(&mut self) -> Result<(), Refused> {
        if !self.eat("?") {
            self.depth += 1;
            self.out.push('(');
            return Ok(());
        }
        for look in ["=", "!", "<=", "<!"] {
            if self.rest.starts_with(look) {
                return Err(Refused {
                    what: format!("'(?{look}' looks around, which RE2 cannot"),
                    hint: "say it with a second condition, or with an inverted one",
                });
            }
        }
        if self.eat("P<") || self.eat("<") {
            let Some((name, rest)) = self.rest.split_once('>') else {
                return refused("the name of a group is never closed");
            };
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return refused(format!("'{name}' is not a name for a group"));
            }
            if self.names.contains(&name) {
                return refused(format!("two groups have the name '{name}'"));
            }
            self.names.push(name);
            self.rest = rest;
            self.depth += 1;
            self.out.push('(');
            return Ok(());
        }
        self.flags()
    }

    /// After `(?`: `i)` for the rest of the group, `i:` for a group of its own.
    fn flags(&mut self) -> Result<(), Refused> {
        let mut flags = String::new();
        loop {
            match self.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => flags.push(flag),
                Some('-') if !flags.contains('-') => flags.push('-'),
                Some(end @ (':' | ')')) if !flags.ends_with('-') => {
                    if end == ':' {
                        self.depth += 1;
                    }
                    if end == ':' || !flags.is_empty() {
                        self.out.push_str(&format!("(?{}{end}", once(&flags)));
                    }
                    return Ok(());
                }
                Some(other) => return refused(format!("'(?{flags}{other}' is not known")),
                None => return refused("a '(' is never closed"),
            }
        }
    }

    /// After a backslash, outside of a class.
    fn escape(&mut self) -> Result<(), Refused> {
        let Some(c) = self.peek() else { return refused("it ends in a backslash") };
        match c {
            'A' | 'z' => {
                self.next();
                self.out.push('\\');
                self.out.push(c);
            }
            'b' | 'B' => {
                self.next();
                self.out.push_str(&format!("(?-u:\\{c})"));
            }
            'C' => {
                self.next();
                self.out.push_str("(?s-u:.)");
            }
            'Q' => {
                self.next();
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                self.out.push_str(&regex_syntax::escape(quoted));
                // An empty quotation is nothing that could be repeated; the crate says so.
            }
            'p' | 'P' => {
                self.next();
                self.unicode(c == 'P')?;
            }
            _ => match perl(c) {
                Some((set, is_negated)) => {
                    self.next();
                    let caret = if is_negated { "^" } else { "" };
                    self.out.push_str(&format!("(?-i:[{caret}{set}])"));
                }
                None => {
                    let literal = self.escaped_char()?;
                    self.literal(literal);
                }
            },
        }
        Ok(())
    }

    /// After a backslash: one character, in or outside of a class.
    fn escaped_char(&mut self) -> Result<char, Refused> {
        let Some(c) = self.next() else { return refused("it ends in a backslash") };
        let code = match c {
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            'x' => return self.hex(),
            '1'..='7' if !self.peek().is_some_and(|next| next.is_digit(8)) => {
                return refused(format!("'\\{c}' refers back to a group, which RE2 cannot"));
            }
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|next| next.to_digit(8)) else { break };
                    self.next();
                    value = value * 8 + digit;
                }
                value
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => return Ok(c),
            other => return refused(format!("'\\{other}' is not known")),
        };
        char::from_u32(code).map_or_else(|| refused(format!("there is no character {code:#x}")), Ok)
    }

    /// After `\x`.
    fn hex(&mut self) -> Result<char, Refused> {
        let digits = if self.eat("{") {
            let Some((digits, rest)) = self.rest.split_once('}') else {
                return refused("'\\x{' is never closed");
            };
            self.rest = rest;
            digits
        } else {
            let Some((digits, rest)) = self.rest.split_at_checked(2) else {
                return refused("'\\x' needs two digits");
            };
            self.rest = rest;
            digits
        };
        let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let code = if is_hex { u32::from_str_radix(digits, 16).ok() } else { None };
        code.and_then(char::from_u32).map_or_else(
            || refused(format!("'\\x' is followed by '{digits}', not by a character's number")),
            Ok,
        )
    }

    /// After `\p` or `\P`: a general category or a script.
    fn unicode(&mut self, mut is_negated: bool) -> Result<(), Refused> {
        const CATEGORIES: &[&str] = &[
            "Any", "C", "Cc", "Cf", "Co", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N",
            "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So",
            "Z", "Zl", "Zp", "Zs",
        ];
        let name = if self.eat("{") {
            let Some((name, rest)) = self.rest.split_once('}') else {
                return refused("'\\p{' is never closed");
            };
            self.rest = rest;
            match name.strip_prefix('^') {
                Some(name) => {
                    is_negated = !is_negated;
                    name
                }
                None => name,
            }
        } else {
            let Some(c) = self.peek() else { return refused("'\\p' needs a name") };
            let (name, rest) = self.rest.split_at(c.len_utf8());
            self.rest = rest;
            name
        };
        let is_script = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        let letter = if is_negated { 'P' } else { 'p' };
        if CATEGORIES.contains(&name) {
            self.out.push_str(&format!("\\{letter}{{{name}}}"));
        } else if is_script && name.len() > 2 {
            self.out.push_str(&format!("\\{letter}{{Script={name}}}"));
        } else {
            return refused(format!("'\\p{{{name}}}' is neither a general category nor a script"));
        }
        Ok(())
    }

    /// After `[`. Everything is written by its number, so that nothing gets another meaning.
    fn class(&mut self) -> Result<(), Refused> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let Some(c) = self.peek() else { return refused("a '[' is never closed") };
            if c == ']' && !is_first {
                self.next();
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            if self.rest.starts_with("[:") && self.posix()? {
                continue;
            }
            if let Some(escaped) = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) {
                if let 'p' | 'P' = escaped {
                    self.rest = &self.rest[2..];
                    self.unicode(escaped == 'P')?;
                    continue;
                }
                if let Some((set, is_negated)) = perl(escaped) {
                    self.rest = &self.rest[2..];
                    self.out.push_str(&if is_negated { format!("[^{set}]") } else { set.to_owned() });
                    continue;
                }
            }
            let low = self.class_char()?;
            let mut high = low;
            if self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest.starts_with("-]") {
                self.next();
                high = self.class_char()?;
            }
            if high < low {
                return refused(format!("the range '{low}-{high}' runs backwards"));
            }
            self.out.push_str(&format!("\\x{{{:X}}}-\\x{{{:X}}}", low as u32, high as u32));
        }
    }

    fn class_char(&mut self) -> Result<char, Refused> {
        match self.next() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => refused("a '[' is never closed"),
        }
    }

    /// At `[:` inside a class. Without `:]` it is only a bracket and a colon.
    fn posix(&mut self) -> Result<bool, Refused> {
        const NAMES: &[&str] = &[
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        let Some(length) = self.rest[2..].find(":]") else { return Ok(false) };
        let name = &self.rest[2..2 + length];
        let text = &self.rest[..length + 4];
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return refused(format!("'{text}' is not a known class"));
        }
        self.out.push_str(text);
        self.rest = &self.rest[text.len()..];
        Ok(true)
    }
}

/// Flags, each said once: what RE2 is told last counts.
fn once(flags: &str) -> String {
    let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
    let of = |flags: &str, except: &str| -> String {
        "imsU".chars().filter(|flag| flags.contains(*flag) && !except.contains(*flag)).collect()
    };
    let (on, off) = (of(on, off), of(off, ""));
    if off.is_empty() { on } else { format!("{on}-{off}") }
}

/// The characters of `\d`, `\s`, `\w`, and whether the letter asks for all others.
fn perl(letter: char) -> Option<(&'static str, bool)> {
    let set = match letter.to_ascii_lowercase() {
        'd' => "0-9",
        's' => "\\t\\n\\x0C\\r ",
        'w' => "0-9A-Za-z_",
        _ => return None,
    };
    Some((set, letter.is_ascii_uppercase()))
}

/// Reads `n}`, `n,}` or `n,m}`: the bounds, and how many bytes they take.
fn count(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let number = |digits: &str| -> Option<u32> {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        // Too many digits are a count all the same, and too large.
        is_number.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let end = text.find('}')?;
    let inner = &text[..end];
    let (low, high) = match inner.split_once(',') {
        None => {
            let exact = number(inner)?;
            (exact, Some(exact))
        }
        Some((low, "")) => (number(low)?, None),
        Some((low, high)) => (number(low)?, Some(number(high)?)),
    };
    Some((low, high, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect(text)
    }

    #[test]
    fn an_expression_must_match_the_whole_text() {
        fn check(text: &str, yes: &[&str], no: &[&str]) {
            let regex = whole(&pattern(text)).expect(text);
            for value in yes {
                assert!(regex.is_match(value.as_bytes()), "{text} should match {value:?}");
            }
            for value in no {
                assert!(!regex.is_match(value.as_bytes()), "{text} should not match {value:?}");
            }
        }
        check("a|b", &["a", "b"], &["ab", "xa", "bx", ""]);
        check("a|ab", &["ab"], &["abc"]);
        check("(?i)a|B", &["A", "b"], &["aB"]);
        check("(?i:a)b", &["Ab"], &["AB"]);
        check("a$|^b", &["a", "b"], &["ab", "a\n"]);
        check("(?m)^a$", &["a"], &["a\nb", "b\na", "a\n"]);
        check("a.c", &["abc", "a\u{e9}c"], &["a\nc"]);
        check("(?s)a.c", &["a\nc"], &["ac"]);
        check("^(.*?;\\s*)?(user=jason)(;.*)?$", &["user=jason", "a=b; user=jason;x"], &["user=jasonx"]);
    }

    #[test]
    fn classes_are_of_ascii_as_in_re2() {
        fn check(text: &str, yes: &[&str], no: &[&str]) {
            let regex = whole(&pattern(text)).expect(text);
            for value in yes {
                assert!(regex.is_match(value.as_bytes()), "{text} should match {value:?}");
            }
            for value in no {
                assert!(!regex.is_match(value.as_bytes()), "{text} should not match {value:?}");
            }
        }
        check(r"\d+", &["09"], &["\u{663}"]);
        check(r"\D", &["\u{663}", "\n"], &["1"]);
        check(r"\w+", &["aZ_9"], &["\u{e9}"]);
        check(r"(?i)\w", &["k"], &["\u{212a}"]);
        check(r"[\w.-]+", &["a.b-c"], &["\u{e9}", "/"]);
        check(r"[^\W]", &["a"], &["-", "\u{e9}"]);
        check(r"\s", &[" ", "\x0c", "\n"], &["\x0b", "\u{a0}"]);
        check(r"\S", &["\x0b", "\u{a0}"], &[" "]);
        check(r"a\b.*", &["a", "a b", "a\u{e9}"], &["ab"]);
        check(r"[[:digit:]]+", &["12"], &["\u{663}"]);
        check(r"[[:^digit:]x]", &["x", "a"], &["1"]);
        check(r"\pL\p{Lu}\P{Greek}\p{^Greek}", &["aBcd"], &["abcd", "aB\u{3b1}d"]);
    }

    #[test]
    fn signs_that_the_other_engine_would_read_differently_stay_literal() {
        fn check(text: &str, yes: &[&str], no: &[&str]) {
            let regex = whole(&pattern(text)).expect(text);
            for value in yes {
                assert!(regex.is_match(value.as_bytes()), "{text} should match {value:?}");
            }
            for value in no {
                assert!(!regex.is_match(value.as_bytes()), "{text} should not match {value:?}");
            }
        }
        check("[a&&b]", &["a", "&", "b"], &["c"]);
        check("[+--b]", &["+", ",", "-", "b"], &["."]);
        check("[a~~b]", &["~"], &["c"]);
        check("[[a]", &["[", "a"], &["]"]);
        check("[]a]", &["]", "a"], &["["]);
        check("[^]a]", &["b"], &["]", "a"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[[:x]", &["[", ":", "x"], &["a"]);
        check("[[:]", &["[", ":"], &["]"]);
        check(r"[\d-z]", &["5", "-", "z"], &["a"]);
        check("a{,3}", &["a{,3}"], &["aaa"]);
        check("a{2", &["a{2"], &["aa"]);
        check("a{x}", &["a{x}"], &["a"]);
        check("a{2}", &["aa"], &["a", "aaa"]);
        check("a{1,}?b", &["aab"], &["b"]);
        check(r"\<\>\-\_\/\ ", &["<>-_/ "], &[]);
        check(r"\Qa.b*\E+", &["a.b**"], &["axb"]);
        check(r"\Qa.b", &["a.b"], &["axb"]);
        check(r"\x41\x{42}\103\07", &["ABC\x07"], &[]);
        check("a#b c", &["a#b c"], &["a"]);
        check("(?P<x>a)(?<y>b)", &["ab"], &[]);
        check("(?U)a+b", &["aab"], &[]);
        check("(?ii)a(?ims-is:B.)", &["AB\u{e9}"], &["Ab\u{e9}", "aB\n"]);
        check("]}", &["]}"], &[]);
    }

    #[test]
    fn what_re2_lacks_is_refused() {
        for text in [
            "[a--b]",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?<!a)",
            r"(a)\1",
            "a**",
            "a+*",
            "a*+",
            "a{2}{3}",
            "*a",
            "a|*",
            "(*)",
            "(?x)a",
            "(?u)a",
            "(?R)a",
            "(?-)a",
            "(?i-)a",
            "a)",
            "(a",
            "[a",
            "[]",
            "[b-a]",
            r"[a-\d]",
            r"[\b]",
            r"\Z",
            r"\h",
            r"\u0041",
            r"\E",
            r"\8",
            "\\",
            r"\x4",
            r"\x{110000}",
            r"\x{}",
            r"\p{Alphabetic}",
            r"\p{lu}",
            r"\p{Script=Greek}",
            r"\p{greek}",
            "a{1001}",
            "a{3,2}",
            "a{99999999999}",
            "[[:nope:]]",
            "(?P<a>x)(?P<a>y)",
            "(?P<>x)",
            "(?P=a)",
            "a)|(b",
        ] {
            assert!(whole(&pattern(text)).is_err(), "{text} should be refused");
        }
    }

    #[test]
    fn a_refusal_says_which_expression_and_why() {
        let error = whole(&pattern("a(?=b)")).expect_err("a look-ahead");
        assert_eq!(
            error.message,
            "the regular expression 'a(?=b)' is not valid: '(?=' looks around, which RE2 cannot"
        );
        assert!(!error.hint.is_empty());
    }

    #[test]
    fn every_match_is_substituted() {
        fn check(text: &str, substitution: &str, path: &str, expected: &str) {
            let mut out = String::new();
            rewrite(&pattern(text), substitution).expect(text).write(path, &mut out);
            assert_eq!(out, expected);
        }
        check("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo");
        check("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz");
        check("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz");
        check("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb");
        check("x*", "-", "abc", "-a-b-c-");
        check("a*", "-", "baac", "-b-c-");
        check("a|", "-", "/\u{212a}b", "-/-\u{212a}-b-");
        check("b", r"\\\0", "abc", r"a\bc");
    }

    #[test]
    fn a_substitution_may_only_name_groups_that_are_there() {
        assert!(rewrite(&pattern("(a)"), r"\1").is_ok());
        assert!(rewrite(&pattern("(a)"), r"\2").is_err());
        assert!(rewrite(&pattern("(a)"), r"\x").is_err());
        assert!(rewrite(&pattern("(a)"), "\\").is_err());
    }

    #[test]
    fn the_literal_prefix_is_what_all_matches_begin_with() {
        fn check(text: &str, expected: &str) {
            assert_eq!(literal_prefix(&pattern(text)), expected.as_bytes(), "{text}");
        }
        check("/api/v[0-9]+/x", "/api/v");
        check("/a(b|c)", "/a");
        check("^/ab?c", "/a");
        check("/a|/b", "/");
        check("/a|b", "");
        check("(?i)/api", "/");
        check(".*", "");
        check("/exact", "/exact");
    }
}
