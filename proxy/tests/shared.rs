//! What workers share, under shuttle: the same files as in the proxy, on threads whose steps are put into thousands of
//! orders, at random and by depth of preemption (PCT). shuttle tries sequentially consistent orders: of weaker ones of the
//! memory it says nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "the proxy uses all of it")]

/// In the place of the proxy's own.
mod sync {
    pub use shuttle::sync::{Mutex, MutexGuard};
    pub use std::sync::{PoisonError, TryLockError};

    pub mod atomic {
        pub use shuttle::sync::atomic::{AtomicU64, Ordering, fence};
    }
}

#[path = "../src/bulkhead.rs"]
mod bulkhead;
#[path = "../src/combined.rs"]
mod combined;
#[path = "../src/word.rs"]
mod word;

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use naru_admit::{Claim, Word};
use naru_base::{Instant, Reason};
use naru_guard::AttemptResult;
use naru_journey::limits::{Ending, Leaving, Pass};
use naru_spec::Bulkhead;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use bulkhead::SharedBulkhead;
use combined::Combined;
use word::SharedWord;

const ORDERS: usize = 500;

/// Many orders of the steps of these threads; what does not hold panics, and nobody waits for ever.
fn check(what: impl Fn() + Send + Sync + 'static) {
    let what = Arc::new(what);
    let again = Arc::clone(&what);
    shuttle::check_random(move || what(), ORDERS);
    shuttle::check_pct(move || again(), ORDERS, 3);
}

#[test]
fn a_word_never_goes_beyond_its_limit_and_comes_back_to_zero() {
    check(|| {
        let word = Arc::<SharedWord>::default();
        let threads = (0..3).map(|_| {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                for _ in 0..2 {
                    let taken = word.change(|count| (count < 2).then_some(count + 1));
                    assert!(word.read() <= 2);
                    if taken.is_ok() {
                        word.change(|count| count.checked_sub(1)).unwrap();
                    }
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(word.read(), 0);
    });
}

#[test]
fn news_is_heard_once_and_none_is_left_when_everybody_has_gone() {
    const THREADS: u64 = 3;
    const NEWS: u64 = 3;
    check(|| {
        let combined = Arc::new(Combined::new(Vec::new(), (THREADS * NEWS) as usize));
        let threads = (0..THREADS).map(|number| {
            let combined = Arc::clone(&combined);
            thread::spawn(move || {
                let here = &combined;
                let hear = || here.hear_waiting(|heard| heard.extend(std::iter::from_fn(|| here.next())));
                // It has it for another reason. Who does not look afterwards leaves news behind.
                drop(here.lock());
                hear();
                for news in 0..NEWS {
                    assert!(here.put((number, news)));
                    hear();
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        let heard = combined.lock();
        assert_eq!(heard.len() as u64, THREADS * NEWS, "{heard:?}");
        for number in 0..THREADS {
            let of_one: Vec<u64> =
                heard.iter().filter(|(of, _)| *of == number).map(|(_, news)| *news).collect();
            assert!(of_one.is_sorted(), "{heard:?}");
        }
    });
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

const DONE: Leaving = Leaving::Done(Ending {
    sent: None,
    status: 200,
    grpc_status: None,
    is_cancelled: false,
    result: AttemptResult::Reset,
    duration: Duration::ZERO,
    ticket: None,
});

/// One request: in, or in line and then in, or away. Whether it was in.
fn visit(bulkhead: &SharedBulkhead, settings: Bulkhead, is_patient: bool, inside: &AtomicU64) -> bool {
    let now = Instant(0);
    match bulkhead.pass(now, &settings) {
        Pass::Admitted => {}
        Pass::Refused(reason) => {
            assert_eq!(reason, Reason::BulkheadFull);
            return false;
        }
        Pass::InLine { queued, .. } => {
            if !is_patient {
                bulkhead.leave(now, Leaving::Line(queued));
                return false;
            }
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            loop {
                if bulkhead.listen(queued, &waker) {
                    match bulkhead.claim(now, queued) {
                        Claim::Admitted => break,
                        Claim::Waiting => continue,
                        Claim::Refused(reason) => panic!("nobody's time has passed: {reason:?}"),
                    }
                }
                thread::park();
            }
        }
        other => panic!("{other:?}"),
    }
    assert!(inside.fetch_add(1, Ordering::SeqCst) < u64::from(settings.concurrency_max));
    inside.fetch_sub(1, Ordering::SeqCst);
    bulkhead.leave(now, DONE);
    true
}

#[test]
fn a_bulkhead_admits_as_many_as_may_be_and_forgets_nobody_who_waits() {
    for concurrency_max in [1, 2] {
        check(move || {
            let settings = Bulkhead { concurrency_max, queue_max: 2, wait_max: Duration::from_secs(1) };
            let bulkhead = SharedBulkhead::new(settings);
            let inside = Arc::new(AtomicU64::new(0));
            let threads = (0..4).map(|number| {
                let (bulkhead, inside) = (Arc::clone(&bulkhead), Arc::clone(&inside));
                // One of them goes away as soon as it has to wait.
                thread::spawn(move || visit(&bulkhead, settings, number > 0, &inside))
            });
            let were_in = threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap());
            assert!(were_in.filter(|was_in| *was_in).count() > 0);
            assert_eq!(bulkhead.counts(), (0, 0));
            // Whoever comes now finds it empty.
            assert!(visit(&bulkhead, settings, true, &inside));
        });
    }
}
