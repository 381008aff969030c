//! A calls B, B calls C, C calls D, and D fails. Everybody tries three times: how often is D called?

use naru_sim::{Scenario, Transcript, run};
use naru_spec::{Action, Cluster, Config, Forward, RetryBudget, RetryLimit, RetryOn, RetryPolicy};

use crate::mesh::arrived;
use crate::support::{cluster, config, forward, rule};

/// All proxies have this configuration. `is_trusted` says whether they believe what services of the mesh say.
fn mesh(limit: RetryLimit, is_trusted: bool) -> Config {
    let retry = RetryPolicy { retries_max: 2, ..RetryPolicy::new(RetryOn::SERVER_ERROR) };
    let action = |name: &str, retry: Option<RetryPolicy>| {
        Action::Forward(Box::new(Forward { retry, timeout: None, ..forward(name) }))
    };
    let rules = vec![
        rule("/a", action("a", None)),
        rule("/b", action("b", Some(retry.clone()))),
        rule("/c", action("c", Some(retry.clone()))),
        rule("/d", action("d", Some(retry))),
    ];
    let clusters = ["a", "b", "c", "d"].iter().zip(1..).map(|(name, octet): (_, u8)| {
        let mut cluster: Cluster = cluster(name, &[&format!("10.0.0.{octet}:80")]);
        cluster.limits = naru_spec::ClusterLimits::istio();
        cluster.limits.normal.retries = limit;
        cluster
    });
    let mut config = config(rules, clusters.collect());
    let http = &mut config.listeners[0].chains[0].http;
    if is_trusted {
        http.use_remote_address = true;
        http.internal_networks = vec!["127.0.0.0/8".parse().unwrap()];
    }
    config
}

fn storm(config: Config, hints: &str, rate: u32) -> Transcript {
    let yaml = format!(
        "\
config: made in code
duration: 2s
load:
  - name: clients
    arrivals: {{ poisson: {rate}/s }}
    requests: [{{ path: /a, host: a.example }}]
services:
  - {{ name: a, serves: [a], latency: 1ms, retry_hints: {hints}, calls: [{{ host: a.example, path: /b }}] }}
  - {{ name: b, serves: [b], latency: 1ms, retry_hints: {hints}, calls: [{{ host: a.example, path: /c }}] }}
  - {{ name: c, serves: [c], latency: 1ms, retry_hints: {hints}, calls: [{{ host: a.example, path: /d }}] }}
  - {{ name: d, serves: [d], latency: 100ms, status: 503 }}
"
    );
    let scenario = Scenario::parse("storm.yaml", &yaml).unwrap_or_else(|problems| panic!("{problems:?}"));
    run(config, &scenario, 1).unwrap_or_else(|error| panic!("{error}"))
}

/// How often each service was called for each request of a client, in hundredths.
fn calls(transcript: &Transcript) -> [u64; 4] {
    let (arrived, requests) = (arrived(transcript), transcript.summary.requests);
    ["a", "b", "c", "d"].map(|name| arrived[name] * 100 / requests)
}

const BUDGET: RetryLimit = RetryLimit::Budget(RetryBudget {
    share_ppm: 200_000,
    concurrency_min: 3,
    interval: std::time::Duration::ZERO,
});
const WITHOUT_END: RetryLimit = RetryLimit::Concurrent(u32::MAX);

#[test]
fn the_layer_nearest_to_the_failure_retries_alone_and_within_its_budget() {
    assert_eq!(BUDGET, RetryLimit::Budget(RetryBudget::default()), "where nothing else is said");
    let transcript = storm(mesh(BUDGET, true), "passed", 1_500);
    let [a, b, c, d] = calls(&transcript);
    assert_eq!((a, b, c), (100, 100, 100), "{transcript}");
    assert!((110..=130).contains(&d), "{d}");
    // A hundred requests and more were under way, most of them at D.
    let active = transcript.intervals.iter().map(|interval| interval.active).max().unwrap();
    assert!(active >= 100, "{active}");
    // All were answered what D answered.
    let by_status: Vec<u16> = transcript.summary.by_status.iter().map(|count| count.status).collect();
    assert_eq!(by_status, [503]);
}

#[test]
fn without_a_budget_it_still_retries_alone() {
    let transcript = storm(mesh(WITHOUT_END, true), "passed", 200);
    assert_eq!(calls(&transcript), [100, 100, 100, 300], "{transcript}");
}

#[test]
fn proxies_that_believe_nobody_know_what_was_tried_again_by_its_name() {
    let transcript = storm(mesh(WITHOUT_END, false), "passed", 50);
    assert_eq!(calls(&transcript), [100, 100, 100, 300], "{transcript}");
    let transcript = storm(mesh(BUDGET, false), "passed", 1_500);
    let [a, b, c, d] = calls(&transcript);
    assert_eq!((a, b, c), (100, 100, 100), "{transcript}");
    assert!((110..=130).contains(&d), "{d}");
}

#[test]
fn every_layer_by_itself_calls_the_last_27_times() {
    // Services that hand on nothing.
    for is_trusted in [true, false] {
        let transcript = storm(mesh(WITHOUT_END, is_trusted), "dropped", 50);
        assert_eq!(calls(&transcript), [100, 300, 900, 2_700], "{transcript}");
    }
}

/// B fails by itself, and asks D, which always fails, though it can do without. How often B and D are called for each
/// request.
fn repeats(hints: &str) -> [u64; 2] {
    let yaml = format!(
        "\
config: made in code
duration: 2s
load:
  - {{ name: clients, client: 127.0.0.1, arrivals: {{ poisson: 50/s }}, requests: [{{ path: /b, host: a.example }}] }}
services:
  - {{ name: rest, serves: [a, c], latency: 1ms }}
  - name: b
    serves: [b]
    latency: 1ms
    retry_hints: {hints}
    faults: [{{ share: 100%, fault: {{ status: 503 }} }}]
    calls: [{{ host: a.example, path: /d, optional: true }}]
  - {{ name: d, serves: [d], latency: 1ms, status: 503 }}
"
    );
    let scenario = Scenario::parse("repeats.yaml", &yaml).unwrap();
    let transcript = run(mesh(WITHOUT_END, true), &scenario, 1).unwrap();
    let arrived = arrived(&transcript);
    ["b", "d"].map(|name| arrived[name] / transcript.summary.requests)
}

#[test]
fn who_fails_after_a_call_of_its_own_was_retried_for_nothing_is_not_retried() {
    // That B could have done without D is not seen from outside.
    assert_eq!(repeats("passed"), [1, 3]);
    assert_eq!(repeats("dropped"), [3, 9]);
}
