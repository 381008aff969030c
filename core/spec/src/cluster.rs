//! Where requests go: a set of endpoints that serve the same thing.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use naru_base::Weight;

use crate::{
    ClusterLimits, Fallback, GuardSettings, LoadBalancing, LoadLimits, Locality, ProxyVersion, UpstreamTls,
    defaults,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    pub name: String,
    pub discovery: Discovery,
    pub endpoints: Vec<Endpoint>,
    pub load_balancing: LoadBalancing,
    pub connect_timeout: Duration,
    pub protocol: UpstreamProtocol,
    pub tls: Option<UpstreamTls>,
    /// Each connection begins with a header that says for whom it was made; it serves nobody else, and no second
    /// request.
    pub proxy_protocol: Option<ProxyVersion>,
    /// An unused connection is closed after this long; `None` keeps it.
    pub idle_timeout: Option<Duration>,
    /// A connection is closed after this many requests; `None` is without limit.
    pub max_requests_per_connection: Option<u32>,
    pub http2: Http2Settings,
    /// When its endpoints, or all of it, are not asked.
    pub guard: GuardSettings,
    /// Of connections, and of what waits for them or uses them.
    pub limits: ClusterLimits,
    /// Of requests, from before an endpoint is chosen.
    pub load: LoadLimits,
    /// What is tried instead, where the route does not say it.
    pub fallback: Option<Fallback>,
}

impl Cluster {
    /// Envoy's defaults around a list of endpoints.
    pub fn new(name: impl Into<String>, discovery: Discovery, endpoints: Vec<Endpoint>) -> Cluster {
        Cluster {
            name: name.into(),
            discovery,
            endpoints,
            load_balancing: LoadBalancing::round_robin(),
            connect_timeout: defaults::CONNECT_TIMEOUT,
            protocol: UpstreamProtocol::Http1,
            tls: None,
            proxy_protocol: None,
            idle_timeout: Some(defaults::UPSTREAM_IDLE_TIMEOUT),
            max_requests_per_connection: None,
            http2: Http2Settings::default(),
            guard: GuardSettings::default(),
            limits: ClusterLimits::envoy(),
            load: LoadLimits::default(),
            fallback: None,
        }
    }
}

/// How addresses of endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// As written.
    Static,
    /// Every address of the answer is an endpoint.
    StrictDns(DnsSettings),
    /// The first address of the answer, for new connections; connections that stand are kept when
    /// the answer changes. Exactly one endpoint.
    LogicalDns(DnsSettings),
    /// Each request brings its own, and none is written.
    OnDemand(OnDemand),
}

/// What of a request says the address of its endpoint. Envoy's `ORIGINAL_DST`, and what Istio's PASSTHROUGH and
/// `resolution: NONE` are to clients whose connections nobody has led away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// An address and a port; before all else. It is believed of everybody who may send it.
    pub header: Option<HeaderName>,
    /// Else the host that the request is for, with its port or this one.
    pub authority_port: Option<u16>,
    /// In place of any other port.
    pub port_override: Option<u16>,
    /// An endpoint that was not used for so long, or nearly twice as long, is forgotten.
    pub cleanup_interval: Duration,
}

impl Default for OnDemand {
    /// Nothing does.
    fn default() -> OnDemand {
        OnDemand {
            header: None,
            authority_port: None,
            port_override: None,
            cleanup_interval: defaults::ON_DEMAND_CLEANUP,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    pub family: DnsFamily,
    /// Between two answers.
    pub refresh: Duration,
    /// Between two tries while there is no answer.
    pub failure_refresh: Duration,
}

impl Default for DnsSettings {
    fn default() -> DnsSettings {
        DnsSettings {
            family: DnsFamily::Auto,
            refresh: defaults::DNS_REFRESH,
            failure_refresh: defaults::DNS_REFRESH,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6, and IPv4 where there is none.
    Auto,
    V4Only,
    V6Only,
    /// IPv4, and IPv6 where there is none.
    V4Preferred,
    /// Both.
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// Others by which the same endpoint is reached, where the first does not answer.
    pub additional: Vec<SocketAddr>,
    /// Above zero.
    pub weight: Weight,
    /// Zero first. Those of a higher number take what the fit ones of the lower cannot.
    pub priority: u32,
    pub locality: Locality,
    /// Of its locality, among those of the same priority; all endpoints of one say the same. It counts
    /// where [`LoadBalancing::weighs_localities`] says so. Zero takes nothing.
    pub locality_weight: Weight,
    /// What whoever knows of the endpoint says of it, beside what naru finds out itself.
    pub reported: Reported,
}

/// How fit an endpoint is by the word of whoever tells of it: Envoy's `health_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reported {
    #[default]
    Fit,
    /// Others are asked first.
    Degraded,
    /// It is asked in panic only.
    Unfit,
}

impl Endpoint {
    /// One of many that are alike.
    pub fn new(address: Address) -> Endpoint {
        Endpoint {
            address,
            additional: Vec::new(),
            weight: Weight(1),
            priority: 0,
            locality: Locality::default(),
            locality_weight: Weight(1),
            reported: Reported::Fit,
        }
    }
}

/// An address, or a name that stands for some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    Socket(SocketAddr),
    Name {
        host: String,
        port: u16,
    },
    /// The path of a Unix socket; one of the abstract namespace begins with `@`.
    Pipe(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(address) => address.fmt(f),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
            Address::Pipe(path) => f.write_str(path),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    Http1,
    Http2,
    /// By ALPN; HTTP/1.1 where the upstream has no opinion.
    Alpn,
    /// What the client speaks.
    Downstream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    pub max_concurrent_streams: u32,
    /// Bytes.
    pub stream_window: u32,
    /// Bytes.
    pub connection_window: u32,
}

impl Http2Settings {
    /// Towards clients that are anybody: what one of them can have held is bounded by the window of its connection.
    pub fn edge() -> Http2Settings {
        Http2Settings {
            max_concurrent_streams: defaults::HTTP2_EDGE_STREAMS_MAX,
            stream_window: defaults::HTTP2_EDGE_STREAM_WINDOW,
            connection_window: defaults::HTTP2_EDGE_CONNECTION_WINDOW,
        }
    }
}

impl Default for Http2Settings {
    fn default() -> Http2Settings {
        Http2Settings {
            max_concurrent_streams: defaults::HTTP2_STREAMS_MAX,
            stream_window: defaults::HTTP2_STREAM_WINDOW,
            connection_window: defaults::HTTP2_CONNECTION_WINDOW,
        }
    }
}
