//! Calls to others.

use std::net::SocketAddr;

use http::Request;
use naru_tests::wire::{BlackHole, End, WireListener, refusing_address};
use naru_tests::{Client, Outbound, Speaks, Wire, Workload, client};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::grpc::peers::Peers;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// GET with these headers, and the document that is answered.
async fn ask(to: SocketAddr, headers: &[(&str, &str)]) -> Value {
    let request =
        headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
    let answer =
        Client::plain(to, Speaks::Http1).await.exchange(request.body(Outbound::empty()).unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Answers the next request on this connection, and says what it was.
async fn answer(wire: &mut Wire, with: &str) -> naru_tests::wire::Message {
    let request = wire.request().await;
    wire.send(with).await;
    request
}

#[tokio::test]
async fn answers_of_a_chain_are_told_one_inside_the_other() {
    let ratings = Workload::start(&["--name", "ratings", "--body", "{\"stars\": 5}"]).await;
    let reviews = Workload::start(&["--name", "reviews", "--call", &ratings.url("/ratings/0")]).await;
    let details = Workload::start(&["--name", "details", "--body", "a play"]).await;
    let (to_details, to_reviews) = (details.url(""), reviews.url("/reviews/0"));
    let page = Workload::start(&["--call", &to_details, "--call", &to_reviews]).await;
    let told = ask(page.address, &[("end-user", "jason"), ("x-request-id", "17")]).await;
    let calls = told["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2, "{told}");
    // A URL without a path has that of the root.
    assert_eq!((&calls[0]["url"], &calls[0]["body"]), (&json!(details.url("/")), &json!("a play")));
    assert_eq!((&calls[1]["status"], &calls[1]["body"]["service"]), (&json!(200), &json!("reviews")));
    assert!(calls.iter().all(|call| call["ms"].is_u64()), "{told}");
    let identity = json!({ "end-user": "jason", "x-request-id": "17" });
    assert_eq!(calls[1]["body"]["headers"], identity);
    assert_eq!(calls[1]["body"]["calls"][0]["body"], json!({ "stars": 5 }));
}

#[tokio::test]
async fn headers_that_trace_and_identify_go_on_and_others_stay() {
    let up = WireListener::bind().await;
    let url = format!("http://{}/a?b=c", up.address);
    let workload = Workload::start(&["--call", &url, "--forward-header", "x-mine"]).await;
    let forwarded = [
        ("x-request-id", "1"),
        ("traceparent", "00-1-2-01"),
        ("tracestate", "a=b"),
        ("b3", "0"),
        ("x-b3-traceid", "2"),
        ("x-b3-sampled", "1"),
        ("end-user", "jason"),
        ("user-agent", "a browser"),
        ("cookie", "session=3"),
        ("authorization", "Bearer 4"),
        ("x-mine", "5"),
    ];
    let headers = [&forwarded[..], &[("x-other", "6"), ("accept", "text/html"), ("te", "trailers")]].concat();
    let (told, request) =
        tokio::join!(ask(workload.address, &headers), async { answer(&mut up.accept().await, HELLO).await });
    assert_eq!(told["calls"][0]["body"], "hello");
    assert_eq!(request.head.first, "GET /a?b=c HTTP/1.1");
    let mut expected: Vec<_> = forwarded.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    expected.push(("host".to_owned(), up.address.to_string()));
    expected.sort();
    let mut found = request.head.headers;
    found.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_call_that_fails_is_told_and_matters_only_to_the_strict() {
    let failing = Workload::start(&["--errors", "100%:500"]).await;
    let hole = BlackHole::new();
    let refusing = format!("http://{}/", refusing_address());
    let silent = format!("http://{}/", hole.address);
    let unknown = "http://nowhere.invalid/".to_owned();
    let mut arguments = vec!["--call-timeout".to_owned(), "300ms".to_owned()];
    for url in [failing.url("/"), refusing, silent, unknown] {
        arguments.extend(["--call".to_owned(), url]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lenient = Workload::start(&arguments).await;
    let strict = Workload::start(&[&arguments[..], &["--strict", "--body", "not told"]].concat()).await;
    for (workload, status) in [(lenient, 200), (strict, 502)] {
        let answer = client::get(workload.address, "/").await;
        assert_eq!(answer.status, status);
        let calls = &answer.json()["calls"];
        assert_eq!(calls[0]["status"], 500, "{calls}");
        let error = |number: usize| calls[number]["error"].as_str().unwrap().to_owned();
        assert!(error(1).contains("cannot connect"), "{calls}");
        assert!(error(2).contains("no answer within 300ms"), "{calls}");
        assert!(error(3).contains("nowhere.invalid") || error(3).contains("no answer within"), "{calls}");
    }
    let fine = Workload::start(&["--body", "fine"]).await;
    let strict = Workload::start(&["--strict", "--call", &fine.url("/"), "--body", "told"]).await;
    let answer = client::get(strict.address, "/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "told"));
}

#[tokio::test]
async fn calls_go_through_the_proxy_on_one_connection() {
    for name in ["http_proxy", "HTTP_PROXY"] {
        let proxy = WireListener::bind().await;
        let environment = [(name, &*format!("http://{}/", proxy.address)), ("no_proxy", "ratings:9080")];
        let workload =
            Workload::start_in(&environment, &["--call", "http://reviews:9080/reviews/0?a=b"]).await;
        let mut wire = None;
        for _ in 0..2 {
            let (told, ()) = tokio::join!(ask(workload.address, &[("end-user", "jason")]), async {
                if wire.is_none() {
                    wire = Some(proxy.accept().await);
                }
                let request = answer(wire.as_mut().unwrap(), HELLO).await;
                assert_eq!(request.head.first, "GET http://reviews:9080/reviews/0?a=b HTTP/1.1");
                assert_eq!(request.head.get("host"), Some("reviews:9080"));
                assert_eq!(request.head.get("end-user"), Some("jason"));
            });
            assert_eq!(told["calls"][0]["body"], "hello");
        }
        assert!(!proxy.has_more().await);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_replaced() {
    let up = WireListener::bind().await;
    let url = format!("http://{}/", up.address);
    let workload = Workload::start(&["--call", &url]).await;
    for is_late in [false, true, false, true] {
        let (told, mut wire) = tokio::join!(ask(workload.address, &[]), async {
            let mut wire = up.accept().await;
            answer(&mut wire, HELLO).await;
            wire
        });
        assert_eq!(told["calls"][0]["status"], 200, "{told}");
        if is_late {
            // Closed only once it is used again: the call goes on elsewhere.
            let (told, ()) = tokio::join!(ask(workload.address, &[]), async {
                wire.request().await;
                drop(wire);
                let mut wire = up.accept().await;
                answer(&mut wire, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
                assert_eq!(wire.ends().await, End::Closed);
            });
            assert_eq!(told["calls"][0]["status"], 200, "{told}");
        }
    }
}

#[tokio::test]
async fn a_first_connection_that_breaks_is_an_error() {
    let up = WireListener::bind().await;
    let url = format!("http://{}/", up.address);
    let workload = Workload::start(&["--call", &url]).await;
    let (told, ()) = tokio::join!(ask(workload.address, &[]), async {
        up.accept().await.request().await;
    });
    assert!(told["calls"][0]["error"].as_str().unwrap().contains("no answer from"), "{told}");
    assert!(!up.has_more().await);
}

#[tokio::test]
async fn no_proxy_names_who_is_called_directly() {
    let up = Workload::start(&["--body", "direct"]).await;
    let proxy = format!("http://{}", refusing_address());
    for no_proxy in ["127.0.0.1", "*", &up.address.to_string()] {
        let environment = [("http_proxy", &*proxy), ("no_proxy", no_proxy)];
        let workload = Workload::start_in(&environment, &["--call", &up.url("/")]).await;
        assert_eq!(ask(workload.address, &[]).await["calls"][0]["body"], "direct", "{no_proxy}");
    }
    let workload = Workload::start_in(&[("http_proxy", &proxy)], &["--call", &up.url("/")]).await;
    assert!(ask(workload.address, &[]).await["calls"][0]["error"].is_string());
}

/// A proxy that opens tunnels to one place, and tells what it was asked.
async fn tunnels(
    to: SocketAddr,
    refusal: Option<&'static str>,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked_tx, asked_rx) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            asked_tx.send(String::from_utf8(head).unwrap()).unwrap();
            let answer = refusal.unwrap_or("HTTP/1.1 200 Connection established\r\nx-a: b\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut upstream = TcpStream::connect(to).await.unwrap();
            // It lasts as long as both want it.
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut upstream).await });
        }
    });
    (address, asked_rx)
}

#[tokio::test]
async fn grpc_calls_reach_a_server_of_grpcio_with_and_without_a_tunnel() {
    let mut peers = Peers::start().await;
    let (proxy, mut asked_rx) = tunnels(peers.server, None).await;
    let method = format!("{}/naru.Test/Echo", peers.server);
    let call = ["--call-grpc", &method, "--call-timeout", "20s"];
    let direct = Workload::start(&call).await;
    let proxied = Workload::start_in(&[("grpc_proxy", &proxy.to_string())], &call).await;
    let by_http_proxy = Workload::start_in(&[("http_proxy", &format!("http://{proxy}"))], &call).await;
    for workload in [&direct, &proxied, &by_http_proxy] {
        for _ in 0..2 {
            let told = ask(workload.address, &[("end-user", "jason"), ("x-request-id", "17")]).await;
            let call = &told["calls"][0];
            assert_eq!((&call["grpc"], &call["grpc_status"]), (&json!(method), &json!(0)), "{told}");
        }
    }
    let seen = peers.seen(6).await;
    for seen in &seen {
        let metadata = seen["metadata"].as_array().unwrap();
        assert!(metadata.contains(&json!(["end-user", "jason"])), "{seen}");
        assert!((15.0..=20.0).contains(&seen["remaining"].as_f64().unwrap()), "{seen}");
    }
    // One tunnel for both calls of each.
    drop((proxied, by_http_proxy));
    for _ in 0..2 {
        let asked = asked_rx.recv().await.unwrap();
        assert_eq!(asked, format!("CONNECT {0} HTTP/1.1\r\nhost: {0}\r\n\r\n", peers.server));
    }
    assert!(asked_rx.try_recv().is_err());
}

#[tokio::test]
async fn a_grpc_call_that_fails_is_told() {
    let failing = Workload::start(&["--errors", "100%"]).await;
    let plain = WireListener::bind().await;
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let (proxy, _asked_rx) = tunnels(failing.address, Some(refused)).await;
    let proxy = format!("http://{proxy}");
    let call = |to: SocketAddr| format!("{to}/a.B/C");
    let of = async |environment: &[(&str, &str)], to: SocketAddr| {
        let workload = Workload::start_in(environment, &["--call-grpc", &call(to)]).await;
        ask(workload.address, &[]).await["calls"][0].clone()
    };
    assert_eq!(of(&[], failing.address).await["grpc_status"], 14);
    let told = of(&[], refusing_address()).await;
    assert!(told["error"].as_str().unwrap().contains("cannot connect"), "{told}");
    let told = of(&[("http_proxy", &proxy)], failing.address).await;
    assert!(told["error"].as_str().unwrap().ends_with("answers CONNECT with 403"), "{told}");
    let (told, ()) = tokio::join!(of(&[], plain.address), async {
        plain.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    assert!(told["error"].as_str().unwrap().contains("no answer from"), "{told}");
    let strict = Workload::start(&["--strict", "--call-grpc", &call(failing.address)]).await;
    assert_eq!(client::get(strict.address, "/").await.status, 502);
}

#[tokio::test]
async fn a_channel_whose_server_has_started_anew_is_replaced() {
    let mut up = Workload::start(&[]).await;
    let address = up.address;
    let workload = Workload::start(&["--call-grpc", &format!("{address}/a.B/C")]).await;
    for _ in 0..2 {
        assert_eq!(ask(workload.address, &[]).await["calls"][0]["grpc_status"], 0);
        drop(up);
        assert!(ask(workload.address, &[]).await["calls"][0]["error"].is_string());
        up = Workload::start(&["--port", &address.port().to_string()]).await;
        assert_eq!(up.address, address);
    }
}
