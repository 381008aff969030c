//! One configuration follows another while there are tunnels.

use naru_base::Reason;
use naru_spec::Config;
use naru_tests::naru::config;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Naru, Wire};

use super::{DB, routed, tunnel};

const HELLO: &[u8] = b"\x00hello";

/// Answers everything with this word.
fn saying(word: &str) -> Bootstrap {
    Bootstrap::new(&format!(
        "- match: {{ prefix: / }}\n  direct_response: {{ status: 200, body: {{ inline_string: {word:?} }} }}\n"
    ))
}

/// The same under another name: whoever came by the old one must leave.
fn renamed(bootstrap: &Bootstrap) -> Config {
    let mut config = config(bootstrap);
    config.listeners[0].name = "renamed".to_owned();
    config
}

async fn asks(client: &mut Wire) -> String {
    client.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    client.response().await.text()
}

#[tokio::test]
async fn http_in_a_tunnel_goes_on_by_the_newest_configuration_and_holds_none_before() {
    let naru = Naru::start(&saying("0").tunnels());
    let mut client = tunnel(&naru, "a.test:80").await;
    assert_eq!(asks(&mut client).await, "0");
    for number in 1..=9 {
        naru.update_to(config(&saying(&number.to_string()).tunnels())).await;
        naru.forgets_old_snapshots().await;
        assert_eq!(asks(&mut client).await, number.to_string());
    }
    let report = naru.report().await;
    assert_eq!((report.downstream.connections_active, report.downstream.requests_active), (1, 1));
    client.finish().await;
    assert_eq!(client.ends().await, End::Closed);
    naru.settles().await;
    let ended = naru.ended(11).await;
    assert_eq!(ended.iter().filter(|(_, reason)| *reason == Reason::TunnelServed).count(), 1, "{ended:?}");
}

#[tokio::test]
async fn bytes_that_pass_through_stay_on_their_way() {
    let (one, two) = (WireListener::bind().await, WireListener::bind().await);
    let naru = Naru::start(&routed("").cluster("up", one.address, ""));
    let mut before = tunnel(&naru, DB).await;
    before.send(HELLO).await;
    let mut upstream = one.accept().await;
    upstream.expect(HELLO).await;
    naru.update_to(config(&routed("").cluster("up", two.address, ""))).await;
    let mut after = tunnel(&naru, DB).await;
    after.send(HELLO).await;
    two.accept().await.expect(HELLO).await;
    upstream.send("still here").await;
    before.expect(b"still here").await;
    before.send("so am I").await;
    upstream.expect(b"so am I").await;
    assert_eq!(naru.snapshots_in_use(), 2, "it ends by what it began with");
    drop((before, upstream, after));
    naru.settles().await;
    naru.forgets_old_snapshots().await;
}

#[tokio::test]
async fn a_tunnel_has_its_time_to_leave_a_listener_that_goes() {
    let up = WireListener::bind().await;
    let bootstrap = || routed("").manager("drain_timeout: 0.2s").cluster("up", up.address, "");
    let naru = Naru::start(&bootstrap());
    let mut client = tunnel(&naru, DB).await;
    client.send(HELLO).await;
    let mut upstream = up.accept().await;
    upstream.expect(HELLO).await;
    let mut serving = tunnel(&naru, "no.test:80").await;
    serving.send("GET /no HTTP/1.1\r\nhost: no.test\r\n\r\n").await;
    assert_eq!(serving.response().await.status(), 404);
    naru.update_to(renamed(&bootstrap())).await;
    // It is not over yet.
    upstream.send("more").await;
    client.expect(b"more").await;
    assert_eq!((client.ends().await, upstream.ends().await), (End::Reset, End::Reset));
    assert_eq!(serving.ends().await, End::Closed);
    drop(serving);
    naru.settles().await;
    naru.forgets_old_snapshots().await;
    let ended = naru.ended(3).await;
    assert_eq!(
        ended,
        [(200, Reason::TunnelServed), (200, Reason::Drained), (404, Reason::NoRoute)],
        "{ended:?}"
    );
}

#[tokio::test]
async fn whether_there_are_tunnels_is_asked_with_each_request() {
    let naru = Naru::start(&saying("old"));
    let mut client = Wire::connect(naru.address).await;
    assert_eq!(asks(&mut client).await, "old");
    naru.update_to(config(&saying("new").tunnels())).await;
    assert_eq!(client.ask_for_tunnel("a.test:80").await.status(), 200);
    assert_eq!(asks(&mut client).await, "new");
    let mut late = Wire::connect(naru.address).await;
    assert_eq!(asks(&mut late).await, "new");
    naru.update_to(config(&saying("last"))).await;
    assert_eq!(asks(&mut client).await, "last", "a tunnel that there is stays");
    assert_eq!(late.ask_for_tunnel("a.test:80").await.status(), 403);
    drop((client, late));
    naru.settles().await;
    naru.forgets_old_snapshots().await;
}
