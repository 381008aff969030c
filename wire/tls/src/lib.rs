//! What certificates and settings does a TLS side use?
//!
//! The only crate that names the TLS library. What is asked comes in as [`naru_spec::DownstreamTls`]
//! and [`naru_spec::UpstreamTls`]; files and environment variables that these name are read here,
//! once, when a side is built. Out go a [`Terminator`] for a filter chain and a [`Connector`] for a
//! cluster, which turn a byte stream into an encrypted one and say what was agreed.
//!
//! A client is served in two steps, so that the server name it asks for may choose the chain
//! between them: [`Hello::read`] and [`Hello::finish`].
//!
//! Deliberately not here: time limits (the caller wraps both steps in one deadline), what a name
//! means for routing, 0-RTT. No message and no `Debug` text holds a key.
#![forbid(unsafe_code)]

// In reading order: a client comes in, an upstream is called, then what both rest on.
pub mod opening;
pub mod terminator;
#[cfg(feature = "quic")]
pub mod quic;
pub mod connector;
pub mod handshake;
pub mod shown;
pub mod issue;
pub mod mesh;
mod offered;
mod staple;
mod trust;
mod subject;
mod distinguished;
mod der;
mod material;

pub use connector::{ClientStream, Connector};
pub use handshake::Handshake;
pub use opening::{OPENING_BYTES_MAX, Opening};
pub use shown::Shown;
pub use terminator::{Hello, ServerStream, Terminator};

/// Reads whatever bytes there are as a certificate's; for fuzzing.
pub fn fuzz(data: &[u8]) {
    for name in subject::names(data) {
        // A name that was read is one that can be said, and asked for.
        let _ = subject::is_dns_name_covered(&name.to_string(), "*.example.com");
    }
    if let Some(read) = der::X509::read(data) {
        distinguished::text(read.subject);
    }
    staple::is_needed_by(data);
}

#[cfg(test)]
mod tests;
