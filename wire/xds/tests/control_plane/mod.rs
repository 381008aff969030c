//! A control plane without a network, and a proxy that does what its plans say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_proto;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint_proto;
use envoy_types::pb::envoy::config::listener::v3 as listener_proto;
use envoy_types::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use envoy_types::pb::envoy::config::route::v3 as route_proto;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::{Duration as ProtoDuration, UInt32Value};
use naru_base::chance::Chance;
use naru_base::{Instant, WallTime};
use naru_spec::Config;
use naru_xds::discovery::{
    Any, Client, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Kind,
    Plan, Resource, read, write,
};
use prost::{Message, Name};

/// It takes its time to be made.
static SCHEMA: LazyLock<naru_xds::Schema> = LazyLock::new(naru_xds::Schema::new);

/// The kinds that are asked for.
pub const KINDS: [Kind; 6] =
    [Kind::Cluster, Kind::Endpoints, Kind::Secret, Kind::Listener, Kind::Routes, Kind::VirtualHost];

pub fn bootstrap(is_delta: bool) -> String {
    let api = if is_delta { "DELTA_GRPC" } else { "GRPC" };
    format!(
        "node: {{ id: one, cluster: test }}
dynamic_resources:
  ads_config:
    api_type: {api}
    transport_api_version: V3
    grpc_services: [{{ envoy_grpc: {{ cluster_name: xds }} }}]
  cds_config: {{ ads: {{}} }}
  lds_config: {{ ads: {{}} }}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: xds
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }} }} }}] }}]
"
    )
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: write(message) }
}

fn ads() -> core::ConfigSource {
    use core::config_source::ConfigSourceSpecifier;
    core::ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    }
}

/// Whose endpoints are asked for.
pub fn cluster(name: &str) -> cluster_proto::Cluster {
    use cluster_proto::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
    cluster_proto::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), ..Default::default() }),
        connect_timeout: Some(ProtoDuration { seconds: 1, nanos: 0 }),
        ..Default::default()
    }
}

fn socket(address: &str, port: u32) -> core::Address {
    let socket = core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

pub fn endpoints(name: &str, addresses: &[&str]) -> endpoint_proto::ClusterLoadAssignment {
    let all = addresses.iter().map(|address| endpoint_proto::LbEndpoint {
        host_identifier: Some(endpoint_proto::lb_endpoint::HostIdentifier::Endpoint(
            endpoint_proto::Endpoint { address: Some(socket(address, 80)), ..Default::default() },
        )),
        ..Default::default()
    });
    endpoint_proto::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint_proto::LocalityLbEndpoints {
            lb_endpoints: all.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Whose routes are asked for.
pub fn listener(name: &str, port: u32, routes: &str) -> listener_proto::Listener {
    use hcm::http_connection_manager::RouteSpecifier;
    let routes = hcm::Rds { config_source: Some(ads()), route_config_name: routes.to_owned() };
    of_manager(name, port, RouteSpecifier::Rds(routes))
}

fn of_manager(
    name: &str,
    port: u32,
    routes: hcm::http_connection_manager::RouteSpecifier,
) -> listener_proto::Listener {
    let manager = hcm::HttpConnectionManager {
        stat_prefix: name.to_owned(),
        route_specifier: Some(routes),
        http_filters: vec![hcm::HttpFilter {
            name: "router".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&Router::default()))),
            ..Default::default()
        }],
        ..Default::default()
    };
    let filter = listener_proto::Filter {
        name: "http".to_owned(),
        config_type: Some(listener_proto::filter::ConfigType::TypedConfig(any(&manager))),
    };
    listener_proto::Listener {
        name: name.to_owned(),
        address: Some(socket("127.0.0.1", port)),
        filter_chains: vec![listener_proto::FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

/// With a filter that asks somebody who counts, before its router.
pub fn counted(mut listener: listener_proto::Listener, cluster: &str) -> listener_proto::Listener {
    use listener_proto::filter::ConfigType;
    let filter = &mut listener.filter_chains[0].filters[0];
    let Some(ConfigType::TypedConfig(said)) = &mut filter.config_type else { panic!("it says what it is") };
    let mut manager = hcm::HttpConnectionManager::decode(said.value.as_slice()).unwrap();
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(
            core::grpc_service::EnvoyGrpc { cluster_name: cluster.to_owned(), ..Default::default() },
        )),
        ..Default::default()
    };
    let counts = RateLimit {
        domain: "edge".to_owned(),
        rate_limit_service: Some(RateLimitServiceConfig {
            grpc_service: Some(service),
            transport_api_version: core::ApiVersion::V3.into(),
        }),
        ..Default::default()
    };
    let filter = hcm::HttpFilter {
        name: "envoy.filters.http.ratelimit".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&counts))),
        ..Default::default()
    };
    manager.http_filters.insert(0, filter);
    *said = any(&manager);
    listener
}

pub fn secured(mut listener: listener_proto::Listener, secret: &str) -> listener_proto::Listener {
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![tls::SdsSecretConfig {
                name: secret.to_owned(),
                sds_config: Some(ads()),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    listener.filter_chains[0].transport_socket = Some(core::TransportSocket {
        name: "tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any(&context))),
    });
    listener
}

pub fn secret(name: &str, chain: &str, key: &str) -> tls::Secret {
    let inline = |text: &str| {
        let specifier = core::data_source::Specifier::InlineString(text.to_owned());
        Some(core::DataSource { specifier: Some(specifier), ..Default::default() })
    };
    let certificate = tls::TlsCertificate {
        certificate_chain: inline(chain),
        private_key: inline(key),
        ..Default::default()
    };
    tls::Secret { name: name.to_owned(), r#type: Some(tls::secret::Type::TlsCertificate(certificate)) }
}

/// A route to each of these clusters.
pub fn routes(name: &str, clusters: &[&str]) -> route_proto::RouteConfiguration {
    use route_proto::route::Action;
    use route_proto::route_action::ClusterSpecifier;
    use route_proto::route_match::PathSpecifier;
    let all = clusters.iter().map(|cluster| route_proto::Route {
        r#match: Some(route_proto::RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(format!("/{cluster}"))),
            ..Default::default()
        }),
        action: Some(Action::Route(route_proto::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster((*cluster).to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    });
    route_proto::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![route_proto::VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: all.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The same table, whose virtual hosts come by themselves: one for each of these domains and clusters.
pub fn apart(
    name: &str,
    hosts: &[(&str, &[&str])],
) -> (route_proto::RouteConfiguration, Vec<route_proto::VirtualHost>) {
    let vhds = route_proto::Vhds { config_source: Some(ads()) };
    let table =
        route_proto::RouteConfiguration { virtual_hosts: Vec::new(), vhds: Some(vhds), ..routes(name, &[]) };
    let hosts = hosts.iter().map(|(domain, clusters)| {
        let mut host = routes(name, clusters).virtual_hosts.remove(0);
        (host.name, host.domains) = ((*domain).to_owned(), vec![(*domain).to_owned()]);
        host
    });
    (table, hosts.collect())
}

pub fn addresses(config: &Config, cluster: &str) -> Vec<String> {
    let cluster = config.clusters.iter().find(|known| known.name == cluster).unwrap();
    cluster.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

/// What the control plane wants to be.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub clusters: Vec<cluster_proto::Cluster>,
    pub endpoints: Vec<endpoint_proto::ClusterLoadAssignment>,
    pub listeners: Vec<listener_proto::Listener>,
    pub routes: Vec<route_proto::RouteConfiguration>,
    /// Of tables, by their names, whose virtual hosts come by themselves.
    pub hosts: BTreeMap<String, Vec<route_proto::VirtualHost>>,
    pub secrets: Vec<tls::Secret>,
}

impl Truth {
    fn of(&self, kind: Kind) -> Vec<(String, Any)> {
        match kind {
            Kind::Cluster => self.clusters.iter().map(|one| (one.name.clone(), any(one))).collect(),
            Kind::Endpoints => {
                self.endpoints.iter().map(|one| (one.cluster_name.clone(), any(one))).collect()
            }
            Kind::Listener => self.listeners.iter().map(|one| (one.name.clone(), any(one))).collect(),
            Kind::Routes => self.routes.iter().map(|one| (one.name.clone(), any(one))).collect(),
            Kind::Secret => self.secrets.iter().map(|one| (one.name.clone(), any(one))).collect(),
            Kind::VirtualHost => {
                let all =
                    self.hosts.iter().flat_map(|(table, hosts)| hosts.iter().map(move |one| (table, one)));
                all.map(|(table, one)| (format!("{table}/{}", one.name), any(one))).collect()
            }
        }
    }
}

/// What a control plane knows of a kind on a stream.
#[derive(Debug, Default)]
struct Asked {
    is_open: bool,
    names: BTreeSet<String>,
    /// Of delta: what the proxy is said to have.
    sent: BTreeMap<String, String>,
    at_open: Vec<String>,
    /// Of a state of the world: the version that the proxy said last.
    said: String,
}

pub struct Plane {
    pub client: Client,
    is_delta: bool,
    pub truth: Truth,
    asked: BTreeMap<Kind, Asked>,
    opened: Vec<Kind>,
    /// What the proxy runs by.
    pub running: Config,
    pub wholes: usize,
    pub parts: usize,
    /// Why no plan can be carried out.
    pub fails: Option<String>,
    pub refusals: Vec<String>,
    /// By kind: of the last response that was accepted.
    accepted: BTreeMap<Kind, String>,
    version: u64,
    now: Instant,
}

impl Plane {
    pub fn new(is_delta: bool) -> Plane {
        let loaded = naru_xds::load_with(&SCHEMA, "f.yaml", &bootstrap(is_delta));
        let loaded = loaded.unwrap_or_else(|found| panic!("{found:#?}"));
        let client = Client::new(SCHEMA.clone(), *loaded.dynamic.unwrap(), 7, Instant::ZERO);
        let running = client.config();
        assert_eq!(running, loaded.config);
        Plane {
            client,
            is_delta,
            truth: Truth::default(),
            asked: BTreeMap::new(),
            opened: Vec::new(),
            running,
            wholes: 0,
            parts: 0,
            fails: None,
            refusals: Vec::new(),
            accepted: BTreeMap::new(),
            version: 0,
            now: Instant::ZERO,
        }
    }

    /// With a listener whose routes lead to a cluster with an endpoint.
    pub fn begun(is_delta: bool) -> Plane {
        let mut plane = Plane::new(is_delta);
        plane.truth.clusters = vec![cluster("a")];
        plane.truth.endpoints = vec![endpoints("a", &["10.0.0.1"])];
        plane.truth.listeners = vec![listener("edge", 10_001, "web")];
        plane.truth.routes = vec![routes("web", &["a"])];
        plane.connect();
        for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes] {
            plane.say(kind);
        }
        assert_eq!(plane.in_force(), (vec!["edge"], vec!["a", "xds"]));
        plane
    }

    pub fn running() -> Plane {
        Plane::begun(false)
    }

    pub fn connect(&mut self) {
        self.asked.clear();
        self.opened.clear();
        self.client.connected(self.now);
        assert_eq!(self.hear(), Vec::<(Kind, String, bool)>::new(), "nothing is answered yet");
    }

    pub fn lose(&mut self) {
        self.client.lost();
        self.asked.clear();
    }

    pub fn opened(&self) -> Vec<Kind> {
        self.opened.clone()
    }

    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.asked.get(&kind).map(|asked| asked.names.iter().cloned().collect()).unwrap_or_default()
    }

    pub fn known_at_open(&self, kind: Kind) -> Vec<String> {
        self.asked[&kind].at_open.clone()
    }

    pub fn in_force(&self) -> (Vec<&str>, Vec<&str>) {
        let listeners = self.running.listeners.iter().map(|one| one.name.as_str());
        (listeners.collect(), self.running.clusters.iter().map(|one| one.name.as_str()).collect())
    }

    /// Reads what the proxy says: of each answer its kind, nonce and whether it accepts.
    fn hear(&mut self) -> Vec<(Kind, String, bool)> {
        let mut answers = Vec::new();
        for bytes in self.client.take_requests() {
            let (kind, nonce, error) =
                if self.is_delta { self.hear_delta(&bytes) } else { self.hear_state(&bytes) };
            if nonce.is_some() || error.is_some() {
                answers.push((kind, nonce.unwrap_or_default(), error.is_none()));
            }
            self.refusals.extend(error);
        }
        answers
    }

    fn hear_state(&mut self, bytes: &[u8]) -> (Kind, Option<String>, Option<String>) {
        let request: DiscoveryRequest = read(bytes).unwrap();
        let kind = Kind::of_url(&request.type_url).unwrap();
        assert_eq!(request.node.unwrap().id, "one");
        let accepted = self.accepted.get(&kind).cloned().unwrap_or_default();
        let asked = self.asked.entry(kind).or_default();
        if !asked.is_open {
            assert_eq!(request.response_nonce, "", "a stream begins without a nonce");
            asked.at_open = vec![request.version_info.clone()];
            asked.at_open.retain(|version| !version.is_empty());
            self.opened.push(kind);
        }
        if request.error_detail.is_some() || request.response_nonce.is_empty() {
            assert_eq!(request.version_info, accepted, "what was accepted last");
        }
        asked.said = request.version_info;
        asked.is_open = true;
        asked.names = request.resource_names.into_iter().collect();
        let nonce = Some(request.response_nonce).filter(|nonce| !nonce.is_empty());
        (kind, nonce, request.error_detail.map(|status| status.message))
    }

    fn hear_delta(&mut self, bytes: &[u8]) -> (Kind, Option<String>, Option<String>) {
        let request: DeltaDiscoveryRequest = read(bytes).unwrap();
        let kind = Kind::of_url(&request.type_url).unwrap();
        let asked = self.asked.entry(kind).or_default();
        if !asked.is_open {
            asked.sent = request.initial_resource_versions.clone().into_iter().collect();
            asked.at_open = asked.sent.keys().cloned().collect();
            self.opened.push(kind);
        } else {
            assert!(request.initial_resource_versions.is_empty(), "only a stream's first says what is known");
        }
        asked.is_open = true;
        asked.names.extend(request.resource_names_subscribe);
        for name in &request.resource_names_unsubscribe {
            assert!(asked.names.remove(name), "{name} was not asked for");
            asked.sent.retain(|sent, _| sent != name && !sent.starts_with(&format!("{name}/")));
        }
        let nonce = Some(request.response_nonce).filter(|nonce| !nonce.is_empty());
        (kind, nonce, request.error_detail.map(|status| status.message))
    }

    fn is_asked(&self, kind: Kind) -> bool {
        self.asked.get(&kind).is_some_and(|asked| asked.is_open)
    }

    /// Says what is true of a kind.
    pub fn say(&mut self, kind: Kind) {
        if !self.is_asked(kind) {
            return;
        }
        let is_wanted = |name: &String| {
            let names = &self.asked[&kind].names;
            match kind {
                Kind::VirtualHost => names.contains(name.rsplit_once('/').unwrap().0),
                _ => kind.is_whole() || names.contains(name),
            }
        };
        let all: Vec<(String, Any)> =
            self.truth.of(kind).into_iter().filter(|(name, _)| is_wanted(name)).collect();
        self.version += 1;
        let (version, nonce) = (self.version.to_string(), format!("n{}", self.version));
        let before = self.asked[&kind].sent.clone();
        let bytes = if self.is_delta {
            let sent = &mut self.asked.get_mut(&kind).unwrap().sent;
            let names: BTreeSet<&String> = all.iter().map(|(name, _)| name).collect();
            let mut removed: Vec<String> =
                sent.keys().filter(|name| !names.contains(name)).cloned().collect();
            if kind == Kind::VirtualHost {
                // There is none with the name of a table.
                removed.extend(self.asked.get(&kind).unwrap().names.iter().cloned());
            }
            let sent = &mut self.asked.get_mut(&kind).unwrap().sent;
            sent.retain(|name, _| names.contains(name));
            let resources = all.iter().map(|(name, any)| {
                sent.insert(name.clone(), version.clone());
                Resource {
                    name: name.clone(),
                    version: version.clone(),
                    resource: Some(any.clone()),
                    ..Default::default()
                }
            });
            write(&DeltaDiscoveryResponse {
                resources: resources.collect(),
                removed_resources: removed,
                type_url: kind.type_url().to_owned(),
                nonce: nonce.clone(),
                system_version_info: version.clone(),
                ..Default::default()
            })
        } else {
            state(kind, &version, &nonce, all.into_iter().map(|(_, any)| any).collect())
        };
        let refused = self.refusals.len();
        self.deliver(kind, &version, &nonce, &bytes);
        if self.refusals.len() > refused
            && let Some(asked) = self.asked.get_mut(&kind)
        {
            // What was refused is not what the proxy has.
            asked.sent = before;
        }
    }

    /// As a state of the world, whatever it is.
    pub fn say_bytes(&mut self, kind: Kind, resources: Vec<(String, Vec<u8>)>) {
        self.version += 1;
        let (version, nonce) = (self.version.to_string(), format!("n{}", self.version));
        let all = resources.into_iter().map(|(type_url, value)| Any { type_url, value }).collect();
        let is_asked = self.is_asked(kind);
        let bytes = state(kind, &version, &nonce, all);
        if is_asked {
            self.deliver(kind, &version, &nonce, &bytes);
        } else {
            self.client.receive(self.now, WallTime::default(), &bytes).unwrap();
        }
    }

    fn deliver(&mut self, kind: Kind, version: &str, nonce: &str, bytes: &[u8]) {
        self.client.receive(self.now, WallTime::default(), bytes).unwrap();
        self.carry_out();
        let answers = self.hear_of(kind, version, nonce);
        assert_eq!(answers.len(), 1, "each response is answered once: {answers:?}");
    }

    fn hear_of(&mut self, kind: Kind, version: &str, nonce: &str) -> Vec<bool> {
        let answers: Vec<_> = self.hear();
        let own: Vec<bool> = answers
            .iter()
            .filter(|(of, said, _)| *of == kind && said == nonce)
            .map(|(.., is_fine)| *is_fine)
            .collect();
        if own == [true] {
            assert!(self.is_delta || self.asked[&kind].said == version, "what is accepted is said");
            self.accepted.insert(kind, version.to_owned());
        }
        own
    }

    /// Does what plans say.
    pub fn carry_out(&mut self) {
        while let Some(plan) = self.client.take_plan() {
            let done = match &self.fails {
                Some(why) => Err(why.clone()),
                None => {
                    match plan {
                        Plan::Whole(config) => {
                            self.wholes += 1;
                            assert_eq!(config.problems(), Vec::new(), "every reference resolves");
                            self.running = *config;
                        }
                        Plan::Endpoints(clusters) => {
                            self.parts += 1;
                            for cluster in clusters {
                                let mut all = self.running.clusters.iter_mut();
                                let known =
                                    all.find(|known| known.name == cluster.name).expect("it is in force");
                                known.endpoints.clone_from(&cluster.endpoints);
                                assert_eq!(*known, cluster, "nothing else is another");
                            }
                        }
                    }
                    Ok(())
                }
            };
            self.client.settle(self.now, WallTime::default(), done);
        }
        assert_eq!(self.client.config(), self.running, "what it says to be in force is");
    }

    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        self.client.tick(now, WallTime::default());
        self.carry_out();
        self.hear();
    }
}

fn state(kind: Kind, version: &str, nonce: &str, resources: Vec<Any>) -> Vec<u8> {
    write(&DiscoveryResponse {
        version_info: version.to_owned(),
        resources,
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
        ..Default::default()
    })
}

/// The same as one file would say it, without any control plane: what a proxy comes to in the end.
fn expected(truth: &Truth, statics: &Config) -> Config {
    use cluster_proto::cluster::{ClusterDiscoveryType, DiscoveryType};
    use hcm::http_connection_manager::RouteSpecifier;
    let schema = &*SCHEMA;
    let mut config = statics.clone();
    for said in &truth.clusters {
        let mut whole = said.clone();
        whole.eds_cluster_config = None;
        whole.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
        whole.load_assignment = truth.endpoints.iter().find(|one| one.cluster_name == said.name).cloned();
        config.clusters.push(naru_xds::decode::cluster(schema, &whole).unwrap().0);
    }
    for said in &truth.listeners {
        let Some(listener_proto::filter::ConfigType::TypedConfig(packed)) =
            &said.filter_chains[0].filters[0].config_type
        else {
            panic!("a listener of ours")
        };
        let manager = hcm::HttpConnectionManager::decode(packed.value.as_slice()).unwrap();
        let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier else {
            panic!("its routes are asked for")
        };
        let mut table = truth.routes.iter().find(|one| one.name == rds.route_config_name).unwrap().clone();
        if table.vhds.take().is_some() {
            table.virtual_hosts.clone_from(&truth.hosts[&table.name]);
        }
        let core::address::Address::SocketAddress(address) =
            said.address.as_ref().unwrap().address.as_ref().unwrap().clone()
        else {
            panic!("an address")
        };
        let Some(core::socket_address::PortSpecifier::PortValue(port)) = address.port_specifier else {
            panic!("a port")
        };
        let whole = of_manager(&said.name, port, RouteSpecifier::RouteConfig(table));
        config.listeners.push(naru_xds::decode::listener(schema, &whole).unwrap().0);
    }
    config.clusters.sort_by(|a, b| a.name.cmp(&b.name));
    config.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    config
}

const CLUSTERS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const LISTENERS: [&str; 3] = ["l0", "l1", "l2"];

/// Some of `all`, at least one.
fn some<'a>(all: &[&'a str], chance: &mut Chance) -> Vec<&'a str> {
    let mut chosen: Vec<&str> = all.iter().copied().filter(|_| chance.below(2) == 0).collect();
    if chosen.is_empty() {
        chosen.push(all[chance.below(all.len() as u64) as usize]);
    }
    chosen
}

/// Another truth, in which everything that is named is there.
fn turn(truth: &mut Truth, is_delta: bool, chance: &mut Chance) {
    let chosen = some(&CLUSTERS, chance);
    truth.clusters = chosen
        .iter()
        .map(|name| {
            let mut one = cluster(name);
            one.connect_timeout = Some(ProtoDuration { seconds: 1 + chance.below(2) as i64, nanos: 0 });
            one
        })
        .collect();
    truth.endpoints = chosen
        .iter()
        .map(|name| {
            let mut all = endpoints(name, &some(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], chance));
            for endpoint in &mut all.endpoints[0].lb_endpoints {
                endpoint.load_balancing_weight = Some(UInt32Value { value: 1 + chance.below(3) as u32 });
            }
            all
        })
        .collect();
    truth.routes.clear();
    truth.hosts.clear();
    for name in ["r0", "r1"] {
        if !is_delta || chance.below(3) == 0 {
            truth.routes.push(routes(name, &some(&chosen, chance)));
            continue;
        }
        let mut domains = some(&["a.test", "b.test", "c.test", "d.test"], chance);
        if chance.below(8) == 0 {
            domains.clear();
        }
        let led: Vec<Vec<&str>> = domains.iter().map(|_| some(&chosen, chance)).collect();
        let hosts: Vec<(&str, &[&str])> =
            domains.into_iter().zip(&led).map(|(domain, led)| (domain, led.as_slice())).collect();
        let (table, hosts) = apart(name, &hosts);
        truth.routes.push(table);
        truth.hosts.insert(name.to_owned(), hosts);
    }
    truth.listeners = (0u32..)
        .zip(LISTENERS)
        .filter_map(|(at, name)| {
            let table = ["r0", "r1"][chance.below(2) as usize];
            (chance.below(3) > 0).then(|| listener(name, 10_000 + at, table))
        })
        .collect();
}

/// Kinds in any order, lost streams, resources that are wrong, plans that fail, times that run out: nothing is ever in
/// force that does not hold together, no listener goes that is wanted, and in the end all is as the control plane has it.
pub fn walk(seed: u64) {
    let mut chance = Chance::new(seed);
    let mut plane = Plane::new(chance.below(2) == 0);
    let statics = plane.running.clone();
    plane.connect();
    let mut is_connected = true;
    let mut listeners_accepted: BTreeSet<String> = BTreeSet::new();
    let mut journal = Journal::default();
    for _ in 0..80 {
        let before: BTreeSet<String> = plane.running.listeners.iter().map(|one| one.name.clone()).collect();
        match chance.below(12) {
            0 | 1 => turn(&mut plane.truth, plane.is_delta, &mut chance),
            2 => {
                plane.lose();
                is_connected = false;
            }
            3 => {
                let by = Duration::from_secs(chance.below(20));
                let now = plane.now + by;
                plane.tick(now);
            }
            4 if is_connected => wrong(&mut plane, &mut chance),
            5 if is_connected => {
                plane.fails = Some("no".to_owned());
                let kind = KINDS[chance.below(6) as usize];
                plane.say(kind);
                plane.fails = None;
            }
            _ if !is_connected => {
                plane.connect();
                is_connected = true;
            }
            _ => {
                let kind = KINDS[chance.below(6) as usize];
                let refused = plane.refusals.len();
                let is_asked = plane.is_asked(kind);
                plane.say(kind);
                assert_eq!(plane.refusals.len(), refused, "seed {seed}: {:?}", plane.refusals.last());
                if kind == Kind::Listener && is_asked {
                    listeners_accepted = plane.truth.listeners.iter().map(|one| one.name.clone()).collect();
                }
            }
        }
        let after: BTreeSet<String> = plane.running.listeners.iter().map(|one| one.name.clone()).collect();
        for name in before.intersection(&listeners_accepted) {
            assert!(after.contains(name), "seed {seed}: listener {name} is wanted and gone");
        }
        if chance.below(3) == 0 {
            journal.keep(&mut plane.client, chance.below(16) == 0);
        }
    }
    plane.lose();
    turn(&mut plane.truth, plane.is_delta, &mut chance);
    plane.connect();
    // A control plane says again what changed until nothing does; twice in any order is enough here.
    for _ in 0..4 {
        let mut order = KINDS;
        for at in (1..order.len()).rev() {
            order.swap(at, chance.below(at as u64 + 1) as usize);
        }
        order.into_iter().for_each(|kind| plane.say(kind));
    }
    let expected = expected(&plane.truth, &statics);
    let mut running = plane.running.clone();
    running.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(running, expected, "seed {seed}");
    // And a process that begins with what was kept comes to the same.
    let kept = plane.client.keep(true);
    let mut later = Plane::new(plane.is_delta);
    later.client.restore(Instant::ZERO, &kept).unwrap();
    later.carry_out();
    assert_eq!(later.running, plane.running, "seed {seed}");
    // Also with what was kept bit by bit, whenever that broke off.
    journal.keep(&mut plane.client, false);
    let whole = journal.bytes.len();
    for length in [whole, chance.below(whole as u64 + 1) as usize] {
        journal.check(length, plane.is_delta, &format!("seed {seed}, {length} of {whole}"));
    }
}

/// What is kept of a client bit by bit, and all of what it knew after each.
#[derive(Default)]
struct Journal {
    bytes: Vec<u8>,
    wholes: Vec<(usize, Vec<u8>)>,
}

impl Journal {
    fn keep(&mut self, client: &mut Client, is_anew: bool) {
        match client.changes(true).filter(|_| !is_anew && !self.bytes.is_empty()) {
            Some(changes) => self.bytes.extend(changes),
            None => {
                self.bytes = client.keep_from_now(true);
                self.wholes.clear();
            }
        }
        self.wholes.push((self.bytes.len(), client.keep(true)));
    }

    /// So many bytes of it were written.
    fn check(&self, length: usize, is_delta: bool, what: &str) {
        let restored = |bytes: &[u8]| {
            let mut plane = Plane::new(is_delta);
            plane.client.restore(Instant::ZERO, bytes).map(|()| {
                plane.carry_out();
                plane
            })
        };
        let now = restored(&self.bytes[..length]);
        let Some((_, whole)) = self.wholes.iter().rfind(|(end, _)| *end <= length) else {
            assert!(now.is_err(), "{what}");
            return;
        };
        match (now, restored(whole)) {
            (Ok(now), Ok(then)) => {
                assert_eq!(now.running, then.running, "{what}");
                // Of a state of the world what is the same has another version each time, which is not written.
                for kind in KINDS.into_iter().filter(|_| is_delta) {
                    assert_eq!(now.client.versions(kind), then.client.versions(kind), "{what}");
                }
            }
            (now, then) => assert_eq!(now.err(), then.err(), "{what}"),
        }
    }
}

/// A response that cannot be accepted.
fn wrong(plane: &mut Plane, chance: &mut Chance) {
    let truth = plane.truth.clone();
    let kinds = [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes, Kind::VirtualHost];
    let kind = kinds[chance.below(5) as usize];
    match kind {
        Kind::Cluster => {
            let mut one = cluster("wrong");
            one.eds_cluster_config = None;
            plane.truth.clusters.push(one);
        }
        Kind::Endpoints => {
            for one in &mut plane.truth.endpoints {
                one.endpoints[0].priority = 200;
            }
        }
        Kind::Listener => {
            let mut one = listener("wrong", 10_050, "r0");
            one.filter_chains.clear();
            plane.truth.listeners.push(one);
        }
        Kind::Routes => {
            for one in &mut plane.truth.routes {
                one.virtual_hosts.iter_mut().for_each(|host| host.domains.clear());
                // The table of others says this itself.
                one.ignore_path_parameters_in_path_matching = true;
            }
        }
        _ => {
            for host in plane.truth.hosts.values_mut().flatten() {
                host.domains.clear();
            }
        }
    }
    let refused = plane.refusals.len();
    let is_asked = plane.is_asked(kind);
    let has_any = kind.is_whole() || {
        let names = plane.names(kind);
        let asked_as = |name: &String| match kind {
            Kind::VirtualHost => name.rsplit_once('/').unwrap().0.to_owned(),
            _ => name.clone(),
        };
        plane.truth.of(kind).iter().any(|(name, _)| names.contains(&asked_as(name)))
    };
    plane.say(kind);
    if is_asked && has_any {
        assert_eq!(plane.refusals.len(), refused + 1, "{kind}");
    }
    plane.truth = truth;
}
