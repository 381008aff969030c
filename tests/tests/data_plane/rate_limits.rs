//! How often clients may ask, on sockets.

use std::time::Duration;

use naru_base::Reason;
use naru_proxy::Options;
use naru_spec::{
    Check, CheckKind, Config, CountPlace, GateChange, Lacking, Quota, QuotaAlgorithm, QuotaKey, Quotas,
    Redis, Store, StoreUse, WithoutStore,
};
use naru_tests::naru::config;
use naru_tests::redis::Masters;
use naru_tests::wire::WireListener;
use naru_tests::{Bootstrap, Naru, Speaks, Upstream, Wire, until};
use tokio::task::JoinSet;

/// Windows in which no test ends: what comes again while it runs is not counted.
const LONG: Duration = Duration::from_secs(36_000);

fn quota(name: &str, requests: u32, key: Vec<QuotaKey>) -> Quota {
    Quota {
        name: name.into(),
        algorithm: QuotaAlgorithm::FixedWindow { requests, window: LONG },
        key,
        lacking: Lacking::Uncounted,
        cost: 1,
        is_shadow: false,
        keys_max: 1_000,
    }
}

fn check(name: &str, limits: Vec<Quota>, store: Option<StoreUse>) -> Check {
    Check { name: name.into(), kind: CheckKind::Quotas(Box::new(Quotas { limits, store })) }
}

fn with(mut config: Config, check: Check) -> Config {
    config.listeners[0].chains[0].http.gate.insert(check);
    config
}

fn user() -> Vec<QuotaKey> {
    vec![QuotaKey::Header("x-user".parse().unwrap())]
}

fn start(config: Config, workers: usize) -> Naru {
    Naru::start_on(config, &Options { workers, seed: Some(1) })
}

/// Asks so often, one after the other, and counts who passed; the others are refused as they should be.
async fn ask(naru: &Naru, user: &str, count: usize) -> usize {
    let mut passed = 0;
    let mut wire = Wire::connect(naru.address).await;
    for _ in 0..count {
        wire.send(format!("GET / HTTP/1.1\r\nhost: naru.test\r\nx-user: {user}\r\n\r\n")).await;
        let response = wire.response().await;
        match response.status() {
            200 => passed += 1,
            429 => assert!(response.head.get("retry-after").is_some(), "{response:?}"),
            status => panic!("{status}"),
        }
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_count_together_and_exactly() {
    let up = Upstream::plain(Speaks::Http1).await;
    let limits = vec![quota("all", 150, Vec::new()), quota("user", 40, user())];
    let naru =
        std::sync::Arc::new(start(with(config(&Bootstrap::to(up.address)), check("a", limits, None)), 4));
    let mut clients = JoinSet::new();
    for at in 0..24 {
        let naru = std::sync::Arc::clone(&naru);
        clients.spawn(async move { (at % 6, ask(&naru, &format!("user-{}", at % 6), 20).await) });
    }
    let mut passed = [0; 6];
    while let Some(client) = clients.join_next().await {
        let (user, count) = client.unwrap();
        passed[user] += count;
    }
    // Whom his own limit refuses takes nothing from the others.
    assert_eq!(passed.iter().sum::<usize>(), 150, "{passed:?}");
    assert!(passed.iter().all(|count| *count <= 40), "{passed:?}");
    assert_eq!(up.requests(), 150);
    let status = naru.quotas();
    assert_eq!((status[0].allowed_total, status[1].allowed_total, status[1].keys), (150, 150, 6));
    assert_eq!(status[0].refused_total + status[1].refused_total, 480 - 150);
    naru.settles().await;
}

#[tokio::test]
async fn who_is_refused_is_told_why_and_when_and_the_log_knows() {
    let up = WireListener::bind().await;
    let config = config(&Bootstrap::to(up.address));
    let naru = start(with(config, check("a", vec![quota("RateLimit/shop/user", 1, user())], None)), 1);
    let mut wire = Wire::connect(naru.address).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\nx-user: ann\r\n\r\n").await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let response = wire.response().await;
    assert_eq!(response.head.get("ratelimit-policy"), Some("\"user\";q=1;w=36000"));
    assert!(response.head.get("ratelimit").unwrap().starts_with("\"user\";r=0;t="), "{response:?}");
    wire.send("GET / HTTP/1.1\r\nhost: a\r\nx-user: ann\r\n\r\n").await;
    let response = wire.response().await;
    assert_eq!((response.status(), response.text().as_str()), (429, ""));
    let after: u64 = response.head.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=36_000).contains(&after));
    drop((wire, upstream));
    assert_eq!(naru.ended(2).await, [(200, Reason::Forwarded), (429, Reason::QuotaExceeded)]);
    naru.settles().await;
}

#[tokio::test]
async fn a_rule_has_limits_of_its_own_and_counts_outlive_a_configuration() {
    let up = Upstream::plain(Speaks::Http1).await;
    let mut limited = config(&Bootstrap::to(up.address));
    let own = check("own", vec![quota("own", 3, user())], None);
    limited.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0].gate = vec![GateChange::Also(own)];
    let naru = start(limited.clone(), 2);
    assert_eq!(ask(&naru, "ann", 2).await, 2);
    let mut shadowed = limited.clone();
    for change in &mut shadowed.listeners[0].chains[0].http.routes.virtual_hosts[0].rules[0].gate {
        if let GateChange::Also(Check { kind: CheckKind::Quotas(quotas), .. }) = change {
            quotas.limits[0].is_shadow = true;
        }
    }
    naru.update_to(shadowed).await;
    assert_eq!(ask(&naru, "ann", 4).await, 4, "in shadow nobody is refused");
    assert_eq!((naru.quotas()[0].allowed_total, naru.quotas()[0].shadowed_total), (3, 3));
    naru.update_to(limited).await;
    assert_eq!(ask(&naru, "ann", 2).await, 0, "what was counted is counted");
    assert_eq!(ask(&naru, "bob", 4).await, 3);
    naru.settles().await;
}

/// Counted elsewhere.
fn elsewhere(nodes: Vec<String>, is_cluster: bool, otherwise: WithoutStore) -> (Store, StoreUse) {
    let name = "redis:counts".to_owned();
    let store = Store { name: name.clone(), place: CountPlace::Redis(Redis::plain(nodes, is_cluster)) };
    // So long that a machine that is loaded answers.
    (store, StoreUse { name, timeout: Duration::from_secs(5), otherwise, proxies: 2 })
}

fn shared(up: &Upstream, nodes: Vec<String>, otherwise: WithoutStore, requests: u32) -> Naru {
    let (store, uses) = elsewhere(nodes, false, otherwise);
    let limits = vec![quota("doc/all", requests, Vec::new()), quota("doc/user", 40, user())];
    let mut config = with(config(&Bootstrap::to(up.address)), check("doc", limits, Some(uses)));
    config.stores.push(store);
    start(config, 2)
}

/// The status of one request.
async fn one(naru: &Naru, user: &str) -> u16 {
    let mut wire = Wire::connect(naru.address).await;
    wire.send(format!("GET / HTTP/1.1\r\nhost: naru.test\r\nx-user: {user}\r\nconnection: close\r\n\r\n"))
        .await;
    wire.response().await.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_share_a_redis_count_together_and_exactly() {
    let redis = naru_tests::redis::Redis::start().await;
    let up = Upstream::plain(Speaks::Http1).await;
    let nodes = || vec![redis.address.to_string()];
    let proxies: Vec<_> =
        (0..3).map(|_| std::sync::Arc::new(shared(&up, nodes(), WithoutStore::Refuse, 100))).collect();
    let mut clients = JoinSet::new();
    for at in 0..18 {
        let naru = std::sync::Arc::clone(&proxies[at % 3]);
        clients.spawn(async move { ask(&naru, &format!("user-{}", at / 3), 12).await });
    }
    let mut passed = 0;
    while let Some(client) = clients.join_next().await {
        passed += client.unwrap();
    }
    assert_eq!((passed, up.requests()), (100, 100));
    for naru in &proxies {
        assert!(naru.stores()[0].is_up);
        assert_eq!(naru.stores()[0].unanswered_total, 0);
        naru.settles().await;
    }
}

#[tokio::test]
async fn each_limit_does_as_it_says_while_its_redis_is_away_and_counts_there_again_when_it_is_back() {
    let mut redis = naru_tests::redis::Redis::start().await;
    let up = Upstream::plain(Speaks::Http1).await;
    for (otherwise, first, last) in [
        (WithoutStore::Allow, 200, 200),
        (WithoutStore::Refuse, 500, 500),
        // By itself it has counted nothing yet, and lets its half pass.
        (WithoutStore::Local, 200, 429),
    ] {
        let naru = shared(&up, vec![redis.address.to_string()], otherwise, 3);
        assert_eq!(ask(&naru, "ann", 5).await, 3, "{otherwise:?}");
        redis.kill();
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(one(&naru, "ann").await);
        }
        assert_eq!((statuses[0], statuses[2]), (first, last), "{otherwise:?}: {statuses:?}");
        assert!(!naru.stores()[0].is_up);
        assert!(naru.stores()[0].unanswered_total >= 5);
        redis.again().await;
        // It has forgotten everything: three more pass there, once both workers have found it.
        until("counts to be kept there again", async || {
            let before = naru.stores()[0].unanswered_total;
            one(&naru, "bob").await;
            one(&naru, "bob").await;
            (naru.stores()[0].is_up && naru.stores()[0].unanswered_total == before).then_some(())
        })
        .await;
        naru.settles().await;
        redis.kill();
        redis.again().await;
    }
}

#[tokio::test]
async fn a_store_that_says_nothing_or_nonsense_holds_nobody_for_long() {
    let up = Upstream::plain(Speaks::Http1).await;
    for answer in [
        "",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "$-7\r\n",
    ] {
        let store = WireListener::bind().await;
        let address = store.address.to_string();
        let (settings, mut uses) = elsewhere(vec![address], false, WithoutStore::Refuse);
        uses.timeout = Duration::from_millis(50);
        let limits = vec![quota("doc/user", 40, user())];
        let mut config = with(config(&Bootstrap::to(up.address)), check("doc", limits, Some(uses)));
        config.stores.push(settings);
        let naru = start(config, 1);
        let answering = tokio::spawn(async move {
            loop {
                let mut wire = store.accept().await;
                for _ in 0..20 {
                    wire.try_send(answer).await;
                }
                tokio::spawn(async move {
                    let _held = wire;
                    std::future::pending::<()>().await;
                });
            }
        });
        for _ in 0..4 {
            assert_eq!(one(&naru, "ann").await, 500, "{answer:?}");
        }
        assert!(!naru.stores()[0].is_up, "{answer:?}");
        answering.abort();
        assert!(naru.ended(4).await.iter().all(|end| *end == (500, Reason::QuotaUnknown)));
        naru.settles().await;
    }
}

#[tokio::test]
async fn a_cluster_counts_for_all_who_share_it_and_limits_do_as_they_say_without_it() {
    let mut masters = Masters::start().await;
    let up = Upstream::plain(Speaks::Http1).await;
    let nodes: Vec<String> = masters.addresses.iter().map(ToString::to_string).collect();
    let proxies: Vec<Naru> = (0..2)
        .map(|_| {
            let (store, uses) = elsewhere(nodes.clone(), true, WithoutStore::Refuse);
            let mut config = config(&Bootstrap::to(up.address));
            // Documents are counted on different masters.
            for document in ["one", "two", "three", "four"] {
                let limits = vec![quota(&format!("{document}/user"), 7, user())];
                config = with(config, check(document, limits, Some(uses.clone())));
            }
            config.stores.push(store);
            start(config, 1)
        })
        .collect();
    for naru in &proxies {
        // Masters that have just met may still say that there is no cluster.
        until("the cluster to count", async || (one(naru, "warm").await != 500).then_some(())).await;
    }
    assert_eq!(ask(&proxies[0], "ann", 4).await + ask(&proxies[1], "ann", 6).await, 7);
    for at in 0..3 {
        masters.kill(at);
    }
    for naru in proxies {
        assert_eq!(one(&naru, "ann").await, 500);
        naru.settles().await;
    }
}
