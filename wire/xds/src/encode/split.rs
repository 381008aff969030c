//! A configuration as the resources that a control plane sends, each by its kind and name.
//!
//! Routes stand beside their listeners, endpoints beside their clusters, certificates that stand in documents beside
//! both, so that a change of one sends one: all that takes the place of what was inline is fetched over the same stream.
//! Names are made of what people have written (addresses, server names, names of clusters), so that they stay.
//!
//! Whoever asks for virtual hosts by themselves (VHDS) is told each of them apart from its table, so that a change of one
//! among ten thousand sends one.

use std::collections::BTreeSet;

use naru_spec::{Cluster, Config, Discovery, FilterChain, Listener};

use super::{balancing, clusters, listener, order, ours, proxyless};
use crate::discovery::{Dialect, Kind};
use crate::ours::Process;
use crate::proto::{cluster as clusters_of, core, endpoint, hcm, listener as proto, route, tls};
use crate::schema::{pack, unpack};

/// One resource: the bytes are those of a `google.protobuf.Any`, the same for the same content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: Kind,
    pub name: String,
    pub any: Vec<u8>,
}

/// Everything that a configuration says to those who read it in this way.
pub fn resources(config: &Config, dialect: Dialect) -> Vec<Resource> {
    written(config, dialect, Shelf::default())
}

/// The same for a naru proxy that asks for virtual hosts by themselves: each is called `TABLE/HOST`.
pub fn resources_by_host(config: &Config) -> Vec<Resource> {
    written(config, Dialect::Naru, Shelf { is_by_host: true, ..Shelf::default() })
}

fn written(config: &Config, dialect: Dialect, mut shelf: Shelf) -> Vec<Resource> {
    if dialect == Dialect::Grpc {
        proxyless::write(config, &mut shelf);
        return shelf.resources;
    }
    if dialect == Dialect::Naru {
        let process = Process::of(config);
        for cluster in &config.clusters {
            write_cluster(cluster, ours::cluster(cluster), &mut shelf);
        }
        for said in &config.listeners {
            write_listener(said, ours::listener(said, &process), &mut shelf);
        }
        return shelf.resources;
    }
    for cluster in &config.clusters {
        write_cluster(cluster, clusters::write(cluster), &mut shelf);
    }
    for said in &balancing::with_hashes(&config.listeners, &config.clusters) {
        write_listener(said, listener::write(said), &mut shelf);
    }
    shelf.resources
}

#[derive(Default)]
pub(super) struct Shelf {
    resources: Vec<Resource>,
    is_by_host: bool,
}

impl Shelf {
    pub fn add<M: prost::Message + prost::Name>(&mut self, kind: Kind, name: &str, message: &M) {
        let mut any = prost::Message::encode_to_vec(&pack(message));
        order::arrange(&mut any);
        self.resources.push(Resource { kind, name: name.to_owned(), any });
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.resources.iter().any(|known| known.kind == kind && known.name == name)
    }
}

/// Over the stream that brings all the others.
pub(super) fn same_stream() -> core::ConfigSource {
    use core::config_source::ConfigSourceSpecifier;
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn write_cluster(cluster: &Cluster, mut message: clusters_of::Cluster, shelf: &mut Shelf) {
    if cluster.discovery == Discovery::Static {
        by_endpoints(&mut message, shelf);
    }
    let prefix = format!("cluster/{}", cluster.name);
    take_certificates(message.transport_socket.as_mut(), &prefix, shelf);
    shelf.add(Kind::Cluster, &cluster.name, &message);
}

/// Its endpoints become a resource of their own.
pub(super) fn by_endpoints(message: &mut clusters_of::Cluster, shelf: &mut Shelf) {
    use clusters_of::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
    let written = message.load_assignment.take().unwrap_or_default();
    let endpoints = endpoint::ClusterLoadAssignment { cluster_name: message.name.clone(), ..written };
    shelf.add(Kind::Endpoints, &message.name, &endpoints);
    message.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    message.eds_cluster_config =
        Some(EdsClusterConfig { eds_config: Some(same_stream()), ..Default::default() });
}

fn write_listener(said: &Listener, mut message: proto::Listener, shelf: &mut Shelf) {
    for (at, (chain, written)) in said.chains.iter().zip(&mut message.filter_chains).enumerate() {
        let name = name_of(said, chain, at, shelf);
        take_certificates(written.transport_socket.as_mut(), &name, shelf);
        for filter in &mut written.filters {
            take_routes(filter, &name, shelf);
        }
    }
    shelf.add(Kind::Listener, &said.name, &message);
}

/// What is beside a chain is called by what the chain takes.
fn name_of(listener: &Listener, chain: &FilterChain, at: usize, shelf: &Shelf) -> String {
    let names: Vec<String> = chain.server_names.iter().map(ToString::to_string).collect();
    let own = if names.is_empty() { "*".to_owned() } else { names.join(",") };
    let name = format!("{}/{own}", listener.name);
    let is_known = [Kind::Routes, Kind::Secret].iter().any(|kind| shelf.has(*kind, &name));
    if is_known { format!("{name}/{at}") } else { name }
}

fn take_routes(filter: &mut proto::Filter, name: &str, shelf: &mut Shelf) {
    use hcm::http_connection_manager::RouteSpecifier;
    let Some(proto::filter::ConfigType::TypedConfig(any)) = &mut filter.config_type else { return };
    let Some(mut manager) = unpack::<hcm::HttpConnectionManager>(any) else { return };
    let Some(RouteSpecifier::RouteConfig(mut routes)) = manager.route_specifier.take() else { return };
    name.clone_into(&mut routes.name);
    if shelf.is_by_host {
        take_hosts(&mut routes, shelf);
    }
    shelf.add(Kind::Routes, name, &routes);
    let rds = hcm::Rds { config_source: Some(same_stream()), route_config_name: name.to_owned() };
    manager.route_specifier = Some(RouteSpecifier::Rds(rds));
    *any = pack(&manager);
}

/// Virtual hosts become resources of their own, where each has a name of its own.
fn take_hosts(routes: &mut route::RouteConfiguration, shelf: &mut Shelf) {
    let names: BTreeSet<&str> = routes.virtual_hosts.iter().map(|host| host.name.as_str()).collect();
    if names.len() < routes.virtual_hosts.len() || names.contains("") {
        return;
    }
    for host in std::mem::take(&mut routes.virtual_hosts) {
        shelf.add(Kind::VirtualHost, &format!("{}/{}", routes.name, host.name), &host);
    }
    // Of bodies that the table does not have: naru reads none of its limits where none is said.
    routes.max_direct_response_body_size_bytes = None;
    routes.vhds = Some(route::Vhds { config_source: Some(same_stream()) });
}

/// Certificates whose bytes stand in the configuration. Names of files stay what they are.
fn take_certificates(socket: Option<&mut core::TransportSocket>, name: &str, shelf: &mut Shelf) {
    let config = socket.and_then(|socket| socket.config_type.as_mut());
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = config else { return };
    if let Some(mut context) = unpack::<tls::DownstreamTlsContext>(any) {
        take_from(context.common_tls_context.as_mut(), name, shelf);
        *any = pack(&context);
    } else if let Some(mut context) = unpack::<tls::UpstreamTlsContext>(any) {
        take_from(context.common_tls_context.as_mut(), name, shelf);
        *any = pack(&context);
    }
}

/// Either all are beside the context or all are in it.
fn take_from(common: Option<&mut tls::CommonTlsContext>, name: &str, shelf: &mut Shelf) {
    let Some(common) = common else { return };
    if !common.tls_certificates.iter().any(has_bytes) {
        return;
    }
    for (at, certificate) in std::mem::take(&mut common.tls_certificates).into_iter().enumerate() {
        let name = if at == 0 { name.to_owned() } else { format!("{name}#{at}") };
        let said =
            tls::Secret { name: name.clone(), r#type: Some(tls::secret::Type::TlsCertificate(certificate)) };
        shelf.add(Kind::Secret, &name, &said);
        let by_name = tls::SdsSecretConfig { name, sds_config: Some(same_stream()) };
        common.tls_certificate_sds_secret_configs.push(by_name);
    }
}

fn has_bytes(certificate: &tls::TlsCertificate) -> bool {
    use core::data_source::Specifier;
    let key = certificate.private_key.as_ref().and_then(|key| key.specifier.as_ref());
    matches!(key, Some(Specifier::InlineString(_) | Specifier::InlineBytes(_)))
}
