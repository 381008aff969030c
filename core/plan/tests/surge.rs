//! What documents say about a surge, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_base::Fraction;
use naru_plan::{Planned, Surroundings, plan};
use naru_spec::{
    CheckKind, Config, HeaderTest, Problem, Severity, Surge, SurgeSignal, SurgeStep, SurgeThreshold,
};

const AROUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {naru.dev/priority: low}}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: main, command: [shop]}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: elsewhere}
spec:
  selector: {matchLabels: {app: elsewhere}}
  template: {metadata: {labels: {app: elsewhere}}, spec: {containers: [{name: main, image: elsewhere}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{name: all, route: [{destination: {host: shop}}]}]
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {name: shop}
spec: {targetRef: {kind: VirtualService, name: shop}, class: hot}
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {name: guide}
spec: {limits: [{name: all, requests: 9, window: 1s}, {name: user, requests: 9, window: 1s, key: [{from: address}]}]}
---
";

fn load(text: &str) -> (Planned, Vec<Problem>) {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{AROUND}{text}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
    let planned = plan(&loaded.resources, &Surroundings::default());
    let errors =
        planned.problems.iter().filter(|problem| problem.severity == Severity::Error).cloned().collect();
    (planned, errors)
}

fn planned(text: &str) -> Config {
    let (planned, errors) = load(text);
    assert!(errors.is_empty(), "{errors:#?}");
    planned.config
}

fn surge(spec: &str) -> String {
    format!("apiVersion: naru.dev/v1alpha1\nkind: Surge\nmetadata: {{name: playbook}}\nspec: {spec}\n")
}

/// One level with these steps.
fn steps(steps: &str) -> String {
    surge(&format!("{{levels: [{{name: busy, enter: {{cpuPercent: 80}}, steps: [{steps}]}}]}}"))
}

#[test]
fn the_playbook_of_the_traffic_guide_is_read_with_its_defaults() {
    let config = planned(&surge(
        "
  capacity: {requestsPerSecond: 100}
  levels:
  - name: busy
    enter: {requestsPercent: 80, p99: 800ms}
    leave: {requestsPercent: 50}
    steps:
    - rateLimit: {name: guide, factor: 0.5}
    - cacheLifetime: {class: hot, factor: 3}
    - pause: {priority: low}
  - name: full
    enter: {errorsPercent: 5.5}
    enterAfter: 1s
    leaveAfter: 2m
    steps:
    - shed: {match: [{headers: {x-priority: {exact: low}}}], percent: 50, retryAfter: 30s}
    - replicas: {workload: shop, factor: 1.5, max: 5}",
    ));
    let surge: &Surge = config.surge.as_ref().unwrap();
    assert_eq!((surge.every, surge.capacity), (Duration::from_secs(1), Some(100)));
    let [busy, full] = surge.levels.as_slice() else { panic!("{surge:#?}") };
    let is = |signal, value| SurgeThreshold { signal, value };
    assert_eq!(busy.enter, [is(SurgeSignal::Requests, 800), is(SurgeSignal::P99, 800_000)]);
    assert_eq!(busy.leave, [is(SurgeSignal::Requests, 500), is(SurgeSignal::P99, 600_000)]);
    assert_eq!((busy.enter_after, busy.leave_after), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!(
        (&full.enter, &full.leave),
        (&vec![is(SurgeSignal::Errors, 55)], &vec![is(SurgeSignal::Errors, 41)])
    );
    assert_eq!((full.enter_after, full.leave_after), (Duration::from_secs(1), Duration::from_secs(120)));
    let quotas = ["all", "user"].map(|limit| format!("RateLimit/default/guide/{limit}")).to_vec();
    assert_eq!(
        busy.steps,
        [
            SurgeStep::RateLimit { quotas, percent: 50 },
            SurgeStep::CacheLifetime { class: Some("hot".to_owned()), percent: 300 },
            SurgeStep::Pause { workload: "shop".to_owned() },
        ]
    );
    assert_eq!(surge.replicas("shop", 2, 2), 0);
    assert_eq!(full.steps[1], SurgeStep::Replicas { workload: "shop".to_owned(), percent: 150, max: 5 });
    // It is the first check of the gateway, and of nobody else.
    let gates = config.listeners.iter().map(|listener| &listener.chains[0].http.gate.checks);
    let gates: Vec<usize> = gates
        .map(|checks| checks.iter().filter(|check| matches!(check.kind, CheckKind::Shed(_))).count())
        .collect();
    assert_eq!(gates, [1, 0]);
    let check = &config.listeners[0].chains[0].http.gate.checks[0];
    assert_eq!(check.name, "Surge/default/playbook");
    let CheckKind::Shed(shed) = &check.kind else { panic!("{check:?}") };
    let [rule] = shed.rules.as_slice() else { panic!("{shed:?}") };
    assert_eq!((rule.from_level, rule.retry_after), (2, Duration::from_secs(30)));
    assert_ne!(rule.share, Fraction::ALL);
    assert!(matches!(rule.blocks[0].headers[0].test, HeaderTest::Value(_)));
}

#[test]
fn nothing_is_shed_and_nothing_is_asked_without_a_surge() {
    let config = planned("");
    assert_eq!(config.surge, None);
    assert!(
        config.listeners[0].chains[0].http.gate.checks.iter().all(|check| check.name.starts_with("Rate"))
    );
}

#[test]
fn what_cannot_be_is_told_where_it_stands() {
    let check = |text: &str, expected: &str| {
        let (_, errors) = load(text);
        let told: Vec<String> =
            errors.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        assert!(told.iter().any(|told| told == expected), "{text}\n{told:#?}");
        assert!(errors.iter().all(|problem| problem.line > 0), "{errors:#?}");
    };
    check(&surge("{levels: []}"), "spec.levels: it has 0 levels, of 1 to 8");
    check(
        &surge("{levels: [{name: a, enter: {}, steps: []}]}"),
        "spec.levels[0].enter: nothing says when it is entered",
    );
    check(
        &surge("{levels: [{name: a, enter: {requestsPercent: 80}, steps: []}]}"),
        "spec.levels[0].enter.requestsPercent: nobody knows what it is a part of",
    );
    check(
        &surge("{levels: [{name: a, enter: {cpuPercent: 80}, leave: {cpuPercent: 90}, steps: []}]}"),
        "spec.levels[0].leave.cpuPercent: it would be left below 90% and is entered at 80%",
    );
    check(
        &surge("{levels: [{name: a, enter: {cpuPercent: 80}, leave: {p99: 1s}, steps: []}]}"),
        "spec.levels[0].leave.p99: nothing is entered for 'p99'",
    );
    check(
        &surge("{levels: [{name: a, enter: {cpuPercent: 101}, steps: []}]}"),
        "spec.levels[0].enter.cpuPercent: 101 is not a percentage",
    );
    let one = "{name: a, enter: {cpuPercent: 80}, steps: []}";
    check(
        &surge(&format!("{{levels: [{one}, {one}]}}")),
        "spec.levels[1].name: there is a level 'a' already",
    );
    check(
        &format!(
            "{}---\n{}",
            steps("{pause: {workload: shop}}"),
            steps("{pause: {workload: shop}}").replace("playbook", "second")
        ),
        "spec: two documents are for the process: the other is case.yaml:47:18",
    );
    check(&steps("{}"), "spec.levels[0].steps[0]: a step is one thing, and this says 0");
    for (step, expected) in [
        (
            "{cacheLifetime: {class: static, factor: 2}}",
            "cacheLifetime.class: no route keeps answers of the class 'static'",
        ),
        ("{cacheLifetime: {factor: 0.5}}", "cacheLifetime.factor: 0.5 is out of range: 1 to 100"),
        (
            "{rateLimit: {name: nobody, factor: 0.5}}",
            "rateLimit.name: there is no RateLimit 'nobody' in default",
        ),
        ("{rateLimit: {limit: ip, factor: 0.5}}", "rateLimit.limit: there is no limit 'ip'"),
        ("{rateLimit: {factor: 2}}", "rateLimit.factor: 2 is out of range: 0.01 to 1"),
        ("{shed: {match: []}}", "shed.match: nothing says what is shed"),
        ("{shed: {match: [{}], percent: 0}}", "shed.percent: 0 is not a percentage"),
        ("{shed: {match: [{}], retryAfter: 10ms}}", "shed.retryAfter: Retry-After is in whole seconds"),
        (
            "{shed: {match: [{gateways: [edge]}]}}",
            "shed.match[0].gateways: naru does not act on 'gateways' here: all gateways shed alike",
        ),
        ("{pause: {workload: nobody}}", "pause.workload: there is no Deployment 'nobody' in default"),
        ("{pause: {workload: elsewhere}}", "pause.workload: Deployment 'elsewhere' is not run here"),
        (
            "{pause: {priority: none}}",
            "pause.priority: no Deployment that runs here has it: naru.dev/priority: none",
        ),
        ("{pause: {}}", "pause: exactly one of workload and priority is needed"),
        ("{replicas: {workload: shop, factor: 2, max: 0}}", "replicas.max: 0 is out of range: 1 to 1000"),
    ] {
        check(&steps(step), &format!("spec.levels[0].steps[0].{expected}"));
    }
}
