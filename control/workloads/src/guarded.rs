//! A command that runs beside its guard, as the supervisor sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::confine::Confinement;
use crate::launch::{End, GUARD, HUGE_PAGES, ITSELF, Report, WORD};

/// What a command is run with.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// See [`Settings::launcher`](crate::Settings::launcher).
    pub launcher: Option<&'a Path>,
    /// See [`Settings::restores_huge_pages`](crate::Settings::restores_huge_pages).
    pub restores_huge_pages: bool,
    /// All of it: nothing else is inherited.
    pub env: &'a [(String, String)],
    pub working_dir: Option<&'a Path>,
}

/// Ends with all that it started when it is dropped: the guard hears that nobody is there.
#[derive(Debug)]
pub struct Guarded {
    guard: Child,
    reports: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
    pid: Option<u32>,
    end: Option<End>,
    /// Dropped last, as its groups must be empty.
    _confinement: Confinement,
}

impl Guarded {
    /// Starts the guard, which starts the command and [reports](Guarded::next) it.
    ///
    /// # Errors
    /// There can be no other process, or its working directory cannot be entered.
    pub fn start(
        words: &[String],
        around: &Surroundings<'_>,
        confinement: Confinement,
        has_output: bool,
    ) -> io::Result<Guarded> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (reports, orders) = UnixStream::from_std(ours)?.into_split();
        let mut command = Command::new(around.launcher.unwrap_or(Path::new(ITSELF)));
        command.arg0("naru").arg(WORD).arg(GUARD).args(confinement.words()?);
        let pages = if around.restores_huge_pages { HUGE_PAGES } else { "-" };
        command.args([pages, "--"]).args(words);
        command.env_clear().envs(around.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = around.working_dir {
            command.current_dir(directory);
        }
        let output = || if has_output { Stdio::piped() } else { Stdio::null() };
        command.stdin(OwnedFd::from(theirs)).stdout(output()).stderr(output());
        // A terminal's Ctrl-C is for naru, which says how to end.
        command.process_group(0);
        let guard = command.spawn()?;
        let reports = BufReader::new(reports).lines();
        Ok(Guarded { guard, reports, orders, pid: None, end: None, _confinement: confinement })
    }

    pub fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.guard.stdout.take(), self.guard.stderr.take())
    }

    /// Of the command, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.pid.filter(|_| self.end.is_none())
    }

    /// What the guard says; nothing more once it is gone, and with it all that it guarded. May be
    /// dropped and asked again.
    pub async fn next(&mut self) -> Option<Report> {
        while let Ok(Some(line)) = self.reports.next_line().await {
            match Report::read(&line) {
                Some(Report::Started(pid)) => self.pid = Some(pid),
                Some(Report::Ended { end, .. }) => self.end = Some(end),
                Some(Report::Refused(_)) => {}
                None => continue,
            }
            return Report::read(&line);
        }
        // The socket closes as the guard ends.
        let _ = self.guard.wait().await;
        if let Some(pid) = self.pid()
            && let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            // The guard was killed. The kernel has killed the command; here go others of its group.
            let _ = kill_process_group(group, Signal::KILL);
        }
        None
    }

    /// To the guard, in one of its bytes.
    pub fn order(&self, byte: u8) {
        // A guard that is gone needs no order, and a few bytes always have a place.
        let _ = self.orders.try_write(&[byte]);
    }
}
