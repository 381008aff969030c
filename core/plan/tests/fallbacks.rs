//! What documents say about fallbacks, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderName, HeaderValue, StatusCode};
use naru_plan::{Surroundings, plan};
use naru_spec::{Action, Config, Fallback, FallbackAnswer, FallbackOn, FallbackStep, StatusRange};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: archive}
spec: {ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {v: a}}, {name: v2, labels: {v: b}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {name: new, match: [{uri: {prefix: /new}}], route: [{destination: {host: reviews, subset: v2}}]}
  - {name: old, route: [{destination: {host: reviews, subset: v1}}]}
---
";

fn planned(text: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{MESH}{text}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(planned.problems.is_empty(), "{:#?}", planned.problems);
    assert_eq!(planned.config.problems(), []);
    planned.config
}

fn of_rules(config: &Config) -> Vec<Option<&Fallback>> {
    let rules = &config.listeners[0].chains[0].http.routes.virtual_hosts;
    let reviews = rules.iter().find(|host| host.name.contains("reviews")).unwrap();
    let chains = reviews.rules.iter().map(|rule| match &rule.action {
        Action::Forward(forward) => forward.fallback.as_ref(),
        other => panic!("{other:?}"),
    });
    chains.collect()
}

fn of_cluster<'a>(config: &'a Config, name: &str) -> Option<&'a Fallback> {
    config.clusters.iter().find(|cluster| cluster.name == name).unwrap().fallback.as_ref()
}

const V1: &str = "outbound|80|v1|reviews.default.svc.cluster.local";
const V2: &str = "outbound|80|v2|reviews.default.svc.cluster.local";
const ARCHIVE: &str = "outbound|8080||archive.default.svc.cluster.local";

fn to(cluster: &str) -> FallbackStep {
    FallbackStep::Cluster(cluster.to_owned())
}

#[test]
fn all_that_can_be_said_of_a_chain_is_taken() {
    let config = planned(
        "
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: new}
spec:
  targetRef: {kind: VirtualService, name: reviews, sectionName: new}
  fallback:
    on: [breakerOpen, limited, 500-502, \"504\"]
    steps:
    - destination: {host: reviews, subset: v1}
    - destination: {host: archive, port: {number: 8080}}
    - response: {status: 200, headers: {X-From: naru}, contentType: application/json, body: '[]'}
---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: all}
spec:
  targetRef: {kind: VirtualService, name: reviews}
  fallback: {steps: [{response: {status: 503}}]}
",
    );
    let answer = FallbackAnswer {
        status: StatusCode::OK,
        headers: vec![
            (HeaderName::from_static("content-type"), HeaderValue::from_static("application/json")),
            (HeaderName::from_static("x-from"), HeaderValue::from_static("naru")),
        ],
        body: b"[]".to_vec(),
    };
    let on = FallbackOn {
        is_cut_off: true,
        is_limited: true,
        statuses: vec![StatusRange::new(500, 503).unwrap(), StatusRange::new(504, 505).unwrap()],
        ..FallbackOn::NOTHING
    };
    let own = Fallback { on, steps: vec![to(V1), to(ARCHIVE), FallbackStep::Answer(answer)] };
    let short =
        FallbackAnswer { status: StatusCode::SERVICE_UNAVAILABLE, headers: Vec::new(), body: Vec::new() };
    let whole = Fallback { on: FallbackOn::default(), steps: vec![FallbackStep::Answer(short)] };
    // A route has its own, or else that of its VirtualService.
    assert_eq!(of_rules(&config), [Some(&own), Some(&whole)]);
    assert!(config.clusters.iter().all(|cluster| cluster.fallback.is_none()));
}

#[test]
fn clusters_have_that_of_their_subset_or_else_of_their_service_also_where_they_lead_to_each_other() {
    let config = planned(
        "
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: reviews}
spec:
  targetRef: {kind: Service, name: reviews}
  fallback: {steps: [{destination: {host: archive}}]}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: new}
spec:
  targetRef: {kind: DestinationRule, name: reviews, sectionName: v2}
  fallback: {steps: [{destination: {host: reviews, subset: v1}}]}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: archive}
spec:
  targetRef: {kind: Service, name: archive}
  fallback: {steps: [{destination: {host: reviews, subset: v2}}]}
",
    );
    let steps = |cluster| of_cluster(&config, cluster).unwrap().steps.clone();
    assert_eq!(steps(V1), [to(ARCHIVE)]);
    assert_eq!(steps(V2), [to(V1)]);
    assert_eq!(steps(ARCHIVE), [to(V2)]);
    assert_eq!(of_rules(&config), [None, None]);
    // What is only led to by a chain has its breaker, too.
    assert!(config.clusters.iter().any(|cluster| cluster.guard.circuit_breaker.is_some()));
}
