//! Where clients come in, and which of a listener's chains takes a connection.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::{Domain, DownstreamTls, Http, Quic, TcpProxy};

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: String,
    /// Port 0 takes any free port. Of a Unix socket it is what it is known by: [`Pipe::identity`].
    pub address: SocketAddr,
    /// It is a Unix socket.
    pub pipe: Option<Pipe>,
    /// Datagrams come instead of connections; its one chain passes them through, a session for each client, where `quic` is
    /// not said.
    pub is_udp: bool,
    /// The datagrams are of QUIC: its chains end TLS and speak HTTP/3.
    pub quic: Option<Quic>,
    /// Tried by the address that the client came to (the longest range), then by the server name that it asks for:
    /// exact, then the longest wildcard, then a chain without names. A connection that no chain takes is closed.
    pub chains: Vec<FilterChain>,
    /// Connections begin with a header that says who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    pub connections: ConnectionLimits,
}

impl Listener {
    pub fn new(name: impl Into<String>, address: SocketAddr, chains: Vec<FilterChain>) -> Listener {
        Listener {
            name: name.into(),
            address,
            pipe: None,
            is_udp: false,
            quic: None,
            chains,
            proxy_protocol: None,
            connections: ConnectionLimits::default(),
        }
    }

    /// Of HTTP/3.
    pub fn of_quic(
        name: impl Into<String>,
        address: SocketAddr,
        quic: Quic,
        chains: Vec<FilterChain>,
    ) -> Listener {
        Listener { is_udp: true, quic: Some(quic), ..Listener::new(name, address, chains) }
    }

    /// On a Unix socket.
    pub fn on(pipe: Pipe, name: impl Into<String>, chains: Vec<FilterChain>) -> Listener {
        let address = Pipe::identity(&pipe.path);
        Listener { pipe: Some(pipe), ..Listener::new(name, address, chains) }
    }
}

/// How many connections of clients a listener has at a time, at all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ConnectionLimits {
    pub max: Option<u64>,
    /// Of one address; of IPv6, of one /64.
    pub max_per_source: Option<u32>,
    /// What the overload manager allows at all listeners together does not hold here.
    pub ignores_global: bool,
}

/// How many connections a chain has at a time. Envoy's `connection_limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// What its numbers are called.
    pub stat_prefix: String,
    pub max: u64,
    /// One too many is closed after so long.
    pub delay: Duration,
}

/// A Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipe {
    /// One of the abstract namespace begins with `@`.
    pub path: String,
    /// Who may connect, as of a file; 0 leaves what the process makes.
    pub mode: u32,
}

impl Pipe {
    pub fn is_abstract(&self) -> bool {
        self.path.starts_with('@')
    }

    /// What a Unix socket is known by wherever others are known by their addresses: one of the addresses that lead
    /// nowhere (RFC 6666), from a hash (FNV-1a) of its path. Nothing is ever sent there.
    pub fn identity(path: &str) -> SocketAddr {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = path.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
        let address = (0x0100_u128 << 112) | u128::from(hash);
        (Ipv6Addr::from(address), 1).into()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    pub name: String,
    /// Server names (SNI) that this chain takes; empty takes what no other chain names. A chain that has names and no
    /// `tls` passes the client's TLS through.
    pub server_names: Vec<Domain>,
    /// Addresses of this machine that clients come to; empty takes them all.
    pub networks: Vec<IpNet>,
    pub transport: Transport,
    pub tls: Option<DownstreamTls>,
    /// How requests are read; unused where `tcp` is said.
    pub http: Http,
    /// Bytes are passed through instead, whatever they are.
    pub tcp: Option<TcpProxy>,
    pub connection_limit: Option<ConnectionLimit>,
    /// For the handshake of TLS; [`HANDSHAKE_TIMEOUT`](crate::defaults::HANDSHAKE_TIMEOUT) where nothing is said.
    pub handshake_timeout: Option<Duration>,
}

impl FilterChain {
    /// For all that comes.
    pub fn of(http: Http) -> FilterChain {
        FilterChain {
            name: String::new(),
            server_names: Vec::new(),
            networks: Vec::new(),
            transport: Transport::Any,
            tls: None,
            http,
            tcp: None,
            connection_limit: None,
            handshake_timeout: None,
        }
    }

    /// For all that comes.
    pub fn of_tcp(tcp: TcpProxy) -> FilterChain {
        FilterChain { tcp: Some(tcp), ..FilterChain::of(Http::new("", crate::RouteTable::default())) }
    }

    /// Whether it takes clients that begin with TLS.
    pub fn takes_tls(&self) -> bool {
        self.transport != Transport::Plain
    }

    /// Whether it takes clients that do not.
    pub fn takes_plain(&self) -> bool {
        self.transport != Transport::Tls && self.tls.is_none() && self.server_names.is_empty()
    }
}

/// What a client must begin with so that a chain takes it. A chain that ends TLS takes nothing but TLS anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Transport {
    #[default]
    Any,
    Tls,
    Plain,
}

/// Of the PROXY protocol, out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    V2,
}

/// Of the PROXY protocol, in: both versions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ProxyProtocol {
    /// Clients without a header are served as those who they seem to be.
    pub is_optional: bool,
}
