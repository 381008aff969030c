//! Two gateways and a Redis Cluster of three masters, of which one is killed.

use naru_tests::redis::Masters;

use super::*;

fn kept_by(masters: &Masters, files: &Directory) -> String {
    let seal = files.write("seal", "0123456789abcdef0123456789abcdef");
    let urls: Vec<String> = masters.addresses.iter().map(|address| format!("'redis://{address}'")).collect();
    format!(
        "  store: {{ redis: {{ urls: [{}] }}, seal: {{ file: {} }}, pollEvery: 50ms, timeout: 3s }}",
        urls.join(", "),
        seal.display()
    )
}

#[tokio::test]
async fn a_master_that_is_killed_costs_nobody_his_session_and_is_missed_only_where_it_keeps_them() {
    let (upstream, files, mut masters) =
        (Upstream::plain(Speaks::Http1).await, Directory::new(), Masters::start().await);
    let lines = kept_by(&masters, &files);
    let (one, other) = (start(config(&upstream, &lines)), start(config(&upstream, &lines)));
    let mut browser = Browser::of(&one, "han").await;
    let mut there = Browser {
        access: browser.access.clone(),
        cookie: browser.cookie.clone(),
        ..Browser::new(&other).await
    };
    until("the other to know the keys", async || (there.get("/describe").await.status == 200).then_some(()))
        .await;
    let owner = masters.owner("{naru:login.default}:ring").await;
    let neighbour = (owner + 1) % 3;
    let keys = client::get(one.address, "/.well-known/jwks.json").await.text();

    // One that keeps none of it is missed by nobody for longer than it takes to notice.
    masters.kill(neighbour);
    let mut new = Browser::new(&one).await;
    until("logins without it", async || {
        assert_eq!(browser.get("/describe").await.status, 200);
        (new.log_in("lee").await.status == 200).then_some(())
    })
    .await;
    until("refreshes without it", async || (new.refresh().await.status == 200).then_some(())).await;
    assert_eq!(new.log_out().await.status, 204);
    let mut out =
        Browser { access: new.access.clone(), cookie: new.cookie.clone(), ..Browser::new(&other).await };
    until("the other to hear of it", async || (out.get("/describe").await.status == 401).then_some(())).await;
    masters.again(neighbour).await;
    masters.know_each_other().await;

    // The one that keeps it.
    masters.kill(owner);
    for browser in [&mut browser, &mut there] {
        assert_eq!(browser.get("/describe").await.status, 200, "what is known goes on");
        let refused = browser.refresh().await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("1")), "in time");
    }
    let mut late = Browser::new(&one).await;
    assert_eq!(late.log_in("kim").await.status, 503);
    assert_eq!(browser.log_out().await.status, 202, "it holds here, and is told later");
    is_to_log_in(&browser.get("/describe").await);

    masters.again(owner).await;
    masters.know_each_other().await;
    until("logins to be possible", async || (late.log_in("kim").await.status == 200).then_some(())).await;
    assert_eq!(late.get("/describe").await.status, 200);
    until("refreshes to be possible", async || (late.refresh().await.status == 200).then_some(())).await;
    assert_eq!(
        client::get(one.address, "/.well-known/jwks.json").await.text(),
        keys,
        "nobody made other keys"
    );
    until("the other to hear of who logged out meanwhile", async || {
        (there.get("/describe").await.status == 401).then_some(())
    })
    .await;
}
