//! A panic ends what it happened in, and nothing else.
//!
//! A connection is a task, and so is a stream of HTTP/2: the runtime catches a panic of theirs, and drops all they had.
//! What they counted is given back by being dropped, as always. Here such a panic is counted and told, and a second one
//! on the way out, which would end the process, is caught.
//!
//! What panics on the worker's own thread, outside of any task, ends that worker: that is told and counted, too.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cluster::add;
use crate::worker::Worker;

/// Before a task of the worker itself begins anew.
const REST: Duration = Duration::from_millis(50);

/// Goes off when it is dropped by a panic.
#[derive(Debug)]
pub struct Alarm<W: Display> {
    worker: Rc<Worker>,
    what: W,
}

impl<W: Display> Alarm<W> {
    /// For what it is told to be in.
    pub fn new(worker: &Rc<Worker>, what: W) -> Alarm<W> {
        Alarm { worker: Rc::clone(worker), what }
    }
}

impl<W: Display> Drop for Alarm<W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            sound(&self.worker, &self.what);
        }
    }
}

fn sound(worker: &Worker, what: &dyn Display) {
    add(&worker.metrics.downstream.panics, 1);
    naru_say::say!(
        "naru: a panic was contained: {what} is broken off, and all else goes on\n  help: this is a bug of naru; \
         please report it, with the lines above"
    );
}

/// Tells where a worker is ended by a panic, and counts it.
#[derive(Debug)]
pub struct Watchman {
    worker: u64,
    lost: Arc<AtomicU64>,
}

impl Watchman {
    pub fn new(worker: u64, lost: &Arc<AtomicU64>) -> Watchman {
        Watchman { worker, lost: Arc::clone(lost) }
    }
}

impl Drop for Watchman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            naru_say::say!(
                "naru: worker {} was ended by a panic, with all of its connections; the others go on, and no other \
                 configuration can be taken over\n  help: replace this process (SIGUSR2); this is a bug of naru, please \
                 report it, with the lines above",
                self.worker
            );
        }
    }
}

/// Does it; a panic in it goes no further.
pub fn attempt(step: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(step)).is_ok()
}

/// Runs a task of the worker itself, and once more where it has panicked.
pub fn keep_up<F>(worker: &Rc<Worker>, what: &'static str, begin: impl Fn() -> F + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + 'static,
{
    let worker = Rc::downgrade(worker);
    tokio::task::spawn_local(async move {
        while let Err(ended) = tokio::task::spawn_local(begin()).await
            && ended.is_panic()
            && let Some(worker) = worker.upgrade()
        {
            sound(&worker, &what);
            tokio::time::sleep(REST).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Breaks where it is to clean up.
    struct Broken<'a>(&'a Cell<u32>);

    impl Drop for Broken<'_> {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            assert!(!attempt(|| panic!("the second")));
            assert!(attempt(|| self.0.set(self.0.get() + 1)));
        }
    }

    #[test]
    fn a_panic_on_the_way_out_of_another_goes_no_further() {
        let cleaned = Cell::new(0);
        let is_whole = attempt(|| {
            let _broken = Broken(&cleaned);
            panic!("the first");
        });
        assert!(!is_whole);
        assert_eq!(cleaned.get(), 1);
        assert!(!std::thread::panicking());
    }
}
