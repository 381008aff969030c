//! What `ResponseCache` documents mean.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_plan::{Planned, Surroundings, plan};
use naru_spec::{Action, CacheKeyQuery, CachePolicy, CacheWrite, DataSource};

const ROUTES: &str = "
apiVersion: v1
kind: Service
metadata: {name: places}
spec: {ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [places]
  http:
  - {name: list, match: [{uri: {prefix: /list}}], route: [{destination: {host: places}}]}
  - {name: all, route: [{destination: {host: places}}]}
";

fn planned(documents: &str) -> Planned {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{ROUTES}{documents}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let planned = plan(&loaded.resources, &Surroundings::default());
    assert!(planned.problems.is_empty(), "{:?}", planned.problems);
    planned
}

fn policy_of(planned: &Planned, name: &str) -> Option<CachePolicy> {
    let chains = planned.config.listeners.iter().flat_map(|listener| &listener.chains);
    let hosts = chains.flat_map(|chain| &chain.http.routes.virtual_hosts);
    let rule = hosts.flat_map(|host| &host.rules).find(|rule| rule.name == name).unwrap();
    match &rule.action {
        Action::Forward(forward) => forward.cache.as_deref().cloned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_more_specific_document_wins_and_classes_give_lifetimes() {
    let planned = planned(
        "---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {name: whole}
spec: {targetRef: {kind: VirtualService, name: routes}, class: hot}
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {name: list}
spec:
  targetRef: {kind: VirtualService, name: routes, sectionName: list}
  class: mine
  staleWhileRevalidate: 10s
  negative: [{statuses: [\"404\"], ttl: 3s}]
  key: {headers: [X-Tenant], cookies: [user], query: {without: [utm]}}
  coalesce: {disabled: true}
  ignoreClientDirectives: true
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {name: process}
spec: {maxBytes: 4000000, classes: {mine: {ttl: 7s}}}
",
    );
    assert_eq!(planned.config.cache.as_ref().unwrap().bytes_max, 4_000_000);
    let all = policy_of(&planned, "all").unwrap();
    assert_eq!((all.class.as_str(), all.lifetime), ("hot", Some(Duration::from_secs(300))));
    let list = policy_of(&planned, "list").unwrap();
    assert_eq!((list.class.as_str(), list.lifetime), ("mine", Some(Duration::from_secs(7))));
    assert_eq!(list.stale_while_revalidate, Some(Duration::from_secs(10)));
    assert_eq!((list.key.headers[0].as_str(), list.key.cookies[0].as_str()), ("x-tenant", "user"));
    assert_eq!(list.key.query, CacheKeyQuery::Without(vec!["utm".to_owned()]));
    assert!(list.coalesce.is_none() && !list.obeys_requests && !list.overrides);
    assert!(list.negative[0].0.has(404));
}

#[test]
fn without_a_document_nothing_is_kept() {
    assert_eq!(policy_of(&planned(""), "list"), None);
}

#[test]
fn tiers_stand_behind_the_memory() {
    let planned = planned(
        "---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {name: process}
spec:
  maxBytes: 4000000
  tiers:
    disk: {directory: /var/cache/naru, maxBytes: 100000000}
    redis:
      addresses: ['10.0.0.5:6379', '10.0.0.6:6379']
      cluster: true
      tls: {ca: /etc/naru/ca.pem}
      user: naru
      password: {environment: REDIS_PASSWORD}
      prefix: shop
      timeout: 30ms
      write: through
      queue: 10
      pollEvery: 1s
",
    );
    let store = planned.config.cache.unwrap();
    let disk = store.disk.unwrap();
    assert_eq!((disk.directory.as_str(), disk.bytes_max), ("/var/cache/naru", 100_000_000));
    let redis = store.redis.unwrap();
    assert!(redis.redis.is_cluster && redis.redis.nodes.len() == 2 && redis.prefix == "shop");
    let authority = redis.redis.tls.map(|tls| tls.authority);
    assert_eq!(authority, Some(DataSource::File("/etc/naru/ca.pem".into())));
    assert_eq!(redis.redis.user.as_deref(), Some("naru"));
    assert_eq!(redis.redis.password, Some(DataSource::Environment("REDIS_PASSWORD".into())));
    assert_eq!((redis.timeout, redis.poll), (Duration::from_millis(30), Duration::from_secs(1)));
    assert_eq!((redis.write, redis.queue_max), (CacheWrite::Through, 10));
}
