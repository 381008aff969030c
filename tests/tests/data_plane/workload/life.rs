//! How it starts, and how it ends.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use naru_tests::files::Directory;
use naru_tests::wire::{End, WireListener};
use naru_tests::workload::run;
use naru_tests::{Client, Speaks, Wire, Workload, client, until};
use rustix::process::Signal;
use serde_json::json;

/// Less than what it waits for requests that do not finish.
const SOON: Duration = Duration::from_secs(4);

async fn until_refused(workload: &Workload) {
    until("new connections to be refused", async || {
        tokio::net::TcpStream::connect(workload.address).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn its_first_line_says_who_listens_where() {
    let workload = Workload::start(&["--name", "reviews", "--version", "v2"]).await;
    assert_eq!(workload.stdout(), format!("reviews v2 listens on {}\n", workload.address));
    assert_eq!(workload.address.ip(), Ipv4Addr::LOCALHOST);
    let everywhere = Workload::start(&["--address", "0.0.0.0"]).await;
    assert_eq!(everywhere.stdout(), format!("workload listens on {}\n", everywhere.address));
    assert_eq!(everywhere.address.ip(), Ipv4Addr::UNSPECIFIED);
}

#[tokio::test]
async fn the_port_is_that_of_the_environment_unless_one_is_said() {
    let taken = WireListener::bind().await;
    let port = taken.address.port().to_string();
    // Which port it takes is seen where it cannot have it.
    let exit = run(&[("PORT", &port)], &["--name", "reviews"]).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    let expected = format!("reviews cannot listen on {}", taken.address);
    assert!(exit.stderr.contains(&expected) && exit.stderr.contains("in use"), "{}", exit.stderr);
    assert_eq!(exit.stdout, "");
    let workload = Workload::start_in(&[("PORT", &port)], &[]).await;
    assert_ne!(workload.address, taken.address);
    let exit = run(&[("PORT", "http")], &[]).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("PORT is 'http'"), "{}", exit.stderr);
}

#[tokio::test]
async fn what_is_said_wrongly_is_told_with_code_2() {
    for (flag, value) in [
        ("--port", "70000"),
        ("--address", "here"),
        ("--latency", "20"),
        ("--latency", "50ms..10ms"),
        ("--errors", "5"),
        ("--errors", "500%"),
        ("--status", "99"),
        ("--header", "nonsense"),
        ("--on", "a=404"),
        ("--call", "reviews:9080"),
        ("--call", "https://reviews/"),
        ("--call-grpc", "reviews:9080"),
        ("--call-timeout", "soon"),
        ("--forward-header", "a b"),
        ("--start-after", "-1s"),
        ("--exit-after", "1"),
        ("--exit-code", "256"),
        ("--seed", "x"),
        ("--nonsense", "x"),
    ] {
        let exit = run(&[], &[&format!("{flag}={value}")]).await;
        assert_eq!((exit.status.code(), exit.stdout.as_str()), (Some(2), ""), "{flag} {}", exit.stderr);
        assert!(exit.stderr.contains(flag) && exit.stderr.contains("--help"), "{}", exit.stderr);
    }
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_told_with_code_1() {
    let directory = Directory::new();
    let missing = directory.path("missing").display().to_string();
    let calls = ["--call", "http://reviews/"];
    let body = format!("@{missing}");
    let body = ["--body", &body];
    let line = ["--name", "two\nlines"];
    for (environment, arguments, word) in [
        (&[][..], &body, missing.as_str()),
        (&[("http_proxy", "https://proxy:1")], &calls, "http_proxy='https://proxy:1'"),
        (&[], &line, "cannot be a header"),
    ] {
        let exit = run(environment, &[&["--port", "0"], &arguments[..]].concat()).await;
        assert_eq!((exit.status.code(), exit.stdout.as_str()), (Some(1), ""), "{}", exit.stderr);
        assert!(exit.stderr.contains(word), "{}", exit.stderr);
    }
    // Where nobody is called, a proxy does not matter.
    Workload::start_in(&[("http_proxy", "https://proxy:1")], &[]).await;
}

#[tokio::test]
async fn it_is_ready_after_its_time() {
    let never = Workload::start(&["--start-after", "10m"]).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client::get(never.address, path).await.status, 503);
    }
    // Whoever asks nevertheless is answered.
    assert_eq!(client::get(never.address, "/").await.status, 200);
    let soon = Workload::start(&["--start-after", "100ms"]).await;
    until("it to be ready", async || {
        (client::get(soon.address, "/readyz").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn sigterm_lets_requests_finish_and_takes_no_more() {
    for (speaks, signal) in [(Speaks::Http1, Signal::TERM), (Speaks::Http2, Signal::INT)] {
        let up = WireListener::bind().await;
        let workload = Workload::start(&["--call", &format!("http://{}/", up.address)]).await;
        let mut client = Client::plain(workload.address, speaks).await;
        let (answer, exit) = tokio::join!(client.get("/"), async {
            let mut wire = up.accept().await;
            wire.request().await;
            workload.signal(signal);
            until_refused(&workload).await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await;
            workload.ends().await
        });
        assert_eq!(answer.json()["calls"][0]["body"], json!("late"));
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    }
}

#[tokio::test]
async fn sigterm_does_not_wait_for_those_who_ask_nothing() {
    let workload = Workload::start(&[]).await;
    let silent = Wire::connect(workload.address).await;
    let mut half = Wire::connect(workload.address).await;
    half.send("PR").await;
    let mut idle = Client::plain(workload.address, Speaks::Http1).await;
    idle.get("/").await;
    let mut idle2 = Client::plain(workload.address, Speaks::Http2).await;
    idle2.get("/").await;
    // A watch of its health would go on for ever.
    let watch =
        http::Request::post("/grpc.health.v1.Health/Watch").header("content-type", "application/grpc");
    let watch = idle2.send(watch.body(naru_tests::Outbound::empty()).unwrap()).await.unwrap();
    let asked = Instant::now();
    workload.signal(Signal::TERM);
    let exit = workload.ends().await;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    drop((silent, half, watch));
}

#[tokio::test]
async fn sigterm_does_not_wait_for_ever() {
    let workload = Workload::start(&["--latency", "10m", "--log"]).await;
    let mut client = Wire::connect(workload.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // It is under way, as it was counted.
    until("the request to come in", async || {
        let counts = client::get(workload.address, "/-/stats").await.json();
        (counts == json!({ "/": 1 })).then_some(())
    })
    .await;
    workload.signal(Signal::TERM);
    assert_eq!(workload.ends().await.status.code(), Some(0));
    assert_ne!(client.end().await.1, End::Reset);
}

#[tokio::test]
async fn it_exits_by_itself_with_the_code_that_was_said() {
    for (arguments, code) in
        [(&["--exit-after", "50ms"][..], 1), (&["--exit-after", "50ms", "--exit-code", "7"], 7)]
    {
        let workload = Workload::start(arguments).await;
        assert_eq!(workload.ends().await.status.code(), Some(code));
    }
}

#[tokio::test]
async fn it_takes_little_memory() {
    let workload = Workload::start(&[]).await;
    let mut client = Client::plain(workload.address, Speaks::Http1).await;
    for _ in 0..1_000 {
        client.get("/").await;
    }
    let all = (0..64).map(|_| tokio::spawn(client::get(workload.address, "/")));
    for answer in all.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    // What is its own: pages of the program are shared by all that run.
    let own = workload.memory("RssAnon");
    assert!(own < 6 << 20, "{own}");
}
