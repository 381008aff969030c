//! Each way in which Wycheproof's `json_web_signature_test.json` breaks a token, for each algorithm, under
//! the names that it gives them; and what else has fooled libraries.

use naru_base::Json;
use naru_jose::{Algorithm, Compact, Jwk, Jwks, Jwt, SigningKey, parse_json, secret};

fn verifies(keys: &Jwks, text: &str) -> bool {
    Compact::parse(text).is_ok_and(|token| keys.verify(&token).is_ok())
}

fn encoded(text: &str) -> String {
    secret::to_text(text.as_bytes())
}

fn keys_of(key: &SigningKey) -> Jwks {
    Jwks::of(vec![key.public().clone()])
}

/// Another letter, but the same length, and canonical.
fn modified(part: &str) -> String {
    let mut bytes = secret::from_text(part).expect("base64url");
    bytes[0] ^= 0x40;
    secret::to_text(&bytes)
}

#[test]
fn a_broken_token_is_refused_whatever_its_algorithm() {
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(algorithm, "the-key").expect("a key");
        let keys = keys_of(&key);
        let header = format!(r#"{{"alg":"{algorithm}","kid":"the-key"}}"#);
        let text = key.sign_text(&header, b"foo");
        assert!(verifies(&keys, &text), "{algorithm}: acceptsValid");
        let [h, p, s] = text.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        let none = encoded(r#"{"alg":"none","kid":"the-key"}"#);
        let json = format!(r#"{{"payload":"{p}","signatures":[{{"protected":"{h}","signature":"{s}"}}]}}"#);
        let twice = encoded(&format!(r#"{{"alg":"{algorithm}","alg":"{algorithm}","kid":"the-key"}}"#));
        for (name, text) in [
            ("rejectsModifiedSignature", format!("{h}.{p}.{}", modified(s))),
            ("rejectsMissingSignature", format!("{h}.{p}.")),
            ("rejectsMissingSignatureAndSeparator", format!("{h}.{p}")),
            ("rejectsModifiedPayload", format!("{h}.{}.{s}", modified(p))),
            ("rejectsMissingPayload", format!("{h}..{s}")),
            ("rejectsMissingPayloadAndSeparator", format!("{h}.{s}")),
            ("rejectsModifiedHeader", format!("{}.{p}.{s}", encoded(&header.replace("the-", "teh-")))),
            ("rejectsMissingHeader", format!(".{p}.{s}")),
            ("rejectsMissingHeaderAndSeparator", format!("{p}.{s}")),
            ("rejectsMissingHeaderAndSignature", format!(".{p}.")),
            ("rejectsMissingHeaderSignatureAndSeparators", p.to_owned()),
            ("rejectsEmptyString", String::new()),
            ("rejectsExtraEmptyComponent", format!("{text}.")),
            ("rejectsExtraComponent", format!("{text}.foo")),
            ("rejectsNoneAlgorithmAndMissingSignature", format!("{none}.{p}.")),
            ("rejectsNoneAlgorithm", format!("{none}.{p}.{s}")),
            ("rejectsValidJsonSerialization", json),
            ("a header twice", format!("{twice}.{p}.{s}")),
            ("padding", format!("{h}.{p}.{s}=")),
            ("space before", format!(" {text}")),
            ("newline behind", format!("{text}\n")),
            ("a cut signature", format!("{h}.{p}.{}", &s[..s.len() / 4 * 2])),
            ("a longer signature", format!("{h}.{p}.{s}AAAA")),
            ("zeros", format!("{h}.{p}.{}", "A".repeat(s.len()))),
        ] {
            assert!(!verifies(&keys, &text), "{algorithm}: {name}");
        }
    }
}

#[test]
fn an_algorithm_is_not_taken_for_another_with_the_same_key() {
    for signed in Algorithm::ALL {
        let key = SigningKey::generate(signed, "k").expect("a key");
        // The key says what it is for. So does a set whose key does not: by its kind and curve.
        for said in Algorithm::ALL.into_iter().filter(|said| *said != signed) {
            let text = key.sign_text(&format!(r#"{{"alg":"{said}","kid":"k"}}"#), b"foo");
            assert!(!verifies(&keys_of(&key), &text), "{signed} said to be {said}");
            let Json::Map(mut members) = key.public().to_json() else { panic!("an object") };
            members.retain(|(name, _)| name != "alg");
            if let Ok(key) = Jwk::read(&Json::Map(members)) {
                assert!(!verifies(&Jwks::of(vec![key]), &text), "{signed} said to be {said}, of any key");
            }
        }
    }
}

#[test]
fn a_public_key_is_no_secret_that_somebody_could_sign_with() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let key = SigningKey::generate(algorithm, "k").expect("a key");
        let text = key.public().public();
        let shown = parse_json(text.as_bytes()).expect("JSON");
        let part = |name: &str| shown.get(name).and_then(Json::as_text).and_then(secret::from_text);
        // What anybody knows: the text of the key, its numbers, its number as it stands in memory.
        let known = [
            Some(text.clone().into_bytes()),
            part("n"),
            part("x"),
            part("x").zip(part("y")).map(|(x, y)| [&[4][..], &x, &y].concat()),
        ];
        for known in known.into_iter().flatten() {
            let attacker = SigningKey::from_bytes(Algorithm::Hs256, "k", &known).expect("a secret");
            let forged = attacker.sign_text(r#"{"alg":"HS256","kid":"k"}"#, b"foo");
            assert!(!verifies(&keys_of(&key), &forged), "{algorithm}");
        }
    }
}

#[test]
fn a_key_that_a_token_brings_along_is_not_looked_at() {
    let (mine, theirs) = (
        SigningKey::generate(Algorithm::Es256, "k").expect("a key"),
        SigningKey::generate(Algorithm::Es256, "k").expect("a key"),
    );
    let jwk = theirs.public().public();
    for member in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"http://127.0.0.1/jwks""#.to_owned(),
        r#""x5u":"http://127.0.0.1/chain""#.to_owned(),
        r#""x5c":["AAAA"]"#.to_owned(),
    ] {
        let text = theirs.sign_text(&format!(r#"{{"alg":"ES256","kid":"k",{member}}}"#), b"foo");
        assert!(!verifies(&keys_of(&mine), &text), "{member}");
        // Nor is a token refused that only has one.
        let text = mine.sign_text(&format!(r#"{{"alg":"ES256","kid":"k",{member}}}"#), b"foo");
        assert!(verifies(&keys_of(&mine), &text), "{member}");
    }
}

#[test]
fn no_cut_and_no_change_of_a_token_is_accepted() {
    let key = SigningKey::generate(Algorithm::Es256, "k").expect("a key");
    let keys = keys_of(&key);
    let text = key.sign(&Json::Map(vec![("sub".to_owned(), "me".into())]));
    for at in 0..text.len() {
        assert!(!verifies(&keys, &text[..at]), "cut at {at}");
        for other in ["A", "z", "_", ".", "=", " ", "\u{e9}"] {
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            if changed != text {
                assert!(!verifies(&keys, &changed), "{other:?} at {at}");
                assert!(!Jwt::parse(&changed).is_ok_and(|token| keys.verify(&token.compact).is_ok()));
            }
        }
    }
}

#[test]
fn a_key_that_is_for_something_else_verifies_nothing() {
    // rejectWrongUse, rejectWrongKeyOps.
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let key = SigningKey::generate(algorithm, "k").expect("a key");
        let text = key.sign_text(&format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#), b"foo");
        let with = |name: &str, value: Json| {
            let Json::Map(mut members) = key.public().to_json() else { panic!("an object") };
            members.retain(|(known, _)| known != name && known != "alg");
            members.push((name.to_owned(), value));
            Jwk::read(&Json::Map(members)).map(|key| Jwks::of(vec![key]))
        };
        let list = |all: &[&str]| Json::List(all.iter().map(|one| Json::from(*one)).collect());
        for (name, value) in [
            ("use", Json::from("enc")),
            ("use", Json::from("")),
            ("use", Json::Whole(1)),
            ("key_ops", list(&["encrypt"])),
            ("key_ops", list(&["encrypt", "decrypt"])),
            ("key_ops", list(&["verify", "encrypt"])),
            ("key_ops", list(&["verify", "verify"])),
            ("key_ops", list(&[])),
            ("key_ops", Json::from("verify")),
            ("alg", Json::from("none")),
            ("alg", Json::from("HS256")),
            ("alg", Json::from("ES521")),
        ] {
            let verified = with(name, value.clone()).is_ok_and(|keys| verifies(&keys, &text));
            assert!(!verified, "{algorithm}: {name} {value:?}");
        }
        for (name, value) in
            [("use", Json::from("sig")), ("key_ops", list(&["verify"])), ("alg", algorithm.name().into())]
        {
            assert!(verifies(&with(name, value).expect("a key"), &text), "{algorithm}: {name}");
        }
    }
}

#[test]
fn base64_has_one_text_and_json_may_have_space() {
    // The group "base64": letters that are none, spaces, padding and bits that say nothing, wherever they stand.
    let key = SigningKey::from_bytes(Algorithm::Hs256, "k", &[0; 32]).expect("a secret");
    let keys = keys_of(&key);
    let text = key.sign_text(r#"{"alg":"HS256","kid":"k"}"#, b"Test");
    let [h, p, s] = text.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for other in ["    ", "?", "####", "=", "==", "\n", "\0", "+", "/"] {
        for text in [
            format!("{other}{h}.{p}.{s}"),
            format!("{h}{other}.{p}.{s}"),
            format!("{h}.{other}{p}.{s}"),
            format!("{h}.{p}{other}.{s}"),
            format!("{h}.{p}.{other}{s}"),
            format!("{h}.{p}.{s}{other}"),
            format!("{h}.{p}.{other}{}", &s[1..]),
        ] {
            assert!(!verifies(&keys, &text), "{text:?}");
        }
        // Nor where what is signed is the text with it. Two vectors say that this is valid, which RFC 7515 does not.
        let header = format!("{h}{other}");
        let signed = key.sign_text(r#"{"alg":"HS256","kid":"k"}"#, b"Test");
        assert!(!verifies(&keys, &signed.replacen(h, &header, 1)), "{header:?}");
    }
    // "AB" and "AA" are the same byte.
    assert!(
        Compact::parse(&format!("{h}.AB.{s}")).is_err() && Compact::parse(&format!("{h}.AA.{s}")).is_ok()
    );
    for header in [r#" { "kid" : "k", "alg" : "HS256" } "#, "{\"kid\":\"k\",\n\t\"alg\":\"HS256\"}"] {
        assert!(verifies(&keys, &key.sign_text(header, b"Test")), "{header:?}");
    }
}

#[test]
fn numbers_at_the_edge_are_no_signature_of_ecdsa() {
    // The group "SpecialCaseEs256": r and s of 0, 1, n - 1 and n, too long, too large, with zeros behind.
    let key = SigningKey::generate(Algorithm::Es256, "k").expect("a key");
    let keys = keys_of(&key);
    let text = key.sign_text(r#"{"alg":"ES256","kid":"k"}"#, b"foo");
    let (signed, signature) = text.rsplit_once('.').expect("three parts");
    let signature = secret::from_text(signature).expect("base64url");
    let (r, s) = signature.split_at(32);
    let n: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut before = n;
    before[31] -= 1;
    let mut one = [0; 32];
    one[31] = 1;
    let mut all: Vec<Vec<u8>> = Vec::new();
    for r in [[0; 32], one, before, n, [0xff; 32]] {
        all.extend([[0; 32], one, before, n, [0xff; 32]].map(|s| [r, s].concat()));
        all.extend([[&r[..], s].concat(), [r.to_vec(), signature[..32].to_vec()].concat()]);
    }
    all.push([&[0][..], r, &[0], s].concat());
    all.push([r, &[0], s, &[0]].concat());
    all.push([&[1][..], r, &[0], s].concat());
    all.push([&[0; 256][..], r, &[0; 256], s].concat());
    all.push([s, r].concat());
    all.push(r.to_vec());
    for signature in all {
        let text = format!("{signed}.{}", secret::to_text(&signature));
        assert!(!verifies(&keys, &text), "{signature:x?}");
    }
    assert!(verifies(&keys, &text));
}
