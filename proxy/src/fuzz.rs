//! What always holds of the readers of foreign bytes, whatever they are given: for the fuzzer, and for the replay of its
//! corpora (`fuzz/bodies`). Each panics where it does not hold.

use crate::codec::http2;
#[cfg(feature = "http3")]
use crate::codec::http3;
#[cfg(feature = "http3")]
use crate::quic::steer;
use crate::{prober, strain};

pub use http2::fuzz::{connection as http2, hpack};

/// A section of fields.
#[cfg(feature = "http3")]
pub fn qpack(bytes: &[u8]) {
    http3::fuzz::section(bytes);
}

/// A stream's bytes; or a datagram's.
#[cfg(feature = "http3")]
pub fn http3(bytes: &[u8]) {
    http3::fuzz::stream(bytes);
    if let Some(place) = steer::place_of(bytes) {
        // Where it stands does not depend on what follows.
        assert_eq!(steer::place_of(&[bytes, &[0; 32]].concat()), Some(place));
    }
}

/// What an endpoint answers to a probe of `grpc.health.v1`.
pub fn probed(bytes: &[u8]) {
    prober::fuzz(bytes);
}

/// A file of `/proc`, or of a control group.
pub fn measured(bytes: &[u8]) {
    strain::fuzz(bytes);
}
