//! Istio's own inputs: what `naru check` says of them, beside what Istio says.
//!
//! `tests/istio/istio.txt` has what Istio says. `expected.txt` has each difference: `=` is said by both, `-` by Istio only,
//! `+` by naru only (of the codes that the analyzer in question has), `!` is an error of naru's loader. Why something is
//! otherwise stands in `docs/check.md` and `docs/istio.md`. `NARU_BLESS=1` writes it anew; then read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use naru_tests::program::program;
use serde_json::Value;

fn place(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/istio")).join(name)
}

/// Codes with the document that each is said of, and the codes of errors.
fn said(files: &[PathBuf]) -> (BTreeSet<(String, String)>, BTreeMap<String, usize>) {
    let output =
        Command::new(program()).arg("check").args(files).args(["--output", "json"]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{files:?}: {}", String::from_utf8_lossy(&output.stderr)));
    let (mut codes, mut errors) = (BTreeSet::new(), BTreeMap::new());
    for told in found.as_array().unwrap() {
        let code = told["code"].as_str().unwrap().to_owned();
        if told["severity"] == "error" {
            *errors.entry(code.clone()).or_default() += 1;
        }
        let about = told["about"].as_str().unwrap_or("").to_owned();
        let also = told["also"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned());
        codes.extend(also.chain([code]).map(|code| (code, about.clone())));
    }
    (codes, errors)
}

fn of_analyzers() -> String {
    let text = std::fs::read_to_string(place("istio.txt")).unwrap();
    let mut out = String::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        let (file, codes) = line.split_once(": ").unwrap();
        let codes: Vec<&str> = codes.split(' ').collect();
        let mut expected = BTreeSet::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
            let (code, about) = line.trim().split_once(' ').unwrap();
            expected.insert((code.to_owned(), about.to_owned()));
        }
        let (mut found, errors) = said(&[place(&format!("analyzers/{file}.yaml"))]);
        found.retain(|(code, _)| codes.contains(&code.as_str()));
        out.push_str(&format!("{file}\n"));
        for one in expected.union(&found) {
            let mark = match (expected.contains(one), found.contains(one)) {
                (true, true) => '=',
                (true, false) => '-',
                _ => '+',
            };
            out.push_str(&format!("  {mark} {} {}\n", one.0, one.1));
        }
        out.push_str(&told(&errors));
    }
    out
}

fn told(errors: &BTreeMap<String, usize>) -> String {
    errors.iter().map(|(code, count)| format!("  ! {code} x{count}\n")).collect()
}

/// The samples, each beside the services of bookinfo, and, where it lacks subsets, beside these.
fn of_samples() -> String {
    let mut out = String::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(place("networking")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 22);
    let services = place("bookinfo.yaml");
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (_, errors) = said(&[services.clone(), file.clone()]);
        out.push_str(&format!("networking/{name}\n{}", told(&errors)));
        if errors.contains_key("unknown-subset") {
            let (_, errors) = said(&[services.clone(), place("networking/destination-rule-all.yaml"), file]);
            assert!(errors.is_empty(), "{name} with subsets: {errors:?}");
        }
    }
    out
}

#[test]
fn what_istio_says_of_its_inputs_is_said_or_the_difference_is_known() {
    let now = format!("{}{}", of_analyzers(), of_samples());
    let file = place("expected.txt");
    if std::env::var_os("NARU_BLESS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let differs: Vec<&str> =
        now.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
    assert_eq!(now, expected, "new: {differs:#?}");
}
