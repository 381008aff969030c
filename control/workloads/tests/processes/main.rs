//! Real processes: how they start, are asked, end, and leave nothing behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

mod beginnings;
mod endings;
mod limits;
mod probes;
mod rollouts;
