//! What keeps a secret: randomness, comparisons that take the same time, digests, and a seal for keys that
//! are kept on disk or in a store of others.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::Algorithm;

/// The system gave no randomness, or what was sealed is not what was opened. It says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cryptography failed")
    }
}

impl std::error::Error for Failed {}

/// Fills with what nobody can guess.
pub fn fill(bytes: &mut [u8]) -> Result<(), Failed> {
    SystemRandom::new().fill(bytes).map_err(|_| Failed)
}

pub fn random<const N: usize>() -> Result<[u8; N], Failed> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Takes the same time wherever both differ. Lengths are not kept secret.
pub fn is_equal(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// What an ID token says of an access token beside it, as `at_hash`: the left half of its digest (OpenID Connect Core 1.0,
/// section 3.1.3.6). Of Ed25519 it is the hash that it is built on.
pub fn half_digest(algorithm: Algorithm, bytes: &[u8]) -> String {
    let hash = match algorithm {
        Algorithm::Hs256 | Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 => &SHA256,
        Algorithm::Hs384 | Algorithm::Rs384 | Algorithm::Ps384 | Algorithm::Es384 => &SHA384,
        Algorithm::Hs512 | Algorithm::Rs512 | Algorithm::Ps512 | Algorithm::Es512 | Algorithm::EdDsa => {
            &SHA512
        }
    };
    let whole = digest(hash, bytes);
    let half = whole.as_ref().split_at(whole.as_ref().len() / 2).0;
    crate::base64url::encode(half)
}

/// For hashes that others have made with it; it keeps nothing that matters.
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    out.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    out
}

/// HMAC-SHA-256 of several texts, each told apart from the next by its length.
pub fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// base64url without padding, as in tokens.
pub fn to_text(bytes: &[u8]) -> String {
    crate::base64url::encode(bytes)
}

pub fn from_text(text: &str) -> Option<Vec<u8>> {
    crate::base64url::decode(text)
}

/// HMAC with SHA-256, by a key that is made of a secret for one purpose.
pub struct Mac {
    key: hmac::Key,
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mac")
    }
}

impl Mac {
    pub const BYTES: usize = 32;

    pub fn new(secret: &[u8], purpose: &str) -> Mac {
        let of_secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let key = hmac::sign(&of_secret, purpose.as_bytes());
        Mac { key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()) }
    }

    pub fn sign(&self, message: &[u8]) -> [u8; Mac::BYTES] {
        let mut out = [0; Mac::BYTES];
        out.copy_from_slice(hmac::sign(&self.key, message).as_ref());
        out
    }

    /// Takes the same time wherever both differ.
    pub fn is_of(&self, message: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.key, message, mac).is_ok()
    }

    /// A number that nobody can foresee who does not know the secret.
    pub fn number(&self, message: &[u8]) -> u64 {
        let mac = self.sign(message);
        mac.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }
}

/// AES-256-GCM with a nonce of its own for each message, which stands before it.
pub struct Seal {
    key: RandomizedNonceKey,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub fn new(key: &[u8; 32]) -> Result<Seal, Failed> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(|key| Seal { key }).map_err(|_| Failed)
    }

    /// `context` is not kept secret, and has to be the same when it is opened: what is sealed for one place
    /// is not taken at another.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failed> {
        let mut sealed = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(context), &mut sealed).map_err(|_| Failed)?;
        let mut out = nonce.as_ref().to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Failed> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(Failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Failed)?;
        let mut rest = rest.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(context), &mut rest).map_err(|_| Failed)?;
        Ok(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_only_whole_and_in_its_place() {
        let seal = Seal::new(&random().unwrap()).unwrap();
        let sealed = seal.seal(b"here", b"a key").unwrap();
        assert_eq!(seal.open(b"here", &sealed).as_deref(), Ok(&b"a key"[..]));
        assert_ne!(seal.seal(b"here", b"a key").unwrap(), sealed);
        assert_eq!(seal.open(b"there", &sealed), Err(Failed));
        assert_eq!(Seal::new(&random().unwrap()).unwrap().open(b"here", &sealed), Err(Failed));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(b"here", &changed), Err(Failed));
            assert_eq!(seal.open(b"here", &sealed[..at]), Err(Failed));
        }
    }

    #[test]
    fn half_a_digest_is_what_openid_connect_says() {
        // Core 1.0, appendix A.4: an ID token of RS256 beside this access token.
        let token = b"jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(half_digest(Algorithm::Rs256, token), "77QmUPtjPfzWtF2AnpK9RQ");
        assert_eq!(half_digest(Algorithm::Es384, token).len(), 32);
        assert_eq!(half_digest(Algorithm::EdDsa, token).len(), 43);
    }

    #[test]
    fn only_the_same_bytes_are_equal() {
        assert!(is_equal(b"", b"") && is_equal(b"abc", b"abc"));
        assert!(!is_equal(b"abc", b"abd") && !is_equal(b"abc", b"ab"));
    }
}
