//! Does naru read HTTP/1 as Envoy, nginx, HAProxy and Node.js do, but where it is stricter? Many more generated messages
//! than the ordinary tests send.

use std::process::Command;

use crate::workspace::{root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let arguments = ["test", "--workspace", "--test", "data_plane", "http1::beside", "--", "--nocapture"];
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).env("NARU_CASES", options.messages.to_string());
    run_command(cargo.env("NARU_SEED", options.seed.to_string()).current_dir(root()))
}
