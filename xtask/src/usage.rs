//! What has a process used so far? Read from /proc, for a process and everything it started.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// The process and all its descendants.
pub fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(candidate) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // It may end while we look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{candidate}/stat")) else { continue };
        // The command stands in parentheses and may contain anything; then come state and parent.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (candidate, parent)));
    }
    let mut family = vec![pid];
    let mut seen = 0;
    while let Some(&member) = family.get(seen) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(child, _)| *child));
        seen += 1;
    }
    Ok(family)
}

/// CPU time in nanoseconds, user and system, of all threads that are alive. The clock ticks of /proc/PID/stat would be
/// 10 ms each; the scheduler's own account is exact.
pub fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for member in family(pid)? {
        for task in fs::read_dir(format!("/proc/{member}/task"))? {
            sum += run_time_ns(&task?.path())?.unwrap_or(0);
        }
    }
    ensure!(sum > 0, "this kernel keeps no scheduler statistics (CONFIG_SCHED_INFO)");
    Ok(sum)
}

/// Resident memory in bytes: VmRSS, summed over the family (pages that two of them share count twice).
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    family(pid)?.into_iter().map(resident_bytes_alone).sum()
}

/// None if the thread ended while we looked.
fn run_time_ns(task: &Path) -> anyhow::Result<Option<u64>> {
    let Ok(schedstat) = fs::read_to_string(task.join("schedstat")) else { return Ok(None) };
    let field = schedstat.split_whitespace().next().context("an empty schedstat")?;
    Ok(Some(field.parse()?))
}

fn resident_bytes_alone(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process without VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
