//! What holds for all of a mesh.
//!
//! It is written as a `MeshConfig` of ours, as `spec.meshConfig` of an `IstioOperator`, or as the text `data.mesh` of the
//! ConfigMap `istio`. Istio's say much more than naru acts on: that is told, field by field.

use naru_resource::Resources;
use naru_resource::mesh_config::{
    DefaultTrafficPolicy, ExtAuthzBody, ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, GatewayTopology,
    MeshConfig, Normalization, PathNormalization, ProxyConfig, WrittenFormat,
};
use naru_spec::{Path, Severity, code};

use crate::kind::field;
use crate::read::{Fields, Read, Reader, Scalar, record, words};
use crate::tree::{Kind, Node, Position, parse};

impl Read for MeshConfig {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<MeshConfig> {
        let mut fields = Fields::of(node, path, reader)?;
        fields.pass_by(&["apiVersion", "kind", "metadata", "status"], reader);
        let spec: Option<Said> = fields.take("spec", reader);
        fields.finish(reader);
        spec.map(|said| said.0)
    }
}

/// The fields of ours.
struct Said(MeshConfig);

impl Read for Said {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Said> {
        let mut fields = Fields::of(node, path, reader)?;
        let mesh = mesh(&mut fields, reader);
        fields.finish(reader);
        mesh.map(Said)
    }
}

/// What naru acts on, of ours and of Istio's.
fn mesh(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<MeshConfig> {
    let place = fields.place(reader);
    let extension_providers = fields.take("extensionProviders", reader);
    let root_namespace = fields.take("rootNamespace", reader);
    let trust_domain = fields.take("trustDomain", reader);
    let trust_domain_aliases = fields.take("trustDomainAliases", reader);
    let outbound_traffic_policy = fields.take("outboundTrafficPolicy", reader);
    let path_normalization = fields.take("pathNormalization", reader);
    let default_http_retry_policy = fields.take("defaultHttpRetryPolicy", reader);
    let default_traffic_policy = fields.take("defaultTrafficPolicy", reader);
    let locality_lb_setting = fields.take("localityLbSetting", reader);
    let connect_timeout = fields.take("connectTimeout", reader);
    let tcp_keepalive = fields.take("tcpKeepalive", reader);
    let h2_upgrade_policy = fields.take("h2UpgradePolicy", reader);
    let dns_refresh_rate = fields.take("dnsRefreshRate", reader);
    let default_service_export_to = fields.take("defaultServiceExportTo", reader);
    let default_virtual_service_export_to = fields.take("defaultVirtualServiceExportTo", reader);
    let default_destination_rule_export_to = fields.take("defaultDestinationRuleExportTo", reader);
    let access_log_file = fields.take("accessLogFile", reader);
    let access_log_format = fields.take("accessLogFormat", reader);
    let access_log_encoding = fields.take("accessLogEncoding", reader);
    let default_config = fields.take("defaultConfig", reader);
    Some(MeshConfig {
        place,
        extension_providers: extension_providers?,
        root_namespace: root_namespace?,
        trust_domain: trust_domain?,
        trust_domain_aliases: trust_domain_aliases?,
        outbound_traffic_policy: outbound_traffic_policy?,
        path_normalization: path_normalization?,
        default_http_retry_policy: default_http_retry_policy?,
        default_traffic_policy: default_traffic_policy?,
        locality_lb_setting: locality_lb_setting?,
        connect_timeout: connect_timeout?,
        tcp_keepalive: tcp_keepalive?,
        h2_upgrade_policy: h2_upgrade_policy?,
        dns_refresh_rate: dns_refresh_rate?,
        default_service_export_to: default_service_export_to?,
        default_virtual_service_export_to: default_virtual_service_export_to?,
        default_destination_rule_export_to: default_destination_rule_export_to?,
        access_log_file: access_log_file?,
        access_log_format: access_log_format?,
        access_log_encoding: access_log_encoding?,
        default_config: default_config?,
    })
}

record!(DefaultTrafficPolicy { connection_pool: "connectionPool", outlier_detection: "outlierDetection" });
record!(PathNormalization { normalization: "normalization" });
words!(Normalization {
    "DEFAULT" => Normalization::Default,
    "NONE" => Normalization::None,
    "BASE" => Normalization::Base,
    "MERGE_SLASHES" => Normalization::MergeSlashes,
    "DECODE_AND_MERGE_SLASHES" => Normalization::DecodeAndMergeSlashes,
});

impl Read for WrittenFormat {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<WrittenFormat> {
        let text = String::scalar(node, path, reader)?;
        let mut fields = Vec::new();
        if text.trim_start().starts_with('{')
            && let Ok(Node { kind: Kind::Map(entries), .. }) = parse(&text)
        {
            for entry in entries {
                match entry.node.kind {
                    Kind::Text(value) => fields.push((entry.key, value)),
                    _ => {
                        let message = format!("the field '{}' of a log is no text", entry.key);
                        reader.error(code::UNSUPPORTED_FIELD, node.position, path, message, "");
                    }
                }
            }
        }
        Some(WrittenFormat { place: reader.place(node.position), text, fields })
    }
}

impl Read for ProxyConfig {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<ProxyConfig> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let drain_duration = fields.take("drainDuration", reader);
        let gateway_topology = fields.take("gatewayTopology", reader);
        fields.leave("of proxies", reader);
        Some(ProxyConfig { place, drain_duration: drain_duration?, gateway_topology: gateway_topology? })
    }
}

record!(GatewayTopology {
    num_trusted_proxies: "numTrustedProxies",
    forward_client_cert_details: "forwardClientCertDetails",
});

/// Of an `IstioOperator`, whose other fields are about what is installed.
pub(super) fn operator(node: &Node, reader: &mut Reader<'_>, resources: &mut Resources) {
    let Some(spec) = field(node, "spec") else { return };
    if let Some(mesh) = field(spec, "meshConfig") {
        let spec = Path::ROOT.field("spec");
        istios(mesh, &spec.field("meshConfig"), reader, resources);
    }
}

/// Of the ConfigMap that Istio reads.
pub(super) fn config_map(node: &Node, reader: &mut Reader<'_>, resources: &mut Resources) {
    let name = field(node, "metadata").and_then(|meta| field(meta, "name")).map(|name| &name.kind);
    let mesh = field(node, "data").and_then(|data| field(data, "mesh"));
    let (Some(Kind::Text(name)), Some(mesh)) = (name, mesh) else { return };
    let Kind::Text(text) = &mesh.kind else { return };
    if name != "istio" {
        return;
    }
    let data = Path::ROOT.field("data");
    let path = data.field("mesh");
    match parse(text) {
        Ok(mut inner) => {
            // Where a line of the text stands in the file nobody knows.
            put(&mut inner, mesh.position);
            istios(&inner, &path, reader, resources);
        }
        Err(error) => reader.error(code::SYNTAX, mesh.position, &path, error.message, ""),
    }
}

fn put(node: &mut Node, position: Position) {
    node.position = position;
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| put(item, position)),
        Kind::Map(entries) => {
            for entry in entries {
                entry.key_position = position;
                put(&mut entry.node, position);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) => {}
    }
}

fn istios(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>, resources: &mut Resources) {
    let Some(mut fields) = Fields::of(node, path, reader) else { return };
    resources.mesh_configs.extend(mesh(&mut fields, reader));
    fields.leave("of a mesh", reader);
}

/// Those that tell somebody of requests, and ask nobody.
const OTHERS: &[&str] = &[
    "zipkin",
    "lightstep",
    "datadog",
    "stackdriver",
    "opencensus",
    "skywalking",
    "opentelemetry",
    "prometheus",
    "envoyFileAccessLog",
    "envoyHttpAls",
    "envoyTcpAls",
    "envoyOtelAls",
    "sds",
];

impl Read for ExtensionProvider {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<ExtensionProvider> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let name = fields.take("name", reader);
        let envoy_ext_authz_http = fields.take("envoyExtAuthzHttp", reader);
        let envoy_ext_authz_grpc = fields.take("envoyExtAuthzGrpc", reader);
        let others = fields.pass_by(OTHERS, reader);
        fields.finish(reader);
        for other in others {
            let message = format!("naru does not act on a provider of the kind '{}'", other.value);
            let position = Position { line: other.place.line, column: other.place.column };
            let path = path.field(&other.value);
            reader.tell(Severity::Warning, code::NOT_YET, position, &path, message, "");
        }
        Some(ExtensionProvider {
            place,
            name: name?,
            envoy_ext_authz_http: envoy_ext_authz_http?,
            envoy_ext_authz_grpc: envoy_ext_authz_grpc?,
        })
    }
}

record!(ExtAuthzHttp {
    service: "service",
    port: "port",
    timeout: "timeout",
    path_prefix: "pathPrefix",
    fail_open: "failOpen",
    status_on_error: "statusOnError",
    include_headers_in_check: "includeHeadersInCheck",
    include_request_headers_in_check: "includeRequestHeadersInCheck",
    include_additional_headers_in_check: "includeAdditionalHeadersInCheck",
    include_request_body_in_check: "includeRequestBodyInCheck",
    headers_to_upstream_on_allow: "headersToUpstreamOnAllow",
    headers_to_downstream_on_deny: "headersToDownstreamOnDeny",
    headers_to_downstream_on_allow: "headersToDownstreamOnAllow",
    clear_route_cache: "clearRouteCache",
});
record!(ExtAuthzGrpc {
    service: "service",
    port: "port",
    timeout: "timeout",
    fail_open: "failOpen",
    status_on_error: "statusOnError",
    include_request_body_in_check: "includeRequestBodyInCheck",
    clear_route_cache: "clearRouteCache",
});
record!(ExtAuthzBody {
    max_request_bytes: "maxRequestBytes",
    allow_partial_message: "allowPartialMessage",
    pack_as_bytes: "packAsBytes",
});
