//! Mirrors, on sockets: what a copy is, what becomes of it, what its answer differs in; and that nobody notices.

mod copied;
mod failing;
mod compared;
mod told;
mod walk;

use std::net::SocketAddr;

use naru_proxy::MirrorReport;
use naru_proxy::mirrors::MirrorCounts;
use naru_spec::{Action, Config, Mirror};
use naru_tests::naru::config;
use naru_tests::wire::{Head, Message, WireListener};
use naru_tests::{Bootstrap, Naru, Wire, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// All requests to `up`, with copies by these lines of a route.
fn mirrored(up: SocketAddr, lines: &str) -> Bootstrap {
    let route = format!("- name: all\n  match: {{ prefix: / }}\n  route:\n    cluster: up\n    {lines}\n");
    Bootstrap::new(&route).cluster("up", up, "")
}

const TO_MIRROR: &str = "request_mirror_policies: [{ cluster: mirror }]";

/// And the cluster `mirror`.
fn to_mirror(up: SocketAddr, mirror: SocketAddr) -> Bootstrap {
    mirrored(up, TO_MIRROR).cluster("mirror", mirror, "")
}

/// Its mirrors are otherwise than a file can say.
fn with_mirrors(bootstrap: &Bootstrap, change: impl Fn(&mut Mirror)) -> Config {
    let mut config = config(bootstrap);
    let rules = &mut config.listeners[0].chains[0].http.routes.virtual_hosts[0].rules;
    for rule in rules {
        if let Action::Forward(forward) = &mut rule.action {
            forward.mirrors.iter_mut().for_each(&change);
        }
    }
    config
}

async fn report(naru: &Naru) -> MirrorReport {
    naru.report().await.mirrors.remove(0)
}

/// Waits until so many copies have ended, and says how all have.
async fn copies(naru: &Naru, count: u64) -> MirrorCounts {
    until(&format!("{count} copies to end"), async || {
        let counts = report(naru).await.counts;
        assert!(ended(&counts) <= count, "{counts:?}");
        (ended(&counts) == count).then_some(counts)
    })
    .await
}

fn ended(counts: &MirrorCounts) -> u64 {
    let refused: u64 = counts.refused.values().sum();
    refused + counts.answered + counts.failed + counts.timed_out + counts.overrun + counts.abandoned
}

/// So many copies were answered with 200.
fn answered(count: u64) -> MirrorCounts {
    MirrorCounts {
        copies: count,
        answered: count,
        statuses: [(200, count)].into(),
        ..MirrorCounts::default()
    }
}

/// Client, upstream and mirror, all byte for byte.
struct Three {
    naru: Naru,
    up: WireListener,
    mirror: WireListener,
}

impl Three {
    async fn start(lines: &str) -> Three {
        let (up, mirror) = (WireListener::bind().await, WireListener::bind().await);
        let naru = Naru::start(&mirrored(up.address, lines).cluster("mirror", mirror.address, ""));
        Three { naru, up, mirror }
    }

    /// Sends a request, answers it at both, and says what came there.
    async fn exchange(&self, request: &str) -> [Message; 2] {
        let mut client = Wire::connect(self.naru.address).await;
        client.send(request).await;
        let mut seen = [&self.up, &self.mirror].map(|_| Message::default());
        for (listener, seen) in [&self.up, &self.mirror].into_iter().zip(&mut seen) {
            let mut wire = listener.accept().await;
            *seen = wire.request().await;
            wire.send(OK).await;
        }
        assert_eq!(client.response().await.text(), "ok");
        drop(client);
        self.naru.settles().await;
        seen
    }
}

/// Those of one that the other does not have so.
fn more<'a>(one: &'a Head, other: &Head) -> Vec<(&'a str, &'a str)> {
    let mut more: Vec<_> = one
        .headers
        .iter()
        .filter(|field| !other.headers.contains(field))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    more.sort_unstable();
    more
}
