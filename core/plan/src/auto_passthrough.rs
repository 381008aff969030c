//! A gateway's `AUTO_PASSTHROUGH`: the server name that a client asks for names the service, its port and the subset.
//!
//! Comes in: the services that a server lets through. Goes out: a chain for each of their names, which passes TLS on
//! unread; no VirtualService is asked. Source: istiod's `buildGatewayNetworkFiltersFromTLSRoutes` for this mode and its
//! clusters of SNI-DNAT, whose names these are.

use naru_resource::Place;
use naru_resource::destination_rule::Subset;
use naru_spec::{ClusterChoice, Domain, FilterChain, Transport};

use crate::Surroundings;
use crate::registry::Known;
use crate::routes::{Context, Routes};

/// What a client asks for who means a port of a service, or of a subset of it.
fn name(host: &str, port: u16, subset: Option<&Subset>) -> String {
    let subset = subset.map_or("", |subset| subset.name.as_str());
    format!("outbound_.{port}_.{subset}_.{host}")
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
        for known in named.filter(|known| has(known)) {
            let effective = self.policies.find(&known.host, &known.namespace, namespace, labels);
            let subsets = || std::iter::once(None).chain(effective.subsets.iter().copied().map(Some));
            let ports = known.ports.iter().map(|port| port.number);
            for (port, subset) in ports.flat_map(|port| subsets().map(move |subset| (port, subset))) {
                let mut cluster = self.build(known, port, subset, &effective, labels);
                cluster.name = name(&known.host, port, subset);
                let Ok(asked) = Domain::parse(&cluster.name) else { continue };
                // The client's own TLS goes on.
                cluster.tls = None;
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
