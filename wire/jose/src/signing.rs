//! A key that signs.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use naru_base::Json;

use crate::algorithm::{Algorithm, Curve};
use crate::jwk::{Jwk, KeyFault, bytes, text};
use crate::secret;
use crate::{base64url, json};

/// Signs with one algorithm, under one name.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
    public: Jwk,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Shared { secret: Vec<u8>, key: Box<hmac::Key> },
}

/// Why there is no key to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningFault {
    Key(KeyFault),
    /// The private half does not fit the public one, or is none.
    Private,
    /// The system gave no randomness.
    Random,
}

impl fmt::Display for SigningFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SigningFault::Key(fault) => fault.fmt(f),
            SigningFault::Private => f.write_str("it is no valid private key"),
            SigningFault::Random => f.write_str("the system gave no randomness"),
        }
    }
}

impl std::error::Error for SigningFault {}

impl From<KeyFault> for SigningFault {
    fn from(fault: KeyFault) -> Self {
        SigningFault::Key(fault)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key. One of RSA has 2048 bits, and takes long to make.
    pub fn generate(algorithm: Algorithm, kid: &str) -> Result<SigningKey, SigningFault> {
        let pair = if let Some(hash) = algorithm.hmac() {
            let mut secret = vec![0; hash.tag_len()];
            secret::fill(&mut secret).map_err(|_| SigningFault::Random)?;
            Pair::Shared { key: Box::new(hmac::Key::new(hash, &secret)), secret }
        } else if let Some(curve) = algorithm.curve() {
            Pair::Ec(EcdsaKeyPair::generate(curve.signing()).map_err(|_| SigningFault::Random)?)
        } else if algorithm.rsa().is_some() {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| SigningFault::Random)?;
            Pair::Rsa(Box::new(pair))
        } else {
            Pair::Ed25519(Ed25519KeyPair::generate().map_err(|_| SigningFault::Random)?)
        };
        SigningKey::of(algorithm, Some(kid.to_owned()), pair)
    }

    /// A private key as an object. It must say its algorithm, or be of a curve that has one.
    pub fn parse(text: &[u8]) -> Result<SigningKey, SigningFault> {
        let value = json::object(text).ok_or(KeyFault::Json)?;
        let public = Jwk::read(&value)?;
        let algorithm = sole_algorithm(&value, &public)?;
        let pair = pair_of(&value, algorithm)?;
        SigningKey::of(algorithm, public.kid, pair)
    }

    /// What [`SigningKey::to_bytes`] gave.
    pub fn from_bytes(algorithm: Algorithm, kid: &str, bytes: &[u8]) -> Result<SigningKey, SigningFault> {
        let pair = if let Some(hash) = algorithm.hmac() {
            Pair::Shared { secret: bytes.to_vec(), key: Box::new(hmac::Key::new(hash, bytes)) }
        } else if let Some(curve) = algorithm.curve() {
            let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), bytes);
            Pair::Ec(pair.map_err(|_| SigningFault::Private)?)
        } else if algorithm.rsa().is_some() {
            Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(bytes).map_err(|_| SigningFault::Private)?))
        } else {
            Pair::Ed25519(Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| SigningFault::Private)?)
        };
        SigningKey::of(algorithm, Some(kid.to_owned()), pair)
    }

    /// The private key itself: PKCS #8, or the shared secret. For [`secret::Seal`], and nobody else.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SigningFault> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SigningFault::Private)?;
                Ok(der.as_ref().to_vec())
            }
            Pair::Ec(pair) => {
                let document = pair.to_pkcs8v1().map_err(|_| SigningFault::Private)?;
                Ok(document.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => {
                let document = pair.to_pkcs8().map_err(|_| SigningFault::Private)?;
                Ok(document.as_ref().to_vec())
            }
            Pair::Shared { secret, .. } => Ok(secret.clone()),
        }
    }

    fn of(algorithm: Algorithm, kid: Option<String>, pair: Pair) -> Result<SigningKey, SigningFault> {
        let only = Some(algorithm);
        let public = match (&pair, algorithm.curve()) {
            (Pair::Rsa(pair), _) => {
                let key = pair.public_key();
                let modulus = key.modulus().big_endian_without_leading_zero().to_vec();
                let exponent = key.exponent().big_endian_without_leading_zero().to_vec();
                Jwk::rsa(kid, only, modulus, exponent)?
            }
            (Pair::Ec(pair), Some(curve)) => {
                let point = pair.public_key().as_ref();
                let (x, y) = coordinates(point, curve).ok_or(SigningFault::Private)?;
                Jwk::ec(kid, only, curve, x, y)?
            }
            (Pair::Ed25519(pair), _) => Jwk::ed25519(kid, only, pair.public_key().as_ref().to_vec())?,
            (Pair::Shared { secret, .. }, _) => Jwk::shared(kid, only, secret)?,
            (Pair::Ec(_), None) => return Err(SigningFault::Private),
        };
        Ok(SigningKey { algorithm, pair, public })
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn kid(&self) -> Option<&str> {
        self.public.kid.as_deref()
    }

    /// The key that verifies.
    pub fn public(&self) -> &Jwk {
        &self.public
    }

    /// A token with these claims, `alg`, `kid` and `typ: JWT`.
    pub fn sign(&self, claims: &Json) -> String {
        let mut header = vec![("alg".to_owned(), Json::from(self.algorithm.name()))];
        if let Some(kid) = self.kid() {
            header.push(("kid".to_owned(), kid.into()));
        }
        header.push(("typ".to_owned(), "JWT".into()));
        self.sign_text(&json::write(&Json::Map(header)), json::write(claims).as_bytes())
    }

    /// A token with this header to the letter, and this payload.
    pub fn sign_text(&self, header: &str, payload: &[u8]) -> String {
        let mut text = format!("{}.{}", base64url::encode(header.as_bytes()), base64url::encode(payload));
        let signature = self.signature(text.as_bytes()).unwrap_or_default();
        text.push('.');
        text.push_str(&base64url::encode(&signature));
        text
    }

    /// Nothing, where the library fails to sign: such a token is one that nobody accepts.
    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(self.algorithm.rsa_encoding()?, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Pair::Ec(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.try_sign(message).ok()?.as_ref().to_vec()),
            Pair::Shared { key, .. } => Some(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

fn sole_algorithm(value: &Json, public: &Jwk) -> Result<Algorithm, SigningFault> {
    let of_curve = match value.get("crv").and_then(Json::as_text) {
        Some("Ed25519") => Some(Algorithm::EdDsa),
        Some(name) => Curve::named(name).map(Curve::algorithm),
        None => None,
    };
    Ok(public.algorithm.or(of_curve).ok_or(KeyFault::Algorithm)?)
}

fn pair_of(value: &Json, algorithm: Algorithm) -> Result<Pair, SigningFault> {
    let refused = |_| SigningFault::Private;
    Ok(match text(value, "kty")? {
        "RSA" => {
            let (n, e, d) = (bytes(value, "n")?, bytes(value, "e")?, bytes(value, "d")?);
            let (p, q) = (bytes(value, "p")?, bytes(value, "q")?);
            let (d_p, d_q, q_inv) = (bytes(value, "dp")?, bytes(value, "dq")?, bytes(value, "qi")?);
            let public_key = PublicKeyComponents { n, e };
            let components = KeyPairComponents { public_key, d, p, q, dP: d_p, dQ: d_q, qInv: q_inv };
            Pair::Rsa(Box::new(RsaKeyPair::from_components(&components).map_err(refused)?))
        }
        "EC" => {
            let curve = algorithm.curve().ok_or(KeyFault::Algorithm)?;
            let point = [&[4][..], &bytes(value, "x")?, &bytes(value, "y")?].concat();
            let private = bytes(value, "d")?;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &private, &point);
            Pair::Ec(pair.map_err(refused)?)
        }
        "OKP" => {
            let pair = Ed25519KeyPair::from_seed_and_public_key(&bytes(value, "d")?, &bytes(value, "x")?);
            Pair::Ed25519(pair.map_err(refused)?)
        }
        _ => {
            let secret = bytes(value, "k")?;
            let hash = algorithm.hmac().ok_or(KeyFault::Algorithm)?;
            Pair::Shared { key: Box::new(hmac::Key::new(hash, &secret)), secret }
        }
    })
}

fn coordinates(point: &[u8], curve: Curve) -> Option<(Vec<u8>, Vec<u8>)> {
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(curve.coordinate_bytes())?;
    Some((x.to_vec(), y.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Jwt;

    #[test]
    fn what_is_signed_is_verified_by_its_public_key_alone() {
        for algorithm in Algorithm::ALL {
            let key = SigningKey::generate(algorithm, "one").unwrap();
            let text = key.sign(&Json::Map(vec![("iss".to_owned(), "me".into())]));
            let token = Jwt::parse(&text).unwrap();
            assert_eq!(token.compact.header.algorithm, algorithm);
            assert_eq!(key.public().verify(&token.compact), Ok(()), "{algorithm}");
            // Kept and had again, it is the same key.
            let again = SigningKey::from_bytes(algorithm, "one", &key.to_bytes().unwrap()).unwrap();
            assert_eq!(again.public().public(), key.public().public());
            assert_eq!(again.public().verify(&token.compact), Ok(()));
            // What others read of it verifies as well.
            if !algorithm.is_symmetric() {
                let read = Jwk::parse(key.public().public().as_bytes()).unwrap();
                assert_eq!(read.verify(&token.compact), Ok(()), "{algorithm}");
            }
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = SigningKey::generate(Algorithm::Es256, "one").unwrap();
        let text = format!("{key:?}");
        assert!(text.contains("one") && text.len() < 120, "{text}");
    }

    #[test]
    fn what_is_no_private_key_is_refused() {
        let public = SigningKey::generate(Algorithm::Es256, "a").unwrap().public().public();
        let fault = SigningKey::parse(public.as_bytes()).err();
        assert_eq!(fault, Some(SigningFault::Key(KeyFault::Missing("d"))));
        assert!(SigningKey::from_bytes(Algorithm::Es256, "a", b"nothing").is_err());
        assert!(SigningKey::from_bytes(Algorithm::Hs256, "a", b"short").is_err());
    }
}
