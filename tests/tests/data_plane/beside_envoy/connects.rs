//! What becomes of CONNECT where a file says so, over both versions of HTTP.

use std::fmt::Write as _;
use std::net::SocketAddr;

use http::{Method, Request, Response, StatusCode};
use naru_tests::bootstrap::HTTP2;
use naru_tests::http2::H2Client;
use naru_tests::side::{Asked, Side};
use naru_tests::wire::{WireListener, refusing_address};
use naru_tests::{Bootstrap, Envoy, Naru, Wire};

const HOSTS: &str = r#"
- name: ends
  domains: ["ends.test:443"]
  routes:
  - match: { prefix: "/" }
    direct_response: { status: 200, body: { inline_string: "no tunnel" } }
  - match: { connect_matcher: {} }
    route: { cluster: up, timeout: 0.3s, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- name: introduced
  domains: ["introduced.test:443"]
  routes:
  - match: { connect_matcher: {} }
    route: { cluster: up, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { proxy_protocol_config: { version: V1 } } }] }
- name: nobody
  domains: ["nobody.test:443"]
  routes:
  - match: { connect_matcher: {} }
    route: { cluster: nobody, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- name: goes_on
  domains: ["goes-on.test:443"]
  routes:
  - match: { connect_matcher: {}, headers: [{ name: x-to, string_match: { exact: http2 } }] }
    route: { cluster: http2 }
  - match: { connect_matcher: {} }
    route: { cluster: up }
- name: forbidden
  domains: ["forbidden.test:443"]
  routes:
  - match: { connect_matcher: {} }
    route: { cluster: up, upgrade_configs: [{ upgrade_type: CONNECT, enabled: false }] }
- name: others
  domains: ["*"]
  routes:
  - match: { prefix: "/" }
    route: { cluster: up }
  - match: { safe_regex: { regex: ".*" } }
    route: { cluster: up }
"#;

fn bootstrap(up: SocketAddr, http2: SocketAddr) -> Bootstrap {
    let options =
        "upgrade_configs: [{ upgrade_type: CONNECT }]\nhttp2_protocol_options: { allow_connect: true }";
    Bootstrap::with_virtual_hosts(HOSTS)
        .manager(options)
        .cluster("up", up, "")
        .cluster("http2", http2, HTTP2)
        .cluster("nobody", refusing_address(), "")
}

/// Asks for a tunnel. What the other end sees is what `answer` makes of it.
async fn ask(address: SocketAddr, is_http2: bool, host: &str, to: &str) -> (u16, Side) {
    if is_http2 {
        let client = H2Client::connect(address).await;
        let request =
            Request::builder().method(Method::CONNECT).uri(host).header("x-to", to).body(()).unwrap();
        let (answer, side) = Side::request(client, request).await.unwrap();
        return (answer.status().as_u16(), side);
    }
    let mut wire = Wire::connect(address).await;
    wire.send(format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\nx-to: {to}\r\n\r\n")).await;
    let head = wire.head().await;
    (head.status(), Side::Connection(wire))
}

/// Bytes pass both ways until the client has ended. That the other way may go on is naru's: Envoy ends with a client of
/// HTTP/1.
async fn pass(client: &mut Side, upstream: &mut Side, seen: &mut String) {
    client.send("up").await;
    upstream.expect("up").await;
    upstream.send("down").await;
    client.expect("down").await;
    client.finish().await;
    let (rest, _) = upstream.end().await;
    write!(seen, " | and passes bytes until the end: {rest:?}").unwrap();
}

async fn play(address: SocketAddr, up: &WireListener, http2: &WireListener) -> Vec<String> {
    let mut all = Vec::new();
    for is_http2 in [false, true] {
        let mut note = |what: &str, seen: String| all.push(format!("http2 {is_http2}, {what}: {seen}"));
        for host in ["ends.test:443", "introduced.test:443"] {
            let (mut seen, is_introduced) = (String::new(), host.starts_with("introduced"));
            let ((status, mut client), upstream) =
                tokio::join!(ask(address, is_http2, host, ""), up.accept());
            let mut upstream = Side::Connection(upstream);
            write!(seen, "{status}").unwrap();
            if is_introduced {
                upstream.expect("PROXY TCP4 127.0.0.1 127.0.0.1 ").await;
                while upstream.exactly(1).await.unwrap() != b"\n" {}
            }
            // No timeout of the route holds for what is in it.
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            pass(&mut client, &mut upstream, &mut seen).await;
            note(host, seen);
        }
        for status in [200, 204, 407] {
            let mut seen = String::new();
            let serve = async {
                let mut upstream = up.accept().await;
                let head = upstream.head().await;
                let length = if status == 407 { "content-length: 2\r\n" } else { "" };
                let rest = if status == 407 { "no" } else { "" };
                upstream.send(format!("HTTP/1.1 {status} Said\r\n{length}\r\n{rest}")).await;
                (head, Side::Connection(upstream))
            };
            let ((said, mut client), (head, mut upstream)) =
                tokio::join!(ask(address, is_http2, "goes-on.test:443", ""), serve);
            write!(seen, "{} host {:?}: {said}", head.first, head.get("host")).unwrap();
            if status == 407 {
                write!(seen, " {:?}", client.exactly(2).await).unwrap();
            } else {
                pass(&mut client, &mut upstream, &mut seen).await;
            }
            note(&format!("goes on to {status}"), seen);
        }
        for status in [200, 407] {
            let mut seen = String::new();
            let serve = async {
                let asked = Asked::accept(http2).await;
                let target =
                    format!("{} {} {:?}", asked.request.method(), asked.request.uri(), asked.protocol());
                let status = StatusCode::from_u16(status).unwrap();
                (target, asked.answer(Response::builder().status(status).body(()).unwrap()))
            };
            let ((said, mut client), (target, mut upstream)) =
                tokio::join!(ask(address, is_http2, "goes-on.test:443", "http2"), serve);
            write!(seen, "{target}: {said}").unwrap();
            if status == 407 {
                // Envoy gives such a stream up at once.
                upstream.try_send("no").await;
            } else {
                pass(&mut client, &mut upstream, &mut seen).await;
            }
            note(&format!("goes on over HTTP/2 to {status}"), seen);
        }
        for host in ["nobody.test:443", "forbidden.test:443", "other.test:443"] {
            note(host, ask(address, is_http2, host, "").await.0.to_string());
        }
        // A rule for CONNECT takes nothing else.
        let mut client = Wire::connect(address).await;
        client.send("GET / HTTP/1.1\r\nhost: nobody.test:443\r\n\r\n").await;
        note("get", client.response().await.status().to_string());
        client.send("GET / HTTP/1.1\r\nhost: ends.test:443\r\n\r\n").await;
        note("get beside it", client.response().await.status().to_string());
    }
    all
}

#[tokio::test]
async fn tunnels_end_or_go_on_where_a_file_says_so() {
    let (up, http2) = (WireListener::bind().await, WireListener::bind().await);
    let bootstrap = bootstrap(up.address, http2.address);
    let naru = Naru::start(&bootstrap);
    let by_naru = play(naru.address, &up, &http2).await;
    naru.settles().await;
    drop(naru);
    let envoy = Envoy::start(&bootstrap.admin().text()).await;
    let by_envoy = play(envoy.address, &up, &http2).await;
    for (naru, envoy) in by_naru.iter().zip(&by_envoy) {
        assert_eq!(naru, envoy, "naru: {by_naru:#?}\nEnvoy: {by_envoy:#?}");
    }
    assert_eq!(by_naru.len(), by_envoy.len());
}
