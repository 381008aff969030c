//! Do Envoy and clients of gRPC do what naru does, when they are driven by it? Many more requests than the ordinary tests
//! send; and what many proxies and services cost.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// Random requests to Envoy and to naru.
    #[arg(long, default_value_t = 10_000)]
    requests: u32,
    /// Calls of each client of gRPC that are split.
    #[arg(long, default_value_t = 10_000)]
    calls: u32,
    /// How often all clusters are replaced under load.
    #[arg(long, default_value_t = 100)]
    changes: u32,
    /// Random edits of documents under load, a third of which cannot be.
    #[arg(long, default_value_t = 1_000)]
    edits: u32,
    /// How often the control plane is killed under load.
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Where all chance comes from.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Proxies of the fleet.
    #[arg(long, default_value_t = 1_000)]
    proxies: u32,
    /// Services that they are told of.
    #[arg(long, default_value_t = 10_000)]
    services: u32,
    /// Only the fleet: writes bench/FLEETS.md.
    #[arg(long)]
    fleets_only: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.fleets_only {
        drive(options)?;
    }
    measure(options)
}

/// On optimized processes.
fn measure(options: &Options) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--release", "--workspace", "--test", "control_plane", "fleets"]);
    cargo.args(["--", "--nocapture"]);
    cargo.env("NARU_PROXIES", options.proxies.to_string());
    cargo.env("NARU_SERVICES", options.services.to_string());
    cargo.env("NARU_FLEETS", root().join("bench/FLEETS.md"));
    run_command(cargo.current_dir(root()))
}

fn drive(options: &Options) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--workspace", "--test", "control_plane", "--", "--nocapture"]);
    cargo.env("NARU_REQUESTS", options.requests.to_string());
    cargo.env("NARU_CALLS", options.calls.to_string());
    cargo.env("NARU_CHANGES", options.changes.to_string());
    cargo.env("NARU_EDITS", options.edits.to_string());
    cargo.env("NARU_KILLS", options.kills.to_string());
    cargo.env("NARU_SEED", options.seed.to_string());
    run_command(cargo.current_dir(root()))
}
