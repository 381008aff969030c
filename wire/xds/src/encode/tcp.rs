//! The TCP proxy, and what its listeners have beside it.

use naru_spec::{ClusterChoice, HashPolicy, HashSource, ProxyProtocol, TcpProxy, defaults};

use super::{http, value};
use crate::proto::{kinds, proxy_protocol, tcp_proxy as proto};

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
        access_log: tcp.access_log.iter().map(http::access_log).collect(),
        ..Default::default()
    }
}

/// Of what a connection has there is nothing else to be hashed.
fn hash_policy(policy: &HashPolicy) -> Option<kinds::HashPolicy> {
    use kinds::hash_policy::{PolicySpecifier, SourceIp};
    let is_source = policy.source == HashSource::SourceIp;
    is_source.then(|| kinds::HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})) })
}

pub(super) fn proxy_protocol(protocol: ProxyProtocol) -> proxy_protocol::ProxyProtocol {
    proxy_protocol::ProxyProtocol {
        allow_requests_without_proxy_protocol: protocol.is_optional,
        ..Default::default()
    }
}
