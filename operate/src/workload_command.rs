//! `naru workload`: a service that only pretends to work.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use naru_workload::WorkloadArgs;

use crate::cli::Failure;
use crate::pages::do_without_huge_pages;

pub fn run(args: WorkloadArgs) -> Result<(), Failure> {
    begin_small();
    Ok(naru_workload::run(args)?)
}

/// Begins anew without huge pages: the allocator asks for three of them, 6 MiB, before `main`, and a
/// workload needs 1. The kernel remembers the wish over `execve`, so this happens once. The process
/// stays the same one.
///
/// Where any of it cannot be done, a workload goes on as it is, only larger.
fn begin_small() {
    if !do_without_huge_pages() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let Some(name) = words.next() else { return };
    // It returns only where it could not.
    let _ = Command::new(program).arg0(name).args(words).exec();
}
