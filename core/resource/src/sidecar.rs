//! Istio's `Sidecar`: what a workload sees of the mesh, and what becomes of calls that go anywhere else.

use crate::destination_rule::ConnectionPool;
use crate::gateway::ServerTls;
use crate::service_entry::LabelSelector;
use crate::virtual_service::Destination;
use crate::{Meta, Number, Place, Placed, Text, Texts};

objects! {
    Sidecar {
        meta: Meta,
        spec: SidecarSpec,
    }

    SidecarSpec {
        workload_selector: Option<LabelSelector>,
        ingress: Vec<IngressListener>,
        egress: Vec<EgressListener>,
        inbound_connection_pool: Option<ConnectionPool>,
        outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }

    IngressListener {
        port: Option<SidecarPort>,
        bind: Option<Text>,
        capture_mode: Option<Text>,
        default_endpoint: Option<Text>,
        tls: Option<ServerTls>,
        connection_pool: Option<ConnectionPool>,
    }

    EgressListener {
        port: Option<SidecarPort>,
        bind: Option<Text>,
        capture_mode: Option<Text>,
        /// `NAMESPACE/HOST`.
        hosts: Texts,
    }

    SidecarPort {
        number: Number,
        protocol: Option<Text>,
        name: Option<Text>,
        target_port: Option<Number>,
    }

    OutboundTrafficPolicy {
        mode: Option<Placed<OutboundMode>>,
        egress_proxy: Option<Destination>,
    }
}

/// What becomes of calls to whom no document knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundMode {
    AllowAny,
    RegistryOnly,
}
