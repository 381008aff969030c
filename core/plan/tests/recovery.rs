//! What documents say of failures becomes: retries, faults, mirrors, budgets, and what our own kinds add.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_plan::{Surroundings, plan};
use naru_spec::{
    AbortBy, Action, AutoTimeout, Backoff, Cluster, Config, DelayBy, FaultScope, Forward, Hedge, MirrorHost,
    MirrorWrites, Repeats, RetryBudget, RetryLimit, RetryOn, RetryPolicy, Severity,
};

const MS: fn(u64) -> Duration = Duration::from_millis;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80}]}
---
";

fn config(documents: &str) -> Config {
    let mut loaded = naru_doc::Loaded::default();
    naru_doc::load("case.yaml", &format!("{SERVICE}{documents}"), &mut loaded);
    let planned = plan(&loaded.resources, &Surroundings::default());
    let problems = loaded.problems.iter().chain(&planned.problems);
    let errors: Vec<String> =
        problems.filter(|p| p.severity == Severity::Error).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    planned.config
}

/// What becomes of a route that says this, beside where it leads.
fn route(said: &str, more: &str) -> Forward {
    let service = format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a}}
spec:
  hosts: [a]
  http:
  - route: [{{destination: {{host: a}}}}]
{said}
---
{more}"
    );
    let config = config(&service);
    let hosts = config.listeners.iter().flat_map(|l| &l.chains).flat_map(|c| &c.http.routes.virtual_hosts);
    let host = hosts.into_iter().find(|host| host.name.contains("a.default")).unwrap();
    match &host.rules.first().unwrap().action {
        Action::Forward(forward) => (**forward).clone(),
        other => panic!("{other:?}"),
    }
}

fn cluster(more: &str) -> Cluster {
    let config = config(more);
    config.clusters.into_iter().find(|cluster| cluster.name.contains("a.default")).unwrap()
}

fn rule(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: a, trafficPolicy: {policy}}}
---
"
    )
}

fn policy(said: &str) -> String {
    format!(
        "apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: a}}
spec:
  targetRef: {{kind: VirtualService, name: a}}
{said}
---
"
    )
}

#[test]
fn a_route_that_says_nothing_is_retried_as_istio_does() {
    assert_eq!(route("", "").retry, Some(RetryPolicy::istio(false)));
    let hashed = rule("{loadBalancer: {consistentHash: {useSourceIp: true}}}");
    assert_eq!(route("", &hashed).retry, Some(RetryPolicy::istio(true)));
    assert_eq!(route("    retries: {attempts: 0}", "").retry, None);
}

#[test]
fn retries_say_how_often_when_and_after_how_long() {
    let said = "    retries:
      attempts: 3
      perTryTimeout: 2s
      retryOn: gateway-error,503, 418
      retryRemoteLocalities: true
      retryIgnorePreviousHosts: false
      backoff: 10ms";
    let expected = RetryPolicy {
        on: RetryOn::GATEWAY_ERROR.and(RetryOn::RETRIABLE_STATUS_CODES),
        statuses: vec![503, 418],
        retries_max: 3,
        per_try_timeout: Some(MS(2_000)),
        avoids_tried: false,
        avoids_priorities_after: Some(2),
        backoff: Backoff::Jittered { base: MS(10), max: MS(100) },
        ..RetryPolicy::istio(false)
    };
    let policy = route(said, "").retry.unwrap();
    assert_eq!(policy, expected);
    assert_eq!(policy.calls_text(), "at most 4 calls (3 retries)", "Istio counts retries");
}

#[test]
fn faults_are_rolled_by_their_percentages() {
    let said = "    fault:
      delay: {fixedDelay: 5s, percentage: {value: 0.1}}
      abort: {grpcStatus: UNAVAILABLE, percent: 7}";
    let fault = route(said, "").fault.unwrap();
    let (delay, abort) = (fault.delay.unwrap(), fault.abort.unwrap());
    assert_eq!(
        (delay.by, delay.share),
        (DelayBy::Fixed(MS(5_000)), Fraction::new(1_000, Denominator::Million))
    );
    assert_eq!((abort.by, abort.share), (AbortBy::Grpc(14), Fraction::new(70_000, Denominator::Million)));
    assert_eq!(fault.scope, FaultScope::Client, "Istio's: retries and timeouts do not see it");
    let none = route("    fault: {abort: {httpStatus: 500}}", "").fault.unwrap();
    assert_eq!(none.abort.unwrap().share.numerator(), 0, "without a percentage there is none");
    let through = policy("  fault: {scope: Upstream}");
    assert_eq!(route(said, &through).fault.unwrap().scope, FaultScope::Upstream);
}

#[test]
fn mirrors_lead_to_clusters_of_their_own() {
    let one = route("    mirror: {host: a}", "").mirrors;
    let [mirror] = one.as_slice() else { panic!("{one:?}") };
    assert_eq!(mirror.cluster, "outbound|80||a.default.svc.cluster.local");
    assert_eq!(mirror.share, Fraction::new(1_000_000, Denominator::Million));
    assert_eq!((&mirror.host, &mirror.writes), (&MirrorHost::Shadow, &MirrorWrites::Sent));
    let several = "    mirrors:
    - {destination: {host: a}, percentage: {value: 50}}
    - {destination: {host: a}, percentage: {value: 0}}
    - {destination: {host: a}}";
    let shares: Vec<u32> = route(several, "").mirrors.iter().map(|mirror| mirror.share.numerator()).collect();
    assert_eq!(shares, [500_000, 1_000_000], "0 % is none");
    let part = route("    mirror: {host: a}\n    mirrorPercentage: {value: 12.5}", "").mirrors;
    assert_eq!(part.first().unwrap().share.numerator(), 125_000);
    let compared = policy("  mirror: {writes: Mark, header: x-dry-run, compare: {ignoreHeaders: [etag]}}");
    let mirrors = route("    mirror: {host: a}", &compared).mirrors;
    let mirror = mirrors.first().unwrap();
    assert!(matches!(&mirror.writes, MirrorWrites::Marked(name) if name == "x-dry-run"));
    assert_eq!(mirror.comparison.as_ref().unwrap().ignored_headers, ["etag"]);
}

#[test]
fn clusters_bear_a_budget_of_retries() {
    assert_eq!(cluster("").limits.normal.retries, RetryLimit::Budget(RetryBudget::default()));
    let at_once = rule("{connectionPool: {http: {maxRetries: 7}}}");
    assert_eq!(cluster(&at_once).limits.normal.retries, RetryLimit::Concurrent(7));
    let budget = rule("{retryBudget: {percent: 12.5}, connectionPool: {http: {maxRetries: 7}}}");
    let expected = RetryBudget { share_ppm: 125_000, ..RetryBudget::default() };
    assert_eq!(
        cluster(&budget).limits.normal.retries,
        RetryLimit::Budget(expected),
        "as in Envoy it comes first"
    );
    let timed = rule("{retryBudget: {budgetInterval: 10s}}");
    let expected = RetryBudget { interval: Duration::from_secs(10), ..RetryBudget::default() };
    assert_eq!(cluster(&timed).limits.normal.retries, RetryLimit::Budget(expected));
    let of_port = rule("{retryBudget: {minRetryConcurrency: 9}, portLevelSettings: [{port: {number: 80}}]}");
    let expected = RetryBudget { concurrency_min: 9, ..RetryBudget::default() };
    assert_eq!(cluster(&of_port).limits.normal.retries, RetryLimit::Budget(expected));
}

#[test]
fn policies_name_classes_of_retries_and_allow_what_is_unsafe() {
    let of_class = |name: &str| route("", &policy(&format!("  retry: {{class: {name}}}"))).retry.unwrap();
    let default = of_class("default");
    assert_eq!(default.backoff, Backoff::Fixed { wait: MS(500), jitter_percent: 0 });
    assert_eq!(default.calls_text(), "at most 3 calls (2 retries)", "Resilience4j counts calls");
    assert_eq!(of_class("conservative").calls_max(), 2);
    assert!(!of_class("fast").on.contains(RetryOn::RETRIABLE_4XX));
    let own = "apiVersion: naru.dev/v1alpha1
kind: Retry
metadata: {name: mine}
spec: {maxAttempts: 5, linear: {step: 100ms}, retryOn: 'reset,503', perTryTimeout: 1s}
---
";
    let said = policy("  retry: {class: mine, unsafeRequests: Allow}");
    let mine = route("", &format!("{own}{said}")).retry.unwrap();
    let linear = Backoff::Linear { step: MS(100), max: Duration::MAX, jitter_percent: 0 };
    assert_eq!((mine.retries_max, mine.backoff, mine.statuses.as_slice()), (4, linear, &[503][..]));
    assert_eq!((mine.repeats, mine.per_try_timeout), (Repeats::Everything, Some(MS(1_000))));
    let hashed = rule("{loadBalancer: {consistentHash: {useSourceIp: true}}}");
    let stays = route("", &format!("{hashed}{}", policy("  retry: {class: default}"))).retry.unwrap();
    assert!(!stays.avoids_tried, "a hash leads to the same endpoint");
}

#[test]
fn policies_hedge_and_let_timeouts_follow_what_is_observed() {
    let said = "  hedge: {onPerTryTimeout: true, initialRequests: 2, additionalRequestChance: 10}
  timeout: {auto: {quantile: 99.5, factor: 2.5, min: 50ms, max: 2s}}";
    let forward = route("    retries: {attempts: 2, perTryTimeout: 1s}", &policy(said));
    let additional = Fraction::new(100_000, Denominator::Million);
    assert_eq!(forward.hedge, Some(Hedge { initial: 2, additional, on_per_try_timeout: true }));
    let auto = AutoTimeout { quantile_permille: 995, factor_percent: 250, min: MS(50), max: MS(2_000) };
    assert_eq!(forward.auto_timeout, Some(auto));
}

#[test]
fn a_class_of_retries_waits_as_long_as_a_response_asks() {
    let class = |said: &str| {
        let more = format!(
            "apiVersion: naru.dev/v1alpha1
kind: Retry
metadata: {{name: asked}}
spec: {{maxAttempts: 2, {said}}}
---
apiVersion: naru.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: a}}
spec: {{targetRef: {{kind: VirtualService, name: a}}, retry: {{class: asked}}}}
"
        );
        route("", &more).retry.unwrap().rate_limited
    };
    assert_eq!(class("waitDuration: 1s"), None);
    let said = class("retryAfter: {max: 20s}").unwrap();
    let header = &said.headers[0];
    assert_eq!((header.name.as_str(), header.format), ("retry-after", naru_spec::ResetFormat::Seconds));
    assert_eq!((said.headers.len(), said.max), (1, Duration::from_secs(20)));
    assert_eq!(class("retryAfter: {}").unwrap().max, Duration::from_secs(300));
}
