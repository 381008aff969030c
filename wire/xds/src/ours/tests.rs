//! Is what is said heard as it was, and is what cannot be heard told with its place?

use naru_spec::{
    Action, ApiKeysChange, Credentials, DataSource, DirectResponse, GateChange, KeySource, Match, Rule,
    SessionAuth,
};
use serde_json::{Value as Json, json};

use super::*;

fn rule() -> Rule {
    let direct = DirectResponse { status: ::http::StatusCode::OK, body: vec![0xff] };
    Rule {
        name: "one".to_owned(),
        origin: "shop.yaml:7:3".to_owned(),
        matches: vec![Match::default()],
        action: Action::Direct(Box::new(direct)),
        request_headers: Default::default(),
        response_headers: Default::default(),
        gate: Vec::new(),
    }
}

fn any(json: &str) -> Any {
    let carrier = Carrier { json: json.to_owned() };
    Any { type_url: format!("{PACKAGE}Rule"), value: carrier.encode_to_vec() }
}

#[test]
fn a_rule_is_said_without_what_says_nothing_and_without_where_it_stands() {
    assert_eq!(
        rule().say(),
        json!({
            "name": "one",
            "matches": [{ "path": { "Prefix": { "it": "/" } } }],
            "action": { "Direct": { "it": { "status": 200, "body": "#ff" } } },
            "request_headers": {},
            "response_headers": {},
        })
    );
    assert_eq!(unpack::<Rule>(&pack(&rule())), Some(Ok(without_origin(&rule()))));
    assert_eq!(unpack::<Http>(&pack(&rule())), None);
}

#[test]
fn what_cannot_be_heard_is_told_with_its_place() {
    fn check(change: impl FnOnce(&mut Json), expected: &str) {
        let mut said = rule().say();
        change(&mut said);
        assert_eq!(unpack::<Rule>(&any(&said.to_string())), Some(Err(expected.to_owned())));
    }
    check(|said| said["nmae"] = json!("x"), "'nmae' is not known here");
    check(|said| said["name"] = json!(7), "name: text is expected");
    check(|said| said["matches"] = json!({}), "matches: a list is expected");
    check(
        |said| said["matches"][0]["path"] = json!("Sideways"),
        "matches[0].path: 'Sideways' is not known here",
    );
    let at = "matches[0].path.Prefix.it: text is expected";
    check(|said| said["matches"][0]["path"]["Prefix"] = json!({}), at);
    check(
        |said| said["action"]["Direct"]["it"]["status"] = json!(1),
        "action.Direct.it.status: a status is expected",
    );
    check(
        |said| said["action"]["Direct"]["it"]["body"] = json!("#f"),
        "action.Direct.it.body: bytes is expected",
    );
    check(
        |said| said["action"]["Direct"]["it"]["body"] = json!("#é"),
        "action.Direct.it.body: bytes is expected",
    );
    check(|said| *said = json!([]), "an object is expected");
    assert_eq!(unpack::<Rule>(&any("{")), Some(Err("it is no JSON at 1:1".to_owned())));
    // Deeper than anything that is said: an error, and no stack that ends.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(unpack::<Rule>(&any(&deep)), Some(Err(why)) if why.starts_with("it is no JSON")));
    let mut broken = any("{}");
    broken.value = vec![0xff; 3];
    assert_eq!(unpack::<Rule>(&broken), Some(Err("these are not the bytes of one".to_owned())));
    broken.value = vec![b' '; PART_BYTES_MAX + 1];
    assert!(matches!(unpack::<Rule>(&broken), Some(Err(why)) if why.contains("at most 8388608 are read")));
}

#[test]
fn secrets_go_over_and_are_never_told() {
    let key = KeySource::Key { client: "a".to_owned(), key: DataSource::Inline(b"hush".to_vec()) };
    assert_eq!(KeySource::hear(key.say()), Ok(key.clone()));
    let mut said = key.say();
    said["Key"]["key"]["Inline"]["it"] = json!(["hush"]);
    let wrong = KeySource::hear(said).unwrap_err().to_string();
    assert_eq!(wrong, "Key.key.Inline.it: text is expected");
    let rule = Rule {
        gate: vec![GateChange::Keys(
            "keys".to_owned(),
            Box::new(ApiKeysChange { keys: Some(Credentials::Keys(vec![key])), ..ApiKeysChange::default() }),
        )],
        ..rule()
    };
    assert!(may_hold_secrets(&pack(&rule).encode_to_vec()));
    assert!(!may_hold_secrets(&pack(&self::rule()).encode_to_vec()));
    let carrier = Carrier { json: "hush".to_owned() };
    assert_eq!(format!("{carrier:?}"), "Carrier(4 bytes)");
}

#[test]
fn nothing_is_another_thing_than_something_empty() {
    fn check<T: Said + PartialEq + std::fmt::Debug>(it: T) {
        assert_eq!(T::hear(it.say()).as_ref(), Ok(&it));
    }
    check(None::<Vec<String>>);
    check(Some(Vec::<String>::new()));
    check(Some(None::<bool>));
    check(Some(Some(false)));
    check((u64::MAX, i64::MIN));
    check(0.1 + 0.2);
    check(f64::MIN_POSITIVE);
    check(std::time::Duration::MAX);
    check(std::time::Duration::new(1, 1));
    check(vec![0_u8, 255]);
    check("=#나루\n".to_owned());
    let place = naru_spec::StorePlace::Directory("/var".to_owned());
    check(SessionAuth::new("a", place, naru_spec::Seal::Beside));
}

/// What the fuzzer begins with is worth something: it is heard.
#[test]
fn the_corpus_of_the_fuzzer_is_heard() {
    for text in [
        include_str!("../../../../fuzz/corpus/ours/http"),
        include_str!("../../../../fuzz/corpus/ours/rule"),
        include_str!("../../../../fuzz/corpus/ours/cluster"),
        include_str!("../../../../fuzz/corpus/ours/listener"),
    ] {
        let (part, json) = text.split_once('\n').unwrap();
        assert!(crate::fuzz_part(part, json).is_some(), "{part}");
    }
    let (part, json) =
        include_str!("../../../../fuzz/corpus/ours/http_without_a_window").split_once('\n').unwrap();
    assert!(crate::fuzz_part(part, json).is_none(), "what Envoy's rules refuse is refused in our words, too");
}
