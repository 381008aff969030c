//! The configuration changes under connections that stand; the proxy ends under them.

use naru_base::Reason;
use naru_tests::bootstrap::tcp_chain;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Naru};

use super::connected;

#[tokio::test]
async fn a_connection_goes_on_where_it_is_and_new_ones_go_where_they_are_led() {
    let (old, new) = (WireListener::bind().await, WireListener::bind().await);
    let to = |up: &WireListener| Bootstrap::tcp("idle_timeout: 3600s\n").cluster("up", up.address, "");
    let naru = Naru::start(&to(&old));
    let (mut client, mut upstream) = connected(&naru, &old).await;
    for _ in 0..5 {
        naru.update(&to(&new).text()).await;
        let (mut other, mut elsewhere) = connected(&naru, &new).await;
        client.send("still").await;
        upstream.expect(b"still").await;
        upstream.send("here").await;
        client.expect(b"here").await;
        elsewhere.finish().await;
        assert_eq!(other.end().await.1, End::Closed);
        naru.update(&to(&old).text()).await;
    }
    drop(client);
    assert_eq!(upstream.ends().await, End::Closed);
    drop(upstream);
    naru.settles().await;
    assert!(naru.ended(6).await.iter().all(|(status, _)| *status == 0));
    naru.forgets_old_snapshots().await;
}

#[tokio::test]
async fn a_chain_that_serves_http_now_takes_over_no_connection() {
    let up = WireListener::bind().await;
    let naru = Naru::start(&Bootstrap::tcp("").cluster("up", up.address, ""));
    let (mut client, mut upstream) = connected(&naru, &up).await;
    naru.update(&Bootstrap::to(up.address).text()).await;
    // It is asked to end, which is when nothing moves any more.
    upstream.send("more").await;
    client.expect(b"more").await;
    assert_eq!((client.ends().await, upstream.ends().await), (End::Reset, End::Reset));
    assert_eq!(naru.ended(1).await, [(0, Reason::Drained)]);
}

#[tokio::test]
async fn the_proxy_ends_and_what_moves_is_waited_for() {
    let up = WireListener::bind().await;
    let chains = tcp_chain("", "");
    let naru = Naru::start(&Bootstrap::of_chains(&chains).cluster("up", up.address, ""));
    let (mut busy, mut busy_up) = connected(&naru, &up).await;
    let (mut quiet, mut quiet_up) = connected(&naru, &up).await;
    naru.drain();
    // The quiet one is over before the other, which began earlier: what moves stays.
    let quiet_ends = async { (quiet.ends().await, quiet_up.ends().await) };
    let moves = async {
        loop {
            busy.send("x").await;
            busy_up.expect(b"x").await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let ended = tokio::select! { ended = quiet_ends => ended, () = moves => unreachable!("it never ends") };
    assert_eq!(ended, (End::Reset, End::Reset));
    busy.send("y").await;
    busy_up.expect(b"y").await;
    drop((busy, busy_up));
    for cluster in naru.ends().await {
        assert!(cluster.endpoints.iter().all(|endpoint| endpoint.active == 0 && endpoint.connections == 0));
    }
}
