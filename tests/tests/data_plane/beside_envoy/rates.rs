//! Local rate limits: who is refused, with what, and what responses say of it.

use std::net::SocketAddr;

use naru_tests::{Bootstrap, Envoy, Naru, Wire};

/// Buckets that are filled once in a test's life at most.
const ROUTES: &str = r#"
- match: { path: "/own" }
  direct_response: { status: 200, body: { inline_string: "own" } }
  typed_per_filter_config:
    envoy.filters.http.local_ratelimit:
      "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
      stat_prefix: own
      status: { code: 503 }
      token_bucket: { max_tokens: 2, tokens_per_fill: 2, fill_interval: 86400s }
      filter_enabled: { default_value: { numerator: 100 } }
      filter_enforced: { default_value: { numerator: 100 } }
      response_headers_to_add:
      - { header: { key: x-why, value: own } }
      - { header: { key: x-more, value: again } }
- match: { path: "/shadow" }
  direct_response: { status: 200, body: { inline_string: "shadow" } }
  typed_per_filter_config:
    envoy.filters.http.local_ratelimit:
      "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
      stat_prefix: shadow
      token_bucket: { max_tokens: 1, fill_interval: 86400s }
      filter_enabled: { default_value: { numerator: 100 } }
      enable_x_ratelimit_headers: DRAFT_VERSION_03
- match: { path: "/asleep" }
  direct_response: { status: 200, body: { inline_string: "asleep" } }
  typed_per_filter_config:
    envoy.filters.http.local_ratelimit:
      "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
      stat_prefix: asleep
      token_bucket: { max_tokens: 1, fill_interval: 86400s }
      filter_enforced: { default_value: { numerator: 100 } }
      enable_x_ratelimit_headers: DRAFT_VERSION_03
- match: { path: "/low" }
  direct_response: { status: 200, body: { inline_string: "low" } }
  typed_per_filter_config:
    envoy.filters.http.local_ratelimit:
      "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
      stat_prefix: low
      status: { code: 200 }
      token_bucket: { max_tokens: 1, fill_interval: 86400s }
      filter_enabled: { default_value: { numerator: 100 } }
      filter_enforced: { default_value: { numerator: 100 } }
      rate_limited_as_resource_exhausted: true
- match: { prefix: "/" }
  direct_response: { status: 200, body: { inline_string: "all" } }
"#;
const FILTER: &str = r#"- name: envoy.filters.http.local_ratelimit
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: all
    token_bucket: { max_tokens: 3, tokens_per_fill: 3, fill_interval: 86400s }
    filter_enabled: { default_value: { numerator: 100 } }
    filter_enforced: { default_value: { numerator: 100 } }
    enable_x_ratelimit_headers: DRAFT_VERSION_03
    response_headers_to_add: [{ header: { key: x-why, value: all } }]
"#;

async fn play(address: SocketAddr) -> Vec<String> {
    let mut all = Vec::new();
    for path in ["/a", "/own", "/shadow", "/asleep", "/low", "/b"] {
        for kind in ["text/plain", "application/grpc", "text/plain", "application/grpc"] {
            let mut client = Wire::connect(address).await;
            client
                .send(format!(
                    "GET {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n"
                ))
                .await;
            let got = client.response().await;
            let names = [
                "x-ratelimit-limit",
                "x-ratelimit-remaining",
                "x-why",
                "x-more",
                "content-type",
                "grpc-status",
                "grpc-message",
                "retry-after",
            ];
            let said: Vec<_> = names.iter().map(|name| got.head.get(name)).collect();
            // A day, but for the moments since.
            let reset = got.head.get("x-ratelimit-reset").map(|text| match text.parse::<u64>().unwrap() {
                0 => "now",
                28_000..=28_800 => "a third of a day",
                86_000..=86_400 => "a day",
                _ => "else",
            });
            all.push(format!("{path} {kind}: {} {said:?} {reset:?} {:?}", got.status(), got.text()));
        }
    }
    all
}

#[tokio::test]
async fn local_rate_limits_refuse_and_say_what_envoys_do() {
    let bootstrap = Bootstrap::new(ROUTES).filter(FILTER);
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let by_envoy = play(envoy.address).await;
    let naru = Naru::start(&bootstrap);
    let by_naru = play(naru.address).await;
    let differences: Vec<_> = by_envoy.iter().zip(&by_naru).filter(|(envoy, naru)| envoy != naru).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(by_envoy.len(), by_naru.len());
    naru.settles().await;
}
