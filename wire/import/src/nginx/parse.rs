//! The grammar: words up to a semicolon, or a block in braces. Reads on after whatever is wrong.
//!
//! Source: nginx, `src/core/ngx_conf_file.c`, `ngx_conf_read_token`.

use std::iter::Peekable;
use std::str::Chars;

use naru_doc::tree::Position;
use naru_spec::{Problem, Severity};

/// Blocks within blocks: nginx itself needs five.
const DEPTH_MAX: usize = 32;

/// One directive, with the place of its name.
#[derive(Debug)]
pub(crate) struct Directive {
    pub name: String,
    pub args: Vec<Word>,
    pub at: Position,
    pub block: Option<Vec<Directive>>,
}

#[derive(Debug)]
pub(crate) struct Word {
    pub text: String,
    pub at: Position,
}

impl Directive {
    pub fn arg(&self, at: usize) -> Option<&str> {
        self.args.get(at).map(|word| word.text.as_str())
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.args.iter().map(|word| word.text.as_str())
    }

    pub fn children(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// What could be read, and what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub directives: Vec<Directive>,
    pub problems: Vec<Problem>,
}

pub(crate) fn parse(file: &str, text: &str) -> Parsed {
    let mut lexer = Lexer { chars: text.chars().peekable(), at: Position { line: 1, column: 1 } };
    let mut parsed = Parsed::default();
    let mut wrong = |at: Position, message: String| {
        parsed.problems.push(Problem {
            severity: Severity::Error,
            code: naru_spec::code::SYNTAX,
            message,
            hint: String::new(),
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            path: String::new(),
        });
    };
    // The innermost last: the directive that opened a block, and what stands in it so far.
    let mut open: Vec<(Vec<Word>, Vec<Directive>)> = Vec::new();
    let mut here: Vec<Directive> = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    loop {
        let (token, at) = lexer.next();
        match token {
            Token::Word(text) => words.push(Word { text, at }),
            Token::Unclosed(text) => {
                wrong(at, "a quotation mark is never closed".to_owned());
                words.push(Word { text, at });
            }
            Token::Semicolon => match directive(std::mem::take(&mut words), None) {
                Some(directive) => here.push(directive),
                None => wrong(at, "unexpected ';'".to_owned()),
            },
            Token::Open if open.len() >= DEPTH_MAX => {
                wrong(at, format!("more than {DEPTH_MAX} blocks within each other"));
                break;
            }
            Token::Open => {
                if words.is_empty() {
                    wrong(at, "unexpected '{'".to_owned());
                }
                open.push((std::mem::take(&mut words), std::mem::take(&mut here)));
            }
            Token::Close => {
                if let Some(first) = words.first() {
                    wrong(first.at, format!("'{}' is not ended by ';'", first.text));
                    here.extend(directive(std::mem::take(&mut words), None));
                }
                match open.pop() {
                    Some((opening, before)) => {
                        let block = std::mem::replace(&mut here, before);
                        here.extend(directive(opening, Some(block)));
                    }
                    None => wrong(at, "unexpected '}'".to_owned()),
                }
            }
            Token::End => break,
        }
    }
    if let Some(first) = words.first() {
        wrong(first.at, format!("'{}' is not ended by ';'", first.text));
        here.extend(directive(words, None));
    }
    while let Some((opening, before)) = open.pop() {
        if let Some(first) = opening.first() {
            wrong(first.at, format!("the block of '{}' is never closed", first.text));
        }
        let block = std::mem::replace(&mut here, before);
        here.extend(directive(opening, Some(block)));
    }
    parsed.directives = here;
    parsed
}

/// The first word is the name.
fn directive(words: Vec<Word>, block: Option<Vec<Directive>>) -> Option<Directive> {
    let mut words = words.into_iter();
    let Word { text: name, at } = words.next()?;
    Some(Directive { name, args: words.collect(), at, block })
}

enum Token {
    Word(String),
    /// A word whose quotation goes on to the end of the text.
    Unclosed(String),
    Semicolon,
    Open,
    Close,
    End,
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    at: Position,
}

impl Lexer<'_> {
    /// A token, and where it begins.
    fn next(&mut self) -> (Token, Position) {
        while let Some(c) = self.chars.peek().copied() {
            match c {
                c if c.is_whitespace() => {
                    self.take();
                }
                '#' => {
                    while self.chars.peek().is_some_and(|c| *c != '\n') {
                        self.take();
                    }
                }
                _ => {
                    let at = self.at;
                    return (self.token(c), at);
                }
            }
        }
        (Token::End, self.at)
    }

    fn token(&mut self, first: char) -> Token {
        let token = match first {
            ';' => Token::Semicolon,
            '{' => Token::Open,
            '}' => Token::Close,
            '"' | '\'' => return self.quoted(first),
            _ => return self.plain(),
        };
        self.take();
        token
    }

    fn quoted(&mut self, quote: char) -> Token {
        self.take();
        let mut text = String::new();
        while let Some(c) = self.take() {
            match c {
                '\\' => self.escaped(&mut text),
                c if c == quote => return Token::Word(text),
                c => text.push(c),
            }
        }
        Token::Unclosed(text)
    }

    /// A brace within `${name}` opens no block.
    fn plain(&mut self) -> Token {
        let mut text = String::new();
        let mut is_variable = false;
        while let Some(c) = self.chars.peek().copied() {
            match c {
                '{' if text.ends_with('$') => is_variable = true,
                '}' if is_variable => is_variable = false,
                ';' | '{' | '}' => break,
                c if c.is_whitespace() => break,
                _ => {}
            }
            self.take();
            if c == '\\' { self.escaped(&mut text) } else { text.push(c) }
        }
        Token::Word(text)
    }

    /// nginx takes away the backslash before a quotation mark and of `\t`, `\r`, `\n`; a regular
    /// expression keeps its own.
    fn escaped(&mut self, text: &mut String) {
        match self.take() {
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(c @ ('"' | '\'' | '\\')) => text.push(c),
            Some(c) => text.extend(['\\', c]),
            None => text.push('\\'),
        }
    }

    fn take(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        // A return alone ends a line, too, as other readers of texts have it.
        let is_end = c == '\n' || c == '\r' && self.chars.peek() != Some(&'\n');
        if is_end {
            self.at = Position { line: self.at.line.saturating_add(1), column: 1 };
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(directives: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let words: String = directive.texts().map(|text| format!(" <{text}>")).collect();
            let block = directive.block.as_ref().map_or(";".to_owned(), |b| format!(" {{{}}}", shown(b)));
            format!("{}{words}{block}", directive.name)
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_quotations_comments_and_blocks_are_read() {
        let check = |text: &str, expected: &str| {
            let parsed = parse("f", text);
            assert_eq!(shown(&parsed.directives), expected, "{text}");
            assert!(parsed.problems.is_empty(), "{text}: {:?}", parsed.problems);
        };
        check("a b c;", "a <b> <c>;");
        check("a 'b c' \"d;{}\";", "a <b c> <d;{}>;");
        check("a { b; } # c {\nd;", "a {b;} d;");
        check("a ${b}c {d;}", "a <${b}c> {d;}");
        check(r#"a "b\"c" \.php$;"#, r#"a <b"c> <\.php$>;"#);
        check("a b#c;", "a <b#c>;");
        check("a{}\r\n", "a {}");
        check("", "");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_the_rest_is_read() {
        let check = |text: &str, message: &str, place: (u32, u32), expected: &str| {
            let parsed = parse("f", text);
            let problem = &parsed.problems[0];
            assert!(problem.message.contains(message), "{text}: {problem}");
            assert_eq!((problem.line, problem.column), place, "{text}");
            assert_eq!(shown(&parsed.directives), expected, "{text}");
        };
        check("a {\n  b c\n}\nd;", "'b' is not ended", (2, 3), "a {b <c>;} d;");
        check("a;\n}\nb;", "unexpected '}'", (2, 1), "a; b;");
        check("a {\n b;", "'a' is never closed", (1, 1), "a {b;}");
        check("a 'b", "never closed", (1, 3), "a <b>;");
        check(";a;", "unexpected ';'", (1, 1), "a;");
        check("{a;}b;", "unexpected '{'", (1, 1), "b;");
        check(
            &"a {".repeat(100),
            "more than 32",
            (1, 99),
            &format!("{}a;{}", "a {".repeat(32), "}".repeat(32)),
        );
    }
}
