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
    ("stock", &["GET", "http://stock.internal/", "--from", "shop"]),
    ("stock-grpc", &["GET", "http://stock.internal:9000/", "--from", "shop"]),
];

fn documents() -> Directory {
    let directory = Directory::new();
    for name in ["orders.yaml", "stock.yaml"] {
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
