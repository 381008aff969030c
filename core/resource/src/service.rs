//! Kubernetes' `Service`, `Endpoints` and `EndpointSlice`: what has a name, and where it is.

use crate::{Flag, Meta, Number, Place, Placed, Text, Texts};

objects! {
    Service {
        meta: Meta,
        spec: ServiceSpec,
    }

    ServiceSpec {
        kind: Option<Text>,
        selector: Vec<(Text, Text)>,
        ports: Vec<ServicePort>,
        external_name: Option<Text>,
        cluster_ip: Option<Text>,
        traffic_distribution: Option<Placed<TrafficDistribution>>,
        session_affinity: Option<Text>,
    }

    ServicePort {
        name: Option<Text>,
        port: Number,
        target_port: Option<Placed<PortRef>>,
        protocol: Option<Text>,
        app_protocol: Option<Text>,
    }

    Endpoints {
        meta: Meta,
        subsets: Vec<EndpointSubset>,
    }

    EndpointSubset {
        addresses: Vec<EndpointAddress>,
        not_ready_addresses: Vec<EndpointAddress>,
        ports: Vec<EndpointPort>,
    }

    EndpointAddress {
        ip: Text,
    }

    EndpointPort {
        name: Option<Text>,
        port: Number,
        protocol: Option<Text>,
        app_protocol: Option<Text>,
    }

    EndpointSlice {
        meta: Meta,
        address_type: Option<Text>,
        endpoints: Vec<SliceEndpoint>,
        ports: Vec<EndpointPort>,
    }

    SliceEndpoint {
        addresses: Texts,
        conditions: Option<Conditions>,
    }

    Conditions {
        ready: Option<Flag>,
        serving: Option<Flag>,
        terminating: Option<Flag>,
    }
}

/// Whose endpoints come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// The older name of `PreferSameZone`.
    PreferClose,
    PreferSameZone,
    PreferSameNode,
}

/// A port by its number or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    Number(u16),
    Name(String),
}
