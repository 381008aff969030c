//! Which rule takes this request?
//!
//! In goes a [`naru_spec::RouteTable`], once per snapshot, and the [`Subject`] of each request. Out
//! comes a [`Verdict`]: the first rule, in the order people wrote them, that holds for the request;
//! and with the rule, everything it says to do, ready to be carried out.
//!
//! [`Table`] is compiled so that a search costs the same for ten rules and for ten thousand that
//! differ by host, path or one exact value. [`mod@reference`] is the obvious linear search that says
//! what is right, and why a rule did not match.
//!
//! Deliberately not here: what happens to the request afterwards, whether a cluster has endpoints,
//! the reading of any document. No clock, no chance of its own (a request brings one draw), no IO.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: the question and its answer, the table that answers it and its parts from
// outside in, what a rule says to do, the reference.
mod subject;
mod observe;
mod table;
mod host;
mod index;
mod group;
mod condition;
mod block;
mod claim;
mod radix;
mod dictionary;
mod action;
mod forward;
mod groups;
mod redirect;
mod target;
mod edits;
mod re2;
pub mod reference;

pub use action::{CompiledAction, CompiledRule};
pub use block::Block;
pub use claim::ClaimTest;
pub use condition::{HeaderTests, TextTest};
pub use edits::{EditPair, Edits, Fill};
pub use forward::{Choice, CompiledForward, CompiledHost};
pub use groups::{CompiledGroups, CompiledReadYourWrites, Group, Grouped, SessionId, Why};
pub use observe::{Field, Observer, Outcome};
pub use redirect::{CompiledRedirect, https_location};
pub use subject::{Claims, RuleId, Subject, Verdict};
pub use table::{Place, Table};
