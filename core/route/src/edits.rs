//! Operations on headers, ready to be applied.
//!
//! One flat list per direction: the levels of the configuration stand one after the other in the
//! order in which Envoy applies them (weighted cluster, rule, virtual host, table), each with its
//! removals before its additions. So what an outer level overwrites is what stays.

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_spec::{Format, HeaderAction, HeaderOps, Invalid};

/// A compiled list of header operations.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    list: Box<[Edit]>,
}

/// Those of a request and those of its response.
#[derive(Clone, Debug, Default)]
pub struct EditPair {
    pub request: Edits,
    pub response: Edits,
}

#[derive(Clone, Debug)]
enum Edit {
    Remove(HeaderName),
    Add { name: HeaderName, action: HeaderAction, value: Value },
}

#[derive(Clone, Debug)]
enum Value {
    Literal(HeaderValue),
    Filled { format: Format, keep_empty: bool },
}

impl Edits {
    /// Compiles the levels, the innermost first. What [`problems`](Edits::problems) tells of is
    /// left out.
    pub(crate) fn compile(levels: &[&HeaderOps]) -> Edits {
        let mut list = Vec::new();
        for ops in levels {
            list.extend(ops.remove.iter().cloned().map(Edit::Remove));
            for op in &ops.add {
                let value = match op.value.as_literal() {
                    Some("") if !op.keep_empty => continue,
                    Some(text) => match HeaderValue::from_bytes(text.as_bytes()) {
                        Ok(value) => Value::Literal(value),
                        Err(_) => continue,
                    },
                    None => Value::Filled { format: op.value.clone(), keep_empty: op.keep_empty },
                };
                list.push(Edit::Add { name: op.name.clone(), action: op.action, value });
            }
        }
        Edits { list: list.into() }
    }

    /// What is wrong with the operations of one level.
    pub(crate) fn problems(ops: &HeaderOps) -> Vec<Invalid> {
        let is_wrong = |text: &str| HeaderValue::from_bytes(text.as_bytes()).is_err();
        ops.add
            .iter()
            .filter(|op| op.value.as_literal().is_some_and(is_wrong))
            .map(|op| {
                let name = &op.name;
                Invalid::new(format!("the value for header '{name}' has characters that no header may have"))
            })
            .collect()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Applies the list in order. `fill` writes the value of a format; one that is not a valid
    /// header value is dropped, an empty one too unless its operation keeps it.
    pub fn apply(&self, headers: &mut HeaderMap, fill: &mut dyn FnMut(&Format, &mut Vec<u8>)) {
        let mut buffer = Vec::new();
        for edit in &self.list {
            match edit {
                Edit::Remove(name) => {
                    headers.remove(name);
                }
                Edit::Add { name, action, value } => {
                    let is_wanted = match action {
                        HeaderAction::Append | HeaderAction::Overwrite => true,
                        HeaderAction::AddIfAbsent => !headers.contains_key(name),
                        HeaderAction::OverwriteIfPresent => headers.contains_key(name),
                    };
                    if !is_wanted {
                        continue;
                    }
                    let value = match value {
                        Value::Literal(value) => value.clone(),
                        Value::Filled { format, keep_empty } => {
                            buffer.clear();
                            fill(format, &mut buffer);
                            match HeaderValue::from_bytes(&buffer) {
                                Ok(value) if *keep_empty || !value.is_empty() => value,
                                _ => continue,
                            }
                        }
                    };
                    put(headers, name, *action, value);
                }
            }
        }
    }
}

/// A map that is full (32,768 values) stays as it is.
fn put(headers: &mut HeaderMap, name: &HeaderName, action: HeaderAction, value: HeaderValue) {
    let _ = match action {
        HeaderAction::Append | HeaderAction::AddIfAbsent => headers.try_append(name, value).map(|_| ()),
        HeaderAction::Overwrite | HeaderAction::OverwriteIfPresent => {
            headers.try_insert(name, value).map(|_| ())
        }
    };
}
