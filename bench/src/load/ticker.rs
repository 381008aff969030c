//! Was a core taken away from this machine?
//!
//! A virtual machine's core is gone for milliseconds at a time, in which a proxy answers a hundred requests. On each core
//! a thread that goes before all others sleeps for half a millisecond, again and again: where it comes late, the core was
//! away. Nothing that a proxy does makes it late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

const TICK: Duration = Duration::from_micros(500);
/// Others come a tenth of that late.
const AWAY: Duration = Duration::from_millis(1);
const PRIORITY_MOST: i32 = -20;

/// A ticking thread on each core.
#[derive(Debug)]
pub struct Tickers {
    /// How late one of them was at most, in nanoseconds.
    latest: Arc<AtomicU64>,
}

impl Tickers {
    /// Fails where the user may not have a priority above others'.
    pub fn start() -> anyhow::Result<Tickers> {
        let latest = Arc::new(AtomicU64::new(0));
        for core in 0..available_parallelism()?.get() {
            let latest = latest.clone();
            let (tell, told) = channel();
            thread::spawn(move || {
                let ready = go_before_all(core);
                let is_ready = ready.is_ok();
                if tell.send(ready).is_ok() && is_ready {
                    tick(&latest);
                }
            });
            told.recv()??;
        }
        Ok(Tickers { latest })
    }

    /// Whether a core was away since this was asked before.
    pub fn was_away(&self) -> bool {
        Duration::from_nanos(self.latest.swap(0, Ordering::Relaxed)) >= AWAY
    }
}

fn go_before_all(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("binding to core {core}"))?;
    // Of this thread alone, as Linux has it.
    setpriority_process(None, PRIORITY_MOST).context("going before all others")
}

fn tick(latest: &AtomicU64) {
    loop {
        let begin = Instant::now();
        thread::sleep(TICK);
        let late = begin.elapsed().saturating_sub(TICK);
        latest.fetch_max(late.as_nanos() as u64, Ordering::Relaxed);
    }
}
