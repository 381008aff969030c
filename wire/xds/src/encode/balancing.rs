//! How a cluster shares its requests among its endpoints, and what of a request chooses one.
//!
//! Envoy has no words for peak EWMA and passthrough, and none in a cluster for sticky sessions; the
//! nearest policy is written, and sessions are left out. What a cluster hashes is written with the rules
//! that lead to it, as a control plane does for Envoy.

use std::collections::BTreeMap;

use naru_spec::{
    Action, BalancingPolicy, Cluster, ConsistentHash, Endpoint, HashPolicy, HashSource, HashTable,
    LeastRequest, Listener, Locality, Thousandths, WarmUp, defaults,
};

use super::{clusters, value};
use crate::proto::{UInt64Value, cluster as proto, core, endpoint, kinds, route};
use proto::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig, common_lb_config,
};

pub(super) fn write(cluster: &Cluster, message: &mut proto::Cluster) {
    let settings = &cluster.load_balancing;
    let slow_start_config = settings.warm_up.as_ref().map(slow_start);
    let (policy, config) = match settings.policy {
        BalancingPolicy::RoundRobin => {
            let config = slow_start_config.map(|slow| RoundRobinLbConfig { slow_start_config: Some(slow) });
            (LbPolicy::RoundRobin, config.map(LbConfig::RoundRobinLbConfig))
        }
        BalancingPolicy::LeastRequest(LeastRequest { choices, bias }) => (
            LbPolicy::LeastRequest,
            Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                choice_count: Some(value::number(choices)),
                active_request_bias: (bias != Thousandths::ONE).then(|| double(bias)),
                slow_start_config,
            })),
        ),
        BalancingPolicy::Random => (LbPolicy::Random, None),
        BalancingPolicy::PeakEwma(_) => (LbPolicy::LeastRequest, None),
        BalancingPolicy::Passthrough => (LbPolicy::ClusterProvided, None),
        BalancingPolicy::ConsistentHash(hash) => {
            write_hash(&hash, common(message));
            match hash.table {
                HashTable::Ring(size) => (
                    LbPolicy::RingHash,
                    Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
                        minimum_ring_size: Some(wide(size.min())),
                        maximum_ring_size: Some(wide(size.max())),
                        ..Default::default()
                    })),
                ),
                HashTable::Maglev(size) => (
                    LbPolicy::Maglev,
                    Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: Some(wide(size.get())) })),
                ),
            }
        }
    };
    message.lb_policy = policy.into();
    message.lb_config = config;
    if settings.weighs_localities {
        common(message).locality_config_specifier =
            Some(common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(Default::default()));
    }
    let factor = settings.overprovisioning_percent;
    message.load_assignment = Some(endpoint::ClusterLoadAssignment {
        cluster_name: cluster.name.clone(),
        endpoints: groups(cluster),
        policy: (factor != defaults::OVERPROVISIONING_PERCENT).then(|| {
            endpoint::cluster_load_assignment::Policy {
                overprovisioning_factor: Some(value::number(factor)),
                ..Default::default()
            }
        }),
        ..Default::default()
    });
}

fn common(message: &mut proto::Cluster) -> &mut CommonLbConfig {
    message.common_lb_config.get_or_insert_default()
}

fn write_hash(settings: &ConsistentHash, common: &mut CommonLbConfig) {
    if settings.by_host_name || settings.load_max_percent.is_some() {
        common.consistent_hashing_lb_config = Some(common_lb_config::ConsistentHashingLbConfig {
            use_hostname_for_hashing: settings.by_host_name,
            hash_balance_factor: settings.load_max_percent.map(value::number),
        });
    }
}

fn slow_start(settings: &WarmUp) -> SlowStartConfig {
    let percent = settings.min_percent;
    SlowStartConfig {
        slow_start_window: Some(value::duration(settings.window)),
        aggression: (settings.aggression != Thousandths::ONE).then(|| double(settings.aggression)),
        min_weight_percent: (percent != defaults::WARM_UP_MIN_PERCENT)
            .then(|| kinds::Percent { value: f64::from(percent) }),
    }
}

fn wide(value: u64) -> UInt64Value {
    UInt64Value { value }
}

/// Envoy asks for a key, which nobody's runtime has.
fn double(value: Thousandths) -> core::RuntimeDouble {
    core::RuntimeDouble { default_value: f64::from(value.0) / 1_000.0, runtime_key: "naru.none".to_owned() }
}

/// Endpoints by locality and priority, in the order of the first of each.
fn groups(cluster: &Cluster) -> Vec<endpoint::LocalityLbEndpoints> {
    let mut places: BTreeMap<(u32, &Locality), usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&Endpoint>> = Vec::new();
    for endpoint in &cluster.endpoints {
        let at = *places.entry((endpoint.priority, &endpoint.locality)).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => group.push(endpoint),
            None => groups.push(vec![endpoint]),
        }
    }
    let is_weighed = cluster.load_balancing.weighs_localities;
    let groups = groups.iter().filter_map(|group| {
        let first = group.first()?;
        let weight = first.locality_weight.0;
        let is_default = if is_weighed { weight == 0 } else { weight == 1 };
        Some(endpoint::LocalityLbEndpoints {
            locality: (!first.locality.is_empty()).then(|| core::Locality {
                region: first.locality.region.clone(),
                zone: first.locality.zone.clone(),
                sub_zone: first.locality.sub_zone.clone(),
            }),
            lb_endpoints: group.iter().map(|endpoint| clusters::endpoint(endpoint)).collect(),
            load_balancing_weight: (!is_default).then(|| value::number(weight)),
            priority: first.priority,
            ..Default::default()
        })
    });
    groups.collect()
}

pub(super) fn hash_policy(policy: &HashPolicy) -> route::route_action::HashPolicy {
    use route::route_action::hash_policy as said;
    use said::PolicySpecifier;
    let specifier = match &policy.source {
        HashSource::Header(name) => PolicySpecifier::Header(said::Header {
            header_name: name.as_str().to_owned(),
            ..Default::default()
        }),
        HashSource::Cookie(cookie) => PolicySpecifier::Cookie(said::Cookie {
            name: cookie.name().to_owned(),
            ttl: cookie.ttl().map(value::duration),
            path: cookie.path().to_owned(),
            attributes: cookie
                .attributes()
                .iter()
                .map(|(name, value)| said::CookieAttribute { name: name.clone(), value: value.clone() })
                .collect(),
        }),
        HashSource::SourceIp => {
            PolicySpecifier::ConnectionProperties(said::ConnectionProperties { source_ip: true })
        }
        HashSource::Query(name) => {
            PolicySpecifier::QueryParameter(said::QueryParameter { name: name.clone() })
        }
    };
    route::route_action::HashPolicy { terminal: policy.is_terminal, policy_specifier: Some(specifier) }
}

/// Listeners whose rules say what the clusters hash that they lead to; of several, the first that hashes.
pub(super) fn with_hashes(listeners: &[Listener], clusters: &[Cluster]) -> Vec<Listener> {
    let hashes: BTreeMap<&str, &[HashPolicy]> = clusters
        .iter()
        .filter(|cluster| !cluster.load_balancing.hash.is_empty())
        .map(|cluster| (cluster.name.as_str(), cluster.load_balancing.hash.as_slice()))
        .collect();
    let mut listeners = listeners.to_vec();
    if hashes.is_empty() {
        return listeners;
    }
    let chains = listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    let hosts = chains.flat_map(|chain| &mut chain.http.routes.virtual_hosts);
    for rule in hosts.flat_map(|host| &mut host.rules) {
        let Action::Forward(forward) = &mut rule.action else { continue };
        let hash = forward.cluster_names().find_map(|name| hashes.get(name));
        if let Some(hash) = hash {
            forward.hash = hash.to_vec();
        }
    }
    listeners
}
