//! Mirrors that are slow, gone, or never answer; and what copies hold is given back, whatever becomes of them.

use std::time::{Duration, Instant};

use http::Method;
use naru_base::Reason;
use naru_proxy::Options;
use naru_proxy::mirrors::MirrorCounts;
use naru_spec::{Bulkhead, ClusterLimits, GuardSettings, Named, OutlierDetection, Thresholds};
use naru_tests::client::{get, request};
use naru_tests::naru::config;
use naru_tests::wire::{BlackHole, End, WireListener, refusing_address};
use naru_tests::{Client, Naru, Outbound, Speaks, Upstream, Wire, until};

use super::{OK, TO_MIRROR, answered, copies, mirrored, report, to_mirror};

const LARGE: u64 = 12 << 20;

fn only(change: impl FnOnce(&mut MirrorCounts)) -> MirrorCounts {
    let mut counts = MirrorCounts { copies: 1, ..MirrorCounts::default() };
    change(&mut counts);
    counts
}

#[tokio::test]
async fn a_mirror_that_takes_nothing_holds_nobody_up() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let up = Upstream::plain(Speaks::Http1).await;
        let mirror = WireListener::bind_narrow();
        let naru = Naru::start(&to_mirror(up.address, mirror.address));
        let mut client = Client::plain(naru.address, speaks).await;
        // It accepts and does not read. Envoy would let the request wait for it.
        let posted = request(Method::POST, "/length", Outbound::filler(LARGE, true));
        assert_eq!(client.exchange(posted).await.text(), format!("{LARGE} whole"));
        assert_eq!(copies(&naru, 1).await, only(|counts| counts.overrun = 1), "{speaks:?}");
        drop(client);
        naru.settles().await;
        let mut wire = mirror.accept().await;
        let (_, end) = wire.end().await;
        assert!(matches!(end, End::Closed | End::Reset));
    }
}

#[tokio::test]
async fn nobody_notices_a_mirror_that_fails() {
    let up = Upstream::plain(Speaks::Http1).await;
    let silent = WireListener::bind().await;
    let hole = BlackHole::new();
    let failed = only(|counts| counts.failed = 1);
    let timed_out = only(|counts| counts.timed_out = 1);
    for (what, address, lines, expected) in [
        ("refuses", refusing_address(), "", &failed),
        ("takes no connection", hole.address, "connect_timeout: 0.1s", &failed),
        ("never answers", silent.address, "", &timed_out),
    ] {
        let route = format!("timeout: 2s\n    {TO_MIRROR}");
        let naru = Naru::start(&mirrored(up.address, &route).cluster("mirror", address, lines));
        let began = Instant::now();
        let answer = get(naru.address, "/bytes/100000").await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 100_000), "{what}");
        assert!(began.elapsed() < Duration::from_millis(1_500), "{what}: {:?}", began.elapsed());
        assert_eq!(copies(&naru, 1).await, *expected, "{what}");
        naru.settles().await;
        assert_eq!(naru.ended(1).await, [(200, Reason::Forwarded)], "{what}");
        let errors: Vec<u64> =
            naru.clusters().iter().map(|cluster| cluster.endpoints[0].errors_total).collect();
        assert_eq!(errors, [0, 1], "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_never_ends_is_a_failure() {
    let up = Upstream::plain(Speaks::Http1).await;
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", only(|counts| counts.failed = 1)),
        ("nonsense\r\n\r\n", only(|counts| counts.failed = 1)),
        ("HTTP/1.1 20", only(|counts| counts.failed = 1)),
        ("", only(|counts| counts.failed = 1)),
    ] {
        let mirror = WireListener::bind().await;
        let naru = Naru::start(&to_mirror(up.address, mirror.address));
        assert_eq!(get(naru.address, "/status/200").await.status, 200);
        let mut wire = mirror.accept().await;
        wire.request().await;
        wire.send(answer).await;
        drop(wire);
        assert_eq!(copies(&naru, 1).await, expected, "{answer}");
        naru.settles().await;
    }
    let mirror = WireListener::bind().await;
    let naru = Naru::start(&mirrored(up.address, &format!("timeout: 1s\n    {TO_MIRROR}")).cluster(
        "mirror",
        mirror.address,
        "",
    ));
    assert_eq!(get(naru.address, "/status/200").await.status, 200);
    let mut wire = mirror.accept().await;
    wire.request().await;
    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert_eq!(copies(&naru, 1).await, only(|counts| counts.timed_out = 1));
    naru.settles().await;
}

#[tokio::test]
async fn a_copy_ends_with_a_request_that_breaks_off() {
    let (up, mirror) = (WireListener::bind().await, WireListener::bind().await);
    let naru = Naru::start(&to_mirror(up.address, mirror.address));
    let mut client = Wire::connect(naru.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    let mut wires = [up.accept().await, mirror.accept().await];
    for wire in &mut wires {
        wire.head().await;
        wire.expect(b"half").await;
    }
    drop(client);
    for wire in &mut wires {
        let (rest, _) = wire.end().await;
        assert_eq!(rest, b"");
    }
    assert_eq!(copies(&naru, 1).await, only(|counts| counts.abandoned = 1));
    naru.settles().await;
}

#[tokio::test]
async fn a_copy_goes_on_when_its_client_has_left_and_all_was_said() {
    let (up, mirror) = (WireListener::bind().await, WireListener::bind().await);
    let naru = Naru::start(&to_mirror(up.address, mirror.address));
    let mut client = Wire::connect(naru.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nsaid").await;
    let mut wire = mirror.accept().await;
    assert_eq!(wire.request().await.text(), "said");
    drop(client);
    naru.ended(1).await;
    wire.send(OK).await;
    assert_eq!(copies(&naru, 1).await, answered(1));
    naru.settles().await;
}

#[tokio::test]
async fn copies_are_counted_by_the_limits_of_their_cluster_and_refused_by_them() {
    let up = Upstream::plain(Speaks::Http1).await;
    let of_cluster = |config: &mut naru_spec::Config| {
        let normal = Thresholds { requests_max: 1, ..Thresholds::envoy() };
        config.clusters[1].limits = ClusterLimits { normal, ..ClusterLimits::envoy() };
    };
    let of_bulkhead = |config: &mut naru_spec::Config| {
        let settings = Bulkhead { concurrency_max: 1, queue_max: 5, wait_max: Duration::from_secs(20) };
        config.clusters[1].load.bulkhead = Some(Named { name: "b".into(), settings });
    };
    type Change<'a> = &'a dyn Fn(&mut naru_spec::Config);
    for (change, reason) in
        [(&of_cluster as Change<'_>, Reason::Overflow), (&of_bulkhead, Reason::BulkheadFull)]
    {
        let mirror = WireListener::bind().await;
        let mut config = config(&to_mirror(up.address, mirror.address));
        change(&mut config);
        let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
        get(naru.address, "/status/200").await;
        let mut wire = mirror.accept().await;
        wire.request().await;
        get(naru.address, "/status/200").await;
        assert_eq!(copies(&naru, 1).await.refused, [(reason, 1)].into());
        assert_eq!(naru.clusters()[1].limits.requests_overflow, u64::from(reason == Reason::Overflow));
        wire.send(OK).await;
        copies(&naru, 2).await;
        naru.settles().await;
        // There is room again, on the connection that was given back last.
        get(naru.address, "/status/200").await;
        wire.request().await;
        wire.send(OK).await;
        assert_eq!(copies(&naru, 3).await.answered, 2);
        naru.settles().await;
    }
}

#[tokio::test]
async fn what_copies_are_answered_counts_for_ejection() {
    let (up, mirror) = (Upstream::plain(Speaks::Http1).await, WireListener::bind().await);
    let mut config = config(&to_mirror(up.address, mirror.address));
    let outlier =
        OutlierDetection { consecutive_5xx: 3, max_ejection_percent: 100, ..OutlierDetection::default() };
    config.clusters[1].guard =
        GuardSettings { outlier_detection: Some(outlier), panic_percent: 0, ..GuardSettings::default() };
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    for at in 1..=3 {
        get(naru.address, "/status/200").await;
        let mut wire = mirror.accept().await;
        wire.request().await;
        wire.send("HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        copies(&naru, at).await;
    }
    until("the endpoint to be ejected", async || {
        naru.clusters()[1].endpoints[0].fitness.is_ejected().then_some(())
    })
    .await;
    assert_eq!(get(naru.address, "/status/200").await.status, 200);
    assert_eq!(copies(&naru, 4).await.refused, [(Reason::NoHealthyUpstream, 1)].into());
    naru.settles().await;
}

#[tokio::test]
async fn nobody_waits_for_copies_when_naru_ends() {
    let (up, mirror) = (Upstream::plain(Speaks::Http1).await, WireListener::bind().await);
    let naru = Naru::start(&mirrored(up.address, &format!("timeout: 0s\n    {TO_MIRROR}")).cluster(
        "mirror",
        mirror.address,
        "",
    ));
    get(naru.address, "/status/200").await;
    let mut wire = mirror.accept().await;
    wire.request().await;
    let began = Instant::now();
    let left = naru.ends().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for cluster in left {
        assert_eq!((cluster.endpoints[0].active, cluster.limits.requests), (0, 0), "{}", cluster.name);
    }
    wire.end().await;
}

#[tokio::test]
async fn copies_that_began_before_a_change_go_on_and_what_is_known_of_a_mirror_stays() {
    let (up, mirror) = (Upstream::plain(Speaks::Http1).await, WireListener::bind().await);
    let bootstrap = to_mirror(up.address, mirror.address);
    let naru = Naru::start(&bootstrap);
    get(naru.address, "/status/200").await;
    let mut first = mirror.accept().await;
    first.request().await;
    naru.update(&bootstrap.clone().manager("via: changed").text()).await;
    assert_eq!(naru.snapshots_in_use(), 2);
    first.send(OK).await;
    assert_eq!(copies(&naru, 1).await, answered(1));
    naru.forgets_old_snapshots().await;
    drop(first);
    get(naru.address, "/status/200").await;
    let mut second = mirror.accept().await;
    second.request().await;
    second.send(OK).await;
    assert_eq!(copies(&naru, 2).await, answered(2));
    naru.settles().await;
    naru.update(&naru_tests::Bootstrap::to(up.address).text()).await;
    naru.forgets_old_snapshots().await;
    assert!(naru.report().await.mirrors.is_empty(), "there is no such mirror any more");
}

#[tokio::test]
async fn a_large_answer_is_read_so_far_and_no_further() {
    let (up, mirror) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
    let naru = Naru::start(&to_mirror(up.address, mirror.address));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    // The first is read to its end, so that its connection serves the second.
    for (count, bytes) in [(1, 1_u64 << 20), (2, 40 << 20)] {
        let answer = client.get(&format!("/bytes/{bytes}")).await;
        assert_eq!(answer.body.len() as u64, bytes);
        assert_eq!(copies(&naru, count).await, answered(count));
    }
    assert_eq!(mirror.connections(), 1);
    drop(client);
    naru.settles().await;
    assert_eq!(report(&naru).await.counts.copies, 2);
}
