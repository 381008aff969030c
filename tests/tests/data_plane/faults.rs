//! Failures that are made on purpose, attempts beside each other, tries on which nothing moves, timeouts that follow
//! what is observed, and deadlines: on sockets.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use naru_tests::bootstrap::HTTP2;
use naru_tests::client::request;
use naru_tests::files::{Directory, documents};
use naru_tests::upstream::header;
use naru_tests::wire::WireListener;
use naru_tests::{Answer, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire, until};

const FIELDS: &str = "flags: \"%RESPONSE_FLAGS%\"\nattempts: \"%UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\n";

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

/// The filter with a fault.
fn filter(fault: &str) -> String {
    format!("- {{ name: envoy.filters.http.fault, typed_config: {{ \"@type\": {FAULT}, {fault} }} }}")
}

const ALL: &str = "percentage: { numerator: 100 }";

fn delay(time: &str) -> String {
    format!("delay: {{ fixed_delay: {time}, {ALL} }}")
}

fn abort(status: u16) -> String {
    format!("abort: {{ http_status: {status}, {ALL} }}")
}

struct Faulty {
    naru: Naru,
    up: Upstream,
    files: Directory,
}

impl Faulty {
    /// The fault is that of the listener; `route` are more lines of the only route.
    async fn start(fault: &str, route: &str) -> Faulty {
        let up = Upstream::plain(Speaks::Http1).await;
        let files = Directory::new();
        let routes = format!("- match: {{ prefix: / }}\n  route: {{ cluster: up }}\n{route}");
        let bootstrap = Bootstrap::new(&routes).cluster("up", up.address, "");
        let bootstrap = bootstrap.filter(&filter(fault)).json_log(&files.path("log"), FIELDS);
        Faulty { naru: Naru::start(&bootstrap), up, files }
    }

    /// Asks once; tells what came, the flags of the log, and how long it took.
    async fn ask(&self, headers: &[(&'static str, &str)]) -> (Answer, String, Duration) {
        let mut client = Client::plain(self.naru.address, Speaks::Http1).await;
        let mut get = request(Method::GET, "/status/204", Outbound::empty());
        for (name, value) in headers {
            get.headers_mut().insert(*name, value.parse().unwrap());
        }
        let began = Instant::now();
        let answer = client.exchange(get).await;
        let took = began.elapsed();
        drop(client);
        self.naru.settles().await;
        let said = documents(&self.files.path("log"), 1).await;
        (answer, said.last().unwrap()["flags"].as_str().unwrap_or("-").to_owned(), took)
    }
}

#[tokio::test]
async fn a_request_is_delayed_or_answered_for_the_upstream_or_both() {
    let check = async |fault: &str, status: u16, flags: &str, is_delayed: bool, requests: u64| {
        let faulty = Faulty::start(fault, "").await;
        let (answer, said, took) = faulty.ask(&[]).await;
        assert_eq!((answer.status.as_u16(), said.as_str(), faulty.up.requests()), (status, flags, requests));
        // That nothing was delayed is told by the flags: a loaded machine takes its time as well.
        assert!(!is_delayed || took >= Duration::from_millis(120), "{fault}: {took:?}");
        if requests == 0 {
            assert_eq!(answer.text(), "fault filter abort");
        }
    };
    check(&delay("0.12s"), 204, "DI", true, 1).await;
    check(&abort(418), 418, "FI", false, 0).await;
    check(&format!("{}, {}", delay("0.12s"), abort(500)), 500, "DI,FI", true, 0).await;
    let never = "abort: { http_status: 500, percentage: { numerator: 0 } }";
    check(never, 204, "-", false, 1).await;
}

#[tokio::test]
async fn a_route_says_something_else_than_its_listener() {
    let own = |fault: &str| {
        format!(
            "  typed_per_filter_config: {{ envoy.filters.http.fault: {{ \"@type\": {FAULT}, {fault} }} }}\n"
        )
    };
    let faulty = Faulty::start(&abort(500), &own(&abort(418))).await;
    assert_eq!(faulty.ask(&[]).await.0.status, 418);
    let spared = Faulty::start(&abort(500), &own("max_active_faults: 1")).await;
    assert_eq!(spared.ask(&[]).await.0.status, 204);
}

#[tokio::test]
async fn headers_say_what_fault_there_is() {
    let fault = format!("delay: {{ header_delay: {{}}, {ALL} }}, abort: {{ header_abort: {{}}, {ALL} }}");
    let faulty = Faulty::start(&fault, "").await;
    let (plain, flags, _) = faulty.ask(&[]).await;
    assert_eq!((plain.status.as_u16(), flags.as_str()), (204, "-"));
    let asked = [("x-envoy-fault-abort-request", "429"), ("x-envoy-fault-delay-request", "120")];
    let (answer, _, took) = faulty.ask(&asked).await;
    assert_eq!(answer.status, 429);
    assert!(took >= Duration::from_millis(120), "{took:?}");
}

#[tokio::test]
async fn a_grpc_call_ends_with_a_status_of_grpc() {
    let fault = format!("abort: {{ grpc_status: 8, {ALL} }}");
    let faulty = Faulty::start(&fault, "").await;
    let (answer, ..) = faulty.ask(&[("content-type", "application/grpc")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, Some("8")));
    let (plain, ..) = faulty.ask(&[]).await;
    assert_eq!((plain.status.as_u16(), plain.header("grpc-status")), (200, None));
}

#[tokio::test]
async fn who_leaves_while_delayed_gives_its_place_among_the_faults_back() {
    let fault = format!("{}, max_active_faults: 1", delay("30s"));
    let faulty = Faulty::start(&fault, "").await;
    let mut client = Client::plain(faulty.naru.address, Speaks::Http1).await;
    let asked = tokio::spawn(async move { client.send(request(Method::GET, "/", Outbound::empty())).await });
    // While one is in the fault, another is not.
    until("the second is not delayed", async || {
        let (answer, _, took) = faulty_ask(&faulty).await?;
        (answer.status == 204 && took < Duration::from_secs(5)).then_some(())
    })
    .await;
    asked.abort();
    faulty.naru.settles().await;
}

async fn faulty_ask(faulty: &Faulty) -> Option<(Answer, (), Duration)> {
    let mut client = Client::plain(faulty.naru.address, Speaks::Http1).await;
    let began = Instant::now();
    let get = client.exchange(request(Method::GET, "/status/204", Outbound::empty()));
    let answer = tokio::time::timeout(Duration::from_millis(500), get).await.ok()?;
    Some((answer, (), began.elapsed()))
}

/// To an endpoint that takes requests and never answers, and to one that does.
async fn half_silent(policy: &str, speaks: Speaks) -> (Naru, Upstream, WireListener, Directory) {
    let (silent, up) = (WireListener::bind().await, Upstream::plain(speaks).await);
    let files = Directory::new();
    let routes = format!("- match: {{ prefix: / }}\n  route: {{ cluster: up, {policy} }}\n");
    let lines = if speaks.is_http2() { HTTP2 } else { "" };
    let bootstrap = Bootstrap::new(&routes).cluster_of("up", &[silent.address, up.address], lines);
    let naru = Naru::start(&bootstrap.json_log(&files.path("log"), FIELDS));
    (naru, up, silent, files)
}

#[tokio::test]
async fn a_slow_try_goes_on_beside_the_next_one_and_the_first_answer_counts() {
    let policy = "retry_policy: { retry_on: 5xx, num_retries: 2, per_try_timeout: 0.06s, \
                  retry_back_off: { base_interval: 0.001s } }, hedge_policy: { hedge_on_per_try_timeout: true }";
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (naru, up, _silent, _files) = half_silent(policy, speaks).await;
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        for round in 0..6 {
            let put = request(Method::PUT, "/describe", Outbound::sized("what was said"));
            let answer = client.exchange(put).await;
            assert_eq!(answer.status, 200, "{speaks:?} {round}");
            assert_eq!(answer.json()["body"], "what was said", "the whole body goes with each attempt");
        }
        assert_eq!(up.requests(), 6);
        let counts = naru.report().await.clusters.swap_remove(0);
        assert!(counts.retries >= 2, "{counts:?}");
        // What is not idempotent is sent once.
        let mut sent = 0;
        for _ in 0..2 {
            let post = request(Method::POST, "/describe", Outbound::sized("once"));
            let asked = tokio::time::timeout(Duration::from_millis(400), client.exchange(post));
            sent += usize::from(asked.await.is_ok());
            client = Client::plain(naru.address, Speaks::Http1).await;
        }
        assert_eq!((sent, up.requests()), (1, 7), "{speaks:?}");
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_late_answer_of_the_first_attempt_is_as_good() {
    let up = WireListener::bind().await;
    let policy = "retry_policy: { retry_on: 5xx, num_retries: 1, per_try_timeout: 0.1s, \
                  retry_back_off: { base_interval: 0.001s } }, hedge_policy: { hedge_on_per_try_timeout: true }";
    let routes = format!("- match: {{ prefix: / }}\n  route: {{ cluster: up, {policy} }}\n");
    let naru = Naru::start(&Bootstrap::new(&routes).cluster("up", up.address, ""));
    let mut client = Wire::connect(naru.address).await;
    client.send("GET / HTTP/1.1\r\nhost: naru.test\r\n\r\n").await;
    let mut first = up.accept().await;
    first.request().await;
    // The second is begun while the first goes on: that one is given up by nobody, and answers.
    let mut second = up.accept().await;
    second.request().await;
    first.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await;
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "first"));
    // Nobody waits for the other any more.
    second.ends().await;
    assert_eq!(naru.report().await.clusters[0].retries, 1);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_request_may_begin_with_several_attempts() {
    let (naru, up, _silent, files) =
        half_silent("hedge_policy: { initial_requests: 2 }", Speaks::Http1).await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..6 {
        let put = request(Method::PUT, "/describe", Outbound::sized("what was said"));
        assert_eq!(client.exchange(put).await.json()["body"], "what was said");
    }
    assert_eq!(up.requests(), 6);
    drop(client);
    naru.settles().await;
    let said = documents(&files.path("log"), 6).await;
    assert!(said.iter().all(|line| line["attempts"] == 2), "{said:?}");
}

#[tokio::test]
async fn everything_is_given_back_where_the_client_leaves_between_two_attempts() {
    let policy = "retry_policy: { retry_on: 5xx, num_retries: 3, per_try_timeout: 0.05s, \
                  retry_back_off: { base_interval: 0.001s } }, hedge_policy: { hedge_on_per_try_timeout: true }";
    let silent = [WireListener::bind().await, WireListener::bind().await];
    let routes = format!("- match: {{ prefix: / }}\n  route: {{ cluster: up, {policy} }}\n");
    let addresses = [silent[0].address, silent[1].address];
    let naru = Naru::start(&Bootstrap::new(&routes).cluster_of("up", &addresses, ""));
    for pause in [20, 70, 130, 180] {
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        let asked = client.exchange(request(Method::GET, "/", Outbound::empty()));
        let _ = tokio::time::timeout(Duration::from_millis(pause), asked).await;
        drop(client);
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_try_on_which_nothing_moves_is_given_up() {
    let policy = "retry_policy: { retry_on: 5xx, num_retries: 1, per_try_idle_timeout: 0.1s }";
    let (naru, up, _silent, files) = half_silent(policy, Speaks::Http1).await;
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for _ in 0..4 {
        assert_eq!(client.get("/status/204").await.status, 204);
    }
    assert_eq!(up.requests(), 4);
    drop(client);
    naru.settles().await;
    let said = documents(&files.path("log"), 4).await;
    assert!(said.iter().any(|line| line["attempts"] == 2), "{said:?}");
}

#[tokio::test]
async fn what_is_left_of_its_time_goes_with_a_request() {
    let up = Upstream::plain(Speaks::Http1).await;
    let routes = "- match: { prefix: /limited }\n  route: { cluster: up, timeout: 2s }\n\
                  - match: { prefix: / }\n  route: { cluster: up, timeout: 0s }\n";
    let naru = Naru::start(&Bootstrap::new(routes).cluster("up", up.address, ""));
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let mut ask = async |path: &str, headers: &[(&'static str, &str)]| {
        let mut get = request(Method::GET, path, Outbound::empty());
        let said: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        get.headers_mut().extend(said);
        let answer = client.exchange(get).await;
        if answer.status != 200 {
            return (answer.status.as_u16(), None, None, None);
        }
        let described = answer.json();
        let number = |name| header(&described, name).map(|value| value.parse::<u64>().unwrap());
        let grpc = header(&described, "grpc-timeout").map(str::to_owned);
        (200, number("x-envoy-expected-rq-timeout-ms"), number("x-naru-deadline-ms"), grpc)
    };
    assert_eq!(ask("/", &[]).await, (200, None, None, None));
    assert_eq!(ask("/limited", &[]).await, (200, Some(2_000), Some(2_000), None));
    let (_, envoy, own, _) = ask("/limited", &[("x-naru-deadline-ms", "500")]).await;
    assert!(envoy == own && (400..=500).contains(&own.unwrap()), "{own:?}");
    let grpc = [("content-type", "application/grpc"), ("grpc-timeout", "400m")];
    let (_, _, own, said) = ask("/limited", &grpc).await;
    assert!((300..=400).contains(&own.unwrap()) && said.unwrap().ends_with('u'), "{own:?}");
    // A hop does not outlive its caller.
    let began = Instant::now();
    assert_eq!(ask("/slow/5000", &[("x-naru-deadline-ms", "100")]).await.0, 504);
    assert!(began.elapsed() < Duration::from_secs(2));
    drop(client);
    naru.settles().await;
}
