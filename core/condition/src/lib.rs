//! Does what somebody wrote about a request hold? Conditions in CEL, the Common Expression Language.
//!
//! A text becomes a tree ([`parse`]), which is checked and made ready once ([`Condition::compile`]); a request is held
//! against it as [`Facts`], by the names that Envoy gives its attributes. What comes of it is a yes, a no or a
//! [`Fail`]: whoever asks says what a failure means.
//!
//! Everything is bounded: the bytes of a text, the nodes and the depth of its tree, and what one answer may cost
//! ([`naru_spec::defaults::CONDITION_COST_MAX`]), of which each step, each byte that is compared or made, and each
//! element that is copied takes its part. So memory is bounded, too. Patterns of `matches` are written in the condition
//! and compiled with it: no request brings one along.
//!
//! An own reading of the language and no library's, as those at hand bound no evaluation, compile patterns while
//! requests wait, and copy the request first. Deliberately not here: zones by the names of places
//! (offsets are known), messages of protobuf, and extensions of the language.
//!
//! Source: the CEL specification, `cel-spec/doc/langdef.md`; Envoy, "Attributes".
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: a text becomes a tree, the tree is checked and compiled, what is known of a request, and the answer.
mod lex;
mod parse;
mod check;
mod compile;
mod facts;
mod evaluate;
mod functions;
mod value;
mod moment;

pub use check::check;
pub use compile::Condition;
pub use evaluate::Fail;
pub use facts::{CLAIMS_OF, Facts};
pub use parse::{Wrong, parse};
