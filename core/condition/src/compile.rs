//! Is a tree a condition that can be asked? Names become what they mean, patterns are compiled.

use naru_spec::{Cel, CelCall, CelFold, CelSelect, Invalid, defaults, suggest};
use regex::{Regex, RegexBuilder};

use crate::facts::{Attribute, Named, Object};
use crate::functions::Function;
use crate::moment::{Part, offset, read_moment, read_span};

/// A condition, ready to be asked.
#[derive(Debug)]
pub struct Condition {
    pub(crate) node: Node,
}

#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Type(&'static str),
    Local(usize),
    Attribute(Attribute),
    HasAttribute(Attribute),
    Select { of: Box<Node>, field: String, tests: bool },
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Choose(Box<Node>, Box<Node>, Box<Node>),
    NotFalse(Box<Node>),
    Call(Function, Vec<Node>),
    Matches(Box<Node>, Regex),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Fold(Box<Fold>),
}

#[derive(Debug)]
pub(crate) struct Fold {
    pub over: Node,
    pub first: Node,
    pub goes_on: Node,
    pub step: Node,
    pub result: Node,
    /// Its step is `kept && x` or `kept || x`, so that another element may decide where one failed.
    pub can_recover: bool,
}

/// Of lists within lists that are gone over.
const FOLDS_MAX: usize = 3;

impl Condition {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(said: &Cel) -> Result<Condition, Vec<Invalid>> {
        let mut compiler =
            Compiler { problems: Vec::new(), nodes: 0, depth: 0, folds: 0, locals: Vec::new() };
        let node = compiler.node(said);
        if compiler.problems.is_empty() { Ok(Condition { node }) } else { Err(compiler.problems) }
    }
}

struct Compiler {
    problems: Vec<Invalid>,
    nodes: usize,
    depth: usize,
    folds: usize,
    /// What folds call things, the innermost last.
    locals: Vec<String>,
}

/// What a name or a field of one leads to.
enum Found {
    Object(Object),
    Attribute(Attribute),
}

impl Compiler {
    fn tell(&mut self, invalid: Invalid) -> Node {
        if !self.problems.contains(&invalid) {
            self.problems.push(invalid);
        }
        Node::Null
    }

    fn boxed(&mut self, said: &Cel) -> Box<Node> {
        Box::new(self.node(said))
    }

    fn node(&mut self, said: &Cel) -> Node {
        self.nodes += 1;
        if self.nodes > defaults::CONDITION_NODES_MAX || self.depth >= defaults::CONDITION_DEPTH_MAX {
            let hint = format!(
                "at most {} parts, and no deeper than {}",
                defaults::CONDITION_NODES_MAX,
                defaults::CONDITION_DEPTH_MAX
            );
            return self.tell(Invalid::new("the condition is too large").hint(hint));
        }
        self.depth += 1;
        let node = self.inner(said);
        self.depth -= 1;
        node
    }

    fn inner(&mut self, said: &Cel) -> Node {
        match said {
            Cel::Null => Node::Null,
            Cel::Bool(is_true) => Node::Bool(*is_true),
            Cel::Int(whole) => Node::Int(*whole),
            Cel::Uint(whole) => Node::Uint(*whole),
            Cel::Double(real) => Node::Double(*real),
            Cel::Text(text) => Node::Text(text.clone()),
            Cel::Bytes(bytes) => Node::Bytes(bytes.clone()),
            Cel::List(list) => Node::List(list.iter().map(|said| self.node(said)).collect()),
            Cel::Map(entries) => {
                Node::Map(entries.iter().map(|(key, value)| (self.node(key), self.node(value))).collect())
            }
            Cel::Ident(name) => self.ident(name),
            Cel::Select(select) => self.select(said, select),
            Cel::Call(call) => self.call(said, call),
            Cel::Fold(fold) => self.fold(fold),
        }
    }

    fn local(&self, name: &str) -> Option<usize> {
        self.locals.iter().rposition(|known| known == name)
    }

    /// What is known of a request under such a name.
    fn found(&mut self, said: &Cel) -> Option<Result<Found, Invalid>> {
        let (of, name) = match said {
            Cel::Ident(name) if self.local(name).is_none() => {
                return Object::root(name).map(|object| Ok(Found::Object(object)));
            }
            Cel::Select(select) => (&select.of, &select.field),
            Cel::Call(call) if call.function == "_[_]" => match call.args.as_slice() {
                [of, Cel::Text(name)] => (of, name),
                _ => return None,
            },
            _ => return None,
        };
        match self.found(of)? {
            Ok(Found::Object(object)) => Some(match object.field(name) {
                Some(Named::Object(object)) => Ok(Found::Object(object)),
                Some(Named::Attribute(attribute)) => Ok(Found::Attribute(attribute)),
                None => {
                    let message = format!("there is no {}.{name}", object.name());
                    Err(Invalid::new(message).hint(format!("{} has {}", object.name(), object.fields())))
                }
            }),
            Ok(Found::Attribute(_)) => None,
            Err(invalid) => Some(Err(invalid)),
        }
    }

    fn attribute(&mut self, said: &Cel, make: fn(Attribute) -> Node) -> Option<Node> {
        match self.found(said)? {
            Ok(Found::Attribute(attribute)) => Some(make(attribute)),
            Ok(Found::Object(object)) => {
                let message = format!("{} is no value itself", object.name());
                let hint = format!("it has {}", object.fields());
                Some(self.tell(Invalid::new(message).hint(hint)))
            }
            Err(invalid) => Some(self.tell(invalid)),
        }
    }

    fn ident(&mut self, name: &str) -> Node {
        if let Some(at) = self.local(name) {
            return Node::Local(at);
        }
        if let Some(node) = self.attribute(&Cel::Ident(name.to_owned()), Node::Attribute) {
            return node;
        }
        match TYPES.iter().copied().find(|known| *known == name) {
            Some(name) => Node::Type(name),
            None => {
                let roots = ["request", "source", "destination", "connection", "metadata", "session"];
                let meant = suggest::did_you_mean(name, roots.into_iter());
                let hint = if meant.is_empty() { format!("there are {}", Object::ROOTS) } else { meant };
                self.tell(Invalid::new(format!("there is no '{name}'")).hint(hint))
            }
        }
    }

    fn select(&mut self, said: &Cel, select: &CelSelect) -> Node {
        let make = if select.tests { Node::HasAttribute } else { Node::Attribute };
        if let Some(node) = self.attribute(said, make) {
            return node;
        }
        Node::Select { of: self.boxed(&select.of), field: select.field.clone(), tests: select.tests }
    }

    fn call(&mut self, said: &Cel, call: &CelCall) -> Node {
        if let Some(node) = self.attribute(said, Node::Attribute) {
            return node;
        }
        let is_method = call.target.is_some();
        let given: Vec<&Cel> = call.target.iter().chain(&call.args).collect();
        match (call.function.as_str(), given.as_slice()) {
            ("_&&_", [one, other]) => return Node::And(self.boxed(one), self.boxed(other)),
            ("_||_", [one, other]) => return Node::Or(self.boxed(one), self.boxed(other)),
            ("_?_:_", [condition, yes, no]) => {
                return Node::Choose(self.boxed(condition), self.boxed(yes), self.boxed(no));
            }
            ("@not_strictly_false" | "__not_strictly_false__", [inner]) => {
                return Node::NotFalse(self.boxed(inner));
            }
            ("matches", [of, pattern]) => return self.matches(of, pattern),
            (name, [_, Cel::Text(zone)])
                if is_method && Part::named(name).is_some() && offset(zone).is_none() =>
            {
                let hint = "write how far clocks are ahead of UTC: '+09:00', '-03:30', or 'UTC'";
                return self.tell(Invalid::new(format!("'{zone}' is no zone that is known")).hint(hint));
            }
            // What is written out is read once, and told before a request asks.
            ("timestamp", [Cel::Text(text)]) if !is_method && read_moment(text).is_err() => {
                let hint = "as RFC 3339 has it: '2026-11-22T09:30:00Z', '2026-11-22T09:30:00.5+09:00'";
                return self.tell(Invalid::new(format!("'{text}' is no timestamp")).hint(hint));
            }
            ("duration", [Cel::Text(text)]) if !is_method && read_span(text).is_err() => {
                let hint = "'1h30m', '250ms', '-1.5s': h, m, s, ms, us, ns";
                return self.tell(Invalid::new(format!("'{text}' is no duration")).hint(hint));
            }
            _ => {}
        }
        let Some(function) = Function::of(&call.function, is_method, given.len()) else {
            return self.unknown(&call.function);
        };
        Node::Call(function, given.into_iter().map(|said| self.node(said)).collect())
    }

    fn unknown(&mut self, name: &str) -> Node {
        let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
        let invalid = match known {
            Some((_, usage)) => Invalid::new(format!("{name}() is called as {usage}")),
            None => {
                let names = FUNCTIONS.map(|(name, _)| name).join(", ");
                Invalid::new(format!("there is no function '{name}'")).hint(format!("there are {names}"))
            }
        };
        self.tell(invalid)
    }

    /// A pattern of a request's own would be compiled for it, and cost what it wants.
    fn matches(&mut self, of: &Cel, pattern: &Cel) -> Node {
        let Cel::Text(text) = pattern else {
            let message = "the pattern of matches() is not written in the condition";
            return self.tell(Invalid::new(message).hint("matches('^/shop/')"));
        };
        let compiled =
            RegexBuilder::new(text).size_limit(defaults::PATTERN_PROGRAM_BYTES_MAX).nest_limit(32).build();
        match compiled {
            Ok(pattern) => Node::Matches(self.boxed(of), pattern),
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or("").trim().trim_start_matches("error: ").to_owned();
                self.tell(Invalid::new(format!("the pattern '{text}' is none: {why}")))
            }
        }
    }

    fn fold(&mut self, fold: &CelFold) -> Node {
        self.folds += 1;
        if self.folds > FOLDS_MAX {
            self.folds -= 1;
            let message = format!("lists are gone over within {FOLDS_MAX} others, and no deeper");
            return self.tell(Invalid::new(message));
        }
        let over = self.node(&fold.over);
        let base = self.locals.len();
        self.locals.push(fold.item.clone());
        // What is kept is not there yet when its first value is made, nor the element when it is over.
        self.locals.push(String::new());
        let first = self.node(&fold.first);
        if let Some(kept) = self.locals.last_mut() {
            kept.clone_from(&fold.kept);
        }
        let (goes_on, step) = (self.node(&fold.goes_on), self.node(&fold.step));
        let result = self.node(&fold.result);
        self.locals.truncate(base);
        self.folds -= 1;
        let can_recover = match &step {
            Node::And(one, _) | Node::Or(one, _) => matches!(**one, Node::Local(at) if at == base + 1),
            _ => false,
        };
        Node::Fold(Box::new(Fold { over, first, goes_on, step, result, can_recover }))
    }
}

const TYPES: [&str; 10] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

/// How each is called.
const FUNCTIONS: [(&str, &str); 25] = [
    ("size", "size(list) or text.size()"),
    ("startsWith", "text.startsWith(start)"),
    ("endsWith", "text.endsWith(end)"),
    ("contains", "text.contains(part)"),
    ("matches", "text.matches('pattern')"),
    ("int", "int(value)"),
    ("uint", "uint(value)"),
    ("double", "double(value)"),
    ("string", "string(value)"),
    ("bytes", "bytes(text)"),
    ("bool", "bool(text)"),
    ("type", "type(value)"),
    ("dyn", "dyn(value)"),
    ("timestamp", "timestamp('2026-11-22T09:30:00Z')"),
    ("duration", "duration('1h30m')"),
    ("getFullYear", "request.time.getFullYear('+09:00')"),
    ("getMonth", "request.time.getMonth('+09:00')"),
    ("getDate", "request.time.getDate('+09:00')"),
    ("getDayOfMonth", "request.time.getDayOfMonth('+09:00')"),
    ("getDayOfWeek", "request.time.getDayOfWeek('+09:00')"),
    ("getDayOfYear", "request.time.getDayOfYear('+09:00')"),
    ("getHours", "request.time.getHours('+09:00')"),
    ("getMinutes", "request.time.getMinutes('+09:00')"),
    ("getSeconds", "request.time.getSeconds('+09:00')"),
    ("getMilliseconds", "request.time.getMilliseconds('+09:00')"),
];
