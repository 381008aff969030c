//! May it pass? Limits of load.
//!
//! In come settings (`naru_spec::limits`), counts, moments and chance; out comes leave to go on, a place in a queue,
//! or a refusal with its [`Reason`](naru_base::Reason).
//!
//! Counts that all workers change are words: an atomic in the proxy, a cell in the simulator. A function takes the
//! word as it is and gives the word as it will be; who holds it swaps one for the other, or asks again where somebody
//! else was quicker (`fetch_update`). So a count never goes over its limit, not for a moment, and taking and giving
//! back are one step each. What is more than a word has one owner, who is told what happens, in order.
//!
//! Deliberately not here: who may call whom (identities and tokens), quotas of users, how many retries a cluster bears
//! (`recover`), and where any of this stands on the way of a request.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what a word is, then the limits from the cluster outwards, then those that find themselves, then
// the proxy's own needs.
pub mod word;
pub mod cluster;
pub mod bulkhead;
pub mod rate;
pub mod token_bucket;
pub mod described;
pub mod local_rate;
pub mod quota;
pub mod lease;
pub mod adaptive;
pub mod histogram;
pub mod admission;
pub mod overload;
pub mod pace;

pub use adaptive::Gradient;
pub use admission::Admission;
pub use bulkhead::{Claim, Entry, Queue, Ticket, Waiter};
pub use cluster::{Gauges, Room};
pub use histogram::Histogram;
pub use overload::Pressures;
pub use pace::Pace;
pub use rate::{RateLimiter, Turn};
pub use token_bucket::Bucket;
pub use word::Word;
