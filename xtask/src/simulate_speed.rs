//! How many requests through simulated proxies does a second of one core simulate?
//!
//! Each scenario of `bench/simulation` runs a few times; the fastest counts, as what disturbs a run only
//! ever slows it. Processor time is measured, not the clock on the wall: others may work on the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::workspace::{build_release, program, root};

/// What is promised, requests in a second.
const HOPS_MIN: f64 = 500_000.0;
const REPETITIONS: usize = 3;
/// Of /proc/PID/stat on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(clap::Args)]
pub struct Options {
    /// Exit 1 if it is slower than it should be.
    #[arg(long)]
    check: bool,
    /// Measure the release build that is there.
    #[arg(long)]
    no_build: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.no_build {
        build_release("naru")?;
    }
    let folder = root().join("bench/simulation");
    let mut scenarios: Vec<_> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    scenarios.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    scenarios.sort();
    let mut slowest = f64::INFINITY;
    for scenario in &scenarios {
        let mut best: f64 = 0.0;
        let mut hops = 0;
        for _ in 0..REPETITIONS {
            let before = seconds_of_children()?;
            hops = simulate(scenario)?;
            let took = seconds_of_children()? - before;
            ensure!(took > 0.0, "{} is too short to be measured", scenario.display());
            best = best.max(hops as f64 / took);
        }
        let name = scenario.file_stem().unwrap_or_default().to_string_lossy();
        println!("{name:<12} {hops:>9} requests through proxies, {best:>10.0} a second");
        slowest = slowest.min(best);
    }
    println!("the slowest: {slowest:.0}, at least {HOPS_MIN}");
    ensure!(!options.check || slowest >= HOPS_MIN, "it is slower than it should be");
    Ok(())
}

/// How many requests went through proxies.
fn simulate(scenario: &Path) -> anyhow::Result<u64> {
    let output =
        Command::new(program("naru")).arg("simulate").arg(scenario).args(["--output", "json"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", scenario.display());
    let transcript: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    transcript["summary"]["hops"].as_u64().context("a transcript without a count")
}

/// Processor time of all processes that were waited for.
fn seconds_of_children() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The command stands in parentheses and may contain anything; the times are 14 words behind it.
    let (_, behind) = stat.rsplit_once(')').context("a stat without a command")?;
    let ticks = behind.split_whitespace().skip(13).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
}
