//! Which services are there, with their ports and endpoints?

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use naru_resource::service::{PortRef, ServicePort, TrafficDistribution};
use naru_resource::service_entry::{Location, Resolution, WorkloadEntrySpec};
use naru_resource::{Place, Resources, Service, ServiceEntry, Text, meta};
use naru_spec::{Address, Locality, Path, Severity, code};

use crate::Instance;
use crate::entries;
use crate::findings::Findings;
use crate::inbound::{self, Reached};
use crate::localities;
use crate::mesh::Mesh;
use crate::names::{DOMAIN, fits, fqdn, is_exported};

/// Every service, by its full name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// One, or one for each of some namespaces that do not see each other's.
    services: BTreeMap<String, Vec<Known>>,
}

/// A service that somebody has defined.
#[derive(Debug)]
pub(crate) struct Known {
    pub host: String,
    pub namespace: String,
    /// Its name within its namespace, for services of Kubernetes.
    pub name: Option<String>,
    pub ports: Vec<KnownPort>,
    pub source: Source,
    pub endpoints: Vec<KnownEndpoint>,
    /// Labels of what it selects, running or not: one set for each Deployment and each pod.
    pub selected: Vec<Vec<(String, String)>>,
    /// Machines may join it by themselves, with labels that nobody knows before.
    pub is_joined: bool,
    /// Who sees it, as `exportTo` says.
    pub export_to: Vec<Text>,
    /// Addresses that it is called by as well.
    pub addresses: Vec<IpAddr>,
    /// Names that its certificates have, where its callers say none.
    pub names: Vec<Text>,
    /// It is another name for this host: Kubernetes' `externalName`.
    pub alias: Option<String>,
    /// It is none of the mesh's own.
    pub is_external: bool,
    /// Whose endpoints come first, where no DestinationRule says anything of localities.
    pub distribution: Option<TrafficDistribution>,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub(crate) struct KnownPort {
    pub number: u16,
    pub name: String,
    pub protocol: Protocol,
}

impl KnownPort {
    fn is_same(&self, other: &KnownPort) -> bool {
        self.name == other.name && self.protocol == other.protocol
    }
}

#[derive(Clone, Debug)]
pub(crate) struct KnownEndpoint {
    pub labels: Vec<(String, String)>,
    pub weight: u32,
    pub locality: Locality,
    /// By the number of the service's port.
    pub addresses: Vec<(u16, Address)>,
    /// It is of this machine's own, and no other proxy stands before it.
    pub is_process: bool,
    /// Of its namespace, where a document says it.
    pub account: Option<String>,
}

impl KnownEndpoint {
    /// Of which nothing else is known.
    fn at(addresses: Vec<(u16, Address)>) -> KnownEndpoint {
        let (labels, locality) = Default::default();
        KnownEndpoint { labels, weight: 1, locality, addresses, is_process: false, account: None }
    }

    fn process(reached: &Reached<'_>, addresses: Vec<(u16, Address)>) -> KnownEndpoint {
        let labels = reached.instance.labels.clone();
        let locality = localities::of_labels(&labels);
        KnownEndpoint { labels, locality, is_process: true, ..KnownEndpoint::at(addresses) }
    }
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Static,
    Dns,
    /// The first address that DNS gives.
    DnsFirst,
    /// Each request brings one.
    OnDemand,
}

/// What is spoken on a port, as its name or its `appProtocol` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Http2,
    /// gRPC, whose clients may be browsers.
    GrpcWeb,
    /// Nothing is said: what the client speaks.
    Auto,
    /// Not HTTP.
    Tcp,
}

impl Protocol {
    fn of(name: &str, app_protocol: Option<&str>) -> Protocol {
        let is_web = name == "grpc-web" || name.starts_with("grpc-web-");
        let of_name = || if is_web { "grpc-web" } else { name.split('-').next().unwrap_or("") };
        let word = app_protocol.unwrap_or_else(of_name);
        match word.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" => Protocol::Http,
            "http2" | "grpc" | "kubernetes.io/h2c" => Protocol::Http2,
            "grpc-web" => Protocol::GrpcWeb,
            "https" | "tls" | "tcp" | "udp" | "mongo" | "mysql" | "redis" | "kubernetes.io/wss" => {
                Protocol::Tcp
            }
            _ => Protocol::Auto,
        }
    }
}

impl Known {
    pub fn port(&self, number: u16) -> Option<&KnownPort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Whether it is there for callers of a namespace.
    pub fn is_seen_from(&self, namespace: &str) -> bool {
        is_exported(&self.export_to, &self.namespace, namespace)
    }

    /// Whether nobody sees both.
    fn is_apart(&self, other: &Known) -> bool {
        let is_for_all = |one: &Known| one.export_to.iter().any(|name| name.value == "*");
        let sees = |one: &Known, namespace: &str| one.is_seen_from(namespace);
        let named = self.export_to.iter().chain(&other.export_to).map(|name| name.as_str());
        let all = named.chain([self.namespace.as_str(), other.namespace.as_str()]);
        let is_met = all
            .filter(|name| !matches!(*name, "*" | "." | "~"))
            .any(|name| sees(self, name) && sees(other, name));
        let are_for_all = self.export_to.is_empty() || is_for_all(self);
        !is_met && !(are_for_all && (other.export_to.is_empty() || is_for_all(other)))
    }

    /// Whether both are for the same callers.
    fn is_exported_as(&self, other: &Known) -> bool {
        let names = |one: &Known| -> BTreeSet<String> {
            one.export_to.iter().map(|name| name.value.clone()).collect()
        };
        names(self) == names(other)
    }

    /// Takes in the ports and endpoints of another definition. As in Istio an endpoint is for a port by the name of that.
    fn join(&mut self, other: Known) {
        let is_taken = |number: u16| -> bool {
            let named = other.port(number).map(|port| port.name.as_str());
            self.port(number).is_none_or(|port| Some(port.name.as_str()) == named)
        };
        let mut endpoints = Vec::new();
        for mut endpoint in other.endpoints.iter().cloned() {
            let is_known = |address: &(u16, Address)| {
                let mut alike = self.endpoints.iter().filter(|known| known.labels == endpoint.labels);
                alike.any(|known| known.addresses.contains(address))
            };
            let addresses: Vec<(u16, Address)> = (endpoint.addresses.iter())
                .filter(|address| is_taken(address.0) && !is_known(address))
                .cloned()
                .collect();
            endpoint.addresses = addresses;
            if !endpoint.addresses.is_empty() {
                endpoints.push(endpoint);
            }
        }
        self.endpoints.extend(endpoints);
        let new = other.ports.iter().filter(|port| self.port(port.number).is_none());
        let new: Vec<KnownPort> = new.cloned().collect();
        self.ports.extend(new);
        for address in other.addresses {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        self.names.extend(other.names);
    }

    /// A host that this one, which begins with a star, has.
    fn below(&self, host: &str) -> Known {
        let name = |port: u16| Address::Name { host: host.to_owned(), port };
        let mut endpoints = self.endpoints.clone();
        let addresses = endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.addresses);
        for (_, address) in addresses {
            if let Address::Name { host: own, port } = address
                && own.starts_with('*')
            {
                *address = name(*port);
            }
        }
        let is_looked_up = self.source == Source::OnDemand;
        if is_looked_up {
            let addresses = self.ports.iter().map(|port| (port.number, name(port.number)));
            endpoints = vec![KnownEndpoint::at(addresses.collect())];
        }
        Known {
            host: host.to_owned(),
            namespace: self.namespace.clone(),
            name: None,
            ports: self.ports.clone(),
            source: if is_looked_up { Source::Dns } else { self.source },
            endpoints,
            selected: self.selected.clone(),
            is_joined: self.is_joined,
            export_to: self.export_to.clone(),
            addresses: Vec::new(),
            names: self.names.clone(),
            alias: None,
            is_external: self.is_external,
            distribution: self.distribution,
            place: self.place,
        }
    }

    /// Whether each request says where it goes. A Service has a name that its clients ask for, and no address in it.
    pub fn brings_endpoints(&self, is_passthrough: bool) -> bool {
        self.source == Source::OnDemand || is_passthrough && self.name.is_none()
    }
}

impl Registry {
    pub fn of(
        resources: &Resources,
        mesh: &Mesh<'_>,
        instances: &[Instance],
        findings: &mut Findings<'_>,
    ) -> Registry {
        let mut registry = Registry::default();
        let instances = inbound::reached(instances, resources, mesh.root_namespace);
        let all =
            resources.services.iter().map(|service| of_service(service, resources, &instances, findings));
        let mut all: Vec<Known> = all.collect();
        entries::check(resources, findings);
        for entry in &resources.service_entries {
            all.extend(of_entry(entry, resources, &instances, findings));
        }
        for mut known in all {
            if known.export_to.is_empty() {
                known.export_to = mesh.exports.services.to_vec();
            }
            registry.add(known, findings);
        }
        registry.add_below_stars(resources);
        registry
    }

    /// Of several for one host those of other namespaces, or for others, are kept: who sees them asks his own, then the
    /// first. ServiceEntries that say the same but for ports are one, as in Istio.
    fn add(&mut self, known: Known, findings: &mut Findings<'_>) {
        let same = self.services.entry(known.host.clone()).or_default();
        let path = Path::ROOT.field("metadata");
        let is_own = |before: &Known| before.namespace == known.namespace;
        let alike = same.iter().position(|before| is_own(before) && before.is_exported_as(&known));
        let own = alike.or_else(|| same.iter().position(is_own));
        let met = own.or_else(|| same.iter().position(|before| !before.is_apart(&known)));
        let Some(before) = met.and_then(|at| same.get_mut(at)) else { return same.push(known) };
        let hint = format!("the first definition is at {}", findings.locate(before.place));
        let message = format!("the service {} is defined twice", known.host);
        if before.namespace != known.namespace {
            let message = format!("{message}: each namespace calls its own, others the first");
            findings.warning(code::CONFLICT, known.place, &path, message, hint);
            same.push(known);
        } else if before.name.is_some() {
            let message = format!("{message}: what a ServiceEntry says of a Service is left out");
            findings.warning(code::CONFLICT, known.place, &path, message, hint);
        } else if !before.is_exported_as(&known) {
            if !before.is_apart(&known) {
                let message = format!("{message}: the first holds for who sees both");
                findings.warning(code::CONFLICT, known.place, &path, message, hint);
            }
            same.push(known);
        } else if before.source != known.source {
            let message = format!("{message}, with another resolution: this one is left out");
            findings.warning(code::CONFLICT, known.place, &path, message, hint);
        } else {
            for port in &known.ports {
                if let Some(first) = before.port(port.number).filter(|first| !first.is_same(port)) {
                    let message = format!(
                        "port {} of {} is '{}' here and '{}' elsewhere, which holds",
                        port.number, known.host, port.name, first.name
                    );
                    findings.warning(
                        code::CONFLICT,
                        known.place,
                        &Path::ROOT.field("spec.ports"),
                        message,
                        &hint,
                    );
                }
            }
            before.join(known);
        }
    }

    /// Destinations that a host with a star has: it says how each of them is reached. One that requests would bring with
    /// them is looked up.
    fn add_below_stars(&mut self, resources: &Resources) {
        let stars: Vec<&Known> = self.services().filter(|known| known.host.starts_with('*')).collect();
        if stars.is_empty() {
            return;
        }
        let mut found: BTreeMap<String, Known> = BTreeMap::new();
        for service in &resources.virtual_services {
            let namespace = service.meta.namespace();
            let http = service.spec.http.iter().flat_map(|route| {
                let mirrors = route.mirrors.iter().map(|mirror| &mirror.destination);
                let all = route.route.iter().map(|to| &to.destination);
                all.chain(route.mirror.as_ref()).chain(mirrors)
            });
            let tls = service.spec.tls.iter().flat_map(|route| &route.route).map(|to| &to.destination);
            let tcp = service.spec.tcp.iter().flat_map(|route| &route.route).map(|to| &to.destination);
            for destination in http.chain(tls).chain(tcp) {
                let full = fqdn(&destination.host, namespace);
                if full.starts_with('*')
                    || found.contains_key(&full)
                    || self.find(&destination.host, namespace).is_some()
                {
                    continue;
                }
                let seen = stars.iter().filter(|known| known.is_seen_from(namespace));
                let fitting = seen.filter_map(|known| Some((fits(&known.host, &full)?, *known)));
                let closest = fitting.max_by_key(|(fit, known)| (*fit, std::cmp::Reverse(known.place)));
                if let Some((_, star)) = closest {
                    found.insert(full.clone(), star.below(&full));
                }
            }
        }
        for (host, known) in found {
            self.services.entry(host).or_default().push(known);
        }
    }

    /// Whether callers of a namespace mean another one by its host.
    pub fn is_hidden(&self, known: &Known, namespace: &str) -> bool {
        let Some(same) = self.services.get(&known.host).filter(|same| same.len() > 1) else { return false };
        let own = same.iter().find(|known| known.namespace == namespace && known.is_seen_from(namespace));
        let meant = own.or_else(|| same.iter().find(|known| known.is_seen_from(namespace)));
        meant.is_some_and(|meant| !std::ptr::eq(meant, known))
    }

    /// Whether somebody is called by browsers.
    pub fn has_grpc_web(&self) -> bool {
        let mut ports = self.services().flat_map(|known| &known.ports);
        ports.any(|port| port.protocol == Protocol::GrpcWeb)
    }

    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    pub fn services(&self) -> impl Iterator<Item = &Known> {
        self.services.values().flatten()
    }

    /// The service that a document of `namespace` means by `host`: of several the one of that namespace, or else one that
    /// is seen there.
    pub fn find(&self, host: &str, namespace: &str) -> Option<&Known> {
        let same = self.services.get(&fqdn(host, namespace));
        let same = same.or_else(|| self.services.get(&host.to_ascii_lowercase()))?;
        let own = same.iter().find(|known| known.namespace == namespace);
        own.or_else(|| same.iter().find(|known| known.is_seen_from(namespace))).or(same.first())
    }

    /// The service that is called by another name, where it is one that is defined here: nobody else knows its name. As in
    /// Istio its ports, and what is said of it, are those of the name, too.
    pub fn meant<'r>(&'r self, known: &'r Known, namespace: &str) -> &'r Known {
        let mut meant = known;
        // A name of a name, and no circles.
        for _ in 0..ALIASES_MAX {
            let host = meant.alias.as_deref().filter(|host| host.contains('.'));
            let Some(next) = host.and_then(|host| self.find(host, namespace)) else { break };
            meant = next;
        }
        meant
    }

    /// The whole name of a host that a document of `namespace` speaks of, also where nobody defines it.
    pub fn full_name(&self, host: &str, namespace: &str) -> String {
        self.find(host, namespace).map_or_else(|| fqdn(host, namespace), |known| known.host.clone())
    }

    /// The services that a DestinationRule's host is, or fits.
    pub fn fitting(&self, host: &str, namespace: &str) -> Vec<&Known> {
        if host.starts_with('*') {
            let pattern = host.to_ascii_lowercase();
            return self.services().filter(|known| fits(&pattern, &known.host).is_some()).collect();
        }
        self.find(host, namespace).into_iter().collect()
    }

    /// The host of the Service that a reference names. Where nothing is known of any, it may be defined elsewhere.
    pub fn named(
        &self,
        name: &Text,
        namespace: &str,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<String> {
        if let Some(known) = self.find(name, namespace) {
            return Some(known.host.clone());
        }
        let message = format!("there is no Service '{}' in {namespace}", name.value);
        if !self.is_empty() {
            findings.error(code::UNKNOWN_REFERENCE, name.place, path, message, "");
            return None;
        }
        findings.tell(Severity::Note, code::UNKNOWN_REFERENCE, name.place, path, message, "");
        Some(fqdn(name, namespace))
    }

    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }
}

/// So many names lead from one to the next.
const ALIASES_MAX: usize = 4;

pub(crate) fn plain(labels: &[(Text, Text)]) -> Vec<(String, String)> {
    labels.iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
}

/// Whether plain labels have all that a selector asks for.
pub(crate) fn has_all(labels: &[(String, String)], selector: &[(Text, Text)]) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.iter().any(|(name, found)| *name == key.value && *found == value.value))
}

fn of_service(
    service: &Service,
    resources: &Resources,
    instances: &[Reached<'_>],
    findings: &mut Findings<'_>,
) -> Known {
    let namespace = service.meta.namespace();
    let spec = Path::ROOT.field("spec");
    let ports_path = spec.field("ports");
    let mut ports = Vec::new();
    for (at, port) in service.spec.ports.iter().enumerate() {
        let path = ports_path.at(at);
        let Some(number) = port_number(*port.port, port.port.place, &path.field("port"), findings) else {
            continue;
        };
        if let Some(protocol) = port.protocol.as_ref().filter(|protocol| protocol.value != "TCP") {
            let message = format!("a port of {} is left out", protocol.value);
            let hint = "ports of TCP are carried; what is spoken there is said by name or appProtocol";
            let path = path.field("protocol");
            findings.tell(Severity::Note, code::NOT_YET, protocol.place, &path, message, hint);
            continue;
        }
        let name = port.name.as_ref().map_or(String::new(), |name| name.value.clone());
        let protocol = Protocol::of(&name, port.app_protocol.as_ref().map(|text| text.as_str()));
        ports.push((KnownPort { number, name, protocol }, port));
    }
    let mut endpoints = Vec::new();
    let mut source = Source::Static;
    if let Some(external) = &service.spec.external_name {
        source = Source::Dns;
        let address = |port: u16| Address::Name { host: external.value.clone(), port };
        let addresses = ports.iter().map(|(port, _)| (port.number, address(port.number))).collect();
        endpoints.push(KnownEndpoint::at(addresses));
    }
    let selector = &service.spec.selector;
    let mut selected = Vec::new();
    if !selector.is_empty() {
        for reached in instances.iter().filter(|reached| reached.instance.namespace == namespace) {
            if has_all(&reached.instance.labels, selector) {
                endpoints.push(of_instance(reached, &ports));
            }
        }
        for machine in resources.workload_entries.iter().filter(|w| w.meta.namespace() == namespace) {
            if meta::selects(selector, &machine.spec.labels) {
                endpoints.extend(of_machine(&machine.spec, &ports, findings));
            }
        }
        for deployment in resources.deployments.iter().filter(|d| d.meta.namespace() == namespace) {
            let Some(meta) = &deployment.spec.template.meta else { continue };
            if meta::selects(selector, &meta.labels) {
                selected.push(plain(&meta.labels));
            }
        }
        // Nobody runs them here; a cluster does.
        for pod in resources.pods.iter().filter(|pod| pod.meta.namespace() == namespace) {
            if meta::selects(selector, &pod.meta.labels) {
                selected.push(plain(&pod.meta.labels));
            }
        }
    }
    endpoints.extend(of_endpoints(service, resources, &ports, findings));
    check_nearness(service, &endpoints, &selected, findings);
    Known {
        host: format!("{}.{namespace}.{DOMAIN}", service.meta.name.value),
        namespace: namespace.to_owned(),
        name: Some(service.meta.name.value.clone()),
        ports: ports.into_iter().map(|(port, _)| port).collect(),
        source,
        endpoints,
        selected,
        is_joined: !selector.is_empty() && has_group(resources, namespace),
        distribution: service.spec.traffic_distribution.map(|said| said.value),
        export_to: listed(service.meta.export_to.as_ref()),
        addresses: service.spec.cluster_ip.iter().filter_map(|address| address.parse().ok()).collect(),
        names: Vec::new(),
        alias: alias_of(service),
        is_external: service.spec.external_name.is_some(),
        place: service.meta.name.place,
    }
}

/// Whether machines may come to a namespace by themselves.
fn has_group(resources: &Resources, namespace: &str) -> bool {
    resources.workload_groups.iter().any(|group| group.meta.namespace() == namespace)
}

/// The host that a Service is another name of.
pub(crate) fn alias_of(service: &Service) -> Option<String> {
    let name = service.spec.external_name.as_ref()?;
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

/// The namespaces of an annotation.
fn listed(said: Option<&Text>) -> Vec<Text> {
    let Some(said) = said else { return Vec::new() };
    let parts = said.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Text { value: part.to_owned(), place: said.place }).collect()
}

/// Tells where a Service's words about who is asked first have no effect.
fn check_nearness(
    service: &Service,
    endpoints: &[KnownEndpoint],
    selected: &[Vec<(String, String)>],
    findings: &mut Findings<'_>,
) {
    let spec = Path::ROOT.field("spec");
    let is_anywhere = endpoints.iter().any(|endpoint| !endpoint.locality.is_empty())
        || selected.iter().any(|labels| !localities::of_labels(labels).is_empty());
    if let Some(said) = service.spec.traffic_distribution
        && !is_anywhere
        && !(endpoints.is_empty() && selected.is_empty())
    {
        let message = "'trafficDistribution' has no effect: no endpoint says where it stands";
        let hint = "labels of the Deployment's pods say it: topology.kubernetes.io/region and /zone";
        findings.warning(code::NO_EFFECT, said.place, &spec.field("trafficDistribution"), message, hint);
    }
    if let Some(said) = service.spec.session_affinity.as_ref().filter(|said| said.value != "None") {
        let message = "'sessionAffinity' has no effect, as in Istio";
        let hint =
            "a DestinationRule with consistentHash: {useSourceIp: true}, or stickySession of a TrafficPolicy";
        findings.warning(code::NO_EFFECT, said.place, &spec.field("sessionAffinity"), message, hint);
    }
}

/// The ports of a process that a service leads to.
fn of_instance(reached: &Reached<'_>, ports: &[(KnownPort, &ServicePort)]) -> KnownEndpoint {
    let addresses = ports.iter().filter_map(|(port, written)| {
        let found = match written.target_port.as_ref().map(|target| &target.value) {
            Some(PortRef::Number(number)) => reached.numbered(*number),
            Some(PortRef::Name(name)) => reached.named(name),
            None => reached.numbered(port.number),
        };
        Some((port.number, found?.clone()))
    });
    KnownEndpoint::process(reached, addresses.collect())
}

/// A WorkloadEntry that a Service selects, as in Istio: its own word for a port goes before the Service's. One without an
/// address of its own is for ServiceEntries, which may look its name up.
fn of_machine(
    machine: &WorkloadEntrySpec,
    ports: &[(KnownPort, &ServicePort)],
    findings: &mut Findings<'_>,
) -> Option<KnownEndpoint> {
    machine.address.as_ref()?.parse::<IpAddr>().ok()?;
    let named = |name: &str| {
        let found = machine.ports.iter().find(|(own, _)| own.value == name);
        found.and_then(|(_, number)| u16::try_from(number.value).ok())
    };
    let targets = ports.iter().map(|(port, written)| {
        let target = match written.target_port.as_ref().map(|target| &target.value) {
            Some(PortRef::Number(number)) => Some(*number),
            Some(PortRef::Name(name)) => named(name),
            None => None,
        };
        (port.clone(), target.unwrap_or(port.number))
    });
    let targets: Vec<(KnownPort, u16)> = targets.collect();
    of_workload(machine, &targets, Source::Static, &Path::ROOT.field("spec"), findings)
}

fn of_endpoints(
    service: &Service,
    resources: &Resources,
    ports: &[(KnownPort, &ServicePort)],
    findings: &mut Findings<'_>,
) -> Vec<KnownEndpoint> {
    let mut found = Vec::new();
    let mut add = |ip: &Text, named: &[(Option<&str>, i64)], path: &Path<'_>| {
        let Ok(address) = ip.parse::<IpAddr>() else {
            let message = format!("'{}' is not an IP address", ip.value);
            findings.error(code::INVALID_VALUE, ip.place, path, message, "");
            return;
        };
        let addresses = ports.iter().filter_map(|(port, _)| {
            let named = named.iter().find(|(name, _)| name.unwrap_or("") == port.name)?;
            Some((port.number, Address::Socket(SocketAddr::new(address, u16::try_from(named.1).ok()?))))
        });
        found.push(KnownEndpoint::at(addresses.collect()));
    };
    let is_ours = |meta: &naru_resource::Meta| meta.namespace() == service.meta.namespace();
    for endpoints in &resources.endpoints {
        if endpoints.meta.name.value != service.meta.name.value || !is_ours(&endpoints.meta) {
            continue;
        }
        for (at, subset) in endpoints.subsets.iter().enumerate() {
            let subsets = Path::ROOT.field("subsets");
            let path = subsets.at(at);
            let addresses = path.field("addresses");
            let named: Vec<_> =
                subset.ports.iter().map(|p| (p.name.as_ref().map(|n| n.as_str()), *p.port)).collect();
            for (at, address) in subset.addresses.iter().enumerate() {
                add(&address.ip, &named, &addresses.at(at));
            }
        }
    }
    for slice in resources.endpoint_slices.iter().filter(|slice| is_ours(&slice.meta)) {
        let of_service = |(key, value): &(Text, Text)| {
            key.value == "kubernetes.io/service-name" && value.value == service.meta.name.value
        };
        if !slice.meta.labels.iter().any(of_service) {
            continue;
        }
        let named: Vec<_> =
            slice.ports.iter().map(|p| (p.name.as_ref().map(|n| n.as_str()), *p.port)).collect();
        for (at, endpoint) in slice.endpoints.iter().enumerate() {
            let is_ready = |c: &naru_resource::service::Conditions| c.ready.as_ref().is_none_or(|r| r.value);
            if !endpoint.conditions.as_ref().is_none_or(is_ready) {
                continue;
            }
            let endpoints = Path::ROOT.field("endpoints");
            let path = endpoints.at(at);
            let addresses = path.field("addresses");
            for (at, address) in endpoint.addresses.iter().enumerate() {
                add(address, &named, &addresses.at(at));
            }
        }
    }
    found
}

fn of_entry(
    entry: &ServiceEntry,
    resources: &Resources,
    instances: &[Reached<'_>],
    findings: &mut Findings<'_>,
) -> Vec<Known> {
    let namespace = entry.meta.namespace();
    let spec = Path::ROOT.field("spec");
    let mut ports = Vec::new();
    let ports_path = spec.field("ports");
    for (at, port) in entry.spec.ports.iter().enumerate() {
        let path = ports_path.at(at);
        let Some(number) = port_number(*port.number, port.number.place, &path.field("number"), findings)
        else {
            continue;
        };
        let said = port.protocol.as_ref().map(|protocol| protocol.as_str());
        let protocol = Protocol::of(&port.name, said);
        let target = port.target_port.as_ref().and_then(|target| u16::try_from(target.value).ok());
        ports.push((KnownPort { number, name: port.name.value.clone(), protocol }, target.unwrap_or(number)));
    }
    if entry.spec.hosts.is_empty() {
        findings.error(code::MISSING_FIELD, entry.spec.place, &spec, "a ServiceEntry needs hosts", "");
    }
    if !entry.spec.endpoints.is_empty() && entry.spec.workload_selector.is_some() {
        let message = "only one of endpoints and workloadSelector can be said";
        let path = spec.field("workloadSelector");
        let place = entry.spec.workload_selector.as_ref().map_or(entry.place, |selector| selector.place);
        findings.error(code::CONFLICTING_FIELDS, place, &path, message, "");
    }
    let resolution = entry.spec.resolution.as_ref().map_or(Resolution::None, |r| r.value);
    let source = match resolution {
        Resolution::Static => Source::Static,
        Resolution::Dns => Source::Dns,
        Resolution::DnsRoundRobin => Source::DnsFirst,
        // Who has resolved a name asks for the address; of who has not, the host is looked up, whichever it is.
        Resolution::None | Resolution::DynamicDns => Source::OnDemand,
    };
    if source == Source::OnDemand {
        let field = if entry.spec.workload_selector.is_some() { "workloadSelector" } else { "endpoints" };
        let place = entry.spec.workload_selector.as_ref().map(|selector| selector.place);
        if let Some(place) = place.or(entry.spec.endpoints.first().map(|endpoint| endpoint.place)) {
            let message = format!("'{field}' has no effect: requests bring the addresses of their endpoints");
            let hint = "say resolution: STATIC or DNS";
            findings.warning(code::NO_EFFECT, place, &spec.field(field), message, hint);
        }
    }
    let endpoints_path = spec.field("endpoints");
    let mut endpoints = Vec::new();
    for (at, endpoint) in entry.spec.endpoints.iter().enumerate() {
        endpoints.extend(of_workload(endpoint, &ports, source, &endpoints_path.at(at), findings));
    }
    if let Some(selector) = &entry.spec.workload_selector {
        let machines = resources.workload_entries.iter().filter(|w| w.meta.namespace() == namespace);
        for machine in machines.filter(|w| meta::selects(&selector.labels, &w.spec.labels)) {
            endpoints.extend(of_workload(&machine.spec, &ports, source, &spec, findings));
        }
        let selects = |reached: &&Reached<'_>| {
            reached.instance.namespace == namespace && has_all(&reached.instance.labels, &selector.labels)
        };
        endpoints.extend(instances.iter().filter(selects).map(|reached| {
            let address =
                |(port, target): &(KnownPort, u16)| Some((port.number, reached.numbered(*target)?.clone()));
            KnownEndpoint::process(reached, ports.iter().filter_map(address).collect())
        }));
    }
    let addresses = addresses_of(entry, findings);
    let known = entry.spec.hosts.iter().map(|host| {
        let mut endpoints = endpoints.clone();
        if endpoints.is_empty() && matches!(source, Source::Dns | Source::DnsFirst) {
            let address = |port: u16| Address::Name { host: host.value.clone(), port };
            let addresses = ports.iter().map(|(port, target)| (port.number, address(*target))).collect();
            endpoints.push(KnownEndpoint::at(addresses));
        }
        Known {
            host: host.to_ascii_lowercase(),
            namespace: namespace.to_owned(),
            name: None,
            ports: ports.iter().map(|(port, _)| port.clone()).collect(),
            source,
            endpoints,
            selected: Vec::new(),
            is_joined: entry.spec.workload_selector.is_some() && has_group(resources, namespace),
            distribution: None,
            export_to: entry.spec.export_to.clone(),
            addresses: addresses.clone(),
            names: entry.spec.subject_alt_names.clone(),
            alias: None,
            // Where nothing is said, as protobuf has it.
            is_external: entry.spec.location.is_none_or(|said| said.value == Location::External),
            place: host.place,
        }
    });
    known.collect()
}

/// An address, also one that is written as a range of one.
fn single(said: &str) -> Option<IpAddr> {
    let of_one = |net: ipnet::IpNet| (net.prefix_len() == net.max_prefix_len()).then(|| net.addr());
    said.parse().ok().or_else(|| said.parse::<ipnet::IpNet>().ok().and_then(of_one))
}

/// The addresses that clients call a service by. Only one of several hosts could have them.
fn addresses_of(entry: &ServiceEntry, findings: &mut Findings<'_>) -> Vec<IpAddr> {
    let path = Path::ROOT.field("spec.addresses");
    let mut found = Vec::new();
    if let Some(said) = entry.spec.addresses.first().filter(|_| entry.spec.hosts.len() > 1) {
        let message = "addresses have no effect beside several hosts: nobody could tell which is meant";
        findings.warning(code::NO_EFFECT, said.place, &path, message, "a ServiceEntry for each host");
    }
    for (at, said) in entry.spec.addresses.iter().enumerate() {
        let path = path.at(at);
        if let Some(address) = single(said) {
            if entry.spec.hosts.len() == 1 {
                found.push(address);
            }
        } else if said.parse::<ipnet::IpNet>().is_ok() {
            let message = "naru knows services by single addresses: a range has no effect";
            findings.warning(code::NOT_YET, said.place, &path, message, "");
        } else {
            let message = format!("'{}' is no address", said.value);
            findings.error(code::INVALID_VALUE, said.place, &path, message, "");
        }
    }
    found
}

pub(crate) fn of_workload(
    endpoint: &WorkloadEntrySpec,
    ports: &[(KnownPort, u16)],
    source: Source,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<KnownEndpoint> {
    let Some(host) = &endpoint.address else {
        findings.error(code::MISSING_FIELD, endpoint.place, path, "an endpoint needs an address", "");
        return None;
    };
    let ip = host.parse::<IpAddr>().ok();
    let socket = host.strip_prefix("unix://").filter(|path| path.starts_with(['/', '@']));
    let is_static = source == Source::Static;
    if socket.is_none() && ip.is_none() && is_static
        || host.starts_with("unix:") && (socket.is_none() || !is_static)
    {
        let message = format!("'{}' is not an IP address", host.value);
        let hint = "write an address, or say resolution: DNS";
        findings.error(code::INVALID_VALUE, host.place, &path.field("address"), message, hint);
        return None;
    }
    if let Some(said) = &endpoint.network {
        let message = "naru does not act on 'network' of an endpoint: it is called by its address";
        findings.warning(code::NOT_YET, said.place, &path.field("network"), message, "");
    }
    let weight = match endpoint.weight.as_ref().map(|weight| u32::try_from(weight.value)) {
        None => 1,
        Some(Ok(weight)) if weight > 0 => weight,
        Some(_) => {
            let place = endpoint.weight.as_ref().map_or(endpoint.place, |weight| weight.place);
            findings.error(code::INVALID_VALUE, place, &path.field("weight"), "a weight is above zero", "");
            return None;
        }
    };
    let addresses = ports.iter().filter_map(|(port, target)| {
        let own = endpoint.ports.iter().find(|(name, _)| name.value == port.name);
        let number = own.map_or(Some(*target), |(_, number)| u16::try_from(number.value).ok())?;
        Some((
            port.number,
            match (ip, socket) {
                (Some(ip), _) => Address::Socket(SocketAddr::new(ip, number)),
                (None, Some(path)) => Address::Pipe(path.to_owned()),
                (None, None) => Address::Name { host: host.value.clone(), port: number },
            },
        ))
    });
    let labels = plain(&endpoint.labels);
    let locality = match &endpoint.locality {
        Some(written) => localities::read(written, '/'),
        None => localities::of_labels(&labels),
    };
    let account = endpoint.service_account.as_ref().map(|account| account.value.clone());
    Some(KnownEndpoint { labels, weight, locality, account, ..KnownEndpoint::at(addresses.collect()) })
}

/// 1 to 65535; anything else is told.
pub(crate) fn port_number(
    number: i64,
    place: Place,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    if port.is_none() {
        let message = format!("{number} is not a port");
        findings.tell(Severity::Error, code::INVALID_VALUE, place, path, message, "1 to 65535");
    }
    port
}
