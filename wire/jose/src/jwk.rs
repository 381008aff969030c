//! One key that verifies signatures (RFC 7517, RFC 7518 section 6, RFC 8037).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, UnparsedPublicKey};
use naru_base::Json;

use crate::algorithm::{Algorithm, Curve};
use crate::token::{Compact, TokenFault};
use crate::{base64url, json};

/// An Edwards point.
const ED25519_BYTES: usize = 32;
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;

/// A key and what it may be used for. Its text and `Debug` hold nothing secret.
#[derive(Clone)]
pub struct Jwk {
    pub kid: Option<String>,
    /// The one algorithm that it is for, where it says so.
    pub algorithm: Option<Algorithm>,
    key: Key,
    /// Each algorithm that it may verify, and with what.
    verifiers: Arc<[(Algorithm, Verifier)]>,
}

/// What stands in a key set for others to see.
#[derive(Clone)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Ec {
        curve: Curve,
        x: Vec<u8>,
        y: Vec<u8>,
    },
    Ed25519 {
        x: Vec<u8>,
    },
    /// Shared between who signs and who verifies: never shown.
    Secret,
}

enum Verifier {
    Public(ParsedPublicKey),
    Shared(Box<hmac::Key>),
}

/// Why something is no key for signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    Json,
    /// A member is not there, or is no string.
    Missing(&'static str),
    Base64(&'static str),
    /// Keys of another kind are not known.
    Kind,
    Curve,
    /// Not a public key: no point of the curve, or not of the length that it has.
    Malformed,
    TooShort,
    TooLong,
    /// `use` or `key_ops` say that it is for something else, or each something else.
    Use,
    /// `alg` is not known, or not one for this kind of key.
    Algorithm,
    /// Its primes can be computed from it.
    Weak,
    /// A secret in a set with public keys: what others read is no secret.
    Mixed,
    /// A secret whose `kid` another one of the set has.
    Repeated,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFault::Json => f.write_str("it is no JSON object"),
            KeyFault::Missing(name) => write!(f, "[{name}] is missing or is no string"),
            KeyFault::Base64(name) => write!(f, "[{name}] is no base64url"),
            KeyFault::Kind => f.write_str("[kty] is not RSA, EC, OKP or oct"),
            KeyFault::Curve => f.write_str("[crv] is not P-256, P-384, P-521 or Ed25519"),
            KeyFault::Malformed => f.write_str("it is no valid public key"),
            KeyFault::TooShort => f.write_str("the key is too short for its algorithm"),
            KeyFault::TooLong => f.write_str("the key has more than 8192 bits"),
            KeyFault::Use => f.write_str("[use] or [key_ops] say that it is not for signatures"),
            KeyFault::Algorithm => f.write_str("[alg] is not supported, or not for this kind of key"),
            KeyFault::Weak => f.write_str("its primes can be computed from it (ROCA, CVE-2017-15361)"),
            KeyFault::Mixed => f.write_str("a secret stands beside public keys"),
            KeyFault::Repeated => f.write_str("two secrets have the same [kid]"),
        }
    }
}

impl std::error::Error for KeyFault {}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.verifiers.iter().map(|(algorithm, _)| *algorithm).collect();
        f.debug_struct("Jwk").field("kid", &self.kid).field("algorithms", &algorithms).finish_non_exhaustive()
    }
}

impl Jwk {
    pub fn parse(text: &[u8]) -> Result<Jwk, KeyFault> {
        Jwk::read(&json::object(text).ok_or(KeyFault::Json)?)
    }

    /// Takes the public half; a private one beside it is left alone.
    pub fn read(value: &Json) -> Result<Jwk, KeyFault> {
        if !matches!(value, Json::Map(_)) {
            return Err(KeyFault::Json);
        }
        let kind = text(value, "kty")?;
        let kid = match value.get("kid") {
            None => None,
            Some(Json::Text(kid)) => Some(kid.clone()).filter(|kid| !kid.is_empty()),
            Some(_) => return Err(KeyFault::Missing("kid")),
        };
        let algorithm = match value.get("alg") {
            None => None,
            Some(Json::Text(name)) => Some(name.parse().map_err(|_| KeyFault::Algorithm)?),
            Some(_) => return Err(KeyFault::Missing("alg")),
        };
        expect_for_signatures(value)?;
        match kind {
            "RSA" => Jwk::rsa(kid, algorithm, bytes(value, "n")?, bytes(value, "e")?),
            "EC" => {
                let curve = Curve::named(text(value, "crv")?).ok_or(KeyFault::Curve)?;
                Jwk::ec(kid, algorithm, curve, bytes(value, "x")?, bytes(value, "y")?)
            }
            "OKP" if text(value, "crv")? == "Ed25519" => Jwk::ed25519(kid, algorithm, bytes(value, "x")?),
            "OKP" => Err(KeyFault::Curve),
            "oct" => Jwk::shared(kid, algorithm, &bytes(value, "k")?),
            _ => Err(KeyFault::Kind),
        }
    }

    pub(crate) fn rsa(
        kid: Option<String>,
        algorithm: Option<Algorithm>,
        n: Vec<u8>,
        e: Vec<u8>,
    ) -> Result<Jwk, KeyFault> {
        // Some write numbers as Java has them in memory: with a zero in front.
        let (n, e) = (without_zeros(&n), without_zeros(&e));
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        match bits {
            ..RSA_BITS_MIN => return Err(KeyFault::TooShort),
            RSA_BITS_MIN..=RSA_BITS_MAX => {}
            _ => return Err(KeyFault::TooLong),
        }
        // Even numbers are no modulus and no exponent; who is raised to the power of 1 signs nothing.
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if !is_odd(n) || !is_odd(e) || e == [1] {
            return Err(KeyFault::Malformed);
        }
        if weak::is_computable(n) {
            return Err(KeyFault::Weak);
        }
        let verifier = |algorithm: Algorithm| {
            let parameters = algorithm.rsa()?;
            let components = PublicKeyComponents { n, e };
            Some(components.to_parsed_public_key(parameters).map(Verifier::Public))
        };
        let key = Key::Rsa { n: n.to_vec(), e: e.to_vec() };
        Jwk::made(kid, algorithm, key, |algorithm| {
            verifier(algorithm).map(|parsed| parsed.map_err(|_| KeyFault::Malformed))
        })
    }

    pub(crate) fn ec(
        kid: Option<String>,
        algorithm: Option<Algorithm>,
        curve: Curve,
        x: Vec<u8>,
        y: Vec<u8>,
    ) -> Result<Jwk, KeyFault> {
        if x.len() != curve.coordinate_bytes() || y.len() != curve.coordinate_bytes() {
            return Err(KeyFault::Malformed);
        }
        // An uncompressed point (SEC 1, section 2.3.3). That it is one of the curve is seen when it is parsed.
        let point = [&[4][..], &x, &y].concat();
        Jwk::made(kid, algorithm, Key::Ec { curve, x, y }, |algorithm| {
            (algorithm.curve() == Some(curve)).then(|| {
                let parsed = UnparsedPublicKey::new(curve.verification(), &point).parse();
                parsed.map(Verifier::Public).map_err(|_| KeyFault::Malformed)
            })
        })
    }

    pub(crate) fn ed25519(
        kid: Option<String>,
        algorithm: Option<Algorithm>,
        x: Vec<u8>,
    ) -> Result<Jwk, KeyFault> {
        if x.len() != ED25519_BYTES {
            return Err(KeyFault::Malformed);
        }
        let point = x.clone();
        Jwk::made(kid, algorithm, Key::Ed25519 { x }, |algorithm| {
            (algorithm == Algorithm::EdDsa).then(|| {
                let parsed = UnparsedPublicKey::new(&ED25519, &point).parse();
                parsed.map(Verifier::Public).map_err(|_| KeyFault::Malformed)
            })
        })
    }

    pub(crate) fn shared(
        kid: Option<String>,
        algorithm: Option<Algorithm>,
        secret: &[u8],
    ) -> Result<Jwk, KeyFault> {
        // A secret is as long as the hash at least (RFC 7518, section 3.2).
        let is_long_enough = |hash: hmac::Algorithm| secret.len() >= hash.tag_len();
        if let Some(algorithm) = algorithm
            && algorithm.hmac().is_some_and(|hash| !is_long_enough(hash))
        {
            return Err(KeyFault::TooShort);
        }
        if !is_long_enough(hmac::HMAC_SHA256) {
            return Err(KeyFault::TooShort);
        }
        Jwk::made(kid, algorithm, Key::Secret, |algorithm| {
            let hash = algorithm.hmac().filter(|hash| is_long_enough(*hash))?;
            Some(Ok(Verifier::Shared(Box::new(hmac::Key::new(hash, secret)))))
        })
    }

    /// With a verifier for the algorithm that the key is for, or for each of its kind.
    fn made(
        kid: Option<String>,
        algorithm: Option<Algorithm>,
        key: Key,
        verifier: impl Fn(Algorithm) -> Option<Result<Verifier, KeyFault>>,
    ) -> Result<Jwk, KeyFault> {
        let mut verifiers = Vec::new();
        for candidate in Algorithm::ALL {
            if algorithm.is_none_or(|only| only == candidate)
                && let Some(verifier) = verifier(candidate)
            {
                verifiers.push((candidate, verifier?));
            }
        }
        if verifiers.is_empty() {
            return Err(KeyFault::Algorithm);
        }
        Ok(Jwk { kid, algorithm, key, verifiers: verifiers.into() })
    }

    /// Whether a signature of that algorithm may be held against this key.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.verifiers.iter().any(|(known, _)| *known == algorithm)
    }

    /// Who has this key can sign, too.
    pub fn is_symmetric(&self) -> bool {
        matches!(self.key, Key::Secret)
    }

    /// Whether this key signed the message with that algorithm. Takes the same time wherever a shared
    /// signature differs.
    pub fn is_signed(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verifier = self.verifiers.iter().find(|(known, _)| *known == algorithm);
        match verifier.map(|(_, verifier)| verifier) {
            Some(Verifier::Public(key)) => key.verify_sig(message, signature).is_ok(),
            Some(Verifier::Shared(key)) => hmac::verify(key, message, signature).is_ok(),
            None => false,
        }
    }

    /// Whether this key signed the token. Of another `kid` or algorithm, there is no such key.
    pub fn verify(&self, token: &Compact<'_>) -> Result<(), TokenFault> {
        let header = &token.header;
        let is_other = matches!((&header.kid, &self.kid), (Some(wanted), Some(known)) if wanted != known);
        if is_other || !self.is_for(header.algorithm) {
            return Err(TokenFault::NoKey);
        }
        let is_signed = self.is_signed(header.algorithm, token.signed.as_bytes(), &token.signature);
        is_signed.then_some(()).ok_or(TokenFault::Signature)
    }

    /// The public key as an object, for a key set. Of a shared secret nothing but its name.
    pub fn to_json(&self) -> Json {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut say = |name: &str, value: &str| members.push((name.to_owned(), value.into()));
        if let Some(kid) = &self.kid {
            say("kid", kid);
        }
        if let Some(algorithm) = self.algorithm {
            say("alg", algorithm.name());
        }
        say("use", "sig");
        match &self.key {
            Key::Rsa { n, e } => {
                say("kty", "RSA");
                say("n", &base64url::encode(n));
                say("e", &base64url::encode(e));
            }
            Key::Ec { curve, x, y } => {
                say("kty", "EC");
                say("crv", curve.name());
                say("x", &base64url::encode(x));
                say("y", &base64url::encode(y));
            }
            Key::Ed25519 { x } => {
                say("kty", "OKP");
                say("crv", "Ed25519");
                say("x", &base64url::encode(x));
            }
            Key::Secret => say("kty", "oct"),
        }
        Json::Map(members)
    }

    /// The text of [`Jwk::to_json`].
    pub fn public(&self) -> String {
        json::write(&self.to_json())
    }
}

/// RFC 7517, sections 4.2 and 4.3: both may be there if they agree.
fn expect_for_signatures(value: &Json) -> Result<(), KeyFault> {
    match value.get("use") {
        None => {}
        Some(Json::Text(purpose)) if purpose == "sig" => {}
        Some(_) => return Err(KeyFault::Use),
    }
    match value.get("key_ops") {
        None => Ok(()),
        Some(Json::List(operations)) => {
            let is = |wanted: &str| operations.iter().any(|one| one.as_text() == Some(wanted));
            let mut seen = Vec::new();
            let are_single = operations.iter().all(|one| {
                let is_new = !seen.contains(&one);
                seen.push(one);
                is_new
            });
            let are_signatures =
                operations.iter().all(|one| matches!(one.as_text(), Some("sign" | "verify")));
            ((is("verify") || is("sign")) && are_single && are_signatures).then_some(()).ok_or(KeyFault::Use)
        }
        Some(_) => Err(KeyFault::Use),
    }
}

pub(crate) fn text<'a>(value: &'a Json, name: &'static str) -> Result<&'a str, KeyFault> {
    value.get(name).and_then(Json::as_text).ok_or(KeyFault::Missing(name))
}

pub(crate) fn bytes(value: &Json, name: &'static str) -> Result<Vec<u8>, KeyFault> {
    base64url::decode(text(value, name)?).ok_or(KeyFault::Base64(name))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

mod weak;

#[cfg(test)]
mod tests;
