//! HTTP/2, both sides: RFC 9113, in the order of a connection's way.
//!
//! Why it is our own: `docs/adr/0019-http2-of-our-own.md`.

mod connection;
pub(super) mod crowd;
pub(super) mod fields;
mod frame;
pub(super) mod guard;
pub(super) mod hpack;
mod shared;
mod tunnel;

pub mod body;
pub mod client;
pub mod fuzz;
pub mod server;

pub use body::Http2Body;
pub use client::Http2Client;
pub use fields::Protocol;
pub use guard::Abuse;
pub use shared::Shared;
pub use tunnel::Http2Tunnel;
