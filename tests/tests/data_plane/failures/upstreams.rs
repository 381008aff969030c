//! An upstream that fails, resets or lies, and what the client is told of it.

use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, TO_UP, upstream_tls};
use naru_tests::client;
use naru_tests::http2::{self, H2Client, H2Server};
use naru_tests::wire::{BlackHole, End, Transfer, WireListener, refusing_address};
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream, Wire, within};

use super::{GET, OK, RESET};

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
