//! What threads share is built on: the standard library's. `proxy/tests/shared.rs` compiles the files that name nothing else
//! (`word.rs`, `combined.rs`, `bulkhead.rs`, `bulletin.rs`, `known.rs`, `seats.rs`, `codec/http2/crowd.rs`) a second time, on
//! [shuttle]'s, which tries orders of steps.
//!
//! [shuttle]: https://docs.rs/shuttle

pub use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

/// A test of one of these files, by one thread.
#[cfg(test)]
pub fn alone(test: impl Fn() + Send + Sync + 'static) {
    test();
}
