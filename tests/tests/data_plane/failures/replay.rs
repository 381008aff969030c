//! A connection that closes while it waits for a request, or on one.

use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::client;
use naru_tests::http2::{self, H2Server};
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Wire};
use std::time::Duration;

use super::{GET, OK, RESET, with_timeout};

/// Sends one request through, so that its connection waits for the next one.
async fn warm(client: &mut Wire, up: &WireListener) -> Wire {
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    upstream
}

const POST: &str = "POST / HTTP/1.1\r\nhost: naru.test\r\ncontent-length: 5\r\n\r\nfive!";
const PUT: &str = "PUT / HTTP/1.1\r\nhost: naru.test\r\ncontent-length: 5\r\n\r\nfive!";

#[tokio::test]
async fn a_request_that_finds_its_connection_closed_takes_another() {
    for (text, body) in [(GET, ""), (POST, "five!"), (PUT, "five!")] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::to(up.address));
        let mut client = Wire::connect(naru.address).await;
        drop(warm(&mut client, &up).await);
        client.send(text).await;
        let mut upstream = up.accept().await;
        assert_eq!(upstream.request().await.text(), body);
        upstream.send(OK).await;
        assert_eq!(client.response().await.status(), 200, "{text}");
        assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded); 2]);
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_safe_request_whose_used_connection_closes_on_it_is_sent_once_more() {
    for text in [GET, PUT] {
        for resets in [false, true] {
            let up = WireListener::bind().await;
            let naru = Naru::start(&Bootstrap::to(up.address));
            let mut client = Wire::connect(naru.address).await;
            let mut first = warm(&mut client, &up).await;
            client.send(text).await;
            let sent = first.request().await;
            if resets {
                first.reset();
            } else {
                drop(first);
            }
            let mut second = up.accept().await;
            assert_eq!(second.request().await, sent, "the same request again");
            second.send(OK).await;
            assert_eq!(client.response().await.status(), 200);
            assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded); 2]);
            assert_eq!(naru.report().await.clusters[0].replays, 1);
            drop(client);
            naru.settles().await;
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_once_more_and_not_twice_more() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let mut first = warm(&mut client, &up).await;
    client.send(GET).await;
    first.request().await;
    drop(first);
    let mut second = up.accept().await;
    second.request().await;
    drop(second);
    assert_eq!(client.response().await.status(), 503);
    assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded), (503, Reason::UpstreamClosed)]);
    assert!(!up.has_more().await);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_request_that_may_have_acted_is_never_sent_twice() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let mut first = warm(&mut client, &up).await;
    client.send(POST).await;
    assert_eq!(first.request().await.text(), "five!");
    drop(first);
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text()), (503, format!("{RESET}connection termination")));
    assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded), (503, Reason::UpstreamClosed)]);
    assert!(!up.has_more().await);
    assert_eq!(naru.report().await.clusters[0].replays, 0);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_request_whose_body_is_too_large_to_keep_is_not_sent_twice() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let mut first = warm(&mut client, &up).await;
    let size = naru_spec::defaults::REPLAY_BYTES_MAX + 1;
    client.send(format!("PUT / HTTP/1.1\r\nhost: naru.test\r\ncontent-length: {size}\r\n\r\n")).await;
    client.send(vec![b'x'; size]).await;
    assert_eq!(first.request().await.body.len(), size);
    drop(first);
    assert_eq!(client.response().await.status(), 503);
    assert!(!up.has_more().await);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_fresh_connection_that_closes_on_a_request_is_the_upstreams_failure() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut first = up.accept().await;
    first.request().await;
    drop(first);
    assert_eq!(client.response().await.status(), 503);
    assert!(!up.has_more().await);
    assert_eq!(naru.report().await.clusters[0].replays, 0);
}

/// Sends one request through over HTTP/2.
async fn warm_http2(client: &mut Wire, up: &WireListener) -> H2Server {
    client.send(GET).await;
    let mut upstream = H2Server::accept(up.accept_stream().await).await;
    answer_http2(&mut upstream).await;
    assert_eq!(client.response().await.text(), "ok");
    upstream
}

async fn answer_http2(upstream: &mut H2Server) {
    let (request, mut respond) = upstream.request().await.unwrap();
    let mut request = request.into_body();
    http2::read(&mut request).await.unwrap();
    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
    body.send_data("ok".into(), true).unwrap();
}

#[tokio::test]
async fn a_request_that_finds_its_http2_connection_closed_takes_another() {
    for text in [GET, POST] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
        let mut client = Wire::connect(naru.address).await;
        warm_http2(&mut client, &up).await.close().await;
        client.send(text).await;
        let mut upstream = H2Server::accept(up.accept_stream().await).await;
        answer_http2(&mut upstream).await;
        assert_eq!(client.response().await.text(), "ok");
        assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded); 2]);
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_safe_request_whose_used_http2_connection_closes_on_it_is_sent_once_more() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
    let mut client = Wire::connect(naru.address).await;
    let mut first = warm_http2(&mut client, &up).await;
    client.send(GET).await;
    drop(first.request().await.unwrap());
    first.close().await;
    let mut second = H2Server::accept(up.accept_stream().await).await;
    answer_http2(&mut second).await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded); 2]);
    // An unsafe one is not.
    client.send(POST).await;
    drop(second.request().await.unwrap());
    second.close().await;
    assert_eq!(client.response().await.status(), 503);
    assert!(!up.has_more().await);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn an_http2_upstream_that_always_closes_at_once_is_not_called_again_and_again() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
    let address = naru.address;
    let requests = tokio::spawn(async move {
        for _ in 0..20 {
            let answer = client::get(address, "/").await;
            assert!(matches!(answer.status.as_u16(), 502 | 503), "{answer:?}");
        }
    });
    let mut connections = 0;
    while !requests.is_finished() {
        if let Ok(stream) = tokio::time::timeout(Duration::from_millis(20), up.accept_stream()).await {
            Wire::new(stream).reset();
            connections += 1;
        }
    }
    requests.await.unwrap();
    assert!(connections <= 40, "20 requests made {connections} connections");
    naru.settles().await;
}

#[tokio::test]
async fn an_http2_upstream_that_allows_no_streams_is_waited_for_and_not_called_again() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(&with_timeout("0.3")).cluster("up", up.address, HTTP2));
    let address = naru.address;
    let requests = tokio::spawn(async move {
        let all: Vec<_> = (0..4).map(|_| tokio::spawn(client::get(address, "/"))).collect();
        for one in all {
            assert_eq!(one.await.unwrap().status, 504);
        }
    });
    let mut connections = Vec::new();
    while !requests.is_finished() {
        if let Ok(mut wire) = tokio::time::timeout(Duration::from_millis(20), up.accept()).await {
            // SETTINGS: MAX_CONCURRENT_STREAMS = 0
            wire.send(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0").await;
            connections.push(wire);
        }
    }
    requests.await.unwrap();
    assert!(connections.len() <= 8, "4 requests made {} connections", connections.len());
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_that_answers_to_nothing_is_not_believed() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let mut upstream = warm(&mut client, &up).await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
    client.send(GET).await;
    let mut second = up.accept().await;
    second.request().await;
    second.send(OK).await;
    let body = client.response().await.body;
    assert_eq!(body, b"ok");
}
