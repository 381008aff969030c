//! What Envoy's API has no words for, and how it travels all the same.
//!
//! - The client's address is matched as filter state of the name [`SOURCE_ADDRESS`].
//! - Operations on the query, and query matches that are inverted, stand in the route's metadata
//!   under [`ROUTE_METADATA`]: `{query: {remove: [..], set: [[name, value], ..], add: [..]},
//!   match: {query_not: [{name, exact|prefix|suffix|contains|regex, ignore_case}, ..]}}`.
//! - So does what it has no words for of retries, timeouts, faults and mirrors: see `recovery`.
//! - And of groups for reads and writes: see `groups`.
//! - A cookie that need only be there is matched by a pattern that takes everything.

mod groups;
mod recovery;

use naru_spec::{NameMatch, Pattern, QueryOps, ReadWriteGroups, StringMatch, ValueTest};

pub(crate) use recovery::Recovery;

use crate::proto::{ListValue, Struct, Value, value};

/// The key of filter state that holds the trusted client address.
pub(crate) const SOURCE_ADDRESS: &str = "naru.source_address";
/// The key of a route's `filter_metadata`.
pub(crate) const ROUTE_METADATA: &str = "naru.route";

const ANYTHING: &str = "(?s).*";

pub(crate) fn anything() -> StringMatch {
    let pattern = Pattern::new(ANYTHING).expect("the pattern is short and not empty");
    StringMatch { test: ValueTest::Regex(pattern), ignore_case: false }
}

pub(crate) fn is_anything(test: &StringMatch) -> bool {
    matches!(&test.test, ValueTest::Regex(pattern) if pattern.as_str() == ANYTHING)
}

/// What stands in a route's metadata.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RouteExtension {
    pub query: QueryOps,
    /// Inverted matches.
    pub query_not: Vec<NameMatch>,
    pub recovery: Recovery,
    pub groups: Option<ReadWriteGroups>,
}

impl RouteExtension {
    pub fn write(&self) -> Option<Struct> {
        let mut whole = Vec::new();
        if !self.query.is_empty() {
            let names = self.query.remove.iter().map(|name| text(name));
            let fields = vec![
                ("remove", list(names.collect())),
                ("set", pairs(&self.query.set)),
                ("add", pairs(&self.query.add)),
            ];
            whole.push(("query", object(fields)));
        }
        if !self.query_not.is_empty() {
            let matches = self.query_not.iter().map(write_match).collect();
            whole.push(("match", object(vec![("query_not", list(matches))])));
        }
        whole.extend(self.recovery.write().map(|recovery| ("recovery", recovery)));
        whole.extend(self.groups.as_ref().map(|said| ("groups", groups::write(said))));
        (!whole.is_empty()).then(|| fields(whole))
    }

    /// `Err` holds what is not understood.
    pub fn read(said: &Struct) -> Result<RouteExtension, String> {
        let mut extension = RouteExtension::default();
        for (key, value) in sorted(said) {
            match key.as_str() {
                "query" => extension.query = read_query(value)?,
                "recovery" => extension.recovery = Recovery::read(value)?,
                "groups" => extension.groups = Some(groups::read(value)?),
                "match" => {
                    for (key, value) in sorted(as_object(key, value)?) {
                        if key != "query_not" {
                            return Err(format!("match.{key} is not known"));
                        }
                        for item in as_list(key, value)? {
                            extension.query_not.push(read_match(item)?);
                        }
                    }
                }
                other => return Err(format!("'{other}' is not known")),
            }
        }
        Ok(extension)
    }
}

fn read_query(value: &Value) -> Result<QueryOps, String> {
    let mut ops = QueryOps::default();
    for (key, value) in sorted(as_object("query", value)?) {
        let items = as_list(key, value)?;
        match key.as_str() {
            "remove" => {
                for item in items {
                    ops.remove.push(as_text(key, item)?.to_owned());
                }
            }
            "set" | "add" => {
                let mut pairs = Vec::new();
                for item in items {
                    let [name, value] = as_list(key, item)? else {
                        return Err(format!("query.{key} is a list of [name, value]"));
                    };
                    pairs.push((as_text(key, name)?.to_owned(), as_text(key, value)?.to_owned()));
                }
                if key == "set" { ops.set = pairs } else { ops.add = pairs }
            }
            other => return Err(format!("query.{other} is not known")),
        }
    }
    Ok(ops)
}

fn write_match(said: &NameMatch) -> Value {
    let mut fields = vec![("name", text(&said.name))];
    fields.extend(said.test.iter().flat_map(test_fields));
    object(fields)
}

fn test_fields(test: &StringMatch) -> Vec<(&'static str, Value)> {
    let mut fields = vec![match &test.test {
        ValueTest::Exact(value) => ("exact", text(value)),
        ValueTest::Prefix(value) => ("prefix", text(value)),
        ValueTest::Suffix(value) => ("suffix", text(value)),
        ValueTest::Contains(value) => ("contains", text(value)),
        ValueTest::Regex(pattern) => ("regex", text(pattern.as_str())),
    }];
    if test.ignore_case && !matches!(test.test, ValueTest::Regex(_)) {
        fields.push(("ignore_case", Value { kind: Some(value::Kind::BoolValue(true)) }));
    }
    fields
}

/// A test of a text, field by field.
#[derive(Default)]
struct Test {
    test: Option<ValueTest>,
    ignores_case: bool,
}

impl Test {
    /// Whether it is a field of a test.
    fn take(&mut self, key: &str, value: &Value) -> Result<bool, String> {
        let test = match key {
            "ignore_case" => {
                self.ignores_case = matches!(value.kind, Some(value::Kind::BoolValue(true)));
                return Ok(true);
            }
            "exact" => ValueTest::Exact(as_text(key, value)?.to_owned()),
            "prefix" => ValueTest::Prefix(as_text(key, value)?.to_owned()),
            "suffix" => ValueTest::Suffix(as_text(key, value)?.to_owned()),
            "contains" => ValueTest::Contains(as_text(key, value)?.to_owned()),
            "regex" => ValueTest::Regex(Pattern::new(as_text(key, value)?).map_err(|e| e.message)?),
            _ => return Ok(false),
        };
        if self.test.replace(test).is_some() {
            return Err(format!("'{key}': only one test of a text can be made"));
        }
        Ok(true)
    }

    fn finish(self) -> Option<StringMatch> {
        let test = self.test?;
        let ignore_case = self.ignores_case && !matches!(test, ValueTest::Regex(_));
        Some(StringMatch { test, ignore_case })
    }
}

fn read_match(value: &Value) -> Result<NameMatch, String> {
    let mut found = NameMatch { name: String::new(), test: None, invert: true };
    let mut test = Test::default();
    for (key, value) in sorted(as_object("query_not", value)?) {
        if key == "name" {
            as_text(key, value)?.clone_into(&mut found.name);
        } else if !test.take(key, value)? {
            return Err(format!("match.query_not.{key} is not known"));
        }
    }
    if found.name.is_empty() {
        return Err("match.query_not needs the name of a parameter".to_owned());
    }
    found.test = test.finish();
    Ok(found)
}

fn sorted(said: &Struct) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = said.fields.iter().collect();
    fields.sort_by_key(|(key, _)| *key);
    fields
}

fn as_object<'a>(name: &str, value: &'a Value) -> Result<&'a Struct, String> {
    match &value.kind {
        Some(value::Kind::StructValue(fields)) => Ok(fields),
        _ => Err(format!("'{name}' is a mapping")),
    }
}

fn as_list<'a>(name: &str, value: &'a Value) -> Result<&'a [Value], String> {
    match &value.kind {
        Some(value::Kind::ListValue(list)) => Ok(&list.values),
        _ => Err(format!("'{name}' is a list")),
    }
}

fn as_text<'a>(name: &str, value: &'a Value) -> Result<&'a str, String> {
    match &value.kind {
        Some(value::Kind::StringValue(text)) => Ok(text),
        _ => Err(format!("'{name}' holds text")),
    }
}

pub(crate) fn text(text: &str) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.to_owned())) }
}

pub(crate) fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(value::Kind::ListValue(ListValue { values })) }
}

fn pairs(pairs: &[(String, String)]) -> Value {
    list(pairs.iter().map(|(name, value)| list(vec![text(name), text(value)])).collect())
}

fn object(entries: Vec<(&str, Value)>) -> Value {
    Value { kind: Some(value::Kind::StructValue(fields(entries))) }
}

fn fields(entries: Vec<(&str, Value)>) -> Struct {
    Struct { fields: entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}
