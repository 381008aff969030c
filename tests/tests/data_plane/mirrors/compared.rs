//! What the answers to a request and to its copy differ in.

use std::net::SocketAddr;

use http::Method;
use naru_proxy::Options;
use naru_proxy::mirrors::ComparisonReport;
use naru_spec::Comparison;
use naru_tests::client::{get, request};
use naru_tests::wire::WireListener;
use naru_tests::{Client, Naru, Outbound, Speaks, Upstream, Wire, until};

use super::{copies, report, to_mirror, with_mirrors};

fn comparing(up: SocketAddr, mirror: SocketAddr) -> Naru {
    let settings = Comparison { ignored_headers: vec!["x-build".parse().unwrap()], ..Comparison::default() };
    let config = with_mirrors(&to_mirror(up, mirror), |mirror| mirror.comparison = Some(settings.clone()));
    Naru::start_on(config, &Options { workers: 1, seed: Some(1) })
}

/// Waits until so many pairs were compared.
async fn compared(naru: &Naru, count: u64) -> ComparisonReport {
    until(&format!("{count} to be compared"), async || {
        let found = report(naru).await.comparison;
        (found.report.compared + found.unpaired == count).then_some(found)
    })
    .await
}

fn places(found: &ComparisonReport) -> Vec<(&str, u64)> {
    found.report.places.iter().map(|(place, count)| (place.as_str(), *count)).collect()
}

/// What an upstream answers to each connection in turn.
async fn answers(up: &WireListener, bodies: &[&str]) -> Vec<Wire> {
    let mut wires = Vec::new();
    for body in bodies {
        let mut wire = up.accept().await;
        wire.request().await;
        let (head, body) = body.split_once("\n\n").unwrap_or(("", body));
        let fields: String = head.lines().map(|line| format!("{line}\r\n")).collect();
        wire.send(format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())).await;
        wires.push(wire);
    }
    wires
}

#[tokio::test]
async fn what_differs_between_two_answers_of_the_same_version_is_noise() {
    let (up, mirror) = (WireListener::bind().await, WireListener::bind().await);
    let naru = comparing(up.address, mirror.address);
    let mut client = Wire::connect(naru.address).await;
    client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // The second time it is asked to learn what differs by itself, as the mirror is.
    let mut original = up.accept().await;
    let first = original.request().await;
    let mut again = up.accept().await;
    let twin = again.request().await;
    let mut host = [&first, &twin].map(|message| message.head.get("host"));
    host.sort_unstable();
    assert_eq!(host, [Some("a"), Some("a-shadow")]);
    let internal = [&first, &twin].map(|message| message.head.get("x-envoy-internal"));
    assert!(internal.contains(&Some("true")) && internal.contains(&None));
    for (wire, at) in [(&mut original, 1), (&mut again, 2)] {
        let body = format!("{{\"at\":{at},\"price\":7,\"list\":[1]}}");
        let length = body.len();
        wire.send(format!(
            "HTTP/1.1 200 OK\r\netag: \"{at}\"\r\nx-build: {at}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }
    answers(&mirror, &["etag: \"9\"\nx-build: 9\nx-new: 1\n\n{\"at\":3,\"price\":8,\"list\":[1]}"]).await;
    assert_eq!(client.response().await.head.get("x-new"), None);
    let found = compared(&naru, 1).await;
    assert_eq!(found.noise.places().collect::<Vec<_>>(), ["body.at", "header.etag"]);
    assert_eq!(places(&found), [("body.price", 1), ("header.x-new", 1)]);
    let report = &found.report;
    assert_eq!(
        (report.compared, report.different, report.different_ppm(), found.learned),
        (1, 1, 1_000_000, 1)
    );
    let example = report.examples.iter().find(|example| example.place == "body.price").unwrap();
    assert_eq!((example.primary.as_str(), example.candidate.as_str()), ("7", "8"));
    assert_eq!((found.primary.count(), found.candidate.count()), (1, 1));
    drop((client, original, again));
    naru.settles().await;
}

#[tokio::test]
async fn equal_answers_of_real_services_are_equal_in_every_protocol() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (up, mirror) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
        let naru = comparing(up.address, mirror.address);
        let mut client = Client::plain(naru.address, speaks).await;
        let paths =
            ["/status/200", "/status/204", "/bytes/1000", "/chunks/70000", "/trailers", "/bytes/65537"];
        for path in paths {
            client.get(path).await;
        }
        let posted = request(Method::POST, "/length", Outbound::filler(3 << 20, false));
        assert_eq!(client.exchange(posted).await.text(), format!("{} whole", 3 << 20));
        client.exchange(request(Method::HEAD, "/bytes/100", Outbound::empty())).await;
        let found = compared(&naru, 8).await;
        assert_eq!(places(&found), [], "{speaks:?}: {:?}", found.report.examples);
        assert_eq!((found.report.bodies_left_out, found.unpaired), (2, 0));
        // What has a body is not sent to its own service twice.
        assert_eq!((found.learned, up.requests(), mirror.requests()), (7, 15, 8));
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn noise_is_learned_at_first_and_then_seldom() {
    let (up, mirror) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let naru = comparing(up.address, mirror.address);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..65 {
        client.get("/status/200").await;
    }
    let found = compared(&naru, 65).await;
    // 0 to 7, 32 and 64.
    assert_eq!((found.learned, up.requests(), mirror.requests()), (10, 75, 65));
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_status_and_a_latency_are_told_and_a_missing_answer_is_none() {
    let (up, mirror) = (WireListener::bind().await, WireListener::bind().await);
    let naru = comparing(up.address, mirror.address);
    let mut client = Wire::connect(naru.address).await;
    client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    answers(&up, &["{}"]).await;
    let mut wire = mirror.accept().await;
    wire.request().await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    wire.send("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}").await;
    client.response().await;
    let found = compared(&naru, 1).await;
    assert_eq!((places(&found), found.slower, found.learned), (vec![("status", 1)], 1, 0));
    assert!(found.candidate.sum >= 55.0 && found.candidate.sum > found.primary.sum, "{found:?}");
    assert_eq!(copies(&naru, 1).await.statuses, [(500, 1)].into());

    // The copy has no answer.
    client.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    let mut primary = up.accept().await;
    primary.request().await;
    wire.request().await;
    drop(wire);
    primary.send(super::OK).await;
    client.response().await;
    assert_eq!(compared(&naru, 2).await.unpaired, 1);

    // The client has none.
    client.send("POST /c HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    primary.request().await;
    drop(client);
    let _answered = answers(&mirror, &["{}"]).await;
    assert_eq!(compared(&naru, 3).await.unpaired, 2);
    drop(primary);
    naru.settles().await;
}

#[tokio::test]
async fn answers_that_naru_gives_itself_are_compared_with_nothing() {
    let mirror = Upstream::plain(Speaks::Http1).await;
    let naru = comparing(naru_tests::wire::refusing_address(), mirror.address);
    assert_eq!(get(naru.address, "/status/200").await.status, 503);
    let found = compared(&naru, 1).await;
    assert_eq!((found.report.compared, found.unpaired), (0, 1));
    naru.settles().await;
}
