//! Many futures in one task: those that were woken are polled, and no others.
//!
//! A task for each stream of a connection would be woken by the connection's, and wake it again for each frame that
//! it sends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, PoisonError};

#[derive(Debug)]
pub struct Crowd<F> {
    places: Vec<Place<F>>,
    free: Vec<usize>,
    bell: Arc<Bell>,
    /// Taken from the bell, and put back empty.
    woken: Vec<usize>,
}

#[derive(Debug)]
struct Place<F> {
    future: Option<Pin<Box<F>>>,
    rope: Arc<Rope>,
    /// Of the rope: it stays the same for all that ever stand here.
    waker: Waker,
}

#[derive(Debug, Default)]
struct Bell(Mutex<Rung>);

#[derive(Debug, Default)]
struct Rung {
    woken: Vec<usize>,
    task: Option<Waker>,
    /// The task is at work and will look again before it rests.
    is_in_turn: bool,
}

#[derive(Debug)]
struct Rope {
    bell: Arc<Bell>,
    place: usize,
    is_pulled: AtomicBool,
}

impl Bell {
    fn with<T>(&self, ask: impl FnOnce(&mut Rung) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_pulled.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = self.bell.with(|rung| {
            rung.woken.push(self.place);
            if rung.is_in_turn { None } else { rung.task.clone() }
        });
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future<Output = ()>> Crowd<F> {
    pub fn new() -> Crowd<F> {
        Crowd { places: Vec::new(), free: Vec::new(), bell: Arc::default(), woken: Vec::new() }
    }

    /// It is polled with the next turn.
    pub fn push(&mut self, future: F) {
        let at = self.free.pop().unwrap_or_else(|| {
            let at = self.places.len();
            let (bell, is_pulled) = (Arc::clone(&self.bell), AtomicBool::new(false));
            let rope = Arc::new(Rope { bell, place: at, is_pulled });
            let waker = Waker::from(Arc::clone(&rope));
            self.places.push(Place { future: None, rope, waker });
            at
        });
        if let Some(place) = self.places.get_mut(at) {
            place.future = Some(Box::pin(future));
            place.waker.wake_by_ref();
        }
    }

    /// From here to [`Crowd::end_turn`] nobody's waking wakes the task.
    pub fn begin_turn(&self, cx: &Context<'_>) {
        self.bell.with(|rung| {
            rung.is_in_turn = true;
            match &rung.task {
                Some(task) if task.will_wake(cx.waker()) => {}
                _ => rung.task = Some(cx.waker().clone()),
            }
        });
    }

    /// Whether somebody was woken meanwhile, and waits to be polled.
    pub fn end_turn(&self) -> bool {
        self.bell.with(|rung| {
            rung.is_in_turn = false;
            !rung.woken.is_empty()
        })
    }

    /// Whether somebody waits to be polled.
    pub fn is_rung(&self) -> bool {
        self.bell.with(|rung| !rung.woken.is_empty())
    }

    /// Polls whoever was woken.
    pub fn poll(&mut self) {
        let mut woken = std::mem::take(&mut self.woken);
        self.bell.with(|rung| std::mem::swap(&mut rung.woken, &mut woken));
        for at in woken.drain(..) {
            let Some(place) = self.places.get_mut(at) else { continue };
            place.rope.is_pulled.store(false, Ordering::Release);
            let Some(future) = &mut place.future else { continue };
            if let Poll::Ready(()) = future.as_mut().poll(&mut Context::from_waker(&place.waker)) {
                place.future = None;
                self.free.push(at);
            }
        }
        self.woken = woken;
    }

    /// Gives up what it holds for a crowd that is gone.
    pub fn shrink(&mut self) {
        if self.free.len() == self.places.len() {
            self.places = Vec::new();
            self.free = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::rc::Rc;

    use super::*;
    use crate::sync::alone;

    #[derive(Default)]
    struct Count(AtomicBool);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn only_those_that_were_woken_are_polled() {
        alone(|| {
            let task = Arc::<Count>::default();
            let waker = Waker::from(Arc::clone(&task));
            let mut crowd = Crowd::new();
            let polls: [Rc<Cell<u32>>; 3] = Default::default();
            let wakers: [Rc<Cell<Option<Waker>>>; 3] = Default::default();
            let is_done = Rc::<Cell<bool>>::default();
            let member = |at: usize| {
                let (polls, kept, is_done) =
                    (Rc::clone(&polls[at]), Rc::clone(&wakers[at]), Rc::clone(&is_done));
                poll_fn(move |cx| {
                    polls.set(polls.get() + 1);
                    kept.set(Some(cx.waker().clone()));
                    if is_done.get() { Poll::Ready(()) } else { Poll::Pending }
                })
            };
            (0..3).for_each(|at| crowd.push(member(at)));
            crowd.begin_turn(&Context::from_waker(&waker));
            crowd.poll();
            assert!(!crowd.is_rung());
            crowd.poll();
            assert_eq!(polls.each_ref().map(|polls| polls.get()), [1, 1, 1]);
            // Within a turn the task is not woken, but told at its end.
            let second = wakers[1].take().unwrap();
            second.wake_by_ref();
            second.wake_by_ref();
            assert!(!task.0.load(Ordering::SeqCst) && crowd.end_turn());
            crowd.poll();
            assert_eq!(polls.each_ref().map(|polls| polls.get()), [1, 2, 1]);
            // Outside of one it is woken; and one that has ended is not polled again.
            is_done.set(true);
            second.wake_by_ref();
            assert!(task.0.load(Ordering::SeqCst) && crowd.is_rung());
            crowd.poll();
            second.wake_by_ref();
            crowd.poll();
            assert_eq!(polls.each_ref().map(|polls| polls.get()), [1, 3, 1]);
            // Its place is another's now.
            assert_eq!(crowd.free, [1]);
            crowd.push(member(1));
            assert!(crowd.free.is_empty());
            crowd.poll();
            assert_eq!(polls.each_ref().map(|polls| polls.get()), [1, 4, 1]);
        });
    }
}
