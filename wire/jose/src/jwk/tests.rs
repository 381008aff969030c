//! What is a key for signatures, and what is none.

use super::*;
use crate::SigningKey;

fn with(json: &str, name: &str, value: &str) -> String {
    let Json::Map(mut members) = json::object(json.as_bytes()).unwrap() else { unreachable!() };
    members.retain(|(known, _)| known != name);
    members.push((name.to_owned(), json::parse(value.as_bytes()).unwrap()));
    json::write(&Json::Map(members))
}

#[track_caller]
fn fault(text: &str, expected: KeyFault) {
    assert_eq!(Jwk::parse(text.as_bytes()).map(|_| ()), Err(expected), "{text}");
}

fn ec() -> String {
    SigningKey::generate(Algorithm::Es256, "a").unwrap().public().public()
}

#[test]
fn a_key_is_for_the_algorithms_of_its_kind() {
    let for_all = |key: &Jwk| Algorithm::ALL.into_iter().filter(|one| key.is_for(*one)).collect::<Vec<_>>();
    let without_alg = |algorithm| {
        let key = SigningKey::generate(algorithm, "a").unwrap();
        let Json::Map(mut members) = key.public().to_json() else { unreachable!() };
        members.retain(|(name, _)| name != "alg");
        Jwk::read(&Json::Map(members)).unwrap()
    };
    assert_eq!(for_all(&without_alg(Algorithm::Es384)), [Algorithm::Es384]);
    assert_eq!(for_all(&without_alg(Algorithm::EdDsa)), [Algorithm::EdDsa]);
    assert_eq!(for_all(&without_alg(Algorithm::Ps256)), Algorithm::ALL[3..9]);
    assert_eq!(for_all(&Jwk::shared(None, None, &[7; 48]).unwrap()), [Algorithm::Hs256, Algorithm::Hs384]);
    assert_eq!(for_all(SigningKey::generate(Algorithm::Ps256, "a").unwrap().public()), [Algorithm::Ps256]);
}

#[test]
fn a_key_for_something_else_verifies_nothing() {
    let key = ec();
    fault(&with(&key, "use", r#""enc""#), KeyFault::Use);
    fault(&with(&key, "use", "1"), KeyFault::Use);
    fault(&with(&key, "key_ops", r#"["encrypt"]"#), KeyFault::Use);
    fault(&with(&key, "key_ops", r#"["verify","deriveKey"]"#), KeyFault::Use);
    fault(&with(&key, "key_ops", r#"["verify","verify"]"#), KeyFault::Use);
    fault(&with(&key, "key_ops", "[]"), KeyFault::Use);
    fault(&with(&key, "alg", r#""ES384""#), KeyFault::Algorithm);
    fault(&with(&key, "alg", r#""RS256""#), KeyFault::Algorithm);
    fault(&with(&key, "alg", r#""none""#), KeyFault::Algorithm);
    assert!(Jwk::parse(with(&key, "key_ops", r#"["sign","verify"]"#).as_bytes()).is_ok());
}

#[test]
fn what_is_no_point_of_its_curve_is_no_key() {
    let key = ec();
    let Some(Json::Text(x)) = json::object(key.as_bytes()).unwrap().get("x").cloned() else { unreachable!() };
    fault(&with(&key, "y", &format!("\"{x}\"")), KeyFault::Malformed);
    fault(&with(&key, "x", r#""AAAA""#), KeyFault::Malformed);
    fault(&with(&key, "crv", r#""P-384""#), KeyFault::Malformed);
    fault(&with(&key, "crv", r#""secp256k1""#), KeyFault::Curve);
    fault(&with(&key, "x", r#""=""#), KeyFault::Base64("x"));
    fault(&with(&key, "x", "1"), KeyFault::Missing("x"));
    fault(r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#, KeyFault::Malformed);
    fault(r#"{"kty":"OKP","crv":"X25519","x":"AAAA"}"#, KeyFault::Curve);
}

#[test]
fn short_and_broken_keys_are_none() {
    let rsa = |n: &[u8], e: &[u8]| {
        let (n, e) = (base64url::encode(n), base64url::encode(e));
        format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#)
    };
    let (e, short) = (&[1, 0, 1][..], [0xff; 128]);
    fault(&rsa(&short, e), KeyFault::TooShort);
    fault(&rsa(&[&[0; 200][..], &short].concat(), e), KeyFault::TooShort);
    fault(&rsa(&[0xff; 1025], e), KeyFault::TooLong);
    fault(&rsa(&[], e), KeyFault::TooShort);
    fault(&rsa(&[0xfe; 256], e), KeyFault::Malformed);
    fault(&rsa(&[0xff; 256], &[1]), KeyFault::Malformed);
    fault(&rsa(&[0xff; 256], &[2]), KeyFault::Malformed);
    fault(&rsa(&[0xff; 256], &[]), KeyFault::Malformed);
    fault(r#"{"kty":"oct","k":"AAAA"}"#, KeyFault::TooShort);
    let secret = base64url::encode(&[7; 32]);
    fault(&format!(r#"{{"kty":"oct","alg":"HS512","k":"{secret}"}}"#), KeyFault::TooShort);
    fault(r#"{"kty":"oct"}"#, KeyFault::Missing("k"));
    fault("{}", KeyFault::Missing("kty"));
    fault(r#"{"kty":"RSA","kty":"oct"}"#, KeyFault::Json);
}
