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
use super::ticker::Tickers;

const SEED: u64 = 0x6e61_7275;
/// Short enough that a core is not taken away in most of them.
const SLICE: Duration = Duration::from_millis(50);
const TRIES_MAX: usize = 5;
/// What a proxy does after its last answer is its own matter, and not in the next one's way.
const PAUSE: Duration = Duration::from_millis(2);
const LATENCY_MAX_NS: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

#[derive(Debug)]
pub struct Latencies {
    /// From the moment a request was due to the end of its answer, in nanoseconds.
    pub answered: Histogram<u64>,
    /// How late the generator itself was: large values mean that it, not the proxy, was the limit.
    pub released_late: Histogram<u64>,
}

impl Latencies {
    pub fn new() -> anyhow::Result<Latencies> {
        Ok(Latencies { answered: empty_histogram()?, released_late: empty_histogram()? })
    }

    fn add(&mut self, others: &Latencies) -> anyhow::Result<()> {
        self.answered.add(&others.answered)?;
        Ok(self.released_late.add(&others.released_late)?)
    }
}

/// Connections to one proxy, and when the next request for it is due.
#[derive(Debug)]
pub struct Offer {
    connections: Vec<Http1>,
    arrivals: Arrivals,
}

impl Offer {
    /// Of `rate` requests per second.
    pub fn new(connections: Vec<Http1>, rate: f64) -> Offer {
        Offer { connections, arrivals: Arrivals { random: Random(SEED), mean_gap: 1.0 / rate } }
    }

    /// Asks for so long, and waits for the last answer.
    pub async fn run(&mut self, length: Duration, latencies: &mut Latencies) -> anyhow::Result<()> {
        let queue = Rc::new(Queue::default());
        let answered = Rc::new(RefCell::new(empty_histogram()?));
        let asking: Vec<_> = self
            .connections
            .drain(..)
            .map(|connection| spawn_local(ask(connection, queue.clone(), answered.clone())))
            .collect();

        let begin = Instant::now();
        let alarm = Alarm::new()?;
        let mut due = begin + self.arrivals.next_gap();
        while due < begin + length {
            loop {
                let early = due.saturating_duration_since(Instant::now());
                if early.is_zero() {
                    break;
                }
                alarm.sleep(early).await?;
            }
            latencies.released_late.saturating_record(due.elapsed().as_nanos() as u64);
            queue.push(due);
            due += self.arrivals.next_gap();
        }
        queue.close();
        for connection in asking {
            self.connections.push(connection.await?.context("a connection failed")?);
        }
        latencies.answered.add(&*answered.borrow())?;
        Ok(())
    }
}

/// Offers that are made side by side: for a slice of time to one after another as they are drawn, so that none of them
/// always follows the same one. A slice in which a core was taken away from the machine is asked again.
#[derive(Debug)]
pub struct SideBySide {
    offers: Vec<Offer>,
    order: Random,
    /// None where this may not be known.
    tickers: Option<Tickers>,
}

/// What each was answered in a turn, and how undisturbed.
#[derive(Debug)]
pub struct Turn {
    pub latencies: Vec<Latencies>,
    /// That count.
    pub slices: u64,
    /// That do not, as a core was away.
    pub again: u64,
    /// That count although one was, as it was each time.
    pub disturbed: u64,
}

impl SideBySide {
    /// `tickers` are to be of all cores, the proxies' too.
    pub fn new(offers: Vec<Offer>, tickers: Option<Tickers>) -> SideBySide {
        SideBySide { offers, order: Random(SEED), tickers }
    }

    /// Asks each for so long.
    pub async fn run(&mut self, length: Duration) -> anyhow::Result<Turn> {
        let nothing: anyhow::Result<_> = self.offers.iter().map(|_| Latencies::new()).collect();
        let mut turn = Turn { latencies: nothing?, slices: 0, again: 0, disturbed: 0 };
        let mut order: Vec<usize> = (0..self.offers.len()).collect();
        let mut left = length;
        while !left.is_zero() {
            let slice = left.min(SLICE);
            self.order.shuffle(&mut order);
            for &at in &order {
                self.ask_one(at, slice, &mut turn).await?;
            }
            left -= slice;
        }
        let are_asked = turn.latencies.iter().all(|latencies| !latencies.answered.is_empty());
        ensure!(are_asked, "no request was due in so short a time");
        Ok(turn)
    }

    async fn ask_one(&mut self, at: usize, slice: Duration, turn: &mut Turn) -> anyhow::Result<()> {
        let mut tries = 1;
        let latencies = loop {
            self.was_away();
            let mut latencies = Latencies::new()?;
            self.offers[at].run(slice, &mut latencies).await?;
            tokio::time::sleep(PAUSE).await;
            if !self.was_away() {
                break latencies;
            }
            if tries == TRIES_MAX {
                turn.disturbed += 1;
                break latencies;
            }
            turn.again += 1;
            tries += 1;
        };
        turn.slices += 1;
        turn.latencies[at].add(&latencies)
    }

    fn was_away(&self) -> bool {
        self.tickers.as_ref().is_some_and(Tickers::was_away)
    }
}

async fn ask(
    mut connection: Http1,
    queue: Rc<Queue>,
    answered: Rc<RefCell<Histogram<u64>>>,
) -> anyhow::Result<Http1> {
    while let Some(due) = queue.pop().await {
        connection.exchange().await?;
        answered.borrow_mut().saturating_record(due.elapsed().as_nanos() as u64);
    }
    Ok(connection)
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

/// Exponential gaps.
#[derive(Debug)]
struct Arrivals {
    random: Random,
    mean_gap: f64,
}

impl Arrivals {
    fn next_gap(&mut self) -> Duration {
        let uniform = (self.random.next() >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - uniform).ln() * self.mean_gap)
    }
}

/// xorshift64*.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for at in (1..order.len()).rev() {
            order.swap(at, (self.next() >> 32) as usize % (at + 1));
        }
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
