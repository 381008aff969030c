//! What clients are given, and what upstreams are asked.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use naru_proxy::Options;
use naru_spec::CachePolicy;
use naru_tests::client::request;
use naru_tests::wire::WireListener;
use naru_tests::{Answer, Bootstrap, Client, Naru, Outbound, Speaks, Upstream, Wire};

use super::{ALL, config_of, start};

async fn ask(client: &mut Client, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut asked = request(method, path, Outbound::empty());
    for (name, value) in headers {
        asked.headers_mut().insert(HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap());
    }
    client.exchange(asked).await
}

fn said<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn an_answer_is_given_again_over_any_protocol_as_long_as_it_is_fresh() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(&up, &CachePolicy::default());
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut client = Client::plain(naru.address, speaks).await;
        let first =
            ask(&mut client, Method::GET, "/bytes/3000", &[("x-reply", "cache-control: max-age=600")]).await;
        let again = ask(&mut client, Method::GET, "/bytes/3000", &[]).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert!(said(&again, "cache-status").starts_with("naru; hit; ttl="), "{again:?}");
        assert!(!said(&again, "age").is_empty());
        let head = ask(&mut client, Method::HEAD, "/bytes/3000", &[]).await;
        assert_eq!((said(&head, "content-length"), head.body.len()), ("3000", 0));
        let part = ask(&mut client, Method::GET, "/bytes/3000", &[("range", "bytes=1-2")]).await;
        assert_eq!((part.status.as_u16(), part.body.len()), (206, 2));
        assert_eq!(said(&part, "content-range"), "bytes 1-2/3000");
    }
    assert_eq!(up.requests(), 1, "and for both the same");
    naru.settles().await;
}

#[tokio::test]
async fn what_comes_before_an_answer_is_passed_on_and_not_given_again() {
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "");
    let naru = Naru::start_on(
        config_of(&bootstrap, &CachePolicy::default()),
        &Options { workers: 1, seed: Some(1) },
    );
    let mut client = Wire::connect(naru.address).await;
    client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = up.accept().await;
    upstream.request().await;
    upstream
        .send(
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
             HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 2\r\n\r\nok",
        )
        .await;
    for (status, link) in [(102, None), (103, Some("</a.css>"))] {
        let head = client.head().await;
        assert_eq!((head.status(), head.get("link"), head.get("cache-status")), (status, link, None));
    }
    assert_eq!(client.response().await.body, b"ok");
    client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let again = client.response().await;
    assert_eq!((again.status(), &again.body[..], again.head.get("link")), (200, &b"ok"[..], None));
}

#[tokio::test]
async fn what_may_not_be_given_again_is_fetched_each_time() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(&up, &CachePolicy::default());
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for (at, reply) in [
        "cache-control: no-store",
        "cache-control: private, max-age=9",
        "x: y",
        "vary: * | cache-control: max-age=9",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/describe/{at}");
        for _ in 0..2 {
            let answer = ask(&mut client, Method::GET, &path, &[("x-reply", reply)]).await;
            assert_eq!(said(&answer, "cache-status"), "naru; fwd=uri-miss", "{reply}");
        }
    }
    assert_eq!(up.requests(), 8);
    let mine = [("x-reply", "cache-control: max-age=9"), ("authorization", "me")];
    ask(&mut client, Method::GET, "/describe/mine", &mine).await;
    ask(&mut client, Method::GET, "/describe/mine", &mine).await;
    assert_eq!(up.requests(), 10);
    let absent =
        ask(&mut client, Method::GET, "/describe/absent", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((absent.status.as_u16(), up.requests()), (504, 10));
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn an_answer_too_large_is_passed_on_and_not_kept() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(&up, &CachePolicy { object_bytes_max: 100_000, ..CachePolicy::default() });
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for path in ["/bytes/100001", "/chunks/100001"] {
        for _ in 0..2 {
            let answer =
                ask(&mut client, Method::GET, path, &[("x-reply", "cache-control: max-age=9")]).await;
            assert_eq!(answer.body.len(), 100_001);
        }
    }
    assert_eq!(up.requests(), 4);
    for path in ["/bytes/100000", "/chunks/100000"] {
        for _ in 0..2 {
            let answer =
                ask(&mut client, Method::GET, path, &[("x-reply", "cache-control: max-age=9")]).await;
            assert_eq!(answer.body.len(), 100_000);
        }
    }
    assert_eq!(up.requests(), 6);
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn what_changes_something_makes_what_is_kept_worthless() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru =
        start(&up, &CachePolicy { lifetime: Some(Duration::from_secs(600)), ..CachePolicy::default() });
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    for path in ["/describe/a", "/describe/b", "/describe/c"] {
        ask(&mut client, Method::GET, path, &[]).await;
    }
    let named = [("x-reply", "location: /describe/b | content-location: http://elsewhere/describe/c")];
    ask(&mut client, Method::POST, "/describe/a", &named).await;
    let mut hits = Vec::new();
    for path in ["/describe/a", "/describe/b", "/describe/c"] {
        let answer = ask(&mut client, Method::GET, path, &[]).await;
        hits.push(said(&answer, "cache-status").starts_with("naru; hit"));
    }
    assert_eq!(hits, [false, false, true]);
    ask(&mut client, Method::DELETE, "/status/500", &[]).await;
    drop(client);
    naru.settles().await;
}

#[tokio::test]
async fn what_is_stale_is_given_at_once_and_fetched_by_nobody_in_particular() {
    let up = Upstream::plain(Speaks::Http1).await;
    let naru = start(&up, &CachePolicy::default());
    let mut client = Client::plain(naru.address, Speaks::Http1).await;
    let reply = [("x-reply", "cache-control: max-age=1, stale-while-revalidate=600")];
    ask(&mut client, Method::GET, "/describe", &reply).await;
    naru_tests::until("it to be given stale", async || {
        let answer = ask(&mut client, Method::GET, "/describe", &reply).await;
        said(&answer, "cache-status")
            .contains("ttl=-")
            .then_some(())
            .or_else(|| (up.requests() > 1).then_some(()))
    })
    .await;
    naru_tests::until("it to be fetched", async || (up.requests() > 1).then_some(())).await;
    let total = naru.report().await.downstream.requests_total;
    drop(client);
    naru.settles().await;
    let answered: u64 = naru.report().await.series.iter().map(|series| series.requests()).sum();
    assert_eq!(answered, total, "a request of naru's own is none of a client's");
}
