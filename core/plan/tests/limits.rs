//! What documents say about limits, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_plan::{Surroundings, plan};
use naru_spec::{
    Action, AdaptiveConcurrency, AdmissionControl, Bulkhead, Cluster, ClusterLimits, Config, Http2Keepalive,
    LoadLimits, MinRtt, Named, RateClass, RateLimit, RetryBudget, RetryLimit, TcpKeepalive, Thresholds,
    Window,
};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: users}
spec: {ports: [{name: http, port: 80}]}
---
";

fn planned(text: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{SERVICE}{text}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(planned.problems.is_empty(), "{:#?}", planned.problems);
    planned.config
}

fn cluster(text: &str, name: &str) -> Cluster {
    let config = planned(text);
    config.clusters.into_iter().find(|cluster| cluster.name == name).unwrap()
}

const USERS: &str = "outbound|80||users.default.svc.cluster.local";

fn rule(policy: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: users}}
spec:
  host: users
  trafficPolicy: {policy}
"
    )
}

#[test]
fn without_a_word_nothing_is_limited_as_in_istio() {
    // But for retries, which are limited by a budget.
    let retries = RetryLimit::Budget(RetryBudget::default());
    let normal = Thresholds { retries, ..Thresholds::istio() };
    assert_eq!(cluster("", USERS).limits, ClusterLimits { normal, ..ClusterLimits::istio() });
    let of_pool = cluster(&rule("{connectionPool: {http: {idleTimeout: 5s}}}"), USERS).limits.normal;
    assert_eq!((of_pool, of_pool.connections_max), (normal, u32::MAX));
}

#[test]
fn a_connection_pool_is_taken_whole() {
    let limits = cluster(
        &rule(
            "
    connectionPool:
      tcp:
        maxConnections: 100
        maxConnectionDuration: 10m
        idleTimeout: 0s
        tcpKeepalive: {time: 60s}
      http:
        http1MaxPendingRequests: 50
        http2MaxRequests: 200
        maxRetries: 7
        http2KeepAlive: {interval: 30s, timeout: 5s}",
        ),
        USERS,
    )
    .limits;
    let normal = Thresholds {
        connections_max: 100,
        pending_max: 50,
        requests_max: 200,
        retries: RetryLimit::Concurrent(7),
        ..Thresholds::istio()
    };
    let expected = ClusterLimits {
        normal,
        tcp_idle_timeout: None,
        tcp_keepalive: Some(TcpKeepalive { time: Duration::from_secs(60), ..TcpKeepalive::default() }),
        http2_keepalive: Some(Http2Keepalive {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
        }),
        connection_duration_max: Some(Duration::from_secs(600)),
        ..ClusterLimits::istio()
    };
    assert_eq!(limits, expected);
    assert!(limits.problems().is_empty());
}

#[test]
fn limits_of_a_service_hold_for_all_of_its_clusters_together() {
    let config = planned(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: users}
spec: {host: users, subsets: [{name: v1, labels: {}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: users}
spec:
  hosts: [users]
  http:
  - match: [{uri: {prefix: /v1}}]
    route: [{destination: {host: users, subset: v1}}]
  - route: [{destination: {host: users}}]
---
apiVersion: naru.dev/v1alpha1
kind: Bulkhead
metadata: {name: users}
spec: {targetRef: {kind: Service, name: users}, maxConcurrent: 50, maxQueue: 20, maxWait: 500ms}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: users}
spec:
  targetRef: {kind: Service, name: users}
  adaptiveConcurrency: {minRtt: {fixed: 5ms}, maxConcurrency: 40}
  admissionControl: {aggression: 1.5, successThresholdPercent: 99.5, success: {grpc: [0]}}
  outboundRate: {class: critical}
",
    );
    let named = "Service/users.default.svc.cluster.local".to_owned();
    let of_service = || config.clusters.iter().filter(|cluster| cluster.name.contains("users"));
    for cluster in of_service() {
        let LoadLimits { breaker: _, bulkhead, adaptive, admission, rate } = cluster.load.clone();
        let settings = Bulkhead { concurrency_max: 50, queue_max: 20, wait_max: Duration::from_millis(500) };
        assert_eq!(bulkhead, Some(Named { name: named.clone(), settings }));
        let settings = AdaptiveConcurrency {
            concurrency_max: 40,
            min_rtt: MinRtt::Fixed(Duration::from_millis(5)),
            ..AdaptiveConcurrency::default()
        };
        assert_eq!(adaptive, Some(Named { name: named.clone(), settings }));
        let AdmissionControl { aggression_milli, success_threshold, success, .. } =
            admission.unwrap().settings;
        assert_eq!((aggression_milli, success_threshold.to_string()), (1_500, "995000/1000000".to_owned()));
        assert_eq!((success.grpc, success.http), (1, AdmissionControl::default().success.http));
        assert_eq!(rate.unwrap().settings, RateClass::Critical.limit());
    }
    assert_eq!(of_service().count(), 2);
}

#[test]
fn the_limits_of_a_route_win_over_those_of_its_virtual_service() {
    let config = planned(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: users}
spec:
  hosts: [users]
  http:
  - {name: slow, match: [{uri: {prefix: /slow}}], route: [{destination: {host: users}}]}
  - route: [{destination: {host: users}}]
---
apiVersion: naru.dev/v1alpha1
kind: Bulkhead
metadata: {name: all}
spec: {targetRef: {kind: VirtualService, name: users}}
---
apiVersion: naru.dev/v1alpha1
kind: Bulkhead
metadata: {name: slow}
spec: {targetRef: {kind: VirtualService, name: users, sectionName: slow}, maxConcurrent: 2}
---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: all}
spec: {targetRef: {kind: VirtualService, name: users}}
---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: {name: slow}
spec: {targetRef: {kind: VirtualService, name: users, sectionName: slow}, slidingWindowSize: 10}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: all}
spec:
  targetRef: {kind: VirtualService, name: users}
  outboundRate: {limitForPeriod: 9, limitRefreshPeriod: 100ms, timeoutDuration: 0s}
",
    );
    let rules = &config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules;
    let loads: Vec<&LoadLimits> = rules
        .iter()
        .map(|rule| match &rule.action {
            Action::Forward(forward) => &forward.load,
            other => panic!("{other:?}"),
        })
        .collect();
    let bulkheads: Vec<(&str, u32)> = loads
        .iter()
        .map(|load| load.bulkhead.as_ref().unwrap())
        .map(|bulkhead| (bulkhead.name.as_str(), bulkhead.settings.concurrency_max))
        .collect();
    let whole = "VirtualService/default/users";
    assert_eq!(bulkheads, [("VirtualService/default/users/slow", 2), (whole, 25)]);
    let breakers: Vec<(&str, Window)> = loads
        .iter()
        .map(|load| load.breaker.as_ref().unwrap())
        .map(|breaker| (breaker.name.as_str(), breaker.settings.window))
        .collect();
    let expected = [("VirtualService/default/users/slow", Window::Count(10)), (whole, Window::Count(100))];
    assert_eq!(breakers, expected);
    assert!(config.clusters.iter().all(|cluster| cluster.guard.circuit_breaker.is_none()));
    let settings = RateLimit { limit: 9, period: Duration::from_millis(100), wait_max: Duration::ZERO };
    for load in loads {
        assert_eq!(load.rate, Some(Named { name: whole.to_owned(), settings }));
    }
    assert!(config.clusters.iter().all(|cluster| cluster.load == LoadLimits::default()));
}
