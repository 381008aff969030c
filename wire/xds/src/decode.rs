//! Envoy's messages, read as naru's configuration.
//!
//! Comes in: messages that the check of `supported` has seen, so that what is not supported at all
//! is told already. Goes out: a configuration, and every problem with the path of its value. A
//! value that is wrong is told and replaced by a harmless one, so that reading can go on: who calls
//! looks at the problems first.

// From outside in.
mod listener;
mod http;
mod ours;
mod external;
mod identity;
mod condition;
mod tcp;
mod udp;
mod quic;
mod routes;
mod per_filter;
mod recovery;
mod local_rate;
mod rates;
mod edge;
mod matching;
mod connect;
mod content;
mod headers;
mod clusters;
mod balancing;
mod guards;
mod limits;
mod overload;
mod tls;
mod access_log;
mod value;

use naru_spec::config::Place;
use naru_spec::route::Action;
use naru_spec::{Admin, Cluster, Config, Listener, Problem, RouteTable, Store};

pub(crate) use clusters::HTTP_OPTIONS;

use crate::findings::{Findings, code};
use crate::ours::Process;
use crate::supported::Check;
use crate::{Schema, proto};
use naru_spec::Path;

/// What was read, and its warnings; or every problem, the warnings among them.
pub type Decoded<T> = Result<(T, Vec<Problem>), Vec<Problem>>;

/// A whole bootstrap.
pub fn bootstrap(schema: &Schema, message: &proto::bootstrap::Bootstrap) -> Decoded<Config> {
    decoded(schema, message, read_bootstrap)
}

/// A listener; whether the clusters it leads to exist is not asked.
pub fn listener(schema: &Schema, message: &proto::listener::Listener) -> Decoded<Listener> {
    decoded(schema, message, listener::read)
}

pub(crate) use clusters::read as read_cluster;
pub(crate) use listener::{Ready, read as read_listener, read_with as read_listener_with};
pub(crate) use rates::name_source;
pub(crate) use routes::{read as read_routes, read_host};

/// The smallest configuration with this part of ours.
pub(crate) fn fuzz_part(part: &str, json: &str) -> Option<Config> {
    let mut findings = Findings::default();
    let config = ours::alone(part, json, &mut findings)?;
    (!findings.has_errors()).then(|| with_any_cluster(&config))
}

/// What listeners say of the process that has them: of several the first counts, and the stores of all.
pub(crate) fn take_process<'a>(
    config: &mut Config,
    listeners: impl Iterator<Item = &'a proto::listener::Listener>,
) {
    for (nth, process) in listeners.filter_map(ours::process).enumerate() {
        let Process { cache, stores, surge, overload } = process;
        if nth == 0 {
            (config.cache, config.surge) = (cache, surge);
            // Whoever started it knows its machine.
            config.overload = config.overload.take().or(overload);
        }
        let is_new = |store: &Store| config.stores.iter().all(|known| known.name != store.name);
        let new: Vec<Store> = stores.into_iter().filter(is_new).collect();
        config.stores.extend(new);
    }
}

/// A cluster as it reads back, where it does.
pub(crate) fn cluster_alone(said: &proto::cluster::Cluster) -> Option<Cluster> {
    let mut findings = Findings::default();
    let cluster = clusters::read(said, &Path::ROOT, &mut findings);
    (!findings.has_errors()).then_some(cluster)
}

/// The same of a rule that nobody says anything above.
pub(crate) fn rule_alone(said: &proto::route::Route) -> Option<naru_spec::Rule> {
    let mut findings = Findings::default();
    let rule = routes::alone(said, &mut findings);
    (!findings.has_errors()).then_some(rule)
}

/// A listener as it reads back, whatever is wrong with it.
pub(crate) fn listener_alone(said: &proto::listener::Listener) -> Listener {
    listener::read(said, &Path::ROOT, &mut Findings::default())
}

/// The endpoints of a cluster, by themselves.
pub(crate) fn read_endpoints(
    said: &proto::endpoint::ClusterLoadAssignment,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let cluster = proto::cluster::Cluster::default();
    let discovery = naru_spec::Discovery::Static;
    balancing::endpoints(&said.endpoints, &cluster, &discovery, &path.field("endpoints"), findings);
}

/// A cluster.
pub fn cluster(schema: &Schema, message: &proto::cluster::Cluster) -> Decoded<Cluster> {
    decoded(schema, message, clusters::read)
}

/// A table of routes; whether the clusters it leads to exist is not asked.
pub fn routes(schema: &Schema, message: &proto::route::RouteConfiguration) -> Decoded<RouteTable> {
    decoded(schema, message, routes::read)
}

fn decoded<M: prost::Message + prost::Name, T>(
    schema: &Schema,
    message: &M,
    read: fn(&M, &Path<'_>, &mut Findings<'_>) -> T,
) -> Decoded<T> {
    let mut findings = Findings::default();
    match schema.reflect(message) {
        Some(dynamic) => Check::new().message(&dynamic, &Path::ROOT, &mut findings),
        None => findings.error(&Path::ROOT, code::SYNTAX, "the message is nested too deeply", ""),
    }
    let value = read(message, &Path::ROOT, &mut findings);
    let has_errors = findings.has_errors();
    let problems = findings.into_problems();
    if has_errors { Err(problems) } else { Ok((value, problems)) }
}

pub(crate) fn read_bootstrap(
    message: &proto::bootstrap::Bootstrap,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Config {
    let mut config = Config::default();
    if let Some(admin) = &message.admin {
        let path = path.field("admin.address");
        config.admin = admin
            .address
            .as_ref()
            .map(|address| Admin { address: value::literal_address(address, &path, findings) });
    }
    if let Some(said) = &message.overload_manager {
        config.overload = overload::read(said, &path.field("overload_manager"), findings);
    }
    let Some(resources) = &message.static_resources else { return config };
    let path = path.field("static_resources");
    let listeners = path.field("listeners");
    for (at, listener) in resources.listeners.iter().enumerate() {
        config.listeners.push(listener::read(listener, &listeners.at(at), findings));
    }
    take_process(&mut config, resources.listeners.iter());
    let clusters = path.field("clusters");
    for (at, cluster) in resources.clusters.iter().enumerate() {
        config.clusters.push(clusters::read(cluster, &clusters.at(at), findings));
    }
    let own = message.node.as_ref().map_or("", |node| node.cluster.as_str());
    name_source(&mut config, own);
    if message.dynamic_resources.as_ref().is_some_and(|said| said.cds_config.is_some()) {
        tell_problems_of_the_whole(&with_any_cluster(&config), resources, &path, findings);
    } else {
        tell_problems_of_the_whole(&config, resources, &path, findings);
    }
    config
}

/// As if all clusters were there that it leads to: they may come from a control plane.
fn with_any_cluster(config: &Config) -> Config {
    let mut whole = config.clone();
    let known: std::collections::BTreeSet<String> =
        whole.clusters.iter().map(|one| one.name.clone()).collect();
    let led_to = whole.listeners.iter().flat_map(crate::discovery::clusters_of);
    let others: std::collections::BTreeSet<String> = led_to.filter(|name| !known.contains(name)).collect();
    let stand_in = |name| Cluster::new(name, naru_spec::Discovery::Static, Vec::new());
    whole.clusters.extend(others.into_iter().map(stand_in));
    whole
}

/// [`Config::problems`], with the paths of the document.
fn tell_problems_of_the_whole(
    config: &Config,
    resources: &proto::bootstrap::bootstrap::StaticResources,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let listeners = path.field("listeners");
    let clusters = path.field("clusters");
    let names: std::collections::BTreeSet<&str> = config.clusters.iter().map(|c| c.name.as_str()).collect();
    // Of one rule there are as many problems as clusters that are missing, in order.
    let mut told: (Option<Place>, usize) = (None, 0);
    let had_errors = findings.has_errors();
    for (place, invalid) in config.problems() {
        let mut error = |path: &Path<'_>, code| findings.error(path, code, &invalid.message, &invalid.hint);
        match &place {
            // Told where it was read; what no bootstrap file says.
            Place::Overload(_) | Place::Surge => {}
            Place::Cluster(at) => error(&clusters.at(*at).field("name"), code::DUPLICATE),
            Place::Balancing(at) => error(&clusters.at(*at).field("lb_policy"), code::INVALID_VALUE),
            Place::Guard { cluster, part } => {
                error(&guards::path(&clusters.at(*cluster), *part), code::INVALID_VALUE);
            }
            // Told where it was read, too.
            Place::Listener(at) if had_errors && is_of_gate(config, *at, &invalid) => {}
            Place::Listener(at) => {
                let is_about_address = invalid.message.contains("address");
                let field = if is_about_address { "address.socket_address" } else { "name" };
                error(&listeners.at(*at).field(field), code::DUPLICATE);
            }
            Place::ChainTls { .. } | Place::ClusterTls(_) => {
                tell_of_tls(&place, resources, path, &mut |path| error(path, code::INVALID_VALUE));
            }
            Place::VirtualHost { listener, chain, virtual_host } => {
                let listener_path = listeners.at(*listener);
                table_of(&listener_path, resources, *listener, *chain, |table| {
                    let hosts = table.field("virtual_hosts");
                    let host = hosts.at(*virtual_host);
                    let domains = host.field("domains");
                    let read =
                        &config.listeners[*listener].chains[*chain].http.routes.virtual_hosts[*virtual_host];
                    let quoted = |domain: &dyn std::fmt::Display| format!("'{domain}'");
                    match read.domains.iter().rposition(|d| invalid.message.contains(&quoted(d))) {
                        Some(at) => error(&domains.at(at), code::DUPLICATE),
                        None => error(&domains, code::DUPLICATE),
                    }
                });
            }
            Place::Tcp { listener, chain } => {
                let tcp = config.listeners[*listener].chains[*chain].tcp.as_ref();
                filter_of(&listeners.at(*listener), resources, *listener, *chain, |filter| {
                    tcp::tell(tcp, &invalid, &filter.field("typed_config"), &mut error);
                });
            }
            Place::Rule { listener, chain, virtual_host, rule } => {
                let nth = if told.0.as_ref() == Some(&place) { told.1 + 1 } else { 0 };
                told = (Some(place.clone()), nth);
                let listener_path = listeners.at(*listener);
                table_of(&listener_path, resources, *listener, *chain, |table| {
                    let hosts = table.field("virtual_hosts");
                    let host = hosts.at(*virtual_host);
                    let routes = host.field("routes");
                    let route = routes.at(*rule);
                    let chain = &config.listeners[*listener].chains[*chain];
                    let read = &chain.http.routes.virtual_hosts[*virtual_host].rules[*rule];
                    let Action::Forward(forward) = &read.action else {
                        return error(&route, code::UNKNOWN_CLUSTER);
                    };
                    let mirrors = forward.mirrors.iter().map(|mirror| mirror.cluster.as_str());
                    let all = forward.cluster_names().chain(mirrors).enumerate();
                    let missing = all.filter(|(_, name)| !names.contains(name)).nth(nth);
                    let of_action = forward.cluster_names().count();
                    let of_groups = of_action - forward.clusters.names().count();
                    match (&forward.clusters, missing) {
                        // An empty name is told as missing.
                        (_, Some((_, ""))) => {}
                        (_, Some((at, _))) if at >= of_action => {
                            let mirrors = route.field("route.request_mirror_policies");
                            error(&mirrors.at(at - of_action).field("cluster"), code::UNKNOWN_CLUSTER);
                        }
                        (_, Some((at, _))) if at >= of_action - of_groups => {
                            error(&route.field("metadata"), code::UNKNOWN_CLUSTER);
                        }
                        (naru_spec::ClusterChoice::Weighted(_), Some((at, _))) => {
                            let clusters = route.field("route.weighted_clusters.clusters");
                            error(&clusters.at(at).field("name"), code::UNKNOWN_CLUSTER);
                        }
                        _ => error(&route.field("route.cluster"), code::UNKNOWN_CLUSTER),
                    }
                });
            }
        }
    }
}

/// Whether a filter of the listener is meant.
fn is_of_gate(config: &Config, listener: usize, invalid: &naru_spec::Invalid) -> bool {
    let chains = config.listeners.get(listener).into_iter().flat_map(|listener| &listener.chains);
    chains.flat_map(|chain| chain.http.gate.problems()).any(|known| known == *invalid)
}

/// Tells what was found wrong at places of a configuration that was read from this message.
pub(crate) fn tell_at_places(
    message: &proto::bootstrap::Bootstrap,
    found: &[(Place, naru_spec::Invalid)],
    findings: &mut Findings<'_>,
) {
    let Some(resources) = &message.static_resources else { return };
    let root = Path::ROOT.field("static_resources");
    let listeners = root.field("listeners");
    let clusters = root.field("clusters");
    for (place, invalid) in found {
        let mut tell =
            |path: &Path<'_>| findings.error(path, code::INVALID_VALUE, &invalid.message, &invalid.hint);
        match place {
            // Told when it was loaded.
            Place::Overload(_) | Place::Surge => {}
            Place::Cluster(at) => tell(&clusters.at(*at)),
            Place::Balancing(at) => tell(&clusters.at(*at).field("lb_policy")),
            Place::Guard { cluster, part } => tell(&guards::path(&clusters.at(*cluster), *part)),
            Place::Listener(at) => tell(&listeners.at(*at)),
            Place::ChainTls { .. } | Place::ClusterTls(_) => tell_of_tls(place, resources, &root, &mut tell),
            Place::Tcp { listener, chain } => {
                filter_of(&listeners.at(*listener), resources, *listener, *chain, |filter| tell(filter));
            }
            Place::VirtualHost { listener, chain, virtual_host } => {
                table_of(&listeners.at(*listener), resources, *listener, *chain, |table| {
                    tell(&table.field("virtual_hosts").at(*virtual_host));
                });
            }
            Place::Rule { listener, chain, virtual_host, rule } => {
                table_of(&listeners.at(*listener), resources, *listener, *chain, |table| {
                    tell(&table.field("virtual_hosts").at(*virtual_host).field("routes").at(*rule));
                });
            }
        }
    }
}

/// The path of what a chain or a cluster says of TLS.
fn tell_of_tls(
    place: &Place,
    resources: &proto::bootstrap::bootstrap::StaticResources,
    root: &Path<'_>,
    tell: &mut dyn FnMut(&Path<'_>),
) {
    match place {
        Place::ClusterTls(at) => tell(&root.field("clusters").at(*at).field("transport_socket")),
        Place::ChainTls { listener, chain } => {
            let listeners = root.field("listeners");
            let path = listeners.at(*listener);
            let chains =
                resources.listeners.get(*listener).map_or(0, |listener| listener.filter_chains.len());
            if *chain < chains {
                tell(&path.field("filter_chains").at(*chain).field("transport_socket"));
            } else {
                tell(&path.field("default_filter_chain.transport_socket"));
            }
        }
        _ => {}
    }
}

/// The path of the routes of a listener's chain; the default chain comes after the others.
fn table_of(
    listener: &Path<'_>,
    resources: &proto::bootstrap::bootstrap::StaticResources,
    listener_at: usize,
    chain_at: usize,
    tell: impl FnOnce(&Path<'_>),
) {
    filter_of(listener, resources, listener_at, chain_at, |filter| {
        tell(&filter.field("typed_config.route_config"));
    });
}

/// The path of the filter that serves, of a listener's chain.
fn filter_of(
    listener: &Path<'_>,
    resources: &proto::bootstrap::bootstrap::StaticResources,
    listener_at: usize,
    chain_at: usize,
    tell: impl FnOnce(&Path<'_>),
) {
    let said = resources.listeners.get(listener_at);
    let chains = listener.field("filter_chains");
    match said.and_then(|said| said.filter_chains.get(chain_at)) {
        Some(chain) => {
            tell(&chains.at(chain_at).field("filters").at(listener::place_of_service(chain)));
        }
        None => {
            let chain = said.and_then(|said| said.default_filter_chain.as_ref());
            let at = chain.map_or(0, listener::place_of_service);
            tell(&listener.field("default_filter_chain.filters").at(at));
        }
    }
}
