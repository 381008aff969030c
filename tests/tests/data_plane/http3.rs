//! HTTP/3, by a client that others have written: aioquic.

mod early;
mod malformed;
mod peer;
mod retry;
mod websocket;

use naru_base::Reason;
use naru_proxy::Options;
use naru_tests::bootstrap::{HTTP2, TO_UP, quic_tls};
use naru_tests::certificates::NAME;
use naru_tests::files::{Directory, documents};
use naru_tests::up::free_address;
use naru_tests::wire::WireListener;
use naru_tests::{Authority, Bootstrap, Client, Naru, Speaks, Up, Upstream, until};
use serde_json::{Value, json};

use peer::{Peer, fields, get};

const REQUEST_REJECTED: u64 = 0x10b;
const REQUEST_CANCELLED: u64 = 0x10c;
const NO_ERROR: u64 = 0x100;

const TWO: Options = Options { workers: 2, seed: Some(1) };

/// A naru in front of an upstream that says what it was sent.
async fn start() -> (Authority, Upstream, Naru, Peer) {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address).http3(&authority, ""));
    (authority, up, naru, Peer::start())
}

fn described(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_request_goes_the_way_of_all_requests() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let log = files.path("log");
    let bootstrap =
        Bootstrap::to(up.address).http3(&authority, "").manager("use_remote_address: true").json_log(
            &log,
            "protocol: '%PROTOCOL%'\nstatus: '%RESPONSE_CODE%'\ntls: '%DOWNSTREAM_TLS_VERSION%'\n\
         name: '%REQUESTED_SERVER_NAME%'\nreceived: '%BYTES_RECEIVED%'\nsent: '%BYTES_SENT%'\n",
        );
    let naru = Naru::start(&bootstrap);
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("x-mine", "kept")];
    let sent = json!({ "headers": fields("POST", "/describe?a=b", &cookies), "body": "hello" });
    let answer = peer.one(of, sent).await;
    assert_eq!((answer.status(), answer.header("server")), (200, Some("naru")));
    let seen = described(answer.text());
    let header = |name| naru_tests::upstream::header(&seen, name);
    assert_eq!((&seen["method"], &seen["target"]), (&json!("POST"), &json!("/describe?a=b")), "{seen}");
    assert_eq!((header("host"), header("x-mine")), (Some(NAME), Some("kept")));
    assert_eq!((header("cookie"), header("x-forwarded-proto")), (Some("a=1; b=2"), Some("https")));
    assert_eq!(header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(naru.ended(1).await, [(200, Reason::Forwarded)]);
    let lines = documents(&log, 1).await;
    assert_eq!(lines[0]["protocol"], "HTTP/3", "{lines:?}");
    assert_eq!((&lines[0]["tls"], &lines[0]["name"]), (&json!("TLSv1.3"), &json!(NAME)));
    assert_eq!(lines[0]["received"], 5, "{lines:?}");
    peer.tell(of, "close", json!({})).await;
    naru.settles().await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways_whole() {
    const BYTES: usize = 1 << 20;
    let (authority, _up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    let sent = json!({ "headers": fields("POST", "/echo", &[]), "bytes": BYTES });
    let same = json!({ "headers": fields("POST", "/echo", &[]), "bytes": BYTES, "body": "y" });
    let both = peer.all(of, vec![sent, same, get(&format!("/bytes/{BYTES}")), get("/chunks/100000")]).await;
    let lengths: Vec<_> = both.iter().map(|outcome| outcome.0["length"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [BYTES as u64, BYTES as u64 + 1, BYTES as u64, 100_000]);
    // Of so many times `x`, and with `y` before them.
    let hashes = [0, 1].map(|at: usize| both[at].0["sha256"].as_str().unwrap());
    assert_eq!(
        hashes,
        [
            "8f990ba0b577b51cf009ea049368c16bbda1b21e1b93be07a824758bb253c39b",
            "3357160db51573fb9c216a655efa8df5a658bc1ae7a1de39ff05835904040c6c",
        ]
    );
    assert_eq!(both[2].header("content-length"), Some(BYTES.to_string().as_str()));
    naru.ended(4).await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    for upstream in ["", HTTP2] {
        let authority = Authority::new();
        let speaks = if upstream.is_empty() { Speaks::Http1 } else { Speaks::Http2 };
        let up = Upstream::plain(speaks).await;
        let bootstrap = Bootstrap::new(TO_UP).cluster("up", up.address, upstream).http3(&authority, "");
        let naru = Naru::start(&bootstrap);
        let mut peer = Peer::start();
        let of = peer.connect(naru.address, &authority).await;
        let headers = fields("POST", "/echo", &[("te", "trailers"), ("trailer", "x-checksum")]);
        let sent = json!({ "headers": headers, "body": "hello", "trailers": [["x-checksum", "5"]] });
        let answer = peer.one(of, sent).await;
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        assert_eq!(answer.trailer("x-checksum"), Some("5"), "{answer:?}");
    }
}

#[tokio::test]
async fn as_many_requests_at_a_time_as_are_allowed_are_answered() {
    let (authority, _up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    // More than the hundred that are carried at a time.
    let requests = (0..250).map(|at| get(&format!("/describe/{at}"))).collect();
    let answers = peer.all(of, requests).await;
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(described(answer.text())["target"], format!("/describe/{at}"));
    }
    naru.ended(250).await;
}

#[tokio::test]
async fn a_failing_upstream_is_answered_for_with_its_reason() {
    let authority = Authority::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let naru = Naru::start(&Bootstrap::to(gone).http3(&authority, ""));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    assert_eq!(peer.get(of, "/").await.status(), 503);
    assert_eq!(naru.ended(1).await, [(503, Reason::ConnectFailure)]);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset() {
    let authority = Authority::new();
    let listener = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(listener.address).http3(&authority, ""));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let streams = peer.begin(of, vec![get("/")]).await;
    let mut up = listener.accept().await;
    up.head().await;
    up.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    peer.tell(of, "progress", json!({ "stream": streams[0] })).await;
    drop(up);
    let answer = peer.end(of, &streams).await.remove(0);
    assert_eq!((answer.status(), answer.reset()), (200, Some(0x102)), "{answer:?}");
    assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)]);
}

#[tokio::test]
async fn a_client_that_gives_up_takes_its_request_with_it() {
    let authority = Authority::new();
    let listener = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(listener.address).http3(&authority, ""));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let streams = peer.begin(of, vec![get("/waits"), get("/goes-on")]).await;
    let (mut first, mut second) = (listener.accept().await, listener.accept().await);
    let heads = [first.head().await, second.head().await];
    if heads[0].first.contains("/goes-on") {
        std::mem::swap(&mut first, &mut second);
    }
    peer.tell(of, "cancel", json!({ "stream": streams[0] })).await;
    // Its upstream is told.
    first.ends().await;
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let answer = peer.end(of, &streams[1..]).await.remove(0);
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    assert_eq!(naru.ended(2).await, [(0, Reason::ClientGone), (200, Reason::Forwarded)]);
}

#[tokio::test]
async fn a_download_that_is_given_up_ends_at_the_upstream() {
    let (authority, _up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    let mut request = get("/chunks/50000000");
    request["cancel"] = json!(100_000);
    let answer = peer.one(of, request).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(naru.ended(1).await, [(200, Reason::ClientGone)]);
    assert_eq!(peer.get(of, "/status/204").await.status(), 204, "the connection goes on");
}

#[tokio::test]
async fn an_upload_that_is_given_up_ends_at_the_upstream() {
    let authority = Authority::new();
    let listener = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(listener.address).http3(&authority, ""));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let sent = json!({ "headers": fields("POST", "/", &[]), "body": "half", "open": true });
    let streams = peer.begin(of, vec![sent]).await;
    let mut up = listener.accept().await;
    up.head().await;
    peer.tell(of, "cancel", json!({ "stream": streams[0] })).await;
    up.end().await;
    naru.ended(1).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_not_waited_for() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::to(up.address).http3(&authority, "").manager("stream_idle_timeout: 1s");
    let naru = Naru::start(&bootstrap);
    let mut peer = Peer::start();
    let (of, _) = peer.try_connect(naru.address, &authority, json!({ "window": 4_096 })).await.unwrap();
    peer.tell(of, "stop_reading", json!({})).await;
    let answer = peer.get(of, "/bytes/5000000").await;
    assert_eq!((answer.status(), answer.reset()), (200, Some(REQUEST_CANCELLED)), "{answer:?}");
    naru.ended(1).await;
}

#[tokio::test]
async fn who_waits_for_leave_to_send_is_told_to() {
    let (authority, _up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    let headers = fields("POST", "/echo", &[("expect", "100-continue"), ("content-length", "5")]);
    let streams = peer.begin(of, vec![json!({ "headers": headers, "open": true })]).await;
    peer.tell(of, "progress", json!({ "stream": streams[0] })).await;
    let rest = json!({ "stream": streams[0], "hex": "000568656c6c6f", "end": true });
    peer.tell(of, "send", rest).await;
    let answer = peer.end(of, &streams).await.remove(0);
    assert_eq!((answer.status(), answer.text()), (200, "hello"));
    assert_eq!(answer.0["interim"], json!([100]));
    naru.ended(1).await;
}

#[tokio::test]
async fn a_call_of_grpc_is_one_over_http3_too() {
    let authority = Authority::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", gone, HTTP2).http3(&authority, ""));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let headers = fields("POST", "/a.B/C", &[("content-type", "application/grpc"), ("te", "trailers")]);
    let answer = peer.one(of, json!({ "headers": headers, "body": "\0\0\0\0\0" })).await;
    assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("14")), "{answer:?}");
    naru.ended(1).await;
}

#[tokio::test]
async fn a_client_that_moves_to_another_address_is_still_served() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start_with(&Bootstrap::to(up.address).http3(&authority, ""), &TWO);
    let mut peer = Peer::start();
    // By another address a client may come to another worker's socket, or not: so it moves often.
    let of = peer.connect(naru.address, &authority).await;
    for turn in 0..16 {
        peer.tell(of, "move", json!({})).await;
        let sent = json!({ "headers": fields("POST", "/echo", &[]), "bytes": 50_000 });
        let answer = peer.one(of, sent).await;
        assert_eq!((answer.status(), answer.0["length"].as_u64()), (200, Some(50_000)), "{turn}");
    }
    naru.ended(16).await;
    let report = naru.report().await;
    assert_eq!(report.downstream.connections_total, 1);
    peer.tell(of, "update_keys", json!({})).await;
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
}

#[tokio::test]
async fn clients_are_spread_over_the_workers() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start_with(&Bootstrap::to(up.address).http3(&authority, ""), &TWO);
    let mut peer = Peer::start();
    for _ in 0..12 {
        let of = peer.connect(naru.address, &authority).await;
        assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    }
    naru.ended(12).await;
    let report = naru.report().await;
    assert_eq!((report.downstream.connections_active, report.downstream.connections_total), (12, 12));
}

#[tokio::test]
async fn clients_are_let_in_as_over_tcp() {
    let authority = Authority::new();
    let clients = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let text = Bootstrap::to(up.address).http3(&authority, "").text();
    let text = text.replace(
        "          downstream_tls_context:\n            common_tls_context:\n",
        &format!(
            "          downstream_tls_context:\n            require_client_certificate: true\n            \
             common_tls_context:\n              validation_context: {{ trusted_ca: {{ inline_string: {:?} }} }}\n",
            clients.pem()
        ),
    );
    assert!(text.contains("require_client_certificate"), "{text}");
    let naru = Naru::on(&text);
    let mut peer = Peer::start();
    let issued = clients.issue_for("client.test");
    let (of, _) = peer.try_connect(naru.address, &authority, Peer::with(&issued)).await.unwrap();
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    let foreign = Authority::new().issue_for("client.test");
    // Alerts: a signature that is not the authority's, no certificate, no protocol in common (RFC 9001, section 4.8).
    let refused = peer.try_connect(naru.address, &authority, Peer::with(&foreign)).await;
    assert_eq!(refused.err(), Some(0x100 + 51));
    let refused = peer.try_connect(naru.address, &authority, json!({})).await;
    assert_eq!(refused.err(), Some(0x100 + 116));
    let refused = peer.try_connect(naru.address, &authority, json!({ "alpn": "hq-interop" })).await;
    assert_eq!(refused.err(), Some(0x100 + 120));
    let counted = until("refused handshakes to be counted", async || {
        let errors = naru.report().await.downstream.tls_errors;
        (errors == 3).then_some(errors)
    });
    counted.await;
}

#[tokio::test]
async fn a_certificate_changes_under_the_connections_that_are_there() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::to(up.address).http3(&authority, "");
    let naru = Naru::start(&bootstrap);
    let mut peer = Peer::start();
    let (old, first) = peer.try_connect(naru.address, &authority, json!({})).await.unwrap();
    assert_eq!(peer.get(old, "/status/200").await.status(), 200);
    // The same file with another certificate of the same name.
    let text = bootstrap.clone().http3_with(&authority.issue()).text();
    naru.update(&text).await;
    let (new, second) = peer.try_connect(naru.address, &authority, json!({})).await.unwrap();
    assert_ne!(first, second);
    for of in [old, new] {
        assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    }
    naru.forgets_old_snapshots().await;
    assert_eq!(naru.report().await.downstream.connections_total, 2, "nobody had to come again");
}

#[tokio::test]
async fn the_name_that_a_client_asks_for_chooses_its_chain() {
    let authority = Authority::new();
    let chain = |name: &str, of: &str| {
        let routes = format!(
            "- match: {{ prefix: / }}\n  direct_response: {{ status: 200, body: {{ inline_string: {name} }} }}\n"
        );
        let text = Bootstrap::new(&routes).http3(&authority, "").text();
        let (_, chain) = text.split_once("    filter_chains:\n").unwrap();
        let chain = chain.replacen("    - filters:", "      filters:", 1);
        format!("    - filter_chain_match: {{ server_names: [{of}] }}\n{chain}")
    };
    let head = Bootstrap::new(TO_UP).http3(&authority, "").text();
    let (head, _) = head.split_once("    filter_chains:\n").unwrap();
    let (exact, other) = (chain("exact", NAME), chain("other", "'*.other.test'"));
    let naru = Naru::on(&format!("{head}    filter_chains:\n{exact}{other}"));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    assert_eq!(peer.get(of, "/").await.text(), "exact");
    // The certificate is of another name, which this client checks; nobody's name is not even answered.
    let refused = peer.try_connect(naru.address, &authority, json!({ "name": "nobody.test" })).await;
    assert_eq!(refused.err(), Some(0x100 + 112));
}

#[tokio::test]
async fn a_connection_is_ended_gently() {
    let authority = Authority::new();
    let listener = WireListener::bind().await;
    let routes = format!("- match: {{ path: /late }}\n  direct_response: {{ status: 204 }}\n{TO_UP}");
    let bootstrap = Bootstrap::new(&routes).cluster("up", listener.address, "").http3(&authority, "");
    let naru = Naru::start(&bootstrap);
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let streams = peer.begin(of, vec![get("/")]).await;
    let mut up = listener.accept().await;
    up.head().await;
    naru.drain();
    // What comes before the client knows is answered, what comes after is told that it was not looked at.
    let rejected = until("a request to be rejected", async || {
        let late = peer.get(of, "/late").await;
        if late.reset().is_none() {
            assert_eq!(late.status(), 204);
        }
        late.reset()
    });
    assert_eq!(rejected.await, REQUEST_REJECTED);
    up.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend").await;
    assert_eq!(peer.end(of, &streams).await[0].text(), "end");
    assert_eq!(peer.closed(of).await, NO_ERROR);
    until("the worker to end", async || naru.has_ended().then_some(())).await;
}

#[tokio::test]
async fn a_listener_that_goes_lets_its_requests_end() {
    let authority = Authority::new();
    let listener = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(listener.address).http3(&authority, ""));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let streams = peer.begin(of, vec![get("/")]).await;
    let mut up = listener.accept().await;
    up.head().await;
    naru.update(&Bootstrap::to(listener.address).text()).await;
    up.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend").await;
    assert_eq!(peer.end(of, &streams).await[0].text(), "end");
    assert_eq!(peer.closed(of).await, NO_ERROR);
}

#[tokio::test]
async fn a_successor_has_the_socket_and_clients_come_again() {
    let (authority, _up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    naru.is_succeeded().await;
    assert_eq!(peer.closed(of).await, NO_ERROR);
}

#[tokio::test]
async fn one_who_is_silent_is_forgotten() {
    let authority = Authority::new();
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address).http3(&authority, "idle_timeout: 1s"));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    naru.settles().await;
    let naru = Naru::start(
        &Bootstrap::to(up.address)
            .http3(&authority, "")
            .manager("common_http_protocol_options: { idle_timeout: 1s }"),
    );
    let of = peer.connect(naru.address, &authority).await;
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    assert_eq!(peer.closed(of).await, NO_ERROR);
}

#[tokio::test]
async fn what_an_address_speaks_may_change() {
    const UDP: &str = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig";
    let (authority, up, naru, mut peer) = start().await;
    let of = peer.connect(naru.address, &authority).await;
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    let echo = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (ip, port) = (naru.address.ip(), naru.address.port());
    let text = format!(
        "static_resources:\n  listeners:\n  - name: main\n    address: {{ socket_address: {{ protocol: UDP, address: {ip}, \
         port_value: {port} }} }}\n    listener_filters:\n    - name: udp\n      typed_config:\n        \"@type\": {UDP}\n        \
         stat_prefix: udp\n        cluster: up\n  clusters:\n  - name: up\n    load_assignment:\n      cluster_name: up\n      \
         endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {} }} }} }}\n",
        echo.local_addr().unwrap().port(),
    );
    naru.update(&text).await;
    assert_eq!(peer.closed(of).await, NO_ERROR);
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(naru.address).await.unwrap();
    let mut datagram = [0; 16];
    until("a datagram to pass", async || {
        client.send(b"plain").await.unwrap();
        let wait = std::time::Duration::from_millis(50);
        tokio::time::timeout(wait, echo.recv_from(&mut datagram)).await.ok()?.ok()
    })
    .await;
    assert_eq!(&datagram[..5], b"plain");
    let back = Bootstrap::to(up.address).http3(&authority, "").listen_on(naru.address);
    naru.update(&back.text()).await;
    let of = peer.connect(naru.address, &authority).await;
    assert_eq!(peer.get(of, "/status/200").await.status(), 200);
}

#[tokio::test]
async fn a_gateway_of_naru_up_speaks_it_beside_https_and_says_so() {
    let authority = Authority::new();
    let issued = authority.issue();
    let up = Upstream::plain(Speaks::Http1).await;
    let files = Directory::new();
    let (chain, key) = (files.write("chain.pem", &issued.chain), files.write("key.pem", &issued.key));
    let gate = free_address();
    let documents = format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gate, annotations: {{ naru.dev/http3: 'true' }} }}
spec:
  servers:
  - port: {{ number: {}, name: https, protocol: HTTPS }}
    bind: 127.0.0.1
    hosts: ['*']
    tls: {{ mode: SIMPLE, serverCertificate: {chain:?}, privateKey: {key:?} }}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: up }}
spec:
  hosts: [up.example]
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints: [{{ address: 127.0.0.1, ports: {{ http: {} }} }}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: gate }}
spec:
  hosts: ['*']
  gateways: [gate]
  http: [{{ name: all, route: [{{ destination: {{ host: up.example }} }}] }}]
",
        gate.port(),
        up.address.port(),
    );
    let running = Up::start(&[("all.yaml", documents)], &["--workers", "2"]).await;
    let connector = authority.connector(&["h2"]);
    until("the gateway to listen", async || tokio::net::TcpStream::connect(gate).await.ok()).await;
    let (mut client, _) = Client::secured(gate, Speaks::Http2Tls, &connector).await.unwrap();
    let answer = client.get("/status/200").await;
    let told = format!("h3=\":{}\"; ma=86400", gate.port());
    assert_eq!(answer.headers.get("alt-svc").unwrap(), &*told, "{}", running.said());
    let mut peer = Peer::start();
    let of = peer.connect(gate, &authority).await;
    let seen = peer.get(of, "/describe").await;
    assert_eq!((seen.status(), seen.header("alt-svc")), (200, None));
    assert_eq!(described(seen.text())["target"], "/describe");
}

#[tokio::test]
async fn a_listener_of_tcp_says_where_http3_is_spoken() {
    let authority = Authority::new();
    let issued = authority.issue();
    assert!(quic_tls(&issued).contains("quic.v3.QuicDownstreamTransport"));
    let up = Upstream::plain(Speaks::Http1).await;
    let text = Bootstrap::to(up.address)
        .tls(&authority, &["h2", "http/1.1"])
        .text()
        .replace(
            "            name: routes\n",
            "            name: routes\n            response_headers_to_add:\n            - header: { key: alt-svc, value: 'h3=\":443\"; ma=86400' }\n",
        );
    let naru = Naru::on(&text);
    let connector = authority.connector(&["h2"]);
    let (mut client, _) = Client::secured(naru.address, Speaks::Http2Tls, &connector).await.unwrap();
    let answer = client.get("/status/200").await;
    assert_eq!(answer.headers.get("alt-svc").unwrap(), "h3=\":443\"; ma=86400");
}
