//! How a tunnel ends otherwise than by both of its sides.

use naru_base::{Chance, Reason};
use naru_tests::files::{Directory, documents};
use naru_tests::wire::{BlackHole, End, WireListener, refusing_address};
use naru_tests::{Bootstrap, Naru, Wire};
use serde_json::Value;

use super::{DB, logging, routed, tunnel, unrouted};

const HELLO: &[u8] = b"\x00hello";

/// The only line of a tunnel that has ended: its reason and flags.
async fn only_line(log: &std::path::Path) -> (String, String, Value) {
    let line = documents(log, 1).await.remove(0);
    assert_eq!(line["status"], 200, "{line}");
    (line["reason"].as_str().unwrap().to_owned(), line["flags"].as_str().unwrap().to_owned(), line)
}

/// A tunnel that finds nobody is torn down, and its line says why.
async fn fails(bootstrap: Bootstrap, destination: &str, reason: &str, flags: &str, attempts: u16) {
    let files = Directory::new();
    let log = files.path("log");
    let naru = logging(bootstrap, &log);
    let mut client = tunnel(&naru, destination).await;
    client.send(HELLO).await;
    assert_eq!(client.ends().await, End::Reset);
    naru.settles().await;
    let (found, found_flags, line) = only_line(&log).await;
    assert_eq!((found.as_str(), found_flags.as_str()), (reason, flags), "{line}");
    assert_eq!(line["attempts"], attempts, "{line}");
    assert_eq!(line["received"], HELLO.len(), "{line}");
}

#[tokio::test]
async fn nobody_is_there() {
    let refusing = refusing_address();
    fails(unrouted(), &refusing.to_string(), "ConnectFailure", "UF", 1).await;
    fails(unrouted(), "nobody.invalid:80", "NameNotFound", "DF", 1).await;
    fails(routed("").cluster("up", refusing, ""), DB, "ConnectFailure", "UF", 1).await;
    let retries = ", retry_policy: { retry_on: connect-failure, num_retries: 2 }";
    fails(routed(retries).cluster("up", refusing, ""), DB, "ConnectFailure", "URX,UF", 3).await;
    fails(routed("").cluster_of("up", &[], ""), DB, "NoHealthyUpstream", "UH", 0).await;
    let hole = BlackHole::new();
    let slow = routed("").cluster("up", hole.address, "connect_timeout: 0.1s\n");
    fails(slow, DB, "ConnectTimeout", "UF", 1).await;
}

#[tokio::test]
async fn a_rule_that_answers_by_itself_lets_nothing_past() {
    let up = WireListener::bind().await;
    let destination = up.address.to_string();
    let hosts = format!(
        "- name: closed\n  domains: [\"{destination}\"]\n  routes:\n  \
         - {{ match: {{ prefix: / }}, direct_response: {{ status: 502 }} }}\n"
    );
    fails(Bootstrap::with_virtual_hosts(&hosts).tunnels(), &destination, "DirectResponse", "-", 0).await;
    assert!(!up.has_more().await);
}

#[tokio::test]
async fn the_client_leaves_before_it_says_anything() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&unrouted());
    for resets in [false, true] {
        let client = tunnel(&naru, &up.address.to_string()).await;
        if resets { client.reset() } else { drop(client) }
    }
    assert_eq!(naru.ended(2).await, [(200, Reason::ClientGone); 2]);
    naru.settles().await;
    assert!(!up.has_more().await);
}

#[tokio::test]
async fn a_side_that_breaks_off_is_told_from_one_that_ends() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&routed("").cluster("up", up.address, ""));
    let opened = async || {
        let mut client = tunnel(&naru, DB).await;
        client.send(HELLO).await;
        let mut upstream = up.accept().await;
        upstream.expect(HELLO).await;
        (client, upstream)
    };
    let (client, mut upstream) = opened().await;
    client.reset();
    assert_eq!(upstream.ends().await, End::Reset);
    let (mut client, upstream) = opened().await;
    upstream.reset();
    assert_eq!(client.ends().await, End::Reset);
    naru.settles().await;
    assert_eq!(naru.ended(2).await, [(200, Reason::UpstreamAborted), (200, Reason::ClientGone)]);
    assert_eq!(naru.upstream_connections().await, 0);
}

#[tokio::test]
async fn nothing_moves_for_too_long() {
    let up = WireListener::bind().await;
    for bootstrap in [routed("").manager("stream_idle_timeout: 0.2s"), routed(", idle_timeout: 0.2s")] {
        let naru = Naru::start(&bootstrap.cluster("up", up.address, ""));
        let mut client = tunnel(&naru, DB).await;
        client.send(HELLO).await;
        let mut upstream = up.accept().await;
        upstream.expect(HELLO).await;
        assert_eq!((client.ends().await, upstream.ends().await), (End::Reset, End::Reset));
        naru.settles().await;
        assert_eq!(naru.ended(1).await, [(200, Reason::StreamIdle)]);
    }
}

#[tokio::test]
async fn the_timeout_of_a_route_is_for_responses() {
    let up = WireListener::bind().await;
    let naru = Naru::start(
        &routed(", timeout: 0.05s").manager("stream_idle_timeout: 0.4s").cluster("up", up.address, ""),
    );
    let mut client = tunnel(&naru, DB).await;
    client.send(HELLO).await;
    let mut upstream = up.accept().await;
    upstream.expect(HELLO).await;
    assert_eq!(client.ends().await, End::Reset);
    assert_eq!(naru.ended(1).await, [(200, Reason::StreamIdle)]);
}

#[tokio::test]
async fn the_proxy_ends_and_the_tunnel_does_not() {
    let up = WireListener::bind().await;
    let hole = BlackHole::new();
    let files = Directory::new();
    let log = files.path("log");
    let hosts = format!(
        "- name: hole\n  domains: [\"hole.test:1\"]\n  routes:\n  - {{ match: {{ prefix: / }}, route: {{ cluster: hole }} }}\n\
         - name: db\n  domains: [\"{DB}\"]\n  routes:\n  - {{ match: {{ prefix: / }}, route: {{ cluster: up }} }}\n"
    );
    let bootstrap = Bootstrap::with_virtual_hosts(&hosts)
        .tunnels()
        .manager("drain_timeout: 0.2s")
        .cluster("up", up.address, "")
        .cluster("hole", hole.address, "connect_timeout: 600s\n");
    let naru = logging(bootstrap, &log);
    let mut client = tunnel(&naru, DB).await;
    client.send(HELLO).await;
    let mut upstream = up.accept().await;
    upstream.expect(HELLO).await;
    let mut waiting = tunnel(&naru, "hole.test:1").await;
    waiting.send(HELLO).await;
    let mut serving = tunnel(&naru, "hole.test:1").await;
    serving.send("GET /no HTTP/1.1\r\nhost: no.test\r\n\r\n").await;
    assert_eq!(serving.response().await.status(), 404);
    naru.drain();
    // It is not over yet.
    upstream.send("more").await;
    client.expect(b"more").await;
    assert_eq!((client.ends().await, upstream.ends().await), (End::Reset, End::Reset));
    assert_eq!(waiting.ends().await, End::Reset);
    let _ = serving.end().await;
    drop(serving);
    for cluster in naru.ends().await {
        assert!(cluster.endpoints.iter().all(|endpoint| endpoint.active == 0 && endpoint.connections == 0));
    }
    let mut reasons: Vec<String> =
        documents(&log, 4).await.iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    assert_eq!(reasons, ["Drained", "Drained", "NoRoute", "TunnelServed"]);
}

/// Any bytes, cut anywhere, and any end: nothing is left behind. `NARU_SEED` replays one seed.
#[tokio::test]
async fn whatever_is_in_a_tunnel_it_is_counted_back_to_zero() {
    const WORDS: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\n",
        b"host: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"SM\r\n\r\n",
        b"\x16",
        b"\x03\x01",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"\r\n",
        b"A",
        b"\x00\x00\x00\x04",
        b"GET ",
        b"\xff",
    ];
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let up = naru_tests::Upstream::plain(naru_tests::Speaks::Http1).await;
    let naru = Naru::start(&unrouted().manager("drain_timeout: 0.05s"));
    let mut count = 0;
    for seed in only.map_or(0..256, |seed| seed..seed + 1) {
        let mut chance = Chance::split(seed, "tunnels");
        let mut client: Wire = tunnel(&naru, &up.address.to_string()).await;
        for _ in 0..chance.below(6) {
            let word = WORDS[chance.below(WORDS.len() as u64) as usize];
            let cut = chance.below(word.len() as u64 + 1) as usize;
            client.try_send(if chance.below(3) == 0 { &word[..cut] } else { word }).await;
        }
        match chance.below(3) {
            0 => client.reset(),
            1 => drop(client),
            _ => client.finish().await,
        }
        count += 1;
    }
    naru.settles().await;
    let report = naru.report().await;
    let tunnels: u64 = report
        .series
        .iter()
        .filter(|series| series.labels.status == 200)
        .map(|series| series.requests())
        .sum();
    assert_eq!(
        tunnels,
        count,
        "{:?}",
        report.series.iter().map(|s| (s.labels, s.requests())).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_tunnel_outlives_a_takeover() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&routed("").manager("drain_timeout: 0.05s").cluster("up", up.address, ""));
    let mut client = tunnel(&naru, DB).await;
    client.send(HELLO).await;
    let mut upstream = up.accept().await;
    upstream.expect(HELLO).await;
    // One that is served in the same process and is not in a tunnel shows that the time is over.
    let mut idle = Wire::connect(naru.address).await;
    naru.is_succeeded().await;
    assert_eq!(idle.ends().await, End::Closed);
    upstream.send("more").await;
    client.expect(b"more").await;
    client.send("and more").await;
    upstream.expect(b"and more").await;
    assert!(!naru.has_ended());
    drop((client, upstream));
    naru.ends().await;
}
