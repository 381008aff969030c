//! Our own `ResponseCache`: what is kept of a route's answers; without a target, the memory and the classes of all.

use crate::rate_limit::{RateLimitSecret, RateLimitTls};
use crate::traffic_policy::TargetRef;
use crate::{Flag, Meta, Number, Place, Placed, Seconds, Text, Texts};

objects! {
    ResponseCache {
        meta: Meta,
        spec: ResponseCacheSpec,
    }

    ResponseCacheSpec {
        /// A VirtualService, or one of its routes; without it, the process as a whole.
        target_ref: Option<TargetRef>,
        /// Of the process.
        max_bytes: Option<Number>,
        /// Of the process.
        classes: Vec<(Text, CacheClass)>,
        /// Of the process: what is behind its memory.
        tiers: Option<CacheTiers>,
        /// `static`, `hot`, `realtime`, or one of `classes`.
        class: Option<Text>,
        ttl: Option<Seconds>,
        override_headers: Option<Flag>,
        negative: Vec<CacheNegative>,
        stale_while_revalidate: Option<Seconds>,
        stale_if_error: Option<Seconds>,
        key: Option<CacheKey>,
        coalesce: Option<CacheCoalesce>,
        max_object_bytes: Option<Number>,
        max_variants: Option<Number>,
        ignore_client_directives: Option<Flag>,
        hide_status: Option<Flag>,
    }

    CacheClass {
        ttl: Seconds,
    }

    CacheNegative {
        /// `"404"`, `500-504`
        statuses: Texts,
        ttl: Seconds,
    }

    CacheKey {
        headers: Texts,
        cookies: Texts,
        query: Option<CacheQuery>,
    }

    /// One of them.
    CacheQuery {
        only: Texts,
        without: Texts,
    }

    CacheCoalesce {
        disabled: Option<Flag>,
        max_wait: Option<Seconds>,
    }

    CacheTiers {
        disk: Option<CacheDisk>,
        redis: Option<CacheRedis>,
    }

    CacheDisk {
        directory: Text,
        max_bytes: Number,
        timeout: Option<Seconds>,
    }

    CacheRedis {
        /// `host:port`; of a cluster those that are asked first.
        addresses: Texts,
        cluster: Option<Flag>,
        tls: Option<RateLimitTls>,
        user: Option<Text>,
        password: Option<RateLimitSecret>,
        prefix: Option<Text>,
        timeout: Option<Seconds>,
        write: Option<Placed<CacheWrite>>,
        /// So many answers wait to be written.
        queue: Option<Number>,
        poll_every: Option<Seconds>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWrite {
    Through,
    Behind,
}
