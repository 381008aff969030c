//! JSON as tokens and keys have it: one value, no member twice (RFC 7515, section 4), not nested deep.

use std::fmt;

use naru_base::Json;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How deep values may stand within each other.
const DEPTH_MAX: usize = 32;

/// Reads one value; nothing stands behind it.
pub fn parse(bytes: &[u8]) -> Option<Json> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Value { depth: DEPTH_MAX }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

/// Reads an object.
pub fn object(bytes: &[u8]) -> Option<Json> {
    parse(bytes).filter(|value| matches!(value, Json::Map(_)))
}

/// The shortest text.
pub fn write(value: &Json) -> String {
    let mut out = String::new();
    write_into(value, &mut out);
    out
}

fn write_into(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(is_true) => out.push_str(if *is_true { "true" } else { "false" }),
        Json::Whole(whole) => out.push_str(&whole.to_string()),
        Json::Real(real) => out.push_str(&serde_json::Value::from(*real).to_string()),
        Json::Text(text) => write_text(text, out),
        Json::List(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_into(value, out);
            }
            out.push(']');
        }
        Json::Map(members) => {
            out.push('{');
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_into(value, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// A value that may have so many levels below it.
struct Value {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        reader.deserialize_any(self)
    }
}

impl Value {
    fn below<E: Error>(&self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, is_true: bool) -> Result<Json, E> {
        Ok(Json::Bool(is_true))
    }

    fn visit_i64<E>(self, whole: i64) -> Result<Json, E> {
        Ok(Json::Whole(whole))
    }

    fn visit_u64<E>(self, whole: u64) -> Result<Json, E> {
        Ok(i64::try_from(whole).map_or(Json::Real(whole as f64), Json::Whole))
    }

    fn visit_f64<E>(self, real: f64) -> Result<Json, E> {
        Ok(Json::Real(real))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let depth = self.below()?;
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(Value { depth })? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let depth = self.below()?;
        let mut map: Vec<(String, Json)> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        while let Some(Name(name)) = members.next_key()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom("a member twice"));
            }
            map.push((name, members.next_value_seed(Value { depth })?));
        }
        Ok(Json::Map(map))
    }
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        String::deserialize(reader).map(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_stands_once() {
        assert!(parse(br#"{"a":1,"b":{"a":2}}"#).is_some());
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"\u0061":2}}"#, r#"[{"":0,"":0}]"#] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn one_value_and_nothing_behind_it() {
        for text in ["", "{", "{}{}", "{} x", "nul", "{\"a\":1,}", "\u{feff}{}", "'a'", "01", "NaN"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"\xff"), None);
        assert_eq!(parse(b" [1, -2, 2.5, 18446744073709551615, null] "), {
            let values = vec![1.into(), (-2).into(), Json::Real(2.5), Json::Real(1.844_674_407_370_955_2e19)];
            Some(Json::List(values.into_iter().chain([Json::Null]).collect()))
        });
        assert_eq!(object(b"[]"), None);
    }

    #[test]
    fn values_are_not_nested_deep() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_some());
        assert_eq!(parse(nested(DEPTH_MAX + 1).as_bytes()), None);
        assert_eq!(parse(nested(100_000).as_bytes()), None);
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let text = r#"{"a":[1,-2,2.5,true,null,"\"\\\n\u0001é"],"":{}}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(write(&value), text);
    }
}
