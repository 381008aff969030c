//! The limits of a cluster: Envoy's circuit breakers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use naru_base::Reason;
use naru_spec::{ClusterLimits, RetryBudget, RetryLimit, Thresholds};
use naru_tests::bootstrap::{HTTP2, TO_UP};
use naru_tests::http2::H2Server;
use naru_tests::wire::{End, WireListener};
use naru_tests::{Bootstrap, Naru, Program, Speaks, Upstream, Wire, client, until};
use tokio::task::JoinSet;

use super::{
    OK, asked, asking, ended, free, is_overflow, limited, limits, listener, pause, start, status, waiting,
};

#[tokio::test]
async fn no_more_requests_are_on_their_way_than_may_be() {
    let (up, bootstrap) = listener().await;
    let naru = start(&bootstrap, &limits(Thresholds { requests_max: 1, ..free() }), 1);
    let mut first = asking(&naru, "/1").await;
    let mut upstream = up.accept().await;
    assert_eq!(asked(&mut upstream).await, "/1");
    let mut second = asking(&naru, "/2").await;
    assert!(is_overflow(&second.response().await));
    // A connection was made for it, and waits for somebody else.
    let mut spare = up.accept().await;
    upstream.send(OK).await;
    assert_eq!(first.response().await.text(), "ok");
    second.send("GET /3 HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    assert_eq!(asked(&mut upstream).await, "/3", "the connection that was used last");
    upstream.send(OK).await;
    assert_eq!(second.response().await.text(), "ok");
    assert_eq!((status(&naru).requests_overflow, status(&naru).connections_overflow), (1, 0));
    drop((first, second));
    ended(&naru, 2, 1).await;
    naru.settles().await;
    let endpoint = &naru.clusters()[0].endpoints[0];
    assert_eq!(endpoint.errors_total, 0, "it did nothing wrong");
    naru.drain();
    assert_eq!(spare.end().await, (Vec::new(), End::Closed), "nothing was sent on it");
}

#[tokio::test]
async fn who_finds_no_connection_waits_in_turn_and_no_more_than_may() {
    let (up, bootstrap) = listener().await;
    let naru = start(&bootstrap, &limits(Thresholds { connections_max: 1, pending_max: 3, ..free() }), 1);
    let mut clients = Vec::new();
    clients.push(asking(&naru, "/0").await);
    let mut upstream = up.accept().await;
    assert_eq!(asked(&mut upstream).await, "/0");
    for at in 1..=3 {
        clients.push(asking(&naru, &format!("/{at}")).await);
        waiting(&naru, at).await;
    }
    assert!(is_overflow(&asking(&naru, "/4").await.response().await));
    for (at, client) in clients.iter_mut().enumerate() {
        if at > 0 {
            assert_eq!(asked(&mut upstream).await, format!("/{at}"));
        }
        upstream.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
    }
    assert!(!up.has_more().await);
    let status = status(&naru);
    assert_eq!((status.connections, status.pending, status.pending_overflow), (1, 0, 1));
    assert!(status.connections_overflow >= 3, "{status:?}");
    drop(clients);
    ended(&naru, 4, 1).await;
    naru.settles().await;
}

#[tokio::test]
async fn who_leaves_while_it_waits_is_passed_over() {
    let (up, bootstrap) = listener().await;
    let naru = start(&bootstrap, &limits(Thresholds { connections_max: 1, ..free() }), 1);
    let mut first = asking(&naru, "/0").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    let mut clients = Vec::new();
    for at in 1..=4 {
        clients.push(asking(&naru, &format!("/{at}")).await);
        waiting(&naru, at).await;
    }
    // The first of those who wait, and one in the middle.
    drop(clients.remove(0));
    clients.remove(1).reset();
    waiting(&naru, 2).await;
    upstream.send(OK).await;
    assert_eq!(first.response().await.text(), "ok");
    assert_eq!(asked(&mut upstream).await, "/2");
    // One leaves while it is sent: its connection closes, and the last one may make another.
    drop(clients.remove(0));
    assert_eq!(upstream.ends().await, End::Closed);
    let mut upstream = up.accept().await;
    assert_eq!(asked(&mut upstream).await, "/4");
    // And one while its response comes.
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
    assert_eq!(clients[0].head().await.status(), 200);
    drop((clients, first));
    assert_eq!(upstream.ends().await, End::Closed);
    naru.settles().await;
    assert_eq!(status(&naru).connections, 0);
}

#[tokio::test]
async fn who_waits_hears_that_a_connection_could_not_be_made() {
    let (up, bootstrap) = listener().await;
    let naru = start(&bootstrap, &limits(Thresholds { connections_max: 1, ..free() }), 1);
    let first = asking(&naru, "/0").await;
    let upstream = up.accept().await;
    let mut clients = Vec::new();
    for at in 1..=3 {
        clients.push(asking(&naru, &format!("/{at}")).await);
        waiting(&naru, at).await;
    }
    // Nobody listens any more when the next one connects.
    drop(up);
    drop(upstream);
    for client in &mut clients {
        let response = client.response().await;
        assert_eq!(response.status(), 503);
        assert!(response.text().contains("remote connection failure"), "{}", response.text());
    }
    drop((clients, first));
    naru.settles().await;
}

#[tokio::test]
async fn an_endpoint_without_connections_always_has_one() {
    let ups = [WireListener::bind().await, WireListener::bind().await];
    let bootstrap = Bootstrap::new(TO_UP).cluster_of("up", &[ups[0].address, ups[1].address], "");
    let of_endpoint = ClusterLimits { endpoint_connections_max: Some(1), ..limits(free()) };
    for limits in [limits(Thresholds { connections_max: 1, ..free() }), of_endpoint] {
        let naru = start(&bootstrap, &limits, 1);
        let mut clients = Vec::new();
        for at in 0..4 {
            clients.push(asking(&naru, &format!("/{at}")).await);
            until("it to be counted", async || {
                let active: u32 = naru.clusters()[0].endpoints.iter().map(|endpoint| endpoint.active).sum();
                (active == at + 1).then_some(())
            })
            .await;
        }
        let mut upstreams = [ups[0].accept().await, ups[1].accept().await];
        waiting(&naru, 2).await;
        for upstream in &mut upstreams {
            for _ in 0..2 {
                asked(upstream).await;
                upstream.send(OK).await;
            }
        }
        for client in &mut clients {
            assert_eq!(client.response().await.text(), "ok");
        }
        for up in &ups {
            assert!(!up.has_more().await);
        }
        drop(clients);
        naru.settles().await;
    }
}

#[tokio::test]
async fn streams_beyond_those_of_a_connection_wait_or_have_another_one() {
    let up = WireListener::bind().await;
    let options = HTTP2.replace("{}", "{ max_concurrent_streams: 2 }");
    let bootstrap = Bootstrap::new(TO_UP).cluster("up", up.address, &options);
    let naru = start(&bootstrap, &limits(Thresholds { connections_max: 2, ..free() }), 1);
    let mut clients = Vec::new();
    let mut upstreams = Vec::new();
    let mut streams = Vec::new();
    for at in 0..4 {
        clients.push(asking(&naru, &format!("/{at}")).await);
        if at % 2 == 0 {
            upstreams.push(H2Server::accept(up.accept_stream().await).await);
        }
        streams.push(upstreams.last_mut().unwrap().request().await.unwrap());
    }
    for at in 4..6 {
        clients.push(asking(&naru, &format!("/{at}")).await);
        waiting(&naru, at - 3).await;
    }
    assert!(!up.has_more().await);
    // A stream of the first connection ends: the first who waits has it, and then the next.
    for (upstream, at) in [(0, 4), (1, 5)] {
        let (_, mut respond) = streams.remove(if upstream == 0 { 0 } else { 1 });
        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"ok"), true).unwrap();
        let (request, respond) = upstreams[upstream].request().await.unwrap();
        assert_eq!(request.uri().path(), format!("/{at}"));
        streams.push((request, respond));
    }
    for (_, mut respond) in streams {
        respond.send_response(http::Response::new(()), true).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status(), 200);
    }
    drop(clients);
    naru.settles().await;
    assert_eq!(status(&naru).connections, 2);
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    let up = WireListener::bind().await;
    let retries = "timeout: 0s, retry_policy: { retry_on: connect-failure, num_retries: 3 }";
    let routes = TO_UP.replace("timeout: 0s", retries);
    let bootstrap = Bootstrap::new(&routes).cluster("up", up.address, "");
    let none = Thresholds { pending_max: 0, ..free() };
    let naru = start(&bootstrap, &limits(none), 1);
    assert!(is_overflow(&asking(&naru, "/").await.response().await));
    assert_eq!(status(&naru).pending_overflow, 1);
    assert!(!up.has_more().await);
    naru.settles().await;
}

/// Workers that all want what there is not enough of.
struct Crowd {
    upstream: Upstream,
    /// The most that were ever seen.
    connections: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

impl Crowd {
    /// How all of 48 clients were answered: well, and refused.
    async fn ask(&self, naru: &Naru, times: usize) -> (u64, u64) {
        let answers = async {
            let mut clients = JoinSet::new();
            for _ in 0..48 {
                let address = naru.address;
                clients.spawn(async move {
                    let mut client = client::Client::plain(address, Speaks::Http1).await;
                    let mut answered = (0, 0);
                    for _ in 0..times {
                        let answer = client.get("/slow/5").await;
                        match answer.status.as_u16() {
                            200 => answered.0 += 1,
                            503 => {
                                assert_eq!(answer.header("x-envoy-overloaded"), Some("true"));
                                answered.1 += 1;
                            }
                            other => panic!("{other}"),
                        }
                    }
                    answered
                });
            }
            clients.join_all().await.into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
        };
        let watch = async {
            loop {
                let status = status(naru);
                self.connections.fetch_max(status.connections, Ordering::Relaxed);
                self.requests.fetch_max(status.requests, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        tokio::select! {
            answers = answers => answers,
            () = watch => unreachable!(),
        }
    }
}

#[tokio::test]
async fn workers_share_a_limit_and_none_goes_above_it() {
    for workers in [2, 4] {
        let crowd = Crowd {
            upstream: Upstream::plain(Speaks::Http1).await,
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let bootstrap = Bootstrap::to(crowd.upstream.address);
        let naru = start(&bootstrap, &limits(Thresholds { requests_max: 5, ..free() }), workers);
        let (well, refused) = crowd.ask(&naru, 20).await;
        assert_eq!(well + refused, 48 * 20);
        assert!(well > 0 && refused > 0, "{well} {refused}");
        assert_eq!(crowd.requests.load(Ordering::Relaxed), 5);
        crowd.connections.store(0, Ordering::Relaxed);
        assert_eq!(crowd.upstream.requests(), well, "who was refused never got there");
        assert_eq!(status(&naru).requests_overflow, refused);
        naru.settles().await;

        // Of connections each worker always has one.
        let naru = start(&bootstrap, &limits(Thresholds { connections_max: 3, ..free() }), workers);
        assert_eq!(crowd.ask(&naru, 20).await, (48 * 20, 0), "who waits has its turn");
        let most = crowd.connections.load(Ordering::Relaxed);
        assert!(most >= 3 && most <= 3 + workers as u64, "{most} connections, {workers} workers");
        naru.settles().await;
    }
}

#[tokio::test]
async fn counts_go_on_when_the_configuration_changes() {
    let (up, bootstrap) = listener().await;
    let one = limits(Thresholds { requests_max: 1, ..free() });
    let naru = start(&bootstrap, &one, 1);
    let mut first = asking(&naru, "/1").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    let other = Bootstrap::new(&TO_UP.replace("0s", "10s")).cluster("up", up.address, "");
    naru.update_to(limited(&other, &one)).await;
    assert!(is_overflow(&asking(&naru, "/2").await.response().await));
    upstream.send(OK).await;
    assert_eq!(first.response().await.text(), "ok");
    drop(first);
    naru.settles().await;
    // Without a limit nobody is refused.
    naru.update_to(limited(&other, &limits(free()))).await;
    let clients = [asking(&naru, "/3").await, asking(&naru, "/4").await];
    asked(&mut upstream).await;
    drop(clients);
    naru.settles().await;
}

#[tokio::test]
async fn tunnels_count_as_connections_and_do_not_wait() {
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::to(up.address).tunnels();
    let naru = start(&bootstrap, &limits(Thresholds { connections_max: 1, ..free() }), 1);
    let opened = async || {
        let mut client = Wire::connect(naru.address).await;
        assert_eq!(client.ask_for_tunnel("db.test:5432").await.status(), 200);
        client.try_send("hello").await;
        client
    };
    let first = opened().await;
    let mut upstream = up.accept().await;
    upstream.expect(b"hello").await;
    assert_eq!(opened().await.ends().await, End::Reset);
    assert!(!up.has_more().await);
    first.reset();
    assert_eq!(upstream.ends().await, End::Reset);
    naru.settles().await;
    assert_eq!(naru.ended(2).await, [(200, Reason::Overflow), (200, Reason::ClientGone)]);
    assert_eq!(status(&naru).connections, 0);
}

#[tokio::test]
async fn how_many_retries_there_are_and_how_many_may_be_is_known() {
    const RETRYING: &str = "
- name: all
  match: { prefix: \"/\" }
  route: { cluster: up, timeout: 0s, retry_policy: { retry_on: 5xx, num_retries: 1 } }
";
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::new(RETRYING).cluster("up", up.address, "");
    let one = RetryLimit::Concurrent(1);
    let naru = start(&bootstrap, &limits(Thresholds { retries: one, ..free() }), 1);
    let known = || (status(&naru).retries, status(&naru).retries_max);
    let mut client = asking(&naru, "/1").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    assert_eq!(known(), (0, 1));
    upstream.send("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(asked(&mut upstream).await, "/1", "once more");
    assert_eq!(known(), (1, 1));
    upstream.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    drop(client);
    naru.settles().await;
    assert_eq!(known(), (0, 1));
    // A budget is a share of what is under way, and three at least.
    let budget = RetryLimit::Budget(RetryBudget::default());
    let naru = start(&bootstrap, &limits(Thresholds { retries: budget, ..free() }), 1);
    assert_eq!((status(&naru).retries, status(&naru).retries_max), (0, 3));
}

#[tokio::test]
async fn the_admin_interface_says_what_was_refused() {
    let up = WireListener::bind().await;
    let lines =
        "circuit_breakers:\n  thresholds: [{ max_requests: 1, max_connections: 7, track_remaining: true }]\n";
    let bootstrap = Bootstrap::new(TO_UP).cluster("up", up.address, lines).admin();
    let program = Program::start(&bootstrap, &[]).await;
    let mut first = Wire::connect(program.address).await;
    first.send("GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    assert_eq!(client::get(program.address, "/").await.header("x-envoy-overloaded"), Some("true"));
    pause().await;
    let admin = program.admin.unwrap();
    let stats = client::get(admin, "/stats").await.text();
    for line in [
        "cluster.up.upstream_rq_active_overflow: 1",
        "cluster.up.upstream_cx_overflow: 0",
        "cluster.up.circuit_breakers.default.rq_open: 1",
        "cluster.up.circuit_breakers.default.cx_open: 0",
        "cluster.up.circuit_breakers.default.remaining_cx: 5",
        "cluster.up.circuit_breakers.default.remaining_rq: 0",
        "cluster.up.circuit_breakers.default.rq_retry_open: 0",
        "cluster.up.circuit_breakers.default.remaining_retries: 3",
    ] {
        assert!(stats.lines().any(|said| said == line), "{line}\n{stats}");
    }
    let metrics = client::get(admin, "/metrics").await.text();
    let line = "envoy_cluster_upstream_rq_active_overflow{envoy_cluster_name=\"up\"} 1";
    assert!(metrics.lines().any(|said| said == line), "{metrics}");
    assert!(metrics.contains("response_flags=\"UO\",reason=\"Overflow\""), "{metrics}");
}
