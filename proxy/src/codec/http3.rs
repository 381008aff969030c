//! HTTP/3, the client's side: RFC 9114 upon QUIC, in the order of a request's way.
//!
//! The transport is quinn's. Streams, frames and fields are our own, as those of HTTP/2 are:
//! `docs/adr/0021-http3-of-our-own-upon-quinn.md`.

mod body;
mod control;
mod frame;
mod message;
mod qpack;
mod source;

pub mod fuzz;
pub mod server;

pub use body::Http3Body;
pub use frame::Code;
