//! Places with several addresses, of both families: whichever answers first is connected to.

use naru_base::Reason;
use naru_spec::Config;
use naru_tests::naru::read;
use naru_tests::wire::{BlackHole, End, WireListener, refusing_address};
use naru_tests::{Bootstrap, Naru, Wire};

use std::net::SocketAddr;

/// The cluster's only endpoint has these addresses.
fn to(addresses: &[SocketAddr], cluster: &str) -> Config {
    let (first, others) = addresses.split_first().unwrap();
    let mut config = read(&Bootstrap::tcp("").cluster("up", *first, cluster).text());
    config.clusters[0].endpoints[0].additional = others.to_vec();
    config
}

fn start(config: Config) -> Naru {
    Naru::start_on(config, &naru_proxy::Options { workers: 1, seed: Some(1) })
}

#[tokio::test]
async fn another_address_takes_the_place_of_one_that_refuses_or_says_nothing() {
    let up = WireListener::bind().await;
    let (hole, refusing) = (BlackHole::new(), refusing_address());
    for addresses in [
        vec![refusing, up.address],
        vec![hole.address, up.address],
        vec![hole.address, refusing, up.address],
        vec![up.address, hole.address],
    ] {
        let naru = start(to(&addresses, ""));
        let mut client = Wire::connect(naru.address).await;
        client.send("hello").await;
        let mut upstream = up.accept().await;
        upstream.expect(b"hello").await;
        drop((client, upstream));
        naru.settles().await;
        let endpoint = &naru.clusters()[0].endpoints[0];
        assert_eq!((endpoint.connect_failures_total, endpoint.connections_total), (0, 1), "{addresses:?}");
    }
    assert!(!up.has_more().await, "who was not needed was let go");
}

#[tokio::test]
async fn where_nobody_answers_it_is_one_failure_and_the_time_is_that_of_the_cluster() {
    let (hole, other) = (BlackHole::new(), BlackHole::new());
    let silent = start(to(&[hole.address, other.address], "connect_timeout: 0.5s\n"));
    let refused = start(to(&[refusing_address(), refusing_address()], ""));
    for (naru, reason) in [(silent, Reason::ConnectTimeout), (refused, Reason::ConnectFailure)] {
        assert_eq!(Wire::ended_at_once(naru.address).await, End::Reset);
        naru.settles().await;
        assert_eq!(naru.ended(1).await, [(0, reason)]);
        assert_eq!(naru.clusters()[0].endpoints[0].connect_failures_total, 1);
    }
}

#[tokio::test]
async fn both_families_are_spoken_on_both_sides() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let six = listener.local_addr().unwrap();
    let bootstrap = Bootstrap::tcp("").listen_on("[::1]:0".parse().unwrap()).cluster("up", six, "");
    let naru = Naru::start(&bootstrap);
    assert!(naru.address.is_ipv6());
    let mut client = Wire::connect(naru.address).await;
    client.send("hello").await;
    let mut upstream = Wire::new(listener.accept().await.unwrap().0);
    upstream.expect(b"hello").await;
    // A place with addresses of both: the first does not answer.
    let hole = BlackHole::new();
    let naru = start(to(&[hole.address, six], ""));
    let mut client = Wire::connect(naru.address).await;
    client.send("hello").await;
    let mut upstream = Wire::new(listener.accept().await.unwrap().0);
    upstream.expect(b"hello").await;
}

#[tokio::test]
async fn all_addresses_of_a_logical_name_are_one_endpoint() {
    // `localhost` is 127.0.0.1, and ::1 where the machine says so.
    let up = WireListener::bind().await;
    let mut config = to(&[up.address], "type: LOGICAL_DNS\ndns_lookup_family: ALL\n");
    config.clusters[0].endpoints[0].address =
        naru_spec::Address::Name { host: "localhost".into(), port: up.address.port() };
    let naru = start(config);
    naru_tests::until("the name to be found", async || naru.is_ready().then_some(())).await;
    assert_eq!(naru.clusters()[0].endpoints.len(), 1);
    let mut client = Wire::connect(naru.address).await;
    client.send("hello").await;
    up.accept().await.expect(b"hello").await;
}
