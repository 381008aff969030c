//! The endpoints of all clusters, and the counts that whoever owns a cluster keeps of them.

use std::net::{IpAddr, SocketAddr};

use naru_balance::EndpointFacts;
use naru_base::{ClusterId, EndpointId};
use naru_journey::{Snapshot, View};
use naru_spec::{Address, Cluster, Discovery, Endpoint};

use crate::upstream::{Place, ProxyId};

/// Finds the addresses of a name, as DNS would; `None` where there is no answer.
pub type Resolve<'a> = dyn Fn(&str) -> Option<Vec<IpAddr>> + 'a;

#[derive(Debug)]
pub struct EndpointHere {
    pub address: SocketAddr,
    /// The address as the configuration writes it, which may be a name.
    pub written: String,
    /// What the configuration says of it; it may stand for several addresses.
    pub settings: Endpoint,
    /// See [`naru_balance::key`].
    pub key: String,
    /// Requests on their way.
    pub active: u32,
    pub active_max: u32,
    pub requests_total: u64,
    pub connections_total: u64,
    pub connect_failures_total: u64,
}

impl EndpointHere {
    pub fn facts(&self) -> EndpointFacts<'_> {
        EndpointFacts::of(&self.settings, &self.key)
    }

    /// Whether `name` means this endpoint: its address, or how the configuration writes it.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.written || name.parse() == Ok(self.address)
    }
}

/// All endpoints of a proxy.
#[derive(Debug)]
pub struct Fleet {
    pub proxy: ProxyId,
    /// By [`ClusterId`].
    clusters: Vec<Vec<EndpointHere>>,
}

impl Fleet {
    pub fn new(snapshot: &Snapshot, resolve: &Resolve<'_>) -> Fleet {
        let clusters = snapshot.clusters.iter().map(|cluster| endpoints(cluster, resolve)).collect();
        Fleet { proxy: ProxyId::default(), clusters }
    }

    pub fn clusters(&self) -> impl Iterator<Item = (ClusterId, &[EndpointHere])> {
        (0u32..).zip(&self.clusters).map(|(id, endpoints)| (ClusterId(id), endpoints.as_slice()))
    }

    pub fn endpoints(&self, cluster: ClusterId) -> &[EndpointHere] {
        self.clusters.get(cluster.index()).map_or(&[], Vec::as_slice)
    }

    pub fn get_mut(&mut self, cluster: ClusterId, endpoint: EndpointId) -> Option<&mut EndpointHere> {
        self.clusters.get_mut(cluster.index())?.get_mut(endpoint.index())
    }

    pub fn place(&self, cluster: ClusterId, endpoint: EndpointId) -> Option<Place> {
        let here = self.endpoints(cluster).get(endpoint.index())?;
        Some(Place { proxy: self.proxy, cluster, endpoint, address: here.address })
    }

    /// Requests on their way, at all endpoints.
    pub fn active(&self) -> u64 {
        self.clusters.iter().flatten().map(|here| u64::from(here.active)).sum()
    }
}

impl View for Fleet {
    fn active(&self, cluster: ClusterId, endpoint: EndpointId) -> u32 {
        self.endpoints(cluster).get(endpoint.index()).map_or(0, |here| here.active)
    }
}

/// In the order in which `proxy/src/discover.rs` finds them, as the order decides what is picked.
fn endpoints(cluster: &Cluster, resolve: &Resolve<'_>) -> Vec<EndpointHere> {
    let mut found: Vec<EndpointHere> = Vec::new();
    for endpoint in &cluster.endpoints {
        let (mut addresses, port) = match (&endpoint.address, cluster.discovery) {
            (Address::Socket(address), _) => (vec![address.ip()], address.port()),
            // A static cluster looks no names up.
            (Address::Name { .. }, Discovery::Static) => continue,
            (Address::Name { host, port }, _) => match resolve(host) {
                Some(addresses) => (addresses, *port),
                None => return Vec::new(),
            },
        };
        if matches!(cluster.discovery, Discovery::LogicalDns(_)) {
            addresses.truncate(1);
        }
        for address in addresses {
            let address = SocketAddr::new(address, port);
            let is_known = found.iter().any(|here| here.address == address);
            if is_known && cluster.discovery != Discovery::Static {
                continue;
            }
            let host = match &endpoint.address {
                Address::Name { host, .. } => host.as_str(),
                Address::Socket(_) => "",
            };
            let key = naru_balance::key(&cluster.load_balancing, address, host);
            found.push(EndpointHere {
                address,
                written: endpoint.address.to_string(),
                settings: endpoint.clone(),
                key,
                active: 0,
                active_max: 0,
                requests_total: 0,
                connections_total: 0,
                connect_failures_total: 0,
            });
        }
    }
    found
}
