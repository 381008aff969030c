//! What is forgotten because somebody says so.

use http::{HeaderValue, Method};
use naru_spec::CachePolicy;
use naru_tests::client::request;
use naru_tests::{Client, Outbound, Speaks, Upstream};

use naru_cache::Purge;

use super::start;

#[tokio::test]
async fn what_is_purged_is_fetched_anew() {
    for (purge, gone) in [
        (Purge::Url("http://naru.test/describe/a/1".to_owned()), [true, false, false]),
        (Purge::Prefix("http://naru.test/describe/a/".to_owned()), [true, true, false]),
        (Purge::Tag("even".to_owned()), [false, true, false]),
        (Purge::All, [true, true, true]),
    ] {
        let up = Upstream::plain(Speaks::Http1).await;
        let naru = start(&up, &CachePolicy::default());
        let mut client = Client::plain(naru.address, Speaks::Http1).await;
        let all = [("/describe/a/1", "odd"), ("/describe/a/2", "even, other"), ("/describe/b", "odd")];
        let mut hits = Vec::new();
        for round in 0..2 {
            for (path, tags) in all {
                let mut asked = request(Method::GET, path, Outbound::empty());
                let reply = format!("cache-control: max-age=600 | cache-tag: {tags}");
                asked.headers_mut().insert("x-reply", HeaderValue::try_from(reply).unwrap());
                let before = up.requests();
                client.exchange(asked).await;
                hits.push(up.requests() > before);
            }
            if round == 0 {
                let expected = gone.iter().filter(|gone| **gone).count() as u64;
                let purged = naru.purge(&purge).await.map(|purged| purged.forgotten);
                assert_eq!(purged, Some(expected), "{purge:?}");
            }
        }
        assert_eq!(hits[3..], gone, "{purge:?}");
        drop(client);
        naru.settles().await;
    }
}
