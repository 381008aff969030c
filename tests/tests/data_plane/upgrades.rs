//! Connections that become something else than HTTP.

mod connect;
mod versions;

use std::time::Duration;

use naru_base::Reason;
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Wire, within};

const WEBSOCKET: &str = "upgrade_configs: [{ upgrade_type: websocket }]";
const ASK: &str = "GET /chat?room=1 HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                     sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A client and an upstream that speak through naru.
async fn joined(naru: &Naru, up: &WireListener) -> (Wire, Wire) {
    let mut client = Wire::connect(naru.address).await;
    client.send(ASK).await;
    let mut upstream = up.accept().await;
    let asked = upstream.head().await;
    assert_eq!((asked.get("upgrade"), asked.get("connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!(asked.get("sec-websocket-version"), Some("13"));
    // What the server says first may come with its answer.
    upstream.send(format!("{GRANT}hello")).await;
    let granted = client.head().await;
    assert_eq!((granted.status(), granted.get("upgrade")), (101, Some("websocket")));
    assert_eq!((granted.get("connection"), granted.get("content-length")), (Some("upgrade"), None));
    client.expect(b"hello").await;
    (client, upstream)
}

#[tokio::test]
async fn bytes_pass_both_ways_until_both_have_ended() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager(WEBSOCKET));
    let (mut client, mut upstream) = joined(&naru, &up).await;
    for text in ["a", "\0\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
        client.send(text).await;
        upstream.expect(text.as_bytes()).await;
        upstream.send(text).await;
        client.expect(text.as_bytes()).await;
    }
    let large = vec![7; 3 << 20];
    let (sent, ()) = tokio::join!(client.try_send(&large), async {
        assert_eq!(upstream.exactly(large.len()).await.unwrap(), large);
    });
    assert!(sent);
    // One way ends before the other.
    client.finish().await;
    assert_eq!(upstream.exactly(1).await.map(|_| ()), Err(naru_tests::wire::End::Closed));
    upstream.send("last").await;
    client.expect(b"last").await;
    upstream.finish().await;
    client.ends().await;
    assert_eq!(naru.ended(1).await, [(101, Reason::Forwarded)]);
    naru.settles().await;
}

#[tokio::test]
async fn what_is_not_allowed_or_not_granted_is_an_answer() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager(WEBSOCKET));
    for ask in [
        ASK.replace("upgrade: websocket", "upgrade: foo"),
        ASK.replace("websocket\r\n", "websocket, foo\r\n"),
    ] {
        let mut client = Wire::connect(naru.address).await;
        client.send(ask).await;
        assert_eq!(client.response().await.status(), 403);
    }
    // The upstream has it otherwise.
    let mut client = Wire::connect(naru.address).await;
    client.send(ASK).await;
    let mut upstream = up.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno").await;
    assert_eq!(client.response().await.status(), 426);
    // It goes on as HTTP, and so does the upstream's.
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(client.response().await.status(), 200);
    // Unasked it is none.
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.head().await;
    upstream.send(GRANT).await;
    assert_eq!(client.response().await.status(), 502);
    drop((client, upstream));
    naru.settles().await;
}

#[tokio::test]
async fn a_client_of_http_1_0_asks_for_none_whatever_it_sends() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).manager(WEBSOCKET));
    // What is not allowed is not even refused.
    for protocol in ["websocket", "foo"] {
        let mut client = Wire::connect(naru.address).await;
        client
            .send(
                ASK.replace("HTTP/1.1", "HTTP/1.0")
                    .replace("upgrade: websocket", &format!("upgrade: {protocol}")),
            )
            .await;
        let mut upstream = up.accept().await;
        let asked = upstream.head().await;
        assert_eq!(asked.first, "GET /chat?room=1 HTTP/1.1");
        assert_eq!((asked.get("upgrade"), asked.get("connection")), (None, None));
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(client.response().await.text(), "ok");
    }
    naru.settles().await;
}

#[tokio::test]
async fn only_silence_ends_it_however_long_its_route_may_take() {
    let up = WireListener::bind().await;
    let idle = format!("{WEBSOCKET}\nstream_idle_timeout: 0.5s");
    let naru = Naru::start(&Bootstrap::to(up.address).manager(&idle));
    let (mut client, mut upstream) = joined(&naru, &up).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send("x").await;
        upstream.expect(b"x").await;
    }
    within("the end of what does not move", client.end()).await;
    let (status, reason) = naru.ended(1).await[0];
    assert_eq!((status, reason), (101, Reason::StreamIdle));
    drop(upstream);
    naru.settles().await;
}

#[tokio::test]
async fn who_breaks_it_off_breaks_both() {
    for client_breaks in [true, false] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::to(up.address).manager(WEBSOCKET));
        let (client, upstream) = joined(&naru, &up).await;
        let (gone, mut left) = if client_breaks { (client, upstream) } else { (upstream, client) };
        gone.reset();
        within("the other end to go as well", left.end()).await;
        naru.settles().await;
    }
}
