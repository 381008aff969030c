//! Limits of load, on sockets: how much may be under way, who waits for it, who is refused.

mod cluster;
mod named;
mod lifetimes;

use std::time::Duration;

use naru_base::Reason;
use naru_proxy::{LimitsStatus, Options};
use naru_spec::{ClusterLimits, Config, Thresholds};
use naru_tests::naru::config;
use naru_tests::wire::{Message, WireListener};
use naru_tests::{Bootstrap, Naru, Wire, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Without limits but those that a test sets.
fn free() -> Thresholds {
    Thresholds {
        connections_max: u32::MAX,
        pending_max: u32::MAX,
        requests_max: u32::MAX,
        ..Thresholds::envoy()
    }
}

fn limits(normal: Thresholds) -> ClusterLimits {
    ClusterLimits { normal, ..ClusterLimits::envoy() }
}

fn limited(bootstrap: &Bootstrap, limits: &ClusterLimits) -> Config {
    let mut config = config(bootstrap);
    config.clusters[0].limits = limits.clone();
    config
}

fn start(bootstrap: &Bootstrap, limits: &ClusterLimits, workers: usize) -> Naru {
    Naru::start_on(limited(bootstrap, limits), &Options { workers, seed: Some(1) })
}

fn status(naru: &Naru) -> LimitsStatus {
    naru.clusters()[0].limits
}

/// Waits until so many requests wait for a connection.
async fn waiting(naru: &Naru, count: u64) {
    until(&format!("{count} to wait"), async || (status(naru).pending == count).then_some(())).await;
}

/// A client that has asked for a path.
async fn asking(naru: &Naru, path: &str) -> Wire {
    let mut client = Wire::connect(naru.address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: naru.test\r\n\r\n")).await;
    client
}

/// The path that an upstream was asked for.
async fn asked(upstream: &mut Wire) -> String {
    upstream.request().await.head.first.split(' ').nth(1).unwrap().to_owned()
}

fn is_overflow(response: &Message) -> bool {
    response.status() == 503
        && response.head.get("x-envoy-overloaded") == Some("true")
        && response.text().ends_with("reset reason: overflow")
}

/// Waits for the end of requests that went well, and of some that were refused.
async fn ended(naru: &Naru, well: usize, refused: usize) {
    let mut expected = vec![(200, Reason::Forwarded); well];
    expected.extend(vec![(503, Reason::Overflow); refused]);
    assert_eq!(naru.ended((well + refused) as u64).await, expected);
}

async fn listener() -> (WireListener, Bootstrap) {
    let up = WireListener::bind().await;
    let bootstrap = Bootstrap::to(up.address);
    (up, bootstrap)
}

/// Time for something that must not happen.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}
