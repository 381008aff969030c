//! Is every request answered once, or refused with a reason, when connections, networks and processes break for minutes?
//! The same as a test does for some seconds.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// For how long.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// What breaks when is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The debug build.
    #[arg(long)]
    debug: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg("test");
    if !options.debug {
        cargo.arg("--release");
    }
    cargo.args(["--workspace", "--test", "data_plane", "soak::the_ledger", "--", "--nocapture"]);
    cargo.env("NARU_SOAK_SECONDS", (options.minutes * 60).to_string());
    cargo.env("NARU_SEED", options.seed.to_string());
    run_command(cargo.current_dir(root()))
}
