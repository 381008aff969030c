//! Requests that are in order, however they look.

use naru_base::Reason;
use naru_tests::upstream::{header, headers};
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, until};
use serde_json::Value;

/// What an upstream sees of a request.
async fn seen(client: &mut Wire, request: &[u8]) -> Value {
    client.send(request).await;
    let answer = client.response().await;
    assert_eq!(answer.status(), 200, "{:?}", String::from_utf8_lossy(request));
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn what_is_in_order_is_passed_on() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let requests: &[&[u8]] = &[
        b"GET /describe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET /describe HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\n\r\nGET /describe HTTP/1.1\r\nHOST:a\r\n\r\n",
        b"GET /describe HTTP/1.1\r\nHost: \t a \t \r\n\r\n",
        b"GET http://a/describe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /describe HTTP/1.1\r\nHost: a\r\nX: \xe9\r\nX-Empty:\r\n\r\n",
        b"GET /describe?a={b}&c=|^` HTTP/1.1\r\nHost: a\r\n\r\n",
        b"M-SEARCH /describe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /describe HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n\r\n",
        b"POST /describe HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /describe HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        // Its body has not waited for leave.
        b"POST /describe HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"POST /describe HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n05\r\nhello\r\n000\r\n\r\n",
        b"POST /describe HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d e\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ];
    for request in requests {
        assert_eq!(header(&seen(&mut client, request).await, "host"), Some("a"));
    }
    // All of them by one connection, at once.
    let all = requests.concat();
    client.send(&all).await;
    for _ in requests {
        assert_eq!(client.response().await.status(), 200);
    }
    drop(client);
    naru.settles().await;
    assert_eq!(up.requests(), 2 * requests.len() as u64);
}

#[tokio::test]
async fn what_the_server_can_do_is_its_own_to_say() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    for _ in 0..2 {
        client.send("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.head.get("content-length")), (200, Some("0")));
    }
    assert_eq!(naru.ended(2).await, [(200, Reason::ServerOptions), (200, Reason::ServerOptions)]);
    drop(client);
    naru.settles().await;
    assert_eq!(up.requests(), 0);
}

#[tokio::test]
async fn what_concerns_one_hop_goes_no_further() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let seen = seen(
        &mut client,
        b"GET /describe HTTP/1.1\r\nHost: a\r\nConnection: X-Named, host, te, upgrade\r\nX-Named: 1\r\nX-Kept: 1\r\nTE: trailers, gzip\r\n\
          Keep-Alive: 5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    )
    .await;
    for gone in [
        "x-named",
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
        "transfer-encoding",
    ] {
        assert_eq!(headers(&seen, gone), [""; 0], "{gone}");
    }
    assert_eq!((header(&seen, "host"), header(&seen, "x-kept")), (Some("a"), Some("1")));
}

#[tokio::test]
async fn http_10_has_one_request_unless_it_says_otherwise() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut once = Wire::connect(naru.address).await;
    once.send("GET /chunks/10 HTTP/1.0\r\nhost: a\r\n\r\n").await;
    let answer = once.response().await;
    // It knows no chunks.
    assert_eq!((answer.head.get("transfer-encoding"), answer.head.get("connection")), (None, Some("close")));
    assert_eq!(answer.body.len(), 10);
    let mut kept = Wire::connect(naru.address).await;
    for _ in 0..2 {
        kept.send("GET /bytes/10 HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").await;
        let answer = kept.response().await;
        assert_eq!((answer.head.get("connection"), answer.body.len()), (Some("keep-alive"), 10));
    }
    drop((once, kept));
    naru.settles().await;
}

#[tokio::test]
async fn leave_to_send_a_body_is_given_when_somebody_wants_it() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client
        .send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 100);
    client.send("hello").await;
    assert_eq!(client.response().await.text(), "5 whole");
    // Where nobody does, it is not given, and whether the body comes is not waited for.
    client.send("POST /none HTTP/1.1\r\nhost: \r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    let refused = client.response().await;
    assert_eq!((refused.status(), refused.head.get("connection")), (400, Some("close")));
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn what_is_sent_slowly_is_read_all_the_same() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let text = b"POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\nhello\r\n1\r\n!\r\n0\r\nx: y\r\n\r\n";
    for byte in text {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.response().await.text(), "6 whole");
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_response_that_had_begun_when_naru_drains_is_not_the_last_as_it_did_not_say_so() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = up.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
    let head = client.head().await;
    assert_eq!(head.get("connection"), None);
    client.expect(b"hello").await;
    naru.drain();
    // It has come to the worker once nobody is let in.
    until("nobody to be let in", async || Wire::try_connect(naru.address).await.is_err().then_some(())).await;
    upstream.send("world").await;
    client.expect(b"world").await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let last = client.response().await;
    assert_eq!((last.status(), last.head.get("connection")), (200, Some("close")));
    client.ends().await;
}
