//! What comes in to a workload whose own proxy is a naru, or an Envoy: the ports that its Sidecar names.

use std::net::SocketAddr;

use naru_tests::control::{bootstrap, is_current};
use naru_tests::files::Directory;
use naru_tests::wait::within;
use naru_tests::{Authority, Client, Control, Envoy, Speaks, Upstream, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};

use super::free_port;
use super::ours::Proxy;

struct Ports {
    plain: u16,
    secured: u16,
    stream: u16,
}

/// A workload that is behind three ports: HTTP, HTTP in TLS, and bytes for a Unix socket.
fn documents(ports: &Ports, upstream: SocketAddr, socket: &str, authority: &Authority) -> String {
    let shown = authority.issue();
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{ name: own }}
stringData:
  tls.crt: |
{chain}  tls.key: |
{key}---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{ name: shop }}
spec:
  workloadSelector: {{ labels: {{ app: shop }} }}
  ingress:
  - port: {{ number: {plain}, name: http, protocol: HTTP }}
    defaultEndpoint: {upstream}
  - port: {{ number: {secured}, name: https, protocol: HTTPS }}
    defaultEndpoint: {upstream}
    tls: {{ mode: SIMPLE, credentialName: own }}
  - port: {{ number: {stream}, name: tcp, protocol: TCP }}
    defaultEndpoint: unix://{socket}
",
        chain = indented(&shown.chain),
        key = indented(&shown.key),
        plain = ports.plain,
        secured = ports.secured,
        stream = ports.stream,
    )
}

#[tokio::test]
async fn the_proxy_of_a_workload_takes_what_comes_in_at_the_ports_of_its_sidecar() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let authority = Authority::new();
    let files = Directory::new();
    let socket = files.path("shop.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut from, mut to) = stream.split();
            // Whoever leaves early is a failure of the test that asks.
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    let ports = Ports { plain: free_port(), secured: free_port(), stream: free_port() };
    let text = documents(&ports, upstream.address, &socket.display().to_string(), &authority);
    let control = Control::start(&[("all.yaml", text)]).await;
    // One document, two proxies, each at an address of its own.
    let own = |id: &'static str, address: &'static str| {
        ["--id", id, "--role", "sidecar", "--label", "app=shop", "--inbound-address", address]
    };
    let outbound = free_port();
    let there = ["127.0.0.2", "127.0.0.3"].map(|ip| format!("{ip}:{outbound}"));
    let naru = [&own("naru", "127.0.0.2")[..], &["--outbound-address", &there[0]]].concat();
    let _naru = Proxy::start(control.xds, &naru);
    let envoy = [&own("envoy", "127.0.0.3")[..], &["--outbound-address", &there[1]]].concat();
    let envoy = [&["--envoy", "--admin", "127.0.0.1:0"], &envoy[..]].concat();
    let _envoy = Envoy::start(&bootstrap(control.xds, &envoy)).await;
    for (id, ip) in [("naru", [127, 0, 0, 2]), ("envoy", [127, 0, 0, 3])] {
        let told = is_current(control.admin, id).await;
        for kind in told["resources"].as_array().unwrap() {
            assert!(kind["refused"].is_null(), "{told}");
        }
        let at = |port: u16| SocketAddr::from((ip, port));
        for port in [ports.plain, ports.secured, ports.stream] {
            until("the workload's own proxy to listen", async || TcpStream::connect(at(port)).await.ok())
                .await;
        }
        let answer = Client::plain(at(ports.plain), Speaks::Http1).await.get("/describe").await;
        assert_eq!(answer.status, 200, "{id}: {answer:?}");
        for speaks in [Speaks::Http1Tls, Speaks::Http2Tls] {
            let mut client = Client::connect(at(ports.secured), speaks, &authority).await;
            assert_eq!(client.get("/describe").await.status, 200, "{id}");
        }
        let mut stream = TcpStream::connect(at(ports.stream)).await.unwrap();
        stream.write_all(b"anything").await.unwrap();
        let mut back = [0; 8];
        within("its bytes", stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"anything", "{id}");
    }
    assert_eq!(upstream.requests(), 6);
}
