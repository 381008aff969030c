//! Does `naru explain` say what the proxy does, and `naru diff` what a replay would? Many more requests than the ordinary tests ask about.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// How many requests, each of which is sent and explained.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// How many pairs of configurations a log is replayed on, to see that `naru diff` names the requests that move.
    #[arg(long, default_value_t = 300)]
    pairs: u64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let arguments = [
        "test",
        "--workspace",
        "--test",
        "data_plane",
        "--",
        "explained",
        "diff_names_exactly",
        "--nocapture",
    ];
    let (requests, pairs) = (options.requests.to_string(), options.pairs.to_string());
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).env("NARU_CASES", requests).env("NARU_PAIRS", pairs);
    run_command(cargo.current_dir(root()))
}
