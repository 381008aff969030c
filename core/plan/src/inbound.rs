//! What comes in to a workload: `ingress` of Istio's `Sidecar`.
//!
//! Comes in: the Sidecar that is for a workload. Goes out, where a proxy stands before the workload, a listener for each
//! of its ports and a cluster of the one endpoint behind it; where none does, where the processes of the workload are
//! reached instead, as the proxy of who calls does what both would. Source: Istio's `IstioIngressListener`, and istiod's
//! inbound clusters, which have these names. Deliberately not here: who may come in, which is `identity`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use naru_resource::destination_rule::ConnectionPool;
use naru_resource::gateway::{ServerTls, ServerTlsMode};
use naru_resource::service::PortRef;
use naru_resource::sidecar::{IngressListener, SidecarPort};
use naru_resource::{Place, Resources, Sidecar, Text};
use naru_spec::{
    Action, Address, ClientCertDetails, Cluster, ClusterChoice, ClusterLimits, Discovery, Domain,
    DownstreamTls, Endpoint, FilterChain, Forward, ForwardClientCert, Http, Listener, Match, Path,
    RouteTable, Rule, ServerHeader, Severity, TcpProxy, TlsRequirement, Transport, Upgrades,
    UpstreamProtocol, VirtualHost, code,
};

use crate::clusters::{self, Blocks, Clusters};
use crate::findings::Findings;
use crate::identity::Guards;
use crate::mutual::{self, Mutual};
use crate::names::fqdn;
use crate::policies::check_pool;
use crate::registry::{has_all, port_number};
use crate::routes::Routes;
use crate::sidecars::{self, Sidecars};
use crate::{Client, Instance, InstancePort, Surroundings, tls};

/// One port that a workload is called at.
struct Ingress<'a> {
    said: &'a IngressListener,
    /// Which of the list it is.
    at: usize,
    port: u16,
    speaks: Speaks,
    bind: Option<IpAddr>,
    behind: Behind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http(UpstreamProtocol),
    /// Browsers' gRPC, which is translated.
    GrpcWeb,
    Tcp,
}

/// Who is led to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Behind {
    /// The same port, as without any listener.
    Same,
    /// A port of the machine's own.
    Local(SocketAddr),
    /// A port of the address that the workload is known by.
    Own(u16),
    Pipe(String),
}

/// A running process, and where each of its ports is reached.
#[derive(Debug)]
pub(crate) struct Reached<'a> {
    pub instance: &'a Instance,
    ports: Vec<ReachedPort<'a>>,
}

#[derive(Debug)]
struct ReachedPort<'a> {
    name: Option<&'a str>,
    number: u16,
    address: Address,
}

impl Reached<'_> {
    pub fn named(&self, name: &str) -> Option<&Address> {
        self.ports.iter().find(|port| port.name == Some(name)).map(|port| &port.address)
    }

    /// A process that names no ports has one, whatever a service calls it.
    pub fn numbered(&self, number: u16) -> Option<&Address> {
        let of = |number: u16| self.ports.iter().find(|port| port.number == number);
        of(number).or_else(|| of(UNNAMED)).map(|port| &port.address)
    }
}

/// The port of a process that names none.
const UNNAMED: u16 = 0;

/// Where processes are reached before which no proxy stands: where their Sidecars lead.
pub(crate) fn reached<'a>(instances: &'a [Instance], resources: &Resources, root: &str) -> Vec<Reached<'a>> {
    let mut quiet = Findings::new(&resources.files);
    let of = |instance: &'a Instance| {
        let at = |port: u16| Address::Socket(SocketAddr::new(instance.address, port));
        let ports = instance.ports.iter().map(|port| ReachedPort {
            name: port.name.as_deref(),
            number: port.container_port,
            address: at(port.port),
        });
        let mut ports: Vec<ReachedPort<'_>> = ports.collect();
        let sidecar = sidecars::find(resources, root, &instance.namespace, &instance.labels);
        for ingress in sidecar.map(|sidecar| read(sidecar, &mut quiet)).unwrap_or_default() {
            let address = match ingress.behind {
                Behind::Same => continue,
                Behind::Local(_) | Behind::Own(_) if is_unnamed(&instance.ports) => continue,
                Behind::Local(address) => at(real(&instance.ports, address.port())),
                Behind::Own(port) => at(real(&instance.ports, port)),
                Behind::Pipe(path) => Address::Pipe(path),
            };
            match ports.iter_mut().find(|port| port.number == ingress.port) {
                Some(port) => port.address = address,
                None => ports.push(ReachedPort { name: None, number: ingress.port, address }),
            }
        }
        Reached { instance, ports }
    };
    instances.iter().map(of).collect()
}

fn is_unnamed(ports: &[InstancePort]) -> bool {
    ports.iter().all(|port| port.container_port == UNNAMED)
}

/// Where a port of a container really is; one that it does not name is where it says.
fn real(ports: &[InstancePort], number: u16) -> u16 {
    ports.iter().find(|port| port.container_port == number).map_or(number, |port| port.port)
}

/// The name of a listener of a workload's own ports.
pub(crate) fn name(client: &Client, port: u16) -> String {
    format!("{}{port}", names_begin(client))
}

/// How the names of all of them begin.
pub(crate) fn names_begin(client: &Client) -> String {
    format!("inbound/{}.{}/", client.name, client.namespace)
}

/// Listeners before the workloads that a proxy stands before. What would lead to one of them is left out, and so are bytes
/// where policies would have to be asked, which know requests only.
pub(crate) fn listeners(
    surroundings: &Surroundings,
    sidecars: &Sidecars<'_>,
    guards: &Guards<'_>,
    routes: &Routes<'_>,
    listeners: &mut Vec<Listener>,
) -> Clusters {
    let mut clusters = Clusters::new();
    let mut quiet = routes.quiet();
    let takes_mutual = mutual::is_called_for(routes.resources);
    for client in &surroundings.clients {
        let (Some(here), Some(sidecar)) = (client.inbound, sidecars.of_workload(client)) else { continue };
        let gate = guards.gate_before(client, &quiet);
        let all = read(sidecar, &mut quiet);
        let at = |ingress: &Ingress<'_>| SocketAddr::new(ingress.bind.unwrap_or(here), ingress.port);
        let own: Vec<SocketAddr> = all.iter().map(at).collect();
        for (ingress, address) in all.iter().zip(&own) {
            let behind = ingress.behind.address(here);
            let behind = behind.filter(|behind| !own.iter().any(|own| is_same(behind, *own)));
            let tls = server(ingress, sidecar, routes.resources, &mut quiet);
            let lacks_tls = ingress.said.tls.is_some() && tls.is_none();
            let lacks_gate = ingress.speaks == Speaks::Tcp && !gate.checks.is_empty();
            let Some(behind) = behind.filter(|_| !lacks_tls && !lacks_gate) else { continue };
            let cluster = cluster(ingress, client, sidecar, behind, routes);
            let origin = quiet.locate(ingress.said.place);
            let mut chain = chain(ingress, &cluster, origin, surroundings, routes);
            chain.tls = tls;
            chain.http.gate = gate.clone();
            let is_either = takes_mutual && ingress.said.tls.is_none() && ingress.speaks != Speaks::Tcp;
            let mutual = is_either.then(|| mutual_of(&mut chain, routes.mesh().clusters.mutual));
            let chains = mutual.into_iter().chain([chain]).collect();
            listeners.push(Listener::new(name(client, ingress.port), *address, chains));
            clusters.insert(cluster.name.clone(), cluster);
        }
    }
    clusters
}

/// For who calls as one proxy calls another, beside who does not: Istio's `PERMISSIVE`. Bytes that are no requests come
/// as they are, as who waits for the other to begin would wait for a handshake.
fn mutual_of(plain: &mut FilterChain, mutual: Mutual<'_>) -> FilterChain {
    let chain = FilterChain {
        name: "mutual".to_owned(),
        transport: Transport::Tls,
        tls: Some(mutual.downstream()),
        ..plain.clone()
    };
    plain.transport = Transport::Plain;
    chain
}

impl Behind {
    /// For who stands at an address.
    fn address(&self, here: IpAddr) -> Option<Address> {
        match self {
            Behind::Same => None,
            Behind::Local(address) => Some(Address::Socket(*address)),
            Behind::Own(port) => Some(Address::Socket(SocketAddr::new(reachable(here), *port))),
            Behind::Pipe(path) => Some(Address::Pipe(path.clone())),
        }
    }
}

/// An address that leads to this machine, where it is told that it is every one of them.
fn reachable(here: IpAddr) -> IpAddr {
    match here {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// Whether a listener would take what it sends on.
fn is_same(behind: &Address, listener: SocketAddr) -> bool {
    let Address::Socket(behind) = behind else { return false };
    let is_there = |ip: IpAddr| ip == listener.ip() || listener.ip().is_unspecified() || ip.is_unspecified();
    behind.port() == listener.port() && is_there(behind.ip())
}

/// As istiod makes it: all that comes goes to the one endpoint.
fn cluster(
    ingress: &Ingress<'_>,
    client: &Client,
    sidecar: &Sidecar,
    behind: Address,
    routes: &Routes<'_>,
) -> Cluster {
    let name = format!("inbound|{}||", ingress.port);
    let mut cluster = Cluster::new(name, Discovery::Static, vec![Endpoint::new(behind)]);
    cluster.limits = ClusterLimits::istio();
    cluster.connect_timeout = routes.mesh().clusters.connect_timeout;
    cluster.protocol = match ingress.speaks {
        Speaks::Http(protocol) => protocol,
        Speaks::GrpcWeb => UpstreamProtocol::Http2,
        Speaks::Tcp => UpstreamProtocol::Downstream,
    };
    let own = ingress.said.connection_pool.as_ref().or(sidecar.spec.inbound_connection_pool.as_ref());
    if let Some(pool) = own.or_else(|| pool_of_service(ingress.port, client, routes)) {
        clusters::apply_pool(&mut cluster, pool);
    }
    cluster
}

/// What the DestinationRule of the service says whose requests come to this port.
fn pool_of_service<'a>(port: u16, client: &Client, routes: &Routes<'a>) -> Option<&'a ConnectionPool> {
    let own = routes.resources.services.iter().filter(|service| {
        let selector = &service.spec.selector;
        service.meta.namespace() == client.namespace
            && !selector.is_empty()
            && has_all(&client.labels, selector)
    });
    own.flat_map(|service| service.spec.ports.iter().map(move |said| (service, said))).find_map(
        |(service, said)| {
            let target = match said.target_port.as_ref().map(|target| &target.value) {
                Some(PortRef::Number(number)) => i64::from(*number),
                Some(PortRef::Name(_)) => return None,
                None => said.port.value,
            };
            let number = u16::try_from(said.port.value).ok().filter(|_| target == i64::from(port))?;
            let host = fqdn(&service.meta.name, service.meta.namespace());
            let effective = routes.policies.find(&host, &client.namespace, &client.namespace, &client.labels);
            Blocks::effective(&effective, None, number).pool
        },
    )
}

fn chain(
    ingress: &Ingress<'_>,
    cluster: &Cluster,
    origin: String,
    surroundings: &Surroundings,
    routes: &Routes<'_>,
) -> FilterChain {
    if ingress.speaks == Speaks::Tcp {
        let mut tcp = TcpProxy::new("inbound", ClusterChoice::One(cluster.name.clone()));
        tcp.idle_timeout = cluster.limits.tcp_idle_timeout;
        tcp.origin = origin;
        tcp.access_log = routes.mesh().log(&surroundings.access_log);
        return FilterChain::of_tcp(tcp);
    }
    let mut forward = Forward::to(cluster.name.clone());
    forward.timeout = None;
    let rule = Rule {
        gate: Vec::new(),
        name: "default".to_owned(),
        origin,
        matches: vec![Match::default()],
        action: Action::Forward(Box::new(forward)),
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let host = VirtualHost {
        name: format!("inbound|http|{}", ingress.port),
        domains: vec![Domain::Any],
        rules: vec![rule],
        tls: TlsRequirement::None,
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let table = RouteTable { name: cluster.name.clone(), virtual_hosts: vec![host], ..RouteTable::default() };
    let mut http = Http::new("inbound", table);
    http.access_log.clone_from(&surroundings.access_log);
    http.server_header = ServerHeader::PassThrough;
    http.upgrades = Upgrades::websocket();
    http.grpc_web = ingress.speaks == Speaks::GrpcWeb;
    // As istiod has it: who shows himself is told.
    http.forward_client_cert = ForwardClientCert::AppendForward;
    http.client_cert_details =
        ClientCertDetails { subject: true, dns: true, uri: true, ..ClientCertDetails::default() };
    routes.mesh().at_listener(&mut http);
    // Workloads call, which may stream as slowly as they like.
    http.request_pace = None;
    http.response_pace = None;
    FilterChain::of(http)
}

/// Tells all that is wrong with what a Sidecar says of what comes in, and what of it acts only where a proxy stands
/// before the workload.
pub(crate) fn check(sidecar: &Sidecar, resources: &Resources, findings: &mut Findings<'_>) {
    let spec = Path::ROOT.field("spec");
    let places = spec.field("ingress");
    for ingress in &read(sidecar, findings) {
        let path = places.at(ingress.at);
        server(ingress, sidecar, resources, findings);
        if let Some(tls) = &ingress.said.tls {
            check_tls(ingress, tls, &path, findings);
        }
        check_loop(ingress, &path, findings);
        if let Some(pool) = &ingress.said.connection_pool {
            check_own_pool(pool, &path.field("connectionPool"), findings);
        }
        for (place, field) in [
            (ingress.said.tls.as_ref().map(|said| said.place), "tls"),
            (ingress.said.connection_pool.as_ref().map(|said| said.place), "connectionPool"),
            (ingress.said.bind.as_ref().map(|said| said.place), "bind"),
        ] {
            if let Some(place) = place {
                acts_before(place, field, &path, findings);
            }
        }
    }
    if let Some(pool) = &sidecar.spec.inbound_connection_pool {
        let path = spec.field("inboundConnectionPool");
        check_own_pool(pool, &path, findings);
        if sidecar.spec.ingress.is_empty() {
            let message = "'inboundConnectionPool' has no effect without ingress: no connection is led away";
            let hint = "name the ports in ingress";
            findings.warning(code::NO_EFFECT, pool.place, &path, message, hint);
        } else {
            acts_before(pool.place, "inboundConnectionPool", &spec, findings);
        }
    }
}

fn acts_before(place: Place, field: &'static str, path: &Path<'_>, findings: &mut Findings<'_>) {
    let message = format!("'{field}' acts in a proxy of the workload's own (naru control)");
    let hint = "naru up stands before no workload: who calls it calls its process";
    findings.tell(Severity::Note, code::NOT_YET, place, &path.field(field), message, hint);
}

/// Where the document alone says both, and does not lean on connections that are led away.
fn check_loop(ingress: &Ingress<'_>, path: &Path<'_>, findings: &mut Findings<'_>) {
    let bound = ingress.bind.map(|ip| SocketAddr::new(ip, ingress.port));
    let (Some(bound), Some(said), Behind::Local(behind)) =
        (bound, &ingress.said.default_endpoint, &ingress.behind)
    else {
        return;
    };
    if is_same(&Address::Socket(*behind), bound) {
        let message = format!("a proxy at {bound} would call itself: it does not listen there");
        let hint = "say another port, or bind another address: no connection is led away to it";
        let path = path.field("defaultEndpoint");
        findings.warning(code::NO_EFFECT, said.place, &path, message, hint);
    }
}

/// What acts at no workload, beside what is wrong with any server's TLS.
fn check_tls(ingress: &Ingress<'_>, tls: &ServerTls, path: &Path<'_>, findings: &mut Findings<'_>) {
    let path = path.field("tls");
    let protocol = ingress.said.port.as_ref().and_then(|port| port.protocol.as_ref());
    let is_tls = |word: &Text| matches!(word.to_ascii_uppercase().as_str(), "HTTPS" | "TLS");
    if let Some(word) = protocol.filter(|word| !is_tls(word)) {
        let message = format!("a port of {} has no TLS", word.value);
        let hint = "protocol: HTTPS, or TLS, as in Istio";
        findings.error(code::CONFLICTING_FIELDS, tls.place, &path, message, hint);
    }
    for (said, field) in
        [(&tls.insecure_skip_verify, "insecureSkipVerify"), (&tls.https_redirect, "httpsRedirect")]
    {
        if let Some(said) = said {
            let message = format!("'{field}' has no effect at a workload");
            findings.warning(code::NO_EFFECT, said.place, &path.field(field), message, "leave it out");
        }
    }
}

fn check_own_pool(pool: &ConnectionPool, path: &Path<'_>, findings: &mut Findings<'_>) {
    check_pool(pool, path, findings);
    if let Some(said) = pool.http.as_ref().and_then(|http| http.max_retries.as_ref()) {
        let message = "'maxRetries' has no effect: what comes in is not repeated";
        let path = path.field("http.maxRetries");
        findings.warning(code::NO_EFFECT, said.place, &path, message, "say it for who calls");
    }
}

/// TLS that ends before the workload. `None` where none is said, or what cannot be.
fn server(
    ingress: &Ingress<'_>,
    sidecar: &Sidecar,
    resources: &Resources,
    findings: &mut Findings<'_>,
) -> Option<DownstreamTls> {
    let tls = ingress.said.tls.as_ref()?;
    let places = Path::ROOT.field("spec.ingress");
    let place = places.at(ingress.at);
    let path = place.field("tls");
    let mode = tls.mode.as_ref().map(|mode| mode.value);
    if !matches!(mode, Some(ServerTlsMode::Simple | ServerTlsMode::Mutual)) {
        let place = tls.mode.as_ref().map_or(tls.place, |mode| mode.place);
        let message = "what comes in to a workload has TLS of mode SIMPLE or MUTUAL";
        findings.error(code::INVALID_VALUE, place, &path.field("mode"), message, "as in Istio");
        return None;
    }
    let namespace = sidecar.meta.namespace();
    let made = tls::downstream(tls, namespace, None, Mutual::default(), resources, &path, findings)?;
    // Nobody knows what is spoken inside.
    let alpn = if ingress.speaks == Speaks::Tcp { Vec::new() } else { made.alpn };
    Some(DownstreamTls { alpn, ..made })
}

/// The ports that are said as they can be; the others are told.
fn read<'a>(sidecar: &'a Sidecar, findings: &mut Findings<'_>) -> Vec<Ingress<'a>> {
    let places = Path::ROOT.field("spec.ingress");
    let mut all: Vec<Ingress<'_>> = Vec::new();
    for (at, said) in sidecar.spec.ingress.iter().enumerate() {
        let path = places.at(at);
        let Some(ingress) = Ingress::read(said, at, &path, findings) else { continue };
        if let Some(before) = all.iter().find(|before| before.port == ingress.port) {
            let message = format!("port {} comes in twice", ingress.port);
            let hint = format!("the other is at {}", findings.locate(before.said.place));
            findings.error(code::CONFLICT, said.place, &path.field("port"), message, hint);
            continue;
        }
        all.push(ingress);
    }
    all
}

impl<'a> Ingress<'a> {
    fn read(
        said: &'a IngressListener,
        at: usize,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Ingress<'a>> {
        let of_port = path.field("port");
        let Some(port) = &said.port else {
            let message = "what comes in, comes in at a port";
            findings.error(code::MISSING_FIELD, said.place, &of_port, message, "say number and protocol");
            return None;
        };
        let number = port_number(port.number.value, port.number.place, &of_port.field("number"), findings)?;
        let speaks = Speaks::read(said, port, &of_port, findings);
        let bind = match &said.bind {
            None => None,
            Some(bind) => match bind.parse::<IpAddr>() {
                Ok(ip) => Some(ip),
                Err(_) => {
                    let message = format!("'{}' is no address to listen at", bind.value);
                    let hint = "an IP address; Unix sockets are for egress, as in Istio";
                    findings.error(code::INVALID_VALUE, bind.place, &path.field("bind"), message, hint);
                    return None;
                }
            },
        };
        match said.capture_mode.as_ref().map(|mode| (mode.as_str(), mode.place)) {
            None | Some(("DEFAULT" | "NONE", _)) => {}
            Some(("IPTABLES", place)) => {
                let message = "naru leads no connection away: callers come to the listener itself";
                let path = path.field("captureMode");
                findings.warning(code::NOT_YET, place, &path, message, "captureMode: NONE, and a bind");
            }
            Some((word, place)) => {
                let message = format!("'{word}' is no way to take connections");
                let path = path.field("captureMode");
                findings.error(code::UNKNOWN_VALUE, place, &path, message, "one of DEFAULT, IPTABLES, NONE");
            }
        }
        if let Some(target) = &port.target_port {
            let message = "'targetPort' has no effect on a Sidecar, as in Istio";
            findings.warning(code::NO_EFFECT, target.place, &of_port.field("targetPort"), message, "");
        }
        let behind = match &said.default_endpoint {
            None => Behind::Same,
            Some(endpoint) => Behind::read(endpoint, &path.field("defaultEndpoint"), findings)?,
        };
        Some(Ingress { said, at, port: number, speaks: speaks?, bind, behind })
    }
}

impl Speaks {
    fn read(
        said: &IngressListener,
        port: &SidecarPort,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Speaks> {
        let http = Some(Speaks::Http(UpstreamProtocol::Http1));
        let Some(protocol) = &port.protocol else {
            let message = "nothing says what is spoken at this port: it is taken for HTTP";
            let hint = "say protocol, as TCP";
            findings.tell(Severity::Note, code::MISSING_FIELD, port.number.place, path, message, hint);
            return http;
        };
        match protocol.to_ascii_uppercase().as_str() {
            "HTTP" => http,
            "HTTP2" | "GRPC" => Some(Speaks::Http(UpstreamProtocol::Http2)),
            "GRPC-WEB" => Some(Speaks::GrpcWeb),
            "HTTPS" if said.tls.is_some() => http,
            "HTTPS" | "TLS" | "TCP" | "MONGO" | "MYSQL" | "REDIS" => Some(Speaks::Tcp),
            _ => {
                let message = format!("'{}' is not a protocol", protocol.value);
                let hint = "one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, MYSQL, REDIS";
                findings.error(code::UNKNOWN_VALUE, protocol.place, &path.field("protocol"), message, hint);
                None
            }
        }
    }
}

impl Behind {
    fn read(said: &Text, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Behind> {
        if let Some(path) = said.strip_prefix("unix://").filter(|path| path.starts_with(['/', '@'])) {
            return Some(Behind::Pipe(path.to_owned()));
        }
        match said.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 && address.ip().is_loopback() => Some(Behind::Local(address)),
            Ok(address) if address.port() > 0 && address.ip().is_unspecified() => {
                Some(Behind::Own(address.port()))
            }
            _ => {
                let message = format!("'{}' is nothing behind a workload's own proxy", said.value);
                let hint = "127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT or unix:///PATH";
                findings.error(code::INVALID_VALUE, said.place, path, message, hint);
                None
            }
        }
    }
}
