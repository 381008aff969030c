//! What it answers.

use std::process::Command;
use std::time::{Duration, Instant};

use http::{Method, Request};
use naru_tests::client::request;
use naru_tests::files::{Directory, lines};
use naru_tests::{Answer, Client, Outbound, Speaks, Wire, Workload, client};
use serde_json::{Value, json};

/// What curl prints.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["--silent", "--show-error"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn patch(workload: &Workload, change: Value) -> Answer {
    let mut client = Client::plain(workload.address, Speaks::Http1).await;
    client.exchange(request(Method::PATCH, "/-/settings", Outbound::sized(change.to_string()))).await
}

#[tokio::test]
async fn curl_is_told_its_request_over_both_protocols_on_one_port() {
    let workload = Workload::start(&["--name", "reviews", "--version", "v2"]).await;
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let url = workload.url("/reviews/0?full=yes");
        let asked = ["-H", "end-user: jason", "-H", "x-request-id: 17", "-H", "cookie: secret", "-d", "body"];
        let said = curl(&[&[protocol, "-w", "%{http_version} %{content_type}", &url], &asked[..]].concat());
        let (body, rest) = said.split_once('\n').unwrap();
        assert_eq!(rest, format!("{version} application/json"));
        let expected = json!({
            "service": "reviews",
            "version": "v2",
            "host": workload.address.to_string(),
            "path": "/reviews/0",
            "method": "POST",
            "headers": { "end-user": "jason", "x-request-id": "17" },
            "calls": [],
        });
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
    }
}

#[tokio::test]
async fn an_answer_says_who_gave_it_and_not_what_with() {
    let workload = Workload::start(&["--name", "reviews", "--version", "v2"]).await;
    let lone = Workload::start(&["--name", "ratings"]).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let answer = Client::plain(workload.address, speaks).await.get("/").await;
        assert_eq!((answer.header("x-workload"), answer.header("server")), (Some("reviews/v2"), None));
        let answer = Client::plain(lone.address, speaks).await.get("/").await;
        assert_eq!(answer.header("x-workload"), Some("ratings"));
    }
}

#[tokio::test]
async fn status_headers_and_body_are_as_said() {
    let directory = Directory::new();
    let file = directory.write("body.json", "{\"from\": \"a file\"}");
    let file = format!("@{}", file.display());
    let said =
        ["--status", "418", "--header", "x-a: 1", "--header", "x-a: 2", "--on", "/gone=410:it was here"];
    let text =
        Workload::start(&[&said[..], &["--body", "short and stout", "--on", "/none=204"]].concat()).await;
    let document = Workload::start(&["--body", &file, "--header", "content-type: text/x-mine"]).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::plain(text.address, speaks).await;
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (418, "short and stout"));
        assert_eq!(answer.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
        let answer = client.get("/gone?query=is-not-the-path").await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (410, "it was here"));
        let answer = client.get("/none").await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
        assert_eq!((answer.header("content-type"), answer.header("content-length")), (None, None));
        // A head says what a whole answer would have had.
        let answer = client.exchange(request(Method::HEAD, "/", Outbound::empty())).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (418, ""));
        assert_eq!(answer.header("content-length"), Some("15"));
        let answer = Client::plain(document.address, speaks).await.get("/").await;
        assert_eq!(answer.json(), json!({ "from": "a file" }));
        assert_eq!(answer.header("content-type"), Some("text/x-mine"));
    }
}

/// The statuses of so many answers, one after the other.
async fn statuses(arguments: &[&str], count: usize) -> Vec<u16> {
    let workload = Workload::start(arguments).await;
    let mut client = Client::plain(workload.address, Speaks::Http1).await;
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(client.get("/").await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn errors_come_in_their_share_and_the_same_seed_gives_the_same_ones() {
    let first = statuses(&["--errors", "20%:500", "--seed", "7"], 1_000).await;
    let failed = first.iter().filter(|status| **status == 500).count();
    assert!((150..250).contains(&failed), "{failed}");
    assert_eq!(first.iter().filter(|status| **status == 200).count(), 1_000 - failed);
    assert_eq!(statuses(&["--errors", "20%:500", "--seed", "7"], 200).await, first[..200]);
    assert_ne!(statuses(&["--errors", "20%:500", "--seed", "8"], 200).await, first[..200]);
    assert_eq!(statuses(&["--errors", "100%"], 3).await, [503; 3]);
}

#[tokio::test]
async fn an_answer_takes_its_time() {
    let workload = Workload::start(&["--latency", "80ms"]).await;
    let began = Instant::now();
    assert_eq!(client::get(workload.address, "/").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    // They do not wait for each other: one after the other would take longer than a test waits.
    patch(&workload, json!({ "latency": "1s" })).await;
    let all = (0..60).map(|_| tokio::spawn(client::get(workload.address, "/")));
    for answer in all.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn settings_change_while_it_runs() {
    let workload = Workload::start(&["--body", "before"]).await;
    let before = json!({ "latency": "0ns", "errors": "0%:503", "status": 200, "body": "before" });
    assert_eq!(client::get(workload.address, "/-/settings").await.json(), before);
    let after = json!({ "latency": "1ms..2ms", "errors": "100%:500", "status": 201, "body": null });
    let answer = patch(&workload, after.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, after.clone()));
    assert_eq!(client::get(workload.address, "/").await.status, 500);
    assert_eq!(patch(&workload, json!({ "errors": "0%" })).await.json()["errors"], "0%:503");
    let answer = client::get(workload.address, "/").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["path"]), (201, &json!("/")));
    // Nothing of a change that is wrong is taken.
    let answer = patch(&workload, json!({ "status": 404, "latency": "soon" })).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"].as_str().unwrap().contains("'soon'"), "{}", answer.text());
    assert_eq!(client::get(workload.address, "/").await.status, 201);
    let mut client = Client::plain(workload.address, Speaks::Http1).await;
    let answer = client.exchange(request(Method::DELETE, "/-/settings", Outbound::empty())).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, HEAD, PATCH")));
}

#[tokio::test]
async fn requests_are_counted_by_path() {
    let workload = Workload::start(&["--errors", "100%"]).await;
    for path in ["/a", "/b?x=1", "/a?x=2", "/healthz", "/-/stats"] {
        client::get(workload.address, path).await;
    }
    assert_eq!(client::get(workload.address, "/-/stats").await.json(), json!({ "/a": 2, "/b": 1 }));
}

#[tokio::test]
async fn paths_without_end_are_counted_together() {
    let workload = Workload::start(&[]).await;
    let mut client = Client::plain(workload.address, Speaks::Http1).await;
    for number in 0..1_100 {
        client.get(&format!("/{number}")).await;
    }
    let counts = client.get("/-/stats").await.json();
    assert_eq!(counts.as_object().unwrap().len(), 1_001);
    assert_eq!(
        (&counts["/999"], &counts["/1000"], &counts["(others)"]),
        (&json!(1), &Value::Null, &json!(100))
    );
}

#[tokio::test]
async fn probes_know_neither_latency_nor_errors() {
    let workload = Workload::start(&["--latency", "10m", "--errors", "100%", "--status", "500"]).await;
    for path in ["/healthz", "/readyz"] {
        let answer = client::get(workload.address, path).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "ok\n"));
    }
}

#[tokio::test]
async fn a_log_has_a_line_for_every_request() {
    let directory = Directory::new();
    let workload = Workload::start(&["--log", "--on", "/gone=410"]).await;
    assert_eq!(curl(&[&workload.url("/gone?a=b"), "-o", directory.path("out").to_str().unwrap()]), "");
    client::get(workload.address, "/healthz").await;
    let said = workload.stdout();
    let said: Vec<_> = said.lines().skip(1).map(|line| line.rsplit_once(' ').unwrap()).collect();
    assert_eq!(
        said.iter().map(|(words, _)| *words).collect::<Vec<_>>(),
        ["GET /gone?a=b 410", "GET /healthz 200"]
    );
    assert!(said.iter().all(|(_, took)| took.ends_with("ms")), "{said:?}");
}

#[tokio::test]
async fn a_large_body_is_read_and_not_held() {
    const BYTES: u64 = 128 << 20;
    let workload = Workload::start(&[]).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for has_length in [true, false] {
            let body = Outbound::filler(BYTES, has_length);
            let mut client = Client::plain(workload.address, speaks).await;
            assert_eq!(client.exchange(request(Method::POST, "/", body)).await.status, 200);
        }
    }
    assert!(workload.memory("VmHWM") < BYTES / 4, "{}", workload.memory("VmHWM"));
}

#[tokio::test]
async fn a_preface_may_come_in_pieces_or_not_at_all() {
    let workload = Workload::start(&[]).await;
    let mut slow = Wire::connect(workload.address).await;
    for piece in ["P", "R", "I * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        slow.send(piece).await;
        // Whoever comes later is answered meanwhile.
        assert_eq!(client::get(workload.address, "/").await.status, 200);
    }
    // Empty settings, of each side.
    slow.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let frame = slow.exactly(9).await.unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
    // A client that leaves amid it leaves nothing behind that goes on.
    let mut half = Wire::connect(workload.address).await;
    half.send("PR").await;
    half.finish().await;
    half.end().await;
    // And a method that only begins like it is one of HTTP/1.
    let mut put = Wire::connect(workload.address).await;
    put.send("PROPFIND / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(put.response().await.status(), 200);
}

#[tokio::test]
async fn an_answer_tells_the_headers_that_were_asked_for() {
    let workload = Workload::start(&["--forward-header", "x-forwarded-client-cert"]).await;
    let mut client = Client::plain(workload.address, Speaks::Http2).await;
    let asked = Request::builder().uri("/").header("x-forwarded-client-cert", "By=a").header("x-other", "b");
    let answer = client.exchange(asked.body(Outbound::empty()).unwrap()).await;
    assert_eq!(answer.json()["headers"], json!({ "x-forwarded-client-cert": "By=a" }));
    assert_eq!(answer.json()["host"], "naru.test");
}

#[tokio::test]
async fn lines_of_a_log_are_whole_when_they_are_written() {
    let workload = Workload::start(&["--log"]).await;
    let all = (0..50).map(|_| tokio::spawn(client::get(workload.address, "/")));
    for answer in all.collect::<Vec<_>>() {
        answer.await.unwrap();
    }
    let file = Directory::new();
    let copy = file.write("log", &workload.stdout());
    assert!(lines(&copy, 51).await[1..].iter().all(|line| line.starts_with("GET / 200 ")));
}
