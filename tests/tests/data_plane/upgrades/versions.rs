//! WebSocket from each version of HTTP to each other (RFC 8441).

use std::time::Duration;

use http::{Response, StatusCode};
use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::frames::{self, Peer};
use naru_tests::http2::{H2Client, H2Server};
use naru_tests::side::{Asked, Side};
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Naru, Wire, within};

use super::{ASK, GRANT, WEBSOCKET};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

use Version::{Http1, Http2};

const ALL: [(Version, Version); 4] = [(Http1, Http1), (Http1, Http2), (Http2, Http1), (Http2, Http2)];

fn bootstrap(up: &WireListener, version: Version, manager: &str) -> Bootstrap {
    let lines = if version == Http2 { HTTP2 } else { "" };
    Bootstrap::new(TO_UP).cluster("up", up.address, lines).manager(&format!("{WEBSOCKET}\n{manager}"))
}

/// A client and an upstream that speak through naru, which has passed on what the server said with its answer.
async fn joined(naru: &Naru, up: &WireListener, (client, upstream): (Version, Version)) -> (Side, Side) {
    let ask = async {
        match client {
            Http1 => {
                let mut wire = Wire::connect(naru.address).await;
                wire.send(ASK).await;
                let granted = wire.head().await;
                assert_eq!((granted.status(), granted.get("upgrade")), (101, Some("websocket")));
                assert_eq!(granted.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
                Side::Connection(wire)
            }
            Http2 => {
                let headers = [("sec-websocket-version", "13"), ("origin", "http://a")];
                let (granted, side) = Side::ask_by_http2(naru.address, "websocket", &headers).await.unwrap();
                assert_eq!(granted.status(), 200);
                for name in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
                    assert!(!granted.headers().contains_key(name), "{name}");
                }
                side
            }
        }
    };
    let grant = async {
        match upstream {
            Http1 => {
                let mut wire = up.accept().await;
                let asked = wire.head().await;
                assert_eq!(asked.first, "GET /chat?room=1 HTTP/1.1");
                assert_eq!(
                    (asked.get("upgrade"), asked.get("connection")),
                    (Some("websocket"), Some("upgrade"))
                );
                assert_eq!(asked.get("sec-websocket-version"), Some("13"));
                assert_eq!(asked.get("sec-websocket-key").map(str::len), Some(24));
                assert_eq!((asked.get("content-length"), asked.get("transfer-encoding")), (None, None));
                wire.send(format!("{GRANT}hello")).await;
                Side::Connection(wire)
            }
            Http2 => {
                let asked = Asked::accept(up).await;
                assert_eq!(
                    (asked.request.method().as_str(), asked.protocol()),
                    ("CONNECT", Some("websocket"))
                );
                assert_eq!(asked.request.uri().path_and_query().unwrap(), "/chat?room=1");
                assert_eq!(asked.headers()["sec-websocket-version"], "13");
                assert!(!asked.headers().contains_key("upgrade"));
                let mut side = asked.answer(Response::new(()));
                side.send("hello").await;
                side
            }
        }
    };
    let (mut client, upstream) = tokio::join!(ask, grant);
    client.expect("hello").await;
    (client, upstream)
}

#[tokio::test]
async fn bytes_pass_both_ways_until_both_have_ended() {
    for versions in ALL {
        let up = WireListener::bind().await;
        let naru = Naru::start(&bootstrap(&up, versions.1, ""));
        for client_ends_first in [true, false] {
            let (mut client, mut upstream) = joined(&naru, &up, versions).await;
            for text in ["a", "\0\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
                client.send(text).await;
                upstream.expect(text).await;
                upstream.send(text).await;
                client.expect(text).await;
            }
            // More than any window, both ways.
            let large = vec![7; 3 << 20];
            for is_up in [true, false] {
                let (from, to) =
                    if is_up { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
                let (sent, got) = tokio::join!(from.try_send(&large), to.exactly(large.len()));
                assert!(sent && got.unwrap() == large, "{versions:?}");
            }
            let (first, last) =
                if client_ends_first { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
            first.finish().await;
            assert_eq!(last.end().await, (Vec::new(), End::Closed), "{versions:?}");
            last.send("last").await;
            last.finish().await;
            assert_eq!(first.end().await, (b"last".to_vec(), End::Closed), "{versions:?}");
        }
        assert_eq!(naru.ended(2).await, [(101, Reason::Forwarded); 2]);
        naru.settles().await;
    }
}

#[tokio::test]
async fn only_silence_ends_it_however_long_its_route_may_take() {
    for versions in ALL {
        let up = WireListener::bind().await;
        let naru = Naru::start(&bootstrap(&up, versions.1, "stream_idle_timeout: 0.5s"));
        let (mut client, mut upstream) = joined(&naru, &up, versions).await;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.send("x").await;
            upstream.expect("x").await;
        }
        within("the end of what does not move", client.end()).await;
        within("the end of what does not move", upstream.end()).await;
        assert_eq!(naru.ended(1).await, [(101, Reason::StreamIdle)]);
        drop((client, upstream));
        naru.settles().await;
    }
}

#[tokio::test]
async fn who_breaks_it_off_ends_both() {
    for versions in ALL {
        for client_breaks in [true, false] {
            let up = WireListener::bind().await;
            let naru = Naru::start(&bootstrap(&up, versions.1, ""));
            let (client, upstream) = joined(&naru, &up, versions).await;
            let (mut gone, mut left) = if client_breaks { (client, upstream) } else { (upstream, client) };
            gone.send("last words").await;
            left.expect("last").await;
            gone.reset();
            let (rest, _) = within("the other end to go as well", left.end()).await;
            assert!(b" words".starts_with(&rest), "{versions:?} {rest:?}");
            let (status, reason) = naru.ended(1).await[0];
            assert_eq!(status, 101);
            assert_eq!(reason == Reason::ClientGone, client_breaks, "{versions:?} {reason:?}");
            drop(left);
            naru.settles().await;
        }
    }
}

/// A server that fails a connection says why, and closes it with something unread: its kernel sends a reset.
#[tokio::test]
async fn what_a_server_said_before_it_closed_with_something_unread_is_all_there() {
    for client in [Http1, Http2] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&bootstrap(&up, Http1, ""));
        for _ in 0..20 {
            let (mut client, mut upstream) = joined(&naru, &up, (client, Http1)).await;
            client.send(vec![b'x'; 64 * 1024]).await;
            upstream.expect("x").await;
            let said = [vec![b'y'; 1_000], b"close frame".to_vec()].concat();
            upstream.send(&said).await;
            drop(upstream);
            client.try_send("more").await;
            let (got, end) = client.end().await;
            assert_eq!((got.len(), end), (said.len(), End::Closed));
            client.try_send("and more").await;
        }
        naru.settles().await;
    }
}

#[tokio::test]
async fn when_naru_drains_it_has_its_time_to_end() {
    for versions in ALL {
        let up = WireListener::bind().await;
        let naru = Naru::start(&bootstrap(&up, versions.1, "drain_timeout: 1s"));
        let (mut client, mut upstream) = joined(&naru, &up, versions).await;
        naru.drain();
        // As long as something moves it may stay, also for longer than that time.
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.send("x").await;
            upstream.expect("x").await;
        }
        within("the end of what rests", client.end()).await;
        within("the end of what rests", upstream.end()).await;
        drop((client, upstream));
        naru.ends().await;
    }
}

#[tokio::test]
async fn what_is_not_allowed_or_not_granted_is_an_answer() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&bootstrap(&up, Http2, ""));
    let (refused, _) = Side::ask_by_http2(naru.address, "foo", &[]).await.unwrap();
    assert_eq!(refused.status(), 403);
    for version in [Http1, Http2] {
        let ask = async {
            match version {
                Http1 => {
                    let mut wire = Wire::connect(naru.address).await;
                    wire.send(ASK).await;
                    let answer = wire.response().await;
                    (answer.head.status(), answer.body)
                }
                Http2 => {
                    let (answer, mut side) =
                        Side::ask_by_http2(naru.address, "websocket", &[]).await.unwrap();
                    (answer.status().as_u16(), side.end().await.0)
                }
            }
        };
        let answer = async {
            let mut side = Asked::accept(&up)
                .await
                .answer(Response::builder().status(StatusCode::UNAUTHORIZED).body(()).unwrap());
            side.send("who?").await;
            side.finish().await;
            // naru's own side of the stream ends with the answer.
            let (rest, _) = side.end().await;
            assert_eq!(rest, b"");
        };
        let (answered, ()) = tokio::join!(ask, answer);
        assert_eq!(answered, (401, b"who?".to_vec()), "{version:?}");
    }
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_that_has_not_said_that_it_takes_it_is_not_asked() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&bootstrap(&up, Http2, ""));
    let mut client = Wire::connect(naru.address).await;
    client.send(ASK).await;
    let mut server = H2Server::accept(up.accept_stream().await).await;
    assert_eq!(client.response().await.head.status(), 502);
    assert_eq!(naru.ended(1).await, [(502, Reason::UpstreamProtocol)]);
    drop(client);
    // Its connection is there for other requests.
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (request, mut respond) = server.request().await.unwrap();
    assert_eq!(request.method(), "GET");
    respond.send_response(Response::new(()), true).unwrap();
    assert_eq!(client.response().await.head.status(), 200);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn many_share_a_connection_and_none_disturbs_another() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&bootstrap(&up, Http2, ""));
    let mut client = H2Client::connect(naru.address).await;
    client.takes_extended().await;
    let mut server = None;
    let mut pairs = Vec::new();
    for number in 0..8_u8 {
        let mut request = http::Request::builder()
            .method("CONNECT")
            .uri(format!("http://{}/{number}", naru.address))
            .body(())
            .unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from("websocket"));
        let (response, send) = client.request(request, false).await;
        if server.is_none() {
            server = Some(H2Server::accept_extended(up.accept_stream().await).await);
        }
        let (request, mut respond) = server.as_mut().unwrap().request().await.unwrap();
        assert_eq!(request.uri().path(), format!("/{number}"));
        let from_naru = respond.send_response(Response::new(()), false).unwrap();
        let here = Side::Stream(naru_tests::side::Stream::shared(
            send,
            naru_tests::http2::response(response).await.unwrap().into_body(),
        ));
        let there = Side::Stream(naru_tests::side::Stream::shared(from_naru, request.into_body()));
        pairs.push((here, there));
    }
    // One that nobody reads from holds up no other.
    let (mut idle, mut deaf) = pairs.pop().unwrap();
    let stuck = tokio::spawn(async move {
        idle.try_send(vec![0; 8 << 20]).await;
        idle
    });
    for (number, (here, there)) in pairs.iter_mut().enumerate() {
        let text = format!("to {number}");
        here.send(&text).await;
        there.expect(&text).await;
        there.send(&text).await;
        here.expect(&text).await;
    }
    deaf.expect(vec![0; 1_000]).await;
    stuck.abort();
    for (mut here, mut there) in pairs {
        here.finish().await;
        assert_eq!(there.end().await, (Vec::new(), End::Closed));
        there.finish().await;
        assert_eq!(here.end().await, (Vec::new(), End::Closed));
    }
    drop((deaf, server));
    client.close().await;
    naru.settles().await;
}

/// The header block of an extended CONNECT.
const EXTENDED: [(&str, &str); 5] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a"),
];

#[tokio::test]
async fn it_is_offered_only_where_something_can_be_asked_for() {
    const SETTING: u16 = 0x8;
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut peer = Peer::start(naru.address, None, &[]).await;
    assert!(!peer.settings.iter().any(|(name, _)| *name == SETTING));
    peer.send(frames::headers(frames::END_HEADERS, 1, &EXTENDED)).await;
    let reset = peer.find(|frame| frame.kind == frames::RST_STREAM).await.unwrap();
    assert_eq!(reset.number(0), frames::PROTOCOL_ERROR);
    drop(peer);
    let on_route =
        TO_UP.replace("timeout: 0s", "timeout: 0s, upgrade_configs: [{ upgrade_type: websocket }]");
    let naru = Naru::start(&Bootstrap::new(&on_route).cluster("up", up.address, ""));
    let mut peer = Peer::start(naru.address, None, &[]).await;
    assert!(peer.settings.contains(&(SETTING, 1)), "{:?}", peer.settings);
    // Only CONNECT has a protocol, and then all that other requests have (RFC 8441, section 4).
    for (at, (stream, value)) in [(0, (1, "GET")), (1, (3, "")), (2, (5, "")), (3, (7, "")), (4, (9, ""))] {
        let mut fields = EXTENDED.to_vec();
        match (at, value) {
            (0, method) => fields[0].1 = method,
            (1, _) => fields[1].1 = "web socket",
            _ => drop(fields.remove(at)),
        }
        peer.send(frames::headers(frames::END_HEADERS, stream, &fields)).await;
        let answer = peer.find(|frame| frame.stream == stream).await.unwrap();
        match at {
            // Without an authority there is no host.
            4 => assert_eq!((answer.kind, frames::status(&answer.payload)), (frames::HEADERS, 400)),
            _ => assert_eq!(
                (answer.kind, answer.number(0)),
                (frames::RST_STREAM, frames::PROTOCOL_ERROR),
                "{at}"
            ),
        }
    }
    assert!(!up.has_more().await);
}
