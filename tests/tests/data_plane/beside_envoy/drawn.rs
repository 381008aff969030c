//! Settings and failures that chance has drawn.
//!
//! What is known to differ is left out of what is drawn: requests that are not idempotent have a key, connections serve
//! one request each, and no retry comes near the end of its request.

use naru_base::Chance;

use super::outliers::case;
use super::play::{Ask, Case, Step};
use super::{check_all, seeds};

const SEEDS: u64 = 8;

#[tokio::test]
async fn whatever_chance_asks_for() {
    check_all(seeds(SEEDS).into_iter().map(draw).collect()).await;
}

fn draw(seed: u64) -> Case {
    let mut chance = Chance::split(seed, "beside Envoy");
    let chance = &mut chance;
    let endpoints = 2 + chance.below(4) as usize;
    let speaks_http2 = chance.below(3) == 0;
    // Either nobody returns, or all is asked within one interval after the other.
    let is_timed = chance.below(3) == 0;
    let routes: Vec<String> = (0..3).map(|_| route(chance, is_timed)).collect();
    let mut steps = Vec::new();
    // Whoever is bad is so for a while.
    let mut bad = chance.below(endpoints as u64) as usize;
    for _ in 0..if is_timed { 3 } else { 5 } {
        if is_timed {
            steps.push(Step::Sweep);
        } else if chance.below(3) == 0 {
            let refusing = chance.below(endpoints as u64) as usize;
            steps.push(Step::Refuse(refusing));
            steps.push(Step::Ask(draw_ask(chance, refusing, endpoints, speaks_http2, is_timed)));
            steps.push(Step::Ask(draw_ask(chance, refusing, endpoints, speaks_http2, is_timed)));
            steps.push(Step::Accept(refusing));
        }
        for _ in 0..if is_timed { 4 } else { 8 } {
            steps.push(Step::Ask(draw_ask(chance, bad, endpoints, speaks_http2, is_timed)));
        }
        if is_timed {
            steps.push(Step::Watch(1 + chance.below(4) as usize));
        }
        bad = chance.below(endpoints as u64) as usize;
    }
    let cluster = format!(
        "common_lb_config: {{ healthy_panic_threshold: {{ value: {} }}, update_merge_window: 0s }}\n\
         circuit_breakers: {{ thresholds: [{{ max_retries: {} }}] }}\n",
        one(chance, &[0, 0, 34, 50, 67]),
        one(chance, &[3, 3, 3, 1, 0]),
    );
    let of = case(&format!("seed {seed}"), endpoints, &detection(chance, is_timed), steps);
    Case { routes, cluster, speaks_http2, ..of }
}

fn one<T: Copy>(chance: &mut Chance, all: &[T]) -> T {
    all[chance.below(all.len() as u64) as usize]
}

fn detection(chance: &mut Chance, is_timed: bool) -> String {
    let mut entries = vec![
        format!("consecutive_5xx: {}", 1 + chance.below(4)),
        format!("consecutive_gateway_failure: {}", 1 + chance.below(3)),
        format!("enforcing_consecutive_gateway_failure: {}", one(chance, &[0, 100])),
        format!("max_ejection_percent: {}", one(chance, &[10, 34, 50, 70, 100, 100])),
        format!("base_ejection_time: {}", if is_timed { "0.65s" } else { "100s" }),
    ];
    if chance.below(2) == 0 {
        entries.push("split_external_local_origin_errors: true".to_owned());
        entries.push(format!("consecutive_local_origin_failure: {}", 1 + chance.below(3)));
    }
    if chance.below(3) == 0 {
        entries.push("always_eject_one_host: true".to_owned());
    }
    if is_timed {
        entries.push("enforcing_success_rate: 0, failure_percentage_minimum_hosts: 2".to_owned());
        entries.push(format!("failure_percentage_request_volume: {}", 1 + chance.below(3)));
        entries.push(format!("failure_percentage_threshold: {}", 30 + chance.below(60)));
        entries.push(format!("enforcing_failure_percentage: {}", one(chance, &[0, 100])));
    }
    entries.join(", ")
}

fn route(chance: &mut Chance, is_timed: bool) -> String {
    const CONDITIONS: &[&str] = &[
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "refused-stream",
        "retriable-4xx",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "cancelled",
        "internal",
        "unavailable",
    ];
    const PREVIOUS: &str = ", host_selection_retry_max_attempts: 5, retry_host_predicate: [{ name: p, typed_config: { \
         \"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } }]";
    if chance.below(6) == 0 {
        return "timeout: 1s".to_owned();
    }
    let conditions: Vec<&str> = (0..1 + chance.below(4)).map(|_| one(chance, CONDITIONS)).collect();
    let per_try = if is_timed { "" } else { ", per_try_timeout: 0.15s" };
    let previous = if chance.below(3) == 0 { PREVIOUS } else { "" };
    // An ejection is to be known before the next attempt, nearly always.
    let base = if is_timed { "0.005s" } else { "0.03s" };
    format!(
        "timeout: 9s, retry_policy: {{ retry_on: \"{}\", num_retries: {}, retry_back_off: {{ base_interval: {base} }}, \
         retriable_status_codes: [404, 503], retriable_headers: [{{ name: x-again, string_match: {{ exact: \"yes\" }} \
         }}]{per_try}{previous} }}",
        conditions.join(","),
        one(chance, &[0, 1, 1, 2, 3]),
    )
}

/// Mostly to `bad`, where mostly something goes wrong.
fn draw_ask(chance: &mut Chance, bad: usize, endpoints: usize, speaks_http2: bool, is_timed: bool) -> Ask {
    const WORDS: &[&str] = &[
        "404",
        "409",
        "429",
        "500",
        "500",
        "502",
        "503",
        "503",
        "504",
        "reset",
        "close",
        "200:x-again=yes",
        "503:x-envoy-ratelimited=1",
        "grpc14",
        "grpc13",
    ];
    const STREAMS: &[&str] = &["refuse", "cancel", "late14", "grpc1", "grpc4"];
    let is_bad = chance.below(4) > 0;
    let to = if is_bad { bad } else { chance.below(endpoints as u64) as usize };
    let words = (0..chance.below(4)).map(|_| match chance.below(8) {
        0 => "200",
        1 if !is_timed => "silent",
        1..=3 if speaks_http2 => one(chance, STREAMS),
        _ => one(chance, WORDS),
    });
    let script: Vec<&str> = words.collect();
    let mut headers = Vec::new();
    match chance.below(8) {
        0 => headers.push(("x-envoy-retry-on", one(chance, &["5xx", "reset", "gateway-error"]).to_owned())),
        1 => headers.push(("x-envoy-max-retries", chance.below(4).to_string())),
        2 => headers.push(("content-type", "application/grpc".to_owned())),
        _ => {}
    }
    let method = one(chance, &["GET", "GET", "PUT", "POST"]);
    if method == "POST" {
        headers.push(("idempotency-key", "17".to_owned()));
    }
    Ask { route: chance.below(3) as usize, to, method, headers, script: script.join(" ") }
}
