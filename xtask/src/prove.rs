//! Is a request lost when configuration, certificates or the process change under load? Many more changes than the
//! ordinary tests make.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// How often the file is written and read again.
    #[arg(long, default_value_t = 1_000)]
    swaps: u32,
    /// How often certificates change.
    #[arg(long, default_value_t = 20)]
    reloads: u32,
    /// How often another process takes over, with another number of workers.
    #[arg(long, default_value_t = 10)]
    takeovers: u32,
    /// Prove it of the debug build.
    #[arg(long)]
    debug: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg("test");
    if !options.debug {
        cargo.arg("--release");
    }
    cargo.args(["--workspace", "--test", "data_plane", "life::prove", "--", "--nocapture"]);
    cargo.env("NARU_SWAPS", options.swaps.to_string());
    cargo.env("NARU_RELOADS", options.reloads.to_string());
    cargo.env("NARU_TAKEOVERS", options.takeovers.to_string());
    run_command(cargo.current_dir(root()))
}
