//! By HTTP, over both of its versions.

use std::time::Duration;

use http::Version;
use naru_guard::Health::{Degraded, Excluded, Failed, Healthy, Pending, Unchecked};
use naru_proxy::Options;
use naru_spec::{GuardSettings, HealthCheck, HttpCheck, Probe};
use naru_tests::bootstrap::upstream_tls;
use naru_tests::wire::{BlackHole, refusing_address};
use naru_tests::{Authority, Bootstrap, Naru, Program, Speaks, client, until};

use super::patient::{PATH, Patient};
use super::{NEVER, OFTEN, becomes, get, guard, guarded, health, http, often, start, start_to, stats, to};

fn checked() -> HealthCheck {
    often(Probe::Http(http()))
}

#[tokio::test]
async fn an_endpoint_is_asked_for_nothing_until_its_first_probe_has_passed() {
    let patient = Patient::plain(None).await;
    let naru = start_to(&[patient.address], checked());
    until("a probe", async || (patient.seen().probes.len() == 1).then_some(())).await;
    assert_eq!((health(&naru), naru.is_ready()), (vec![Pending], false));
    assert_eq!(get(&naru).await, 503);
    assert_eq!(patient.seen().requests, 0);
    patient.is(Some(200));
    becomes(&naru, &[Healthy]).await;
    assert!(naru.is_ready());
    assert_eq!((get(&naru).await, patient.seen().requests), (200, 1));
}

#[tokio::test]
async fn a_probe_is_a_request_that_says_who_asks_and_is_counted_as_none() {
    let patient = Patient::plain(Some(200)).await;
    let headers = vec![("x-probe".parse().unwrap(), "1".parse().unwrap())];
    let check = HttpCheck { headers, ..http() };
    let naru = start_to(&[patient.address], often(Probe::Http(check.clone())));
    until("three probes", async || (patient.seen().probes.len() >= 3).then_some(())).await;
    let seen = patient.seen();
    let head = &seen.probes[0].0;
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("GET", PATH));
    let all: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(all, [("host", "up"), ("user-agent", "naru/HC"), ("x-probe", "1")]);
    assert_eq!(seen.connections, 1, "it is kept from one probe to the next");
    let endpoint = naru.clusters().remove(0).endpoints.remove(0);
    assert_eq!((endpoint.requests_total, endpoint.connections_total), (0, 0));
    // With a connection for each, and other words.
    let check = HttpCheck { host: "well.test".to_owned(), method: http::Method::HEAD, ..check };
    let check = HealthCheck { reuse_connection: false, ..often(Probe::Http(check)) };
    naru.update_to(guarded(&to(&[patient.address]), guard(check))).await;
    let before = patient.seen();
    until("three more", async || {
        let seen = patient.seen();
        (seen.probes.len() >= before.probes.len() + 3 && seen.standing == 0).then_some(())
    })
    .await;
    let seen = patient.seen();
    let head = &seen.probes.last().unwrap().0;
    assert_eq!((head.method.as_str(), &head.headers["host"]), ("HEAD", &"well.test".parse().unwrap()));
    assert!(seen.connections >= before.connections + 2);
}

#[tokio::test]
async fn thresholds_are_counted_at_the_intervals_of_the_edge() {
    let patient = Patient::plain(Some(200)).await;
    let check = HealthCheck {
        unhealthy_threshold: 3,
        healthy_threshold: 2,
        unhealthy_edge_interval: Some(OFTEN),
        healthy_edge_interval: Some(OFTEN),
        unhealthy_interval: Some(Duration::from_millis(700)),
        interval: Duration::from_millis(700),
        ..checked()
    };
    let naru = start_to(&[patient.address], check);
    becomes(&naru, &[Healthy]).await;
    assert_eq!(get(&naru).await, 200);
    for _ in 0..2 {
        patient.is(Some(503));
        becomes(&naru, &[Failed]).await;
        let failures = patient.seen().answered(503);
        assert_eq!(failures % 3, 0, "the third failure is seen at once, and the next is far away");
        assert_eq!(get(&naru).await, 503);
        patient.is(Some(200));
        let passes = patient.seen().answered(200);
        becomes(&naru, &[Healthy]).await;
        assert_eq!(patient.seen().answered(200), passes + 2);
        assert_eq!(get(&naru).await, 200);
    }
}

#[tokio::test]
async fn a_wrong_status_that_is_not_retriable_is_enough() {
    let patient = Patient::plain(Some(200)).await;
    let naru = start_to(
        &[patient.address],
        HealthCheck { unhealthy_threshold: 100, healthy_threshold: 3, ..checked() },
    );
    becomes(&naru, &[Healthy]).await;
    patient.is(Some(500));
    becomes(&naru, &[Failed]).await;
    let stats = stats(&naru);
    assert_eq!((stats.network_failure, stats.passive_failure), (0, 0));
    assert!(stats.failure >= 1 && stats.attempt >= stats.success + stats.failure, "{stats:?}");
    patient.is(Some(200));
    becomes(&naru, &[Healthy]).await;
}

#[tokio::test]
async fn a_degraded_endpoint_says_so_and_is_asked_where_no_other_is_well() {
    let patients = [Patient::plain(Some(200)).await, Patient::plain(Some(500)).await];
    patients[0].say(&[("x-envoy-degraded", "")]);
    let naru = start_to(&[patients[0].address, patients[1].address], checked());
    becomes(&naru, &[Degraded, Failed]).await;
    for _ in 0..4 {
        assert_eq!(get(&naru).await, 200);
    }
    assert_eq!((patients[0].seen().requests, patients[1].seen().requests), (4, 0));
    patients[0].say(&[]);
    becomes(&naru, &[Healthy, Failed]).await;
}

#[tokio::test]
async fn an_answer_to_a_request_may_say_that_no_more_are_wanted() {
    const GO_AWAY: &str = "x-envoy-immediate-health-check-fail";
    let patients = [Patient::plain(Some(200)).await, Patient::plain(Some(200)).await];
    let addresses = [patients[0].address, patients[1].address];
    let rare = HealthCheck { interval: NEVER, no_traffic_interval: NEVER, ..checked() };
    // Not even where all are asked that are not excluded.
    let panics = |check| GuardSettings { panic_percent: 100, ..guard(check) };
    let naru = start(&to(&addresses), panics(rare));
    becomes(&naru, &[Healthy, Healthy]).await;
    patients[0].say(&[(GO_AWAY, "true")]);
    let mut told = 0;
    for _ in 0..10 {
        let answer = client::get(naru.address, "/").await;
        assert_eq!(answer.status, 200);
        told += u32::from(answer.header(GO_AWAY).is_some());
    }
    assert_eq!((told, patients[0].seen().requests), (1, 1), "as in Envoy, the client sees it too");
    assert_eq!((health(&naru), stats(&naru).passive_failure), (vec![Excluded, Healthy], 1));
    // The next probe that passes makes it well.
    patients[0].say(&[]);
    naru.update_to(guarded(&to(&addresses), panics(checked()))).await;
    becomes(&naru, &[Healthy, Healthy]).await;
    // A cluster without health checks would never find out that it is over.
    patients[0].say(&[(GO_AWAY, "true")]);
    naru.update_to(guarded(&to(&addresses), GuardSettings::default())).await;
    until("more than one request", async || {
        assert_eq!(get(&naru).await, 200);
        (patients[0].seen().requests > 2).then_some(())
    })
    .await;
    assert_eq!(health(&naru), [Unchecked, Unchecked]);
}

#[tokio::test]
async fn a_probe_that_fails_may_say_that_not_even_panic_is_a_reason_to_ask() {
    let patients = [Patient::plain(Some(503)).await, Patient::plain(Some(503)).await];
    patients[0].say(&[("x-envoy-immediate-health-check-fail", "")]);
    let settings = GuardSettings { panic_percent: 50, ..guard(checked()) };
    let naru = start(&to(&[patients[0].address, patients[1].address]), settings);
    becomes(&naru, &[Excluded, Failed]).await;
    for _ in 0..4 {
        assert_eq!(get(&naru).await, 200);
    }
    assert_eq!((patients[0].seen().requests, patients[1].seen().requests), (0, 4));
}

#[tokio::test]
async fn where_nobody_is_well_all_are_asked_or_none_as_the_threshold_says() {
    let patients = [Patient::plain(Some(500)).await, Patient::plain(Some(500)).await];
    let addresses = [patients[0].address, patients[1].address];
    let naru = start(&to(&addresses), GuardSettings { panic_percent: 50, ..guard(checked()) });
    becomes(&naru, &[Failed, Failed]).await;
    for _ in 0..8 {
        assert_eq!(get(&naru).await, 200);
    }
    assert!(patients.iter().all(|patient| patient.seen().requests > 0));
    naru.update_to(guarded(&to(&addresses), guard(checked()))).await;
    assert_eq!(health(&naru), [Failed, Failed], "known as before");
    assert_eq!(get(&naru).await, 503);
}

#[tokio::test]
async fn a_probe_that_hangs_is_given_up_when_its_time_is_over_and_is_the_only_one() {
    let patient = Patient::plain(Some(200)).await;
    let (timeout, no_traffic_interval) = (Duration::from_millis(100), Duration::from_millis(200));
    let check = HealthCheck { timeout, no_traffic_interval, unhealthy_threshold: 2, ..checked() };
    let naru = start_to(&[patient.address], check);
    becomes(&naru, &[Healthy]).await;
    patient.is(None);
    let mut most = 0;
    until("it to fail", async || {
        most = most.max(patient.seen().standing);
        (health(&naru) == [Failed]).then_some(())
    })
    .await;
    assert_eq!(most, 1);
    let stats = stats(&naru);
    assert!(stats.network_failure >= 2 && stats.failure == stats.network_failure, "{stats:?}");
    patient.is(Some(200));
    becomes(&naru, &[Healthy]).await;
}

#[tokio::test]
async fn a_probe_that_is_given_up_ends_there_and_then() {
    let patient = Patient::plain(None).await;
    let check = HealthCheck { timeout: Duration::from_millis(100), no_traffic_interval: NEVER, ..checked() };
    let naru = start_to(&[patient.address], check);
    until("a probe", async || (patient.seen().standing == 1).then_some(())).await;
    becomes(&naru, &[Failed]).await;
    until("its connection to end", async || (patient.seen().standing == 0).then_some(())).await;
    assert_eq!((patient.seen().probes.len(), stats(&naru).network_failure), (1, 1));
}

#[tokio::test]
async fn no_connection_and_one_that_is_not_taken_are_failures_of_the_network() {
    let (refusing, hole) = (refusing_address(), BlackHole::new());
    let check = HealthCheck { timeout: Duration::from_millis(100), ..checked() };
    let naru = start_to(&[refusing, hole.address], check);
    becomes(&naru, &[Failed, Failed]).await;
    let stats = stats(&naru);
    assert_eq!((stats.success, stats.failure), (0, stats.network_failure));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_and_nobody_notices() {
    let patient = Patient::plain(Some(200)).await;
    patient.say(&[("connection", "close")]);
    let naru = start_to(&[patient.address], checked());
    until("five probes", async || (patient.seen().answered(200) >= 5).then_some(())).await;
    assert!(patient.seen().connections >= 5);
    assert_eq!((health(&naru), stats(&naru).failure), (vec![Healthy], 0));
}

#[tokio::test]
async fn probes_speak_as_the_check_and_the_cluster_say() {
    let authority = Authority::new();
    for speaks in [Speaks::Http1, Speaks::Http2, Speaks::Http1Tls, Speaks::Http2Tls] {
        let patient = Patient::serve(Some(200), speaks, &authority).await;
        let lines = if speaks.is_tls() { upstream_tls(&authority) } else { String::new() };
        let bootstrap = Bootstrap::to(patient.address);
        let bootstrap = if speaks.is_tls() {
            Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster("up", patient.address, &lines)
        } else {
            bootstrap
        };
        let check = HttpCheck { is_http2: speaks.is_http2(), ..http() };
        let naru = start(&bootstrap, guard(often(Probe::Http(check))));
        until("probes", async || (patient.seen().answered(200) >= 3).then_some(())).await;
        becomes(&naru, &[Healthy]).await;
        let seen = patient.seen();
        assert_eq!(seen.connections, 1, "{speaks:?}");
        let head = &seen.probes[0].0;
        let expected = if speaks.is_http2() { Version::HTTP_2 } else { Version::HTTP_11 };
        assert_eq!(head.version, expected);
        if speaks.is_http2() {
            let scheme = if speaks.is_tls() { "https" } else { "http" };
            assert_eq!(head.uri.to_string(), format!("{scheme}://up{PATH}"));
        }
    }
}

#[tokio::test]
async fn an_endpoint_whose_certificate_is_not_believed_is_not_well() {
    let patient = Patient::serve(Some(200), Speaks::Http1Tls, &Authority::new()).await;
    let lines = upstream_tls(&Authority::new());
    let bootstrap = Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster("up", patient.address, &lines);
    let naru = start(&bootstrap, guard(checked()));
    becomes(&naru, &[Failed]).await;
    assert_eq!((patient.seen().probes.len(), stats(&naru).success), (0, 0));
}

#[tokio::test]
async fn an_answer_without_end_has_said_enough() {
    let upstream = naru_tests::Upstream::plain(Speaks::Http1).await;
    let endless = often(Probe::Http(HttpCheck::new("/chunks/100000000000")));
    let naru = start_to(&[upstream.address], endless);
    becomes(&naru, &[Healthy]).await;
}

const CHECKED: &str = "
common_lb_config: { healthy_panic_threshold: { value: 0 } }
health_checks:
- timeout: 1s
  interval: 0.05s
  no_traffic_interval: 0.05s
  unhealthy_threshold: 2
  healthy_threshold: 1
  http_health_check:
    path: /healthz
    expected_statuses: [{ start: 200, end: 300 }]
    retriable_statuses: [{ start: 503, end: 504 }]
";

#[tokio::test]
async fn the_admin_pages_tell_how_endpoints_are() {
    let patients = [Patient::plain(Some(204)).await, Patient::plain(None).await];
    let addresses = [patients[0].address, patients[1].address];
    let bootstrap =
        Bootstrap::new(naru_tests::bootstrap::TO_UP).cluster_of("up", &addresses, CHECKED).admin();
    let program = Program::start(&bootstrap, &[]).await;
    let page = async |path: &str| client::get(program.admin.unwrap(), path).await;
    let flags = async |at: usize, expected: &str| {
        let line = format!("up::{}::health_flags::{expected}\n", addresses[at]);
        until(&line, async || page("/clusters").await.text().contains(&line).then_some(())).await;
    };
    flags(0, "healthy").await;
    flags(1, "/failed_active_hc/pending_active_hc").await;
    assert_eq!(page("/ready").await.status, 503, "not before all are known");
    patients[1].is(Some(503));
    flags(1, "/failed_active_hc").await;
    assert_eq!(page("/ready").await.status, 200);
    let stats = page("/stats").await.text();
    let value = |name: &str| -> u64 {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cluster.up.{name}: ")));
        line.unwrap_or_else(|| panic!("{name}: {stats}")).parse().unwrap()
    };
    assert_eq!((value("membership_total"), value("membership_healthy")), (2, 1));
    assert!(value("health_check.success") >= 1 && value("health_check.failure") >= 1);
    assert!(value("health_check.attempt") >= value("health_check.success") + value("health_check.failure"));
    let metrics = page("/metrics").await.text();
    for name in ["attempt", "success", "failure", "network_failure", "passive_failure"] {
        let metric = format!("envoy_cluster_health_check_{name}");
        assert!(metrics.contains(&metric), "{metric}: {metrics}");
    }
    let json = page("/clusters?format=json").await.text();
    assert!(json.contains("\"failed_active_health_check\": true"), "{json}");
}

#[tokio::test]
async fn nobody_is_probed_after_the_end() {
    let patients = [Patient::plain(Some(200)).await, Patient::plain(None).await];
    let config = guarded(&to(&[patients[0].address, patients[1].address]), guard(checked()));
    let naru = Naru::start_on(config, &Options { workers: 1, seed: Some(1) });
    becomes(&naru, &[Healthy, Pending]).await;
    until("a probe that waits", async || (patients[1].seen().probes.len() == 1).then_some(())).await;
    naru.ends().await;
    for patient in &patients {
        until("its connection to end", async || (patient.seen().standing == 0).then_some(())).await;
        assert_eq!(patient.probes_within(5 * OFTEN).await, 0);
    }
}
