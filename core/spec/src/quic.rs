//! What a listener of QUIC allows its clients: RFC 9000, section 18.2, and what bounds a handshake.

use std::time::Duration;

use crate::defaults;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quic {
    /// Requests at a time of one connection.
    pub max_concurrent_streams: u32,
    /// What a client may send of one request before it is read.
    pub stream_window: u32,
    /// The same of all its requests together.
    pub connection_window: u32,
    /// A connection on which no packet comes is forgotten.
    pub idle_timeout: Duration,
    /// A client that has not finished its handshake by then is let go.
    pub handshake_timeout: Duration,
}

impl Default for Quic {
    /// For clients that are anybody, as with HTTP/2; the times are Envoy's.
    fn default() -> Quic {
        Quic {
            max_concurrent_streams: defaults::HTTP2_EDGE_STREAMS_MAX,
            stream_window: defaults::HTTP2_EDGE_STREAM_WINDOW,
            connection_window: defaults::HTTP2_EDGE_CONNECTION_WINDOW,
            idle_timeout: defaults::QUIC_IDLE_TIMEOUT,
            handshake_timeout: defaults::QUIC_HANDSHAKE_TIMEOUT,
        }
    }
}
