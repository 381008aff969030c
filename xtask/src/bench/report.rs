//! The numbers as a page: the machine, the budget, and every quantity with its ratios.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use clap::ValueEnum;

use super::budget::Verdict;
use super::measure::Settings;
use super::peer::Peer;
use super::samples::{Quantity, Samples, Size, Slices, Spread};
use crate::workspace::output;

/// Whom the others are compared with.
const YARDSTICKS: [Peer; 3] = [Peer::Haproxy, Peer::Envoy, Peer::Forwarder];

/// Cores, kernel and versions: without them a number means nothing.
pub fn describe_machine(peers: &[Peer]) -> anyhow::Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let versions = peers.iter().map(|peer| peer.version()).collect::<Result<Vec<_>, _>>()?;
    Ok(format!(
        "{} cores ({}), Linux {}, load {} before the run, {}. {}.",
        available_parallelism()?,
        model.trim_start_matches([' ', '\t', ':']),
        kernel.split(['-', '\n']).next().unwrap_or_default(),
        load.split(' ').next().unwrap_or_default(),
        output(Command::new("date").args(["-u", "+%F"]))?.trim(),
        versions.join(", "),
    ))
}

pub fn write(machine: &str, settings: &Settings, samples: &Samples, verdicts: &[Verdict]) -> String {
    let mut page = String::from(
        "# Results\n\nWritten by `cargo xtask bench`; how to read it stands in [README.md](README.md).\n\n",
    );
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, machine, settings, samples, verdicts);
    page
}

fn write_page(
    page: &mut String,
    machine: &str,
    settings: &Settings,
    samples: &Samples,
    verdicts: &[Verdict],
) -> std::fmt::Result {
    writeln!(page, "{machine}\n")?;
    writeln!(
        page,
        "{} rounds; {} s of load for each number, {} times {} s for latencies; memory {} s after ready. Median (least to most).\n",
        settings.rounds,
        settings.seconds,
        settings.latency_turns,
        settings.latency_seconds,
        settings.settle.as_secs(),
    )?;
    let Slices { counted, again, disturbed } = samples.slices();
    if counted > 0 {
        writeln!(
            page,
            "Latencies: of {} slices {again} are not counted, as a core was away for a millisecond or more; {disturbed} are although one was.\n",
            counted + again,
        )?;
    }
    writeln!(
        page,
        "## Budget\n\n| naru | measured | now at most | | finished at most | |\n|---|---|---|---|---|---|"
    )?;
    for verdict in verdicts {
        let Verdict { title, measured, unit, now_max, finished_max, judged: _ } = verdict;
        let measured =
            measured.map_or("not measured".into(), |spread| format!("{}{unit}", with_range(spread)));
        let (now, finished) = (said(verdict.holds_now()), said(verdict.holds_finished()));
        writeln!(
            page,
            "| {title} | {measured} | {now_max}{unit} | {now} | {finished_max}{unit} | {finished} |"
        )?;
    }
    writeln!(
        page,
        "\n## Side by side\n\n| | proxy | | x haproxy | x envoy | x forwarder |\n|---|---|---|---|---|---|"
    )?;
    for quantity in rows(samples) {
        for &peer in Peer::value_variants() {
            write_row(page, samples, quantity, peer)?;
        }
    }
    Ok(())
}

/// What was measured, and after memory the reloads even where no proxy was reloaded.
fn rows(samples: &Samples) -> Vec<Quantity> {
    let mut rows = samples.quantities();
    for size in [Size::Small, Size::Large] {
        if rows.contains(&Quantity::Memory(size)) {
            rows.insert(Quantity::MemoryAfterReloads(size));
        }
    }
    rows.into_iter().collect()
}

fn write_row(page: &mut String, samples: &Samples, quantity: Quantity, peer: Peer) -> std::fmt::Result {
    let Some(spread) = samples.spread(quantity, peer) else {
        if let (Quantity::MemoryAfterReloads(_), Some(why)) = (quantity, why_not_reloaded(peer)) {
            writeln!(page, "| {} | {} | n/a: {why} | | | |", quantity.title(), peer.name())?;
        }
        return Ok(());
    };
    write!(page, "| {} | {} | {} {} |", quantity.title(), peer.name(), with_range(spread), quantity.unit())?;
    for yardstick in YARDSTICKS {
        let ratio = samples.ratio((quantity, peer), (quantity, yardstick)).filter(|_| peer != yardstick);
        write!(page, " {} |", ratio.map(with_range).unwrap_or_default())?;
    }
    writeln!(page)
}

fn why_not_reloaded(peer: Peer) -> Option<&'static str> {
    match peer {
        Peer::Envoy => Some("a static bootstrap is read once"),
        Peer::Forwarder | Peer::Nginx | Peer::Haproxy | Peer::Naru => None,
    }
}

fn with_range(Spread { least, median, most }: Spread) -> String {
    let digits = if median >= 100.0 {
        0
    } else if median >= 10.0 {
        1
    } else {
        2
    };
    format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
}

fn said(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "holds",
        Some(false) => "**exceeded**",
        None => "",
    }
}
