//! `/stats`: counters and gauges under Envoy's names.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use naru_base::Reason;
use naru_proxy::Report;
use naru_proxy::metrics::Abuse;

use super::guards::BreakerStats;
use super::{
    Admin, Query, Whole, cache, guards, json, limits, mirrors, prometheus, sessions, strain, surge, tcp, text,
};

pub async fn page(admin: &Admin, query: &Query<'_>) -> Response<Whole> {
    if query.get("format") == Some("prometheus") {
        return prometheus::page(admin).await;
    }
    let filter =
        match query.get("filter").map(|pattern| regex::Regex::new(&percent_decoded(pattern))).transpose() {
            Ok(filter) => filter,
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("Invalid regex: {error}\n")),
        };
    let only_used = query.get("usedonly").is_some();
    let mut stats = collect(admin, &admin.proxy.report().await);
    stats.retain(|name, value| {
        filter.as_ref().is_none_or(|filter| filter.is_match(name)) && (!only_used || *value > 0)
    });
    if query.get("format") == Some("json") {
        let all: Vec<_> =
            stats.iter().map(|(name, value)| serde_json::json!({ "name": name, "value": value })).collect();
        return json(&serde_json::json!({ "stats": all }));
    }
    text(StatusCode::OK, stats.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>())
}

/// Every number by its name, in the order of the names.
fn collect(admin: &Admin, report: &Report) -> BTreeMap<String, u64> {
    let mut stats = BTreeMap::new();
    let downstream = report.downstream;
    for (name, value) in [
        ("downstream_cx_active", downstream.connections_active),
        ("downstream_cx_total", downstream.connections_total),
        ("downstream_cx_protocol_error", downstream.protocol_errors),
        ("downstream_cx_ssl_error", downstream.tls_errors),
        ("downstream_cx_panic", downstream.panics),
        ("downstream_rq_active", downstream.requests_active),
        ("downstream_rq_total", downstream.requests_total),
    ] {
        stats.insert(format!("http.{name}"), value);
    }
    for (abuse, count) in Abuse::ALL.iter().zip(downstream.abuses) {
        stats.insert(format!("http2.abuse.{}", abuse.name()), count);
    }
    stats.insert("server.concurrency".to_owned(), admin.workers as u64);
    stats.insert("server.live".to_owned(), u64::from(admin.proxy.is_ready()));
    stats.insert("server.uptime".to_owned(), admin.proxy.uptime().as_secs());
    stats.insert("server.snapshots_in_use".to_owned(), admin.proxy.snapshots_in_use() as u64);
    stats.insert("server.timers_active".to_owned(), report.timers);
    stats.insert("access_log.lines_dropped".to_owned(), downstream.log_lines_dropped);
    for counts in &report.clusters {
        for (name, value) in [
            ("upstream_cx_active", counts.connections_active),
            ("upstream_cx_total", counts.connections_total),
            ("upstream_cx_connect_fail", counts.connect_failures),
            ("upstream_cx_connect_timeout", counts.connect_timeouts),
            ("upstream_rq_active", counts.requests_active),
            ("upstream_rq_total", counts.requests_total),
            ("upstream_rq_replay", counts.replays),
            ("upstream_rq_retry", counts.retries),
            ("upstream_rq_retry_limit_exceeded", counts.retries_exceeded),
            ("upstream_rq_fallback", counts.fallbacks),
            ("upstream_rq_retry_overflow", counts.retries_overflow),
        ] {
            stats.insert(format!("cluster.{}.{name}", counts.name), value);
        }
    }
    for cluster in admin.proxy.clusters() {
        for stat in guards::stats(&cluster).into_iter().chain(limits::stats(&cluster)) {
            stats.insert(format!("cluster.{}.{}", cluster.name, stat.name), stat.value);
        }
        if let Some(breaker) = guards::breaker(&cluster) {
            stats.extend(of_breaker(&format!("cluster.{}.circuit_breaker", cluster.name), &breaker));
        }
    }
    for limit in admin.proxy.named_limits() {
        let counts = limits::of_named(&limit);
        stats.extend(
            counts.map(|stat| (format!("load.{}.{}.{}", limit.kind, limit.name, stat.name), stat.value)),
        );
        if let Some(breaker) = &limit.breaker {
            let breaker = guards::of_breaker(breaker);
            stats.extend(of_breaker(&format!("load.{}.{}", limit.kind, limit.name), &breaker));
        }
    }
    for quota in admin.proxy.quotas() {
        let counts = limits::of_quota(&quota).into_iter();
        stats.extend(counts.map(|stat| (format!("rate_limit.{}.{}", quota.name, stat.name), stat.value)));
    }
    for rate in admin.proxy.local_rates() {
        let counts = limits::of_local_rate(&rate).into_iter();
        let prefix = format!("{}.http_local_rate_limit", rate.stat_prefix);
        stats.extend(
            counts.map(|stat| (format!("{prefix}.{}", stat.name.trim_end_matches("_total")), stat.value)),
        );
    }
    for store in admin.proxy.stores() {
        let counts = limits::of_store(&store).into_iter();
        stats.extend(counts.map(|stat| (format!("store.{}.{}", store.name, stat.name), stat.value)));
    }
    for mirror in &report.mirrors {
        let name = &mirror.name;
        for (of_cluster, value) in mirrors::of_cluster(mirror) {
            *stats.entry(format!("cluster.{}.{of_cluster}", name.cluster)).or_insert(0) += value;
        }
        for stat in mirrors::stats(mirror) {
            let of_route = format!("mirror.{}.{}.{}", name.virtual_host, name.route, name.cluster);
            stats.insert(format!("{of_route}.{}", stat.name), stat.value);
        }
    }
    for learned in &report.timeouts {
        let prefix = format!("route.{}.{}.auto_timeout", learned.virtual_host, learned.route);
        stats.insert(format!("{prefix}_ms"), learned.timeout.as_millis() as u64);
        stats.insert(format!("{prefix}_responses"), learned.responses);
    }
    cache::add_stats(admin.proxy.cache().as_ref(), &mut stats);
    for status in admin.proxy.sessions() {
        let prefix = format!("session.{}", status.name);
        stats.extend(
            sessions::stats(&status).into_iter().map(|stat| (format!("{prefix}.{}", stat.name), stat.value)),
        );
    }
    stats.insert("mirror.copies_active".to_owned(), report.copies_active);
    tcp::add_stats(report, &mut stats);
    strain::add_stats(report, &admin.proxy.strain(), &mut stats);
    surge::add_stats(admin.proxy.surge().as_ref(), &mut stats);
    for (prefix, active, limited) in admin.proxy.connection_limits() {
        for (name, value) in [("active_connections", active), ("limited_connections", limited)] {
            *stats.entry(format!("connection_limit.{prefix}.{name}")).or_insert(0) += value;
        }
    }
    for series in report.series.iter().filter(|series| !tcp::is_tcp(series)) {
        let labels = series.labels;
        let requests = series.requests();
        let prefix = &series.stat_prefix;
        let class = labels.status / 100;
        let mut add = |name: String, value: u64| *stats.entry(name).or_insert(0) += value;
        if class > 0 {
            add(format!("http.{prefix}.downstream_rq_{class}xx"), requests);
        }
        add(format!("http.{prefix}.downstream_rq_completed"), requests);
        add(format!("http.{prefix}.reason.{}", labels.reason.name()), requests);
        match labels.reason {
            Reason::Overloaded => add(format!("http.{prefix}.downstream_rq_overload_close"), requests),
            Reason::NoRoute => add(format!("http.{prefix}.no_route"), requests),
            Reason::NoCluster => add(format!("http.{prefix}.no_cluster"), requests),
            Reason::Redirect => add(format!("http.{prefix}.rq_redirect"), requests),
            Reason::DirectResponse => add(format!("http.{prefix}.rq_direct_response"), requests),
            _ => {}
        }
        let Some(cluster) = &series.cluster else { continue };
        if class > 0 {
            add(format!("cluster.{cluster}.upstream_rq_{class}xx"), requests);
            add(format!("cluster.{cluster}.upstream_rq_{}", labels.status), requests);
        }
        match labels.reason {
            Reason::RouteTimeout => add(format!("cluster.{cluster}.upstream_rq_timeout"), requests),
            Reason::StreamDuration => {
                add(format!("cluster.{cluster}.upstream_rq_max_duration_reached"), requests);
            }
            Reason::NoHealthyUpstream => add(format!("cluster.{cluster}.upstream_cx_none_healthy"), requests),
            Reason::UpstreamClosed
            | Reason::UpstreamReset
            | Reason::UpstreamRefused
            | Reason::UpstreamAborted => {
                add(format!("cluster.{cluster}.upstream_rq_rx_reset"), requests);
            }
            _ => {}
        }
    }
    stats
}

/// A query value may be percent-encoded; what is no code stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            _ => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The state that a breaker is in, and how calls went.
fn of_breaker(prefix: &str, breaker: &BreakerStats) -> Vec<(String, u64)> {
    let states = breaker.states.iter().map(|(state, is_it)| (format!("{prefix}.state.{state}"), *is_it));
    let calls = breaker.calls.iter().map(|(kind, calls)| (format!("{prefix}.calls.{kind}"), *calls));
    states.chain(calls).collect()
}
