//! Limits with a name: bulkheads, rates, limits that find themselves, admission control.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use naru_base::share::Denominator;
use naru_base::{Chance, Fraction, Reason};
use naru_proxy::{NamedLimitStatus, Options};
use naru_spec::{
    Action, AdaptiveConcurrency, AdmissionControl, Bulkhead, Config, LoadLimits, MinRtt, Named, RateLimit,
    Thresholds,
};
use naru_tests::bootstrap::TO_UP;
use naru_tests::naru::config;
use naru_tests::wire::{End, Message, WireListener};
use naru_tests::{Bootstrap, Client, Naru, Speaks, Upstream, Wire, until};
use tokio::task::JoinSet;

use super::{OK, asked, asking, free, limits, listener, pause};

const LONG: Duration = Duration::from_secs(20);

fn named<T>(name: &str, settings: T) -> Option<Named<T>> {
    Some(Named { name: name.into(), settings })
}

fn bulkhead(concurrency_max: u32, queue_max: u32, wait_max: Duration) -> LoadLimits {
    let settings = Bulkhead { concurrency_max, queue_max, wait_max };
    LoadLimits { bulkhead: named("service", settings), ..LoadLimits::default() }
}

fn with(bootstrap: &Bootstrap, load: &LoadLimits) -> Config {
    let mut config = config(bootstrap);
    config.clusters[0].load = load.clone();
    config
}

/// Of every rule.
fn of_route(mut config: Config, load: &LoadLimits) -> Config {
    for rule in &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules {
        if let Action::Forward(forward) = &mut rule.action {
            forward.load = load.clone();
        }
    }
    config
}

fn start(config: Config, workers: usize) -> Naru {
    Naru::start_on(config, &Options { workers, seed: Some(1) })
}

fn limit(naru: &Naru) -> NamedLimitStatus {
    naru.named_limits().remove(0)
}

async fn waiting(naru: &Naru, count: u64) {
    until(&format!("{count} to wait"), async || (limit(naru).waiting == count).then_some(())).await;
}

fn is_full(response: &Message) -> bool {
    response.status() == 503
        && response.head.get("x-envoy-overloaded") == Some("true")
        && response.text() == "bulkhead full"
}

#[tokio::test]
async fn a_bulkhead_lets_in_in_turn_and_refuses_who_finds_no_place() {
    let (up, bootstrap) = listener().await;
    let load = bulkhead(1, 2, LONG);
    for config in [with(&bootstrap, &load), of_route(config(&bootstrap), &load)] {
        let naru = start(config, 1);
        let mut clients = vec![asking(&naru, "/0").await];
        let mut upstream = up.accept().await;
        assert_eq!(asked(&mut upstream).await, "/0");
        for at in 1..=2 {
            clients.push(asking(&naru, &format!("/{at}")).await);
            waiting(&naru, at).await;
        }
        assert!(is_full(&asking(&naru, "/3").await.response().await));
        assert_eq!((limit(&naru).active, limit(&naru).refused_total), (1, 1));
        for (at, client) in clients.iter_mut().enumerate() {
            if at > 0 {
                assert_eq!(asked(&mut upstream).await, format!("/{at}"));
            }
            upstream.send(OK).await;
            assert_eq!(client.response().await.text(), "ok");
        }
        assert!(!up.has_more().await, "who waits has no connection");
        drop(clients);
        let mut expected = vec![(200, Reason::Forwarded); 3];
        expected.push((503, Reason::BulkheadFull));
        assert_eq!(naru.ended(4).await, expected);
        naru.settles().await;
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_it_may() {
    let (up, bootstrap) = listener().await;
    let naru = start(with(&bootstrap, &bulkhead(1, 5, Duration::from_millis(150))), 1);
    let mut first = asking(&naru, "/0").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    let began = Instant::now();
    let mut second = asking(&naru, "/1").await;
    let response = second.response().await;
    assert_eq!((response.status(), response.text().as_str()), (503, "bulkhead wait timeout"));
    assert_eq!(response.head.get("x-envoy-overloaded"), Some("true"));
    assert!(began.elapsed() >= Duration::from_millis(140), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    upstream.send(OK).await;
    assert_eq!(first.response().await.text(), "ok");
    drop((first, second));
    assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded), (503, Reason::BulkheadTimeout)]);
    assert_eq!(Reason::BulkheadTimeout.flag(), "UO");
    naru.settles().await;
}

#[tokio::test]
async fn the_timeout_of_a_route_holds_while_it_waits() {
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::new(&TO_UP.replace("0s", "0.2s")).cluster("up", up.address, "");
    let naru = start(with(&bootstrap, &bulkhead(0, 5, LONG)), 1);
    let mut client = asking(&naru, "/0").await;
    assert_eq!(client.response().await.status(), 504);
    drop(client);
    assert_eq!(naru.ended(1).await, [(504, Reason::RouteTimeout)]);
    assert!(!up.has_more().await);
    naru.settles().await;
}

#[tokio::test]
async fn a_waiter_is_woken_by_a_release_on_another_worker() {
    let (up, bootstrap) = listener().await;
    let naru = start(with(&bootstrap, &bulkhead(1, 5, LONG)), 4);
    // With four workers, three of four are on another one than whoever is in.
    for round in 0..24 {
        let mut first = asking(&naru, "/first").await;
        let mut upstream = up.accept().await;
        assert_eq!(asked(&mut upstream).await, "/first");
        let mut second = asking(&naru, "/second").await;
        waiting(&naru, 1).await;
        let began = Instant::now();
        // Answered, or given up.
        if round % 2 == 0 {
            upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
            assert_eq!(first.response().await.text(), "ok");
            drop(first);
        } else {
            drop(first);
            assert_eq!(upstream.ends().await, End::Closed);
        }
        drop(upstream);
        let mut upstream = up.accept().await;
        assert_eq!(asked(&mut upstream).await, "/second");
        assert!(began.elapsed() < LONG / 2, "it was woken, and did not wait for its deadline");
        upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(second.response().await.text(), "ok");
        drop(second);
        naru.settles().await;
    }
}

#[tokio::test]
async fn workers_together_let_no_more_in_than_may_be() {
    let up = Upstream::plain(Speaks::Http1).await;
    for workers in [2, 4] {
        let naru = start(with(&Bootstrap::to(up.address), &bulkhead(3, 200, LONG)), workers);
        let most = AtomicU64::new(0);
        let ask = async {
            let mut clients = JoinSet::new();
            for _ in 0..48 {
                let address = naru.address;
                clients.spawn(async move {
                    let mut client = Client::plain(address, Speaks::Http1).await;
                    for _ in 0..10 {
                        assert_eq!(client.get("/slow/1").await.status, 200);
                    }
                });
            }
            clients.join_all().await;
        };
        let watch = async {
            loop {
                most.fetch_max(limit(&naru).active, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        tokio::select! {
            () = ask => {}
            () = watch => unreachable!(),
        }
        assert_eq!(most.load(Ordering::Relaxed), 3);
        assert_eq!(limit(&naru).refused_total, 0);
        naru.settles().await;
    }
}

#[tokio::test]
async fn whoever_leaves_gives_its_permit_back() {
    let (up, bootstrap) = listener().await;
    let naru = start(with(&bootstrap, &bulkhead(1, 5, LONG)), 1);
    // While it is sent, and while its response comes.
    for answers in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"] {
        let mut first = asking(&naru, "/0").await;
        let mut upstream = up.accept().await;
        asked(&mut upstream).await;
        let gone = asking(&naru, "/1").await;
        waiting(&naru, 1).await;
        let mut second = asking(&naru, "/2").await;
        waiting(&naru, 2).await;
        // While it waits.
        drop(gone);
        waiting(&naru, 1).await;
        upstream.send(answers).await;
        if !answers.is_empty() {
            assert_eq!(first.head().await.status(), 200);
        }
        first.reset();
        assert_eq!(upstream.ends().await, End::Closed);
        let mut upstream = up.accept().await;
        assert_eq!(asked(&mut upstream).await, "/2");
        upstream.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(second.response().await.text(), "ok");
        drop(second);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_bulkhead_goes_on_under_its_name_with_other_settings() {
    let (up, bootstrap) = listener().await;
    let naru = start(with(&bootstrap, &bulkhead(1, 5, LONG)), 1);
    let mut first = asking(&naru, "/0").await;
    let mut one = up.accept().await;
    asked(&mut one).await;
    let mut second = asking(&naru, "/1").await;
    waiting(&naru, 1).await;
    let mut third = asking(&naru, "/2").await;
    waiting(&naru, 2).await;
    // There is room for one more.
    naru.update_to(with(&bootstrap, &bulkhead(2, 5, LONG))).await;
    let mut two = up.accept().await;
    assert_eq!(asked(&mut two).await, "/1");
    waiting(&naru, 1).await;
    // And now for one less: the first to end makes no room.
    naru.update_to(with(&bootstrap, &bulkhead(1, 5, LONG))).await;
    one.send(OK).await;
    assert_eq!(first.response().await.text(), "ok");
    pause().await;
    assert_eq!((limit(&naru).active, limit(&naru).waiting), (1, 1));
    two.send(OK).await;
    assert_eq!(second.response().await.text(), "ok");
    assert_eq!(asked(&mut two).await, "/2");
    two.send(OK).await;
    assert_eq!(third.response().await.text(), "ok");
    drop((first, second, third));
    naru.settles().await;
}

#[tokio::test]
async fn calls_wait_for_their_turn_in_a_rate_or_are_refused() {
    let up = Upstream::plain(Speaks::Http1).await;
    let period = Duration::from_millis(200);
    let rate = |wait_max| LoadLimits {
        rate: named("service", RateLimit { limit: 1, period, wait_max }),
        ..LoadLimits::default()
    };
    let naru = start(with(&Bootstrap::to(up.address), &rate(LONG)), 1);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(client.get("/bytes/2").await.text(), "xx");
    }
    assert!(began.elapsed() >= 2 * period, "{:?}", began.elapsed());
    drop(client);
    naru.settles().await;
    // One that leaves while it waits has used its turn up, and holds nothing.
    let naru = start(with(&Bootstrap::to(up.address), &rate(LONG)), 2);
    let clients = [asking(&naru, "/1").await, asking(&naru, "/2").await, asking(&naru, "/3").await];
    pause().await;
    drop(clients);
    naru.settles().await;

    let naru = start(with(&Bootstrap::to(up.address), &rate(Duration::ZERO)), 1);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let answers = [client.get("/bytes/2").await, client.get("/bytes/2").await, client.get("/bytes/2").await];
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(refused > 0, "{answers:?}");
    assert_eq!(limit(&naru).refused_total, refused as u64);
    assert_eq!(Reason::RateLimited.flag(), "RL");
}

#[tokio::test]
async fn a_limit_that_finds_itself_begins_with_its_least() {
    let (up, bootstrap) = listener().await;
    let adaptive = AdaptiveConcurrency {
        concurrency_min: 1,
        refused_status: 529,
        update_interval: Duration::from_millis(20),
        min_rtt: MinRtt::Measured {
            interval: Duration::from_secs(60),
            jitter: Fraction::new(0, Denominator::Hundred),
            requests: 3,
        },
        ..AdaptiveConcurrency::default()
    };
    let load = LoadLimits { adaptive: named("service", adaptive), ..LoadLimits::default() };
    let naru = start(with(&bootstrap, &load), 1);
    let mut first = asking(&naru, "/0").await;
    let mut upstream = up.accept().await;
    asked(&mut upstream).await;
    let response = asking(&naru, "/1").await.response().await;
    assert_eq!((response.status(), response.text().as_str()), (529, "reached concurrency limit"));
    assert_eq!((limit(&naru).active, limit(&naru).limit), (1, Some(1)));
    upstream.send(OK).await;
    assert_eq!(first.response().await.text(), "ok");
    // Once the latency without load is known, the limit grows from one update to the next.
    until("the limit to grow", async || {
        first.send("GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
        asked(&mut upstream).await;
        upstream.send(OK).await;
        assert_eq!(first.response().await.text(), "ok");
        (limit(&naru).limit > Some(2)).then_some(())
    })
    .await;
    drop(first);
    naru.settles().await;
}

#[tokio::test]
async fn where_too_few_requests_succeed_some_are_left_out() {
    let up = Upstream::plain(Speaks::Http1).await;
    let load =
        LoadLimits { admission: named("service", AdmissionControl::default()), ..LoadLimits::default() };
    let naru = start(with(&Bootstrap::to(up.address), &load), 1);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..60 {
        assert_eq!(client.get("/status/200").await.status, 200, "all is well");
    }
    let (mut failed, mut denied) = (0, 0);
    for _ in 0..400 {
        match client.get("/status/500").await.status.as_u16() {
            500 => failed += 1,
            503 => denied += 1,
            other => panic!("{other}"),
        }
    }
    assert!(denied > 100, "{denied} were left out");
    assert!(failed > 20, "{failed} got through: at most 80 of a hundred are left out");
    assert_eq!(up.requests(), 60 + failed);
    assert_eq!(limit(&naru).refused_total, denied);
    assert_eq!(Reason::AdmissionDenied.flag(), "-");
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_clients_that_come_and_go() {
    let up = Upstream::plain(Speaks::Http1).await;
    let adaptive = AdaptiveConcurrency { concurrency_min: 12, ..AdaptiveConcurrency::default() };
    let cluster = LoadLimits {
        adaptive: named("service", adaptive),
        admission: named("service", AdmissionControl::default()),
        ..bulkhead(6, 8, Duration::from_millis(20))
    };
    let settings = Bulkhead { concurrency_max: 8, queue_max: 12, wait_max: Duration::from_millis(10) };
    let route = LoadLimits { bulkhead: named("route", settings), ..LoadLimits::default() };
    let mut config = of_route(with(&Bootstrap::to(up.address), &cluster), &route);
    config.clusters[0].limits =
        limits(Thresholds { connections_max: 3, pending_max: 4, requests_max: 5, ..free() });
    let naru = start(config, 4);
    let mut clients = JoinSet::new();
    for seed in 0..96 {
        let address = naru.address;
        clients.spawn(async move {
            let mut chance = Chance::split(seed, "clients");
            for _ in 0..8 {
                let mut client = Wire::connect(address).await;
                let path =
                    ["/slow/3", "/bytes/200000", "/chunks/100", "/status/500"][chance.below(4) as usize];
                client.send(format!("GET {path} HTTP/1.1\r\nhost: naru.test\r\n\r\n")).await;
                if chance.below(2) == 0 {
                    assert!(matches!(client.response().await.status(), 200 | 500 | 503));
                } else {
                    tokio::time::sleep(Duration::from_micros(chance.below(12_000))).await;
                    if chance.below(2) == 0 { client.reset() } else { drop(client) }
                }
            }
        });
    }
    clients.join_all().await;
    naru.settles().await;
    let refused: u64 = naru.named_limits().iter().map(|limit| limit.refused_total).sum();
    assert!(refused > 0, "{:?}", naru.named_limits());
}
