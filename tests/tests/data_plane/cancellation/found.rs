//! What the walk has found, each alone.

use h2::Reason as Code;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::http2::{self, H2Client, H2Server};
use naru_tests::wire::{End, Transfer, WireListener};
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire};

use super::ends::raw;

const GET: &str = "GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n";

async fn behind_http2() -> (WireListener, Naru) {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
    (up, naru)
}

/// hyper takes both for the end of the body.
#[tokio::test]
async fn a_response_that_an_http2_upstream_gives_up_without_an_error_is_not_whole() {
    for goes_away in [false, true] {
        let (up, naru) = behind_http2().await;
        let mut client = Wire::connect(naru.address).await;
        client.send(GET).await;
        let mut upstream = H2Server::accept(up.accept_stream().await).await;
        let (_, mut respond) = upstream.request().await.unwrap();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data("five!".into(), false).unwrap();
        let head = client.head().await;
        assert_eq!(client.chunk().await.unwrap(), b"five!");
        if goes_away {
            raw(upstream.socket(), &raw::go_away(0));
        } else {
            body.send_reset(Code::NO_ERROR);
        }
        assert_eq!(client.rest(head, true).await, Transfer::Broken(0), "GOAWAY: {goes_away}");
        assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)]);
        drop(client);
        naru.settles().await;
    }
}

/// RFC 9113, section 8.1: so says an upstream that needs no more of the request.
#[tokio::test]
async fn a_whole_response_stays_whole_when_its_stream_is_reset_without_an_error() {
    for has_trailers in [false, true] {
        let (up, naru) = behind_http2().await;
        let mut client = Wire::connect(naru.address).await;
        client.send("POST / HTTP/1.1\r\nhost: naru.test\r\ncontent-length: 10\r\n\r\nfive!").await;
        let mut upstream = H2Server::accept(up.accept_stream().await).await;
        let (request, mut respond) = upstream.request().await.unwrap();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data("ok".into(), !has_trailers).unwrap();
        if has_trailers {
            let sum = (HeaderName::from_static("x-sum"), HeaderValue::from_static("17"));
            body.send_trailers(HeaderMap::from_iter([sum])).unwrap();
        }
        // Whoever lets go of a request that has not ended resets it so, behind the response.
        drop((request, respond, body));
        assert_eq!(client.response().await.text(), "ok", "trailers: {has_trailers}");
        assert_eq!(naru.ended(1).await, [(200, Reason::Forwarded)]);
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_request_that_an_http2_client_gives_up_without_an_error_is_never_whole_for_the_upstream() {
    for code in [Code::NO_ERROR, Code::CANCEL] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::to(up.address));
        let mut client = H2Client::connect(naru.address).await;
        let (response, mut body) = client.request(http2::post(naru.address, "/"), false).await;
        body.send_data("five!".into(), false).unwrap();
        let mut upstream = up.accept().await;
        upstream.head().await;
        assert_eq!(upstream.chunk().await.unwrap(), b"five!");
        body.send_reset(code);
        assert_eq!(String::from_utf8_lossy(&upstream.end().await.0), "", "{code:?}");
        assert!(http2::response(response).await.is_err());
        let ended = naru.ended(1).await;
        assert!(matches!(ended[0].1, Reason::ClientGone | Reason::ClientAborted), "{ended:?}");
        client.close().await;
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_request_body_that_breaks_off_behind_the_head_of_the_response_is_the_clients_doing() {
    for lines in ["", HTTP2] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, lines));
        let mut client = Wire::connect(naru.address).await;
        client.send("POST / HTTP/1.1\r\nhost: naru.test\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let stream = up.accept_stream().await;
        let (mut one, mut two) = (None, None);
        if lines.is_empty() {
            let mut upstream = Wire::new(stream);
            upstream.head().await;
            upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            one = Some(upstream);
        } else {
            let mut upstream = H2Server::accept(stream).await;
            let (request, mut respond) = upstream.request().await.unwrap();
            let body = respond.send_response(Response::new(()), false).unwrap();
            two = Some((upstream, request, body));
        }
        assert_eq!(client.head().await.status(), 200);
        client.send("nonsense\r\n").await;
        let ended = naru.ended(1).await;
        assert!(
            matches!(ended[..], [(200, Reason::ClientAborted | Reason::ClientGone | Reason::ClientProtocol)]),
            "{lines:?}: {ended:?}"
        );
        drop((client, one, two));
        naru.settles().await;
    }
}

/// Whether the worker has looked at it yet or not.
#[tokio::test]
async fn what_a_client_has_sent_before_the_drain_begins_is_answered() {
    let up = Upstream::plain(Speaks::Http1).await;
    for is_first in [true, false].repeat(4) {
        let naru = Naru::start(&Bootstrap::to(up.address));
        let mut client = Wire::connect(naru.address).await;
        if !is_first {
            client.send(GET).await;
            client.response().await;
        }
        client.send(GET).await;
        naru.drain();
        assert_eq!(client.response().await.status(), 200, "first on its connection: {is_first}");
        assert_eq!(client.ends().await, End::Closed);
        naru.ends().await;
    }
}
