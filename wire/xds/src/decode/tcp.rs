//! The TCP proxy, and what its listeners have beside it.

use naru_base::Weight;
use naru_spec::{
    ClusterChoice, HashPolicy, HashSource, HeaderOps, Invalid, Path, ProxyProtocol, ProxyVersion, TcpProxy,
    WeightedCluster, defaults,
};

use super::{access_log, value};
use crate::findings::{Findings, code};
use crate::proto::{core, kinds, proxy_protocol, tcp_proxy, upstream_proxy_protocol as upstream};
use crate::schema::unpack;

pub(super) fn read(said: &tcp_proxy::TcpProxy, path: &Path<'_>, findings: &mut Findings<'_>) -> TcpProxy {
    use tcp_proxy::tcp_proxy::ClusterSpecifier;
    let clusters = match &said.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => ClusterChoice::One(name.clone()),
        Some(ClusterSpecifier::WeightedClusters(said)) => {
            weighted(said, &path.field("weighted_clusters"), findings)
        }
        // Told by the API's own rules.
        None => ClusterChoice::One(String::new()),
    };
    let mut tcp = TcpProxy::new(said.stat_prefix.clone(), clusters);
    let idle = path.field("idle_timeout");
    tcp.idle_timeout = value::limit(&said.idle_timeout, Some(defaults::TCP_IDLE_TIMEOUT), &idle, findings);
    if let Some(said) = &said.max_downstream_connection_duration {
        let path = path.field("max_downstream_connection_duration");
        tcp.duration_max = Some(value::duration(said, &path, findings));
    }
    if let Some(attempts) = &said.max_connect_attempts {
        // None is told by the API's own rules.
        tcp.attempts_max = attempts.value.max(1);
    }
    let policies = path.field("hash_policy");
    for (at, policy) in said.hash_policy.iter().enumerate() {
        tcp.hash.extend(hash_policy(policy, &policies.at(at), findings));
    }
    let logs = path.field("access_log");
    for (at, log) in said.access_log.iter().enumerate() {
        tcp.access_log.extend(access_log::read(log, &logs.at(at), findings));
    }
    tcp
}

/// Where it stands what [`naru_spec::Config::problems`] says of a TCP proxy.
pub(super) fn tell(
    tcp: Option<&TcpProxy>,
    invalid: &Invalid,
    path: &Path<'_>,
    error: &mut dyn FnMut(&Path<'_>, &'static str),
) {
    let names = tcp.map(|tcp| &tcp.clusters).into_iter().flat_map(ClusterChoice::names);
    let missing = names.enumerate().find(|(_, name)| invalid.message.contains(&format!("'{name}'")));
    let is_weighted = tcp.is_some_and(|tcp| matches!(tcp.clusters, ClusterChoice::Weighted(_)));
    match missing {
        // An empty name is told as missing.
        Some((_, "")) => {}
        Some((at, _)) if is_weighted => {
            let clusters = path.field("weighted_clusters.clusters");
            error(&clusters.at(at).field("name"), code::UNKNOWN_CLUSTER);
        }
        Some(_) => error(&path.field("cluster"), code::UNKNOWN_CLUSTER),
        None => error(path, code::INVALID_VALUE),
    }
}

fn weighted(
    said: &tcp_proxy::tcp_proxy::WeightedCluster,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> ClusterChoice {
    let clusters = said.clusters.iter().map(|cluster| WeightedCluster {
        name: cluster.name.clone(),
        weight: Weight(cluster.weight),
        host: None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    });
    let clusters: Vec<WeightedCluster> = clusters.collect();
    // That there is none, or one of no weight, is told by the API's own rules.
    let is_told = clusters.is_empty() || clusters.iter().any(|cluster| cluster.weight.0 == 0);
    match ClusterChoice::weighted(clusters) {
        Ok(choice) => choice,
        Err(invalid) => {
            if !is_told {
                findings.invalid(&path.field("clusters"), invalid);
            }
            ClusterChoice::One(String::new())
        }
    }
}

fn hash_policy(said: &kinds::HashPolicy, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<HashPolicy> {
    match said.policy_specifier {
        Some(kinds::hash_policy::PolicySpecifier::SourceIp(_)) => Some(HashPolicy::of(HashSource::SourceIp)),
        // Told as not supported.
        Some(kinds::hash_policy::PolicySpecifier::FilterState(_)) => None,
        None => {
            findings.missing(path, "a hash policy needs something that is hashed: source_ip");
            None
        }
    }
}

/// What a transport socket says of the PROXY protocol, and the socket that it wraps.
pub(super) fn upstream_proxy_protocol(
    said: &core::TransportSocket,
) -> (Option<ProxyVersion>, Option<core::TransportSocket>) {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &said.config_type else {
        return (None, None);
    };
    let Some(outer) = unpack::<upstream::ProxyProtocolUpstreamTransport>(any) else { return (None, None) };
    (Some(version(&outer.config.unwrap_or_default())), outer.transport_socket)
}

pub(super) fn version(said: &core::ProxyProtocolConfig) -> ProxyVersion {
    use core::proxy_protocol_config::Version;
    match said.version() {
        Version::V1 => ProxyVersion::V1,
        Version::V2 => ProxyVersion::V2,
    }
}

pub(super) fn proxy_protocol(said: &proxy_protocol::ProxyProtocol) -> ProxyProtocol {
    ProxyProtocol { is_optional: said.allow_requests_without_proxy_protocol }
}
