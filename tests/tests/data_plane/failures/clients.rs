//! Clients that send garbage, too much, too little, or leave.

use http::Method;
use naru_base::Reason;
use naru_proxy::Options;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::client::{self, request};
use naru_tests::http2::{self, H2Client};
use naru_tests::wire::{End, WireListener, refusing_address};
use naru_tests::{Authority, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire, until, wait};

use super::OK;

#[tokio::test]
async fn a_client_that_sends_garbage_is_answered_400() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let garbage: [&[u8]; 10] = [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
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
            assert_eq!(ended, [(400, Reason::ClientProtocol)]);
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
    // What naru adds itself does not count.
    for (count, status) in [(19, 200), (20, 431)] {
        let fields: String = (0..count).map(|n| format!("x-{n}: value\r\n")).collect();
        let mut client = Wire::connect(naru.address).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).await;
        assert_eq!(client.response().await.status(), status, "{count} beside the host");
    }
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

#[tokio::test]
async fn an_answer_that_overtakes_its_request_is_not_lost() {
    const LENGTH: usize = 8 << 20;
    let naru = Naru::start(&Bootstrap::new("- match: { prefix: / }\n  direct_response: { status: 403 }\n"));
    for is_read_first in [false, true] {
        let mut client = Wire::connect(naru.address).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n")).await;
        if is_read_first {
            assert_eq!(client.response().await.status(), 403);
        }
        assert_eq!(client.try_flood(LENGTH, wait::PATIENCE).await.unwrap(), None, "all is taken");
        if !is_read_first {
            assert_eq!(client.response().await.status(), 403);
        }
        assert_eq!(client.ends().await, End::Closed);
    }
    // Who sends nothing more and does not close is not waited for.
    let mut client = Wire::connect(naru.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 403);
    assert_eq!(client.ends().await, End::Closed);
    naru.settles().await;
}
