//! Does `naru explain` say what the proxy does? Many more requests than the ordinary tests ask about.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// How many requests, each of which is sent and explained.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let arguments =
        ["test", "--package", "naru-tests", "--test", "data_plane", "explained", "--", "--nocapture"];
    let requests = options.requests.to_string();
    run_command(Command::new(env!("CARGO")).args(arguments).env("NARU_CASES", requests).current_dir(root()))
}
