//! `naru import`: what it writes is what `naru check` accepts and `naru explain` understands.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use naru_tests::files::Directory;
use naru_tests::program::program;
use serde_json::Value;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/import/tests/data");

fn naru(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).current_dir(DATA).stdin(Stdio::null()).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Imports files into a directory, and has the result checked.
fn imported(files: &[&str]) -> (Directory, PathBuf) {
    let directory = Directory::new();
    let out = directory.path("out");
    let mut arguments = vec!["import", "--out", out.to_str().unwrap()];
    arguments.extend(files);
    let import = naru(&arguments);
    assert_eq!(import.status.code(), Some(0), "{}", said(&import.stderr));
    let check = naru(&["check", out.to_str().unwrap()]);
    assert_eq!(check.status.code(), Some(0), "{files:?}: {}", said(&check.stderr));
    (directory, out)
}

#[test]
fn what_is_imported_is_accepted() {
    for files in [
        &["nginx-lb.conf"][..],
        &["edge.conf"],
        &["shop.conf", "shop.yaml"],
        &["docker-compose-services.yaml"],
        &["docker-compose-postgres.yaml"],
        &["nginx-lb.conf", "docker-compose-services.yaml"],
        &["settings.yaml"],
        &["throttling.yaml"],
        &["caching-strategy.yaml"],
        &["nginx-lb.conf", "settings.yaml"],
    ] {
        imported(files);
    }
}

#[test]
fn requests_go_where_nginx_sends_them() {
    fn check(files: &[&str], requests: &[(&str, &str, &str)]) {
        let (_directory, out) = imported(files);
        for (url, source, expected) in requests {
            let config = out.to_str().unwrap();
            let explain =
                naru(&["explain", "GET", url, "--config", config, "--source", source, "--output", "json"]);
            let told: Value = serde_json::from_slice(&explain.stdout)
                .unwrap_or_else(|error| panic!("{error}: {}", said(&explain.stderr)));
            let verdict = &told["verdict"];
            let status = &verdict["redirect"]["status"];
            let status = if status.is_null() { &verdict["direct"]["status"] } else { status };
            let cluster = verdict["forward"]["clusters"][0]["cluster"].as_str();
            let found = cluster.map_or_else(|| status.to_string(), str::to_owned);
            assert!(found.contains(expected), "{url} from {source}: {found}, not {expected}");
        }
    }
    let anybody = "192.0.2.1";
    check(
        &["nginx-lb.conf"],
        &[
            ("http://naru.test/api/users/1", anybody, "user-service.upstream.internal"),
            ("http://naru.test/api/places", anybody, "place-service.upstream.internal"),
            ("http://naru.test/", anybody, "null"),
        ],
    );
    check(
        &["edge.conf"],
        &[
            ("http://example.com/any", anybody, "301"),
            ("https://example.com/", anybody, "app.upstream.internal"),
            ("https://www.example.com/api/x", anybody, "app.upstream.internal"),
            ("https://example.com/healthz", anybody, "200"),
            ("https://example.com/healthz/no", anybody, "app.upstream.internal"),
            ("https://example.com/api", anybody, "301"),
            // An expression comes before a prefix, and a final prefix before an expression.
            ("https://example.com/api/a.PNG", anybody, "sessions.upstream.internal"),
            ("https://example.com/assets/a.png", anybody, "404"),
            ("https://example.com/admin", "10.1.2.3", "admin-internal-8443.upstream.internal"),
            ("https://example.com/admin", anybody, "403"),
        ],
    );
    check(
        &["shop.conf", "shop.yaml"],
        &[
            ("http://shop.local/cart/1", anybody, "cart.default.svc.cluster.local"),
            ("http://shop.local/", anybody, "web.default.svc.cluster.local"),
        ],
    );
}

#[test]
fn files_that_are_there_are_replaced_by_force_only() {
    let (_directory, out) = imported(&["nginx-lb.conf"]);
    let gateway = out.join("gateway-nginx-lb.yaml");
    std::fs::write(&gateway, "mine").unwrap();
    let arguments = ["import", "nginx-lb.conf", "--out", out.to_str().unwrap()];
    let refused = naru(&arguments);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused.stderr).contains("is there already"), "{}", said(&refused.stderr));
    assert_eq!(std::fs::read_to_string(&gateway).unwrap(), "mine");
    let forced = naru(&[&arguments[..], &["--force"]].concat());
    assert_eq!(forced.status.code(), Some(0), "{}", said(&forced.stderr));
    assert!(std::fs::read_to_string(&gateway).unwrap().contains("kind: Gateway"));
}

#[test]
fn an_import_says_by_its_exit_code_whether_anything_came_of_it() {
    let directory = Directory::new();
    let empty = directory.write("empty.conf", "events {}\n");
    let nothing = naru(&["import", empty.to_str().unwrap()]);
    assert_eq!(nothing.status.code(), Some(1));
    assert_eq!(said(&nothing.stdout), "");
    assert!(said(&nothing.stderr).contains("nothing could be carried over"), "{}", said(&nothing.stderr));
    assert_eq!(naru(&["import"]).status.code(), Some(2));
    assert_eq!(naru(&["import", "--force", "nginx-lb.conf"]).status.code(), Some(2));
    assert_eq!(naru(&["import", "no-such-file.conf"]).status.code(), Some(1));
    let json = naru(&["import", "nginx-lb.conf", "--output", "json"]);
    assert_eq!(json.status.code(), Some(0));
    assert_eq!(said(&json.stderr), "");
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["documents"][0]["kind"], "ServiceEntry");
    assert_eq!(told["notes"][0]["file"], "nginx-lb.conf");
}
