//! Is the house still as it was meant?
//!
//! The rules that no compiler checks: which crate may know which, what may not stand in a source
//! file, whether the documents say what is there. A rule here is one that was once only remembered.
//! When one fails, its message says what to change; when a rule itself is wrong, change it here, and
//! say why in `docs/adr/`.
#![allow(clippy::panic, reason = "a test fails by panicking")]

// From the whole to its parts.
mod crates;
mod supplies;
mod sources;
mod documents;
mod examples;
mod workspace;
