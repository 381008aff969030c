//! gRPC by a client and a server that others have written: grpcio, in Python.

mod interop;
mod web;
pub mod peers;

use std::collections::BTreeMap;

use naru_base::Reason;
use naru_proxy::metrics::Protocol;
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::{Authority, Bootstrap, Naru};
use serde_json::{Value, json};

use peers::Peers;

/// gRPC to the peers' server.
async fn start() -> (Peers, Naru) {
    let peers = Peers::start().await;
    let naru = Naru::start(&Bootstrap::new(TO_UP).cluster("up", peers.server, HTTP2));
    (peers, naru)
}

/// Waits until `count` calls have ended and nothing is under way, and says how they did: all of them
/// are gRPC.
async fn ended(naru: &Naru, count: u64) -> BTreeMap<(Reason, Option<u8>), u64> {
    naru.settles().await;
    naru.ended(count).await;
    let mut all = BTreeMap::new();
    for series in naru.report().await.series {
        assert_eq!(series.labels.protocol, Protocol::Grpc);
        *all.entry((series.labels.reason, series.labels.grpc_status)).or_default() += series.requests();
    }
    all
}

fn forwarded(status: u8, count: u64) -> BTreeMap<(Reason, Option<u8>), u64> {
    BTreeMap::from([((Reason::Forwarded, Some(status)), count)])
}

fn value<'a>(metadata: &'a Value, name: &str) -> Option<&'a str> {
    let pairs = metadata.as_array().unwrap().iter();
    let mut found = pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap());
    let first = found.next();
    assert_eq!(found.next(), None, "{name} stands more than once: {metadata}");
    first
}

#[tokio::test]
async fn metadata_passes_both_ways_at_the_head_and_at_the_end() {
    let (mut peers, naru) = start().await;
    let call = json!({ "method": "Echo", "messages": ["hello"], "metadata": [["x-mine", "kept"]] });
    let answer = peers.call(naru.address, call).await;
    assert_eq!((&answer["code"], &answer["details"]), (&"OK".into(), &"".into()), "{answer}");
    assert_eq!(answer["messages"], json!(["hello"]));
    assert_eq!(value(&answer["initial"], "x-mine"), Some("kept"));
    assert_eq!(value(&answer["initial"], "x-mine-bin"), Some("01fe"));
    assert_eq!(value(&answer["trailing"], "x-end"), Some("of the call"));
    assert_eq!(value(&answer["trailing"], "x-end-bin"), Some("00ff"));
    let seen = &peers.seen(1).await[0];
    assert_eq!(value(&seen["metadata"], "x-mine"), Some("kept"));
    assert_eq!(value(&seen["metadata"], "x-mine-bin"), Some("01fe"));
    assert!(value(&seen["metadata"], "user-agent").unwrap().starts_with("grpc-python-asyncio/"));
    assert!(value(&seen["metadata"], "x-request-id").is_some(), "{seen}");
    // Nobody has asked for a deadline, and none was made up.
    assert_eq!(seen["remaining"], Value::Null);
    assert_eq!(ended(&naru, 1).await, forwarded(0, 1));
}

#[tokio::test]
async fn all_four_shapes_pass_with_and_without_tls() {
    for is_tls in [false, true] {
        let authority = Authority::new();
        let mut peers = Peers::start().await;
        let mut bootstrap = Bootstrap::new(TO_UP).cluster("up", peers.server, HTTP2);
        if is_tls {
            bootstrap = bootstrap.tls(&authority, &["h2", "http/1.1"]);
        }
        let naru = Naru::start(&bootstrap);
        let shapes = [
            ("Echo", json!(["one"]), json!(["one"])),
            ("Join", json!(["one", "two", "three"]), json!(["one+two+three"])),
            ("Join", json!([]), json!([""])),
            ("Spread", json!(["3"]), json!(["1", "2", "3"])),
            ("Spread", json!(["0"]), json!([])),
            ("Chat", json!(["one", "two", "end"]), json!(["re: one", "re: two", "re: end"])),
        ];
        let count = shapes.len();
        for (method, messages, expected) in shapes {
            let call = json!({ "method": method, "messages": messages });
            let ca = is_tls.then(|| authority.pem());
            let answer = peers.calls(naru.address, ca, vec![call]).await.remove(0);
            assert_eq!(
                (&answer["code"], &answer["messages"]),
                (&"OK".into(), &expected),
                "{method} {answer}"
            );
        }
        assert!(peers.seen(count).await.iter().all(|seen| seen["ended"] == "answered"));
        assert_eq!(ended(&naru, count as u64).await, forwarded(0, count as u64));
    }
}

#[tokio::test]
async fn each_message_of_a_chat_passes_before_the_next_is_sent() {
    let (mut peers, naru) = start().await;
    let call = json!({ "method": "Chat", "messages": ["one", "two", "end"], "lockstep": true });
    let answer = peers.call(naru.address, call).await;
    assert_eq!(answer["code"], "OK", "{answer}");
    assert_eq!(answer["messages"], json!(["re: one", "re: two", "re: end"]));
    assert_eq!(ended(&naru, 1).await, forwarded(0, 1));
}

#[tokio::test]
async fn a_status_after_messages_comes_with_its_words() {
    let (mut peers, naru) = start().await;
    let answer = peers.call(naru.address, json!({ "method": "Spread", "messages": ["2 and fail"] })).await;
    assert_eq!((&answer["code"], &answer["messages"]), (&"DATA_LOSS".into(), &json!(["1", "2"])), "{answer}");
    assert_eq!(answer["details"], "failed as told: 100 % of é");
    assert_eq!(ended(&naru, 1).await, forwarded(15, 1));
}

#[tokio::test]
async fn every_status_without_messages_comes_with_its_words() {
    const NAMES: [&str; 16] = [
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let (mut peers, naru) = start().await;
    let calls = (1..=16).map(|code| json!({ "method": "Fail", "messages": [format!("{code} as told")] }));
    let answers = peers.calls(naru.address, None, calls.collect()).await;
    for (answer, name) in answers.iter().zip(NAMES) {
        assert_eq!((&answer["code"], &answer["details"]), (&name.into(), &"as told".into()));
        assert_eq!(value(&answer["trailing"], "x-why"), Some("asked to"));
    }
    let expected = (1..=16).map(|code| ((Reason::Forwarded, Some(code)), 1)).collect();
    assert_eq!(ended(&naru, 16).await, expected);
}

#[tokio::test]
async fn a_deadline_holds_at_the_client_and_is_told_to_the_server() {
    let (mut peers, naru) = start().await;
    let answer = peers.call(naru.address, json!({ "method": "Wait", "timeout": 0.3 })).await;
    // naru knows the deadline, too: where the client's own clock is late it is told by naru, as by Envoy.
    let by_naru = answer["code"] == "UNAVAILABLE" && answer["details"] == "upstream request timeout";
    assert!(by_naru || answer["code"] == "DEADLINE_EXCEEDED", "{answer}");
    let seen = &peers.seen(1).await[0];
    let remaining = seen["remaining"].as_f64().unwrap();
    assert!(remaining > 0.0 && remaining <= 0.3, "{seen}");
    assert_eq!(seen["ended"], "cancelled");
    // Either side may be the first to see that time is up.
    let all = ended(&naru, 1).await;
    let (reason, _) = all.first_key_value().unwrap().0;
    let is_known = match by_naru {
        true => *reason == Reason::RouteTimeout,
        false => matches!(reason, Reason::ClientGone | Reason::Forwarded | Reason::UpstreamReset),
    };
    assert!(is_known, "{all:?}");
}

#[tokio::test]
async fn the_timeout_of_a_route_is_told_as_a_status_and_cancels_the_call() {
    let mut peers = Peers::start().await;
    let route = TO_UP.replace("timeout: 0s", "timeout: 0.2s");
    let naru = Naru::start(&Bootstrap::new(&route).cluster("up", peers.server, HTTP2));
    let answer = peers.call(naru.address, json!({ "method": "Wait" })).await;
    let told = (&answer["code"], &answer["details"]);
    // The server knows how long it may take, and may say so itself.
    let by_naru = (&"UNAVAILABLE".into(), &"upstream request timeout".into());
    let by_server = (&"DEADLINE_EXCEEDED".into(), &"Deadline Exceeded".into());
    assert!(told == by_naru || told == by_server, "{told:?}");
    assert_eq!(peers.seen(1).await[0]["ended"], "cancelled");
    let ended = ended(&naru, 1).await;
    let expected =
        if told == by_naru { (Reason::RouteTimeout, Some(14)) } else { (Reason::Forwarded, Some(4)) };
    assert_eq!(ended, BTreeMap::from([(expected, 1)]));
}

#[tokio::test]
async fn a_client_that_cancels_amid_a_stream_cancels_the_call_at_the_server() {
    for call in [
        json!({ "method": "Spread", "messages": ["endless"], "cancel_after": 3 }),
        json!({ "method": "Chat", "messages": ["one", "two"], "lockstep": true, "cancel_after": 1 }),
    ] {
        let (mut peers, naru) = start().await;
        let answer = peers.call(naru.address, call).await;
        assert_eq!(answer["code"], "CANCELLED", "{answer}");
        assert!(!answer["messages"].as_array().unwrap().is_empty());
        assert_eq!(peers.seen(1).await[0]["ended"], "cancelled");
        let all = ended(&naru, 1).await;
        let (reason, status) = all.first_key_value().unwrap().0;
        assert!(matches!(reason, Reason::ClientGone | Reason::ClientAborted), "{all:?}");
        assert_eq!(*status, None);
    }
}

#[tokio::test]
async fn one_call_that_is_cancelled_leaves_the_others_on_its_connection_alone() {
    let (mut peers, naru) = start().await;
    let cancelled = json!({ "method": "Spread", "messages": ["endless"], "cancel_after": 2 });
    let chat = json!({ "method": "Chat", "messages": ["one", "two", "end"], "lockstep": true });
    let calls: Vec<_> = (0..20).map(|n| if n % 2 == 0 { cancelled.clone() } else { chat.clone() }).collect();
    let answers = peers.calls(naru.address, None, calls).await;
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["code"], if number % 2 == 0 { "CANCELLED" } else { "OK" }, "{answer}");
    }
    let seen = peers.seen(20).await;
    assert_eq!(seen.iter().filter(|seen| seen["ended"] == "cancelled").count(), 10);
    assert_eq!(ended(&naru, 20).await[&(Reason::Forwarded, Some(0))], 10);
    assert_eq!(naru.report().await.downstream.connections_total, 1);
}

#[tokio::test]
async fn what_naru_answers_by_itself_is_a_status_of_grpc() {
    let mut peers = Peers::start().await;
    let routes = "
- { match: { prefix: /naru.Test/Echo }, route: { cluster: up } }
- { match: { prefix: /naru.Test/Join }, route: { cluster: empty } }
- { match: { prefix: /naru.Test/Wait }, direct_response: { status: 401, body: { inline_string: who? } } }
";
    let bootstrap = Bootstrap::new(routes).cluster("up", peers.server, HTTP2).cluster_of("empty", &[], HTTP2);
    let naru = Naru::start(&bootstrap);
    peers.stop().await;
    for (method, code, details) in [
        ("Echo", "UNAVAILABLE", "upstream connect error or disconnect/reset before headers."),
        ("Join", "UNAVAILABLE", "no healthy upstream"),
        ("Wait", "UNAUTHENTICATED", "who?"),
        ("Spread", "UNIMPLEMENTED", ""),
    ] {
        let answer = peers.call(naru.address, json!({ "method": method, "messages": ["end"] })).await;
        assert_eq!(answer["code"], code, "{method} {answer}");
        assert!(answer["details"].as_str().unwrap().starts_with(details), "{method} {answer}");
        assert_eq!(answer["messages"], json!([]));
    }
    let expected = [
        ((Reason::ConnectFailure, Some(14)), 1),
        ((Reason::NoHealthyUpstream, Some(14)), 1),
        ((Reason::DirectResponse, Some(16)), 1),
        ((Reason::NoRoute, Some(12)), 1),
    ];
    assert_eq!(ended(&naru, 4).await, BTreeMap::from(expected));
}

#[tokio::test]
async fn large_messages_pass_both_ways() {
    let (mut peers, naru) = start().await;
    // Larger than every window on the way, and no multiple of anything.
    let large = "filler:20000003";
    let echo = peers.call(naru.address, json!({ "method": "Echo", "messages": [large] })).await;
    assert_eq!((&echo["code"], &echo["messages"]), (&"OK".into(), &json!([large])), "{}", echo["details"]);
    assert_eq!(ended(&naru, 1).await, forwarded(0, 1));
}

#[tokio::test]
async fn a_hundred_calls_of_one_connection_are_at_the_server_at_once() {
    let (mut peers, naru) = start().await;
    let answers =
        peers.calls(naru.address, None, vec![json!({ "method": "Meet", "messages": ["100"] }); 100]);
    for answer in answers.await {
        assert_eq!((&answer["code"], &answer["messages"]), (&"OK".into(), &json!(["met"])), "{answer}");
    }
    let chat = json!({ "method": "Chat", "messages": ["one", "two", "end"], "lockstep": true });
    for answer in peers.calls(naru.address, None, vec![chat; 100]).await {
        assert_eq!(answer["code"], "OK", "{answer}");
        assert_eq!(answer["messages"], json!(["re: one", "re: two", "re: end"]));
    }
    assert_eq!(ended(&naru, 200).await, forwarded(0, 200));
    let report = naru.report().await;
    assert_eq!(report.downstream.connections_total, 2);
    assert_eq!(report.clusters[0].connections_total, 1);
}
