//! Programs of others, in Python: they are asked by lines of JSON and answer by lines of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::within;

/// One that runs for as long as its test.
#[derive(Debug)]
pub struct Python {
    child: Child,
    commands: ChildStdin,
    answers_rx: mpsc::UnboundedReceiver<String>,
    script: &'static str,
}

impl Python {
    /// `script` stands in the folder `tests`.
    pub fn start(script: &'static str) -> Python {
        let mut child = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python().display()));
        let commands = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let (answers_tx, answers_rx) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // A test that is over wants no more.
                let _ = answers_tx.send(line);
            }
        });
        Python { child, commands, answers_rx, script }
    }

    pub async fn answer(&mut self) -> Value {
        let line = within(&format!("an answer of {}", self.script), self.answers_rx.recv()).await;
        let line = line.unwrap_or_else(|| panic!("{} has ended; above stands why", self.script));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    pub async fn ask(&mut self, command: Value) -> Value {
        writeln!(self.commands, "{command}").unwrap();
        self.answer().await
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `cargo xtask setup` has made.
fn python() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let python = target.join("tools/venv/bin/python");
    assert!(python.exists(), "there is no {}: run `cargo xtask setup` once", python.display());
    python
}
