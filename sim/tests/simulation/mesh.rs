//! Services that call services, each through a proxy of its own.

use std::collections::BTreeMap;

use naru_sim::{Configs, Options, RunError, Scenario, Transcript, simulate};

/// A scenario without a configuration.
pub fn play(yaml: &str, seed: u64) -> Transcript {
    play_traced(yaml, seed, true)
}

pub fn play_traced(yaml: &str, seed: u64, is_traced: bool) -> Transcript {
    let scenario = Scenario::parse("s.yaml", yaml).unwrap_or_else(|problems| panic!("{yaml}{problems:?}"));
    let options = Options { seed, is_traced };
    simulate(&Configs::new(), &scenario, options).unwrap_or_else(|error| panic!("{yaml}{error}"))
}

/// How often each service was reached.
pub fn arrived(transcript: &Transcript) -> BTreeMap<String, u64> {
    let mut arrived = BTreeMap::new();
    for service in &transcript.summary.by_service {
        *arrived.entry(service.service.clone()).or_default() += service.arrived;
    }
    arrived
}

fn statuses(transcript: &Transcript) -> Vec<(u16, u64)> {
    transcript.summary.by_status.iter().map(|count| (count.status, count.requests)).collect()
}

const CHAIN: &str = "\
duration: 10s
load:
  - name: clients
    arrivals: { constant: 100/s }
    requests: [{ path: /, host: a }]
services:
  - { name: a, latency: 1ms, connect: 0s, body: { bytes: 0 }, calls: [{ host: b }] }
  - { name: b, latency: 2ms, connect: 0s, body: { bytes: 0 }, calls: [{ host: c }] }
  - { name: c, latency: 4ms, connect: 0s, body: { bytes: 0 } }
";

#[test]
fn a_request_takes_as_long_as_all_that_is_done_for_it() {
    let transcript = play(CHAIN, 1);
    let summary = &transcript.summary;
    assert_eq!((summary.requests, summary.tries, summary.hops), (999, 999, 3 * 999));
    assert_eq!((summary.latency.min_us, summary.latency.max_us), (7_000, 7_000));
    assert_eq!(arrived(&transcript), BTreeMap::from(["a", "b", "c"].map(|name| (name.to_owned(), 999))));
    let latencies: Vec<u64> = summary.by_service.iter().map(|service| service.latency.p50_us).collect();
    assert_eq!(latencies, [7_000, 6_000, 4_000]);
    // Each instance has a proxy of its own.
    assert_eq!(summary.by_proxy.iter().map(|proxy| proxy.count).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_trace_is_a_tree() {
    let transcript = play(CHAIN, 1);
    let hops: BTreeMap<u64, _> = transcript.trace.iter().map(|hop| (hop.number, hop)).collect();
    assert_eq!(hops.len(), 3 * 999);
    for hop in &transcript.trace {
        let depth = std::iter::successors(hop.parent, |parent| hops[parent].parent).count();
        let expected = ["edge", "a", "b"][depth];
        assert_eq!(hop.proxy, expected, "{hop:?}");
        if let Some(parent) = hop.parent {
            assert!(hops[&parent].at_us <= hop.at_us && hop.ended_us <= hops[&parent].ended_us);
        }
    }
    let lines = transcript.trace_lines();
    assert_eq!(lines.lines().count(), 3 * 999);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((first["proxy"].as_str(), first["endpoint"].as_str()), (Some("edge"), Some("10.0.4.1:8080")));
}

#[test]
fn calls_are_made_in_turn_or_together_and_by_their_shares() {
    let check = |calls: &str, expected_us: u64| {
        let yaml = CHAIN.replace("[{ host: b }]", calls).replace(", calls: [{ host: c }]", "");
        assert_eq!(play(&yaml, 1).summary.latency.max_us, expected_us, "{calls}");
    };
    check("[{ host: b }, { host: c }]", 1_000 + 2_000 + 4_000);
    check("[{ host: b }, { host: c, with_previous: true }]", 1_000 + 4_000);
    check("[{ host: b, share: 0% }, { host: c, with_previous: true }]", 1_000 + 4_000);
    check("[{ host: b, share: 0% }, { host: b }, { host: c, share: 0% }]", 1_000 + 2_000);
    check("[{ host: b, share: 0% }]", 1_000);
    let yaml = CHAIN.replace("[{ host: b }]", "[{ host: b, share: 30% }]");
    let reached = arrived(&play(&yaml, 1))["b"];
    assert!((240..360).contains(&reached), "{reached}");
}

#[test]
fn what_fails_below_fails_above_unless_it_can_be_done_without() {
    let failing = |b: &str| CHAIN.replace("name: c, ", "name: c, status: 500, ").replace("{ host: c }", b);
    assert_eq!(statuses(&play(&failing("{ host: c }"), 1)), [(503, 999)]);
    assert_eq!(statuses(&play(&failing("{ host: c, optional: true }"), 1)), [(200, 999)]);
    let yaml = failing("{ host: c }").replace("name: b, ", "name: b, fails_with: 502, ");
    // What a service answers where its call fails is its own affair.
    assert_eq!(statuses(&play(&yaml, 1)), [(503, 999)]);
    assert_eq!(play(&yaml, 1).summary.by_service[1].by_class, [0, 0, 0, 999]);
    // No proxy knows the way: a 404 is an answer like any other.
    let nowhere = play(&CHAIN.replace("{ host: c }", "{ host: nowhere }"), 1);
    assert_eq!((statuses(&nowhere), arrived(&nowhere)["c"]), (vec![(200, 999)], 0));
}

#[test]
fn a_server_is_held_while_calls_are_under_way_or_not() {
    let latency = |more: &str| {
        let yaml = CHAIN.replace("name: a, ", &format!("name: a, servers: 1, {more}"));
        let yaml = yaml.replace("constant: 100/s", "herd: { count: 10 }");
        play(&yaml, 1).summary.latency.max_us
    };
    // One after the other all the way, or only its own millisecond.
    assert_eq!(latency(""), 10 * 7_000);
    assert_eq!(latency("holds_server: false, "), 10 * 1_000 + 6_000);
}

#[test]
fn a_deadline_is_handed_on_and_what_it_is_too_late_for_is_not_begun() {
    let yaml = |deadline: &str| {
        CHAIN
            .replace("arrivals:", "deadline: 5ms\n    arrivals:")
            .replace("name: a, ", &format!("name: a, deadline: {deadline}, "))
            .replace("name: b, latency: 2ms, ", &format!("name: b, latency: 6ms, deadline: {deadline}, "))
    };
    let counts = |transcript: &Transcript| {
        let of = |at: usize| &transcript.summary.by_service[at];
        (of(2).arrived, of(1).late, of(0).late)
    };
    let ignored = play(&yaml("ignored"), 1);
    assert_eq!((statuses(&ignored), counts(&ignored)), (vec![(0, 999)], (999, 0, 0)));
    let obeyed = play(&yaml("obeyed"), 1);
    // b hears of the 5 ms through a, and does not ask c after them; a gives up with its client.
    assert_eq!((statuses(&obeyed), counts(&obeyed)), (vec![(0, 999)], (0, 999, 999)));
}

#[test]
fn a_timeout_of_a_call_is_a_failure_of_it() {
    let yaml = CHAIN.replace("{ host: c }", "{ host: c, timeout: 3ms, optional: true }");
    let transcript = play(&yaml, 1);
    assert_eq!(statuses(&transcript), [(200, 999)]);
    assert_eq!(transcript.summary.latency.max_us, 1_000 + 2_000 + 3_000);
}

#[test]
fn an_instance_that_nobody_waits_for_finishes_or_stops() {
    let yaml = |abandoned: &str| {
        CHAIN
            .replace("arrivals:", "patience: 2ms\n    arrivals:")
            .replace("name: a, ", &format!("name: a, abandoned: {abandoned}, servers: 1, "))
    };
    let finished = play(&yaml("finished"), 1);
    let [a, _, c] = finished.summary.by_service.as_slice() else { panic!() };
    assert_eq!((a.by_class, a.stopped, c.arrived), ([999, 0, 0, 0], 0, 999));
    let stopped = play(&yaml("stopped"), 1);
    let [a, b, c] = stopped.summary.by_service.as_slice() else { panic!() };
    // Its call is given up with it; b, who does not stop, goes on for nobody.
    assert_eq!((a.by_class, a.stopped, b.arrived, c.arrived), ([0; 4], 999, 999, 999));
    assert_eq!((b.stopped, a.working_max), (0, 1));
}

#[test]
fn versions_have_their_shares_their_latencies_and_their_calls() {
    let yaml = "\
duration: 50s
load:
  - name: clients
    arrivals: { poisson: 200/s }
    requests: [{ path: /, host: a }]
services:
  - name: a
    latency: 1ms
    replicas: 3
    versions:
      - { name: v1, weight: 90 }
      - { name: v2, weight: 10, replicas: 1, latency: 9ms, calls: [{ host: b }] }
  - { name: b, latency: 1ms }
expect:
  - { measure: share, service: a, version: v2, at_least: 9%, at_most: 11% }
  - { measure: p50, service: a, version: v1, at_least: 1ms, at_most: 1ms }
  - { measure: p50, service: a, version: v2, at_least: 10ms }
  - { measure: amplification, service: b, at_least: 0.09x, at_most: 0.11x }
";
    let transcript = play(yaml, 4);
    assert!(transcript.is_as_expected(), "{transcript}");
    let [v1, v2, b] = transcript.summary.by_service.as_slice() else { panic!() };
    assert_eq!((v1.version.as_str(), v2.version.as_str(), b.version.as_str()), ("v1", "v2", ""));
    assert_eq!(b.arrived, v2.arrived);
    let endpoints = |at: usize| transcript.summary.by_cluster[at].endpoints.len();
    assert_eq!((endpoints(0), endpoints(1)), (3, 1));
}

#[test]
fn services_that_would_ask_each_other_for_ever_are_refused() {
    let problem = |yaml: &str| {
        let scenario = Scenario::parse("s.yaml", yaml).unwrap();
        match simulate(&Configs::new(), &scenario, Options { seed: 1, is_traced: false }) {
            Err(RunError::Scenario(problems)) => problems[0].to_string(),
            other => panic!("{other:?}"),
        }
    };
    let told = problem(&CHAIN.replace("name: c, ", "name: c, calls: [{ host: a }, { host: a }], "));
    assert!(told.contains("comes back to it: a > b > c > a"), "{told}");
    assert!(told.contains("s.yaml:7"), "{told}");
    let told = problem(&CHAIN.replace("host: b }", "host: a, share: 90%, with_previous: true }"));
    assert!(told.contains("comes back to it: a > a"), "{told}");
}
