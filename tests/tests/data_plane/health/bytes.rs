//! By bytes over TCP.

use std::time::Duration;

use naru_guard::Health::{Failed, Healthy};
use naru_spec::{HealthCheck, Probe, TcpCheck};
use naru_tests::wire::{End, WireListener};
use naru_tests::{Wire, until, within};

use super::{becomes, health, often, start_to, stats};

fn ping() -> TcpCheck {
    TcpCheck { send: b"PING".to_vec(), receive: vec![b"+".to_vec(), b"NG\r\n".to_vec()] }
}

#[tokio::test]
async fn what_is_to_be_received_may_come_in_pieces_among_other_things() {
    let listener = WireListener::bind().await;
    let naru = start_to(&[listener.address], often(Probe::Tcp(ping())));
    let mut wire = listener.accept().await;
    wire.expect(b"PING").await;
    wire.send(b"hello NG\r\n +PO").await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(stats(&naru).success, 0, "in this order, and whole");
    wire.send(b"N").await;
    wire.send(b"G\r\n").await;
    becomes(&naru, &[Healthy]).await;
    // The next one comes by the same connection.
    wire.expect(b"PING").await;
    wire.send(b"+PONG\r\n").await;
    wire.expect(b"PING").await;
    assert!(!listener.has_more().await);
    // One that closes does not answer.
    drop(wire);
    becomes(&naru, &[Failed]).await;
    let mut wire = listener.accept().await;
    wire.expect(b"PING").await;
    wire.send(b"+PONG\r\n").await;
    becomes(&naru, &[Healthy]).await;
    assert_eq!(stats(&naru).network_failure, 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_or_spoke_unasked_is_replaced() {
    let listener = WireListener::bind().await;
    // The test is quicker than the next probe.
    let pause = Duration::from_millis(400);
    let check = HealthCheck { interval: pause, no_traffic_interval: pause, ..often(Probe::Tcp(ping())) };
    let naru = start_to(&[listener.address], check);
    let mut passes = 0;
    let mut answer = async |wire: &mut Wire| {
        wire.expect(b"PING").await;
        wire.send(b"+PONG\r\n").await;
        passes += 1;
        until("a pass", async || (stats(&naru).success == passes).then_some(())).await;
    };
    for _ in 0..2 {
        let mut wire = listener.accept().await;
        answer(&mut wire).await;
    }
    let mut wire = listener.accept().await;
    answer(&mut wire).await;
    wire.send(b"+PONG\r\n").await;
    let mut next = listener.accept().await;
    answer(&mut next).await;
    wire.ends().await;
    assert_eq!((health(&naru), stats(&naru).failure), (vec![Healthy], 0));
}

#[tokio::test]
async fn who_floods_a_probe_with_other_things_is_not_well() {
    let listener = WireListener::bind().await;
    let naru = start_to(&[listener.address], often(Probe::Tcp(ping())));
    let mut wire = listener.accept().await;
    wire.expect(b"PING").await;
    while wire.try_send([b'x'; 1024]).await {}
    becomes(&naru, &[Failed]).await;
}

#[tokio::test]
async fn where_nothing_is_to_be_received_a_connection_is_enough() {
    let listener = WireListener::bind().await;
    let check = TcpCheck { send: b"never sent".to_vec(), receive: Vec::new() };
    let naru = start_to(&[listener.address], often(Probe::Tcp(check)));
    for _ in 0..3 {
        let mut wire = listener.accept().await;
        let (received, end) = within("the end", wire.end()).await;
        assert_eq!((received.as_slice(), end), (&b""[..], End::Closed));
    }
    becomes(&naru, &[Healthy]).await;
    drop(listener);
    becomes(&naru, &[Failed]).await;
}
