//! What holds for all of a mesh: Istio's `MeshConfig`, as a document of its own or in one of Istio's.

use crate::destination_rule::{
    ConnectionPool, H2Upgrade, LocalityLoadBalancer, OutlierDetection, TcpKeepalive,
};
use crate::sidecar::OutboundTrafficPolicy;
use crate::virtual_service::HttpRetry;
use crate::{Flag, Number, Place, Placed, Seconds, Text, Texts};

objects! {
    MeshConfig {
        extension_providers: Vec<ExtensionProvider>,
        root_namespace: Option<Text>,
        trust_domain: Option<Text>,
        trust_domain_aliases: Texts,
        outbound_traffic_policy: Option<OutboundTrafficPolicy>,
        path_normalization: Option<PathNormalization>,
        default_http_retry_policy: Option<HttpRetry>,
        default_traffic_policy: Option<DefaultTrafficPolicy>,
        locality_lb_setting: Option<LocalityLoadBalancer>,
        connect_timeout: Option<Seconds>,
        tcp_keepalive: Option<TcpKeepalive>,
        h2_upgrade_policy: Option<Placed<H2Upgrade>>,
        dns_refresh_rate: Option<Seconds>,
        default_service_export_to: Texts,
        default_virtual_service_export_to: Texts,
        default_destination_rule_export_to: Texts,
        access_log_file: Option<Text>,
        access_log_format: Option<WrittenFormat>,
        access_log_encoding: Option<Text>,
        default_config: Option<ProxyConfig>,
    }

    /// Of services whose DestinationRule does not say it, or that have none.
    DefaultTrafficPolicy {
        connection_pool: Option<ConnectionPool>,
        outlier_detection: Option<OutlierDetection>,
    }

    PathNormalization {
        normalization: Option<Placed<Normalization>>,
    }

    /// As it is, and as the fields of an object where it is one.
    WrittenFormat {
        text: String,
        fields: Vec<(String, String)>,
    }

    /// What holds for all proxies.
    ProxyConfig {
        drain_duration: Option<Seconds>,
        gateway_topology: Option<GatewayTopology>,
    }

    GatewayTopology {
        num_trusted_proxies: Option<Number>,
        forward_client_cert_details: Option<Text>,
    }

    /// Somebody whom policies call by name.
    ExtensionProvider {
        name: Text,
        envoy_ext_authz_http: Option<ExtAuthzHttp>,
        envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    }

    ExtAuthzHttp {
        /// `[NAMESPACE/]HOST`.
        service: Text,
        port: Number,
        timeout: Option<Seconds>,
        path_prefix: Option<Text>,
        fail_open: Option<Flag>,
        status_on_error: Option<Text>,
        /// The older name of what follows.
        include_headers_in_check: Texts,
        include_request_headers_in_check: Texts,
        include_additional_headers_in_check: Vec<(Text, Text)>,
        include_request_body_in_check: Option<ExtAuthzBody>,
        headers_to_upstream_on_allow: Texts,
        headers_to_downstream_on_deny: Texts,
        headers_to_downstream_on_allow: Texts,
        clear_route_cache: Option<Flag>,
    }

    ExtAuthzGrpc {
        service: Text,
        port: Number,
        timeout: Option<Seconds>,
        fail_open: Option<Flag>,
        status_on_error: Option<Text>,
        include_request_body_in_check: Option<ExtAuthzBody>,
        clear_route_cache: Option<Flag>,
    }

    ExtAuthzBody {
        max_request_bytes: Number,
        allow_partial_message: Option<Flag>,
        pack_as_bytes: Option<Flag>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// As `Base`.
    Default,
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}
