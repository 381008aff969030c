//! A connection that cannot be made, where the route allows to try another endpoint.

use std::net::SocketAddr;

use naru_base::Reason;
use naru_tests::bootstrap::{HTTP2, upstream_tls};
use naru_tests::files::{Directory, documents};
use naru_tests::wire::{BlackHole, refusing_address};
use naru_tests::{
    Authority, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire, client, until, upstream,
};

use super::{GET, RESET};

const FIELDS: &str = "flags: \"%RESPONSE_FLAGS%\"\nstatus: \"%RESPONSE_CODE%\"\n\
                      attempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\nhost: \"%UPSTREAM_HOST%\"\n";

/// Everything to the cluster `up`, with so many retries.
fn routes(retries: u32) -> String {
    format!(
        "- match: {{ prefix: / }}\n  route: {{ cluster: up, retry_policy: {{ retry_on: connect-failure, num_retries: {retries} }} }}\n"
    )
}

fn to(addresses: &[SocketAddr], retries: u32, lines: &str) -> Bootstrap {
    Bootstrap::new(&routes(retries)).cluster_of("up", addresses, lines)
}

#[tokio::test]
async fn a_request_goes_to_an_endpoint_that_takes_it() {
    for (speaks, lines) in [(Speaks::Http1, ""), (Speaks::Http2, HTTP2)] {
        let up = Upstream::plain(speaks).await;
        let naru = Naru::start(&to(&[refusing_address(), refusing_address(), up.address], 2, lines));
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        for _ in 0..12 {
            let post = client::request(http::Method::POST, "/describe", Outbound::sized("what was said"));
            let answer = client.exchange(post).await;
            assert_eq!(answer.status, 200);
            let described: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!((&described["method"], &described["body"]), (&"POST".into(), &"what was said".into()));
        }
        assert_eq!((up.requests(), up.connections()), (12, 1), "a retry takes a connection that waits");
        let counts = naru.report().await.clusters.swap_remove(0);
        // A retry takes its turn in the rotation, so that nearly all of them begin at the first endpoint.
        assert!(counts.retries > 12, "{counts:?}");
        assert_eq!((counts.retries_exceeded, counts.replays), (0, 0));
        let errors: Vec<u64> = naru.clusters()[0].endpoints.iter().map(|here| here.errors_total).collect();
        assert_eq!((errors[0] + errors[1], errors[2]), (counts.retries, 0), "who refused is who failed");
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn the_log_the_counts_and_the_answer_say_that_no_retry_is_left() {
    let files = Directory::new();
    let log = files.path("log");
    let naru =
        Naru::start(&to(&[refusing_address(), refusing_address()], 3, "").json_log(&log, FIELDS).admin());
    let mut client = Wire::connect(naru.address).await;
    client.send(GET).await;
    let answer = client.response().await;
    let text = RESET.replace("reset reason", "retried and the latest reset reason");
    assert_eq!((answer.status(), answer.text()), (503, format!("{text}remote connection failure")));
    assert_eq!(naru.ended(1).await, [(503, Reason::ConnectFailure)]);
    let said = &documents(&log, 1).await[0];
    assert_eq!((&said["flags"], &said["status"]), (&"URX,UF".into(), &503.into()), "{said}");
    assert_eq!(said["attempts"], 4);
    let report = naru.report().await;
    assert_eq!(report.series[0].labels.flags(), "URX,UF");
    assert_eq!((report.clusters[0].retries, report.clusters[0].retries_exceeded), (3, 1));
    let errors: Vec<u64> = naru.clusters()[0].endpoints.iter().map(|here| here.errors_total).collect();
    assert!(errors[0] > 0 && errors[1] > 0 && errors[0] + errors[1] == 4, "{errors:?}");
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn an_endpoint_that_is_silent_or_speaks_no_tls_is_passed_by() {
    let authority = Authority::new();
    let (up, plain) =
        (Upstream::serve(Speaks::Http1Tls, &authority).await, Upstream::plain(Speaks::Http1).await);
    let hole = BlackHole::new();
    let lines = format!("connect_timeout: 0.25s\n{}", upstream_tls(&authority));
    let naru = Naru::start(&to(&[hole.address, plain.address, up.address], 2, &lines));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..3 {
        assert_eq!(client.get("/status/204").await.status, 204);
    }
    assert!(naru.report().await.clusters[0].retries >= 3);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn the_deadline_of_the_route_holds_for_all_attempts_together() {
    let hole = BlackHole::new();
    let routes = "- match: { prefix: / }\n  route: { cluster: up, timeout: 0.3s, retry_policy: { retry_on: connect-failure, num_retries: 9 } }\n";
    let naru = Naru::start(&Bootstrap::new(routes).cluster("up", hole.address, "connect_timeout: 0.2s\n"));
    let answer = client::get(naru.address, "/").await;
    assert_eq!(answer.status, 504);
    assert_eq!(naru.ended(1).await, [(504, Reason::RouteTimeout)]);
    assert_eq!(naru.report().await.clusters[0].retries, 1);
    naru.settles().await;
}

#[tokio::test]
async fn a_host_that_is_the_name_of_the_endpoint_is_that_of_the_one_that_answers() {
    let (up, refusing) = (Upstream::plain(Speaks::Http1).await, refusing_address());
    let routes = "- match: { prefix: / }\n  route: { cluster: up, auto_host_rewrite: true, retry_policy: { retry_on: connect-failure } }\n";
    let lines = "type: STRICT_DNS\ndns_lookup_family: V4_ONLY\n";
    let text = Bootstrap::new(routes).cluster_of("up", &[refusing, up.address], lines).text();
    let refusing_port = format!("port_value: {}", refusing.port());
    let named: String = text
        .lines()
        .map(|line| match line.contains(&refusing_port) {
            true => line.replace("127.0.0.1", "localhost") + "\n",
            false => format!("{line}\n"),
        })
        .collect();
    let naru = Naru::on(&named);
    until("both endpoints", async || (naru.clusters()[0].endpoints.len() == 2).then_some(())).await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..4 {
        let answer = client.get("/describe").await;
        let described: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(upstream::header(&described, "host"), Some("127.0.0.1"), "{described}");
    }
    assert!(naru.report().await.clusters[0].retries >= 2);
    drop(client);
    naru.settles().await;
}
