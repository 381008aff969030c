//! Classes of retries, automatic timeouts and hedges by chance, on sockets: what documents say is what upstreams see.

use std::time::{Duration, Instant};

use http::{HeaderValue, Method, header};
use naru_proxy::Options;
use naru_tests::client::request;
use naru_tests::{Client, Naru, Outbound, Speaks, Upstream, until};

use crate::explained::planned;

/// A service whose route has this policy of ours.
struct Shop {
    naru: Naru,
    upstream: Upstream,
}

impl Shop {
    async fn start(policy: &str, more: &str) -> Shop {
        let upstream = Upstream::plain(Speaks::Http1).await;
        let (ip, port) = (upstream.address.ip(), upstream.address.port());
        let text = format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: shop }}
spec:
  hosts: [shop.example]
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints: [{{ address: {ip}, ports: {{ http: {port} }} }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: shop }}
spec:
  hosts: [shop.example]
  http: [{{ route: [{{ destination: {{ host: shop.example }} }}] }}]
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{ name: shop }}
spec:
  targetRef: {{ kind: VirtualService, name: shop }}
  {policy}
{more}"
        );
        let naru = Naru::start_on(planned(&text), &Options { workers: 1, seed: Some(1) });
        Shop { naru, upstream }
    }

    async fn client(&self) -> Client {
        Client::plain(self.naru.address, Speaks::Http1).await
    }
}

async fn ask(client: &mut Client, method: Method, path: &str) -> u16 {
    let mut asked = request(method, path, Outbound::empty());
    asked.headers_mut().insert(header::HOST, HeaderValue::from_static("shop.example"));
    client.exchange(asked).await.status.as_u16()
}

const LINEAR: &str = "---
apiVersion: naru.dev/v1alpha1
kind: Retry
metadata: { name: linear }
spec: { maxAttempts: 4, linear: { step: 60ms } }
";
const GROWING: &str = "---
apiVersion: naru.dev/v1alpha1
kind: Retry
metadata: { name: growing }
spec: { maxAttempts: 4, exponential: { first: 50ms, factor: 3, max: 100ms } }
";

/// Each class, how often it calls, and how long it waits in between at the least.
#[tokio::test]
async fn a_class_says_how_many_calls_there_are_and_how_long_is_waited_between_them() {
    for (class, more, calls, waits) in [
        ("default", "", 3, 1_000),
        // Half of the waits may be drawn away.
        ("fast", "", 3, 75),
        ("conservative", "", 2, 1_000),
        ("linear", LINEAR, 4, 60 + 120 + 180),
        ("growing", GROWING, 4, 50 + 100 + 100),
    ] {
        let shop = Shop::start(&format!("retry: {{ class: {class} }}"), more).await;
        let mut client = shop.client().await;
        let began = Instant::now();
        assert_eq!(ask(&mut client, Method::GET, "/status/503").await, 503);
        let took = began.elapsed();
        assert_eq!(shop.upstream.requests(), calls, "{class}");
        assert!(took >= Duration::from_millis(waits), "{class} has waited too little: {took:?}");
        // What a client has done wrong is not tried again.
        assert_eq!(ask(&mut client, Method::GET, "/status/429").await, 429);
        assert_eq!(shop.upstream.requests(), calls + 1, "{class}");
        // Nor what may have acted.
        assert_eq!(ask(&mut client, Method::POST, "/status/503").await, 503);
        assert_eq!(shop.upstream.requests(), calls + 2, "{class}");
    }
}

#[tokio::test]
async fn an_automatic_timeout_is_its_longest_at_first_and_follows_what_is_seen() {
    let auto = "timeout: { auto: { quantile: 50, factor: 2, min: 200ms, max: 60s } }";
    let shop = Shop::start(auto, "").await;
    let mut client = shop.client().await;
    // Nothing is known: this one has a minute.
    assert_eq!(ask(&mut client, Method::GET, "/slow/1500").await, 200);
    for _ in 0..150 {
        assert_eq!(ask(&mut client, Method::GET, "/status/204").await, 204);
    }
    // What was learned is looked at each second.
    until("a timeout of what is usual", async || {
        let mut client = shop.client().await;
        (ask(&mut client, Method::GET, "/slow/5000").await == 504).then_some(())
    })
    .await;
    assert_eq!(ask(&mut client, Method::GET, "/status/204").await, 204, "what is usual passes");
}

#[tokio::test]
async fn so_many_requests_as_are_said_begin_with_one_attempt_more() {
    const REQUESTS: u64 = 60;
    for chance in [0, 40, 100] {
        let shop = Shop::start(&format!("hedge: {{ additionalRequestChance: {chance} }}"), "").await;
        let mut client = shop.client().await;
        let (mut before, mut twice) = (0, 0);
        for _ in 0..REQUESTS {
            assert_eq!(ask(&mut client, Method::GET, "/slow/60").await, 200);
            let requests = shop.upstream.requests();
            match requests - before {
                1 => {}
                2 => twice += 1,
                times => panic!("one request was sent {times} times"),
            }
            before = requests;
        }
        match chance {
            0 => assert_eq!(twice, 0),
            100 => assert_eq!(twice, REQUESTS),
            _ => assert!((10..=40).contains(&twice), "40 % of {REQUESTS} are 24: {twice}"),
        }
        drop(client);
        shop.naru.settles().await;
    }
}
