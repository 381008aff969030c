//! Datagrams that are passed through.

use std::net::SocketAddr;

use naru_base::Reason;
use naru_proxy::Options;
use naru_tests::bootstrap::json_log;
use naru_tests::files::{Directory, documents};
use naru_tests::naru::read;
use naru_tests::{Naru, until, within};
use tokio::net::UdpSocket;

const PROXY: &str = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig";
const ROUTE: &str = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route";
const OPTIONS: Options = Options { workers: 2, seed: Some(1) };

/// To a cluster of these endpoints; more lines of the proxy and of the cluster.
fn to(endpoints: &[SocketAddr], proxy: &str, cluster: &str) -> String {
    let indented = |lines: &str, by: usize| -> String {
        lines.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
    };
    let endpoint = |address: &SocketAddr| {
        let (ip, port) = (address.ip(), address.port());
        format!(
            "        - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}\n"
        )
    };
    let endpoints: String = endpoints.iter().map(endpoint).collect();
    format!(
        "static_resources:\n  listeners:\n  - name: main\n    address: {{ socket_address: {{ protocol: UDP, address: \
         127.0.0.1, port_value: 0 }} }}\n    listener_filters:\n    - name: udp\n      typed_config:\n        \
         \"@type\": {PROXY}\n        stat_prefix: udp\n        matcher: {{ on_no_match: {{ action: {{ name: route, \
         typed_config: {{ \"@type\": {ROUTE}, cluster: up }} }} }} }}\n{}  clusters:\n  - name: up\n    \
         load_assignment:\n      cluster_name: up\n      endpoints:\n      - lb_endpoints:\n{endpoints}{}",
        indented(proxy, 8),
        indented(cluster, 4),
    )
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

async fn client(naru: &Naru) -> UdpSocket {
    let socket = socket().await;
    socket.connect(naru.address).await.unwrap();
    socket
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut datagram = vec![0; 65_536];
    let (length, from) = within("a datagram", socket.recv_from(&mut datagram)).await.unwrap();
    datagram.truncate(length);
    (datagram, from)
}

#[tokio::test]
async fn each_client_has_a_session_and_is_answered_by_it() {
    let files = Directory::new();
    let log = files.path("log");
    let fields = "reason: \"%REASON%\"\nhost: \"%UPSTREAM_HOST%\"\nclient: \"%DOWNSTREAM_REMOTE_ADDRESS%\"\n\
                  received: \"%BYTES_RECEIVED%\"\nsent: \"%BYTES_SENT%\"\n";
    let up = socket().await;
    let address = up.local_addr().unwrap();
    let proxy = format!("idle_timeout: 0.4s\n{}", json_log(&log, fields));
    let naru = Naru::start_on(read(&to(&[address], &proxy, "")), &OPTIONS);
    let clients = [client(&naru).await, client(&naru).await, client(&naru).await];
    let mut seen = Vec::new();
    for (at, client) in clients.iter().enumerate() {
        for turn in 0..3 {
            let said = format!("{at}.{turn}");
            client.send(said.as_bytes()).await.unwrap();
            let (datagram, from) = received(&up).await;
            assert_eq!(datagram, said.as_bytes());
            if turn == 0 {
                assert!(!seen.contains(&from), "a socket of its own");
                seen.push(from);
            }
            assert_eq!(seen.last(), Some(&from), "and one only");
            up.send_to(format!("re {said}").as_bytes(), from).await.unwrap();
            assert_eq!(received(client).await, (format!("re {said}").into_bytes(), naru.address));
        }
    }
    // Those who say nothing more are forgotten, and begin anew.
    naru.settles().await;
    assert_eq!(naru.ended(3).await, [(0, Reason::TcpIdle); 3]);
    let mut lines = documents(&log, 3).await;
    lines.sort_by_key(|line| line["client"].to_string());
    for line in &lines {
        assert_eq!((line["received"].as_u64(), line["sent"].as_u64()), (Some(9), Some(18)), "{line}");
        assert_eq!(line["host"], address.to_string());
    }
    assert_eq!(naru.upstream_connections().await, 0);
    clients[0].send(b"again").await.unwrap();
    let (_, from) = received(&up).await;
    up.send_to(b"yes", from).await.unwrap();
    assert_eq!(received(&clients[0]).await.0, b"yes");
}

#[tokio::test]
async fn datagrams_are_of_any_size_that_there_is() {
    let up = socket().await;
    let naru = Naru::start_on(read(&to(&[up.local_addr().unwrap()], "", "")), &OPTIONS);
    let client = client(&naru).await;
    for length in [0, 1, 1_472, 9_000, 65_507] {
        let said = vec![7; length];
        client.send(&said).await.unwrap();
        let (datagram, from) = received(&up).await;
        assert_eq!(datagram.len(), length);
        up.send_to(&datagram, from).await.unwrap();
        assert_eq!(received(&client).await.0, said);
    }
}

#[tokio::test]
async fn there_are_no_more_sessions_than_the_cluster_bears() {
    let up = socket().await;
    let limits = "circuit_breakers: { thresholds: [{ max_connections: 2 }] }\n";
    let naru =
        Naru::start_on(read(&to(&[up.local_addr().unwrap()], "idle_timeout: 0.5s\n", limits)), &OPTIONS);
    let clients = [client(&naru).await, client(&naru).await];
    for client in &clients {
        client.send(b"in").await.unwrap();
        assert_eq!(received(&up).await.0, b"in");
    }
    let late = client(&naru).await;
    late.send(b"out").await.unwrap();
    until("it to be refused", async || {
        let report = naru.report().await;
        report.series.iter().any(|series| series.labels.reason == Reason::Overflow).then_some(())
    })
    .await;
    naru.settles().await;
    late.send(b"now").await.unwrap();
    assert_eq!(received(&up).await.0, b"now");
}

#[tokio::test]
async fn endpoints_are_chosen_as_the_cluster_says_and_one_that_is_gone_may_come_back() {
    let all = [socket().await, socket().await];
    let addresses = all.each_ref().map(|up| up.local_addr().unwrap());
    let text = to(&addresses, "hash_policies: [{ source_ip: true }]\n", "lb_policy: MAGLEV\n");
    let naru = Naru::start_on(read(&text), &OPTIONS);
    let mut took = Vec::new();
    for _ in 0..6 {
        client(&naru).await.send(b"x").await.unwrap();
        let [a, b] = &all;
        tokio::select! { _ = received(a) => took.push(0), _ = received(b) => took.push(1) }
    }
    assert!(took.iter().all(|at| *at == took[0]), "{took:?}");
    // Nobody is there; then somebody is.
    let gone = socket().await;
    let address = gone.local_addr().unwrap();
    drop(gone);
    let naru = Naru::start_on(read(&to(&[address], "", "")), &OPTIONS);
    let client = client(&naru).await;
    for _ in 0..3 {
        client.send(b"x").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let back = UdpSocket::bind(address).await.unwrap();
    until("it to be heard", async || {
        client.send(b"y").await.unwrap();
        let mut datagram = [0; 8];
        let look = tokio::time::timeout(std::time::Duration::from_millis(50), back.recv_from(&mut datagram));
        look.await.is_ok().then_some(())
    })
    .await;
}

#[tokio::test]
async fn sessions_stay_while_the_configuration_changes_and_end_with_their_listener() {
    let (old, new) = (socket().await, socket().await);
    let text = |up: &UdpSocket| to(&[up.local_addr().unwrap()], "", "");
    let naru = Naru::start_on(read(&text(&old)), &OPTIONS);
    let staying = client(&naru).await;
    staying.send(b"a").await.unwrap();
    received(&old).await;
    naru.update(&text(&new)).await;
    staying.send(b"b").await.unwrap();
    assert_eq!(received(&old).await.0, b"b", "where it began");
    let coming = client(&naru).await;
    coming.send(b"c").await.unwrap();
    let (_, from) = received(&new).await;
    new.send_to(b"d", from).await.unwrap();
    assert_eq!(received(&coming).await.0, b"d");
    for cluster in naru.ends().await {
        assert!(cluster.endpoints.iter().all(|endpoint| endpoint.active == 0 && endpoint.connections == 0));
    }
}
