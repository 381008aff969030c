//! Can a condition come to a yes or a no at all? What is plain from its text is said before a request asks.
//!
//! Types are known of what is written and of attributes; a claim may be anything. Envoy checks none of this, so its
//! trees are not held against it.

use naru_spec::{Cel, CelCall, CelFold, Invalid};

use crate::facts::{Named, Object};
use crate::moment::Part;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    List,
    Map,
    Time,
    Span,
    Type,
}

/// What can never be right in it.
pub fn check(said: &Cel) -> Vec<Invalid> {
    let mut checker = Checker { problems: Vec::new(), locals: Vec::new() };
    let kind = checker.kind(said);
    if kind != Kind::Bool && kind != Kind::Any {
        let message = format!("a condition is true or false, and this is {}", kind.name());
        checker.problems.push(Invalid::new(message).hint("compare it: request.method == 'GET'"));
    }
    checker.problems
}

struct Checker {
    problems: Vec<Invalid>,
    locals: Vec<(String, Kind)>,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Any => "anything",
            Kind::Null => "null",
            Kind::Bool => "a bool",
            Kind::Int => "an int",
            Kind::Uint => "a uint",
            Kind::Double => "a double",
            Kind::Text => "a text",
            Kind::Bytes => "bytes",
            Kind::List => "a list",
            Kind::Map => "a map",
            Kind::Time => "a timestamp",
            Kind::Span => "a duration",
            Kind::Type => "a type",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::Uint | Kind::Double)
    }

    fn may_be(self, one_of: &[Kind]) -> bool {
        self == Kind::Any || one_of.contains(&self)
    }
}

impl Checker {
    fn object(&self, said: &Cel) -> Option<Object> {
        let (of, name) = match said {
            Cel::Ident(name) if !self.locals.iter().any(|(known, _)| known == name) => {
                return Object::root(name);
            }
            Cel::Select(select) => (&select.of, &select.field),
            _ => return None,
        };
        match self.object(of)?.field(name)? {
            Named::Object(object) => Some(object),
            Named::Attribute(_) => None,
        }
    }

    fn kind(&mut self, said: &Cel) -> Kind {
        match said {
            Cel::Null => Kind::Null,
            Cel::Bool(_) => Kind::Bool,
            Cel::Int(_) => Kind::Int,
            Cel::Uint(_) => Kind::Uint,
            Cel::Double(_) => Kind::Double,
            Cel::Text(_) => Kind::Text,
            Cel::Bytes(_) => Kind::Bytes,
            Cel::List(list) => {
                for said in list {
                    self.kind(said);
                }
                Kind::List
            }
            Cel::Map(entries) => {
                for (key, value) in entries {
                    self.kind(key);
                    self.kind(value);
                }
                Kind::Map
            }
            Cel::Ident(name) => {
                let local = self.locals.iter().rev().find(|(known, _)| known == name);
                local.map_or(Kind::Any, |(_, kind)| *kind)
            }
            Cel::Select(select) => {
                if let Some(object) = self.object(&select.of) {
                    return match object.field(&select.field) {
                        _ if select.tests => Kind::Bool,
                        Some(Named::Attribute(attribute)) => attribute.kind(),
                        // That it is none is told by whoever compiles it.
                        Some(Named::Object(_)) | None => Kind::Any,
                    };
                }
                let of = self.kind(&select.of);
                self.want(of, &[Kind::Map], &format!("'.{}' is a field", select.field));
                if select.tests { Kind::Bool } else { Kind::Any }
            }
            Cel::Call(call) => self.call(call),
            Cel::Fold(fold) => self.fold(fold),
        }
    }

    fn want(&mut self, kind: Kind, one_of: &[Kind], what: &str) {
        if !kind.may_be(one_of) {
            let names: Vec<_> = one_of.iter().map(|kind| kind.name()).collect();
            let message = format!("{what} of {}, and this is {}", names.join(" or "), kind.name());
            self.problems.push(Invalid::new(message));
        }
    }

    fn call(&mut self, call: &CelCall) -> Kind {
        // The claims of tokens, which are indexed by the name of a filter.
        if let ("_[_]", [of, Cel::Text(_)]) = (call.function.as_str(), call.args.as_slice())
            && self.object(of).is_some()
        {
            return Kind::Map;
        }
        let given: Vec<Kind> = call.target.iter().chain(&call.args).map(|said| self.kind(said)).collect();
        let name = call.function.as_str();
        match (name, given.as_slice()) {
            ("_&&_" | "_||_", [one, other]) => {
                let sign = if name == "_&&_" { "'&&' joins two" } else { "'||' joins two" };
                self.want(*one, &[Kind::Bool], sign);
                self.want(*other, &[Kind::Bool], sign);
                Kind::Bool
            }
            ("!_", [of]) => {
                self.want(*of, &[Kind::Bool], "'!' is the opposite");
                Kind::Bool
            }
            ("_?_:_", [condition, yes, no]) => {
                self.want(*condition, &[Kind::Bool], "'?' asks");
                if yes == no { *yes } else { Kind::Any }
            }
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [one, other]) => {
                let is_known = *one != Kind::Any && *other != Kind::Any;
                let is_alike = one == other || one.is_number() && other.is_number();
                let is_equality = matches!(name, "_==_" | "_!=_");
                if is_known && !is_alike && !(is_equality && (*one == Kind::Null || *other == Kind::Null)) {
                    let message = format!("{} and {} cannot be compared", one.name(), other.name());
                    self.problems.push(Invalid::new(message));
                } else if !is_equality {
                    let ordered = [
                        Kind::Bool,
                        Kind::Int,
                        Kind::Uint,
                        Kind::Double,
                        Kind::Text,
                        Kind::Bytes,
                        Kind::Time,
                        Kind::Span,
                    ];
                    self.want(*one, &ordered, "there is an order");
                }
                Kind::Bool
            }
            ("@in" | "_in_", [_, of]) => {
                self.want(*of, &[Kind::List, Kind::Map], "'in' asks for an element");
                Kind::Bool
            }
            ("startsWith" | "endsWith" | "contains" | "matches", [of, part]) => {
                self.want(*of, &[Kind::Text], &format!("{name}() is"));
                self.want(*part, &[Kind::Text], &format!("{name}() asks for a part"));
                Kind::Bool
            }
            ("size", [of]) => {
                self.want(*of, &[Kind::Text, Kind::Bytes, Kind::List, Kind::Map], "size() is");
                Kind::Int
            }
            ("_[_]", [of, _]) => {
                self.want(*of, &[Kind::List, Kind::Map], "an index is");
                Kind::Any
            }
            ("_+_", [Kind::Time, Kind::Span] | [Kind::Span, Kind::Time]) => Kind::Time,
            ("_-_", [Kind::Time, Kind::Span]) => Kind::Time,
            ("_-_", [Kind::Time, Kind::Time]) => Kind::Span,
            // What is added to a moment may be a span, and what is taken from one a moment.
            ("_+_" | "_-_", [Kind::Time, Kind::Any] | [Kind::Any, Kind::Time])
            | ("_+_", [Kind::Span, Kind::Any])
            | ("_+_" | "_-_", [Kind::Any, Kind::Span]) => Kind::Any,
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [one, other]) => {
                if *one != Kind::Any && *other != Kind::Any && one != other {
                    let sign = name.trim_matches('_');
                    let message =
                        format!("{} {sign} {} is nothing: both are of one type", one.name(), other.name());
                    self.problems.push(Invalid::new(message));
                }
                if *one == Kind::Any { *other } else { *one }
            }
            ("-_", [of]) => *of,
            ("int", [_]) => Kind::Int,
            ("uint", [_]) => Kind::Uint,
            ("double", [_]) => Kind::Double,
            ("string", [_]) => Kind::Text,
            ("bytes", [_]) => Kind::Bytes,
            ("bool", [_]) | ("@not_strictly_false", [_]) => Kind::Bool,
            ("type", [_]) => Kind::Type,
            ("timestamp", [of]) => {
                self.want(*of, &[Kind::Text, Kind::Int, Kind::Time], "timestamp() is");
                Kind::Time
            }
            ("duration", [of]) => {
                self.want(*of, &[Kind::Text, Kind::Span], "duration() is");
                Kind::Span
            }
            (_, [of, ..]) if Part::named(name).is_some() => {
                let is_of_both = matches!(
                    Part::named(name),
                    Some(Part::Hours | Part::Minutes | Part::Seconds | Part::Milliseconds)
                );
                let of_what: &[Kind] = if is_of_both { &[Kind::Time, Kind::Span] } else { &[Kind::Time] };
                self.want(*of, of_what, &format!("{name}() is"));
                Kind::Int
            }
            _ => Kind::Any,
        }
    }

    fn fold(&mut self, fold: &CelFold) -> Kind {
        let over = self.kind(&fold.over);
        self.want(over, &[Kind::List, Kind::Map], "one goes over the elements");
        let first = self.kind(&fold.first);
        self.locals.push((fold.item.clone(), Kind::Any));
        self.locals.push((fold.kept.clone(), first));
        self.kind(&fold.goes_on);
        self.kind(&fold.step);
        let result = self.kind(&fold.result);
        self.locals.truncate(self.locals.len() - 2);
        result
    }
}
