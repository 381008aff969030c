//! Which words does a text of CEL have? Names, numbers, texts and signs, each with where it begins.

use crate::parse::Wrong;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    Name(String),
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// `&&`, `(`, `in`.
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", "in",
];

/// Words that mean nothing yet and may not be names.
const RESERVED: [&str; 15] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
];

pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn wrong(&self, at: usize, message: impl Into<String>) -> Wrong {
        Wrong::at(self.text, at, message)
    }

    /// The next word, and where it begins.
    pub fn next(&mut self) -> Result<(usize, Word), Wrong> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']).len();
            self.at += blank;
            if !self.rest().starts_with("//") {
                break;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
        let (from, rest) = (self.at, self.rest());
        let Some(first) = rest.chars().next() else { return Ok((from, Word::End)) };
        if first.is_ascii_digit() || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            return self.number().map(|word| (from, word));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = &rest[..length];
            let is_prefix = name.len() <= 2 && name.chars().all(|c| "rRbB".contains(c));
            if is_prefix && rest[length..].starts_with(['"', '\'']) {
                return self.quoted(name).map(|word| (from, word));
            }
            self.at += length;
            if name == "in" {
                return Ok((from, Word::Sign("in")));
            }
            if RESERVED.contains(&name) {
                return Err(self.wrong(from, format!("'{name}' is a reserved word")));
            }
            return Ok((from, Word::Name(name.to_owned())));
        }
        if first == '"' || first == '\'' {
            return self.quoted("").map(|word| (from, word));
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                Ok((from, Word::Sign(sign)))
            }
            None if rest.starts_with('=') => Err(self.wrong(from, "'=' compares nothing: write '=='")),
            None if rest.starts_with(['&', '|']) => {
                Err(self.wrong(from, format!("'{first}' stands alone: write '{first}{first}'")))
            }
            None => Err(self.wrong(from, format!("'{}' is no word of CEL", first.escape_default()))),
        }
    }

    fn number(&mut self) -> Result<Word, Wrong> {
        let (from, rest) = (self.at, self.rest());
        let is_hex = rest.starts_with("0x") || rest.starts_with("0X");
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let mut length;
        let mut is_real = false;
        if is_hex {
            let hex = &rest[2..];
            length = 2 + hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        } else {
            length = digits(rest);
            if rest[length..].starts_with('.') && digits(&rest[length + 1..]) > 0 {
                is_real = true;
                length += 1 + digits(&rest[length + 1..]);
            }
            if rest[length..].starts_with(['e', 'E']) {
                let sign = usize::from(rest[length + 1..].starts_with(['+', '-']));
                let exponent = digits(&rest[length + 1 + sign..]);
                if exponent > 0 {
                    is_real = true;
                    length += 1 + sign + exponent;
                }
            }
        }
        let text = &rest[..length];
        self.at += length;
        if is_real {
            return text.parse().map(Word::Double).map_err(|_| self.wrong(from, "it is no number"));
        }
        let is_unsigned = self.rest().starts_with(['u', 'U']);
        self.at += usize::from(is_unsigned);
        if self.rest().starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return Err(self.wrong(from, "a number ends before a name begins"));
        }
        let whole = if is_hex { u64::from_str_radix(&text[2..], 16) } else { text.parse() };
        let whole = whole.map_err(|_| self.wrong(from, format!("'{text}' does not fit into 64 bits")))?;
        Ok(if is_unsigned { Word::Uint(whole) } else { Word::Int(whole) })
    }

    fn quoted(&mut self, prefix: &str) -> Result<Word, Wrong> {
        let from = self.at;
        let (is_raw, is_bytes) = (prefix.contains(['r', 'R']), prefix.contains(['b', 'B']));
        if prefix.len() == 2 && !(is_raw && is_bytes) {
            return Err(self.wrong(from, format!("'{prefix}' is said twice")));
        }
        self.at += prefix.len();
        let quote = if self.rest().starts_with('"') { '"' } else { '\'' };
        let three: String = std::iter::repeat_n(quote, 3).collect();
        let is_long = self.rest().starts_with(&three);
        self.at += if is_long { 3 } else { 1 };
        let mut bytes = Vec::new();
        loop {
            let Some(letter) = self.rest().chars().next() else {
                return Err(self.wrong(from, "the text has no end"));
            };
            if is_long && self.rest().starts_with(&three) {
                self.at += 3;
                break;
            }
            if !is_long && letter == quote {
                self.at += 1;
                break;
            }
            if !is_long && (letter == '\n' || letter == '\r') {
                return Err(self.wrong(from, "the text has no end in its line"));
            }
            if letter == '\\' && !is_raw {
                self.escape(is_bytes, &mut bytes)?;
                continue;
            }
            self.at += letter.len_utf8();
            bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if is_bytes {
            return Ok(Word::Bytes(bytes));
        }
        let text = String::from_utf8(bytes).map_err(|_| self.wrong(from, "it is no UTF-8"))?;
        Ok(Word::Text(text))
    }

    /// In bytes `\x` and octal digits are a byte, else they are a letter.
    fn escape(&mut self, is_bytes: bool, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let from = self.at;
        let mut letters = self.rest()[1..].chars();
        let Some(kind) = letters.next() else { return Err(self.wrong(from, "the text has no end")) };
        let plain = match kind {
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '\\' | '?' | '"' | '\'' | '`' => Some(kind),
            _ => None,
        };
        if let Some(plain) = plain {
            self.at += 2;
            out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        let (skip, length, radix) = match kind {
            'x' | 'X' => (2, 2, 16),
            'u' if !is_bytes => (2, 4, 16),
            'U' if !is_bytes => (2, 8, 16),
            '0'..='3' => (1, 3, 8),
            _ => return Err(self.wrong(from, format!("'\\{kind}' is no escape"))),
        };
        let digits = self.rest().get(skip..skip + length);
        let code = digits.filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)));
        let code = code.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        let Some(code) = code else {
            return Err(self.wrong(from, format!("'\\{kind}' wants {length} digits")));
        };
        self.at += skip + length;
        match (is_bytes, u8::try_from(code), char::from_u32(code)) {
            (true, Ok(byte), _) => out.push(byte),
            (false, _, Some(letter)) => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return Err(self.wrong(from, "it is no letter")),
        }
        Ok(())
    }
}
