//! What is kept of answers.

use naru_resource::response_cache::{self as cache, CacheWrite};

use crate::kind::document;
use crate::read::{record, words};

document!(cache::ResponseCache { spec: "spec" });
record!(cache::ResponseCacheSpec {
    target_ref: "targetRef",
    max_bytes: "maxBytes",
    classes: "classes",
    tiers: "tiers",
    class: "class",
    ttl: "ttl",
    override_headers: "overrideHeaders",
    negative: "negative",
    stale_while_revalidate: "staleWhileRevalidate",
    stale_if_error: "staleIfError",
    key: "key",
    coalesce: "coalesce",
    max_object_bytes: "maxObjectBytes",
    max_variants: "maxVariants",
    ignore_client_directives: "ignoreClientDirectives",
    hide_status: "hideStatus",
});
record!(cache::CacheClass { ttl: "ttl" });
record!(cache::CacheNegative { statuses: "statuses", ttl: "ttl" });
record!(cache::CacheKey { headers: "headers", cookies: "cookies", query: "query" });
record!(cache::CacheQuery { only: "only", without: "without" });
record!(cache::CacheCoalesce { disabled: "disabled", max_wait: "maxWait" });
record!(cache::CacheTiers { disk: "disk", redis: "redis" });
record!(cache::CacheDisk { directory: "directory", max_bytes: "maxBytes", timeout: "timeout" });
record!(cache::CacheRedis {
    addresses: "addresses",
    cluster: "cluster",
    tls: "tls",
    user: "user",
    password: "password",
    prefix: "prefix",
    timeout: "timeout",
    write: "write",
    queue: "queue",
    poll_every: "pollEvery",
});
words!(CacheWrite {
    "through" => CacheWrite::Through,
    "behind" => CacheWrite::Behind,
});
