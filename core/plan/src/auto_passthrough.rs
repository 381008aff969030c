//! A gateway's `AUTO_PASSTHROUGH`: the server name that a client asks for names the service, its port and the subset.
//!
//! Comes in: the services that a server lets through. Goes out: a chain for each of their names, which passes TLS on
//! unread; no VirtualService is asked. Source: istiod's `buildGatewayNetworkFiltersFromTLSRoutes` for this mode and its
//! clusters of SNI-DNAT, whose names these are.

use naru_resource::Place;
use naru_spec::{
    Cluster, ClusterChoice, ClusterName, Domain, FilterChain, Probe, Transport, UpstreamProtocol,
};

use crate::Surroundings;
use crate::registry::Known;
use crate::routes::{Context, Routes};

/// The client's own TLS goes on in place of naru's.
fn pass(cluster: &mut Cluster) {
    if cluster.tls.take().is_none() {
        return;
    }
    if cluster.protocol == UpstreamProtocol::Alpn {
        cluster.protocol = UpstreamProtocol::Downstream;
    }
    // Without TLS nobody there would understand the question.
    cluster.guard.health_check.take_if(|check| !matches!(check.probe, Probe::Tcp(_)));
}

impl Routes<'_> {
    /// Chains of a server written at a place, for the services that it has.
    pub fn named_chains(
        &mut self,
        place: Place,
        context: &Context<'_>,
        has: &dyn Fn(&Known) -> bool,
        surroundings: &Surroundings,
    ) -> Vec<FilterChain> {
        let Context::Gateway { namespace, labels, .. } = *context else { return Vec::new() };
        let registry = self.registry;
        let quiet = self.quiet();
        let mut chains = Vec::new();
        let seen = registry.services().filter(|known| known.is_seen_from(namespace));
        // A pattern is the name of nothing that could be asked for.
        let named = seen.filter(|known| !registry.is_hidden(known, namespace) && !known.host.contains('*'));
        // Who asks from outside is led to nobody who is outside.
        let named = named.filter(|known| !known.is_external);
        for known in named.filter(|known| has(known)) {
            let effective = self.policies.find(&known.host, &known.namespace, namespace, labels);
            let subsets = || std::iter::once(None).chain(effective.subsets.iter().copied().map(Some));
            let ports = known.ports.iter().map(|port| port.number);
            for (port, subset) in ports.flat_map(|port| subsets().map(move |subset| (port, subset))) {
                let mut cluster = self.build(known, port, subset, &effective, labels);
                let subset = subset.map_or("", |subset| subset.name.as_str());
                cluster.name = ClusterName { port, subset, host: &known.host, is_passed: true }.to_string();
                let Ok(asked) = Domain::parse(&cluster.name) else { continue };
                pass(&mut cluster);
                let to = ClusterChoice::One(self.keep(cluster, namespace));
                let tcp = self.tcp_proxy(to, place, surroundings, &quiet);
                let mut chain = FilterChain::of_tcp(tcp);
                chain.name = asked.to_string();
                chain.transport = Transport::Tls;
                chain.server_names = vec![asked];
                chains.push(chain);
            }
        }
        chains
    }
}
