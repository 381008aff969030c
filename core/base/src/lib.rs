//! What is a moment, a chance, a share, an identity, a reason?
//!
//! The words that every other room uses. Everything here is a plain value: nothing reads a clock,
//! asks the operating system for randomness or touches the outside world. Who drives the core
//! passes the time and the seed in.
#![forbid(unsafe_code)]
#![deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type
)]

// In reading order: what is passed in first, what is said at the end last.
pub mod time;
pub mod chance;
pub mod share;
pub mod id;
pub mod json;
pub mod text;
pub mod reason;

pub use chance::Chance;
pub use id::{AttemptId, ClusterId, EndpointId};
pub use json::Json;
pub use reason::{Reason, RetryEnd, Side};
pub use share::{Fraction, Weight};
pub use text::IpText;
pub use time::{Instant, Times, WallTime};
