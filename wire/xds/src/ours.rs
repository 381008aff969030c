//! How does naru say to naru what Envoy's API has no words for?
//!
//! A part of a configuration (all of how a chain reads requests, a rule, a cluster, what a process has once) is said
//! whole, as a message of our own in the place where Envoy's messages take any: as a filter, among what a route says to
//! filters, among the options of a cluster. Whoever does not know such a message has to refuse what it stands in, so
//! that nobody serves without a check that he has not read. Where a part is said so, nothing else is said of it: it has
//! one meaning. See `docs/adr/0023-naru-speaks-to-naru.md`.
//!
//! A message holds its part as JSON, whose shape is that of the types of `naru-spec`: every field of them is listed here
//! once, and one that is missing does not compile. What is `false`, empty or not there is left out. A field or a word
//! that is not known is an error: a proxy that is older than its control plane refuses what it cannot do.
//!
//! Deliberately not here: where documents say a rule. A line that is added above would make every rule below another.

use std::fmt;

use naru_spec::{Cluster, Http, Rule};
use prost::Message;
use serde_json::{Map, Value as Json};

use crate::proto::Any;

/// Of structs: all of their fields.
macro_rules! structs {
    ($( $name:ident { $($field:ident),* $(,)? } )*) => { $(
        impl $crate::ours::Said for $name {
            fn say(&self) -> serde_json::Value {
                let $name { $($field),* } = self;
                $crate::ours::object(vec![$((stringify!($field), $crate::ours::Said::say($field))),*])
            }

            fn hear(said: serde_json::Value) -> Result<$name, $crate::ours::Wrong> {
                let mut fields = $crate::ours::Fields::of(said)?;
                let heard = $name { $($field: fields.take(stringify!($field))?),* };
                fields.finish()?;
                Ok(heard)
            }
        }
    )* };
}

/// Of enums: all of their variants, with names for what they hold.
macro_rules! enums {
    ($( $name:ident {
        $( $variant:ident $( ( $($item:ident),* ) )? $( { $($field:ident),* $(,)? } )? ),* $(,)?
    } )*) => { $(
        impl $crate::ours::Said for $name {
            fn say(&self) -> serde_json::Value {
                match self {
                    $( $name::$variant $( ( $($item),* ) )? $( { $($field),* } )? => {
                        $crate::ours::variant(stringify!($variant), vec![
                            $( $( (stringify!($item), $crate::ours::Said::say($item)), )* )?
                            $( $( (stringify!($field), $crate::ours::Said::say($field)), )* )?
                        ])
                    } )*
                }
            }

            #[allow(unused_mut, reason = "there may be no variant that holds anything")]
            fn hear(said: serde_json::Value) -> Result<$name, $crate::ours::Wrong> {
                let (name, mut fields) = $crate::ours::Fields::of_variant(said)?;
                let heard = match name.as_str() {
                    $( stringify!($variant) => $crate::ours::inside(&name, || {
                        Ok($name::$variant
                            $( ( $(fields.take(stringify!($item))?),* ) )?
                            $( { $($field: fields.take(stringify!($field))?),* } )?)
                    })?, )*
                    _ => return Err($crate::ours::Wrong::unknown(&name)),
                };
                fields.finish()?;
                Ok(heard)
            }
        }
    )* };
}

// What is said first, then what it is made of.
mod parts;
mod http;
mod gate;
mod route;
mod cluster;
mod session;
mod leaves;

pub(crate) use parts::{Process, Shell};

/// What a filter, or what a route says to it, is called.
pub(crate) const NAME: &str = "naru";
/// Of the JSON of one part. A listener's policies can be long; nobody's are longer.
const PART_BYTES_MAX: usize = 8 << 20;
const PACKAGE: &str = "type.googleapis.com/naru.config.v1alpha1.";

/// A part that is said whole.
pub(crate) trait Part: Said {
    /// The last of the name of its message.
    const MESSAGE: &'static str;
}

impl Part for Http {
    const MESSAGE: &'static str = "Http";
}

impl Part for Rule {
    const MESSAGE: &'static str = "Rule";
}

impl Part for Cluster {
    const MESSAGE: &'static str = "Cluster";
}

impl Part for Shell {
    const MESSAGE: &'static str = "Listener";
}

/// The message: `message Http { string json = 1; }`.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
struct Carrier {
    #[prost(string, tag = "1")]
    json: String,
}

/// What it holds may be a secret.
impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Carrier({} bytes)", self.json.len())
    }
}

pub(crate) fn pack<T: Part>(part: &T) -> Any {
    carry(T::MESSAGE, &part.say().to_string())
}

/// Whatever stands there, as the message of a part.
pub(crate) fn carry(part: &str, json: &str) -> Any {
    Any { type_url: format!("{PACKAGE}{part}"), value: Carrier { json: json.to_owned() }.encode_to_vec() }
}

/// Nothing where it is another message; `Err` says what is wrong with it, and never what it holds.
pub(crate) fn unpack<T: Part>(any: &Any) -> Option<Result<T, String>> {
    (any.type_url.strip_prefix(PACKAGE) == Some(T::MESSAGE)).then(|| read(&any.value))
}

fn read<T: Part>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > PART_BYTES_MAX {
        let text = format!("it has {} bytes, and at most {PART_BYTES_MAX} are read", bytes.len());
        return Err(text);
    }
    let carrier = Carrier::decode(bytes).map_err(|_| "these are not the bytes of one".to_owned())?;
    // Its own words could quote what is said.
    let said = serde_json::from_str(&carrier.json)
        .map_err(|error| format!("it is no JSON at {}:{}", error.line(), error.column()))?;
    T::hear(said).map_err(|wrong| wrong.to_string())
}

/// Whether a resource may hold a secret in our words: bytes that stand in documents, hashes of keys, addresses with
/// passwords in them. Rather one too many.
pub(crate) fn may_hold_secrets(resource: &[u8]) -> bool {
    let text = String::from_utf8_lossy(resource);
    text.contains(PACKAGE) && ["\"Inline\"", "\"Sha256\"", "\"urls\""].iter().any(|word| text.contains(word))
}

/// What can be said, and heard as it was.
pub(crate) trait Said: Sized {
    fn say(&self) -> Json;

    fn hear(said: Json) -> Result<Self, Wrong>;

    /// Of bytes it is a text.
    fn say_all(all: &[Self]) -> Json {
        Json::Array(all.iter().map(Said::say).collect())
    }

    fn hear_all(said: Json) -> Result<Vec<Self>, Wrong> {
        let all = match said {
            Json::Null => Vec::new(),
            Json::Array(all) => all,
            _ => return Err(Wrong::expected("a list")),
        };
        let heard = all.into_iter().enumerate();
        heard.map(|(at, said)| Self::hear(said).map_err(|wrong| wrong.within(&format!("[{at}]")))).collect()
    }
}

/// Where something is wrong, and what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// From the inside out.
    path: Vec<String>,
    what: String,
}

impl Wrong {
    fn new(what: impl Into<String>) -> Wrong {
        Wrong { path: Vec::new(), what: what.into() }
    }

    fn expected(what: &str) -> Wrong {
        Wrong::new(format!("{what} is expected"))
    }

    fn unknown(word: &str) -> Wrong {
        let word: String = word.chars().take(64).flat_map(char::escape_debug).collect();
        Wrong::new(format!("'{word}' is not known here"))
    }

    fn within(mut self, step: &str) -> Wrong {
        self.path.push(step.to_owned());
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.path.iter().rev().enumerate() {
            let dot = if at == 0 || step.starts_with('[') { "" } else { "." };
            write!(f, "{dot}{step}")?;
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.what)
    }
}

/// What an object says, until somebody takes it.
pub(crate) struct Fields(Map<String, Json>);

impl Fields {
    fn of(said: Json) -> Result<Fields, Wrong> {
        match said {
            Json::Object(fields) => Ok(Fields(fields)),
            _ => Err(Wrong::expected("an object")),
        }
    }

    /// The name of a variant, and what it holds.
    fn of_variant(said: Json) -> Result<(String, Fields), Wrong> {
        match said {
            Json::String(name) => Ok((name, Fields(Map::new()))),
            Json::Object(fields) if fields.len() == 1 => {
                let (name, said) = fields.into_iter().next().ok_or_else(|| Wrong::expected("a word"))?;
                let fields = Fields::of(said).map_err(|wrong| wrong.within(&name))?;
                Ok((name, fields))
            }
            _ => Err(Wrong::expected("a word, or an object of one")),
        }
    }

    fn take<T: Said>(&mut self, name: &str) -> Result<T, Wrong> {
        let said = self.0.remove(name).unwrap_or(Json::Null);
        T::hear(said).map_err(|wrong| wrong.within(name))
    }

    fn finish(self) -> Result<(), Wrong> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Wrong::unknown(name)),
        }
    }
}

/// Whatever is wrong is so within this.
fn inside<T>(name: &str, hear: impl FnOnce() -> Result<T, Wrong>) -> Result<T, Wrong> {
    hear().map_err(|wrong| wrong.within(name))
}

fn object(fields: Vec<(&str, Json)>) -> Json {
    let is_said = |said: &Json| match said {
        Json::Null | Json::Bool(false) => false,
        Json::Array(all) => !all.is_empty(),
        _ => true,
    };
    let fields = fields.into_iter().filter(|(_, said)| is_said(said));
    Json::Object(fields.map(|(name, said)| (name.to_owned(), said)).collect())
}

fn variant(name: &str, fields: Vec<(&str, Json)>) -> Json {
    if fields.is_empty() {
        return Json::String(name.to_owned());
    }
    Json::Object([(name.to_owned(), object(fields))].into_iter().collect())
}

/// What a proxy is not told: where documents say it.
pub(crate) fn without_origin(rule: &Rule) -> Rule {
    let mut bare = Rule { origin: String::new(), ..rule.clone() };
    bare.changes_mut().for_each(gate::forget_origins);
    bare
}

#[cfg(test)]
mod tests;
