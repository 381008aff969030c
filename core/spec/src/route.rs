//! Which rule there is for a request, and what a rule says to do.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use naru_base::Weight;

use crate::{
    AutoTimeout, CachePolicy, Domain, Fallback, Fault, GateChange, HashPolicy, HeaderOps, Hedge, Invalid,
    LoadLimits, Match, Mirror, ProxyVersion, ReadWriteGroups, RetryPolicy, Scheme, Upgrades, defaults,
};

/// Virtual hosts by domain; a request whose host none of them names is answered 404.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RouteTable {
    pub name: String,
    pub virtual_hosts: Vec<VirtualHost>,
    /// Hosts are looked up without their port.
    pub ignores_port: bool,
    pub request_headers: HeaderOps,
    pub response_headers: HeaderOps,
}

/// The rules of one or several domains.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    pub name: String,
    /// Exact before the longest `*.suffix`, before the longest `prefix.*`, before `*`.
    pub domains: Vec<Domain>,
    /// In order: the first that matches takes the request.
    pub rules: Vec<Rule>,
    pub tls: TlsRequirement,
    pub request_headers: HeaderOps,
    pub response_headers: HeaderOps,
}

/// Whether a virtual host answers requests that came without TLS, or redirects them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsRequirement {
    #[default]
    None,
    /// Clients from outside are redirected, those of [`internal_networks`](crate::Http::internal_networks) not.
    ExternalOnly,
    All,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// Where it is written: `file:line:column`. Empty where nobody knows.
    pub origin: String,
    /// One of these must match, whole. Empty matches nothing but is never built by a reader:
    /// a rule for everything has one [`Match::default`].
    pub matches: Vec<Match>,
    pub action: Action,
    pub request_headers: HeaderOps,
    pub response_headers: HeaderOps,
    /// What its requests pass otherwise than the listener says.
    pub gate: Vec<GateChange>,
}

impl Rule {
    /// What it says otherwise than its listener, also for one of its clusters alone.
    pub fn changes(&self) -> impl Iterator<Item = &GateChange> {
        let of_clusters = match &self.action {
            Action::Forward(forward) => forward.cluster_gates.as_slice(),
            Action::Redirect(_) | Action::Direct(_) => &[],
        };
        self.gate.iter().chain(of_clusters.iter().flatten().flatten())
    }

    pub fn changes_mut(&mut self) -> impl Iterator<Item = &mut GateChange> {
        let of_clusters = match &mut self.action {
            Action::Forward(forward) => forward.cluster_gates.as_mut_slice(),
            Action::Redirect(_) | Action::Direct(_) => &mut [],
        };
        self.gate.iter_mut().chain(of_clusters.iter_mut().flatten().flatten())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Forward(Box<Forward>),
    Redirect(Box<Redirect>),
    Direct(Box<DirectResponse>),
}

/// Sends the request to a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    pub clusters: ClusterChoice,
    /// What requests for one of several clusters pass, in place of the [gate](Rule::gate) of the rule. As long as
    /// there are clusters, or empty.
    pub cluster_gates: Vec<Option<Vec<GateChange>>>,
    /// Where reads and writes go instead.
    pub groups: Option<Box<ReadWriteGroups>>,
    /// From the end of the request to the end of the response. `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Overrides the listener's stream idle timeout; `Some(None)` turns it off.
    pub idle_timeout: Option<Option<Duration>>,
    pub path: Option<PathRewrite>,
    pub host: Option<HostRewrite>,
    /// The original host goes to X-Forwarded-Host when it is rewritten.
    pub append_x_forwarded_host: bool,
    pub query: QueryOps,
    /// The status where the cluster does not exist.
    pub cluster_not_found: StatusCode,
    /// What of a request chooses its endpoint, where its cluster is balanced by a consistent hash and says nothing
    /// of it itself.
    pub hash: Vec<HashPolicy>,
    /// Beside those of the cluster.
    pub load: LoadLimits,
    /// What is tried instead; takes the place of the cluster's.
    pub fallback: Option<Fallback>,
    /// What is kept of the answers.
    pub cache: Option<Box<CachePolicy>>,
    /// What is done where an attempt fails.
    pub retry: Option<RetryPolicy>,
    pub hedge: Option<Hedge>,
    /// Takes the place of `timeout`, where there is one.
    pub auto_timeout: Option<AutoTimeout>,
    /// Takes the place of [`Http::fault`](crate::Http::fault).
    pub fault: Option<Fault>,
    /// At most [`defaults::MIRRORS_MAX`].
    pub mirrors: Vec<Mirror>,
    /// Before what the listener says of them.
    pub upgrades: Upgrades,
    /// What is in a tunnel that is asked for by CONNECT goes to an endpoint as it is. Without it the CONNECT goes on.
    pub terminate: Option<Terminate>,
}

/// The end of a tunnel. Envoy's `connect_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Terminate {
    /// The endpoint is told first whose bytes they are.
    pub proxy_protocol: Option<ProxyVersion>,
}

impl Forward {
    pub fn to(cluster: impl Into<String>) -> Forward {
        Forward {
            clusters: ClusterChoice::One(cluster.into()),
            cluster_gates: Vec::new(),
            groups: None,
            timeout: Some(defaults::ROUTE_TIMEOUT),
            idle_timeout: None,
            path: None,
            host: None,
            append_x_forwarded_host: false,
            query: QueryOps::default(),
            cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
            hash: Vec::new(),
            load: LoadLimits::default(),
            fallback: None,
            cache: None,
            retry: None,
            hedge: None,
            auto_timeout: None,
            fault: None,
            mirrors: Vec::new(),
            upgrades: Upgrades::default(),
            terminate: None,
        }
    }

    /// The clusters that a request may be sent to; copies of it go elsewhere.
    pub fn cluster_names(&self) -> impl Iterator<Item = &str> {
        let of_groups = self.groups.iter().flat_map(|groups| groups.names());
        self.clusters.names().chain(of_groups)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum ClusterChoice {
    One(String),
    /// By share of the sum; a weight of zero takes nothing.
    Weighted(Vec<WeightedCluster>),
}

impl ClusterChoice {
    /// The sum of the weights must be above zero and fit 32 bits.
    pub fn weighted(clusters: Vec<WeightedCluster>) -> Result<ClusterChoice, Invalid> {
        let sum: u64 = clusters.iter().map(|c| u64::from(c.weight.0)).sum();
        if sum == 0 {
            return Err(Invalid::new("the weights of the clusters sum to zero")
                .hint("give at least one cluster a weight above zero"));
        }
        if sum > u64::from(u32::MAX) {
            return Err(Invalid::new("the weights of the clusters sum to more than 4294967295"));
        }
        Ok(ClusterChoice::Weighted(clusters))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            ClusterChoice::One(name) => (Some(name.as_str()), &[][..]),
            ClusterChoice::Weighted(clusters) => (None, clusters.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|c| c.name.as_str()))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct WeightedCluster {
    pub name: String,
    pub weight: Weight,
    /// What the host of its requests becomes, before what the route makes of it. Nobody is told what it was.
    pub host: Option<String>,
    pub request_headers: HeaderOps,
    pub response_headers: HeaderOps,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// What the rule's path matched (a prefix, or the exact path) is replaced by this.
    Prefix(String),
    /// Every match of the pattern (RE2) in the path is substituted; `\1` is the first group.
    Regex { pattern: crate::Pattern, substitution: String },
    /// The whole path, without the query.
    Full(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    Literal(String),
    /// The host name of the endpoint, where the cluster is found by DNS.
    Auto,
    /// The value of this request header; without it the host stays.
    Header(HeaderName),
}

/// Operations on the query of a request. Names and values are written as they would stand in a
/// query after decoding; they are percent-encoded where they need to be.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct QueryOps {
    pub remove: Vec<String>,
    /// Replaces every parameter of that name by one.
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
}

impl QueryOps {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// Answers with the place where the client should ask instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub scheme: Option<Scheme>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<RedirectPath>,
    /// One of 301, 302, 303, 307, 308.
    pub status: StatusCode,
    pub strip_query: bool,
}

impl Default for Redirect {
    fn default() -> Redirect {
        Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: StatusCode::MOVED_PERMANENTLY,
            strip_query: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPath {
    /// The whole path; a `?` in it brings its own query.
    Full(String),
    Prefix(String),
    Regex {
        pattern: crate::Pattern,
        substitution: String,
    },
}

/// Answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    pub status: StatusCode,
    /// At most [`defaults::DIRECT_BODY_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}
