//! A configuration in which everything occurs that decides about a request.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use naru_tests::bootstrap::HTTP2;
use naru_tests::wire::refusing_address;
use naru_tests::{Bootstrap, Speaks, Upstream};

const RANDOM: &str = "lb_policy: RANDOM\n";
const LEAST: &str = "lb_policy: LEAST_REQUEST\n";

/// Every field is one of [`naru_sim::Decision`].
const FORMAT: &str = "%ROUTE_NAME% %VIRTUAL_HOST_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% \
                      %UPSTREAM_REQUEST_ATTEMPT_COUNT% %RESPONSE_CODE% %RESPONSE_FLAGS% %REASON%";

/// The upstreams that the clusters lead to, each a process of its own as far as naru can see.
pub struct Upstreams {
    http1: Vec<Upstream>,
    http2: Vec<Upstream>,
    pub refusing: BTreeSet<SocketAddr>,
}

impl Upstreams {
    pub async fn start() -> Upstreams {
        let mut up = Upstreams {
            http1: Vec::new(),
            http2: Vec::new(),
            refusing: (0..2).map(|_| refusing_address()).collect(),
        };
        for _ in 0..6 {
            up.http1.push(Upstream::plain(Speaks::Http1).await);
        }
        for _ in 0..3 {
            up.http2.push(Upstream::plain(Speaks::Http2).await);
        }
        up
    }

    fn even(&self, upstreams: &[Upstream]) -> Vec<(SocketAddr, u32)> {
        upstreams.iter().map(|up| (up.address, 1)).collect()
    }

    fn weighing(&self, weights: &[u32]) -> Vec<(SocketAddr, u32)> {
        self.http1.iter().zip(weights).map(|(up, weight)| (up.address, *weight)).collect()
    }

    /// All clusters, and these virtual hosts.
    pub fn bootstrap(&self, virtual_hosts: &str, log: &Path) -> Bootstrap {
        let (http1, http2) = (self.even(&self.http1), self.even(&self.http2));
        let refused: Vec<_> = self.refusing.iter().map(|address| (*address, 1)).collect();
        let half = [refused[0], http1[0], http1[1]];
        let weights = self.weighing(&[1, 2, 5]);
        Bootstrap::with_virtual_hosts(virtual_hosts)
            .logs(&format!(
                "- name: file\n  typed_config:\n    \"@type\": \
                 type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    \
                 path: {log:?}\n    log_format: {{ text_format_source: {{ inline_string: \"{FORMAT}\\n\" }} }}\n"
            ))
            .weighted_cluster("turns", &http1[..3], "")
            .weighted_cluster("turns-weighted", &weights, "")
            .weighted_cluster("least", &http1, LEAST)
            .weighted_cluster("least-weighted", &weights, LEAST)
            .weighted_cluster("random", &http1[1..5], RANDOM)
            .weighted_cluster("random-weighted", &self.weighing(&[3, 1, 1, 2]), RANDOM)
            .weighted_cluster("turns-http2", &http2, HTTP2)
            .weighted_cluster("random-http2", &http2, &format!("{RANDOM}{HTTP2}"))
            .weighted_cluster("half", &half, "")
            .weighted_cluster("least-half", &half, LEAST)
            .weighted_cluster("refused", &refused, "")
            .weighted_cluster("refused-http2", &refused, HTTP2)
            .weighted_cluster("empty", &[], "")
    }
}

/// Virtual hosts of every kind of domain. The one for all other names is [`ANY`].
pub const HOSTS: &str = r#"
- name: shop
  domains: ["shop.example", "www.shop.example"]
  routes:
  - { name: cart, match: { path: /cart }, route: { cluster: turns } }
  - { name: health, match: { path: /health }, direct_response: { status: 200, body: { inline_string: fine } } }
  - { name: gone, match: { prefix: /gone }, direct_response: { status: 410 } }
  - { name: old, match: { prefix: /old }, redirect: { host_redirect: new.example } }
  - { name: moved, match: { prefix: /moved }, redirect: { path_redirect: /here, response_code: FOUND } }
  - name: gold
    match: { prefix: /items, headers: [{ name: x-tier, string_match: { exact: gold } }] }
    route: { cluster: turns-weighted }
  - name: people
    match:
      prefix: /items
      headers:
      - { name: user-agent, string_match: { contains: bot }, invert_match: true, treat_missing_header_as_empty: true }
      - { name: x-debug, present_match: true, invert_match: true }
    route: { cluster: least }
  - name: aged
    match: { prefix: /items, headers: [{ name: x-age, range_match: { start: 10, end: 20 } }] }
    route: { cluster: random }
  - { name: items, match: { prefix: /items }, route: { cluster: least-weighted } }
  - name: users
    match: { safe_regex: { regex: "/v[0-9]+/users/[a-z]+" } }
    route: { cluster: random-weighted }
  - name: writes
    match: { prefix: /v, headers: [{ name: ":method", string_match: { safe_regex: { regex: "POST|PUT" } } }] }
    route: { cluster: turns-http2 }
  - name: version-two
    match: { path_separated_prefix: /search, query_parameters: [{ name: version, string_match: { exact: "2" } }] }
    route: { cluster: random-http2 }
  - name: member
    match: { path_separated_prefix: /search, cookies: [{ name: session, string_match: { prefix: m } }] }
    route: { cluster: turns }
  - name: stranger
    match: { path_separated_prefix: /search, cookies: [{ name: session, string_match: { prefix: s }, invert_match: true }] }
    route: { cluster: half }
  - name: sampled
    match: { prefix: /search, runtime_fraction: { default_value: { numerator: 30, denominator: HUNDRED } } }
    route: { cluster: random }
  - { name: search, match: { prefix: /search }, route: { cluster: turns } }
  - name: split
    match: { prefix: /split }
    route:
      weighted_clusters:
        clusters:
        - { name: turns, weight: 60 }
        - { name: least, weight: 25 }
        - { name: random-http2, weight: 9 }
        - { name: refused, weight: 4 }
        - { name: empty, weight: 2 }
  - { name: refused, match: { prefix: /refused }, route: { cluster: refused } }
  - { name: refused-http2, match: { prefix: /down }, route: { cluster: refused-http2 } }
  - { name: half, match: { prefix: /half }, route: { cluster: half } }
  - name: half-retried
    match: { prefix: /again/half }
    route: { cluster: half, retry_policy: { retry_on: connect-failure, num_retries: 1 } }
  - name: least-retried
    match: { prefix: /again/least }
    route: { cluster: least-half, retry_policy: { retry_on: connect-failure, num_retries: 2 } }
  - name: refused-retried
    match: { prefix: /again }
    route: { cluster: refused-http2, retry_policy: { retry_on: connect-failure } }
  - { name: empty, match: { prefix: /empty }, route: { cluster: empty } }
  - { name: status, match: { prefix: /status/ }, route: { cluster: random } }
- name: suffix
  domains: ["*.shop.example", "*-eu.example"]
  routes:
  - { name: exact, match: { path: /Case, case_sensitive: false }, route: { cluster: least } }
  - name: sampled
    match: { prefix: /, runtime_fraction: { default_value: { numerator: 5000, denominator: TEN_THOUSAND } } }
    route: { cluster: turns-weighted }
  - name: split
    match: { prefix: / }
    route: { weighted_clusters: { clusters: [{ name: turns, weight: 1 }, { name: random, weight: 1 }, { name: half, weight: 1 }] } }
- name: longer
  domains: ["*.eu.shop.example"]
  routes:
  - { name: longer, match: { prefix: / }, route: { cluster: turns-http2 } }
- name: prefix
  domains: ["api.*"]
  routes:
  - name: near
    match: { prefix: /, headers: [{ name: x-forwarded-for, string_match: { prefix: "127." } }] }
    route: { cluster: random-weighted }
- name: secret
  domains: ["secret.example"]
  require_tls: ALL
  routes:
  - { name: secret, match: { prefix: / }, route: { cluster: turns } }
"#;

/// Takes what the others leave.
pub const ANY: &str = r#"
- name: any
  domains: ["*"]
  routes:
  - { name: any-status, match: { prefix: /status/ }, route: { cluster: turns-http2 } }
  - { name: any-split, match: { prefix: /s }, route: { weighted_clusters: { clusters: [{ name: least, weight: 999 }, { name: turns, weight: 1 }] } } }
  - { name: any-half, match: { prefix: /h }, route: { cluster: half } }
"#;
