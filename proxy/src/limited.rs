//! What all workers count of a cluster together, and who waits for a connection to one of its endpoints.
//!
//! A cluster has a word for each of its limits, which outlives a change of the configuration for as long as the
//! cluster has its name; `naru_admit::cluster` says what a word becomes. Connections and the requests that wait for
//! one are always counted, as that is seldom done; requests are counted only where they are limited.
//!
//! Who waits is known to one worker alone, as in Envoy (`conn_pool_base.cc`): connections belong to workers, so
//! waiters stand in a [`Line`] for those that their own worker has to their endpoint, the first come first. The line
//! moves when a connection is given back or closed. As a worker that has no connection to an endpoint may always make
//! one, whatever others have, nobody waits in vain for another worker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use naru_admit::cluster::{connect, give_back, send, wait};
use naru_admit::{Room, Word};
use naru_base::{Instant, Reason};
use naru_journey::{RecentRequests, Stage};
use naru_recover::budget::RetryLoad;
use naru_spec::{ClusterLimits, Thresholds};

use crate::cluster::EndpointCounts;
use crate::dial::DialFailure;
use crate::on_demand::Known;
use crate::word::SharedWord;

/// A step that is always taken.
fn give_one_back(word: &SharedWord) {
    let _ = word.change(|count| Some(give_back(count)));
}

/// The counts of a cluster.
#[derive(Debug, Default)]
pub struct Limited {
    connections: SharedWord,
    pending: SharedWord,
    requests: SharedWord,
    connections_overflow: AtomicU64,
    pending_overflow: AtomicU64,
    requests_overflow: AtomicU64,
    pending_total: AtomicU64,
    /// Those that budgets of retries count.
    pub recent: RecentRequests<SharedWord>,
    /// Endpoints that came with requests.
    pub on_demand: Arc<Known>,
}

/// What is known of the limits of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct LimitsStatus {
    pub thresholds: Thresholds,
    /// That stand, or are being made.
    pub connections: u64,
    /// Requests that wait for a connection.
    pub pending: u64,
    pub pending_total: u64,
    /// Requests on their way, where their number is limited.
    pub requests: u64,
    /// Requests that are retries right now, and how many may be.
    pub retries: u64,
    pub retries_max: u32,
    /// How often there was no room for another connection.
    pub connections_overflow: u64,
    /// Requests that were refused because too many waited for a connection.
    pub pending_overflow: u64,
    /// Requests that were refused because too many were on their way.
    pub requests_overflow: u64,
}

fn overflow(count: &AtomicU64) -> Reason {
    count.fetch_add(1, Ordering::Relaxed);
    Reason::Overflow
}

impl Limited {
    /// Counts a request that has its connection. Says whether it is counted: then it is to be given back.
    ///
    /// # Errors
    /// [`Reason::Overflow`] where as many are on their way as may be.
    #[inline]
    pub fn send(&self, limits: &ClusterLimits) -> Result<bool, Reason> {
        let thresholds = &limits.normal;
        if thresholds.requests_max == u32::MAX {
            return Ok(false);
        }
        match self.requests.change(|count| send(count, thresholds).ok()) {
            Ok(_) => Ok(true),
            Err(_) => Err(overflow(&self.requests_overflow)),
        }
    }

    #[inline]
    pub fn give_request_back(&self) {
        give_one_back(&self.requests);
    }

    /// Counts a request that needs a connection, until it has one.
    ///
    /// # Errors
    /// [`Reason::Overflow`] where as many wait as may.
    pub fn wait(self: &Arc<Self>, limits: &ClusterLimits) -> Result<Pending, Reason> {
        match self.pending.change(|count| wait(count, &limits.normal).ok()) {
            Ok(_) => {
                self.pending_total.fetch_add(1, Ordering::Relaxed);
                Ok(Pending(Arc::clone(self)))
            }
            Err(_) => Err(overflow(&self.pending_overflow)),
        }
    }

    /// Leave to make one more connection to an endpoint, for the pool that `line` waits at.
    pub fn connect(
        self: &Arc<Self>,
        limits: &ClusterLimits,
        endpoint: &Arc<EndpointCounts>,
        line: &Rc<Line>,
    ) -> Option<Slot> {
        self.slot(limits, endpoint, line, line.connections.get() == 0)
    }

    /// As [`Limited::connect`], for a connection that nobody waits for: there is no pool that must have one.
    pub fn connect_alone(
        self: &Arc<Self>,
        limits: &ClusterLimits,
        endpoint: &Arc<EndpointCounts>,
    ) -> Option<Slot> {
        self.slot(limits, endpoint, &Rc::default(), false)
    }

    fn slot(
        self: &Arc<Self>,
        limits: &ClusterLimits,
        endpoint: &Arc<EndpointCounts>,
        line: &Rc<Line>,
        is_pool_empty: bool,
    ) -> Option<Slot> {
        let is_full = |count: u64| limits.endpoint_connections_max.is_some_and(|max| count >= u64::from(max));
        let taken = endpoint.slots.change(|count| (!is_full(count) || is_pool_empty).then_some(count + 1));
        let Ok(of_endpoint) = taken else {
            self.connections_overflow.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let room = Room { of_endpoint: u32::try_from(of_endpoint).unwrap_or(u32::MAX), is_pool_empty };
        let taken = self.connections.change(|count| connect(count, limits, &limits.normal, room));
        let is_over = |count: u64| count >= u64::from(limits.normal.connections_max);
        if taken.map_or(true, is_over) || is_full(of_endpoint) {
            self.connections_overflow.fetch_add(1, Ordering::Relaxed);
        }
        if taken.is_err() {
            give_one_back(&endpoint.slots);
            return None;
        }
        line.connections.set(line.connections.get() + 1);
        Some(Slot { limited: Arc::clone(self), endpoint: Arc::clone(endpoint), line: Rc::clone(line) })
    }

    /// Requests that wait for a connection.
    pub fn pending(&self) -> u64 {
        self.pending.read()
    }

    /// `load` lacks what is counted here.
    pub fn status(&self, now: Instant, limits: &ClusterLimits, load: RetryLoad) -> LimitsStatus {
        let limit = limits.normal.retries;
        let load = RetryLoad { recent: self.recent.within(now, limit), ..load };
        let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LimitsStatus {
            thresholds: limits.normal,
            connections: self.connections.read(),
            pending: self.pending.read(),
            pending_total: total(&self.pending_total),
            requests: self.requests.read(),
            retries: u64::from(load.retries),
            retries_max: naru_recover::budget::most(limit, load),
            connections_overflow: total(&self.connections_overflow),
            pending_overflow: total(&self.pending_overflow),
            requests_overflow: total(&self.requests_overflow),
        }
    }
}

/// A request that waits for a connection.
#[derive(Debug)]
pub struct Pending(Arc<Limited>);

impl Drop for Pending {
    fn drop(&mut self) {
        give_one_back(&self.0.pending);
    }
}

/// A connection's, from before it is made until it is closed.
#[derive(Debug)]
pub struct Slot {
    limited: Arc<Limited>,
    pub endpoint: Arc<EndpointCounts>,
    line: Rc<Line>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        give_one_back(&self.limited.connections);
        give_one_back(&self.endpoint.slots);
        self.line.connections.set(self.line.connections.get() - 1);
        self.line.move_up();
    }
}

/// Requests of one worker that wait for a connection to one endpoint.
#[derive(Debug, Default)]
pub struct Line {
    /// Which the worker has to the endpoint: in use, idle or being made.
    connections: Cell<u32>,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Debug, Default)]
struct Waiter {
    waker: RefCell<Option<Waker>>,
    /// The connection that was being made failed, and there is no other to wait for.
    failure: Cell<Option<(Stage, Reason)>>,
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.waiters.borrow().is_empty()
    }

    /// Something is there for the first of the line, perhaps: it will look.
    pub fn move_up(&self) {
        if let Some(first) = self.waiters.borrow().front() {
            first.wake();
        }
    }

    /// A connection could not be made: who waits hears of it, as in Envoy.
    pub fn fail(&self, failure: &DialFailure) {
        for waiter in self.waiters.take() {
            waiter.failure.set(Some((failure.stage, failure.reason)));
            waiter.wake();
        }
    }

    /// Waits until it is one's turn and `look` finds something.
    ///
    /// # Errors
    /// A connection could not be made meanwhile.
    pub async fn wait<T>(self: &Rc<Self>, mut look: impl FnMut() -> Option<T>) -> Result<T, DialFailure> {
        let waiter = Rc::<Waiter>::default();
        self.waiters.borrow_mut().push_back(Rc::clone(&waiter));
        // Whoever is dropped while it waits leaves the line.
        let standing = Standing { line: Rc::clone(self), waiter };
        poll_fn(|cx| standing.poll(cx, &mut look)).await
    }
}

impl Waiter {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Who stands in a line.
struct Standing {
    line: Rc<Line>,
    waiter: Rc<Waiter>,
}

impl Standing {
    fn poll<T>(
        &self,
        cx: &Context<'_>,
        look: &mut impl FnMut() -> Option<T>,
    ) -> Poll<Result<T, DialFailure>> {
        if let Some((stage, reason)) = self.waiter.failure.get() {
            return Poll::Ready(Err(DialFailure { stage, reason, text: String::new() }));
        }
        let is_first =
            self.line.waiters.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.waiter));
        if is_first && let Some(found) = look() {
            return Poll::Ready(Ok(found));
        }
        *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let mut waiters = self.line.waiters.borrow_mut();
        let at = waiters.iter().position(|waiter| Rc::ptr_eq(waiter, &self.waiter));
        if let Some(at) = at {
            waiters.remove(at);
        }
        drop(waiters);
        if at == Some(0) {
            self.line.move_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicU64);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    type Waits = Pin<Box<dyn Future<Output = Result<(), DialFailure>>>>;

    /// Three wait in line, and so much becomes free; says who was served.
    fn check(free: u32, is_first_gone: bool, expected: [bool; 3]) {
        let line = Rc::<Line>::default();
        let left = Rc::new(Cell::new(0_u32));
        let bells: [Arc<Bell>; 3] = Default::default();
        let mut waiting = [0, 1, 2].map(|_| {
            let (line, left) = (Rc::clone(&line), Rc::clone(&left));
            let waits =
                async move { line.wait(|| left.get().checked_sub(1).map(|less| left.set(less))).await };
            Some(Box::pin(waits) as Waits)
        });
        let mut served = [false; 3];
        // Whoever waits looks at first, and then only when woken.
        let mut turn = |waiting: &mut [Option<Waits>; 3], is_first: bool| {
            let mut has_moved = false;
            for ((waits, bell), served) in waiting.iter_mut().zip(&bells).zip(&mut served) {
                let is_woken = bell.0.swap(0, Ordering::Relaxed) > 0;
                let waker = Waker::from(Arc::clone(bell));
                if (is_first || is_woken)
                    && let Some(future) = waits
                {
                    has_moved = true;
                    if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                        *served = true;
                        *waits = None;
                    }
                }
            }
            has_moved
        };
        turn(&mut waiting, true);
        left.set(free);
        line.move_up();
        if is_first_gone {
            waiting[0] = None;
        }
        while turn(&mut waiting, false) {}
        assert_eq!(served, expected, "{free} {is_first_gone}");
    }

    #[test]
    fn a_line_is_served_in_its_order_and_nobody_is_forgotten() {
        check(0, false, [false; 3]);
        check(1, false, [true, false, false]);
        check(2, false, [true, true, false]);
        check(3, false, [true; 3]);
        check(1, true, [false, true, false]);
        check(2, true, [false, true, true]);
    }
}
