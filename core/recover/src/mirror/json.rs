//! JSON as a small tree, for comparing: RFC 8259, with bounds.
//!
//! Numbers stay text, so that `1.0` and `1` differ and nothing is rounded. Of two members of one name
//! the last counts. Whatever the bytes, this ends, and needs no more depth than [`DEPTH_MAX`].

use std::collections::BTreeMap;

/// Deeper values are no values.
pub const DEPTH_MAX: u32 = 32;
/// In all; larger trees are no values.
pub const NODES_MAX: u32 = 16_384;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// `None` where the bytes are no JSON, or too much of it.
    pub fn parse(bytes: &[u8]) -> Option<Json> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut reader = Reader { rest: text, nodes: 0 };
        let value = reader.value(0)?;
        reader.space();
        reader.rest.is_empty().then_some(value)
    }

    /// What sort of value it is.
    pub fn sort(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::Text(_) => "text",
            Json::List(_) => "list",
            Json::Object(_) => "object",
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    nodes: u32,
}

impl Reader<'_> {
    fn value(&mut self, depth: u32) -> Option<Json> {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return None;
        }
        self.space();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.text().map(Json::Text),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32) -> Option<Json> {
        self.eat('{').then_some(())?;
        let mut members = BTreeMap::new();
        self.space();
        if self.eat('}') {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.space();
            self.eat(':').then_some(())?;
            members.insert(name, self.value(depth + 1)?);
            self.space();
            if self.eat('}') {
                return Some(Json::Object(members));
            }
            self.eat(',').then_some(())?;
        }
    }

    fn list(&mut self, depth: u32) -> Option<Json> {
        self.eat('[').then_some(())?;
        let mut items = Vec::new();
        self.space();
        if self.eat(']') {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.eat(']') {
                return Some(Json::List(items));
            }
            self.eat(',').then_some(())?;
        }
    }

    fn text(&mut self) -> Option<String> {
        self.eat('"').then_some(())?;
        let mut text = String::new();
        loop {
            let at = self.rest.find(['"', '\\'])?;
            let (plain, rest) = self.rest.split_at_checked(at)?;
            if plain.bytes().any(|byte| byte < 0x20) {
                return None;
            }
            text.push_str(plain);
            self.rest = rest;
            if self.eat('"') {
                return Some(text);
            }
            self.eat('\\').then_some(())?;
            text.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        self.rest = letters.as_str();
        Some(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.code_point(),
            _ => return None,
        })
    }

    /// Half of a pair alone is what it cannot be: it is replaced.
    fn code_point(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.rest;
        if self.eat('\\')
            && self.eat('u')
            && let Some(second) = self.hex().filter(|second| (0xdc00..0xe000).contains(second))
        {
            return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        self.rest = before;
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = rest;
        u32::from_str_radix(digits, 16).ok()
    }

    fn number(&mut self) -> Option<Json> {
        let len = self.rest.bytes().take_while(|b| b.is_ascii_digit() || b"+-.eE".contains(b)).count();
        let (number, rest) = self.rest.split_at_checked(len)?;
        if !is_number(number) {
            return None;
        }
        self.rest = rest;
        Some(Json::Number(number.to_owned()))
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(value)
    }

    fn eat(&mut self, letter: char) -> bool {
        let rest = self.rest.strip_prefix(letter);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

/// RFC 8259, section 6.
fn is_number(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use naru_base::Chance;

    use super::*;

    #[test]
    fn values_are_read_as_they_stand() {
        fn check(text: &str, expected: Json) {
            assert_eq!(Json::parse(text.as_bytes()), Some(expected), "{text}");
        }
        let number = |text: &str| Json::Number(text.to_owned());
        let text = |text: &str| Json::Text(text.to_owned());
        check(" null ", Json::Null);
        check("-0.5e+10", number("-0.5e+10"));
        check("[]", Json::List(vec![]));
        check("[1, true ,false]", Json::List(vec![number("1"), Json::Bool(true), Json::Bool(false)]));
        let members = [("a".to_owned(), number("1")), ("나".to_owned(), Json::Object(BTreeMap::new()))];
        check(r#"{"a":0,"나":{} ,"a":1}"#, Json::Object(members.into()));
        check(r#""a\n\"\u00e9\ud83d\ude00\/""#, text("a\n\"é😀/"));
        check(r#""\ud83d!""#, text("\u{fffd}!"));
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in [
            "",
            " ",
            "nul",
            "nullx",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1,}",
            "\"a",
            "\"\\x\"",
            "\"\n\"",
            "01",
            "1.",
            ".5",
            "1e",
            "--1",
            "+1",
            "[",
            "{",
            "\"\\u12\"",
            "\"\\u12é\"",
            "1 1",
        ] {
            assert_eq!(Json::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Json::parse(b"\"\xff\""), None);
    }

    #[test]
    fn what_is_too_much_is_none() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(DEPTH_MAX as usize).as_bytes()).is_some());
        assert!(Json::parse(nested(DEPTH_MAX as usize + 1).as_bytes()).is_none());
        assert!(Json::parse(nested(1_000_000).as_bytes()).is_none());
        let wide = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert!(Json::parse(wide(NODES_MAX as usize - 1).as_bytes()).is_some());
        assert!(Json::parse(wide(NODES_MAX as usize).as_bytes()).is_none());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        const PIECES: [&str; 20] = [
            "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u", "d83d", "dc00", "1", "-", ".", "e", "true",
            "null", " ", "나", "a",
        ];
        for seed in 0..2_000 {
            let mut chance = Chance::new(seed);
            let count = chance.below(40);
            let text: String = (0..count).map(|_| PIECES[chance.below(20) as usize]).collect();
            let cut = chance.below(text.len() as u64 + 1) as usize;
            let _ = Json::parse(&text.as_bytes()[..cut]);
        }
    }
}
