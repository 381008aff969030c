//! Is everything as it should be? The gate, the same here and in continuous integration.
//!
//! Brings what is missing first. Stops at the first step that fails. The tests come last, so that their closing line is the last thing said.

use std::process::Command;

use anyhow::Context;

use crate::setup;
use crate::workspace::{output, root, run as run_command};

#[derive(clap::Args)]
pub struct Options {
    /// Only what is quick: the form of the sources, lints, tests.
    #[arg(long)]
    quick: bool,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    println!("== tools: cargo xtask setup");
    setup::run(&setup::Options::default())?;
    step("form", &["fmt", "--all", "--check"])?;
    step("lints", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    if !options.quick {
        step("release build", &["build", "--release", "--package", "naru"])?;
        step("examples in the documentation", &["test", "--workspace", "--doc"])?;
    }
    let has_nextest = output(Command::new(env!("CARGO")).args(["nextest", "--version"])).is_ok();
    let tests: &[&str] = if has_nextest {
        &["nextest", "run", "--workspace"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]
    };
    step("tests", tests)
}

fn step(name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    println!("== {name}: cargo {}", arguments.join(" "));
    run_command(Command::new(env!("CARGO")).args(arguments).current_dir(root()))
        .with_context(|| format!("the step '{name}' failed; cargo {}", arguments.join(" ")))
}
