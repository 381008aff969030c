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
