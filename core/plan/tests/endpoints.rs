//! What DestinationRules and what is attached to hosts make of clusters.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use naru_plan::{Surroundings, plan};
use naru_spec::{BalancingPolicy, Cluster, Config, RetryLimit};

/// Of documents in which nothing is wrong but what is said.
fn config(documents: &str, told: &[&str]) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", documents, &mut loaded);
    let planned = plan(&loaded.resources, &Surroundings::default());
    let problems = loaded.problems.iter().chain(&planned.problems);
    let found: Vec<&str> = problems.map(|problem| problem.message.as_str()).collect();
    assert_eq!(found, told);
    planned.config
}

fn cluster<'a>(config: &'a Config, name: &str) -> &'a Cluster {
    config.clusters.iter().find(|cluster| cluster.name == name).unwrap_or_else(|| panic!("no {name}"))
}

const TWO_HOSTS: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two}
spec:
  hosts: [a.test.com, b.test.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: wild}
spec:
  host: \"*.test.com\"
";

#[test]
fn what_is_attached_to_a_pattern_of_hosts_acts_on_each_that_has_nothing_closer() {
    let documents = format!(
        "{TWO_HOSTS}---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {{name: wild}}
spec: {{targetRef: {{kind: DestinationRule, name: wild}}, slidingWindowSize: 10}}
---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {{name: b}}
spec: {{targetRef: {{kind: Service, name: b.test.com}}, slidingWindowSize: 20}}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: wild}}
spec:
  targetRef: {{kind: DestinationRule, name: wild}}
  healthCheck: {{http: {{path: /h}}}}
  loadBalancing: {{peakEwma: {{}}}}
  stickySession: {{cookie: {{name: place}}}}
  fallback: {{steps: [{{response: {{status: 200}}}}]}}
"
    );
    let config = config(&documents, &[]);
    for (host, window) in [("a", 10), ("b", 20)] {
        let cluster = cluster(&config, &format!("outbound|80||{host}.test.com"));
        let breaker = cluster.guard.circuit_breaker.as_ref().unwrap();
        assert_eq!(breaker.window, naru_spec::Window::Count(window), "{host}");
        assert!(cluster.guard.health_check.is_some() && cluster.fallback.is_some(), "{host}");
        assert!(matches!(cluster.load_balancing.policy, BalancingPolicy::PeakEwma(_)), "{host}");
        assert!(cluster.load_balancing.sticky.is_some(), "{host}");
    }
}

#[test]
fn no_retries_at_once_is_without_limit_as_istio_has_it() {
    let documents = TWO_HOSTS.to_owned()
        + "  trafficPolicy: {connectionPool: {http: {maxRetries: 0, http2MaxRequests: 7}}}\n";
    let config = config(&documents, &["'maxRetries: 0' is without limit, as in Istio"]);
    let limits = &cluster(&config, "outbound|80||a.test.com").limits.normal;
    assert_eq!(limits.retries, RetryLimit::Concurrent(u32::MAX));
    assert_eq!(limits.requests_max, 7);
}

#[test]
fn a_rule_means_the_host_of_a_service_entry_that_has_no_dot() {
    let documents = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy}
spec:
  hosts: [legacy]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: legacy}
spec:
  host: legacy
  trafficPolicy: {outlierDetection: {maxEjectionPercent: 50}, loadBalancer: {simple: RANDOM}}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: legacy}
spec:
  targetRef: {kind: DestinationRule, name: legacy}
  loadBalancing: {overprovisioningFactor: 200}
";
    let config = config(documents, &[]);
    let cluster = cluster(&config, "outbound|80||legacy");
    assert!(cluster.guard.outlier_detection.is_some());
    assert_eq!(cluster.load_balancing.policy, BalancingPolicy::Random);
    assert_eq!(cluster.load_balancing.overprovisioning_percent, 200);
}

/// The ports whose endpoints are asked by a check, of a service with these.
fn asked(ports: &str, check: &str, more: &str) -> Vec<u16> {
    let documents = format!(
        "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s}}
spec:
  hosts: [s.test]
  ports: [{ports}]
  resolution: STATIC
  endpoints: [{{address: 10.0.0.1}}]
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: h}}
spec: {{targetRef: {{kind: Service, name: s.test}}, healthCheck: {check}}}
{more}"
    );
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &documents, &mut loaded);
    assert_eq!(loaded.problems, []);
    let config = plan(&loaded.resources, &Surroundings::default()).config;
    let asked = config.clusters.iter().filter(|cluster| cluster.guard.health_check.is_some());
    let mut ports: Vec<u16> =
        asked.map(|cluster| cluster.name.split('|').nth(1).unwrap().parse().unwrap()).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn a_health_check_asks_ports_that_speak_as_it_does() {
    const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
    const GRPC: &str = "{number: 90, name: grpc, protocol: GRPC}";
    const TCP: &str = "{number: 5432, name: tcp-db, protocol: TCP}";
    let all = [HTTP, GRPC, TCP].join(", ");
    let by_http = "{http: {path: /h}}";
    assert_eq!(asked(&all, by_http, ""), [80]);
    assert_eq!(asked(&all, "{grpc: {}}", ""), [90]);
    assert_eq!(asked(&all, "{http: {path: /h, http2: true}}", ""), [90]);
    assert_eq!(asked(&all, "{tcp: {}}", ""), [80, 90, 5432]);
    assert_eq!(asked(HTTP, "{grpc: {}}", ""), [80], "one that may speak so is better than none");
    assert_eq!(asked(TCP, by_http, ""), [0_u16; 0]);
    let tls = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: s}\n\
               spec: {host: s.test, trafficPolicy: {tls: {mode: SIMPLE}}}\n";
    let https = "{number: 443, name: https, protocol: HTTPS}";
    assert_eq!(asked(https, by_http, tls), [443], "naru adds the TLS, and nobody knows what is in it");
}
