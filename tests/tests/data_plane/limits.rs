//! How much a connection carries, how long it stays, and what naru holds for it.

use bytes::Bytes;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::http2::{self, H2Client, H2Server};
use naru_tests::message::next_frame;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Client, Naru, Outbound, Program, Speaks, Upstream, Wire, client, until, within};

const GET: &str = "GET /bytes/2 HTTP/1.1\r\nhost: naru.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_to_an_upstream_carries_no_more_than_its_share() {
    for (speaks, share, connections) in
        [(Speaks::Http1, 2, 3), (Speaks::Http2, 2, 3), (Speaks::Http1, 1, 5), (Speaks::Http2, 1, 5)]
    {
        let up = Upstream::plain(speaks).await;
        let options = HTTP2.trim_end().to_owned();
        let options =
            if speaks.is_http2() { options } else { options.replace("http2_protocol", "http_protocol") };
        let lines = format!(
            "{options}\n    common_http_protocol_options: {{ max_requests_per_connection: {share} }}\n"
        );
        let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, &lines));
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        for _ in 0..5 {
            assert_eq!(client.get("/bytes/2").await.text(), "xx");
        }
        assert_eq!((up.requests(), up.connections()), (5, connections), "{speaks:?}");
        // With a share of two, the last one has carried one request and waits for another.
        until("what is used up to be closed", async || {
            (naru.upstream_connections().await == share - 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_clients_connection_carries_no_more_than_its_share() {
    let up = Upstream::plain(Speaks::Http1).await;
    let share = "common_http_protocol_options: { max_requests_per_connection: 2 }";
    let naru = Naru::start(&Bootstrap::to(up.address).manager(share));
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let first = client.response().await;
    assert_eq!((first.text().as_str(), first.head.get("connection")), ("xx", None));
    client.send(GET).await;
    let last = client.response().await;
    assert_eq!((last.text().as_str(), last.head.get("connection")), ("xx", Some("close")));
    assert_eq!(client.ends().await, End::Closed);

    let mut client = H2Client::connect(naru.address).await;
    for _ in 0..2 {
        let (response, _) = client.request(http2::get(naru.address, "/bytes/2"), true).await;
        let mut body = http2::response(response).await.unwrap().into_body();
        assert_eq!(http2::read(&mut body).await.unwrap().0, b"xx");
    }
    until("the client to be told to go away", async || {
        client.try_request(http2::get(naru.address, "/bytes/2"), true).await.is_err().then_some(())
    })
    .await;
    naru.settles().await;
    assert_eq!(naru.report().await.downstream.requests_total, up.requests());
}

#[tokio::test]
async fn a_client_that_asks_nothing_for_too_long_is_let_go() {
    let up = WireListener::bind().await;
    let idle = "common_http_protocol_options: { idle_timeout: 0.1s }";
    let naru = Naru::start(&Bootstrap::to(up.address).manager(idle));
    // A request that takes longer does not count as idle.
    let mut busy = Wire::connect(naru.address).await;
    busy.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    let mut idle = Wire::connect(naru.address).await;
    assert_eq!(idle.ends().await, End::Closed);
    let idle = H2Client::connect(naru.address).await;
    until("the idle connections to be gone", async || {
        (naru.report().await.downstream.connections_active == 1).then_some(())
    })
    .await;
    drop(idle);
    upstream.send(OK).await;
    assert_eq!(busy.response().await.text(), "ok");
    assert_eq!(busy.ends().await, End::Closed);
    naru.settles().await;
}

#[tokio::test]
async fn a_client_may_open_so_many_streams_and_the_others_wait() {
    let up = WireListener::bind().await;
    let streams = "http2_protocol_options: { max_concurrent_streams: 2 }";
    let naru = Naru::start(&Bootstrap::new(TO_UP).manager(streams).cluster("up", up.address, HTTP2));
    let mut client = H2Client::connect(naru.address).await;
    until("the client to know", async || (client.streams_max() == 2).then_some(())).await;
    let mut responses = Vec::new();
    for _ in 0..2 {
        responses.push(client.request(http2::get(naru.address, "/"), true).await.0);
    }
    let mut upstream = H2Server::accept(up.accept_stream().await).await;
    let third = client.request(http2::get(naru.address, "/third"), true);
    let serve = async {
        let (_, mut first) = upstream.request().await.unwrap();
        let _second = upstream.request().await.unwrap();
        assert_eq!(naru.report().await.downstream.requests_active, 2);
        first.send_response(http::Response::new(()), true).unwrap();
        let (request, mut respond) = upstream.request().await.unwrap();
        assert_eq!(request.uri().path(), "/third");
        respond.send_response(http::Response::new(()), true).unwrap();
    };
    let ((response, _), ()) = tokio::join!(third, serve);
    assert_eq!(http2::response(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn while_naru_drains_what_has_begun_is_finished_and_nothing_begins() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address));
    let mut http1 = Wire::connect(naru.address).await;
    http1.send(GET).await;
    let mut first = up.accept().await;
    first.request().await;
    let mut http2 = H2Client::connect(naru.address).await;
    let (response, _) = http2.request(http2::get(naru.address, "/"), true).await;
    let mut second = up.accept().await;
    second.request().await;
    naru.drain();
    until("new connections to be refused", async || {
        tokio::net::TcpStream::connect(naru.address).await.is_err().then_some(())
    })
    .await;
    until("the client to be told to go away", async || {
        http2.try_request(http2::get(naru.address, "/late"), true).await.is_err().then_some(())
    })
    .await;
    first.send(OK).await;
    second.send(OK).await;
    let answer = http1.response().await;
    assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("ok", Some("close")));
    assert_eq!(http1.ends().await, End::Closed);
    let mut body = http2::response(response).await.unwrap().into_body();
    assert_eq!(http2::read(&mut body).await.unwrap().0, b"ok");
    until("the workers to end", async || naru.has_ended().then_some(())).await;
}

/// A body of `size` bytes to the upstream, and one of that size from there.
async fn both_ways(client: &mut Client, size: u64) {
    let upload = client::request(http::Method::POST, "/length", Outbound::filler(size, false));
    assert_eq!(client.exchange(upload).await.text(), format!("{size} whole"));
    let download = client::request(http::Method::GET, &format!("/chunks/{size}"), Outbound::empty());
    let mut body = client.send(download).await.unwrap().into_body();
    let mut received = 0;
    while let Some(frame) = within("a frame", next_frame(&mut body)).await {
        received += frame.unwrap().data_ref().map_or(0, Bytes::len) as u64;
    }
    assert_eq!(received, size);
}

#[tokio::test]
async fn a_body_of_any_size_costs_no_memory() {
    const SIZE: u64 = 64 * 1024 * 1024;
    /// A part of the body, and more than the windows of both connections.
    const GROWTH_MAX: u64 = SIZE / 4;
    let windows = "initial_stream_window_size: 65536, initial_connection_window_size: 1048576";
    let manager = format!("http2_protocol_options: {{ {windows} }}");
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let up = Upstream::plain(speaks).await;
        let cluster = HTTP2.replace("http2_protocol_options: {}", &manager);
        let cluster = if speaks.is_http2() { cluster.as_str() } else { "" };
        let bootstrap = Bootstrap::new(TO_UP).manager(&manager).cluster("up", up.address, cluster);
        let program = Program::start(&bootstrap, &[]).await;
        let mut client = Client::plain(program.address, speaks).await;
        // The first bodies bring the program's own pages into memory, the others are counted.
        both_ways(&mut client, SIZE / 64).await;
        let before = program.memory_from_now();
        both_ways(&mut client, SIZE).await;
        let growth = program.memory_max().saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{speaks:?}: {growth} bytes more than before");
    }
}
