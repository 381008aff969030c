//! One case, played on one proxy: what is sent, and what is seen after each step.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use naru_tests::files::{Directory, documents};
use naru_tests::wire::Transfer;
use naru_tests::{Bootstrap, Client, Envoy, Program, Speaks, Wire, bootstrap};
use serde_json::Value;

use super::upstreams::Upstreams;

/// How often outliers are looked for. All other times of cases are multiples of it.
pub const INTERVAL: Duration = Duration::from_millis(300);

#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    pub endpoints: usize,
    pub speaks_http2: bool,
    pub keeps_connections: bool,
    /// Requests say which endpoint they are for, by a hash; else it is each one's turn.
    pub is_hashed: bool,
    /// Lines of the cluster.
    pub cluster: String,
    /// Entries of the outlier detection, where there is any.
    pub outliers: String,
    /// What each route says beside its cluster.
    pub routes: Vec<String>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub enum Step {
    Ask(Ask),
    /// One after the other, without a look between.
    Burst(Vec<Ask>),
    /// A request that stays under way until [`Step::Release`]. `attempts` of it must have arrived.
    Hold {
        ask: Ask,
        attempts: usize,
    },
    /// The request that was held last gets its answer.
    Release,
    /// An endpoint refuses connections.
    Refuse(usize),
    /// It takes them again.
    Accept(usize),
    /// Waits until outliers were just looked for.
    Sweep,
    /// Looks at the endpoints so many times, between one look for outliers and the next.
    Watch(usize),
}

#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub route: usize,
    /// Which endpoint, where that is said by a hash.
    pub to: usize,
    pub method: &'static str,
    pub headers: Vec<(&'static str, String)>,
    /// What is done to its attempts.
    pub script: String,
}

/// What was seen after a step, by its name.
pub type Seen = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    Envoy,
    Naru,
}

enum Running {
    Envoy(Envoy),
    Naru(Program),
}

/// Its numbers that are looked at after each step, where either has them.
const STATS: &[&str] = &[
    "outlier_detection.ejections_active",
    "outlier_detection.ejections_overflow",
    "outlier_detection.ejections_enforced_total",
    "outlier_detection.ejections_enforced_",
    "outlier_detection.ejections_detected_",
    "upstream_rq_retry",
    "upstream_rq_retry_limit_exceeded",
    "upstream_rq_retry_overflow",
    "upstream_rq_pending_overflow",
    "upstream_rq_active_overflow",
];

const LOG: &str = "n: '%REQ(X-N)%'\nflags: '%RESPONSE_FLAGS%'\nattempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%'\n\
                   details: '%RESPONSE_CODE_DETAILS%'\n";
/// Each endpoint has one point on the ring, however many there are: then a ring that is made anew without some of them,
/// as Envoy does, and one on which they are passed over, as naru does, are the same.
const ONE_POINT: &str = "\nlb_policy: RING_HASH\nring_hash_lb_config: { minimum_ring_size: 1 }\n";
const ONE_REQUEST: &str = r#"
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    common_http_protocol_options: { max_requests_per_connection: 1 }
    explicit_http_config: { PROTOCOL: {} }
"#;
const INTERNAL: &str = "use_remote_address: true\n\
                        internal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }] }";

impl Case {
    /// The file that both proxies are started on. The cluster `clock` is there to tell when outliers are looked for: its
    /// one endpoint is ejected by one failure and returns at the next look.
    fn file(&self, upstreams: &Upstreams, log: &std::path::Path) -> Bootstrap {
        let hash = if self.is_hashed { ", hash_policy: [{ header: { header_name: x-pick } }]" } else { "" };
        let mut routes = "- match: { prefix: /clock }\n  route: { cluster: clock }\n".to_owned();
        for (at, entries) in self.routes.iter().enumerate() {
            let entries = if entries.is_empty() { String::new() } else { format!(", {entries}") };
            let action = format!("{{ cluster: up{hash}{entries} }}");
            routes.push_str(&format!("- match: {{ path: /{at} }}\n  route: {action}\n"));
        }
        let mut lines = self.cluster.clone();
        lines.push_str(if self.is_hashed { ONE_POINT } else { "\nlb_policy: ROUND_ROBIN\n" });
        lines.push_str(&self.protocol());
        let seconds = INTERVAL.as_secs_f64();
        if !self.outliers.is_empty() {
            lines.push_str(&format!("outlier_detection: {{ interval: {seconds}s, {} }}\n", self.outliers));
        }
        let mut addresses = upstreams.addresses();
        let clock = addresses.pop().unwrap();
        let of_clock = format!(
            "common_lb_config: {{ healthy_panic_threshold: {{ value: 0 }}, update_merge_window: 0s }}\n\
             outlier_detection: {{ interval: {seconds}s, consecutive_5xx: 1, base_ejection_time: 0.001s, \
             max_ejection_percent: 100, max_ejection_time: 0.002s }}\n{}",
            self.protocol()
        );
        Bootstrap::new(&routes)
            .admin()
            .manager(INTERNAL)
            .json_log(log, LOG)
            .cluster_of("up", &addresses, &lines)
            .cluster("clock", clock, &of_clock)
    }

    /// Each attempt has a connection of its own, unless the case is about those that have served before.
    fn protocol(&self) -> String {
        match (self.speaks_http2, self.keeps_connections) {
            (true, true) => bootstrap::HTTP2.to_owned(),
            (false, true) => String::new(),
            (true, false) => ONE_REQUEST.replace("PROTOCOL", "http2_protocol_options"),
            (false, false) => ONE_REQUEST.replace("PROTOCOL", "http_protocol_options"),
        }
    }

    /// The endpoints, and that of the clock.
    pub async fn upstreams(&self, wish: u64) -> Upstreams {
        Upstreams::new(self.endpoints + 1, self.speaks_http2, wish).await
    }
}

/// Plays the case. What is seen stands beside the words of its step.
pub async fn play(case: &Case, proxy: Proxy, upstreams: &mut Upstreams) -> Vec<(String, Seen)> {
    upstreams.begin_anew().await;
    let files = Directory::new();
    let log = files.path("log");
    let file = case.file(upstreams, &log);
    let running = match proxy {
        Proxy::Envoy => Running::Envoy(Envoy::start(&file.text()).await),
        Proxy::Naru => Running::Naru(Program::start(&file, &["--seed", "1"]).await),
    };
    let (address, admin) = match &running {
        Running::Envoy(envoy) => (envoy.address, envoy.admin),
        Running::Naru(program) => (program.address, program.admin.unwrap()),
    };
    let mut stage = Stage {
        case,
        upstreams,
        address,
        admin: Client::plain(admin, Speaks::Http1).await,
        wire: Wire::connect(address).await,
        keys: Vec::new(),
        next: 0,
        sent: Vec::new(),
        seen: Vec::new(),
        counts: BTreeMap::new(),
    };
    stage.learn_keys().await;
    let mut held = Vec::new();
    for step in &case.steps {
        match step {
            Step::Ask(ask) => {
                let n = stage.begin(ask);
                let answer = stage.ask(n, ask, false).await;
                let Ask { route, to, method, headers, script } = ask;
                let said = format!("{method} /{route} to {to}: {script:?} {headers:?}");
                stage.look(said, Some(n), answer).await;
            }
            Step::Burst(asks) => {
                let mut statuses = Vec::new();
                for ask in asks {
                    let n = stage.begin(ask);
                    statuses.push(stage.ask(n, ask, false).await.remove("status").unwrap());
                }
                let said = format!("Burst of {}", asks.len());
                stage.look(said, None, Seen::from([("statuses".to_owned(), statuses.join(" "))])).await;
            }
            Step::Hold { ask, attempts } => {
                let n = stage.begin(ask);
                let mut wire = Wire::connect(stage.address).await;
                wire.send(stage.text(n, ask)).await;
                stage.upstreams.has(n, *attempts).await;
                held.push((n, wire));
                stage.look(format!("{step:?}"), None, Seen::new()).await;
            }
            Step::Release => {
                let (n, mut wire) = held.pop().expect("a request that is held");
                stage.upstreams.release(n);
                let status = wire.response().await.status();
                let answer = Seen::from([("status".to_owned(), status.to_string())]);
                stage.look(format!("{step:?}"), Some(n), answer).await;
            }
            Step::Refuse(endpoint) => stage.upstreams.refuse(*endpoint).await,
            Step::Accept(endpoint) => stage.upstreams.take_again(*endpoint).await,
            Step::Sweep => stage.sweep().await,
            Step::Watch(count) => {
                stage.sweep().await;
                let mut next = tokio::time::Instant::now() + INTERVAL / 2;
                for at in 0..*count {
                    tokio::time::sleep_until(next).await;
                    next += INTERVAL;
                    stage.look(format!("{step:?} {at}"), None, Seen::new()).await;
                }
            }
        }
    }
    stage.read_log(&log).await;
    stage.seen
}

struct Stage<'a> {
    case: &'a Case,
    upstreams: &'a mut Upstreams,
    address: SocketAddr,
    admin: Client,
    wire: Wire,
    /// By endpoint: what is hashed to it.
    keys: Vec<Option<String>>,
    next: u64,
    /// How many lines the log must have.
    sent: Vec<u64>,
    seen: Vec<(String, Seen)>,
    /// The numbers of the cluster when they were looked at last.
    counts: BTreeMap<String, u64>,
}

impl Stage<'_> {
    fn begin(&mut self, ask: &Ask) -> u64 {
        let n = self.next;
        self.next += 1;
        self.sent.push(n);
        assert!(ask.to < self.case.endpoints);
        n
    }

    fn text(&self, n: u64, ask: &Ask) -> String {
        let path = if ask.to == usize::MAX { "/clock".to_owned() } else { format!("/{}", ask.route) };
        let method = if ask.method.is_empty() { "GET" } else { ask.method };
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nhost: a.test\r\nx-n: {n}\r\nx-script: {}\r\n", ask.script);
        if let Some(key) = self.keys.get(ask.to).and_then(Option::as_deref) {
            text.push_str(&format!("x-pick: {key}\r\n"));
        }
        for (name, value) in &ask.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(if method == "POST" { "content-length: 5\r\n\r\nfive!" } else { "\r\n" });
        text
    }

    /// Sends a request; tells of its answer.
    async fn ask(&mut self, n: u64, ask: &Ask, is_clock: bool) -> Seen {
        let ask = if is_clock { Ask { to: usize::MAX, ..ask.clone() } } else { ask.clone() };
        let text = self.text(n, &ask);
        self.wire.send(text).await;
        let mut seen = Seen::new();
        let head = match self.wire.try_head().await {
            Ok(head) => head,
            Err(_) => {
                self.wire = Wire::connect(self.address).await;
                seen.insert("status".to_owned(), "none".to_owned());
                return seen;
            }
        };
        self.upstreams.saw_head(n);
        seen.insert("status".to_owned(), head.status().to_string());
        for name in ["x-envoy-overloaded", "grpc-status"] {
            if let Some(value) = head.get(name) {
                seen.insert(name.to_owned(), value.to_owned());
            }
        }
        let closes = head.get("connection") == Some("close");
        let is_whole = matches!(self.wire.rest(head, true).await, Transfer::Whole(_));
        seen.insert("whole".to_owned(), is_whole.to_string());
        if closes || !is_whole {
            self.wire = Wire::connect(self.address).await;
        }
        seen
    }

    /// Finds something that is hashed to each endpoint.
    async fn learn_keys(&mut self) {
        self.keys = vec![None; self.case.endpoints];
        for at in 0.. {
            if !self.case.is_hashed || self.keys.iter().all(Option::is_some) {
                return;
            }
            let ask = Ask { headers: vec![("x-pick", format!("key{at}"))], to: 0, ..Ask::default() };
            let (keys, n) = (std::mem::take(&mut self.keys), self.begin(&ask));
            let seen = self.ask(n, &ask, false).await;
            self.keys = keys;
            let arrived = self.upstreams.arrivals(n);
            let Some(&endpoint) = arrived.first() else {
                // The times of routes are short, and a machine that has other things to do may let one pass.
                assert!(at < 1_000, "it comes to nobody: {seen:?}");
                continue;
            };
            self.keys[endpoint].get_or_insert(format!("key{at}"));
        }
    }

    async fn sweep(&mut self) {
        let n = self.next;
        self.next += 1;
        self.sent.push(n);
        let ask = Ask { script: "500".to_owned(), ..Ask::default() };
        self.ask(n, &ask, true).await;
        loop {
            let clusters = self.admin.get("/clusters?format=json").await.json();
            if ejected(&clusters, "clock") == [false] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What there is to be seen now.
    async fn look(&mut self, step: String, n: Option<u64>, mut seen: Seen) {
        if let Some(n) = n {
            seen.insert("n".to_owned(), n.to_string());
            let mut arrivals = self.upstreams.arrivals(n);
            if !self.case.is_hashed {
                // Where a rotation begins is chance.
                let first = arrivals.first().copied().unwrap_or(0);
                let count = self.case.endpoints;
                arrivals.iter_mut().for_each(|at| *at = (*at + count - first) % count);
            }
            seen.insert("asked".to_owned(), format!("{arrivals:?}"));
        }
        if !self.case.outliers.is_empty() {
            let clusters = self.admin.get("/clusters?format=json").await.json();
            let ejected = ejected(&clusters, "up");
            let ejected: String = ejected.iter().map(|is_it| if *is_it { 'E' } else { '-' }).collect();
            seen.insert("ejected".to_owned(), ejected);
        }
        let stats = self.admin.get("/stats?format=json&filter=%5Ecluster%5C.up%5C.").await.json();
        for stat in stats["stats"].as_array().unwrap() {
            let Some(name) = stat["name"].as_str().and_then(|name| name.strip_prefix("cluster.up.")) else {
                continue;
            };
            let is_looked_at = STATS.iter().any(|known| match known.ends_with('_') {
                true => name.starts_with(known),
                false => name == *known,
            });
            let value = stat["value"].as_u64().unwrap_or(0);
            if !is_looked_at {
                continue;
            }
            // What stands is told as it stands, what is counted by how much it has grown.
            let before = self.counts.insert(name.to_owned(), value).unwrap_or(0);
            let told = if name.ends_with("_active") { value } else { value - before };
            if told > 0 {
                seen.insert(name.to_owned(), told.to_string());
            }
        }
        self.seen.push((step, seen));
    }

    /// What the log says of each request goes to its step.
    async fn read_log(&mut self, log: &std::path::Path) {
        let lines = documents(log, self.sent.len()).await;
        for line in lines {
            let n = text(&line["n"]);
            let step = self.seen.iter_mut().find(|(_, seen)| seen.get("n") == Some(&n));
            let Some((_, seen)) = step else { continue };
            for name in ["flags", "attempts", "details"] {
                let told = text(&line[name]);
                // What the system says of a connection is not compared.
                let told = told.split_once('|').map_or(told.clone(), |(told, _)| format!("{told}}}"));
                seen.insert(name.to_owned(), told);
            }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// Of each endpoint of a cluster, in the order of their addresses, whether it is ejected.
fn ejected(clusters: &Value, cluster: &str) -> Vec<bool> {
    let mut all = clusters["cluster_statuses"].as_array().unwrap().iter();
    let hosts = all.find(|status| status["name"] == cluster).unwrap()["host_statuses"].as_array().unwrap();
    let mut hosts: Vec<(String, bool)> = hosts
        .iter()
        .map(|host| {
            let address = host["address"]["socket_address"]["address"].as_str().unwrap().to_owned();
            (address, host["health_status"]["failed_outlier_check"].as_bool().unwrap_or(false))
        })
        .collect();
    hosts.sort();
    hosts.into_iter().map(|(_, is_ejected)| is_ejected).collect()
}
