//! Rules, as they are said: what they match, and what they do.

use naru_spec::{
    Action, AutoTimeout, Backoff, BalancingPolicy, CacheDisk, CacheKeyParts, CacheKeyQuery, CachePolicy,
    CacheRedis, CacheStore, CacheWrite, ClusterChoice, ConsistentHash, DirectResponse, Forward, HashPolicy,
    HashSource, HashTable, HeaderMatch, HeaderTest, Hedge, HostRewrite, LeastRequest, LoadBalancing, Match,
    NameMatch, PathMatch, PathRewrite, PeakEwma, QueryOps, RateLimitedBackoff, ReadWriteGroups, Redirect,
    RedirectPath, Repeats, ResetFormat, ResetHeader, RetryBudget, RetryLimit, RetryPolicy, SessionKey,
    Sticky, StickyCarrier, StringMatch, Terminate, ValueTest, WarmUp, WeightedCluster,
};

structs! {
    Forward {
        clusters, groups, timeout, idle_timeout, path, host, append_x_forwarded_host, query,
        cluster_not_found, hash, load, fallback, cache, retry, hedge, auto_timeout, fault, mirrors,
        upgrades, terminate, cluster_gates,
    }
    Redirect { scheme, host, port, path, status, strip_query }
    DirectResponse { status, body }
    WeightedCluster { name, weight, host, request_headers, response_headers }
    QueryOps { remove, set, add }
    Terminate { proxy_protocol }
    Match {
        path, ignore_path_case, scheme, method, authority, headers, query, cookies, sources, fraction, grpc,
        claims,
    }
    HeaderMatch { name, test, invert, missing_as_empty }
    StringMatch { test, ignore_case }
    NameMatch { name, test, invert }
    RetryPolicy {
        on, retries_max, statuses, response_headers, request_headers, per_try_timeout, per_try_idle_timeout,
        backoff, rate_limited, avoids_tried, picks_max, avoids_priorities_after, repeats,
    }
    Hedge { initial, additional, on_per_try_timeout }
    AutoTimeout { quantile_permille, factor_percent, min, max }
    RateLimitedBackoff { headers, max }
    RetryBudget { share_ppm, concurrency_min, interval }
    ResetHeader { name, format }
    ReadWriteGroups { read, write, write_methods, write_paths, read_paths, read_your_writes }
    LoadBalancing { policy, warm_up, hash, sticky, overprovisioning_percent, weighs_localities }
    HashPolicy { source, is_terminal }
    WarmUp { window, aggression, min_percent }
    Sticky { carrier, is_strict }
    LeastRequest { choices, bias }
    PeakEwma { first, decay }
    ConsistentHash { table, load_max_percent, by_host_name }
    CacheStore { bytes_max, disk, redis }
    CacheDisk { directory, bytes_max, timeout }
    CacheRedis { redis, prefix, timeout, write, queue_max, poll }
    CachePolicy {
        class, lifetime, overrides, negative, stale_while_revalidate, stale_if_error, key, coalesce,
        object_bytes_max, variants_max, obeys_requests, tells,
    }
    CacheKeyParts { headers, cookies, query }
}

enums! {
    Action { Forward(it), Redirect(it), Direct(it) }
    ClusterChoice { One(it), Weighted(it) }
    PathRewrite { Prefix(it), Regex { pattern, substitution }, Full(it) }
    HostRewrite { Literal(it), Auto, Header(it) }
    RedirectPath { Full(it), Prefix(it), Regex { pattern, substitution } }
    PathMatch { Exact(it), Prefix(it), SegmentPrefix(it), Regex(it), Connect }
    HeaderTest { Present(it), Value(it), Range { start, end } }
    ValueTest { Exact(it), Prefix(it), Suffix(it), Contains(it), Regex(it) }
    RetryLimit { Concurrent(it), Budget(it) }
    Backoff {
        Jittered { base, max }, Fixed { wait, jitter_percent }, Linear { step, max, jitter_percent },
        Exponential { first, factor_percent, max, jitter_percent },
    }
    Repeats { Idempotent, Everything }
    ResetFormat { Seconds, UnixTimestamp }
    SessionKey { Cookie(it), Header { name, scope } }
    BalancingPolicy { RoundRobin, LeastRequest(it), Random, PeakEwma(it), ConsistentHash(it), Passthrough }
    HashSource { Header(it), Cookie(it), SourceIp, Query(it) }
    StickyCarrier { Cookie(it), Header(it) }
    HashTable { Ring(it), Maglev(it) }
    CacheWrite { Through, Behind }
    CacheKeyQuery { All, Only(it), Without(it) }
}
