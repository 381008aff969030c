//! A set of keys (RFC 7517, section 5), and which of them signed a token.

use std::fmt;

use naru_base::Json;

use crate::json;
use crate::jwk::{Jwk, KeyFault};
use crate::token::{Compact, TokenFault};

/// No longer text is read. A set of a hundred keys of RSA has 60 KB.
pub const JWKS_BYTES_MAX: usize = 512 * 1024;

/// So many keys are tried for a token without a `kid`, each at the cost of a verification.
pub const JWKS_KEYS_MAX: usize = 100;

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct Jwks {
    keys: Vec<Jwk>,
    left_out: Vec<(Option<String>, KeyFault)>,
}

/// Why something is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwksFault {
    TooLong,
    TooMany,
    Json,
    NoKeys,
    BadKeys,
    NoneValid,
}

impl fmt::Display for JwksFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JwksFault::TooLong => "Jwks is too long",
            JwksFault::TooMany => "Jwks has too many keys",
            JwksFault::Json => "Jwks is an invalid JSON",
            JwksFault::NoKeys => "Jwks does not have [keys] field",
            JwksFault::BadKeys => "[keys] in Jwks is not a list",
            JwksFault::NoneValid => "Jwks doesn't have any valid public key",
        })
    }
}

impl std::error::Error for JwksFault {}

impl Jwks {
    /// Keys that cannot verify a signature here are left out, as long as one can (RFC 7517, section 5), and so
    /// are secrets that stand beside public keys, and those that share a `kid`: of which of them a token
    /// speaks is said nowhere (RFC 7517, section 4.5).
    pub fn parse(text: &[u8]) -> Result<Jwks, JwksFault> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(JwksFault::TooLong);
        }
        let value = json::object(text).ok_or(JwksFault::Json)?;
        let Json::List(values) = value.get("keys").ok_or(JwksFault::NoKeys)? else {
            return Err(JwksFault::BadKeys);
        };
        if values.len() > JWKS_KEYS_MAX {
            return Err(JwksFault::TooMany);
        }
        let mut jwks = Jwks::default();
        for (place, value) in values.iter().enumerate() {
            let is_repeated = || {
                let mut others = values.iter().enumerate().filter(|(other, _)| *other != place);
                others.any(|(_, other)| is_secret_of(other, value.get("kid")))
            };
            match Jwk::read(value) {
                Ok(key) if key.is_symmetric() && key.kid.is_some() && is_repeated() => {
                    jwks.left_out.push((key.kid, KeyFault::Repeated));
                }
                Ok(key) => jwks.keys.push(key),
                Err(fault) => {
                    let kid = value.get("kid").and_then(Json::as_text).map(str::to_owned);
                    jwks.left_out.push((kid, fault));
                }
            }
        }
        // Who may read public keys may read what stands beside them.
        if jwks.keys.iter().any(|key| !key.is_symmetric()) {
            let (secrets, public): (Vec<Jwk>, Vec<Jwk>) =
                std::mem::take(&mut jwks.keys).into_iter().partition(Jwk::is_symmetric);
            jwks.keys = public;
            jwks.left_out.extend(secrets.into_iter().map(|key| (key.kid, KeyFault::Mixed)));
        }
        if jwks.keys.is_empty() { Err(JwksFault::NoneValid) } else { Ok(jwks) }
    }

    pub fn of(keys: Vec<Jwk>) -> Jwks {
        Jwks { keys, left_out: Vec::new() }
    }

    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// What stood there and is no key that can be used, by its `kid`.
    pub fn left_out(&self) -> &[(Option<String>, KeyFault)] {
        &self.left_out
    }

    /// Without keys that sign as well as they verify: who is sent a set of keys by others must not take these.
    pub fn without_secrets(mut self) -> Jwks {
        self.keys.retain(|key| !key.is_symmetric());
        self
    }

    /// With the keys of another set that are not in this one by their `kid`.
    pub fn with_previous(mut self, previous: &Jwks) -> Jwks {
        for key in &previous.keys {
            let is_known = self.keys.iter().any(|known| known.kid == key.kid);
            if key.kid.is_some() && !is_known && self.keys.len() < JWKS_KEYS_MAX {
                self.keys.push(key.clone());
            }
        }
        self
    }

    /// Whether one of the keys signed the token: those with its `kid`, those without one, or, if it names
    /// none, all that are for its algorithm.
    pub fn verify(&self, token: &Compact<'_>) -> Result<(), TokenFault> {
        let mut fault = TokenFault::NoKey;
        for key in &self.keys {
            match key.verify(token) {
                Ok(()) => return Ok(()),
                Err(TokenFault::Signature) => fault = TokenFault::Signature,
                Err(_) => {}
            }
        }
        Err(fault)
    }

    /// The public keys, as a set that others read.
    pub fn public(&self) -> String {
        let keys = self.keys.iter().filter(|key| !key.is_symmetric()).map(Jwk::to_json).collect();
        json::write(&Json::Map(vec![("keys".to_owned(), Json::List(keys))]))
    }
}

/// Whether something is a secret of that name, be it one that can be used or not.
fn is_secret_of(value: &Json, kid: Option<&Json>) -> bool {
    value.get("kty").and_then(Json::as_text) == Some("oct") && kid.is_some() && value.get("kid") == kid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, SigningKey};

    fn signing(algorithm: Algorithm, kid: &str) -> SigningKey {
        SigningKey::generate(algorithm, kid).unwrap()
    }

    fn set_of(keys: &[&SigningKey]) -> Jwks {
        Jwks::of(keys.iter().map(|key| key.public().clone()).collect())
    }

    #[test]
    fn a_token_is_held_against_the_keys_of_its_name_and_those_without_one() {
        let (a, b) = (signing(Algorithm::Es256, "a"), signing(Algorithm::Es256, "b"));
        let text = a.sign(&Json::Map(vec![]));
        let token = Compact::parse(&text).unwrap();
        assert_eq!(set_of(&[&b, &a]).verify(&token), Ok(()));
        assert_eq!(set_of(&[&b]).verify(&token), Err(TokenFault::NoKey));
        let mut nameless = a.public().clone();
        nameless.kid = None;
        assert_eq!(Jwks::of(vec![nameless.clone()]).verify(&token), Ok(()));
        let mut lying = b.public().clone();
        lying.kid = Some("a".to_owned());
        assert_eq!(Jwks::of(vec![lying.clone()]).verify(&token), Err(TokenFault::Signature));
        assert_eq!(Jwks::of(vec![lying, nameless]).verify(&token), Ok(()));
    }

    #[test]
    fn a_set_is_read_as_it_was_written_and_tells_no_secret() {
        let keys =
            [signing(Algorithm::EdDsa, "e"), signing(Algorithm::Es384, "f"), signing(Algorithm::Hs256, "s")];
        let set = set_of(&keys.iter().collect::<Vec<_>>());
        let text = set.public();
        assert!(!text.contains("oct"), "{text}");
        let again = Jwks::parse(text.as_bytes()).unwrap();
        assert_eq!(again.keys().len(), 2);
        assert_eq!(again.public(), text);
        assert!(!format!("{set:?}").contains("\"k\""));
        assert_eq!(set.without_secrets().keys().len(), 2);
    }

    #[test]
    fn keys_that_are_not_understood_are_left_out() {
        let key = signing(Algorithm::Es256, "a").public().public();
        let text = format!(r#"{{"keys":[{{"kty":"X","kid":"x"}},{key},7]}}"#);
        let set = Jwks::parse(text.as_bytes()).unwrap();
        assert_eq!(set.keys().len(), 1);
        assert_eq!(set.left_out(), [(Some("x".to_owned()), KeyFault::Kind), (None, KeyFault::Json)]);
    }

    #[test]
    fn secrets_stand_alone_and_have_names_of_their_own() {
        let secret = |kid: &str, k: &str| format!(r#"{{"kty":"oct","kid":"{kid}","k":"{k}"}}"#);
        let (one, other) = ("A".repeat(43), "B".repeat(42) + "A");
        let set = |keys: &[String]| Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes());
        let names = |set: &Jwks| set.keys().iter().filter_map(|key| key.kid.clone()).collect::<Vec<_>>();
        let kept = set(&[secret("a", &one), secret("b", &other)]).unwrap();
        assert_eq!((names(&kept), kept.left_out()), (vec!["a".to_owned(), "b".to_owned()], &[][..]));
        let public = signing(Algorithm::Es256, "p").public().public();
        let mixed = set(&[secret("a", &one), public]).unwrap();
        assert_eq!(
            (names(&mixed), mixed.left_out()),
            (vec!["p".to_owned()], &[(Some("a".to_owned()), KeyFault::Mixed)][..])
        );
        let repeated = set(&[secret("a", &one), secret("a", &other), secret("b", &one)]).unwrap();
        assert_eq!((names(&repeated), repeated.left_out().len()), (vec!["b".to_owned()], 2));
        // One that cannot be used takes the name all the same.
        assert_eq!(set(&[secret("a", &one), secret("a", "")]).err(), Some(JwksFault::NoneValid));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for (text, fault) in [
            ("", JwksFault::Json),
            ("[]", JwksFault::Json),
            (r#"{"keys":[],"keys":[]}"#, JwksFault::Json),
            ("{}", JwksFault::NoKeys),
            (r#"{"keys":{}}"#, JwksFault::BadKeys),
            (r#"{"keys":[]}"#, JwksFault::NoneValid),
            (r#"{"keys":[{"kty":"RSA"}]}"#, JwksFault::NoneValid),
        ] {
            assert_eq!(Jwks::parse(text.as_bytes()).err(), Some(fault), "{text}");
        }
        let many = format!(r#"{{"keys":[{}0]}}"#, "0,".repeat(JWKS_KEYS_MAX));
        assert_eq!(Jwks::parse(many.as_bytes()).err(), Some(JwksFault::TooMany));
        let long = " ".repeat(JWKS_BYTES_MAX + 1);
        assert_eq!(Jwks::parse(long.as_bytes()).err(), Some(JwksFault::TooLong));
    }

    #[test]
    fn previous_keys_are_kept_beside_new_ones() {
        let (old, new) = (signing(Algorithm::Es256, "old"), signing(Algorithm::Es256, "new"));
        let other = signing(Algorithm::Es256, "new");
        let set = set_of(&[&new]).with_previous(&set_of(&[&old, &other]));
        let (by_old, by_other) = (old.sign(&Json::Map(vec![])), other.sign(&Json::Map(vec![])));
        assert_eq!(set.verify(&Compact::parse(&by_old).unwrap()), Ok(()));
        assert_eq!(set.verify(&Compact::parse(&by_other).unwrap()), Err(TokenFault::Signature));
    }
}
