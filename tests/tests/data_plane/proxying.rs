//! What goes well: every kind of message, between every protocol and every other.

mod matrix;
mod connections;
mod pressure;

use naru_tests::bootstrap::{HTTP2, TO_UP, upstream_tls};
use naru_tests::{Authority, Bootstrap, Client, Naru, Speaks, Upstream};

const ALL: [Speaks; 4] = [Speaks::Http1, Speaks::Http2, Speaks::Http1Tls, Speaks::Http2Tls];

/// A client, the proxy and an upstream, each pair with protocols of its own.
struct Stand {
    client: Client,
    naru: Naru,
    up: Upstream,
}

impl Stand {
    async fn new(down: Speaks, up: Speaks) -> Stand {
        let authority = Authority::new();
        let upstream = Upstream::serve(up, &authority).await;
        let mut bootstrap = Bootstrap::new(TO_UP).cluster("up", upstream.address, &lines(up, &authority));
        if down.is_tls() {
            bootstrap = bootstrap.tls(&authority, &["h2", "http/1.1"]);
        }
        let naru = Naru::start(&bootstrap);
        let client = Client::connect(naru.address, down, &authority).await;
        Stand { client, naru, up: upstream }
    }

    /// Nothing is left of what was asked.
    async fn ends(self) {
        drop(self.client);
        self.naru.settles().await;
        self.naru.ends().await;
    }
}

/// Of a cluster: what its upstreams speak.
fn lines(speaks: Speaks, authority: &Authority) -> String {
    let protocol = if speaks.is_http2() { HTTP2 } else { "" };
    let tls = if speaks.is_tls() { upstream_tls(authority) } else { String::new() };
    format!("{protocol}{tls}")
}

/// Runs `test` between every two protocols. What a failing test prints names the last two.
async fn between_all(test: impl AsyncFn(&mut Stand)) {
    for down in ALL {
        for up in ALL {
            eprintln!("{down:?} to {up:?}");
            let mut stand = Stand::new(down, up).await;
            test(&mut stand).await;
            stand.ends().await;
        }
    }
}
