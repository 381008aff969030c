//! Changes under load, with the built program: a ledger shows that each request was answered.
//!
//! `cargo xtask prove` does the same for longer.

use std::sync::Arc;

use naru_tests::bootstrap::HTTP2;
use naru_tests::journal::Journal;
use naru_tests::upstream::echo_bytes;
use naru_tests::{Authority, Bootstrap, Speaks, Upstream};
use rustix::process::Signal;
use tokio::net::TcpListener;

use super::Stand;
use crate::grpc::peers::Peers;
use crate::load::books::{Log, differences};
use crate::load::file::{File, ROUTES};
use crate::load::{KINDS, Listeners, Load};

fn count(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test]
async fn nothing_is_lost_whatever_changes() {
    let (swaps, reloads, takeovers) =
        (count("NARU_SWAPS", 50), count("NARU_RELOADS", 3), count("NARU_TAKEOVERS", 3));
    let journal = Arc::<Journal>::default();
    let (up, calls) = (listen(Speaks::Http1, &journal).await, listen(Speaks::Http2, &journal).await);
    let bytes = bind().await;
    let bytes_address = bytes.local_addr().unwrap();
    tokio::spawn(echo_bytes(bytes, Arc::clone(&journal)));
    let peers = Peers::start().await;
    let file = File::new();
    let text = file.text("", || {
        let bootstrap =
            Bootstrap::new(ROUTES).cluster("up", up.address, "").cluster("calls", calls.address, HTTP2);
        bootstrap.cluster("peers", peers.server, HTTP2).cluster("bytes", bytes_address, "")
    });
    let stand = Stand::new(&text);
    let mut running = stand.first(&["--workers", "2"]).await;
    let load = Load::start(Listeners::of(&running), &file.authority, peers);
    load.goes_on(4).await;
    let mut ended = Vec::new();
    let (mut swapped, mut reloaded) = (0, 0);
    for round in 1..=takeovers.max(1) {
        let (mut swaps_here, mut reloads_here) = (0, 0);
        while swapped < swaps * round / takeovers.max(1) {
            swapped += 1;
            swaps_here += 1;
            stand.save(&text.replace("number 0", &format!("number {swapped}")));
            running.signal(Signal::HUP);
            running.says("was read again; it is in effect", swaps_here).await;
        }
        while reloaded < reloads * round / takeovers.max(1) {
            reloaded += 1;
            reloads_here += 1;
            file.issue();
            running.says("certificates have changed; they are in effect", reloads_here).await;
            load.goes_on(1).await;
        }
        if takeovers > 0 {
            let next = stand.next(&["--workers", &(1 + round % 3).to_string()]).await;
            ended.push(std::mem::replace(&mut running, next));
            load.goes_on(2).await;
        }
    }
    load.goes_on(4).await;
    let ledger = Arc::clone(&load.ledger);
    let answered = load.ends().await;
    ended.push(running);
    for old in ended {
        old.signal(Signal::TERM);
        let exit = old.ends().await;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    }
    let (entries, log) = (ledger.entries(), Log::read(&file.log()));
    println!(
        "{swapped} swaps, {reloaded} reloads, {takeovers} takeovers: {} requests, all answered: {answered:?}; {:?}",
        entries.len(),
        log.reasons()
    );
    assert!(answered.len() == KINDS.len() && answered.iter().all(|(_, count)| *count >= 10), "{answered:?}");
    // Every request that was answered here was seen there, has one line, and none was seen twice.
    let wrong = differences(&ledger, &log, &journal);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn bind() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap()
}

async fn listen(speaks: Speaks, journal: &Arc<Journal>) -> Upstream {
    Upstream::listen(bind().await, speaks, &Authority::new(), Arc::clone(journal))
}
