//! What an upstream says before its answer (RFC 9110, section 15.2) goes to the client that waits for that answer.

use naru_tests::wire::WireListener;
use naru_tests::{Authority, Bootstrap, Naru};
use serde_json::json;

use super::peer::{Peer, get};

#[tokio::test]
async fn hints_come_before_the_answer_and_to_whom_they_are_for() {
    let authority = Authority::new();
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).http3(&authority, ""));
    let mut peer = Peer::start();
    let of = peer.connect(naru.address, &authority).await;
    let streams = peer.begin(of, vec![get("/a"), get("/b")]).await;
    let mut upstreams = [up.accept().await, up.accept().await];
    let mut paths = Vec::new();
    for upstream in &mut upstreams {
        paths.push(upstream.head().await.first);
    }
    // Each is told of its own, also while the other one waits.
    let own = |line: &str| if line.starts_with("GET /a ") { "a" } else { "b" };
    for (upstream, line) in upstreams.iter_mut().zip(&paths) {
        let link = own(line);
        let early = format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: {link}\r\n\
             connection: x\r\nx: y\r\n\r\n"
        );
        upstream.send(early).await;
    }
    for stream in &streams {
        peer.tell(of, "progress", json!({ "stream": stream })).await;
    }
    for (upstream, line) in upstreams.iter_mut().zip(&paths) {
        let body = own(line);
        upstream.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{body}")).await;
    }
    let answers = peer.end(of, &streams).await;
    for (answer, own) in answers.iter().zip(["a", "b"]) {
        assert_eq!((answer.status(), answer.text()), (200, own));
        // That it may send is nothing for a client that has sent all.
        assert_eq!(answer.0["interim"], json!([102, 103]), "{answer:?}");
        assert_eq!(answer.0["early"][1], json!([["link", own]]), "{answer:?}");
    }
    naru.ended(2).await;
}

/// Who takes nothing is told no more than a little, and what it is told is whole.
#[tokio::test]
async fn many_large_hints_are_whole_or_not_there() {
    let authority = Authority::new();
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).http3(&authority, ""));
    let mut peer = Peer::start();
    let (of, _) = peer.try_connect(naru.address, &authority, json!({ "window": 4_096 })).await.unwrap();
    let streams = peer.begin(of, vec![get("/")]).await;
    let mut upstream = up.accept().await;
    upstream.head().await;
    let link = "l".repeat(6_000);
    for _ in 0..30 {
        upstream.send(format!("HTTP/1.1 103 Early Hints\r\nlink: {link}\r\n\r\n")).await;
    }
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let answer = peer.end(of, &streams).await.remove(0);
    assert_eq!((answer.status(), answer.text()), (200, "ok"), "{answer:?}");
    let early = answer.0["early"].as_array().unwrap();
    assert!(!early.is_empty() && early.iter().all(|fields| *fields == json!([["link", link]])));
    naru.ended(1).await;
}
