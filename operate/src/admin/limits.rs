//! What is left of the limits of clusters, under Envoy's names.

use naru_admit::cluster::gauges;
use naru_proxy::{ClusterStatus, LocalRateStatus, NamedLimitStatus, QuotaStatus, StoreStatus};

use super::guards::Stat;

/// Of the default priority: there is no way to ask for the high one.
pub fn stats(cluster: &ClusterStatus) -> Vec<Stat> {
    let limits = &cluster.limits;
    let mut all = Vec::new();
    let mut add = |name: &str, is_gauge, help, value| {
        all.push(Stat { name: name.to_owned(), is_gauge, help, value });
    };
    let help = "How often there was no room for another connection.";
    add("upstream_cx_overflow", false, help, limits.connections_overflow);
    let help = "Requests that were refused because too many waited for a connection.";
    add("upstream_rq_pending_overflow", false, help, limits.pending_overflow);
    let help = "Requests that were refused because too many were on their way.";
    add("upstream_rq_active_overflow", false, help, limits.requests_overflow);
    add("upstream_rq_pending_active", true, "Requests that wait for a connection.", limits.pending);
    add("upstream_rq_pending_total", false, "Requests that waited for a connection.", limits.pending_total);
    let thresholds = &limits.thresholds;
    for (open, remaining, count, max) in [
        ("cx_open", "remaining_cx", limits.connections, thresholds.connections_max),
        ("rq_pending_open", "remaining_pending", limits.pending, thresholds.pending_max),
        ("rq_open", "remaining_rq", limits.requests, thresholds.requests_max),
        ("rq_retry_open", "remaining_retries", limits.retries, limits.retries_max),
    ] {
        let gauges = gauges(count, max, thresholds);
        let name = format!("circuit_breakers.default.{open}");
        add(&name, true, "1 where the limit is reached.", gauges.is_open.into());
        // Nobody counts what is not limited.
        if let Some(left) = gauges.remaining.filter(|_| max != u32::MAX) {
            add(&format!("circuit_breakers.default.{remaining}"), true, "What is left of the limit.", left);
        }
    }
    all
}

/// Of a limit with a name.
pub fn of_named(limit: &NamedLimitStatus) -> impl Iterator<Item = Stat> + use<> {
    let gauge = |name: &str, help, value| Stat { name: name.to_owned(), is_gauge: true, help, value };
    let refused = Stat {
        name: "refused_total".to_owned(),
        is_gauge: false,
        help: "Requests that a limit with a name has refused.",
        value: limit.refused_total,
    };
    // Nobody is counted who is behind a breaker.
    let counts = |name, help, value| limit.breaker.is_none().then(|| gauge(name, help, value));
    [
        counts("active", "Requests that have passed a limit with a name and are not over.", limit.active),
        counts("waiting", "Requests that wait at a limit with a name.", limit.waiting),
        limit
            .limit
            .map(|limit| gauge("limit", "How many requests may be behind a limit with a name.", limit)),
        Some(refused),
    ]
    .into_iter()
    .flatten()
}

/// Of a rate limit of clients.
pub fn of_quota(quota: &QuotaStatus) -> [Stat; 5] {
    let stat = |name: &str, is_gauge, help, value| Stat { name: name.to_owned(), is_gauge, help, value };
    [
        stat("allowed_total", false, "Requests that a rate limit has let pass.", quota.allowed_total),
        stat("refused_total", false, "Requests that a rate limit has refused.", quota.refused_total),
        stat(
            "shadowed_total",
            false,
            "Requests that a rate limit in shadow would have refused.",
            quota.shadowed_total,
        ),
        stat("keys", true, "Keys of a rate limit that still count.", quota.keys),
        stat(
            "evicted_total",
            false,
            "Keys that still counted and gave way for want of room.",
            quota.evicted_total,
        ),
    ]
}

/// Of Envoy's local rate limits with one prefix.
pub fn of_local_rate(rate: &LocalRateStatus) -> Vec<Stat> {
    const STATS: [(&str, &str); 5] = [
        ("enabled_total", "Requests that a local rate limit was asked for."),
        ("ok_total", "Requests that a local rate limit has let pass."),
        ("rate_limited_total", "Requests for which a local rate limit had no token."),
        ("enforced_total", "Requests that a local rate limit has refused."),
        ("shadow_mode_total", "Requests that only a descriptor in shadow would have refused."),
    ];
    let all = STATS.into_iter().zip(rate.counts);
    let stat =
        |((name, help), value): ((&str, _), _)| Stat { name: name.to_owned(), is_gauge: false, help, value };
    all.map(stat).collect()
}

/// Of a store of counts.
pub fn of_store(store: &StoreStatus) -> Vec<Stat> {
    let stat = |name: &str, is_gauge, help, value| Stat { name: name.to_owned(), is_gauge, help, value };
    let mut stats = vec![
        stat("asked_total", false, "Questions to a store of counts.", store.asked_total),
        stat(
            "unanswered_total",
            false,
            "Questions that a store of counts has not answered.",
            store.unanswered_total,
        ),
        stat("up", true, "1 where no worker does without the store.", store.is_up.into()),
    ];
    if let Some(circle) = &store.circle {
        let present = "Proxies that share limits, of which this one hears, itself too.";
        stats.push(stat("members_present", true, present, circle.present.into()));
        stats.push(stat("parts", true, "So many parts a shared limit has.", circle.parts.into()));
    }
    stats
}
