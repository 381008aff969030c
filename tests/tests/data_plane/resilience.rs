//! Policies as people write them, on `naru up` with real processes: what the documents say is what happens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, header};
use naru_tests::client::request;
use naru_tests::up::{deployment, free_address, gateway, service};
use naru_tests::{Client, Outbound, Speaks, Up, until};

/// A service behind a gateway.
struct Behind {
    up: Up,
    gate: SocketAddr,
}

impl Behind {
    async fn start(service: &str, documents: &str, workers: u32) -> Behind {
        let gate = free_address();
        let files = [("all.yaml", format!("{documents}{}", gateway(gate.port(), service)))];
        let up = Up::start(&files, &["--workers", &workers.to_string()]).await;
        Behind { up, gate }
    }

    async fn ask(&self, path: &str) -> naru_tests::Answer {
        let mut client = Client::plain(self.gate, Speaks::Http1).await;
        client.exchange(request(Method::GET, path, Outbound::empty())).await
    }

    async fn is_ready(&self, cluster: &str, endpoints: usize) {
        until("all endpoints to be there", async || {
            (self.flags(cluster).await.len() == endpoints).then_some(())
        })
        .await;
        let gate = self.gate;
        until("the gateway to listen", async || tokio::net::TcpStream::connect(gate).await.ok()).await;
    }

    /// The health flags of each endpoint.
    async fn flags(&self, cluster: &str) -> BTreeMap<String, String> {
        let page = self.up.page("/clusters").await;
        let of_cluster = page.lines().filter_map(|line| line.strip_prefix(cluster)?.strip_prefix("::"));
        let flags = of_cluster.filter_map(|line| line.split_once("::health_flags::"));
        flags.map(|(address, flags)| (address.to_owned(), flags.to_owned())).collect()
    }

    async fn stat(&self, name: &str) -> u64 {
        let page = self.up.page("/stats").await;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// Has a process answer otherwise from now on.
async fn set(address: &str, settings: &str) {
    let mut client = Client::plain(address.parse().unwrap(), Speaks::Http1).await;
    let mut patch = request(Method::PATCH, "/-/settings", Outbound::sized(settings.to_owned()));
    patch.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = client.exchange(patch).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The seed's DestinationRule with its durations divided by thirty.
const EJECTING: &str = "---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: { name: reviews }
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: { simple: LEAST_CONN }
    connectionPool:
      tcp: { maxConnections: 100 }
      http: { http1MaxPendingRequests: 50, maxRequestsPerConnection: 2 }
    circuitBreaker:
      consecutiveErrors: 3
      interval: 1s
      baseEjectionTime: 1s
      maxEjectionPercent: 50
";

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

/// Which of both is ejected, and for how long each time, as it is seen in `/clusters`.
#[tokio::test]
async fn three_errors_in_a_row_eject_one_of_two_endpoints_the_second_time_for_longer_and_never_both() {
    let reviews = deployment("reviews", "app: reviews", 2, "--errors, '0%:500'");
    let behind =
        Behind::start("reviews", &format!("{}{reviews}{EJECTING}", service("reviews", 9080)), 2).await;
    behind.is_ready(REVIEWS, 2).await;
    let addresses: Vec<String> = behind.flags(REVIEWS).await.into_keys().collect();
    let bad = addresses[0].clone();
    set(&bad, r#"{"errors": "100%:503"}"#).await;
    let mut changes = Vec::new();
    let mut was_ejected = false;
    let began = Instant::now();
    while changes.len() < 4 && began.elapsed() < Duration::from_secs(40) {
        behind.ask("/").await;
        let flags = behind.flags(REVIEWS).await;
        let ejected: Vec<_> =
            flags.iter().filter(|(_, flags)| flags.contains("/failed_outlier_check")).collect();
        assert!(ejected.len() <= 1, "both are ejected: {flags:?}");
        let is_ejected = flags[&bad].contains("/failed_outlier_check");
        assert!(ejected.is_empty() || is_ejected, "the good one is ejected: {flags:?}");
        if is_ejected != was_ejected {
            changes.push(began.elapsed());
            was_ejected = is_ejected;
        }
    }
    assert_eq!(changes.len(), 4, "{changes:?}\n{}", behind.up.said());
    let (first, second) = (changes[1] - changes[0], changes[3] - changes[2]);
    // It returns at a sweep, of which there is one each second.
    let of = |seconds: u64| Duration::from_millis(seconds * 1_000 - 300);
    assert!(first >= of(1) && second >= of(2) && second > first, "{first:?}, {second:?}");
    assert!(behind.stat(&format!("cluster.{REVIEWS}.outlier_detection.ejections_enforced_total")).await >= 2);
    let metrics = behind.up.page("/metrics").await;
    assert!(metrics.contains("outlier_detection_ejections_enforced_total"), "{metrics}");
    // Both bad: the first stays ejected, the other is never.
    set(&addresses[1], r#"{"errors": "100%:503"}"#).await;
    for _ in 0..60 {
        behind.ask("/").await;
        let flags = behind.flags(REVIEWS).await;
        let ejected = flags.values().filter(|flags| flags.contains("/failed_outlier_check")).count();
        assert!(ejected <= 1, "{flags:?}");
    }
}

fn policy(target: &str, attempts: u32) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: {target} }}
spec:
  hosts: [{target}]
  http:
  - retries: {{ attempts: {attempts}, retryOn: '5xx', backoff: 1ms }}
    route: [{{ destination: {{ host: {target} }} }}]
"
    )
}

/// a -> b -> c -> d, where d fails and every hop tries three times.
#[tokio::test]
async fn only_the_hop_nearest_to_a_failure_tries_again() {
    let mut documents = String::new();
    for (name, calls) in [("a", Some("b")), ("b", Some("c")), ("c", Some("d")), ("d", None)] {
        let arguments = match calls {
            Some(next) => format!("--strict, --call, 'http://{next}:80/'"),
            None => "--errors, '100%:503'".to_owned(),
        };
        documents.push_str(&service(name, 80));
        documents.push_str(&deployment(name, &format!("app: {name}"), 1, &arguments));
        // Three attempts are two retries.
        documents.push_str(&policy(name, 2));
    }
    let behind = Behind::start("a", &documents, 2).await;
    for name in ["a", "b", "c", "d"] {
        behind.is_ready(&format!("outbound|80||{name}.default.svc.cluster.local"), 1).await;
    }
    let d = behind.flags("outbound|80||d.default.svc.cluster.local").await.into_keys().next().unwrap();
    let count = async || {
        let mut client = Client::plain(d.parse().unwrap(), Speaks::Http1).await;
        let stats = client.get("/-/stats").await.json();
        stats["requests"]["/"].as_u64().or_else(|| stats["/"].as_u64()).unwrap_or_else(|| panic!("{stats}"))
    };
    behind.ask("/").await;
    let before = count().await;
    const AT_ONCE: u64 = 100;
    const ROUNDS: u64 = 5;
    let mut clients = Vec::new();
    for _ in 0..AT_ONCE {
        let gate = behind.gate;
        clients.push(tokio::spawn(async move {
            let mut client = Client::plain(gate, Speaks::Http1).await;
            let mut statuses = Vec::new();
            for _ in 0..ROUNDS {
                let answer = client.exchange(request(Method::GET, "/", Outbound::empty())).await;
                statuses.push(answer.status.as_u16());
            }
            statuses
        }));
    }
    for client in clients {
        let statuses = client.await.unwrap();
        assert!(statuses.iter().all(|status| *status >= 500), "{statuses:?}");
    }
    let asked = AT_ONCE * ROUNDS;
    let reached = count().await - before;
    println!("{reached} requests reached d for {asked} that were made");
    assert!(reached >= asked, "{reached} of {asked}");
    assert!(reached * 10 <= asked * 13, "{reached} requests reached d for {asked} that were made");
}

/// The seed's breaker with its times divided by thirty, and what is answered while it is open.
const BREAKER: &str = "---
apiVersion: naru.dev/v1alpha1
kind: CircuitBreaker
metadata: { name: orders }
spec:
  targetRef: { kind: Service, name: orders }
  slidingWindowType: COUNT_BASED
  slidingWindowSize: 10
  minimumNumberOfCalls: 10
  failureRateThreshold: 50
  slowCallDurationThreshold: 100ms
  slowCallRateThreshold: 50
  waitDurationInOpenState: 1s
  permittedNumberOfCallsInHalfOpenState: 5
  fallback:
    steps:
    - response: { status: 200, body: 'orders are not there' }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: orders }
spec:
  hosts: [orders]
  http: [{ retries: { attempts: 0 }, route: [{ destination: { host: orders } }] }]
";

const ORDERS: &str = "outbound|80||orders.default.svc.cluster.local";

impl Behind {
    async fn state(&self) -> String {
        let page = self.up.page("/clusters").await;
        let prefix = format!("{ORDERS}::circuit_breaker::state::");
        page.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_open_breaker_answers_for_a_service_and_asks_it_again_later() {
    for workers in [1, 2] {
        let orders = deployment("orders", "app: orders", 1, "--errors, '0%:500'");
        let documents = format!("{}{orders}{BREAKER}", service("orders", 80));
        let behind = Behind::start("orders", &documents, workers).await;
        behind.is_ready(ORDERS, 1).await;
        let process = behind.flags(ORDERS).await.into_keys().next().unwrap();
        let count = async || {
            let mut client = Client::plain(process.parse().unwrap(), Speaks::Http1).await;
            client.get("/-/stats").await.json()["requests"]["/"].as_u64().unwrap_or(0)
        };
        let ask = async || {
            let answer = behind.ask("/").await;
            let by = answer.header("x-naru-fallback").map(str::to_owned);
            (answer.status.as_u16(), by.is_some())
        };
        assert_eq!(behind.state().await, "CLOSED");
        // Five of ten: one window for all workers, not one for each.
        for (errors, expected) in [("0%:500", 200), ("100%:500", 500)] {
            set(&process, &format!("{{\"errors\": \"{errors}\"}}")).await;
            for _ in 0..5 {
                assert_eq!(behind.state().await, "CLOSED");
                assert_eq!(ask().await, (expected, false), "{workers} workers");
            }
        }
        assert_eq!(behind.state().await, "OPEN", "{workers} workers");
        let before = count().await;
        for _ in 0..20 {
            assert_eq!(ask().await, (200, true), "{workers} workers");
        }
        assert_eq!(count().await, before, "nobody is asked while it is open");
        // It may try five calls; they fail, and it opens again.
        until("a call to be tried", async || (ask().await == (500, false)).then_some(())).await;
        assert_eq!(behind.state().await, "HALF_OPEN");
        for _ in 0..4 {
            assert_eq!(ask().await, (500, false));
        }
        assert_eq!(behind.state().await, "OPEN");
        // They succeed, and it closes.
        set(&process, r#"{"errors": "0%:500"}"#).await;
        until("a call to be tried", async || (ask().await == (200, false)).then_some(())).await;
        for _ in 0..4 {
            assert_eq!(ask().await, (200, false));
        }
        assert_eq!(behind.state().await, "CLOSED");
    }
}
