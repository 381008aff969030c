//! Answers that are given again.

mod answers;
mod documents;
mod fallback;
mod http_cache_tests;
mod million;
mod personal;
mod poisoned;
mod purged;
mod short;
mod tiers;
mod together;

use naru_proxy::Options;
use naru_spec::{Action, CachePolicy, Config};
use naru_tests::{Bootstrap, Naru, Upstream};

pub const ALL: &str = "- match: { prefix: / }\n  route: { cluster: up }\n";

/// All routes keep answers by a policy.
pub fn config_of(bootstrap: &Bootstrap, policy: &CachePolicy) -> Config {
    let mut config = naru_tests::naru::config(bootstrap);
    let chains = config.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    let hosts = chains.flat_map(|chain| &mut chain.http.routes.virtual_hosts);
    for rule in hosts.flat_map(|host| &mut host.rules) {
        if let Action::Forward(forward) = &mut rule.action {
            forward.cache = Some(Box::new(policy.clone()));
        }
    }
    config
}

fn start(up: &Upstream, policy: &CachePolicy) -> Naru {
    let bootstrap = Bootstrap::new(ALL).cluster("up", up.address, "");
    Naru::start_on(config_of(&bootstrap, policy), &Options { workers: 2, seed: Some(1) })
}
