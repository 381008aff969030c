//! What is tried instead, on sockets: another cluster, an answer of the configuration, in order, and never twice where
//! that may do harm.

use http::HeaderValue;
use naru_spec::{
    Action, Cluster, Fallback, FallbackAnswer, FallbackOn, FallbackStep, Named, RetryOn, RetryPolicy,
    StatusRange,
};
use naru_tests::Answer;
use naru_tests::files::{Directory, documents};

use super::routes::{WAIT, of_the_guide, state_of, with_breaker};
use super::*;

const ROUTES: &str = "- match: { prefix: / }\n  route: { cluster: up, timeout: 1s }\n";

fn to(cluster: &str) -> FallbackStep {
    FallbackStep::Cluster(cluster.to_owned())
}

fn said() -> FallbackStep {
    FallbackStep::Answer(FallbackAnswer {
        status: http::StatusCode::OK,
        headers: vec![(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body: b"[]".to_vec(),
    })
}

/// On whatever is no answer, and on 503.
fn chain(steps: Vec<FallbackStep>) -> Fallback {
    let statuses = vec![StatusRange::new(503, 504).unwrap()];
    Fallback { on: FallbackOn { statuses, ..FallbackOn::default() }, steps }
}

fn with_fallback(mut config: Config, fallback: Fallback) -> Config {
    let rules = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules;
    if let Action::Forward(forward) = &mut rules[0].action {
        forward.fallback = Some(fallback);
        forward.retry = Some(RetryPolicy::new(RetryOn::NONE));
    }
    config
}

fn cluster_of<'a>(config: &'a mut Config, name: &str) -> &'a mut Cluster {
    config.clusters.iter_mut().find(|cluster| cluster.name == name).unwrap()
}

/// A service, and another that is asked instead of it.
struct Two {
    naru: Naru,
    up: Upstream,
    other: Upstream,
    log: std::path::PathBuf,
    _files: Directory,
}

const FIELDS: &str = "cluster: \"%UPSTREAM_CLUSTER%\"\nreason: \"%REASON%\"\nflags: \"%RESPONSE_FLAGS%\"\n\
                      attempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\nsaid: \"%RESP(X-NARU-FALLBACK)%\"\n";

impl Two {
    async fn start(workers: usize, change: impl FnOnce(Config) -> Config) -> Two {
        let (up, other) = (Upstream::plain(Speaks::Http1).await, Upstream::plain(Speaks::Http1).await);
        let files = Directory::new();
        let log = files.path("log");
        let bootstrap = Bootstrap::new(ROUTES)
            .cluster("up", up.address, "")
            .cluster("other", other.address, "")
            .json_log(&log, FIELDS);
        let config = change(config(&bootstrap));
        let naru = Naru::start_on(config, &Options { workers, seed: Some(1) });
        Two { naru, up, other, log, _files: files }
    }

    fn asked(&self) -> (u64, u64) {
        (self.up.requests(), self.other.requests())
    }

    async fn exchange(&self, method: Method, path: &str, body: &str) -> Answer {
        let body = if body.is_empty() { Outbound::empty() } else { Outbound::sized(body.to_owned()) };
        let mut client = Client::plain(self.naru.address, Speaks::Http1).await;
        client.exchange(request(method, path, body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.exchange(Method::GET, path, "").await
    }
}

fn told(answer: &Answer) -> &str {
    answer.headers.get("x-naru-fallback").map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn while_a_breaker_is_open_others_answer_and_the_service_is_left_alone() {
    for workers in [1, 2] {
        let two = Two::start(workers, |config| {
            let config = with_breaker(config, 0, "route", of_the_guide());
            with_fallback(config, chain(vec![to("other")]))
        })
        .await;
        for number in 0..10 {
            assert_eq!(
                two.get(if number < 5 { "/status/200" } else { "/status/500" }).await.status,
                500 - 300 * u16::from(number < 5)
            );
        }
        assert_eq!((state_of(&two.naru, "route"), two.asked()), (BreakerState::Open, (10, 0)));
        for _ in 0..20 {
            let answer = two.get("/status/201").await;
            assert_eq!((answer.status.as_u16(), told(&answer)), (201, "breaker-open; step=1; to=\"other\""));
            assert!(!answer.headers.contains_key("retry-after"));
        }
        assert_eq!(two.asked(), (10, 20), "nobody touches the service");
        // When its time has come, it is asked again, and what others answered meanwhile is not its own.
        tokio::time::sleep(WAIT + Duration::from_millis(20)).await;
        for _ in 0..5 {
            assert_eq!(told(&two.get("/status/200").await), "");
        }
        assert_eq!((state_of(&two.naru, "route"), two.asked()), (BreakerState::Closed, (15, 20)));
        let lines = documents(&two.log, 35).await;
        let fallen = lines.iter().filter(|line| line["cluster"] == "other");
        for line in fallen.clone() {
            assert_eq!(line["said"], "breaker-open; step=1; to=\"other\"");
            assert_eq!((&line["reason"], &line["attempts"]), (&"Forwarded".into(), &1.into()));
        }
        assert_eq!(fallen.count(), 20);
        let report = two.naru.report().await;
        let other = report.clusters.iter().find(|cluster| &*cluster.name == "other").unwrap();
        assert_eq!((other.fallbacks, other.requests_total), (20, 20));
        two.naru.settles().await;
    }
}

#[tokio::test]
async fn the_breaker_of_a_cluster_leads_to_the_chain_of_the_cluster() {
    let two = Two::start(2, |mut config| {
        let breaker = CircuitBreaker { minimum_calls: 1, ..of_the_guide() };
        let up = cluster_of(&mut config, "up");
        up.guard.circuit_breaker = Some(breaker.clone());
        up.fallback = Some(chain(vec![to("other"), said()]));
        // And what is asked instead may be cut off as well.
        cluster_of(&mut config, "other").guard.circuit_breaker = Some(breaker);
        config
    })
    .await;
    assert_eq!(two.get("/status/500").await.status, 500);
    assert_eq!(two.get("/status/502").await.status, 502, "of the other: its own breaker hears of it");
    let answer = two.get("/status/200").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "[]"));
    assert_eq!(told(&answer), "breaker-open; step=2; to=response");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(two.asked(), (1, 1));
    // Each worker writes for itself.
    let lines = documents(&two.log, 3).await;
    let line = lines.iter().find(|line| !line["said"].is_null() && line["attempts"] == 0).unwrap();
    assert_eq!((&line["reason"], &line["flags"]), (&"BreakerOpen".into(), &"UO".into()), "{line}");
    two.naru.settles().await;
}

#[tokio::test]
async fn answers_failures_and_lost_time_lead_to_the_next_step() {
    let two = Two::start(1, |config| with_fallback(config, chain(vec![to("other"), said()]))).await;
    // Both say so: the configuration answers.
    let answer = two.get("/status/503").await;
    assert_eq!((answer.status.as_u16(), told(&answer)), (200, "status; code=503; step=2; to=response"));
    assert_eq!(two.asked(), (1, 1));
    // A bad answer that the chain does not name is passed on.
    assert_eq!((two.get("/status/500").await.status.as_u16(), two.asked()), (500, (2, 1)));
    // After the time of the route there is only what stands there.
    let answer = two.get("/slow/5000").await;
    assert_eq!((answer.text().as_str(), told(&answer)), ("[]", "route-timeout; step=2; to=response"));
    assert_eq!(two.asked(), (3, 1));
    let lines = documents(&two.log, 3).await;
    let reasons: Vec<&str> = lines.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["AnswerReplaced", "Forwarded", "RouteTimeout"]);
    two.naru.settles().await;
}

#[tokio::test]
async fn a_service_that_is_not_there_is_answered_for_with_the_body_of_the_request() {
    let two = Two::start(1, |mut config| {
        let up = cluster_of(&mut config, "up");
        up.endpoints[0].address = naru_spec::Address::Socket(refusing_address());
        with_fallback(config, chain(vec![to("other")]))
    })
    .await;
    // It was not sent: a POST may go elsewhere.
    let answer = two.exchange(Method::POST, "/describe", "what was said").await;
    assert_eq!(told(&answer), "connect-failure; step=1; to=\"other\"");
    assert_eq!(answer.json()["body"], "what was said");
    assert_eq!(two.asked(), (0, 1));
    two.naru.settles().await;
}

#[tokio::test]
async fn what_may_have_acted_is_not_sent_to_another() {
    let two = Two::start(1, |config| with_fallback(config, chain(vec![to("other"), said()]))).await;
    let answer = two.exchange(Method::PUT, "/status/503", "what was said").await;
    assert_eq!(told(&answer), "status; code=503; step=2; to=response");
    assert_eq!(two.asked(), (1, 1), "twice does what once does");
    let answer = two.exchange(Method::POST, "/status/503", "what was said").await;
    assert_eq!((answer.status.as_u16(), two.asked()), (200, (2, 1)), "the other is passed over");
    assert_eq!(told(&answer), "status; code=503; step=2; to=response");
    // More than is kept cannot be sent again.
    let long = "x".repeat(naru_spec::defaults::REPLAY_BYTES_MAX + 1);
    two.exchange(Method::PUT, "/status/503", &long).await;
    assert_eq!(two.asked(), (3, 1));
    two.naru.settles().await;
}

#[tokio::test]
async fn a_body_is_sent_whole_to_whoever_is_asked_instead() {
    // The one has no answer to give but 503; the other says what it was sent.
    let two = Two::start(2, |mut config| {
        let breaker = CircuitBreaker { minimum_calls: 1, ..of_the_guide() };
        cluster_of(&mut config, "up").load.breaker =
            Some(Named { name: "service".to_owned(), settings: breaker });
        with_fallback(config, chain(vec![to("other")]))
    })
    .await;
    assert_eq!(two.get("/status/500").await.status, 500);
    for size in [1, 60_000] {
        let body = "y".repeat(size);
        let answer = two.exchange(Method::POST, "/describe", &body).await;
        assert_eq!(answer.json()["body"], body, "{size}");
    }
    // Nobody has to keep what is sent once.
    let long = "z".repeat(500_000);
    let answer = two.exchange(Method::POST, "/length", &long).await;
    assert_eq!((answer.status.as_u16(), two.asked()), (200, (1, 3)));
    two.naru.settles().await;
}
