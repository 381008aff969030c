//! Does anything that foreign bytes can say break us? For as long as you like.
//!
//! Runs the targets of `fuzz/` one after the other, from the seeds in `fuzz/corpus`. What the fuzzer
//! finds new on its way goes to `target/fuzz/corpus`, what breaks something to `fuzz/artifacts`: move
//! that to `fuzz/corpus` under a name that says what it is, and the ordinary tests replay it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use crate::workspace::{find_program, root, run as run_command, target};

#[derive(clap::Args)]
pub struct Options {
    /// Only these; all where none is named.
    targets: Vec<String>,
    /// How long for each of them.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let known = targets()?;
    for name in &options.targets {
        ensure!(known.contains(name), "there is no target '{name}'; there are {}", known.join(", "));
    }
    let program = cargo_fuzz()?;
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    for name in chosen {
        println!("== {name}, for {} seconds", options.seconds);
        let seeds = root().join("fuzz/corpus").join(name);
        let found = target().join("fuzz/corpus").join(name);
        fs::create_dir_all(&found)?;
        let mut command = Command::new(&program);
        // Our code has no unsafe part that a sanitizer could watch, and without one stable Rust will do.
        command.args(["fuzz", "run", "--sanitizer", "none", name]).args([&found, &seeds]);
        command.arg("--target-dir").arg(target().join("fuzz/build")).arg("--");
        command.arg(format!("-max_total_time={}", options.seconds));
        command.args(["-max_len=4096", "-timeout=30", "-rss_limit_mb=4096", "-print_final_stats=1"]);
        let words = root().join("fuzz/words").join(name);
        if words.exists() {
            command.arg(format!("-dict={}", words.display()));
        }
        run_command(command.current_dir(root()))?;
    }
    Ok(())
}

fn targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// cargo-fuzz, built once where it is not installed.
fn cargo_fuzz() -> anyhow::Result<PathBuf> {
    if let Some(program) = find_program("cargo-fuzz") {
        return Ok(program);
    }
    let tools = target().join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.exists() {
        println!("== building cargo-fuzz, which is not installed");
        run_command(
            Command::new(env!("CARGO")).args(["install", "--locked", "cargo-fuzz", "--root"]).arg(&tools),
        )?;
    }
    Ok(program)
}
