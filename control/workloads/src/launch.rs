//! What happens between a fork and the program: a few settings that only the process itself can make.
//!
//! The program that carries a supervisor starts itself again with [`WORD`], and becomes the command.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// The first argument of a launch: `naru __launch PARENT CGROUPS -- COMMAND..`.
pub const WORD: &str = "__launch";

/// Becomes the command of a launch; returns only where that fails.
pub fn run(args: &[OsString]) -> io::Error {
    match prepare(args) {
        Ok(command) => {
            let (program, args) = match command.split_first() {
                Some(split) => split,
                None => return io::Error::other("a launch without a command"),
            };
            Command::new(program).args(args).exec()
        }
        Err(error) => error,
    }
}

fn prepare(args: &[OsString]) -> io::Result<&[OsString]> {
    let [parent, cgroups, dashes, command @ ..] = args else {
        return Err(io::Error::other("a launch is not typed by hand"));
    };
    if dashes.as_os_str() != "--" {
        return Err(io::Error::other("a launch is not typed by hand"));
    }
    // It ends with its parent, also where that is killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = parent.to_str().and_then(|parent| parent.parse().ok()).and_then(Pid::from_raw);
    if getppid() != parent {
        // The parent went before the signal was asked for.
        return Err(io::Error::other("nobody waits for this process any more"));
    }
    let pid = getpid().as_raw_nonzero().to_string();
    for group in std::env::split_paths(cgroups).filter(|group| !group.as_os_str().is_empty()) {
        std::fs::write(group.join("cgroup.procs"), &pid)?;
    }
    Ok(command)
}
