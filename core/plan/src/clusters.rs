//! The clusters that routes lead to: a service's port, whole or a subset of it.

use std::collections::BTreeMap;
use std::time::Duration;

use naru_base::Weight;
use naru_resource::destination_rule::{
    ClientTls, ConnectionPool, H2Upgrade, LoadBalancer, OutlierDetection, PortPolicy, ProxyProtocol,
    RetryBudget, Subset, TrafficPolicy,
};
use naru_resource::{Number, Seconds};
use naru_spec::{
    BalancingPolicy, Cluster, ClusterLimits, ClusterName, Discovery, Endpoint, Http2Keepalive, OnDemand,
    ProxyVersion, RetryLimit, TcpKeepalive, UpstreamProtocol, defaults,
};

use crate::balancing;
use crate::credentials::Credentials;
use crate::guards::{self, Guards};
use crate::localities::{self, Labelled};
use crate::mesh::Mesh;
use crate::mutual::{self, Mutual};
use crate::policies::Effective;
use crate::registry::{Known, KnownEndpoint, Protocol, Source, has_all};
use crate::tls;

/// The clusters that somebody leads to, by name.
pub(crate) type Clusters = BTreeMap<String, Cluster>;

/// Istio's name for a port of a service, or of a subset of it.
pub(crate) fn name(host: &str, port: u16, subset: Option<&str>) -> String {
    ClusterName { port, subset: subset.unwrap_or(""), host, is_passed: false }.to_string()
}

/// The blocks of a policy that hold for one cluster. A block that a subset has replaces the whole
/// block; so does one of a port, and what a port has none of is not inherited.
#[derive(Clone, Copy, Default)]
pub(crate) struct Blocks<'a> {
    pub balancer: Option<&'a LoadBalancer>,
    pub pool: Option<&'a ConnectionPool>,
    pub detection: Option<&'a OutlierDetection>,
    pub tls: Option<&'a ClientTls>,
    /// Not one of those that a port can have.
    retry_budget: Option<&'a RetryBudget>,
    proxy_protocol: Option<&'a ProxyProtocol>,
}

impl<'a> Blocks<'a> {
    /// Of all ports that have none of their own.
    pub fn whole(policy: &'a TrafficPolicy) -> Blocks<'a> {
        Blocks {
            balancer: policy.load_balancer.as_ref(),
            pool: policy.connection_pool.as_ref(),
            detection: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
            proxy_protocol: policy.proxy_protocol.as_ref(),
        }
    }

    pub fn of_port(settings: &'a PortPolicy) -> Blocks<'a> {
        Blocks {
            balancer: settings.load_balancer.as_ref(),
            pool: settings.connection_pool.as_ref(),
            detection: settings.outlier_detection.as_ref(),
            tls: settings.tls.as_ref(),
            ..Blocks::default()
        }
    }

    /// And whether they are the port's own.
    fn of(policy: &'a TrafficPolicy, port: u16) -> (Blocks<'a>, bool) {
        let own = policy.port_level_settings.iter().find(|settings| {
            settings.port.as_ref().is_some_and(|selector| selector.number.value == i64::from(port))
        });
        let whole = Blocks::whole(policy);
        match own {
            Some(settings) => {
                let (retry_budget, proxy_protocol) = (whole.retry_budget, whole.proxy_protocol);
                (Blocks { retry_budget, proxy_protocol, ..Blocks::of_port(settings) }, true)
            }
            None => (whole, false),
        }
    }

    pub fn effective(effective: &Effective<'a>, subset: Option<&'a Subset>, port: u16) -> Blocks<'a> {
        let (outer, _) = effective.policy.map(|policy| Blocks::of(policy, port)).unwrap_or_default();
        let Some(policy) = subset.and_then(|subset| subset.traffic_policy.as_ref()) else { return outer };
        let (inner, is_of_port) = Blocks::of(policy, port);
        if is_of_port {
            return Blocks {
                retry_budget: inner.retry_budget.or(outer.retry_budget),
                proxy_protocol: inner.proxy_protocol.or(outer.proxy_protocol),
                ..inner
            };
        }
        Blocks {
            balancer: inner.balancer.or(outer.balancer),
            pool: inner.pool.or(outer.pool),
            detection: inner.detection.or(outer.detection),
            tls: inner.tls.or(outer.tls),
            retry_budget: inner.retry_budget.or(outer.retry_budget),
            proxy_protocol: inner.proxy_protocol.or(outer.proxy_protocol),
        }
    }

    /// Without what is between two proxies, where all who are called are processes of this one's own.
    pub fn between(self, known: &Known, subset: Option<&Subset>, port: u16) -> Blocks<'a> {
        let mut called = known.endpoints.iter().filter(|endpoint| is_in(endpoint, subset));
        let mut called =
            called.by_ref().filter(|one| one.addresses.iter().any(|(number, _)| *number == port)).peekable();
        let are_processes = called.peek().is_some() && called.all(|endpoint| endpoint.is_process);
        let tls = self.tls.filter(|tls| !(mutual::is_mutual(tls) && are_processes));
        Blocks { tls, ..self }
    }
}

fn is_in(endpoint: &KnownEndpoint, subset: Option<&Subset>) -> bool {
    subset.is_none_or(|subset| has_all(&endpoint.labels, &subset.labels))
}

/// A port of a service that is known, for a caller with these labels who has this effective policy.
pub(crate) fn build(
    known: &Known,
    port: u16,
    subset: Option<&Subset>,
    effective: &Effective<'_>,
    caller: &[(String, String)],
    guards: &Guards,
    credentials: &Credentials,
) -> Cluster {
    let blocks = Blocks::effective(effective, subset, port).between(known, subset, port);
    let blocks = Blocks {
        pool: blocks.pool.or(effective.mesh.pool),
        detection: blocks.detection.or(effective.mesh.detection),
        ..blocks
    };
    let is_mutual = blocks.tls.is_some_and(mutual::is_mutual);
    let endpoints = known.endpoints.iter().filter_map(|endpoint| {
        if !is_in(endpoint, subset) || is_mutual && endpoint.is_process {
            return None;
        }
        let (_, address) = endpoint.addresses.iter().find(|(number, _)| *number == port)?;
        let built = Endpoint {
            weight: Weight(endpoint.weight),
            locality: endpoint.locality.clone(),
            ..Endpoint::new(address.clone())
        };
        Some((built, endpoint.labels.as_slice()))
    });
    let mut endpoints: Vec<Labelled<'_>> = endpoints.collect();
    let locality = blocks.balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref());
    // What a DestinationRule says goes before what the Service says.
    let near = known.distribution.filter(|_| locality.is_none());
    let near = near.and_then(|distribution| localities::of_distribution(distribution, caller));
    let ejects = blocks.detection.is_some() || near.is_some();
    let said = locality.or(near.as_ref()).or(effective.mesh.locality);
    let weighs_localities = localities::apply(&mut endpoints, said, caller, ejects);
    let endpoints: Vec<Endpoint> = endpoints.into_iter().map(|(endpoint, _)| endpoint).collect();
    let dns = effective.mesh.dns;
    let passes_through = balancing::is_passthrough(blocks.balancer);
    let discovery = match known.source {
        _ if known.brings_endpoints(passes_through) => Discovery::OnDemand(on_demand(port)),
        Source::Static => Discovery::Static,
        Source::DnsFirst if endpoints.len() == 1 => Discovery::LogicalDns(dns),
        Source::Dns | Source::DnsFirst | Source::OnDemand => Discovery::StrictDns(dns),
    };
    let subset_name = subset.map(|subset| subset.name.as_str());
    let is_on_demand = matches!(discovery, Discovery::OnDemand(_));
    let endpoints = if is_on_demand { Vec::new() } else { endpoints };
    let mut cluster = Cluster::new(name(&known.host, port, subset_name), discovery, endpoints);
    cluster.protocol = match known.port(port).map(|port| port.protocol) {
        Some(Protocol::Http) => UpstreamProtocol::Http1,
        Some(Protocol::Http2 | Protocol::GrpcWeb) => UpstreamProtocol::Http2,
        Some(Protocol::Auto | Protocol::Tcp) | None => UpstreamProtocol::Downstream,
    };
    cluster.connect_timeout = effective.mesh.connect_timeout;
    if effective.mesh.upgrades_to_http2 && cluster.protocol == UpstreamProtocol::Http1 {
        let policy = blocks.pool.and_then(|pool| pool.http.as_ref()?.h2_upgrade_policy);
        if policy.is_none_or(|policy| policy.value != H2Upgrade::DoNotUpgrade) {
            cluster.protocol = UpstreamProtocol::Http2;
        }
    }
    cluster.limits = ClusterLimits::istio();
    cluster.limits.tcp_keepalive = effective.mesh.tcp_keepalive.map(keepalive);
    cluster.load_balancing = balancing::settings(blocks.balancer);
    cluster.load_balancing.weighs_localities = weighs_localities;
    apply(&mut cluster, known, blocks, effective.mesh.mutual);
    credentials.apply(&mut cluster, blocks.tls);
    guards.apply(&mut cluster, known, port, subset_name);
    if is_on_demand {
        // Nobody is chosen, and nobody is there to be watched.
        cluster.load_balancing = BalancingPolicy::Passthrough.into();
        cluster.guard.outlier_detection = None;
        cluster.guard.health_check = None;
    }
    cluster
}

/// What the host of a request stands for; a port that it does not say is the service's.
fn on_demand(port: u16) -> OnDemand {
    OnDemand { authority_port: Some(port), ..OnDemand::default() }
}

/// Where requests go whose host is an address that no service has: as Istio calls it.
pub(crate) fn of_addresses(mesh: &Mesh<'_>) -> Cluster {
    let discovery = Discovery::OnDemand(on_demand(80));
    Cluster {
        connect_timeout: mesh.clusters.connect_timeout,
        protocol: UpstreamProtocol::Downstream,
        limits: ClusterLimits::istio(),
        load_balancing: BalancingPolicy::Passthrough.into(),
        ..Cluster::new(defaults::ADDRESSES_CLUSTER, discovery, Vec::new())
    }
}

/// A cluster of a host that nobody defines: it has no endpoints.
pub(crate) fn empty(host: &str, port: u16, subset: Option<&str>) -> Cluster {
    Cluster::new(name(host, port, subset), Discovery::Static, Vec::new())
}

fn apply(cluster: &mut Cluster, known: &Known, blocks: Blocks<'_>, mutual: Mutual<'_>) {
    if let Some(said) = blocks.proxy_protocol {
        let is_2 = said.version.as_ref().is_some_and(|version| version.value == "V2");
        cluster.proxy_protocol = Some(if is_2 { ProxyVersion::V2 } else { ProxyVersion::V1 });
        // A connection is for one client, and HTTP/2 would carry several.
        if cluster.protocol == UpstreamProtocol::Downstream {
            cluster.protocol = UpstreamProtocol::Http1;
        }
    }
    if let Some(pool) = blocks.pool {
        apply_pool(cluster, pool);
    }
    if let Some(detection) = blocks.detection {
        cluster.guard.panic_percent = guards::panic_percent(detection);
        cluster.guard.outlier_detection = Some(guards::detection(detection));
    }
    cluster.limits.normal.retries = retry_limit(&blocks);
    cluster.tls = blocks.tls.filter(|tls| tls::is_of_upstream(tls)).map(|tls| {
        if mutual::is_mutual(tls) {
            return mutual.upstream(tls, &cluster.name, known);
        }
        tls::upstream(tls, known)
    });
    if cluster.tls.is_some() && cluster.protocol == UpstreamProtocol::Downstream {
        cluster.protocol = UpstreamProtocol::Alpn;
    }
}

/// How its endpoints are connected to, and how much they bear.
pub(crate) fn apply_pool(cluster: &mut Cluster, pool: &ConnectionPool) {
    if let Some(timeout) = pool.tcp.as_ref().and_then(|tcp| tcp.connect_timeout.as_ref()) {
        cluster.connect_timeout = timeout.value;
    }
    limit(&mut cluster.limits, pool);
    let Some(http) = &pool.http else { return };
    // Zero is without limit.
    let count = |value: &Option<Number>| {
        let value = value.as_ref().and_then(|value| u32::try_from(value.value).ok());
        value.filter(|count| *count > 0)
    };
    cluster.max_requests_per_connection = count(&http.max_requests_per_connection);
    if let Some(timeout) = &http.idle_timeout {
        cluster.idle_timeout = Some(timeout.value).filter(|timeout| *timeout > Duration::ZERO);
    }
    if let Some(streams) = count(&http.max_concurrent_streams) {
        cluster.http2.max_concurrent_streams = streams;
    }
    if http.use_client_protocol.as_ref().is_some_and(|flag| flag.value) {
        cluster.protocol = UpstreamProtocol::Downstream;
    }
    if http.h2_upgrade_policy.as_ref().is_some_and(|policy| policy.value == H2Upgrade::Upgrade) {
        cluster.protocol = UpstreamProtocol::Http2;
    }
}

fn keepalive(said: &naru_resource::destination_rule::TcpKeepalive) -> TcpKeepalive {
    let default = TcpKeepalive::default();
    let probes = said.probes.as_ref().and_then(|probes| u32::try_from(probes.value).ok());
    TcpKeepalive {
        probes: probes.unwrap_or(default.probes),
        time: said.time.map_or(default.time, |time| time.value),
        interval: said.interval.map_or(default.interval, |interval| interval.value),
    }
}

/// Istio takes a limit of zero for none that was said.
fn limit(limits: &mut ClusterLimits, pool: &ConnectionPool) {
    let count = |value: &Option<Number>| {
        let count = value.as_ref().and_then(|value| u32::try_from(value.value).ok());
        count.filter(|count| *count > 0).unwrap_or(u32::MAX)
    };
    let time = |value: &Option<Seconds>| value.as_ref().map(|value| value.value);
    if let Some(tcp) = &pool.tcp {
        limits.normal.connections_max = count(&tcp.max_connections);
        limits.connection_duration_max = time(&tcp.max_connection_duration);
        if let Some(timeout) = time(&tcp.idle_timeout) {
            limits.tcp_idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        }
        if let Some(said) = &tcp.tcp_keepalive {
            limits.tcp_keepalive = Some(keepalive(said));
        }
    }
    if let Some(http) = &pool.http {
        limits.normal.pending_max = count(&http.http1_max_pending_requests);
        limits.normal.requests_max = count(&http.http2_max_requests);
        limits.http2_keepalive = http.http2_keep_alive.as_ref().and_then(|said| {
            let interval = time(&said.interval).filter(|interval| !interval.is_zero())?;
            Some(Http2Keepalive { interval, timeout: time(&said.timeout).unwrap_or(interval) })
        });
    }
}

/// A budget where nothing is said: our own. Istio sets no limit, and Envoy's three at a time are too few for many
/// requests and too many for few.
fn retry_limit(blocks: &Blocks<'_>) -> RetryLimit {
    let mut budget = naru_spec::RetryBudget::default();
    if let Some(said) = blocks.retry_budget {
        let least = said.min_retry_concurrency.as_ref().and_then(|least| u32::try_from(least.value).ok());
        let least = least.unwrap_or(budget.concurrency_min);
        let percent = said.percent.map_or_else(|| budget.percent(), |percent| percent.value);
        // What cannot be is told where policies are checked.
        budget = naru_spec::RetryBudget::of_percent(percent, least).unwrap_or(budget);
        budget.interval = said.budget_interval.map_or(budget.interval, |interval| interval.value);
        return RetryLimit::Budget(budget);
    }
    let at_once = blocks.pool.and_then(|pool| pool.http.as_ref()?.max_retries.as_ref());
    match at_once.and_then(|most| u32::try_from(most.value).ok()) {
        // Without limit, as every other limit of zero.
        Some(0) => RetryLimit::Concurrent(u32::MAX),
        Some(most) => RetryLimit::Concurrent(most),
        None => RetryLimit::Budget(budget),
    }
}

/// Whether requests go where a hash of them leads.
pub(crate) fn is_hashed(effective: &Effective<'_>, subset: Option<&Subset>, port: u16) -> bool {
    let balancer = Blocks::effective(effective, subset, port).balancer;
    balancer.is_some_and(|balancer| balancer.consistent_hash.is_some())
}
