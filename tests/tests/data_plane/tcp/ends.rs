//! How a connection ends otherwise than by both of its sides.

use naru_base::Reason;
use naru_tests::files::{Directory, documents};
use naru_tests::wire::{BlackHole, End, WireListener, refusing_address};
use naru_tests::{Bootstrap, Naru, Wire};

use super::{connected, logging};

/// A connection that finds nobody is torn down, and its line says why.
async fn fails(
    proxy: &str,
    cluster: impl Fn(Bootstrap) -> Bootstrap,
    reason: &str,
    flags: &str,
    attempts: u64,
) {
    let files = Directory::new();
    let log = files.path("log");
    let naru = Naru::start(&cluster(logging(proxy, &log)));
    assert_eq!(Wire::ended_at_once(naru.address).await, End::Reset);
    naru.settles().await;
    let line = documents(&log, 1).await.remove(0);
    assert_eq!((line["reason"].as_str(), line["flags"].as_str()), (Some(reason), Some(flags)), "{line}");
    assert_eq!(line["attempts"].as_u64(), Some(attempts), "{line}");
}

#[tokio::test]
async fn nobody_is_there() {
    let refusing = refusing_address();
    let refuses = |bootstrap: Bootstrap| bootstrap.cluster("up", refusing, "");
    fails("", refuses, "ConnectFailure", "UF", 1).await;
    fails("max_connect_attempts: 3\n", refuses, "ConnectFailure", "URX,UF", 3).await;
    fails("", |bootstrap| bootstrap.cluster_of("up", &[], ""), "NoHealthyUpstream", "UH", 0).await;
    let hole = BlackHole::new();
    let silent = |bootstrap: Bootstrap| bootstrap.cluster("up", hole.address, "connect_timeout: 0.1s\n");
    fails("", silent, "ConnectTimeout", "UF", 1).await;
}

#[tokio::test]
async fn another_endpoint_is_tried_and_the_one_that_refuses_is_ejected() {
    let up = WireListener::bind().await;
    let ejects =
        "outlier_detection: { consecutive_5xx: 3, max_ejection_percent: 50, base_ejection_time: 300s }\n";
    let bootstrap = Bootstrap::tcp("max_connect_attempts: 2\n").cluster_of(
        "up",
        &[refusing_address(), up.address],
        ejects,
    );
    let naru = Naru::start(&bootstrap);
    for _ in 0..12 {
        let (client, upstream) = connected(&naru, &up).await;
        drop((client, upstream));
    }
    naru.settles().await;
    let status = &naru.clusters()[0];
    let ejected: Vec<bool> = status.endpoints.iter().map(|endpoint| !endpoint.fitness.is_fit()).collect();
    assert_eq!(ejected, [true, false]);
    assert_eq!(status.endpoints[0].connect_failures_total, 3, "it is asked no more");
}

#[tokio::test]
async fn nothing_moves_for_too_long_or_it_has_lasted_too_long() {
    let up = WireListener::bind().await;
    let cases = [
        ("idle_timeout: 0.2s\n", "", Reason::TcpIdle, "-"),
        ("max_downstream_connection_duration: 0.2s\n", "", Reason::ConnectionDuration, "DT"),
    ];
    for (proxy, cluster, reason, flags) in cases {
        let files = Directory::new();
        let log = files.path("log");
        let naru = Naru::start(&logging(proxy, &log).cluster("up", up.address, cluster));
        let (mut client, mut upstream) = connected(&naru, &up).await;
        assert_eq!((client.ends().await, upstream.ends().await), (End::Reset, End::Reset));
        naru.settles().await;
        assert_eq!(naru.ended(1).await, [(0, reason)]);
        assert_eq!(documents(&log, 1).await[0]["flags"], flags);
    }
}

#[tokio::test]
async fn bytes_in_either_direction_keep_it_from_being_idle() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::tcp("idle_timeout: 0.4s\n").cluster("up", up.address, ""));
    let (mut client, mut upstream) = connected(&naru, &up).await;
    let began = std::time::Instant::now();
    for at in 0.. {
        if began.elapsed() > std::time::Duration::from_millis(1_200) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if at % 2 == 0 {
            client.send("x").await;
            upstream.expect(b"x").await;
        } else {
            upstream.send("y").await;
            client.expect(b"y").await;
        }
    }
    assert_eq!(client.ends().await, End::Reset);
    assert_eq!(naru.ended(1).await, [(0, Reason::TcpIdle)]);
}

#[tokio::test]
async fn a_side_that_breaks_off_breaks_the_other_off() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::tcp("").cluster("up", up.address, ""));
    let (client, mut upstream) = connected(&naru, &up).await;
    client.reset();
    assert_eq!(upstream.ends().await, End::Reset);
    let (mut client, upstream) = connected(&naru, &up).await;
    upstream.reset();
    assert_eq!(client.ends().await, End::Reset);
    naru.settles().await;
    assert_eq!(naru.ended(2).await, [(0, Reason::UpstreamAborted), (0, Reason::ClientGone)]);
}
