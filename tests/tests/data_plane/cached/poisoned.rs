//! What somebody has asked in a way that no key knows is answered to nobody else, and nobody is given another's.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderName, HeaderValue, Method};
use naru_cache::Purge;
use naru_spec::{CacheKeyParts, CacheKeyQuery, CachePolicy};
use naru_tests::client::request;
use naru_tests::{Answer, Client, Outbound, Speaks, Upstream};

use super::start;

const FRESH: (&str, &str) = ("x-reply", "cache-control: max-age=600");

async fn ask(client: &mut Client, path: &str, headers: &[(&str, &str)], body: Outbound) -> Answer {
    let mut asked = request(Method::GET, path, body);
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        asked.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    client.exchange(asked).await
}

async fn get(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(client, path, headers, Outbound::empty()).await
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or("")
}

#[tokio::test]
async fn fields_that_sway_an_origin_and_are_in_no_key_leave_nothing_behind() {
    let up = Upstream::plain(Speaks::Http1).await;
    let own = HeaderName::from_static("x-forwarded-prefix");
    let key = CacheKeyParts { headers: vec![own], ..CacheKeyParts::default() };
    let naru = start(&up, &CachePolicy { key, ..CachePolicy::default() });
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::plain(naru.address, speaks).await;
        for (at, evil) in [
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-scheme", "nothttps"),
            ("x-original-url", "/describe/admin"),
            ("x-http-method-override", "HEAD"),
            ("forwarded", "host=evil.test"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("/describe/{speaks:?}/{at}");
            let poisoned = get(&mut client, &path, &[FRESH, evil]).await;
            assert!(poisoned.text().contains(evil.1), "{}", poisoned.text());
            assert_eq!(status(&poisoned), "naru; fwd=uri-miss; detail=unkeyed", "{evil:?}");
            let mine = get(&mut client, &path, &[FRESH]).await;
            assert!(status(&mine).contains("stored"), "{evil:?}: {mine:?}");
            assert!(!mine.text().contains(evil.1), "{evil:?}: {}", mine.text());
            // What is there is good enough for whoever says so.
            let again = get(&mut client, &path, &[FRESH, evil]).await;
            assert!(status(&again).starts_with("naru; hit"), "{evil:?}: {again:?}");
        }
        // Of what the key has, or what is so, there is nothing to be afraid.
        for (at, said) in
            [("x-forwarded-prefix", "/a"), ("x-forwarded-host", "naru.test"), ("x-forwarded-port", "443")]
                .into_iter()
                .enumerate()
        {
            let path = format!("/describe/harmless/{speaks:?}/{at}");
            assert!(status(&get(&mut client, &path, &[FRESH, said]).await).contains("stored"), "{said:?}");
        }
    }
    naru.settles().await;
}

#[tokio::test]
async fn who_asks_in_a_body_is_answered_by_its_origin_and_nobody_else_is_given_that() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(&up, &CachePolicy::default());
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::plain(naru.address, speaks).await;
        for (kind, has_length) in [("sized", true), ("chunked", false)] {
            let path = format!("/echo?{kind}-{speaks:?}");
            let body = |text: &'static str| match has_length {
                true => Outbound::sized(text),
                false => Outbound::chunks(&[text]),
            };
            // Without it hyper sends no body with a GET.
            let is_told = speaks == Speaks::Http1 && !has_length;
            let headers = if is_told { vec![FRESH, ("transfer-encoding", "chunked")] } else { vec![FRESH] };
            for text in ["one", "two"] {
                let answer = ask(&mut client, &path, &headers, body(text)).await;
                assert_eq!(answer.text(), text, "{path}");
            }
            let plain = get(&mut client, &path, &[FRESH]).await;
            assert_eq!(plain.text(), "", "{path}");
            if has_length {
                let answer = ask(&mut client, &path, &[FRESH], body("three")).await;
                assert_eq!(answer.text(), "three", "what is kept is not what it asks for");
            }
            assert!(status(&get(&mut client, &path, &[]).await).starts_with("naru; hit"), "{path}");
        }
    }
    naru.settles().await;
}

#[tokio::test]
async fn an_answer_to_somebodys_cookies_is_given_to_nobody_else_because_it_may_be_stale() {
    let up = Upstream::plain(Speaks::Http1).await;
    let while_fetched = Some(Duration::from_secs(600));
    let policy = CachePolicy {
        stale_while_revalidate: while_fetched,
        stale_if_error: while_fetched,
        ..CachePolicy::default()
    };
    let naru = start(&up, &policy);
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for (path, reply) in
        [("/describe/me", "etag: W/\"1\""), ("/describe/my/cart", "etag: W/\"1\" | cache-control: max-age=0")]
    {
        for who in ["session=ann", "session=bob"] {
            let answer = get(&mut client, path, &[("x-reply", reply), (COOKIE.as_str(), who)]).await;
            assert!(answer.text().contains(who), "{path} {who}: {}", answer.text());
        }
    }
    // What nobody in particular has asked is given as the route says.
    let reply = [("x-reply", "etag: W/\"1\"")];
    get(&mut client, "/describe/all", &reply).await;
    assert!(status(&get(&mut client, "/describe/all", &reply).await).starts_with("naru; hit"));
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn a_url_is_forgotten_whatever_of_its_query_keys_have() {
    let up = Upstream::plain(Speaks::Http1).await;
    let query = CacheKeyQuery::Without(vec!["utm".to_owned()]);
    let key = CacheKeyParts { query, ..CacheKeyParts::default() };
    let naru = start(&up, &CachePolicy { key, ..CachePolicy::default() });
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for (at, said) in ["/describe?page=1&utm=x", "/describe?utm=y&page=1"].into_iter().enumerate() {
        get(&mut client, "/describe?page=1", &[FRESH]).await;
        assert!(status(&get(&mut client, said, &[FRESH]).await).starts_with("naru; hit"), "{said}");
        if at == 0 {
            assert_eq!(client.exchange(request(Method::PUT, said, Outbound::empty())).await.status, 200);
        } else {
            let purged = naru.purge(&Purge::Url(format!("http://naru.test{said}"))).await;
            assert_eq!(purged.map(|purged| purged.forgotten), Some(1));
        }
        let anew = get(&mut client, "/describe?page=1", &[FRESH]).await;
        assert!(status(&anew).starts_with("naru; fwd=uri-miss"), "{said}: {anew:?}");
    }
    drop(client);
    naru.settles().await;
}
