//! Policies of where a request is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_resource::destination_rule::{PortPolicy, TrafficPolicy as Blocks};
use naru_spec::{
    BalancingPolicy, Cluster, Forward, HashPolicy, HashSource, HashTable, HealthCheck, OutlierDetection,
    Probe, RetryBudget, RetryLimit, RetryPolicy, StatusRange, StickyCarrier, defaults,
};
use serde_json::{Value, json};

use super::{Policy, Sources, counted, ms, of_load};

/// Of a cluster that `forward` leads to.
pub fn of(cluster: &Cluster, forward: &Forward, sources: &Sources<'_>) -> Vec<Policy> {
    let mut policies = Vec::new();
    of_load::of(&cluster.load, sources, &mut policies);
    of_balancer(cluster, &forward.hash, sources, &mut policies);
    of_localities(cluster, sources, &mut policies);
    let guard = &cluster.guard;
    let brings_endpoints = matches!(cluster.discovery, naru_spec::Discovery::OnDemand(_));
    if let Some(check) = guard.health_check.as_ref().filter(|_| !brings_endpoints) {
        policies.push(of_check(check, sources));
    }
    if let Some(detection) = guard.outlier_detection.as_ref().filter(|_| !brings_endpoints) {
        of_detection(detection, cluster.endpoints.len(), sources, &mut policies);
    }
    let is_watched = guard.health_check.is_some() || guard.outlier_detection.is_some();
    if is_watched && guard.panic_percent > 0 && !brings_endpoints {
        let text = format!("where less than {}% of them are fit, all are asked", guard.panic_percent);
        let of_policy = sources.policy(|spec| {
            let said = spec.load_balancing.as_ref()?.healthy_panic_threshold.as_ref()?;
            Some(said.place)
        });
        let origin = of_policy.or_else(|| {
            sources.block(
                |port| Some(port.outlier_detection.as_ref()?.min_health_percent.as_ref()?.place),
                |all| Some(all.outlier_detection.as_ref()?.min_health_percent.as_ref()?.place),
            )
        });
        policies.push(Policy::new("panic", text, json!({ "percent": guard.panic_percent }), origin));
    }
    if let Some(breaker) = &guard.circuit_breaker {
        policies.push(of_load::breaker(breaker, sources));
    }
    of_pool(cluster, sources, &mut policies);
    if forward.retry.as_ref().is_some_and(|retry: &RetryPolicy| retry.calls_max() > 1) {
        policies.extend(of_retry_limit(&cluster.limits.normal.retries, sources));
    }
    policies
}

fn balancer_place(sources: &Sources<'_>) -> Option<String> {
    let of_port = |port: &PortPolicy| port.load_balancer.as_ref().map(|said| said.place);
    let of_all = |all: &Blocks| all.load_balancer.as_ref().map(|said| said.place);
    sources.block(of_port, of_all)
}

fn of_balancer(
    cluster: &Cluster,
    of_route: &[HashPolicy],
    sources: &Sources<'_>,
    policies: &mut Vec<Policy>,
) {
    let balancing = &cluster.load_balancing;
    let own = sources.policy(|spec| spec.load_balancing.as_ref().map(|said| said.place));
    let said = balancer_place(sources);
    if let Some(sticky) = &balancing.sticky {
        let (carrier, name) = match &sticky.carrier {
            StickyCarrier::Cookie(cookie) => ("cookie", cookie.name()),
            StickyCarrier::Header(header) => ("header", header.as_str()),
        };
        let rest = if sticky.is_strict { ", or is refused" } else { ", as long as that one can take it" };
        policies.push(Policy::new(
            "stickySession",
            format!("a client stays with its endpoint, by {carrier} '{name}'{rest}"),
            json!({ "carrier": carrier, "name": name, "strict": sticky.is_strict }),
            sources.policy(|spec| spec.sticky_session.as_ref().map(|said| said.place)),
        ));
    }
    let (text, values, origin) = match &balancing.policy {
        BalancingPolicy::RoundRobin => ("in turn".to_owned(), json!({ "policy": "ROUND_ROBIN" }), said),
        BalancingPolicy::LeastRequest(settings) => (
            format!("the one with the fewest requests of {} that are drawn", settings.choices),
            json!({
                "policy": "LEAST_REQUEST",
                "choices": settings.choices,
                "active_request_bias": f64::from(settings.bias.0) / 1_000.0,
            }),
            own.or(said),
        ),
        BalancingPolicy::Random => ("by chance".to_owned(), json!({ "policy": "RANDOM" }), said),
        BalancingPolicy::PeakEwma(settings) => (
            "the one of two drawn that answers soonest, by what was seen lately".to_owned(),
            json!({
                "policy": "PEAK_EWMA",
                "decay_ms": ms(settings.decay),
                "default_rtt_ms": ms(settings.first),
            }),
            own.or(said),
        ),
        BalancingPolicy::Passthrough => {
            ("the address that the request brings".to_owned(), json!({ "policy": "PASSTHROUGH" }), said)
        }
        BalancingPolicy::ConsistentHash(settings) => {
            let hashed = balancing.hash_policies(of_route);
            let parts: Vec<String> = hashed.iter().map(|policy| hash_text(&policy.source)).collect();
            let by = match parts.as_slice() {
                [] => "nothing that it says, and so by chance".to_owned(),
                parts => parts.join(", "),
            };
            let (table, size) = match settings.table {
                HashTable::Ring(size) => (format!("a ring of {} points or more", size.min()), size.min()),
                HashTable::Maglev(size) => (format!("a Maglev table of {} places", size.get()), size.get()),
            };
            let bound = match settings.load_max_percent {
                Some(percent) => format!("; none takes more than {percent}% of the mean"),
                None => String::new(),
            };
            let values = json!({
                "policy": match settings.table {
                    HashTable::Ring(_) => "RING_HASH",
                    HashTable::Maglev(_) => "MAGLEV",
                },
                "size": size,
                "by": hashed.iter().map(|policy| hash_json(&policy.source)).collect::<Vec<Value>>(),
                "hash_balance_factor": settings.load_max_percent,
            });
            (format!("by the hash of {by}, over {table}{bound}"), values, said)
        }
    };
    policies.push(Policy::new("loadBalancer", format!("balanced: {text}"), values, origin));
    if let Some(warm_up) = balancing.warm_up.filter(|_| !balancing.ignores_warm_up()) {
        policies.push(Policy::new(
            "warmup",
            format!(
                "one that is new, or fit again, takes {}% of its share at first, and all of it after {:?}",
                warm_up.min_percent, warm_up.window
            ),
            json!({
                "duration_ms": ms(warm_up.window),
                "minimum_percent": warm_up.min_percent,
                "aggression": f64::from(warm_up.aggression.0) / 1_000.0,
            }),
            balancer_place(sources),
        ));
    }
}

fn hash_text(source: &HashSource) -> String {
    match source {
        HashSource::Header(name) => format!("header '{name}'"),
        HashSource::Cookie(cookie) => match cookie.ttl() {
            None => format!("cookie '{}'", cookie.name()),
            Some(Duration::ZERO) => {
                format!("cookie '{}', which clients without one are given for their session", cookie.name())
            }
            Some(ttl) => {
                format!("cookie '{}', which clients without one are given for {ttl:?}", cookie.name())
            }
        },
        HashSource::SourceIp => "the client's address".to_owned(),
        HashSource::Query(name) => format!("query parameter '{name}'"),
    }
}

fn hash_json(source: &HashSource) -> Value {
    match source {
        HashSource::Header(name) => json!({ "header": name.as_str() }),
        HashSource::Cookie(cookie) => json!({ "cookie": cookie.name(), "ttl_ms": cookie.ttl().map(ms) }),
        HashSource::SourceIp => json!({ "source_ip": true }),
        HashSource::Query(name) => json!({ "query": name }),
    }
}

/// Who is asked first, and how localities share, where endpoints are not all alike in it.
fn of_localities(cluster: &Cluster, sources: &Sources<'_>, policies: &mut Vec<Policy>) {
    let mut priorities: BTreeMap<u32, BTreeMap<String, (u64, usize)>> = BTreeMap::new();
    for endpoint in &cluster.endpoints {
        let name = match endpoint.locality.is_empty() {
            true => "nowhere".to_owned(),
            false => endpoint.locality.to_string(),
        };
        let of_priority = priorities.entry(endpoint.priority).or_default();
        let (weight, count) = of_priority.entry(name).or_default();
        *weight = u64::from(endpoint.locality_weight.0);
        *count += 1;
    }
    let origin = || {
        let of_port = |port: &PortPolicy| {
            port.load_balancer.as_ref()?.locality_lb_setting.as_ref().map(|said| said.place)
        };
        let of_all =
            |all: &Blocks| all.load_balancer.as_ref()?.locality_lb_setting.as_ref().map(|said| said.place);
        sources.block(of_port, of_all)
    };
    if cluster.load_balancing.weighs_localities {
        for localities in priorities.values().filter(|localities| localities.len() > 1) {
            let all: u64 = localities.values().map(|(weight, _)| weight).sum();
            let share = |weight: u64| format!("{}%", (weight * 1_000 / all.max(1)) as f64 / 10.0);
            let listed = localities.iter().map(|(name, (weight, _))| format!("{} {name}", share(*weight)));
            let text = format!("shared among localities: {}", listed.collect::<Vec<_>>().join(", "));
            let values = localities.iter().map(
                |(name, (weight, count))| json!({ "locality": name, "weight": weight, "endpoints": count }),
            );
            let values = json!({ "shares": values.collect::<Vec<Value>>() });
            policies.push(Policy::new("locality.distribute", text, values, origin()));
        }
    }
    if priorities.len() > 1 {
        let names = |localities: &BTreeMap<String, (u64, usize)>| {
            let listed = localities.iter().map(|(name, (_, count))| format!("{name} ({count})"));
            listed.collect::<Vec<_>>().join(" and ")
        };
        let listed: Vec<String> = priorities.values().map(names).collect();
        let factor = cluster.load_balancing.overprovisioning_percent;
        let least = (100_000 / u64::from(factor.max(1))).min(1_000) as f64 / 10.0;
        let text = format!(
            "first {}; where fewer than {least}% of one are fit, the next takes part",
            listed.join(", then ")
        );
        let values = priorities.iter().map(|(priority, localities)| {
            let listed =
                localities.iter().map(|(name, (_, count))| json!({ "locality": name, "endpoints": count }));
            json!({ "priority": priority, "localities": listed.collect::<Vec<Value>>() })
        });
        let values = json!({
            "priorities": values.collect::<Vec<Value>>(),
            "overprovisioning_percent": factor,
        });
        policies.push(Policy::new("locality.failover", text, values, origin()));
    }
}

fn of_check(check: &HealthCheck, sources: &Sources<'_>) -> Policy {
    let how = match &check.probe {
        Probe::Http(http) => format!("by {} {}", http.method, http.path),
        Probe::Tcp(tcp) if tcp.receive.is_empty() => "by a connection".to_owned(),
        Probe::Tcp(_) => "by bytes over TCP".to_owned(),
        Probe::Grpc(grpc) if grpc.service.is_empty() => "by a health check of gRPC".to_owned(),
        Probe::Grpc(grpc) => format!("by a health check of gRPC for '{}'", grpc.service),
    };
    let kind = match &check.probe {
        Probe::Http(_) => "http",
        Probe::Tcp(_) => "tcp",
        Probe::Grpc(_) => "grpc",
    };
    let fails = counted(check.unhealthy_threshold, "failure", "failures in a row");
    let passes = counted(check.healthy_threshold, "pass", "passes in a row");
    Policy::new(
        "healthCheck",
        format!(
            "each is asked how it is {how}, every {:?}, {:?} at most: {fails} and it is unfit, {passes} and it is fit",
            check.interval, check.timeout
        ),
        json!({
            "kind": kind,
            "path": match &check.probe { Probe::Http(http) => Some(http.path.as_str()), _ => None },
            "interval_ms": ms(check.interval),
            "timeout_ms": ms(check.timeout),
            "unhealthy_threshold": check.unhealthy_threshold,
            "healthy_threshold": check.healthy_threshold,
        }),
        sources.policy(|spec| spec.health_check.as_ref().map(|said| said.place)),
    )
}

/// What is detected, and what becomes of it.
fn of_detection(
    detection: &OutlierDetection,
    endpoints: usize,
    sources: &Sources<'_>,
    policies: &mut Vec<Policy>,
) {
    let enforcing = &detection.enforcing;
    let is_split = detection.split_external_local_origin_errors;
    let errors = match &detection.error_statuses {
        None => "5xx".to_owned(),
        Some(ranges) => ranges.iter().map(range_text).collect::<Vec<_>>().join(", "),
    };
    let mut causes = Vec::new();
    for (count, enforced, what) in [
        (detection.consecutive_5xx, enforcing.consecutive_5xx, errors.as_str()),
        (detection.consecutive_gateway_failure, enforcing.consecutive_gateway_failure, "502, 503 or 504"),
        (
            if is_split { detection.consecutive_local_origin_failure } else { 0 },
            enforcing.consecutive_local_origin_failure,
            "a connection that fails",
        ),
    ] {
        if count > 0 && enforced > 0 {
            causes.push(format!("{count} times {what} in a row"));
        }
    }
    let of_rate = &detection.success_rate;
    if enforcing.success_rate > 0 {
        causes.push(format!(
            "a share of successes far below the mean (where {} have {} requests each)",
            of_rate.minimum_hosts, of_rate.request_volume
        ));
    }
    let of_failures = &detection.failure_percentage;
    if enforcing.failure_percentage > 0 {
        causes.push(format!(
            "{}% of failures (where {} have {} requests each)",
            of_failures.threshold, of_failures.minimum_hosts, of_failures.request_volume
        ));
    }
    if causes.is_empty() {
        return;
    }
    let all = u32::try_from(endpoints).unwrap_or(u32::MAX);
    let ejectable = detection.ejectable(all);
    let percent = detection.max_ejection_percent.min(100);
    let most = match (all, ejectable) {
        (0, _) => format!("at most {percent}% at a time"),
        (all, 0) => format!("never, as one of {all} is more than {percent}%"),
        (all, most) => format!("at most {most} of {all} at a time"),
    };
    let (base, longest) = (detection.base_ejection_time, detection.max_ejection_time);
    let lasts = if longest > base {
        format!("for {base:?}, each time {base:?} longer, up to {longest:?}")
    } else {
        format!("for {base:?}")
    };
    let text = format!("one is ejected {lasts}, after {}; {most}", causes.join(", or "));
    let values = json!({
        "consecutive_5xx": detection.consecutive_5xx,
        "consecutive_gateway_errors": enforced(
            detection.consecutive_gateway_failure,
            enforcing.consecutive_gateway_failure
        ),
        "consecutive_local_origin_failures":
            is_split.then_some(detection.consecutive_local_origin_failure),
        "interval_ms": ms(detection.interval),
        "base_ejection_ms": ms(base),
        "max_ejection_ms": ms(longest),
        "max_ejection_percent": percent,
        "endpoints": all,
        "ejectable": ejectable,
    });
    let of_port = |port: &PortPolicy| port.outlier_detection.as_ref().map(|said| said.place);
    let of_all = |all: &Blocks| all.outlier_detection.as_ref().map(|said| said.place);
    policies.push(Policy::new("outlierDetection", text, values, sources.block(of_port, of_all)));
}

fn enforced(count: u32, percent: u32) -> Option<u32> {
    (percent > 0 && count > 0).then_some(count)
}

fn range_text(range: &StatusRange) -> String {
    match (range.start(), range.end().saturating_sub(1)) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

fn of_pool(cluster: &Cluster, sources: &Sources<'_>, policies: &mut Vec<Policy>) {
    let limits = &cluster.limits;
    let (normal, mut said, mut values) = (&limits.normal, Vec::new(), json!({}));
    let mut say = |name: &str, value: Value, text: String| {
        values[name] = value;
        said.push(text);
    };
    say(
        "connect_timeout_ms",
        json!(ms(cluster.connect_timeout)),
        format!("{:?} to connect", cluster.connect_timeout),
    );
    for (name, most, what) in [
        ("max_connections", Some(normal.connections_max), "connections"),
        ("max_connections_of_endpoint", limits.endpoint_connections_max, "connections to one endpoint"),
        ("max_requests", Some(normal.requests_max), "requests on their way"),
        ("max_pending_requests", Some(normal.pending_max), "requests that wait for a connection"),
        ("max_requests_per_connection", cluster.max_requests_per_connection, "requests over one connection"),
    ] {
        if let Some(most) = most.filter(|most| *most != u32::MAX) {
            say(name, json!(most), format!("{most} {what}"));
        }
    }
    for (name, length, what) in [
        ("max_connection_duration_ms", limits.connection_duration_max, "for a connection"),
        ("max_stream_duration_ms", limits.stream_duration_max, "for a request and its answer"),
        (
            "idle_timeout_ms",
            cluster.idle_timeout.filter(|idle| *idle != defaults::UPSTREAM_IDLE_TIMEOUT),
            "for an unused connection",
        ),
    ] {
        if let Some(length) = length {
            say(name, json!(ms(length)), format!("{length:?} {what}"));
        }
    }
    let mut text = format!("at most {}", said.join(", "));
    if let Some(keepalive) = limits.tcp_keepalive {
        values["tcp_keepalive"] = json!({
            "time_ms": ms(keepalive.time),
            "interval_ms": ms(keepalive.interval),
            "probes": keepalive.probes,
        });
        text.push_str(&format!("; TCP probes after {:?} of silence", keepalive.time));
    }
    if let Some(keepalive) = limits.http2_keepalive {
        values["http2_keepalive"] =
            json!({ "interval_ms": ms(keepalive.interval), "timeout_ms": ms(keepalive.timeout) });
        text.push_str(&format!("; PING of HTTP/2 every {:?}", keepalive.interval));
    }
    let of_port = |port: &PortPolicy| port.connection_pool.as_ref().map(|said| said.place);
    let of_all = |all: &Blocks| all.connection_pool.as_ref().map(|said| said.place);
    policies.push(Policy::new("connectionPool", text, values, sources.block(of_port, of_all)));
}

fn of_retry_limit(limit: &RetryLimit, sources: &Sources<'_>) -> Option<Policy> {
    match limit {
        RetryLimit::Concurrent(u32::MAX) => None,
        RetryLimit::Concurrent(most) => {
            let text = format!("at most {} at a time", counted(*most, "retry", "retries"));
            let of_port = |port: &PortPolicy| {
                port.connection_pool.as_ref()?.http.as_ref()?.max_retries.as_ref().map(|said| said.place)
            };
            let of_all = |all: &Blocks| {
                all.connection_pool.as_ref()?.http.as_ref()?.max_retries.as_ref().map(|said| said.place)
            };
            let values = json!({ "max_retries": most });
            Some(Policy::new("maxRetries", text, values, sources.block(of_port, of_all)))
        }
        RetryLimit::Budget(RetryBudget { concurrency_min, interval, .. }) => {
            let RetryLimit::Budget(budget) = limit else { return None };
            let of_what = if interval.is_zero() {
                "the requests under way".to_owned()
            } else {
                format!("the requests of the last {interval:?}")
            };
            let text = format!(
                "at a time as many retries as {}% of {of_what}, and {concurrency_min} in any case",
                budget.percent()
            );
            let values = json!({
                "percent": budget.percent(),
                "min_retry_concurrency": concurrency_min,
                "budget_interval_ms": ms(*interval),
            });
            let origin = sources.whole(|all| all.retry_budget.as_ref().map(|said| said.place));
            Some(Policy::new("retryBudget", text, values, origin))
        }
    }
}
