//! What documents say about rate limits, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_plan::{Client, Planned, Surroundings, plan};
use naru_spec::{
    Check, CheckKind, Config, CountPlace, DataSource, GateChange, Lacking, Leases, Problem, Quota,
    QuotaAlgorithm, QuotaKey, Redis, RedisTls, Severity, Store, StoreUse, WithoutStore, defaults,
};

const AROUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: users}
spec: {ports: [{name: http, port: 80}]}
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
  http:
  - name: login
    match: [{uri: {prefix: /login}}]
    route: [{destination: {host: users}}]
  - name: rest
    route: [{destination: {host: users}}]
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

fn limits(check: &Check) -> &[Quota] {
    let CheckKind::Quotas(quotas) = &check.kind else { panic!("{check:?}") };
    &quotas.limits
}

/// What the gate of the gateway says, and what each of its rules.
fn gates(config: &Config) -> (Vec<Check>, Vec<Vec<GateChange>>) {
    let http = &config.listeners[0].chains[0].http;
    let rules = http.routes.virtual_hosts.iter().flat_map(|host| &host.rules);
    (http.gate.checks.clone(), rules.map(|rule| rule.gate.clone()).collect())
}

fn limit(target: &str, limits: &str) -> String {
    format!(
        "
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{name: limits}}
spec:
  {target}
  limits: {limits}
"
    )
}

const SEEDS: &str = "
  - {name: global, requests: 1000, window: 1s}
  - {name: ip, requests: 200, window: 60s, key: [{from: address}]}
  - {name: user, requests: 100, window: 60s, key: [{from: header, name: X-User-Id}], algorithm: slidingWindow, shadow: true}";

#[test]
fn the_limits_of_the_traffic_guide_are_for_all_gateways() {
    let (checks, rules) = gates(&planned(&limit("", SEEDS)));
    assert_eq!(rules, [Vec::new(), Vec::new()]);
    let [check] = checks.as_slice() else { panic!("{checks:?}") };
    assert_eq!(check.name, "RateLimit/default/limits");
    let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    let quota = |name: &str, algorithm, key| Quota {
        name: format!("RateLimit/default/limits/{name}"),
        algorithm,
        key,
        lacking: Lacking::Uncounted,
        cost: 1,
        is_shadow: false,
        keys_max: defaults::QUOTA_KEYS_MAX,
    };
    let bucket = |requests, window| QuotaAlgorithm::TokenBucket { requests, window, burst: requests };
    let user = QuotaAlgorithm::SlidingWindow { requests: 100, window: minute };
    assert_eq!(
        limits(check),
        [
            quota("global", bucket(1_000, second), Vec::new()),
            quota("ip", bucket(200, minute), vec![QuotaKey::Address { ipv6_bits: 64 }]),
            Quota {
                is_shadow: true,
                ..quota("user", user, vec![QuotaKey::Header("x-user-id".parse().unwrap())])
            },
        ]
    );
}

#[test]
fn a_limit_is_for_what_it_is_attached_to() {
    let one = "[{name: a, requests: 1, window: 1s, burst: 5, cost: 2}]";
    let (checks, _) = gates(&planned(&limit("targetRef: {kind: Gateway, name: edge}", one)));
    assert_eq!(checks.len(), 1);
    let text = limit("targetRef: {kind: VirtualService, name: shop, sectionName: login}", one);
    let (checks, rules) = gates(&planned(&text));
    assert!(checks.is_empty());
    let [login, rest] = rules.as_slice() else { panic!("{rules:?}") };
    let [GateChange::Also(check)] = login.as_slice() else { panic!("{login:?}") };
    assert_eq!((limits(check)[0].cost, limits(check)[0].algorithm.capacity()), (2, 5));
    assert!(rest.is_empty());
    let (_, rules) = gates(&planned(&limit("targetRef: {kind: VirtualService, name: shop}", one)));
    assert!(rules.iter().all(|changes| changes.len() == 1));
}

/// What each host of a caller's listener says of its rules.
fn of_callers(text: &str) -> (Vec<(String, usize)>, Vec<Problem>) {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{AROUND}{text}"), &mut loaded);
    assert!(loaded.problems.is_empty(), "{:#?}", loaded.problems);
    let surroundings = Surroundings { clients: vec![Client::unnamed()], ..Surroundings::default() };
    let planned = plan(&loaded.resources, &surroundings);
    let listener = planned.config.listeners.iter().find(|listener| listener.name.starts_with("outbound/"));
    let http = &listener.unwrap().chains[0].http;
    assert!(http.gate.checks.is_empty());
    let hosts = http.routes.virtual_hosts.iter().map(|host| {
        let limits =
            host.rules.iter().flat_map(|rule| &rule.gate).filter(|change| {
                matches!(change, GateChange::Also(Check { kind: CheckKind::Quotas(_), .. }))
            });
        (host.name.clone(), limits.count())
    });
    (hosts.collect(), planned.problems)
}

#[test]
fn a_limit_of_a_service_is_where_workloads_call_it() {
    let one = "[{name: a, requests: 1, window: 1s}]";
    let others = "
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {ports: [{name: http, port: 80}, {name: tcp-more, port: 81}]}
---";
    let of_users = limit("targetRef: {kind: Service, name: users}", one);
    let (hosts, problems) = of_callers(&format!("{others}{of_users}"));
    assert!(problems.is_empty(), "{problems:#?}");
    let limited: Vec<&str> =
        hosts.iter().filter(|(_, limits)| *limits > 0).map(|(name, _)| name.as_str()).collect();
    assert_eq!(limited, ["users.default.svc.cluster.local:80"]);
    // A gateway counts by what it says itself.
    let (checks, rules) = gates(&planned(&of_users));
    assert!(checks.is_empty() && rules.iter().all(Vec::is_empty));
    let bytes = "
apiVersion: v1
kind: Service
metadata: {name: bytes}
spec: {ports: [{name: tcp, port: 80}]}
---";
    let (hosts, problems) =
        of_callers(&format!("{bytes}{}", limit("targetRef: {kind: Service, name: bytes}", one)));
    assert!(hosts.iter().all(|(_, limits)| *limits == 0));
    let told: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(told, ["it has no effect: no port that it is for speaks HTTP"]);
}

#[test]
fn counts_can_be_kept_elsewhere() {
    let text = limit(
        "redis: {addresses: ['10.0.0.1:6379', 'redis-2:6379'], cluster: true, timeout: 20ms, otherwise: refuse}",
        "[{name: a, requests: 1, window: 1s}]",
    );
    let config = planned(&text);
    let name = "redis-cluster:10.0.0.1:6379,redis-2:6379".to_owned();
    let nodes = vec!["10.0.0.1:6379".to_owned(), "redis-2:6379".to_owned()];
    assert_eq!(
        config.stores,
        [Store { name: name.clone(), place: CountPlace::Redis(Redis::plain(nodes, true)) }]
    );
    let CheckKind::Quotas(quotas) = &gates(&config).0[0].kind else { panic!() };
    let otherwise = WithoutStore::Refuse;
    assert_eq!(
        quotas.store,
        Some(StoreUse { name, timeout: Duration::from_millis(20), otherwise, proxies: 1 })
    );
}

#[test]
fn a_redis_may_ask_who_one_is() {
    let text = limit(
        "redis: {addresses: ['redis:6380'], tls: {ca: /ca.pem}, user: naru, password: {environment: REDIS}}",
        "[{name: a, requests: 1, window: 1s}]",
    );
    let file = DataSource::File("/ca.pem".into());
    let redis = Redis {
        nodes: vec!["redis:6380".into()],
        is_cluster: false,
        tls: Some(RedisTls { authority: file }),
        user: Some("naru".into()),
        password: Some(DataSource::Environment("REDIS".into())),
    };
    let store = Store { name: "rediss:naru@redis:6380".into(), place: CountPlace::Redis(redis) };
    assert_eq!(planned(&text).stores, [store]);
}

#[test]
fn shares_can_be_leased() {
    let text = limit(
        "leases: {members: ['10.0.0.2:7400', '10.0.0.1:7400'], secret: {file: /secret}, lease: 1s, otherwise: refuse}",
        "[{name: a, requests: 1, window: 1s}]",
    );
    let config = planned(&text);
    let members = vec!["10.0.0.1:7400".parse().unwrap(), "10.0.0.2:7400".parse().unwrap()];
    let leases =
        Leases { members, secret: DataSource::File("/secret".into()), lease: Duration::from_secs(1) };
    let name = "leases:10.0.0.1:7400,10.0.0.2:7400".to_owned();
    assert_eq!(config.stores, [Store { name: name.clone(), place: CountPlace::Leases(leases) }]);
    let CheckKind::Quotas(quotas) = &gates(&config).0[0].kind else { panic!() };
    let (timeout, otherwise) = (defaults::STORE_TIMEOUT, WithoutStore::Refuse);
    assert_eq!(quotas.store, Some(StoreUse { name, timeout, otherwise, proxies: 2 }));
}

#[test]
fn who_is_counted_may_be_said_by_a_token() {
    let text = limit(
        "",
        "
  - {name: a, requests: 1, window: 1s, lacking: together, key: [{from: claim, name: sub}, {from: claim, name: '[a][b.c]'}]}
  - {name: b, requests: 1, window: 1s, key: [{from: session}]}",
    );
    let (checks, _) = gates(&planned(&text));
    let claims = [vec!["sub".to_owned()], vec!["a".to_owned(), "b.c".to_owned()]];
    assert_eq!(limits(&checks[0])[0].key, claims.map(QuotaKey::Claim));
    assert_eq!(limits(&checks[0])[0].lacking, Lacking::Together);
    assert_eq!(limits(&checks[0])[1].key, [QuotaKey::Session]);
}

#[test]
fn what_cannot_be_is_told_where_it_stands() {
    let check = |target: &str, limits: &str, expected: &str| {
        let (_, errors) = load(&limit(target, limits));
        let told: Vec<String> =
            errors.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        assert!(told.iter().any(|told| told == expected), "{told:#?}");
    };
    let one = "[{name: a, requests: 1, window: 1s}]";
    check("", "[]", "spec.limits: it has no limits");
    check(
        "",
        "[{name: a, requests: 0, window: 1s}]",
        "spec.limits[0].requests: 0 is out of range: 1 to 4294967295",
    );
    check("", "[{name: a, requests: 1, window: 0s}]", "spec.limits[0].window: a window is 1 ms or more");
    check(
        "",
        "[{name: a, requests: 3, window: 1s, cost: 4}]",
        "spec.limits[0].cost: no request ever passes: at most 3 are there at once",
    );
    check(
        "",
        "[{name: a, requests: 3, window: 1s, burst: 4, algorithm: fixedWindow}]",
        "spec.limits[0].burst: a window has no burst",
    );
    check(
        "",
        "[{name: a, requests: 3, window: 1s, key: [{from: claim, name: '[realm]['}]}]",
        "spec.limits[0].key[0].name: '[realm][' is no name of a claim",
    );
    check(
        "",
        "[{name: a, requests: 3, window: 1s, key: [{from: header}]}]",
        "spec.limits[0].key[0]: the field 'name' is missing",
    );
    check(
        "",
        "[{name: a, requests: 1, window: 1s}, {name: a, requests: 1, window: 1s}]",
        "spec.limits[1].name: there is a limit named 'a' already",
    );
    check(
        "targetRef: {kind: DestinationRule, name: users}",
        one,
        "spec.targetRef.kind: a RateLimit cannot be attached to a DestinationRule",
    );
    check(
        "targetRef: {kind: Service, name: users, sectionName: http}",
        one,
        "spec.targetRef.sectionName: a Service has no subsets: name its DestinationRule",
    );
    check(
        "targetRef: {kind: Gateway, name: other}",
        one,
        "spec.targetRef.name: there is no Gateway 'other' in default",
    );
    check(
        "redis: {addresses: ['a:1'], proxies: 0}",
        one,
        "spec.redis.proxies: 0 is out of range: 1 to 4294967295",
    );
    let secret = "secret: {file: /secret}";
    for (leases, expected) in [
        ("members: [here:1]", "spec.leases.members[0]: 'here:1' is no address and port of a proxy"),
        ("members: ['0.0.0.0:1']", "spec.leases.members[0]: '0.0.0.0:1' is no address and port of a proxy"),
        ("members: ['1.1.1.1:1', '1.1.1.1:1']", "spec.leases.members[1]: 1.1.1.1:1 is a member already"),
        ("members: []", "spec.leases.members: between 1 and 32 proxies share a limit"),
        ("members: ['1.1.1.1:1'], lease: 100ms", "spec.leases.lease: a lease is 200 ms or more"),
        ("members: ['1.1.1.1:1'], timeout: 0s", "spec.leases.timeout: nobody answers in no time"),
    ] {
        check(&format!("leases: {{{leases}, {secret}}}"), one, expected);
    }
    check(
        "leases: {members: ['1.1.1.1:1'], secret: {}}",
        one,
        "spec.leases.secret: exactly one of file and environment is needed",
    );
    check(
        "leases: {members: ['1.1.1.1:1'], secret: {file: /a}}\n  redis: {addresses: ['a:1']}",
        one,
        "spec.leases: a limit is counted in one place",
    );
    check("redis: {addresses: ['a:1'], user: naru}", one, "spec.redis.user: a user needs a password");
    check("redis: {addresses: [here]}", one, "spec.redis.addresses[0]: 'here' is no address");
    check(
        "redis: {addresses: ['a:1', 'b:1']}",
        one,
        "spec.redis.addresses[1]: a single Redis has one address",
    );
}
