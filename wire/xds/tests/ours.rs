//! What naru tells naru is what it meant: a configuration that went over a stream is the one that it was.
//!
//! `NARU_SEED=n cargo test -p naru-xds --test ours` replays one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod random;
mod told;

use naru_spec::{Action, CheckKind, Config, Discovery, LogFormat, RbacRules};
use naru_xds::Schema;
use naru_xds::discovery::Dialect;
use naru_xds::encode::{resources, unsaid};
use told::{expected, first_difference, told};

const CASES: u64 = 200;
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("NARU_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..CASES,
    }
}

#[test]
fn what_was_told_is_what_was_meant_and_nothing_is_left_out() {
    let schema = Schema::new();
    let mut seen = Seen::default();
    for seed in seeds() {
        let mut config = random::ours::config_of_naru(seed);
        // Which of two tables with one name is meant is no question of words.
        config.listeners.dedup_by(|a, b| a.name == b.name);
        assert!(config.problems().is_empty(), "seed {seed}: {:?}", config.problems());
        seen.look(&config);
        assert_eq!(unsaid(&config, Dialect::Naru), [], "seed {seed}");
        let sent = resources(&config, Dialect::Naru);
        let again = resources(&config, Dialect::Naru);
        assert!(sent == again, "equal configurations are equal bytes: seed {seed}");
        let told = told(&schema, &sent).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let (told, expected) = (expected(told), expected(config));
        assert!(told == expected, "seed {seed}:\n{}", first_difference(&told, &expected));
    }
    if seeds().count() > 1 {
        seen.check();
    }
}

/// The walk is worth something only where it comes by.
#[derive(Debug, Default)]
struct Seen {
    sessions: u32,
    quotas: u32,
    caches: u32,
    denied: u32,
    passed_on: u32,
    blocks: u32,
    in_envoys_words: u32,
}

impl Seen {
    fn look(&mut self, config: &Config) {
        let on_demand =
            |discovery: &Discovery| matches!(discovery, Discovery::OnDemand(said) if said.header.is_none());
        self.passed_on += config.clusters.iter().any(|cluster| on_demand(&cluster.discovery)) as u32;
        for chain in config.listeners.iter().flat_map(|listener| &listener.chains) {
            self.sessions += u32::from(!chain.http.sessions.is_empty());
            let checks = &chain.http.gate.checks;
            self.quotas += checks.iter().any(|check| matches!(check.kind, CheckKind::Quotas(_))) as u32;
            self.denied += checks.iter().any(|check| match &check.kind {
                CheckKind::Rbac(said) => said.rules.as_ref().is_some_and(has_condition),
                _ => false,
            }) as u32;
            let json = |log: &naru_spec::AccessLog| matches!(log.format, LogFormat::Json(_));
            self.in_envoys_words += u32::from(!chain.http.access_log.iter().any(json));
            for rule in chain.http.routes.virtual_hosts.iter().flat_map(|host| &host.rules) {
                self.blocks += u32::from(rule.matches.len() > 1);
                self.caches +=
                    u32::from(matches!(&rule.action, Action::Forward(said) if said.cache.is_some()));
            }
        }
    }

    fn check(&self) {
        let Seen { sessions, quotas, caches, denied, passed_on, blocks, in_envoys_words } = *self;
        let least = [sessions, quotas, caches, denied, passed_on, blocks, in_envoys_words].into_iter().min();
        assert!(least > Some(3), "{self:?}");
    }
}

fn has_condition(rules: &RbacRules) -> bool {
    rules.policies.iter().any(|policy| policy.condition.is_some())
}
