//! What comes of a condition for one request? A walk over its tree, which pays for each step.

use std::rc::Rc;

use naru_spec::defaults;

use crate::compile::{Condition, Node};
use crate::facts::Facts;
use crate::functions;
use crate::value::Value;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// A claim, a header or a name of a certificate is asked for that is not there.
    NoSuchKey,
    /// An operator or a function does not take values of these types.
    NoOverload,
    /// A number is too large, or divided by nothing, or a text is none.
    Range,
    /// It costs more than it may.
    TooDear,
    /// What comes out is no yes and no no.
    NoBool,
}

/// What is left to be paid.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
}

impl Budget {
    pub fn pay(&mut self, cost: usize) -> Result<(), Fail> {
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(0);
        left.map(drop).ok_or(Fail::TooDear)
    }
}

impl Condition {
    /// Whether it holds.
    ///
    /// # Errors
    /// What is asked for is not there, or cannot be asked so; whoever asks says what that means.
    pub fn holds<'a>(&'a self, facts: &'a Facts<'a>) -> Result<bool, Fail> {
        let budget = Budget { left: defaults::CONDITION_COST_MAX };
        let mut walk = Walk { facts, budget, locals: Vec::new() };
        match walk.value(&self.node)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(Fail::NoBool),
        }
    }
}

struct Walk<'a> {
    facts: &'a Facts<'a>,
    budget: Budget,
    /// Names that folds give, the innermost last.
    locals: Vec<Value<'a>>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, node: &'a Node) -> Result<Value<'a>, Fail> {
        self.budget.pay(1)?;
        Ok(match node {
            Node::Null => Value::Null,
            Node::Bool(is_true) => Value::Bool(*is_true),
            Node::Int(whole) => Value::Int(*whole),
            Node::Uint(whole) => Value::Uint(*whole),
            Node::Double(real) => Value::Double(*real),
            Node::Text(text) => Value::Text(text.as_str().into()),
            Node::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
            Node::Type(name) => Value::Type(name),
            Node::Local(at) => self.locals.get(*at).cloned().ok_or(Fail::NoSuchKey)?,
            Node::Attribute(attribute) => attribute.of(self.facts).ok_or(Fail::NoSuchKey)?,
            Node::HasAttribute(attribute) => Value::Bool(attribute.of(self.facts).is_some()),
            Node::Select { of, field, tests } => {
                let of = self.value(of)?;
                let found = of.get(&Value::Text(field.as_str().into()), &mut self.budget)?;
                if *tests { Value::Bool(found.is_some()) } else { found.ok_or(Fail::NoSuchKey)? }
            }
            Node::And(one, other) => return self.joined(one, other, false),
            Node::Or(one, other) => return self.joined(one, other, true),
            Node::Choose(condition, yes, no) => match self.value(condition)? {
                Value::Bool(true) => self.value(yes)?,
                Value::Bool(false) => self.value(no)?,
                _ => return Err(Fail::NoOverload),
            },
            // What fails may still become true.
            Node::NotFalse(inner) => match self.value(inner) {
                Ok(Value::Bool(false)) => Value::Bool(false),
                Err(Fail::TooDear) => return Err(Fail::TooDear),
                _ => Value::Bool(true),
            },
            Node::Call(function, args) => {
                let args = args.iter().map(|arg| self.value(arg)).collect::<Result<Vec<_>, _>>()?;
                functions::call(*function, args, &mut self.budget)?
            }
            Node::Matches(of, pattern) => match self.value(of)? {
                Value::Text(text) => {
                    // Each byte takes a step of the automaton.
                    self.budget.pay(text.len() / 4)?;
                    Value::Bool(pattern.is_match(&text))
                }
                _ => return Err(Fail::NoOverload),
            },
            Node::List(list) => {
                let list = list.iter().map(|node| self.value(node)).collect::<Result<Vec<_>, _>>()?;
                Value::List(Rc::new(list))
            }
            Node::Map(entries) => {
                let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let (key, value) = (self.value(key)?, self.value(value)?);
                    if matches!(key.kind(), "double" | "list" | "map" | "null_type" | "bytes" | "type")
                        || matches!(key, Value::Time(_) | Value::Span(_))
                    {
                        return Err(Fail::NoOverload);
                    }
                    for (known, _) in &made {
                        if known.equals(&key, &mut self.budget)? {
                            return Err(Fail::Range);
                        }
                    }
                    made.push((key, value));
                }
                Value::Map(Rc::new(made))
            }
            Node::Fold(fold) => {
                let over = self.value(&fold.over)?;
                self.budget.pay(over.size().unwrap_or(0))?;
                let items = over.items().ok_or(Fail::NoOverload)?;
                let base = self.locals.len();
                self.locals.extend([Value::Null, Value::Null]);
                let first = self.value(&fold.first)?;
                if let Some(place) = self.locals.get_mut(base + 1) {
                    *place = first;
                }
                let result = self.fold(fold, items, base);
                self.locals.truncate(base);
                result?
            }
        })
    }

    /// What is kept may be a failure, which a later step may outdo: `exists` holds if it does for one, whatever the others.
    fn fold(
        &mut self,
        fold: &'a crate::compile::Fold,
        items: Vec<Value<'a>>,
        base: usize,
    ) -> Result<Value<'a>, Fail> {
        let mut failed: Option<Fail> = None;
        for item in items {
            self.budget.pay(1)?;
            if let Some(place) = self.locals.get_mut(base) {
                *place = item;
            }
            if failed.is_none() && !matches!(self.value(&fold.goes_on)?, Value::Bool(true)) {
                break;
            }
            // A kept failure reaches each step as the value of its name.
            let step = match failed {
                Some(fail) => self.after_failure(fold, fail),
                None => self.value(&fold.step),
            };
            match step {
                Ok(kept) => {
                    failed = None;
                    if let Some(place) = self.locals.get_mut(base + 1) {
                        *place = kept;
                    }
                }
                Err(Fail::TooDear) => return Err(Fail::TooDear),
                Err(fail) if fold.can_recover => failed = Some(fail),
                Err(fail) => return Err(fail),
            }
        }
        match failed {
            Some(fail) => Err(fail),
            None => self.value(&fold.result),
        }
    }

    /// Of `kept && x` and `kept || x`, where `kept` has failed: what x decides alone, it decides.
    fn after_failure(&mut self, fold: &'a crate::compile::Fold, fail: Fail) -> Result<Value<'a>, Fail> {
        let (inner, deciding) = match &fold.step {
            Node::And(_, inner) => (inner, false),
            Node::Or(_, inner) => (inner, true),
            _ => return Err(fail),
        };
        match self.value(inner) {
            Ok(Value::Bool(is)) if is == deciding => Ok(Value::Bool(is)),
            Err(Fail::TooDear) => Err(Fail::TooDear),
            _ => Err(fail),
        }
    }

    /// `&&` and `||`: either side may decide, also where the other one fails.
    fn joined(&mut self, one: &'a Node, other: &'a Node, deciding: bool) -> Result<Value<'a>, Fail> {
        let first = self.value(one);
        match first {
            Ok(Value::Bool(is)) if is == deciding => return Ok(Value::Bool(is)),
            Err(Fail::TooDear) => return Err(Fail::TooDear),
            _ => {}
        }
        let second = self.value(other)?;
        match (first, second) {
            (_, Value::Bool(is)) if is == deciding => Ok(Value::Bool(is)),
            (Ok(Value::Bool(_)), Value::Bool(is)) => Ok(Value::Bool(is)),
            (Err(fail), _) => Err(fail),
            _ => Err(Fail::NoOverload),
        }
    }
}
