//! What is kept of answers, and how much of it: a shared cache's settings (RFC 9111, RFC 5861).
//!
//! A route has at most one [`CachePolicy`]; the memory that all of them share is the process's, [`CacheStore`].

use std::time::Duration;

use ::http::HeaderName;

use crate::{Invalid, Redis, StatusRange, defaults};

/// Of the answers of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct CachePolicy {
    /// What counts are kept under.
    pub class: String,
    /// How long an answer is fresh that does not say it itself.
    pub lifetime: Option<Duration>,
    /// Whatever an answer says: `lifetime` holds. What must not be stored is not stored for that.
    pub overrides: bool,
    /// Of answers with these statuses, where they do not say it themselves; the first that has the status.
    pub negative: Vec<(StatusRange, Duration)>,
    /// How long past its lifetime an answer is given while another is fetched, where it does not say so itself.
    pub stale_while_revalidate: Option<Duration>,
    /// How long past its lifetime an answer is given where none comes, or a failure, where it does not say so itself.
    pub stale_if_error: Option<Duration>,
    pub key: CacheKeyParts,
    /// How long requests wait for another one that fetches the same; `None`: each fetches by itself.
    pub coalesce: Option<Duration>,
    /// Of a body. Larger ones are passed on and not kept.
    pub object_bytes_max: u64,
    /// Of one URL.
    pub variants_max: u32,
    /// Whether clients may ask for a fresh answer, by `Cache-Control` and `Pragma`.
    pub obeys_requests: bool,
    /// Whether answers say what became of them in the cache (RFC 9211).
    pub tells: bool,
}

/// What tells answers apart beside the URL and `Vary`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CacheKeyParts {
    pub headers: Vec<HeaderName>,
    pub cookies: Vec<String>,
    pub query: CacheKeyQuery,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum CacheKeyQuery {
    #[default]
    All,
    /// These parameters only.
    Only(Vec<String>),
    /// All but these.
    Without(Vec<String>),
}

/// The memory of a process, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheStore {
    pub bytes_max: u64,
    pub disk: Option<CacheDisk>,
    pub redis: Option<CacheRedis>,
}

/// A directory of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDisk {
    pub directory: String,
    pub bytes_max: u64,
    /// For one answer.
    pub timeout: Duration,
}

/// A Redis that gateways share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRedis {
    pub redis: Redis,
    /// Those with the same share their answers.
    pub prefix: String,
    /// For one answer.
    pub timeout: Duration,
    pub write: CacheWrite,
    /// So many answers wait to be written, at most.
    pub queue_max: u32,
    /// How often it is asked what others have made worthless.
    pub poll: Duration,
}

/// When an answer that was fetched is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWrite {
    /// Before others are given it: they wait for the write, for no longer than an answer may take.
    Through,
    /// At some time after it; what finds no place to wait is not written.
    Behind,
}

impl Default for CacheStore {
    fn default() -> CacheStore {
        CacheStore { bytes_max: defaults::CACHE_BYTES_MAX, disk: None, redis: None }
    }
}

impl Default for CachePolicy {
    /// What RFC 9111 says, and nothing else.
    fn default() -> CachePolicy {
        CachePolicy {
            class: defaults::CACHE_CLASS.to_owned(),
            lifetime: None,
            overrides: false,
            negative: Vec::new(),
            stale_while_revalidate: None,
            stale_if_error: None,
            key: CacheKeyParts::default(),
            coalesce: Some(defaults::CACHE_COALESCE),
            object_bytes_max: defaults::CACHE_OBJECT_BYTES_MAX,
            variants_max: defaults::CACHE_VARIANTS_MAX,
            obeys_requests: true,
            tells: true,
        }
    }
}

impl CachePolicy {
    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.overrides && self.lifetime.is_none() {
            found
                .push(Invalid::new("a cache that overrides lifetimes has none").hint("say a ttl or a class"));
        }
        if self.variants_max == 0 {
            found.push(Invalid::new("a cache without variants keeps nothing").hint("at least 1"));
        }
        let times = [self.lifetime, self.stale_while_revalidate, self.stale_if_error];
        let of_statuses = self.negative.iter().map(|(_, lifetime)| *lifetime);
        for time in times.into_iter().flatten().chain(of_statuses) {
            if time > defaults::CACHE_LIFETIME_MAX {
                found.push(Invalid::new("a lifetime in a cache is longer than 68 years"));
            }
        }
        found
    }
}

impl CacheStore {
    pub fn problems(&self) -> Vec<Invalid> {
        let is_small = self.bytes_max < defaults::CACHE_BYTES_MIN;
        let problem =
            is_small.then(|| Invalid::new("a cache has less than 1 MiB").hint("1048576 bytes or more"));
        let mut found: Vec<Invalid> = problem.into_iter().collect();
        if let Some(disk) = &self.disk {
            if disk.bytes_max < defaults::CACHE_DISK_BYTES_MIN {
                found.push(
                    Invalid::new("a cache has less than 16 MiB of disk").hint("16777216 bytes or more"),
                );
            }
            if disk.directory.is_empty() || disk.timeout.is_zero() {
                found.push(Invalid::new("a cache on a disk needs a directory and a timeout"));
            }
        }
        if let Some(shared) = &self.redis {
            if shared.redis.nodes.is_empty() {
                found.push(Invalid::new("the Redis of a cache has no address"));
            }
            if shared.timeout.is_zero() || shared.queue_max == 0 || shared.poll < defaults::CACHE_POLL_MIN {
                let hint = "timeout and queue are above zero, pollEvery is 10 ms or more";
                found.push(Invalid::new("the Redis of a cache can never answer").hint(hint));
            }
        }
        found
    }
}
