//! The bounds of an edge: connections of a listener, of a chain and of an address, handshakes, bodies; and what an
//! `EdgePolicy` says of them.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use naru_base::Reason;
use naru_proxy::Options;
use naru_proxy::metrics::TurnedAway;
use naru_spec::{Allowance, Config, Http2Limits, Listener};
use naru_tests::client::request;
use naru_tests::files::Directory;
use naru_tests::frames::{
    self, CANCEL, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, PING, Peer, frame, headers, reset,
};
use naru_tests::up::free_address;
use naru_tests::{
    Authority, Bootstrap, Client, Naru, Outbound, Program, Speaks, Up, Upstream, Wire, client, naru, until,
};
use tokio::net::TcpSocket;

const GET: &str = "GET /bytes/2 HTTP/1.1\r\nhost: naru.test\r\n\r\n";
const TWO: Options = Options { workers: 2, seed: Some(1) };

async fn served(address: SocketAddr) -> Wire {
    let mut client = Wire::connect(address).await;
    client.send(GET).await;
    assert_eq!(client.response().await.status(), 200);
    client
}

async fn config(change: impl FnOnce(&mut Listener)) -> (Upstream, Config) {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut config = naru::config(&Bootstrap::to(up.address));
    change(&mut config.listeners[0]);
    (up, config)
}

async fn turned_away(naru: &Naru, why: TurnedAway, count: u64) {
    until(&format!("{count} to be turned away"), async || {
        (naru.report().await.downstream.turned_away[why as usize] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_listener_has_no_more_connections_than_it_may_whatever_worker_takes_them() {
    let (_up, config) = config(|listener| listener.connections.max = Some(3)).await;
    let naru = Naru::start_on(config.clone(), &TWO);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(served(naru.address).await);
    }
    for _ in 0..5 {
        Wire::ended_at_once(naru.address).await;
    }
    turned_away(&naru, TurnedAway::Listener, 5).await;
    // Another configuration counts on.
    naru.update_to(config).await;
    Wire::ended_at_once(naru.address).await;
    turned_away(&naru, TurnedAway::Listener, 6).await;
    held.clear();
    until("the places to be free", async || (naru.strain().connections == 0).then_some(())).await;
    drop(served(naru.address).await);
    let ended = naru.ended(10).await;
    assert_eq!(ended.iter().filter(|ended| **ended == (0, Reason::ConnectionLimit)).count(), 6);
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_it_may_and_others_have_theirs() {
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let log = files.path("log");
    let fields = "{ flags: \"%RESPONSE_FLAGS%\", why: \"%RESPONSE_CODE_DETAILS%\", who: \"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\" }";
    let mut config = naru::config(&Bootstrap::to(up.address).json_log(&log, fields));
    config.listeners[0].connections.max_per_source = Some(2);
    let naru = Naru::start_on(config, &TWO);
    let held = [served(naru.address).await, served(naru.address).await];
    Wire::ended_at_once(naru.address).await;
    turned_away(&naru, TurnedAway::Source, 1).await;
    until("its line", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let is_it = |line: &str| {
            ["\"OM\"", "\"over_connection_limit\"", "\"127.0.0.1\""].iter().all(|word| line.contains(word))
        };
        text.lines().any(is_it).then_some(())
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut other = Wire::new(socket.connect(naru.address).await.unwrap());
    other.send(GET).await;
    assert_eq!(other.response().await.status(), 200);
    drop(held);
    until("its places to be free", async || (naru.strain().connections == 1).then_some(())).await;
    drop(served(naru.address).await);
}

/// Behind a proxy it is the client that the proxy speaks for.
#[tokio::test]
async fn an_address_is_that_which_a_proxy_speaks_for() {
    let lines = "listener_filters: [{ name: p, typed_config: { \"@type\": \
                 type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol } }]";
    let up = Upstream::plain(Speaks::Http1).await;
    let mut config = naru::config(&Bootstrap::to(up.address).listener(lines));
    config.listeners[0].connections.max_per_source = Some(1);
    let naru = Naru::start_on(config, &TWO);
    let speak = async |source: &str| {
        let mut client = Wire::connect(naru.address).await;
        client.try_send(format!("PROXY TCP4 {source} 10.0.0.9 1000 80\r\n{GET}")).await;
        client
    };
    let mut first = speak("10.0.0.1").await;
    assert_eq!(first.response().await.status(), 200);
    let mut second = speak("10.0.0.1").await;
    second.end().await;
    turned_away(&naru, TurnedAway::Source, 1).await;
    let mut other = speak("10.0.0.2").await;
    assert_eq!(other.response().await.status(), 200);
}

#[tokio::test]
async fn the_filter_of_a_chain_limits_connections_and_delays_those_that_are_too_many() {
    let up = Upstream::plain(Speaks::Http1).await;
    let limit = "- name: limit\n  typed_config:\n    \"@type\": \
                 type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit\n    stat_prefix: \
                 few\n    max_connections: 1\n    delay: 0.2s\n";
    let bootstrap = Bootstrap::to(up.address).network_filter(limit).admin();
    let program = Program::start(&bootstrap, &["--workers", "2"]).await;
    let held = served(program.address).await;
    let began = std::time::Instant::now();
    Wire::ended_at_once(program.address).await;
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    let admin = program.admin.unwrap();
    let stats = client::get(admin, "/stats?filter=connection_limit").await.text();
    assert!(stats.contains("connection_limit.few.active_connections: 1\n"), "{stats}");
    assert!(stats.contains("connection_limit.few.limited_connections: 1\n"), "{stats}");
    drop(held);
    until("the place to be free", async || {
        let stats = client::get(admin, "/stats?filter=active_connections").await.text();
        stats.contains("active_connections: 0\n").then_some(())
    })
    .await;
    drop(served(program.address).await);
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::to(up.address).tls(&authority, &["http/1.1"]);
    let bootstrap = bootstrap.chain("transport_socket_connect_timeout: 2s");
    let naru = Naru::start(&bootstrap);
    let silent = Wire::connect(naru.address).await;
    let mut begins = Wire::connect(naru.address).await;
    // A record that says that there are 512 bytes of a handshake, and the first of them.
    begins.send([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await;
    for mut client in [silent, begins] {
        client.end().await;
    }
    until("both to be counted", async || (naru.report().await.downstream.tls_errors == 2).then_some(()))
        .await;
    let mut client = Client::connect(naru.address, Speaks::Http1Tls, &authority).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(client.get("/bytes/2").await.status, 200, "it holds for the handshake only");
}

#[tokio::test]
async fn a_body_is_no_larger_than_it_may_be() {
    let up = Upstream::plain(Speaks::Http1).await;
    let buffer = "- { name: buffer, typed_config: { \"@type\": \
                  type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 1000 } }";
    let naru = Naru::start(&Bootstrap::to(up.address).filter(buffer));
    // It is answered before anything of it has come.
    let mut said = Wire::connect(naru.address).await;
    said.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\n\r\n").await;
    let answer = said.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "Payload Too Large"));
    assert_eq!(up.requests(), 0);
    let mut chunked = Wire::connect(naru.address).await;
    chunked.send("POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    chunked.send(format!("3e8\r\n{}\r\n", "x".repeat(1_000))).await;
    chunked.send("1\r\nx\r\n").await;
    assert_eq!(chunked.response().await.status(), 413);
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::plain(naru.address, speaks).await;
        let exact = client.exchange(request(Method::POST, "/length", Outbound::filler(1_000, true))).await;
        assert_eq!((exact.status.as_u16(), exact.text().as_str()), (200, "1000 whole"), "{speaks:?}");
        let mut client = Client::plain(naru.address, Speaks::Http2).await;
        let over = client.exchange(request(Method::POST, "/length", Outbound::filler(1_001, false))).await;
        assert_eq!(over.status, 413);
    }
    let ended = naru.ended(6).await;
    assert_eq!(ended.iter().filter(|ended| **ended == (413, Reason::BodyTooLarge)).count(), 4);
    naru.settles().await;
}

const GATE: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec:
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, bind: 127.0.0.1, hosts: ['*'] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: all }
spec:
  hosts: ['*']
  gateways: [gate]
  http: [{ directResponse: { status: 200, body: { string: ok } } }]
---
";

fn planned(documents: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("edge.yaml", &format!("{GATE}{documents}"), &mut loaded);
    let planned = naru_plan::plan(&loaded.resources, &naru_plan::Surroundings::default());
    let problems: Vec<_> = loaded.problems.iter().chain(&planned.problems).collect();
    assert!(problems.is_empty(), "{problems:?}");
    let mut config = planned.config;
    config.listeners.iter_mut().for_each(|listener| listener.address.set_port(0));
    config
}

/// Every field is somebody's setting.
#[tokio::test]
async fn an_edge_policy_says_the_bounds_of_a_gateway_and_of_the_process() {
    let config = planned(
        "apiVersion: naru.dev/v1alpha1
kind: EdgePolicy
metadata: { name: whole }
spec:
  connections: { max: 9, maxPerSource: 5, handshakeTimeout: 3s }
  overload:
    refreshInterval: 50ms
    memory: { limitBytes: 1073741824, shedAtPercent: 90, untilPercent: 80 }
    cpu: { disabled: true }
    keepPaths: [/alive]
---
apiVersion: naru.dev/v1alpha1
kind: EdgePolicy
metadata: { name: gate }
spec:
  targetRef: { group: networking.istio.io, kind: Gateway, name: gate }
  connections: { max: 2, idleTimeout: 60s, maxRequests: 7 }
  requests:
    maxHeaderBytes: 8192
    maxHeaderCount: 20
    maxBodyBytes: 10
    headersTimeout: 5s
    timeout: 30s
    idleTimeout: 0s
    bodyPace: { bytes: 0, window: 1s }
    responsePace: { bytes: 100, window: 2s }
  http2:
    maxConcurrentStreams: 10
    resets: { burst: 20, perSecond: 2 }
    mistakes: { burst: 10 }
    frames: { perSecond: 5 }
    framesPerUseful: 3
    maxBlockFrames: 8
    frameTimeout: 4s
",
    );
    let listener = &config.listeners[0];
    let connections = listener.connections;
    assert_eq!((connections.max, connections.max_per_source), (Some(2), Some(5)));
    let chain = &listener.chains[0];
    assert_eq!(chain.handshake_timeout, Some(Duration::from_secs(3)));
    let http = &chain.http;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!((http.connection_idle_timeout, http.max_requests_per_connection), (seconds(60), Some(7)));
    assert_eq!((http.header_bytes_max, http.header_count_max, http.body_bytes_max), (8_192, 20, Some(10)));
    assert_eq!((http.request_headers_timeout, http.request_timeout), (seconds(5), seconds(30)));
    assert_eq!((http.stream_idle_timeout, http.request_pace), (None, None));
    assert_eq!(http.response_pace.map(|pace| pace.bytes), Some(100));
    let limits = http.http2_limits;
    assert_eq!(
        (http.http2.max_concurrent_streams, limits.frames_per_useful, limits.block_frames_max),
        (10, 3, 8)
    );
    assert_eq!((limits.resets.burst, limits.resets.per_second), (20, 2));
    assert_eq!((limits.mistakes.burst, limits.mistakes.per_second), (10, 1));
    assert_eq!((limits.frames.burst, limits.frames.per_second), (1_000, 5));
    assert_eq!(limits.frame_timeout, Duration::from_secs(4));
    let naru = Naru::start_on(config, &TWO);
    let held = [ok(naru.address).await, ok(naru.address).await];
    Wire::ended_at_once(naru.address).await;
    until("its memory to be measured", async || {
        naru.strain().resources.iter().any(|resource| resource.name == "memory").then_some(())
    })
    .await;
    let names: Vec<String> = naru.strain().resources.into_iter().map(|resource| resource.name).collect();
    assert_eq!(names, ["memory", "connections"]);
    drop(held);
}

async fn ok(address: SocketAddr) -> Wire {
    let mut client = Wire::connect(address).await;
    client.send(GET).await;
    assert_eq!(client.response().await.text(), "ok");
    client
}

/// What HTTP/2 may cost is what is said, not what is built in.
#[tokio::test]
async fn a_client_of_http2_may_do_what_is_said_and_no_more() {
    let up = Upstream::plain(Speaks::Http1).await;
    let few = Allowance { burst: 20, per_second: 0 };
    for (limits, begins, chunk) in [
        (
            Http2Limits { resets: few, ..Http2Limits::default() },
            20,
            (|n| {
                let id = n * 2 + 1;
                let get = headers(END_STREAM | END_HEADERS, id, &frames::request("GET", "/slow/1000"));
                [get, reset(id, CANCEL)].concat()
            }) as fn(u32) -> Vec<u8>,
        ),
        (Http2Limits { frames: few, frames_per_useful: 0, ..Http2Limits::default() }, 5, |_| {
            frame(PING, 0, 0, [0; 8])
        }),
    ] {
        let mut config = naru::config(&Bootstrap::to(up.address));
        config.listeners[0].chains[0].http.http2_limits = limits;
        let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
        let mut peer = Peer::start(naru.address, None, &[]).await;
        for n in 0..begins {
            peer.send(chunk(n)).await;
        }
        assert!(peer.is_alive().await, "{limits:?}");
        for n in begins..begins + 21 {
            peer.try_send(chunk(n)).await;
        }
        assert_eq!(peer.goes_away().await, Some(ENHANCE_YOUR_CALM), "{limits:?}");
    }
}

/// `naru up` measures its own memory and processors without a word said, and does what a policy says about it.
#[tokio::test]
async fn naru_up_sheds_by_its_own_memory_and_answers_probes() {
    let gate = free_address();
    let gateway = GATE.replace("number: 80", &format!("number: {}", gate.port()));
    let policy = "apiVersion: naru.dev/v1alpha1
kind: EdgePolicy
metadata: { name: process }
spec: { overload: { refreshInterval: 20ms, memory: { limitBytes: LIMIT } } }
";
    let up = Up::start(&[("gate.yaml", gateway)], &["--workers", "1"]).await;
    until("memory and processors to be measured", async || {
        let stats = up.page("/stats?filter=overload").await;
        let lines = ["overload.memory.pressure: ", "overload.cpu.failed_updates: 0\n"];
        lines.iter().all(|line| stats.contains(line)).then_some(())
    })
    .await;
    assert_eq!(client::get(gate, "/").await.text(), "ok");
    // Less than it has, and then more than it will ever have.
    up.save("policy.yaml", &policy.replace("LIMIT", "1048576"));
    until("requests to be refused", async || (client::get(gate, "/").await.status == 503).then_some(()))
        .await;
    assert_eq!(client::get(gate, "/healthz").await.text(), "ok");
    assert!(up.page("/stats?filter=stop_accepting").await.contains("stop_accepting_requests.active: 1\n"));
    up.save("policy.yaml", &policy.replace("LIMIT", "1099511627776"));
    until("requests to be served again", async || (client::get(gate, "/").await.status == 200).then_some(()))
        .await;
}

/// Clients that begin and do not go on, at default settings: each is closed, and none takes much.
#[tokio::test]
async fn who_begins_and_does_not_go_on_is_closed_and_a_client_beside_sees_nothing_of_it() {
    const EACH: usize = 60;
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let secured = Program::start(&Bootstrap::to(up.address).tls(&authority, &["http/1.1"]), &[]).await;
    let plain = Program::start(&Bootstrap::to(up.address), &[]).await;
    let mut beside = Client::connect(secured.address, Speaks::Http1Tls, &authority).await;
    let mut beside_plain = Client::plain(plain.address, Speaks::Http1).await;
    for _ in 0..20 {
        assert_eq!(beside.get("/bytes/10").await.status, 200);
        assert_eq!(beside_plain.get("/bytes/10").await.status, 200);
    }
    let before = [secured.memory_from_now(), plain.memory_from_now()];
    let mut open = Vec::new();
    for _ in 0..EACH {
        // Nothing at all, and a part of a ClientHello, where TLS is spoken.
        open.push(("silent", Wire::connect(secured.address).await));
        let mut begins = Wire::connect(secured.address).await;
        begins.send([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await;
        open.push(("hello", begins));
        // A head, a body that trickles, an answer that nobody takes.
        let mut head = Wire::connect(plain.address).await;
        head.send("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
        open.push(("head", head));
        let mut body = Wire::connect(plain.address).await;
        body.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nx").await;
        open.push(("body", body));
        let mut answer = Wire::connect_narrow(plain.address).await;
        answer.send("GET /bytes/100000000 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        open.push(("answer", answer));
    }
    let ends: Vec<_> = open
        .into_iter()
        .map(|(what, mut client)| {
            tokio::spawn(async move {
                if what == "answer" {
                    // Long enough that it is seen to take nothing.
                    tokio::time::sleep(Duration::from_secs(25)).await;
                    let (taken, _) = client.end().await;
                    assert!(taken.len() < 100_000_000, "it was not broken off");
                    return;
                }
                // Each is there until its time is over, and told why where it can be.
                let (said, end) = client.end().await;
                let said = String::from_utf8_lossy(&said);
                let is_told = said.starts_with("HTTP/1.1 408");
                assert!(is_told || matches!(what, "silent" | "hello"), "{what}: {said:?} {end:?}");
            })
        })
        .collect();
    let mut asked = 0;
    while !ends.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(beside.get("/bytes/10").await.status, 200);
        assert_eq!(beside_plain.get("/bytes/10").await.status, 200);
        asked += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(asked > 100, "{asked}");
    for end in ends {
        end.await.unwrap();
    }
    for (program, before, count) in [(&secured, before[0], 2 * EACH), (&plain, before[1], 3 * EACH)] {
        let grown = program.memory_max().saturating_sub(before) / count as u64;
        assert!(grown < 256 * 1_024, "{grown} bytes for each");
    }
}
