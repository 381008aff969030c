//! Meshes drawn at random, with everything in them that a scenario can say: nothing is lost, nothing
//! counted twice, and each says the same twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use naru_base::Chance;
use naru_sim::{Configs, Options, Scenario, simulate};

use crate::support::seeds;

const SEEDS: u64 = 256;

fn one_of<'a>(chance: &mut Chance, choices: &[&'a str]) -> &'a str {
    choices[chance.below(choices.len() as u64) as usize]
}

fn draw_time(chance: &mut Chance, max_ms: u64) -> String {
    let ms = 1 + chance.below(max_ms);
    match chance.below(6) {
        0 => format!("{ms}ms"),
        1 => format!("{{ uniform: {{ min: 0, max: {ms}ms }} }}"),
        2 => format!("{{ exponential: {{ mean: {ms}ms }} }}"),
        3 => format!("{{ lognormal: {{ median: {ms}ms, p99: {}ms }} }}", ms * 7),
        4 => format!("{{ quantiles: {{ 50%: {ms}ms, 100%: {}ms }} }}", ms * 9),
        _ => "0s".to_owned(),
    }
}

fn draw_retry(chance: &mut Chance) -> String {
    match chance.below(3) {
        0 => String::new(),
        1 => format!("retry: {{ attempts: {} }}", 1 + chance.below(3)),
        _ => format!(
            "retry: {{ attempts: {}, wait: {}, timeout: {}ms }}",
            1 + chance.below(4),
            draw_time(chance, 20),
            1 + chance.below(80)
        ),
    }
}

fn draw_calls(chance: &mut Chance, service: u64, services: u64) -> String {
    let mut calls = Vec::new();
    for _ in 0..chance.below(4) {
        if service + 1 >= services {
            break;
        }
        let mut call = format!("host: s{}", service + 1 + chance.below(services - service - 1));
        for (share, field) in [
            (4, format!("share: {}%", chance.below(101))),
            (3, "with_previous: true".to_owned()),
            (3, format!("timeout: {}ms", 1 + chance.below(100))),
            (4, "optional: true".to_owned()),
            (5, "method: POST, body: { bytes: 40000, over: 5ms, broken: 10% }".to_owned()),
            (3, "protocol: http2".to_owned()),
        ] {
            if chance.below(share) == 0 {
                let _ = write!(call, ", {field}");
            }
        }
        let retry = draw_retry(chance);
        if !retry.is_empty() {
            let _ = write!(call, ", {retry}");
        }
        calls.push(format!("{{ {call} }}"));
    }
    format!("[{}]", calls.join(", "))
}

fn draw_windows(chance: &mut Chance, is_event: bool) -> String {
    let mut windows = Vec::new();
    for _ in 0..chance.below(4) {
        let from = chance.below(900);
        let mut window = format!("from: {from}ms, to: {}ms", from + 1 + chance.below(600));
        let effect = one_of(
            chance,
            &[
                "state: down",
                "state: refuse",
                "state: unreachable",
                "state: stuck",
                "latency: 30ms",
                "extra_latency: { exponential: { mean: 10ms } }",
                "slower: 3x",
                "slow_start: 5x",
                "faults: [{ share: 40%, fault: { status: 500 } }, { share: 20%, fault: reset }]",
                "servers: 1",
                "queue_max: 0",
                "reset_connections: true",
            ],
        );
        let whom = one_of(chance, &["", ", zones: [east]", ", replicas: [1]"]);
        let service = if is_event && chance.below(2) == 0 { ", services: [s0]" } else { "" };
        let _ = write!(window, ", {effect}{whom}{service}");
        windows.push(format!("{{ {window} }}"));
    }
    format!("[{}]", windows.join(", "))
}

fn draw(chance: &mut Chance) -> String {
    let mut yaml = "duration: 1s\ntranscript: { interval: 100ms, sample_every: 7 }\nload:\n".to_owned();
    for name in ["open", "closed"] {
        let arrivals = match (name, chance.below(4)) {
            ("closed", _) => {
                format!("users: {{ count: {}, think: {}ms }}", 1 + chance.below(5), 20 + chance.below(80))
            }
            (_, 0) => format!("herd: {{ count: {}, over: 3ms, every: 400ms }}", 1 + chance.below(15)),
            (_, 1) => "profile: [{ at: 0s, rate: 10/s }, { at: 500ms, rate: 80/s, ramp: true }]".to_owned(),
            (_, 2) => format!("constant: {}/s", 5 + chance.below(40)),
            _ => format!("poisson: {}/s", 5 + chance.below(40)),
        };
        let mut more = draw_retry(chance);
        for field in ["patience: { exponential: { mean: 200ms } }", "deadline: 80ms"] {
            if chance.below(3) == 0 {
                let _ = write!(more, "{}{field}", if more.is_empty() { "" } else { "\n    " });
            }
        }
        let _ = write!(
            yaml,
            "  - name: {name}\n    arrivals: {{ {arrivals} }}\n    {more}\n    requests: [{{ path: /, host: s0 }}, {{ path: /x, host: s1 }}]\n"
        );
    }
    let services = 2 + chance.below(4);
    yaml.push_str("services:\n");
    for service in 0..services {
        let _ = write!(
            yaml,
            "  - name: s{service}\n    replicas: {}\n    zones: [east, west]\n    latency: {}\n    connect: {}\n    calls: {}\n    during: {}\n",
            1 + chance.below(3),
            draw_time(chance, 30),
            draw_time(chance, 3),
            draw_calls(chance, service, services),
            draw_windows(chance, false),
        );
        for (share, field) in [
            (2, format!("servers: {}", 1 + chance.below(4))),
            (3, format!("queue_max: {}", chance.below(10))),
            (3, "holds_server: false".to_owned()),
            (2, "deadline: obeyed".to_owned()),
            (2, "abandoned: stopped".to_owned()),
            (3, "outbound: { of: service, workers: 2 }".to_owned()),
            (3, "body: { bytes: 30000, over: 4ms }".to_owned()),
            (2, "faults: [{ share: 10%, fault: hang }, { share: 5%, fault: break_body }]".to_owned()),
            (3, "versions: [{ name: v1, weight: 3 }, { name: v2, latency: 9ms, calls: [] }]".to_owned()),
        ] {
            if chance.below(share) == 0 {
                let _ = writeln!(yaml, "    {field}");
            }
        }
    }
    let _ = writeln!(yaml, "events: {}", draw_windows(chance, true));
    yaml
}

/// What the transcript says of the same thing in several places agrees.
fn check(transcript: &naru_sim::Transcript, told: &str) {
    let summary = &transcript.summary;
    let ended: u64 = transcript.intervals.iter().map(|interval| interval.ended).sum();
    let begun: u64 = transcript.intervals.iter().map(|interval| interval.begun).sum();
    assert_eq!((begun, ended), (summary.requests, summary.requests), "{told}");
    let by_status: u64 = summary.by_status.iter().map(|count| count.requests).sum();
    assert_eq!(by_status, summary.requests, "{told}");
    // Every request through every proxy is in the trace, once.
    assert_eq!(transcript.trace.len() as u64, summary.hops, "{told}");
    let mut numbers: Vec<u64> = transcript.trace.iter().map(|hop| hop.number).collect();
    numbers.dedup();
    assert_eq!(numbers, (0..summary.hops).collect::<Vec<_>>(), "{told}");
    let below: u64 = summary.by_proxy.iter().map(|proxy| proxy.hops).sum();
    assert_eq!(summary.tries + below, summary.hops, "{told}");
    // A request is made within the one that it is made for, or after its client left; never before.
    let began: BTreeMap<u64, u64> = transcript.trace.iter().map(|hop| (hop.number, hop.at_us)).collect();
    for hop in &transcript.trace {
        assert!(hop.parent.is_none_or(|parent| began[&parent] <= hop.at_us && parent < hop.number), "{told}");
        assert_eq!(hop.parent.is_none(), hop.proxy == "edge", "{told}");
    }
    // What reached a service came to one end, and by one of the attempts.
    let attempts: u64 = transcript.trace.iter().map(|hop| u64::from(hop.attempts)).sum();
    let arrived: u64 = summary.by_service.iter().map(|service| service.arrived).sum();
    assert!(arrived <= attempts, "{told}");
    for service in &summary.by_service {
        let answered: u64 = service.by_class.iter().sum();
        let ends = answered + service.refused + service.late + service.lost + service.stopped;
        assert_eq!(ends, service.arrived, "{told}");
    }
    let by_interval: u64 = transcript.intervals.iter().flat_map(|interval| &interval.by_service).sum();
    assert!(by_interval <= arrived, "{told}");
}

#[test]
fn every_request_of_every_mesh_ends_once_and_each_mesh_says_the_same_twice() {
    let (mut hops, mut ends) = (0, [0_u64; 5]);
    for seed in seeds(SEEDS) {
        let yaml = draw(&mut Chance::split(seed, "walk"));
        let told = format!("NARU_SEED={seed}\n{yaml}");
        let scenario =
            Scenario::parse("walk.yaml", &yaml).unwrap_or_else(|problems| panic!("{told}{problems:?}"));
        let options = Options { seed, is_traced: true };
        let play = || simulate(&Configs::new(), &scenario, options);
        let transcript = play().unwrap_or_else(|error| panic!("{told}{error}"));
        check(&transcript, &told);
        if seed % 4 == 0 {
            assert_eq!(transcript, play().unwrap(), "{told}");
        }
        hops += transcript.summary.hops;
        for service in &transcript.summary.by_service {
            let found = [service.refused, service.late, service.lost, service.stopped, service.by_class[3]];
            ends.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        }
    }
    if seeds(SEEDS) == (0..SEEDS) {
        // Everything that can become of a request at a service did.
        assert!(hops > 20_000 && ends.iter().all(|count| *count > 100), "{hops} {ends:?}");
    }
}
