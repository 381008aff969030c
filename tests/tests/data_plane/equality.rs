//! The same requests through the proxy, the simulator and the observer of `explain`: one decision.
//!
//! With one worker and one seed there is nothing left to chance: each request is compared, field by
//! field of its access log line. With several workers it is open which of them takes a request, and
//! what holds then are bounds ([`workers`]).

mod asked;
mod shells;
mod table;
mod workers;

use std::collections::BTreeMap;

use naru_journey::Snapshot;
use naru_sim::Driver;
use naru_tests::files::Directory;

use asked::Asked;
use shells::{Explainer, agrees, by_proxy, by_simulator};
use table::{ANY, HOSTS, Upstreams};

const REQUESTS: usize = 800;
/// So many differences are shown.
const SHOWN_MAX: usize = 5;

/// Compares all requests of a seed, and counts what was decided by route and by reason.
async fn check(seed: u64, virtual_hosts: &str) -> BTreeMap<String, u32> {
    let files = Directory::new();
    let log = files.path("access.log");
    let up = Upstreams::start().await;
    let bootstrap = up.bootstrap(virtual_hosts, &log);
    let all = Asked::draw(seed, REQUESTS);
    let (local, by_proxy) = by_proxy(&bootstrap, seed, &all, &log).await;
    assert_eq!(by_proxy.len(), all.len(), "NARU_SEED={seed}: every request has one line");

    let load = || naru_xds::load("test.yaml", &bootstrap.text()).unwrap().config;
    let snapshot = Snapshot::compile(load()).unwrap();
    let config = load();
    let mut simulator = Driver::new(&snapshot, seed);
    let mut explainer = Explainer::new(&snapshot, &config.listeners[0].chains[0].http.routes, seed);
    let mut seen = BTreeMap::new();
    let mut differences = Vec::new();
    for (number, (asked, proxy)) in all.iter().zip(&by_proxy).enumerate() {
        let explained = explainer.explain(asked, local, &up.refusing);
        let simulated = by_simulator(&mut simulator, asked, local, &up.refusing);
        if *proxy != simulated || !agrees(&explained.line, proxy) {
            differences.push(format!(
                "request {number}: {asked}\n      proxy {proxy}\n  simulator {simulated}\n  explained {}\n",
                explained.line
            ));
        }
        let words: Vec<&str> = proxy.split(' ').collect();
        for key in [words[0], words[2], words[3], words[6], words[7]] {
            *seen.entry(key.to_owned()).or_default() += 1;
        }
    }
    assert!(
        differences.is_empty(),
        "NARU_SEED={seed}: {} of {} differ\n{}",
        differences.len(),
        all.len(),
        differences.iter().take(SHOWN_MAX).map(String::as_str).collect::<String>()
    );
    seen
}

fn seeds() -> Vec<u64> {
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse().unwrap());
    only.map_or(vec![1, 2, 3], |seed| vec![seed])
}

#[tokio::test]
async fn proxy_simulator_and_explain_decide_every_request_alike() {
    let mut seen = BTreeMap::<String, u32>::new();
    for seed in seeds() {
        // Without a host for all other names there are requests that no host takes.
        let virtual_hosts = if seed % 3 == 0 { HOSTS.to_owned() } else { format!("{HOSTS}{ANY}") };
        for (what, count) in check(seed, &virtual_hosts).await {
            *seen.entry(what).or_default() += count;
        }
    }
    // Every rule, every cluster and every reason that can be had here.
    let expected = [
        "cart",
        "health",
        "gone",
        "old",
        "moved",
        "gold",
        "people",
        "aged",
        "items",
        "users",
        "writes",
        "version-two",
        "member",
        "stranger",
        "sampled",
        "search",
        "split",
        "refused",
        "refused-http2",
        "half",
        "half-retried",
        "least-retried",
        "refused-retried",
        "empty",
        "status",
        "exact",
        "longer",
        "near",
        "any-status",
        "any-split",
        "any-half",
        "turns",
        "turns-weighted",
        "least",
        "least-weighted",
        "random",
        "random-weighted",
        "turns-http2",
        "random-http2",
        "Forwarded",
        "DirectResponse",
        "Redirect",
        "NoRoute",
        "NoHealthyUpstream",
        "ConnectFailure",
        "URX,UF",
        "UF",
        "-",
    ];
    let is_whole = std::env::var_os("NARU_SEED").is_none();
    let missing: Vec<_> = expected.iter().filter(|what| !seen.contains_key(**what)).collect();
    assert!(!is_whole || missing.is_empty(), "the requests reach too little: {missing:?} of {seen:?}");
}
