//! Sessions beside answers that are given again.

use http::Method;
use naru_spec::{Action, CachePolicy, Config};
use naru_tests::files::Directory;
use naru_tests::{Speaks, Upstream, until};

use super::{Browser, config, kept_in, start};

fn with_cache(mut config: Config) -> Config {
    let chains = config.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    let hosts = chains.flat_map(|chain| &mut chain.http.routes.virtual_hosts);
    for rule in hosts.flat_map(|host| &mut host.rules) {
        if let Action::Forward(forward) = &mut rule.action {
            forward.cache = Some(Box::new(CachePolicy::default()));
        }
    }
    config
}

#[tokio::test]
async fn what_one_was_answered_another_is_not() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = format!("  accessToken: {{ forward: false }}\n{}", kept_in(&files));
    let naru = start(with_cache(config(&upstream, &lines)));
    let mut people = [Browser::of(&naru, "han").await, Browser::of(&naru, "choi").await];
    for (path, says, is_shared) in [
        ("/describe/mine", "cache-control: max-age=600", false),
        // Where anybody may come, who has come is somebody still.
        ("/describe/public/mine", "cache-control: max-age=600", false),
        ("/describe/all", "cache-control: public, max-age=600", true),
    ] {
        let before = upstream.requests();
        for person in &mut people {
            let bearer = format!("Bearer {}", person.access);
            let headers = [("authorization", bearer.as_str()), ("x-reply", says)];
            let answer = person.exchange(Method::GET, path, &headers).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!answer.text().contains(&bearer), "the token goes no further");
        }
        assert_eq!(upstream.requests() - before, if is_shared { 1 } else { 2 }, "{path}");
    }
}

#[tokio::test]
async fn a_pair_that_was_renewed_on_the_way_comes_with_an_answer_from_memory() {
    let (upstream, files) = (Upstream::plain(Speaks::Http1).await, Directory::new());
    let lines = format!(
        "  transparentRefresh: true\n  refreshToken: {{ cookiePath: / }}\n  accessToken: {{ lifetime: 1s, clockSkew: 0s }}\n{}",
        kept_in(&files)
    );
    let naru = start(with_cache(config(&upstream, &lines)));
    let mut browser = Browser::of(&naru, "han").await;
    let (access, cookie) = (browser.access.clone(), browser.cookie.clone());
    let bearer = format!("Bearer {access}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("cookie", cookie.as_str()),
        ("x-reply", "cache-control: public, max-age=600"),
    ];
    let before = upstream.requests();
    let renewed = until("a new pair", async || {
        let answer = browser.exchange(Method::GET, "/describe/all", &headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.headers.contains_key("set-cookie").then_some(answer)
    })
    .await;
    assert_eq!(upstream.requests() - before, 1, "all but the first came from memory");
    browser.keep(&renewed);
    assert_ne!((&browser.access, &browser.cookie), (&access, &cookie));
    assert_eq!(browser.get("/describe/all").await.status, 200);
    assert_eq!(browser.refresh().await.status, 200, "nothing was lost on the way");
}
