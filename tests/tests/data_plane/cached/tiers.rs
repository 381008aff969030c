//! What is behind the memory: a Redis that gateways share, a cluster of them, and a disk.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use naru_cache::Purge;
use naru_proxy::{Options, SurgeOrder, TierStatus};
use naru_spec::{
    CacheDisk, CachePolicy, CacheRedis, CacheStore, CacheWrite, Redis, Surge, SurgeLevel, SurgeSignal,
    SurgeStep, SurgeThreshold,
};
use naru_tests::client::request;
use naru_tests::files::Directory;
use naru_tests::redis_cluster::RedisCluster;
use naru_tests::{Answer, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, until};

use super::{ALL, config_of};

/// So long that a machine that is loaded answers.
const LONG: Duration = Duration::from_secs(10);
const KEEP: (&str, &str) = ("x-reply", "cache-control: max-age=600");

fn redis(nodes: Vec<String>, is_cluster: bool, write: CacheWrite, timeout: Duration) -> CacheStore {
    let redis = CacheRedis {
        redis: Redis { nodes, is_cluster, tls: None, user: None, password: None },
        prefix: "test".to_owned(),
        timeout,
        write,
        queue_max: 1_000,
        poll: Duration::from_millis(20),
    };
    CacheStore { redis: Some(redis), ..CacheStore::default() }
}

fn disk(files: &Directory) -> CacheStore {
    let directory = files.path("cache").display().to_string();
    CacheStore {
        disk: Some(CacheDisk { directory, bytes_max: 64 << 20, timeout: LONG }),
        ..CacheStore::default()
    }
}

fn start(up: &Upstream, store: &CacheStore) -> Naru {
    let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "");
    let mut config = config_of(&bootstrap, &CachePolicy::default());
    config.cache = Some(store.clone());
    Naru::start_on(config, &Options { workers: 2, seed: None })
}

fn tier(naru: &Naru) -> TierStatus {
    naru.cache().unwrap().tiers[0].clone()
}

async fn is_up(naru: &Naru) {
    until("the tier to be up", async || tier(naru).is_up.then_some(())).await;
}

fn written(naru: &Naru, result: &str) -> u64 {
    tier(naru).writes.iter().find(|(name, _)| *name == result).unwrap().1
}

async fn has_written(naru: &Naru, number: u64) {
    until("answers to be written", async || (written(naru, "stored") >= number).then_some(())).await;
}

/// Of how many answers it is known whether they are written.
fn settled(naru: &Naru) -> u64 {
    let tier = tier(naru);
    tier.requests[2].1 + tier.writes.iter().map(|(_, count)| count).sum::<u64>()
}

async fn send(naru: &Naru, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let mut asked = request(method, path, Outbound::empty());
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        asked.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    let answer = client.exchange(asked).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn get(naru: &Naru, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(naru, Method::GET, path, headers).await
}

fn is_from(answer: &Answer, tier: &str) -> bool {
    answer.header("cache-status").is_some_and(|said| said.ends_with(&format!("; detail={tier}")))
}

#[tokio::test]
async fn what_one_gateway_has_fetched_or_made_worthless_the_other_knows() {
    let server = naru_tests::redis::Redis::start().await;
    for write in [CacheWrite::Behind, CacheWrite::Through] {
        let up = Upstream::plain(Speaks::Http1).await;
        let store = redis(vec![server.address.to_string()], false, write, LONG);
        let (one, other) = (start(&up, &store), start(&up, &store));
        is_up(&one).await;
        is_up(&other).await;
        // Of one round nothing is left for the next.
        let path = |name: &str| format!("/describe/{write:?}/{name}");
        let url = |name: &str| format!("http://naru.test{}", path(name));

        get(&one, &path("a"), &[KEEP]).await;
        has_written(&one, 1).await;
        let answer = get(&other, &path("a"), &[]).await;
        assert!(is_from(&answer, "redis") && answer.header("age").is_some(), "{answer:?}");
        let again = get(&other, &path("a"), &[]).await;
        assert!(
            again.header("cache-status").is_some_and(|said| said.starts_with("naru; hit; ttl=")),
            "{again:?}"
        );
        assert!(!is_from(&again, "redis"), "it is in memory now");
        assert_eq!(up.requests(), 1);

        // What requests said chooses there, too.
        let chosen = ("x-reply", "cache-control: max-age=600 | vary: accept-language");
        get(&one, &path("b"), &[chosen, ("accept-language", "de")]).await;
        has_written(&one, 2).await;
        get(&other, &path("b"), &[chosen, ("accept-language", "fr")]).await;
        has_written(&other, 1).await;
        assert_eq!(up.requests(), 3);
        assert!(is_from(&get(&one, &path("b"), &[("accept-language", "fr")]).await, "redis"));

        // What is somebody's goes nowhere.
        get(&one, &path("own"), &[KEEP, ("authorization", "Bearer x")]).await;
        get(&one, &path("own"), &[("x-reply", "cache-control: private, max-age=600")]).await;
        get(&other, &path("own"), &[KEEP, ("authorization", "Bearer y")]).await;
        assert_eq!((up.requests(), written(&one, "stored"), written(&other, "stored")), (6, 2, 1));

        // A request that may have changed it, at one of them: at once there, and soon at the other.
        send(&one, Method::POST, &path("a"), &[]).await;
        let before = up.requests();
        let answer = get(&one, &path("a"), &[KEEP]).await;
        assert_eq!((up.requests(), is_from(&answer, "redis")), (before + 1, false), "{answer:?}");
        until("the other to forget it", async || {
            let answer = get(&other, &path("a"), &[KEEP]).await;
            let is_known =
                answer.header("cache-status").is_some_and(|said| said.starts_with("naru; hit; ttl"));
            (!is_known || is_from(&answer, "redis")).then_some(())
        })
        .await;

        let tagged = ("x-reply", "cache-control: max-age=600 | cache-tag: shop");
        let mut fresh = 0;
        for purge in
            [Purge::Tag("shop".to_owned()), Purge::Prefix(url("c")), Purge::Url(url("c/1")), Purge::All]
        {
            // What is fetched before the list was read again is not shared.
            until("what is fetched to be shared", async || {
                fresh += 1;
                let (path, before) = (path(&format!("fresh/{fresh}")), up.requests());
                get(&one, &path, &[KEEP]).await;
                get(&other, &path, &[KEEP]).await;
                (up.requests() == before + 1).then_some(())
            })
            .await;
            let stored = written(&one, "stored");
            get(&one, &path("c/1"), &[tagged]).await;
            has_written(&one, stored + 1).await;
            let before = up.requests();
            assert!(is_from(&get(&other, &path("c/1"), &[tagged]).await, "redis"), "{purge:?}");
            let purged = one.purge(&purge).await.unwrap();
            assert_eq!(purged.is_told, Some(true), "{purge:?}");
            until("the other to fetch it anew", async || {
                get(&other, &path("c/1"), &[tagged]).await;
                (up.requests() > before).then_some(())
            })
            .await;
            // And nobody is given what was there before: it is the other's now, or fetched.
            get(&one, &path("c/1"), &[tagged]).await;
            one.purge(&Purge::All).await.unwrap();
            until("nothing to be left", async || (other.cache().unwrap().counts.objects == 0).then_some(()))
                .await;
        }
        drop((one, other));
    }
}

#[tokio::test]
async fn a_redis_that_is_away_is_missed_and_nothing_else() {
    let mut server = naru_tests::redis::Redis::start().await;
    let up = Upstream::plain(Speaks::Http1).await;
    let store =
        redis(vec![server.address.to_string()], false, CacheWrite::Through, Duration::from_millis(500));
    let (one, other) = (start(&up, &store), start(&up, &store));
    is_up(&one).await;
    is_up(&other).await;
    get(&one, "/describe/a", &[KEEP]).await;
    has_written(&one, 1).await;
    server.kill();
    for at in 0..50 {
        get(&other, &format!("/describe/{at}"), &[KEEP]).await;
    }
    until("it to be known as away", async || (!tier(&other).is_up).then_some(())).await;
    let unanswered = tier(&other).requests[2].1;
    assert!(unanswered > 0);
    // What is told meanwhile is told later.
    get(&other, "/describe/a", &[KEEP]).await;
    send(&one, Method::POST, "/describe/a", &[]).await;
    until("something to wait to be told", async || (tier(&one).untold == Some(1)).then_some(())).await;
    server.again().await;
    is_up(&one).await;
    is_up(&other).await;
    until("the other to forget it", async || {
        let answer = get(&other, "/describe/a", &[KEEP]).await;
        answer.header("cache-status").is_some_and(|said| said.contains("fwd=")).then_some(())
    })
    .await;
    until("nothing to wait to be told", async || (tier(&one).untold == Some(0)).then_some(())).await;
    let before = written(&one, "stored");
    get(&one, "/describe/after", &[KEEP]).await;
    has_written(&one, before + 1).await;
    let known = up.requests();
    assert!(is_from(&get(&other, "/describe/after", &[]).await, "redis"));
    assert_eq!(up.requests(), known);
    one.settles().await;
    other.settles().await;
}

#[tokio::test]
async fn a_cluster_that_loses_a_master_becomes_misses_and_heals() {
    for needs_all in [false, true] {
        let mut cluster = RedisCluster::start(needs_all).await;
        let up = Upstream::plain(Speaks::Http1).await;
        let store = redis(cluster.nodes(), true, CacheWrite::Behind, Duration::from_millis(500));
        let (one, other) = (start(&up, &store), start(&up, &store));
        is_up(&one).await;
        is_up(&other).await;
        // On all masters.
        for at in 0..60 {
            get(&one, &format!("/describe/{at}"), &[KEEP]).await;
        }
        has_written(&one, 60).await;
        for at in 0..30 {
            assert!(is_from(&get(&other, &format!("/describe/{at}"), &[]).await, "redis"), "{at}");
        }
        assert_eq!(up.requests(), 60);

        cluster.kill(1);
        for at in 30..400 {
            // Each is answered, from there or by the upstream.
            get(&other, &format!("/describe/{at}"), &[KEEP]).await;
        }
        until("it to be known as away", async || {
            get(&other, "/describe/more", &[KEEP]).await;
            get(&one, "/describe/more", &[KEEP]).await;
            (!tier(&other).is_up).then_some(())
        })
        .await;

        cluster.again(1).await;
        cluster.is_whole().await;
        is_up(&one).await;
        is_up(&other).await;
        // The first who asks a master that has come back may find a connection that is broken.
        let mut round = 0;
        until("all of it to be shared again", async || {
            round += 1;
            let mut shared = 0;
            for at in 0..60 {
                let path = format!("/describe/after/{round}/{at}");
                let before = settled(&one);
                get(&one, &path, &[KEEP]).await;
                until("it to be written, or not", async || (settled(&one) > before).then_some(())).await;
                shared += u32::from(is_from(&get(&other, &path, &[KEEP]).await, "redis"));
            }
            (shared == 60).then_some(())
        })
        .await;
        one.settles().await;
        other.settles().await;
    }
}

#[tokio::test]
async fn what_is_on_a_disk_outlives_the_process() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let store = disk(&files);
    let naru = start(&up, &store);
    is_up(&naru).await;
    let tagged = ("x-reply", "cache-control: max-age=600 | cache-tag: shop");
    get(&naru, "/describe/a", &[KEEP]).await;
    get(&naru, "/describe/b", &[KEEP]).await;
    get(&naru, "/describe/c", &[tagged]).await;
    has_written(&naru, 3).await;
    send(&naru, Method::POST, "/describe/b", &[]).await;
    naru.purge(&Purge::Tag("shop".to_owned())).await.unwrap();
    until("the file to go", async || (tier(&naru).held.unwrap().0 == 2).then_some(())).await;
    naru.ends().await;

    let naru = start(&up, &store);
    is_up(&naru).await;
    let before = up.requests();
    assert!(is_from(&get(&naru, "/describe/a", &[KEEP]).await, "disk"));
    assert_eq!(up.requests(), before);
    get(&naru, "/describe/b", &[KEEP]).await;
    get(&naru, "/describe/c", &[KEEP]).await;
    assert_eq!(up.requests(), before + 2, "what was made worthless stays so");
    naru.settles().await;
}

#[tokio::test]
async fn while_a_surge_lasts_what_is_on_a_disk_is_fresh_for_as_long_as_what_is_in_memory() {
    let (up, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let start = || {
        let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "");
        let lifetime = Some(Duration::from_secs(1));
        let mut config = config_of(&bootstrap, &CachePolicy { lifetime, ..CachePolicy::default() });
        config.cache = Some(disk(&files));
        let threshold = |value| vec![SurgeThreshold { signal: SurgeSignal::Queued, value }];
        config.surge = Some(Surge {
            every: Duration::from_millis(100),
            capacity: None,
            levels: vec![SurgeLevel {
                name: "busy".to_owned(),
                enter: threshold(1_000),
                leave: threshold(500),
                enter_after: LONG,
                leave_after: LONG,
                steps: vec![SurgeStep::CacheLifetime { class: None, percent: 10_000 }],
            }],
        });
        Naru::start_on(config, &Options { workers: 2, seed: None })
    };
    let naru = start();
    is_up(&naru).await;
    get(&naru, "/describe", &[]).await;
    has_written(&naru, 1).await;
    let kept = std::time::Instant::now();
    naru.ends().await;
    until("it to be stale", async || (kept.elapsed() > Duration::from_secs(1)).then_some(())).await;

    let naru = start();
    is_up(&naru).await;
    naru.order_surge(SurgeOrder::Force(1)).unwrap();
    let answer = get(&naru, "/describe", &[]).await;
    assert!(is_from(&answer, "disk") && up.requests() == 1, "{answer:?}");
    naru.settles().await;
}
