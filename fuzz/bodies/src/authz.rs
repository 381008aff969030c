//! What somebody answers who is asked whether a request may pass.

/// Bytes as an answer by gRPC.
pub fn authz(bytes: &[u8]) {
    naru_authz::fuzz(bytes);
}
