//! CONNECT where a file says what becomes of it. What Envoy does as well is in `beside_envoy/connects.rs`.

use http::{Method, Request};
use naru_base::Reason;
use naru_tests::http2::H2Client;
use naru_tests::side::Side;
use naru_tests::wire::{End, WireListener, refusing_address};
use naru_tests::{Bootstrap, Naru, Wire, within};

const ENDS: &str = r#"
- match: { connect_matcher: {} }
  route: { cluster: up, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
"#;
const ASK: &str = "CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n";

async fn ask(naru: &Naru, is_http2: bool) -> (u16, Side) {
    if is_http2 {
        let client = H2Client::connect(naru.address).await;
        let request = Request::builder().method(Method::CONNECT).uri("a.test:443").body(()).unwrap();
        let (answer, side) = Side::request(client, request).await.unwrap();
        return (answer.status().as_u16(), side);
    }
    let mut wire = Wire::connect_narrow(naru.address).await;
    wire.send(ASK).await;
    let head = wire.head().await;
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
    (head.status(), Side::Connection(wire))
}

#[tokio::test]
async fn a_tunnel_that_breaks_is_no_end_in_good_order() {
    for is_http2 in [false, true] {
        for client_breaks in [true, false] {
            let up = WireListener::bind().await;
            let naru = Naru::start(&Bootstrap::new(ENDS).cluster("up", up.address, ""));
            let ((status, client), upstream) = tokio::join!(ask(&naru, is_http2), up.accept());
            assert_eq!(status, 200);
            let upstream = Side::Connection(upstream);
            let (mut gone, mut left) = if client_breaks { (client, upstream) } else { (upstream, client) };
            gone.send("x").await;
            left.expect("x").await;
            gone.reset();
            let (_, end) = within("the other end to go as well", left.end()).await;
            // A stream whose client resets it is dropped at once: its endpoint sees an end.
            assert!(end == End::Reset || client_breaks && is_http2, "{is_http2} {client_breaks}");
            drop(left);
            let (status, reason) = naru.ended(1).await[0];
            assert_eq!((status, reason == Reason::ClientGone), (200, client_breaks), "{reason:?}");
            naru.settles().await;
        }
    }
}

#[tokio::test]
async fn what_was_said_before_a_tunnel_broke_is_delivered_to_who_takes_it_slowly() {
    for is_http2 in [false, true] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::new(ENDS).cluster("up", up.address, ""));
        let ((status, mut client), mut upstream) = tokio::join!(ask(&naru, is_http2), up.accept());
        assert_eq!(status, 200);
        client.send("x").await;
        upstream.expect(b"x").await;
        // More than the client has room for, and no more than there is room for on the way.
        let said: Vec<u8> = (0..96 * 1024).map(|at| (at % 251) as u8).collect();
        upstream.send(&said).await;
        upstream.delivered().await;
        upstream.reset();
        let (heard, end) = client.end().await;
        assert!(heard == said, "{is_http2}: {} bytes of {}", heard.len(), said.len());
        assert_eq!(end, End::Reset, "{is_http2}");
        assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)]);
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn another_endpoint_is_tried_where_no_connection_can_be_made() {
    let up = WireListener::bind().await;
    let routes = ENDS.replace("cluster: up,", "cluster: up, retry_policy: { retry_on: connect-failure },");
    let endpoints = [refusing_address(), up.address];
    for is_http2 in [false, true] {
        let naru = Naru::start(&Bootstrap::new(&routes).cluster_of("up", &endpoints, ""));
        for _ in 0..4 {
            let ((status, mut client), upstream) = tokio::join!(ask(&naru, is_http2), up.accept());
            assert_eq!(status, 200);
            let mut upstream = Side::Connection(upstream);
            client.send("x").await;
            upstream.expect("x").await;
            client.finish().await;
            upstream.finish().await;
            assert_eq!(client.end().await, (Vec::new(), End::Closed));
        }
        naru.settles().await;
    }
}

#[tokio::test]
async fn whoever_is_refused_goes_on_with_http() {
    let up = WireListener::bind().await;
    let routes = format!("{ENDS}- match: {{ prefix: / }}\n  direct_response: {{ status: 204 }}\n");
    let naru = Naru::start(&Bootstrap::new(&routes).cluster("up", refusing_address(), ""));
    let mut client = Wire::connect(naru.address).await;
    for (ask, status) in [
        (ASK, 503),
        // A port is what a tunnel leads to (RFC 9110, section 9.3.6).
        ("CONNECT a.test HTTP/1.1\r\nhost: a.test\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nhost: a.test:443\r\n\r\n", 204),
    ] {
        client.send(ask).await;
        let answer = client.response().await;
        assert_eq!(answer.status(), status, "{ask}");
    }
    drop(client);
    // Nobody has allowed it.
    let naru = Naru::start(&Bootstrap::to(up.address));
    for is_http2 in [false, true] {
        assert_eq!(ask_and_be_refused(&naru, is_http2).await, 403);
    }
    naru.settles().await;
}

async fn ask_and_be_refused(naru: &Naru, is_http2: bool) -> u16 {
    if is_http2 {
        return ask(naru, true).await.0;
    }
    let mut wire = Wire::connect(naru.address).await;
    wire.send(ASK).await;
    wire.response().await.status()
}
