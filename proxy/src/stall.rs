//! Has a request missed its time because its client takes nothing?
//!
//! The codec asks for more of a response only while the client takes what it was sent, so a request
//! whose client stops reading is not looked at any more, and its deadline would pass unseen. Its timer
//! still wakes the task that carries it: a turn of that task which does not look at the request,
//! although its time is over, is the sign of a stall.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use naru_base::Instant;

use crate::timer::Timer;
use crate::worker::Worker;

/// What the tasks of one client's connection hear of the requests that they carry.
#[derive(Debug)]
pub struct Stall {
    worker: Rc<Worker>,
    was_looked_at: Cell<bool>,
    expected_by: Cell<Option<Instant>>,
}

/// A task that carries one request at a time.
#[derive(Debug)]
pub struct Turns {
    stall: Rc<Stall>,
    /// When its request must be looked at again.
    expected_by: Option<Instant>,
    /// Wakes the task by then: the request's own timer is moved only while somebody looks.
    timer: Timer,
}

impl Stall {
    pub fn new(worker: &Rc<Worker>) -> Rc<Stall> {
        Rc::new(Stall {
            worker: Rc::clone(worker),
            was_looked_at: Cell::new(false),
            expected_by: Cell::new(None),
        })
    }

    /// The request that has its turn was looked at, and is to be looked at again by then. `None` once
    /// it is over, or waits for as long as it takes.
    #[inline]
    pub fn look(&self, again_by: Option<Instant>) {
        self.was_looked_at.set(true);
        self.expected_by.set(again_by);
    }
}

impl Turns {
    pub fn of(stall: &Rc<Stall>) -> Turns {
        Turns { stall: Rc::clone(stall), expected_by: None, timer: Timer::new(&stall.worker.timers) }
    }

    /// To be called before each turn.
    #[inline]
    pub fn begin(&self) {
        self.stall.was_looked_at.set(false);
    }

    /// To be called after a turn that ended nothing: ready once its request can only be broken off.
    #[inline]
    pub fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let was_looked_at = self.stall.was_looked_at.get();
        if was_looked_at {
            self.expected_by = self.stall.expected_by.get();
        }
        let Some(by) = self.expected_by else { return Poll::Pending };
        loop {
            self.timer.set(by);
            ready!(self.timer.poll(cx));
            if !was_looked_at && self.stall.worker.clock.now() >= by {
                return Poll::Ready(());
            }
        }
    }
}
