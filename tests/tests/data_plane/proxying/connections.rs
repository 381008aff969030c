//! How connections are made, shared, kept and ended.

use naru_base::Reason;
use naru_tests::bootstrap::{BY_ALPN, HTTP2, TO_UP, upstream_tls};
use naru_tests::http2::{self, H2Client};
use naru_tests::wire::{End, WireListener};
use naru_tests::{Authority, Bootstrap, Naru, Speaks, Upstream, Wire, client, until};

use super::{ALL, lines};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn sixty_four_streams_of_one_connection_run_at_once() {
    for speaks in ALL {
        let authority = Authority::new();
        let up = Upstream::serve(speaks, &authority).await;
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &lines(speaks, &authority)));
        let mut client = H2Client::connect(naru.address).await;
        let mut streams = Vec::new();
        for _ in 0..64 {
            streams.push(client.request(http2::post(naru.address, "/echo"), false).await);
        }
        // Each has its head before any has its body: all are under way.
        let mut open = Vec::new();
        for (response, stream) in streams {
            let response = http2::response(response).await.unwrap();
            assert_eq!(response.status(), 200);
            open.push((response.into_body(), stream));
        }
        assert_eq!(naru.report().await.downstream.requests_active, 64);
        for (number, (_, stream)) in open.iter_mut().enumerate().rev() {
            stream.send_data(format!("body of {number}").into(), true).unwrap();
        }
        for (number, (body, _)) in open.iter_mut().enumerate() {
            assert_eq!(http2::read(body).await.unwrap().0, format!("body of {number}").into_bytes());
        }
        assert_eq!(naru.report().await.downstream.connections_total, 1);
        let connections = if speaks.is_http2() { 1 } else { 64 };
        assert_eq!((up.connections(), up.requests()), (connections, 64), "{speaks:?}");
        client.close().await;
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_without_chunks_and_let_go() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    for path in ["/bytes/5", "/chunks/5"] {
        let mut client = Wire::connect(naru.address).await;
        client.send(format!("GET {path} HTTP/1.0\r\nhost: naru.test\r\n\r\n")).await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "xxxxx"));
        assert_eq!(answer.head.get("transfer-encoding"), None);
        assert_eq!(client.ends().await, End::Closed);
    }
    naru.settles().await;
}

#[tokio::test]
async fn an_http_1_0_request_goes_on_as_http_1_1() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.0\r\nhost: naru.test\r\n\r\n").await;
    let mut upstream = up.accept().await;
    let request = upstream.request().await;
    assert_eq!(request.head.first, "GET / HTTP/1.1");
    assert_eq!(request.head.get("connection"), None);
    upstream.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn a_client_that_says_close_is_answered_and_let_go() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    for _ in 0..2 {
        let mut client = Wire::connect(naru.address).await;
        client.send("GET /bytes/2 HTTP/1.1\r\nhost: naru.test\r\nconnection: close\r\n\r\n").await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "xx"));
        assert_eq!(answer.head.get("connection"), Some("close"));
        assert_eq!(client.ends().await, End::Closed);
    }
    naru.settles().await;
    // It said so of its own connection, not of that to the upstream.
    assert_eq!(up.connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_says_close_is_let_go_and_the_client_kept() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
        let mut upstream = up.accept().await;
        upstream.request().await;
        upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        let answer = client.response().await;
        assert_eq!((answer.head.get("connection"), answer.text().as_str()), (None, "ok"));
        assert_eq!(upstream.ends().await, End::Closed);
    }
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_their_order() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut client = Wire::connect(naru.address).await;
    let all: String =
        (1..=5).map(|n| format!("GET /bytes/{n} HTTP/1.1\r\nhost: naru.test\r\n\r\n")).collect();
    client.send(all).await;
    for count in 1..=5 {
        assert_eq!(client.response().await.text(), "x".repeat(count));
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_told_to_go_on() {
    for speaks in ALL {
        let authority = Authority::new();
        let up = Upstream::serve(speaks, &authority).await;
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &lines(speaks, &authority)));
        let mut client = Wire::connect(naru.address).await;
        client
            .send("POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
            .await;
        assert_eq!(client.head().await.status(), 100, "{speaks:?}");
        client.send("five!").await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "five!"));
        client.send("GET /bytes/2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "xx");
    }
}

#[tokio::test]
async fn an_idle_connection_to_an_upstream_is_closed_in_time() {
    for speaks in ALL {
        let authority = Authority::new();
        let up = Upstream::serve(speaks, &authority).await;
        let protocol = if speaks.is_http2() { "http2_protocol_options" } else { "http_protocol_options" };
        let tls = if speaks.is_tls() { upstream_tls(&authority) } else { String::new() };
        let options = HTTP2.replace("http2_protocol_options", protocol);
        let idle = format!("{options}    common_http_protocol_options: {{ idle_timeout: 0.1s }}\n{tls}");
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &idle));
        let mut client = Wire::connect(naru.address).await;
        for connections in 1..=2 {
            client.send("GET /bytes/2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(client.response().await.text(), "xx");
            assert_eq!(up.connections(), connections, "{speaks:?}");
            until("the idle connection to be closed", async || {
                (naru.upstream_connections().await == 0).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn an_upstream_sees_its_idle_connection_closed() {
    let up = WireListener::bind().await;
    let options = HTTP2.replace("http2_protocol_options", "http_protocol_options");
    let idle = format!("{options}    common_http_protocol_options: {{ idle_timeout: 0.1s }}\n");
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &idle));
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(upstream.ends().await, End::Closed);
}

#[tokio::test]
async fn an_upstream_is_told_the_name_and_the_protocols_that_are_configured() {
    for (protocol, alpn) in [("", None), (HTTP2, Some("h2")), (BY_ALPN, Some("h2"))] {
        let authority = Authority::new();
        let up = WireListener::bind().await;
        let lines = format!("{protocol}{}", upstream_tls(&authority));
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &lines));
        let mut client = Wire::connect(naru.address).await;
        client.send("GET / HTTP/1.1\r\nhost: another.test\r\n\r\n").await;
        let terminator = authority.terminator(&["h2", "http/1.1"]);
        let (_, handshake) = terminator.accept(up.accept_stream().await).await.unwrap();
        assert_eq!(handshake.server_name.as_deref(), Some("naru.test"));
        let chosen = handshake.alpn.map(|name| String::from_utf8(name).unwrap());
        assert!(
            chosen.as_deref() == alpn || alpn.is_none() && chosen.as_deref() == Some("http/1.1"),
            "{chosen:?}"
        );
    }
}

#[tokio::test]
async fn alpn_tells_what_an_upstream_speaks() {
    for speaks in [Speaks::Http1Tls, Speaks::Http2Tls] {
        let authority = Authority::new();
        let up = Upstream::serve(speaks, &authority).await;
        let lines = format!("{BY_ALPN}{}", upstream_tls(&authority));
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &lines));
        let told = client::get(naru.address, "/describe").await.json();
        assert_eq!(told["version"], if speaks.is_http2() { "HTTP/2.0" } else { "HTTP/1.1" });
    }
}

#[tokio::test]
async fn an_upstream_with_a_certificate_for_another_name_or_from_another_authority_is_refused() {
    for speaks in [Speaks::Http1Tls, Speaks::Http2Tls] {
        let authority = Authority::new();
        let up = Upstream::serve(speaks, &authority).await;
        let right = lines(speaks, &authority);
        let named = |name: &str| {
            let wanted = format!(
                "validation_context: {{ match_typed_subject_alt_names: \
                 [{{ san_type: DNS, matcher: {{ exact: {name} }} }}],"
            );
            right.replace("validation_context: {", &wanted)
        };
        for (is_trusted, lines) in [
            (true, named("naru.test")),
            (false, named("other.test")),
            (false, lines(speaks, &Authority::new())),
        ] {
            let requests = up.requests();
            let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &lines));
            let answer = client::get(naru.address, "/bytes/2").await;
            let (status, reason) =
                if is_trusted { (200, Reason::Forwarded) } else { (503, Reason::UpstreamTls) };
            assert_eq!(answer.status, status, "{lines}");
            assert_eq!(naru.ended(1).await, [(status, reason)]);
            assert_eq!(up.requests() - requests, u64::from(is_trusted));
        }
    }
}
