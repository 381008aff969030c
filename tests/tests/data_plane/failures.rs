//! What goes wrong, and what a client, the log and the counts are told of it.

use std::time::Duration;

use http::Method;
use naru_base::Reason;
use naru_proxy::Options;
use naru_tests::bootstrap::{HTTP2, TO_UP, upstream_tls};
use naru_tests::client::{self, request};
use naru_tests::http2::{self, H2Client, H2Server};
use naru_tests::wire::{BlackHole, End, Message, Transfer, WireListener, refusing_address};
use naru_tests::{Authority, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire, until, within};

const GET: &str = "GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

/// Everything to `up`, with this timeout.
fn with_timeout(seconds: &str) -> String {
    format!("- match: {{ prefix: / }}\n  route: {{ cluster: up, timeout: {seconds}s }}\n")
}

#[tokio::test]
async fn a_request_without_a_route_is_answered_404() {
    let up = Upstream::plain(Speaks::Http1).await;
    let routes = "- match: { path: /known }\n  route: { cluster: up }\n";
    let naru = Naru::start(&Bootstrap::new(routes).cluster("up", up.address, ""));
    let answer = client::get(naru.address, "/unknown").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (404, ""));
    assert_eq!(answer.header("server"), Some("naru"));
    assert_eq!(answer.header("x-envoy-upstream-service-time"), None);
    assert_eq!(naru.ended(1).await, [(404, Reason::NoRoute)]);
    assert_eq!(up.connections(), 0);
}

#[test]
fn a_route_to_an_unknown_cluster_is_refused_at_load() {
    let text = Bootstrap::new(TO_UP).text();
    let problems = match naru_xds::load("test.yaml", &text) {
        Err(problems) => problems.iter().map(ToString::to_string).collect::<String>(),
        Ok(loaded) => format!("{:?}", naru_journey::Snapshot::compile(loaded.config).unwrap_err()),
    };
    assert!(problems.contains("up"), "{problems}");
}

#[tokio::test]
async fn a_refused_connection_is_answered_503() {
    for speaks in ["", HTTP2] {
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", refusing_address(), speaks));
        let answer = client::get(naru.address, "/").await;
        assert_eq!(answer.status, 503);
        assert!(answer.text().starts_with(&format!("{RESET}remote connection failure")), "{}", answer.text());
        assert_eq!(naru.ended(1).await, [(503, Reason::ConnectFailure)]);
        naru.settles().await;
        let report = naru.report().await;
        assert_eq!((report.clusters[0].connect_failures, report.clusters[0].connections_total), (1, 0));
    }
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_answered_503() {
    for speaks in ["", HTTP2] {
        let hole = BlackHole::new();
        let lines = format!("connect_timeout: 0.05s\n{speaks}");
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", hole.address, &lines));
        let answer = client::get(naru.address, "/").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (503, format!("{RESET}connection timeout")));
        assert_eq!(naru.ended(1).await, [(503, Reason::ConnectTimeout)]);
        naru.settles().await;
        let report = naru.report().await;
        assert_eq!((report.clusters[0].connect_timeouts, report.clusters[0].connect_failures), (1, 1));
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_counts_as_connecting() {
    let silent = WireListener::bind().await;
    let lines = format!("connect_timeout: 0.05s\n{}", upstream_tls(&Authority::new()));
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", silent.address, &lines));
    let answer = client::get(naru.address, "/").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (503, format!("{RESET}connection timeout")));
    assert_eq!(naru.ended(1).await, [(503, Reason::ConnectTimeout)]);
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_whose_certificate_is_not_trusted_is_answered_503() {
    for (speaks, lines) in [(Speaks::Http1Tls, ""), (Speaks::Http2Tls, HTTP2)] {
        let up = Upstream::serve(speaks, &Authority::new()).await;
        let lines = format!("{lines}{}", upstream_tls(&Authority::new()));
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &lines));
        let answer = client::get(naru.address, "/").await;
        assert_eq!(answer.status, 503);
        assert!(answer.text().starts_with(&format!("{RESET}remote connection failure")), "{}", answer.text());
        assert!(answer.text().contains("TLS_error"), "{}", answer.text());
        assert_eq!(naru.ended(1).await, [(503, Reason::UpstreamTls)]);
        assert_eq!(up.requests(), 0);
        naru.settles().await;
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_is_answered_503() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru =
        Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &upstream_tls(&Authority::new())));
    assert_eq!(client::get(naru.address, "/").await.status, 503);
    assert_eq!(naru.ended(1).await, [(503, Reason::UpstreamTls)]);
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_that_closes_before_the_head_is_answered_503() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    drop(upstream);
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text()), (503, format!("{RESET}connection termination")));
    assert_eq!(naru.ended(1).await, [(503, Reason::UpstreamClosed)]);
    drop(client);
    naru.settles().await;
    assert_eq!(naru.upstream_connections().await, 0);
}

#[tokio::test]
async fn an_upstream_that_resets_its_connection_is_answered_503() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.reset();
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text()), (503, format!("{RESET}connection termination")));
    assert_eq!(naru.ended(1).await, [(503, Reason::UpstreamClosed)]);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_inside_the_head_is_answered_503() {
    for start in ["HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"]
    {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::to(up.address));
        let mut client = Wire::connect(naru.address).await;
        client.send(GET).await;
        let mut upstream = up.accept().await;
        upstream.request().await;
        upstream.send(start).await;
        drop(upstream);
        assert_eq!(client.response().await.status(), 503, "{start:?}");
        assert_eq!(naru.ended(1).await, [(503, Reason::UpstreamClosed)], "{start:?}");
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_stream_that_an_upstream_resets_is_answered_503() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = H2Server::accept(up.accept_stream().await).await;
    let (_, mut respond) = upstream.request().await.unwrap();
    respond.send_reset(h2::Reason::INTERNAL_ERROR);
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text()), (503, format!("{RESET}remote reset")));
    assert_eq!(naru.ended(1).await, [(503, Reason::UpstreamReset)]);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn an_http2_connection_that_an_upstream_closes_before_the_head_is_answered_503() {
    for resets in [false, true] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
        let mut client = Wire::connect(naru.address).await;
        client.send(GET).await;
        let mut upstream = H2Server::accept(up.accept_stream().await).await;
        let exchange = upstream.request().await.unwrap();
        if resets {
            upstream.reset().await;
        } else {
            upstream.close().await;
        }
        drop(exchange);
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text()), (503, format!("{RESET}connection termination")));
        assert_eq!(naru.ended(1).await, [(503, Reason::UpstreamClosed)]);
        drop(client);
        naru.settles().await;
        assert_eq!(naru.upstream_connections().await, 0);
    }
}

#[tokio::test]
async fn an_upstream_that_sends_garbage_is_answered_502() {
    for garbage in [
        "hello\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/9.9 200 OK\r\n\r\n",
    ] {
        let up = WireListener::bind().await;
        let naru = Naru::start(&Bootstrap::to(up.address));
        let mut client = Wire::connect(naru.address).await;
        client.send(GET).await;
        let mut upstream = up.accept().await;
        upstream.request().await;
        upstream.send(garbage).await;
        let answer = client.response().await;
        let expected = (502, format!("{RESET}protocol error"));
        assert_eq!((answer.status(), answer.text()), expected, "{garbage:?}");
        assert_eq!(naru.ended(1).await, [(502, Reason::UpstreamProtocol)], "{garbage:?}");
        // The connection is of no use any more.
        assert_ne!(upstream.ends().await, End::Reset, "{garbage:?}");
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn an_http2_upstream_that_sends_garbage_is_answered_502() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    upstream.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text()), (502, format!("{RESET}protocol error")));
    assert_eq!(naru.ended(1).await, [(502, Reason::UpstreamProtocol)]);
    drop((client, upstream));
    naru.settles().await;
}

#[tokio::test]
async fn what_an_upstream_says_unasked_is_not_taken_for_the_next_response() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut first = up.accept().await;
    first.request().await;
    first
        .send(
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\noneHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        )
        .await;
    assert_eq!(client.response().await.text(), "one");
    client.send(GET).await;
    // Either it was seen in time, or the request went out and failed: it never gets the wrong answer.
    let mut second = within("the second request on another connection", up.accept()).await;
    second.request().await;
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo").await;
    assert_eq!(client.response().await.text(), "two");
}

#[tokio::test]
async fn a_response_that_an_upstream_breaks_off_is_broken_for_the_client() {
    let heads = [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n5\r\nfi",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\nnonsense",
    ];
    for head in heads {
        for resets in [false, true] {
            let up = WireListener::bind().await;
            let naru = Naru::start(&Bootstrap::to(up.address));
            let mut client = Wire::connect(naru.address).await;
            client.send(GET).await;
            let mut upstream = up.accept().await;
            upstream.request().await;
            upstream.send(head).await;
            let received = client.head().await;
            assert_eq!(received.status(), 200);
            if resets {
                upstream.reset();
            } else {
                drop(upstream);
            }
            let transfer = client.rest(received, true).await;
            assert!(matches!(transfer, Transfer::Broken(_)), "{head:?}: {transfer:?}");
            assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)], "{head:?}");
            assert_eq!(Reason::UpstreamAborted.flag(), "UC");
            drop(client);
            naru.settles().await;
            assert_eq!(naru.upstream_connections().await, 0);
        }
    }
}

#[tokio::test]
async fn a_response_that_an_upstream_breaks_off_is_reset_for_an_http2_client() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = H2Client::connect(naru.address).await;
    let (response, _) = client.request(http2::get(naru.address, "/"), true).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!").await;
    let mut body = http2::response(response).await.unwrap().into_body();
    drop(upstream);
    let error = http2::read(&mut body).await.unwrap_err();
    assert!(error.is_reset() && error.is_remote(), "{error:?}");
    assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)]);
    // The connection itself is as good as before.
    let (response, _) = client.request(http2::get(naru.address, "/"), true).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send(OK).await;
    let mut body = http2::response(response).await.unwrap().into_body();
    assert_eq!(http2::read(&mut body).await.unwrap().0, b"ok");
}

#[tokio::test]
async fn an_http2_response_that_an_upstream_resets_is_broken_for_the_client() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = H2Server::accept(up.accept_stream().await).await;
    let (_, mut respond) = upstream.request().await.unwrap();
    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
    body.send_data("five!".into(), false).unwrap();
    let head = client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"five!");
    body.send_reset(h2::Reason::INTERNAL_ERROR);
    assert_eq!(client.rest(head, true).await, Transfer::Broken(0));
    assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)]);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_response_without_a_length_ends_with_its_connection() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    drop(upstream);
    assert_eq!(client.response().await.text(), "all of it");
    assert_eq!(naru.ended(1).await, [(200, Reason::Forwarded)]);
}

#[tokio::test]
async fn a_response_without_a_length_that_is_reset_is_broken() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\nsome of it").await;
    let head = client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"some of it");
    upstream.reset();
    assert_eq!(client.rest(head, true).await, Transfer::Broken(0));
    assert_eq!(naru.ended(1).await, [(200, Reason::UpstreamAborted)]);
}

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
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: na").await;
    let (said, end) = client.end().await;
    let said = String::from_utf8(said).unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    assert_eq!(end, End::Closed);
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
async fn a_client_that_sends_garbage_is_answered_400() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let garbage: [&[u8]; 11] = [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nna me: value\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nname: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n folded: value\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: five\r\n\r\nfive!",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nfive!",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n",
    ];
    for bytes in garbage {
        let mut client = Wire::connect(naru.address).await;
        client.send(bytes).await;
        let answer = client.response().await;
        assert_eq!(answer.status(), 400, "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(client.ends().await, End::Closed);
    }
    naru.settles().await;
    assert_eq!(up.connections(), 0);
    assert_eq!(naru.report().await.downstream.protocol_errors, garbage.len() as u64);
}

#[tokio::test]
async fn two_framings_of_one_body_reach_no_upstream_as_two() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n0\r\n\r\n")
        .await;
    let answered = async {
        let mut upstream = up.accept().await;
        let request = upstream.request().await;
        assert!(
            request.head.get("content-length").is_none() || request.head.get("transfer-encoding").is_none()
        );
        assert_eq!(request.text(), "five!");
        upstream.send(OK).await;
        upstream
    };
    // Either is allowed (RFC 9112, section 6.3): to refuse it, or to believe the chunks alone.
    tokio::select! {
        answer = client.response() => assert_eq!(answer.status(), 400),
        upstream = answered => {
            assert_eq!(client.response().await.status(), 200);
            drop(upstream);
        }
    }
}

#[tokio::test]
async fn a_request_body_that_is_garbage_reaches_no_upstream_as_whole() {
    for speaks in ["", HTTP2] {
        for garbage in ["nonsense\r\n", "5\r\nfive!?!\r\n", "ffffffffffffffff1\r\n"] {
            let up = Upstream::plain(if speaks.is_empty() { Speaks::Http1 } else { Speaks::Http2 }).await;
            let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, speaks));
            let mut client = Wire::connect(naru.address).await;
            client.send("POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
            client.send("5\r\nfive!\r\n").await;
            client.send(garbage).await;
            let (said, _) = client.end().await;
            let said = String::from_utf8(said).unwrap();
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{garbage:?}: {said}");
            let ended = naru.ended(1).await;
            assert!(matches!(ended[0], (0 | 400, Reason::ClientAborted | Reason::ClientGone)), "{ended:?}");
            naru.settles().await;
        }
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::to(up.address)
        .manager("max_request_headers_kb: 8\ncommon_http_protocol_options: { max_headers_count: 20 }");
    let naru = Naru::start(&bootstrap);
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "x".repeat(9 * 1024));
    let many: String = (0..30).map(|n| format!("x-{n}: value\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
    for head in [large, many] {
        let mut client = Wire::connect(naru.address).await;
        client.send(head).await;
        assert_eq!(client.response().await.status(), 431);
        assert_eq!(client.ends().await, End::Closed);
    }
    let fitting = format!("GET / HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "x".repeat(7 * 1024));
    let mut client = Wire::connect(naru.address).await;
    client.send(fitting).await;
    assert_eq!(client.response().await.status(), 200);
    drop(client);
    // In HTTP/2 the connection goes on.
    let mut client = H2Client::connect(naru.address).await;
    let mut large = http2::get(naru.address, "/");
    large.headers_mut().insert("x-large", "x".repeat(9 * 1024).parse().unwrap());
    let (response, _) = client.request(large, true).await;
    assert_eq!(http2::response(response).await.unwrap().status(), 431);
    let (response, _) = client.request(http2::get(naru.address, "/"), true).await;
    assert_eq!(http2::response(response).await.unwrap().status(), 200);
    client.close().await;
    naru.settles().await;
}

#[tokio::test]
async fn a_head_of_the_default_size_is_taken_and_a_larger_one_is_not() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    for (size, status) in [(58 * 1024, 200), (62 * 1024, 431)] {
        let mut client = Wire::connect(naru.address).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "x".repeat(size))).await;
        assert_eq!(client.response().await.status(), status, "{size}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_or_little_leaves_nothing_behind() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    for start in [
        "",
        "G",
        "GET / HT",
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        for resets in [false, true] {
            let mut client = Wire::connect(naru.address).await;
            client.send(start).await;
            if resets {
                client.reset();
            }
        }
    }
    until("all to be taken in", async || {
        (naru.report().await.downstream.connections_total == 12).then_some(())
    })
    .await;
    naru.settles().await;
    assert_eq!(up.connections(), 0);
}

#[tokio::test]
async fn a_tls_listener_takes_no_plain_text_and_no_garbage() {
    let up = Upstream::plain(Speaks::Http1).await;
    let authority = Authority::new();
    let naru = Naru::start(&Bootstrap::to(up.address).tls(&authority, &["h2", "http/1.1"]));
    for bytes in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\x16\x03\x01\0\x05\x01\0\0\x01\0", "\u{16}\u{3}"] {
        let mut client = Wire::connect(naru.address).await;
        client.send(bytes).await;
        client.finish().await;
        let (said, _) = client.end().await;
        assert!(!said.starts_with(b"HTTP"), "{:?}", String::from_utf8_lossy(&said));
    }
    naru.settles().await;
    assert_eq!(naru.report().await.downstream.tls_errors, 3);
    let mut client = Client::connect(naru.address, Speaks::Http1Tls, &authority).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn an_address_in_use_is_not_shared() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let bootstrap = Bootstrap::to(refusing_address()).listen_on(address);
    let error = Naru::try_start(&bootstrap, &Options::default()).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
    // Not even with one who would share it.
    drop(taken);
    let naru = Naru::try_start(&bootstrap, &Options::default()).unwrap();
    let error = Naru::try_start(&bootstrap, &Options::default()).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
    assert_eq!(client::get(naru.address, "/").await.status, 503);
}

#[tokio::test]
async fn a_certificate_that_does_not_parse_is_told_by_its_owner() {
    let good = Bootstrap::to(refusing_address()).tls(&Authority::new(), &["h2"]);
    let bad = good.text().replace("MII", "!!!");
    assert_ne!(bad, good.text());
    let error = match naru_xds::load("test.yaml", &bad) {
        Err(problems) => format!("{problems:?}"),
        Ok(loaded) => {
            let snapshot = naru_journey::Snapshot::compile(loaded.config).unwrap();
            naru_proxy::Proxy::start(snapshot, &Options::default()).unwrap_err().to_string()
        }
    };
    assert!(error.contains("main") || error.contains("tls_certificates"), "{error}");
    assert!(!error.contains("PRIVATE"), "a key is nobody's to read: {error}");
}

#[tokio::test]
async fn a_request_body_that_the_client_breaks_off_is_never_whole_for_the_upstream() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let up = Upstream::plain(speaks).await;
        let lines = if speaks.is_http2() { HTTP2 } else { "" };
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, lines));
        // By closing.
        let mut client = Wire::connect(naru.address).await;
        client.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfive!").await;
        until("the upstream to have it", async || (up.requests() == 1).then_some(())).await;
        client.finish().await;
        let (said, _) = client.end().await;
        assert!(!String::from_utf8_lossy(&said).contains("whole"), "{}", String::from_utf8_lossy(&said));
        // By resetting its stream.
        let mut client = H2Client::connect(naru.address).await;
        let (response, mut body) = client.request(http2::post(naru.address, "/length"), false).await;
        body.send_data("five!".into(), false).unwrap();
        until("the upstream to have it", async || (up.requests() == 2).then_some(())).await;
        body.send_reset(h2::Reason::CANCEL);
        assert!(http2::response(response).await.is_err());
        client.close().await;
        naru.settles().await;
        let ended = naru.ended(2).await;
        let is_client = |reason| matches!(reason, Reason::ClientAborted | Reason::ClientGone);
        assert!(ended.iter().all(|(_, reason)| is_client(*reason)), "{ended:?}");
    }
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
    let Message { body, .. } = client.response().await;
    assert_eq!(body, b"ok");
}

#[tokio::test]
async fn many_failures_leave_nothing_behind() {
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", refusing_address(), HTTP2));
    let mut client = Client::plain(naru.address, Speaks::Http2).await;
    for _ in 0..50 {
        let answer = client.exchange(request(Method::POST, "/", Outbound::sized("body"))).await;
        assert_eq!(answer.status, 503);
    }
    drop(client);
    naru.settles().await;
    assert_eq!(naru.upstream_connections().await, 0);
}
