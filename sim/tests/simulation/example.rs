//! The example runs, and says what its transcript says. `NARU_BLESS=1` writes a new one.

use naru_sim::{Scenario, Transcript, run};

use crate::support::is_set;

fn path(name: &str) -> String {
    format!("{}/../examples/simulation/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn transcript(seed: u64) -> Transcript {
    let scenario = Scenario::parse("scenario.yaml", &read("scenario.yaml")).unwrap();
    let loaded = naru_xds::load("envoy.yaml", &read("envoy.yaml")).unwrap();
    run(loaded.config, &scenario, seed).unwrap()
}

#[test]
fn the_example_says_what_its_transcript_says() {
    let text = transcript(1).to_string();
    if is_set("NARU_BLESS") {
        std::fs::write(path("transcript.txt"), &text).unwrap();
    }
    let expected = read("transcript.txt");
    for (number, (line, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of transcript.txt", number + 1);
    }
    assert_eq!(text, expected);
}

#[test]
fn equal_seeds_give_equal_bytes_and_different_ones_do_not() {
    let (one, again, other) = (transcript(1), transcript(1), transcript(2));
    assert_eq!(one.to_string(), again.to_string());
    assert_eq!(one.to_json(), again.to_json());
    assert_ne!(one.to_string(), other.to_string());
    assert_ne!(one.to_json(), other.to_json());
}

#[test]
fn the_example_shows_what_it_promises() {
    let transcript = transcript(3);
    let summary = &transcript.summary;
    let requests =
        |name: &str| summary.by_cluster.iter().find(|cluster| cluster.cluster == name).unwrap().requests;
    // The canary has its tenth.
    let share = requests("orders-v2") * 100 / (requests("orders-v1") + requests("orders-v2"));
    assert!((8..=12).contains(&share), "{share}");
    let reason = |name: &str| {
        summary.by_reason.iter().find(|count| count.reason == name).map_or(0, |count| count.requests)
    };
    assert!(reason("ConnectFailure") > 100 && reason("RouteTimeout") > 0 && reason("ClientAborted") > 0);
    // The endpoint fails for its ten seconds, and for these only.
    for interval in &transcript.intervals {
        let is_failing = (20_000_000..30_000_000).contains(&interval.at_us);
        assert_eq!(interval.by_class[3] > 20, is_failing, "{interval:?}");
    }
    let json: serde_json::Value = serde_json::from_str(&transcript.to_json()).unwrap();
    assert_eq!(json["summary"]["requests"], summary.requests);
    assert_eq!(json["summary"]["active_at_end"]["permits"], 0);
    assert_eq!(json["intervals"].as_array().unwrap().len(), 12);
}
