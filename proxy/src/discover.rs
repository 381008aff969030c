//! Names become endpoints: DNS, asked again and again.
//!
//! One task for each cluster that is found by DNS, off the request path. While there is no answer,
//! the endpoints of the last answer stay.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use naru_base::ClusterId;
use naru_spec::{Address, Cluster, Discovery, DnsFamily, DnsSettings};
use tokio::sync::watch;

use crate::cluster::{EndpointSet, EndpointShared};
use crate::proxy::Board;

/// Counts the clusters that have no first answer yet, good or bad.
#[derive(Debug)]
pub struct Pending {
    left: AtomicUsize,
    done_tx: watch::Sender<bool>,
}

impl Pending {
    pub fn new(count: usize) -> Arc<Pending> {
        let (done_tx, _) = watch::channel(count == 0);
        Arc::new(Pending { left: AtomicUsize::new(count), done_tx })
    }

    pub fn is_done(&self) -> bool {
        *self.done_tx.borrow()
    }

    fn one_done(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done_tx.send_replace(true);
        }
    }
}

/// The endpoints of a cluster that names none but addresses.
pub fn static_endpoints(cluster: &Cluster) -> EndpointSet {
    let endpoints = cluster.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        Address::Socket(address) => Some(EndpointShared::new(*address, Arc::default(), endpoint.weight)),
        Address::Name { .. } => None,
    });
    endpoints.collect()
}

pub fn settings(cluster: &Cluster) -> Option<DnsSettings> {
    match cluster.discovery {
        Discovery::Static => None,
        Discovery::StrictDns(settings) | Discovery::LogicalDns(settings) => Some(settings),
    }
}

/// Keeps a cluster's endpoints up to date for ever.
pub async fn follow(
    board: Arc<Board>,
    id: ClusterId,
    cluster: Cluster,
    settings: DnsSettings,
    pending: Arc<Pending>,
) {
    let resolver = resolver(settings.family);
    let mut is_first = true;
    loop {
        let found = resolve(resolver.as_ref(), &board, id, &cluster).await;
        let is_found = found.is_some();
        if let Some(set) = found {
            board.set_endpoints(id, set);
        }
        if std::mem::take(&mut is_first) {
            pending.one_done();
        }
        tokio::time::sleep(if is_found { settings.refresh } else { settings.failure_refresh }).await;
    }
}

/// By the system's configuration; without one, by none but `/etc/hosts`.
fn resolver(family: DnsFamily) -> Option<TokioResolver> {
    let builder = TokioResolver::builder_tokio()
        .ok()
        .unwrap_or_else(|| TokioResolver::builder_with_config(ResolverConfig::default(), Default::default()));
    let mut builder = builder;
    let options = builder.options_mut();
    options.ip_strategy = match family {
        DnsFamily::Auto => LookupIpStrategy::Ipv6thenIpv4,
        DnsFamily::V4Only => LookupIpStrategy::Ipv4Only,
        DnsFamily::V6Only => LookupIpStrategy::Ipv6Only,
        DnsFamily::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
        DnsFamily::All => LookupIpStrategy::Ipv4AndIpv6,
    };
    // How often to ask is the cluster's business; an answer is never older than that.
    options.cache_size = 0;
    builder.build().ok()
}

/// `None` where a name has no answer.
async fn resolve(
    resolver: Option<&TokioResolver>,
    board: &Board,
    id: ClusterId,
    cluster: &Cluster,
) -> Option<EndpointSet> {
    let known = board.endpoints(id);
    let mut set: Vec<Arc<EndpointShared>> = Vec::new();
    for endpoint in &cluster.endpoints {
        let (host, port) = match &endpoint.address {
            Address::Socket(address) => (address.ip().to_string(), address.port()),
            Address::Name { host, port } => (host.clone(), *port),
        };
        let mut addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => lookup(resolver?, &host).await?,
        };
        if matches!(cluster.discovery, Discovery::LogicalDns(_)) {
            addresses.truncate(1);
        }
        for address in addresses {
            let address = (address, port).into();
            if set.iter().any(|shared| shared.address == address) {
                continue;
            }
            // What is known of an endpoint stays with its address.
            let same =
                known.iter().find(|shared| shared.address == address && shared.weight == endpoint.weight);
            set.push(match same {
                Some(shared) => Arc::clone(shared),
                None => EndpointShared::new(address, host.as_str().into(), endpoint.weight),
            });
        }
    }
    Some(set.into())
}

async fn lookup(resolver: &TokioResolver, host: &str) -> Option<Vec<IpAddr>> {
    let answer = resolver.lookup_ip(host).await.ok()?;
    let mut addresses: Vec<IpAddr> = answer.iter().collect();
    // The order of an answer means nothing, but a change of it would look like one of the set.
    if addresses.is_empty() {
        return None;
    }
    addresses.dedup();
    Some(addresses)
}
