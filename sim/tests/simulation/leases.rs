//! Gateways that share limits among themselves: drawn at random, all together are never allowed more than a limit says;
//! where nobody is gone, no less either.

use std::fmt::Write as _;

use naru_base::Chance;
use naru_sim::{Configs, Options, RunError, Scenario, Transcript, simulate};

use crate::goldens::documents_of;
use crate::support::seeds;

/// A gateway that leads to one service.
pub const EDGE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  servers: [{ port: { number: 8080, name: http, protocol: HTTP }, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: places }
spec:
  hosts: [places.internal]
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 10.0.0.1 }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: places }
spec:
  hosts: ['*']
  gateways: [edge]
  http:
  - name: all
    route: [{ destination: { host: places.internal } }]
    retries: { attempts: 0 }
";

fn limit(members: u64, requests: u64, window_ms: u64, algorithm: &str, otherwise: &str) -> String {
    let addresses: Vec<String> = (1..=members).map(|at| format!("'10.0.1.{at}:7400'")).collect();
    format!(
        "{EDGE}---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: all }}
spec:
  targetRef: {{ kind: VirtualService, name: places }}
  limits: [{{ name: all, requests: {requests}, window: {window_ms}ms, algorithm: {algorithm} }}]
  leases:
    members: [{}]
    secret: {{ environment: NARU_CIRCLE }}
    otherwise: {otherwise}
",
        addresses.join(", ")
    )
}

fn play(documents: &str, scenario: &str, seed: u64) -> Result<Transcript, RunError> {
    let scenario =
        Scenario::parse("s.yaml", scenario).unwrap_or_else(|found| panic!("{found:#?}\n{scenario}"));
    let configs = Configs::from([("documents".to_owned(), documents_of(documents))]);
    simulate(&configs, &scenario, Options { seed, is_traced: true })
}

fn scenario(gateways: u64, seconds: u64, rate: u64, leases: &str) -> String {
    format!(
        "config: documents
duration: {seconds}s
gateways: {gateways}
load:
  - name: all
    from: 4s
    arrivals: {{ poisson: {rate}/s }}
    requests: [{{ path: /, host: a.example }}]
services: [{{ name: places, serves: ['10.0.0.1:80'], latency: 1ms, connect: 0s }}]
{leases}"
    )
}

/// When requests were let through, in microseconds.
fn admitted(transcript: &Transcript) -> Vec<u64> {
    assert!(!transcript.is_trace_cut);
    transcript.trace.iter().filter(|hop| hop.status == 200).map(|hop| hop.at_us).collect()
}

fn count_of(transcript: &Transcript, reason: &str) -> u64 {
    let found = transcript.summary.by_reason.iter().find(|count| count.reason == reason);
    found.map_or(0, |count| count.requests)
}

/// A network that is bad, and gateways that are cut off or gone, one at a time: what several forget at once nobody
/// remembers.
fn draw_leases(chance: &mut Chance, gateways: u64, seconds: u64) -> String {
    let mut text = format!(
        "leases:\n  latency: {{ uniform: {{ min: 100us, max: {}ms }} }}\n  lost: {}%\n  doubled: {}%\n",
        1 + chance.below(30),
        chance.below(25),
        chance.below(25)
    );
    let mut windows = String::new();
    let mut at = 5 + chance.below(6);
    while at + 2 < seconds && gateways > 1 {
        let end = at + 1 + chance.below(8);
        let state = if chance.below(2) == 0 { "cut" } else { "down" };
        let gateway = 1 + chance.below(gateways);
        let _ =
            write!(windows, "\n    - {{ from: {at}s, to: {end}s, gateways: [{gateway}], state: {state} }}");
        at = end + 7 + chance.below(4);
    }
    if !windows.is_empty() {
        let _ = writeln!(text, "  during:{windows}");
    }
    text
}

#[test]
fn a_walk_never_admits_more_than_a_limit_says() {
    const SECONDS: u64 = 24;
    let (mut all, mut unknown) = (0, 0);
    for seed in seeds(24) {
        let mut chance = Chance::split(seed, "leases");
        let gateways = 1 + chance.below(4);
        let requests = 20 + chance.below(60);
        let window_ms = 1_000 + chance.below(5_000);
        let is_bucket = chance.below(2) == 0;
        let algorithm = if is_bucket { "tokenBucket" } else { "fixedWindow" };
        let documents = limit(gateways, requests, window_ms, algorithm, "refuse");
        let rate = 20 + chance.below(60);
        let leases = draw_leases(&mut chance, gateways, SECONDS);
        let scenario = scenario(gateways, SECONDS, rate, &leases);
        let transcript =
            play(&documents, &scenario, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let moments = admitted(&transcript);
        // As `core/admit/src/lease/tests.rs` has it: a twentieth and one request of each beyond what a limit says. Of a
        // window that begins anew between two moments all may come at once.
        let beyond = requests.div_ceil(20) + gateways;
        for (first, from) in moments.iter().enumerate() {
            for (count, to) in (1u64..).zip(&moments[first..]) {
                let span = to - from;
                let allowed = if is_bucket {
                    requests + span * requests / (window_ms * 1_000) + 1 + beyond
                } else {
                    (requests + beyond) * (span / (window_ms * 1_000) + 2)
                };
                assert!(
                    count <= allowed,
                    "seed {seed}: {count} of {allowed} from {from} to {to}\n{scenario}"
                );
            }
        }
        if seed % 8 == 0 {
            let again = play(&documents, &scenario, seed).unwrap();
            assert_eq!(transcript.to_json(), again.to_json(), "seed {seed}");
        }
        all += moments.len();
        unknown += count_of(&transcript, "QuotaUnknown");
    }
    if seeds(24).count() == 24 {
        assert!(all > 4_000 && unknown > 100, "{all} admitted, {unknown} refused without a share");
    }
}

#[test]
fn whichever_gateways_a_load_comes_to_all_of_a_limit_may_pass() {
    // One user stays at one gateway, two at two: the others lend what they have.
    for (users, think) in [(1, "8ms"), (2, "16ms"), (30, "250ms")] {
        for (requests, window_ms) in [(300, 10_000), (100, 60_000)] {
            let documents = limit(3, requests, window_ms, "tokenBucket", "refuse");
            let scenario = format!(
                "config: documents
duration: 24s
gateways: 3
load:
  - name: all
    from: 4s
    arrivals: {{ users: {{ count: {users}, think: {think} }} }}
    requests: [{{ path: /, host: a.example }}]
services: [{{ name: places, serves: ['10.0.0.1:80'], latency: 1ms, connect: 0s }}]
"
            );
            let transcript = play(&documents, &scenario, 7).unwrap();
            let passed = admitted(&transcript).len() as u64;
            let exact = requests + requests * 20_000 / window_ms;
            assert!(
                (exact * 94 / 100..=exact * 105 / 100).contains(&passed),
                "{users} users, {requests} in {window_ms} ms: {passed} of {exact}\n{transcript}"
            );
            assert_eq!(count_of(&transcript, "QuotaUnknown"), 0);
        }
    }
}

#[test]
fn half_of_the_gateways_have_no_share_and_more_than_half_have_all_of_it() {
    // Of a circle of four so many are there at all.
    for (there, has_share) in [(1, false), (2, true), (3, true), (4, true)] {
        let documents = limit(4, 100, 1_000, "tokenBucket", "refuse");
        let scenario = scenario(there, 20, 300, "").replace("from: 4s", "from: 10s");
        let transcript = play(&documents, &scenario, 3).unwrap();
        let passed = admitted(&transcript).len();
        if has_share {
            assert!((1_000..=1_160).contains(&passed), "{there}: {passed}");
        } else {
            assert_eq!(passed, 0, "{there}");
            assert_eq!(count_of(&transcript, "QuotaUnknown"), transcript.summary.requests);
        }
    }
}

#[test]
fn what_a_gateway_does_without_its_share_is_what_its_limit_says() {
    let cut = "leases:\n  during: [{ from: 0s, gateways: [2], state: cut }]\n";
    for (otherwise, low, high) in [("allow", 1_250, 1_350), ("refuse", 0, 0), ("local", 540, 600)] {
        // At the second gateway alone: every second user is there.
        let documents = limit(2, 100, 1_000, "tokenBucket", otherwise);
        let scenario = format!(
            "config: documents
duration: 14s
gateways: 2
load:
  - name: all
    from: 4s
    arrivals: {{ users: {{ count: 2, think: 6.5ms }} }}
    requests: [{{ path: /, host: a.example }}]
services: [{{ name: places, serves: ['10.0.0.1:80'], latency: 1ms, connect: 0s }}]
{cut}"
        );
        let transcript = play(&documents, &scenario, 5).unwrap();
        // The first of two goes on with the whole limit: 100, and 100 a second.
        let of_first = 1_100;
        let passed = admitted(&transcript).len() as i64 - of_first;
        assert!((low - 40..=high + 40).contains(&passed), "{otherwise}: {passed}\n{transcript}");
    }
}

#[test]
fn what_cannot_be_shared_is_told_with_its_line() {
    fn problems(documents: &str, scenario: &str) -> Vec<String> {
        match play(documents, scenario, 1) {
            Err(RunError::Scenario(problems)) => problems
                .iter()
                .map(|problem| format!("{}: {} [{}]", problem.line, problem.message, problem.code))
                .collect(),
            other => panic!("{other:?}"),
        }
    }
    let documents = limit(2, 10, 1_000, "tokenBucket", "local");
    let said = "leases:
  during:
    - { from: 2s, to: 1s, gateways: [4], state: cut }
    - { from: 5s, to: 9s, state: down }
    - { from: 6s, to: 7s, gateways: [1], state: cut }
";
    assert_eq!(
        problems(&documents, &scenario(3, 10, 10, said)),
        [
            "3: there are 3 gateways, and leases:10.0.1.1:7400,10.0.1.2:7400 has 2 members: who is none of them shares \
             nothing [contradiction]",
            "12: it ends before it begins [invalid-value]",
            "12: there is no gateway 4, only 3 [unknown-name]",
            "13: no gateway is left to which requests could come [contradiction]",
        ]
    );
    assert_eq!(
        problems(EDGE, &scenario(2, 10, 10, "leases: { lost: 1% }\n")),
        ["10: no limits of the configuration are shared by leases [no-effect]"]
    );
}

#[test]
fn services_whose_own_proxies_would_need_a_share_are_refused() {
    let documents = format!(
        "{}---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: calls }}
spec:
  targetRef: {{ kind: Service, name: stock }}
  limits: [{{ name: all, requests: 10, window: 1s }}]
  leases: {{ members: ['10.0.1.1:7400', '10.0.1.2:7400'], secret: {{ environment: NARU_CIRCLE }} }}
---
apiVersion: v1
kind: Service
metadata: {{ name: stock }}
spec: {{ selector: {{ app: stock }}, ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: stock }}
spec:
  selector: {{ matchLabels: {{ app: stock }} }}
  template:
    metadata: {{ labels: {{ app: stock }} }}
    spec: {{ containers: [{{ name: stock, command: [naru, workload] }}] }}
",
        limit(2, 10, 1_000, "tokenBucket", "local")
    );
    let scenario = "config: documents
duration: 1s
gateways: 2
load:
  - name: all
    arrivals: { constant: 1/s }
    requests: [{ path: /, host: a.example }]
services:
  - name: places
    serves: ['10.0.0.1:80']
    calls: [{ host: stock }]
  - { name: stock, serves: [stock] }
";
    let Err(RunError::Scenario(problems)) = play(&documents, scenario, 1) else { panic!("it was played") };
    let told: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect();
    assert_eq!(
        told,
        [
            "9: calls of 'places' pass limits of leases:10.0.1.1:7400,10.0.1.2:7400, whose members are gateways: its own \
             proxies are none"
        ]
    );
}
