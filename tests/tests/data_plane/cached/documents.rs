//! `ResponseCache` documents, and what people are told of what is kept.

use http::Method;
use naru_tests::client::{get, request};
use naru_tests::{Client, Outbound, Speaks, Up, Upstream, up};

fn documents(gate: u16, up: &Upstream) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate }}
spec:
  servers: [{{ port: {{ number: {gate}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ['*'] }}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: places }}
spec:
  hosts: [places.test]
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  resolution: STATIC
  endpoints: [{{ address: 127.0.0.1, ports: {{ http: {} }} }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: routes }}
spec:
  hosts: ['*']
  gateways: [gate]
  http:
  - name: list
    match: [{{ uri: {{ prefix: /describe/list }} }}]
    route: [{{ destination: {{ host: places.test }} }}]
  - name: all
    route: [{{ destination: {{ host: places.test }} }}]
---
apiVersion: naru.dev/v1alpha1
kind: ResponseCache
metadata: {{ name: list }}
spec:
  targetRef: {{ kind: VirtualService, name: routes, sectionName: list }}
  class: hot
  key: {{ query: {{ without: [utm] }} }}
",
        up.address.port()
    )
}

#[tokio::test]
async fn a_class_keeps_answers_and_pages_tell_of_them() {
    let up = Upstream::plain(Speaks::Http1).await;
    let gate = up::free_address();
    let naru = Up::start(&[("all.yaml", documents(gate.port(), &up))], &[]).await;
    naru_tests::until("the gateway to answer", async || tokio::net::TcpStream::connect(gate).await.ok())
        .await;
    for path in ["/describe/list?a=1", "/describe/list?utm=x&a=1", "/describe/list?a=1&utm=y"] {
        assert_eq!(get(gate, path).await.status, 200);
    }
    assert_eq!(up.requests(), 1);
    for _ in 0..2 {
        get(gate, "/describe/other").await;
    }
    assert_eq!(up.requests(), 3, "another route keeps nothing");
    let page = naru.page("/cache").await;
    assert!(
        page.contains(
            "hot: 66% from what is kept; hit 2, disk 0, redis 0, stale 0, validated 0, instead 0, miss 1;"
        ),
        "{page}"
    );
    let metrics = naru.page("/metrics").await;
    assert!(metrics.contains("naru_cache_requests_total{class=\"hot\",result=\"hit\"} 2"), "{metrics}");
    assert!(naru.page("/stats").await.contains("cache.hot.requests.hit: 2"));
    let mut admin = Client::plain(naru.admin, Speaks::Http1).await;
    let mut purge = async |method, query: &str| {
        let answer =
            admin.exchange(request(method, &format!("/cache/purge?{query}"), Outbound::empty())).await;
        (answer.status.as_u16(), answer.text())
    };
    assert_eq!(purge(Method::GET, "all").await.0, 405);
    assert_eq!(purge(Method::POST, "url=describe").await.0, 400);
    assert_eq!(purge(Method::POST, "url=http://a&tag=b").await.0, 400);
    let (status, said) = purge(Method::POST, "prefix=http://naru.test/describe/").await;
    assert!(status == 200 && said.contains("\"purged\": 1"), "{said}");
    get(gate, "/describe/list?a=1").await;
    assert_eq!(up.requests(), 4);
}
