//! What always holds of the readers of HTTP/2, whatever bytes they are given.

pub use super::connection::fuzz::connection;
pub use super::hpack::fuzz::hpack;
