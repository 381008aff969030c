//! From a document to a message: proto JSON's rules, every problem with its place.
//!
//! Unlike a serde deserializer this does not stop at the first problem: a field that cannot be read
//! is left out, and the rest of the message is read on. Names may be the proto's own or their
//! lowerCamelCase form; null leaves a field unset; of a choice only one member may be set.

use prost_reflect::bytes::Bytes;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind as FieldKind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};
use serde::de::DeserializeSeed;

use crate::findings::{Findings, code};
use crate::schema::type_name;
use crate::suggest;
use naru_doc::tree::{Entry, Kind, Node};
use naru_spec::Path;

/// Reads the whole document as one message. What cannot be read is left out and told.
pub(crate) fn message(
    descriptor: &MessageDescriptor,
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DynamicMessage> {
    match descriptor.full_name() {
        "google.protobuf.Any" => any(descriptor, node, path, findings),
        name if is_well_known(name) => well_known(descriptor, node, path, findings),
        _ => {
            let entries = mapping(node, path, findings)?;
            let mut message = DynamicMessage::new(descriptor.clone());
            for entry in entries {
                set(&mut message, entry, path, findings);
            }
            Some(message)
        }
    }
}

/// Those whose JSON is not a mapping of their fields.
fn is_well_known(full_name: &str) -> bool {
    full_name.strip_prefix("google.protobuf.").is_some_and(|name| {
        matches!(name, "Timestamp" | "Duration" | "Struct" | "ListValue" | "Value" | "FieldMask" | "Empty")
            || name.ends_with("Value")
    })
}

fn set(message: &mut DynamicMessage, entry: &Entry, path: &Path<'_>, findings: &mut Findings<'_>) {
    let descriptor = message.descriptor();
    let Some(field) =
        descriptor.get_field_by_name(&entry.key).or_else(|| descriptor.get_field_by_json_name(&entry.key))
    else {
        unknown_field(&descriptor, entry, path, findings);
        return;
    };
    let path = path.field(field.name());
    let is_set_already = message.has_field(&field);
    let other = field.containing_oneof().and_then(|choice| {
        choice.fields().find(|other| other.number() != field.number() && message.has_field(other))
    });
    if let Some(value) = field_value(&field, &entry.node, &path, findings) {
        if is_set_already {
            let text = format!("the field '{}' is said twice, in both of its spellings", field.name());
            findings.unreadable(&path, entry.key_position, code::CONFLICTING_FIELDS, text, "");
        } else if let Some(other) = other {
            let text = format!("only one of '{}' and '{}' can be said", other.name(), field.name());
            findings.unreadable(
                &path,
                entry.key_position,
                code::CONFLICTING_FIELDS,
                text,
                "remove one of them",
            );
        } else {
            message.set_field(&field, value);
        }
    }
}

fn unknown_field(
    descriptor: &MessageDescriptor,
    entry: &Entry,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let hint = match suggest::successor(descriptor.full_name(), &entry.key) {
        Some(hint) => hint.to_owned(),
        None => {
            let names: Vec<String> = descriptor.fields().map(|f| f.name().to_owned()).collect();
            naru_spec::suggest::did_you_mean(&entry.key, names.iter().map(String::as_str))
        }
    };
    let message = format!("{} has no field '{}'", descriptor.name(), entry.key);
    findings.unreadable(&path.field(&entry.key), entry.key_position, code::UNKNOWN_FIELD, message, hint);
}

fn field_value(
    field: &FieldDescriptor,
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Value> {
    let takes_null =
        matches!(field.kind(), FieldKind::Message(m) if m.full_name() == "google.protobuf.Value");
    if matches!(node.kind, Kind::Null) && !(takes_null && !field.is_list() && !field.is_map()) {
        return None;
    }
    if field.is_map() {
        return map(field, node, path, findings);
    }
    if !field.is_list() {
        return value(&field.kind(), node, path, findings);
    }
    let Kind::List(items) = &node.kind else {
        wrong_type("a list", node, path, findings);
        return None;
    };
    let mut values = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        // What cannot be read keeps its seat, so that the paths of the others stay true.
        let value = value(&field.kind(), item, &path.at(at), findings);
        values.push(value.unwrap_or_else(|| Value::default_value(&field.kind())));
    }
    Some(Value::List(values))
}

fn map(field: &FieldDescriptor, node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Value> {
    let FieldKind::Message(entry) = field.kind() else { return None };
    let entries = mapping(node, path, findings)?;
    let value_field = entry.map_entry_value_field();
    let mut values = std::collections::HashMap::new();
    for item in entries {
        let path = path.key(&item.key);
        let Some(key) = map_key(&entry.map_entry_key_field().kind(), &item.key) else {
            let text = format!("'{}' cannot be a key here", item.key);
            findings.unreadable(&path, item.key_position, code::WRONG_TYPE, text, "");
            continue;
        };
        if let Some(value) = field_value(&value_field, &item.node, &path, findings) {
            values.insert(key, value);
        }
    }
    Some(Value::Map(values))
}

fn map_key(kind: &FieldKind, text: &str) -> Option<MapKey> {
    match kind {
        FieldKind::String => Some(MapKey::String(text.to_owned())),
        FieldKind::Bool => text.parse().ok().map(MapKey::Bool),
        FieldKind::Uint32 | FieldKind::Fixed32 => text.parse().ok().map(MapKey::U32),
        FieldKind::Uint64 | FieldKind::Fixed64 => text.parse().ok().map(MapKey::U64),
        FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 => text.parse().ok().map(MapKey::I32),
        FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 => text.parse().ok().map(MapKey::I64),
        _ => None,
    }
}

fn value(kind: &FieldKind, node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Value> {
    let integer = |expected: &str, findings: &mut Findings<'_>| {
        let number = whole_number(node);
        if number.is_none() {
            wrong_type(expected, node, path, findings);
        }
        number
    };
    match kind {
        FieldKind::Message(descriptor) => message(descriptor, node, path, findings).map(Value::Message),
        FieldKind::Enum(descriptor) => enumeration(descriptor, node, path, findings),
        FieldKind::String => match &node.kind {
            Kind::Text(text) => Some(Value::String(text.clone())),
            _ => {
                wrong_type("text", node, path, findings);
                None
            }
        },
        FieldKind::Bool => match &node.kind {
            Kind::Bool(value) => Some(Value::Bool(*value)),
            _ => {
                wrong_type("true or false", node, path, findings);
                None
            }
        },
        FieldKind::Uint32 | FieldKind::Fixed32 => {
            let number = integer("a whole number", findings)?;
            in_range(u32::try_from(number).ok(), number, "0 to 4294967295", node, path, findings)
                .map(Value::U32)
        }
        FieldKind::Uint64 | FieldKind::Fixed64 => {
            let number = integer("a whole number", findings)?;
            let range = "0 to 18446744073709551615";
            in_range(u64::try_from(number).ok(), number, range, node, path, findings).map(Value::U64)
        }
        FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 => {
            let number = integer("a whole number", findings)?;
            let range = "-2147483648 to 2147483647";
            in_range(i32::try_from(number).ok(), number, range, node, path, findings).map(Value::I32)
        }
        FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 => {
            let number = integer("a whole number", findings)?;
            let range = "-9223372036854775808 to 9223372036854775807";
            in_range(i64::try_from(number).ok(), number, range, node, path, findings).map(Value::I64)
        }
        FieldKind::Double => decimal(node, path, findings).map(Value::F64),
        FieldKind::Float => decimal(node, path, findings).map(|number| Value::F32(number as f32)),
        FieldKind::Bytes => {
            let bytes = match &node.kind {
                Kind::Text(text) => base64(text),
                _ => None,
            };
            if bytes.is_none() {
                wrong_type("bytes in base64", node, path, findings);
            }
            bytes.map(|b| Value::Bytes(Bytes::from(b)))
        }
    }
}

/// A number without a fraction, also as text, as proto JSON allows.
fn whole_number(node: &Node) -> Option<i128> {
    match &node.kind {
        Kind::Integer(number) => Some(*number),
        Kind::Text(text) => text.parse().ok(),
        // Exact up to 2^53; whoever writes 1e3 means no more.
        Kind::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i128),
        _ => None,
    }
}

fn in_range<T>(
    fitting: Option<T>,
    number: i128,
    range: &str,
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<T> {
    if fitting.is_none() {
        let text = format!("{number} is out of range: {range}");
        findings.unreadable(path, node.position, code::INVALID_VALUE, text, "");
    }
    fitting
}

fn decimal(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<f64> {
    match &node.kind {
        Kind::Integer(number) => Some(*number as f64),
        Kind::Float(number) => Some(*number),
        Kind::Text(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => text.parse().ok(),
        _ => {
            wrong_type("a number", node, path, findings);
            None
        }
    }
}

fn enumeration(
    descriptor: &EnumDescriptor,
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Value> {
    let (found, said) = match &node.kind {
        Kind::Text(text) => (descriptor.get_value_by_name(text), text.clone()),
        Kind::Integer(number) => {
            (i32::try_from(*number).ok().and_then(|n| descriptor.get_value(n)), number.to_string())
        }
        _ => {
            wrong_type("the name of a value", node, path, findings);
            return None;
        }
    };
    match found {
        Some(value) => Some(Value::EnumNumber(value.number())),
        None => {
            let names: Vec<String> = descriptor.values().map(|v| v.name().to_owned()).collect();
            let hint = format!("one of {}", names.join(", "));
            let text = format!("'{said}' is not a value of {}", descriptor.name());
            findings.unreadable(path, node.position, code::UNKNOWN_VALUE, text, hint);
            None
        }
    }
}

/// A message of any type: `@type` names it, its fields stand beside that.
fn any(
    descriptor: &MessageDescriptor,
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DynamicMessage> {
    const TYPE: &str = "@type";
    let entries = mapping(node, path, findings)?;
    let Some(typed) = entries.iter().find(|entry| entry.key == TYPE) else {
        let text = "'@type' is missing: it says which extension this is";
        let hint = "write \"@type\": type.googleapis.com/envoy.extensions...";
        findings.unreadable(path, node.position, code::MISSING_FIELD, text, hint);
        return None;
    };
    let Kind::Text(url) = &typed.node.kind else {
        wrong_type("text", &typed.node, path, findings);
        return None;
    };
    let name = type_name(url);
    let Some(inner) = descriptor.parent_pool().get_message_by_name(name).filter(|_| url.contains('/')) else {
        let text = format!("the extension '{name}' is not supported");
        let hint = match url.contains('/') {
            true => naru_spec::suggest::did_you_mean(name, crate::supported::extensions()),
            false => format!("write type.googleapis.com/{name}"),
        };
        findings.unreadable(path, typed.node.position, code::UNSUPPORTED_EXTENSION, text, hint);
        return None;
    };
    let payload = if inner.full_name() == "google.protobuf.Any" || is_well_known(inner.full_name()) {
        let value = entries.iter().find(|entry| entry.key == "value")?;
        message(&inner, &value.node, &path.field("value"), findings)?
    } else {
        let mut payload = DynamicMessage::new(inner);
        for entry in entries.iter().filter(|entry| entry.key != TYPE) {
            set(&mut payload, entry, path, findings);
        }
        payload
    };
    let mut any = DynamicMessage::new(descriptor.clone());
    any.set_field_by_name("type_url", Value::String(url.clone()));
    any.set_field_by_name("value", Value::Bytes(prost::Message::encode_to_vec(&payload).into()));
    Some(any)
}

fn well_known(
    descriptor: &MessageDescriptor,
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DynamicMessage> {
    // A wrapper is written as what it wraps.
    if let ("google.protobuf.Value" | "google.protobuf.ListValue", _) | (_, None) =
        (descriptor.full_name(), descriptor.get_field_by_name("value"))
    {
        return match descriptor.clone().deserialize(to_json(node)) {
            Ok(message) => Some(message),
            Err(error) => {
                let (expected, hint) = match descriptor.name() {
                    "Duration" => ("a duration", "write seconds with an s at the end: 30s or 0.25s"),
                    "Struct" => ("a mapping", ""),
                    "ListValue" => ("a list", ""),
                    "Timestamp" => ("a time", "write it as in RFC 3339: 2026-01-31T12:00:00Z"),
                    other => (other, ""),
                };
                let text = match &node.kind {
                    Kind::Text(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_) => {
                        format!("expected {expected}, found {}", describe(&node.kind))
                    }
                    _ => format!("expected {expected}: {error}"),
                };
                findings.unreadable(path, node.position, code::WRONG_TYPE, text, hint);
                None
            }
        };
    }
    let field = descriptor.get_field_by_name("value")?;
    let value = value(&field.kind(), node, path, findings)?;
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field(&field, value);
    Some(message)
}

fn mapping<'n>(node: &'n Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<&'n [Entry]> {
    match &node.kind {
        Kind::Map(entries) => Some(entries),
        _ => {
            wrong_type("a mapping", node, path, findings);
            None
        }
    }
}

fn wrong_type(expected: &str, node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let hint = match (&node.kind, expected) {
        (Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_), "text") => "put it in quotes",
        _ => "",
    };
    let text = format!("expected {expected}, found {}", describe(&node.kind));
    findings.unreadable(path, node.position, code::WRONG_TYPE, text, hint);
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(value) => format!("{value}"),
        Kind::Integer(number) => format!("the number {number}"),
        Kind::Float(number) => format!("the number {number}"),
        Kind::Text(text) if text.chars().count() <= 40 => format!("the text '{text}'"),
        Kind::Text(_) => "a text".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
    }
}

fn to_json(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.kind {
        Kind::Null => Json::Null,
        Kind::Bool(value) => Json::Bool(*value),
        Kind::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => (*number as f64).into(),
        },
        Kind::Float(number) => (*number).into(),
        Kind::Text(text) => Json::String(text.clone()),
        Kind::List(items) => items.iter().map(to_json).collect(),
        Kind::Map(entries) => entries.iter().map(|e| (e.key.clone(), to_json(&e.node))).collect(),
    }
}

/// Standard or URL-safe, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in digits.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_all_its_forms() {
        fn check(text: &str, expected: Option<&[u8]>) {
            assert_eq!(base64(text).as_deref(), expected, "{text}");
        }
        check("", Some(b""));
        check("aGVsbG8=", Some(b"hello"));
        check("aGVsbG8", Some(b"hello"));
        check("-_8=", Some(&[0xfb, 0xff]));
        check("+/8=", Some(&[0xfb, 0xff]));
        check("a", None);
        check("a b=", None);
        check("====", None);
    }
}
