//! Istio's `ServiceEntry` and `WorkloadEntry`: services and machines that Kubernetes does not know.

use crate::{Meta, Number, Place, Placed, Text, Texts};

objects! {
    ServiceEntry {
        meta: Meta,
        spec: ServiceEntrySpec,
    }

    ServiceEntrySpec {
        hosts: Texts,
        addresses: Texts,
        ports: Vec<ServicePort>,
        location: Option<Placed<Location>>,
        resolution: Option<Placed<Resolution>>,
        endpoints: Vec<WorkloadEntrySpec>,
        workload_selector: Option<LabelSelector>,
        export_to: Texts,
        subject_alt_names: Texts,
    }

    LabelSelector {
        labels: Vec<(Text, Text)>,
    }

    ServicePort {
        number: Number,
        name: Text,
        protocol: Option<Text>,
        target_port: Option<Number>,
    }

    WorkloadEntry {
        meta: Meta,
        spec: WorkloadEntrySpec,
    }

    /// What many machines have in common that join one by one.
    WorkloadGroup {
        meta: Meta,
        spec: WorkloadGroupSpec,
    }

    WorkloadGroupSpec {
        metadata: Option<GroupMeta>,
        template: Option<WorkloadEntrySpec>,
        probe: Option<GroupProbe>,
    }

    GroupMeta {
        labels: Vec<(Text, Text)>,
        annotations: Vec<(Text, Text)>,
    }

    GroupProbe {
        initial_delay_seconds: Option<Number>,
        timeout_seconds: Option<Number>,
        period_seconds: Option<Number>,
        success_threshold: Option<Number>,
        failure_threshold: Option<Number>,
        http_get: Option<GroupHttp>,
        tcp_socket: Option<GroupTcp>,
        exec: Option<GroupExec>,
        grpc: Option<GroupGrpc>,
    }

    GroupHttp {
        path: Option<Text>,
        port: Number,
        host: Option<Text>,
        scheme: Option<Text>,
        http_headers: Vec<GroupHeader>,
    }

    GroupHeader {
        name: Text,
        value: Text,
    }

    GroupTcp {
        host: Option<Text>,
        port: Number,
    }

    GroupExec {
        command: Texts,
    }

    GroupGrpc {
        port: Option<Number>,
        service: Option<Text>,
    }

    WorkloadEntrySpec {
        address: Option<Text>,
        ports: Vec<(Text, Number)>,
        labels: Vec<(Text, Text)>,
        network: Option<Text>,
        locality: Option<Text>,
        weight: Option<Number>,
        service_account: Option<Text>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    External,
    Internal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}
