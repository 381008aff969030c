//! May it be answered from memory?
//!
//! In come heads of requests and answers, what a route says of them ([`naru_spec::CachePolicy`]) and moments; out goes
//! whether an answer may be kept and for how long ([`terms`]), whether one that is kept may be given ([`judge`]), what
//! is asked of an upstream instead ([`validate`]), what an answer does to those that are kept ([`freshen`],
//! [`invalidated`]), and which of many requests for the same thing fetches it ([`Shelf`]). It is a shared cache as
//! RFC 9111 has it, with RFC 5861 (stale answers), RFC 9211 (`Cache-Status`) and RFC 9213 (`CDN-Cache-Control`).
//!
//! A [`Shelf`] is one part of the memory: objects by URL, bounded in bytes, evicted as S3-FIFO does (Yang et al., "FIFO
//! queues are all you need for cache eviction", SOSP 2023), and the fetches that are under way. It has one owner.
//!
//! What is kept beyond the memory is decided here, too: an object as bytes ([`Packed`]), purges that reach what is kept
//! elsewhere ([`Purges`]), which files there are ([`Catalog`]), which part of a store answers ([`Shards`]), and what is
//! done with what is found there ([`use_of`]).
//!
//! Deliberately not here: bodies as they come, who waits where, several shelves beside each other, disks and networks.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what is written in fields, what it means for an answer, for a request, for what is kept.
mod list;
mod hash;
mod date;
mod control;
mod key;
mod vary;
mod unkeyed;
mod terms;
mod judge;
mod conditional;
mod range;
mod freshen;
mod invalidate;
mod told;
mod object;
mod ghost;
mod queue;
mod flights;
mod shelf;
// And beyond the memory: objects as bytes, what was purged of them, which files there are, and who answers.
mod packed;
mod purges;
mod catalog;
mod shards;
mod behind;

pub use behind::{Use, is_enough, is_newer, life, may_hold, use_of};
pub use catalog::{Catalog, Name};
pub use conditional::{Given, answer_to, validate};
pub use control::{Asked, Control};
pub use date::parse as parse_date;
pub use flights::{FlightId, Outcome, Ticket, Turn};
pub use freshen::{freshen, is_same_by_head};
pub use hash::hash;
pub use invalidate::{invalidated, is_own_location, is_unsafe};
pub use judge::{Judgement, judge, may_be_given_instead, may_be_shared};
pub use key::{Key, KeyText, Place, beside_of, url_of};
pub use object::{Head, Lines, Object};
pub use packed::{Packed, choose, pack_choice, seal};
pub use purges::Purges;
pub use range::{Part, part_of};
pub use shards::Shards;
pub use shelf::{Counts, Look, Purge, Shelf, Way, shelves};
pub use terms::{Fetched, Refused, Terms, may_lead, may_use, stored_head, terms};
pub use told::{Told, age_value};
pub use vary::Said;

#[cfg(test)]
fn headers(all: &[(&'static str, &'static str)]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in all {
        headers.append(*name, http::HeaderValue::from_static(value));
    }
    headers
}
