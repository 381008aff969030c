//! What threads share is built on: the standard library's. `proxy/tests/shared.rs` compiles the files that name nothing else
//! (`word.rs`, `combined.rs`, `bulkhead.rs`) a second time, on [shuttle]'s, which tries orders of steps.
//!
//! [shuttle]: https://docs.rs/shuttle

pub use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

pub mod atomic {
    pub use std::sync::atomic::{AtomicU64, Ordering, fence};
}
