//! A `Surge` in `naru up`: a load comes, steps act, the load goes, and everything is as before.

use std::net::SocketAddr;
use std::time::Duration;

use naru_tests::up::{deployment, free_address, service};
use naru_tests::wire::Message;
use naru_tests::{Up, Wire, until};
use serde_json::Value;

/// A shop, whose pages are kept for a second, and advertisements that it can do without.
fn shop(port: u16) -> String {
    let services = [service("shop", 80), service("ads", 80)].concat();
    let ads = deployment("ads", "app: ads", 1, "");
    let ads = ads.replace("{ name: ads }\nspec", "{ name: ads, labels: { naru.dev/priority: low } }\nspec");
    let deployments = [deployment("shop", "app: shop", 1, ""), ads].concat();
    format!(
        "{services}{deployments}---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {port}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: gate }}
spec:
  hosts: ['*']
  gateways: [gate]
  http:
  - {{ name: ads, match: [{{ uri: {{ prefix: /ads }} }}], route: [{{ destination: {{ host: ads }} }}] }}
  - {{ name: kept, match: [{{ uri: {{ prefix: /kept }} }}], route: [{{ destination: {{ host: shop }} }}] }}
  - {{ name: rest, route: [{{ destination: {{ host: shop }} }}] }}
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {{ name: kept }}
spec:
  targetRef: {{ kind: VirtualService, name: gate, sectionName: kept }}
  class: hot
  ttl: 1s
---
apiVersion: naru.dev/v1alpha1
kind: RateLimit
metadata: {{ name: callers }}
spec:
  limits:
  - {{ name: user, requests: 10, window: 36000s, algorithm: fixedWindow, key: [{{ from: header, name: x-user }}] }}
"
    )
}

/// Busy by requests, full only where an operator says so.
fn surge(factor: &str) -> String {
    format!(
        "
apiVersion: naru.dev/v1alpha1
kind: Surge
metadata: {{ name: playbook }}
spec:
  every: 100ms
  capacity: {{ requestsPerSecond: 5 }}
  levels:
  - name: busy
    enter: {{ requestsPercent: 100 }}
    leave: {{ requestsPercent: 50 }}
    enterAfter: 300ms
    leaveAfter: 500ms
    steps:
    - cacheLifetime: {{ class: hot, factor: 100 }}
    - rateLimit: {{ name: callers, limit: user, factor: {factor} }}
    - shed:
        match: [{{ headers: {{ x-priority: {{ exact: low }} }} }}]
        retryAfter: 7s
  - name: full
    enter: {{ errorsPercent: 100 }}
    enterAfter: 3600s
    leaveAfter: 1s
    steps:
    - pause: {{ priority: low }}
    - replicas: {{ workload: shop, factor: 2, max: 2 }}
"
    )
}

struct Shop {
    up: Up,
    gate: SocketAddr,
}

impl Shop {
    async fn start() -> Shop {
        let gate = free_address();
        let files = [("shop.yaml", shop(gate.port())), ("surge.yaml", surge("0.5"))];
        let shop = Shop { up: Up::start(&files, &["--workers", "2"]).await, gate };
        for path in ["/", "/ads"] {
            until("the shop to be open", async || (shop.status(path, "").await == 200).then_some(())).await;
        }
        shop
    }

    async fn ask(&self, path: &str, headers: &str) -> Option<Message> {
        tokio::net::TcpStream::connect(self.gate).await.ok()?;
        let mut wire = Wire::connect(self.gate).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: shop.local\r\n{headers}connection: close\r\n\r\n"))
            .await;
        Some(wire.response().await)
    }

    async fn status(&self, path: &str, headers: &str) -> u16 {
        self.ask(path, headers).await.map_or(0, |response| response.status())
    }

    /// How many of so many requests of a user pass.
    async fn passed(&self, user: &str, count: usize) -> usize {
        let mut passed = 0;
        for _ in 0..count {
            passed += usize::from(self.status("/", &format!("x-user: {user}\r\n")).await == 200);
        }
        passed
    }

    async fn is_from_memory(&self, path: &str) -> bool {
        let response = self.ask(path, "").await.unwrap();
        assert_eq!(response.status(), 200, "{response:?}");
        response.head.get("cache-status").unwrap().contains("hit")
    }

    async fn level(&self) -> u64 {
        self.described().await["level"].as_u64().unwrap()
    }

    async fn described(&self) -> Value {
        serde_json::from_str(&self.up.page("/surge?format=json").await).unwrap()
    }

    async fn hold(&self, query: &str) -> Message {
        let mut wire = Wire::connect(self.up.admin).await;
        wire.send(format!("POST /surge/hold?{query} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")).await;
        wire.response().await
    }

    /// How many processes of a service may be called.
    async fn ready(&self, name: &str) -> usize {
        let clusters = self.up.page("/clusters").await;
        let is_one = |line: &&str| {
            line.starts_with(&format!("outbound|80||{name}.")) && line.ends_with("::health_flags::healthy")
        };
        clusters.lines().filter(is_one).count()
    }

    async fn until_ready(&self, name: &str, count: usize) {
        until("processes to come or go", async || (self.ready(name).await == count).then_some(())).await;
    }
}

#[tokio::test]
async fn each_step_acts_at_its_level_and_is_undone_below_it() {
    let shop = Shop::start().await;
    // Nobody but the operator says the level here.
    assert_eq!(shop.hold("level=0").await.status(), 200);
    assert_eq!(shop.status("/", "x-priority: low\r\n").await, 200);
    assert_eq!(shop.passed("ann", 12).await, 10);

    assert_eq!(shop.hold("level=1").await.status(), 200);
    let shed = shop.ask("/", "x-priority: low\r\n").await.unwrap();
    assert_eq!((shed.status(), shed.head.get("retry-after"), shed.text().as_str()), (503, Some("7"), "shed"));
    assert_eq!(shop.status("/", "x-priority: high\r\n").await, 200);
    // Half of what the limit says else, and what was counted before counts.
    assert_eq!(shop.passed("bob", 12).await, 5);
    assert_eq!(shop.passed("ann", 1).await, 0);
    assert!(!shop.is_from_memory("/kept").await);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(shop.is_from_memory("/kept").await, "a second is a hundred");

    assert_eq!(shop.hold("level=2").await.status(), 200);
    shop.until_ready("ads", 0).await;
    shop.until_ready("shop", 2).await;
    // Workers take what the pages already show a moment later.
    until("no ads", async || (shop.status("/ads", "").await == 503).then_some(())).await;
    assert_eq!(shop.status("/", "x-priority: low\r\n").await, 503, "what acts below acts on");
    // Other settings of the same Surge act at once, at the level that it has.
    shop.up.save("surge.yaml", &surge("0.8"));
    until("another factor", async || (shop.passed("bob", 1).await == 1).then_some(())).await;
    assert_eq!((shop.level().await, shop.passed("bob", 12).await), (2, 2));

    assert_eq!(shop.hold("level=0").await.status(), 200);
    shop.until_ready("ads", 1).await;
    shop.until_ready("shop", 1).await;
    until("the ads", async || (shop.status("/ads", "").await == 200).then_some(())).await;
    assert_eq!(shop.status("/", "x-priority: low\r\n").await, 200);
    assert_eq!(shop.passed("bob", 12).await, 2);
    assert!(!shop.is_from_memory("/kept").await, "a second is a second again");

    // A Surge that is taken away is a level that is left.
    shop.hold("level=2").await;
    shop.until_ready("ads", 0).await;
    std::fs::remove_file(shop.up.directory.path("surge.yaml")).unwrap();
    shop.until_ready("ads", 1).await;
    until("no Surge", async || (shop.up.page("/surge").await == "there is no Surge\n").then_some(())).await;
    assert_eq!(shop.status("/", "x-priority: low\r\n").await, 200);
    assert_eq!(shop.hold("level=1").await.status(), 404);
}

#[tokio::test]
async fn a_load_that_comes_and_goes_is_followed_and_told() {
    let shop = Shop::start().await;
    until("calm", async || (shop.level().await == 0).then_some(())).await;
    until("the level of the load", async || {
        // Four at a time, again and again: many more in a second than five.
        tokio::join!(shop.passed("a", 4), shop.passed("b", 4), shop.passed("c", 4), shop.passed("d", 4));
        (shop.level().await == 1).then_some(())
    })
    .await;
    // What is shed counts as load as well, so that shedding does not end it.
    let shed = shop.ask("/", "x-priority: low\r\n").await.unwrap();
    assert_eq!(shed.status(), 503);
    until("the load to be over", async || (shop.level().await == 0).then_some(())).await;
    assert_eq!(shop.status("/", "x-priority: low\r\n").await, 200);

    let described = shop.described().await;
    let all = described["recent"].as_array().unwrap();
    let recent = &all[all.len() - 2..];
    assert!(recent[0]["why"].as_str().unwrap().starts_with("requestsPercent is "), "{described:#}");
    assert_eq!((&recent[0]["from"], &recent[0]["to"]), (&0.into(), &1.into()));
    assert!(recent[1]["why"].as_str().unwrap().starts_with("calm for "), "{described:#}");
    assert_eq!(described["transitions"].as_u64().unwrap() % 2, 0);
    let metrics = shop.up.page("/metrics").await;
    assert!(metrics.contains("naru_surge_level 0\n"), "{metrics}");
    assert!(metrics.contains("naru_checks_total{check=\"surge\",result=\"denied\"} 1\n"), "{metrics}");
    assert!(!metrics.contains("naru_surge_transitions_total 0\n"));
    until("the log", async || shop.up.said().contains("naru: surge: level 1 (busy) after 0: ").then_some(()))
        .await;

    // Held, it stays whatever comes.
    assert_eq!(shop.hold("freeze").await.status(), 200);
    for _ in 0..20 {
        tokio::join!(shop.passed("a", 4), shop.passed("b", 4), shop.passed("c", 4), shop.passed("d", 4));
    }
    let held = shop.described().await;
    assert_eq!((&held["level"], &held["held"]), (&0.into(), &"frozen".into()));
    assert!(shop.up.page("/surge").await.starts_with("level 0 of 2 (normal) for "));
    for (query, status) in
        [("level=3", 400), ("level=x", 400), ("", 400), ("freeze&release", 400), ("release", 200)]
    {
        assert_eq!(shop.hold(query).await.status(), status, "{query}");
    }
}
