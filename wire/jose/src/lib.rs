//! What does a signed token say, and who signed it? JWS, JWT, JWK and JWKS (RFC 7515 to 7519, 8037).
//!
//! Text of others comes in: a [`Jwt`] or a [`Compact`] with what it claims, a [`Jwk`] or [`Jwks`] with the
//! keys it is held against; [`Jwks::verify`] says whether one of these signed it. [`SigningKey`] signs, and
//! shows its public half. Everything here is strict, as RFC 8725 asks: `alg: none` is no algorithm, a key is
//! only used for the algorithms of its own kind and curve, objects name a member once, base64url is the one
//! text that its bytes have, keys that are too short are no keys, a header that must be understood (`crit`)
//! is not, and keys that a token brings along are never looked at.
//!
//! The texts of faults are those of Envoy (`source/common/jwt/status.cc`), as clients see them.
//!
//! Deliberately not here: whether a claim is accepted and when a token ends (`naru-identity`), where tokens
//! stand in a request, how keys are fetched, encryption (JWE). No message and no `Debug` text holds a key.
#![forbid(unsafe_code)]

// In reading order: a token, the keys, a signature made; then what all rest on.
mod token;
mod algorithm;
mod jwk;
mod jwks;
mod signing;
mod json;
mod base64url;
pub mod secret;

pub use algorithm::{Algorithm, Curve};
pub use json::{object, parse as parse_json, write as write_json};
pub use jwk::{Jwk, KeyFault};
pub use jwks::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, Jwks, JwksFault};
pub use signing::{SigningFault, SigningKey};
pub use token::{Compact, Header, Jwt, TOKEN_BYTES_MAX, TokenFault};

/// Reads whatever bytes there are as a token and as keys; for fuzzing.
pub fn fuzz(data: &[u8]) {
    if let Ok(jwks) = Jwks::parse(data) {
        // A secret is shown to nobody, so that nobody reads it again.
        for key in jwks.without_secrets().keys() {
            // What was read can be said, and is read again as the same.
            let again = Jwk::parse(key.public().as_bytes());
            assert_eq!(again.ok().map(|key| key.public()), Some(key.public()));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = Jwt::parse(text) {
        assert_eq!(token.compact.header.algorithm.to_string().parse(), Ok(token.compact.header.algorithm));
    }
}
