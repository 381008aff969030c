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
        pub use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    }

    /// Where one thread does everything there is one order.
    pub fn alone(test: impl Fn() + Send + Sync + 'static) {
        shuttle::check_random(test, 1);
    }
}

#[path = "../src/bulkhead.rs"]
mod bulkhead;
#[path = "../src/bulletin.rs"]
mod bulletin;
#[path = "../src/combined.rs"]
mod combined;
#[path = "../src/codec/http2/crowd.rs"]
mod crowd;
#[path = "../src/known.rs"]
mod known;
#[path = "../src/seats.rs"]
mod seats;
#[path = "../src/word.rs"]
mod word;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use naru_admit::{Claim, Word};
use naru_base::{Instant, Reason};
use naru_guard::AttemptResult;
use naru_journey::limits::{Ending, Leaving, Pass};
use naru_spec::Bulkhead;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use shuttle::thread;

use bulkhead::SharedBulkhead;
use bulletin::Bulletin;
use combined::Combined;
use crowd::Crowd;
use known::Known;
use seats::{Sources, Tally};
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

/// A future that is over once it is told, by whoever it was that it asked last.
#[derive(Default)]
struct Errand {
    is_done: AtomicBool,
    waker: Mutex<Option<Waker>>,
    polls: AtomicU64,
}

impl Errand {
    fn tell(&self) {
        self.is_done.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.is_done.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One thread has the crowd, as a connection's task; others wake those in it, in and between its turns.
#[test]
fn whoever_is_woken_in_a_crowd_is_polled() {
    check(|| {
        let errands: Vec<Arc<Errand>> = (0..3).map(|_| Arc::default()).collect();
        let tellers: Vec<_> = errands
            .iter()
            .map(|errand| {
                let errand = Arc::clone(errand);
                thread::spawn(move || {
                    // Also for nothing.
                    if let Some(waker) = &*errand.waker.lock().unwrap() {
                        waker.wake_by_ref();
                    }
                    errand.tell();
                })
            })
            .collect();
        let task = Waker::from(Arc::new(Unpark(thread::current())));
        let cx = Context::from_waker(&task);
        let left = std::rc::Rc::new(std::cell::Cell::new(errands.len()));
        let mut crowd = Crowd::new();
        let member = |errand: &Arc<Errand>| {
            let (errand, left) = (Arc::clone(errand), std::rc::Rc::clone(&left));
            async move {
                std::future::poll_fn(|cx| errand.poll(cx)).await;
                left.set(left.get() - 1);
            }
        };
        errands.iter().for_each(|errand| crowd.push(member(errand)));
        while left.get() > 0 {
            crowd.begin_turn(&cx);
            crowd.poll();
            if !crowd.end_turn() && left.get() > 0 {
                thread::park();
            }
        }
        tellers.into_iter().for_each(|teller| teller.join().unwrap());
        // First, when it was woken for nothing, and when it was told.
        assert!(errands.iter().all(|errand| errand.polls.load(Ordering::SeqCst) <= 3));
        // Those who come late wake nobody, and another one in the same place is polled by itself.
        crowd.begin_turn(&cx);
        crowd.poll();
        crowd.end_turn();
        crowd.shrink();
        crowd.push(member(&errands[0]));
        assert!(crowd.is_rung());
    });
}

#[test]
fn connections_are_counted_and_nobody_passes_a_limit() {
    check(|| {
        let (tally, inside) = (Arc::<Tally>::default(), Arc::new(AtomicU64::new(0)));
        // So few cells that most of them are shared.
        let sources = Arc::new(Sources::<2>::default());
        let threads = (0..3_u8).map(|number| {
            let (tally, sources, inside) = (Arc::clone(&tally), Arc::clone(&sources), Arc::clone(&inside));
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(seat) = tally.take(2) {
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(seat);
                    }
                    drop(sources.take([10, 0, 0, number].into(), 1));
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(tally.counts().0, 0);
        let held: Vec<_> = (0..2).filter_map(|_| sources.take([10, 0, 0, 9].into(), 2)).collect();
        assert_eq!(held.len(), 2, "nothing is left of those before");
        assert!(sources.take([10, 0, 0, 9].into(), 2).is_none());
    });
}

#[test]
fn those_who_have_the_same_name_have_the_same_thing() {
    check(|| {
        let known = Arc::<Known<u8, AtomicU64>>::default();
        let threads = (0..3).map(|_| {
            let known = Arc::clone(&known);
            thread::spawn(move || {
                for name in [1, 2, 1] {
                    let mine = known.share(name, |_| Arc::new(AtomicU64::new(0)));
                    // Two of one name at a time would both be alone.
                    let before = mine.fetch_add(1, Ordering::SeqCst);
                    let other = known.share(name, |_| panic!("it is there"));
                    assert!(Arc::ptr_eq(&mine, &other) && other.load(Ordering::SeqCst) > before);
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        assert!(known.in_use().is_empty());
    });
}

/// Whoever has changes tells all; whoever follows something makes of it what takes a while, and looks again whether it is
/// still asked for.
#[test]
fn all_hear_the_same_in_the_same_order_and_nothing_behind_the_end() {
    #[derive(Default)]
    struct State {
        version: u64,
        found: u64,
    }
    check(|| {
        let ears: Vec<Mutex<Vec<(u64, u64)>>> = (0..2).map(|_| Mutex::default()).collect();
        let bulletin = Arc::new(Bulletin::new(ears, State::default()));
        let tell = |held: &bulletin::Held<'_, State, Mutex<Vec<(u64, u64)>>>| {
            held.tell(|ear| ear.lock().unwrap().push((held.version, held.found)));
        };
        let changes = {
            let bulletin = Arc::clone(&bulletin);
            thread::spawn(move || {
                for _ in 0..2 {
                    let Some(mut held) = bulletin.change() else { return };
                    held.version += 1;
                    held.found = 0;
                    tell(&held);
                }
            })
        };
        let follows = {
            let bulletin = Arc::clone(&bulletin);
            thread::spawn(move || {
                for found in 1..=2 {
                    let asked_for = bulletin.hold().version;
                    let mut held = bulletin.hold();
                    if held.version == asked_for {
                        held.found = found;
                        tell(&held);
                    }
                }
            })
        };
        let ends = {
            let bulletin = Arc::clone(&bulletin);
            thread::spawn(move || bulletin.end(|ear| ear.lock().unwrap().push((u64::MAX, 0))))
        };
        [changes, follows, ends].into_iter().for_each(|thread| thread.join().unwrap());
        let heard: Vec<Vec<(u64, u64)>> =
            bulletin.ears().iter().map(|ear| ear.lock().unwrap().clone()).collect();
        assert_eq!(heard[0], heard[1]);
        let last = heard[0].iter().rfind(|heard| heard.0 != u64::MAX).copied().unwrap_or_default();
        let held = bulletin.hold();
        assert_eq!(last, (held.version, held.found), "{heard:?}");
        drop(held);
        let behind = heard[0].iter().skip_while(|heard| heard.0 != u64::MAX).skip(1);
        let version = heard[0].iter().take_while(|heard| heard.0 != u64::MAX).last().map_or(0, |last| last.0);
        assert!(
            behind.clone().all(|heard| heard.0 == version),
            "another configuration behind the end: {heard:?}"
        );
        assert!(bulletin.change().is_none());
    });
}
