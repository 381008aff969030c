//! Scenarios that run, hold what they expect, and say what their transcripts say. `NARU_BLESS=1` writes
//! new transcripts, `NARU_SCENARIO=cache` plays those alone whose name has that word.

use std::fs;
use std::path::{Path, PathBuf};

use naru_plan::Surroundings;
use naru_sim::{Configs, Options, Scenario, Transcript, simulate};
use naru_spec::Config;

use crate::support::is_set;

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a directory of documents means.
pub fn documents(folder: &Path) -> Config {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut loaded = naru_doc::Loaded::default();
    for file in files {
        naru_doc::load(&file.display().to_string(), &read(&file), &mut loaded);
    }
    planned(&loaded)
}

/// What these documents mean.
pub fn documents_of(text: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("documents.yaml", text, &mut loaded);
    planned(&loaded)
}

fn planned(loaded: &naru_doc::Loaded) -> Config {
    let instances = naru_plan::pretended(&loaded.resources);
    let surroundings = Surroundings { instances, is_strict: true, ..Surroundings::default() };
    let planned = naru_plan::plan(&loaded.resources, &surroundings);
    let problems: Vec<_> = loaded.problems.iter().chain(&planned.problems).collect();
    assert!(!problems.iter().any(|problem| problem.is_error()), "{problems:#?}");
    planned.config
}

pub fn play(file: &Path, seed: u64) -> Transcript {
    let scenario = Scenario::parse("scenario.yaml", &read(file)).unwrap();
    let mut configs = Configs::new();
    for name in scenario.configs() {
        let beside = file.with_file_name(name);
        let config = match beside.is_dir() {
            true => documents(&beside),
            false => naru_xds::load(name, &read(&beside)).unwrap().config,
        };
        configs.insert(name.to_owned(), config);
    }
    simulate(&configs, &scenario, Options { seed, is_traced: false }).unwrap()
}

pub fn check(golden: &Path, text: &str) {
    if is_set("NARU_BLESS") {
        fs::write(golden, text).unwrap();
    }
    let expected = read(golden);
    for (number, (line, expected)) in (1..).zip(text.lines().zip(expected.lines())) {
        assert_eq!(line, expected, "line {number} of {}", golden.display());
    }
    assert_eq!(text, expected, "{}", golden.display());
}

fn scenarios() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder("tests/scenarios")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    found.sort();
    assert!(found.len() >= 30, "{found:?}");
    if let Ok(only) = std::env::var("NARU_SCENARIO") {
        found.retain(|path| path.file_stem().is_some_and(|name| name.to_string_lossy().contains(&only)));
    }
    found
}

#[test]
fn every_scenario_says_what_its_transcript_says() {
    for file in scenarios() {
        let transcript = play(&file, 1);
        assert!(transcript.is_as_expected(), "{}\n{transcript}", file.display());
        check(&file.with_extension("txt"), &transcript.to_string());
    }
}

#[test]
fn what_a_scenario_expects_does_not_hang_on_its_seed() {
    for file in scenarios() {
        // A few more hang on no seed, either, and take as long again.
        for seed in 2..4 {
            let transcript = play(&file, seed);
            assert!(transcript.is_as_expected(), "{} with seed {seed}\n{transcript}", file.display());
        }
    }
}

#[test]
fn the_mesh_of_the_examples_holds_what_it_expects() {
    let folder = folder("../examples/simulation-mesh");
    for seed in 1..4 {
        let transcript = play(&folder.join("scenario.yaml"), seed);
        assert!(transcript.is_as_expected(), "seed {seed}\n{transcript}");
        if seed == 1 {
            check(&folder.join("transcript.txt"), &transcript.to_string());
            check(&folder.join("timeline.svg"), &transcript.to_svg());
        }
    }
}

#[test]
fn the_gateways_of_the_examples_hold_what_they_expect() {
    let folder = folder("../examples/simulation-gateways");
    for seed in 1..3 {
        let transcript = play(&folder.join("scenario.yaml"), seed);
        assert!(transcript.is_as_expected(), "seed {seed}\n{transcript}");
        if seed == 1 {
            check(&folder.join("transcript.txt"), &transcript.to_string());
        }
    }
}
