//! Counts in one word.

use std::cell::Cell;

/// A word that several workers change: an atomic in the proxy, a cell where there is one thread.
pub trait Word {
    /// Replaces the word by what `step` makes of it, at once; `step` is asked again where another worker was
    /// quicker. `None` leaves it. Returns what the word was.
    ///
    /// # Errors
    /// The word as it is, where `step` leaves it.
    fn change(&self, step: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64>;

    /// The word as it is; the next moment it may be another.
    fn read(&self) -> u64;
}

impl Word for Cell<u64> {
    fn change(&self, mut step: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        let before = self.get();
        let after = step(before).ok_or(before)?;
        self.set(after);
        Ok(before)
    }

    fn read(&self) -> u64 {
        self.get()
    }
}

/// Two counts in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub low: u32,
    pub high: u32,
}

impl Pair {
    #[inline]
    pub fn of(word: u64) -> Pair {
        Pair { low: word as u32, high: (word >> 32) as u32 }
    }

    #[inline]
    pub fn word(self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}
