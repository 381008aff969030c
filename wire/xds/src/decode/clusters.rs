//! Clusters and their endpoints.

use ::http::HeaderName;
use naru_base::Weight;
use naru_spec::{
    Address, Cluster, Discovery, DnsFamily, DnsSettings, Endpoint, Http2Settings, Invalid, OnDemand,
    Reported, UpstreamProtocol, defaults,
};

use super::{balancing, guards, http, limits, ours, tcp, tls, value};
use crate::findings::{Findings, code};
use crate::proto::{cluster as proto, core, endpoint, upstream_http};
use crate::schema::{type_name, unpack};
use naru_spec::Path;

/// The key of `typed_extension_protocol_options`.
pub(crate) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(crate) fn read(said: &proto::Cluster, path: &Path<'_>, findings: &mut Findings<'_>) -> Cluster {
    if let Some(cluster) = ours::cluster(said, path, findings) {
        return cluster;
    }
    let discovery = discovery(said, path, findings);
    let endpoints = endpoints(said, &discovery, path, findings);
    let mut cluster = Cluster::new(said.name.clone(), discovery, endpoints);
    if let Some(said) = &said.connect_timeout {
        cluster.connect_timeout = value::duration(said, &path.field("connect_timeout"), findings);
    }
    cluster.load_balancing = balancing::read(said, path, findings);
    limits::read(said, &mut cluster.limits, path, findings);
    protocol(said, &mut cluster, path, findings);
    guards::read(said, &mut cluster, path, findings);
    balancing::check_priorities(&cluster, path, findings);
    if let Some(socket) = &said.transport_socket {
        let path = path.field("transport_socket");
        let (version, wrapped) = tcp::upstream_proxy_protocol(socket);
        cluster.proxy_protocol = version;
        match (version, wrapped) {
            (Some(_), Some(socket)) => {
                let path = path.field("typed_config.transport_socket");
                cluster.tls = tls::upstream(&socket, &said.name, &path, findings);
            }
            // Told by the API's own rules.
            (Some(_), None) => {}
            (None, _) => cluster.tls = tls::upstream(socket, &said.name, &path, findings),
        }
    }
    if cluster.protocol == UpstreamProtocol::Alpn && cluster.tls.is_none() {
        let options = path.field("typed_extension_protocol_options");
        let options = options.key(HTTP_OPTIONS);
        let invalid = Invalid::new("auto_config chooses the protocol by ALPN, and that needs TLS")
            .hint("add a transport_socket, or use explicit_http_config");
        findings.invalid(&options.field("auto_config"), invalid);
    }
    cluster
}

#[expect(deprecated, reason = "what replaces these fields is not supported yet")]
fn discovery(said: &proto::Cluster, path: &Path<'_>, findings: &mut Findings<'_>) -> Discovery {
    use proto::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
    let kind = match said.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).unwrap_or_default(),
        // Told as not supported; names are allowed, so that nothing else is told about them.
        Some(ClusterDiscoveryType::ClusterType(_)) => DiscoveryType::StrictDns,
        None => DiscoveryType::Static,
    };
    let mut dns = DnsSettings {
        family: match said.dns_lookup_family() {
            DnsLookupFamily::Auto => DnsFamily::Auto,
            DnsLookupFamily::V4Only => DnsFamily::V4Only,
            DnsLookupFamily::V6Only => DnsFamily::V6Only,
            DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
            DnsLookupFamily::All => DnsFamily::All,
        },
        ..DnsSettings::default()
    };
    if let Some(rate) = &said.dns_refresh_rate {
        dns.refresh = value::duration(rate, &path.field("dns_refresh_rate"), findings);
    }
    dns.failure_refresh = dns.refresh;
    if let Some(rate) = &said.dns_failure_refresh_rate {
        let path = path.field("dns_failure_refresh_rate");
        if let Some(base) = &rate.base_interval {
            dns.failure_refresh = value::duration(base, &path.field("base_interval"), findings);
        }
        if let Some(max) = &rate.max_interval {
            let path = path.field("max_interval");
            if value::duration(max, &path, findings) != dns.failure_refresh {
                let text = "naru tries again at a steady pace: max_interval must equal base_interval";
                findings.unsupported_value(&path, text, "remove max_interval");
            }
        }
    }
    let unsupported = |text, hint, findings: &mut Findings<'_>| {
        findings.unsupported_value(&path.field("type"), text, hint);
        Discovery::StrictDns(dns)
    };
    match kind {
        DiscoveryType::StrictDns => Discovery::StrictDns(dns),
        DiscoveryType::LogicalDns => Discovery::LogicalDns(dns),
        DiscoveryType::Static => {
            for (field, is_said) in [
                ("dns_lookup_family", said.dns_lookup_family != 0),
                ("dns_refresh_rate", said.dns_refresh_rate.is_some()),
                ("dns_failure_refresh_rate", said.dns_failure_refresh_rate.is_some()),
            ] {
                if is_said {
                    let text = format!("{field} has no effect in a cluster of type STATIC");
                    findings.warning(&path.field(field), code::NO_EFFECT, text, "");
                }
            }
            Discovery::Static
        }
        DiscoveryType::Eds => unsupported(
            "endpoints by EDS come from a control plane",
            "one of STATIC, STRICT_DNS, LOGICAL_DNS",
            findings,
        ),
        DiscoveryType::OriginalDst => Discovery::OnDemand(on_demand(said, path, findings)),
    }
}

/// Envoy knows by the connection where it was to go before it was led away (`use_original_dst`). Nobody leads any to
/// naru, so that a header must say it.
fn on_demand(said: &proto::Cluster, path: &Path<'_>, findings: &mut Findings<'_>) -> OnDemand {
    let config = match &said.lb_config {
        Some(proto::cluster::LbConfig::OriginalDstLbConfig(config)) => config.clone(),
        _ => Default::default(),
    };
    let path_of = path.field("original_dst_lb_config");
    if said.lb_policy() != proto::cluster::LbPolicy::ClusterProvided {
        let invalid = Invalid::new("a cluster of type ORIGINAL_DST has lb_policy: CLUSTER_PROVIDED");
        findings.invalid(&path.field("lb_policy"), invalid.hint("say lb_policy: CLUSTER_PROVIDED"));
    }
    if said.load_assignment.is_some() {
        let invalid =
            Invalid::new("a cluster of type ORIGINAL_DST has no endpoints but those of its requests");
        findings.invalid(&path.field("load_assignment"), invalid.hint("remove it"));
    }
    if !config.use_http_header {
        let text = "the address that a connection was led away from is not known to naru";
        findings.unsupported_value(&path_of.field("use_http_header"), text, "use_http_header: true");
    }
    let name = Some(config.http_header_name.as_str()).filter(|name| !name.is_empty());
    let header = HeaderName::try_from(name.unwrap_or(defaults::ON_DEMAND_HEADER));
    if let (Err(_), Some(name)) = (&header, name) {
        let invalid = Invalid::new(format!("'{name}' is not the name of a header"));
        findings.invalid(&path_of.field("http_header_name"), invalid);
    }
    let interval = said.cleanup_interval.as_ref();
    OnDemand {
        header: header.ok(),
        authority_port: None,
        // What is out of range is told by the API's own rules.
        port_override: config.upstream_port_override.and_then(|port| u16::try_from(port.value).ok()),
        cleanup_interval: interval.map_or(defaults::ON_DEMAND_CLEANUP, |interval| {
            value::duration(interval, &path.field("cleanup_interval"), findings)
        }),
    }
}

fn endpoints(
    said: &proto::Cluster,
    discovery: &Discovery,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Endpoint> {
    // Told above.
    if matches!(discovery, Discovery::OnDemand(_)) {
        return Vec::new();
    }
    let Some(assignment) = &said.load_assignment else {
        findings.missing(&path.field("load_assignment"), "a cluster needs endpoints: load_assignment");
        return Vec::new();
    };
    let path = path.field("load_assignment.endpoints");
    let found = balancing::endpoints(&assignment.endpoints, said, discovery, &path, findings);
    if matches!(discovery, Discovery::LogicalDns(_)) && found.len() != 1 {
        let invalid =
            Invalid::new(format!("a cluster of type LOGICAL_DNS has one endpoint, not {}", found.len()))
                .hint("use STRICT_DNS for several");
        findings.invalid(&path, invalid);
    }
    found
}

pub(super) fn endpoint(
    said: &endpoint::LbEndpoint,
    discovery: &Discovery,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Endpoint {
    let of_additional = path.field("endpoint.additional_addresses");
    let path = path.field("endpoint.address");
    let address = match &said.host_identifier {
        Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)) => endpoint.address.as_ref(),
        // Told as not supported.
        Some(endpoint::lb_endpoint::HostIdentifier::EndpointName(_)) => {
            return Endpoint::new(Address::Name { host: String::new(), port: 0 });
        }
        None => None,
    };
    let address = match address {
        Some(address) => value::address(address, &path, findings),
        None => {
            findings.missing(&path, "an endpoint needs an address");
            Address::Name { host: String::new(), port: 0 }
        }
    };
    if let (Discovery::StrictDns(_) | Discovery::LogicalDns(_), Address::Pipe(_)) = (discovery, &address) {
        let text = "a Unix socket has no name to be looked up";
        findings.unsupported(&path.field("pipe"), text, "use type: STATIC");
    }
    if let (Discovery::Static, Address::Name { host, .. }) = (discovery, &address)
        && !host.is_empty()
    {
        let invalid =
            Invalid::new(format!("'{host}' is not an IP address, and the cluster's type is STATIC"))
                .hint("use type: STRICT_DNS");
        findings.invalid(&path.field("socket_address.address"), invalid);
    }
    let mut endpoint = Endpoint {
        weight: Weight(said.load_balancing_weight.map_or(1, |v| v.value)),
        reported: reported(said.health_status()),
        ..Endpoint::new(address)
    };
    if let Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(said)) = &said.host_identifier {
        for (at, said) in said.additional_addresses.iter().enumerate() {
            let path = of_additional.at(at);
            let path = path.field("address");
            match &said.address {
                Some(said) => endpoint.additional.push(value::literal_address(said, &path, findings)),
                None => findings.missing(&path, "an additional address is needed"),
            }
        }
        if !endpoint.additional.is_empty() && matches!(endpoint.address, Address::Pipe(_)) {
            let text = "an endpoint on a Unix socket has no additional addresses";
            findings.unsupported(&of_additional, text, "");
        }
        if !endpoint.additional.is_empty() && *discovery != Discovery::Static {
            let text = "only an endpoint of a cluster of type STATIC has additional addresses";
            findings.unsupported(&of_additional, text, "a name may have several addresses: type LOGICAL_DNS");
        }
    }
    endpoint
}

/// As Envoy has it, who is being drained is as good as failed.
fn reported(said: core::HealthStatus) -> Reported {
    match said {
        core::HealthStatus::Unknown | core::HealthStatus::Healthy => Reported::Fit,
        core::HealthStatus::Degraded => Reported::Degraded,
        core::HealthStatus::Unhealthy | core::HealthStatus::Draining | core::HealthStatus::Timeout => {
            Reported::Unfit
        }
    }
}

/// In the cluster itself, as Envoy once said it, or among the extensions.
#[expect(deprecated, reason = "the older spelling is still read")]
fn protocol(said: &proto::Cluster, cluster: &mut Cluster, path: &Path<'_>, findings: &mut Findings<'_>) {
    if let Some(options) = &said.common_http_protocol_options {
        common(options, cluster, &path.field("common_http_protocol_options"), findings);
    }
    if let Some(count) = said.max_requests_per_connection.filter(|count| count.value > 0) {
        cluster.max_requests_per_connection = Some(count.value);
    }
    if let Some(options) = &said.http2_protocol_options {
        cluster.protocol = UpstreamProtocol::Http2;
        cluster.http2 = http::http2(Some(options), Http2Settings::default());
        cluster.limits.http2_keepalive =
            limits::http2_keepalive(Some(options), &path.field("http2_protocol_options"), findings);
        if said.http_protocol_options.is_some() {
            let path = path.field("http_protocol_options");
            let text = "only one of http_protocol_options and http2_protocol_options can be said";
            findings.error(&path, code::CONFLICTING_FIELDS, text, "remove one of them");
        }
    }
    let path = path.field("typed_extension_protocol_options");
    let mut names: Vec<&String> = said.typed_extension_protocol_options.keys().collect();
    names.sort();
    for name in names {
        let path = path.key(name);
        let any = said.typed_extension_protocol_options.get(name);
        match any.and_then(unpack::<upstream_http::HttpProtocolOptions>).filter(|_| name == HTTP_OPTIONS) {
            Some(options) => extension(&options, cluster, &path, findings),
            None => {
                let found = any.map_or("", |any| type_name(&any.type_url));
                let text = format!("the extension '{found}' under the name '{name}' is not supported");
                let hint = format!("only {HTTP_OPTIONS} is");
                findings.error(&path, code::UNSUPPORTED_EXTENSION, text, hint);
            }
        }
    }
}

fn extension(
    said: &upstream_http::HttpProtocolOptions,
    cluster: &mut Cluster,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    use upstream_http::http_protocol_options::UpstreamProtocolOptions as Said;
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    if let Some(options) = &said.common_http_protocol_options {
        common(options, cluster, &path.field("common_http_protocol_options"), findings);
    }
    let (protocol, choice, http2) = match &said.upstream_protocol_options {
        Some(Said::ExplicitHttpConfig(config)) => match &config.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                (UpstreamProtocol::Http2, "explicit_http_config", Some(options))
            }
            _ => (UpstreamProtocol::Http1, "", None),
        },
        Some(Said::AutoConfig(config)) => {
            (UpstreamProtocol::Alpn, "auto_config", config.http2_protocol_options.as_ref())
        }
        Some(Said::UseDownstreamProtocolConfig(config)) => (
            UpstreamProtocol::Downstream,
            "use_downstream_protocol_config",
            config.http2_protocol_options.as_ref(),
        ),
        None => (UpstreamProtocol::Http1, "", None),
    };
    cluster.protocol = protocol;
    cluster.http2 = http::http2(http2, Http2Settings::default());
    let path = path.field(choice);
    let path = path.field("http2_protocol_options");
    cluster.limits.http2_keepalive = limits::http2_keepalive(http2, &path, findings);
}

fn common(
    said: &core::HttpProtocolOptions,
    cluster: &mut Cluster,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    let default = Some(defaults::UPSTREAM_IDLE_TIMEOUT);
    cluster.idle_timeout = value::limit(&said.idle_timeout, default, &path.field("idle_timeout"), findings);
    cluster.max_requests_per_connection = http::requests_max(said);
    limits::durations(said, &mut cluster.limits, path, findings);
    if said.max_headers_count.is_some() {
        findings.unsupported(
            &path.field("max_headers_count"),
            "the number of headers in a response is not limited",
            "",
        );
    }
}
