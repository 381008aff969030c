//! What upstreams answer, in order or not.

use naru_base::Reason;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Naru, Wire};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A request that has come to its upstream.
struct Asked {
    naru: Naru,
    up: WireListener,
    client: Wire,
    upstream: Wire,
}

async fn ask(request: &str) -> Asked {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send(request).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    Asked { naru, up, client, upstream }
}

/// What a client is answered where an upstream says this, and then nothing more.
async fn answered(response: &[u8]) -> (u16, Vec<u8>, Reason) {
    let Asked { naru, mut client, mut upstream, .. } = ask(GET).await;
    upstream.send(response).await;
    upstream.finish().await;
    let answer = client.response().await;
    let (_, reason) = naru.ended(1).await[0];
    drop((client, upstream));
    naru.settles().await;
    (answer.status(), answer.body, reason)
}

#[tokio::test]
async fn a_response_that_breaks_a_rule_is_not_passed_on() {
    let broken: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        b"hello\r\n\r\n",
    ];
    for response in broken {
        let (status, _, reason) = answered(response).await;
        assert_eq!(
            (status, reason),
            (502, Reason::UpstreamProtocol),
            "{:?}",
            String::from_utf8_lossy(response)
        );
    }
}

#[tokio::test]
async fn a_response_in_order_is_passed_on() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "y".repeat(50_000));
    let good: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 \xc3\xa9\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x\r\nk\r\n0\r\nx: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        large.as_bytes(),
    ];
    for response in good {
        let Asked { mut client, mut upstream, naru: _naru, .. } = ask(GET).await;
        upstream.send(response).await;
        upstream.finish().await;
        let answer = loop {
            let head = client.head().await;
            if head.status() >= 200 {
                break client.rest(head, true).await;
            }
        };
        let naru_tests::wire::Transfer::Whole(answer) = answer else { panic!("{response:?}") };
        assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"ok"[..]));
    }
}

#[tokio::test]
async fn what_follows_a_response_is_no_answer_to_the_next_request() {
    for first in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"[..],
        b"HTTP/1.1 204 No Content\r\n\r\nevil",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil",
    ] {
        let Asked { up, mut client, mut upstream, naru: _naru } = ask(GET).await;
        upstream.send(first).await;
        client.response().await;
        client.send(GET).await;
        let mut second = up.accept().await;
        second.request().await;
        second.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood").await;
        assert_eq!(client.response().await.body, b"good");
    }
}

#[tokio::test]
async fn a_response_that_ends_too_early_does_not_look_whole() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        for version in ["1.0", "1.1"] {
            let request = format!("GET / HTTP/{version}\r\nhost: a\r\n\r\n");
            let Asked { mut client, mut upstream, naru: _naru, .. } = ask(&request).await;
            upstream.send(response).await;
            upstream.finish().await;
            let head = client.head().await;
            let is_framed = head.get("content-length").is_some() || head.get("transfer-encoding").is_some();
            let (body, end) = client.end().await;
            // Without a length only a reset tells that there was more.
            assert!(is_framed || matches!(end, End::Reset), "HTTP/{version} {response:?}");
            assert!(!body.ends_with(b"0\r\n\r\n"));
        }
    }
}

#[tokio::test]
async fn what_comes_before_a_response_is_passed_on_to_who_knows_it() {
    for version in ["1.0", "1.1"] {
        let request = format!("GET / HTTP/{version}\r\nhost: a\r\n\r\n");
        let Asked { naru, mut client, mut upstream, .. } = ask(&request).await;
        upstream.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\nconnection: x\r\nx: y\r\n\r\n").await;
        if version == "1.1" {
            // It does not wait for the response.
            let early = client.head().await;
            assert_eq!((early.status(), early.get("link"), early.get("connection")), (103, Some("a"), None));
        }
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(client.response().await.status(), 200, "HTTP/{version}");
        drop(client);
        naru.settles().await;
    }
    // One that never comes to its end is none.
    let Asked { mut client, mut upstream, naru: _naru, .. } = ask(GET).await;
    upstream.send("HTTP/1.1 102 Processing\r\n\r\n".repeat(100)).await;
    let last = loop {
        let head = client.head().await;
        if head.status() >= 200 {
            break head;
        }
    };
    assert_eq!(last.status(), 502);
}
