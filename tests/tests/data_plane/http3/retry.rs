//! Clients that begin handshakes and do not go on: those after them have to show that they are where they say.

use naru_spec::defaults::QUIC_UNPROVEN_MAX;
use naru_tests::certificates::NAME;
use serde_json::{Value, json};

use super::peer::Peer;
use super::start;

fn connect(to: std::net::SocketAddr, ca: &str) -> Value {
    json!({ "do": "connect", "to": to.to_string(), "ca": ca, "name": NAME })
}

async fn half(peer: &mut Peer, to: std::net::SocketAddr, count: usize) -> (u64, u64) {
    let told = peer.ask(json!({ "do": "half", "to": to.to_string(), "name": NAME, "count": count })).await;
    (told["initial"].as_u64().unwrap(), told["retry"].as_u64().unwrap())
}

#[tokio::test]
async fn under_a_flood_of_beginnings_clients_show_where_they_are_and_are_served() {
    let (authority, up, naru, mut peer) = start().await;
    let ca = authority.pem();
    let quiet = peer.ask(connect(naru.address, &ca)).await;
    assert_eq!(quiet["retried"], false, "{quiet}");
    let (initial, retry) = half(&mut peer, naru.address, QUIC_UNPROVEN_MAX + 20).await;
    // On a machine that is slow enough the first of them are given up meanwhile.
    assert!(initial >= QUIC_UNPROVEN_MAX as u64 && retry > 0, "{initial} handshakes, {retry} times Retry");
    // Nothing is kept of those who were asked to come again.
    let connections = naru.report().await.downstream.connections_total;
    assert!(connections <= 1 + initial, "{connections} connections of {initial}");
    for _ in 0..3 {
        let told = peer.ask(connect(naru.address, &ca)).await;
        assert_eq!(told["retried"], true, "{told}");
        let of = peer.known(&told);
        assert_eq!(peer.get(of, "/status/200").await.status(), 200);
    }
    assert_eq!(up.requests(), 3);
}
