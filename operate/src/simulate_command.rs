//! `naru simulate`: a scenario on virtual time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use naru_plan::{Surroundings, pretended};
use naru_sim::runner::TRACE_MAX;
use naru_sim::{Configs, Options, RunError, Scenario, Transcript};
use naru_sources::Texts;
use naru_spec::config::Place;
use naru_spec::{Config, Invalid, Problem};

use crate::check_command::check_loaded;
use crate::cli::{Failure, Output, SimulateArgs};
use crate::problems;
use crate::say::say;

pub fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let file = args.scenario.display().to_string();
    let text = read(&args.scenario)?;
    let scenario = Scenario::parse(&file, &text)
        .map_err(|found| problems::refuse(&found, &|_| Some(&text), args.output))?;
    // The scenario names its configurations as they are seen from where the scenario stands.
    let home = args.scenario.parent().unwrap_or(Path::new(""));
    let mut sources = BTreeMap::new();
    let mut configs = Configs::new();
    for name in scenario.configs() {
        let beside = home.join(name);
        let source = if beside.is_dir() { Source::directory(&beside)? } else { Source::envoy(&beside)? };
        configs.insert(name.to_owned(), source.config(args.output)?);
        sources.insert(name.to_owned(), source);
    }
    let options = Options { seed: args.seed, is_traced: args.trace.is_some() };
    match naru_sim::simulate(&configs, &scenario, options) {
        Ok(transcript) => tell(&transcript, args),
        Err(RunError::Config { name, problems: found }) => match (sources.get(&name), configs.get(&name)) {
            (Some(source), Some(config)) => {
                let problems = source.locate(config, &found);
                Err(problems::refuse(&problems, &|file| source.text(file), args.output))
            }
            _ => Err(RunError::Config { name, problems: found }.into()),
        },
        Err(RunError::Scenario(found)) => Err(problems::refuse(&found, &|_| Some(&text), args.output)),
        Err(error @ RunError::Violated { .. }) => Err(error.into()),
    }
}

fn tell(transcript: &Transcript, args: &SimulateArgs) -> Result<(), Failure> {
    match args.output {
        Output::Text => say(&transcript.to_string())?,
        Output::Json => say(&format!("{}\n", transcript.to_json()))?,
    }
    if let Some(file) = &args.svg {
        write(file, &transcript.to_svg())?;
    }
    if let Some(file) = &args.trace {
        write(file, &transcript.trace_lines())?;
        if transcript.is_trace_cut {
            naru_say::say!(
                "warning: the trace ends after {TRACE_MAX} requests\n  help: simulate a shorter time, or less load"
            );
        }
    }
    if transcript.is_as_expected() {
        return Ok(());
    }
    for judged in transcript.expectations.iter().filter(|judged| !judged.holds) {
        naru_say::say!("error: {}: expected {}, measured {}", judged.what, judged.expected, judged.measured);
    }
    Err(Failure::Told)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    Ok(std::fs::write(file, text).with_context(|| format!("'{}' cannot be written", file.display()))?)
}

/// Where the configuration of a scenario comes from.
enum Source {
    Envoy { file: String, text: String },
    Documents(Texts),
}

impl Source {
    fn envoy(path: &Path) -> Result<Source, Failure> {
        Ok(Source::Envoy { file: path.display().to_string(), text: read(path)? })
    }

    fn directory(path: &Path) -> Result<Source, Failure> {
        Ok(Source::Documents(Texts::read(&[path.to_owned()])?))
    }

    fn text(&self, file: &str) -> Option<&str> {
        match self {
            Source::Envoy { text, .. } => Some(text),
            Source::Documents(texts) => texts.text(file),
        }
    }

    fn config(&self, output: Output) -> Result<Config, Failure> {
        let refuse = |found: &[Problem]| problems::refuse(found, &|file| self.text(file), output);
        match self {
            Source::Envoy { file, text } => {
                naru_xds::load(file, text).map(|loaded| loaded.config).map_err(|found| refuse(&found))
            }
            Source::Documents(texts) => {
                let loaded = texts.load();
                let instances = pretended(&loaded.resources);
                let surroundings = Surroundings { instances, is_strict: true, ..Surroundings::default() };
                let checked = check_loaded(&loaded, &surroundings);
                checked.compiled.map(|(config, _)| config).ok_or_else(|| {
                    let errors: Vec<_> = checked.problems.into_iter().filter(Problem::is_error).collect();
                    refuse(&errors)
                })
            }
        }
    }

    fn locate(&self, config: &Config, found: &[(Place, Invalid)]) -> Vec<Problem> {
        match self {
            Source::Envoy { file, text } => naru_xds::locate(file, text, found),
            Source::Documents(texts) => naru_plan::locate(config, found, &texts.load().resources.files),
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path);
    Ok(text.with_context(|| format!("'{}' cannot be read", path.display()))?)
}
