//! What is sent again, and what is not.

use super::play::{Ask, Case, Step};
use super::{check, check_all};

/// A route that retries so.
pub fn retrying(policy: &str) -> String {
    format!("timeout: 5s, retry_policy: {{ retry_back_off: {{ base_interval: 0.002s }}, {policy} }}")
}

pub fn case(name: &str, policies: &[&str], steps: Vec<Step>) -> Case {
    Case {
        name: name.to_owned(),
        endpoints: 3,
        routes: policies.iter().map(|policy| retrying(policy)).collect(),
        steps,
        ..Case::default()
    }
}

pub fn ask(route: usize, method: &'static str, script: &str, headers: &[(&'static str, &str)]) -> Step {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Step::Ask(Ask { route, method, headers, script: script.to_owned(), to: 0 })
}

fn get(route: usize, script: &str) -> Step {
    ask(route, "GET", script, &[])
}

/// Every way in which an attempt can end that `endings` has, by every condition alone.
fn each_condition(endings: &[&str], speaks_http2: bool) -> Case {
    let conditions = [
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
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
        // Istio's, where nothing is said.
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    ];
    let policies = conditions.map(|on| {
        format!(
            "retry_on: \"{on}\", num_retries: 1, per_try_timeout: 0.15s, retriable_status_codes: [404, 503], \
             retriable_headers: [{{ name: x-again, string_match: {{ exact: \"yes\" }} }}]"
        )
    });
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    let steps = (0..policies.len()).flat_map(|route| endings.iter().map(move |ending| get(route, ending)));
    let name = if speaks_http2 { "conditions over HTTP/2" } else { "conditions" };
    Case { speaks_http2, ..case(name, &policies, steps.collect()) }
}

#[tokio::test]
async fn each_condition_holds_for_the_same_endings() {
    let endings = [
        "404",
        "409",
        "429",
        "500",
        "502",
        "503",
        "504",
        "511",
        "reset",
        "close",
        "200:x-again=yes",
        "503:x-again=no",
        "503:x-envoy-ratelimited=1",
        "429:x-envoy-ratelimited=1",
    ];
    check(each_condition(&endings, false)).await;
}

#[tokio::test]
async fn each_condition_holds_for_the_same_endings_of_streams() {
    let endings = [
        "503", "refuse", "cancel", "torn", "grpc0", "grpc1", "grpc4", "grpc8", "grpc13", "grpc14", "late14",
        "close", "reset",
    ];
    check(each_condition(&endings, true)).await;
}

#[tokio::test]
async fn as_many_retries_are_made_and_the_same_is_said_when_none_is_left() {
    let mut steps = Vec::new();
    for route in 0..4 {
        for script in
            ["503", "503 503", "503 reset 503", "503 503 503 503 503 503", "reset reset reset reset reset"]
        {
            steps.push(get(route, script));
        }
        (0..3).for_each(|endpoint| steps.push(Step::Refuse(endpoint)));
        steps.push(get(route, ""));
        (0..3).for_each(|endpoint| steps.push(Step::Accept(endpoint)));
    }
    let policies = [
        "retry_on: \"5xx\"",
        "retry_on: \"5xx\", num_retries: 0",
        "retry_on: \"5xx\", num_retries: 4",
        "retry_on: \"gateway-error,connect-failure\", num_retries: 2",
    ];
    check(case("numbers", &policies, steps)).await;
}

#[tokio::test]
async fn a_try_takes_as_long_and_the_next_one_comes_after_it() {
    let policies = [
        "retry_on: \"5xx\", num_retries: 1, per_try_timeout: 0.1s",
        "retry_on: \"retriable-4xx\", num_retries: 1, per_try_timeout: 0.1s",
        "retry_on: \"gateway-error\", num_retries: 2, per_try_timeout: 0.1s",
    ];
    let mut steps = Vec::new();
    for route in 0..3 {
        for script in ["silent", "silent silent", "503 silent", "silent 503", "silent silent silent"] {
            steps.push(get(route, script));
        }
    }
    check(case("tries", &policies, steps)).await;
}

#[tokio::test]
async fn a_route_that_is_over_ends_all_tries() {
    let routes = [
        "timeout: 0.2s",
        "timeout: 0.7s, retry_policy: { retry_on: \"5xx\", num_retries: 3, per_try_timeout: 0.3s, retry_back_off: { base_interval: 0.002s } }",
        "timeout: 0.2s, retry_policy: { retry_on: \"5xx\", num_retries: 3, per_try_timeout: 0.4s, retry_back_off: { base_interval: 0.002s } }",
    ];
    let mut steps = Vec::new();
    for route in 0..3 {
        for script in ["silent", "503 silent", "silent silent silent silent"] {
            steps.push(get(route, script));
        }
    }
    let routes = routes.map(str::to_owned).to_vec();
    check(Case { routes, ..case("route timeouts", &[], steps) }).await;
}

#[tokio::test]
async fn a_caller_that_is_trusted_may_ask_for_the_same() {
    let policies = ["retry_on: \"connect-failure\", num_retries: 1", "retry_on: \"5xx\", num_retries: 2"];
    let asks: &[&[(&str, &str)]] = &[
        &[("x-envoy-retry-on", "5xx")],
        &[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "3")],
        &[("x-envoy-max-retries", "0")],
        &[("x-envoy-max-retries", "5")],
        &[("x-envoy-retry-on", "gateway-error, nonsense")],
        &[("x-envoy-retry-on", "reset")],
        &[("x-envoy-retry-on", "retriable-4xx")],
        &[("x-envoy-retry-on", "retriable-status-codes"), ("x-envoy-retriable-status-codes", "418,409")],
        &[("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "x-again")],
        &[("x-envoy-retry-on", "envoy-ratelimited")],
        &[("x-envoy-retry-grpc-on", "unavailable")],
        &[("x-envoy-retry-grpc-on", "5xx")],
        &[("x-envoy-retry-on", "5xx"), ("x-envoy-upstream-rq-per-try-timeout-ms", "100")],
        &[("x-envoy-upstream-rq-timeout-ms", "150")],
    ];
    let scripts = [
        "503 503 503 503 503 503 503",
        "500",
        "reset",
        "409",
        "418 418",
        "200:x-again=1",
        "429:x-envoy-ratelimited=1",
        "grpc14",
    ];
    let mut steps = Vec::new();
    for headers in asks {
        for (route, script) in (0..2).flat_map(|route| scripts.map(|script| (route, script))) {
            steps.push(ask(route, "GET", script, headers));
        }
        if headers.iter().any(|(name, _)| name.ends_with("timeout-ms")) {
            steps.push(ask(1, "GET", "silent", headers));
        }
    }
    check(case("asked", &policies, steps)).await;
}

#[tokio::test]
async fn endpoints_that_were_tried_are_passed_by() {
    let previous = "retry_host_predicate: [{ name: p, typed_config: { \"@type\": \
                    type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } }]";
    let policies = [
        format!("retry_on: \"5xx\", num_retries: 3, host_selection_retry_max_attempts: 5, {previous}"),
        format!("retry_on: \"5xx\", num_retries: 3, {previous}"),
        "retry_on: \"5xx\", num_retries: 3".to_owned(),
    ];
    let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
    let mut steps = Vec::new();
    for route in 0..3 {
        for script in ["503", "503 503"] {
            steps.push(get(route, script));
        }
    }
    check(case("previous hosts", &policies, steps)).await;
}

#[tokio::test]
async fn methods_that_may_be_sent_twice_and_keys_that_say_so() {
    let policies = ["retry_on: \"5xx\", num_retries: 2"];
    let key = [("idempotency-key", "17")];
    let steps = vec![
        ask(0, "TRACE", "503 503", &[]),
        ask(0, "PUT", "503 reset", &[]),
        ask(0, "DELETE", "503", &[]),
        ask(0, "OPTIONS", "503", &[]),
        ask(0, "POST", "503 reset", &key),
        ask(0, "POST", "200", &[]),
    ];
    check(case("methods", &policies, steps)).await;
}

#[tokio::test]
async fn a_budget_with_an_interval_counts_the_requests_that_are_over() {
    let policies = ["retry_on: \"5xx\", num_retries: 3"];
    let budget = |percent: u32, least: u32, interval: &str| {
        format!(
            "circuit_breakers: {{ thresholds: [{{ retry_budget: {{ budget_percent: {{ value: {percent} }}, \
             min_retry_concurrency: {least}, budget_interval: {interval} }} }}] }}\n"
        )
    };
    let held = || Step::Hold {
        ask: Ask { method: "GET", script: "503 hold".to_owned(), ..Ask::default() },
        attempts: 2,
    };
    // With the fourth request in the interval there may be a retry, and with the eighth two at a time. Retries are
    // requests as well.
    let mut steps: Vec<Step> = (0..5).map(|_| get(0, "503 503 503")).collect();
    steps.extend([held(), get(0, "503"), held(), get(0, "503"), Step::Release, get(0, "503"), Step::Release]);
    let cases = [budget(25, 0, "600s"), budget(25, 1, "600s"), budget(0, 0, "600s"), budget(25, 0, "0s")];
    let cases = cases.into_iter().enumerate().map(|(at, cluster)| {
        // Where nothing is retried, nothing can be held.
        let steps = if at < 2 { steps.clone() } else { steps[..5].to_vec() };
        Case { cluster, ..case(&format!("budgets {at}"), &policies, steps) }
    });
    check_all(cases.collect()).await;
}

#[tokio::test]
async fn as_much_is_borne_at_a_time() {
    let limits = [
        "circuit_breakers: { thresholds: [{ max_requests: 1 }] }",
        "circuit_breakers: { thresholds: [{ max_retries: 1 }] }",
        "circuit_breakers: { thresholds: [{ max_retries: 0 }] }",
        "circuit_breakers: { thresholds: [{ retry_budget: { budget_percent: { value: 50 }, min_retry_concurrency: 1 } }] }",
        "circuit_breakers: { thresholds: [{ max_connections: 1, max_pending_requests: 1 }] }",
    ];
    let mut cases = Vec::new();
    for (at, limits) in limits.into_iter().enumerate() {
        let held = |script: &str, attempts| Step::Hold {
            ask: Ask { method: "GET", script: script.to_owned(), ..Ask::default() },
            attempts,
        };
        let steps = vec![
            get(0, "503"),
            held("hold", 1),
            get(0, "503"),
            get(0, "200"),
            Step::Release,
            get(0, "503 503"),
            held("503 hold", 2),
            get(0, "503"),
            get(0, "reset"),
            get(0, "200"),
            Step::Release,
            get(0, "503"),
            held("hold", 1),
            held("503 hold", 2),
            get(0, "503"),
            Step::Release,
            get(0, "503"),
            Step::Release,
            get(0, "503"),
        ];
        let steps = if at == 0 || at == 2 || at == 4 { steps[..6].to_vec() } else { steps };
        let cluster = format!("{limits}\n");
        let policies = ["retry_on: \"5xx\", num_retries: 1"];
        cases.push(Case { cluster, ..case(&format!("limits {at}"), &policies, steps) });
    }
    check_all(cases).await;
}
