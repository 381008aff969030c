//! What does a text of CEL mean? Its tree, with macros as what they stand for.

use naru_spec::{Cel, CelCall, CelFold, CelSelect, defaults};

use crate::facts::CLAIMS_OF;
use crate::lex::{Lexer, Word};

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Both from 1; columns are letters.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Wrong {
    pub(crate) fn at(text: &str, at: usize, message: impl Into<String>) -> Wrong {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Wrong { line, column, message: message.into() }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 1 {
            write!(f, "in line {} of it, at character {}: {}", self.line, self.column, self.message)
        } else {
            write!(f, "at character {}: {}", self.column, self.message)
        }
    }
}

/// Of what is within brackets within brackets.
const NESTED_MAX: usize = 24;
/// What macros keep.
const KEPT: &str = "__result__";

/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Cel, Wrong> {
    if text.len() > defaults::CONDITION_BYTES_MAX {
        let message =
            format!("it has {} bytes, of {} that it may", text.len(), defaults::CONDITION_BYTES_MAX);
        return Err(Wrong::at(text, 0, message));
    }
    let mut lexer = Lexer::new(text);
    let next = lexer.next()?;
    let mut parser = Parser { text, lexer, next, nested: 0 };
    if parser.next.1 == Word::End {
        return Err(parser.wrong("it says nothing"));
    }
    let tree = parser.expression()?;
    if parser.next.1 != Word::End {
        return Err(parser.wrong("an operator is missing before this"));
    }
    Ok(tree)
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// Where the next word begins, and the word.
    next: (usize, Word),
    nested: usize,
}

impl Parser<'_> {
    fn wrong(&self, message: impl Into<String>) -> Wrong {
        Wrong::at(self.text, self.next.0, message)
    }

    fn take(&mut self) -> Result<Word, Wrong> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.next, next).1)
    }

    fn takes(&mut self, sign: &str) -> Result<bool, Wrong> {
        let is_it = matches!(&self.next.1, Word::Sign(next) if *next == sign);
        if is_it {
            self.take()?;
        }
        Ok(is_it)
    }

    fn wants(&mut self, sign: &str) -> Result<(), Wrong> {
        if self.takes(sign)? { Ok(()) } else { Err(self.wrong(format!("'{sign}' is missing here"))) }
    }

    fn name(&mut self) -> Result<String, Wrong> {
        if !matches!(self.next.1, Word::Name(_)) {
            return Err(self.wrong("a name is missing here"));
        }
        match self.take()? {
            Word::Name(name) => Ok(name),
            _ => Ok(String::new()),
        }
    }

    fn expression(&mut self) -> Result<Cel, Wrong> {
        self.nested += 1;
        if self.nested > NESTED_MAX {
            return Err(self.wrong(format!("brackets are within {NESTED_MAX} others here, and no deeper")));
        }
        let condition = self.any()?;
        let tree = if self.takes("?")? {
            let yes = self.any()?;
            self.wants(":")?;
            let no = self.expression()?;
            Cel::call("_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        self.nested -= 1;
        Ok(tree)
    }

    fn any(&mut self) -> Result<Cel, Wrong> {
        let mut terms = vec![self.all()?];
        while self.takes("||")? {
            terms.push(self.all()?);
        }
        Ok(balanced("_||_", terms))
    }

    fn all(&mut self) -> Result<Cel, Wrong> {
        let mut terms = vec![self.relation()?];
        while self.takes("&&")? {
            terms.push(self.relation()?);
        }
        Ok(balanced("_&&_", terms))
    }

    fn joined(
        &mut self,
        signs: &[(&str, &str)],
        inner: fn(&mut Self) -> Result<Cel, Wrong>,
    ) -> Result<Cel, Wrong> {
        let mut left = inner(self)?;
        'more: loop {
            for (sign, function) in signs {
                if self.takes(sign)? {
                    let right = inner(self)?;
                    left = Cel::call(function, vec![left, right]);
                    continue 'more;
                }
            }
            return Ok(left);
        }
    }

    fn relation(&mut self) -> Result<Cel, Wrong> {
        let signs = [
            ("==", "_==_"),
            ("!=", "_!=_"),
            ("<=", "_<=_"),
            (">=", "_>=_"),
            ("<", "_<_"),
            (">", "_>_"),
            ("in", "@in"),
        ];
        self.joined(&signs, Self::sum)
    }

    fn sum(&mut self) -> Result<Cel, Wrong> {
        self.joined(&[("+", "_+_"), ("-", "_-_")], Self::product)
    }

    fn product(&mut self) -> Result<Cel, Wrong> {
        self.joined(&[("*", "_*_"), ("/", "_/_"), ("%", "_%_")], Self::unary)
    }

    fn unary(&mut self) -> Result<Cel, Wrong> {
        let mut nots = 0;
        while self.takes("!")? {
            nots += 1;
        }
        if nots > 0 {
            // Twice is not never: what is no bool has no opposite.
            let inner = self.member()?;
            let twice = if nots % 2 == 0 { 2 } else { 1 };
            return Ok((0..twice).fold(inner, |inner, _| Cel::call("!_", vec![inner])));
        }
        let mut minuses = 0;
        while self.takes("-")? {
            minuses += 1;
            if minuses == 1
                && let Word::Int(whole) = self.next.1
                && whole == 1 << 63
            {
                self.take()?;
                return self.following(Cel::Int(i64::MIN));
            }
        }
        if minuses > 16 {
            return Err(self.wrong("too many signs stand before this"));
        }
        let inner = self.member()?;
        Ok(match inner {
            // The least has no counterpart: that is told where it is computed.
            Cel::Int(whole) if minuses == 1 && whole != i64::MIN => Cel::Int(-whole),
            Cel::Double(real) if minuses == 1 => Cel::Double(-real),
            inner => (0..minuses).fold(inner, |inner, _| Cel::call("-_", vec![inner])),
        })
    }

    fn member(&mut self) -> Result<Cel, Wrong> {
        let first = self.primary()?;
        self.following(first)
    }

    /// What stands behind: fields, calls, and what is in brackets.
    fn following(&mut self, mut of: Cel) -> Result<Cel, Wrong> {
        loop {
            if self.takes(".")? {
                let at = self.next.0;
                let name = self.name()?;
                if self.takes("(")? {
                    let args = self.list(")")?;
                    of = self.method(of, name, args, at)?;
                } else {
                    of = known(Cel::select(of, &name));
                }
            } else if self.takes("[")? {
                let index = self.expression()?;
                self.wants("]")?;
                of = Cel::call("_[_]", vec![of, index]);
            } else if matches!(self.next.1, Word::Sign("{")) {
                return Err(self.wrong("messages are not made here"));
            } else {
                return Ok(of);
            }
        }
    }

    fn list(&mut self, end: &str) -> Result<Vec<Cel>, Wrong> {
        let mut list = Vec::new();
        while !self.takes(end)? {
            if !list.is_empty() {
                self.wants(",")?;
                if end == "]" && self.takes(end)? {
                    break;
                }
            }
            list.push(self.expression()?);
        }
        Ok(list)
    }

    fn primary(&mut self) -> Result<Cel, Wrong> {
        let at = self.next.0;
        let message = match &self.next.1 {
            Word::End => Some("a value is missing at the end".to_owned()),
            Word::Sign(sign) if !["(", "[", "{", "."].contains(sign) => {
                Some(format!("a value is missing before '{sign}'"))
            }
            _ => None,
        };
        if let Some(message) = message {
            return Err(self.wrong(message));
        }
        Ok(match self.take()? {
            Word::Int(whole) => {
                let whole = i64::try_from(whole);
                let far = |_| Wrong::at(self.text, at, "the number does not fit into 64 bits");
                Cel::Int(whole.map_err(far)?)
            }
            Word::Uint(whole) => Cel::Uint(whole),
            Word::Double(real) => Cel::Double(real),
            Word::Text(text) => Cel::Text(text),
            Word::Bytes(bytes) => Cel::Bytes(bytes),
            Word::Name(name) => match name.as_str() {
                "true" => Cel::Bool(true),
                "false" => Cel::Bool(false),
                "null" => Cel::Null,
                _ if self.takes("(")? => {
                    let args = self.list(")")?;
                    self.function(name, args, at)?
                }
                _ => Cel::Ident(name),
            },
            Word::Sign("(") => {
                let inner = self.expression()?;
                self.wants(")")?;
                inner
            }
            Word::Sign("[") => Cel::List(self.list("]")?),
            Word::Sign("{") => {
                let mut entries = Vec::new();
                while !self.takes("}")? {
                    if !entries.is_empty() {
                        self.wants(",")?;
                        if self.takes("}")? {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.wants(":")?;
                    entries.push((key, self.expression()?));
                }
                Cel::Map(entries)
            }
            // A name at the root, of which there is one kind.
            Word::Sign(_) | Word::End => Cel::Ident(self.name()?),
        })
    }

    fn function(&self, name: String, mut args: Vec<Cel>, at: usize) -> Result<Cel, Wrong> {
        if name != "has" {
            return Ok(Cel::Call(Box::new(CelCall { target: None, function: name, args })));
        }
        match (args.pop(), args.is_empty()) {
            (Some(Cel::Select(select)), true) if !select.tests => {
                Ok(Cel::Select(Box::new(CelSelect { tests: true, ..*select })))
            }
            _ => Err(Wrong::at(self.text, at, "has() asks for a field: has(request.auth.claims.name)")),
        }
    }

    /// A method, or a macro that goes over what it is called on.
    fn method(&self, of: Cel, name: String, args: Vec<Cel>, at: usize) -> Result<Cel, Wrong> {
        let counts: &[usize] = match name.as_str() {
            "all" | "exists" | "exists_one" | "existsOne" | "filter" => &[2],
            "map" => &[2, 3],
            _ => return Ok(Cel::Call(Box::new(CelCall { target: Some(of), function: name, args }))),
        };
        let wrong = |message: String| Wrong::at(self.text, at, message);
        if !counts.contains(&args.len()) {
            return Err(wrong(format!(
                "{name}() has a name and what is asked of it: list.{name}(x, x == 'a')"
            )));
        }
        let has_test = args.len() == 3;
        let mut args = args.into_iter();
        let Some(Cel::Ident(item)) = args.next() else {
            return Err(wrong(format!("the first of {name}() is a name for each element")));
        };
        if item == KEPT {
            return Err(wrong(format!("'{KEPT}' is taken")));
        }
        let mut next = || args.next().unwrap_or(Cel::Null);
        let (kept, always) = (|| Cel::Ident(KEPT.to_owned()), || Cel::Bool(true));
        let grown = |with: Cel| Cel::call("_+_", vec![kept(), Cel::List(vec![with])]);
        let not_false = |of: Cel| Cel::call("@not_strictly_false", vec![of]);
        let (first, goes_on, step, result) = match name.as_str() {
            "all" => {
                let step = Cel::call("_&&_", vec![kept(), next()]);
                (always(), not_false(kept()), step, kept())
            }
            "exists" => {
                let step = Cel::call("_||_", vec![kept(), next()]);
                (Cel::Bool(false), not_false(Cel::call("!_", vec![kept()])), step, kept())
            }
            "exists_one" | "existsOne" => {
                let more = Cel::call("_+_", vec![kept(), Cel::Int(1)]);
                let step = Cel::call("_?_:_", vec![next(), more, kept()]);
                (Cel::Int(0), always(), step, Cel::call("_==_", vec![kept(), Cel::Int(1)]))
            }
            "filter" => {
                let step = Cel::call("_?_:_", vec![next(), grown(Cel::Ident(item.clone())), kept()]);
                (Cel::List(Vec::new()), always(), step, kept())
            }
            _ => {
                let one = next();
                let step =
                    if has_test { Cel::call("_?_:_", vec![one, grown(next()), kept()]) } else { grown(one) };
                (Cel::List(Vec::new()), always(), step, kept())
            }
        };
        let kept = KEPT.to_owned();
        Ok(Cel::Fold(Box::new(CelFold { item, over: of, kept, first, goes_on, step, result })))
    }
}

/// Many terms make a tree that is not deep.
fn balanced(function: &str, mut terms: Vec<Cel>) -> Cel {
    match terms.len() {
        0 | 1 => terms.pop().unwrap_or(Cel::Null),
        many => {
            let right = terms.split_off(many.div_ceil(2));
            Cel::call(function, vec![balanced(function, terms), balanced(function, right)])
        }
    }
}

/// `request.auth` is Istio's word for what Envoy has in the metadata of `jwt_authn`.
fn known(tree: Cel) -> Cel {
    let Cel::Select(select) = &tree else { return tree };
    let is_auth = matches!(&select.of, Cel::Select(of)
        if of.field == "auth" && of.of == Cel::Ident("request".to_owned()));
    if !is_auth {
        return tree;
    }
    let claims = || {
        let metadata = Cel::select(Cel::Ident("metadata".to_owned()), "filter_metadata");
        let of_filter = Cel::call("_[_]", vec![metadata, Cel::Text(CLAIMS_OF.to_owned())]);
        Cel::select(of_filter, "payload")
    };
    match select.field.as_str() {
        "claims" => claims(),
        "principal" => {
            let issuer = Cel::call("_+_", vec![Cel::select(claims(), "iss"), Cel::Text("/".to_owned())]);
            Cel::call("_+_", vec![issuer, Cel::select(claims(), "sub")])
        }
        "audiences" => Cel::select(claims(), "aud"),
        "presenter" => Cel::select(claims(), "azp"),
        _ => tree,
    }
}
