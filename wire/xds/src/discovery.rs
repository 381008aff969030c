//! What do a control plane and those whom it configures say to each other?
//!
//! The messages of Envoy's "xDS REST and gRPC protocol", state of the world and delta, the kinds of resources that
//! they carry, and their bytes. What is sent when is decided elsewhere.

mod kind;
mod frame;
// A proxy's side, in the order of what happens.
mod source;
mod client;
mod refer;
mod known;
mod whole;
mod kept;
mod status;

use prost::Message;

pub use client::{Broken, Client, Event};
pub use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
pub use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Locality, Node};
pub use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    ResourceName,
};
pub use envoy_types::pb::google::protobuf::{Any, Struct, Value, value};
pub use envoy_types::pb::google::rpc::Status;
pub use frame::{BODY_BYTES_MAX, Changed, Framed, Said, Unframer, delta, world};
pub use kind::{Dialect, KINDS, Kind};
pub(crate) use known::{Stamps, check_discovery_at, check_routes_at, clusters_of};
pub use source::{Consulted, Dynamic, HOSTS_APART};
pub use status::{KindStatus, Status as ClientStatus, Waiting};
pub use whole::{Plan, place_name};

/// The method of gRPC whose responses each hold all that there is of a kind.
pub const STATE_OF_THE_WORLD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
/// The one whose responses hold what has changed.
pub const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// A message of bytes; `None` where they are not one.
pub fn read<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    M::decode(bytes).ok()
}

/// The bytes of a message.
pub fn write<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}
