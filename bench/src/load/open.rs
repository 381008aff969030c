//! Open loop: requests are due at moments that do not depend on the answers.
//!
//! A request's latency counts from the moment it was due, also when no connection was free to send it then. A proxy
//! that stalls for a second is so charged with every request that should have been sent in that second, not with one
//! (coordinated omission). The moments are a seeded Poisson process: the same ones for every proxy.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::h1::Http1;

const SEED: u64 = 0x6e61_7275;
const LATENCY_MAX_NS: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

#[derive(Debug)]
pub struct Latencies {
    /// From the moment a request was due to the end of its answer, in nanoseconds.
    pub answered: Histogram<u64>,
    /// How late the generator itself was: large values mean that it, not the proxy, was the limit.
    pub released_late: Histogram<u64>,
}

/// Asks at `rate` requests per second for so long, over these connections.
pub async fn run(connections: Vec<Http1>, rate: f64, length: Duration) -> anyhow::Result<Latencies> {
    let queue = Rc::new(Queue::default());
    let answered = Rc::new(RefCell::new(empty_histogram()?));
    let asking: Vec<_> = connections
        .into_iter()
        .map(|connection| spawn_local(ask(connection, queue.clone(), answered.clone())))
        .collect();

    let released_late = release(&queue, rate, length).await?;
    queue.close();
    for connection in asking {
        connection.await?.context("a connection failed")?;
    }
    let answered = answered.borrow().clone();
    ensure!(!answered.is_empty(), "no request was due in so short a time");
    Ok(Latencies { answered, released_late })
}

async fn release(queue: &Queue, rate: f64, length: Duration) -> anyhow::Result<Histogram<u64>> {
    let mut late = empty_histogram()?;
    let mut arrivals = Arrivals { state: SEED, mean_gap: 1.0 / rate };
    let alarm = Alarm::new()?;
    let begin = Instant::now();
    let mut due = begin;
    while due < begin + length {
        loop {
            let early = due.saturating_duration_since(Instant::now());
            if early.is_zero() {
                break;
            }
            alarm.sleep(early).await?;
        }
        late.saturating_record(due.elapsed().as_nanos() as u64);
        queue.push(due);
        due += arrivals.next_gap();
    }
    Ok(late)
}

async fn ask(
    mut connection: Http1,
    queue: Rc<Queue>,
    answered: Rc<RefCell<Histogram<u64>>>,
) -> anyhow::Result<()> {
    while let Some(due) = queue.pop().await {
        connection.exchange().await?;
        answered.borrow_mut().saturating_record(due.elapsed().as_nanos() as u64);
    }
    Ok(())
}

/// The requests that are due and not yet sent; any free connection takes the oldest.
#[derive(Default)]
struct Queue {
    due: RefCell<VecDeque<Instant>>,
    closed: Cell<bool>,
    changed: Notify,
}

impl Queue {
    fn push(&self, due: Instant) {
        self.due.borrow_mut().push_back(due);
        self.changed.notify_one();
    }

    async fn pop(&self) -> Option<Instant> {
        loop {
            if let Some(due) = self.due.borrow_mut().pop_front() {
                return Some(due);
            }
            if self.closed.get() {
                return None;
            }
            self.changed.notified().await;
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.changed.notify_waiters();
        // One that was about to wait finds this permit, and then the closed flag.
        self.changed.notify_one();
    }
}

/// Exponential gaps from a xorshift64* generator.
struct Arrivals {
    state: u64,
    mean_gap: f64,
}

impl Arrivals {
    fn next_gap(&mut self) -> Duration {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let bits = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        let uniform = bits as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - uniform).ln() * self.mean_gap)
    }
}

/// A timer of the kernel: tokio's own counts in milliseconds, and we need microseconds.
struct Alarm {
    timer: AsyncFd<std::os::fd::OwnedFd>,
}

impl Alarm {
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; sound here, as we own the descriptor and never swap it"
    )]
    fn new() -> anyhow::Result<Alarm> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Alarm { timer: AsyncFd::new(timer)? })
    }

    async fn sleep(&self, length: Duration) -> anyhow::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: length.as_secs() as i64, tv_nsec: i64::from(length.subsec_nanos()) },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.timer.readable().await?;
        // Setting the timer again takes back what it has counted, so there is nothing to read.
        ready.clear_ready();
        Ok(())
    }
}

fn empty_histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, DIGITS)?)
}
