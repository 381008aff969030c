//! What comes before a response (RFC 9110, section 15.2), from each version of HTTP to each other.

use std::future::poll_fn;

use http::{HeaderMap, Response, StatusCode};
use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::http2::{H2Client, H2Server, get, response};
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Wire, within};

const EARLY: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                     HTTP/1.1 103 Early Hints\r\nlink: a\r\nconnection: x\r\nx: y\r\n\r\n";
const LATE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn start(up: &WireListener, lines: &str) -> Naru {
    Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, lines))
}

fn interim(status: u16, link: &'static str) -> Response<()> {
    Response::builder().status(status).header("link", link).body(()).unwrap()
}

#[tokio::test]
async fn a_client_of_http2_is_told() {
    let up = WireListener::bind().await;
    let naru = start(&up, "");
    let mut client = H2Client::connect(naru.address).await;
    let (mut answer, _) = client.request(get(naru.address, "/"), true).await;
    // Another stream is not told of it.
    let (mut other, _) = client.request(get(naru.address, "/other"), true).await;
    let (mut upstream, mut upstream_of_other) = (up.accept().await, up.accept().await);
    if upstream.head().await.first.contains("other") {
        std::mem::swap(&mut upstream, &mut upstream_of_other);
        upstream.head().await;
    } else {
        upstream_of_other.head().await;
    }
    upstream.send(EARLY).await;
    for (status, link) in [(102, None), (103, Some("a"))] {
        // It does not wait for the response.
        let early = within("an interim response", poll_fn(|cx| answer.poll_informational(cx))).await;
        let early = early.unwrap().unwrap();
        assert_eq!(early.status(), status);
        let said =
            |headers: &HeaderMap, name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(said(early.headers(), "link").as_deref(), link);
        assert_eq!((said(early.headers(), "connection"), said(early.headers(), "x")), (None, None));
    }
    for wire in [&mut upstream, &mut upstream_of_other] {
        wire.send(LATE).await;
    }
    assert!(within("no interim response", poll_fn(|cx| other.poll_informational(cx))).await.is_none());
    for answer in [answer, other] {
        assert_eq!(response(answer).await.unwrap().status(), 200);
    }
    client.close().await;
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_of_http2_is_heard_by_whoever_knows_it() {
    for version in ["HTTP/1.0", "HTTP/1.1", "HTTP/2"] {
        let up = WireListener::bind().await;
        let naru = start(&up, HTTP2);
        let serve = async {
            let mut server = H2Server::accept(up.accept_stream().await).await;
            let (_, mut respond) = server.request().await.unwrap();
            for (status, link) in [(100, "no"), (102, "a"), (103, "b")] {
                respond.send_informational(interim(status, link)).unwrap();
            }
            // Whoever is told is told before there is a response.
            (server, respond)
        };
        let answer = |mut respond: h2::server::SendResponse<bytes::Bytes>| {
            respond.send_response(Response::new(()), true).unwrap();
        };
        if version == "HTTP/2" {
            let mut client = H2Client::connect(naru.address).await;
            let (mut future, _) = client.request(get(naru.address, "/"), true).await;
            let (_server, respond) = serve.await;
            for (status, link) in [(102, "a"), (103, "b")] {
                let early = within("an interim response", poll_fn(|cx| future.poll_informational(cx))).await;
                let early = early.unwrap().unwrap();
                assert_eq!(
                    (early.status().as_u16(), &early.headers()["link"]),
                    (status, &link.parse().unwrap())
                );
            }
            answer(respond);
            assert_eq!(response(future).await.unwrap().status(), StatusCode::OK);
            client.close().await;
        } else {
            let mut client = Wire::connect(naru.address).await;
            client.send(format!("GET / {version}\r\nhost: a\r\n\r\n")).await;
            let (_server, respond) = serve.await;
            if version == "HTTP/1.1" {
                for (status, link) in [(102, "a"), (103, "b")] {
                    let early = client.head().await;
                    assert_eq!((early.status(), early.get("link")), (status, Some(link)));
                }
            }
            answer(respond);
            assert_eq!(client.response().await.status(), 200, "{version}");
            drop(client);
        }
        assert_eq!(naru.ended(1).await, [(200, Reason::Forwarded)]);
        naru.settles().await;
    }
}

#[tokio::test]
async fn an_upstream_that_never_comes_to_its_response_is_given_up() {
    let up = WireListener::bind().await;
    let naru = start(&up, HTTP2);
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut server = H2Server::accept(up.accept_stream().await).await;
    let (_, mut respond) = server.request().await.unwrap();
    for _ in 0..100 {
        if respond.send_informational(interim(103, "a")).is_err() {
            break;
        }
    }
    let last = loop {
        let head = client.head().await;
        if head.status() >= 200 {
            break head;
        }
    };
    assert_eq!(last.status(), 502);
    drop(client);
    naru.settles().await;
}
