//! What `tls` and `tcp` routes of a `VirtualService` mean: whose bytes are passed through to where, unread.
//!
//! At a gateway a `tls` route makes a chain for its server names, whose TLS is not ended; the first `tcp` route that is
//! for a server takes all of it. In the mesh both are for tunnels, and are rules like those of HTTP. As in Istio a route
//! whose `sourceLabels` are asked for is for no gateway: nobody knows the labels of who comes from outside.

use ipnet::IpNet;
use naru_base::Weight;
use naru_resource::virtual_service::{RouteDestination, TcpMatch, TlsMatch};
use naru_resource::{Number, Place, Text, Texts, VirtualService};
use naru_spec::{
    Action, ClusterChoice, Domain, FilterChain, Forward, Match, Path, Rule, TcpProxy, Transport,
    WeightedCluster, code, defaults,
};

use crate::Surroundings;
use crate::findings::Findings;
use crate::names::fits;
use crate::registry::{Known, has_all};
use crate::routes::{Context, MESH, Owner, Routes, is_gateway, percent};

/// A match, as far as both kinds have it.
struct Block<'a> {
    place: Place,
    sni_hosts: &'a [Text],
    subnets: &'a Texts,
    port: Option<Number>,
    labels: &'a [(Text, Text)],
    namespace: Option<&'a Text>,
    gateways: &'a Texts,
}

/// A route of either kind.
struct Route<'a> {
    place: Place,
    blocks: Vec<Block<'a>>,
    to: &'a [RouteDestination],
}

impl<'a> Block<'a> {
    fn of_tls(said: &'a TlsMatch) -> Block<'a> {
        Block {
            place: said.place,
            sni_hosts: &said.sni_hosts,
            subnets: &said.destination_subnets,
            port: said.port,
            labels: &said.source_labels,
            namespace: said.source_namespace.as_ref(),
            gateways: &said.gateways,
        }
    }

    fn of_tcp(said: &'a TcpMatch) -> Block<'a> {
        Block {
            place: said.place,
            sni_hosts: &[],
            subnets: &said.destination_subnets,
            port: said.port,
            labels: &said.source_labels,
            namespace: said.source_namespace.as_ref(),
            gateways: &said.gateways,
        }
    }

    /// Whether it is asked in a context at all, where it is a document's of `owner`.
    fn is_for(&self, owner: &str, context: &Context<'_>) -> bool {
        let is_port = |port: u16| self.port.is_none_or(|asked| [0, i64::from(port)].contains(&asked.value));
        let is_namespace = |namespace: &str| self.namespace.is_none_or(|asked| asked.value == namespace);
        match context {
            Context::Any => true,
            Context::Gateway { namespace, name, port, .. } => {
                let is_named = |asked: &Text| is_gateway(asked, owner, (namespace, name));
                (self.gateways.is_empty() || self.gateways.iter().any(is_named))
                    && is_port(*port)
                    && self.labels.is_empty()
                    && is_namespace(namespace)
            }
            Context::Mesh { client, port } => {
                (self.gateways.is_empty() || self.gateways.iter().any(|asked| asked.value == MESH))
                    && is_port(*port)
                    && has_all(&client.labels, self.labels)
                    && is_namespace(&client.namespace)
            }
        }
    }

    fn networks(&self) -> Vec<IpNet> {
        self.subnets.iter().filter_map(|subnet| network(subnet)).collect()
    }
}

fn tls_routes(service: &VirtualService) -> Vec<Route<'_>> {
    let all = service.spec.tls.iter().map(|route| Route {
        place: route.place,
        blocks: route.matches.iter().map(Block::of_tls).collect(),
        to: &route.route,
    });
    all.collect()
}

fn tcp_routes(service: &VirtualService) -> Vec<Route<'_>> {
    let all = service.spec.tcp.iter().map(|route| Route {
        place: route.place,
        blocks: route.matches.iter().map(Block::of_tcp).collect(),
        to: &route.route,
    });
    all.collect()
}

/// A range of addresses, or one.
fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(one).map(|network| network.trunc())
}

impl Routes<'_> {
    /// Tells all that is wrong with the routes of a VirtualService that are not HTTP.
    pub fn check_streams(&mut self, service: &VirtualService, findings: &mut Findings<'_>) {
        let spec = Path::ROOT.field("spec");
        for (field, routes) in [("tls", tls_routes(service)), ("tcp", tcp_routes(service))] {
            let listed = spec.field(field);
            for (at, route) in routes.iter().enumerate() {
                let path = listed.at(at);
                if field == "tls" && route.blocks.is_empty() {
                    let hint = "say match[].sniHosts: a server name is all that can be seen of TLS";
                    findings.error(
                        code::MISSING_FIELD,
                        route.place,
                        &path,
                        "a tls route needs a match",
                        hint,
                    );
                }
                let blocks = path.field("match");
                for (at, block) in route.blocks.iter().enumerate() {
                    check_block(service, block, field == "tls", &blocks.at(at), findings);
                }
                self.choice(service, route, &Context::Any, &path.field("route"), findings);
            }
        }
        for (at, route) in service.spec.tcp.iter().enumerate() {
            let listed = spec.field("tcp");
            let path = listed.at(at);
            let blocks = path.field("match");
            for (at, said) in route.matches.iter().enumerate() {
                if let Some(subnet) = &said.source_subnet {
                    let message = "naru does not act on 'sourceSubnet', nor does Istio";
                    let hint = "leave it out";
                    let path = blocks.at(at);
                    let path = path.field("sourceSubnet");
                    findings.error(code::UNSUPPORTED_FIELD, subnet.place, &path, message, hint);
                }
            }
        }
    }

    fn choice(
        &mut self,
        service: &VirtualService,
        route: &Route<'_>,
        context: &Context<'_>,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<ClusterChoice> {
        if route.to.is_empty() {
            findings.error(code::MISSING_FIELD, route.place, path, "a route needs destinations", "");
            return None;
        }
        let weight = |to: &RouteDestination| to.weight.as_ref().map_or(0, |weight| weight.value);
        let sum: i64 = route.to.iter().map(weight).sum();
        let owner = Owner::of(service);
        let mut weighted = Vec::new();
        for (at, to) in route.to.iter().enumerate() {
            let path = path.at(at);
            let share = match (route.to.len(), sum) {
                (1, _) => "every connection".to_owned(),
                (_, 0) => "part of the connections".to_owned(),
                (_, sum) => format!("{}% of the connections", percent(weight(to), sum)),
            };
            if let Some(said) = to.weight.filter(|said| u32::try_from(said.value).is_err()) {
                let message = format!("{} cannot be a weight", said.value);
                findings.error(code::INVALID_VALUE, said.place, &path.field("weight"), message, "");
            }
            let path = path.field("destination");
            let name = self.destination(owner, &to.destination, context, &share, &path, findings);
            let of_all = if route.to.len() == 1 { 1 } else { u32::try_from(weight(to)).unwrap_or(0) };
            // Envoy has no weight of zero here, and neither has who is never asked a use.
            if of_all > 0 || sum == 0 {
                weighted.push(WeightedCluster {
                    name: name?,
                    weight: Weight(of_all),
                    host: None,
                    request_headers: Default::default(),
                    response_headers: Default::default(),
                });
            }
        }
        if let [only] = weighted.as_slice() {
            return Some(ClusterChoice::One(only.name.clone()));
        }
        match ClusterChoice::weighted(weighted) {
            Ok(choice) => Some(choice),
            Err(invalid) => {
                findings.error(code::INVALID_VALUE, route.place, path, invalid.message, invalid.hint);
                None
            }
        }
    }

    /// Chains that pass TLS through at a gateway, for the server names that `shared` gives of those that a route names.
    pub fn passing_chains(
        &mut self,
        service: &VirtualService,
        context: &Context<'_>,
        shared: &dyn Fn(&str) -> Vec<String>,
        surroundings: &Surroundings,
    ) -> Vec<FilterChain> {
        let mut quiet = self.quiet();
        let owner = service.meta.namespace();
        let mut chains = Vec::new();
        for route in tls_routes(service) {
            for block in route.blocks.iter().filter(|block| block.is_for(owner, context)) {
                let names: Vec<String> = block.sni_hosts.iter().flat_map(|name| shared(name)).collect();
                if names.is_empty() {
                    continue;
                }
                let Some(clusters) = self.choice(service, &route, context, &Path::ROOT, &mut quiet) else {
                    continue;
                };
                let tcp = self.tcp_proxy(clusters, route.place, surroundings, &quiet);
                let mut chain = FilterChain { name: names.join(","), ..FilterChain::of_tcp(tcp) };
                chain.networks = block.networks();
                chain.transport = Transport::Tls;
                let domains = names.iter().filter_map(|name| Domain::parse(name).ok());
                chain.server_names = domains.collect();
                if chain.server_names.contains(&Domain::Any) {
                    chain.server_names.clear();
                }
                chains.push(chain);
            }
        }
        chains
    }

    /// Chains for whatever comes to a server of a gateway: of the first route that is for it, and of those before it that
    /// are for some addresses only.
    pub fn tcp_chains(
        &mut self,
        service: &VirtualService,
        context: &Context<'_>,
        surroundings: &Surroundings,
    ) -> Vec<FilterChain> {
        let mut quiet = self.quiet();
        let owner = service.meta.namespace();
        let mut chains = Vec::new();
        for route in tcp_routes(service) {
            let blocks = route.blocks.iter().filter(|block| block.is_for(owner, context));
            let blocks: Vec<&Block<'_>> = blocks.collect();
            if blocks.is_empty() && !route.blocks.is_empty() {
                continue;
            }
            let Some(clusters) = self.choice(service, &route, context, &Path::ROOT, &mut quiet) else {
                continue;
            };
            let tcp = self.tcp_proxy(clusters, route.place, surroundings, &quiet);
            // Any of its blocks may hold, and one without addresses does; so does none at all.
            let takes_all = blocks.is_empty() || blocks.iter().any(|block| block.subnets.is_empty());
            let networks = if takes_all {
                Vec::new()
            } else {
                blocks.iter().flat_map(|block| block.networks()).collect()
            };
            chains.push(FilterChain { networks, ..FilterChain::of_tcp(tcp) });
            if takes_all {
                break;
            }
        }
        chains
    }

    /// The rule of a tunnel to a port of a service that speaks no HTTP, where a route says something of it.
    pub fn tunnel_rule(
        &mut self,
        service: &VirtualService,
        known: &Known,
        context: &Context<'_>,
    ) -> Option<Rule> {
        let asks = |name: &Text| fits(name, &known.host).is_some();
        let owner = service.meta.namespace();
        let of_tls = |block: &Block<'_>| block.is_for(owner, context) && block.sni_hosts.iter().any(asks);
        // To which of its addresses a tunnel leads is not known before an endpoint is chosen.
        let of_tcp = |block: &Block<'_>| block.is_for(owner, context) && block.subnets.is_empty();
        let tls = tls_routes(service);
        let tcp = tcp_routes(service);
        let found = tcp.iter().find(|route| route.blocks.is_empty() || route.blocks.iter().any(of_tcp));
        let route = found.or_else(|| tls.iter().find(|route| route.blocks.iter().any(of_tls)))?;
        let mut quiet = self.quiet();
        let clusters = self.choice(service, route, context, &Path::ROOT, &mut quiet)?;
        let is_hashed = clusters.names().any(|name| self.is_hashed(name));
        let mut forward = Forward { clusters, ..Forward::to("") };
        forward.timeout = None;
        forward.retry = self.retry(None, is_hashed, &Path::ROOT, &mut quiet);
        Some(Rule {
            gate: Vec::new(),
            name: service.meta.full_name(),
            origin: quiet.locate(route.place),
            matches: vec![Match::default()],
            action: Action::Forward(Box::new(forward)),
            request_headers: Default::default(),
            response_headers: Default::default(),
        })
    }

    pub(crate) fn tcp_proxy(
        &self,
        clusters: ClusterChoice,
        place: Place,
        surroundings: &Surroundings,
        findings: &Findings<'_>,
    ) -> TcpProxy {
        // As in Istio, that of the first destination.
        let first = clusters.names().next().and_then(|name| self.cluster(name));
        let idle_timeout =
            first.map_or(Some(defaults::TCP_IDLE_TIMEOUT), |first| first.limits.tcp_idle_timeout);
        let mut tcp = TcpProxy::new("gateway", clusters);
        tcp.idle_timeout = idle_timeout;
        tcp.origin = findings.locate(place);
        tcp.access_log = self.mesh().log(&surroundings.access_log);
        tcp
    }
}

fn check_block(
    service: &VirtualService,
    block: &Block<'_>,
    is_tls: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) {
    if is_tls && block.sni_hosts.is_empty() {
        let hint = "the names that clients ask for, or '*'";
        findings.error(
            code::MISSING_FIELD,
            block.place,
            &path.field("sniHosts"),
            "sniHosts are needed",
            hint,
        );
    }
    let names = path.field("sniHosts");
    for (at, name) in block.sni_hosts.iter().enumerate() {
        if !matches!(Domain::parse(name), Ok(Domain::Exact(_) | Domain::Suffix(_) | Domain::Any)) {
            let message = format!("'{}' cannot be a server name", name.value);
            let hint = "write a name, *.example.com, or *";
            findings.error(code::INVALID_VALUE, name.place, &names.at(at), message, hint);
        }
        let asked = name.to_ascii_lowercase();
        let is_within =
            |host: &Text| crate::names::common(&host.to_ascii_lowercase(), &asked) == Some(&asked);
        if !service.spec.hosts.iter().any(is_within) {
            let message = format!("'{}' is none of the hosts of this VirtualService", name.value);
            findings.error(code::INVALID_VALUE, name.place, &names.at(at), message, "add it to spec.hosts");
        }
    }
    let subnets = path.field("destinationSubnets");
    for (at, subnet) in block.subnets.iter().enumerate() {
        if network(subnet).is_none() {
            let message = format!("'{}' is not a range of addresses", subnet.value);
            let hint = "write 10.0.0.0/8, or 10.1.2.3";
            findings.error(code::INVALID_VALUE, subnet.place, &subnets.at(at), message, hint);
        }
    }
}
