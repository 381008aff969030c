//! Which requests would another configuration send elsewhere?
//!
//! Comes in: two configurations with their tables, and requests that were really sent, each with how often. Goes out:
//! for each way that is another one how many take it, and which request shows it. Each request is decided by
//! [`Explainer`]: by the tables that live requests are decided by.
//!
//! Deliberately not here: logs (who has sent what), and what policies on the way would say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use http::request::Parts;
use naru_base::{Reason, Weight};
use naru_route::Verdict;
use naru_spec::defaults::ADDRESSES_HOST;
use naru_spec::{Action, Address, Cluster, Config, Discovery, Forward, Listener, Rule};

use crate::edge::Peer;
use crate::explain::{Disagreement, Explainer};
use crate::{Arriving, Snapshot, tcp};

/// A request of which as many were sent.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: http::Method,
    pub host: String,
    pub target: http::uri::PathAndQuery,
    pub headers: http::HeaderMap,
    pub source: SocketAddr,
    /// Where it came in, as far as it is known.
    pub port: u16,
    /// The listener that it came in by, where that is known.
    pub listener: Option<String>,
    pub is_tls: bool,
    pub count: u64,
}

/// Where a request goes, or what it is answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goes {
    /// To one of these, each with its weight of the sum.
    To(Vec<(String, u32)>),
    Redirected {
        status: u16,
        to: String,
    },
    Answered(u16),
    /// The host asks for https.
    RequiresTls,
    Refused(&'static str),
    NoHost,
    NoRule,
    /// No listener is there for it.
    NoListener,
}

impl Goes {
    /// Whoever is answered the same by another rule, or by none, is where he was.
    fn is_as(&self, other: &Goes) -> bool {
        self == other || self.answer().is_some_and(|status| other.answer() == Some(status))
    }

    /// The status that naru answers by itself.
    fn answer(&self) -> Option<u16> {
        match self {
            Goes::Answered(status) => Some(*status),
            Goes::NoHost | Goes::NoRule => Some(404),
            Goes::To(_)
            | Goes::Redirected { .. }
            | Goes::RequiresTls
            | Goes::Refused(_)
            | Goes::NoListener => None,
        }
    }
}

/// What is decided about a request, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub goes: Goes,
    /// Name of the rule; empty where none takes it.
    pub rule: String,
    /// Where the rule is written.
    pub origin: String,
    /// What is sent on is another path, host or query.
    pub rewrites: String,
}

/// Requests that all change from one way to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    pub before: Way,
    pub after: Way,
    /// As many requests have these ways.
    pub requests: u64,
    /// As many of them go elsewhere: all, or where a route chooses by weight those that the weights move.
    pub elsewhere: f64,
    /// As many of them would fail that did not.
    pub newly_fail: f64,
    /// Which: their places among those that were asked about.
    pub asked: Vec<usize>,
}

/// What a change does to requests.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    pub requests: u64,
    pub elsewhere: f64,
    pub newly_fail: f64,
    /// Requests that go to the same place by a rule that rewrites them otherwise.
    pub otherwise: u64,
    /// Those with most requests first.
    pub moved: Vec<Moved>,
}

/// Whether a request has a rule of those that are there for whom no document knows.
fn is_for_addresses(routes: &naru_spec::RouteTable, explained: &crate::explain::Explanation) -> bool {
    let Verdict::Rule { rule, .. } = explained.verdict else { return false };
    let mut left = rule.index();
    let host = routes.virtual_hosts.iter().find(|host| match left.checked_sub(host.rules.len()) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    host.is_some_and(|host| host.name == ADDRESSES_HOST)
}

/// What the names of listeners of gateways begin with.
const GATEWAY: &str = "gateway/";

/// One of the two.
pub struct Side<'a> {
    config: &'a Config,
    listeners: Vec<(usize, &'a Listener, Vec<Option<Explainer<'a>>>)>,
    snapshot: &'a Snapshot,
    clusters: BTreeMap<&'a str, &'a Cluster>,
}

impl std::fmt::Debug for Side<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").finish_non_exhaustive()
    }
}

impl<'a> Side<'a> {
    pub fn new(config: &'a Config, snapshot: &'a Snapshot) -> Side<'a> {
        let listeners = config.listeners.iter().enumerate().map(|(at, listener)| {
            let chains = listener.chains.iter().enumerate().map(|(of, chain)| {
                let id = snapshot.chain_id(at, of)?;
                // What passes bytes through reads no request.
                chain.tcp.is_none().then(|| Explainer::new(snapshot, id, &chain.http.routes))
            });
            (at, listener, chains.collect())
        });
        let clusters = config.clusters.iter().map(|cluster| (cluster.name.as_str(), cluster)).collect();
        Side { config, listeners: listeners.collect(), snapshot, clusters }
    }

    /// What happens to a request, and the listener that it came in by. Where a listener is named, it is that one;
    /// else listeners are asked in the order of [`rank`], and the first that has the host answers.
    ///
    /// # Errors
    /// A fault of naru's own.
    pub fn decide(
        &self,
        asked: &Asked,
        listener: Option<&str>,
    ) -> Result<(Way, Option<&'a str>), Disagreement> {
        let mut order: Vec<_> = self.listeners.iter().collect();
        order.sort_by_key(|(_, listener, _)| rank(listener, asked.port));
        let wanted = listener.or(asked.listener.as_deref());
        let is_there = wanted.is_some_and(|name| order.iter().any(|(_, listener, _)| listener.name == name));
        if let Some(name) = wanted {
            if is_there {
                order.retain(|(_, listener, _)| listener.name == name);
            } else if name.starts_with(GATEWAY) {
                order.clear();
            }
        }
        let (mut last, mut is_gate_passed) = (None, false);
        for (at, listener, explainers) in order {
            let name = asked.host.rsplit_once(':').map_or(asked.host.as_str(), |(name, _)| name);
            let local = listener.address.ip();
            let arriving = |is_tls| Arriving { local, server_name: Some(name), is_tls };
            let chain = self.snapshot.chain_for(*at, &arriving(asked.is_tls));
            let Some(chain) = chain.or_else(|| self.snapshot.chain_for(*at, &arriving(!asked.is_tls))) else {
                continue;
            };
            let of = (0..listener.chains.len()).find(|of| self.snapshot.chain_id(*at, *of) == Some(chain));
            let Some(settings) = of.and_then(|of| listener.chains.get(of)) else { continue };
            if let Some(tcp) = &settings.tcp {
                if listener.address.port() != asked.port {
                    continue;
                }
                let routes = tcp::routes(tcp);
                let explained = self.explain(&Explainer::new(self.snapshot, chain, &routes), asked)?;
                return Ok((self.way(&routes, &explained), Some(listener.name.as_str())));
            }
            let Some(explainer) = of.and_then(|of| explainers.get(of)?.as_ref()) else { continue };
            let explained = self.explain(explainer, asked)?;
            let routes = &settings.http.routes;
            let way = self.way(routes, &explained);
            // What a gateway on this port has no host for does not go by what workloads may call besides.
            let is_of_others = is_for_addresses(routes, &explained) && is_gate_passed;
            is_gate_passed |= listener.name.starts_with(GATEWAY) && listener.address.port() == asked.port;
            if way.goes != Goes::NoHost && !is_of_others {
                return Ok((way, Some(listener.name.as_str())));
            }
            last.get_or_insert((way, Some(listener.name.as_str())));
        }
        let nobody = || Way {
            goes: Goes::NoListener,
            rule: String::new(),
            origin: String::new(),
            rewrites: String::new(),
        };
        Ok(last.unwrap_or_else(|| (nobody(), None)))
    }

    fn explain(
        &self,
        explainer: &Explainer<'_>,
        asked: &Asked,
    ) -> Result<crate::explain::Explanation, Disagreement> {
        let peer = Peer {
            remote: asked.source,
            local: SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, asked.port)),
            is_tls: asked.is_tls,
            is_certified: false,
            is_in_tunnel: false,
        };
        explainer.explain(&mut asked.to_parts(), &peer, 1)
    }

    fn way(&self, routes: &naru_spec::RouteTable, explained: &crate::explain::Explanation) -> Way {
        let rules = || routes.virtual_hosts.iter().flat_map(|host| &host.rules);
        let none = |goes| Way { goes, rule: String::new(), origin: String::new(), rewrites: String::new() };
        if let Some(reason) = explained.refusal {
            return none(Goes::Refused(Reason::name(reason)));
        }
        let rule: &Rule = match explained.verdict {
            Verdict::NoVirtualHost => return none(Goes::NoHost),
            Verdict::RequiresTls { .. } => return none(Goes::RequiresTls),
            Verdict::ServerOptions { .. } => return none(Goes::Answered(200)),
            Verdict::NoRule { virtual_host } => {
                let host = routes.virtual_hosts.get(virtual_host as usize);
                // One for addresses is there for no name.
                let is_for_addresses = host.is_some_and(|host| host.name == ADDRESSES_HOST);
                return none(if is_for_addresses { Goes::NoHost } else { Goes::NoRule });
            }
            Verdict::Rule { rule, .. } => match rules().nth(rule.index()) {
                Some(rule) => rule,
                None => return none(Goes::NoRule),
            },
        };
        let (goes, rewrites) = match &rule.action {
            Action::Redirect(redirect) => (
                Goes::Redirected { status: redirect.status.as_u16(), to: format!("{redirect:?}") },
                String::new(),
            ),
            Action::Direct(direct) => (Goes::Answered(direct.status.as_u16()), String::new()),
            Action::Forward(forward) => {
                let to = explained.destinations.iter().filter(|(_, weight)| weight.0 > 0);
                (
                    Goes::To(to.map(|(name, Weight(weight))| (name.clone(), *weight)).collect()),
                    rewrites(forward),
                )
            }
        };
        Way { goes, rule: rule.name.clone(), origin: rule.origin.clone(), rewrites }
    }

    /// The part of those that go this way that fails for certain: nobody is there to take them.
    fn failing(&self, goes: &Goes) -> f64 {
        match goes {
            Goes::To(to) => {
                let sum: u64 = to.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let empty = to.iter().filter(|(name, _)| !self.may_answer(name));
                let failing: u64 = empty.map(|(_, weight)| u64::from(*weight)).sum();
                if sum == 0 { 1.0 } else { failing as f64 / sum as f64 }
            }
            Goes::Redirected { .. } | Goes::RequiresTls => 0.0,
            Goes::Answered(status) => f64::from(u8::from(*status >= 400)),
            Goes::Refused(_) | Goes::NoHost | Goes::NoRule | Goes::NoListener => 1.0,
        }
    }

    fn may_answer(&self, name: &str) -> bool {
        self.clusters.get(name).is_some_and(|cluster| {
            !matches!(cluster.discovery, Discovery::Static) || !cluster.endpoints.is_empty()
        })
    }

    fn addresses(&self, name: &str) -> Option<BTreeSet<&'a Address>> {
        let cluster = self.clusters.get(name)?;
        Some(cluster.endpoints.iter().map(|endpoint| &endpoint.address).collect())
    }

    pub fn config(&self) -> &'a Config {
        self.config
    }
}

/// Gateways on the port come first, then what workloads call through, then other gateways.
pub fn rank(listener: &Listener, port: u16) -> u8 {
    match (listener.name.starts_with(GATEWAY), listener.address.port() == port) {
        (true, true) => 0,
        (false, _) => 1,
        (true, false) => 2,
    }
}

fn rewrites(forward: &Forward) -> String {
    if forward.path.is_none() && forward.host.is_none() && forward.query.is_empty() {
        return String::new();
    }
    format!("{:?} {:?} {:?}", forward.path, forward.host, forward.query)
}

impl Asked {
    fn to_parts(&self) -> Parts {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.target.clone().into();
        parts.headers = self.headers.clone();
        if let Ok(host) = http::HeaderValue::from_str(&self.host) {
            parts.headers.insert(http::header::HOST, host);
        }
        parts
    }
}

/// The part of requests that go elsewhere when `before` becomes `after`.
fn part_moved(before: (&Side<'_>, &Goes), after: (&Side<'_>, &Goes)) -> f64 {
    let ((old, Goes::To(from)), (new, Goes::To(to))) = (before, after) else {
        return f64::from(u8::from(!before.1.is_as(after.1)));
    };
    let share = |list: &[(String, u32)], name: &str| {
        let sum: u64 = list.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let own: u64 =
            list.iter().filter(|(known, _)| known == name).map(|(_, weight)| u64::from(*weight)).sum();
        if sum == 0 { 0.0 } else { own as f64 / sum as f64 }
    };
    let names: BTreeSet<&str> = from.iter().map(|(name, _)| name.as_str()).collect();
    let stays = names.iter().map(|name| {
        // The same name for others is another place.
        let is_same = match (old.addresses(name), new.addresses(name)) {
            (Some(old), Some(new)) => old.is_empty() || new.is_empty() || !old.is_disjoint(&new),
            _ => true,
        };
        if is_same { share(from, name).min(share(to, name)) } else { 0.0 }
    });
    let moved = 1.0 - stays.sum::<f64>();
    // What is left of rounding is nothing.
    if moved < 1e-9 { 0.0 } else { moved }
}

/// Decides every request twice.
///
/// # Errors
/// A fault of naru's own.
pub fn compare(old: &Side<'_>, new: &Side<'_>, asked: &[Asked]) -> Result<Comparison, Disagreement> {
    let mut comparison = Comparison::default();
    let mut moved: BTreeMap<(Way, Way), Moved> = BTreeMap::new();
    for (at, request) in asked.iter().enumerate() {
        let (before, listener) = old.decide(request, None)?;
        let (after, _) = new.decide(request, listener)?;
        comparison.requests += request.count;
        let part = part_moved((old, &before.goes), (new, &after.goes));
        let failing = (new.failing(&after.goes) - old.failing(&before.goes)).max(0.0);
        if part == 0.0 && failing == 0.0 {
            if before.rewrites != after.rewrites {
                comparison.otherwise += request.count;
            }
            continue;
        }
        let count = request.count as f64;
        comparison.elsewhere += part * count;
        comparison.newly_fail += failing * count;
        let group = moved.entry((before, after)).or_insert_with_key(|(before, after)| Moved {
            before: before.clone(),
            after: after.clone(),
            requests: 0,
            elsewhere: 0.0,
            newly_fail: 0.0,
            asked: Vec::new(),
        });
        group.requests += request.count;
        group.elsewhere += part * count;
        group.newly_fail += failing * count;
        group.asked.push(at);
    }
    comparison.moved = moved.into_values().collect();
    comparison.moved.sort_by_key(|moved| std::cmp::Reverse(moved.requests));
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::Goes;

    #[test]
    fn answered_the_same_by_nobody_is_not_elsewhere() {
        let unknown = [Goes::NoHost, Goes::NoRule, Goes::Answered(404)];
        for (one, other) in unknown.iter().flat_map(|one| unknown.iter().map(move |other| (one, other))) {
            assert!(one.is_as(other), "{one:?} and {other:?}");
        }
        let elsewhere = [
            Goes::Answered(403),
            Goes::Refused("path"),
            Goes::RequiresTls,
            Goes::NoListener,
            Goes::To(vec![("a".to_owned(), 1)]),
            Goes::Redirected { status: 404, to: "https://a.test/".to_owned() },
        ];
        for goes in elsewhere {
            assert!(goes.is_as(&goes), "{goes:?}");
            assert!(unknown.iter().all(|unknown| !goes.is_as(unknown) && !unknown.is_as(&goes)), "{goes:?}");
        }
    }
}
