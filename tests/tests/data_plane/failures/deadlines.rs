//! Time that runs out: of a request, a response, a stream.

use naru_base::Reason;
use naru_tests::bootstrap::HTTP2;
use naru_tests::client;
use naru_tests::http2::{self, H2Client, H2Server};
use naru_tests::wire::{BlackHole, End, Transfer, WireListener};
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, within};
use std::time::Duration;

use super::{GET, OK, with_timeout};

#[tokio::test]
async fn a_response_that_takes_too_long_is_answered_504() {
    for speaks in ["", HTTP2] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::new(&with_timeout("0.1")).cluster("up", up.address, speaks));
        let mut client = Wire::connect(naru.address).await;
        client.send(GET).await;
        let mut upstream = up.accept().await;
        if speaks.is_empty() {
            upstream.request().await;
        }
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text().as_str()), (504, "upstream request timeout"));
        assert_eq!(naru.ended(1).await, [(504, Reason::RouteTimeout)]);
        if speaks.is_empty() {
            assert_eq!(upstream.ends().await, End::Closed);
        }
        // The client's connection goes on.
        client.send(GET).await;
        assert_eq!(client.response().await.status(), 504);
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn an_http2_upstream_is_told_that_a_request_took_too_long() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(&with_timeout("0.1")).cluster("up", up.address, HTTP2));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = H2Server::accept(up.accept_stream().await).await;
    let (_, mut respond) = upstream.request().await.unwrap();
    assert_eq!(client.response().await.status(), 504);
    let reset = within("the reset", std::future::poll_fn(|cx| respond.poll_reset(cx))).await;
    assert_eq!(reset.unwrap(), h2::Reason::CANCEL);
    // One stream was given up, not the connection.
    client.send(GET).await;
    assert!(upstream.request().await.is_some());
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_timeout_while_connecting_is_answered_504() {
    let hole = BlackHole::new();
    let naru = Naru::start(&Bootstrap::new(&with_timeout("0.05")).cluster("up", hole.address, ""));
    let answer = client::get(naru.address, "/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(naru.ended(1).await, [(504, Reason::RouteTimeout)]);
    naru.settles().await;
}

#[tokio::test]
async fn a_timeout_after_the_head_breaks_the_response_off() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(&with_timeout("0.2")).cluster("up", up.address, ""));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!").await;
    assert_eq!(client.transfer().await, Transfer::Broken(5));
    assert_eq!(naru.ended(1).await, [(200, Reason::RouteTimeout)]);
    assert_eq!(upstream.ends().await, End::Closed);
    naru.settles().await;
}

#[tokio::test]
async fn a_timeout_after_the_head_holds_although_bytes_keep_coming() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(&with_timeout("0.2")).cluster("up", up.address, ""));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let drip = async {
        while upstream.try_send("1\r\nx\r\n").await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (transfer, ()) = tokio::join!(client.transfer(), within("the upstream to be left", drip));
    assert!(matches!(transfer, Transfer::Broken(1..)), "{transfer:?}");
    assert_eq!(naru.ended(1).await, [(200, Reason::RouteTimeout)]);
}

#[tokio::test]
async fn a_timeout_holds_for_a_client_that_does_not_read() {
    for speaks in ["", HTTP2] {
        let up = Upstream::plain(if speaks.is_empty() { Speaks::Http1 } else { Speaks::Http2 }).await;
        let naru = Naru::start(&Bootstrap::new(&with_timeout("0.3")).cluster("up", up.address, speaks));
        let mut client = Wire::connect_narrow(naru.address).await;
        client.send("GET /bytes/100000000 HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
        assert_eq!(naru.ended(1).await, [(200, Reason::RouteTimeout)]);
        assert!(matches!(client.transfer().await, Transfer::Broken(_)));
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_timeout_holds_for_an_http2_client_that_does_not_read() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::new(&with_timeout("0.3")).cluster("up", up.address, ""));
    let mut client = H2Client::connect(naru.address).await;
    let (response, _) = client.request(http2::get(naru.address, "/bytes/100000000"), true).await;
    let mut body = http2::response(response).await.unwrap().into_body();
    assert_eq!(naru.ended(1).await, [(200, Reason::RouteTimeout)]);
    assert!(http2::read(&mut body).await.is_err());
    client.close().await;
    naru.settles().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_too_long_is_left() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager("stream_idle_timeout: 0.3s"));
    let mut client = Wire::connect_narrow(naru.address).await;
    client.send("GET /bytes/100000000 HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    assert_eq!(naru.ended(1).await, [(200, Reason::StreamIdle)]);
    assert!(matches!(client.transfer().await, Transfer::Broken(_)));
    naru.settles().await;
}

#[tokio::test]
async fn a_stream_on_which_nothing_moves_is_ended() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager("stream_idle_timeout: 0.1s"));
    // Before the head.
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (504, "stream timeout"));
    assert_eq!(upstream.ends().await, End::Closed);
    // After it.
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!").await;
    assert_eq!(client.transfer().await, Transfer::Broken(5));
    assert_eq!(naru.ended(2).await, [(200, Reason::StreamIdle), (504, Reason::StreamIdle)]);
    // While the client owes the rest of its request.
    let mut client = Wire::connect(naru.address).await;
    client.send("POST / HTTP/1.1\r\nhost: naru.test\r\ncontent-length: 10\r\n\r\nfive!").await;
    assert_eq!(client.response().await.status(), 408);
    assert_eq!(naru.ended(3).await[1], (408, Reason::StreamIdle));
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn the_idle_timeout_of_a_route_goes_before_that_of_its_listener() {
    let up = WireListener::bind().await;
    let routes = "
- match: { prefix: /slow }
  route: { cluster: up, timeout: 0.4s, idle_timeout: 0s }
- match: { prefix: / }
  route: { cluster: up, timeout: 0s, idle_timeout: 0.1s }
";
    let bootstrap =
        Bootstrap::new(routes).cluster("up", up.address, "").manager("stream_idle_timeout: 0.05s");
    let naru = Naru::start(&bootstrap);
    assert_eq!(client::get(naru.address, "/slow").await.text(), "upstream request timeout");
    assert_eq!(client::get(naru.address, "/").await.text(), "stream timeout");
}

#[tokio::test]
async fn a_request_that_does_not_end_in_time_is_answered_408() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager("request_timeout: 0.1s"));
    let mut client = Wire::connect(naru.address).await;
    client.send("POST / HTTP/1.1\r\nhost: naru.test\r\ncontent-length: 10\r\n\r\nfive!").await;
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (408, "request timeout"));
    assert_eq!(naru.ended(1).await, [(408, Reason::RequestTimeout)]);
    // What would come next on this connection is the rest of the request.
    assert_eq!(client.ends().await, End::Closed);
    naru.settles().await;
    // In HTTP/2 it is one stream among others.
    let mut client = H2Client::connect(naru.address).await;
    let (response, mut body) = client.request(http2::post(naru.address, "/"), false).await;
    body.send_data("five!".into(), false).unwrap();
    assert_eq!(http2::response(response).await.unwrap().status(), 408);
    assert_eq!(naru.ended(2).await, [(408, Reason::RequestTimeout); 2]);
    client.close().await;
    naru.settles().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_not_waited_for() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager("request_headers_timeout: 0.1s"));
    let mut idle = Wire::connect(naru.address).await;
    // Empty lines begin nothing.
    idle.send("\r\n").await;
    // One letter may be the first of HTTP/2, or of POST.
    let mut letter = Wire::connect(naru.address).await;
    letter.send("P").await;
    assert_eq!(letter.ends().await, End::Closed);
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: na").await;
    let (said, end) = client.end().await;
    let said = String::from_utf8(said).unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    assert_eq!(end, End::Closed);
    idle.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send(OK).await;
    assert_eq!(idle.response().await.status(), 200);
    drop(idle);
    naru.settles().await;
}

#[tokio::test]
async fn a_client_that_is_slow_in_sending_is_not_held_against_the_upstream() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(&with_timeout("0.1")).cluster("up", up.address, ""));
    let mut client = Wire::connect(naru.address).await;
    client.send("POST / HTTP/1.1\r\nhost: naru.test\r\ncontent-length: 10\r\n\r\nfive!").await;
    let mut upstream = up.accept().await;
    upstream.head().await;
    upstream.expect(b"five!").await;
    // Longer than the route's timeout, which begins with the end of the request.
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.send("five!").await;
    upstream.expect(b"five!").await;
    upstream.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(naru.ended(1).await, [(200, Reason::Forwarded)]);
}
