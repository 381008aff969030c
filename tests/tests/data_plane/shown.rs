//! Every policy that acts on a request is told by `naru explain`, for people and for programs. `NARU_BLESS=1` writes what
//! is told.

use std::fs;
use std::path::Path;

use naru_tests::files::Directory;
use serde_json::Value;

use crate::documents::naru;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data_plane/shown");

/// What is asked, and where the answer stands.
const ASKED: &[(&str, &[&str])] = &[
    ("orders-write", &["POST", "http://orders/"]),
    ("orders-read", &["GET", "http://orders/", "-H", "x-naru-deadline-ms: 250"]),
    ("orders-redirect", &["GET", "http://orders/old"]),
    ("web", &["GET", "http://web.example/pages/1"]),
    ("stock", &["GET", "http://stock.internal/", "--from", "shop"]),
    ("stock-grpc", &["GET", "http://stock.internal:9000/", "--from", "shop"]),
];

fn documents() -> Directory {
    let directory = Directory::new();
    for name in ["orders.yaml", "stock.yaml", "web.yaml"] {
        directory.write(name, &fs::read_to_string(Path::new(ROOT).join(name)).unwrap());
    }
    directory
}

fn explained(directory: &Directory, arguments: &[&str], output: &str) -> String {
    let said = naru(directory, &[&["explain"], arguments, &["--config", ".", "--output", output]].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.out
}

fn check(name: &str, said: &str) {
    let golden = Path::new(ROOT).join(name);
    if std::env::var_os("NARU_BLESS").is_some() {
        fs::write(&golden, said).unwrap();
    }
    let known = fs::read_to_string(&golden).unwrap_or_default();
    assert!(known == said, "{name} says otherwise; NARU_BLESS=1 writes\n{said}");
}

#[test]
fn explain_tells_every_policy_that_acts_in_words_and_as_data() {
    let directory = documents();
    for (name, arguments) in ASKED {
        check(&format!("{name}.txt"), &explained(&directory, arguments, "text"));
        let json: Value = serde_json::from_str(&explained(&directory, arguments, "json")).unwrap();
        let verdict = serde_json::to_string_pretty(&json["verdict"]).unwrap();
        check(&format!("{name}.json"), &format!("{verdict}\n"));
    }
}

#[test]
fn a_policy_that_does_nothing_is_not_told() {
    let directory = documents();
    let orders = fs::read_to_string(Path::new(ROOT).join("orders.yaml")).unwrap();
    let quiet = orders
        .replace(
            "abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0.0001}}",
            "abort: {httpStatus: 503, percentage: {value: 0}}",
        )
        .replace("percentage: {value: 10}", "percentage: {value: 0}")
        .replace("retries: {attempts: 2, perTryTimeout: 500ms, retryOn: \"5xx\"}", "retries: {attempts: 0}")
        .replace("  hedge: {onPerTryTimeout: true}\n", "");
    assert_ne!(orders, quiet);
    directory.write("orders.yaml", &quiet);
    let said = explained(&directory, &["POST", "http://orders/"], "text");
    for word in ["answers", "copied", "retry", "sent again", "retries", "one try"] {
        let is_told = said.lines().any(|line| line.starts_with("   ") && line.contains(word));
        assert!(!is_told || word == "retry" && said.contains("no retry"), "{word}:\n{said}");
    }
    assert!(said.contains("at most 1 call, no retry") && said.contains("a fault delays 50%"), "{said}");
}

/// The documents of a scenario whose requests say who asks.
fn of_identity() -> Directory {
    let directory = Directory::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/scenarios/identity");
    let text = fs::read_to_string(folder.join("documents.yaml")).unwrap();
    let users = directory.write("users.htpasswd", "kim:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n");
    directory.write("documents.yaml", &text.replace("/etc/naru/users", &users.display().to_string()));
    directory
}

/// What the checks say, each as `check status`, and where the request goes.
fn at_the_gate(directory: &Directory, arguments: &[&str]) -> (Vec<String>, String) {
    let mut all = vec!["explain"];
    all.extend(arguments);
    all.extend(["--config", "documents.yaml", "--output", "json"]);
    let said = naru(directory, &all);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    let steps = json["gate"].as_array().unwrap().iter().map(|step| {
        let status = step["status"].as_u64().map_or(String::new(), |status| format!(" {status}"));
        let reason = step["reason"].as_str().map_or(String::new(), |reason| format!(" {reason}"));
        format!("{} {}{status}{reason}", step["check"].as_str().unwrap(), step["says"].as_str().unwrap())
    });
    (steps.collect(), json["verdict"]["rule"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn explain_says_what_each_check_would_say_to_whom_it_is_told() {
    let directory = of_identity();
    let url = "http://shop.example:8080/";
    let said = |arguments: &[&str]| at_the_gate(&directory, arguments);
    let last = |arguments: &[&str]| said(arguments).0.last().cloned().unwrap_or_default();
    // Nobody in particular has no business here, but for what is public.
    assert_eq!(last(&["GET", url]), "policies answers 403 PolicyDenied");
    let public = "http://shop.example:8080/public";
    assert!(
        said(&["GET", public]).0.iter().all(|step| step.ends_with(" passes")),
        "{:?}",
        said(&["GET", public])
    );
    let known = ["--as", "sub=alice", "--as", "aud=shop"];
    let (steps, rule) = said(&[&["GET", url], &known[..]].concat());
    assert!(steps.iter().all(|step| step.ends_with(" passes")), "{steps:?}");
    assert!(steps.contains(&"rateLimit passes".to_owned()), "{steps:?}");
    assert!(rule.ends_with("all"), "{rule}");
    // By what she claims another rule takes it.
    let (_, rule) = said(&[&["GET", url, "--as", "group=staff"], &known[..]].concat());
    assert!(rule.ends_with("staff"), "{rule}");
    assert_eq!(last(&[&["DELETE", url], &known[..]].concat()), "policies answers 403 PolicyDenied");
    for worth in ["expired", "early", "forged", "garbled", "keys_away"] {
        let asked = [&["GET", public, "--token", worth], &known[..]].concat();
        assert_eq!(last(&asked), "tokens answers 401 TokenDenied", "{worth}");
    }
    assert_eq!(last(&["GET", url, "--as", "aud=bank"]), "tokens answers 403 TokenDenied");
    let feed = "http://shop.example:8080/feed";
    assert_eq!(last(&["GET", feed]), "apiKeys answers 401 KeyDenied");
    assert_eq!(last(&["GET", feed, "--key", "toaster"]), "apiKeys answers 401 KeyDenied");
    assert!(said(&["GET", feed, "--key", "printer"]).0.contains(&"apiKeys passes".to_owned()));
    // What really stands there is not looked at.
    assert_eq!(last(&["GET", feed, "-H", "x-api-key: foo"]), "credentials unknown");
    assert_eq!(last(&["GET", url, "-H", "authorization: Bearer a.b.c"]), "tokens unknown");
    let admin = "http://shop.example:8080/admin";
    assert_eq!(last(&["GET", admin]), "basicAuth answers 401 PasswordDenied");
    assert!(said(&["GET", admin, "--user", "kim"]).0.contains(&"basicAuth passes".to_owned()));
    // And in words.
    let text = naru(&directory, &["explain", "GET", url, "--token", "expired", "--config", "documents.yaml"]);
    let told =
        "tokens                 answered 401 (TokenDenied, flag -): jwt_authn_access_denied{Jwt_is_expired}";
    assert!(text.out.contains(told), "{}", text.out);
    assert!(text.out.contains("-> answered 401 (TokenDenied"), "{}", text.out);
    let wrong = naru(&directory, &["explain", "GET", url, "--as", "alice", "--config", "documents.yaml"]);
    assert!(wrong.err.contains("'alice' is no claim: write --as sub=alice"), "{}", wrong.err);
}
