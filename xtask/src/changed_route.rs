//! How soon does one changed route among ten thousand reach a connected naru proxy, and how much goes over the wire?

use std::process::Command;

use anyhow::ensure;

use crate::workspace::{root, run as run_command, target};

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 10_000)]
    routes: u32,
    /// How often one of them is changed; the median is told.
    #[arg(long, default_value_t = 20)]
    changes: u32,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--package", "naru"]);
    run_command(build.current_dir(root()))?;
    let built = target().join("release/naru");
    ensure!(built.is_file(), "'{}' was not built", built.display());
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--workspace", "--test", "control_plane"]);
    cargo.args(["one_changed_route_among_many", "--", "--nocapture"]);
    cargo.env("NARU_PROGRAM", built);
    cargo.env("NARU_ROUTES", options.routes.to_string());
    cargo.env("NARU_CHANGES_OF_ROUTES", options.changes.to_string());
    run_command(cargo.current_dir(root()))
}
