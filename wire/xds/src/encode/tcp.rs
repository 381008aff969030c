//! The TCP proxy, and what its listeners have beside it.

use naru_spec::{ClusterChoice, HashPolicy, HashSource, ProxyProtocol, ProxyVersion, TcpProxy, defaults};

use super::{http, value};
use crate::proto::{
    Any, core, kinds, proxy_protocol, raw_buffer, tcp_proxy as proto, upstream_proxy_protocol as upstream,
};
use crate::schema::pack;

pub(super) fn write(tcp: &TcpProxy) -> proto::TcpProxy {
    use proto::tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight};
    let is_default = tcp.idle_timeout == Some(defaults::TCP_IDLE_TIMEOUT);
    proto::TcpProxy {
        stat_prefix: tcp.stat_prefix.clone(),
        cluster_specifier: Some(match &tcp.clusters {
            ClusterChoice::One(name) => ClusterSpecifier::Cluster(name.clone()),
            ClusterChoice::Weighted(clusters) => {
                let clusters = clusters.iter().map(|cluster| ClusterWeight {
                    name: cluster.name.clone(),
                    weight: cluster.weight.0,
                    metadata_match: None,
                });
                ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: clusters.collect() })
            }
        }),
        idle_timeout: (!is_default).then(|| value::limit(tcp.idle_timeout)),
        max_downstream_connection_duration: tcp.duration_max.map(value::duration),
        max_connect_attempts: (tcp.attempts_max != defaults::TCP_ATTEMPTS)
            .then(|| value::number(tcp.attempts_max)),
        hash_policy: tcp.hash.iter().filter_map(hash_policy).collect(),
        access_log: http::access_logs(&tcp.access_log),
        ..Default::default()
    }
}

/// Of what a connection has there is nothing else to be hashed.
fn hash_policy(policy: &HashPolicy) -> Option<kinds::HashPolicy> {
    use kinds::hash_policy::{PolicySpecifier, SourceIp};
    let is_source = policy.source == HashSource::SourceIp;
    is_source.then_some(kinds::HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})) })
}

/// A transport socket, in that of the PROXY protocol where there is one.
pub(super) fn upstream_proxy_protocol(
    version: Option<ProxyVersion>,
    socket: Option<core::TransportSocket>,
) -> Option<core::TransportSocket> {
    let socket_of = |name: &str, config: Any| core::TransportSocket {
        name: name.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(config)),
    };
    let Some(version) = version else { return socket };
    let plain = || socket_of("envoy.transport_sockets.raw_buffer", pack(&raw_buffer::RawBuffer::default()));
    let outer = upstream::ProxyProtocolUpstreamTransport {
        config: Some(proxy_config(version)),
        transport_socket: Some(socket.unwrap_or_else(plain)),
        ..Default::default()
    };
    Some(socket_of("envoy.transport_sockets.upstream_proxy_protocol", pack(&outer)))
}

pub(super) fn proxy_protocol(protocol: ProxyProtocol) -> proxy_protocol::ProxyProtocol {
    proxy_protocol::ProxyProtocol {
        allow_requests_without_proxy_protocol: protocol.is_optional,
        ..Default::default()
    }
}

pub(super) fn proxy_config(version: ProxyVersion) -> core::ProxyProtocolConfig {
    use core::proxy_protocol_config::Version;
    let version = match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    };
    core::ProxyProtocolConfig { version: version.into(), ..Default::default() }
}
