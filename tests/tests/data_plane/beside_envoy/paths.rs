//! What paths become.

use std::net::SocketAddr;

use naru_base::Chance;
use naru_tests::upstream::header;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};

use super::seeds;

/// The heading under which the one difference stands that is shown here.
pub const DIFFERENCE: &str = "Dots with parameters";

/// What both servers read; where naru's reader of HTTP refuses more, that is for other tests.
const PARTS: &[&str] = &[
    "/", "/", "/", ".", "..", "%2e", "%2E", "\\", "%2f", "%2F", "%5c", "%5C", "%", "%25", "%41", "%7e",
    "%30", "0", "3", "a", "b", "Z", "-", "_", "~", ";x=1", "%c3%a9", "%00", "%zz", "@", ":", "!", "*",
];

const RULES: &[&str] = &[
    "normalize_path: true",
    "merge_slashes: true",
    "normalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_FORWARD",
    "normalize_path: true\npath_with_escaped_slashes_action: REJECT_REQUEST",
    "merge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT\nstrip_trailing_host_dot: true",
];

fn targets(seed: u64) -> Vec<String> {
    let mut chance = Chance::split(seed, "paths");
    let drawn = (0..120).map(|_| {
        let parts = (0..1 + chance.below(10)).map(|_| PARTS[chance.below(PARTS.len() as u64) as usize]);
        let path: String = std::iter::once("/").chain(parts).collect();
        if chance.below(4) == 0 { format!("{path}?q=/../%2f//.") } else { path }
    });
    drawn.collect()
}

/// What is answered, where the client is led, and what the upstream got.
async fn ask(address: SocketAddr, targets: &[String]) -> Vec<String> {
    let mut client = Wire::connect(address).await;
    let mut seen = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        let (host, is_grpc) = (["a.example", "a.example.", "a.example.:80"][at % 3], at % 7 == 0);
        let kind = if is_grpc { "content-type: application/grpc\r\n" } else { "" };
        client.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{kind}\r\n")).await;
        let answer = client.response().await;
        let status = answer.status();
        let led = answer.head.get("location").unwrap_or("-").to_owned();
        let grpc = answer.head.get("grpc-status").unwrap_or("-").to_owned();
        let got = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
        let got = got.map(|got| format!("{} {:?}", got["target"], header(&got, "host")));
        seen.push(format!("{target} of {host}: {status} {led} {grpc} {}", got.unwrap_or_default()));
        if answer.head.all("connection").contains(&"close") {
            client = Wire::connect(address).await;
        }
    }
    seen
}

/// Dots with parameters behind a backslash, or escaped: a difference that is known, and shown below.
fn may_differ(seen: &str) -> bool {
    let target = seen.to_ascii_lowercase();
    target.contains(';') && ["\\", "%5c", "%2e"].iter().any(|odd| target.contains(odd))
}

#[tokio::test]
async fn paths_become_the_same_and_are_refused_alike() {
    let up = Upstream::plain(Speaks::Http1).await;
    for rules in RULES {
        let bootstrap = Bootstrap::to(up.address).manager(rules);
        let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
        let naru = Naru::start(&bootstrap);
        for seed in seeds(3) {
            let targets = targets(seed);
            let (by_envoy, by_naru) = (ask(envoy.address, &targets).await, ask(naru.address, &targets).await);
            for (envoy, naru) in by_envoy.iter().zip(&by_naru) {
                if may_differ(envoy) {
                    continue;
                }
                assert_eq!(envoy, naru, "seed {seed}\n{rules}");
            }
        }
    }
}

/// `docs/equality-with-envoy.md` explains it.
#[tokio::test]
async fn dots_with_parameters_are_more_to_naru_than_to_envoy() {
    let up = Upstream::plain(Speaks::Http1).await;
    let bootstrap = Bootstrap::to(up.address).manager("normalize_path: true");
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let naru = Naru::start(&bootstrap);
    let targets = ["/a/..;x/b", "/a/%2e%2e;x/b", "/a\\..;x/b"].map(str::to_owned);
    let by_envoy = ask(envoy.address, &targets).await;
    let by_naru = ask(naru.address, &targets).await;
    for (at, left) in [(0, "\"/b\""), (1, "\"/a/..;x/b\""), (2, "\"/a/..;x/b\"")] {
        assert!(by_envoy[at].contains(left), "{}", by_envoy[at]);
        assert!(by_naru[at].contains("\"/b\""), "{}", by_naru[at]);
    }
}
