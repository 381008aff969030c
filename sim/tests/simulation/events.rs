//! What happens meanwhile: error bursts, lost zones, slow starts, crashes, changed capacities; and
//! loads that come in herds and storms.

use naru_sim::Transcript;

use crate::mesh::{arrived, play};

/// One service of four instances in two zones, asked 100 times a second for 30 s, the same every time
/// but for what `more` adds.
fn shop(more: &str) -> Transcript {
    let yaml = format!(
        "\
duration: 30s
load:
  - name: clients
    arrivals: {{ constant: 100/s }}
    requests: [{{ path: /, host: a }}]
services:
  - name: a
    versions: [{{ name: v1, weight: 1, replicas: 2 }}, {{ name: v2, weight: 1, replicas: 2 }}]
    zones: [east, west]
    latency: 2ms
    connect: 0s
    body: {{ bytes: 0 }}
{more}"
    );
    play(&yaml, 7)
}

/// In each ten seconds but the first of them: the share of 5xx and of no answer in percent, and the largest latency in microseconds.
fn thirds(transcript: &Transcript) -> [(u64, u64); 3] {
    [0, 10, 20].map(|from| {
        let seconds = transcript.intervals.iter().skip(from + 1).take(9);
        let sum = |of: &dyn Fn(&naru_sim::transcript::Interval) -> u64| seconds.clone().map(of).sum::<u64>();
        let failed = sum(&|interval| interval.by_class[3] + interval.by_class[4]);
        let slowest = seconds.clone().map(|interval| interval.max_us).max().unwrap_or(0);
        (failed * 100 / sum(&|interval| interval.ended).max(1), slowest)
    })
}

#[test]
fn an_error_burst_fails_its_share_for_its_time() {
    let transcript = shop(
        "events: [{ name: burst, from: 10s, to: 20s, versions: [v2], faults: [{ share: 80%, fault: { status: 500 } }] }]\n",
    );
    let [(before, _), (during, _), (after, _)] = thirds(&transcript);
    assert_eq!((before, after), (0, 0));
    assert!((35..46).contains(&during), "{during}");
    let told: Vec<&str> = transcript.changes.iter().map(|change| change.what.as_str()).take(2).collect();
    assert_eq!(
        told,
        [
            "burst: a v2 at 10.0.8.1:8080: behaves differently",
            "burst: a v2 at 10.0.8.2:8080: behaves differently"
        ]
    );
}

#[test]
fn a_lost_zone_takes_every_instance_in_it() {
    let transcript = shop("events: [{ from: 10s, to: 20s, zones: [west], state: down }]\n");
    let [(before, _), (during, _), (after, _)] = thirds(&transcript);
    assert_eq!((before, after), (0, 0));
    // One of two instances of each version, and nothing that would keep requests away from it.
    assert_eq!(during, 50);
    let down = transcript.changes.iter().filter(|change| change.what.ends_with(": down"));
    let down: Vec<&str> = down.map(|change| change.subject.as_str()).collect();
    assert_eq!(down, ["a v1 at 10.0.4.2:8080", "a v2 at 10.0.8.2:8080"]);
}

#[test]
fn a_replica_that_starts_is_slow_for_a_while() {
    let transcript =
        shop("events: [{ from: 10s, to: 20s, versions: [v1], replicas: [2], slow_start: 11x }]\n");
    let [(_, before), (_, during), (_, after)] = thirds(&transcript);
    assert_eq!((before, after), (2_000, 2_000));
    assert!((18_000..=20_100).contains(&during), "{during}");
    // Evenly less: a second before the end it is twice as slow.
    let last = transcript.intervals[19].max_us;
    assert!((2_000..=4_000).contains(&last), "{last}");
    let middle = transcript.intervals[15].max_us;
    assert!((10_000..=12_000).contains(&middle), "{middle}");
}

#[test]
fn latencies_shift_and_add_up_where_windows_overlap() {
    let check = |effects: &[&str], expected_us: u64| {
        let events: Vec<String> =
            effects.iter().map(|effect| format!("{{ from: 10s, to: 20s, {effect} }}")).collect();
        let [(_, before), (_, during), (_, after)] =
            thirds(&shop(&format!("events: [{}]\n", events.join(", "))));
        assert_eq!((before, during, after), (2_000, expected_us, 2_000), "{effects:?}");
    };
    check(&["extra_latency: 30ms"], 32_000);
    check(&["slower: 4x"], 8_000);
    check(&["latency: 50ms"], 50_000);
    check(&["latency: 50ms", "latency: 5ms"], 5_000);
    check(&["slower: 4x", "extra_latency: 1ms"], 12_000);
    check(&["extra_latency: 1ms", "slower: 4x"], 9_000);
}

#[test]
fn connections_that_break_at_once_break_the_requests_on_them() {
    let transcript = shop("events: [{ from: 10s, reset_connections: true, name: blip }]\n");
    let [(before, _), (during, _), (after, _)] = thirds(&transcript);
    assert_eq!((before, during, after), (0, 0, 0));
    let resets = transcript.changes.iter().filter(|change| change.what.starts_with("blip: ")).count();
    assert_eq!(resets, 4);
    // Whoever was on one of them fails or is sent again; all others connect anew.
    let connections = |at: usize| {
        transcript.summary.by_cluster[at].endpoints.iter().map(|endpoint| endpoint.connections).sum::<u64>()
    };
    assert!(connections(0) + connections(1) >= 8);
}

#[test]
fn a_crash_takes_the_work_with_it_and_a_restart_begins_anew() {
    let yaml = "\
duration: 20s
load:
  - name: clients
    arrivals: { constant: 100/s }
    requests: [{ path: /, host: a }]
services:
  - name: a
    latency: 1ms
    servers: 8
    calls: [{ host: b }]
    during: [{ from: 10.005s, to: 12s, state: down }]
  - { name: b, latency: 50ms, abandoned: stopped }
";
    let transcript = play(yaml, 1);
    let [a, b] = transcript.summary.by_service.as_slice() else { panic!() };
    // Five were being worked on: they are lost, and so is what they had asked for.
    assert_eq!((a.lost, b.stopped + b.lost), (5, 5), "{transcript}");
    assert_eq!(b.arrived, a.arrived);
    let failed: u64 = transcript
        .summary
        .by_status
        .iter()
        .filter(|count| count.status == 503)
        .map(|count| count.requests)
        .sum();
    assert_eq!(failed, 5 + 199, "{transcript}");
}

#[test]
fn more_servers_begin_with_those_who_wait() {
    let yaml = |more: &str| {
        format!(
            "\
duration: 1s
load:
  - {{ name: herd, from: 0s, arrivals: {{ herd: {{ count: 12 }} }}, requests: [{{ path: /, host: a }}] }}
services:
  - name: a
    latency: 100ms
    connect: 0s
    body: {{ bytes: 0 }}
    servers: 1
    during: [{more}]
"
        )
    };
    let slowest = |more: &str| play(&yaml(more), 1).summary.latency.max_us;
    assert_eq!(slowest(""), 1_200_000);
    // Two are done by then; ten by five at a time remain, one of which is half done.
    assert_eq!(slowest("{ from: 250ms, servers: 5 }"), 450_000);
    // Fewer servers take nothing away from those who have one.
    assert_eq!(slowest("{ from: 0s, to: 50ms, servers: 12 }"), 100_000);
    let refused = play(&yaml("{ from: 0s, queue_max: 3 }"), 1).summary.by_service[0].refused;
    assert_eq!(refused, 12 - 4);
}

#[test]
fn a_herd_meets_a_queue_and_is_served_as_fast_as_it_can_be() {
    let yaml = "\
duration: 60s
load:
  - name: steady
    arrivals: { poisson: 50/s }
    requests: [{ path: /, host: a }]
  - name: herd
    from: 20s
    arrivals: { herd: { count: 2000 } }
    requests: [{ path: /, host: a }]
services:
  - { name: a, replicas: 2, latency: { exponential: { mean: 10ms } }, servers: 2 }
expect:
  - { measure: requests, load: herd, at_least: 2000, at_most: 2000 }
  - { measure: max, load: herd, at_least: 5s, at_most: 8s }
  # Those who come during the herd wait behind it; those before and long after do not.
  - { measure: p50, load: steady, to: 19s, at_most: 12ms }
  - { measure: mean, load: steady, from: 20s, to: 21s, at_least: 4s }
  - { measure: p50, load: steady, from: 40s, at_most: 12ms }
";
    let transcript = play(yaml, 3);
    assert!(transcript.is_as_expected(), "{transcript}");
    let service = &transcript.summary.by_service[0];
    assert_eq!(service.working_max, 2);
    assert!((950..1_050).contains(&service.waiting_max), "{}", service.waiting_max);
}

/// Everybody asks three times: clients `a`, `a` its `b`, `b` its `c`, which always fails.
fn storm(retry_of: [&str; 3]) -> Transcript {
    let [clients, a, b] = retry_of;
    let yaml = format!(
        "\
duration: 10s
load:
  - name: clients
    arrivals: {{ poisson: 20/s }}
    {clients}
    requests: [{{ path: /, host: a }}]
services:
  - {{ name: a, latency: 1ms, calls: [{{ host: b, {a} }}] }}
  - {{ name: b, latency: 1ms, calls: [{{ host: c, {b} }}] }}
  - {{ name: c, latency: 1ms, status: 503 }}
"
    );
    play(&yaml, 5)
}

#[test]
fn a_storm_of_naive_retries_multiplies_at_each_hop() {
    let three = "retry: { attempts: 3 }";
    let reached = |retry_of: [&str; 3]| {
        let transcript = storm(retry_of);
        let arrived = arrived(&transcript);
        let requests = transcript.summary.requests;
        assert!(["a", "b", "c"].iter().all(|name| arrived[*name].is_multiple_of(requests)), "{arrived:?}");
        ["a", "b", "c"].map(|name| arrived[name] / requests)
    };
    assert_eq!(reached([three, three, three]), [3, 9, 27]);
    assert_eq!(reached([three, "", three]), [3, 3, 9]);
    assert_eq!(reached(["", "", three]), [1, 1, 3]);
    assert_eq!(reached(["", "", ""]), [1, 1, 1]);
}

#[test]
fn a_storm_holds_a_service_down_that_one_try_would_let_up() {
    // 60% of what the service can do; a burst of errors lasts 5 s. Whoever asks again at once three times more
    // keeps the queue longer than clients wait.
    let yaml = |retry: &str| {
        format!(
            "\
duration: 60s
load:
  - name: clients
    arrivals: {{ poisson: 120/s }}
    {retry}
    requests: [{{ path: /, host: a }}]
services:
  - name: a
    latency: {{ exponential: {{ mean: 10ms }} }}
    servers: 2
    during: [{{ from: 10s, to: 15s, slower: 10x }}]
expect:
  - {{ measure: errors, from: 40s, at_most: 1% }}
"
        )
    };
    let calm = play(&yaml("retry: { attempts: 1, timeout: 250ms }"), 2);
    let storm = play(&yaml("retry: { attempts: 4, timeout: 250ms }"), 2);
    assert!(!storm.is_as_expected(), "{storm}");
    let after = |transcript: &Transcript| transcript.summary.tries / transcript.summary.requests;
    assert_eq!(after(&calm), 1);
    assert!(after(&storm) >= 3, "{storm}");
}

#[test]
fn a_client_that_asks_again_ends_once_with_what_it_got_at_last() {
    let yaml = "\
duration: 10s
load:
  - name: clients
    arrivals: { constant: 10/s }
    retry: { attempts: 3, wait: 100ms }
    requests: [{ path: /, host: a }]
services:
  - { name: a, latency: 1ms, connect: 0s, body: { bytes: 0 }, faults: [{ share: 50%, fault: { status: 500 } }] }
";
    let transcript = play(yaml, 1);
    let summary = &transcript.summary;
    assert_eq!(summary.requests, 99);
    assert!((140..210).contains(&summary.tries), "{}", summary.tries);
    assert_eq!((summary.latency.min_us, summary.latency.max_us), (1_000, 203_000));
    let failed = summary.by_status.iter().find(|count| count.status == 500).unwrap().requests;
    // An eighth.
    assert!((3..26).contains(&failed), "{failed}");
    let again: Vec<u32> = transcript.trace.iter().map(|hop| hop.attempt).collect();
    assert_eq!((again.iter().min(), again.iter().max()), (Some(&1), Some(&3)));
}
