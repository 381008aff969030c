//! naru's configuration, said in Envoy's messages.
//!
//! Reading back what is written here gives the same configuration in its normal form: a rule of
//! several match blocks is several routes of the same name, keys of a JSON log are in alphabetical
//! order, inverted query matches come after the others, sizes of headers are whole kilobytes. What
//! Envoy has no words for travels as `extension` says.

mod listener;
mod http;
mod external;
mod identity;
mod condition;
mod tcp;
mod udp;
mod quic;
mod routes;
mod recovery;
mod local_rate;
mod rates;
mod edge;
mod matching;
mod clusters;
mod content;
mod balancing;
mod guards;
mod limits;
mod overload;
mod tls;
mod value;
mod split;
mod order;
mod ours;
mod proxyless;
mod unsaid;

use naru_spec::{Cluster, Config, Listener, RouteTable};

use crate::proto;

pub(crate) use ours::{bare_manager, bare_tcp, carrier};
pub use split::{Resource, resources, resources_by_host};
pub use unsaid::{Unsaid, unsaid};

/// A whole bootstrap.
pub fn bootstrap(config: &Config) -> proto::bootstrap::Bootstrap {
    proto::bootstrap::Bootstrap {
        admin: config.admin.as_ref().map(|admin| proto::bootstrap::Admin {
            address: Some(value::socket_address(&admin.address)),
            ..Default::default()
        }),
        static_resources: Some(proto::bootstrap::bootstrap::StaticResources {
            listeners: balancing::with_hashes(&config.listeners, &config.clusters)
                .iter()
                .map(listener)
                .collect(),
            clusters: config.clusters.iter().map(cluster).collect(),
            secrets: Vec::new(),
        }),
        overload_manager: config.overload.as_ref().map(overload::write),
        ..Default::default()
    }
}

pub fn listener(listener: &Listener) -> proto::listener::Listener {
    listener::write(listener)
}

pub fn cluster(cluster: &Cluster) -> proto::cluster::Cluster {
    clusters::write(cluster)
}

pub fn routes(table: &RouteTable) -> proto::route::RouteConfiguration {
    routes::write(table)
}
