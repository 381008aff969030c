//! Two gateways and one Redis.

use naru_tests::redis::Redis;

use super::*;

fn kept_by(redis: &Redis, files: &Directory) -> String {
    let seal = files.write("seal", "0123456789abcdef0123456789abcdef");
    format!(
        "  store: {{ redis: {{ urls: ['{}'] }}, seal: {{ file: {} }}, pollEvery: 50ms, timeout: 10s }}",
        redis.url(),
        seal.display()
    )
}

async fn keys(naru: &Naru) -> String {
    client::get(naru.address, "/.well-known/jwks.json").await.text()
}

/// The same one, at another gateway.
async fn beside(browser: &Browser, naru: &Naru) -> Browser {
    Browser {
        client: Client::plain(naru.address, Speaks::Http1).await,
        access: browser.access.clone(),
        cookie: browser.cookie.clone(),
    }
}

#[tokio::test]
async fn what_one_gateway_does_the_other_knows() {
    let (upstream, files, redis) =
        (Upstream::plain(Speaks::Http1).await, Directory::new(), Redis::start().await);
    let lines = kept_by(&redis, &files);
    let (one, other) = (start(config(&upstream, &lines)), start(config(&upstream, &lines)));
    let mut browser = Browser::of(&one, "han").await;
    let mut there = beside(&browser, &other).await;
    until("the other to know the keys", async || (there.get("/describe").await.status == 200).then_some(()))
        .await;
    assert_eq!(keys(&one).await, keys(&other).await, "one ring");
    assert_eq!(there.refresh().await.status, 200);
    browser.access = there.access.clone();
    assert_eq!(browser.get("/describe").await.status, 200);
    assert_eq!(browser.log_out().await.status, 204);
    is_to_log_in(&browser.get("/describe").await);
    let answer = until("the other to hear of it", async || {
        let answer = there.get("/describe").await;
        (answer.status == 401).then_some(answer)
    })
    .await;
    is_to_log_in(&answer);
    is_to_log_in(&there.refresh().await);
}

#[tokio::test]
async fn keys_are_replaced_once_by_both_together() {
    let (upstream, files, redis) =
        (Upstream::plain(Speaks::Http1).await, Directory::new(), Redis::start().await);
    let lines = format!("  keys: {{ rotateEvery: 2s, grace: 0s }}\n{}", kept_by(&redis, &files));
    let (one, other) = (start(config(&upstream, &lines)), start(config(&upstream, &lines)));
    let mut browser = Browser::of(&one, "han").await;
    until("the other to know keys", async || {
        (client::get(other.address, "/.well-known/jwks.json").await.status == 200).then_some(())
    })
    .await;
    let mut refreshes = 0;
    while refreshes < 3 {
        let mut there = beside(&browser, &other).await;
        let answer = there.get("/describe").await;
        if answer.status == 200 {
            continue;
        }
        is_to_refresh(&answer);
        let refreshed = browser.refresh().await;
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        refreshes += 1;
    }
    until("both to have one ring", async || (keys(&one).await == keys(&other).await).then_some(())).await;
}

#[tokio::test]
async fn a_store_that_is_killed_and_comes_back_empty_is_given_what_it_has_lost() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let mut redis = Redis::start().await;
    let lines = kept_by(&redis, &files);
    let (one, other) = (start(config(&upstream, &lines)), start(config(&upstream, &lines)));
    let mut browser = Browser::of(&one, "han").await;
    let mut there = beside(&browser, &other).await;
    until("the other to know the keys", async || (there.get("/describe").await.status == 200).then_some(()))
        .await;
    let mut early = Browser::of(&one, "choi").await;
    assert_eq!(early.log_out().await.status, 204);
    let mut late = Browser::of(&one, "kim").await;
    let before = keys(&one).await;

    redis.kill();
    assert_eq!(browser.get("/describe").await.status, 200, "what is known goes on");
    let refused = browser.refresh().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("1")));
    let mut new = Browser::new(&one).await;
    let answer = new.log_in("lee").await;
    assert_eq!((answer.status.as_u16(), answer.header("authorization")), (503, None));
    assert_eq!(late.log_out().await.status, 202, "it holds here, and is told later");
    is_to_log_in(&late.get("/describe").await);
    is_to_log_in(&early.get("/describe").await);

    redis.again().await;
    until("logins to be possible", async || (new.log_in("lee").await.status == 200).then_some(())).await;
    assert_eq!(keys(&one).await, before, "nobody made other keys");
    assert_eq!(browser.get("/describe").await.status, 200);
    let mut late_there = beside(&late, &other).await;
    let mut early_there = beside(&early, &other).await;
    until("the other to hear of who logged out meanwhile", async || {
        (late_there.get("/describe").await.status == 401).then_some(())
    })
    .await;
    is_to_log_in(&late_there.get("/describe").await);
    is_to_log_in(&early_there.get("/describe").await);
    // One that begins now knows it from the store, which was told again.
    let third = start(config(&upstream, &lines));
    let mut early_third = beside(&early, &third).await;
    until("the third to know it", async || {
        let answer = early_third.get("/describe").await;
        answer.headers.contains_key("x-relogin-required").then_some(())
    })
    .await;
    // Sessions are lost with their store: who has one logs in again.
    is_to_log_in(&browser.refresh().await);
}
