//! Which kinds of resources are there, in which order do they come, and who reads them?

use std::fmt;

/// How those who are configured read what they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    Naru,
    Envoy,
    /// Clients of gRPC without a proxy, of whatever language.
    Grpc,
}

impl Dialect {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Naru => "naru",
            Dialect::Envoy => "envoy",
            Dialect::Grpc => "grpc",
        }
    }

    /// By what a node says that it is.
    pub fn of_agent(user_agent_name: &str) -> Dialect {
        match user_agent_name {
            "naru" => Dialect::Naru,
            name if name.starts_with("gRPC") => Dialect::Grpc,
            _ => Dialect::Envoy,
        }
    }
}

/// A kind of resources.
///
/// Their order is that in which they are sent, so that nothing is led to what is not there yet: a route's clusters
/// come before the route. What goes away goes in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Cluster,
    Endpoints,
    Secret,
    Listener,
    Routes,
    /// What is asked for by the host of a request (VHDS).
    VirtualHost,
}

/// The kinds that are known, in the order in which they are sent.
pub const KINDS: [Kind; 6] =
    [Kind::Cluster, Kind::Endpoints, Kind::Secret, Kind::Listener, Kind::Routes, Kind::VirtualHost];

impl Kind {
    /// What messages call it.
    pub const fn type_url(self) -> &'static str {
        match self {
            Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Kind::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
        }
    }

    pub fn of_url(type_url: &str) -> Option<Kind> {
        KINDS.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Cluster => "clusters",
            Kind::Endpoints => "endpoints",
            Kind::Secret => "secrets",
            Kind::Listener => "listeners",
            Kind::Routes => "routes",
            Kind::VirtualHost => "virtual hosts",
        }
    }

    /// What people call one of them.
    pub const fn singular(self) -> &'static str {
        match self {
            Kind::Cluster => "cluster",
            Kind::Endpoints => "endpoints of",
            Kind::Secret => "secret",
            Kind::Listener => "listener",
            Kind::Routes => "routes",
            Kind::VirtualHost => "virtual host",
        }
    }

    /// Whether a response to state of the world holds all that there is, so that what it does not hold is gone. Of
    /// the other kinds it holds what has been asked for.
    pub const fn is_whole(self) -> bool {
        matches!(self, Kind::Cluster | Kind::Listener)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{KINDS, Kind};

    #[test]
    fn a_url_is_that_of_one_kind() {
        for kind in KINDS {
            assert_eq!(Kind::of_url(kind.type_url()), Some(kind));
        }
        assert_eq!(Kind::of_url("type.googleapis.com/envoy.config.cluster.v3.Clusters"), None);
        assert!(KINDS.is_sorted(), "the order of sending is the order of the enum");
    }
}
