//! Every file of every corpus, through its body.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use naru_fuzz::BODIES;

/// A corpus is read by people: files are few and small.
const FILES_MAX: usize = 100;
const BYTES_MAX: u64 = 4 * 1024;

fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the bodies are a folder of fuzz").to_owned()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn replay(target: &str) {
    let (_, body) = BODIES.iter().find(|(name, _)| *name == target).expect(target);
    let corpus = folder().join("corpus").join(target);
    let names = names_in(&corpus);
    assert!(!names.is_empty(), "{} is empty", corpus.display());
    assert!(names.len() <= FILES_MAX, "{}: {} files", corpus.display(), names.len());
    let mut failed = Vec::new();
    for name in names {
        let bytes = fs::read(corpus.join(&name)).unwrap();
        assert!(bytes.len() as u64 <= BYTES_MAX, "fuzz/corpus/{target}/{name} is large");
        println!("fuzz/corpus/{target}/{name}");
        // All of them are told, not only the first.
        if std::panic::catch_unwind(|| body(&bytes)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "in fuzz/corpus/{target}: {failed:#?}");
}

/// What breaks a body, and is not yet repaired, waits in `fuzz/open` for that.
#[test]
fn what_was_repaired_is_in_the_corpus() {
    let open = folder().join("open");
    let targets = if open.exists() { names_in(&open) } else { BTreeSet::new() };
    for target in targets {
        let (_, body) = BODIES.iter().find(|(name, _)| *name == target).expect(&target);
        for name in names_in(&open.join(&target)) {
            let bytes = fs::read(open.join(&target).join(&name)).unwrap();
            let is_open = std::panic::catch_unwind(|| body(&bytes)).is_err();
            assert!(
                is_open,
                "fuzz/open/{target}/{name} breaks nothing any more: move it to fuzz/corpus/{target}"
            );
        }
    }
}

/// A test for each target, so that they run beside each other.
macro_rules! replays {
    ($($target:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
        $(
            mod $target {
                #[test]
                fn nothing_in_its_corpus_breaks_it() {
                    super::replay(stringify!($target));
                }
            }
        )*
    };
}

replays! { asked authz bootstrap certificate compared compose condition discovery documents downstream edge etcd format grpc_web hello hpack http1 http2 http3 inflated journey kept known leased login measured nginx ours packed path probed proxied qpack regex revoked route scenario sought takeover token told tunnel upstream }

#[test]
fn every_body_has_a_target_a_corpus_and_a_replay() {
    let bodies: BTreeSet<String> = BODIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(bodies, REPLAYED.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(bodies, names_in(&folder().join("corpus")));
    let targets = names_in(&folder().join("fuzz_targets"));
    assert_eq!(bodies, targets.iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect());
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in bodies {
        let target = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("naru_fuzz::{name}(")), "{name}.rs calls another body");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not built");
    }
}
