//! Is a `ServiceEntry` or a `WorkloadEntry` one that makes sense?
//!
//! Comes in: one document. Goes out: what of it cannot be, or could be read in two ways. Deliberately not here: what it
//! becomes (`registry`). Source: Istio's `validation.go`: `ValidateServiceEntry`, `validateWorkloadEntry`.

use naru_resource::service_entry::{Resolution, WorkloadEntrySpec};
use naru_resource::{Resources, ServiceEntry};
use naru_spec::{Path, code};

use crate::findings::Findings;
use crate::registry::port_number;

/// What a port may be said to speak.
const PROTOCOLS: [&str; 12] =
    ["HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "UDP", "MONGO", "MYSQL", "REDIS", "HBONE"];

pub(crate) fn check(resources: &Resources, findings: &mut Findings<'_>) {
    for entry in &resources.service_entries {
        check_entry(entry, findings);
    }
    for workload in &resources.workload_entries {
        check_endpoint(&workload.spec, &Path::ROOT.field("spec"), findings);
    }
}

fn check_entry(entry: &ServiceEntry, findings: &mut Findings<'_>) {
    let spec = Path::ROOT.field("spec");
    let hosts = spec.field("hosts");
    for (at, host) in entry.spec.hosts.iter().enumerate().filter(|(_, host)| host.value == "*") {
        let message = "a ServiceEntry cannot have all hosts";
        let hint = "write *.example.com; what nobody defines is for outboundTrafficPolicy";
        findings.error(code::INVALID_VALUE, host.place, &hosts.at(at), message, hint);
    }
    let ports = spec.field("ports");
    for (at, port) in entry.spec.ports.iter().enumerate() {
        let path = ports.at(at);
        let before = || entry.spec.ports.iter().take(at);
        if before().any(|other| other.name.value == port.name.value) {
            let message = format!("the port name '{}' is there twice", port.name.value);
            findings.error(code::DUPLICATE, port.name.place, &path.field("name"), message, "");
        }
        if before().any(|other| other.number.value == port.number.value) {
            let message = format!("port {} is there twice", port.number.value);
            findings.error(code::DUPLICATE, port.number.place, &path.field("number"), message, "");
        }
        if let Some(target) = &port.target_port {
            port_number(target.value, target.place, &path.field("targetPort"), findings);
        }
        if let Some(said) = &port.protocol
            && !PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(said))
        {
            let message = format!("'{}' is not a protocol", said.value);
            let hint = format!("one of {}", PROTOCOLS.join(", "));
            findings.error(code::UNKNOWN_VALUE, said.place, &path.field("protocol"), message, hint);
        }
    }
    let resolution = entry.spec.resolution.as_ref().map(|said| said.value);
    if let (Some(Resolution::DnsRoundRobin), Some(second)) = (resolution, entry.spec.endpoints.get(1)) {
        let message = "of several names nobody knows which to ask: DNS_ROUND_ROBIN has one endpoint";
        let path = spec.field("endpoints");
        findings.error(code::CONFLICTING_FIELDS, second.place, &path.at(1), message, "resolution: DNS");
    }
    let selector = spec.field("workloadSelector.labels");
    let labels = entry.spec.workload_selector.iter().flat_map(|selector| &selector.labels);
    for (key, value) in labels.filter(|(key, value)| key.contains('*') || value.contains('*')) {
        let message = "a selector has no stars: no workload has such a label";
        findings.error(code::INVALID_VALUE, value.place, &selector.key(key), message, "");
    }
    let endpoints = spec.field("endpoints");
    for (at, endpoint) in entry.spec.endpoints.iter().enumerate() {
        let path = endpoints.at(at);
        check_endpoint(endpoint, &path, findings);
        for (name, _) in &endpoint.ports {
            if !entry.spec.ports.iter().any(|port| port.name.value == name.value) {
                let message = format!("the ServiceEntry has no port named '{}'", name.value);
                let names: Vec<&str> = entry.spec.ports.iter().map(|port| port.name.as_str()).collect();
                let hint = format!("it has {}", names.join(", "));
                findings.error(code::UNKNOWN_PORT, name.place, &path.field("ports"), message, hint);
            }
        }
    }
}

pub(crate) fn check_endpoint(endpoint: &WorkloadEntrySpec, path: &Path<'_>, findings: &mut Findings<'_>) {
    let of_ports = path.field("ports");
    for (name, number) in &endpoint.ports {
        port_number(number.value, number.place, &of_ports.key(name), findings);
    }
    let Some(address) = &endpoint.address else {
        findings.error(code::MISSING_FIELD, endpoint.place, path, "an endpoint needs an address", "");
        return;
    };
    let Some(socket) = address.strip_prefix("unix://") else { return };
    if socket.ends_with('/') {
        let message = format!("'{}' is a directory, and no socket", address.value);
        findings.error(code::INVALID_VALUE, address.place, &path.field("address"), message, "");
    }
    if let Some((name, _)) = endpoint.ports.first() {
        let message = "a Unix socket has no ports";
        findings.error(code::CONFLICTING_FIELDS, name.place, &of_ports, message, "leave them out");
    }
}
