//! WebSocket over streams of HTTP/3 (RFC 9220).

use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::side::Asked;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Authority, Bootstrap, Naru, Wire};
use serde_json::{Value, json};

use super::peer::{Of, Peer, fields, get};
use crate::upgrades::{GRANT, WEBSOCKET};

const MESSAGE_ERROR: u64 = 0x10e;
const CONNECT_ERROR: u64 = 0x10f;

async fn start(cluster: &str, manager: &str) -> (WireListener, Naru, Peer, Of) {
    let authority = Authority::new();
    let up = WireListener::bind().await;
    let bootstrap =
        Bootstrap::new(TO_UP).cluster("up", up.address, cluster).http3(&authority, "").manager(manager);
    let naru = Naru::start(&bootstrap);
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    (up, naru, peer, of)
}

fn ask() -> Value {
    let more = [(":protocol", "websocket"), ("sec-websocket-version", "13"), ("origin", "http://a")];
    let (pseudo, rest) = more.split_at(1);
    let mut headers = fields("CONNECT", "/chat?room=1", pseudo).as_array().unwrap().clone();
    headers.extend(json!(rest).as_array().unwrap().iter().cloned());
    json!({ "headers": headers, "open": true })
}

/// A frame of data.
async fn send(peer: &mut Peer, of: Of, stream: u64, text: &str, ends: bool) {
    let frame = [&[0, text.len() as u8][..], text.as_bytes()].concat();
    let frame = if text.is_empty() { Vec::new() } else { frame };
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    peer.tell(of, "send", json!({ "stream": stream, "hex": hex, "end": ends })).await;
}

/// The stream of a client, and its server's connection, which has granted it and said something.
async fn joined(up: &WireListener, peer: &mut Peer, of: Of) -> (u64, Wire) {
    let stream = peer.begin(of, vec![ask()]).await.remove(0);
    let mut wire = up.accept().await;
    let asked = wire.head().await;
    assert_eq!(asked.first, "GET /chat?room=1 HTTP/1.1");
    assert_eq!((asked.get("upgrade"), asked.get("connection")), (Some("websocket"), Some("upgrade")));
    assert_eq!((asked.get("sec-websocket-version"), asked.get("origin")), (Some("13"), Some("http://a")));
    assert_eq!(asked.get("sec-websocket-key").map(str::len), Some(24));
    assert_eq!((asked.get("content-length"), asked.get("transfer-encoding")), (None, None));
    wire.send(format!("{GRANT}hello")).await;
    peer.tell(of, "progress", json!({ "stream": stream })).await;
    (stream, wire)
}

#[tokio::test]
async fn bytes_pass_both_ways_until_both_have_ended() {
    let (up, naru, mut peer, of) = start("", WEBSOCKET).await;
    for client_ends_first in [true, false] {
        let (stream, mut wire) = joined(&up, &mut peer, of).await;
        send(&mut peer, of, stream, "ping", false).await;
        wire.expect(b"ping").await;
        let large = "x".repeat(300_000);
        if client_ends_first {
            send(&mut peer, of, stream, "bye", true).await;
            wire.expect(b"bye").await;
            assert_eq!(wire.end().await, (Vec::new(), End::Closed));
            wire.send(&large).await;
            wire.finish().await;
        } else {
            wire.send(&large).await;
            wire.finish().await;
            send(&mut peer, of, stream, "late", true).await;
            wire.expect(b"late").await;
        }
        let answer = peer.end(of, &[stream]).await.remove(0);
        assert_eq!((answer.status(), answer.reset()), (200, None), "{answer:?}");
        assert_eq!(answer.0["length"], large.len() + 5);
        assert!(answer.text().starts_with("helloxxx"));
        for name in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
    assert_eq!(naru.ended(2).await, [(101, Reason::Forwarded); 2]);
    peer.tell(of, "close", json!({})).await;
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_of_http2_is_asked_as_the_client_asked() {
    let (up, naru, mut peer, of) = start(HTTP2, WEBSOCKET).await;
    let stream = peer.begin(of, vec![ask()]).await.remove(0);
    let asked = Asked::accept(&up).await;
    assert_eq!((asked.request.method().as_str(), asked.protocol()), ("CONNECT", Some("websocket")));
    assert!(!asked.headers().contains_key("upgrade"));
    let mut side = asked.answer(http::Response::new(()));
    side.send("hello").await;
    send(&mut peer, of, stream, "ping", true).await;
    side.expect("ping").await;
    side.finish().await;
    let answer = peer.end(of, &[stream]).await.remove(0);
    assert_eq!((answer.status(), answer.text(), answer.reset()), (200, "hello", None));
    naru.ended(1).await;
}

#[tokio::test]
async fn who_breaks_it_off_ends_both() {
    let (up, naru, mut peer, of) = start("", WEBSOCKET).await;
    let (stream, mut wire) = joined(&up, &mut peer, of).await;
    peer.tell(of, "cancel", json!({ "stream": stream })).await;
    // What the client has sent was taken: its end is one in good order, or is not.
    wire.ends().await;
    let (stream, wire) = joined(&up, &mut peer, of).await;
    // A server that is reset has said what it said.
    wire.reset();
    let answer = peer.end(of, &[stream]).await.remove(0);
    assert!(answer.reset().is_none_or(|code| code == CONNECT_ERROR), "{answer:?}");
    assert_eq!(answer.text(), "hello");
    // Frames that are none of data have no place in it.
    let (stream, mut wire) = joined(&up, &mut peer, of).await;
    let settings = json!({ "stream": stream, "hex": "0400" });
    peer.tell(of, "send", settings).await;
    assert_eq!(peer.closed(of).await, 0x105);
    wire.ends().await;
    naru.settles().await;
}

#[tokio::test]
async fn it_is_offered_only_where_something_can_be_asked_for() {
    let (up, naru, mut peer, of) = start("", "stream_idle_timeout: 60s").await;
    let answer = peer.one(of, ask()).await;
    assert_eq!(answer.reset(), Some(MESSAGE_ERROR), "{answer:?}");
    assert_eq!(naru.ended(1).await, [(400, Reason::ClientProtocol)]);
    let authority = Authority::new();
    let allowed = Naru::start(&Bootstrap::to(up.address).http3(&authority, "").manager(WEBSOCKET));
    let told = peer
        .ask(json!({
            "do": "connect", "to": allowed.address.to_string(), "ca": authority.pem(),
            "name": naru_tests::certificates::NAME,
        }))
        .await;
    assert_eq!(told["extended"], true, "{told}");
    // Another protocol than what is allowed is refused, and the connection goes on.
    let of = peer.known(&told);
    let mut other = ask();
    other["headers"][4][1] = json!("of-mine");
    other["open"] = json!(false);
    let answer = peer.one(of, other).await;
    assert_eq!(answer.status(), 403, "{answer:?}");
    let streams = peer.begin(of, vec![get("/")]).await;
    let mut wire = up.accept().await;
    wire.head().await;
    wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(peer.end(of, &streams).await[0].status(), 204);
}
