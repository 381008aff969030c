//! Do the limits of the traffic guide admit what they say, under a load that reaches all of them? Longer loads than the
//! ordinary tests have, on optimized processes.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// How long each load lasts, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let arguments = [
        "test",
        "--release",
        "--workspace",
        "--test",
        "data_plane",
        "seed_limits",
        "--",
        "--nocapture",
        "--test-threads=1",
    ];
    let seconds = options.seconds.to_string();
    run_command(
        Command::new(env!("CARGO")).args(arguments).env("NARU_LIMIT_SECONDS", seconds).current_dir(root()),
    )
}
