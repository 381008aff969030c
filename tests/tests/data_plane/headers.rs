//! What a message carries from one side to the other, and what is changed on its way.
//!
//! The tables follow Envoy 1.40, which was asked most of them; a comment says where naru differs.

mod edge;
mod hops;
mod levels;
mod rewriting;
mod deviations;

use http::{HeaderName, Method};
use naru_tests::bootstrap::TO_UP;
use naru_tests::client::request;
use naru_tests::{Answer, Bootstrap, Client, Naru, Outbound, Speaks, Upstream};

/// naru before an upstream that tells what it was sent.
struct Stand {
    naru: Naru,
    up: Upstream,
}

impl Stand {
    /// With these lines in the HTTP connection manager.
    async fn new(manager: &str) -> Stand {
        Stand::of(Bootstrap::new(TO_UP).manager(manager), Speaks::Http1).await
    }

    /// With these routes, of which some lead to the cluster `up`.
    async fn with_routes(routes: &str) -> Stand {
        Stand::of(Bootstrap::new(routes), Speaks::Http1).await
    }

    async fn of(bootstrap: Bootstrap, speaks: Speaks) -> Stand {
        let up = Upstream::plain(speaks).await;
        let protocol = if speaks.is_http2() { naru_tests::bootstrap::HTTP2 } else { "" };
        let naru = Naru::start(&bootstrap.cluster("up", up.address, protocol));
        Stand { naru, up }
    }

    /// Asks over HTTP/1.
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&mut Client::plain(self.naru.address, Speaks::Http1).await, path, headers).await
    }

    /// What the upstream was sent.
    async fn sees(&self, headers: &[(&str, &str)]) -> serde_json::Value {
        self.get("/describe", headers).await.json()
    }
}

async fn ask(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut get = request(Method::GET, path, Outbound::empty());
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        get.headers_mut().append(name, value.parse().unwrap());
    }
    client.exchange(get).await
}

/// Every value of a header, in their order.
fn all<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}
