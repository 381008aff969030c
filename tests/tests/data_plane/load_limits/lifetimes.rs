//! How long connections and requests of a cluster may last, and who asks whether the other end is still there.

use std::time::{Duration, Instant};

use naru_base::Reason;
use naru_spec::{ClusterLimits, Http2Keepalive, TcpKeepalive};
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Client, Naru, Speaks, Upstream, Wire, until};

use super::{OK, asked, asking, free, limits, listener, start, status};

#[tokio::test]
async fn a_connection_that_is_too_old_takes_no_more_requests() {
    let duration = Duration::from_millis(200);
    let limits = ClusterLimits { connection_duration_max: Some(duration), ..limits(free()) };
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let up = Upstream::plain(speaks).await;
        let lines = if speaks.is_http2() { HTTP2 } else { "" };
        let naru = start(&Bootstrap::new(TO_UP).cluster("up", up.address, lines), &limits, 1);
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        let began = Instant::now();
        assert_eq!(client.get("/bytes/2").await.text(), "xx");
        assert_eq!(client.get("/bytes/2").await.text(), "xx");
        // One that began in time is not broken off.
        assert_eq!(client.get("/slow/300").await.status, 200);
        if began.elapsed() < Duration::from_millis(450) {
            assert_eq!(up.connections(), 1, "{speaks:?}");
        }
        // The one before is too old by now, be it the first or, on a slow machine, another.
        let before = up.connections();
        assert_eq!(client.get("/bytes/2").await.text(), "xx");
        assert_eq!(up.connections(), before + 1, "{speaks:?}");
        // One that carries nothing is closed.
        until("it to be closed", async || (status(&naru).connections == 0).then_some(())).await;
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_request_and_its_response_take_no_longer_than_they_may() {
    let (up, bootstrap) = listener().await;
    let limits = ClusterLimits { stream_duration_max: Some(Duration::from_millis(150)), ..limits(free()) };
    let naru = start(&bootstrap, &limits, 1);
    let mut client = asking(&naru, "/").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text().as_str()), (408, "upstream max stream duration reached"));
    assert_eq!(upstream.ends().await, End::Closed);
    client.send("GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
    assert_eq!(client.head().await.status(), 200);
    assert_ne!(client.end().await.1, End::Reset);
    // A quick one is not concerned.
    let mut quick = asking(&naru, "/").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    upstream.send(OK).await;
    assert_eq!(quick.response().await.text(), "ok");
    drop(quick);
    let expected = [(200, Reason::Forwarded), (200, Reason::StreamDuration), (408, Reason::StreamDuration)];
    assert_eq!(naru.ended(3).await, expected);
    assert_eq!(Reason::StreamDuration.flag(), "UMSDR");
    naru.settles().await;
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let up = WireListener::bind().await;
    let limits = ClusterLimits { tcp_idle_timeout: Some(Duration::from_millis(200)), ..limits(free()) };
    let naru = start(&Bootstrap::to(up.address).tunnels(), &limits, 1);
    let mut client = Wire::connect(naru.address).await;
    assert_eq!(client.ask_for_tunnel("db.test:5432").await.status(), 200);
    client.send("hello").await;
    let mut upstream = up.accept().await;
    upstream.expect(b"hello").await;
    assert_eq!((client.ends().await, upstream.ends().await), (End::Reset, End::Reset));
    assert_eq!(naru.ended(1).await, [(200, Reason::StreamIdle)]);
    naru.settles().await;
}

#[tokio::test]
async fn a_connection_of_http2_on_which_no_ping_is_answered_is_closed() {
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2);
    let keepalive =
        Http2Keepalive { interval: Duration::from_millis(50), timeout: Duration::from_millis(50) };
    let limits = ClusterLimits { http2_keepalive: Some(keepalive), ..limits(free()) };
    let naru = start(&bootstrap, &limits, 1);
    let mut client = asking(&naru, "/").await;
    // It accepts, and says no more than its settings.
    let mut upstream = up.accept().await;
    upstream.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    assert_eq!(client.response().await.status(), 503);
    let (bytes, _) = upstream.end().await;
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0];
    assert!(bytes.windows(9).any(|window| window == ping), "{bytes:?}");
    drop(client);
    naru.settles().await;
    // One that is answered stands, for longer than a ping without an answer would let it.
    let keepalive = Http2Keepalive { timeout: Duration::from_millis(500), ..keepalive };
    let limits = ClusterLimits { http2_keepalive: Some(keepalive), ..limits };
    let up = Upstream::plain(Speaks::Http2).await;
    let naru = start(&Bootstrap::new(TO_UP).cluster("up", up.address, HTTP2), &limits, 1);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    assert_eq!(client.get("/slow/1500").await.status, 200);
    assert_eq!((client.get("/bytes/2").await.text().as_str(), up.connections()), ("xx", 1));
}

/// What the kernel's table of connections says of the timers of those to an address.
fn timers(naru: &Naru, port: u16) -> Vec<String> {
    assert_eq!(status(naru).connections, 1);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.filter(|fields| fields[2].ends_with(&to) && fields[3] == "01");
    ours.map(|fields| fields[5].split(':').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_kernel_keeps_a_connection_alive_where_it_shall() {
    let keepalive =
        TcpKeepalive { probes: 3, time: Duration::from_secs(60), interval: Duration::from_secs(5) };
    for (keepalive, timer) in [(None, "00"), (Some(keepalive), "02")] {
        let up = Upstream::plain(Speaks::Http1).await;
        let limits = ClusterLimits { tcp_keepalive: keepalive, ..limits(free()) };
        let naru = start(&Bootstrap::to(up.address), &limits, 1);
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        assert_eq!(client.get("/bytes/2").await.text(), "xx");
        until("the timer", async || (timers(&naru, up.address.port()) == [timer]).then_some(())).await;
    }
}
