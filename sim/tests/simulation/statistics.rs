//! Queues and shares behave as the books say.

use naru_base::Weight;
use naru_sim::{Scenario, Transcript, run};
use naru_spec::{Action, ClusterChoice, Config, HeaderOps, LoadBalancing, WeightedCluster};

use crate::support::{cluster, config, forward, plain, rule};

/// `load` and `service` are the fields that differ.
fn simulate(config: Config, seconds: u32, load: &str, service: &str) -> Transcript {
    let clusters: Vec<&str> = config.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let yaml = format!(
        "config: none\nduration: {seconds}s\ntranscript: {{ sample_every: 0 }}\nload:\n  - name: load\n    requests: [{{ path: /, host: a.example }}]\n    {load}\nservices:\n  - name: service\n    serves: [{}]\n    connect: 0\n    body: {{ bytes: 0 }}\n    {service}\n",
        clusters.join(", ")
    );
    let scenario = Scenario::parse("s.yaml", &yaml).unwrap_or_else(|problems| panic!("{yaml}{problems:?}"));
    run(config, &scenario, 42).unwrap()
}

fn check_near(actual: u64, expected: u64, percent: u64) {
    assert!(actual.abs_diff(expected) * 100 <= expected * percent, "{actual} is not near {expected}");
}

#[test]
fn one_server_is_the_m_m_1_queue() {
    // 50 a second come, 100 could be served: 20 ms in the mean, exponential.
    let transcript = simulate(
        plain(),
        1_500,
        "arrivals: { poisson: 50/s }",
        "latency: { exponential: { mean: 10ms } }\n    servers: 1",
    );
    let summary = &transcript.summary;
    check_near(summary.requests, 75_000, 2);
    check_near(summary.latency.mean_us, 20_000, 5);
    check_near(summary.latency.p50_us, 13_863, 5);
    check_near(summary.latency.p99_us, 92_103, 8);
    // Little's law: 50 a second for 20 ms each are one at a time.
    let active: u64 = transcript.intervals.iter().map(|interval| interval.active).sum();
    check_near(active, transcript.intervals.len() as u64, 12);
}

#[test]
fn four_servers_are_the_m_m_4_queue() {
    // Erlang's C for a load of 3 on 4 servers is 0.5094: 5.094 ms of waiting and 10 ms of service.
    let transcript = simulate(
        plain(),
        250,
        "arrivals: { poisson: 300/s }",
        "latency: { exponential: { mean: 10ms } }\n    servers: 4",
    );
    check_near(transcript.summary.latency.mean_us, 15_094, 5);
}

#[test]
fn a_full_queue_refuses() {
    // Erlang's B for a load of 2 on 3 servers is 4/19: so many are lost where nobody may wait.
    let transcript = simulate(
        plain(),
        300,
        "arrivals: { poisson: 200/s }",
        "latency: { exponential: { mean: 10ms } }\n    servers: 3\n    queue_max: 0",
    );
    let lost = transcript.summary.by_status.iter().find(|count| count.status == 503).unwrap();
    check_near(lost.requests * 1_000_000 / transcript.summary.requests, 210_526, 4);
}

#[test]
fn users_send_as_many_as_their_thinking_lets_them() {
    // The interactive response time law: 10 users / (90 ms + 10 ms) = 100 a second.
    let transcript =
        simulate(plain(), 30, "arrivals: { users: { count: 10, think: 90ms } }", "latency: 10ms");
    check_near(transcript.summary.requests, 3_000, 1);
    assert_eq!(transcript.summary.latency.max_us, 10_000);
}

#[test]
fn weighted_clusters_have_their_shares() {
    let shares = [("a", 70), ("b", 25), ("c", 5), ("d", 0)];
    let clusters = shares.iter().map(|(name, weight)| WeightedCluster {
        name: (*name).to_owned(),
        weight: Weight(*weight),
        host: None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    });
    let mut to = forward("none");
    to.clusters = ClusterChoice::weighted(clusters.collect()).unwrap();
    let clusters = shares.iter().zip(1..).map(|((name, _), at)| cluster(name, &[&format!("10.0.{at}.1:80")]));
    let config = config(vec![rule("/", Action::Forward(Box::new(to)))], clusters.collect());
    let transcript = simulate(config, 200, "arrivals: { constant: 100/s }", "latency: 1ms");
    for (counts, (name, weight)) in transcript.summary.by_cluster.iter().zip(shares) {
        // Four standard deviations of 20,000 draws are 260 at the most.
        assert!(counts.requests.abs_diff(u64::from(weight) * 200) < 260, "{name}: {}", counts.requests);
    }
}

#[test]
fn the_least_loaded_of_two_is_better_than_any() {
    let mean = |load_balancing: LoadBalancing| {
        let mut to_many = cluster("one", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]);
        to_many.load_balancing = load_balancing;
        let config = config(vec![rule("/", Action::Forward(Box::new(forward("one"))))], vec![to_many]);
        let service = "latency: { exponential: { mean: 10ms } }\n    servers: 1";
        simulate(config, 60, "arrivals: { poisson: 300/s }", service).summary.latency.mean_us
    };
    let (random, least) = (mean(LoadBalancing::random()), mean(LoadBalancing::least_request()));
    // Each of four M/M/1 queues at 3/4 of its load takes 40 ms in the mean.
    check_near(random, 40_000, 12);
    assert!(least * 3 < random * 2, "{least} against {random}");
}

#[test]
fn what_one_service_does_shifts_nothing_of_another() {
    let by_cluster = |faults: &str| {
        let rules = vec![
            rule("/b", Action::Forward(Box::new(forward("b")))),
            rule("/", Action::Forward(Box::new(forward("a")))),
        ];
        let config = config(rules, vec![cluster("a", &["10.0.0.1:80"]), cluster("b", &["10.0.1.1:80"])]);
        let yaml = format!(
            "config: none\nduration: 30s\nload:\n  - name: load\n    arrivals: {{ poisson: 100/s }}\n    requests:\n      - {{ path: /a, host: h }}\n      - {{ path: /b, host: h }}\nservices:\n  - name: a\n    serves: [a]\n    latency: {{ exponential: {{ mean: 9ms }} }}\n  - name: b\n    serves: [b]\n{faults}"
        );
        let scenario = Scenario::parse("s.yaml", &yaml).unwrap();
        run(config, &scenario, 8).unwrap().summary.by_cluster
    };
    let calm = by_cluster("");
    let wild = by_cluster(
        "    latency: { pareto: { min: 5ms, p99: 1s } }\n    faults: [{ share: 30%, fault: { status: 500 } }]\n",
    );
    assert_eq!(calm[0], wild[0]);
    assert_ne!(calm[1], wild[1]);
}
