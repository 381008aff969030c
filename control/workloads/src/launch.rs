//! What stands between the supervisor and a command: the same program, started again with [`WORD`].
//!
//! It is started twice for each process. First as its [guard](crate::guard), which stays beside it and
//! ends it with all that it started, also where naru is killed. The guard starts it again as a child,
//! which makes the settings that only a process itself can make, and becomes the command.
//!
//! `naru __launch guard GROUPS BYTES PAGES -- COMMAND..` and
//! `naru __launch become PARENT GROUPS BYTES PAGES -- COMMAND..`, each with a socket as its standard input, over which [`Report`]s go back.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getppid};
use rustix::process::{set_parent_process_death_signal, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

use crate::guard;

/// The first argument of a launch.
pub const WORD: &str = "__launch";

/// The running program, also where its file was replaced.
pub const ITSELF: &str = "/proc/self/exe";

pub(crate) const GUARD: &str = "guard";
pub(crate) const BECOME: &str = "become";
/// The word for pages that may be huge again.
pub(crate) const HUGE_PAGES: &str = "huge";

/// Carries a launch out; `args` are those behind [`WORD`]. Returns only where that fails: a guard ends
/// this process, and a command takes its place.
pub fn run(args: &[OsString]) -> io::Error {
    match args.split_first() {
        Some((role, args)) if role == GUARD => guard::run(args),
        Some((role, args)) if role == BECOME => turn_into(args),
        _ => not_typed_by_hand(),
    }
}

/// What a guard tells the supervisor, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The command runs.
    Started(u32),
    /// It does not, and why.
    Refused(String),
    /// It ended; others that it started had not.
    Ended { end: End, others: usize },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Status(i32),
    Signal(i32),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Started(pid) => write!(f, "started {pid}"),
            Report::Refused(why) => write!(f, "refused {}", why.replace('\n', " ")),
            Report::Ended { end: End::Status(status), others } => write!(f, "ended status {status} {others}"),
            Report::Ended { end: End::Signal(signal), others } => write!(f, "ended signal {signal} {others}"),
        }
    }
}

impl Report {
    pub(crate) fn read(line: &str) -> Option<Report> {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "started" => Some(Report::Started(rest.parse().ok()?)),
            "refused" => Some(Report::Refused(rest.to_owned())),
            "ended" => {
                let [how, number, others] = rest.split(' ').collect::<Vec<_>>().try_into().ok()?;
                let number = number.parse().ok()?;
                let end = match how {
                    "status" => End::Status(number),
                    "signal" => End::Signal(number),
                    _ => return None,
                };
                Some(Report::Ended { end, others: others.parse().ok()? })
            }
            _ => None,
        }
    }
}

/// The settings of a process.
pub(crate) struct Terms<'a> {
    pub groups: Vec<PathBuf>,
    /// Where no group limits its memory.
    pub data_bytes_max: Option<u64>,
    /// What naru has forbidden itself, and each process inherits, is allowed again.
    pub restores_huge_pages: bool,
    pub command: &'a [OsString],
}

impl<'a> Terms<'a> {
    pub(crate) fn read(args: &'a [OsString]) -> io::Result<Terms<'a>> {
        let [groups, bytes, pages, dashes, command @ ..] = args else { return Err(not_typed_by_hand()) };
        if dashes != "--" || command.is_empty() {
            return Err(not_typed_by_hand());
        }
        let groups = std::env::split_paths(groups).filter(|group| !group.as_os_str().is_empty());
        let data_bytes_max = bytes.to_str().and_then(|bytes| bytes.parse().ok()).filter(|bytes| *bytes > 0);
        let restores_huge_pages = pages == HUGE_PAGES;
        Ok(Terms { groups: groups.collect(), data_bytes_max, restores_huge_pages, command })
    }
}

/// Becomes the command. Why it cannot goes to the guard, who hears nothing where it can.
fn turn_into(args: &[OsString]) -> io::Error {
    let mut guard = match io::stdin().as_fd().try_clone_to_owned() {
        // The copy closes when the command takes over.
        Ok(socket) => UnixStream::from(socket),
        Err(error) => return error,
    };
    let why = match prepare(args) {
        Ok(command) => become_command(command),
        Err(error) => error.to_string(),
    };
    // A guard that is gone has ended this process as well.
    let _ = guard.write_all(why.as_bytes());
    std::process::exit(1)
}

fn prepare(args: &[OsString]) -> io::Result<&[OsString]> {
    let (parent, terms) = args.split_first().ok_or_else(not_typed_by_hand)?;
    let terms = Terms::read(terms)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = parent.to_str().and_then(|parent| parent.parse().ok()).and_then(Pid::from_raw);
    if getppid() != parent {
        // The guard went before the signal was asked for.
        return Err(io::Error::other("nobody waits for it any more"));
    }
    let pid = getpid().as_raw_nonzero().to_string();
    for group in &terms.groups {
        std::fs::write(group.join("cgroup.procs"), &pid).map_err(|error| {
            io::Error::other(format!("it cannot join the control group {}: {error}", group.display()))
        })?;
    }
    if let Some(bytes) = terms.data_bytes_max {
        setrlimit(Resource::Data, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
    }
    if terms.restores_huge_pages {
        disable_transparent_huge_pages(false)?;
    }
    Ok(terms.command)
}

/// Returns only where the command cannot be executed.
fn become_command(command: &[OsString]) -> String {
    let Some((program, args)) = command.split_first() else { return "it has no command".to_owned() };
    let error = Command::new(program).args(args).stdin(Stdio::null()).exec();
    let program = program.display();
    match error.kind() {
        // That the file is there was seen before.
        io::ErrorKind::NotFound => {
            format!("'{program}' cannot be executed: what it names as its interpreter is not there")
        }
        io::ErrorKind::PermissionDenied => format!("'{program}' may not be executed: {error}"),
        _ => format!("'{program}' cannot be executed: {error}"),
    }
}

fn not_typed_by_hand() -> io::Error {
    io::Error::other("a launch is not typed by hand")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_they_were_said() {
        let reports = [
            Report::Started(17),
            Report::Refused("there is no 'x'".to_owned()),
            Report::Ended { end: End::Status(3), others: 0 },
            Report::Ended { end: End::Signal(9), others: 2 },
        ];
        for report in reports {
            assert_eq!(Report::read(&report.to_string()), Some(report));
        }
        for text in ["", "started", "started x", "ended", "ended status 1", "ended x 1 1", "other 1"] {
            assert_eq!(Report::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_launch_of_nothing_is_refused() {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        for text in ["", "other", "guard", "guard : 0 - --", "guard : 0 - x y"] {
            assert_eq!(run(&words(text)).to_string(), "a launch is not typed by hand", "{text}");
        }
    }
}
