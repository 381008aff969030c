//! Child processes that never outlive us.
//!
//! Dropping one ends it: first politely, then by force, together with whatever it started itself. Should we be killed
//! before we can drop anything, the kernel tells the child (`setpriv --pdeathsig`).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::usage;

const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(2);
const TAIL_LINES: usize = 15;
/// Of what is measured, and of who measures; less than that of the tickers of bench-load, which are to go before these.
const PRIORITY: i32 = -15;

pub struct Spawned {
    name: String,
    child: Child,
    /// Where its standard error goes.
    complaints: PathBuf,
}

/// How to start a program.
pub struct Launch<'a> {
    pub name: &'a str,
    pub program: &'a Path,
    pub arguments: Vec<String>,
    /// The one core it may run on, if any is prescribed.
    pub core: Option<usize>,
    /// Where its standard output and standard error go, as `stdout` and `stderr`.
    pub directory: &'a Path,
    /// Talk to it over standard input and output instead.
    pub piped: bool,
    /// Save the millisecond that the guard against our own death costs, where start time is measured.
    pub unguarded: bool,
}

impl Spawned {
    pub fn start(launch: Launch) -> anyhow::Result<Spawned> {
        let mut command = if launch.unguarded {
            Command::new(launch.program)
        } else {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM", "--"]).arg(launch.program);
            command
        };
        let complaints = launch.directory.join("stderr");
        command.args(&launch.arguments).stderr(File::create(&complaints)?);
        if launch.piped {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(File::create(launch.directory.join("stdout"))?);
        }
        let child = on_core(launch.core, || {
            command
                .spawn()
                .with_context(|| format!("starting {} ({})", launch.name, launch.program.display()))
        })?;
        Ok(Spawned { name: launch.name.into(), child, complaints })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn pipes(&mut self) -> anyhow::Result<(ChildStdin, ChildStdout)> {
        let pipes = self.child.stdin.take().zip(self.child.stdout.take());
        pipes.with_context(|| format!("{} was not started with pipes", self.name))
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        send(self.pid(), signal).with_context(|| format!("signalling {}", self.name))
    }

    /// An error with its last words, if the process has ended.
    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}): {}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Waits for it to end by itself, as a success.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "{} failed ({status}): {}", self.name, self.last_words());
        Ok(())
    }

    pub fn last_words(&self) -> String {
        let complaints = fs::read_to_string(&self.complaints).unwrap_or_default();
        let lines: Vec<_> = complaints.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn has_ended_within(&mut self, patience: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            match self.child.try_wait() {
                Ok(None) => sleep(POLL),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let family = usage::family(self.pid()).unwrap_or_default();
        // Nobody is left to hear of a failure here, and the next step is the remedy for it.
        let _ = send(self.pid(), Signal::TERM);
        if !self.has_ended_within(PATIENCE) {
            for pid in family {
                let _ = send(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// Binds this thread, and what it starts from now on, to one core.
pub fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("binding to core {core}"))
}

/// This thread, and whatever it starts from now on, goes before all that does not belong to a measurement: a thread of
/// the kernel that searches memory is in a proxy's way for ten milliseconds otherwise. Only root may say so.
pub fn go_before_others() {
    if let Err(error) = setpriority_process(None, PRIORITY) {
        eprintln!("others may be in the way of what is measured: {error}");
    }
}

/// A child inherits the cores of the thread that starts it.
fn on_core<Started>(
    core: Option<usize>,
    start: impl FnOnce() -> anyhow::Result<Started>,
) -> anyhow::Result<Started> {
    let Some(core) = core else { return start() };
    let before = sched_getaffinity(None)?;
    pin(core)?;
    let started = start();
    sched_setaffinity(None, &before)?;
    started
}

fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process")?;
    Ok(kill_process(pid, signal)?)
}
