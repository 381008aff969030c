//! What calls of gRPC-Web become, and what their answers are.

use std::net::SocketAddr;

use naru_tests::wire::{WireListener, refusing_address};
use naru_tests::{Bootstrap, Envoy, Naru, Wire};

const ROUTES: &str = r#"
- match: { prefix: "/nobody" }
  route: { cluster: nobody }
- match: { prefix: "/direct" }
  direct_response: { status: 403, body: { inline_string: "not you: 100%" } }
- match: { prefix: "/web", headers: [{ name: content-type, string_match: { prefix: application/grpc-web } }] }
  route: { cluster: up }
- match: { prefix: "/", grpc: {} }
  direct_response: { status: 500 }
- match: { prefix: "/" }
  route: { cluster: up }
"#;
const FILTER: &str = "- name: envoy.filters.http.grpc_web\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb }";

const OF_GRPC: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc+proto\r\ntransfer-encoding: chunked\r\n\r\n\
                       a\r\n\0\0\0\0\x05hello\r\n2\r\n\0\0\r\n5\r\n\0\0\x02ok\r\n0\r\nGrpc-Status: 0\r\nx-a: b c\r\n\r\n";
const ONLY_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 5\r\ngrpc-message: no\r\ncontent-length: 0\r\n\r\n";
const NO_GRPC: &str =
    "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\n<b>no</b>";

const FRAME: &str = "\0\0\0\0\x02hi";
const TEXT: &str = "AAAAAAJoaQ==";

async fn play(address: SocketAddr, up: &WireListener) -> Vec<String> {
    let mut all = Vec::new();
    let kinds = [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc-web-text+proto",
        "application/grpc-web; a=b",
        "application/json",
    ];
    for kind in kinds {
        for accept in ["*/*", "application/grpc-web-text", "application/grpc-web-text+proto"] {
            for (path, answer) in [
                ("/web", OF_GRPC),
                ("/any", ONLY_HEAD),
                ("/other", NO_GRPC),
                ("/nobody", ""),
                ("/direct", ""),
            ] {
                let body = if kind.contains("text") { TEXT } else { FRAME };
                let mut client = Wire::connect(address).await;
                client
                    .send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\naccept: {accept}\r\nte: trailers\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
                    .await;
                let mut seen = String::new();
                if !answer.is_empty() {
                    let mut upstream = up.accept().await;
                    let asked = upstream.request().await;
                    let names = ["content-type", "te", "grpc-accept-encoding", "accept"];
                    let said: Vec<_> = names.iter().map(|name| asked.head.get(name)).collect();
                    seen = format!("{said:?} {:?} ", asked.body);
                    upstream.send(answer).await;
                    // Each has a connection of its own.
                    upstream.finish().await;
                }
                let got = client.response().await;
                let names = ["content-type", "grpc-status", "grpc-message"];
                let said: Vec<_> = names.iter().map(|name| got.head.get(name)).collect();
                let is_own = path == "/nobody" && said[1].is_some();
                // What is said of an error is each one's own.
                let said = if is_own { format!("{:?}", &said[..2]) } else { format!("{said:?}") };
                let body = if path == "/nobody" {
                    String::new()
                } else {
                    String::from_utf8_lossy(&got.body).into_owned()
                };
                all.push(format!("{kind} {accept} {path}: {seen}{} {said} {body:?}", got.status()));
            }
        }
    }
    // What is no base64 is told with the status of it.
    let mut client = Wire::connect(address).await;
    client
        .send("POST /web HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\ncontent-length: 5\r\n\r\na!bcd")
        .await;
    let got = client.response().await;
    all.push(format!(
        "{} {:?} {:?}",
        got.status(),
        got.head.get("content-type"),
        got.head.get("grpc-status")
    ));
    // Its upstream may have been connected to before that was known.
    while up.has_more().await {}
    all
}

#[tokio::test]
async fn calls_of_the_web_become_the_same() {
    let up = WireListener::bind().await;
    let trailers = r#"
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http_protocol_options: { enable_trailers: true } }
"#;
    let of = |lines: &str| {
        Bootstrap::new(ROUTES).filter(FILTER).cluster("up", up.address, lines).cluster(
            "nobody",
            refusing_address(),
            "",
        )
    };
    let naru = Naru::start(&of(""));
    let by_naru = play(naru.address, &up).await;
    naru.settles().await;
    let envoy = Envoy::start(
        &of(trailers).manager("http_protocol_options: { enable_trailers: true }").admin().text(),
    )
    .await;
    let by_envoy = play(envoy.address, &up).await;
    for (naru, envoy) in by_naru.iter().zip(&by_envoy) {
        assert_eq!(naru, envoy);
    }
    assert_eq!(by_naru.len(), by_envoy.len());
}
