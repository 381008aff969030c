//! Are the tokens and sets of keys of Project Wycheproof taken as it says? All 510 of its three files.
//!
//! Each vector is a set of keys, a token and whether it is valid. What is not as its file says is listed here
//! with the reason, one by one, and nothing else may differ.

use naru_jose::{Compact, Jwks};
use serde_json::{Value, json};

/// Valid for their file and refused here.
const REFUSED: [(u64, &str); 6] = [
    (346, "the key says PS256 and the token PS384: a key is for its algorithm (RFC 7517, section 4.4)"),
    (347, "the key says ES521, which is no algorithm: ES512 is the one of P-521 (RFC 7518, section 3.4)"),
    (350, "as 346"),
    (351, "as 347"),
    (372, "a question mark is no letter of base64url (RFC 7515, section 2; RFC 4648, section 3.3)"),
    (373, "as 372"),
];

/// Invalid for their file and taken here.
const TAKEN: [(u64, &str); 2] = [
    (367, "the same text as 357, which is valid: what was wrong with it was lost when the file was made"),
    (370, "as 367"),
];

/// Valid, and about nothing that is read here.
const ENCRYPTED: [(u64, &str); 2] =
    [(50, "an encrypted token (RFC 7516): naru reads signed ones"), (67, "as 50")];

#[derive(Debug, Default, PartialEq)]
struct Count {
    taken: usize,
    refused: usize,
    /// Numbers of vectors that were refused and are valid, and the other way round.
    other: Vec<u64>,
}

fn keys(group: &Value) -> Value {
    let key = ["public", "private"].iter().find_map(|half| group.get(half)).expect("a key");
    if key.get("keys").is_some() { key.clone() } else { json!({ "keys": [key] }) }
}

fn is_taken(keys: &Value, token: &Value) -> bool {
    // A token that is an object is held against the reader of texts as one.
    let text = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
    let Ok(keys) = Jwks::parse(keys.to_string().as_bytes()) else { return false };
    Compact::parse(&text).is_ok_and(|token| keys.verify(&token).is_ok())
}

fn count(file: &str) -> Count {
    let file: Value = serde_json::from_str(file).expect("JSON");
    let mut count = Count::default();
    let mut all = 0;
    for group in file["testGroups"].as_array().expect("groups") {
        for test in group["tests"].as_array().expect("tests") {
            all += 1;
            let token = test.get("jws").or_else(|| test.get("jwe")).expect("a token");
            let is_taken = is_taken(&keys(group), token);
            if is_taken {
                count.taken += 1;
            } else {
                count.refused += 1;
            }
            if is_taken != (test["result"] == "valid") {
                count.other.push(test["tcId"].as_u64().expect("a number"));
            }
        }
    }
    assert_eq!(Some(all), file["numberOfTests"].as_u64());
    count
}

#[test]
fn all_401_signed_tokens() {
    let mut expected: Vec<u64> = REFUSED.iter().chain(&TAKEN).map(|(number, _)| *number).collect();
    expected.sort_unstable();
    let count = count(include_str!("vectors/json_web_signature_test.json"));
    assert_eq!(count, Count { taken: 42, refused: 359, other: expected });
}

#[test]
fn all_26_sets_of_keys() {
    let count = count(include_str!("vectors/json_web_key_test.json"));
    assert_eq!(count, Count { taken: 5, refused: 21, other: Vec::new() });
}

#[test]
fn all_83_of_keys_and_tokens() {
    let expected = ENCRYPTED.iter().map(|(number, _)| *number).collect();
    let count = count(include_str!("vectors/json_web_crypto_test.json"));
    assert_eq!(count, Count { taken: 4, refused: 79, other: expected });
}

#[test]
fn what_was_lost_of_two_vectors_is_what_made_them_invalid() {
    // The reason in TAKEN, held against the file.
    let file: Value =
        serde_json::from_str(include_str!("vectors/json_web_signature_test.json")).expect("JSON");
    let tests = || {
        let groups = file["testGroups"].as_array().expect("groups");
        groups.iter().flat_map(|group| group["tests"].as_array().expect("tests"))
    };
    let token = |number: u64| tests().find(|test| test["tcId"] == number).expect("a vector")["jws"].clone();
    assert_eq!((token(367), token(370)), (token(357), token(357)));
}
