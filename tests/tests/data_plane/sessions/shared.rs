//! Two gateways and one Redis.

use naru_proxy::SessionsEnded;
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

/// All sessions of one user, at both gateways, with both kinds of tokens; nobody else's; and not the ones that he begins
/// afterwards, though clocks say that these began in the second in which he was thrown out.
#[tokio::test]
async fn all_sessions_of_a_user_end_at_once_at_every_gateway() {
    let (upstream, files, redis) =
        (Upstream::plain(Speaks::Http1).await, Directory::new(), Redis::start().await);
    let lines = kept_by(&redis, &files);
    let (one, other) = (start(config(&upstream, &lines)), start(config(&upstream, &lines)));
    let (mut desk, mut phone, mut kim) =
        (Browser::of(&one, "han").await, Browser::of(&other, "han").await, Browser::of(&other, "kim").await);
    let mut phone_here = beside(&phone, &one).await;
    until("both to know the keys", async || (phone_here.get("/describe").await.status == 200).then_some(()))
        .await;
    assert_eq!(other.end_subject("other.default", "han").await, None);
    assert_eq!(other.end_subject("login.default", "han").await, Some(SessionsEnded::Everywhere));
    // Where it was said it holds at once, for what was begun elsewhere too.
    is_to_log_in(&phone.get("/describe").await);
    is_to_log_in(&beside(&desk, &other).await.get("/describe").await);
    let said = std::time::Instant::now();
    let answer = until("the other to hear of it", async || {
        let answer = desk.get("/describe").await;
        (answer.status == 401).then_some(answer)
    });
    is_to_log_in(&answer.await);
    // It looks every 50 ms; a machine that is loaded may be late.
    assert!(said.elapsed().as_secs() < 10, "{:?}", said.elapsed());
    is_to_log_in(&phone_here.get("/describe").await);
    for browser in [&mut desk, &mut phone, &mut phone_here] {
        is_to_log_in(&browser.refresh().await);
    }
    assert_eq!(kim.get("/describe").await.status, 200, "nobody else is meant");
    assert_eq!(kim.refresh().await.status, 200);
    // He logs in again at once, and again ends with all others.
    for _ in 0..2 {
        let mut again = Browser::of(&one, "han").await;
        assert_eq!(again.get("/describe").await.status, 200);
        assert_eq!(again.refresh().await.status, 200);
        assert_eq!(again.get("/describe").await.status, 200);
        let mut again_there = beside(&again, &other).await;
        assert_eq!(again_there.get("/describe").await.status, 200);
        assert_eq!(one.end_subject("login.default", "han").await, Some(SessionsEnded::Everywhere));
        is_to_log_in(&again.get("/describe").await);
        is_to_log_in(&again.refresh().await);
        is_to_log_in(&again_there.refresh().await);
    }
    // Nobody who reads the store learns who it was.
    let said = std::process::Command::new("redis-cli")
        .args(["-p", &redis.address.port().to_string(), "--scan"])
        .output()
        .unwrap();
    let names = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(names.contains("over:") && !names.contains("han"), "{names}");
}

/// What a token says of itself.
fn claim(token: &str, name: &str) -> String {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    claims[name].as_str().unwrap().to_owned()
}

/// As docs/sessions.md tells applications to.
fn tell(redis: &Redis, id: &str) {
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 600;
    let script = "local n = redis.call('INCR', KEYS[3]) \
                  redis.call('ZADD', KEYS[1], n, ARGV[1] .. ':' .. ARGV[2] .. '000000000') \
                  redis.call('ZADD', KEYS[2], ARGV[2] + 1, ARGV[1] .. ':' .. ARGV[2] .. '000000000')";
    let keys = ["revoked", "ends", "seq"].map(|key| format!("{{naru:login.default}}:{key}"));
    let port = redis.address.port().to_string();
    let mut command = std::process::Command::new("redis-cli");
    command.args(["-p", &port, "EVAL", script, "3"]).args(&keys).args([id, &until.to_string()]);
    let said = command.output().unwrap();
    assert!(said.status.success() && !String::from_utf8_lossy(&said.stdout).contains("ERR"), "{said:?}");
}

#[tokio::test]
async fn operators_and_applications_end_tokens_and_sessions() {
    let (upstream, files, redis) =
        (Upstream::plain(Speaks::Http1).await, Directory::new(), Redis::start().await);
    let lines = kept_by(&redis, &files);
    let (one, other) = (start(config(&upstream, &lines)), start(config(&upstream, &lines)));
    let mut browser = Browser::of(&one, "han").await;
    let mut there = beside(&browser, &other).await;
    until("the other to know the keys", async || (there.get("/describe").await.status == 200).then_some(()))
        .await;
    // An operator ends a token: another one is had with the cookie.
    assert_eq!(one.end_session("login.default", &claim(&browser.access, "jti")).await, Some(true));
    is_to_log_in(&browser.get("/describe").await);
    let ended = async |browser: &mut Browser| {
        let told = until("it to be known there", async || {
            let answer = browser.get("/describe").await;
            (answer.status == 401).then_some(answer)
        });
        is_to_log_in(&told.await);
    };
    ended(&mut there).await;
    assert_eq!(browser.refresh().await.status, 200);
    assert_eq!(browser.get("/describe").await.status, 200);
    there.access.clone_from(&browser.access);
    // A session: the cookie is worth nothing any more.
    assert_eq!(one.end_session("login.default", &claim(&browser.access, "sid")).await, Some(true));
    is_to_log_in(&browser.get("/describe").await);
    is_to_log_in(&browser.refresh().await);
    ended(&mut there).await;
    // Others than these go on.
    assert_eq!(one.end_session("other.default", &claim(&browser.access, "sid")).await, None);
    assert_eq!(one.end_session("login.default", "no id").await, None);
    // An application puts a token on the list, and something that is none.
    let mut second = Browser::of(&one, "kim").await;
    let mut third = Browser::of(&one, "lee").await;
    tell(&redis, "not-an-id");
    tell(&redis, &claim(&second.access, "jti"));
    ended(&mut second).await;
    let mut second_there = beside(&second, &other).await;
    ended(&mut second_there).await;
    assert_eq!(third.get("/describe").await.status, 200);
    assert_eq!(third.refresh().await.status, 200);
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
