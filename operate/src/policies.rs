//! Which policies act on a request, in words and as data: those of its rule, and those of where it is sent.
//!
//! Comes in: what the configuration says, and the documents that it was made of. Goes out: a line for each policy that
//! acts, in the order in which a request meets them. What does nothing has no line.

pub mod of_cluster;
pub mod of_edge;
pub mod of_gate;
mod of_content;
mod of_identity;
mod of_load;
pub mod of_rule;
pub mod of_session;
mod origin;

use std::time::Duration;

use naru_base::Fraction;
use serde_json::{Value, json};

pub use origin::{Documents, Sources};

/// One policy that acts.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// As documents call it.
    pub name: &'static str,
    /// For people.
    pub text: String,
    /// For programs: an object.
    pub values: Value,
    /// `file:line:column`, where that is known.
    pub origin: Option<String>,
}

impl Policy {
    fn new(name: &'static str, text: impl Into<String>, values: Value, origin: Option<String>) -> Policy {
        Policy { name, text: text.into(), values, origin }
    }

    pub fn to_line(&self) -> String {
        match &self.origin {
            Some(origin) => format!("{}  ({origin})", self.text),
            None => self.text.clone(),
        }
    }

    pub fn to_json(&self) -> Value {
        json!({ "policy": self.name, "text": self.text, "values": self.values, "origin": self.origin })
    }
}

pub fn percent(share: Fraction) -> String {
    format!("{}%", in_percent(share))
}

fn in_percent(share: Fraction) -> f64 {
    f64::from(share.numerator()) * 100.0 / f64::from(share.denominator().value())
}

/// For programs: milliseconds, with a fraction where there is one.
fn ms(length: Duration) -> f64 {
    length.as_secs_f64() * 1_000.0
}

/// `1 retry`, `2 retries`
fn counted(count: impl Into<u64>, one: &str, many: &str) -> String {
    match count.into() {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}
