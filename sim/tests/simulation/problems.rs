//! What does not fit together is told with its place, all of it at once.

use naru_sim::{RunError, Scenario, run};

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
