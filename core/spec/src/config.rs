//! The whole that one proxy is given.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::route::{Action, Rule};
use crate::{
    CacheStore, Cluster, Discovery, Fallback, GuardPart, Invalid, Listener, Overload, Store, Surge,
    UpstreamProtocol,
};

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Config {
    pub admin: Option<Admin>,
    pub listeners: Vec<Listener>,
    pub clusters: Vec<Cluster>,
    /// What is given up when the proxy itself runs short.
    pub overload: Option<Overload>,
    /// What routes that keep answers share; where nothing is said, the usual.
    pub cache: Option<CacheStore>,
    /// Where counts are kept that several proxies share.
    pub stores: Vec<Store>,
    /// What is given up while more comes than there is room for.
    pub surge: Option<Surge>,
}

/// Where the admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: SocketAddr,
}

/// A place inside a [`Config`], for whoever knows where in a document it came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// What is given up when the proxy runs short.
    Overload(crate::overload::Part),
    Surge,
    Listener(usize),
    Cluster(usize),
    /// The certificates and settings of a filter chain.
    ChainTls {
        listener: usize,
        chain: usize,
    },
    /// Those of a cluster.
    ClusterTls(usize),
    /// How a cluster shares its requests.
    Balancing(usize),
    /// What guards a cluster.
    Guard {
        cluster: usize,
        part: GuardPart,
    },
    /// What becomes of the connections of a filter chain whose bytes are passed through.
    Tcp {
        listener: usize,
        chain: usize,
    },
    Rule {
        listener: usize,
        chain: usize,
        virtual_host: usize,
        rule: usize,
    },
    VirtualHost {
        listener: usize,
        chain: usize,
        virtual_host: usize,
    },
}

impl Config {
    /// What only the whole can tell: names used twice, addresses taken twice, rules that lead to
    /// clusters that are not there; and what guards a cluster in ways that cannot be.
    pub fn problems(&self) -> Vec<(Place, Invalid)> {
        let mut found = Vec::new();
        if let Some(overload) = &self.overload {
            let problems = overload.problems().into_iter();
            found.extend(problems.map(|(part, invalid)| (Place::Overload(part), invalid)));
        }
        let of_surge = self.surge.iter().flat_map(Surge::problems);
        found.extend(of_surge.map(|invalid| (Place::Surge, invalid)));
        let mut clusters = BTreeSet::new();
        for (at, cluster) in self.clusters.iter().enumerate() {
            if !clusters.insert(cluster.name.as_str()) {
                found.push((
                    Place::Cluster(at),
                    Invalid::new(format!("cluster '{}' is defined twice", cluster.name)),
                ));
            }
            if matches!(cluster.discovery, Discovery::OnDemand(_)) && !cluster.endpoints.is_empty() {
                let text =
                    format!("cluster '{}' has endpoints, and each request brings its own", cluster.name);
                found.push((Place::Cluster(at), Invalid::new(text)));
            }
            if cluster.proxy_protocol.is_some() && cluster.protocol != UpstreamProtocol::Http1 {
                let text = "a header says for whom a connection was made, and HTTP/2 makes it for several";
                let invalid = Invalid::new(text).hint("speak HTTP/1 to a cluster with the PROXY protocol");
                found.push((Place::ClusterTls(at), invalid));
            }
            let of_balancing = cluster.load_balancing.problems().into_iter();
            found.extend(of_balancing.map(|invalid| (Place::Balancing(at), invalid)));
            let of_guard = cluster.guard.problems().into_iter();
            found.extend(of_guard.map(|(part, invalid)| (Place::Guard { cluster: at, part }, invalid)));
        }
        for (at, cluster) in self.clusters.iter().enumerate() {
            fallback_problems(cluster.fallback.as_ref(), &clusters, &Place::Cluster(at), &mut found);
        }
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for (at, listener) in self.listeners.iter().enumerate() {
            if !listener.name.is_empty() && !names.insert(listener.name.as_str()) {
                found.push((
                    Place::Listener(at),
                    Invalid::new(format!("listener '{}' is defined twice", listener.name)),
                ));
            }
            if listener.address.port() != 0 && !addresses.insert((listener.address, listener.is_udp)) {
                found.push((
                    Place::Listener(at),
                    Invalid::new(format!("two listeners ask for the address {}", listener.address)),
                ));
            }
            self.listener_problems(at, listener, &clusters, &mut found);
        }
        found
    }

    fn listener_problems(
        &self,
        at: usize,
        listener: &Listener,
        clusters: &BTreeSet<&str>,
        found: &mut Vec<(Place, Invalid)>,
    ) {
        for (chain_at, chain) in listener.chains.iter().enumerate() {
            if let Some(tcp) = &chain.tcp {
                let place = Place::Tcp { listener: at, chain: chain_at };
                found.extend(tcp.problems().into_iter().map(|invalid| (place.clone(), invalid)));
                missing_clusters(tcp.clusters.names(), clusters, &place, found);
                continue;
            }
            let of_gate = chain.http.gate.problems().into_iter();
            found.extend(of_gate.map(|invalid| (Place::Listener(at), invalid)));
            let mut domains = BTreeSet::new();
            for (host_at, host) in chain.http.routes.virtual_hosts.iter().enumerate() {
                let place = Place::VirtualHost { listener: at, chain: chain_at, virtual_host: host_at };
                for domain in &host.domains {
                    if !domains.insert(domain.to_string()) {
                        found.push((
                            place.clone(),
                            Invalid::new(format!("only one virtual host may have the domain '{domain}'")),
                        ));
                    }
                }
                for (rule_at, rule) in host.rules.iter().enumerate() {
                    let place =
                        Place::Rule { listener: at, chain: chain_at, virtual_host: host_at, rule: rule_at };
                    let of_gate = rule.changes().flat_map(|change| change.problems());
                    found.extend(of_gate.map(|invalid| (place.clone(), invalid)));
                    rule_problems(rule, clusters, &place, found);
                }
            }
        }
    }
}

fn rule_problems(rule: &Rule, clusters: &BTreeSet<&str>, place: &Place, found: &mut Vec<(Place, Invalid)>) {
    let Action::Forward(forward) = &rule.action else { return };
    fallback_problems(forward.fallback.as_ref(), clusters, place, found);
    let of_cache = forward.cache.iter().flat_map(|policy| policy.problems());
    found.extend(of_cache.map(|invalid| (place.clone(), invalid)));
    let mirrors = forward.mirrors.iter().map(|mirror| mirror.cluster.as_str());
    missing_clusters(forward.cluster_names().chain(mirrors), clusters, place, found);
}

fn missing_clusters<'a>(
    names: impl Iterator<Item = &'a str>,
    clusters: &BTreeSet<&str>,
    place: &Place,
    found: &mut Vec<(Place, Invalid)>,
) {
    for name in names.filter(|name| !clusters.contains(name)) {
        let invalid = Invalid::new(format!("the route leads to cluster '{name}', which is not defined"))
            .hint("define the cluster, or correct the name");
        found.push((place.clone(), invalid));
    }
}

fn fallback_problems(
    fallback: Option<&Fallback>,
    clusters: &BTreeSet<&str>,
    place: &Place,
    found: &mut Vec<(Place, Invalid)>,
) {
    let Some(fallback) = fallback else { return };
    found.extend(fallback.problems().into_iter().map(|invalid| (place.clone(), invalid)));
    for name in fallback.clusters().filter(|name| !clusters.contains(name)) {
        let invalid = Invalid::new(format!("a fallback leads to cluster '{name}', which is not defined"))
            .hint("define the cluster, or correct the name");
        found.push((place.clone(), invalid));
    }
}
