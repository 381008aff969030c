//! A new process takes the sockets of an old one over.

use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body::Frame;
use naru_tests::bootstrap::HTTP2;
use naru_tests::client::request;
use naru_tests::files::{Directory, documents};
use naru_tests::message::next_frame;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Client, Outbound, Speaks, Upstream, Wire, client, until, within};
use serde_json::Value;

use super::{Stand, inode};

const GET: &str = "GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n";

async fn info(admin: std::net::SocketAddr) -> Value {
    client::get(admin, "/server_info").await.json()
}

#[tokio::test]
async fn the_new_process_serves_and_the_old_one_finishes_what_it_has_begun() {
    let (up, calls) = (WireListener::bind().await, Upstream::plain(Speaks::Http2).await);
    let directory = Directory::new();
    let log = directory.path("access.log");
    let routes = "- match: { prefix: /echo }\n  route: { cluster: calls, timeout: 0s }\n\
                  - match: { prefix: / }\n  route: { cluster: up, timeout: 0s }\n";
    let bootstrap =
        Bootstrap::new(routes).cluster("up", up.address, "").cluster("calls", calls.address, HTTP2);
    let bootstrap = bootstrap.json_log(&log, "code: \"%RESPONSE_CODE%\"\npath: \"%REQ(:PATH)%\"\n").admin();
    let stand = Stand::new(&bootstrap.text());
    let mut old = stand.first(&["--workers", "2"]).await;
    let admin = old.admin.unwrap();

    // A long download, and a stream of messages.
    let mut download = Wire::connect(old.address).await;
    download.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
    assert_eq!(download.head().await.status(), 200);
    download.expect(b"hello").await;
    let (messages_tx, messages) = Outbound::live();
    let mut call = request(Method::POST, "/echo", messages);
    call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    messages_tx.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let mut streams = Client::plain(old.address, Speaks::Http2).await;
    let mut echoed = streams.send(call).await.unwrap().into_body();
    let echo = within("an echo", next_frame(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(echo.into_data().unwrap(), "one");
    // And somebody who is connected, and has not asked yet.
    let mut idle = Wire::connect(old.address).await;

    let mut new = stand.next(&["--workers", "3"]).await;
    assert_eq!((new.address, new.admin), (old.address, old.admin));
    old.says("another process has taken over; draining", 1).await;
    let told = info(admin).await;
    assert_eq!(told["command_line_options"]["concurrency"], 3, "the new one answers: {told}");
    until("the old process to be told of", async || {
        let told = info(admin).await;
        let before = told["predecessors"].as_array().unwrap().clone();
        let [process] = &before[..] else { return None };
        assert_eq!(process["state"], "DRAINING");
        (process["requests_active"] == 2).then_some(())
    })
    .await;

    // A new client is the new process's.
    let mut fresh = Wire::connect(old.address).await;
    fresh.send(GET).await;
    let mut next = up.accept().await;
    next.request().await;
    next.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew").await;
    assert_eq!(fresh.response().await.text(), "new");
    // Those of the old one have all that they asked for.
    idle.send("GET /idle HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    let mut last = up.accept().await;
    last.request().await;
    last.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold").await;
    let answer = idle.response().await;
    assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("old", Some("close")));
    assert_eq!(idle.ends().await, End::Closed);
    assert!(!old.has_ended());
    messages_tx.send(Ok(Frame::data(Bytes::from_static(b"two")))).await.unwrap();
    let echo = within("an echo", next_frame(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(echo.into_data().unwrap(), "two");
    drop(messages_tx);
    while let Some(frame) = within("the end of the stream", next_frame(&mut echoed)).await {
        let frame = frame.unwrap();
        assert!(frame.is_trailers() || frame.into_data().unwrap().is_empty());
    }
    upstream.send("world").await;
    download.expect(b"world").await;
    let exit = old.ends().await;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    until("nobody to be told of", async || {
        info(admin).await["predecessors"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    // Both have written what they did: three requests and a stream.
    let lines = documents(&log, 4).await;
    assert!(lines.iter().all(|line| line["code"] == 200), "{lines:?}");
    assert!(!new.has_ended());
}

#[tokio::test]
async fn workers_become_fewer_and_more_and_every_queue_is_served() {
    let up = Upstream::plain(Speaks::Http1).await;
    let stand = Stand::new(&Bootstrap::to(up.address).admin().text());
    let mut running = stand.first(&["--workers", "4"]).await;
    for workers in ["1", "3", "2", "8", "1"] {
        let next = stand.next(&["--workers", workers]).await;
        assert_eq!(running.ends().await.status.code(), Some(0));
        running = next;
        // The kernel spreads clients over all sockets there are.
        for _ in 0..64 {
            assert_eq!(client::get(running.address, "/bytes/3").await.text(), "xxx");
        }
    }
}

#[tokio::test]
async fn names_are_looked_up_before_the_new_process_serves() {
    let up = Upstream::plain(Speaks::Http1).await;
    let port = up.address.port();
    let lines = "type: STRICT_DNS\ndns_lookup_family: V4_ONLY\n";
    let text = Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster("up", up.address, lines).text();
    let named = text
        .replace(&format!("\"127.0.0.1\", port_value: {port}"), &format!("localhost, port_value: {port}"));
    assert_ne!(text, named);
    let stand = Stand::new(&named);
    let mut running = stand.first(&[]).await;
    until("the first process to know its upstream", async || {
        (client::get(running.address, "/bytes/3").await.status == 200).then_some(())
    })
    .await;
    for _ in 0..3 {
        let address = running.address;
        let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let until_over = std::sync::Arc::clone(&is_over);
        let asking = tokio::spawn(async move {
            while !until_over.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(client::get(address, "/bytes/3").await.status, 200);
            }
        });
        let next = stand.next(&[]).await;
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        within("the last answer", asking).await.unwrap();
        assert_eq!(std::mem::replace(&mut running, next).ends().await.status.code(), Some(0));
    }
}

#[tokio::test]
async fn listeners_come_and_go_with_a_takeover() {
    let say = |name: &str, port: u16| {
        let routes =
            "- match: { prefix: / }\n  direct_response: { status: 200, body: { inline_string: x } }\n";
        let text = Bootstrap::new(routes).listen_on(([127, 0, 0, 1], port).into()).text();
        text.split_once("  listeners:\n").unwrap().1.replace("- name: main", &format!("- name: {name}"))
    };
    let file = |listeners: &[String]| format!("static_resources:\n  listeners:\n{}", listeners.concat());
    let [gone, comes] = [(); 2].map(|()| naru_tests::up::free_address());
    let stand = Stand::new(&file(&[say("main", 0), say("gone", gone.port())]));
    let old = stand.first(&["--workers", "2"]).await;
    assert_eq!(client::get(gone, "/").await.text(), "x");
    stand.save(&file(&[say("comes", comes.port()), say("main", 0)]));
    let new = stand.next(&["--workers", "2"]).await;
    assert_eq!(new.address, old.address);
    assert_eq!(old.ends().await.status.code(), Some(0));
    assert_eq!(client::get(comes, "/").await.text(), "x");
    assert_eq!(client::get(new.address, "/").await.text(), "x");
    assert!(tokio::net::TcpStream::connect(gone).await.is_err());
}

#[tokio::test]
async fn the_socket_is_its_users_alone_and_goes_with_the_last_process() {
    let up = Upstream::plain(Speaks::Http1).await;
    let stand = Stand::new(&Bootstrap::to(up.address).text());
    // Where nobody runs, it starts like any other.
    let arguments = ["--takeover", "--takeover-path", &stand.place()].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let old = stand.started(&arguments).await;
    assert!(old.stderr().contains("nobody to take over from"), "{}", old.stderr());
    let place = stand.directory.path("takeover.sock");
    let before = inode(&place);
    assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
    let new = stand.next(&[]).await;
    assert_eq!(old.ends().await.status.code(), Some(0));
    assert_ne!(inode(&place), before);
    new.signal(rustix::process::Signal::TERM);
    assert_eq!(new.ends().await.status.code(), Some(0));
    assert!(!place.exists());
}

#[tokio::test]
async fn sigusr2_starts_a_process_that_takes_over() {
    let up = Upstream::plain(Speaks::Http1).await;
    let stand = Stand::new(&Bootstrap::to(up.address).admin().text());
    let old = stand.first(&[]).await;
    let (address, admin) = (old.address, old.admin.unwrap());
    old.signal(rustix::process::Signal::USR2);
    old.says("another process has taken over", 1).await;
    // They share an output.
    let said = old.stderr();
    let id = said.lines().find_map(|line| line.strip_prefix("naru: started process ")).unwrap();
    let id: i32 = id.split_once(' ').unwrap().0.parse().unwrap();
    assert_eq!(old.ends().await.status.code(), Some(0));
    assert_eq!(client::get(address, "/bytes/3").await.text(), "xxx");
    let mut asking = Client::plain(admin, Speaks::Http1).await;
    let quit = asking.exchange(request(Method::POST, "/quitquitquit", Outbound::empty())).await;
    assert_eq!(quit.status, 200);
    let id = rustix::process::Pid::from_raw(id).unwrap();
    until("it to end", async || rustix::process::test_kill_process(id).is_err().then_some(())).await;
}

#[tokio::test]
async fn the_drain_time_ends_what_does_not_finish_in_the_old_process_and_it_is_logged() {
    let up = WireListener::bind().await;
    let directory = Directory::new();
    let log = directory.path("access.log");
    let bootstrap = Bootstrap::to(up.address).json_log(&log, "flags: \"%RESPONSE_FLAGS%\"\n");
    let stand = Stand::new(&bootstrap.text());
    let old = stand.first(&["--drain-time", "1"]).await;
    let mut client = Wire::connect(old.address).await;
    client.send(GET).await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    let _new = stand.next(&[]).await;
    let exit = old.ends().await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("the drain time is over"), "{}", exit.stderr);
    assert_eq!(client.end().await.0, b"");
    assert_eq!(documents(&log, 1).await.len(), 1);
}
