//! What Envoy's words for retries, hedges, faults and mirrors mean, and what holds where they say nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_base::Fraction;
use naru_spec::{
    AbortBy, Action, Backoff, DelayBy, Forward, Hedge, Http, MirrorHost, MirrorWrites, ResetFormat,
    RetryBudget, RetryLimit, RetryOn, RetryPolicy,
};
use naru_xds::Schema;

const SEED: &str = include_str!("data/envoy-bootstrap.yaml");
const CLUSTER: &str = "                  cluster: service_envoyproxy_io\n";

fn load(from: &str, to: &str) -> naru_spec::Config {
    assert_eq!(SEED.matches(from).count(), 1);
    let text = SEED.replacen(from, to, 1);
    naru_xds::load_with(&Schema::new(), "f.yaml", &text).unwrap_or_else(|found| panic!("{found:#?}")).config
}

fn http(config: &naru_spec::Config) -> &Http {
    &config.listeners.first().unwrap().chains.first().unwrap().http
}

fn forward(config: &naru_spec::Config) -> Forward {
    match &http(config).routes.virtual_hosts.first().unwrap().rules.first().unwrap().action {
        Action::Forward(forward) => (**forward).clone(),
        other => panic!("{other:?}"),
    }
}

fn route(said: &str) -> Forward {
    forward(&load(CLUSTER, &format!("{CLUSTER}                  {said}\n")))
}

#[test]
fn a_retry_policy_has_envoys_defaults() {
    assert_eq!(route("timeout: 1s").retry, None);
    let policy = route("retry_policy: {retry_on: '5xx, unavailable'}").retry.unwrap();
    assert_eq!(policy, RetryPolicy::new(RetryOn::SERVER_ERROR.and(RetryOn::UNAVAILABLE)));
    assert_eq!((policy.retries_max, policy.picks_max, policy.avoids_tried), (1, 1, false));
    let waits = |said| route(&format!("retry_policy: {{retry_on: 5xx, {said}}}")).retry.unwrap();
    let (base, max) = (Duration::from_millis(50), Duration::from_millis(500));
    assert_eq!(waits("retry_back_off: {base_interval: 0.05s}").backoff, Backoff::Jittered { base, max });
    let limited =
        waits("rate_limited_retry_back_off: {reset_headers: [{name: retry-after}]}").rate_limited.unwrap();
    assert_eq!(limited.max, Duration::from_secs(300));
    assert_eq!(limited.headers.first().unwrap().format, ResetFormat::Seconds);
    assert_eq!(waits("per_try_timeout: 0s").per_try_timeout, None, "0 is without limit");
    let tried = "retry_host_predicate: [{name: a, typed_config: {\"@type\": \
                 type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]";
    assert!(waits(tried).avoids_tried);
}

#[test]
fn hedges_and_mirrors_have_envoys_defaults() {
    assert_eq!(route("hedge_policy: {}").hedge, Some(Hedge::default()));
    let mirrors = route(
        "request_mirror_policies: [{cluster: service_envoyproxy_io}, {cluster: service_envoyproxy_io, \
         host_rewrite_literal: 'a:1'}, {cluster: service_envoyproxy_io, disable_shadow_host_suffix_append: true, \
         runtime_fraction: {default_value: {numerator: 5}}}]",
    )
    .mirrors;
    let hosts: Vec<_> = mirrors.iter().map(|mirror| mirror.host.clone()).collect();
    assert_eq!(hosts, [MirrorHost::Shadow, MirrorHost::Literal("a-shadow:1".into()), MirrorHost::Same]);
    assert_eq!(mirrors[0].share, Fraction::ALL);
    assert_eq!((mirrors[2].share.numerator(), &mirrors[0].writes), (5, &MirrorWrites::Sent));
}

#[test]
fn a_fault_is_said_to_the_filter_or_to_a_route() {
    const FILTERS: &str = "          http_filters:\n";
    const TYPE: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let filter = |said: &str| {
        format!(
            "{FILTERS}          - name: envoy.filters.http.fault\n            typed_config: {{{TYPE}, {said}}}\n"
        )
    };
    let said = "delay: {header_delay: {}, percentage: {numerator: 100}}, abort: {grpc_status: 14}";
    let config = load(FILTERS, &filter(said));
    let fault = http(&config).fault.as_ref().unwrap();
    assert_eq!(fault.delay.unwrap().by, DelayBy::Header);
    assert_eq!((fault.abort.unwrap().by, fault.abort.unwrap().share.numerator()), (AbortBy::Grpc(14), 0));
    assert_eq!(http(&load(FILTERS, &filter("max_active_faults: 3"))).fault, None, "it makes none");
}

#[test]
fn a_cluster_bears_three_retries_unless_it_says_otherwise() {
    const TIMEOUT: &str = "    connect_timeout: 30s\n";
    let limit = |said: &str| {
        load(TIMEOUT, &format!("{TIMEOUT}    {said}\n")).clusters.first().unwrap().limits.normal.retries
    };
    assert_eq!(limit("circuit_breakers: {}"), RetryLimit::Concurrent(3));
    assert_eq!(limit("circuit_breakers: {thresholds: [{max_retries: 9}]}"), RetryLimit::Concurrent(9));
    let budget = limit("circuit_breakers: {thresholds: [{max_retries: 9, retry_budget: {}}]}");
    assert_eq!(budget, RetryLimit::Budget(RetryBudget::default()), "it takes the place of the other");
}
