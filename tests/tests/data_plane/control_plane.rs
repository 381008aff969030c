//! naru driven by a control plane that others have written: `tests/xds/server.py`, with Envoy's own messages on gRPC's own
//! library. State of the world and delta, in any order; what is wrong is refused and told; a control plane that dies,
//! stays away or talks nonsense costs no request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use naru_base::Chance;
use naru_tests::bootstrap::HTTP2;
use naru_tests::files::Directory;
use naru_tests::up::free_address;
use naru_tests::{Authority, Client, Foreign, Program, Speaks, Upstream, client, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// A control plane in a process of its own, and where it is.
struct Plane {
    foreign: Foreign,
    port: u16,
}

impl Plane {
    async fn start() -> Plane {
        Plane::on(0, json!({})).await
    }

    /// It knows these resources before anybody can ask: else it would say that there are none.
    async fn on(port: u16, resources: Value) -> Plane {
        let mut foreign = Foreign::start("xds/server.py");
        foreign.ask(json!({ "set": resources })).await;
        let port = foreign.ask(json!({ "listen": port })).await["port"].as_u64().unwrap() as u16;
        Plane { foreign, port }
    }

    /// Resources by kind and name; whoever asked is told in this order.
    async fn set(&mut self, resources: Value, order: &[&str]) {
        self.foreign.ask(json!({ "set": resources, "order": order })).await;
    }

    /// Waits for a request that is as wanted; others are passed over.
    async fn hears(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let (mut passed, mut looks) = (Vec::new(), 0);
        loop {
            let requests = self.foreign.ask(json!({ "take": 1 })).await;
            let requests = requests.as_array().unwrap().clone();
            // A proxy that has been without a control plane for long tries it every half a minute.
            looks += u32::from(requests.is_empty());
            assert!(looks < 3, "waited in vain for {what}; heard {passed:#?}");
            if let Some(found) = requests.iter().find(|request| is_it(request)) {
                return found.clone();
            }
            passed.extend(requests);
        }
    }

    /// Waits for a refusal, and says why.
    async fn is_refused(&mut self, kind: &str) -> String {
        let refusal = self.hears("a refusal", |one| one["kind"] == kind && !one["error"].is_null()).await;
        refusal["error"].as_str().unwrap().to_owned()
    }
}

/// The files of a proxy, and what it is started with.
struct Site {
    files: Directory,
    config: PathBuf,
    state: String,
}

impl Site {
    fn new(port: u16, api: &str, more: &str) -> Site {
        let files = Directory::new();
        let text = format!(
            "admin:
  address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
node: {{ id: proxy-1, cluster: tests, locality: {{ zone: here }} }}
dynamic_resources:
  ads_config:
    api_type: {api}
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{{ envoy_grpc: {{ cluster_name: xds }} }}]
  cds_config: {{ ads: {{}}, resource_api_version: V3 }}
  lds_config: {{ ads: {{}}, resource_api_version: V3 }}
static_resources:
  listeners:
  - name: main
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          \"@type\": {MANAGER}
          stat_prefix: main
          route_config:
            name: fixed
            virtual_hosts: [{{ name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, direct_response: {{ status: 200 }} }}] }}]
          http_filters: [{{ name: router, typed_config: {{ \"@type\": {ROUTER} }} }}]
  clusters:
  - name: xds
    connect_timeout: 5s
    type: STATIC
    {}
    load_assignment:
      cluster_name: xds
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}] }}]
{more}",
            HTTP2.trim().replace('\n', "\n    ")
        );
        let config = files.write("envoy.yaml", &text);
        let state = files.path("state").display().to_string();
        Site { files, config, state }
    }

    async fn start(&self) -> Program {
        Program::on(&self.config, &["--state", &self.state, "--workers", "2"]).await
    }

    fn kept(&self) -> Option<PathBuf> {
        let all = std::fs::read_dir(self.files.path("state/control-plane")).ok()?;
        all.flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "state"))
    }
}

fn cluster(name: &str) -> Value {
    json!({ "name": name, "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": { "eds_config": { "ads": {} } } })
}

fn endpoints(name: &str, addresses: &[(SocketAddr, &str)]) -> Value {
    let all = addresses.iter().map(|(address, health)| {
        let socket = json!({ "address": address.ip().to_string(), "port_value": address.port() });
        json!({ "endpoint": { "address": { "socket_address": socket } }, "health_status": health })
    });
    json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": all.collect::<Vec<_>>() }] })
}

fn listener(name: &str, address: SocketAddr, routes: &str) -> Value {
    let rds = json!({ "route_config_name": routes, "config_source": { "ads": {} } });
    let router = json!({ "name": "router", "typed_config": { "@type": ROUTER } });
    let manager = json!({ "@type": MANAGER, "stat_prefix": name, "rds": rds, "http_filters": [router] });
    json!({
        "name": name,
        "address": { "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } },
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

fn routes(name: &str, to: &[(&str, &str)]) -> Value {
    let all = to
        .iter()
        .map(|(prefix, cluster)| json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster } }));
    let host = json!({ "name": "all", "domains": ["*"], "routes": all.collect::<Vec<_>>() });
    json!({ "name": name, "virtual_hosts": [host] })
}

/// Of an answer on a connection of its own; `None` where there is no whole one.
async fn ask(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

async fn answers(address: SocketAddr, path: &str, status: u16) {
    until(&format!("{path} to be answered {status}"), async || {
        (ask(address, path).await? == status).then_some(())
    })
    .await;
}

async fn status(program: &Program) -> Value {
    client::get(program.admin.unwrap(), "/status?format=json").await.json()["control_plane"].clone()
}

async fn page(program: &Program, path: &str) -> String {
    client::get(program.admin.unwrap(), path).await.text()
}

/// A listener whose routes lead to one endpoint, said in this order.
async fn begun(plane: &mut Plane, gate: SocketAddr, up: &Upstream, order: &[&str]) {
    let resources = json!({
        "cds": { "a": cluster("a") },
        "eds": { "a": endpoints("a", &[(up.address, "HEALTHY")]) },
        "lds": { "edge": listener("edge", gate, "web") },
        "rds": { "web": routes("web", &[("/", "a")]) },
    });
    plane.set(resources, order).await;
}

#[tokio::test]
async fn a_control_plane_of_others_says_what_holds() {
    for (api, order) in [("GRPC", ["rds", "lds", "eds", "cds"]), ("DELTA_GRPC", ["lds", "cds", "rds", "eds"])]
    {
        let (first, second) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
        let mut plane = Plane::start().await;
        let site = Site::new(plane.port, api, "");
        let program = site.start().await;
        let node = plane.hears("the first request", |one| one["kind"] == "cds").await;
        assert_eq!(node["node"], "proxy-1");
        let gate = free_address();
        begun(&mut plane, gate, &first, &order).await;
        answers(gate, "/", 200).await;
        assert_eq!(page(&program, "/ready").await, "LIVE\n");
        let told = status(&program).await;
        assert_eq!((told["connected"].as_bool(), told["failure"].is_null()), (Some(true), true), "{told:#}");
        // One cluster's endpoints, and nothing else: connections to others stay.
        let mut client = Client::plain(gate, Speaks::Http1).await;
        assert_eq!(client.get("/").await.status, 200);
        let reports = first.requests();
        plane.set(json!({ "eds": { "a": endpoints("a", &[(first.address, "DRAINING"), (second.address, "HEALTHY")]) } }), &["eds"]).await;
        until("the other endpoint to be asked", async || {
            ask(gate, "/").await.unwrap();
            (second.requests() > 2).then_some(())
        })
        .await;
        let before = first.requests();
        for _ in 0..10 {
            assert_eq!(client.get("/").await.status, 200, "the same connection goes on");
        }
        assert_eq!(first.requests(), before, "who is drained is asked nothing; {reports} before");
        // A refusal is told with its reason, and nothing changes.
        plane.set(json!({ "rds": { "web": { "name": "web", "virtual_hosts": [{ "name": "all", "domains": [] }] } } }), &["rds"]).await;
        let why = plane.is_refused("rds").await;
        assert!(why.contains("'web'") && why.contains("domains"), "{why}");
        answers(gate, "/", 200).await;
        let told = status(&program).await;
        let of = |kind: &str| {
            told["kinds"].as_array().unwrap().iter().find(|one| one["kind"] == kind).unwrap().clone()
        };
        assert_eq!(of("routes")["rejected"], 1, "{told:#}");
        assert!(of("routes")["refusal"].as_str().unwrap().contains("domains"), "{told:#}");
        program.says("were refused", 1).await;
        // And right again. The new cluster comes after the routes to it.
        let more = json!({
            "rds": { "web": routes("web", &[("/b", "b"), ("/", "a")]) },
            "cds": { "b": cluster("b") },
            "eds": { "b": endpoints("b", &[(first.address, "UNKNOWN")]) },
        });
        plane.set(more, &["rds", "cds", "eds"]).await;
        let count = first.requests();
        until("the new route to lead to the new cluster", async || {
            assert_eq!(ask(gate, "/b").await, Some(200));
            (first.requests() > count).then_some(())
        })
        .await;
        let dump: Value = serde_json::from_str(&page(&program, "/config_dump").await).unwrap();
        let configs = dump["configs"].as_array().unwrap();
        let of =
            |name: &str| configs.iter().find(|one| one["@type"].as_str().unwrap().ends_with(name)).unwrap();
        let clusters = of("ClustersConfigDump")["dynamic_active_clusters"].as_array().unwrap();
        let versions: BTreeMap<&str, &str> = clusters
            .iter()
            .map(|one| (one["cluster"]["name"].as_str().unwrap(), one["version_info"].as_str().unwrap()))
            .collect();
        assert_eq!(versions.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        assert!(versions.values().all(|version| version.parse::<u32>().is_ok()), "{versions:?}");
        assert_eq!(of("ListenersConfigDump")["dynamic_listeners"][0]["name"], "edge");
        let stats = page(&program, "/stats").await;
        for line in ["control_plane.connected_state: 1", "listener_manager.lds.update_rejected: 0"] {
            assert!(stats.contains(line), "{stats}");
        }
        let metrics = page(&program, "/metrics").await;
        assert!(metrics.contains("naru_xds_rejected_total{type=\"rds\"} 1"), "{metrics}");
        // What goes away goes away.
        plane.set(json!({ "lds": { "edge": null } }), &["lds"]).await;
        until("the listener to be gone", async || TcpStream::connect(gate).await.is_err().then_some(()))
            .await;
    }
}

#[tokio::test]
async fn certificates_come_by_name_and_are_changed_under_way() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut plane = Plane::start().await;
    let site = Site::new(plane.port, "GRPC", "");
    let program = site.start().await;
    let gate = free_address();
    let mut edge = listener("edge", gate, "web");
    let secrets = json!([{ "name": "cert", "sds_config": { "ads": {} } }]);
    edge["filter_chains"][0]["transport_socket"] = json!({
        "name": "tls",
        "typed_config": {
            "@type": DOWNSTREAM_TLS,
            "common_tls_context": { "alpn_protocols": ["http/1.1"], "tls_certificate_sds_secret_configs": secrets },
        },
    });
    let secret = |authority: &Authority| {
        let issued = authority.issue();
        json!({
            "name": "cert",
            "tls_certificate": {
                "certificate_chain": { "inline_string": issued.chain },
                "private_key": { "inline_string": issued.key },
            },
        })
    };
    let (first, second) = (Authority::new(), Authority::new());
    let resources = json!({
        "cds": { "a": cluster("a") },
        "eds": { "a": endpoints("a", &[(up.address, "HEALTHY")]) },
        "lds": { "edge": edge },
        "rds": { "web": routes("web", &[("/", "a")]) },
        "sds": { "cert": secret(&first) },
    });
    plane.set(resources, &["lds", "sds", "rds", "cds", "eds"]).await;
    let trusts = async |authority: &Authority| {
        let connector = authority.connector(&["http/1.1"]);
        let stream = TcpStream::connect(gate).await.ok()?;
        connector.connect(stream).await.ok().map(|_| ())
    };
    until("the first certificate to be shown", async || trusts(&first).await).await;
    let mut client = Client::connect(gate, Speaks::Http1Tls, &first).await;
    assert_eq!(client.get("/").await.status, 200);
    plane.set(json!({ "sds": { "cert": secret(&second) } }), &["sds"]).await;
    until("the second certificate to be shown", async || trusts(&second).await).await;
    assert!(trusts(&first).await.is_none());
    // One that cannot be used is refused, and the second stays.
    let broken = json!({ "name": "cert", "tls_certificate": {
        "certificate_chain": { "inline_string": "nonsense" }, "private_key": { "inline_string": "nonsense" },
    } });
    plane.set(json!({ "sds": { "cert": broken } }), &["sds"]).await;
    let why = plane.is_refused("sds").await;
    assert!(why.contains("edge"), "{why}");
    assert!(trusts(&second).await.is_some());
    let dump = page(&program, "/config_dump").await;
    assert!(!dump.contains("PRIVATE KEY") && dump.contains("dynamic_active_secrets"), "no key is shown");
}

/// Clients that ask without pause, until they are told to stop.
struct Load {
    stops: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn begin(gate: SocketAddr) -> Load {
        let (stops, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let clients = (0..4).map(|_| {
            let (stops, asked) = (Arc::clone(&stops), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                let mut client = Client::plain(gate, Speaks::Http1).await;
                while !stops.load(Ordering::Relaxed) {
                    let answer = client.get("/").await;
                    asked.fetch_add(1, Ordering::Relaxed);
                    if answer.status != 200 {
                        failed.push(format!("{} {}", answer.status, answer.text()));
                    }
                    if answer.header("connection") == Some("close") {
                        client = Client::plain(gate, Speaks::Http1).await;
                    }
                }
                failed
            })
        });
        let clients = clients.collect();
        Load { stops, asked, clients }
    }

    async fn goes_on(&self) {
        let wanted = self.asked.load(Ordering::Relaxed) + 200;
        until("more requests", async || (self.asked.load(Ordering::Relaxed) >= wanted).then_some(())).await;
    }

    async fn ends(self) {
        self.stops.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert_eq!(client.await.unwrap(), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_control_plane_that_dies_costs_nothing_and_a_proxy_begins_without_it() {
    for api in ["GRPC", "DELTA_GRPC"] {
        let (first, second) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
        let mut plane = Plane::start().await;
        let port = plane.port;
        let site = Site::new(port, api, "");
        let program = site.start().await;
        let gate = free_address();
        begun(&mut plane, gate, &first, &["cds", "eds", "lds", "rds"]).await;
        answers(gate, "/", 200).await;
        let load = Load::begin(gate);
        load.goes_on().await;
        drop(plane);
        program.says("the control plane is away", 1).await;
        load.goes_on().await;
        // Another one in its place has other routes at once.
        let resources = json!({
            "cds": { "b": cluster("b") },
            "eds": { "b": endpoints("b", &[(second.address, "HEALTHY")]) },
            "lds": { "edge": listener("edge", gate, "web") },
            "rds": { "web": routes("web", &[("/", "b")]) },
        });
        let mut plane = Plane::on(port, resources).await;
        plane.hears("the proxy again", |one| one["kind"] == "cds").await;
        until("the other's upstream to be asked", async || (second.requests() > 20).then_some(())).await;
        load.goes_on().await;
        load.ends().await;
        program.says("answers again", 1).await;
        // It dies once more, and the proxy with it: the next one serves by what was kept.
        until("what holds to be kept", async || {
            let kept = std::fs::read(site.kept()?).ok()?;
            let port = second.address.port();
            let has = |bytes: &[u8]| kept.windows(bytes.len()).any(|part| part == bytes);
            // The port as a number of protobuf, after the tag of `port_value`.
            let number = [
                0x18,
                (port & 0x7f) as u8 | 0x80,
                (port >> 7 & 0x7f) as u8 | if port >> 14 > 0 { 0x80 } else { 0 },
            ];
            (has(&number) && has(b"edge")).then_some(())
        })
        .await;
        drop(plane);
        drop(program);
        let count = second.requests();
        let program = site.start().await;
        answers(gate, "/", 200).await;
        assert!(second.requests() > count);
        program.says("kept on disk, and is in effect", 1).await;
        let told = status(&program).await;
        assert_eq!(told["from_disk"], true, "{told:#}");
        assert!(!told["failure"].is_null(), "{told:#}");
        assert!(page(&program, "/metrics").await.contains("naru_xds_from_disk 1"));
        // A file that was broken off in its first record is told, and not used.
        drop(program);
        let kept = site.kept().unwrap();
        let whole = std::fs::read(&kept).unwrap();
        std::fs::write(&kept, &whole[..100]).unwrap();
        let program = site.start().await;
        program.says("cannot be used", 1).await;
        assert!(TcpStream::connect(gate).await.is_err());
        assert_eq!(ask(program.address, "/").await, Some(200), "what the file says is served");
    }
}

/// Killed at any moment while what changes is written down: the next one begins by something that was said, and never by
/// something older than the one before it did.
#[tokio::test]
async fn a_proxy_that_is_killed_while_it_writes_leaves_what_was_said() {
    let gate = free_address();
    let answer = |number: u16| {
        let route = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 300 + number } });
        let host = json!({ "name": format!("said-{number}."), "domains": ["*"], "routes": [route] });
        json!({ "rds": { "web": { "name": "web", "virtual_hosts": [host] } } })
    };
    let many = (0..40).map(|at| {
        let name = format!("c{at}");
        let nobody = json!({ "cluster_name": name });
        (name.clone(), json!({ "name": name, "connect_timeout": "5s", "load_assignment": nobody }))
    });
    let many: serde_json::Map<String, Value> = many.collect();
    let mut plane =
        Plane::on(0, json!({ "cds": many, "lds": { "edge": listener("edge", gate, "web") } })).await;
    let site = Site::new(plane.port, "DELTA_GRPC", "");
    let text = std::fs::read_to_string(&site.config).unwrap();
    let alone = text.replace(&format!("port_value: {}", plane.port), "port_value: 1");
    assert_ne!(text, alone);
    let mut chance = Chance::new(42);
    let (mut said, mut least) = (0, 0);
    for round in 0..4 {
        std::fs::write(&site.config, &text).unwrap();
        let program = site.start().await;
        for _ in 0..=chance.below(4) {
            said += 1;
            plane.set(answer(said), &["rds"]).await;
            answers(gate, "/", 300 + said).await;
            tokio::time::sleep(Duration::from_millis(chance.below(400))).await;
        }
        if round == 3 {
            let mark = format!("said-{said}.").into_bytes();
            until("the last to be kept", async || {
                let kept = std::fs::read(site.kept()?).ok()?;
                kept.windows(mark.len()).any(|part| part == mark).then_some(())
            })
            .await;
            least = said;
        }
        drop(program);
        if site.kept().is_none() {
            continue;
        }
        std::fs::write(&site.config, &alone).unwrap();
        let program = site.start().await;
        program.says("kept on disk, and is in effect", 1).await;
        // A listener may have been said before its routes.
        let status = match least {
            0 => ask(gate, "/").await,
            _ => until("an answer by what was kept", async || ask(gate, "/").await).await.into(),
        };
        let kept = status.map_or(0, |status| status - 300);
        assert!((least..=said).contains(&kept), "{kept} of {least} to {said}");
        least = kept;
    }
    let files = std::fs::read_dir(site.files.path("state/control-plane")).unwrap().count();
    assert!(least > 0 && files < 6, "{files}");
}

#[tokio::test]
async fn nonsense_is_refused_and_told_and_traffic_goes_on() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut plane = Plane::start().await;
    let site = Site::new(plane.port, "GRPC", "");
    let program = site.start().await;
    let gate = free_address();
    begun(&mut plane, gate, &up, &["cds", "eds", "lds", "rds"]).await;
    answers(gate, "/", 200).await;
    let load = Load::begin(gate);
    let cluster_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let other_url = "type.googleapis.com/envoy.config.listener.v3.Listener";
    // The name "x", the type EDS, and `eds_config: { ads: {} }`.
    let good = "0a017810031a040a021a00";
    for (any, expected) in [
        (json!([[cluster_url, good], [cluster_url, good]]), "two clusters with the name 'x'"),
        (json!([[other_url, "0a0178"]]), "is a 'envoy.config.listener.v3.Listener'"),
        (json!([[cluster_url, "ffffff"]]), "bytes that are not"),
        (json!([["type.googleapis.com/nobody.knows", ""]]), "nobody.knows"),
    ] {
        let sent = plane.foreign.ask(json!({ "send": "cds", "any": any, "version": "bad" })).await;
        assert_eq!(sent["sent"], 1);
        let why = plane.is_refused("cds").await;
        assert!(why.contains(expected), "{why}");
    }
    load.goes_on().await;
    // What is no response ends the stream, and another follows, with what is known.
    let again = |one: &Value| one["kind"] == "cds" && one["nonce"] == "";
    plane.foreign.ask(json!({ "bytes": "ffffffff" })).await;
    let first = plane.hears("another stream", again).await;
    assert_ne!(first["version"], "", "it says what it has: {first}");
    plane.foreign.ask(json!({ "huge": "cds", "bytes": 100 << 20 })).await;
    plane.hears("another stream", again).await;
    program.says("is too large", 1).await;
    load.goes_on().await;
    assert!(program.memory_max() < 400 << 20, "{} bytes", program.memory_max());
    load.ends().await;
    assert_eq!(page(&program, "/ready").await, "LIVE\n");
}

#[tokio::test]
async fn one_that_never_answers_is_waited_for_and_no_longer() {
    let mut plane = Plane::start().await;
    plane.foreign.ask(json!({ "hold": ["cds", "lds", "eds", "rds"] })).await;
    let site = Site::new(plane.port, "GRPC", "");
    let text = std::fs::read_to_string(&site.config).unwrap();
    let impatient =
        text.replace("resource_api_version: V3 }", "resource_api_version: V3, initial_fetch_timeout: 0.5s }");
    std::fs::write(&site.config, impatient).unwrap();
    let program = site.start().await;
    assert_eq!(ask(program.address, "/").await, Some(200), "what the file says is served");
    program.says("have come in time", 2).await;
    until("the proxy to be ready", async || (page(&program, "/ready").await == "LIVE\n").then_some(())).await;
}

#[tokio::test]
async fn a_bootstrap_is_read_again_and_what_came_stays() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut plane = Plane::start().await;
    let site = Site::new(plane.port, "DELTA_GRPC", "");
    let program = site.start().await;
    let gate = free_address();
    begun(&mut plane, gate, &up, &["cds", "eds", "lds", "rds"]).await;
    answers(gate, "/", 200).await;
    let load = Load::begin(gate);
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(
        &site.config,
        text.replace("direct_response: { status: 200 }", "direct_response: { status: 418 }"),
    )
    .unwrap();
    program.signal(Signal::HUP);
    answers(program.address, "/", 418).await;
    load.goes_on().await;
    load.ends().await;
    // On the new stream it says what it has, and is told nothing twice.
    let opened = |one: &Value| one["kind"] == "eds" && one["stream"] == 1;
    let request = plane.hears("the new stream", opened).await;
    assert_eq!(request["initial"].as_object().unwrap().len(), 1, "{request}");
}
