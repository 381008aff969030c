//! Istio's `Sidecar` and `WorkloadGroup`.

use naru_resource::service_entry::{self as entry, WorkloadGroup};
use naru_resource::sidecar::{self, OutboundMode};

use crate::kind::document;
use crate::read::{record, words};

document!(sidecar::Sidecar { spec: "spec" });
record!(sidecar::SidecarSpec {
    workload_selector: "workloadSelector",
    ingress: "ingress",
    egress: "egress",
    inbound_connection_pool: "inboundConnectionPool",
    outbound_traffic_policy: "outboundTrafficPolicy",
});
record!(sidecar::IngressListener {
    port: "port",
    bind: "bind",
    capture_mode: "captureMode",
    default_endpoint: "defaultEndpoint",
    tls: "tls",
    connection_pool: "connectionPool",
});
record!(sidecar::SidecarPort {
    number: "number",
    protocol: "protocol",
    name: "name",
    target_port: "targetPort",
});
record!(sidecar::EgressListener { port: "port", bind: "bind", capture_mode: "captureMode", hosts: "hosts" });
record!(sidecar::OutboundTrafficPolicy { mode: "mode", egress_proxy: "egressProxy" });
words!(OutboundMode {
    "ALLOW_ANY" => OutboundMode::AllowAny,
    "REGISTRY_ONLY" => OutboundMode::RegistryOnly,
});

document!(WorkloadGroup { spec: "spec" });
record!(entry::WorkloadGroupSpec { metadata: "metadata", template: "template", probe: "probe" });
record!(entry::GroupMeta { labels: "labels", annotations: "annotations" });
record!(entry::GroupProbe {
    initial_delay_seconds: "initialDelaySeconds",
    timeout_seconds: "timeoutSeconds",
    period_seconds: "periodSeconds",
    success_threshold: "successThreshold",
    failure_threshold: "failureThreshold",
    http_get: "httpGet",
    tcp_socket: "tcpSocket",
    exec: "exec",
    grpc: "grpc",
});
record!(entry::GroupHttp {
    path: "path",
    port: "port",
    host: "host",
    scheme: "scheme",
    http_headers: "httpHeaders",
});
record!(entry::GroupHeader { name: "name", value: "value" });
record!(entry::GroupTcp { host: "host", port: "port" });
record!(entry::GroupExec { command: "command" });
record!(entry::GroupGrpc { port: "port", service: "service" });
