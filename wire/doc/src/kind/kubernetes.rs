//! Kubernetes' kinds, but for what runs: [`super::pod`].

use naru_resource::config::{ConfigMap, Hidden, Namespace, Pod, Secret};
use naru_resource::service::{self, TrafficDistribution};
use naru_resource::{Meta, Placed, Text};
use naru_spec::{Path, Severity, code};

use crate::kind::{document, field};
use crate::read::{Fields, Read, Reader, record, words};
use crate::tree::{Kind, Node};

document!(service::Service { spec: "spec" });
document!(service::Endpoints { subsets: "subsets" });
document!(service::EndpointSlice { address_type: "addressType", endpoints: "endpoints", ports: "ports" });
document!(ConfigMap { data: "data" } beside &["binaryData", "immutable"]);

/// Fields of a Service that mean nothing to a proxy, or that Kubernetes itself acts on.
const SERVICE_BESIDE: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIPs",
    "externalIPs",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "publishNotReadyAddresses",
    "sessionAffinityConfig",
];

impl Read for service::ServiceSpec {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let kind = fields.take("type", reader);
        let selector = fields.take("selector", reader);
        let ports = fields.take("ports", reader);
        let external_name = fields.take("externalName", reader);
        let cluster_ip = fields.take("clusterIP", reader);
        let traffic_distribution = fields.take("trafficDistribution", reader);
        let session_affinity = fields.take("sessionAffinity", reader);
        fields.pass_by(SERVICE_BESIDE, reader);
        fields.finish(reader);
        Some(service::ServiceSpec {
            place,
            kind: kind?,
            selector: selector?,
            ports: ports?,
            external_name: external_name?,
            cluster_ip: cluster_ip?,
            traffic_distribution: traffic_distribution?,
            session_affinity: session_affinity?,
        })
    }
}

words!(TrafficDistribution {
    "PreferClose" => TrafficDistribution::PreferClose,
    "PreferSameZone" => TrafficDistribution::PreferSameZone,
    "PreferSameNode" => TrafficDistribution::PreferSameNode,
});

impl Read for service::ServicePort {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let name = fields.take("name", reader);
        let port = fields.take("port", reader);
        let target_port = fields.take("targetPort", reader);
        let protocol = fields.take("protocol", reader);
        let app_protocol = fields.take("appProtocol", reader);
        fields.pass_by(&["nodePort"], reader);
        fields.finish(reader);
        Some(service::ServicePort {
            place,
            name: name?,
            port: port?,
            target_port: target_port?,
            protocol: protocol?,
            app_protocol: app_protocol?,
        })
    }
}

record!(service::EndpointSubset {
    addresses: "addresses",
    not_ready_addresses: "notReadyAddresses",
    ports: "ports",
});

impl Read for service::EndpointAddress {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let ip = fields.take("ip", reader);
        fields.pass_by(&["hostname", "nodeName", "targetRef"], reader);
        fields.finish(reader);
        Some(service::EndpointAddress { place, ip: ip? })
    }
}

record!(service::EndpointPort {
    name: "name",
    port: "port",
    protocol: "protocol",
    app_protocol: "appProtocol",
});

impl Read for service::SliceEndpoint {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let addresses = fields.take("addresses", reader);
        let conditions = fields.take("conditions", reader);
        let beside = ["deprecatedTopology", "hints", "hostname", "nodeName", "targetRef", "topology", "zone"];
        fields.pass_by(&beside, reader);
        fields.finish(reader);
        Some(service::SliceEndpoint { place, addresses: addresses?, conditions: conditions? })
    }
}

record!(service::Conditions { ready: "ready", serving: "serving", terminating: "terminating" });

impl Read for Secret {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        fields.pass_by(&["apiVersion", "kind", "immutable"], reader);
        let meta: Option<Meta> = fields.take("metadata", reader);
        let kind = fields.take("type", reader);
        let data: Option<Vec<(Text, Placed<Vec<u8>>)>> = fields.take("data", reader);
        let plain: Option<Vec<(Text, Text)>> = fields.take("stringData", reader);
        fields.finish(reader);
        let mut all: Vec<(Text, Hidden)> =
            data?.into_iter().map(|(key, value)| (key, Hidden(value.value))).collect();
        for (key, value) in plain? {
            // What is plain stands above what is encoded, as in Kubernetes.
            all.retain(|(known, _)| known.value != key.value);
            all.push((key, Hidden(value.value.into_bytes())));
        }
        Some(Secret { place, meta: meta?, kind: kind?, data: all })
    }
}

impl Read for Namespace {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Namespace> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        fields.pass_by(&["apiVersion", "kind", "spec", "status"], reader);
        let meta = fields.take("metadata", reader);
        fields.finish(reader);
        Some(Namespace { place, meta: meta? })
    }
}

/// Nobody runs it here.
fn tell_not_run(node: &Node, message: &str, reader: &mut Reader<'_>) {
    let position = field(node, "kind").map_or(node.position, |kind| kind.position);
    let hint = "a Deployment whose container has a command runs on this machine";
    let path = Path::ROOT.field("kind");
    reader.tell(Severity::Warning, code::UNSUPPORTED_KIND, position, &path, message, hint);
}

/// What makes pods beside a Deployment, and its group.
pub(super) const MAKERS: &[(&str, &str)] =
    &[("StatefulSet", "apps/v1"), ("DaemonSet", "apps/v1"), ("ReplicaSet", "apps/v1"), ("Job", "batch/v1")];

/// The pod that one of [`MAKERS`] makes, which nobody runs here: its labels. Its name is none that a Pod can have; one
/// that has no name yet, or no labels, has nothing to say.
pub(super) fn made(kind: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Pod> {
    let message =
        format!("naru does not run a {kind}: only the labels of its pods are looked at, by 'naru check'");
    tell_not_run(node, &message, reader);
    let metadata = field(node, "metadata")?;
    field(metadata, "name")?;
    let mut meta = Meta::read(metadata, &Path::ROOT.field("metadata"), reader)?;
    let template = field(field(node, "spec")?, "template")?;
    let labels =
        field(field(template, "metadata")?, "labels").filter(|labels| !matches!(labels.kind, Kind::Null))?;
    meta.labels = Read::read(labels, &Path::ROOT.field("spec.template.metadata.labels"), reader)?;
    meta.name.value = format!("{kind}/{}", meta.name.value);
    Some(Pod { place: meta.place, meta })
}

/// That it is not run is told. One that has no name yet has nothing to say.
impl Read for Pod {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Pod> {
        let message = "naru does not run a Pod: of this one only its labels are looked at, by 'naru check'";
        tell_not_run(node, message, reader);
        field(field(node, "metadata")?, "name")?;
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        fields.pass_by(&["apiVersion", "kind", "spec", "status"], reader);
        let meta = fields.take("metadata", reader);
        fields.finish(reader);
        Some(Pod { place, meta: meta? })
    }
}
