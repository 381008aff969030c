//! Envoy takes everything that naru makes of documents: `envoy --mode validate`, and one that is driven by it.

use std::path::{Path, PathBuf};

use naru_plan::{Surroundings, plan};
use naru_sources::Texts;
use naru_tests::Envoy;
use naru_tests::control::{bootstrap, is_current};
use naru_tests::envoy::validate;
use naru_tests::files::Directory;
use naru_tests::{Control, until};

use super::free_port;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// Directories of documents, the seeds of others among them where `NARU_SEEDS` says where they are.
fn directories() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let seeds = std::env::var("NARU_SEEDS").ok();
    for folder in [Some(EXAMPLES.to_owned()), seeds].into_iter().flatten() {
        let entries = std::fs::read_dir(folder).unwrap();
        found.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()));
    }
    found.sort();
    found
}

#[test]
fn envoy_takes_what_documents_become() {
    let mut seen = 0;
    let mut wrong = String::new();
    for directory in directories() {
        let texts = Texts::read(std::slice::from_ref(&directory)).unwrap();
        let loaded = texts.load();
        if loaded.resources.services.is_empty() && loaded.resources.gateways.is_empty() {
            continue;
        }
        let planned = plan(&loaded.resources, &Surroundings::default());
        seen += 1;
        let text = naru_xds::to_json(&planned.config).to_string();
        if let Some(said) = validate(&text) {
            wrong.push_str(&format!("{}: {said}\n", directory.display()));
        }
    }
    assert!(seen >= 3, "where are the examples?");
    assert!(wrong.is_empty(), "{wrong}");
}

/// As a gateway and as a sidecar: nothing is refused, everything is accepted.
#[tokio::test]
async fn envoy_accepts_the_resources_of_an_example() {
    for (example, role) in [("bookinfo", "gateway"), ("bookinfo", "sidecar")] {
        let directory = Directory::new();
        let port = free_port();
        for entry in std::fs::read_dir(Path::new(EXAMPLES).join(example)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".yaml") && name != "scenario.yaml" {
                directory.write(name, &text.replace("number: 8080", &format!("number: {port}")));
            }
        }
        let control = Control::on(directory, naru_tests::up::free_address()).await;
        let own = ["--envoy", "--role", role, "--admin", "127.0.0.1:0", "--id", role];
        let outbound = format!("127.0.0.1:{port}");
        let there: &[&str] = match role {
            "gateway" => &["--gateway-address", "127.0.0.1"],
            _ => &["--outbound-address", &outbound],
        };
        let envoy = Envoy::start(&bootstrap(control.xds, &[&own[..], there].concat())).await;
        let told = is_current(control.admin, role).await;
        for kind in told["resources"].as_array().unwrap() {
            assert!(kind["refused"].is_null(), "{told}");
        }
        assert_eq!(envoy.address.port(), port);
        // The command that people use.
        let said = until("a status", async || {
            let output = std::process::Command::new(naru_tests::program::program())
                .args(["status", "--admin", &control.admin.to_string()])
                .output()
                .unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        })
        .await;
        assert!(said.contains(&format!("{role}: current ({role} default, envoy 1.40.")), "{said}");
        assert!(said.contains("  clusters "), "{said}");
    }
}
