//! Documents of which most are as they were.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use naru_doc::Loaded;
use naru_sources::{Loader, Texts};

fn service(name: &str, lines_before: usize) -> String {
    let before = "\n".repeat(lines_before);
    format!(
        "{before}apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

fn texts(files: &[(&str, String)]) -> Texts {
    Texts { files: files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect() }
}

/// Names and places, without the numbers of files.
fn told(loaded: &Loaded) -> Vec<String> {
    let services = loaded.resources.services.iter();
    let services = services.map(|service| {
        format!("{} {}", service.meta.name.value, loaded.resources.files.locate(service.place))
    });
    services.chain(loaded.problems.iter().map(ToString::to_string)).collect()
}

#[test]
fn what_is_loaded_again_is_what_is_loaded_anew_and_only_what_is_another_is_read() {
    let mut loader = Loader::default();
    let mut check = |files: &[(&str, String)], expected: u64| {
        let texts = texts(files);
        let before = loader.read();
        assert_eq!(told(&loader.load(&texts)), told(&texts.load()));
        assert_eq!(loader.read() - before, expected, "{files:?}");
    };
    let (a, b, c) = (service("a", 0), service("b", 0), service("c", 0));
    check(&[("a.yaml", a.clone()), ("b.yaml", b.clone())], 2);
    check(&[("a.yaml", a.clone()), ("b.yaml", b.clone())], 0);
    // Moved, wrong, right again.
    check(&[("a.yaml", service("a", 3)), ("b.yaml", b.clone())], 1);
    check(&[("a.yaml", "kind: [".to_owned()), ("b.yaml", b.clone())], 1);
    check(&[("a.yaml", a.clone()), ("b.yaml", b.clone())], 1);
    // One between two, one in the place of another.
    check(&[("a.yaml", a.clone()), ("ab.yaml", c.clone()), ("b.yaml", b.clone())], 1);
    check(&[("ab.yaml", c.clone()), ("b.yaml", b.clone())], 0);
    check(&[("aa.yaml", a.clone()), ("ab.yaml", c.clone()), ("b.yaml", b.clone())], 1);
    check(&[("aa.yaml", c), ("b.yaml", a), ("c.yaml", b)], 3);
    check(&[], 0);
}
