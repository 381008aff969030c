//! What of a configuration is lost on its way to those who read it as Envoy's resources.
//!
//! Most of it makes a proxy do less: keep no answers, shed no load. That may be left out, and is told. What guards
//! may not: whoever would let through what documents refuse is given nothing at all.

use std::collections::BTreeSet;

use naru_spec::{
    Action, BalancingPolicy, Check, CheckKind, Cluster, Config, Discovery, FilterChain, Forward, GateChange,
    Http, Listener, RbacAction, Rule, defaults,
};

use super::{http, matching, proxyless, routes};
use crate::discovery::Dialect;
use crate::extension::{Recovery, RouteExtension};

/// Something that is not said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unsaid {
    /// Requests would be let through, or sent elsewhere.
    pub is_guard: bool,
    pub what: String,
    /// `file:line:column`, or the name of what it is a part of.
    pub at: String,
}

/// Everything that is lost, once for each place.
pub fn unsaid(config: &Config, dialect: Dialect) -> Vec<Unsaid> {
    let mut tale = Tale { dialect, found: BTreeSet::new() };
    if dialect == Dialect::Naru {
        config.listeners.iter().for_each(|listener| tale.listener_of_naru(listener));
        return tale.found.into_iter().collect();
    }
    for listener in &config.listeners {
        if listener.connections.max.is_some() || listener.connections.max_per_source.is_some() {
            tale.lost("how many connections there may be", &listener.name);
        }
        for chain in &listener.chains {
            tale.chain(chain, &listener.name);
        }
    }
    for cluster in &config.clusters {
        tale.cluster(cluster);
    }
    if config.surge.is_some() {
        tale.lost("a Surge", "the whole");
    }
    if config.cache.is_some() {
        tale.lost("where answers are kept", "the whole");
    }
    if config.overload.is_some() {
        tale.lost("what is given up when the proxy runs short", "the whole");
    }
    tale.found.into_iter().collect()
}

struct Tale {
    dialect: Dialect,
    found: BTreeSet<Unsaid>,
}

impl Tale {
    /// naru is told everything in words of its own, but for what only the process that asked for it can answer.
    fn listener_of_naru(&mut self, listener: &Listener) {
        let tls = listener.chains.iter().filter_map(|chain| chain.tls.as_ref());
        if tls.into_iter().any(|tls| !tls.challenges.is_empty()) {
            self.lost("answers to those who issue certificates (ACME)", &listener.name);
        }
    }

    fn lost(&mut self, what: &str, at: &str) {
        self.found.insert(Unsaid { is_guard: false, what: what.to_owned(), at: at.to_owned() });
    }

    fn guard(&mut self, what: &str, at: &str) {
        self.found.insert(Unsaid { is_guard: true, what: what.to_owned(), at: at.to_owned() });
    }

    fn chain(&mut self, chain: &FilterChain, listener: &str) {
        if chain.tcp.is_some() {
            return;
        }
        self.http(&chain.http, listener);
        for rule in chain.http.routes.virtual_hosts.iter().flat_map(|host| &host.rules) {
            let at = if rule.origin.is_empty() { listener } else { rule.origin.as_str() };
            self.rule(rule, at);
        }
    }

    fn http(&mut self, said: &Http, at: &str) {
        if !said.sessions.is_empty() {
            self.guard("login sessions", at);
        }
        if let Some(door) = &said.door {
            if door.addresses != Default::default() {
                self.guard("addresses that are let in", at);
            }
            if door.geo.is_some() {
                self.lost("headers of where clients are", at);
            }
        }
        for check in &said.gate.checks {
            self.check(check, at);
            let is_said = self.dialect != Dialect::Grpc && http::is_said(check);
            match (&check.kind, is_said) {
                (_, true) => {}
                (CheckKind::Shed(_), _) => self.lost("what a Surge refuses", at),
                _ => self.guard(&format!("the check '{}'", check.name), at),
            }
        }
        if said.tunnels && self.dialect != Dialect::Grpc {
            self.lost("tunnels of clients (CONNECT)", at);
        }
    }

    /// Of a condition that cannot be told Envoy says that it does not hold. Whoever is to be refused where it holds would
    /// be let in.
    fn check(&mut self, check: &Check, at: &str) {
        let CheckKind::Rbac(rbac) = &check.kind else { return };
        let denies = rbac.rules.iter().filter(|rules| rules.action == RbacAction::Deny);
        if self.dialect == Dialect::Envoy
            && denies.flat_map(|rules| &rules.policies).any(|policy| policy.condition.is_some())
        {
            self.guard(&format!("a condition that refuses, of the check '{}'", check.name), at);
        }
    }

    fn rule(&mut self, rule: &Rule, at: &str) {
        for change in rule.changes() {
            if let GateChange::Also(check) | GateChange::Instead(check) = change {
                self.check(check, at);
            }
        }
        for change in rule.changes().filter(|change| !routes::is_said(change)) {
            match change {
                // The listener's check holds, then.
                GateChange::Without(name) => self.lost(&format!("an exception from the check '{name}'"), at),
                GateChange::Also(check) | GateChange::Instead(check) => {
                    self.guard(&format!("the check '{}'", check.name), at);
                }
                GateChange::Ask(name, _) => self.guard(&format!("what is told to '{name}'"), at),
                GateChange::Count(name, _) => self.guard(&format!("what '{name}' counts"), at),
                GateChange::Compress(name, _) => self.lost(&format!("what is said to '{name}'"), at),
                GateChange::Keys(name, _) => self.guard(&format!("the keys of '{name}'"), at),
                GateChange::Passwords(name, _) => self.guard(&format!("the passwords of '{name}'"), at),
                GateChange::Require(name, _) => self.guard(&format!("the tokens of '{name}'"), at),
                GateChange::Describe(_) => {}
            }
        }
        if rule.matches.iter().any(|said| !said.sources.is_empty()) {
            self.guard("a match of the client's address", at);
        }
        if self.dialect == Dialect::Grpc {
            if rule.matches.iter().any(|said| !proxyless::is_matched(said)) {
                self.lost("a match that gRPC has no words for; the route is left out", at);
            }
            return;
        }
        if let Action::Forward(forward) = &rule.action {
            self.forward(forward, at);
        }
        let mut queries = rule.matches.iter().flat_map(|said| &said.query);
        if self.dialect == Dialect::Envoy && queries.any(matching::is_beyond_words) {
            self.guard("a match of a parameter that has another value", at);
        }
    }

    fn forward(&mut self, forward: &Forward, at: &str) {
        if forward.cache.is_some() {
            self.lost("a cache of answers", at);
        }
        if forward.fallback.is_some() {
            self.lost("a fallback", at);
        }
        if forward.load != Default::default() {
            self.lost("limits of load", at);
        }
        if self.dialect == Dialect::Envoy {
            let extension = RouteExtension {
                query: forward.query.clone(),
                recovery: Recovery::of(forward),
                groups: forward.groups.as_deref().cloned(),
                query_not: Vec::new(),
            };
            if extension.groups.is_some() {
                self.guard("groups for reads and writes", at);
            }
            if !extension.query.is_empty() {
                self.lost("changes of the query", at);
            }
            if extension.recovery != Recovery::default() {
                self.lost("retries, timeouts, faults or mirrors as only naru has them", at);
            }
        }
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let at = cluster.name.as_str();
        if self.dialect == Dialect::Grpc {
            if cluster.name != defaults::ADDRESSES_CLUSTER && !proxyless::is_spoken(cluster) {
                self.lost("a cluster that gRPC cannot call (TLS, names, addresses of requests)", at);
            }
            return;
        }
        if cluster.fallback.is_some() {
            self.lost("a fallback", at);
        }
        if cluster.load != Default::default() || cluster.guard.circuit_breaker.is_some() {
            self.lost("limits of load, circuit breakers by error rate", at);
        }
        if cluster.load_balancing.sticky.is_some() {
            self.lost("endpoints that clients stay with", at);
        }
        if matches!(cluster.load_balancing.policy, BalancingPolicy::PeakEwma(_)) {
            self.lost("the balancing peakEwma: it is told to ask the least busy", at);
        }
        let brings = matches!(&cluster.discovery, Discovery::OnDemand(said) if said.header.is_none());
        if brings {
            self.lost("endpoints that are the hosts of requests", at);
        }
    }
}
