//! What do operators and functions make of values? The standard definitions of the language.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use naru_base::Json;

use crate::evaluate::{Budget, Fail};
use crate::moment::{self, Part, SECOND};
use crate::value::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Negate,
    Not,
    Index,
    In,
    Size,
    StartsWith,
    EndsWith,
    Contains,
    ToInt,
    ToUint,
    ToDouble,
    ToText,
    ToBytes,
    ToBool,
    TypeOf,
    Dyn,
    ToTime,
    ToSpan,
    Get(Part),
}

impl Function {
    /// By its name and how many values it is given, of which the first is what it is called on.
    pub fn of(name: &str, is_method: bool, count: usize) -> Option<Function> {
        Some(match (name, count, is_method) {
            ("_==_", 2, false) => Function::Equal,
            ("_!=_", 2, false) => Function::NotEqual,
            ("_<_", 2, false) => Function::Less,
            ("_<=_", 2, false) => Function::LessOrEqual,
            ("_>_", 2, false) => Function::Greater,
            ("_>=_", 2, false) => Function::GreaterOrEqual,
            ("_+_", 2, false) => Function::Add,
            ("_-_", 2, false) => Function::Subtract,
            ("_*_", 2, false) => Function::Multiply,
            ("_/_", 2, false) => Function::Divide,
            ("_%_", 2, false) => Function::Remainder,
            ("-_", 1, false) => Function::Negate,
            ("!_", 1, false) => Function::Not,
            ("_[_]", 2, false) => Function::Index,
            ("@in" | "_in_" | "in", 2, false) => Function::In,
            ("size", 1, _) => Function::Size,
            ("startsWith", 2, true) => Function::StartsWith,
            ("endsWith", 2, true) => Function::EndsWith,
            ("contains", 2, true) => Function::Contains,
            ("int", 1, false) => Function::ToInt,
            ("uint", 1, false) => Function::ToUint,
            ("double", 1, false) => Function::ToDouble,
            ("string", 1, false) => Function::ToText,
            ("bytes", 1, false) => Function::ToBytes,
            ("bool", 1, false) => Function::ToBool,
            ("type", 1, false) => Function::TypeOf,
            ("dyn", 1, false) => Function::Dyn,
            ("timestamp", 1, false) => Function::ToTime,
            ("duration", 1, false) => Function::ToSpan,
            (name, 1 | 2, true) => Function::Get(Part::named(name)?),
            _ => return None,
        })
    }
}

pub(crate) fn call<'a>(
    function: Function,
    args: Vec<Value<'a>>,
    budget: &mut Budget,
) -> Result<Value<'a>, Fail> {
    let mut args = args.into_iter();
    let (one, other) = (args.next().ok_or(Fail::NoOverload)?, args.next());
    match other {
        None => alone(function, one, budget),
        Some(other) => pair(function, one, other, budget),
    }
}

fn alone<'a>(function: Function, of: Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Fail> {
    budget.pay(of.weight())?;
    let whole = |size: usize| i64::try_from(size).map(Value::Int).map_err(|_| Fail::Range);
    Ok(match (function, of) {
        (Function::Not, Value::Bool(is)) => Value::Bool(!is),
        (Function::Negate, Value::Int(whole)) => Value::Int(whole.checked_neg().ok_or(Fail::Range)?),
        (Function::Negate, Value::Double(real)) => Value::Double(-real),
        (Function::Size, of) => whole(of.size().ok_or(Fail::NoOverload)?)?,
        (Function::Dyn, of) => of,
        (Function::TypeOf, of) => Value::Type(of.kind()),
        (Function::ToInt, of) => Value::Int(match of {
            Value::Int(whole) => whole,
            Value::Uint(whole) => i64::try_from(whole).map_err(|_| Fail::Range)?,
            // Both ends are left out: they may be what something larger was rounded to.
            Value::Double(real) if real > i64::MIN as f64 && real < i64::MAX as f64 => real as i64,
            Value::Text(text) => text.parse().map_err(|_| Fail::Range)?,
            Value::Time(nanos) => i64::try_from(nanos.div_euclid(SECOND)).map_err(|_| Fail::Range)?,
            Value::Double(_) => return Err(Fail::Range),
            _ => return Err(Fail::NoOverload),
        }),
        (Function::ToUint, of) => Value::Uint(match of {
            Value::Uint(whole) => whole,
            Value::Int(whole) => u64::try_from(whole).map_err(|_| Fail::Range)?,
            Value::Double(real) if real >= 0.0 && real < u64::MAX as f64 => real as u64,
            Value::Text(text) => text.parse().map_err(|_| Fail::Range)?,
            Value::Double(_) => return Err(Fail::Range),
            _ => return Err(Fail::NoOverload),
        }),
        (Function::ToDouble, of) => Value::Double(match of {
            Value::Double(real) => real,
            Value::Int(whole) => whole as f64,
            Value::Uint(whole) => whole as f64,
            Value::Text(text) => text.parse().map_err(|_| Fail::Range)?,
            _ => return Err(Fail::NoOverload),
        }),
        (Function::ToText, of) => Value::Text(match of {
            Value::Text(text) => text,
            Value::Int(whole) => whole.to_string().into(),
            Value::Uint(whole) => whole.to_string().into(),
            Value::Double(real) => real.to_string().into(),
            Value::Bool(is) => (if is { "true" } else { "false" }).into(),
            Value::Time(nanos) => moment::write_moment(nanos).into(),
            Value::Span(nanos) => moment::write_span(nanos).into(),
            Value::Bytes(Cow::Borrowed(bytes)) => std::str::from_utf8(bytes).map_err(|_| Fail::Range)?.into(),
            Value::Bytes(Cow::Owned(bytes)) => String::from_utf8(bytes).map_err(|_| Fail::Range)?.into(),
            _ => return Err(Fail::NoOverload),
        }),
        (Function::ToBytes, of) => Value::Bytes(match of {
            Value::Bytes(bytes) => bytes,
            Value::Text(Cow::Borrowed(text)) => text.as_bytes().into(),
            Value::Text(Cow::Owned(text)) => text.into_bytes().into(),
            _ => return Err(Fail::NoOverload),
        }),
        (Function::ToBool, of) => Value::Bool(match of {
            Value::Bool(is) => is,
            Value::Text(text) => match text.as_ref() {
                "true" | "True" | "TRUE" | "t" | "1" => true,
                "false" | "False" | "FALSE" | "f" | "0" => false,
                _ => return Err(Fail::Range),
            },
            _ => return Err(Fail::NoOverload),
        }),
        (Function::ToTime, of) => Value::Time(match of {
            Value::Time(nanos) => nanos,
            Value::Int(seconds) => moment::moment(i128::from(seconds) * SECOND)?,
            Value::Text(text) => moment::read_moment(&text)?,
            _ => return Err(Fail::NoOverload),
        }),
        (Function::ToSpan, of) => Value::Span(match of {
            Value::Span(nanos) => nanos,
            Value::Text(text) => moment::read_span(&text)?,
            _ => return Err(Fail::NoOverload),
        }),
        (Function::Get(part), Value::Time(nanos)) => Value::Int(part.of_moment(nanos, 0)),
        (Function::Get(part), Value::Span(nanos)) => Value::Int(part.of_span(nanos).ok_or(Fail::NoOverload)?),
        _ => return Err(Fail::NoOverload),
    })
}

fn pair<'a>(
    function: Function,
    one: Value<'a>,
    other: Value<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, Fail> {
    let order = |holds: fn(Ordering) -> bool, budget: &mut Budget| {
        Ok(Value::Bool(one.compare(&other, budget)?.is_some_and(holds)))
    };
    match function {
        Function::Equal => return Ok(Value::Bool(one.equals(&other, budget)?)),
        Function::NotEqual => return Ok(Value::Bool(!one.equals(&other, budget)?)),
        Function::Less => return order(Ordering::is_lt, budget),
        Function::LessOrEqual => return order(Ordering::is_le, budget),
        Function::Greater => return order(Ordering::is_gt, budget),
        Function::GreaterOrEqual => return order(Ordering::is_ge, budget),
        Function::In => return is_in(&one, &other, budget).map(Value::Bool),
        Function::Index => return index(&one, &other, budget),
        _ => {}
    }
    budget.pay(one.weight() + other.weight())?;
    Ok(match (function, one, other) {
        (Function::StartsWith, Value::Text(one), Value::Text(other)) => {
            Value::Bool(one.starts_with(other.as_ref()))
        }
        (Function::EndsWith, Value::Text(one), Value::Text(other)) => {
            Value::Bool(one.ends_with(other.as_ref()))
        }
        (Function::Contains, Value::Text(one), Value::Text(other)) => {
            Value::Bool(one.contains(other.as_ref()))
        }
        (Function::Add, Value::Time(at), Value::Span(span))
        | (Function::Add, Value::Span(span), Value::Time(at)) => Value::Time(moment::moment(at + span)?),
        (Function::Subtract, Value::Time(at), Value::Span(span)) => Value::Time(moment::moment(at - span)?),
        (Function::Subtract, Value::Time(one), Value::Time(other)) => Value::Span(moment::span(one - other)?),
        (Function::Add, Value::Span(one), Value::Span(other)) => Value::Span(moment::span(one + other)?),
        (Function::Subtract, Value::Span(one), Value::Span(other)) => Value::Span(moment::span(one - other)?),
        (Function::Get(part), Value::Time(at), Value::Text(zone)) => {
            Value::Int(part.of_moment(at, moment::offset(&zone).ok_or(Fail::Range)?))
        }
        (Function::Add, Value::Text(one), Value::Text(other)) => {
            Value::Text(Cow::Owned(one.into_owned() + &other))
        }
        (Function::Add, Value::Bytes(one), Value::Bytes(other)) => {
            let mut bytes = one.into_owned();
            bytes.extend_from_slice(&other);
            Value::Bytes(bytes.into())
        }
        (_, Value::Int(one), Value::Int(other)) => {
            let made = match function {
                Function::Add => one.checked_add(other),
                Function::Subtract => one.checked_sub(other),
                Function::Multiply => one.checked_mul(other),
                Function::Divide => one.checked_div(other),
                Function::Remainder => one.checked_rem(other),
                _ => return Err(Fail::NoOverload),
            };
            Value::Int(made.ok_or(Fail::Range)?)
        }
        (_, Value::Uint(one), Value::Uint(other)) => {
            let made = match function {
                Function::Add => one.checked_add(other),
                Function::Subtract => one.checked_sub(other),
                Function::Multiply => one.checked_mul(other),
                Function::Divide => one.checked_div(other),
                Function::Remainder => one.checked_rem(other),
                _ => return Err(Fail::NoOverload),
            };
            Value::Uint(made.ok_or(Fail::Range)?)
        }
        (_, Value::Double(one), Value::Double(other)) => Value::Double(match function {
            Function::Add => one + other,
            Function::Subtract => one - other,
            Function::Multiply => one * other,
            Function::Divide => one / other,
            _ => return Err(Fail::NoOverload),
        }),
        (Function::Add, one, other) if one.kind() == "list" && other.kind() == "list" => {
            let more = other.items().unwrap_or_default();
            let mut list = match one {
                Value::List(list) => Rc::unwrap_or_clone(list),
                one => one.items().unwrap_or_default(),
            };
            list.extend(more);
            Value::List(Rc::new(list))
        }
        _ => return Err(Fail::NoOverload),
    })
}

fn is_in<'a>(one: &Value<'a>, list: &Value<'a>, budget: &mut Budget) -> Result<bool, Fail> {
    match list.kind() {
        "map" => Ok(list.get(one, budget)?.is_some()),
        "list" => {
            budget.pay(list.size().unwrap_or(0))?;
            for item in list.items().unwrap_or_default() {
                if item.equals(one, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(Fail::NoOverload),
    }
}

fn index<'a>(of: &Value<'a>, at: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Fail> {
    let place = || match at {
        Value::Int(whole) => usize::try_from(*whole).map_err(|_| Fail::Range),
        Value::Uint(whole) => usize::try_from(*whole).map_err(|_| Fail::Range),
        Value::Double(real) if real.fract() == 0.0 && (0.0..1e9).contains(real) => Ok(*real as usize),
        Value::Double(_) => Err(Fail::Range),
        _ => Err(Fail::NoOverload),
    };
    match of {
        Value::List(list) => list.get(place()?).cloned().ok_or(Fail::Range),
        Value::Json(Json::List(list)) => list.get(place()?).map(Value::of_json).ok_or(Fail::Range),
        _ => of.get(at, budget)?.ok_or(Fail::NoSuchKey),
    }
}
