//! Where clients come in, and which of a listener's chains takes a connection.

use std::net::SocketAddr;

use crate::{Domain, DownstreamTls, Http};

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: String,
    /// Port 0 takes any free port.
    pub address: SocketAddr,
    /// Tried by the server name that the client asks for: exact, then the longest wildcard, then a
    /// chain without names. A connection that no chain takes is closed.
    pub chains: Vec<FilterChain>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    pub name: String,
    /// Server names (SNI) that this chain takes; empty takes what no other chain names.
    pub server_names: Vec<Domain>,
    pub tls: Option<DownstreamTls>,
    pub http: Http,
}
