//! Names become endpoints: DNS, asked again and again.
//!
//! One task for each cluster that is found by DNS, off the request path. While there is no answer,
//! the endpoints of the last answer stay. A cluster that comes with a new configuration is asked for
//! before that takes effect.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use naru_base::ClusterId;
use naru_spec::{Address, Cluster, Discovery, DnsFamily, DnsSettings, Pipe};
use tokio::task::{AbortHandle, JoinSet};

use crate::board::Board;
use crate::cluster::{EndpointSet, EndpointShared};

/// A new configuration waits so long for its names, and again for the first probes of its endpoints.
pub const FIRST_ANSWERS_MAX: Duration = Duration::from_secs(1);

/// The endpoints of a cluster that names none but addresses. What is known of one stays with its address.
pub fn static_endpoints(cluster: &Cluster, known: &EndpointSet) -> EndpointSet {
    let endpoints = cluster.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        Address::Socket(address) => {
            Some(EndpointShared::new(*address, &endpoint.additional, "", endpoint, known))
        }
        Address::Pipe(path) => Some(EndpointShared::new(Pipe::identity(path), &[], "", endpoint, known)),
        Address::Name { .. } => None,
    });
    endpoints.collect()
}

/// A cluster that is found by DNS, and how.
#[derive(Debug)]
pub struct Follower {
    cluster: Cluster,
    settings: DnsSettings,
    resolver: Option<TokioResolver>,
    /// There was an answer, good or bad.
    was_answered: AtomicBool,
}

impl Follower {
    /// `None` for a cluster whose endpoints do not change.
    pub fn of(cluster: &Cluster) -> Option<Arc<Follower>> {
        let settings = match cluster.discovery {
            Discovery::Static | Discovery::OnDemand(_) => return None,
            Discovery::StrictDns(settings) | Discovery::LogicalDns(settings) => settings,
        };
        Some(Arc::new(Follower {
            cluster: cluster.clone(),
            settings,
            // How often to ask is the cluster's business; an answer is never older than that.
            resolver: resolver(settings.family, 0),
            was_answered: AtomicBool::new(false),
        }))
    }

    /// Whether it finds what it is to find for `cluster`.
    pub fn is_for(&self, cluster: &Cluster) -> bool {
        self.cluster.discovery == cluster.discovery && self.cluster.endpoints == cluster.endpoints
    }

    pub fn was_answered(&self) -> bool {
        self.was_answered.load(Ordering::Relaxed)
    }
}

/// A follower at work, until this is dropped.
#[derive(Debug)]
pub struct Following {
    pub follower: Arc<Follower>,
    task: AbortHandle,
}

impl Following {
    /// `was_found` says how the first question was answered, if it was.
    pub fn begin(board: &Arc<Board>, follower: Arc<Follower>, was_found: Option<bool>) -> Following {
        let task = tokio::spawn(follow(Arc::clone(board), Arc::clone(&follower), was_found)).abort_handle();
        Following { follower, task }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps a cluster's endpoints up to date for ever.
async fn follow(board: Arc<Board>, follower: Arc<Follower>, mut was_found: Option<bool>) {
    let settings = follower.settings;
    loop {
        match was_found {
            Some(true) => tokio::time::sleep(settings.refresh).await,
            Some(false) => tokio::time::sleep(settings.failure_refresh).await,
            None => {}
        }
        let known = board.followed(&follower);
        let found = resolve(&follower, &known).await;
        was_found = Some(found.is_some());
        if let Some(set) = found {
            board.set_followed(&follower, set).await;
        }
        // After the endpoints are there: whoever asks whether the proxy is ready wants to use them.
        follower.was_answered.store(true, Ordering::Relaxed);
    }
}

/// A cluster that was not asked for yet.
#[derive(Debug)]
pub struct New {
    pub id: ClusterId,
    pub follower: Arc<Follower>,
    /// Endpoints that the cluster had when it was found in another way.
    pub known: EndpointSet,
}

/// Asks for all of these at once, and returns the answers that come in time: `None` among them where a name has
/// none.
pub async fn first_answers(wanted: Vec<New>) -> BTreeMap<ClusterId, Option<EndpointSet>> {
    let mut asked = JoinSet::new();
    for New { id, follower, known } in wanted {
        asked.spawn(async move {
            let found = resolve(&follower, &known).await;
            follower.was_answered.store(true, Ordering::Relaxed);
            (id, found)
        });
    }
    let mut answers = BTreeMap::new();
    // What takes longer is asked for again by whoever follows the cluster.
    let _ = tokio::time::timeout(FIRST_ANSWERS_MAX, async {
        while let Some(answer) = asked.join_next().await {
            answers.extend(answer);
        }
    })
    .await;
    answers
}

/// By the system's configuration; without one, by none but `/etc/hosts`. `kept` answers are used again for as long as
/// they say.
pub fn resolver(family: DnsFamily, kept: u64) -> Option<TokioResolver> {
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
    options.cache_size = kept;
    builder.build().ok()
}

/// `None` where a name has no answer.
async fn resolve(follower: &Follower, known: &EndpointSet) -> Option<EndpointSet> {
    let Follower { cluster, resolver, .. } = follower;
    let mut set: Vec<Arc<EndpointShared>> = Vec::new();
    for endpoint in &cluster.endpoints {
        let (host, port) = match &endpoint.address {
            Address::Socket(address) => (address.ip().to_string(), address.port()),
            Address::Name { host, port } => (host.clone(), *port),
            // It has no name to be looked up.
            Address::Pipe(path) => {
                let identity = Pipe::identity(path);
                (identity.ip().to_string(), identity.port())
            }
        };
        let mut addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => lookup(resolver.as_ref()?, &host).await?,
        };
        let mut others = Vec::new();
        if matches!(cluster.discovery, Discovery::LogicalDns(_)) {
            // All of them are one endpoint.
            let rest = addresses.split_off(addresses.len().min(1));
            others = rest.into_iter().map(|address| (address, port).into()).collect();
        }
        for address in addresses {
            let address = (address, port).into();
            if set.iter().any(|shared| shared.address == address) {
                continue;
            }
            // What is known of an endpoint stays with its address.
            set.push(EndpointShared::new(address, &others, &host, endpoint, known));
        }
    }
    Some(set.into())
}

pub async fn lookup(resolver: &TokioResolver, host: &str) -> Option<Vec<IpAddr>> {
    let answer = resolver.lookup_ip(host).await.ok()?;
    let mut addresses: Vec<IpAddr> = answer.iter().collect();
    // The order of an answer means nothing, but a change of it would look like one of the set.
    if addresses.is_empty() {
        return None;
    }
    addresses.dedup();
    Some(addresses)
}
