//! The rules that Envoy's API states about its own fields (`validate.rules`, by protoc-gen-validate).
//!
//! Read from the descriptors' options, once for each kind of message that occurs: what is required,
//! how long, how large, which values. Patterns are left to `decode`, which knows what they are for.

use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage, Value,
};

use crate::findings::{Findings, code};
use naru_spec::Path;

/// Rules by the full name of the message, read when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    messages: HashMap<String, std::rc::Rc<MessageRules>>,
}

#[derive(Debug, Default)]
struct MessageRules {
    fields: Vec<(FieldDescriptor, FieldRules)>,
    /// Choices of which one must be made: the names of the members.
    choices: Vec<(Vec<FieldDescriptor>, String)>,
}

#[derive(Debug, Default)]
struct FieldRules {
    is_required: bool,
    items: Option<(u64, u64)>,
    /// Unicode characters.
    chars_min: u64,
    bytes_max: Option<u64>,
    well_known: Option<WellKnown>,
    one_of: Vec<String>,
    range: Range,
    /// Enum values that may not be.
    excluded: Vec<i32>,
    /// Where only values that have a name may be.
    defined: Option<EnumDescriptor>,
    /// One that is left out is 0.
    is_plain_number: bool,
    each: Option<Box<FieldRules>>,
}

#[derive(Debug, Clone, Copy)]
enum WellKnown {
    HeaderName,
    HeaderValue,
}

/// Bounds; of a duration in nanoseconds.
#[derive(Debug, Default)]
struct Range {
    gt: Option<f64>,
    gte: Option<f64>,
    lt: Option<f64>,
    lte: Option<f64>,
}

impl Rules {
    pub fn check(&mut self, message: &DynamicMessage, path: &Path<'_>, findings: &mut Findings<'_>) {
        let descriptor = message.descriptor();
        let rules = match self.messages.get(descriptor.full_name()) {
            Some(rules) => rules.clone(),
            None => {
                let rules = std::rc::Rc::new(read(&descriptor));
                self.messages.insert(descriptor.full_name().to_owned(), rules.clone());
                rules
            }
        };
        for (field, rules) in &rules.fields {
            let path = path.field(field.name());
            if message.has_field(field) {
                check_value(rules, &message.get_field(field), &path, findings);
            } else if rules.is_unset_wrong() && field.containing_oneof().is_none() {
                findings.missing(&path, format!("{}.{} is required", descriptor.name(), field.name()));
            }
        }
        for (members, names) in &rules.choices {
            if !members.iter().any(|member| message.has_field(member)) {
                findings.missing(path, format!("{} needs one of {names}", descriptor.name()));
            }
        }
    }
}

impl FieldRules {
    /// Whether leaving the field out breaks a rule.
    fn is_unset_wrong(&self) -> bool {
        self.is_required
            || self.chars_min > 0
            || self.items.is_some_and(|(min, _)| min > 0)
            || (self.is_plain_number && self.range.refuses(0.0).is_some())
    }
}

fn check_value(rules: &FieldRules, value: &Value, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut wrong = |text: String| findings.error(path, code::INVALID_VALUE, text, "");
    if let Some((number, bound)) = as_number(value).and_then(|n| Some((n, rules.range.refuses(n)?))) {
        wrong(format!("{number} is not {} {}", bound.relation, bound.limit));
    }
    match value {
        Value::List(items) => {
            let (min, max) = rules.items.unwrap_or((0, u64::MAX));
            let length = items.len() as u64;
            if length < min {
                wrong(format!("at least {min} are needed, there are {length}"));
            }
            if length > max {
                wrong(format!("at most {max} are allowed, there are {length}"));
            }
            if let Some(each) = &rules.each {
                for (at, item) in items.iter().enumerate() {
                    check_value(each, item, &path.at(at), findings);
                }
            }
        }
        Value::String(text) => {
            if (text.chars().count() as u64) < rules.chars_min {
                wrong(match text.is_empty() {
                    true => "it may not be empty".to_owned(),
                    false => format!("it must be at least {} characters long", rules.chars_min),
                });
            }
            if let Some(max) = rules.bytes_max.filter(|max| text.len() as u64 > *max) {
                wrong(format!("it is {} bytes long, at most {max} are allowed", text.len()));
            }
            if rules.well_known.is_some() && text.contains(['\0', '\r', '\n']) {
                let what = match rules.well_known {
                    Some(WellKnown::HeaderName) => "name",
                    _ => "value",
                };
                wrong(format!("the {what} of a header may not hold a line end or a zero byte"));
            }
            if !rules.one_of.is_empty() && !rules.one_of.contains(text) {
                wrong(format!("'{text}' is not one of {}", rules.one_of.join(", ")));
            }
        }
        Value::Bytes(bytes) => {
            if let Some(max) = rules.bytes_max.filter(|max| bytes.len() as u64 > *max) {
                wrong(format!("it is {} bytes long, at most {max} are allowed", bytes.len()));
            }
        }
        Value::EnumNumber(number) => {
            if rules.excluded.contains(number) {
                wrong("this value may not be used".to_owned());
            }
            if rules.defined.as_ref().is_some_and(|defined| defined.get_value(*number).is_none()) {
                wrong(format!("{number} is not a value of this enum"));
            }
        }
        Value::Message(message) => match message.descriptor().full_name() {
            "google.protobuf.Duration" => {
                if let Some(bound) = rules.range.refuses(nanoseconds(message)) {
                    wrong(format!("the duration must be {} {}s", bound.relation, bound.limit / 1e9));
                }
            }
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                if let Some(inner) = message.get_field_by_name("value") {
                    check_value(rules, &inner, path, findings);
                }
            }
            _ => {}
        },
        _ => {}
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::U32(number) => Some(f64::from(*number)),
        Value::I32(number) => Some(f64::from(*number)),
        Value::U64(number) => Some(*number as f64),
        Value::I64(number) => Some(*number as f64),
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        _ => None,
    }
}

/// Of a `google.protobuf.Duration`.
fn nanoseconds(duration: &DynamicMessage) -> f64 {
    let part = |name| duration.get_field_by_name(name).and_then(|v| as_number(&v)).unwrap_or_default();
    part("seconds") * 1e9 + part("nanos")
}

struct Bound {
    relation: &'static str,
    limit: f64,
}

impl Range {
    fn refuses(&self, value: f64) -> Option<Bound> {
        let bound = |limit: Option<f64>, relation, is_kept: fn(f64, f64) -> bool| {
            limit.filter(|limit| !is_kept(value, *limit)).map(|limit| Bound { relation, limit })
        };
        bound(self.gt, "above", |v, l| v > l)
            .or_else(|| bound(self.gte, "at least", |v, l| v >= l))
            .or_else(|| bound(self.lt, "below", |v, l| v < l))
            .or_else(|| bound(self.lte, "at most", |v, l| v <= l))
    }
}

fn read(descriptor: &MessageDescriptor) -> MessageRules {
    let pool = descriptor.parent_pool();
    let extension = |name: &str| pool.all_extensions().find(|e| e.full_name() == name);
    let mut rules = MessageRules::default();
    if let Some(extension) = extension("validate.rules") {
        for field in descriptor.fields() {
            if let Some(found) = read_field(&field, &extension) {
                rules.fields.push((field, found));
            }
        }
    }
    if let Some(extension) = extension("validate.required") {
        for choice in descriptor.oneofs() {
            let options = choice.options();
            if options.has_extension(&extension) && options.get_extension(&extension).as_bool() == Some(true)
            {
                let members: Vec<FieldDescriptor> = choice.fields().collect();
                let names: Vec<&str> = members.iter().map(FieldDescriptor::name).collect();
                let names = names.join(", ");
                rules.choices.push((members, names));
            }
        }
    }
    rules
}

fn read_field(field: &FieldDescriptor, extension: &ExtensionDescriptor) -> Option<FieldRules> {
    let options = field.options();
    if !options.has_extension(extension) {
        return None;
    }
    let stated = options.get_extension(extension);
    let mut rules = read_rules(stated.as_message()?, field);
    rules.is_plain_number = !matches!(field.kind(), Kind::Message(_));
    Some(rules)
}

fn read_rules(stated: &DynamicMessage, field: &FieldDescriptor) -> FieldRules {
    let mut rules = FieldRules::default();
    for (kind, value) in stated.fields() {
        let Some(value) = value.as_message() else { continue };
        match kind.name() {
            "message" => rules.is_required |= flag(value, "required"),
            "repeated" => {
                rules.items = Some((
                    number(value, "min_items").unwrap_or(0),
                    number(value, "max_items").unwrap_or(u64::MAX),
                ));
                let each = value.get_field_by_name("items").filter(|_| value.has_field_by_name("items"));
                rules.each = each.and_then(|v| v.as_message().map(|m| Box::new(read_rules(m, field))));
            }
            "string" | "bytes" => {
                rules.chars_min = number(value, "min_len").unwrap_or(0);
                rules.bytes_max = number(value, "max_bytes").or_else(|| number(value, "max_len"));
                rules.well_known = match value.get_field_by_name("well_known_regex") {
                    Some(v) if v.as_enum_number() == Some(1) => Some(WellKnown::HeaderName),
                    Some(v) if v.as_enum_number() == Some(2) => Some(WellKnown::HeaderValue),
                    _ => None,
                };
                if let Some(values) = value.get_field_by_name("in") {
                    let texts = values.as_list().unwrap_or_default().iter().filter_map(Value::as_str);
                    rules.one_of = texts.map(str::to_owned).collect();
                }
            }
            "enum" => {
                if let (true, Kind::Enum(descriptor)) = (flag(value, "defined_only"), field.kind()) {
                    rules.defined = Some(descriptor);
                }
                if let Some(values) = value.get_field_by_name("not_in") {
                    rules.excluded =
                        values.as_list().unwrap_or_default().iter().filter_map(Value::as_i32).collect();
                }
            }
            "duration" => {
                rules.is_required |= flag(value, "required");
                rules.range = range(value, |v| v.as_message().map(nanoseconds));
            }
            "uint32" | "uint64" | "int32" | "int64" | "float" | "double" => {
                rules.range = range(value, as_number);
            }
            _ => {}
        }
    }
    rules
}

fn range(stated: &DynamicMessage, read: fn(&Value) -> Option<f64>) -> Range {
    let bound = |name| {
        let value = stated.get_field_by_name(name).filter(|_| stated.has_field_by_name(name));
        value.and_then(|v| read(&v))
    };
    Range { gt: bound("gt"), gte: bound("gte"), lt: bound("lt"), lte: bound("lte") }
}

fn flag(stated: &DynamicMessage, name: &str) -> bool {
    stated.get_field_by_name(name).and_then(|v| v.as_bool()).unwrap_or(false)
}

fn number(stated: &DynamicMessage, name: &str) -> Option<u64> {
    stated.get_field_by_name(name).filter(|_| stated.has_field_by_name(name)).and_then(|v| v.as_u64())
}
