//! What somebody answers who is asked whether a request may pass, or how often.

/// Bytes as answers by gRPC.
pub fn authz(bytes: &[u8]) {
    naru_authz::fuzz(bytes);
    naru_authz::fuzz_limited(bytes);
}
