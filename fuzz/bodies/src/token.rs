//! Tokens and keys that somebody sends.

/// A text as a token, and as a set of keys.
pub fn token(bytes: &[u8]) {
    naru_jose::fuzz(bytes);
}
