//! What a proxy hears that shares limits.

/// A datagram, with and without a code that fits.
pub fn leased(bytes: &[u8]) {
    naru_lease::fuzz(bytes);
}
