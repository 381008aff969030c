//! Bytes both ways, and who gets them.

use naru_base::Reason;
use naru_tests::files::{Directory, documents};
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Naru, Wire, until};

use super::{connected, logging};

#[tokio::test]
async fn each_side_ends_by_itself_and_a_line_tells_of_both() {
    let files = Directory::new();
    let log = files.path("log");
    let up = WireListener::bind().await;
    let naru = Naru::start(&logging("", &log).cluster("up", up.address, ""));
    let (mut client, mut upstream) = connected(&naru, &up).await;
    // The client has said all that it wants to say, and is still answered.
    client.finish().await;
    assert_eq!(upstream.end().await, (Vec::new(), End::Closed));
    upstream.send("an answer").await;
    client.expect(b"an answer").await;
    let came_from = (client.local().to_string(), naru.address.to_string());
    drop(upstream);
    assert_eq!(client.ends().await, End::Closed);
    // And the other way round.
    let (mut client, mut upstream) = connected(&naru, &up).await;
    upstream.finish().await;
    assert_eq!(client.end().await, (Vec::new(), End::Closed));
    client.send("more").await;
    upstream.expect(b"more").await;
    client.finish().await;
    assert_eq!(upstream.ends().await, End::Closed);
    drop(client);
    naru.settles().await;
    assert_eq!(naru.ended(2).await, [(0, Reason::Forwarded); 2]);
    let lines = documents(&log, 2).await;
    let line = &lines[0];
    assert_eq!((line["received"].as_u64(), line["sent"].as_u64()), (Some(5), Some(9)), "{line}");
    assert_eq!((line["flags"].as_str(), line["status"].as_u64()), (Some("-"), Some(0)), "{line}");
    assert_eq!((&line["method"], &line["protocol"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(line["cluster"], "up");
    assert_eq!(line["host"], up.address.to_string());
    assert_eq!(
        (line["client"].as_str(), line["came_to"].as_str()),
        (Some(&*came_from.0), Some(&*came_from.1))
    );
    let report = naru.report().await;
    assert_eq!((report.downstream.requests_total, report.downstream.tcp_total), (0, 2));
    assert_eq!((report.downstream.tcp_active, report.clusters[0].connections_total), (0, 2));
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::tcp("").cluster("up", up.address, ""));
    let mut client = Wire::connect(naru.address).await;
    let mut upstream = up.accept().await;
    upstream.send("220 ready\r\n").await;
    client.expect(b"220 ready\r\n").await;
}

#[tokio::test]
async fn much_goes_both_ways_at_the_pace_of_who_takes_it() {
    const MEGABYTES: usize = 16;
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::tcp("").cluster("up", up.address, ""));
    let (client, upstream) = connected(&naru, &up).await;
    let sent: Vec<u8> = (0..MEGABYTES << 20).map(|at| (at * 31 + (at >> 13)) as u8).collect();
    let both = async {
        tokio::join!(
            async {
                let (mut read, mut write) = client.into_stream().into_split();
                let echoed = async {
                    let mut all = Vec::new();
                    tokio::io::AsyncReadExt::read_to_end(&mut read, &mut all).await.unwrap();
                    all
                };
                let writes = async {
                    tokio::io::AsyncWriteExt::write_all(&mut write, &sent).await.unwrap();
                    tokio::io::AsyncWriteExt::shutdown(&mut write).await.unwrap();
                };
                let (echoed, ()) = tokio::join!(echoed, writes);
                assert!(echoed == sent);
            },
            async {
                let (mut read, mut write) = upstream.into_stream().into_split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            }
        )
    };
    naru_tests::within("an echo", both).await;
    assert_eq!(naru.ended(1).await, [(0, Reason::Forwarded)]);
    naru.settles().await;
}

#[tokio::test]
async fn clusters_get_their_shares_and_a_hash_of_the_client_stays() {
    let (many, few) = (WireListener::bind().await, WireListener::bind().await);
    let weights = "weighted_clusters: { clusters: [{ name: many, weight: 3 }, { name: few, weight: 1 }] }\n";
    let bootstrap = Bootstrap::tcp(weights).cluster("many", many.address, "").cluster("few", few.address, "");
    let naru = Naru::start(&bootstrap);
    let mut counts = [0_u32; 2];
    for _ in 0..200 {
        let _client = Wire::connect(naru.address).await;
        tokio::select! {
            _ = many.accept() => counts[0] += 1,
            _ = few.accept() => counts[1] += 1,
        }
    }
    assert!((120..=180).contains(&counts[0]), "{counts:?}");

    let all = [WireListener::bind().await, WireListener::bind().await, WireListener::bind().await];
    let addresses = all.each_ref().map(|up| up.address);
    let hashed = Bootstrap::tcp("hash_policy: [{ source_ip: {} }]\n").cluster_of(
        "up",
        &addresses,
        "lb_policy: RING_HASH\n",
    );
    let naru = Naru::start(&hashed);
    let mut took = [0; 3];
    for _ in 0..12 {
        let _client = Wire::connect(naru.address).await;
        let [a, b, c] = &all;
        tokio::select! { _ = a.accept() => took[0] += 1, _ = b.accept() => took[1] += 1, _ = c.accept() => took[2] += 1 }
    }
    took.sort_unstable();
    assert_eq!(took, [0, 0, 12]);
}

#[tokio::test]
async fn a_cluster_takes_no_more_connections_than_it_may() {
    let up = WireListener::bind().await;
    let limited = "circuit_breakers: { thresholds: [{ max_connections: 1 }] }\n";
    let files = Directory::new();
    let log = files.path("log");
    let naru = Naru::start(&logging("", &log).cluster("up", up.address, limited));
    let (client, upstream) = connected(&naru, &up).await;
    assert_eq!(Wire::ended_at_once(naru.address).await, End::Reset);
    let line = documents(&log, 1).await.remove(0);
    assert_eq!((line["reason"].as_str(), line["flags"].as_str()), (Some("Overflow"), Some("UO")), "{line}");
    drop((client, upstream));
    naru.settles().await;
    until("room for another", async || (naru.upstream_connections().await == 0).then_some(())).await;
    let _again = connected(&naru, &up).await;
}
