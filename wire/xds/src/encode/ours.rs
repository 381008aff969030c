//! A configuration for naru: in Envoy's words what these say as it is, in words of our own all else.
//!
//! How requests are read is always said by our own. A rule or a cluster is when Envoy's words for it do not read back as
//! the same: so nothing can be left out, whatever these words have no room for. What is said of a rule depends on nothing
//! but that rule, so that a change of one changes one.

use std::collections::HashMap;

use naru_spec::{
    Cluster, ClusterChoice, Discovery, FilterChain, Http, Listener, LoadBalancing, RouteTable, Rule,
    TcpProxy, VirtualHost,
};

use super::http::{ROUTER, filter};
use super::{clusters, listener as words, routes};
use crate::decode;
use crate::ours::{NAME, Process, Shell, pack, without_origin};
use crate::proto::{Any, cluster, hcm, listener as proto, route, router};

pub(super) fn listener(said: &Listener, process: &Process) -> proto::Listener {
    let bare = Listener { chains: said.chains.iter().map(without_http).collect(), ..said.clone() };
    let mut message = words::write(&bare);
    let shell = shell(&bare, process, &message);
    if !shell.tcp.is_empty() {
        let chains = bare
            .chains
            .iter()
            .map(|chain| FilterChain { tcp: chain.tcp.as_ref().map(bare_tcp), ..chain.clone() });
        message = words::write(&Listener { chains: chains.collect(), ..bare.clone() });
    }
    for (chain, written) in said.chains.iter().zip(&mut message.filter_chains) {
        let Some(last) = written.filters.last_mut().filter(|_| chain.tcp.is_none()) else { continue };
        let said = manager(&chain.http, pack(&chain.http));
        last.config_type = Some(proto::filter::ConfigType::TypedConfig(crate::schema::pack(&said)));
    }
    if shell != Shell::default() {
        message.listener_filters.push(proto::ListenerFilter {
            name: NAME.to_owned(),
            config_type: Some(proto::listener_filter::ConfigType::TypedConfig(pack(&shell))),
            ..Default::default()
        });
    }
    message
}

fn without_http(chain: &FilterChain) -> FilterChain {
    let tcp = chain.tcp.clone().map(|mut tcp| {
        tcp.origin.clear();
        tcp
    });
    FilterChain {
        name: chain.name.clone(),
        server_names: chain.server_names.clone(),
        networks: chain.networks.clone(),
        transport: chain.transport,
        tls: chain.tls.clone(),
        http: Http { codec: chain.http.codec, ..Http::new(NAME, RouteTable::default()) },
        tcp,
        connection_limit: chain.connection_limit.clone(),
        handshake_timeout: chain.handshake_timeout,
    }
}

/// All that is said in Envoy's words of a TCP proxy that is said in ours.
pub(crate) fn bare_tcp(tcp: &TcpProxy) -> TcpProxy {
    let first = tcp.clusters.names().next().unwrap_or_default();
    TcpProxy::new(NAME, ClusterChoice::One(first.to_owned()))
}

/// What does not read back as it was written.
fn shell(said: &Listener, process: &Process, message: &proto::Listener) -> Shell {
    let read = decode::listener_alone(message);
    let mut tcp: Vec<_> = said.chains.iter().map(|chain| chain.tcp.clone()).collect();
    let has_log = tcp.iter().flatten().any(|tcp| !tcp.access_log.is_empty());
    if !has_log
        && tcp.iter().zip(&read.chains).all(|(tcp, chain)| *tcp == chain.tcp)
        && read.chains.len() == tcp.len()
    {
        tcp.clear();
    }
    Shell {
        connections: (read.connections != said.connections).then_some(said.connections),
        tcp,
        process: process.clone(),
    }
}

fn manager(http: &Http, part: Any) -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::RouteSpecifier;
    hcm::HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(table(&http.routes))),
        ..bare_manager(part)
    }
}

/// All that the message of a chain is beside where its routes are: a reader asks whether it is.
pub(crate) fn bare_manager(part: Any) -> hcm::HttpConnectionManager {
    hcm::HttpConnectionManager {
        stat_prefix: NAME.to_owned(),
        http_filters: vec![
            filter(NAME, part),
            filter(ROUTER, crate::schema::pack(&router::Router::default())),
        ],
        ..Default::default()
    }
}

fn table(said: &RouteTable) -> route::RouteConfiguration {
    let bare = RouteTable {
        name: said.name.clone(),
        virtual_hosts: said.virtual_hosts.iter().map(without_rules).collect(),
        ignores_port: said.ignores_port,
        request_headers: said.request_headers.clone(),
        response_headers: said.response_headers.clone(),
    };
    let mut message = routes::write(&bare);
    for (host, written) in said.virtual_hosts.iter().zip(&mut message.virtual_hosts) {
        written.routes = host.rules.iter().map(rule).collect();
    }
    message
}

fn without_rules(host: &VirtualHost) -> VirtualHost {
    VirtualHost {
        name: host.name.clone(),
        domains: host.domains.clone(),
        rules: Vec::new(),
        tls: host.tls,
        request_headers: host.request_headers.clone(),
        response_headers: host.response_headers.clone(),
    }
}

/// One route for one rule, however many blocks it has. What Envoy has maps for is said by ours: it is for filters, of which
/// the chain has none of Envoy's, or as metadata, which are ours already.
pub(super) fn rule(said: &Rule) -> route::Route {
    let bare = without_origin(said);
    if let [block] = bare.matches.as_slice() {
        let written = routes::route(&bare, block);
        let has_maps = written.metadata.is_some() || !written.typed_per_filter_config.is_empty();
        if !has_maps && decode::rule_alone(&written).is_some_and(|read| read == bare) {
            return written;
        }
    }
    carrier(pack(&bare))
}

/// A route that says nothing else; whoever goes by what else stands in it serves nobody.
pub(crate) fn carrier(part: Any) -> route::Route {
    use route::route_match::PathSpecifier;
    let unavailable = route::DirectResponseAction { status: 503, ..Default::default() };
    let everything = route::RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    route::Route {
        r#match: Some(everything),
        action: Some(route::route::Action::DirectResponse(unavailable)),
        typed_per_filter_config: HashMap::from([(NAME.to_owned(), part)]),
        ..Default::default()
    }
}

pub(super) fn cluster(said: &Cluster) -> cluster::Cluster {
    let written = clusters::write(said);
    if decode::cluster_alone(&written).is_some_and(|read| is_same(&read, said)) {
        return written;
    }
    let mut message = clusters::write(&bare_cluster(said));
    message.typed_extension_protocol_options.insert(NAME.to_owned(), pack(said));
    message
}

/// But for the order of endpoints: they are said by their localities.
fn is_same(read: &Cluster, said: &Cluster) -> bool {
    let bare = |cluster: &Cluster| Cluster { endpoints: Vec::new(), ..cluster.clone() };
    bare(read) == bare(said)
}

/// What of a cluster Envoy's words say beside our own: its endpoints, what they are weighed by, and its certificates.
fn bare_cluster(said: &Cluster) -> Cluster {
    let balancing = &said.load_balancing;
    let discovery = match &said.discovery {
        Discovery::OnDemand(_) => Discovery::Static,
        other => other.clone(),
    };
    let mut bare = Cluster::new(said.name.clone(), discovery, said.endpoints.clone());
    bare.tls.clone_from(&said.tls);
    bare.load_balancing = LoadBalancing {
        overprovisioning_percent: balancing.overprovisioning_percent,
        weighs_localities: balancing.weighs_localities,
        ..LoadBalancing::round_robin()
    };
    bare
}
