//! In which form does a content go?
//!
//! Comes in: heads of requests and answers, what is known of a file, settings. Goes out: the coding that an answer is put
//! in, with the head that it then has ([`compress`]), whether a client has a content already and which parts of it it
//! wants ([`conditions`], [`ranges`]), which files a path may mean ([`files`]) and what head the one that is there has
//! ([`given`]).
//!
//! RFC 9110 says what is right; where Envoy or nginx have a habit, it is theirs.
//!
//! Deliberately not here: bytes of bodies, libraries that compress, disks.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what a client accepts, what becomes of an answer; which file, which part, with which head.
pub mod accept;
pub mod compress;
pub mod files;
mod types;
pub mod conditions;
pub mod ranges;
pub mod given;

pub use accept::Accepted;
pub use types::type_of;

/// The members of a list in a field, trimmed.
fn members(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty())
}
