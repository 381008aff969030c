//! How a cluster shares its requests among its endpoints, and what of a request chooses one.

use std::time::Duration;

use http::HeaderName;
use naru_base::Weight;
use naru_spec::{
    BalancingPolicy, Cluster, ConsistentHash, Cookie, Discovery, Endpoint, HashPolicy, HashSource, HashTable,
    Invalid, LeastRequest, LoadBalancing, Locality, MaglevSize, Path, RingSize, Thousandths, WarmUp,
    defaults,
};

use super::{clusters, value};
use crate::findings::{Findings, code};
use crate::proto::{cluster as proto, core, endpoint, route};
use proto::cluster::{
    LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, SlowStartConfig,
    common_lb_config,
};

pub(super) fn read(said: &proto::Cluster, path: &Path<'_>, findings: &mut Findings<'_>) -> LoadBalancing {
    let common = said.common_lb_config.as_ref();
    let policy = said.lb_policy();
    let (field, fitting) = match &said.lb_config {
        None => ("", policy),
        Some(LbConfig::RoundRobinLbConfig(_)) => ("round_robin_lb_config", LbPolicy::RoundRobin),
        Some(LbConfig::LeastRequestLbConfig(_)) => ("least_request_lb_config", LbPolicy::LeastRequest),
        Some(LbConfig::RingHashLbConfig(_)) => ("ring_hash_lb_config", LbPolicy::RingHash),
        Some(LbConfig::MaglevLbConfig(_)) => ("maglev_lb_config", LbPolicy::Maglev),
        Some(LbConfig::OriginalDstLbConfig(_)) if is_on_demand(said) => ("", policy),
        Some(LbConfig::OriginalDstLbConfig(_)) => ("original_dst_lb_config", LbPolicy::ClusterProvided),
    };
    if policy != fitting {
        let text = format!("{field} has no effect unless lb_policy is {}", fitting.as_str_name());
        findings.warning(&path.field(field), code::NO_EFFECT, text, "");
    }
    let mut settings: LoadBalancing = match (policy, &said.lb_config) {
        (LbPolicy::RoundRobin, _) => LoadBalancing::round_robin(),
        (LbPolicy::Random, _) => LoadBalancing::random(),
        (LbPolicy::LeastRequest, config) => {
            let config = match config {
                Some(LbConfig::LeastRequestLbConfig(config)) => Some(config),
                _ => None,
            };
            let path = path.field("least_request_lb_config");
            BalancingPolicy::LeastRequest(least_request(config, &path, findings)).into()
        }
        (LbPolicy::RingHash, config) => {
            let size = match config {
                Some(LbConfig::RingHashLbConfig(config)) => {
                    ring(config, &path.field("ring_hash_lb_config"), findings)
                }
                _ => RingSize::default(),
            };
            consistent(HashTable::Ring(size), common)
        }
        (LbPolicy::Maglev, config) => {
            let size = match config {
                Some(LbConfig::MaglevLbConfig(config)) => {
                    maglev(config, &path.field("maglev_lb_config"), findings)
                }
                _ => MaglevSize::default(),
            };
            consistent(HashTable::Maglev(size), common)
        }
        (LbPolicy::ClusterProvided, _) if is_on_demand(said) => BalancingPolicy::Passthrough.into(),
        (other @ (LbPolicy::ClusterProvided | LbPolicy::LoadBalancingPolicyConfig), _) => {
            let text = format!("the load balancing policy {} is not supported", other.as_str_name());
            let hint = "one of ROUND_ROBIN, LEAST_REQUEST, RANDOM, RING_HASH, MAGLEV";
            findings.unsupported_value(&path.field("lb_policy"), text, hint);
            LoadBalancing::round_robin()
        }
    };
    let slow_start = match (&said.lb_config, policy) {
        (Some(LbConfig::RoundRobinLbConfig(config)), LbPolicy::RoundRobin) => {
            config.slow_start_config.as_ref()
        }
        (Some(LbConfig::LeastRequestLbConfig(config)), LbPolicy::LeastRequest) => {
            config.slow_start_config.as_ref()
        }
        _ => None,
    };
    settings.warm_up = slow_start.and_then(|said| {
        let path = path.field(field);
        warm_up(said, &path.field("slow_start_config"), findings)
    });
    let specifier = common.and_then(|common| common.locality_config_specifier.as_ref());
    settings.weighs_localities =
        matches!(specifier, Some(common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(_)));
    let assignment = said.load_assignment.as_ref().and_then(|assignment| assignment.policy.as_ref());
    if let Some(factor) = assignment.and_then(|policy| policy.overprovisioning_factor) {
        // Zero is told by the API's own rules.
        settings.overprovisioning_percent = factor.value.max(1);
    }
    settings
}

fn least_request(
    said: Option<&LeastRequestLbConfig>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> LeastRequest {
    let mut settings = LeastRequest::default();
    let Some(said) = said else { return settings };
    settings.choices = said.choice_count.map_or(defaults::LEAST_REQUEST_CHOICES, |said| said.value);
    if let Some(bias) = &said.active_request_bias {
        settings.bias = thousandths(bias, &path.field("active_request_bias"), findings);
    }
    settings
}

fn ring(said: &RingHashLbConfig, path: &Path<'_>, findings: &mut Findings<'_>) -> RingSize {
    let minimum = said.minimum_ring_size.map_or(defaults::RING_SIZE_MIN, |said| said.value);
    let maximum = said.maximum_ring_size.map_or(defaults::RING_SIZE_MAX, |said| said.value);
    RingSize::new(minimum, maximum).unwrap_or_else(|invalid| {
        let field = if said.minimum_ring_size.is_some() { "minimum_ring_size" } else { "maximum_ring_size" };
        findings.invalid(&path.field(field), invalid);
        RingSize::default()
    })
}

fn maglev(said: &MaglevLbConfig, path: &Path<'_>, findings: &mut Findings<'_>) -> MaglevSize {
    let size = said.table_size.map_or(defaults::MAGLEV_SIZE, |said| said.value);
    MaglevSize::new(size).unwrap_or_else(|invalid| {
        findings.invalid(&path.field("table_size"), invalid);
        MaglevSize::default()
    })
}

fn consistent(table: HashTable, common: Option<&proto::cluster::CommonLbConfig>) -> LoadBalancing {
    let mut settings = ConsistentHash::new(table);
    if let Some(said) = common.and_then(|common| common.consistent_hashing_lb_config.as_ref()) {
        settings.by_host_name = said.use_hostname_for_hashing;
        // Less than 100 is told by the API's own rules.
        settings.load_max_percent = said.hash_balance_factor.map(|factor| factor.value.max(100));
    }
    BalancingPolicy::ConsistentHash(settings).into()
}

fn warm_up(said: &SlowStartConfig, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<WarmUp> {
    let window = said.slow_start_window.as_ref()?;
    let path_of_window = path.field("slow_start_window");
    let mut settings = WarmUp::over(value::duration(window, &path_of_window, findings));
    if settings.window < Duration::from_millis(1) {
        // As in Envoy.
        let text = "a window of no time turns slow start off";
        findings.warning(&path_of_window, code::NO_EFFECT, text, "");
        return None;
    }
    if let Some(aggression) = &said.aggression {
        let path = path.field("aggression");
        settings.aggression = thousandths(aggression, &path, findings);
        if settings.aggression.0 == 0 {
            let invalid =
                Invalid::new("the aggression of a slow start is above zero").hint("1.0 grows evenly");
            findings.invalid(&path, invalid);
        }
    }
    if let Some(percent) = &said.min_weight_percent {
        settings.min_percent = percent.value.clamp(0.0, 100.0).round() as u32;
    }
    Some(settings)
}

/// What Envoy's runtime would say otherwise cannot be said here.
fn thousandths(said: &core::RuntimeDouble, path: &Path<'_>, findings: &mut Findings<'_>) -> Thousandths {
    let value = said.default_value;
    if !(0.0..=1e6).contains(&value) {
        findings.invalid(
            &path.field("default_value"),
            Invalid::new(format!("{value} is out of range: 0 to 1e6")),
        );
        return Thousandths::ONE;
    }
    Thousandths((value * 1_000.0).round() as u32)
}

fn is_on_demand(said: &proto::Cluster) -> bool {
    use proto::cluster::{ClusterDiscoveryType, DiscoveryType};
    said.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into()))
}

/// The endpoints of all localities.
pub(super) fn endpoints(
    said: &[endpoint::LocalityLbEndpoints],
    cluster: &proto::Cluster,
    discovery: &Discovery,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Endpoint> {
    let specifier =
        cluster.common_lb_config.as_ref().and_then(|common| common.locality_config_specifier.as_ref());
    let is_weighed =
        matches!(specifier, Some(common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(_)));
    let mut found = Vec::new();
    for (at, group) in said.iter().enumerate() {
        let path = path.at(at);
        let locality = group.locality.as_ref().map_or(Locality::default(), |said| Locality {
            region: said.region.clone(),
            zone: said.zone.clone(),
            sub_zone: said.sub_zone.clone(),
        });
        // What says nothing gets nothing, where weights count.
        let locality_weight =
            group.load_balancing_weight.map_or(Weight(u32::from(!is_weighed)), |said| Weight(said.value));
        let listed = path.field("lb_endpoints");
        for (at, said) in group.lb_endpoints.iter().enumerate() {
            let endpoint = clusters::endpoint(said, discovery, &listed.at(at), findings);
            found.push(Endpoint {
                priority: group.priority,
                locality: locality.clone(),
                locality_weight,
                ..endpoint
            });
        }
        if is_weighed && locality_weight.0 == 0 && !group.lb_endpoints.is_empty() {
            let text = "a locality without load_balancing_weight gets no requests";
            let hint = "where localities are weighed, each says its weight";
            findings.warning(&listed, code::NO_EFFECT, text, hint);
        }
    }
    found
}

/// A priority is asked where those before it are not fit; and nothing says so where nobody watches them.
pub(super) fn check_priorities(cluster: &Cluster, path: &Path<'_>, findings: &mut Findings<'_>) {
    let is_watched = cluster.guard.outlier_detection.is_some() || cluster.guard.health_check.is_some();
    let first = cluster.endpoints.iter().map(|endpoint| endpoint.priority).min();
    let has_more = cluster.endpoints.iter().any(|endpoint| Some(endpoint.priority) != first);
    if has_more && !is_watched {
        let text = "only the first priority is ever asked: nothing finds its endpoints unfit";
        let hint = "add outlier_detection or health_checks";
        findings.warning(&path.field("load_assignment.endpoints"), code::NO_EFFECT, text, hint);
    }
}

/// What a route hashes.
pub(super) fn hash_policies(
    said: &[route::route_action::HashPolicy],
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<HashPolicy> {
    let listed = path.field("hash_policy");
    if said.len() > defaults::HASH_POLICIES_MAX {
        let text = format!("at most {} parts of a request are hashed", defaults::HASH_POLICIES_MAX);
        findings.unsupported_value(&listed, text, "");
    }
    let policies = said.iter().enumerate().filter_map(|(at, said)| {
        let source = hash_source(said, &listed.at(at), findings)?;
        Some(HashPolicy { source, is_terminal: said.terminal })
    });
    policies.collect()
}

fn hash_source(
    said: &route::route_action::HashPolicy,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<HashSource> {
    use route::route_action::hash_policy::PolicySpecifier;
    match said.policy_specifier.as_ref()? {
        PolicySpecifier::Header(said) => {
            let name = said.header_name.parse::<HeaderName>();
            if name.is_err() {
                let invalid = Invalid::new(format!("'{}' cannot be the name of a header", said.header_name));
                findings.invalid(&path.field("header.header_name"), invalid);
            }
            name.ok().map(HashSource::Header)
        }
        PolicySpecifier::Cookie(said) => {
            let path = path.field("cookie");
            // Envoy counts whole seconds.
            let ttl = said.ttl.as_ref().map(|ttl| value::duration(ttl, &path.field("ttl"), findings));
            let ttl = ttl.map(|ttl| Duration::from_secs(ttl.as_secs()));
            let attributes = said.attributes.iter().map(|one| (one.name.clone(), one.value.clone()));
            match Cookie::new(said.name.clone(), ttl, said.path.clone(), attributes.collect()) {
                Ok(cookie) => Some(HashSource::Cookie(cookie)),
                Err(invalid) => {
                    findings.invalid(&path, invalid);
                    None
                }
            }
        }
        PolicySpecifier::ConnectionProperties(said) => {
            if !said.source_ip {
                let text = "connection_properties hash nothing without source_ip: true";
                findings.warning(&path.field("connection_properties"), code::NO_EFFECT, text, "");
            }
            said.source_ip.then_some(HashSource::SourceIp)
        }
        PolicySpecifier::QueryParameter(said) => Some(HashSource::Query(said.name.clone())),
        // Told as not supported.
        PolicySpecifier::FilterState(_) => None,
    }
}
