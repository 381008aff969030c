//! Operations on headers, ready to be applied.
//!
//! The levels of the configuration in the order in which Envoy applies them (weighted cluster, rule,
//! virtual host, table), each with its removals before its additions. So what an outer level
//! overwrites is what stays.

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_spec::{Format, HeaderAction, HeaderOps, Invalid};

/// Compiled operations on the headers of one message.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// None is empty.
    levels: Box<[Level]>,
}

/// Those of a request and those of its response.
#[derive(Clone, Debug, Default)]
pub struct EditPair {
    pub request: Edits,
    pub response: Edits,
}

/// Appends the value of a format for a message that has these headers.
pub type Fill<'a> = dyn FnMut(&HeaderMap, &Format, &mut Vec<u8>) + 'a;

#[derive(Clone, Debug)]
struct Level {
    remove: Box<[HeaderName]>,
    add: Box<[Addition]>,
    is_literal: bool,
}

#[derive(Clone, Debug)]
struct Addition {
    name: HeaderName,
    action: HeaderAction,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Literal(HeaderValue),
    Filled { format: Format, keep_empty: bool },
}

impl Edits {
    /// Compiles the levels, the innermost first. What [`problems`](Edits::problems) tells of is
    /// left out.
    pub fn compile(levels: &[&HeaderOps]) -> Edits {
        let levels = levels.iter().map(|ops| Level::compile(ops));
        Edits { levels: levels.filter(|level| !level.is_empty()).collect() }
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
        self.levels.is_empty()
    }

    /// Applies the levels in order. A value that is not valid in a header is dropped, an empty one
    /// too unless its operation keeps it.
    pub fn apply(&self, headers: &mut HeaderMap, fill: &mut Fill<'_>) {
        for level in &self.levels {
            level.apply(headers, fill);
        }
    }
}

impl Level {
    fn compile(ops: &HeaderOps) -> Level {
        let add = ops.add.iter().filter_map(|op| {
            let value = match op.value.as_literal() {
                Some("") if !op.keep_empty => return None,
                Some(text) => Value::Literal(HeaderValue::from_bytes(text.as_bytes()).ok()?),
                None => Value::Filled { format: op.value.clone(), keep_empty: op.keep_empty },
            };
            Some(Addition { name: op.name.clone(), action: op.action, value })
        });
        let add: Box<[Addition]> = add.collect();
        let is_literal = add.iter().all(|addition| matches!(addition.value, Value::Literal(_)));
        Level { remove: ops.remove.as_slice().into(), add, is_literal }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    fn apply(&self, headers: &mut HeaderMap, fill: &mut Fill<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        if self.is_literal {
            for addition in &self.add {
                addition.put(headers, addition.value(headers, fill));
            }
            return;
        }
        // As in Envoy, no value sees what another addition of its level adds.
        let values: Vec<_> = self.add.iter().map(|addition| addition.value(headers, fill)).collect();
        for (addition, value) in self.add.iter().zip(values) {
            addition.put(headers, value);
        }
    }
}

impl Addition {
    fn value(&self, headers: &HeaderMap, fill: &mut Fill<'_>) -> Option<HeaderValue> {
        match &self.value {
            Value::Literal(value) => Some(value.clone()),
            Value::Filled { format, keep_empty } => {
                let mut buffer = Vec::new();
                fill(headers, format, &mut buffer);
                HeaderValue::from_bytes(&buffer).ok().filter(|value| *keep_empty || !value.is_empty())
            }
        }
    }

    /// A map that is full (32,768 values) stays as it is.
    fn put(&self, headers: &mut HeaderMap, value: Option<HeaderValue>) {
        let Some(value) = value else { return };
        let is_wanted = match self.action {
            HeaderAction::Append | HeaderAction::Overwrite => true,
            HeaderAction::AddIfAbsent => !headers.contains_key(&self.name),
            HeaderAction::OverwriteIfPresent => headers.contains_key(&self.name),
        };
        if !is_wanted {
            return;
        }
        let _ = match self.action {
            HeaderAction::Append | HeaderAction::AddIfAbsent => {
                headers.try_append(&self.name, value).map(|_| ())
            }
            HeaderAction::Overwrite | HeaderAction::OverwriteIfPresent => {
                headers.try_insert(&self.name, value).map(|_| ())
            }
        };
    }
}
