//! gRPC, by the client of grpcio.

use naru_tests::{Client, Outbound, Speaks, Workload, until};
use serde_json::{Value, json};

use crate::grpc::peers::Peers;

async fn start(arguments: &[&str]) -> (Peers, Workload) {
    (Peers::start().await, Workload::start(arguments).await)
}

#[tokio::test]
async fn every_shape_gives_back_what_it_is_sent() {
    let (mut peers, workload) = start(&["--name", "ratings", "--version", "v1"]).await;
    let large = "filler:3000000";
    let repeat = |times: &str| json!([["x-repeat", times]]);
    let limit = json!([["x-limit", "1"]]);
    let shapes = [
        ("Echo", json!(["one"]), json!([]), json!(["one"])),
        ("Echo", json!([""]), json!([]), json!([""])),
        ("Echo", json!([large]), json!([]), json!([large])),
        ("Join", json!(["one"]), json!([]), json!(["one"])),
        ("Join", json!(["one", "two", "three"]), limit, json!(["one"])),
        ("Spread", json!(["one"]), json!([]), json!(["one"])),
        ("Spread", json!(["one"]), repeat("3"), json!(["one", "one", "one"])),
        ("Spread", json!(["one"]), repeat("0"), json!([])),
        ("Chat", json!(["one", "two"]), json!([]), json!(["one", "two"])),
        ("Chat", json!(["one", "two"]), repeat("2"), json!(["one", "one", "two"])),
        ("Chat", json!([]), json!([]), json!([])),
    ];
    for (method, messages, metadata, expected) in shapes {
        for compressed in [false, true] {
            let call = json!({
                "service": "any.Service", "method": method,
                "messages": &messages, "metadata": metadata, "compressed": compressed,
            });
            let answer = peers.call(workload.address, call).await;
            assert_eq!(
                (&answer["code"], &answer["messages"]),
                (&json!("OK"), &expected),
                "{method} {answer}"
            );
            let initial = answer["initial"].as_array().unwrap();
            // grpcio may forget them where a status is right behind them.
            let is_stamped = initial.contains(&json!(["x-workload", "ratings/v1"]));
            assert!(is_stamped || expected == json!([]), "{method} {answer}");
        }
    }
}

#[tokio::test]
async fn a_message_comes_back_before_the_next_is_sent() {
    let (mut peers, workload) = start(&[]).await;
    let call = json!({ "method": "Chat", "messages": ["one", "two", "three"], "lockstep": true });
    let answer = peers.call(workload.address, call).await;
    assert_eq!(
        (&answer["code"], &answer["messages"]),
        (&json!("OK"), &json!(["one", "two", "three"])),
        "{answer}"
    );
}

#[tokio::test]
async fn a_status_is_as_asked_for() {
    let (mut peers, workload) = start(&[]).await;
    for (status, code) in [("5", "NOT_FOUND"), ("8", "RESOURCE_EXHAUSTED"), ("16", "UNAUTHENTICATED")] {
        let call = json!({ "method": "Spread", "messages": ["one"], "metadata": [["x-status", status]] });
        let answer = peers.call(workload.address, call).await;
        assert_eq!((&answer["code"], &answer["messages"]), (&json!(code), &json!(["one"])), "{answer}");
    }
    let failing = Workload::start(&["--errors", "100%:500"]).await;
    for method in ["Echo", "Join", "Spread", "Chat"] {
        let answer = peers.call(failing.address, json!({ "method": method, "messages": ["one"] })).await;
        assert_eq!((&answer["code"], &answer["messages"]), (&json!("UNAVAILABLE"), &json!([])), "{answer}");
        assert_eq!(answer["details"], "an error, as asked for");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_takes_its_time_and_one_that_is_open() {
    let (mut peers, slow) = start(&["--latency", "10m"]).await;
    let answer =
        peers.call(slow.address, json!({ "method": "Echo", "messages": ["one"], "timeout": 0.2 })).await;
    assert_eq!(answer["code"], "DEADLINE_EXCEEDED", "{answer}");
    // A client that does not look at its own clock.
    let open = Workload::start(&[]).await;
    for (workload, has_messages) in [(&slow, false), (&open, true)] {
        let (frames_tx, body) = Outbound::live();
        let request = http::Request::post("/a.B/C")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "200m")
            .body(body)
            .unwrap();
        let mut client = Client::plain(workload.address, Speaks::Http2).await;
        let answer = client.exchange(request).await;
        let status = answer.trailers.as_ref().unwrap_or(&answer.headers).get("grpc-status").unwrap();
        assert_eq!(status, "4", "{answer:?}");
        assert_eq!(answer.trailers.is_some(), has_messages, "{answer:?}");
        drop(frames_tx);
    }
}

#[tokio::test]
async fn a_message_that_breaks_off_or_is_too_large_is_an_error() {
    let workload = Workload::start(&[]).await;
    let check = async |body: &'static [u8], expected: &str| {
        let request = http::Request::post("/a.B/C").header("content-type", "application/grpc+proto");
        let request = request.body(Outbound::sized(body)).unwrap();
        let answer = Client::plain(workload.address, Speaks::Http2).await.exchange(request).await;
        assert_eq!(answer.header("x-workload"), Some("workload"));
        assert_eq!(answer.trailers.unwrap()["grpc-status"], expected, "{body:?}");
    };
    check(b"", "0").await;
    check(&[0, 0, 0, 0, 1, 7], "0").await;
    check(&[0, 0, 0, 0, 2, 7], "13").await;
    check(&[0, 0, 0], "13").await;
    check(&[0, 255, 255, 255, 255, 0], "8").await;
}

/// The answer of a probe, as grpcio gives it: `serving` or not.
const SERVING: &str = "\u{8}\u{1}";
const NOT_SERVING: &str = "\u{8}\u{2}";

fn health(method: &str, shape: &str, cancel_after: Value) -> Value {
    json!({
        "service": "grpc.health.v1.Health", "method": method, "shape": shape,
        "messages": [""], "cancel_after": cancel_after,
    })
}

#[tokio::test]
async fn health_is_served_without_latency_and_errors() {
    let (mut peers, workload) = start(&["--latency", "10m", "--errors", "100%"]).await;
    let answer = peers.call(workload.address, health("Check", "Echo", Value::Null)).await;
    assert_eq!((&answer["code"], &answer["messages"]), (&json!("OK"), &json!([SERVING])), "{answer}");
    // A watch goes on until its client has seen enough.
    let answer = peers.call(workload.address, health("Watch", "Spread", json!(1))).await;
    assert_eq!((&answer["code"], &answer["messages"]), (&json!("CANCELLED"), &json!([SERVING])), "{answer}");
    let answer = peers.call(workload.address, health("List", "Echo", Value::Null)).await;
    assert_eq!(answer["code"], "UNIMPLEMENTED", "{answer}");
}

#[tokio::test]
async fn a_watch_tells_when_it_becomes_ready() {
    let mut peers = Peers::start().await;
    let never = Workload::start(&["--start-after", "10m"]).await;
    let answer = peers.call(never.address, health("Check", "Echo", Value::Null)).await;
    assert_eq!(answer["messages"], json!([NOT_SERVING]), "{answer}");
    // A machine that is slow may see only the end of it.
    let soon = Workload::start(&["--start-after", "500ms"]).await;
    let answer = peers.call(soon.address, health("Watch", "Spread", json!(1))).await;
    let first = answer["messages"][0].clone();
    if first == NOT_SERVING {
        let both = Workload::start(&["--start-after", "500ms"]).await;
        let answer = peers.call(both.address, health("Watch", "Spread", json!(2))).await;
        assert_eq!(answer["messages"], json!([NOT_SERVING, SERVING]), "{answer}");
    }
    until("it to serve", async || {
        let answer = peers.call(soon.address, health("Check", "Echo", Value::Null)).await;
        (answer["messages"] == json!([SERVING])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_is_counted_and_logged_and_makes_calls() {
    let failing = Workload::start(&["--errors", "100%"]).await;
    let (mut peers, workload) = start(&["--log", "--strict", "--call", &failing.url("/called")]).await;
    let answer = peers.call(workload.address, json!({ "method": "Echo", "messages": ["one"] })).await;
    assert_eq!((&answer["code"], &answer["details"]), (&json!("UNAVAILABLE"), &json!("a call has failed")));
    let counts = |workload: &Workload| naru_tests::client::get(workload.address, "/-/stats");
    assert_eq!(counts(&workload).await.json(), json!({ "/naru.Test/Echo": 1 }));
    assert_eq!(counts(&failing).await.json(), json!({ "/called": 1 }));
    assert!(workload.stdout().contains("POST /naru.Test/Echo 200 grpc-status=14 "), "{}", workload.stdout());
}
