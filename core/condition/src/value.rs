//! What may come of an expression? Values, how they are equal and which is greater.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use naru_base::Json;

use crate::evaluate::{Budget, Fail};
use crate::facts::{self, Facts};

/// A value. What a request says is not copied.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    List(Rc<Vec<Value<'a>>>),
    Map(Rc<Vec<(Value<'a>, Value<'a>)>>),
    /// A list or an object of JSON.
    Json(&'a Json),
    Headers(&'a Facts<'a>),
    /// Claims by what providers call them.
    Tokens(&'a Facts<'a>),
    /// A moment, in nanoseconds since 1970.
    Time(i128),
    /// A span of time, in nanoseconds.
    Span(i128),
    Type(&'static str),
}

impl<'a> Value<'a> {
    /// Numbers of JSON are doubles, as in Envoy, but for those that a double cannot say.
    pub fn of_json(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(is_true) => Value::Bool(*is_true),
            Json::Whole(whole) if whole.unsigned_abs() <= 1 << 53 => Value::Double(*whole as f64),
            Json::Whole(whole) => Value::Int(*whole),
            Json::Real(real) => Value::Double(*real),
            Json::Text(text) => Value::Text(text.as_str().into()),
            Json::List(_) | Json::Map(_) => Value::Json(json),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::Text(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) | Value::Json(Json::List(_)) => "list",
            Value::Map(_) | Value::Json(_) | Value::Headers(_) | Value::Tokens(_) => "map",
            Value::Time(_) => "google.protobuf.Timestamp",
            Value::Span(_) => "google.protobuf.Duration",
            Value::Type(_) => "type",
        }
    }

    /// How many elements, entries, letters or bytes it has.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Value::Text(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(list) => list.len(),
            Value::Map(entries) => entries.len(),
            Value::Json(Json::List(list)) => list.len(),
            Value::Json(Json::Map(members)) => members.len(),
            Value::Headers(facts) => facts.headers.keys_len(),
            Value::Tokens(facts) => facts.tokens.len(),
            _ => return None,
        })
    }

    /// What a budget pays for looking at all of it.
    pub fn weight(&self) -> usize {
        match self {
            Value::Text(text) => text.len() / 16,
            Value::Bytes(bytes) => bytes.len() / 16,
            _ => self.size().unwrap_or(0),
        }
    }

    /// The elements of a list, or the keys of a map.
    pub fn items(&self) -> Option<Vec<Value<'a>>> {
        let text = |text: &'a str| Value::Text(text.into());
        Some(match self {
            Value::List(list) => list.to_vec(),
            Value::Map(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
            Value::Json(Json::List(list)) => list.iter().map(Value::of_json).collect(),
            Value::Json(Json::Map(members)) => members.iter().map(|(name, _)| text(name)).collect(),
            Value::Headers(facts) => facts.headers.keys().map(|name| text(name.as_str())).collect(),
            Value::Tokens(facts) => facts.tokens.iter().map(|(name, _)| text(name)).collect(),
            _ => return None,
        })
    }

    /// The entry of a map. `None`: there is none.
    pub fn get(&self, key: &Value<'a>, budget: &mut Budget) -> Result<Option<Value<'a>>, Fail> {
        budget.pay(self.size().unwrap_or(0) / 8)?;
        let name = match key {
            Value::Text(name) => Some(name.as_ref()),
            _ => None,
        };
        Ok(match self {
            Value::Map(entries) => {
                for (known, value) in entries.iter() {
                    if known.equals(key, budget)? {
                        return Ok(Some(value.clone()));
                    }
                }
                None
            }
            Value::Json(json @ Json::Map(_)) => name.and_then(|name| json.get(name)).map(Value::of_json),
            Value::Headers(facts) => {
                name.and_then(|name| facts::header_by_name(facts, name)).map(Value::Text)
            }
            Value::Tokens(facts) => {
                let found = facts.tokens.iter().find(|(known, _)| Some(*known) == name);
                found.map(|(_, claims)| Value::of_json(claims))
            }
            _ => return Err(Fail::NoOverload),
        })
    }

    /// Of numbers by what they are worth; of anything else, of another type is another.
    pub fn equals(&self, other: &Value<'a>, budget: &mut Budget) -> Result<bool, Fail> {
        budget.pay(1 + self.weight().min(other.weight()))?;
        if let (Some(one), Some(two)) = (Number::of(self), Number::of(other)) {
            return Ok(one.compare(two) == Some(Ordering::Equal));
        }
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(two)) => one == two,
            (Value::Text(one), Value::Text(two)) => one == two,
            (Value::Bytes(one), Value::Bytes(two)) => one == two,
            (Value::Type(one), Value::Type(two)) => one == two,
            (Value::Time(one), Value::Time(two)) | (Value::Span(one), Value::Span(two)) => one == two,
            _ if self.kind() != other.kind() => false,
            _ if self.kind() == "list" => {
                let (one, two) = (self.items().unwrap_or_default(), other.items().unwrap_or_default());
                one.len() == two.len() && all_equal(one.iter().zip(&two), budget)?
            }
            _ if self.kind() == "map" => {
                let (keys, others) = (self.items().unwrap_or_default(), other.items().unwrap_or_default());
                if keys.len() != others.len() {
                    return Ok(false);
                }
                for key in &keys {
                    let (Some(one), Some(two)) = (self.get(key, budget)?, other.get(key, budget)?) else {
                        return Ok(false);
                    };
                    if !one.equals(&two, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => false,
        })
    }

    /// Which comes first. `None`: neither, as one is no number. It fails for what has no order.
    pub fn compare(&self, other: &Value<'a>, budget: &mut Budget) -> Result<Option<Ordering>, Fail> {
        budget.pay(1 + self.weight().min(other.weight()))?;
        if let (Some(one), Some(two)) = (Number::of(self), Number::of(other)) {
            return Ok(one.compare(two));
        }
        match (self, other) {
            (Value::Bool(one), Value::Bool(two)) => Ok(Some(one.cmp(two))),
            (Value::Text(one), Value::Text(two)) => Ok(Some(one.cmp(two))),
            (Value::Bytes(one), Value::Bytes(two)) => Ok(Some(one.cmp(two))),
            (Value::Time(one), Value::Time(two)) | (Value::Span(one), Value::Span(two)) => {
                Ok(Some(one.cmp(two)))
            }
            _ => Err(Fail::NoOverload),
        }
    }
}

fn all_equal<'v, 'a: 'v>(
    mut pairs: impl Iterator<Item = (&'v Value<'a>, &'v Value<'a>)>,
    budget: &mut Budget,
) -> Result<bool, Fail> {
    pairs.try_fold(true, |all, (one, two)| Ok(all && one.equals(two, budget)?))
}

/// Numbers of all kinds stand on one line.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn of(value: &Value<'_>) -> Option<Number> {
        Some(match value {
            Value::Int(whole) => Number::Whole((*whole).into()),
            Value::Uint(whole) => Number::Whole((*whole).into()),
            Value::Double(real) => Number::Real(*real),
            _ => return None,
        })
    }

    fn compare(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Whole(one), Number::Whole(two)) => Some(one.cmp(&two)),
            (Number::Real(one), Number::Real(two)) => one.partial_cmp(&two),
            (Number::Whole(one), Number::Real(two)) => exactly(one, two),
            (Number::Real(one), Number::Whole(two)) => exactly(two, one).map(Ordering::reverse),
        }
    }
}

/// Without what a conversion would lose.
fn exactly(whole: i128, real: f64) -> Option<Ordering> {
    if real.is_nan() {
        return None;
    }
    // Far beyond 64 bits the cast holds at the ends of 128.
    let below = real.floor();
    Some(whole.cmp(&(below as i128)).then(if real > below { Ordering::Less } else { Ordering::Equal }))
}
