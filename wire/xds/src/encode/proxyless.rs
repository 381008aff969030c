//! What clients of gRPC are told that resolve `xds:///service` and need no proxy.
//!
//! Comes in: the configuration of a workload's calls. Goes out: of each name that a service is called by, a listener
//! with that name (gRPC's A27), which leads to the routes of that service, its clusters and their endpoints. Matches
//! that no call of gRPC can have (cookies, parameters) are left out; so are clusters that gRPC cannot call, so that
//! calls to them fail. `unsaid` tells of what is lost.

use naru_spec::{Action, Cluster, Config, Discovery, Domain, Match, RouteTable, Rule, VirtualHost, defaults};

use super::recovery::FAULT_FILTER;
use super::split::{Shelf, by_endpoints, same_stream};
use super::{clusters, http, routes, value};
use crate::discovery::Kind;
use crate::proto::{cluster as clusters_of, endpoint, fault, hcm, listener as proto, route, router};
use crate::schema::pack;

pub(super) fn write(config: &Config, shelf: &mut Shelf) {
    for cluster in config.clusters.iter().filter(|cluster| is_spoken(cluster)) {
        write_cluster(cluster, shelf);
    }
    let chains = config.listeners.iter().flat_map(|listener| &listener.chains);
    for table in chains.filter(|chain| chain.tcp.is_none()).map(|chain| &chain.http.routes) {
        for host in table.virtual_hosts.iter().filter(|host| host.name != defaults::ADDRESSES_HOST) {
            write_host(table, host, shelf);
        }
    }
}

/// A client of gRPC has no certificates of ours and speaks to what it is told the addresses of.
pub(super) fn is_spoken(cluster: &Cluster) -> bool {
    let is_found = match cluster.discovery {
        Discovery::Static => true,
        Discovery::LogicalDns(_) => cluster.endpoints.len() == 1,
        Discovery::StrictDns(_) => cluster.endpoints.len() == 1,
        Discovery::OnDemand(_) => false,
    };
    is_found && cluster.tls.is_none() && cluster.proxy_protocol.is_none()
}

/// Whether gRPC would find the calls that this takes: not too many.
pub(super) fn is_matched(said: &Match) -> bool {
    said.sources.is_empty()
        && said.query.is_empty()
        && said.cookies.is_empty()
        && said.claims.is_empty()
        && said.scheme.is_none()
        && said.authority.is_none()
}

fn write_cluster(cluster: &Cluster, shelf: &mut Shelf) {
    use clusters_of::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
    let written = clusters::write(cluster);
    let is_hashed = written.lb_policy == i32::from(LbPolicy::RingHash);
    let mut message = clusters_of::Cluster {
        name: written.name,
        connect_timeout: written.connect_timeout,
        load_assignment: written.load_assignment,
        circuit_breakers: written.circuit_breakers,
        outlier_detection: written.outlier_detection,
        ..Default::default()
    };
    // The others are not in every language.
    if is_hashed {
        message.lb_policy = LbPolicy::RingHash.into();
        message.lb_config = written.lb_config;
    }
    for group in message.load_assignment.iter_mut().flat_map(|assignment| &mut assignment.endpoints) {
        weigh(group);
    }
    match cluster.discovery {
        Discovery::Static => by_endpoints(&mut message, shelf),
        _ => {
            let kind = ClusterDiscoveryType::Type(DiscoveryType::LogicalDns.into());
            message.cluster_discovery_type = Some(kind);
        }
    }
    shelf.add(Kind::Cluster, &cluster.name, &message);
}

/// gRPC asks for a locality, and passes one by that has no weight. Where none is said, each endpoint counts the same.
fn weigh(group: &mut endpoint::LocalityLbEndpoints) {
    group.locality.get_or_insert_default();
    if group.load_balancing_weight.is_none() {
        let weights = group
            .lb_endpoints
            .iter()
            .map(|endpoint| endpoint.load_balancing_weight.map_or(1, |weight| weight.value));
        group.load_balancing_weight = Some(value::number(weights.sum()));
    }
}

fn write_host(table: &RouteTable, host: &VirtualHost, shelf: &mut Shelf) {
    let spoken = host.rules.iter().filter_map(|rule| {
        let matches: Vec<Match> = rule.matches.iter().filter(|said| is_matched(said)).cloned().collect();
        (!matches.is_empty()).then(|| Rule { matches, ..rule.clone() })
    });
    let host = VirtualHost { rules: spoken.collect(), ..host.clone() };
    let has_fault = host
        .rules
        .iter()
        .any(|rule| matches!(&rule.action, Action::Forward(forward) if forward.fault.is_some()));
    let only = RouteTable { virtual_hosts: vec![host.clone()], ..RouteTable::default() };
    let mut message = routes::write(&only);
    for written in &mut message.virtual_hosts {
        // Each has a name of its own to be found by.
        written.domains = vec!["*".to_owned()];
        written.routes.iter_mut().for_each(of_grpc);
    }
    let name = format!("{}/{}", table.name, host.name);
    name.clone_into(&mut message.name);
    shelf.add(Kind::Routes, &name, &message);
    for domain in &host.domains {
        let Domain::Exact(domain) = domain else { continue };
        shelf.add(Kind::Listener, domain, &listener(domain, &name, has_fault));
    }
}

fn of_grpc(route: &mut route::Route) {
    route.typed_per_filter_config.retain(|filter, _| filter == FAULT_FILTER);
    route.metadata = None;
    let Some(route::route::Action::Route(action)) = &mut route.action else { return };
    // gRPC has another word for what Envoy calls the timeout.
    if let Some(timeout) = action.timeout.take().filter(|timeout| *timeout != Default::default()) {
        action.max_stream_duration = Some(route::route_action::MaxStreamDuration {
            max_stream_duration: Some(timeout),
            ..Default::default()
        });
    }
}

fn listener(name: &str, routes: &str, has_fault: bool) -> proto::Listener {
    use hcm::http_connection_manager::RouteSpecifier;
    let fault = has_fault.then(|| http::filter(FAULT_FILTER, pack(&fault::HttpFault::default())));
    let router = http::filter(http::ROUTER, pack(&router::Router::default()));
    let rds = hcm::Rds { config_source: Some(same_stream()), route_config_name: routes.to_owned() };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: name.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: fault.into_iter().chain([router]).collect(),
        ..Default::default()
    };
    proto::Listener {
        name: name.to_owned(),
        api_listener: Some(proto::ApiListener { api_listener: Some(pack(&manager)) }),
        ..Default::default()
    }
}
