//! Is anything sent twice that may have acted? Many more requests over connections that break than the ordinary tests send.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// How many requests, half of them to upstreams of HTTP/2.
    #[arg(long, default_value_t = 200_000)]
    requests: u64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let arguments = ["test", "--workspace", "--test", "data_plane", "sent_once", "--", "--nocapture"];
    let requests = options.requests.to_string();
    run_command(Command::new(env!("CARGO")).args(arguments).env("NARU_CASES", requests).current_dir(root()))
}
