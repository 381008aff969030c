//! A reader that stops makes the writer stop; when it goes on, everything arrives.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use naru_tests::bootstrap::TO_UP;
use naru_tests::http2::{self, H2Client, H2Server};
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Wire, within};

/// Windows that are small beside what is sent.
const NARROW: &str = "http2_protocol_options: { initial_stream_window_size: 65536 }";
const HTTP2_NARROW: &str = r#"
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: { http2_protocol_options: { initial_stream_window_size: 65536 } }
"#;
/// More than all that stands between a writer and a reader can hold.
const LARGE: usize = 64 * 1024 * 1024;
/// What may be on the way: what the kernel's buffers take, and the windows of two connections.
const HELD_MAX: usize = LARGE / 5;
/// A writer that could go on does so in this time.
const PAUSE: Duration = Duration::from_millis(300);

/// Sends until there has been no room for a while, and says how much was sent.
async fn flood(stream: &mut SendStream<Bytes>) -> usize {
    let mut sent = 0;
    while sent < LARGE {
        let Ok(room) = tokio::time::timeout(PAUSE, room(stream)).await else { break };
        let data = vec![b'x'; room.min(LARGE - sent)];
        sent += data.len();
        stream.send_data(data.into(), false).unwrap();
    }
    sent
}

async fn room(stream: &mut SendStream<Bytes>) -> usize {
    stream.reserve_capacity(16 * 1024);
    std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap()
}

/// What was left by [`flood`].
async fn send_rest(mut stream: SendStream<Bytes>, mut left: usize) {
    while left > 0 {
        let data = vec![b'x'; within("room", room(&mut stream)).await.min(left)];
        left -= data.len();
        stream.send_data(data.into(), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
}

fn assert_held(sent: usize) {
    assert!(sent < HELD_MAX, "{sent} bytes went to a reader that does not read");
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn narrow(up: SocketAddr) -> Bootstrap {
    Bootstrap::new(TO_UP).manager(NARROW).cluster("up", up, HTTP2_NARROW)
}

fn head(first: &str) -> String {
    format!("{first}\r\nhost: naru.test\r\ncontent-length: {LARGE_HTTP1}\r\n\r\n")
}

/// With small buffers, the kernel hands bytes over slowly: no more of them than it takes.
const LARGE_HTTP1: usize = LARGE / 4;

#[tokio::test]
async fn an_http1_upstream_that_does_not_read_stops_its_client() {
    let up = WireListener::bind_narrow();
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect_narrow(naru.address).await;
    client.send(head("POST / HTTP/1.1")).await;
    let mut upstream = up.accept().await;
    upstream.head().await;
    let sent = client.flood(LARGE_HTTP1, PAUSE).await.unwrap();
    assert_held(sent);
    let rest = vec![b'x'; LARGE_HTTP1 - sent];
    let (body, ()) = tokio::join!(upstream.exactly(LARGE_HTTP1), client.send(rest));
    assert!(body.unwrap().iter().all(|byte| *byte == b'x'));
    upstream.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn an_http1_client_that_does_not_read_stops_its_upstream() {
    let up = WireListener::bind_narrow();
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect_narrow(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send(head("HTTP/1.1 200 OK")).await;
    let sent = upstream.flood(LARGE_HTTP1, PAUSE).await.unwrap();
    assert_held(sent);
    let rest = vec![b'x'; LARGE_HTTP1 - sent];
    let (answer, ()) = tokio::join!(client.response(), upstream.send(rest));
    assert_eq!(answer.body.len(), LARGE_HTTP1);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn an_http2_upstream_that_does_not_read_stops_its_client() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&narrow(up.address));
    let mut client = H2Client::connect(naru.address).await;
    let (response, mut stream) = client.request(http2::post(naru.address, "/"), false).await;
    let mut upstream = H2Server::accept(up.accept_stream().await).await;
    let (request, mut respond) = upstream.request().await.unwrap();
    let sent = flood(&mut stream).await;
    assert_held(sent);
    let mut body = request.into_body();
    let (read, ()) = tokio::join!(http2::read(&mut body), send_rest(stream, LARGE - sent));
    assert_eq!(read.unwrap().0.len(), LARGE);
    respond.send_response(http::Response::new(()), true).unwrap();
    assert_eq!(http2::response(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_http2_client_that_does_not_read_stops_its_upstream_and_no_other_stream() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&narrow(up.address));
    let mut client = H2Client::connect(naru.address).await;
    let (response, _) = client.request(http2::get(naru.address, "/"), true).await;
    let mut upstream = H2Server::accept(up.accept_stream().await).await;
    let (_, mut respond) = upstream.request().await.unwrap();
    let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
    let sent = flood(&mut stream).await;
    assert_held(sent);
    // An answer without a body needs no window: it passes the one that is held.
    let (other, _) = client.request(http2::get(naru.address, "/other"), true).await;
    let (_, mut respond) = upstream.request().await.unwrap();
    respond.send_response(http::Response::new(()), true).unwrap();
    assert_eq!(http2::response(other).await.unwrap().status(), 200);
    let mut body = http2::response(response).await.unwrap().into_body();
    let (read, ()) = tokio::join!(http2::read(&mut body), send_rest(stream, LARGE - sent));
    assert_eq!(read.unwrap().0.len(), LARGE);
}
