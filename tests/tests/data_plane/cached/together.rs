//! Many who want the same.

use std::time::Duration;

use http::{HeaderValue, Method};
use naru_spec::CachePolicy;
use naru_tests::client::request;
use naru_tests::{Client, Outbound, Speaks, Upstream};

use super::start;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_that_want_it_at_once_ask_for_it_once() {
    ask_at_once("cache-control: max-age=600", 1).await;
}

/// It is never fresh, and given all the same while it is fetched: by one of them in the background.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_that_may_have_it_stale_do_not_ask_each_for_itself() {
    ask_at_once("cache-control: max-age=0, stale-while-revalidate=600", 300).await;
}

/// Reaches the upstream so often at most.
async fn ask_at_once(reply: &'static str, requests_max: u64) {
    let up = Upstream::plain(Speaks::Http1).await;
    let policy = CachePolicy { coalesce: Some(Duration::from_secs(60)), ..CachePolicy::default() };
    let naru = start(&up, &policy);
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let address = naru.address;
        tasks.push(tokio::spawn(async move {
            // Fifty at a time on each of twenty connections.
            let client = Client::plain(address, Speaks::Http2).await;
            let all = (0..50).map(|_| {
                let mut client = client.beside();
                async move {
                    let mut asked = request(Method::GET, "/slow/500", Outbound::empty());
                    asked.headers_mut().insert("x-reply", HeaderValue::from_static(reply));
                    client.exchange(asked).await.status.as_u16()
                }
            });
            let handles: Vec<_> = all.map(tokio::spawn).collect();
            for handle in handles {
                assert_eq!(handle.await.unwrap(), 200);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!((1..=requests_max).contains(&up.requests()), "{}", up.requests());
    naru.settles().await;
}
