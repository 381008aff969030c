//! What is behind the memory of answers: what `tiers` of a `ResponseCache` mean.

use std::time::Duration;

use naru_resource::response_cache::{
    CacheDisk as SaidDisk, CacheRedis as SaidRedis, CacheTiers, CacheWrite as SaidWrite,
};
use naru_resource::{Seconds, Texts};
use naru_spec::{CacheDisk, CacheRedis, CacheWrite, Path, Redis, code, defaults};

use crate::findings::Findings;
use crate::rates::{RedisLogin, redis_login};

pub(super) fn of(said: &CacheTiers, findings: &mut Findings<'_>) -> (Option<CacheDisk>, Option<CacheRedis>) {
    if let (None, None) = (&said.disk, &said.redis) {
        let message = "there is no tier";
        let path = Path::ROOT.field("spec.tiers");
        findings.error(code::MISSING_FIELD, said.place, &path, message, "say disk, redis, or both");
    }
    let disk = said.disk.as_ref().and_then(|said| disk(said, findings));
    (disk, said.redis.as_ref().and_then(|said| redis(said, findings)))
}

fn disk(said: &SaidDisk, findings: &mut Findings<'_>) -> Option<CacheDisk> {
    let path = Path::ROOT.field("spec.tiers.disk");
    if said.directory.value.is_empty() {
        let message = "a directory has a name";
        let hint = "such as /var/cache/naru";
        findings.error(code::INVALID_VALUE, said.directory.place, &path.field("directory"), message, hint);
    }
    let most = u64::try_from(said.max_bytes.value).ok();
    let most = most.filter(|most| *most >= defaults::CACHE_DISK_BYTES_MIN);
    if most.is_none() {
        let message = format!("{} bytes are too few for a cache on a disk", said.max_bytes.value);
        let hint = format!("{} or more", defaults::CACHE_DISK_BYTES_MIN);
        findings.error(code::INVALID_VALUE, said.max_bytes.place, &path.field("maxBytes"), message, hint);
    }
    let timeout = above_zero(&said.timeout, defaults::CACHE_DISK_TIMEOUT, &path.field("timeout"), findings);
    Some(CacheDisk { directory: said.directory.value.clone(), bytes_max: most?, timeout })
}

fn redis(said: &SaidRedis, findings: &mut Findings<'_>) -> Option<CacheRedis> {
    let path = Path::ROOT.field("spec.tiers.redis");
    let is_cluster = said.cluster.as_ref().is_some_and(|flag| flag.value);
    let nodes = nodes(&said.addresses, is_cluster, &path.field("addresses"), findings);
    if said.addresses.is_empty() {
        let message = "the field 'addresses' is missing";
        findings.error(code::MISSING_FIELD, said.place, &path, message, "host:port");
    }
    let prefix = said.prefix.as_ref().map_or(defaults::CACHE_PREFIX, |prefix| &prefix.value);
    if let Some(wrong) = said.prefix.as_ref().filter(|said| !is_prefix(&said.value)) {
        let message = format!("'{}' cannot be a prefix", wrong.value);
        let hint = "letters, digits, '-', '_', '.' and ':', at most 64";
        findings.error(code::INVALID_VALUE, wrong.place, &path.field("prefix"), message, hint);
    }
    let timeout = above_zero(&said.timeout, defaults::STORE_TIMEOUT, &path.field("timeout"), findings);
    let write = match said.write.as_ref().map(|said| said.value) {
        Some(SaidWrite::Through) => CacheWrite::Through,
        Some(SaidWrite::Behind) | None => CacheWrite::Behind,
    };
    let queue = said.queue.as_ref().map_or(Some(defaults::CACHE_QUEUE), |said| {
        let queue = u32::try_from(said.value).ok().filter(|queue| *queue > 0);
        if queue.is_none() {
            let message = format!("{} is out of range: 1 to {}", said.value, u32::MAX);
            findings.error(code::INVALID_VALUE, said.place, &path.field("queue"), message, "");
        }
        queue
    });
    let poll = said.poll_every.as_ref().map_or(defaults::CACHE_POLL, |said| said.value);
    if let Some(short) = said.poll_every.as_ref().filter(|_| poll < defaults::CACHE_POLL_MIN) {
        let message = "that is too often";
        let path = path.field("pollEvery");
        findings.error(code::INVALID_VALUE, short.place, &path, message, "10ms or more");
    }
    let login = (said.tls.as_ref(), said.user.as_ref(), said.password.as_ref());
    let RedisLogin { tls, user, password } = redis_login(login, &path, findings);
    Some(CacheRedis {
        redis: Redis { nodes, is_cluster, tls, user, password },
        prefix: prefix.to_owned(),
        timeout,
        write,
        queue_max: queue?,
        poll,
    })
}

fn nodes(said: &Texts, is_cluster: bool, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<String> {
    for (at, address) in said.iter().enumerate() {
        let is_one = address.value.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !is_one {
            // It may be a URL with a password.
            let message = "this is no address";
            findings.error(code::INVALID_VALUE, address.place, &path.at(at), message, "host:port");
        }
    }
    if let Some(second) = said.get(1).filter(|_| !is_cluster) {
        let message = "a single Redis has one address";
        findings.error(code::INVALID_VALUE, second.place, &path.at(1), message, "say cluster: true, or one");
    }
    said.iter().map(|address| address.value.clone()).collect()
}

fn is_prefix(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_known)
}

fn above_zero(
    said: &Option<Seconds>,
    usual: Duration,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Duration {
    let timeout = said.as_ref().map_or(usual, |said| said.value);
    if let Some(zero) = said.as_ref().filter(|_| timeout.is_zero()) {
        findings.error(code::INVALID_VALUE, zero.place, path, "nobody answers in no time", "");
    }
    timeout
}
