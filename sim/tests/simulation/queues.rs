//! Queueing theory: what is simulated agrees with what can be calculated.

use naru_sim::Transcript;

use crate::mesh::play_traced;

/// Within so many thousandths of what was calculated, in microseconds.
#[track_caller]
fn check_near(actual_us: u64, expected_us: f64, thousandths: f64) {
    let off = (actual_us as f64 - expected_us).abs() / expected_us * 1_000.0;
    assert!(off <= thousandths, "{actual_us} is {off:.1} thousandths off {expected_us:.1}");
}

fn one_service(rate: u32, seconds: u32, service: &str) -> Transcript {
    let yaml = format!(
        "\
duration: {seconds}s
transcript: {{ interval: 100ms, sample_every: 0 }}
load:
  - name: clients
    arrivals: {{ poisson: {rate}/s }}
    requests: [{{ path: /, host: a }}]
services:
  - {{ name: a, connect: 0s, body: {{ bytes: 0 }}, {service} }}
"
    );
    play_traced(&yaml, 11, false)
}

/// The chance to wait in a queue of `c` servers under a load of `a` (Erlang, 1917).
fn erlang_c(c: u32, a: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..c {
        term *= a / f64::from(k);
        sum += term;
    }
    let last = term * a / f64::from(c) * f64::from(c) / (f64::from(c) - a);
    last / (sum + last)
}

#[test]
fn m_m_c_waits_as_erlang_calculated() {
    // (servers, requests a second, tolerance): the busier, the longer it takes to come to rest.
    for (servers, rate, tolerance) in
        [(1, 50, 40.0), (1, 80, 100.0), (2, 160, 60.0), (5, 400, 40.0), (20, 1_800, 60.0)]
    {
        let seconds = 30_000 / rate;
        let service = format!("latency: {{ exponential: {{ mean: 10ms }} }}, servers: {servers}");
        let transcript = one_service(rate, seconds, &service);
        let (service_us, load) = (10_000.0, f64::from(rate) / 100.0);
        let waits = erlang_c(servers, load) * service_us / (f64::from(servers) - load);
        check_near(transcript.summary.latency.mean_us, service_us + waits, tolerance);
    }
}

#[test]
fn m_d_1_waits_half_as_long_as_m_m_1() {
    // Pollaczek and Khinchine: rho / (2 (1 - rho)) services of waiting, where they all take the same.
    let transcript = one_service(80, 300, "latency: 10ms, servers: 1");
    check_near(transcript.summary.latency.mean_us, 10_000.0 + 10_000.0 * 0.8 / 0.4, 40.0);
}

#[test]
fn two_queues_in_a_row_are_each_as_if_alone() {
    // Burke and Jackson: what leaves one M/M/1 comes to the next as a Poisson process.
    let yaml = "\
duration: 500s
transcript: { sample_every: 0 }
load:
  - name: clients
    arrivals: { poisson: 60/s }
    requests: [{ path: /, host: front }]
services:
  - { name: front, latency: 0s, connect: 0s, body: { bytes: 0 }, calls: [{ host: a }, { host: b }] }
  - { name: a, latency: { exponential: { mean: 10ms } }, servers: 1, connect: 0s, body: { bytes: 0 } }
  - { name: b, latency: { exponential: { mean: 8ms } }, servers: 1, connect: 0s, body: { bytes: 0 } }
";
    let transcript = play_traced(yaml, 6, false);
    let alone = |mean: f64| mean / (1.0 - 0.00006 * mean);
    let [front, a, b] = transcript.summary.by_service.as_slice() else { panic!() };
    check_near(a.latency.mean_us, alone(10_000.0), 60.0);
    check_near(b.latency.mean_us, alone(8_000.0), 60.0);
    check_near(front.latency.mean_us, alone(10_000.0) + alone(8_000.0), 40.0);
}

#[test]
fn as_many_are_there_as_come_times_how_long_they_stay() {
    // Little's law needs no distribution at all.
    for service in [
        "latency: { lognormal: { median: 30ms, p99: 400ms } }",
        "latency: { pareto: { min: 10ms, p99: 200ms } }, servers: 8",
        "latency: { quantiles: { 50%: 5ms, 90%: 50ms, 100%: 300ms } }, servers: 4",
    ] {
        let transcript = one_service(100, 150, service);
        let summary = &transcript.summary;
        let there: u64 = transcript.intervals.iter().map(|interval| interval.active).sum();
        let there = there as f64 / transcript.intervals.len() as f64;
        let come = summary.requests as f64 / 150.0;
        check_near((there * 1_000.0) as u64, come * summary.latency.mean_us as f64 / 1_000.0, 30.0);
    }
}

#[test]
fn users_slow_down_where_servers_are_few() {
    // The asymptotes of a closed system: N / (think + service) below, servers / service above.
    let rate = |users: u32| {
        let yaml = format!(
            "\
duration: 50s
transcript: {{ sample_every: 0 }}
load:
  - name: users
    arrivals: {{ users: {{ count: {users}, think: {{ exponential: {{ mean: 90ms }} }} }} }}
    requests: [{{ path: /, host: a }}]
services:
  - {{ name: a, latency: {{ exponential: {{ mean: 10ms }} }}, servers: 1, connect: 0s, body: {{ bytes: 0 }} }}
"
        );
        play_traced(&yaml, 8, false).summary.requests / 50
    };
    assert!((9..=11).contains(&rate(1)), "{}", rate(1));
    assert!((96..=105).contains(&rate(40)), "{}", rate(40));
}
