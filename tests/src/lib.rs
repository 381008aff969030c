//! How does naru behave on real sockets?
//!
//! The tests are in `tests/`; here is what they stand on. A test writes an Envoy bootstrap file
//! ([`Bootstrap`]), starts the data plane in its own process ([`Naru`]) or the built program
//! ([`Program`]), and plays both the client and the upstream: byte for byte ([`Wire`]), frame for
//! frame ([`http2`]), or by a client and a server that behave well ([`Client`], [`Upstream`]).
//!
//! Every wait has a condition and an end ([`wait`]): a test that hangs fails and says at what.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "what went on is read where a test has failed")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

// In the order in which a test is read.
pub mod bootstrap;
pub mod certificates;
pub mod naru;
pub mod openssl;
pub mod pebble;
pub mod program;
pub mod redis;
pub mod redis_cluster;
pub mod etcd;
pub mod foreign;
pub mod up;
pub mod control;
pub mod fleet;
pub mod driven;
pub mod scenario;
pub mod envoy;
pub mod workload;
pub mod wire;
pub mod http2;
pub mod side;
pub mod frames;
pub mod message;
pub mod client;
pub mod upstream;
pub mod journal;
pub mod websocket;
pub mod relay;
pub mod wait;
pub mod files;

pub use bootstrap::Bootstrap;
pub use certificates::Authority;
pub use client::Client;
pub use control::Control;
pub use driven::Driven;
pub use envoy::Envoy;
pub use etcd::Etcd;
pub use fleet::Fleet;
pub use foreign::Foreign;
pub use message::{Answer, Outbound, Speaks};
pub use naru::Naru;
pub use program::Program;
pub use relay::Relay;
pub use up::Up;
pub use upstream::Upstream;
pub use wait::{until, within};
pub use wire::Wire;
pub use workload::Workload;
