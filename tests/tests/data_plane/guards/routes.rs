//! Breakers of routes: each request once, by what its caller was answered, and all workers together.

use naru_base::Reason;
use naru_spec::{Action, LoadLimits, Named};

use super::*;

/// Of the guide to a small shop: a window of 10, half of which may fail, 30 s, and 5 calls that try. The 30 s are divided
/// by 30; its limit of 3 s is the timeout of the route, divided by 6, so that a loaded machine answers in it.
pub fn of_the_guide() -> CircuitBreaker {
    CircuitBreaker {
        window: Window::Count(10),
        failure_rate: Percent::whole(50),
        wait_in_open: WaitInOpen::Fixed(WAIT),
        trial_calls: 5,
        ..CircuitBreaker::default()
    }
}

pub const WAIT: Duration = Duration::from_secs(1);
const TO_UP: &str = "- match: { prefix: / }\n  route: { cluster: up, timeout: 0.5s }\n";

/// The breaker of a rule, by its name.
pub fn with_breaker(mut config: Config, rule: usize, name: &str, breaker: CircuitBreaker) -> Config {
    let rules = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules;
    if let Action::Forward(forward) = &mut rules[rule].action {
        let breaker = Some(Named { name: name.to_owned(), settings: breaker });
        forward.load = LoadLimits { breaker, ..forward.load.clone() };
    }
    config
}

pub fn state_of(naru: &Naru, name: &str) -> BreakerState {
    let limit = naru.named_limits().into_iter().find(|limit| limit.name == name).unwrap();
    limit.breaker.unwrap().metrics.state
}

struct Route {
    naru: Naru,
    upstream: Upstream,
}

impl Route {
    async fn start(routes: &str, breaker: CircuitBreaker, workers: usize) -> Route {
        let upstream = Upstream::plain(Speaks::Http1).await;
        let bootstrap = Bootstrap::new(routes).cluster("up", upstream.address, "");
        let config = with_breaker(config(&bootstrap), 0, "route", breaker);
        Route { naru: Naru::start_on(config, &Options { workers, seed: Some(1) }), upstream }
    }

    fn state(&self) -> BreakerState {
        state_of(&self.naru, "route")
    }

    /// On a connection of its own, so that any worker may have it.
    async fn ask(&self, path: &str) -> naru_tests::Answer {
        Client::plain(self.naru.address, Speaks::Http1).await.get(path).await
    }

    /// Asks in turn, and looks at the state after each answer.
    async fn follows(&self, script: &[(&str, u16, BreakerState)]) {
        for (number, (path, status, state)) in script.iter().enumerate() {
            let found = self.ask(path).await.status;
            assert_eq!((found.as_u16(), self.state()), (*status, *state), "request {number}: {path}");
        }
    }
}

#[tokio::test]
async fn the_breaker_of_the_guide_goes_through_its_states_whoever_works() {
    use BreakerState::{Closed, HalfOpen, Open};
    for workers in [1, 2] {
        let route = Route::start(TO_UP, of_the_guide(), workers).await;
        route
            .follows(&[
                ("/status/200", 200, Closed),
                ("/status/404", 404, Closed),
                ("/status/200", 200, Closed),
                ("/status/200", 200, Closed),
                ("/status/200", 200, Closed),
                ("/status/500", 500, Closed),
                ("/status/503", 503, Closed),
                // What naru answers for want of an answer is a failure, too.
                ("/slow/2000", 504, Closed),
                ("/status/500", 500, Closed),
                // The tenth: half of them have failed.
                ("/slow/2000", 504, Open),
                ("/status/200", 503, Open),
                ("/status/200", 503, Open),
            ])
            .await;
        assert_eq!(route.upstream.requests(), 10, "while it is open nobody is asked");
        let refused = route.ask("/status/200").await;
        assert_eq!(refused.headers["retry-after"], "1");
        tokio::time::sleep(WAIT + Duration::from_millis(20)).await;
        route
            .follows(&[
                ("/status/200", 200, HalfOpen),
                ("/status/200", 200, HalfOpen),
                ("/status/500", 500, HalfOpen),
                ("/status/500", 500, HalfOpen),
                // 3 of 5.
                ("/status/500", 500, Open),
                ("/status/200", 503, Open),
            ])
            .await;
        tokio::time::sleep(WAIT + Duration::from_millis(20)).await;
        route
            .follows(&[
                ("/status/500", 500, HalfOpen),
                ("/status/500", 500, HalfOpen),
                ("/status/200", 200, HalfOpen),
                ("/status/200", 200, HalfOpen),
                // 2 of 5 are less than half.
                ("/status/200", 200, Closed),
                ("/status/500", 500, Closed),
            ])
            .await;
        let breaker = route.naru.named_limits().remove(0).breaker.unwrap();
        let metrics = breaker.metrics;
        assert_eq!((metrics.successful_total, metrics.failed_total), (5 + 2 + 3, 5 + 3 + 2 + 1));
        assert_eq!((metrics.buffered_calls, breaker.refused_total), (1, 4));
        route.naru.settles().await;
    }
}

#[tokio::test]
async fn a_request_counts_once_however_often_it_is_tried() {
    let routes = "- match: { prefix: / }\n  route: { cluster: up, retry_policy: { retry_on: 5xx, num_retries: 2, \
                  retry_back_off: { base_interval: 0.001s } } }\n";
    let breaker = CircuitBreaker { minimum_calls: 2, ..of_the_guide() };
    let route = Route::start(routes, breaker, 1).await;
    assert_eq!(route.ask("/status/500").await.status, 500);
    assert_eq!((route.state(), route.upstream.requests()), (BreakerState::Closed, 3));
    assert_eq!(route.ask("/status/500").await.status, 500);
    assert_eq!((route.state(), route.upstream.requests()), (BreakerState::Open, 6));
}

#[tokio::test]
async fn trials_that_say_nothing_are_given_back() {
    let breaker = CircuitBreaker { trial_calls: 1, minimum_calls: 1, ..of_the_guide() };
    let route =
        Route::start("- match: { prefix: / }\n  route: { cluster: up, timeout: 0s }\n", breaker, 2).await;
    assert_eq!(route.ask("/status/500").await.status, 500);
    tokio::time::sleep(WAIT + Duration::from_millis(20)).await;
    let (address, asked) = (route.naru.address, route.upstream.requests());
    let trial = tokio::spawn(async move {
        Client::plain(address, Speaks::Http1).await.get("/slow/20000").await;
    });
    until("it to try", async || (route.upstream.requests() > asked).then_some(())).await;
    assert_eq!(route.ask("/status/200").await.status, 503, "one at a time");
    // A client that leaves says nothing about the service.
    trial.abort();
    until("a place to be free", async || (route.ask("/status/200").await.status == 200).then_some(())).await;
    assert_eq!(route.state(), BreakerState::Closed);
    route.naru.settles().await;
}

#[tokio::test]
async fn what_other_limits_refuse_is_not_recorded() {
    let routes = "- match: { prefix: / }\n  route: { cluster: up, timeout: 0s }\n";
    let upstream = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::new(routes).cluster("up", upstream.address, "");
    let breaker = CircuitBreaker { minimum_calls: 1, ..of_the_guide() };
    let mut config = with_breaker(config(&bootstrap), 0, "route", breaker);
    let settings = naru_spec::Bulkhead { concurrency_max: 0, queue_max: 0, wait_max: Duration::ZERO };
    config.clusters[0].load.bulkhead = Some(Named { name: "service".to_owned(), settings });
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.status, 503);
    }
    drop(client);
    assert_eq!(state_of(&naru, "route"), BreakerState::Closed);
    assert_eq!(naru.ended(5).await, [(503, Reason::BulkheadFull); 5]);
    let breaker = naru.named_limits().into_iter().find_map(|limit| limit.breaker).unwrap();
    assert_eq!((breaker.metrics.ignored_total, breaker.metrics.buffered_calls), (5, 0));
    naru.settles().await;
}

#[tokio::test]
async fn an_open_breaker_stays_open_when_the_configuration_changes_and_is_shown() {
    let routes = "- match: { prefix: /a }\n  route: { cluster: up }\n- match: { prefix: / }\n  route: { cluster: up }\n";
    let upstream = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::new(routes).cluster("up", upstream.address, "");
    let breaker = CircuitBreaker { minimum_calls: 1, ..of_the_guide() };
    let config = |breaker: &CircuitBreaker| {
        let config = with_breaker(config(&bootstrap), 0, "first", breaker.clone());
        with_breaker(config, 1, "second", breaker.clone())
    };
    let naru = Naru::start_on(config(&breaker), &Options { workers: 2, seed: Some(1) });
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    assert_eq!(client.get("/status/500").await.status, 500);
    let states = || (state_of(&naru, "first"), state_of(&naru, "second"));
    assert_eq!(states(), (BreakerState::Closed, BreakerState::Open));
    let slower = CircuitBreaker { slow_call_duration: Duration::from_secs(9), ..breaker };
    naru.update_to(config(&slower)).await;
    assert_eq!(states(), (BreakerState::Closed, BreakerState::Open));
    assert_eq!(client.get("/status/200").await.status, 503);
    let opened = Percent::whole(100);
    naru.update_to(config(&CircuitBreaker { failure_rate: opened, ..slower })).await;
    assert_eq!(client.get("/status/200").await.status, 503, "as long as it was to be open");
    tokio::time::sleep(WAIT + Duration::from_millis(20)).await;
    assert_eq!(client.get("/status/200").await.status, 200);
}
