//! A bulkhead, as all workers share it: a word, and the line of those who wait.
//!
//! The line has an owner, whoever has its lock; nobody takes that as long as nobody has to wait. Who waits is woken when it
//! is admitted, and claims its place then.

use std::sync::Arc;
use std::task::Waker;

use naru_admit::{Claim, Entry, Queue, Waiter, Word, bulkhead};
use naru_base::Instant;
use naru_journey::limits::{Leaving, Pass, Queued};
use naru_spec::Bulkhead;
use slab::Slab;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::word::SharedWord;

#[derive(Debug)]
pub struct SharedBulkhead {
    word: SharedWord,
    line: Mutex<Line>,
    refused_total: AtomicU64,
}

#[derive(Debug)]
struct Line {
    queue: Queue,
    /// By waiter.
    wakers: Slab<Wake>,
    /// Workers' clocks are not quite the same: time never goes back here.
    last: Instant,
}

#[derive(Debug)]
enum Wake {
    Listening(Option<Waker>),
    Woken,
}

impl Line {
    fn moment(&mut self, now: Instant) -> Instant {
        self.last = self.last.max(now);
        self.last
    }

    fn wake(&mut self, waiter: Waiter) {
        let known = usize::try_from(waiter.0).ok().and_then(|key| self.wakers.get_mut(key));
        if let Some(wake) = known
            && let Wake::Listening(Some(waker)) = std::mem::replace(wake, Wake::Woken)
        {
            waker.wake();
        }
    }

    fn forget(&mut self, waiter: Waiter) {
        if let Ok(key) = usize::try_from(waiter.0) {
            self.wakers.try_remove(key);
        }
    }
}

impl SharedBulkhead {
    pub fn new(settings: Bulkhead) -> Arc<SharedBulkhead> {
        let line = Line { queue: Queue::new(settings), wakers: Slab::new(), last: Instant(0) };
        Arc::new(SharedBulkhead {
            word: SharedWord::default(),
            line: Mutex::new(line),
            refused_total: AtomicU64::new(0),
        })
    }

    /// Requests that have passed and are not over, and those that wait.
    pub fn counts(&self) -> (u64, u64) {
        let word = self.word.read();
        (bulkhead::active(word).into(), bulkhead::waiting(word).into())
    }

    pub fn refused_total(&self) -> u64 {
        self.refused_total.load(Ordering::Relaxed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, now: Instant, settings: Bulkhead) {
        let mut line = self.line();
        let now = line.moment(now);
        line.queue.set(settings);
        while let Some(waiter) = line.queue.fill(now, &self.word) {
            line.wake(waiter);
        }
    }

    #[inline]
    pub fn pass(&self, now: Instant, settings: &Bulkhead) -> Pass {
        let pass = match bulkhead::enter(&self.word, settings) {
            Entry::Admitted => return Pass::Admitted,
            Entry::Refused(reason) => Pass::Refused(reason),
            Entry::Ask | Entry::Queued { .. } => self.ask(now),
        };
        if let Pass::Refused(_) = pass {
            self.refused_total.fetch_add(1, Ordering::Relaxed);
        }
        pass
    }

    #[cold]
    fn ask(&self, now: Instant) -> Pass {
        let mut line = self.line();
        let now = line.moment(now);
        let waiter = Waiter(line.wakers.insert(Wake::Listening(None)) as u64);
        let pass = match line.queue.enter(now, waiter, &self.word) {
            Entry::Queued { ticket, deadline } => {
                return Pass::InLine { queued: Queued { ticket, waiter }, deadline };
            }
            Entry::Refused(reason) => Pass::Refused(reason),
            Entry::Admitted | Entry::Ask => Pass::Admitted,
        };
        line.forget(waiter);
        pass
    }

    /// Whether its waiter was woken; if not, `waker` will be.
    pub fn listen(&self, queued: Queued, waker: &Waker) -> bool {
        let mut line = self.line();
        let known = usize::try_from(queued.waiter.0).ok().and_then(|key| line.wakers.get_mut(key));
        match known {
            Some(Wake::Listening(known)) => {
                if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    *known = Some(waker.clone());
                }
                false
            }
            Some(Wake::Woken) | None => true,
        }
    }

    pub fn claim(&self, now: Instant, queued: Queued) -> Claim {
        let mut line = self.line();
        let now = line.moment(now);
        let claim = line.queue.claim(now, queued.ticket, &self.word);
        match claim {
            Claim::Waiting => {
                let known = usize::try_from(queued.waiter.0).ok().and_then(|key| line.wakers.get_mut(key));
                if let Some(wake) = known {
                    *wake = Wake::Listening(None);
                }
            }
            Claim::Admitted => line.forget(queued.waiter),
            Claim::Refused(_) => {
                line.forget(queued.waiter);
                self.refused_total.fetch_add(1, Ordering::Relaxed);
            }
        }
        claim
    }

    pub fn leave(&self, now: Instant, leaving: Leaving) {
        match leaving {
            Leaving::Done(_) => {
                if !bulkhead::release(&self.word) {
                    let mut line = self.line();
                    let now = line.moment(now);
                    if let Some(waiter) = line.queue.on_released(now, &self.word) {
                        line.wake(waiter);
                    }
                }
            }
            Leaving::Line(queued) => {
                let mut line = self.line();
                let now = line.moment(now);
                let next = line.queue.on_left(now, queued.ticket, &self.word);
                line.forget(queued.waiter);
                if let Some(waiter) = next {
                    line.wake(waiter);
                }
            }
        }
    }
}
