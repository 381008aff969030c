//! What does not fit together is told with its place, all of it at once.

use naru_sim::{Configs, Options, RunError, Scenario, run, simulate};

use crate::support::plain;

fn problems(yaml: &str) -> Vec<String> {
    let scenario = Scenario::parse("s.yaml", yaml).unwrap();
    match run(plain(), &scenario, 1) {
        Err(RunError::Scenario(problems)) => problems
            .iter()
            .map(|problem| format!("{}: {} [{}]", problem.line, problem.message, problem.code))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_problem_of_a_scenario_is_told() {
    let yaml = "\
config: none
duration: 10s
workers: 5000
transcript: { interval: 1us }
load:
  - name: a
    listener: side
    arrivals: { poisson: 1/s }
    requests: [{ path: /, host: h }]
  - name: a
    from: 20s
    arrivals: { poisson: 1/s }
    requests:
      - { path: orders, host: h }
      - { path: /, host: 'a b', method: 'G T', headers: { x y: z } }
services:
  - name: s
    serves: [nothing]
    status: 99
    faults: [{ share: 60%, fault: reset }, { share: 50%, fault: hang }]
    during:
      - { from: 5s, to: 4s, endpoints: ['10.0.0.9:80'] }
";
    let expected = [
        "0: there are 5000 workers, at most 1024 are possible [invalid-value]",
        "0: an interval lasts a millisecond at least, and there are at most 100000 [invalid-value]",
        "18: 'nothing' is no cluster and no endpoint of the configuration [unknown-name]",
        "0: no service stands behind 10.0.0.1:80 of cluster 'one' [not-served]",
        "19: 99 is no status of a response, which is 200 to 599 [invalid-value]",
        "20: the shares of the faults add up to more than all requests [invalid-value]",
        "22: it ends before it begins [invalid-value]",
        "22: '10.0.0.9:80' is no endpoint of this service [unknown-name]",
        "7: 'side' is no listener of the configuration [unknown-name]",
        "10: two loads have this name [defined-twice]",
        "10: this load ends before it begins [invalid-value]",
        "14: 'orders' is no path, which begins with '/' [invalid-value]",
        "15: 'G T' is no method [invalid-value]",
        "15: 'a b' is no host [invalid-value]",
        "15: 'x y: z' is no header [invalid-value]",
    ];
    assert_eq!(problems(yaml), expected);
}

#[test]
fn a_listener_whose_bytes_are_passed_through_is_not_played() {
    let mut config = plain();
    let tcp = naru_spec::TcpProxy::new("tcp", naru_spec::ClusterChoice::One(config.clusters[0].name.clone()));
    config.listeners[0].chains[0].tcp = Some(tcp);
    let yaml = "\
config: none
duration: 1s
load:
  - name: a
    arrivals: { poisson: 1/s }
    requests:
      - { path: /, host: h }
services:
  - { name: s, serves: [one] }
";
    let scenario = Scenario::parse("s.yaml", yaml).unwrap();
    let Err(RunError::Scenario(told)) = run(config, &scenario, 1) else { panic!("it was played") };
    let told: Vec<&str> = told.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        told,
        ["the bytes of this listener are passed through, and the simulator plays requests only"]
    );
}

#[test]
fn who_asks_and_what_stands_around_is_what_the_configuration_asks_for() {
    let yaml = "\
config: none
duration: 1s
load:
  - name: l
    arrivals: { constant: 1/s }
    requests:
      - { path: /, host: a, as: { token: { sub: me }, wrong_password: true } }
      - { path: /, host: a, as: { key: mine } }
      - { path: /, host: a, as: { session_is: expired } }
services:
  - { name: s, serves: [one], headers: { 'a b': c }, etag_for: 0s }
stores:
  - { at: '10.0.9.1:6379', during: [{ from: 2s, to: 1s }] }
expect:
  - { measure: reasons, at_least: 1 }
  - { measure: kept, service: s, at_least: 1% }
";
    let asks = |line: u32, what: &str| {
        format!(
            "{line}: nothing in the configuration asks for a {what} where this request comes in [no-effect]"
        )
    };
    let expected = [
        "11: 'a b: c' is no header [invalid-value]".to_owned(),
        "11: what is given stays the same for some time [invalid-value]".to_owned(),
        asks(7, "token"),
        "7: a password is that of a 'user' [contradiction]".to_owned(),
        asks(8, "key"),
        asks(9, "session"),
        "13: '10.0.9.1:6379' is the address of no store of the configuration [unknown-name]".to_owned(),
        "13: it ends before it begins [invalid-value]".to_owned(),
        "0: the configuration counts and keeps nothing in a store [invalid-value]".to_owned(),
        "15: ends of one kind are counted: 'measure: reasons' goes with 'reason' [contradiction]".to_owned(),
        "16: what is kept, and why requests end, is known of loads [contradiction]".to_owned(),
    ];
    assert_eq!(problems(yaml), expected);
}

#[test]
fn an_endpoint_has_one_service() {
    let yaml = "\
config: none
duration: 1s
load: []
services:
  - { name: s, serves: [one, '10.0.0.1:80'] }
  - { name: t, serves: [one] }
  - { name: s, serves: [] }
";
    let expected = [
        "6: 'one' is served by 's' already [served-twice]",
        "7: two services have this name [defined-twice]",
    ];
    assert_eq!(problems(yaml), expected);
}

#[test]
fn every_problem_of_a_mesh_is_told_with_what_was_probably_meant() {
    let yaml = "\
duration: 10s
load:
  - { name: clients, arrivals: { herd: { count: 5, every: 0s } }, requests: [{ path: /, host: a }] }
services:
  - name: a
    serves: [a]
    outbound: { workers: 2000, listener: mush }
    calls: [{ host: b }]
    during:
      - { from: 1s, services: [a], slow_start: 2x }
      - { from: 1s, replicas: [2], state: down }
  - { name: b, versions: [{ name: v1 }, { name: v1x, zones: [east] }], fails_with: 99 }
  - { name: c, calls: [{ host: 'b c', path: x, retry: { attempts: 5000 } }] }
events:
  - { from: 2s, services: [bb], versions: [v2], zones: [aest], state: stuck }
expect:
  - { measure: p99, load: client, at_most: 1% }
  - { measure: share, service: b, at_least: 1% }
  - { measure: errors, service: b, version: v1y, at_most: 1% }
  - { measure: changes, from: 11s, at_most: many }
  - { measure: rate, service: a, load: clients }
";
    let scenario = Scenario::parse("s.yaml", yaml).unwrap();
    let told = match simulate(&Configs::new(), &scenario, Options { seed: 1, is_traced: false }) {
        Err(RunError::Scenario(problems)) => problems,
        other => panic!("{other:?}"),
    };
    let told: Vec<String> = told
        .iter()
        .map(|problem| {
            format!("{}: {} {}", problem.line, problem.message, problem.hint).trim_end().to_owned()
        })
        .collect();
    let expected = [
        "5: there are 2000 workers, at most 1024 are possible",
        "3: the next herd comes before this one is there, or within a millisecond",
        "6: there is no configuration whose clusters it could serve: the scenario names none",
        "12: 99 is no status of a response, which is 200 to 599",
        "7: 'mush' is no listener of the configuration did you mean 'mesh'?",
        "13: there are 5000 attempts, at most 1000 are possible",
        "13: 'x' is no path, which begins with '/'",
        "13: 'b c' is no host",
        "10: the services are named where a window does not stand in one already",
        "10: a slow start has an end",
        "11: there is no replica 2, only 1",
        "15: 'bb' is no service of the scenario did you mean 'b'?",
        "15: 'v2' is no version here did you mean 'v1'?",
        "15: 'aest' is no zone here did you mean 'east'?",
        "17: 'client' is no load of the scenario did you mean 'clients'?",
        "17: '1%' is no length of time, which looks like '250ms', '1.5s' or '2m'",
        "18: a share is that of a version, which is to be named with its service",
        "19: 'v1y' is no version of 'b' did you mean 'v1'?",
        "20: the window of this expectation ends before it begins",
        "20: changes of one kind are counted: 'measure: changes' goes with 'change'",
        "20: 'many' is no count",
        "21: what reaches a service is measured from whomever it comes",
        "21: an expectation says 'at_least', 'at_most' or both",
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_a_configuration_says_is_not_said_again() {
    let yaml = "\
config: none
duration: 1s
load: []
services:
  - name: a
    serves: [one]
    replicas: 3
    versions:
      - { name: v1, serves: [won], weight: 4 }
";
    let expected = [
        "6: a service with versions serves nothing itself: each version says what it serves [contradiction]",
        "9: instances and their weights come from the configuration that the scenario names [contradiction]",
        "9: 'won' is no cluster and no endpoint of the configuration [unknown-name]",
        "0: no service stands behind 10.0.0.1:80 of cluster 'one' [not-served]",
    ];
    assert_eq!(problems(yaml), expected);
}
