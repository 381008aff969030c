//! What does naru cost beside its peers, on this machine, in this hour?
//!
//! Absolute numbers belong to a machine and an hour; ratios travel. So everything is measured in rounds, in each round
//! every proxy in turn, and a ratio is taken within a round before the median is taken over the rounds. The proxy has
//! one core for itself; load and upstream share another; the same for everyone. Before anything is measured, each
//! proxy has to show that it does the work that the comparison is about.

// In reading order: who is measured, how asked, what for, and what is said of it.
mod template;
mod peer;
mod load;
mod measure;
mod samples;
mod budget;
mod report;

pub use load::{Load, Pace, Protocol};
pub use measure::first_and_last_path;
pub use peer::{Manner, Peer, Reads, Running, Shape, Site};

use std::fs;
use std::thread::available_parallelism;

use anyhow::{bail, ensure};
use clap::ValueEnum;

use crate::process::{go_before_others, pin};
use crate::workspace::{build_release, root, target};
use measure::{Measure, Settings};
use samples::Samples;

/// For load, upstream and ourselves.
pub const LOAD_CORE: usize = 0;
pub const PROXY_CORE: usize = 1;

#[derive(clap::Args)]
pub struct Options {
    /// Fewer and shorter rounds: to see that it works, not to quote. Writes no RESULTS.md.
    #[arg(long)]
    quick: bool,
    /// Only these groups of measurements. Writes no RESULTS.md.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
    /// Only these proxies. Writes no RESULTS.md.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure the release builds that are there.
    #[arg(long)]
    no_build: bool,
    /// Exit 1 if naru exceeds its budget.
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        available_parallelism()?.get() >= 2,
        "the bench needs two cores: one for the proxy, one for the load"
    );
    if !options.no_build {
        build_release("naru-bench")?;
        build_release("naru")?;
    }
    let mut settings = if options.quick { Settings::QUICK } else { Settings::FULL };
    settings.rounds = options.rounds.unwrap_or(settings.rounds);
    let measures = if options.only.is_empty() { Measure::value_variants() } else { &options.only };
    let peers = peers_to_measure(options)?;

    let machine = report::describe_machine(&peers)?;
    pin(LOAD_CORE)?;
    go_before_others();
    let site = Site::prepare()?;
    for &peer in &peers {
        Running::start(&site, peer, Shape::SMALL)?.ensure_does_the_work(peer)?;
    }
    let mut samples = Samples::default();
    let measured = measure_all(&site, &peers, measures, &settings, &mut samples);

    let verdicts = budget::judge(&samples);
    let results = report::write(&machine, &settings, &samples, &verdicts);
    println!("{results}");
    fs::write(target().join("bench/samples.json"), samples.to_json().to_string())?;
    // An hour's numbers are told also where the last of them could not be had.
    measured?;
    if !options.quick && options.only.is_empty() && options.peers.is_empty() {
        fs::write(root().join("bench/RESULTS.md"), results)?;
    }
    if options.check && verdicts.iter().any(|verdict| verdict.holds_now() != Some(true)) {
        bail!("a budget is exceeded or was not measured");
    }
    Ok(())
}

fn measure_all(
    site: &Site,
    peers: &[Peer],
    measures: &[Measure],
    settings: &Settings,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    for round in 0..settings.rounds {
        for &measure in measures.iter().filter(|measure| round < settings.rounds_of(**measure)) {
            eprintln!("round {} of {}: {measure:?}", round + 1, settings.rounds);
            measure.run(site, &in_turn(peers, round), settings, samples)?;
        }
    }
    Ok(())
}

fn peers_to_measure(options: &Options) -> anyhow::Result<Vec<Peer>> {
    let mut peers =
        if options.peers.is_empty() { Peer::value_variants().to_vec() } else { options.peers.clone() };
    if options.peers.is_empty() && !Peer::Naru.is_there() {
        eprintln!("There is no release build of naru: measuring the others only.");
        peers.retain(|peer| *peer != Peer::Naru);
    }
    let missing: Vec<_> = peers.iter().filter(|peer| !peer.is_there()).collect();
    ensure!(missing.is_empty(), "missing: {missing:?}; `cargo xtask setup` installs the peers");
    Ok(peers)
}

/// Every round begins with another proxy, so that none always follows the same one.
fn in_turn(peers: &[Peer], round: usize) -> Vec<Peer> {
    let mut turn = peers.to_vec();
    turn.rotate_left(round % peers.len().max(1));
    turn
}
