//! What stands inside of frames and streams, where the reader is the data plane's own.
//!
//! The readers are no part of what it shows, so that what always holds of them stands beside them: `naru_proxy::fuzz`.

/// Blocks of fields of HTTP/2, each behind a byte that says how long it is.
pub fn hpack(bytes: &[u8]) {
    naru_proxy::fuzz::hpack(bytes);
}

/// What a peer sends on a connection of HTTP/2, without a socket. The first byte says to whom, and in pieces of which size.
pub fn http2(bytes: &[u8]) {
    naru_proxy::fuzz::http2(bytes);
}

/// A section of fields of HTTP/3.
pub fn qpack(bytes: &[u8]) {
    naru_proxy::fuzz::qpack(bytes);
}

/// A stream of HTTP/3: a byte for the size of its pieces, then frames. Or a datagram of QUIC, for whom it is.
pub fn http3(bytes: &[u8]) {
    naru_proxy::fuzz::http3(bytes);
}

/// What an endpoint answers to a probe of `grpc.health.v1`.
pub fn probed(bytes: &[u8]) {
    naru_proxy::fuzz::probed(bytes);
}

/// Files of `/proc` and of control groups, and the one that a test of the overload manager writes.
pub fn measured(bytes: &[u8]) {
    naru_proxy::fuzz::measured(bytes);
}
