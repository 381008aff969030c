//! Examples that cannot rot: each is read, and compiled into the tables that decide.

use naru_journey::Snapshot;

use crate::workspace::{files, text};

/// A directory of documents means something, and nothing in it is wrong; with each of the routings that
/// may be copied into it.
#[test]
fn every_directory_of_documents_is_fine() {
    let read = |files: &[String]| {
        let mut loaded = naru_doc::Loaded::default();
        files.iter().for_each(|file| naru_doc::load(file, &text(file), &mut loaded));
        let surroundings = naru_plan::Surroundings { is_strict: true, ..Default::default() };
        let planned = naru_plan::plan(&loaded.resources, &surroundings);
        let problems = loaded.problems.iter().chain(&planned.problems);
        let told: Vec<String> = problems.map(|problem| problem.to_string()).collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
        Snapshot::compile(planned.config).unwrap_or_else(|found| panic!("{files:?}: {found:#?}"));
    };
    read(&files("examples/read-write-groups", &["yaml"]));
    read(&files("examples/sessions", &["yaml"]));
    read(&files("examples/dailyfeed", &["yaml"]));
    read(&files("examples/maltan", &["yaml"]));
    read(&files("examples/simulation-surge", &["yaml"]));
    read(&files("examples/simulation-gateways/mesh", &["yaml"]));
    let whole = files("examples/bookinfo", &["yaml"]);
    assert!(whole.len() >= 4, "{whole:?}");
    read(&whole);
    let without_routing: Vec<String> =
        whole.into_iter().filter(|file| !file.ends_with("routing.yaml")).collect();
    let routings = files("examples/bookinfo-routings", &["yaml"]);
    assert!(routings.len() >= 5, "{routings:?}");
    for routing in routings {
        read(&[without_routing.clone(), vec![routing]].concat());
    }
}

#[test]
fn every_example_can_be_run() {
    let examples: Vec<_> = files("examples", &["yaml", "json"])
        .into_iter()
        .filter(|file| file.rsplit('/').next().is_some_and(|name| name.starts_with("envoy")))
        .collect();
    assert!(!examples.is_empty(), "where are the examples?");
    for file in examples {
        let loaded = naru_xds::load(&file, &text(&file)).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
        });
        Snapshot::compile(loaded.config).unwrap_or_else(|found| panic!("{file}: {found:#?}"));
    }
}
