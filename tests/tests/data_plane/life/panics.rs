//! A panic ends one connection, and nothing else.

use bytes::Bytes;
use http::Method;
use http_body::Frame;
use naru_tests::bootstrap::HTTP2;
use naru_tests::client::request;
use naru_tests::files::{Directory, documents};
use naru_tests::message::next_frame;
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire, client, until, within};

const GET: &str = "GET /bytes/2 HTTP/1.1\r\nhost: naru.test\r\n\r\n";

async fn panics(naru: &Naru, count: u64) {
    until("panics to be counted", async || (naru.report().await.downstream.panics == count).then_some(()))
        .await;
}

#[tokio::test]
async fn a_connection_that_panics_is_counted_and_leaves_nothing_behind() {
    let directory = Directory::new();
    let log = directory.path("access.log");
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::to(up.address).json_log(&log, "flags: \"%RESPONSE_FLAGS%\"\n"));
    // Nothing asked, half a head, a request at its upstream, half a response.
    let idle = Wire::connect(naru.address).await;
    let mut half = Wire::connect(naru.address).await;
    half.send(&GET[..10]).await;
    let mut asking = Wire::connect(naru.address).await;
    asking.send(GET).await;
    let mut first = up.accept().await;
    first.request().await;
    let mut reading = Wire::connect(naru.address).await;
    reading.send(GET).await;
    let mut second = up.accept().await;
    second.request().await;
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
    reading.head().await;
    until("four connections", async || {
        (naru.report().await.downstream.connections_active == 4).then_some(())
    })
    .await;
    naru.provoke_panics();
    for mut wire in [idle, half, asking, reading] {
        wire.end().await;
    }
    panics(&naru, 4).await;
    // Those that were under way have lines, as if their clients had gone.
    assert_eq!(documents(&log, 2).await.len(), 2);
    drop((first, second));
    naru.settles().await;

    let mut after = Wire::connect(naru.address).await;
    after.send(GET).await;
    let mut third = up.accept().await;
    third.request().await;
    third.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(after.response().await.text(), "ok");
    assert_eq!(naru.report().await.downstream.panics, 4);
}

#[tokio::test]
async fn streams_of_a_connection_that_panics_are_broken_off_and_nothing_stays_counted() {
    let up = Upstream::plain(Speaks::Http2).await;
    let naru = Naru::start(&Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster("up", up.address, HTTP2));
    let mut client = Client::plain(naru.address, Speaks::Http2).await;
    let (messages_tx, messages) = Outbound::live();
    messages_tx.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let mut echoed = client.send(request(Method::POST, "/echo", messages)).await.unwrap().into_body();
    within("an echo", next_frame(&mut echoed)).await.unwrap().unwrap();
    naru.provoke_panics();
    panics(&naru, 1).await;
    assert!(within("the end", next_frame(&mut echoed)).await.unwrap().is_err());
    drop(messages_tx);
    naru.settles().await;
    assert_eq!(client::get(naru.address, "/bytes/3").await.text(), "xxx");
}

#[tokio::test]
async fn a_worker_that_panics_is_counted_and_the_others_serve() {
    let up = Upstream::plain(Speaks::Http1).await;
    let options = naru_proxy::Options { workers: 2, seed: Some(1) };
    let naru = Naru::start_with(&Bootstrap::to(up.address), &options);
    assert_eq!(naru.sockets().await, 2);
    naru.provoke_worker();
    panics(&naru, 1).await;
    // Its sockets are closed by now, or soon; then everybody is served by the other.
    until("everybody to be served", async || {
        for _ in 0..16 {
            let mut wire = Wire::new(tokio::net::TcpStream::connect(naru.address).await.ok()?);
            if !wire.try_send(GET).await || wire.try_head().await.is_err() {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_eq!(naru.sockets().await, 1, "another process can still take over");
}
