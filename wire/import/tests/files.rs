//! Whole files, held against what was made of them. `BLESS=1` writes what is made now.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use naru_doc::tree;
use naru_import::{Imported, import};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn imported(names: &[&str]) -> Imported {
    let read = |name: &&str| ((*name).to_owned(), fs::read_to_string(data().join(name)).unwrap());
    import(&names.iter().map(read).collect::<Vec<_>>())
}

/// Documents as they are printed, then the notes.
fn golden(names: &[&str], expected: &str) {
    let imported = imported(names);
    let documents: Vec<String> = imported.documents.iter().map(|document| document.with_origin()).collect();
    let yaml = documents.join("---\n");
    let notes: String = imported.notes.iter().map(|note| format!("{note}\n")).collect();
    for (ending, found) in [("yaml", yaml), ("notes", notes)] {
        let path = data().join(format!("{expected}.{ending}"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == found, "{} says otherwise:\n{found}", path.display());
    }
}

#[test]
fn an_nginx_load_balancer_is_two_services_and_a_gateway() {
    golden(&["nginx-lb.conf"], "expected/nginx-lb");
}

#[test]
fn a_compose_file_is_deployments_and_notes() {
    golden(&["docker-compose-services.yaml"], "expected/docker-compose-services");
}

#[test]
fn databases_of_a_compose_file_have_their_usual_port() {
    golden(&["docker-compose-postgres.yaml"], "expected/docker-compose-postgres");
}

#[test]
fn an_edge_of_real_life_is_carried_over_as_far_as_it_goes() {
    golden(&["edge.conf"], "expected/edge");
}

#[test]
fn what_nginx_calls_by_a_name_of_compose_is_that_service() {
    golden(&["shop.conf", "shop.yaml"], "expected/shop");
}

#[test]
fn small_pieces_of_settings_are_told_by_their_keys() {
    golden(&["settings.yaml"], "expected/settings");
}

#[test]
fn throttling_is_of_the_services_that_the_other_files_have() {
    golden(&["throttling.yaml", "nginx-lb.conf"], "expected/throttling");
}

#[test]
fn classes_of_caches_are_those_of_one_document() {
    golden(&["caching-strategy.yaml"], "expected/caching-strategy");
}

#[test]
fn limits_of_callers_are_for_all_gateways() {
    golden(&["rate-limiting.yaml"], "expected/rate-limiting");
}

#[test]
fn every_document_is_yaml_that_can_be_read_back() {
    let mut count = 0;
    for file in fs::read_dir(data()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name == "expected" {
            continue;
        }
        for document in imported(&[&name]).documents {
            let node =
                tree::parse(&document.yaml).unwrap_or_else(|error| panic!("{error:?}\n{}", document.yaml));
            assert!(matches!(node.kind, tree::Kind::Map(_)), "{}", document.yaml);
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_name_of_an_upstream_is_not_that_of_a_service() {
    let nginx = "upstream api { server 127.0.0.1:9001; server web:9002; }
server { listen 80; location / { proxy_pass http://api/; } location /w { proxy_pass http://web/; } }";
    let compose = "services:\n  api: { image: a, expose: ['8000'] }\n  web: { image: w, expose: ['8001'] }\n";
    let files =
        [("nginx.conf".to_owned(), nginx.to_owned()), ("compose.yaml".to_owned(), compose.to_owned())];
    let notes: Vec<String> = import(&files).notes.iter().map(ToString::to_string).collect();
    let added: Vec<&String> = notes.iter().filter(|note| note.contains("is added: nginx calls it")).collect();
    assert!(added.iter().all(|note| note.contains("web")), "{added:?}");
    assert_eq!(added.len(), 2, "{added:?}");
}
