//! Does a proxy that is naru know by xDS what documents say? Random documents, planned for a gateway and for a sidecar,
//! encoded, taken by a proxy: it has the same configuration, and nothing is left out or held back.
//!
//! `NARU_SEED=n cargo test -p naru-discovery --test dialect` replays one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../wire/xds/tests/told/mod.rs"]
mod told;

use std::path::Path;

use naru_base::Chance;
use naru_discovery::{Documents, Part, Role, configuration, make};
use naru_plan::Surroundings;
use naru_sources::Texts;
use naru_xds::Schema;
use naru_xds::discovery::Dialect;
use naru_xds::encode::Resource;
use told::{expected, first_difference, told};

const CASES: u64 = 30;

/// What all others are for.
const BASE: &str = "
apiVersion: v1
kind: Service
metadata: { name: shop }
spec: { ports: [{ name: http, port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: other }
spec: { ports: [{ name: http, port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: shop-1, labels: { kubernetes.io/service-name: shop } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: ['10.0.0.1'] }, { addresses: ['10.0.0.2'], zone: b }, { addresses: ['10.0.0.3'] }]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  servers: [{ port: { number: 8000, name: http, protocol: HTTP }, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: [shop, shop.example]
  gateways: [edge, mesh]
  http:
  - name: a
    match: [{ uri: { prefix: /a } }, { uri: { prefix: /b }, headers: { x-kind: { exact: b } } }]
    timeout: NUMBERs
    route: [{ destination: { host: shop } }]
  - name: c
    match: [{ uri: { prefix: /c } }]
    route: [{ destination: { host: shop }, weight: 80 }, { destination: { host: other }, weight: 20 }]
  - name: rest
    route: [{ destination: { host: shop } }]
";

/// One for each thing that can be said, each with a number that is drawn.
const MORE: &[&str] = &[
    "kind: RateLimit
metadata: { name: guide }
spec:
  targetRef: { kind: Gateway, name: edge }
  limits:
  - { name: global, requests: NUMBER, window: 1s }
  - { name: ip, requests: 200, window: 60s, key: [{ from: address }] }
  - { name: user, requests: 100, window: 60s, key: [{ from: header, name: x-user }] }
",
    "kind: RateLimit
metadata: { name: shared }
spec:
  targetRef: { kind: VirtualService, name: shop, sectionName: a }
  limits: [{ name: shared, requests: NUMBER, window: 1s }]
  redis: { addresses: ['10.0.0.5:6379'], user: naru, password: { file: /etc/naru/redis }, otherwise: refuse, proxies: 3 }
",
    "kind: RateLimit
metadata: { name: lent }
spec:
  targetRef: { kind: Service, name: shop }
  limits: [{ name: lent, requests: NUMBER, window: 1s }]
  leases: { members: ['10.0.0.1:7400', '10.0.0.2:7400'], secret: { file: /etc/naru/circle } }
",
    "kind: ResponseCache
metadata: { name: memory }
spec:
  maxBytes: 268435456
  classes: { slow: { ttl: NUMBERm } }
  tiers:
    disk: { directory: /var/cache/naru, maxBytes: 10737418240 }
    redis: { addresses: ['10.0.0.5:6379'], password: { file: /etc/naru/redis }, write: through }
",
    "kind: ResponseCache
metadata: { name: places }
spec:
  targetRef: { kind: VirtualService, name: shop, sectionName: c }
  class: hot
  staleWhileRevalidate: NUMBERs
  staleIfError: 1h
  negative: [{ statuses: ['404'], ttl: 10s }]
  key: { cookies: [tenant], query: { without: [utm_source] } }
",
    "kind: SessionAuth
metadata: { name: login }
spec:
  targetRef: { kind: Gateway, name: edge }
  issuer: https://shop.example
  login:
    paths: [/login]
    subjectHeader: x-session-subject
    claims: [{ claim: roles, header: x-session-roles }]
  protect: [/a]
  public: [/a/public]
  accessToken: { lifetime: NUMBERm, claimsToHeaders: [{ claim: sub, header: x-user-id }] }
  store: { directory: /var/lib/naru/sessions }
",
    "kind: EdgePolicy
metadata: { name: web }
spec:
  targetRef: { kind: Gateway, name: edge }
  connections: { max: NUMBER, maxPerSource: 7 }
  addresses: { deny: [203.0.113.0/24] }
  geo: { database: /var/lib/geo/GeoLite2-Country.mmdb }
  securityHeaders: {}
  conditions:
    deny:
    - { name: no-writes, when: \"request.method != 'GET' && size(request.url_path) > NUMBER\" }
",
    "kind: EdgePolicy
metadata: { name: partners }
spec:
  targetRef: { kind: VirtualService, name: shop, sectionName: c }
  addresses: { allow: [198.51.NUMBER.0/24] }
  apiKeys: { file: /etc/naru/keys }
",
    "kind: EdgePolicy
metadata: { name: process }
spec:
  connections: { max: 20000 }
  overload:
    refreshInterval: NUMBERs
    memory: { limitBytes: 1073741824, shedAtPercent: 95, untilPercent: 90 }
    keepPaths: [/healthz]
",
    "kind: StaticFiles
metadata: { name: site }
spec:
  targetRef: { kind: VirtualService, name: shop, sectionName: rest }
  directory: /srv/www/NUMBER
  fallback: /index.html
  precompressed: [br, gzip]
  cacheControl: [{ path: '/assets/*', value: 'public, max-age=31536000, immutable' }]
",
    "kind: Compression
metadata: { name: web }
spec:
  targetRef: { kind: Gateway, name: edge }
  responses: { codings: [zstd, br, gzip], levels: { br: 5 }, minBytes: NUMBER }
  requests: { codings: [gzip], maxBytes: 10485760, maxRatio: 100 }
",
    "kind: TrafficPolicy
metadata: { name: load }
spec:
  targetRef: { kind: Service, name: shop }
  adaptiveConcurrency: {}
  admissionControl: {}
  outboundRate: { class: critical }
",
    "kind: TrafficPolicy
metadata: { name: faults }
spec:
  targetRef: { kind: VirtualService, name: shop, sectionName: c }
  retry: { class: fast }
",
    "kind: Bulkhead
metadata: { name: shop }
spec: { targetRef: { kind: Service, name: shop }, maxConcurrent: NUMBER, maxQueue: 20, maxWait: 500ms }
",
    "kind: CircuitBreaker
metadata: { name: shop }
spec: { targetRef: { kind: Service, name: shop }, slidingWindowSize: NUMBER, waitDurationInOpenState: 30s }
",
    "kind: CircuitBreaker
metadata: { name: other }
spec: { targetRef: { kind: VirtualService, name: shop, sectionName: a }, slidingWindowSize: NUMBER }
",
    "kind: Surge
metadata: { name: playbook }
spec:
  capacity: { requestsPerSecond: NUMBER }
  levels:
  - name: busy
    enter: { requestsPercent: 80, p99: 800ms, cpuPercent: 80 }
    leave: { requestsPercent: 60 }
    steps:
    - shed: { match: [{ headers: { x-priority: { exact: low } } }], retryAfter: 30s }
",
];

/// Of others than naru.
const OTHERS: &[&str] = &[
    "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: shop }
spec:
  host: shop
  trafficPolicy:
    loadBalancer: { consistentHash: { httpCookie: { name: stuck, ttl: NUMBERs } } }
    connectionPool: { tcp: { maxConnections: NUMBER }, http: { http2MaxRequests: 9 } }
    outlierDetection: { consecutive5xxErrors: 3, interval: NUMBERs }
",
    "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: known, namespace: istio-system }
spec:
  action: DENY
  rules:
  - to: [{ operation: { paths: ['/secret*'], methods: [POST] } }]
    when: [{ key: 'request.headers[x-level]', values: ['NUMBER'] }]
",
    "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: tokens, namespace: istio-system }
spec:
  jwtRules:
  - { issuer: 'https://issuer.example/NUMBER', jwks: '{\"keys\":[]}', audiences: [shop] }
",
    "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: outside }
spec:
  hosts: [outside.example]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{ number: 80, name: http, protocol: HTTP }]
",
];

fn documents(text: &str) -> Documents {
    let texts = Texts { files: vec![("all.yaml".to_owned(), text.to_owned())] };
    let loaded = texts.load();
    let errors: Vec<_> = loaded.problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{text}");
    let surroundings = Surroundings { is_strict: true, ..Surroundings::default() };
    let planned = naru_plan::plan(&loaded.resources, &surroundings);
    let errors: Vec<_> = planned.problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{text}");
    Documents { resources: loaded.resources, surroundings, identities: None }
}

fn roles() -> [Role; 2] {
    let role = |part| Role {
        is_by_host: false,
        dialect: Dialect::Naru,
        part,
        namespace: "default".to_owned(),
        account: "default".to_owned(),
        workload: "web".to_owned(),
        labels: Default::default(),
    };
    let address = "127.0.0.1:15001".parse().unwrap();
    [
        role(Part::Gateway { address: [0, 0, 0, 0].into() }),
        role(Part::Sidecar { address, inbound: [0, 0, 0, 0].into() }),
    ]
}

fn check(schema: &Schema, documents: &Documents, what: &str) {
    for role in roles() {
        let config = configuration(documents, &role);
        assert!(!config.listeners.is_empty(), "{what}");
        let made = make(documents, &role).unwrap_or_else(|why| panic!("{what}: held back: {why}"));
        assert_eq!(made.lost, [], "{what}");
        let resources = made.resources.into_iter().map(|(kind, name, any)| Resource { kind, name, any });
        let resources: Vec<Resource> = resources.collect();
        let told = told(schema, &resources).unwrap_or_else(|why| panic!("{what}: {why}"));
        let (told, meant) = (expected(told), expected(config));
        assert!(told == meant, "{what}, {}:\n{}", role.part.name(), first_difference(&told, &meant));
    }
}

fn text_of(seed: u64) -> String {
    let mut chance = Chance::split(seed, "documents");
    let mut text = BASE.to_owned();
    for more in MORE.iter().map(|more| format!("apiVersion: naru.dev/v1alpha1\n{more}")) {
        if chance.below(2) == 1 {
            text.push_str("---\n");
            text.push_str(&more);
        }
    }
    for other in OTHERS.iter().filter(|_| chance.below(2) == 1).collect::<Vec<_>>() {
        text.push_str("---\n");
        text.push_str(other);
    }
    let number = (2 + chance.below(200)).to_string();
    text.replace("NUMBER", &number)
}

#[test]
fn random_documents_reach_naru_as_they_are_meant() {
    let schema = Schema::new();
    let seeds = match std::env::var("NARU_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..CASES,
    };
    for seed in seeds {
        check(&schema, &documents(&text_of(seed)), &format!("seed {seed}"));
    }
}

#[test]
fn the_examples_reach_naru_as_they_are_meant() {
    let schema = Schema::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for name in ["bookinfo", "dailyfeed", "maltan", "read-write-groups", "sessions"] {
        let loaded = Texts::read(&[examples.join(name)]).unwrap().load();
        let surroundings = Surroundings { is_strict: true, ..Surroundings::default() };
        check(&schema, &Documents { resources: loaded.resources, surroundings, identities: None }, name);
    }
}
