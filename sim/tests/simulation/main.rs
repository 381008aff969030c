//! The simulator as its users see it.
//!
//! A test that walks through seeds prints the one that failed; `NARU_SEED=n` replays that one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;
mod decisions;
mod replay;
mod cancellation;
mod chaos;
mod statistics;
mod problems;
mod example;
