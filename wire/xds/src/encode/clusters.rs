//! Clusters and their endpoints.

use naru_spec::{
    Cluster, Discovery, DnsFamily, DnsSettings, Endpoint, Http2Settings, OnDemand, Reported,
    UpstreamProtocol, defaults,
};

use super::{balancing, guards, http, limits, tcp, tls, value};
use crate::decode::HTTP_OPTIONS;
use crate::proto::{cluster as proto, core, endpoint, upstream_http};
use crate::schema::pack;

pub(super) fn write(cluster: &Cluster) -> proto::Cluster {
    use proto::cluster::{ClusterDiscoveryType, DiscoveryType};
    let (kind, dns) = match &cluster.discovery {
        Discovery::Static => (DiscoveryType::Static, None),
        Discovery::StrictDns(dns) => (DiscoveryType::StrictDns, Some(dns)),
        Discovery::LogicalDns(dns) => (DiscoveryType::LogicalDns, Some(dns)),
        Discovery::OnDemand(_) => (DiscoveryType::OriginalDst, None),
    };
    let mut message = proto::Cluster {
        name: cluster.name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        connect_timeout: Some(value::duration(cluster.connect_timeout)),
        transport_socket: tcp::upstream_proxy_protocol(
            cluster.proxy_protocol,
            cluster.tls.as_ref().map(tls::upstream),
        ),
        circuit_breakers: limits::circuit_breakers(&cluster.limits),
        upstream_connection_options: cluster.limits.tcp_keepalive.as_ref().map(limits::connection_options),
        ..Default::default()
    };
    if let Some(dns) = dns {
        write_dns(dns, &mut message);
    }
    guards::write(&cluster.guard, &mut message);
    balancing::write(cluster, &mut message);
    if let Discovery::OnDemand(settings) = &cluster.discovery {
        on_demand(settings, &mut message);
    }
    if let Some(options) = http_options(cluster) {
        message.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), pack(&options));
    }
    message
}

/// That the host of a request stands for its endpoint has no words.
fn on_demand(settings: &OnDemand, message: &mut proto::Cluster) {
    use proto::cluster::{LbConfig, OriginalDstLbConfig};
    let name = settings.header.as_ref().map(|name| name.as_str().to_owned());
    message.load_assignment = None;
    message.lb_config = Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
        use_http_header: name.is_some(),
        http_header_name: name.filter(|name| name != defaults::ON_DEMAND_HEADER).unwrap_or_default(),
        upstream_port_override: settings.port_override.map(|port| value::number(port.into())),
        ..Default::default()
    }));
    message.cleanup_interval = Some(settings.cleanup_interval)
        .filter(|interval| *interval != defaults::ON_DEMAND_CLEANUP)
        .map(value::duration);
}

#[expect(deprecated, reason = "the newer spelling is not read yet")]
fn write_dns(dns: &DnsSettings, message: &mut proto::Cluster) {
    use proto::cluster::{DnsLookupFamily, RefreshRate};
    message.dns_lookup_family = match dns.family {
        DnsFamily::Auto => DnsLookupFamily::Auto,
        DnsFamily::V4Only => DnsLookupFamily::V4Only,
        DnsFamily::V6Only => DnsLookupFamily::V6Only,
        DnsFamily::V4Preferred => DnsLookupFamily::V4Preferred,
        DnsFamily::All => DnsLookupFamily::All,
    }
    .into();
    message.dns_refresh_rate = Some(value::duration(dns.refresh));
    if dns.failure_refresh != dns.refresh {
        let rate = value::duration(dns.failure_refresh);
        message.dns_failure_refresh_rate =
            Some(RefreshRate { base_interval: Some(rate), max_interval: Some(rate) });
    }
}

pub(super) fn endpoint(endpoint: &Endpoint) -> endpoint::LbEndpoint {
    let additional = endpoint.additional.iter().map(|address| endpoint::endpoint::AdditionalAddress {
        address: Some(value::socket_address(address)),
    });
    let said = endpoint::Endpoint {
        address: Some(value::address(&endpoint.address)),
        additional_addresses: additional.collect(),
        ..Default::default()
    };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(said)),
        health_status: match endpoint.reported {
            Reported::Fit => core::HealthStatus::Unknown,
            Reported::Degraded => core::HealthStatus::Degraded,
            Reported::Unfit => core::HealthStatus::Unhealthy,
        }
        .into(),
        load_balancing_weight: (endpoint.weight.0 != 1).then(|| value::number(endpoint.weight.0)),
        ..Default::default()
    }
}

/// Nothing where all is by default.
fn http_options(cluster: &Cluster) -> Option<upstream_http::HttpProtocolOptions> {
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream_http::http_protocol_options::{
        AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
    };
    let mut http2 = http::http2(&cluster.http2, Http2Settings::default());
    if let Some(keepalive) = &cluster.limits.http2_keepalive {
        http2.get_or_insert_default().connection_keepalive = Some(limits::http2_keepalive(keepalive));
    }
    let (connection, stream) = (cluster.limits.connection_duration_max, cluster.limits.stream_duration_max);
    let has_default_connections = cluster.idle_timeout == Some(defaults::UPSTREAM_IDLE_TIMEOUT)
        && cluster.max_requests_per_connection.is_none()
        && (connection, stream) == (None, None);
    if cluster.protocol == UpstreamProtocol::Http1 && has_default_connections {
        return None;
    }
    let protocol = match cluster.protocol {
        UpstreamProtocol::Http1 => UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::HttpProtocolOptions(Default::default())),
        }),
        UpstreamProtocol::Http2 => UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2.unwrap_or_default())),
        }),
        UpstreamProtocol::Alpn => UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
            http2_protocol_options: http2,
            ..Default::default()
        }),
        UpstreamProtocol::Downstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                // Envoy speaks HTTP/2 upstream only where it is named.
                http_protocol_options: Some(Default::default()),
                http2_protocol_options: Some(http2.unwrap_or_default()),
                ..Default::default()
            })
        }
    };
    Some(upstream_http::HttpProtocolOptions {
        common_http_protocol_options: (!has_default_connections).then(|| core::HttpProtocolOptions {
            idle_timeout: Some(value::limit(cluster.idle_timeout)),
            max_requests_per_connection: cluster.max_requests_per_connection.map(value::number),
            max_connection_duration: connection.map(value::duration),
            max_stream_duration: stream.map(value::duration),
            ..Default::default()
        }),
        upstream_protocol_options: Some(protocol),
        ..Default::default()
    })
}
