//! The timers of a worker: a wheel.
//!
//! Most timers are set and never fire, so setting and dropping one costs a few writes. A deadline
//! that moves later is not moved here: the owner looks again when the old one fires. Timers are
//! coarse: one fires up to two ticks (34 ms) after its deadline, never before.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use naru_base::Instant;
use slab::Slab;

use crate::clock::Origin;

/// A tick is 2^24 ns: 16.8 ms.
const TICK_BITS: u32 = 24;
/// One turn of the wheel takes 8.6 s; what is due later stays for another turn.
const BUCKETS: usize = 512;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub struct Timers {
    wheel: RefCell<Wheel>,
}

#[derive(Debug)]
struct Wheel {
    slots: Slab<Slot>,
    /// The first slot of each bucket's list.
    heads: Vec<u32>,
    occupied: [u64; BUCKETS / 64],
    /// Ticks up to and with this one have been swept.
    swept: u64,
    /// The tick that the driver sleeps until, and who wakes it.
    sleeping_until: u64,
    driver: Option<Waker>,
}

#[derive(Debug)]
struct Slot {
    due: u64,
    state: SlotState,
    previous: u32,
    next: u32,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Idle,
    Armed,
    Fired,
}

/// One timer; dropping it disarms it.
#[derive(Debug)]
pub struct Timer {
    timers: Rc<Timers>,
    key: u32,
}

impl Timers {
    pub fn new(now: Instant) -> Rc<Timers> {
        Rc::new(Timers {
            wheel: RefCell::new(Wheel {
                slots: Slab::new(),
                heads: vec![NONE; BUCKETS],
                occupied: [0; BUCKETS / 64],
                swept: now.0 >> TICK_BITS,
                sleeping_until: u64::MAX,
                driver: None,
            }),
        })
    }

    /// How many timers there are, armed or not.
    pub fn len(&self) -> usize {
        self.wheel.borrow().slots.len()
    }

    /// Fires timers as they come due, for as long as anybody else holds `timers`.
    pub async fn drive(timers: Weak<Timers>, origin: Origin) {
        loop {
            let Some(strong) = timers.upgrade() else { return };
            let next = strong.fire(origin.elapsed());
            drop(strong);
            let mut sleep = next.map(|tick| {
                let at = Instant((tick + 1) << TICK_BITS);
                Box::pin(tokio::time::sleep(at.since(origin.elapsed())))
            });
            let mut is_first = true;
            poll_fn(|cx| {
                let Some(strong) = timers.upgrade() else { return Poll::Ready(()) };
                let mut wheel = strong.wheel.borrow_mut();
                if std::mem::take(&mut is_first) {
                    wheel.sleeping_until = next.unwrap_or(u64::MAX);
                    wheel.driver = Some(cx.waker().clone());
                } else if wheel.driver.is_none() {
                    // An earlier timer was set.
                    return Poll::Ready(());
                }
                drop(wheel);
                sleep.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
            })
            .await;
        }
    }

    /// Fires what is due and returns the next tick that has timers.
    fn fire(&self, now: Instant) -> Option<u64> {
        let mut wakers = Vec::new();
        let next = self.wheel.borrow_mut().sweep(now.0 >> TICK_BITS, &mut wakers);
        for waker in wakers {
            waker.wake();
        }
        next
    }
}

impl Wheel {
    fn sweep(&mut self, now: u64, wakers: &mut Vec<Waker>) -> Option<u64> {
        // A tick is swept once it is over, so that nothing fires early.
        let last = now.saturating_sub(1);
        let first = (self.swept + 1).max(last.saturating_sub(BUCKETS as u64 - 1));
        for tick in first..=last {
            let bucket = (tick % BUCKETS as u64) as usize;
            if self.occupied[bucket / 64] & (1 << (bucket % 64)) == 0 {
                continue;
            }
            let mut key = self.heads[bucket];
            while key != NONE {
                let slot = &mut self.slots[key as usize];
                let next = slot.next;
                if slot.due <= last {
                    slot.state = SlotState::Fired;
                    if let Some(waker) = slot.waker.take() {
                        wakers.push(waker);
                    }
                    self.unlink(key);
                }
                key = next;
            }
        }
        self.swept = self.swept.max(last);
        (1..=BUCKETS as u64).map(|ahead| self.swept + ahead).find(|tick| {
            let bucket = (tick % BUCKETS as u64) as usize;
            self.occupied[bucket / 64] & (1 << (bucket % 64)) != 0
        })
    }

    fn link(&mut self, key: u32, due: u64) {
        let bucket = (due % BUCKETS as u64) as usize;
        let head = self.heads[bucket];
        let slot = &mut self.slots[key as usize];
        slot.due = due;
        slot.state = SlotState::Armed;
        slot.previous = NONE;
        slot.next = head;
        if head != NONE {
            self.slots[head as usize].previous = key;
        }
        self.heads[bucket] = key;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        if due < self.sleeping_until
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
    }

    fn unlink(&mut self, key: u32) {
        let slot = &self.slots[key as usize];
        let (previous, next, bucket) = (slot.previous, slot.next, (slot.due % BUCKETS as u64) as usize);
        if previous == NONE {
            self.heads[bucket] = next;
            if next == NONE {
                self.occupied[bucket / 64] &= !(1 << (bucket % 64));
            }
        } else {
            self.slots[previous as usize].next = next;
        }
        if next != NONE {
            self.slots[next as usize].previous = previous;
        }
    }
}

impl Timer {
    pub fn new(timers: &Rc<Timers>) -> Timer {
        let slot = Slot { due: 0, state: SlotState::Idle, previous: NONE, next: NONE, waker: None };
        let key = timers.wheel.borrow_mut().slots.insert(slot) as u32;
        Timer { timers: Rc::clone(timers), key }
    }

    /// Fires at `deadline`, or earlier where it was set to an earlier moment before.
    #[inline]
    pub fn set(&mut self, deadline: Instant) {
        let mut wheel = self.timers.wheel.borrow_mut();
        let due = (deadline.0 >> TICK_BITS).max(wheel.swept + 1);
        let slot = &wheel.slots[self.key as usize];
        match slot.state {
            SlotState::Armed if slot.due <= due => return,
            // Its owner has yet to see that.
            SlotState::Fired => return,
            SlotState::Armed => wheel.unlink(self.key),
            SlotState::Idle => {}
        }
        wheel.link(self.key, due);
    }

    /// Ready once after each time it fired; then it is to be set again.
    #[inline]
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wheel = self.timers.wheel.borrow_mut();
        let slot = &mut wheel.slots[self.key as usize];
        if slot.state == SlotState::Fired {
            slot.state = SlotState::Idle;
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            other => *other = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut wheel = self.timers.wheel.borrow_mut();
        if wheel.slots[self.key as usize].state == SlotState::Armed {
            wheel.unlink(self.key);
        }
        wheel.slots.remove(self.key as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TICK: Duration = Duration::from_nanos(1 << TICK_BITS);

    fn at(ticks: u64) -> Instant {
        Instant(ticks << TICK_BITS)
    }

    fn has_fired(timer: &mut Timer) -> bool {
        timer.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_timer_fires_after_its_deadline_and_never_before() {
        let timers = Timers::new(Instant::ZERO);
        for due in [1, 2, 63, 64, 511, 512, 513, 2_000] {
            let mut timer = Timer::new(&timers);
            let start = timers.wheel.borrow().swept;
            timer.set(at(start + due));
            for tick in 1..=due {
                timers.fire(at(start + tick));
                assert!(!has_fired(&mut timer), "due {due}, tick {tick}");
            }
            timers.fire(at(start + due + 1));
            assert!(has_fired(&mut timer), "due {due}");
            assert!(!has_fired(&mut timer));
        }
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_dropped_timer_leaves_nothing_behind() {
        let timers = Timers::new(Instant::ZERO);
        let mut kept = Timer::new(&timers);
        kept.set(at(5));
        for _ in 0..3 {
            let mut dropped = Timer::new(&timers);
            dropped.set(at(5));
        }
        timers.fire(at(7));
        assert!(has_fired(&mut kept));
        drop(kept);
        assert_eq!(timers.len(), 0);
        assert!(timers.wheel.borrow().occupied.iter().all(|bits| *bits == 0));
    }

    #[test]
    fn setting_a_timer_earlier_moves_it_and_later_does_not() {
        let timers = Timers::new(Instant::ZERO);
        let mut timer = Timer::new(&timers);
        timer.set(at(100));
        timer.set(at(10));
        timer.set(at(200));
        timers.fire(at(11) + TICK);
        assert!(has_fired(&mut timer));
    }

    #[test]
    fn setting_a_timer_that_has_fired_hides_nothing() {
        let timers = Timers::new(Instant::ZERO);
        let mut timer = Timer::new(&timers);
        timer.set(at(10));
        timers.fire(at(12));
        timer.set(at(10));
        assert!(has_fired(&mut timer));
        timer.set(at(20));
        timers.fire(at(22));
        assert!(has_fired(&mut timer));
    }

    #[test]
    fn a_long_sleep_misses_no_timer() {
        let timers = Timers::new(Instant::ZERO);
        let mut early = Timer::new(&timers);
        let mut late = Timer::new(&timers);
        early.set(at(3));
        late.set(at(9_000));
        timers.fire(at(5_000));
        assert!(has_fired(&mut early));
        assert!(!has_fired(&mut late));
        timers.fire(at(20_000));
        assert!(has_fired(&mut late));
    }
}
