//! What a token claims, as something that a rule or a policy asks. Envoy's `matchers.cc`: `ValueMatcher`.

use naru_base::Json;
use naru_spec::{ClaimMatch, Invalid, ValueMatch};

use crate::TextTest;
use crate::subject::Claims;

/// A test of one claim, ready to be asked.
#[derive(Clone, Debug)]
pub struct ClaimTest {
    claims_name: Box<str>,
    path: Box<[String]>,
    value: Value,
    invert: bool,
}

#[derive(Clone, Debug)]
enum Value {
    Null,
    Present(bool),
    Bool(bool),
    Text(TextTest),
    Number(f64),
    Range(f64, f64),
    OneOf(Box<Value>),
    Any(Box<[Value]>),
}

impl ClaimTest {
    /// # Errors
    /// Every pattern that is none.
    pub fn compile(said: &ClaimMatch) -> Result<ClaimTest, Vec<Invalid>> {
        let mut problems = Vec::new();
        let value = Value::compile(&said.test, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let (claims_name, path) = (said.claims_name.as_str().into(), said.path.clone().into());
        Ok(ClaimTest { claims_name, path, value, invert: said.invert })
    }

    pub fn holds(&self, claims: Option<&dyn Claims>) -> bool {
        let claim = claims.and_then(|claims| claims.claim(&self.claims_name, &self.path));
        self.value.holds(claim) != self.invert
    }
}

impl Value {
    fn compile(said: &ValueMatch, problems: &mut Vec<Invalid>) -> Value {
        match said {
            ValueMatch::Null => Value::Null,
            ValueMatch::Present(present) => Value::Present(*present),
            ValueMatch::Bool(is_true) => Value::Bool(*is_true),
            ValueMatch::Text(said) => match TextTest::compile(said) {
                Ok(test) => Value::Text(test),
                Err(invalid) => {
                    problems.push(invalid);
                    Value::Null
                }
            },
            ValueMatch::Number(number) => Value::Number(*number),
            ValueMatch::Range(first, end) => Value::Range(*first, *end),
            ValueMatch::OneOf(said) => Value::OneOf(Box::new(Value::compile(said, problems))),
            ValueMatch::Any(list) => {
                Value::Any(list.iter().map(|said| Value::compile(said, problems)).collect())
            }
        }
    }

    fn holds(&self, claim: Option<&Json>) -> bool {
        let number = || match claim {
            Some(Json::Whole(whole)) => Some(*whole as f64),
            Some(Json::Real(real)) => Some(*real),
            _ => None,
        };
        match self {
            Value::Null => matches!(claim, Some(Json::Null)),
            // Envoy's: that something is not there holds of nothing.
            Value::Present(present) => *present && claim.is_some(),
            Value::Bool(is_true) => claim == Some(&Json::Bool(*is_true)),
            Value::Text(test) => {
                claim.and_then(Json::as_text).is_some_and(|text| test.is_match(text.as_bytes()))
            }
            Value::Number(wanted) => number().is_some_and(|number| number == *wanted),
            Value::Range(first, end) => number().is_some_and(|number| (*first..*end).contains(&number)),
            Value::OneOf(test) => match claim {
                Some(Json::List(values)) => values.iter().any(|value| test.holds(Some(value))),
                _ => false,
            },
            Value::Any(tests) => tests.iter().any(|test| test.holds(claim)),
        }
    }
}
