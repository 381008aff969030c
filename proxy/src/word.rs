//! A count that all workers change.

use naru_admit::Word;

use crate::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct SharedWord(AtomicU64);

impl Word for SharedWord {
    #[inline]
    fn change(&self, step: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, step)
    }

    #[inline]
    fn read(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
