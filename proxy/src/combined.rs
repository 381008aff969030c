//! Something that one thread at a time has, and news for it that any thread may have.
//!
//! Who has news puts it into a bounded queue, and becomes the owner for a moment if nobody else is: whoever finds the lock
//! free passes on all that waits. Who does not find it free may leave: the owner looks again after it has given the lock
//! back. So nobody waits for the lock who has news, and no news waits once everybody has left.

use crossbeam_queue::ArrayQueue;

use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

#[derive(Debug)]
pub struct Combined<O, N> {
    owned: Mutex<O>,
    news: ArrayQueue<N>,
}

impl<O, N> Combined<O, N> {
    /// News that may wait is `news_max` at most.
    pub fn new(owned: O, news_max: usize) -> Combined<O, N> {
        Combined { owned: Mutex::new(owned), news: ArrayQueue::new(news_max) }
    }

    /// For those who may wait: they are not on the way of a request. Afterwards they call
    /// [`hear_waiting`](Combined::hear_waiting).
    pub fn lock(&self) -> MutexGuard<'_, O> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is news: somebody is to [hear](Combined::hear_waiting) of it. Says whether there was room for it.
    #[inline]
    pub fn put(&self, news: N) -> bool {
        self.news.push(news).is_ok()
    }

    /// For the owner: the news that has waited longest.
    #[inline]
    pub fn next(&self) -> Option<N> {
        self.news.pop()
    }

    /// Has somebody hear all that waits, if nobody is the owner.
    pub fn hear_waiting(&self, mut hear: impl FnMut(&mut O)) {
        loop {
            // What was put before this is seen behind it, here or by the owner, who looks behind one as well.
            fence(Ordering::SeqCst);
            if self.news.is_empty() {
                return;
            }
            let mut owned = match self.owned.try_lock() {
                Ok(owned) => owned,
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            };
            hear(&mut owned);
        }
    }
}
