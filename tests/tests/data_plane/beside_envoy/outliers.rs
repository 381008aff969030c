//! Which endpoints are ejected, when, and for how long.

use super::play::{Ask, Case, Step};
use super::{check, check_all};

/// Nobody is asked who is ejected, and that is known at once.
const AT_ONCE: &str =
    "common_lb_config: { healthy_panic_threshold: { value: 0 }, update_merge_window: 0s }\n";

/// Requests say which endpoint they are for.
pub fn case(name: &str, endpoints: usize, outliers: &str, steps: Vec<Step>) -> Case {
    Case {
        name: name.to_owned(),
        endpoints,
        is_hashed: true,
        outliers: outliers.to_owned(),
        cluster: AT_ONCE.to_owned(),
        routes: vec!["timeout: 0.25s".to_owned()],
        steps,
        ..Case::default()
    }
}

pub fn asking(to: usize, script: &str) -> Ask {
    Ask { method: "GET", to, script: script.to_owned(), ..Ask::default() }
}

/// To an endpoint, one after the other.
pub fn to(endpoint: usize, scripts: &[&str]) -> Vec<Step> {
    scripts.iter().map(|script| Step::Ask(asking(endpoint, script))).collect()
}

const FOR_LONG: &str = "base_ejection_time: 100s, max_ejection_percent: 100";
const TWICE: &str = "base_ejection_time: 0.6s, max_ejection_percent: 100";

#[tokio::test]
async fn failures_in_a_row_eject() {
    let steps = [
        to(0, &["500", "503", "200", "500", "404", "511", "502", "504"]),
        to(1, &["reset", "close", "silent"]),
        to(2, &["503", "close", "404", "503", "503"]),
        to(3, &["500", "500"]),
        to(0, &["200"]),
        to(3, &["500", "200"]),
    ];
    check(case("in a row", 4, &format!("consecutive_5xx: 3, {FOR_LONG}"), steps.concat())).await;
}

#[tokio::test]
async fn failures_of_gateways_in_a_row_eject() {
    let steps = [
        to(0, &["502", "500", "503", "504"]),
        to(1, &["503", "200", "503", "reset"]),
        to(2, &["500", "500", "500", "500", "500"]),
        to(3, &["silent", "silent"]),
    ];
    let outliers = format!(
        "consecutive_gateway_failure: 2, enforcing_consecutive_gateway_failure: 100, consecutive_5xx: 5, {FOR_LONG}"
    );
    check(case("gateways", 4, &outliers, steps.concat())).await;
}

#[tokio::test]
async fn what_is_not_enforced_is_only_counted() {
    let steps = to(0, &["503", "503", "503", "503", "503", "503", "500", "200"]);
    let outliers = format!(
        "consecutive_gateway_failure: 2, enforcing_consecutive_5xx: 0, consecutive_5xx: 3, {FOR_LONG}"
    );
    check(case("unenforced", 2, &outliers, steps)).await;
}

#[tokio::test]
async fn connections_that_cannot_be_made_count_as_errors() {
    let steps = [vec![Step::Refuse(0)], to(0, &["", "", ""]), vec![Step::Accept(0)], to(0, &["200"])];
    check(case("refused", 3, &format!("consecutive_5xx: 2, {FOR_LONG}"), steps.concat())).await;
}

#[tokio::test]
async fn what_the_proxy_saw_itself_counts_apart_where_that_is_said() {
    let steps = [
        vec![Step::Refuse(0)],
        to(0, &["", "", ""]),
        vec![Step::Accept(0)],
        to(1, &["reset", "reset", "reset"]),
        to(2, &["503", "reset", "503", "503"]),
        to(3, &["silent", "silent", "silent"]),
        to(4, &["503", "close", "close", "close"]),
    ];
    let outliers = format!(
        "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, consecutive_5xx: 3, {FOR_LONG}"
    );
    check(case("split", 5, &outliers, steps.concat())).await;
}

#[tokio::test]
async fn no_more_are_ejected_than_may_be() {
    let all: Vec<Step> = (0..4).flat_map(|endpoint| to(endpoint, &["500", "500", "500"])).collect();
    let mut cases = Vec::new();
    for (at, share) in [
        "max_ejection_percent: 50",
        "max_ejection_percent: 10",
        "max_ejection_percent: 0, always_eject_one_host: true",
        "max_ejection_percent: 74",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let share = if share.is_empty() { String::new() } else { format!(", {share}") };
        let outliers = format!("consecutive_5xx: 1, base_ejection_time: 100s{share}");
        cases.push(case(&format!("share {at}"), 4, &outliers, all.clone()));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn an_ejection_is_longer_each_time_and_that_is_forgotten() {
    let mut steps = Vec::new();
    for watched in [5, 7, 9] {
        steps.push(Step::Watch(1));
        steps.extend(to(0, &["500"]));
        steps.push(Step::Watch(watched));
    }
    // Nothing happens for a while.
    steps.push(Step::Watch(4));
    steps.extend(to(0, &["500"]));
    steps.push(Step::Watch(6));
    check(case("growth", 2, &format!("consecutive_5xx: 1, {TWICE}"), steps)).await;
}

#[tokio::test]
async fn an_ejection_is_no_longer_than_the_longest() {
    let mut steps = Vec::new();
    for _ in 0..3 {
        steps.push(Step::Watch(1));
        steps.extend(to(0, &["500"]));
        steps.push(Step::Watch(5));
    }
    check(case("longest", 2, &format!("consecutive_5xx: 1, max_ejection_time: 0.9s, {TWICE}"), steps)).await;
}

/// After a look for outliers, as many requests as `scripts` has for each endpoint in turn, then two more looks.
fn burst(scripts: &[&[&str]]) -> Vec<Step> {
    let longest = scripts.iter().map(|scripts| scripts.len()).max().unwrap_or(0);
    let rounds = (0..longest).flat_map(|at| {
        let asked = scripts.iter().enumerate();
        asked.filter_map(move |(endpoint, scripts)| Some(asking(endpoint, scripts.get(at)?)))
    });
    vec![Step::Sweep, Step::Burst(rounds.collect()), Step::Watch(2)]
}

const GOOD: &[&str] = &["200", "200", "200", "200", "200"];
const HALF: &[&str] = &["200", "500", "200", "500", "200"];
const BAD: &[&str] = &["500", "500", "200", "500", "500"];

#[tokio::test]
async fn who_succeeds_less_than_the_others_is_ejected() {
    let outliers = format!(
        "consecutive_5xx: 100, success_rate_minimum_hosts: 3, success_rate_request_volume: 5, \
         success_rate_stdev_factor: 1500, {FOR_LONG}"
    );
    let steps = [
        burst(&[GOOD, GOOD, HALF, GOOD, GOOD]),
        // Too few requests, and too few endpoints with enough of them.
        burst(&[GOOD, &["500"], &["200"], &["500"], GOOD]),
        burst(&[BAD, GOOD, &[], HALF, GOOD]),
    ];
    check(case("success rate", 5, &outliers, steps.concat())).await;
}

#[tokio::test]
async fn who_fails_more_than_may_be_is_ejected() {
    let outliers = format!(
        "consecutive_5xx: 100, enforcing_success_rate: 0, enforcing_failure_percentage: 100, \
         failure_percentage_threshold: 40, failure_percentage_minimum_hosts: 3, \
         failure_percentage_request_volume: 5, {FOR_LONG}"
    );
    let one = &["200", "500", "200", "200", "200"][..];
    let steps = [burst(&[GOOD, one, HALF, BAD, GOOD]), burst(&[BAD, GOOD, &[], &[], GOOD])];
    check(case("failure percentage", 5, &outliers, steps.concat())).await;
}

/// Where two rates find the same endpoint.
pub fn both_rates() -> Case {
    let outliers = format!(
        "consecutive_5xx: 100, success_rate_minimum_hosts: 3, success_rate_request_volume: 5, \
         success_rate_stdev_factor: 1500, enforcing_failure_percentage: 100, \
         failure_percentage_threshold: 40, failure_percentage_minimum_hosts: 3, \
         failure_percentage_request_volume: 5, {FOR_LONG}"
    );
    case("both rates", 5, &outliers, burst(&[GOOD, GOOD, BAD, GOOD, GOOD]))
}

#[tokio::test]
async fn rates_of_what_the_proxy_saw_itself_eject_where_they_count_apart() {
    let outliers = format!(
        "split_external_local_origin_errors: true, consecutive_local_origin_failure: 100, consecutive_5xx: 100, \
         success_rate_minimum_hosts: 3, success_rate_request_volume: 5, success_rate_stdev_factor: 1500, \
         failure_percentage_threshold: 40, failure_percentage_minimum_hosts: 3, \
         failure_percentage_request_volume: 5, enforcing_failure_percentage_local_origin: 100, {FOR_LONG}"
    );
    let torn = &["200", "reset", "200", "reset", "200"][..];
    let steps = [burst(&[GOOD, GOOD, torn, GOOD, GOOD]), burst(&[GOOD, HALF, GOOD, GOOD, GOOD])];
    check(case("local rates", 5, &outliers, steps.concat())).await;
}

#[tokio::test]
async fn where_too_few_are_left_all_are_asked() {
    let mut cases = Vec::new();
    for (at, panic) in
        ["healthy_panic_threshold: { value: 0 }, ", "healthy_panic_threshold: { value: 60 }, ", ""]
            .into_iter()
            .enumerate()
    {
        let mut steps: Vec<Step> = (0..4).flat_map(|endpoint| to(endpoint, &["500", "200", "200"])).collect();
        steps.extend((0..4).flat_map(|endpoint| to(endpoint, &["200"])));
        let cluster = format!("common_lb_config: {{ {panic}update_merge_window: 0s }}\n");
        let of = case(&format!("panic {at}"), 4, &format!("consecutive_5xx: 1, {FOR_LONG}"), steps);
        cases.push(Case { cluster, ..of });
    }
    check_all(cases).await;
}

#[tokio::test]
async fn statuses_of_grpc_count_as_those_of_http() {
    let mut cases = Vec::new();
    for is_grpc in [true, false] {
        let steps = [
            to(0, &["grpc14", "grpc13", "grpc0", "grpc14", "grpc2"]),
            to(1, &["grpc4", "grpc1", "grpc8", "grpc12", "grpc15"]),
            to(2, &["late14", "late14", "refuse", "refuse"]),
            to(3, &["cancel", "200", "503", "torn", "200", "503"]),
        ];
        let mut steps = steps.concat();
        for step in &mut steps {
            if let Step::Ask(ask) = step
                && is_grpc
            {
                ask.headers.push(("content-type", "application/grpc".to_owned()));
            }
        }
        let name = if is_grpc { "gRPC" } else { "not gRPC" };
        let of = case(name, 4, &format!("consecutive_5xx: 2, {FOR_LONG}"), steps);
        cases.push(Case { speaks_http2: true, ..of });
    }
    check_all(cases).await;
}

#[tokio::test]
async fn attempts_that_are_retried_count_for_whom_they_were_made_at() {
    let mut steps = to(0, &["503", "503 reset", "silent", "503 503", "reset", "503"]);
    steps.extend(to(1, &["503 503 503", "200"]));
    steps.extend(to(2, &["503", "200"]));
    let routes = vec![
        super::retries::retrying("retry_on: \"5xx\", num_retries: 2, per_try_timeout: 0.1s")
            .replace("0.002s", "0.1s"),
    ];
    let of = case("retried", 3, &format!("consecutive_5xx: 4, {FOR_LONG}"), steps);
    check(Case { routes, ..of }).await;
}
