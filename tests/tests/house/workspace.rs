//! Where the files of the project are, and what cargo knows of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the tests are a folder of the project").to_owned()
}

/// All files below `folder` whose names end in one of `extensions`, as paths from the root, in order.
pub fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join(folder), extensions, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is_ours = !name.starts_with('.') && name != "target" && name != "artifacts" && name != "corpus";
        if path.is_dir() {
            if is_ours {
                collect(&path, extensions, found);
            }
        } else if path.extension().and_then(OsStr::to_str).is_some_and(|e| extensions.contains(&e)) {
            let from_root = path.strip_prefix(root()).expect("below the root");
            found.push(from_root.to_str().expect("our names are text").to_owned());
        }
    }
}

/// The text of a file, by its path from the root.
pub fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `cargo` answers, run at the root.
pub fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    // What is built on this machine is here already, so nothing needs to be fetched.
    let output = command.args(arguments).args(["--locked", "--offline"]).current_dir(root()).output();
    let output = output.expect("cargo can be run");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo answers in UTF-8")
}

/// The triple of this machine: what other platforms would need may never have been fetched.
pub fn host() -> String {
    let output = Command::new("rustc").arg("-vV").current_dir(root()).output().expect("rustc can be run");
    let said = String::from_utf8(output.stdout).expect("rustc answers in UTF-8");
    said.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

/// Fails with every complaint at once.
pub fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
