//! What a DestinationRule's load balancer becomes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_plan::{Client, Surroundings, plan};
use naru_spec::{
    BalancingPolicy, Cluster, ConsistentHash, Cookie, HashPolicy, HashSource, HashTable, LoadBalancing,
    MaglevSize, RingSize, Thousandths, WarmUp,
};

const SERVICE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.example]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, locality: eu/a/1, weight: 2}
  - {address: 10.0.0.2, locality: eu/b/1}
  - {address: 10.0.0.3, locality: us/a, labels: {istio-locality: ignored.here}}
  - {address: 10.0.0.4, labels: {istio-locality: eu.a.1}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop.example
  trafficPolicy:
";

/// The cluster of a client in `eu/a/1` whose rule says this.
fn cluster(policy: &str) -> Cluster {
    let indented: String = policy.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{SERVICE}{indented}"), &mut loaded);
    let client = Client { labels: vec![("istio-locality".into(), "eu.a.1".into())], ..Client::unnamed() };
    let surroundings = Surroundings { clients: vec![client], ..Surroundings::default() };
    let planned = plan(&loaded.resources, &surroundings);
    let problems: Vec<_> = loaded.problems.iter().chain(&planned.problems).collect();
    assert!(problems.is_empty(), "{problems:?}");
    let [cluster] = planned.config.clusters.as_slice() else { panic!("{:?}", planned.config.clusters) };
    assert_eq!(planned.config.problems(), []);
    cluster.clone()
}

fn check(policy: &str, expected: LoadBalancing) {
    let expected = LoadBalancing { weighs_localities: true, ..expected };
    assert_eq!(cluster(policy).load_balancing, expected, "{policy}");
}

fn hashed(table: HashTable, source: HashSource) -> LoadBalancing {
    let mut settings = LoadBalancing::from(BalancingPolicy::ConsistentHash(ConsistentHash::new(table)));
    settings.hash.push(HashPolicy::of(source));
    settings
}

#[test]
fn simple_policies_are_what_they_say_and_the_least_loaded_otherwise() {
    check("loadBalancer: {simple: ROUND_ROBIN}", LoadBalancing::round_robin());
    check("loadBalancer: {simple: RANDOM}", LoadBalancing::random());
    check("loadBalancer: {simple: LEAST_REQUEST}", LoadBalancing::least_request());
    check("loadBalancer: {}", LoadBalancing::least_request());
    check("connectionPool: {}", LoadBalancing::least_request());
}

#[test]
fn a_consistent_hash_is_of_one_part_of_a_request() {
    let ring = HashTable::Ring(RingSize::default());
    check(
        "loadBalancer: {consistentHash: {httpHeaderName: X-User}}",
        hashed(ring, HashSource::Header("x-user".parse().unwrap())),
    );
    check(
        "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 4096}}",
        hashed(HashTable::Ring(RingSize::new(4_096, 8 << 20).unwrap()), HashSource::SourceIp),
    );
    check(
        "loadBalancer: {consistentHash: {httpQueryParameterName: Id, ringHash: {minimumRingSize: 9}}}",
        hashed(HashTable::Ring(RingSize::new(9, 8 << 20).unwrap()), HashSource::Query("Id".into())),
    );
    let attributes = vec![("Secure".into(), String::new()), ("SameSite".into(), "Lax".into())];
    let cookie = Cookie::new("user", Some(Duration::ZERO), "/shop", attributes).unwrap();
    check(
        "loadBalancer:
  consistentHash:
    httpCookie: {name: user, path: /shop, ttl: 0s, attributes: [{name: Secure}, {name: SameSite, value: Lax}]}
    maglev: {tableSize: 251}",
        hashed(HashTable::Maglev(MaglevSize::new(251).unwrap()), HashSource::Cookie(cookie)),
    );
}

#[test]
fn a_warm_up_is_read_in_both_spellings() {
    let mut old = LoadBalancing::least_request();
    old.warm_up = Some(WarmUp::over(Duration::from_secs(30)));
    check("loadBalancer: {warmupDurationSecs: 30s}", old);
    let mut new = LoadBalancing::round_robin();
    new.warm_up =
        Some(WarmUp { window: Duration::from_secs(60), aggression: Thousandths(1_500), min_percent: 20 });
    check(
        "loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 60s, aggression: 1.5, minimumPercent: 20}}",
        new,
    );
}

#[test]
fn the_near_come_first_where_endpoints_are_watched() {
    let placed = |policy: &str| -> Vec<(u32, u32)> {
        let cluster = cluster(policy);
        cluster.endpoints.iter().map(|one| (one.priority, one.locality_weight.0)).collect()
    };
    assert_eq!(placed("loadBalancer: {}"), [(0, 3), (0, 1), (0, 1), (0, 3)]);
    assert_eq!(placed("outlierDetection: {maxEjectionPercent: 50}"), [(0, 3), (1, 1), (2, 1), (0, 3)]);
    let off =
        "loadBalancer: {localityLbSetting: {enabled: false}}\noutlierDetection: {maxEjectionPercent: 50}";
    assert_eq!(placed(off), [(0, 1); 4]);
    assert!(!cluster(off).load_balancing.weighs_localities);
    let distribute =
        "loadBalancer: {localityLbSetting: {distribute: [{from: eu/*, to: {eu/a/*: 80, us/*: 20}}]}}";
    assert_eq!(placed(distribute), [(0, 80), (0, 20), (0, 80)]);
}
