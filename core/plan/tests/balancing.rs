//! What a DestinationRule's load balancer becomes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_plan::{Client, Surroundings, plan};
use naru_spec::{
    BalancingPolicy, Cluster, ConsistentHash, Cookie, HashPolicy, HashSource, HashTable, LeastRequest,
    LoadBalancing, MaglevSize, PeakEwma, RingSize, Sticky, StickyCarrier, Thousandths, WarmUp,
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
    cluster_beside(policy, "")
}

/// With other documents.
fn cluster_beside(policy: &str, others: &str) -> Cluster {
    let indented: String = policy.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{SERVICE}{indented}{others}"), &mut loaded);
    let client = Client { labels: vec![("istio-locality".into(), "eu.a.1".into())], ..Client::unnamed() };
    let surroundings = Surroundings { clients: vec![client], ..Surroundings::default() };
    let planned = plan(&loaded.resources, &surroundings);
    let problems: Vec<_> = loaded.problems.iter().chain(&planned.problems).collect();
    assert!(problems.is_empty(), "{problems:?}");
    let [cluster, _addresses] = planned.config.clusters.as_slice() else {
        panic!("{:?}", planned.config.clusters)
    };
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

/// Of a rule that says this, and a policy of our own that says that.
fn with_own(policy: &str, own: &str) -> Cluster {
    let head = "---\napiVersion: naru.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: own}\nspec:";
    let target = "targetRef: {kind: DestinationRule, name: shop}";
    cluster_beside(policy, &format!("{head}\n  {target}\n  {own}\n"))
}

#[test]
fn what_istio_has_no_words_for_is_said_by_a_policy_of_our_own() {
    let of = |policy, own| with_own(policy, own).load_balancing.policy;
    let least =
        |choices, bias| BalancingPolicy::LeastRequest(LeastRequest { choices, bias: Thousandths(bias) });
    let said = "loadBalancing: {leastRequest: {choiceCount: 3, activeRequestBias: 0.5}}";
    assert_eq!(of("loadBalancer: {simple: LEAST_REQUEST}", said), least(3, 500));
    assert_eq!(of("connectionPool: {}", "loadBalancing: {leastRequest: {}}"), least(2, 1_000));
    let ewma = PeakEwma { first: Duration::from_millis(30), decay: Duration::from_secs(5) };
    let said = "loadBalancing: {peakEwma: {decay: 5s}}";
    assert_eq!(of("connectionPool: {}", said), BalancingPolicy::PeakEwma(ewma));
    let hash = ConsistentHash {
        load_max_percent: Some(125),
        ..ConsistentHash::new(HashTable::Ring(RingSize::default()))
    };
    let said = "loadBalancing: {hashBalanceFactor: 125}";
    let policy = "loadBalancer: {consistentHash: {useSourceIp: true}}";
    assert_eq!(of(policy, said), BalancingPolicy::ConsistentHash(hash));
    let said = "loadBalancing: {overprovisioningFactor: 200, healthyPanicThreshold: 70}";
    let cluster = with_own("outlierDetection: {maxEjectionPercent: 50}", said);
    assert_eq!((cluster.load_balancing.overprovisioning_percent, cluster.guard.panic_percent), (200, 70));
    assert_eq!(with_own("connectionPool: {}", said).guard.panic_percent, 70);
}

#[test]
fn a_sticky_session_is_a_cookie_for_all_paths_or_a_header() {
    let of = |own| with_own("connectionPool: {}", own).load_balancing.sticky.unwrap();
    let cookie =
        |ttl, path: &str| StickyCarrier::Cookie(Cookie::new("place", ttl, path, Vec::new()).unwrap());
    let plain = Sticky { carrier: cookie(None, "/"), is_strict: false };
    assert_eq!(of("stickySession: {cookie: {name: place}}"), plain);
    let said = "stickySession: {cookie: {name: place, ttl: 60s, path: /shop}, strict: true}";
    let strict = Sticky { carrier: cookie(Some(Duration::from_secs(60)), "/shop"), is_strict: true };
    assert_eq!(of(said), strict);
    let header = Sticky { carrier: StickyCarrier::Header("x-place".parse().unwrap()), is_strict: false };
    assert_eq!(of("stickySession: {header: X-Place}"), header);
}

#[test]
fn a_gateway_stands_where_its_workload_does_or_where_its_own_labels_say() {
    let documents = |gateway: &str, others: &str| {
        format!(
            "{SERVICE}    outlierDetection: {{maxEjectionPercent: 50}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {gateway}
spec:
  selector: {{istio: gate}}
  servers: [{{port: {{number: 8080, name: http, protocol: HTTP}}, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: gate}}
spec: {{hosts: ['*'], gateways: [gate], http: [{{route: [{{destination: {{host: shop.example}}}}]}}]}}
{others}"
        )
    };
    let deployment = |namespace: &str, region: &str| {
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: gate, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{istio: gate}}}}
  template:
    metadata: {{labels: {{istio: gate, topology.kubernetes.io/region: {region}}}}}
    spec: {{containers: [{{name: main, image: gate}}]}}
"
        )
    };
    let priorities = |text: &str| -> Vec<u32> {
        let mut loaded = naru_doc::Loaded::default();
        naru_doc::load("case.yaml", text, &mut loaded);
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let surroundings = Surroundings { clients: Vec::new(), ..Surroundings::default() };
        let planned = plan(&loaded.resources, &surroundings);
        assert!(!planned.has_errors(), "{:?}", planned.problems);
        let [cluster] = planned.config.clusters.as_slice() else { panic!("{:?}", planned.config.clusters) };
        cluster.endpoints.iter().map(|one| one.priority).collect()
    };
    let plain = "{name: gate}";
    assert_eq!(priorities(&documents(plain, "")), [0, 0, 0, 0], "nobody knows where it stands");
    let labelled = "{name: gate, labels: {istio-locality: us.a}}";
    assert_eq!(priorities(&documents(labelled, "")), [1, 1, 0, 1]);
    let us = deployment("elsewhere", "us");
    assert_eq!(priorities(&documents(plain, &us)), [1, 1, 0, 1]);
    let both = format!("{us}{}", deployment("default", "eu"));
    assert_eq!(priorities(&documents(labelled, &both)), [0, 0, 1, 0], "that of its own namespace");
}
