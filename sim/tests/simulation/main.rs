//! The simulator as its users see it.
//!
//! A test that walks through seeds prints the one that failed; `NARU_SEED=n` replays that one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests read files, and ask whoever runs them")]

mod support;
mod guarded;
mod decisions;
mod replay;
mod retry;
mod cancellation;
mod chaos;
mod mesh;
mod events;
mod timeline;
mod walk;
mod queues;
mod layers;
mod breaker;
mod statistics;
mod problems;
mod example;
mod goldens;
mod surge;
mod leases;
mod tiers;
mod places;
