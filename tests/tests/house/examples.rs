//! Examples that cannot rot: each is read, and compiled into the tables that decide.

use naru_journey::Snapshot;

use crate::workspace::{files, text};

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
