//! The process beside a process, which ends it and whatever it started.
//!
//! A guard is the parent of one command, and the adopter of all that its command leaves behind
//! (`PR_SET_CHILD_SUBREAPER`). It holds a socket to naru: naru says how to end, the guard says what
//! became of the command. Where naru is gone, however it went, the socket closes, and the guard ends
//! everything. Where the guard is killed, the kernel kills the command (`PR_SET_PDEATHSIG`).
//!
//! | byte from naru | the guard |
//! |---|---|
//! | [`TERMINATE`] | sends SIGTERM to the command, its group, and those who left the group |
//! | [`KILL`], or the end | sends SIGKILL to all of them |
//!
//! When the command has ended, nothing else of it stays: that is what the end of a container's first
//! process means.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpgid, getpid};
use rustix::process::{kill_process, kill_process_group, set_child_subreaper, wait};

use crate::launch::{BECOME, End, ITSELF, Report, Terms, WORD};

pub const TERMINATE: u8 = b'T';
pub const KILL: u8 = b'K';

/// Between two looks at whether what was killed is gone.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What is not gone after so many looks hangs in the kernel, and is waited for no longer.
const LOOKS_MAX: usize = 2_500;
/// A reason is shorter than this.
const REASON_BYTES_MAX: u64 = 4_096;

/// Guards one command until nothing of it is left. Returns only where there is nobody to guard for.
pub fn run(args: &[OsString]) -> io::Error {
    match guard(args) {
        Ok(()) => std::process::exit(0),
        Err(error) => error,
    }
}

fn guard(args: &[OsString]) -> io::Result<()> {
    let groups = Terms::read(args)?.groups;
    let mut naru = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    set_child_subreaper(Some(getpid()))?;
    let pid = match begin(args)? {
        Ok(pid) => pid,
        Err(why) => {
            remove(&groups);
            return writeln!(naru, "{}", Report::Refused(why));
        }
    };
    let ward = Arc::new(Ward { pid, is_there: Mutex::new(true), groups });
    // Naru that is gone needs no report, and this goes on: everything is ended then.
    let _ = writeln!(naru, "{}", Report::Started(pid.as_raw_nonzero().get().unsigned_abs()));
    let orders = naru.try_clone()?;
    let obeying = Arc::clone(&ward);
    std::thread::spawn(move || obeying.obey(orders));
    let end = ward.wait();
    // To look around takes a moment, and naru should know at once. It matters only where a command went
    // to the background.
    let others = if end == End::Status(0) { children().len() } else { 0 };
    let _ = writeln!(naru, "{}", Report::Ended { end, others });
    ward.sweep();
    remove(&ward.groups);
    Ok(())
}

/// Starts the command; the inner error says why it cannot be.
fn begin(args: &[OsString]) -> io::Result<Result<Pid, String>> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(ITSELF);
    command.arg0("naru").arg(WORD).arg(BECOME).arg(getpid().as_raw_nonzero().to_string()).args(args);
    let spawned = command.stdin(OwnedFd::from(theirs)).process_group(0).spawn();
    // It holds their end of the socket.
    drop(command);
    let mut child = spawned?;
    let mut why = String::new();
    // The end comes when the command takes over, or when there is none.
    ours.take(REASON_BYTES_MAX).read_to_string(&mut why)?;
    if !why.is_empty() {
        child.wait()?;
        return Ok(Err(why));
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.map(Ok).ok_or_else(|| io::Error::other("a process without a number"))
}

/// The command, and what became of it.
struct Ward {
    pid: Pid,
    /// As long as it is, its number means nobody else.
    is_there: Mutex<bool>,
    groups: Vec<PathBuf>,
}

impl Ward {
    /// Does what naru says until it says no more.
    fn obey(&self, mut orders: UnixStream) {
        let mut order = [0];
        loop {
            match orders.read(&mut order) {
                Ok(1) if order[0] == TERMINATE => self.tell(Signal::TERM),
                Ok(1) => self.tell(Signal::KILL),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return self.tell(Signal::KILL),
            }
        }
    }

    /// To the command, its group, and those who left it.
    fn tell(&self, signal: Signal) {
        let is_there = self.is_there.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_there {
            // Who is gone hears nothing.
            let _ = kill_process_group(self.pid, signal);
        }
        for child in children() {
            if child != self.pid && getpgid(Some(child)) != Ok(self.pid) {
                let _ = kill_process(child, signal);
            }
        }
        if signal == Signal::KILL {
            for group in &self.groups {
                // A file of control groups of version 2.
                let _ = fs::write(group.join("cgroup.kill"), "1");
            }
        }
    }

    /// Until the command has ended; those that it left behind are taken leave of meanwhile.
    fn wait(&self) -> End {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == self.pid => {
                    *self.is_there.lock().unwrap_or_else(PoisonError::into_inner) = false;
                    return end_of(status);
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // There are no children: somebody else took leave of it.
                Err(_) => return End::Status(0),
            }
        }
    }

    /// Ends what is left. Who ends leaves its own children to the guard, so this is repeated.
    fn sweep(&self) {
        for _ in 0..LOOKS_MAX {
            self.tell(Signal::KILL);
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => End::Status(status),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}

/// Removes the control groups. One with a process in it stays; there is nothing better to do.
fn remove(groups: &[PathBuf]) {
    for group in groups {
        let _ = fs::remove_dir(group);
    }
}

/// The children of this process that live.
fn children() -> Vec<Pid> {
    let mine = getpid();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|number| {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            is_living_child(&stat, mine)
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// `17 (name) S 16 ..`; the name may have anything in it (proc(5)).
fn is_living_child(stat: &str, parent: Pid) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut words = rest.split(' ');
    let is_living = words.next().is_some_and(|state| !matches!(state, "Z" | "X"));
    is_living && words.next() == Some(parent.as_raw_nonzero().to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_told_from_others_whatever_their_names_are() {
        let parent = Pid::from_raw(16).expect("a number");
        let check =
            |stat: &str, expected: bool| assert_eq!(is_living_child(stat, parent), expected, "{stat}");
        check("17 (sh) S 16 17 17 0", true);
        check("17 (a) S 4 (b)) R 16 17", true);
        check("17 (sh) Z 16 17 17 0", false);
        check("17 (sh) S 160 17 17 0", false);
        check("17 (16) S 1 17 17 0", false);
        check("", false);
    }
}
