//! What guards clusters, on sockets: ejections and breakers, seen by requests and by `Proxy::clusters`.

mod fallbacks;
mod routes;
mod states;

use std::time::{Duration, Instant};

use http::Method;
use naru_guard::Fitness;
use naru_proxy::{ClusterStatus, Options};
use naru_spec::{
    BreakerState, CircuitBreaker, Config, GuardSettings, OutlierDetection, Percent, WaitInOpen, Window,
};
use naru_tests::client::request;
use naru_tests::naru::config;
use naru_tests::wire::refusing_address;
use naru_tests::{Bootstrap, Client, Naru, Outbound, Speaks, Upstream, until};

use routes::WAIT;

/// Longer than what is asked meanwhile takes on a loaded machine.
const BASE: Duration = Duration::from_secs(1);

/// Of the users who asked for it, with durations that a test can wait for.
fn detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 3,
        // What is remembered of an ejection fades after so long: who is ejected again has to be quicker.
        interval: Duration::from_millis(300),
        base_ejection_time: BASE,
        max_ejection_time: Duration::from_secs(60),
        max_ejection_percent: 50,
        ..OutlierDetection::default()
    }
}

fn guarded(bootstrap: &Bootstrap, guard: GuardSettings) -> Config {
    let mut config = config(bootstrap);
    config.clusters[0].guard = guard;
    config
}

fn start(bootstrap: &Bootstrap, guard: GuardSettings, workers: usize) -> Naru {
    Naru::start_on(guarded(bootstrap, guard), &Options { workers, seed: Some(1) })
}

fn cluster(naru: &Naru) -> ClusterStatus {
    naru.clusters().remove(0)
}

/// How many endpoints are ejected.
fn ejected(naru: &Naru) -> Vec<bool> {
    cluster(naru).endpoints.iter().map(|endpoint| endpoint.fitness.is_ejected()).collect()
}

struct Pair {
    naru: Naru,
    upstreams: [Upstream; 2],
    client: Client,
}

impl Pair {
    async fn start(guard: GuardSettings) -> Pair {
        let upstreams = [Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await];
        let addresses = [upstreams[0].address, upstreams[1].address];
        let bootstrap = Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster_of("up", &addresses, "");
        let naru = start(&bootstrap, guard, 1);
        let client = Client::plain(naru.address, Speaks::Http1).await;
        Pair { naru, upstreams, client }
    }

    fn requests(&self) -> [u64; 2] {
        [self.upstreams[0].requests(), self.upstreams[1].requests()]
    }

    /// Asks for a status; tells which upstream was asked.
    async fn ask(&mut self, status: u16) -> Option<usize> {
        let before = self.requests();
        let answer = self.client.get(&format!("/status/{status}")).await;
        let after = self.requests();
        let asked = (0..2).find(|at| after[*at] > before[*at]);
        assert_eq!(asked.is_some(), answer.status == status, "{answer:?}");
        asked
    }

    /// Errors for the first, until it is ejected; the other serves well.
    async fn eject_the_first(&mut self) -> Instant {
        // A rotation goes on to the other one, whoever was asked last.
        let mut next = 1 - self.ask(200).await.unwrap();
        for _ in 0..8 {
            let status = if next == 0 { 503 } else { 200 };
            assert_eq!(self.ask(status).await, Some(next), "one after the other");
            if ejected(&self.naru)[0] {
                return Instant::now();
            }
            next = 1 - next;
        }
        panic!("nobody was ejected: {:?}", cluster(&self.naru));
    }

    async fn returns(&self) -> Instant {
        until("it to return", async || (!ejected(&self.naru)[0]).then_some(())).await;
        Instant::now()
    }
}

#[tokio::test]
async fn errors_in_a_row_eject_an_endpoint_for_longer_each_time_and_never_the_last_one() {
    let guard =
        GuardSettings { outlier_detection: Some(detection()), panic_percent: 0, ..GuardSettings::default() };
    let mut pair = Pair::start(guard).await;
    for times in 1..=2_u32 {
        let began = pair.eject_the_first().await;
        assert_eq!(ejected(&pair.naru), [true, false]);
        // Everything goes to the other; however often that fails, it stays.
        for _ in 0..10 {
            assert_eq!(pair.ask(503).await, Some(1));
        }
        assert_eq!(ejected(&pair.naru), [true, false]);
        assert_eq!(pair.ask(200).await, Some(1));
        let lasted = pair.returns().await - began;
        assert!(lasted >= BASE * times - Duration::from_millis(20), "{times}: {lasted:?}");
        assert!(lasted < BASE * (times + 4), "{times}: {lasted:?}");
    }
    let stats = cluster(&pair.naru).guard.unwrap().outlier.unwrap();
    assert_eq!((stats.ejections_enforced_total, stats.ejections_active), (2, 0));
    assert!(stats.ejections_overflow >= 2, "{stats:?}");
    drop(pair.client);
    pair.naru.settles().await;
}

#[tokio::test]
async fn what_is_ejected_stays_so_when_the_configuration_changes() {
    let slow = OutlierDetection { base_ejection_time: Duration::from_secs(60), ..detection() };
    let guard = |detection: Option<OutlierDetection>| GuardSettings {
        outlier_detection: detection,
        ..GuardSettings::default()
    };
    let mut pair = Pair::start(guard(Some(slow.clone()))).await;
    pair.eject_the_first().await;
    let addresses = [pair.upstreams[1].address, pair.upstreams[0].address];
    let bootstrap = Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster_of("up", &addresses, "");
    pair.naru.update_to(guarded(&bootstrap, guard(Some(slow)))).await;
    assert_eq!(ejected(&pair.naru), [false, true], "in another order now");
    for _ in 0..6 {
        assert_eq!(pair.ask(200).await, Some(1));
    }
    pair.naru.update_to(guarded(&bootstrap, guard(None))).await;
    assert_eq!(ejected(&pair.naru), [false, false], "nobody would let it return");
    let asked = [pair.ask(200).await.unwrap(), pair.ask(200).await.unwrap()];
    assert_ne!(asked[0], asked[1]);
}

#[tokio::test]
async fn where_no_connection_can_be_made_an_endpoint_is_ejected_too() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let addresses = [refusing_address(), upstream.address];
    let bootstrap = Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster_of("up", &addresses, "");
    let detection = OutlierDetection { base_ejection_time: Duration::from_secs(60), ..detection() };
    let guard = GuardSettings { outlier_detection: Some(detection), ..GuardSettings::default() };
    let naru = start(&bootstrap, guard, 1);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += u32::from(client.get("/").await.status == 503);
    }
    assert_eq!((failed, ejected(&naru)), (3, vec![true, false]));
}

/// Of the users who asked for it: a window of 10, half of which may fail, and 5 calls that try; with durations that a test
/// can wait for.
fn breaker() -> CircuitBreaker {
    CircuitBreaker {
        window: Window::Count(10),
        minimum_calls: 10,
        failure_rate: Percent::whole(50),
        wait_in_open: WaitInOpen::Fixed(WAIT),
        trial_calls: 5,
        slow_call_duration: Duration::from_millis(200),
        ..CircuitBreaker::default()
    }
}

struct Cut {
    naru: Naru,
    upstream: Upstream,
}

impl Cut {
    async fn start(breaker: CircuitBreaker, workers: usize) -> Cut {
        let upstream = Upstream::plain(Speaks::Http1).await;
        let guard = GuardSettings { circuit_breaker: Some(breaker), ..GuardSettings::default() };
        let naru = start(&Bootstrap::to(upstream.address), guard, workers);
        Cut { naru, upstream }
    }

    fn state(&self) -> BreakerState {
        cluster(&self.naru).guard.unwrap().breaker.unwrap().metrics.state
    }

    /// On a connection of its own, so that any worker may have it.
    async fn ask(&self, path: &str) -> u16 {
        let mut client = Client::plain(self.naru.address, Speaks::Http1).await;
        client.get(path).await.status.as_u16()
    }
}

#[tokio::test]
async fn a_window_is_that_of_all_workers_and_open_means_that_nobody_is_asked() {
    let cut = Cut::start(breaker(), 4).await;
    for _ in 0..5 {
        assert_eq!(cut.ask("/status/200").await, 200);
    }
    for number in 0..5 {
        assert_eq!(cut.state(), BreakerState::Closed, "after {number} failures");
        assert_eq!(cut.ask("/status/500").await, 500);
    }
    assert_eq!(cut.state(), BreakerState::Open, "10 calls of all workers together, and half have failed");
    for _ in 0..20 {
        assert_eq!(cut.ask("/status/200").await, 503);
    }
    assert_eq!(cut.upstream.requests(), 10);
    // Five may try, and where they are well it closes.
    tokio::time::sleep(WAIT + Duration::from_millis(20)).await;
    for _ in 0..5 {
        assert_eq!(cut.ask("/status/200").await, 200);
    }
    assert_eq!((cut.state(), cut.upstream.requests()), (BreakerState::Closed, 15));
    let guard = cluster(&cut.naru).guard.unwrap();
    assert_eq!((guard.breaker.unwrap().refused_total, guard.lost_total), (20, 0));
    cut.naru.settles().await;
}

#[tokio::test]
async fn no_more_calls_try_than_are_permitted_and_one_that_is_given_up_lets_another_try() {
    let cut = Cut::start(breaker(), 4).await;
    for _ in 0..10 {
        cut.ask("/status/500").await;
    }
    tokio::time::sleep(WAIT + Duration::from_millis(20)).await;
    let address = cut.naru.address;
    let trials: Vec<_> = (0..30)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::plain(address, Speaks::Http1).await;
                client.get("/slow/20000").await.status.as_u16()
            })
        })
        .collect();
    until("five to try", async || (cut.upstream.requests() == 15).then_some(())).await;
    assert_eq!(cut.state(), BreakerState::HalfOpen);
    until("the others to be refused", async || {
        (trials.iter().filter(|trial| trial.is_finished()).count() == 25).then_some(())
    })
    .await;
    // Those who leave give their place to others.
    trials.iter().for_each(tokio::task::JoinHandle::abort);
    until("a place to be free", async || (cut.ask("/status/200").await == 200).then_some(())).await;
    for _ in 0..4 {
        assert_eq!(cut.ask("/status/200").await, 200);
    }
    assert_eq!(cut.state(), BreakerState::Closed);
}

#[tokio::test]
async fn calls_that_are_slow_open_it_as_well() {
    let cut = Cut::start(CircuitBreaker { minimum_calls: 2, ..breaker() }, 1).await;
    for _ in 0..2 {
        assert_eq!(cut.ask("/slow/300").await, 200);
    }
    let settings = breaker();
    let expected =
        if settings.slow_call_rate == Percent::ALL { BreakerState::Open } else { BreakerState::Closed };
    assert_eq!(cut.state(), expected);
}

#[tokio::test]
async fn an_endpoint_that_nobody_guards_is_fit() {
    let upstream = Upstream::plain(Speaks::Http1).await;
    let naru = Naru::start(&Bootstrap::to(upstream.address));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..30 {
        client.exchange(request(Method::GET, "/status/500", Outbound::empty())).await;
    }
    assert_eq!(upstream.requests(), 30);
    let cluster = cluster(&naru);
    assert!(cluster.guard.is_none());
    assert_eq!(cluster.endpoints[0].fitness, Fitness::FIT);
}
