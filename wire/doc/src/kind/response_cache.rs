//! What is kept of answers.

use naru_resource::response_cache as cache;

use crate::kind::document;
use crate::read::record;

document!(cache::ResponseCache { spec: "spec" });
record!(cache::ResponseCacheSpec {
    target_ref: "targetRef",
    max_bytes: "maxBytes",
    classes: "classes",
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
