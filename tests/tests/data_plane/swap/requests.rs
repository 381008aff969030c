//! Requests: by which snapshot each of them is decided, and that none fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Frame;
use naru_base::Reason;
use naru_proxy::Options;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::client::request;
use naru_tests::files::{Directory, documents};
use naru_tests::message::{collect, next_frame};
use naru_tests::{Bootstrap, Client, Naru, Outbound, Speaks, Upstream, within};

use super::{numbered, renumbered, saying};

const CLIENTS: usize = 64;
const SWAPS: usize = 200;

/// The snapshot that a request was decided by.
async fn ask(client: &mut Client) -> usize {
    let answer = client.get("/bytes/100").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 100), "{answer:?}");
    answer.header("x-snapshot").unwrap().parse().unwrap()
}

#[tokio::test]
async fn no_request_fails_in_two_hundred_swaps_and_no_connection_closes() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let up = Upstream::plain(Speaks::Http1).await;
        let options = Options { workers: 2, seed: Some(1) };
        let first = numbered(0, up.address);
        let naru = Naru::start_on(first.clone(), &options);
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let (address, is_over) = (naru.address, Arc::clone(&is_over));
            clients.spawn(async move {
                let mut client = Client::plain(address, speaks).await;
                let (mut last, mut requests) = (0, 0_u64);
                while !is_over.load(Ordering::Relaxed) {
                    let number = ask(&mut client).await;
                    assert!(number >= last, "{number} came after {last}");
                    last = number;
                    requests += 1;
                }
                requests
            });
        }
        let mut client = Client::plain(naru.address, speaks).await;
        for number in 1..=SWAPS {
            naru.update_to(renumbered(&first, number)).await;
            assert_eq!(ask(&mut client).await, number, "it is in force once the update returns");
        }
        is_over.store(true, Ordering::Relaxed);
        let mut requests = SWAPS as u64;
        while let Some(of_client) = clients.join_next().await {
            requests += of_client.unwrap();
        }
        assert!(requests > (SWAPS + CLIENTS) as u64, "there was load: {requests}");
        assert_eq!(naru.ended(requests).await.iter().filter(|end| end.1 != Reason::Forwarded).count(), 0);
        let report = naru.report().await;
        assert_eq!(report.downstream.connections_total, CLIENTS as u64 + 1);
        // Each carries one request at a time, and none was closed.
        assert!(up.connections() <= CLIENTS as u64 + 1, "{} connections", up.connections());
        drop(client);
        naru.settles().await;
        naru.forgets_old_snapshots().await;
    }
}

#[tokio::test]
async fn a_stream_under_way_ends_by_the_snapshot_that_it_began_with() {
    let up = Upstream::plain(Speaks::Http2).await;
    let directory = Directory::new();
    let log = directory.path("access.log");
    let fields = "path: \"%REQ(:PATH)%\"\nroute: \"%ROUTE_NAME%\"\ncluster: \"%UPSTREAM_CLUSTER%\"\n";
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2).json_log(&log, fields));
    let mut client = Client::plain(naru.address, Speaks::Http2).await;
    let (body_tx, body) = Outbound::live();
    let mut call = request(Method::POST, "/echo", body);
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    body_tx.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let response = client.send(call).await.unwrap();
    let mut echoed = response.into_body();
    let first = within("an echo", next_frame(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "one");

    naru.update(&saying("new").text()).await;
    assert_eq!(naru.snapshots_in_use(), 2, "the stream still uses the old one");
    assert_eq!(client.get("/").await.text(), "new", "on the same connection");

    body_tx.send(Ok(Frame::data(Bytes::from_static(b"two")))).await.unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("17"));
    body_tx.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(body_tx);
    let (rest, end) = within("the end of the stream", collect(echoed)).await.unwrap();
    assert_eq!((rest, end), (Bytes::from_static(b"two"), Some(trailers)));

    let line = documents(&log, 1).await.pop().unwrap();
    let expected = serde_json::json!({ "path": "/echo", "route": "all", "cluster": "up" });
    assert_eq!(line, expected);
    naru.forgets_old_snapshots().await;
    assert_eq!(naru.upstream_connections().await, 0, "nobody would use it again");
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_thousand_snapshots_leave_nothing_behind() {
    let up = Upstream::plain(Speaks::Http1).await;
    let first = numbered(0, up.address);
    let naru = Naru::start_on(first.clone(), &Options { workers: 2, seed: Some(1) });
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for number in 1..=1_000 {
        naru.update_to(renumbered(&first, number)).await;
        if number % 100 == 0 {
            assert_eq!(ask(&mut client).await, number);
        }
    }
    naru.forgets_old_snapshots().await;
    assert_eq!(naru.report().await.downstream.connections_total, 1);
    assert_eq!(up.connections(), 1);
}

#[tokio::test]
async fn a_log_that_stays_is_not_opened_again_and_one_that_is_gone_is_closed() {
    let directory = Directory::new();
    let (kept, gone, new) = (directory.path("kept"), directory.path("gone"), directory.path("new"));
    let fields = "code: \"%RESPONSE_CODE%\"\n";
    let naru = Naru::start(&saying("old").json_log(&kept, fields).json_log(&gone, fields));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    client.get("/").await;
    let moved = directory.path("moved");
    std::fs::rename(&kept, &moved).unwrap();
    naru.update(&saying("new").json_log(&new, fields).json_log(&kept, fields).text()).await;
    client.get("/").await;
    documents(&moved, 2).await;
    documents(&gone, 1).await;
    documents(&new, 1).await;
    assert!(!kept.exists(), "it was opened again");
    naru_tests::until("the log that is gone to be closed", async || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut open = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        (!open.any(|path| path == gone)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_drains_takes_nothing_over() {
    let naru = Naru::start(&saying("old"));
    naru.drain();
    let error = naru.try_update(&saying("new").text()).await.unwrap_err();
    assert!(matches!(error, naru_proxy::StartError::Draining), "{error}");
}
