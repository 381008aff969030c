//! The PROXY protocol, in and out: who the client is when another proxy stands between.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use naru_base::Reason;
use naru_journey::proxied::{Ends, header, line};
use naru_tests::bootstrap::{TO_UP, downstream_tls, json_log, tcp_chain};
use naru_tests::files::{Directory, documents};
use naru_tests::up::free_address;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Authority, Bootstrap, Naru, Wire, until};

const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
const UPSTREAM: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";

/// Of a listener: connections begin with a header.
fn incoming(is_optional: bool) -> String {
    format!(
        "listener_filters:\n- name: proxy\n  typed_config: {{ \"@type\": {FILTER}, \
         allow_requests_without_proxy_protocol: {is_optional} }}\n"
    )
}

/// Of a cluster: so do connections to it.
fn outgoing(version: &str) -> String {
    let plain = "{ name: raw, typed_config: { \"@type\": type.googleapis.com/\
                 envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer } }";
    format!(
        "transport_socket:\n  name: proxy\n  typed_config:\n    \"@type\": {UPSTREAM}\n    \
         config: {{ version: {version} }}\n    transport_socket: {plain}\n"
    )
}

fn said() -> Option<Ends> {
    let (source, destination) = (([203, 0, 113, 7], 4_711).into(), ([198, 51, 100, 1], 443).into());
    Some(Ends { source, destination })
}

const FIELDS: &str = "client: \"%DOWNSTREAM_REMOTE_ADDRESS%\"\npeer: \"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%\"\n\
                      came_to: \"%DOWNSTREAM_LOCAL_ADDRESS%\"\nreason: \"%REASON%\"\n";

#[tokio::test]
async fn the_client_that_a_header_names_is_the_one_that_logs_and_upstreams_see() {
    let files = Directory::new();
    let log = files.path("log");
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::new(TO_UP)
        .listener(&incoming(false))
        .manager("use_remote_address: true")
        .json_log(&log, FIELDS)
        .cluster("up", up.address, "");
    let naru = Naru::start(&bootstrap);
    for said in [line(said()), header(said())] {
        let mut client = Wire::connect(naru.address).await;
        client.send([&said[..], b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"].concat()).await;
        let mut upstream = up.accept().await;
        let request = upstream.request().await;
        assert_eq!(request.head.get("x-forwarded-for"), Some("203.0.113.7"));
        upstream.send("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        assert_eq!(client.response().await.status(), 204);
        let peer = client.local().to_string();
        drop(client);
        let line = documents(&log, 1).await.remove(0);
        std::fs::write(&log, "").unwrap();
        assert_eq!(
            (line["client"].as_str(), line["peer"].as_str()),
            (Some("203.0.113.7:4711"), Some(&*peer))
        );
        assert_eq!(line["came_to"], "198.51.100.1:443");
        naru.settles().await;
    }
    // The other proxy asks for itself.
    let mut check = Wire::connect(naru.address).await;
    check.send([header(None), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()].concat()).await;
    let mut upstream = up.accept().await;
    assert_eq!(upstream.request().await.head.get("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn what_is_no_header_is_refused_where_one_is_needed() {
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::tcp("").listener(&incoming(false)).cluster("up", up.address, "");
    let naru = Naru::start(&bootstrap);
    let mut cases = vec![
        b"GET / HTTP/1.1\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n".to_vec(),
        b"PROXY UNKNOWN ".repeat(20),
        header(said())[..15].to_vec(),
    ];
    let mut wrong = header(said());
    wrong[12] = 0x31;
    cases.push(wrong);
    let count = cases.len() as u64;
    for case in cases {
        let mut client = Wire::connect(naru.address).await;
        client.try_send(&case).await;
        client.finish().await;
        let (said, _) = client.end().await;
        assert_eq!(said, b"");
    }
    assert!(!up.has_more().await);
    assert_eq!(naru.report().await.downstream.protocol_errors, count);
    // In pieces, it is one all the same.
    let mut client = Wire::connect(naru.address).await;
    for byte in line(said()).chunks(1) {
        client.send(byte).await;
        tokio::task::yield_now().await;
    }
    client.send("inside").await;
    up.accept().await.expect(b"inside").await;
}

#[tokio::test]
async fn where_it_need_not_be_there_others_are_served_as_who_they_are() {
    let files = Directory::new();
    let log = files.path("log");
    let authority = Authority::new();
    let up = WireListener::bind().await;
    let chain = tcp_chain(&downstream_tls(&authority, &[]), &json_log(&log, FIELDS));
    let bootstrap = Bootstrap::of_chains(&chain).listener(&incoming(true)).cluster("up", up.address, "");
    let naru = Naru::start(&bootstrap);
    for said in [header(said()), Vec::new()] {
        let mut stream = tokio::net::TcpStream::connect(naru.address).await.unwrap();
        let own = stream.local_addr().unwrap().to_string();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &said).await.unwrap();
        let (mut stream, _) = authority.connector(&[]).connect(stream).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"inside").await.unwrap();
        up.accept().await.expect(b"inside").await;
        drop(stream);
        let line = documents(&log, 1).await.remove(0);
        std::fs::write(&log, "").unwrap();
        let expected = if said.is_empty() { own } else { "203.0.113.7:4711".to_owned() };
        assert_eq!(line["client"].as_str(), Some(&*expected));
    }
    naru.settles().await;
}

#[tokio::test]
async fn a_server_name_is_read_behind_the_header_and_passed_on_without_it() {
    let up = WireListener::bind().await;
    let chain = tcp_chain("filter_chain_match: { transport_protocol: tls }\n", "");
    let bootstrap = Bootstrap::of_chains(&chain).listener(&incoming(false)).cluster("up", up.address, "");
    let naru = Naru::start(&bootstrap);
    let hello = include_bytes!("../../../fuzz/corpus/hello/alpn-unknown");
    let mut client = Wire::connect(naru.address).await;
    client.send([&line(said())[..], hello, b"behind"].concat()).await;
    let mut upstream = up.accept().await;
    upstream.expect(hello).await;
    upstream.expect(b"behind").await;
}

#[tokio::test]
async fn upstreams_are_told_for_whom_a_connection_is_made() {
    let up = WireListener::bind().await;
    for (version, write) in [("V1", line as fn(Option<Ends>) -> Vec<u8>), ("V2", header)] {
        // Bytes that are passed through.
        let naru = Naru::start(&Bootstrap::tcp("").cluster("up", up.address, &outgoing(version)));
        let mut client = Wire::connect(naru.address).await;
        client.send("inside").await;
        let ends = Some(Ends { source: client.local(), destination: naru.address });
        let mut upstream = up.accept().await;
        upstream.expect(&write(ends)).await;
        upstream.expect(b"inside").await;
        drop((client, upstream));
        naru.settles().await;
        // Requests: each has its own connection, as it has its own client.
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &outgoing(version)));
        let mut client = Wire::connect(naru.address).await;
        let ends = Some(Ends { source: client.local(), destination: naru.address });
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let mut upstream = up.accept().await;
            upstream.expect(&write(ends)).await;
            upstream.request().await;
            upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            assert_eq!(client.response().await.body, b"ok");
            assert_eq!(upstream.ends().await, End::Closed);
        }
        drop(client);
        naru.settles().await;
        assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded); 2]);
    }
}

#[tokio::test]
async fn a_probe_says_that_it_is_made_for_nobody() {
    let up = WireListener::bind().await;
    let check = "health_checks:\n- { timeout: 5s, interval: 300s, unhealthy_threshold: 1, healthy_threshold: 1, \
                 tcp_health_check: { send: { text: \"61\" }, receive: [{ text: \"62\" }] } }\n";
    let naru =
        Naru::start(&Bootstrap::tcp("").cluster("up", up.address, &format!("{}{check}", outgoing("V2"))));
    let mut probe = up.accept().await;
    probe.expect(&header(None)).await;
    probe.expect(b"a").await;
    probe.send("b").await;
    until("the probe to be heard", async || naru.is_ready().then_some(())).await;
}

/// HAProxy itself, with these lines.
struct Haproxy(Child, #[expect(dead_code, reason = "it has the file")] Directory);

impl Haproxy {
    async fn start(lines: &str, address: SocketAddr) -> Haproxy {
        let files = Directory::new();
        let text =
            format!("defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n{lines}");
        let file = files.write("haproxy.cfg", &text);
        let mut command = Command::new("haproxy");
        command.args(["-db", "-q", "-f"]).arg(file).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("haproxy is installed: cargo xtask setup");
        let haproxy = Haproxy(child, files);
        until("HAProxy to listen", async || tokio::net::TcpStream::connect(address).await.ok()).await;
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn haproxy_is_understood_and_understands() {
    let up = WireListener::bind().await;
    for version in ["send-proxy", "send-proxy-v2"] {
        let bootstrap =
            Bootstrap::tcp("").listener(&incoming(false)).cluster("up", up.address, &outgoing("V1"));
        let naru = Naru::start(&bootstrap);
        let front = free_address();
        let lines =
            format!("listen front\n mode tcp\n bind {front}\n server naru {} {version}\n", naru.address);
        let _haproxy = Haproxy::start(&lines, front).await;
        // That it listens was found out by a connection, which is passed on as well.
        drop(up.accept().await);
        let mut client = Wire::connect(front).await;
        client.send("inside").await;
        let mut upstream = up.accept().await;
        upstream.expect(&line(Some(Ends { source: client.local(), destination: front }))).await;
        upstream.expect(b"inside").await;
    }
    for version in ["V1", "V2"] {
        let back = free_address();
        let lines = format!(
            "frontend back\n mode http\n bind {back} accept-proxy\n http-request return status 200 hdr x-src %[src]:%[src_port]\n"
        );
        let _haproxy = Haproxy::start(&lines, back).await;
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", back, &outgoing(version)));
        let mut client = Wire::connect(naru.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = client.response().await;
        assert_eq!(answer.head.get("x-src"), Some(&*client.local().to_string()));
    }
}
