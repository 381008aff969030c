//! What the ports of Services say of their protocol, and whose processes they lead to.

use std::collections::BTreeMap;

use naru_resource::gateway_api::BackendRef;
use naru_resource::meta::selects;
use naru_resource::service::{PortRef, ServicePort};
use naru_resource::{Deployment, Service, Text};

use crate::world::{Source, World, said};
use crate::{About, Found};

/// Names of protocols that a port's name may begin with.
const PROTOCOLS: [&str; 13] = [
    "grpc-web", "grpc", "http2", "http", "https", "hbone", "mongo", "mysql", "redis", "tcp", "tls", "udp",
    "auto",
];
/// Namespaces of those who run a cluster, whose services are nobody's to name.
const SYSTEM: [&str; 4] = ["istio-system", "kube-system", "kube-public", "kube-node-lease"];
/// Services that a controller writes.
const MANAGED: &str = "gateway.istio.io/managed";
/// The label by which an EndpointSlice says whose it is.
const OF_SERVICE: &str = "kubernetes.io/service-name";

pub(crate) fn check(world: &World<'_>, found: &mut Found) {
    for service in &world.resources.services {
        let about = About { kind: "Service", meta: &service.meta };
        names(service, about, found);
        selects_nobody(world, service, about, found);
        targets(world, service, about, found);
    }
    for deployment in &world.resources.deployments {
        associated(world, deployment, found);
    }
}

/// The protocol that a port says that it speaks, if it does.
fn protocol(port: &ServicePort) -> Option<&'static str> {
    let of = |name: &str| {
        let name = name.to_ascii_lowercase();
        let is_it = |protocol: &&&str| {
            name.strip_prefix(**protocol).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        PROTOCOLS.iter().find(is_it).copied()
    };
    if let Some(said) = &port.app_protocol {
        let said = said.value.strip_prefix("kubernetes.io/").unwrap_or(&said.value);
        let known = [("h2c", "http2"), ("ws", "http"), ("wss", "https")];
        return of(said).or_else(|| known.iter().find(|(old, _)| *old == said).map(|(_, new)| *new));
    }
    if port.protocol.as_ref().is_some_and(|protocol| protocol.value.eq_ignore_ascii_case("UDP")) {
        return Some("udp");
    }
    of(&port.name.as_ref()?.value)
}

/// IST0118, IST0150.
fn names(service: &Service, about: About<'_>, found: &mut Found) {
    let is_managed = service.meta.labels.iter().any(|(key, _)| key.value == MANAGED);
    if is_managed || SYSTEM.contains(&service.meta.namespace()) {
        return;
    }
    let is_external = service.spec.kind.as_ref().is_some_and(|kind| kind.value == "ExternalName");
    for (at, port) in service.spec.ports.iter().enumerate() {
        let protocol = protocol(port);
        let place = port.name.as_ref().map_or(port.port.place, |name| name.place);
        let path = format!("spec.ports[{at}].name");
        if is_external {
            if matches!(protocol, None | Some("tcp")) {
                let message = format!("port {} leads outside, and does not say HTTP or TLS", port.port.value);
                let hint =
                    "name it http-.., https-.. or tls-..: by its bytes nobody can tell to which host it goes";
                found.tell("IST0150", about, place, path, message, hint);
            }
        } else if protocol.is_none() {
            let message = match &port.name {
                Some(name) => format!("the name '{}' does not begin with a protocol", name.value),
                None => format!("port {} has no name that says its protocol", port.port.value),
            };
            found.tell(
                "IST0118",
                about,
                place,
                path,
                message,
                "name it http-.., grpc-.., tcp-.., or say appProtocol",
            );
        }
    }
}

/// KIA0701: a Service that nothing stands behind. Where no process is known that could have been meant, services run
/// elsewhere.
fn selects_nobody(world: &World<'_>, service: &Service, about: About<'_>, found: &mut Found) {
    let (resources, namespace) = (world.resources, service.meta.namespace());
    let selector = &service.spec.selector;
    let is_managed = service.meta.labels.iter().any(|(key, _)| key.value == MANAGED);
    let is_external = service.spec.kind.as_ref().is_some_and(|kind| kind.value == "ExternalName");
    let Some((first, _)) = selector.first() else { return };
    if is_managed || is_external || SYSTEM.contains(&namespace) {
        return;
    }
    let is_near = world.workloads.iter().any(|workload| workload.namespace == namespace);
    if world.workloads.is_empty() || !(is_near || is_led_to(world, service)) {
        return;
    }
    let of_groups = resources.workload_groups.iter().filter(|group| group.meta.namespace() == namespace);
    let mut of_groups = of_groups.flat_map(|group| {
        let metadata = group.spec.metadata.as_ref().map(|metadata| &metadata.labels);
        metadata.into_iter().chain(group.spec.template.as_ref().map(|template| &template.labels))
    });
    // Those of a gateway are naru itself.
    let is_gateway = resources.gateways.iter().any(|gateway| selects(selector, &gateway.spec.selector));
    if is_gateway
        || world.selects_any(Some(namespace), selector)
        || of_groups.any(|labels| selects(selector, labels))
        || has_endpoints(world, service)
    {
        return;
    }
    let message = format!("nothing has the labels {}, and no endpoint is written down", said(selector));
    let hint =
        "requests that are sent there are answered 503; correct the labels, or define a Deployment with them";
    found.tell("KIA0701", about, first.place, "spec.selector", message, hint);
}

/// Whether a route leads to a Service.
fn is_led_to(world: &World<'_>, service: &Service) -> bool {
    let of_mesh = world.resources.virtual_services.iter().any(|other| {
        let owner = other.meta.namespace();
        let mut destinations = crate::virtual_services::destinations_of(other).into_iter();
        destinations.any(|(to, _)| {
            let known = world.find(&to.host, owner).map(|known| known.source);
            matches!(known, Some(Source::Service(known)) if std::ptr::eq(known, service))
        })
    });
    let is_it = |reference: &BackendRef, owner: &str| {
        let namespace = reference.namespace.as_ref().map_or(owner, |namespace| namespace);
        let is_service = reference.kind.as_ref().is_none_or(|kind| kind.value == "Service");
        is_service && reference.name.value == service.meta.name.value && namespace == service.meta.namespace()
    };
    of_mesh
        || world.resources.http_routes.iter().any(|route| {
            let mut backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
            backends.any(|backend| is_it(backend, route.meta.namespace()))
        })
        || world.resources.grpc_routes.iter().any(|route| {
            let mut backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
            backends.any(|backend| is_it(backend, route.meta.namespace()))
        })
}

/// Whether somebody else says where a Service is.
fn has_endpoints(world: &World<'_>, service: &Service) -> bool {
    let (resources, namespace) = (world.resources, service.meta.namespace());
    let name = &service.meta.name.value;
    let of_slices = resources.endpoint_slices.iter().any(|slice| {
        let is_it = |(key, value): &(Text, Text)| key.value == OF_SERVICE && value.value == *name;
        slice.meta.namespace() == namespace && slice.meta.labels.iter().any(is_it)
    });
    let mut endpoints = resources.endpoints.iter();
    let full = world.full(name, namespace);
    let mut entries = resources.service_entries.iter().flat_map(|entry| &entry.spec.hosts);
    of_slices
        || endpoints.any(|one| one.meta.namespace() == namespace && one.meta.name.value == *name)
        || entries.any(|host| host.eq_ignore_ascii_case(&full))
}

/// KIA0701: a port of a Service that no container of its Deployments opens.
fn targets(world: &World<'_>, service: &Service, about: About<'_>, found: &mut Found) {
    if service.spec.selector.is_empty() {
        return;
    }
    let labels =
        |deployment: &'_ Deployment| deployment.spec.template.meta.as_ref().map(|meta| meta.labels.clone());
    let chosen: Vec<&Deployment> = world
        .resources
        .deployments
        .iter()
        .filter(|deployment| deployment.meta.namespace() == service.meta.namespace())
        .filter(|deployment| {
            labels(deployment).is_some_and(|labels| selects(&service.spec.selector, &labels))
        })
        .collect();
    for (at, port) in service.spec.ports.iter().enumerate() {
        let says_ports = |deployment: &&Deployment| {
            let containers = &deployment.spec.template.spec.containers;
            containers.iter().any(|container| !container.ports.is_empty())
        };
        let opens = |deployment: &&Deployment| {
            let containers = &deployment.spec.template.spec.containers;
            containers.iter().flat_map(|container| &container.ports).any(|open| match &port.target_port {
                None => open.container_port.value == port.port.value,
                Some(target) => match &target.value {
                    PortRef::Number(number) => open.container_port.value == i64::from(*number),
                    PortRef::Name(name) => open.name.as_ref().is_some_and(|known| known.value == *name),
                },
            })
        };
        let telling: Vec<&Deployment> = chosen.iter().copied().filter(says_ports).collect();
        if !telling.is_empty() && !telling.iter().any(opens) {
            let target = match port.target_port.as_ref().map(|target| &target.value) {
                None => port.port.value.to_string(),
                Some(PortRef::Number(number)) => number.to_string(),
                Some(PortRef::Name(name)) => format!("'{name}'"),
            };
            let message = format!("no container that it selects opens port {target}");
            let place = port.target_port.as_ref().map_or(port.port.place, |target| target.place);
            let path = format!("spec.ports[{at}].targetPort");
            found.tell(
                "KIA0701",
                about,
                place,
                path,
                message,
                "correct targetPort, or the container's ports",
            );
        }
    }
}

/// IST0116, IST0137.
fn associated(world: &World<'_>, deployment: &Deployment, found: &mut Found) {
    let about = About { kind: "Deployment", meta: &deployment.meta };
    let Some(meta) = &deployment.spec.template.meta else { return };
    let services: Vec<&Service> = world
        .resources
        .services
        .iter()
        .filter(|service| {
            service.meta.namespace() == deployment.meta.namespace()
                && !service.spec.selector.is_empty()
                && selects(&service.spec.selector, &meta.labels)
        })
        .collect();
    let mut by_port: BTreeMap<i64, Vec<(&Service, Option<&str>)>> = BTreeMap::new();
    let mut by_target: BTreeMap<String, Vec<(&Service, i64)>> = BTreeMap::new();
    for service in services {
        for port in &service.spec.ports {
            by_port.entry(port.port.value).or_default().push((service, protocol(port)));
            let target = match port.target_port.as_ref().map(|target| &target.value) {
                None => port.port.value.to_string(),
                Some(PortRef::Number(number)) => number.to_string(),
                Some(PortRef::Name(name)) => name.clone(),
            };
            by_target.entry(target).or_default().push((service, port.port.value));
        }
    }
    let list = |names: Vec<&str>| names.join(", ");
    for (port, of) in &by_port {
        let first = of.first().and_then(|(_, protocol)| *protocol);
        if of.len() > 1 && of.iter().any(|(_, protocol)| *protocol != first) {
            let names = of.iter().map(|(service, _)| service.meta.name.value.as_str()).collect();
            let message = format!("the Services {} have port {port} with different protocols", list(names));
            let hint = "one process speaks one protocol on a port";
            found.tell("IST0116", about, deployment.meta.name.place, "metadata.name", message, hint);
        }
    }
    for (target, of) in &by_target {
        let first = of.first().map(|(_, port)| *port);
        if of.len() > 1 && of.iter().any(|(_, port)| Some(*port) != first) {
            let names = of.iter().map(|(service, _)| service.meta.name.value.as_str()).collect();
            let message = format!("the Services {} lead to port {target} from different ports", list(names));
            let hint = "what comes in there is for one of them, and nobody can tell which";
            found.tell("IST0137", about, deployment.meta.name.place, "metadata.name", message, hint);
        }
    }
}
