//! `naru simulate`: a scenario on virtual time.

use std::path::Path;

use anyhow::Context as _;
use naru_sim::{RunError, Scenario};

use crate::cli::{Failure, Output, SimulateArgs};
use crate::problems;
use crate::say::say;

pub fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let file = args.scenario.display().to_string();
    let text = read(&args.scenario)?;
    let scenario = Scenario::parse(&file, &text)
        .map_err(|found| problems::refuse(&found, &|_| Some(&text), args.output))?;
    // The scenario names its configuration as it is seen from where the scenario stands.
    let beside = args.scenario.parent().unwrap_or(Path::new("")).join(&scenario.config);
    let config_file = beside.display().to_string();
    let config_text = read(&beside)?;
    let loaded = naru_xds::load(&config_file, &config_text)
        .map_err(|found| problems::refuse(&found, &|_| Some(&config_text), args.output))?;
    match naru_sim::run(loaded.config, &scenario, args.seed) {
        Ok(transcript) => {
            match args.output {
                Output::Text => say(&transcript.to_string())?,
                Output::Json => say(&format!("{}\n", transcript.to_json()))?,
            }
            Ok(())
        }
        Err(RunError::Config(found)) => Err(problems::refuse(
            &naru_xds::locate(&config_file, &config_text, &found),
            &|_| Some(&config_text),
            args.output,
        )),
        Err(RunError::Scenario(found)) => Err(problems::refuse(&found, &|_| Some(&text), args.output)),
        Err(error @ RunError::Violated { .. }) => Err(error.into()),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    Ok(text.with_context(|| format!("'{}' cannot be read", path.display()))?)
}
