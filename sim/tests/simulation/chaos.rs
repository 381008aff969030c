//! Scenarios drawn at random, with everything in them that can break.

use std::fmt::Write as _;
use std::time::Duration;

use naru_base::share::Denominator;
use naru_base::{Chance, Fraction};
use naru_sim::{Scenario, run};
use naru_spec::{
    Abort, AbortBy, Action, AutoTimeout, Comparison, Delay, DelayBy, Fallback, FallbackOn, FallbackStep,
    Fault, FaultScope, Forward, Hedge, LoadBalancing, Mirror, Repeats, RetryOn, RetryPolicy, StatusRange,
    UpstreamProtocol,
};

use crate::guarded::{draw_guard, draw_limits, draw_load};
use crate::support::{cluster, config, forward, rule, seeds};

const SEEDS: u64 = 256;

fn draw_config(chance: &mut Chance) -> naru_spec::Config {
    let mut a = cluster("a", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    let mut b = cluster("b", &["10.0.1.1:80"]);
    for cluster in [&mut a, &mut b] {
        cluster.protocol = [UpstreamProtocol::Http1, UpstreamProtocol::Http2, UpstreamProtocol::Downstream]
            [chance.below(3) as usize];
        cluster.load_balancing =
            [LoadBalancing::round_robin(), LoadBalancing::least_request(), LoadBalancing::random()]
                [chance.below(3) as usize]
                .clone();
        cluster.connect_timeout = Duration::from_millis(1 + chance.below(50));
        cluster.max_requests_per_connection = [None, Some(1), Some(7)][chance.below(3) as usize];
        cluster.http2.max_concurrent_streams = 1 + chance.below(5) as u32;
    }
    let mut to_a = forward("a");
    to_a.timeout = [None, Some(Duration::from_millis(1 + chance.below(200)))][chance.below(2) as usize];
    let mut more = Chance::split(chance.draw(), "retries");
    to_a.retry = Some(RetryPolicy::connects(more.below(4) as u32));
    // Every second one has something that guards or limits it.
    if more.below(2) == 0 {
        for cluster in [&mut a, &mut b] {
            cluster.guard = draw_guard(&mut more);
            cluster.limits = draw_limits(&mut more);
            cluster.load = draw_load(&mut more);
        }
        to_a.load = draw_load(&mut more);
        to_a.retry = Some(RetryPolicy {
            per_try_timeout: [None, Some(Duration::from_millis(30))][more.below(2) as usize],
            repeats: Repeats::Everything,
            ..to_a.retry.unwrap_or_else(|| RetryPolicy::connects(1))
        });
        if let Some(retry) = &mut to_a.retry {
            retry.on = RetryOn::SERVER_ERROR.and(RetryOn::RESET);
        }
    }
    draw_rare(&mut Chance::split(chance.draw(), "rare"), &mut to_a);
    let mut more = Chance::split(chance.draw(), "mirrors");
    to_a.mirrors = draw_mirrors(&mut more, &["b", "a", "empty"]);
    let to_b = Forward { mirrors: draw_mirrors(&mut more, &["b", "empty"]), ..forward("b") };
    let rules = vec![
        rule("/a", Action::Forward(Box::new(to_a))),
        rule("/b", Action::Forward(Box::new(to_b))),
        rule("/empty", Action::Forward(Box::new(forward("empty")))),
    ];
    let mut config = config(rules, vec![a, b, cluster("empty", &[])]);
    let http = &mut config.listeners[0].chains[0].http;
    http.stream_idle_timeout =
        [None, Some(Duration::from_millis(20 + chance.below(500)))][chance.below(2) as usize];
    http.request_timeout =
        [None, Some(Duration::from_millis(1 + chance.below(100)))][chance.below(2) as usize];
    config
}

/// What few routes have.
fn draw_rare(chance: &mut Chance, forward: &mut Forward) {
    let ms = |chance: &mut Chance, most: u64| Duration::from_millis(1 + chance.below(most));
    let is_drawn = |chance: &mut Chance| chance.below(3) == 0;
    forward.hedge = is_drawn(chance).then(|| Hedge {
        initial: 1 + chance.below(4) as u32,
        on_per_try_timeout: chance.below(2) == 0,
        ..Hedge::default()
    });
    if let Some(retry) = forward.retry.as_mut().filter(|_| is_drawn(chance)) {
        retry.per_try_timeout = Some(ms(chance, 40));
        retry.per_try_idle_timeout = is_drawn(chance).then(|| ms(chance, 40));
    }
    if is_drawn(chance) {
        let share = |chance: &mut Chance| Fraction::new(chance.below(60) as u32, Denominator::Hundred);
        let delay = Delay { by: DelayBy::Fixed(ms(chance, 50)), share: share(chance) };
        let by = AbortBy::Status(http::StatusCode::SERVICE_UNAVAILABLE);
        let abort = Abort { by, share: share(chance) };
        let scope = [FaultScope::Client, FaultScope::Upstream][chance.below(2) as usize];
        forward.fault = Some(Fault { scope, ..Fault::new(Some(delay), Some(abort)) });
    }
    if is_drawn(chance) {
        forward.auto_timeout = Some(AutoTimeout {
            min: ms(chance, 10),
            max: Duration::from_millis(200),
            ..AutoTimeout::default()
        });
    }
    if is_drawn(chance) {
        let on = FallbackOn { statuses: vec![StatusRange::SERVER_ERRORS], ..FallbackOn::default() };
        let steps = vec![FallbackStep::Cluster("empty".into()), FallbackStep::Cluster("b".into())];
        forward.fallback = Some(Fallback { on, steps });
    }
}

/// A service may not be asked on behalf of what it asks itself.
fn draw_mirrors(chance: &mut Chance, clusters: &[&str]) -> Vec<Mirror> {
    if chance.below(3) > 0 {
        return Vec::new();
    }
    let mirrors = clusters.iter().map(|cluster| Mirror {
        share: Fraction::new(chance.below(101) as u32, Denominator::Hundred),
        comparison: (chance.below(2) == 0).then(Comparison::default),
        ..Mirror::to(*cluster)
    });
    mirrors.collect()
}

fn draw_distribution(chance: &mut Chance, max_ms: u64) -> String {
    let ms = 1 + chance.below(max_ms);
    match chance.below(5) {
        0 => format!("{ms}ms"),
        1 => format!("{{ uniform: {{ min: 0, max: {ms}ms }} }}"),
        2 => format!("{{ exponential: {{ mean: {ms}ms }} }}"),
        3 => format!("{{ lognormal: {{ median: {ms}ms, p99: {}ms }} }}", ms * 7),
        _ => format!("{{ pareto: {{ min: {ms}ms, p99: {}ms }} }}", ms * 7),
    }
}

fn draw_scenario(chance: &mut Chance) -> String {
    let mut yaml = format!("config: none\nduration: 2s\nworkers: {}\n", 1 + chance.below(3));
    yaml.push_str("transcript: { interval: 500ms, sample_every: 10 }\nload:\n");
    for (name, protocol) in [("open", "http1"), ("closed", "http2")] {
        let think = draw_distribution(chance, 50);
        let arrivals = match (name, chance.below(3)) {
            ("closed", _) => format!("users: {{ count: {}, think: {think} }}", 1 + chance.below(10)),
            (_, 0) => format!("poisson: {}/s", 20 + chance.below(80)),
            (_, 1) => format!("constant: {}/s", 20 + chance.below(80)),
            _ => format!("ramp: {{ from: 1/s, to: {}/s }}", 50 + chance.below(100)),
        };
        let patience = draw_distribution(chance, 300);
        let over = draw_distribution(chance, 60);
        let _ = write!(
            yaml,
            "  - name: {name}\n    protocol: {protocol}\n    arrivals: {{ {arrivals} }}\n    patience: {patience}\n    requests:\n\
             \x20     - {{ weight: 4, path: /a/x, host: a.example }}\n\
             \x20     - {{ weight: 4, path: /b, host: a.example, method: PUT, body: {{ bytes: {}, over: {over}, broken: 20% }} }}\n\
             \x20     - {{ path: /empty, host: a.example }}\n\
             \x20     - {{ path: /nowhere, host: a.example }}\n",
            chance.below(200_000),
        );
    }
    yaml.push_str("services:\n");
    for name in ["a", "b"] {
        let state = ["up", "down", "refuse", "unreachable", "tls_broken", "stuck"][chance.below(6) as usize];
        let (connect, latency, over) =
            (draw_distribution(chance, 30), draw_distribution(chance, 60), draw_distribution(chance, 60));
        let _ = write!(
            yaml,
            "  - name: {name}\n    serves: [{name}]\n    connect: {connect}\n    latency: {latency}\n    servers: {}\n    queue_max: {}\n\
             \x20   body: {{ bytes: {}, over: {over} }}\n    idle_close: {}ms\n    close_notice: 5ms\n    grpc_status: 0\n\
             \x20   faults:\n",
            1 + chance.below(8),
            chance.below(20),
            chance.below(100_000),
            1 + chance.below(40),
        );
        for fault in ["reset", "close", "garbage", "hang", "break_body", "break_end", "{ status: 500 }"] {
            let _ = writeln!(yaml, "      - {{ share: {}%, fault: {fault} }}", chance.below(6));
        }
        // Of a chance of its own, as one who asks others answers otherwise.
        if name == "a" && Chance::split(chance.draw(), "calls").below(3) == 0 {
            yaml.push_str("    calls: [{ host: a.example, path: /b, retry: { attempts: 2 } }]\n");
        }
        let from = chance.below(1_500);
        let _ = write!(
            yaml,
            "    during:\n      - {{ from: {from}ms, to: {}ms, state: {state} }}\n\
             \x20     - {{ from: 1s, to: 1200ms, latency: 200ms, faults: [{{ share: 50%, fault: reset }}] }}\n",
            from + 1 + chance.below(1_000),
        );
    }
    yaml
}

#[test]
fn no_scenario_breaks_an_invariant_and_each_says_the_same_twice() {
    let mut reasons = std::collections::BTreeMap::new();
    for seed in seeds(SEEDS) {
        let mut chance = Chance::split(seed, "chaos");
        let config = draw_config(&mut chance);
        let yaml = draw_scenario(&mut chance);
        let scenario = Scenario::parse("chaos.yaml", &yaml)
            .unwrap_or_else(|problems| panic!("NARU_SEED={seed}\n{yaml}\n{problems:?}"));
        let transcript = run(config.clone(), &scenario, seed)
            .unwrap_or_else(|error| panic!("NARU_SEED={seed}: {error}\n{yaml}"));
        let again = run(config, &scenario, seed).unwrap();
        assert_eq!(transcript, again, "NARU_SEED={seed}");
        for count in transcript.summary.by_reason {
            *reasons.entry(count.reason).or_insert(0) += count.requests;
        }
    }
    if seeds(SEEDS) == (0..SEEDS) {
        // All that a configuration and a client without malice can bring about.
        assert_eq!(reasons.len(), 26, "{reasons:?}");
    }
}
